//! Timers: closures on the wheel, once or again and again.
//!
//! Knows the wheel and the turn's `now`; never mentions sources.
//!
//! A repeating timer may be late: a callback took long, the machine slept. The caller chooses by
//! [`Missed`] how the timer treats the occurrences (the moments when it was due) that it missed:
//!
//! ```text
//!   period 10; the callback of 10 takes 25, until 35. 35◂20: it runs at 35, and was due at 20
//!   due      10   20   30   40   50
//!   Skip     10             35◂30 40   50     once for all that are late; then as planned
//!   Burst    10             35◂20 35◂30 40    every one, each late one in a turn of its own
//!   Delay    10             35◂20    45   55  a full period from the start of the last
//! ```
//!
//! # Read next
//! `../timers/wheel.rs`: the order of the timers. Beside the path: `remote/mod.rs`, for other threads.

use std::time::{Duration, Instant};

use super::RawId;
use super::queue::Once;
use super::trace::{Kind, Subject};
use super::{Context, Place};
use crate::timers::{TICK, Tick, TimerId};

/// The most occurrences that [`Missed::Burst`] makes up for; older ones are skipped and counted.
/// After a laptop has slept for a day, an interval of a second has missed 86,400 of them.
pub const BURST_MAX: u64 = 100;

/// The policy of a repeating timer for occurrences that it could not run in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missed {
    /// Runs once for all that are late. The next ones stay on the grid of the first deadline.
    Skip,
    /// Runs once for each, in one turn each; for [`BURST_MAX`] of them at most.
    Burst,
    /// Runs once; the next is due a full period after the turn of that run, so there is no grid.
    Delay,
}

/// One run of a repeating timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The timer, for a callback that cancels or re-arms itself.
    pub timer: TimerId,
    /// When this run was due; earlier than [`Context::now`] by its lateness.
    pub deadline: Instant,
    /// Occurrences since the last run that are skipped: no callback runs for them.
    pub missed: u64,
}

type Repeating<S> = Box<dyn FnMut(&mut Context<S>, &mut S, Occurrence)>;

/// A timer that repeats. Periods are whole ticks, rounded up, one at least.
pub(super) struct Every<S> {
    callback: Repeating<S>,
    period: u64,
    missed: Missed,
}

/// The value in the wheel for each timer.
pub(super) enum Timer<S> {
    Once {
        callback: Once<S>,
        place: Place,
        referenced: bool,
    },
    /// `None` while it runs.
    Every {
        every: Option<Box<Every<S>>>,
        place: Place,
        referenced: bool,
    },
    /// The deadline of a source.
    Source(RawId),
}

impl<S> Timer<S> {
    /// Returns true if the timer holds the loop, and the place where it was armed. `None` for the
    /// deadline of a source: the source holds the loop.
    pub(super) fn held(&self) -> Option<(bool, Place)> {
        match self {
            Timer::Once { place, referenced, .. } | Timer::Every { place, referenced, .. } => {
                Some((*referenced, *place))
            }
            Timer::Source(_) => None,
        }
    }

    pub(super) fn set_referenced(&mut self, to: bool) {
        if let Timer::Once { referenced, .. } | Timer::Every { referenced, .. } = self {
            *referenced = to;
        }
    }
}

