//! Registering: how an object becomes a source.
//!
//! Knows mio's `Source` and what a user may choose; never mentions the slab.
//!
//! # Read next
//! `source.rs`: how the loop keeps it.

use std::fmt;
use std::io;

use mio::Interest;

use super::{Context, Priority, Readiness, SourceId};

/// How a source is registered; `Options::default()` suits any mio source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The lane in which its events wait.
    pub priority: Priority,
    /// True to call it with [`Readiness::FLUSH`] before the loop waits, if it was borrowed mutably.
    pub flush: bool,
    /// True if dropping the object closes its only descriptor and so ends the registration, too
    /// (epoll(7), question 6). Saves one `epoll_ctl` for each source.
    pub closes: bool,
}

/// A registration that failed: the reason, and the object, unchanged.
#[derive(Debug)]
pub struct Rejected<T> {
    /// The error of the selector: `EEXIST`, `EPERM` for a regular file, `ENOSPC`, …
    pub error: io::Error,
    /// The object that was to be registered.
    pub source: T,
}

impl<T> From<Rejected<T>> for io::Error {
    fn from(rejected: Rejected<T>) -> io::Error {
        rejected.error
    }
}

impl<T> fmt::Display for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot register the source: {}", self.error)
    }
}

impl<T: fmt::Debug> std::error::Error for Rejected<T> {}

impl<S: 'static> Context<S> {
    /// Moves an I/O object into the loop, which calls `callback` whenever it is ready.
    ///
    /// Any `mio::event::Source` is accepted; a bare descriptor goes in as a [`Fd`](crate::net::Fd), a
    /// value without one by [`own`](Context::own). It is watched edge-triggered: the callback is
    /// called once for each change. A callback that stops before the kernel returns `WouldBlock`
    /// asks for another call with [`resume`](Context::resume).
    ///
    /// # Errors
    /// The error of the selector, with the object handed back; the loop is as it was before.
    #[track_caller]
    pub fn register<T, F>(
        &mut self,
        source: T,
        interest: Interest,
        callback: F,
    ) -> Result<SourceId<T>, Rejected<T>>
    where
        T: mio::event::Source + 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<T>, Readiness) + 'static,
    {
        self.register_with(source, interest, Options::default(), callback)
    }

    /// [`register`](Context::register) with [`Options`].
    ///
    /// # Errors
    /// As `register`.
    #[track_caller]
    pub fn register_with<T, F>(
        &mut self,
        source: T,
        interest: Interest,
        options: Options,
        mut callback: F,
    ) -> Result<SourceId<T>, Rejected<T>>
    where
        T: mio::event::Source + 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<T>, Readiness) + 'static,
    {
        let callback = move |context: &mut Context<S>, state: &mut S, id, ready: Readiness| {
            callback(context, state, id, ready.shown());
        };
        self.register_unmasked(source, interest, options, callback)
    }

    /// For authors of sources: [`register_with`](Context::register_with) for a source that no selector
    /// can refuse. Its callback sees [`Messages`](super::Messages), too.
    ///
    /// # Panics
    /// With more sources than a token can number: 2^31, or 2^19 on 32-bit targets.
    #[track_caller]
    pub fn register_sure<T, F>(
        &mut self,
        source: T,
        interest: Interest,
        options: Options,
        callback: F,
    ) -> SourceId<T>
    where
        T: mio::event::Source + 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<T>, Readiness) + 'static,
    {
        match self.register_unmasked(source, interest, options, callback) {
            Ok(id) => id,
            Err(Rejected { error, .. }) => panic!("{error}"),
        }
    }
}
