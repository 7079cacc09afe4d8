//! The URL of a request: host and port, path and query, and credentials.
//!
//! Knows the `http` crate's `Uri`, which drops fragments; never mentions a connection.
//!
//! # Read next
//! `client_request.rs`: the request that goes there.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::Ipv6Addr;
use std::sync::Arc;

use http::Uri;
use http::uri::InvalidUri;

use crate::net::authors::{parse_port, split};
use crate::protocols::http::percent::{decoded, typed};
use crate::protocols::http::zone::take_zone;

const NO_SCHEME: &str = "it has no scheme, such as http://";
pub(super) const NO_HOST: &str = "it has no host";

/// A URL, taken apart. A clone allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientUrl {
    /// True if the scheme asks for TLS.
    pub(super) secure: bool,
    /// `http://host:port/path?query`: without the port if it is the scheme's default, and
    /// without credentials. The other parts are slices of it.
    url: Arc<str>,
    /// Where in it the host begins.
    host: usize,
    /// Where the host ends.
    host_end: usize,
    /// Where the path begins.
    path: usize,
    /// The interface by which an address of IPv6 is reached, if the URL names one. It is never sent
    /// (RFC 6874, 4).
    pub(super) zone: Option<Arc<str>>,
    /// The URL with its zone, if there is one.
    zoned: Option<Arc<str>>,
    pub(super) port: u16,
    /// `Basic …`, if the URL has a user.
    pub(super) authorization: Option<Arc<str>>,
}

impl ClientUrl {
    /// Takes apart an absolute URL, which a person may have typed: behind the host, characters that
    /// are not allowed in a URL are percent-encoded.
    pub(super) fn parse(url: &str) -> Result<ClientUrl, String> {
        let (bare, zone) = take_zone(url);
        let sent = typed(&bare)?;
        let target = ClientUrl::of(&sent.parse().map_err(|error| not_a_url(url, error))?)?;
        Ok(target.with_zone(zone.map(Arc::from)))
    }

    /// Takes an absolute URL apart, of which all is ASCII.
    fn of(uri: &Uri) -> Result<ClientUrl, String> {
        let secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            Some(other) => return Err(format!("the scheme is {other:?}, not http or https")),
            None => return Err(NO_SCHEME.to_owned()),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        // An empty user counts as none.
        let user = Some(user).filter(|user| !matches!(*user, "" | ":"));
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
        let scheme = if secure { "https://" } else { "http://" };
        let mut url = String::with_capacity(scheme.len() + place.len() + path.len() + 1);
        url.push_str(scheme);
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let ip: Option<Ipv6Addr> = inner.and_then(|inner| inner.parse().ok());
        match ip {
            // One address is one origin, however it was written.
            Some(ip) => write!(url, "[{ip}]").unwrap_or_default(),
            None => url.push_str(host),
        }
        url[scheme.len()..].make_ascii_lowercase();
        let host_end = url.len();
        if port != default_port(secure) {
            let _ = write!(url, ":{port}"); // A string takes all.
        }
        let at = url.len();
        if !path.starts_with('/') {
            url.push('/');
        }
        url.push_str(path);
        Ok(ClientUrl {
            secure,
            url: url.into(),
            host: scheme.len(),
            host_end,
            path: at,
            zone: None,
            zoned: None,
            port,
            authorization: user.map(|user| basic(user).into()),
        })
    }

    /// The same place, by this interface.
    pub(super) fn with_zone(mut self, zone: Option<Arc<str>>) -> ClientUrl {
        self.zone = zone;
        self.zoned = self.zone.is_some().then(|| {
            let host = self.host_in("%").replace('%', "%25");
            [&self.url[..self.host], &*host, &self.url[self.host_end..]].concat().into()
        });
        self
    }

    /// A name or an address, an IPv6 one in brackets.
    pub(super) fn host(&self) -> &str {
        &self.url[self.host..self.host_end]
    }

    /// Host and port in the form that connecting by name takes.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host_in("%"), self.port)
    }

    /// Host and port as they are sent to others.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host(), self.port)
    }

    /// The host; if it has a zone, with `percent` and the zone behind it.
    fn host_in(&self, percent: &str) -> Cow<'_, str> {
        match &self.zone {
            Some(zone) => format!("{}{percent}{zone}]", self.host().trim_end_matches(']')).into(),
            None => self.host().into(),
        }
    }

    /// The `Host` field: without the port if it is the scheme's default.
    pub(super) fn host_field(&self) -> &str {
        &self.url[self.host..self.path]
    }

    /// The origin: scheme, host and port.
    pub(super) fn origin(&self) -> &str {
        &self.url[..self.path]
    }

    /// The request target, from the first slash; it is ASCII.
    pub(super) fn path(&self) -> &str {
        &self.url[self.path..]
    }

    /// The URL without its credentials, for errors and logs.
    pub(super) fn url(&self) -> &Arc<str> {
        self.zoned.as_ref().unwrap_or(&self.url)
    }
}

