//! The HTTP/1.1 server: requests in, responses out, over any transport.
//!
//! Knows connections, heads and bodies; never mentions sockets. RFC 9110 and RFC 9112.
//!
//! The way of the bytes of one connection:
//!
//! ```text
//!            ┌─ backlog ◀── bytes that wait: pipelined requests, half a head
//!   bytes ───┴▶ head ──▶ handler(&Request, Reply) ──────────────▶ next head
//!                │            ▲                        ▲ when the response is written
//!                └──▶ body ───┘ collected, or streamed ┘ and the body read
//! ```
//!
//! # Rules
//! 1. Requests of one connection are handled one after another, so the responses are in order.
//! 2. Each request is answered once: by its handler, or if that is impossible by the server,
//!    which then logs the peer and the reason, and closes the connection.
//! 3. No response destroys another: a connection is closed so that the client gets the end of the
//!    last one, also if it is still sending ([`Conn::close`](crate::net::Conn::close)).
//! 4. Everything that a client can do is bounded by [`Limits`](super::Limits), in bytes and in
//!    time.
//! 5. A request that is read whole, and answered at once with a body that is there, allocates
//!    nothing.
//!
//! # Left out
//! HTTP/2. Compression. Trailers: those of requests are dropped.
//!
//! # Read next
//! `exchange.rs`: the states of a response.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;

use super::date::Dates;
use super::refusal::Refusal;
use super::request::Request;
use super::server_limits::Limits;
use crate::net::Conn;
use crate::net::Stream;
use crate::net::ToAddresses;
use crate::net::tcp;
use crate::reactor::{Context, Place, SourceId};

mod client_gone;
mod exchange;
mod failures;
mod reply;
mod request_body;
mod request_time;
mod router;
mod sender;
mod server_conn;
mod service;
mod watch;
mod write_response;

pub use reply::Reply;
pub use router::Router;
pub use sender::Sender;
use service::{Collecting, Service, Streaming};
pub use watch::Watch;

/// An event that the handler of a streamed body receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Bytes of the body: the loop's own buffer, to be copied if they are to be kept.
    Data(&'a [u8]),
    /// The body is whole. The last event.
    End,
    /// No more will come: the body is malformed or too slow, or the client has gone. The last
    /// event, and the connection closes after this request. The handler may still answer, or end a
    /// response that it streams. If it does neither, the server refuses the request, or cuts the
    /// response off. But if the client has only finished sending, there is no response, and one
    /// that is streamed goes on.
    Failed(Refusal),
}

/// Bytes of responses that the kernel takes ahead of the network, for each connection, unless
/// [`Listen`](tcp::Listen::unsent_bytes) says otherwise. A thousand clients that read slowly then
/// hold a hundred megabytes and not a thousand. 128 KiB, which costs no throughput: the kernel asks
/// for more when half of it has gone.
const KERNEL_UNSENT_BYTES: usize = 128 * 1024;

/// Connections beyond [`Limits::connections_max`] that each listener still answers at a time, with
/// 503. One more is closed at once. 64: clients get the reason, and those that stay cost no more.
const EXCESS_MAX: usize = 64;

