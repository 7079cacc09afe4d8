//! The readable half of a call: from the kernel to the handler.
//!
//! Knows one connection and its backlog; `drive.rs` decides when to read.
//!
//! # Read next
//! `outbox.rs`: how the answer leaves.

use std::io;

use super::budget::await_budget;
use super::conn::{Backlog, Conn, Half, SOON, mark};
use super::drive::{HandlerFn, LOOK_AND_READ, call};
use super::event::{Event, Reason};
use crate::reactor::{Context, Readiness, SCRATCH_BYTES, SourceId};

/// The readiness for which it is read until the kernel has no more, not only until a short read:
/// the end may come after that, or an edge may have been missed.
const TO_THE_END: Readiness = Readiness::READ_CLOSED
    .with(Readiness::WRITE_CLOSED)
    .with(Readiness::ERROR)
    .with(Readiness::DEADLINE)
    .with(LOOK_AND_READ);

/// Reads and delivers until the kernel has no more, the handler pauses, or the turn's budget is
/// spent. Returns true for the last: there may be more.
pub(super) fn receive<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    ready: Readiness,
    handler: &mut impl HandlerFn<S>,
) -> bool {
    let callbacks = reactor.batch_len();
    let Some(conn) = reactor.get_mut(id) else { return false };
    let mut budget = conn.seat.read_bytes_in_turn(callbacks);
    // If sending fails only during these reads, more may have arrived since the last one.
    let mut last_words = conn.has(mark::LAST_WORDS);
    if conn.has(mark::RESUMED) {
        // The read timeout begins again; it may not even be armed.
        conn.marks &= !mark::RESUMED;
        if !conn.is_lingering() && !conn.has(mark::SLOWED_IN) {
            conn.progress = SOON;
        }
        conn.marks &= !mark::ARMED;
        // One taken out of the loop while paused is still paused; it may also be aborted since.
        if conn.backlog.is_some() && !conn.has(mark::PAUSED) && !conn.is_closing() {
            deliver(reactor, state, id, &[], handler);
        }
    }
    // After a short read the kernel has no more. It is read again if the peer has closed, which the
    // next read reports, and on Windows, where only `WouldBlock` arms the next edge.
    let to_the_end = cfg!(windows) || ready.intersects(TO_THE_END);
    let mut now = None;
    loop {
        let Some(conn) = reactor.get_mut(id) else { return false };
        if conn.receiving != Half::Open {
            return false;
        }
        if conn.has(mark::PAUSED) && !conn.has(mark::CLOSING) {
            return false; // Resuming reads to the end.
        }
        if budget == 0 {
            let on = if to_the_end { LOOK_AND_READ } else { Readiness::READABLE };
            reactor.send(id.raw(), on);
            return true;
        }
        if conn.waits_for_budget() {
            await_budget(reactor, id);
            return false; // Called again when the budget has room, or when it has sent all.
        }
        let mut room = budget.min(SCRATCH_BYTES);
        if conn.seat.read_rate.is_some() {
            let now = *now.get_or_insert_with(|| reactor.stamp()); // Once for all of these reads.
            let Some(most) = reactor[id].may_read(now, room) else { return false };
            room = most;
        }
        let mut scratch = reactor.take_scratch();
        let io = &mut reactor[id].io;
        let read = io.read(&mut scratch[..room]);
        let short = matches!(read, Ok(count) if count < room) && !to_the_end && !io.has_more();
        let drained = match read {
            Ok(0) => {
                end_of_input(reactor, state, id, Half::Finished, handler);
                true
            }
            Ok(count) => {
                budget -= count;
                deliver(reactor, state, id, &scratch[..count], handler);
                short
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let conn = &mut reactor[id];
                if conn.io.has_heard() && conn.seat.hears() {
                    conn.heard = SOON;
                }
                if conn.io.has_more() {
                    // Much input and nothing to deliver: others get their turn first.
                    reactor.send(id.raw(), LOOK_AND_READ);
                    last_words = false; // The last words are still to come.
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                input_is_cut(reactor, state, id, error, handler);
                true
            }
            Err(error) => {
                reactor[id].fail(error.into());
                true
            }
        };
        reactor.put_scratch(scratch);
        if drained {
            break;
        }
    }
    if last_words && let Some(conn) = reactor.get_mut(id) {
        conn.receiving = Half::Finished;
    }
    false
}

/// Hands bytes to the handler, behind those it gave back before, and keeps what it gives back now.
pub(super) fn deliver<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    new: &[u8],
    handler: &mut impl HandlerFn<S>,
) {
    let conn = &mut reactor[id];
    if conn.seat.hears() {
        conn.heard = SOON;
    }
    if conn.has(mark::CLOSING | mark::DRAINING) {
        if conn.has(mark::CLOSING) {
            return;
        }
        conn.forget_quiet();
    }
    if let Some(rate) = &conn.seat.read_rate {
        rate.spend(new.len());
    }
    conn.kept = 0;
    let mut backlog = conn.backlog.take();
    let bytes = match &mut backlog {
        Some(backlog) => {
            backlog.bytes.extend_from_slice(new);
            &backlog.bytes[backlog.consumed..]
        }
        None => new,
    };
    call(reactor, state, id, Event::Data(bytes), handler);
    let Some(conn) = reactor.get_mut(id) else { return };
    let count = bytes.len();
    let kept = count.min(conn.kept as usize);
    if kept < count && !conn.has(mark::SLOWED_IN) {
        conn.progress = SOON;
    }
    if kept > conn.seat.backlog_bytes_max && !conn.has(mark::PAUSED) {
        conn.io.transport().reset_on_drop();
        return conn.fail(Reason::Backlog);
    }
    if kept == 0 {
        return;
    }
    let mut backlog = match backlog {
        Some(backlog) => backlog,
        None => Box::new(Backlog { bytes: new[count - kept..].to_vec(), ..Backlog::default() }),
    };
    backlog.consumed = backlog.bytes.len() - kept;
    // Moved to the front when that moves less than was consumed: each byte moves once at most.
    if backlog.consumed > kept {
        backlog.bytes.drain(..backlog.consumed);
        backlog.consumed = 0;
    }
    conn.backlog = Some(backlog);
}

