//! Jobs, promises, listeners, tasks and posts that do anything to each other, at random, with
//! panics on the way: each job calls back once, nothing holds the loop at the end, and nothing is
//! left.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::time::Duration;

use support::{CHAOS, MS, Rng, ceiling, hush_chaos};
use waterwheel::patterns::tasks::{Overrun, Run, Schedule, Task, TaskId, TaskQueue};
use waterwheel::patterns::{Backoff, JobId, ListenerId, Promise, Resolver};
use waterwheel::reactor::{HookId, Missed, PanicPolicy, Priority, Remote};
use waterwheel::timers::{ManualClock, TimerId};
use waterwheel::{Context, Reactor, SourceId};

type Loop = Context<World>;
type Said = Promise<World, u32, String>;

/// Captured by every callback. Dropped, it reaches for the loop by the one way there is.
#[derive(Clone)]
struct Token(Rc<()>, Remote<World>);

impl Drop for Token {
    fn drop(&mut self) {
        let _ = self.1.post(|_, world| world.posted += 1); // The loop may have gone.
    }
}

struct Event;

struct World {
    rng: Rng,
    /// What is still to be done; nothing is done at zero.
    left: u32,
    token: Token,
    queue: SourceId<TaskQueue<World>>,
    jobs: Vec<JobId>,
    ended: usize,
    posted: usize,
    promises: Vec<Said>,
    resolvers: Vec<Resolver<World, u32, String>>,
    listeners: Vec<ListenerId>,
    timers: Vec<TimerId>,
    hooks: Vec<HookId>,
    tasks: Vec<TaskId>,
    runs: Vec<Run>,
}

/// One of them, taken out.
fn any<T>(rng: &mut Rng, of: &mut Vec<T>) -> Option<T> {
    let place = rng.below(of.len().max(1) as u64) as usize;
    (place < of.len()).then(|| of.swap_remove(place))
}

/// What every callback does.
fn act(reactor: &mut Loop, world: &mut World, _: &Token) {
    for _ in 0..1 + world.rng.below(2) {
        if world.left == 0 {
            return;
        }
        world.left -= 1;
        let token = world.token.clone();
        match world.rng.below(6) {
            0 => jobs(reactor, world, token),
            1 | 2 => promises(reactor, world, token),
            3 => listeners(reactor, world, token),
            4 => tasks(reactor, world, token),
            _ => callbacks(reactor, world, token),
        }
    }
    if world.rng.below(30) == 7 {
        panic_any(CHAOS);
    }
}

fn jobs(reactor: &mut Loop, world: &mut World, token: Token) {
    let value = world.rng.below(100) as u32;
    let resolver = any(&mut world.rng, &mut world.resolvers);
    match world.rng.below(4) {
        0 => {
            let _ = any(&mut world.rng, &mut world.jobs.clone()).map(|job| reactor.cancel_job(job));
        }
        _ => {
            let work = move || if value < 5 { panic_any(CHAOS) } else { value };
            world.jobs.push(reactor.offload(work, move |reactor, world: &mut World, result| {
                world.ended += 1;
                let result = result.map_err(|error| error.to_string());
                resolver.map(|resolver| resolver.settle(reactor, result));
                act(reactor, world, &token);
            }));
        }
    }
}

