//! Jobs: work that would keep the loop waiting, done by another thread.
//!
//! Knows the public methods of the loop, and the pool; never looks into the work.
//!
//! A callback that hashes a gigabyte, reads a file or looks up a name keeps all others waiting, and
//! the kernel has no readiness for any of these. So the work goes to a worker. The callback `done`
//! for its result stays here, in a source without a descriptor, and need not be `Send`:
//!
//! ```text
//!   loop     offload(work, done) ─▶ source: done                   done(reactor, state, result)
//!                 │                                                  ▲
//!   worker        └──▶ waits ──▶ work() ──▶ result ──▶ a post on behalf of the source
//!                        │
//!                        └─ cancelled or refused ─▶ done(…) with an error, from the event queue
//! ```
//!
//! So jobs have all properties of sources: they hold the loop until `unref`, their ids are harmless
//! when stale, and `Context::sources` counts them.
//!
//! # Rules
//! * `done` runs on the loop's thread, exactly once, never inside of `offload` or `cancel_job`. It
//!   is dropped without a call only with its source: when the reactor is dropped, or by
//!   [`Context::remove`]. A reactor that is dropped drops the work that waits, too; work that has
//!   begun runs on.
//! * Jobs begin in the order of the calls of `offload`. They end in any order. Jobs of
//!   [`offload_ordered`](Context::offload_ordered) with equal keys begin when the one before has
//!   ended, so their results come in that order, too; they do not delay other jobs.
//! * Results are posts, and count among those of a turn (R6). A full mailbox takes them, too: there
//!   are never more of them than jobs.
//!
//! # Left out
//! Stopping work that has begun: a thread cannot be stopped from outside. Work that may take long
//! checks a flag of its own. Reports of progress: the work posts them by a
//! [`Remote`](crate::reactor::Remote), unref'd if it is kept for longer than the job.
//!
//! # Read next
//! `pool.rs`: the threads.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::reactor::{Builder, Context, Handle, Priority, RawId, SourceId, panic_message};
use pool::Pool;

pub use error::JobError;

mod error;
mod pool;

/// Default of [`Builder::workers`]. Not the number of cores: jobs wait for
/// disks and name servers more often than they compute.
pub const WORKERS: usize = 4;
/// Default of [`Builder::jobs_max`]. A job that waits costs some 300
/// bytes and the values that it captured, so these are 5 MB.
pub const JOBS_MAX: usize = 16_384;

/// Names a job until its callback begins. `Copy`, and harmless when stale.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(RawId);

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, generation) = self.0.parts();
        write!(f, "job#{index}.{generation}")
    }
}

/// The source that is the job.
impl From<JobId> for RawId {
    fn from(JobId(id): JobId) -> RawId {
        id
    }
}

impl From<JobId> for Handle {
    fn from(JobId(id): JobId) -> Handle {
        id.into()
    }
}

/// The callback for the result. The value is an `Option<T>` for it to take.
type Done<S> = Box<dyn FnOnce(&mut Context<S>, &mut S, Result<&mut dyn Any, JobError>)>;

/// A job, until its `done` begins: the value of its source.
struct Job<S> {
    done: Done<S>,
    /// `None` once it was cancelled, or if it was refused: its callback is in the event queue.
    ticket: Option<Ticket>,
    _open: Open,
}

/// Names a job in the pool.
#[derive(Clone, Copy)]
struct Ticket {
    number: u64,
    /// The hash of its key, if it has one.
    key: Option<u64>,
}

/// Counts a job until it is dropped.
struct Open(Rc<Cell<usize>>);

