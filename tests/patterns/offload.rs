//! Jobs: work that leaves the loop's thread, and results that come back to it.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{MS, ceiling};
use waterwheel::patterns::{JobError, JobId, JobStatistics, Promise, WORKERS};
use waterwheel::reactor::{
    Alive, Context, Interest, Kind, LoopEvent, Missed, POSTS_PER_TURN, PanicPolicy, PostError,
    Priority, RawId, Reactor, Readiness, Recorder, Subject, VirtualSource,
};
use waterwheel::timers::ManualClock;

const LIMIT: Duration = Duration::from_secs(60);

/// What callbacks have noted.
type Log = Vec<String>;

/// A `done` that notes how its job ended.
fn note(name: &'static str) -> impl FnOnce(&mut Context<Log>, &mut Log, Result<u32, JobError>) {
    move |_, log, result| {
        log.push(match result {
            Ok(value) => format!("{name} {value}"),
            Err(error) => format!("{name}: {error}"),
        });
    }
}

/// A job that occupies a worker until it is let go; returns when it has begun.
fn occupy<S: 'static>(reactor: &mut Context<S>) -> (JobId, Sender<()>) {
    let (begin, begun) = channel();
    let (release, released) = channel::<()>();
    let work = move || {
        begin.send(()).unwrap();
        let _ = released.recv(); // until the sender is dropped
    };
    let id = reactor.offload(work, |_, _, result| result.unwrap());
    begun.recv().unwrap();
    (id, release)
}

#[test]
fn work_runs_on_a_named_worker_and_its_result_comes_back_to_the_loops_thread() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let (here, kept) = (thread::current().id(), Rc::new(Cell::new(0))); // not `Send`
    let count = kept.clone();
    let work = || (thread::current().name().map(str::to_owned), thread::current().id());
    reactor.offload(work, move |_, names: &mut Vec<String>, result| {
        let (name, id) = result.unwrap();
        assert_ne!(id, here);
        assert_eq!(thread::current().id(), here);
        count.set(count.get() + 1);
        names.extend(name);
    });
    let mut names = Vec::new();
    reactor.run(&mut names).unwrap();
    assert_eq!((names, kept.get()), (vec!["waterwheel-worker-0".to_owned()], 1));
    assert_eq!((reactor.jobs(), reactor.is_alive()), (0, false));
}

#[test]
fn jobs_are_offloaded_and_cancelled_from_inside_every_kind_of_callback() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).build().unwrap();
    /// Offloads two jobs and takes the second back; the first, begun or not, is let run.
    fn offload(name: &'static str, reactor: &mut Context<Log>) {
        let (_, release) = occupy(reactor);
        reactor.offload(|| 1, note(name));
        let second = reactor.offload(|| 2, note(name));
        assert!(reactor.cancel_job(second), "{name}");
        assert!(!reactor.cancel_job(second), "{name}");
        drop(release);
    }
    let source = reactor.register(VirtualSource, Interest::READABLE, |reactor, _, id, _| {
        offload("source", reactor);
        reactor.remove(id);
    });
    reactor.resume(source.unwrap(), Readiness::READABLE);
    reactor.after(Duration::ZERO, |reactor, _| offload("timer", reactor));
    reactor.every(MS, Missed::Skip, |reactor, _, occurrence| {
        offload("every", reactor);
        reactor.cancel(occurrence.timer);
    });
    reactor.defer(|reactor, _| offload("deferred", reactor));
    reactor.enqueue(Priority::High, |reactor, _| offload("enqueued", reactor));
    reactor.remote().post(|reactor, _| offload("posted", reactor)).unwrap();
    reactor.offload(|| (), |reactor, _, _| offload("job", reactor));
    let once = |name: &'static str| {
        let mut first = true;
        move |reactor: &mut Context<Log>, _: &mut Log| {
            if std::mem::take(&mut first) {
                offload(name, reactor);
            }
        }
    };
    reactor.before_poll(once("before_poll"));
    reactor.after_poll(once("after_poll"));
    reactor.on_idle(once("idle"));
    let mut log = Log::new();
    reactor.run(&mut log).unwrap();
    reactor.after(2 * MS, |_, _| {}); // a turn in which nothing runs, should there have been none
    while !log.iter().any(|line| line == "idle 1") {
        reactor.turn(&mut log, Some(MS)).unwrap();
    }
    log.sort();
    let names = [
        "after_poll",
        "before_poll",
        "deferred",
        "enqueued",
        "every",
        "idle",
        "job",
        "posted",
        "source",
        "timer",
    ];
    let expected = names
        .iter()
        .flat_map(|name| [format!("{name} 1"), format!("{name}: the job was cancelled")]);
    assert_eq!(log, expected.collect::<Log>());
}

