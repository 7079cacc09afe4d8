//! The loop's side of a connection: the steps that follow when its source is called.
//!
//! Knows the reactor and one connection; the same code drives accepted and connected ones.
//!
//! Each call goes the same way, however it came about:
//!
//! ```text
//!   deadline?   see which limit is up
//!   readable?   read and deliver, until drained, paused or over the turn's budget
//!   writable?   the kernel has room again
//!   settle      flush, Drained, FIN, arm the deadline; Closed if both halves have ended
//! ```
//!
//! Reading comes before writing, so that a reset met while writing cannot swallow bytes which the
//! peer sent before it.
//!
//! # Read next
//! `receive.rs`: how it reads.

use super::budget::{go_on, relieve};
use super::conn::Conn;
use super::cork::Cork;
use super::deadline::{arm, check_deadlines, needs_arming};
use super::event::{Event, Reason};
use super::receive::{deliver, receive};
use super::settle::{begins_to_linger, ends_with_peer, owes_drained, settle};
use super::states::{Receiving, Sending, fact};
use crate::reactor::{Context, RawId, Readiness, SourceId};

/// The readiness with which a connection resumes itself to reach `settle`.
pub(super) const LOOK: Readiness = Readiness::WRITABLE;
/// A message: read first, until the kernel has no more, since an edge may have been missed. It goes
/// on after a short read, as when the peer has closed.
pub(super) const LOOK_AND_READ: Readiness = Readiness::MESSAGES[0];
/// A message: the handler has more to do with input that it left. It gets `Data` with the backlog,
/// even if that is empty.
pub(super) const NUDGE: Readiness = Readiness::MESSAGES[1];
/// A message to an end of a link: the link has gone.
pub(super) const LINK_GONE: Readiness = Readiness::MESSAGES[2];
/// The readiness for which a connection is read.
const READS: Readiness =
    Readiness::READABLE.with(Readiness::READ_CLOSED).with(Readiness::ERROR).with(LOOK_AND_READ);

/// A connection's source is called.
pub(super) fn drive<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    ready: Readiness,
    handler: &mut impl HandlerFn<S>,
) {
    if ready.contains(Readiness::FLUSH) {
        return flush_outside(reactor, id, handler);
    }
    let (mut more, mut told) = (false, false);
    if ready.contains(Readiness::DEADLINE) {
        more |= see_deadlines(reactor, state, id, handler);
    }
    if ready.contains(LINK_GONE)
        && let Some(conn) = reactor.get_mut(id)
        && conn.has(fact::LINKED)
    {
        conn.abort();
    }
    if ready.contains(NUDGE) {
        told = nudge(reactor, state, id, handler);
    }
    if ready.is_writable()
        && let Some(conn) = reactor.get_mut(id)
    {
        conn.facts &= !fact::BLOCKED;
    }
    if ready.intersects(READS) {
        more |= receive(reactor, state, id, ready, handler);
    }
    if ready.contains(Readiness::HUNG_UP)
        && let Some(conn) = reactor.get_mut(id)
        && is_reset_unread(conn, ready)
    {
        conn.fail(Reason::Reset);
    }
    // If it has sent something in that call, it is called again when that is gone.
    let knows = told && reactor.get(id).is_some_and(Conn::has_not_sent);
    settle(reactor, state, id, handler, (knows, more));
}

/// A limit may be up; input that has come by now is read first. Returns true if more may be left.
fn see_deadlines<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    handler: &mut impl HandlerFn<S>,
) -> bool {
    let sent = reactor.get(id).is_some_and(Conn::is_sent);
    // The kernel may hold data that this turn's poll had no room to report (R3).
    let more = receive(reactor, state, id, LOOK_AND_READ, handler);
    if sent && reactor.get(id).is_some_and(|conn| conn.seat.is_timed() && !conn.is_sent()) {
        let now = reactor.stamp();
        reactor[id].begin_to_wait(Some(now)); // The new bytes have not waited yet.
    }
    check_deadlines(reactor, id);
    more
}

/// Returns true if the peer has reset the connection and no later read or event will report it.
/// This happens (1) after the peer's FIN, because a read returns 0 again, or (2) while reading is
/// paused and the handler still works on an answer (`hold`).
fn is_reset_unread(conn: &Conn, ready: Readiness) -> bool {
    let told = ready.contains(Readiness::FAILED);
    let gone = match conn.receiving {
        // Of two descriptors, one hangs up when the input ends; the other has an error.
        Receiving::Finished | Receiving::Cut => {
            conn.may_be_half_open() && (conn.io.is_one_peer() || told)
        }
        // A Unix socket hangs up also when its peer has closed in order.
        _ => conn.is_paused() && conn.has(fact::HELD) && (conn.io.is_tcp() || told),
    };
    gone && conn.sending.is_open() && conn.unsent() == 0
}

