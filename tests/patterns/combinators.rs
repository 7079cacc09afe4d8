//! Promises together: all, race, any, against the clock, and again and again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use support::MS;
use support::promises::{Log, Said, lab, pending, run, tell, turn};
use waterwheel::patterns::{Backoff, Promise};
use waterwheel::reactor::{Context, DEFERRED_PER_TURN, PanicPolicy, Priority, Reactor};
use waterwheel::timers::ManualClock;

#[test]
fn all_gives_the_values_in_the_order_of_the_promises_whatever_order_they_come_in() {
    let mut reactor = lab();
    let all = [30, 10, 20].map(|ms| {
        let pause: Said<()> = reactor.delay(ms * MS);
        pause.then(&mut reactor, move |_, log: &mut Log, ()| {
            log.push(format!("after {ms}"));
            Ok(ms)
        })
    });
    let all = Promise::all(&mut reactor, all);
    tell(&mut reactor, all);
    assert_eq!(run(&mut reactor), ["after 10", "after 20", "after 30", "[30, 10, 20]"]);
}

#[test]
fn all_is_rejected_by_the_first_error_and_cancels_the_rest() {
    let mut reactor = lab();
    let slow: Said<()> = reactor.delay(10_000 * MS);
    let soon: Said<()> = reactor.delay(MS);
    let soon = soon.then(&mut reactor, |_, _, ()| Err("early".into()));
    let all = Promise::all(&mut reactor, [slow, soon]);
    all.catch(&mut reactor, |reactor, log, error| {
        log.push(format!("{error}, {} timers", reactor.timers()));
        Ok(Vec::new())
    });
    assert_eq!(run(&mut reactor), ["early, 0 timers"]);
}

#[test]
fn all_settled_waits_for_each() {
    let mut reactor = lab();
    let all = [
        Promise::rejected(&mut reactor, "one".into()),
        Promise::resolved(&mut reactor, 2),
        pending(&mut reactor).0,
    ];
    let all = Promise::all_settled(&mut reactor, all);
    all.then(&mut reactor, |_, log, results| {
        log.push(format!("{:?}", &results[..2]));
        log.push(results[2].clone().unwrap_err());
    });
    let log = run(&mut reactor);
    assert_eq!(log[0], "[Err(\"one\"), Ok(2)]");
    assert!(log[1].ends_with("was abandoned"));
}

#[test]
fn race_settles_with_the_first_and_cancels_the_timers_of_the_losers() {
    let mut reactor = lab();
    let racers = [3000, 1, 2000].map(|ms| {
        let pause: Said<()> = reactor.delay(ms * MS);
        pause.then(&mut reactor, move |_, _, ()| Ok(ms))
    });
    let race = Promise::race(&mut reactor, racers);
    race.then(&mut reactor, |reactor, log, ms| log.push(format!("{ms}: {}", reactor.timers())));
    assert_eq!(run(&mut reactor), ["1: 0"]);
}

#[test]
fn race_is_decided_by_the_order_of_settling_not_of_the_list() {
    let mut reactor = lab();
    let (one, first) = pending(&mut reactor);
    let (two, second) = pending(&mut reactor);
    let race = Promise::race(&mut reactor, [one, two]);
    tell(&mut reactor, race);
    second.reject(&mut reactor, "second".into());
    first.resolve(&mut reactor, 1);
    assert_eq!(run(&mut reactor), ["error: second"]);
}

#[test]
fn any_gives_the_first_value_or_all_errors_in_the_order_of_the_promises() {
    let mut reactor = lab();
    let slow = |reactor: &mut Context<Log>, ms, result: Result<u32, String>| {
        let pause: Said<()> = reactor.delay(ms * MS);
        pause.then(reactor, move |_, _, ()| result)
    };
    let no = || Err("no".to_owned());
    let some = [(1, no()), (2, Ok(2)), (9, Ok(9))].map(|(ms, r)| slow(&mut reactor, ms, r));
    let some = Promise::any(&mut reactor, some).map_err(&mut reactor, |errors| errors.concat());
    some.then(&mut reactor, |reactor, log, n| log.push(format!("{n}: {}", reactor.timers())));
    assert_eq!(run(&mut reactor), ["2: 0"]);
    let none =
        [(3, Err("a".into())), (1, Err("b".into()))].map(|(ms, r)| slow(&mut reactor, ms, r));
    let none = Promise::any(&mut reactor, none).map_err(&mut reactor, |errors| errors.concat());
    tell(&mut reactor, none);
    assert_eq!(run(&mut reactor), ["error: ab"]);
}

