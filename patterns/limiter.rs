//! Limits on how often something is done: a token bucket of operations on the loop's clock.
//!
//! Knows time and numbers; never looks into an operation. (`Rate`, in `net`, limits the bytes
//! that a connection may pass in a second.)
//!
//! The bucket counts in *parts*. An operation costs as many parts as the period has nanoseconds,
//! and each nanosecond brings as many parts as there may be operations in a period. These are whole
//! numbers, so the level is always exact, with any period and any times of calls.
//!
//! ```text
//!   3 in a second:  a millisecond brings 3 million parts, an operation costs 1000 million
//!   millions   3000 ──take──▶ 2000 ──take──▶ 1000 ──take──▶ 0 ── 334 ms ──▶ 1002 ──take──▶ 2
//! ```
//!
//! # Read next
//! `backoff.rs`: pauses before another attempt.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::reactor::Context;
use crate::timers::{TICK, Tick};

/// A limit on how often something is done: a number of operations in a period, and a burst after a
/// pause. Clones share it: it limits all of their users together.
///
/// ```
/// use std::time::{Duration, Instant};
/// use waterwheel::Reactor;
/// use waterwheel::patterns::Limiter;
///
/// let mut reactor = Reactor::<()>::new()?;
/// // Five attempts to log in a minute, all of them at once if need be.
/// let logins = Limiter::new(5, Duration::from_secs(60), 5);
/// assert!((0..5).all(|_| logins.take(&reactor, 1)));
/// assert!(!logins.take(&reactor, 1));
/// assert!(logins.wait(&reactor, 1) <= Duration::from_millis(12_001)); // To the end of a tick.
///
/// // Mails leave in order, a hundred a second, one after the other.
/// let mails = Limiter::new(100, Duration::from_secs(1), 1);
/// for mail in 0..3 {
///     let wait = mails.reserve(&reactor, 1);
///     reactor.after(wait, move |_, _| println!("mail {mail}"));
/// }
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Limiter(Rc<Bucket>);

/// Nanoseconds in a tick.
const NANOS: i128 = TICK.as_nanos() as i128;

#[derive(Debug)]
struct Bucket {
    operations: Cell<u32>,
    /// The period, in nanoseconds; a tick at least.
    period: Cell<u128>,
    burst: Cell<u32>,
    /// The parts that are free as of `filled`; below zero, the parts that are reserved. A term of
    /// it is less than 2^117 by the types of the others.
    level: Cell<i128>,
    /// The time of the last call; `None` before the first.
    filled: Cell<Option<Instant>>,
}

impl Limiter {
    /// Allows `operations` in each period, which is whole milliseconds, one at least; and `burst`
    /// of them at once after a pause, as at the beginning. The burst is at least one, and at least
    /// the operations of a millisecond. With 0 operations there is only the burst.
    ///
    /// Operations that become free while the burst is full are lost. So a loop with slow callbacks,
    /// which asks seldom, needs a burst as large as the operations of one such interval.
    pub fn new(operations: u32, period: Duration, burst: u32) -> Limiter {
        let limiter = Limiter(Rc::new(Bucket {
            operations: Cell::new(operations),
            period: Cell::new(nanos(period)),
            burst: Cell::new(raised(operations, period, burst)),
            level: Cell::new(0),
            filled: Cell::new(None),
        }));
        limiter.0.level.set(limiter.0.parts(limiter.0.burst.get()));
        limiter
    }

