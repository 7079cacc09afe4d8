//! The reactor: a loop that waits for events and calls back, one callback at a time.
//!
//! Knows mio, the slab (the table of sources) and the timer wheel; never mentions sockets.
//!
//! A *turn* is one pass of the loop (`../glossary.md` explains each term of this library):
//!
//! ```text
//!  1 flush     `before_poll` hooks; data that was written to sources goes to the kernel
//!  2 wait      how long? zero if anything is queued, else until the nearest deadline
//!  3 poll      the kernel reports ready sources; the only place where the loop sleeps
//!  4 forget    the `now` from before the sleep; the clock is read when needed, once a turn at most
//!  5 collect   ready sources, expired timers, other threads' posts are queued; no callback runs
//!  6 dispatch  `after_poll` hooks; then the queue as phase 5 left it: lane High, then Normal, then
//!              Low, each first in, first out
//!  7 idle      idle hooks, if nothing ran; then the removed sources are dropped
//! ```
//!
//! # Rules
//! Each is asserted by the test of its name in `tests/contract.rs`.
//!
//! * **R1** Run to completion: no callback starts while another is on the stack. (A listener that
//!   [`emit`](Context::emit) calls is part of the callback that emits.)
//! * **R2** A callback *enqueued* in phase 6 waits for the next turn. A *deferred* callback runs
//!   right after the one that defers it, before the next event, until none is left or
//!   [`DEFERRED_PER_TURN`] have run in this turn; the rest waits for the next. The callbacks of
//!   promises are deferred. (A callback enqueued before phase 5, between turns or by a
//!   `before_poll` hook, joins the turn; one enqueued by a later hook waits for the next.)
//! * **R3** I/O before timers: in each lane, ready sources run before the timers that expire in the
//!   same turn. A timer that a callback of the turn cancels or re-arms does not run in that turn.
//! * **R4** Effects are immediate. An event is dropped and counted if its source or timer has gone,
//!   even if a new one is in its slot by then.
//! * **R5** Never early: a timer runs at or after its deadline, at most one tick (1 ms) and one
//!   turn late; if too many expire together, the rest waits for further turns (R6). Timers with
//!   the same deadline run in the order of arming. The delay of a timer counts from the turn's
//!   `now`, the deadline of a source from the current moment ([`tick_after`](Context::tick_after)),
//!   so that a peer gets its full time.
//! * **R6** Budgets: a turn takes [`TIMERS_PER_TURN`] timers and [`POSTS_PER_TURN`] posts (results
//!   of jobs are posts); a connection reads `read_bytes_per_turn`, and all of them together
//!   `READ_BYTES_PER_TURN_TOTAL`; a listener accepts `accepts_per_turn`. While work is left, the
//!   loop does not sleep.
//! * **R7** Priorities order a turn, and no lane starves: a Low event collected in a turn runs in
//!   that turn.
//! * **R8** Keep-alive: `run` returns when nothing *holds* the loop, or on `stop`. Sources (jobs
//!   are sources), timers and remotes hold it, unless `unref` was called; so do queued callbacks.
//!   Hooks, listeners and promises do not.
//! * **R9** A panic unwinds out of `run`; nothing else is lost, and `run` may be called again. With
//!   [`PanicPolicy::Drop`] the source that panicked is dropped and the loop goes on.
//! * **R10** The error of a source never ends `run`.
//!
//! # Left out
//! Nested runs, which would break R1 and do not compile. Work stealing and `async`: one thread, one
//! stack, callbacks. Level-triggered polling: mio has none; `poll.rs` shows the difference.
//!
//! # Read next
//! `turn_once` below, then `context.rs`: the loop as callbacks use it.

use std::fmt;
use std::io;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

mod alive;
mod authors;
mod builder;
mod context;
mod dispatch;
mod hook;
mod id;
mod local;
mod poll;
mod queue;
mod readiness;
mod registration;
mod remote;
mod snapshot;
mod source;
mod timer;
mod trace;

