//! The maker's end of a promise, the results that a callback may return, and broken promises.

use std::fmt;
use std::io;
use std::rc::Rc;

use super::Promise;
use super::node::{Node, State, cancel_up, settle};
use crate::reactor::{Context, Place};

/// The reason why the loop has rejected a promise, in place of its maker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Its resolver was dropped. The place where the promise was made.
    Abandoned(Place),
    /// It was not settled in time. The place where [`timeout`](Promise::timeout) was called.
    TimedOut(Place),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Abandoned(place) => write!(f, "the promise made at {place} was abandoned"),
            Broken::TimedOut(place) => write!(f, "timed out at {place}"),
        }
    }
}

impl std::error::Error for Broken {}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> io::Error {
        let kind = match broken {
            Broken::Abandoned(_) => io::ErrorKind::Other,
            Broken::TimedOut(_) => io::ErrorKind::TimedOut,
        };
        io::Error::new(kind, broken)
    }
}

impl From<Broken> for String {
    fn from(broken: Broken) -> String {
        broken.to_string()
    }
}

/// For callers that do not need the reason.
impl From<Broken> for () {
    fn from(_: Broken) {}
}

/// The rejections of [`any`](Promise::any).
impl<E: From<Broken>> From<Broken> for Vec<E> {
    fn from(broken: Broken) -> Vec<E> {
        vec![broken.into()]
    }
}

/// The error of a promise: any type that can be made from [`Broken`] and shown in the log, for
/// instance `io::Error`, `String`, `()` and `Box<dyn Error>`.
pub trait Rejection: From<Broken> + fmt::Debug + 'static {}

impl<E: From<Broken> + fmt::Debug + 'static> Rejection for E {}

/// The right to settle a promise, once (P1). If it is dropped instead, it rejects (P3).
#[must_use = "dropping it rejects the promise"]
pub struct Resolver<S: 'static, T: 'static, E: Rejection> {
    /// `None` once it is used.
    pub(super) node: Option<Rc<Node<S, T, E>>>,
}

impl<S: 'static, T: 'static, E: Rejection> Resolver<S, T, E> {
    #[inline]
    pub(super) fn new(node: Rc<Node<S, T, E>>) -> Resolver<S, T, E> {
        Resolver { node: Some(node) }
    }

    /// Settles the promise with a value; false if it was cancelled. Runs nothing: the callback that
    /// waits is deferred.
    ///
    /// ```compile_fail,E0382
    /// # let mut reactor = waterwheel::Reactor::<()>::new().unwrap();
    /// let (promise, resolver) = reactor.promise::<u32, String>();
    /// resolver.resolve(&mut reactor, 1);
    /// resolver.resolve(&mut reactor, 2); // a promise settles once
    /// ```
    pub fn resolve(self, reactor: &mut Context<S>, value: T) -> bool {
        self.settle(reactor, Ok(value))
    }

    /// Settles the promise with an error; false if it was cancelled.
    pub fn reject(self, reactor: &mut Context<S>, error: E) -> bool {
        self.settle(reactor, Err(error))
    }

    /// Settles the promise with a value or an error; false if it was cancelled.
    #[inline]
    pub fn settle(mut self, reactor: &mut Context<S>, result: Result<T, E>) -> bool {
        let Some(node) = self.node.take() else { return false };
        let is_wanted = !node.is_done();
        if let Some((run, place)) = settle(node, result) {
            reactor.defer_boxed(run, place);
        }
        is_wanted
    }

    /// Returns true while the promise is not cancelled: its maker has a reason to go on.
    pub fn is_wanted(&self) -> bool {
        self.node.as_ref().is_some_and(|node| !node.is_done())
    }

    /// A callback that settles the promise with the result that it receives: for functions that
    /// take a callback.
    pub fn done(self) -> impl FnOnce(&mut Context<S>, &mut S, Result<T, E>) + 'static {
        |reactor, _, result| {
            self.settle(reactor, result);
        }
    }

    /// Waits for another promise before this one is settled. A cancel of this one cancels the
    /// other, too; if this one is cancelled already, the other is cancelled at once.
    pub(super) fn wait_for<U, E2, F>(
        self,
        reactor: &mut Context<S>,
        mut promise: Promise<S, U, E2>,
        next: F,
    ) where
        U: 'static,
        E2: Rejection,
        F: FnOnce(&mut Context<S>, &mut S, Self, Result<U, E2>) + 'static,
    {
        let place = match &self.node {
            Some(node) if !node.is_done() => {
                node.follow(promise.up());
                node.place
            }
            _ => return promise.cancel(reactor),
        };
        promise.wait(reactor, place, |reactor, state, result| next(reactor, state, self, result));
    }
}

/// P3.
impl<S: 'static, T: 'static, E: Rejection> Drop for Resolver<S, T, E> {
    #[inline]
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            abandon(node);
        }
    }
}

#[cold]
fn abandon<S: 'static, T: 'static, E: Rejection>(node: Rc<Node<S, T, E>>) {
    let local = node.local.clone();
    let broken = Broken::Abandoned(node.place);
    if !node.is_done()
        && let Some((run, place)) = settle(node, Err(broken.into()))
    {
        local.defer(place, run);
    }
}

impl<S: 'static, T: 'static, E: Rejection> fmt::Debug for Resolver<S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.node.as_ref().map(|node| node.place);
        f.debug_struct("Resolver").field("made", &place).finish()
    }
}

/// The result of a callback of a chain: nothing, a `Result`, or another promise.
pub trait Answer<S: 'static, E: Rejection> {
    /// The value that the promise is resolved with.
    type Value: 'static;

    /// Settles the promise of the callback that returned this.
    fn settle(self, reactor: &mut Context<S>, resolver: Resolver<S, Self::Value, E>);
}

impl<S: 'static, E: Rejection> Answer<S, E> for () {
    type Value = ();

    #[inline]
    fn settle(self, reactor: &mut Context<S>, resolver: Resolver<S, (), E>) {
        resolver.settle(reactor, Ok(()));
    }
}

impl<S: 'static, T: 'static, E: Rejection> Answer<S, E> for Result<T, E> {
    type Value = T;

    #[inline]
    fn settle(self, reactor: &mut Context<S>, resolver: Resolver<S, T, E>) {
        resolver.settle(reactor, self);
    }
}

/// The promise is adopted: when it settles, it settles the promise of the callback, without a
/// further callback or allocation.
impl<S: 'static, T: 'static, E: Rejection> Answer<S, E> for Promise<S, T, E> {
    type Value = T;

    fn settle(mut self, reactor: &mut Context<S>, resolver: Resolver<S, T, E>) {
        let up = self.up();
        let Some(node) = self.node.take() else { return };
        match &resolver.node {
            Some(target) if !target.is_done() => target.follow(up),
            _ => return cancel_up(reactor, &*node),
        }
        let mut inner = node.inner.borrow_mut();
        if let State::Open = inner.state {
            inner.state = State::Adopted(resolver);
            return;
        }
        drop(inner);
        if let Some(result) = node.take() {
            resolver.settle(reactor, result);
        }
    }
}
