//! The states of a connection, and how it goes from one to the next.
//!
//! Knows neither bytes nor sockets.
//!
//! Each half has a state of its own, and so has the close that the program asks for. Each step, and
//! the function that takes it:
//!
//! ```text
//!   sending    Open ─────────────▶ Full, FullToTheEnd   outbox: a write was refused, or much is unsent
//!              Full… ────────────▶ Open                 settle::may_deliver_drained, before `Drained`
//!              Open, Full… ──────▶ Finishing            shutdown; close; settle::close_if_due, after Eof
//!              Finishing ────────▶ Finished             settle::finish: the outbox is empty, FIN
//!              not ended ────────▶ Failed, Reset        outbox::fail_sending: a write has failed
//!
//!   receiving  Open ─────────────▶ Paused               pause; also from Throttled and Resuming
//!              Paused ───────────▶ Resuming             resume; read_again, of a stream handed over
//!              Open ◀────────────▶ Throttled            throttle::may_read; forget_rates
//!              Resuming ─────────▶ Open                 receive::deliver_resumed
//!              Open ─────────────▶ Finished             receive::end_of_input: FIN read, Eof delivered
//!              Open ─────────────▶ Cut                  receive::input_is_cut: the peer announced no end
//!              not ended ────────▶ Open                 close, so that the input is discarded; Finished
//!                                                       if somebody else may want to read it
//!              not ended ────────▶ Finished             settle::reads_first, receive: sending has failed,
//!                                                       and the input that was left is read
//!
//!   closing    No ───────────────▶ Asked                close
//!              Asked ────────────▶ Lingering            settle::go_on_reading: the grace runs
//!
//!   both       any ──────────────▶ Finished             fail: abort, a timeout, an error, no grace left
//! ```
//!
//! When both halves have ended, `settle::end` delivers `Closed`, with the first reason noted.
//!
//! # Read next
//! `event.rs`: the events that its handler gets.

/// The half that sends. The first three take writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sending {
    Open,
    /// `Drained` is to be delivered at the low-water mark.
    Full,
    /// `Drained` is to be delivered when all is sent: the refused bytes need an empty outbox.
    FullToTheEnd,
    /// FIN follows when the outbox is empty.
    Finishing,
    Finished,
    /// A write has failed. The bytes that the peer sent before are still to be read.
    Failed,
    /// A write has met a reset, before the peer's FIN. No FIN will come, so an end of input
    /// that is read after this is not the peer's.
    Reset,
}

impl Sending {
    /// Returns true if it takes writes.
    #[inline]
    pub(super) fn is_open(self) -> bool {
        self <= Sending::FullToTheEnd
    }

    /// Returns true if `Drained` is to be delivered.
    pub(super) fn awaits_drained(self) -> bool {
        matches!(self, Sending::Full | Sending::FullToTheEnd)
    }

    /// Returns true if it has ended.
    pub(super) fn is_over(self) -> bool {
        self >= Sending::Finished
    }

    /// Returns true if a write has failed, and nothing else has ended the connection.
    pub(super) fn has_failed(self) -> bool {
        self >= Sending::Failed
    }

    /// `Drained` is to be delivered at `when`, or at the later moment that was asked for before.
    pub(super) fn ask_for_drained(&mut self, when: Sending) {
        if self.is_open() {
            *self = when.max(*self);
        }
    }
}

/// The half that receives. The first four have not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Receiving {
    Open,
    /// The handler has paused it.
    Paused,
    /// A rate delays it until the tick in `Rare::reads_at`.
    Throttled,
    /// The next call delivers the backlog again, and reads.
    Resuming,
    /// The input has ended, but the peer did not announce it: an attacker on the path may have
    /// caused it. The other half goes on.
    Cut,
    Finished,
}

impl Receiving {
    /// Returns true if the input has ended.
    #[inline]
    pub(super) fn is_over(self) -> bool {
        self >= Receiving::Cut
    }

    /// Returns true if there may be input that is not to be read now.
    pub(super) fn is_held(self) -> bool {
        matches!(self, Receiving::Paused | Receiving::Throttled | Receiving::Resuming)
    }
}

/// The close that the program, a drain or the peer's FIN has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    No,
    /// Input is discarded from now on.
    Asked,
    /// The grace has begun to run, at `Rare::lingers_since`.
    Lingering,
}

/// Facts that are true in any of the states: bits of `Conn::facts`.
pub(super) mod fact {
    /// The kernel's send buffer is full. An event will report when it has room.
    pub(in crate::net) const BLOCKED: u8 = 1;
    /// The kernel has taken bytes since the last flush.
    pub(in crate::net) const SENT: u8 = 2;
    /// A deadline is armed, at or before the first one that the limits ask for.
    pub(in crate::net) const ARMED: u8 = 4;
    /// It is one end of a link, so it may be half open, whatever its limits say.
    pub(in crate::net) const LINKED: u8 = 8;
    /// The handler will answer later.
    pub(in crate::net) const HELD: u8 = 16;
    /// It is to be closed as soon as it is idle.
    pub(in crate::net) const DRAINING: u8 = 32;
    /// A drain has found it idle, and no byte has passed since. So its peer has all answers, and
    /// gets only a moment to close first.
    pub(in crate::net) const QUIET: u8 = 64;
}
