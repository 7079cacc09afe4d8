//! Tasks that fail, hang, panic, pile up, oversleep or are dropped, on the manual clock.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use support::MS;
use support::tasks::{
    DAY, World, counts, every, history, hold, ok, on, once, open, run_to, take, tell,
};
use waterwheel::Reactor;
use waterwheel::patterns::Backoff;
use waterwheel::patterns::tasks::{
    CATCH_UP_MAX, Overrun, Run, Schedule, Task, TaskError, TaskId, TaskQueue,
};
use waterwheel::reactor::{Context, PanicPolicy};
use waterwheel::timers::ManualClock;

#[test]
fn a_run_that_is_dropped_without_an_answer_has_failed_and_that_is_told() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    queue.on_end(&mut reactor, |_, world, record| world.told.push(tell(record)));
    queue.add(&mut reactor, once("forgets", 10), |_, _, _| {}).unwrap();
    queue.add(&mut reactor, once("loses", 20), hold).unwrap();
    reactor.after(50 * MS, |_, world: &mut World| world.held.clear());
    let mut world = World::default();
    reactor.run(&mut world).unwrap();
    let expected = [
        "forgets 1 [10-10] failed: dropped without an answer",
        "loses 1 [20-50] failed: dropped without an answer",
    ];
    assert_eq!(history(&reactor, queue), expected);
    assert_eq!(world.told, expected);
}

#[test]
fn a_failed_run_is_tried_again_after_ever_longer_waits_up_to_the_cap_and_the_last_attempt() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    let retry = Backoff::new(5).first(10 * MS).most(35 * MS).jitter_percent(0);
    let task = once("flaky", 100).retry(retry);
    queue
        .add(&mut reactor, task, |_, _, run| {
            assert_eq!(run.due().tick.count(), 100, "of all attempts");
            let attempt = run.attempt();
            run.finish(Err::<(), _>(format!("no {attempt}")));
        })
        .unwrap();
    reactor.run(&mut World::default()).unwrap();
    let expected = [
        "flaky 1 [100-100] failed: no 1, again in 10 ms",
        "flaky 2 [110-110] failed: no 2, again in 20 ms",
        "flaky 3 [130-130] failed: no 3, again in 35 ms",
        "flaky 4 [165-165] failed: no 4, again in 35 ms",
        "flaky 5 [200-200] failed: no 5",
    ];
    assert_eq!(history(&reactor, queue), expected);
    assert!(reactor[queue].is_empty(), "once, all attempts included");
}

#[test]
fn a_retry_that_succeeds_ends_the_matter_and_the_next_run_begins_with_attempt_one() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    let retry = Backoff::new(3).first(10 * MS).jitter_percent(0);
    queue
        .add(&mut reactor, every("odd", 100).retry(retry), |_, _, run| match run.attempt() {
            1 => run.fail("once more"),
            _ => run.ok(),
        })
        .unwrap();
    run_to(&mut reactor, &mut World::default(), 250);
    let expected = [
        "odd 1 [100-100] failed: once more, again in 10 ms",
        "odd 2 [110-110] done",
        "odd 1 [200-200] failed: once more, again in 10 ms",
        "odd 2 [210-210] done",
    ];
    assert_eq!(history(&reactor, queue), expected);
    let counts = counts(&reactor, queue, "odd");
    assert_eq!((counts.runs, counts.failures), (4, 2));
}

#[test]
fn jitter_is_the_same_for_the_same_seed_and_another_for_another() {
    let waits = |seed| {
        let mut reactor = on(&ManualClock::new());
        let queue = open(&mut reactor, TaskQueue::new().seed(seed));
        let retry = Backoff::new(20).first(Duration::from_secs(1)).most(Duration::from_secs(1));
        let task = once("fails", 0).retry(retry.jitter_percent(50));
        queue.add(&mut reactor, task, |_, _, run| run.fail("always")).unwrap();
        reactor.run(&mut World::default()).unwrap();
        reactor[queue].history().filter_map(|record| record.again).collect::<Vec<_>>()
    };
    assert_eq!(waits(1), waits(1));
    assert_ne!(waits(1), waits(2));
    assert_eq!(waits(1).len(), 19);
    let range = Duration::from_millis(500)..=Duration::from_secs(1);
    assert!(waits(3).iter().all(|wait| range.contains(wait)));
}

