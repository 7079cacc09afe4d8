//! The client: sends requests, and calls back with the responses.
//!
//! Knows connections and the parts that both sides of HTTP share; never mentions the server.
//!
//! ```text
//!   client_request.rs   upload.rs     ┌──────┐     reader.rs      client_response.rs
//!   the head ──────────▶ the body ──▶ │ conn │ ──▶ steps ───────▶ the events
//!                                     └──────┘
//!   dial.rs makes it, client_pool.rs keeps it for the next call, transfer.rs uses it for one
//! ```
//!
//! A call is a source: it has an id, which may be cancelled, and a deadline, and it holds the loop
//! until it has ended. Everything it owns goes with it.
//!
//! # Left out
//! Cookies, caches, compression, HTTP/2: each is more code than this client. Pipelining: one slow
//! response would hold up those behind it. Proxies from the environment: a program may read them.
//!
//! # Read next
//! `client_request.rs`, `reader.rs`: the request and the response; then `transfer.rs`: the course
//! of a call.

use std::fmt;
use std::io;
use std::rc::Rc;

mod call;
mod checkout;
mod client_limits;
mod client_pool;
mod client_request;
mod client_response;
mod client_url;
mod deliver;
mod dial;
mod error;
mod fields;
mod host_pool;
mod pooled_conn;
pub(super) mod reader;
mod receive_response;
mod redirect;
mod send_body;
mod settings;
mod source_guard;
mod transfer;
mod upload;

pub use call::Call;
pub use client_limits::ClientLimits;
pub use client_request::ClientRequest;
pub use client_response::{CallEvent, ClientResponse, ClientResponseHead};
pub use dial::Dialed;
pub use error::{CallStage, Error};

use crate::net::tcp::Connect;
use crate::patterns::Promise;
#[cfg(feature = "tls")]
use crate::protocols::tls;
use crate::reactor::{Context, RawId, SourceId};
use dial::Proxy;
use settings::{Settings, Shared};

/// Sends requests and keeps connections for the next ones. Clones share them; when the last is gone
/// and no call is under way, the connections are closed.
///
/// ```no_run
/// use waterwheel::{Reactor, protocols::http::Client};
///
/// let mut reactor = Reactor::new()?;
/// Client::new().get(&mut reactor, "http://example.org/", |_, _, result| match result {
///     Ok(response) => println!("{} and {} bytes", response.status, response.body.len()),
///     Err(error) => eprintln!("{error}"),
/// });
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// It belongs to the loop with which it is used first.
pub struct Client<S: 'static> {
    shared: Rc<Shared<S>>,
}

impl<S: 'static> Default for Client<S> {
    fn default() -> Client<S> {
        Client::with(Rc::default(), Settings::default())
    }
}

