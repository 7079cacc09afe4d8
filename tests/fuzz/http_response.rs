//! Answers: whatever the bytes and wherever they are cut, the client reads the same; what it takes
//! for whole is whole, and no response leads to two.
//!
//! The first bytes choose the method, the limits, the cuts, and whether the rest is the stream
//! itself or choices of what to build one from.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::cut;
use support::Rng;
use waterwheel::Reactor;
use waterwheel::net::{Event, Limits, memory};
use waterwheel::protocols::http::parts::{
    Framing, HeadLimits, INTERIM_MAX, Reader, ResponseHead, Step, room,
};
use waterwheel::protocols::http::{CallEvent, Client, ClientLimits, ClientRequest, Error, Method};

pub fn http_response(bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(4));
    let mut rng = Rng::from_bytes(head);
    let built = rng.below(2) == 1;
    let method =
        [Method::GET, Method::GET, Method::GET, Method::HEAD][rng.below(4) as usize].clone();
    let limits = HeadLimits {
        head_bytes_max: [8192, 8192, 8192, 100][rng.below(4) as usize],
        headers_max: [64, 64, 64, 3][rng.below(4) as usize],
        target_bytes_max: usize::MAX,
    };
    let stream = if built { build(&mut Rng::from_bytes(rest)) } else { rest.to_vec() };
    let mut cuts = Rng::from_seed(rng.below(256) + 1);
    let expected = read([&stream[..]], &method, limits);
    let pieces = cut(&stream, &mut cuts);
    assert_eq!(read(pieces.iter().copied(), &method, limits), expected, "in pieces");
    assert_eq!(read(stream.chunks(1), &method, limits), expected, "byte by byte");
    let told = through_a_client(pieces, method, limits);
    assert_eq!(told, expected.told(stream.len()), "by a client");
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    interim: u32,
    /// The head as text, and how its body ends.
    head: Option<String>,
    body: Vec<u8>,
    refused: bool,
    /// The response was whole, and this is where it ended.
    end: Option<usize>,
    /// It is whole as the connection ends.
    ends_with_connection: bool,
    keeps_alive: bool,
}

/// Reads as the client does.
fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    method: &Method,
    limits: HeadLimits,
) -> Read {
    let (mut reader, mut read) = (Reader::new(method.clone(), limits), Read::default());
    let (mut input, mut used_before) = (Vec::new(), 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let mut room = room();
            let (used, goes_on) = match reader.step(&input, &mut room) {
                Err(_) => {
                    read.refused = true;
                    return read;
                }
                Ok((used, Step::More)) => (used, false),
                Ok((used, Step::Interim(status))) => {
                    assert!(status.is_informational() && status != 101);
                    read.interim += 1;
                    (used, true)
                }
                Ok((used, Step::Head(head))) => {
                    check(&head, method);
                    assert!(used == head.bytes && used <= limits.head_bytes_max);
                    assert!(head.headers.len() <= limits.headers_max);
                    assert!(read.head.replace(format!("{head:?}")).is_none(), "two heads");
                    (used, true)
                }
                Ok((used, Step::Data(bytes))) => {
                    assert!(!bytes.is_empty());
                    read.body.extend(bytes);
                    (used, true)
                }
                Ok((used, Step::End)) => {
                    assert!(reader.is_done());
                    read.end = Some(used_before + used);
                    read.keeps_alive = reader.keeps_alive();
                    return read;
                }
            };
            assert!(used > 0 || !goes_on, "it stands still");
            input.drain(..used);
            used_before += used;
            if !goes_on {
                break;
            }
        }
    }
    assert!(read.interim <= INTERIM_MAX);
    match reader.finish(&input) {
        Ok(whole) => read.ends_with_connection = whole,
        Err(_) => read.refused = true,
    }
    assert!(!reader.keeps_alive() || !read.ends_with_connection);
    read
}

/// What RFC 9112, 6.3, says of where a body ends, in its own order.
fn check(head: &ResponseHead<'_>, method: &Method) {
    let (length, coding) =
        (head.headers.get("content-length"), head.headers.get("transfer-encoding"));
    let none = method == Method::HEAD || matches!(head.status.as_u16(), 100..=199 | 204 | 304);
    assert!(length.is_none() || coding.is_none(), "both lengths: {head:?}");
    let expected = match (length, coding) {
        _ if none => Framing::Length(0),
        (None, Some(coding)) => {
            assert!(coding.trim_matches([',', ' ', '\t']).eq_ignore_ascii_case("chunked"));
            Framing::Chunked
        }
        (Some(length), _) => {
            assert!(length.bytes().all(|digit| digit.is_ascii_digit()));
            Framing::Length(length.parse().expect("it fits"))
        }
        (None, None) => Framing::UntilClose,
    };
    assert_eq!(head.body, expected, "{head:?}");
}

