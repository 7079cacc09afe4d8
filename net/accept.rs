//! Accepting, for every kind of connection.
//!
//! Knows the loop and the budget of a turn; connections come from an [`Acceptor`]: TCP, Unix, the
//! simulation.
//!
//! A listener that meets the limit on open files (EMFILE, accept(2)) must not spin, and must not
//! stop. The kernel keeps the connection that it could not hand over, and an edge-triggered
//! selector reports it no more. Connections that only wait for their peers to close make room first
//! (`scarce.rs`). If there are none, the listener has a *spare* descriptor: it gives that up,
//! accepts with it, closes the connection, so that the client learns at once that it is not
//! served, and takes the spare back. Then it rests, 100 ms at first and a second at most:
//!
//! ```text
//!   accept ──EMFILE──▶ close spare, accept + close all, reopen spare ──▶ Exhausted once ──▶ rest
//!      ▲     twice, and no room was made                                                      │
//!      └──────────────────────────────── accepts again ◀──────────────────────────────────────┘
//! ```
//!
//! The error must come twice in a row: on Linux accept(2) also fails with an error of the one
//! connection that it was to hand over (EPROTO, EPERM of a firewall, …), and no other should be
//! closed for that. An error that concerns all connections comes again.
//!
//! # Read next
//! `connect.rs`: the other way to a connection.

use std::fmt;
use std::fs::File;
use std::io;
use std::time::Duration;

use mio::event::Source;

use super::group::Group;
use super::handler::guarded;
use super::listen::Listen;
use super::scarce::{give_up, is_scarce};
use super::stream::Stream;
use super::transport::registers_by;
use crate::reactor::{Context, Interest, Options, Readiness, SourceId};
use crate::timers::Tick;

/// The first rest after running out of descriptors; each next one is twice as long.
const REST_FIRST: Duration = Duration::from_millis(100);
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(1);
/// Log lines about refused connections stand at least this far apart.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// An event that a listener delivers.
#[derive(Debug)]
pub enum Accept {
    /// A connection.
    Stream(Stream),
    /// Descriptors or memory have run out, or accepting fails for a reason that concerns all
    /// connections: connections are closed as they come until that is over.
    /// Delivered once each time it begins.
    Exhausted(io::Error),
}

/// The origin of connections: a listening socket, or a substitute for one.
///
/// It reports by edges, as a [`Transport`](super::Transport) does: `WouldBlock` arms the next edge.
pub trait Acceptor: Source + fmt::Debug + 'static {
    /// One accepted connection, as the system hands it over. Dropping it closes it.
    type Socket;

    /// True if each connection takes a descriptor, so that descriptors may run out.
    const IS_DESCRIPTOR: bool = true;

    /// Accepts the next connection.
    ///
    /// # Errors
    /// As accept(2): `WouldBlock` when no connection waits.
    fn accept(&mut self) -> io::Result<Self::Socket>;

    /// Makes a stream of a socket that is to be served.
    fn stream(&self, socket: Self::Socket, group: Group) -> Stream;
}

/// A listening socket. Remove or deregister its source to stop listening. A removed one holds its
/// address until the turn's end, a deregistered one until it is dropped.
#[derive(Debug)]
pub struct Listener<A> {
    pub(super) acceptor: A,
    connections_max: usize,
    accepts_per_turn: usize,
    /// The group of its connections, which each of them joins.
    group: Group,
    /// A descriptor to give up when there are no more; see the head of this file.
    spare: Option<File>,
    /// True while it rests: it accepts nothing until its deadline.
    resting: bool,
    /// How long the next rest will be.
    rest: Duration,
    /// True if `Exhausted` was delivered and nothing was accepted since.
    exhausted: bool,
    refused: u64,
    /// No log line before this tick.
    log_after: Tick,
}

impl<A> Listener<A> {
    fn new<K>(acceptor: A, listen: &Listen<K>) -> Listener<A>
    where
        A: Acceptor,
    {
        Listener {
            acceptor,
            connections_max: listen.connections_max,
            accepts_per_turn: listen.accepts_per_turn,
            group: Group::new(listen.limits.clone().with_buffers()).accepted(),
            spare: spare::<A>(),
            resting: false,
            rest: REST_FIRST,
            exhausted: false,
            refused: 0,
            log_after: Tick::START,
        }
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.group.connections()
    }

    /// Connections closed at once, because there were too many or no descriptors for them.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// For options that are not here; see `socket2::SockRef`.
#[cfg(unix)]
impl<A: std::os::fd::AsFd> std::os::fd::AsFd for Listener<A> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.acceptor.as_fd()
    }
}

registers_by!(Listener<A>, acceptor);

/// Opens a descriptor that costs nothing else. `None` if that fails: then there is no spare.
fn spare<A: Acceptor>() -> Option<File> {
    (cfg!(unix) && A::IS_DESCRIPTOR).then(|| File::open("/dev/null").ok()).flatten()
}

