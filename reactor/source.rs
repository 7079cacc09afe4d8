//! Sources: the I/O objects the loop owns.
//!
//! Knows mio's `Source` and the slab; never mentions sockets.
//!
//! Registering moves an object into the slab, so the loop can find it when the kernel names it, and
//! gives back a typed id. Its callback is stored beside it and taken out while it runs. The public
//! methods for that are in `registration.rs`; `dispatch.rs` calls the callback.
//!
//! # Read next
//! `queue.rs`: where events wait to be dispatched.

use std::any::Any;
use std::io;
use std::ops::{Index, IndexMut};

use mio::{Interest, Registry, Token};
use slab::Slab;

use super::id::{GENERATION_MAX, INDEX_BITS};
use super::registration::{Options, Owned, Rejected, name_of};
use super::trace::{Kind, Subject};
use super::{Context, Place, Priority, RawId, Readiness, SourceId};
use crate::timers::Tick;

/// The object in a slot: any mio source. Its type is erased; `Any` can restore it.
pub(super) trait Object: Any {
    fn leave(&mut self, registry: &Registry) -> io::Result<()>;
    fn reregister(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()>;
    /// The name of its type; for an [`Owned`], of the value's.
    fn name(&self) -> &'static str;
}

impl<T: mio::event::Source + 'static> Object for T {
    fn leave(&mut self, registry: &Registry) -> io::Result<()> {
        self.deregister(registry)
    }
    fn reregister(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        mio::event::Source::reregister(self, r, token, interest)
    }
    fn name(&self) -> &'static str {
        name_of::<T>()
    }
}

/// A source's callback, which does not name the type of the object.
pub(super) type Callback<S> = Box<dyn FnMut(&mut Context<S>, &mut S, RawId, Readiness)>;

/// Bits of `Entry::marks`.
mod mark {
    /// The source holds the loop.
    pub(super) const REFERENCED: u8 = 1;
    /// It is called with `FLUSH` after it was borrowed mutably.
    pub(super) const FLUSH: u8 = 2;
    /// It is in `Context::touched`.
    pub(super) const TOUCHED: u8 = 4;
    /// Dropping the object ends its registration.
    pub(super) const CLOSES: u8 = 8;
    /// The source is idle: it does not hold the loop.
    pub(super) const IDLE: u8 = 16;
    /// The object is an `Owned` with a value in it, and the ids name the value.
    pub(super) const OWNED: u8 = 32;
}

/// One slot in use: 56 bytes, the objects not counted; 560 kB for ten thousand idle connections.
pub(super) struct Entry<S> {
    pub(super) object: Box<dyn Object>,
    /// `None` while it runs.
    pub(super) callback: Option<Callback<S>>,
    pub(super) place: Place,
    /// The timer of [`Context::set_deadline`], if one is armed.
    pub(super) deadline: Option<crate::timers::TimerId>,
    generation: u32,
    /// Holds a reason if, and only if, the source is in the event queue.
    pub(super) pending: Readiness,
    pub(super) priority: Priority,
    marks: u8,
}

impl<S> Entry<S> {
    fn has(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// The object, or the value in it, if it is of that type.
    #[inline]
    pub(super) fn value<T: 'static>(&self) -> Option<&T> {
        let object: &dyn Any = &*self.object;
        if self.has(mark::OWNED) {
            object.downcast_ref().map(|Owned(value)| value)
        } else {
            object.downcast_ref()
        }
    }

    #[inline]
    fn value_mut<T: 'static>(&mut self) -> Option<&mut T> {
        let owned = self.has(mark::OWNED);
        let object: &mut dyn Any = &mut *self.object;
        if owned { object.downcast_mut().map(|Owned(value)| value) } else { object.downcast_mut() }
    }

    pub(super) fn is_referenced(&self) -> bool {
        self.marks & (mark::REFERENCED | mark::IDLE) == mark::REFERENCED
    }

    pub(super) fn set_referenced(&mut self, to: bool) {
        self.marks &= !mark::REFERENCED;
        self.marks |= u8::from(to) * mark::REFERENCED;
    }
}

/// The slab, and the generation of the next registration.
pub(super) struct Sources<S> {
    slab: Slab<Entry<S>>,
    next: u32,
}

impl<S> Sources<S> {
    pub(super) fn new() -> Sources<S> {
        Sources { slab: Slab::new(), next: 0 }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: RawId) -> Option<&mut Entry<S>> {
        self.slab.get_mut(id.index as usize).filter(|entry| entry.generation == id.generation)
    }

