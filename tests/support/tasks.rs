//! A loop on the manual clock with a task queue, and the callbacks the tests give it.

use std::time::Duration;

use waterwheel::patterns::tasks::{Counts, Record, Run, Schedule, Task, TaskQueue};
use waterwheel::reactor::{Context, Priority};
use waterwheel::timers::ManualClock;
use waterwheel::{Reactor, SourceId};

pub const DAY: Duration = Duration::from_secs(24 * 3600);

pub type Queue = SourceId<TaskQueue<World>>;

/// What the callbacks of a test share.
#[derive(Default)]
pub struct World {
    /// What ran, and in which millisecond.
    pub log: Vec<(String, u64)>,
    /// Runs that wait for an answer.
    pub held: Vec<Run>,
    /// What was told, shortened.
    pub told: Vec<String>,
}

impl World {
    pub fn log(&self) -> Vec<(&str, u64)> {
        self.log.iter().map(|(name, at)| (&**name, *at)).collect()
    }

    pub fn at(&self) -> Vec<u64> {
        self.log.iter().map(|run| run.1).collect()
    }
}

pub fn on(clock: &ManualClock) -> Reactor<World> {
    Reactor::builder().clock(clock).build().unwrap()
}

pub fn open(reactor: &mut Reactor<World>, queue: TaskQueue<World>) -> Queue {
    queue.open(reactor).unwrap()
}

pub fn every(name: &str, ms: u64) -> Task {
    Task::new(name, Schedule::every(Duration::from_millis(ms)))
}

pub fn once(name: &str, ms: u64) -> Task {
    Task::new(name, Schedule::after(Duration::from_millis(ms)))
}

/// Notes the run and ends it.
pub fn ok(reactor: &mut Context<World>, world: &mut World, run: Run) {
    world.log.push((run.name().to_owned(), reactor.tick().count()));
    run.ok();
}

/// Notes the run and keeps it.
pub fn hold(reactor: &mut Context<World>, world: &mut World, run: Run) {
    world.log.push((run.name().to_owned(), reactor.tick().count()));
    world.held.push(run);
}

/// Notes the run and ends it so much later.
pub fn take(ms: u64) -> impl FnMut(&mut Context<World>, &mut World, Run) {
    move |reactor, world, run| {
        world.log.push((run.name().to_owned(), reactor.tick().count()));
        reactor.after(Duration::from_millis(ms), move |_, _| run.ok());
    }
}

pub fn tell(record: &Record) -> String {
    let Record { name, attempt, outcome, started, ended, again, .. } = record;
    let again = again.map_or(String::new(), |again| format!(", again in {} ms", again.as_millis()));
    format!("{name} {attempt} [{}-{}] {outcome}{again}", started.tick.count(), ended.tick.count())
}

pub fn history(reactor: &Reactor<World>, queue: Queue) -> Vec<String> {
    reactor[queue].history().map(tell).collect()
}

pub fn counts(reactor: &Reactor<World>, queue: Queue, name: &str) -> Counts {
    let queue = &reactor[queue];
    queue.find(name).and_then(|task| queue.task(task)).unwrap().counts
}

/// Turns the loop until the clock shows `ms`; then something may be looked at.
pub fn run_to(reactor: &mut Reactor<World>, world: &mut World, ms: u64) {
    let left = ms.checked_sub(reactor.tick().count()).unwrap();
    let stopper = reactor.after(Duration::from_millis(left), |reactor, _| {
        // What is due in the same millisecond comes first: the queue's starts take a turn or two.
        reactor.enqueue(Priority::Low, |reactor, _| {
            reactor.enqueue(Priority::Low, |reactor, _| {
                reactor.enqueue(Priority::Low, |reactor, _| reactor.stop());
            });
        });
    });
    reactor.unref(stopper);
    reactor.run(world).unwrap();
}
