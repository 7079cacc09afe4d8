//! A gate between callbacks: the loop stands there, and what happens meanwhile takes effect.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use support::{MS, ceiling};
use waterwheel::reactor::{
    Context, Interest, Kind, Options, PanicPolicy, Priority, Readiness, Recorder, Script, SourceId,
    Subject, VirtualSource, Waiting,
};
use waterwheel::timers::PacedClock;
use waterwheel::{Reactor, timers::ManualClock};

const LIMIT: Duration = Duration::from_secs(20);

type Log = Vec<&'static str>;

struct Lab {
    reactor: Reactor<Log>,
    script: Script,
    log: Log,
}

impl Lab {
    fn new(policy: PanicPolicy) -> Lab {
        let (script, clock) = (Script::new(), ManualClock::held());
        let builder = Reactor::builder().script(&script).clock(&clock).panic_policy(policy);
        Lab { reactor: builder.build().unwrap(), script, log: Vec::new() }
    }

    fn source(&mut self, name: &'static str, lane: Priority) -> SourceId<VirtualSource> {
        let options = Options { priority: lane, ..Options::default() };
        let said = move |_: &mut Context<Log>, log: &mut Log, _, _| log.push(name);
        self.reactor.register_with(VirtualSource, Interest::READABLE, options, said).unwrap()
    }

    fn turn(&mut self, ready: &[SourceId<VirtualSource>]) {
        self.script.report(ready.iter().map(|id| (id.raw(), Readiness::READABLE)));
        self.reactor.turn(&mut self.log, Some(Duration::ZERO)).unwrap();
    }
}

/// What is next each time, and what has run by then.
type Stops = Rc<RefCell<Vec<(Kind, Log)>>>;

fn watch(reactor: &mut Reactor<Log>) -> Stops {
    let stops = Stops::default();
    let seen = stops.clone();
    reactor.set_gate(move |reactor, log: &mut Log| {
        let (kind, _, _) = reactor.upcoming().expect("something is next");
        seen.borrow_mut().push((kind, log.clone()));
        true
    });
    stops
}

#[test]
fn gate_is_passed_before_each_callback_and_changes_no_order() {
    let run = |with_gate: bool| {
        let mut lab = Lab::new(PanicPolicy::Propagate);
        let act = |reactor: &mut Context<Log>, log: &mut Log, _, _| {
            log.push("a");
            reactor.enqueue(Priority::High, |_, log| log.push("high"));
            reactor.defer(|_, log| log.push("deferred"));
            reactor.after(Duration::ZERO, |_, log| log.push("timer"));
        };
        let a = lab.reactor.register(VirtualSource, Interest::READABLE, act).unwrap();
        let low = lab.source("low", Priority::Low);
        let b = lab.source("b", Priority::Normal);
        let stops = if with_gate { watch(&mut lab.reactor) } else { Stops::default() };
        lab.turn(&[low, a, b]);
        lab.turn(&[b]);
        (lab.log, stops.take())
    };
    let ((free, _), (stepped, stops)) = (run(false), run(true));
    assert_eq!(free, ["a", "deferred", "b", "low", "high", "b", "timer"]);
    assert_eq!(stepped, free);
    let source = Kind::RunSource;
    let kinds = [source, Kind::RunDeferred, source, source, Kind::RunEnqueued, source];
    let kinds = [&kinds[..], &[Kind::RunTimer]].concat();
    let expected = kinds.into_iter().enumerate().map(|(n, k)| (k, free[..n].to_vec()));
    assert_eq!(stops, expected.collect::<Vec<_>>());
}

/// R4: the gate comes before the entry leaves the queue.
#[test]
fn what_the_gate_removes_cancels_arms_or_defers_takes_effect_at_once() {
    let mut lab = Lab::new(PanicPolicy::Propagate);
    let a = lab.source("a", Priority::Normal);
    let b = lab.source("b", Priority::Normal);
    let timer = lab.reactor.after(Duration::ZERO, |_, log| log.push("timer"));
    lab.reactor.set_gate(move |reactor, log: &mut Log| {
        match reactor.upcoming() {
            Some((_, Subject::Source(id), _)) if id == a.raw() && log.is_empty() => {
                reactor.defer(|_, log| log.push("deferred at the gate"));
                log.push("gate");
            }
            Some((Kind::RunDeferred, ..)) => {
                reactor.remove(a);
                reactor.cancel(timer);
                reactor.after(Duration::ZERO, |_, log| log.push("armed at the gate"));
            }
            _ => {}
        }
        true
    });
    lab.turn(&[a, b]);
    // What is deferred at the gate runs after the event that is next.
    assert_eq!(lab.log, ["gate", "a", "deferred at the gate", "b"]);
    assert_eq!(lab.reactor.statistics().stale, 1, "the timer");
    lab.turn(&[]);
    assert_eq!(lab.log[4..], ["armed at the gate"]);
}

