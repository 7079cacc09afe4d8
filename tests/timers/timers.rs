//! Timers as callbacks see them: on a clock that is moved by hand, and a few on the real one.

use std::thread;
use std::time::{Duration, Instant};

use support::{MS, Rng, ceiling, kinds};
use waterwheel::reactor::{
    BURST_MAX, Context, Interest, Kind, Missed, Readiness, Recorder, Script, TIMERS_PER_TURN,
    VirtualSource,
};
use waterwheel::timers::{ManualClock, TICK, TimerId};
use waterwheel::{Reactor, SourceId};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the callbacks of a test share.
#[derive(Default)]
struct World {
    ids: Vec<TimerId>,
    /// What ran, and in which millisecond.
    log: Vec<(&'static str, u64)>,
}

fn log(name: &'static str) -> impl FnMut(&mut Context<World>, &mut World) {
    move |reactor, world| world.log.push((name, reactor.tick().count()))
}

fn on<S>(clock: &ManualClock) -> Reactor<S> {
    Reactor::builder().clock(clock).build().unwrap()
}

/// A reactor whose poller reports what a script says, with one source that logs what it is called
/// for and, when there is data, puts its deadline off by 100 ms.
fn scripted(clock: &ManualClock) -> (Reactor<World>, Script, SourceId<VirtualSource>, Recorder) {
    let (script, recorder) = (Script::new(), Recorder::new());
    let builder = Reactor::builder().clock(clock).script(&script).observer(recorder.observer());
    let mut reactor = builder.build().unwrap();
    let source =
        reactor.register(VirtualSource, Interest::READABLE, |reactor, world, id, ready| {
            log(if ready.is_readable() { "data" } else { "timeout" })(reactor, world);
            if ready.is_readable() {
                let deadline = reactor.tick_after(100 * MS);
                reactor.set_deadline(id, Some(deadline));
            }
        });
    let source = source.unwrap();
    reactor.unref(source);
    (reactor, script, source, recorder)
}

#[test]
fn a_repeating_timer_may_begin_at_once_and_keeps_its_grid_from_there() {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Vec<(&str, u64)>>::builder().clock(&clock).build().unwrap();
    reactor.after(7 * MS, |reactor, log: &mut Vec<(&str, u64)>| {
        let turn = reactor.statistics().turns;
        let beat = reactor.every_now(10 * MS, Missed::Skip, move |reactor, log, occurrence| {
            assert!(reactor.statistics().turns > turn, "never in the call that arms it");
            log.push(("beat", reactor.tick().count()));
            assert_eq!((occurrence.deadline, occurrence.missed), (reactor.now(), 0));
            if log.len() == 4 {
                assert!(reactor.cancel(occurrence.timer));
            }
        });
        assert!(reactor.time_left(beat).is_some_and(|left| left.is_zero()));
        log.push(("armed", reactor.tick().count()));
    });
    let mut log = Vec::new();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, [("armed", 7), ("beat", 7), ("beat", 17), ("beat", 27)]);
    // Cancelled before it has run, it never does.
    let never = reactor.every_now(MS, Missed::Burst, |_, _, _| unreachable!());
    assert!(reactor.cancel(never));
    reactor.run(&mut log).unwrap();
}

#[test]
fn held_clock_waits_no_longer_than_was_asked_and_fires_nothing() {
    let _ceiling = ceiling(Duration::from_secs(10));
    let mut reactor = Reactor::builder().clock(&ManualClock::held()).build().unwrap();
    reactor.after(MS, |_, fired: &mut bool| *fired = true);
    let mut fired = false;
    reactor.turn(&mut fired, Some(20 * MS)).unwrap();
    assert!(!fired, "time stands still");
}