/// Hands a listener to the loop.
#[track_caller]
pub(super) fn serve<S, A, K, F>(
    reactor: &mut Context<S>,
    acceptor: A,
    listen: &Listen<K>,
    mut on_accept: F,
) -> io::Result<SourceId<Listener<A>>>
where
    S: 'static,
    A: Acceptor,
    F: FnMut(&mut Context<S>, &mut S, Accept) + 'static,
{
    let options = Options { closes: true, ..Options::default() };
    let listener = Listener::new(acceptor, listen);
    let accept = move |reactor: &mut _, state: &mut _, id, ready| {
        accept(reactor, state, id, ready, &mut on_accept);
    };
    Ok(reactor.register_with(listener, Interest::READABLE, options, accept)?)
}

/// Accepts until there is no more, or the turn's budget is spent.
fn accept<S: 'static, A: Acceptor>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Listener<A>>,
    ready: Readiness,
    on_accept: &mut impl FnMut(&mut Context<S>, &mut S, Accept),
) {
    let listener = &mut reactor[id];
    listener.resting &= !ready.contains(Readiness::DEADLINE);
    if listener.resting {
        return;
    }
    let mut failed = false;
    for _ in 0..listener.accepts_per_turn {
        // The callback may have closed the listener.
        let Some(listener) = reactor.get_mut(id) else { return };
        match listener.acceptor.accept() {
            Ok(socket) => {
                failed = false;
                listener.exhausted = false;
                listener.rest = REST_FIRST;
                if listener.spare.is_none() {
                    listener.spare = spare::<A>(); // No descriptor was left at the last attempt.
                }
                if listener.group.connections() >= listener.connections_max {
                    drop(socket);
                    refuse(reactor, id, "the limit on connections is reached");
                    continue;
                }
                let stream = listener.acceptor.stream(socket, listener.group.join());
                guarded(reactor, id, |reactor| {
                    on_accept(reactor, state, Accept::Stream(stream));
                });
            }
            Err(error) => match classify(&error) {
                AcceptError::NoneWaits => return,
                AcceptError::OneConnection => {}
                AcceptError::Exhausted if !failed => failed = true,
                // Each time half of the rest is given up, so this ends.
                AcceptError::Exhausted if is_scarce(&error) && give_up(reactor) > 0 => {}
                AcceptError::Exhausted => return exhausted(reactor, state, id, error, on_accept),
            },
        }
    }
    reactor.resume(id, Readiness::READABLE);
}

/// The meaning of a failed accept for the listener.
enum AcceptError {
    /// No connection waits.
    NoneWaits,
    /// The connection that was to be accepted has gone, or its network; accept(2) wants such errors
    /// treated like "try again".
    OneConnection,
    /// Out of descriptors or memory.
    Exhausted,
}

fn classify(error: &io::Error) -> AcceptError {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, WouldBlock,
    };
    match error.kind() {
        WouldBlock => AcceptError::NoneWaits,
        ConnectionAborted | ConnectionReset | Interrupted | NetworkDown | NetworkUnreachable
        | HostUnreachable => AcceptError::OneConnection,
        // EMFILE, ENFILE, ENOBUFS, ENOMEM; and any other error, so that the loop does not spin.
        _ => AcceptError::Exhausted,
    }
}

/// Counts a refused connection and logs it, once a second at most.
fn refuse<S: 'static, A: 'static>(reactor: &mut Context<S>, id: SourceId<Listener<A>>, why: &str) {
    let (tick, again) = (reactor.tick(), reactor.tick_after(LOG_EVERY));
    let listener = &mut reactor[id];
    listener.refused += 1;
    if listener.log_after <= tick {
        listener.log_after = again;
        log::warn!("refusing connections: {why}; {} refused so far", listener.refused);
    }
}

/// Closes the connections that wait, with the spare descriptor, and rests.
fn exhausted<S: 'static, A: Acceptor>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Listener<A>>,
    error: io::Error,
    on_accept: &mut impl FnMut(&mut Context<S>, &mut S, Accept),
) {
    let listener = &mut reactor[id];
    let news = !std::mem::replace(&mut listener.exhausted, true);
    if news {
        log::error!("cannot accept: {error}");
        reactor.note_failed(id.raw(), &error);
    }
    let listener = &mut reactor[id];
    let budget = listener.accepts_per_turn;
    listener.resting = true;
    let rest = listener.rest;
    listener.rest = (2 * rest).min(REST_MAX);
    if listener.spare.take().is_some() {
        for _ in 0..budget {
            if reactor[id].acceptor.accept().is_err() {
                break;
            }
            refuse(reactor, id, "out of file descriptors");
        }
        reactor[id].spare = spare::<A>();
    }
    let tick = reactor.tick_after(rest);
    reactor.set_deadline(id, Some(tick));
    if news {
        on_accept(reactor, state, Accept::Exhausted(error));
    }
}
