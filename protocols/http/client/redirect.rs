//! Redirects: the next request, and the server that it goes to.
//!
//! Knows requests and URLs (RFC 9110, 15.4; RFC 3986, 5.2); never mentions a connection.
//!
//! # Read next
//! `settings.rs`: the state that all calls of a client share.

use std::borrow::Cow;

use http::Method;

use super::client_request::{ClientRequest, RequestBody};
use super::client_url::{ClientUrl, NO_HOST};
use crate::protocols::http::percent::encoded;

impl ClientRequest {
    /// The next request when the response from `target` is a redirect to `location`. `unsent` is
    /// true if nothing of the body was sent.
    pub(super) fn redirected(
        &self,
        target: &ClientUrl,
        status: u16,
        location: &[u8],
        unsent: bool,
    ) -> Result<ClientRequest, String> {
        let mut next = self.clone();
        let there = join(target, location)?;
        // A server cannot know by which of our interfaces we reach it: its Location has no zone.
        let there = match &there.zone {
            None if there.host() == target.host() => there.with_zone(target.zone.clone()),
            zone if *zone == target.zone || zone.is_none() => there,
            _ => {
                return Err(format!(
                    "a bad Location {:?}: a zone is of one host alone",
                    &**there.url()
                ));
            }
        };
        next.url = Ok(there.clone());
        let becomes_get = match status {
            301 | 302 => self.method == Method::POST,
            303 => self.method != Method::HEAD,
            _ => false,
        };
        if becomes_get {
            next.method = Method::GET;
            next.body = RequestBody::None;
            next.expects_continue = false;
            let of_body =
                |name: &str| name.get(..8).is_some_and(|n| n.eq_ignore_ascii_case("content-"));
            next.headers.retain(|name| !of_body(name));
        } else if matches!(self.body, RequestBody::Stream(_)) && !unsent {
            return Err("its body was sent and is gone".to_owned());
        }
        if there.origin() != target.origin() {
            const STAY: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "host"];
            let stays = |name: &str| STAY.iter().any(|stay| name.eq_ignore_ascii_case(stay));
            next.headers.retain(|name| !stays(name));
        }
        let lost = there.origin() == target.origin() && there.authorization.is_none();
        if let Some(basic) = target.authorization.as_ref().filter(|_| lost)
            && self.named("authorization").next().is_none()
        {
            next = next.header("Authorization", basic.as_bytes());
        }
        next.redirects_max = self.redirects_max.saturating_sub(1);
        Ok(next)
    }
}

/// Where a `Location` leads from `base` (RFC 3986, 5.2.2, branch by branch).
fn join(base: &ClientUrl, location: &[u8]) -> Result<ClientUrl, String> {
    resolve(base, location)
        .map_err(|why| format!("a bad Location {:?}: {why}", String::from_utf8_lossy(location)))
}

fn resolve(base: &ClientUrl, location: &[u8]) -> Result<ClientUrl, String> {
    let own = Reference::of(base.url().as_bytes());
    let to = Reference::of(location);
    let (authority, path, query) = match to {
        // "http:g" has one of them without the other (5.4.2): strictly, it has no host.
        Reference { scheme: Some(_), authority: None, .. }
        | Reference { authority: Some(b""), .. } => return Err(NO_HOST.to_owned()),
        Reference { authority: Some(_), .. } => (to.authority, without_dots(&to.path), to.query),
        Reference { ref path, .. } if path.is_empty() => {
            (own.authority, own.path.into_owned(), to.query.or(own.query))
        }
        Reference { ref path, .. } if path.starts_with('/') => {
            (own.authority, without_dots(path), to.query)
        }
        Reference { path, .. } => {
            let folder = own.path.rfind('/').map_or("/", |slash| &own.path[..=slash]);
            (own.authority, without_dots(&format!("{folder}{path}")), to.query)
        }
    };
    let scheme = to.scheme.or(own.scheme).unwrap_or_default();
    let authority = std::str::from_utf8(authority.unwrap_or_default()).unwrap_or("\u{fffd}");
    let mut url = format!("{scheme}://{authority}{path}");
    if let Some(query) = query {
        url = format!("{url}?{query}");
    }
    ClientUrl::parse(&url)
}

/// The parts of a reference (RFC 3986, appendix B), except the fragment. Many servers send
/// characters in it that no URL has, in any encoding: they are percent-encoded byte by byte,
/// but not in the authority, where they mean something else.
struct Reference<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a [u8]>,
    path: Cow<'a, str>,
    query: Option<Cow<'a, str>>,
}

impl<'a> Reference<'a> {
    fn of(bytes: &'a [u8]) -> Reference<'a> {
        let cut = |bytes: &'a [u8], at: &[u8]| -> (&'a [u8], &'a [u8]) {
            bytes.split_at(bytes.iter().position(|byte| at.contains(byte)).unwrap_or(bytes.len()))
        };
        let (bytes, _) = cut(bytes, b"#");
        let (scheme, rest) = match cut(bytes, b":/?") {
            (scheme, [b':', rest @ ..]) if is_scheme(scheme) => {
                (std::str::from_utf8(scheme).ok(), rest)
            }
            _ => (None, bytes),
        };
        let (authority, rest) = match rest.strip_prefix(b"//") {
            Some(rest) => {
                let (authority, rest) = cut(rest, b"/?");
                (Some(authority), rest)
            }
            None => (None, rest),
        };
        let (path, query) = cut(rest, b"?");
        let query = query.strip_prefix(b"?").map(encoded);
        Reference { scheme, authority, path: encoded(path), query }
    }
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

/// RFC 3986, 5.2.4: `.` and `..` taken out of a path that begins with a slash, or is empty.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push(""); // They name a folder.
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> ClientUrl {
        ClientUrl::parse(url).unwrap()
    }