#[test]
fn every_random_delay_ends_within_a_tick_after_its_deadline() {
    let (clock, mut rng) = (ManualClock::new(), Rng::new());
    let mut reactor: Reactor<Vec<Instant>> = on(&clock);
    for number in 0..10_000 {
        clock.advance(Duration::from_nanos(rng.below(999_983)));
        let delay = 10 * SECOND + Duration::from_nanos(rng.next() >> (20 + rng.below(40)));
        let deadline = clock.now() + delay;
        let check = move |reactor: &mut Context<_>, fired: &mut Vec<Instant>| {
            assert!(reactor.now() >= deadline, "early");
            assert!(reactor.now() < deadline + TICK, "late");
            fired.push(deadline);
        };
        if number % 2 == 0 {
            reactor.after(delay, check)
        } else {
            reactor.at(deadline, check)
        };
    }
    let mut fired = Vec::new();
    reactor.run(&mut fired).unwrap();
    assert_eq!(fired.len(), 10_000);
    assert!(fired.is_sorted_by(|a, b| *a < *b + TICK), "deadlines in one tick have no order");
    assert!(reactor.statistics().turns <= 10_000);
}

#[test]
fn equal_deadlines_run_in_arming_order_and_an_earlier_one_before_them() {
    let mut reactor = on(&ManualClock::new());
    let mut world = World::default();
    let deadline = reactor.now() + 5 * MS;
    reactor.at(deadline, log("at"));
    world.ids.push(reactor.every(5 * MS, Missed::Skip, |reactor, world: &mut World, _| {
        log("every")(reactor, world);
        reactor.cancel(world.ids[0]);
    }));
    let moved = reactor.after(MS, log("re-armed"));
    reactor.after(5 * MS, log("after"));
    reactor.rearm(moved, 5 * MS);
    reactor.after(3 * MS, log("earlier"));
    reactor.run(&mut world).unwrap();
    let order = [("earlier", 3), ("at", 5), ("every", 5), ("after", 5), ("re-armed", 5)];
    assert_eq!(world.log, order);
}

#[test]
fn repeating_timer_cancelled_in_its_own_callback_stops() {
    let mut reactor = on(&ManualClock::new());
    let mut world = World::default();
    world.ids.push(reactor.every(10 * MS, Missed::Burst, |reactor, world: &mut World, _| {
        log("tick")(reactor, world);
        if world.log.len() == 3 {
            assert!(reactor.cancel(world.ids[0]));
            assert!(!reactor.cancel(world.ids[0]) && !reactor.rearm(world.ids[0], MS));
        }
    }));
    reactor.run(&mut world).unwrap();
    assert_eq!(world.log, [("tick", 10), ("tick", 20), ("tick", 30)]);
    assert_eq!(reactor.timers(), 0);
}

#[test]
fn timer_cancelled_in_the_turn_in_which_it_expires_does_not_run() {
    let recorder = Recorder::new();
    let builder = Reactor::builder().clock(&ManualClock::new()).observer(recorder.observer());
    let mut reactor = builder.build().unwrap();
    reactor.after(5 * MS, |reactor, world: &mut World| assert!(reactor.cancel(world.ids[0])));
    let victim = reactor.after(5 * MS, log("cancelled"));
    let mut world = World { ids: vec![victim], ..World::default() };
    recorder.take();
    reactor.run(&mut world).unwrap();
    let both = [Kind::Turn, Kind::Expired, Kind::Expired];
    let first = [Kind::RunTimer, Kind::Cancelled, Kind::Stale];
    assert_eq!(kinds(&recorder), [both, first].concat());
    assert_eq!((world.log.len(), reactor.statistics().stale), (0, 1));
}

#[test]
fn timer_re_armed_in_its_own_callback_runs_earlier_later_and_at_once_in_the_next_turn() {
    let mut reactor = on(&ManualClock::new());
    let mut world = World::default();
    world.ids.push(reactor.every(100 * MS, Missed::Skip, |reactor, world: &mut World, _| {
        log("run")(reactor, world);
        // What is put off wakes the loop once for nothing: at 210, its deadline before that.
        let turn = [1, 2, 3, 5, 6][world.log.len() - 1];
        assert_eq!(reactor.statistics().turns, turn);
        match world.log.len() {
            1 => assert!(reactor.rearm(world.ids[0], 10 * MS)),
            2 => assert!(reactor.rearm(world.ids[0], Duration::ZERO)),
            3 => assert!(reactor.rearm(world.ids[0], 500 * MS)),
            5 => assert!(reactor.cancel(world.ids[0])),
            _ => {}
        }
    }));
    reactor.run(&mut world).unwrap();
    assert_eq!(world.log.iter().map(|run| run.1).collect::<Vec<_>>(), [100, 110, 110, 610, 710]);
}

