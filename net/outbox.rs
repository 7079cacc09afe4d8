//! The outbox: how a connection's bytes leave.
//!
//! Knows one connection and its transport; when to flush it is decided in `drive.rs`.
//!
//! What is written collects, and leaves when the callback ends: ten small writes are one system
//! call. What the kernel does not take then stays, up to a limit, until it says that it has room.
//!
//! # Read next
//! `deadline.rs`: the limits on its time.

use std::io::{self, IoSlice};

use super::budget::BufferBudget;
use super::conn::{Conn, Half, SOON, mark};
use super::event::Pressure;
use crate::reactor::Cork;
use crate::timers::Stamp;

/// Bytes from which a write does not wait for the callback's end: with this much to send, a system
/// call more costs less than copying it.
pub(super) const WRITE_THROUGH_BYTES: usize = 16 * 1024;

impl Conn {
    /// Takes all of the bytes or none; from `through` unsent on they are offered to the kernel.
    #[inline]
    pub fn put(&mut self, bytes: &[u8], through: usize) -> Pressure {
        if !self.admits(bytes.len()) {
            return self.refusal();
        }
        // The rate is asked in `flush`, which knows the time.
        let later = self.has(mark::BLOCKED) || self.seat.write_rate.is_some();
        let through = self.unsent() + bytes.len() >= through && !later;
        let taken = if through { self.write_through(bytes) } else { 0 };
        if taken < bytes.len() {
            let outbox = self.outbox.get_or_insert_with(Cork::spare);
            outbox.bytes.extend(&bytes[taken..]);
            if !outbox.lent {
                return self.put_aside();
            }
        }
        if self.unsent() > self.seat.outbox_bytes_high {
            self.marks |= mark::ABOVE;
            return Pressure::AboveHigh;
        }
        Pressure::Below
    }

    /// The bytes wait in a buffer of this connection's own.
    fn put_aside(&mut self) -> Pressure {
        self.account();
        if self.unsent() > self.seat.outbox_bytes_high {
            self.marks |= mark::ABOVE;
            return Pressure::AboveHigh;
        }
        if self.seat.buffers.as_ref().is_some_and(BufferBudget::is_tight) {
            self.marks |= mark::ABOVE | mark::WHOLE; // `Drained` when all of it is sent.
            return Pressure::AboveHigh;
        }
        Pressure::Below
    }

    /// Whether so many bytes will be taken now, be it in several writes. If there only is no room
    /// for them now, `Drained` will be told when there is.
    #[inline]
    pub fn admits(&mut self, count: usize) -> bool {
        if self.sending != Half::Open {
            return false;
        }
        let max = self.seat.outbox_bytes_max;
        let mut admits = self.unsent() + count <= max;
        if admits && !self.has_budget(count) && !self.make_room(count) {
            self.marks |= mark::ABOVE | mark::WHOLE;
            admits = false;
        } else if !admits {
            self.marks |= match count {
                // `Drained` would be a lie where it could never fit, and at the low-water mark
                // where it does not fit yet.
                count if count > max => 0,
                count if count > max.saturating_sub(self.seat.outbox_bytes_low) => {
                    mark::ABOVE | mark::WHOLE
                }
                _ => mark::ABOVE,
            };
        }
        admits
    }

    /// Returns true if what all may buffer allows so many bytes more. What will probably leave at the
    /// next flush is not asked: what goes into the loop's own cork, and a little of a connection that
    /// has nothing unsent. So those who read are not refused for the sake of those who do not.
    #[inline]
    fn has_budget(&self, count: usize) -> bool {
        if self.outbox.as_ref().is_some_and(|outbox| outbox.lent) {
            return true;
        }
        let Some(budget) = &self.seat.buffers else { return true };
        budget.has_room(count) || self.unsent() == 0 && count <= WRITE_THROUGH_BYTES
    }

    /// Offers what is unsent to the kernel now, not with the next flush: a callback that writes much
    /// to many must not make those who read look like those who do not. Returns true if there is
    /// room then.
    #[cold]
    fn make_room(&mut self, count: usize) -> bool {
        while self.unsent() > 0 && !self.has(mark::BLOCKED) && self.seat.write_rate.is_none() {
            let Some(sent) = self.write_once(&[], usize::MAX) else { return false };
            if let Some(outbox) = &mut self.outbox {
                outbox.bytes.drain(..sent);
            }
        }
        self.sending == Half::Open && self.has_budget(count)
    }

    /// The answer to a write that was not admitted.
    #[inline]
    pub fn refusal(&self) -> Pressure {
        if self.sending == Half::Open { Pressure::Refused } else { Pressure::Closed }
    }

    /// Takes all of the pieces or none, as one write would.
    pub fn write_all(&mut self, pieces: &[&[u8]]) -> Pressure {
        if !self.admits(pieces.iter().map(|piece| piece.len()).sum()) {
            return self.refusal();
        }
        pieces.iter().fold(Pressure::Below, |_, piece| self.write(piece))
    }

    /// Takes a few bytes that end a message, beyond the limit if need be.
    pub fn write_last(&mut self, bytes: &[u8]) {
        if self.sending == Half::Open {
            self.outbox.get_or_insert_with(Cork::spare).bytes.extend(bytes);
        }
    }

    /// Asks for `Drained` although nothing was refused: whoever holds something back wants to know
    /// when there is room. It comes at once where there is.
    pub fn ask_for_drained(&mut self) {
        self.marks |= mark::ABOVE;
    }