impl Open {
    fn new(count: &Rc<Cell<usize>>) -> Open {
        count.set(count.get() + 1);
        Open(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Counters of jobs since the reactor was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobStatistics {
    /// Jobs that were offloaded, refused ones included.
    pub offloaded: u64,
    /// Jobs among them that got [`JobError::Full`].
    pub refused: u64,
}

/// The loop's side of its jobs: an extension of the context.
struct Jobs {
    pool: Pool,
    /// Hashes keys. It is random, so that an attacker cannot choose keys whose hashes are equal and
    /// whose jobs then wait for each other.
    hasher: RandomState,
    statistics: JobStatistics,
    open: Rc<Cell<usize>>,
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs {
            pool: Pool::new(WORKERS, JOBS_MAX),
            hasher: RandomState::new(),
            statistics: JobStatistics::default(),
            open: Rc::default(),
        }
    }
}

impl<S: 'static> Builder<S> {
    /// Threads that do [`offload`](Context::offload)ed work, one at least; each is started when it
    /// is first needed. Default: [`WORKERS`].
    pub fn workers(mut self, threads: usize) -> Builder<S> {
        self.extension::<Jobs>().pool.threads_max = threads.max(1);
        self
    }

    /// Jobs that may wait while every worker has one; one more is [`JobError::Full`]. Default:
    /// [`JOBS_MAX`].
    pub fn jobs_max(mut self, jobs: usize) -> Builder<S> {
        self.extension::<Jobs>().pool.waiting_max = jobs;
        self
    }

    /// The stack of each worker. Default: that of [`std::thread`], 2 MiB.
    pub fn worker_stack_bytes(mut self, bytes: usize) -> Builder<S> {
        self.extension::<Jobs>().pool.stack_bytes = Some(bytes);
        self
    }
}

impl<S: 'static> Context<S> {
    /// Does `work` on a worker thread, then calls `done` with its result or an error. Jobs begin in
    /// the order of these calls and end in any order; see [`JobError`] for the errors, a panic of
    /// `work` included.
    ///
    /// The job holds the loop until `done` has begun. If more jobs are under way than there are
    /// workers, and fewer workers than [`Builder::workers`], another one
    /// is started first, which takes some 50 µs.
    ///
    /// ```
    /// use waterwheel::Reactor;
    /// let mut reactor = Reactor::new()?;
    /// let sum = || (1..=1_000_000u64).sum();
    /// reactor.offload(sum, |_, answer: &mut u64, result| *answer = result.unwrap_or(0));
    /// let mut answer = 0;
    /// reactor.run(&mut answer)?;
    /// assert_eq!(answer, 500_000_500_000);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn offload<T, W, F>(&mut self, work: W, done: F) -> JobId
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
        F: FnOnce(&mut Context<S>, &mut S, Result<T, JobError>) + 'static,
    {
        self.offload_keyed(None, work, done)
    }

    /// [`offload`](Context::offload) for work that must not overlap: jobs with equal keys run one
    /// after the other, in the order of these calls, and do not delay jobs of other keys. For
    /// instance, the key of a save is its file's path.
    ///
    /// Keys are not made or removed. They are shared by all parts of the program: two keys are the
    /// same if they are equal and hash alike, as `"a"` and `String::from("a")` do.
    ///
    /// If a job fails, panics or is cancelled, the next one of its key begins. Jobs that wait for
    /// another of the same key count among the jobs that wait.
    ///
    /// ```
    /// use waterwheel::Reactor;
    /// # let path = std::env::temp_dir().join(format!("waterwheel-{}", std::process::id()));
    /// let mut reactor = Reactor::<()>::new()?;
    /// for text in ["first", "second"] {
    ///     let file = path.clone();
    ///     let save = move || std::fs::write(file, text);
    ///     reactor.offload_ordered(&path, save, |_, _, saved| saved.unwrap().unwrap());
    /// }
    /// reactor.run(&mut ())?;
    /// assert_eq!(std::fs::read_to_string(&path)?, "second");
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn offload_ordered<K, T, W, F>(&mut self, key: K, work: W, done: F) -> JobId
    where
        K: Hash,
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
        F: FnOnce(&mut Context<S>, &mut S, Result<T, JobError>) + 'static,
    {
        let key = self.extension::<Jobs>().hasher.hash_one(key);
        self.offload_keyed(Some(key), work, done)
    }

