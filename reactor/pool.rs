//! Workers: threads that do what would keep the loop waiting.
//!
//! Knows threads and a lock; never mentions the loop, nor what its work is.
//!
//! ```text
//!   loop ──push──▶ waiting, by number ──pop_first──▶ worker 0, worker 1, …
//!        ◀─remove── until it has begun                        │
//!            │            ▲                                   │
//!            └─▶ behind, by key ◀── the next of that key ─────┘
//! ```
//!
//! Work may have a key. Of one key there is one at a time, waiting or with a worker; the others
//! stand behind it, and the next takes its place among those that wait when it has ended, by its
//! number: the oldest work begins first, as always. A key is remembered only while it has work.
//!
//! Threads are started one by one, when more work is under way than there are threads, and stay
//! until the pool is closed: an idle one costs its stack's first pages and no time.
//!
//! # Read next
//! `offload.rs`: the loop's side.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Something to do, once.
pub(super) type Work = Box<dyn FnOnce() + Send>;

/// The threads, and the work that waits for them.
pub(super) struct Pool {
    shared: Arc<Shared>,
    /// The number of the work that is pushed next.
    next: u64,
    threads: usize,
    threads_max: usize,
    /// Pushed, not taken back, and not known to have ended. The loop's view: by what the workers
    /// know of it, a chain of jobs would start a second thread or not as chance has it.
    under_way: usize,
    under_way_max: usize,
    /// How many of them have each key, where any has.
    keyed: HashMap<u64, usize>,
    /// How many of them cannot be with a worker, since another has the same key.
    held_back: usize,
    stack_bytes: Option<usize>,
    /// The last thread could not be started, and that was told.
    warned: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Work has come, or the pool is closed.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// What may begin, and its key. A tree, so that work may be taken back from the middle.
    waiting: BTreeMap<u64, (Option<u64>, Work)>,
    /// For each key that waits or is with a worker, what stands behind it.
    behind: HashMap<u64, BTreeMap<u64, Work>>,
    closed: bool,
}

impl Queue {
    /// Queues work; true if a worker may take it.
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
    pub(super) fn new(threads_max: usize, waiting_max: usize, stack_bytes: Option<usize>) -> Pool {
        let shared = Shared { queue: Mutex::default(), changed: Condvar::new() };
        Pool {
            shared: Arc::new(shared),
            next: 0,
            threads: 0,
            threads_max,
            under_way: 0,
            under_way_max: waiting_max.saturating_add(threads_max),
            keyed: HashMap::new(),
            held_back: 0,
            stack_bytes,
            warned: false,
        }
    }

    /// Whether every thread there may be has work, and as much waits as may.
    pub(super) fn is_full(&self) -> bool {
        self.under_way >= self.under_way_max
    }

    /// Whether the end of something is still to be heard of.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way > 0
    }

    /// Something that was under way, with that key, has ended.
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

    /// Gives work to the next worker that is free, behind what has the same key; answers the number
    /// by which it is taken back.
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

    /// Takes work back that has not begun. O(log n).
    pub(super) fn remove(&mut self, number: u64, key: Option<u64>) -> Option<Work> {
        let work = self.shared.lock().remove(number, key)?;
        self.shared.changed.notify_one(); // The next of that key may be what a worker waits for.
        self.ended(key);
        Some(work)
    }

    /// Lets each thread end with what it is doing, and waits for none. Answers the work that waits,
    /// to be dropped.
    pub(super) fn close(&mut self) -> impl Sized + use<> {
        let mut queue = self.shared.lock();
        queue.closed = true;
        self.shared.changed.notify_all();
        (mem::take(&mut queue.waiting), mem::take(&mut queue.behind))
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
    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn work(&self) {
        let mut queue = self.lock();
        while !queue.closed {
            if let Some((_, (key, work))) = queue.waiting.pop_first() {
                drop(queue);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                    // Work catches its own panics, so this one comes from a destructor, and its
                    // payload's may be the next.
                    mem::forget(panic);
                }
                queue = self.lock();
                if let Some(key) = key {
                    queue.release(key); // This thread looks next, so nobody need be woken.
                }
            } else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
