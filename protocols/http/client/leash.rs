//! Leashes: how a value owns a source where it has no `Context`.
//!
//! Knows ids and the reactor's [`Resumer`]; what the keeper does when it is called is in `pool.rs`.
//!
//! A client, or a call, may be dropped where there is no `Context`, so it cannot remove the sources
//! that it owns. Each such source is on a [`Leash`]. Dropping the leash notes the source's id and
//! wakes the *keeper*, a source of the client's own, which removes it in the next turn. So a call
//! that is removed takes its connection along, or the race for one. A client that is dropped takes
//! its idle connections along.
//!
//! ```text
//!   call ──owns──▶ leash ──drop──▶ list ◀──drains── keeper ──remove──▶ connection
//!   idle ──owns──▶ leash ──drop──▶  ┘                 └── its deadline: what idles for too long
//! ```
//!
//! The keeper does not hold the loop, and is removed when no client or leash refers to it any more.
//!
//! # Read next
//! `dial.rs`: where new connections come from.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::call::{Call, Message};
use crate::net::Conn;
use crate::reactor::{RawId, Readiness, Resumer, SourceId};
use crate::timers::Tick;

/// The sources to be removed. To the peer of an idle connection the end is announced.
pub(super) type List = Rc<RefCell<Vec<(Option<SourceId<Conn>>, RawId)>>>;

/// Removes from the loop the sources whose leash was dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) id: RawId,
    resumer: Resumer,
    list: List,
    /// True if a call that waited, or was admitted, has ended.
    pub(super) quit: Cell<bool>,
    /// The tick at which it looks for connections that have idled for too long.
    pub(super) until: Cell<Tick>,
}

impl Keeper {
    pub(super) fn new(id: RawId, resumer: Resumer, list: List) -> Rc<Keeper> {
        let (quit, until) = (Cell::new(false), Cell::new(Tick::NEVER));
        Rc::new(Keeper { id, resumer, list, quit, until })
    }

    pub(super) fn wake(&self) {
        self.resumer.resume(self.id, Readiness::READABLE);
    }

    /// Sends a source a message, which comes in the next turn.
    pub(super) fn send(&self, call: SourceId<Call>, message: Message) {
        self.resumer.send_message(call, message);
    }

    /// Ties a source to the owner of the leash.
    pub(super) fn leash(self: &Rc<Keeper>, id: RawId) -> Leash {
        Leash { id: Some(id), resting: None, keeper: self.clone() }
    }
}

/// Nothing refers to the keeper any more: its source is called once again and removes itself.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.wake();
    }
}

/// Owns a source of the loop: when it is dropped, the source is removed in the next turn.
#[derive(Debug)]
pub(super) struct Leash {
    id: Option<RawId>,
    /// Its id, if it is an idle connection.
    resting: Option<SourceId<Conn>>,
    pub(super) keeper: Rc<Keeper>,
}

impl Leash {
    /// From now on it holds an idle connection; `None`: no longer.
    pub(super) fn rest(&mut self, conn: Option<SourceId<Conn>>) {
        self.resting = conn;
    }

    /// Lets go of the source, which stays.
    pub(super) fn release(mut self) -> Option<RawId> {
        self.id.take()
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.keeper.list.borrow_mut().push((self.resting, id));
            self.keeper.wake();
        }
    }
}

/// The leash of the step under way. When its owner is dropped, so is that step.
#[derive(Debug, Default)]
pub(super) struct Hold {
    leash: RefCell<Option<Leash>>,
}

impl Hold {
    /// From now on this source is under way; the one before stays, without an owner.
    pub(super) fn take_up(&self, keeper: &Rc<Keeper>, id: RawId) {
        self.release();
        self.put(keeper.leash(id));
    }

    pub(super) fn put(&self, leash: Leash) {
        *self.leash.borrow_mut() = Some(leash);
    }

    /// Lets go of the source, which stays, without an owner.
    pub(super) fn release(&self) -> Option<RawId> {
        self.take().and_then(Leash::release)
    }

    pub(super) fn take(&self) -> Option<Leash> {
        self.leash.borrow_mut().take()
    }
}
