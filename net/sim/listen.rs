//! Listening in a simulated network.
//!
//! Knows the queue between the network, which adds to it, and a source, which accepts from it.
//!
//! # Read next
//! `connect.rs`: who knocks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use mio::event::Source;
use mio::{Registry, Token};

use super::Network;
use super::ether::Ether;
use crate::net::drive::Lent;
use crate::net::stream::Stream;
use crate::net::wire::{Carrier, End, Parcel, Wire};
use crate::reactor::{Context, Interest, RawId, Readiness, SourceId};

/// Connections that wait to be accepted by one listener. One more is not answered, as the kernel
/// does when its backlog is full; it has a timeout for that.
pub const BACKLOG_MAX: usize = 128;
/// Connections accepted by one listener in one turn; the rest waits for the next.
pub const ACCEPTS_PER_TURN: usize = 64;

/// Who listens at an address of a simulated network. Remove its source to stop; those who wait to
/// be accepted are reset.
pub struct Listener {
    ether: Rc<Ether>,
    addr: SocketAddr,
    queue: Rc<RefCell<Queue>>,
}

/// Those who wait to be accepted, and who is told of them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    id: Option<RawId>,
    ends: VecDeque<End>,
}

impl Listener {
    /// Where it listens, with the port that was chosen if it asked for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Network {
    /// Listens at `addr` and calls `on_accept` with every stream that is accepted, as
    /// [`tcp::listen`](crate::net::tcp::listen) does. Any address will do; port 0 is a free one.
    ///
    /// # Errors
    /// `AddrInUse`: somebody listens there.
    #[track_caller]
    pub fn listen<S, F>(
        &self,
        reactor: &mut Context<S>,
        mut addr: SocketAddr,
        mut on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Stream) + 'static,
    {
        let queue = Rc::<RefCell<Queue>>::default();
        {
            let state = &mut *self.0.state.borrow_mut();
            if addr.port() == 0 {
                addr.set_port(state.free_port());
            }
            if state.listeners.contains_key(&addr) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            state.listeners.insert(addr, Rc::downgrade(&queue));
        }
        let listener = Listener { ether: self.0.clone(), addr, queue };
        let accept = move |reactor: &mut _, state: &mut _, id, _| {
            accept(reactor, state, id, &mut on_accept);
        };
        Ok(reactor.register(listener, Interest::READABLE, accept)?)
    }
}

/// Accepts until nobody waits, or the turn's budget is spent.
fn accept<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Listener>,
    on_accept: &mut impl FnMut(&mut Context<S>, &mut S, Stream),
) {
    for _ in 0..ACCEPTS_PER_TURN {
        // The callback may have closed the listener.
        let Some(listener) = reactor.get(id) else { return };
        let Some(end) = listener.queue.borrow_mut().ends.pop_front() else { return };
        let lent = Lent(reactor, id.raw());
        on_accept(lent.0, state, Stream::over(end).accepted());
    }
    reactor.resume(id.raw(), Readiness::READABLE);
}

impl Ether {
    /// An attempt to connect has arrived.
    pub(super) fn knock(&self, wire: &Rc<Wire>, addr: SocketAddr) -> Option<(RawId, Readiness)> {
        let queue = self.state.borrow().listeners.get(&addr).and_then(|queue| queue.upgrade());
        let Some(queue) = queue else {
            self.state.borrow_mut().traffic.refused += 1;
            self.carry(wire, 0, Parcel::Refused);
            return None;
        };
        let queue = &mut *queue.borrow_mut();
        if queue.ends.len() >= BACKLOG_MAX {
            self.state.borrow_mut().traffic.lost += 1;
            return None;
        }
        queue.ends.push_back(wire.end(1));
        self.carry(wire, 0, Parcel::Opened);
        queue.id.map(|id| (id, Readiness::READABLE))
    }

    fn resume(&self, id: RawId) {
        self.resumer().resume(id, Readiness::READABLE);
    }
}

impl Source for Listener {
    fn register(&mut self, _: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let queue = &mut *self.queue.borrow_mut();
        let id = RawId::from_token(token);
        queue.id = Some(id);
        if !queue.ends.is_empty() {
            self.ether.resume(id);
        }
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        self.register(registry, token, what)
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        self.queue.borrow_mut().id = None;
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ether.state.borrow_mut().listeners.remove(&self.addr);
        let waiting = std::mem::take(&mut self.queue.borrow_mut().ends);
        for mut end in waiting {
            crate::net::Transport::reset_on_drop(&mut end);
        }
    }
}
