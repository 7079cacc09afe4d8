//! Snapshots: the loop's state as plain data, for a debugger, a test or a page that shows it.
//!
//! Knows every part of the loop's state; changes none. Each change of it is a record of the trace:
//! a snapshot and the records that follow it give the state at any later moment.

use super::queue::Item;
use super::trace::{Kind, Subject};
use super::{Context, Place, Priority, RawId};
use crate::timers::TimerId;

/// The state of a loop at one moment; see [`Context::snapshot`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The last record of the trace before this moment; 0 without one.
    pub sequence: u64,
    /// The sources, in the order of their slots.
    pub sources: Vec<SourceState>,
    /// The timers of the program, in the order of their slots.
    pub timers: Vec<TimerState>,
    /// The entries of the event queue, for the lanes High, Normal and Low.
    pub lanes: [Vec<Waiting>; 3],
    /// How many of them, from the front of each lane, belong to the turn. Zero between turns.
    pub batch: [usize; 3],
    /// The deferred callbacks, in their order: where each was deferred.
    pub deferred: Vec<Place>,
}

/// A source in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq)]
pub struct SourceState {
    /// Its id.
    pub id: RawId,
    /// The name of its type.
    pub what: &'static str,
    /// Where it was registered.
    pub place: Place,
    /// The lane in which its events wait.
    pub lane: Priority,
    /// The bits of the [`Readiness`](super::Readiness) with which it waits in the queue, as records
    /// have them; 0 if it does not wait.
    pub pending: u32,
    /// The tick of its deadline, if one is armed.
    pub deadline: Option<u64>,
    /// True if it holds the loop (R8).
    pub holds: bool,
}

/// A timer in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq)]
pub struct TimerState {
    /// Its id.
    pub id: TimerId,
    /// Where it was armed.
    pub place: Place,
    /// The tick of its deadline.
    pub deadline: u64,
    /// True if it holds the loop (R8).
    pub holds: bool,
    /// True if it has expired and waits in the queue.
    pub expired: bool,
}

/// An entry of the event queue in a [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Waiting {
    /// A source is ready.
    Source(RawId),
    /// A timer has expired.
    Timer(TimerId),
    /// The deadline of a source has expired.
    Deadline(RawId),
    /// A callback was enqueued, at this place.
    Enqueued(Place),
    /// A callback was posted, at this place.
    Posted(Place),
}

impl<S: 'static> Context<S> {
    /// The loop's state at this moment. O(sources + timers + queue).
    ///
    /// Calls that wait in another thread's mailbox, or behind a [`Local`](super::Local), are not in
    /// it yet: the loop has not collected them.
    pub fn snapshot(&self) -> Snapshot {
        let deadline = |timer| self.wheel.deadline(timer);
        let sources = self.sources.iter().map(|(id, entry)| SourceState {
            id,
            what: entry.object.name(),
            place: entry.place,
            lane: entry.priority,
            pending: entry.pending.bits(),
            deadline: entry.deadline.and_then(deadline),
            holds: entry.is_referenced(),
        });
        let timers = self.wheel.iter().filter_map(|(id, timer)| {
            let (holds, place) = timer.held()?;
            let expired = self.wheel.is_expired(id);
            Some(TimerState { id, place, deadline: deadline(id)?, holds, expired })
        });
        let mut timers: Vec<_> = timers.collect();
        timers.sort_by_key(|timer| timer.id.parts());
        Snapshot {
            sequence: self.trace.sequence,
            sources: sources.collect(),
            timers,
            lanes: [0, 1, 2].map(|lane| self.queue.entries(lane).map(waiting).collect()),
            batch: self.batch.left(),
            deferred: self.deferred.iter().map(|call| call.place).collect(),
        }
    }

    /// The hand of the timer wheel, a tick; see [`Wheel::hand`](crate::timers::Wheel::hand).
    pub fn hand(&self) -> u64 {
        self.wheel.hand()
    }

    /// At the [gate](Context::set_gate): what the loop runs next, as the kind of its record, its
    /// subject and its place. Elsewhere it is a guess, since more may come first. An entry that is
    /// stale is shown, too: it is dropped next.
    pub fn upcoming(&self) -> Option<(Kind, Subject, Place)> {
        if let Some(call) = self.deferred.front().filter(|_| self.deferred_left > 0) {
            return Some((Kind::RunDeferred, Subject::None, call.place));
        }
        let lane = self.batch.left().iter().position(|left| *left > 0)?;
        let (item, place) = self.queue.entries(lane).next()?;
        let (kind, subject) = match item {
            Item::Source(id) => (Kind::RunSource, id.into()),
            Item::Timer(id) => (Kind::RunTimer, id.into()),
            Item::Deadline(id) => (Kind::RunSource, Subject::Deadline(id)),
            Item::Enqueued => (Kind::RunEnqueued, Subject::None),
            Item::Posted => (Kind::RunPosted, Subject::None),
            Item::PostedFor(id) => (Kind::RunPosted, id.into()),
        };
        Some((kind, subject, place.unwrap_or_else(|| self.place_of(subject))))
    }
}

/// An entry, which has a place if it is a call.
fn waiting((item, place): (Item, Option<Place>)) -> Waiting {
    match (item, place) {
        (Item::Source(id), _) => Waiting::Source(id),
        (Item::Timer(id), _) => Waiting::Timer(id),
        (Item::Deadline(id), _) => Waiting::Deadline(id),
        (Item::Enqueued, Some(place)) => Waiting::Enqueued(place),
        (Item::Posted | Item::PostedFor(_), Some(place)) => Waiting::Posted(place),
        (Item::Enqueued | Item::Posted | Item::PostedFor(_), None) => {
            unreachable!("each call of a lane has its entry among the items")
        }
    }
}
