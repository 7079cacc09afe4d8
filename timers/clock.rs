//! The clock: with `clock/paced.rs` the only code of the project that reads the time.
//!
//! Knows `Instant`, which measures, and the wall clock, which names a moment for people. People may
//! set the wall clock back an hour, so no timer follows it. Only schedules by hour and day follow
//! it, and they are checked again after it was set.
//!
//! # Read next
//! `wheel.rs`: the timers that wait for ticks.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Now, Stamp, Tick};

mod paced;

pub use paced::PacedClock;

/// The length of a tick, the resolution of every timer.
///
/// One millisecond, because `epoll_wait(2)` counts in milliseconds.
pub const TICK: Duration = Duration::from_millis(1);

/// Nanoseconds in a [`TICK`].
const TICK_NANOS: u64 = TICK.as_nanos() as u64;

/// The source of a reactor's time: the operating system's monotonic clock, or one moved by hand.
#[derive(Clone, Debug)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// Time that stands still until it is moved.
    Manual(ManualClock),
    /// The system's time at a pace.
    Paced(PacedClock),
}

impl Clock {
    /// The time now. # Cost: one `clock_gettime(2)`. It takes tens of nanoseconds and, by the vDSO,
    /// no system call; if the kernel does not trust the processor's counter, it is a system call.
    pub fn now(&self) -> Instant {
        match self {
            Clock::Monotonic => Instant::now(),
            Clock::Manual(manual) => manual.now(),
            Clock::Paced(paced) => paced.now(),
        }
    }

    /// How long the system has to wait for this clock to advance by `wait`; `None` without end.
    pub fn real(&self, wait: Duration) -> Option<Duration> {
        match self {
            Clock::Monotonic | Clock::Manual(_) => Some(wait),
            Clock::Paced(paced) => paced.real(wait),
        }
    }

    /// The wall clock's time now. # Cost: as [`now`](Clock::now).
    pub fn wall(&self) -> WallTime {
        match self {
            Clock::Monotonic | Clock::Paced(_) => SystemTime::now().into(),
            Clock::Manual(manual) => manual.wall(),
        }
    }
}

/// A moment by the wall clock: whole milliseconds since 1970-01-01 00:00 UTC, rounded down.
///
/// Good for naming a moment. Not for measuring: the next one read may be earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

impl WallTime {
    /// The first time that a [`ManualClock`] shows: 2026-01-01 00:00 UTC, a Thursday.
    pub const MANUAL: WallTime = WallTime(1_767_225_600_000);

    /// From milliseconds since 1970-01-01 00:00 UTC.
    pub const fn from_unix_ms(ms: i64) -> WallTime {
        WallTime(ms)
    }

    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// Milliseconds from `earlier` to this one; negative if `earlier` is later. Saturates.
    pub const fn ms_since(self, earlier: WallTime) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `ms` milliseconds after this one. Saturates.
    pub const fn plus_ms(self, ms: i64) -> WallTime {
        WallTime(self.0.saturating_add(ms))
    }
}

impl From<SystemTime> for WallTime {
    fn from(time: SystemTime) -> WallTime {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        WallTime(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => ms(since),
            Err(before) => -ms(before.duration() + Duration::from_nanos(TICK_NANOS - 1)),
        })
    }
}

impl From<WallTime> for SystemTime {
    /// # Panics
    /// If a `SystemTime` cannot hold it; on Linux it can hold all of them.
    fn from(time: WallTime) -> SystemTime {
        let ms = Duration::from_millis(time.0.unsigned_abs());
        if time.0 < 0 { UNIX_EPOCH - ms } else { UNIX_EPOCH + ms }
    }
}

impl fmt::Debug for WallTime {
    /// In the form that `date -d @…` reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}.{:03}", self.0.div_euclid(1000), self.0.rem_euclid(1000))
    }
}

/// A clock that stands still until it is moved. Clones share the same time.
///
/// A reactor that has this clock moves it, too: when it has nothing to do until the next deadline,
/// it moves the clock there and does not sleep, so a program of hours runs in milliseconds. While
/// workers have jobs the loop does not move it, so a job takes no time by this clock.
/// A [`held`](ManualClock::held) clock is moved by [`advance`](ManualClock::advance) alone.
///
/// ```
/// use std::time::Duration;
/// let clock = waterwheel::timers::ManualClock::new();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now() - start, Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    /// The beginning of time; only differences from it are ever used.
    origin: Instant,
    elapsed: Rc<Cell<Duration>>,
    /// The wall clock's time at the origin; the last `set_wall` has computed it.
    wall_origin: Rc<Cell<WallTime>>,
    held: bool,
}

impl ManualClock {
    /// A clock that the loop may move to the next deadline when nothing else is left to do.
    pub fn new() -> ManualClock {
        let wall_origin = Rc::new(Cell::new(WallTime::MANUAL));
        ManualClock { origin: Instant::now(), elapsed: Rc::default(), wall_origin, held: false }
    }

    /// A clock that only [`advance`](ManualClock::advance) moves, for tests that wait for real I/O
    /// and must not see a timeout before they ask for it.
    pub fn held() -> ManualClock {
        ManualClock { held: true, ..ManualClock::new() }
    }

