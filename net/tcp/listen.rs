//! Listening: the address, and the options of the sockets.
//!
//! Knows addresses and socket options; `../accept.rs` does the accepting.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::net::accept::{self, Accept, Acceptor};
use crate::net::address::{ToAddresses, named};
use crate::net::group::Group;
use crate::net::listen::{self, Family, bind_first};
use crate::net::stream::Stream;
use crate::net::transport::registers_by;
use crate::reactor::{Context, SourceId};

/// A listening TCP socket.
pub type Listener = accept::Listener<TcpAcceptor>;

/// Listens on `addr` and calls `on_accept` with every stream that is accepted.
///
/// ```no_run
/// use waterwheel::{Reactor, net::{Event, tcp}};
///
/// let mut reactor = Reactor::new()?;
/// tcp::listen(&mut reactor, "127.0.0.1:7001", |reactor, _, incoming| {
///     incoming.open(reactor, |reactor, _, conn, event| {
///         if let Event::Data(bytes) = event {
///             let _ = conn.write(reactor, bytes);
///         }
///     });
/// })?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The address is taken, not ours, or no address; the error names it. A host name is looked up,
/// which blocks, and the first of its addresses that can be bound is used.
#[track_caller]
pub fn listen<S, F>(
    reactor: &mut Context<S>,
    addr: impl ToAddresses,
    on_accept: F,
) -> io::Result<SourceId<Listener>>
where
    S: 'static,
    F: FnMut(&mut Context<S>, &mut S, Stream) + 'static,
{
    Listen::new().open(reactor, addr, on_accept)
}

/// Sets up a listener.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::{Reactor, net::{Limits, tcp}};
///
/// let mut reactor = Reactor::<()>::new()?;
/// let patience = Some(Duration::from_secs(30));
/// let listener = tcp::Listen::new()
///     .connections_max(1000)
///     .limits(Limits { read_timeout: patience, ..Limits::default() })
///     .open(&mut reactor, "127.0.0.1:0", |_, _, incoming| drop(incoming))?;
/// println!("listening on {}", reactor[listener].local_addr());
/// # Ok::<(), std::io::Error>(())
/// ```
pub type Listen = crate::net::listen::Listen<Options>;

/// The options of [`Listen`] for TCP only.
#[derive(Clone, Debug)]
pub struct Options {
    reuse_port: bool,
    only_v6: Option<bool>,
    send_buffer_bytes: Option<usize>,
    unsent_bytes: Option<usize>,
    receive_buffer_bytes: Option<usize>,
    nodelay: bool,
    keepalive: Option<Duration>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            reuse_port: false,
            only_v6: None,
            send_buffer_bytes: None,
            unsent_bytes: None,
            receive_buffer_bytes: None,
            nodelay: true,
            keepalive: None,
        }
    }
}

impl Listen {
    /// Lets several listeners, each with its own loop, share the port (`SO_REUSEPORT`). Off.
    pub fn reuse_port(mut self, reuse: bool) -> Listen {
        self.kind.reuse_port = reuse;
        self
    }

    /// True if a listener on `[::]` leaves IPv4 alone (`IPV6_V6ONLY`); with an address of IPv4 the
    /// option is refused. The system's choice: as a rule the listener accepts both.
    pub fn only_v6(mut self, only: bool) -> Listen {
        self.kind.only_v6 = Some(only);
        self
    }

    /// The kernel's buffer for bytes on their way out of each connection (`SO_SNDBUF`). The
    /// kernel's own choice, which grows with use.
    pub fn send_buffer_bytes(mut self, bytes: usize) -> Listen {
        self.kind.send_buffer_bytes = Some(bytes);
        self
    }