    #[test]
    fn a_location_leads_where_the_rfc_says() {
        // The examples of RFC 3986, 5.4, that http has; `base` has no parameters of a segment.
        let base = target("http://a/b/c/d?q");
        for (location, leads) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d?y"),
            ("g?y", "/b/c/g?y"),
            ("g#s", "/b/c/g"),
            ("", "/b/c/d?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/../x", "/b/c/g?y/../x"),
        ] {
            assert_eq!(leads_to(&base, location), format!("http://a{leads}"), "{location:?}");
        }
        assert_eq!(leads_to(&base, "g/h:i"), "http://a/b/c/g/h:i");
        assert_eq!(leads_to(&target("https://a/"), "//g/h"), "https://g/h");
        assert_eq!(leads_to(&base, "//g:81/h"), "http://g:81/h");
        assert_eq!(leads_to(&base, "https://g/"), "https://g/");
        assert!(join(&base, b"//a b/").is_err());
    }

    fn leads_to(base: &ClientUrl, location: impl AsRef<[u8]>) -> String {
        join(base, location.as_ref()).unwrap().url().to_string()
    }

    #[test]
    fn dots_are_taken_out_in_every_branch() {
        let base = target("http://a/b/../c?q");
        for (location, url) in [
            ("http://g/a/../b/./c", "http://g/b/c"),
            ("http://g/..", "http://g/"),
            ("HTTPS://G/a/b/../..?x=/../y", "https://g/?x=/../y"),
            ("http://g?a/../b", "http://g/?a/../b"),
            ("//g/a/../../b", "http://g/b"),
            ("//g/.", "http://g/"),
            ("//g", "http://g/"),
            ("//g/a//../b", "http://g/a/b"),
            ("//g//.", "http://g//"),
            ("//g/..a/...", "http://g/..a/..."),
            ("/a/./../b/..", "http://a/"),
            ("d/../../e", "http://a/e"),
            ("../..#..", "http://a/"),
            // If the reference has no path, the base's path is taken as it is.
            ("?x", "http://a/b/../c?x"),
            ("", "http://a/b/../c?q"),
            ("#a/../b", "http://a/b/../c?q"),
        ] {
            assert_eq!(leads_to(&base, location), url, "{location:?}");
        }
    }

    #[test]
    fn what_no_url_has_is_encoded_byte_by_byte() {
        let base = target("http://a/b/c");
        for (location, url) in [
            (&b"d e?f g"[..], "http://a/b/d%20e?f%20g"),
            ("\u{fc}".as_bytes(), "http://a/b/%C3%BC"),
            (b"/\xfc?\xff=\xe4", "http://a/%FC?%FF=%E4"),
            (b"//g/\xfc", "http://g/%FC"),
            (b"https://g:81?\xfc#\xff", "https://g:81/?%FC"),
            (b"?\xfc", "http://a/b/c?%FC"),
            (b"../\xfc/../%FC", "http://a/%FC"),
        ] {
            assert_eq!(leads_to(&base, location), url, "{location:?}");
        }
        for (location, why) in [
            ("http://b\u{fc}cher.example/".as_bytes(), "letters beyond ASCII"),
            (b"//b\xfccher.example/", "letters beyond ASCII"),
            (b"http://a b/", "invalid uri character"),
            (b"http:", NO_HOST),
            (b"http:g", NO_HOST),
            (b"mailto:ann@example.org", NO_HOST),
            (b"ftp://g/", "not http or https"),
            (b"http:///g", NO_HOST),
            (b"///g", NO_HOST),
            (b"//", NO_HOST),
            (b"\t", "invalid uri character"),
        ] {
            let error = join(&base, location).unwrap_err();
            assert!(error.starts_with("a bad Location ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn zone_goes_on_to_the_same_host_however_that_is_written() {
        let zoned = ClientRequest::get("http://[fe80::1%25%2541]/a").header("Cookie", "c");
        let base = zoned.url.clone().unwrap();
        for (location, address, cookies) in [
            ("b", "[fe80::1%%41]:80", 1),
            ("//[FE80:0::0001]:080/", "[fe80::1%%41]:80", 1),
            ("http://[fe80::1]:81/", "[fe80::1%%41]:81", 0),
            ("http://[fe80::1%25%2541]/", "[fe80::1%%41]:80", 1),
            ("http://[fe80::2]/", "[fe80::2]:80", 0),
        ] {
            let next = zoned.redirected(&base, 302, location.as_bytes(), true).unwrap();
            assert_eq!(next.url.unwrap().address(), address, "{location}");
            assert_eq!(next.headers.len(), cookies, "{location}");
        }
        let other = zoned.redirected(&base, 302, b"http://[fe80::1%25A]/", true);
        assert!(other.unwrap_err().contains("a zone is of one host alone"));
    }
}
