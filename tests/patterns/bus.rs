//! The event bus, rule by rule. The numbers are those of the header of `patterns/bus.rs`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use support::process::example;
use support::{Rng, only};
use waterwheel::patterns::{LISTENERS_NESTED, ListenerId};
use waterwheel::reactor::{
    Context, Interest, Kind, Missed, PanicPolicy, Priority, Reactor, Recorder, VirtualSource,
};

/// The event of most tests.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ping(u32);
#[derive(Debug)]
struct Pong;

type Log = Vec<String>;

fn lab() -> Reactor<Log> {
    Reactor::new().unwrap()
}

fn policy(policy: PanicPolicy) -> Reactor<Log> {
    Reactor::builder().panic_policy(policy).build().unwrap()
}

/// Subscribes one that says its name and what it heard.
fn listener(reactor: &mut Context<Log>, name: &'static str) -> ListenerId {
    reactor.subscribe(move |_, log: &mut Log, ping: &Ping| log.push(format!("{name} {}", ping.0)))
}

fn emit(reactor: &mut Context<Log>, number: u32) -> Log {
    let mut log = Log::new();
    reactor.emit(&mut log, &Ping(number));
    log
}

fn run(reactor: &mut Reactor<Log>) -> Log {
    let mut log = Log::new();
    reactor.run(&mut log).unwrap();
    log
}

fn turn(reactor: &mut Reactor<Log>, log: &mut Log) {
    reactor.turn(log, Some(Duration::ZERO)).unwrap();
}

#[test]
fn b1_listeners_are_called_by_priority_and_then_in_the_order_of_subscribing() {
    let mut reactor = lab();
    let mut subscribe = |priority, name: &'static str| {
        reactor.subscribe_with(priority, move |_, log: &mut Log, _: &Ping| log.push(name.into()));
    };
    subscribe(Priority::Low, "low");
    subscribe(Priority::Normal, "normal");
    subscribe(Priority::High, "high");
    subscribe(Priority::Normal, "normal two");
    subscribe(Priority::High, "high two");
    assert_eq!(emit(&mut reactor, 1), ["high", "high two", "normal", "normal two", "low"]);
}

#[test]
fn events_reach_the_listeners_of_their_type_alone() {
    let mut reactor = lab();
    listener(&mut reactor, "ping");
    reactor.subscribe(|_, log: &mut Log, pong: &Pong| log.push(format!("{pong:?}")));
    reactor.subscribe(|_, log: &mut Log, text: &&str| log.push((*text).to_owned()));
    reactor.publish("text");
    reactor.publish(Pong);
    reactor.publish(Ping(1));
    assert_eq!(run(&mut reactor), ["text", "Pong", "ping 1"]);
    assert_eq!((reactor.listeners::<Ping>(), reactor.listeners::<u32>()), (1, 0));
}

#[test]
fn published_events_wait_in_their_lanes_and_what_a_listener_publishes_waits_for_the_next_turn() {
    let (mut reactor, mut log) = (lab(), Log::new());
    reactor.subscribe(|reactor, log: &mut Log, ping: &Ping| {
        log.push(ping.0.to_string());
        if ping.0 < 10 {
            reactor.publish_at(Priority::High, Ping(ping.0 * 10));
        }
    });
    reactor.publish_at(Priority::Low, Ping(3));
    reactor.publish(Ping(2));
    reactor.enqueue(Priority::Normal, |_, log| log.push("enqueued".into()));
    reactor.publish_at(Priority::High, Ping(1));
    assert!(log.is_empty(), "not before a turn");
    turn(&mut reactor, &mut log);
    assert_eq!(log, ["1", "2", "enqueued", "3"]);
    turn(&mut reactor, &mut log);
    assert_eq!(log[4..], ["10", "20", "30"]);
}