    /// How many bytes the kernel takes beyond those that are on their way (`TCP_NOTSENT_LOWAT`, on
    /// Linux). By default as many as the buffer holds: megabytes for a peer that reads slowly. The
    /// kernel reports room only when a third of them has gone, so a write timeout may close such a
    /// peer although it reads.
    pub fn unsent_bytes(mut self, bytes: usize) -> Listen {
        self.kind.unsent_bytes = Some(bytes);
        self
    }

    /// [`unsent_bytes`](Listen::unsent_bytes) unless it was called: for a protocol whose answers
    /// are held back in one piece.
    pub fn unsent_bytes_by_default(mut self, bytes: usize) -> Listen {
        self.kind.unsent_bytes.get_or_insert(bytes);
        self
    }

    /// The kernel's buffer for bytes that wait to be read (`SO_RCVBUF`). The kernel's own choice.
    pub fn receive_buffer_bytes(mut self, bytes: usize) -> Listen {
        self.kind.receive_buffer_bytes = Some(bytes);
        self
    }

    /// Sends small writes at once (`TCP_NODELAY`). On: a callback's writes are one already.
    pub fn nodelay(mut self, nodelay: bool) -> Listen {
        self.kind.nodelay = nodelay;
        self
    }

    /// Lets the kernel ask a silent peer at this interval if it is there (`SO_KEEPALIVE`), in whole
    /// seconds: 1 at least, 32,767 at most. After some questions without an answer, nine on Linux,
    /// the peer counts as gone, and the connection is closed for `TimedOut`. Off.
    pub fn keepalive(mut self, every: Option<Duration>) -> Listen {
        self.kind.keepalive = every;
        self
    }

    /// Listens on `addr`; see [`listen`].
    ///
    /// # Errors
    /// As [`listen`]; an option does not fit the address.
    #[track_caller]
    pub fn open<S, F>(
        self,
        reactor: &mut Context<S>,
        addr: impl ToAddresses,
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
        addr: impl ToAddresses,
        on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Accept) + 'static,
    {
        let acceptor = bind_first(addr, |addr| self.acceptor(self.bind(addr)?))?;
        self.serve(reactor, acceptor, on_accept)
    }

    /// Listens by a socket that another program has bound and that listens already; clients may
    /// wait. Its backlog stays as it is. It is made non-blocking, also for other programs that hold
    /// it, and is closed when the listener goes; the port is free when all of them have closed it.
    ///
    /// inetd(8), and systemd with `StandardInput=socket`, pass it as stdin:
    ///
    /// ```no_run
    /// use std::net::TcpListener;
    /// use std::os::fd::AsFd;
    /// use waterwheel::{Reactor, net::tcp};
    ///
    /// let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    /// let mut reactor = Reactor::<()>::new()?;
    /// tcp::Listen::new().adopt(&mut reactor, listener, |_, _, incoming| drop(incoming))?;
    /// reactor.run(&mut ())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// systemd otherwise passes descriptors from 3 on and their number in `LISTEN_FDS`, for the
    /// process `LISTEN_PID` (sd_listen_fds(3)). Only the program can know that a number is a
    /// descriptor with no other owner, so std takes it by an unsafe function. The crate `listenfd`
    /// calls it: `ListenFd::from_env().take_tcp_listener(0)?` is the listener, if there is one.
    ///
    /// # Errors
    /// It is not a TCP socket that listens, or [`reuse_port`](Listen::reuse_port) or
    /// [`only_v6`](Listen::only_v6) is asked for, which comes too late. The socket is closed.
    #[track_caller]
    pub fn adopt<S, F>(
        self,
        reactor: &mut Context<S>,
        listener: std::net::TcpListener,
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
        listener: std::net::TcpListener,
        on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Accept) + 'static,
    {
        if self.kind.reuse_port {
            return Err(listen::too_late("reuse_port"));
        }
        if self.kind.only_v6.is_some() {
            return Err(listen::too_late("only_v6"));
        }
        let socket = SockRef::from(&listener);
        listen::adopt(&socket, Family::Ip, Type::STREAM)?;
        self.set_buffers(&socket)?;
        let acceptor = self.acceptor(TcpListener::from_std(listener))?;
        self.serve(reactor, acceptor, on_accept)
    }

