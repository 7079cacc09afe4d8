//! Listening: where, and with which options.
//!
//! Knows addresses and socket options; what a listener then does is in `accept.rs`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use super::accept::{Accept, Listener, accept};
use crate::net::limits::Limits;
use crate::net::stream::Stream;
use crate::reactor::{Context, Interest, Options, SourceId};

/// Listens on `addr` and calls `on_accept` with every stream that is accepted.
///
/// ```no_run
/// use waterwheel::{Reactor, net::{Event, tcp}};
///
/// let mut reactor = Reactor::new()?;
/// tcp::listen(&mut reactor, "127.0.0.1:7001", |reactor, _, incoming| {
///     incoming.open(reactor, |reactor, _, conn, event| {
///         if let Event::Data(bytes) = event {
///             let _ = reactor[conn].write(bytes);
///         }
///     });
/// })?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The address is taken, not ours, or no address. A host name is looked up, which blocks.
#[track_caller]
pub fn listen<S, F>(
    reactor: &mut Context<S>,
    addr: impl ToSocketAddrs,
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
/// use waterwheel::{Reactor, net::{Limits, tcp}};
///
/// let mut reactor = Reactor::<()>::new()?;
/// let listener = tcp::Listen::new()
///     .connections_max(1000)
///     .limits(Limits { read_timeout: Some(std::time::Duration::from_secs(30)), ..Limits::default() })
///     .open(&mut reactor, "127.0.0.1:0", |_, _, incoming| drop(incoming))?;
/// println!("listening on {}", reactor[listener].local_addr());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Listen {
    pub(super) limits: Limits,
    pub(super) connections_max: usize,
    pub(super) accepts_per_turn: usize,
    backlog: i32,
    reuse_port: bool,
    send_buffer_bytes: Option<usize>,
    receive_buffer_bytes: Option<usize>,
    pub(super) nodelay: bool,
    pub(super) keepalive: Option<Duration>,
}

impl Default for Listen {
    fn default() -> Listen {
        Listen {
            limits: Limits::default(),
            connections_max: usize::MAX,
            accepts_per_turn: 64,
            backlog: 4096,
            reuse_port: false,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            nodelay: true,
            keepalive: None,
        }
    }
}

impl Listen {
    /// The defaults.
    pub fn new() -> Listen {
        Listen::default()
    }

    /// The limits of its connections.
    pub fn limits(mut self, limits: Limits) -> Listen {
        self.limits = limits;
        self
    }

    /// Connections open at a time; one more is accepted and closed at once, counted, and logged once
    /// a second at most (by the `log` crate). No limit by default.
    pub fn connections_max(mut self, connections: usize) -> Listen {
        self.connections_max = connections;
        self
    }

    /// Connections accepted in one turn; more wait for the next, so that others get theirs. 64.
    pub fn accepts_per_turn(mut self, accepts: usize) -> Listen {
        self.accepts_per_turn = accepts.max(1);
        self
    }

    /// Connections that wait in the kernel to be accepted, the *backlog* of listen(2); see listen(2), and `somaxconn`. 4096.
    pub fn backlog(mut self, connections: u32) -> Listen {
        self.backlog = i32::try_from(connections).unwrap_or(i32::MAX);
        self
    }

    /// Lets several listeners, each with its own loop, share the port (`SO_REUSEPORT`). Off.
    pub fn reuse_port(mut self, reuse: bool) -> Listen {
        self.reuse_port = reuse;
        self
    }

    /// The kernel's buffer for bytes on their way out of each connection (`SO_SNDBUF`). The kernel's
    /// own choice, which grows with use.
    pub fn send_buffer_bytes(mut self, bytes: usize) -> Listen {
        self.send_buffer_bytes = Some(bytes);
        self
    }

    /// The kernel's buffer for bytes that wait to be read (`SO_RCVBUF`). The kernel's own choice.
    pub fn receive_buffer_bytes(mut self, bytes: usize) -> Listen {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    /// Sends small writes at once (`TCP_NODELAY`). On: a callback's writes are one already.
    pub fn nodelay(mut self, nodelay: bool) -> Listen {
        self.nodelay = nodelay;
        self
    }

    /// Lets the kernel ask a silent peer whether it is there, every so often (`SO_KEEPALIVE`). Off.
    pub fn keepalive(mut self, every: Option<Duration>) -> Listen {
        self.keepalive = every;
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
        addr: impl ToSocketAddrs,
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

    /// [`open`](Listen::open) for a callback that wants to hear of the listener's troubles, too.
    ///
    /// # Errors
    /// As [`listen`].
    #[track_caller]
    pub fn open_with<S, F>(
        self,
        reactor: &mut Context<S>,
        addr: impl ToSocketAddrs,
        mut on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Accept) + 'static,
    {
        let listener = Listener::new(self.bind_first(addr)?, self)?;
        let options = Options { closes: true, ..Options::default() };
        let accept = move |reactor: &mut _, state: &mut _, id, ready| {
            accept(reactor, state, id, ready, &mut on_accept);
        };
        Ok(reactor.register_with(listener, Interest::READABLE, options, accept)?)
    }

    /// Binds the first of the addresses that will have it, as std does.
    fn bind_first(&self, addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let mut refused = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
        for addr in addr.to_socket_addrs()? {
            match self.bind(addr) {
                Ok(listener) => return Ok(listener),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn bind(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // On Windows this would let another program take the port from us.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(self.reuse_port)?;
        // Accepted sockets inherit these; the receive buffer must be set before a handshake.
        self.send_buffer_bytes.map_or(Ok(()), |bytes| socket.set_send_buffer_size(bytes))?;
        self.receive_buffer_bytes.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(bytes))?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(self.backlog)?;
        Ok(TcpListener::from_std(socket.into()))
    }
}
