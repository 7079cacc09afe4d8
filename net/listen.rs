//! The options that listeners of all kinds have.
//!
//! Knows limits and budgets. Each kind of listener adds its address and its socket's options.
//!
//! A socket may also come from another program, which has bound it and may still have it open.
//! systemd and inetd do so, to start a service when its first client comes, and to let clients wait
//! while it is replaced. It is checked first, since a descriptor is only a number.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::{SockRef, Type};

use super::address::{ToAddresses, named};
use super::limits::Limits;

/// Sets up a listener: [`tcp::Listen`](super::tcp::Listen) has an example. An option's description
/// ends with its default. The options of one kind of socket only are methods of that kind.
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
    /// once a second at most (by the `log` crate). No limit.
    pub fn connections_max(mut self, connections: usize) -> Listen<K> {
        self.connections_max = connections;
        self
    }

    /// Connections accepted in one turn; more wait for the next, so that others are called. 64.
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

/// Binds the first of the addresses that can be bound, as std does. The error names each of them,
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

/// The address family that an inherited socket must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ip,
    #[cfg(unix)]
    Unix,
}

/// Prepares a socket that another program has bound for the loop, if it is of the wanted kind. A
/// stream socket must listen already.
pub(super) fn adopt(socket: &SockRef<'_>, family: Family, kind: Type) -> io::Result<()> {
    let adopted = (|| {
        if socket.r#type()? != kind {
            return Err(unfit(format_args!("it is not of the type {kind:?}")));
        }
        let addr = socket.local_addr()?;
        let is_of_family = match family {
            Family::Ip => addr.as_socket().is_some(),
            #[cfg(unix)]
            Family::Unix => addr.is_unix(),
        };
        if !is_of_family {
            return Err(unfit(format_args!("its family is {:?}", addr.domain())));
        }
        #[cfg(any(target_os = "android", target_os = "freebsd", target_os = "linux"))]
        if kind == Type::STREAM && !socket.is_listener()? {
            return Err(unfit(format_args!("it does not listen")));
        }
        #[cfg(unix)]
        socket.set_cloexec(true)?; // An inherited one cannot have it set.
        socket.set_nonblocking(true)
    })();
    adopted.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot take over a socket: {error}"))
    })
}

fn unfit(why: fmt::Arguments<'_>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.to_string())
}

/// The error for an option that only has an effect at bind(2).
pub(super) fn too_late(option: &str) -> io::Error {
    let why =
        format_args!("cannot take over a socket: {option} has no effect, it is bound already");
    unfit(why)
}
