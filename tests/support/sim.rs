//! Scenarios in a simulated network, each run for thousands of seeds.
//!
//! A scenario is two functions. The first puts servers and clients into a fresh [`Sim`] and answers
//! the state they share; the loop then runs until nothing holds it; the second looks at what became
//! of it. The driver itself checks what must hold after any run: it ended, every connection that
//! was opened through `watched` was told `Closed` once and last, and nothing is left in the slab or
//! in the wheel.
//!
//! ```ignore
//! #[test]
//! fn answer_arrives() {
//!     explore("answer_arrives", |sim| { …; State::default() }, |sim, state| assert!(…));
//! }
//! ```

use std::env::var;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::tcp::unclosed;
use crate::{Rng, assert_at_home, ceiling, host, named};
use waterwheel::Reactor;
use waterwheel::net::sim::{Faults, Network};
use waterwheel::reactor::{Kind, LoopEvent, Recorder};
use waterwheel::timers::ManualClock;

/// Seeds that a scenario is run for, unless `WATERWHEEL_SEEDS` says how many.
const SEEDS: u64 = 2000;
/// One seed in so many is run three times, twice by `run` and once by a host, and the traces are
/// compared.
const TWICE_EVERY: u64 = 50;
/// A run that takes more turns than this is taken for one that never ends.
const TURNS_MAX: u64 = 500_000;
/// For so many seeds as [`SEEDS`], and as many times longer for as many times more.
const LIMIT: Duration = Duration::from_secs(300);

/// Who turns the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// As `run` does.
    ByRun,
    /// A host with a loop of its own, as the docs of `Reactor::turn` have it: it waits for the
    /// reactor's descriptor, no longer than `next_wait`, and then turns without waiting.
    ByHost,
}

/// What a handler unwinds with when a scenario wants it to panic (R9): the loop is turned on. By
/// `resume_unwind`, which prints nothing.
pub struct OnPurpose;

/// A loop on a clock that jumps, a network in it, and dice for the scenario itself.
pub struct Sim<S: 'static> {
    pub seed: u64,
    pub reactor: Reactor<S>,
    pub network: Network,
    /// What the network was made with.
    pub faults: Faults,
    pub rng: Rng,
    pub turned: Turned,
    clock: ManualClock,
}

impl<S: 'static> Sim<S> {
    pub fn new(seed: u64, recorder: Option<&Recorder>, turned: Turned) -> Sim<S> {
        let clock = ManualClock::new();
        let mut builder = Reactor::builder().clock(&clock);
        if let Some(recorder) = recorder {
            builder = builder.observer(recorder.observer());
        }
        let mut reactor = builder.build().expect("descriptors are left");
        let faults = Faults::drawn(seed);
        let network = Network::new(&mut reactor, seed, faults.clone());
        let rng = Rng::from_seed(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Sim { seed, reactor, network, faults, rng, turned, clock }
    }

    /// From now on nothing ends a connection but its ends.
    pub fn lossless(&mut self) {
        self.faults = self.faults.clone().lossless();
        self.network.set_faults(self.faults.clone());
    }

    /// Turns until nothing holds the loop, and checks that nothing is left. What no kernel will
    /// ever wake fails instead of sleeping.
    pub fn run_out(&mut self, state: &mut S) {
        let reactor = &mut self.reactor;
        let mut turns = 0;
        while !reactor.take_stop() && reactor.is_alive() {
            turns += 1;
            assert!(turns < TURNS_MAX, "it does not end: {:?}", reactor.why_alive());
            let wait = reactor.next_wait();
            assert!(wait.is_some(), "it is stuck: {:?}", reactor.why_alive());
            let most = match self.turned {
                Turned::ByRun => None,
                Turned::ByHost => {
                    // Nothing here has a descriptor, so what the host waits for is the time.
                    self.clock.advance(wait.unwrap_or_default());
                    Some(Duration::ZERO)
                }
            };
            let turn = || reactor.turn(state, most).expect("a turn");
            match catch_unwind(AssertUnwindSafe(turn)) {
                Err(panic) if !panic.is::<OnPurpose>() => resume_unwind(panic),
                _ => {}
            }
        }
        assert_eq!(unclosed(), 0, "a handler waits for its Closed");
        assert_eq!(reactor.sources(), 1, "something is left beside the network");
        self.network.unplug(reactor);
        assert_eq!((reactor.sources(), reactor.timers()), (0, 0), "something is left");
    }
}

/// Runs a scenario for many seeds. `test` is the name of the test that calls this.
///
/// `WATERWHEEL_SEED=17` runs it for that seed alone, `WATERWHEEL_SEEDS=100000` for so many,
/// beginning with `WATERWHEEL_SEED_BASE`; with `WATERWHEEL_HOST=1` all of them by a host. A seed
/// that fails prints the command that runs it again.
#[track_caller]
pub fn explore<S: 'static>(
    test: &str,
    set_up: impl Fn(&mut Sim<S>) -> S,
    check: impl Fn(&Sim<S>, &S),
) {
    explore_share(1, test, set_up, check);
}

/// [`explore`] for a tenth of the seeds: the server is a whole program, and a run costs ten times what
/// others cost.
#[track_caller]
pub fn explore_program<S: 'static>(
    test: &str,
    set_up: impl Fn(&mut Sim<S>) -> S,
    check: impl Fn(&Sim<S>, &S),
) {
    explore_share(10, test, set_up, check);
}

