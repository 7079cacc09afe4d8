//! A hierarchical timer wheel: arm, cancel and re-arm in O(1), the next deadline from a bitmap.
//!
//! Knows only integers; never mentions a clock. The caller passes the current tick, and the wheel
//! returns the timers that have expired.
//!
//! The problem: an event loop holds many timers, most of which never fire (a timeout is armed for
//! every request and cancelled by the reply), and before each wait it asks for the earliest. A
//! sorted structure pays O(log n) for each of these. A wheel pays for exact order only when a
//! timer comes near:
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
//! Compare a deadline with the hand, both in base 64, and take the highest digit that differs: its
//! place is the timer's level, its value the slot. When the hand reaches a slot of level n, the
//! timers in it *cascade*: they now agree with the hand in that digit, so they belong to a lower
//! level. A timer moves at most once for each level, and expires on any level once it is due.
//!
//! The lowest level with a timer holds the earliest deadline, because its timers agree with the
//! hand in every higher digit. No level wraps round, so a far timer never hides a near one (tokio's
//! wheel had that defect: tokio-rs/tokio #8334). Algorithm: Varghese and Lauck, *Hashed and
//! Hierarchical Timing Wheels*, scheme 7, 1987.
//!
//! A slot is an array of node indices and each node knows its place in it, so that a cancel is one
//! `swap_remove`. Linked slots were measured first: a move through a linked list of a million
//! timers is one cache miss after the other, ten times as slow as this. The price is that a slot
//! loses the order of arming, so the few timers that expire together are sorted at that moment.
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
//! Ticks finer or coarser than the caller's: the wheel does not know what a tick is.
//!
//! # Read next
//! `../net/conn.rs`: a connection on this loop. Beside the path: `clock.rs`, from moments to ticks.

use std::fmt;
use std::mem;
use std::num::NonZeroU32;

/// Slots of a level; one digit of a deadline in base 64.
const SLOTS: usize = 64;
/// Bits of a digit.
const DIGIT: u32 = SLOTS.trailing_zeros();
/// Levels before [`BEYOND`].
const LEVELS: usize = 6;

/// The place of timers whose deadline differs from the hand above level 5, 2.2 years and more.
const BEYOND: u16 = (LEVELS * SLOTS) as u16;
/// The place of a timer that waits in `due` to be handed out.
const DUE: u16 = BEYOND + 1;
/// The place of a timer that was handed out and not yet cancelled or re-armed.
const EXPIRED: u16 = BEYOND + 2;
/// The place of a node without a timer.
const FREE: u16 = BEYOND + 3;

/// No node: marks an entry of `due` whose timer was cancelled or re-armed.
const NONE: u32 = u32::MAX;
/// A slot or table that empties keeps the memory of this many entries. Less is not worth the
/// allocator's time; more is given back.
const KEPT: usize = 64;

/// Nodes of a slot that are looked at before any of them is moved. Among a million timers each is a
/// cache miss, and the processor waits for these together.
const FETCHED: usize = 16;

/// Names a timer: an index into the table and the generation of its use. Stale ids are harmless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId {
    index: u32,
    generation: NonZeroU32,
}

impl TimerId {
    /// The place in the table and the generation, for traces and displays.
    pub fn parts(self) -> (u32, u32) {
        (self.index, self.generation.get())
    }
}

impl fmt::Debug for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timer#{}.{}", self.index, self.generation)
    }
}

/// One timer, or a free place for one. 24 bytes and the value.
struct Node<T> {
    deadline: u64,
    /// The number of its arming: the lower 32 bits of 48. At a million armings a second they last
    /// for nine years; after that one tie may be broken the wrong way.
    armed_low: u32,
    armed_high: u16,
    /// The slot it stands in, or one of the places above.
    place: u16,
    /// Its index in that slot or in `due`.
    position: u32,
    generation: NonZeroU32,
    /// Some exactly when it is not free.
    value: Option<T>,
}

impl<T> Node<T> {
    fn order(&self) -> (u64, u64) {
        (self.deadline, u64::from(self.armed_high) << 32 | u64::from(self.armed_low))
    }
}

/// The timers of one slot.
#[derive(Clone, Default)]
struct Slot {
    /// No timer here has an earlier deadline. Exact until the earliest is cancelled or re-armed;
    /// after that the loop may wake once for nothing, and the hand then empties the slot.
    earliest: u64,
    nodes: Vec<u32>,
}

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
    /// The hand: the tick up to which everything has been looked at.
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
    /// Expired timers in order; those from `due_next` on are still to be handed out.
    due: Vec<u32>,
    due_next: usize,
    /// The memory of a slot that was emptied, for the next one.
    spare: Vec<u32>,
    /// Nodes asked for in advance; kept when the wheel empties.
    reserved: usize,
}

impl<T> Wheel<T> {
    /// An empty wheel with its hand at tick 0.
    pub fn new() -> Wheel<T> {
        Wheel::with_capacity(0)
    }

    /// An empty wheel with memory for `timers` nodes.
    pub fn with_capacity(timers: usize) -> Wheel<T> {
        Wheel {
            now: 0,
            occupied: [0; LEVELS],
            slots: vec![Slot::default(); BEYOND as usize + 1],
            nodes: Vec::with_capacity(timers),
            free: Vec::new(),
            first_generation: NonZeroU32::MIN,
            highest_generation: NonZeroU32::MIN,
            len: 0,
            armed: 0,
            due: Vec::new(),
            due_next: 0,
            spare: Vec::new(),
            reserved: timers,
        }
    }

