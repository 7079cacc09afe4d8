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

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// The number of an arming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

/// The last tick that has begun.
pub fn tick(now: Duration) -> u64 {
    now.as_millis().try_into().unwrap_or(u64::MAX)
}

/// The first tick that is not before `now + delay`.
pub fn deadline(now: Duration, delay: Duration) -> u64 {
    let nanos = now.saturating_add(delay).as_nanos();
    nanos.div_ceil(1_000_000).try_into().unwrap_or(u64::MAX)
}

/// Values that wait for a time.
pub struct Timers<T> {
    /// Deadline and id, the earliest on top; also of timers that were cancelled.
    heap: BinaryHeap<Reverse<(u64, Id)>>,
    /// The timers that are armed.
    values: HashMap<Id, T>,
    armed: u64,
}

impl<T> Timers<T> {
    pub fn new() -> Timers<T> {
        Timers { heap: BinaryHeap::new(), values: HashMap::new(), armed: 0 }
    }

    pub fn arm(&mut self, deadline_ms: u64, value: T) -> Id {
        let id = Id(self.armed);
        self.armed += 1;
        self.heap.push(Reverse((deadline_ms, id)));
        self.values.insert(id, value);
        id
    }

    pub fn cancel(&mut self, id: Id) -> Option<T> {
        let value = self.values.remove(&id)?;
        if self.heap.len() > 2 * self.values.len() + 64 {
            self.heap.retain(|Reverse((_, id))| self.values.contains_key(id));
        }
        Some(value)
    }

    pub fn next_deadline(&mut self) -> Option<u64> {
        loop {
            let Reverse((deadline, id)) = self.heap.peek()?;
            if self.values.contains_key(id) {
                return Some(*deadline);
            }
            self.heap.pop(); // It was cancelled.
        }
    }

    pub fn expire(&mut self, now_ms: u64) -> Vec<T> {
        let mut expired = Vec::new();
        while self.next_deadline().is_some_and(|deadline| deadline <= now_ms) {
            let Some(Reverse((_, id))) = self.heap.pop() else { break };
            expired.extend(self.values.remove(&id));
        }
        expired
    }

    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries are in memory.
    pub fn held(&self) -> usize {
        self.heap.len()
    }
}
