//! Which route a request takes: a method and a pattern of a path.
//!
//! Knows paths; never mentions what is behind a route, for which it has an index.
//!
//! ```text
//!   GET  /                       {id} stands for a segment, not empty
//!   GET  /users/{id}             {rest...} for all that is left, which may be nothing
//!   POST /users/{id}/files       /users/me would go before {id}, whatever came first
//!   GET  /files/{rest...}
//! ```
//!
//! # Rules
//! 1. A path is cut at its slashes, then decoded, once: `%2F` is a character of its segment.
//! 2. A trailing slash is a segment that is empty: `/users` and `/users/` are two paths.
//! 3. Of two patterns that fit the one wins that is more definite at the first difference: text
//!    goes before `{id}` and `{id}` before `{rest...}`, in whatever order they were added.
//! 4. HEAD takes the route of GET unless it has one of its own.
//! 5. Bad is what could lead elsewhere when a parameter becomes the name of a file: segments `.`
//!    and `..`, empty ones but the last, and NUL; also behind an encoded slash or a backslash. So
//!    are escapes that are none, and what is not UTF-8. Clients resolve dots before they send.
//!
//! # Cost
//! `find` is O(routes × segments), and allocates nothing unless there is an escape in the path.
//!
//! # Read next
//! `percent.rs`: the decoding.

use std::borrow::Cow;
use std::cmp::Ordering;

use http::Method;

use super::percent::{decode, decoded};

/// Routes, and which of them a request takes.
#[derive(Debug, Default)]
pub struct Matcher {
    /// The more definite ones first.
    routes: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    method: Method,
    segments: Vec<Segment>,
    index: usize,
}

/// In the order in which they are tried.
#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Text(String),
    Param(String),
    Rest(String),
}

/// What there is for a request.
#[derive(Debug)]
pub enum Found<'a> {
    /// The route that was added as this one, counted from zero.
    Route(usize, Params<'a>),
    /// 404.
    Nothing,
    /// 405, and the value of its `Allow`; to OPTIONS this is the answer.
    WrongMethod(String),
    /// 400: by rule 5.
    Bad,
}

impl Matcher {
    /// Adds a route; its index is how many there were before.
    ///
    /// # Panics
    /// If the pattern is none, or another route has the same.
    #[track_caller]
    pub fn add(&mut self, method: Method, pattern: &str) -> usize {
        let route = Route { segments: segments(pattern), method, index: self.routes.len() };
        let same = |other: &Route| {
            other.method == route.method && compare(other, &route) == Ordering::Equal
        };
        assert!(!self.routes.iter().any(same), "{} {pattern} is there twice", route.method);
        let at = self.routes.partition_point(|other| compare(other, &route) != Ordering::Greater);
        self.routes.insert(at, route);
        self.routes.len() - 1
    }

    /// Looks for a path as it was sent, without its query.
    pub fn find<'a>(&'a self, method: &Method, path: &'a str) -> Found<'a> {
        if path == "*" {
            return Found::WrongMethod(allow(self.routes.iter()));
        }
        let Some(inner) = path.strip_prefix('/') else { return Found::Nothing };
        if !is_good(inner) {
            return Found::Bad;
        }
        let fitting = || self.routes.iter().filter(|route| route.fits(inner));
        let of = |method: &Method| fitting().find(|route| route.method == *method);
        let route =
            of(method).or_else(|| if method == Method::HEAD { of(&Method::GET) } else { None });
        match route {
            Some(route) => Found::Route(route.index, Params { route: Some(route), path: inner }),
            None if fitting().next().is_some() => Found::WrongMethod(allow(fitting())),
            None => Found::Nothing,
        }
    }
}

/// The parameters of the pattern that fitted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a> {
    route: Option<&'a Route>,
    path: &'a str,
}

impl<'a> Params<'a> {
    /// What stands for `{name}` or `{name...}`, decoded.
    pub fn get(self, name: &str) -> Option<Cow<'a, str>> {
        let mut rest = self.path;
        for segment in &self.route?.segments {
            let (first, behind) = split(rest);
            let behind = behind.unwrap_or("");
            match segment {
                Segment::Param(param) if param == name => return decode(first),
                Segment::Rest(param) if param == name => return decode(rest),
                _ => rest = behind,
            }
        }
        None
    }
}

impl Route {
    fn fits(&self, path: &str) -> bool {
        let mut rest = Some(path);
        for segment in &self.segments {
            let Some(here) = rest else { return false };
            let (first, behind) = split(here);
            let fits = match segment {
                Segment::Text(text) if first.contains('%') => decoded(first).eq(text.bytes()),
                Segment::Text(text) => first == text,
                Segment::Param(_) => !first.is_empty(),
                Segment::Rest(_) => return true,
            };
            if !fits {
                return false;
            }
            rest = behind;
        }
        rest.is_none()
    }
}

