//! An attempt to connect: the steps between a URL and a WebSocket.
//!
//! Knows TLS, if the URL asks for it, and the handshake.
//!
//! # Read next
//! `../../tests/ws/others.rs`: with the clients and servers of others.

use std::any::Any;
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use super::opening_handshake::check_response;
use super::socket::Socket;
use super::socket_driver::{HandlerFn, attach};
use super::socket_event::{Event, Reason};
use super::url::Url;
use super::ws_connect::Connect;
use crate::net::{self, Conn, Stream};
use crate::protocols::http::parts::{HeadLimits, INTERIM_MAX, Scan, parse_response, room};
use crate::protocols::http::{Method, StatusCode};
use crate::reactor::{Context, Place, RawId, SourceId};

/// The limits of a server's response.
const HEAD: HeadLimits =
    HeadLimits { head_bytes_max: 16 * 1024, headers_max: 256, target_bytes_max: 0 };

/// A WebSocket that is being made. The source of the present step owns it.
pub(super) struct Attempt<F> {
    pub(super) socket: Socket,
    /// Taken when the outcome is delivered to it.
    pub(super) handler: Cell<Option<F>>,
    /// The source that the attempt now waits for.
    pub(super) source: Cell<Option<RawId>>,
    pub(super) url: Url,
    pub(super) key: String,
    pub(super) request: String,
    pub(super) set: Connect,
    /// Where the program began it: traces and `why_alive` name this place for every step.
    pub(super) place: Place,
}

impl<F> Attempt<F> {
    /// The handler, for the outcome; from now on it cannot be cancelled.
    fn end(&self) -> Option<F> {
        self.socket.0.cancel.set(None);
        self.handler.take()
    }

    pub(super) fn fail<S: 'static>(&self, reactor: &mut Context<S>, state: &mut S, error: io::Error)
    where
        F: HandlerFn<S>,
    {
        self.socket.end_with(Reason::Connect(error));
        if let Some(mut handler) = self.end() {
            deliver_closed(reactor, state, &self.socket, &mut handler);
        }
    }

    fn cancel<S: 'static>(&self, reactor: &mut dyn Any)
    where
        F: HandlerFn<S>,
    {
        let Some(reactor) = reactor.downcast_mut::<Context<S>>() else { return };
        if let Some(source) = self.source.take() {
            reactor.remove(source);
        }
        let (handler, socket) = (self.end(), self.socket.clone());
        reactor.defer(move |reactor, state| {
            if let Some(mut handler) = handler {
                deliver_closed(reactor, state, &socket, &mut handler);
            }
        });
    }

    /// From now on the socket can cancel it.
    pub(super) fn may_be_cancelled<S: 'static>(self: &Rc<Self>) -> Socket
    where
        F: HandlerFn<S>,
    {
        let lives = Rc::downgrade(self); // It holds the socket: two that hold each other leak.
        self.socket.0.cancel.set(Some(Box::new(move |reactor| {
            if let Some(attempt) = lives.upgrade() {
                attempt.cancel::<S>(reactor);
            }
        })));
        self.socket.clone()
    }

    /// It now waits for this source.
    pub(super) fn wait_for<S: 'static>(&self, reactor: &mut Context<S>, source: impl Into<RawId>) {
        let source = source.into();
        reactor.set_place(source, self.place);
        self.source.set(Some(source));
    }

    /// There is a connection.
    pub(super) fn on_connected<S: 'static>(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        stream: Stream,
    ) where
        F: HandlerFn<S>,
    {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.set.tls.as_ref().filter(|_| self.url.secure) {
            let secured = self.clone();
            let handshake = tls.connect(reactor, stream, &self.url.host, {
                move |reactor, state, result| match result {
                    Ok(stream) => secured.send_request(reactor, stream),
                    Err(error) => secured.fail(reactor, state, error),
                }
            });
            return self.wait_for(reactor, handshake);
        }
        self.send_request(reactor, stream);
    }

    /// Sends the request and waits for the response.
    fn send_request<S: 'static>(self: &Rc<Self>, reactor: &mut Context<S>, mut stream: Stream)
    where
        F: HandlerFn<S>,
    {
        let _ = stream.write(self.request.as_bytes()); // It fits; `Closed` reports a failure.
        let limits = net::Limits { read_timeout: Some(self.set.timeout), ..Default::default() };
        let (attempt, mut heads) = (self.clone(), Heads::default());
        let id =
            stream.limits(limits).open(reactor, move |reactor, state, id, event| match event {
                net::Event::Data(bytes) => attempt.on_data(reactor, state, id, (bytes, &mut heads)),
                net::Event::Closed(why) => attempt.fail(reactor, state, no_response(why)),
                net::Event::Drained | net::Event::Eof => {}
            });
        self.wait_for(reactor, id);
    }

    /// A response, or a part of one.
    fn on_data<S: 'static>(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        (mut bytes, heads): (&[u8], &mut Heads),
    ) where
        F: HandlerFn<S>,
    {
        let outcome = loop {
            if !heads.scan.is_due(bytes, HEAD) {
                return reactor[id].unread(bytes.len());
            }
            let mut room = room();
            match parse_response(bytes, HEAD, &Method::GET, &mut room) {
                Ok(None) => return reactor[id].unread(bytes.len()),
                Ok(Some(head)) if heads.is_interim(head.status) => bytes = &bytes[head.bytes..],
                Ok(Some(head)) => {
                    let chosen =
                        check_response(head.status, head.headers, &self.key, &self.set.protocols);
                    break chosen.map(|chosen| (head.bytes, chosen.map(Box::from)));
                }
                Err(refusal) => break Err(format!("the server's response is no HTTP: {refusal}")),
            }
        };
        let conn = reactor.deregister(id);
        match (outcome, conn) {
            (Ok((head, protocol)), Some(conn)) => {
                *self.socket.0.protocol.borrow_mut() = protocol;
                let stream = Stream::from(conn).limits(self.set.stream_limits.clone());
                let Some(handler) = self.end() else { return };
                attach(reactor, stream.unread(&bytes[head..]), &self.socket, handler, true);
                if let Some(id) = self.socket.conn() {
                    reactor.set_place(id, self.place);
                }
            }
            (Err(why), _) => self.fail(reactor, state, io::Error::other(why)),
            (Ok(_), None) => {}
        }
    }
}

/// The heads that come until the final one.
#[derive(Default)]
struct Heads {
    scan: Scan,
    count: u32,
}

impl Heads {
    /// Returns true if another head follows this one (RFC 9110, 15.2).
    fn is_interim(&mut self, status: StatusCode) -> bool {
        self.scan = Scan::default();
        self.count += 1;
        let is_final = !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS;
        !is_final && self.count <= INTERIM_MAX
    }
}

fn deliver_closed<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    socket: &Socket,
    handler: &mut impl HandlerFn<S>,
) {
    if let Some(reason) = socket.0.end.take() {
        handler(reactor, state, socket, Event::Closed(*reason));
    }
}

/// The error if there was no response.
fn no_response(why: net::Reason) -> io::Error {
    match why {
        net::Reason::Error(error) => error,
        net::Reason::ReadTimeout => {
            io::Error::new(ErrorKind::TimedOut, "the server did not respond in time")
        }
        net::Reason::Reset => ErrorKind::ConnectionReset.into(),
        why => io::Error::new(ErrorKind::UnexpectedEof, format!("no response: {why}")),
    }
}