pub use alive::{Alive, Handle};
pub use authors::Outer;
pub use builder::{Builder, PanicPolicy, Script, VirtualSource};
pub use context::{Context, SCRATCH_BYTES, Statistics};
pub use dispatch::panic_message;
pub use hook::HookId;
pub use id::{RawId, SourceId};
pub use local::{Local, Resumer};
/// The events for which a source is watched.
pub use mio::Interest;
pub use queue::{Once, Priority};
pub use readiness::{MESSAGES_MAX, Messages, Readiness};
pub use registration::{Options, Rejected};
pub use remote::{Origin, POSTS_PER_TURN, PostError, Remote};
pub use snapshot::{Snapshot, SourceState, TimerState, Waiting};
pub use timer::{BURST_MAX, Missed, Occurrence};
pub use trace::{Kind, LoopEvent, Observer, Place, Recorder, Subject};

use hook::HookPoint;
use queue::Batch;
use timer::Timer;

/// Deferred callbacks that run in one turn; the rest waits for the next (R2).
pub const DEFERRED_PER_TURN: usize = 1024;
/// Expired timers that are collected in one turn; the rest waits for the next (R6).
pub const TIMERS_PER_TURN: usize = 1024;
/// Ready sources that the kernel reports in one turn; it keeps the rest for the next.
const EVENTS_PER_TURN: usize = 1024;
/// The token (mio's number for a source) of the waker; no source has it, see `GENERATION_MAX`.
const WAKE: mio::Token = mio::Token(usize::MAX);

/// A single-threaded event loop with a state of type `S`, which every callback receives.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::Reactor;
///
/// let mut reactor = Reactor::new()?;
/// reactor.after(Duration::from_millis(2), |_, log: &mut Vec<&str>| log.push("later"));
/// reactor.defer(|_, log| log.push("first"));
/// let mut log = Vec::new();
/// reactor.run(&mut log)?;
/// assert_eq!(log, ["first", "later"]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Reactor<S: 'static> {
    #[cfg_attr(all(test, loom), allow(dead_code))] // The model has no kernel.
    poll: mio::Poll,
    events: mio::Events,
    /// The readiness that the script reported, if there is a script.
    scripted: Vec<(RawId, Readiness)>,
    script: Option<Script>,
    /// How long the loop polls again and again before it sleeps; `None` if it sleeps at once.
    spin: Option<Duration>,
    context: Context<S>,
}

