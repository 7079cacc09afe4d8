//! The loop's contract, rule by rule. The numbers are those of the header of `reactor/mod.rs`.
//!
//! Each test is the smallest program that shows its rule, followed by the trace that it leaves: a
//! scripted poller says what is ready, time stands still until a test moves it, and [`Lab::turn`]
//! answers what ran in one turn.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use support::{MS, ceiling};
use waterwheel::net::Fd;
use waterwheel::reactor::{
    Alive, Builder, Context, DEFERRED_PER_TURN, Interest, Kind, LoopEvent, Missed, Options,
    PanicPolicy, Priority, Reactor, Readiness, Recorder, Script, SourceId, Subject,
    TIMERS_PER_TURN, VirtualSource,
};
use waterwheel::timers::ManualClock;

type Source = SourceId<VirtualSource>;

/// A loop without a kernel and without time.
struct Lab {
    reactor: Reactor<()>,
    script: Script,
    clock: ManualClock,
    recorder: Recorder,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(Reactor::builder())
    }

    fn with(builder: Builder<()>) -> Lab {
        let (script, clock, recorder) = (Script::new(), ManualClock::new(), Recorder::new());
        let builder = builder.script(&script).clock(&clock).observer(recorder.observer());
        Lab { reactor: builder.build().unwrap(), script, clock, recorder }
    }

    /// A source whose callback does this each time it is ready.
    fn source<F: FnMut(&mut Context<()>, Source) + 'static>(&mut self, mut callback: F) -> Source {
        self.source_in(Priority::Normal, move |reactor, id, _| callback(reactor, id))
    }

    fn source_in<F>(&mut self, priority: Priority, mut callback: F) -> Source
    where
        F: FnMut(&mut Context<()>, Source, Readiness) + 'static,
    {
        let options = Options { priority, ..Options::default() };
        let callback = move |reactor: &mut Context<()>, (): &mut (), id, ready| {
            callback(reactor, id, ready);
        };
        self.reactor.register_with(VirtualSource, Interest::READABLE, options, callback).unwrap()
    }

    /// Runs the loop until nothing holds it; by a host, if the tests are asked for that.
    fn run(&mut self) -> std::io::Result<()> {
        support::host::run(&mut self.reactor, &mut (), Some(&self.clock))
    }

    fn report(&self, ready: &[Source]) {
        self.script.report(ready.iter().map(|source| (source.raw(), Readiness::READABLE)));
    }

    /// One turn in which the poller reports these sources; what ran in it, and what was stale.
    fn turn(&mut self, ready: &[Source]) -> Vec<String> {
        self.report(ready);
        self.recorder.take();
        self.reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
        self.ran()
    }

    /// What has run since the last look.
    fn ran(&self) -> Vec<String> {
        let events = self.recorder.take();
        let ran = events.iter().filter(|event| is_run(event) || event.kind == Kind::Stale);
        ran.map(LoopEvent::to_string).collect()
    }
}

fn is_run(event: &LoopEvent) -> bool {
    use Kind::{RunDeferred, RunEnqueued, RunHook, RunPosted, RunSource, RunTimer};
    [RunSource, RunTimer, RunDeferred, RunEnqueued, RunPosted, RunHook].contains(&event.kind)
}

