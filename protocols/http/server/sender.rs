//! A response in pieces: chunks, with back-pressure.
//!
//! Knows the exchange and its connection.
//!
//! # Read next
//! `watch.rs`: how to know that the client has gone.

use std::fmt;
use std::rc::Rc;

use super::exchange::{Exchange, ResponseState};
use super::reply;
use super::write_response::COPIED_BYTES;
use crate::net::Conn;
use crate::net::Pressure;
use crate::protocols::http::response::{Coding, put_number};
use crate::protocols::http::sse::SseEvent;
use crate::reactor::Context;

/// Bytes around a chunk: its size, two CRLF, and the end of the body behind it are 25 at most.
const AROUND_BYTES: usize = 40;

/// The body of a response that is being sent, made by [`Reply::stream`](super::Reply::stream).
///
/// Dropped without [`end`](Sender::end) it resets the connection, so that the client does not take
/// a part for the whole. Bytes that the client has not read by then, also the head, may be lost.
#[must_use = "dropped, it resets the connection"]
pub struct Sender(Rc<Exchange>);

impl Sender {
    pub(super) fn new(exchange: Rc<Exchange>) -> Sender {
        Sender(exchange)
    }

    /// Sends a piece: all of it, or nothing if it would exceed the limit on unsent bytes. After
    /// `AboveHigh`, and after such a refusal, [`on_drained`](Sender::on_drained) is called. A piece
    /// that exceeds the announced length is refused, too, and always will be. `Closed` if the body
    /// has ended or the client has gone.
    pub fn write<S: 'static>(&self, reactor: &mut Context<S>, bytes: &[u8]) -> Pressure {
        if self.0.response.get() != ResponseState::Streaming {
            return Pressure::Closed;
        }
        let Some(conn) = self.0.conn(reactor) else { return Pressure::Closed };
        match self.0.coding.get() {
            _ if bytes.is_empty() => Pressure::Below, // An empty chunk would be the end.
            Coding::None => Pressure::Below,
            Coding::UntilClose => conn.write(bytes),
            Coding::Length(left) if bytes.len() as u64 > left => Pressure::Refused,
            Coding::Length(left) => {
                let pressure = conn.write(bytes);
                if pressure.is_taken() {
                    self.0.coding.set(Coding::Length(left - bytes.len() as u64));
                }
                pressure
            }
            Coding::Chunked if !conn.admits(bytes.len() + AROUND_BYTES) => conn.refusal(),
            Coding::Chunked => {
                let mut out = self.0.common.head.take();
                put_number(&mut out, bytes.len() as u64, 16);
                out.extend_from_slice(b"\r\n");
                let pressure = if bytes.len() <= COPIED_BYTES {
                    out.extend_from_slice(bytes);
                    out.extend_from_slice(b"\r\n");
                    conn.write(&out)
                } else {
                    let _ = conn.write(&out); // There is room for all three, as was checked above.
                    let _ = conn.write(bytes);
                    conn.write(b"\r\n")
                };
                out.clear();
                self.0.common.head.set(out);
                pressure
            }
        }
    }

    /// Sends an event of a stream that [`Reply::events`](super::Reply::events) has begun. To send
    /// one to many, encode it once by [`SseEvent::write`], and [`write`](Sender::write) these
    /// bytes.
    pub fn event<S: 'static>(&self, reactor: &mut Context<S>, event: &SseEvent<'_>) -> Pressure {
        let mut text = self.0.common.text.take();
        text.clear();
        event.write(&mut text);
        let pressure = self.write(reactor, &text);
        self.0.common.text.set(text);
        pressure
    }

    /// Ends the body. Returns true if the connection was still open and the announced length, if
    /// there is one, was reached. If it was not, the connection is reset.
    pub fn end<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        if self.0.response.get() != ResponseState::Streaming {
            return false;
        }
        let now = reactor.stamp();
        let Some(conn) = self.0.conn(reactor) else { return false };
        let is_whole = match self.0.coding.get() {
            Coding::Chunked => conn.write(b"0\r\n\r\n").is_taken(),
            Coding::Length(left) => left == 0,
            Coding::UntilClose | Coding::None => true,
        };
        if !is_whole {
            return false; // Dropped: an incomplete body must not look complete.
        }
        self.0.blocked.set(conn.unsent() > conn.limits().outbox_bytes_high);
        self.0.finish(conn, now);
        self.0.wake_conn();
        true
    }

    /// Bytes written and not yet taken by the kernel.
    pub fn unsent<S: 'static>(&self, reactor: &Context<S>) -> usize {
        self.0.peek(reactor).map_or(0, Conn::unsent)
    }

    /// Returns true if so much is unsent that a write would return `AboveHigh`. A program that can
    /// wait does so until [`on_drained`](Sender::on_drained) is called.
    pub fn is_above_high<S: 'static>(&self, reactor: &Context<S>) -> bool {
        let conn = self.0.peek(reactor);
        conn.is_some_and(|conn| conn.unsent() > conn.limits().outbox_bytes_high)
    }

    /// Returns true if a piece would still reach the connection.
    pub fn is_open<S: 'static>(&self, reactor: &Context<S>) -> bool {
        self.0.response.get() == ResponseState::Streaming && self.0.is_open(reactor)
    }

    /// Calls `drained` each time there is room again. Replaces an earlier callback.
    pub fn on_drained<S, F>(&self, _: &mut Context<S>, drained: F)
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S) + 'static,
    {
        self.0.set_on_drained::<S>(Box::new(drained));
    }

    /// Hands the sender to `then` when there is room for more, in this turn if there is room now.
    /// If the client goes, both are dropped.
    ///
    /// ```
    /// use waterwheel::{Context, protocols::http::{Sender, Server, Response}, net::Pressure};
    ///
    /// fn count(reactor: &mut Context<()>, sender: Sender, from: u32) {
    ///     for number in from..1_000_000 {
    ///         if sender.write(reactor, format!("{number}\n").as_bytes()) != Pressure::Below {
    ///             return sender.when_drained(reactor, move |reactor, _, sender| {
    ///                 count(reactor, sender, number + 1);
    ///             });
    ///         }
    ///     }
    ///     sender.end(reactor);
    /// }
    ///
    /// let server = Server::new(|reactor, _, _, reply| {
    ///     let sender = reply.stream(reactor, Response::text(""));
    ///     count(reactor, sender, 0);
    /// });
    /// ```
    pub fn when_drained<S, F>(self, reactor: &mut Context<S>, then: F)
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S, Sender) + 'static,
    {
        let exchange = self.0.clone();
        match exchange.conn(reactor) {
            None => {}
            Some(conn) if !conn.awaits_drained() => {
                reactor.defer(move |reactor, state| then(reactor, state, self));
            }
            Some(_) => {
                let mut then = Some((then, self));
                exchange.set_on_drained::<S>(Box::new(move |reactor, state| {
                    if let Some((then, sender)) = then.take() {
                        then(reactor, state, sender);
                    }
                }));
            }
        }
    }

    /// Calls `gone` if the client goes before the end; see
    /// [`Reply::on_gone`](super::Reply::on_gone).
    pub fn on_gone<S, F>(&self, reactor: &mut Context<S>, gone: F)
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        reply::on_gone(&self.0, reactor, Box::new(gone));
    }

    /// See [`Reply::pause_body`](super::Reply::pause_body).
    pub fn pause_body<S: 'static>(&self, reactor: &mut Context<S>) {
        reply::pause_body(&self.0, reactor);
    }

    /// See [`Reply::resume_body`](super::Reply::resume_body).
    pub fn resume_body<S: 'static>(&self, reactor: &mut Context<S>) {
        reply::resume_body(&self.0, reactor);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.0.response.get() == ResponseState::Streaming {
            self.0.response.set(ResponseState::Torn);
            self.0.wake_conn();
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.0).finish()
    }
}
