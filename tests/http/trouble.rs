//! What goes wrong while an HTTP server answers: clients that go, handlers that panic, answers that
//! are not ended, uploads nobody wants, the end of the server itself.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::ceiling;
use support::http::{body, get, post, statuses};
use support::siege::{Siege, noise, text, whole_responses};
use support::tcp::{Peer, turn_until};
use waterwheel::net::{Pressure, drain};
use waterwheel::protocols::http::{
    Body, Limits, Method, Reply, Response, Router, Sender, Server, StatusCode,
};
use waterwheel::{Context, Reactor};

const LIMIT: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);
const CHUNKED: &str = "POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What the handlers keep and what they were told.
#[derive(Default)]
struct Told {
    replies: Vec<Reply>,
    senders: Vec<Sender>,
    gone: usize,
    failed: usize,
    drained: usize,
}

fn router() -> Router<Told> {
    let large: Rc<[u8]> = vec![b'x'; 16 << 20].into();
    Router::new()
        .get("/now", |reactor, _, _, reply| {
            reply.send(reactor, "x");
        })
        .get("/last", |reactor, _, _, reply| {
            reply.send(reactor, Response::text("x").header("Connection", "close"));
        })
        .get("/later", |reactor, told: &mut Told, _, reply| {
            reply.on_gone(reactor, |_, told: &mut Told| told.gone += 1);
            told.replies.push(reply);
        })
        .get("/large", move |reactor, _, _, reply| {
            reply.send(reactor, Response::bytes(large.clone()));
        })
        .get("/stream", |reactor, told: &mut Told, _, reply| {
            reply.on_gone(reactor, |_, told: &mut Told| told.gone += 1);
            let sender = reply.stream(reactor, "");
            sender.on_drained(reactor, |_, told: &mut Told| told.drained += 1);
            while sender.write(reactor, &[b'x'; 10_000]) == Pressure::Below {}
            told.senders.push(sender);
        })
        .get("/quiet", |reactor, told: &mut Told, _, reply| {
            reply.on_gone(reactor, |_, told: &mut Told| told.gone += 1);
            let sender = reply.stream(reactor, "");
            let _ = sender.write(reactor, b"some");
            told.senders.push(sender);
        })
        .post("/collect", |reactor, _, request, reply| {
            reply.send(reactor, request.body().len().to_string());
        })
        .stream(Method::POST, "/upload", |reactor, told: &mut Told, _, reply| {
            reply.on_gone(reactor, |_, told: &mut Told| told.gone += 1);
            told.replies.push(reply);
            |_, told: &mut Told, body| told.failed += usize::from(matches!(body, Body::Failed(_)))
        })
        .stream(Method::POST, "/held", |reactor, told: &mut Told, _, reply| {
            reply.on_gone(reactor, |_, told: &mut Told| told.gone += 1);
            reply.pause_body(reactor);
            told.replies.push(reply);
            |_, told: &mut Told, body| told.failed += usize::from(matches!(body, Body::Failed(_)))
        })
}

fn siege() -> Siege<Told> {
    Siege::of(Server::routes(router()), Limits::default())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    Reset,
    Finished,
    Silent,
}