#[test]
fn timer_re_armed_by_another_waits_for_its_new_deadline() {
    let mut reactor = on(&ManualClock::new());
    reactor.after(50 * MS, |reactor, world: &mut World| {
        for (id, delay) in world.ids.iter().zip([Duration::ZERO, 30 * MS, Duration::ZERO, 20 * MS])
        {
            assert!(reactor.rearm(*id, delay));
        }
        log("first")(reactor, world);
        reactor.defer(|reactor, world| world.log.push(("turn", reactor.statistics().turns)));
    });
    let delays = [50, 50, 1000, 1000].map(|delay| delay * MS);
    let names = ["due, to now", "due, to later", "far, to now", "far, to earlier"];
    let ids = delays.into_iter().zip(names).map(|(delay, name)| reactor.after(delay, log(name)));
    let mut world = World { ids: ids.collect(), ..World::default() };
    reactor.run(&mut world).unwrap();
    let expected = [
        ("first", 50),
        ("turn", 1),
        ("due, to now", 50),
        ("far, to now", 50),
        ("far, to earlier", 70),
        ("due, to later", 80),
    ];
    assert_eq!(world.log, expected);
    assert_eq!((reactor.statistics().stale, reactor.statistics().turns), (2, 4));
}

#[test]
fn zero_delay_timer_that_re_arms_itself_keeps_nobody_from_its_data() {
    fn again(reactor: &mut Context<World>, world: &mut World) {
        log("again")(reactor, world);
        match world.log.iter().filter(|run| run.0 == "data").count() {
            3 => reactor.stop(),
            _ => _ = reactor.after(Duration::ZERO, again),
        }
    }
    let (mut reactor, script, source, _) = scripted(&ManualClock::new());
    reactor.after(Duration::ZERO, again);
    for turn in 0..30 {
        script.report((turn % 10 == 9).then_some((source.raw(), Readiness::READABLE)));
    }
    let mut world = World::default();
    reactor.run(&mut world).unwrap();
    let expected = (0..3).flat_map(|_| [["again"; 9].as_slice(), &["data", "again"]].concat());
    assert!(world.log.iter().map(|run| run.0).eq(expected));
}

/// What an interval of a second is called for in 10,000 seconds, with the milliseconds at which it
/// began, if its callback takes `work` of the run's number.
fn occurrences(missed: Missed, work: fn(usize) -> u64) -> Vec<(u64, u64, u64)> {
    struct State(Vec<(u64, u64, u64)>, Option<TimerId>);
    let clock = ManualClock::new();
    let mut reactor = on(&clock);
    let origin = clock.now();
    let id = reactor.every(SECOND, missed, move |reactor, State(runs, id), occurrence| {
        assert!(occurrence.deadline <= reactor.now(), "early");
        let deadline = occurrence.deadline.duration_since(origin).as_millis() as u64;
        clock.advance(Duration::from_millis(work(runs.len())));
        runs.push((deadline, occurrence.missed, reactor.tick().count()));
        if clock.now() >= origin + 10_000 * SECOND {
            reactor.cancel(id.unwrap());
        }
    });
    let mut state = State(Vec::new(), Some(id));
    reactor.run(&mut state).unwrap();
    state.0
}

/// Callbacks of 2.5 s leave no gap: when each begins, and with it the second that has begun last.
fn back_to_back() -> impl Iterator<Item = (u64, u64)> {
    (1000..10_000_000).step_by(2500).map(|began| (began, began / 1000 * 1000))
}

/// Adds what lies between deadlines.
fn with_missed(deadlines: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64, u64)> {
    let mut last = 0;
    let missed = |(began, deadline)| {
        let missed = (deadline - last) / 1000 - 1;
        last = deadline;
        (deadline, missed, began)
    };
    deadlines.map(missed).collect()
}

#[test]
fn skip_runs_once_for_all_that_is_past_and_keeps_the_raster() {
    let runs = occurrences(Missed::Skip, |_| 2500);
    assert_eq!(runs, with_missed(back_to_back()));
    assert_eq!(runs.len(), 4000);
}