#[test]
fn what_is_due_while_it_runs_is_skipped_queued_or_run_beside_it_and_counted() {
    // Due each 10 ms, takes 25 ms.
    let run = |overrun| {
        let mut reactor = on(&ManualClock::new());
        let queue = open(&mut reactor, TaskQueue::new());
        let task = queue.add(&mut reactor, every("slow", 10).overrun(overrun), take(25)).unwrap();
        let mut world = World::default();
        run_to(&mut reactor, &mut world, 65);
        let skipped = counts(&reactor, queue, "slow").skipped;
        queue.remove(&mut reactor, task);
        (world.at(), skipped)
    };
    assert_eq!(run(Overrun::Skip), (vec![10, 40], 4));
    assert_eq!(run(Overrun::Queue(1)), (vec![10, 35, 60], 2));
    assert_eq!(run(Overrun::Queue(9)), (vec![10, 35, 60], 0));
    assert_eq!(run(Overrun::Parallel(2)), (vec![10, 20, 40, 50], 2));
    assert_eq!(run(Overrun::Parallel(9)), (vec![10, 20, 30, 40, 50, 60], 0));
}

#[test]
fn a_run_that_waits_for_its_next_attempt_is_still_under_way() {
    for (overrun, expected) in [
        (Overrun::Skip, vec![(1, 10), (2, 35), (1, 40), (2, 65)]),
        (Overrun::Queue(1), vec![(1, 10), (2, 35), (1, 35), (2, 60), (1, 60)]),
    ] {
        let mut reactor = on(&ManualClock::new());
        let queue = open(&mut reactor, TaskQueue::new());
        let retry = Backoff::new(2).first(25 * MS).jitter_percent(0);
        let task = every("fails", 10).retry(retry).overrun(overrun);
        queue.add(&mut reactor, task, |_, _, run| run.fail("always")).unwrap();
        run_to(&mut reactor, &mut World::default(), 66);
        let runs: Vec<_> =
            reactor[queue].history().map(|run| (run.attempt, run.started.tick.count())).collect();
        assert_eq!(runs, expected, "{overrun:?}");
    }
}

#[test]
fn a_run_that_takes_too_long_is_timed_out_tried_again_and_its_answer_is_late() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new().runs_max(1));
    let retry = Backoff::new(2).first(5 * MS).jitter_percent(0);
    let task = every("hangs", 100).timeout(30 * MS).retry(retry);
    queue.add(&mut reactor, task, hold).unwrap();
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 132);
    assert!(!reactor[queue].is_running(world.held[0].id()));
    run_to(&mut reactor, &mut world, 160);
    assert!(reactor[queue].is_running(world.held[1].id()));
    world.held.remove(0).ok();
    world.held.remove(0).ok();
    run_to(&mut reactor, &mut world, 165);
    let expected = ["hangs 1 [100-130] failed: timed out, again in 5 ms", "hangs 2 [135-160] done"];
    assert_eq!(history(&reactor, queue), expected);
    let counts = counts(&reactor, queue, "hangs");
    assert_eq!((counts.runs, counts.failures, counts.late), (2, 1, 1));
    assert_eq!((reactor[queue].timers(), reactor[queue].running()), (1, 0));
}

#[test]
fn an_answer_beats_the_timeout_of_its_turn_and_each_attempt_has_its_own() {
    let clock = ManualClock::new();
    let mut reactor = on(&clock);
    let queue = open(&mut reactor, TaskQueue::new());
    let jump = clock.clone();
    queue
        .add(&mut reactor, once("blocks", 10).timeout(5 * MS), move |_, _, run| {
            jump.advance(50 * MS);
            run.ok();
        })
        .unwrap();
    queue.add(&mut reactor, once("just", 100).timeout(5 * MS), hold).unwrap();
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 100);
    clock.advance(50 * MS);
    world.held.pop().unwrap().ok();
    reactor.run(&mut world).unwrap();
    // Within a turn time stands still.
    assert_eq!(history(&reactor, queue), ["blocks 1 [10-10] done", "just 1 [100-150] done"]);
}