impl<S: 'static> Reactor<S> {
    /// A reactor with the system's clock and the documented limits.
    ///
    /// # Errors
    /// The selector (epoll, kqueue) or its waker could not be made: no descriptor or memory left.
    pub fn new() -> io::Result<Reactor<S>> {
        Reactor::builder().build()
    }

    /// Sets up a reactor that differs from the default.
    pub fn builder() -> Builder<S> {
        Builder::new()
    }

    /// Turns the loop until nothing holds it or it is stopped (R8).
    ///
    /// # Errors
    /// The poll itself failed; a source cannot cause that (R10).
    ///
    /// # Panics
    /// If a callback panics, by [`PanicPolicy::Propagate`]; `run` may be called again (R9).
    pub fn run(&mut self, state: &mut S) -> io::Result<()> {
        while !self.take_stop() && self.context.is_alive() {
            self.turn_once(state, None)?;
        }
        Ok(())
    }

    /// Turns the loop once and waits `max_wait` at most. `None` sets no limit; if nothing holds
    /// the loop, it then does not wait. Returns how many callbacks ran.
    ///
    /// A host with a loop of its own watches the reactor's descriptor
    /// ([`AsFd`](std::os::fd::AsFd)), waits [`next_wait`](Reactor::next_wait) at most and then
    /// calls this with a zero wait.
    ///
    /// # Errors
    /// As [`run`](Reactor::run).
    pub fn turn(&mut self, state: &mut S, max_wait: Option<Duration>) -> io::Result<usize> {
        let ran = self.turn_once(state, max_wait);
        self.announce_sleep();
        ran
    }

    /// The host will sleep in place of the loop: a post must make the descriptor readable.
    fn announce_sleep(&self) {
        if self.context.remotes {
            self.context.mailbox.fall_asleep();
        }
    }

    /// How long a host may wait for the reactor's descriptor before it calls
    /// [`turn`](Reactor::turn): zero if callbacks wait to be run or `before_poll` hooks have not
    /// run since the last change, `None` if there is no deadline.
    pub fn next_wait(&self) -> Option<Duration> {
        self.announce_sleep();
        if self.context.hooks.wait_to_look() {
            return Some(Duration::ZERO);
        }
        self.context.sleep_limit()
    }

    /// Returns true if [`stop`](Context::stop) was called since the last call of this method.
    ///
    /// For hosts: `run` does this itself before each turn.
    pub fn take_stop(&mut self) -> bool {
        let remote = self.context.remotes && self.context.mailbox.take_stop();
        mem::take(&mut self.context.stopping) || remote
    }

    /// One turn, a statement for each phase.
    fn turn_once(&mut self, state: &mut S, max_wait: Option<Duration>) -> io::Result<usize> {
        let turn = InTurn::begin(self);
        turn.0.flush(state);
        let wait = turn.0.wait(max_wait);
        turn.0.poll(wait)?;
        turn.0.forget();
        turn.0.collect();
        let ran = turn.0.dispatch(state);
        turn.0.idle(state, ran);
        Ok(ran)
    }

    /// Phase 1. A source that fails here queues an event for itself and reports it in phase 6.
    fn flush(&mut self, state: &mut S) {
        self.hooks(HookPoint::BeforePoll, state);
        self.context.hooks.unseen = false;
        if !self.context.touched.is_empty() {
            self.guard(|context| context.flush_touched(state));
        }
    }

    #[inline]
    fn hooks(&mut self, point: HookPoint, state: &mut S) {
        if self.context.hooks.begin(point) {
            self.guard(|context| context.run_hooks(point, state));
        }
    }

    /// Calls `run`, which runs callbacks. By [`PanicPolicy::Drop`], calls it again after a panic;
    /// else a panic leaves the loop. One `catch_unwind` covers all of `run`: one for each callback
    /// would slow down all of them.
    fn guard(&mut self, mut run: impl FnMut(&mut Context<S>)) {
        let context = &mut self.context;
        match context.panic {
            PanicPolicy::Propagate => run(context),
            PanicPolicy::Drop => {
                while let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(context))) {
                    context.drop_panicked(panic);
                }
            }
        }
    }

    /// Phase 2.
    fn wait(&mut self, max_wait: Option<Duration>) -> Option<Duration> {
        // The caller wants no wait, whatever the deadline is.
        let wait = match max_wait {
            Some(Duration::ZERO) => max_wait,
            // A hook has stopped the loop: the turn is completed without a sleep.
            _ if self.context.stopping => Some(Duration::ZERO),
            // A hook may have removed the last thing that held the loop.
            None if !self.context.is_alive() => Some(Duration::ZERO),
            max_wait => match (self.context.sleep_limit(), max_wait) {
                (Some(limit), Some(max_wait)) => Some(limit.min(max_wait)),
                (limit, max_wait) => limit.or(max_wait),
            },
        };
        if self.context.trace.is_on() {
            let ms = wait.map_or(u128::MAX, |wait| wait.as_nanos().div_ceil(1_000_000));
            let ms = u32::try_from(ms).unwrap_or(u32::MAX);
            self.context.note(Kind::Wait, Subject::None, Place::caller(), ms);
        }
        wait
    }

    /// Phase 4. The clock is read when a callback, or phase 5, first asks for the time.
    fn forget(&mut self) {
        self.context.time.forget();
    }

    /// Phase 5.
    fn collect(&mut self) {
        if self.context.trace.is_on() {
            let woken = self.events.iter().filter(|event| event.token() == WAKE).count();
            let ready = self.scripted.len() + self.events.iter().count() - woken;
            self.context.note(Kind::Polled, Subject::None, Place::caller(), ready as u32);
            let tick = self.context.tick().count() as u32;
            self.context.note(Kind::Stamped, Subject::None, Place::caller(), tick);
        }
        let context = &mut self.context;
        if self.script.is_some() {
            for (id, ready) in self.scripted.drain(..) {
                context.collect_ready(id, ready);
            }
        }
        for event in &self.events {
            if event.token() != WAKE {
                context.collect_ready(RawId::from_token(event.token()), Readiness::of(event));
            }
        }
        context.collect_resumed();
        context.collect_timers();
        if context.remotes {
            context.collect_posts();
        }
    }

    /// Phase 6. Hooks may panic, so they run when the kernel's events are safe in the queue.
    fn dispatch(&mut self, state: &mut S) -> usize {
        let before = self.context.statistics.callbacks;
        self.context.batch = self.context.queue.batch();
        self.context.batch_len = self.context.batch.len();
        if self.context.batch_len > 0 {
            let argument = u32::try_from(self.context.batch_len).unwrap_or(u32::MAX);
            self.context.note(Kind::Dispatch, Subject::None, Place::caller(), argument);
        }
        self.hooks(HookPoint::AfterPoll, state);
        self.guard(|context| context.run_batch(state));
        let ran = self.context.statistics.callbacks - before;
        self.context.hooks.unseen |= ran > 0; // A hook's own call does not count.
        ran as usize
    }

    /// Phase 7.
    fn idle(&mut self, state: &mut S, ran: usize) {
        if ran == 0 {
            self.hooks(HookPoint::Idle, state);
        }
        self.context.removed.clear();
        self.context.check();
    }
}

