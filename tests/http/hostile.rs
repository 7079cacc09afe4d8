//! Clients that mean harm, one at a time: what has no end, what never comes, what claims to be
//! huge. Each costs a bounded number of bytes and a bounded time, and is told what was wrong.

use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use allocation_counter::measure;
use support::http::{body, describe, get, post, statuses};
use support::siege::{Siege, text, whole_responses};
use support::tcp::Peer;
use support::{MS, ceiling};
use waterwheel::Reactor;
use waterwheel::net::tcp;
use waterwheel::protocols::http::{Body, Limits, Reply, Response, Router, Server};

const LIMIT: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);
const MIB: u64 = 1024 * 1024;

const HEAD: &str = "GET / HTTP/1.1\r\nHost: h\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Collects bodies, and says what it got.
fn collecting(limits: Limits) -> Siege<()> {
    let server = Server::new(|reactor, _, request, reply| {
        reply.send(reactor, describe(request));
    });
    Siege::of(server, limits)
}

/// Bytes that a streaming handler has got, and how its last body ended.
#[derive(Default)]
struct Stream {
    bytes: usize,
    ends: usize,
    failed: usize,
    reply: Option<Reply>,
}

fn streaming(limits: Limits) -> Siege<Stream> {
    let server = Server::streaming(|_, stream: &mut Stream, _, reply| {
        stream.reply = Some(reply);
        |reactor, stream: &mut Stream, body| match body {
            Body::Data(bytes) => stream.bytes += bytes.len(),
            Body::End => {
                stream.ends += 1;
                stream.reply.take().map(|reply| reply.send(reactor, "whole"));
            }
            Body::Failed(_) => {
                stream.failed += 1;
                stream.reply = None;
            }
        }
    });
    Siege::of(server, limits)
}

/// Sends `begin` and then `more` again and again, as much as the server takes until the peer has
/// heard a response, and 2 MiB behind it; answers what it sent.
fn pour<S: 'static>(siege: &mut Siege<S>, peer: &mut Peer, begin: &str, more: &str) -> usize {
    let mut pending = begin.as_bytes().to_vec();
    let again = more.repeat(64 * 1024 / more.len());
    let (mut sent, mut enough) = (0, usize::MAX);
    siege.until(|_| {
        peer.read_all();
        if enough == usize::MAX && !peer.got.is_empty() {
            enough = sent + 2 * MIB as usize;
        }
        if pending.is_empty() {
            pending.extend_from_slice(again.as_bytes());
        }
        let count = peer.write(&pending);
        pending.drain(..count);
        sent += count;
        assert!(sent < 64 << 20, "it is taken without an end");
        sent >= enough
    });
    sent
}

#[test]
fn what_has_no_end_is_refused_and_takes_no_memory() {
    let _ceiling = ceiling(LIMIT);
    let limits = Limits { body_bytes_max: 64 * 1024, ..Limits::default() };
    for (what, begin, more, expected) in [
        ("a method", String::new(), "A", 501),
        ("a target", "GET /".to_owned(), "a", 414),
        ("a query", "GET /?".to_owned(), "a=b&", 414),
        ("a version", "GET / HTTP/1.1".to_owned(), "1", 400),
        ("a line", format!("{HEAD}A: "), "b", 431),
        ("a name", HEAD.to_owned(), "A", 431),
        ("spaces", format!("{HEAD}A:"), " ", 431),
        ("fields", HEAD.to_owned(), "A: b\r\n", 431),
        ("blank lines", String::new(), "\r\n", 400),
        ("a chunk's size", CHUNKED.to_owned(), "0", 400),
        ("an extension", format!("{CHUNKED}5;"), "x", 400),
        ("trailers", format!("{CHUNKED}0\r\n"), "A: b\r\n", 431),
        ("a chunked body", CHUNKED.to_owned(), "1\r\nx\r\n", 413),
        ("chunks", CHUNKED.to_owned(), "4001\r\n", 400),
        ("nonsense", "\u{1}\u{2}".to_owned(), "\u{3}", 400),
        ("lengths", HEAD.to_owned(), "Content-Length: 1\r\n", 431),
    ] {
        let mut siege = collecting(limits.clone());
        let mut peer = siege.peer();
        peer.send(get("/warm").as_bytes());
        siege.hear(&mut peer, "\r\n\r\nGET /warm");
        peer.got = Vec::with_capacity(4096);
        let mut sent = 0;
        let memory = measure(|| sent = pour(&mut siege, &mut peer, &begin, more));
        let status = statuses(&text(&peer));
        assert_eq!(status, [expected], "{what}: {:?}", text(&peer));
        assert!(text(&peer).contains("Connection: close\r\n"), "{what}");
        // The client's own 64 KiB twice, a head and one read; of the body twice what is allowed.
        assert!(memory.bytes_max < 640 * 1024, "{what}: {} of {sent} sent", memory.bytes_max);
        // It sends on, and the grace of the close is all the time it gets.
        siege.wait(Limits::default().close_grace + SECOND);
        assert_eq!(siege.reactor.sources(), 1, "{what}");
        siege.assert_clean(what);
    }
}

