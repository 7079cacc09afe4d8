//! Connecting: a WebSocket from its URL.
//!
//! Knows the stages, one after another: name and TCP, TLS for `wss`, the handshake. Whichever
//! fails, the handler is told once, by `Closed`.
//!
//! # Read next
//! `tests/ws.rs`: with others' clients and servers.

use std::any::Any;
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use tungstenite::handshake::client::generate_key;

use super::drive::{HandlerFn, attach};
use super::event::{Event, Reason};
use super::frame::Role;
use super::handshake::{VERSION, answered};
use super::limits::Limits;
use super::socket::Socket;
use super::url::Url;
use crate::net::http::Method;
use crate::net::http::parts::{HeadLimits, Scan, parse_response, room};
use crate::net::{self, Conn, Stream, tcp};
use crate::reactor::{Context, RawId, SourceId};

/// What a server's answer may have.
const HEAD: HeadLimits =
    HeadLimits { head_bytes_max: 16 * 1024, headers_max: 100, target_bytes_max: 0 };

/// The default of [`Connect::timeout`].
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to a WebSocket, `ws://host:port/path`, or with feature `tls` also `wss://…`. The
/// handler is told [`Open`](Event::Open) when it is there, or only [`Closed`](Event::Closed) with
/// what was wrong. [`Connect`] sets up the rest.
///
/// ```no_run
/// use waterwheel::{Reactor, net::ws};
///
/// let mut reactor = Reactor::new()?;
/// ws::connect(&mut reactor, "ws://127.0.0.1:7001/chat", |reactor, _, socket, event| match event {
///     ws::Event::Open => _ = socket.text(reactor, "hello"),
///     ws::Event::Text(text) => println!("{text}"),
///     ws::Event::Closed(reason) => eprintln!("{reason}"),
///     _ => {}
/// })?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `InvalidInput` for a URL that is none. Nothing was begun, and the handler will not be called.
#[track_caller]
pub fn connect<S, F>(reactor: &mut Context<S>, url: &str, handler: F) -> io::Result<Socket>
where
    S: 'static,
    F: FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static,
{
    Connect::new().open(reactor, url, handler)
}

/// Sets up [`connect`].
///
/// ```no_run
/// # use waterwheel::{Reactor, net::ws};
/// # let mut reactor = Reactor::<()>::new()?;
/// ws::Connect::new()
///     .header("authorization", "Bearer let-me-in")
///     .protocol("chat")
///     .limits(ws::Limits { message_bytes_max: 4096, ..ws::Limits::default() })
///     .open(&mut reactor, "ws://127.0.0.1:7001/chat", |_, _, _, event| println!("{event:?}"))?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Connect {
    fields: Vec<(String, String)>,
    protocols: Vec<String>,
    limits: Limits,
    stream_limits: net::Limits,
    timeout: Duration,
    tcp: tcp::Connect,
}

impl Default for Connect {
    fn default() -> Connect {
        Connect {
            fields: Vec::new(),
            protocols: Vec::new(),
            limits: Limits::default(),
            stream_limits: net::Limits::default(),
            timeout: TIMEOUT,
            tcp: tcp::Connect::new().timeout(TIMEOUT),
        }
    }
}

impl Connect {
    /// The defaults.
    pub fn new() -> Connect {
        Connect::default()
    }

    /// One more header field of the request, such as a cookie or an authorization.
    pub fn header(mut self, name: &str, value: &str) -> Connect {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The page it comes from, for a server that asks: `https://example.org`.
    pub fn origin(self, origin: &str) -> Connect {
        self.header("origin", origin)
    }

    /// One more subprotocol that is offered, the best first. The server chooses one or none:
    /// [`Socket::protocol`].
    pub fn protocol(mut self, name: &str) -> Connect {
        self.protocols.push(name.to_owned());
        self
    }

    /// What the server may send, and how long it may take.
    pub fn limits(mut self, limits: Limits) -> Connect {
        self.limits = limits;
        self
    }

    /// The limits of the connection under it, such as what may wait to be sent.
    pub fn stream_limits(mut self, limits: net::Limits) -> Connect {
        self.stream_limits = limits;
        self
    }

    /// How long the lookup and the connection may take, and again the server's answer. 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Connect {
        self.timeout = timeout;
        self.tcp = self.tcp.timeout(timeout);
        self
    }

    /// Who finds the addresses of a name; see [`tcp::Connect::resolver`]. Its timeout counts.
    pub fn tcp(mut self, tcp: tcp::Connect) -> Connect {
        self.tcp = tcp;
        self
    }

    /// Connects to `url`; see [`connect`].
    ///
    /// # Errors
    /// `InvalidInput` for a URL that is none, or a header or subprotocol that would be two.
    #[track_caller]
    pub fn open<S, F>(&self, reactor: &mut Context<S>, url: &str, handler: F) -> io::Result<Socket>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static,
    {
        let url = Url::parse(url)?;
        let key = generate_key();
        let request = self.request(&url, &key)?;
        let socket = Socket::new(Role::Client, Rc::new(self.limits.clone()), None);
        let name = format!("{}:{}", url.host, url.port);
        let attempt = Rc::new(Attempt {
            socket: socket.clone(),
            handler: Cell::new(Some(handler)),
            stage: Cell::new(None),
            url,
            key,
            request,
            set: self.clone(),
        });
        let reached = attempt.clone();
        let race = self.tcp.open(reactor, &name, move |reactor, state, result| match result {
            Ok(stream) => reached.reached(reactor, stream),
            Err(error) => reached.fail(reactor, state, error),
        })?;
        attempt.stage.set(Some(race.raw()));
        let lives = Rc::downgrade(&attempt); // It holds the socket: two that hold each other leak.
        socket.0.cancel.set(Some(Box::new(move |reactor| {
            if let Some(attempt) = lives.upgrade() {
                attempt.cancel::<S>(reactor);
            }
        })));
        Ok(socket)
    }

