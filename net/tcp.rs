//! TCP: listening and connecting.
//!
//! Knows mio's and socket2's sockets; every accepted or connected stream becomes a [`Conn`](super::Conn).
//!
//! A listener that meets the limit on open files (EMFILE, accept(2)) must neither spin nor die. The
//! kernel keeps the connection it could not hand over, and an edge-triggered selector says nothing
//! more of it. So the listener keeps a *spare* descriptor: it gives that up, accepts with it, closes
//! what it accepted, so that the client learns at once that it is not served, and takes the spare
//! back. Then it rests, 100 ms at first and a second at most, and looks again:
//!
//! ```text
//!   accept ──EMFILE──▶ told once ──▶ close spare, accept + close all, reopen spare ──▶ rest
//!      ▲                                                                                 │
//!      └───────────────────── accepts again: the spell is over ◀────────────────────────┘
//! ```
//!
//! # Read next
//! `codec.rs`: from bytes to frames.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::conn::Pressure;
use super::drive::{Lent, Stream};
use super::limits::{Limits, Seat};
use crate::reactor::{Context, Interest, Options, Readiness, SourceId};

/// The first rest after running out of descriptors; each next one is twice as long.
const REST_FIRST: Duration = Duration::from_millis(100);
/// The longest.
const REST_MAX: Duration = Duration::from_secs(1);
/// Log lines about refused connections stand at least this far apart.
const LOG_EVERY: Duration = Duration::from_secs(1);

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
    limits: Limits,
    connections_max: usize,
    accepts_per_turn: usize,
    backlog: i32,
    reuse_port: bool,
    nodelay: bool,
    keepalive: Option<Duration>,
}

impl Default for Listen {
    fn default() -> Listen {
        Listen {
            limits: Limits::default(),
            connections_max: usize::MAX,
            accepts_per_turn: 64,
            backlog: 4096,
            reuse_port: false,
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
    /// a second at most. No limit by default.
    pub fn connections_max(mut self, connections: usize) -> Listen {
        self.connections_max = connections;
        self
    }

    /// Connections accepted in one turn; more wait for the next, so that others get theirs. 64.
    pub fn accepts_per_turn(mut self, accepts: usize) -> Listen {
        self.accepts_per_turn = accepts.max(1);
        self
    }

    /// Connections that wait in the kernel to be accepted; see listen(2), and `somaxconn`. 4096.
    pub fn backlog(mut self, connections: u32) -> Listen {
        self.backlog = i32::try_from(connections).unwrap_or(i32::MAX);
        self
    }

    /// Lets several listeners, each with its own loop, share the port (`SO_REUSEPORT`). Off.
    pub fn reuse_port(mut self, reuse: bool) -> Listen {
        self.reuse_port = reuse;
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
        let socket = self.bind_first(addr)?;
        let listener = Listener {
            addr: socket.local_addr()?,
            socket,
            seat: Seat::first(self.limits.clone()),
            options: self,
            spare: spare(),
            resting: false,
            rest: REST_FIRST,
            exhausted: false,
            refused: 0,
            logged: None,
        };
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
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(self.backlog)?;
        Ok(TcpListener::from_std(socket.into()))
    }
}

/// What a listener has to tell.
#[derive(Debug)]
pub enum Accept {
    /// A connection.
    Stream(Stream),
    /// Descriptors or memory have run out, or accepting fails for a reason that is not one
    /// connection's: connections are closed as they come until that is over.
    /// Told once each time it begins.
    Exhausted(io::Error),
}

/// A listening socket. Remove or deregister its source to stop listening.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
    options: Listen,
    /// Its own; each connection takes the next.
    seat: Seat,
    /// A descriptor to give up when there are no more; see the head of this file.
    spare: Option<File>,
    /// It does not look until its deadline.
    resting: bool,
    /// How long the next rest will be.
    rest: Duration,
    /// `Exhausted` was told and nothing accepted since.
    exhausted: bool,
    refused: u64,
    /// The tick of the last log line.
    logged: Option<u64>,
}

impl Listener {
    /// The address it listens on, with the port the system chose if it was asked for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.seat.others()
    }

