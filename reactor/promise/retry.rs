//! Retrying: the same work again, later and later.
//!
//! A pause is drawn at random from its upper half: never less than half of what was asked for.
//!
//! # Read next
//! `../backoff.rs`: why at random.

use std::time::Duration;

use super::{Answer, Promise, Rejection, Resolver};
use crate::reactor::backoff::{Random, doubled};
use crate::reactor::{Context, Place};

/// How often, and with which pauses, something is tried again.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::reactor::Backoff;
/// let mut backoff = Backoff::new(5).first(Duration::from_millis(100)).seed(7);
/// let pauses: Vec<Duration> = (1..5).map(|attempt| backoff.pause(attempt)).collect();
/// assert!(pauses[0] >= Duration::from_millis(50) && pauses[0] <= Duration::from_millis(100));
/// assert!(pauses[3] >= Duration::from_millis(400) && pauses[3] <= Duration::from_millis(800));
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    attempts: u32,
    first: Duration,
    most: Duration,
    jitter: bool,
    random: Random,
}

impl Backoff {
    /// So many attempts, the first included, one at least; the pause after the first is 100 ms, and
    /// twice that after each one more, up to 30 s. Seeded at random.
    pub fn new(attempts: u32) -> Backoff {
        Backoff {
            attempts,
            first: Duration::from_millis(100),
            most: Duration::from_secs(30),
            jitter: true,
            random: Random::new(),
        }
    }

    /// The pause after the first attempt, before jitter. Default: 100 ms.
    pub fn first(self, pause: Duration) -> Backoff {
        Backoff { first: pause, ..self }
    }

    /// The longest pause. Default: 30 s.
    pub fn most(self, pause: Duration) -> Backoff {
        Backoff { most: pause, ..self }
    }

    /// Draws the jitter from this seed, so that a test has the same pauses each time.
    pub fn seed(self, seed: u64) -> Backoff {
        Backoff { random: Random::from_seed(seed), ..self }
    }

    /// Pauses exactly, for one client alone.
    pub fn without_jitter(self) -> Backoff {
        Backoff { jitter: false, ..self }
    }

    /// The pause after so many attempts: `first · 2^(attempt − 1)`, at most the longest, of which at
    /// least half.
    pub fn pause(&mut self, attempt: u32) -> Duration {
        let pause = doubled(self.first, attempt, self.most);
        if !self.jitter {
            return pause;
        }
        let half = pause / 2;
        let rest = u64::try_from((pause - half).as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(self.random.up_to(rest))
    }
}

impl<S: 'static, T: 'static, E: Rejection> Promise<S, T, E> {
    /// Calls `attempt`, which is told its number from 1, as a deferred callback; and if it is
    /// rejected again after a pause, until it is resolved or the attempts are used up: then with the
    /// last error. Cancelled, it cancels the attempt or the pause that it waits for.
    ///
    /// ```
    /// use waterwheel::reactor::{Backoff, Promise, Reactor};
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
        let trying = Box::new(Retry { backoff, made: 0, attempt, place });
        reactor
            .defer_boxed(Box::new(|reactor, state| trying.next(reactor, state, resolver)), place);
        promise
    }
}

/// Handed from the attempt to the pause after it and back; whoever holds it is what comes next, so
/// there is nothing to be found and no cycle.
struct Retry<F> {
    backoff: Backoff,
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
        resolver.wait_for(reactor, promise, |reactor, _, resolver, result| match result {
            Err(error) if self.made < self.backoff.attempts => {
                let pause = self.backoff.pause(self.made);
                log::debug!("{}: attempt {}: {error:?}; again in {pause:?}", self.place, self.made);
                let pause: Promise<S, (), E> = reactor.delay(pause);
                resolver.wait_for(
                    reactor,
                    pause,
                    |reactor, state, resolver, result| match result {
                        Ok(()) => self.next(reactor, state, resolver),
                        Err(error) => {
                            resolver.reject(reactor, error);
                        }
                    },
                );
            }
            result => {
                resolver.settle(reactor, result);
            }
        });
    }
}
