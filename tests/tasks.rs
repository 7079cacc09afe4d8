//! The task queue on the manual clock: what runs, when, in which order, and what is told of it.

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use support::MS;
use waterwheel::reactor::tasks::{
    CATCH_UP_MAX, Counts, Outcome, Overrun, Record, Retry, Run, Schedule, Status, Task, TaskError,
    TaskId, TaskQueue,
};
use waterwheel::reactor::{Alive, Context, Kind, PanicPolicy, Priority, Recorder};
use waterwheel::timers::ManualClock;
use waterwheel::{Reactor, SourceId};

const DAY: Duration = Duration::from_secs(24 * 3600);

type Queue = SourceId<TaskQueue<World>>;

/// What the callbacks of a test share.
#[derive(Default)]
struct World {
    /// What ran, and in which millisecond.
    log: Vec<(String, u64)>,
    /// Runs that wait for an answer.
    held: Vec<Run>,
    /// What was told, shortened.
    told: Vec<String>,
}

impl World {
    fn log(&self) -> Vec<(&str, u64)> {
        self.log.iter().map(|(name, at)| (&**name, *at)).collect()
    }

    fn at(&self) -> Vec<u64> {
        self.log.iter().map(|run| run.1).collect()
    }
}

fn on(clock: &ManualClock) -> Reactor<World> {
    Reactor::builder().clock(clock).build().unwrap()
}

fn open(reactor: &mut Reactor<World>, queue: TaskQueue<World>) -> Queue {
    queue.open(reactor).unwrap()
}

fn every(name: &str, ms: u64) -> Task {
    Task::new(name, Schedule::every(Duration::from_millis(ms)))
}

fn once(name: &str, ms: u64) -> Task {
    Task::new(name, Schedule::after(Duration::from_millis(ms)))
}

/// Notes the run and ends it.
fn ok(reactor: &mut Context<World>, world: &mut World, run: Run) {
    world.log.push((run.name().to_owned(), reactor.tick()));
    run.ok();
}

/// Notes the run and keeps it.
fn hold(reactor: &mut Context<World>, world: &mut World, run: Run) {
    world.log.push((run.name().to_owned(), reactor.tick()));
    world.held.push(run);
}

/// Notes the run and ends it so much later.
fn take(ms: u64) -> impl FnMut(&mut Context<World>, &mut World, Run) {
    move |reactor, world, run| {
        world.log.push((run.name().to_owned(), reactor.tick()));
        reactor.after(Duration::from_millis(ms), move |_, _| run.ok());
    }
}

fn tell(record: &Record) -> String {
    let Record { name, attempt, outcome, started, ended, again, .. } = record;
    let again = again.map_or(String::new(), |again| format!(", again in {} ms", again.as_millis()));
    format!("{name} {attempt} [{}-{}] {outcome}{again}", started.tick, ended.tick)
}

fn history(reactor: &Reactor<World>, queue: Queue) -> Vec<String> {
    reactor[queue].history().map(tell).collect()
}

fn counts(reactor: &Reactor<World>, queue: Queue, name: &str) -> Counts {
    let queue = &reactor[queue];
    queue.find(name).and_then(|task| queue.task(task)).unwrap().counts
}

/// Turns the loop until the clock shows `ms`; then something may be looked at.
fn run_to(reactor: &mut Reactor<World>, world: &mut World, ms: u64) {
    let left = ms.checked_sub(reactor.tick()).unwrap();
    let stopper = reactor.after(Duration::from_millis(left), |reactor, _| {
        // What is due in the same millisecond comes first: the queue's starts take a turn or two.
        reactor.enqueue(Priority::Low, |reactor, _| {
            reactor.enqueue(Priority::Low, |reactor, _| {
                reactor.enqueue(Priority::Low, |reactor, _| reactor.stop());
            });
        });
    });
    reactor.unref(stopper);
    reactor.run(world).unwrap();
}

