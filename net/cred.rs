//! The process at the other end of a Unix stream.

use std::io;

use mio::net::UnixStream;

/// The process at the other end, as it was when it connected or began to listen. The kernel gives
/// these numbers, so a peer cannot fake them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// Its number; `None` if it is in another namespace, or if the system (not Linux) reports none.
    /// The process may have ended since, and its number may be another's.
    pub pid: Option<u32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::net) fn of(stream: &UnixStream) -> io::Result<Credentials> {
    let peer = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials)?;
    let pid = u32::try_from(peer.pid()).ok().filter(|pid| *pid != 0);
    Ok(Credentials { pid, uid: peer.uid(), gid: peer.gid() })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(in crate::net) fn of(stream: &UnixStream) -> io::Result<Credentials> {
    let (uid, gid) = nix::unistd::getpeereid(stream)?;
    Ok(Credentials { pid: None, uid: uid.as_raw(), gid: gid.as_raw() })
}
