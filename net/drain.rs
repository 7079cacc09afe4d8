//! Draining: how a server ends without cutting off its clients.
//!
//! Knows listeners and connections; never mentions a protocol.
//!
//! ```text
//!   listeners     closed with this turn: the kernel refuses clients not accepted yet
//!   accepted      read once more, then: idle ────────────▶ closed, 100 ms for the peer
//!   connections                         in flight ─ done ─▶ closed in order
//!   the deadline  ─────────────────────────────────────────▶ aborted, all that are left
//!   the report    when the last of them has got Closed
//! ```
//!
//! A connection is *in flight* while it has unsent bytes or an unfinished frame; while its handler
//! waits for `Drained`, will answer later ([`Conn::hold`]) or has paused it; while a rate delays
//! its input; and as one end of a link, which knows no frames. It closes itself when that is over,
//! a WebSocket by a Close with 1001: the loop checks this each time it has called a connection,
//! and searches no list.
//!
//! *In order* means by [`Conn::close`]. If a socket is closed at once, bytes that the peer still
//! sends cause a reset, and that may destroy the end of an answer that is on its way. So the peer
//! may close first, within the grace of a close, but within a second if all is sent. A peer that
//! was idle when the drain began has its answers, and if no byte passes, 100 ms are enough: the
//! next request of a busy client comes sooner, and finds the socket open. A peer that was busy
//! lately (within the grace of a close) gets the whole second, if the protocol knows that: HTTP
//! knows when it has answered. TLS sends close_notify first; a WebSocket waits only for the peer's
//! Close (`ws::Limits::close_timeout`).
//!
//! # Rules
//! 1. The report comes exactly once, and its numbers add up. A drain whose source was removed
//!    reports nothing and aborts nothing; connections that it has closed stay closed.
//! 2. Work that the program itself began goes on: timers, offloaded work, connecting, and
//!    connections it made, since a client may wait for an answer over one of them. Connections
//!    opened after the drain began go on, too, except those of a TLS handshake that was under way:
//!    they are not counted, and close themselves like the others. To end with the last connection
//!    that was counted, call `stop` in the report.
//! 3. Two drains at a time do not know of each other: both count the connections that both find,
//!    and the earlier deadline is kept. So a second one with less grace makes the end come sooner.
//!
//! # Read next
//! `datagram.rs`: messages instead of a stream.

use std::any::TypeId;
use std::cell::Cell;
use std::fmt;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use super::conn::Conn;
use super::handler::LOOK_AND_READ;
use super::states::{Closing, Receiving, fact};
use super::{sim, tcp};
use crate::reactor::{Context, RawId, Readiness, SourceId};
use crate::timers::Stamp;

/// The longest time that a drained connection waits for its peer to close when all is sent: a round
/// trip of the slowest networks, so that the last bytes arrive before a reset can.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// The same for one that was idle when the drain began: nothing is on its way to the peer, and only
/// the next request of a busy client might come.
const QUIET_LINGER_MAX: Duration = Duration::from_millis(100);

/// A drain that is under way; made by [`drain`].
#[derive(Debug)]
pub struct Drain {
    /// The connections that were found, except those that are known to be gone.
    left: Vec<(SourceId<Conn>, Fate)>,
    report: DrainReport,
}

/// How a connection will be counted.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Idle,
    Finished,
    Aborted,
}

/// The result of a drain: `connections` is the sum of the numbers below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Listeners that were closed.
    pub listeners: usize,
    /// Accepted connections that were open when the drain began.
    pub connections: usize,
    /// Of these, idle ones that have gone before the deadline.
    pub idle: usize,
    /// Those in flight that have gone before the deadline.
    pub finished: usize,
    /// Those that were aborted at the deadline.
    pub aborted: usize,
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DrainReport { listeners, connections, idle, finished, aborted } = self;
        write!(f, "listeners closed: {listeners}; connections: {connections} ")?;
        write!(f, "({idle} idle, {finished} finished, {aborted} aborted)")
    }
}

impl Drain {
    /// The report so far: all listeners and connections, and some of those that have gone.
    pub fn report(&self) -> DrainReport {
        self.report
    }
}

