//! The options of a UDP socket that are set before it is bound.
//!
//! Knows socket options only.
//!
//! # Read next
//! `../udp.rs`: the socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::Bind;

/// The options of [`Bind`] for UDP only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub(super) peer: Option<SocketAddr>,
    pub(super) reuse_address: bool,
    pub(super) reuse_port: bool,
    pub(super) broadcast: bool,
    pub(super) only_v6: Option<bool>,
    pub(super) ttl: Option<u32>,
    pub(super) multicast_ttl: Option<u32>,
    pub(super) multicast_loop: Option<bool>,
    pub(super) multicast_all: Option<bool>,
    pub(super) packet_info: bool,
    pub(super) multicast_interface_v4: Option<Ipv4Addr>,
    pub(super) multicast_interface_v6: Option<u32>,
}

impl Bind {
    /// Connects the socket: it receives from and sends to this address only.
    pub fn peer(mut self, peer: SocketAddr) -> Bind {
        self.kind.peer = Some(peer);
        self
    }

    /// Lets several sockets have the address (`SO_REUSEADDR`): each gets the datagrams to a group
    /// or broadcast, and the last one bound gets all others. Off.
    pub fn reuse_address(mut self, reuse: bool) -> Bind {
        self.kind.reuse_address = reuse;
        self
    }

    /// Lets several sockets, each with its own loop, share the port; the kernel spreads the senders
    /// over them (`SO_REUSEPORT`). Off.
    pub fn reuse_port(mut self, reuse: bool) -> Bind {
        self.kind.reuse_port = reuse;
        self
    }

    /// Allows sending to broadcast addresses (`SO_BROADCAST`). Off.
    pub fn broadcast(mut self, broadcast: bool) -> Bind {
        self.kind.broadcast = broadcast;
        self
    }

    /// True if a socket bound to `[::]` leaves IPv4 alone (`IPV6_V6ONLY`). The system's choice.
    pub fn only_v6(mut self, only: bool) -> Bind {
        self.kind.only_v6 = Some(only);
        self
    }

    /// Routers that a datagram to one host may pass (time to live, hop limit). The system's choice.
    pub fn ttl(mut self, routers: u32) -> Bind {
        self.kind.ttl = Some(routers);
        self
    }

    /// Routers that a datagram to a group may pass. 1 on every system: it stays in the network.
    pub fn multicast_ttl(mut self, routers: u32) -> Bind {
        self.kind.multicast_ttl = Some(routers);
        self
    }

    /// True if this host also gets its own datagrams to a group. True on every system.
    pub fn multicast_loop(mut self, enabled: bool) -> Bind {
        self.kind.multicast_loop = Some(enabled);
        self
    }

    /// True if a socket bound to `0.0.0.0` or `[::]` receives from all groups that any socket of
    /// this host has joined, and not only from its own (`IP_MULTICAST_ALL`, on Linux; elsewhere
    /// this does nothing). True on Linux.
    pub fn multicast_all(mut self, all: bool) -> Bind {
        self.kind.multicast_all = Some(all);
        self
    }

    /// Notes at which address each datagram arrived, for [`Socket::arrival`](super::Socket::arrival) (`IP_PKTINFO`). On
    /// Linux, with feature `packet-info`; elsewhere [`open`](Bind::open) fails with `Unsupported`.
    /// Off.
    #[cfg(feature = "packet-info")]
    pub fn packet_info(mut self, noted: bool) -> Bind {
        self.kind.packet_info = noted;
        self
    }

    /// The interface, by its address, by which datagrams to IPv4 groups leave. The system's own.
    pub fn multicast_interface_v4(mut self, interface: Ipv4Addr) -> Bind {
        self.kind.multicast_interface_v4 = Some(interface);
        self
    }

    /// The interface, by its index, by which datagrams to IPv6 groups leave. The system's own.
    pub fn multicast_interface_v6(mut self, index: u32) -> Bind {
        self.kind.multicast_interface_v6 = Some(index);
        self
    }
}

/// Sets an option that was asked for.
fn set<T>(asked: Option<T>, set: impl FnOnce(T) -> io::Result<()>) -> io::Result<()> {
    asked.map_or(Ok(()), set)
}

impl Options {
    pub(super) fn set_on(&self, socket: &socket2::Socket, is_v6: bool) -> io::Result<()> {
        socket.set_reuse_address(self.reuse_address)?;
        #[cfg(unix)]
        socket.set_reuse_port(self.reuse_port)?;
        socket.set_broadcast(self.broadcast)?;
        set(self.only_v6, |only| socket.set_only_v6(only))?;
        set(self.multicast_interface_v4, |interface| socket.set_multicast_if_v4(&interface))?;
        set(self.multicast_interface_v6, |index| socket.set_multicast_if_v6(index))?;
        #[cfg(any(target_os = "android", target_os = "linux"))]
        set(self.multicast_all, |all| match is_v6 {
            true => socket.set_multicast_all_v6(all),
            false => socket.set_multicast_all_v4(all),
        })?;
        if is_v6 {
            set(self.ttl, |routers| socket.set_unicast_hops_v6(routers))?;
            set(self.multicast_ttl, |routers| socket.set_multicast_hops_v6(routers))?;
            set(self.multicast_loop, |enabled| socket.set_multicast_loop_v6(enabled))
        } else {
            set(self.ttl, |routers| socket.set_ttl_v4(routers))?;
            set(self.multicast_ttl, |routers| socket.set_multicast_ttl_v4(routers))?;
            set(self.multicast_loop, |enabled| socket.set_multicast_loop_v4(enabled))
        }
    }
}
