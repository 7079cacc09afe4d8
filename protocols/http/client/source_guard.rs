//! Source guards: how a value owns a source where it has no `Context`.
//!
//! Knows ids and the reactor's [`Resumer`]; what the reaper does when it is called is in `pool.rs`.
//!
//! A client, or a call, may be dropped where there is no `Context`, so it cannot remove the sources
//! that it owns. Each such source is on a [`SourceGuard`]. Dropping the guard notes the source's id and
//! wakes the *reaper*, a source of the client's own, which removes it in the next turn. So a call
//! that is removed takes its connection along, or the race for one. A client that is dropped takes
//! its idle connections along.
//!
//! ```text
//!   call ──owns──▶ guard ──drop──▶ list ◀──drains── reaper ──remove──▶ connection
//!   idle ──owns──▶ guard ──drop──▶  ┘                 └── its deadline: what idles for too long
//! ```
//!
//! The reaper does not step the loop, and is removed when no client or guard refers to it any more.
//!
//! # Read next
//! `dial.rs`: where new connections come from.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::call::{Call, CallMessage};
use crate::net::Conn;
use crate::reactor::{RawId, Readiness, Resumer, SourceId};
use crate::timers::Tick;

/// The sources to be removed. To the peer of an idle connection the end is announced.
pub(super) type List = Rc<RefCell<Vec<(Option<SourceId<Conn>>, RawId)>>>;

/// Removes from the loop the sources whose guard was dropped.
#[derive(Debug)]
pub(super) struct Reaper {
    pub(super) id: RawId,
    resumer: Resumer,
    list: List,
    /// True if a call that waited, or was admitted, has ended.
    pub(super) cancelled: Cell<bool>,
    /// The tick at which it looks for connections that have idled for too long.
    pub(super) until: Cell<Tick>,
}

impl Reaper {
    pub(super) fn new(id: RawId, resumer: Resumer, list: List) -> Rc<Reaper> {
        let (cancelled, until) = (Cell::new(false), Cell::new(Tick::NEVER));
        Rc::new(Reaper { id, resumer, list, cancelled, until })
    }

    pub(super) fn wake(&self) {
        self.resumer.resume(self.id, Readiness::READABLE);
    }

    /// Sends a source a message, which comes in the next turn.
    pub(super) fn send(&self, call: SourceId<Call>, message: CallMessage) {
        self.resumer.send_message(call, message);
    }

    /// Ties a source to the owner of the guard.
    pub(super) fn guard(self: &Rc<Reaper>, id: RawId) -> SourceGuard {
        SourceGuard { id: Some(id), idle: None, reaper: self.clone() }
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
    /// From now on it holds an idle connection; `None`: no longer.
    pub(super) fn set_idle(&mut self, conn: Option<SourceId<Conn>>) {
        self.idle = conn;
    }

    /// Lets go of the source, which stays.
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

/// The guard of the step under way. When its owner is dropped, so is that step.
#[derive(Debug, Default)]
pub(super) struct StepGuard {
    guard: RefCell<Option<SourceGuard>>,
}

impl StepGuard {
    /// From now on this source is under way; the one before stays, without an owner.
    pub(super) fn take_up(&self, reaper: &Rc<Reaper>, id: RawId) {
        self.release();
        self.put(reaper.guard(id));
    }

    pub(super) fn put(&self, guard: SourceGuard) {
        *self.guard.borrow_mut() = Some(guard);
    }

    /// Lets go of the source, which stays, without an owner.
    pub(super) fn release(&self) -> Option<RawId> {
        self.take().and_then(SourceGuard::release)
    }

    pub(super) fn take(&self) -> Option<SourceGuard> {
        self.guard.borrow_mut().take()
    }
}
