//! How fast: a token bucket, for one connection or shared by several.
//!
//! Knows ticks and bytes, and at the end of the file a connection that waits; never mentions a
//! socket.
//!
//! The bucket fills at the rate, to the burst and no further; what is read or written is taken out
//! of it. Its level counts thousandths of a byte: a tick (1 ms) is then worth exactly as many of
//! them as the rate has bytes, nothing is rounded and nothing drifts.
//!
//! Who finds too little waits, by the deadline of its own source, for a *portion*: a 20th of a
//! second's worth, half a burst at most. Portions are *promised*, one behind the other, so those
//! who share a bucket are served in turn and none starves:
//!
//! ```text
//!   income  ────┬────────┬────────┬────────┬───▶ time
//!              now       │        │        └ promised: whoever asks next waits beyond this
//!                        due: a   due: b
//! ```
//!
//! No list of those who wait is kept. The income until a promise is due is for those promised
//! before, so the bucket needs to know one moment only; a promise that nobody claims, because the
//! connection has gone, leaves its bytes for the next.
//!
//! # Read next
//! `drain.rs`: how a server ends.

use std::cell::Cell;
use std::rc::Rc;

use super::conn::{Conn, SOON, mark};
use crate::reactor::Context;

/// Portions in a second for a connection that waits alone, and so its wake-ups.
const ALONE: u64 = 20;
/// Portions in a second for all of several that wait.
const IN_TURN: u64 = 200;
/// Of a second's worth, the smallest burst. The loop wakes by ticks, a tick late at times; a bucket
/// that is full by then would lose what comes meanwhile.
const BURST_MIN: u64 = 50;
/// Ticks after which one that waits looks whether the rate was changed.
pub(super) const LOOK_AGAIN_TICKS: u64 = 1000;

/// A limit on bytes per second. Clones share it: in the [`Limits`](super::Limits) of a listener it
/// is that of all its connections together, in those of one connection its own.
///
/// ```
/// use waterwheel::net::{Limits, Rate};
/// // A megabyte a second; after a pause, 64 KiB at once.
/// let rate = Rate::new(1_000_000, 64 * 1024);
/// let limits = Limits { read_rate: Some(rate), ..Limits::default() };
/// ```
///
/// For each connection of a listener its own, a new one is given to each stream before it is
/// opened, by [`Stream::adjust_limits`](super::Stream::adjust_limits).
#[derive(Clone, Debug)]
pub struct Rate(Rc<Bucket>);

#[derive(Debug)]
struct Bucket {
    bytes_per_second: Cell<u64>,
    burst_bytes: Cell<u64>,
    /// What may pass now, in thousandths of a byte; as of `filled`.
    level: Cell<u64>,
    /// The tick of the last look; `None` before the first.
    filled: Cell<Option<u64>>,
    /// The moment, in thousandths of a tick, until which all income is promised to those who wait.
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
    /// So many bytes in each second, and `burst_bytes` at once after a pause, as at the beginning.
    /// A burst below 20 ms' worth is raised to that. A rate of 0 lets nothing pass but the burst.
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
        let tick = reactor.tick_now();
        self.fill(tick);
        self.0.bytes_per_second.set(bytes_per_second);
        self.set_burst(bytes_per_second, burst_bytes);
        self.0.level.set(self.0.level.get().min(self.level_max()));
        self.0.promised.set(tick * 1000); // Breaks the promises made at the old rate.
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

    fn fill(&self, tick: u64) {
        let ticks = tick - self.0.filled.replace(Some(tick)).unwrap_or(tick).min(tick);
        let income = self.bytes_per_second().saturating_mul(ticks);
        self.0.level.set(self.0.level.get().saturating_add(income).min(self.level_max()));
    }

