//! Messages that a proxy and a server might read differently, and what becomes of them.
//!
//! Each line names the class it is from: PortSwigger's *HTTP Desync Attacks* (2019), *HTTP/2: The
//! Sequel is Always Worse* (2021), *Browser-Powered Desync Attacks* (2022) and *HTTP/1.1 Must Die*
//! (2025); *Funky Chunks* (2025); advisories of llhttp, Node, hyper, Go, HAProxy, nginx, Apache;
//! or the section of RFC 9112 or 9110 that forbids it.

use waterwheel::protocols::http::Method;
use waterwheel::protocols::http::parts::{
    Chunked, Framing, HeadLimits, Piece, parse_request, parse_response, room,
};

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 64 * 1024, headers_max: 100, target_bytes_max: 8 * 1024 };

/// Reads requests until one is refused or incomplete: method, target and body of each; and what is
/// left to wait for, or the status of the refusal.
fn read(mut bytes: &[u8]) -> (Vec<String>, Result<&[u8], u16>) {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let mut room = room();
        let head = match parse_request(bytes, LIMITS, &mut room) {
            Ok(Some(head)) => head,
            Ok(None) => return (requests, Ok(bytes)),
            Err(refusal) => return (requests, Err(refusal.status())),
        };
        let rest = &bytes[head.bytes..];
        let (body, used) = match body(head.body, rest) {
            Ok(Some(body)) => body,
            Ok(None) => return (requests, Ok(bytes)),
            Err(status) => return (requests, Err(status)),
        };
        requests.push(format!("{} {} {body}", head.method, head.target).trim_end().to_owned());
        bytes = &rest[used..];
        if !head.keep_alive || head.upgrades {
            return (requests, Ok(bytes));
        }
    }
    (requests, Ok(bytes))
}

/// The body at the front of `rest` and how many bytes it takes; `None` if it is not whole.
fn body(framing: Framing, rest: &[u8]) -> Result<Option<(String, usize)>, u16> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match framing {
        Framing::Length(length) => {
            let body = usize::try_from(length).ok().and_then(|length| rest.get(..length));
            Ok(body.map(|body| (text(body), body.len())))
        }
        Framing::Chunked => {
            let (mut chunked, mut used, mut body) = (Chunked::default(), 0, Vec::new());
            loop {
                let (count, piece) = match chunked.step(&rest[used..]) {
                    Ok(step) => step,
                    Err(refusal) => return Err(refusal.status()),
                };
                used += count;
                match piece {
                    Piece::Data(data) => body.extend_from_slice(data),
                    Piece::More => return Ok(None),
                    Piece::End => return Ok(Some((text(&body), used))),
                }
            }
        }
        Framing::UntilClose => panic!("a request has no such body"),
    }
}

/// A POST whose fields are these, behind a good Host; what follows it is another request.
fn post(fields: &str, body: &str) -> String {
    format!(
        "POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
    )
}

fn is_refused(class: &str, status: u16, bytes: &[u8]) {
    let (requests, end) = read(bytes);
    let shown = String::from_utf8_lossy(bytes);
    assert_eq!((requests, end), (Vec::new(), Err(status)), "{class}: {shown:?}");
    // However it arrives, none of it is a request.
    for cut in 0..bytes.len() {
        let (requests, end) = read(&bytes[..cut]);
        assert!(requests.is_empty(), "{class}, cut at {cut}: {requests:?} from {shown:?}");
        assert!(end.is_ok() || end == Err(status), "{class}, cut at {cut}: {end:?} {shown:?}");
    }
}

