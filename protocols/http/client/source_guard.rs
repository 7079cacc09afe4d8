//! Source guards: how a value owns a source where it has no `Context`.
//!
//! Knows ids and the reactor's [`Resumer`]; the reaper's callback is in `client_pool.rs`.
//!
//! A client, or a call, may be dropped where there is no `Context`, so it cannot remove the sources
//! that it owns. Each such source has a [`SourceGuard`]. Dropping the guard notes the source's id
//! and wakes the *reaper*, a source of the client's own, which removes it in the next turn. So if a
//! call is removed, its connection is removed, too, or the race for one. If a client is dropped,
//! its idle connections are removed.
//!
//! ```text
//!   call ──owns──▶ guard ──drop──▶ list ◀──drains── reaper ──remove──▶ connection
//!   idle ──owns──▶ guard ──drop──▶  ┘                 └── its deadline: idle for too long
//! ```
//!
//! The reaper does not hold the loop, and is removed when no client or guard refers to it any more.
//!
//! # Read next
//! `dial.rs`: where new connections come from.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::call::{Call, CallMessage};
use crate::net::Conn;
use crate::reactor::{RawId, Readiness, Resumer, SourceId};
use crate::timers::Tick;

/// The sources to be removed. An idle connection announces the end to its peer first.
pub(super) type List = Rc<RefCell<Vec<(Option<SourceId<Conn>>, RawId)>>>;

/// Removes from the loop the sources whose guard was dropped.
#[derive(Debug)]
pub(super) struct Reaper {
    pub(super) id: RawId,
    resumer: Resumer,
    list: List,
    /// True if a call has ended while it waited or was admitted.
    pub(super) cancelled: Cell<bool>,
    /// The tick at which it looks for connections that have idled for too long.
    pub(super) until: Cell<Tick>,
}

impl Reaper {
    pub(super) fn new(id: impl Into<RawId>, resumer: Resumer, list: List) -> Rc<Reaper> {
        let (cancelled, until) = (Cell::new(false), Cell::new(Tick::NEVER));
        Rc::new(Reaper { id: id.into(), resumer, list, cancelled, until })
    }

    pub(super) fn wake(&self) {
        self.resumer.resume(self.id, Readiness::READABLE);
    }

    /// Sends a source a message, which comes in the next turn.
    pub(super) fn send(&self, call: SourceId<Call>, message: CallMessage) {
        self.resumer.send_message(call, message);
    }

    /// A guard that owns this source.
    pub(super) fn guard(self: &Rc<Reaper>, id: impl Into<RawId>) -> SourceGuard {
        SourceGuard { id: Some(id.into()), idle: None, reaper: self.clone() }
    }
}

/// Nothing refers to the reaper any more: its source is called once again and removes itself.
impl Drop for Reaper {
    fn drop(&mut self) {
        self.wake();
    }
}

/// Owns a source of the loop: when it is dropped, the source is removed in the next turn.
#[derive(Debug)]
pub(super) struct SourceGuard {
    id: Option<RawId>,
    /// Its id, if it is an idle connection.
    idle: Option<SourceId<Conn>>,
    pub(super) reaper: Rc<Reaper>,
}

impl SourceGuard {
    /// Notes that its source is an idle connection; `None`: that it is none any more.
    pub(super) fn set_idle(&mut self, conn: Option<SourceId<Conn>>) {
        self.idle = conn;
    }

    /// Gives up the source, which stays in the loop.
    pub(super) fn release(mut self) -> Option<RawId> {
        self.id.take()
    }
}

impl Drop for SourceGuard {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.reaper.list.borrow_mut().push((self.idle, id));
            self.reaper.wake();
        }
    }
}

/// Owns the source of the step under way: if this is dropped, that source is removed.
#[derive(Debug, Default)]
pub(super) struct StepGuard {
    guard: RefCell<Option<SourceGuard>>,
}

impl StepGuard {
    /// Owns this source from now on; the one before stays in the loop, without an owner.
    pub(super) fn take_up(&self, reaper: &Rc<Reaper>, id: impl Into<RawId>) {
        self.release();
        self.put(reaper.guard(id));
    }

    pub(super) fn put(&self, guard: SourceGuard) {
        *self.guard.borrow_mut() = Some(guard);
    }

    /// Gives up the source, which stays in the loop, without an owner.
    pub(super) fn release(&self) -> Option<RawId> {
        self.take().and_then(SourceGuard::release)
    }

    pub(super) fn take(&self) -> Option<SourceGuard> {
        self.guard.borrow_mut().take()
    }
}
