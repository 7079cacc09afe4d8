//! A stream on its way into the loop: accepted, connected, or handed over, and not yet opened.
//!
//! Knows how to register a connection; what happens then is in `drive.rs`.
//!
//! # Read next
//! `transport.rs`: what carries it.

use std::net::SocketAddr;

use socket2::SockRef;

use super::conn::{Conn, Half, mark};
use super::deadline::arm;
use super::drive::{HandlerFn, HearsCuts, drive};
use super::event::{Event, Handler, Pressure};
use super::limits::{Limits, Seat};
use super::transport::{Carrier, Transport};
use crate::reactor::{Context, Interest, Options, SourceId};

/// A connected stream that nobody handles yet: open it, or drop it and the peer is closed.
#[derive(Debug)]
#[must_use = "dropping it closes the connection"]
pub struct Stream {
    pub(crate) conn: Conn,
    pub(super) peer: Option<SocketAddr>,
}

impl Stream {
    pub(super) fn tcp(stream: mio::net::TcpStream, seat: Seat, peer: Option<SocketAddr>) -> Stream {
        Stream { conn: Conn::new(Carrier::Tcp(stream), seat), peer }
    }

    /// Its socket, if nothing is between: for options.
    pub(super) fn socket(&self) -> Option<SockRef<'_>> {
        match &self.conn.io {
            Carrier::Tcp(stream) => Some(SockRef::from(stream)),
            Carrier::Other(_) => None,
        }
    }

    /// A stream over anything that can carry one.
    pub fn over<T: Transport + 'static>(transport: T) -> Stream {
        Stream::carried(Box::new(transport), Seat::first(Limits::default()))
    }

    pub(super) fn carried(transport: Box<dyn Transport>, seat: Seat) -> Stream {
        let peer = transport.peer_addr().ok();
        Stream { conn: Conn::new(Carrier::Other(transport), seat), peer }
    }

    /// A stream that has one half only. Nobody hears the other one end: a reader refuses writes,
    /// and is closed after `Eof`; a writer is told neither `Data` nor `Eof`.
    pub fn one_way<T: Transport + 'static>(transport: T, reads: bool) -> Stream {
        let mut stream = Stream::over(transport);
        let absent = if reads { &mut stream.conn.sending } else { &mut stream.conn.receiving };
        *absent = Half::Finished;
        stream
    }

    /// The peer's address, where it has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Who is at the other end; see [`Conn::peer_cred`].
    ///
    /// # Errors
    /// As there.
    #[cfg(all(unix, feature = "peer-cred"))]
    pub fn peer_cred(&self) -> std::io::Result<super::unix::Credentials> {
        self.conn.peer_cred()
    }

    /// Sets the limits the connection begins with.
    pub fn limits(mut self, limits: Limits) -> Stream {
        self.conn.set_limits(limits);
        self
    }

    /// Changes some of the limits, those of its listener as a rule, for this connection alone.
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
    /// listener has accepted are; one over a transport that wraps such a one needs to be told.
    pub fn accepted(mut self) -> Stream {
        self.conn.seat = self.conn.seat.accepted();
        self
    }

    /// Sends bytes as soon as it is open, before any that are written then.
    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        self.conn.write(bytes)
    }

    /// Delivers bytes as if they came from the peer, before any that do: for whoever takes over a
    /// connection in the middle of its input.
    pub fn unread(mut self, bytes: &[u8]) -> Stream {
        if !bytes.is_empty() {
            self.conn.backlog.get_or_insert_default().bytes.extend_from_slice(bytes);
            self.conn.marks |= mark::RESUMED;
        }
        self
    }

    /// As one end of a link: half open, not paused, and told again that the peer has finished if
    /// whoever had it was told already.
    pub(super) fn linked(mut self) -> Stream {
        self.conn.marks |= mark::LINKED;
        self.conn.marks &= !mark::PAUSED;
        if self.conn.is_read_out() && !self.conn.has_failed() && !self.conn.io.is_one_way() {
            self.conn.receiving = Half::Open; // Reading past the end answers the same again.
            self.conn.end = None;
        }
        self
    }

    /// Hands the stream to the loop and its events to `handler`. Should the system refuse to watch
    /// it, the handler is told so by `Closed` in the next turn.
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

    /// [`open`](Stream::open) with a handler that is told `Eof` of an input that was cut, too.
    #[track_caller]
    pub fn open_hearing_cuts<S, F>(self, reactor: &mut Context<S>, handler: F) -> SourceId<Conn>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + 'static,
    {
        self.open_handled(reactor, HearsCuts(handler))
    }

    #[track_caller]
    fn open_handled<S: 'static>(
        self,
        reactor: &mut Context<S>,
        mut handler: impl HandlerFn<S> + 'static,
    ) -> SourceId<Conn> {
        let closes = self.conn.io.is_one_peer();
        let options = Options { flush: true, closes, ..Options::default() };
        let both = Interest::READABLE | Interest::WRITABLE;
        let drive = move |reactor: &mut _, state: &mut _, id, ready| {
            drive(reactor, state, id, ready, &mut handler);
        };
        let id = reactor.register_sure(self.conn, both, options, drive);
        let conn = &reactor[id];
        let (timed, waits) = (
            conn.seat.is_timed(),
            conn.has(mark::RESUMED) || conn.unsent() > 0 || conn.sending == Half::Finished,
        );
        if timed {
            arm(reactor, id);
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
        conn.marks &= mark::PAUSED
            | mark::ABOVE
            | mark::WHOLE
            | mark::CLOSING
            | mark::LAST_WORDS
            | mark::CUT_OFF
            | mark::HELD
            | mark::DRAINING;
        conn.marks |= mark::RESUMED;
        conn.seat.forget_farewell();
        conn.heard = None; // Its time out of the loop does not count.
        if let Some(outbox) = &mut conn.outbox {
            outbox.since = None;
        }
        Stream { peer: conn.peer_addr().ok(), conn }
    }
}
