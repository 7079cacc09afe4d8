//! Connecting: a WebSocket from its URL.
//!
//! Knows the options, and the request. The steps follow one after another (name and TCP, TLS for
//! `wss`, the handshake), and the handler gets one event for the outcome.
//!
//! # Read next
//! `attempt.rs`: the steps.

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use tungstenite::handshake::client::generate_key;

use super::attempt::Attempt;
use super::frame::Role;
use super::opening_handshake::VERSION;
use super::socket::Socket;
use super::socket_event::Event;
use super::socket_limits::Limits;
use super::url::Url;
use crate::net::{self, Stream, tcp};
#[cfg(feature = "tls")]
use crate::protocols::tls;
use crate::reactor::{Context, Place};

/// The default of [`Connect::timeout`].
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to a WebSocket, `ws://host:port/path`, or with feature `tls` also `wss://…`. The
/// handler gets [`Open`](Event::Open) when it is connected, or only [`Closed`](Event::Closed) with
/// the reason. [`Connect`] sets up the rest.
///
/// ```no_run
/// use waterwheel::{Reactor, protocols::ws};
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
/// `InvalidInput` for a bad URL. Nothing was begun, and the handler will not be called.
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
/// # use waterwheel::{Reactor, protocols::ws};
/// # let mut reactor = Reactor::<()>::new()?;
/// ws::Connect::new()
///     .header("authorization", "Bearer let-me-in")
///     .protocol("chat")
///     .limits(ws::Limits { message_bytes_max: 4096, ..ws::Limits::default() })
///     .open(&mut reactor, "ws://127.0.0.1:7001/chat", |_, _, _, event| println!("{event:?}"))?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Connect {
    fields: Vec<(String, String)>,
    pub(super) protocols: Vec<String>,
    limits: Limits,
    pub(super) stream_limits: net::Limits,
    pub(super) timeout: Duration,
    tcp: tcp::Connect,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<tls::Client>,
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
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// Without its header fields, which may be secret.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("protocols", &self.protocols)
            .field("limits", &self.limits)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
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

    /// The page it comes from, for a server that checks it: `https://example.org`.
    pub fn origin(self, origin: &str) -> Connect {
        self.header("origin", origin)
    }

    /// One more subprotocol that is offered, the best first. The server chooses one or none:
    /// [`Socket::protocol`].
    pub fn protocol(mut self, name: &str) -> Connect {
        self.protocols.push(name.to_owned());
        self
    }

    /// Sets the limits on the server's messages, and on its time.
    pub fn limits(mut self, limits: Limits) -> Connect {
        self.limits = limits;
        self
    }

    /// Sets the limits of the connection under it, such as that on unsent bytes.
    pub fn stream_limits(mut self, limits: net::Limits) -> Connect {
        self.stream_limits = limits;
        self
    }

    /// How long the lookup and the connection may take, and again the server's response. 10 s. TLS
    /// between them has a time of its own: `tls::Client::handshake_timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Connect {
        self.timeout = timeout;
        self.tcp = self.tcp.timeout(timeout);
        self
    }

    /// How names are looked up and addresses tried; see [`tcp::Connect::resolver`]. Its timeout is
    /// then that of lookup and connection, unless [`timeout`](Connect::timeout) is set after this.
    pub fn tcp(mut self, tcp: tcp::Connect) -> Connect {
        self.tcp = tcp;
        self
    }

    /// Which servers `wss` trusts. By default those that the platform trusts: its certificates are
    /// read at the first [`open`](Connect::open), which holds up the loop for some milliseconds.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: tls::Client) -> Connect {
        self.tls = Some(tls);
        self
    }

    /// Connects to `url`; see [`connect`].
    ///
    /// # Errors
    /// `InvalidInput` for a bad URL, and for a header or subprotocol that cannot be sent;
    /// `Unsupported` for `wss` without feature `tls`; any other if this platform has no roots to
    /// trust.
    #[track_caller]
    pub fn open<S, F>(&self, reactor: &mut Context<S>, url: &str, handler: F) -> io::Result<Socket>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static,
    {
        let attempt = self.attempt(url, handler)?;
        let connecting = attempt.clone();
        let race = self.tcp.open(reactor, &attempt.url.address(), {
            move |reactor, state, result| match result {
                Ok(stream) => connecting.on_connected(reactor, stream),
                Err(error) => connecting.fail(reactor, state, error),
            }
        })?;
        attempt.wait_for(reactor, race);
        Ok(attempt.may_be_cancelled())
    }

    /// [`open`](Connect::open) over a stream that is there already: through a proxy, of a Unix
    /// socket, in memory. The URL has the target of the request; with `wss` TLS comes first.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn over<S, F>(
        &self,
        reactor: &mut Context<S>,
        stream: Stream,
        url: &str,
        handler: F,
    ) -> io::Result<Socket>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static,
    {
        let attempt = self.attempt(url, handler)?;
        attempt.on_connected(reactor, stream);
        Ok(attempt.may_be_cancelled())
    }

    #[track_caller]
    fn attempt<F>(&self, url: &str, handler: F) -> io::Result<Rc<Attempt<F>>> {
        let (mut set, url) = (self.clone(), Url::parse(url)?);
        set.prepare(&url)?;
        let key = generate_key();
        let request = self.request(&url, &key)?;
        let socket = Socket::new(Role::Client, Rc::new(self.limits.clone()), None);
        let place = Place::caller();
        let (handler, source) = (Cell::new(Some(handler)), Cell::new(None));
        Ok(Rc::new(Attempt { socket, handler, source, url, key, request, set, place }))
    }

    #[cfg(feature = "tls")]
    fn prepare(&mut self, url: &Url) -> io::Result<()> {
        if url.secure && self.tls.is_none() {
            self.tls = Some(tls::Client::new()?);
        }
        Ok(())
    }

    #[cfg(not(feature = "tls"))]
    fn prepare(&mut self, url: &Url) -> io::Result<()> {
        match url.secure {
            true => Err(io::Error::new(ErrorKind::Unsupported, "wss wants the feature tls")),
            false => Ok(()),
        }
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
            // A subprotocol is a token, as a field's name is.
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