/// The phases come in the order of the header: flush, wait, poll, forget, collect, dispatch, idle.
#[test]
fn the_phases_of_a_turn_come_in_the_documented_order() {
    let told = Rc::new(RefCell::new(Vec::new()));
    let (tell, script) = (told.clone(), Script::new());
    let observer = move |event: &LoopEvent| tell.borrow_mut().push(event.to_string());
    let builder = Reactor::<()>::builder().clock(&ManualClock::new()).script(&script);
    let mut reactor = builder.observer(observer).build().unwrap();
    let source = reactor
        .register_with(
            VirtualSource,
            Interest::READABLE,
            Options { flush: true, ..Options::default() },
            |_, _, _, _| {},
        )
        .unwrap();
    reactor.before_poll(|_, _| {});
    reactor.after_poll(|_, _| {});
    reactor.on_idle(|_, _| {});
    reactor.after(Duration::ZERO, |_, _| {});
    reactor.remote().post(|_, _| {}).unwrap();
    let _ = &mut reactor[source]; // borrowed mutably, so there may be something to flush
    script.report([(source.raw(), Readiness::READABLE)]);
    let mut turn = || {
        told.borrow_mut().clear();
        reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
        told.borrow().iter().filter(|line| *line != "Returned").cloned().collect::<Vec<_>>()
    };
    let phases = [
        "Turn 1",
        "RunHook",
        "Flushed source#0.0",
        "Wait 0 ms",
        "Polled 1",
        "Stamped 0",
        "Ready source#0.0 readable",
        "Expired timer#0.1",
        "Collected",
        "Dispatch 3",
        "RunHook",
        "RunSource source#0.0 readable",
        "RunTimer timer#0.1",
        "RunPosted",
    ];
    assert_eq!(turn(), phases);
    // Nothing is ready any more: the third hook is the idle one.
    let idle = ["Turn 2", "RunHook", "Wait 0 ms", "Polled 0", "Stamped 0", "RunHook", "RunHook"];
    assert_eq!(turn(), idle);
}

/// R1. No callback starts while another is on the stack. That a callback cannot run the loop, the
/// compiler checks; this one provokes every other way to call one from within another.
#[test]
fn r1_a_callback_runs_to_completion() {
    let mut lab = Lab::new();
    let neighbour = lab.source(|_, _| {});
    let source = lab.source(move |reactor, id| {
        reactor.resume(id, Readiness::READABLE);
        reactor.resume(neighbour, Readiness::READABLE);
        reactor.defer(|reactor, _| reactor.defer(|_, _| {}));
        reactor.enqueue(Priority::High, |_, _| {});
        reactor.after(Duration::ZERO, |_, _| {});
        reactor.remote().post(|_, _| {}).unwrap();
    });
    lab.report(&[source, neighbour]);
    for _ in 0..3 {
        lab.reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    }
    let events = lab.recorder.take();
    let edges = events.iter().filter(|event| is_run(event) || event.kind == Kind::Returned);
    let begins: Vec<bool> = edges.map(is_run).collect();
    assert!(begins.len() > 20, "the callbacks ran");
    assert!(begins.chunks(2).all(|edge| edge == [true, false]), "one returns, the next begins");
}

/// R2. What a callback enqueues waits for the next turn, whatever its lane.
#[test]
fn r2_enqueued_waits_for_the_next_turn() {
    let mut lab = Lab::new();
    let first = lab.source(|reactor, _| reactor.enqueue(Priority::High, |_, _| {}));
    let second = lab.source(|_, _| {});
    let turn = lab.turn(&[first, second]);
    assert_eq!(turn, ["RunSource source#0.0 readable", "RunSource source#1.1 readable"]);
    assert_eq!(lab.turn(&[]), ["RunEnqueued"]);
}

/// R2. What is enqueued before phase 5 joins the turn; what is enqueued after it, by whichever hook,
/// waits for the next.
#[test]
fn r2_enqueued_before_the_batch_is_collected_joins_the_turn() {
    fn once(reactor: &mut Context<()>, (): &mut ()) {
        reactor.enqueue(Priority::High, |_, _| {});
    }
    let mut lab = Lab::new();
    let source = lab.source(|_, _| {});
    lab.reactor.enqueue(Priority::Normal, |_, _| {});
    let ready = "RunSource source#0.0 readable";
    assert_eq!(lab.turn(&[source]), ["RunEnqueued", ready], "between turns");
    let hook = lab.reactor.before_poll(once);
    assert_eq!(lab.turn(&[source]), ["RunHook", "RunEnqueued", ready], "before_poll");
    lab.reactor.remove_hook(hook);
    let hook = lab.reactor.after_poll(once);
    assert_eq!(lab.turn(&[source]), ["RunHook", ready], "after_poll");
    lab.reactor.remove_hook(hook);
    assert_eq!(lab.turn(&[source]), ["RunEnqueued", ready], "the turn after that");
    let hook = lab.reactor.on_idle(once);
    assert_eq!(lab.turn(&[]), ["RunHook"], "on_idle");
    lab.reactor.remove_hook(hook);
    assert_eq!(lab.turn(&[]), ["RunEnqueued"], "the turn after that");
}

