//! Break: a far timer that hides a near one, a laptop that sleeps for 40 days, and a million timers
//! that are armed and cancelled. Each with a wheel that many people write first, with yours, and
//! with waterwheel's.

use waterwheel::timers;

#[path = "wheel.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod wheel;

use wheel::Wheel;

/// Timers of the last part.
const REQUESTS: u64 = 1_000_000;

fn main() {
    println!("at 0 a timer is armed for 70; at 60 another one, for 123. When does the loop wake?");
    println!("level by distance: at {}", by_distance(&[(0, 70), (60, 123)]));
    let (mut yours, mut theirs) = (Wheel::new(), timers::Wheel::new());
    yours.arm(70, ());
    yours.expire(60);
    yours.arm(123, ());
    theirs.insert(70, ());
    theirs.expire(60);
    theirs.insert(123, ());
    println!("your wheel:        at {}", yours.next_wake().unwrap_or(0));
    println!("waterwheel:        at {}", theirs.next_deadline().unwrap_or(0));

    let forty_days = 40 * 24 * 60 * 60 * 1000;
    println!(
        "\nthe laptop sleeps for 40 days, and one timer is armed. How many slots are looked at?"
    );
    println!("a hand that walks: {forty_days}");
    let mut yours = Wheel::new();
    yours.arm(forty_days, ());
    yours.slots.allow(1_000_000);
    let looks = yours.slots.looks();
    // A hand that walks is stopped after a million looks, and its panic is not shown.
    std::panic::set_hook(Box::new(|_| {}));
    let jump = std::panic::AssertUnwindSafe(|| yours.expire(forty_days).len());
    match std::panic::catch_unwind(jump) {
        Ok(_) => println!("your wheel:        {}", yours.slots.looks() - looks),
        Err(_) => println!("your wheel:        more than a million; it was stopped"),
    }
    let _ = std::panic::take_hook();

    println!("\na million timers are armed and cancelled. How much memory is kept, in KiB?");
    let mut theirs = timers::Wheel::new();
    let their_kept = grown(|| {
        let ids: Vec<_> = (0..REQUESTS).map(|n| theirs.insert(30_000 + n, ())).collect();
        ids.into_iter().filter_map(|id| theirs.cancel(id)).count()
    });
    let mut yours = Wheel::new();
    let kept = grown(|| {
        let ids: Vec<_> = (0..REQUESTS).map(|n| yours.arm(30_000 + n, ())).collect();
        ids.into_iter().filter_map(|id| yours.cancel(id)).count()
    });
    println!("your wheel:        {kept}");
    println!("waterwheel:        {their_kept}");
}

/// When a loop wakes whose timers stand on level 0 if they are less than 64 ticks ahead. Each is
/// the hand at its arming, and its deadline. The lowest level with a timer is taken for the first.
fn by_distance(timers: &[(u64, u64)]) -> u64 {
    let level = |(hand, deadline): (u64, u64)| (deadline - hand).ilog(64);
    let first = timers.iter().copied().min_by_key(|timer| (level(*timer), timer.1));
    first.map_or(0, |timer| timer.1)
}

/// By how much this process has grown after the work, in KiB; 0 where the system does not say.
fn grown(work: impl FnOnce() -> usize) -> u64 {
    let before = kit::memory_kib().unwrap_or(0);
    work();
    kit::memory_kib().unwrap_or(0).saturating_sub(before)
}
