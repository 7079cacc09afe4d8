//! For authors of protocols: operations on a stream that a protocol needs and a program does not.
//!
//! Knows connections and streams; never mentions a protocol. The protocols in `../protocols/` use
//! these and other public items, and so can yours: `../examples/more/vault.rs` is one, in a package
//! of its own.
//!
//! A protocol is a handler between a stream and the program. Five things come up:
//!
//! | a protocol wants to | and has |
//! |---|---|
//! | put itself between a stream and its transport, as TLS does | [`Stream::take_apart`], [`Transport`], [`Rest::over`] |
//! | hand the stream on to another handler, in the middle of its input | [`Context::deregister`], [`Stream::unread`] |
//! | answer later, from outside of a callback | [`Conn::hold`], [`SourceId::nudge`], [`nudge_by`] |
//! | take all of a message or none of it, and say when there is room again | [`Conn::admits`], [`Conn::write_all`], [`Conn::ask_for_drained`] |
//! | end in order | [`Conn::is_drained`], [`Stream::closes_itself`], [`Conn::close_at_once`] |
//!
//! A protocol may hold bytes for a connection, such as a body or the parts of a message. It counts
//! them by [`SourceId::charge`], so that the [`BufferBudget`](super::BufferBudget) includes them.
//!
//! # Read next
//! `../protocols/tls/handshake.rs`: a stream is taken apart, and put together again.

use std::any::Any;
use std::io;

pub use super::address::{parse_port, split, without_zone};
use super::conn::Conn;
use super::cork::Cork;
pub use super::drain::{Drainable, drain_too};
use super::event::{Pressure, Reason};
use super::group::Group;
use super::handler::{LOOK_AND_READ, NUDGE};
use super::relief;
use super::states::{Sending, fact};
use super::stream::Stream;
pub use super::transport::Carrier;
use super::transport::Transport;
use crate::reactor::{Context, Resumer, SourceId};
use crate::timers::Stamp;

/// The parts of a stream: its carrier, and the bytes that were on their way.
#[derive(Debug)]
pub struct Parts {
    /// The carrier of the stream.
    pub carrier: Carrier,
    /// Bytes that were written and are not sent.
    pub unsent: Vec<u8>,
    /// Bytes that have come and were not consumed.
    pub unread: Vec<u8>,
}

/// The rest of a connection, which stays when another transport carries it: its limits, its
/// membership in the group of its listener's connections, and a mark if it is to be drained.
#[derive(Debug)]
pub struct Rest {
    group: Group,
    /// `Open`, `Full` or `FullToTheEnd`.
    sending: Sending,
    is_paused: bool,
    /// Of the facts, these stay: `HELD`, `DRAINING`.
    facts: u8,
}

impl Rest {
    /// If it belongs to a server: the stream that it becomes is closed as soon as that is idle.
    pub fn drain(&mut self) {
        if self.group.is_accepted() {
            self.facts |= fact::DRAINING;
        }
    }

    /// Forgets that the stream was paused, held, or to be drained.
    pub fn without_marks(self) -> Rest {
        Rest { sending: Sending::Open, is_paused: false, facts: 0, ..self }
    }

    /// A stream with these limits. When it is opened it is read first: some input may be there
    /// already.
    pub fn over(self, carrier: Carrier) -> Stream {
        let mut conn = Conn::new(carrier, self.group);
        conn.sending = self.sending;
        conn.facts = self.facts;
        if self.is_paused {
            conn.pause();
        }
        Stream::from(conn)
    }
}

impl Stream {
    /// Takes the stream apart, so that a layer can be put between it and its transport. If the
    /// stream is over, or half closed, an error with the reason comes in place of the parts. The
    /// rest comes in any case: until it is dropped, the stream counts among those of its listener.
    pub fn take_apart(self) -> (io::Result<Parts>, Rest) {
        let mut conn = self.conn;
        let over = match conn.rare.take().and_then(|rare| rare.reason) {
            Some(reason) => Some(into_error(reason)),
            None if !conn.sending.is_open() || conn.is_read_out() => {
                Some(io::ErrorKind::NotConnected.into())
            }
            None => None,
        };
        let unsent: Vec<u8> = conn.outbox.take().map_or(Vec::new(), |outbox| outbox.bytes.into());
        let unread = conn.backlog().to_vec();
        let (sending, is_paused) = (conn.sending, conn.is_paused());
        let facts = conn.facts & (fact::HELD | fact::DRAINING);
        let Conn { io: carrier, group, .. } = conn;
        let parts = over.map_or(Ok(Parts { carrier, unsent, unread }), Err);
        (parts, Rest { group, sending, is_paused, facts })
    }

    /// See [`Conn::write_last`].
    pub fn write_last(&mut self, bytes: &[u8]) {
        self.conn.write_last(bytes);
    }

    /// See [`Conn::transport`].
    pub fn transport<T: Transport>(&self) -> Option<&T> {
        self.conn.transport()
    }

    /// Returns true if dropping its carrier closes it: no other process has this end.
    pub fn closes_when_dropped(&self) -> bool {
        self.conn.io.has_one_peer()
    }

