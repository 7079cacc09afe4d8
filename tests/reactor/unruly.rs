//! Callbacks that behave badly, and a loop that does not mind: they enqueue without end, change
//! everything under each other's feet, take long, panic.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use support::{MS, ceiling, only};
use waterwheel::mio::net::UnixStream;
use waterwheel::reactor::{
    Context, Interest, Kind, Missed, Options, PanicPolicy, Priority, Reactor, Readiness, Recorder,
    Script, SourceId, Subject, VirtualSource,
};
use waterwheel::timers::{ManualClock, TimerId};

const LIMIT: Duration = Duration::from_secs(60);
const READABLE: Readiness = Readiness::READABLE;

fn turn<S>(reactor: &mut Reactor<S>, state: &mut S) -> usize {
    reactor.turn(state, Some(Duration::ZERO)).unwrap()
}

#[test]
fn a_callback_that_enqueues_itself_for_ever_starves_nobody() {
    fn again(reactor: &mut Context<(u32, u32)>, _: &mut (u32, u32)) {
        reactor.enqueue(Priority::High, again);
    }
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    reactor.enqueue(Default::default(), again);
    reactor.every(MS, Missed::Skip, |_, (ticks, _), _| *ticks += 1);
    let (mut near, far) = UnixStream::pair().unwrap();
    let echo = reactor.register(far, Interest::READABLE, |reactor, (ticks, bytes), id, _| {
        while let Ok(read @ 1..) = reactor[id].read(&mut [0; 8]) {
            *bytes += read as u32;
        }
        if *ticks >= 3 {
            reactor.stop();
        }
    });
    echo.unwrap();
    let mut counts = (0, 0);
    while counts.0 < 3 {
        turn(&mut reactor, &mut counts);
    }
    near.write_all(b"data").unwrap();
    reactor.run(&mut counts).unwrap();
    assert_eq!(counts.1, 4);
}

#[test]
fn a_slot_used_seventy_thousand_times_still_refuses_its_first_id() {
    let script = Script::new();
    let mut reactor = Reactor::builder().script(&script).build().unwrap();
    let register = |reactor: &mut Reactor<u32>| {
        reactor.register(VirtualSource, Interest::READABLE, |_, calls, _, _| *calls += 1).unwrap()
    };
    let first = register(&mut reactor);
    let mut last = first;
    for _ in 0..70_000 {
        assert!(reactor.deregister(last).is_some());
        last = register(&mut reactor);
        assert!(!reactor.contains(first), "generation {:?}", last.raw());
    }
    assert_eq!(first.raw().parts().0, last.raw().parts().0, "it is the same slot");
    assert!(reactor.get_mut(first).is_none() && reactor.deregister(first).is_none());
    let mut calls = 0;
    script.report([(first.raw(), READABLE)]);
    turn(&mut reactor, &mut calls);
    assert_eq!((calls, reactor.statistics().stale), (0, 1));
    script.report([(last.raw(), READABLE)]);
    turn(&mut reactor, &mut calls);
    assert_eq!(calls, 1);
}

/// What the callbacks of the next test work with: something to act upon, and what has called.
#[derive(Default)]
struct Acts {
    sources: Vec<SourceId<VirtualSource>>,
    timers: Vec<TimerId>,
    called_from: Vec<&'static str>,
    echoes: u32,
}

