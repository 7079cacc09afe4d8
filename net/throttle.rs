//! A connection that a rate delays.
//!
//! Knows a connection and its rates; how a rate counts is in `rate.rs`.
//!
//! # Read next
//! `drain.rs`: how a server ends.

use std::time::Duration;

use super::conn::{Conn, SOON};
use super::states::{Receiving, fact};
use crate::timers::{Stamp, Tick};

/// After this time a connection that waits checks if the rate was changed.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Conn {
    /// The ticks until which a rate delays reading (also while it is paused) and sending.
    pub(super) fn throttled_until(&self) -> (Option<Tick>, Option<Tick>) {
        self.rare.as_ref().map_or((None, None), |rare| (rare.reads_at, rare.writes_at))
    }

    /// Returns true while a rate delays sending.
    pub(super) fn is_write_throttled(&self) -> bool {
        self.throttled_until().1.is_some()
    }

    /// The rates may have changed, so a connection that was delayed asks again.
    pub(super) fn forget_rates(&mut self) {
        if self.receiving == Receiving::Throttled {
            self.receiving = Receiving::Resuming;
        }
        let Some(rare) = &mut self.rare else { return };
        rare.reads_at = None;
        if rare.writes_at.take().is_some()
            && let Some(outbox) = &mut self.outbox
        {
            outbox.since = None; // The wait for the peer begins now.
        }
    }

    /// Returns the number of bytes that may be read now, at most `room`. Returns `None` while the
    /// rate delays reading: the deadline calls the connection again.
    pub(super) fn may_read(&mut self, now: Stamp, room: usize) -> Option<usize> {
        let Some(rate) = &self.group.read_rate else { return Some(room) };
        if self.was_closed() || self.sending.has_failed() {
            return Some(room); // It ends soon, and its end may be behind this input.
        }
        let due = self.throttled_until().0;
        let granted = rate.ask(now, due, room);
        if due.is_some() || granted.is_err() {
            self.rare().reads_at = granted.err();
        }
        match granted {
            Ok(_) if due.is_some() => {
                if self.receiving == Receiving::Throttled {
                    self.receiving = Receiving::Open;
                }
                (self.progress, self.last_traffic) = (SOON, SOON);
            }
            Ok(_) => {}
            Err(_) => {
                if self.receiving == Receiving::Open {
                    self.receiving = Receiving::Throttled;
                }
                self.facts &= !fact::ARMED;
            }
        }
        granted.ok()
    }

    /// Returns the number of bytes that may be sent now; `None` as [`may_read`](Conn::may_read).
    pub(super) fn may_send(&mut self, now: Option<Stamp>) -> Option<usize> {
        let Some(rate) = &self.group.write_rate else { return Some(usize::MAX) };
        let now = now?; // A rate needs the time, so `now` is known.
        let due = self.throttled_until().1;
        let granted = rate.ask(now, due, self.unsent());
        if due.is_some() || granted.is_err() {
            self.rare().writes_at = granted.err();
        }
        match granted {
            Ok(_) if due.is_some() => {
                self.last_traffic = Some(now);
                if let Some(outbox) = &mut self.outbox {
                    outbox.since = Some(now);
                }
            }
            Ok(_) => {}
            Err(_) => self.facts &= !fact::ARMED,
        }
        granted.ok()
    }
}
