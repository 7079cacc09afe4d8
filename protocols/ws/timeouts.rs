//! Timeouts, and pings to a silent peer.
//!
//! Knows ticks and one timer for each WebSocket, which does not hold the loop.
//!
//! Traffic neither re-arms the timer nor reads the clock: it leaves a mark, and the timer checks
//! for that mark when it fires.
//!
//! ```text
//!   check  input since the last check? ─▶ check again in ping_interval
//!          else pinged, and none of the unsent bytes has gone?
//!                                      ─▶ PongTimeout
//!          else                        ─▶ ping, and check again in pong_timeout
//! ```
//!
//! A ping waits behind the bytes that were sent before it. So a peer that reads slowly, but reads,
//! is not timed out.
//!
//! # Read next
//! `opening_handshake.rs`: how a WebSocket begins.

use std::cell::Cell;
use std::fmt;

use super::frame::Kind;
use super::outgoing;
use super::socket::{Socket, SocketState};
use super::socket_driver::fail;
use super::socket_event::Reason;
use super::violation::Violation;
use crate::net::Conn;
use crate::reactor::{Context, Priority};
use crate::timers::{Stamp, Tick, TimerId};

const NEVER: Tick = Tick::NEVER;

/// The next deadlines, in ticks.
pub(super) struct Timeouts {
    /// True if something has arrived since the last check.
    received: Cell<bool>,
    /// True if a ping was sent at the last check.
    pinged: Cell<bool>,
    /// Bytes that were written in all.
    written: Cell<u64>,
    /// How many of them had gone at the last check, if others had to wait.
    gone: Cell<Option<u64>>,
    /// When to check the peer next.
    next_check: Cell<Tick>,
    /// When the message that has begun must have ended.
    message: Cell<Tick>,
    /// When that message began.
    since: Cell<Option<Stamp>>,
    /// When the closing must have ended.
    close: Cell<Tick>,
    /// The timer, and the tick for which it is armed.
    timer: Cell<Option<(TimerId, Tick)>>,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            received: Cell::new(false),
            pinged: Cell::new(false),
            written: Cell::new(0),
            gone: Cell::new(None),
            next_check: Cell::new(NEVER),
            message: Cell::new(NEVER),
            since: Cell::new(None),
            close: Cell::new(NEVER),
            timer: Cell::new(None),
        }
    }
}

impl Timeouts {
    #[inline]
    pub(super) fn received(&self) {
        self.received.set(true);
    }

    /// Counts bytes that were handed to the connection.
    #[inline]
    pub(super) fn wrote(&self, bytes: usize) {
        self.written.set(self.written.get() + bytes as u64);
    }

    /// Notes how much has gone. True if it is more than at the last check, when some had to wait.
    fn has_taken(&self, conn: &Conn) -> bool {
        let gone = self.written.get().saturating_sub(conn.unsent() as u64);
        let waits = conn.waits_to_send(); // Not only for the turn's end.
        let before = self.gone.replace(waits.then_some(gone));
        before.is_some_and(|before| gone > before)
    }
}

impl fmt::Debug for Timeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeouts")
            .field("next_check", &self.next_check.get())
            .finish_non_exhaustive()
    }
}

/// It has been opened. Bytes that are unsent from before count as its own.
pub(super) fn opened<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let unsent = socket.conn_mut(reactor).map_or(0, |conn| conn.unsent());
    socket.0.timeouts.wrote(unsent);
    if let Some(interval) = socket.0.limits.ping_interval {
        socket.0.timeouts.next_check.set(reactor.tick_after(interval));
        arm(socket, reactor);
    }
}

/// A message that began at `since` has not ended; or there is none.
#[inline]
pub(super) fn in_message<S: 'static>(
    socket: &Socket,
    reactor: &mut Context<S>,
    since: Option<Stamp>,
) {
    let timeouts = &socket.0.timeouts;
    let Some((since, timeout)) = since.zip(socket.0.limits.message_timeout) else {
        timeouts.since.set(None);
        return timeouts.message.set(NEVER);
    };
    if timeouts.since.replace(Some(since)) != Some(since) {
        timeouts.message.set(reactor.tick_after(timeout));
        arm(socket, reactor);
    }
}

