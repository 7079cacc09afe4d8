//! Eight sentences about `wheel.rs`. The model is the heap of chapter 8; each look at a slot counts.

use kit::{expect, refuse, same, seeds, within};

#[cfg_attr(kept = "08", path = "../08-heap/heap.rs")]
#[cfg_attr(not(kept = "08"), path = "../08-heap/solution.rs")]
#[allow(clippy::all, dead_code)]
mod heap;
#[path = "wheel.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod wheel;

use heap::Timers;
use wheel::{LEVELS, SLOTS, Wheel, place};

/// Looks at one slot: one that writes `slots[…]` three times for it does no wrong.
const LOOKS_MAX: u64 = 3;

/// The digits of a number in base 64, the last one first.
fn digits(number: u64) -> Vec<u64> {
    (0..LEVELS as u32).map(|level| number / 64u64.pow(level.min(10)) % 64).collect()
}

/// Fails unless exactly those bits are 1 whose slots have ids, and the ids are as many as the timers.
fn is_whole<T>(wheel: &Wheel<T>, when: &str) {
    let mut count = 0;
    for list in 0..LEVELS * SLOTS {
        let (level, slot, ids) = (list / SLOTS, list % SLOTS, wheel.slots[list].len());
        let bit = wheel.occupied[level] >> slot & 1;
        let what =
            format!("{when}: level {level}, slot {slot} has {ids} ids, and its bit is {bit}.");
        expect((bit == 1) == (ids > 0), &what);
        count += ids;
    }
    same(count, wheel.len(), &format!("{when}: each timer that is armed is in one slot."));
}

#[test]
fn the_place_is_the_highest_digit_that_differs() {
    same(place(70, 127), (0, 63), "The hand is at 70 = 1·64 + 6; 127 = 1·64 + 63.");
    same(place(70, 130), (1, 2), "The hand is at 70 = 1·64 + 6; 130 = 2·64 + 2.");
    same(place(70, 70), (0, 6), "A deadline at the hand has the hand's slot of level 0.");
    same(place(70, 5), (0, 6), "A deadline that has passed has the place of the hand.");
    same(place(0, u64::MAX), (10, 15), "The highest digit has only four bits.");
    seeds(200, |seed| {
        for _ in 0..100 {
            let shift = seed.below(64);
            let hand = seed.number() >> shift;
            let deadline = hand.saturating_add(seed.number() >> shift >> seed.below(8));
            let (ours, theirs) = (digits(hand), digits(deadline));
            let level = (0..LEVELS).rev().find(|level| ours[*level] != theirs[*level]).unwrap_or(0);
            let expected = (level, theirs[level] as usize);
            same(place(hand, deadline), expected, &format!("place({hand}, {deadline})."));
        }
    });
}

#[test]
fn arm_and_cancel_look_at_one_slot_and_set_its_bit() {
    let (mut ours, mut ids) = (Wheel::new(), Vec::new());
    for number in 0..1000u64 {
        let before = ours.slots.looks();
        ids.push(ours.arm(number * number, number));
        let looks = ours.slots.looks() - before;
        let what = format!("An arm has looked {looks} times; one slot needs {LOOKS_MAX} at most.");
        expect(looks <= LOOKS_MAX, &what);
    }
    is_whole(&ours, "After 1000 arms");
    for (number, id) in ids.iter().enumerate().filter(|(number, _)| number % 3 > 0) {
        let before = ours.slots.looks();
        same(ours.cancel(*id), Some(number as u64), "cancel gives the value.");
        let looks = ours.slots.looks() - before;
        let what =
            format!("A cancel has looked {looks} times; one slot needs {LOOKS_MAX} at most.");
        expect(looks <= LOOKS_MAX, &what);
    }
    same(ours.cancel(ids[1]), None, "It was cancelled before.");
    is_whole(&ours, "After 666 cancels");
    for number in (0..1000).step_by(3) {
        same(ours.cancel(ids[number]), Some(number as u64), "cancel gives the value.");
    }
    is_whole(&ours, "When all are cancelled");
}

#[test]
fn the_next_wake_is_the_start_of_the_first_slot() {
    let mut ours = Wheel::new();
    same(ours.next_wake(), None, "No timer is armed.");
    let far = ours.arm(5000, 'a');
    let near = ours.arm(100, 'b');
    ours.slots.allow(0);
    same(ours.next_wake(), Some(64), "100 is in slot 1 of level 1, which begins at 64.");
    ours.slots.allow(LOOKS_MAX);
    ours.cancel(near);
    ours.slots.allow(0);
    same(ours.next_wake(), Some(4096), "5000 is in slot 1 of level 2, which begins at 4096.");
    ours.slots.allow(2 * LOOKS_MAX);
    ours.cancel(far);
    ours.arm(7, 'c');
    ours.slots.allow(0);
    same(ours.next_wake(), Some(7), "7 is in slot 7 of level 0.");
}

