//! The client: asks, and calls back with the answer.
//!
//! Knows connections and the parts that both sides of HTTP share; never mentions the server.
//!
//! ```text
//!   ask.rs ──bytes──▶ upload.rs ──▶ ┌──────┐ ──▶ reader.rs ──steps──▶ answer.rs
//!   what is asked     its body      │ conn │     what comes back       what is told
//!                                   └──────┘
//!   dial.rs makes it, pool.rs keeps it for the next, exchange.rs sees a call through it
//! ```
//!
//! A call is a source: it has an id, which may be cancelled, and a deadline, and it holds the loop
//! until it has ended. Everything it owns goes with it.
//!
//! # Left out
//! Cookies, caches, compression, HTTP/2: each is more than what is here. Pipelining: one slow
//! answer would hold up those behind it. What the environment says of proxies: a program may read it.
//!
//! # Read next
//! `exchange.rs`: a call's course.

#[cfg(feature = "tls")]
use std::cell::OnceCell;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

mod answer;
mod ask;
mod call;
mod dial;
mod error;
mod exchange;
mod pool;
pub(super) mod reader;
mod target;
mod upload;

pub use answer::{Answer, AnswerHead, CallEvent};
pub use ask::Ask;
pub use call::Call;
pub use dial::Dialed;
#[allow(unused_imports)] // For WebSocket, which is a feature of its own.
pub(in crate::net) use dial::Dialing;
pub use error::{Error, Phase};
#[allow(unused_imports)]
pub(in crate::net) use target::Target;

use super::head::{HEADERS_ROOM, HeadLimits};
use crate::net::tcp::Connect;
#[cfg(feature = "tls")]
use crate::net::tls;
use crate::reactor::{Context, Promise, RawId, SourceId};
use dial::{Dialer, Proxy};
use exchange::Sink;
use pool::{Keeper, Pool};

/// What a client's calls may take. `None` is no limit.
///
/// ```
/// # use std::time::Duration;
/// # use waterwheel::net::http::ClientLimits;
/// let limits =
///     ClientLimits { total_timeout: Some(Duration::from_secs(5)), ..ClientLimits::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// From the lookup to the stream: TCP, the proxy's answer and the TLS handshake. 10 s.
    pub connect_timeout: Option<Duration>,
    /// From the last byte of the request to the head of the answer. 60 s.
    pub head_timeout: Option<Duration>,
    /// Between two pieces of the body; does not run while the call is paused. 30 s.
    pub idle_timeout: Option<Duration>,
    /// How long bytes of the request may wait without the server taking any. 30 s.
    pub write_timeout: Option<Duration>,
    /// The whole call, redirects included. None.
    pub total_timeout: Option<Duration>,
    /// How long to wait for 100 before the body is sent without it. 1 s.
    pub continue_timeout: Duration,
    /// The head of an answer. 64 KiB.
    pub head_bytes_max: usize,
    /// Its fields. 100; never more than 128.
    pub headers_max: usize,
    /// The body of an answer that is collected; one that is streamed may have any length. 16 MiB.
    pub body_bytes_max: u64,
    /// Connections to one scheme, host and port at a time; more calls wait for one. 64.
    pub connections_per_host_max: usize,
    /// Calls that wait for a connection; one more fails at once. 10,000.
    pub waiting_max: usize,
    /// Connections that wait for a request, to one scheme, host and port. 8.
    pub idle_per_host_max: usize,
    /// All of them. 64.
    pub idle_max: usize,
    /// How long each waits before it is closed. 30 s: many servers wait for a minute.
    pub idle_time_max: Duration,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            connect_timeout: Some(Duration::from_secs(10)),
            head_timeout: Some(Duration::from_secs(60)),
            idle_timeout: Some(Duration::from_secs(30)),
            write_timeout: Some(Duration::from_secs(30)),
            total_timeout: None,
            continue_timeout: Duration::from_secs(1),
            head_bytes_max: 64 * 1024,
            headers_max: 100,
            body_bytes_max: 16 * 1024 * 1024,
            connections_per_host_max: 64,
            waiting_max: 10_000,
            idle_per_host_max: 8,
            idle_max: 64,
            idle_time_max: Duration::from_secs(30),
        }
    }
}

impl ClientLimits {
    fn heads(&self) -> HeadLimits {
        HeadLimits {
            // The connection keeps an incomplete head, 1 MiB at most.
            head_bytes_max: self.head_bytes_max.min(512 * 1024),
            headers_max: self.headers_max.min(HEADERS_ROOM),
            target_bytes_max: usize::MAX,
        }
    }
}

