//! Callbacks that come from another thread, and those that callbacks defer; in nanoseconds.
//!
//! The loop stays on core 0 and the poster on core 1. What is posted captures nothing unless the
//! metric says so, or carries the time at which it was posted, by
//! the processor's counter, which the two cores share and which takes less time to read than the system's.

use std::hint::{black_box, spin_loop};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use quanta::Instant;
use support::{arguments, nanos_each, pin, quantile, report};
use waterwheel::reactor::{Context, Remote};
use waterwheel::{Reactor, reactor};

mod support;

const HELP: &str = "\
bench-post [spin]     with spin the loop looks for posts for 50 µs before it sleeps

  wake_p50_ns, wake_p99_ns      posted to a loop that sleeps since a millisecond: until it runs
  hot_p50_ns                    posted as soon as the last one has run
  flood_ns, flood_post_ns       3 million without waiting: until the last has run, to post one
  flood_payload_ns              flood_ns where each carries 8 bytes
  chain_ns                      each callback defers the next, with 8 bytes
  batch_ns                      1000 deferred at once, with 8 bytes each, then a turn
  chain_bare_ns, batch_bare_ns  the same without the 8 bytes
";

const FLOOD: u64 = 3_000_000;
const DEFERRED: u64 = 3_000_000;
const BATCH: u64 = 1000;
const SPIN: Duration = Duration::from_micros(50);

/// Posts that have run.
static RAN: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds that the last one was under way.
static WAY: AtomicU64 = AtomicU64::new(0);

fn until_ran(posts: u64) {
    while RAN.load(Ordering::Acquire) < posts {
        spin_loop();
    }
}

/// Posts one after the other, `gap` apart, and answers how long each was under way.
fn one_by_one(remote: &Remote<()>, posts: u64, gap: Duration) -> Vec<f64> {
    let one = |_| {
        let ran = RAN.load(Ordering::Acquire);
        if !gap.is_zero() {
            thread::park_timeout(gap);
        }
        let posted = Instant::now();
        let post = remote.post(move |_, _| {
            WAY.store(posted.elapsed().as_nanos() as u64, Ordering::Relaxed);
            RAN.fetch_add(1, Ordering::Release);
        });
        post.unwrap();
        until_ran(ran + 1);
        WAY.load(Ordering::Relaxed) as f64
    };
    (0..posts).map(one).collect()
}

/// Calls `post` without waiting: nanoseconds for each to run, and to be posted.
fn flood(post: impl Fn(u64)) -> (f64, f64) {
    let mut last = (0.0, 0.0);
    for _ in 0..4 {
        let ran = RAN.load(Ordering::Acquire);
        let start = Instant::now();
        (0..FLOOD).for_each(&post);
        let posted = nanos_each(start, FLOOD as usize);
        until_ran(ran + FLOOD);
        last = (nanos_each(start, FLOOD as usize), posted);
    }
    last
}

/// Only the loop's thread counts, so this need not be one operation.
fn count() {
    RAN.store(RAN.load(Ordering::Relaxed) + 1, Ordering::Release);
}

fn poster(name: &str, remote: &Remote<()>) {
    pin(1);
    one_by_one(remote, 2000, Duration::ZERO);
    let mut asleep = one_by_one(remote, 1000, Duration::from_millis(1));
    report(name, "wake_p50_ns", quantile(&mut asleep, 0.5));
    report(name, "wake_p99_ns", quantile(&mut asleep, 0.99));
    let mut hot = one_by_one(remote, 50_000, Duration::ZERO);
    report(name, "hot_p50_ns", quantile(&mut hot, 0.5));
    let (each, post) = flood(|_| remote.post(|_, _| count()).unwrap());
    report(name, "flood_ns", each);
    report(name, "flood_post_ns", post);
    let carry = |number: u64| {
        let post = remote.post(move |_, _| {
            black_box(number);
            count();
        });
        post.unwrap();
    };
    report(name, "flood_payload_ns", flood(carry).0);
}

type Chain = fn(&mut Context<u64>, &mut u64);

fn chain(reactor: &mut Context<u64>, left: &mut u64) {
    *left -= 1;
    if *left > 0 {
        let number = *left;
        reactor.defer(move |reactor, left| {
            black_box(number);
            chain(reactor, left);
        });
    }
}

fn chain_bare(reactor: &mut Context<u64>, left: &mut u64) {
    *left -= 1;
    if *left > 0 {
        reactor.defer(chain_bare);
    }
}

fn deferred(name: &str) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let chains: [(&str, Chain); 2] = [("chain_ns", chain), ("chain_bare_ns", chain_bare)];
    for (metric, first) in chains {
        let each = second(|| {
            let mut left = DEFERRED;
            reactor.defer(first);
            reactor.run(&mut left)
        })?;
        report(name, metric, each);
    }
    let batch = second(|| {
        in_batches(&mut reactor, |reactor, number| reactor.defer(move |_, sum| *sum += number))
    })?;
    report(name, "batch_ns", batch);
    let bare = second(|| in_batches(&mut reactor, |reactor, _| reactor.defer(|_, sum| *sum += 1)))?;
    report(name, "batch_bare_ns", bare);
    Ok(())
}

fn in_batches(
    reactor: &mut Reactor<u64>,
    defer: impl Fn(&mut Reactor<u64>, u64),
) -> io::Result<()> {
    let mut sum = 0;
    for _ in 0..DEFERRED / BATCH {
        (0..BATCH).for_each(|number| defer(reactor, number));
        reactor.turn(&mut sum, Some(Duration::ZERO))?;
    }
    black_box(sum);
    Ok(())
}

/// Does it twice and takes the time of the second, for each of [`DEFERRED`].
fn second(mut run: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    run()?;
    let start = Instant::now();
    run()?;
    Ok(nanos_each(start, DEFERRED as usize))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (name, spin) = match arguments(HELP)?.first().map(String::as_str) {
        None => ("waterwheel", Duration::ZERO),
        Some("spin") => ("waterwheel-spin", SPIN),
        Some(other) => return Err(format!("not an option: {other}").into()),
    };
    pin(0);
    let mut reactor = reactor::Reactor::builder().spin(spin).build()?;
    let remote = reactor.remote();
    let thread = thread::spawn(move || poster(name, &remote));
    reactor.run(&mut ())?;
    thread.join().map_err(|_| "the poster panicked")?;
    deferred(name)?;
    Ok(())
}
