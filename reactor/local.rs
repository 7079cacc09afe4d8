//! Handles to the loop for code on its own thread that has no `Context`.
//!
//! Knows calls and ids; never runs a callback. A value may be dropped with a timer, a connection or
//! a callback that panics, and `drop` receives no `Context`. Such a value keeps a [`Local`] and
//! defers a callback there: the loop takes it over right after the callback that runs now.
//!
//! Two sources in the same loop can be the ends of a pair: bytes written into one end of an
//! in-memory pair make the other end readable. The writer reports this to a [`Resumer`]; the next
//! turn collects the report, behind those of the kernel. `Resumer` is a type of its own because it
//! does not name the program's state `S`: a pair in memory works in any loop.
//!
//! # Read next
//! `trace.rs`: the records of everything that happens in the loop.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use super::queue::{Call, Once};
use super::trace::{Kind, Subject};
use super::{Context, Place, RawId, Readiness};

/// Defers callbacks for code that has no [`Context`]. Clones are the same handle. It may outlive
/// the loop, and then drops each callback.
///
/// ```
/// use waterwheel::Reactor;
/// use waterwheel::reactor::{Local, Place};
///
/// struct Bye(Local<Vec<&'static str>>);
/// impl Drop for Bye {
///     fn drop(&mut self) {
///         self.0.defer(Place::caller(), Box::new(|_, log| log.push("dropped")));
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let bye = Bye(reactor.local());
/// let timer = reactor.after(std::time::Duration::from_secs(60), move |_, _| drop(bye));
/// reactor.cancel(timer);
/// let mut log = Vec::new();
/// reactor.run(&mut log)?;
/// assert_eq!(log, ["dropped"]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Local<S>(Rc<Shared<S>>);

struct Shared<S> {
    calls: RefCell<VecDeque<Call<S>>>,
    /// Their number, which the loop reads before every deferred callback.
    waiting: Cell<usize>,
    /// Failures that no code handled.
    unhandled: Cell<u64>,
    /// True if the loop is gone: each callback is dropped.
    closed: Cell<bool>,
    /// True while `drop_all` runs.
    dropping: Cell<bool>,
    /// The record of the callback that runs now; 0 for none, and without an observer.
    running: Cell<u64>,
}

impl<S> Local<S> {
    pub(super) fn new() -> Local<S> {
        Local(Rc::new(Shared {
            calls: RefCell::default(),
            waiting: Cell::new(0),
            unhandled: Cell::new(0),
            closed: Cell::new(false),
            dropping: Cell::new(false),
            running: Cell::new(0),
        }))
    }

    /// Runs `run` right after the callback that runs now and the callbacks that it has deferred
    /// (R2). If the loop is gone, `run` is dropped.
    pub fn defer(&self, place: Place, run: Once<S>) {
        self.0.calls.borrow_mut().push_back(Call { run, place, cause: self.0.running.get() });
        self.0.waiting.set(self.0.waiting.get() + 1);
        if self.0.closed.get() {
            self.drop_all();
        }
    }

    /// For authors of patterns: counts a failure that no code handles, in
    /// [`Statistics::unhandled`](super::Statistics::unhandled).
    #[cold]
    pub fn count_unhandled(&self) {
        self.0.unhandled.set(self.0.unhandled.get() + 1);
    }

    pub(super) fn unhandled(&self) -> u64 {
        self.0.unhandled.get()
    }

    /// The record of the callback that runs now, for the trace.
    pub(super) fn set_running(&self, record: u64) {
        self.0.running.set(record);
    }

    /// Returns true if the loop is gone.
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    pub(super) fn len(&self) -> usize {
        self.0.waiting.get()
    }

    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.0.waiting.get() > 0
    }

    fn pop(&self) -> Option<Call<S>> {
        let mut calls = self.0.calls.borrow_mut();
        debug_assert_eq!(calls.len(), self.0.waiting.get(), "`waiting` is their number");
        let call = calls.pop_front()?;
        self.0.waiting.set(self.0.waiting.get() - 1);
        Some(call)
    }

    /// The loop is dropped: no callback runs from now on.
    pub(super) fn close(&self) {
        self.0.closed.set(true);
        self.drop_all();
    }

    /// Dropping a callback may defer another one here, and so on. This loop drops them one after
    /// the other: no drop is nested in the one before.
    fn drop_all(&self) {
        if self.0.dropping.replace(true) {
            return;
        }
        while let Some(call) = self.pop() {
            drop(call);
        }
        self.0.dropping.set(false);
    }
}

