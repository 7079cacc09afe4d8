//! The event queue: the callbacks to run, in three lanes, each first in, first out.
//!
//! Knows ids and boxed callbacks; never runs one.
//!
//! A turn collects into the queue and then runs the entries of that moment, the *batch*. An entry
//! that a callback adds stands behind the batch and waits for the next turn. So a callback that
//! enqueues itself again and again cannot starve the sources (R2).
//!
//! ```text
//!            ├──── batch, this turn ────┤├─ next turn ─┤
//!   High      s#4  call                   call          s#4   an event of source 4
//!   Normal    s#1  s#9  t#2  post         s#1           t#2   timer 2 has expired
//!   Low       call                                      call  an enqueued callback
//! ```
//!
//! Lanes order a batch, and none starves: the Low lane of a batch runs in the same turn, however
//! many entries are in High (R7).
//!
//! # Read next
//! `timer.rs`: the callbacks that wait for a time.

use std::collections::VecDeque;

use super::{Context, Place, RawId};
use crate::timers::TimerId;

/// The lane in which an event waits; orders the events of one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before the rest of the turn.
    High,
    /// Sources, timers and posts, by default.
    #[default]
    Normal,
    /// After the rest of the turn.
    Low,
}

/// A callback that is called once, in its box.
pub type Once<S> = Box<dyn FnOnce(&mut Context<S>, &mut S)>;

/// A callback to be called once.
pub(super) struct Call<S> {
    pub(super) run: Once<S>,
    pub(super) place: Place,
    /// The callback that asked for this one, by its number in the trace; 0 for none.
    pub(super) cause: u64,
}

/// An entry of a lane. The callbacks of sources and timers stay in their slots until they run, so
/// an entry whose source or timer has gone by then is recognised and dropped.
#[derive(Clone, Copy)]
pub(super) enum Item {
    Source(RawId),
    Timer(TimerId),
    /// The deadline of a source.
    Deadline(RawId),
    /// The lane's next call, enqueued on this thread.
    Enqueued,
    /// The lane's next call, posted by another thread.
    Posted,
    /// The same, on behalf of a source.
    PostedFor(RawId),
}

/// How many entries of each lane belong to the turn, and the lane that runs now.
pub(super) struct Batch {
    left: [usize; 3],
    lane: usize,
}

struct Lane<S> {
    items: VecDeque<Item>,
    /// The calls among the items, in the same order. They are kept apart so that an item needs 12
    /// bytes and not five words: nearly all items are events of sources and timers.
    calls: VecDeque<Call<S>>,
}

impl<S> Lane<S> {
    /// Returns true if there is one item for each call. O(items), like the turn that runs them.
    fn agrees(&self) -> bool {
        let events =
            |item: &&Item| matches!(item, Item::Source(_) | Item::Timer(_) | Item::Deadline(_));
        self.items.len() - self.items.iter().filter(events).count() == self.calls.len()
    }
}

pub(super) struct EventQueue<S> {
    lanes: [Lane<S>; 3],
}

impl Batch {
    pub(super) const EMPTY: Batch = Batch { left: [0; 3], lane: 0 };

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.left.iter().sum()
    }

    /// The first lane that has entries left; `None` if the batch is used up.
    #[inline]
    pub(super) fn next_lane(&mut self) -> Option<usize> {
        while *self.left.get(self.lane)? == 0 {
            self.lane += 1;
        }
        Some(self.lane)
    }

    pub(super) fn left(&self) -> [usize; 3] {
        self.left
    }
}

impl<S> EventQueue<S> {
    pub(super) fn new() -> EventQueue<S> {
        EventQueue {
            lanes: [(); 3].map(|()| Lane { items: VecDeque::new(), calls: VecDeque::new() }),
        }
    }

    #[inline]
    pub(super) fn push_source(&mut self, priority: Priority, id: RawId) {
        self.lanes[priority as usize].items.push_back(Item::Source(id));
    }

    #[inline]
    pub(super) fn push_timer(&mut self, priority: Priority, id: TimerId) {
        self.lanes[priority as usize].items.push_back(Item::Timer(id));
    }

    #[inline]
    pub(super) fn push_deadline(&mut self, priority: Priority, source: RawId) {
        self.lanes[priority as usize].items.push_back(Item::Deadline(source));
    }

    pub(super) fn enqueue(&mut self, priority: Priority, call: Call<S>) {
        self.lanes[priority as usize].items.push_back(Item::Enqueued);
        self.lanes[priority as usize].calls.push_back(call);
    }

    pub(super) fn post(&mut self, source: Option<RawId>, call: Call<S>) {
        let item = source.map_or(Item::Posted, Item::PostedFor);
        self.lanes[Priority::Normal as usize].items.push_back(item);
        self.lanes[Priority::Normal as usize].calls.push_back(call);
    }

    /// The entries that the queue holds now.
    #[inline]
    pub(super) fn batch(&self) -> Batch {
        debug_assert!(
            self.lanes.iter().all(Lane::agrees),
            "each call of a lane has its entry among the items"
        );
        Batch { left: [0, 1, 2].map(|lane| self.lanes[lane].items.len()), lane: 0 }
    }

    /// Takes the batch's next entry, in [`next_lane`](Batch::next_lane). An entry leaves the queue
    /// before it runs, so a panic loses none of the others (R9).
    #[inline]
    pub(super) fn pop(&mut self, batch: &mut Batch, lane: usize) -> Option<Item> {
        debug_assert!(
            (1..=self.lanes[lane].items.len()).contains(&batch.left[lane]),
            "a batch is no larger than the queue: only its own entries are taken out"
        );
        batch.left[lane] -= 1;
        self.lanes[lane].items.pop_front()
    }

    /// The entries of a lane, each call with its place.
    pub(super) fn entries(&self, lane: usize) -> impl Iterator<Item = (Item, Option<Place>)> {
        let Lane { items, calls } = &self.lanes[lane];
        let mut calls = calls.iter();
        items.iter().map(move |item| match item {
            Item::Source(_) | Item::Timer(_) | Item::Deadline(_) => (*item, None),
            _ => (*item, calls.next().map(|call| call.place)),
        })
    }

    /// Takes the call of an entry that was popped from this lane.
    #[inline]
    pub(super) fn pop_call(&mut self, lane: usize) -> Option<Call<S>> {
        self.lanes[lane].calls.pop_front()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.items.is_empty())
    }

    /// How many entries this source has; `None` if there are more than `max` entries to look at.
    pub(super) fn count_of(&self, id: RawId, max: usize) -> Option<usize> {
        let entries: usize = self.lanes.iter().map(|lane| lane.items.len()).sum();
        let items = self.lanes.iter().flat_map(|lane| &lane.items);
        let is_of = |item: &&Item| matches!(item, Item::Source(of) if *of == id);
        (entries <= max).then(|| items.filter(is_of).count())
    }

    /// Calls among the entries. They hold the loop themselves: they have no source or timer.
    pub(super) fn calls(&self) -> usize {
        self.lanes.iter().map(|lane| lane.calls.len()).sum()
    }
}
