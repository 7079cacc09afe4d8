//! Time: pings to a silent peer, and timeouts.
//!
//! Knows ticks and one timer for each WebSocket, which does not hold the loop.
//!
//! Traffic neither re-arms the timer nor asks for the time: it leaves a mark. When the timer fires,
//! it looks for that mark.
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
//! `handshake.rs`: how it begins.

use std::cell::Cell;
use std::fmt;

use super::drive::fail;
use super::event::Reason;
use super::fault::Fault;
use super::frame::Kind;
use super::send;
use super::socket::{Phase, Socket};
use crate::net::Conn;
use crate::reactor::{Context, Priority};
use crate::timers::{Stamp, Tick, TimerId};

const NEVER: Tick = Tick::NEVER;

/// The next deadlines, in ticks.
pub(super) struct Watch {
    /// True if something has arrived since the last check.
    heard: Cell<bool>,
    /// True if a ping was sent at the last check.
    pinged: Cell<bool>,
    /// Bytes that were written, ever.
    written: Cell<u64>,
    /// How many of them had gone at the last check, if others had to wait.
    gone: Cell<Option<u64>>,
    /// When to check the peer next.
    look: Cell<Tick>,
    /// When the message that has begun must have ended.
    message: Cell<Tick>,
    /// When that message began.
    since: Cell<Option<Stamp>>,
    /// When the closing must have ended.
    close: Cell<Tick>,
    /// The timer, and what it is armed for.
    timer: Cell<Option<(TimerId, Tick)>>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            heard: Cell::new(false),
            pinged: Cell::new(false),
            written: Cell::new(0),
            gone: Cell::new(None),
            look: Cell::new(NEVER),
            message: Cell::new(NEVER),
            since: Cell::new(None),
            close: Cell::new(NEVER),
            timer: Cell::new(None),
        }
    }
}

impl Watch {
    #[inline]
    pub(super) fn heard(&self) {
        self.heard.set(true);
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

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("look", &self.look.get()).finish_non_exhaustive()
    }
}

/// It has been opened. Bytes that are unsent from before count as its own.
pub(super) fn opened<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let unsent = socket.conn_mut(reactor).map_or(0, |conn| conn.unsent());
    socket.0.watch.wrote(unsent);
    if let Some(interval) = socket.0.limits.ping_interval {
        socket.0.watch.look.set(reactor.tick_after(interval));
        arm(socket, reactor);
    }
}

/// A message that began at `since` has not ended; or there is none.
#[inline]
pub(super) fn amid<S: 'static>(socket: &Socket, reactor: &mut Context<S>, since: Option<Stamp>) {
    let watch = &socket.0.watch;
    let Some((since, timeout)) = since.zip(socket.0.limits.message_timeout) else {
        watch.since.set(None);
        return watch.message.set(NEVER);
    };
    if watch.since.replace(Some(since)) != Some(since) {
        watch.message.set(reactor.tick_after(timeout));
        arm(socket, reactor);
    }
}

/// Reading goes on: while it was paused the peer could not end its message.
pub(super) fn resumed<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let message = &socket.0.watch.message;
    if let Some(timeout) = socket.0.limits.message_timeout
        && message.get() != NEVER
    {
        message.set(reactor.tick_after(timeout));
    }
}

/// It is closing: it must have ended `close_timeout` after the first call.
pub(super) fn closing<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let Watch { look, message, close, .. } = &socket.0.watch;
    look.set(NEVER);
    message.set(NEVER);
    if close.get() == NEVER {
        close.set(reactor.tick_after(socket.0.limits.close_timeout));
    }
    arm(socket, reactor);
}

/// The connection has gone.
pub(super) fn closed<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    if let Some((timer, _)) = socket.0.watch.timer.take() {
        reactor.cancel(timer);
    }
}

/// Arms the timer for the first deadline, unless it is armed for that or an earlier one.
fn arm<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let Watch { look, message, close, timer, .. } = &socket.0.watch;
    let due = look.get().min(message.get()).min(close.get());
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
        watched.0.watch.timer.set(None);
        ring(watched, reactor);
    });
    reactor.unref(id);
    timer.set(Some((id, due)));
}

/// The timer has fired. Input that has come by then counts, and the poll may have had no room to
/// report it (R3): it is read first.
fn ring<S: 'static>(socket: Socket, reactor: &mut Context<S>) {
    if let Some(id) = socket.conn().filter(|id| reactor.contains(*id)) {
        id.look(reactor);
        reactor.enqueue(Priority::Low, move |reactor, _| come_up(&socket, reactor));
    }
}

/// Acts on the deadlines that have passed.
fn come_up<S: 'static>(socket: &Socket, reactor: &mut Context<S>) {
    let tick = reactor.tick();
    let Watch { look, message, close, .. } = &socket.0.watch;
    let Some(conn) = socket.conn_mut(reactor) else { return };
    if close.get() <= tick {
        conn.abort();
        return socket.end_with(Reason::CloseTimeout); // Unless a reason was noted before.
    }
    // Reading is held up by us, or was until now.
    let paused = conn.is_reading_held();
    if message.get() <= tick {
        if !paused {
            return fail(socket, reactor, Reason::Fault(Fault::TooSlow));
        }
        resumed(socket, reactor); // It is not the peer who is slow.
    }
    if look.get() <= tick && socket.0.phase.get() == Phase::Open {
        look_after(socket, reactor, paused);
    }
    arm(socket, reactor);
}

/// Checks that the peer is alive; while `paused`, it cannot show that.
fn look_after<S: 'static>(socket: &Socket, reactor: &mut Context<S>, paused: bool) {
    let limits = &socket.0.limits;
    let Watch { heard, pinged, look, .. } = &socket.0.watch;
    let interval = limits.ping_interval.unwrap_or_default();
    let Some(conn) = socket.conn_mut(reactor) else { return };
    let taken = socket.0.watch.has_taken(conn);
    if heard.take() || paused {
        pinged.set(false);
        look.set(reactor.tick_after(interval));
    } else if pinged.get() && !taken {
        conn.abort();
        look.set(NEVER);
        socket.end_with(Reason::PongTimeout);
    } else {
        // If refused, it goes at the next check, if the peer has taken something until then.
        let _ = send::frame(socket, conn, Kind::Ping, b"");
        pinged.set(true);
        look.set(reactor.tick_after(limits.pong_timeout));
    }
}
