//! What a link of a chain of promises costs: made, settled, its callback run, and dropped.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use waterwheel::Reactor;
use waterwheel::patterns::Promise;
use waterwheel::reactor::Context;

/// Links of a chain; below the turn's budget of deferred callbacks.
const LINKS: u64 = 1000;

type Count = Promise<u64, u64, String>;

fn lengthen(reactor: &mut Context<u64>, mut promise: Count) -> Count {
    for _ in 0..LINKS {
        promise = promise.then(reactor, |_, _, count| Ok(count + 1));
    }
    promise
}

fn promise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("promise");
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(2));
    let mut reactor = Reactor::<u64>::new().unwrap();
    let turn = |reactor: &mut Reactor<u64>| reactor.turn(&mut 0, Some(Duration::ZERO)).unwrap();

    group.bench_function("made, resolved and told", |bench| {
        bench.iter(|| {
            let (promise, resolver) = reactor.promise::<u64, String>();
            promise.then(&mut reactor, |_, sum, value| *sum += value);
            resolver.resolve(&mut reactor, 1);
            turn(&mut reactor)
        });
    });

    group.throughput(Throughput::Elements(LINKS));
    group.bench_function("a chain, link by link", |bench| {
        // One link after the other, as a protocol makes them: the memory of the last is warm.
        fn next(reactor: &mut Context<u64>) {
            let (promise, resolver) = reactor.promise::<u64, String>();
            promise.then(reactor, |reactor, left, one| {
                *left -= one;
                if *left > 0 {
                    next(reactor);
                }
            });
            resolver.resolve(reactor, 1);
        }
        bench.iter(|| {
            let mut left = LINKS;
            next(&mut reactor);
            reactor.turn(&mut left, Some(Duration::ZERO)).unwrap()
        });
    });
    group.bench_function("a chain, made and then run", |bench| {
        bench.iter(|| {
            let (promise, resolver) = reactor.promise();
            lengthen(&mut reactor, promise);
            resolver.resolve(&mut reactor, 0);
            turn(&mut reactor)
        });
    });
    group.bench_function("a chain, made and cancelled", |bench| {
        bench.iter(|| {
            let (promise, resolver) = reactor.promise();
            lengthen(&mut reactor, promise).cancel(&mut reactor);
            resolver
        });
    });
    group.finish();
}

criterion_group!(benches, promise);
criterion_main!(benches);