#[test]
fn tasks_run_once_or_on_their_grid_and_a_delay_counts_from_now() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    queue.add(&mut reactor, every("ten", 10), ok).unwrap();
    queue.add(&mut reactor, once("once", 25), ok).unwrap();
    let shifted = Schedule::every(20 * MS).first_after(3 * MS);
    queue.add(&mut reactor, Task::new("shifted", shifted), ok).unwrap();
    reactor.after(12 * MS, move |reactor, _| {
        queue.add(reactor, once("late", 0), ok).unwrap();
    });
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 45);
    let expected = [
        ("shifted", 3),
        ("ten", 10),
        ("late", 12),
        ("ten", 20),
        ("shifted", 23),
        ("once", 25),
        ("ten", 30),
        ("ten", 40),
        ("shifted", 43),
    ];
    assert_eq!(world.log(), expected);
    let left: Vec<_> = reactor[queue].tasks().map(|task| task.name.to_owned()).collect();
    assert_eq!(left, ["shifted", "ten"], "what was once is gone");
}

#[test]
fn due_tasks_start_by_priority_then_by_when_they_were_due_then_as_added() {
    for runs_max in [1, 2, 64] {
        let clock = ManualClock::new();
        let mut reactor = on(&clock);
        let queue = open(&mut reactor, TaskQueue::new().runs_max(runs_max));
        for (name, ms, priority) in [
            ("low 1", 1, Priority::Low),
            ("normal 3", 3, Priority::Normal),
            ("normal 2", 2, Priority::Normal),
            ("high 3", 3, Priority::High),
            ("normal 3 too", 3, Priority::Normal),
        ] {
            queue.add(&mut reactor, once(name, ms).priority(priority), ok).unwrap();
        }
        clock.advance(5 * MS);
        let mut world = World::default();
        reactor.run(&mut world).unwrap();
        let order: Vec<_> = world.log().iter().map(|run| run.0).collect();
        assert_eq!(order, ["high 3", "normal 2", "normal 3", "normal 3 too", "low 1"]);
    }
}

#[test]
fn no_more_runs_are_under_way_than_the_queue_and_the_task_allow() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new().runs_max(3));
    let most = Rc::new(Cell::new(0));
    for name in ["a", "b", "c", "d"] {
        let most = most.clone();
        let task = once(name, 10);
        let mut takes = take(10);
        let count = move |reactor: &mut Context<World>, world: &mut World, run: Run| {
            most.set(most.get().max(reactor[queue].running()));
            takes(reactor, world, run);
        };
        queue.add(&mut reactor, task, count).unwrap();
    }
    let two = every("two", 3).overrun(Overrun::Parallel(2)).priority(Priority::High);
    let two = queue.add(&mut reactor, two, take(7)).unwrap();
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 14);
    // Two of 7 ms each 3 ms: at 9 the third is one too many, and at 12 the queue is full.
    let twos: Vec<_> = world.log().into_iter().filter(|run| run.0 == "two").collect();
    assert_eq!(twos, [("two", 3), ("two", 6), ("two", 13)]);
    assert_eq!(counts(&reactor, queue, "two").skipped, 1);
    queue.remove(&mut reactor, two);
    reactor.run(&mut world).unwrap();
    assert_eq!(most.get(), 3);
    assert_eq!(world.log.len(), 3 + 4);
}

#[test]
fn a_run_that_ends_later_is_under_way_until_then() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    queue.add(&mut reactor, once("slow", 10), take(35)).unwrap();
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 20);
    assert_eq!((reactor[queue].running(), reactor[queue].len()), (1, 1));
    let run = history(&reactor, queue);
    assert!(run.is_empty(), "{run:?}");
    reactor.run(&mut world).unwrap();
    assert_eq!(history(&reactor, queue), ["slow 1 [10-45] done"]);
    assert_eq!((reactor[queue].running(), reactor[queue].len()), (0, 0));
}

