//! Building a reactor: the clock, the limits, and the seams for tests.
//!
//! Spurious, merged, stale or reordered readiness is hard to get out of a real kernel and easy to
//! write down. A reactor built with a [`Script`] takes its events from it, one report for each poll,
//! until no report is left, and from then on from the kernel alone. In a test, a [`VirtualSource`]
//! replaces a socket: it is registered like one, but the kernel does not know it.
//!
//! # Read next
//! `authors.rs`: what patterns and protocols need. `../tests/contract.rs` is written with scripts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use mio::{Interest, Registry, Token};

use super::authors::Extensions;
use super::context::Time;
use super::hook::Hooks;
use super::local::Local;
use super::queue::EventQueue;
use super::remote::{Arc, Inbox, Mailbox, Waker};
use super::source::Sources;
use super::trace::{LoopEvent, Observer, Subject, Trace};
use super::{Context, DEFERRED_PER_TURN, EVENTS_PER_TURN, WAKE};
use super::{Place, RawId, Reactor, Readiness, Statistics};
use crate::timers::{Clock, ManualClock, Wheel};

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
    clock: Clock,
    script: Option<Script>,
    observer: Option<Observer>,
    panic: PanicPolicy,
    spin: Duration,
    posts_max: usize,
    timers: usize,
    extensions: Extensions,
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
        let poll = mio::Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let context = Context {
            sources: Sources::new(),
            wheel: Wheel::with_capacity(self.timers),
            queue: EventQueue::new(),
            deferred: Default::default(),
            local: Local::new(),
            hooks: Hooks::new(),
            extensions: self.extensions,
            panic: self.panic,
            time: Time::new(self.clock),
            registry: poll.registry().try_clone()?,
            mailbox: Arc::new(Mailbox::new(waker, self.posts_max)),
            remotes: false,
            inbox: Inbox::new(),
            resumer: None,
            touched: Default::default(),
            removed: Vec::new(),
            trace: Trace::new(self.observer),
            statistics: Statistics::default(),
            referenced: 0,
            outside: 0,
            running: Subject::None,
            running_place: Place::caller(),
            deferred_left: DEFERRED_PER_TURN,
            batch_len: 0,
            stopping: false,
            scratch: Box::default(),
        };
        Ok(Reactor {
            poll,
            events: mio::Events::with_capacity(EVENTS_PER_TURN),
            scripted: Vec::new(),
            script: self.script,
            spin: Some(self.spin).filter(|spin| !spin.is_zero()),
            context,
        })
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

type Report = Vec<(RawId, Readiness)>;

/// The reports of the poller. Clones share them, so a test may go on writing while the loop reads.
///
/// ```
/// use waterwheel::reactor::{Reactor, Readiness, Script, VirtualSource};
/// let script = Script::new();
/// let mut reactor = Reactor::builder().script(&script).build().unwrap();
/// let source = reactor
///     .register(VirtualSource, mio::Interest::READABLE, |_, calls: &mut u32, _, _| *calls += 1)
///     .unwrap();
/// script.report([(source.raw(), Readiness::READABLE)]);
/// let mut calls = 0;
/// reactor.turn(&mut calls, None).unwrap();
/// assert_eq!(calls, 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script {
    turns: Rc<RefCell<VecDeque<Report>>>,
}

impl Script {
    /// An empty script.
    pub fn new() -> Script {
        Script::default()
    }

    /// Adds a turn in which the poller reports `events`, in this order. Bits that no kernel can
    /// report, [`DEADLINE`](Readiness::DEADLINE) and [`FLUSH`](Readiness::FLUSH), are left out.
    pub fn report<E: IntoIterator<Item = (RawId, Readiness)>>(&self, events: E) {
        let events = events.into_iter().map(|(id, ready)| (id, ready.said()));
        self.turns.borrow_mut().push_back(events.collect());
    }

    pub(super) fn next(&self) -> Option<Report> {
        self.turns.borrow_mut().pop_front()
    }
}

/// A source without a descriptor, for tests: only the loop, a [`Script`] or
/// [`resume`](super::Context::resume) calls it. For a value of your own, use
/// [`own`](super::Context::own).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtualSource;

impl mio::event::Source for VirtualSource {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}