/// Every operation there is, on others and on what it makes itself.
fn everything(reactor: &mut Context<Acts>, acts: &mut Acts, from: &'static str) {
    acts.called_from.push(from);
    let make = |reactor: &mut Context<Acts>| {
        reactor.register(VirtualSource, Interest::READABLE, |_, acts: &mut Acts, _, _| {
            acts.echoes += 1
        })
    };
    let (kept, lost) = (make(reactor).unwrap(), make(reactor).unwrap());
    assert!(reactor.resume(kept, READABLE) && reactor.resume(lost, READABLE));
    assert_eq!(reactor.deregister(lost), Some(VirtualSource));
    assert!(!reactor.resume(lost, READABLE));
    for source in acts.sources.drain(..) {
        assert!(reactor.set_interest(source, Interest::WRITABLE).unwrap());
        let tick = reactor.tick_after(MS);
        assert!(reactor.set_deadline(source, Some(tick)));
        reactor[source] = VirtualSource;
        assert!(reactor.remove(source) && !reactor.contains(source));
    }
    for timer in acts.timers.drain(..) {
        assert!(reactor.rearm(timer, Duration::ZERO) && reactor.cancel(timer));
        assert!(!reactor.rearm(timer, MS) && !reactor.cancel(timer));
    }
    acts.sources.push(kept);
    acts.timers.push(reactor.every(MS, Missed::Burst, |_, _, _| {}));
    acts.timers.push(reactor.after(Duration::MAX, |_, _| {}));
    reactor.defer(|_, acts| acts.echoes += 1);
    reactor.enqueue(Default::default(), |_, acts| acts.echoes += 1);
    reactor.remote().post(|_, acts| acts.echoes += 1).unwrap();
    let job = reactor.offload(|| (), |_, acts, _| acts.echoes += 1);
    assert!(reactor.unref(job) && reactor.reref(job) && !reactor.cancel_job(job));
    let hook = reactor.before_poll(|_, _| panic!("was removed"));
    assert!(reactor.remove_hook(hook) && !reactor.remove_hook(hook));
}

#[test]
fn every_operation_works_from_every_kind_of_callback() {
    let (script, clock, mut acts) = (Script::new(), ManualClock::held(), Acts::default());
    // No worker starts with such a stack: jobs end in the next turn, whatever the machine does.
    let builder = Reactor::builder().script(&script).clock(&clock).worker_stack_bytes(1 << 60);
    let mut reactor = builder.build().unwrap();
    let source = reactor
        .register(VirtualSource, Interest::READABLE, |reactor, acts, id, ready| {
            let data = ready.contains(READABLE);
            everything(reactor, acts, if data { "source" } else { "deadline" });
            if !data {
                reactor.remove(id); // itself
            }
        })
        .unwrap();
    reactor.set_deadline(source, Some(waterwheel::timers::Tick::new(3)));
    reactor.after(MS, |reactor, acts| everything(reactor, acts, "timer"));
    let own = Rc::new(Cell::new(None));
    let itself = own.clone();
    own.set(Some(reactor.every(MS, Missed::Skip, move |reactor, acts, _| {
        everything(reactor, acts, "repeating");
        assert!(reactor.cancel(itself.take().unwrap()));
    })));
    reactor.defer(|reactor, acts| everything(reactor, acts, "deferred"));
    reactor.enqueue(Default::default(), |reactor, acts| everything(reactor, acts, "enqueued"));
    reactor.remote().post(|reactor, acts| everything(reactor, acts, "posted")).unwrap();
    reactor.offload(|| (), |reactor, acts, _| everything(reactor, acts, "job"));
    let hooks = Rc::new(RefCell::new(Vec::new()));
    let hook = |from: &'static str, at: usize| {
        let hooks = hooks.clone();
        move |reactor: &mut Context<Acts>, acts: &mut Acts| {
            everything(reactor, acts, from);
            assert!(reactor.remove_hook(hooks.borrow()[at])); // itself
        }
    };
    let added = [
        reactor.before_poll(hook("before", 0)),
        reactor.after_poll(hook("after", 1)),
        reactor.on_idle(hook("idle", 2)),
    ];
    hooks.borrow_mut().extend(added);
    script.report([(source.raw(), READABLE)]);
    // Time passes once, so that what repeats every millisecond leaves room for an idle turn.
    for advance in [0, 1, 3, 0, 0, 0] {
        clock.advance(advance * MS);
        turn(&mut reactor, &mut acts);
    }
    acts.called_from.sort_unstable();
    let kinds = "after before deadline deferred enqueued idle job posted repeating source timer";
    assert_eq!(acts.called_from, kinds.split(' ').collect::<Vec<_>>());
    assert_eq!((reactor.sources(), reactor.timers()), (1, 2), "what the last one made");
    // Each deferred, enqueued, posted, offloaded; and resumed a source, which the next removed.
    assert!(acts.echoes >= 44, "{}", acts.echoes);
}