/// Reading goes on: while it was paused the peer could not end its message.
pub(super) fn resumed<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let message = &socket.0.timeouts.message;
    if let Some(timeout) = socket.0.limits.message_timeout
        && message.get() != NEVER
    {
        message.set(reactor.tick_after(timeout));
    }
}

/// It is closing: it must have ended `close_timeout` after the first call.
pub(super) fn closing<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let Timeouts { next_check, message, close, .. } = &socket.0.timeouts;
    next_check.set(NEVER);
    message.set(NEVER);
    if close.get() == NEVER {
        close.set(reactor.tick_after(socket.0.limits.close_timeout));
    }
    arm(socket, reactor);
}

/// The connection has gone.
pub(super) fn closed<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    if let Some((timer, _)) = socket.0.timeouts.timer.take() {
        reactor.cancel(timer);
    }
}

/// Arms the timer for the first deadline, unless it is armed for that or an earlier one.
fn arm<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let Timeouts { next_check, message, close, timer, .. } = &socket.0.timeouts;
    let due = next_check.get().min(message.get()).min(close.get());
    let armed = timer.get();
    if due == NEVER || armed.is_some_and(|(_, at)| at <= due) {
        return;
    }
    if let Some((id, _)) = armed
        && reactor.rearm_at(id, due)
    {
        return timer.set(Some((id, due)));
    }
    let watched = socket.clone();
    let id = reactor.at_tick(due, move |reactor, _| {
        watched.0.timeouts.timer.set(None);
        on_timer(watched, reactor);
    });
    reactor.unref(id);
    timer.set(Some((id, due)));
}

/// The timer has fired. Input that has come by then counts, and the poll may have had no room to
/// report it (R3): it is read first.
fn on_timer<S: 'static>(socket: Socket, reactor: &mut Context<S>) {
    if let Some(id) = socket.conn().filter(|id| reactor.contains(*id)) {
        id.look(reactor);
        reactor.enqueue(Priority::Low, move |reactor, _| check(&socket, reactor));
    }
}

/// Acts on the deadlines that have passed.
fn check<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let tick = reactor.tick();
    let Timeouts { next_check, message, close, .. } = &socket.0.timeouts;
    let Some(conn) = socket.conn_mut(reactor) else { return };
    if close.get() <= tick {
        conn.abort();
        return socket.end_with(Reason::CloseTimeout); // Unless a reason was noted before.
    }
    // Reading is held up by us, or was until now.
    let paused = conn.is_reading_held();
    if message.get() <= tick {
        if !paused {
            return fail(socket, reactor, Reason::Violation(Violation::TooSlow));
        }
        resumed(socket, reactor); // The peer is not slow: we did not read.
    }
    if next_check.get() <= tick && socket.0.state.get() == SocketState::Open {
        check_peer(socket, reactor, paused);
    }
    arm(socket, reactor);
}

/// Checks that the peer is alive; while `paused`, it cannot show that.
fn check_peer<S: 'static>(socket: &Socket, reactor: &mut Context<S>, paused: bool) {
    let limits = &socket.0.limits;
    let Timeouts { received, pinged, next_check, .. } = &socket.0.timeouts;
    let interval = limits.ping_interval.unwrap_or_default();
    let Some(conn) = socket.conn_mut(reactor) else { return };
    let taken = socket.0.timeouts.has_taken(conn);
    if received.take() || paused {
        pinged.set(false);
        next_check.set(reactor.tick_after(interval));
    } else if pinged.get() && !taken {
        conn.abort();
        next_check.set(NEVER);
        socket.end_with(Reason::PongTimeout);
    } else {
        // If refused, it goes at the next check, if the peer has taken something until then.
        let _ = outgoing::frame(socket, conn, Kind::Ping, b"");
        pinged.set(true);
        next_check.set(reactor.tick_after(limits.pong_timeout));
    }
}
