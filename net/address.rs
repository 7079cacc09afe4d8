//! Addresses as people write them: a host and a port in one text.
//!
//! Knows names, addresses and zones; never mentions a socket. Only this file parses such a text.
//!
//! ```text
//!   example.org:80         a name
//!   127.0.0.1:80           an address of IPv4
//!   [::1]:80               one of IPv6, in brackets: it has colons of its own
//!   [fe80::1%eth0]:80      one that exists in every network, and the network: its zone
//! ```
//!
//! A zone, a network interface by its name or its number, has a meaning on this host only (RFC
//! 4007). It is for the kernel: it does not appear in a `Host` field, in the name of a TLS server
//! or in a request to a proxy.
//!
//! # Left out
//! Ports by name (`localhost:http`), ports without a host, and a host that stands for all addresses
//! (`*:80`, `:80`): for all of them write `0.0.0.0:80` or `[::]:80`.
//!
//! # Read next
//! `listen.rs`: how the addresses are used.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::str::FromStr;

/// The beginning of the errors about the text of an address; the reason follows.
const WANTED: &str = "not a host and a port, such as localhost:80";
const BRACKETS: &str = "an address of IPv6 stands in brackets: [::1]:80";

/// A host and a port. As text it is `example.org:80`, `127.0.0.1:80`, `[::1]:80` or
/// `[fe80::1%eth0]:80`.
///
/// ```
/// use waterwheel::net::HostPort;
///
/// let there: HostPort = "[::1]:80".parse()?;
/// assert_eq!((there.host(), there.port()), ("::1", 80));
/// assert_eq!(HostPort::new("::1", 80)?.to_string(), "[::1]:80");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Without brackets, and with its zone.
    host: String,
    port: u16,
}

impl HostPort {
    /// Made of the two parts. An address of IPv6 may be with or without brackets.
    ///
    /// # Errors
    /// `InvalidInput`: it is not a host.
    pub fn new(host: &str, port: u16) -> io::Result<HostPort> {
        let checked = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => bracketed(inner),
            None if v6(host).is_some() => Ok(host),
            None => unbracketed(host),
        };
        let host = checked.map_err(|why| invalid(format!("not a host: {host:?} ({why})")))?;
        Ok(HostPort { host: host.to_owned(), port })
    }

    /// A name or an address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, if the host is one and not a name. It looks up only the number of an interface.
    ///
    /// # Errors
    /// `NotFound`: its zone is no interface of this host. The error does not name the host.
    pub fn address(&self) -> io::Result<Option<SocketAddr>> {
        if let Ok(ip) = self.host.parse::<Ipv4Addr>() {
            return Ok(Some((ip, self.port).into()));
        }
        let Some((ip, zone)) = v6(&self.host) else { return Ok(None) };
        let scope = zone.map_or(Ok(0), |zone| {
            scope(zone).ok_or_else(|| {
                let error = format!("this host has no interface {zone:?}");
                io::Error::new(ErrorKind::NotFound, error)
            })
        })?;
        Ok(Some(SocketAddrV6::new(ip, self.port, 0, scope).into()))
    }

    fn parse(text: &str) -> Result<HostPort, &'static str> {
        let (host, port) = split(text)?;
        let port = port.ok_or("it has no port")?;
        let port = parse_port(port).ok_or("a port is a number, 65535 at most")?;
        Ok(HostPort { host: host.to_owned(), port })
    }
}

impl FromStr for HostPort {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<HostPort> {
        HostPort::parse(text).map_err(|why| invalid(format!("{WANTED}: {text:?} ({why})")))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match v6(&self.host) {
            Some(_) => write!(f, "[{}]:{}", self.host, self.port),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Splits a text into a host, without brackets, and a port, if there is one.
///
/// # Errors
/// The reason: the text is neither a host nor a host and a port.
pub fn split(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or("behind the brackets comes a colon")?),
        };
        return Ok((bracketed(inner)?, port));
    }
    match text.rsplit_once(':') {
        None => Ok((unbracketed(text)?, None)),
        Some((host, _)) if v6(host).or(v6(text)).is_some() => Err(BRACKETS),
        Some((host, port)) => Ok((unbracketed(host)?, Some(port))),
    }
}

