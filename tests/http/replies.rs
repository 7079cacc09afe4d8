//! What an HTTP handler may ask, and say, beyond a plain response.

use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use support::ceiling;
use support::http::{Bench, body, get, statuses};
use waterwheel::net::{Limits, Pressure, Reason};
use waterwheel::protocols::http::{self as web, Reply, Response, Sender, StatusCode, Watch};
use waterwheel::timers::TimerId;
use waterwheel::{Context, Reactor};

const LATER: Duration = Duration::from_secs(60);

#[test]
fn query_is_asked_for_a_value_by_its_name() {
    let mut bench = Bench::<()>::handler(|reactor, _, request, reply| {
        let [a, b, c] = ["a", "b c", "none"].map(|name| request.query_param(name));
        reply.send(reactor, format!("{a:?} {b:?} {c:?}"));
    });
    let heard = bench.ask(get("/?x=0&a=1&a=2&b+c=%C3%A9+%26"));
    assert_eq!(body(&heard), "Some(\"1\") Some(\"é &\") None");
    assert_eq!(body(&bench.ask(get("/?a"))), "Some(\"\") None None");
    assert_eq!(body(&bench.ask(get("/"))), "None None None");
}

/// Ten digits, held in each of the ways that there are.
fn digits() -> Bench<()> {
    Bench::handler(|reactor, _, request, reply| {
        let digits = match request.path() {
            "/static" => Response::text("0123456789"),
            "/owned" => Response::text("0123456789".to_owned()),
            "/shared" => Response::text(Rc::<[u8]>::from(&b"0123456789"[..])),
            _ => Response::text("0123456789").status(StatusCode::NOT_FOUND),
        };
        let digits = digits.header("ETag", "\"one\"").header("Last-Modified", "then");
        reply.send(reactor, digits.ranged(request));
    })
}