fn promises(reactor: &mut Loop, world: &mut World, token: Token) {
    let ms = world.rng.below(20) as u32 * MS;
    let promise = any(&mut world.rng, &mut world.promises);
    let resolver = any(&mut world.rng, &mut world.resolvers);
    let made = match (world.rng.below(13), promise, resolver) {
        (0..3, ..) => {
            let (promise, resolver) = reactor.promise();
            world.resolvers.push(resolver);
            promise.on_cancel(move |_| drop(token))
        }
        (3, _, Some(resolver)) => {
            resolver.resolve(reactor, 1);
            return;
        }
        (4, _, Some(resolver)) => {
            resolver.reject(reactor, "no".into());
            return;
        }
        (5, Some(promise), _) => return promise.cancel(reactor),
        (6, Some(promise), _) => promise.timeout(reactor, ms),
        (7, Some(promise), _) => promise.then(reactor, move |reactor, world, value| {
            act(reactor, world, &token);
            reactor.delay(ms).then(reactor, move |_, _, ()| Ok(value + 1))
        }),
        (8, Some(promise), _) => promise
            .catch(reactor, move |reactor, world, _| {
                act(reactor, world, &token);
                Ok(0)
            })
            .finally(reactor, |_, _| {}),
        (9, ..) => Promise::retry(reactor, Backoff::new(3).first(ms), move |reactor, world, _| {
            act(reactor, world, &token);
            // A new one: a promise that waits for itself is a cycle (P8).
            let (promise, resolver) = reactor.promise();
            world.resolvers.push(resolver);
            promise
        }),
        (_, promise, _) => {
            let all = promise.into_iter().chain(world.promises.pop()).chain(world.promises.pop());
            match world.rng.below(4) {
                0 => Promise::race(reactor, all),
                1 => Promise::any(reactor, all).map_err(reactor, |errors| errors.concat()),
                2 => Promise::all(reactor, all).then(reactor, |_, _, _| Ok(2)),
                _ => Promise::all_settled(reactor, all).then(reactor, |_, _, _| Ok(3)),
            }
        }
    };
    world.promises.push(made);
}

fn listeners(reactor: &mut Loop, world: &mut World, token: Token) {
    match world.rng.below(6) {
        0 if reactor.listeners::<Event>() < 20 => {
            let heard = move |reactor: &mut Loop, world: &mut World, _: &Event| {
                act(reactor, world, &token);
            };
            world.listeners.push(reactor.subscribe_with(Priority::High, heard));
        }
        1 => {
            let id = reactor.once(move |reactor, world: &mut World, _: &Event| {
                act(reactor, world, &token);
            });
            world.listeners.push(id);
        }
        2 => _ = reactor.emit(world, &Event),
        3 => reactor.publish(Event),
        _ => {
            let id = any(&mut world.rng, &mut world.listeners);
            id.map(|id| reactor.unsubscribe(id));
        }
    }
}

fn tasks(reactor: &mut Loop, world: &mut World, token: Token) {
    let queue = world.queue;
    match world.rng.below(5) {
        0 | 1 => {
            let name = world.rng.below(10).to_string();
            let schedule = match world.rng.below(2) {
                0 => Schedule::after(world.rng.below(20) as u32 * MS),
                _ => Schedule::every(world.rng.below(20) as u32 * MS),
            };
            let retry = Backoff::new(2).first(MS);
            let task = Task::new(name, schedule).overrun(Overrun::Parallel(2)).retry(retry);
            let task = queue.add(reactor, task, move |reactor, world: &mut World, run| {
                let (ms, token) = (world.rng.below(20) as u32 * MS, token.clone());
                match world.rng.below(3) {
                    0 => run.ok(),
                    1 => world.runs.push(run),
                    _ => {
                        let pause = reactor.delay::<String>(ms);
                        let ends = pause.then(reactor, move |_, _, ()| {
                            run.ok();
                            Ok(4)
                        });
                        world.promises.push(ends);
                    }
                }
                act(reactor, world, &token);
            });
            world.tasks.extend(task);
        }
        2 => drop(world.runs.pop()),
        _ => {
            let task = any(&mut world.rng, &mut world.tasks);
            task.map(|task| queue.remove(reactor, task));
        }
    }
}

fn callbacks(reactor: &mut Loop, world: &mut World, token: Token) {
    let run = {
        let token = token.clone();
        move |reactor: &mut Loop, world: &mut World| act(reactor, world, &token)
    };
    let ms = world.rng.below(20) as u32 * MS;
    match world.rng.below(8) {
        0 => reactor.defer(run),
        1 => reactor.enqueue(Priority::Low, run),
        2 => world.timers.push(reactor.after(ms, run)),
        3 => world.timers.push(reactor.every(ms, Missed::Burst, move |reactor, world, _| {
            act(reactor, world, &token);
        })),
        4 if world.hooks.len() < 3 => world.hooks.push(reactor.before_poll(run)),
        5 => _ = any(&mut world.rng, &mut world.hooks).map(|hook| reactor.remove_hook(hook)),
        6 => reactor.stop(),
        _ => _ = any(&mut world.rng, &mut world.timers).map(|timer| reactor.cancel(timer)),
    }
}