#[test]
fn huge_lengths_allocate_nothing() {
    let _ceiling = ceiling(LIMIT);
    let lengths: [(&str, u16); 9] = [
        ("4294967295", 413),
        ("4294967296", 413),
        ("9223372036854775807", 413),
        ("9223372036854775808", 413),
        ("18446744073709551615", 413),
        ("18446744073709551616", 400),
        ("18446744073709551617", 400),
        ("340282366920938463463374607431768211456", 400),
        ("00000000000000000000000000000004294967296", 413),
    ];
    let chunks: [(&str, u16); 8] = [
        ("ffffffff", 413),
        ("100000000", 413),
        ("7fffffffffffffff", 413),
        ("8000000000000000", 413),
        ("ffffffffffffffff", 413),
        ("10000000000000000", 400),
        ("ffffffffffffffffffffffff", 400),
        ("0000000000000000000000100000000", 400),
    ];
    let of_length =
        |length: &str| format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}");
    let lengths = lengths.map(|(length, status)| {
        // With some of the body in the same read, and without.
        (format!("{}\r\n\r\n", of_length(length)), status)
    });
    let chunks = chunks.map(|(size, status)| (format!("{CHUNKED}{size}\r\n"), status));
    for (request, expected) in lengths.iter().chain(&chunks) {
        for behind in ["", "some of it"] {
            // Collected: limits at their largest would let anything in, and it must be there first.
            for body_bytes_max in [1024 * 1024, usize::MAX] {
                let limits = Limits { body_bytes_max, ..Limits::default() };
                let mut siege = collecting(limits);
                let mut peer = siege.peer();
                peer.send(get("/warm").as_bytes());
                siege.hear(&mut peer, "/warm");
                peer.got = Vec::with_capacity(128 * 1024);
                let memory = measure(|| {
                    peer.send(request.as_bytes());
                    siege.settle();
                    let _ = peer.write(behind.as_bytes());
                    siege.settle();
                    peer.read_all();
                });
                assert!(memory.bytes_max < 160 * 1024, "{request}: {}", memory.bytes_max);
                let heard = statuses(&text(&peer));
                let is_waiting = *expected == 413 && body_bytes_max == usize::MAX;
                // A chunk is too long when its bytes come, or before.
                let is_early = request.starts_with(CHUNKED) && *expected == 413;
                match heard[..] {
                    [] => assert!(is_waiting || is_early, "{request}"),
                    [status] => assert!(!is_waiting && status == *expected, "{request} {status}"),
                    _ => panic!("{request}: {heard:?}"),
                }
                drop(peer);
                siege.assert_clean(request);
            }
        }
    }
}

