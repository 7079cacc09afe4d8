//! HTTP's parsers: the same messages wherever they are cut, limits to the byte, linear work.

use std::time::{Duration, Instant};

use allocation_counter::measure;
use waterwheel::protocols::http::parts::{
    Chunked, EXTENSION_BYTES_MAX, Found, Framing, HEADERS_ROOM, HeadLimits, Matcher, Piece, Scan,
    TRAILER_BYTES_MAX, parse_request, parse_response, room,
};
use waterwheel::protocols::http::{Method, Version};

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 64 * 1024, headers_max: 100, target_bytes_max: 8 * 1024 };

/// Whether a request is whole, or the status of its refusal.
fn request(bytes: &[u8], limits: HeadLimits) -> Result<Option<usize>, u16> {
    let mut room = room();
    let head = parse_request(bytes, limits, &mut room);
    head.map(|head| head.map(|head| head.bytes)).map_err(|refusal| refusal.status())
}

fn response(bytes: &[u8], limits: HeadLimits) -> Result<Option<usize>, u16> {
    let mut room = room();
    let head = parse_response(bytes, limits, &Method::GET, &mut room);
    head.map(|head| head.map(|head| head.bytes)).map_err(|refusal| refusal.status())
}

/// Feeds a head in pieces as a connection does: after how many bytes it was whole or refused, and
/// how many were parsed for that.
fn feed(
    head: &[u8],
    piece: usize,
    limits: HeadLimits,
    parse: impl Fn(&[u8], HeadLimits) -> Result<Option<usize>, u16>,
) -> (usize, Result<Option<usize>, u16>, usize) {
    let (mut scan, mut parsed, mut end) = (Scan::default(), 0, 0);
    while end < head.len() {
        end = head.len().min(end + piece);
        if scan.is_due(&head[..end], limits) {
            parsed += end.min(limits.head_bytes_max);
            match parse(&head[..end], limits) {
                Ok(None) => {}
                told => return (end, told, parsed),
            }
        }
    }
    (end, Ok(None), parsed)
}

const BROWSER: &str = "GET /wiki/Water?a=b&c=%20d HTTP/1.1\r\nHost: example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nDNT: 1\r\n\
    Connection: keep-alive\r\nCookie: a=b; c=d\r\nUpgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nPriority: u=0, i\r\n\r\n";

#[test]
fn request_is_the_same_wherever_it_is_cut() {
    for text in [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\nGET / HTTP/1.0\r\n\r\n",
        "POST http://a:80/b?c HTTP/1.1\r\nhost:\r\nContent-Length: 3\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\nExpect: 100-CONTINUE\r\n\r\n",
        BROWSER,
    ] {
        for rest in ["", "a", "\r\n", "GET / HTTP/1.1\r\n\r\n", "\0\0"] {
            let bytes = [text, rest].concat();
            for first in 0..text.len() {
                let limits = HeadLimits { head_bytes_max: text.len(), ..LIMITS };
                let mut scan = Scan::default();
                for end in [first, bytes.len()] {
                    let due = scan.is_due(&bytes.as_bytes()[..end], limits);
                    let told = request(&bytes.as_bytes()[..end], limits);
                    let expected = if end < text.len() { None } else { Some(text.len()) };
                    assert_eq!(told, Ok(expected), "{text:?} cut at {first}");
                    assert!(due || expected.is_none(), "{text:?} cut at {first} is overlooked");
                }
            }
            let (_, told, _) = feed(bytes.as_bytes(), 1, LIMITS, request);
            assert_eq!(told, Ok(Some(text.len())), "{text:?} byte by byte");
        }
    }
}

#[test]
fn response_is_the_same_wherever_it_is_cut() {
    for text in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.0 404\r\nX:\r\n\r\n",
        "HTTP/1.1 200 Pr\u{fc}ma\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        for cut in 0..text.len() {
            assert_eq!(response(&text.as_bytes()[..cut], LIMITS), Ok(None), "{text:?} at {cut}");
        }
        for rest in ["", "\r\n", "HTTP"] {
            let bytes = [text, rest].concat();
            let (_, told, _) = feed(bytes.as_bytes(), 1, LIMITS, response);
            assert_eq!(told, Ok(Some(text.len())), "{text:?}");
        }
    }
}

#[test]
fn request_says_what_it_is() {
    let text = "POST http://a:80/b%20c?d HTTP/1.1\r\nHost: other\r\nX-Y: \t z \t\r\nx-y:\r\n\
        Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nConnection: x, close\r\n\r\n";
    let mut room = room();
    let head = parse_request(text.as_bytes(), LIMITS, &mut room).unwrap().unwrap();
    assert_eq!((&head.method, head.version), (&Method::POST, Version::HTTP_11));
    assert_eq!(head.target, "http://a:80/b%20c?d");
    assert_eq!((head.authority(), head.path, head.query), (Some("a:80"), "/b%20c", Some("d")));
    assert_eq!((head.body, head.expects_continue), (Framing::Chunked, true));
    assert_eq!((head.keep_alive, head.upgrades), (false, false));
    assert_eq!((head.headers.len(), head.headers.get("X-y")), (6, Some("z")));
    let all: Vec<&[u8]> = head.headers.get_all("x-Y").collect();
    assert_eq!(all, [&b"z"[..], b""]);
    assert!(head.headers.has_token("connection", "CLOSE"));
    assert!(!head.headers.has_token("connection", "clos"));
}

