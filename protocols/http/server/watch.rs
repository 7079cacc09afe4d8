//! A watch on a client whose reply was moved away.
//!
//! Knows the exchange, and which of its requests is meant.
//!
//! # Read next
//! `router.rs`: which handler answers which request.

use std::fmt;
use std::rc::Rc;

use super::exchange::{Exchange, ResponseState};
use super::reply;
use crate::reactor::Context;

/// Watches the client of a [`Reply`](super::Reply) that was moved away, to a timer or a worker. It
/// does not have to answer. When the request is answered it reports nothing more.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::protocols::http::Server;
///
/// let server = Server::<()>::new(|reactor, _, _, reply| {
///     let watch = reply.watch();
///     let timer = reactor.after(Duration::from_secs(60), |reactor, _| {
///         reply.send(reactor, "at last");
///     });
///     watch.on_gone(reactor, move |reactor, _: &mut ()| {
///         reactor.cancel(timer);
///     });
/// });
/// ```
#[derive(Clone)]
pub struct Watch {
    exchange: Rc<Exchange>,
    /// The number of the request on its connection.
    request: usize,
}

impl Watch {
    pub(super) fn new(exchange: Rc<Exchange>) -> Watch {
        Watch { request: exchange.requests.get(), exchange }
    }

    /// Calls `gone` as [`Reply::on_gone`](super::Reply::on_gone) does, and replaces the callback
    /// that was set there. If the request was answered before, `gone` is dropped.
    pub fn on_gone<S, F>(&self, reactor: &mut Context<S>, gone: F)
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        if !self.is_answered() {
            reply::on_gone(&self.exchange, reactor, Box::new(gone));
        }
    }

    /// Returns true if the response is not complete, and would reach the connection.
    pub fn is_open<S: 'static>(&self, reactor: &Context<S>) -> bool {
        !self.is_answered() && self.exchange.is_open(reactor)
    }

    /// The same as [`Reply::pause_body`](super::Reply::pause_body), for the handler of a body whose
    /// reply, or the sender that was made of it, was moved elsewhere.
    ///
    /// ```
    /// use waterwheel::net::Pressure;
    /// use waterwheel::protocols::http::{ClientRequest, Body, CallEvent, Client, Server};
    ///
    /// // Passes every upload on, no faster than the other server takes it.
    /// let client = Client::new();
    /// let server = Server::streaming(move |reactor, _: &mut (), request, reply| {
    ///     let (slow_down, go_on, mut reply) = (reply.watch(), reply.watch(), Some(reply));
    ///     let upload = ClientRequest::post("http://127.0.0.1:9000/");
    ///     let upload = upload.body_stream(request.body_bytes());
    ///     let call = client.stream(reactor, upload, move |reactor, _, _, event| match event {
    ///         CallEvent::Head(head) => {
    ///             reply.take().map(|reply| reply.send(reactor, head.status));
    ///         }
    ///         CallEvent::Drained => go_on.resume_body(reactor),
    ///         _ => {} // After `Failed` the reply is dropped: a 500.
    ///     });
    ///     move |reactor, _, body| match body {
    ///         Body::Data(bytes) => {
    ///             if call.write(reactor, bytes) != Pressure::Below {
    ///                 slow_down.pause_body(reactor);
    ///             }
    ///         }
    ///         Body::End => call.end(reactor),
    ///         Body::Failed(_) => _ = call.cancel(reactor),
    ///     }
    /// });
    /// ```
    pub fn pause_body<S: 'static>(&self, reactor: &mut Context<S>) {
        if !self.is_answered() {
            reply::pause_body(&self.exchange, reactor);
        }
    }

    /// Takes [`pause_body`](Watch::pause_body) back, in the next turn.
    pub fn resume_body<S: 'static>(&self, reactor: &mut Context<S>) {
        if !self.is_answered() {
            reply::resume_body(&self.exchange, reactor);
        }
    }

    fn is_answered(&self) -> bool {
        let response = self.exchange.response.get();
        self.exchange.requests.get() != self.request || response == ResponseState::Idle
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("exchange", &self.exchange)
            .field("request", &self.request)
            .finish()
    }
}