#[test]
fn burst_makes_up_for_each_until_it_is_a_hundred_behind() {
    let deadlines = back_to_back().zip(1..).map(|((began, second), number)| {
        (began, (number * 1000).max(second.saturating_sub((BURST_MAX - 1) * 1000)))
    });
    let runs = occurrences(Missed::Burst, |_| 2500);
    assert_eq!(runs, with_missed(deadlines));
    assert!(runs[..60].iter().all(|run| run.1 == 0) && runs[200..].iter().all(|run| run.1 > 0));
}

#[test]
fn delay_counts_from_the_start_of_the_last_run_and_misses_nothing() {
    let expected = back_to_back().map(|(began, _)| (began.max(2500) - 1500, 0, began));
    assert!(occurrences(Missed::Delay, |_| 2500).into_iter().eq(expected));
}

#[test]
fn intervals_do_not_drift_in_ten_thousand_runs() {
    for missed in [Missed::Skip, Missed::Burst, Missed::Delay] {
        let runs = occurrences(missed, |_| 300);
        assert!(runs.into_iter().eq((1..=10_000).map(|n| (n * 1000, 0, n * 1000))), "{missed:?}");
    }
}

#[test]
fn an_interval_that_was_late_now_and_then_is_back_on_its_raster() {
    let work = |run| if run % 7 == 0 { 2500 } else { 300 };
    let burst = occurrences(Missed::Burst, work);
    assert!(
        burst.len() > 9990 && (1..).zip(&burst).all(|(n, run)| (n * 1000, 0) == (run.0, run.1))
    );
    assert!(burst.iter().skip(6).step_by(7).all(|run| run.2 == run.0), "it has caught up");
    let skip = occurrences(Missed::Skip, work);
    assert!(skip.iter().all(|run| run.0 % 1000 == 0 && run.2 < run.0 + 1000));
    let last = skip.last().map(|run| run.0 / 1000);
    assert_eq!(Some(skip.len() as u64 + skip.iter().map(|run| run.1).sum::<u64>()), last);
}

#[test]
fn any_delay_is_taken_and_none_is_early() {
    let clock = ManualClock::new();
    clock.advance(Duration::from_nanos(1_234_567));
    let builder = Reactor::builder().clock(&clock).observer(Recorder::new().observer());
    let mut reactor: Reactor<Vec<Duration>> = builder.build().unwrap();
    clock.advance(Duration::from_nanos(300_001));
    let start = clock.now();
    let delays = [Duration::ZERO, Duration::from_nanos(1), 50 * DAY, 600 * YEAR];
    for delay in delays.into_iter().rev() {
        reactor.after(delay, move |reactor, fired| {
            let took = reactor.now() - start;
            assert!(delay <= took && took < delay + TICK, "{delay:?} took {took:?}");
            fired.push(delay);
        });
    }
    let endless = [
        reactor.after(Duration::MAX, |_, _| panic!("the end of time has come")),
        reactor.every(Duration::MAX, Missed::Burst, |_, _, _| panic!("twice")),
        reactor.after(DAY, |_, _| panic!("it was put off for ever")),
    ];
    assert!(reactor.rearm(endless[2], Duration::MAX));
    assert!(endless.into_iter().all(|id| reactor.unref(id)));
    let mut fired = Vec::new();
    reactor.run(&mut fired).unwrap();
    assert_eq!(fired, delays);
    assert!(reactor.timers() == 3 && reactor.next_wait().unwrap() > 1_000_000 * YEAR);
}

#[test]
fn zero_delay_means_the_next_turn_in_the_middle_of_a_tick_too() {
    let clock = ManualClock::held();
    let mut reactor = on(&clock);
    clock.advance(MS / 3);
    reactor.after(Duration::ZERO, log("zero"));
    let moved = reactor.after(DAY, log("moved"));
    reactor.rearm(moved, Duration::ZERO);
    let mut world = World::default();
    assert_eq!(reactor.next_wait(), Some(Duration::ZERO));
    reactor.turn(&mut world, Some(Duration::ZERO)).unwrap();
    assert_eq!(world.log, [("zero", 0), ("moved", 0)]);
}