#[test]
fn stop_at_the_gate_completes_the_turn() {
    let mut lab = Lab::new(PanicPolicy::Propagate);
    lab.reactor.set_gate(|reactor, _| {
        reactor.stop();
        true
    });
    lab.reactor.defer(|_, log| log.push("one"));
    lab.reactor.enqueue(Priority::Low, |reactor, log| {
        log.push("two");
        reactor.enqueue(Priority::Low, |_, log| log.push("three"));
    });
    lab.reactor.run(&mut lab.log).unwrap();
    assert_eq!(lab.log, ["one", "two"]);
    lab.reactor.run(&mut lab.log).unwrap();
    assert_eq!(lab.log, ["one", "two", "three"]);
}

#[test]
fn gate_that_returns_false_is_gone_and_one_that_it_has_set_stays() {
    let mut lab = Lab::new(PanicPolicy::Propagate);
    for _ in 0..4 {
        lab.reactor.defer(|_, log| log.push("run"));
    }
    lab.reactor.set_gate(|reactor, log: &mut Log| {
        log.push("first");
        reactor.set_gate(|_, log: &mut Log| {
            log.push("second");
            false
        });
        true
    });
    lab.turn(&[]);
    assert_eq!(lab.log, ["first", "run", "second", "run", "run", "run"]);
}

#[test]
fn callback_that_panics_behind_the_gate_loses_nothing_by_either_policy() {
    for policy in [PanicPolicy::Propagate, PanicPolicy::Drop] {
        let mut lab = Lab::new(policy);
        let stops = watch(&mut lab.reactor);
        lab.reactor.defer(|_, log| log.push("before"));
        lab.reactor.defer(|_, _| std::panic::resume_unwind(Box::new("on purpose")));
        lab.reactor.defer(|_, log| log.push("after"));
        let turn = catch_unwind(AssertUnwindSafe(|| lab.turn(&[])));
        assert_eq!(turn.is_err(), policy == PanicPolicy::Propagate);
        lab.turn(&[]);
        assert_eq!(lab.log, ["before", "after"]);
        assert_eq!(stops.borrow().len(), 3, "the gate is still there");
    }
}

#[test]
fn gate_that_panics_is_gone_and_nothing_else_is() {
    for policy in [PanicPolicy::Propagate, PanicPolicy::Drop] {
        let mut lab = Lab::new(policy);
        let a = lab.source("a", Priority::Normal);
        lab.reactor.set_gate(|_, _| std::panic::resume_unwind(Box::new("on purpose")));
        let turn = catch_unwind(AssertUnwindSafe(|| lab.turn(&[a])));
        assert_eq!(turn.is_err(), policy == PanicPolicy::Propagate);
        lab.turn(&[]);
        assert_eq!(lab.log, ["a"]);
        assert!(lab.reactor.contains(a));
    }
}

#[test]
fn snapshot_at_the_gate_has_the_rest_of_the_batch() {
    let mut lab = Lab::new(PanicPolicy::Propagate);
    let a = lab.source("a", Priority::Normal);
    let low = lab.source("low", Priority::Low);
    let snapshots = Rc::new(RefCell::new(Vec::new()));
    let seen = snapshots.clone();
    lab.reactor.set_gate(move |reactor, _| {
        seen.borrow_mut().push(reactor.snapshot());
        true
    });
    lab.turn(&[a, low]);
    let [one, two] = &snapshots.borrow()[..] else { panic!("two callbacks") };
    assert_eq!((one.batch, two.batch), ([0, 1, 1], [0, 0, 1]));
    assert_eq!(one.lanes[1], [Waiting::Source(a.raw())]);
    assert_eq!((two.lanes[1].len(), &two.lanes[2][..]), (0, &[Waiting::Source(low.raw())][..]));
    assert_eq!(one.sources.len(), 2);
    assert!(one.sources[0].what.ends_with("VirtualSource"), "{}", one.sources[0].what);
}

/// An observer that comes in the middle of a callback has no end without a beginning.
#[test]
fn observer_may_come_and_go_while_a_callback_runs() {
    let mut lab = Lab::new(PanicPolicy::Propagate);
    let recorder = Recorder::new();
    let observer = recorder.clone();
    lab.reactor.defer(move |reactor, _| {
        assert!(!reactor.is_observed());
        assert_eq!(reactor.snapshot().sequence, 0);
        reactor.set_observer(Some(Box::new(observer.observer())));
    });
    lab.reactor.defer(|_, _| {});
    lab.reactor.defer(|reactor, _| drop(reactor.set_observer(None)));
    lab.reactor.defer(|_, _| {});
    lab.turn(&[]);
    let kinds: Vec<Kind> = recorder.take().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Kind::RunDeferred, Kind::Returned, Kind::RunDeferred]);
}

type Command = Box<dyn FnOnce(&mut Context<Log>, &mut Log) -> bool + Send>;