/// R2. What a callback defers runs right after it, and so does what that defers.
#[test]
fn r2_deferred_runs_before_the_next_event() {
    let mut lab = Lab::new();
    let first = lab.source(|reactor, _| reactor.defer(|reactor, _| reactor.defer(|_, _| {})));
    let second = lab.source(|_, _| {});
    let expected = [
        "RunSource source#0.0 readable",
        "RunDeferred",
        "RunDeferred",
        "RunSource source#1.1 readable",
    ];
    assert_eq!(lab.turn(&[first, second]), expected);
}

/// R2. A chain of deferred callbacks without end takes its budget and then waits: sources and
/// timers have their turn.
#[test]
fn r2_deferred_past_the_budget_waits_for_the_next_turn() {
    fn chain(reactor: &mut Context<()>, (): &mut ()) {
        reactor.defer(chain);
    }
    let mut lab = Lab::new();
    let source = lab.source(|_, _| {});
    lab.reactor.defer(chain);
    for _ in 0..3 {
        lab.reactor.after(Duration::ZERO, |_, _| {});
        let turn = lab.turn(&[source]);
        assert_eq!(turn.iter().filter(|line| *line == "RunDeferred").count(), DEFERRED_PER_TURN);
        assert_eq!(turn.len(), DEFERRED_PER_TURN + 2, "the source and the timer ran as well");
        assert_eq!(lab.reactor.next_wait(), Some(Duration::ZERO), "the rest is not slept over");
    }
}

/// R3. Data that has arrived beats its own timeout: the source runs first and cancels it.
#[test]
fn r3_a_timer_cancelled_in_its_turn_does_not_fire() {
    let mut lab = Lab::new();
    let timeout = lab.reactor.after(5 * MS, |_, _| panic!("timed out"));
    let source = lab.source(move |reactor, _| assert!(reactor.cancel(timeout)));
    lab.clock.advance(5 * MS);
    assert_eq!(lab.turn(&[source]), ["RunSource source#0.0 readable", "Stale timer#0.1"]);
}

/// R3. The same for a timer that is put off: it waits for its new deadline.
#[test]
fn r3_a_timer_rearmed_in_its_turn_waits_for_its_new_deadline() {
    let mut lab = Lab::new();
    let timeout = lab.reactor.after(5 * MS, |_, _| {});
    let source = lab.source(move |reactor, _| assert!(reactor.rearm(timeout, 5 * MS)));
    lab.clock.advance(5 * MS);
    assert_eq!(lab.turn(&[source]), ["RunSource source#0.0 readable", "Stale timer#0.1"]);
    lab.clock.advance(4 * MS);
    assert!(lab.turn(&[]).is_empty());
    lab.clock.advance(MS);
    assert_eq!(lab.turn(&[]), ["RunTimer timer#0.1"]);
}

/// R3. And for a source's own deadline, whatever its lane: the callback hears of its data first.
#[test]
fn r3_a_sources_data_beats_its_own_deadline_in_every_lane() {
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        let mut lab = Lab::new();
        let source = lab.source_in(priority, |reactor, id, ready| {
            if ready.contains(Readiness::READABLE) {
                let later = reactor.tick_after(5 * MS);
                reactor.set_deadline(id, Some(later));
            }
        });
        let tick = lab.reactor.tick_after(5 * MS);
        lab.reactor.set_deadline(source, Some(tick));
        lab.clock.advance(5 * MS);
        let turn = lab.turn(&[source]);
        assert_eq!(
            turn,
            ["RunSource source#0.0 readable", "Stale the deadline of source#0.0"],
            "{priority:?}"
        );
        lab.clock.advance(5 * MS);
        assert_eq!(lab.turn(&[]), ["RunSource source#0.0 deadline"], "{priority:?}");
    }
}

