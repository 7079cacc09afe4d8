//! Listening in a simulated network.
//!
//! Knows the queue between the network, which adds to it, and a listener, which accepts from it.
//!
//! # Read next
//! `connect.rs`: the side that connects.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use mio::event::Source;
use mio::{Registry, Token};

use super::Network;
use super::medium::{Medium, Queue};
use crate::net::accept::{self, Accept, Acceptor};
use crate::net::group::Group;
use crate::net::stream::Stream;
use crate::net::wire::End;
use crate::reactor::{Context, Interest, RawId, SourceId};

/// A listener at an address of a simulated network. Remove its source to stop; connections that
/// wait to be accepted are reset.
pub type Listener = accept::Listener<SimAcceptor>;

/// Sets up a listener in a simulated network. If the backlog is full, an attempt to connect is not
/// answered, and ends by its timeout.
pub type Listen = crate::net::listen::Listen<()>;

impl Listen {
    /// Listens at `addr` of `network`; see [`Network::listen`].
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn open<S, F>(
        self,
        network: &Network,
        reactor: &mut Context<S>,
        mut addr: SocketAddr,
        mut on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Stream) + 'static,
    {
        let backlog = usize::try_from(self.backlog).unwrap_or(0);
        let queue = Rc::new(RefCell::new(Queue { id: None, ends: VecDeque::new(), backlog }));
        {
            let state = &mut *network.0.state.borrow_mut();
            if addr.port() == 0 {
                addr.set_port(state.free_port()?);
            }
            if state.listeners.contains_key(&addr) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            state.listeners.insert(addr, Rc::downgrade(&queue));
        }
        let acceptor = SimAcceptor { medium: network.0.clone(), addr, queue };
        accept::serve(reactor, acceptor, &self, move |reactor, state, accepted| {
            if let Accept::Stream(stream) = accepted {
                on_accept(reactor, state, stream);
            }
        })
    }
}

impl Network {
    /// Listens at `addr` and calls `on_accept` with every stream that is accepted, as
    /// [`tcp::listen`](crate::net::tcp::listen) does. Every address is valid; port 0 is a free one.
    /// [`Listen`] has options.
    ///
    /// # Errors
    /// `AddrInUse`: there is a listener already; `AddrNotAvailable`: no port is free.
    #[track_caller]
    pub fn listen<S, F>(
        &self,
        reactor: &mut Context<S>,
        addr: SocketAddr,
        on_accept: F,
    ) -> io::Result<SourceId<Listener>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, Stream) + 'static,
    {
        Listen::new().open(self, reactor, addr, on_accept)
    }
}

/// The acceptor of a simulated listener.
pub struct SimAcceptor {
    medium: Rc<Medium>,
    addr: SocketAddr,
    queue: Rc<RefCell<Queue>>,
}

impl Listener {
    /// The address it listens on, with the port that was chosen if it asked for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.acceptor.addr
    }
}

impl Acceptor for SimAcceptor {
    type Socket = End;
    const IS_DESCRIPTOR: bool = false;

    fn accept(&mut self) -> io::Result<End> {
        self.queue.borrow_mut().ends.pop_front().ok_or(io::ErrorKind::WouldBlock.into())
    }

    fn stream(&self, end: End, group: Group) -> Stream {
        Stream::carried(Box::new(end), group)
    }
}

impl fmt::Debug for SimAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimAcceptor").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Source for SimAcceptor {
    fn register(&mut self, _: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let queue = &mut *self.queue.borrow_mut();
        let id = RawId::from_token(token);
        queue.id = Some(id);
        if !queue.ends.is_empty() {
            self.medium.resume(id);
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

impl Drop for SimAcceptor {
    fn drop(&mut self) {
        self.medium.state.borrow_mut().listeners.remove(&self.addr);
        let waiting = std::mem::take(&mut self.queue.borrow_mut().ends);
        for mut end in waiting {
            crate::net::Transport::reset_on_drop(&mut end);
        }
    }
}
