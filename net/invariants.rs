//! The conditions that every connection meets between two calls.
//!
//! Knows the parts of a connection; changes none. Each condition is asserted in debug builds, so in
//! every test and for every seed: after `settle`, and after a flush from outside.
//!
//! # Read next
//! `conn.rs`: the parts.

use super::conn::Conn;
use super::states::{Closing, Receiving, fact};

impl Conn {
    /// Panics in a debug build if a condition is not met. Costs nothing in a release build.
    #[inline]
    pub(super) fn check(&self) {
        if cfg!(debug_assertions) {
            self.check_buffers();
            self.check_ends();
            self.check_rates();
        }
    }

    fn check_buffers(&self) {
        let outbox = self.outbox.as_ref();
        debug_assert!(
            outbox.is_none_or(|outbox| !outbox.bytes.is_empty()) || self.io.has_own_unsent(),
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
            !self.sending.is_over() || self.unsent() == 0,
            "FIN follows the last byte: {self:?}"
        );
    }

    fn check_ends(&self) {
        debug_assert!(!self.is_cut() || self.reason().is_some(), "a cut has a reason: {self:?}");
        debug_assert!(
            !self.has_failed() || !self.sending.is_open(),
            "a connection that has failed takes no more: {self:?}"
        );
        debug_assert!(
            !self.sending.has_failed() || self.reason().is_some(),
            "sending has failed for a reason: {self:?}"
        );
        debug_assert!(
            !self.was_closed() || !self.sending.is_open(),
            "a connection that is closing writes no more: {self:?}"
        );
        debug_assert!(
            !self.was_closed() || !self.receiving.is_held(),
            "a connection that is closing reads to the end, and discards it: {self:?}"
        );
        debug_assert!(
            (self.closing == Closing::Lingering) == self.lingers_since().is_some(),
            "the grace of a close runs from a moment: {self:?}"
        );
        debug_assert!(
            !self.has(fact::QUIET) || self.has(fact::DRAINING),
            "a drain has found it quiet: {self:?}"
        );
    }

    fn check_rates(&self) {
        debug_assert!(
            self.receiving != Receiving::Throttled || self.throttled_until().0.is_some(),
            "a rate delays reading until a tick: {self:?}"
        );
        debug_assert!(
            self.throttled_until().0.is_none() || self.group.read_rate.is_some(),
            "reading is delayed by a rate: {self:?}"
        );
        debug_assert!(
            !self.is_write_throttled() || self.group.write_rate.is_some(),
            "sending is delayed by a rate: {self:?}"
        );
    }
}
