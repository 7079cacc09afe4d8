//! A hierarchical timer wheel: arm, cancel and re-arm in O(1), the next deadline from a bitmap.
//!
//! Knows only integers; never mentions a clock. The caller passes the current tick, and the wheel
//! returns the timers that have expired.
//!
//! The problem: an event loop holds many timers, and most of them never fire (a timeout is armed
//! for every request and cancelled by the reply). Before each wait the loop asks for the earliest.
//! A sorted structure needs O(log n) for each of these steps. A wheel sorts timers exactly only
//! when their time comes near:
//!
//! ```text
//!             one slot is     a level spans         the hand at tick 70, a timer for tick 200:
//!   level 0        1 ms             64 ms
//!   level 1       64 ms             4.1 s            70 = 1·64 +  6
//!   level 2      4.1 s              4.4 min         200 = 3·64 +  8      they differ first in
//!   level 3      4.4 min            4.7 h                 ▲              the 64s: level 1, slot 3
//!   level 4      4.7 h             12.4 days
//!   level 5     12.4 days           2.2 years       beyond: one slot for all later deadlines
//! ```
//!
//! The *hand* is the tick that the wheel has reached. Compare a deadline with it, both in base 64:
//! the place of the highest digit that differs is the level, its value the slot. When the hand
//! reaches a slot of level n, its timers *cascade*: that digit is the same now, so they belong to a
//! lower level. A timer moves at most once for each level, and expires on any level once it is due.
//!
//! The lowest level with a timer holds the earliest deadline, because its timers agree with the
//! hand in every higher digit. No level wraps round, so a far timer never hides a near one (tokio's
//! wheel had that defect: tokio-rs/tokio #8334). Algorithm: Varghese and Lauck, *Hashed and
//! Hierarchical Timing Wheels*, scheme 7, 1987.
//!
//! # Rules
//! 1. A timer never expires before its deadline.
//! 2. Timers expire in the order of their deadlines, and those with the same deadline in the order
//!    in which they were armed; re-arming counts as arming.
//!    A timer armed for a tick that the hand has already reached comes after those already due.
//! 3. Any `u64` is a deadline. A deadline in the past expires at once.
//! 4. An id is never mistaken for another timer: a slot of the table that is used again has a new
//!    generation.
//!
//! # Left out
//! Ticks finer or coarser than the caller's: the wheel does not know the length of a tick.
//!
//! # Read next
//! `../net/conn.rs`: a connection on this loop. Beside the path: `wheel/memory.rs`, its tables, and
//! `clock.rs`, from moments to ticks.

use std::mem;
use std::num::NonZeroU32;

mod memory;

pub use memory::TimerId;
use memory::{FETCHED, Node, Slot};

/// Slots of a level; one digit of a deadline in base 64.
const SLOTS: usize = 64;
/// Bits of a digit.
const DIGIT: u32 = SLOTS.trailing_zeros();
/// Levels before [`BEYOND`].
const LEVELS: usize = 6;

/// The place of timers whose deadline differs from the hand above level 5, 2.2 years and more.
const BEYOND: u16 = (LEVELS * SLOTS) as u16;
/// The place of a timer that waits in `due` until `expire` returns it.
const DUE: u16 = BEYOND + 1;
/// The place of a timer that `expire` has returned, until it is cancelled or re-armed.
const EXPIRED: u16 = BEYOND + 2;
/// The place of a node without a timer.
const FREE: u16 = BEYOND + 3;

/// No node: marks an entry of `due` whose timer was cancelled or re-armed.
const NONE: u32 = u32::MAX;