#[test]
fn streamed_bodies_may_say_they_are_huge_and_only_what_comes_counts() {
    let _ceiling = ceiling(LIMIT);
    for (head, ok) in [
        ("Content-Length: 4294967296\r\n\r\n", true),
        ("Content-Length: 9223372036854775808\r\n\r\n", true),
        ("Content-Length: 18446744073709551615\r\n\r\n", true),
        ("Content-Length: 18446744073709551616\r\n\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n100000000\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", false),
    ] {
        let mut siege = streaming(Limits::default());
        let mut peer = siege.peer();
        peer.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{head}").as_bytes());
        siege.settle();
        let _ = peer.write(&[b'x'; 1000]);
        siege.settle();
        peer.read_all();
        if ok {
            assert_eq!(
                (siege.state.bytes, siege.state.ends, peer.got.len()),
                (1000, 0, 0),
                "{head}"
            );
        } else {
            assert_eq!(statuses(&text(&peer)), [400], "{head}");
        }
        drop(peer);
        siege.settle();
        assert_eq!(siege.state.ends, 0);
        assert!(siege.state.failed == usize::from(ok) || !ok, "{head}: {}", siege.state.failed);
        siege.assert_clean(head);
    }
}

#[test]
fn half_a_request_and_silence_ends_at_its_limit_in_every_place() {
    let _ceiling = ceiling(LIMIT);
    let length = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n";
    let expects =
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    for (sent, seconds, expected) in [
        (String::new(), 75, None),
        (get("/"), 75, Some(200)),
        ("G".to_owned(), 10, Some(408)),
        ("GET / HTTP/1.1\r\nHost: h\r\n".to_owned(), 10, Some(408)),
        ("\r\n".to_owned(), 10, Some(408)),
        (format!("{}G", get("/")), 10, Some(408)),
        (length.to_owned(), 10, Some(408)),
        (format!("{length}half"), 10, Some(408)),
        (expects.to_owned(), 10, Some(408)),
        (CHUNKED.to_owned(), 10, Some(408)),
        (format!("{CHUNKED}5"), 10, Some(408)),
        (format!("{CHUNKED}5\r\nhel"), 10, Some(408)),
        (format!("{CHUNKED}5\r\nhello\r\n0\r\n"), 10, Some(408)),
    ] {
        let mut siege = collecting(Limits::default());
        let mut peer = siege.peer();
        peer.send(sent.as_bytes());
        siege.settle();
        siege.wait(seconds * SECOND - SECOND / 4);
        assert!(peer.read_all().is_none(), "{sent:?} is ended too early");
        siege.wait(SECOND);
        let heard = siege.hear_out(&mut peer);
        assert_eq!(peer.end, Some(Ok(())), "{sent:?}: an end in order");
        assert_eq!(statuses(&heard).last().copied(), expected, "{sent:?}: {heard}");
        // It hangs up, or it does not.
        siege.wait(Limits::default().close_grace + SECOND);
        assert_eq!(siege.reactor.sources(), 1, "{sent:?}");
        siege.assert_clean(&sent);
    }
}

#[test]
fn a_byte_a_second_gets_nobody_further() {
    let _ceiling = ceiling(LIMIT);
    let field = format!("{HEAD}A: {}", "b".repeat(100));
    let body =
        format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{}", "b".repeat(99));
    let chunks = format!("{CHUNKED}{}", "1\r\nx\r\n".repeat(30));
    for (all, at_once, seconds) in
        [(&field, 0, 10..=11), (&body, body.len() - 99, 10..=11), (&chunks, CHUNKED.len(), 10..=11)]
    {
        let mut siege = collecting(Limits::default());
        let mut peer = siege.peer();
        peer.send(&all.as_bytes()[..at_once]);
        siege.settle();
        let mut count = 0;
        let mut bytes = all.as_bytes()[at_once..].iter();
        while peer.read_all().is_none() {
            let _ = peer.write(&[*bytes.next().expect("a limit before all is sent")]);
            siege.settle();
            siege.wait(SECOND);
            siege.settle();
            count += 1;
        }
        assert!(seconds.contains(&count), "{all:?}: {count} s");
        assert_eq!(statuses(&text(&peer)), [408]);
        siege.assert_clean(all);
    }
}

