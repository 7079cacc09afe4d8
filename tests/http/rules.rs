//! The rules of RFC 9110 and 9112 for a server, each asked of a whole one: what it answers, whether
//! the connection goes on, and that what follows is read as the next request and nothing else.

use support::http::{Bench, body, get, statuses};
use waterwheel::protocols::http::{Response, Router, Server, StatusCode};

/// Says what it was sent, to GET and POST of `/`.
fn bench() -> Bench<()> {
    let routes = Router::new()
        .get("/", |reactor, _, _, reply| {
            reply.send(reactor, Response::text("got").header("ETag", "\"1\""));
        })
        .post("/", |reactor, _, request, reply| {
            reply.send(reactor, String::from_utf8_lossy(request.body()).into_owned());
        })
        .get("/none", |reactor, _, _, reply| {
            reply.send(reactor, StatusCode::NO_CONTENT);
        });
    Bench::new(Server::routes(routes))
}

/// What one request is answered with, the head and the body; and whether the connection goes on.
fn ask(request: &str) -> (u16, String, String, bool) {
    let mut bench = bench();
    let client = bench.connect();
    bench.send(&client, request);
    let heard = client.take();
    let (head, _) =
        heard.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:?}: {heard:?}"));
    assert_eq!(statuses(&heard).len(), 1, "{request:?}: {heard}");
    let goes_on = !client.has_ended();
    bench.send(&client, get("/"));
    let then = client.take();
    let expected = if goes_on { vec![200] } else { vec![] };
    assert_eq!(statuses(&then), expected, "{request:?} and then {then}");
    (statuses(&heard)[0], head.to_owned(), body(&heard).to_owned(), goes_on)
}

const HOST: &str = "Host: here\r\n";

