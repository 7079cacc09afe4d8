//! Timers, N of them live, in nanoseconds each: what the loop costs, and the wheel alone.
//!
//! Time is virtual and nothing waits. Deadlines are whole milliseconds drawn from the next minute;
//! the caller keeps an id for each timer; a callback forgets its own and counts.
//!
//! In the loop the timers are armed, cancelled and re-armed by a callback, as a program does it,
//! and every turn asks the kernel, once for each distinct deadline while they fire. `fire_net_ns`
//! takes the price of so many empty turns off.

use std::alloc::System;
use std::hint::black_box;
use std::time::Duration;

use quanta::Instant;
use support::{Rng, arguments, nanos_each, pin, quantile, report};
use waterwheel::reactor::Context;
use waterwheel::timers::{ManualClock, TimerId, Wheel};
use waterwheel::{Reactor, reactor};

mod support;

const HELP: &str = "\
bench-timers [N] [reactor|wheel]     default: 1000 reactor

  bytes        allocated for each timer, its id (8) included; the 4 bytes that the closure
               captures are not, and of the reactor only what it grew by
  insert_ns    cancel_ns, in random order     turn_ns, with one far timer
  fire_ns      time jumps from deadline to deadline; fire_net_ns: less the empty turns
  rearm_ns     a random one to 30 s from now, with a millisecond and a turn every 33
";

/// Counts what is allocated at the price of one atomic addition, as the peers' programs do.
#[global_allocator]
static ALLOCATOR: cap::Cap<System> = cap::Cap::new(System, usize::MAX);

const MINUTE_MS: u64 = 60_000;
const REARMED_MS: u64 = 30_000;

/// What the callbacks see: the id of each live timer, and how many have fired.
#[derive(Default)]
struct Seen {
    ids: Vec<Option<TimerId>>,
    fired: usize,
}