/// A request whose head is so long.
fn long(bytes: usize) -> String {
    let front = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
    format!("{front}{}\r\n\r\n", "a".repeat(bytes - front.len() - 4))
}

#[test]
fn every_limit_of_a_head_is_exact() {
    let limits = HeadLimits { head_bytes_max: 1000, headers_max: 5, target_bytes_max: 20 };
    for (bytes, expected) in [(999, Ok(Some(999))), (1000, Ok(Some(1000))), (1001, Err(431))] {
        for piece in [1, 7, 999, 1000, 2000] {
            let (_, told, _) = feed(long(bytes).as_bytes(), piece, limits, request);
            assert_eq!(told, expected, "{bytes} bytes by {piece}");
            let head = long(bytes).replace("GET / HTTP/1.1", "HTTP/1.1 200 x");
            let (_, told, _) = feed(head.as_bytes(), piece, limits, response);
            assert_eq!(told, expected, "a response of {bytes} bytes by {piece}");
        }
    }
    for (fields, fits) in [(4, true), (5, true), (6, false)] {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: a\r\n".repeat(fields - 1));
        let expected = if fits { Ok(Some(head.len())) } else { Err(431) };
        assert_eq!(request(head.as_bytes(), limits), expected, "{fields} fields");
        let head = head.replace("GET / HTTP/1.1", "HTTP/1.1 200 x");
        assert_eq!(response(head.as_bytes(), limits), expected, "{fields} fields");
    }
    for (target, fits) in [(19, true), (20, true), (21, false)] {
        let path = "a".repeat(target - 1);
        let head = format!("GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let expected = if fits { Ok(Some(head.len())) } else { Err(414) };
        assert_eq!(request(head.as_bytes(), limits), expected, "a target of {target}");
    }
    let most = HeadLimits { headers_max: usize::MAX, ..LIMITS };
    for (fields, fits) in [(HEADERS_ROOM, true), (HEADERS_ROOM + 1, false)] {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: a\r\n".repeat(fields - 1));
        assert_eq!(request(head.as_bytes(), most).is_ok(), fits, "{fields} fields");
    }
}

#[test]
fn what_never_ends_is_refused_at_its_limit_or_soon_behind_it() {
    let limits = HeadLimits { target_bytes_max: 1000, ..LIMITS };
    for (what, front, repeated, status, soon) in [
        ("a target", "GET /", "a", 414, 4096),
        ("fields", "GET / HTTP/1.1\r\n", "a: b\r\n", 431, 2048),
        ("a value", "GET / HTTP/1.1\r\na: ", "b", 431, LIMITS.head_bytes_max),
        ("a name", "GET / HTTP/1.1\r\n", "a", 431, LIMITS.head_bytes_max),
        ("a method", "", "G", 501, 64),
        ("blank lines", "", "\r\n", 400, 4),
        ("nonsense", "\0", "\0", 400, 1),
    ] {
        let bytes = [front, &repeated.repeat(200_000)].concat();
        for piece in [1, 100, 4096] {
            let (end, told, parsed) = feed(bytes.as_bytes(), piece, limits, request);
            assert_eq!(told, Err(status), "{what} by {piece}");
            assert!(end <= soon + piece, "{what} by {piece}: refused after {end}");
            assert!(parsed <= 4 * end, "{what} by {piece}: {parsed} parsed of {end}");
        }
    }
}

#[test]
fn twenty_megabytes_of_head_are_refused_at_once() {
    let fields = "a: b\r\n".repeat(20 * 1024 * 1024 / 6);
    let endless = ["GET / HTTP/1.1\r\n", &fields].concat();
    let one = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(20 * 1024 * 1024));
    for head in [endless, one] {
        let once = || {
            let began = Instant::now();
            let (end, told, parsed) = feed(head.as_bytes(), 4096, LIMITS, request);
            assert_eq!(told, Err(431));
            assert!(end <= LIMITS.head_bytes_max && parsed <= 3 * LIMITS.head_bytes_max);
            began.elapsed()
        };
        // The best of some: this is about the work, and not about who else is at work here.
        let took = (0..10).map(|_| once()).min();
        assert!(took < Some(Duration::from_millis(10)), "{took:?}");
    }
}

