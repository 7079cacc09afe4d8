//! Workers: threads for work that would keep the loop waiting.
//!
//! Knows threads and a lock; never mentions the loop, and never looks into the work.
//!
//! ```text
//!   loop ──push──▶ waiting, by number ──pop_first──▶ worker 0, worker 1, …
//!        ◀─remove── until it has begun                        │
//!            │            ▲                                   │
//!            └─▶ behind, by key ◀── the next of that key ─────┘
//! ```
//!
//! Work may have a key. At most one piece of work of each key is in `waiting` or with a worker; the
//! others wait in `behind`. When it has ended, the next one moves to `waiting`, by its number: the
//! oldest work begins first, as always. A key is remembered only while it has work.
//!
//! Threads are started one by one, when more work is under way than there are threads, and stay
//! until the pool is closed: an idle thread costs its stack's first pages and no time.
//!
//! # Read next
//! `../promise.rs`: one value that comes later.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A piece of work, to be done once.
pub(super) type Work = Box<dyn FnOnce() + Send>;

/// The threads, and the work that waits for them.
pub(super) struct Pool {
    shared: Arc<Shared>,
    /// The number of the work that is pushed next.
    next: u64,
    threads: usize,
    pub(super) threads_max: usize,
    /// Work that may wait while all threads have some.
    pub(super) waiting_max: usize,
    pub(super) stack_bytes: Option<usize>,
    /// Work that was pushed, not taken back, and not known to have ended. Counted by the loop: if
    /// the workers counted, a chain of jobs would start a second thread or not, by chance.
    under_way: usize,
    /// For each key, how many pieces of that work have it.
    keyed: HashMap<u64, usize>,
    /// How many pieces of that work must wait for another of the same key.
    held_back: usize,
    /// True if the last thread could not be started, and that was logged.
    warned: bool,
}

/// Work that waited when the pool was closed.
pub(super) type Left = (BTreeMap<u64, (Option<u64>, Work)>, HashMap<u64, BTreeMap<u64, Work>>);

struct Shared {
    queue: Mutex<Queue>,
    /// Notified when work has come, or the pool is closed.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Work that may begin, and its key. A tree, so that work may be taken back from the middle.
    waiting: BTreeMap<u64, (Option<u64>, Work)>,
    /// For each key with work in `waiting` or with a worker: the work that stands behind it.
    behind: HashMap<u64, BTreeMap<u64, Work>>,
    closed: bool,
}

impl Queue {
    /// Queues work. Returns true if a worker may take it.
    fn insert(&mut self, number: u64, key: Option<u64>, work: Work) -> bool {
        if let Some(key) = key {
            match self.behind.entry(key) {
                Entry::Occupied(mut behind) => {
                    behind.get_mut().insert(number, work);
                    return false;
                }
                Entry::Vacant(first) => {
                    first.insert(BTreeMap::new());
                }
            }
        }
        self.waiting.insert(number, (key, work));
        true
    }

    /// The work of a key has ended or was taken back: the next of that key may begin.
    fn release(&mut self, key: u64) {
        let next = self.behind.get_mut(&key).and_then(BTreeMap::pop_first);
        if let Some((number, work)) = next {
            self.waiting.insert(number, (Some(key), work));
        } else {
            self.behind.remove(&key);
        }
    }

    fn remove(&mut self, number: u64, key: Option<u64>) -> Option<Work> {
        if let Some((key, work)) = self.waiting.remove(&number) {
            if let Some(key) = key {
                self.release(key);
            }
            return Some(work);
        }
        self.behind.get_mut(&key?)?.remove(&number)
    }
}

impl Pool {
    pub(super) fn new(threads_max: usize, waiting_max: usize) -> Pool {
        let shared = Shared { queue: Mutex::default(), changed: Condvar::new() };
        Pool {
            shared: Arc::new(shared),
            next: 0,
            threads: 0,
            threads_max,
            waiting_max,
            stack_bytes: None,
            under_way: 0,
            keyed: HashMap::new(),
            held_back: 0,
            warned: false,
        }
    }

    /// Returns true if all threads have work, and as much work waits as is allowed.
    pub(super) fn is_full(&self) -> bool {
        self.under_way >= self.waiting_max.saturating_add(self.threads_max)
    }

    /// Work that was under way, with that key, has ended.
    pub(super) fn ended(&mut self, key: Option<u64>) {
        self.under_way -= 1;
        if let Some(key) = key
            && let Entry::Occupied(mut count) = self.keyed.entry(key)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            } else {
                self.held_back -= 1;
            }
        }
    }

    /// Gives work to the next free worker, behind work of the same key. Returns the number by which
    /// it can be taken back.
    ///
    /// # Errors
    /// There is no worker, and none could be started: the work is dropped.
    pub(super) fn push(&mut self, key: Option<u64>, work: Work) -> io::Result<u64> {
        let number = self.next;
        self.next += 1;
        self.begun(key);
        if self.threads < (self.under_way - self.held_back).min(self.threads_max)
            && let Err(error) = self.start()
        {
            if self.threads == 0 {
                self.ended(key);
                return Err(error);
            }
            if !mem::replace(&mut self.warned, true) {
                log::warn!("cannot start another worker, there are {}: {error}", self.threads);
            }
        }
        if self.shared.lock().insert(number, key, work) {
            self.shared.changed.notify_one();
        }
        Ok(number)
    }

    fn begun(&mut self, key: Option<u64>) {
        self.under_way += 1;
        if let Some(key) = key {
            let count = self.keyed.entry(key).or_default();
            *count += 1;
            self.held_back += usize::from(*count > 1);
        }
    }

    /// Takes back work that has not begun. O(log n).
    pub(super) fn remove(&mut self, number: u64, key: Option<u64>) -> Option<Work> {
        let work = self.shared.lock().remove(number, key)?;
        self.shared.changed.notify_one(); // A worker may wait for the next of that key.
        self.ended(key);
        Some(work)
    }

    /// A function that lets each thread end after its current work, and waits for none. It returns
    /// the work that waits, to be dropped.
    pub(super) fn closer(&self) -> impl FnOnce() -> Left + use<> {
        let shared = self.shared.clone();
        move || {
            let mut queue = shared.lock();
            queue.closed = true;
            shared.changed.notify_all();
            (mem::take(&mut queue.waiting), mem::take(&mut queue.behind))
        }
    }

    fn start(&mut self) -> io::Result<()> {
        let name = format!("waterwheel-worker-{}", self.threads);
        let mut thread = thread::Builder::new().name(name);
        if let Some(bytes) = self.stack_bytes {
            thread = thread.stack_size(bytes);
        }
        let shared = self.shared.clone();
        thread.spawn(move || shared.work())?;
        self.threads += 1;
        self.warned = false;
        Ok(())
    }
}

impl Shared {
    /// Ignores poison: nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of a worker thread.
    fn work(&self) {
        let mut queue = self.lock();
        while !queue.closed {
            if let Some((_, (key, work))) = queue.waiting.pop_first() {
                drop(queue);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                    // Work catches its own panics, so this one comes from a `drop`. The payload's
                    // `drop` may panic, too.
                    mem::forget(panic);
                }
                queue = self.lock();
                if let Some(key) = key {
                    queue.release(key); // This thread looks next, so no other is woken.
                }
            } else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
