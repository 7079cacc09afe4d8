//! The wheel against a sorted map, and against the traps that timer wheels have fallen into.

use std::time::Duration;

use support::wheel as model;
use support::wheel::Pair;
use support::{Rng, ceiling};
use waterwheel::timers::{TimerId, Wheel};

const DAY: u64 = model::DAY;
const YEAR: u64 = model::YEAR;

#[test]
fn any_history_is_that_of_a_sorted_map() {
    let _ceiling = ceiling(Duration::from_secs(120));
    let mut rng = Rng::new();
    let mut pair = Pair::default();
    for epoch in 0..12 {
        pair.quiet = epoch % 3 == 2;
        for _ in 0..85_000 {
            if rng.below(5) == 0 {
                pair.turn(&mut rng)
            } else {
                pair.meddle(&mut rng)
            }
            pair.check_next_deadline();
        }
        if epoch < 11 {
            pair.cancel_all();
        }
    }
    pair.expire(u64::MAX, u64::MAX, &mut rng);
    assert!(pair.order.is_empty());
    let tally = pair.tally;
    println!("{tally:#?}");
    assert!(tally.operations >= 1_000_000 && tally.held_max > 2000);
    assert!(tally.inserted.iter().chain(&tally.expired).all(|count| *count > 1000));
    assert!(tally.woken_for_nothing <= tally.disturbed.min(tally.woken / 20));
    let rest = [tally.past, tally.endless, tally.ties, tally.earlier, tally.later, tally.stale];
    assert!(rest.iter().chain([&tally.cut_short, &tally.woken]).all(|count| *count > 1000));
}

/// A wheel whose hand stands at `tick`.
fn wheel_at<T>(tick: u64) -> Wheel<T> {
    let mut wheel = Wheel::new();
    assert_eq!(wheel.expire(tick), None);
    wheel
}

#[test]
fn edges_of_every_level_are_exact_from_every_phase_of_the_hand() {
    for level in 0..6 {
        for (digit, below) in (0..64).flat_map(|digit| [(digit, 0), (digit, 1), (digit, u64::MAX)])
        {
            let unit = 1 << (6 * level);
            let hand = (5 << 36) + digit * unit + below.min(unit - 1);
            let mut wheel = wheel_at(hand);
            let spans = (1..=6).map(|level| 1 << (6 * level));
            let edges = spans.flat_map(|span| [span - 1, span, span + 1]);
            let timers: Vec<_> = edges.map(|d| (hand + d, wheel.insert(hand + d, ()))).collect();
            for (deadline, id) in timers {
                assert_eq!(wheel.expire(deadline - 1), None, "hand {hand}, early {deadline}");
                assert_eq!(wheel.expire(deadline), Some(id), "hand {hand}, due {deadline}");
                wheel.cancel(id);
            }
        }
    }
}

#[test]
fn far_timers_hide_no_near_one_at_any_uptime() {
    for uptime in [30, 32, 36, 40].map(|bits| 1_u64 << bits) {
        let mut now = uptime - 1_000_000;
        let mut wheel = wheel_at(now);
        for far in [now + 30 * DAY, now + YEAR, uptime + (1 << 36), u64::MAX] {
            wheel.insert(far, "far");
        }
        let near = wheel.insert(now + 333, "near");
        for _ in 0..6000 {
            now += 333;
            assert_eq!(wheel.next_deadline(), Some(now), "uptime {uptime}");
            assert_eq!(wheel.expire(now - 1), None);
            assert_eq!(wheel.expire(now), Some(near));
            assert_eq!(wheel.expire(now), None);
            assert!(wheel.rearm(near, now + 333));
        }
        assert!(now > uptime + 500_000);
    }
}

#[test]
fn the_last_ticks_of_time_are_deadlines_like_others() {
    let mut wheel = Wheel::new();
    let deadlines = [u64::MAX, u64::MAX - 1, u64::MAX - 64, 1 << 63, (1 << 63) - 1];
    let ids = deadlines.map(|deadline| wheel.insert(deadline, ()));
    for (deadline, id) in deadlines.into_iter().zip(ids).rev() {
        assert_eq!(wheel.expire(deadline - 1), None);
        assert_eq!(wheel.expire(deadline), Some(id));
    }
    let late = wheel.insert(0, ());
    assert_eq!(wheel.next_deadline(), Some(u64::MAX));
    assert_eq!(wheel.expire(u64::MAX), Some(late));
}

#[test]
fn a_deadline_put_off_a_million_times_wakes_once_for_nothing() {
    let mut wheel = Wheel::new();
    let id = wheel.insert(1000, ());
    (1001..=1_001_000).for_each(|deadline| assert!(wheel.rearm(id, deadline)));
    assert_eq!(wheel.next_deadline(), Some(1000));
    assert_eq!(wheel.expire(1000), None);
    assert_eq!(wheel.next_deadline(), Some(1_001_000));
    assert_eq!(wheel.expire(1_000_999), None);
    assert_eq!(wheel.expire(1_001_000), Some(id));
}

