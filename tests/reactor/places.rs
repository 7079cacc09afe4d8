//! Places: each record of the trace names a line of the program or of the crate. A function that
//! asks for its caller and is passed on as a value names a line of Rust's core library instead.

use std::collections::BTreeSet;
use std::time::Duration;

use support::{MS, assert_at_home, ceiling};
use waterwheel::Reactor;
use waterwheel::net::memory;
use waterwheel::patterns::Broken;
use waterwheel::patterns::tasks::{Schedule, Task, TaskQueue};
use waterwheel::reactor::{
    Interest, Kind, LoopEvent, Missed, Options, PanicPolicy, Priority, Readiness, Recorder, Script,
    Subject, VirtualSource,
};
use waterwheel::timers::ManualClock;

/// How many kinds of records there are. A new one does not compile until it has a number.
const KINDS: usize = 34;

fn number(kind: Kind) -> usize {
    match kind {
        Kind::Turn => 0,
        Kind::Wait => 1,
        Kind::Flushed => 2,
        Kind::Polled => 3,
        Kind::Ready => 4,
        Kind::Expired => 5,
        Kind::Collected => 6,
        Kind::RunSource => 7,
        Kind::RunTimer => 8,
        Kind::RunDeferred => 9,
        Kind::RunEnqueued => 10,
        Kind::RunPosted => 11,
        Kind::RunHook => 12,
        Kind::RunNested => 13,
        Kind::Returned => 14,
        Kind::Panicked => 15,
        Kind::Stale => 16,
        Kind::Registered => 17,
        Kind::Deregistered => 18,
        Kind::Resumed => 19,
        Kind::Armed => 20,
        Kind::Rearmed => 21,
        Kind::Cancelled => 22,
        Kind::Deferred => 23,
        Kind::Enqueued => 24,
        Kind::Stopped => 25,
        Kind::Stamped => 26,
        Kind::Dispatch => 27,
        Kind::Prioritised => 28,
        Kind::Held => 29,
        Kind::Received => 30,
        Kind::Written => 31,
        Kind::Sent => 32,
        Kind::Failed => 33,
    }
}

struct Told;

