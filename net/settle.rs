//! The last part of a call to a connection: six steps, from sending to the deadline.
//!
//! Knows one connection; how it sends is in `outbox.rs`.
//!
//! ```text
//!   1 send     bytes to the kernel; `Drained`, once in a turn, if there is room again
//!   2 close    our half, if the peer has finished or a drain has waited for this
//!   3 finish   FIN, when all is sent
//!   4 read     before `Closed`: the input that is left, if sending has failed
//!   5 end      `Closed`, if both halves have ended; it is the last step then
//!   6 go on    reading that was resumed; the grace of a close; the deadline
//! ```
//!
//! After most calls the connection is open and nothing is left: then the first step is the last.
//!
//! # Read next
//! `outbox.rs`: how it sends.

use std::io;
use std::mem;

use super::budget::BufferBudget;
use super::conn::Conn;
use super::cork::Cork;
use super::deadline::{arm, needs_arming};
use super::event::{Event, Reason};
use super::handler::{HandlerFn, LOOK, LOOK_AND_READ, NUDGE, call};
use super::relief::{await_budget, forget_budget, go_on, relieve};
use super::states::{Closing, Receiving, Sending, fact};
use super::transport::Carrier;
use crate::reactor::{Context, Kind, SourceId};

/// Takes step 1, and the other steps if anything is left to do. `seen` has two parts. `knows` is
/// true if the handler was nudged in this call because the connection is drained, and has sent
/// nothing. `more` is true if input was left for the next turn.
#[inline(always)]
pub(super) fn settle<S: 'static, H: HandlerFn<S>>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    handler: &mut H,
    seen: (bool, bool),
) {
    if !send(reactor, state, id, handler) {
        settle_rest(reactor, state, id, handler, seen);
    }
}

/// Steps 2 to 6.
fn settle_rest<S: 'static, H: HandlerFn<S>>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    handler: &mut H,
    (knows, more): (bool, bool),
) {
    close_if_due(reactor, id, handler, (knows, more));
    if finish(&mut reactor[id]) && reactor[id].io.has_own_unsent() {
        flush(reactor, id); // Notes that these bytes wait from now on.
    }
    if reads_first(reactor, id) {
        return;
    }
    if reactor[id].is_over() {
        return end(reactor, state, id, handler);
    }
    go_on_reading(reactor, id);
    let conn = &reactor[id];
    conn.check();
    if needs_arming(conn, conn.is_sent()) {
        arm(reactor, id);
    }
}

/// Step 1. Returns true if nothing else is left to do, or the connection has gone.
#[inline(always)]
fn send<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    handler: &mut impl HandlerFn<S>,
) -> bool {
    let mut has_delivered = false;
    loop {
        let Some(sent) = flush(reactor, id) else { return true };
        let conn = &mut reactor[id];
        let keeps = !sent || conn.backlog.is_some();
        let settled = !keeps && is_settled(conn, sent);
        if sent && let Some(cork) = conn.outbox.take() {
            let waited = !cork.lent;
            Cork::give_back(cork);
            if waited {
                go_on(reactor, id);
            }
        }
        if settled {
            return true;
        }
        if keeps {
            keep_to_budget(reactor, id);
        }
        let conn = &mut reactor[id];
        if is_settled(conn, sent) {
            conn.check();
            return true;
        }
        if !may_deliver_drained(reactor, id, &mut has_delivered) {
            return false;
        }
        call(reactor, state, id, Event::Drained, handler);
    }
}

/// Returns true if `Drained` is due and may be delivered now: once in a turn, since a handler that
/// fills the outbox each time must let others run.
fn may_deliver_drained<S: 'static>(
    reactor: &mut Context<S>,
    id: SourceId<Conn>,
    has_delivered: &mut bool,
) -> bool {
    let conn = &mut reactor[id];
    if !is_drained_due(conn) {
        return false;
    }
    if conn.group.buffers.as_ref().is_some_and(BufferBudget::is_full) {
        await_budget(reactor, id); // The refused bytes have no room yet.
        return false;
    }
    if mem::replace(has_delivered, true) {
        reactor.resume(id, LOOK);
        return false;
    }
    conn.sending = Sending::Open;
    true
}

/// Step 2.
fn close_if_due<S: 'static, H: HandlerFn<S>>(
    reactor: &mut Context<S>,
    id: SourceId<Conn>,
    handler: &H,
    (knows, more): (bool, bool),
) {
    let conn = &mut reactor[id];
    let drained = conn.is_drained() && !more;
    if drained && !conn.group.closes_itself() {
        conn.begin_close(); // It stays quiet if it was.
    } else if ends_with_peer(conn, handler) {
        conn.close();
    } else if drained && !knows {
        reactor.send(id, NUDGE); // Its handler closes it, or has a reason not to.
    }
}