#[test]
fn what_is_cancelled_or_put_off_while_it_is_due_stays_away() {
    let mut wheel = Wheel::new();
    let [first, gone, later, last] = [5; 4].map(|deadline| wheel.insert(deadline, ()));
    assert_eq!(wheel.expire(9), Some(first));
    assert!(wheel.cancel(gone).is_some() && wheel.rearm(later, 8));
    let again = wheel.insert(5, ());
    assert_eq!([(); 4].map(|()| wheel.expire(9)), [Some(last), Some(again), Some(later), None]);
}

fn shuffle<T>(list: &mut [T], rng: &mut Rng) {
    for last in (1..list.len()).rev() {
        list.swap(last, rng.below(last as u64 + 1) as usize);
    }
}

#[test]
fn a_million_cancelled_in_random_order_leave_no_memory_behind() {
    let _ceiling = ceiling(Duration::from_secs(120));
    let mut rng = Rng::new();
    let mut wheel = Wheel::new();
    let memory = allocation_counter::measure(|| {
        let mut earliest = u64::MAX;
        let mut timers = Vec::new();
        for _ in 0..1_000_000 {
            let deadline = rng.next() >> (19 + rng.below(45));
            earliest = earliest.min(deadline);
            timers.push((wheel.insert(deadline, ()), deadline, u64::MAX));
            assert_eq!(wheel.next_deadline(), Some(earliest));
        }
        shuffle(&mut timers, &mut rng);
        // The third is the earliest deadline of those that are cancelled after it.
        for at in (1..timers.len()).rev() {
            timers[at - 1].2 = timers[at].1.min(timers[at].2);
        }
        for (id, _, earliest) in timers {
            assert!(wheel.cancel(id).is_some());
            assert!(wheel.next_deadline().unwrap_or(u64::MAX) <= earliest);
        }
    });
    assert_eq!(wheel.next_deadline(), None);
    assert!(memory.bytes_max > 24_000_000);
    assert!(memory.bytes_current < 10_000, "{memory:?}");
}

#[test]
fn of_a_million_the_hundredth_left_keeps_only_the_table() {
    let mut rng = Rng::new();
    let mut wheel = Wheel::new();
    let mut left = 0;
    let memory = allocation_counter::measure(|| {
        let mut ids: Vec<_> = (0..1 << 20).map(|_| wheel.insert(rng.below(DAY), ())).collect();
        shuffle(&mut ids, &mut rng);
        left = ids.len() / 100;
        assert!(ids.drain(left..).all(|id| wheel.cancel(id).is_some()));
    });
    // 32 bytes a node and 4 for each that is free.
    assert!(memory.bytes_current < (36 << 20) + 400_000, "{memory:?}");
    let memory = allocation_counter::measure(|| {
        while let Some(id) = wheel.expire(DAY) {
            wheel.cancel(id);
            left -= 1;
        }
    });
    assert_eq!(left, 0);
    assert!(memory.bytes_current < -(32 << 20), "{memory:?}");
}

#[test]
fn a_crowd_that_expires_at_once_leaves_no_buffer_in_its_slot() {
    const CROWD: i64 = 1 << 18;
    let mut wheel = Wheel::new();
    let memory = allocation_counter::measure(|| {
        wheel.insert(u64::MAX, 0);
        for _ in 1..CROWD {
            wheel.insert(100_000, 0);
        }
        for tick in (100_000..200_000).step_by(100) {
            while let Some(id) = wheel.expire(tick) {
                wheel.cancel(id);
            }
            wheel.insert(tick + 100, 0);
        }
    });
    // A node, its place among the free ones, and what a slot may keep.
    assert!(memory.bytes_current < CROWD * (32 + 4 + 4) + 20_000, "{memory:?}");
}

#[test]
fn an_id_is_stale_for_ever_however_often_its_place_is_used_again() {
    let mut wheel = Wheel::new();
    let first = wheel.insert(1, 0);
    assert_eq!(wheel.cancel(first), Some(0));
    for use_number in 1..=70_000 {
        let id = wheel.insert(1, use_number);
        assert_eq!(id.parts().0, first.parts().0, "the place is used again");
        assert!(wheel.get(first).is_none() && !wheel.rearm(first, 9));
        assert_eq!((wheel.cancel(first), wheel.cancel(id)), (None, Some(use_number)));
    }
}

#[test]
fn ids_stay_stale_after_the_table_shrank_and_grew_again() {
    let mut wheel = Wheel::new();
    let mut stale: Vec<TimerId> = Vec::new();
    for round in 0..20 {
        let ids: Vec<_> = (0..1000).map(|n| wheel.insert(n, round)).collect();
        assert!(stale.iter().all(|id| wheel.get(*id).is_none() && wheel.deadline(*id).is_none()));
        assert!(stale.iter().all(|id| !wheel.rearm(*id, 5) && wheel.cancel(*id).is_none()));
        assert_eq!(wheel.len(), 1000);
        let shrunk = allocation_counter::measure(|| {
            assert!(ids.iter().all(|id| wheel.cancel(*id).is_some()))
        });
        assert!(shrunk.bytes_current < -20_000, "{shrunk:?}");
        stale.extend(ids);
    }
}
