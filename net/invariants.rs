//! What is true of a connection whenever nobody works on it.
//!
//! Knows the parts of a connection; changes none. Each sentence is asserted in debug builds, so in every
//! test and for every seed, when a call has been settled and when a flush from outside has ended.
//!
//! # Read next
//! `conn.rs`: the parts.

use super::conn::{Conn, Half, mark};

impl Conn {
    /// Panics in a debug build if one of the sentences is not true. Costs nothing in a release build.
    #[inline]
    pub(super) fn check(&self) {
        if cfg!(debug_assertions) {
            self.check_buffers();
            self.check_ends();
            self.check_marks();
        }
    }

    fn check_buffers(&self) {
        let outbox = self.outbox.as_ref();
        debug_assert!(
            outbox.is_none_or(|outbox| !outbox.bytes.is_empty()) || self.io.owes(),
            "an outbox that is kept has bytes in it, or waits for those of the transport: {self:?}"
        );
        debug_assert!(
            outbox.is_none_or(|outbox| !outbox.lent),
            "the loop's cork is lent during a callback only: {self:?}"
        );
        debug_assert!(
            self.backlog.as_ref().is_none_or(|backlog| backlog.consumed < backlog.bytes.len()),
            "a backlog that is kept has bytes in it: {self:?}"
        );
        debug_assert!(
            self.sending != Half::Finished || self.unsent() == 0,
            "FIN follows the last byte: {self:?}"
        );
    }

    fn check_ends(&self) {
        debug_assert!(
            self.sending != Half::Cut && self.receiving != Half::Finishing,
            "only input is cut, only sending is to be finished: {self:?}"
        );
        debug_assert!(
            self.receiving != Half::Cut || self.end.is_some(),
            "a cut has a reason: {self:?}"
        );
        debug_assert!(
            !self.has_failed() || self.sending != Half::Open,
            "a connection that has failed takes no more: {self:?}"
        );
        debug_assert!(
            !self.has(mark::LAST_WORDS) || self.end.is_some(),
            "sending has failed for a reason: {self:?}"
        );
        debug_assert!(
            !self.has(mark::CLOSING) || self.sending != Half::Open,
            "a connection that is closing writes no more: {self:?}"
        );
    }

    fn check_marks(&self) {
        debug_assert!(
            !self.has(mark::SLOWED_IN) || self.seat.read_rate.is_some() && self.progress.is_some(),
            "reading is slowed down by a rate, until a tick: {self:?}"
        );
        debug_assert!(
            !self.has(mark::SLOWED_OUT) || self.seat.write_rate.is_some(),
            "sending is slowed down by a rate: {self:?}"
        );
        debug_assert!(
            !self.has(mark::WHOLE) || self.has(mark::ABOVE | mark::CLOSING),
            "`Drained` when all is sent is owed, too: {self:?}"
        );
    }
}