/// Delivers the backlog once more, for a handler that asked for it, even if reading is paused.
/// Returns true if the handler was called because it is drained.
fn nudge<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    handler: &mut impl HandlerFn<S>,
) -> bool {
    let Some(conn) = reactor.get(id) else { return false };
    let drained = conn.is_drained();
    if !conn.has(fact::LINKED) && !conn.is_closing() {
        deliver(reactor, state, id, &[], handler);
    }
    drained
}

/// Phase 1: another callback wrote to it, or closed, paused or resumed it. Its own handler runs
/// later, in dispatch.
fn flush_outside<S: 'static, H: HandlerFn<S>>(
    reactor: &mut Context<S>,
    id: SourceId<Conn>,
    handler: &H,
) {
    let Some(sent) = flush(reactor, id) else { return };
    let mut conn = &mut reactor[id];
    if !sent || conn.outbox.is_some() || conn.backlog.is_some() {
        keep_flushed(reactor, id, sent);
        conn = &mut reactor[id];
    }
    conn.check();
    if conn.receiving == Receiving::Resuming || conn.sending.has_failed() || begins_to_linger(conn)
    {
        reactor.send(id, LOOK_AND_READ);
    } else if conn.is_drained()
        || ends_with_peer(conn, handler)
        || owes_drained(conn)
        || conn.sending == Sending::Finishing
        || conn.is_over()
    {
        reactor.resume(id, LOOK);
    } else if needs_arming(conn, conn.is_sent()) {
        arm(reactor, id);
    }
}

/// Keeps with the connection the bytes that a flush from outside has left in its buffers.
fn keep_flushed<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>, sent: bool) {
    if sent && let Some(outbox) = reactor[id].outbox.take() {
        Cork::keep(outbox);
        go_on(reactor, id);
    }
    if !sent || reactor[id].backlog.is_some() {
        keep_to_budget(reactor, id);
    }
}

/// Sends as much as the kernel takes, and notes when bytes went and came. Returns true if nothing
/// is left, `None` if the connection has gone. If a limit needs the time, the clock is read again:
/// callbacks may have taken long since the turn's `now`, and so no limit is up early.
#[inline]
pub(super) fn flush<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) -> Option<bool> {
    let hears = reactor.get(id)?.seat.hears();
    let now = if hears { Some(reactor.stamp()) } else { None };
    let conn = reactor.get_mut(id)?;
    let sent = conn.flush(now);
    if !sent && conn.waits_unnoted() {
        let now = reactor.stamp();
        reactor[id].note_unsent(Some(now));
    }
    Some(sent)
}

/// Counts the bytes that stay with the connection, and closes the largest if the budget is full.
#[cold]
pub(super) fn keep_to_budget<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    let conn = &mut reactor[id];
    match &conn.outbox {
        Some(outbox) if outbox.lent => conn.keep_outbox(),
        _ => conn.account(),
    }
    relieve(reactor, id);
}

/// A connection's handler.
pub(super) trait HandlerFn<S> {
    /// True if it gets `Eof` also for an input that was cut, and checks which it was.
    const HEARS_CUTS: bool = false;

    /// Calls it. It may do anything to anything.
    fn call(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        event: Event<'_>,
    );
}

impl<S, F: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>)> HandlerFn<S> for F {
    #[inline]
    fn call(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        event: Event<'_>,
    ) {
        self(reactor, state, id, event);
    }
}

/// A handler of this library: it asks [`Conn::is_cut`] how the input has ended.
pub(super) struct HearsCuts<F>(pub(super) F);

impl<S, F: HandlerFn<S>> HandlerFn<S> for HearsCuts<F> {
    const HEARS_CUTS: bool = true;

    #[inline]
    fn call(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        event: Event<'_>,
    ) {
        self.0.call(reactor, state, id, event);
    }
}

/// Calls the handler with the loop's cork in place of an empty outbox.
#[inline]
pub(super) fn call<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    event: Event<'_>,
    handler: &mut impl HandlerFn<S>,
) {
    let cork = Cork::lend();
    let conn = &mut reactor[id];
    if conn.outbox.is_none() {
        conn.outbox = Some(cork);
    } else {
        Cork::give_back(cork);
    }
    let lent = Lent(reactor, id.raw());
    handler.call(lent.0, state, id, event);
}

/// The loop, lent to a handler. If the handler panics, its source is called again, since no edge
/// will come for the work that was left.
pub(super) struct Lent<'a, S: 'static>(pub(super) &'a mut Context<S>, pub(super) RawId);

impl<S: 'static> Drop for Lent<'_, S> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send(self.1, Readiness::READABLE | LOOK_AND_READ);
        }
    }
}