    /// From now on a drain leaves it to the handler to close it, since the protocol has to announce
    /// its own end first: the handler is [nudged](SourceId::nudge) when nothing is in flight. Has
    /// no effect and returns false if it is not a server's: a drain does not touch it.
    pub fn closes_itself(&mut self) -> bool {
        let is_accepted = self.conn.group.is_accepted();
        if is_accepted {
            self.conn.group.set_closes_itself();
        }
        is_accepted
    }

    /// Connections of its listener that are open, this one among them.
    pub fn connections(&self) -> usize {
        self.conn.group.connections()
    }
}

fn into_error(reason: Reason) -> io::Error {
    match reason {
        Reason::Error(error) => error,
        Reason::Reset => io::ErrorKind::ConnectionReset.into(),
        other => io::Error::new(io::ErrorKind::NotConnected, other.to_string()),
    }
}

impl Conn {
    /// Its transport, if that is a `T`: a protocol below may know more about the connection.
    pub fn transport<T: Transport>(&self) -> Option<&T> {
        let Carrier::Other(transport) = &self.io else { return None };
        let any: &dyn Any = &**transport;
        any.downcast_ref()
    }

    /// Returns true if nothing is under way in either direction, so that it can carry another
    /// exchange. With `probe` the transport is asked, too: this finds bytes and a FIN that the peer
    /// has sent since the last read.
    pub fn is_quiet(&mut self, probe: bool) -> bool {
        let open = self.sending.is_open() && !self.receiving.is_over() && self.reason().is_none();
        let still = self.unsent() == 0 && self.backlog().is_empty();
        open && still && (!probe || self.io.transport().is_silent())
    }

    /// Announces the end, where dropping does not, as far as that is possible without waiting: TLS
    /// wants a close_notify even if this end waits for no answer to it (RFC 8446, 6.1).
    pub fn announce_end(&mut self) {
        if self.io.must_announce_end() {
            let _ = self.io.transport().finish(); // A peer that has gone needs none.
        }
    }

    /// Takes all of the pieces or none, as one write would.
    pub fn write_all(&mut self, pieces: &[&[u8]]) -> Pressure {
        if !self.admits(pieces.iter().map(|piece| piece.len()).sum()) {
            return self.refusal();
        }
        pieces.iter().fold(Pressure::Below, |_, piece| self.write(piece))
    }

    /// Takes a few bytes that end a message, even beyond the limit.
    pub fn write_last(&mut self, bytes: &[u8]) {
        if self.sending.is_open() {
            self.outbox.get_or_insert_with(Cork::spare).bytes.extend(bytes);
        }
    }

    /// Asks for `Drained` although nothing was refused: a caller that holds bytes back needs to
    /// know when there is room. It comes at once if there is.
    pub fn ask_for_drained(&mut self) {
        self.sending.ask_for_drained(Sending::Full);
    }

    /// Returns true while [`Drained`](super::Event::Drained) is to come.
    pub fn awaits_drained(&self) -> bool {
        self.sending.awaits_drained()
    }

    /// Asks for `Drained` when all is sent, not at the low-water mark: the refused bytes fit into an
    /// empty outbox only.
    pub fn ask_for_drained_when_empty(&mut self) {
        self.sending.ask_for_drained(Sending::FullToTheEnd);
    }

    /// Returns true if it is being drained: it is to be closed as soon as it is idle.
    pub fn is_draining(&self) -> bool {
        self.has(fact::DRAINING)
    }

    /// Returns true if unsent bytes wait for the peer or for a rate, and not only for the end of the
    /// turn.
    pub fn waits_to_send(&self) -> bool {
        self.has(fact::BLOCKED) || self.is_write_throttled()
    }

    /// Returns true if input may be there that is not read now: reading is paused, is about to go on,
    /// or is slowed down by a rate.
    pub fn is_reading_held(&self) -> bool {
        self.receiving.is_held()
    }

    /// Notes that the protocol has just done something for the peer. A drain waits a moment from then
    /// on: the peer may be about to ask again.
    pub fn note_traffic(&mut self, now: Stamp) {
        self.last_traffic = Some(now);
    }
}

impl SourceId<Conn> {
    /// Calls the handler in the next turn: something that it waits for has happened elsewhere. It
    /// gets `Data` with the bytes that it gave back, or with none, even while reading is paused. It
    /// gets nothing if the connection is closing by then. False if the connection is gone.
    pub fn nudge<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        reactor.send(self, NUDGE)
    }

    /// Reads the connection in the next turn, also without an event. False if it is gone.
    pub fn look<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        reactor.send(self, LOOK_AND_READ)
    }

    /// Counts the bytes that a protocol holds for a connection, in place of the number before. If
    /// all together hold too much, the largest is closed right after this callback. Returns false
    /// if there is no room for more: a handler that then refuses, and charges 0, is not closed for
    /// it.
    ///
    /// It counts until the connection is gone, also while a close waits for the peer. So charge 0
    /// if the bytes are freed earlier.
    #[track_caller]
    pub fn charge<S: 'static>(self, reactor: &mut Context<S>, bytes: usize) -> bool {
        relief::charge(reactor, self, bytes)
    }
}

/// [`nudge`](SourceId::nudge) from where no [`Context`] is at hand.
pub fn nudge_by(resumer: &Resumer, conn: SourceId<Conn>) {
    resumer.send(conn, NUDGE);
}
