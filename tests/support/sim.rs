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
#![allow(dead_code)] // Each test file uses its own part of it.

use std::env::{current_exe, var};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use waterwheel::Reactor;
use waterwheel::net::sim::{Faults, Network};
use waterwheel::reactor::{LoopEvent, Recorder};
use waterwheel::timers::ManualClock;

use super::support::{Rng, assert_at_home, ceiling};
use super::tcp::unclosed;

/// Seeds that a scenario is run for, unless `WATERWHEEL_SEEDS` says how many.
const SEEDS: u64 = 2000;
/// One seed in so many is run twice, and the traces are compared.
const TWICE_EVERY: u64 = 50;
/// A run that takes more turns than this is taken for one that never ends.
const TURNS_MAX: u64 = 500_000;
/// For all seeds together.
const LIMIT: Duration = Duration::from_secs(300);

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
}

impl<S: 'static> Sim<S> {
    pub fn new(seed: u64, recorder: Option<&Recorder>) -> Sim<S> {
        let mut builder = Reactor::builder().clock(&ManualClock::new());
        if let Some(recorder) = recorder {
            builder = builder.observer(recorder.observer());
        }
        let mut reactor = builder.build().expect("descriptors are left");
        let faults = Faults::drawn(seed);
        let network = Network::new(&mut reactor, seed, faults.clone());
        let rng = Rng::from_seed(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Sim { seed, reactor, network, faults, rng }
    }

    /// From now on nothing ends a connection but its ends.
    pub fn lossless(&mut self) {
        self.faults = self.faults.clone().lossless();
        self.network.set_faults(self.faults.clone());
    }

    /// Turns until nothing holds the loop, as `run` does, and checks that nothing is left. What no
    /// kernel will ever wake fails instead of sleeping.
    pub fn run_out(&mut self, state: &mut S) {
        let reactor = &mut self.reactor;
        let mut turns = 0;
        while !reactor.take_stop() && reactor.is_alive() {
            turns += 1;
            assert!(turns < TURNS_MAX, "it does not end: {:?}", reactor.why_alive());
            assert!(reactor.next_wait().is_some(), "it is stuck: {:?}", reactor.why_alive());
            let turn = || reactor.turn(state, None).expect("a turn");
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
/// `WATERWHEEL_SEED=17` runs it for that seed alone, `WATERWHEEL_SEEDS=100000` for so many. A seed
/// that fails prints the command that runs it again.
pub fn explore<S: 'static>(
    test: &str,
    set_up: impl Fn(&mut Sim<S>) -> S,
    check: impl Fn(&Sim<S>, &S),
) {
    let _ceiling = ceiling(LIMIT);
    let number = |name| var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    let seeds = match number("WATERWHEEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WATERWHEEL_SEEDS").unwrap_or(SEEDS),
    };
    if let Err((seed, panic)) = try_explore(seeds, &set_up, &check) {
        eprintln!("\nseed {seed} fails; again: {}\n", command(test, seed));
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
                let (first, second) = (trace(seed, set_up, check), trace(seed, set_up, check));
                assert_at_home(&first);
                assert_same(&first, &second);
            } else {
                run_seed(seed, None, set_up, check);
            }
        };
        catch_unwind(AssertUnwindSafe(run)).map_err(|panic| (seed, panic))?;
    }
    Ok(())
}

/// What runs one seed of this test again.
pub fn command(test: &str, seed: u64) -> String {
    let program = current_exe().expect("a test has a path");
    let name = program.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    // Cargo puts a hash behind the name.
    let file = name.rsplit_once('-').map_or(name, |(file, _)| file);
    format!("WATERWHEEL_SEED={seed} cargo test --test {file} -- --exact {test}")
}

fn run_seed<S: 'static>(
    seed: u64,
    recorder: Option<&Recorder>,
    set_up: &impl Fn(&mut Sim<S>) -> S,
    check: &impl Fn(&Sim<S>, &S),
) {
    let mut sim = Sim::new(seed, recorder);
    let mut state = set_up(&mut sim);
    sim.run_out(&mut state);
    check(&sim, &state);
}

/// All that the loop told while it ran.
pub fn trace<S: 'static>(
    seed: u64,
    set_up: &impl Fn(&mut Sim<S>) -> S,
    check: &impl Fn(&Sim<S>, &S),
) -> Vec<LoopEvent> {
    let recorder = Recorder::new();
    run_seed(seed, Some(&recorder), set_up, check);
    recorder.take()
}

/// Compares traces record for record, times included.
pub fn assert_same(one: &[LoopEvent], other: &[LoopEvent]) {
    let all = |event: &LoopEvent| {
        let LoopEvent { sequence, nanos, cause, place, subject, kind, argument } = *event;
        (sequence, nanos, cause, place, subject, kind, argument)
    };
    for (one, other) in one.iter().zip(other) {
        assert_eq!(all(one), all(other), "the same seed took another way");
    }
    assert_eq!(one.len(), other.len());
}
