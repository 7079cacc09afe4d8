//! Accepting.
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
//! `../codec.rs`: from bytes to frames.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{SockRef, TcpKeepalive};

use super::listen::Listen;
use crate::net::drive::Lent;
use crate::net::limits::Seat;
use crate::net::stream::Stream;
use crate::net::transport::registers_by;
use crate::reactor::{Context, Readiness, SourceId};

/// The first rest after running out of descriptors; each next one is twice as long.
const REST_FIRST: Duration = Duration::from_millis(100);
/// The longest.
const REST_MAX: Duration = Duration::from_secs(1);
/// Log lines about refused connections stand at least this far apart.
const LOG_EVERY: Duration = Duration::from_secs(1);

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
    /// No log line before this tick.
    log_after: u64,
}

impl Listener {
    pub(super) fn new(socket: TcpListener, options: Listen) -> io::Result<Listener> {
        Ok(Listener {
            addr: socket.local_addr()?,
            socket,
            seat: Seat::first(options.limits.clone()),
            options,
            spare: spare(),
            resting: false,
            rest: REST_FIRST,
            exhausted: false,
            refused: 0,
            log_after: 0,
        })
    }

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

/// For options that are not here; see `socket2::SockRef`.
#[cfg(unix)]
impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

registers_by!(Listener, socket);

/// A descriptor that costs nothing else. None is not an error: then there is no spare.
fn spare() -> Option<File> {
    cfg!(unix).then(|| File::open("/dev/null").ok()).flatten()
}

/// Accepts until there is no more, or the turn's budget is spent.
pub(super) fn accept<S: 'static>(
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
                if listener.spare.is_none() {
                    listener.spare = spare(); // There were none left when it was last wanted.
                }
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
    if listener.log_after <= tick {
        listener.log_after = again;
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
    if news {
        log::error!("cannot accept: {error}");
    }
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
        on_accept(reactor, state, Accept::Exhausted(error));
    }
}
