//! UDP: datagrams between hosts.
//!
//! Knows addresses, multicast groups and socket options; `datagram.rs` is the loop's side of a
//! socket.
//!
//! Nothing about a datagram is certain: it may get lost, arrive twice or in another order, and its
//! sender's address may be false. So a server whose answers are longer than the questions can be
//! misused to attack the address from which a datagram claims to come.
//!
//! A socket on `0.0.0.0` or `[::]` has all addresses of its host, and its datagrams leave from the
//! one that the kernel chooses for the route. That may differ from the address that the peer uses,
//! and a connected peer accepts datagrams from that one only. [`Bind::packet_info`] (feature
//! `packet-info`) reports at which address a datagram arrived, and [`Socket::send_from`] answers
//! from there; without it, bind a socket to each address.
//!
//! # Left out
//! Several datagrams in one system call, recvmmsg(2) and sendmmsg(2). A request and its answer cost
//! two calls here; these two save nearly all calls, and no time. With nix's safe functions, 64
//! datagrams of 64 bytes at a time on loopback, receiving one took 0.78 µs instead of 0.56, sending
//! one 1.82 instead of 1.77 (Linux 6.18, a virtual machine; 1,400 bytes: 0.87 for 0.63, 1.96 for
//! 1.92). The kernel reads and writes a header for each. If a system call costs more, up to a sixth
//! may be saved; it would need a buffer for each datagram, and a queue of those to send.
//!
//! # Read next
//! `unix/mod.rs`: sockets that are files.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, SockRef, Type};

use super::address::ToAddresses;
use super::address::named;
use super::datagram::{self, Carrier};
use super::event::Pressure;
use super::listen::{self, Family, bind_first};
use super::transport::registers_by;
use crate::reactor::{Context, SourceId};

#[cfg(any(target_os = "android", target_os = "linux"))]
mod drops;
mod options;
#[cfg(all(feature = "packet-info", any(target_os = "android", target_os = "linux")))]
mod packet_info;
#[cfg(not(all(feature = "packet-info", any(target_os = "android", target_os = "linux"))))]
#[path = "udp/no_packet_info.rs"]
mod packet_info;

pub use options::Options;
use packet_info::{Control, send_from};

/// A UDP socket.
pub type Socket = datagram::Socket<UdpCarrier>;
/// An event of a UDP socket.
pub type Event<'a> = datagram::Event<'a, SocketAddr>;

