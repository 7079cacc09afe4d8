//! A run under way: the value by which the program reports the end of the run, its *answer*.
//!
//! Knows the list of answers, which it shares with its queue; never mentions the loop. So the
//! program may answer at any place: at the end of the task's callback, or in the callback of a
//! timer or a connection. A run that is dropped there without an answer has failed.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::rc::Rc;

use super::plan::Begun;
use super::{Moment, Outcome, RunId, TaskId};
use crate::reactor::{RawId, Readiness, Resumer};

/// The state that a queue shares with its runs.
pub(super) struct Answers {
    pub(super) waiting: RefCell<Vec<(TaskId, RunId, Outcome)>>,
    /// True while a task's callback runs: the queue takes in its answers when it returns.
    pub(super) is_awaited: Cell<bool>,
    pub(super) queue: RawId,
    pub(super) resumer: Resumer,
}

impl Answers {
    pub(super) fn new(queue: RawId, resumer: Resumer) -> Answers {
        Answers { waiting: RefCell::default(), is_awaited: Cell::new(false), queue, resumer }
    }

    fn answer(&self, task: TaskId, run: RunId, outcome: Outcome) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() && !self.is_awaited.get() {
            self.resumer.resume(self.queue, Readiness::READABLE);
        }
        waiting.push((task, run, outcome));
    }
}

/// One run of a task. It ends with [`ok`](Run::ok) or [`fail`](Run::fail): before the callback
/// returns; or later, if the run is moved to the code that ends the work. If it is dropped, it has
/// failed.
///
/// The queue takes the answer in when the task's callback returns; a later answer, in the next
/// turn. An answer after a timeout, or after the task was removed, is counted and changes nothing.
///
/// A run belongs to the loop's thread: offload work for another thread, and let `done` own the run.
///
/// ```
/// # use std::time::Duration;
/// # use waterwheel::Reactor;
/// # use waterwheel::patterns::tasks::{Schedule, Task, TaskQueue};
/// # let mut reactor = Reactor::<()>::new()?;
/// # let queue = TaskQueue::new().open(&mut reactor)?;
/// let fetch = Task::new("fetch", Schedule::after(Duration::ZERO)).timeout(Duration::from_secs(5));
/// queue.add(&mut reactor, fetch, |reactor, _, run| {
///     // Stands for a request; the place in the queue is taken until it is answered.
///     reactor.after(Duration::from_millis(2), move |_, _| run.ok());
/// })?;
/// # reactor.run(&mut ())?;
/// # assert_eq!(reactor[queue].history().count(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Run {
    answers: Rc<Answers>,
    id: RunId,
    /// `None` once it was answered.
    begun: Option<Begun>,
}

impl Run {
    pub(super) fn new(answers: Rc<Answers>, id: RunId, begun: Begun) -> Run {
        Run { answers, id, begun: Some(begun) }
    }

    /// Ends the run as a success.
    pub fn ok(self) {
        self.answer(Outcome::Done);
    }

    /// Ends the run as failed. It is tried again if [`Task::retry`](super::Task::retry) says so.
    pub fn fail(self, why: impl fmt::Display) {
        self.answer(Outcome::Failed(why.to_string().into()));
    }

    /// [`ok`](Run::ok) or [`fail`](Run::fail).
    pub fn finish<T, E: fmt::Display>(self, result: Result<T, E>) {
        match result {
            Ok(_) => self.ok(),
            Err(why) => self.fail(why),
        }
    }

    fn answer(mut self, outcome: Outcome) {
        if let Some(begun) = self.begun.take() {
            self.answers.answer(begun.task, self.id, outcome);
        }
    }

    /// Names this run; each attempt is one.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Its task.
    pub fn task(&self) -> TaskId {
        self.begun().task
    }

    /// The name of its task.
    pub fn name(&self) -> &str {
        &self.begun().name
    }

    /// The moment for which it was scheduled; earlier than now by its lateness.
    pub fn due(&self) -> Moment {
        self.begun().due
    }

    /// Counted from 1.
    pub fn attempt(&self) -> u32 {
        self.begun().attempt
    }

    /// Occurrences since the last run began for which there is no run: skipped or missed ones.
    pub fn passed(&self) -> u64 {
        self.begun().passed
    }

    fn begun(&self) -> &Begun {
        self.begun.as_ref().expect("only an answer takes it, and consumes the run")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(begun) = mem::take(&mut self.begun) {
            let panicked = std::thread::panicking();
            let outcome = if panicked { Outcome::Panicked } else { Outcome::Unanswered };
            self.answers.answer(begun.task, self.id, outcome);
        }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.id)?;
        match &self.begun {
            Some(begun) => write!(f, " of {:?}, attempt {}", begun.name, begun.attempt),
            None => Ok(()),
        }
    }
}
