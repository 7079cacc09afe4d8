//! The connection's side: from its events to requests, one after another.
//!
//! Knows heads and handlers; bodies are in `request_body.rs`, failures in `failures.rs`, and the
//! states of a response in `exchange.rs`.
//!
//! A connection delivers `Data`, and its handler takes as many steps as the bytes allow: a head, a
//! piece of a body. It gives bytes back that it cannot use yet, and gets them again when more comes
//! or when the pending response is written. [`Intake`] is the part of a request that comes next:
//!
//! ```text
//!   Head ──whole, with its body──▶ handler ──▶ Head
//!     ├──its body is collected──▶ Collect ──whole──▶ handler ──▶ Head
//!     ├──its body is streamed───▶ handler ──▶ Flow ──End──▶ Head
//!     │                                        └──answered──▶ Discard ──End──▶ Head
//!     └──refused, timed out, panicked──▶ Ignore: the connection is on its way out
//! ```
//!
//! # Read next
//! `request_body.rs`: how the end of a body is found.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;

use http::StatusCode;

use super::exchange::{Exchange, RequestFlags, ResponseState};
use super::request_body::{Collect, Decoder, Discard, Flow, TOO_LARGE};
use super::request_time;
use super::{Excess, Reply, Request, Server, Service};
use crate::net::Conn;
use crate::net::Event;
use crate::net::Stream;
use crate::protocols::http::framing::Framing;
use crate::protocols::http::head::{self, RequestHead, parse_request};
use crate::protocols::http::head_scan::Scan;
use crate::protocols::http::refusal::Refusal;
use crate::protocols::http::route_matcher::Params;
use crate::reactor::{Context, SourceId};
use crate::timers::Tick;

/// Opens a connection with a [`ServerConn`] as its handler. With an `excess` it is one connection
/// too many: it is refused after its request.
#[track_caller]
pub(super) fn serve<S: 'static>(
    server: &Server<S>,
    reactor: &mut Context<S>,
    stream: Stream,
    excess: Option<Excess>,
) -> SourceId<Conn> {
    let common = server.common.clone();
    let resumer = reactor.resumer();
    let exchange = Rc::new(Exchange::new(common, resumer, stream.peer(), reactor.stamp()));
    let own = &server.common.connection;
    let stream = stream.accepted().adjust_limits(|limits| {
        limits.backlog_bytes_max = own.backlog_bytes_max;
        limits.write_timeout = own.write_timeout;
        limits.close_grace = own.close_grace;
        limits.half_open = own.half_open;
    });
    let time_for_request = request_time::time_for_request(&server.common.limits, excess.is_some());
    let armed = request_time::start(reactor, &exchange, time_for_request);
    let mut handler = ServerConn {
        service: server.service.clone(),
        exchange: exchange.clone(),
        intake: Intake::Head,
        scan: Scan::default(),
        partial: false,
        requests_left: 0,
        spent: false,
        armed,
        excess,
    };
    let id = stream.open_with_eof_at_cut(reactor, move |reactor, state, id, event| {
        handler.event(reactor, state, id, event);
    });
    exchange.conn.set(Some(id));
    id
}

/// The response on one connection too many.
const OVER_LIMIT: Refusal = Refusal::new(503, "the limit on connections is reached");

/// Requests of one connection that are handled in one call. Those behind them wait for the next
/// turn, so that other connections do not wait: one read may hold two thousand. 64: deeper than
/// clients pipeline.
const REQUESTS_PER_TURN: usize = 64;

/// The part of a request that the next bytes of a connection belong to.
pub(super) enum Intake<S> {
    Head,
    Collect(Box<Collect>),
    Flow(Box<Flow<S>>),
    Discard(Box<Discard>),
    Ignore,
}

impl<S> Intake<S> {
    pub(super) fn is_body(&self) -> bool {
        matches!(self, Intake::Collect(_) | Intake::Flow(_) | Intake::Discard(_))
    }
}

