//! A call in the loop: its id, its limits on time, and its public methods.
//!
//! Knows ids, the upload and the limits on time; the transfer itself is in `transfer.rs`.
//!
//! # Read next
//! `upload.rs`: the body of its request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::ClientLimits;
use super::client_request::RequestBody;
use super::error::CallStage;
use super::source_guard::{Reaper, StepGuard};
use super::upload::Upload;
use crate::net::{Conn, Limits, Pressure, Stream};
use crate::reactor::{Context, Messages, SourceId};
use crate::timers::{Stamp, Tick};

/// A message to a call. Only the client sends one.
#[derive(Clone, Copy, Debug)]
pub struct CallMessage(u8);

/// Something has changed, and the call has to look at its state.
pub(super) const LOOK: CallMessage = CallMessage(0);
/// There may be a connection for it.
pub(super) const ADMITTED: CallMessage = CallMessage(1);
/// One of its callbacks has panicked, or the callback of its connection.
pub(super) const BROKEN: CallMessage = CallMessage(2);

impl From<CallMessage> for u8 {
    fn from(message: CallMessage) -> u8 {
        message.0
    }
}

impl Messages for Call {
    type Message = CallMessage;
}

/// A request under way. Its source holds the loop until the call has ended; removing it is the same
/// as [`cancel`](SourceId::cancel).
#[derive(Debug)]
pub struct Call {
    pub(super) control: Rc<Control>,
}

impl Call {
    /// The URL of the present request, without the password in it.
    pub fn url(&self) -> String {
        self.control.url.borrow().to_string()
    }

    /// How far it has come.
    pub fn stage(&self) -> CallStage {
        self.control.state.get().stage()
    }
}

/// If a call is removed, its connection is removed, too.
impl Drop for Call {
    fn drop(&mut self) {
        self.control.over.set(true);
        self.control.step.take();
        if self.control.state.get() == CallState::Queue {
            self.control.reaper.cancelled.set(true);
            self.control.reaper.wake(); // It may have been the one that was admitted.
        }
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallState {
    /// It waits for one of its host's connections.
    Queue,
    Connect,
    /// The head was sent, the body waits for 100.
    Continue,
    /// The body is on its way.
    Send,
    /// All was sent; it waits for the head of the response.
    Head,
    /// The head was delivered.
    Body,
}

impl CallState {
    pub(super) fn stage(self) -> CallStage {
        match self {
            CallState::Queue => CallStage::Queue,
            CallState::Connect => CallStage::Connect,
            CallState::Continue | CallState::Send => CallStage::Send,
            CallState::Head => CallStage::Head,
            CallState::Body => CallStage::Body,
        }
    }
}

/// The state that the call's source and its transfer share.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) url: RefCell<Arc<str>>,
    pub(super) conn: Cell<Option<SourceId<Conn>>>,
    /// Owns the connection, or the attempt to make one, until the call is dropped.
    pub(super) step: Rc<StepGuard>,
    pub(super) reaper: Rc<Reaper>,
    /// The call has left the loop.
    over: Cell<bool>,
    pub(super) upload: RefCell<Upload>,
    pub(super) paused: Cell<bool>,
    pub(super) state: Cell<CallState>,
    /// When the state began, or made progress.
    pub(super) since: Cell<Stamp>,
    /// The tick at which the whole call has taken too long.
    until: Tick,
    limits: Rc<ClientLimits>,
    /// While a head with 101 is delivered: the bytes behind it.
    pub(super) behind: RefCell<Option<Vec<u8>>>,
}

impl Control {
    pub(super) fn new(
        url: Arc<str>,
        body: &RequestBody,
        since: Stamp,
        until: Tick,
        limits: Rc<ClientLimits>,
        reaper: Rc<Reaper>,
    ) -> Control {
        Control {
            reaper,
            url: RefCell::new(url),
            conn: Cell::new(None),
            step: Rc::default(),
            over: Cell::new(false),
            upload: RefCell::new(Upload::new(body)),
            paused: Cell::new(false),
            state: Cell::new(CallState::Queue),
            since: Cell::new(since),
            until,
            limits,
            behind: RefCell::default(),
        }
    }

