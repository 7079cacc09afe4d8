//! Jobs: work that would keep the loop waiting, done by another thread.
//!
//! Knows the pool and the mailbox; never mentions what the work is.
//!
//! A callback that hashes a gigabyte, reads a file or looks up a name keeps all others waiting, and
//! the kernel has no readiness for any of these. So the work goes to a worker. The callback `done`
//! for its result stays here, in a slab, and need not be `Send`:
//!
//! ```text
//!   loop     offload(work, done) ─▶ slab: done                     done(reactor, state, result)
//!                 │                                                  ▲
//!   worker        └──▶ waits ──▶ work() ──▶ result ──▶ mailbox ──▶ event queue
//!                        │                                           ▲
//!                        └──────── cancelled, or never taken ────────┘
//! ```
//!
//! # Rules
//! * `done` runs on the loop's thread, exactly once, never inside of `offload` or `cancel_job`.
//!   Only a reactor that is dropped calls none: it drops them with the work that waits, and lets
//!   work that has begun run on.
//! * Jobs begin in the order in which they were handed over. They end in any order. Jobs of
//!   [`offload_ordered`](Context::offload_ordered) with equal keys begin when the one before has
//!   ended, so their results come in that order, too; they do not delay other jobs.
//! * Results count among the posts of a turn (R6). A full mailbox takes them, too: their number is
//!   bounded by that of the jobs.
//!
//! # Left out
//! Stopping work that has begun: a thread cannot be stopped from outside. Work that may take long
//! checks a flag of its own. Reports of progress: the work posts them by a
//! [`Remote`](super::Remote), unref'd if it is kept for longer than the job.
//!
//! # Read next
//! `pool.rs`: the threads.

use std::any::Any;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use slab::Slab;

use super::dispatch::panic_message;
use super::pool::Pool;
use super::trace::{Kind, Subject};
use super::{Context, Place};

/// Default of [`Builder::workers`](super::Builder::workers). Not the number of cores: jobs wait for
/// disks and name servers more often than they compute.
pub const WORKERS: usize = 4;
/// Default of [`Builder::jobs_max`](super::Builder::jobs_max). A job that waits costs some 300
/// bytes and what it captured, so these are 5 MB.
pub const JOBS_MAX: usize = 16_384;

/// Names a job until its callback begins. `Copy`, and harmless when stale.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    index: u32,
    /// Counts jobs, and shows if the slot still holds the same job.
    generation: u32,
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job#{}.{}", self.index, self.generation)
    }
}

/// Why a job has no result.
#[derive(Debug)]
pub enum JobError {
    /// As many jobs wait as [`Builder::jobs_max`](super::Builder::jobs_max) allows.
    Full,
    /// [`Context::cancel_job`] took it back before it began.
    Cancelled,
    /// Its work panicked, with this message.
    Panicked(String),
    /// There is no worker, and the system refused to start one: `EAGAIN`, see pthread_create(3).
    NoWorker(io::Error),
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobError::Full => f.write_str("too many jobs wait for a worker"),
            JobError::Cancelled => f.write_str("the job was cancelled"),
            JobError::Panicked(message) => write!(f, "the job panicked: {message}"),
            JobError::NoWorker(error) => write!(f, "cannot start a worker thread: {error}"),
        }
    }
}

impl std::error::Error for JobError {}

