//! The loop against the model of its contract: the bytes are a program, run inside and outside of
//! callbacks, and every callback must be the one that the model expects.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use waterwheel::reactor::{
    HookId, Interest, Missed, Occurrence, Options, PanicPolicy, Priority, Readiness, Remote,
    Resumer, Script, SourceId, Unplugged,
};
use waterwheel::timers::{ManualClock, TimerId};
use waterwheel::{Context, Reactor};

use super::contract::{Item, Model, Phase, Repeat, Run, Source};
use crate::support::{MS, Rng};

const LANES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

pub fn reactor(bytes: &[u8]) {
    let mut lab = Lab::new(Rng::from_bytes(bytes));
    while !lab.world.rng.is_spent() {
        match lab.world.rng.below(8) {
            0..4 => lab.outside(),
            4 => lab.report(),
            5 if lab.world.rng.below(16) == 15 => {
                let ms = lab.world.rng.next() >> (20 + lab.world.rng.below(40));
                lab.world.clock.advance(Duration::from_millis(ms));
            }
            _ => lab.turn(),
        }
        lab.check();
    }
    lab.finish();
}

/// What is thrown on purpose.
struct OnPurpose;

/// The loop's state: the model, and what a callback needs to act.
struct World {
    model: Model,
    rng: Rng,
    clock: ManualClock,
    /// The clock's time when the loop was made.
    origin: std::time::Instant,
    policy: PanicPolicy,
    /// Ids given out at some time.
    sources: Vec<SourceId<Unplugged>>,
    timers: Vec<(TimerId, u64)>,
    hooks: Vec<(HookId, u64)>,
    remotes: Vec<Remote<World>>,
    posts_max: usize,
    resumer: Resumer,
    script: Script,
    /// The turn may sleep so long.
    wait: Duration,
    /// The clock's time when it was last looked at: in between, only the loop has moved it.
    seen: Duration,
    /// What every callback holds.
    token: Arc<()>,
}

type Loop = Context<World>;

struct Lab {
    reactor: Reactor<World>,
    world: World,
}

impl Lab {
    fn new(mut rng: Rng) -> Lab {
        let (clock, script) = (ManualClock::new(), Script::new());
        let policy = [PanicPolicy::Propagate, PanicPolicy::Drop][rng.below(2) as usize];
        let posts_max = if rng.below(2) == 0 { usize::MAX } else { rng.below(8) as usize };
        let builder = Reactor::builder().clock(&clock).script(&script).panic_policy(policy);
        let mut reactor = builder.mailbox_posts_max(posts_max).build().expect("a selector");
        let world = World {
            model: Model::default(),
            rng,
            origin: clock.now(),
            clock,
            policy,
            sources: Vec::new(),
            timers: Vec::new(),
            hooks: Vec::new(),
            remotes: Vec::new(),
            posts_max,
            resumer: reactor.resumer(),
            script,
            wait: Duration::ZERO,
            seen: Duration::ZERO,
            token: Arc::default(),
        };
        Lab { reactor, world }
    }

    fn outside(&mut self) {
        act(&mut self.reactor, &mut self.world);
    }

    fn report(&mut self) {
        let world = &mut self.world;
        let report: Vec<_> = (0..world.rng.below(6))
            .filter_map(|_| Some((world.some_source()?.raw(), world.some_readiness())))
            .collect();
        world.model.script.push_back(report.clone());
        world.script.report(report);
    }

    fn turn(&mut self) {
        let Lab { reactor, world } = self;
        let wait = world.rng.below(20) as u32 * MS / 3;
        (world.wait, world.seen) = (wait, world.elapsed());
        world.model.begin_turn();
        let ran = catch_unwind(AssertUnwindSafe(|| reactor.turn(world, Some(wait))));
        match ran {
            Ok(ran) => {
                world.expect(reactor, None);
                assert_eq!(ran.expect("a poll") as u64, world.model.ran);
            }
            Err(panic) if panic.is::<OnPurpose>() => {
                assert_eq!(world.policy, PanicPolicy::Propagate);
            }
            Err(failed) => resume_unwind(failed),
        }
        assert_eq!(world.model.phase, Phase::Between, "the turn ended early");
    }

