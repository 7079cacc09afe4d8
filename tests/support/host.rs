//! A host with a loop of its own, into which ours is put as the docs of `Reactor::turn` have it.
//!
//! What `run` does the host must see as soon, so with `WATERWHEEL_HOST=1` tests that use [`run`]
//! do all of it again in such a loop.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use waterwheel::Reactor;
use waterwheel::timers::ManualClock;

/// Returns true if the tests are to be run by a host.
pub fn is_asked_for() -> bool {
    std::env::var("WATERWHEEL_HOST").is_ok_and(|host| host != "0")
}

/// `Reactor::run`, or what a host makes of it. `clock` is the reactor's, if it is a manual one.
pub fn run<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    clock: Option<&ManualClock>,
) -> io::Result<()> {
    if is_asked_for() { run_by_host(reactor, state, clock) } else { reactor.run(state) }
}

/// Waits for the reactor's descriptor, no longer than it allows, and turns it without a wait.
pub fn run_by_host<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    clock: Option<&ManualClock>,
) -> io::Result<()> {
    let mut first = true; // What a script reports shows in no descriptor.
    while !reactor.take_stop() && reactor.is_alive() {
        let wait =
            if std::mem::take(&mut first) { Some(Duration::ZERO) } else { reactor.next_wait() };
        match (wait, clock) {
            // Time stands still until somebody moves it: it jumps if nothing is ready.
            (Some(wait), Some(clock)) if !is_ready(reactor, Some(Duration::ZERO))? => {
                clock.advance(wait);
            }
            (Some(_), Some(_)) => {}
            (wait, _) => {
                is_ready(reactor, wait)?;
            }
        }
        reactor.turn(state, Some(Duration::ZERO))?;
    }
    Ok(())
}

fn is_ready<S: 'static>(reactor: &Reactor<S>, wait: Option<Duration>) -> io::Result<bool> {
    // What is shorter than the host can wait is rounded up, as everywhere.
    let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
    let mut watched = [PollFd::from_borrowed_fd(reactor.as_fd(), PollFlags::IN)];
    match poll(&mut watched, wait.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