#[test]
fn one_job_more_than_may_wait_is_refused_but_never_inside_of_the_call() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).jobs_max(2).build().unwrap();
    let (_, release) = occupy(&mut reactor);
    let mut log = Log::new();
    reactor.enqueue(Priority::Normal, |reactor, log| {
        for name in ["first", "second", "third", "fourth"] {
            reactor.offload(|| 0, note(name));
        }
        log.push("offloaded".into());
        reactor.enqueue(Priority::Normal, |_, log| log.push("enqueued after".into()));
    });
    reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
    assert_eq!(log, ["offloaded"]);
    reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
    let full = "too many jobs wait for a worker";
    let (third, fourth) = (format!("third: {full}"), format!("fourth: {full}"));
    assert_eq!(log, ["offloaded", &third, &fourth, "enqueued after"]);
    assert_eq!(reactor.job_statistics(), JobStatistics { offloaded: 5, refused: 2 });
    drop(release);
    log.clear();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["first 0", "second 0"], "one worker, so they end in order, too");
    reactor.offload(|| 0, note("later"));
    reactor.run(&mut log).unwrap();
    assert_eq!(log[2], "later 0", "there is room again");
}

#[test]
fn only_a_job_that_has_not_begun_is_taken_back_and_its_captures_go_at_once() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).jobs_max(1).build().unwrap();
    let (running, release) = occupy(&mut reactor);
    let (capture, mut log) = (Arc::new(()), Log::new());
    let captured = capture.clone();
    let work = move || Arc::strong_count(&captured) as u32;
    let waiting = reactor.offload(work, note("waiting"));
    assert!(!reactor.cancel_job(running), "it has begun");
    assert!(reactor.cancel_job(waiting));
    assert_eq!(Arc::strong_count(&capture), 1);
    assert!(!reactor.cancel_job(waiting), "it is settled");
    assert!(log.is_empty());
    let next = reactor.offload(|| 7, note("next"));
    assert_ne!(next, waiting);
    drop(release);
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["waiting: the job was cancelled", "next 7"]);
    assert!([running, waiting, next].iter().all(|stale| !reactor.cancel_job(*stale)));
    assert!(!reactor.unref(next) && !reactor.reref(next));
}

#[test]
fn cancelling_and_offloading_again_and_again_frees_as_it_goes() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).jobs_max(1).build().unwrap();
    let (_, release) = occupy(&mut reactor);
    let capture = Arc::new(());
    for _ in 0..10_000 {
        let captured = capture.clone();
        let id = reactor.offload(
            move || drop(captured),
            |_, log, result| {
                assert!(matches!(result, Err(JobError::Cancelled)));
                log.push(String::new());
            },
        );
        assert!(reactor.cancel_job(id), "never full");
    }
    assert_eq!(Arc::strong_count(&capture), 1);
    drop(release);
    let mut log = Log::new();
    reactor.run(&mut log).unwrap();
    assert_eq!(log.len(), 10_000);
}

/// [`occupy`] for a job with a key.
fn occupy_key(reactor: &mut Context<Log>, key: &str) -> Sender<()> {
    let (begin, begun) = channel();
    let (release, released) = channel::<()>();
    let work = move || {
        begin.send(()).unwrap();
        let _ = released.recv();
        0
    };
    reactor.offload_ordered(key, work, note("first"));
    begun.recv().unwrap();
    release
}

