//! The pool: connections that wait for their next request, and calls that wait for a connection.
//!
//! Knows sources and their ids; what is said over a connection is in `exchange.rs`.
//!
//! # Rules
//! 1. A connection is idle when an answer was read to its end, its request sent to the end, and not
//!    a byte has come behind it. Anything that comes while it idles, the end included, closes it.
//! 2. An idle connection does not hold the loop.
//! 3. Calls get their connections in the order in which they asked.
//!
//! # Read next
//! `place.rs`: the queue. `leash.rs`: how they are closed without a callback.

use std::collections::HashMap;
use std::mem;
use std::rc::{Rc, Weak};

use super::call::Call;
use super::leash::{Keeper, Leash, List};
use super::line::Line;
use super::place::{Idle, Place};
use super::{ClientLimits, Shared};
use crate::net::Conn;
use crate::reactor::{Context, SourceId};
use crate::timers::Tick;

/// All connections of a client.
pub(super) struct Pool<S: 'static> {
    places: HashMap<Rc<str>, Place<S>>,
    idle: usize,
    waiting: usize,
}

impl<S> Default for Pool<S> {
    fn default() -> Pool<S> {
        Pool { places: HashMap::new(), idle: 0, waiting: 0 }
    }
}

impl<S> Pool<S> {
    /// The key of a place that there is already.
    pub(super) fn key(&self, name: &str) -> Option<Rc<str>> {
        self.places.get_key_value(name).map(|(key, _)| key.clone())
    }
}

/// The right to one of a place's connections, from dialling to closing.
pub(super) struct Slot<S: 'static> {
    key: Rc<str>,
    shared: Weak<Shared<S>>,
}

impl<S: 'static> Slot<S> {
    pub(super) fn key(&self) -> &Rc<str> {
        &self.key
    }

    /// The connection has ended while it was idle.
    pub(super) fn forget(&self, conn: SourceId<Conn>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.forget(conn, &self.key);
        }
    }
}

impl<S> Drop for Slot<S> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.vacate(&self.key);
        }
    }
}

/// How a call gets at a connection.
pub(super) enum Way<S: 'static> {
    /// One that is open already.
    Open(SourceId<Conn>, Rc<Line<S>>, Leash),
    /// One is to be made.
    New(Slot<S>),
    /// All are in use: the call waits in the queue, and will be resumed.
    Wait,
    /// All are in use, and too many calls wait already.
    Full,
}

