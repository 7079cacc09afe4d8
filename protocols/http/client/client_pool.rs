//! The pool: connections that wait for their next request, and calls that wait for a connection.
//!
//! Knows sources and their ids; the work of a call is in `transfer.rs`.
//!
//! # Rules
//! 1. A connection is idle when its response was read to the end, its request was sent to the end,
//!    and no byte has come behind the response. Any event while it idles closes it.
//! 2. An idle connection does not hold the loop.
//! 3. Calls get their connections in the order in which they were made.
//!
//! # Read next
//! `host_pool.rs`: the queue. `source_guard.rs`: how they are closed without a callback.

use std::collections::HashMap;
use std::mem;
use std::rc::{Rc, Weak};

use super::call::Call;
use super::host_pool::{HostPool, Idle};
use super::pooled_conn::PooledConn;
use super::source_guard::{List, Reaper, SourceGuard};
use super::{ClientLimits, Shared};
use crate::net::Conn;
use crate::reactor::{Context, SourceId};
use crate::timers::Tick;

/// All connections of a client.
pub(super) struct Pool<S: 'static> {
    hosts: HashMap<Rc<str>, HostPool<S>>,
    idle: usize,
    waiting: usize,
}

impl<S> Default for Pool<S> {
    fn default() -> Pool<S> {
        Pool { hosts: HashMap::new(), idle: 0, waiting: 0 }
    }
}

impl<S> Pool<S> {
    /// The key of a host that the pool has already.
    pub(super) fn key(&self, name: &str) -> Option<Rc<str>> {
        self.hosts.get_key_value(name).map(|(key, _)| key.clone())
    }
}

/// A permit: counts one of a host's connections, from dialling to closing.
pub(super) struct Permit<S: 'static> {
    key: Rc<str>,
    shared: Weak<Shared<S>>,
}

impl<S: 'static> Permit<S> {
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

impl<S> Drop for Permit<S> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.vacate(&self.key);
        }
    }
}

/// The result of a request to the pool for a connection.
pub(super) enum Checkout<S: 'static> {
    /// A connection that is open already.
    Reuse(SourceId<Conn>, Rc<PooledConn<S>>, SourceGuard),
    /// The call has to make a connection.
    Connect(Permit<S>),
    /// All are in use: the call waits in the queue, and will be resumed.
    Wait,
    /// All are in use, and too many calls wait already.
    Full,
}

