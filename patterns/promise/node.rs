//! The node that both ends of a promise share: the state, and the link up for a cancel.
//!
//! Knows one promise and the one above it; never looks into the callbacks that it holds.
//!
//! # Read next
//! `settle.rs`: the resolver.

use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::rc::{Rc, Weak};

use super::{Rejection, Resolver};
use crate::reactor::{Context, Local, Once, Place};

/// The state of a promise; the diagram is in the head of `promise.rs`.
pub(super) enum State<S: 'static, T: 'static, E: Rejection> {
    /// Pending, and no callback waits yet.
    Open,
    /// Pending, and no callback will ever wait: the promise was dropped.
    Detached,
    /// Pending: the callback that runs when it is settled, and its place.
    Waiting(Once<S>, Place),
    /// Pending: a callback has returned this promise; it will settle the callback's own promise.
    Adopted(Resolver<S, T, E>),
    /// The value, until the callback takes it.
    Settled(Result<T, E>),
    /// The callback has taken the value, or the promise was cancelled.
    Done,
}

type Hook<S> = Box<dyn FnOnce(&mut Context<S>)>;

pub(super) struct Inner<S: 'static, T: 'static, E: Rejection> {
    pub(super) state: State<S, T, E>,
    /// The promise whose callback settles this one; `None` for the head of a chain.
    up: Option<Up<S>>,
    /// Runs when the promise is cancelled.
    hook: Option<Hook<S>>,
}

pub(super) struct Node<S: 'static, T: 'static, E: Rejection> {
    pub(super) inner: RefCell<Inner<S, T, E>>,
    pub(super) local: Local<S>,
    /// Where the promise was made, or `then` called.
    pub(super) place: Place,
}

impl<S: 'static, T: 'static, E: Rejection> Node<S, T, E> {
    #[inline]
    pub(super) fn new(local: Local<S>, place: Place, up: Option<Up<S>>) -> Node<S, T, E> {
        let inner = Inner { state: State::Open, up, hook: None };
        Node { inner: RefCell::new(inner), local, place }
    }

    /// Keeps `run` until the promise settles, or defers it if it has settled.
    #[inline]
    pub(super) fn wait(&self, reactor: &mut Context<S>, run: Once<S>, place: Place) {
        let mut inner = self.inner.borrow_mut();
        if let State::Open = inner.state {
            inner.state = State::Waiting(run, place);
        } else {
            drop(inner);
            reactor.defer_boxed(run, place);
        }
    }

    /// The value, or `None` if the promise was cancelled.
    #[inline]
    pub(super) fn take(&self) -> Option<Result<T, E>> {
        match mem::replace(&mut self.inner.borrow_mut().state, State::Done) {
            State::Settled(result) => Some(result),
            _ => None,
        }
    }

    /// The promise was dropped before a callback was added.
    pub(super) fn detach(&self) {
        let mut inner = self.inner.borrow_mut();
        match mem::replace(&mut inner.state, State::Done) {
            State::Open => inner.state = State::Detached,
            state => {
                drop(inner);
                if let State::Settled(Err(error)) = state {
                    unhandled(&self.local, self.place, &error);
                }
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.inner.borrow().state, State::Done)
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self.inner.borrow().state, State::Settled(_))
    }

    pub(super) fn add_hook(&self, hook: Hook<S>) {
        let mut inner = self.inner.borrow_mut();
        if let State::Settled(_) | State::Done = inner.state {
            return; // Nothing is left to take back.
        }
        inner.hook = Some(match inner.hook.take() {
            None => hook,
            Some(first) => Box::new(|reactor| {
                first(reactor);
                hook(reactor);
            }),
        });
    }

    /// From now on a cancel follows this link.
    pub(super) fn follow(&self, up: Option<Up<S>>) {
        self.inner.borrow_mut().up = up;
    }
}

/// Settles a promise, or the one that adopted it, and so on up to the callback that first returned
/// a promise. It is a loop, because promises returned by callbacks may nest to any depth (P7).
/// Returns the call that is now due, and does not run it (P2).
#[inline]
pub(super) fn settle<S: 'static, T: 'static, E: Rejection>(
    mut node: Rc<Node<S, T, E>>,
    result: Result<T, E>,
) -> Option<(Once<S>, Place)> {
    loop {
        let mut inner = node.inner.borrow_mut();
        let hook = inner.hook.take();
        inner.up = None;
        let state = mem::replace(&mut inner.state, State::Done);
        if let State::Open | State::Waiting(..) = state {
            inner.state = State::Settled(result);
            drop(inner);
            drop(hook); // Its `drop` may look at this promise.
            return match state {
                State::Waiting(run, place) => Some((run, place)),
                _ => None,
            };
        }
        drop(inner);
        drop(hook);
        match state {
            State::Adopted(mut resolver) => node = resolver.node.take()?,
            State::Detached => {
                if let Err(error) = &result {
                    unhandled(&node.local, node.place, error);
                }
                return None;
            }
            _ => return None, // Cancelled: the result is dropped.
        }
    }
}

/// A rejection has reached the end of its chain (P4).
#[cold]
fn unhandled<S>(local: &Local<S>, place: Place, error: &dyn fmt::Debug) {
    if !local.is_closed() {
        local.count_unhandled();
        log::error!("nobody catches what rejects the promise made at {place}: {error:?}");
    }
}

/// A promise of any type, for a cancel on its way up.
pub(super) trait Link<S: 'static> {
    /// Cancels this one; returns the next one up. If there are several, they go to `others`.
    fn cancel(&self, reactor: &mut Context<S>, others: &mut Vec<Up<S>>) -> Option<Up<S>>;
}

/// Weak, because nodes own those below them: an `Rc` up would be a cycle.
pub(super) type Up<S> = Weak<dyn Link<S>>;

impl<S: 'static, T: 'static, E: Rejection> Link<S> for Node<S, T, E> {
    fn cancel(&self, reactor: &mut Context<S>, _: &mut Vec<Up<S>>) -> Option<Up<S>> {
        let mut inner = self.inner.borrow_mut();
        let state = mem::replace(&mut inner.state, State::Done);
        let (up, hook) = (inner.up.take(), inner.hook.take());
        drop(inner);
        drop(state); // Its callback owns the resolver of the link below, which is done already.
        if let Some(hook) = hook {
            hook(reactor);
        }
        up
    }
}

/// Cancels a promise and those that it waits for. A loop, because the chain may be long (P7).
pub(super) fn cancel_up<S: 'static>(reactor: &mut Context<S>, from: &dyn Link<S>) {
    let mut others = Vec::new();
    let mut next = from.cancel(reactor, &mut others);
    while let Some(up) = next.or_else(|| others.pop()) {
        next = up.upgrade().and_then(|link| link.cancel(reactor, &mut others));
    }
}
