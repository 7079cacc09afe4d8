//! The loop's side of a connection: the steps that follow when its source is called.
//!
//! Knows the reactor and one connection; the same code drives accepted and connected ones.
//!
//! Each call takes the same steps:
//!
//! ```text
//!   deadline?   see which limit is up
//!   readable?   read and deliver, until drained, paused or over the turn's budget
//!   writable?   the kernel has room again
//!   settle      flush, Drained, FIN, arm the deadline; Closed if both halves have ended
//! ```
//!
//! Reading comes before writing. If a write then meets a reset, the bytes that the peer sent before
//! the reset have been read already.
//!
//! # Read next
//! `receive.rs`: how it reads.

use super::conn::Conn;
use super::cork::Cork;
use super::deadline::{arm, check_deadlines, needs_arming};
use super::event::Reason;
use super::handler::{HandlerFn, LINK_GONE, LOOK, LOOK_AND_READ, NUDGE};
use super::receive::{deliver, receive};
use super::relief::go_on;
use super::settle::{
    begins_to_linger, ends_with_peer, flush, is_drained_due, is_settled, keep_to_budget, settle,
};
use super::states::{Receiving, Sending, fact};
use crate::reactor::{Context, Readiness, SourceId};

/// If a connection is called for any of these, it is read.
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
    let (mut more, mut was_drained) = (false, false);
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
        was_drained = nudge(reactor, state, id, handler);
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
    // A handler that has sent something is called again when all is sent.
    let knows = was_drained && reactor.get(id).is_some_and(Conn::has_not_sent);
    settle(reactor, state, id, handler, (knows, more));
}

/// A limit may be up. Input that has come by now is read first. Returns true if more may be left.
fn see_deadlines<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    handler: &mut impl HandlerFn<S>,
) -> bool {
    let sent = reactor.get(id).is_some_and(Conn::is_sent);
    // The kernel may hold data that this turn's poll had no room to report (R3).
    let more = receive(reactor, state, id, LOOK_AND_READ, handler);
    if sent && reactor.get(id).is_some_and(|conn| conn.group.is_timed() && !conn.is_sent()) {
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
    let failed = ready.contains(Readiness::FAILED);
    let gone = match conn.receiving {
        // Of two descriptors, one hangs up when the input ends; the other has an error.
        Receiving::Finished | Receiving::Cut => {
            conn.may_be_half_open() && (conn.io.has_one_peer() || failed)
        }
        // A Unix socket hangs up also when its peer has closed in order.
        _ => conn.is_paused() && conn.has(fact::HELD) && (conn.io.is_tcp() || failed),
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
    if is_settled(conn, sent) {
        return;
    }
    if conn.receiving == Receiving::Resuming || conn.sending.has_failed() || begins_to_linger(conn)
    {
        reactor.send(id, LOOK_AND_READ);
    } else if conn.is_drained()
        || ends_with_peer(conn, handler)
        || is_drained_due(conn)
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
