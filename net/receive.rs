//! The readable half of a call: from the kernel to the handler.
//!
//! Knows one connection and its backlog; `drive.rs` decides when to read.
//!
//! # Read next
//! `settle.rs`: the steps that follow.

use std::io;

use super::conn::{Backlog, Conn, SOON};
use super::event::{Event, Reason};
use super::handler::{HandlerFn, LOOK_AND_READ, call};
use super::relief::await_budget;
use super::states::{Receiving, Sending, fact};
use crate::reactor::{Context, Kind, Readiness, SCRATCH_BYTES, SourceId};
use crate::timers::Stamp;

/// If a connection is called for any of these, it is read until the kernel has no more, even after
/// a short read: the end of the input may follow, or an edge may have been missed.
const TO_THE_END: Readiness = Readiness::READ_CLOSED
    .with(Readiness::WRITE_CLOSED)
    .with(Readiness::ERROR)
    .with(Readiness::DEADLINE)
    .with(LOOK_AND_READ);

/// Reads and delivers until the kernel has no more, the handler pauses, or the turn's budget is
/// spent. Returns true if the budget is spent: there may be more.
pub(super) fn receive<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    ready: Readiness,
    handler: &mut impl HandlerFn<S>,
) -> bool {
    let callbacks = reactor.batch_len();
    let Some(conn) = reactor.get_mut(id) else { return false };
    let mut reading = Reading {
        left: conn.group.read_bytes_in_turn(callbacks),
        // After a short read the kernel has no more. It is asked again if the peer has closed,
        // which the next read reports, and on Windows, where only `WouldBlock` arms the next edge.
        to_the_end: cfg!(windows) || ready.intersects(TO_THE_END),
        // If sending fails only while this reads, more may have arrived since the last read.
        last_words: conn.sending.has_failed(),
        now: None,
    };
    if conn.receiving == Receiving::Resuming {
        deliver_resumed(reactor, state, id, handler);
    }
    loop {
        match reading.room(reactor, id) {
            Room::Bytes(room) => {
                if reading.read(reactor, state, id, room, handler) {
                    break;
                }
            }
            Room::NotNow => return false,
            Room::NextTurn => return true,
        }
    }
    if reading.last_words
        && let Some(conn) = reactor.get_mut(id)
    {
        conn.receiving = Receiving::Finished;
    }
    false
}

/// Reading was resumed: the bytes that were given back before the pause are delivered once more,
/// and the read timeout, which may not even be armed, starts from zero.
fn deliver_resumed<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    handler: &mut impl HandlerFn<S>,
) {
    let conn = &mut reactor[id];
    conn.receiving = Receiving::Open;
    conn.progress = SOON;
    conn.facts &= !fact::ARMED;
    if conn.backlog.is_some() && !conn.is_closing() {
        deliver(reactor, state, id, &[], handler);
    }
}

/// The reads of one call.
struct Reading {
    /// Bytes that may still be read in this turn.
    left: usize,
    /// True if a short read is not the last one.
    to_the_end: bool,
    /// True if sending has failed: the input that the kernel still has is the last.
    last_words: bool,
    /// The time, once a rate has asked for it: one time for all of these reads.
    now: Option<Stamp>,
}

/// The room for the next read.
enum Room {
    /// At most so many bytes.
    Bytes(usize),
    /// None. The connection is called again when that has changed.
    NotNow,
    /// None in this turn: the other sources are called first.
    NextTurn,
}

