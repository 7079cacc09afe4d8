//! Break: a timeout for each of 200,000 requests, and 99 of 100 are answered in time. How much is
//! kept? Then something is to happen ten times a second. When does the last one of an hour happen?

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use waterwheel::timers::Wheel;

#[path = "heap.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod heap;

use heap::Timers;

const REQUESTS: u64 = 200_000;
/// The period of the second part, and how long its callback takes.
const PERIOD: Duration = Duration::from_millis(100);
const WORK: Duration = Duration::from_millis(3);

fn main() {
    // A heap that only marks what was cancelled.
    let (mut marks, mut values) = (BinaryHeap::new(), HashMap::new());
    for number in 0..REQUESTS {
        marks.push(Reverse((30_000 + number, number)));
        values.insert(number, ());
        if number % 100 > 0 {
            values.remove(&number);
        }
    }
    println!("marked only:  {} armed, {} entries in memory", values.len(), marks.len());
    let mut timers = Timers::new();
    for number in 0..REQUESTS {
        let id = timers.arm(30_000 + number, ());
        if number % 100 > 0 {
            timers.cancel(id);
        }
    }
    println!("your heap:    {} armed, {} entries in memory", timers.len(), timers.held());
    let mut wheel = Wheel::new();
    for number in 0..REQUESTS {
        let id = wheel.insert(30_000 + number, ());
        if number % 100 > 0 {
            wheel.cancel(id);
        }
    }
    println!("waterwheel:   {} armed; a cancelled timer is gone at once", wheel.len());

    println!();
    periods("armed a period after now:         ", |_, now| heap::deadline(now, PERIOD));
    periods("armed a period after the deadline:", |last, _| last + heap::tick(PERIOD));
}

/// Runs an hour, each time with a new deadline from the last one and the time now.
fn periods(name: &str, next: impl Fn(u64, Duration) -> u64) {
    let (mut timers, mut now, mut runs) = (Timers::new(), Duration::ZERO, 0);
    timers.arm(heap::tick(PERIOD), ());
    while runs < 36_000 {
        let Some(deadline) = timers.next_deadline() else { break };
        now = now.max(Duration::from_millis(deadline)); // It sleeps.
        for () in timers.expire(heap::tick(now)) {
            runs += 1;
            now += WORK; // The callback runs, and then asks for the next time.
            timers.arm(next(deadline, now), ());
        }
    }
    println!("{name} the last of {runs} runs begins after {} s", (now - WORK).as_secs());
}
