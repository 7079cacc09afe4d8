//! SOCKS5 as a server reads and writes it (RFC 1928): bytes in, bytes out, no socket.
//!
//! ```text
//!   client                               server
//!   5 count method…                ───▶
//!                                  ◀───  5 method
//!   5 command 0 kind address port  ───▶
//!                                  ◀───  5 code 0 kind address port
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use waterwheel::net::HostPort;

/// "No authentication required" is the one method.
pub const WELCOME: [u8; 2] = [5, 0];

/// The answer to a request, served or not: the codes of section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Succeeded = 0,
    Failed = 1,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    Refused = 5,
    CommandUnknown = 7,
    AddressUnknown = 8,
}

/// The bytes that the client gets before it is closed; none, if it does not speak SOCKS5.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub Vec<u8>);

/// The message in front of the input and the bytes that it takes; `None` if more are to come.
pub type Parsed<T> = Result<Option<(T, usize)>, Refused>;

/// Section 3: the methods that the client offers; we know one of them.
pub fn greeting(input: &[u8]) -> Parsed<()> {
    version(input)?;
    let [_, count, methods @ ..] = input else { return Ok(None) };
    match methods.get(..usize::from(*count)) {
        None => Ok(None),
        Some(methods) if methods.contains(&0) => Ok(Some(((), 2 + methods.len()))),
        Some(_) => Err(Refused(vec![5, 0xff])),
    }
}

/// Section 4: the address to connect to, as `host:port`.
pub fn request(input: &[u8]) -> Parsed<String> {
    version(input)?;
    let [_, command, _, kind, address @ ..] = input else { return Ok(None) };
    if *command != 1 {
        return Err(refused(Code::CommandUnknown));
    }
    let length = match (kind, address) {
        (1, _) => 4,
        (4, _) => 16,
        (3, [length, ..]) => 1 + usize::from(*length),
        (3, []) => return Ok(None),
        _ => return Err(refused(Code::AddressUnknown)),
    };
    let Some((address, rest)) = address.split_at_checked(length) else { return Ok(None) };
    let Some(port) = rest.first_chunk() else { return Ok(None) };
    let port = u16::from_be_bytes(*port);
    let name = match address.first_chunk::<4>().filter(|_| *kind == 1) {
        Some(v4) => SocketAddr::from((Ipv4Addr::from(*v4), port)).to_string(),
        None => match address.first_chunk::<16>().filter(|_| *kind == 4) {
            Some(v6) => SocketAddr::from((Ipv6Addr::from(*v6), port)).to_string(),
            None => named(&address[1..], port)?.to_string(),
        },
    };
    Ok(Some((name, 4 + length + 2)))
}

/// Section 6: the answer. Only commands that we do not serve would need the address
/// where we are bound.
pub fn reply(code: Code) -> [u8; 10] {
    [5, code as u8, 0, 1, 0, 0, 0, 0, 0, 0]
}

pub fn refused(code: Code) -> Refused {
    Refused(reply(code).to_vec())
}

fn version(input: &[u8]) -> Result<(), Refused> {
    if input.first().is_some_and(|version| *version != 5) {
        return Err(Refused(Vec::new()));
    }
    Ok(())
}

/// A domain name, or an address as text, which many clients send as one; no port of its own.
fn named(name: &[u8], port: u16) -> Result<HostPort, Refused> {
    let name = std::str::from_utf8(name).ok().and_then(|name| HostPort::new(name, port).ok());
    name.ok_or_else(|| refused(Code::HostUnreachable))
}
