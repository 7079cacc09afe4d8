//! A reply: the right, and the duty, to answer one request.
//!
//! Knows the exchange it belongs to. It may be kept, moved, and sent from anywhere in the loop.
//!
//! # Read next
//! `write_response.rs`: how a response is written.

use std::fmt;
use std::rc::Rc;

use http::StatusCode;

use super::exchange::{Exchange, Gone, RequestFlags, ResponseState};
use super::sender::Sender;
use super::watch::Watch;
use crate::net::Conn;
use crate::net::Stream;
use crate::protocols::http::response::{Coding, Connection, Response};
use crate::reactor::{Context, SourceId};

/// The right to answer one request: now, or an hour later from a timer, a worker's result, another
/// connection's callback. If it is dropped before, the client gets a 500, and the log a line.
#[must_use = "dropped, it answers with 500"]
pub struct Reply(Rc<Exchange>);

impl Reply {
    pub(super) fn new(exchange: Rc<Exchange>) -> Reply {
        Reply(exchange)
    }

    pub(super) fn exchange(&self) -> Rc<Exchange> {
        self.0.clone()
    }

    /// The connection of the request, until the request is answered: for facts about the client,
    /// such as the certificates of [`Conn::tls`]. Send by the reply, never by this.
    ///
    /// [`Conn::tls`]: crate::net::Conn
    pub fn conn(&self) -> Option<SourceId<Conn>> {
        self.0.conn.get().filter(|_| self.0.response.get() == ResponseState::Pending)
    }