#[test]
fn b2_a_listener_that_an_earlier_one_unsubscribes_is_not_called() {
    let mut reactor = lab();
    let doomed = Rc::new(Cell::new(None));
    let victim = doomed.clone();
    reactor.subscribe(move |reactor, log: &mut Log, _: &Ping| {
        log.push(format!("unsubscribed {:?}", victim.take().map(|id| reactor.unsubscribe(id))));
    });
    doomed.set(Some(listener(&mut reactor, "doomed")));
    listener(&mut reactor, "last");
    assert_eq!(emit(&mut reactor, 1), ["unsubscribed Some(true)", "last 1"]);
}

#[test]
fn b2_a_listener_subscribed_during_delivery_hears_the_next_event_also_a_nested_one() {
    let mut reactor = lab();
    let mut added = false;
    reactor.subscribe_with(Priority::High, move |reactor, log: &mut Log, ping: &Ping| {
        if !std::mem::replace(&mut added, true) {
            listener(reactor, "added");
            reactor.emit(log, &Ping(ping.0 + 100));
        }
    });
    listener(&mut reactor, "old");
    assert_eq!(emit(&mut reactor, 1), ["old 101", "added 101", "old 1"]);
    assert_eq!(emit(&mut reactor, 2), ["old 2", "added 2"]);
}

#[test]
fn b2_who_subscribes_after_publishing_does_not_hear_and_who_left_before_does_not_either() {
    let mut reactor = lab();
    let left = listener(&mut reactor, "left");
    listener(&mut reactor, "stayed");
    reactor.publish(Ping(1));
    listener(&mut reactor, "late");
    reactor.unsubscribe(left);
    assert_eq!(run(&mut reactor), ["stayed 1"]);
}

#[test]
fn b2_a_listener_may_unsubscribe_itself_and_subscribe_anew() {
    let mut reactor = lab();
    let own = Rc::new(Cell::new(None));
    let id = own.clone();
    own.set(Some(reactor.subscribe(move |reactor, log: &mut Log, _: &Ping| {
        log.push(format!("{:?}", id.take().map(|id| reactor.unsubscribe(id))));
        listener(reactor, "anew");
    })));
    assert_eq!(emit(&mut reactor, 1), ["Some(true)"]);
    assert_eq!(emit(&mut reactor, 2), ["anew 2"]);
}

#[test]
fn unsubscribing_twice_is_harmless_and_an_id_is_never_used_again() {
    let (mut reactor, owned) = (lab(), Rc::new(()));
    let captured = owned.clone();
    let id = reactor.subscribe(move |_, _, _: &Ping| drop(captured.clone()));
    assert!(reactor.unsubscribe(id));
    assert_eq!(Rc::strong_count(&owned), 1, "dropped at once");
    let other = listener(&mut reactor, "other");
    assert!(!reactor.unsubscribe(id));
    assert_ne!(id, other);
    let mut elsewhere = lab();
    assert!(!elsewhere.unsubscribe(other));
    assert_eq!(emit(&mut reactor, 1), ["other 1"]);
}

#[test]
fn once_hears_one_event_and_may_subscribe_or_emit_again_from_within() {
    let mut reactor = lab();
    reactor.once(|reactor, log: &mut Log, ping: &Ping| {
        log.push(format!("once {}", ping.0));
        reactor.once(|_, log: &mut Log, ping: &Ping| log.push(format!("again {}", ping.0)));
        let heard = reactor.emit(log, &Ping(2));
        log.push(format!("heard by {heard}"));
    });
    let stale = reactor.once(|_, _, _: &Pong| {});
    assert_eq!(emit(&mut reactor, 1), ["once 1", "again 2", "heard by 1"]);
    assert_eq!(reactor.listeners::<Ping>(), 0);
    reactor.publish(Pong);
    run(&mut reactor);
    assert!(!reactor.unsubscribe(stale));
    let cancelled = reactor.once(|_, log: &mut Log, _: &Ping| log.push("never".into()));
    assert!(reactor.unsubscribe(cancelled));
    assert!(emit(&mut reactor, 3).is_empty());
}

