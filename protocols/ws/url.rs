//! URLs of WebSockets: `ws://host:port/path?query` (RFC 6455, 3).
//!
//! Knows the `http` crate's URIs.
//!
//! # Read next
//! `ws_connect.rs`: how a client connects there.

use std::io::{self, ErrorKind};

use crate::net::authors::{parse_port, split};
use crate::protocols::http::Uri;
use crate::protocols::http::parts::{take_zone, typed};

/// A URL, taken apart: the server, and the target of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// It is `wss`.
    pub(super) secure: bool,
    /// A name or an address; one of IPv6 is in brackets.
    pub(super) host: String,
    /// The interface by which an address of IPv6 is reached, if the URL names one.
    pub(super) zone: Option<String>,
    pub(super) port: u16,
    /// For the `Host` field: without the port if it is the scheme's own.
    pub(super) authority: String,
    pub(super) target: String,
}

impl Url {
    /// # Errors
    /// `InvalidInput`, with the reason.
    pub(super) fn parse(url: &str) -> io::Result<Url> {
        let bad = |why: &str| io::Error::new(ErrorKind::InvalidInput, format!("{why}: {url:?}"));
        if !url.contains("://") {
            return Err(bad("not a ws:// or wss:// URL")); // The parser's own text is less clear.
        }
        let (bare, zone) = take_zone(url);
        let sent = typed(&bare).map_err(bad)?;
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
        let (_, port) = split(authority.as_str()).map_err(bad)?;
        let port = match port {
            None | Some("") => usual,
            Some(port) => parse_port(port).ok_or_else(|| bad("a bad port"))?,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let target = if target.starts_with('/') { target } else { format!("/{target}") };
        let name = if port == usual { host.to_owned() } else { format!("{host}:{port}") };
        Ok(Url { secure, host: host.to_owned(), zone, port, authority: name, target })
    }

    /// Host and port in the form that connecting by name takes.
    pub(super) fn address(&self) -> String {
        match &self.zone {
            Some(zone) => format!("{}%{zone}]:{}", self.host.trim_end_matches(']'), self.port),
            None => format!("{}:{}", self.host, self.port),
        }
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
            let (zone, authority) = (None, authority.to_owned());
            let parts = Url { secure, host, zone, port, authority, target };
            assert_eq!(Url::parse(url).unwrap(), parts, "{url}");
        }
        let zoned = Url::parse("ws://[fe80::1%25eth0]:7001/chat").unwrap();
        assert_eq!(zoned.address(), "[fe80::1%eth0]:7001");
        assert_eq!((&*zoned.host, &*zoned.authority), ("[fe80::1]", "[fe80::1]:7001"));
        assert_eq!(Url::parse("ws://[::1]").unwrap().address(), "[::1]:80");
    }

    #[test]
    fn bad_ones_are_refused() {
        for url in [
            "",
            "ws://",
            "http://host/",
            "host:80",
            "/chat",
            "ws://u:p@host",
            "ws://h:x/",
            "ws://h:+80/",
            "ws://[::1]x/",
        ] {
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
