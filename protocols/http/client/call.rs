//! A call in the loop: its id, its limits on time, and its public methods.
//!
//! Knows ids, the upload and the limits on time; what it says to a server is in `exchange.rs`.
//!
//! # Read next
//! `upload.rs`: the body of its request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::ClientLimits;
use super::ask::Body;
use super::error::Phase;
use super::leash::{Hold, Keeper};
use super::upload::Upload;
use crate::net::{Conn, Pressure};
use crate::reactor::{Context, Messages, SourceId};
use crate::timers::{Stamp, Tick};

/// A message to a call. Only the client sends one.
#[derive(Clone, Copy, Debug)]
pub struct Message(u8);

/// Something has changed: it looks at its state. Sent by itself or by others.
pub(super) const LOOK: Message = Message(0);
/// There may be a connection for it.
pub(super) const ADMITTED: Message = Message(1);
/// One of its callbacks has panicked, or its connection has gone because a callback did.
pub(super) const BROKEN: Message = Message(2);

impl From<Message> for u8 {
    fn from(message: Message) -> u8 {
        message.0
    }
}

impl Messages for Call {
    type Message = Message;
}

/// A request under way. Its source holds the loop until the call has ended; removing it is the same
/// as [`cancel`](SourceId::cancel).
#[derive(Debug)]
pub struct Call {
    pub(super) control: Rc<Control>,
}

impl Call {
    /// The URL that is being asked for, without the password in it.
    pub fn url(&self) -> String {
        self.control.url.borrow().to_string()
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        self.control.stage.get().phase()
    }
}

/// If it is removed, its connection is removed, too.
impl Drop for Call {
    fn drop(&mut self) {
        self.control.over.set(true);
        self.control.hold.take();
        if self.control.stage.get() == Stage::Queue {
            self.control.keeper.quit.set(true);
            self.control.keeper.wake(); // It may have been the one that was admitted.
        }
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for one of its host's connections.
    Queue,
    Connect,
    /// The head was sent, the body waits for 100.
    Continue,
    /// The body is on its way.
    Send,
    /// All was sent; it waits for the head of the answer.
    Head,
    /// The head was delivered.
    Body,
}

impl Stage {
    pub(super) fn phase(self) -> Phase {
        match self {
            Stage::Queue => Phase::Queue,
            Stage::Connect => Phase::Connect,
            Stage::Continue | Stage::Send => Phase::Send,
            Stage::Head => Phase::Head,
            Stage::Body => Phase::Body,
        }
    }
}

/// What the call's id and its exchange share.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) url: RefCell<Arc<str>>,
    pub(super) conn: Cell<Option<SourceId<Conn>>>,
    /// Dropped with the call: the connection, or the attempt to make one.
    pub(super) hold: Rc<Hold>,
    pub(super) keeper: Rc<Keeper>,
    /// The call has left the loop.
    over: Cell<bool>,
    pub(super) upload: RefCell<Upload>,
    pub(super) paused: Cell<bool>,
    pub(super) stage: Cell<Stage>,
    /// When the stage began, or made progress.
    pub(super) since: Cell<Stamp>,
    /// The tick at which the whole call has taken too long.
    until: Tick,
    limits: Rc<ClientLimits>,
}

impl Control {
    pub(super) fn new(
        url: Arc<str>,
        body: &Body,
        since: Stamp,
        until: Tick,
        limits: Rc<ClientLimits>,
        keeper: Rc<Keeper>,
    ) -> Control {
        Control {
            keeper,
            url: RefCell::new(url),
            conn: Cell::new(None),
            hold: Rc::default(),
            over: Cell::new(false),
            upload: RefCell::new(Upload::new(body)),
            paused: Cell::new(false),
            stage: Cell::new(Stage::Queue),
            since: Cell::new(since),
            until,
            limits,
        }
    }