#[test]
fn b3_what_listeners_defer_runs_after_the_callback_that_emits() {
    let mut reactor = lab();
    for name in ["one", "two"] {
        reactor.subscribe(move |reactor, log: &mut Log, _: &Ping| {
            log.push(name.into());
            reactor.defer(move |_, log| log.push(format!("deferred by {name}")));
        });
    }
    reactor.enqueue(Priority::Normal, |reactor, log| {
        reactor.emit(log, &Ping(1));
        log.push("emitted".into());
    });
    reactor.publish(Ping(2));
    let heard = ["one", "two", "emitted", "deferred by one", "deferred by two"];
    let published = ["one", "two", "deferred by one", "deferred by two"];
    assert_eq!(run(&mut reactor), [&heard[..], &published[..]].concat());
}

#[test]
fn b3_listeners_are_traced_inside_the_callback_that_tells_with_their_own_places() {
    let recorder = Recorder::new();
    let mut reactor = Reactor::<Log>::builder().observer(recorder.observer()).build().unwrap();
    reactor.subscribe(|_, _, _: &Ping| {});
    let first = line!() - 1;
    reactor.subscribe(|reactor, _, _: &Ping| reactor.defer(|_, _| {}));
    let second = line!() - 1;
    reactor.publish(Ping(1));
    let told = line!() - 1;
    recorder.take();
    turn(&mut reactor, &mut Log::new());
    let events = recorder.take();
    let runs = [Kind::RunEnqueued, Kind::RunNested, Kind::Deferred, Kind::Returned];
    let seen = only(&events, &runs);
    let expected = [
        (Kind::RunEnqueued, Some(told)),
        (Kind::RunNested, Some(first)),
        (Kind::Returned, None),
        (Kind::RunNested, Some(second)),
        (Kind::Deferred, Some(second)),
        (Kind::Returned, None),
        (Kind::Returned, None),
        (Kind::Returned, None), // The deferred one.
    ];
    assert_eq!(seen.len(), expected.len());
    for (event, (kind, line)) in seen.iter().zip(expected) {
        assert_eq!(event.kind, kind);
        assert!(line.is_none_or(|line| event.place.line() == line), "{event}");
    }
    assert_eq!(seen[1].cause, seen[0].sequence);
    assert_eq!(seen[3].cause, seen[0].sequence, "the outer callback is restored");
    assert_eq!(seen[4].cause, seen[3].sequence);
}

#[test]
fn b4_nested_emits_go_depth_first_and_a_running_listener_is_not_entered_again() {
    let mut reactor = lab();
    for name in ["a", "b", "c"] {
        reactor.subscribe(move |reactor, log: &mut Log, ping: &Ping| {
            log.push(format!("{name}{}", ping.0));
            reactor.emit(log, &Ping(ping.0 + 1));
            log.push(format!("/{name}{}", ping.0));
        });
    }
    let order = "a1 b2 c3 /c3 /b2 c2 b3 /b3 /c2 /a1 b1 a2 c3 /c3 /a2 c2 a3 /a3 /c2 /b1 \
                 c1 a2 b3 /b3 /a2 b2 a3 /a3 /b2 /c1";
    assert_eq!(emit(&mut reactor, 1).join(" "), order);
    // The innermost of each of the six orders found everybody busy.
    assert_eq!(reactor.unheard(), 6);
}