    fn check(&mut self) {
        let Lab { reactor, world } = self;
        let (model, statistics) = (&mut world.model, reactor.statistics());
        let counted = [statistics.callbacks, statistics.stale, statistics.panicked];
        assert_eq!(counted, [model.callbacks, model.stale, model.panicked]);
        assert_eq!(
            (reactor.sources(), reactor.timers()),
            (model.sources.len(), model.timers.len())
        );
        assert_eq!(reactor.is_alive(), model.is_alive(), "{:?}", reactor.why_alive());
        assert_eq!(reactor.why_alive().is_empty(), !model.is_alive());
        let wait = reactor.next_wait();
        assert!(!model.is_busy() || wait == Some(Duration::ZERO), "sleeps over what waits");
        if let Some(earliest) = model.earliest() {
            let left = Duration::from_millis(earliest).saturating_sub(world.elapsed());
            assert!(wait.is_some_and(|wait| wait <= left), "sleeps past a deadline");
        }
        let model = &mut world.model;
        if model.stopping || model.posts.stop || !model.is_alive() {
            // `run` returns at once; without having been stopped, or else having been.
            if world.rng.below(4) == 3 {
                let turns = statistics.turns;
                model.take_stop();
                reactor.run(world).expect("no poll");
                assert_eq!(reactor.statistics().turns, turns, "run turned");
                assert!(!reactor.take_stop());
            }
        }
    }

    /// Lets everything run that can, and takes the rest with the loop.
    fn finish(mut self) {
        for (id, _) in self.world.timers.clone() {
            self.reactor.unref(id);
        }
        for timer in self.world.model.timers.values_mut() {
            timer.referenced &= matches!(timer.repeat, Repeat::Source(_));
        }
        for source in self.world.sources.clone() {
            self.reactor.unref(source);
        }
        self.world.model.sources.values_mut().for_each(|source| source.referenced = false);
        while self.world.drop_remote() {}
        for _ in 0..200 {
            if !self.world.model.is_alive() {
                break;
            }
            self.turn();
            self.check();
        }
        assert!(!self.reactor.is_alive(), "{:?}", self.reactor.why_alive());
        let Lab { reactor, world } = self;
        end(reactor);
        assert_eq!(Arc::strong_count(&world.token), 1, "a callback outlives its loop");
    }
}

/// The loop ends with everything in flight; who still has a remote is told so.
fn end(mut reactor: Reactor<World>) {
    let remote = reactor.remote().unref();
    drop(reactor);
    assert!(remote.post(|_, _| {}).is_err() && remote.stop().is_err());
}

impl World {
    fn elapsed(&self) -> Duration {
        self.clock.now() - self.origin
    }