/// Binds a socket to `addr` and calls `handler` for all it receives. A socket on `0.0.0.0` or
/// `[::]` may answer from another address than the one that was asked: see [`Socket::send_from`].
///
/// ```no_run
/// use waterwheel::{Reactor, net::udp};
///
/// let mut reactor = Reactor::new()?;
/// udp::bind(&mut reactor, "127.0.0.1:7001", |reactor, _, socket, event| {
///     if let udp::Event::Received { from, bytes, .. } = event {
///         let _ = socket.send_to(reactor, bytes, &from); // An echo may get lost, too.
///     }
/// })?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The address is taken, not ours, or no address; the error names it. A host name is looked up,
/// which blocks, and the first of its addresses that can be bound is used.
#[track_caller]
pub fn bind<S, F>(
    reactor: &mut Context<S>,
    addr: impl ToAddresses,
    handler: F,
) -> io::Result<SourceId<Socket>>
where
    S: 'static,
    F: FnMut(&mut Context<S>, &mut S, SourceId<Socket>, Event<'_>) + 'static,
{
    Bind::new().open(reactor, addr, handler)
}

/// Binds a socket to a port of the system's choice and connects it to `peer`, an address: it sends
/// there with [`send`](Socket::send), receives only from it, and an event reports a missing peer.
///
/// A name may have several addresses, and connecting does not show if a peer is there. Only a
/// datagram shows it, by a `ConnectionRefused` ([`Event::Error`]) or by an answer. So look a name
/// up on a worker ([`ToAddresses`] in a [`Context::offload`]) and connect to the first address; if
/// that is refused, connect to the next one and send again. The example `nc` does so.
///
/// # Errors
/// No route, no free port. The error names the peer.
#[track_caller]
pub fn connect<S, F>(
    reactor: &mut Context<S>,
    peer: SocketAddr,
    handler: F,
) -> io::Result<SourceId<Socket>>
where
    S: 'static,
    F: FnMut(&mut Context<S>, &mut S, SourceId<Socket>, Event<'_>) + 'static,
{
    let any = match peer {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let connected = Bind::new().peer(peer).bind((any, 0).into());
    connected
        .and_then(|carrier| Bind::new().serve(reactor, carrier, handler))
        .map_err(|error| named(peer, &error))
}

/// Sets up a UDP socket.
///
/// ```
/// use std::net::Ipv4Addr;
/// use waterwheel::{Reactor, net::udp};
///
/// let mut reactor = Reactor::<()>::new()?;
/// let socket = udp::Bind::new()
///     .reuse_address(true)
///     .multicast_loop(true)
///     .open(&mut reactor, "0.0.0.0:0", |_, _, _, event| println!("{event:?}"))?;
/// let (group, interface) = (Ipv4Addr::new(239, 255, 0, 1), Ipv4Addr::LOCALHOST);
/// reactor[socket].join_v4(&group, &interface)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub type Bind = datagram::Bind<Options>;

impl Bind {
    /// Binds the socket; see [`bind`].
    ///
    /// # Errors
    /// As [`bind`]; an option does not fit the address.
    #[track_caller]
    pub fn open<S, F>(
        self,
        reactor: &mut Context<S>,
        addr: impl ToAddresses,
        handler: F,
    ) -> io::Result<SourceId<Socket>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<Socket>, Event<'_>) + 'static,
    {
        let carrier = bind_first(addr, |addr| self.bind(addr))?;
        let addr = carrier.addr;
        self.serve(reactor, carrier, handler).map_err(|error| named(addr, &error))
    }

    /// Takes over a socket that another program has bound, and maybe connected; see
    /// [`tcp::Listen::adopt`](crate::net::tcp::Listen::adopt). Its options stay as they are.
    ///
    /// # Errors
    /// It is not a UDP socket, or an option of [`Bind`] for UDP only is asked for, which comes too
    /// late. The socket is closed.
    #[track_caller]
    pub fn adopt<S, F>(
        self,
        reactor: &mut Context<S>,
        socket: std::net::UdpSocket,
        handler: F,
    ) -> io::Result<SourceId<Socket>>
    where
        S: 'static,
        F: FnMut(&mut Context<S>, &mut S, SourceId<Socket>, Event<'_>) + 'static,
    {
        if self.kind != Options::default() {
            return Err(listen::too_late("an option of this kind of socket"));
        }
        let options = SockRef::from(&socket);
        listen::adopt(&options, Family::Ip, Type::DGRAM)?;
        self.set_buffers(&options)?;
        let socket = UdpSocket::from_std(socket);
        let carrier = UdpCarrier { addr: socket.local_addr()?, socket, arrivals: None };
        self.serve(reactor, carrier, handler)
    }

    fn bind(&self, addr: SocketAddr) -> io::Result<UdpCarrier> {
        let domain = Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        self.set_buffers(&SockRef::from(&socket))?;
        self.kind.set_on(&socket, addr.is_ipv6())?;
        let arrivals = match self.kind.packet_info {
            true => Some((Control::ask(&socket, addr.is_ipv6())?, None)),
            false => None,
        };
        socket.bind(&addr.into())?;
        self.kind.peer.map_or(Ok(()), |peer| socket.connect(&peer.into()))?;
        let socket = UdpSocket::from_std(socket.into());
        Ok(UdpCarrier { addr: socket.local_addr()?, socket, arrivals })
    }
}

impl Socket {
    /// The address it is bound to, with the port the system chose if it was asked for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.carrier.addr
    }

    /// The arrival of the datagram that was delivered last; `None` unless
    /// [`Bind::packet_info`](Bind) asked for it.
    ///
    /// ```no_run
    /// # #[cfg(feature = "packet-info")] {
    /// use waterwheel::{Reactor, net::udp};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let bind = udp::Bind::new().packet_info(true);
    /// bind.open(&mut reactor, "0.0.0.0:7001", |reactor, _, socket, event| {
    ///     if let udp::Event::Received { from, bytes, .. } = event {
    ///         let own = reactor[socket].arrival().and_then(|arrival| arrival.own);
    ///         let _ = reactor[socket].send_from(bytes, &from, own);
    ///     }
    /// })?;
    /// reactor.run(&mut ())?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn arrival(&self) -> Option<Arrival> {
        self.carrier.arrivals.as_ref()?.1
    }

    /// Sends one datagram from one of this host's addresses, [`Arrival::own`] as a rule; the system
    /// chooses it if it is `None`. The port is that of the socket. Costs an allocation, unless the
    /// socket is bound to that very address.
    ///
    /// # Errors
    /// As [`send`](Socket::send); it is no address of this host; `Unsupported` where
    /// [`Bind::packet_info`](Bind) is.
    pub fn send_from(
        &mut self,
        bytes: &[u8],
        to: &SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<Pressure> {
        match from.filter(|from| *from != self.carrier.addr.ip()) {
            Some(from) => self.offer(|carrier| send_from(&carrier.socket, bytes, to, from)),
            None => self.send_to(bytes, to),
        }
    }

    /// Datagrams that the kernel has thrown away since the socket was made, because its buffer was
    /// full ([`Bind::receive_buffer_bytes`]) or they came damaged. On Linux; `None` elsewhere, and
    /// if `/proc` cannot be read.
    ///
    /// # Cost
    /// It reads the kernel's table of all UDP sockets, a line for each: call it every few seconds,
    /// not for each datagram.
    pub fn dropped(&self) -> Option<u64> {
        #[cfg(any(target_os = "android", target_os = "linux"))]
        return drops::of(&self.carrier.socket, self.carrier.addr.is_ipv6());
        #[cfg(not(any(target_os = "android", target_os = "linux")))]
        None
    }

    /// From now on receives the datagrams to an IPv4 group, on the interface with that address;
    /// `0.0.0.0` is the system's choice.
    ///
    /// # Errors
    /// It is no group, or there is no such interface; it has been joined already.
    pub fn join_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.carrier.socket.join_multicast_v4(group, interface)
    }

    /// Undoes [`join_v4`](Socket::join_v4).
    ///
    /// # Errors
    /// It was not joined on this interface.
    pub fn leave_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.carrier.socket.leave_multicast_v4(group, interface)
    }

    /// From now on receives the datagrams to an IPv6 group, on the interface with that index; 0 is
    /// the system's choice.
    ///
    /// # Errors
    /// It is no group, or there is no such interface; it has been joined already.
    pub fn join_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.carrier.socket.join_multicast_v6(group, interface)
    }

    /// Undoes [`join_v6`](Socket::join_v6).
    ///
    /// # Errors
    /// It was not joined on this interface.
    pub fn leave_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.carrier.socket.leave_multicast_v6(group, interface)
    }
}

