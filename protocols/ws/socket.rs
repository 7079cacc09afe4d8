//! Sockets: the program's handle to a WebSocket, by which it sends.
//!
//! Knows one connection; its input is handled in `drive.rs`, its timeouts in `watch.rs`.
//!
//! ```text
//!   Connecting ──the server has agreed─▶ Open ──close()──▶ Closing ──the peer's Close──▶ Over
//!                                        Open ──the peer's Close, a fault, a timeout──▶ Over
//! ```
//!
//! In `Closing` and `Over` nothing more is sent, and of the input only a Close matters. `Closed`
//! comes when the connection under it has ended.
//!
//! # Read next
//! `drive.rs`: what arrives.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::close::Payload;
use super::event::Reason;
use super::frame::{Kind, Role};
use super::limits::Limits;
use super::message::Message;
use super::send;
use super::watch::{self, Watch};
use crate::net::{Conn, Pressure};
use crate::reactor::{Context, SourceId};

/// How far a WebSocket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Open,
    /// We have sent a Close and wait for the peer's.
    Closing,
    /// Nothing more is read; the connection ends.
    Over,
}

/// What could not be sent yet, and is when there is room.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Of the last ping alone: RFC 6455, 5.5.3.
    pub(super) pong: Option<Box<[u8]>>,
    pub(super) close: Option<Payload>,
    /// The connection is to be closed behind that.
    pub(super) end: bool,
}

/// Ends an attempt to connect; it is given the `Context`.
pub(super) type Cancel = Box<dyn FnOnce(&mut dyn Any)>;

/// A WebSocket: clones are the same one. Harmless when it is over: what is sent then is refused.
#[derive(Clone)]
pub struct Socket(pub(super) Rc<Shared>);

/// What handler and holders share.
pub(super) struct Shared {
    pub(super) role: Role,
    pub(super) limits: Rc<Limits>,
    pub(super) conn: Cell<Option<SourceId<Conn>>>,
    pub(super) phase: Cell<Phase>,
    /// The handler is to get `Drained`.
    pub(super) above: Cell<bool>,
    pub(super) watch: Watch,
    pub(super) owed: RefCell<Option<Box<Owed>>>,
    /// Why it is over, where that is known before the connection has ended.
    pub(super) end: Cell<Option<Box<Reason>>>,
    /// The subprotocol that was agreed on.
    pub(super) protocol: RefCell<Option<Box<str>>>,
    pub(super) cancel: Cell<Option<Cancel>>,
}

impl Socket {
    pub(super) fn new(role: Role, limits: Rc<Limits>, protocol: Option<&str>) -> Socket {
        Socket(Rc::new(Shared {
            role,
            limits,
            conn: Cell::new(None),
            phase: Cell::new(Phase::Connecting),
            above: Cell::new(false),
            watch: Watch::default(),
            owed: RefCell::new(None),
            end: Cell::new(None),
            protocol: RefCell::new(protocol.map(Box::from)),
            cancel: Cell::new(None),
        }))
    }

