//! Journal: the changes of a program, on the disk before anybody gets an answer.
//!
//! The loop never waits for the disk: a worker writes. What is appended while it writes goes with
//! the next batch, so the slower the disk is, the more records share one fsync(2):
//!
//! ```text
//!   append, append ─▶ batch 1 ─▶ write, fsync ─▶ stored(2)
//!        append, append, append ─▶ batch 2 ┄┄┄┄▶ write, fsync ─▶ stored(5)
//! ```
//!
//! When the file has twice what a snapshot would need, a new one is made from a [`Snapshot`] by
//! another worker. Meanwhile the old file goes on; the new one gets the same batches and takes its
//! place, between two of them, by rename(2). For so long the disk has to have room for both.
//!
//! # Rules
//! 1. [`Stores::stored`] is called once for each batch, in order: all of its records are on the
//!    disk, or none of them is.
//! 2. After a full disk the file is cut back, and the next batch is tried again. After a failed
//!    fsync nothing more goes to the file: batches are refused until a new one has taken its place,
//!    and a crash before that may bring back what was refused.
//! 3. Records that are replayed may repeat what a snapshot has already: to apply one twice must do
//!    no harm.
//! 4. A snapshot has the effect of every record that is stored.
//!
//! # Read next
//! `log.rs`: the file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use waterwheel::Context;
use waterwheel::reactor::Priority;

mod log;
#[cfg(test)]
mod tests;

use log::Log;

/// Bytes of a file that is never too long: a new one would save little. 4 MiB.
pub const REWRITE_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// The time from one attempt at a new file to the next, while the disk fails.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How long the lock of a file is waited for, and how often it is looked at: no loop runs yet.
const LOCK_WAIT: Duration = Duration::from_millis(500);
const LOCK_LOOK: Duration = Duration::from_millis(5);

/// Writes the records that make the state as it was. A worker calls it, with the function that
/// writes one record.
pub type Snapshot = Box<dyn FnOnce(&mut dyn FnMut(&[u8])) + Send>;

/// The state of a loop that has a journal.
pub trait Stores: Sized + 'static {
    fn journal(&mut self) -> &mut Journal;
    /// The records up to that number are stored; or those that were not yet are refused.
    fn stored(&mut self, reactor: &mut Context<Self>, up_to: u64, result: Result<(), String>);
    /// O(state), on the loop: it should copy pointers and leave the bytes to the worker.
    fn snapshot(&mut self) -> Snapshot;
}

/// The journal of a program. No other program has it at the same time.
pub struct Journal {
    path: PathBuf,
    /// A worker has it while `is_storing`, and nobody waits for it.
    log: Arc<Mutex<Log>>,
    _lock: Lock,
    /// The records that no worker has yet, and the number of the last one.
    batch: Vec<u8>,
    last: u64,
    /// How long the first record of a batch waits for others.
    wait: Duration,
    is_begun: bool,
    is_storing: bool,
    rewrite: Option<Rewrite>,
    retry_at: Option<Instant>,
    /// Bytes of the file when it was new; 0 for one that was found.
    bytes_when_new: u64,
}

/// A new file that is being made, or ready.
struct Rewrite {
    /// The batches that went to the old file since the snapshot.
    since: Vec<Vec<u8>>,
    fresh: Option<Log>,
}

impl Journal {
    /// Opens or makes the file and calls `replay` with each record in it. Also returns a line about
    /// the bytes that are cut off, if any are. It needs memory for all of the file.
    ///
    /// # Errors
    /// One line: it is in use, damaged, no journal, or the error of the system.
    pub fn open(
        path: &Path,
        wait: Duration,
        replay: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(Journal, Option<String>), String> {
        // Not the file itself: another one takes its place.
        let lock = Lock::take(&beside(path, ".lock"))?;
        let (log, note) = Log::open(path, replay)?;
        let journal = Journal {
            path: path.to_owned(),
            log: Arc::new(Mutex::new(log)),
            _lock: lock,
            batch: Vec::new(),
            last: 0,
            wait,
            is_begun: false,
            is_storing: false,
            rewrite: None,
            retry_at: None,
            bytes_when_new: 0,
        };
        Ok((journal, note))
    }

    /// Appends a record, and returns its number. It is stored together with all others that come in
    /// this turn.
    pub fn append<S: Stores>(&mut self, reactor: &mut Context<S>, record: &[u8]) -> u64 {
        log::push(&mut self.batch, record);
        self.last += 1;
        self.begin(reactor);
        self.last
    }

    /// Bytes that wait for the disk. If they are many, a server reads no more for a while.
    pub fn waiting_bytes(&self) -> usize {
        self.batch.len()
    }

    fn begin<S: Stores>(&mut self, reactor: &mut Context<S>) {
        if self.is_storing || self.batch.is_empty() || mem::replace(&mut self.is_begun, true) {
            return;
        }
        if self.wait.is_zero() {
            reactor.enqueue(Priority::Low, store); // Behind all that has arrived until then.
        } else {
            reactor.after(self.wait, store);
        }
    }

    /// The log, while no worker has it.
    fn log(&self) -> MutexGuard<'_, Log> {
        debug_assert!(!self.is_storing);
        lock(&self.log)
    }
}

