//! Can it be O(1)? Timers in a wheel: a level for each digit of the deadline.
//!
//! # Contract
//! * `place` writes hand and deadline in base 64; the last digit is level 0. The level is the
//!   highest digit in which they differ (0 if they are equal), and the slot is the deadline's digit
//!   there. A deadline that has passed has the place of the hand itself.
//! * A timer's id is in `slots[level * 64 + slot]`, of its place. The bit `slot` of
//!   `occupied[level]` is 1 exactly when that list has an id.
//! * `arm` and `cancel` look at one slot, and `next_wake` at none: each is O(1).
//! * `next_wake` gives the tick at which the first slot begins: the lowest level that has a timer,
//!   and its lowest slot. No deadline is before that, except those that have passed.
//! * `expire` moves the hand to `now_ms`, never back. It takes out all timers whose deadline is not
//!   after the hand: in the order of their deadlines, and for one deadline in the order of arming.
//!   The others stand at their places for the new hand. It looks at no empty slot.

use kit::Slots;
use std::collections::HashMap;

/// Slots of a level: a digit has six bits. Levels: 66 bits, so each `u64` has a place.
pub const SLOTS: usize = 64;
pub const LEVELS: usize = 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

pub fn place(_hand: u64, deadline_ms: u64) -> (usize, usize) {
    // Yours: there is one ring so far, and it goes round and round.
    (0, deadline_ms as usize % SLOTS)
}

struct Timer<T> {
    deadline: u64,
    value: T,
}

pub struct Wheel<T> {
    /// The tick up to which all timers have expired.
    hand: u64,
    pub occupied: [u64; LEVELS],
    pub slots: Slots<Id>,
    timers: HashMap<Id, Timer<T>>,
    armed: u64,
}

impl<T> Wheel<T> {
    pub fn new() -> Wheel<T> {
        let (slots, timers) = (Slots::new(LEVELS * SLOTS), HashMap::new());
        Wheel { hand: 0, occupied: [0; LEVELS], slots, timers, armed: 0 }
    }

    pub fn arm(&mut self, deadline_ms: u64, value: T) -> Id {
        let id = Id(self.armed);
        self.armed += 1;
        let (level, slot) = place(self.hand, deadline_ms);
        self.slots[level * SLOTS + slot].push(id);
        self.timers.insert(id, Timer { deadline: deadline_ms, value });
        id
    }

    pub fn cancel(&mut self, id: Id) -> Option<T> {
        // Yours: the id stays in its slot. In which slot, and where in it?
        Some(self.timers.remove(&id)?.value)
    }

    pub fn next_wake(&self) -> Option<u64> {
        // Yours: this looks at each timer.
        self.timers.values().map(|timer| timer.deadline.max(self.hand)).min()
    }

    pub fn expire(&mut self, now_ms: u64) -> Vec<T> {
        let mut due = Vec::new();
        // Yours: it stops at each tick, and 40 days have 3,456,000,000 of them.
        while self.hand <= now_ms {
            let list = std::mem::take(&mut self.slots[self.hand as usize % SLOTS]);
            let is_due = |id: &Id| self.timers.get(id).is_some_and(|t| t.deadline <= now_ms);
            let (now, later): (Vec<Id>, Vec<Id>) = list.into_iter().partition(is_due);
            due.extend(now.iter().filter_map(|id| Some(self.timers.remove(id)?.value)));
            self.slots[self.hand as usize % SLOTS] = later;
            self.hand += 1;
        }
        due
    }

    pub fn len(&self) -> usize {
        self.timers.len()
    }
}