#[test]
fn a_jump_of_forty_days_runs_exactly_what_is_due_oldest_first() {
    let (clock, mut rng) = (ManualClock::held(), Rng::new());
    let mut reactor: Reactor<Vec<u64>> = on(&clock);
    let mut due = Vec::new();
    for _ in 0..100_000 {
        let minute = rng.below(100 * 24 * 60);
        reactor.after(minute as u32 * 60 * SECOND, move |_, fired| fired.push(minute));
        due.extend((minute <= 40 * 24 * 60).then_some(minute));
    }
    due.sort_unstable();
    clock.advance(40 * DAY);
    let mut fired = Vec::new();
    while reactor.turn(&mut fired, Some(Duration::ZERO)).unwrap() > 0 {}
    assert_eq!(fired, due);
    assert_eq!(reactor.statistics().turns, due.len().div_ceil(TIMERS_PER_TURN) as u64 + 1);
    assert_eq!(reactor.timers(), 100_000 - due.len());
}

#[test]
fn a_crowd_of_timers_leaves_room_for_data_in_every_turn() {
    let clock = ManualClock::held();
    let (mut reactor, script, source, _) = scripted(&clock);
    for _ in 0..3 * TIMERS_PER_TURN {
        reactor.after(MS, log("timer"));
    }
    clock.advance(MS);
    (0..3).for_each(|_| script.report([(source.raw(), Readiness::READABLE)]));
    let mut world = World::default();
    reactor.run(&mut world).unwrap();
    assert_eq!(reactor.statistics().turns, 3);
    let data = world.log.iter().enumerate().filter(|(_, run)| run.0 == "data");
    assert!(data.map(|(at, _)| at).eq([0, 1, 2].map(|turn| turn * (TIMERS_PER_TURN + 1))));
}

#[test]
fn after_the_host_has_slept_data_comes_first_and_a_burst_is_capped() {
    let clock = ManualClock::held();
    let (mut reactor, script, source, _) = scripted(&clock);
    let start = clock.now();
    reactor.every(SECOND, Missed::Burst, move |reactor, world: &mut World, occurrence| {
        log("tick")(reactor, world);
        let runs = world.log.len() as u64 - 1;
        assert_eq!(occurrence.missed, if runs == 1 { 86_400 - BURST_MAX } else { 0 });
        let second = 86_400 - BURST_MAX + runs;
        assert_eq!(occurrence.deadline, start + second as u32 * SECOND);
    });
    reactor.set_deadline(source, Some(waterwheel::timers::Tick::new(10_000)));
    clock.advance(DAY);
    script.report([(source.raw(), Readiness::READABLE)]);
    let mut world = World::default();
    while reactor.turn(&mut world, Some(Duration::ZERO)).unwrap() > 0 {}
    assert_eq!(world.log[0].0, "data");
    assert_eq!(world.log[1..], [("tick", 86_400_000); BURST_MAX as usize]);
}

