//! To ask the kernel at which of this host's addresses a datagram arrived, and to send from that
//! address.
//!
//! Knows recvmsg(2), sendmsg(2) and the control messages of ip(7) and ipv6(7).
//!
//! ```text
//!   client of 127.0.0.2 ───▶ socket on 0.0.0.0     recvmsg: data, from, IP_PKTINFO: to 127.0.0.2
//!                       ◀───                       sendmsg: data, to,   IP_PKTINFO: from 127.0.0.2
//! ```
//!
//! # Read next
//! `../udp.rs`, which asks for it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};

use super::Arrival;

/// Room for the control messages of one datagram. On a socket of both families there are two, of 40
/// and of 28 bytes.
const CONTROL_BYTES: usize = 128;

/// The buffer into which recvmsg(2) puts them.
#[derive(Debug)]
pub(super) struct Control(Box<[u8; CONTROL_BYTES]>);

impl Control {
    /// Asks the kernel to report where datagrams arrive.
    pub(super) fn ask(socket: &impl AsFd, is_v6: bool) -> io::Result<Control> {
        if is_v6 {
            setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
        }
        // On a socket of both families a datagram of IPv4 has this one, too, which says more.
        match setsockopt(socket, Ipv4PacketInfo, &true) {
            Err(error) if !is_v6 => Err(error.into()),
            _ => Ok(Control(Box::new([0; CONTROL_BYTES]))),
        }
    }

    /// recvfrom(2), and where the datagram arrived.
    pub(super) fn receive(
        &mut self,
        socket: &impl AsRawFd,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddr, Option<Arrival>)> {
        let mut into = [IoSliceMut::new(buffer)];
        let (control, flags) = (Some(&mut self.0[..]), MsgFlags::empty());
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut into, control, flags)?;
        let from = message.address.as_ref().and_then(std_address);
        let from = from.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut arrival = None;
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => arrival = Some(of_v4(&info)),
                // The other, which says more, may have come first.
                ControlMessageOwned::Ipv6PacketInfo(info) if arrival.is_none() => {
                    arrival = Some(of_v6(&info));
                }
                _ => {}
            }
        }
        Ok((message.bytes, from, arrival))
    }
}

/// sendto(2), from this address of ours.
pub(super) fn send_from(
    socket: &impl AsRawFd,
    bytes: &[u8],
    to: &SocketAddr,
    from: IpAddr,
) -> io::Result<usize> {
    let (fd, bytes, peer) = (socket.as_raw_fd(), [IoSlice::new(bytes)], SockaddrStorage::from(*to));
    let send = |control| sendmsg(fd, &bytes, &[control], MsgFlags::empty(), Some(&peer));
    let sent = match (from.to_canonical(), to) {
        (ours, _) if ours.is_ipv4() != to.ip().to_canonical().is_ipv4() => {
            let error = format!("{from} and {to} are of two families"); // The kernel reports none.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        (IpAddr::V4(ours), SocketAddr::V4(_)) => {
            let ours = in_addr { s_addr: u32::from_ne_bytes(ours.octets()) };
            let any = in_addr { s_addr: 0 };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: ours, ipi_addr: any };
            send(ControlMessage::Ipv4PacketInfo(&info))
        }
        (ours, _) => {
            // To a mapped address of IPv4 our own is a mapped one.
            let ours = match ours {
                IpAddr::V4(ours) => ours.to_ipv6_mapped(),
                IpAddr::V6(ours) => ours,
            };
            let ours = in6_addr { s6_addr: ours.octets() };
            let info = in6_pktinfo { ipi6_addr: ours, ipi6_ifindex: 0 };
            send(ControlMessage::Ipv6PacketInfo(&info))
        }
    };
    Ok(sent?)
}

fn of_v4(info: &in_pktinfo) -> Arrival {
    let [to, own] = [info.ipi_addr, info.ipi_spec_dst]
        .map(|address| Ipv4Addr::from(address.s_addr.to_ne_bytes()));
    Arrival {
        to: to.into(),
        own: Some(own.into()).filter(|_| !own.is_unspecified()),
        interface: info.ipi_ifindex.unsigned_abs(),
    }
}

fn of_v6(info: &in6_pktinfo) -> Arrival {
    let to = Ipv6Addr::from(info.ipi6_addr.s6_addr);
    let own = Some(to.to_canonical()).filter(|own| !own.is_multicast());
    Arrival { to: to.to_canonical(), own, interface: info.ipi6_ifindex }
}

fn std_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
