//! The pool of one host: the connections to one origin, and the calls that wait for one of them.
//!
//! Knows ids and counts; never mentions requests or responses.
//!
//! A call that waits is *admitted* when there is a connection for it, or may be one: it is resumed,
//! and comes back in the next turn. Until then the connection is reserved for it, and a call that
//! is made meanwhile waits behind it. Otherwise a program that makes its next call in each
//! response's callback would keep all other calls waiting forever.
//!
//! # Read next
//! `client_pool.rs`: the pools of all hosts.

use std::collections::VecDeque;
use std::rc::Rc;

use super::call::{ADMITTED, Call};
use super::pooled_conn::PooledConn;
use super::source_guard::SourceGuard;
use crate::net::Conn;
use crate::reactor::{Context, SourceId};
use crate::timers::Tick;

/// A connection that waits for its next request.
pub(super) struct Idle<S: 'static> {
    pub(super) conn: SourceId<Conn>,
    pub(super) pooled: Rc<PooledConn<S>>,
    pub(super) guard: SourceGuard,
    /// The tick at which it has idled for too long.
    pub(super) until: Tick,
}

/// The connections to one host, directly or by a proxy.
pub(super) struct HostPool<S: 'static> {
    /// In the order of use. The last is used first, so that the others may time out.
    pub(super) idle: Vec<Idle<S>>,
    /// Connections that are in use, idle, or being made.
    pub(super) open: usize,
    /// Cancelled ones stay in it until their turn comes, or room is needed.
    pub(super) waiting: VecDeque<SourceId<Call>>,
    /// Calls that were taken out of the queue and resumed, and are not back yet.
    admitted: Vec<SourceId<Call>>,
    /// How many at the front of the queue were admitted before, and found no connection.
    returned: usize,
}

impl<S> Default for HostPool<S> {
    fn default() -> HostPool<S> {
        let (waiting, admitted) = (VecDeque::new(), Vec::new());
        HostPool { idle: Vec::new(), open: 0, waiting, admitted, returned: 0 }
    }
}

impl<S: 'static> HostPool<S> {
    /// Connections that calls could have now, those of admitted calls included.
    fn available(&self, open_max: usize) -> usize {
        self.idle.len() + open_max.saturating_sub(self.open)
    }

    /// Returns true if a call was admitted; it is back now.
    pub(super) fn is_back(&mut self, call: SourceId<Call>) -> bool {
        let at = self.admitted.iter().position(|admitted| *admitted == call);
        at.map(|at| self.admitted.swap_remove(at)).is_some()
    }

    /// Returns true if a call that was not admitted may take a connection, since none is before it.
    /// If calls wait although there is a connection, the reaper is about to admit them.
    pub(super) fn is_turn(&mut self, reactor: &Context<S>, open_max: usize) -> bool {
        self.admitted.retain(|admitted| reactor.contains(*admitted));
        self.available(open_max) > self.admitted.len() + self.waiting.len()
    }

    /// Admits as many calls as there are connections for; returns how many have left the queue.
    pub(super) fn admit(&mut self, reactor: &mut Context<S>, open_max: usize) -> usize {
        self.admitted.retain(|admitted| reactor.contains(*admitted));
        let before = self.waiting.len();
        while self.available(open_max) > self.admitted.len()
            && let Some(call) = self.waiting.pop_front()
        {
            self.returned = self.returned.saturating_sub(1);
            if reactor.contains(call) {
                reactor.send_message(call, ADMITTED);
                self.admitted.push(call);
            }
        }
        before - self.waiting.len()
    }

    /// Puts a call into the queue: at its end, or where it was if it is back without a connection.
    pub(super) fn wait(&mut self, call: SourceId<Call>, is_back: bool) {
        if is_back {
            self.waiting.insert(self.returned.min(self.waiting.len()), call);
            self.returned += 1;
        } else {
            self.waiting.push_back(call);
        }
    }

    /// Returns true if an idle connection is not promised to a call.
    pub(super) fn has_spare(&self) -> bool {
        self.idle.len() > self.admitted.len()
    }

    /// Takes calls that were cancelled out of the queue; returns how many.
    pub(super) fn drop_cancelled(&mut self, reactor: &Context<S>) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|call| reactor.contains(*call));
        before - self.waiting.len()
    }

    /// Returns true if it has neither connections nor calls.
    pub(super) fn is_unused(&self) -> bool {
        self.open == 0 && self.waiting.is_empty() && self.admitted.is_empty()
    }
}