    /// Returns true if it has left the loop: its result is not needed any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Enters a state; the time of that state begins.
    pub(super) fn enter<S: 'static>(
        &self,
        reactor: &mut Context<S>,
        call: SourceId<Call>,
        state: CallState,
    ) {
        self.state.set(state);
        self.since.set(reactor.stamp());
        self.arm(reactor, call);
    }

    /// Arms the deadline for the first of the limits on time.
    pub(super) fn arm<S: 'static>(&self, reactor: &mut Context<S>, call: SourceId<Call>) {
        let state = self.state_until().unwrap_or(Tick::NEVER);
        let first = state.min(self.until);
        reactor.set_deadline(call, (first < Tick::NEVER).then_some(first));
    }

    /// The tick at which the state has taken too long.
    fn state_until(&self) -> Option<Tick> {
        let limits = &self.limits;
        let after = match self.state.get() {
            CallState::Send => return None, // The connection has a timeout of its own for this.
            CallState::Queue => limits.queue_timeout,
            CallState::Connect => limits.connect_timeout,
            CallState::Continue => Some(limits.continue_timeout),
            // While reading is paused, nothing can come.
            CallState::Head | CallState::Body if self.paused.get() => return None,
            CallState::Head => limits.head_timeout,
            CallState::Body => limits.body_timeout,
        };
        Some(self.since.get().after(after?))
    }

    /// The limit that has run out at this tick.
    pub(super) fn is_up(&self, tick: Tick) -> Option<CallStage> {
        if self.until <= tick {
            return Some(CallStage::Total);
        }
        let is_up = self.state_until().is_some_and(|until| until <= tick);
        is_up.then(|| self.state.get().stage())
    }
}

/// The methods of a call. A stale id does no harm.
impl SourceId<Call> {
    /// Sends a piece of the body of a
    /// [`ClientRequest::body_stream`](super::ClientRequest::body_stream), as [`Conn::write`] does:
    /// all of it or, `Refused`, nothing. It may be called at once: bytes that are written before
    /// there is a connection wait for it. After `AboveHigh`, and after `Refused` if there was no
    /// room, [`CallEvent::Drained`](super::CallEvent::Drained) follows.
    ///
    /// Bytes that exceed the announced length are `Refused`, too. `Closed` if the call or its body
    /// has ended.
    pub fn write<S: 'static>(self, reactor: &mut Context<S>, bytes: &[u8]) -> Pressure {
        let Some(control) = reactor.get(self).map(|call| call.control.clone()) else {
            return Pressure::Closed;
        };
        if control.state.get() == CallState::Body {
            // The server may wait for these bytes before it goes on.
            control.since.set(reactor.stamp());
        }
        let conn = control.conn.get().and_then(|conn| reactor.get_mut(conn));
        control.upload.borrow_mut().write(conn, bytes)
    }

    /// Ends the body that is written piece by piece. If fewer bytes were written than announced,
    /// the call fails.
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
        if matches!(control.state.get(), CallState::Head | CallState::Body) {
            control.since.set(reactor.stamp()); // Meanwhile nothing could have come.
            control.arm(reactor, self);
        }
    }

    /// Takes the connection over, with the limits of any other, in the callback for a `Head` of 101:
    /// from now on both sides speak the protocol that the server has named. The call has ended, and
    /// no callback comes any more. `None` at any other time.
    pub fn take_stream<S: 'static>(self, reactor: &mut Context<S>) -> Option<Stream> {
        let control = reactor.get(self)?.control.clone();
        let behind = control.behind.take()?;
        let conn = control.conn.take()?;
        control.step.release();
        reactor.remove(self);
        let conn = reactor.deregister(conn)?;
        let limits = |limits: &mut Limits| *limits = Limits::default();
        Some(Stream::from(conn).adjust_limits(limits).unread(&behind))
    }

    /// Ends the call: no callback comes any more, and its connection is removed. Returns false if
    /// it had ended before.
    pub fn cancel<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        reactor.remove(self)
    }
}