#[test]
fn what_the_rules_allow_is_served_and_the_connection_goes_on() {
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n{body}");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    for (rule, request, status, response) in [
        ("9112 2.2: an empty line ahead", format!("\r\n{}", get("/")), 200, "got"),
        ("9110 2.5: a later minor version", get("/").replace("1.1", "1.2"), 200, "got"),
        ("the latest", get("/").replace("1.1", "1.9"), 200, "got"),
        ("9112 3.2.2: a whole URI", get("http://here/"), 200, "got"),
        ("which decides, and not Host", get("http://elsewhere:81/"), 200, "got"),
        ("9112 3.2: a host that is missing", get("/").replace(" here", ""), 200, "got"),
        ("9112 3.2.4: the server itself", get("*").replace("GET", "OPTIONS"), 204, ""),
        ("9112 3: a long target", get(&format!("/?{}", "a".repeat(7900))), 200, "got"),
        (
            "9110 9.3.1: a GET with a body",
            get("/").replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nGET"),
            200,
            "got",
        ),
        ("9112 6.3: no length", post("", ""), 200, ""),
        ("no body", post("Content-Length: 0\r\n", ""), 200, ""),
        ("a body", post("Content-Length: 5\r\n", "GET /"), 200, "GET /"),
        ("9110 5.5: space around a value", post("Content-Length:\t 3 \t\r\n", "abc"), 200, "abc"),
        ("9110 5.1: any case", post("CONTENT-LENGTH: 3\r\n", "abc"), 200, "abc"),
        ("9112 7.1: a chunk", chunked("3\r\nabc\r\n0\r\n\r\n"), 200, "abc"),
        ("chunks", chunked("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), 200, "abc"),
        ("capital digits", chunked("A\r\n0123456789\r\n0\r\n\r\n"), 200, "0123456789"),
        ("no chunk", chunked("0\r\n\r\n"), 200, ""),
        ("9112 7.1.1: an extension", chunked("3;a=b\r\nabc\r\n0\r\n\r\n"), 200, "abc"),
        ("bad whitespace around it", chunked("3 ; a = \"b\"\r\nabc\r\n0 ;c\r\n\r\n"), 200, "abc"),
        ("9112 7.1.2: a trailer", chunked("3\r\nabc\r\n0\r\nX: y\r\n\r\n"), 200, "abc"),
        (
            "9110 6.5.1: a trailer that is no head",
            chunked("3\r\nabc\r\n0\r\nHost: evil\r\nContent-Length: 9\r\n\r\n"),
            200,
            "abc",
        ),
        (
            "9110 5.6.1.2: empty members of a list",
            post("Transfer-Encoding: ,chunked,\r\nConnection: ,\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            200,
            "abc",
        ),
        (
            "9110 7.8: an upgrade that nobody knows",
            post("Connection: upgrade\r\nUpgrade: ,\r\n", ""),
            200,
            "",
        ),
        (
            "9110 9: a method that nobody has",
            get("/").replace("GET", "BREW"),
            405,
            "Method Not Allowed",
        ),
        ("9110 9.1: case matters", get("/").replace("GET", "get"), 405, "Method Not Allowed"),
        (
            "9110 14.2: a range that is none",
            get("/").replace(HOST, "Host: here\r\nRange: x=1\r\n"),
            200,
            "got",
        ),
    ] {
        let (told, head, body, goes_on) = ask(&request);
        assert_eq!(
            (told, &*body, goes_on),
            (status, response, true),
            "{rule}: {request:?}: {head}"
        );
    }
}

#[test]
fn what_the_rules_forbid_is_refused_and_ends_the_connection() {
    let line = |line: &str| format!("{line}\r\n{HOST}\r\n");
    let with = |fields: &str| format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n0\r\n\r\n");
    let chunked =
        |body: &str| format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{body}");
    for (rule, request, status) in [
        ("9112 2.3: no minor version", line("GET / HTTP/1"), 400),
        ("leading zeros", line("GET / HTTP/01.01"), 400),
        ("a space in it", line("GET / HTTP/ 1.1"), 400),
        ("small letters", line("GET / http/1.1"), 400),
        ("no version", line("GET /"), 400),
        ("9110 15.6.6: another major one", line("GET / HTTP/2.0"), 505),
        ("9112 3: a tab for a space", line("GET\t/ HTTP/1.1"), 400),
        ("no target", line("GET  HTTP/1.1"), 400),
        ("9112 3.2: a space in the target", line("GET /a b HTTP/1.1"), 400),
        ("a fragment", line("GET /#a HTTP/1.1"), 400),
        ("a letter beyond ASCII", line("GET /\u{e9} HTTP/1.1"), 400),
        ("9112 3.2.4: an asterisk for GET", line("GET * HTTP/1.1"), 400),
        ("9112 2.2: space ahead of the fields", "GET / HTTP/1.1\r\n Host: h\r\n\r\n".into(), 400),
        ("CR alone", "GET / HTTP/1.1\rHost: h\r\n\r\n".into(), 400),
        ("9112 3.2: no host", "GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("two hosts", line("GET / HTTP/1.1\r\nHost: here"), 400),
        ("9110 7.2: a user in the host", with("").replace("here", "u@here"), 400),
        ("a path in it", with("").replace("here", "here/a"), 400),
        ("9112 5.1: a space ahead of the colon", with("X : y\r\n"), 400),
        ("no colon", with("X\r\n"), 400),
        ("no name", with(": x\r\n"), 400),
        ("9112 5.2: a folded line", with("X: y\r\n z\r\n"), 400),
        ("9110 5.5: a NUL in a value", with("X: \0\r\n"), 400),
        ("9110 8.6: a length that is no number", with("Content-Length: x\r\n"), 400),
        ("a sign", with("Content-Length: +1\r\n"), 400),
        ("none", with("Content-Length:\r\n"), 400),
        ("two lengths", with("Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        (
            "9112 6.1: two framings",
            with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        ("a coding that nobody knows", with("Transfer-Encoding: gzip, chunked\r\n"), 501),
        ("chunked not last", with("Transfer-Encoding: chunked, gzip\r\n"), 400),
        ("chunked in HTTP/1.0", with("Transfer-Encoding: chunked\r\n").replace("1.1", "1.0"), 400),
        ("9110 10.1.1: another expectation", with("Expect: x\r\n"), 417),
        ("9112 7.1: a sign ahead of a size", chunked("+3\r\nabc\r\n0\r\n\r\n"), 400),
        ("0x", chunked("0x3\r\nabc\r\n0\r\n\r\n"), 400),
        ("space ahead of it", chunked(" 3\r\nabc\r\n0\r\n\r\n"), 400),
        ("space behind it", chunked("3 \r\nabc\r\n0\r\n\r\n"), 400),
        ("a chunk that is longer", chunked("3\r\nabcd\r\n0\r\n\r\n"), 400),
        ("no line end behind it", chunked("3\r\nabc0\r\n\r\n"), 400),
        ("9112 7.1.1: a semicolon alone", chunked("3;\r\nabc\r\n0\r\n\r\n"), 400),
        ("a name that is no token", chunked("3;a[b]\r\nabc\r\n0\r\n\r\n"), 400),
        ("LF in an extension", chunked("3;a\nabc\r\n0\r\n\r\n"), 400),
        ("9110 15.5.15: a target too long", get(&"/".repeat(9000)), 414),
        ("RFC 6585 5: too many fields", with(&"X: y\r\n".repeat(200)), 431),
    ] {
        let (told, head, _, goes_on) = ask(&request);
        assert_eq!((told, goes_on), (status, false), "{rule}: {request:?}: {head}");
    }
}

#[test]
fn responses_have_what_the_rules_want() {
    let (_, head, ..) = ask(&get("/"));
    let date = head.lines().find_map(|line| line.strip_prefix("Date: ")).expect("9110 6.6.1");
    assert!(date.len() == 29 && date.ends_with(" GMT"), "9110 5.6.7: {date}");
    assert!(head.contains("Content-Type: "), "9110 8.3: {head}");
    let (status, head, body, goes_on) = ask(&get("/").replace("GET", "HEAD"));
    assert_eq!((status, &*body, goes_on), (200, "", true), "9110 9.3.2");
    assert!(head.contains("Content-Length: 3"), "{head}");
    let (_, head, ..) = ask(&get("/").replace("GET", "DELETE"));
    assert!(head.contains("\r\nAllow: GET, HEAD, OPTIONS, POST"), "9110 15.5.6: {head}");
    let (_, head, ..) = ask(&get("/none"));
    assert!(!head.contains("Content-Length"), "9110 8.6: {head}");
    let close = get("/").replace(HOST, "Host: here\r\nConnection: ,close,\r\n");
    assert!(!ask(&close).3, "9112 9.6");
    let old = "GET / HTTP/1.0\r\n\r\n";
    let (status, .., goes_on) = ask(old);
    assert_eq!((status, goes_on), (200, false), "9112 9.3");
    // 9110 15.2: no interim response to a client of HTTP/1.0.
    let expecting =
        "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\nExpect: 100-continue,\r\n\r\n";
    for (request, expected) in
        [(expecting.to_owned(), vec![100]), (expecting.replace("1.1", "1.0"), vec![])]
    {
        let mut bench = bench();
        let client = bench.connect();
        bench.send(&client, request);
        assert_eq!(statuses(&client.take()), expected);
        bench.send(&client, "a");
        assert_eq!(statuses(&client.take()), [200]);
    }
}