    /// Returns true if it has left the loop: nobody waits for its result.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Goes on to a stage, whose time begins.
    pub(super) fn enter<S: 'static>(
        &self,
        reactor: &mut Context<S>,
        call: SourceId<Call>,
        stage: Stage,
    ) {
        self.stage.set(stage);
        self.since.set(reactor.stamp());
        self.arm(reactor, call);
    }

    /// Arms the deadline for the limit that is up first.
    pub(super) fn arm<S: 'static>(&self, reactor: &mut Context<S>, call: SourceId<Call>) {
        let stage = self.stage_until().unwrap_or(Tick::NEVER);
        let first = stage.min(self.until);
        reactor.set_deadline(call, (first < Tick::NEVER).then_some(first));
    }

    /// The tick at which the stage has taken too long.
    fn stage_until(&self) -> Option<Tick> {
        let limits = &self.limits;
        let after = match self.stage.get() {
            Stage::Send => return None, // Of a stalled send the connection knows.
            Stage::Queue => limits.queue_timeout,
            Stage::Connect => limits.connect_timeout,
            Stage::Continue => Some(limits.continue_timeout),
            // Nothing is read, so nothing can come.
            Stage::Head | Stage::Body if self.paused.get() => return None,
            Stage::Head => limits.head_timeout,
            Stage::Body => limits.body_timeout,
        };
        Some(self.since.get().after(after?))
    }

    /// The limit that has run out at this tick.
    pub(super) fn is_up(&self, tick: Tick) -> Option<Phase> {
        if self.until <= tick {
            return Some(Phase::Total);
        }
        let is_up = self.stage_until().is_some_and(|until| until <= tick);
        is_up.then(|| self.stage.get().phase())
    }
}

/// The methods of a call. A stale id does no harm.
impl SourceId<Call> {
    /// Sends a piece of the body of an [`Ask::body_stream`](super::Ask::body_stream), as
    /// [`Conn::write`] does: all of it or, `Refused`, nothing. It may be called at once: bytes
    /// that are written before there is a connection wait for it. `AboveHigh`, and `Refused` if
    /// there was no room, are followed by [`CallEvent::Drained`](super::CallEvent::Drained).
    ///
    /// Bytes that exceed the announced length are `Refused`, too. `Closed` if the call or its body
    /// has ended.
    pub fn write<S: 'static>(self, reactor: &mut Context<S>, bytes: &[u8]) -> Pressure {
        let Some(control) = reactor.get(self).map(|call| call.control.clone()) else {
            return Pressure::Closed;
        };
        if control.stage.get() == Stage::Body {
            control.since.set(reactor.stamp()); // The answer may wait for what is written.
        }
        let conn = control.conn.get().and_then(|conn| reactor.get_mut(conn));
        control.upload.borrow_mut().write(conn, bytes)
    }

    /// Ends the body that is written piece by piece. If less was written than the length that was
    /// announced, the call fails.
    pub fn end<S: 'static>(self, reactor: &mut Context<S>) {
        let Some(control) = reactor.get(self).map(|call| call.control.clone()) else { return };
        let conn = control.conn.get().and_then(|conn| reactor.get_mut(conn));
        control.upload.borrow_mut().end(conn);
        reactor.send_message(self, LOOK);
    }

    /// Delivers no more of the body until [`resume`](SourceId::resume); the server is slowed down.
    pub fn pause<S: 'static>(self, reactor: &mut Context<S>) {
        let Some(control) = reactor.get(self).map(|call| call.control.clone()) else { return };
        control.paused.set(true);
        if let Some(conn) = control.conn.get().and_then(|conn| reactor.get_mut(conn)) {
            conn.pause();
        }
    }

    /// Takes a [`pause`](SourceId::pause) back, in the next turn.
    pub fn resume<S: 'static>(self, reactor: &mut Context<S>) {
        let Some(control) = reactor.get(self).map(|call| call.control.clone()) else { return };
        if !control.paused.replace(false) {
            return;
        }
        if let Some(conn) = control.conn.get().and_then(|conn| reactor.get_mut(conn)) {
            conn.resume();
        }
        if matches!(control.stage.get(), Stage::Head | Stage::Body) {
            control.since.set(reactor.stamp()); // Nobody could have sent us anything meanwhile.
            control.arm(reactor, self);
        }
    }

    /// Ends the call: no callback comes any more, what it owns is dropped, and so is its
    /// connection. False if it had ended.
    pub fn cancel<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        reactor.remove(self)
    }
}
