//! Records: the trace says all that happens to a source, its deadline, a timer and a deferred callback.

use std::time::Duration;

use support::MS;
use waterwheel::Reactor;
use waterwheel::reactor::{
    Interest, Kind, LoopEvent, Missed, Priority, Readiness, Recorder, Script, Subject,
    VirtualSource,
};
use waterwheel::timers::{ManualClock, Tick};

/// A loop whose time stands still and whose kernel is a script.
struct Lab {
    reactor: Reactor<()>,
    clock: ManualClock,
    script: Script,
    recorder: Recorder,
}

impl Lab {
    fn new() -> Lab {
        let (clock, script, recorder) = (ManualClock::held(), Script::new(), Recorder::new());
        let builder = Reactor::builder().clock(&clock).script(&script);
        let reactor = builder.observer(recorder.observer()).build().unwrap();
        Lab { reactor, clock, script, recorder }
    }

    fn turn(&mut self) {
        self.reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    }

    /// The records about this subject since the last call, as kind and argument.
    fn about(&self, subject: Subject) -> Vec<(Kind, u32)> {
        let of = |event: &LoopEvent| event.subject == subject;
        self.recorder.take().iter().filter(|event| of(event)).map(shown).collect()
    }
}

fn shown(event: &LoopEvent) -> (Kind, u32) {
    (event.kind, event.argument)
}

const LOW: u32 = 2 << 16;

#[test]
fn deadline_of_a_source_is_seen_from_arming_to_its_end() {
    let mut lab = Lab::new();
    let source = lab.reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
    let deadline = Subject::Deadline(source.raw());
    lab.reactor.set_priority(source, Priority::Low);
    let (low, readable) = (Priority::Low as u32, 1);
    let of_source = [(Kind::Registered, 0), (Kind::Prioritised, low)];
    assert_eq!(lab.about(Subject::Source(source.raw())), of_source);

    for tick in [Some(5), Some(7), None, None, Some(3)] {
        lab.reactor.set_deadline(source, tick.map(Tick::new));
    }
    let set = [(Kind::Armed, 5), (Kind::Rearmed, 7), (Kind::Cancelled, 0), (Kind::Armed, 3)];
    assert_eq!(lab.about(deadline), set);

    lab.clock.advance(3 * MS);
    lab.script.report([(source.raw(), Readiness::READABLE)]);
    lab.turn();
    let events = lab.recorder.take();
    let of_turn: Vec<_> = events.iter().filter(|event| event.kind != Kind::Returned).collect();
    let kinds = of_turn.iter().map(|event| shown(event)).collect::<Vec<_>>();
    let expected = [
        (Kind::Turn, 1),
        (Kind::Wait, 0),
        (Kind::Polled, 1),
        (Kind::Stamped, 3),
        (Kind::Ready, readable | LOW),
        (Kind::Expired, LOW),
        (Kind::Dispatch, 2),
        (Kind::RunSource, readable),
        (Kind::RunSource, 64),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(of_turn[5].subject, deadline);

    lab.reactor.set_deadline(source, Some(Tick::new(4)));
    lab.clock.advance(MS);
    lab.reactor.after_poll(move |reactor, ()| {
        reactor.set_deadline(source, None);
    });
    lab.turn();
    let dropped = [(Kind::Armed, 4), (Kind::Expired, LOW), (Kind::Cancelled, 0), (Kind::Stale, 1)];
    assert_eq!(lab.about(deadline), dropped);
}

#[test]
fn each_occurrence_of_a_repeating_timer_is_armed_in_a_record() {
    let mut lab = Lab::new();
    let timer = lab.reactor.every(5 * MS, Missed::Skip, |_, _, _| {});
    for _ in 0..2 {
        lab.clock.advance(5 * MS);
        lab.turn();
    }
    let normal = 1 << 16;
    let occurrence = |next| [(Kind::Expired, normal), (Kind::Rearmed, next), (Kind::RunTimer, 0)];
    let expected = [&[(Kind::Armed, 5)][..], &occurrence(10), &occurrence(15)].concat();
    assert_eq!(lab.about(Subject::Timer(timer)), expected);
}

#[test]
fn stale_event_says_if_it_was_in_the_queue_and_a_hook_which_one_it_is() {
    let mut lab = Lab::new();
    let gone = lab.reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
    lab.reactor.remove(gone);
    let goes = lab.reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
    lab.reactor.before_poll(|_, ()| {});
    lab.reactor.after_poll(move |reactor, ()| {
        reactor.remove(goes);
    });
    lab.reactor.on_idle(|_, ()| {});
    lab.script.report([gone.raw(), goes.raw()].map(|id| (id, Readiness::READABLE)));
    lab.turn();
    let events = lab.recorder.take();
    let of = |kind: Kind| events.iter().filter(move |event| event.kind == kind);
    assert_eq!(of(Kind::Stale).map(|event| event.argument).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(of(Kind::RunHook).map(|event| event.argument).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn callback_that_was_deferred_without_a_context_has_the_cause_that_deferred_it() {
    let mut lab = Lab::new();
    let local = lab.reactor.local();
    lab.reactor.enqueue(Priority::Normal, move |_, ()| {
        local.defer(waterwheel::reactor::Place::caller(), Box::new(|_, ()| {}));
    });
    lab.turn();
    let events = lab.recorder.take();
    let find = |kind: Kind| events.iter().find(|event| event.kind == kind).unwrap();
    let by = find(Kind::RunEnqueued).sequence;
    assert_eq!((find(Kind::Deferred).cause, find(Kind::RunDeferred).cause), (by, by));
}

#[test]
fn records_between_two_ends_have_the_time_of_the_first() {
    let mut lab = Lab::new();
    let clock = lab.clock.clone();
    lab.reactor.enqueue(Priority::Normal, move |reactor, ()| {
        clock.advance(2 * MS); // A slow callback.
        reactor.defer(|_, ()| {});
    });
    lab.turn();
    let events = lab.recorder.take();
    let at = |kind: Kind| {
        let of = events.iter().filter(|event| event.kind == kind);
        of.map(|event| event.nanos / 1_000_000).collect::<Vec<_>>()
    };
    assert_eq!((at(Kind::RunEnqueued), at(Kind::Deferred)), (vec![0], vec![0]));
    assert_eq!((at(Kind::RunDeferred), at(Kind::Returned)), (vec![2], vec![2, 2]));
    let took = events.iter().find(|event| event.kind == Kind::Returned).unwrap();
    assert_eq!(took.argument, 2000, "in microseconds");
}
