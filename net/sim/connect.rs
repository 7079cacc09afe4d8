//! Connecting in a simulated network.
//!
//! Knows one end of a wire that nobody has answered yet.
//!
//! # Read next
//! `faults.rs`: what goes wrong.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::Network;
use super::ether::{Cargo, Flight, State};
use crate::net::stream::Stream;
use crate::net::transport::registers_by;
use crate::net::wire::{End, Wire};
use crate::reactor::{Context, Interest, Readiness, SourceId};

/// The first port of those given to who does not ask for one (RFC 6335, section 6).
const FIRST_FREE_PORT: u16 = 49152;

/// A connection that is being made. Remove its source to cancel it; the callback is then not
/// called.
#[derive(Debug)]
pub struct Connecting {
    end: End,
    peer: SocketAddr,
}

impl Connecting {
    /// Where to.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

registers_by!(Connecting, end);

impl Network {
    /// Connects to `addr` and calls `done` once, as [`tcp::connect`](crate::net::tcp::connect)
    /// does: with the stream, with `ConnectionRefused` or `ConnectionReset`, or with `TimedOut`
    /// after `timeout`.
    ///
    /// # Errors
    /// More sources than a token can number. Otherwise there are none, as nothing is asked of the
    /// system; code that runs on TCP, too, is used to them.
    #[track_caller]
    pub fn connect<S, F>(
        &self,
        reactor: &mut Context<S>,
        addr: SocketAddr,
        timeout: Duration,
        done: F,
    ) -> io::Result<SourceId<Connecting>>
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
    {
        let (own, buffer_bytes) = {
            let state = &mut *self.0.state.borrow_mut();
            let own = SocketAddr::from((Ipv4Addr::LOCALHOST, state.free_port()));
            (own, state.faults.buffer_bytes)
        };
        let wire = Wire::new(self.0.clone(), buffer_bytes, Some([own, addr]), false);
        let connecting = Connecting { end: wire.end(0), peer: addr };
        let mut done = Some(done);
        let both = Interest::READABLE | Interest::WRITABLE;
        let id = reactor.register(connecting, both, move |reactor, state, id, ready| {
            let Some(result) = outcome(reactor, id, ready) else { return };
            if let Some(done) = done.take() {
                done(reactor, state, result);
            }
        })?;
        let tick = reactor.tick_after(timeout);
        reactor.set_deadline(id.raw(), Some(tick));
        self.0.send(Flight {
            wire: std::rc::Rc::downgrade(&wire),
            to: 1,
            cargo: Cargo::Knock(addr),
        });
        Ok(id)
    }
}

/// How the connecting ended, and takes it out of the loop; `None` if it has not ended.
fn outcome<S: 'static>(
    reactor: &mut Context<S>,
    id: SourceId<Connecting>,
    ready: Readiness,
) -> Option<io::Result<Stream>> {
    let timed_out =
        || ready.contains(Readiness::DEADLINE).then(|| Err(io::ErrorKind::TimedOut.into()));
    let result = reactor[id].end.outcome().or_else(timed_out)?;
    let Connecting { end, .. } = reactor.deregister(id)?;
    Some(result.map(|()| Stream::over(end)))
}

impl State {
    /// A port at which nobody listens. They come round, as the kernel's do.
    pub(super) fn free_port(&mut self) -> u16 {
        loop {
            self.port = self.port.checked_add(1).unwrap_or(0).max(FIRST_FREE_PORT);
            if self.listeners.keys().all(|addr| addr.port() != self.port) {
                return self.port;
            }
        }
    }
}
