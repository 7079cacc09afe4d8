//! Building a reactor: the clock, the limits, and the parts that a test can replace.
//!
//! Spurious, merged, stale or reordered readiness is hard to get from a real kernel and easy to
//! write down. Each poll takes the next report from a [`Script`], adds the kernel's own, and does
//! not sleep; after the last report, the kernel is alone. A [`VirtualSource`] replaces a socket: it
//! is registered like one, and the kernel does not know it.
//!
//! # Read next
//! `authors.rs`: methods for patterns and protocols. `../tests/contract.rs`: tests with scripts.

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
use super::queue::{Batch, EventQueue};
use super::remote::{Arc, Inbox, Mailbox, Waker};
use super::source::Sources;
use super::trace::{LoopEvent, Observer, Subject, Trace};
use super::{Context, DEFERRED_PER_TURN, EVENTS_PER_TURN, WAKE};
use super::{Place, RawId, Reactor, Readiness, Statistics};
use crate::timers::{Clock, ManualClock, PacedClock, Wheel};

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

    /// Uses a clock that is moved by hand. The loop moves it to the next deadline when nothing else
    /// is left to do.
    pub fn clock(mut self, clock: &ManualClock) -> Builder<S> {
        self.clock = Clock::Manual(clock.clone());
        self
    }

    /// Uses a clock with a pace.
    pub fn paced(mut self, clock: &PacedClock) -> Builder<S> {
        self.clock = Clock::Paced(clock.clone());
        self
    }

    /// Takes a report from the script at each poll, before it asks the kernel.
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
    /// a loop that spins finds the next message of a busy peer at once. But after each event a core
    /// is busy for the whole time: 50 µs is much. If the peer runs on the same core, spinning only
    /// slows the peer down.
    pub fn spin(mut self, at_most: Duration) -> Builder<S> {
        self.spin = at_most;
        self
    }

    /// The most posts from other threads that may wait; one more is
    /// [`PostError::Full`](super::PostError::Full). Default: memory is the only bound. A
    /// [delivery](super::Remote::deliver), such as a job's result, is always taken; it counts, too.
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
    /// The selector (epoll, kqueue) or its waker could not be made: no descriptor or memory left.
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
            batch: Batch::EMPTY,
            batch_len: 0,
            gate: None,
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

/// Reports for the poll. Clones share them, so a test may go on writing while the loop reads.
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

    /// Adds a turn in which the poll reports `events`, in this order. Bits that only the loop can
    /// report, [`DEADLINE`](Readiness::DEADLINE) and [`FLUSH`](Readiness::FLUSH), are left out.
    pub fn report<E: IntoIterator<Item = (RawId, Readiness)>>(&self, events: E) {
        let events = events.into_iter().map(|(id, ready)| (id, ready.said()));
        self.turns.borrow_mut().push_back(events.collect());
    }

    pub(super) fn next(&self) -> Option<Report> {
        self.turns.borrow_mut().pop_front()
    }
}

/// A source without a descriptor, for tests: only the loop, a [`Script`] or `resume` calls it. For
/// a value of your own, use [`own`](super::Context::own).
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
