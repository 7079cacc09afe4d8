//! The loop as its callbacks see it: they may do everything with it, except run it.
//!
//! Knows every part of the loop's state; the parts' own files hold most of its methods.
//!
//! # Read next
//! `poll.rs`: where the loop sleeps.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::RawId;
use super::authors::Extensions;
use super::hook::{Gate, Hooks};
use super::local::{Local, Resumer};
use super::queue::{Batch, Call, EventQueue, Once};
use super::remote::{Arc, Inbox, Mailbox};
use super::source::{Entry, Sources};
use super::trace::{Kind, Subject, Trace};
use super::{PanicPolicy, Place, Priority, Timer};
use crate::timers::{Clock, Now, Stamp, Tick, Timeline, WallTime, Wheel};

/// The loop as its callbacks see it. [`Reactor`](super::Reactor) derefs to it.
///
/// All of its operations may be called from any callback, on any source or timer, the one that
/// runs included, and take effect at once (R4). Only `run` is missing: a callback cannot turn the
/// loop that is calling it (R1).
///
/// ```compile_fail,E0599
/// # let mut reactor = waterwheel::Reactor::<()>::new().unwrap();
/// reactor.defer(|reactor, state| reactor.run(state).unwrap());
/// ```
/// ```compile_fail,E0599
/// # let mut reactor = waterwheel::Reactor::<()>::new().unwrap();
/// reactor.after(std::time::Duration::ZERO, |reactor, state| {
///     reactor.turn(state, None).unwrap();
/// });
/// ```
pub struct Context<S> {
    pub(super) sources: Sources<S>,
    pub(super) wheel: Wheel<Timer<S>>,
    pub(super) queue: EventQueue<S>,
    /// Callbacks that run before the next event, in order.
    pub(super) deferred: VecDeque<Call<S>>,
    /// Callbacks deferred by code that has no `Context`; they move on to `deferred`.
    pub(super) local: Local<S>,
    pub(super) hooks: Hooks<S>,
    pub(super) extensions: Extensions,
    pub(super) panic: PanicPolicy,
    pub(super) time: Time,
    pub(super) registry: mio::Registry,
    pub(super) mailbox: Arc<Mailbox<S>>,
    /// True once a remote (a handle for other threads) was made; the mailbox is unused before.
    pub(super) remotes: bool,
    pub(super) inbox: Inbox<S>,
    /// Sources resumed by code that has no `Context`; `None` until the first [`Resumer`] is made.
    pub(super) resumer: Option<Resumer>,
    /// Sources to be flushed in phase 1; each at most once.
    pub(super) touched: VecDeque<RawId>,
    /// Sources removed in this turn, dropped in phase 7.
    pub(super) removed: Vec<Entry<S>>,
    pub(super) trace: Trace,
    pub(super) statistics: Statistics,
    /// Sources and timers that hold the loop.
    pub(super) referenced: usize,
    /// How many pieces of work are under way outside of the loop; each posts its result.
    pub(super) outside: usize,
    /// The source or timer whose callback runs now.
    pub(super) running: Subject,
    /// The place where the callback that ran last was handed to the loop.
    pub(super) running_place: Place,
    /// Deferred callbacks that may still run in this turn.
    pub(super) deferred_left: usize,
    /// What is left of the batch of this turn.
    pub(super) batch: Batch,
    /// Callbacks in the batch of this turn.
    pub(super) batch_len: usize,
    pub(super) gate: Option<Gate<S>>,
    pub(super) stopping: bool,
    pub(super) scratch: Box<[u8]>,
}

/// Counters since the reactor was made; `Display` is a line each.
///
/// ```
/// let mut reactor = waterwheel::Reactor::<()>::new()?;
/// reactor.defer(|_, _| {});
/// reactor.run(&mut ())?;
/// let shown = reactor.statistics().to_string();
/// assert!(shown.starts_with("turns                 1\ncallbacks             1   1.0 a turn\n"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Turns of the loop.
    pub turns: u64,
    /// Callbacks run, hooks not counted.
    pub callbacks: u64,
    /// Events that were dropped: their source or timer had gone, or the timer was re-armed (R4).
    pub stale: u64,
    /// Callbacks that panicked and were dropped by [`PanicPolicy::Drop`](super::PanicPolicy).
    pub panicked: u64,
    /// Failures that no code handled, such as a promise rejected without a `catch`; each is logged.
    pub unhandled: u64,
}

/// A line each, with the shares that are worth a look.
impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_turn = self.callbacks as f64 / self.turns.max(1) as f64;
        writeln!(f, "turns      {:>12}", self.turns)?;
        writeln!(f, "callbacks  {:>12}   {per_turn:.1} a turn", self.callbacks)?;
        writeln!(
            f,
            "stale      {:>12}   events dropped: their source or timer had gone",
            self.stale
        )?;
        writeln!(f, "panicked   {:>12}   callbacks dropped", self.panicked)?;
        write!(f, "unhandled  {:>12}   failures that no code handled", self.unhandled)
    }
}