#[test]
fn jobs_of_one_key_run_one_after_the_other_and_hold_up_nobody_else() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(4).build().unwrap();
    let release = occupy_key(&mut reactor, "a");
    let begun = Arc::new(AtomicBool::new(false));
    let flag = begun.clone();
    let second = move || u32::from(flag.swap(true, Ordering::SeqCst)) + 2;
    // Another type of the same text is the same key.
    reactor.offload_ordered(String::from("a"), second, note("second"));
    reactor.offload_ordered("a", || 3, note("third"));
    reactor.offload_ordered("b", || 4, note("other key"));
    reactor.offload(|| 5, note("none"));
    let mut log = Log::new();
    while log.len() < 2 {
        reactor.turn(&mut log, None).unwrap();
    }
    log.sort();
    assert_eq!(log, ["none 5", "other key 4"]);
    assert!(!begun.load(Ordering::SeqCst), "three workers are free, and its turn has not come");
    drop(release);
    reactor.run(&mut log).unwrap();
    assert_eq!(log[2..], ["first 0", "second 2", "third 3"]);
}

#[test]
fn a_crowd_of_keys_never_overlaps_and_keeps_each_keys_order() {
    const KEYS: usize = 5;
    let _ceiling = ceiling(LIMIT);
    let mut rng = support::Rng::new();
    let running: Arc<[AtomicBool; KEYS]> = Arc::default();
    let mut reactor = Reactor::<Vec<Vec<u32>>>::builder().workers(4).build().unwrap();
    let mut cancelled = 0;
    for number in 0..2000 {
        let (key, running) = (rng.below(KEYS as u64) as usize, running.clone());
        let work = move || {
            assert!(!running[key].swap(true, Ordering::SeqCst), "two of one key at once");
            thread::yield_now();
            assert!(running[key].swap(false, Ordering::SeqCst));
        };
        let done = move |_: &mut Context<_>, ends: &mut Vec<Vec<u32>>, result| match result {
            Ok(()) => ends[key].push(number),
            Err(JobError::Cancelled) => {}
            Err(error) => panic!("{error}"),
        };
        let job = reactor.offload_ordered(key, work, done);
        cancelled += usize::from(rng.below(4) == 0 && reactor.cancel_job(job));
    }
    let mut ends = vec![Vec::new(); KEYS];
    reactor.run(&mut ends).unwrap();
    assert_eq!(ends.iter().map(Vec::len).sum::<usize>(), 2000 - cancelled);
    assert!(ends.iter().all(|ends| ends.is_sorted()));
}

#[test]
fn jobs_of_one_key_want_one_worker() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(4).build().unwrap();
    let name = || thread::current().name().unwrap().to_owned();
    for _ in 0..50 {
        let done =
            |_: &mut Context<Log>, log: &mut Log, name: Result<_, _>| log.push(name.unwrap());
        reactor.offload_ordered(7, name, done);
    }
    let mut log = Log::new();
    reactor.run(&mut log).unwrap();
    log.dedup();
    assert_eq!(log, ["waterwheel-worker-0"]);
}

#[test]
fn a_job_of_a_key_that_panics_or_is_cancelled_lets_the_next_go_on() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).build().unwrap();
    let (_, release) = occupy(&mut reactor);
    let ordered = |reactor: &mut Context<Log>, name| reactor.offload_ordered("a", || 1, note(name));
    let head = ordered(&mut reactor, "head");
    reactor.offload_ordered("a", || panic_any(Bomb), note("panics"));
    let middle = ordered(&mut reactor, "middle");
    ordered(&mut reactor, "last");
    // One that would be next, and one that stands behind others.
    assert!(reactor.cancel_job(head) && reactor.cancel_job(middle));
    drop(release);
    let mut log = Log::new();
    reactor.run(&mut log).unwrap();
    let cancelled = |name| format!("{name}: the job was cancelled");
    assert_eq!(log[..2], [cancelled("head"), cancelled("middle")]);
    assert_eq!(log[2..], ["panics: the job panicked: ?", "last 1"]);
    log.clear();
    // All of a key are taken back, and it is used again.
    let (_, release) = occupy(&mut reactor);
    let jobs = [(); 3].map(|()| reactor.offload_ordered("b", || 2, |_, _, _| {}));
    assert!(jobs.iter().all(|job| reactor.cancel_job(*job)));
    reactor.offload_ordered("b", || 3, note("again"));
    drop(release);
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["again 3"]);
}

