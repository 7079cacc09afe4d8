//! What the tests of promises share.

use std::time::Duration;

use waterwheel::patterns::{Promise, Resolver};
use waterwheel::reactor::{Context, Reactor};
use waterwheel::timers::ManualClock;

/// The state of most tests: what was said, in order.
pub type Log = Vec<String>;
pub type Said<T> = Promise<Log, T, String>;
pub type Sayer<T> = Resolver<Log, T, String>;

/// Time stands still, and jumps where the loop would sleep.
pub fn lab() -> Reactor<Log> {
    Reactor::builder().clock(&ManualClock::new()).build().unwrap()
}

pub fn pending(reactor: &mut Reactor<Log>) -> (Said<u32>, Sayer<u32>) {
    reactor.promise()
}

/// Says how it ended.
pub fn tell<T: std::fmt::Debug + 'static>(reactor: &mut Context<Log>, promise: Said<T>) {
    promise
        .then(reactor, |_, log, value| log.push(format!("{value:?}")))
        .catch(reactor, |_, log, error| log.push(format!("error: {error}")));
}

pub fn turn(reactor: &mut Reactor<Log>, log: &mut Log) -> usize {
    reactor.turn(log, Some(Duration::ZERO)).unwrap()
}

/// Runs to the end; what was said.
pub fn run(reactor: &mut Reactor<Log>) -> Log {
    let mut log = Log::new();
    reactor.run(&mut log).unwrap();
    log
}
