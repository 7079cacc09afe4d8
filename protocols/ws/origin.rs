//! Origins: checks that a page is of the host that its request goes to (RFC 6454; RFC 3986, 6.2).
//!
//! Knows URLs as far as the port. One host may be written in several ways, and so may a port:
//! their meanings are compared.
//!
//! # Read next
//! `ws_accept.rs`: which pages are let in.

use std::net::Ipv6Addr;

use crate::net::authors::parse_port;

/// Returns true if an origin, such as `https://example.org`, has the host and port of a request.
///
/// The scheme that the client has used is not known here: a proxy may have spoken TLS in place of
/// this server. So if the page is on the default port of its scheme, the request must name no port
/// or a default one. If the page is on another port, the request must name that port.
pub(super) fn leads_to(origin: &str, authority: &str) -> bool {
    let Some((scheme, from)) = origin.split_once("://") else { return false };
    let usual = match () {
        () if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("ws") => Some(80),
        () if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") => {
            Some(443)
        }
        () => None, // For example, of an extension: the port, if there is one, must be the same.
    };
    let (Some((own, own_port)), Some((other, port))) = (parts(from), parts(authority)) else {
        return false;
    };
    let own_port = own_port.or(usual);
    let is_usual = own_port == usual && matches!(port, None | Some(80 | 443));
    is_same_host(own, other) && (port == own_port || is_usual)
}

/// A host and a port; `None` if the port is not valid.
fn parts(authority: &str) -> Option<(&str, Option<u16>)> {
    let end = authority.rfind(']').unwrap_or(0);
    match authority[end..].rsplit_once(':') {
        None => Some((authority, None)),
        Some((before, "")) => Some((&authority[..end + before.len()], None)),
        Some((before, port)) => Some((&authority[..end + before.len()], Some(parse_port(port)?))),
    }
}

/// Returns true if both are one host. Upper and lower case are equal, a dot at the end of a name
/// does not count, and an IPv6 address may be written in any form.
fn is_same_host(one: &str, other: &str) -> bool {
    let address = |host: &str| -> Option<Ipv6Addr> {
        host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
    };
    match (address(one), address(other)) {
        (Some(one), Some(other)) => one == other,
        _ => {
            let name = |host| -> &str { str::strip_suffix(host, '.').unwrap_or(host) };
            !name(one).is_empty() && name(one).eq_ignore_ascii_case(name(other))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_is_known_however_it_is_written() {
        for (origin, authority) in [
            ("http://a.example", "a.example"),
            ("http://a.example", "a.example:80"),
            ("http://a.example:80", "a.example"),
            ("http://a.example", "A.Example:"),
            ("https://a.example", "a.example"),
            ("https://a.example", "a.example:443"),
            // A proxy in front speaks TLS, or names the port on which it does not.
            ("https://a.example", "a.example:80"),
            ("http://a.example", "a.example:443"),
            ("http://a.example:443", "a.example:443"),
            ("http://a.example:8080", "a.example:8080"),
            ("http://a.example:8080", "a.example:08080"),
            ("http://a.example.", "a.example"),
            ("http://a.example", "a.example.:80"),
            ("http://[::1]", "[::1]:80"),
            ("http://[::1]:7", "[0:0:0:0:0:0:0:1]:7"),
            ("http://[2001:db8::a]", "[2001:DB8:0::A]"),
            ("http://[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
            ("http://127.0.0.1:7", "127.0.0.1:7"),
            ("moz-extension://a", "a"),
        ] {
            assert!(leads_to(origin, authority), "{origin} of {authority}");
        }
    }

    #[test]
    fn pages_of_other_hosts_and_ports_are_others() {
        for (origin, authority) in [
            ("http://b.example", "a.example"),
            ("http://a.example:8080", "a.example"),
            ("http://a.example:8080", "a.example:80"),
            ("http://a.example", "a.example:8080"),
            ("http://a.example:443", "a.example"),
            ("http://a.example:443", "a.example:80"),
            ("https://a.example:80", "a.example"),
            ("http://a.example:99999", "a.example:99999"),
            ("http://a.example:x", "a.example:x"),
            ("http://a.example:+80", "a.example"),
            ("http://a.example:+8080", "a.example:8080"),
            ("http://a.example.evil", "a.example"),
            ("http://a.example@b", "a.example"),
            ("http://a.example..", "a.example"),
            ("http://[::1]", "[::2]"),
            ("http://[::1]", "::1"),
            ("http://::1", "[::1]"),
            ("http://", ""),
            ("http://.", "."),
            ("http://:80", ":80"),
            ("null", "null"),
            ("", ""),
            ("a.example", "a.example"),
            ("moz-extension://a", "a:7"),
        ] {
            assert!(!leads_to(origin, authority), "{origin} of {authority}");
        }
    }
}