#[test]
fn jobs_that_wait_for_their_key_are_bounded_and_dropped_with_the_loop() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).jobs_max(2).build().unwrap();
    let release = occupy_key(&mut reactor, "a");
    let capture = Arc::new(());
    for name in ["one", "two", "three"] {
        let captured = capture.clone();
        let work = move || Arc::strong_count(&captured) as u32;
        reactor.offload_ordered("a", work, note(name));
    }
    assert_eq!(Arc::strong_count(&capture), 3, "the third was dropped");
    let mut log = Log::new();
    reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
    assert_eq!(log, ["three: too many jobs wait for a worker"]);
    drop(reactor);
    assert_eq!(Arc::strong_count(&capture), 1);
    drop(release);
}

/// Panics again when it is dropped, as a payload may.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_panic_in_the_work_arrives_as_an_error_and_the_thread_lives_on() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).build().unwrap();
    let mut log = Log::new();
    let worker = Arc::new(Mutex::new(None));
    let (first, last) = (worker.clone(), worker);
    reactor.offload(move || *first.lock().unwrap() = Some(thread::current().id()), |_, _, _| {});
    reactor.offload(|| panic!("static"), note("a"));
    reactor.offload(|| panic!("with {}", 7), note("b"));
    reactor.offload(|| panic_any(7), note("c"));
    reactor.offload(|| panic_any(Bomb), note("d"));
    let same = move || u32::from(*last.lock().unwrap() == Some(thread::current().id()));
    reactor.offload(same, note("same thread"));
    reactor.run(&mut log).unwrap();
    let panicked = |name, message| format!("{name}: the job panicked: {message}");
    let expected =
        [panicked("a", "static"), panicked("b", "with 7"), panicked("c", "?"), panicked("d", "?")];
    assert_eq!(log[..4], expected);
    assert_eq!(log[4..], ["same thread 1"]);
}

/// Tells when the thread that has touched it ends.
struct Farewell(Sender<()>);

impl Drop for Farewell {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

thread_local!(static FAREWELL: RefCell<Option<Farewell>> = const { RefCell::new(None) });

#[test]
fn a_reactor_that_is_dropped_calls_nobody_waits_for_nobody_and_ends_its_threads() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<()>::builder().workers(2).build().unwrap();
    let (shared, local) = (Arc::new(()), Rc::new(()));
    let (end, ended): (_, Receiver<()>) = channel();
    let (begin, begun) = channel();
    let (release, released) = channel::<()>();
    let (result, captured, end_of_idle) = (shared.clone(), local.clone(), end.clone());
    let work = move || {
        FAREWELL.set(Some(Farewell(end)));
        begin.send(()).unwrap();
        let _ = released.recv();
        result // arrives too late, and is dropped by the worker
    };
    reactor.offload(work, move |_, (), _| unreachable!("{captured:?}"));
    begun.recv().unwrap();
    // The other worker idles.
    reactor.offload(|| FAREWELL.set(Some(Farewell(end_of_idle))), |reactor, (), _| reactor.stop());
    reactor.run(&mut ()).unwrap();
    // And this waits behind a second one that runs.
    let (_, second) = occupy(&mut reactor);
    let (waiting, captured) = (shared.clone(), local.clone());
    reactor.offload(move || drop(waiting), move |_, (), _| unreachable!("{captured:?}"));
    drop(reactor);
    assert_eq!(Rc::strong_count(&local), 1, "the callbacks' captures are dropped");
    assert_eq!(Arc::strong_count(&shared), 2, "what waited, too; the first one is still running");
    assert!(ended.try_recv().is_err());
    drop((release, second));
    assert_eq!((ended.recv(), ended.recv()), (Ok(()), Ok(())), "and both threads end");
    assert_eq!(Arc::strong_count(&shared), 1);
}

#[test]
fn a_reactor_may_be_dropped_at_any_moment_of_its_jobs() {
    let _ceiling = ceiling(LIMIT);
    let shared = Arc::new(());
    for round in 0..1000 {
        let mut reactor = Reactor::<()>::builder().workers(2).build().unwrap();
        let local = Rc::new(());
        for job in 0..6 {
            let (result, captured) = (shared.clone(), local.clone());
            let id = reactor.offload(move || result, move |_, (), _| drop(captured));
            if job == round % 8 {
                reactor.cancel_job(id);
            }
        }
        for _ in 0..round % 4 {
            reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
        }
        drop(reactor);
        assert_eq!(Rc::strong_count(&local), 1);
    }
    while Arc::strong_count(&shared) > 1 {
        thread::yield_now(); // until the last worker has dropped what it had in hand
    }
}