    /// Writes the outbox and `bytes` behind it; answers how many of `bytes` the kernel took.
    fn write_through(&mut self, bytes: &[u8]) -> usize {
        let unsent = self.unsent();
        match self.write_once(bytes, usize::MAX) {
            Some(sent) => {
                let own = sent.min(unsent);
                if let Some(outbox) = &mut self.outbox {
                    outbox.bytes.drain(..own);
                }
                sent - own
            }
            // Failed: told by `Closed`. The bytes go the way of those in the outbox.
            None => {
                self.lose(bytes.len());
                bytes.len()
            }
        }
    }

    /// Notes for the write timeout since when there is something to send, unless that is known.
    #[inline]
    pub(super) fn note_unsent(&mut self, now: Option<Stamp>) {
        if let Some(outbox) = &mut self.outbox
            && outbox.since.is_none()
        {
            outbox.since = now;
        }
    }

    /// [`note_unsent`](Conn::note_unsent) of what its transport owes, too.
    #[cold]
    pub(super) fn begin_to_wait(&mut self, now: Option<Stamp>) {
        self.outbox.get_or_insert_with(Cork::spare);
        self.note_unsent(now);
    }

    /// Whether a limit counts from when the unsent bytes began to wait, and that is not noted.
    #[inline]
    pub(super) fn waits_unnoted(&self) -> bool {
        self.seat.is_timed() && self.outbox.as_ref().is_some_and(|outbox| outbox.since.is_none())
    }

    /// Sends what is unsent, as much as goes; whether nothing is left. `now` is to be noted of what
    /// has passed; `None` where no limit counts from that.
    #[inline]
    pub(super) fn flush(&mut self, now: Option<Stamp>) -> bool {
        if self.heard == SOON {
            self.heard = now;
        }
        if self.progress == SOON {
            self.progress = now;
        }
        self.note_unsent(now);
        while self.unsent() > 0 && !self.has(mark::BLOCKED) {
            let Some(most) = self.may_send(now) else { break };
            let Some(sent) = self.write_once(&[], most) else { return false };
            if let Some(outbox) = &mut self.outbox {
                outbox.bytes.drain(..sent);
            }
            if let Some(rate) = &self.seat.write_rate {
                rate.spend(sent);
            }
        }
        if self.has(mark::SENT) {
            self.marks &= !mark::SENT;
            if self.has(mark::DRAINING) {
                self.forget_quiet();
            }
            if now.is_some() {
                self.heard = now;
            }
            if !self.has(mark::SLOWED_OUT)
                && let Some(outbox) = &mut self.outbox
            {
                outbox.since = now;
            }
        }
        // A write sends first what is owed; without one it has to be asked for.
        self.unsent() == 0 && (!self.io.owes() || self.flush_owed(now))
    }

    /// Sends what the transport owes of its own; whether nothing is left. An outbox, empty if need
    /// be, keeps the time for which it waits.
    #[cold]
    fn flush_owed(&mut self, now: Option<Stamp>) -> bool {
        while !self.has(mark::BLOCKED) {
            match self.io.transport().flush() {
                Ok(()) => {
                    self.heard = now.or(self.heard);
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.marks |= mark::BLOCKED;
                }
                Err(error) => {
                    self.fail_sending(error);
                    return false;
                }
            }
        }
        self.begin_to_wait(now);
        false
    }

    /// One write of outbox and `more`, of `most` bytes together: how much went, or `None` if
    /// sending has failed.
    #[inline(always)] // A call would cost as much as what it does.
    fn write_once(&mut self, more: &[u8], most: usize) -> Option<usize> {
        let (front, back) =
            self.outbox.as_ref().map_or((&[][..], &[][..]), |o| o.bytes.as_slices());
        let mut offered = 0;
        let mut pieces = [IoSlice::new(&[]); 3];
        let mut count = 0;
        for piece in [front, back, more] {
            let piece = &piece[..piece.len().min(most - offered)];
            if !piece.is_empty() {
                pieces[count] = IoSlice::new(piece);
                count += 1;
                offered += piece.len();
            }
        }
        loop {
            match self.io.write(&pieces[..count]) {
                Ok(sent) => {
                    // Less than was offered means that the kernel is full and will say when it no
                    // longer is (epoll(7), question 9). Not so on Windows.
                    if sent < offered && cfg!(unix) {
                        self.marks |= mark::BLOCKED;
                    }
                    self.marks |= if sent > 0 { mark::SENT } else { 0 };
                    return Some(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.marks |= mark::BLOCKED;
                    return Some(0);
                }
                Err(error) => {
                    self.fail_sending(error);
                    return None;
                }
            }
        }
    }

    /// Ends sending because a write failed. The peer may have sent something before it went.
    fn fail_sending(&mut self, error: io::Error) {
        if !self.io.is_one_peer() {
            return self.fail(error.into());
        }
        // A reset is told once. Told to a write it is ECONNRESET, or EPIPE where FIN had come first
        // (tcp_reset in Linux); reads then answer 0 either way.
        if error.kind() != io::ErrorKind::BrokenPipe {
            self.marks |= mark::CUT_OFF;
        }
        self.end_with(error.into());
        self.lose(0);
        self.sending = Half::Finished;
        if self.is_cut() {
            return self.receiving = Half::Finished; // Nothing goes on.
        }
        self.marks |= mark::LAST_WORDS;
    }
}
