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
use std::sync::Arc;
use std::thread;

use kit::model::{AtomicBool, Mutex, Wake};

/// What other threads have posted.
pub struct Mailbox<T, W> {
    posts: Mutex<Vec<T>>,
    /// True while the loop sleeps or is about to.
    asleep: AtomicBool,
    waker: W,
}

impl<T, W: Wake> Mailbox<T, W> {
    pub fn new(waker: W) -> Mailbox<T, W> {
        Mailbox { posts: Mutex::new(Vec::new()), asleep: AtomicBool::new(false), waker }
    }

    pub fn post(&self, value: T) {
        // Yours: it wakes the loop for each post, and whether it sleeps or not.
        self.posts.lock().push(value);
        self.waker.wake();
    }

    /// Returns true if the loop may sleep.
    pub fn fall_asleep(&self) -> bool {
        self.posts.lock().is_empty()
    }

    pub fn be_awake(&self) {}

    pub fn take(&self) -> Vec<T> {
        mem::take(&mut *self.posts.lock())
    }
}

/// A callback that the loop is to run.
pub type Call = Box<dyn FnOnce() + Send>;

/// Threads that work for the loop.
pub struct Workers {
    post: Box<dyn Fn(Call) + Send>,
}

impl Workers {
    pub fn new<W>(threads: usize, mailbox: &Arc<Mailbox<Call, W>>) -> Workers
    where
        W: Wake + Send + Sync + 'static,
    {
        // Yours: start the threads. Each takes work from one channel.
        let mailbox = mailbox.clone();
        Workers { post: Box::new(move |call| mailbox.post(call)) }
    }

    pub fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(thread::Result<T>) + Send + 'static,
    ) {
        // Yours: the loop does the work itself, and all its clients wait.
        let result = Ok(work());
        (self.post)(Box::new(move || done(result)));
    }
}