/// Sends requests and keeps connections for the next ones. Clones share them; when the last is gone
/// and no call is under way, the connections are closed.
///
/// ```no_run
/// use waterwheel::{Reactor, net::http::Client};
///
/// let mut reactor = Reactor::new()?;
/// Client::new().get(&mut reactor, "http://example.org/", |_, _, result| match result {
///     Ok(answer) => println!("{} and {} bytes", answer.status, answer.body.len()),
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

/// What clones share.
struct Shared<S: 'static> {
    limits: Rc<ClientLimits>,
    settings: Settings<S>,
    pool: RefCell<Pool<S>>,
    keeper: RefCell<Option<Rc<Keeper>>>,
    /// Made when it is first wanted, unless it was given.
    #[cfg(feature = "tls")]
    tls: OnceCell<tls::Client>,
}

/// How connections are made.
struct Settings<S: 'static> {
    connect: Connect,
    dialer: Option<Rc<Dialer<S>>>,
    proxy: Option<Proxy>,
    #[cfg(feature = "tls")]
    tls: Option<tls::Client>,
}

impl<S> Default for Settings<S> {
    fn default() -> Settings<S> {
        Settings {
            connect: Connect::new(),
            dialer: None,
            proxy: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl<S> Clone for Settings<S> {
    fn clone(&self) -> Settings<S> {
        Settings {
            connect: self.connect.clone(),
            dialer: self.dialer.clone(),
            proxy: self.proxy.clone(),
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
        }
    }
}

impl<S: 'static> Shared<S> {
    /// What connections are kept by: those of one key lead to the same place by the same way.
    fn key(&self, target: &target::Target) -> Rc<str> {
        match &self.settings.proxy {
            Some(_) if !target.secure => "proxy".into(),
            _ => target.origin().into(),
        }
    }

    /// What TLS is spoken with.
    #[cfg(feature = "tls")]
    fn tls(&self) -> io::Result<&tls::Client> {
        if let Some(made) = self.tls.get() {
            return Ok(made);
        }
        let given = self.settings.tls.clone();
        let patience = self.limits.connect_timeout.unwrap_or(Duration::MAX);
        let tls = given.map_or_else(tls::Client::new, Ok)?.handshake_timeout(patience);
        Ok(self.tls.get_or_init(|| tls.alpn(["http/1.1"])))
    }
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

    fn with(limits: Rc<ClientLimits>, mut settings: Settings<S>) -> Client<S> {
        let timeout = limits.connect_timeout.unwrap_or(Duration::MAX);
        settings.connect = settings.connect.timeout(timeout);
        let shared = Shared {
            limits,
            settings,
            pool: RefCell::default(),
            keeper: RefCell::default(),
            #[cfg(feature = "tls")]
            tls: OnceCell::new(),
        };
        Client { shared: Rc::new(shared) }
    }

    /// One like this with other settings, and with connections of its own: those of the old one were
    /// made otherwise.
    fn change(&self, change: impl FnOnce(&mut Settings<S>)) -> Client<S> {
        let mut settings = self.shared.settings.clone();
        change(&mut settings);
        Client::with(self.shared.limits.clone(), settings)
    }

    /// The limits of its calls.
    pub fn limits(self, limits: ClientLimits) -> Client<S> {
        Client::with(Rc::new(limits), self.shared.settings.clone())
    }

    /// How names are looked up, and how long an address has for itself. Its timeout is
    /// [`ClientLimits::connect_timeout`].
    pub fn connect(self, connect: Connect) -> Client<S> {
        self.change(|settings| settings.connect = connect)
    }

    /// What connects in place of TCP: to a Unix socket, in a simulated network. It is handed a host
    /// and a port, `example.org:80`, and what to call with the stream, in a later turn; it answers
    /// with the source that is removed if the call ends before.
    ///
    /// ```no_run
    /// # #[cfg(unix)] {
    /// # use std::time::Duration;
    /// use waterwheel::{Reactor, net::{http::Client, unix}};
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
    /// forwarded, `https` through a tunnel (CONNECT). What is wrong with the URL is told by each
    /// call.
    pub fn proxy(self, url: &str) -> Client<S> {
        self.change(|settings| settings.proxy = Some(Proxy::of(url)))
    }

    /// Whom `https` trusts, and what certificate is shown. By default those whom the platform trusts,
    /// whose certificates are read at the first such call, which keeps the loop for some
    /// milliseconds; made here and before the loop runs it does not.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: tls::Client) -> Client<S> {
        self.change(|settings| settings.tls = Some(tls))
    }

    /// Gets a URL, and calls `done` once with the answer or with why there is none.
    #[track_caller]
    pub fn get<F>(&self, reactor: &mut Context<S>, url: impl AsRef<str>, done: F) -> SourceId<Call>
    where
        F: FnOnce(&mut Context<S>, &mut S, Result<Answer, Error>) + 'static,
    {
        self.send(reactor, Ask::get(url), done)
    }

    /// Sends a request, collects the answer and calls `done` once, in a later turn, whatever
    /// happens; unless the call is cancelled.
    #[track_caller]
    pub fn send<F>(&self, reactor: &mut Context<S>, ask: Ask, done: F) -> SourceId<Call>
    where
        F: FnOnce(&mut Context<S>, &mut S, Result<Answer, Error>) + 'static,
    {
        let bytes_max = ask.body_bytes_max.unwrap_or(self.shared.limits.body_bytes_max);
        exchange::begin(&self.shared, reactor, ask, collect(bytes_max, done))
    }

    /// [`send`](Client::send) as a promise. Cancelled, it cancels the call.
    ///
    /// ```no_run
    /// use waterwheel::{Reactor, net::http::{Ask, Client}};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let client = Client::new();
    /// let order = client.send_promise(&mut reactor, Ask::post("http://a.example/").body("tea"));
    /// order
    ///     .then(&mut reactor, move |reactor, _, answer| {
    ///         let next = answer.header("location").unwrap_or("http://a.example/").to_owned();
    ///         client.send_promise(reactor, Ask::get(next))
    ///     })
    ///     .then(&mut reactor, |_, _, answer| println!("{}", answer.status))
    ///     .catch(&mut reactor, |_, _, error| eprintln!("{error}"));
    /// reactor.run(&mut ())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn send_promise(&self, reactor: &mut Context<S>, ask: Ask) -> Promise<S, Answer, Error> {
        let (promise, resolver) = reactor.promise();
        let call = self.send(reactor, ask, resolver.done());
        promise.on_cancel(move |reactor| {
            call.cancel(reactor);
        })
    }

