//! Registering: how an object, or a value of the program, becomes a source.
//!
//! Knows mio's `Source` and the user's [`Options`]; never mentions the slab.
//!
//! A part of a program can keep its state in the loop ([`Context::own`]), with the same kind of id;
//! [`Context::remove`] drops it. The kernel does not watch it: its callback is called after its
//! deadline, when it is resumed, and, with [`Options::flush`], after others have borrowed it.
//!
//! # Read next
//! `source.rs`: how the loop keeps a source.

use std::fmt;
use std::io;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::{Context, Priority, Readiness, SourceId};

/// How a source is registered; `Options::default()` suits any mio source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The lane in which its events wait.
    pub priority: Priority,
    /// True if it is called with [`Readiness::FLUSH`], in phase 1, after it was borrowed mutably.
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
    /// Any `mio::event::Source` is accepted; a bare descriptor goes in as a [`Fd`](crate::net::Fd),
    /// a value without one by [`own`](Context::own). It is watched edge-triggered: the callback is
    /// called once for each change. A callback that stops before the kernel returns `WouldBlock`
    /// asks for another call with [`resume`](Context::resume).
    ///
    /// # Errors
    /// The error of the selector, together with the object; the loop has not changed.
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

    /// For authors of sources: [`register_with`](Context::register_with) for a source that the
    /// selector cannot refuse. Its callback sees [`Messages`](super::Messages), too.
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

/// Makes a source of a value, which no selector watches. A [`SourceId`] names the value inside.
pub(super) struct Owned<T>(pub(super) T);

impl<T> Source for Owned<T> {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

/// The name of an object's type; for an [`Owned`], of the value's.
pub(super) fn name_of<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let owned = name.split_once("::Owned<").filter(|(path, _)| path.ends_with("registration"));
    owned.map_or(name, |(_, value)| value.strip_suffix('>').unwrap_or(value))
}

impl<S: 'static> Context<S> {
    /// Moves a value of any type into the loop, as a source without a descriptor:
    /// `reactor[id]` is the value, [`deregister`](Context::deregister) returns it, and
    /// [`remove`](Context::remove) drops it. `callback` is called when its
    /// [deadline](Context::set_deadline) has passed, and when it is [resumed](Context::resume),
    /// with that readiness.
    ///
    /// So a part of a program keeps a state of its own and works in a loop of any `S`; see
    /// [Components](crate#components). Like every source it holds the loop until it is removed, or
    /// [`unref`](Context::unref)'d.
    ///
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::Reactor;
    ///
    /// let mut reactor = Reactor::new()?;
    /// // A count of visits, reported when there was none for a while.
    /// let visits = reactor.own(7, |reactor, told: &mut u32, id, _| {
    ///     *told = reactor.deregister(id).unwrap_or_default();
    /// });
    /// reactor[visits] += 1;
    /// let up = reactor.tick_after(Duration::from_millis(5));
    /// reactor.set_deadline(visits, Some(up));
    /// let mut told = 0;
    /// reactor.run(&mut told)?;
    /// assert_eq!(told, 8);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// With more sources than a token can number: 2^31, or 2^19 on 32-bit targets.
    #[track_caller]
    pub fn own<T, F>(&mut self, value: T, callback: F) -> SourceId<T>
    where
        T: 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<T>, Readiness) + 'static,
    {
        self.own_with(value, Options::default(), callback)
    }

    /// [`own`](Context::own) with [`Options`]. With [`Options::flush`] it is called with
    /// [`Readiness::FLUSH`] before the loop waits, if others have borrowed it mutably: so it can
    /// react when other code assigns to it.
    ///
    /// # Panics
    /// As [`own`](Context::own).
    #[track_caller]
    pub fn own_with<T, F>(&mut self, value: T, options: Options, mut callback: F) -> SourceId<T>
    where
        T: 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<T>, Readiness) + 'static,
    {
        let callback = move |context: &mut Context<S>, state: &mut S, id, ready: Readiness| {
            callback(context, state, id, ready.shown());
        };
        self.try_own(value, options, callback).unwrap_or_else(|error| panic!("{error}"))
    }

    /// For authors of sources: [`own_with`](Context::own_with) that returns an error in place of a
    /// panic. The callback sees [`Messages`](super::Messages), too.
    ///
    /// # Errors
    /// There are more sources than a token can number.
    #[track_caller]
    pub fn try_own<T, F>(
        &mut self,
        value: T,
        options: Options,
        mut callback: F,
    ) -> io::Result<SourceId<T>>
    where
        T: 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<T>, Readiness) + 'static,
    {
        let call = move |reactor: &mut Context<S>, state: &mut S, id: SourceId<Owned<T>>, ready| {
            callback(reactor, state, SourceId::new(id.raw()), ready);
        };
        // mio demands an interest, though nothing is ever readable here.
        match self.register_unmasked(Owned(value), Interest::READABLE, options, call) {
            Ok(id) => Ok(self.mark_owned(id)),
            Err(Rejected { error, .. }) => Err(error),
        }
    }
}