/// A set of timers, each with a deadline in ticks and a value.
///
/// # Cost
/// `insert`, `cancel`, `rearm`, `next_deadline`: O(1). `expire`: O(1) for each timer and each level
/// it came down, and O(k log k) for k timers of one tick. A slot cascades as a whole: a million
/// timers took 17 ms. Memory: 24 bytes a timer, 4 to 8 for its slot, and the value. It is kept for
/// reuse, with 4 to 8 bytes more for each free node, until the wheel is empty: the cancel that
/// empties it gives all of it back, which took 8 ms after a million timers.
///
/// ```
/// use waterwheel::timers::Wheel;
/// let mut wheel = Wheel::new();
/// let tea = wheel.insert(180_000, "tea");
/// let egg = wheel.insert(300_000, "egg");
/// assert_eq!(wheel.next_deadline(), Some(180_000));
/// wheel.rearm(tea, 400_000);
/// assert_eq!(wheel.expire(350_000), Some(egg));
/// assert_eq!(wheel.cancel(egg), Some("egg"));
/// assert_eq!(wheel.expire(350_000), None);
/// ```
pub struct Wheel<T> {
    /// The hand: the tick up to which all timers have been checked.
    now: u64,
    /// For each level one bit per slot: set exactly when the slot holds a timer.
    occupied: [u64; LEVELS],
    slots: Vec<Slot>,
    nodes: Vec<Node<T>>,
    /// Nodes without a timer. A list through the nodes would need no memory, but following it is
    /// one cache miss after the other; these are fetched side by side.
    free: Vec<u32>,
    /// The generation of new nodes: a table that shrank and grew again does not repeat the old
    /// ones.
    first_generation: NonZeroU32,
    /// The highest generation of a node so far, kept here because a scan would make a cancel slow.
    highest_generation: NonZeroU32,
    /// Timers held, expired ones included.
    len: usize,
    /// Armings so far.
    armed: u64,
    /// Expired timers in order; `expire` returns those from `due_next` on.
    due: Vec<u32>,
    due_next: usize,
    /// The memory of a slot that was emptied, for the next one.
    spare: Vec<u32>,
    /// Nodes requested in advance; kept when the wheel empties.
    reserved: usize,
}

impl<T> Wheel<T> {
    /// Arms a timer for the tick `deadline`.
    #[inline]
    pub fn insert(&mut self, deadline: u64, value: T) -> TimerId {
        self.armed += 1;
        let node = Node {
            deadline,
            armed_low: self.armed as u32,
            armed_high: (self.armed >> 32) as u16,
            place: FREE,
            position: 0,
            generation: self.first_generation,
            value: Some(value),
        };
        let id = self.put(node);
        self.link(id.index);
        id
    }

