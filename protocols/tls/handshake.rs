//! The handshake: from a stream to one over TLS.
//!
//! Knows the loop and a transport that is not ready yet; the protocol is in `session.rs`.
//!
//! It is a source of its own, with its deadline, so that a connection is ready for its handler from
//! the beginning. When it is over its transport leaves the loop, becomes a [`Stream`],
//! and comes back when that is opened.
//!
//! One that fails sends the reason to the peer, as an alert, and closes as a connection does. A
//! socket that is closed while the peer still sends is reset, and that could destroy the alert on
//! its way.
//!
//! # Read next
//! `tls_transport.rs`: the transport of the connection from then on.

use std::fmt;
use std::io;
use std::mem;
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::failure::cut_off;
use super::session::Session;
use super::tls_transport::Tls;
use crate::net::Stream;
use crate::net::authors::{Carrier, Drainable, Rest, drain_too};
use crate::reactor::{Context, Options, Readiness, SourceId};
use crate::timers::Tick;

/// How long a handshake may take by default. 10 s: three round trips and a signature take one
/// second on the worst of lines.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A handshake under way. Remove its source to cancel it: the connection is closed, and no callback
/// comes.
pub struct Handshake {
    /// The transport of the later connection; or the error because of which it was not begun.
    tls: Result<Tls, io::Error>,
    /// All of the stream except its carrier.
    rest: Rest,
    /// The tick at which it is given up.
    until: Tick,
    timeout: Duration,
}

impl Handshake {
    fn begin(stream: Stream, session: io::Result<Session>) -> Handshake {
        let (parts, rest) = stream.take_apart();
        let tls = match (parts, session) {
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(parts), Ok(session)) => {
                Ok(Tls::new(parts.carrier, session, &parts.unsent, &parts.unread))
            }
        };
        Handshake { tls, rest, until: Tick::START, timeout: Duration::ZERO }
    }

    /// Goes on with it. Returns true when it is over.
    fn advance(&mut self, ready: Readiness, tick: Tick) -> io::Result<bool> {
        let tls = match &mut self.tls {
            Ok(tls) => tls,
            Err(error) => return Err(mem::replace(error, io::ErrorKind::Other.into())),
        };
        match tls.advance_handshake() {
            Ok(false) if ready.contains(Readiness::DEADLINE) && self.until <= tick => {
                let text = format!("no TLS handshake within {:?}", self.timeout);
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
            // A write may be the first to notice that the peer has gone.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(cut_off(true)),
            result => result,
        }
    }

    /// The stream, over TLS from now on.
    fn finish(self) -> Option<Stream> {
        // Some input may have come with the last message.
        Some(self.rest.over(Carrier::of(self.tls.ok()?)))
    }
}

/// Its connection is closed as soon as it is idle, if it is a server's.
impl Drainable for Handshake {
    fn drain(&mut self) {
        self.rest.drain();
    }
}

/// Registers the handshake and calls `done` when it is over.
#[track_caller]
pub(super) fn start<S, F>(
    reactor: &mut Context<S>,
    stream: Stream,
    session: io::Result<Session>,
    timeout: Duration,
    done: F,
) -> SourceId<Handshake>
where
    S: 'static,
    F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
{
    drain_too::<S, Handshake>(reactor);
    let closes = stream.closes_when_dropped();
    let mut handshake = Handshake::begin(stream, session);
    handshake.until = reactor.tick_after(timeout);
    handshake.timeout = timeout;
    let until = handshake.until;
    let mut done = Some(done);
    let both = Interest::READABLE | Interest::WRITABLE;
    let options = Options { closes, ..Options::default() };
    let call = move |reactor: &mut Context<S>, state: &mut S, id, ready| {
        if let Some(result) = drive(reactor, id, ready)
            && let Some(done) = done.take()
        {
            done(reactor, state, result);
        }
    };
    let id = reactor.register_sure(handshake, both, options, call);
    reactor.set_deadline(id, Some(until));
    reactor.resume(id, Readiness::READABLE); // A client speaks first, and a failure at once.
    id
}

/// How the handshake has ended, with its source taken out of the loop; `None` if it has not.
fn drive<S: 'static>(
    reactor: &mut Context<S>,
    id: SourceId<Handshake>,
    ready: Readiness,
) -> Option<io::Result<Stream>> {
    let tick = reactor.tick();
    let handshake = &mut reactor[id];
    match handshake.advance(ready, tick) {
        Ok(false) => {
            if handshake.tls.as_ref().is_ok_and(Tls::stopped_early) {
                reactor.resume(id, Readiness::READABLE);
            }
            None
        }
        Ok(true) => reactor.deregister(id)?.finish().map(Ok),
        Err(error) => {
            if let Handshake { tls: Ok(tls), rest, .. } = reactor.deregister(id)? {
                part(reactor, tls, rest, &error);
            }
            Some(Err(error))
        }
    }
}

/// Closes after a failure that was announced to the peer. Its further input is discarded until it
/// has gone, or the grace of a close is up.
fn part<S: 'static>(reactor: &mut Context<S>, tls: Tls, rest: Rest, why: &io::Error) {
    if why.kind() != io::ErrorKind::InvalidData {
        return; // It has gone, or never said anything.
    }
    let alert = tls.unsent().to_vec();
    let mut stream = rest.without_marks().over(tls.carrier);
    stream.write_last(&alert); // The limit is for the program's own bytes.
    let id = stream.open(reactor, |_, _, _, _| {});
    reactor[id].close();
}

/// If the selector refuses it, it has failed.
impl Source for Handshake {
    fn register(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        if let Ok(tls) = &mut self.tls
            && let Err(error) = tls.register(registry, token, what)
        {
            self.tls = Err(error);
        }
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| tls.reregister(registry, token, what))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| tls.deregister(registry))
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("tls", &self.tls).finish_non_exhaustive()
    }
}
