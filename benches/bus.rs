//! What an event of the bus costs: told at once, or by way of the event queue.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use waterwheel::Reactor;

/// Events of a turn.
const BATCH: u64 = 1000;

struct Heard(u64);
struct Unheard(#[expect(dead_code)] u64);

fn bus(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bus");
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(BATCH));

    for listeners in [1, 10] {
        let mut reactor = Reactor::<u64>::new().unwrap();
        for _ in 0..listeners {
            reactor.subscribe(|_, sum: &mut u64, heard: &Heard| *sum += heard.0);
        }
        let mut sum = 0;
        group.bench_function(format!("emit to {listeners}"), |bench| {
            bench.iter(|| (0..BATCH).for_each(|n| assert!(reactor.emit(&mut sum, &Heard(n)) > 0)));
        });
        group.bench_function(format!("publish to {listeners}, and the turn"), |bench| {
            bench.iter(|| {
                (0..BATCH).for_each(|n| reactor.publish(Heard(n)));
                reactor.turn(&mut sum, Some(Duration::ZERO)).unwrap()
            });
        });
        group.bench_function(format!("publish to nobody, beside {listeners}"), |bench| {
            bench.iter(|| (0..BATCH).for_each(|n| reactor.publish(Unheard(n))));
        });
    }
    group.finish();
}

criterion_group!(benches, bus);
criterion_main!(benches);