/// A loop with a source that has a deadline, another that goes while it is queued, timers of each
/// kind, jobs, posts, hooks, listeners, promises, tasks and a callback that panics.
fn busy_loop(recorder: &Recorder, script: &Script) -> Reactor<()> {
    let builder = Reactor::builder().clock(&ManualClock::new()).script(script);
    let builder = builder.observer(recorder.observer()).panic_policy(PanicPolicy::Drop);
    let mut reactor = builder.build().expect("descriptors are left");
    reactor.before_poll(|_, _| {});
    reactor.after_poll(|_, _| {});
    reactor.on_idle(|_, _| {});
    reactor.subscribe(|_, _, _: &Told| {});
    let flush = Options { flush: true, ..Options::default() };
    let timed =
        reactor.register_with(VirtualSource, Interest::READABLE, flush, |reactor, _, id, why| {
            if why.contains(Readiness::DEADLINE) {
                reactor.remove(id);
            } else if why.contains(Readiness::READABLE) {
                reactor.resume(id, Readiness::WRITABLE);
                reactor.set_deadline(id, Some(reactor.tick_after(2 * MS)));
            }
        });
    let timed = timed.expect("nothing refuses it");
    let stale = reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {});
    let stale = stale.expect("nothing refuses it");
    reactor.set_priority(timed, Priority::Low);
    let _ = &mut reactor[timed];
    script.report([timed, stale].map(|id| (id.raw(), Readiness::READABLE)));
    reactor.after_poll(move |reactor, _| {
        reactor.remove(stale);
    });
    let put_off = reactor.after(MS, |_, _| {});
    reactor.rearm(put_off, 2 * MS);
    let gone = reactor.after(MS, |_, _| {});
    reactor.after(Duration::ZERO, move |reactor, _| {
        reactor.cancel(gone);
        reactor.offload(|| 1, |_, _, _| {});
        let job = reactor.offload(|| 2, |_, _, _| {});
        reactor.cancel_job(job);
    });
    reactor.every(MS, Missed::Skip, |reactor, state, occurrence| {
        reactor.emit(state, &Told);
        reactor.publish(Told);
        reactor.cancel(occurrence.timer);
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    reactor.defer(|_, _| {});
    reactor.enqueue(Priority::Low, |_, _| {});
    reactor.remote().post(|_, _| {}).expect("the loop is there");
    let (promise, resolver) = reactor.promise::<u8, Broken>();
    promise.then(&mut reactor, |_, _, value| Ok(value)).catch(&mut reactor, |_, _, _| Ok(0));
    resolver.resolve(&mut reactor, 1);
    let queue = TaskQueue::new().open(&mut reactor).expect("nothing refuses it");
    let once = Task::new("once", Schedule::after(MS));
    queue.add(&mut reactor, once, |_, _, _| {}).expect("it is new");
    let (near, far) = memory::pair(&mut reactor);
    let near = near.open(&mut reactor, |_, _, _, _| {});
    far.open(&mut reactor, |_, _, _, _| {});
    let _ = near.write(&mut reactor, b"hello");
    reactor.unref(near);
    reactor.note_failed(near.raw(), &std::io::Error::from_raw_os_error(24));
    reactor.after(50 * MS, |reactor, _| reactor.stop());
    reactor
}

#[test]
fn every_record_names_a_place_in_the_program_or_the_crate() {
    let _ceiling = ceiling(Duration::from_secs(30));
    let (recorder, script) = (Recorder::new(), Script::new());
    let mut reactor = busy_loop(&recorder, &script);
    reactor.run(&mut ()).unwrap();
    let events = recorder.take();
    assert_at_home(&events);
    let kinds: BTreeSet<usize> = events.iter().map(|event| number(event.kind)).collect();
    let missing: Vec<usize> = (0..KINDS).filter(|kind| !kinds.contains(kind)).collect();
    assert!(missing.is_empty(), "no record of the kinds {missing:?}");
}

/// The deadline of a source is its own: the place is that of the source.
#[test]
fn expired_deadline_of_a_source_names_the_place_of_the_source() {
    let (recorder, clock) = (Recorder::new(), ManualClock::new());
    let builder = Reactor::builder().clock(&clock).observer(recorder.observer());
    let mut reactor = builder.build().unwrap();
    let line = line!() + 1;
    let source = reactor.register(VirtualSource, Interest::READABLE, |reactor, _, id, _| {
        reactor.remove(id);
    });
    reactor.set_deadline(source.unwrap(), Some(waterwheel::timers::Tick::new(3)));
    reactor.run(&mut ()).unwrap();
    let of = |kind: Kind| move |event: &&LoopEvent| event.kind == kind;
    let events = recorder.take();
    let expired = events.iter().find(of(Kind::Expired)).unwrap();
    assert!(matches!(expired.subject, Subject::Deadline(_)));
    let source = events.iter().find(of(Kind::RunSource)).unwrap();
    for event in [expired, source] {
        assert_eq!((event.place.file(), event.place.line()), (file!(), line), "{event}");
    }
}

/// Signals and children, whose sources the crate registers for the program.
#[test]
#[cfg(all(unix, feature = "process"))]
fn records_of_a_child_name_the_program_or_the_crate() {
    use std::process::Command;
    use waterwheel::process::Spawn;

    let _ceiling = ceiling(Duration::from_secs(30));
    let recorder = Recorder::new();
    let mut reactor = Reactor::builder().observer(recorder.observer()).build().unwrap();
    let child = Spawn::new(Command::new("true")).stdout().open(&mut reactor, |_, _, _, _| {});
    let mut child = child.unwrap();
    child.stdout.take().unwrap().open(&mut reactor, |_, _, _, _| {});
    reactor.run(&mut ()).unwrap();
    assert_at_home(&recorder.take());
}

/// A call over HTTP that takes too long, through the server, the client and its pool.
#[test]
#[cfg(feature = "http")]
fn records_of_a_call_name_the_program_or_the_crate() {
    use waterwheel::Context;
    use waterwheel::net::sim::{Faults, Network};
    use waterwheel::protocols::http::{Client, ClientRequest, Reply, Server};

    let _ceiling = ceiling(Duration::from_secs(30));
    let (recorder, clock) = (Recorder::new(), ManualClock::new());
    let builder = Reactor::builder().clock(&clock).observer(recorder.observer());
    let mut reactor = builder.build().unwrap();
    let network = Network::new(&mut reactor, 1, Faults::default());
    let addr = "10.0.0.1:80".parse().unwrap();
    let server = Server::new(|reactor: &mut Context<Vec<Reply>>, held, request, reply: Reply| {
        let request: &waterwheel::protocols::http::Request<'_> = request;
        match request.path() {
            "/at-once" => drop(reply.send(reactor, "here")),
            _ => held.push(reply),
        }
    });
    let listen = network.listen(&mut reactor, addr, move |reactor, _, stream| {
        server.serve(reactor, stream);
    });
    listen.unwrap();
    let client = Client::new().dialer(move |reactor, _, done| {
        Ok(Some(network.connect(reactor, addr, Duration::from_secs(1), done)?.raw()))
    });
    for path in ["at-once", "never"] {
        let request = ClientRequest::get(format!("http://10.0.0.1/{path}")).timeout(100 * MS);
        client.send(&mut reactor, request, |_, _, _| {});
    }
    reactor.after(200 * MS, |reactor, _| reactor.stop());
    reactor.run(&mut Vec::new()).unwrap();
    assert_at_home(&recorder.take());
}
