//! Several promises as one, and a promise with a timeout.
//!
//! The inputs share the results so far, with a place for each, and the resolver. The input that
//! decides the outcome takes the resolver and cancels the others (P5).

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::node::{Link, Up, cancel_up};
use super::{Broken, Promise, Rejection};
use crate::reactor::{Context, Place};

/// Takes in the result of the input with this index; returns the outcome once it is decided.
type Step<C, I, R> = fn(&mut C, usize, I) -> Option<R>;

/// The resolver and the results so far of a combinator, until it is decided.
type Shared<R, C> = Rc<RefCell<Option<(R, C)>>>;

impl<S: 'static, T: 'static, E: Rejection> Promise<S, T, E> {
    /// All values, in the order of the promises; or the first error, and the rest is cancelled.
    #[track_caller]
    pub fn all<I>(reactor: &mut Context<S>, promises: I) -> Promise<S, Vec<T>, E>
    where
        I: IntoIterator<Item = Promise<S, T, E>>,
    {
        let promises = Vec::from_iter(promises);
        if promises.is_empty() {
            return Promise::resolved(reactor, Vec::new());
        }
        let values = Slots::new(promises.len());
        gather(reactor, promises, Place::caller(), values, |values, index, result| match result {
            Ok(value) => values.fill(index, value).map(Ok),
            Err(error) => Some(Err(error)),
        })
    }

    /// All results, in the order of the promises, when each of them is settled. It is rejected only
    /// if it is abandoned.
    #[track_caller]
    pub fn all_settled<I>(reactor: &mut Context<S>, promises: I) -> Promise<S, Vec<Result<T, E>>, E>
    where
        I: IntoIterator<Item = Promise<S, T, E>>,
    {
        let promises = Vec::from_iter(promises);
        if promises.is_empty() {
            return Promise::resolved(reactor, Vec::new());
        }
        let results = Slots::new(promises.len());
        gather(reactor, promises, Place::caller(), results, |results, index, result| {
            results.fill(index, result).map(Ok)
        })
    }

    /// The first result, value or error; the others are cancelled. A race of none is abandoned.
    #[track_caller]
    pub fn race<I>(reactor: &mut Context<S>, promises: I) -> Promise<S, T, E>
    where
        I: IntoIterator<Item = Promise<S, T, E>>,
    {
        let promises = Vec::from_iter(promises);
        gather(reactor, promises, Place::caller(), (), |(), _, result| Some(result))
    }

    /// The first value, and the others are cancelled; or, if there is none, all errors in the order
    /// of the promises.
    #[track_caller]
    pub fn any<I>(reactor: &mut Context<S>, promises: I) -> Promise<S, T, Vec<E>>
    where
        I: IntoIterator<Item = Promise<S, T, E>>,
    {
        let promises = Vec::from_iter(promises);
        if promises.is_empty() {
            return Promise::rejected(reactor, Vec::new());
        }
        let errors = Slots::new(promises.len());
        gather(reactor, promises, Place::caller(), errors, |errors, index, result| match result {
            Ok(value) => Some(Ok(value)),
            Err(error) => errors.fill(index, error).map(Err),
        })
    }

    /// The same promise, unless it is pending after `delay`: then it is cancelled, and this one is
    /// rejected with [`Broken::TimedOut`].
    #[track_caller]
    pub fn timeout(mut self, reactor: &mut Context<S>, delay: Duration) -> Promise<S, T, E> {
        let place = Place::caller();
        let (promise, resolver) = reactor.promise_at(place, self.up());
        let resolver = Rc::new(Cell::new(Some(resolver)));
        let (late, input) = (resolver.clone(), self.node.as_ref().map(Rc::downgrade));
        let timer = reactor.after(delay, move |reactor, _| {
            let input = input.and_then(|input| input.upgrade());
            if input.as_ref().is_some_and(|input| input.is_settled()) {
                return; // In time: its callback waits for the next turn's budget (R2).
            }
            if let Some(resolver) = late.take() {
                resolver.reject(reactor, Broken::TimedOut(place).into());
            }
            if let Some(input) = input {
                cancel_up(reactor, &*input);
            }
        });
        self.wait(reactor, place, move |reactor, _, result| {
            reactor.cancel(timer);
            if let Some(resolver) = resolver.take() {
                resolver.settle(reactor, result);
            }
        });
        promise.on_cancel(move |reactor| {
            reactor.cancel(timer);
        })
    }
}

/// A place for each input's value.
struct Slots<V> {
    values: Vec<Option<V>>,
    missing: usize,
}

impl<V> Slots<V> {
    fn new(count: usize) -> Slots<V> {
        Slots { values: (0..count).map(|_| None).collect(), missing: count }
    }

    /// Fills one; returns all of them when none is missing.
    fn fill(&mut self, index: usize, value: V) -> Option<Vec<V>> {
        self.values[index] = Some(value);
        self.missing -= 1;
        (self.missing == 0).then(|| self.values.drain(..).flatten().collect())
    }
}

/// Calls `step` with each input's result and the results so far, until it returns the outcome.
fn gather<S, T, E, V, E2, C>(
    reactor: &mut Context<S>,
    promises: Vec<Promise<S, T, E>>,
    place: Place,
    so_far: C,
    step: Step<C, Result<T, E>, Result<V, E2>>,
) -> Promise<S, V, E2>
where
    S: 'static,
    T: 'static,
    E: Rejection,
    V: 'static,
    E2: Rejection,
    C: 'static,
{
    let inputs = Rc::new(Inputs(promises.iter().filter_map(Promise::up).collect()));
    let up: Weak<Inputs<S>> = Rc::downgrade(&inputs);
    let (gathered, resolver) = reactor.promise_at(place, Some(up));
    let shared: Shared<_, C> = Rc::new(RefCell::new(Some((resolver, so_far))));
    for (index, mut promise) in promises.into_iter().enumerate() {
        let (shared, inputs) = (shared.clone(), inputs.clone());
        promise.wait(reactor, place, move |reactor, _, result| {
            let mut undecided = shared.borrow_mut();
            let Some((_, so_far)) = &mut *undecided else { return };
            let Some(outcome) = step(so_far, index, result) else { return };
            let decided = undecided.take();
            drop(undecided);
            // Before the losers are cancelled: a hook of theirs may panic.
            if let Some((resolver, _)) = decided {
                resolver.settle(reactor, outcome);
            }
            cancel_up(reactor, &*inputs);
        });
    }
    gathered
}

/// The inputs of a combinator, to cancel those that are pending: when the outcome is decided, or
/// the combinator's own promise is cancelled. The callbacks of the inputs own this list.
struct Inputs<S: 'static>(Vec<Up<S>>);

impl<S: 'static> Link<S> for Inputs<S> {
    fn cancel(&self, _: &mut Context<S>, others: &mut Vec<Up<S>>) -> Option<Up<S>> {
        others.extend(self.0.iter().rev().cloned()); // Taken from the end.
        None
    }
}