#[test]
fn an_answer_wakes_a_loop_that_would_sleep_and_frees_the_place_at_once() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new().runs_max(1));
    queue.add(&mut reactor, once("first", 10), hold).unwrap();
    queue.add(&mut reactor, once("second", 10), ok).unwrap();
    reactor.after(30 * MS, |_, world: &mut World| world.held.pop().unwrap().ok());
    let mut world = World::default();
    reactor.run(&mut world).unwrap();
    assert_eq!(world.log(), [("first", 10), ("second", 30)]);
}

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
    let retry = Retry::new(5, 10 * MS).cap(35 * MS).jitter_percent(0);
    let task = once("flaky", 100).retry(retry);
    queue
        .add(&mut reactor, task, |_, _, run| {
            assert_eq!(run.due().tick, 100, "of all attempts");
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
    let retry = Retry::new(3, 10 * MS).jitter_percent(0);
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
        let retry = Retry::new(20, Duration::from_secs(1)).cap(Duration::from_secs(1));
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
        let retry = Retry::new(2, 25 * MS).jitter_percent(0);
        let task = every("fails", 10).retry(retry).overrun(overrun);
        queue.add(&mut reactor, task, |_, _, run| run.fail("always")).unwrap();
        run_to(&mut reactor, &mut World::default(), 66);
        let runs: Vec<_> =
            reactor[queue].history().map(|run| (run.attempt, run.started.tick)).collect();
        assert_eq!(runs, expected, "{overrun:?}");
    }
}

#[test]
fn a_run_that_takes_too_long_is_timed_out_tried_again_and_its_answer_is_late() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new().runs_max(1));
    let retry = Retry::new(2, 5 * MS).jitter_percent(0);
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
fn a_panic_costs_the_run_and_not_the_queue_under_both_policies() {
    for policy in [PanicPolicy::Propagate, PanicPolicy::Drop] {
        let builder = Reactor::builder().clock(&ManualClock::new()).panic_policy(policy);
        let mut reactor = builder.build().unwrap();
        let queue = open(&mut reactor, TaskQueue::new());
        queue.on_end(&mut reactor, |_, world, record| world.told.push(tell(record)));
        let retry = Retry::new(2, 5 * MS).jitter_percent(0);
        let task = once("panics", 10).retry(retry);
        queue
            .add(&mut reactor, task, |reactor, world: &mut World, run| {
                world.log.push(("panics".to_owned(), reactor.tick()));
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
fn a_panic_of_who_is_told_costs_nothing_else() {
    for policy in [PanicPolicy::Propagate, PanicPolicy::Drop] {
        let builder = Reactor::builder().clock(&ManualClock::new()).panic_policy(policy);
        let mut reactor = builder.build().unwrap();
        let queue = open(&mut reactor, TaskQueue::new());
        queue.on_end(&mut reactor, |_, _, _| panic!("told"));
        let task = queue.add(&mut reactor, every("beat", 10), ok).unwrap();
        reactor.after(35 * MS, move |reactor, _| _ = queue.remove(reactor, task));
        let mut world = World::default();
        while catch_unwind(AssertUnwindSafe(|| reactor.run(&mut world).unwrap())).is_err() {}
        assert_eq!(world.log(), [("beat", 10), ("beat", 20), ("beat", 30)], "{policy:?}");
    }
}

#[test]
fn a_pause_holds_what_would_begin_and_its_end_finds_one_run() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    let a = queue.add(&mut reactor, every("a", 10), ok).unwrap();
    queue.add(&mut reactor, every("b", 10).overrun(Overrun::Queue(1)), ok).unwrap();
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 15);
    assert!(queue.pause(&mut reactor, a));
    run_to(&mut reactor, &mut world, 25);
    queue.pause_all(&mut reactor);
    assert!(reactor[queue].is_paused() && reactor[queue].task(a).unwrap().paused);
    run_to(&mut reactor, &mut world, 55);
    queue.resume_all(&mut reactor);
    run_to(&mut reactor, &mut world, 56);
    queue.resume(&mut reactor, a);
    run_to(&mut reactor, &mut world, 65);
    let before = [("a", 10), ("b", 10), ("b", 20)];
    let after = [("b", 55), ("b", 55), ("a", 56), ("a", 60), ("b", 60)];
    assert_eq!(world.log(), [&before[..], &after].concat());
    // At 20 a's run began to wait; 30, 40 and 50 found it there. b had room for one more.
    assert_eq!(counts(&reactor, queue, "a").skipped, 3);
    assert_eq!(counts(&reactor, queue, "b").skipped, 1);
}

#[test]
fn a_pause_holds_what_was_chosen_and_has_not_begun() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    for name in ["a", "b", "c"] {
        let task = once(name, 10);
        queue
            .add(&mut reactor, task, move |reactor, world: &mut World, run| {
                ok(reactor, world, run);
                queue.pause_all(reactor);
            })
            .unwrap();
    }
    let mut world = World::default();
    for (ms, name) in [(20, "a"), (30, "b"), (40, "c")] {
        run_to(&mut reactor, &mut world, ms);
        assert_eq!(world.log().last().unwrap().0, name);
        assert_eq!((world.log.len() as u64, reactor[queue].running()), (ms / 10 - 1, 0));
        queue.resume_all(&mut reactor);
    }
}

#[test]
fn run_now_comes_beside_the_schedule_and_through_the_overrun_policy() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    let demand = Task::new("demand", Schedule::on_demand());
    let demand = queue.add(&mut reactor, demand, take(5)).unwrap();
    let timed = queue.add(&mut reactor, every("timed", 10), ok).unwrap();
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 4);
    assert!(queue.run_now(&mut reactor, demand) && queue.run_now(&mut reactor, timed));
    assert!(!queue.run_now(&mut reactor, demand), "one waits to begin");
    run_to(&mut reactor, &mut world, 6);
    assert!(!queue.run_now(&mut reactor, demand), "one runs");
    run_to(&mut reactor, &mut world, 15);
    assert!(queue.run_now(&mut reactor, demand));
    run_to(&mut reactor, &mut world, 16);
    assert_eq!(world.log(), [("demand", 4), ("timed", 4), ("timed", 10), ("demand", 15)]);
    assert_eq!(counts(&reactor, queue, "demand").skipped, 2);
}