    /// Sends a request and tells the answer as it comes; see [`CallEvent`]. With
    /// [`Ask::body_stream`] the request goes as it comes, too.
    #[track_caller]
    pub fn stream<F>(&self, reactor: &mut Context<S>, ask: Ask, on_event: F) -> SourceId<Call>
    where
        F: FnMut(&mut Context<S>, &mut S, SourceId<Call>, CallEvent<'_>) + 'static,
    {
        exchange::begin(&self.shared, reactor, ask, Box::new(on_event))
    }

    /// Connections that wait for their next request.
    pub fn idle(&self) -> usize {
        self.shared.idle()
    }

    /// Connections in use, idle, or being made.
    pub fn connections(&self) -> usize {
        self.shared.open()
    }
}

/// Bytes that a body is trusted to have before they are there.
const BODY_BYTES_TRUSTED: u64 = 256 * 1024;

/// Collects an answer.
fn collect<S: 'static, F>(bytes_max: u64, done: F) -> Sink<S>
where
    F: FnOnce(&mut Context<S>, &mut S, Result<Answer, Error>) + 'static,
{
    let (mut answer, mut done) = (Answer::default(), Some(done));
    Box::new(move |reactor, state, call, event| {
        let result = match event {
            CallEvent::Head(head) if head.body_bytes.is_none_or(|bytes| bytes <= bytes_max) => {
                answer = Answer::begin(head);
                let bytes = head.body_bytes.unwrap_or(0).min(BODY_BYTES_TRUSTED);
                return answer.body.reserve(bytes as usize);
            }
            CallEvent::Data(bytes) if (answer.body.len() + bytes.len()) as u64 <= bytes_max => {
                return answer.body.extend_from_slice(bytes);
            }
            CallEvent::Drained => return,
            CallEvent::End => Ok(answer.take()),
            CallEvent::Failed(error) => Err(error),
            CallEvent::Head(_) | CallEvent::Data(_) => {
                let url = reactor.get(call).map(Call::url).unwrap_or_default().into();
                call.cancel(reactor);
                Err(Error::TooLong { url, bytes_max })
            }
        };
        if let Some(done) = done.take() {
            done(reactor, state, result);
        }
    })
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