fn open(policy: PanicPolicy, seed: u64, left: u32) -> (Reactor<World>, World) {
    let builder = Reactor::builder().clock(&ManualClock::new()).panic_policy(policy);
    let mut reactor = builder.workers(2).jobs_max(8).build().unwrap();
    let queue = TaskQueue::new().runs_max(4).open(&mut reactor).unwrap();
    let token = Token(Rc::default(), reactor.remote().unref());
    let own = token.clone();
    queue.on_end(&mut reactor, move |reactor, world: &mut World, _| act(reactor, world, &own));
    let world = World {
        rng: Rng::from_seed(seed),
        left,
        token,
        queue,
        jobs: Vec::new(),
        ended: 0,
        posted: 0,
        promises: Vec::new(),
        resolvers: Vec::new(),
        listeners: Vec::new(),
        timers: Vec::new(),
        hooks: Vec::new(),
        tasks: Vec::new(),
        runs: Vec::new(),
    };
    (reactor, world)
}

/// Does everything that is left, from the callbacks, or from outside where none has anything to do.
fn rage(reactor: &mut Reactor<World>, world: &mut World) {
    while world.left > 0 {
        let token = world.token.clone();
        let _ = catch_unwind(AssertUnwindSafe(|| act(reactor, world, &token)));
        reactor.after(Duration::from_millis(5), |reactor, _| reactor.stop());
        let _ = catch_unwind(AssertUnwindSafe(|| reactor.run(world).unwrap()));
    }
}

fn clear(reactor: &mut Reactor<World>, world: &mut World) {
    world.timers.drain(..).for_each(|timer| _ = reactor.cancel(timer));
    world.hooks.drain(..).for_each(|hook| _ = reactor.remove_hook(hook));
    world.listeners.drain(..).for_each(|listener| _ = reactor.unsubscribe(listener));
    world.tasks.drain(..).for_each(|task| _ = world.queue.remove(reactor, task));
    world.promises.drain(..).for_each(|promise| promise.cancel(reactor));
    world.resolvers.clear();
    world.runs.clear();
    while reactor.is_alive() {
        reactor.run(world).unwrap(); // Rounds that ended in a panic have left their `stop`.
        world.runs.clear();
        world.resolvers.clear();
        world.promises.clear();
    }
}

#[test]
fn whatever_services_do_to_each_other_everything_is_told_once_and_nothing_is_left() {
    let _ceiling = ceiling(Duration::from_secs(120));
    hush_chaos();
    let mut seeds = Rng::new();
    for round in 0..100 {
        let policy = [PanicPolicy::Propagate, PanicPolicy::Drop][round % 2];
        let (mut reactor, mut world) = open(policy, seeds.next(), 1000);
        rage(&mut reactor, &mut world);
        let token = world.token.clone();
        if round % 3 > 0 {
            clear(&mut reactor, &mut world);
            assert_eq!((world.ended, reactor.jobs()), (world.jobs.len(), 0), "round {round}");
            assert_eq!((reactor.timers(), reactor.why_alive()), (0, vec![]), "round {round}");
            assert_eq!((reactor.listeners::<Event>(), reactor.sources()), (0, 1));
            assert!(world.posted > 100 && world.ended > 10, "{}, {}", world.posted, world.ended);
            // That of the world, this one, and who is told of runs.
            assert!(Rc::strong_count(&token.0) <= 3, "round {round}");
        }
        if round % 2 == 0 {
            drop(world);
            drop(reactor);
        } else {
            drop(reactor);
            drop(world);
        }
        assert_eq!(Rc::strong_count(&token.0), 1, "round {round}, {policy:?}");
    }
}