#[test]
fn a_task_removed_in_its_own_run_or_by_another_leaves_nothing() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    let alive = Rc::new(());
    let own = alive.clone();
    queue
        .add(&mut reactor, every("own", 10), move |reactor, world: &mut World, run| {
            assert!(queue.remove(reactor, run.task()) && !queue.remove(reactor, run.task()));
            // The name is free, and what has it now is another task.
            queue.add(reactor, every("own", 7), ok).unwrap();
            assert_eq!(Rc::strong_count(&own), 4, "it runs yet");
            ok(reactor, world, run);
        })
        .unwrap();
    let [held, waiting] = [(); 2].map(|()| alive.clone());
    let task = every("held", 10).timeout(DAY).retry(Retry::new(3, MS));
    let task = queue.add(&mut reactor, task, move |reactor, world, run| {
        let _ = &held;
        hold(reactor, world, run);
    });
    let task = task.unwrap();
    let failing = every("failing", 10).retry(Retry::new(3, DAY));
    let failing = queue.add(&mut reactor, failing, move |_, _, run| {
        let _ = &waiting;
        run.fail("and waits for a day");
    });
    let failing = failing.unwrap();
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 15);
    assert!(queue.remove(&mut reactor, task) && queue.remove(&mut reactor, failing));
    assert_eq!(Rc::strong_count(&alive), 1, "callbacks are dropped at once");
    assert_eq!(world.log(), [("own", 10), ("held", 10)]);
    world.held.clear();
    run_to(&mut reactor, &mut world, 18);
    assert_eq!(world.log().last(), Some(&("own", 17)));
    let own = reactor[queue].find("own").unwrap();
    queue.remove(&mut reactor, own);
    assert_eq!((reactor[queue].timers(), reactor[queue].running()), (0, 0));
    assert_eq!((reactor[queue].len(), reactor.timers()), (0, 0));
    let outcomes: Vec<_> = reactor[queue].history().map(|run| run.outcome.clone()).collect();
    let failed = Outcome::Failed("and waits for a day".into());
    assert_eq!(outcomes, [Outcome::Removed, failed, Outcome::Removed, Outcome::Done]);
    reactor.run(&mut world).unwrap();
}