#[test]
fn a_timeout_counts_from_the_moment_however_long_the_run_before_took() {
    let clock = ManualClock::new();
    let mut reactor = on(&clock);
    let queue = open(&mut reactor, TaskQueue::new());
    let jump = clock.clone();
    queue
        .add(&mut reactor, once("blocks", 10), move |_, _, run| {
            jump.advance(50 * MS);
            run.ok();
        })
        .unwrap();
    queue.add(&mut reactor, once("waits", 10).timeout(20 * MS), hold).unwrap();
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 79);
    assert!(reactor[queue].is_running(world.held[0].id()), "it began at 60");
    run_to(&mut reactor, &mut world, 80);
    assert!(!reactor[queue].is_running(world.held[0].id()));
}

#[test]
fn a_panic_costs_the_run_and_not_the_queue_under_both_policies() {
    for policy in [PanicPolicy::Propagate, PanicPolicy::Drop] {
        let builder = Reactor::builder().clock(&ManualClock::new()).panic_policy(policy);
        let mut reactor = builder.build().unwrap();
        let queue = open(&mut reactor, TaskQueue::new());
        queue.on_end(&mut reactor, |_, world, record| world.told.push(tell(record)));
        let retry = Backoff::new(2).first(5 * MS).jitter_percent(0);
        let task = once("panics", 10).retry(retry);
        queue
            .add(&mut reactor, task, |reactor, world: &mut World, run| {
                world.log.push(("panics".to_owned(), reactor.tick().count()));
                match run.attempt() {
                    1 => run.ok(), // Too soon: it is a failure all the same.
                    _ => world.held.push(run),
                }
                panic!("attempt");
            })
            .unwrap();
        queue.add(&mut reactor, once("other", 10), ok).unwrap();
        queue.add(&mut reactor, once("later", 30), ok).unwrap();
        let mut world = World::default();
        let mut panics = 0;
        while catch_unwind(AssertUnwindSafe(|| reactor.run(&mut world).unwrap())).is_err() {
            panics += 1;
        }
        assert_eq!(panics, if policy == PanicPolicy::Drop { 0 } else { 2 });
        assert_eq!(world.log(), [("panics", 10), ("other", 10), ("panics", 15), ("later", 30)]);
        let expected = [
            "panics 1 [10-10] failed: panicked, again in 5 ms",
            "other 1 [10-10] done",
            "panics 2 [15-15] failed: panicked",
            "later 1 [30-30] done",
        ];
        assert_eq!(history(&reactor, queue), expected, "{policy:?}");
        assert_eq!(world.told, expected, "{policy:?}");
        assert_eq!((reactor[queue].timers(), reactor[queue].len()), (0, 0));
    }
}

#[test]
fn a_panic_of_who_is_told_costs_nothing_else_and_by_policy_the_callback() {
    for policy in [PanicPolicy::Propagate, PanicPolicy::Drop] {
        let builder = Reactor::builder().clock(&ManualClock::new()).panic_policy(policy);
        let mut reactor = builder.build().unwrap();
        let queue = open(&mut reactor, TaskQueue::new());
        queue.on_end(&mut reactor, |_, world, record| {
            world.told.push(tell(record));
            panic!("told");
        });
        let task = queue.add(&mut reactor, every("beat", 10), ok).unwrap();
        reactor.after(35 * MS, move |reactor, _| _ = queue.remove(reactor, task));
        let mut world = World::default();
        while catch_unwind(AssertUnwindSafe(|| reactor.run(&mut world).unwrap())).is_err() {}
        assert_eq!(world.log(), [("beat", 10), ("beat", 20), ("beat", 30)], "{policy:?}");
        let expected = if policy == PanicPolicy::Drop { 1 } else { 3 };
        assert_eq!(world.told.len(), expected, "{:?}", world.told);
    }
}

struct RunsInDrop<'a>(&'a mut World);

impl Drop for RunsInDrop<'_> {
    fn drop(&mut self) {
        let mut reactor = on(&ManualClock::new());
        let queue = open(&mut reactor, TaskQueue::new());
        queue.on_end(&mut reactor, |_, world, record| world.told.push(tell(record)));
        queue.add(&mut reactor, once("last", 1), ok).unwrap();
        reactor.run(self.0).unwrap();
    }
}

#[test]
fn a_loop_that_runs_while_its_thread_unwinds_takes_no_run_for_a_panic() {
    let mut world = World::default();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _guard = RunsInDrop(&mut world);
        panic!("somewhere else");
    }));
    assert!(unwound.is_err());
    assert_eq!(world.told, ["last 1 [1-1] done"]);
}