/// The input has ended, but anybody on the way could have caused that end. `Closed` reports it,
/// after the bytes before it were answered.
fn input_is_cut<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    why: io::Error,
    handler: &mut impl HandlerFn<S>,
) {
    let conn = &mut reactor[id];
    if conn.has(mark::CLOSING) {
        // The input is discarded, so it does not matter if it was complete.
        end_of_input(reactor, state, id, Half::Finished, handler);
    } else if conn.has(mark::LAST_WORDS) {
        conn.fail(why.into()); // There is nobody to answer.
    } else {
        conn.end_with(why.into());
        end_of_input(reactor, state, id, Half::Cut, handler);
    }
}

/// The peer has finished, or its input was cut. Our half follows in `settle`, even if the handler
/// panics, unless the connection may stay half open.
fn end_of_input<S: 'static, H: HandlerFn<S>>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    end: Half,
    handler: &mut H,
) {
    let conn = &mut reactor[id];
    conn.receiving = end;
    conn.kept = 0;
    let tells =
        !conn.has(mark::CLOSING | mark::CUT_OFF) && (end == Half::Finished || H::HEARS_CUTS);
    let shown = Shown(reactor, id);
    if tells {
        call(shown.0, state, id, Event::Eof, handler);
    }
}

/// The backlog of a finished stream: shown to `Eof`, and gone after it, even if that panics. Bytes
/// that the handler gave back wait for a [`NUDGE`](super::drive::NUDGE).
struct Shown<'a, S: 'static>(&'a mut Context<S>, SourceId<Conn>);

impl<S: 'static> Drop for Shown<'_, S> {
    fn drop(&mut self) {
        let Some(conn) = self.0.get_mut(self.1) else { return };
        let kept = conn.kept as usize;
        match &mut conn.backlog {
            Some(backlog) if kept > 0 => {
                let first = backlog.bytes.len().saturating_sub(kept);
                backlog.consumed = backlog.consumed.max(first);
            }
            _ => conn.backlog = None,
        }
    }
}