    /// Answers. Returns true if the connection was still open; even then the client may have gone.
    /// Head and body leave in one write.
    pub fn send<S: 'static>(self, reactor: &mut Context<S>, response: impl Into<Response>) -> bool {
        self.0.respond(reactor, response.into())
    }

    /// Answers with a body that comes in pieces, for any time: chunked, or for a client of HTTP/1.0
    /// until the connection closes. The response's own body is the first piece, if it has one; if
    /// that exceeds the limit on unsent bytes (4 MiB), the connection is reset and the log says so.
    ///
    /// The response to a HEAD, or with a status that has no body, is complete with its head: for
    /// its sender the client counts as gone, and [`Sender::on_gone`] is called. A program that acts
    /// only for a client that has really gone calls [`Sender::is_open`] before.
    pub fn stream<S: 'static>(
        self,
        reactor: &mut Context<S>,
        response: impl Into<Response>,
    ) -> Sender {
        let coding = match self.0.flags.get() {
            RequestFlags { is_http10: true, .. } => Coding::UntilClose,
            _ => Coding::Chunked,
        };
        self.begin(reactor, response.into(), coding)
    }

    /// [`stream`](Reply::stream) of a body whose length is known and is sent in the head. Exactly
    /// so many bytes must follow. Further ones are refused; if the response's own body is longer,
    /// or fewer bytes follow, the connection is reset. The response to a HEAD has the length, and
    /// no body.
    pub fn stream_sized<S: 'static>(
        self,
        reactor: &mut Context<S>,
        response: impl Into<Response>,
        body_bytes: u64,
    ) -> Sender {
        self.begin(reactor, response.into(), Coding::Length(body_bytes))
    }

    fn begin<S: 'static>(
        self,
        reactor: &mut Context<S>,
        response: Response,
        coding: Coding,
    ) -> Sender {
        if self.0.response.get() == ResponseState::Pending {
            if !response.is_final() {
                let sender = Sender::new(self.0.dead());
                self.send(reactor, response); // A 500, and no stream.
                return sender;
            }
            let flags = self.0.flags.get();
            let bodiless = self.0.bodiless(&response);
            let coding = bodiless.unwrap_or(coding);
            self.0.coding.set(coding);
            let date = self.0.common.dates.get(reactor);
            let now = reactor.stamp();
            if let Some(conn) = self.0.conn(reactor)
                && self.0.write_head(conn, &response, coding, &[], &date)
            {
                if bodiless.is_some() || flags.is_head {
                    self.0.finish(conn, now);
                    self.0.wake_conn();
                    return Sender::new(self.0.dead());
                }
                self.0.response.set(ResponseState::Streaming);
                let sender = Sender::new(self.0.clone());
                let pressure = sender.write(reactor, response.body.as_slice());
                if !pressure.is_taken() && self.0.is_open(reactor) {
                    log::error!("{}: the first piece of a stream is too large", self.0.peer());
                    return Sender::new(self.0.dead()); // The other sender is dropped: a reset.
                }
                return sender;
            }
            self.0.response.set(ResponseState::Dead);
        }
        Sender::new(self.0.clone())
    }

    /// Answers with a stream of server-sent events, each sent by [`Sender::event`].
    ///
    /// ```
    /// use waterwheel::{Reactor, protocols::http::{self, Sender, SseEvent}};
    ///
    /// // Each client gets an event for every client that comes after it.
    /// let mut reactor = Reactor::new()?;
    /// http::listen(&mut reactor, "127.0.0.1:0", |reactor, all: &mut Vec<Sender>, request, reply| {
    ///     let news = format!("{} is here", request.path());
    ///     all.push(reply.events(reactor));
    ///     all.retain(|one| one.is_open(reactor));
    ///     for one in all.iter() {
    ///         let _ = one.event(reactor, &SseEvent::data(&news)); // A slow one misses it.
    ///     }
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn events<S: 'static>(self, reactor: &mut Context<S>) -> Sender {
        let response = Response::new(StatusCode::OK)
            .header("Content-Type", "text/event-stream")
            .header("Cache-Control", "no-cache");
        self.stream(reactor, response)
    }

    /// Answers and hands the connection over: to another protocol with 101, or to a tunnel with the
    /// 200 of a CONNECT. Bytes that the client has sent behind its request come first in the
    /// stream.
    ///
    /// `None` if the client has gone. `None`, a 500 and a line in the log if the client did not ask
    /// for an upgrade, or if the body is streamed: the request has to be read whole before.
    pub fn upgrade<S: 'static>(
        self,
        reactor: &mut Context<S>,
        response: impl Into<Response>,
    ) -> Option<Stream> {
        let exchange = &self.0;
        if exchange.response.get() != ResponseState::Pending {
            return None;
        }
        let response = response.into();
        if response.bad.is_some() {
            exchange.respond(reactor, response); // With a 500, and no upgrade.
            return None;
        }
        if !exchange.flags.get().upgrades {
            log::error!("answering {} with 500: it cannot be upgraded", exchange.peer());
            exchange.respond(reactor, StatusCode::INTERNAL_SERVER_ERROR.into());
            return None;
        }
        let date = exchange.common.dates.get(reactor);
        let conn = exchange.conn(reactor)?;
        let usual = Connection::Usual; // Also in a drain: the response's own field counts.
        if !exchange.put_head(conn, &response, Coding::None, usual, &[], &date) {
            return None;
        }
        conn.release();
        conn.resume();
        let id = exchange.conn.get()?;
        exchange.timer.take().map(|timer| reactor.cancel(timer));
        let input = exchange.input.take();
        let conn = reactor.deregister(id)?;
        exchange.end();
        let limits = |limits: &mut crate::net::Limits| *limits = crate::net::Limits::default();
        Some(Stream::from(conn).adjust_limits(limits).unread(&input))
    }

    /// Calls `gone` if the client goes before the response is complete. A client that has finished
    /// sending counts as gone, since most have; one that still reads gets the response
    /// nevertheless. Replaces an earlier callback.
    pub fn on_gone<S, F>(&self, reactor: &mut Context<S>, gone: F)
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        on_gone(&self.0, reactor, Box::new(gone));
    }

    /// Returns true if a response would still reach the connection.
    pub fn is_open<S: 'static>(&self, reactor: &Context<S>) -> bool {
        self.0.response.get() == ResponseState::Pending && self.0.is_open(reactor)
    }

    /// Watches the client when the reply is elsewhere.
    pub fn watch(&self) -> Watch {
        Watch::new(self.0.clone())
    }

    /// Delivers no more of a streamed body until [`resume_body`](Reply::resume_body); the client
    /// is slowed down when the kernel's buffer is full. Meanwhile only a reset shows that it has
    /// gone, because its FIN comes behind the bytes that are not read.
    pub fn pause_body<S: 'static>(&self, reactor: &mut Context<S>) {
        pause_body(&self.0, reactor);
    }

    /// Takes [`pause_body`](Reply::pause_body) back, in the next turn.
    pub fn resume_body<S: 'static>(&self, reactor: &mut Context<S>) {
        resume_body(&self.0, reactor);
    }
}

pub(super) fn on_gone<S: 'static>(exchange: &Exchange, reactor: &mut Context<S>, gone: Gone<S>) {
    let response = exchange.response.get();
    let is_open = matches!(
        response,
        ResponseState::Pending | ResponseState::Sending | ResponseState::Streaming
    );
    match exchange.conn(reactor) {
        Some(conn) if is_open && !conn.is_read_out() => {
            exchange.set_on_gone(gone);
        }
        _ => {
            exchange.has_callbacks.set(true);
            reactor.defer(gone);
        }
    }
}

pub(super) fn pause_body<S: 'static>(exchange: &Exchange, reactor: &mut Context<S>) {
    if let Some(conn) = exchange.conn(reactor) {
        exchange.body_paused.set(true);
        conn.pause();
    }
}

pub(super) fn resume_body<S: 'static>(exchange: &Exchange, reactor: &mut Context<S>) {
    if exchange.body_paused.replace(false)
        && let Some(id) = exchange.conn.get()
    {
        let grace = exchange.common.limits.body_grace;
        exchange.body_until.set(reactor.stamp().plus(grace));
        if let Some(conn) = exchange.conn(reactor) {
            conn.resume();
        }
        id.nudge(reactor);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.0.response.get() == ResponseState::Pending {
            self.0.response.set(ResponseState::Dropped);
            self.0.wake_conn();
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&self.0).finish()
    }
}
