//! Unix datagrams: as UDP, but none gets lost.
//!
//! Knows that a full receiver blocks its senders; `../datagram.rs` is the loop's side of a
//! socket.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Type};

use super::address::{Address, ToAddress};
use super::file::{self, SocketFile};
use crate::net::datagram::{self, Carrier};
use crate::net::listen::{self, Family};
use crate::reactor::{Context, SourceId};

/// A Unix datagram socket. Its file is removed with it, if it is still its own.
pub type Socket = datagram::Socket<UnixCarrier>;
/// An event of a Unix datagram socket.
pub type Event<'a> = datagram::Event<'a, Address>;

/// Binds a socket to `addr`, a path or on Linux `@name`, and calls `handler` for all it receives.
/// A socket file that was left behind is replaced.
///
/// ```
/// use waterwheel::{Reactor, net::unix::datagram};
///
/// let path = std::env::temp_dir().join(format!("log-{}.sock", std::process::id()));
/// let mut reactor = Reactor::new()?;
/// datagram::bind(&mut reactor, &path, |reactor, lines: &mut Vec<Vec<u8>>, socket, event| {
///     if let datagram::Event::Received { bytes, .. } = event {
///         lines.push(bytes.to_vec());
///         reactor.remove(socket);
///     }
/// })?;
/// std::os::unix::net::UnixDatagram::unbound()?.send_to(b"hello", &path)?;
/// let mut lines = Vec::new();
/// reactor.run(&mut lines)?;
/// assert_eq!(lines, [b"hello"]);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`unix::listen`](super::listen).
#[track_caller]
pub fn bind<S, F>(
    reactor: &mut Context<S>,
    addr: impl ToAddress,
    handler: F,
) -> io::Result<SourceId<Socket>>
where
    S: 'static,
    F: FnMut(&mut Context<S>, &mut S, SourceId<Socket>, Event<'_>) + 'static,
{
    Bind::new().open(reactor, addr, handler)
}

/// Connects a socket without a name to `peer`: it sends there with [`send`](Socket::send). The peer
/// cannot answer it; to get answers, bind a socket with [`Bind::peer`].
///
/// # Errors
/// No socket is there, or the file's permissions forbid it. The error names the path.
#[track_caller]
pub fn connect<S, F>(
    reactor: &mut Context<S>,
    peer: impl ToAddress,
    handler: F,
) -> io::Result<SourceId<Socket>>
where
    S: 'static,
    F: FnMut(&mut Context<S>, &mut S, SourceId<Socket>, Event<'_>) + 'static,
{
    let bind = Bind::new().peer(peer.to_address()?);
    let carrier = bind.carrier(None)?;
    bind.serve(reactor, carrier, handler)
}

/// Sets up a Unix datagram socket.
pub type Bind = datagram::Bind<Options>;

/// The options of [`Bind`] for Unix sockets only.
#[derive(Clone, Debug, Default)]
pub struct Options {
    peer: Option<Address>,
    mode: Option<u32>,
}

impl Bind {
    /// Connects the socket: it receives from and sends to this address only, and the kernel reports
    /// when a full receiver has room again; one that is not connected tries again by the clock.
    pub fn peer(mut self, peer: Address) -> Bind {
        self.kind.peer = Some(peer);
        self
    }

    /// The permissions of the file: a sender needs the permission to write (`0o600`: only its
    /// owner). The file never has more. By default those that the umask leaves; an abstract name
    /// has no permissions, and is refused with them.
    pub fn mode(mut self, mode: u32) -> Bind {
        self.kind.mode = Some(mode);
        self
    }

    /// Binds the socket; see [`bind`].
    ///
    /// # Errors
    /// As [`bind`].
    #[track_caller]
    pub fn open<S, F>(
        self,
        reactor: &mut Context<S>,
        addr: impl ToAddress,
        handler: F,
    ) -> io::Result<SourceId<Socket>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<Socket>, Event<'_>) + 'static,
    {
        let addr = addr.to_address()?;
        let carrier = self.carrier(Some(addr.clone()))?;
        self.serve(reactor, carrier, handler).map_err(|error| addr.error(&error))
    }

    /// Takes over a socket that another program has bound, and maybe connected; see
    /// [`tcp::Listen::adopt`](crate::net::tcp::Listen::adopt). Its file is left alone: it belongs
    /// to that program.
    ///
    /// # Errors
    /// It is not a Unix datagram socket, or [`peer`](Bind::peer) or [`mode`](Bind::mode) is asked
    /// for, which comes too late. The socket is closed.
    #[track_caller]
    pub fn adopt<S, F>(
        self,
        reactor: &mut Context<S>,
        socket: UnixDatagram,
        handler: F,
    ) -> io::Result<SourceId<Socket>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<Socket>, Event<'_>) + 'static,
    {
        if self.kind.peer.is_some() || self.kind.mode.is_some() {
            return Err(listen::too_late("an option of this kind of socket"));
        }
        let options = SockRef::from(&socket);
        listen::adopt(&options, Family::Unix, Type::DGRAM)?;
        self.set_buffers(&options)?;
        let addr = Some(Address(socket.local_addr()?)).filter(|addr| !addr.is_unnamed());
        let is_connected = socket.peer_addr().is_ok();
        self.serve(reactor, UnixCarrier { file: None, socket, addr, is_connected }, handler)
    }

    fn carrier(&self, addr: Option<Address>) -> io::Result<UnixCarrier> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::DGRAM, None).map_err(|error| {
            let named = addr.as_ref().or(self.kind.peer.as_ref());
            named.map_or_else(|| io::Error::from(error.kind()), |addr| addr.error(&error))
        })?;
        socket.set_nonblocking(true)?;
        self.set_buffers(&SockRef::from(&socket))?;
        let file = match &addr {
            Some(addr) => file::bind(&socket, addr, self.kind.mode, |_| Ok(()))?,
            None => None,
        };
        if let Some(peer) = &self.kind.peer {
            socket.connect(&peer.to_sock_addr()?).map_err(|error| peer.error(&error))?;
        }
        let socket = UnixDatagram::from(OwnedFd::from(socket));
        Ok(UnixCarrier { file, socket, addr, is_connected: self.kind.peer.is_some() })
    }
}

/// The carrier of Unix datagrams. The file is removed while the socket still holds the inode.
#[derive(Debug)]
pub struct UnixCarrier {
    file: Option<SocketFile>,
    socket: UnixDatagram,
    addr: Option<Address>,
    is_connected: bool,
}

impl Socket {
    /// The address it is bound to, if it is.
    pub fn local_addr(&self) -> Option<&Address> {
        self.carrier.addr.as_ref()
    }

    /// Returns true if others still find it; false once its file was removed or replaced.
    pub fn is_reachable(&self) -> bool {
        self.carrier.file.as_ref().is_none_or(SocketFile::is_ours)
    }
}

impl Carrier for UnixCarrier {
    type Address = Address;

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
        self.socket.recv_from(buffer).map(|(count, from)| (count, Address(from)))
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send(bytes)
    }

    fn send_to(&self, bytes: &[u8], to: &Address) -> io::Result<usize> {
        self.socket.send_to_addr(bytes, &to.0).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => error,
            _ => to.error(&error),
        })
    }

    /// Returns true if it is connected: only then is it woken when a full receiver has room.
    fn reports_room(&self) -> bool {
        self.is_connected
    }
}

impl Source for UnixCarrier {
    fn register(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).register(r, token, interest)
    }

    fn reregister(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).reregister(r, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).deregister(registry)
    }
}

impl AsFd for UnixCarrier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