#[test]
fn combinators_of_nothing_settle_too() {
    let mut reactor = lab();
    let all = Promise::all(&mut reactor, Vec::<Said<()>>::new());
    tell(&mut reactor, all);
    let all = Promise::all_settled(&mut reactor, Vec::<Said<()>>::new());
    tell(&mut reactor, all);
    let any = Promise::any(&mut reactor, Vec::<Said<()>>::new());
    let any = any.map_err(&mut reactor, |errors| format!("{} errors", errors.len()));
    tell(&mut reactor, any);
    let race = Promise::race(&mut reactor, Vec::<Said<()>>::new());
    tell(&mut reactor, race);
    let log = run(&mut reactor);
    assert!(log.len() == 4 && log.contains(&"error: 0 errors".into()), "{log:?}");
    assert_eq!(log.iter().filter(|line| *line == "[]").count(), 2);
    assert_eq!(log.iter().filter(|line| line.ends_with("was abandoned")).count(), 1);
}

#[test]
fn a_losers_hook_that_panics_does_not_take_the_winner_along() {
    let builder = Reactor::builder().clock(&ManualClock::new()).panic_policy(PanicPolicy::Drop);
    let mut reactor = builder.build().unwrap();
    let (first, winner) = pending(&mut reactor);
    let (loser, _held) = pending(&mut reactor);
    let loser = loser.on_cancel(|_| panic!("hook"));
    let race = Promise::race(&mut reactor, [first, loser]);
    tell(&mut reactor, race);
    winner.resolve(&mut reactor, 1);
    assert_eq!(run(&mut reactor), ["1"]);
    assert_eq!(reactor.statistics().panicked, 1);
}

#[test]
fn timeout_rejects_what_is_pending_cancels_it_and_leaves_no_timer() {
    let mut reactor = lab();
    let pause: Said<()> = reactor.delay(1000 * MS);
    let late = pause.timeout(&mut reactor, 10 * MS);
    let line = line!() - 1;
    let start = reactor.now();
    late.catch(&mut reactor, move |reactor, log, error| {
        log.push(format!("{error}, {:?}, {}", reactor.now() - start, reactor.timers()));
    });
    let told = format!("timed out at tests/patterns/combinators.rs:{line}, 10ms, 0");
    assert_eq!(run(&mut reactor), [told]);
}

#[test]
fn timeout_passes_on_what_is_in_time_and_leaves_no_timer() {
    let mut reactor = lab();
    let pause: Said<()> = reactor.delay(10 * MS);
    let early = pause.timeout(&mut reactor, 1000 * MS);
    early.then(&mut reactor, |reactor, log, ()| log.push(format!("{}", reactor.timers())));
    assert_eq!(run(&mut reactor), ["0"]);
}

#[test]
fn a_value_of_the_same_turn_beats_a_timeout_that_is_up() {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let (promise, resolver) = pending(&mut reactor);
    let promise = promise.timeout(&mut reactor, MS);
    tell(&mut reactor, promise);
    reactor.enqueue(Default::default(), |reactor, _| assert!(resolver.resolve(reactor, 1)));
    clock.advance(5 * MS);
    assert_eq!(run(&mut reactor), ["1"]);
}

#[test]
fn a_value_that_waits_for_the_next_turns_budget_is_not_timed_out() {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let (promise, resolver) = pending(&mut reactor);
    let promise = promise.timeout(&mut reactor, MS);
    tell(&mut reactor, promise);
    reactor.enqueue(Priority::High, |reactor, _| {
        for _ in 0..DEFERRED_PER_TURN {
            reactor.defer(|_, _| {});
        }
        assert!(resolver.resolve(reactor, 1));
    });
    clock.advance(5 * MS);
    assert_eq!(run(&mut reactor), ["1"]);
    assert_eq!(reactor.timers(), 0);
}