/// A source that is to be drained, although it is no connection yet: a handshake.
pub trait Drainable: 'static {
    /// From now on, the connection that it becomes is to be drained.
    fn drain(&mut self);
}

/// The other types of sources that are drained, each with a function that drains all of them.
struct Drainers<S: 'static>(Vec<(TypeId, DrainAll<S>)>);

type DrainAll<S> = fn(&mut Context<S>);

impl<S: 'static> Default for Drainers<S> {
    fn default() -> Drainers<S> {
        Drainers(Vec::new())
    }
}

/// For authors of protocols: a [`drain`] reaches the sources of type `T`, too, from now on.
pub fn drain_too<S: 'static, T: Drainable>(reactor: &mut Context<S>) {
    let drainers = &mut reactor.extension::<Drainers<S>>().0;
    if drainers.iter().all(|(kind, _)| *kind != TypeId::of::<T>()) {
        drainers.push((TypeId::of::<T>(), |reactor| {
            for id in reactor.ids::<T>() {
                reactor[id].drain();
            }
        }));
    }
}

/// Ends a server: closes its listeners, lets answers in flight finish, closes each connection when
/// it is idle, aborts those that are left after `grace`, and then calls `done` with the report.
///
/// ```no_run
/// use std::time::Duration;
/// use waterwheel::{Reactor, net};
///
/// let mut reactor = Reactor::<()>::new()?;
/// net::drain(&mut reactor, Duration::from_secs(30), |reactor, _, report| {
///     println!("{report}");
///     reactor.stop();
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// As [`Stream::open`](super::Stream::open), with more sources than a token can number.
///
/// # Cost
/// O(sources) at the beginning and at the deadline, and a hook that looks at one connection in each
/// turn.
#[track_caller]
pub fn drain<S, F>(reactor: &mut Context<S>, grace: Duration, done: F) -> SourceId<Drain>
where
    S: 'static,
    F: FnOnce(&mut Context<S>, &mut S, DrainReport) + 'static,
{
    let listeners = listeners(reactor);
    for listener in &listeners {
        reactor.remove(*listener);
    }
    let conns = reactor.ids::<Conn>().into_iter();
    for (_, drain_all) in reactor.extension::<Drainers<S>>().0.clone() {
        drain_all(reactor);
    }
    let left: Vec<_> = conns.filter_map(|id| Some((id, begin(reactor, id)?))).collect();
    let (listeners, connections) = (listeners.len(), left.len());
    let report = DrainReport { listeners, connections, ..DrainReport::default() };
    let drain = Drain { left, report };
    let mut done = Some(done);
    let call = move |reactor: &mut Context<S>, state: &mut S, id: SourceId<Drain>, ready| {
        if Readiness::contains(ready, Readiness::DEADLINE) {
            abort(reactor, id);
        }
        if reactor[id].left.is_empty()
            && let Some(drain) = reactor.deregister(id)
            && let Some(done) = done.take()
        {
            done(reactor, state, drain.report);
        }
    };
    let id = reactor.own(drain, call); // A hook calls it.
    let tick = reactor.tick_after(grace);
    reactor.set_deadline(id, Some(tick));
    watch(reactor, id);
    id
}

/// Every type of listener there is.
fn listeners<S: 'static>(reactor: &Context<S>) -> Vec<RawId> {
    let of_tcp = reactor.ids::<tcp::Listener>().into_iter().map(SourceId::raw);
    let simulated = reactor.ids::<sim::Listener>().into_iter().map(SourceId::raw);
    #[cfg(unix)]
    let of_unix = reactor.ids::<super::unix::Listener>().into_iter().map(SourceId::raw);
    #[cfg(not(unix))]
    let of_unix = std::iter::empty();
    of_tcp.chain(of_unix).chain(simulated).collect()
}

/// Lets a connection close when it is idle, perhaps now; the input so far is read first. Returns
/// `None` if it was not accepted.
fn begin<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) -> Option<Fate> {
    if !reactor[id].group.is_accepted() {
        return None;
    }
    // The kernel may hold data that the next poll has no room to report.
    reactor.send(id, LOOK_AND_READ);
    let now = reactor.stamp();
    let conn = &mut reactor[id];
    conn.facts |= fact::DRAINING;
    let is_idle = conn.is_idle();
    let grace = conn.group.close_grace;
    let was_busy = conn.last_traffic.is_some_and(|last| now < last.plus(grace));
    if is_idle && !was_busy && !conn.was_closed() {
        conn.facts |= fact::QUIET;
    }
    Some(if is_idle { Fate::Idle } else { Fate::Finished })
}