#[test]
fn what_a_client_says_splits_no_response() {
    let _ceiling = ceiling(LIMIT);
    let router = || {
        Router::<()>::new()
            .get("/to/{place}", |reactor, _, request, reply| {
                let place = request.param("place").unwrap_or_default().into_owned();
                let response = Response::text("moved").header("Location", place.as_str());
                reply.send(reactor, response.header("X-Query", request.query().unwrap_or("")));
            })
            .get("/name/{name}", |reactor, _, request, reply| {
                let name = request.param("name").unwrap_or_default().into_owned();
                let sender = reply.stream(reactor, Response::text("").header(&name, "x"));
                sender.end(reactor);
            })
    };
    for (target, expected) in [
        ("/to/here", 200),
        ("/to/here%0d%0aSet-Cookie:%20evil=1", 500),
        ("/to/here%0aSet-Cookie:%20evil=1", 500),
        ("/to/here%0dSet-Cookie:%20evil=1", 500),
        ("/to/%0d%0a%0d%0aHTTP%2f1.1%20200%20OK%0d%0aevil:%201", 500),
        ("/to/x%00evil", 400),
        ("/to/x%7fevil", 500),
        ("/to/x?%0d%0aevil: 1", 400), // A space, in a target.
        ("/name/evil%0d%0aX", 500),
        ("/name/evil:%20x", 500),
        ("/name/Content-Length", 500),
        ("/name/transfer-encoding", 500),
        ("/name/", 404),
    ] {
        let mut siege = Siege::of(Server::routes(router()), Limits::default());
        let mut peer = siege.peer();
        peer.send(get(target).as_bytes());
        peer.send(get("/to/end").as_bytes());
        peer.finish();
        let heard = siege.hear_out(&mut peer);
        assert_eq!(statuses(&heard)[0], expected, "{target}: {heard}");
        assert!(!heard.contains("evil"), "{target}: {heard}");
        // One for each request, unless the first was none.
        let closed = heard.contains("Connection: close");
        assert_eq!(statuses(&heard).len(), if closed { 1 } else { 2 }, "{heard}");
        siege.assert_clean(target);
    }
}

#[test]
fn reader_of_a_huge_response_that_is_slow_costs_a_piece_of_it() {
    let _ceiling = ceiling(LIMIT);
    const BYTES: usize = 256 << 20;
    let huge: Rc<[u8]> = vec![b'x'; BYTES].into();
    let own = huge.clone();
    let server = Server::<()>::new(move |reactor, _, _, reply| {
        reply.send(reactor, Response::bytes(own.clone()));
    });
    let mut siege = Siege::of(server, Limits::default());
    let mut peer = siege.peer();
    let mut piece = vec![0; 64 * 1024];
    let mut total = 0;
    // It empties the kernel's buffers every 20 s: slow, but no reason to cut it off.
    let memory = measure(|| {
        peer.send(get("/").as_bytes());
        for _ in 0..20 {
            siege.settle();
            while let Ok(count) = peer.socket.read(&mut piece) {
                total += count;
            }
            siege.wait(20 * SECOND);
        }
    });
    assert!(memory.bytes_max < 2 * MIB, "{} bytes for it", memory.bytes_max);
    assert!(total > 2 << 20 && siege.reactor.sources() == 2, "{total}");
    // And then nothing any more; the kernel may still have had some room.
    for _ in 0..3 {
        siege.settle();
        siege.wait(31 * SECOND);
    }
    assert_eq!(siege.reactor.sources(), 1, "the write timeout is up");
    drop(peer);
    siege.assert_clean("a slow reader");
    assert_eq!(Rc::strong_count(&huge), 2, "the response is let go");
}

/// What the kernel has taken of a response that nobody reads.
#[cfg(target_os = "linux")]
fn taken_by_the_kernel(listen: tcp::Listen) -> usize {
    let server = Server::<()>::new(move |reactor, _, _, reply| {
        reply.send(reactor, vec![b'x'; 16 << 20]);
    });
    let mut reactor = Reactor::new().unwrap();
    let listener = server.listen_with(&mut reactor, "127.0.0.1:0", listen).unwrap();
    let mut peer = Peer::to(reactor[listener].local_addr());
    peer.send(get("/").as_bytes());
    let mut quiet = 0;
    while quiet < 20 {
        let ran = reactor.turn(&mut (), Some(5 * MS)).unwrap();
        quiet = if ran == 0 { quiet + 1 } else { 0 };
    }
    drop(reactor); // What it has is sent still.
    while peer.read_all().is_none() {
        std::thread::yield_now();
    }
    peer.got.len()
}