impl<S: 'static> Context<S> {
    /// Calls `callback` once, `delay` after [`now`](Context::now): never earlier, and at most as
    /// late as R5 allows. Any delay is valid; zero means the next turn. O(1).
    #[track_caller]
    pub fn after<F>(&mut self, delay: Duration, callback: F) -> TimerId
    where
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        self.arm_once(self.turn_tick_after(delay), callback, Place::caller())
    }

    /// Calls `callback` once, at `deadline`. O(1).
    #[track_caller]
    pub fn at<F>(&mut self, deadline: Instant, callback: F) -> TimerId
    where
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        let tick = self.time.timeline.deadline(deadline);
        self.arm_once(tick, callback, Place::caller())
    }

    /// [`at`](Context::at) for a deadline in ticks: the moment at which the tick begins.
    #[track_caller]
    pub fn at_tick<F>(&mut self, tick: Tick, callback: F) -> TimerId
    where
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        self.arm_once(tick, callback, Place::caller())
    }

    fn arm_once<F>(&mut self, tick: Tick, callback: F, place: Place) -> TimerId
    where
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        self.arm(tick, Timer::Once { callback: Box::new(callback), place, referenced: true }, place)
    }

    /// Calls `callback` again and again, first one `period` from now, until it is cancelled;
    /// [`every_now`](Context::every_now) begins at once. Occurrences stand on a grid of whole ticks
    /// and do not drift. O(1).
    ///
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::Reactor;
    /// use waterwheel::reactor::Missed;
    ///
    /// let mut reactor = Reactor::<u32>::new()?;
    /// reactor.every(Duration::from_millis(1), Missed::Skip, |reactor, runs, occurrence| {
    ///     *runs += 1;
    ///     if *runs == 3 {
    ///         reactor.cancel(occurrence.timer);
    ///     }
    /// });
    /// let mut runs = 0;
    /// reactor.run(&mut runs)?;
    /// assert_eq!(runs, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn every<F>(&mut self, period: Duration, missed: Missed, callback: F) -> TimerId
    where
        F: FnMut(&mut Context<S>, &mut S, Occurrence) + 'static,
    {
        self.arm_every(period.max(TICK), (period, missed), Box::new(callback), Place::caller())
    }

    /// [`every`](Context::every), but the first run is in the next turn, where the grid begins. It
    /// is a callback like any other and does not run inside this call (R1).
    ///
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::Reactor;
    /// use waterwheel::reactor::Missed;
    ///
    /// let mut reactor = Reactor::<u32>::new()?;
    /// let hour = Duration::from_secs(3600);
    /// let timer = reactor.every_now(hour, Missed::Skip, |_, runs, _| *runs += 1);
    /// reactor.unref(timer);
    /// let mut runs = 0;
    /// reactor.turn(&mut runs, Some(Duration::ZERO))?;
    /// assert_eq!(runs, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn every_now<F>(&mut self, period: Duration, missed: Missed, callback: F) -> TimerId
    where
        F: FnMut(&mut Context<S>, &mut S, Occurrence) + 'static,
    {
        self.arm_every(Duration::ZERO, (period, missed), Box::new(callback), Place::caller())
    }

    fn arm_every(
        &mut self,
        first: Duration,
        (period, missed): (Duration, Missed),
        callback: Repeating<S>,
        place: Place,
    ) -> TimerId {
        let period = Tick::count_of(period.max(TICK));
        let every = Some(Box::new(Every { callback, period, missed }));
        let tick = self.turn_tick_after(first);
        self.arm(tick, Timer::Every { every, place, referenced: true }, place)
    }

    fn arm(&mut self, tick: Tick, timer: Timer<S>, place: Place) -> TimerId {
        let id = self.wheel.insert(tick.count(), timer);
        self.referenced += 1;
        if self.trace.is_on() {
            let argument = tick.count() as u32;
            self.note(Kind::Armed, id.into(), place, argument);
        }
        id
    }

    /// Moves a timer to `delay` from now, even if it has expired in this turn and still waits to
    /// run (R3). Returns false if the id is stale. O(1). A move to a later time is one store; the
    /// loop then wakes once at the old time and finds nothing to do.
    #[inline]
    pub fn rearm(&mut self, id: TimerId, delay: Duration) -> bool {
        self.rearm_at(id, self.turn_tick_after(delay))
    }

    /// [`rearm`](Context::rearm) to a tick.
    pub fn rearm_at(&mut self, id: TimerId, tick: Tick) -> bool {
        let moved = self.wheel.rearm(id, tick.count());
        if moved && self.trace.is_on() {
            let argument = tick.count() as u32;
            self.note(Kind::Rearmed, id.into(), self.place_of(id.into()), argument);
        }
        moved
    }

    /// Cancels a timer and drops its callback at once, even if it has expired in this turn and
    /// still waits to run. A callback may cancel its own timer. False if the id is stale. O(1).
    pub fn cancel(&mut self, id: TimerId) -> bool {
        // The deadline of a source belongs to `set_deadline`.
        let Some((referenced, place)) = self.wheel.get(id).and_then(Timer::held) else {
            return false;
        };
        self.referenced -= usize::from(referenced);
        self.note(Kind::Cancelled, id.into(), place, 0);
        drop(self.wheel.cancel(id));
        true
    }

    /// The time left until the timer is due; `None` if the id is stale.
    pub fn time_left(&self, id: TimerId) -> Option<Duration> {
        let deadline = Tick::new(self.wheel.deadline(id)?);
        Some(self.time.timeline.until(deadline, self.now()))
    }

    /// Runs a timer that was collected in this turn, unless it was cancelled or re-armed since.
    pub(super) fn run_timer(&mut self, id: TimerId, state: &mut S) {
        if !self.wheel.is_expired(id) {
            return self.drop_stale(id.into(), true);
        }
        let Some(timer) = self.wheel.get_mut(id) else { return };
        match timer {
            Timer::Source(_) => {} // It is queued as a deadline.
            Timer::Every { every, place, .. } => {
                let (Some(every), place) = (every.take(), *place) else { return };
                let occurrence = self.next_occurrence(id, &every);
                self.begin_callback(Kind::RunTimer, id.into(), place, (0, 0));
                self.running = id.into();
                let put_back = |context: &mut Context<S>, lent, _| {
                    if let Some(Timer::Every { every, .. }) = context.wheel.get_mut(id) {
                        *every = Some(lent);
                    }
                };
                self.lend(every, put_back, |context, every| {
                    (every.callback)(context, state, occurrence);
                });
                self.running = Subject::None;
                self.end_callback(Kind::Returned);
            }
            Timer::Once { .. } => {
                if let Some(Timer::Once { callback, place, referenced }) = self.wheel.cancel(id) {
                    self.referenced -= usize::from(referenced);
                    self.begin_callback(Kind::RunTimer, id.into(), place, (0, 0));
                    callback(self, state);
                    self.end_callback(Kind::Returned);
                }
            }
        }
    }

    /// Arms the next occurrence before this one runs, so that the callback may cancel or move it.
    fn next_occurrence(&mut self, id: TimerId, every: &Every<S>) -> Occurrence {
        let now = self.time.turn();
        let due = self.wheel.deadline(id).map_or(now.tick(), Tick::new);
        let behind = now.tick().since(due) / every.period;
        let missed = match every.missed {
            Missed::Skip => behind,
            Missed::Burst => behind.saturating_sub(BURST_MAX - 1),
            Missed::Delay => 0,
        };
        let due = due.plus(missed * every.period);
        let from = if every.missed == Missed::Delay { now.next() } else { due };
        let next = from.plus(every.period);
        self.wheel.rearm(id, next.count());
        if self.trace.is_on() {
            let argument = next.count() as u32;
            self.note(Kind::Rearmed, id.into(), self.place_of(id.into()), argument);
        }
        let deadline = self.time.timeline.instant(due).unwrap_or_else(|| self.now());
        Occurrence { timer: id, deadline, missed }
    }
}
