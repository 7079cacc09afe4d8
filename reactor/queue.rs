//! The event queue: what is to run, in three lanes, first in first out in each.
//!
//! Knows ids and boxed callbacks; never runs one.
//!
//! A turn collects into the queue and then runs what it holds at that moment, the *batch*. Whatever
//! a callback adds stands behind the batch and waits for the next turn, so no callback, however
//! often it enqueues itself, keeps the loop from looking at its sources (R2).
//!
//! ```text
//!            ├──── batch, this turn ────┤├─ next turn ─┤
//!   High      s#4  call                   call
//!   Normal    s#1  s#9  t#2  post         s#1
//!   Low       call
//! ```
//!
//! Lanes order a batch and do not lock out: the Low lane of a batch runs in that turn, however much
//! stood in High (R7).
//!
//! # Read next
//! `timer.rs`: the callbacks that wait for a time.

use std::collections::VecDeque;

use super::{Context, JobId, Place, RawId};
use crate::timers::TimerId;

/// The lane in which an event waits; orders the events of one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before the rest of the turn.
    High,
    /// Sources, timers and posts, unless said otherwise.
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
    /// Sequence number of the trace record of the callback that asked for this one; 0 for none.
    pub(super) cause: u64,
}

/// An entry of a lane. Sources and timers leave their callbacks where they are until they run, so
/// an entry whose subject has gone in the meantime is recognised and dropped.
#[derive(Clone, Copy)]
pub(super) enum Item {
    Source(RawId),
    Timer(TimerId),
    /// A job that has a result.
    Job(JobId),
    /// The lane's next call, enqueued on this thread.
    Enqueued,
    /// The lane's next call, posted by another.
    Posted,
}

/// How many entries of each lane belong to the turn, and the lane that is under way.
pub(super) struct Batch {
    left: [usize; 3],
    lane: usize,
}

struct Lane<S> {
    items: VecDeque<Item>,
    /// The calls among the items, in the same order. Beside them, so that an item is 12 bytes: the
    /// events of sources and timers, the most by far, would otherwise be moved in five words.
    calls: VecDeque<Call<S>>,
}

pub(super) struct EventQueue<S> {
    lanes: [Lane<S>; 3],
}

impl Batch {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.left.iter().sum()
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

    pub(super) fn push_job(&mut self, id: JobId) {
        self.lanes[Priority::Normal as usize].items.push_back(Item::Job(id));
    }

    pub(super) fn enqueue(&mut self, priority: Priority, call: Call<S>) {
        self.lanes[priority as usize].items.push_back(Item::Enqueued);
        self.lanes[priority as usize].calls.push_back(call);
    }

    pub(super) fn post(&mut self, call: Call<S>) {
        self.lanes[Priority::Normal as usize].items.push_back(Item::Posted);
        self.lanes[Priority::Normal as usize].calls.push_back(call);
    }

    /// What the queue holds now.
    #[inline]
    pub(super) fn batch(&self) -> Batch {
        Batch { left: [0, 1, 2].map(|lane| self.lanes[lane].items.len()), lane: 0 }
    }

    /// Takes the batch's next entry, and tells its lane. An entry is gone from the queue before it
    /// runs, so a panic loses none of the others (R9).
    #[inline]
    pub(super) fn pop(&mut self, batch: &mut Batch) -> Option<(usize, Item)> {
        while *batch.left.get(batch.lane)? == 0 {
            batch.lane += 1;
        }
        batch.left[batch.lane] -= 1;
        Some((batch.lane, self.lanes[batch.lane].items.pop_front()?))
    }

    /// Takes the call that a popped entry of this lane stands for.
    #[inline]
    pub(super) fn pop_call(&mut self, lane: usize) -> Option<Call<S>> {
        self.lanes[lane].calls.pop_front()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.items.is_empty())
    }

    /// Callbacks among the entries: they hold the loop, as nothing else stands for them.
    pub(super) fn calls(&self) -> usize {
        self.lanes.iter().map(|lane| lane.calls.len()).sum()
    }
}
