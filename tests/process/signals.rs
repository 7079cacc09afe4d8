//! Signals as events: merged, in order, to every loop, and never a reason to go on waiting.
#![cfg(unix)]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as Named};
use rustix::process::{Signal as Raw, getpid, kill_process};
use support::ceiling;
use support::clients::skip_without;
use support::tcp::{alone, alone_by, turn_until, turns};
use waterwheel::Reactor;
use waterwheel::process::{Signal, SignalId};
use waterwheel::reactor::{Alive, PanicPolicy};

const LIMIT: Duration = Duration::from_secs(60);

type Log = Vec<(&'static str, Signal)>;

fn send(signal: Signal) {
    kill_process(getpid(), Raw::from_named_raw(signal.as_raw()).unwrap()).unwrap();
}

/// Adds a handler that notes its name.
fn log(reactor: &mut Reactor<Log>, signal: Signal, name: &'static str) -> SignalId {
    reactor.on_signal(signal, move |_, log: &mut Log, signal| log.push((name, signal))).unwrap()
}

#[test]
fn signals_run_their_own_handlers_in_the_order_of_adding() {
    // Signals go to the whole process, so these tests have one each.
    if !alone("signals_run_their_own_handlers_in_the_order_of_adding") {
        return;
    }
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Log::new());
    log(&mut reactor, Signal::USR1, "a");
    log(&mut reactor, Signal::USR2, "other");
    log(&mut reactor, Signal::USR1, "b");
    log(&mut reactor, Signal::USR1, "c");
    send(Signal::USR1);
    turn_until(&mut reactor, &mut told, |_, told| told.len() == 3);
    let names: Vec<_> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(told.iter().all(|(_, signal)| *signal == Signal::USR1));
    send(Signal::USR2);
    turn_until(&mut reactor, &mut told, |_, told| told.len() == 4);
    turns(&mut reactor, &mut told, 5);
    assert_eq!(told[3..], [("other", Signal::USR2)]);
}

#[test]
fn signals_that_come_before_the_loop_looks_are_one() {
    if !alone("signals_that_come_before_the_loop_looks_are_one") {
        return;
    }
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Log::new());
    log(&mut reactor, Signal::USR1, "a");
    for _ in 0..10 {
        send(Signal::USR1);
    }
    turn_until(&mut reactor, &mut told, |_, told| !told.is_empty());
    turns(&mut reactor, &mut told, 5);
    assert_eq!(told.len(), 1);
    send(Signal::USR1);
    turn_until(&mut reactor, &mut told, |_, told| told.len() == 2);
}

#[test]
fn removed_handler_is_not_called_even_by_a_signal_that_has_come() {
    if !alone("removed_handler_is_not_called_even_by_a_signal_that_has_come") {
        return;
    }
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Log::new());
    let last = std::cell::Cell::new(None);
    let last = Rc::new(last);
    let remove = last.clone();
    let removes = move |reactor: &mut waterwheel::Context<Log>, log: &mut Log, signal| {
        log.push(("removes", signal));
        let last: Option<SignalId> = remove.get();
        assert!(last.is_some_and(|last| reactor.remove(last)));
    };
    let first = reactor.on_signal(Signal::USR1, removes).unwrap();
    last.set(Some(log(&mut reactor, Signal::USR1, "removed")));
    send(Signal::USR1);
    turn_until(&mut reactor, &mut told, |_, told| !told.is_empty());
    turns(&mut reactor, &mut told, 5);
    assert_eq!(told, [("removes", Signal::USR1)]);
    assert!(reactor.remove(first));
    send(Signal::USR1); // Nobody handles it any more, and it kills nobody.
    turns(&mut reactor, &mut told, 5);
    assert_eq!(told.len(), 1);
    log(&mut reactor, Signal::USR1, "new");
    send(Signal::USR1);
    turn_until(&mut reactor, &mut told, |_, told| told.len() > 1);
    assert_eq!(told[1], ("new", Signal::USR1));
}

#[test]
fn handler_added_by_a_handler_waits_for_the_next_signal() {
    if !alone("handler_added_by_a_handler_waits_for_the_next_signal") {
        return;
    }
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Log::new());
    let adds = |reactor: &mut waterwheel::Context<Log>, told: &mut Log, signal| {
        told.push(("adds", signal));
        reactor.on_signal(signal, |_, told, signal| told.push(("added", signal))).unwrap();
    };
    reactor.on_signal(Signal::USR1, adds).unwrap();
    send(Signal::USR1);
    turn_until(&mut reactor, &mut told, |_, told| !told.is_empty());
    turns(&mut reactor, &mut told, 5);
    assert_eq!(told.len(), 1);
    send(Signal::USR1);
    turn_until(&mut reactor, &mut told, |_, told| told.len() == 3);
    assert_eq!((told[1].0, told[2].0), ("adds", "added"));
}