    /// The time this clock shows.
    pub fn now(&self) -> Instant {
        self.origin + self.elapsed.get()
    }

    /// Moves time forward by `by`.
    ///
    /// # Panics
    /// If that is later than an `Instant` can hold: on Linux, 292 thousand million years.
    pub fn advance(&self, by: Duration) {
        let elapsed = self.elapsed.get().saturating_add(by);
        assert!(self.origin.checked_add(elapsed).is_some(), "time cannot move on by {by:?}");
        self.elapsed.set(elapsed);
    }

    /// The time of its wall clock: [`WallTime::MANUAL`] at first, and from then on it moves with
    /// this clock.
    pub fn wall(&self) -> WallTime {
        self.wall_origin.get().plus_ms(self.elapsed_ms())
    }

    /// Sets its wall clock, as an administrator or NTP does. [`now`](ManualClock::now) is not
    /// moved.
    pub fn set_wall(&self, to: impl Into<WallTime>) {
        self.wall_origin.set(to.into().plus_ms(-self.elapsed_ms()));
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.elapsed.get().as_millis()).unwrap_or(i64::MAX)
    }

    /// Returns true if only [`advance`](ManualClock::advance) may move this clock.
    pub fn is_held(&self) -> bool {
        self.held
    }
}

impl Default for ManualClock {
    fn default() -> ManualClock {
        ManualClock::new()
    }
}

/// Counts from an origin, the start of the clock. `tick.rs` does the rounding.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    origin: Instant,
}

impl Timeline {
    /// A timeline that starts at `origin`.
    pub fn new(origin: Instant) -> Timeline {
        Timeline { origin }
    }

    /// An instant as a [`Now`].
    #[inline]
    pub fn now(&self, now: Instant) -> Now {
        Now::new(now.saturating_duration_since(self.origin))
    }

    /// The first tick at or after `deadline`; for an instant before the origin, the first of all.
    pub fn deadline(&self, deadline: Instant) -> Tick {
        self.now(deadline).next()
    }

    /// An instant as a [`Stamp`]; one before the origin is [`Stamp::START`].
    #[inline]
    pub fn stamp(&self, instant: Instant) -> Stamp {
        let since = instant.saturating_duration_since(self.origin);
        let nanos = since.as_secs().saturating_mul(1_000_000_000);
        Stamp::new(nanos.saturating_add(u64::from(since.subsec_nanos())))
    }

    /// How long from `now` until `tick` begins; zero if it has begun. Saturates.
    pub fn until(&self, tick: Tick, now: Instant) -> Duration {
        let begins = Duration::from_millis(tick.count());
        begins.saturating_sub(now.saturating_duration_since(self.origin))
    }

    /// The instant at which `tick` begins, or `None` past what an `Instant` can hold.
    pub fn instant(&self, tick: Tick) -> Option<Instant> {
        self.origin.checked_add(Duration::from_millis(tick.count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_rounds_down_before_and_after_1970() {
        for (nanos, ms) in [(0, 0), (999_999, 0), (1_000_000, 1), (1_999_999, 1)] {
            let time = UNIX_EPOCH + Duration::from_nanos(nanos);
            assert_eq!(WallTime::from(time), WallTime(ms), "{nanos}");
        }
        for (nanos, ms) in [(1, -1), (1_000_000, -1), (1_000_001, -2)] {
            let time = UNIX_EPOCH - Duration::from_nanos(nanos);
            assert_eq!(WallTime::from(time), WallTime(ms), "-{nanos}");
        }
        let time = WallTime(-1_234);
        assert_eq!(WallTime::from(SystemTime::from(time)), time);
        assert_eq!(format!("{time:?} {:?}", WallTime::MANUAL), "@-2.766 @1767225600.000");
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_nothing_else() {
        let clock = ManualClock::new();
        clock.advance(TICK * 1500);
        assert_eq!(clock.wall(), WallTime::MANUAL.plus_ms(1500));
        let now = clock.now();
        clock.set_wall(WallTime(5));
        assert_eq!((clock.now(), clock.wall()), (now, WallTime(5)));
        clock.advance(TICK);
        assert_eq!(Clock::Manual(clock).wall(), WallTime(6));
    }

    #[test]
    fn a_timeline_counts_from_its_origin() {
        let origin = Instant::now();
        let line = Timeline::new(origin);
        assert_eq!(line.stamp(origin - TICK), Stamp::START);
        let at = |nanos| origin + Duration::from_nanos(nanos);
        assert_eq!(line.stamp(at(1_999_999)), Stamp::new(1_999_999));
        assert_eq!(line.now(at(1_999_999)).tick(), Tick::new(1));
        assert_eq!([0, 1, 1_000_000].map(|n| line.deadline(at(n)).count()), [0, 1, 1]);
        assert_eq!(line.deadline(origin - TICK), Tick::START);
        assert_eq!(line.until(Tick::new(3), origin + TICK / 4), TICK * 11 / 4);
        assert_eq!(line.instant(Tick::new(3)), Some(origin + 3 * TICK));
        assert!(line.until(Tick::NEVER, origin) > Duration::from_secs(1 << 50));
    }
}