    /// How many of `want` bytes may pass now, or the tick at which to ask again. `due` is that tick
    /// for one that was told to wait, and 0 for one that was not.
    pub(super) fn ask(&self, tick: u64, due: u64, want: usize) -> Result<usize, u64> {
        self.fill(tick);
        // Promises reach as far as `promised`: one beyond that was broken.
        let waits = due > 0 && due <= self.0.promised.get().div_ceil(1000);
        let others = self.0.promised.get() >= (tick + 1).saturating_mul(1000);
        let portion = self.portion(want as u64, others);
        let level = self.0.level.get() / 1000;
        // What is above half a burst nobody has claimed in time: it is for anyone.
        let over = level.saturating_sub((self.burst_bytes() / 2).max(portion));
        let granted = match (others, waits && due <= tick) {
            (false, _) => level,
            (true, true) => portion + over,
            (true, false) => over,
        };
        let granted = granted.min(level); // It may want more by now than it was promised.
        if granted >= portion || granted >= want as u64 {
            return Ok(usize::try_from(granted).unwrap_or(usize::MAX).min(want));
        }
        Err(if waits && due > tick { due } else { self.promise(tick, want as u64) })
    }

    /// Takes out what has passed.
    pub(super) fn spend(&self, bytes: usize) {
        let level = self.0.level.get();
        self.0.level.set(level.saturating_sub((bytes as u64).saturating_mul(1000)));
    }

    fn portion(&self, want: u64, others: bool) -> u64 {
        let share = self.bytes_per_second() / if others { IN_TURN } else { ALONE };
        want.min(share).min(self.burst_bytes() / 2).max(1)
    }

    /// Promises a portion behind those that are promised; the tick at which it is there.
    fn promise(&self, tick: u64, want: u64) -> u64 {
        let rate = self.bytes_per_second();
        let now = tick.saturating_mul(1000);
        let from = self.0.promised.get().max(now);
        let portion = self.portion(want, from > now).saturating_mul(1000);
        let missing = if from > now { portion } else { portion - self.0.level.get().min(portion) };
        if rate == 0 {
            return u64::MAX;
        }
        let wait = missing.saturating_mul(1000).div_ceil(rate).max(1);
        self.0.promised.set(from.saturating_add(wait));
        self.0.promised.get().div_ceil(1000)
    }
}

/// A connection's side of it. Until when it waits stands where nothing else can meanwhile.
impl Conn {
    /// The rates may have changed, so whoever was held up asks anew.
    pub(super) fn forget_rates(&mut self) {
        if self.has(mark::SLOWED_IN) && !self.has(mark::PAUSED) {
            self.marks |= mark::RESUMED;
        }
        if self.has(mark::SLOWED_OUT)
            && let Some(outbox) = &mut self.outbox
        {
            outbox.since = 0;
        }
        self.marks &= !(mark::SLOWED_IN | mark::SLOWED_OUT);
    }

    /// How much may be read now, of what there is room for. `None` while the rate holds it up: the
    /// deadline calls again.
    pub(super) fn may_read(&mut self, tick: u64, room: usize) -> Option<usize> {
        let Some(rate) = &self.seat.read_rate else { return Some(room) };
        if self.has(mark::CLOSING | mark::LAST_WORDS) {
            return Some(room); // It is over soon, and behind this input may be its end.
        }
        let slowed = self.has(mark::SLOWED_IN);
        match rate.ask(tick, if slowed { self.progress } else { 0 }, room) {
            Ok(room) => {
                if slowed {
                    self.marks &= !mark::SLOWED_IN;
                    (self.progress, self.heard) = (SOON, SOON);
                }
                Some(room)
            }
            Err(due) => {
                self.progress = due;
                self.marks |= mark::SLOWED_IN;
                self.marks &= !mark::ARMED;
                None
            }
        }
    }

    /// How much may be sent now; `None` as for [`may_read`](Conn::may_read).
    pub(super) fn may_send(&mut self, tick: u64) -> Option<usize> {
        let Some(rate) = &self.seat.write_rate else { return Some(usize::MAX) };
        let slowed = self.has(mark::SLOWED_OUT);
        let outbox = self.outbox.as_mut()?;
        match rate.ask(tick, if slowed { outbox.since } else { 0 }, outbox.bytes.len()) {
            Ok(most) => {
                if slowed {
                    self.marks &= !mark::SLOWED_OUT;
                    (outbox.since, self.heard) = (tick, tick);
                }
                Some(most)
            }
            Err(due) => {
                outbox.since = due;
                self.marks |= mark::SLOWED_OUT;
                self.marks &= !mark::ARMED;
                None
            }
        }
    }
}