#[test]
#[cfg(target_os = "linux")]
fn kernel_takes_little_of_a_response_ahead_of_who_does_not_read() {
    let _ceiling = ceiling(LIMIT);
    let usual = taken_by_the_kernel(tcp::Listen::new());
    let all = taken_by_the_kernel(tcp::Listen::new().unsent_bytes(usize::MAX));
    assert!(usual < 512 * 1024, "{usual} bytes");
    assert!(2 * usual < all, "{usual} of what it could: {all}");
}

#[test]
fn crowd_is_told_503_then_closed_unheard_and_who_was_there_is_served() {
    let _ceiling = ceiling(LIMIT);
    let limits = Limits { connections_max: 3, ..Limits::default() };
    let mut siege = collecting(limits.clone());
    let mut served: Vec<Peer> = (0..3).map(|_| siege.peer()).collect();
    let mut uploads: Vec<Peer> = (0..2).map(|_| siege.peer()).collect();
    for peer in &mut uploads {
        peer.send(post("/", &"x".repeat(100_000)).as_bytes());
    }
    for peer in &mut uploads {
        let heard = siege.hear_out(peer);
        assert!(heard.starts_with("HTTP/1.1 503 "), "{heard}");
        assert!(heard.ends_with("the limit on connections is reached"), "{heard}");
    }
    drop(uploads);
    siege.until(|reactor| reactor.sources() == 4);
    // Who says nothing holds up none of those that are served, and goes in the time of a head.
    let mut crowd: Vec<Peer> = (0..64).map(|_| siege.peer()).collect();
    for refused in 1..4 {
        let mut more = Peer::to(siege.addr);
        let _ = more.write(get("/").as_bytes());
        assert_eq!(siege.hear_out(&mut more), "");
        assert_eq!(siege.reactor[siege.listener].refused(), refused);
    }
    // A seat that is free is taken by the next, whoever else is there.
    drop(served.pop());
    siege.until(|reactor| reactor.sources() == 1 + 2 + 64);
    served.push(siege.peer());
    for peer in &mut served {
        peer.send(post("/", "room").as_bytes());
        siege.hear(peer, "room");
        assert_eq!(body(&text(peer)), "POST / room");
    }
    siege.wait(limits.head_timeout);
    for peer in &mut crowd {
        assert_eq!(siege.hear_out(peer), "");
    }
    drop(crowd);
    siege.until(|reactor| reactor.sources() == 4);
    let mut more = siege.peer();
    more.send(get("/").as_bytes());
    assert!(siege.hear_out(&mut more).starts_with("HTTP/1.1 503 "));
    drop((served, more));
    siege.assert_clean("a crowd");
}

#[test]
fn one_request_too_many_is_not_answered() {
    let _ceiling = ceiling(LIMIT);
    let limits = Limits { requests_max: 2, ..Limits::default() };
    let mut siege = collecting(limits);
    let mut peers: Vec<Peer> = (0..3).map(|_| siege.peer()).collect();
    for peer in &mut peers {
        peer.send(get("/").repeat(5).as_bytes());
        let heard = siege.hear_out(peer);
        assert_eq!(whole_responses(&heard).len(), 2, "{heard}");
        assert_eq!(heard.matches("Connection: close").count(), 1);
    }
    drop(peers);
    siege.until(|reactor| reactor.sources() == 1);
    let mut again = siege.peer();
    again.send(post("/", "room").as_bytes());
    siege.hear(&mut again, "room");
    assert_eq!(body(&text(&again)), "POST / room");
    drop(again);
    siege.assert_clean("limits");
}