#[test]
fn b4_listeners_that_emit_without_end_are_stopped_by_a_panic_that_says_so() {
    fn again(reactor: &mut Context<Log>, log: &mut Log, ping: &Ping) {
        log.push(ping.0.to_string());
        reactor.once(again);
        reactor.emit(log, &Ping(ping.0 + 1));
    }
    let mut reactor = lab();
    let mut log = Log::new();
    reactor.once(again);
    let emitted = catch_unwind(AssertUnwindSafe(|| reactor.emit(&mut log, &Ping(1))));
    let message = emitted.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.contains("listeners emit to each other, the last a patterns::bus::Ping"),
        "{message}"
    );
    assert_eq!(log.len(), LISTENERS_NESTED);
    // And one below the limit will do.
    let mut reactor = lab();
    for _ in 0..LISTENERS_NESTED - 1 {
        reactor.subscribe(|reactor, log: &mut Log, ping: &Ping| {
            log.push(ping.0.to_string());
            if log.len() < LISTENERS_NESTED - 1 {
                reactor.emit(log, &Ping(ping.0 + 1));
            }
        });
    }
    assert!(emit(&mut reactor, 1).contains(&(LISTENERS_NESTED - 1).to_string()));
    // Under the other policy only the innermost is dropped: the loop and the emitters go on.
    let mut reactor = policy(PanicPolicy::Drop);
    reactor.once(again);
    assert_eq!(emit(&mut reactor, 1).len(), LISTENERS_NESTED);
    assert_eq!(reactor.statistics().panicked, 1);
}

/// Three listeners, of which the second panics when it hears a one.
fn fragile(reactor: &mut Reactor<Log>) {
    listener(reactor, "first");
    reactor.subscribe(|_, log: &mut Log, ping: &Ping| {
        assert_ne!(ping.0, 1, "on purpose");
        log.push(format!("fragile {}", ping.0));
    });
    listener(reactor, "third");
}

#[test]
fn b5_by_policy_drop_only_the_listener_that_panics_is_dropped() {
    let mut reactor = policy(PanicPolicy::Drop);
    fragile(&mut reactor);
    reactor.enqueue(Priority::Normal, |reactor, log| {
        let heard = reactor.emit(log, &Ping(1));
        log.push(format!("emitted to {heard}"));
    });
    reactor.publish(Ping(2));
    assert_eq!(run(&mut reactor), ["first 1", "third 1", "emitted to 3", "first 2", "third 2"]);
    assert_eq!((reactor.statistics().panicked, reactor.listeners::<Ping>()), (1, 2));
}

#[test]
fn b5_by_policy_drop_a_published_event_reaches_the_others() {
    let mut reactor = policy(PanicPolicy::Drop);
    fragile(&mut reactor);
    reactor.publish(Ping(1));
    assert_eq!(run(&mut reactor), ["first 1", "third 1"]);
    assert_eq!(reactor.statistics().panicked, 1);
}

#[test]
fn b5_a_panic_passes_through_emit_and_leaves_all_subscribed() {
    let mut reactor = lab();
    fragile(&mut reactor);
    let mut log = Log::new();
    let emitted = catch_unwind(AssertUnwindSafe(|| reactor.emit(&mut log, &Ping(1))));
    assert!(emitted.is_err());
    assert_eq!(log, ["first 1"]);
    assert_eq!(emit(&mut reactor, 2), ["first 2", "fragile 2", "third 2"]);
}

#[test]
fn b5_a_panic_out_of_run_leaves_the_rest_of_a_published_event_for_the_next_run() {
    let mut reactor = lab();
    fragile(&mut reactor);
    reactor.publish(Ping(1));
    reactor.publish(Ping(2));
    let mut log = Log::new();
    assert!(catch_unwind(AssertUnwindSafe(|| reactor.run(&mut log))).is_err());
    assert_eq!(log, ["first 1"]);
    assert_eq!(run(&mut reactor), ["third 1", "first 2", "fragile 2", "third 2"]);
}

#[test]
fn b6_an_event_that_nobody_hears_is_counted_and_neither_allocates_nor_holds_the_loop() {
    let mut reactor = lab();
    let mut log = Log::new();
    let id = listener(&mut reactor, "gone");
    reactor.unsubscribe(id);
    let count = allocation_counter::measure(|| {
        reactor.publish([0u8; 1000]);
        reactor.publish(Ping(1));
        assert_eq!(reactor.emit(&mut log, &Ping(1)), 0);
    });
    assert_eq!(count.count_total, 0);
    assert!(!reactor.is_alive());
    assert_eq!(reactor.unheard(), 3);
    // Its listener goes while it is queued.
    let id = listener(&mut reactor, "gone");
    reactor.publish(Ping(1));
    reactor.unsubscribe(id);
    assert!(run(&mut reactor).is_empty());
    assert_eq!(reactor.unheard(), 4);
    listener(&mut reactor, "there");
    emit(&mut reactor, 1);
    assert_eq!(reactor.unheard(), 4);
}

