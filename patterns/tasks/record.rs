//! What is told of tasks: how a run ended, and how a task stands. Plain data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Moment, RunId, TaskId};
use crate::reactor::Place;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It said [`ok`](super::Run::ok).
    Done,
    /// It said [`fail`](super::Run::fail), and why.
    Failed(Arc<str>),
    /// Its [`Run`](super::Run) was dropped without an answer: a bug, or the connection or job that
    /// held it has gone.
    Unanswered,
    /// It took longer than [`Task::timeout`](super::Task::timeout).
    TimedOut,
    /// Its callback panicked, or what held its [`Run`](super::Run) did.
    Panicked,
    /// Its task was removed. No failure, and not tried again.
    Removed,
    /// Of no run: nobody can say when the task is due next, and why. The wall clock shows no year
    /// that a cron line knows. Told once for each reason, and looked at again every
    /// [`WALL_LOOK`](super::WALL_LOOK).
    Unscheduled(Arc<str>),
}

impl Outcome {
    /// Whether it is no success. A run is then tried again, if
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
    /// Which run.
    pub run: RunId,
    /// Of which task; it may have been removed since.
    pub task: TaskId,
    /// The name of the task.
    pub name: Arc<str>,
    /// For when it was scheduled, the same for all attempts.
    pub due: Moment,
    /// When its callback began.
    pub started: Moment,
    /// When it ended.
    pub ended: Moment,
    /// Counted from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// After what time it is tried again, if it is.
    pub again: Option<Duration>,
}

/// How a task stands.
#[derive(Clone, Debug)]
pub struct Status<'a> {
    /// Its id.
    pub id: TaskId,
    /// Its name.
    pub name: &'a str,
    /// Where in the program it was added.
    pub place: Place,
    /// When it is due next by its schedule.
    pub next: Option<Moment>,
    /// Runs that are due and wait to be started.
    pub waiting: usize,
    /// Runs that have been started and not ended.
    pub running: usize,
    /// Runs that failed and wait to be tried again.
    pub retrying: usize,
    /// Whether it is paused itself; the queue may be, too.
    pub paused: bool,
    /// How its last run ended.
    pub last: Option<&'a Outcome>,
    /// What has happened so far.
    pub counts: Counts,
}

/// What has happened so far, to a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs that ended, whatever their outcome; each attempt is one.
    pub runs: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Occurrences that were not run because of [`Overrun`](super::Overrun).
    pub skipped: u64,
    /// Occurrences that nobody noticed in time, beyond what
    /// [`Task::catch_up`](super::Task::catch_up) made up for. A cron line counts a thousand at a
    /// time.
    pub missed: u64,
    /// Answers that came when their run had ended already, by timeout or removal.
    pub late: u64,
}