/// The clock, and the time that it showed in this turn.
pub(super) struct Time {
    pub(super) clock: Clock,
    pub(super) timeline: Timeline,
    /// The turn's `now`. The clock is read when a timer or a callback first needs the time; other
    /// turns save the cost.
    stamp: Cell<Option<(Instant, Now)>>,
    /// True during a turn. Between turns `stamp` is not kept, because time passes.
    pub(super) in_turn: bool,
}

impl Time {
    pub(super) fn new(clock: Clock) -> Time {
        let timeline = Timeline::new(clock.now());
        Time { clock, timeline, stamp: Cell::new(None), in_turn: false }
    }

    pub(super) fn forget(&mut self) {
        self.stamp.set(None);
    }

    #[inline]
    fn stamp(&self) -> (Instant, Now) {
        if let Some(stamp) = self.stamp.get() {
            return stamp;
        }
        let now = self.clock.now();
        let stamp = (now, self.timeline.now(now));
        self.stamp.set(self.in_turn.then_some(stamp));
        stamp
    }

    #[inline]
    pub(super) fn now(&self) -> Instant {
        self.stamp().0
    }

    /// The turn's `now` in the form from which deadlines count.
    #[inline]
    pub(super) fn turn(&self) -> Now {
        self.stamp().1
    }

    /// The current moment, read from the clock.
    #[inline]
    pub(super) fn this_moment(&self) -> Stamp {
        self.timeline.stamp(self.clock.now())
    }
}

/// The size of the buffer lent by [`Context::take_scratch`]; the most that one read takes.
pub const SCRATCH_BYTES: usize = 64 * 1024;