impl Reading {
    /// Returns the room for the next read.
    #[inline(always)]
    fn room<S: 'static>(&mut self, reactor: &mut Context<S>, id: SourceId<Conn>) -> Room {
        let Some(conn) = reactor.get_mut(id) else { return Room::NotNow };
        if conn.is_read_out() || conn.is_paused() {
            return Room::NotNow; // Resuming reads to the end.
        }
        if self.left == 0 {
            let on = if self.to_the_end { LOOK_AND_READ } else { Readiness::READABLE };
            reactor.send(id, on);
            return Room::NextTurn;
        }
        if conn.waits_for_budget() {
            await_budget(reactor, id);
            return Room::NotNow; // Called again when more is left, or when all of this is sent.
        }
        let room = self.left.min(SCRATCH_BYTES);
        if conn.group.read_rate.is_none() {
            return Room::Bytes(room);
        }
        let now = *self.now.get_or_insert_with(|| reactor.stamp());
        reactor[id].may_read(now, room).map_or(Room::NotNow, Room::Bytes)
    }

    /// Reads once, and delivers. Returns true if the kernel has no more.
    #[inline(always)]
    fn read<S: 'static>(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        room: usize,
        handler: &mut impl HandlerFn<S>,
    ) -> bool {
        let mut scratch = reactor.take_scratch();
        let io = &mut reactor[id].io;
        let read = io.read(&mut scratch[..room]);
        let drained = match read {
            Ok(0) => {
                end_of_input(reactor, state, id, Receiving::Finished, handler);
                true
            }
            Ok(count) => {
                let short = count < room && !self.to_the_end && !io.has_more();
                self.left -= count;
                reactor.note_bytes(id.raw(), Kind::Received, count);
                deliver(reactor, state, id, &scratch[..count], handler);
                short
            }
            Err(error) => self.no_bytes(reactor, state, id, error, handler),
        };
        reactor.put_scratch(scratch);
        drained
    }

    /// A read has returned an error. Returns true if the kernel has no more.
    fn no_bytes<S: 'static>(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        error: io::Error,
        handler: &mut impl HandlerFn<S>,
    ) -> bool {
        let conn = &mut reactor[id];
        match error.kind() {
            io::ErrorKind::Interrupted => return false,
            io::ErrorKind::WouldBlock => {
                if conn.io.has_received() && conn.group.notes_traffic() {
                    conn.last_traffic = SOON;
                }
                if conn.io.has_more() {
                    // Much input and nothing to deliver: the other sources are called first.
                    reactor.send(id, LOOK_AND_READ);
                    self.last_words = false; // The last words are still to come.
                }
            }
            io::ErrorKind::UnexpectedEof => input_is_cut(reactor, state, id, error, handler),
            _ => conn.fail(error.into()),
        }
        true
    }
}

/// Hands bytes to the handler, behind those it gave back before, and keeps those it gives back now.
pub(super) fn deliver<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    new: &[u8],
    handler: &mut impl HandlerFn<S>,
) {
    let conn = &mut reactor[id];
    if conn.group.notes_traffic() {
        conn.last_traffic = SOON;
    }
    if conn.was_closed() {
        return;
    }
    conn.forget_quiet();
    if let Some(rate) = &conn.group.read_rate {
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
    if kept < count {
        conn.progress = SOON;
    }
    if kept > conn.group.backlog_bytes_max && !conn.is_paused() && !conn.was_closed() {
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
    // The kept bytes move to the front if they are fewer than the consumed ones: so each byte moves
    // once at most.
    if backlog.consumed > kept {
        backlog.bytes.drain(..backlog.consumed);
        backlog.consumed = 0;
    }
    conn.backlog = Some(backlog);
}

/// The input has ended, but the peer did not announce it: an attacker on the path may have caused
/// the end. `Closed` reports it, after the bytes before it were answered.
fn input_is_cut<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    why: io::Error,
    handler: &mut impl HandlerFn<S>,
) {
    let conn = &mut reactor[id];
    if conn.was_closed() {
        // The input is discarded, so it does not matter if it was complete.
        end_of_input(reactor, state, id, Receiving::Finished, handler);
    } else if conn.sending.has_failed() {
        conn.fail(why.into()); // No answer can be sent.
    } else {
        conn.end_with(why.into());
        end_of_input(reactor, state, id, Receiving::Cut, handler);
    }
}

/// The peer has finished, or its input was cut. Our half follows in `settle`, even if the handler
/// panics, unless the connection may stay half open.
fn end_of_input<S: 'static, H: HandlerFn<S>>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    end: Receiving,
    handler: &mut H,
) {
    let conn = &mut reactor[id];
    conn.receiving = end;
    conn.kept = 0;
    let delivers = !conn.was_closed()
        && conn.sending != Sending::Reset
        && (end == Receiving::Finished || H::EOF_AT_CUT);
    reactor.lend(
        (),
        |reactor, (), _| keep_given_back(reactor, id),
        |reactor, ()| {
            if delivers {
                call(reactor, state, id, Event::Eof, handler);
            }
        },
    );
}

/// Drops the backlog after `Eof`, even if the handler has panicked. The bytes that it gave back in
/// `Eof` stay, and are delivered again by a [`NUDGE`](super::handler::NUDGE).
fn keep_given_back<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    let Some(conn) = reactor.get_mut(id) else { return };
    let kept = conn.kept as usize;
    match &mut conn.backlog {
        Some(backlog) if kept > 0 => {
            let first = backlog.bytes.len().saturating_sub(kept);
            backlog.consumed = backlog.consumed.max(first);
        }
        _ => conn.backlog = None,
    }
}