#[test]
fn an_emitted_event_allocates_nothing_and_a_published_one_once() {
    let mut reactor = Reactor::<u32>::new().unwrap();
    reactor.subscribe(|_, sum: &mut u32, ping: &Ping| *sum += ping.0);
    let mut sum = 0;
    let mut tell = |publish| {
        if publish {
            reactor.publish(Ping(1));
        }
        reactor.emit(&mut sum, &Ping(1));
        reactor.turn(&mut sum, Some(Duration::ZERO)).unwrap();
    };
    tell(true); // The queue grows.
    assert_eq!(allocation_counter::measure(|| tell(false)).count_total, 0);
    assert_eq!(allocation_counter::measure(|| tell(true)).count_total, 1);
    assert_eq!(sum, 5);
}

#[test]
fn b7_listeners_do_not_hold_the_loop_and_go_with_it() {
    let (mut reactor, owned) = (lab(), Rc::new(()));
    let captured = owned.clone();
    reactor.subscribe(move |_, _, _: &Ping| drop(captured.clone()));
    reactor.run(&mut Log::new()).unwrap();
    assert!(reactor.why_alive().is_empty());
    struct Heavy(#[expect(dead_code)] Rc<()>);
    reactor.subscribe(|_, _, _: &Heavy| {});
    reactor.publish(Heavy(owned.clone()));
    assert!(reactor.is_alive(), "what is published does hold it");
    drop(reactor);
    assert_eq!(Rc::strong_count(&owned), 1);
}

/// Scenario 5: whatever a callback may do to the loop, a listener may do, from every kind of it.
#[test]
fn a_listener_registers_arms_cancels_and_subscribes_from_inside_every_kind_of_callback() {
    fn ping(reactor: &mut Context<Log>, log: &mut Log, from: &'static str) {
        log.push(from.into());
        assert_eq!(reactor.emit(log, &Ping(0)), 1);
    }
    let mut reactor = lab();
    reactor.subscribe(|reactor, _, _: &Ping| {
        let id = reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
        assert!(reactor.remove(id));
        let timer = reactor.after(Duration::from_secs(9), |_, _| {});
        assert!(reactor.rearm(timer, Duration::from_secs(8)) && reactor.cancel(timer));
        let other = reactor.subscribe(|_, _, _: &Pong| {});
        assert!(reactor.unsubscribe(other));
        let hook = reactor.on_idle(|_, _| {});
        assert!(reactor.remove_hook(hook));
    });
    let resumer = reactor.resumer();
    let source = reactor.register(VirtualSource, Interest::READABLE, |reactor, log, id, _| {
        ping(reactor, log, "source");
        reactor.remove(id);
    });
    resumer.resume(source.unwrap(), waterwheel::reactor::Readiness::READABLE);
    reactor.after(Duration::ZERO, |reactor, log| ping(reactor, log, "timer"));
    reactor.every(support::MS, Missed::Skip, |reactor, log, occurrence| {
        ping(reactor, log, "repeating");
        reactor.cancel(occurrence.timer);
    });
    reactor.defer(|reactor, log| ping(reactor, log, "deferred"));
    reactor.enqueue(Priority::Low, |reactor, log| ping(reactor, log, "enqueued"));
    reactor.remote().post(|reactor, log| ping(reactor, log, "posted")).unwrap();
    let hook = Rc::new(Cell::new(None));
    let own = hook.clone();
    hook.set(Some(reactor.before_poll(move |reactor, log| {
        ping(reactor, log, "hook");
        own.take().map(|own| reactor.remove_hook(own));
    })));
    let promise = waterwheel::patterns::Promise::<Log, u32, String>::resolved(&mut reactor, 1);
    promise.then(&mut reactor, |reactor, log, _| ping(reactor, log, "promise"));
    let mut log = run(&mut reactor);
    log.sort();
    let all = ["deferred", "enqueued", "hook", "posted", "promise", "repeating", "source", "timer"];
    assert_eq!(log, all);
    assert_eq!((reactor.sources(), reactor.timers()), (0, 0));
}

/// Listeners that subscribe and unsubscribe at random while they are told, against a plain list.
#[test]
fn random_changes_during_delivery_agree_with_a_model() {
    #[derive(Default)]
    struct World {
        /// Who is subscribed, in order of calling; and when each was.
        model: Vec<((Priority, u64), ListenerId)>,
        told_at: u64,
        number: u64,
        rng: Option<Rng>,
        called: Vec<u64>,
    }
    fn add(reactor: &mut Context<World>, world: &mut World) {
        world.number += 1;
        let rng = world.rng.as_mut().unwrap();
        let priority = [Priority::High, Priority::Normal, Priority::Low][rng.below(3) as usize];
        let number = world.number;
        let id = reactor.subscribe_with(priority, move |reactor, world: &mut World, _: &Ping| {
            world.called.push(number);
            change(reactor, world);
        });
        let at = world.model.partition_point(|(key, _)| *key < (priority, number));
        world.model.insert(at, ((priority, number), id));
    }
    fn change(reactor: &mut Context<World>, world: &mut World) {
        match world.rng.as_mut().unwrap().below(3) {
            0 => add(reactor, world),
            1 if !world.model.is_empty() => {
                let at = world.rng.as_mut().unwrap().below(world.model.len() as u64) as usize;
                let (_, id) = world.model.remove(at);
                assert!(reactor.unsubscribe(id));
            }
            _ => {}
        }
    }
    let mut reactor = Reactor::<World>::new().unwrap();
    let mut world = World { rng: Some(Rng::new()), ..World::default() };
    for _ in 0..2000 {
        while world.model.len() < 5 {
            add(&mut reactor, &mut world);
        }
        let before = world.model.clone();
        world.told_at = world.number;
        world.called.clear();
        reactor.emit(&mut world, &Ping(1));
        // Each was there when the event was told, none twice, in order; and who was there all the
        // time was called.
        let keys = before.iter().map(|(key, _)| *key);
        let mut called = world.called.iter();
        let order: Vec<u64> = keys.map(|key| key.1).filter(|n| world.called.contains(n)).collect();
        assert!(order.iter().eq(called.by_ref()) && called.next().is_none());
        for ((_, number), _) in &world.model {
            assert_eq!(world.called.contains(number), *number <= world.told_at);
        }
    }
}

#[test]
fn the_example_prints_who_hears_what_in_which_turn() {
    let output = example("bus").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let expected = "\
turn 0  before anybody listens: order 0: a lamp
turn 0  orders: order 1: a chair
turn 0  orders: order 2: a lamp
turn 0  orders: order 3: a lamp
turn 1  stock, High: order 1: a chair is packed
turn 1  mail, once: order 1 is our first: champagne!
turn 1  advertising: chairs are all the rage!
turn 1  audit, Low: order 1, 8 left
turn 1  stock, High: order 2: a lamp is packed
turn 1  advertising: lamps are all the rage!
turn 1  audit, Low: order 2, 0 left
turn 1  advertising, emitted by stock: no more lamps; stopped: true
turn 1  stock, High: order 3: there is no lamp
turn 1  audit, Low: order 3, 0 left
turn 2  mail, published by stock: order 1 is on its way to you
turn 2  mail, published by stock: order 2 is on its way to you
turn 2  at the end: 1 events were heard by nobody
";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