/// R4. Effects are immediate: an event of this turn for a source that has gone reaches nobody, also
/// when its slot is in use again.
#[test]
fn r4_an_event_for_a_slot_in_its_next_use_reaches_nobody() {
    let mut lab = Lab::new();
    let (first, gone) = (lab.source(|_, _| {}), lab.source(|_, _| panic!("has gone")));
    lab.reactor.deregister(first);
    let first = lab.source(move |reactor, id| {
        assert_eq!(reactor.deregister(gone), Some(VirtualSource));
        assert_eq!(reactor.deregister(id), Some(VirtualSource), "itself as well");
        reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
        reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
    });
    // The slots were given out again and only the generation tells.
    assert_eq!(lab.turn(&[first, gone]), ["RunSource source#0.2 readable", "Stale source#1.1"]);
    // What the poller still reports of the old source is dropped as it is collected.
    assert_eq!(lab.turn(&[gone]), ["Stale source#1.1"]);
    assert_eq!(lab.reactor.statistics().stale, 2);
    assert_eq!(lab.reactor.sources(), 2);
}

/// R5. Never early, and at most a tick late.
#[test]
fn r5_a_timer_runs_at_its_deadline_or_within_a_tick() {
    let mut lab = Lab::new();
    for micros in [0, 1, 999, 1000, 1001, 63_500, 64_000, 4_096_001] {
        let (from, delay) = (lab.clock.now(), Duration::from_micros(micros));
        lab.recorder.take();
        let clock = lab.clock.clone();
        lab.reactor.after(delay, move |_, _| {
            let took = clock.now() - from;
            assert!(took >= delay && took <= delay + MS, "{took:?} for {delay:?}");
        });
        lab.run().unwrap();
        assert_eq!(lab.ran().len(), 1);
        lab.clock.advance(Duration::from_nanos(333_333)); // not on the raster of ticks
    }
}

/// R5. Earlier deadlines first; the same deadline, the order of arming.
#[test]
fn r5_the_same_deadline_runs_in_the_order_of_arming() {
    let mut lab = Lab::new();
    for delay in [7, 7, 3, 7, 3] {
        lab.reactor.after(delay * MS, |_, _| {});
    }
    lab.clock.advance(10 * MS);
    let order = [2, 4, 0, 1, 3].map(|index| format!("RunTimer timer#{index}.1"));
    assert_eq!(lab.turn(&[]), order);
}

/// R5. Deadlines count from the turn's `now`, however long its callbacks take.
#[test]
fn r5_deadlines_count_from_the_turns_now() {
    let mut lab = Lab::new();
    let clock = lab.clock.clone();
    let source = lab.source(move |reactor, _| {
        let now = reactor.now();
        clock.advance(5 * MS); // a slow callback
        assert_eq!(reactor.now(), now);
        reactor.after(5 * MS, |_, _| {});
    });
    assert_eq!(lab.turn(&[source]), ["RunSource source#0.0 readable"]);
    assert_eq!(lab.reactor.next_wait(), Some(Duration::ZERO));
    assert_eq!(lab.turn(&[]), ["RunTimer timer#0.1"]);
}

/// R6. A turn takes so many timers and posts; the loop does not sleep over the rest.
#[test]
fn r6_timers_and_posts_past_the_budget_wait_for_the_next_turn() {
    let mut lab = Lab::new();
    for _ in 0..=TIMERS_PER_TURN {
        lab.reactor.after(Duration::ZERO, |_, _| {});
    }
    assert_eq!(lab.turn(&[]).len(), TIMERS_PER_TURN);
    assert_eq!(lab.reactor.next_wait(), Some(Duration::ZERO));
    assert_eq!(lab.turn(&[]).len(), 1);

    let remote = lab.reactor.remote();
    (0..1500).for_each(|_| remote.post(|_, _| {}).unwrap());
    let first = lab.turn(&[]).len();
    assert!(first < 1500, "all posts in one turn");
    assert_eq!(lab.reactor.next_wait(), Some(Duration::ZERO));
    assert_eq!(lab.turn(&[]).len(), 1500 - first);
}

