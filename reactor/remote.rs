//! Remote: how another thread gets a callback into the loop.
//!
//! Knows the waker and a lock; never touches the loop's own state, which belongs to one thread.
//!
//! A post is a boxed closure pushed under a lock; the loop takes all waiting posts with one swap.
//! The costly part is waking a sleeping loop, a write to an eventfd, so it is done only after the
//! loop has announced that it sleeps. Both sides announce before they look, with a fence between,
//! and the order of fences is total, so at least one of them sees the other:
//!
//! ```text
//!   poster  push the post      waiting = true   fence   asleep? ─▶ wake
//!   loop    asleep = true                       fence   waiting? ─▶ do not sleep
//! ```
//!
//! In `model.rs` a model checker tries the orders in which this can happen.
//!
//! # Read next
//! `trace.rs`: the records of what happens in the loop.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::PoisonError;

use super::offload::JobResult;
use super::queue::Call;
use super::sync::{AcqRel, Acquire, Relaxed, SeqCst, fence};
use super::sync::{Arc, AtomicBool, AtomicUsize, Mutex, MutexGuard, Waker};
use super::trace::{Kind, Subject};
use super::{Context, JobId, Place};

/// Posts taken into one turn at most; the rest waits for the next, after the sources' events (R6).
pub const POSTS_PER_TURN: usize = 1024;

type Run<S> = Box<dyn FnOnce(&mut Context<S>, &mut S) + Send>;

/// An entry of the mailbox.
enum Post<S> {
    Call(Run<S>, Place),
    /// The result of a job. Boxed, so that an entry is no larger than a call.
    Result(Box<(JobId, JobResult)>),
}

/// The state that the loop and its [`Remote`]s share.
pub(super) struct Mailbox<S> {
    posts: Mutex<Posts<S>>,
    /// True if there may be posts, or a stop. Set by posters, reset by the loop.
    waiting: AtomicBool,
    /// True while the loop sleeps or is about to. Reset by the thread that wakes it.
    asleep: AtomicBool,
    stop: AtomicBool,
    /// Remotes that hold the loop.
    expected: AtomicUsize,
    /// Kept here, so that it lives as long as the loop: a dropped mio `Waker` loses its last wake.
    waker: Waker,
    /// The most posts that may wait.
    bound: usize,
}

struct Posts<S> {
    waiting: Vec<Post<S>>,
    /// Posts that the loop has taken out and not queued in its last turn: they count, too.
    taken: usize,
    /// The places of the remotes that hold the loop, for `why_alive`.
    places: Vec<Place>,
    /// True once the loop is gone.
    closed: bool,
}

impl<S> Mailbox<S> {
    pub(super) fn new(waker: Waker, bound: usize) -> Mailbox<S> {
        Mailbox {
            posts: Mutex::new(Posts {
                waiting: Vec::new(),
                taken: 0,
                places: Vec::new(),
                closed: false,
            }),
            waiting: AtomicBool::new(false),
            // Before its first turn the loop may be watched by a host through its descriptor.
            asleep: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            expected: AtomicUsize::new(0),
            waker,
            bound,
        }
    }

    /// Ignores poison: the data is whole after every statement under the lock.
    fn lock(&self) -> MutexGuard<'_, Posts<S>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces that something waits for the loop, and wakes the loop if it sleeps.
    ///
    /// `waiting` is always swapped, both to set and to reset it, and never stored: a swap follows
    /// all swaps before it, so the loop that resets it sees everything it was ever set for.
    fn notify(&self) {
        self.waiting.swap(true, AcqRel);
        self.wake();
    }

    /// [`notify`](Mailbox::notify) for a post made under the lock, which the loop takes after each
    /// reset: if `waiting` is still set, the loop has still to take the lock.
    #[inline]
    fn notify_of_post(&self) {
        if !self.waiting.load(Relaxed) {
            self.waiting.swap(true, AcqRel);
        }
        self.wake();
    }

    #[inline]
    fn wake(&self) {
        fence(SeqCst); // Between the announcement and the look at the other side.
        if self.asleep.load(Relaxed)
            && self.asleep.swap(false, Relaxed)
            && let Err(error) = self.waker.wake()
        {
            log::error!("cannot wake the loop: {error}");
        }
    }