/// A turn under way. Dropping it ends the turn, also after a panic, so that no `now` is kept
/// between turns.
struct InTurn<'a, S: 'static>(&'a mut Reactor<S>);

impl<S: 'static> InTurn<'_, S> {
    fn begin(reactor: &mut Reactor<S>) -> InTurn<'_, S> {
        let context = &mut reactor.context;
        context.statistics.turns += 1;
        context.deferred_left = DEFERRED_PER_TURN;
        context.running = Subject::None;
        context.trace.running = 0;
        context.batch = Batch::EMPTY; // A turn that a panic ended has left some.
        context.time.in_turn = true;
        context.removed.clear(); // Left over from a turn that a panic ended.
        let number = context.statistics.turns as u32;
        context.note(Kind::Turn, Subject::None, Place::caller(), number);
        InTurn(reactor)
    }
}

impl<S: 'static> Drop for InTurn<'_, S> {
    fn drop(&mut self) {
        self.0.context.time.in_turn = false;
        // A turn that a panic ended has not reached the end of `dispatch`.
        self.0.context.hooks.unseen |= std::thread::panicking();
        self.0.context.time.forget();
        self.0.context.running = Subject::None;
        self.0.context.trace.running = 0;
    }
}

impl<S: 'static> Deref for Reactor<S> {
    type Target = Context<S>;

    fn deref(&self) -> &Context<S> {
        &self.context
    }
}

impl<S: 'static> DerefMut for Reactor<S> {
    fn deref_mut(&mut self) -> &mut Context<S> {
        &mut self.context
    }
}

/// Becomes readable when a source is ready or another thread has posted. Queued callbacks and
/// deadlines do not make it readable: a host asks [`next_wait`](Reactor::next_wait) before each
/// wait.
#[cfg(unix)]
impl<S: 'static> std::os::fd::AsFd for Reactor<S> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.context.registry.as_fd()
    }
}

#[cfg(unix)]
impl<S: 'static> std::os::fd::AsRawFd for Reactor<S> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.context.registry.as_raw_fd()
    }
}

impl<S: 'static> fmt::Debug for Reactor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reactor").field(&self.context).finish()
    }
}
