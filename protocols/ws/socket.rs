//! Sockets: the program's handle to a WebSocket, by which it sends.
//!
//! Knows one connection; its input is handled in `socket_driver.rs`, its timeouts in `timeouts.rs`.
//!
//! ```text
//!   Connecting ──the server has agreed─▶ Open ──close()──▶ Closing ──the peer's Close──▶ Over
//!                                        Open ──the peer's Close, a violation, a timeout──▶ Over
//! ```
//!
//! In `Closing` and `Over` nothing more is sent, and of the input only a Close matters. `Closed`
//! comes when the connection under it has ended.
//!
//! # Read next
//! `socket_driver.rs`: how input is handled.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::close::ClosePayload;
use super::frame::{Kind, Role};
use super::outgoing;
use super::shared_message::Message;
use super::socket_event::Reason;
use super::socket_limits::Limits;
use super::timeouts::{self, Timeouts};
use crate::net::{Conn, Pressure};
use crate::reactor::{Context, SourceId};

/// How far a WebSocket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketState {
    Connecting,
    Open,
    /// We have sent a Close and wait for the peer's.
    Closing,
    /// Nothing more is read; the connection ends.
    Over,
}

/// Control frames that had no room yet, and are sent when there is some.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Of the last ping alone: RFC 6455, 5.5.3.
    pub(super) pong: Option<Box<[u8]>>,
    pub(super) close: Option<ClosePayload>,
    /// True if the connection is to be closed behind it.
    pub(super) end: bool,
}

/// Ends an attempt to connect; it gets the `Context`.
pub(super) type Cancel = Box<dyn FnOnce(&mut dyn Any)>;

/// A WebSocket: clones are the same one. When it is over, its methods have no effect, and messages
/// are refused.
#[derive(Clone)]
pub struct Socket(pub(super) Rc<Shared>);

/// The state that the handler and all clones share.
pub(super) struct Shared {
    pub(super) role: Role,
    pub(super) limits: Rc<Limits>,
    pub(super) conn: Cell<Option<SourceId<Conn>>>,
    pub(super) state: Cell<SocketState>,
    /// True if the handler is due to get `Drained`.
    pub(super) drained_due: Cell<bool>,
    pub(super) timeouts: Timeouts,
    pub(super) pending: RefCell<Option<Box<Pending>>>,
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
            state: Cell::new(SocketState::Connecting),
            drained_due: Cell::new(false),
            timeouts: Timeouts::default(),
            pending: RefCell::new(None),
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
                    self.0.timeouts.wrote(message.frame().len());
                }
                self.note(pressure)
            }
            None => self.refusal(),
        }
    }

    /// Sends a ping of at most 125 bytes; more are refused. The pong comes as
    /// [`Pong`](super::Event::Pong). To detect that a peer has gone, this is not needed: see
    /// [`Limits::ping_interval`].
    pub fn ping<S: 'static>(&self, reactor: &mut Context<S>, payload: &[u8]) -> Pressure {
        if payload.len() > super::frame::CONTROL_BYTES_MAX {
            return Pressure::Refused;
        }
        self.put(reactor, Kind::Ping, payload)
    }

    /// Closes in order: a Close with this code (see [`code`](super::code)) and at most 123 bytes of
    /// the reason goes out behind the unsent messages, the peer's is awaited for
    /// [`Limits::close_timeout`], then the connection ends. Messages that come meanwhile are
    /// discarded. With a code that no frame may carry, such as 1005 or 1006, the Close has none.
    ///
    /// A [`drain`](crate::net::drain()) closes sockets that a server has accepted with 1001 as soon
    /// as nothing is in flight, half a message included, and waits for the peer's Close.
    ///
    /// Of one that is still connecting it is the same as [`abort`](Socket::abort).
    pub fn close<S: 'static>(&self, reactor: &mut Context<S>, code: u16, reason: &str) {
        match self.0.state.get() {
            SocketState::Connecting => self.abort(reactor),
            SocketState::Open => {
                self.0.state.set(SocketState::Closing);
                outgoing::close(self, reactor, ClosePayload::new(code, reason), false);
                if let Some(conn) = self.conn_mut(reactor) {
                    conn.resume(); // Or the peer's Close would not be read.
                    conn.hold(); // A drain waits for it.
                }
                timeouts::closing(self, reactor);
            }
            SocketState::Closing | SocketState::Over => {}
        }
    }

    /// Ends it at once: unsent bytes are dropped and the peer gets a reset. `Closed` follows.
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
            timeouts::resumed(self, reactor);
        }
    }

    /// Returns true if messages are taken: it is connected, and no end has begun to close it.
    pub fn is_open(&self) -> bool {
        self.0.state.get() == SocketState::Open
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// The subprotocol that both ends have agreed on.
    pub fn protocol(&self) -> Option<String> {
        self.0.protocol.borrow().as_deref().map(str::to_owned)
    }

    /// The connection under it, for its limits, its peer's address and the number of unsent bytes;
    /// `None` while connecting. Do not write to it: the bytes would break the frames.
    pub fn conn(&self) -> Option<SourceId<Conn>> {
        self.0.conn.get()
    }

    fn put<S: 'static>(&self, reactor: &mut Context<S>, kind: Kind, payload: &[u8]) -> Pressure {
        match self.open_conn(reactor) {
            Some(conn) => self.note(outgoing::frame(self, conn, kind, payload)),
            None => self.refusal(),
        }
    }

    /// The result of sending a message when there is no open connection.
    fn refusal(&self) -> Pressure {
        let waits = self.0.state.get() == SocketState::Connecting;
        if waits { Pressure::Refused } else { Pressure::Closed }
    }

    #[inline]
    fn note(&self, pressure: Pressure) -> Pressure {
        if matches!(pressure, Pressure::AboveHigh | Pressure::Refused) {
            self.0.drained_due.set(true);
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

    /// Notes why it is over, unless a reason was noted before.
    pub(super) fn end_with(&self, reason: Reason) {
        self.0.state.set(SocketState::Over);
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
        let Shared { role, conn, state, .. } = &*self.0;
        write!(f, "Socket({role:?}, {:?}, {:?})", state.get(), conn.get())
    }
}
