//! The loop of an example, run by itself or by a host.
//!
//! A host is a program that has a loop of its own, as `embed.rs` has. Whatever an example does it
//! must do as soon in one: with `WATERWHEEL_HOST=1` those that wait for others run so, and so do their
//! tests.

use waterwheel::Reactor;

/// Runs the loop until it is stopped or nothing is left that could call anybody: `Reactor::run`.
pub fn run<S: 'static>(reactor: &mut Reactor<S>, state: &mut S) -> Result<(), String> {
    #[cfg(unix)]
    if std::env::var("WATERWHEEL_HOST").is_ok_and(|host| host != "0") {
        return run_by_host(reactor, state).map_err(|error| error.to_string());
    }
    reactor.run(state).map_err(|error| error.to_string())
}

/// What a host does: it waits for the reactor's descriptor, no longer than the reactor allows, and
/// turns it without a wait.
#[cfg(unix)]
fn run_by_host<S: 'static>(reactor: &mut Reactor<S>, state: &mut S) -> std::io::Result<()> {
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;

    while !reactor.take_stop() && reactor.is_alive() {
        // Without a limit, if that is longer than the system can wait.
        let wait = reactor.next_wait().and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut [PollFd::new(reactor, PollFlags::IN)], wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        reactor.turn(state, Some(Duration::ZERO))?;
    }
    Ok(())
}