#[test]
fn a_day_asleep_costs_an_interval_one_run_or_as_many_as_it_asked_for() {
    let clock = ManualClock::new();
    let mut reactor = on(&clock);
    let queue = open(&mut reactor, TaskQueue::new());
    let second = |name| every(name, 1000);
    queue.add(&mut reactor, second("one"), ok).unwrap();
    let three = second("three").catch_up(3).overrun(Overrun::Queue(9));
    queue.add(&mut reactor, three, ok).unwrap();
    let room = second("room").catch_up(5).overrun(Overrun::Queue(1));
    queue.add(&mut reactor, room, ok).unwrap();
    let all = second("all").catch_up(u32::MAX).overrun(Overrun::Queue(u32::MAX));
    let dues = Rc::new(Cell::new((0, 0)));
    let seen = dues.clone();
    queue
        .add(&mut reactor, all, move |_, _, run| {
            assert!(run.passed() == if seen.get().0 == 0 { 86_400 - 100 } else { 0 });
            seen.set((seen.get().0 + 1, run.due().tick.count()));
            run.ok();
        })
        .unwrap();
    clock.advance(DAY);
    let mut world = World::default();
    run_to(&mut reactor, &mut world, DAY.as_millis() as u64 + 500);
    let runs = |name| world.log().iter().filter(|run| run.0 == name).count();
    assert_eq!((runs("one"), runs("three"), runs("room")), (1, 3, 2));
    assert_eq!(dues.get(), (u64::from(CATCH_UP_MAX), DAY.as_millis() as u64));
    let told = |name| {
        let counts = counts(&reactor, queue, name);
        (counts.runs, counts.skipped, counts.missed)
    };
    assert_eq!(told("one"), (1, 0, 86_399));
    assert_eq!(told("three"), (3, 0, 86_397));
    assert_eq!(told("room"), (2, 3, 86_395));
    assert_eq!(told("all"), (100, 0, 86_300));
}

#[test]
fn stale_ids_and_a_queue_that_has_gone_change_nothing() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    let old = queue.add(&mut reactor, every("a", 10), ok).unwrap();
    queue.remove(&mut reactor, old);
    let new = queue.add(&mut reactor, every("a", 10), hold).unwrap();
    let all = |reactor: &mut Reactor<World>, task: TaskId| {
        let done = [
            queue.remove(reactor, task),
            queue.run_now(reactor, task),
            queue.pause(reactor, task),
            queue.resume(reactor, task),
            queue.set_schedule(reactor, task, Schedule::on_demand()),
            queue.unref(reactor, task),
            queue.reref(reactor, task),
        ];
        done.contains(&true)
    };
    assert!(!all(&mut reactor, old) && reactor[queue].task(old).is_none());
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 15);
    assert_eq!(world.log(), [("a", 10)]);
    assert!(reactor.remove(queue));
    assert!(!all(&mut reactor, new) && !queue.pause_all(&mut reactor));
    assert_eq!(queue.add(&mut reactor, every("b", 1), ok), Err(TaskError::Gone));
    assert!(!queue.on_end(&mut reactor, |_, _, _| {}));
    world.held.pop().unwrap().ok();
    reactor.turn(&mut world, None).unwrap();
    assert_eq!((reactor.timers(), reactor.sources()), (0, 0));
    assert_eq!(reactor.statistics().stale, 1, "the answer to a queue that has gone");
}

#[test]
fn a_queue_removed_by_its_own_run_or_by_who_is_told_takes_its_tasks_along() {
    for by_run in [true, false] {
        let mut reactor = on(&ManualClock::new());
        let queue = open(&mut reactor, TaskQueue::new());
        queue.on_end(&mut reactor, move |reactor, _, _| _ = reactor.remove(queue));
        for name in ["a", "b"] {
            queue
                .add(&mut reactor, every(name, 10), move |reactor, world: &mut World, run| {
                    ok(reactor, world, run);
                    if by_run {
                        assert!(reactor.remove(queue));
                    }
                })
                .unwrap();
        }
        let mut world = World::default();
        reactor.run(&mut world).unwrap();
        assert_eq!(world.log.len(), if by_run { 1 } else { 2 });
        assert_eq!((reactor.timers(), reactor.sources()), (0, 0));
    }
}