/// The reason why a text is no URL. The parser's own text does not name the two usual mistakes.
fn not_a_url(url: &str, error: InvalidUri) -> String {
    match url.split_once("://") {
        None => NO_SCHEME.to_owned(),
        Some((_, "")) => NO_HOST.to_owned(),
        Some(_) => error.to_string(),
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
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
    use crate::protocols::http::percent::NOT_ASCII;

    fn target(url: &str) -> ClientUrl {
        ClientUrl::parse(url).unwrap()
    }

    #[test]
    fn a_url_is_taken_apart() {
        let all = target("HTTPS://User:p%40ss@Example.org:8443/a/b?c=d#fragment");
        assert!(all.secure);
        assert_eq!((all.host(), all.port, all.path()), ("example.org", 8443, "/a/b?c=d"));
        assert_eq!(all.authorization.as_deref(), Some("Basic VXNlcjpwQHNz"));
        assert_eq!(&**all.url(), "https://example.org:8443/a/b?c=d", "no secret in it");
        assert_eq!(all.origin(), "https://example.org:8443");
        let least = target("http://a");
        assert_eq!((least.port, least.path(), least.host_field()), (80, "/", "a"));
        assert_eq!(target("https://a:443/").host_field(), "a");
        assert_eq!(target("http://a:443/").host_field(), "a:443");
        assert_eq!(target("http://[::1]:8080/").address(), "[::1]:8080");
        assert_eq!(target("http://a?b=/c").path(), "/?b=/c");
        for port in ["", ":", ":80", ":080"] {
            assert_eq!(target(&format!("http://a{port}/")).origin(), "http://a", "{port}");
        }
        assert_eq!(target("http://a:0443/").origin(), "http://a:443");
        for ip in ["[::1]", "[0:0::0:1]", "[0000:0:0:0:0:0:0.0.0.1]"] {
            assert_eq!(target(&format!("http://{ip}:81/")).origin(), "http://[::1]:81", "{ip}");
        }
        assert_eq!(target("http://[FE80:0::00AB]/").host_field(), "[fe80::ab]");
        for nobody in ["@", ":@"] {
            assert_eq!(target(&format!("http://{nobody}a/")).authorization, None, "{nobody}");
        }
        assert_eq!(target("http://:@:@a/").authorization.as_deref(), Some("Basic OkA6"));
        assert_eq!(target("http://a:0/").origin(), "http://a:0");
    }

    #[test]
    fn what_a_person_types_is_encoded_behind_the_host() {
        for (url, path) in [
            ("http://a/b c", "/b%20c"),
            ("http://a/\u{fc}", "/%C3%BC"),
            ("http://a/b%20c%C3%BC", "/b%20c%C3%BC"),
            ("http://a?\u{fc}=b c", "/?%C3%BC=b%20c"),
            ("http://a/\"<b>`", "/%22%3Cb%3E%60"),
            ("http://a/b#c \u{fc}", "/b"),
            ("http://a#\u{fc}", "/"),
            ("http://a/@\u{fc}:b@c/", "/@%C3%BC:b@c/"),
            ("http://a/%zz|^\\{}[]", "/%zz|^\\{}[]"),
        ] {
            assert_eq!(target(url).path(), path, "{url}");
            assert_eq!(target(url).origin(), "http://a", "{url}");
        }
        let user = target("http://\u{fc}:p w@a:81/ b");
        assert_eq!(&**user.url(), "http://a:81/%20b");
        assert_eq!(user.authorization.as_deref(), Some("Basic w7w6cCB3"));
    }

    #[test]
    fn zone_is_for_connecting_and_for_nobody_else() {
        for url in ["http://[fe80::1%25eth0]:8080/a", "http://[fe80::1%eth0]:8080/a"] {
            let zoned = target(url);
            assert_eq!(zoned.address(), "[fe80::1%eth0]:8080");
            assert_eq!(zoned.host_field(), "[fe80::1]:8080");
            assert_eq!(zoned.authority(), "[fe80::1]:8080");
            assert_eq!(zoned.origin(), "http://[fe80::1]:8080");
            assert_eq!(&**zoned.url(), "http://[fe80::1%25eth0]:8080/a", "to be requested again");
        }
        assert_eq!(&**target("https://u@[::1%2525]/").url(), "https://[::1%2525]/");
        let percent = target("http://[fe80::1%25%2541]/");
        assert_eq!(percent.address(), "[fe80::1%%41]:80");
        assert_eq!(target(percent.url()), percent, "also with a percent sign in its name");
        assert!(ClientUrl::parse("http://[fe80::1%25]x/").is_err());
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
            ("http://b\u{fc}cher.example/", NOT_ASCII),
            ("http://u@b\u{fc}cher.example:80/a b", NOT_ASCII),
            ("http://a b/", "invalid uri character"),
            ("http://a/\n", "invalid uri character"),
            ("http://a/b c\r\nHost: evil", "invalid uri character"),
            (" http://a/", "invalid uri character"),
        ] {
            assert_eq!(ClientUrl::parse(url).unwrap_err(), why, "{url}");
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