#[test]
fn another_schedule_counts_from_now_and_what_is_under_way_goes_on() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    let task = queue.add(&mut reactor, every("task", 10), take(8)).unwrap();
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 13);
    assert!(queue.set_schedule(&mut reactor, task, Schedule::every(20 * MS)));
    assert_eq!(reactor[queue].task(task).unwrap().next.unwrap().tick, 33);
    run_to(&mut reactor, &mut world, 40);
    queue.set_schedule(&mut reactor, task, Schedule::after(5 * MS));
    run_to(&mut reactor, &mut world, 50);
    assert!(queue.set_schedule(&mut reactor, task, Schedule::on_demand()));
    assert_eq!(reactor[queue].task(task).unwrap().next, None);
    reactor.run(&mut world).unwrap();
    assert_eq!(world.at(), [10, 33, 45]);
    assert_eq!(reactor[queue].timers(), 0);
}

#[test]
fn the_list_tells_what_comes_next_what_runs_and_what_came_last() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new().runs_max(2));
    queue.add(&mut reactor, every("a", 10), ok).unwrap();
    queue.add(&mut reactor, every("b", 20), hold).unwrap();
    queue.add(&mut reactor, every("c", 30), hold).unwrap();
    let line = line!() - 1;
    queue.add(&mut reactor, every("d", 30).priority(Priority::Low), hold).unwrap();
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 35);
    let list: Vec<Status> = reactor[queue].tasks().collect();
    let next: Vec<_> = list.iter().map(|task| (task.name, task.next.unwrap().tick)).collect();
    assert_eq!(next, [("a", 40), ("b", 40), ("c", 60), ("d", 60)]);
    let now: Vec<_> = list.iter().map(|task| (task.waiting, task.running)).collect();
    assert_eq!(now, [(1, 0), (0, 1), (0, 1), (1, 0)], "a came second to c at 30: c was due first");
    assert_eq!((list[0].last, list[1].last), (Some(&Outcome::Done), None));
    assert!(list[2].place.file().ends_with("tests/tasks.rs") && list[2].place.line() == line);
    let wall = waterwheel::timers::WallTime::MANUAL;
    assert_eq!(list[2].next.unwrap().wall, wall.plus_ms(60));
}

#[test]
fn the_history_keeps_the_latest_records_up_to_its_limit() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new().history_max(3));
    let none = open(&mut reactor, TaskQueue::new().history_max(0));
    let plain = open(&mut reactor, TaskQueue::new());
    for queue in [queue, none, plain] {
        queue.add(&mut reactor, every("task", 1), |_, _, run| run.ok()).unwrap();
    }
    run_to(&mut reactor, &mut World::default(), 1500);
    let kept: Vec<_> = reactor[queue].history().map(|record| record.ended.tick).collect();
    assert_eq!(kept, [1498, 1499, 1500]);
    assert_eq!(reactor[none].history().count(), 0);
    assert_eq!(reactor[plain].history().count(), 1000);
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
            seen.set((seen.get().0 + 1, run.due().tick));
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
fn a_name_is_taken_once_and_a_queue_has_its_limit() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new().tasks_max(2));
    let first = queue.add(&mut reactor, every("a", 10), ok).unwrap();
    let error = queue.add(&mut reactor, every("a", 20), ok).unwrap_err();
    assert_eq!(error, TaskError::Duplicate("a".into()));
    assert_eq!(error.to_string(), "there is a task \"a\" already");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::AlreadyExists);
    queue.add(&mut reactor, every("b", 10), ok).unwrap();
    assert_eq!(queue.add(&mut reactor, every("c", 1), ok), Err(TaskError::Full(2)));
    queue.remove(&mut reactor, first);
    queue.add(&mut reactor, every("a", 10), ok).unwrap();
}

