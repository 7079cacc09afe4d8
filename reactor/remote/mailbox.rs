//! The mailbox, which the loop shares with other threads, and the wake-up of the loop.
//!
//! Knows the waker and a lock; never looks into a post.
//!
//! A post is a boxed closure pushed under a lock; the loop takes all waiting posts with one swap.
//! The costly part is waking a sleeping loop, a write to an eventfd, so it is done only after the
//! loop has announced that it sleeps. Each side sets its own flag and then reads the other's, with
//! a fence between. All fences have one order, so at least one side sees the other's flag:
//!
//! ```text
//!   poster  push the post      waiting = true   fence   asleep? ─▶ wake the loop
//!   loop    asleep = true                       fence   waiting? ─▶ do not sleep
//! ```
//!
//! In `model.rs` a model checker tries the orders in which this can happen.
//!
//! # Read next
//! `../trace.rs`: the records of everything that happens in the loop.

use std::collections::VecDeque;
use std::mem;
use std::sync::PoisonError;

use super::sync::{AcqRel, Acquire, AtomicBool, AtomicUsize, Mutex, MutexGuard, Relaxed, SeqCst};
use super::sync::{Waker, fence};
use super::{Origin, POSTS_PER_TURN};
use crate::reactor::queue::Call;
use crate::reactor::trace::{Kind, Subject};
use crate::reactor::{Context, Place};

/// A posted callback.
pub(super) type Run<S> = Box<dyn FnOnce(&mut Context<S>, &mut S) + Send>;

/// An entry of the mailbox.
pub(super) enum Post<S> {
    Call(Run<S>, Place),
    /// On behalf of a source.
    For(Run<S>, Origin),
}

/// The state that the loop and its [`Remote`]s share.
pub(in crate::reactor) struct Mailbox<S> {
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
    pub(super) bound: usize,
}

pub(super) struct Posts<S> {
    pub(super) waiting: Vec<Post<S>>,
    /// Posts that the loop has taken out and not yet queued: they count as waiting, too.
    pub(super) taken: usize,
    /// The places of the remotes that hold the loop, for `why_alive`.
    places: Vec<Place>,
    /// True once the loop is gone.
    pub(super) closed: bool,
}

impl<S> Mailbox<S> {
    pub(in crate::reactor) fn new(waker: Waker, bound: usize) -> Mailbox<S> {
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
    pub(super) fn lock(&self) -> MutexGuard<'_, Posts<S>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces that something waits for the loop, and wakes the loop if it sleeps.
    ///
    /// `waiting` is set and reset only by swaps, never by stores. A swap follows all swaps before
    /// it, so the loop that resets the flag sees each post for which it was set.
    fn notify(&self) {
        self.waiting.swap(true, AcqRel);
        self.wake();
    }

    /// [`notify`](Mailbox::notify) for a post made under the lock, which the loop takes after each
    /// reset: if `waiting` is still set, the loop has still to take the lock.
    #[inline]
    pub(super) fn notify_of_post(&self) {
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
    pub(in crate::reactor) fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    /// Returns true if posts wait. `waiting` alone does not show that: the drop of the last remote
    /// sets it, too.
    pub(in crate::reactor) fn has_posts(&self) -> bool {
        self.is_waiting() && !self.lock().waiting.is_empty()
    }

    /// Announces that the loop is about to sleep: from now on a post wakes it, and an earlier one
    /// is seen by [`is_waiting`](Mailbox::is_waiting).
    pub(in crate::reactor) fn fall_asleep(&self) {
        self.asleep.swap(true, Relaxed);
        fence(SeqCst); // As in `wake`.
    }

    pub(in crate::reactor) fn be_awake(&self) {
        self.asleep.swap(false, Relaxed);
    }

    pub(in crate::reactor) fn take_stop(&self) -> bool {
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

    pub(in crate::reactor) fn is_expecting(&self) -> bool {
        self.expected.load(Acquire) > 0
    }

    pub(in crate::reactor) fn places(&self) -> Vec<Place> {
        self.lock().places.clone()
    }

    #[cfg(all(test, loom))]
    pub(in crate::reactor) fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(super) fn stop(&self) {
        self.stop.swap(true, Relaxed);
        self.notify();
    }

    /// A remote that was made at this place holds the loop.
    pub(super) fn expect(&self, place: Place) {
        self.lock().places.push(place);
        self.expected.fetch_add(1, Relaxed);
    }

    /// A remote that was made at this place holds the loop no longer.
    pub(super) fn expect_no_more(&self, place: Place) {
        let mut posts = self.lock();
        if let Some(at) = posts.places.iter().position(|held| *held == place) {
            posts.places.swap_remove(at);
        }
        let closed = posts.closed;
        drop(posts);
        if self.expected.fetch_sub(1, AcqRel) == 1 && !closed {
            self.notify(); // so that a loop which waited only for posts returns
        }
    }

    /// Refuses posts from now on. Returns those that wait, to be dropped outside of the lock.
    pub(in crate::reactor) fn close(&self) -> impl Sized + use<S> {
        let mut posts = self.lock();
        posts.closed = true;
        mem::take(&mut posts.waiting)
    }
}

/// Posts taken from the mailbox and not yet queued.
pub(in crate::reactor) struct Inbox<S>(VecDeque<Post<S>>);

impl<S> Inbox<S> {
    pub(in crate::reactor) fn new() -> Inbox<S> {
        Inbox(VecDeque::new())
    }

    pub(in crate::reactor) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::reactor) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<S: 'static> Context<S> {
    /// The part of phase 5 that takes in posts.
    #[inline(never)] // Most loops have none.
    pub(in crate::reactor) fn collect_posts(&mut self) {
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
                    self.queue.post(None, Call { run, place, cause: 0 });
                    self.note(Kind::Collected, Subject::None, place, 0);
                }
                Some(Post::For(run, Origin { source, place, cause })) => {
                    self.queue.post(Some(source), Call { run, place, cause });
                    self.note(Kind::Collected, source.into(), place, 0);
                }
                None => {}
            }
        }
        if self.mailbox.bound < usize::MAX {
            self.mailbox.lock().taken = self.inbox.len();
        }
    }
}
