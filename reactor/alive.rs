//! References: the things that hold the loop, and the list of them.
//!
//! `run` returns when nothing *referenced* is left (R8). Every source and timer counts until
//! [`unref`](Context::unref); so do remotes, and callbacks that wait in the queue. Users of every
//! such loop ask "Why does `run` not return?"; [`why_alive`](Context::why_alive) answers.

use std::any::TypeId;
use std::fmt;

use super::RawId;
use super::source::Entry;
use super::timer::Timer;
use super::trace::{Kind, Subject, lane_bits};
use super::{Context, Place, SourceId};
use crate::timers::TimerId;

/// A turn ends with a check if there are at most this many sources, timers and entries of the
/// queue. Most tests have fewer, and the check takes a microsecond.
const CHECKED_MAX: usize = 64;

/// One reason why [`run`](super::Reactor::run) has not returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alive {
    /// A source, and where it was registered.
    Source(RawId, Place),
    /// A timer, and where it was armed.
    Timer(TimerId, Place),
    /// A remote from which posts are expected, and where it was made.
    Remote(Place),
    /// A part of a source, such as `task "backup" added` or `job#3.1 offloaded`, and its place. The
    /// author of the source names the parts ([`Context::name_parts`]).
    Part(String, Place),
    /// Callbacks that are queued or posted.
    Queued(usize),
}

impl fmt::Display for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alive::Source(id, place) => write!(f, "{id:?} registered at {place}"),
            Alive::Timer(id, place) => write!(f, "{id:?} armed at {place}"),
            Alive::Remote(place) => write!(f, "remote made at {place}"),
            Alive::Part(name, place) => write!(f, "{name} at {place}"),
            Alive::Queued(count) => write!(f, "{count} queued callbacks"),
        }
    }
}

impl From<TimerId> for Handle {
    fn from(id: TimerId) -> Handle {
        Handle(Subject::Timer(id))
    }
}

impl From<RawId> for Handle {
    fn from(id: RawId) -> Handle {
        Handle(Subject::Source(id))
    }
}

impl<T> From<SourceId<T>> for Handle {
    fn from(id: SourceId<T>) -> Handle {
        id.raw().into()
    }
}

/// A source or a timer: the argument of methods that take either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(Subject);

/// Finds the parts of a source that hold the loop.
type Parts<S> = Box<dyn Fn(RawId, &Entry<S>) -> Option<Vec<(String, Place)>>>;

/// The types of sources that name their parts.
struct Parted<S: 'static>(Vec<(TypeId, Parts<S>)>);

impl<S: 'static> Default for Parted<S> {
    fn default() -> Parted<S> {
        Parted(Vec::new())
    }
}

