//! The outbox: how a connection's bytes leave.
//!
//! Knows one connection and its transport; `drive.rs` decides when to flush.
//!
//! Written bytes collect, and leave when the callback ends: ten small writes are one system call.
//! Bytes that the kernel does not take then stay, up to a limit, until it reports that it has room.
//!
//! # Read next
//! `deadline.rs`: the limits on its time.

use std::io::{self, IoSlice};

use super::budget::BufferBudget;
use super::conn::{Conn, SOON};
use super::cork::Cork;
use super::event::Pressure;
use super::states::{Receiving, Sending, fact};
use crate::timers::Stamp;

/// From this many bytes on, a write does not wait for the callback's end: one more system call
/// costs less than copying so much.
const WRITE_THROUGH_BYTES: usize = 16 * 1024;

impl Conn {
    /// Sends all of the bytes, or none. They collect, and leave in one system call: when this
    /// connection's own callback returns, else before the loop next waits. From 16 KiB unsent on
    /// they are offered to the kernel at once.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        self.put(bytes, WRITE_THROUGH_BYTES)
    }

    /// Takes all of the bytes or none. From `through` unsent bytes on, offers them to the kernel.
    #[inline]
    pub fn put(&mut self, bytes: &[u8], through: usize) -> Pressure {
        if !self.admits(bytes.len()) {
            return self.refusal();
        }
        // The rate is asked in `flush`, which knows the time.
        let later = self.has(fact::BLOCKED) || self.group.write_rate.is_some();
        let through = self.unsent() + bytes.len() >= through && !later;
        let taken = if through { self.write_through(bytes) } else { 0 };
        if taken < bytes.len() {
            let outbox = self.outbox.get_or_insert_with(Cork::spare);
            outbox.bytes.extend(&bytes[taken..]);
            if !outbox.lent {
                return self.put_aside();
            }
        }
        if self.unsent() > self.group.outbox_bytes_high {
            self.sending.ask_for_drained(Sending::Full);
            return Pressure::AboveHigh;
        }
        Pressure::Below
    }

    /// The bytes wait in a buffer of this connection's own.
    fn put_aside(&mut self) -> Pressure {
        self.account();
        if self.unsent() > self.group.outbox_bytes_high {
            self.sending.ask_for_drained(Sending::Full);
            return Pressure::AboveHigh;
        }
        if self.group.buffers.as_ref().is_some_and(BufferBudget::is_tight) {
            self.sending.ask_for_drained(Sending::FullToTheEnd);
            return Pressure::AboveHigh;
        }
        Pressure::Below
    }

    /// Returns true if `count` bytes fit now, also as several writes. If they only have to wait for
    /// room, `Drained` follows when there is.
    #[inline]
    pub fn admits(&mut self, count: usize) -> bool {
        if !self.sending.is_open() {
            return false;
        }
        let max = self.group.outbox_bytes_max;
        let mut admits = self.unsent() + count <= max;
        if admits && !self.has_budget(count) && !self.make_room(count) {
            self.sending.ask_for_drained(Sending::FullToTheEnd);
            admits = false;
        } else if !admits {
            // No `Drained` if they can never fit.
            let fit_at_low = count <= max.saturating_sub(self.group.outbox_bytes_low);
            match count <= max {
                true if fit_at_low => self.sending.ask_for_drained(Sending::Full),
                true => self.sending.ask_for_drained(Sending::FullToTheEnd),
                false => {}
            }
        }
        admits
    }

    /// Returns true if the shared budget has room for `count` bytes. There is always room for bytes
    /// that will probably leave at the next flush: those in the loop's own cork, and a few on a
    /// connection that has nothing unsent. So writes to a peer that reads are not refused because
    /// other peers do not read.
    #[inline]
    fn has_budget(&self, count: usize) -> bool {
        if self.outbox.as_ref().is_some_and(|outbox| outbox.lent) {
            return true;
        }
        let Some(budget) = &self.group.buffers else { return true };
        budget.has_room(count) || self.unsent() == 0 && count <= WRITE_THROUGH_BYTES
    }

    /// Offers the unsent bytes to the kernel now, before the next flush. A callback may write much
    /// to many peers, and a peer that reads must not be treated like one that does not. Returns
    /// true if there is room then.
    #[cold]
    fn make_room(&mut self, count: usize) -> bool {
        while self.unsent() > 0 && !self.has(fact::BLOCKED) && self.group.write_rate.is_none() {
            let Some(sent) = self.write_once(&[], usize::MAX) else { return false };
            if let Some(outbox) = &mut self.outbox {
                outbox.bytes.drain(..sent);
            }
        }
        self.sending.is_open() && self.has_budget(count)
    }

    /// The result of a write that was not admitted.
    #[inline]
    pub fn refusal(&self) -> Pressure {
        if self.sending.is_open() { Pressure::Refused } else { Pressure::Closed }
    }

    /// Writes the outbox and `bytes` behind it; returns how many of `bytes` the kernel took.
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
            // Failed: `Closed` reports it. The bytes are lost, like those in the outbox.
            None => {
                self.lose(bytes.len());
                bytes.len()
            }
        }
    }

    /// Returns true if nothing was written since the last flush.
    pub(super) fn has_not_sent(&self) -> bool {
        self.unsent() == 0 && !self.has(fact::SENT)
    }

    /// Notes, for the write timeout, when the unsent bytes began to wait, unless that is known.
    #[inline]
    pub(super) fn note_unsent(&mut self, now: Option<Stamp>) {
        if let Some(outbox) = &mut self.outbox
            && outbox.since.is_none()
        {
            outbox.since = now;
        }
    }

    /// [`note_unsent`](Conn::note_unsent), also if only its transport has bytes to send.
    #[cold]
    pub(super) fn begin_to_wait(&mut self, now: Option<Stamp>) {
        self.outbox.get_or_insert_with(Cork::spare);
        self.note_unsent(now);
    }

    /// Returns true if a limit needs the time since which unsent bytes wait, and it is not noted.
    #[inline]
    pub(super) fn waits_unnoted(&self) -> bool {
        self.group.is_timed() && self.outbox.as_ref().is_some_and(|outbox| outbox.since.is_none())
    }

    /// Sends as many unsent bytes as the kernel takes. Returns true if nothing is left. `now` is
    /// the time to note for the bytes that have passed; `None` if no limit needs it.
    #[inline]
    pub(super) fn flush(&mut self, now: Option<Stamp>) -> bool {
        if self.last_traffic == SOON {
            self.last_traffic = now;
        }
        if self.progress == SOON {
            self.progress = now;
        }
        self.note_unsent(now);
        while self.unsent() > 0 && !self.has(fact::BLOCKED) {
            let Some(most) = self.may_send(now) else { break };
            let Some(sent) = self.write_once(&[], most) else { return false };
            if let Some(outbox) = &mut self.outbox {
                outbox.bytes.drain(..sent);
            }
            if let Some(rate) = &self.group.write_rate {
                rate.spend(sent);
            }
        }
        if self.has(fact::SENT) {
            self.facts &= !fact::SENT;
            self.forget_quiet();
            if now.is_some() {
                self.last_traffic = now;
            }
            if !self.is_write_throttled()
                && let Some(outbox) = &mut self.outbox
            {
                outbox.since = now;
            }
        }
        // A write sends the transport's own bytes first; without a write, `flush_own` sends them.
        self.unsent() == 0 && (!self.io.has_own_unsent() || self.flush_own(now))
    }

    /// Sends the transport's own bytes. Returns true if nothing is left. Otherwise an
    /// outbox, perhaps an empty one, keeps the time since which they wait.
    #[cold]
    fn flush_own(&mut self, now: Option<Stamp>) -> bool {
        while !self.has(fact::BLOCKED) {
            match self.io.transport().flush() {
                Ok(()) => {
                    self.last_traffic = now.or(self.last_traffic);
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.facts |= fact::BLOCKED;
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

    /// One write of outbox and `more`, of `most` bytes together. Returns how many bytes were sent,
    /// or `None` if sending has failed.
    #[inline(always)] // A call would cost as much as the work.
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
                    // A short write means that the kernel's buffer is full, and an edge will come
                    // when it has room (epoll(7), question 9). Not so on Windows.
                    if sent < offered && cfg!(unix) {
                        self.facts |= fact::BLOCKED;
                    }
                    self.facts |= if sent > 0 { fact::SENT } else { 0 };
                    return Some(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.facts |= fact::BLOCKED;
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
        if !self.io.has_one_peer() {
            return self.fail(error.into());
        }
        // The kernel reports a reset once. A write gets ECONNRESET, or EPIPE if FIN had come first
        // (tcp_reset in Linux); reads then return 0 in both cases.
        let fin_has_come = error.kind() == io::ErrorKind::BrokenPipe;
        self.end_with(error.into());
        self.lose(0);
        self.sending = if fin_has_come { Sending::Failed } else { Sending::Reset };
        if self.is_cut() {
            self.sending = Sending::Finished;
            self.receiving = Receiving::Finished; // Nothing goes on.
        }
    }

    /// [`write`](Conn::write) for a link: there is nothing to wait for, so it goes at once.
    #[inline]
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Pressure {
        self.put(bytes, 1)
    }

    /// Takes as many of `bytes` as fit, after all of them were refused. Returns how many; `Drained`
    /// comes when all is sent. `None` if there will never be room.
    pub(super) fn pass_some(&mut self, bytes: &[u8]) -> Option<usize> {
        let max = self.group.outbox_bytes_max;
        if !self.sending.is_open() || max == 0 {
            return self.reason().is_some().then_some(0); // `Closed` is on its way.
        }
        let room = max.saturating_sub(self.unsent()).min(bytes.len());
        let _ = self.put(&bytes[..room], 1); // It fits; `Closed` reports a failure.
        self.sending.ask_for_drained(Sending::FullToTheEnd);
        Some(room)
    }
}
