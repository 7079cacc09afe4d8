//! Listening on a socket file or an abstract name.
//!
//! Knows the options of a Unix listener; `../accept.rs` does the accepting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;

use mio::net::{UnixListener, UnixStream};
use socket2::{Domain, SockRef, Socket, Type};

use super::address::{Address, ToAddress};
use super::file::{self, SocketFile};
use crate::net::accept::{self, Accept, Acceptor};
use crate::net::group::Group;
use crate::net::listen::{self, Family};
use crate::net::stream::Stream;
use crate::net::transport::registers_by;
use crate::reactor::{Context, SourceId};

/// A listening Unix socket. Its file is removed with it, if it is still its own.
pub type Listener = accept::Listener<UnixAcceptor>;

/// Listens on `addr`, a path or on Linux `@name`, and calls `on_accept` with every stream that is
/// accepted. A socket file that was left behind is replaced.
///
/// ```
/// use waterwheel::{Reactor, net::{Event, unix}};
///
/// let path = std::env::temp_dir().join(format!("echo-{}.sock", std::process::id()));
/// let mut reactor = Reactor::<()>::new()?;
/// unix::listen(&mut reactor, &path, |reactor, _, incoming| {
///     incoming.open(reactor, |reactor, _, conn, event| {
///         if let Event::Data(bytes) = event {
///             let _ = conn.write(reactor, bytes);
///         }
///     });
/// })?;
/// // reactor.run(&mut ())?;
/// drop(reactor);
/// assert!(!path.exists(), "the file goes with its listener");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `AddrInUse` if there is a listener already, `AlreadyExists` if the path is not a socket's (it is
/// left alone), `InvalidInput` if it is too long; errors about the folder. All name the path.
#[track_caller]
pub fn listen<S, F>(
    reactor: &mut Context<S>,
    addr: impl ToAddress,
    on_accept: F,
) -> io::Result<SourceId<Listener>>
where
    S: 'static,
    F: FnMut(&mut Context<S>, &mut S, Stream) + 'static,
{
    Listen::new().open(reactor, addr, on_accept)
}

/// Sets up a Unix listener.
///
/// ```no_run
/// use waterwheel::{Reactor, net::unix};
///
/// let mut reactor = Reactor::<()>::new()?;
/// unix::Listen::new()
///     .mode(0o600)
///     .connections_max(100)
///     .open(&mut reactor, "/run/user/1000/control.sock", |_, _, incoming| drop(incoming))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub type Listen = crate::net::listen::Listen<Options>;

/// The options of [`Listen`] for Unix sockets only.
#[derive(Clone, Debug, Default)]
pub struct Options {
    mode: Option<u32>,
}

impl Listen {
    /// The permissions of the file: a client needs the permission to write (`0o600`: only its
    /// owner). Set before it listens, so no client connects before. By default those that the umask
    /// leaves. An abstract name has no permissions, and is refused with them.
    pub fn mode(mut self, mode: u32) -> Listen {
        self.kind.mode = Some(mode);
        self
    }

    /// Listens on `addr`; see [`listen`].
    ///
    /// # Errors
    /// As [`listen`].
    #[track_caller]
    pub fn open<S, F>(
        self,
        reactor: &mut Context<S>,
        addr: impl ToAddress,
        mut on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Stream) + 'static,
    {
        self.open_with(reactor, addr, move |reactor, state, accepted| {
            if let Accept::Stream(stream) = accepted {
                on_accept(reactor, state, stream);
            }
        })
    }

    /// [`open`](Listen::open) for a callback that also gets the listener's errors.
    ///
    /// # Errors
    /// As [`listen`].
    #[track_caller]
    pub fn open_with<S, F>(
        self,
        reactor: &mut Context<S>,
        addr: impl ToAddress,
        on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Accept) + 'static,
    {
        let acceptor = self.bind(addr.to_address()?)?;
        let addr = acceptor.addr.clone();
        let served = accept::serve(reactor, acceptor, &self, on_accept);
        served.map_err(|error| addr.error(&error))
    }

    /// Listens by a socket that another program has bound and that listens already; see
    /// [`tcp::Listen::adopt`](crate::net::tcp::Listen::adopt). Its file is left alone: it belongs
    /// to that program.
    ///
    /// # Errors
    /// It is not a Unix stream socket that listens, or [`mode`](Listen::mode) is asked for, which
    /// comes too late. The socket is closed.
    #[track_caller]
    pub fn adopt<S, F>(
        self,
        reactor: &mut Context<S>,
        listener: StdListener,
        mut on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Stream) + 'static,
    {
        self.adopt_with(reactor, listener, move |reactor, state, accepted| {
            if let Accept::Stream(stream) = accepted {
                on_accept(reactor, state, stream);
            }
        })
    }

    /// [`adopt`](Listen::adopt) for a callback that also gets the listener's errors.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn adopt_with<S, F>(
        self,
        reactor: &mut Context<S>,
        listener: StdListener,
        on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Accept) + 'static,
    {
        if self.kind.mode.is_some() {
            return Err(listen::too_late("mode"));
        }
        listen::adopt(&SockRef::from(&listener), Family::Unix, Type::STREAM)?;
        let addr = Address(listener.local_addr()?);
        let socket = UnixListener::from_std(listener);
        accept::serve(reactor, UnixAcceptor { file: None, socket, addr }, &self, on_accept)
    }

    fn bind(&self, addr: Address) -> io::Result<UnixAcceptor> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None);
        let socket = socket.map_err(|error| addr.error(&error))?;
        socket.set_nonblocking(true)?;
        let listen = |socket: &Socket| socket.listen(self.backlog);
        let file = file::bind(&socket, &addr, self.kind.mode, listen)?;
        let socket = UnixListener::from(OwnedFd::from(socket));
        Ok(UnixAcceptor { file, socket, addr })
    }
}

/// The acceptor of a Unix listener. Its fields are dropped in this order: the file is removed
/// while the socket still holds the inode.
#[derive(Debug)]
pub struct UnixAcceptor {
    file: Option<SocketFile>,
    socket: UnixListener,
    addr: Address,
}

impl Listener {
    /// The address it listens on.
    pub fn local_addr(&self) -> &Address {
        &self.acceptor.addr
    }

    /// Returns true if clients still find it; false once its file was removed or replaced. It then
    /// serves only the clients that are connected already.
    pub fn is_reachable(&self) -> bool {
        self.acceptor.file.as_ref().is_none_or(SocketFile::is_ours)
    }
}

impl Acceptor for UnixAcceptor {
    type Socket = UnixStream;

    fn accept(&mut self) -> io::Result<UnixStream> {
        self.socket.accept().map(|(stream, _)| stream)
    }

    fn stream(&self, stream: UnixStream, group: Group) -> Stream {
        Stream::carried(Box::new(stream), group)
    }
}

registers_by!(UnixAcceptor, socket);

impl AsFd for UnixAcceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