/// The first segment and those behind its slash, if there is one.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.bytes().position(|byte| byte == b'/') {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

/// Rule 3. Names of parameters make no difference.
fn compare(a: &Route, b: &Route) -> Ordering {
    let rank = |segment: &Segment| match segment {
        Segment::Text(_) => 0,
        Segment::Param(_) => 1,
        Segment::Rest(_) => 2,
    };
    let pairs = a.segments.iter().zip(&b.segments);
    let mut orders = pairs.map(|pair| match pair {
        (Segment::Text(a), Segment::Text(b)) => a.cmp(b),
        (a, b) => rank(a).cmp(&rank(b)),
    });
    let order = orders.find(|order| order.is_ne());
    order.unwrap_or_else(|| a.segments.len().cmp(&b.segments.len()))
}

#[track_caller]
fn segments(pattern: &str) -> Vec<Segment> {
    let Some(inner) = pattern.strip_prefix('/') else {
        panic!("{pattern:?} has no slash in front")
    };
    let count = inner.split('/').count();
    let mut names = Vec::new();
    let segments = (1..).zip(inner.split('/')).map(|(number, text)| {
        let last = number == count;
        let name = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let segment = match name.map(|name| (name, name.strip_suffix("..."))) {
            Some((_, Some(name))) if last => Segment::Rest(name.to_owned()),
            Some((name, None)) => Segment::Param(name.to_owned()),
            Some(_) => panic!("{pattern:?} goes on behind {text}"),
            None => Segment::Text(text.to_owned()),
        };
        match &segment {
            Segment::Param(name) | Segment::Rest(name) => {
                assert!(!name.is_empty(), "{pattern:?} has a parameter without a name");
                assert!(!names.contains(name), "{pattern:?} has {{{name}}} twice");
                names.push(name.clone());
            }
            Segment::Text(text) => {
                assert!(last || !text.is_empty(), "{pattern:?} has an empty segment");
                assert!(!text.contains(['{', '}']), "{pattern:?} has a parameter within a segment");
            }
        }
        segment
    });
    segments.collect()
}

/// Rule 5.
fn is_good(path: &str) -> bool {
    let mut before = b'/';
    for byte in path.bytes() {
        match byte {
            // Nearly always there is nothing to look at more closely.
            b'%' | b'\\' | b'.' | 0 => return is_good_decoded(path),
            b'/' if before == b'/' => return false,
            _ => before = byte,
        }
    }
    true
}

fn is_good_decoded(path: &str) -> bool {
    let Some(plain) = decode(path) else { return false };
    let count = plain.split(['/', '\\']).count();
    let empty_last = path.is_empty() || path.ends_with('/');
    !plain.contains('\0')
        && (1..).zip(plain.split(['/', '\\'])).all(|(number, part)| match part {
            "" => number == count && empty_last,
            "." | ".." => false,
            _ => true,
        })
}

