//! Retrying: the same work again, later and later.
//!
//! # Read next
//! `../backoff.rs`: the pauses.

use std::time::Duration;

use super::{Answer, Promise, Rejection, Resolver};
use crate::patterns::{Backoff, Random};
use crate::reactor::{Context, Place};

impl<S: 'static, T: 'static, E: Rejection> Promise<S, T, E> {
    /// Calls `attempt` with its number, from 1, as a deferred callback. If it is rejected, calls it
    /// again after a pause, until it is resolved or the attempts are used up: then it rejects with
    /// the last error. If another attempt cannot help, resolve with the error as a value, and
    /// handle it in the callbacks that follow. A cancel also cancels the current attempt or pause.
    ///
    /// ```
    /// use waterwheel::patterns::{Backoff, Promise};
    /// use waterwheel::reactor::Reactor;
    /// let mut reactor = Reactor::new().unwrap();
    /// let answer = Promise::retry(&mut reactor, Backoff::new(3), |_, _, attempt| {
    ///     if attempt < 2 { Err(format!("no luck, the {attempt}. time")) } else { Ok(attempt) }
    /// });
    /// answer.then(&mut reactor, |_, needed, attempt| *needed = attempt);
    /// let mut needed = 0;
    /// reactor.run(&mut needed).unwrap();
    /// assert_eq!(needed, 2);
    /// ```
    #[track_caller]
    pub fn retry<A, F>(reactor: &mut Context<S>, backoff: Backoff, attempt: F) -> Promise<S, T, E>
    where
        F: FnMut(&mut Context<S>, &mut S, u32) -> A + 'static,
        A: Answer<S, E, Value = T>,
    {
        let place = Place::caller();
        let (promise, resolver) = reactor.promise_at(place, None);
        let trying = Box::new(Retry { backoff, random: backoff.random(), made: 0, attempt, place });
        reactor
            .defer_boxed(Box::new(|reactor, state| trying.next(reactor, state, resolver)), place);
        promise
    }
}

/// A retry. The callback of the attempt owns it, then the callback of the pause, and so on. So it
/// needs no table and forms no `Rc` cycle.
struct Retry<F> {
    backoff: Backoff,
    random: Random,
    /// Attempts made.
    made: u32,
    attempt: F,
    place: Place,
}

impl<F: 'static> Retry<F> {
    fn next<S, T, E, A>(
        mut self: Box<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        resolver: Resolver<S, T, E>,
    ) where
        S: 'static,
        T: 'static,
        E: Rejection,
        F: FnMut(&mut Context<S>, &mut S, u32) -> A,
        A: Answer<S, E, Value = T>,
    {
        if !resolver.is_wanted() {
            return;
        }
        self.made += 1;
        let answer = (self.attempt)(reactor, state, self.made);
        let (promise, settle) = reactor.promise_at(self.place, None);
        answer.settle(reactor, settle);
        resolver.wait_for(reactor, promise, |reactor, _, resolver, result| {
            let pause = match result {
                Err(_) => self.backoff.pause(self.made, &mut self.random),
                Ok(_) => None,
            };
            match (result, pause) {
                (Err(error), Some(pause)) => {
                    let (place, made) = (self.place, self.made);
                    log::debug!("{place}: attempt {made}: {error:?}; again in {pause:?}");
                    self.pause(reactor, pause, resolver);
                }
                (result, _) => {
                    resolver.settle(reactor, result);
                }
            }
        });
    }

    fn pause<S, T, E, A>(
        self: Box<Self>,
        reactor: &mut Context<S>,
        pause: Duration,
        resolver: Resolver<S, T, E>,
    ) where
        S: 'static,
        T: 'static,
        E: Rejection,
        F: FnMut(&mut Context<S>, &mut S, u32) -> A,
        A: Answer<S, E, Value = T>,
    {
        let pause: Promise<S, (), E> = reactor.delay(pause);
        resolver.wait_for(reactor, pause, |reactor, state, resolver, result| match result {
            Ok(()) => self.next(reactor, state, resolver),
            Err(error) => {
                resolver.reject(reactor, error);
            }
        });
    }
}