impl<S: 'static> Client<S> {
    /// A client with the default limits, which connects by TCP and without a proxy.
    pub fn new() -> Client<S> {
        Client::default()
    }

    fn with(limits: Rc<ClientLimits>, settings: Settings<S>) -> Client<S> {
        Client { shared: Rc::new(Shared::new(limits, settings)) }
    }

    /// A client like this with other settings. It shares no connection with this one: those were
    /// made by other settings.
    fn change(&self, change: impl FnOnce(&mut Settings<S>)) -> Client<S> {
        let mut settings = self.shared.settings.clone();
        change(&mut settings);
        Client::with(self.shared.limits.clone(), settings)
    }

    /// The limits of its calls.
    pub fn limits(self, limits: ClientLimits) -> Client<S> {
        Client::with(Rc::new(limits), self.shared.settings.clone())
    }

    /// Sets how names are looked up, and how long each address has for itself. The timeout of the
    /// whole remains [`ClientLimits::connect_timeout`].
    pub fn connect(self, connect: Connect) -> Client<S> {
        self.change(|settings| settings.connect = connect)
    }

    /// Sets a function that connects in place of TCP: to a Unix socket, in a simulated network. It
    /// gets a host and a port, `example.org:80`, and a callback for the stream, which it has to
    /// call in a later turn. It returns the source that connects: that is removed if the call ends
    /// before.
    ///
    /// ```no_run
    /// # #[cfg(unix)] {
    /// # use std::time::Duration;
    /// use waterwheel::{Reactor, net::unix, protocols::http::Client};
    ///
    /// let mut reactor = Reactor::<()>::new().unwrap();
    /// let docker = Client::new().dialer(|reactor, _, done| {
    ///     let timeout = Duration::from_secs(3);
    ///     Ok(Some(unix::connect(reactor, "/run/docker.sock", timeout, done)?.raw()))
    /// });
    /// docker.get(&mut reactor, "http://docker/containers/json", |_, _, result| {
    ///     println!("{result:?}");
    /// });
    /// # }
    /// ```
    pub fn dialer<F>(self, dialer: F) -> Client<S>
    where
        F: Fn(&mut Context<S>, &str, Dialed<S>) -> io::Result<Option<RawId>> + 'static,
    {
        self.change(|settings| settings.dialer = Some(Rc::new(dialer)))
    }

    /// Sends everything by way of a proxy, `http://[user:password@]host:port`: `http` to be
    /// forwarded, `https` through a tunnel (CONNECT). If the URL is bad, each call fails and says
    /// why.
    pub fn proxy(self, url: &str) -> Client<S> {
        self.change(|settings| settings.proxy = Some(Proxy::of(url)))
    }

    /// Sets which servers `https` trusts, and which certificate it shows. By default it trusts the
    /// servers that the platform trusts, and shows no certificate. Then the first such call reads
    /// the platform's certificates, which holds up the loop for some milliseconds. A
    /// [`tls::Client`] that was made before the loop runs avoids that.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: tls::Client) -> Client<S> {
        self.change(|settings| settings.tls = Some(tls))
    }

    /// Gets a URL, and calls `done` once with the response or with the error.
    #[track_caller]
    pub fn get<F>(&self, reactor: &mut Context<S>, url: impl AsRef<str>, done: F) -> SourceId<Call>
    where
        F: FnOnce(&mut Context<S>, &mut S, Result<ClientResponse, Error>) + 'static,
    {
        self.send(reactor, ClientRequest::get(url), done)
    }

    /// Sends a request, collects the response and calls `done` once, in a later turn, also if it
    /// fails. If the call is cancelled, `done` is not called.
    #[track_caller]
    pub fn send<F>(
        &self,
        reactor: &mut Context<S>,
        request: ClientRequest,
        done: F,
    ) -> SourceId<Call>
    where
        F: FnOnce(&mut Context<S>, &mut S, Result<ClientResponse, Error>) + 'static,
    {
        let bytes_max = request.body_bytes_max.unwrap_or(self.shared.limits.body_bytes_max);
        transfer::begin(&self.shared, reactor, request, client_response::collect(bytes_max, done))
    }

    /// [`send`](Client::send) as a promise. If the promise is cancelled, so is the call.
    ///
    /// ```no_run
    /// use waterwheel::{Reactor, protocols::http::{Client, ClientRequest}};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let client = Client::new();
    /// let order = ClientRequest::post("http://a.example/").body("tea");
    /// client
    ///     .send_promise(&mut reactor, order)
    ///     .then(&mut reactor, move |reactor, _, response| {
    ///         let next = response.header("location").unwrap_or("http://a.example/").to_owned();
    ///         client.send_promise(reactor, ClientRequest::get(next))
    ///     })
    ///     .then(&mut reactor, |_, _, response| println!("{}", response.status))
    ///     .catch(&mut reactor, |_, _, error| eprintln!("{error}"));
    /// reactor.run(&mut ())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn send_promise(
        &self,
        reactor: &mut Context<S>,
        request: ClientRequest,
    ) -> Promise<S, ClientResponse, Error> {
        let (promise, resolver) = reactor.promise();
        let call = self.send(reactor, request, resolver.done());
        promise.on_cancel(move |reactor| {
            call.cancel(reactor);
        })
    }

    /// Sends a request and delivers the response as it comes; see [`CallEvent`]. With
    /// [`ClientRequest::body_stream`] the request goes as it comes, too.
    ///
    /// ```no_run
    /// use waterwheel::{Reactor, protocols::http::{CallEvent, Client, ClientRequest}};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let request = ClientRequest::post("http://127.0.0.1:8080/count").body_stream(None);
    /// let client = Client::new();
    /// let call = client.stream(&mut reactor, request, |_, got: &mut usize, _, event| match event {
    ///     CallEvent::Head(head) => println!("{}", head.status),
    ///     CallEvent::Data(bytes) => *got += bytes.len(), // `call.pause(…)` slows the server down
    ///     CallEvent::Drained => {}                       // after a write that was `AboveHigh`
    ///     CallEvent::End => println!("{got} bytes"),
    ///     CallEvent::Failed(error) => eprintln!("{error}"),
    /// });
    /// let _ = call.write(&mut reactor, b"one piece, ");
    /// let _ = call.write(&mut reactor, b"and another");
    /// call.end(&mut reactor);
    /// reactor.run(&mut 0)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn stream<F>(
        &self,
        reactor: &mut Context<S>,
        request: ClientRequest,
        on_event: F,
    ) -> SourceId<Call>
    where
        F: FnMut(&mut Context<S>, &mut S, SourceId<Call>, CallEvent<'_>) + 'static,
    {
        transfer::begin(&self.shared, reactor, request, Box::new(on_event))
    }

    /// How many connections wait for their next request.
    pub fn idle(&self) -> usize {
        self.shared.idle()
    }

    /// How many connections are in use, idle, or being made.
    pub fn connections(&self) -> usize {
        self.shared.open()
    }
}

impl<S> Clone for Client<S> {
    fn clone(&self) -> Client<S> {
        Client { shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}