    /// Removes the timer and returns its value; `None` when the id is stale.
    #[inline]
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.node(id)?;
        self.unlink(id.index);
        self.take(id.index)
    }

    /// Moves the timer to `deadline`, expired or not; false when the id is stale.
    ///
    /// A later deadline is one store: the timer stays in its slot until the hand reaches the slot.
    /// So a timeout that every message re-arms costs a move for each period, not for each message.
    #[inline]
    pub fn rearm(&mut self, id: TimerId, deadline: u64) -> bool {
        let Some(node) = self.node(id) else { return false };
        let stays = node.place <= BEYOND && node.deadline <= deadline;
        if !stays {
            self.unlink(id.index);
        }
        self.armed += 1;
        let armed = self.armed;
        let node = &mut self.nodes[id.index as usize];
        node.deadline = deadline;
        node.armed_low = armed as u32;
        node.armed_high = (armed >> 32) as u16;
        if !stays {
            self.link(id.index);
        }
        true
    }

    /// Moves the hand towards `now` and returns the next timer due, in order; `None` once the hand
    /// is there. An expired timer keeps its id and value until it is cancelled or re-armed.
    ///
    /// The hand jumps from one occupied slot to the next, so the distance costs nothing.
    #[inline]
    pub fn expire(&mut self, now: u64) -> Option<TimerId> {
        loop {
            while let Some(&index) = self.due.get(self.due_next) {
                self.due_next += 1;
                if index != NONE {
                    let node = &mut self.nodes[index as usize];
                    node.place = EXPIRED;
                    return Some(TimerId { index, generation: node.generation });
                }
            }
            self.due.clear();
            self.due_next = 0;
            match self.first() {
                Some((place, start)) if start <= now => self.visit(place, start, now),
                _ => {
                    self.now = self.now.max(now);
                    return None;
                }
            }
        }
    }

    /// The hand: the tick up to which all timers have been checked. With a deadline it gives the
    /// level and the slot of a timer, by the rule at the top of this file.
    pub fn hand(&self) -> u64 {
        self.now
    }

    /// The tick at which to wake; `None` if no timer is armed, the hand's tick if one is due. Never
    /// later than the earliest deadline; earlier only after a timer was cancelled or re-armed (see
    /// `Slot::earliest`).
    #[inline]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.due_next < self.due.len() && self.len > 0 {
            return Some(self.now);
        }
        self.first().map(|(place, start)| self.slots[place].earliest.max(start))
    }

    /// The first occupied slot and the tick it begins at, not before the hand.
    #[inline]
    fn first(&self) -> Option<(usize, u64)> {
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied != 0 {
                let slot = occupied.trailing_zeros() as usize;
                let shift = DIGIT * level as u32;
                let above = self.now >> (shift + DIGIT) << (shift + DIGIT);
                return Some((level * SLOTS + slot, above | (slot as u64) << shift));
            }
        }
        // The slot beyond spans many revolutions of level 5; it is visited when the first begins.
        let beyond = &self.slots[BEYOND as usize];
        let shift = DIGIT * LEVELS as u32;
        (!beyond.nodes.is_empty()).then(|| (BEYOND as usize, beyond.earliest >> shift << shift))
    }

    /// Moves the hand into a slot, as far as `now`, and empties it: the timers that are due go to
    /// `due`, on any level; the rest cascades. On level 0 the rest are timers that were re-armed
    /// for later while they stood there.
    fn visit(&mut self, place: usize, start: u64, now: u64) {
        let last = start | ((1 << (DIGIT * (place / SLOTS) as u32)) - 1);
        self.now = self.now.max(now.min(last));
        let nodes = mem::replace(&mut self.slots[place].nodes, mem::take(&mut self.spare));
        if let Some(occupied) = self.occupied.get_mut(place / SLOTS) {
            *occupied &= !(1 << (place % SLOTS));
        }
        for some in nodes.chunks(FETCHED) {
            for (deadline, &index) in self.fetch(some).into_iter().zip(some) {
                if deadline <= self.now {
                    self.nodes[index as usize].place = DUE;
                    self.due.push(index);
                } else {
                    self.link(index);
                }
            }
        }
        if self.due.len() > 1 {
            let table = &self.nodes;
            self.due.sort_unstable_by_key(|&index| table[index as usize].order());
        }
        for (position, &index) in self.due.iter().enumerate() {
            self.nodes[index as usize].position = position as u32;
        }
        self.keep_spare(nodes);
    }

    /// Puts a node into the slot of its deadline, or into the hand's slot if that has passed.
    #[inline]
    fn link(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        let deadline = node.deadline.max(self.now);
        let level = ((63 - ((deadline ^ self.now) | 1).leading_zeros()) / DIGIT) as usize;
        let place = if level < LEVELS {
            let slot = (deadline >> (DIGIT * level as u32)) as usize % SLOTS;
            self.occupied[level] |= 1 << slot;
            level * SLOTS + slot
        } else {
            BEYOND as usize
        };
        let slot = &mut self.slots[place];
        if slot.nodes.is_empty() || deadline < slot.earliest {
            slot.earliest = deadline;
        }
        node.place = place as u16;
        node.position = slot.nodes.len() as u32;
        slot.nodes.push(index);
    }

    /// Takes a node out of its slot, or out of `due`.
    #[inline]
    fn unlink(&mut self, index: u32) {
        let Node { place, position, .. } = self.nodes[index as usize];
        match place {
            DUE => self.due[position as usize] = NONE,
            EXPIRED => {}
            _ => {
                let slot = &mut self.slots[place as usize];
                slot.nodes.swap_remove(position as usize);
                if let Some(&moved) = slot.nodes.get(position as usize) {
                    self.nodes[moved as usize].position = position;
                } else if slot.nodes.is_empty()
                    && let Some(occupied) = self.occupied.get_mut(place as usize / SLOTS)
                {
                    *occupied &= !(1 << (place as usize % SLOTS));
                }
                slot.shrink();
            }
        }
    }
}