#[test]
fn ten_thousand_tasks_that_are_due_together_share_turns_and_leave_nothing() {
    const TASKS: usize = 10_000;
    let clock = ManualClock::new();
    let mut reactor = on(&clock);
    let queue = open(&mut reactor, TaskQueue::new().runs_max(100));
    let ids: Vec<_> = (0..TASKS)
        .map(|number| {
            let count = |_: &mut Context<World>, world: &mut World, run: Run| {
                world.log.push((String::new(), run.due().tick.count()));
                run.ok();
            };
            queue.add(&mut reactor, every(&format!("task {number}"), 1000), count).unwrap()
        })
        .collect();
    assert_eq!((reactor[queue].timers(), reactor.timers()), (TASKS, 1));
    let mut world = World::default();
    clock.advance(1000 * MS);
    for turn in 1..5 {
        // What is due is taken in by the turn, and a hundred of it run.
        reactor.turn(&mut world, Some(Duration::ZERO)).unwrap();
        let waiting: usize = reactor[queue].tasks().map(|task| task.waiting + task.running).sum();
        assert_eq!(waiting + world.log.len(), turn * 1024);
        assert_eq!(world.log.len(), (turn - 1) * 100);
    }
    run_to(&mut reactor, &mut world, 1500);
    assert_eq!(world.log.len(), TASKS);
    run_to(&mut reactor, &mut world, 3500);
    assert_eq!(world.log.len(), 3 * TASKS);
    for id in ids {
        assert!(queue.remove(&mut reactor, id));
    }
    assert_eq!((reactor[queue].timers(), reactor.timers()), (0, 0));
    reactor.run(&mut world).unwrap();
}

#[test]
fn a_loop_that_is_dropped_with_everything_in_flight_drops_everything() {
    let clock = ManualClock::new();
    let mut reactor = on(&clock);
    let queue = open(&mut reactor, TaskQueue::new().runs_max(3));
    queue.on_end(&mut reactor, |_, _, _| {});
    let alive = Rc::new(());
    let mut runs = 0;
    for name in ["held", "in a timer", "waits", "waits, too", "fails"] {
        let own = alive.clone();
        let task = every(name, 10).timeout(DAY).retry(Backoff::new(9).first(DAY));
        let callback = move |reactor: &mut Context<World>, world: &mut World, run: Run| {
            let own = own.clone();
            match run.name() {
                "held" => world.held.push(run),
                "fails" => run.fail("and waits"),
                _ => _ = reactor.after(DAY, move |_, _| drop((own, run))),
            }
        };
        queue.add(&mut reactor, task, callback).unwrap();
        runs += 1;
    }
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 10);
    queue.pause_all(&mut reactor);
    queue.resume_all(&mut reactor);
    clock.advance(5 * MS);
    let first = reactor[queue].find("held").unwrap();
    queue.remove(&mut reactor, first);
    assert!(Rc::strong_count(&alive) >= runs);
    drop(reactor);
    assert_eq!(Rc::strong_count(&alive), 1);
    world.held.pop().unwrap().ok(); // Nobody is there to hear it.
}
#[test]
fn endless_periods_waits_and_limits_do_no_harm() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new().runs_max(0));
    let never = Task::new("never", Schedule::every(Duration::MAX)).timeout(Duration::MAX);
    let never = queue.add(&mut reactor, never.overrun(Overrun::Queue(u32::MAX)), hold).unwrap();
    let retry = Backoff::new(u32::MAX).first(Duration::MAX).most(Duration::MAX);
    queue.add(&mut reactor, every("fails", 0).retry(retry), |_, _, run| run.fail("")).unwrap();
    assert!(queue.run_now(&mut reactor, never));
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 5);
    assert_eq!(world.log(), [("never", 0)], "and no place is left");
    world.held.clear();
    run_to(&mut reactor, &mut world, 100);
    let last = tell(reactor[queue].history().last().unwrap());
    assert!(last.starts_with("fails 1 [5-5] failed: , again in "), "{last}");
    assert_eq!(counts(&reactor, queue, "fails").skipped, 99);
}

#[test]
fn a_queue_that_was_taken_out_is_not_opened_again() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    queue.add(&mut reactor, every("task", 10), ok).unwrap();
    let taken = reactor.deregister(queue).unwrap();
    assert_eq!((taken.len(), reactor.timers(), reactor.is_alive()), (1, 0, false));
    let error = taken.open(&mut reactor).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
