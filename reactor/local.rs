//! A handle to the loop from its own thread, where no `Context` is at hand.
//!
//! Knows calls; never runs one. A value that is dropped with a timer, a connection or a callback that
//! panics is not handed the loop. It keeps a [`Local`], and what is now due it leaves there: the loop
//! takes it over right after the callback that runs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use super::queue::{Call, Once};
use super::{Context, Place};

/// Defers callbacks from where no [`Context`] is at hand. Clones are the same handle; it outlives the
/// loop harmlessly.
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
    /// How many, for the loop, which asks before every deferred callback.
    waiting: Cell<usize>,
    /// Failures that no code handled.
    unhandled: Cell<u64>,
    /// The loop is gone: what is deferred is dropped.
    closed: Cell<bool>,
    /// Calls are being dropped further up on the stack.
    dropping: Cell<bool>,
}

impl<S> Local<S> {
    pub(super) fn new() -> Local<S> {
        Local(Rc::new(Shared {
            calls: RefCell::default(),
            waiting: Cell::new(0),
            unhandled: Cell::new(0),
            closed: Cell::new(false),
            dropping: Cell::new(false),
        }))
    }

    /// Runs `run` right after the callback that runs now, behind what that has deferred (R2). If the
    /// loop is gone, `run` is dropped.
    pub fn defer(&self, place: Place, run: Once<S>) {
        self.0.calls.borrow_mut().push_back(Call { run, place, cause: 0 });
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
        let call = self.0.calls.borrow_mut().pop_front()?;
        self.0.waiting.set(self.0.waiting.get() - 1);
        Some(call)
    }

    /// The loop goes: nothing will run any more.
    pub(super) fn close(&self) {
        self.0.closed.set(true);
        self.drop_all();
    }

    /// Dropping a callback may defer another one here, and so on. This loop drops them one after the
    /// other: no drop is nested in the one before.
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
    /// A handle to this loop for what may be dropped where no `Context` is at hand.
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
    fn take_local(&mut self) {
        while let Some(call) = self.local.pop() {
            self.defer_boxed(call.run, call.place);
        }
    }
}
