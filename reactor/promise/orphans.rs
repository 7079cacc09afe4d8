//! Orphans: callbacks that are due because a resolver was dropped where no `Context` is at hand.
//!
//! A resolver is dropped with a timer that is cancelled, a connection that is removed, a callback
//! that panics. Its `drop` has no access to the loop, so it leaves the callback that is now due
//! here, and the loop takes it over right after the callback that runs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;

use crate::reactor::queue::Call;
use crate::reactor::{Context, Place};

/// Shared by the loop and all of its promises.
pub(in crate::reactor) struct Orphans<S> {
    calls: RefCell<VecDeque<Call<S>>>,
    /// The number of calls, for the loop, which asks before every deferred callback.
    waiting: Cell<usize>,
    /// Rejections without a handler.
    unhandled: Cell<u64>,
    /// True once the loop has gone: calls are dropped then.
    closed: Cell<bool>,
    /// True while a caller further up the stack drops calls.
    dropping: Cell<bool>,
}

impl<S> Orphans<S> {
    pub(in crate::reactor) fn new() -> Orphans<S> {
        Orphans {
            calls: RefCell::default(),
            waiting: Cell::new(0),
            unhandled: Cell::new(0),
            closed: Cell::new(false),
            dropping: Cell::new(false),
        }
    }

    pub(super) fn push(&self, call: Call<S>) {
        self.calls.borrow_mut().push_back(call);
        self.waiting.set(self.waiting.get() + 1);
        if self.closed.get() {
            self.drop_all();
        }
    }

    pub(in crate::reactor) fn len(&self) -> usize {
        self.waiting.get()
    }

    #[inline]
    pub(in crate::reactor) fn is_waiting(&self) -> bool {
        self.waiting.get() > 0
    }

    fn pop(&self) -> Option<Call<S>> {
        let call = self.calls.borrow_mut().pop_front()?;
        self.waiting.set(self.waiting.get() - 1);
        Some(call)
    }

    /// The loop is being dropped: drops all calls, now and from now on.
    pub(in crate::reactor) fn close(&self) {
        self.closed.set(true);
        self.drop_all();
    }

    /// Dropping a callback drops the resolver of the next link, which puts its callback here. So
    /// this loop drops a long chain link by link, without recursion (P7).
    fn drop_all(&self) {
        if self.dropping.replace(true) {
            return;
        }
        while let Some(call) = self.pop() {
            drop(call);
        }
        self.dropping.set(false);
    }

    /// Counts and logs a rejection that reached the end of its chain (P4).
    #[cold]
    pub(super) fn unhandled(&self, place: Place, error: &dyn fmt::Debug) {
        if !self.closed.get() {
            self.unhandled.set(self.unhandled.get() + 1);
            log::error!("nobody catches what rejects the promise made at {place}: {error:?}");
        }
    }

    pub(in crate::reactor) fn unhandled_count(&self) -> u64 {
        self.unhandled.get()
    }
}

impl<S: 'static> Context<S> {
    /// The next deferred callback; orphans stand behind those that are deferred already.
    #[inline]
    pub(in crate::reactor) fn next_deferred(&mut self) -> Option<Call<S>> {
        if self.orphans.is_waiting() {
            self.adopt_orphans();
        }
        self.deferred.pop_front()
    }

    #[cold]
    fn adopt_orphans(&mut self) {
        while let Some(call) = self.orphans.pop() {
            self.defer_boxed(call.run, call.place);
        }
    }
}