/// The handler of one streamed body. Once the response is complete it is not called any more, and
/// the rest of the body is dropped.
pub type BodyHandler<S> = Box<dyn FnMut(&mut Context<S>, &mut S, Body<'_>)>;

/// Held by each connection above the limit, so that they can be counted.
type Excess = Rc<()>;

/// The state that all connections of a server share. It does not depend on the type of the
/// program's state.
pub(super) struct Common {
    pub(super) limits: Limits,
    /// `limits`, as limits of a connection.
    connection: crate::net::Limits,
    dates: Dates,
    /// A buffer for the head that is being written. It is kept, so that none allocates.
    head: Cell<Vec<u8>>,
    /// The same for a server-sent event.
    text: Cell<Vec<u8>>,
}

impl Common {
    fn new(limits: Limits) -> Rc<Common> {
        let connection = limits.connection();
        let (dates, head, text) = (Dates::default(), Cell::default(), Cell::default());
        Rc::new(Common { limits, connection, dates, head, text })
    }
}

/// A handler and its limits. Clones are the same server.
///
/// A handler's panic goes where that of any callback goes: out of `run`. When that is called again,
/// the client gets 500 if its response had not begun, and its connection is closed. With
/// [`PanicPolicy::Drop`](crate::reactor::PanicPolicy) the loop goes on and the connection is
/// dropped.
///
/// ```
/// use waterwheel::{Reactor, net::memory, protocols::http};
///
/// let mut reactor = Reactor::<()>::new()?;
/// let limits = http::Limits { body_bytes_max: 16, ..http::Limits::default() };
/// let server = http::Server::new(|reactor, _, request, reply| {
///     reply.send(reactor, request.body().to_ascii_uppercase());
/// });
/// let server = server.limits(limits);
/// let listener = server.listen(&mut reactor, "127.0.0.1:0")?;
/// println!("listening on {}", reactor[listener].local_addr());
///
/// let (client, ours) = memory::pair(&mut reactor);
/// server.serve(&mut reactor, ours);
/// # drop(client);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Server<S: 'static> {
    service: Rc<RefCell<dyn Service<S>>>,
    common: Rc<Common>,
    #[cfg(feature = "tls")]
    tls: Option<crate::protocols::tls::Server>,
}

