//! How does a loop sleep for just long enough? Timers in a heap, the earliest on top.
//!
//! # Contract
//! * A tick is a millisecond. `tick` gives the last tick that has begun: it rounds down. `deadline`
//!   gives the first tick that is not before `now + delay`: it rounds up. Both end at `u64::MAX`
//!   and do not panic.
//! * `arm` sets a timer. Any `u64` is a deadline. No two timers have the same id, ever.
//! * `cancel` gives the value of a timer that is armed; `None` if it has expired or was cancelled.
//! * `next_deadline` gives the earliest deadline of the timers that are armed.
//! * `expire` takes out all timers whose deadline is at or before `now_ms`, and no others: in the
//!   order of their deadlines, and for one deadline in the order in which they were armed.
//! * All but `expire` take O(log n) on average. `held`, the entries in memory, is never more than
//!   64 and two for each armed timer.

use std::time::Duration;

/// The number of an arming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

/// The last tick that has begun.
pub fn tick(now: Duration) -> u64 {
    now.as_millis() as u64
}

/// The first tick that is not before `now + delay`.
pub fn deadline(now: Duration, delay: Duration) -> u64 {
    // Yours: this one rounds down. And if the delay is `Duration::MAX`?
    tick(now + delay)
}

/// Values that wait for a time.
pub struct Timers<T> {
    timers: Vec<(u64, Id, T)>,
    armed: u64,
}

impl<T> Timers<T> {
    pub fn new() -> Timers<T> {
        Timers { timers: Vec::new(), armed: 0 }
    }

    pub fn arm(&mut self, deadline_ms: u64, value: T) -> Id {
        let id = Id(self.armed);
        self.armed += 1;
        self.timers.push((deadline_ms, id, value));
        id
    }

    pub fn cancel(&mut self, id: Id) -> Option<T> {
        let at = self.timers.iter().position(|timer| timer.1 == id)?;
        Some(self.timers.swap_remove(at).2)
    }

    pub fn next_deadline(&mut self) -> Option<u64> {
        self.timers.iter().map(|timer| timer.0).min()
    }

    pub fn expire(&mut self, now_ms: u64) -> Vec<T> {
        // Yours: in which order? And how long does it take with a million timers?
        self.timers.extract_if(.., |timer| timer.0 <= now_ms).map(|timer| timer.2).collect()
    }

    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries are in memory.
    pub fn held(&self) -> usize {
        self.timers.len()
    }
}
