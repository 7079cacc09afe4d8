//! The tables that hold a wheel, and how it gives memory back. The algorithm is not here.
//!
//! Knows nodes and slots; never mentions which timer is next.
//!
//! A slot is an array of node indices and each node knows its place in it, so that a cancel is one
//! `swap_remove`. Linked slots were measured first: a move through a linked list of a million
//! timers is one cache miss after the other, ten times as slow as this. The price is that a slot
//! loses the order of arming, so the few timers that expire together are sorted at that moment.
//!
//! Among a million timers each node is a cache miss. So the nodes of a slot are read in batches:
//! the processor waits for the misses of a batch together. A node has 24 bytes, beside the value.
//!
//! # Read next
//! `../wheel.rs`: the algorithm.

use std::fmt;
use std::num::NonZeroU32;

use super::{BEYOND, EXPIRED, FREE, LEVELS, NONE, Wheel};

/// A slot or table that empties keeps the memory of this many entries. Less is not worth the
/// allocator's time; more is given back.
const KEPT: usize = 64;

/// Nodes of a slot that are looked at before any of them is moved. Among a million timers each is a
/// cache miss, and the processor waits for these together.
pub(super) const FETCHED: usize = 16;

/// Names a timer: an index into the table and the generation of its use. Stale ids are harmless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId {
    pub(super) index: u32,
    pub(super) generation: NonZeroU32,
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
pub(super) struct Node<T> {
    pub(super) deadline: u64,
    /// The number of its arming: the lower 32 bits of 48. At a million armings a second they last
    /// for nine years; after that one tie may be broken the wrong way.
    pub(super) armed_low: u32,
    pub(super) armed_high: u16,
    /// The slot it stands in, or one of the places above.
    pub(super) place: u16,
    /// Its index in that slot or in `due`.
    pub(super) position: u32,
    pub(super) generation: NonZeroU32,
    /// Some exactly when it is not free.
    pub(super) value: Option<T>,
}

impl<T> Node<T> {
    pub(super) fn order(&self) -> (u64, u64) {
        (self.deadline, u64::from(self.armed_high) << 32 | u64::from(self.armed_low))
    }
}

/// The timers of one slot.
#[derive(Clone, Default)]
pub(super) struct Slot {
    /// No timer here has an earlier deadline. Exact until the earliest is cancelled or re-armed;
    /// after that the loop may wake once for nothing, and the hand then empties the slot.
    pub(super) earliest: u64,
    pub(super) nodes: Vec<u32>,
}

impl Slot {
    /// A slot that has emptied by three quarters gives memory back.
    #[inline]
    pub(super) fn shrink(&mut self) {
        let (len, capacity) = (self.nodes.len(), self.nodes.capacity());
        if capacity > KEPT && len < capacity / 4 {
            self.nodes.shrink_to((2 * len).max(KEPT));
        }
    }
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

    /// Returns true if [`expire`](Wheel::expire) has returned the timer and it was not re-armed.
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
    pub(super) fn node(&self, id: TimerId) -> Option<&Node<T>> {
        let node = self.nodes.get(id.index as usize)?;
        (node.generation == id.generation && node.place != FREE).then_some(node)
    }

    /// Puts a node into the table, in a free place if there is one.
    #[inline]
    pub(super) fn put(&mut self, mut node: Node<T>) -> TimerId {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            let place = &mut self.nodes[index as usize];
            node.generation = place.generation;
            *place = node;
            return TimerId { index, generation: place.generation };
        }
        let (index, generation) = (self.nodes.len() as u32, node.generation);
        assert!(index < NONE, "more than 2^32 - 1 timers");
        self.nodes.push(node);
        TimerId { index, generation }
    }

    /// Frees a node that is in no slot any more, and returns its value.
    #[inline]
    pub(super) fn take(&mut self, index: u32) -> Option<T> {
        let node = &mut self.nodes[index as usize];
        let value = node.value.take();
        node.place = FREE;
        node.generation = node.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.highest_generation = self.highest_generation.max(node.generation);
        self.free.push(index);
        self.len -= 1;
        if self.len == 0 && self.nodes.capacity() > self.reserved.max(KEPT) {
            self.give_memory_back();
        }
        value
    }

    /// The deadlines of up to [`FETCHED`] nodes.
    #[inline]
    pub(super) fn fetch(&self, some: &[u32]) -> [u64; FETCHED] {
        let mut deadlines = [0; FETCHED];
        for (deadline, &index) in deadlines.iter_mut().zip(some) {
            *deadline = self.nodes[index as usize].deadline;
        }
        deadlines
    }

    /// Keeps the memory of a slot that was emptied for the next one, unless it is much larger than
    /// its contents were.
    pub(super) fn keep_spare(&mut self, mut nodes: Vec<u32>) {
        if nodes.capacity() <= KEPT.max(4 * nodes.len()) {
            nodes.clear();
            self.spare = nodes;
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
