//! Building a reactor: the clock, the limits, and the seams for tests.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use super::extension::Extensions;
use super::trace::{LoopEvent, Observer};
use super::{Reactor, Script};
use crate::timers::{Clock, ManualClock};

/// The policy for a callback that panics (R9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanicPolicy {
    /// The panic unwinds out of `run`, which may be called again: queue, slab and the rest of the
    /// turn's events are kept.
    #[default]
    Propagate,
    /// The source, timer or callback that panicked is dropped, the place where it was made is
    /// logged, and the loop goes on.
    Drop,
}

/// Sets up a [`Reactor`].
///
/// ```
/// # use std::time::Duration;
/// use waterwheel::Reactor;
/// let mut reactor = Reactor::<()>::builder().spin(Duration::from_micros(50)).build().unwrap();
/// ```
pub struct Builder<S> {
    pub(super) clock: Clock,
    pub(super) script: Option<Script>,
    pub(super) observer: Option<Observer>,
    pub(super) panic: PanicPolicy,
    pub(super) spin: Duration,
    pub(super) posts_max: usize,
    pub(super) timers: usize,
    pub(super) extensions: Extensions,
    state: PhantomData<fn(&mut S)>,
}

impl<S: 'static> Builder<S> {
    pub(super) fn new() -> Builder<S> {
        Builder {
            clock: Clock::Monotonic,
            script: None,
            observer: None,
            panic: PanicPolicy::Propagate,
            spin: Duration::ZERO,
            posts_max: usize::MAX,
            timers: 0,
            extensions: Extensions::default(),
            state: PhantomData,
        }
    }

    /// Uses a clock that is moved by hand, and that the loop moves to the next deadline when
    /// nothing else is left to do.
    pub fn clock(mut self, clock: &ManualClock) -> Builder<S> {
        self.clock = Clock::Manual(clock.clone());
        self
    }

    /// Takes readiness from a script before asking the kernel.
    pub fn script(mut self, script: &Script) -> Builder<S> {
        self.script = Some(script.clone());
        self
    }

    /// Calls `observer` with everything that happens. It must be fast: it runs inside the turn.
    pub fn observer<F: FnMut(&LoopEvent) + 'static>(mut self, observer: F) -> Builder<S> {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Sets the policy for a callback that panics. Default: [`PanicPolicy::Propagate`].
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Builder<S> {
        self.panic = policy;
        self
    }

    /// Looks for events for up to this long before it sleeps. Default: zero, it sleeps at once.
    ///
    /// The kernel took some 15 µs to wake a sleeping thread on the machine where this was measured;
    /// a loop that spins finds the next message of a busy peer at once. The price is a core that is
    /// busy for that long after each event, so 50 µs is much, and a loop that shares its core with
    /// the peer it waits for only slows the peer down.
    pub fn spin(mut self, at_most: Duration) -> Builder<S> {
        self.spin = at_most;
        self
    }

    /// Posts from other threads that may wait to be collected; one more is
    /// [`PostError::Full`](super::PostError::Full). Default: no bound but memory. Results of jobs
    /// and other [deliveries](super::Remote::deliver) are always taken, and count while they wait.
    pub fn mailbox_posts_max(mut self, posts: usize) -> Builder<S> {
        self.posts_max = posts;
        self
    }

    /// Reserves memory for this many timers. Default: none.
    pub fn timers(mut self, timers: usize) -> Builder<S> {
        self.timers = timers;
        self
    }

    /// For authors of patterns: the value of type `T` that the loop will have as its
    /// [extension](super::Context::extension), so that a pattern can add settings of its own.
    pub fn extension<T: Default + 'static>(&mut self) -> &mut T {
        self.extensions.get()
    }

    /// Makes the reactor.
    ///
    /// # Errors
    /// The selector or its waker could not be made: out of descriptors or of memory.
    pub fn build(self) -> io::Result<Reactor<S>> {
        Reactor::from_builder(self)
    }
}

impl<S> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("clock", &self.clock)
            .field("panic", &self.panic)
            .field("spin", &self.spin)
            .field("posts_max", &self.posts_max)
            .finish_non_exhaustive()
    }
}