#[test]
fn a_task_holds_the_loop_while_it_has_a_future_and_why_alive_tells_where_it_was_added() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    let mut world = World::default();
    reactor.run(&mut world).unwrap();
    assert_eq!(reactor.why_alive(), [], "a queue without tasks holds nothing");
    queue.add(&mut reactor, every("background", 10).unref(), ok).unwrap();
    queue.add(&mut reactor, Task::new("demand", Schedule::on_demand()), ok).unwrap();
    reactor.run(&mut world).unwrap();
    assert_eq!((reactor.why_alive(), world.log.len()), (vec![], 0));
    let task = queue.add(&mut reactor, once("once", 25), hold).unwrap();
    let why: Vec<_> = reactor.why_alive().iter().map(Alive::to_string).collect();
    let line = line!() - 2;
    assert_eq!(why, [format!("task \"once\" added at {}:{line}", file!())]);
    reactor.after(40 * MS, |_, world: &mut World| world.held.clear());
    reactor.run(&mut world).unwrap();
    let log = [("background", 10), ("background", 20), ("once", 25)];
    assert_eq!(world.log(), [&log[..], &[("background", 30), ("background", 40)]].concat());
    assert_eq!(reactor.why_alive(), []);
    assert!(!queue.unref(&mut reactor, task), "stale");

    let task = reactor[queue].find("background").unwrap();
    queue.reref(&mut reactor, task);
    assert_eq!(reactor.why_alive().len(), 1);
    assert!(reactor.unref(queue), "the queue as a whole");
    assert_eq!(reactor.why_alive(), []);
    reactor.reref(queue);
    assert!(reactor.is_alive());
    queue.unref(&mut reactor, task);
    assert!(!reactor.is_alive());
}

#[test]
fn what_a_run_defers_comes_before_the_next_run_and_each_is_a_callback_of_its_own() {
    let recorder = Recorder::new();
    let builder = Reactor::builder().clock(&ManualClock::new()).observer(recorder.observer());
    let mut reactor = builder.build().unwrap();
    let queue = open(&mut reactor, TaskQueue::new());
    let mut lines = Vec::new();
    for (name, priority) in [("low", Priority::Low), ("high", Priority::High)] {
        let defers = |reactor: &mut Context<World>, world: &mut World, run: Run| {
            reactor.defer(|_, world| world.log.push(("deferred".to_owned(), 0)));
            ok(reactor, world, run);
        };
        queue.add(&mut reactor, once(name, 10).priority(priority), defers).unwrap();
        lines.push(line!() - 1);
    }
    let mut world = World::default();
    reactor.run(&mut world).unwrap();
    assert_eq!(world.log(), [("high", 10), ("deferred", 0), ("low", 10), ("deferred", 0)]);
    let events = recorder.take();
    let runs = events.iter().filter(|event| event.kind == Kind::RunEnqueued);
    let runs: Vec<_> = runs.map(|event| (event.argument, event.place.line())).collect();
    assert_eq!(runs, [(0, lines[1]), (2, lines[0])]);
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
    assert!(reactor.remove(queue.raw()));
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
        queue.on_end(&mut reactor, move |reactor, _, _| _ = reactor.remove(queue.raw()));
        for name in ["a", "b"] {
            queue
                .add(&mut reactor, every(name, 10), move |reactor, world: &mut World, run| {
                    ok(reactor, world, run);
                    if by_run {
                        assert!(reactor.remove(queue.raw()));
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
                world.log.push((String::new(), run.due().tick));
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
        let task = every(name, 10).timeout(DAY).retry(Retry::new(9, DAY));
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