    /// Connections closed at once, because there were too many or no descriptors for them.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl Source for Listener {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket.register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket.reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

/// A descriptor that costs nothing else. None is not an error: then there is no spare.
fn spare() -> Option<File> {
    cfg!(unix).then(|| File::open("/dev/null").ok()).flatten()
}

/// Accepts until there is no more, or the turn's budget is spent.
fn accept<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Listener>,
    ready: Readiness,
    on_accept: &mut impl FnMut(&mut Context<S>, &mut S, Accept),
) {
    let listener = &mut reactor[id];
    listener.resting &= !ready.contains(Readiness::DEADLINE);
    if listener.resting {
        return;
    }
    for _ in 0..listener.options.accepts_per_turn {
        // The callback may have closed the listener.
        let Some(listener) = reactor.get_mut(id) else { return };
        match listener.socket.accept() {
            Ok((stream, peer)) => {
                listener.exhausted = false;
                listener.rest = REST_FIRST;
                if listener.seat.others() >= listener.options.connections_max {
                    drop(stream);
                    refuse(reactor, id, "the limit on connections is reached");
                    continue;
                }
                set_options(&stream, &listener.options);
                let stream = Stream::tcp(stream, listener.seat.next(), Some(peer));
                let lent = Lent(reactor, id.raw());
                on_accept(lent.0, state, Accept::Stream(stream));
            }
            Err(error) => match classify(&error) {
                Trouble::None => return,
                Trouble::OneConnection => {}
                Trouble::Exhausted => return exhausted(reactor, state, id, error, on_accept),
            },
        }
    }
    reactor.resume(id.raw(), Readiness::READABLE);
}

fn set_options(stream: &TcpStream, options: &Listen) {
    let socket = SockRef::from(stream);
    if options.nodelay
        && let Err(error) = socket.set_tcp_nodelay(true)
    {
        log::debug!("cannot set TCP_NODELAY: {error}"); // The peer may be gone already.
    }
    if let Some(every) = options.keepalive
        && let Err(error) =
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(every).with_interval(every))
    {
        log::debug!("cannot set SO_KEEPALIVE: {error}");
    }
}

/// What a failed accept says of the listener.
enum Trouble {
    /// Nobody waits.
    None,
    /// The connection that was to be accepted has gone, or its network; accept(2) wants such errors
    /// treated like "try again".
    OneConnection,
    /// Out of descriptors or memory.
    Exhausted,
}

fn classify(error: &io::Error) -> Trouble {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, WouldBlock,
    };
    match error.kind() {
        WouldBlock => Trouble::None,
        ConnectionAborted | ConnectionReset | Interrupted | NetworkDown | NetworkUnreachable
        | HostUnreachable => Trouble::OneConnection,
        // EMFILE, ENFILE, ENOBUFS, ENOMEM; and what nobody has thought of is not worth a spin.
        _ => Trouble::Exhausted,
    }
}

/// Counts a refused connection and logs it, once a second at most.
fn refuse<S: 'static>(reactor: &mut Context<S>, id: SourceId<Listener>, why: &str) {
    let (tick, again) = (reactor.tick(), reactor.tick_after(LOG_EVERY));
    let listener = &mut reactor[id];
    listener.refused += 1;
    if listener.logged.is_none_or(|next| next <= tick) {
        listener.logged = Some(again);
        log::warn!("refusing connections: {why}; {} refused so far", listener.refused);
    }
}

/// Closes whoever waits, with the spare descriptor, and rests.
fn exhausted<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Listener>,
    error: io::Error,
    on_accept: &mut impl FnMut(&mut Context<S>, &mut S, Accept),
) {
    let listener = &mut reactor[id];
    let news = !std::mem::replace(&mut listener.exhausted, true);
    let budget = listener.options.accepts_per_turn;
    listener.resting = true;
    let rest = listener.rest;
    listener.rest = (2 * rest).min(REST_MAX);
    if listener.spare.take().is_some() {
        for _ in 0..budget {
            if reactor[id].socket.accept().is_err() {
                break;
            }
            refuse(reactor, id, "out of file descriptors");
        }
        reactor[id].spare = spare();
    }
    let tick = reactor.tick_after(rest);
    reactor.set_deadline(id.raw(), Some(tick));
    if news {
        log::error!("cannot accept: {error}");
        on_accept(reactor, state, Accept::Exhausted(error));
    }
}

