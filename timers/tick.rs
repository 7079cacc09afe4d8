//! Ticks: the one place where time is rounded.
//!
//! Knows integers and `Duration`; never reads a clock.
//!
//! A deadline is a [`Tick`], a millisecond of the wheel. The moment of an event is a [`Stamp`],
//! exact to the nanosecond, and the current time is a [`Now`]. A delay is added to a [`Stamp`] or a
//! [`Now`], never to a tick: so it is rounded once, and in the right direction.
//!
//! ```text
//!   tick        5            6            7            8
//!               ├────────────┼────────────┼────────────┼──▶
//!                         ▲
//!                   an event, at 5.9      tick()  = 5    the tick that has begun: rounds down
//!                                         next()  = 6    the first tick after it: rounds up
//!                                   after(1 ms)   = 7    5.9 + 1 = 6.9, rounded up
//! ```
//!
//! A timeout of a millisecond that began at 5.9 ends at 7. If its beginning were rounded down
//! first, it would end at 6, after only a tenth of a millisecond.
//!
//! # Rules
//! 1. Never early: `after(delay)` begins `delay` after the event, or later.
//! 2. Late by less than a tick, whatever the delay: it is rounded once.
//!
//! # Read next
//! `wheel.rs`: how a deadline finds its slot.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use super::TICK;

const TICK_NANOS: u64 = TICK.as_nanos() as u64;

/// A tick: a millisecond, counted from the start of the clock; as a deadline, the moment at which
/// it begins.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The first tick, which begins with the clock.
    pub const START: Tick = Tick(0);
    /// The deadline that never comes: 584 million years after the start.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// The tick of that number.
    pub const fn new(count: u64) -> Tick {
        Tick(count)
    }

    /// How many ticks have begun before this one.
    #[inline]
    pub const fn count(self) -> u64 {
        self.0
    }

    /// So many ticks later. Saturates at [`NEVER`](Tick::NEVER).
    #[must_use]
    pub const fn plus(self, ticks: u64) -> Tick {
        Tick(self.0.saturating_add(ticks))
    }

    /// Ticks from `earlier` to this one; 0 if `earlier` is later.
    pub const fn since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The number of whole ticks in a period: rounds up. For a single delay use
    /// [`Stamp::after`] instead.
    pub fn count_of(length: Duration) -> u64 {
        let (ticks, rest) = split(length);
        ticks.saturating_add(u64::from(rest > 0))
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Tick::NEVER { f.write_str("never") } else { write!(f, "tick {}", self.0) }
    }
}

/// The current time: the tick that has begun, and the nanoseconds since its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    tick: Tick,
    /// Less than a tick.
    nanos: u32,
}

impl Now {
    /// The time `elapsed` after the start. Saturates at [`Tick::NEVER`].
    #[inline]
    pub fn new(elapsed: Duration) -> Now {
        let (ticks, nanos) = split(elapsed);
        Now { tick: Tick(ticks), nanos: nanos as u32 }
    }

    /// The last tick that has begun: rounds down. A timer is due when this has reached its
    /// deadline.
    #[inline]
    pub const fn tick(self) -> Tick {
        self.tick
    }

    /// The first tick that does not begin before now: rounds up.
    #[inline]
    pub const fn next(self) -> Tick {
        self.tick.plus((self.nanos > 0) as u64)
    }

    /// The first tick that does not begin before `delay` has passed: rounds up, once. Saturates at
    /// [`Tick::NEVER`].
    ///
    /// For zero it is the tick that has begun: the loop looks at it later than now in any case, so
    /// no rounding is needed.
    #[inline]
    pub fn after(self, delay: Duration) -> Tick {
        if delay.is_zero() {
            return self.tick;
        }
        let (ticks, nanos) = split(delay);
        let more = (u64::from(self.nanos) + nanos).div_ceil(TICK_NANOS);
        self.tick.plus(ticks).plus(more)
    }
}

/// The moment of an event: nanoseconds since the start of the clock. `Option<Stamp>` is no larger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(NonZeroU64);

impl Stamp {
    /// The start of the clock.
    pub const START: Stamp = Stamp(NonZeroU64::MIN);
    /// The stamp beyond all others, 584 years after the start. A deadline that follows it never
    /// comes.
    pub const NEVER: Stamp = Stamp(NonZeroU64::MAX);

