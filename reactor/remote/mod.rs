//! Remote: how another thread gets a callback into the loop.
//!
//! Knows the mailbox; never touches the loop's own state, which belongs to one thread.
//!
//! # Read next
//! `mailbox.rs`: the lock, and how a sleeping loop is woken.

use std::fmt;

use super::{Context, Place, RawId};
use mailbox::Post;

pub(super) use mailbox::{Inbox, Mailbox};
pub(super) use sync::{Arc, Waker};

mod mailbox;
#[cfg(all(test, loom))]
mod model;

/// Types that threads share, which is the mailbox alone: the standard library's, or those of a model
/// checker that tries every order (`model.rs`): `RUSTFLAGS="--cfg loom" cargo test --lib model`.
mod sync {
    #[cfg(all(test, loom))]
    pub(in crate::reactor) use super::model::Waker;
    #[cfg(all(test, loom))]
    pub(in crate::reactor) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*, fence};
    #[cfg(all(test, loom))]
    pub(in crate::reactor) use loom::sync::{Arc, Mutex, MutexGuard};
    #[cfg(not(all(test, loom)))]
    pub(in crate::reactor) use mio::Waker;
    #[cfg(not(all(test, loom)))]
    pub(in crate::reactor) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*, fence};
    #[cfg(not(all(test, loom)))]
    pub(in crate::reactor) use std::sync::{Arc, Mutex, MutexGuard};
}

/// The most posts that one turn takes, behind the sources' events; the rest waits (R6).
pub const POSTS_PER_TURN: usize = 1024;

/// The origin of a post: a source on whose behalf it is made, the place of that source, and the
/// callback that has asked for the post. See [`Context::origin`].
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    source: RawId,
    place: Place,
    /// The trace's record of that callback.
    cause: u64,
}

impl Origin {
    /// The place where the source was handed to the loop.
    pub fn place(self) -> Place {
        self.place
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
        self.mailbox.expect(place);
        Remote {
            mailbox: self.mailbox.clone(),
            hold: Some(Arc::new(Hold(self.mailbox.clone(), place))),
        }
    }

    /// For authors of patterns: a handle that does not hold the loop. It posts on behalf of a
    /// source, which holds it. Cheaper than [`Remote::unref`].
    pub fn remote_unheld(&mut self) -> Remote<S> {
        self.remotes = true;
        Remote { mailbox: self.mailbox.clone(), hold: None }
    }

    /// For authors of patterns: the origin for a [delivery](Remote::deliver) on behalf of this
    /// source and of the callback that runs now.
    #[track_caller]
    pub fn origin(&self, id: impl Into<RawId>) -> Origin {
        let source = id.into();
        Origin { source, place: self.place_of(source.into()), cause: self.trace.running }
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
    /// [`PostError::Closed`] once the loop is gone. Both return the callback.
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

    /// For authors of patterns: [`post`](Remote::post) on behalf of a source. A full mailbox takes
    /// it, too, so the number of such posts must have a bound of its own. In the trace its subject
    /// is the source, and it has the place and the cause of `origin`. The callback has to check if
    /// the source is still there.
    ///
    /// # Errors
    /// [`PostError::Closed`] once the loop is gone.
    pub fn deliver<F>(&self, origin: Origin, callback: F) -> Result<(), PostError<F>>
    where
        F: FnOnce(&mut Context<S>, &mut S) + Send + 'static,
    {
        let callback = Box::new(callback);
        let mut posts = self.mailbox.lock();
        if posts.closed {
            drop(posts); // First: the callback may do anything when it is dropped.
            return Err(PostError::Closed(*callback));
        }
        posts.waiting.push(Post::For(callback, origin));
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
        self.mailbox.stop();
        Ok(())
    }

    /// Wakes the loop if it sleeps. It then turns once, and runs nothing for this.
    pub fn wake(&self) {
        self.mailbox.notify_of_post();
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
        mailbox.expect_no_more(*place);
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