#[test]
fn clients_may_go_in_any_state_and_nothing_is_left_of_them() {
    let _ceiling = ceiling(LIMIT);
    let length = "POST /collect HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n";
    let held = "POST /held HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
    // What is sent; how often a handler hears that its client is gone; whether its body fails.
    // While reading is paused, only a reset tells of either.
    let states = [
        ("nothing", String::new(), 0, 0),
        ("idle", get("/now"), 0, 0),
        ("in a head", "GET /now HTTP/1.1\r\nHo".into(), 0, 0),
        ("in a collected body", format!("{length}{}", "x".repeat(500_000)), 0, 0),
        ("in a streamed body", format!("{CHUNKED}ff\r\nx"), 1, 1),
        ("behind a streamed body", format!("{CHUNKED}1\r\nx\r\n0\r\n\r\n"), 1, 0),
        ("body paused", format!("{held}{}", "x".repeat(50_000)), 1, 1),
        ("reply pending", get("/later"), 1, 0),
        ("reply pending, more waiting", get("/later") + &get("/now").repeat(50), 1, 0),
        ("reply pending, reading paused", get("/later") + &get("/now").repeat(9000), 1, 0),
        ("in a large response", get("/large"), 0, 0),
        ("in a large response, more waiting", get("/large") + &get("/later").repeat(3), 0, 0),
        ("in large responses", get("/large").repeat(10), 0, 0),
        ("in a stream", get("/stream"), 1, 0),
        ("in a quiet stream", get("/quiet"), 1, 0),
        ("in a quiet stream, more waiting", get("/quiet") + &get("/now"), 1, 0),
        ("closing", get("/last"), 0, 0),
        ("refused", "NONSENSE\r\n\r\n".into(), 0, 0),
        ("refused, still sending", format!("NONSENSE\r\n\r\n{}", "x".repeat(100_000)), 0, 0),
        ("not found, still sending", post("/nowhere", &"x".repeat(400_000)), 0, 0),
    ];
    for (state, sent, gone, failed) in &states {
        for leaves in [Leaves::Reset, Leaves::Finished, Leaves::Silent] {
            let when = format!("{state}, {leaves:?}");
            let mut siege = siege();
            let mut peer = siege.peer();
            let mut left = sent.as_bytes();
            for _ in 0..20 {
                left = &left[peer.write(left)..];
                siege.settle();
            }
            match leaves {
                Leaves::Reset => peer.reset(),
                Leaves::Finished => {
                    peer.finish();
                    siege.settle();
                    drop(peer);
                }
                Leaves::Silent => drop(peer),
            }
            siege.settle();
            let unheard = state.ends_with("paused") && leaves != Leaves::Reset;
            let (gone, failed) = if unheard { (0, 0) } else { (*gone, *failed) };
            assert_eq!((siege.state.gone, siege.state.failed), (gone, failed), "{when}, at once");
            siege.wait(20 * SECOND);
            for reply in std::mem::take(&mut siege.state.replies) {
                reply.send(&mut siege.reactor, "late");
            }
            siege.settle();
            for sender in std::mem::take(&mut siege.state.senders) {
                let _ = sender.write(&mut siege.reactor, b"late");
                sender.end(&mut siege.reactor);
            }
            siege.settle();
            // Those that waited behind have their turn, and are dropped: a 500 to nobody.
            while !siege.state.replies.is_empty() {
                siege.state.replies.clear();
                siege.settle();
            }
            assert_eq!(siege.state.gone, gone, "{when}");
            assert_eq!(siege.state.failed, failed, "{when}");
            siege.assert_clean(&when);
        }
    }
}

#[test]
fn response_that_is_not_ended_looks_cut_off() {
    let _ceiling = ceiling(LIMIT);
    for (path, version) in [("/quiet", "1.1"), ("/stream", "1.1"), ("/quiet", "1.0")] {
        let mut siege = siege();
        let mut peer = siege.peer();
        peer.send(format!("GET {path} HTTP/{version}\r\nHost: h\r\n\r\n").as_bytes());
        siege.settle();
        siege.state.senders.clear();
        siege.settle();
        let mut all = Vec::new();
        siege.until(|_| {
            peer.read_all();
            all.append(&mut peer.got);
            peer.end.is_some()
        });
        // A FIN would be the end of the response for HTTP/1.0.
        assert_eq!(peer.end, Some(Err(ErrorKind::ConnectionReset)), "{path} {version}");
        assert!(!all.ends_with(b"0\r\n\r\n"));
        siege.assert_clean(path);
    }
}

/// What a handler unwinds with; nothing is printed.
struct OnPurpose;

fn panic_on_purpose() -> ! {
    resume_unwind(Box::new(OnPurpose));
}

/// Turns until `done`, as a program does that goes on after a panic; answers how many there were.
fn bear<S: 'static>(siege: &mut Siege<S>, mut done: impl FnMut(&mut Siege<S>) -> bool) -> usize {
    let panics = Cell::new(0);
    for _ in 0..5_000 {
        if done(siege) {
            return panics.get();
        }
        let turn = || siege.reactor.turn(&mut siege.state, Some(Duration::from_millis(1)));
        match catch_unwind(AssertUnwindSafe(turn)) {
            Ok(turned) => drop(turned.expect("a turn")),
            Err(panic) if panic.is::<OnPurpose>() => panics.set(panics.get() + 1),
            Err(panic) => resume_unwind(panic),
        }
    }
    panic!("waited in vain at {:?}", siege.reactor);
}