#[test]
fn part_of_a_body_is_had_by_its_range() {
    let mut bench = digits();
    let mut ask = |method: &str, path: &str, fields: &str| {
        bench.ask(format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
    };
    for path in ["/static", "/owned", "/shared"] {
        let heard = ask("GET", path, "Range: bytes=2-4\r\n");
        assert_eq!((statuses(&heard), body(&heard)), (vec![206], "234"), "{path}");
        for field in ["Content-Range: bytes 2-4/10\r\n", "Content-Length: 3\r\n"] {
            assert!(heard.contains(field), "{heard}");
        }
        assert!(heard.contains("ETag: \"one\"\r\n") && heard.contains("Content-Type: text/plain"));
        let heard = ask("GET", path, "Range: bytes=10-\r\n");
        assert_eq!(statuses(&heard), [416], "{path}");
        assert!(heard.contains("Content-Range: bytes */10\r\n"), "{heard}");
    }
    for (fields, expected) in [
        ("", "0123456789"),
        ("Range: bytes=0-1,4-5\r\n", "0123456789"),
        ("Range: bytes=8-\r\nIf-Range: \"one\"\r\n", "89"),
        ("Range: bytes=8-\r\nIf-Range: then\r\n", "89"),
        ("Range: bytes=8-\r\nIf-Range: \"two\"\r\n", "0123456789"),
        ("Range: bytes=8-\r\nIf-Range: now\r\n", "0123456789"),
    ] {
        let heard = ask("GET", "/static", fields);
        assert_eq!(body(&heard), expected, "{fields}");
        assert_eq!(heard.contains("Accept-Ranges: bytes\r\n"), expected.len() == 10, "{fields}");
    }
    let head = ask("HEAD", "/static", "Range: bytes=2-4\r\n");
    assert!(statuses(&head) == [200] && head.contains("Content-Length: 10\r\n"), "{head}");
    let missing = ask("GET", "/missing", "Range: bytes=2-4\r\n");
    assert_eq!((statuses(&missing), body(&missing)), (vec![404], "0123456789"));
}

#[test]
fn response_of_205_has_a_length_and_no_body() {
    type Kept = Option<Sender>;
    for (http, closes) in [("1.1", false), ("1.0", true)] {
        for method in ["GET", "HEAD", "POST"] {
            let mut bench = Bench::<Kept>::handler(|reactor, kept, request, reply| {
                let reset = Response::text("body").status(StatusCode::RESET_CONTENT);
                *kept = match request.path() {
                    "/send" => !reply.send(reactor, reset),
                    "/status" => !reply.send(reactor, StatusCode::RESET_CONTENT),
                    "/stream" => return *kept = Some(reply.stream(reactor, reset)),
                    _ => return *kept = Some(reply.stream_sized(reactor, reset, 4)),
                }
                .then(|| unreachable!("the client is there"));
            });
            for path in ["/send", "/status", "/stream", "/sized"] {
                let client = bench.connect();
                bench.send(&client, format!("{method} {path} HTTP/{http}\r\nHost: h\r\n\r\n"));
                let heard = client.take();
                let (head, rest) = heard.split_once("\r\n\r\n").unwrap();
                assert_eq!((statuses(&heard), rest), (vec![205], ""), "{method} {path}: {heard}");
                assert!(head.contains("\r\nContent-Length: 0\r\n"), "{method} {path}: {head}");
                assert!(!head.contains("Transfer-Encoding"), "{method} {path}: {head}");
                if let Some(sender) = bench.state.take() {
                    assert_eq!(sender.write(&mut bench.reactor, b"more"), Pressure::Closed);
                }
                assert_eq!(client.has_ended(), closes);
                if !closes {
                    bench.send(&client, get("/send")); // What comes next is answered.
                    assert_eq!(statuses(&client.take()), [205]);
                }
            }
        }
    }
}

#[test]
fn of_a_field_that_can_be_there_only_once_the_last_counts() {
    for name in [
        "Content-Type",
        "Date",
        "Server",
        "Connection",
        "ETag",
        "Last-Modified",
        "Location",
        "Retry-After",
        "Expires",
        "Age",
        "Content-Location",
    ] {
        let mut bench = Bench::<()>::handler(move |reactor, _, _, reply| {
            let (one, two) = match name {
                "Connection" => ("upgrade", "Upgrade"),
                _ => ("one", "two"),
            };
            let response = Response::text("").header("X-Before", "1").header(name, one);
            let response = response.header("Set-Cookie", "a").header(&name.to_lowercase(), two);
            reply.send(
                reactor,
                response.header("Set-Cookie", "b").header("Vary", "a").header("Vary", "b"),
            );
        });
        let heard = bench.ask(get("/")).to_ascii_lowercase();
        let all = format!("\r\n{}:", name.to_ascii_lowercase());
        assert_eq!(heard.matches(&all).count(), 1, "{name}: {heard}");
        let last = if name == "Connection" { "upgrade" } else { "two" };
        assert!(heard.contains(&format!("{all} {last}\r\n")), "{name}: {heard}");
        for several in ["set-cookie: a", "set-cookie: b", "vary: a", "vary: b", "x-before: 1"] {
            assert!(heard.contains(&format!("\r\n{several}\r\n")), "{name}: {heard}");
        }
    }
}

#[test]
fn sender_says_when_too_much_is_unsent() {
    let mut bench = Bench::<Option<Sender>>::handler(|reactor, kept, _, reply| {
        *kept = Some(reply.stream(reactor, ""));
    });
    let client = bench.connect_with(1000);
    bench.reactor[client.id].pause();
    bench.send(&client, get("/"));
    let sender = bench.state.take().unwrap();
    let mut written = 0;
    loop {
        let pressure = sender.write(&mut bench.reactor, &[b'x'; 1000]);
        written += 1000;
        assert_eq!(sender.is_above_high(&bench.reactor), pressure == Pressure::AboveHigh);
        if pressure != Pressure::Below {
            break;
        }
    }
    let high = Limits::default().outbox_bytes_high;
    assert!(high.abs_diff(written) < 5000, "{written}"); // Chunks have sizes, too.
    bench.reactor[client.id].resume();
    bench.settle();
    assert!(!sender.is_above_high(&bench.reactor) && sender.end(&mut bench.reactor));
}

#[derive(Default)]
struct Slow {
    timers: Vec<TimerId>,
    watches: Vec<Watch>,
    gone: usize,
}

/// Answers in a minute, unless the client goes.
fn slow(reactor: &mut Context<Slow>, slow: &mut Slow, reply: Reply) {
    let watch = reply.watch();
    assert!(watch.is_open(reactor));
    let timer = reactor.after(LATER, |reactor, _| _ = reply.send(reactor, "at last"));
    watch.on_gone(reactor, move |reactor, slow: &mut Slow| {
        slow.gone += 1;
        assert!(reactor.cancel(timer));
    });
    slow.timers.push(timer);
    slow.watches.push(watch);
}

#[test]
fn client_of_a_reply_that_was_moved_away_can_be_watched() {
    for way in ["stays", "finishes", "is reset"] {
        let mut bench = Bench::<Slow>::handler(|reactor, state, _, reply| {
            slow(reactor, state, reply);
        });
        let client = bench.connect();
        bench.send(&client, get("/"));
        let watch = bench.state.watches.pop().unwrap();
        assert!(watch.is_open(&bench.reactor), "{way}");
        match way {
            "stays" => bench.wait(LATER),
            "finishes" => bench.finish(&client),
            _ => bench.reactor[client.id].abort(),
        }
        bench.settle();
        let stays = way == "stays";
        assert_eq!(statuses(&client.take()), if stays { vec![200] } else { vec![] }, "{way}");
        assert_eq!((bench.state.gone, bench.is_served(&client)), (usize::from(!stays), stays));
        assert!(!watch.is_open(&bench.reactor), "{way}");
        assert!(!bench.reactor.cancel(bench.state.timers[0]), "fired, or cancelled: {way}");
    }
}

#[test]
fn watch_of_one_request_knows_nothing_of_the_next() {
    let mut bench = Bench::<Slow>::handler(|reactor, state, _, reply| slow(reactor, state, reply));
    let client = bench.connect();
    bench.send(&client, get("/1") + &get("/2"));
    bench.wait(LATER);
    assert_eq!((statuses(&client.take()), bench.state.watches.len()), (vec![200], 2));
    let [first, second] = [0, 1].map(|at| bench.state.watches[at].clone());
    assert!(!first.is_open(&bench.reactor) && second.is_open(&bench.reactor));
    // This would take the place of what the second has set, and be told at the end.
    first.on_gone(&mut bench.reactor, |_, _: &mut Slow| panic!("it was answered"));
    bench.reactor[client.id].abort();
    bench.settle();
    assert_eq!(bench.state.gone, 1);
    assert!(!second.is_open(&bench.reactor));
}

#[test]
fn accepted_connection_is_known_by_the_line_that_listens() {
    let _ceiling = ceiling(LATER);
    let mut reactor = Reactor::<()>::new().unwrap();
    let line = line!() + 1;
    let listener = web::listen(&mut reactor, "127.0.0.1:0", |_, _, _, _| {}).unwrap();
    let _client = TcpStream::connect(reactor[listener].local_addr()).unwrap();
    while reactor.why_alive().len() < 2 {
        reactor.turn(&mut (), None).unwrap();
    }
    for why in reactor.why_alive() {
        assert!(why.to_string().contains(&format!("http/replies.rs:{line}")), "{why}");
    }
}

/// Streams its path's number of bytes where five were announced.
fn five() -> Bench<Vec<Pressure>> {
    Bench::handler(|reactor, told: &mut Vec<Pressure>, request, reply| {
        let sender = reply.stream_sized(reactor, "", 5);
        for _ in 0..request.path().len() - 1 {
            told.push(sender.write(reactor, b"x"));
        }
        told.push(if sender.end(reactor) { Pressure::Below } else { Pressure::Refused });
    })
}

#[test]
fn streamed_body_of_known_length_is_announced_and_the_connection_goes_on() {
    for version in ["1.1", "1.0"] {
        let mut bench = five();
        let ask = format!("GET /12345 HTTP/{version}\r\nHost: h\r\nConnection: keep-alive\r\n\r\n");
        let heard = bench.ask(format!("{ask}{ask}"));
        assert_eq!(statuses(&heard), [200, 200], "{heard}");
        assert_eq!(heard.matches("Content-Length: 5\r\n").count(), 2, "{heard}");
        assert!(heard.ends_with("\r\n\r\nxxxxx") && !heard.contains("chunked"), "{heard}");
        assert!(bench.state.iter().all(|told| *told == Pressure::Below), "{:?}", bench.state);
    }
}

#[test]
fn more_than_was_announced_is_refused_and_less_is_a_reset() {
    let mut bench = five();
    let heard = bench.ask(get("/123456"));
    assert!(heard.ends_with("\r\n\r\nxxxxx"), "{heard}");
    assert_eq!(bench.state[4..], [Pressure::Below, Pressure::Refused, Pressure::Below]);
    bench.state.clear();
    let client = bench.connect();
    bench.send(&client, get("/1234"));
    bench.settle();
    assert_eq!(bench.state.last(), Some(&Pressure::Refused));
    assert!(matches!(client.closed(), Some(Reason::Reset)), "{:?}", client.closed());
}

#[test]
fn first_piece_that_is_too_large_is_a_reset_and_no_empty_response() {
    let mut bench = Bench::<Vec<bool>>::handler(|reactor, ended, request, reply| {
        let of = |name| request.query_param(name).unwrap().parse::<usize>().unwrap();
        let response = Response::bytes(vec![b'x'; of("piece")]);
        let sender = match of("announced") {
            0 => reply.stream(reactor, response),
            bytes => reply.stream_sized(reactor, response, bytes as u64),
        };
        ended.push(sender.is_open(reactor) && sender.end(reactor));
    });
    let most = Limits::default().outbox_bytes_max;
    for (piece, announced, whole) in
        [(most / 2, 0, true), (most, 0, false), (2 * most, 0, false), (5, 5, true), (5, 4, false)]
    {
        let client = bench.connect();
        bench.send(&client, get(&format!("/?piece={piece}&announced={announced}")));
        assert_eq!(bench.state.pop(), Some(whole), "{piece} of {announced}");
        let reset = matches!(client.closed(), Some(Reason::Reset));
        assert_eq!(reset, !whole, "{piece} of {announced}");
        if whole {
            assert!(client.take().matches('x').count() >= piece);
        }
    }
}

#[test]
fn each_event_is_sent_once() {
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        let sender = reply.events(reactor);
        for text in ["one", "two"] {
            let _ = sender.event(reactor, &web::SseEvent::data(text));
        }
        sender.end(reactor);
    });
    let heard = bench.ask(get("/"));
    assert_eq!((heard.matches("one").count(), heard.matches("two").count()), (1, 1), "{heard}");
}

