//! An exchange: the state that a connection and the reply to its request share.
//!
//! Knows one connection and the states of a response; never mentions the program's state, so that
//! a [`Reply`](super::Reply) is a plain value.
//!
//! A connection has one, for all of its requests: they are handled one after another.
//!
//! ```text
//!   Idle ──request──▶ Pending ──send────────▶ (Sending, if it is large) ──▶ Idle
//!                      │   │ ──stream──▶ Streaming ──end──────────────────▶ Idle
//!                      │   │                   └──dropped──▶ Torn: reset
//!                      │   └──dropped──▶ Dropped: answered with 500 ──────▶ Idle
//!                      └──upgrade, or the connection goes──▶ Dead
//! ```
//!
//! # Rules
//! 1. A response begins in `Pending` only. If the server has answered in place of the handler, such
//!    as after a timeout, it closes the connection: the late reply cannot answer another request.
//! 2. Callbacks are taken out before they are called or dropped: they may own the reply.
//!
//! # Read next
//! `server_conn.rs`: the connection's side.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use http::{Method, Version};

use super::Common;
use crate::net::Conn;
use crate::net::authors::nudge_by;
use crate::protocols::http::head::RequestHead;
use crate::protocols::http::payload::Payload;
use crate::protocols::http::response::{Coding, Response};
use crate::reactor::{Context, Resumer, SourceId};
use crate::timers::{Stamp, TimerId};

/// With more than this unsent, closing waits until the client has taken some of it: the grace of a
/// close would be too short for a client that reads slowly. 64 KiB.
const CLOSE_BYTES_MAX: usize = 64 * 1024;

/// How far the response to the present request has come; see the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseState {
    /// No request is being answered.
    Idle,
    /// The handler has the reply.
    Pending,
    /// A large body is on its way.
    Sending,
    /// A [`Sender`](super::Sender) has the rest of the response.
    Streaming,
    /// The reply was dropped: the connection answers with 500.
    Dropped,
    /// The sender was dropped before the end: the connection is reset.
    Torn,
    /// The connection has gone, or was handed over.
    Dead,
}

/// The properties of a request on which its response depends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestFlags {
    pub(super) is_head: bool,
    pub(super) is_http10: bool,
    /// Another request may follow.
    pub(super) keep_alive: bool,
    /// The connection may be handed over: the client has asked for it, and the request is whole.
    pub(super) upgrades: bool,
    /// A response of success opens a tunnel.
    pub(super) is_connect: bool,
}

impl RequestFlags {
    pub(super) fn of(head: &RequestHead<'_>) -> RequestFlags {
        // Bytes behind a CONNECT are meant for the tunnel, and are no requests if there is none.
        let is_connect = head.method == Method::CONNECT;
        RequestFlags {
            is_head: head.method == Method::HEAD,
            is_http10: head.version == Version::HTTP_10,
            keep_alive: head.keep_alive && !is_connect,
            upgrades: head.upgrades,
            is_connect,
        }
    }
}

/// The callback for when the client goes.
pub(super) type Gone<S> = Box<dyn FnOnce(&mut Context<S>, &mut S)>;
/// The callback for when there is room again.
pub(super) type Drained<S> = Box<dyn FnMut(&mut Context<S>, &mut S)>;