    /// The request, as it is sent.
    fn request(&self, url: &Url, key: &str) -> io::Result<String> {
        let bad = |what: &str| io::Error::new(ErrorKind::InvalidInput, format!("a bad {what}"));
        let Url { authority, target, .. } = url;
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: {VERSION}\r\n\
             Sec-WebSocket-Key: {key}\r\n"
        );
        for name in &self.protocols {
            // A token is what a field's name is, too.
            http::HeaderName::try_from(name).map_err(|_| bad("subprotocol"))?;
        }
        let protocols = self.protocols.join(", ");
        let protocols = (!protocols.is_empty()).then_some(("sec-websocket-protocol", &*protocols));
        let fields = self.fields.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in protocols.into_iter().chain(fields) {
            http::HeaderName::try_from(name).map_err(|_| bad("header name"))?;
            http::HeaderValue::try_from(value).map_err(|_| bad("header value"))?;
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        Ok(request)
    }
}

/// One that is being made. The source that is under way holds it.
struct Attempt<F> {
    socket: Socket,
    /// Taken by whoever tells it the outcome.
    handler: Cell<Option<F>>,
    /// The source that the attempt now waits for.
    stage: Cell<Option<RawId>>,
    url: Url,
    key: String,
    request: String,
    set: Connect,
}

impl<F> Attempt<F> {
    /// The handler, for the outcome; from now on it cannot be cancelled.
    fn end(&self) -> Option<F> {
        self.socket.0.cancel.set(None);
        self.handler.take()
    }

    fn fail<S: 'static>(&self, reactor: &mut Context<S>, state: &mut S, error: io::Error)
    where
        F: HandlerFn<S>,
    {
        self.socket.end_with(Reason::Connect(error));
        if let Some(mut handler) = self.end() {
            tell_closed(reactor, state, &self.socket, &mut handler);
        }
    }

    fn cancel<S: 'static>(&self, reactor: &mut dyn Any)
    where
        F: HandlerFn<S>,
    {
        let Some(reactor) = reactor.downcast_mut::<Context<S>>() else { return };
        if let Some(stage) = self.stage.take() {
            reactor.remove(stage);
        }
        let (handler, socket) = (self.end(), self.socket.clone());
        reactor.defer(move |reactor, state| {
            if let Some(mut handler) = handler {
                tell_closed(reactor, state, &socket, &mut handler);
            }
        });
    }

    /// There is a connection.
    fn reached<S: 'static>(self: &Rc<Self>, reactor: &mut Context<S>, stream: Stream)
    where
        F: HandlerFn<S>,
    {
        self.ask(reactor, stream);
    }

    /// Sends the request and waits for the answer.
    fn ask<S: 'static>(self: &Rc<Self>, reactor: &mut Context<S>, mut stream: Stream)
    where
        F: HandlerFn<S>,
    {
        let _ = stream.write(self.request.as_bytes()); // It fits; a failure is told by `Closed`.
        let limits = net::Limits { read_timeout: Some(self.set.timeout), ..Default::default() };
        let (asked, mut scan) = (self.clone(), Scan::default());
        let id =
            stream.limits(limits).open(reactor, move |reactor, state, id, event| match event {
                net::Event::Data(bytes) if !scan.is_due(bytes, HEAD) => {
                    reactor[id].unread(bytes.len())
                }
                net::Event::Data(bytes) => asked.heard(reactor, state, id, bytes),
                net::Event::Closed(why) => asked.fail(reactor, state, unanswered(why)),
                net::Event::Drained | net::Event::Eof => {}
            });
        self.stage.set(Some(id.raw()));
    }

    /// An answer, or a part of one.
    fn heard<S: 'static>(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        bytes: &[u8],
    ) where
        F: HandlerFn<S>,
    {
        let mut room = room();
        let outcome = match parse_response(bytes, HEAD, &Method::GET, &mut room) {
            Ok(None) => return reactor[id].unread(bytes.len()),
            Ok(Some(head)) => answered(head.status, head.headers, &self.key, &self.set.protocols)
                .map(|chosen| (head.bytes, chosen.map(Box::from))),
            Err(refusal) => Err(format!("the server's answer is no HTTP: {refusal}")),
        };
        let conn = reactor.deregister(id);
        match (outcome, conn) {
            (Ok((head, protocol)), Some(conn)) => {
                *self.socket.0.protocol.borrow_mut() = protocol;
                let stream = Stream::from(conn).limits(self.set.stream_limits.clone());
                let Some(handler) = self.end() else { return };
                attach(reactor, stream.unread(&bytes[head..]), &self.socket, handler, true);
            }
            (Err(why), _) => self.fail(reactor, state, io::Error::other(why)),
            (Ok(_), None) => {}
        }
    }
}

fn tell_closed<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    socket: &Socket,
    handler: &mut impl HandlerFn<S>,
) {
    if let Some(reason) = socket.0.end.take() {
        handler(reactor, state, socket, Event::Closed(*reason));
    }
}

/// Why there was no answer.
fn unanswered(why: net::Reason) -> io::Error {
    match why {
        net::Reason::Error(error) => error,
        net::Reason::ReadTimeout => {
            io::Error::new(ErrorKind::TimedOut, "the server did not answer in time")
        }
        net::Reason::Reset => ErrorKind::ConnectionReset.into(),
        why => io::Error::new(ErrorKind::UnexpectedEof, format!("no answer: {why}")),
    }
}