    /// The first tick at or after `delay` from the turn's now.
    fn tick_after(&self, reactor: &Loop, delay: Duration) -> u64 {
        let now = reactor.now() - self.origin;
        if delay.is_zero() {
            return u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        }
        let nanos = now.as_nanos() + delay.as_nanos();
        u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// What runs must be what the model says, and the loop must not have slept past a deadline
    /// nor over anything that waited.
    fn expect(&mut self, reactor: &Loop, run: Option<Run>) {
        let before = self.model.is_before_collect();
        assert_eq!(self.model.next(reactor.tick()), run);
        let slept = self.elapsed() - self.seen;
        let may_sleep = if before && !self.model.is_before_collect() {
            Duration::from_millis(self.model.sleeps_until).saturating_sub(self.seen).min(self.wait)
        } else {
            Duration::ZERO
        };
        assert!(slept <= may_sleep, "slept {slept:?} of {may_sleep:?}");
        self.seen += slept;
    }

    /// A callback begins: is it the one? Then it does a few things, and may panic.
    fn enter(&mut self, reactor: &mut Loop, run: Run) {
        self.expect(reactor, Some(run));
        for _ in 0..self.rng.below(4) {
            act(reactor, self);
        }
        if self.rng.below(24) == 23 {
            self.model.panic(self.policy == PanicPolicy::Drop);
            resume_unwind(Box::new(OnPurpose));
        }
    }

    fn some_source(&mut self) -> Option<SourceId<Unplugged>> {
        let at = self.rng.below(self.sources.len() as u64) as usize;
        self.sources.get(at).copied()
    }

    fn some_timer(&mut self) -> Option<(TimerId, u64)> {
        let at = self.rng.below(self.timers.len() as u64) as usize;
        self.timers.get(at).copied()
    }

    fn some_readiness(&mut self) -> Readiness {
        let both = Readiness::READABLE | Readiness::WRITABLE;
        [Readiness::NONE, Readiness::READABLE, Readiness::WRITABLE, both]
            [self.rng.below(4) as usize]
    }

    fn some_delay(&mut self) -> Duration {
        match self.rng.below(16) {
            0 => Duration::MAX,
            1 => Duration::from_millis(self.rng.next() >> self.rng.below(64)),
            2..5 => Duration::ZERO,
            5..8 => Duration::from_micros(self.rng.below(256) * 100),
            _ => self.rng.below(16) as u32 * MS,
        }
    }

    fn drop_remote(&mut self) -> bool {
        let dropped = self.remotes.pop().is_some();
        if dropped {
            self.model.posts.remotes -= 1;
            self.model.posts.knocked |= self.model.posts.remotes == 0;
        }
        dropped
    }
}

/// Does one thing to the loop and the same to the model, wherever it is called.
fn act(reactor: &mut Loop, world: &mut World) {
    match world.rng.below(32) {
        0..3 => register(reactor, world),
        3..5 => once(reactor, world),
        5 => every(reactor, world),
        6..8 => defer(reactor, world),
        8..10 => enqueue(reactor, world),
        10..12 => post(world),
        12..18 => with_source(reactor, world),
        18..23 => with_timer(reactor, world),
        23 => hook(reactor, world),
        24 => unhook(reactor, world),
        25 => {
            reactor.stop();
            world.model.stopping = true;
        }
        26 => remote(reactor, world),
        27 => drop(world.drop_remote()),
        28 => {
            // A slow callback: the turn's time stands still meanwhile.
            let delay = world.rng.below(256) as u32 * MS / 7;
            let now = reactor.now();
            world.clock.advance(delay);
            world.seen += delay;
            if world.model.phase != Phase::Between {
                assert_eq!(reactor.now(), now);
            }
        }
        29 if world.rng.below(64) == 63 => crowd(reactor, world),
        _ => {}
    }
}

fn register(reactor: &mut Loop, world: &mut World) {
    let lane = world.rng.below(3) as usize;
    let flush = world.rng.below(4) == 3;
    let options = Options { priority: LANES[lane], flush, closes: world.rng.below(2) == 1 };
    let token = world.token.clone();
    let callback = move |reactor: &mut Loop, world: &mut World, id: SourceId<_>, ready| {
        let _ = &token;
        world.enter(reactor, Run::Source(id.raw(), ready));
    };
    let id = reactor.register_with(Unplugged, Interest::READABLE, options, callback).expect("room");
    let source = Source {
        pending: Readiness::NONE,
        lane,
        referenced: true,
        flush,
        touched: false,
        deadline: None,
    };
    assert!(world.model.sources.insert(id.raw(), source).is_none(), "{id:?} is in use");
    world.sources.push(id);
}

fn once(reactor: &mut Loop, world: &mut World) {
    let delay = world.some_delay();
    let deadline = world.tick_after(reactor, delay);
    let key = world.model.arm(deadline, Repeat::Once);
    let token = world.token.clone();
    let callback = move |reactor: &mut Loop, world: &mut World| {
        let _ = &token;
        world.enter(reactor, Run::Once(key));
    };
    let now = reactor.now();
    let id = match now.checked_add(delay) {
        Some(instant) if world.rng.below(2) == 1 && !delay.is_zero() => {
            reactor.at(instant, callback)
        }
        _ => reactor.after(delay, callback),
    };
    world.timers.push((id, key));
}

fn every(reactor: &mut Loop, world: &mut World) {
    let period = world.some_delay();
    let missed = [Missed::Skip, Missed::Burst, Missed::Delay][world.rng.below(3) as usize];
    let deadline = world.tick_after(reactor, period.max(MS));
    let ticks = u64::try_from(period.max(MS).as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    let key = world.model.arm(deadline, Repeat::Every(ticks, missed));
    let token = world.token.clone();
    let callback = move |reactor: &mut Loop, world: &mut World, occurrence: Occurrence| {
        let _ = &token;
        let due = occurrence.deadline - world.origin;
        world.enter(reactor, Run::Every(key, due.as_millis() as u64, occurrence.missed));
    };
    let id = reactor.every(period, missed, callback);
    world.timers.push((id, key));
}

fn defer(reactor: &mut Loop, world: &mut World) {
    let number = world.model.number();
    world.model.deferred.push_back(number);
    let token = world.token.clone();
    reactor.defer(move |reactor, world| {
        let _ = &token;
        world.enter(reactor, Run::Deferred(number));
    });
}

fn enqueue(reactor: &mut Loop, world: &mut World) {
    let (number, lane) = (world.model.number(), world.rng.below(3) as usize);
    world.model.lanes[lane].push_back(Item::Call(number));
    let token = world.token.clone();
    reactor.enqueue(LANES[lane], move |reactor, world| {
        let _ = &token;
        world.enter(reactor, Run::Call(number));
    });
}

fn post(world: &mut World) {
    let number = world.model.number();
    let posts = &mut world.model.posts;
    let (Some(remote), token) = (world.remotes.last(), world.token.clone()) else { return };
    let posted = remote.post(move |reactor, world| {
        let _ = &token;
        world.enter(reactor, Run::Call(number));
    });
    let room = posts.waiting.len() + posts.taken < world.posts_max;
    assert_eq!(posted.is_ok(), room, "{posted:?}");
    if room {
        posts.waiting.push(number);
        posts.knocked = true;
    }
}

fn with_source(reactor: &mut Loop, world: &mut World) {
    let Some(id) = world.some_source() else { return };
    let model = &mut world.model;
    let is_there = model.sources.contains_key(&id.raw());
    let done = match world.rng.below(12) {
        0 => {
            model.remove(id.raw());
            reactor.remove(id.raw())
        }
        1 => {
            model.remove(id.raw());
            reactor.deregister(id).is_some()
        }
        2 | 3 => {
            let ready = world.some_readiness();
            world.model.resume(id.raw(), ready);
            reactor.resume(id.raw(), ready)
        }
        4 => {
            let ready = world.some_readiness();
            world.model.resumed.push((id.raw(), ready));
            world.resumer.resume(id.raw(), ready);
            is_there
        }
        5 | 6 => {
            let delay = world.some_delay();
            let tick = Some(reactor.tick_after(delay));
            assert_eq!(tick, Some(world.tick_after(reactor, delay)));
            world.model.set_deadline(id.raw(), tick);
            reactor.set_deadline(id.raw(), tick)
        }
        7 => {
            model.set_deadline(id.raw(), None);
            reactor.set_deadline(id.raw(), None)
        }
        8 => {
            model.touch(id.raw());
            reactor.get_mut(id).is_some()
        }
        9 => {
            let lane = world.rng.below(3) as usize;
            model.sources.get_mut(&id.raw()).map(|source| source.lane = lane);
            reactor.set_priority(id.raw(), LANES[lane])
        }
        10 => {
            model.sources.get_mut(&id.raw()).map(|source| source.referenced = false);
            reactor.unref(id)
        }
        _ => {
            model.sources.get_mut(&id.raw()).map(|source| source.referenced = true);
            reactor.reref(id)
        }
    };
    assert_eq!(done, is_there, "{id:?}");
    assert_eq!(reactor.contains(id.raw()), world.model.sources.contains_key(&id.raw()));
}

fn with_timer(reactor: &mut Loop, world: &mut World) {
    let Some((id, key)) = world.some_timer() else { return };
    let is_there = world.model.timers.contains_key(&key);
    let done = match world.rng.below(8) {
        0..2 => {
            world.model.forget(key);
            reactor.cancel(id)
        }
        2..6 => {
            let delay = world.some_delay();
            let tick = world.tick_after(reactor, delay);
            world.model.rearm(key, tick);
            reactor.rearm(id, delay)
        }
        to => {
            let to = to == 7;
            world.model.timers.get_mut(&key).map(|timer| timer.referenced = to);
            if to { reactor.reref(id) } else { reactor.unref(id) }
        }
    };
    assert_eq!(done, is_there, "{id:?}");
    let left = world.model.timers.get(&key).map(|timer| {
        let now = reactor.now() - world.origin;
        Duration::from_millis(timer.deadline).saturating_sub(now)
    });
    assert_eq!(reactor.time_left(id), left);
}

fn hook(reactor: &mut Loop, world: &mut World) {
    if world.model.hooks.len() >= 8 {
        return;
    }
    let (number, point) = (world.model.number(), world.rng.below(3) as usize);
    let token = world.token.clone();
    let callback = move |reactor: &mut Loop, world: &mut World| {
        let _ = &token;
        world.enter(reactor, Run::Hook(number));
    };
    let id = match point {
        0 => reactor.before_poll(callback),
        1 => reactor.after_poll(callback),
        _ => reactor.on_idle(callback),
    };
    world.model.hooks.insert(number, point);
    world.hooks.push((id, number));
}

fn unhook(reactor: &mut Loop, world: &mut World) {
    let at = world.rng.below(world.hooks.len() as u64) as usize;
    let Some(&(id, number)) = world.hooks.get(at) else { return };
    assert_eq!(reactor.remove_hook(id), world.model.hooks.remove(&number).is_some());
}

/// Makes a remote, or stops the loop by one.
fn remote(reactor: &mut Loop, world: &mut World) {
    let posts = &mut world.model.posts;
    match world.remotes.last() {
        Some(remote) if world.rng.below(4) == 3 => {
            remote.stop().expect("the loop is there");
            (posts.stop, posts.knocked) = (true, true);
        }
        _ if world.remotes.len() < 4 => {
            world.remotes.push(reactor.remote());
            posts.remotes += 1;
        }
        _ => {}
    }
}

/// More than a turn takes.
fn crowd(reactor: &mut Loop, world: &mut World) {
    let what = world.rng.below(3);
    for _ in 0..1500 {
        match what {
            0 => defer(reactor, world),
            1 => once(reactor, world),
            _ => post(world),
        }
    }
}
