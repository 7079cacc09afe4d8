//! The loop against the model of its contract: the bytes are a program, run inside and outside of
//! callbacks, and every callback must be the one that the model expects.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::acts::act;
use super::contract::{Model, Phase, Repeat, Run};
use super::fold::Fold;
use support::{MS, Rng};
use waterwheel::reactor::{
    HookId, PanicPolicy, Readiness, Remote, Resumer, Script, SourceId, VirtualSource,
};
use waterwheel::timers::{ManualClock, TimerId};
use waterwheel::{Context, Reactor};

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

/// How often the loop's state and the fold of its records were compared, after an act each.
pub static COMPARED: AtomicU64 = AtomicU64::new(0);

/// What is thrown on purpose.
struct OnPurpose;

/// The loop's state: the model, and what a callback needs to act.
pub(super) struct World {
    pub(super) model: Model,
    pub(super) rng: Rng,
    pub(super) clock: ManualClock,
    /// The clock's time when the loop was made.
    pub(super) origin: std::time::Instant,
    pub(super) policy: PanicPolicy,
    /// Ids given out at some time.
    pub(super) sources: Vec<SourceId<VirtualSource>>,
    pub(super) timers: Vec<(TimerId, u64)>,
    pub(super) hooks: Vec<(HookId, u64)>,
    pub(super) remotes: Vec<Remote<World>>,
    pub(super) posts_max: usize,
    pub(super) resumer: Resumer,
    pub(super) script: Script,
    /// The turn may sleep so long.
    pub(super) wait: Duration,
    /// The clock's time when it was last looked at: in between, only the loop has moved it.
    pub(super) seen: Duration,
    /// What every callback holds.
    pub(super) token: Arc<()>,
    /// The same state once more, from the records alone.
    fold: Rc<RefCell<Fold>>,
}

pub(super) type Loop = Context<World>;

struct Lab {
    reactor: Reactor<World>,
    world: World,
}

impl Lab {
    fn new(mut rng: Rng) -> Lab {
        let (clock, script) = (ManualClock::new(), Script::new());
        let policy = [PanicPolicy::Propagate, PanicPolicy::Drop][rng.below(2) as usize];
        let posts_max = if rng.below(2) == 0 { usize::MAX } else { rng.below(8) as usize };
        let (fold, observer) = Fold::new();
        let builder = Reactor::builder().clock(&clock).script(&script).panic_policy(policy);
        let builder = builder.observer(observer);
        let mut reactor = builder.mailbox_posts_max(posts_max).build().expect("a selector");
        if rng.below(2) == 1 {
            // The order is the same, and the gate knows it.
            reactor.set_gate(|reactor, world: &mut World| {
                world.fold.borrow_mut().expect(reactor.upcoming());
                true
            });
        }
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
            fold,
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
        let mut snapshot = reactor.snapshot();
        let deadlines = snapshot.sources.iter_mut().filter_map(|source| source.deadline.as_mut());
        let timers = snapshot.timers.iter_mut().map(|timer| &mut timer.deadline);
        deadlines.chain(timers).for_each(|deadline| *deadline &= u64::from(u32::MAX));
        assert_eq!(world.fold.borrow().snapshot(), snapshot);
        COMPARED.fetch_add(1, Ordering::Relaxed);
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
        // A callback that panics ends its turn, and a crowd of thousands may.
        for _ in 0..20_000 {
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
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.now() - self.origin
    }

    /// The first tick at or after `delay` from the turn's now.
    pub(super) fn tick_after(&self, reactor: &Loop, delay: Duration) -> u64 {
        Self::tick_from(reactor.now() - self.origin, delay)
    }

    /// The first tick at or after `delay` from now, where a source's deadline begins: a callback of
    /// this turn may have moved the clock.
    pub(super) fn tick_after_this_moment(&self, delay: Duration) -> u64 {
        Self::tick_from(self.elapsed(), delay)
    }

    fn tick_from(now: Duration, delay: Duration) -> u64 {
        if delay.is_zero() {
            return u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        }
        let nanos = now.as_nanos() + delay.as_nanos();
        u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// What runs must be what the model says, and the loop must not have slept past a deadline
    /// nor over anything that waited.
    pub(super) fn expect(&mut self, reactor: &Loop, run: Option<Run>) {
        let before = self.model.is_before_collect();
        let next = (reactor.now() - self.origin).as_nanos().div_ceil(1_000_000);
        let next = u64::try_from(next).unwrap_or(u64::MAX);
        assert_eq!(self.model.next(reactor.tick().count(), next), run);
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
    pub(super) fn enter(&mut self, reactor: &mut Loop, run: Run) {
        self.expect(reactor, Some(run));
        for _ in 0..self.rng.below(4) {
            act(reactor, self);
        }
        if self.rng.below(24) == 23 {
            self.model.panic(self.policy == PanicPolicy::Drop);
            resume_unwind(Box::new(OnPurpose));
        }
    }

    pub(super) fn some_source(&mut self) -> Option<SourceId<VirtualSource>> {
        let at = self.rng.below(self.sources.len() as u64) as usize;
        self.sources.get(at).copied()
    }

    pub(super) fn some_timer(&mut self) -> Option<(TimerId, u64)> {
        let at = self.rng.below(self.timers.len() as u64) as usize;
        self.timers.get(at).copied()
    }

    pub(super) fn some_readiness(&mut self) -> Readiness {
        let both = Readiness::READABLE | Readiness::WRITABLE;
        [Readiness::NONE, Readiness::READABLE, Readiness::WRITABLE, both]
            [self.rng.below(4) as usize]
    }

    pub(super) fn some_delay(&mut self) -> Duration {
        match self.rng.below(16) {
            0 => Duration::MAX,
            1 => Duration::from_millis(self.rng.next() >> self.rng.below(64)),
            2..5 => Duration::ZERO,
            5..8 => Duration::from_micros(self.rng.below(256) * 100),
            _ => self.rng.below(16) as u32 * MS,
        }
    }

    pub(super) fn drop_remote(&mut self) -> bool {
        let dropped = self.remotes.pop().is_some();
        if dropped {
            self.model.posts.remotes -= 1;
            self.model.posts.knocked |= self.model.posts.remotes == 0;
        }
        dropped
    }
}