    /// Returns true if posts or a stop may wait.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    /// Returns true if posts wait. `waiting` alone does not show that: the drop of the last remote
    /// sets it, too.
    pub(super) fn has_posts(&self) -> bool {
        self.is_waiting() && !self.lock().waiting.is_empty()
    }

    /// Announces that the loop is about to sleep: from now on a post wakes it, and an earlier one
    /// is seen by [`is_waiting`](Mailbox::is_waiting).
    pub(super) fn fall_asleep(&self) {
        self.asleep.swap(true, Relaxed);
        fence(SeqCst); // As in `wake`.
    }

    pub(super) fn be_awake(&self) {
        self.asleep.swap(false, Relaxed);
    }

    pub(super) fn take_stop(&self) -> bool {
        if !self.stop.load(Relaxed) {
            return false;
        }
        // The stop may be the only thing that set `waiting`.
        let posts = self.lock();
        if posts.waiting.is_empty() {
            self.waiting.swap(false, AcqRel);
        }
        self.stop.swap(false, Relaxed)
    }

    pub(super) fn is_expecting(&self) -> bool {
        self.expected.load(Acquire) > 0
    }

    pub(super) fn places(&self) -> Vec<Place> {
        self.lock().places.clone()
    }

    /// Takes in the result of a job, whatever the bound: jobs have a bound of their own.
    pub(super) fn deliver(&self, id: JobId, result: JobResult) {
        let result = Box::new((id, result));
        let mut posts = self.lock();
        if posts.closed {
            drop(posts); // First: the result may do anything when it is dropped.
            return;
        }
        posts.waiting.push(Post::Result(result));
        drop(posts);
        self.notify_of_post();
    }

    #[cfg(all(test, loom))]
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Refuses posts from now on. Returns those that wait, to be dropped outside of the lock.
    pub(super) fn close(&self) -> impl Sized + use<S> {
        let mut posts = self.lock();
        posts.closed = true;
        mem::take(&mut posts.waiting)
    }
}

/// Posts taken from the mailbox and not yet queued.
pub(super) struct Inbox<S>(VecDeque<Post<S>>);

impl<S> Inbox<S> {
    pub(super) fn new() -> Inbox<S> {
        Inbox(VecDeque::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<S: 'static> Context<S> {
    /// A handle by which other threads post callbacks into this loop.
    ///
    /// It and its clones hold the loop, because posts are expected. [`Remote::unref`] makes a
    /// handle that does not hold it.
    #[track_caller]
    pub fn remote(&mut self) -> Remote<S> {
        self.remotes = true;
        let place = Place::caller();
        self.mailbox.lock().places.push(place);
        self.mailbox.expected.fetch_add(1, Relaxed);
        Remote {
            mailbox: self.mailbox.clone(),
            hold: Some(Arc::new(Hold(self.mailbox.clone(), place))),
        }
    }

    /// The part of phase 5 that takes in posts.
    pub(super) fn collect_posts(&mut self) {
        if self.inbox.is_empty() {
            if !self.mailbox.is_waiting() {
                return;
            }
            self.mailbox.waiting.swap(false, AcqRel);
            // The two buffers change places, so neither is allocated again in the steady state.
            let mut empty = Vec::from(mem::take(&mut self.inbox.0));
            mem::swap(&mut self.mailbox.lock().waiting, &mut empty);
            self.inbox.0 = empty.into();
        }
        let count = self.inbox.0.len().min(POSTS_PER_TURN);
        for _ in 0..count {
            match self.inbox.0.pop_front() {
                Some(Post::Call(run, place)) => {
                    self.queue.post(Call { run, place, cause: 0 });
                    self.note(Kind::Collected, Subject::None, place, 0);
                }
                Some(Post::Result(result)) => self.collect_result(result.0, result.1),
                None => {}
            }
        }
        if self.mailbox.bound < usize::MAX {
            self.mailbox.lock().taken = self.inbox.len();
        }
    }
}

/// A handle to a loop in another thread, `Clone` and `Send`.
///
/// ```
/// # use waterwheel::Reactor;
/// let mut reactor = Reactor::<Vec<u32>>::new().unwrap();
/// let remote = reactor.remote();
/// let thread = std::thread::spawn(move || {
///     remote.post(|_, list: &mut Vec<u32>| list.push(7)).unwrap();
/// });
/// let mut list = Vec::new();
/// reactor.run(&mut list).unwrap(); // until the remote is dropped
/// thread.join().unwrap();
/// assert_eq!(list, [7]);
/// ```
pub struct Remote<S> {
    mailbox: Arc<Mailbox<S>>,
    /// Shared by clones; it holds the loop until the last of them is dropped.
    hold: Option<Arc<Hold<S>>>,
}

impl<S> Clone for Remote<S> {
    fn clone(&self) -> Remote<S> {
        Remote { mailbox: self.mailbox.clone(), hold: self.hold.clone() }
    }
}

impl<S> fmt::Debug for Remote<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("holds", &self.hold.is_some()).finish_non_exhaustive()
    }
}