#[test]
fn handler_holds_the_loop_only_if_it_is_told_to() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Log::new());
    let (id, line) = (log(&mut reactor, Signal::WINCH, "a"), line!());
    reactor.run(&mut told).unwrap(); // Returns.
    assert!(reactor.why_alive().is_empty());
    assert!(reactor.reref(id));
    let [Alive::Source(source, _)] = reactor.why_alive()[..] else { panic!("{reactor:?}") };
    assert_eq!((source, reactor[id].signal()), (id.raw(), Signal::WINCH));
    assert!(reactor.why_alive()[0].to_string().contains("tests/process/signals.rs:"), "{line}");
    reactor.remove(id);
    reactor.run(&mut told).unwrap();
}

#[test]
fn every_loop_of_the_process_is_told() {
    if !alone("every_loop_of_the_process_is_told") {
        return;
    }
    let mut loops: Vec<_> = (0..3).map(|_| (Reactor::new().unwrap(), Log::new())).collect();
    for (reactor, _) in &mut loops {
        log(reactor, Signal::USR1, "a");
    }
    send(Signal::USR1);
    for (reactor, told) in &mut loops {
        turn_until(reactor, told, |_, told| told.len() == 1);
    }
    loops.remove(0);
    send(Signal::USR1);
    for (reactor, told) in &mut loops {
        turn_until(reactor, told, |_, told| told.len() == 2);
    }
}

#[test]
fn signals_that_cannot_be_handled_are_refused_with_the_reason() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let cases = [
        (Signal::KILL, "cannot handle SIGKILL: no process can"),
        (Signal::STOP, "cannot handle SIGSTOP: no process can"),
        (
            Signal::from_raw(Raw::SEGV.as_raw()),
            "cannot handle SIGSEGV: it reports a fault in the program that is running",
        ),
        (Signal::from_raw(0), "cannot handle signal 0: there is no such signal"),
        (Signal::from_raw(-7), "cannot handle signal -7: there is no such signal"),
        (Signal::from_raw(1000), "cannot handle signal 1000: there is no such signal"),
    ];
    for (signal, why) in cases {
        let error = reactor.on_signal(signal, |_, _, _| {}).unwrap_err();
        assert_eq!(error.to_string(), why);
    }
    assert_eq!(reactor.sources(), 0);
    let unknown = Signal::from_raw(127); // In no kernel's range: the kernel says so.
    let error = reactor.on_signal(unknown, |_, _, _| {}).unwrap_err();
    assert!(error.to_string().starts_with("cannot handle signal 127: "), "{error}");
    reactor.run(&mut ()).unwrap();
}

#[test]
fn handler_that_panics_goes_alone() {
    if !alone("handler_that_panics_goes_alone") {
        return;
    }
    let mut reactor = Reactor::<Log>::builder().panic_policy(PanicPolicy::Drop).build().unwrap();
    let mut told = Log::new();
    let bad = reactor.on_signal(Signal::USR1, |_, _, _| panic!("on purpose")).unwrap();
    log(&mut reactor, Signal::USR1, "good");
    for count in 1..3 {
        send(Signal::USR1);
        turn_until(&mut reactor, &mut told, |_, told| told.len() == count);
    }
    assert_eq!((reactor.contains(bad), reactor.statistics().panicked), (false, 1));
}

#[test]
fn dropping_the_loop_drops_its_handlers_and_the_signal_is_harmless() {
    if !alone("dropping_the_loop_drops_its_handlers_and_the_signal_is_harmless") {
        return;
    }
    let mut reactor = Reactor::<()>::new().unwrap();
    let held = Rc::new(());
    let holds = held.clone();
    reactor.on_signal(Signal::USR1, move |_, _, _| drop(holds.clone())).unwrap();
    send(Signal::USR1);
    drop(reactor);
    assert_eq!(Rc::strong_count(&held), 1);
    send(Signal::USR1);
}

#[test]
fn default_action_of_a_handled_signal_ends_the_process_by_it() {
    const MARK: &str = "WATERWHEEL_SIGNAL_CHILD";
    if std::env::var_os(MARK).is_some() {
        let mut reactor = Reactor::<()>::new().unwrap();
        let id = reactor.on_signal(Signal::TERM, |_, _, signal| {
            signal.default_action().unwrap();
            unreachable!("SIGTERM is survived");
        });
        reactor.reref(id.unwrap());
        send(Signal::TERM);
        reactor.run(&mut ()).unwrap();
        return;
    }
    let _ceiling = ceiling(LIMIT);
    let (_, test) = support::named("default_action_of_a_handled_signal_ends_the_process_by_it");
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args([&test, "--exact"]).env(MARK, "1").output().unwrap();
    assert_eq!(output.status.signal(), Some(Signal::TERM.as_raw()), "{output:?}");
}

