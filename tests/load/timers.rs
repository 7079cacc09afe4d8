//! A hundred thousand timers and a million: a jump of the clock costs what is due, no turn is long, and
//! what was cancelled leaves no memory behind.

use std::time::{Duration, Instant};

use support::wheel::DAY;
use support::{MS, Rng, ceiling};
use waterwheel::Reactor;
use waterwheel::timers::{ManualClock, Wheel};

/// The shortest of five jumps from 0 to `to` over 100,000 timers between `first` and `last`.
/// Fewer than `due` or out of order is a failure.
fn jump(to: u64, first: u64, last: u64, due: usize) -> Duration {
    let step = (last - first) / 100_000;
    let jump = |_| {
        let mut wheel = Wheel::new();
        for n in (0..100_000).rev() {
            wheel.insert(first + n * step, n);
        }
        let mut expired = Vec::with_capacity(100_000);
        let began = Instant::now();
        while let Some(id) = wheel.expire(to) {
            expired.push(id);
        }
        let took = began.elapsed();
        assert!(expired.iter().map(|id| wheel.get(*id).unwrap()).copied().eq(0..due as u64));
        took
    };
    (0..5).map(jump).min().unwrap()
}

#[test]
fn a_jump_of_forty_days_costs_what_is_due_and_not_the_way() {
    let hour = jump(DAY / 24, 0, DAY / 24, 100_000);
    let all = jump(40 * DAY, 0, 40 * DAY, 100_000);
    let few = jump(40 * DAY, 0, 4000 * DAY, 1001);
    let none = jump(40 * DAY, 60 * DAY, 600 * DAY, 0);
    println!("all in an hour {hour:?}, all {all:?}, a hundredth {few:?}, none {none:?}");
    assert!(all < 5 * hour, "a tick that holds nothing must cost nothing");
    assert!(few < all / 10 && none < all / 100);
}

/// Arms a million timers, cancels 99 of 100, runs the rest. Answers the longest turn, and the one
/// that empties the wheel and hands 60 MB, some 14,000 pages, back to the kernel.
fn turns_of_a_million(rng: &mut Rng) -> (Duration, Duration) {
    let mut reactor: Reactor<u32> = Reactor::builder().clock(&ManualClock::new()).build().unwrap();
    let cancelled = allocation_counter::measure(|| {
        let arm = |_| {
            let captured = [rng.next(); 8];
            let delay = Duration::from_millis(captured[0] >> 42);
            reactor.after(delay, move |_, fired| *fired += u32::from(captured.len() == 8))
        };
        let ids: Vec<_> = (0..1_000_000).map(arm).collect();
        let left = ids.iter().enumerate().filter(|(at, _)| at % 100 != 7);
        left.for_each(|(_, id)| assert!(reactor.cancel(*id)));
    });
    assert!(cancelled.bytes_max > 100_000_000);
    // The table, the stack of its free places, and what is left: the closures of the cancelled are
    // gone.
    assert!(cancelled.bytes_current < (1 << 20) * (56 + 4) + 10_000 * 100, "{cancelled:?}");
    let (mut fired, mut longest, mut last) = (0, Duration::ZERO, Duration::ZERO);
    let run = allocation_counter::measure(|| {
        while reactor.is_alive() {
            longest = longest.max(last);
            let began = Instant::now();
            reactor.turn(&mut fired, None).unwrap();
            last = began.elapsed();
        }
    });
    assert_eq!(fired, 10_000);
    assert!(cancelled.bytes_current + run.bytes_current < 100_000, "{run:?}");
    (longest, last)
}

#[test]
fn a_million_timers_mostly_cancelled_make_no_long_turn_and_leave_no_memory() {
    let _ceiling = ceiling(Duration::from_secs(120));
    let mut rng = Rng::new();
    let limit = if cfg!(debug_assertions) { 100 * MS } else { 10 * MS };
    // The machine may be busy with something else for longer than a turn may take: one quiet run
    // of ten is enough.
    assert!((0..10).any(|_| {
        let (longest, last) = turns_of_a_million(&mut rng);
        longest < limit && last < 4 * limit
    }));
}
