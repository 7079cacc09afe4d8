//! The task queue on the manual clock: what runs, when, in which order, and who holds the loop.

use std::cell::Cell;
use std::rc::Rc;

use support::MS;
use support::tasks::{DAY, World, counts, every, history, hold, ok, on, once, open, run_to, take};
use waterwheel::Reactor;
use waterwheel::patterns::Backoff;
use waterwheel::patterns::tasks::{
    Outcome, Overrun, Run, Schedule, Status, Task, TaskError, TaskQueue,
};
use waterwheel::reactor::{Alive, Context, Kind, Priority, Recorder};
use waterwheel::timers::{ManualClock, WallTime};

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
    let task = every("held", 10).timeout(DAY).retry(Backoff::new(3).first(MS));
    let task = queue.add(&mut reactor, task, move |reactor, world, run| {
        let _ = &held;
        hold(reactor, world, run);
    });
    let task = task.unwrap();
    let failing = every("failing", 10).retry(Backoff::new(3).first(DAY));
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
    assert_eq!(reactor[queue].task(task).unwrap().next.unwrap().tick.count(), 33);
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
    let next: Vec<_> =
        list.iter().map(|task| (task.name, task.next.unwrap().tick.count())).collect();
    assert_eq!(next, [("a", 40), ("b", 40), ("c", 60), ("d", 60)]);
    let now: Vec<_> = list.iter().map(|task| (task.waiting, task.running)).collect();
    assert_eq!(now, [(1, 0), (0, 1), (0, 1), (1, 0)], "a came second to c at 30: c was due first");
    assert_eq!((list[0].last, list[1].last), (Some(&Outcome::Done), None));
    assert!(
        list[2].place.file().ends_with("tests/patterns/tasks.rs") && list[2].place.line() == line
    );
    let wall = WallTime::MANUAL;
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
    let kept: Vec<_> = reactor[queue].history().map(|record| record.ended.tick.count()).collect();
    assert_eq!(kept, [1498, 1499, 1500]);
    assert_eq!(reactor[none].history().count(), 0);
    assert_eq!(reactor[plain].history().count(), 1000);
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
fn a_record_carries_the_time_of_the_system_and_a_turn_has_one_time() {
    let mut reactor = Reactor::new().unwrap();
    let queue = open(&mut reactor, TaskQueue::new());
    queue.add(&mut reactor, once("now", 1), ok).unwrap();
    let before = WallTime::from(std::time::SystemTime::now());
    reactor.run(&mut World::default()).unwrap();
    let after = WallTime::from(std::time::SystemTime::now());
    let record = reactor[queue].history().next().unwrap();
    let walls = [before.plus_ms(-1), record.started.wall, record.ended.wall, after];
    assert!(walls.is_sorted(), "{walls:?}");

    let clock = ManualClock::new();
    let mut reactor = on(&clock);
    reactor.after(10 * MS, move |reactor, _| {
        let before = (reactor.now(), reactor.wall());
        clock.advance(DAY);
        assert_eq!((reactor.now(), reactor.wall()), before);
    });
    reactor.run(&mut World::default()).unwrap();
    assert_eq!(reactor.wall(), WallTime::MANUAL.plus_ms(10 + DAY.as_millis() as i64));
}

#[test]
fn run_that_was_planned_before_keeps_its_due_time_and_counts_its_attempts_on() {
    let mut reactor = on(&ManualClock::new());
    let queue = open(&mut reactor, TaskQueue::new());
    let task = Task::new("again", Schedule::on_demand()).retry(Backoff::new(3).jitter_percent(0));
    let seen = Rc::new(Cell::new((WallTime::MANUAL, 0)));
    let noted = seen.clone();
    let task = queue.add(&mut reactor, task, move |_, _: &mut World, run: Run| {
        noted.set((run.due().wall, run.attempt()));
        run.fail("no");
    });
    let (task, due) = (task.unwrap(), WallTime::MANUAL.plus_ms(-5000));
    assert!(queue.run_again(&mut reactor, task, due, 2));
    assert!(!queue.run_again(&mut reactor, task, due, 2), "one is under way");
    let mut world = World::default();
    run_to(&mut reactor, &mut world, 1000);
    assert_eq!(seen.get(), (due, 3), "the second of two attempts that were left");
    let attempts: Vec<_> =
        reactor[queue].history().map(|run| (run.due.wall, run.attempt)).collect();
    assert_eq!(attempts, [(due, 2), (due, 3)]);
    assert!(queue.remove(&mut reactor, task) && !queue.run_again(&mut reactor, task, due, 1));
}