    /// Arms a timer for the tick `deadline`.
    #[inline]
    pub fn insert(&mut self, deadline: u64, value: T) -> TimerId {
        self.armed += 1;
        let mut node = Node {
            deadline,
            armed_low: self.armed as u32,
            armed_high: (self.armed >> 32) as u16,
            place: FREE,
            position: 0,
            generation: self.first_generation,
            value: Some(value),
        };
        let index = if let Some(index) = self.free.pop() {
            let place = &mut self.nodes[index as usize];
            node.generation = place.generation;
            *place = node;
            index
        } else {
            let index = self.nodes.len() as u32;
            assert!(index < NONE, "more than 2^32 - 1 timers");
            self.nodes.push(node);
            index
        };
        self.len += 1;
        self.link(index);
        TimerId { index, generation: self.nodes[index as usize].generation }
    }

    /// Removes the timer and returns its value; `None` when the id is stale.
    #[inline]
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.node(id)?;
        self.unlink(id.index);
        let node = &mut self.nodes[id.index as usize];
        let value = node.value.take();
        node.place = FREE;
        node.generation = node.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.highest_generation = self.highest_generation.max(node.generation);
        self.free.push(id.index);
        self.len -= 1;
        if self.len == 0 && self.nodes.capacity() > self.reserved.max(KEPT) {
            self.give_memory_back();
        }
        value
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

    /// Moves the hand towards `now` and hands out the next timer due, in order; `None` once the
    /// hand is there. An expired timer keeps its id and value until it is cancelled or re-armed.
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

    /// The tick to wake at, or `None` if nothing is armed; the hand's tick, if a timer is due.
    /// Never after the earliest deadline; before it only if a timer was cancelled or re-armed
    /// (see `Slot::earliest`).
    #[inline]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.due_next < self.due.len() && self.len > 0 {
            return Some(self.now);
        }
        self.first().map(|(place, start)| self.slots[place].earliest.max(start))
    }

    /// The timer's value, expired or not.
    pub fn get(&self, id: TimerId) -> Option<&T> {
        self.node(id)?.value.as_ref()
    }

    /// The timer's value, expired or not.
    #[inline]
    pub fn get_mut(&mut self, id: TimerId) -> Option<&mut T> {
        let node = self.nodes.get_mut(id.index as usize)?;
        if node.generation == id.generation { node.value.as_mut() } else { None }
    }

    /// The tick the timer is armed for.
    pub fn deadline(&self, id: TimerId) -> Option<u64> {
        Some(self.node(id)?.deadline)
    }

    /// Returns true if [`expire`](Wheel::expire) has handed the timer out and it was not re-armed.
    #[inline]
    pub fn is_expired(&self, id: TimerId) -> bool {
        self.node(id).is_some_and(|node| node.place == EXPIRED)
    }

    /// Timers held, expired ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if no timer is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every timer, in no order. O(table).
    pub fn iter(&self) -> impl Iterator<Item = (TimerId, &T)> {
        self.nodes.iter().enumerate().filter_map(|(index, node)| {
            let id = TimerId { index: index as u32, generation: node.generation };
            node.value.as_ref().map(|value| (id, value))
        })
    }

    #[inline]
    fn node(&self, id: TimerId) -> Option<&Node<T>> {
        let node = self.nodes.get(id.index as usize)?;
        (node.generation == id.generation && node.place != FREE).then_some(node)
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
        let mut nodes = mem::replace(&mut self.slots[place].nodes, mem::take(&mut self.spare));
        if let Some(occupied) = self.occupied.get_mut(place / SLOTS) {
            *occupied &= !(1 << (place % SLOTS));
        }
        for some in nodes.chunks(FETCHED) {
            let mut deadlines = [0; FETCHED];
            for (deadline, &index) in deadlines.iter_mut().zip(some) {
                *deadline = self.nodes[index as usize].deadline;
            }
            for (&deadline, &index) in deadlines.iter().zip(some) {
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
        // Memory much larger than its contents is given back to the allocator.
        if nodes.capacity() <= KEPT.max(4 * nodes.len()) {
            nodes.clear();
            self.spare = nodes;
        }
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
                if slot.nodes.capacity() > KEPT && slot.nodes.len() < slot.nodes.capacity() / 4 {
                    slot.nodes.shrink_to((2 * slot.nodes.len()).max(KEPT));
                }
            }
        }
    }

    /// Shrinks an empty wheel to what was reserved. The generations go on from the highest.
    fn give_memory_back(&mut self) {
        self.first_generation = self.highest_generation;
        self.nodes.clear();
        self.nodes.shrink_to(self.reserved);
        self.free = Vec::new();
        self.due = Vec::new();
        self.due_next = 0;
        self.spare = Vec::new();
        for slot in &mut self.slots {
            slot.nodes = Vec::new();
        }
    }
}

impl<T> Default for Wheel<T> {
    fn default() -> Wheel<T> {
        Wheel::new()
    }
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("now", &self.now)
            .field("timers", &self.len)
            .field("next_deadline", &self.next_deadline())
            .finish()
    }
}