/// Step 3. Returns true if this call has finished sending.
fn finish(conn: &mut Conn) -> bool {
    if conn.sending != Sending::Finishing || conn.unsent() > 0 {
        return false;
    }
    conn.sending = Sending::Finished;
    // Where the peer has finished too, close(2) sends the FIN.
    let needless = matches!(conn.io, Carrier::Tcp(_)) && conn.receiving == Receiving::Finished;
    if !needless
        && let Err(error) = conn.io.transport().finish()
        && error.kind() != io::ErrorKind::NotConnected
    {
        conn.fail(error.into());
    }
    true
}

/// Step 4. Returns true if input is to be read before `Closed`. While reading is paused, none is.
fn reads_first<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) -> bool {
    let conn = &mut reactor[id];
    if !conn.sending.has_failed() || conn.is_read_out() {
        return false;
    }
    if conn.is_paused() {
        conn.receiving = Receiving::Finished;
        return false;
    }
    reactor.send(id, LOOK_AND_READ)
}

/// Step 5.
fn end<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    handler: &mut impl HandlerFn<S>,
) {
    let conn = &mut reactor[id];
    // A handler may ask during `Closed` how many bytes were lost.
    let reason = conn.rare.as_mut().and_then(|rare| rare.reason.as_mut());
    let reason = reason.map(|reason| mem::replace(reason, Reason::Finished));
    forget_budget(reactor, id);
    let reason = reason.unwrap_or(Reason::Finished);
    reactor.remove(id);
    handler.call(reactor, state, id, Event::Closed(reason));
}

/// Step 6. Input that is there already causes no edge, so the connection calls itself.
fn go_on_reading<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    if reactor[id].receiving == Receiving::Resuming {
        reactor.send(id, LOOK_AND_READ); // Its own handler resumed it after this turn's reading.
    }
    if begins_to_linger(&reactor[id]) {
        reactor.send(id, LOOK_AND_READ);
        let now = reactor.stamp();
        let conn = &mut reactor[id];
        conn.closing = Closing::Lingering;
        conn.rare().lingers_since = Some(now);
        conn.facts &= !fact::ARMED;
    }
}

/// Returns true if nothing more is to be done: the connection is open, as after most events.
/// `sent` is true if all is sent.
#[inline]
pub(super) fn is_settled(conn: &Conn, sent: bool) -> bool {
    conn.sending == Sending::Open
        && conn.receiving < Receiving::Resuming
        && conn.closing == Closing::No
        && !conn.has(fact::SENT | fact::DRAINING)
        && !needs_arming(conn, sent)
}

/// Returns true if the input has ended and our half is to be closed, too: the connection may not
/// be half open, or the input was cut, its handler gets no `Eof` of a cut, and no answer comes.
pub(super) fn ends_with_peer<S, H: HandlerFn<S>>(conn: &Conn, _: &H) -> bool {
    let goes_on =
        !conn.is_cut() || H::EOF_AT_CUT || conn.has(fact::HELD) || conn.sending.awaits_drained();
    conn.is_read_out() && !conn.was_closed() && !(goes_on && conn.may_be_half_open())
}

/// Returns true if `Drained` is to be delivered, and there is room by now.
pub(super) fn is_drained_due(conn: &Conn) -> bool {
    match conn.sending {
        Sending::Full => conn.unsent() <= conn.group.outbox_bytes_low,
        Sending::FullToTheEnd => conn.unsent() == 0,
        _ => false,
    }
}

/// Returns true if the grace of its close is to begin.
pub(super) fn begins_to_linger(conn: &Conn) -> bool {
    conn.closing == Closing::Asked
}

/// Sends as much as the kernel takes, and notes the time of the traffic. Returns true if nothing is
/// left, `None` if the connection has gone. If a limit needs the time, the clock is read again:
/// callbacks may have taken long since the turn's `now`, and no limit may be up early.
#[inline]
pub(super) fn flush<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) -> Option<bool> {
    if reactor.is_observed() {
        return flush_observed(reactor, id);
    }
    flush_now(reactor, id)
}

#[inline(always)]
fn flush_now<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) -> Option<bool> {
    let notes = reactor.get(id)?.group.notes_traffic();
    let now = if notes { Some(reactor.stamp()) } else { None };
    let conn = reactor.get_mut(id)?;
    let sent = conn.flush(now);
    if !sent && conn.waits_unnoted() {
        let now = reactor.stamp();
        reactor[id].note_unsent(Some(now));
    }
    Some(sent)
}

/// [`flush`], and records what it has sent.
#[cold]
fn flush_observed<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) -> Option<bool> {
    let before = reactor.get(id)?.unsent();
    let sent = flush_now(reactor, id)?;
    let left = reactor.get(id)?.unsent();
    reactor.note_bytes(id.raw(), Kind::Sent, before.saturating_sub(left));
    Some(sent)
}

/// Counts the bytes that stay with the connection. If the budget is full, closes the largest
/// connections that share it.
#[cold]
pub(super) fn keep_to_budget<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    let conn = &mut reactor[id];
    match &conn.outbox {
        Some(outbox) if outbox.lent => conn.keep_outbox(),
        _ => conn.account(),
    }
    relieve(reactor, id);
}