    pub(super) fn get(&self, id: RawId) -> Option<&Entry<S>> {
        self.slab.get(id.index as usize).filter(|entry| entry.generation == id.generation)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RawId, &Entry<S>)> {
        self.slab.iter().map(|(index, entry)| {
            (RawId { index: index as u32, generation: entry.generation }, entry)
        })
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    fn remove(&mut self, id: RawId) -> Option<Entry<S>> {
        self.get(id)?;
        Some(self.slab.remove(id.index as usize))
    }
}

impl<S: 'static> Context<S> {
    /// [`register_with`](Context::register_with) for the library's own sources, whose callbacks
    /// receive messages, too.
    ///
    /// # Errors
    /// As [`register`](Context::register).
    #[track_caller]
    pub(crate) fn register_unmasked<T, F>(
        &mut self,
        mut source: T,
        interest: Interest,
        options: Options,
        mut callback: F,
    ) -> Result<SourceId<T>, Rejected<T>>
    where
        T: mio::event::Source + 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<T>, Readiness) + 'static,
    {
        let place = Place::caller();
        let vacant = self.sources.slab.vacant_entry();
        let index = vacant.key();
        // Half of the indices that fit into the bits, so that none equals the waker's.
        if index >= 1 << (INDEX_BITS - 1) {
            let error = io::Error::other("more sources than a token can number");
            return Err(Rejected { error, source });
        }
        let id = RawId { index: index as u32, generation: self.sources.next };
        if let Err(error) = source.register(&self.registry, id.token(), interest) {
            return Err(Rejected { error, source });
        }
        self.sources.next = (self.sources.next + 1) % GENERATION_MAX;
        let mark = |set: bool, mark: u8| if set { mark } else { 0 };
        vacant.insert(Entry {
            object: Box::new(source),
            callback: Some(Box::new(move |context, state, id, ready| {
                callback(context, state, SourceId::new(id), ready);
            })),
            place,
            deadline: None,
            generation: id.generation,
            pending: Readiness::NONE,
            priority: options.priority,
            marks: mark::REFERENCED
                | mark(options.flush, mark::FLUSH)
                | mark(options.closes, mark::CLOSES),
        });
        self.referenced += 1;
        if self.trace.is_on() {
            self.trace.what = name_of::<T>();
            self.note(Kind::Registered, id.into(), place, 0);
            if options.priority != Priority::Normal {
                self.note(Kind::Prioritised, id.into(), place, options.priority as u32);
            }
        }
        Ok(SourceId::new(id))
    }

    /// From now on the id names the value inside the object.
    pub(super) fn mark_owned<T>(&mut self, id: SourceId<Owned<T>>) -> SourceId<T> {
        if let Some(entry) = self.sources.get_mut(id.raw()) {
            entry.marks |= mark::OWNED;
        }
        SourceId::new(id.raw())
    }

    /// For authors of sources: marks a source that has nothing to do as idle. An idle source never
    /// holds the loop (R8), even after `reref`. Returns false if the id is stale.
    pub fn set_idle(&mut self, id: impl Into<RawId>, idle: bool) -> bool {
        let id = id.into();
        let Some(entry) = self.sources.get_mut(id) else { return false };
        let was = entry.is_referenced();
        entry.marks = (entry.marks & !mark::IDLE) | (u8::from(idle) * mark::IDLE);
        let is = entry.is_referenced();
        self.count_held(id.into(), was, is);
        true
    }

    /// Takes an object out of the loop and returns it, still open, so that the caller can use it
    /// elsewhere. Its callback and its queued events are dropped, and the id is stale from now on.
    /// `None` if it was stale already.
    pub fn deregister<T: 'static>(&mut self, id: SourceId<T>) -> Option<T> {
        let mut entry = self.take_entry(id.raw())?;
        if let Err(error) = entry.object.leave(&self.registry) {
            log::warn!("{:?} registered at {}: cannot deregister: {error}", id.raw(), entry.place);
        }
        let owned = entry.has(mark::OWNED);
        let object: Box<dyn Any> = entry.object;
        if owned {
            object.downcast().ok().map(|object: Box<Owned<T>>| object.0)
        } else {
            object.downcast().ok().map(|object| *object)
        }
    }

    /// Takes an object out of the loop and drops it at the end of the turn, between turns at once.
    /// The id is stale from now on. Returns false if it was stale already.
    ///
    /// The object lives on for the rest of the turn so that the kernel does not give its descriptor
    /// number to a new one while events of this turn are still queued.
    pub fn remove(&mut self, id: impl Into<RawId>) -> bool {
        let id = id.into();
        let Some(mut entry) = self.take_entry(id) else { return false };
        if !entry.has(mark::CLOSES)
            && let Err(error) = entry.object.leave(&self.registry)
        {
            log::debug!("{id:?} registered at {}: cannot deregister: {error}", entry.place);
        }
        if self.time.in_turn {
            self.removed.push(entry);
        }
        true
    }

    fn take_entry(&mut self, id: RawId) -> Option<Entry<S>> {
        let entry = self.sources.remove(id)?;
        if let Some(timer) = entry.deadline {
            self.wheel.cancel(timer);
        }
        self.referenced -= usize::from(entry.is_referenced());
        self.hooks.unseen = true;
        self.note(Kind::Deregistered, id.into(), entry.place, 0);
        Some(entry)
    }

    /// Changes the events for which a source is watched. O(1), one `epoll_ctl`; false if stale.
    ///
    /// # Errors
    /// The error of the selector; the old interest then stays.
    pub fn set_interest(&mut self, id: impl Into<RawId>, interest: Interest) -> io::Result<bool> {
        let id = id.into();
        let Some(entry) = self.sources.get_mut(id) else { return Ok(false) };
        entry.object.reregister(&self.registry, id.token(), interest)?;
        Ok(true)
    }

    /// Changes the lane for a source's events from now on. Returns false if the id is stale.
    pub fn set_priority(&mut self, id: impl Into<RawId>, priority: Priority) -> bool {
        let id = id.into();
        let Some(entry) = self.sources.get_mut(id) else { return false };
        entry.priority = priority;
        let place = entry.place;
        self.note(Kind::Prioritised, id.into(), place, priority as u32);
        true
    }

    /// For authors of protocols: sets the place that the trace and `why_alive` show for the source.
    /// A client that connects for a call sets the place of the call.
    pub fn set_place(&mut self, id: impl Into<RawId>, place: Place) {
        let id = id.into();
        if let Some(entry) = self.sources.get_mut(id) {
            entry.place = place;
        }
    }

    /// Calls the source with [`Readiness::DEADLINE`] at or after `tick` (see
    /// [`tick_after`](Context::tick_after)); `None` disarms. Each source has one such deadline. It
    /// ends with the source and does not hold the loop. O(1). Returns false if the id is stale.
    pub fn set_deadline(&mut self, id: impl Into<RawId>, tick: Option<Tick>) -> bool {
        let id = id.into();
        let Some(entry) = self.sources.get_mut(id) else { return false };
        let place = entry.place;
        let kind = match (entry.deadline, tick) {
            (Some(timer), Some(tick)) => {
                self.wheel.rearm(timer, tick.count());
                Kind::Rearmed
            }
            (None, Some(tick)) => {
                entry.deadline = Some(self.wheel.insert(tick.count(), super::Timer::Source(id)));
                Kind::Armed
            }
            (Some(timer), None) => {
                self.wheel.cancel(timer);
                entry.deadline = None;
                Kind::Cancelled
            }
            (None, None) => return true,
        };
        if self.trace.is_on() {
            let argument = tick.map_or(0, |tick| tick.count() as u32);
            self.note(kind, Subject::Deadline(id), place, argument);
        }
        true
    }

    /// The object, or `None` if the id is stale.
    pub fn get<T: 'static>(&self, id: SourceId<T>) -> Option<&T> {
        self.sources.get(id.raw())?.value()
    }

    /// The object, or `None` if the id is stale.
    #[inline]
    pub fn get_mut<T: 'static>(&mut self, id: SourceId<T>) -> Option<&mut T> {
        let entry = self.sources.get_mut(id.raw())?;
        if entry.marks & (mark::FLUSH | mark::TOUCHED) == mark::FLUSH
            && self.running != id.raw().into()
        {
            entry.marks |= mark::TOUCHED;
            self.touched.push_back(id.raw());
        }
        entry.value_mut()
    }

    /// An object that was removed in this turn and will be dropped at its end. O(removed).
    pub(crate) fn get_removed<T: 'static>(&self, id: SourceId<T>) -> Option<&T> {
        let mut removed = self.removed.iter().rev();
        removed.find(|entry| entry.generation == id.raw().generation)?.value()
    }

    /// The id with its type, if it names a source of that type: for authors of patterns, whose ids
    /// hold a [`RawId`] so that they need no type parameter.
    #[inline]
    pub fn typed<T: 'static>(&self, id: RawId) -> Option<SourceId<T>> {
        self.sources.get(id)?.value::<T>().map(|_| SourceId::new(id))
    }

    /// The ids of all sources of type `T`, in the order of their slots. O(sources).
    pub fn ids<T: 'static>(&self) -> Vec<SourceId<T>> {
        let of_type = self.sources.iter().filter(|(_, entry)| entry.value::<T>().is_some());
        of_type.map(|(id, _)| SourceId::new(id)).collect()
    }

    /// Returns true if the id still names a source.
    pub fn contains(&self, id: impl Into<RawId>) -> bool {
        let id = id.into();
        self.sources.get(id).is_some()
    }

    /// Clears the touched mark and takes the callback; `None` if the source has gone or runs.
    pub(super) fn take_touched(&mut self, id: RawId) -> Option<(Callback<S>, Place)> {
        let entry = self.sources.get_mut(id)?;
        entry.marks &= !mark::TOUCHED;
        Some((entry.callback.take()?, entry.place))
    }
}

/// For a source of your own, inside its own callback: see [`SourceId`].
impl<S: 'static, T: 'static> Index<SourceId<T>> for Context<S> {
    type Output = T;

    #[track_caller]
    fn index(&self, id: SourceId<T>) -> &T {
        self.get(id).unwrap_or_else(|| panic!("{id:?} is stale: it was closed or deregistered"))
    }
}

impl<S: 'static, T: 'static> IndexMut<SourceId<T>> for Context<S> {
    #[track_caller]
    #[inline]
    fn index_mut(&mut self, id: SourceId<T>) -> &mut T {
        self.get_mut(id).unwrap_or_else(|| panic!("{id:?} is stale: it was closed or deregistered"))
    }
}