#[test]
fn an_idle_worker_ends_with_its_reactor() {
    let _ceiling = ceiling(LIMIT);
    let (end, ended) = channel();
    let mut reactor = Reactor::new().unwrap();
    reactor.offload(|| FAREWELL.set(Some(Farewell(end))), |_, (), _| {});
    reactor.run(&mut ()).unwrap();
    assert!(ended.try_recv().is_err(), "it stays for the next job");
    drop(reactor);
    ended.recv().unwrap();
}

#[test]
fn a_job_holds_the_loop_unless_it_was_told_not_to() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<()>::new().unwrap();
    let (job, release) = occupy(&mut reactor);
    let why = reactor.why_alive();
    let [Alive::Part(name, place)] = &why[..] else { panic!("{why:?}") };
    assert_eq!((name, place.file()), (&format!("{job:?} offloaded"), file!()));
    assert!(why[0].to_string().starts_with("job#0.0 offloaded at tests/patterns/offload.rs:"));
    assert!(reactor.unref(job) && reactor.unref(job));
    assert!(!reactor.is_alive() && reactor.why_alive().is_empty());
    reactor.run(&mut ()).unwrap(); // returns, though the work runs
    assert_eq!((reactor.jobs(), reactor.statistics().callbacks), (1, 0));
    assert!(reactor.reref(job) && reactor.is_alive());
    drop(release);
    reactor.run(&mut ()).unwrap();
    assert_eq!((reactor.jobs(), reactor.statistics().callbacks), (0, 1));
}

#[test]
fn a_job_is_a_source_that_may_be_removed_and_its_worker_is_free_when_the_work_has_ended() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).jobs_max(0).build().unwrap();
    let (job, release) = occupy(&mut reactor);
    assert_eq!((reactor.sources(), reactor.jobs()), (1, 1));
    // Called by somebody, it does nothing.
    let mut log = Log::new();
    assert!(reactor.resume(job, Readiness::READABLE));
    assert_eq!(reactor.turn(&mut log, Some(Duration::ZERO)).unwrap(), 1);
    assert_eq!(reactor.jobs(), 1);
    assert!(reactor.remove(job) && !reactor.remove(job) && !reactor.cancel_job(job));
    assert_eq!((reactor.sources(), reactor.jobs(), reactor.is_alive()), (0, 0, false));
    reactor.offload(|| 0, note("too early"));
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["too early: too many jobs wait for a worker"]);
    drop(release);
    let free = |reactor: &mut Reactor<Log>, log: &mut Log| {
        reactor.offload(|| 7, note("free"));
        reactor.run(log).unwrap();
        log.last().is_some_and(|line| line == "free 7")
    };
    while !free(&mut reactor, &mut log) {
        thread::yield_now();
    }
}

#[test]
fn a_job_that_is_removed_before_it_begins_drops_its_callback_and_not_its_work() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).build().unwrap();
    let (_, release) = occupy(&mut reactor);
    let (captured, (tell, told)) = (Rc::new(()), channel());
    let kept = captured.clone();
    let work = move || tell.send(()).unwrap();
    let job = reactor.offload_ordered("key", work, move |_, _, _| unreachable!("{kept:?}"));
    reactor.remove(job);
    assert_eq!(Rc::strong_count(&captured), 1);
    reactor.offload_ordered("key", || 1, note("behind it"));
    drop(release);
    let mut log = Log::new();
    reactor.run(&mut log).unwrap();
    assert_eq!((told.try_recv(), log), (Ok(()), vec!["behind it 1".to_owned()]));
}