fn trap() -> Router<Told> {
    router()
        .get("/trap", |_, _, _, _| panic_on_purpose())
        .get("/kept", |_, told: &mut Told, _, reply| {
            told.replies.push(reply);
            panic_on_purpose();
        })
        .get("/sent", |reactor, _, _, reply| {
            reply.send(reactor, "sent");
            panic_on_purpose();
        })
        .get("/begun", |reactor, told: &mut Told, _, reply| {
            told.senders.push(reply.stream(reactor, "begun"));
            panic_on_purpose();
        })
        .get("/room", |reactor, told: &mut Told, _, reply| {
            let sender = reply.stream(reactor, "");
            sender.on_drained(reactor, |reactor, told: &mut Told| {
                told.drained += 1;
                if told.drained < 3 {
                    while told.senders[0].write(reactor, &[b'x'; 10_000]) == Pressure::Below {}
                }
                panic_on_purpose();
            });
            while sender.write(reactor, &[b'x'; 10_000]) == Pressure::Below {}
            told.senders.push(sender);
        })
        .get("/gone", |reactor, told: &mut Told, _, reply| {
            reply.on_gone(reactor, |_, _: &mut Told| panic_on_purpose());
            told.replies.push(reply);
        })
        .stream(
            Method::POST,
            "/head",
            |_, _: &mut Told, _, _| -> fn(&mut Context<Told>, &mut Told, Body<'_>) {
                panic_on_purpose()
            },
        )
        .stream(Method::POST, "/body", |_, told: &mut Told, _, reply| {
            told.replies.push(reply);
            |_, _, _| panic_on_purpose()
        })
}

#[test]
fn panic_of_a_handler_is_the_end_of_its_connection_alone() {
    let _ceiling = ceiling(LIMIT);
    // What is sent; what is heard, if the handler has let its reply go.
    for (sent, expected) in [
        (get("/trap"), vec![500]),
        (get("/now") + &get("/trap") + &get("/now"), vec![200, 500]),
        (get("/sent") + &get("/now"), vec![200]),
        (get("/kept") + &get("/now"), vec![500]),
        (get("/begun") + &get("/now"), vec![]), // A reset, which drops what is unsent.
        (post("/head", "body") + &get("/now"), vec![500]),
        (post("/body", "body") + &get("/now"), vec![500]),
    ] {
        let mut siege = Siege::of(Server::routes(trap()), Limits::default());
        let mut other = siege.peer();
        other.send(get("/later").as_bytes());
        siege.until(|reactor| reactor.sources() == 2);
        siege.settle();
        let waits = siege.state.replies.pop().expect("one request");
        let mut peer = siege.peer();
        peer.send(sent.as_bytes());
        let panics = bear(&mut siege, |siege| {
            peer.read_all();
            siege.state.replies.clear(); // Whoever keeps one lets it go at last.
            siege.state.senders.clear();
            peer.end.is_some()
        });
        assert_eq!(panics, 1, "{sent:?}");
        assert_eq!(statuses(&text(&peer)), expected, "{sent:?}: {}", text(&peer));
        // The other one knows nothing of it.
        assert!(waits.send(&mut siege.reactor, "here"));
        siege.hear(&mut other, "here");
        other.send(get("/now").as_bytes());
        siege.hear(&mut other, "\r\n\r\nx");
        assert_eq!(statuses(&text(&other)), [200, 200]);
        drop((peer, other));
        siege.assert_clean(&sent);
    }
    // Told that there is room, again and again.
    let mut siege = Siege::of(Server::routes(trap()), Limits::default());
    let mut peer = siege.peer();
    peer.send(get("/room").as_bytes());
    let panics = bear(&mut siege, |siege| {
        peer.read_all();
        siege.state.drained == 3
    });
    assert_eq!(panics, 3);
    assert!(siege.state.senders.remove(0).end(&mut siege.reactor));
    siege.hear(&mut peer, "\r\n0\r\n\r\n");
    assert_eq!(statuses(&text(&peer)), [200]);
    drop(peer);
    siege.assert_clean("room");
    // Told that the client has gone.
    let mut siege = Siege::of(Server::routes(trap()), Limits::default());
    let peer = siege.peer();
    (&peer.socket).write_all(get("/gone").as_bytes()).unwrap();
    siege.settle();
    peer.reset();
    let panics = bear(&mut siege, |siege| siege.reactor.sources() == 1);
    assert_eq!(panics, 1);
    assert!(!siege.state.replies.remove(0).send(&mut siege.reactor, ""));
    siege.assert_clean("gone");
}