impl<S: 'static> Shared<S> {
    /// The reaper in this loop; made if there is none.
    pub(super) fn reaper(self: &Rc<Self>, reactor: &mut Context<S>) -> Rc<Reaper> {
        let mut reaper = self.reaper.borrow_mut();
        if let Some(reaper) = &*reaper
            && reactor.contains(reaper.id)
        {
            return reaper.clone();
        }
        let (list, shared) = (List::default(), Rc::downgrade(self));
        let drained = list.clone();
        let reap = move |reactor: &mut Context<S>, _: &mut S, id: SourceId<()>, _| {
            reap(reactor, id, &drained, &shared);
        };
        let id = reactor.own((), reap);
        reactor.unref(id);
        let made = Reaper::new(id, reactor.resumer(), list);
        *reaper = Some(made.clone());
        made
    }

    /// A connection for a call, the most recently used one first; a new one if `fresh`. `probe`
    /// is true if it is worth a system call to know that the server has not closed it, and
    /// `was_there` if the call's last connection was to the same host.
    pub(super) fn check_out(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        key: &Rc<str>,
        call: SourceId<Call>,
        fresh: bool,
        probe: bool,
        was_there: bool,
    ) -> Checkout<S> {
        let mut gone = Vec::new();
        let limits: &ClientLimits = &self.limits;
        let pool = &mut *self.pool.borrow_mut();
        let host = pool.hosts.entry(key.clone()).or_default();
        let is_back = host.is_back(call);
        let is_turn = is_back || host.is_turn(reactor, limits.connections_per_host_max);
        while let Some(mut idle) = host.idle.pop_if(|_| is_turn && !fresh) {
            pool.idle -= 1;
            let usable = reactor.get_mut(idle.conn).is_some_and(|conn| conn.is_quiet(probe));
            if usable {
                reactor.reref(idle.conn);
                idle.guard.set_idle(None);
                return Checkout::Reuse(idle.conn, idle.pooled, idle.guard);
            }
            gone.push(idle); // Its permit counts until it is removed.
        }
        if is_turn && host.open < limits.connections_per_host_max {
            host.open += 1;
            return Checkout::Connect(Permit { key: key.clone(), shared: Rc::downgrade(self) });
        }
        // A connection that is not wanted must not keep a new one from being made.
        if let Some(idle) = host.idle.pop_if(|_| is_turn) {
            pool.idle -= 1;
            gone.push(idle);
        }
        // A call that was admitted before is not one too many: no more of these wait than there may
        // be connections.
        let is_new = !is_back && !was_there;
        let is_full = |waiting: usize| is_new && waiting >= limits.waiting_max;
        if is_full(pool.waiting) && self.has_cancelled() {
            let hosts = pool.hosts.values_mut();
            pool.waiting -= hosts.map(|host| host.drop_cancelled(reactor)).sum::<usize>();
        }
        if is_full(pool.waiting) {
            return Checkout::Full;
        }
        pool.waiting += 1;
        pool.hosts.entry(key.clone()).or_default().wait(call, is_back);
        Checkout::Wait
    }

    /// Returns true if waiting calls were cancelled since the last call of this function.
    fn has_cancelled(&self) -> bool {
        self.reaper.borrow().as_ref().is_some_and(|reaper| reaper.cancelled.take())
    }

    /// Keeps a connection for the next call, unless there are too many.
    pub(super) fn keep_idle(
        self: &Rc<Self>,
        reactor: &mut Context<S>,
        conn: SourceId<Conn>,
        pooled: Rc<PooledConn<S>>,
        mut guard: SourceGuard,
    ) {
        guard.set_idle(Some(conn));
        let until = reactor.tick_after(self.limits.idle_time_max);
        let reaper = guard.reaper.clone();
        let mut surplus = None;
        {
            let pool = &mut *self.pool.borrow_mut();
            let Some(host) = pool.hosts.get_mut(pooled.key()) else { return };
            let limits = &self.limits;
            host.idle.push(Idle { conn, pooled: pooled.clone(), guard, until });
            pool.idle += 1;
            pool.waiting -= host.admit(reactor, limits.connections_per_host_max);
            let full = pool.idle > limits.idle_max || host.idle.len() > limits.idle_per_host_max;
            if full && host.has_spare() {
                surplus = Some(host.idle.remove(0));
                pool.idle -= 1;
            }
        }
        if surplus.as_ref().is_none_or(|surplus| surplus.conn != conn) {
            reactor.unref(conn);
            if until < reaper.until.get() {
                arm(reactor, &reaper, self); // Otherwise it is armed for an earlier check already.
            }
        }
        drop(surplus);
    }

    /// An idle connection has ended.
    fn forget(&self, conn: SourceId<Conn>, key: &Rc<str>) {
        let mut gone = None;
        {
            let pool = &mut *self.pool.borrow_mut();
            let Some(host) = pool.hosts.get_mut(key) else { return };
            if let Some(at) = host.idle.iter().position(|idle| idle.conn == conn) {
                gone = Some(host.idle.remove(at));
                pool.idle -= 1;
            }
        }
        gone.map(|gone| gone.guard.release());
    }

    /// A connection was closed: if calls wait, the reaper lets the next one make another.
    fn vacate(&self, key: &Rc<str>) {
        let pool = &mut *self.pool.borrow_mut();
        let Some(host) = pool.hosts.get_mut(key) else { return };
        host.open -= 1;
        if !host.waiting.is_empty() {
            if let Some(reaper) = &*self.reaper.borrow() {
                reaper.wake();
            }
        } else if host.is_unused() {
            pool.hosts.remove(key);
        }
    }

    /// Admits calls that wait: to an idle connection, or to make one if the limit allows it.
    fn admit(&self, reactor: &mut Context<S>) {
        let pool = &mut *self.pool.borrow_mut();
        for host in pool.hosts.values_mut() {
            pool.waiting -= host.admit(reactor, self.limits.connections_per_host_max);
        }
        pool.hosts.retain(|_, host| !host.is_unused());
    }

    /// Connections that wait for a request.
    pub(super) fn idle(&self) -> usize {
        self.pool.borrow().idle
    }

    /// Connections in use, idle or being made.
    pub(super) fn open(&self) -> usize {
        self.pool.borrow().hosts.values().map(|host| host.open).sum()
    }
}

/// Arms the reaper for the first connection that will have idled for too long.
fn arm<S: 'static>(reactor: &mut Context<S>, reaper: &Reaper, shared: &Shared<S>) {
    let pool = shared.pool.borrow();
    let untils = pool.hosts.values().flat_map(|host| host.idle.iter().map(|idle| idle.until));
    let first = untils.min();
    reaper.until.set(first.unwrap_or(Tick::NEVER));
    reactor.set_deadline(reaper.id, first);
}

/// The reaper is called.
fn reap<S: 'static>(
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
            for host in pool.hosts.values_mut() {
                late.extend(host.idle.extract_if(.., |idle| idle.until <= tick));
            }
            pool.idle -= late.len();
        }
        drop(late);
    }
    for (idle, gone) in mem::take(&mut *list.borrow_mut()) {
        if let Some(conn) = idle.and_then(|conn| reactor.get_mut(conn)) {
            conn.announce_end();
        }
        reactor.remove(gone);
    }
    if let Some(shared) = shared.upgrade() {
        shared.admit(reactor);
        let reaper = shared.reaper.borrow().clone();
        if let Some(reaper) = reaper {
            arm(reactor, &reaper, &shared);
        }
    }
    if Rc::strong_count(list) == 1 {
        reactor.remove(id); // There is no guard, and none will be made.
    }
}
