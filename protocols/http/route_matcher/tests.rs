//! Which patterns match a path, and which of two patterns is preferred.

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
    for path in ["/files", "/users", "/users/", "/users/a/b", "/Users/me", "/caf/1/2", "x", ""] {
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
        "/users/x%2F",
        "/users/x%5C",
        "/users/x\\",
        "/users/x%2F/",
    ] {
        assert_eq!(find(&site(), Method::GET, path), Err("400".to_owned()), "{path}");
    }
    assert_eq!(find(&site(), Method::GET, "/users/x/"), Ok(8), "a slash that stands as such");
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