#[test]
fn ambiguous_lengths_are_refused() {
    let table: &[(&str, u16, &str)] = &[
        ("RFC 9112 6.3: CL.TE", 400, "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        ("RFC 9112 6.3: TE.CL", 400, "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
        ("CL.TE, an empty body", 400, "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("CL.TE in other case", 400, "content-length: 4\r\nTRANSFER-ENCODING: CHUNKED\r\n"),
        ("CL.CL", 400, "Content-Length: 4\r\nContent-Length: 5\r\n"),
        ("CL.CL, equal", 400, "Content-Length: 4\r\nContent-Length: 4\r\n"),
        ("CL.CL, one is nothing", 400, "Content-Length: 4\r\nContent-Length:\r\n"),
        ("CL as a list", 400, "Content-Length: 4, 4\r\n"),
        ("CL as a list of two", 400, "Content-Length: 4,5\r\n"),
        ("CL as a list, no space (hyper)", 400, "Content-Length: 4,4\r\n"),
        ("hyper CVE-2021-32715: a plus", 400, "Content-Length: +5\r\n"),
        ("a minus", 400, "Content-Length: -1\r\n"),
        ("minus nothing", 400, "Content-Length: -0\r\n"),
        ("hexadecimal", 400, "Content-Length: 0x5\r\n"),
        ("an exponent", 400, "Content-Length: 5e0\r\n"),
        ("a fraction", 400, "Content-Length: 5.0\r\n"),
        ("underscores between digits", 400, "Content-Length: 1_0\r\n"),
        ("a space between digits", 400, "Content-Length: 1 0\r\n"),
        ("a tab between digits", 400, "Content-Length: 1\t0\r\n"),
        ("HAProxy CVE-2023-40225: empty", 400, "Content-Length:\r\n"),
        ("blank", 400, "Content-Length:  \t \r\n"),
        ("beyond 64 bits", 400, "Content-Length: 18446744073709551616\r\n"),
        ("5 beyond 64 bits", 400, "Content-Length: 18446744073709551621\r\n"),
        ("quoted", 400, "Content-Length: \"5\"\r\n"),
        ("with a parameter", 400, "Content-Length: 5;a\r\n"),
        ("digits of another script", 400, "Content-Length: \u{665}\r\n"),
        ("a no-break space behind", 400, "Content-Length: 5\u{a0}\r\n"),
        ("a vertical tab ahead", 400, "Content-Length: \x0b5\r\n"),
        ("a form feed behind", 400, "Content-Length: 5\x0c\r\n"),
        ("a NUL behind", 400, "Content-Length: 5\0\r\n"),
    ];
    for (class, status, fields) in table {
        is_refused(class, *status, post(fields, "0\r\n\r\n").as_bytes());
    }
}

#[test]
fn ambiguous_codings_are_refused() {
    let table: &[(&str, u16, &str)] = &[
        ("PortSwigger TE.TE: xchunked", 400, "Transfer-Encoding: xchunked\r\n"),
        ("chunked last, but not alone", 501, "Transfer-Encoding: gzip, chunked\r\n"),
        ("identity, chunked", 501, "Transfer-Encoding: identity, chunked\r\n"),
        ("RFC 9112 6.3: chunked not last", 400, "Transfer-Encoding: chunked, gzip\r\n"),
        ("Node CVE-2022-32215", 400, "Transfer-Encoding: chunked, identity\r\n"),
        ("chunked twice", 400, "Transfer-Encoding: chunked, chunked\r\n"),
        ("TE.TE", 400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
        ("TE.TE, the other order", 400, "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"),
        ("TE.TE, twice", 400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("TE.TE, nothing", 400, "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"),
        ("nothing", 400, "Transfer-Encoding:\r\n"),
        ("a comma", 400, "Transfer-Encoding: ,\r\n"),
        ("commas and spaces", 400, "Transfer-Encoding: , ,\t,\r\n"),
        ("nothing, another", 400, "Transfer-Encoding: ,gzip\r\n"),
        ("chunked, nothing, another", 400, "Transfer-Encoding: chunked,,gzip\r\n"),
        ("chunked, nothing, chunked", 400, "Transfer-Encoding: chunked,,chunked\r\n"),
        ("a semicolon for a comma", 400, "Transfer-Encoding: chunked;\r\n"),
        ("a parameter", 400, "Transfer-Encoding: chunked;q=1\r\n"),
        ("quoted", 400, "Transfer-Encoding: \"chunked\"\r\n"),
        ("quoted otherwise", 400, "Transfer-Encoding: 'chunked'\r\n"),
        ("two words", 400, "Transfer-Encoding: chunked x\r\n"),
        ("cow", 400, "Transfer-Encoding: cow\r\n"),
        ("identity", 400, "Transfer-Encoding: identity\r\n"),
        ("identity and a length", 400, "Transfer-Encoding: identity\r\nContent-Length: 4\r\n"),
        ("a vertical tab ahead", 400, "Transfer-Encoding: \x0bchunked\r\n"),
        ("a form feed ahead", 400, "Transfer-Encoding: \x0cchunked\r\n"),
        ("a no-break space ahead", 400, "Transfer-Encoding: \u{a0}chunked\r\n"),
        ("a NUL ahead", 400, "Transfer-Encoding: \0chunked\r\n"),
        ("a byte beyond ASCII", 400, "Transfer-Encoding: \u{ff}chunked\r\n"),
        ("folded", 400, "Transfer-Encoding:\r\n chunked\r\n"),
        ("folded by a tab", 400, "Transfer-Encoding:\r\n\tchunked\r\n"),
        ("folded behind", 400, "Transfer-Encoding: chunked\r\n , identity\r\n"),
    ];
    for (class, status, fields) in table {
        is_refused(class, *status, post(fields, "0\r\n\r\n").as_bytes());
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    is_refused("RFC 9112 6.1: a coding in HTTP/1.0", 400, old);
}

#[test]
fn malformed_fields_are_refused() {
    let table: &[(&str, &str)] = &[
        ("RFC 9112 5.1: a space ahead of the colon", "Content-Length : 4\r\n"),
        ("a tab ahead of the colon", "Transfer-Encoding\t: chunked\r\n"),
        ("a space ahead of the name", " Content-Length: 4\r\n"),
        ("a tab ahead of the name", "\tTransfer-Encoding: chunked\r\n"),
        ("a space within the name", "Content Length: 4\r\n"),
        ("RFC 9112 5.2: a folded line", "X: 1\r\n Content-Length: 4\r\n"),
        ("a line folded to nothing", "X: 1\r\n \r\n"),
        ("no colon", "Content-Length 4\r\n"),
        ("nothing but a name", "Transfer-Encoding\r\n"),
        ("no name", ": 4\r\n"),
        ("a NUL in the name", "Content\0-Length: 4\r\n"),
        ("a NUL in a value", "X: a\0b\r\n"),
        ("a vertical tab in the name", "Transfer-Encoding\x0b: chunked\r\n"),
        ("a letter beyond ASCII in the name", "Content-L\u{e9}ngth: 4\r\n"),
        ("DEL in a value", "X: a\x7fb\r\n"),
        ("an escape in a value", "X: \x1b[0m\r\n"),
        ("quotes around the name", "\"Content-Length\": 4\r\n"),
        ("a bracket in the name", "Content-Length]: 4\r\n"),
        ("llhttp CVE-2022-32213: LF alone", "X: 1\nContent-Length: 4\r\n"),
        ("LF alone behind all", "Content-Length: 4\n"),
        ("llhttp CVE-2022-32214: CR alone", "X: 1\rContent-Length: 4\r\n"),
        ("llhttp CVE-2023-30589: CR for CRLF", "X: 1\r\rContent-Length: 4\r\n"),
        ("CR CR LF", "X: 1\r\r\nContent-Length: 4\r\n"),
        ("CR alone ahead of a value", "X:\rTransfer-Encoding: chunked\r\n"),
        ("Node CVE-2024-27982: LF in the name", "Content\n-Length: 4\r\n"),
        ("RFC 9112 3.2: two hosts", "Host: other\r\n"),
        ("two hosts, the same", "Host: h\r\n"),
        ("two hosts, other case", "hOST: h\r\n"),
    ];
    for (class, fields) in table {
        is_refused(class, 400, post(fields, "0\r\n\r\n").as_bytes());
    }
    for end in ["\n", "\n\r\n", "\r\n\n", "\n\n", "\r\r\n\r\n"] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: h{end}GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
        is_refused("RFC 9112 2.2: a head that ends otherwise", 400, bytes.as_bytes());
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    let table: &[(&str, u16, &str)] = &[
        ("LF alone", 400, "GET / HTTP/1.1\n"),
        ("CR alone", 400, "GET / HTTP/1.1\r"),
        ("two spaces", 400, "GET  / HTTP/1.1\r\n"),
        ("two spaces behind", 400, "GET /  HTTP/1.1\r\n"),
        ("a tab", 400, "GET\t/ HTTP/1.1\r\n"),
        ("a tab behind", 400, "GET /\tHTTP/1.1\r\n"),
        ("a space ahead", 400, " GET / HTTP/1.1\r\n"),
        ("a space at the end", 400, "GET / HTTP/1.1 \r\n"),
        ("Apache CVE-2023-25690: a space in the target", 400, "GET /a b HTTP/1.1\r\n"),
        ("a request within the target", 400, "GET / HTTP/1.1 GET /b HTTP/1.1\r\n"),
        ("HAProxy CVE-2023-45539: a fragment", 400, "GET /a#/b HTTP/1.1\r\n"),
        ("a NUL in the target", 400, "GET /\0 HTTP/1.1\r\n"),
        ("DEL in the target", 400, "GET /\x7f HTTP/1.1\r\n"),
        ("CR in the target", 400, "GET /\r HTTP/1.1\r\n"),
        ("a relative target", 400, "GET a HTTP/1.1\r\n"),
        ("no target", 400, "GET HTTP/1.1\r\n"),
        ("an empty target", 400, "GET  HTTP/1.1\r\n"),
        ("a user in the target", 400, "GET http://a@h/ HTTP/1.1\r\n"),
        ("another scheme", 400, "GET file:///etc/passwd HTTP/1.1\r\n"),
        ("an asterisk for GET", 400, "GET * HTTP/1.1\r\n"),
        ("HTTP/0.9", 400, "GET /\r\n"),
        ("a method that is no token", 400, "G(T / HTTP/1.1\r\n"),
        ("no method", 400, "/ HTTP/1.1\r\n"),
        ("HTTP/2's preface", 505, "PRI * HTTP/2.0\r\n"),
        ("HTTP/3", 505, "GET / HTTP/3\r\n"),
        ("HTTP/1.10", 400, "GET / HTTP/1.10\r\n"),
        ("HTTP/2.0", 505, "GET / HTTP/2.0\r\n"),
        ("HTTP/0.9 that says so", 505, "GET / HTTP/0.9\r\n"),
        ("RFC 9112 2.3: HTTP/1", 400, "GET / HTTP/1\r\n"),
        ("HTTP/1.", 400, "GET / HTTP/1.\r\n"),
        ("HTTP/", 400, "GET / HTTP/\r\n"),
        ("HTTP/11", 400, "GET / HTTP/11\r\n"),
        ("HTTP/1.20", 400, "GET / HTTP/1.20\r\n"),
        ("HTTP/1.2 and a space", 400, "GET / HTTP/1.2 \r\n"),
        ("HTTP/2.10", 400, "GET / HTTP/2.10\r\n"),
        ("HTTP/1.x", 400, "GET / HTTP/1.x\r\n"),
        ("HTTP/x", 400, "GET / HTTP/x\r\n"),
        ("HTTP/1,1", 400, "GET / HTTP/1,1\r\n"),
        ("HTTP/01.1", 400, "GET / HTTP/01.1\r\n"),
        ("a space in the version", 400, "GET / HTTP/ 1.1\r\n"),
        ("RFC 3986 2: a letter beyond ASCII", 400, "GET /\u{e9} HTTP/1.1\r\n"),
        ("such a letter in the query", 400, "GET /?a=\u{20ac} HTTP/1.1\r\n"),
        ("such a letter in a whole URI", 400, "GET http://h/\u{e9} HTTP/1.1\r\n"),
        ("in small letters", 400, "GET / http/1.1\r\n"),
        ("HTTPS/1.1", 400, "GET / HTTPS/1.1\r\n"),
        ("a method longer than any", 501, "GEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEET / HTTP/1.1\r\n"),
        ("a response", 400, "HTTP/1.1 200 OK\r\n"),
        ("two blank lines ahead", 400, "\r\n\r\nGET / HTTP/1.1\r\n"),
        ("LF ahead", 400, "\nGET / HTTP/1.1\r\n"),
        ("CR ahead", 400, "\rGET / HTTP/1.1\r\n"),
        ("TLS", 400, "\x16\x03\x01\x02"),
    ];
    for (class, status, line) in table {
        is_refused(class, *status, format!("{line}Host: h\r\n\r\n").as_bytes());
    }
    for byte in 0x80..=0xff {
        let line = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        is_refused("a byte that is not ASCII", 400, &line);
    }
}

#[test]
fn later_minor_version_is_read_as_the_one_that_we_know() {
    // RFC 9110 2.5: all that HTTP/1.1 has, hosts and codings and connections that stay open.
    for minor in 2..=9 {
        let line = format!("POST /a HTTP/1.{minor}\r\n");
        let fields = "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let bytes = format!(
            "\r\n{line}{fields}1\r\nb\r\n0\r\n\r\nGET /c HTTP/1.{minor}\r\nHost: h\r\n\r\n"
        );
        let (requests, end) = read(bytes.as_bytes());
        assert_eq!((requests, end), (vec!["POST /a b".into(), "GET /c".into()], Ok(&b""[..])));
        for cut in 0..bytes.len() {
            let (_, end) = read(&bytes.as_bytes()[..cut]);
            assert!(end.is_ok(), "1.{minor} cut at {cut}: {end:?}");
        }
        is_refused("no Host", 400, format!("{line}\r\n").as_bytes());
        is_refused("a folded line", 400, format!("{line}Host: h\r\nX: 1\r\n 2\r\n\r\n").as_bytes());
        let response =
            response(&Method::GET, &format!("HTTP/1.{minor} 200 OK\r\nContent-Length: 5\r\n\r\n"));
        assert_eq!(response, Ok((Framing::Length(5), true)), "a response");
    }
}

#[test]
fn hosts_that_are_none_are_refused() {
    for (class, host) in [
        ("a user", "Host: a@h\r\n"),
        ("a path", "Host: h/a\r\n"),
        ("a query", "Host: h?a\r\n"),
        ("two in one", "Host: a, b\r\n"),
        ("two in one, no space", "Host: a,b\r\n"),
        ("a space", "Host: a b\r\n"),
        ("a backslash", "Host: a\\b\r\n"),
        ("no port", "Host: a:b\r\n"),
        ("two ports", "Host: a:1:2\r\n"),
        ("a port with a sign", "Host: a:+1\r\n"),
        ("an open bracket", "Host: [::1\r\n"),
        ("letters beyond ASCII", "Host: \u{e9}\r\n"),
        ("markup", "Host: <a>\r\n"),
        ("none at all (RFC 9112 3.2)", ""),
    ] {
        is_refused(class, 400, format!("GET / HTTP/1.1\r\n{host}\r\n").as_bytes());
    }
    is_refused("two in HTTP/1.0", 400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
}

#[test]
fn expectations_and_tunnels_that_are_none_are_refused() {
    for (class, expected) in [
        ("PortSwigger 2025: words ahead", "y 100-continue"),
        ("words behind", "100-continue y"),
        ("a list", "100-continue, 100-continue"),
        ("a list of two", "100-continue,,x"),
        ("a comma", ","),
        ("another", "200-ok"),
        ("nothing", ""),
    ] {
        let bytes = post(&format!("Expect: {expected}\r\nContent-Length: 0\r\n"), "");
        is_refused(class, 417, bytes.as_bytes());
    }
    for fields in ["Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n"] {
        let bytes = format!("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n{fields}\r\n0\r\n\r\n");
        is_refused("RFC 9110 9.3.6: a tunnel with a body", 400, bytes.as_bytes());
    }
}

#[test]
fn ambiguous_chunks_are_refused() {
    let table: &[(&str, u16, &str)] = &[
        ("RFC 9112 7.1: LF behind a size", 400, "4\nabcd\r\n0\r\n\r\n"),
        ("CR behind a size", 400, "4\rabcd\r\n0\r\n\r\n"),
        ("LF behind a chunk", 400, "4\r\nabcd\n0\r\n\r\n"),
        ("CR behind a chunk", 400, "4\r\nabcd\r0\r\n\r\n"),
        ("nothing behind a chunk", 400, "4\r\nabcd0\r\n\r\n"),
        ("any two bytes behind a chunk (SPILL)", 400, "4\r\nabcdXX0\r\n\r\n"),
        ("a chunk longer than its size", 400, "3\r\nabcd\r\n0\r\n\r\n"),
        ("a size with a sign", 400, "+4\r\nabcd\r\n0\r\n\r\n"),
        ("a negative size", 400, "-4\r\nabcd\r\n0\r\n\r\n"),
        ("0x (mitmproxy, waitress)", 400, "0x4\r\nabcd\r\n0\r\n\r\n"),
        ("underscores between digits (Python's int)", 400, "0_4\r\nabcd\r\n0\r\n\r\n"),
        ("a space ahead of a size", 400, " 4\r\nabcd\r\n0\r\n\r\n"),
        ("a space behind a size", 400, "4 \r\nabcd\r\n0\r\n\r\n"),
        ("two spaces behind a size", 400, "4  \r\nabcd\r\n0\r\n\r\n"),
        ("an extension without a semicolon", 400, "4 a\r\nabcd\r\n0\r\n\r\n"),
        ("RFC 9112 7.1.1: a semicolon alone", 400, "4;\r\nabcd\r\n0\r\n\r\n"),
        ("a semicolon and a tab", 400, "4;\t\r\nabcd\r\n0\r\n\r\n"),
        ("two semicolons", 400, "4;;a\r\nabcd\r\n0\r\n\r\n"),
        ("a semicolon at the end", 400, "4;a;\r\nabcd\r\n0\r\n\r\n"),
        ("an extension without a name", 400, "4;=b\r\nabcd\r\n0\r\n\r\n"),
        ("an extension without its value", 400, "4;a=\r\nabcd\r\n0\r\n\r\n"),
        ("a space behind a name", 400, "4;a \r\nabcd\r\n0\r\n\r\n"),
        ("a space behind a value", 400, "4;a=b \r\nabcd\r\n0\r\n\r\n"),
        ("a space behind quotes", 400, "4;a=\"b\"\t\r\nabcd\r\n0\r\n\r\n"),
        ("two names", 400, "4;a b\r\nabcd\r\n0\r\n\r\n"),
        ("two values", 400, "4;a=b=c\r\nabcd\r\n0\r\n\r\n"),
        ("a value behind quotes", 400, "4;a=\"b\"c\r\nabcd\r\n0\r\n\r\n"),
        ("quotes without an end", 400, "4;a=\"b\r\nabcd\r\n0\r\n\r\n"),
        ("quotes whose end is escaped", 400, "4;a=\"b\\\"\r\nabcd\r\n0\r\n\r\n"),
        ("quotes around a name", 400, "4;\"a\"\r\nabcd\r\n0\r\n\r\n"),
        ("a name that is no token", 400, "4;a@b\r\nabcd\r\n0\r\n\r\n"),
        ("a value that is no token", 400, "4;a=b@c\r\nabcd\r\n0\r\n\r\n"),
        ("a byte beyond ASCII", 400, "4;\u{e9}\r\nabcd\r\n0\r\n\r\n"),
        ("CR within quotes", 400, "4;a=\"\r\"\r\nabcd\r\n0\r\n\r\n"),
        ("DEL within quotes", 400, "4;a=\"\x7f\"\r\nabcd\r\n0\r\n\r\n"),
        ("a tab behind a size", 400, "4\t\r\nabcd\r\n0\r\n\r\n"),
        ("no size", 400, "\r\nabcd\r\n0\r\n\r\n"),
        ("nothing for a last chunk", 400, "4\r\nabcd\r\n\r\n"),
        ("nothing at all", 400, "\r\n\r\n"),
        ("an extension of nothing", 400, ";a\r\nabcd\r\n0\r\n\r\n"),
        ("no number", 400, "g\r\nabcd\r\n0\r\n\r\n"),
        ("a quoted size", 400, "\"4\"\r\nabcd\r\n0\r\n\r\n"),
        ("hyper CVE-2021-32714: beyond 64 bits", 400, "10000000000000004\r\nabcd\r\n0\r\n\r\n"),
        ("f0000000000000004", 400, "f0000000000000004\r\nabcd\r\n0\r\n\r\n"),
        ("seventeen zeros", 400, "00000000000000004\r\nabcd\r\n0\r\n\r\n"),
        ("Funky Chunks TERM.EXT: LF in an extension", 400, "4;a\nabcd\r\n0\r\n\r\n"),
        ("EXT.TERM: CR in an extension", 400, "4;a\rb\r\nabcd\r\n0\r\n\r\n"),
        ("CR CR LF behind an extension", 400, "4;a\r\r\nabcd\r\n0\r\n\r\n"),
        ("a NUL in an extension", 400, "4;a\0\r\nabcd\r\n0\r\n\r\n"),
        ("LF within quotes", 400, "4;a=\"\n\"\r\nabcd\r\n0\r\n\r\n"),
        ("LF behind the last size", 400, "4\r\nabcd\r\n0\n\r\n"),
        ("LF at the very end (TRAIL)", 400, "4\r\nabcd\r\n0\r\n\n"),
        ("CR CR at the very end", 400, "4\r\nabcd\r\n0\r\n\r\r"),
        ("another request for a trailer", 400, "0\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("a folded trailer", 400, "0\r\na: b\r\n c\r\n\r\n"),
        ("a space ahead of a trailer's colon", 400, "0\r\na : b\r\n\r\n"),
        ("a trailer without a name", 400, "0\r\n: b\r\n\r\n"),
        ("LF behind a trailer", 400, "0\r\na: b\n\r\n"),
        ("CR in a trailer", 400, "0\r\na: b\rc\r\n\r\n"),
        ("a NUL in a trailer", 400, "0\r\na: b\0\r\n\r\n"),
    ];
    for (class, status, body) in table {
        is_refused(class, *status, post("Transfer-Encoding: chunked\r\n", body).as_bytes());
    }
    let endless = format!("1;{}\r\na", "a".repeat(20_000));
    let fields = "Transfer-Encoding: chunked\r\n";
    is_refused_whole("Node CVE-2024-22019", 400, &post(fields, &endless));
    let many = "1;aaaaaaaaaaaaaaa\r\na\r\n".repeat(1200);
    is_refused_whole("Go CVE-2023-39326: an extension for each byte", 400, &post(fields, &many));
    let trailer = format!("0\r\n{}", "a: b\r\n".repeat(5000));
    is_refused_whole("a trailer without an end", 431, &post(fields, &trailer));
}

fn is_refused_whole(class: &str, status: u16, text: &str) {
    assert_eq!(read(text.as_bytes()), (Vec::new(), Err(status)), "{class}");
}

/// What looks odd and has one meaning only.
#[test]
fn unambiguous_requests_are_read_as_everybody_reads_them() {
    let next = "GET /next".to_owned();
    let table: &[(&str, &str, &str, &str)] = &[
        ("leading zeros are decimal", "Content-Length: 0004\r\n", "abcd", "abcd"),
        ("many leading zeros", "Content-Length: 00000000000000000000000004\r\n", "abcd", "abcd"),
        ("spaces around a value", "Content-Length: \t 4 \t \r\n", "abcd", "abcd"),
        ("no space ahead of a value", "Content-Length:4\r\n", "abcd", "abcd"),
        ("any case", "cOnTeNt-LeNgTh: 4\r\n", "abcd", "abcd"),
        ("CHUNKED", "Transfer-Encoding: CHUNKED\r\n", "4\r\nabcd\r\n0\r\n\r\n", "abcd"),
        ("a tab ahead of chunked", "Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n", ""),
        ("another name", "Content_Length: 4\r\nContent-Lengt: 4\r\n", "", ""),
        ("a name with a dot", "Transfer.Encoding: chunked\r\n", "", ""),
        ("TE is not Transfer-Encoding", "TE: chunked\r\n", "", ""),
        ("a length behind a comma", "X: 1, Content-Length: 4\r\n", "", ""),
        ("RFC 9110 5.6.1.2: chunked, nothing", "Transfer-Encoding: chunked,\r\n", "0\r\n\r\n", ""),
        ("nothing, chunked", "Transfer-Encoding: , chunked\r\n", "0\r\n\r\n", ""),
        ("nothing thrice", "Transfer-Encoding:,\t, Chunked\t,\r\n", "0\r\n\r\n", ""),
        ("an empty member that is no close", "Connection: , keep-alive,\r\n", "", ""),
        ("an upgrade to nothing", "Connection: upgrade\r\nUpgrade: ,\r\n", "", ""),
        ("100-continue, nothing", "Expect: 100-continue,\r\n", "", ""),
        ("nothing, 100-continue", "Expect: ,\t100-Continue\r\n", "", ""),
        (
            "RFC 9112 7.1.1: spaces around semicolons",
            "Transfer-Encoding: chunked\r\n",
            "4 ;a\t; b\r\nabcd\r\n0\t ;\te\r\n\r\n",
            "abcd",
        ),
        (
            "spaces around equals signs",
            "Transfer-Encoding: chunked\r\n",
            "4;a = b;c\t=\"d\" ;e= f\r\nabcd\r\n0\r\n\r\n",
            "abcd",
        ),
        (
            "anything within quotes",
            "Transfer-Encoding: chunked\r\n",
            "4;a=\"\\\" ;=\\\\\t\u{e9}\"\r\nabcd\r\n0;a=\"\"\r\n\r\n",
            "abcd",
        ),
        (
            "capital digits",
            "Transfer-Encoding: chunked\r\n",
            "A\r\n0123456789\r\n0\r\n\r\n",
            "0123456789",
        ),
        (
            "zeros ahead of a size",
            "Transfer-Encoding: chunked\r\n",
            "0004\r\nabcd\r\n000\r\n\r\n",
            "abcd",
        ),
        (
            "extensions",
            "Transfer-Encoding: chunked\r\n",
            "4;a=\"b;c\";d\r\nabcd\r\n0;e\r\n\r\n",
            "abcd",
        ),
        (
            "a trailer is no head",
            "Transfer-Encoding: chunked\r\n",
            "0\r\nContent-Length: 99\r\nTransfer-Encoding: x\r\n\r\n",
            "",
        ),
        (
            "a request within a body",
            "Content-Length: 18\r\n",
            "GET /x HTTP/1.1\r\n\r",
            "GET /x HTTP/1.1\r\n\r",
        ),
    ];
    for (class, fields, body, expected) in table {
        let bytes = post(fields, body);
        let first = format!("POST /a {expected}").trim_end().to_owned();
        let (requests, end) = read(bytes.as_bytes());
        assert_eq!((&requests, end), (&vec![first, next.clone()], Ok(&b""[..])), "{class}");
        for cut in 0..bytes.len() {
            let (some, end) = read(&bytes.as_bytes()[..cut]);
            assert!(requests.starts_with(&some) && end.is_ok(), "{class}, cut at {cut}");
        }
    }
}

#[test]
fn what_follows_the_last_request_is_not_read_as_one() {
    let next = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    for fields in [
        "Connection: close\r\n",
        "Connection: keep-alive, close\r\n",
        "Connection: x\r\nConnection: CLOSE\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: websocket\r\n",
    ] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n{next}");
        let expected = (vec!["GET /".to_owned()], Ok(next.as_bytes()));
        assert_eq!(read(bytes.as_bytes()), expected, "{fields}");
    }
    // An upgrade wants both fields, and HTTP/1.1 (RFC 9110, 7.8).
    for fields in ["Connection: upgrade\r\n", "Upgrade: h2c\r\n"] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n{next}");
        assert_eq!(read(bytes.as_bytes()).0.len(), 2, "{fields}");
    }
    let old = format!("GET / HTTP/1.0\r\n\r\n{next}");
    assert_eq!(read(old.as_bytes()), (vec!["GET /".to_owned()], Ok(next.as_bytes())));
    let old =
        "GET / HTTP/1.0\r\nConnection: keep-alive, upgrade\r\nUpgrade: h2c\r\n\r\n".to_owned();
    assert_eq!(read((old + next).as_bytes()).0.len(), 2);
}

/// A client joins what was folded (RFC 9112, 5.2). A server refuses it; see above.
#[test]
fn folded_lines_of_a_response_are_joined() {
    let get = |fields: &str| response(&Method::GET, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
    let none = Ok((Framing::UntilClose, false));
    assert_eq!(get("X: 1\r\n Content-Length: 5\r\n"), none, "the value goes on");
    assert_eq!(get("Content-Length:\r\n 5\r\n"), Ok((Framing::Length(5), true)));
    assert_eq!(get("Content-Length: 5\r\n\t\r\n"), Ok((Framing::Length(5), true)));
    assert_eq!(get("Content-Length: 5\r\n 5\r\n"), Err(400), "it is two numbers");
    assert_eq!(
        get("Connection: x,\r\n close\r\nContent-Length: 5\r\n"),
        Ok((Framing::Length(5), false))
    );
    assert_eq!(get("Transfer-Encoding: gzip,\r\n\tchunked\r\n"), Err(501));
    for fields in [
        " X: 1\r\n", // Folded to the status line.
        "\tX: 1\r\nY: 1\r\n 2\r\n",
        "X: 1\n 2\r\n",  // LF alone.
        "X: 1\r 2\r\n",  // CR alone.
        "X\r\n : 1\r\n", // A name.
        "X: 1\r\n 2\0\r\n",
    ] {
        assert_eq!(get(fields), Err(400), "{fields:?}");
    }
    let text = "HTTP/1.1 200 OK\r\nA: one \t\r\n \t two\r\n\r\nB: a\r\n b";
    for cut in 0..text.len() {
        let mut room = room();
        let told = parse_response(&text.as_bytes()[..cut], LIMITS, &Method::GET, &mut room);
        let told = told.unwrap_or_else(|refusal| panic!("cut at {cut}: {refusal}"));
        let whole = text.len() - "B: a\r\n b".len();
        assert_eq!(told.map(|head| head.bytes), (cut >= whole).then_some(whole), "cut at {cut}");
    }
    let mut room = room();
    let head = parse_response(text.as_bytes(), LIMITS, &Method::GET, &mut room).unwrap().unwrap();
    assert_eq!(head.headers.get("a"), Some("one \t   \t two"));
    let body = "0\r\nA: b\r\n c\r\n\td\r\n\r\n";
    assert_eq!(Chunked::of_response().step(body.as_bytes()), Ok((body.len(), Piece::End)));
    assert!(Chunked::of_response().step(b"0\r\n A: b\r\n\r\n").is_err(), "folded to nothing");
}

/// The framing of a response to such a request and whether the connection lives on; or its status.
fn response(method: &Method, bytes: &str) -> Result<(Framing, bool), u16> {
    let mut room = room();
    let head = parse_response(bytes.as_bytes(), LIMITS, method, &mut room);
    let head = head.map_err(|refusal| refusal.status())?.expect("a whole head");
    Ok((head.body, head.keep_alive))
}

#[test]
fn responses_end_where_everybody_thinks_they_end() {
    let get = |fields: &str| response(&Method::GET, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
    assert_eq!(get("Content-Length: 5\r\n"), Ok((Framing::Length(5), true)));
    assert_eq!(get("Transfer-Encoding: Chunked\r\n"), Ok((Framing::Chunked, true)));
    assert_eq!(get(""), Ok((Framing::UntilClose, false)));
    assert_eq!(get("Connection: close\r\nContent-Length: 5\r\n"), Ok((Framing::Length(5), false)));
    assert_eq!(get("Host: a b\r\nExpect: x\r\nContent-Length: 0\r\n"), Ok((Framing::NONE, true)));
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: 1\nContent-Length: 5\r\n",
    ] {
        assert_eq!(get(fields), Err(400), "{fields:?}");
    }
    for fields in ["Transfer-Encoding: chunked,\r\n", "Transfer-Encoding: ,chunked\r\n"] {
        assert_eq!(get(fields), Ok((Framing::Chunked, true)), "{fields:?}");
    }
    assert_eq!(get("Transfer-Encoding: ,\r\n"), Err(400));
    assert_eq!(get("Transfer-Encoding: gzip, chunked\r\n"), Err(501));
    // Neither the method HEAD nor these statuses have a body, whatever the fields say.
    for (method, status, none) in [
        (Method::HEAD, "200 OK", true),
        (Method::GET, "204 No Content", true),
        (Method::GET, "304 Not Modified", true),
        (Method::GET, "100 Continue", true),
        (Method::GET, "103 Early Hints", true),
        (Method::CONNECT, "200 OK", true),
        (Method::CONNECT, "299", true),
        (Method::CONNECT, "407 Who", false),
        (Method::POST, "205 Reset", false),
    ] {
        let told = response(&method, &format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n"));
        let expected = if none { Framing::NONE } else { Framing::Length(5) };
        assert_eq!(told, Ok((expected, true)), "{method} {status}");
    }
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(response(&Method::CONNECT, both), Ok((Framing::NONE, true)), "it is a tunnel");
    for line in [
        "HTTP/1.1 099 Low",
        "HTTP/1.1 20 Short",
        "HTTP/1.1 2000 Long",
        "HTTP/1.1 2x0 No",
        "ICY 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1  200 OK",
        "\r\nHTTP/1.1 200 OK",
        "HTTP/1.1 200 a\0b",
        "HTTP/1.1 200 a\rb",
        "HTTP/1.1\t200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 200\tOK",
    ] {
        let told = response(&Method::GET, &format!("{line}\r\nContent-Length: 5\r\n\r\n"));
        assert!(told.is_err(), "{line:?} is {told:?}");
    }
    let old = |fields: &str| response(&Method::GET, &format!("HTTP/1.0 200 OK\r\n{fields}\r\n"));
    assert_eq!(old("Content-Length: 5\r\n"), Ok((Framing::Length(5), false)));
    let alive = "Connection: keep-alive\r\nContent-Length: 5\r\n";
    assert_eq!(old(alive), Ok((Framing::Length(5), true)));
    assert_eq!(old("Transfer-Encoding: chunked\r\n"), Err(400));
}