#[test]
fn no_work_waits_any_more_when_a_dropped_loop_drops_its_first_source() {
    struct Looks(Arc<()>, Rc<Cell<usize>>);
    impl Drop for Looks {
        fn drop(&mut self) {
            self.1.set(Arc::strong_count(&self.0));
        }
    }
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).build().unwrap();
    let (waits, seen) = (Arc::new(()), Rc::new(Cell::new(0)));
    // The first of all sources, whose slot is dropped first.
    reactor.own(Looks(waits.clone(), seen.clone()), |_, _, _, _| {});
    let (_, release) = occupy(&mut reactor);
    for key in [1, 1, 2] {
        let waits = waits.clone();
        reactor.offload_ordered(key, move || Arc::strong_count(&waits) as u32, note("waiting"));
    }
    assert_eq!(Arc::strong_count(&waits), 5);
    drop(reactor);
    assert_eq!((seen.get(), Arc::strong_count(&waits)), (2, 1));
    drop(release);
}

#[test]
fn an_unreferenced_job_that_has_run_leaves_the_count_as_it_was() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<()>::new().unwrap();
    let timer = reactor.after(Duration::from_secs(60), |_, ()| {});
    let job = reactor.offload(|| (), |reactor, (), _| reactor.stop());
    reactor.unref(job);
    reactor.run(&mut ()).unwrap();
    assert!(reactor.is_alive(), "the timer holds it");
    reactor.cancel(timer);
    assert!(!reactor.is_alive());
}

#[test]
fn the_trace_tells_who_handed_a_job_over_and_when_its_callback_runs() {
    let _ceiling = ceiling(LIMIT);
    let recorder = Recorder::new();
    let mut reactor = Reactor::builder().observer(recorder.observer()).build().unwrap();
    let line = line!() + 2;
    reactor.defer(|reactor, ids: &mut Vec<JobId>| {
        ids.push(reactor.offload(|| (), |_, _, _| {}));
        ids.push(reactor.offload(|| panic!("on purpose"), |_, _, _: Result<(), _>| {}));
    });
    let mut ids = Vec::new();
    reactor.run(&mut ids).unwrap();
    let events = recorder.take();
    for (id, line) in ids.into_iter().zip(line..) {
        let source = RawId::from(id);
        let about = |event: &&LoopEvent| event.subject == Subject::Source(source);
        let [offloaded, collected, run, gone] = events.iter().filter(about).collect::<Vec<_>>()[..]
        else {
            panic!("not four records of {id:?}: {events:?}");
        };
        let kinds = [offloaded, collected, run, gone].map(|event| event.kind);
        assert_eq!(kinds, [Kind::Registered, Kind::Collected, Kind::RunPosted, Kind::Deregistered]);
        assert_eq!([offloaded, collected, run, gone].map(|event| event.place.line()), [line; 4]);
        assert_eq!(offloaded.cause, run.cause);
        assert_eq!(events[run.cause as usize - 1].kind, Kind::RunDeferred);
        assert_eq!(gone.cause, run.sequence, "it goes before its `done` begins");
        assert_eq!(run.to_string(), format!("RunPosted {source:?}"));
    }
}

#[test]
fn a_turn_takes_in_as_many_results_as_posts() {
    const JOBS: usize = 2 * POSTS_PER_TURN + 100;
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::builder().jobs_max(JOBS).workers(1).build().unwrap();
    let (tell, told) = channel();
    for _ in 0..JOBS {
        reactor.offload(|| (), |_, ran: &mut usize, result| *ran += usize::from(result.is_ok()));
    }
    // With one worker, what it does last says that all other results are in the mailbox.
    reactor.offload(move || tell.send(()).unwrap(), |_, _, _| {});
    told.recv().unwrap();
    let mut ran_in_turn = || {
        let mut ran = 0;
        reactor.turn(&mut ran, Some(Duration::ZERO)).unwrap();
        ran
    };
    assert_eq!(
        [ran_in_turn(), ran_in_turn(), ran_in_turn()],
        [POSTS_PER_TURN, POSTS_PER_TURN, 100]
    );
}

#[test]
fn results_pass_a_full_mailbox() {
    let _ceiling = ceiling(LIMIT);
    let builder = Reactor::<u32>::builder().mailbox_posts_max(1).workers(1).jobs_max(1000);
    let mut reactor = builder.build().unwrap();
    let remote = reactor.remote();
    remote.post(|_, _| {}).unwrap();
    for _ in 0..500 {
        reactor.offload(|| (), |_, count, result| *count += u32::from(result.is_ok()));
    }
    let (begin, begun) = channel();
    reactor.offload(move || begin.send(()).unwrap(), |_, _, _| {});
    begun.recv().unwrap();
    assert!(matches!(remote.post(|_, _| {}), Err(PostError::Full(_))));
    drop(remote);
    let mut count = 0;
    reactor.run(&mut count).unwrap();
    assert_eq!(count, 500);
}

