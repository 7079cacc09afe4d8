//! Seven sentences about `heap.rs`. The model is a sorted map, and the time is the check's own.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use kit::{expect, same, seeds, within};

#[path = "heap.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod heap;

use heap::{Id, Timers, deadline, tick};

/// Deadline and number of the arming: they sort as timers have to expire.
type Model = BTreeMap<(u64, u64), Id>;

/// The numbers of the timers that the model has up to now.
fn due(model: &mut Model, now: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(entry) = model.first_entry()
        && entry.key().0 <= now
    {
        numbers.push(entry.remove_entry().0.1);
    }
    numbers
}

#[test]
fn a_deadline_rounds_up_and_now_rounds_down() {
    seeds(200, |seed| {
        for _ in 0..100 {
            let mut time = || {
                let nanos = seed.pick(&[0, 1, 499_999, 500_000, 999_999]);
                Duration::new(seed.below(1000), (seed.below(1000) * 1_000_000 + nanos) as u32)
            };
            let (now, delay) = (time(), time());
            let (begun, due) =
                (Duration::from_millis(tick(now)), Duration::from_millis(deadline(now, delay)));
            let ms = Duration::from_millis(1);
            let what = format!("tick({now:?}) is the last tick that has begun, not {begun:?}.");
            expect(begun <= now && now < begun + ms, &what);
            let what = format!("{delay:?} after {now:?} is not {due:?}: a timer is never early.");
            expect(now + delay <= due, &what);
            let what = format!("{delay:?} after {now:?} is not {due:?}: it is a whole tick late.");
            expect(due < now + delay + ms, &what);
        }
    });
}

#[test]
fn an_endless_delay_never_comes() {
    let never = deadline(Duration::from_secs(5), Duration::MAX);
    same(never, u64::MAX, "Duration::MAX from now is the last tick of all.");
    same(tick(Duration::MAX), u64::MAX, "So is Duration::MAX itself.");
    let mut timers = Timers::new();
    timers.arm(never, "never");
    timers.arm(u64::MAX - 1, "nearly never");
    same(timers.next_deadline(), Some(u64::MAX - 1), "The earlier one is next.");
    same(timers.expire(u64::MAX - 2).len(), 0, "Neither is early.");
    same(timers.expire(u64::MAX - 1), ["nearly never"], "The earlier one expires on its tick.");
    same(timers.next_deadline(), Some(u64::MAX), "The other one is still armed.");
}

#[test]
fn timers_of_one_deadline_come_in_the_order_of_arming() {
    let mut timers = Timers::new();
    for number in 0..100 {
        timers.arm(number % 3 + 7, number);
    }
    let mut expected: Vec<u64> = (0..100).collect();
    expected.sort_by_key(|number| number % 3);
    same(timers.expire(9), expected, "First the deadline counts, then the order of arming.");
}

#[test]
fn a_cancelled_timer_wakes_nobody() {
    let mut timers = Timers::new();
    let first = timers.arm(10, "first");
    let second = timers.arm(20, "second");
    same(timers.cancel(first), Some("first"), "cancel gives the value.");
    same(timers.cancel(first), None, "It was cancelled before.");
    same(timers.next_deadline(), Some(20), "The cancelled timer's deadline does not count.");
    same(timers.expire(15).len(), 0, "Nothing is due.");
    same(timers.expire(20), ["second"], "The other one is on time.");
    same(timers.cancel(second), None, "It has expired.");
    same(timers.next_deadline(), None, "No timer is armed.");
}

#[test]
fn ten_thousand_seconds_go_by_and_each_timer_is_on_time() {
    seeds(20, |seed| {
        let (mut ours, mut model, mut ids) = (Timers::new(), Model::new(), Vec::new());
        let (mut now, mut armed) = (Duration::ZERO, 0);
        while now < Duration::from_secs(10_000) {
            for _ in 0..seed.below(4) {
                let most = seed.pick(&[1, 5_000, 90_000_000]);
                let delay = Duration::from_micros(seed.below(most));
                let due = deadline(now, delay);
                let id = ours.arm(due, armed);
                model.insert((due, armed), id);
                ids.push(((due, armed), id));
                armed += 1;
            }
            if seed.once_in(2) && !ids.is_empty() {
                let (key, id) = ids.swap_remove(seed.below(ids.len() as u64) as usize);
                let expected = model.remove(&key).map(|_| key.1);
                same(ours.cancel(id), expected, &format!("At {now:?}: cancel({id:?})."));
            }
            let next = model.first_key_value().map(|(key, _)| key.0);
            let what = format!("At {now:?}: the earliest deadline of those that are armed.");
            same(ours.next_deadline(), next, &what);
            // The loop sleeps until then. Or the kernel has an event before. Or it is late: the
            // system was busy, or a callback took seconds.
            let until = next.map_or(now, |next| Duration::from_millis(next).max(now));
            now = match seed.below(3) {
                0 => now + (until - now) / 2,
                1 => until,
                _ => {
                    let most = seed.pick(&[20_000, 20_000_000]);
                    until + Duration::from_micros(seed.below(most))
                }
            };
            let what = format!("At {now:?}: those whose deadline has come, in order.");
            same(ours.expire(tick(now)), due(&mut model, tick(now)), &what);
            same(ours.len(), model.len(), &format!("At {now:?}: len counts the armed timers."));
        }
    });
}

#[test]
fn a_cancelled_timer_gives_its_memory_back() {
    let (mut timers, value) = (Timers::new(), Rc::new(()));
    for number in 0..100_000u64 {
        let id = timers.arm(1_000_000 + number, value.clone());
        if number % 100 > 0 {
            timers.cancel(id);
        }
        let (held, len) = (timers.held(), timers.len());
        let what = format!("Armed are {len} timers, and {held} entries are in memory.");
        expect(held >= len && held <= 2 * len + 64, &what);
    }
    same(timers.len(), 1000, "One of a hundred is still armed.");
    same(Rc::strong_count(&value), 1001, "The values of cancelled timers are not kept.");
    same(timers.expire(u64::MAX).len(), 1000, "All of the armed timers expire.");
    same(timers.held(), 0, "Nothing is kept of them.");
}

#[test]
fn two_hundred_thousand_timers_are_no_trouble() {
    // A list that is searched from its beginning needs minutes for this, and a heap no second.
    let sentence = "200,000 timers, one expires at a time, and each second one is cancelled before";
    let count = within(30, sentence, || {
        let (mut timers, mut count) = (Timers::new(), 0);
        let ids: Vec<Id> = (0..200_000u64).map(|n| timers.arm(n * 7919 % 200_003, n)).collect();
        ids.iter().step_by(2).for_each(|id| count += usize::from(timers.cancel(*id).is_some()));
        while let Some(next) = timers.next_deadline() {
            count += timers.expire(next).len();
        }
        count
    });
    same(count, 200_000, "Each was cancelled or has expired.");
}