/// The first attempt and those after each pause, as (attempt, milliseconds since the start).
fn attempts(backoff: Backoff, fails: u32) -> (Vec<(u32, u128)>, Log) {
    let mut reactor = lab();
    let start = reactor.now();
    let made = Rc::new(RefCell::new(Vec::new()));
    let seen = made.clone();
    let end = Promise::retry(&mut reactor, backoff, move |reactor, _, attempt| {
        seen.borrow_mut().push((attempt, (reactor.now() - start).as_millis()));
        if attempt <= fails { Err(format!("attempt {attempt}")) } else { Ok(attempt) }
    });
    tell(&mut reactor, end);
    let log = run(&mut reactor);
    (made.take(), log)
}

#[test]
fn retry_waits_twice_as_long_each_time_up_to_the_longest_pause() {
    let backoff = || Backoff::new(6).jitter_percent(0).first(100 * MS).most(500 * MS);
    let (made, log) = attempts(backoff(), 4);
    assert_eq!(made, [(1, 0), (2, 100), (3, 300), (4, 700), (5, 1200)]);
    assert_eq!(log, ["5"]);
    let (made, log) = attempts(backoff(), 9);
    assert_eq!((made.len(), &*log), (6, &["error: attempt 6".to_owned()][..]));
}

#[test]
fn retry_with_a_seed_draws_the_same_pauses_each_time_from_the_upper_half() {
    let pauses = |seed| {
        let made = attempts(Backoff::new(8).first(1000 * MS).seed(seed), 9).0;
        made.windows(2).map(|pair| pair[1].1 - pair[0].1).collect::<Vec<_>>()
    };
    assert_eq!(pauses(1), pauses(1));
    assert_ne!(pauses(1), pauses(2));
    for seed in 0..50 {
        for (pause, asked) in pauses(seed).into_iter().zip([1, 2, 4, 8, 16, 30, 30]) {
            // Deadlines are rounded up to a tick.
            assert!((asked * 500..=asked * 1000 + 1).contains(&pause), "{seed}: {pause}");
        }
    }
}

#[test]
fn retry_makes_one_attempt_at_least() {
    assert_eq!(attempts(Backoff::new(0), 9), (vec![(1, 0)], vec!["error: attempt 1".into()]));
}

#[test]
fn retry_is_cancelled_before_its_first_attempt_in_one_and_in_a_pause() {
    for turns in 0..3 {
        let (mut reactor, mut log) = (lab(), Log::new());
        let end: Said<()> = Promise::retry(&mut reactor, Backoff::new(9), |reactor, log, _| {
            log.push("attempt".to_owned());
            let pause: Said<()> = reactor.delay(MS);
            pause.then(reactor, |_, _, ()| Err::<(), _>("no".to_owned()))
        });
        for _ in 0..turns {
            reactor.turn(&mut log, None).unwrap();
        }
        assert_eq!(reactor.timers(), usize::from(turns > 0));
        end.cancel(&mut reactor);
        assert_eq!(reactor.timers(), 0);
        reactor.run(&mut log).unwrap();
        assert_eq!(log.len(), usize::from(turns > 0), "{turns}");
    }
}

#[test]
fn an_attempt_that_cancels_the_retry_it_belongs_to_leaves_nothing_behind() {
    let mut reactor = lab();
    let end = Rc::new(Cell::new(None));
    let own = end.clone();
    end.set(Some(Promise::retry(&mut reactor, Backoff::new(9), move |reactor, log, attempt| {
        log.push(format!("attempt {attempt}"));
        if let Some(end) = own.take() {
            Said::<()>::cancel(end, reactor);
        }
        reactor.delay(MS)
    })));
    let mut log = Log::new();
    turn(&mut reactor, &mut log);
    assert_eq!((reactor.timers(), Rc::strong_count(&end)), (0, 1));
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["attempt 1"]);
}

#[test]
fn an_attempt_that_panics_ends_the_retry_as_abandoned() {
    let mut reactor = Reactor::builder().panic_policy(PanicPolicy::Drop).build().unwrap();
    let end: Said<()> = Promise::retry(&mut reactor, Backoff::new(9), |_, _, attempt| {
        if attempt > 0 { panic!("on purpose") } else { Ok(()) }
    });
    tell(&mut reactor, end);
    let log = run(&mut reactor);
    assert!(log.len() == 1 && log[0].ends_with("was abandoned"), "{log:?}");
}