/// Counted, not timed: who looks at all of it again for each byte parses 2 GB here.
#[test]
fn longest_head_byte_by_byte_is_linear_work() {
    let head = long(LIMITS.head_bytes_max);
    for parse in [request, response] {
        let text = if parse(b"HTTP/1.1 200 x\r\n\r\n", LIMITS).is_ok() {
            head.replace("GET / HTTP/1.1", "HTTP/1.1 200 x")
        } else {
            head.clone()
        };
        let (end, told, parsed) = feed(text.as_bytes(), 1, LIMITS, parse);
        assert_eq!((end, told), (head.len(), Ok(Some(head.len()))));
        assert!(parsed <= 3 * head.len(), "{parsed} bytes were parsed");
    }
    // And the search for its end, which is not counted: a minute, if each byte looked at all of it.
    let _ceiling = support::ceiling(Duration::from_secs(20));
    let roomy = HeadLimits { head_bytes_max: usize::MAX, ..LIMITS };
    let (mut scan, bytes) = (Scan::default(), vec![b'a'; 4 << 20]);
    let due = (1..bytes.len()).filter(|end| scan.is_due(&bytes[..*end], roomy)).count();
    assert_eq!(due, 22, "at each doubling");
}

#[test]
fn parsing_allocates_nothing_whatever_length_is_declared() {
    let declared = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551615\r\n\r\n";
    for text in [BROWSER, declared] {
        let memory = measure(|| assert_eq!(request(text.as_bytes(), LIMITS), Ok(Some(text.len()))));
        assert_eq!(memory.count_total, 0);
    }
    let memory = measure(|| {
        let mut chunked = Chunked::default();
        let (used, piece) = chunked.step(b"ffffffffffffffff\r\nabc").unwrap();
        assert_eq!((used, piece), (21, Piece::Data(b"abc")));
    });
    assert_eq!(memory.count_total, 0);
    let mut matcher = Matcher::default();
    matcher.add(Method::GET, "/users/{id}/files/{rest...}");
    let memory = measure(|| {
        let found = matcher.find(&Method::GET, "/users/7/files/a/b.txt");
        let Found::Route(0, params) = found else { panic!("{found:?}") };
        assert_eq!(params.get("rest").as_deref(), Some("a/b.txt"));
    });
    assert_eq!(memory.count_total, 0);
}

/// How a chunked body ends: `Ok` with the bytes of it, or the status of the refusal.
fn body(coded: &[u8], piece: usize) -> Result<usize, u16> {
    let (mut chunked, mut bytes) = (Chunked::default(), 0);
    for mut piece in coded.chunks(piece) {
        while !piece.is_empty() {
            let (used, found) = chunked.step(piece).map_err(|refusal| refusal.status())?;
            piece = &piece[used..];
            match found {
                Piece::Data(data) => bytes += data.len(),
                Piece::More => {}
                Piece::End => return Ok(bytes),
            }
        }
    }
    panic!("not whole");
}

#[test]
fn every_limit_of_a_chunked_body_is_exact() {
    let extension = EXTENSION_BYTES_MAX as usize;
    for piece in [1, 1000, usize::MAX] {
        for (bytes, expected) in
            [(extension - 1, Ok(1)), (extension, Ok(1)), (extension + 1, Err(400))]
        {
            let one = format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(bytes));
            assert_eq!(body(one.as_bytes(), piece), expected, "an extension of {bytes}");
            let rest = "e".repeat(bytes - extension / 2);
            let two = format!("1;{}\r\na\r\n0;{rest}\r\n\r\n", "e".repeat(extension / 2));
            assert_eq!(body(two.as_bytes(), piece), expected, "two extensions, {bytes} together");
        }
        let trailer = TRAILER_BYTES_MAX as usize;
        for (bytes, expected) in [(trailer - 1, Ok(0)), (trailer, Ok(0)), (trailer + 1, Err(431))] {
            let one = format!("0\r\na:{}\r\n\r\n", "b".repeat(bytes - 2));
            assert_eq!(body(one.as_bytes(), piece), expected, "a trailer of {bytes}");
            let two = format!("0\r\na:b\r\nc:{}\r\n\r\n", "d".repeat(bytes - 5));
            assert_eq!(body(two.as_bytes(), piece), expected, "two fields of {bytes}");
        }
        for (digits, fits) in [(15, true), (16, true), (17, false)] {
            let coded = format!("{:0digits$x}\r\na\r\n0\r\n\r\n", 1);
            assert_eq!(body(coded.as_bytes(), piece).is_ok(), fits, "{digits} digits");
        }
    }
}

#[test]
fn chunk_of_the_largest_size_is_counted_down() {
    let mut chunked = Chunked::default();
    assert_eq!(chunked.step(b"ffffffffffffffff\r\n"), Ok((18, Piece::More)));
    let piece = vec![0; 1 << 20];
    for _ in 0..5000 {
        assert_eq!(chunked.step(&piece), Ok((1 << 20, Piece::Data(&piece))));
    }
}