impl<S: 'static> Server<S> {
    /// A server that hands each request to `handler` when its body is complete.
    pub fn new<F>(handler: F) -> Server<S>
    where
        F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) + 'static,
    {
        Server::of(Collecting(handler))
    }

    /// A server that hands each request to `handler` when its head is complete. It
    /// returns the handler of the body.
    ///
    /// ```
    /// use waterwheel::protocols::http::{Body, Server};
    ///
    /// let server = Server::<()>::streaming(|_, _, _, reply| {
    ///     let (mut count, mut reply) = (0, Some(reply));
    ///     move |reactor, _, body| match body {
    ///         Body::Data(bytes) => count += bytes.len(),
    ///         Body::End => {
    ///             reply.take().map(|reply| reply.send(reactor, format!("{count} bytes\n")));
    ///         }
    ///         Body::Failed(why) => eprintln!("{why}"),
    ///     }
    /// });
    /// ```
    pub fn streaming<F, B>(handler: F) -> Server<S>
    where
        F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) -> B + 'static,
        B: FnMut(&mut Context<S>, &mut S, Body<'_>) + 'static,
    {
        Server::of(Streaming(handler))
    }

    /// A server that hands each request to the handler of its route.
    pub fn routes(router: Router<S>) -> Server<S> {
        Server::of(router)
    }

    fn of(service: impl Service<S> + 'static) -> Server<S> {
        Server {
            service: Rc::new(RefCell::new(service)),
            common: Common::new(Limits::default()),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Sets the limits, for connections that are served from now on.
    pub fn limits(self, limits: Limits) -> Server<S> {
        Server { common: Common::new(limits), ..self }
    }

    /// Speaks TLS on the connections that it [listens](Server::listen) for: https. A handshake that
    /// fails is logged, with the peer. A stream that is given to [`serve`](Server::serve) is used
    /// as it is. Of protocols (ALPN) `tls` should name `http/1.1` or none: no other is spoken here.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: crate::protocols::tls::Server) -> Server<S> {
        Server { tls: Some(tls), ..self }
    }

    /// Listens on `addr`.
    ///
    /// # Errors
    /// As [`tcp::listen`].
    #[track_caller]
    pub fn listen(
        &self,
        reactor: &mut Context<S>,
        addr: impl ToAddresses,
    ) -> io::Result<SourceId<tcp::Listener>> {
        self.listen_with(reactor, addr, tcp::Listen::new())
    }

    /// [`listen`](Server::listen) with more to set for the socket; the limits are the server's.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn listen_with(
        &self,
        reactor: &mut Context<S>,
        addr: impl ToAddresses,
        listen: tcp::Listen,
    ) -> io::Result<SourceId<tcp::Listener>> {
        let (listen, on_accept) = self.prepared(listen, Place::caller());
        listen.open(reactor, addr, on_accept)
    }

    /// [`listen_with`](Server::listen_with) by a socket that listens already.
    ///
    /// # Errors
    /// As [`tcp::Listen::adopt`].
    #[track_caller]
    pub fn adopt(
        &self,
        reactor: &mut Context<S>,
        listener: std::net::TcpListener,
        listen: tcp::Listen,
    ) -> io::Result<SourceId<tcp::Listener>> {
        let (listen, on_accept) = self.prepared(listen, Place::caller());
        listen.adopt(reactor, listener, on_accept)
    }

    /// The setup of a listener, and the callback for the streams that it accepts.
    fn prepared(
        &self,
        listen: tcp::Listen,
        place: Place,
    ) -> (tcp::Listen, impl FnMut(&mut Context<S>, &mut S, Stream) + use<S>) {
        let server = self.clone();
        let connections_max = self.common.limits.connections_max;
        let excess = Rc::new(());
        let listen = listen
            .unsent_bytes_by_default(KERNEL_UNSENT_BYTES)
            .connections_max(connections_max.saturating_add(EXCESS_MAX))
            .limits(self.common.connection.clone());
        let on_accept = move |reactor: &mut Context<S>, _: &mut S, stream: Stream| {
            let served = (stream.connections() + 1).saturating_sub(Rc::strong_count(&excess));
            let excess = (served > connections_max).then(|| excess.clone());
            server.accept(reactor, stream, place, excess);
        };
        (listen, on_accept)
    }

    /// Serves a stream that was accepted, over TLS if there is to be some. `place` is where the
    /// program listens: traces and `why_alive` name it for handshake and connection.
    fn accept(
        &self,
        reactor: &mut Context<S>,
        stream: Stream,
        place: Place,
        excess: Option<Excess>,
    ) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let (server, peer) = (self.clone(), stream.peer());
            let handshake = tls.accept(reactor, stream, move |reactor, _, result| match result {
                Ok(stream) => {
                    let conn = server_conn::serve(&server, reactor, stream, excess);
                    reactor.set_place(conn, place);
                }
                Err(error) => log::info!("{}: {error}", exchange::Peer(peer)),
            });
            reactor.set_place(handshake, place);
            return;
        }
        let conn = server_conn::serve(self, reactor, stream, excess);
        reactor.set_place(conn, place);
    }

    /// Serves one connection, over any transport. A [`drain`](crate::net::drain()) ends it like one
    /// that a listener has accepted.
    #[track_caller]
    pub fn serve(&self, reactor: &mut Context<S>, stream: Stream) -> SourceId<Conn> {
        server_conn::serve(self, reactor, stream, None)
    }
}

impl<S: 'static> Clone for Server<S> {
    fn clone(&self) -> Server<S> {
        Server {
            service: self.service.clone(),
            common: self.common.clone(),
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
        }
    }
}

impl<S: 'static> From<Router<S>> for Server<S> {
    fn from(router: Router<S>) -> Server<S> {
        Server::routes(router)
    }
}

impl<S: 'static> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.common.limits).finish_non_exhaustive()
    }
}

/// Serves HTTP on `addr`: a [`Server`] with the usual limits.
///
/// # Errors
/// As [`tcp::listen`].
#[track_caller]
pub fn listen<S, F>(
    reactor: &mut Context<S>,
    addr: impl ToAddresses,
    handler: F,
) -> io::Result<SourceId<tcp::Listener>>
where
    S: 'static,
    F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) + 'static,
{
    Server::new(handler).listen(reactor, addr)
}
