//! Tasks: named work with a schedule, and a limit on how much runs at once.
//!
//! Knows the loop, its clock and its lanes; never mentions sockets.
//!
//! A timer calls back when its time has come, even if the last call's work still goes on. A task is
//! more than a timer: it has a name and a history; its runs may take long, may fail and are tried
//! again; and there is a bound on slow runs.
//!
//! ```text
//!   TaskQueue, a source without descriptor, with one deadline for all of its tasks
//!
//!   deadline, or a run has ended ─▶ plan: which runs may begin? ─▶ one queued callback for each,
//!                                                     in the lane of the task's priority
//!   callback(reactor, state, run) … run.ok() or run.fail(why), now or later ─▶ the run has ended
//! ```
//!
//! A run starts as a callback of its own in the turn after the one in which it was chosen, so the
//! loop's rules hold for it: its deferred callbacks run before the next run (R2), High is before
//! Low (R7), a panic ends the run and not the queue (R9).
//!
//! # Rules
//! 1. Each run ends once: with one [`Record`], and one call of [`on_end`](SourceId::on_end).
//! 2. Occurrences that were missed, because the machine slept or a callback took long, are made up
//!    for by one run, or by as many as [`Task::catch_up`] says.
//! 3. A cron line is never due twice for the same occurrence, wherever the wall clock is set to,
//!    unless it is set back by more than a day. A new setting is noticed within [`WALL_LOOK`].
//! 4. A pause delays runs that would begin. Occurrences in a pause count as those of a busy task:
//!    at the end of the pause one run waits, or as many as [`Overrun`] allows.
//! 5. A task holds the loop (R8) while it has a run to come or under way, unless it was unref'd.
//!
//! # Left out
//! Tasks that outlive the process: who stores how far they had come gives that back by
//! [`Schedule::since`] and [`run_again`](SourceId::run_again). Ending a callback from outside,
//! which is impossible.
//!
//! # Read next
//! `plan.rs`: the decisions.

use std::fmt;
use std::io;
use std::rc::Rc;

use super::Random;
use crate::reactor::{Context, Options, Place, SourceId};
use crate::timers::{Tick, WallTime};

#[cfg(feature = "cron")]
mod cron;
mod drive;
mod plan;
mod record;
mod run;
mod schedule;
mod task;

pub use record::{Counts, Outcome, Record, Status};
pub use run::Run;
pub use schedule::{CATCH_UP_MAX, Moment, Schedule, WALL_LOOK};
pub use task::{Overrun, RunId, Task, TaskError, TaskId};

use drive::{drive, pump};
use plan::Plan;
use run::Answers;
use schedule::Present;

/// The callback of a task.
type Callback<S> = Box<dyn FnMut(&mut Context<S>, &mut S, Run)>;
/// The callback that gets the records of runs that ended.
type OnEnd<S> = Box<dyn FnMut(&mut Context<S>, &mut S, &Record)>;

/// The limits of a queue.
#[derive(Clone, Copy, Debug)]
struct Limits {
    runs_max: usize,
    tasks_max: usize,
    history_max: usize,
}

/// Tasks that share a limit on how many of them run at once. A source without a descriptor: it is
/// woken by its deadline and by its runs.
///
/// It is set up, opened in a loop, and from then on reached by its id: `reactor[queue]` reads it,
/// and the methods of `SourceId<TaskQueue<S>>` change it.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::Reactor;
/// use waterwheel::patterns::tasks::{Schedule, Task, TaskQueue};
///
/// let mut reactor = Reactor::new()?;
/// let queue = TaskQueue::new().runs_max(2).open(&mut reactor)?;
/// let beat = Task::new("beat", Schedule::every(Duration::from_millis(1)));
/// queue.add(&mut reactor, beat, move |reactor, beats: &mut u32, run| {
///     *beats += 1;
///     if *beats == 3 {
///         queue.remove(reactor, run.task());
///     }
///     run.ok();
/// })?;
/// let mut beats = 0;
/// reactor.run(&mut beats)?;
/// assert_eq!(beats, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TaskQueue<S: 'static> {
    plan: Plan<Callback<S>>,
    /// The tick for which its deadline is armed; `None` if it is not armed, or has passed.
    armed: Option<Tick>,
    /// `None` until it is opened.
    answers: Option<Rc<Answers>>,
    /// `None` also while it is called.
    on_end: Option<OnEnd<S>>,
}