#[track_caller]
fn explore_share<S: 'static>(
    share: u64,
    test: &str,
    set_up: impl Fn(&mut Sim<S>) -> S,
    check: impl Fn(&Sim<S>, &S),
) {
    let number = |name| var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    let seeds = match number("WATERWHEEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let base = number("WATERWHEEL_SEED_BASE").unwrap_or(0);
            base..base + number("WATERWHEEL_SEEDS").unwrap_or(SEEDS).div_ceil(share)
        }
    };
    let times = (seeds.end - seeds.start).div_ceil(SEEDS);
    let _ceiling = ceiling(LIMIT * u32::try_from(times).expect("fewer seeds"));
    if let Err((seed, panic)) = try_explore(seeds, &set_up, &check) {
        eprintln!("\nseed {seed} fails; again: {}\n", command(test, seed, turned()));
        resume_unwind(panic);
    }
}

type Panic = Box<dyn std::any::Any + Send>;

/// The first of the seeds that fails, and how.
pub fn try_explore<S: 'static>(
    seeds: std::ops::Range<u64>,
    set_up: &impl Fn(&mut Sim<S>) -> S,
    check: &impl Fn(&Sim<S>, &S),
) -> Result<(), (u64, Panic)> {
    let alone = seeds.end - seeds.start == 1;
    for seed in seeds {
        let run = || {
            if alone || seed % TWICE_EVERY == 0 {
                let by = |turned| trace(seed, turned, set_up, check);
                let first = by(Turned::ByRun);
                assert_at_home(&first);
                assert_same(&first, &by(Turned::ByRun));
                assert_same_calls(&first, &by(Turned::ByHost));
            } else {
                run_seed(seed, None, turned(), set_up, check);
            }
        };
        catch_unwind(AssertUnwindSafe(run)).map_err(|panic| (seed, panic))?;
    }
    Ok(())
}

/// What runs one seed of this test of the calling file again.
#[track_caller]
pub fn command(test: &str, seed: u64, turned: Turned) -> String {
    let (program, test) = named(test);
    let host = if turned == Turned::ByHost { "WATERWHEEL_HOST=1 " } else { "" };
    format!(
        "{host}WATERWHEEL_SEED={seed} cargo test --all-features --test {program} -- --exact {test}"
    )
}

/// Who turns the loop where a scenario does not say.
fn turned() -> Turned {
    if host::is_asked_for() { Turned::ByHost } else { Turned::ByRun }
}

fn run_seed<S: 'static>(
    seed: u64,
    recorder: Option<&Recorder>,
    turned: Turned,
    set_up: &impl Fn(&mut Sim<S>) -> S,
    check: &impl Fn(&Sim<S>, &S),
) {
    let mut sim = Sim::new(seed, recorder, turned);
    let mut state = set_up(&mut sim);
    sim.run_out(&mut state);
    check(&sim, &state);
}

/// All that the loop told while it ran.
pub fn trace<S: 'static>(
    seed: u64,
    turned: Turned,
    set_up: &impl Fn(&mut Sim<S>) -> S,
    check: &impl Fn(&Sim<S>, &S),
) -> Vec<LoopEvent> {
    let recorder = Recorder::new();
    run_seed(seed, Some(&recorder), turned, set_up, check);
    recorder.take()
}

/// Compares what was called, in which order and when: a host may turn the loop more often than
/// `run` does, but nothing comes later for it, or otherwise. A recorder forgets its oldest records,
/// and not as many calls of the one as of the other: then the calls that both have, from the last on.
pub fn assert_same_calls(by_run: &[LoopEvent], by_host: &[LoopEvent]) {
    let calls = |events: &[LoopEvent]| -> Vec<_> {
        let runs = [
            Kind::RunSource,
            Kind::RunTimer,
            Kind::RunEnqueued,
            Kind::RunPosted,
            Kind::RunDeferred,
        ];
        let events = events.iter().filter(|event| runs.contains(&event.kind));
        events.map(|event| (event.nanos, event.kind, event.subject, event.place)).collect()
    };
    let is_whole = by_run.len().max(by_host.len()) < Recorder::CAPACITY;
    let (mut by_run, mut by_host) = (calls(by_run), calls(by_host));
    if !is_whole {
        let both = by_run.len().min(by_host.len());
        by_run.drain(..by_run.len() - both);
        by_host.drain(..by_host.len() - both);
    }
    for (at, (run, host)) in by_run.iter().zip(&by_host).enumerate() {
        assert_eq!(run, host, "call {at} is another one for a host");
    }
    assert_eq!(by_run.len(), by_host.len(), "calls by `run`, and by a host");
}

/// Compares traces record for record, times included.
pub fn assert_same(one: &[LoopEvent], other: &[LoopEvent]) {
    let all = |event: &LoopEvent| {
        let LoopEvent { sequence, nanos, cause, place, subject, what, kind, argument } = *event;
        (sequence, nanos, cause, place, subject, what, kind, argument)
    };
    for (one, other) in one.iter().zip(other) {
        assert_eq!(all(one), all(other), "the same seed took another way");
    }
    assert_eq!(one.len(), other.len());
}