/// The handler of one connection.
pub(super) struct ServerConn<S: 'static> {
    pub(super) service: Rc<RefCell<dyn Service<S>>>,
    pub(super) exchange: Rc<Exchange>,
    pub(super) intake: Intake<S>,
    scan: Scan,
    /// True if the first bytes of a head are here.
    pub(super) partial: bool,
    /// Requests that may still begin in this call.
    requests_left: usize,
    /// `requests_left` was used up, and the backlog holds more requests: a nudge goes on with them.
    pub(super) spent: bool,
    /// The tick for which the timer is armed, or an earlier one.
    pub(super) armed: Tick,
    /// True if it is one connection too many.
    pub(super) excess: Option<Excess>,
}

impl<S: 'static> ServerConn<S> {
    fn event(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        event: Event<'_>,
    ) {
        match event {
            Event::Data(bytes) => self.data(reactor, state, id, bytes),
            Event::Drained => self.drained(reactor, state, id),
            Event::Eof => self.eof(reactor, state, id),
            Event::Closed(why) => {
                log::debug!("{}: closed: {why}", self.exchange.peer());
                self.closed(reactor, state);
            }
        }
    }

    /// Takes as many steps as `bytes` allow, and gives the rest back.
    fn data(&mut self, reactor: &mut Context<S>, state: &mut S, id: SourceId<Conn>, bytes: &[u8]) {
        if self.exchange.running.replace(false) {
            self.give_up(reactor, id);
        }
        self.requests_left = REQUESTS_PER_TURN;
        if mem::take(&mut self.spent)
            && let Some(conn) = reactor.get_mut(id)
        {
            conn.resume(); // It may be paused for that reason alone.
        }
        let mut used = 0;
        while let Some(count) = self.step(reactor, state, id, &bytes[used..]) {
            used += count;
        }
        if let Some(limit) = self.is_up(reactor) {
            self.time_out(reactor, state, id, limit);
        }
        if self.spent {
            id.nudge(reactor);
        }
        let waits = self.exchange.response.get() != ResponseState::Idle || self.spent;
        let Some(conn) = reactor.get_mut(id) else { return };
        let ignored = matches!(self.intake, Intake::Ignore) || self.exchange.closing.get();
        let left = bytes.len() - used;
        let wants_more = self.intake.is_body() && !self.exchange.body_paused.get();
        if wants_more && !ignored && conn.is_read_out() {
            return self.cut_body(reactor, state, id); // Its end came before its turn.
        }
        if !ignored {
            conn.unread(left);
            if (waits || self.exchange.blocked.get())
                && left > self.exchange.common.limits.pipelined_bytes_max
            {
                conn.pause();
            }
        }
        // The client has finished, with half a request or none: there is nothing to wait for.
        if conn.is_read_out() && !waits && !self.exchange.blocked.get() {
            self.exchange.close(conn);
        }
        if waits || self.partial || self.intake.is_body() || self.armed == Tick::NEVER {
            self.arm(reactor);
        }
    }

    /// Takes one step. Returns how many bytes it has used, or `None` if no step is possible.
    #[inline(always)] // Its second caller is a rare one: a call costs a request 100 instructions.
    pub(super) fn step(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        bytes: &[u8],
    ) -> Option<usize> {
        let exchange = &*self.exchange;
        match exchange.response.get() {
            ResponseState::Idle => {}
            ResponseState::Dropped => self.respond_for_dropped(reactor, id),
            ResponseState::Torn => {
                log::info!("{}: reset: its response was not ended", exchange.peer());
                exchange.response.set(ResponseState::Dead);
                reactor[id].abort();
            }
            _ => {}
        }
        let response = self.exchange.response.get();
        if response == ResponseState::Dead || self.exchange.closing.get() {
            return None;
        }
        match &self.intake {
            Intake::Head if response == ResponseState::Idle && !self.exchange.blocked.get() => {
                self.head(reactor, state, id, bytes)
            }
            Intake::Head | Intake::Ignore => None,
            Intake::Collect(_) => self.collect(reactor, state, id, bytes),
            Intake::Flow(_) if response == ResponseState::Idle => {
                self.discard(reactor, id, bytes.len())
            }
            Intake::Flow(_) => self.flow(reactor, state, id, bytes),
            Intake::Discard(_) => self.drop_body(reactor, id, bytes),
        }
    }

    fn head(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        bytes: &[u8],
    ) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        if self.requests_left == 0 {
            self.spent = true;
            return None;
        }
        let limits = self.exchange.common.limits.head();
        if !self.scan.is_due(bytes, limits) {
            return None;
        }
        let mut room = head::room();
        match parse_request(bytes, limits, &mut room) {
            Ok(Some(head)) => {
                self.scan = Scan::default();
                self.partial = false;
                self.begin(reactor, state, id, &head, bytes)
            }
            Ok(None) => {
                if !mem::replace(&mut self.partial, true) {
                    self.exchange.since.set(reactor.stamp());
                    self.exchange.flags.set(RequestFlags::default()); // Nothing is known of it.
                }
                None
            }
            Err(refusal) => {
                self.exchange.flags.set(RequestFlags::default());
                self.refuse(reactor, id, refusal);
                None
            }
        }
    }

    /// A head is whole: `bytes` begins with it.
    fn begin(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        head: &RequestHead<'_>,
        bytes: &[u8],
    ) -> Option<usize> {
        self.requests_left = self.requests_left.saturating_sub(1);
        let exchange = &*self.exchange;
        let number = exchange.requests.get() + 1;
        exchange.requests.set(number);
        let limits = &exchange.common.limits;
        let mut flags = RequestFlags::of(head);
        flags.keep_alive &= number < limits.requests_max;
        exchange.flags.set(flags);
        exchange.body_left.set(0);
        if self.excess.is_some() {
            self.refuse(reactor, id, OVER_LIMIT);
            return None;
        }
        let after = &bytes[head.bytes..];
        let params = Params::default();
        let request = Request { head, body: &[], peer: exchange.peer, params };
        if head.body == Framing::NONE {
            if head.upgrades {
                exchange.input.set(after.to_vec());
            }
            self.call(reactor, state, id, request);
            drop(self.exchange.input.take());
            return Some(head.bytes);
        }
        let streams = self.service.borrow().streams(&request);
        match head.body {
            framing if streams => {
                let decoder = Decoder::of(framing);
                let continues = head.expects_continue && after.is_empty();
                self.begin_flow(reactor, state, id, (request, after.len()), decoder, continues);
            }
            Framing::Length(length) if length > limits.body_bytes_max as u64 => {
                self.refuse(reactor, id, TOO_LARGE);
                return None;
            }
            Framing::Length(length) if length <= after.len() as u64 => {
                let (body, behind) = after.split_at(length as usize);
                if head.upgrades {
                    exchange.input.set(behind.to_vec());
                }
                self.call(reactor, state, id, Request { body, ..request });
                drop(self.exchange.input.take());
                return Some(head.bytes + body.len());
            }
            _ => self.begin_collect(reactor, id, head, bytes),
        }
        Some(head.bytes)
    }

    /// Hands a whole request to the handler.
    pub(super) fn call(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        request: Request<'_>,
    ) {
        let exchange = &*self.exchange;
        exchange.response.set(ResponseState::Pending);
        let reply = Reply::new(self.exchange.clone());
        if request.path() == "*" {
            // The server itself: only OPTIONS has this target.
            reply.send(reactor, StatusCode::NO_CONTENT);
            return;
        }
        exchange.run(reactor, |reactor| {
            self.service.borrow_mut().call(reactor, state, request, reply);
        });
        self.hold(reactor, id);
    }

    /// The handler has returned. A drain waits for the response from now on, and a limit on its
    /// time begins to run.
    #[inline]
    pub(super) fn hold(&self, reactor: &mut Context<S>, id: SourceId<Conn>) {
        let Some(conn) = reactor.get_mut(id) else {
            return self.exchange.end(); // It has taken the connection away, or removed it.
        };
        if conn.is_closing() {
            self.exchange.closing.set(true); // The handler may have closed it.
        }
        if self.exchange.response.get() != ResponseState::Idle {
            conn.hold();
            self.exchange.since.set(reactor.stamp());
        }
    }

    /// There is room for more of a response.
    fn drained(&mut self, reactor: &mut Context<S>, state: &mut S, id: SourceId<Conn>) {
        let exchange = self.exchange.clone();
        if exchange.closing.get() {
            return reactor[id].close();
        }
        if exchange.blocked.take() {
            if !exchange.body_paused.get() {
                reactor[id].resume();
            }
            id.nudge(reactor);
        }
        match exchange.response.get() {
            ResponseState::Sending => exchange.send_rest(reactor),
            ResponseState::Streaming => exchange.call_on_drained(reactor, state),
            _ => {}
        }
    }
}