/// The carrier of UDP datagrams.
#[derive(Debug)]
pub struct UdpCarrier {
    socket: UdpSocket,
    addr: SocketAddr,
    /// For a socket that asked: the buffer for control messages, and the last datagram's arrival.
    arrivals: Option<(Control, Option<Arrival>)>,
}

/// The addresses, and the interface, at which a datagram has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The address it was sent to: one of this host, a group or a broadcast address.
    pub to: IpAddr,
    /// This host's own address there; the peer expects the answer from it. It is the same, unless
    /// the datagram went to many. `None` if the kernel does not report it, as for groups of IPv6.
    pub own: Option<IpAddr>,
    /// The network interface, by its index.
    pub interface: u32,
}

impl Carrier for UdpCarrier {
    type Address = SocketAddr;

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        if let Some((control, last)) = &mut self.arrivals {
            let (count, from, arrival) = control.receive(&self.socket, buffer)?;
            *last = arrival;
            return Ok((count, from));
        }
        self.socket.recv_from(buffer)
    }

    #[inline]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send(bytes)
    }

    #[inline]
    fn send_to(&self, bytes: &[u8], to: &SocketAddr) -> io::Result<usize> {
        self.socket.send_to(bytes, *to)
    }
}

registers_by!(UdpCarrier, socket);

#[cfg(unix)]
impl std::os::fd::AsFd for UdpCarrier {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