    #[track_caller]
    fn offload_keyed<T, W, F>(&mut self, key: Option<u64>, work: W, done: F) -> JobId
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
        F: FnOnce(&mut Context<S>, &mut S, Result<T, JobError>) + 'static,
    {
        let take = |value: &mut dyn Any| {
            let value = value.downcast_mut().and_then(Option::take);
            value.expect("the value of this job's work")
        };
        let jobs: &mut Jobs = self.extension();
        jobs.statistics.offloaded += 1;
        let is_first = jobs.statistics.offloaded == 1;
        let is_full = jobs.pool.is_full();
        jobs.statistics.refused += u64::from(is_full);
        let open = Open::new(&jobs.open);
        if is_first {
            self.prepare_jobs();
        }
        let done: Done<S> = Box::new(move |context, state, result| {
            done(context, state, result.map(take));
        });
        // Only a needless `resume` calls it.
        let id = self.own(Job { done, ticket: None, _open: open }, |_, _, _, _| {});
        if is_full {
            self.fail(id, JobError::Full);
            return JobId(id.raw());
        }
        let (remote, origin) = (self.remote_unheld(), self.origin(id));
        let work = move || {
            let (result, panic) = outcome(work);
            // If the loop is gone, the result is dropped here.
            let _ = remote.deliver(origin, move |reactor, state| {
                ended(reactor, state, id, key, result);
            });
            drop(panic); // Last: its `drop` may panic, too.
        };
        match self.extension::<Jobs>().pool.push(key, Box::new(work)) {
            Ok(number) => {
                self.begin_outside();
                if let Some(job) = self.get_mut(id) {
                    job.ticket = Some(Ticket { number, key });
                }
            }
            Err(error) => self.fail(id, JobError::NoWorker(error)),
        }
        JobId(id.raw())
    }

    /// Before the first job.
    #[cold]
    fn prepare_jobs(&mut self) {
        let close = self.extension::<Jobs>().pool.closer();
        self.close_first(move || Box::new(close()));
        self.name_parts(|id, place, _: &Job<S>| {
            vec![(format!("{:?} offloaded", JobId(id)), place)]
        });
    }

    /// Takes back a job that has not begun: its work is dropped at once and its callback gets
    /// [`JobError::Cancelled`] in the next turn. Returns false if it has begun or is stale.
    /// O(log jobs).
    pub fn cancel_job(&mut self, JobId(id): JobId) -> bool {
        let Some(id) = self.typed::<Job<S>>(id) else { return false };
        let Some(Ticket { number, key }) = self[id].ticket else { return false };
        let Some(work) = self.extension::<Jobs>().pool.remove(number, key) else { return false };
        self.end_outside();
        self[id].ticket = None;
        self.fail(id, JobError::Cancelled);
        drop(work); // Last: its `drop` may panic, or use the loop.
        true
    }

    /// How many jobs there are: a job has gone when its callback begins.
    pub fn jobs(&self) -> usize {
        self.extension_ref::<Jobs>().map_or(0, |jobs| jobs.open.get())
    }

    /// Counters of jobs since the reactor was made.
    pub fn job_statistics(&self) -> JobStatistics {
        self.extension_ref::<Jobs>().map_or_else(Default::default, |jobs| jobs.statistics)
    }

    /// Calls `done` with an error in the next turn.
    fn fail(&mut self, id: SourceId<Job<S>>, error: JobError) {
        let place = self.origin(id).place();
        self.enqueue_at(Priority::Normal, place, move |reactor, state| {
            call_done(reactor, state, id, Err(error));
        });
    }
}

/// On the loop's thread again: the work has ended.
fn ended<S: 'static, T: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Job<S>>,
    key: Option<u64>,
    result: Result<T, JobError>,
) {
    reactor.end_outside();
    reactor.extension::<Jobs>().pool.ended(key);
    let (mut value, error) = match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    };
    call_done(reactor, state, id, error.map_or(Ok(&mut value), Err));
}

/// Takes the job out, and calls its `done`.
fn call_done<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Job<S>>,
    result: Result<&mut dyn Any, JobError>,
) {
    let job = reactor.deregister(id);
    if let Some(done) = job.map(|job| job.done) {
        done(reactor, state, result);
    }
}

/// Runs the work. Returns its value, or the message of its panic and the panic to be dropped.
fn outcome<T>(work: impl FnOnce() -> T) -> (Result<T, JobError>, Option<Box<dyn Any + Send>>) {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => (Ok(value), None),
        Err(panic) => (Err(JobError::Panicked(panic_message(&*panic).to_owned())), Some(panic)),
    }
}