/// See the head of this file.
pub(super) struct Exchange {
    pub(super) common: Rc<Common>,
    resumer: Resumer,
    pub(super) peer: Option<SocketAddr>,
    /// Written once, when the connection is opened.
    pub(super) conn: Cell<Option<SourceId<Conn>>>,
    pub(super) timer: Cell<Option<TimerId>>,
    pub(super) response: Cell<ResponseState>,
    /// Requests so far: the number of the current one.
    pub(super) requests: Cell<usize>,
    pub(super) flags: Cell<RequestFlags>,
    /// How the body of a streamed response ends.
    pub(super) coding: Cell<Coding>,
    /// True while the connection's handler is on the stack: it will notice every change.
    pub(super) running: Cell<bool>,
    /// Too much is unsent to go on with the next request.
    pub(super) blocked: Cell<bool>,
    /// True if it is being closed: input is dropped.
    pub(super) closing: Cell<bool>,
    /// True while the handler has paused the body.
    pub(super) body_paused: Cell<bool>,
    /// True if the timer has fired, and the connection has not checked its limits yet.
    pub(super) timer_fired: Cell<bool>,
    /// Bytes of the request's body that are not read yet: 1 if their number is unknown, `u64::MAX`
    /// while the client waits for 100 and may never send them.
    pub(super) body_left: Cell<u64>,
    /// When the state, or the head, began.
    pub(super) since: Cell<Stamp>,
    /// By when more of the body must have come.
    pub(super) body_until: Cell<Stamp>,
    /// A large body, and how much of it was sent.
    pub(super) rest: Cell<Option<Box<(Payload, usize)>>>,
    /// One of the callbacks was set for this request.
    pub(super) has_callbacks: Cell<bool>,
    /// A [`Gone<S>`]: its type is known only where there is a `Context<S>`.
    on_gone: Cell<Option<Box<dyn Any>>>,
    /// A [`Drained<S>`], for the same reason.
    on_drained: Cell<Option<Box<dyn Any>>>,
    /// The bytes behind a head that asks for another protocol, while its handler runs.
    pub(super) input: Cell<Vec<u8>>,
}

impl Exchange {
    pub(super) fn new(
        common: Rc<Common>,
        resumer: Resumer,
        peer: Option<SocketAddr>,
        now: Stamp,
    ) -> Exchange {
        Exchange {
            common,
            resumer,
            peer,
            conn: Cell::new(None),
            timer: Cell::new(None),
            response: Cell::new(ResponseState::Idle),
            requests: Cell::new(0),
            flags: Cell::default(),
            coding: Cell::new(Coding::None),
            running: Cell::new(false),
            blocked: Cell::new(false),
            closing: Cell::new(false),
            body_paused: Cell::new(false),
            timer_fired: Cell::new(false),
            body_left: Cell::new(0),
            since: Cell::new(now),
            body_until: Cell::new(Stamp::START),
            rest: Cell::new(None),
            has_callbacks: Cell::new(false),
            on_gone: Cell::new(None),
            on_drained: Cell::new(None),
            input: Cell::default(),
        }
    }

    /// An exchange without a connection, for a sender that has nothing to send: its client counts
    /// as gone.
    pub(super) fn dead(&self) -> Rc<Exchange> {
        Rc::new(Exchange::new(self.common.clone(), self.resumer.clone(), self.peer, Stamp::START))
    }

    /// If a response to this request has no body, how its head says so.
    pub(super) fn bodiless(&self, response: &Response) -> Option<Coding> {
        let tunnel = self.flags.get().is_connect && response.code().is_success();
        if tunnel { Some(Coding::None) } else { response.bodiless() }
    }

    /// Makes this request the last on its connection.
    pub(super) fn set_last(&self) {
        self.flags.set(RequestFlags { keep_alive: false, ..self.flags.get() });
    }

    /// The connection, if it is still there and can take a response.
    pub(super) fn conn<'a, S: 'static>(&self, reactor: &'a mut Context<S>) -> Option<&'a mut Conn> {
        let conn = reactor.get_mut(self.conn.get()?);
        conn.filter(|conn| !conn.is_closing() && !conn.has_failed())
    }

    /// Returns true if the connection is there and can take more of a response.
    pub(super) fn is_open<S: 'static>(&self, reactor: &Context<S>) -> bool {
        self.peek(reactor).is_some_and(|conn| !conn.is_closing() && !conn.has_failed())
    }

