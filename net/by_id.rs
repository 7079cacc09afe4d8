//! The operations on sockets, listeners and links by their ids, which may be stale.
//!
//! Knows the loop and the kinds of source of this folder. Total, as those in `handle.rs`.
//!
//! # Read next
//! `link.rs`: two connections, joined.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::conn::Conn;
use super::connect::Connecting;
use super::datagram::{Carrier, Socket};
use super::event::Pressure;
use super::handle::gone;
use super::link::Link;
use super::{sim, tcp, udp};
use crate::reactor::{Context, SourceId};

/// Operations on a connection that is being made.
impl<C: 'static> SourceId<Connecting<C>> {
    /// Sends bytes as soon as the connection is made; see [`Connecting::write`]. `Closed` if it is
    /// made already, has failed or was cancelled.
    pub fn write<S: 'static>(self, reactor: &mut Context<S>, bytes: &[u8]) -> Pressure {
        reactor.get_mut(self).map_or(Pressure::Closed, |connecting| connecting.write(bytes))
    }
}

/// Operations on a datagram socket.
impl<C: Carrier> SourceId<Socket<C>> {
    /// Sends one datagram to the peer that the socket is connected to. `Closed` if the socket is
    /// gone.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub fn send<S: 'static>(self, reactor: &mut Context<S>, bytes: &[u8]) -> io::Result<Pressure> {
        reactor.get_mut(self).map_or(Ok(Pressure::Closed), |socket| socket.send(bytes))
    }

    /// Sends one datagram. `Closed` if the socket is gone.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub fn send_to<S: 'static>(
        self,
        reactor: &mut Context<S>,
        bytes: &[u8],
        to: &C::Address,
    ) -> io::Result<Pressure> {
        reactor.get_mut(self).map_or(Ok(Pressure::Closed), |socket| socket.send_to(bytes, to))
    }
}

impl SourceId<udp::Socket> {
    /// Sends one datagram from one of our addresses; see [`udp::Socket::send_from`]. `Closed` if
    /// the socket is gone.
    ///
    /// # Errors
    /// As there.
    pub fn send_from<S: 'static>(
        self,
        reactor: &mut Context<S>,
        bytes: &[u8],
        to: &SocketAddr,
        own: Option<IpAddr>,
    ) -> io::Result<Pressure> {
        let socket = reactor.get_mut(self);
        socket.map_or(Ok(Pressure::Closed), |socket| socket.send_from(bytes, to, own))
    }

    /// The address it is bound to, with the port that was chosen.
    ///
    /// # Errors
    /// `NotConnected` if the socket is gone.
    pub fn local_addr<S: 'static>(self, reactor: &Context<S>) -> io::Result<SocketAddr> {
        reactor.get(self).map(udp::Socket::local_addr).ok_or_else(gone)
    }

    /// Datagrams that the kernel has thrown away; see [`udp::Socket::dropped`]. For a timer that
    /// reports them. `None` also if the socket is gone.
    pub fn dropped<S: 'static>(self, reactor: &Context<S>) -> Option<u64> {
        reactor.get(self)?.dropped()
    }
}

impl SourceId<tcp::Listener> {
    /// The address it listens on, with the port that was chosen.
    ///
    /// # Errors
    /// `NotConnected` if the listener is gone.
    pub fn local_addr<S: 'static>(self, reactor: &Context<S>) -> io::Result<SocketAddr> {
        reactor.get(self).map(tcp::Listener::local_addr).ok_or_else(gone)
    }
}

impl SourceId<sim::Listener> {
    /// The simulated address it listens on.
    ///
    /// # Errors
    /// `NotConnected` if the listener is gone.
    pub fn local_addr<S: 'static>(self, reactor: &Context<S>) -> io::Result<SocketAddr> {
        reactor.get(self).map(sim::Listener::local_addr).ok_or_else(gone)
    }
}

#[cfg(unix)]
impl SourceId<super::unix::Listener> {
    /// The address it listens on. `None` if the listener is gone.
    pub fn local_addr<S: 'static>(self, reactor: &Context<S>) -> Option<&super::unix::Address> {
        reactor.get(self).map(super::unix::Listener::local_addr)
    }
}

impl SourceId<Link> {
    /// The two connections that are joined.
    pub fn ends<S: 'static>(self, reactor: &Context<S>) -> Option<[SourceId<Conn>; 2]> {
        reactor.get(self).map(Link::ends)
    }

    /// Bytes passed so far, in the order of [`ends`](SourceId::ends).
    pub fn bytes<S: 'static>(self, reactor: &Context<S>) -> Option<[u64; 2]> {
        reactor.get(self).map(Link::bytes)
    }

    /// Ends both connections at once, each with a reset.
    pub fn abort<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        reactor.get_mut(self).map(Link::abort).is_some()
    }
}