impl<S> Remote<S> {
    /// Runs `callback` on the loop's thread in one of its next turns. Posts of one thread arrive in
    /// order. Never blocks; many posts to a sleeping loop wake it once.
    ///
    /// # Errors
    /// [`PostError::Full`] if as many posts wait as [`Builder::mailbox_posts_max`] allows,
    /// [`PostError::Closed`] once the loop is gone. Both hand the callback back.
    ///
    /// [`Builder::mailbox_posts_max`]: super::Builder::mailbox_posts_max
    #[track_caller]
    pub fn post<F>(&self, callback: F) -> Result<(), PostError<F>>
    where
        F: FnOnce(&mut Context<S>, &mut S) + Send + 'static,
    {
        let place = Place::caller();
        // Boxed before the lock is taken: the allocator may be slow.
        let callback = Box::new(callback);
        let mut posts = self.mailbox.lock();
        if posts.closed {
            return Err(PostError::Closed(*callback));
        }
        if posts.waiting.len() + posts.taken >= self.mailbox.bound {
            return Err(PostError::Full(*callback));
        }
        posts.waiting.push(Post::Call(callback, place));
        drop(posts);
        self.mailbox.notify_of_post();
        Ok(())
    }

    /// Makes the loop's current turn its last, as [`Context::stop`] does.
    ///
    /// # Errors
    /// [`PostError::Closed`] once the loop is gone.
    pub fn stop(&self) -> Result<(), PostError<()>> {
        if self.mailbox.lock().closed {
            return Err(PostError::Closed(()));
        }
        self.mailbox.stop.swap(true, Relaxed);
        self.mailbox.notify();
        Ok(())
    }

    /// A handle to the same loop that does not hold it.
    pub fn unref(&self) -> Remote<S> {
        Remote { mailbox: self.mailbox.clone(), hold: None }
    }
}

/// Holds the loop while it lives.
struct Hold<S>(Arc<Mailbox<S>>, Place);

impl<S> Drop for Hold<S> {
    fn drop(&mut self) {
        let Hold(mailbox, place) = self;
        let mut posts = mailbox.lock();
        if let Some(at) = posts.places.iter().position(|held| held == place) {
            posts.places.swap_remove(at);
        }
        let closed = posts.closed;
        drop(posts);
        if mailbox.expected.fetch_sub(1, AcqRel) == 1 && !closed {
            mailbox.notify(); // so that a loop which waited only for posts returns
        }
    }
}

/// A post that was not taken, with its callback.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PostError<F> {
    /// The mailbox is full.
    Full(F),
    /// The loop is gone.
    Closed(F),
}

impl<F> fmt::Debug for PostError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostError::Full(_) => "Full",
            PostError::Closed(_) => "Closed",
        })
    }
}

impl<F> fmt::Display for PostError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostError::Full(_) => "the loop's mailbox is full",
            PostError::Closed(_) => "the loop is gone",
        })
    }
}

impl<F> std::error::Error for PostError<F> {}

/// `WouldBlock` for a full mailbox, `BrokenPipe` for a loop that is gone; the callback is dropped.
impl<F> From<PostError<F>> for std::io::Error {
    fn from(error: PostError<F>) -> std::io::Error {
        let kind = match error {
            PostError::Full(_) => std::io::ErrorKind::WouldBlock,
            PostError::Closed(_) => std::io::ErrorKind::BrokenPipe,
        };
        std::io::Error::new(kind, error.to_string())
    }
}