/// A connection that is being made. Remove its source to cancel it; the callback is then not called.
#[derive(Debug)]
pub struct Connecting {
    socket: TcpStream,
    peer: SocketAddr,
    first: Vec<u8>,
}

impl Connecting {
    /// Where to.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Bytes to be sent as soon as the connection is there, in the order in which they are written,
    /// before any that are written to the open connection. Refused, and none of them taken, past
    /// the default of [`Limits::outbox_bytes_max`].
    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        if self.first.len() + bytes.len() > Limits::default().outbox_bytes_max {
            return Pressure::Refused;
        }
        self.first.extend_from_slice(bytes);
        Pressure::Below
    }
}

impl Source for Connecting {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket.register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket.reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

/// Connects to `addr` and calls `done` once: with the stream, or with the error of connect(2), or
/// with `TimedOut` after `timeout`.
///
/// ```no_run
/// use std::time::Duration;
/// use waterwheel::{Reactor, net::{Event, tcp}};
///
/// let mut reactor = Reactor::new()?;
/// let addr = "127.0.0.1:7001".parse().unwrap();
/// tcp::connect(&mut reactor, addr, Duration::from_secs(3), |reactor, _, result| match result {
///     Ok(stream) => {
///         let conn = stream.open(reactor, |_, _, _, event| println!("{event:?}"));
///         let _ = reactor[conn].write(b"hello\n");
///     }
///     Err(error) => eprintln!("cannot connect: {error}"),
/// })?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Nothing was begun, and `done` will not be called: out of descriptors, no route, no free port.
#[track_caller]
pub fn connect<S, F>(
    reactor: &mut Context<S>,
    addr: SocketAddr,
    timeout: Duration,
    done: F,
) -> io::Result<SourceId<Connecting>>
where
    S: 'static,
    F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
{
    let connecting =
        Connecting { socket: TcpStream::connect(addr)?, peer: addr, first: Vec::new() };
    let mut done = Some(done);
    let both = Interest::READABLE | Interest::WRITABLE;
    let id = reactor.register(connecting, both, move |reactor, state, id, ready| {
        let Some(result) = outcome(reactor, id, ready) else { return };
        if let Some(done) = done.take() {
            done(reactor, state, result);
        }
    })?;
    let tick = reactor.tick_after(timeout);
    reactor.set_deadline(id.raw(), Some(tick));
    Ok(id)
}

/// How the connecting ended, and takes it out of the loop; `None` if it has not ended.
fn outcome<S: 'static>(
    reactor: &mut Context<S>,
    id: SourceId<Connecting>,
    ready: Readiness,
) -> Option<io::Result<Stream>> {
    // Writable says that something has happened; connect(2) says that SO_ERROR tells what. Neither
    // an error nor a peer means that nothing has: a spurious event.
    let socket = &reactor[id].socket;
    let result = match socket.take_error() {
        Ok(Some(error)) | Err(error) => Err(error),
        Ok(None) => match socket.peer_addr() {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                if !ready.contains(Readiness::DEADLINE) {
                    return None;
                }
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(error) => Err(error),
        },
    };
    let Connecting { socket, peer, first } = reactor.deregister(id)?;
    Some(result.map(|()| {
        if let Err(error) = SockRef::from(&socket).set_tcp_nodelay(true) {
            log::debug!("cannot set TCP_NODELAY: {error}");
        }
        let mut stream = Stream::tcp(socket, Seat::first(Limits::default()), Some(peer));
        if !first.is_empty() {
            let _ = stream.write(&first); // It fits; a failure is told by `Closed`.
        }
        stream
    }))
}