impl<S: 'static> TaskQueue<S> {
    /// A queue with the default limits.
    pub fn new() -> TaskQueue<S> {
        let limits = Limits { runs_max: 64, tasks_max: 100_000, history_max: 1000 };
        let plan = Plan::new(limits, Random::new());
        TaskQueue { plan, armed: None, answers: None, on_end: None }
    }

    /// The most runs at once, of all tasks together; for one task, see [`Overrun`]. Default: 64.
    pub fn runs_max(mut self, runs: usize) -> TaskQueue<S> {
        self.plan.limits_mut().runs_max = runs.max(1);
        self
    }

    /// The most tasks; one more is [`TaskError::Full`]. Default: 100,000.
    pub fn tasks_max(mut self, tasks: usize) -> TaskQueue<S> {
        self.plan.limits_mut().tasks_max = tasks;
        self
    }

    /// How many records of runs are kept, the latest. Default: 1,000.
    pub fn history_max(mut self, records: usize) -> TaskQueue<S> {
        self.plan.limits_mut().history_max = records;
        self
    }

    /// Fixes the jitter of [`Backoff`](super::Backoff). Without a seed it differs in each process.
    pub fn seed(mut self, seed: u64) -> TaskQueue<S> {
        self.plan.set_random(Random::from_seed(seed));
        self
    }

    /// Puts it into the loop.
    ///
    /// # Errors
    /// The loop has more sources than it can number. Or the queue was open before and was
    /// deregistered: its runs belong to its former source.
    #[track_caller]
    pub fn open(self, reactor: &mut Context<S>) -> io::Result<SourceId<TaskQueue<S>>> {
        if self.answers.is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a queue is opened once"));
        }
        let queue = reactor.try_own(self, Options::default(), drive)?;
        let resumer = reactor.resumer();
        reactor[queue].answers = Some(Rc::new(Answers::new(queue.raw(), resumer)));
        reactor.set_idle(queue, true);
        reactor.name_parts::<TaskQueue<S>>(|_, _, queue| {
            let holders = queue.plan.holders();
            holders.map(|(name, place)| (format!("task {name:?} added"), place)).collect()
        });
        Ok(queue)
    }

    /// Its tasks, in the order of their names.
    pub fn tasks(&self) -> impl Iterator<Item = Status<'_>> {
        self.plan.statuses()
    }

    /// The status of a task; `None` if the id is stale.
    pub fn task(&self, task: TaskId) -> Option<Status<'_>> {
        self.plan.status(task)
    }

    /// The task of that name.
    pub fn find(&self, name: &str) -> Option<TaskId> {
        self.plan.find(name)
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.plan.len()
    }

    /// Returns true if there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The runs that ended last, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.plan.history()
    }

    /// How many runs are under way, chosen ones included.
    pub fn running(&self) -> usize {
        self.plan.running()
    }

    /// Returns true if a run has begun and not ended; false if it has timed out.
    pub fn is_running(&self, run: RunId) -> bool {
        self.plan.is_running(run)
    }

    /// Returns true if the queue as a whole is paused.
    pub fn is_paused(&self) -> bool {
        self.plan.is_paused()
    }

    /// How many timers it keeps: for tests which check that none is left.
    pub fn timers(&self) -> usize {
        self.plan.timers()
    }
}