/// Runs the calling test alone, in a process whose parent had blocked every signal.
fn alone_and_deaf(test: &str) -> bool {
    SigSet::all().thread_block().unwrap(); // This thread is the test's own.
    alone(test)
}

fn is_blocked(signal: Named) -> bool {
    SigSet::thread_get_mask().unwrap().contains(signal)
}

#[test]
fn signal_that_the_parent_had_blocked_is_heard_and_no_other() {
    if !alone_and_deaf("signal_that_the_parent_had_blocked_is_heard_and_no_other") {
        return;
    }
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Log::new());
    for (at, signal) in [Signal::TERM, Signal::INT, Signal::CHLD].into_iter().enumerate() {
        if signal == Signal::INT {
            send(signal); // It waits for somebody to listen.
        }
        log(&mut reactor, signal, "a");
        if signal != Signal::INT {
            send(signal);
        }
        turn_until(&mut reactor, &mut told, |_, told| told.len() > at);
        assert_eq!(told[at..], [("a", signal)]);
    }
    assert!(!is_blocked(Named::SIGTERM) && is_blocked(Named::SIGUSR1) && is_blocked(Named::SIGHUP));
    let resumed = reactor
        .register(waterwheel::reactor::VirtualSource, waterwheel::reactor::Interest::READABLE, {
            |_, told: &mut Log, _, _| told.push(("source", Signal::USR1))
        })
        .unwrap();
    reactor.resume_on_signal(Signal::USR1, resumed.raw()).unwrap();
    send(Signal::USR1);
    turn_until(&mut reactor, &mut told, |_, told| told.len() > 3);
    assert_eq!(told[3..], [("source", Signal::USR1)]);
}

#[test]
#[cfg(target_os = "linux")]
fn blocked_signal_without_a_name_is_heard() {
    if !alone_and_deaf("blocked_signal_without_a_name_is_heard") {
        return;
    }
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Log::new());
    log(&mut reactor, Signal::from_raw(40), "real-time");
    let kill = format!("kill -40 {}", std::process::id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    turn_until(&mut reactor, &mut told, |_, told| !told.is_empty());
    assert_eq!(told, [("real-time", Signal::from_raw(40))]);
    assert!(is_blocked(Named::SIGTERM));
}

#[test]
fn blocked_signal_is_heard_beside_workers_that_block_it() {
    if !alone_and_deaf("blocked_signal_is_heard_beside_workers_that_block_it") {
        return;
    }
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Log::new());
    let mut blocked = |reactor: &mut Reactor<Log>, signal: Signal| {
        let job = move |_: &mut waterwheel::Context<Log>, told: &mut Log, blocks| {
            told.push((if matches!(blocks, Ok(true)) { "blocks" } else { "hears" }, signal));
        };
        reactor.offload(|| is_blocked(Named::SIGUSR1), job);
        turn_until(reactor, &mut told, |_, told| !told.is_empty());
        told.pop().unwrap().0
    };
    assert_eq!(blocked(&mut reactor, Signal::USR1), "blocks");
    log(&mut reactor, Signal::USR1, "a");
    // The worker that is there keeps its mask; the loop's thread hears the signal all the same.
    assert_eq!(blocked(&mut reactor, Signal::USR1), "blocks");
    send(Signal::USR1);
    turn_until(&mut reactor, &mut told, |_, told| !told.is_empty());
    assert_eq!(told, [("a", Signal::USR1)]);
    // Another loop's workers are started after that.
    let mut second = Reactor::new().unwrap();
    let mut blocks = Vec::new();
    second.offload(|| is_blocked(Named::SIGUSR1), |_, blocks: &mut Vec<_>, job| blocks.push(job));
    turn_until(&mut second, &mut blocks, |_, blocks| !blocks.is_empty());
    assert!(matches!(blocks[..], [Ok(false)]));
}

#[test]
#[cfg(target_os = "linux")]
fn signal_that_the_parent_had_ignored_is_heard() {
    skip_without!(ENV);
    let test = "signal_that_the_parent_had_ignored_is_heard";
    if !alone_by(&["env", "--ignore-signal=HUP,TERM", "--block-signal=HUP"], test) {
        return;
    }
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Log::new());
    for (at, signal) in [Signal::HUP, Signal::TERM].into_iter().enumerate() {
        send(signal); // Nobody listens yet: lost, or it waits, where it is blocked, and merges.
        log(&mut reactor, signal, "a");
        send(signal);
        turn_until(&mut reactor, &mut told, |_, told| told.len() > at);
        turns(&mut reactor, &mut told, 5);
    }
    assert_eq!(told, [("a", Signal::HUP), ("a", Signal::TERM)]);
}
