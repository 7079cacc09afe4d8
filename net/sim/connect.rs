//! Connecting in a simulated network.
//!
//! Knows one end of a wire whose other end has not answered yet.
//!
//! # Read next
//! `faults.rs`: the faults of the network.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::Network;
use super::medium::{Cargo, Flight, State};
use crate::net::connect::{self, Connector, await_connection};
use crate::net::group::Group;
use crate::net::stream::Stream;
use crate::net::transport::registers_by;
use crate::net::wire::{End, Wire};
use crate::reactor::{Context, SourceId};

/// The first port for connections that do not ask for one (RFC 6335, section 6).
const FIRST_FREE_PORT: u16 = 49152;

/// A simulated connection that is being made.
pub type Connecting = connect::Connecting<SimConnector>;

impl Connecting {
    /// The address to connect to.
    pub fn peer(&self) -> SocketAddr {
        self.connector.peer
    }
}

impl Network {
    /// Connects to `addr` and calls `done` once, as [`tcp::connect`](crate::net::tcp::connect)
    /// does: with the stream, with `ConnectionRefused` or `ConnectionReset`, or with `TimedOut`
    /// after `timeout`.
    ///
    /// # Errors
    /// More sources than a token can number; `AddrNotAvailable` if every port for connections that
    /// do not ask for one has a listener.
    #[track_caller]
    pub fn connect<S, F>(
        &self,
        reactor: &mut Context<S>,
        addr: SocketAddr,
        timeout: Duration,
        done: F,
    ) -> io::Result<SourceId<Connecting>>
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
    {
        let (own, buffer_bytes) = {
            let state = &mut *self.0.state.borrow_mut();
            let own = SocketAddr::from((Ipv4Addr::LOCALHOST, state.free_port()?));
            (own, state.faults.buffer_bytes)
        };
        let wire = Wire::new(self.0.clone(), buffer_bytes, Some([own, addr]), false);
        let connector = SimConnector { end: wire.end(0), peer: addr };
        let id = await_connection(reactor, connector, timeout, done)?;
        self.0.send(Flight { wire: Rc::downgrade(&wire), to: 1, cargo: Cargo::Connect(addr) });
        Ok(id)
    }
}

/// An end of a wire on its way.
#[derive(Debug)]
pub struct SimConnector {
    end: End,
    peer: SocketAddr,
}

impl Connector for SimConnector {
    fn outcome(&mut self) -> Option<io::Result<()>> {
        self.end.outcome()
    }

    fn stream(self, group: Group) -> Stream {
        Stream::carried(Box::new(self.end), group)
    }
}

registers_by!(SimConnector, end);

impl State {
    /// A port that has no listener. After the last port comes the first again, as in the kernel,
    /// which has the same error when there is none.
    pub(super) fn free_port(&mut self) -> io::Result<u16> {
        let taken: BTreeSet<u16> = self.listeners.keys().map(SocketAddr::port).collect();
        for _ in FIRST_FREE_PORT..=u16::MAX {
            self.port = self.port.checked_add(1).unwrap_or(0).max(FIRST_FREE_PORT);
            if !taken.contains(&self.port) {
                return Ok(self.port);
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }
}