/// What a call was told: the body, and how it ended; how many connections idle before theirs ends.
type Told = (Vec<u8>, Option<&'static str>, usize);

impl Read {
    /// What a call is told of this, of so many bytes in all.
    fn told(self, bytes: usize) -> Told {
        let end = match () {
            () if self.refused => "refused",
            () if self.end.is_some() || self.ends_with_connection => "end",
            () => "lost",
        };
        let idles = self.keeps_alive && self.end == Some(bytes);
        (self.body, Some(end), usize::from(idles))
    }
}

/// The same through a client, over a connection that brings piece by piece and then ends.
fn through_a_client(pieces: Vec<&[u8]>, method: Method, limits: HeadLimits) -> Told {
    let mut reactor = Reactor::<Told>::new().expect("a selector");
    let peer = Rc::new(RefCell::new(None));
    let theirs = peer.clone();
    let client = Client::new().limits(ClientLimits {
        head_bytes_max: limits.head_bytes_max,
        headers_max: limits.headers_max,
        ..ClientLimits::default()
    });
    let client = client.dialer(move |reactor, _, done| {
        let (ours, other) = memory::pair(reactor);
        let half_open = Limits { half_open: true, ..Limits::default() };
        let conn = other.limits(half_open).open(reactor, |_, _, _, event| {
            assert!(!matches!(event, Event::Drained));
        });
        *theirs.borrow_mut() = Some(conn);
        reactor.defer(move |reactor, state| done(reactor, state, Ok(ours)));
        Ok(None)
    });
    client.stream(
        &mut reactor,
        ClientRequest::new(method, "http://a/"),
        |_, told: &mut Told, _, event| {
            assert!(told.1.is_none(), "{event:?} after the last");
            match event {
                CallEvent::Head(_) => assert!(told.0.is_empty()),
                CallEvent::Data(bytes) => told.0.extend(bytes),
                CallEvent::Drained => panic!("nothing was written"),
                CallEvent::End => told.1 = Some("end"),
                CallEvent::Failed(Error::Refused { .. }) => told.1 = Some("refused"),
                CallEvent::Failed(Error::Lost { .. }) => told.1 = Some("lost"),
                CallEvent::Failed(error) => panic!("{error}"),
            }
        },
    );
    let mut told = Told::default();
    let mut turn = |reactor: &mut Reactor<Told>| {
        for _ in 0..3 {
            reactor.turn(&mut told, Some(Duration::ZERO)).expect("a turn");
        }
    };
    turn(&mut reactor);
    for piece in pieces {
        let conn = peer.borrow().and_then(|conn| reactor.get_mut(conn));
        let Some(conn) = conn else { break };
        let _ = conn.write(piece);
        turn(&mut reactor);
    }
    let idle = client.idle();
    if let Some(conn) = peer.borrow().and_then(|conn| reactor.get_mut(conn)) {
        conn.shutdown();
    }
    turn(&mut reactor);
    turn(&mut reactor);
    assert_eq!(client.connections(), 0, "all is over");
    told.2 = idle;
    told
}

/// A response from choices, right for the most part.
fn build(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.below(3) {
        let interim = ["100 Continue", "103 Early", "101 Switching", "102 P\r\nA: b"];
        out.extend(format!("HTTP/1.1 {}\r\n\r\n", interim[rng.below(4) as usize]).bytes());
    }
    let version = ["1.1", "1.1", "1.1", "1.0", "2.0"][rng.below(5) as usize];
    let status = ["200 OK", "204 No", "304 Not", "404", "999 X", "20 0"][rng.below(6) as usize];
    out.extend(format!("HTTP/{version} {status}\r\n").bytes());
    let fields = [
        "Content-Length: 5",
        "Content-Length: 0",
        "Content-Length: 18446744073709551616",
        "Content-Length: 5, 5",
        "content-length:5",
        "Transfer-Encoding: chunked",
        "transfer-encoding:Chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: , chunked,",
        "A:\r\n b\r\n\tc",
        "Connection: close",
        "Connection: keep-alive",
        "A: b",
        "A : b",
        " folded",
        "Location: /",
    ];
    for _ in 0..rng.below(4) {
        let end = ["\r\n", "\r\n", "\r\n", "\n"][rng.below(4) as usize];
        out.extend(fields[rng.below(fields.len() as u64) as usize].bytes().chain(end.bytes()));
    }
    out.extend(b"\r\n");
    let bodies =
        ["", "hello", "5\r\nhello\r\n0\r\n\r\n", "1;x=y\r\na\r\n0\r\nT: u\r\n\r\n", "5\r\nhel"];
    out.extend(bodies[rng.below(5) as usize].bytes());
    out.extend((0..rng.below(8)).map(|_| rng.below(256) as u8));
    out
}
