//! The timer wheel alone: nanoseconds for one timer among 10³, 10⁵ and 10⁶ of them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use waterwheel::timers::{TimerId, Wheel};

/// Ticks over which the deadlines are spread.
const SPREAD: u64 = 60_000;

/// A number below `n` for each `number`: spread evenly, and in no order.
fn scattered(number: u64, n: u64) -> u64 {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % n
}

fn deadline(timer: u64) -> u64 {
    1 + scattered(timer, SPREAD)
}

fn full(timers: u64) -> (Wheel<u32>, Vec<TimerId>) {
    let mut wheel = Wheel::with_capacity(timers as usize);
    let ids = (0..timers).map(|timer| wheel.insert(deadline(timer), timer as u32)).collect();
    (wheel, ids)
}

/// One timer's share of what `run` takes, with a full wheel each time.
fn share(rounds: u64, timers: u64, run: impl Fn(&mut Wheel<u32>, &[TimerId])) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..rounds.div_ceil(timers) {
        let (mut wheel, ids) = full(timers);
        let start = Instant::now();
        run(&mut wheel, &ids);
        spent += start.elapsed();
    }
    spent.mul_f64(rounds as f64 / (rounds.div_ceil(timers) * timers) as f64)
}

fn wheel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel");
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(800));
    for timers in [1_000, 100_000, 1_000_000] {
        group.bench_function(BenchmarkId::new("insert and cancel", timers), |bench| {
            let (mut wheel, _) = full(timers);
            let mut timer = 0;
            bench.iter(|| {
                timer += 1;
                let id = wheel.insert(deadline(timer), 0);
                wheel.cancel(id)
            });
        });
        group.bench_function(BenchmarkId::new("re-arm", timers), |bench| {
            let (mut wheel, ids) = full(timers);
            let mut timer = 0;
            bench.iter(|| {
                timer += 1;
                wheel.rearm(ids[scattered(timer, timers) as usize], SPREAD + timer / 64)
            });
        });
        group.bench_function(BenchmarkId::new("cancel all", timers), |bench| {
            bench.iter_custom(|rounds| {
                share(rounds, timers, |wheel, ids| {
                    for id in ids {
                        black_box(wheel.cancel(*id));
                    }
                })
            });
        });
        group.bench_function(BenchmarkId::new("expire all", timers), |bench| {
            bench.iter_custom(|rounds| {
                share(rounds, timers, |wheel, _| {
                    while let Some(next) = wheel.next_deadline() {
                        while let Some(id) = wheel.expire(next) {
                            black_box(wheel.cancel(id));
                        }
                    }
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, wheel);
criterion_main!(benches);
