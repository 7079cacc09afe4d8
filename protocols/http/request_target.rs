//! The target of a request: the host, the path and the query (RFC 9112, 3.2).
//!
//! Knows the four forms of a target; never mentions fields. Nothing is decoded here.
//!
//! | form | for | example |
//! |---|---|---|
//! | origin | nearly all | `/users/7?all` |
//! | absolute | proxies, and clients that take this server for one | `http://host:80/users/7` |
//! | authority | CONNECT | `host:443` |
//! | asterisk | OPTIONS of the server itself | `*` |
//!
//! # Read next
//! `route_matcher.rs`: the route of a path.

use http::Method;

use super::refusal::Refusal;

/// The parts of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTarget<'a> {
    pub authority: Option<&'a str>,
    /// Begins with `/`, unless the form is asterisk, or authority, which has none.
    pub path: &'a str,
    pub query: Option<&'a str>,
}

impl<'a> RequestTarget<'a> {
    pub fn of(method: &Method, target: &'a str) -> Result<RequestTarget<'a>, Refusal> {
        const BAD: Refusal = Refusal::bad("a bad request target");
        if !target.is_ascii() {
            return Err(BAD); // They are to be percent-encoded (RFC 3986, 2).
        }
        if *method == Method::CONNECT {
            let has_port = target.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty());
            let fits = has_port && is_authority(target.as_bytes());
            return if fits { Ok(RequestTarget::new(Some(target), "", None)) } else { Err(BAD) };
        }
        let (authority, rest) = if target.starts_with('/') {
            (None, target)
        } else if target == "*" && *method == Method::OPTIONS {
            return Ok(RequestTarget::new(None, "*", None));
        } else {
            let Some((authority, rest)) = split_absolute(target) else { return Err(BAD) };
            (Some(authority), rest)
        };
        // One pass for both; a fragment is for the user agent alone, and servers that take one do
        // not agree whether it belongs to the path.
        let (path, query) = match rest.bytes().position(|byte| matches!(byte, b'?' | b'#')) {
            Some(at) if rest.as_bytes()[at] == b'?' => (&rest[..at], Some(&rest[at + 1..])),
            Some(_) => return Err(BAD),
            None => (rest, None),
        };
        if query.is_some_and(|query| query.contains('#')) {
            return Err(BAD);
        }
        Ok(match path {
            "" if *method == Method::OPTIONS && query.is_none() => {
                RequestTarget::new(authority, "*", None)
            }
            "" => RequestTarget::new(authority, "/", query),
            path => RequestTarget::new(authority, path, query),
        })
    }

    fn new(authority: Option<&'a str>, path: &'a str, query: Option<&'a str>) -> RequestTarget<'a> {
        RequestTarget { authority, path, query }
    }
}

/// The text behind `http://` or `https://`: the authority and the rest.
fn split_absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let end = rest.bytes().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
    (!authority.is_empty() && is_authority(authority.as_bytes())).then_some((authority, rest))
}

/// Bytes of a registered name (RFC 3986, 3.2.2), except the comma: with it a field may have two
/// hosts.
static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let punctuation = matches!(
            byte as u8,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
        );
        table[byte] = (byte as u8).is_ascii_alphanumeric() || punctuation;
        byte += 1;
    }
    table
};

/// Returns true if it is a host with a port or without one (RFC 3986, 3.2), and no user name.
pub fn is_authority(authority: &[u8]) -> bool {
    let port = match authority {
        [b'[', inner @ ..] => {
            let Some(end) = inner.iter().position(|byte| *byte == b']') else { return false };
            let (ip, rest) = inner.split_at(end);
            if end < 2 || !ip.iter().all(|b| b.is_ascii_hexdigit() || b":.".contains(b)) {
                return false;
            }
            &rest[1..]
        }
        name => {
            let end = name.iter().position(|byte| !NAME[usize::from(*byte)]);
            let end = end.unwrap_or(name.len());
            if end == 0 {
                return false;
            }
            &name[end..]
        }
    };
    match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, target: &str) -> Option<(Option<&str>, &str, Option<&str>)> {
        RequestTarget::of(&method, target)
            .ok()
            .map(|target| (target.authority, target.path, target.query))
    }

    #[test]
    fn every_form_is_taken_apart() {
        let get = |target| of(Method::GET, target);
        assert_eq!(get("/"), Some((None, "/", None)));
        assert_eq!(get("/a/b?c=/?d"), Some((None, "/a/b", Some("c=/?d"))));
        assert_eq!(get("//evil/a"), Some((None, "//evil/a", None)), "a path, not a host");
        assert_eq!(get("http://h:80/a?b"), Some((Some("h:80"), "/a", Some("b"))));
        assert_eq!(get("HTTPS://[::1]:443"), Some((Some("[::1]:443"), "/", None)));
        assert_eq!(get("http://h?b"), Some((Some("h"), "/", Some("b"))));
        assert_eq!(of(Method::OPTIONS, "*"), Some((None, "*", None)));
        assert_eq!(of(Method::OPTIONS, "http://h"), Some((Some("h"), "*", None)));
        assert_eq!(of(Method::OPTIONS, "http://h/"), Some((Some("h"), "/", None)));
        assert_eq!(of(Method::CONNECT, "h:443"), Some((Some("h:443"), "", None)));
        assert_eq!(of(Method::CONNECT, "[::1]:1"), Some((Some("[::1]:1"), "", None)));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for target in [
            "",
            "a",
            "a/b",
            "*",
            "?a",
            "#",
            "/#",
            "/a#b",
            "/a?b#c",
            "http:/a",
            "http:///a",
            "http://",
            "http://?a",
            "http://u@h/",
            "http://u:p@h/",
            "http://h:x/",
            "http://h:123456/",
            "http://h\\a/",
            "http://a,b/",
            "http://[::1/",
            "http://[]/",
            "http://[g]/",
            "ftp://h/",
            "file:///etc/passwd",
            "javascript://a/",
            "h:443",
            "/\u{e9}",
            "/a?\u{80}",
            "http://h/\u{fc}",
            "http://h:80:80/",
            "://h/",
        ] {
            assert_eq!(of(Method::GET, target), None, "{target:?}");
        }
        for target in
            ["", "/", "h", "h:", ":443", "h:+80", "h:65x", "http://h:80", "h:80/", "u@h:80"]
        {
            assert_eq!(of(Method::CONNECT, target), None, "CONNECT {target:?}");
        }
    }
}