    /// Sends a text, or refuses it whole, as before it is connected. `Closed` from its close on.
    pub fn text<S: 'static>(&self, reactor: &mut Context<S>, text: &str) -> Pressure {
        self.put(reactor, Kind::Text, text.as_bytes())
    }

    /// Sends bytes as one message, or refuses them all.
    pub fn binary<S: 'static>(&self, reactor: &mut Context<S>, bytes: &[u8]) -> Pressure {
        self.put(reactor, Kind::Binary, bytes)
    }

    /// Sends a message that was made before, as to many: see [`Message`].
    pub fn send<S: 'static>(&self, reactor: &mut Context<S>, message: &Message) -> Pressure {
        if self.0.role == Role::Client {
            return self.put(reactor, message.kind(), message.payload());
        }
        match self.open_conn(reactor) {
            Some(conn) => {
                let pressure = conn.write(message.frame());
                if pressure.is_taken() {
                    self.0.watch.wrote(message.frame().len());
                }
                self.note(pressure)
            }
            None => self.refusal(),
        }
    }

    /// Sends a ping of at most 125 bytes; more are refused. An answer comes as
    /// [`Pong`](super::Event::Pong). Whether a peer is still there is found out without this: see
    /// [`Limits::ping_interval`].
    pub fn ping<S: 'static>(&self, reactor: &mut Context<S>, payload: &[u8]) -> Pressure {
        if payload.len() > super::frame::CONTROL_BYTES_MAX {
            return Pressure::Refused;
        }
        self.put(reactor, Kind::Ping, payload)
    }

    /// Closes in order: a Close with this code (see [`code`](super::code)) and at most 123 bytes of
    /// the reason goes out behind what was sent, the peer's is awaited for
    /// [`Limits::close_timeout`], then the connection ends. What the peer says meanwhile is
    /// discarded. With a code that no frame may carry, such as 1005 or 1006, the Close has none.
    ///
    /// A [`drain`](crate::net::drain()) closes sockets that a server has accepted with 1001 as soon
    /// as nothing is in flight, half a message included, and waits for the peer's Close.
    ///
    /// Of one that is still connecting it is the same as [`abort`](Socket::abort).
    pub fn close<S: 'static>(&self, reactor: &mut Context<S>, code: u16, reason: &str) {
        match self.0.phase.get() {
            Phase::Connecting => self.abort(reactor),
            Phase::Open => {
                self.0.phase.set(Phase::Closing);
                send::close(self, reactor, Payload::new(code, reason), false);
                if let Some(conn) = self.conn_mut(reactor) {
                    conn.resume(); // Or the peer's Close would not be read.
                    conn.hold(); // A drain waits for it.
                }
                watch::closing(self, reactor);
            }
            Phase::Closing | Phase::Over => {}
        }
    }

    /// Ends it at once: what is unsent is dropped and the peer gets a reset. `Closed` follows.
    pub fn abort<S: 'static>(&self, reactor: &mut Context<S>) {
        if let Some(cancel) = self.0.cancel.take() {
            self.end_with(Reason::Aborted);
            return cancel(reactor);
        }
        if let Some(conn) = self.conn_mut(reactor) {
            conn.abort();
            self.end_with(Reason::Aborted);
        }
    }

    /// Delivers no more messages until [`resume`](Socket::resume), and reads nothing: the peer is
    /// slowed down, and the checks of its silence rest.
    pub fn pause<S: 'static>(&self, reactor: &mut Context<S>) {
        if let Some(conn) = self.open_conn(reactor) {
            conn.pause();
        }
    }

    /// Takes a [`pause`](Socket::pause) back, in the next turn.
    pub fn resume<S: 'static>(&self, reactor: &mut Context<S>) {
        if let Some(conn) = self.open_conn(reactor) {
            conn.resume();
            watch::resumed(self, reactor);
        }
    }

    /// Returns true if messages are taken: it is connected, and no end has begun to close it.
    pub fn is_open(&self) -> bool {
        self.0.phase.get() == Phase::Open
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// The subprotocol that both ends have agreed on.
    pub fn protocol(&self) -> Option<String> {
        self.0.protocol.borrow().as_deref().map(str::to_owned)
    }

    /// The connection under it, for its limits, its peer's address and what waits there to be sent;
    /// `None` while connecting. Do not write to it: the bytes would break the frames.
    pub fn conn(&self) -> Option<SourceId<Conn>> {
        self.0.conn.get()
    }

    fn put<S: 'static>(&self, reactor: &mut Context<S>, kind: Kind, payload: &[u8]) -> Pressure {
        match self.open_conn(reactor) {
            Some(conn) => self.note(send::frame(self, conn, kind, payload)),
            None => self.refusal(),
        }
    }

    /// The answer to a message where there is no open connection.
    fn refusal(&self) -> Pressure {
        let waits = self.0.phase.get() == Phase::Connecting;
        if waits { Pressure::Refused } else { Pressure::Closed }
    }

    #[inline]
    fn note(&self, pressure: Pressure) -> Pressure {
        if matches!(pressure, Pressure::AboveHigh | Pressure::Refused) {
            self.0.above.set(true);
        }
        pressure
    }

    /// The connection, if messages may be sent.
    #[inline]
    fn open_conn<'a, S: 'static>(&self, reactor: &'a mut Context<S>) -> Option<&'a mut Conn> {
        if self.is_open() { self.conn_mut(reactor) } else { None }
    }

    #[inline]
    pub(super) fn conn_mut<'a, S: 'static>(
        &self,
        reactor: &'a mut Context<S>,
    ) -> Option<&'a mut Conn> {
        reactor.get_mut(self.0.conn.get()?)
    }

    /// Notes why it is over, unless something did before.
    pub(super) fn end_with(&self, reason: Reason) {
        self.0.phase.set(Phase::Over);
        let end = self.0.end.take().unwrap_or_else(|| Box::new(reason));
        self.0.end.set(Some(end));
    }
}

/// Clones are the same one, and no others.
impl PartialEq for Socket {
    fn eq(&self, other: &Socket) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Socket {}

impl Hash for Socket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Rc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { role, conn, phase, .. } = &*self.0;
        write!(f, "Socket({role:?}, {:?}, {:?})", phase.get(), conn.get())
    }
}