/// Uploads it all, whatever is answered meanwhile, and only then reads: what the server says must
/// still be there.
fn upload(addr: SocketAddr, head: &str, piece: &[u8], bytes: usize) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..bytes / piece.len() {
        stream.write_all(piece).expect("the server hears the client out");
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("the whole response");
    String::from_utf8(heard).unwrap()
}

#[test]
fn early_response_reaches_who_is_still_uploading_a_hundred_times_of_a_hundred() {
    let _ceiling = ceiling(LIMIT);
    const ROUNDS: usize = 100;
    const BYTES: usize = 6 << 20;
    let long = String::from_utf8(noise(50_000)).unwrap();
    let router =
        router().stream(Method::POST, "/private", move |reactor, _: &mut Told, _, reply| {
            let response = Response::text(long.clone()).status(StatusCode::UNAUTHORIZED);
            reply.send(reactor, response.header("WWW-Authenticate", "Basic"));
            |_, _, _| {}
        });
    let mut reactor = Reactor::new().unwrap();
    let listener = Server::routes(router).listen(&mut reactor, "127.0.0.1:0").unwrap();
    let addr = reactor[listener].local_addr();
    let rounds = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let length =
        |path: &str| format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {BYTES}\r\n\r\n");
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let plain = "x".repeat(1 << 16);
    let kinds = [
        (length("/collect"), &plain, 413, "the body is too large"),
        (CHUNKED.replace("/upload", "/collect"), &chunk, 413, "the body is too large"),
        (length("/nowhere"), &plain, 404, "Not Found"),
        (length("/private"), &plain, 401, ""),
        (CHUNKED.replace("/upload", "/private"), &chunk, 401, ""),
        ("POST  /bad HTTP/1.1\r\n\r\n".to_owned(), &plain, 400, ""),
    ];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let round = rounds.fetch_add(1, Ordering::Relaxed);
                    if round >= ROUNDS * kinds.len() {
                        break;
                    }
                    let (head, piece, status, says) = &kinds[round % kinds.len()];
                    let heard = upload(addr, head, piece.as_bytes(), BYTES);
                    assert_eq!(statuses(&heard), [*status], "{head}: {heard:.200}");
                    assert_eq!(whole_responses(&heard).len(), 1);
                    assert!(body(&heard).starts_with(says), "{heard:.500}");
                    assert!(*status != 401 || body(&heard).len() == 50_000);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut told = Told::default();
        let all = ROUNDS * kinds.len();
        turn_until(&mut reactor, &mut told, |reactor, _| {
            done.load(Ordering::Relaxed) == all && reactor.sources() == 1
        });
    });
    assert_eq!((reactor.sources(), reactor.timers()), (1, 0));
}