impl<S: 'static> Shared<S> {
    /// The keeper in this loop.
    pub(super) fn keeper(self: &Rc<Self>, reactor: &mut Context<S>) -> Rc<Keeper> {
        let mut keeper = self.keeper.borrow_mut();
        if let Some(keeper) = &*keeper
            && reactor.contains(keeper.id)
        {
            return keeper.clone();
        }
        let (list, shared) = (List::default(), Rc::downgrade(self));
        let drained = list.clone();
        let keep = move |reactor: &mut Context<S>, _: &mut S, id: SourceId<()>, _| {
            keep(reactor, id, &drained, &shared);
        };
        let id = reactor.own((), keep);
        reactor.unref(id);
        let made = Keeper::new(id.raw(), reactor.resumer(), list);
        *keeper = Some(made.clone());
        made
    }

    /// A connection for a call, the most recently used one first; a new one if `fresh`. `probe`
    /// is true if it is worth a system call to know that the server has not closed it, and
    /// `was_there` if the call had its last connection to the same place.
    pub(super) fn way(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        key: &Rc<str>,
        call: SourceId<Call>,
        fresh: bool,
        probe: bool,
        was_there: bool,
    ) -> Way<S> {
        let mut gone = Vec::new();
        let limits: &ClientLimits = &self.limits;
        let pool = &mut *self.pool.borrow_mut();
        let place = pool.places.entry(key.clone()).or_default();
        let is_back = place.is_back(call);
        let is_turn = is_back || place.is_turn(reactor, limits.connections_per_host_max);
        while let Some(mut idle) = place.idle.pop_if(|_| is_turn && !fresh) {
            pool.idle -= 1;
            let usable = reactor.get_mut(idle.conn).is_some_and(|conn| conn.is_quiet(probe));
            if usable {
                reactor.reref(idle.conn);
                idle.leash.rest(None);
                return Way::Open(idle.conn, idle.line, idle.leash);
            }
            gone.push(idle); // Its slot is counted until it is removed.
        }
        if is_turn && place.open < limits.connections_per_host_max {
            place.open += 1;
            return Way::New(Slot { key: key.clone(), shared: Rc::downgrade(self) });
        }
        // A connection that is not wanted must not keep a new one from being made.
        if let Some(idle) = place.idle.pop_if(|_| is_turn) {
            pool.idle -= 1;
            gone.push(idle);
        }
        // A call that was admitted before is not one too many: no more of these wait than there may
        // be connections.
        let is_new = !is_back && !was_there;
        let is_full = |waiting: usize| is_new && waiting >= limits.waiting_max;
        if is_full(pool.waiting) && self.has_quitters() {
            let places = pool.places.values_mut();
            pool.waiting -= places.map(|place| place.drop_cancelled(reactor)).sum::<usize>();
        }
        if is_full(pool.waiting) {
            return Way::Full;
        }
        pool.waiting += 1;
        pool.places.entry(key.clone()).or_default().wait(call, is_back);
        Way::Wait
    }

    /// Returns true if calls have left the queue by themselves since this was asked last.
    fn has_quitters(&self) -> bool {
        self.keeper.borrow().as_ref().is_some_and(|keeper| keeper.quit.take())
    }

    /// Keeps a connection for the next call, unless there are too many.
    pub(super) fn keep_idle(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        conn: SourceId<Conn>,
        line: Rc<Line<S>>,
        mut leash: Leash,
    ) {
        leash.rest(Some(conn));
        let until = reactor.tick_after(self.limits.idle_time_max);
        let keeper = leash.keeper.clone();
        let mut surplus = None;
        {
            let pool = &mut *self.pool.borrow_mut();
            let Some(place) = pool.places.get_mut(line.key()) else { return };
            let limits = &self.limits;
            place.idle.push(Idle { conn, line: line.clone(), leash, until });
            pool.idle += 1;
            pool.waiting -= place.admit(reactor, limits.connections_per_host_max);
            let full = pool.idle > limits.idle_max || place.idle.len() > limits.idle_per_host_max;
            if full && place.has_spare() {
                surplus = Some(place.idle.remove(0));
                pool.idle -= 1;
            }
        }
        if surplus.as_ref().is_none_or(|surplus| surplus.conn != conn) {
            reactor.unref(conn);
            if until < keeper.until.get() {
                arm(reactor, &keeper, self); // Else it looks sooner, and again.
            }
        }
        drop(surplus);
    }

    /// An idle connection has ended.
    fn forget(&self, conn: SourceId<Conn>, key: &Rc<str>) {
        let mut gone = None;
        {
            let pool = &mut *self.pool.borrow_mut();
            let Some(place) = pool.places.get_mut(key) else { return };
            if let Some(at) = place.idle.iter().position(|idle| idle.conn == conn) {
                gone = Some(place.idle.remove(at));
                pool.idle -= 1;
            }
        }
        gone.map(|gone| gone.leash.release());
    }

    /// A connection was closed: if calls wait, the keeper lets the next one make another.
    fn vacate(&self, key: &Rc<str>) {
        let pool = &mut *self.pool.borrow_mut();
        let Some(place) = pool.places.get_mut(key) else { return };
        place.open -= 1;
        if !place.waiting.is_empty() {
            if let Some(keeper) = &*self.keeper.borrow() {
                keeper.wake();
            }
        } else if place.is_unused() {
            pool.places.remove(key);
        }
    }

    /// Lets calls that wait have a connection that idles, or make one where there may be more.
    fn admit(&self, reactor: &mut Context<S>) {
        let pool = &mut *self.pool.borrow_mut();
        for place in pool.places.values_mut() {
            pool.waiting -= place.admit(reactor, self.limits.connections_per_host_max);
        }
        pool.places.retain(|_, place| !place.is_unused());
    }

    /// Connections that wait for a request.
    pub(super) fn idle(&self) -> usize {
        self.pool.borrow().idle
    }

    /// Connections in use, idle or being made.
    pub(super) fn open(&self) -> usize {
        self.pool.borrow().places.values().map(|place| place.open).sum()
    }
}

/// Arms the keeper for the first connection that will have idled for too long.
fn arm<S: 'static>(reactor: &mut Context<S>, keeper: &Keeper, shared: &Shared<S>) {
    let pool = shared.pool.borrow();
    let untils = pool.places.values().flat_map(|place| place.idle.iter().map(|idle| idle.until));
    let first = untils.min();
    keeper.until.set(first.unwrap_or(Tick::NEVER));
    reactor.set_deadline(keeper.id, first);
}

/// The keeper is called.
fn keep<S: 'static>(
    reactor: &mut Context<S>,
    id: SourceId<()>,
    list: &List,
    shared: &Weak<Shared<S>>,
) {
    let tick = reactor.tick();
    if let Some(shared) = shared.upgrade() {
        let mut late = Vec::new();
        {
            let pool = &mut *shared.pool.borrow_mut();
            for place in pool.places.values_mut() {
                late.extend(place.idle.extract_if(.., |idle| idle.until <= tick));
            }
            pool.idle -= late.len();
        }
        drop(late);
    }
    for (resting, gone) in mem::take(&mut *list.borrow_mut()) {
        if let Some(conn) = resting.and_then(|conn| reactor.get_mut(conn)) {
            conn.say_goodbye();
        }
        reactor.remove(gone);
    }
    if let Some(shared) = shared.upgrade() {
        shared.admit(reactor);
        let keeper = shared.keeper.borrow().clone();
        if let Some(keeper) = keeper {
            arm(reactor, &keeper, &shared);
        }
    }
    if Rc::strong_count(list) == 1 {
        reactor.remove(id); // Nobody has a leash, or will.
    }
}