/// The timers under test. `now` and deadlines are milliseconds since it was made.
trait Subject: Sized {
    /// Bytes a timer's closure takes on the heap.
    const CAPTURED: usize;
    fn new(timers: usize) -> Self;
    fn insert(&mut self, each: impl Iterator<Item = (usize, u64)> + 'static);
    fn cancel(&mut self, each: impl Iterator<Item = usize> + 'static);
    fn rearm(&mut self, each: impl Iterator<Item = usize> + 'static, deadline: u64);
    /// Fires what is due at `now`.
    fn turn(&mut self, now: u64);
    fn fired(&self) -> usize;
}

struct InReactor {
    reactor: Reactor<Seen>,
    clock: ManualClock,
    now: u64,
    seen: Seen,
}

impl InReactor {
    /// Calls back, in a turn of its own.
    fn call(&mut self, callback: impl FnOnce(&mut Context<Seen>, &mut Seen) + 'static) {
        self.reactor.defer(callback);
        self.turn(self.now);
    }
}

impl Subject for InReactor {
    const CAPTURED: usize = size_of::<u32>();

    fn new(timers: usize) -> InReactor {
        let clock = ManualClock::held();
        let reactor = reactor::Reactor::builder().clock(&clock).timers(timers).build().unwrap();
        let seen = Seen { ids: vec![None; timers], fired: 0 };
        InReactor { reactor, clock, now: 0, seen }
    }

    fn insert(&mut self, each: impl Iterator<Item = (usize, u64)> + 'static) {
        let now = self.now;
        self.call(move |reactor, seen| {
            for (timer, deadline) in each {
                let number = timer as u32;
                let id = reactor.after(ms(deadline - now), move |_, seen: &mut Seen| {
                    seen.ids[number as usize] = None;
                    seen.fired += 1;
                });
                seen.ids[timer] = Some(id);
            }
        });
    }

    fn cancel(&mut self, each: impl Iterator<Item = usize> + 'static) {
        self.call(move |reactor, seen| {
            for id in each.filter_map(|timer| seen.ids[timer].take()) {
                reactor.cancel(id);
            }
        });
    }

    fn rearm(&mut self, each: impl Iterator<Item = usize> + 'static, deadline: u64) {
        let delay = ms(deadline - self.now);
        self.reactor.defer(move |reactor, seen| {
            for id in each.filter_map(|timer| seen.ids[timer]) {
                reactor.rearm(id, delay);
            }
        });
    }

    fn turn(&mut self, now: u64) {
        self.clock.advance(ms(now - self.now));
        self.now = now;
        self.reactor.turn(&mut self.seen, Some(Duration::ZERO)).unwrap();
    }

    fn fired(&self) -> usize {
        self.seen.fired
    }
}

struct Bare {
    wheel: Wheel<u32>,
    seen: Seen,
}

impl Subject for Bare {
    const CAPTURED: usize = 0;

    fn new(timers: usize) -> Bare {
        let seen = Seen { ids: vec![None; timers], fired: 0 };
        Bare { wheel: Wheel::with_capacity(timers), seen }
    }

    fn insert(&mut self, each: impl Iterator<Item = (usize, u64)>) {
        for (timer, deadline) in each {
            self.seen.ids[timer] = Some(self.wheel.insert(deadline, timer as u32));
        }
    }

    fn cancel(&mut self, each: impl Iterator<Item = usize>) {
        for id in each.filter_map(|timer| self.seen.ids[timer].take()) {
            black_box(self.wheel.cancel(id));
        }
    }

    fn rearm(&mut self, each: impl Iterator<Item = usize>, deadline: u64) {
        for id in each.filter_map(|timer| self.seen.ids[timer]) {
            self.wheel.rearm(id, deadline);
        }
    }

    fn turn(&mut self, now: u64) {
        while let Some(id) = self.wheel.expire(now) {
            if let Some(timer) = self.wheel.cancel(id) {
                self.seen.ids[timer as usize] = None;
                self.seen.fired += 1;
            }
        }
    }

    fn fired(&self) -> usize {
        self.seen.fired
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn measure<T: Subject>(name: &str, timers: usize) {
    let mut rng = Rng::new();
    let deadlines: Vec<u64> = (0..timers).map(|_| 1 + rng.below(MINUTE_MS)).collect();
    let mut order: Vec<usize> = (0..timers).collect();
    for last in (1..timers).rev() {
        order.swap(last, rng.below(last as u64 + 1) as usize);
    }
    report(name, "bytes", bytes::<T>(&deadlines));
    insert_and_cancel::<T>(name, &deadlines, &order);
    fire::<T>(name, &deadlines);
    rearm::<T>(name, timers, &mut rng);
}

fn bytes<T: Subject>(deadlines: &[u64]) -> f64 {
    let timers = deadlines.len();
    let empty = ALLOCATOR.allocated();
    let without = T::new(0);
    let fixed = if T::CAPTURED > 0 { ALLOCATOR.allocated() - empty } else { 0 };
    drop(without);
    let each = numbered(deadlines, 0);
    let before = ALLOCATOR.allocated();
    let mut subject = T::new(timers);
    subject.insert(each);
    // The list of deadlines was given away and is gone.
    let list = size_of_val(deadlines);
    let grown = ALLOCATOR.allocated() + list - before - fixed;
    grown as f64 / timers as f64 - T::CAPTURED as f64
}

/// Each timer and its deadline, `base` later.
fn numbered(deadlines: &[u64], base: u64) -> impl Iterator<Item = (usize, u64)> + 'static {
    Vec::from(deadlines).into_iter().map(move |deadline| base + deadline).enumerate()
}

fn insert_and_cancel<T: Subject>(name: &str, deadlines: &[u64], order: &[usize]) {
    let timers = deadlines.len();
    let (mut insert, mut cancel) = (Vec::new(), Vec::new());
    let mut subject = T::new(timers);
    for _ in 0..(1_500_000 / timers).clamp(3, 400) {
        let (each, order) = (numbered(deadlines, 0), order.to_vec());
        let start = Instant::now();
        subject.insert(each);
        insert.push(nanos_each(start, timers));
        let start = Instant::now();
        subject.cancel(order.into_iter());
        cancel.push(nanos_each(start, timers));
    }
    report(name, "insert_ns", quantile(&mut insert, 0.5));
    report(name, "cancel_ns", quantile(&mut cancel, 0.5));
}

fn fire<T: Subject>(name: &str, deadlines: &[u64]) {
    let timers = deadlines.len();
    let mut steps = deadlines.to_vec();
    steps.sort_unstable();
    steps.dedup();
    let mut subject = T::new(timers);
    let mut fire = Vec::new();
    for round in 0..(600_000 / timers).clamp(3, 100) {
        let base = round as u64 * 2 * MINUTE_MS;
        subject.turn(base);
        subject.insert(numbered(deadlines, base));
        let start = Instant::now();
        for step in &steps {
            subject.turn(base + step);
        }
        fire.push(nanos_each(start, timers));
        assert_eq!(subject.fired(), timers * (round + 1), "not all have fired");
    }
    let (fire, turn) = (quantile(&mut fire, 0.5), empty_turn::<T>());
    report(name, "fire_ns", fire);
    report(name, "turn_ns", turn);
    report(name, "fire_net_ns", fire - turn * steps.len() as f64 / timers as f64);
}

fn empty_turn<T: Subject>() -> f64 {
    const TURNS: usize = 20_000;
    let mut subject = T::new(1);
    subject.insert([(0, 50 * MINUTE_MS)].into_iter());
    let start = Instant::now();
    for turn in 0..TURNS {
        subject.turn(turn as u64 / 8);
    }
    nanos_each(start, TURNS)
}

fn rearm<T: Subject>(name: &str, timers: usize, rng: &mut Rng) {
    const REARMED: usize = 2_000_000;
    const EACH_MS: usize = 33;
    let mut subject = T::new(timers);
    let deadlines: Vec<u64> = (0..timers).map(|_| REARMED_MS + 1 + rng.below(REARMED_MS)).collect();
    subject.insert(numbered(&deadlines, 0));
    let chosen: Vec<u32> = (0..REARMED).map(|_| rng.below(timers as u64) as u32).collect();
    let chosen: &'static [u32] = chosen.leak();
    let start = Instant::now();
    for (now, chosen) in (1..).zip(chosen.chunks(EACH_MS)) {
        subject.turn(now);
        subject.rearm(chosen.iter().map(|timer| *timer as usize), now + REARMED_MS);
    }
    report(name, "rearm_ns", nanos_each(start, REARMED));
}

fn main() -> Result<(), lexopt::Error> {
    let arguments = arguments(HELP)?;
    let timers = match arguments.first() {
        Some(timers) => timers.parse::<u32>().map_err(|_| "N is not a number")?.max(1) as usize,
        None => 1000,
    };
    pin(0);
    match arguments.get(1).map_or("reactor", String::as_str) {
        "reactor" => measure::<InReactor>("waterwheel", timers),
        "wheel" => measure::<Bare>("waterwheel-wheel", timers),
        other => return Err(format!("neither reactor nor wheel: {other}").into()),
    }
    Ok(())
}