/// A thread stops the loop, looks into it, arms a timer there, and lets it go on.
#[test]
fn another_thread_steps_the_loop_through_the_gate() {
    let _ceiling = ceiling(LIMIT);
    let (tell, commands) = mpsc::channel::<Command>();
    let (at_gate, stopped) = mpsc::channel();
    let clock = PacedClock::new();
    let mut reactor = Reactor::<Log>::builder().paced(&clock).build().unwrap();
    for name in ["a", "b"] {
        reactor.enqueue(Priority::Normal, move |_, log| log.push(name));
    }
    let pace = clock.clone();
    reactor.set_gate(move |reactor, log| {
        pace.set_pace(0);
        if at_gate.send(log.clone()).is_ok() {
            while let Ok(command) = commands.recv() {
                if command(reactor, log) {
                    break;
                }
            }
        }
        pace.set_pace(PacedClock::REAL);
        true
    });
    let student = thread::spawn(move || {
        let mut seen = Vec::new();
        while let Ok(log) = stopped.recv() {
            if log == ["a"] {
                let arm: Command = Box::new(|reactor, _| {
                    let before = reactor.stamp();
                    reactor.after(2 * MS, |_, log| log.push("timer"));
                    assert_eq!(reactor.stamp(), before, "time stands still");
                    false
                });
                tell.send(arm).unwrap();
            }
            seen.push(log);
            tell.send(Box::new(|_, _| true)).unwrap();
        }
        seen
    });
    let mut log = Log::new();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["a", "b", "timer"]);
    drop(reactor);
    assert_eq!(student.join().unwrap(), [&[][..], &["a"][..], &["a", "b"][..]]);
}

#[test]
fn slow_motion_is_never_early_and_does_not_spin() {
    let _ceiling = ceiling(LIMIT);
    for per_mille in [1000, 500, 100, 20] {
        let clock = PacedClock::new();
        clock.set_pace(per_mille);
        let mut reactor = Reactor::<()>::builder().paced(&clock).build().unwrap();
        let (real, shown) = (Instant::now(), clock.now());
        reactor.after(5 * MS, |_, _| {});
        reactor.run(&mut ()).unwrap();
        assert!(clock.now() - shown >= 5 * MS);
        assert!(real.elapsed() >= 5 * MS * 1000 / per_mille, "{per_mille}: {:?}", real.elapsed());
        assert!(reactor.statistics().turns <= 2, "{per_mille}: {:?}", reactor.statistics());
    }
}

#[test]
fn time_does_not_jump_when_its_pace_changes_and_never_goes_back() {
    let clock = PacedClock::new();
    let (began, mut last) = (Instant::now(), clock.now());
    for round in 0..10_000u32 {
        let now = clock.now();
        assert!(now >= last && now - last <= began.elapsed(), "round {round}");
        last = now;
        clock.set_pace([1000, 10, 0, 1, 999][round as usize % 5]);
    }
    clock.set_pace(u32::MAX);
    assert_eq!(clock.pace(), PacedClock::REAL, "no faster than real time");
    clock.set_pace(0);
    let stands = clock.now();
    let elsewhere = clock.clone();
    assert_eq!(thread::spawn(move || elsewhere.now()).join().unwrap(), stands);
}

#[test]
fn time_goes_forward_for_a_thread_while_another_changes_its_pace() {
    let clock = PacedClock::new();
    let (changes, began) = (clock.clone(), Instant::now());
    thread::scope(|scope| {
        let changing = scope.spawn(move || {
            (0..20_000usize).for_each(|round| changes.set_pace([1000, 0, 500][round % 3]));
        });
        let mut last = clock.now();
        while !changing.is_finished() {
            let now = clock.now();
            assert!(now >= last, "back by {:?}", last - now);
            last = now;
        }
        assert!(last - began <= began.elapsed());
    });
}

/// A loop that stands still sleeps for ever, and is told when time goes on.
#[test]
fn loop_asleep_at_pace_zero_wakes_by_a_remote_and_calls_nobody() {
    let _ceiling = ceiling(LIMIT);
    let clock = PacedClock::new();
    clock.set_pace(0);
    let mut reactor = Reactor::<bool>::builder().paced(&clock).build().unwrap();
    reactor.after(MS, |_, fired| *fired = true);
    let mut fired = false;
    assert_eq!(reactor.next_wait(), None, "no deadline comes up");
    let remote = reactor.remote_unheld();
    let waker = remote.clone();
    let waker = thread::spawn(move || waker.wake());
    assert_eq!(reactor.turn(&mut fired, None).unwrap(), 0);
    waker.join().unwrap();
    assert!(!fired);
    let pace = thread::spawn(move || {
        clock.set_pace(PacedClock::REAL);
        remote.wake();
    });
    reactor.run(&mut fired).unwrap();
    pace.join().unwrap();
    assert!(fired);
    assert!(reactor.statistics().turns <= 5, "{:?}", reactor.statistics());
}