/// R6. A source that stopped early is resumed in the next turn, without a wait and without another
/// word from the kernel; the others come in between.
#[test]
fn r6_a_source_that_stopped_early_is_resumed() {
    let mut lab = Lab::new();
    let mut left = 3;
    let greedy = lab.source(move |reactor, id| {
        left -= 1;
        if left > 0 {
            reactor.resume(id, Readiness::READABLE);
        }
    });
    let other = lab.source(|_, _| {});
    let both = ["RunSource source#0.0 readable", "RunSource source#1.1 readable"];
    assert_eq!(lab.turn(&[greedy, other]), both);
    assert_eq!(lab.reactor.next_wait(), Some(Duration::ZERO));
    assert_eq!(lab.turn(&[other]), both);
    assert_eq!(lab.turn(&[]), both[..1]);
    assert_eq!(lab.reactor.next_wait(), None);
}

/// R7. Lanes order a turn and do not lock out: however much High brings forth, Low has its turn.
#[test]
fn r7_a_low_event_runs_in_the_turn_that_collected_it() {
    let mut lab = Lab::new();
    let low = lab.source_in(Priority::Low, |_, _, _| {});
    let normal = lab.source(|_, _| {});
    let high = lab.source_in(Priority::High, |reactor, id, _| {
        (0..3).for_each(|_| reactor.enqueue(Priority::High, |_, _| {}));
        reactor.resume(id, Readiness::READABLE);
    });
    let lanes = [2, 1, 0].map(|slot| format!("RunSource source#{slot}.{slot} readable"));
    assert_eq!(lab.turn(&[low, normal, high]), lanes);
    let flood = lab.turn(&[low]);
    assert_eq!(flood[..3], ["RunEnqueued", "RunEnqueued", "RunEnqueued"]);
    assert_eq!(flood[3..], [&*lanes[0], &*lanes[2]], "the flood goes on, and Low still runs");
}

/// R8. `run` returns when nothing referenced is left, and `why_alive` says what is, and from where.
#[test]
fn r8_run_returns_when_nothing_referenced_is_left() {
    let mut lab = Lab::new();
    let line = line!() + 1;
    let timer = lab.reactor.after(5 * MS, |_, _| {});
    let beat = lab.reactor.every(MS, Missed::Skip, |_, _, _| {});
    let source = lab.source(|_, _| {});
    assert!(lab.reactor.unref(beat) && lab.reactor.unref(source));
    match lab.reactor.why_alive()[..] {
        [Alive::Timer(id, place)] => {
            assert_eq!((id, place.file(), place.line()), (timer, file!(), line));
        }
        ref other => panic!("{other:?}"),
    }
    lab.run().unwrap();
    let ran = lab.ran();
    assert_eq!(ran.iter().filter(|line| *line == "RunTimer timer#1.1").count(), 5);
    assert_eq!(ran.iter().filter(|line| *line == "RunTimer timer#0.1").count(), 1);
    assert_eq!((lab.reactor.timers(), lab.reactor.sources()), (1, 1), "they are still there");
    assert!(!lab.reactor.is_alive() && lab.reactor.why_alive().is_empty());
}

/// R8. `stop` lets the turn be complete and the next one wait for another `run`.
#[test]
fn r8_run_returns_on_stop() {
    let mut lab = Lab::new();
    let first = lab.source(|reactor, _| {
        reactor.stop();
        reactor.enqueue(Priority::High, |_, _| {});
    });
    let second = lab.source(|_, _| {});
    lab.report(&[first, second]);
    lab.run().unwrap();
    assert_eq!(lab.ran(), ["RunSource source#0.0 readable", "RunSource source#1.1 readable"]);
    lab.reactor.unref(first);
    lab.reactor.unref(second);
    lab.run().unwrap();
    assert_eq!(lab.ran(), ["RunEnqueued"]);
}

