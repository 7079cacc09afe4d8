//! Callbacks that do anything to their queue, at random: each run that began is told of once.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::time::Duration;

use support::{CHAOS, Rng, hush_chaos};
use waterwheel::patterns::Backoff;
use waterwheel::patterns::tasks::{Overrun, Run, RunId, Schedule, Task, TaskId, TaskQueue};
use waterwheel::reactor::{Context, PanicPolicy, Priority};
use waterwheel::timers::ManualClock;
use waterwheel::{Reactor, SourceId};

const RUNS_MAX: usize = 5;
const RUNS: usize = 20_000;

struct Chaos {
    rng: Rng,
    queue: Option<SourceId<TaskQueue<Chaos>>>,
    held: Vec<Run>,
    begun: Vec<RunId>,
    told: Vec<RunId>,
}

impl Chaos {
    fn ms(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.rng.below(most))
    }

    fn any_task(&mut self, reactor: &Context<Chaos>) -> Option<TaskId> {
        let queue = &reactor[self.queue?];
        let place = self.rng.below(queue.len().max(1) as u64) as usize;
        queue.tasks().nth(place).map(|task| task.id)
    }

    fn add(&mut self, reactor: &mut Context<Chaos>) {
        let Some(queue) = self.queue else { return };
        let schedule = match self.rng.below(4) {
            0 => Schedule::after(self.ms(100)),
            _ => Schedule::every(self.ms(100)),
        };
        let room = 1 + self.rng.below(3) as u32;
        let overruns = [Overrun::Skip, Overrun::Queue(room), Overrun::Parallel(room)];
        let priorities = [Priority::High, Priority::Normal, Priority::Low];
        let task = Task::new(self.rng.below(20).to_string(), schedule)
            .overrun(overruns[self.rng.below(3) as usize])
            .priority(priorities[self.rng.below(3) as usize])
            .retry(Backoff::new(1 + self.rng.below(3) as u32).first(self.ms(50)))
            .timeout(self.ms(200));
        let _ = queue.add(reactor, task, |reactor, chaos: &mut Chaos, run| {
            assert!(chaos.queue.is_some_and(|queue| reactor[queue].running() <= RUNS_MAX));
            chaos.begun.push(run.id());
            chaos.do_anything(reactor);
            chaos.answer(reactor, run);
            chaos.do_anything(reactor);
        }); // Its name may be taken.
    }

    fn answer(&mut self, reactor: &mut Context<Chaos>, run: Run) {
        match self.rng.below(8) {
            0..3 => run.ok(),
            3 => run.fail("chaos"),
            4 => drop(run),
            5 => self.held.push(run),
            6 => _ = reactor.after(self.ms(100), move |_, _| run.ok()),
            _ => panic_any(CHAOS),
        }
    }

    fn do_anything(&mut self, reactor: &mut Context<Chaos>) {
        let (Some(queue), Some(task)) = (self.queue, self.any_task(reactor)) else {
            return self.add(reactor);
        };
        let schedule = Schedule::every(self.ms(50));
        match self.rng.below(40) {
            0..4 => self.add(reactor),
            4..7 => _ = queue.remove(reactor, task),
            7..9 => _ = queue.pause(reactor, task),
            9..15 => _ = queue.resume(reactor, task),
            15 => _ = queue.pause_all(reactor),
            16..20 => _ = queue.resume_all(reactor),
            20..23 => _ = queue.run_now(reactor, task),
            23 => _ = queue.set_schedule(reactor, task, schedule),
            24..28 if !self.held.is_empty() => self.held.remove(0).ok(),
            28 => reactor.defer(|reactor, chaos| chaos.do_anything(reactor)),
            29 => drop(self.held.pop()),
            _ => {}
        }
    }
}

fn rage(policy: PanicPolicy, rng: Rng) {
    let builder = Reactor::builder().clock(&ManualClock::new()).panic_policy(policy);
    let mut reactor = builder.build().unwrap();
    let queue = TaskQueue::new().runs_max(RUNS_MAX).open(&mut reactor).unwrap();
    queue.on_end(&mut reactor, |reactor, chaos: &mut Chaos, record| {
        chaos.told.push(record.run);
        chaos.do_anything(reactor);
    });
    let (held, begun, told) = (Vec::new(), Vec::new(), Vec::new());
    let mut chaos = Chaos { rng, queue: Some(queue), held, begun, told };
    let mut panics = 0;
    while chaos.begun.len() < RUNS {
        chaos.add(&mut reactor);
        queue.resume_all(&mut reactor);
        reactor.after(Duration::from_millis(50), |reactor, _| reactor.stop());
        let run = AssertUnwindSafe(|| reactor.run(&mut chaos).unwrap());
        panics += usize::from(catch_unwind(run).is_err());
    }
    assert_eq!(panics > 0, policy == PanicPolicy::Propagate);
    // No callback of a task runs from here on, so nothing is added.
    queue.pause_all(&mut reactor);
    chaos.queue = None;
    let tasks: Vec<_> = reactor[queue].tasks().map(|task| task.id).collect();
    for task in tasks {
        assert!(queue.remove(&mut reactor, task));
    }
    chaos.held.clear();
    while reactor.is_alive() {
        reactor.run(&mut chaos).unwrap(); // Rounds that ended in a panic have left their `stop`.
    }
    for runs in [&mut chaos.begun, &mut chaos.told] {
        runs.sort();
    }
    assert_eq!(chaos.begun, chaos.told);
    chaos.told.dedup();
    assert_eq!(chaos.begun.len(), chaos.told.len());
    assert_eq!((reactor[queue].timers(), reactor[queue].running()), (0, 0));
    assert_eq!((reactor.timers(), reactor.why_alive().len()), (0, 0));
}

#[test]
fn whatever_callbacks_do_to_their_queue_each_run_is_told_of_once() {
    hush_chaos();
    let mut seeds = Rng::new();
    for policy in [PanicPolicy::Propagate, PanicPolicy::Drop] {
        rage(policy, Rng::from_seed(seeds.next()));
    }
}