    /// The moment `nanos` after the start. Saturates.
    #[inline]
    pub const fn new(nanos: u64) -> Stamp {
        Stamp(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds from the start to here.
    #[inline]
    pub const fn nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// The moment at which a tick begins.
    pub const fn of(tick: Tick) -> Stamp {
        Stamp::new(tick.0.saturating_mul(TICK_NANOS))
    }

    fn now(self) -> Now {
        Now::new(Duration::from_nanos(self.nanos()))
    }

    /// As [`Now::tick`].
    pub fn tick(self) -> Tick {
        self.now().tick()
    }

    /// As [`Now::next`]; [`Tick::NEVER`] for [`Stamp::NEVER`].
    pub fn next(self) -> Tick {
        if self == Stamp::NEVER { Tick::NEVER } else { self.now().next() }
    }

    /// As [`Now::after`]; [`Tick::NEVER`] for [`Stamp::NEVER`].
    pub fn after(self, delay: Duration) -> Tick {
        if self == Stamp::NEVER { Tick::NEVER } else { self.now().after(delay) }
    }

    /// `delay` later, to the nanosecond. Saturates at [`NEVER`](Stamp::NEVER).
    #[must_use]
    pub fn plus(self, delay: Duration) -> Stamp {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        Stamp(self.0.saturating_add(nanos))
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Stamp::NEVER {
            return f.write_str("never");
        }
        write!(f, "{:?}", Duration::from_nanos(self.nanos()))
    }
}

/// Whole ticks, and the nanoseconds that remain. Saturates at `u64::MAX` ticks.
fn split(duration: Duration) -> (u64, u64) {
    let nanos = u64::from(duration.subsec_nanos());
    let ticks = duration.as_secs().saturating_mul(1000).saturating_add(nanos / TICK_NANOS);
    (ticks, nanos % TICK_NANOS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_round_up_once_and_now_rounds_down() {
        let stamp = Stamp::new(1_999_999);
        assert_eq!((stamp.tick(), stamp.next()), (Tick(1), Tick(2)));
        assert_eq!(stamp.now(), Now::new(Duration::from_nanos(1_999_999)));
        assert_eq!(stamp.after(Duration::from_nanos(1)), Tick(2));
        assert_eq!(stamp.after(Duration::from_nanos(2)), Tick(3));
        assert_eq!(Stamp::new(100_000).after(Duration::from_micros(100)), Tick(1), "not 2");
        for rest in [0, 999_999] {
            assert_eq!(Stamp::new(7_000_000 + rest).after(Duration::ZERO), Tick(7));
        }
        assert_eq!(Stamp::of(Tick(7)), Stamp::new(7_000_000));
        assert_eq!((Stamp::of(Tick(7)).tick(), Stamp::of(Tick(7)).next()), (Tick(7), Tick(7)));
        assert_eq!(
            [0, 1, 1_000_000, 1_000_001].map(|n| Tick::count_of(Duration::from_nanos(n))),
            [0, 1, 1, 2]
        );
    }

    #[test]
    fn no_deadline_is_early_or_late_by_a_tick() {
        for at in [0, 1, 100_000, 500_000, 900_000, 999_999, 7_000_001] {
            for delay in [1, 100_000, 999_999, 1_000_000, 1_000_001, 1_500_000, 10_900_000] {
                let due = Stamp::of(Stamp::new(at).after(Duration::from_nanos(delay))).nanos();
                assert!((at + delay..at + delay + TICK_NANOS).contains(&due), "{at} + {delay}");
            }
        }
    }

    #[test]
    fn an_endless_delay_saturates() {
        let late = Stamp::new(u64::MAX - 2);
        assert!(late < Stamp::NEVER && late.tick() < Tick::NEVER);
        assert_eq!(late.after(Duration::MAX), Tick::NEVER);
        assert_eq!(Now::new(Duration::MAX).next(), Tick::NEVER);
        assert_eq!(
            (late.plus(Duration::MAX), Stamp::of(Tick::NEVER)),
            (Stamp::NEVER, Stamp::NEVER)
        );
        assert_eq!(
            (Stamp::NEVER.next(), Stamp::NEVER.after(Duration::ZERO)),
            (Tick::NEVER, Tick::NEVER)
        );
        assert_eq!(size_of::<Option<Stamp>>(), 8);
    }
}
