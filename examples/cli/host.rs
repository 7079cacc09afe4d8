//! The loop of an example, run by itself or by a host.
//!
//! A host is a program that has a loop of its own, as `embed.rs` has. An example must do everything
//! as soon in a host: with `WATERWHEEL_HOST=1` those that call `run` here do so in one, and their
//! tests as well.

use waterwheel::Reactor;

/// As `Reactor::run`: until it is stopped, or nothing is left that could call a callback.
pub fn run<S: 'static>(reactor: &mut Reactor<S>, state: &mut S) -> Result<(), String> {
    #[cfg(unix)]
    if std::env::var("WATERWHEEL_HOST").is_ok_and(|host| host != "0") {
        return run_by_host(reactor, state).map_err(|error| error.to_string());
    }
    reactor.run(state).map_err(|error| error.to_string())
}

/// The loop of a host: it waits for the reactor's descriptor, no longer than the reactor allows,
/// and turns it without a wait.
#[cfg(unix)]
fn run_by_host<S: 'static>(reactor: &mut Reactor<S>, state: &mut S) -> std::io::Result<()> {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    while !reactor.take_stop() && reactor.is_alive() {
        let wait = reactor.next_wait().map_or(PollTimeout::NONE, whole_ms);
        match poll(&mut [PollFd::new(reactor.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        reactor.turn(state, Some(Duration::ZERO))?;
    }
    Ok(())
}

/// A time that poll(2) can wait: in whole milliseconds, rounded up, so that it does not come back too
/// early and find nothing; without an end, if it is longer than the system can wait.
#[cfg(unix)]
pub fn whole_ms(wait: std::time::Duration) -> nix::poll::PollTimeout {
    let ms = i32::try_from(wait.as_nanos().div_ceil(1_000_000)).ok();
    ms.and_then(|ms| ms.try_into().ok()).unwrap_or(nix::poll::PollTimeout::NONE)
}