    /// The connection, if it is still there; read-only.
    pub(super) fn peek<'a, S: 'static>(&self, reactor: &'a Context<S>) -> Option<&'a Conn> {
        reactor.get(self.conn.get()?)
    }

    /// Makes the connection check for changes, in the next turn.
    pub(super) fn nudge(&self) {
        if let Some(conn) = self.conn.get() {
            nudge_by(&self.resumer, conn);
        }
    }

    /// The timer has fired, and all input was read: makes the connection check its limits.
    pub(super) fn on_timer(&self) {
        self.timer_fired.set(true);
        self.nudge();
    }

    /// The response is written: the next request may come, or the connection is closed.
    pub(super) fn finish(&self, conn: &mut Conn, now: Stamp) {
        self.response.set(ResponseState::Idle);
        self.since.set(now);
        self.body_paused.set(false);
        if self.has_callbacks.take() {
            drop((self.on_gone.take(), self.on_drained.take()));
        }
        conn.release();
        conn.resume();
        conn.note_traffic(now); // For a drain: the client may be about to send the next request.
        if !self.flags.get().keep_alive {
            self.close(conn);
        }
    }

    /// Lets the connection go on. If its handler is on the stack, it does so anyway.
    pub(super) fn wake_conn(&self) {
        if !self.running.get() {
            self.nudge();
        }
    }

    /// Closes as soon as few bytes are unsent. Input that still comes is dropped.
    pub(super) fn close(&self, conn: &mut Conn) {
        self.closing.set(true);
        if conn.unsent() <= CLOSE_BYTES_MAX {
            conn.close();
        } else {
            conn.ask_for_drained_when_empty();
        }
    }

    /// The connection is gone, or was handed over.
    pub(super) fn end(&self) {
        self.response.set(ResponseState::Dead);
        drop((self.rest.take(), self.on_drained.take(), self.on_gone.take(), self.input.take()));
    }

    /// Sets the callback for when there is room for more of a streamed response.
    pub(super) fn set_on_drained<S: 'static>(&self, drained: Drained<S>) {
        if self.response.get() == ResponseState::Streaming {
            self.has_callbacks.set(true);
            drop(self.on_drained.replace(Some(Box::new(drained))));
        }
    }

    /// Sets the callback for when the client goes.
    pub(super) fn set_on_gone<S: 'static>(&self, gone: Gone<S>) {
        self.has_callbacks.set(true);
        drop(self.on_gone.replace(Some(Box::new(gone))));
    }

    /// Calls `call`, which calls the connection's handler. If that panics, `running` stays set and the
    /// handler is called again: it then closes the connection, because input was lost.
    pub(super) fn run<S: 'static>(
        &self,
        reactor: &mut Context<S>,
        call: impl FnOnce(&mut Context<S>),
    ) {
        self.running.set(true);
        let end = |_: &mut Context<S>, (), returned: bool| match returned {
            true => self.running.set(false),
            false => self.nudge(),
        };
        reactor.lend((), end, |reactor, ()| call(reactor));
    }

    /// Calls the callback that [`set_on_drained`](Exchange::set_on_drained) has set.
    pub(super) fn call_on_drained<S: 'static>(&self, reactor: &mut Context<S>, state: &mut S) {
        // Put back unless there is another by now, or nothing left to send.
        let put_back = |_: &mut Context<S>, drained, _| {
            if self.response.get() == ResponseState::Streaming {
                let newer = self.on_drained.take();
                self.on_drained.set(newer.or(drained));
            }
        };
        reactor.lend(self.on_drained.take(), put_back, |reactor, drained| {
            let drained = drained.as_mut().and_then(|drained| drained.downcast_mut::<Drained<S>>());
            if let Some(drained) = drained {
                drained(reactor, state);
            }
        });
    }

    /// Takes the callback for when the client goes.
    pub(super) fn take_gone<S: 'static>(&self) -> Option<Gone<S>> {
        self.on_gone.take()?.downcast::<Gone<S>>().ok().map(|gone| *gone)
    }

    /// The client's address, for the log.
    pub(super) fn peer(&self) -> impl fmt::Display + use<> {
        Peer(self.peer)
    }
}

/// A client, for the log.
pub(super) struct Peer(pub(super) Option<SocketAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => addr.fmt(f),
            None => f.write_str("a peer without an address"),
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("conn", &self.conn.get())
            .field("response", &self.response.get())
            .finish_non_exhaustive()
    }
}