#[test]
fn spurious_and_merged_readiness_loses_no_byte_and_calls_once() {
    let _ceiling = ceiling(LIMIT);
    let script = Script::new();
    let mut reactor = Reactor::builder().script(&script).build().unwrap();
    let (mut peer, near) = UnixStream::pair().unwrap();
    let source = reactor
        .register(near, Interest::READABLE, |reactor, log: &mut Vec<String>, id, ready| {
            let mut bytes = [0; 16];
            let read = loop {
                match reactor[id].read(&mut bytes) {
                    Ok(0) => break "eof".to_owned(),
                    Ok(read) => log.push(String::from_utf8_lossy(&bytes[..read]).into_owned()),
                    Err(error) => break error.kind().to_string(),
                }
            };
            log.push(format!("{read}, {ready:?}"));
        })
        .unwrap()
        .raw();
    let mut log = Vec::new();
    script.report([(source, READABLE)]); // spurious
    turn(&mut reactor, &mut log);
    assert_eq!(log.split_off(0), [format!("{}, readable", ErrorKind::WouldBlock)]);
    script.report([(source, Readiness::ERROR), (source, READABLE)]); // and merged: called once
    turn(&mut reactor, &mut log);
    assert_eq!(log.split_off(0), [format!("{}, readable+error", ErrorKind::WouldBlock)]);
    script.report([(source, Readiness::READ_CLOSED), (source, READABLE)]); // closed comes first
    peer.write_all(b"last words").unwrap();
    drop(peer);
    turn(&mut reactor, &mut log); // and the kernel says both in one event, merged with the script's
    assert_eq!(log[..1], ["last words"]);
    assert!(log[1].starts_with("eof, readable"), "{log:?}");
    assert!(log[1].contains("+read-closed") && log.len() == 2, "{log:?}");
}

/// One peer always has data. Its callback reads a little and asks to be resumed.
#[test]
fn one_busy_connection_does_not_delay_ninety_nine_others() {
    const PIECE: usize = 512;
    let _ceiling = ceiling(LIMIT);
    let recorder = Recorder::new();
    let mut reactor = Reactor::builder().observer(recorder.observer()).build().unwrap();
    let (mut peers, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let (peer, near) = UnixStream::pair().unwrap();
        peers.push(peer);
        let read = |reactor: &mut Context<Vec<usize>>, got: &mut Vec<usize>, id, _| {
            let id: SourceId<UnixStream> = id;
            if let Ok(read) = reactor[id].read(&mut [0; PIECE]) {
                got[id.raw().parts().0 as usize] += read;
                reactor.resume(id, READABLE);
            }
        };
        ids.push(reactor.register(near, Interest::READABLE, read).unwrap().raw());
    }
    let mut got = vec![0; 100];
    peers[0].write_all(&[7; 100 * PIECE]).unwrap();
    turn(&mut reactor, &mut got);
    peers[1..].iter_mut().for_each(|peer| peer.write_all(b"once").unwrap());
    turn(&mut reactor, &mut got);
    assert_eq!(got[0], 2 * PIECE, "a piece a turn");
    assert!(got[1..].iter().all(|got| *got == 4), "and all the others in the same turn");
    // There was one edge for a hundred pieces; the rest comes without a wait.
    while reactor.next_wait() == Some(Duration::ZERO) {
        turn(&mut reactor, &mut got);
    }
    assert_eq!(got[0], 100 * PIECE);
    let edges = only(&recorder.take(), &[Kind::Ready]);
    assert_eq!(edges.iter().filter(|edge| edge.subject == Subject::Source(ids[0])).count(), 1);
}

