//! The group of a listener's connections: the limits that they share, and their number.
//!
//! Knows numbers and limits; never mentions a connection.
//!
//! # Read next
//! `accept.rs`: where a connection joins.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;

use super::budget::Beside;
use super::limits::Limits;

/// A membership in the group of a listener's connections: a member is counted while it lives. All
/// members share the limits, until one changes its own. A connection that has no listener is in a
/// group of its own.
#[derive(Debug)]
pub(super) struct Group(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    members: Rc<Cell<usize>>,
    /// True for a server's connections: a listener accepted them, or `Stream::accepted` says so.
    accepted: Cell<bool>,
    /// True if a drain leaves it to the handler to close the connection.
    closes_itself: Cell<bool>,
    /// [`Limits::is_timed`] and [`Limits::notes_traffic`], which each event needs.
    timed: bool,
    notes_traffic: bool,
    /// Bytes held beside outbox and backlog, if no other connection shares this.
    beside: RefCell<Beside>,
}

impl Shared {
    fn new(limits: Limits, members: Rc<Cell<usize>>, accepted: Cell<bool>) -> Rc<Shared> {
        let (timed, notes_traffic) = (limits.is_timed(), limits.notes_traffic());
        Rc::new(Shared {
            limits,
            members,
            accepted,
            closes_itself: Cell::new(false),
            timed,
            notes_traffic,
            beside: RefCell::default(),
        })
    }
}

impl Group {
    /// A group with its first member, which is the listener itself: not counted as a connection.
    pub(super) fn new(limits: Limits) -> Group {
        Group(Shared::new(limits, Rc::new(Cell::new(1)), Cell::new(false)))
    }

    /// Returns true if there is a limit on its time.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.0.timed
    }

    /// Returns true if the time of traffic must be noted.
    #[inline]
    pub(super) fn notes_traffic(&self) -> bool {
        self.0.notes_traffic
    }

    /// Makes it a group of a server's connections, for all that share it.
    pub(super) fn accepted(self) -> Group {
        self.0.accepted.set(true);
        self
    }

    /// Returns true if it is a group of a server's connections.
    pub(super) fn is_accepted(&self) -> bool {
        self.0.accepted.get()
    }

    /// One more connection is a member.
    pub(super) fn join(&self) -> Group {
        self.0.members.set(self.0.members.get() + 1);
        Group(self.0.clone())
    }

    /// The number of connections: all members except the listener.
    pub(super) fn connections(&self) -> usize {
        self.0.members.get() - 1
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        if self.0.limits != limits {
            self.replace(limits, self.closes_itself());
        }
    }

    /// Stops sharing: makes a copy of its own, with these limits. It keeps its budget, unless the
    /// limits name another, and its charges.
    fn replace(&mut self, mut limits: Limits, closes_itself: bool) {
        let Shared { members, accepted, .. } = &*self.0;
        limits.buffers = limits.buffers.or_else(|| self.0.limits.buffers.clone());
        let beside = if self.is_own() { self.0.beside.take() } else { Beside::default() };
        let (transport, protocol) = beside.parts();
        self.0 = Shared::new(limits, members.clone(), accepted.clone());
        self.0.closes_itself.set(closes_itself);
        self.charge(transport, protocol);
    }

    /// Returns true if no other connection shares it.
    fn is_own(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    /// Counts the bytes that the transport holds for it.
    pub(super) fn charge_transport(&mut self, bytes: usize) {
        let (transport, protocol) = self.parts();
        if bytes != transport {
            self.charge(bytes, protocol);
        }
    }

    /// Counts the bytes that a protocol holds for it.
    pub(super) fn charge_protocol(&mut self, bytes: usize) {
        let (transport, protocol) = self.parts();
        if bytes != protocol {
            self.charge(transport, bytes);
        }
    }

    /// The bytes counted for it beside outbox and backlog.
    pub(super) fn charged(&self) -> usize {
        if self.is_own() { self.0.beside.borrow().bytes() } else { 0 }
    }

    fn parts(&self) -> (usize, usize) {
        if self.is_own() { self.0.beside.borrow().parts() } else { (0, 0) }
    }

    fn charge(&mut self, transport: usize, protocol: usize) {
        if self.0.limits.buffers.is_none() || (transport, protocol) == self.parts() {
            return;
        }
        if !self.is_own() {
            self.replace(self.0.limits.clone(), self.closes_itself());
        }
        if let Some(budget) = &self.0.limits.buffers {
            self.0.beside.borrow_mut().set(budget, transport, protocol);
        }
    }

    /// From now on its handler closes it when it is drained, since the handler sends something
    /// first: the handler is nudged when nothing is in flight.
    pub(super) fn set_closes_itself(&mut self) {
        self.replace(self.0.limits.clone(), true);
    }

    /// Called when the connection gets another handler.
    pub(super) fn clear_closes_itself(&self) {
        self.0.closes_itself.set(false); // If it is shared, this was false already.
    }

    /// Returns true if its handler closes it when it is drained.
    pub(super) fn closes_itself(&self) -> bool {
        self.0.closes_itself.get()
    }
}

impl Deref for Group {
    type Target = Limits;

    #[inline]
    fn deref(&self) -> &Limits {
        &self.0.limits
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.0.members.set(self.0.members.get() - 1);
    }
}