    #[track_caller]
    fn serve<S, F>(
        self,
        reactor: &mut Context<S>,
        acceptor: TcpAcceptor,
        on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Accept) + 'static,
    {
        let addr = acceptor.addr;
        let served = accept::serve(reactor, acceptor, &self, on_accept);
        served.map_err(|error| named(addr, &error))
    }

    fn acceptor(&self, socket: TcpListener) -> io::Result<TcpAcceptor> {
        let addr = socket.local_addr()?;
        let Options { nodelay, mut keepalive, .. } = self.kind;
        if KEEPALIVE_IS_INHERITED && let Some(every) = keepalive.take() {
            keep_alive(&SockRef::from(&socket), every)?;
        }
        Ok(TcpAcceptor { socket, addr, nodelay, keepalive })
    }

    fn bind(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // On Windows this would let another program take the port from us.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(self.kind.reuse_port)?;
        self.kind.only_v6.map_or(Ok(()), |only| socket.set_only_v6(only))?;
        self.set_buffers(&SockRef::from(&socket))?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(self.backlog)?;
        Ok(TcpListener::from_std(socket.into()))
    }

    /// Accepted sockets inherit these; the receive buffer must be set before a handshake.
    fn set_buffers(&self, socket: &SockRef<'_>) -> io::Result<()> {
        let (out, into) = (self.kind.send_buffer_bytes, self.kind.receive_buffer_bytes);
        out.map_or(Ok(()), |bytes| socket.set_send_buffer_size(bytes))?;
        into.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(bytes))?;
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if let Some(bytes) = self.kind.unsent_bytes {
            socket.set_tcp_notsent_lowat(u32::try_from(bytes).unwrap_or(u32::MAX))?;
        }
        Ok(())
    }
}

/// The acceptor of a TCP listener.
#[derive(Debug)]
pub struct TcpAcceptor {
    socket: TcpListener,
    addr: SocketAddr,
    nodelay: bool,
    keepalive: Option<Duration>,
}

impl Listener {
    /// The address it listens on, with the port the system chose if it was asked for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.acceptor.addr
    }
}

impl Acceptor for TcpAcceptor {
    type Socket = (TcpStream, SocketAddr);

    #[inline]
    fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.accept()
    }

    #[inline]
    fn stream(&self, (stream, peer): (TcpStream, SocketAddr), group: Group) -> Stream {
        self.set_options(&stream);
        Stream::tcp(stream, group, Some(peer))
    }
}

impl TcpAcceptor {
    fn set_options(&self, stream: &TcpStream) {
        let socket = SockRef::from(stream);
        if self.nodelay
            && let Err(error) = socket.set_tcp_nodelay(true)
        {
            log::debug!("cannot set TCP_NODELAY: {error}"); // The peer may be gone already.
        }
        if let Some(every) = self.keepalive
            && let Err(error) = keep_alive(&socket, every)
        {
            log::debug!("cannot set SO_KEEPALIVE: {error}");
        }
    }
}

/// True if accepted sockets have the keep-alive of the one that listens: three system calls less
/// for each of them.
const KEEPALIVE_IS_INHERITED: bool = cfg!(any(target_os = "android", target_os = "linux"));

/// Sets the options of [`Listen::keepalive`].
pub(super) fn keep_alive(socket: &SockRef<'_>, every: Duration) -> io::Result<()> {
    let seconds = every.as_secs().saturating_add(u64::from(every.subsec_nanos() > 0));
    let every = Duration::from_secs(seconds.clamp(1, 32_767)); // The range of Linux.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(every).with_interval(every))
}

registers_by!(TcpAcceptor, socket);

#[cfg(unix)]
impl std::os::fd::AsFd for TcpAcceptor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
