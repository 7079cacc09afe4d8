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

pub fn place(hand: u64, deadline_ms: u64) -> (usize, usize) {
    let deadline = deadline_ms.max(hand);
    let level = (63 - ((deadline ^ hand) | 1).leading_zeros()) / 6;
    (level as usize, (deadline >> (6 * level)) as usize % SLOTS)
}

struct Timer<T> {
    deadline: u64,
    /// Where its id is: in which list, and how far from its beginning.
    list: usize,
    position: usize,
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
        self.timers.insert(id, Timer { deadline: deadline_ms, list: 0, position: 0, value });
        self.link(id);
        id
    }

    /// Puts an id into the list of its place.
    fn link(&mut self, id: Id) {
        let Some(timer) = self.timers.get_mut(&id) else { return };
        let (level, slot) = place(self.hand, timer.deadline);
        timer.list = level * SLOTS + slot;
        let list = &mut self.slots[timer.list];
        timer.position = list.len();
        list.push(id);
        self.occupied[level] |= 1 << slot;
    }

    pub fn cancel(&mut self, id: Id) -> Option<T> {
        let Timer { list: at, position, value, .. } = self.timers.remove(&id)?;
        let list = &mut self.slots[at];
        list.swap_remove(position);
        if let Some(moved) = list.get(position).and_then(|id| self.timers.get_mut(id)) {
            moved.position = position; // The last one has come to its place.
        }
        if list.is_empty() {
            self.occupied[at / SLOTS] &= !(1 << (at % SLOTS));
        }
        Some(value)
    }

    /// The first slot that has a timer: its level, its number, and the tick at which it begins.
    fn first(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = 6 * level as u32;
        let start = ((self.hand >> shift) / 64 * 64 + u64::from(slot)) << shift;
        Some((level, slot as usize, start))
    }

    pub fn next_wake(&self) -> Option<u64> {
        self.first().map(|(_, _, start)| start)
    }

    pub fn expire(&mut self, now_ms: u64) -> Vec<T> {
        let (now, mut due) = (now_ms.max(self.hand), Vec::new());
        while let Some((level, slot, start)) = self.first().filter(|first| first.2 <= now) {
            self.hand = start;
            self.occupied[level] &= !(1 << slot);
            for id in std::mem::take(&mut self.slots[level * SLOTS + slot]) {
                match self.timers[&id].deadline {
                    deadline if deadline <= now => due.push((deadline, id)),
                    _ => self.link(id),
                }
            }
        }
        self.hand = now;
        due.sort_unstable();
        due.iter().filter_map(|(_, id)| Some(self.timers.remove(id)?.value)).collect()
    }

    pub fn len(&self) -> usize {
        self.timers.len()
    }
}
