//! What the services do to each other: jobs, promises, the bus, tasks, signals, posts, in each
//! other's callbacks and destructors, under panics, stops and spent budgets.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use support::promises::{Log, Said, Sayer, lab, run, tell, turn};
use support::{MS, ceiling};
use waterwheel::patterns::JobError;
use waterwheel::patterns::tasks::{Run, Schedule, Task, TaskQueue};
use waterwheel::reactor::{
    Context, Interest, Missed, PanicPolicy, Priority, RawId, Reactor, Readiness, Remote, Resumer,
    VirtualSource,
};

const LIMIT: Duration = Duration::from_secs(30);

struct Told;

#[test]
fn a_listener_that_panics_inside_of_a_jobs_callback_loses_neither_the_promise_nor_the_job() {
    let _ceiling = ceiling(LIMIT);
    let builder = Reactor::<Log>::builder().panic_policy(PanicPolicy::Drop);
    let mut reactor = builder.build().unwrap();
    let (promise, resolver): (Said<u32>, Sayer<u32>) = reactor.promise();
    tell(&mut reactor, promise);
    let mut resolver = Some(resolver);
    reactor.subscribe(move |reactor, _, _: &Told| {
        let rejected = resolver.take().map(|resolver| resolver.reject(reactor, "no".into()));
        panic!("after {rejected:?}");
    });
    reactor.subscribe(|_, log: &mut Log, _: &Told| log.push("second".into()));
    reactor.offload(
        || (),
        |reactor, log, _| {
            let heard = reactor.emit(log, &Told);
            log.push(format!("done {heard}"));
        },
    );
    assert_eq!(run(&mut reactor), ["second", "done 2", "error: no"]);
    assert_eq!((reactor.listeners::<Told>(), reactor.statistics().panicked), (1, 1));
}

type Queue = waterwheel::SourceId<TaskQueue<Log>>;

fn queue(reactor: &mut Reactor<Log>) -> Queue {
    let queue = TaskQueue::new().open(reactor).unwrap();
    queue.on_end(reactor, |_, log: &mut Log, record| {
        log.push(format!("{} {}", record.name, record.outcome));
    });
    queue
}

#[test]
fn a_run_that_waits_for_a_job_may_lose_its_task_or_its_queue_meanwhile() {
    let _ceiling = ceiling(LIMIT);
    for lose_queue in [false, true] {
        let mut reactor = lab();
        let queue = queue(&mut reactor);
        let task = Task::new("job", Schedule::after(MS)).timeout(Duration::from_secs(1));
        queue
            .add(&mut reactor, task, move |reactor, _, run| {
                let task = run.task();
                reactor.offload(
                    || 7,
                    |_, log: &mut Log, result: Result<u32, JobError>| {
                        log.push(format!("{result:?}"));
                        run.finish(result);
                    },
                );
                reactor.defer(move |reactor, _| {
                    if lose_queue {
                        assert!(reactor.remove(queue));
                    } else {
                        assert!(queue.remove(reactor, task));
                    }
                });
            })
            .unwrap();
        let log = run(&mut reactor);
        let expected: &[&str] = if lose_queue { &["Ok(7)"] } else { &["Ok(7)", "job removed"] };
        let mut sorted = log.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
        assert!(!reactor.is_alive() && reactor.timers() == 0);
    }
}

#[test]
fn a_job_is_never_timed_out_on_a_manual_clock() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = lab();
    let (promise, resolver): (Said<u32>, _) = reactor.promise();
    let work = || {
        std::thread::yield_now();
        5
    };
    reactor.offload(work, |reactor, _, result: Result<u32, JobError>| {
        resolver.settle(reactor, result.map_err(|error| error.to_string()));
    });
    let promise = promise.timeout(&mut reactor, MS);
    tell(&mut reactor, promise);
    assert_eq!(run(&mut reactor), ["5"]);
}

