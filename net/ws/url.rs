//! URLs of WebSockets: `ws://host:port/path?query` (RFC 6455, 3).
//!
//! Knows the `http` crate's URIs.
//!
//! # Read next
//! `connect.rs`: who asks there.

use std::io::{self, ErrorKind};

use crate::net::http::Uri;
use crate::net::http::parts::typed;

/// Where to connect to and what to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// It is `wss`.
    pub(super) secure: bool,
    /// A name or an address; one of IPv6 is in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// For the `Host` field: without the port if it is the scheme's own.
    pub(super) authority: String,
    pub(super) target: String,
}

impl Url {
    /// # Errors
    /// `InvalidInput`, with what is wrong.
    pub(super) fn parse(url: &str) -> io::Result<Url> {
        let bad = |why: &str| io::Error::new(ErrorKind::InvalidInput, format!("{why}: {url:?}"));
        if !url.contains("://") {
            return Err(bad("not a ws:// or wss:// URL")); // The parser has other words, or fewer.
        }
        let sent = typed(url).map_err(bad)?;
        let uri: Uri = sent.parse().map_err(|error| bad(&format!("{error}")))?;
        let secure = match uri.scheme_str() {
            Some(scheme) if scheme.eq_ignore_ascii_case("ws") => false,
            Some(scheme) if scheme.eq_ignore_ascii_case("wss") => true,
            _ => return Err(bad("not a ws:// or wss:// URL")),
        };
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return Err(bad("a URL without a host"));
        };
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(bad("a URL without a host, or with a user"));
        }
        let usual = if secure { 443 } else { 80 };
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            None | Some("") => usual,
            Some(port) => port.parse().map_err(|_| bad("a bad port"))?,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let target = if target.starts_with('/') { target } else { format!("/{target}") };
        let name = if port == usual { host.to_owned() } else { format!("{host}:{port}") };
        Ok(Url { secure, host: host.to_owned(), port, authority: name, target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        for (url, secure, host, port, authority, target) in [
            ("ws://example.org", false, "example.org", 80, "example.org", "/"),
            ("wss://example.org:443/a?b=c", true, "example.org", 443, "example.org", "/a?b=c"),
            ("WS://127.0.0.1:7001/chat", false, "127.0.0.1", 7001, "127.0.0.1:7001", "/chat"),
            ("ws://[::1]:80?q", false, "[::1]", 80, "[::1]", "/?q"),
            ("ws://host:/x#part", false, "host", 80, "host", "/x"),
            ("ws://host/a b", false, "host", 80, "host", "/a%20b"),
            ("wss://host/\u{fc}?\u{20ac}", true, "host", 443, "host", "/%C3%BC?%E2%82%AC"),
        ] {
            let (host, target) = (host.to_owned(), target.to_owned());
            let parts = Url { secure, host, port, authority: authority.to_owned(), target };
            assert_eq!(Url::parse(url).unwrap(), parts, "{url}");
        }
    }

    #[test]
    fn bad_ones_are_refused() {
        for url in ["", "ws://", "http://host/", "host:80", "/chat", "ws://u:p@host", "ws://h:x/"] {
            let error = Url::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
        }
        for url in
            ["ws://host:65536/", "ws://ho st/", "ws://h\u{fc}/", "ws://host/a b\n", "ws:///path"]
        {
            assert!(Url::parse(url).is_err(), "{url}");
        }
    }
}