#[test]
fn a_repeating_timer_that_panics_goes_on_or_by_policy_does_not() {
    for (policy, expected) in [(PanicPolicy::Propagate, 3), (PanicPolicy::Drop, 1)] {
        let builder = Reactor::builder().clock(&ManualClock::new()).panic_policy(policy);
        let mut reactor = builder.build().unwrap();
        reactor.every(MS, Missed::Skip, |_, (ticks, _): &mut (u32, u32), _| {
            *ticks += 1;
            panic!("tick");
        });
        let others = reactor.every(MS, Missed::Skip, |reactor, (_, others), _| {
            *others += 1;
            if *others == 3 {
                reactor.stop();
            }
        });
        let (mut counts, mut panics) = ((0, 0), 0);
        while counts.1 < 3 {
            let run = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut counts)));
            panics += u32::from(run.is_err());
        }
        assert_eq!(counts, (expected, 3), "{policy:?}");
        let caught = u64::from(policy == PanicPolicy::Drop);
        assert_eq!((u64::from(panics), reactor.statistics().panicked), (3 - 3 * caught, caught));
        reactor.cancel(others);
        assert_eq!(reactor.is_alive(), policy == PanicPolicy::Propagate, "the one that panicked");
    }
}

#[test]
fn every_kind_of_callback_may_panic_and_the_rest_runs() {
    fn bad<S>(_: &mut Context<S>, _: &mut S) {
        panic!("on purpose");
    }
    for policy in [PanicPolicy::Propagate, PanicPolicy::Drop] {
        let (script, clock) = (Script::new(), ManualClock::new());
        let builder = Reactor::builder().script(&script).clock(&clock).panic_policy(policy);
        let mut reactor = builder.build().unwrap();
        let panics = |_: &mut Context<u32>, _: &mut u32, _, _| panic!("on purpose");
        let source = reactor.register(VirtualSource, Interest::READABLE, panics).unwrap();
        let late = reactor.register(VirtualSource, Interest::READABLE, panics).unwrap();
        reactor.set_deadline(late, Some(waterwheel::timers::Tick::new(0)));
        reactor.after(Duration::ZERO, bad);
        reactor.defer(bad);
        reactor.enqueue(Default::default(), bad);
        reactor.remote().post(bad).unwrap();
        for priority in [Priority::High, Priority::Low] {
            reactor.enqueue(priority, |_, good| *good += 1);
        }
        script.report([(source.raw(), READABLE)]);
        let mut good = 0;
        let panics = (0..10)
            .filter(|_| catch_unwind(AssertUnwindSafe(|| turn(&mut reactor, &mut good))).is_err());
        let (panics, caught) =
            if policy == PanicPolicy::Drop { (panics.count(), 6) } else { (panics.count(), 0) };
        assert_eq!((panics as u64 + caught, good), (6, 2), "{policy:?}");
        assert_eq!(reactor.statistics().panicked, caught);
        let left = if policy == PanicPolicy::Drop { 0 } else { 2 };
        assert_eq!(reactor.sources(), left, "{policy:?}");
    }
}

#[test]
fn what_is_written_to_a_source_that_panicked_is_flushed() {
    let script = Script::new();
    let mut reactor = Reactor::builder().script(&script).build().unwrap();
    let options = Options { flush: true, ..Options::default() };
    let source = reactor
        .register_with(
            VirtualSource,
            Interest::READABLE,
            options,
            |_, flushes: &mut u32, _, ready| {
                assert!(ready.contains(Readiness::FLUSH), "on purpose");
                *flushes += 1;
            },
        )
        .unwrap();
    script.report([(source.raw(), READABLE)]);
    let mut flushes = 0;
    assert!(catch_unwind(AssertUnwindSafe(|| turn(&mut reactor, &mut flushes))).is_err());
    reactor[source] = VirtualSource;
    turn(&mut reactor, &mut flushes);
    assert_eq!(flushes, 1);
}

#[test]
fn hooks_are_not_counted_as_callbacks() {
    let mut reactor = Reactor::new().unwrap();
    reactor.before_poll(|_, _| {});
    reactor.on_idle(|_, _| {});
    assert_eq!(turn(&mut reactor, &mut ()), 0);
    assert_eq!(reactor.statistics().callbacks, 0);
}
