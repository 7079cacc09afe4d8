//! Connecting, for every kind of address.
//!
//! Knows the wait and its timeout; the socket is in a [`Connector`]: TCP, Unix, the simulation. The
//! stream it makes is opened like an accepted one.
//!
//! # Read next
//! `race.rs`: to the first of several addresses that answers.

use std::fmt;
use std::io;
use std::time::Duration;

use mio::event::Source;

use super::event::Pressure;
use super::group::Group;
use super::limits::Limits;
use super::stream::Stream;
use super::transport::registers_by;
use crate::reactor::{Context, Interest, SourceId};
use crate::timers::Tick;

/// A socket on its way to a peer.
pub trait Connector: Source + fmt::Debug + 'static {
    /// `Ok` if it is connected, or the error of connect(2); `None` while neither is known, as after
    /// a spurious event.
    fn outcome(&mut self) -> Option<io::Result<()>>;

    /// The time after which to ask again without an event; `None` if events report everything.
    fn ask_again(&self) -> Option<Duration> {
        None
    }

    /// The error, with more detail if there is any.
    fn explain(&self, error: io::Error) -> io::Error {
        error
    }

    /// Makes a stream of it.
    fn stream(self, group: Group) -> Stream;
}

/// A connection that is being made. Remove its source to cancel it; no callback comes then.
#[derive(Debug)]
pub struct Connecting<C> {
    pub(super) connector: C,
    first: Vec<u8>,
    /// The tick at which the attempt is given up.
    until: Tick,
}

impl<C> Connecting<C> {
    /// Sends bytes as soon as the connection is made, in the order of the writes, before any that
    /// are written to the open connection. Past the default of
    /// [`Limits::outbox_bytes_max`](crate::net::Limits::outbox_bytes_max), refuses all of them.
    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        if self.first.len() + bytes.len() > Limits::default().outbox_bytes_max {
            return Pressure::Refused;
        }
        self.first.extend_from_slice(bytes);
        Pressure::Below
    }
}

registers_by!(Connecting<C>, connector);

/// Waits for the connector and calls `done` once.
#[track_caller]
pub(super) fn await_connection<S, C, F>(
    reactor: &mut Context<S>,
    connector: C,
    timeout: Duration,
    done: F,
) -> io::Result<SourceId<Connecting<C>>>
where
    S: 'static,
    C: Connector,
    F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
{
    let until = reactor.tick_after(timeout);
    let connecting = Connecting { connector, first: Vec::new(), until };
    let mut done = Some(done);
    let both = Interest::READABLE | Interest::WRITABLE;
    let id = reactor.register(connecting, both, move |reactor, state, id, _| {
        let Some(result) = outcome(reactor, id) else { return };
        if let Some(done) = done.take() {
            done(reactor, state, result);
        }
    })?;
    look_again(reactor, id);
    Ok(id)
}

/// Takes a connecting that has ended out of the loop and returns its result; else `None`.
fn outcome<S: 'static, C: Connector>(
    reactor: &mut Context<S>,
    id: SourceId<Connecting<C>>,
) -> Option<io::Result<Stream>> {
    let tick = reactor.tick();
    let connecting = &mut reactor[id];
    let result = match connecting.connector.outcome() {
        Some(result) => result,
        // For any readiness: if a deadline that is up was armed again, it would wait a turn (R3).
        None if connecting.until <= tick => Err(io::ErrorKind::TimedOut.into()),
        None => {
            look_again(reactor, id);
            return None;
        }
    };
    let Connecting { connector, first, .. } = reactor.deregister(id)?;
    Some(match result {
        Ok(()) => {
            let mut stream = connector.stream(Group::new(Limits::default()));
            if !first.is_empty() {
                let _ = stream.write(&first); // It fits; `Closed` reports a failure.
            }
            Ok(stream)
        }
        Err(error) => Err(connector.explain(error)),
    })
}

/// Arms the deadline for the next look: the last is when it is given up.
fn look_again<S: 'static, C: Connector>(reactor: &mut Context<S>, id: SourceId<Connecting<C>>) {
    let connecting = &reactor[id];
    let (until, again) = (connecting.until, connecting.connector.ask_again());
    let next = again.map_or(until, |delay| reactor.tick_after(delay).min(until));
    reactor.set_deadline(id, Some(next));
}
