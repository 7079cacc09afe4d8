//! The paced clock: time that goes slower than real time, or stands still.
//!
//! For a debugger and for slow motion: see `../../inspect/control.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The system's time at a pace that any thread may change: 1000 per mille is real time, 10 is a
/// hundred times slower, at 0 it stands still. Clones are the same clock. The wall clock keeps its
/// own pace.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::timers::PacedClock;
/// let clock = PacedClock::new();
/// clock.set_pace(0);
/// assert_eq!(clock.now(), clock.now());
/// ```
#[derive(Clone, Debug)]
pub struct PacedClock(Arc<Paced>);

#[derive(Debug)]
struct Paced {
    /// At real pace, by how many nanoseconds the time shown is behind the system's; else [`SLOWED`].
    behind: AtomicU64,
    pace: Mutex<Pace>,
}

/// The clock does not go at real pace: the lock has its time.
const SLOWED: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct Pace {
    /// When the pace was set, by the system's clock and by this one.
    real: Instant,
    shown: Instant,
    per_mille: u32,
}

impl Pace {
    fn at(self, real: Instant) -> Instant {
        let nanos = real.saturating_duration_since(self.real).as_nanos();
        let passed = nanos * u128::from(self.per_mille) / u128::from(PacedClock::REAL);
        self.shown + Duration::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

impl PacedClock {
    /// The pace of real time, in parts per thousand, and the fastest.
    pub const REAL: u32 = 1000;

    /// A clock that shows real time.
    pub fn new() -> PacedClock {
        let now = Instant::now();
        let pace = Mutex::new(Pace { real: now, shown: now, per_mille: Self::REAL });
        PacedClock(Arc::new(Paced { behind: AtomicU64::new(0), pace }))
    }

    fn lock(&self) -> MutexGuard<'_, Pace> {
        self.0.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time that this clock shows. Never earlier than one read before.
    #[inline]
    pub fn now(&self) -> Instant {
        let behind = self.0.behind.load(Ordering::SeqCst);
        let real = Instant::now();
        // A change of pace marks the clock as slowed before it reads the time. So if there is no mark
        // yet, the time that it will read is not before this one.
        if behind != SLOWED && self.0.behind.load(Ordering::SeqCst) == behind {
            return real - Duration::from_nanos(behind);
        }
        self.slowed()
    }

    #[cold]
    fn slowed(&self) -> Instant {
        // The system's clock is read under the lock: a change of pace comes before or after it.
        let pace = self.lock();
        pace.at(Instant::now())
    }

    /// The pace, in parts per thousand of real time.
    pub fn pace(&self) -> u32 {
        self.lock().per_mille
    }

    /// Sets the pace from now on, at most [`REAL`](PacedClock::REAL). The time shown does not jump.
    /// A loop that sleeps finds out when it wakes: [wake](crate::reactor::Remote::wake) it.
    pub fn set_pace(&self, per_mille: u32) {
        let mut pace = self.lock();
        self.0.behind.store(SLOWED, Ordering::SeqCst);
        let real = Instant::now();
        *pace = Pace { real, shown: pace.at(real), per_mille: per_mille.min(Self::REAL) };
        if pace.per_mille == Self::REAL {
            let behind = pace.real.saturating_duration_since(pace.shown).as_nanos();
            let behind = u64::try_from(behind).unwrap_or(SLOWED);
            self.0.behind.store(behind, Ordering::SeqCst);
        }
    }

    pub(super) fn real(&self, wait: Duration) -> Option<Duration> {
        if wait.is_zero() || self.0.behind.load(Ordering::SeqCst) != SLOWED {
            return Some(wait);
        }
        let nanos = wait.as_nanos().saturating_mul(u128::from(Self::REAL));
        let real = nanos.checked_div(u128::from(self.pace()))?;
        Some(Duration::from_nanos(u64::try_from(real).unwrap_or(u64::MAX)))
    }
}

impl Default for PacedClock {
    fn default() -> PacedClock {
        PacedClock::new()
    }
}