#[test]
fn a_day_forward_runs_each_due_timer_once_and_an_interval_once() {
    let clock = ManualClock::held();
    let mut reactor: Reactor<Vec<u64>> = on(&clock);
    for second in 1..=10 {
        reactor.after(second * SECOND, move |_, runs| runs.push(second.into()));
    }
    reactor.every(SECOND, Missed::Skip, |_, runs, occurrence| runs.push(occurrence.missed));
    clock.advance(DAY + 500 * MS);
    let mut runs = Vec::new();
    while reactor.turn(&mut runs, Some(Duration::ZERO)).unwrap() > 0 {}
    assert_eq!(runs, [1, 86_399, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(reactor.next_wait(), Some(500 * MS));
}

#[test]
fn data_beats_the_timeout_that_is_due_in_the_same_turn() {
    let clock = ManualClock::held();
    let (mut reactor, script, source, recorder) = scripted(&clock);
    reactor.set_deadline(source, Some(waterwheel::timers::Tick::new(100)));
    recorder.take();
    let mut world = World::default();
    clock.advance(100 * MS);
    script.report([(source.raw(), Readiness::READABLE)]);
    reactor.turn(&mut world, None).unwrap();
    let collected = [Kind::Turn, Kind::Ready, Kind::Expired];
    let dispatched = [Kind::RunSource, Kind::Rearmed, Kind::Stale];
    assert_eq!(kinds(&recorder), [&collected[..], &dispatched].concat());
    for _ in 0..2 {
        clock.advance(50 * MS - Duration::from_nanos(1));
        assert_eq!(reactor.turn(&mut world, Some(Duration::ZERO)).unwrap(), 0);
    }
    clock.advance(Duration::from_nanos(2));
    assert_eq!(reactor.turn(&mut world, None).unwrap(), 1);
    assert_eq!(world.log, [("data", 100), ("timeout", 200)]);
}

#[test]
fn an_interval_is_exact_at_any_uptime_beside_a_far_timer() {
    for uptime in [30, 32, 36, 40].map(|bits| Duration::from_millis(1 << bits)) {
        let clock = ManualClock::new();
        let mut reactor: Reactor<u64> = on(&clock);
        clock.advance(uptime - 1000 * SECOND);
        let start = clock.now();
        for far in [30 * DAY, 2 * YEAR, 100 * YEAR, Duration::MAX] {
            reactor.after(far, |_, _| panic!("far timer ran"));
        }
        reactor.every(333 * MS, Missed::Skip, move |reactor, runs, occurrence| {
            *runs += 1;
            assert_eq!(reactor.now(), start + *runs as u32 * 333 * MS);
            assert_eq!(occurrence.deadline, reactor.now());
            if *runs == 6000 {
                reactor.stop();
            }
        });
        let mut runs = 0;
        reactor.run(&mut runs).unwrap();
        assert_eq!((runs, reactor.statistics().turns), (6000, 6000), "uptime {uptime:?}");
    }
}

#[test]
fn a_wait_of_centuries_is_one_wait() {
    let _ceiling = ceiling(20 * SECOND);
    for delay in [25 * DAY, 50 * DAY, 600 * YEAR, Duration::MAX] {
        let mut reactor = Reactor::new().unwrap();
        reactor.after(delay, |_, ()| panic!("a far timer ran"));
        let remote = reactor.remote();
        let other = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            reactor.after(30 * MS, move |_, ()| remote.stop().unwrap());
            reactor.run(&mut ()).unwrap();
        });
        reactor.run(&mut ()).unwrap();
        other.join().unwrap();
        assert!(reactor.statistics().turns <= 2, "{delay:?}: {:?}", reactor.statistics());
    }
}

#[test]
fn no_delay_is_early_by_the_real_clock() {
    let _ceiling = ceiling(20 * SECOND);
    let mut rng = Rng::new();
    let mut reactor = Reactor::new().unwrap();
    for _ in 0..200 {
        let [delay, next] = [(); 2].map(|()| Duration::from_nanos(rng.below(30_000_000)));
        let armed = Instant::now();
        reactor.after(delay, move |reactor, _| {
            assert!(armed.elapsed() >= delay, "early");
            let armed = reactor.now();
            reactor.after(next, move |reactor, fired: &mut u32| {
                assert!(armed.elapsed() >= next && reactor.now() >= armed + next, "early");
                *fired += 1;
            });
        });
    }
    let mut fired = 0;
    reactor.run(&mut fired).unwrap();
    assert_eq!(fired, 200);
}

#[test]
fn the_loop_turns_at_most_twice_for_each_expiry_by_the_real_clock() {
    fn next(reactor: &mut Context<(Rng, u32)>, (rng, left): &mut (Rng, u32)) {
        *left -= 1;
        if *left > 0 {
            reactor.after(Duration::from_nanos(rng.below(3_000_000)), next);
        }
    }
    let _ceiling = ceiling(20 * SECOND);
    let mut reactor = Reactor::new().unwrap();
    reactor.after(MS, next);
    reactor.run(&mut (Rng::new(), 200)).unwrap();
    let statistics = reactor.statistics();
    assert_eq!(statistics.callbacks, 200);
    assert!(statistics.turns <= 2 * 200, "{statistics:?}");
}
