//! The loop's own work: what a callback costs that is enqueued, deferred, or called for a source.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use waterwheel::Reactor;
use waterwheel::reactor::{Context, Interest, Priority, Readiness, Script, VirtualSource};

const BATCH: u64 = 1000;

fn chain(reactor: &mut Context<u64>, left: &mut u64) {
    if *left > 0 {
        *left -= 1;
        reactor.defer(chain);
    }
}

fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(2));
    let mut reactor = Reactor::<u64>::new().unwrap();
    let turn = |reactor: &mut Reactor<u64>, state: &mut u64| {
        reactor.turn(state, Some(Duration::ZERO)).unwrap()
    };

    group.bench_function("empty turn", |bench| bench.iter(|| turn(&mut reactor, &mut 0)));
    group.bench_function("enqueue and turn", |bench| {
        bench.iter(|| {
            reactor.enqueue(Priority::Normal, |_, count| *count += 1);
            turn(&mut reactor, &mut 0)
        });
    });
    group.bench_function("resume a source and turn", |bench| {
        let script = Script::new();
        let mut reactor = Reactor::builder().script(&script).build().unwrap();
        let count = |_: &mut Context<u64>, count: &mut u64, _, _| *count += 1;
        let id = reactor.register(VirtualSource, Interest::READABLE, count).unwrap();
        bench.iter(|| {
            reactor.resume(id, Readiness::READABLE);
            turn(&mut reactor, &mut 0)
        });
    });

    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("a chain of deferred", |bench| {
        bench.iter(|| {
            reactor.defer(chain);
            turn(&mut reactor, &mut BATCH.clone())
        });
    });
    group.bench_function("a batch of deferred", |bench| {
        bench.iter(|| {
            (0..BATCH).for_each(|number| reactor.defer(move |_, sum| *sum += number));
            turn(&mut reactor, &mut 0)
        });
    });
    group.finish();
}

criterion_group!(benches, queue);
criterion_main!(benches);