impl<S: 'static> Context<S> {
    /// The time of this turn: read once, after the wait, and the same for all of its callbacks.
    /// Between turns it is the current time.
    pub fn now(&self) -> Instant {
        self.time.now()
    }

    /// The wall clock's time at [`now`](Context::now), rounded down;
    /// [`unix_ms`](WallTime::unix_ms) is its number. People can set it: measure time with `now`.
    pub fn wall(&self) -> WallTime {
        let since = self.time.clock.now().saturating_duration_since(self.now());
        let since = i64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        self.time.clock.wall().plus_ms(-since)
    }

    /// The tick at `delay` after the turn's `now`, from which the delays of timers count (R5).
    #[inline]
    pub fn turn_tick_after(&self, delay: Duration) -> Tick {
        self.time.turn().after(delay)
    }

    /// The first tick at or after `delay` from the current moment, as
    /// [`set_deadline`](Context::set_deadline) takes it. It does not count from the turn's `now`:
    /// after a slow callback of the same turn, the wait that begins here would be too short.
    ///
    /// # Cost
    /// Reads the clock.
    pub fn tick_after(&self, delay: Duration) -> Tick {
        self.time.timeline.now(self.time.clock.now()).after(delay)
    }

    /// The current moment, not rounded. Use it as the time of an event: a limit that counts from it
    /// ([`Stamp::after`]) never ends early.
    ///
    /// # Cost
    /// Reads the clock.
    #[inline]
    pub fn stamp(&self) -> Stamp {
        self.time.this_moment()
    }

    /// The tick of the turn's [`now`](Context::now): milliseconds since the reactor was made,
    /// rounded down. A deadline is due when this tick has reached it.
    #[inline]
    pub fn tick(&self) -> Tick {
        self.time.turn().tick()
    }

    /// The turn's `now` as a [`Now`]. A deadline at a delay after it is rounded only once.
    #[inline]
    pub fn turn(&self) -> Now {
        self.time.turn()
    }

    /// The time until that tick begins; zero if it has begun.
    pub fn until_tick(&self, tick: Tick) -> Duration {
        self.time.timeline.until(tick, self.now())
    }

    /// Runs `callback` right after the callback that runs now, before the next event (R2).
    ///
    /// Deferred callbacks run in order and may defer more. After
    /// [`DEFERRED_PER_TURN`](super::DEFERRED_PER_TURN) of them in one turn the rest waits for the
    /// next, so that an endless chain cannot starve the sources.
    #[track_caller]
    #[inline]
    pub fn defer<F>(&mut self, callback: F)
    where
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        self.defer_boxed(Box::new(callback), Place::caller());
    }

    /// For authors of patterns: [`defer`](Context::defer) for a callback in a box, passed by the
    /// program at `place`.
    #[inline]
    pub fn defer_boxed(&mut self, run: Once<S>, place: Place) {
        self.note(Kind::Deferred, Subject::None, place, 0);
        let cause = self.trace.running;
        self.deferred.push_back(Call { run, place, cause });
    }

    /// For authors of patterns: [`defer_boxed`](Context::defer_boxed) in front of the callbacks
    /// that are deferred already. It is for work that a callback leaves undone when it panics.
    #[cold]
    pub fn defer_first(&mut self, run: Once<S>, place: Place) {
        self.note(Kind::Deferred, Subject::None, place, 1);
        let cause = self.trace.running;
        self.deferred.push_front(Call { run, place, cause });
    }

    /// Runs `callback` in the next turn, in the given lane (R2). A callback that is enqueued before
    /// phase 5 of a turn, between turns or by a [`before_poll`](Context::before_poll) hook, runs in
    /// that turn.
    #[track_caller]
    pub fn enqueue<F>(&mut self, priority: Priority, callback: F)
    where
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        self.enqueue_at(priority, Place::caller(), callback);
    }

    /// For authors of patterns: [`enqueue`](Context::enqueue) for a callback passed at `place`.
    pub fn enqueue_at<F>(&mut self, priority: Priority, place: Place, callback: F)
    where
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        self.note(Kind::Enqueued, Subject::None, place, priority as u32);
        let call = Call { run: Box::new(callback), place, cause: self.trace.running };
        self.queue.enqueue(priority, call);
    }

    /// Makes this turn the last: `run` returns when it is complete, and keeps the queued callbacks
    /// for another `run`. A `stop` before `run` makes `run` return at once.
    #[track_caller]
    pub fn stop(&mut self) {
        self.note(Kind::Stopped, Subject::None, Place::caller(), 0);
        self.stopping = true;
    }

    /// Counters since the reactor was made.
    pub fn statistics(&self) -> Statistics {
        Statistics { unhandled: self.local.unhandled(), ..self.statistics }
    }

    /// How many sources the loop owns. Everything that has the id of a source counts: sockets,
    /// values of the program, and jobs.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// How many timers are armed, deadlines of sources included.
    pub fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// Callbacks that wait to be run and belong to no source or timer.
    pub(super) fn waiting_calls(&self) -> usize {
        let posted = usize::from(self.remotes && self.mailbox.has_posts());
        self.queue.calls() + self.deferred.len() + self.local.len() + self.inbox.len() + posted
    }

    /// Returns true if anything waits to be run.
    #[inline]
    pub(super) fn is_queued(&self) -> bool {
        !self.queue.is_empty()
            || !self.deferred.is_empty()
            || self.local.is_waiting()
            || !self.inbox.is_empty()
            || self.resumer.as_ref().is_some_and(Resumer::is_waiting)
            || (self.remotes && self.mailbox.is_waiting())
    }

    /// Counts an event that is dropped (R4), and says if it was in the queue.
    pub(super) fn drop_stale(&mut self, subject: Subject, was_queued: bool) {
        self.statistics.stale += 1;
        self.note(Kind::Stale, subject, Place::caller(), u32::from(was_queued));
    }

    /// For authors of sources: the number of callbacks that the turn has collected, including those
    /// that have run. A source that takes much at a time takes less if many others wait.
    #[inline]
    pub fn batch_len(&self) -> usize {
        self.batch_len
    }

    /// For authors of sources: lends the loop's read buffer of [`SCRATCH_BYTES`]; give it back with
    /// [`put_scratch`](Context::put_scratch). All sources read into this one, since only one
    /// callback runs at a time; so an idle source needs no buffer.
    #[inline]
    pub fn take_scratch(&mut self) -> Box<[u8]> {
        let scratch = std::mem::take(&mut self.scratch);
        if scratch.is_empty() { vec![0; SCRATCH_BYTES].into() } else { scratch }
    }

    /// Gives the loop's read buffer back.
    #[inline]
    pub fn put_scratch(&mut self, scratch: Box<[u8]>) {
        self.scratch = scratch;
    }

    /// How long the loop may sleep: zero if callbacks wait, `None` if there is no deadline.
    pub(super) fn sleep_limit(&self) -> Option<Duration> {
        // Removed sources are dropped when the turn ends, and their `drop` may wake others: the
        // loop sleeps only after that. (A hook has removed one, or a panic ended the last turn.)
        if self.is_queued() || !self.touched.is_empty() || !self.removed.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = Tick::new(self.wheel.next_deadline()?);
        let left = self.time.timeline.until(deadline, self.time.clock.now());
        self.time.clock.real(left)
    }
}

impl<S> Drop for Context<S> {
    fn drop(&mut self) {
        // All are closed before the first drop: a `drop` may panic, or use one of these.
        let left = (self.extensions.close(), self.mailbox.close());
        self.local.close();
        drop(left);
    }
}

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("sources", &self.sources.len())
            .field("timers", &self.wheel.len())
            .field("queued", &self.queue.calls())
            .field("deferred", &self.deferred.len())
            .field("statistics", &self.statistics)
            .finish_non_exhaustive()
    }
}
