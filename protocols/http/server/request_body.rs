//! Request bodies: collected, streamed, or dropped.
//!
//! Knows the two framings and the connection's part of a body; `server_conn.rs` calls it.
//!
//! # Read next
//! `failures.rs`: how a request fails.

use std::mem;

use super::exchange::{RequestFlags, ResponseState};
use super::server_conn::{Intake, ServerConn};
use super::{Body, BodyHandler, Reply, Request, request_time};
use crate::net::Conn;
use crate::protocols::http::chunked::{Chunked, Piece};
use crate::protocols::http::framing::Framing;
use crate::protocols::http::head::{self, RequestHead, parse_request};
use crate::protocols::http::refusal::Refusal;
use crate::protocols::http::route_matcher::Params;
use crate::reactor::{Context, SourceId};

/// Asks a client that waits for this to send its body (RFC 9110, 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Finds the end of a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decoder {
    /// Bytes still to come.
    Length(u64),
    Chunked(Chunked),
}

impl Decoder {
    pub(super) fn of(framing: Framing) -> Decoder {
        match framing {
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::Chunked(Chunked::default()),
            Framing::UntilClose => Decoder::Length(u64::MAX), // Not in requests.
        }
    }

    /// Takes one step. Returns how many bytes of `input` it has used, and its result.
    pub(super) fn step<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Piece<'a>), Refusal> {
        let left = match self {
            Decoder::Chunked(chunked) => return chunked.step(input),
            Decoder::Length(0) => return Ok((0, Piece::End)),
            Decoder::Length(left) => left,
        };
        let count = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
        *left -= count as u64;
        Ok(match count {
            0 => (0, Piece::More),
            count => (count, Piece::Data(&input[..count])),
        })
    }

    /// Bytes still to come; 1 if their number is unknown.
    pub(super) fn left(&self) -> u64 {
        match self {
            Decoder::Length(left) => *left,
            Decoder::Chunked(_) => 1,
        }
    }
}

/// A body that is collected, with the head it belongs to.
#[derive(Debug)]
pub(super) struct Collect {
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) decoder: Decoder,
}

impl Collect {
    /// Takes bytes in. Returns how many, and true if the body is whole.
    pub(super) fn take(&mut self, input: &[u8], max: usize) -> Result<(usize, bool), Refusal> {
        let mut used = 0;
        loop {
            let (count, piece) = self.decoder.step(&input[used..])?;
            used += count;
            match piece {
                Piece::Data(bytes) if bytes.len() > max - self.body.len() => {
                    return Err(TOO_LARGE);
                }
                Piece::Data(bytes) => self.body.extend_from_slice(bytes),
                Piece::More => return Ok((used, false)),
                Piece::End => return Ok((used, true)),
            }
        }
    }
}

/// The budget that all connections share is used up.
const TOO_MUCH: Refusal = Refusal::new(503, "too much is buffered for others");
pub(super) const TOO_LARGE: Refusal = Refusal::new(413, "the body is too large");

/// A body that is streamed.
pub(super) struct Flow<S> {
    pub(super) decoder: Decoder,
    pub(super) handler: BodyHandler<S>,
    /// The client waits for 100.
    pub(super) continues: bool,
}

/// A body that is read and dropped.
#[derive(Debug)]
pub(super) struct Discard {
    pub(super) decoder: Decoder,
    /// Bytes that may still be dropped; one more closes the connection.
    pub(super) budget: u64,
}