/// The methods that change a queue. With a stale queue or task they do nothing and return `false`.
impl<S: 'static> SourceId<TaskQueue<S>> {
    /// Adds a task. `callback` is called for each run. It has to end the [`Run`] with `ok` or
    /// `fail`, or to pass it to code that does.
    ///
    /// # Errors
    /// The name is taken, the queue is full or gone.
    #[track_caller]
    pub fn add<F>(
        self,
        reactor: &mut Context<S>,
        mut task: Task,
        callback: F,
    ) -> Result<TaskId, TaskError>
    where
        F: FnMut(&mut Context<S>, &mut S, Run) + 'static,
    {
        task.settings.place = Place::caller();
        let add = |queue: &mut TaskQueue<S>, now| queue.plan.add(task, Box::new(callback), now);
        self.change(reactor, add).unwrap_or(Err(TaskError::Gone))
    }

    /// Removes a task and drops its callback, also from inside its own run. A run that is under way
    /// ends as [`Outcome::Removed`].
    pub fn remove(self, reactor: &mut Context<S>, task: TaskId) -> bool {
        self.change(reactor, |queue, now| queue.plan.remove(task, now)).unwrap_or(false)
    }

    /// Makes a task due now, in addition to its schedule. Returns false also if it is under way and
    /// its [`Overrun`] has no room. A paused task waits for the end of the pause.
    pub fn run_now(self, reactor: &mut Context<S>, task: TaskId) -> bool {
        self.change(reactor, |queue, now| queue.plan.run_as(task, now.moment, 1)).unwrap_or(false)
    }

    /// Makes a run due now that was planned before, by an earlier process or by another one: it has
    /// the time for which it was due then, and the number of this attempt. [`Task::retry`] counts
    /// on from there. Returns false as [`run_now`](SourceId::run_now) does.
    pub fn run_again(
        self,
        reactor: &mut Context<S>,
        task: TaskId,
        due: WallTime,
        attempt: u32,
    ) -> bool {
        let run = |queue: &mut TaskQueue<S>, now: Present| {
            queue.plan.run_as(task, now.moment.of_wall(due), attempt)
        };
        self.change(reactor, run).unwrap_or(false)
    }

    /// Gives a task another schedule, from now on. Runs under way go on.
    pub fn set_schedule(self, reactor: &mut Context<S>, task: TaskId, schedule: Schedule) -> bool {
        let set = |queue: &mut TaskQueue<S>, now| queue.plan.set_schedule(task, schedule, now);
        self.change(reactor, set).unwrap_or(false)
    }

    /// Keeps runs of a task from beginning until [`resume`](SourceId::resume).
    pub fn pause(self, reactor: &mut Context<S>, task: TaskId) -> bool {
        self.change(reactor, |queue, _| queue.plan.set_paused(task, true)).unwrap_or(false)
    }

    /// Takes [`pause`](SourceId::pause) back.
    pub fn resume(self, reactor: &mut Context<S>, task: TaskId) -> bool {
        self.change(reactor, |queue, _| queue.plan.set_paused(task, false)).unwrap_or(false)
    }

    /// Keeps all runs from beginning until [`resume_all`](SourceId::resume_all). Begun runs go on.
    pub fn pause_all(self, reactor: &mut Context<S>) -> bool {
        self.change(reactor, |queue, _| queue.plan.set_all_paused(true)).is_some()
    }

    /// Takes [`pause_all`](SourceId::pause_all) back; a task that is paused itself stays paused.
    pub fn resume_all(self, reactor: &mut Context<S>) -> bool {
        self.change(reactor, |queue, _| queue.plan.set_all_paused(false)).is_some()
    }

    /// Lets `run` return although this task has runs to come.
    pub fn unref(self, reactor: &mut Context<S>, task: TaskId) -> bool {
        self.change(reactor, |queue, _| queue.plan.set_referenced(task, false)).unwrap_or(false)
    }

    /// Takes [`unref`](SourceId::unref) back.
    pub fn reref(self, reactor: &mut Context<S>, task: TaskId) -> bool {
        self.change(reactor, |queue, _| queue.plan.set_referenced(task, true)).unwrap_or(false)
    }

    /// Calls `callback` with the record of every run that ends from now on, in the turn after its
    /// end. It replaces the callback of an earlier call. By
    /// [`PanicPolicy::Drop`](crate::reactor::PanicPolicy) it is dropped when it panics.
    pub fn on_end<F>(self, reactor: &mut Context<S>, callback: F) -> bool
    where
        F: FnMut(&mut Context<S>, &mut S, &Record) + 'static,
    {
        let Some(queue) = reactor.get_mut(self) else { return false };
        queue.on_end = Some(Box::new(callback));
        queue.plan.news.get_or_insert_default();
        true
    }

    /// Changes the queue and acts on the consequences. `None` if the queue has gone.
    fn change<R>(
        self,
        reactor: &mut Context<S>,
        change: impl FnOnce(&mut TaskQueue<S>, Present) -> R,
    ) -> Option<R> {
        let now = reactor.present();
        let result = change(reactor.get_mut(self)?, now);
        pump(reactor, self);
        Some(result)
    }
}

impl<S: 'static> Context<S> {
    fn present(&self) -> Present {
        let exact = self.turn();
        Present { moment: Moment { tick: exact.tick(), wall: self.wall() }, exact }
    }
}

impl<S: 'static> Default for TaskQueue<S> {
    fn default() -> TaskQueue<S> {
        TaskQueue::new()
    }
}

impl<S: 'static> fmt::Debug for TaskQueue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskQueue")
            .field("tasks", &self.len())
            .field("running", &self.running())
            .field("paused", &self.is_paused())
            .finish_non_exhaustive()
    }
}
