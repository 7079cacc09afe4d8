//! A limit on speed: a token bucket, for one connection or shared by several.
//!
//! Knows ticks and bytes; the connection that waits is in `throttle.rs`.
//!
//! The bucket fills at the rate, to the burst and no further; bytes read or written are taken out
//! of it. Its level counts thousandths of a byte: in a tick (1 ms) exactly as many of them come in
//! as the rate has bytes, so nothing is rounded.
//!
//! A connection that finds too little waits, by the deadline of its own source, for a *portion*:
//! the bytes of a 20th of a second, half a burst at most. Portions are *promised*, one behind the
//! other, so connections that share a bucket are served in turn and none starves:
//!
//! ```text
//!   income  ────┬────────┬────────┬────────┬───▶ time
//!              now       │        │        └ promised: the next that asks waits beyond this
//!                        due: a   due: b
//! ```
//!
//! There is no list of waiting connections. All income until a promise is due belongs to earlier
//! promises, so the bucket keeps one moment only. If a connection has gone and does not claim its
//! promise, the bytes are left for the next.
//!
//! # Read next
//! `throttle.rs`: a connection that waits for a rate.

use std::cell::Cell;
use std::rc::Rc;

use crate::reactor::Context;
use crate::timers::{Stamp, Tick};

/// Portions in a second for a connection that waits alone, and so its wake-ups.
const ALONE: u64 = 20;
/// Portions in a second for all of several that wait.
const IN_TURN: u64 = 200;
/// The smallest burst is the bytes of this part of a second. The loop wakes by ticks, sometimes a
/// tick late; a bucket that is full before then loses income.
const BURST_MIN: u64 = 50;

/// A limit on bytes per second. Clones share it: in the [`Limits`](super::Limits) of a listener it
/// is the rate of all its connections together, in those of one connection its own.
///
/// ```
/// use waterwheel::net::{Limits, Rate};
/// // A megabyte a second; after a pause, 64 KiB at once.
/// let rate = Rate::new(1_000_000, 64 * 1024);
/// let limits = Limits { read_rate: Some(rate), ..Limits::default() };
/// ```
///
/// For a rate of its own, each connection of a listener gets a new one before it is opened, by
/// [`Stream::adjust_limits`](super::Stream::adjust_limits).
#[derive(Clone, Debug)]
pub struct Rate(Rc<Bucket>);

#[derive(Debug)]
struct Bucket {
    bytes_per_second: Cell<u64>,
    burst_bytes: Cell<u64>,
    /// Bytes that may pass now, in thousandths; as of `filled`.
    level: Cell<u64>,
    /// The tick until which the income is in `level`; `None` before the first look.
    filled: Cell<Option<Tick>>,
    /// The moment, in thousandths of a tick, until which all income is promised to waiting ones.
    promised: Cell<u64>,
}

/// The same bucket, not an equal one.
impl PartialEq for Rate {
    fn eq(&self, other: &Rate) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Rate {}

impl Rate {
    /// So many bytes in each second, and `burst_bytes` at once after a pause and at the beginning.
    /// A burst below the bytes of 20 ms is raised to them. A rate of 0 lets only the burst pass.
    pub fn new(bytes_per_second: u64, burst_bytes: u64) -> Rate {
        let rate = Rate(Rc::new(Bucket {
            bytes_per_second: Cell::new(bytes_per_second),
            burst_bytes: Cell::new(0),
            level: Cell::new(0),
            filled: Cell::new(None),
            promised: Cell::new(0),
        }));
        rate.set_burst(bytes_per_second, burst_bytes);
        rate.0.level.set(rate.level_max());
        rate
    }

    /// Changes it, from now on. Connections that wait notice within a second.
    pub fn set<S: 'static>(&self, reactor: &Context<S>, bytes_per_second: u64, burst_bytes: u64) {
        let tick = self.fill(reactor.stamp());
        self.0.bytes_per_second.set(bytes_per_second);
        self.set_burst(bytes_per_second, burst_bytes);
        self.0.level.set(self.0.level.get().min(self.level_max()));
        self.0.promised.set(tick.count().saturating_mul(1000)); // Breaks old promises.
    }