/// `WouldBlock` for too many, `Interrupted` for a job that was cancelled, the system's own kind for
/// a thread that could not be started.
impl From<JobError> for io::Error {
    fn from(error: JobError) -> io::Error {
        let kind = match &error {
            JobError::Full => io::ErrorKind::WouldBlock,
            JobError::Cancelled => io::ErrorKind::Interrupted,
            JobError::Panicked(_) => io::ErrorKind::Other,
            JobError::NoWorker(error) => error.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// The result of a job, its type erased.
pub(super) type JobResult = Result<Box<dyn Any + Send>, JobError>;

type Done<S> = Box<dyn FnOnce(&mut Context<S>, &mut S, JobResult)>;

/// A job that was handed over and whose `done` has not begun.
pub(super) struct Entry<S> {
    done: Done<S>,
    /// `Some` exactly when the job is in the event queue.
    result: Option<JobResult>,
    /// The number by which the pool knows the job.
    number: u64,
    /// The hash of its key, if it has one.
    key: Option<u64>,
    pub(super) place: Place,
    cause: u64,
    generation: u32,
    pub(super) referenced: bool,
}

/// The loop's side of its jobs.
pub(super) struct Jobs<S> {
    slab: Slab<Entry<S>>,
    next: u32,
    pool: Pool,
    /// Hashes keys. It is random, so that an attacker cannot choose keys whose hashes are equal and
    /// whose jobs then wait for each other.
    hasher: RandomState,
}

impl<S> Jobs<S> {
    pub(super) fn new(workers: usize, jobs_max: usize, stack_bytes: Option<usize>) -> Jobs<S> {
        let pool = Pool::new(workers, jobs_max, stack_bytes);
        Jobs { slab: Slab::new(), next: 0, pool, hasher: RandomState::new() }
    }

    pub(super) fn get(&self, id: JobId) -> Option<&Entry<S>> {
        self.slab.get(id.index as usize).filter(|entry| entry.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut Entry<S>> {
        self.slab.get_mut(id.index as usize).filter(|entry| entry.generation == id.generation)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, &Entry<S>)> {
        self.slab.iter().map(|(index, entry)| {
            (JobId { index: index as u32, generation: entry.generation }, entry)
        })
    }

    /// Returns true if results are still to come. A manual clock stands still until then, so that a
    /// test does not depend on the speed of its workers.
    pub(super) fn are_under_way(&self) -> bool {
        self.pool.is_busy()
    }

    pub(super) fn close(&mut self) -> impl Sized + use<S> {
        self.pool.close()
    }
}

impl<S: 'static> Context<S> {
    /// Does `work` on a worker thread, then calls `done` with its result or an error. Jobs begin in
    /// the order of these calls and end in any order; see [`JobError`] for the errors, a panic of
    /// `work` included.
    ///
    /// The job holds the loop until `done` has begun. If more jobs are under way than there are
    /// workers, and fewer workers than [`Builder::workers`](super::Builder::workers), another one
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
        self.offload_keyed(None, work, done, Place::caller())
    }

    /// [`offload`](Context::offload) for work that must not overlap: jobs with equal keys run one
    /// after the other, in the order in which they were handed over, beside all others. For
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
        let key = self.jobs.hasher.hash_one(key);
        self.offload_keyed(Some(key), work, done, Place::caller())
    }

    fn offload_keyed<T, W, F>(&mut self, key: Option<u64>, work: W, done: F, place: Place) -> JobId
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
        F: FnOnce(&mut Context<S>, &mut S, Result<T, JobError>) + 'static,
    {
        let done: Done<S> = Box::new(move |context, state, result| {
            let own = |value: Box<dyn Any + Send>| *value.downcast().expect("this job's result");
            done(context, state, result.map(own));
        });
        let id = self.insert_job(done, key, place);
        self.statistics.jobs += 1;
        if self.jobs.pool.is_full() {
            self.statistics.jobs_refused += 1;
            self.settle(id, Err(JobError::Full));
            return id;
        }
        let mailbox = self.mailbox.clone();
        let work = move || {
            let (result, panic) = outcome(work);
            mailbox.deliver(id, result);
            drop(panic); // Last: its `drop` may panic, too.
        };
        self.remotes = true; // From now on the loop looks at the mailbox.
        match self.jobs.pool.push(key, Box::new(work)) {
            Ok(number) => self.jobs.slab[id.index as usize].number = number,
            Err(error) => self.settle(id, Err(JobError::NoWorker(error))),
        }
        id
    }

    fn insert_job(&mut self, done: Done<S>, key: Option<u64>, place: Place) -> JobId {
        let generation = self.jobs.next;
        self.jobs.next = generation.wrapping_add(1);
        let cause = self.trace.running;
        let entry = Entry {
            done,
            result: None,
            number: 0,
            key,
            place,
            cause,
            generation,
            referenced: true,
        };
        let index = self.jobs.slab.insert(entry);
        let id = JobId { index: u32::try_from(index).expect("fewer than 2^32 jobs"), generation };
        self.referenced += 1;
        self.note(Kind::Offloaded, id.into(), place, 0);
        id
    }

    /// Takes back a job that has not begun: its work is dropped at once and its callback gets
    /// [`JobError::Cancelled`] in the next turn. False if it has begun, or the id is stale.
    /// O(log jobs).
    pub fn cancel_job(&mut self, id: JobId) -> bool {
        let Some(entry) = self.jobs.get_mut(id) else { return false };
        let (number, place, settled) = (entry.number, entry.place, entry.result.is_some());
        let key = entry.key;
        if settled {
            return false;
        }
        let Some(work) = self.jobs.pool.remove(number, key) else { return false };
        self.note(Kind::Cancelled, id.into(), place, 0);
        self.settle(id, Err(JobError::Cancelled));
        drop(work);
        true
    }

    /// How many jobs were handed over and have callbacks that have not begun.
    pub fn jobs(&self) -> usize {
        self.jobs.slab.len()
    }

    /// Takes in a result that a worker has sent.
    pub(super) fn collect_result(&mut self, id: JobId, result: JobResult) {
        let key = self.jobs.get_mut(id).and_then(|entry| entry.key);
        self.jobs.pool.ended(key);
        self.settle(id, result);
        if self.trace.is_on() {
            self.note(Kind::Collected, id.into(), self.place_of(id.into()), 0);
        }
    }

    /// Puts a job that has ended, or will never begin, into the event queue.
    fn settle(&mut self, id: JobId, result: JobResult) {
        if let Some(entry) = self.jobs.get_mut(id) {
            entry.result = Some(result);
            self.queue.push_job(id);
        }
    }

    /// Calls the callback of a queued job; the job is removed before the callback begins.
    pub(super) fn run_job(&mut self, id: JobId, state: &mut S) {
        let entry = self.jobs.slab.remove(id.index as usize);
        let Some(result) = entry.result else { unreachable!("{id:?} is queued with its result") };
        self.referenced -= usize::from(entry.referenced);
        let argument = u32::from(result.is_err());
        self.begin_callback(Kind::RunJob, id.into(), entry.place, (argument, entry.cause));
        (entry.done)(self, state, result);
        self.end_callback(Kind::Returned);
    }
}

/// Runs the work. Returns its value, or the message of its panic and the panic to be dropped.
fn outcome<T, W>(work: W) -> (JobResult, Option<Box<dyn Any + Send>>)
where
    T: Send + 'static,
    W: FnOnce() -> T,
{
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => (Ok(Box::new(value)), None),
        Err(panic) => (Err(JobError::Panicked(panic_message(&*panic).to_owned())), Some(panic)),
    }
}

impl From<JobId> for Subject {
    fn from(id: JobId) -> Subject {
        Subject::Job(id)
    }
}
