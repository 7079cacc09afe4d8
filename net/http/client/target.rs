//! Where a URL leads: host and port, what is asked for there, and with which credentials.
//!
//! Knows the `http` crate's `Uri`, which drops fragments; never mentions a connection.
//!
//! # Read next
//! `ask.rs`: the request that goes there.

use std::borrow::Cow;

use http::Uri;
use http::uri::InvalidUri;

use crate::net::address::{parse_port, split};
use crate::net::http::percent::decoded;
use crate::net::http::zone::take_zone;

const NO_SCHEME: &str = "it has no scheme, such as http://";
const NO_HOST: &str = "it has no host";

/// What a URL says, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Whether TLS is asked for.
    pub(super) secure: bool,
    /// A name or an address, an IPv6 one in brackets.
    pub(super) host: String,
    /// The interface by which an address of IPv6 is reached, if the URL names one. It stays here: what
    /// is sent does not have it (RFC 6874, 4).
    pub(super) zone: Option<String>,
    pub(super) port: u16,
    /// The request target, from the first slash.
    pub(super) path: String,
    /// `Basic …`, if the URL has a user.
    pub(super) authorization: Option<String>,
}

impl Target {
    /// Takes apart what was given as an absolute URL.
    pub(super) fn parse(url: &str) -> Result<Target, String> {
        let (bare, zone) = take_zone(url);
        let target = Target::of(&bare.parse().map_err(|error| not_a_url(url, error))?)?;
        Ok(Target { zone, ..target })
    }

    /// Takes an absolute URL apart.
    pub(super) fn of(uri: &Uri) -> Result<Target, String> {
        let secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            Some(other) => return Err(format!("the scheme is {other:?}, not http or https")),
            None => return Err(NO_SCHEME.to_owned()),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let host = uri.host().unwrap_or("");
        if host.is_empty() {
            return Err(NO_HOST.to_owned());
        }
        let (_, port) = split(place).map_err(|why| format!("a bad host: {place:?} ({why})"))?;
        let port = match port {
            None | Some("") => default_port(secure),
            Some(port) => parse_port(port).ok_or_else(|| format!("a bad port: {port:?}"))?,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Target {
            secure,
            host: host.to_ascii_lowercase(),
            zone: None,
            port,
            path: request_target(path),
            authorization: user.map(basic),
        })
    }

    /// As connecting by name takes it.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host_in("%"), self.port)
    }

    /// Host and port as others are to know them.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host with its zone, if it has one, behind this.
    fn host_in(&self, percent: &str) -> Cow<'_, str> {
        match &self.zone {
            Some(zone) => format!("{}{percent}{zone}]", self.host.trim_end_matches(']')).into(),
            None => (&*self.host).into(),
        }
    }

    /// The `Host` field: without the port, if that is what the scheme stands for.
    pub(super) fn host_field(&self) -> String {
        self.place(&self.host)
    }

    /// A host, and the port if the scheme does not stand for it.
    fn place(&self, host: &str) -> String {
        match self.port == default_port(self.secure) {
            true => host.to_owned(),
            false => format!("{host}:{}", self.port),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Scheme, host and port: what a page, a cookie and a pooled connection belong to.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.host_field())
    }

    /// The URL without its credentials, for errors and logs.
    pub(super) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.place(&self.host_in("%25")), self.path)
    }
}

/// Why a URL is none, where the parser has no words for the two mistakes that all make.
pub(super) fn not_a_url(url: &str, error: InvalidUri) -> String {
    match url.split_once("://") {
        None => NO_SCHEME.to_owned(),
        Some((_, "")) => NO_HOST.to_owned(),
        Some(_) => error.to_string(),
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Begins with a slash and is ASCII: other bytes are sent as RFC 3986 (section 2.5) has them.
fn request_target(path: &str) -> String {
    let mut target = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        target.push('/');
    }
    for byte in path.bytes() {
        match byte {
            0x21..=0x7e => target.push(char::from(byte)),
            _ => target.push_str(&format!("%{byte:02X}")),
        }
    }
    target
}

/// The value of `Authorization` (RFC 7617) for `user:password` as a URL has it.
fn basic(user: &str) -> String {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let pair: Vec<u8> = decoded(user).chain(*b":").chain(decoded(password)).collect();
    format!("Basic {}", base64(&pair))
}

/// RFC 4648, section 4: the one place where we need it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= group.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn a_url_is_taken_apart() {
        let all = target("HTTPS://User:p%40ss@Example.org:8443/a/b?c=d#fragment");
        assert!(all.secure);
        assert_eq!((&all.host[..], all.port, &all.path[..]), ("example.org", 8443, "/a/b?c=d"));
        assert_eq!(all.authorization.as_deref(), Some("Basic VXNlcjpwQHNz"));
        assert_eq!(all.url(), "https://example.org:8443/a/b?c=d", "no secret in it");
        let least = target("http://a");
        assert_eq!((least.port, &least.path[..], &least.host_field()[..]), (80, "/", "a"));
        assert_eq!(target("https://a:443/").host_field(), "a");
        assert_eq!(target("http://a:443/").host_field(), "a:443");
        assert_eq!(target("http://[::1]:8080/").address(), "[::1]:8080");
        assert_eq!(target("http://a?b=/c").path, "/?b=/c");
    }

    #[test]
    fn zone_is_for_connecting_and_for_nobody_else() {
        for url in ["http://[fe80::1%25eth0]:8080/a", "http://[fe80::1%eth0]:8080/a"] {
            let zoned = target(url);
            assert_eq!(zoned.address(), "[fe80::1%eth0]:8080");
            assert_eq!(zoned.host_field(), "[fe80::1]:8080");
            assert_eq!(zoned.authority(), "[fe80::1]:8080");
            assert_eq!(zoned.origin(), "http://[fe80::1]:8080");
            assert_eq!(zoned.url(), "http://[fe80::1%25eth0]:8080/a", "to be asked for again");
        }
        assert_eq!(target("https://u@[::1%2525]/").url(), "https://[::1%2525]/");
        assert!(Target::parse("http://[fe80::1%25]x/").is_err());
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for (url, why) in [
            ("", NO_SCHEME),
            ("/path", NO_SCHEME),
            ("a", NO_SCHEME),
            ("a:80", NO_SCHEME),
            ("a:80/path", NO_SCHEME),
            ("http://", NO_HOST),
            ("http://:80/", NO_HOST),
            ("ftp://a/", "the scheme is \"ftp\", not http or https"),
            ("http://a:99999/", "a bad port: \"99999\""),
            ("http://a:+80/", "a bad port: \"+80\""),
            ("http://[::1]8/", "a bad host: \"[::1]8\" (behind the brackets comes a colon)"),
            ("http://[::g]/", "a bad host: \"[::g]\" (brackets are for addresses of IPv6)"),
            ("http:///path", "invalid format"),
        ] {
            assert_eq!(Target::parse(url).unwrap_err(), why, "{url}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")];
        for (bytes, text) in pairs.into_iter().chain([("foobar", "Zm9vYmFy")]) {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }
}