impl<S: 'static> ServerConn<S> {
    /// Begins a body that is streamed. `after` is how many bytes of input are behind its head.
    pub(super) fn begin_flow(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        (request, after): (Request<'_>, usize),
        decoder: Decoder,
        continues: bool,
    ) {
        self.begin_body(reactor, id);
        let exchange = &*self.exchange;
        exchange.flags.set(RequestFlags { upgrades: false, ..exchange.flags.get() });
        let left = decoder.left().saturating_sub(after as u64);
        exchange.body_left.set(if continues { u64::MAX } else { left });
        exchange.response.set(ResponseState::Pending);
        let reply = Reply::new(self.exchange.clone());
        let mut handler = None;
        exchange.run(reactor, |reactor| {
            handler = Some(self.service.borrow_mut().stream(reactor, state, request, reply));
        });
        if let Some(handler) = handler {
            self.intake = Intake::Flow(Box::new(Flow { decoder, handler, continues }));
        }
        self.hold(reactor, id);
    }

    /// Begins a body that is collected. `bytes` begins with its head.
    pub(super) fn begin_collect(
        &mut self,
        reactor: &mut Context<S>,
        id: SourceId<Conn>,
        head: &RequestHead<'_>,
        bytes: &[u8],
    ) {
        if head.expects_continue && bytes.len() == head.bytes {
            let _ = reactor[id].write(CONTINUE); // Nothing is lost if it is refused.
        }
        self.begin_body(reactor, id);
        self.intake = Intake::Collect(Box::new(Collect {
            head: bytes[..head.bytes].to_vec(),
            body: Vec::new(),
            decoder: Decoder::of(head.body),
        }));
    }

    /// From now on a drain waits for the body, and its time runs.
    fn begin_body(&self, reactor: &mut Context<S>, id: SourceId<Conn>) {
        reactor[id].hold();
        let grace = self.exchange.common.limits.body_grace;
        self.exchange.body_until.set(reactor.stamp().plus(grace));
    }

    /// Takes one step of a body that is collected; returns the same as [`ServerConn::step`].
    pub(super) fn collect(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        bytes: &[u8],
    ) -> Option<usize> {
        let limits = &self.exchange.common.limits;
        let Intake::Collect(collect) = &mut self.intake else { return None };
        let (used, whole) = match collect.take(bytes, limits.body_bytes_max) {
            Ok(taken) => taken,
            Err(refusal) => {
                self.refuse(reactor, id, refusal);
                return None;
            }
        };
        request_time::earn(&self.exchange, reactor.stamp(), used);
        if !whole {
            let bytes = collect.head.capacity() + collect.body.capacity();
            if !id.charge(reactor, bytes) {
                self.refuse(reactor, id, TOO_MUCH);
                id.charge(reactor, 0);
                return None;
            }
            return (used > 0).then_some(used);
        }
        if let Intake::Collect(collect) = mem::replace(&mut self.intake, Intake::Head) {
            let mut room = head::room();
            let limits = self.exchange.common.limits.head();
            if let Ok(Some(head)) = parse_request(&collect.head, limits, &mut room) {
                if head.upgrades {
                    self.exchange.input.set(bytes[used..].to_vec());
                }
                let (body, params) = (&*collect.body, Params::default());
                let peer = self.exchange.peer;
                self.call(reactor, state, id, Request { head: &head, body, peer, params });
                drop(self.exchange.input.take());
            }
            if self.exchange.response.get() != ResponseState::Sending {
                id.charge(reactor, 0); // Otherwise the rest of the response is charged.
            }
        }
        Some(used)
    }

    /// Takes one step of a body that is streamed; returns the same as [`ServerConn::step`].
    pub(super) fn flow(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        bytes: &[u8],
    ) -> Option<usize> {
        let exchange = &*self.exchange;
        let Intake::Flow(flow) = &mut self.intake else { return None };
        if exchange.body_paused.get() {
            return None;
        }
        if mem::take(&mut flow.continues) && exchange.response.get() == ResponseState::Pending {
            let _ = reactor[id].write(CONTINUE);
        }
        let (used, piece) = match flow.decoder.step(bytes) {
            Ok(step) => step,
            Err(refusal) => {
                self.refuse_body(reactor, state, id, refusal);
                return None;
            }
        };
        request_time::earn(exchange, reactor.stamp(), used);
        let left = flow.decoder.left().saturating_sub((bytes.len() - used) as u64);
        let event = match piece {
            Piece::Data(bytes) => Body::Data(bytes),
            Piece::More => {
                exchange.body_left.set(left);
                return (used > 0).then_some(used);
            }
            Piece::End => Body::End,
        };
        exchange.body_left.set(if event == Body::End { 0 } else { left });
        exchange.run(reactor, |reactor| (flow.handler)(reactor, state, event));
        if event == Body::End {
            self.intake = Intake::Head;
        }
        self.hold(reactor, id);
        Some(used)
    }

    /// The response is complete and the request's body is not. If little of the body is left, it is
    /// dropped, otherwise the connection is closed. The bytes that have arrived, `arrived`, do not
    /// count: the head of the response did not count them either when it announced if the
    /// connection stays open.
    pub(super) fn discard(
        &mut self,
        reactor: &mut Context<S>,
        id: SourceId<Conn>,
        arrived: usize,
    ) -> Option<usize> {
        let limits = &self.exchange.common.limits;
        let budget = limits.discard_bytes_max.saturating_add(arrived as u64);
        let Intake::Flow(flow) = mem::replace(&mut self.intake, Intake::Ignore) else {
            return None;
        };
        self.begin_body(reactor, id);
        self.intake = Intake::Discard(Box::new(Discard { decoder: flow.decoder, budget }));
        Some(0)
    }

    /// Takes one step of a body that is dropped; returns the same as [`ServerConn::step`].
    pub(super) fn drop_body(
        &mut self,
        reactor: &mut Context<S>,
        id: SourceId<Conn>,
        bytes: &[u8],
    ) -> Option<usize> {
        let Intake::Discard(discard) = &mut self.intake else { return None };
        let (used, is_end) = match discard.decoder.step(bytes) {
            Ok((used, piece)) if used as u64 <= discard.budget => (used, piece == Piece::End),
            _ => {
                self.intake = Intake::Ignore;
                self.exchange.close(&mut reactor[id]);
                return None;
            }
        };
        discard.budget -= used as u64;
        request_time::earn(&self.exchange, reactor.stamp(), used);
        if is_end {
            self.intake = Intake::Head;
            self.exchange.since.set(reactor.stamp());
            reactor[id].release();
            return Some(used);
        }
        (used > 0).then_some(used)
    }
}
