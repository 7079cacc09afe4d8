//! The maker's end of a promise, what a callback may answer, and what becomes of broken promises.

use std::fmt;
use std::io;
use std::rc::Rc;

use super::Promise;
use super::node::{Node, State, cancel_up, settle};
use crate::reactor::{Context, Place};

/// Why a promise is rejected by the loop and not by its maker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Its resolver was dropped; where the promise was made.
    Abandoned(Place),
    /// It was not settled in time; where [`timeout`](Promise::timeout) was called.
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

/// For those who only want to know that it failed.
impl From<Broken> for () {
    fn from(_: Broken) {}
}

/// The rejections of [`any`](Promise::any).
impl<E: From<Broken>> From<Broken> for Vec<E> {
    fn from(broken: Broken) -> Vec<E> {
        vec![broken.into()]
    }
}

/// What a promise may be rejected with: anything that can say that the promise was [`Broken`], and
/// can be shown in the log. `io::Error`, `String`, `()` and `Box<dyn Error>` can.
pub trait Rejection: From<Broken> + fmt::Debug + 'static {}

impl<E: From<Broken> + fmt::Debug + 'static> Rejection for E {}

/// The right to settle a promise, once (P1). Dropped instead, it rejects (P3).
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

    /// Settles the promise with a value; false if it was cancelled. Runs nothing: what waits is
    /// deferred.
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

    /// Settles the promise either way; false if it was cancelled.
    #[inline]
    pub fn settle(mut self, reactor: &mut Context<S>, result: Result<T, E>) -> bool {
        let Some(node) = self.node.take() else { return false };
        let is_wanted = !node.is_done();
        if let Some((run, place)) = settle(node, result) {
            reactor.defer_boxed(run, place);
        }
        is_wanted
    }

    /// Whether the promise was not cancelled, so that it is worth going on.
    pub fn is_wanted(&self) -> bool {
        self.node.as_ref().is_some_and(|node| !node.is_done())
    }

    /// A callback that settles the promise with the result it is called with: for functions that
    /// want to be told what to do when they are done.
    pub fn done(self) -> impl FnOnce(&mut Context<S>, &mut S, Result<T, E>) + 'static {
        |reactor, _, result| {
            self.settle(reactor, result);
        }
    }

    /// Waits for another promise on the way to this one: a cancel of this reaches that, and if this
    /// was cancelled that is, too, and nothing is waited for.
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
    let home = node.home.clone();
    let broken = Broken::Abandoned(node.place);
    if !node.is_done()
        && let Some((run, place)) = settle(node, Err(broken.into()))
    {
        home.local.defer(place, run);
    }
}

impl<S: 'static, T: 'static, E: Rejection> fmt::Debug for Resolver<S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.node.as_ref().map(|node| node.place);
        f.debug_struct("Resolver").field("made", &place).finish()
    }
}

/// What a callback of a chain may answer: nothing, a `Result`, or another promise.
pub trait Answer<S: 'static, E: Rejection> {
    /// What the promise is settled with, if all goes well.
    type Value: 'static;

    /// Settles the promise of the callback that gave this answer.
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

/// Adopted: it settles the promise of the callback when it is settled itself, which takes neither a
/// callback nor an allocation.
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
