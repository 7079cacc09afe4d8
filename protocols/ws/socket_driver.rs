//! The loop's side of a WebSocket: it handles the events of the connection.
//!
//! Knows the decoder and the connection; the same code drives servers' and clients'.
//!
//! # Rules
//! 1. `Closed` is delivered exactly once, for every kind of end, and is the last event.
//! 2. A message is delivered whole, once and in order, until either end has sent Close. None is
//!    delivered while it is paused.
//! 3. A ping is answered before anything behind it is delivered.
//!
//! # Read next
//! `outgoing.rs`: from a payload to bytes.

use std::mem;
use std::rc::Rc;

use super::close::{ClosePayload, code};
use super::decoder::{Decoder, Incoming, Step, put_shared, take_shared};
use super::frame::Role;
use super::outgoing;
use super::socket::{Socket, SocketState};
use super::socket_event::{Event, Reason};
use super::socket_limits::Limits;
use super::timeouts;
use crate::net::{self, Conn, Stream};
use crate::reactor::{Context, SourceId};

/// A handler. It may change anything, also this socket.
pub(super) trait HandlerFn<S>:
    FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static
{
}
impl<S, F: FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static> HandlerFn<S> for F {}

/// Opens a WebSocket over a stream on which both ends have agreed to speak it: the handshake is
/// done, in any way. [`accept`](super::accept) and [`connect`](super::connect) do it.
///
/// ```
/// use waterwheel::{Reactor, net::memory, protocols::ws};
///
/// let mut reactor = Reactor::new()?;
/// let (left, right) = memory::pair(&mut reactor);
/// let limits = ws::Limits::default;
/// ws::open(&mut reactor, left, ws::Role::Server, limits(), |reactor, _, socket, event| {
///     if let ws::Event::Text(text) = event {
///         let _ = socket.text(reactor, &text.to_uppercase());
///         socket.close(reactor, ws::code::NORMAL, "that was all");
///     }
/// });
/// let client = ws::open(&mut reactor, right, ws::Role::Client, limits(), {
///     |_, log: &mut String, _, event| match event {
///         ws::Event::Text(text) => log.push_str(text),
///         ws::Event::Closed(reason) => log.push_str(&format!(", {reason}")),
///         _ => {}
///     }
/// });
/// let _ = client.text(&mut reactor, "hello");
/// let mut log = String::new();
/// reactor.run(&mut log)?;
/// assert_eq!(log, "HELLO, code 1000 \"that was all\"");
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn open<S, F>(
    reactor: &mut Context<S>,
    stream: Stream,
    role: Role,
    limits: impl Into<Rc<Limits>>,
    handler: F,
) -> Socket
where
    S: 'static,
    F: FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static,
{
    let socket = Socket::new(role, limits.into(), None);
    attach(reactor, stream, &socket, handler, false);
    socket
}

/// Puts a socket on its stream. If `open_due`, its handler gets `Open` before anything else.
#[track_caller]
pub(super) fn attach<S: 'static>(
    reactor: &mut Context<S>,
    stream: Stream,
    socket: &Socket,
    handler: impl HandlerFn<S>,
    open_due: bool,
) {
    let mut stream = stream;
    stream.closes_itself();
    let decoder = Decoder::new(socket.0.role);
    let mut driver =
        Driver { socket: socket.clone(), decoder, busy: false, charged: 0, open_due, handler };
    let id = stream.open(reactor, move |reactor, state, id, event| match event {
        net::Event::Data(input) => driver.receive(reactor, state, id, input),
        net::Event::Drained => driver.drained(reactor, state),
        net::Event::Eof => reactor[id].close(), // Also if its limits allow half-open connections.
        net::Event::Closed(reason) => driver.closed(reactor, state, reason),
    });
    socket.0.conn.set(Some(id));
    socket.0.state.set(SocketState::Open);
    if open_due && let Some(conn) = reactor.get_mut(id) {
        conn.ask_for_drained(); // `Open` is delivered then, or before the first input.
    }
    timeouts::opened(socket, reactor);
}

/// Ends it because of a violation or a panic: the peer gets a Close, and nothing more is read.
pub(super) fn fail<S: 'static>(socket: &Socket, reactor: &mut Context<S>, reason: Reason) {
    let code = match &reason {
        Reason::Violation(violation) => violation.code(),
        _ => code::INTERNAL,
    };
    let text = match &reason {
        Reason::Violation(violation) => violation.to_string(),
        _ => String::new(),
    };
    let was_open = socket.is_open();
    socket.end_with(reason);
    if was_open {
        outgoing::close(socket, reactor, ClosePayload::new(code, &text), true);
    } else {
        outgoing::end(socket, reactor); // It got a Close before.
    }
    timeouts::closing(socket, reactor);
}

/// A socket, its decoder, and its handler.
struct Driver<F> {
    socket: Socket,
    decoder: Decoder,
    /// True while input is being handed out. If it is still true at the next call, the handler has
    /// panicked.
    busy: bool,
    /// Bytes that are charged for a message that has begun.
    charged: usize,
    /// True if `Open` is still to be delivered.
    open_due: bool,
    handler: F,
}