#[test]
fn a_hundred_thousand_jobs_each_call_back_once_and_may_offload_again() {
    const JOBS: usize = 50_000;
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::builder().jobs_max(JOBS).build().unwrap();
    let mut calls = vec![0u8; 2 * JOBS];
    for number in 0..JOBS {
        let done = move |reactor: &mut Context<Vec<u8>>,
                         calls: &mut Vec<u8>,
                         result: Result<_, _>| {
            let number: usize = result.unwrap();
            calls[number] += 1;
            let done = move |_: &mut _, calls: &mut Vec<u8>, result: Result<usize, JobError>| {
                calls[result.unwrap()] += 1;
            };
            reactor.offload(move || JOBS + number, done);
        };
        reactor.offload(move || number, done);
    }
    reactor.run(&mut calls).unwrap();
    assert!(calls.iter().all(|calls| *calls == 1));
    assert_eq!(reactor.job_statistics(), JobStatistics { offloaded: 2 * JOBS as u64, refused: 0 });
}

#[test]
fn jobs_under_way_never_exceed_the_workers_and_a_chain_needs_only_one() {
    let _ceiling = ceiling(LIMIT);
    fn chain(reactor: &mut Context<Vec<String>>, left: u32) {
        let name = || thread::current().name().unwrap().to_owned();
        reactor.offload(name, move |reactor, names, result| {
            names.push(result.unwrap());
            if left > 0 {
                chain(reactor, left - 1);
            }
        });
    }
    let mut reactor = Reactor::new().unwrap();
    chain(&mut reactor, 100);
    let mut names = Vec::new();
    reactor.run(&mut names).unwrap();
    assert!(names.iter().all(|name| name == "waterwheel-worker-0"));
    // As many at a time as there are workers, each held until all have begun; then one more.
    let releases: Vec<_> = (0..WORKERS).map(|_| occupy(&mut reactor).1).collect();
    let (begin, begun) = channel();
    reactor.offload(move || begin.send(()).unwrap(), |_, _, _| {});
    assert!(begun.try_recv().is_err(), "nobody is free");
    drop(releases);
    begun.recv().unwrap();
    reactor.run(&mut names).unwrap();
}

#[test]
fn a_panic_in_done_leaves_the_loop_by_default_and_loses_only_itself() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).build().unwrap();
    let mut log = Log::new();
    reactor.offload(|| 1, note("before"));
    reactor.offload(|| 2, |_, _, _| panic!("on purpose"));
    reactor.offload(|| 3, note("after"));
    let panicked = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut log).unwrap()));
    assert!(panicked.is_err());
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["before 1", "after 3"]);
}

#[test]
fn a_panic_in_done_is_dropped_where_the_policy_says_so() {
    let _ceiling = ceiling(LIMIT);
    let builder = Reactor::<Log>::builder().workers(1).panic_policy(PanicPolicy::Drop);
    let mut reactor = builder.build().unwrap();
    reactor.offload(|| 2, |_, _, _| panic!("on purpose"));
    reactor.offload(|| 3, note("after"));
    let mut log = Log::new();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["after 3"]);
    assert_eq!((reactor.statistics().panicked, reactor.jobs()), (1, 0));
}

#[test]
fn a_system_that_starts_no_thread_is_told_to_done() {
    let _ceiling = ceiling(LIMIT);
    let builder = Reactor::<Log>::builder().worker_stack_bytes(1 << 60);
    let mut reactor = builder.build().unwrap();
    let mut log = Log::new();
    let capture = Arc::new(());
    let captured = capture.clone();
    let job = reactor.offload(move || Arc::strong_count(&captured) as u32, note("job"));
    assert_eq!(Arc::strong_count(&capture), 1);
    assert!(log.is_empty() && !reactor.cancel_job(job));
    reactor.run(&mut log).unwrap();
    assert!(log[0].starts_with("job: cannot start a worker thread: "), "{log:?}");
}