impl<S> Clone for Local<S> {
    fn clone(&self) -> Local<S> {
        Local(self.0.clone())
    }
}

impl<S> fmt::Debug for Local<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

impl<S: 'static> Context<S> {
    /// A handle to this loop for code that has no `Context`, such as a `drop`.
    #[inline]
    pub fn local(&self) -> Local<S> {
        self.local.clone()
    }

    /// The next deferred callback. Those of [`Local`] come behind those that are deferred already.
    #[inline]
    pub(super) fn next_deferred(&mut self) -> Option<Call<S>> {
        if self.local.is_waiting() {
            self.take_local();
        }
        self.deferred.pop_front()
    }

    #[cold]
    pub(super) fn take_local(&mut self) {
        while let Some(call) = self.local.pop() {
            if self.trace.is_on() {
                self.record(Kind::Deferred, Subject::None, call.place, 0, call.cause);
            }
            self.deferred.push_back(call);
        }
    }
}

/// Resumes sources of the loop it belongs to, from this thread. Clones share the list; it may
/// outlive the loop and then has no effect.
///
/// A source learns its own id by [`RawId::from_token`] when it is registered.
///
/// ```
/// use waterwheel::reactor::{Interest, Readiness, Reactor, VirtualSource};
/// let mut reactor = Reactor::new().unwrap();
/// let resumer = reactor.resumer();
/// let source = reactor
///     .register(VirtualSource, Interest::READABLE, |reactor, called: &mut bool, id, _| {
///         *called = true;
///         reactor.remove(id);
///     })
///     .unwrap();
/// resumer.resume(source, Readiness::READABLE);
/// let mut called = false;
/// reactor.run(&mut called).unwrap();
/// assert!(called);
/// ```
#[derive(Clone, Default)]
pub struct Resumer(Rc<RefCell<Vec<(RawId, Readiness)>>>);

impl Resumer {
    /// Calls the source's callback in the next turn, as [`Context::resume`] does; until then the
    /// loop does not sleep. A stale id is dropped and counted when it is collected. O(1).
    pub fn resume(&self, id: impl Into<RawId>, ready: Readiness) {
        self.send(id, ready.asked());
    }

    /// [`resume`](Resumer::resume) with any bits, as [`Context::send`].
    pub(crate) fn send(&self, id: impl Into<RawId>, ready: Readiness) {
        self.0.borrow_mut().push((id.into(), ready));
    }

    /// A number that names its loop.
    pub(crate) fn loop_key(&self) -> usize {
        Rc::as_ptr(&self.0).addr()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.0.borrow().is_empty()
    }
}

impl fmt::Debug for Resumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resumer").field(&self.0.borrow().len()).finish()
    }
}

impl<S: 'static> Context<S> {
    /// A handle by which sources of this thread resume each other; see [`Resumer`].
    pub fn resumer(&mut self) -> Resumer {
        self.resumer.get_or_insert_default().clone()
    }

    /// The part of phase 5 that takes in the resumed sources.
    #[inline]
    pub(super) fn collect_resumed(&mut self) {
        let Some(resumer) = &self.resumer else { return };
        if !resumer.is_waiting() {
            return;
        }
        let mut waiting = resumer.0.take();
        for (id, ready) in waiting.drain(..) {
            if !self.send(id, ready) {
                self.drop_stale(id.into(), false);
            }
        }
        // The list is put back for its capacity, unless an observer has resumed a source since.
        if let Some(resumer) = &self.resumer
            && !resumer.is_waiting()
        {
            *resumer.0.borrow_mut() = waiting;
        }
    }
}
