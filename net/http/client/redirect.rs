//! Redirects: what is asked next, and of whom.
//!
//! Knows requests and URLs (RFC 9110, 15.4; RFC 3986, 5.2); never mentions a connection.
//!
//! # Read next
//! `settings.rs`: what all calls of a client share.

use http::{Method, Uri};

use super::ask::{Ask, Body};
use super::target::Target;

impl Ask {
    /// What to ask next when the answer from `target` is a redirect to `location`.
    pub(super) fn redirected(
        &self,
        target: &Target,
        status: u16,
        location: &str,
    ) -> Result<Ask, String> {
        let mut next = self.clone();
        let uri = join(target, location)?;
        let there = Target::of(&uri)?;
        next.url = Ok(uri);
        // A server does not know by which of our interfaces we reach it: its Location has no zone.
        next.zone = self.zone.clone().filter(|_| there.host == target.host);
        let becomes_get = match status {
            301 | 302 => self.method == Method::POST,
            303 => self.method != Method::HEAD,
            _ => false,
        };
        if becomes_get {
            next.method = Method::GET;
            next.body = Body::None;
            next.expects_continue = false;
            let of_body =
                |name: &str| name.get(..8).is_some_and(|n| n.eq_ignore_ascii_case("content-"));
            next.headers.retain(|(name, _)| !of_body(name));
        } else if let Body::Stream(_) = self.body {
            return Err("its body was sent and is gone".to_owned());
        }
        if there.origin() != target.origin() {
            const STAY: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "host"];
            let stays = |name: &str| STAY.iter().any(|stay| name.eq_ignore_ascii_case(stay));
            next.headers.retain(|(name, _)| !stays(name));
        }
        let lost = there.origin() == target.origin() && there.authorization.is_none();
        if let Some(basic) = target.authorization.as_ref().filter(|_| lost)
            && self.named("authorization").next().is_none()
        {
            next = next.header("Authorization", basic);
        }
        next.redirects_max = self.redirects_max.saturating_sub(1);
        Ok(next)
    }
}

/// The URL to which a `Location` leads from `base` (RFC 3986, 5.2).
pub(super) fn join(base: &Target, location: &str) -> Result<Uri, String> {
    let location = location.split('#').next().unwrap_or("");
    let (path, query) = match base.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&base.path[..], None),
    };
    let scheme = if base.secure { "https" } else { "http" };
    let is_absolute = location.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    let url = if is_absolute {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{}{}", base.origin(), without_dots(location))
    } else if location.starts_with('?') {
        format!("{}{path}{location}", base.origin())
    } else if location.is_empty() {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{path}{query}", base.origin())
    } else {
        let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        format!("{}{}", base.origin(), without_dots(&format!("{folder}{location}")))
    };
    encoded(&url).parse().map_err(|error| format!("a bad Location {location:?}: {error}"))
}

/// The characters behind the authority that no URL has, as RFC 3986 (section 2.1) wants them: many
/// servers send them as they are, spaces above all.
fn encoded(url: &str) -> String {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let path = url[authority..].find(['/', '?']).map_or(url.len(), |at| authority + at);
    let mut out = url[..path].to_owned();
    for char in url[path..].chars() {
        match char {
            ' ' | '"' | '<' | '>' | '`' => out.push_str(&format!("%{:02X}", char as u32)),
            char => out.push(char),
        }
    }
    out
}

/// RFC 3986, 5.2.4: `.` and `..` taken out of the path.
fn without_dots(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (path, String::new()),
    };
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
    let folder = if path.ends_with("/.") || path.ends_with("/..") { "/" } else { "" };
    let path = kept.join("/");
    let folder = if path.is_empty() { "" } else { folder };
    format!("/{path}{folder}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::of(&url.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_location_leads_where_the_rfc_says() {
        // Of RFC 3986, 5.4, what can be asked for by http; `base` has no parameters of a segment.
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
            let to = Target::of(&join(&base, location).unwrap()).unwrap();
            assert_eq!(to.url(), format!("http://a{leads}"), "{location:?}");
        }
        assert_eq!(join(&base, "g/h:i").unwrap(), "http://a/b/c/g/h:i");
        assert_eq!(join(&target("https://a/"), "//g/h").unwrap(), "https://g/h");
        let elsewhere = Target::of(&join(&base, "//g:81/h").unwrap()).unwrap();
        assert_eq!(elsewhere.url(), "http://g:81/h");
        assert_eq!(join(&base, "https://g/").unwrap(), "https://g/");
        assert!(join(&base, "//a b/").is_err());
    }
}