/// Every service once, each with its word.
fn everything(reactor: &mut Reactor<Log>, queue: Queue) {
    let say = |word: &'static str| move |_: &mut Context<Log>, log: &mut Log| log.push(word.into());
    reactor.offload(|| (), |_, log: &mut Log, _| log.push("job".into()));
    reactor.subscribe(|_, log: &mut Log, _: &Told| log.push("listener".into()));
    reactor.publish(Told);
    reactor.defer(say("deferred"));
    reactor.enqueue(Priority::Low, say("enqueued"));
    reactor.after(3 * MS, say("timer"));
    reactor.remote().post(say("posted")).unwrap();
    let chain: Said<()> = reactor.delay(2 * MS);
    chain
        .then(reactor, |reactor, log, ()| {
            log.push("link 1".into());
            reactor.delay::<String>(2 * MS)
        })
        .then(reactor, |_, log, ()| log.push("link 2".into()));
    queue
        .add(reactor, Task::new("task", Schedule::after(MS)), |reactor, log: &mut Log, run| {
            log.push("run".into());
            reactor.after(MS, |_, _| run.ok());
        })
        .unwrap();
}

const WORDS: [&str; 10] = [
    "deferred",
    "enqueued",
    "job",
    "link 1",
    "link 2",
    "listener",
    "posted",
    "run",
    "task done",
    "timer",
];

#[test]
fn a_loop_that_is_stopped_in_every_turn_and_run_again_does_everything_once() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = lab();
    let queue = queue(&mut reactor);
    everything(&mut reactor, queue);
    reactor.after_poll(|reactor, _| reactor.stop());
    let (mut log, mut runs) = (Log::new(), 0);
    while reactor.is_alive() {
        reactor.run(&mut log).unwrap();
        runs += 1;
    }
    log.sort();
    assert_eq!(log, WORDS);
    assert!(runs > 4, "{runs}");
}

/// What a destructor can reach without the loop.
struct Bomb {
    remote: Remote<Log>,
    resumer: Resumer,
    source: RawId,
    resolver: Option<Sayer<u32>>,
    run: Option<Run>,
    gone: Rc<Cell<u32>>,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        let _ = self.remote.post(|_, log: &mut Log| log.push("from a destructor".into()));
        self.resumer.resume(self.source, Readiness::READABLE);
        drop(self.resolver.take());
        drop(self.run.take());
        self.gone.set(self.gone.get() + 1);
    }
}

/// Puts a bomb into everything that can hold one; how many.
fn arm(reactor: &mut Reactor<Log>, queue: Queue, gone: &Rc<Cell<u32>>, runs: &mut Vec<Run>) -> u32 {
    let source =
        reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap().raw();
    let (remote, resumer) = (reactor.remote(), reactor.resumer());
    let mut made = 0;
    let mut bomb = |reactor: &mut Reactor<Log>| {
        made += 1;
        let (promise, resolver): (Said<u32>, _) = reactor.promise();
        promise.then(reactor, |_, log, _| log.push("?".into())).catch(reactor, |_, _, _| {});
        Bomb {
            remote: remote.clone(),
            resumer: resumer.clone(),
            source,
            resolver: Some(resolver),
            run: runs.pop(),
            gone: gone.clone(),
        }
    };
    let b = bomb(reactor);
    reactor.after(MS, move |_, _| drop(b));
    let b = bomb(reactor);
    reactor.every(MS, Missed::Skip, move |_, _, _| _ = &b);
    let b = bomb(reactor);
    reactor.defer(move |_, _| drop(b));
    let b = bomb(reactor);
    reactor.enqueue(Priority::Low, move |_, _| drop(b));
    let b = bomb(reactor);
    reactor.before_poll(move |_, _| _ = &b);
    let b = bomb(reactor);
    reactor.subscribe(move |_, _, _: &Told| _ = &b);
    let b = bomb(reactor);
    reactor.once(move |_, _, _: &Told| drop(b));
    reactor.publish(Told);
    let b = bomb(reactor);
    reactor.offload(|| (), move |_, _, _| drop(b));
    let b = bomb(reactor);
    let idle: Said<()> = reactor.delay(MS);
    let _ = idle.on_cancel(move |_| drop(b));
    let b = bomb(reactor);
    queue
        .add(reactor, Task::new("bomb", Schedule::after(MS)), move |_, _, run| {
            let _ = &b;
            run.ok();
        })
        .unwrap();
    let b = bomb(reactor);
    reactor.register(VirtualSource, Interest::READABLE, move |_, _, _, _| _ = &b).unwrap();
    let (b, (forever, resolver)) = (bomb(reactor), reactor.promise::<u32, String>());
    let forever = forever.then(reactor, move |_, _, _| drop(b));
    let (waits, b) = (reactor.delay::<String>(MS), bomb(reactor));
    waits.then(reactor, move |_, _, ()| {
        drop((b, resolver));
    });
    drop(forever);
    made
}