impl<F> Driver<F> {
    fn receive<S: 'static>(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        input: &[u8],
    ) where
        F: HandlerFn<S>,
    {
        self.socket.0.timeouts.received();
        if mem::replace(&mut self.busy, true) {
            fail(&self.socket, reactor, Reason::Panicked);
        }
        // If a handler panics, the bytes behind its message are lost, and no more may come: the socket
        // is called again to end.
        let end = |reactor: &mut Context<S>, _: &mut Self, returned: bool| {
            if !returned {
                id.nudge(reactor);
            }
        };
        let mut at = 0;
        reactor.lend(&mut *self, end, |reactor, driver| {
            at = driver.decode_all(reactor, state, id, input);
        });
        self.busy = false;
        if self.socket.0.state.get() == SocketState::Over {
            return;
        }
        if let Some(conn) = reactor.get_mut(id) {
            conn.unread(input.len() - at);
        }
        let charged = self.decoder.held_bytes();
        if charged != mem::replace(&mut self.charged, charged) {
            id.charge(reactor, charged); // A limit of its own refuses a message that is too big.
        }
        let since = self.decoder.begun(|| reactor.stamp());
        timeouts::in_message(&self.socket, reactor, since);
        if at == input.len() && since.is_none() {
            self.close_if_draining(reactor, id);
        }
    }

    /// Hands out the messages in `input`. Returns how many bytes of it were used.
    #[inline]
    fn decode_all<S: 'static>(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        input: &[u8],
    ) -> usize
    where
        F: HandlerFn<S>,
    {
        self.deliver_open(reactor, state);
        let mut shared = take_shared();
        let mut at = 0;
        while self.wants_more(reactor, id) {
            match self.decoder.decode(&self.socket.0.limits, &input[at..], &mut shared) {
                Ok(Step { consumed, incoming }) => {
                    at += consumed;
                    let Some(incoming) = incoming else { break };
                    self.take(reactor, state, incoming);
                }
                Err(violation) => fail(&self.socket, reactor, Reason::Violation(violation)),
            }
        }
        put_shared(shared);
        at
    }

    /// A drain closes it when nothing is in flight, half a message included.
    fn close_if_draining<S: 'static>(&self, reactor: &mut Context<S>, id: SourceId<Conn>) {
        if self.socket.is_open() && reactor.get(id).is_some_and(Conn::is_drained) {
            self.socket.close(reactor, code::AWAY, "");
        }
    }

    #[inline]
    fn deliver_open<S: 'static>(&mut self, reactor: &mut Context<S>, state: &mut S)
    where
        F: HandlerFn<S>,
    {
        if mem::take(&mut self.open_due) && self.socket.is_open() {
            (self.handler)(reactor, state, &self.socket, Event::Open);
        }
    }

    /// Returns true if input is still wanted: the handler may have closed or paused the connection
    /// when it got the last message.
    #[inline]
    fn wants_more<S: 'static>(&self, reactor: &Context<S>, id: SourceId<Conn>) -> bool {
        self.socket.0.state.get() != SocketState::Over
            && reactor.get(id).is_some_and(|conn| !conn.is_closing() && !conn.is_paused())
    }

    #[inline]
    fn take<S: 'static>(&mut self, reactor: &mut Context<S>, state: &mut S, incoming: Incoming<'_>)
    where
        F: HandlerFn<S>,
    {
        let open = self.socket.is_open();
        let event = match incoming {
            Incoming::Text(text) => Event::Text(text),
            Incoming::Binary(bytes) => Event::Binary(bytes),
            Incoming::Pong(payload) => Event::Pong(payload),
            Incoming::Ping(payload) if open => {
                return outgoing::pong(&self.socket, reactor, payload);
            }
            Incoming::Ping(_) => return,
            Incoming::Close(code, reason) => return self.peer_closes(reactor, code, reason),
        };
        if open {
            (self.handler)(reactor, state, &self.socket, event);
        }
    }

    /// The peer's Close is answered with its own code, unless it is the answer to ours. The server
    /// ends the connection then (RFC 6455, 7.1.1), so that its port does not have to wait for late
    /// bytes; the client sees that it does.
    fn peer_closes<S: 'static>(&mut self, reactor: &mut Context<S>, code: u16, reason: &str) {
        let answers = self.socket.is_open();
        self.socket.end_with(Reason::Closed { code, reason: reason.to_owned() });
        let ends = self.socket.0.role == Role::Server;
        if let Some(conn) = self.socket.conn_mut(reactor) {
            conn.release();
        }
        if answers {
            outgoing::close(&self.socket, reactor, ClosePayload::new(code, ""), ends);
        } else if ends {
            outgoing::end(&self.socket, reactor);
            self.end_if_draining(reactor);
        }
        timeouts::closing(&self.socket, reactor);
    }

    /// Both ends have sent Close. A drain waits for no more than that: the peer sends nothing else.
    fn end_if_draining<S: 'static>(&self, reactor: &mut Context<S>) {
        if let Some(conn) = self.socket.conn_mut(reactor)
            && conn.is_draining()
            && conn.was_closed()
        {
            conn.close_at_once();
        }
    }

    fn drained<S: 'static>(&mut self, reactor: &mut Context<S>, state: &mut S)
    where
        F: HandlerFn<S>,
    {
        let drained_due = self.socket.0.drained_due.take(); // Before `Open`, whose handler may send.
        self.deliver_open(reactor, state);
        outgoing::send_pending(&self.socket, reactor);
        if drained_due && self.socket.is_open() {
            (self.handler)(reactor, state, &self.socket, Event::Drained);
        }
    }

    fn closed<S: 'static>(&mut self, reactor: &mut Context<S>, state: &mut S, why: net::Reason)
    where
        F: HandlerFn<S>,
    {
        timeouts::closed(&self.socket, reactor);
        self.socket.end_with(Reason::Lost(why));
        let Some(reason) = self.socket.0.end.take() else { return };
        (self.handler)(reactor, state, &self.socket, Event::Closed(*reason));
    }
}
