//! How does a thread get in? A mailbox that wakes a loop which sleeps, and workers that post there.
//!
//! # Contract
//! * `post` may be called on any thread. `take` gives what was posted, each value once; those of
//!   one thread in the order in which it has posted them.
//! * `fall_asleep` announces that the loop is about to sleep. It says false if something waits: the
//!   loop must not sleep then. `be_awake` takes the announcement back.
//! * A post that comes when the loop has been told that it may sleep wakes it. No order of the
//!   steps of two threads loses a post.
//! * Each announcement is answered by one wake at most, and without one nobody wakes the loop.
//! * `offload` returns at once. A worker, another thread, does the work, and posts a callback. When
//!   the loop runs that callback, it calls `done` with the result. There are at most `threads`
//!   workers, and all of them work at the same time if there is enough work.
//! * Work that panics is an `Err` for its `done`, and its worker goes on.
//! * To drop the workers is to wait until the work that they have got is done.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use kit::model::{AtomicBool, Mutex, Wake};

/// What other threads have posted.
pub struct Mailbox<T, W> {
    posts: Mutex<Vec<T>>,
    /// True while the loop sleeps or is about to. Reset by the one who wakes it.
    asleep: AtomicBool,
    waker: W,
}

impl<T, W: Wake> Mailbox<T, W> {
    pub fn new(waker: W) -> Mailbox<T, W> {
        Mailbox { posts: Mutex::new(Vec::new()), asleep: AtomicBool::new(false), waker }
    }

    pub fn post(&self, value: T) {
        self.posts.lock().push(value);
        if self.asleep.swap(false) {
            self.waker.wake();
        }
    }

    /// Returns true if the loop may sleep.
    pub fn fall_asleep(&self) -> bool {
        self.asleep.store(true);
        self.posts.lock().is_empty()
    }

    pub fn be_awake(&self) {
        self.asleep.store(false);
    }

    pub fn take(&self) -> Vec<T> {
        mem::take(&mut *self.posts.lock())
    }
}

/// A callback that the loop is to run.
pub type Call = Box<dyn FnOnce() + Send>;

/// Work, with what is to be done with its result.
type Job = Box<dyn FnOnce() -> Call + Send>;

/// Threads that work for the loop.
pub struct Workers {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub fn new<W>(threads: usize, mailbox: &Arc<Mailbox<Call, W>>) -> Workers
    where
        W: Wake + Send + Sync + 'static,
    {
        let (jobs, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let work = |_| {
            let (receiver, mailbox) = (receiver.clone(), mailbox.clone());
            thread::spawn(move || {
                loop {
                    let job = receiver.lock().recv();
                    let Ok(job) = job else { break };
                    mailbox.post(job());
                }
            })
        };
        Workers { jobs: Some(jobs), threads: (0..threads).map(work).collect() }
    }

    pub fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(thread::Result<T>) + Send + 'static,
    ) {
        let job = Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            Box::new(move || done(result)) as Call
        });
        // They all live as long as `jobs` is there.
        self.jobs.as_ref().map(|jobs| jobs.send(job));
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