/// Only digits, so that a sign is not taken as a part of it.
pub fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A host without its zone, if it is an address of IPv6; brackets stay as they are.
pub fn without_zone(host: &str) -> &str {
    match v6(host) {
        Some((_, Some(zone))) => &host[..host.len() - zone.len() - 1],
        _ => host,
    }
}

fn bracketed(host: &str) -> Result<&str, &'static str> {
    v6(host).map(|_| host).ok_or("brackets are for addresses of IPv6")
}

fn unbracketed(host: &str) -> Result<&str, &'static str> {
    match host {
        "" => Err("it has no host; all addresses are 0.0.0.0 or [::]"),
        "*" => Err("all addresses are 0.0.0.0 or [::]"),
        _ if v6(host).is_some() => Err(BRACKETS),
        _ if host.contains([':', '[', ']']) => Err("a host has no colons and no brackets"),
        _ if host.contains(|char: char| char.is_control() || char.is_whitespace()) => {
            Err("a host has no spaces and no control characters")
        }
        _ => Ok(host),
    }
}

/// An address of IPv6 and its zone, if it has one.
fn v6(host: &str) -> Option<(Ipv6Addr, Option<&str>)> {
    let (ip, zone) = match host.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone).filter(|zone| !zone.is_empty() && !zone.contains(']'))),
        None => return Some((host.parse().ok()?, None)),
    };
    Some((ip.parse().ok()?, Some(zone?)))
}

/// The number of an interface, given as such or by its name. getaddrinfo(3) knows it without asking
/// a server: a local address in that zone is an address and not a name.
fn scope(zone: &str) -> Option<u32> {
    if zone.bytes().all(|byte| byte.is_ascii_digit()) {
        return zone.parse().ok();
    }
    let mut found = (&*format!("fe80::%{zone}"), 0).to_socket_addrs().ok()?;
    found.find_map(|found| match found {
        SocketAddr::V6(found) => Some(found.scope_id()),
        SocketAddr::V4(_) => None,
    })
}

/// An error that names the address.
pub(super) fn named(addr: impl fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{addr}: {error}"))
}

fn invalid(error: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, error)
}

/// Addresses to listen on or bind to: `"localhost:80"` and other texts of this form, a host and a
/// port apart, an address, or several.
pub trait ToAddresses {
    /// The addresses, in order of preference. A host name is looked up, which blocks.
    ///
    /// # Errors
    /// It is no host and port; the name has no address; the zone is no interface. All name it.
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>>;
}

impl ToAddresses for HostPort {
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let look_up = || {
            let found: Vec<_> = match self.address()? {
                Some(address) => vec![address],
                None => (&*self.host, self.port).to_socket_addrs()?.collect(),
            };
            match found.is_empty() {
                true => Err(io::Error::new(ErrorKind::NotFound, "it has no address")),
                false => Ok(found),
            }
        };
        look_up().map_err(|error| named(self, &error))
    }
}

impl ToAddresses for str {
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let parsed = HostPort::parse(self);
        parsed.map_err(|why| invalid(format!("{self}: {WANTED} ({why})")))?.to_addresses()
    }
}

impl ToAddresses for String {
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.as_str().to_addresses()
    }
}

impl ToAddresses for (&str, u16) {
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        HostPort::new(self.0, self.1)?.to_addresses()
    }
}

impl ToAddresses for (String, u16) {
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        (self.0.as_str(), self.1).to_addresses()
    }
}

impl ToAddresses for [SocketAddr] {
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(self.to_vec())
    }
}

impl<A: ToAddresses + ?Sized> ToAddresses for &A {
    fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        (**self).to_addresses()
    }
}

/// For types that are an address already.
macro_rules! is_an_address {
    ($($kind:ty),*) => {$(
        impl ToAddresses for $kind {
            fn to_addresses(&self) -> io::Result<Vec<SocketAddr>> {
                Ok(vec![(*self).into()])
            }
        }
    )*};
}

is_an_address!(SocketAddr, SocketAddrV4, SocketAddrV6);
is_an_address!((IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

#[cfg(test)]
mod tests;
