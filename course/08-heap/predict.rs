//! Predict: two timers, and one of them is cancelled. How often does the loop wake up?

use std::time::Duration;

use kit::{Kernel, Script};

#[path = "solution.rs"]
#[allow(dead_code)]
#[rustfmt::skip]
mod heap;

fn main() -> std::io::Result<()> {
    let (mut kernel, mut timers) = (Script::default(), heap::Timers::new());
    let tea = timers.arm(180_000, "the tea is ready");
    timers.arm(300_000, "the egg is ready");
    timers.cancel(tea);
    let mut waits = 0;
    while let Some(deadline) = timers.next_deadline() {
        // Sleeps until the deadline: no client is connected, so nothing else can wake it.
        let until = Duration::from_millis(deadline);
        kernel.poll(Some(until - kernel.now), &mut Vec::new())?;
        waits += 1;
        for what in timers.expire(heap::tick(kernel.now)) {
            println!("after {:?}: {what}", kernel.now);
        }
    }
    println!("answer: {}", ["a", "b", "c"].get(waits).unwrap_or(&"d"));
    Ok(())
}