    /// Changes the limit from now on. Operations that are free or reserved are kept, as far as the
    /// new burst goes.
    pub fn set<S: 'static>(
        &self,
        reactor: &Context<S>,
        operations: u32,
        period: Duration,
        burst: u32,
    ) {
        let bucket = &*self.0;
        bucket.fill(reactor.now());
        let (was, is) = (bucket.period.get() as i128, nanos(period) as i128);
        let level = bucket.level.get();
        let (whole, rest) = (level.div_euclid(was), level.rem_euclid(was));
        bucket.operations.set(operations);
        bucket.period.set(nanos(period));
        bucket.burst.set(raised(operations, period, burst));
        bucket.level.set(whole.saturating_mul(is).saturating_add(rest.saturating_mul(is) / was));
        bucket.fill(reactor.now());
    }

    /// Takes `count` operations and returns true if they may be done now; else takes none. For
    /// more than the burst the result is always false.
    pub fn take<S: 'static>(&self, reactor: &Context<S>, count: u32) -> bool {
        self.0.fill(reactor.now());
        let left = self.0.level.get() - self.0.parts(count);
        if left >= 0 {
            self.0.level.set(left);
        }
        left >= 0
    }

    /// The time until [`take`](Limiter::take) returns true, if no other call takes any before: zero
    /// if now, [`Duration::MAX`] if never. Rounded up to a whole tick, as for timers.
    pub fn wait<S: 'static>(&self, reactor: &Context<S>, count: u32) -> Duration {
        if count > self.0.burst.get() {
            return Duration::MAX;
        }
        self.0.fill(reactor.now());
        self.0.until(reactor, self.0.level.get() - self.0.parts(count))
    }

    /// Takes `count` operations in any case, and returns how long to wait before they are done.
    /// They are done in the order of the calls, those of [`take`](Limiter::take) included, so a
    /// later call never overtakes. `count` may be more than the burst. If the wait would never end,
    /// takes nothing and returns [`Duration::MAX`].
    ///
    /// Reservations have no bound: a program that reserves for others should ask
    /// [`wait`](Limiter::wait) first and refuse long waits. Unused operations stay taken.
    pub fn reserve<S: 'static>(&self, reactor: &Context<S>, count: u32) -> Duration {
        self.0.fill(reactor.now());
        let left = self.0.level.get().saturating_sub(self.0.parts(count));
        let wait = self.0.until(reactor, left);
        if wait < Duration::MAX {
            self.0.level.set(left);
        }
        wait
    }

    /// How many operations may be done now.
    pub fn available<S: 'static>(&self, reactor: &Context<S>) -> u32 {
        self.0.fill(reactor.now());
        let whole = self.0.level.get().max(0) / self.0.period.get() as i128;
        u32::try_from(whole).unwrap_or(u32::MAX)
    }
}

impl Bucket {
    /// The cost of `operations`, in parts.
    fn parts(&self, operations: u32) -> i128 {
        i128::from(operations) * self.period.get() as i128
    }

    fn fill(&self, now: Instant) {
        let since = now.saturating_duration_since(self.filled.replace(Some(now)).unwrap_or(now));
        let (each, period) = (i128::from(self.operations.get()), self.period.get() as i128);
        // The burst and a part of an operation more: so a caller that looks at each tick keeps the
        // excess of one tick.
        let most = self.parts(self.burst.get()) + (each.min(period / NANOS) - 1).max(0) * NANOS;
        let level = self.level.get().saturating_add(each * since.as_nanos() as i128);
        self.level.set(level.min(most));
    }

    /// How long until a level below zero has risen to zero.
    fn until<S: 'static>(&self, reactor: &Context<S>, level: i128) -> Duration {
        let missing = level.min(0).unsigned_abs();
        match u128::from(self.operations.get()) {
            _ if missing == 0 => Duration::ZERO,
            0 => Duration::MAX,
            each => {
                let nanos = missing.div_ceil(each);
                let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
                let wait = Duration::new(seconds, (nanos % 1_000_000_000) as u32);
                reactor.until_tick(reactor.turn_tick_after(wait)) // No timer runs before that.
            }
        }
    }
}

/// The burst, raised to the operations of a tick and to one.
fn raised(operations: u32, period: Duration, burst: u32) -> u32 {
    let tick = u64::from(operations).div_ceil(Tick::count_of(period).max(1));
    burst.max(u32::try_from(tick).unwrap_or(u32::MAX)).max(1)
}

/// A period of whole ticks, rounded up, one at least, in nanoseconds.
fn nanos(period: Duration) -> u128 {
    u128::from(Tick::count_of(period).max(1)) * NANOS as u128
}
