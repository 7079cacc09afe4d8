//! The limits of a connection: names, units, defaults.
//!
//! # Read next
//! `handle.rs`: the operations on a connection by its id.

use std::time::Duration;

use super::budget::{BufferBudget, LISTENER_BYTES_MAX};
use super::rate::Rate;

/// Bytes that all connections together read in one turn, in equal parts. 16 MiB: a thousand of them
/// read 16 KiB each, and a peer with a short question waits a few milliseconds for its answer.
///
/// A part is at least 4 KiB.
pub const READ_BYTES_PER_TURN_TOTAL: usize = 16 * 1024 * 1024;
/// The least that a connection may read in a turn.
const PART_BYTES_MIN: usize = 4 * 1024;

/// The limits on a connection's bytes, rates and time.
///
/// Set for all connections of a listener, or for one by
/// [`Conn::set_limits`](super::Conn::set_limits). Each description names the default.
///
/// ```
/// # use std::time::Duration;
/// # use waterwheel::net::Limits;
/// let limits = Limits { idle_timeout: Some(Duration::from_secs(60)), ..Limits::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Unsent bytes above which [`write`](super::Conn::write) returns `AboveHigh`. 256 KiB.
    pub outbox_bytes_high: usize,
    /// After that, `Drained` is delivered when so many bytes or fewer are unsent. 64 KiB.
    pub outbox_bytes_low: usize,
    /// The most unsent bytes: a write that would exceed this is refused as a whole. 4 MiB.
    pub outbox_bytes_max: usize,
    /// Received bytes that a handler may leave for later, as an incomplete frame. 1 MiB. While
    /// reading is paused, one more read (64 KiB) may be added.
    pub backlog_bytes_max: usize,
    /// Bytes read in one turn; the rest waits for the next, so that others are read, too. 256 KiB;
    /// less if so many are ready at once that they would exceed [`READ_BYTES_PER_TURN_TOTAL`].
    pub read_bytes_per_turn: usize,
    /// The longest time without a byte in either direction. None.
    pub idle_timeout: Option<Duration>,
    /// The longest time in which the handler consumes nothing. Bytes that it gives back, as an
    /// incomplete frame, are not consumed, so this also stops a peer that sends a frame byte by
    /// byte. It does not run while reading is paused and begins again with `resume`. None.
    pub read_timeout: Option<Duration>,
    /// The longest time that unsent bytes may wait without the peer taking any. None.
    pub write_timeout: Option<Duration>,
    /// How long a graceful close may take, to send the unsent bytes and wait for the peer's close.
    /// 5 s; less, if all is sent, when descriptors run out and others are to be served.
    pub close_grace: Duration,
    /// True if the connection stays open for writing when the peer has finished. If false, it is
    /// closed after [`Eof`](super::Event::Eof) was delivered and the unsent bytes were sent. Over
    /// TLS an input may be cut, which delivers no `Eof`: then it stays open only while it is
    /// [held](super::Conn::hold) or `Drained` is to come. False.
    pub half_open: bool,
    /// How fast bytes are read; input that a close discards does not count. While it delays
    /// reading, no idle or read timeout runs. None.
    pub read_rate: Option<Rate>,
    /// How fast bytes are sent. While it delays sending, no idle or write timeout runs; the grace
    /// of a close does. None.
    pub write_rate: Option<Rate>,
    /// How many bytes it may buffer together with all others that share the budget. `None` keeps
    /// the present budget: the connections of a listener share one of 256 MiB, others have none.
    pub buffers: Option<BufferBudget>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            outbox_bytes_high: 256 * 1024,
            outbox_bytes_low: 64 * 1024,
            outbox_bytes_max: 4 * 1024 * 1024,
            backlog_bytes_max: 1024 * 1024,
            read_bytes_per_turn: 256 * 1024,
            idle_timeout: None,
            read_timeout: None,
            write_timeout: None,
            close_grace: Duration::from_secs(5),
            half_open: false,
            read_rate: None,
            write_rate: None,
            buffers: None,
        }
    }
}

impl Limits {
    /// The limits of a listener: with the default budget if they name none.
    pub(super) fn with_buffers(mut self) -> Limits {
        self.buffers.get_or_insert_with(|| BufferBudget::new(LISTENER_BYTES_MAX));
        self
    }

    /// Bytes that a connection may read in a turn with so many callbacks to run; at least one.
    #[inline]
    pub(super) fn read_bytes_in_turn(&self, callbacks: usize) -> usize {
        let most = self.read_bytes_per_turn.max(1);
        if callbacks.saturating_mul(most) <= READ_BYTES_PER_TURN_TOTAL {
            return most;
        }
        most.min((READ_BYTES_PER_TURN_TOTAL / callbacks).max(PART_BYTES_MIN))
    }

    pub(super) fn is_timed(&self) -> bool {
        self.write_timeout.is_some() || self.notes_traffic()
    }

    /// Returns true if a limit counts from bytes that pass, and not only from bytes that wait.
    pub(super) fn notes_traffic(&self) -> bool {
        self.idle_timeout.is_some()
            || self.read_timeout.is_some()
            || self.read_rate.is_some()
            || self.write_rate.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_shared_when_it_would_be_too_long_and_each_gets_the_least_part() {
        let limits = Limits::default();
        let own = limits.read_bytes_per_turn;
        let few = READ_BYTES_PER_TURN_TOTAL / own;
        assert_eq!([0, 1, few].map(|callbacks| limits.read_bytes_in_turn(callbacks)), [own; 3]);
        assert_eq!(limits.read_bytes_in_turn(2 * few), own / 2);
        assert_eq!(limits.read_bytes_in_turn(usize::MAX), PART_BYTES_MIN);
        // A limit below the part is kept, and so is one that is no limit.
        let slow = Limits { read_bytes_per_turn: 10, ..Limits::default() };
        assert_eq!(slow.read_bytes_in_turn(usize::MAX), 10);
        let none = Limits { read_bytes_per_turn: 0, ..Limits::default() };
        assert_eq!(none.read_bytes_in_turn(1), 1);
    }
}