#[test]
fn destructors_that_reach_for_the_loop_may_run_whenever_it_goes() {
    let _ceiling = ceiling(LIMIT);
    for turns in 0..8 {
        let mut reactor = lab();
        let queue = queue(&mut reactor);
        let mut log = Log::new();
        let runs = Rc::new(std::cell::RefCell::new(Vec::new()));
        for name in 0..14 {
            let held = runs.clone();
            let task = Task::new(name.to_string(), Schedule::after(Duration::ZERO));
            queue.add(&mut reactor, task, move |_, _, run| held.borrow_mut().push(run)).unwrap();
        }
        for _ in 0..5 {
            turn(&mut reactor, &mut log);
        }
        let mut runs = runs.take();
        assert_eq!(runs.len(), 14);
        let gone = Rc::default();
        let made = arm(&mut reactor, queue, &gone, &mut runs);
        for _ in 0..turns {
            reactor.turn(&mut log, Some(MS)).unwrap();
        }
        drop(reactor);
        assert_eq!((gone.get(), Rc::strong_count(&gone)), (made, 1), "{turns} turns");
    }
}

#[test]
fn nothing_that_was_told_not_to_hold_the_loop_does() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).build().unwrap();
    let queue = queue(&mut reactor);
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let job =
        reactor.offload(move || wait.recv().is_ok(), |_, log: &mut Log, _| log.push("job".into()));
    let waiting = reactor.offload(|| (), |_, log: &mut Log, _| log.push("second".into()));
    let timer = reactor.after(Duration::from_secs(3600), |_, _| {});
    let every = reactor.every(Duration::from_secs(3600), Missed::Skip, |_, _, _| {});
    let source = reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
    let slow = Task::new("slow", Schedule::after(Duration::from_secs(3600)));
    let task = queue.add(&mut reactor, slow, |_, _, _| {}).unwrap();
    let remote = reactor.remote();
    let weak = remote.unref();
    assert_eq!(reactor.why_alive().len(), 7);
    for _ in 0..2 {
        assert!(reactor.unref(job) && reactor.unref(waiting) && reactor.unref(timer));
        assert!(reactor.unref(every) && reactor.unref(source));
        assert!(queue.unref(&mut reactor, task));
    }
    drop(remote);
    assert_eq!(run(&mut reactor), Log::new());
    assert_eq!(reactor.why_alive(), []);
    for back in [true, false] {
        assert!(reactor.reref(waiting) && reactor.is_alive());
        assert!(!back || reactor.unref(waiting));
    }
    assert!(reactor.cancel_job(waiting) && reactor.is_alive());
    assert_eq!(run(&mut reactor), ["second"]);
    release.send(()).unwrap();
    assert!(reactor.reref(job));
    assert_eq!(run(&mut reactor), ["job"]);
    assert!(!reactor.unref(job) && !reactor.reref(waiting));
    reactor.remove(source);
    reactor.cancel(timer);
    reactor.cancel(every);
    queue.reref(&mut reactor, task);
    assert_eq!(reactor.why_alive().len(), 1);
    reactor.unref(queue);
    assert_eq!(reactor.why_alive(), []);
    reactor.reref(queue);
    queue.remove(&mut reactor, task);
    assert_eq!(reactor.why_alive(), []);
    assert!(weak.post(|_, _| {}).is_ok() && reactor.is_alive());
    run(&mut reactor);
    assert!(!reactor.is_alive());
}