#[test]
fn response_that_does_not_say_close_is_followed_by_others() {
    let _ceiling = ceiling(LIMIT);
    let limits = Limits { discard_bytes_max: 1000, ..Limits::default() };
    // Of the body that nobody wants, so many bytes come with the head and so many behind it.
    for (with, behind) in
        [(0, 1000), (1, 1000), (999, 1), (50_000, 1000), (50_000, 1001), (0, 1001)]
    {
        let mut siege = Siege::of(Server::routes(router()), limits.clone());
        let mut peer = siege.peer();
        let length = with + behind;
        let head = format!("POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        peer.send(format!("{head}{}", "x".repeat(with)).as_bytes());
        siege.hear(&mut peer, "Not Found");
        let closes = text(&peer).contains("Connection: close");
        peer.send(format!("{}{}", "x".repeat(behind), get("/last")).as_bytes());
        let heard = siege.hear_out(&mut peer);
        let expected = if closes { vec![404] } else { vec![404, 200] };
        assert_eq!(statuses(&heard), expected, "{with}, {behind}");
        assert_eq!(closes, behind > 1000, "{with}, {behind}");
    }
}

#[test]
fn drain_under_load_loses_no_response_that_was_begun() {
    let _ceiling = ceiling(LIMIT);
    const CLIENTS: usize = 16;
    let long: Rc<[u8]> = noise(300_000).into();
    let server = Server::<()>::new(move |reactor, _, request, reply| match request.path() {
        "/long" => drop(reply.send(reactor, Response::bytes(long.clone()))),
        "/later" => {
            reactor.after(Duration::from_millis(3), |reactor, _| {
                reply.send(reactor, "later");
            });
        }
        _ => drop(reply.send(reactor, "now")),
    });
    let mut reactor = Reactor::new().unwrap();
    // A busy machine may let a client wait for seconds until it reads on: that is not to be its end.
    let limits = Limits { close_grace: LIMIT, ..Limits::default() };
    let listener = server.limits(limits).listen(&mut reactor, "127.0.0.1:0").unwrap();
    let addr = reactor[listener].local_addr();
    let served = Arc::new(AtomicUsize::new(0));
    let counts = Arc::new(Mutex::new((0, 0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (served, counts) = (served.clone(), counts.clone());
            std::thread::spawn(move || {
                let (asked, heard) = insist(addr, number, &served);
                let responses = whole_responses(&heard).len();
                assert!(responses <= asked, "{responses} responses to {asked}");
                // All but what was sent behind the last response, which says that it is the last.
                if responses < asked {
                    assert!(
                        heard.contains("Connection: close") || asked - responses <= 3,
                        "{asked}"
                    );
                }
                let mut counts = counts.lock().unwrap();
                *counts = (counts.0 + asked, counts.1 + responses);
            })
        })
        .collect();
    turn_until(&mut reactor, &mut (), |_, _| served.load(Ordering::Relaxed) > 500);
    drain(&mut reactor, LIMIT, |reactor, _, report| {
        assert_eq!((report.listeners, report.aborted), (1, 0), "{report}");
        assert_eq!(report.connections, report.idle + report.finished, "{report}");
        reactor.stop();
    });
    reactor.run(&mut ()).unwrap();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!((reactor.sources(), reactor.timers()), (0, 0));
    let (asked, answered) = *counts.lock().unwrap();
    assert!(asked - answered <= 3 * CLIENTS, "{answered} of {asked}");
}

/// Asks on one connection, three requests at a time, until the server ends it: how many it asked,
/// and all it heard.
fn insist(addr: SocketAddr, number: usize, served: &AtomicUsize) -> (usize, String) {
    const BEGIN: &[u8] = b"HTTP/1.1 200";
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut heard, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    let paths = ["/now", "/later", "/long"];
    let (mut asked, mut responses, mut from) = (0, 0, 0);
    loop {
        let three: String = (0..3).map(|n| get(paths[(number + n) % 3])).collect();
        // Behind the server's FIN this may be refused; never before.
        if stream.write_all(three.as_bytes()).is_ok() {
            asked += 3;
        }
        while responses < asked {
            match stream.read(&mut piece) {
                Ok(0) => return (asked, String::from_utf8(heard).unwrap()),
                Ok(count) => heard.extend_from_slice(&piece[..count]),
                Err(error) => panic!("{error} at {responses} of {asked}"),
            }
            while let Some(at) = find(&heard[from..], BEGIN) {
                from += at + 1;
                responses += 1;
                served.fetch_add(1, Ordering::Relaxed);
            }
            // Only what comes now may end a beginning that is cut.
            from = from.max((heard.len() + 1).saturating_sub(BEGIN.len()));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[test]
fn server_may_be_dropped_with_everything_under_way() {
    let _ceiling = ceiling(LIMIT);
    let mut siege = siege();
    let mut peers: Vec<Peer> = Vec::new();
    for path in ["/now", "/later", "/large", "/stream", "/quiet", "/last"] {
        let mut peer = siege.peer();
        peer.send(get(path).as_bytes());
        peers.push(peer);
    }
    let mut upload = siege.peer();
    upload.send(format!("{CHUNKED}5\r\nhel").as_bytes());
    siege.settle();
    let Siege { reactor, state, .. } = siege;
    assert!(state.replies.len() == 2 && state.senders.len() == 2);
    drop(reactor);
    drop(state); // Replies and senders outlive the loop, and say nothing.
    for peer in &mut peers {
        while peer.read_all().is_none() {
            std::thread::yield_now();
        }
    }
}