    /// The rate.
    pub fn bytes_per_second(&self) -> u64 {
        self.0.bytes_per_second.get()
    }

    /// The burst.
    pub fn burst_bytes(&self) -> u64 {
        self.0.burst_bytes.get()
    }

    fn set_burst(&self, bytes_per_second: u64, burst_bytes: u64) {
        let least = bytes_per_second.div_ceil(BURST_MIN).max(2);
        self.0.burst_bytes.set(burst_bytes.max(least));
    }

    fn level_max(&self) -> u64 {
        self.burst_bytes().saturating_mul(1000)
    }

    /// Takes in the income of the ticks that are over; returns the tick it has reached. A full
    /// bucket goes on with the tick after now, so that a part of a tick never counts as a whole
    /// one.
    fn fill(&self, now: Stamp) -> Tick {
        let tick = now.tick().max(self.0.filled.get().unwrap_or(Tick::START));
        let ticks = tick.since(self.0.filled.get().unwrap_or(tick));
        let income = self.bytes_per_second().saturating_mul(ticks);
        let level = self.0.level.get().saturating_add(income).min(self.level_max());
        self.0.level.set(level);
        let tick = if level == self.level_max() { tick.max(now.next()) } else { tick };
        self.0.filled.set(Some(tick));
        tick
    }

    /// Returns how many of `want` bytes may pass now, or the tick at which to ask again. `due` is
    /// that tick for a connection that waits.
    pub(super) fn ask(&self, now: Stamp, due: Option<Tick>, want: usize) -> Result<usize, Tick> {
        let tick = self.fill(now);
        // Promises reach as far as `promised`: a later one was made before the rate was changed.
        let promised = Tick::new(self.0.promised.get().div_ceil(1000));
        let due = due.filter(|due| *due <= promised);
        let others = self.0.promised.get() >= tick.plus(1).count().saturating_mul(1000);
        let portion = self.portion(want as u64, others);
        let level = self.0.level.get() / 1000;
        // Bytes above half a burst were not claimed in time: any connection may have them.
        let over = level.saturating_sub((self.burst_bytes() / 2).max(portion));
        let granted = match (others, due.is_some_and(|due| due <= now.tick())) {
            (false, _) => level,
            (true, true) => portion + over,
            (true, false) => over,
        };
        let granted = granted.min(level); // A portion may be larger than it was when promised.
        if granted >= portion || granted >= want as u64 {
            return Ok(usize::try_from(granted).unwrap_or(usize::MAX).min(want));
        }
        let due = due.filter(|due| *due > now.tick());
        Err(due.unwrap_or_else(|| self.promise(tick, want as u64)))
    }

    /// Takes out the bytes that have passed.
    pub(super) fn spend(&self, bytes: usize) {
        let level = self.0.level.get();
        self.0.level.set(level.saturating_sub((bytes as u64).saturating_mul(1000)));
    }

    fn portion(&self, want: u64, others: bool) -> u64 {
        let share = self.bytes_per_second() / if others { IN_TURN } else { ALONE };
        want.min(share).min(self.burst_bytes() / 2).max(1)
    }

    /// Promises a portion behind those promised before; returns the tick at which it is there.
    fn promise(&self, tick: Tick, want: u64) -> Tick {
        let rate = self.bytes_per_second();
        let now = tick.count().saturating_mul(1000);
        let from = self.0.promised.get().max(now);
        let portion = self.portion(want, from > now).saturating_mul(1000);
        let missing = if from > now { portion } else { portion - self.0.level.get().min(portion) };
        if rate == 0 {
            return Tick::NEVER;
        }
        let wait = missing.saturating_mul(1000).div_ceil(rate).max(1);
        self.0.promised.set(from.saturating_add(wait));
        Tick::new(self.0.promised.get().div_ceil(1000))
    }
}
