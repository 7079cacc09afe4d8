//! How a server among the examples ends: by Ctrl-C or SIGTERM, in order, or by a second one at once.
//!
//! The library has signals, too (`process::Signal`), as a feature. These need none: signal-hook
//! writes a byte to a socket pair for each signal, and the other end is a source of the loop like
//! any other. Where there are no such signals all of this does nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::{Context, net};

use super::say;

/// The time that clients may still take when the server is to end.
pub const GRACE: Duration = Duration::from_secs(5);

/// True once a server has begun to end.
#[derive(Clone, Default)]
pub struct Ending(Rc<Cell<bool>>);

impl Ending {
    pub fn has_begun(&self) -> bool {
        self.0.get()
    }
}

/// Ends a server in order at the first SIGINT or SIGTERM: no new clients, and when those that are
/// being served have gone, or `grace` is up, a report, and the loop stops. A second signal ends the
/// program at once.
pub fn end_on_signals<S: 'static>(
    reactor: &mut Context<S>,
    grace: Duration,
) -> Result<Ending, String> {
    end_on_signals_with(reactor, grace, |_, _| {})
}

/// [`end_on_signals`] for a server that has something to do `first`: to end sources that would not
/// end by themselves.
pub fn end_on_signals_with<S: 'static>(
    reactor: &mut Context<S>,
    grace: Duration,
    first: impl FnOnce(&mut Context<S>, &mut S) + 'static,
) -> Result<Ending, String> {
    let ending = Ending::default();
    let begun = ending.clone();
    on_signals(reactor, move |reactor, state, signal| {
        begun.0.set(true);
        first(reactor, state);
        drain(reactor, signal, grace);
    })?;
    Ok(ending)
}

fn drain<S: 'static>(reactor: &mut Context<S>, signal: &str, grace: Duration) {
    let drain = net::drain(reactor, grace, |reactor, _, report| {
        say(report);
        reactor.stop();
    });
    let waiting = match reactor[drain].report().connections {
        0 => String::new(),
        1 => format!(", waiting up to {} s for 1 connection", grace.as_secs()),
        count => format!(", waiting up to {} s for {count} connections", grace.as_secs()),
    };
    say(format_args!("{signal}: no new clients{waiting}; again to end at once"));
}

/// Calls `begin` at the first SIGINT or SIGTERM, with its name; at the second the program ends as it
/// would have at the first, without this. Neither holds the loop.
#[cfg(unix)]
pub fn on_signals<S: 'static>(
    reactor: &mut Context<S>,
    begin: impl FnOnce(&mut Context<S>, &mut S, &str) + 'static,
) -> Result<(), String> {
    unix::on_signals(reactor, begin).map_err(|error| format!("cannot handle signals: {error}"))
}

/// There are no such signals here.
#[cfg(not(unix))]
pub fn on_signals<S: 'static>(
    _: &mut Context<S>,
    _: impl FnOnce(&mut Context<S>, &mut S, &str) + 'static,
) -> Result<(), String> {
    Ok(())
}

#[cfg(unix)]
mod unix {
    use std::cell::Cell;
    use std::io::{self, Read};
    use std::os::unix::net::UnixStream as Pair;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use nix::sys::signal::{SigSet, Signal};
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::{flag, low_level};
    use waterwheel::Context;
    use waterwheel::mio::net::UnixStream;
    use waterwheel::reactor::Interest;

    pub fn on_signals<S: 'static>(
        reactor: &mut Context<S>,
        begin: impl FnOnce(&mut Context<S>, &mut S, &str) + 'static,
    ) -> io::Result<()> {
        let is_second = Arc::new(AtomicBool::new(false));
        let begin = Rc::new(Cell::new(Some(begin)));
        for (name, signal) in [("SIGINT", SIGINT), ("SIGTERM", SIGTERM)] {
            // In this order: the first signal finds the flag down and raises it. The second acts in
            // the signal handler, so a loop that is stuck ends as well.
            flag::register_conditional_default(signal, is_second.clone())?;
            flag::register(signal, is_second.clone())?;
            let (ours, theirs) = Pair::pair()?;
            ours.set_nonblocking(true)?;
            low_level::pipe::register(signal, theirs)?;
            let (begin, ours) = (begin.clone(), UnixStream::from_std(ours));
            let id = reactor.register(ours, Interest::READABLE, move |reactor, state, id, _| {
                while matches!(reactor[id].read(&mut [0; 16]), Ok(1..)) {}
                if let Some(begin) = begin.take() {
                    begin(reactor, state, name);
                }
            })?;
            reactor.unref(id);
        }
        // A parent may have left them blocked, and then they would never arrive.
        [Signal::SIGINT, Signal::SIGTERM].into_iter().collect::<SigSet>().thread_unblock()?;
        Ok(())
    }
}
