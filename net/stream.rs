//! A stream on its way into the loop: accepted, connected, or handed over, and not yet opened.
//!
//! Knows how to register a connection; `drive.rs` does the rest.
//!
//! # Read next
//! `transport.rs`: the transport that carries it.

use std::net::SocketAddr;

use socket2::SockRef;

use super::conn::{Conn, Rare};
use super::deadline::arm;
use super::drive::drive;
use super::event::{Event, Pressure};
use super::group::Group;
use super::handler::{EofAtCut, Handler, HandlerFn, NUDGE};
use super::limits::Limits;
use super::states::{Closing, Receiving, Sending, fact};
use super::transport::{Carrier, Transport};
use crate::reactor::{Context, Interest, Options, SourceId};

/// A connected stream that has no handler yet. Open it; dropping it closes the connection.
#[derive(Debug)]
#[must_use = "dropping it closes the connection"]
pub struct Stream {
    pub(super) conn: Conn,
    pub(super) peer: Option<SocketAddr>,
}

impl Stream {
    pub(super) fn tcp(
        stream: mio::net::TcpStream,
        group: Group,
        peer: Option<SocketAddr>,
    ) -> Stream {
        Stream { conn: Conn::new(Carrier::Tcp(stream), group), peer }
    }

    /// Its TCP socket, for options; `None` if the transport is another.
    pub(super) fn socket(&self) -> Option<SockRef<'_>> {
        match &self.conn.io {
            Carrier::Tcp(stream) => Some(SockRef::from(stream)),
            Carrier::Other(_) => None,
        }
    }

    /// A stream over anything that can carry one.
    pub fn over<T: Transport + 'static>(transport: T) -> Stream {
        Stream::carried(Box::new(transport), Group::new(Limits::default()))
    }

    pub(super) fn carried(transport: Box<dyn Transport>, group: Group) -> Stream {
        let peer = transport.peer_addr().ok();
        Stream { conn: Conn::new(Carrier::Other(transport), group), peer }
    }

    /// A stream that has one half only. No event reports the end of the other: a reader refuses
    /// writes, and is closed after `Eof`; a writer gets neither `Data` nor `Eof`.
    pub fn one_way<T: Transport + 'static>(transport: T, reads: bool) -> Stream {
        let mut stream = Stream::over(transport);
        match reads {
            true => stream.conn.sending = Sending::Finished,
            false => stream.conn.receiving = Receiving::Finished,
        }
        stream
    }

    /// The peer's address, where it has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The process at the other end; see [`Conn::peer_cred`].
    ///
    /// # Errors
    /// As there.
    #[cfg(all(unix, feature = "peer-cred"))]
    pub fn peer_cred(&self) -> std::io::Result<super::cred::Credentials> {
        self.conn.peer_cred()
    }

    /// Sets the limits the connection begins with.
    pub fn limits(mut self, limits: Limits) -> Stream {
        self.conn.set_limits(limits);
        self
    }

    /// Changes some of the limits (usually those of its listener) for this connection alone.
    ///
    /// ```
    /// use waterwheel::{Reactor, net::{Rate, tcp}};
    ///
    /// let mut reactor = Reactor::<()>::new()?;
    /// tcp::listen(&mut reactor, "127.0.0.1:0", |reactor, _, incoming| {
    ///     let slow = Rate::new(100_000, 0);
    ///     incoming
    ///         .adjust_limits(|limits| limits.read_rate = Some(slow))
    ///         .open(reactor, |_, _, _, event| println!("{event:?}"));
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn adjust_limits(self, change: impl FnOnce(&mut Limits)) -> Stream {
        let mut limits = self.conn.limits().clone();
        change(&mut limits);
        self.limits(limits)
    }

    /// Counts it among a server's connections, which a [`drain`](super::drain()) ends. Those that a
    /// listener has accepted are; a stream over a transport that wraps one of them needs this call.
    pub fn accepted(mut self) -> Stream {
        self.conn.group = self.conn.group.accepted();
        self
    }

    /// Sends bytes as soon as it is open, before any that are written later.
    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        self.conn.write(bytes)
    }

    /// Delivers these bytes as if the peer had sent them, before the bytes that it does send: for a
    /// program that takes over a connection in the middle of its input.
    pub fn unread(mut self, bytes: &[u8]) -> Stream {
        if !bytes.is_empty() {
            self.conn.backlog.get_or_insert_default().bytes.extend_from_slice(bytes);
            self.conn.read_again();
        }
        self
    }

    /// Makes it one end of a link: half open and not paused. If the input has ended already, `Eof`
    /// is delivered again.
    pub(super) fn linked(mut self) -> Stream {
        self.conn.facts |= fact::LINKED;
        self.conn.resume();
        if self.conn.is_read_out() && !self.conn.has_failed() && !self.conn.io.is_one_way() {
            self.conn.receiving = Receiving::Resuming; // Reading past the end returns the same again.
            self.conn.rare = None;
        }
        self
    }

    /// Hands the stream to the loop and its events to `handler`. If the system refuses to watch
    /// it, the handler gets `Closed` in the next turn.
    ///
    /// # Panics
    /// With more sources than a token can number: 2^31, or 2^19 on 32-bit targets.
    #[track_caller]
    pub fn open<S, F>(self, reactor: &mut Context<S>, handler: F) -> SourceId<Conn>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + 'static,
    {
        self.open_handled(reactor, handler)
    }

    /// [`open`](Stream::open) with a handler that gets `Eof` also for an input that was cut.
    #[track_caller]
    pub fn open_with_eof_at_cut<S, F>(self, reactor: &mut Context<S>, handler: F) -> SourceId<Conn>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + 'static,
    {
        self.open_handled(reactor, EofAtCut(handler))
    }

    #[track_caller]
    fn open_handled<S: 'static>(
        self,
        reactor: &mut Context<S>,
        mut handler: impl HandlerFn<S> + 'static,
    ) -> SourceId<Conn> {
        let closes = self.conn.io.has_one_peer();
        let options = Options { flush: true, closes, ..Options::default() };
        let both = Interest::READABLE | Interest::WRITABLE;
        let drive = move |reactor: &mut _, state: &mut _, id, ready| {
            drive(reactor, state, id, ready, &mut handler);
        };
        let id = reactor.register_sure(self.conn, both, options, drive);
        let conn = &reactor[id];
        let timed = conn.group.is_timed();
        let open = conn.sending == Sending::Open && conn.receiving < Receiving::Resuming;
        let waits = !open || conn.unsent() > 0;
        let left = conn.is_read_out() && conn.backlog.is_some();
        if timed {
            arm(reactor, id);
        }
        if left {
            reactor.send(id, NUDGE); // Its handler before has left some of the input.
        }
        if waits {
            reactor.get_mut(id); // Borrowed, so it is flushed and read before the loop sleeps.
        }
        id
    }

    /// [`open`](Stream::open) with a handler that is a struct.
    #[track_caller]
    pub fn open_with<S, H>(self, reactor: &mut Context<S>, mut handler: H) -> SourceId<Conn>
    where
        S: 'static,
        H: Handler<S>,
    {
        self.open(reactor, move |reactor, state, conn, event| match event {
            Event::Data(bytes) => handler.data(reactor, state, conn, bytes),
            Event::Drained => handler.drained(reactor, state, conn),
            Event::Eof => handler.eof(reactor, state, conn),
            Event::Closed(why) => handler.closed(reactor, state, conn, why),
        })
    }
}

/// A connection that was deregistered can be opened again, with another handler: its unsent and
/// unread bytes are still there.
impl From<Conn> for Stream {
    fn from(mut conn: Conn) -> Stream {
        conn.facts &= fact::HELD | fact::DRAINING;
        if conn.was_closed() {
            conn.closing = Closing::Asked;
        }
        if let Some(rare) = &mut conn.rare {
            **rare = Rare { reason: rare.reason.take(), lost: rare.lost, ..Rare::default() };
        }
        conn.read_again();
        conn.group.clear_closes_itself();
        conn.last_traffic = None; // Its time out of the loop does not count.
        if let Some(outbox) = &mut conn.outbox {
            outbox.since = None;
        }
        Stream { peer: conn.peer_addr().ok(), conn }
    }
}
