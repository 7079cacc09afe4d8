//! Accepting: a WebSocket from a request of HTTP.
//!
//! Knows the server's requests and replies. The connection leaves the HTTP server with the bytes
//! that came behind the request.
//!
//! # Read next
//! `ws_connect.rs`: the other side.

use std::fmt;
use std::rc::Rc;

use super::frame::Role;
use super::opening_handshake::{HandshakeRequest, VERSION, check_request};
use super::socket::Socket;
use super::socket_driver::attach;
use super::socket_event::Event;
use super::socket_limits::Limits;
use crate::net;
use crate::protocols::http::{Refusal, Reply, Request, Response, StatusCode};
use crate::reactor::Context;

thread_local! {
    /// The limits of all that have not set their own: one copy for all connections of a thread.
    static LIMITS: Rc<Limits> = Rc::default();
}

/// Makes a WebSocket of a request for one. If a web page sends the request, it has to be a page of
/// this host. Any other request gets a response whose status and text say what is wrong.
/// [`Accept`] sets up the rest.
///
/// ```
/// use waterwheel::{Reactor, protocols::{http, ws}};
///
/// let mut reactor = Reactor::<()>::new()?;
/// http::listen(&mut reactor, "127.0.0.1:0", |reactor, _, request, reply| {
///     let _ = ws::accept(reactor, request, reply, |reactor, _, socket, event| {
///         if let ws::Event::Text(text) = event {
///             let _ = socket.text(reactor, text);
///         }
///     });
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The reason why there is no WebSocket. The response is sent, and the handler is never called.
#[track_caller]
pub fn accept<S, F>(
    reactor: &mut Context<S>,
    request: &Request<'_>,
    reply: Reply,
    handler: F,
) -> Result<Socket, Refusal>
where
    S: 'static,
    F: FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static,
{
    Accept::new().open(reactor, request, reply, handler)
}

/// Which pages may connect. A browser sends their true origin; another program may send any.
#[derive(Clone)]
enum Origins {
    Same,
    Any,
    Check(Rc<dyn Fn(&str) -> bool>),
}

/// Sets up [`accept`]; made once, it serves any number of requests.
///
/// ```
/// use waterwheel::{Reactor, protocols::{http, ws}};
///
/// let mut reactor = Reactor::<()>::new()?;
/// let accept = ws::Accept::new()
///     .protocol("chat.v2")
///     .origins(|origin| origin == "https://example.org")
///     .limits(ws::Limits { message_bytes_max: 4096, ..ws::Limits::default() });
/// http::listen(&mut reactor, "127.0.0.1:0", move |reactor, _, request, reply| {
///     match accept.open(reactor, request, reply, |_, _, _, event| println!("{event:?}")) {
///         Ok(socket) => println!("{:?}", socket.protocol()),
///         Err(refusal) => eprintln!("{:?}: {refusal}", request.peer()),
///     }
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Accept {
    limits: Rc<Limits>,
    stream_limits: net::Limits,
    protocols: Vec<String>,
    origins: Origins,
}

impl Default for Accept {
    fn default() -> Accept {
        Accept {
            limits: LIMITS.with(Rc::clone),
            stream_limits: net::Limits::default(),
            protocols: Vec::new(),
            origins: Origins::Same,
        }
    }
}

impl Accept {
    /// The defaults.
    pub fn new() -> Accept {
        Accept::default()
    }

    /// Sets the limits on the client's messages, and on its time.
    pub fn limits(mut self, limits: Limits) -> Accept {
        self.limits = Rc::new(limits);
        self
    }

    /// Sets the limits of the connection under it, such as that on unsent bytes: the limits of the
    /// HTTP server end with the request.
    pub fn stream_limits(mut self, limits: net::Limits) -> Accept {
        self.stream_limits = limits;
        self
    }

    /// Adds a subprotocol that is spoken here. The client gets the first of its own list that is
    /// spoken here, or none: [`Socket::protocol`].
    pub fn protocol(mut self, name: &str) -> Accept {
        self.protocols.push(name.to_owned());
        self
    }

    /// Sets which pages may connect, by their origin, such as `https://example.org`. By default
    /// only pages of the request's own host: a browser lets every page open a WebSocket to any
    /// server, with the cookies of its user. A request without an origin, from a program, is always
    /// let in. There the default ports, 80 and 443, count as no port, since a proxy that speaks TLS
    /// in front of this server may name either.
    pub fn origins(mut self, may: impl Fn(&str) -> bool + 'static) -> Accept {
        self.origins = Origins::Check(Rc::new(may));
        self
    }

    /// All pages may connect.
    pub fn any_origin(mut self) -> Accept {
        self.origins = Origins::Any;
        self
    }

    /// Makes a WebSocket of a request; see [`accept`].
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn open<S, F>(
        &self,
        reactor: &mut Context<S>,
        request: &Request<'_>,
        reply: Reply,
        handler: F,
    ) -> Result<Socket, Refusal>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static,
    {
        let (version, authority) = (request.version(), request.authority());
        let handshake = check_request(request.method(), version, authority, request.headers());
        let handshake = match handshake.and_then(|handshake| self.check(handshake)) {
            Ok(handshake) => handshake,
            Err(refusal) => {
                reply.send(reactor, refused(refusal));
                return Err(refusal);
            }
        };
        let protocol = handshake.choose(&self.protocols);
        let Some(stream) = reply.upgrade(reactor, switching(&handshake, protocol)) else {
            return Err(Refusal::new(400, "the client has gone"));
        };
        let socket = Socket::new(Role::Server, self.limits.clone(), protocol);
        let stream = stream.limits(self.stream_limits.clone());
        attach(reactor, stream, &socket, handler, false);
        Ok(socket)
    }

    fn check<'a>(&self, handshake: HandshakeRequest<'a>) -> Result<HandshakeRequest<'a>, Refusal> {
        let may = match (&self.origins, handshake.origin) {
            (Origins::Any, _) | (_, None) => true,
            (Origins::Same, _) => handshake.is_same_origin(),
            (Origins::Check(may), Some(origin)) => may(origin),
        };
        if may { Ok(handshake) } else { Err(Refusal::new(403, "not from this page")) }
    }
}

impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accept")
            .field("limits", &self.limits)
            .field("protocols", &self.protocols)
            .finish_non_exhaustive()
    }
}

fn switching(handshake: &HandshakeRequest<'_>, protocol: Option<&str>) -> Response {
    let response = Response::new(StatusCode::SWITCHING_PROTOCOLS)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Accept", handshake.accept());
    match protocol {
        Some(protocol) => response.header("Sec-WebSocket-Protocol", protocol),
        None => response,
    }
}

fn refused(refusal: Refusal) -> Response {
    let response = refusal.response();
    if refusal.status() != StatusCode::UPGRADE_REQUIRED.as_u16() {
        return response;
    }
    response
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Version", VERSION)
}