/// Three sources, the one in the middle of which panics, and what that one defers.
fn panicking(policy: PanicPolicy) -> (Lab, [Source; 3]) {
    let mut lab = Lab::with(Reactor::builder().panic_policy(policy));
    let before = lab.source(|_, _| {});
    let bad = lab.source(|reactor, _| {
        reactor.defer(|_, _| {});
        panic!("on purpose");
    });
    let after = lab.source(|_, _| {});
    (lab, [before, bad, after])
}

/// R9. A panic unwinds out of `run` and loses nothing but itself: the rest of the turn's events
/// runs in the next `run`, and the source that panicked is still there.
#[test]
fn r9_a_panic_unwinds_and_loses_nothing_but_itself() {
    let (mut lab, sources) = panicking(PanicPolicy::Propagate);
    lab.report(&sources);
    assert!(catch_unwind(AssertUnwindSafe(|| lab.run())).is_err());
    assert_eq!(lab.ran(), ["RunSource source#0.0 readable", "RunSource source#1.1 readable"]);
    assert_eq!(
        lab.turn(&[sources[0]]),
        ["RunDeferred", "RunSource source#2.2 readable", "RunSource source#0.0 readable"]
    );
    assert!(sources.iter().all(|source| lab.reactor.contains(*source)));
}

/// R9. What a panic left in the queue is not told a second time when it becomes due again.
#[test]
fn r9_a_deadline_that_a_panic_left_over_and_was_armed_again_is_told_once() {
    let (mut lab, [_, bad, late]) = panicking(PanicPolicy::Propagate);
    lab.reactor.set_deadline(late, Some(waterwheel::timers::Tick::new(0)));
    lab.report(&[bad]);
    assert!(catch_unwind(AssertUnwindSafe(|| lab.run())).is_err());
    lab.reactor.set_deadline(late, Some(waterwheel::timers::Tick::new(0)));
    let turn = lab.turn(&[]);
    assert_eq!(turn[..2], ["RunDeferred", "RunSource source#2.2 deadline"]);
    assert!(turn[2..].iter().all(|line| line.starts_with("Stale")), "{turn:?}");
}

/// R9. Or, by policy, the source that panicked is dropped and the loop goes on.
#[test]
fn r9_by_policy_what_panicked_is_dropped_and_the_loop_goes_on() {
    let (mut lab, sources) = panicking(PanicPolicy::Drop);
    assert_eq!(
        lab.turn(&sources),
        [
            "RunSource source#0.0 readable",
            "RunSource source#1.1 readable",
            "RunDeferred",
            "RunSource source#2.2 readable"
        ]
    );
    assert!(!lab.reactor.contains(sources[1]));
    assert_eq!(lab.reactor.sources(), 2);
    assert_eq!(lab.reactor.statistics().panicked, 1);
}

/// R10. One source's error never leaves `run`: here one whose descriptor was closed behind the
/// loop's back, so that not even its removal succeeds.
#[test]
fn r10_the_error_of_one_source_never_leaves_run() {
    let _ceiling = ceiling(Duration::from_secs(10));
    let mut lab = Lab::new();
    let (reader, _writer) = std::os::unix::net::UnixStream::pair().unwrap();
    reader.set_nonblocking(true).unwrap();
    let behind = Fd(std::os::fd::AsRawFd::as_raw_fd(&reader));
    let broken = lab.reactor.register(behind, Interest::READABLE, |reactor, _, id, _| {
        assert!(reactor.set_interest(id, Interest::WRITABLE).is_err());
        assert!(reactor.remove(id));
    });
    let broken = broken.unwrap();
    let other = lab.source(|reactor, id| assert!(reactor.remove(id)));
    drop(reader);
    let ready = Readiness::READABLE | Readiness::ERROR;
    lab.script.report([(broken.raw(), ready), (other.raw(), ready)]);
    lab.run().unwrap();
    let subjects = [broken.raw(), other.raw()].map(Subject::Source);
    let ran: Vec<Subject> = lab
        .recorder
        .take()
        .iter()
        .filter(|event| is_run(event))
        .map(|event| event.subject)
        .collect();
    assert_eq!(ran, subjects);
}
