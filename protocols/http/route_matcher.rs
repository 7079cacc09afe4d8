//! Which route a request takes: a method and a pattern of a path.
//!
//! Knows paths; never mentions handlers: a route is an index here.
//!
//! ```text
//!   GET  /                       {id} stands for a segment, not empty
//!   GET  /users/{id}             {rest...} for all that is left, which may be nothing
//!   POST /users/{id}/files       /users/me would go before {id}, also if added later
//!   GET  /files/{rest...}
//! ```
//!
//! # Rules
//! 1. A path is cut at its slashes, then decoded, once: `%2F` is a character of its segment.
//! 2. A trailing slash is a segment that is empty: `/users` and `/users/` are two paths.
//! 3. Of two patterns that fit the one wins that is more definite at the first difference: text
//!    goes before `{id}` and `{id}` before `{rest...}`, whichever was added first.
//! 4. HEAD takes the route of GET unless it has one of its own.
//! 5. A path is bad if it could lead elsewhere when a parameter becomes the name of a file: by a
//!    segment `.` or `..`, an empty one before the last, or a NUL; encoded slashes and backslashes
//!    count as slashes here. The last segment may be empty behind a slash that stands as such in
//!    the path: `/p/a/` is a path, `/p/a%2F` and `/p/a\` are bad. A path is bad, too, if an escape
//!    is malformed or the text is not UTF-8. Honest clients resolve dots before they send.
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

/// The result of a search for a request's route.
#[derive(Debug)]
pub enum Found<'a> {
    /// The route that was added as this one, counted from zero.
    Route(usize, Params<'a>),
    /// 404.
    Nothing,
    /// 405, and the value of its `Allow`; this is the response to OPTIONS.
    WrongMethod(String),
    /// 400: by rule 5.
    Bad,
}

impl Matcher {
    /// Adds a route; its index is how many there were before.
    ///
    /// # Panics
    /// If the pattern is malformed, or another route has the same.
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
    /// The text for `{name}` or `{name...}`, decoded.
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

/// Returns true if a path is not bad by rule 5.
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
mod tests;