impl<S: 'static> Context<S> {
    /// For authors of patterns: in place of a source of type `T`, [`why_alive`](Context::why_alive)
    /// lists the parts of it that hold the loop. `parts` returns a name and a place for each. A
    /// verb ends the name, for the action at that place: `task "backup" added`.
    pub fn name_parts<T: 'static>(&mut self, parts: fn(RawId, Place, &T) -> Vec<(String, Place)>) {
        let Parted(named) = self.extension();
        if named.iter().all(|(kind, _)| *kind != TypeId::of::<T>()) {
            let parts: Parts<S> =
                Box::new(move |id, entry| entry.value().map(|value| parts(id, entry.place, value)));
            named.push((TypeId::of::<T>(), parts));
        }
    }

    /// Lets `run` return although this source or timer is there. Returns false if the id is stale.
    pub fn unref(&mut self, handle: impl Into<Handle>) -> bool {
        self.set_referenced(handle.into(), false)
    }

    /// Takes [`unref`](Context::unref) back. Returns false if the id is stale.
    pub fn reref(&mut self, handle: impl Into<Handle>) -> bool {
        self.set_referenced(handle.into(), true)
    }

    fn set_referenced(&mut self, Handle(subject): Handle, to: bool) -> bool {
        let (was, is) = match subject {
            Subject::Source(id) => match self.sources.get_mut(id) {
                Some(entry) => {
                    let was = entry.is_referenced();
                    entry.set_referenced(to);
                    (was, entry.is_referenced())
                }
                None => return false,
            },
            Subject::Timer(id) => match self.wheel.get_mut(id) {
                Some(timer) => {
                    let Some((was, _)) = timer.held() else { return false };
                    timer.set_referenced(to);
                    (was, to)
                }
                None => return false,
            },
            Subject::Deadline(_) | Subject::None => return false,
        };
        self.count_held(subject, was, is);
        true
    }

    /// Counts what holds the loop after a source or timer has changed.
    pub(super) fn count_held(&mut self, subject: Subject, was: bool, is: bool) {
        self.referenced = self.referenced + usize::from(is) - usize::from(was);
        if was != is && self.trace.is_on() {
            self.note(Kind::Held, subject, self.place_of(subject), u32::from(is));
        }
    }

    /// Returns true if something holds the loop, so that `run` goes on.
    #[inline]
    pub fn is_alive(&self) -> bool {
        // Remotes before posts: a remote posts before it is dropped, so once its drop is seen, its
        // last post is seen, too.
        self.referenced > 0 || self.mailbox.is_expecting() || self.waiting_calls() > 0
    }

    /// Every reason why `run` has not returned. O(sources + timers).
    ///
    /// ```
    /// # use waterwheel::Reactor;
    /// let mut reactor = Reactor::<()>::new().unwrap();
    /// # let line = line!() + 1;
    /// reactor.after(std::time::Duration::from_secs(60), |_, _| {});
    /// println!("{}", reactor.why_alive()[0]); // timer#0.1 armed at examples/chat.rs:41
    /// # let shown = reactor.why_alive()[0].to_string();
    /// # assert_eq!(shown, format!("timer#0.1 armed at {}:{line}", file!()));
    /// ```
    pub fn why_alive(&self) -> Vec<Alive> {
        let mut why = Vec::new();
        let named = self.extension_ref().map_or(&[][..], |Parted(named)| named);
        let held = self.sources.iter().filter(|(_, entry)| entry.is_referenced());
        for (id, entry) in held {
            let before = why.len();
            let parts = named.iter().find_map(|(_, parts)| parts(id, entry)).unwrap_or_default();
            why.extend(parts.into_iter().map(|(name, place)| Alive::Part(name, place)));
            if why.len() == before {
                why.push(Alive::Source(id, entry.place));
            }
        }
        why.extend(self.wheel.iter().filter_map(|(id, timer)| match timer.held() {
            Some((true, place)) => Some(Alive::Timer(id, place)),
            _ => None,
        }));
        why.extend(self.mailbox.places().into_iter().map(Alive::Remote));
        if self.waiting_calls() > 0 {
            why.push(Alive::Queued(self.waiting_calls()));
        }
        why
    }

    /// The lane of a source, as records have it.
    pub(super) fn lane_bits(&self, id: RawId) -> u32 {
        self.sources.get(id).map_or(0, |entry| lane_bits(entry.priority))
    }

    /// The place where the subject was handed to the loop; for a deadline, the place of its source.
    /// If the subject has gone, the caller's place.
    #[track_caller]
    pub(super) fn place_of(&self, subject: Subject) -> Place {
        let place = match subject {
            Subject::Source(id) | Subject::Deadline(id) => {
                self.sources.get(id).map(|entry| entry.place)
            }
            Subject::Timer(id) => self.wheel.get(id).and_then(Timer::held).map(|(_, place)| place),
            Subject::None => None,
        };
        // Not `unwrap_or_else(Place::caller)`, which would name a line of the core library.
        match place {
            Some(place) => place,
            None => Place::caller(),
        }
    }

    /// In a debug build, asserts two invariants. `referenced` is the number of sources and timers
    /// that hold the loop. A source that has readiness pending is in the queue once, and any other
    /// is not in it. O(sources + timers), so only in a small loop.
    pub(super) fn check(&self) {
        if !cfg!(debug_assertions) || self.sources.len().max(self.wheel.len()) > CHECKED_MAX {
            return;
        }
        let sources = self.sources.iter().filter(|(_, entry)| entry.is_referenced()).count();
        let holds = |timer: &Timer<S>| timer.held().is_some_and(|(referenced, _)| referenced);
        let timers = self.wheel.iter().filter(|(_, timer)| holds(timer)).count();
        debug_assert_eq!(self.referenced, sources + timers, "what holds the loop is counted");
        for (id, entry) in self.sources.iter() {
            let entries = usize::from(!entry.pending.is_none());
            let counted = self.queue.count_of(id, CHECKED_MAX).unwrap_or(entries);
            debug_assert_eq!(counted, entries, "entries of {id:?} in the queue");
        }
    }
}