/// Adds a hook that calls the drain when all of its connections are gone, and then removes itself.
fn watch<S: 'static>(reactor: &mut Context<S>, id: SourceId<Drain>) {
    let own = Rc::new(Cell::new(None));
    let hook = own.clone();
    let look = move |reactor: &mut Context<S>, _: &mut S| {
        let Some(drain) = reactor.get_mut(id) else {
            hook.take().map(|hook| reactor.remove_hook(hook));
            return;
        };
        // The drain waits for all, so it is enough to look at one as long as that one is there.
        let mut left = mem::take(&mut drain.left);
        let mut report = drain.report;
        while let Some((conn, fate)) = left.pop_if(|(conn, _)| !reactor.contains(*conn)) {
            let _: SourceId<Conn> = conn;
            *match fate {
                Fate::Idle => &mut report.idle,
                Fate::Finished => &mut report.finished,
                Fate::Aborted => &mut report.aborted,
            } += 1;
        }
        if left.is_empty() {
            reactor.resume(id, Readiness::READABLE);
        }
        let drain = &mut reactor[id];
        (drain.left, drain.report) = (left, report);
    };
    own.set(Some(reactor.before_poll(look)));
}

/// The deadline has been reached: aborts all that are left.
fn abort<S: 'static>(reactor: &mut Context<S>, id: SourceId<Drain>) {
    let mut left = mem::take(&mut reactor[id].left);
    for (conn, fate) in &mut left {
        if let Some(conn) = reactor.get_mut(*conn) {
            conn.abort();
            *fate = Fate::Aborted;
        }
    }
    reactor[id].left = left;
}

impl Conn {
    /// Says that an answer is still to come, although nothing is unsent: a [`drain`] waits for it,
    /// and so does a half-open connection over TLS whose input was cut. For handlers that answer
    /// from a timer, a worker or another connection.
    pub fn hold(&mut self) {
        self.facts |= fact::HELD;
    }

    /// Ends a [`hold`](Conn::hold), however often that was called: the answer is written, or
    /// there will be none.
    pub fn release(&mut self) {
        self.facts &= !fact::HELD;
    }

    /// Returns true if nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        let unread = self.backlog.is_some() || self.io.has_more() || self.io.is_mid_message();
        let goes_on = self.sending.awaits_drained() || self.has(fact::HELD | fact::LINKED);
        self.is_sent() && !unread && !goes_on && !self.receiving.is_held()
    }

    /// Returns true if a close has begun to wait for the peer.
    pub(super) fn is_lingering(&self) -> bool {
        self.closing == Closing::Lingering
    }

    /// When the grace of its close began to run.
    pub(super) fn lingers_since(&self) -> Option<Stamp> {
        self.rare.as_ref()?.lingers_since
    }

    /// How long the close that has begun may take.
    pub(super) fn close_grace(&self) -> Duration {
        let grace = self.group.close_grace;
        match self.has(fact::DRAINING) && self.is_sent() {
            true if self.has(fact::QUIET) => grace.min(QUIET_LINGER_MAX),
            true => grace.min(LINGER_MAX),
            false => grace,
        }
    }

    /// Notes that bytes have passed. Those of a close do not count.
    #[inline]
    pub(super) fn forget_quiet(&mut self) {
        if self.closing == Closing::No {
            self.facts &= !fact::QUIET;
        }
    }

    /// Closes without waiting for the peer's FIN: both sides have closed in their own protocol.
    pub fn close_at_once(&mut self) {
        self.close();
        self.receiving = Receiving::Finished;
    }

    /// Returns true if it is being drained, and is idle by now.
    pub fn is_drained(&self) -> bool {
        let ends_anyway = self.was_closed() || self.has_failed();
        self.has(fact::DRAINING) && !ends_anyway && self.is_idle()
    }
}
