//! A task as it is added: a name, a schedule, and settings for overruns and failures.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{CATCH_UP_MAX, Schedule};
use crate::patterns::Backoff;
use crate::reactor::{Place, Priority};

/// Names a task of a queue. Stale ids are harmless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task#{}.{}", self.index, self.generation)
    }
}

/// Names one run of a task. Stale ids are harmless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run#{}.{}", self.index, self.generation)
    }
}

/// The policy for a task that is due again before its last run has ended: that run still runs,
/// waits to be started, or waits to be tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overrun {
    /// The new run is skipped, and counted.
    #[default]
    Skip,
    /// The new run waits for the other to end. At most this many wait; one more is skipped.
    Queue(u32),
    /// They run side by side. There are at most this many in all; one more is skipped.
    Parallel(u32),
}

impl Overrun {
    /// Runs of a task that may be under way: waiting, running, or to be tried again.
    pub(super) fn most(self) -> usize {
        match self {
            Overrun::Skip => 1,
            Overrun::Queue(waiting) => (waiting as usize).saturating_add(1),
            Overrun::Parallel(runs) => runs.max(1) as usize,
        }
    }

    /// Runs of a task that may run at once.
    pub(super) fn at_once(self) -> usize {
        match self {
            Overrun::Skip | Overrun::Queue(_) => 1,
            Overrun::Parallel(runs) => runs.max(1) as usize,
        }
    }
}

/// A task to be added to a queue.
///
/// ```
/// # use std::time::Duration;
/// use waterwheel::reactor::Priority;
/// use waterwheel::patterns::Backoff;
/// use waterwheel::patterns::tasks::{Overrun, Schedule, Task};
/// let backup = Task::new("backup", Schedule::every(Duration::from_secs(3600)))
///     .priority(Priority::Low)
///     .overrun(Overrun::Queue(1))
///     .retry(Backoff::new(3).first(Duration::from_secs(10)))
///     .timeout(Duration::from_secs(600));
/// ```
#[derive(Clone, Debug)]
pub struct Task {
    pub(super) name: Arc<str>,
    pub(super) schedule: Schedule,
    pub(super) settings: Settings,
}

/// The settings of a task, which stay the same while it lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) priority: Priority,
    pub(super) overrun: Overrun,
    pub(super) retry: Backoff,
    pub(super) timeout: Option<Duration>,
    pub(super) catch_up: u32,
    pub(super) referenced: bool,
    pub(super) place: Place,
}

impl Task {
    /// A task of that name, which no other task of its queue may have.
    #[track_caller]
    pub fn new(name: impl Into<Arc<str>>, schedule: Schedule) -> Task {
        let settings = Settings {
            priority: Priority::default(),
            overrun: Overrun::default(),
            retry: Backoff::new(1),
            timeout: None,
            catch_up: 1,
            referenced: true,
            place: Place::caller(),
        };
        Task { name: name.into(), schedule, settings }
    }

    /// Sets the order in which due tasks start, and the lane of the loop for its runs. Default:
    /// `Normal`. A task may starve while the queue is full of tasks with a higher priority.
    pub fn priority(mut self, priority: Priority) -> Task {
        self.settings.priority = priority;
        self
    }

    /// Sets the policy if it is due again too early. Default: [`Overrun::Skip`].
    pub fn overrun(mut self, overrun: Overrun) -> Task {
        self.settings.overrun = overrun;
        self
    }

    /// How often a failed run is tried again. Default: never.
    pub fn retry(mut self, retry: Backoff) -> Task {
        self.settings.retry = retry;
        self
    }

    /// How long a run may take, each attempt on its own. Default: no limit. It ends the run for the
    /// queue only: it cannot stop a callback that blocks, or work that was begun for the run.
    pub fn timeout(mut self, timeout: Duration) -> Task {
        self.settings.timeout = Some(timeout);
        self
    }

    /// How many runs follow when several occurrences were missed, because the machine slept or a
    /// callback took long. They are for the latest occurrences, [`CATCH_UP_MAX`] at most, as far as
    /// [`Overrun`] leaves room. Default: 1.
    pub fn catch_up(mut self, runs: u32) -> Task {
        self.settings.catch_up = runs.clamp(1, CATCH_UP_MAX);
        self
    }

    /// Lets [`Reactor::run`](crate::reactor::Reactor::run) return although this task has runs to
    /// come. Without this it holds the loop while it has any.
    pub fn unref(mut self) -> Task {
        self.settings.referenced = false;
        self
    }
}

/// The reason why a task was not added, or its schedule was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskError {
    /// The queue has a task of that name.
    Duplicate(Arc<str>),
    /// The queue has as many tasks as it may have.
    Full(usize),
    /// The error in a schedule, and its place.
    Schedule(String),
    /// The queue has gone.
    Gone,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Duplicate(name) => write!(f, "there is a task {name:?} already"),
            TaskError::Full(tasks) => write!(f, "the queue is full: {tasks} tasks"),
            TaskError::Schedule(why) => f.write_str(why),
            TaskError::Gone => f.write_str("the task queue has gone"),
        }
    }
}

impl std::error::Error for TaskError {}

impl From<TaskError> for io::Error {
    fn from(error: TaskError) -> io::Error {
        let kind = match error {
            TaskError::Duplicate(_) => io::ErrorKind::AlreadyExists,
            TaskError::Full(_) => io::ErrorKind::QuotaExceeded,
            TaskError::Schedule(_) => io::ErrorKind::InvalidInput,
            TaskError::Gone => io::ErrorKind::NotFound,
        };
        io::Error::new(kind, error)
    }
}