/// The lock of a file, which only one program has.
struct Lock(File);

impl Lock {
    fn take(path: &Path) -> Result<Lock, String> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|error| error.to_string())?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => {
                    std::thread::sleep(LOCK_LOOK);
                }
                Err(TryLockError::WouldBlock) => return Err("another program has it".to_owned()),
                Err(TryLockError::Error(error)) => return Err(error.to_string()),
            }
        }
    }
}

/// A child that was just forked has the file as well, until it executes: flock(2). So it is unlocked,
/// and not only closed; and after a crash at such a moment the next program waits a little.
impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Ignores poison: a log whose write was interrupted knows it.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the batch to a worker, and a new file that is ready.
fn store<S: Stores>(reactor: &mut Context<S>, state: &mut S) {
    let journal = state.journal();
    (journal.is_begun, journal.is_storing) = (false, true);
    let up_to = journal.last;
    let records = mem::take(&mut journal.batch);
    let ready = journal.rewrite.take_if(|rewrite| rewrite.fresh.is_some());
    let (log, path) = (journal.log.clone(), journal.path.clone());
    let work = move || {
        let log = &mut *lock(&log);
        let fresh = ready.and_then(|Rewrite { since, fresh }| {
            fresh?.replace(&since, &beside(&path, ".new"), &path).ok()
        });
        let bytes = fresh.map(|fresh| {
            *log = fresh;
            log.bytes
        });
        (log.store(&records).map_err(|error| error.to_string()), records, bytes)
    };
    reactor.offload(work, move |reactor, state: &mut S, done| {
        let journal = state.journal();
        journal.is_storing = false;
        let (result, records, new) = done.unwrap_or_else(|error| {
            (Err(error.to_string()), Vec::new(), None) // No thread could be started, for instance.
        });
        journal.bytes_when_new = new.unwrap_or(journal.bytes_when_new);
        if let Some(rewrite) = journal.rewrite.as_mut().filter(|_| result.is_ok()) {
            rewrite.since.push(records);
        }
        state.stored(reactor, up_to, result);
        rewrite_if_due(reactor, state);
        state.journal().begin(reactor);
    });
}

/// Begins a new file. No worker has a batch: the state has the effect of all that are stored.
fn rewrite_if_due<S: Stores>(reactor: &mut Context<S>, state: &mut S) {
    let (now, journal) = (reactor.now(), state.journal());
    let most = REWRITE_BYTES_MIN.max(2 * journal.bytes_when_new);
    let is_due = journal.log().is_broken || journal.log().bytes > most;
    if !is_due || journal.rewrite.is_some() || journal.retry_at.is_some_and(|at| at > now) {
        return;
    }
    journal.rewrite = Some(Rewrite { since: Vec::new(), fresh: None });
    journal.retry_at = Some(now + RETRY_EVERY);
    let (path, snapshot) = (beside(&journal.path, ".new"), state.snapshot());
    let work = move || Log::create(&path, snapshot);
    reactor.offload(work, |_, state: &mut S, created| {
        let journal = state.journal();
        // The next batch moves to it. Without it, there will be another attempt.
        let fresh = created.ok().and_then(Result::ok);
        journal.rewrite = journal.rewrite.take().filter(|_| fresh.is_some());
        if let Some(rewrite) = &mut journal.rewrite {
            rewrite.fresh = fresh;
        }
    });
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}
