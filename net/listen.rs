//! What listeners of all kinds let one choose.
//!
//! Knows limits and budgets; where to listen, and the options of a socket, are its kind's part.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::address::ToAddresses;
use super::limits::Limits;

/// Sets up a listener: [`tcp::Listen`](super::tcp::Listen) has an example. What can be chosen for
/// one kind of socket only is in the methods of that kind.
#[derive(Clone, Debug)]
pub struct Listen<K> {
    pub(super) limits: Limits,
    pub(super) connections_max: usize,
    pub(super) accepts_per_turn: usize,
    pub(super) backlog: i32,
    pub(super) kind: K,
}

impl<K: Default> Default for Listen<K> {
    fn default() -> Listen<K> {
        Listen {
            limits: Limits::default(),
            connections_max: usize::MAX,
            accepts_per_turn: 64,
            backlog: 4096,
            kind: K::default(),
        }
    }
}

impl<K: Default> Listen<K> {
    /// The defaults.
    pub fn new() -> Listen<K> {
        Listen::default()
    }
}

impl<K> Listen<K> {
    /// The limits of its connections.
    pub fn limits(mut self, limits: Limits) -> Listen<K> {
        self.limits = limits;
        self
    }

    /// Connections open at a time; one more is accepted and closed at once, counted, and logged
    /// once a second at most (by the `log` crate). No limit by default.
    pub fn connections_max(mut self, connections: usize) -> Listen<K> {
        self.connections_max = connections;
        self
    }

    /// Connections accepted in one turn; more wait for the next, so that others get theirs. 64.
    pub fn accepts_per_turn(mut self, accepts: usize) -> Listen<K> {
        self.accepts_per_turn = accepts.max(1);
        self
    }

    /// Connections that wait in the kernel to be accepted, the *backlog* of listen(2); the kernel
    /// allows `somaxconn` at most. 4096.
    pub fn backlog(mut self, connections: u32) -> Listen<K> {
        self.backlog = i32::try_from(connections).unwrap_or(i32::MAX);
        self
    }
}

/// An error that says where.
pub(super) fn named(addr: impl fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{addr}: {error}"))
}

/// Binds the first of the addresses that will have it, as std does. The error names each of them,
/// and is of the last one's kind.
pub(super) fn bind_first<T>(
    addr: impl ToAddresses,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut refused = (io::ErrorKind::InvalidInput, Vec::new());
    for addr in addr.to_addresses()? {
        match bind(addr) {
            Ok(bound) => return Ok(bound),
            Err(error) => {
                refused.0 = error.kind();
                refused.1.push(named(addr, &error).to_string());
            }
        }
    }
    Err(match refused {
        (kind, reasons) if reasons.is_empty() => io::Error::new(kind, "no address to listen on"),
        (kind, reasons) => io::Error::new(kind, reasons.join("; ")),
    })
}