/// The child process of [`fewer_workers_do_where_the_system_starts_no_more`].
#[cfg(target_os = "linux")]
const CHILD: &str = "WATERWHEEL_TEST_FEW_THREADS";
#[cfg(target_os = "linux")]
const STACK: usize = 1 << 30;

/// In a process of its own, whose address space has room for one large stack and not for two.
#[cfg(target_os = "linux")]
#[test]
fn fewer_workers_do_where_the_system_starts_no_more() {
    let _ceiling = ceiling(LIMIT);
    if std::env::var_os(CHILD).is_none() {
        let (_, name) = support::named("fewer_workers_do_where_the_system_starts_no_more");
        let mut command = Command::new(std::env::current_exe().unwrap());
        let status = command.args(["--exact", &name]).env(CHILD, "1").status().unwrap();
        return assert!(status.success());
    }
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let room = Some(pages * 4096 + (STACK + STACK / 2) as u64);
    setrlimit(Resource::As, Rlimit { current: room, maximum: room }).unwrap();
    let builder = Reactor::<u32>::builder().workers(3).worker_stack_bytes(STACK);
    let mut reactor = builder.build().unwrap();
    let (_, release) = occupy(&mut reactor);
    let before = threads();
    for _ in 0..3 {
        reactor.offload(|| (), |_, count, result| *count += u32::from(result.is_ok()));
    }
    assert_eq!(threads(), before);
    drop(release);
    let mut count = 0;
    reactor.run(&mut count).unwrap();
    assert_eq!(count, 3);
}

#[test]
fn work_takes_no_time_on_a_manual_clock() {
    let _ceiling = ceiling(LIMIT);
    let clock = ManualClock::new();
    for _ in 0..100 {
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        reactor.after(Duration::from_secs(3600), |_, log: &mut Log| log.push("timer".into()));
        let work = || {
            (0..100).for_each(|_| thread::yield_now());
            1
        };
        reactor.offload(work, note("job"));
        let mut log = Log::new();
        reactor.run(&mut log).unwrap();
        assert_eq!(log, ["job 1", "timer"]);
    }
}

#[test]
fn a_result_wakes_a_host_that_watches_the_reactors_descriptor() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::new().unwrap();
    let mut log = Log::new();
    for round in 0..100 {
        reactor.offload(|| 1, note("job"));
        while log.len() == round {
            if reactor.next_wait() != Some(Duration::ZERO) {
                let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
                let woken = poll(&mut [PollFd::new(&reactor, PollFlags::IN)], Some(&limit));
                assert_eq!(woken.unwrap(), 1);
            }
            reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        }
    }
}

#[test]
fn job_as_a_promise_brings_its_value_its_error_or_its_panic() {
    type Said = Vec<String>;
    let mut reactor = Reactor::<Said>::new().unwrap();
    let works: [fn() -> io::Result<u32>; 3] =
        [|| Ok(7), || Err(io::ErrorKind::NotFound.into()), || panic!("oh")];
    for work in works {
        let promise: Promise<_, u32, io::Error> = reactor.offload_promise(work);
        promise
            .then(&mut reactor, |_, said: &mut Said, value| said.push(value.to_string()))
            .catch(&mut reactor, |_, said, error| said.push(error.to_string()));
    }
    let mut said = Vec::new();
    reactor.run(&mut said).unwrap();
    said.sort(); // Jobs end in any order.
    assert_eq!(said, ["7", "entity not found", "the job panicked: oh"]);
}

#[test]
fn job_as_a_promise_that_is_cancelled_does_not_begin() {
    let mut reactor = Reactor::builder().workers(1).build().unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    reactor.offload(move || held.recv(), |_, _, _| {});
    let begun = Arc::new(AtomicBool::new(false));
    let seen = begun.clone();
    let promise: Promise<(), (), io::Error> = reactor.offload_promise(move || {
        seen.store(true, Ordering::SeqCst);
        Ok(())
    });
    promise.cancel(&mut reactor);
    assert_eq!(Arc::strong_count(&begun), 1, "the work is dropped at once");
    drop(release);
    reactor.run(&mut ()).unwrap();
    assert!(!begun.load(Ordering::SeqCst));
}