fn allow<'a>(routes: impl Iterator<Item = &'a Route>) -> String {
    let mut methods: Vec<&str> = vec!["OPTIONS"];
    for route in routes {
        methods.push(route.method.as_str());
        if route.method == Method::GET {
            methods.push("HEAD");
        }
    }
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(patterns: &[(Method, &str)]) -> Matcher {
        let mut matcher = Matcher::default();
        for (index, (method, pattern)) in patterns.iter().enumerate() {
            assert_eq!(matcher.add(method.clone(), pattern), index);
        }
        matcher
    }

    fn site() -> Matcher {
        matcher(&[
            (Method::GET, "/files/{rest...}"),
            (Method::GET, "/users/{id}"),
            (Method::GET, "/users/me"),
            (Method::GET, "/"),
            (Method::POST, "/users/{user}/files"),
            (Method::DELETE, "/users/{id}"),
            (Method::HEAD, "/heads"),
            (Method::GET, "/heads"),
            (Method::GET, "/users/{id}/"),
            (Method::GET, "/caf\u{e9}/{a}/{b}"),
        ])
    }

    /// The index, or the status; with the named parameter.
    fn find(matcher: &Matcher, method: Method, path: &str) -> Result<usize, String> {
        match matcher.find(&method, path) {
            Found::Route(index, _) => Ok(index),
            Found::Nothing => Err("404".to_owned()),
            Found::WrongMethod(allow) => Err(format!("405 {allow}")),
            Found::Bad => Err("400".to_owned()),
        }
    }

    fn param(matcher: &Matcher, path: &str, name: &str) -> Option<String> {
        let Found::Route(_, params) = matcher.find(&Method::GET, path) else { return None };
        params.get(name).map(Cow::into_owned)
    }

    #[test]
    fn definite_routes_go_first_whatever_was_added_first() {
        let site = site();
        let get = |path| find(&site, Method::GET, path);
        assert_eq!(get("/"), Ok(3));
        assert_eq!(get("/users/me"), Ok(2));
        assert_eq!(get("/users/m%65"), Ok(2));
        assert_eq!(get("/users/you"), Ok(1));
        assert_eq!(get("/users/you/"), Ok(8));
        assert_eq!(get("/users/me/"), Ok(8));
        assert_eq!(get("/files/"), Ok(0));
        assert_eq!(get("/files/a/b/"), Ok(0));
        assert_eq!(get("/caf%C3%A9/1/2"), Ok(9));
        assert_eq!(get("/caf\u{e9}/1/2"), Ok(9));
        for path in ["/files", "/users", "/users/", "/users/a/b", "/Users/me", "/caf/1/2", "x", ""]
        {
            assert_eq!(get(path), Err("404".to_owned()), "{path}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let site = site();
        assert_eq!(param(&site, "/users/a%20b+c", "id").as_deref(), Some("a b+c"));
        assert_eq!(param(&site, "/users/@me%2Fyou", "id").as_deref(), Some("@me/you"));
        assert_eq!(param(&site, "/users/%252e%252e", "id").as_deref(), Some("%2e%2e"));
        assert_eq!(param(&site, "/users/x/", "id").as_deref(), Some("x"));
        assert_eq!(param(&site, "/users/x", "rest"), None);
        assert_eq!(param(&site, "/files/", "rest").as_deref(), Some(""));
        assert_eq!(param(&site, "/files/a/b%20c/", "rest").as_deref(), Some("a/b c/"));
        assert_eq!(param(&site, "/files/...", "rest").as_deref(), Some("..."));
        assert_eq!(param(&site, "/caf\u{e9}/1/2", "a").as_deref(), Some("1"));
        assert_eq!(param(&site, "/caf\u{e9}/1/2", "b").as_deref(), Some("2"));
    }

    #[test]
    fn wrong_method_is_told_the_right_ones() {
        let site = site();
        let wrong = |method, path| find(&site, method, path).unwrap_err();
        assert_eq!(wrong(Method::POST, "/users/me"), "405 DELETE, GET, HEAD, OPTIONS");
        assert_eq!(wrong(Method::GET, "/users/me/files"), "405 OPTIONS, POST");
        assert_eq!(wrong(Method::HEAD, "/users/me/files"), "405 OPTIONS, POST");
        assert_eq!(wrong(Method::OPTIONS, "/"), "405 GET, HEAD, OPTIONS");
        assert_eq!(wrong(Method::OPTIONS, "*"), "405 DELETE, GET, HEAD, OPTIONS, POST");
        assert_eq!(find(&site, Method::DELETE, "/users/me"), Ok(5));
        assert_eq!(find(&site, Method::HEAD, "/users/me"), Ok(2));
        assert_eq!(find(&site, Method::HEAD, "/heads"), Ok(6));
        assert_eq!(find(&site, Method::GET, "/heads"), Ok(7));
        assert_eq!(find(&site, Method::CONNECT, ""), Err("404".to_owned()));
    }

    #[test]
    fn path_that_could_lead_elsewhere_is_bad() {
        for path in [
            "/..",
            "/.",
            "/../",
            "/files/..",
            "/files/../x",
            "/files/./x",
            "/files/%2e%2e/x",
            "/files/.%2E",
            "/files/..%2fx",
            "/files/x%2f..",
            "/files/x%2F..%2Fy",
            "/files/..%5cx",
            "/files/..\\x",
            "/files/x\\..",
            "/files/%2fetc",
            "/files//etc",
            "/files/%5cetc",
            "//",
            "//files/x",
            "/files/x//",
            "/files/x%2f%2fy",
            "/files/x%2f",
            "/files/%00",
            "/files/x%00y",
            "/files/%",
            "/files/%4",
            "/files/%zz",
            "/files/%c3",
            "/files/%c0%ae",
            "/files/%u002e",
            "/nowhere/..",
            "/users/%2e%2e",
            "/%2f",
            "/files/\\",
        ] {
            assert_eq!(find(&site(), Method::GET, path), Err("400".to_owned()), "{path}");
        }
        for path in ["/files/a..b", "/files/.a", "/files/a.", "/files/...", "/files/a%2fb/"] {
            assert_eq!(find(&site(), Method::GET, path), Ok(0), "{path}");
        }
    }

    #[test]
    fn pattern_that_is_none_panics() {
        for pattern in [
            "",
            "a",
            "/a//b",
            "//",
            "/{}",
            "/{...}",
            "/{a}/{a}",
            "/{rest...}/a",
            "/a{b}",
            "/{b",
            "/b}",
            "/{a...}/{b...}",
        ] {
            let added = std::panic::catch_unwind(|| Matcher::default().add(Method::GET, pattern));
            assert!(added.is_err(), "{pattern:?}");
        }
        let twice = || matcher(&[(Method::GET, "/{a}/b"), (Method::GET, "/{c}/b")]);
        assert!(std::panic::catch_unwind(twice).is_err());
    }
}