#[test]
fn a_slot_that_the_hand_reaches_cascades() {
    let mut ours = Wheel::new();
    ours.slots.allow(10_000);
    for deadline in [70, 64, 127, 128] {
        ours.arm(deadline, deadline);
    }
    same(ours.next_wake(), Some(64), "Slot 1 of level 1 begins at 64.");
    same(ours.expire(64), [64], "At 64 the slot is reached, and one of its timers is due.");
    is_whole(&ours, "At 64");
    same(ours.occupied[0], 1 << 6 | 1 << 63, "70 and 127 have come down to slots 6 and 63.");
    same(ours.occupied[1], 1 << 2, "128 still stands in slot 2 of level 1.");
    same(ours.expire(127), [70, 127], "Two more are due.");
    same(ours.expire(127).len(), 0, "Each expires once.");
    ours.arm(3, 3);
    same(ours.next_wake(), Some(127), "A deadline that has passed is due at once.");
    same(ours.expire(127), [3], "So it expires now.");
    same(ours.expire(200), [128], "The last one expires in a jump.");
}

#[test]
fn a_far_timer_does_not_hide_a_near_one() {
    let mut ours = Wheel::new();
    ours.slots.allow(10_000);
    ours.arm(70, "near");
    ours.expire(60);
    ours.arm(60 + 63, "far"); // 63 ticks ahead, and yet not on level 0.
    let wake = ours.next_wake();
    let what = format!("The hand is at 60, and a deadline is 70; the next wake is {wake:?}.");
    expect(wake.is_some_and(|wake| wake > 60 && wake <= 70), &what);
    same(ours.expire(70), ["near"], "The near one is on time.");
    same(ours.expire(123), ["far"], "So is the far one.");
}

#[test]
fn empty_slots_are_not_looked_at() {
    within(30, "A jump of 40 days, and then one to the end of time.", || {
        let mut ours = Wheel::new();
        ours.slots.allow(100);
        same(ours.expire(100_000).len(), 0, "No timer is armed, and the hand jumps to 100,000.");
        let soon = ours.arm(100_005, 0);
        same(
            ours.next_wake(),
            Some(100_005),
            "A timer five ticks ahead of the hand is on level 0.",
        );
        ours.cancel(soon);
        let mut ours = Wheel::new();
        let forty_days = 40 * 24 * 60 * 60 * 1000;
        for deadline in [forty_days, 1_000_000, 90_000, u64::MAX] {
            ours.arm(deadline, deadline);
        }
        // Each timer comes down ten levels at most, and each step is in two slots.
        ours.slots.allow(4 * 2 * LOOKS_MAX * LEVELS as u64);
        same(ours.expire(forty_days - 1), [90_000, 1_000_000], "Just before the 40 days.");
        let wake = ours.next_wake();
        let what = format!("The hand has jumped; it is too early to wake at {wake:?}.");
        expect(wake == Some(forty_days), &what);
        same(ours.expire(forty_days), [forty_days], "After 40 days.");
        ours.arm(0, 0);
        same(ours.expire(u64::MAX - 1), [0], "The end of time is not reached.");
        same(ours.expire(u64::MAX), [u64::MAX], "It is reached.");
        same((ours.next_wake(), ours.len()), (None, 0), "Nothing is left.");
    });
}

#[test]
fn a_timer_moves_at_most_once_for_each_level() {
    let mut ours = Wheel::new();
    let mut wakes = 0;
    for number in 0..1000u64 {
        ours.arm(number * number * number, number);
    }
    ours.slots.allow(1000 * 2 * LOOKS_MAX * LEVELS as u64);
    while let Some(wake) = ours.next_wake() {
        ours.expire(wake);
        wakes += 1;
        if wakes > 1000 * LEVELS {
            refuse("The loop wakes, and nothing expires and nothing comes down.");
        }
    }
    same(ours.len(), 0, "All have expired.");
}

#[test]
fn the_wheel_does_what_the_heap_does() {
    seeds(200, |seed| {
        let (mut ours, mut model) = (Wheel::new(), Timers::new());
        let (mut ids, mut now, mut number) = (Vec::new(), 0u64, 0);
        ours.slots.allow(1_000_000);
        for act in 0..2500 {
            match seed.below(8) {
                0..=3 => {
                    let most = seed.pick(&[2, 64, 5000, 1 << 20, 1 << 40]);
                    let deadline = (now + seed.below(most)).saturating_sub(seed.below(2));
                    ids.push((ours.arm(deadline, number), model.arm(deadline, number)));
                    number += 1;
                }
                4..=5 if !ids.is_empty() => {
                    let (our, their) = ids.swap_remove(seed.below(ids.len() as u64) as usize);
                    let what = format!("Act {act}: cancel({our:?}).");
                    same(ours.cancel(our), model.cancel(their), &what);
                }
                _ => {
                    let most = seed.pick(&[2, 64, 5000, 1 << 20, 1 << 30]);
                    let next = ours.next_wake().unwrap_or(now);
                    now = if seed.once_in(2) { next.max(now) } else { now + seed.below(most) };
                    let what = format!("Act {act}: expire({now}).");
                    same(ours.expire(now), model.expire(now), &what);
                }
            }
            let (wake, next) = (ours.next_wake(), model.next_deadline());
            let what =
                format!("Act {act}, hand at {now}: next_wake is {wake:?}, deadline {next:?}.");
            let due = next.map(|next| next.max(now));
            expect(wake.is_some() == due.is_some() && wake <= due, &what);
            expect(wake.is_none_or(|wake| wake > now || due == Some(now)), &what);
            same(ours.len(), model.len(), &format!("Act {act}: len counts the armed timers."));
        }
        is_whole(&ours, "At the end");
    });
}
