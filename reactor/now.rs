//! The time from which deadlines count: that of the turn, and the current moment.
//!
//! Knows the turn's time and the clock; `../timers/tick.rs` does the rounding.
//!
//! # Read next
//! `timer.rs`: the callbacks that wait for a time.

use std::time::Duration;

use super::Context;
use crate::timers::{Now, Stamp, Tick};

impl<S: 'static> Context<S> {
    /// The tick at `delay` from the turn's `now`, where the delays of timers begin (R5).
    #[inline]
    pub fn turn_tick_after(&self, delay: Duration) -> Tick {
        self.time.turn().after(delay)
    }

    /// The first tick at or after `delay` from the current moment, as
    /// [`set_deadline`](Context::set_deadline) takes it. Not from the turn's `now`: a callback
    /// earlier in the turn may have taken long, and a wait that begins now gets all of its time.
    ///
    /// # Cost
    /// Reads the clock.
    pub fn tick_after(&self, delay: Duration) -> Tick {
        self.time.timeline.now(self.time.clock.now()).after(delay)
    }

    /// The current moment, exactly: the time of an event, so that no limit which counts from it
    /// ([`Stamp::after`]) ends early.
    ///
    /// # Cost
    /// Reads the clock.
    #[inline]
    pub fn stamp(&self) -> Stamp {
        self.time.this_moment()
    }

    /// The tick that had begun last at the turn's [`now`](Context::now): milliseconds since the
    /// reactor was made, rounded down. A deadline is due when this tick has reached it.
    #[inline]
    pub fn tick(&self) -> Tick {
        self.time.turn().tick()
    }

    /// The turn's `now`, as deadlines count: what is to come after a delay from it is rounded once.
    #[inline]
    pub fn turn(&self) -> Now {
        self.time.turn()
    }

    /// How long it is until that tick begins; zero if it has.
    pub fn until_tick(&self, tick: Tick) -> Duration {
        self.time.timeline.until(tick, self.now())
    }

    pub(super) fn millis_until(&self, tick: Tick) -> u32 {
        u32::try_from(tick.since(self.tick())).unwrap_or(u32::MAX)
    }
}