/// Scenario 5, for the callbacks that are not in the tests of jobs and of the bus: whatever may be
/// done to the loop, to others and to itself.
fn anything(reactor: &mut Context<Log>, log: &mut Log, queue: Queue, from: &'static str) {
    let id = reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
    assert!(reactor.resume(id, Readiness::READABLE) && reactor.remove(id));
    let timer = reactor.after(Duration::from_secs(9), |_, _| {});
    assert!(reactor.rearm(timer, Duration::from_secs(8)) && reactor.cancel(timer));
    let hook = reactor.on_idle(|_, _| {});
    assert!(reactor.remove_hook(hook));
    let task = Task::new(from, Schedule::on_demand());
    let task = queue.add(reactor, task, |_, _, run| run.ok()).unwrap();
    assert!(queue.run_now(reactor, task) && queue.pause(reactor, task));
    assert!(queue.remove(reactor, task));
    let chain: Said<()> = reactor.delay(MS);
    chain.then(reactor, |_, log, ()| log.push("cancelled".into())).cancel(reactor);
    let job = reactor.offload(|| (), |_, _, _| {});
    let _ = (reactor.unref(job), reactor.cancel_job(job));
    let listener = reactor.subscribe(move |_, log: &mut Log, _: &Told| log.push(from.into()));
    assert_eq!(reactor.emit(log, &Told), 1);
    assert!(reactor.unsubscribe(listener) && reactor.remote().post(|_, _| {}).is_ok());
    reactor.publish(Told);
    reactor.defer(|_, _| {});
}

#[test]
fn anything_may_be_done_from_runs_their_news_promises_hooks_of_a_cancel_and_signal_handlers() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::new().unwrap();
    let queue = TaskQueue::new().open(&mut reactor).unwrap();
    let once = Task::new("once", Schedule::after(Duration::ZERO));
    let id = queue.add(&mut reactor, once, move |reactor, log, run| {
        anything(reactor, log, queue, "run");
        assert!(queue.remove(reactor, run.task()));
        run.ok();
    });
    queue.on_end(&mut reactor, move |reactor, log, record| {
        if Ok(record.task) == id {
            anything(reactor, log, queue, "told");
            queue.on_end(reactor, |_, _, _| {});
        }
    });
    let chain: Said<()> = reactor.delay(Duration::ZERO);
    chain
        .then(&mut reactor, move |reactor, log, ()| {
            anything(reactor, log, queue, "then");
            Err::<(), String>("no".into())
        })
        .catch(&mut reactor, move |reactor, log, _| anything(reactor, log, queue, "catch"))
        .finally(&mut reactor, move |reactor, log| anything(reactor, log, queue, "finally"));
    let (promise, resolver) = reactor.promise::<u32, String>();
    let promise = promise.on_cancel(move |reactor| {
        anything(reactor, &mut Log::new(), queue, "cancel");
        assert!(!resolver.resolve(reactor, 1));
    });
    reactor.enqueue(Priority::Low, |reactor, _| promise.cancel(reactor));
    #[cfg(all(unix, feature = "process"))]
    {
        use waterwheel::process::Signal;
        let handler = Rc::new(Cell::new(None));
        let own = handler.clone();
        let id = reactor.on_signal(Signal::USR2, move |reactor, log, _| {
            anything(reactor, log, queue, "signal");
            let id: Option<waterwheel::process::SignalId> = own.take();
            assert!(id.is_some_and(|id| reactor.remove(id)));
        });
        let id = id.unwrap();
        assert!(reactor.reref(id));
        handler.set(Some(id));
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::USR2).unwrap();
    }
    let mut log = run(&mut reactor);
    log.sort();
    let mut expected = vec!["catch", "finally", "run", "signal", "then", "told"];
    expected.retain(|word| *word != "signal" || cfg!(all(unix, feature = "process")));
    assert_eq!(log, expected);
    assert_eq!((reactor.timers(), reactor[queue].len(), reactor[queue].timers()), (0, 0, 0));
    assert_eq!(reactor.listeners::<Told>(), 0);
}

#[test]
fn a_loop_whose_destructors_panic_takes_no_more_posts() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Log>::builder().workers(1).build().unwrap();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    reactor.offload(move || wait.recv().is_ok(), |_, _, _| {});
    let panics = Panics;
    reactor.offload(move || drop(panics), |_, _, _| {});
    let remote = reactor.remote();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(reactor))).is_err());
    assert!(remote.post(|_, _| {}).is_err());
    drop(release);
}
