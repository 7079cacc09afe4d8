//! Reports on tasks, as plain data: how a run ended, and the status of a task.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Moment, RunId, TaskId};
use crate::reactor::Place;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its answer was [`ok`](super::Run::ok).
    Done,
    /// Its answer was [`fail`](super::Run::fail), with this reason.
    Failed(Arc<str>),
    /// Its [`Run`](super::Run) was dropped without an answer: a bug, or the connection or job that
    /// owned it has gone.
    Unanswered,
    /// It took longer than [`Task::timeout`](super::Task::timeout).
    TimedOut,
    /// Its callback panicked, or the callback that owned its [`Run`](super::Run) did.
    Panicked,
    /// Its task was removed. This is no failure, and it is not tried again.
    Removed,
    /// Belongs to no run: the next occurrence of the task is unknown, for this reason. The wall
    /// clock shows a year outside the range of cron lines. Reported once for each reason, and
    /// checked again every [`WALL_LOOK`](super::WALL_LOOK).
    Unscheduled(Arc<str>),
}

impl Outcome {
    /// Returns true if the run has failed. It is then tried again, if
    /// [`Task::retry`](super::Task::retry) says so.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Outcome::Done | Outcome::Removed)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Failed(why) => write!(f, "failed: {why}"),
            Outcome::Unanswered => f.write_str("failed: dropped without an answer"),
            Outcome::TimedOut => f.write_str("failed: timed out"),
            Outcome::Panicked => f.write_str("failed: panicked"),
            Outcome::Removed => f.write_str("removed"),
            Outcome::Unscheduled(why) => write!(f, "cannot tell when it is due next: {why}"),
        }
    }
}

/// One run that ended; each attempt is a run of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The id of the run.
    pub run: RunId,
    /// The id of the task, which may have been removed since.
    pub task: TaskId,
    /// The name of the task.
    pub name: Arc<str>,
    /// The moment for which it was scheduled, the same for all attempts.
    pub due: Moment,
    /// When its callback began.
    pub started: Moment,
    /// When it ended.
    pub ended: Moment,
    /// Counted from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The pause before it is tried again; `None` if it is not.
    pub again: Option<Duration>,
}

/// The status of a task.
#[derive(Clone, Debug)]
pub struct Status<'a> {
    /// Its id.
    pub id: TaskId,
    /// Its name.
    pub name: &'a str,
    /// The line of the program that added it.
    pub place: Place,
    /// When it is due next by its schedule.
    pub next: Option<Moment>,
    /// Runs that are due and wait to be started.
    pub waiting: usize,
    /// Runs that have been started and not ended.
    pub running: usize,
    /// Runs that failed and wait to be tried again.
    pub retrying: usize,
    /// True if it is paused itself; the queue may be, too.
    pub paused: bool,
    /// How its last run ended.
    pub last: Option<&'a Outcome>,
    /// Counters so far.
    pub counts: Counts,
}

/// Counters of a task so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs that ended, whatever their outcome; each attempt is one.
    pub runs: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Occurrences that were not run because of [`Overrun`](super::Overrun).
    pub skipped: u64,
    /// Occurrences that were noticed too late, beyond those that
    /// [`Task::catch_up`](super::Task::catch_up) made up for. A cron line counts at most a thousand
    /// at a time.
    pub missed: u64,
    /// Answers that came after their run had ended, by timeout or removal.
    pub late: u64,
}