#[test]
fn replies_and_senders_know_when_their_client_is_lost() {
    let mut bench =
        Bench::<(Option<Reply>, Option<Sender>)>::handler(|reactor, kept, request, reply| {
            match request.path() {
                "/stream" => kept.1 = Some(reply.stream(reactor, "")),
                _ => kept.0 = Some(reply),
            }
        });
    for path in ["/", "/stream"] {
        let client = bench.connect();
        bench.send(&client, get(path));
        let is_open = |bench: &Bench<(Option<Reply>, Option<Sender>)>| match &bench.state {
            (_, Some(sender)) => sender.is_open(&bench.reactor),
            (reply, _) => reply.as_ref().is_some_and(|reply| reply.is_open(&bench.reactor)),
        };
        assert!(is_open(&bench), "{path}");
        // Aborted, and not told yet.
        bench.reactor[client.served].abort();
        assert!(!is_open(&bench), "{path}");
        bench.settle();
        assert!(!is_open(&bench), "{path}");
    }
}

#[test]
fn sender_comes_back_at_once_where_there_is_room_and_else_when_there_is() {
    type Kept = Option<(Sender, bool)>;
    let mut bench = Bench::<Kept>::handler(|reactor, kept, _, reply| {
        *kept = Some((reply.stream(reactor, ""), false));
    });
    let client = bench.connect_with(1000);
    bench.send(&client, get("/"));
    for is_full in [false, true, false] {
        bench.reactor[client.id].pause();
        let (sender, _) = bench.state.take().unwrap();
        if is_full {
            let _ = sender.write(&mut bench.reactor, &[b'x'; 300_000]);
        }
        sender.when_drained(&mut bench.reactor, |_, kept: &mut Kept, sender| {
            *kept = Some((sender, true));
        });
        bench.settle();
        assert_eq!(bench.state.is_none(), is_full);
        bench.reactor[client.id].resume();
        bench.settle();
        assert!(bench.state.as_ref().is_some_and(|(_, came)| *came));
    }
}

#[test]
fn upgrade_with_a_field_that_cannot_be_sent_is_a_500() {
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        let response = Response::new(StatusCode::SWITCHING_PROTOCOLS).header("A", "b\r\nc: d");
        assert!(reply.upgrade(reactor, response).is_none());
    });
    let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let heard = bench.ask(request.to_owned() + &get("/"));
    assert_eq!(statuses(&heard)[0], 500, "{heard}");
    assert!(!heard.contains("c: d"));
}
