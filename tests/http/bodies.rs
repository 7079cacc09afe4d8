//! Bodies of the HTTP server: streamed in and out, slowed down, cut off.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use support::ceiling;
use support::http::{Bench, body, get, post, statuses};
use waterwheel::net::{Limits as ConnLimits, Pressure, Reason};
use waterwheel::protocols::http::{
    Body, Limits, Method, Refusal, Reply, Request, Response, Router, Sender, Server, SseEvent,
    StatusCode, Watch,
};

const LIMIT: Duration = Duration::from_secs(60);

/// What a streaming handler was told, and its reply.
#[derive(Default)]
struct Upload {
    reply: Option<Reply>,
    bytes: Vec<u8>,
    pieces: usize,
    ends: usize,
    failed: Vec<Refusal>,
}

/// Takes bodies in and answers with their length when they end.
fn counting() -> Server<Upload> {
    Server::streaming(|_, upload: &mut Upload, _, reply| {
        upload.reply = Some(reply);
        upload.bytes.clear();
        |reactor, upload: &mut Upload, body| match body {
            Body::Data(bytes) => {
                upload.bytes.extend_from_slice(bytes);
                upload.pieces += 1;
            }
            Body::End => {
                upload.ends += 1;
                if let Some(reply) = upload.reply.take() {
                    reply.send(reactor, format!("{} bytes", upload.bytes.len()));
                }
            }
            Body::Failed(why) => upload.failed.push(why),
        }
    })
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
const EXPECTS: &str =
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn streamed_body_arrives_as_it_comes() {
    let mut bench = Bench::new(counting());
    let client = bench.connect();
    bench.send(&client, format!("{CHUNKED}5\r\nhel"));
    assert_eq!(bench.state.bytes, b"hel");
    bench.send(&client, "lo\r\n");
    assert_eq!((&*bench.state.bytes, bench.state.ends), (&b"hello"[..], 0));
    bench.send(&client, format!("0\r\n\r\n{}{}", post("/", "next one"), get("/")));
    let responses = client.take();
    assert_eq!(statuses(&responses), [200, 200, 200]);
    assert!(responses.contains("5 bytes") && responses.contains("8 bytes"), "{responses}");
    assert!(responses.ends_with("0 bytes") && bench.state.ends == 3);
}

#[test]
fn streamed_body_cut_at_every_offset_is_the_same() {
    let _ceiling = ceiling(LIMIT);
    let all = format!("{CHUNKED}3\r\nabc\r\n4;x\r\ndefg\r\n0\r\n\r\n{}", post("/", "hijkl"));
    for cut in 1..all.len() {
        let mut bench = Bench::new(counting());
        let client = bench.connect();
        bench.send(&client, &all[..cut]);
        bench.send(&client, &all[cut..]);
        let responses = client.take();
        assert_eq!(statuses(&responses), [200, 200]);
        assert!(responses.contains("7 bytes") && responses.ends_with("5 bytes"), "cut at {cut}");
    }
}

#[test]
fn body_that_breaks_off_is_told_and_answered_where_that_can_be() {
    let mut bench = Bench::new(counting());
    let client = bench.connect();
    bench.send(&client, format!("{CHUNKED}5\r\nhello!"));
    assert_eq!(statuses(&client.take()), [400]);
    assert!(client.has_ended() && bench.state.failed.len() == 1);
    assert!(!bench.state.reply.take().unwrap().send(&mut bench.reactor, "too late"));

    for abort in [false, true] {
        let mut bench = Bench::new(counting());
        let client = bench.connect();
        bench.send(&client, format!("{CHUNKED}5\r\nhel"));
        match abort {
            true => bench.reactor[client.id].abort(),
            false => bench.reactor[client.id].shutdown(),
        }
        bench.settle();
        assert_eq!((bench.state.failed.len(), bench.state.ends), (1, 0));
        assert!(!bench.is_served(&client));
        assert_eq!(client.take(), "");
    }
}

#[test]
fn body_that_broke_off_while_it_waited_is_told_when_it_begins() {
    let mut bench =
        Bench::new(Server::streaming(|reactor, _: &mut Vec<String>, request, reply| {
            let is_first = request.path() == "/first";
            let wait = Duration::from_secs(if is_first { 1 } else { 3600 });
            reactor.after(wait, move |reactor, _| {
                reply.send(reactor, "answered");
            });
            move |_, told: &mut Vec<String>, body| match body {
                _ if is_first => {}
                Body::Data(bytes) => told.push(String::from_utf8_lossy(bytes).into_owned()),
                Body::End => told.push("all".to_owned()),
                Body::Failed(why) => told.push(why.to_string()),
            }
        }));
    let client = bench.connect();
    let half = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf";
    bench.send(&client, get("/first") + half);
    bench.finish(&client);
    bench.wait(Duration::from_secs(1));
    let told = ["half", "the client has finished in the middle of a body"];
    assert_eq!(bench.state, told);
    assert_eq!(statuses(&client.take()), [200]);
    assert!(!bench.is_served(&client), "nobody waits for the rest");
}

#[test]
fn paused_body_waits_and_holds_the_client_up() {
    let mut bench = Bench::new(Server::streaming(|reactor, upload: &mut Upload, _, reply| {
        reply.pause_body(reactor);
        upload.reply = Some(reply);
        |_, upload: &mut Upload, body| match body {
            Body::Data(bytes) => upload.bytes.extend_from_slice(bytes),
            Body::End => upload.ends += 1,
            Body::Failed(why) => upload.failed.push(why),
        }
    }));
    let client = bench.connect_with(1000);
    bench.send(&client, post("/", &"x".repeat(100_000)));
    assert!(bench.state.bytes.is_empty());
    assert!(bench.reactor[client.id].unsent() > 90_000, "it is held up");
    bench.wait(Duration::from_secs(60)); // Nobody is late while it is paused.
    let reply = bench.state.reply.take().unwrap();
    reply.resume_body(&mut bench.reactor);
    bench.settle();
    assert_eq!((bench.state.bytes.len(), bench.state.ends), (100_000, 1));
    assert!(reply.send(&mut bench.reactor, "done"));
    bench.settle();
    assert!(client.take().ends_with("done"));
    bench.send(&client, get("/"));
    assert_eq!(bench.state.ends, 2, "the connection goes on");
}

#[test]
fn room_for_the_response_does_not_end_the_pause_of_its_body() {
    let mut bench = Bench::new(Server::streaming(|reactor, _: &mut String, _, reply| {
        reply.pause_body(reactor);
        let sender = reply.stream(reactor, "");
        reactor.after(Duration::from_secs(1), move |reactor, _| {
            sender.resume_body(reactor);
            reactor.after(Duration::from_secs(1), move |reactor, _| {
                sender.end(reactor);
            });
        });
        |_, got: &mut String, body| match body {
            Body::Data(bytes) => got.push_str(&String::from_utf8_lossy(bytes)),
            Body::End => got.push_str(", all"),
            Body::Failed(why) => got.push_str(&why.to_string()),
        }
    }));
    let client = bench.connect();
    let served = &mut bench.reactor[client.served];
    let limits = served.limits().clone();
    served.set_limits(ConnLimits { outbox_bytes_high: 1, outbox_bytes_low: 0, ..limits });
    let _ = bench.reactor[client.id].write(post("/", "body").as_bytes());
    bench.finish(&client);
    assert_eq!(bench.state, "");
    bench.wait(Duration::from_secs(3));
    assert_eq!(bench.state, "body, all");
    assert!(client.take().ends_with("0\r\n\r\n"));
}

#[test]
fn body_that_was_paused_at_its_last_byte_ends_though_the_client_has_finished() {
    let server = Server::streaming(|_, _: &mut Vec<String>, _, reply| {
        let reply = Rc::new(RefCell::new(Some(reply)));
        move |reactor, told: &mut Vec<String>, body| match body {
            Body::Data(bytes) => {
                told.push(String::from_utf8_lossy(bytes).into_owned());
                reply.borrow().as_ref().unwrap().pause_body(reactor);
                let later = reply.clone();
                reactor.after(Duration::from_secs(1), move |reactor, _| {
                    later.borrow().as_ref().unwrap().resume_body(reactor);
                });
            }
            Body::End => drop(reply.take().map(|reply| reply.send(reactor, "done"))),
            Body::Failed(why) => told.push(why.to_string()),
        }
    });
    // The connection's own timer fires in the turn of the resumption, and has it read first.
    let idle_timeout = Duration::from_secs(1);
    let mut bench = Bench::new(server).limits(Limits { idle_timeout, ..Limits::default() });
    let client = bench.connect();
    let _ = bench.reactor[client.id].write(post("/", "body").as_bytes());
    bench.finish(&client);
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.state, ["body"]);
    assert!(client.take().ends_with("done"));
    assert!(!bench.is_served(&client));
}

#[test]
fn watch_holds_up_the_body_of_its_own_request_and_of_no_later_one() {
    let watches: Rc<RefCell<Vec<Watch>>> = Rc::default();
    let all = watches.clone();
    let mut bench = Bench::new(Server::streaming(move |reactor, _: &mut Upload, _, reply| {
        let (watch, mut reply) = (reply.watch(), Some(reply));
        all.borrow_mut().push(watch.clone());
        if all.borrow().len() == 1 {
            watch.pause_body(reactor);
        }
        move |reactor, upload: &mut Upload, body| match body {
            Body::Data(bytes) => upload.bytes.extend_from_slice(bytes),
            Body::End => {
                upload.ends += 1;
                reply.take().map(|reply| reply.send(reactor, "done"));
            }
            Body::Failed(why) => upload.failed.push(why),
        }
    }));
    let client = bench.connect_with(1000);
    bench.send(&client, post("/", &"x".repeat(100_000)));
    assert!(bench.state.bytes.is_empty());
    assert!(bench.reactor[client.id].unsent() > 90_000, "it is held up");
    let first = watches.borrow()[0].clone();
    first.resume_body(&mut bench.reactor);
    bench.settle();
    assert_eq!((bench.state.bytes.len(), bench.state.ends), (100_000, 1));
    // The watch of what was answered leaves the next request alone, either way.
    let next = post("/", "hello");
    let (begun, rest) = next.split_at(next.len() - 2);
    bench.send(&client, begun);
    first.pause_body(&mut bench.reactor);
    bench.send(&client, rest);
    assert_eq!((bench.state.bytes.len(), bench.state.ends), (100_005, 2));
    bench.send(&client, begun);
    watches.borrow()[2].pause_body(&mut bench.reactor);
    first.resume_body(&mut bench.reactor);
    bench.send(&client, rest);
    assert_eq!(bench.state.ends, 2, "it is paused by its own");
    watches.borrow()[2].resume_body(&mut bench.reactor);
    bench.settle();
    assert_eq!((bench.state.bytes.len(), bench.state.ends), (100_010, 3));
}

#[test]
fn request_knows_how_long_its_body_is() {
    let lengths = |reactor: &mut _, _: &mut (), request: &Request<'_>, reply: Reply| {
        reply.send(reactor, format!("{:?}", request.body_bytes()));
    };
    let streaming = Server::streaming(move |reactor, state, request, reply| {
        lengths(reactor, state, request, reply);
        |_: &mut _, _: &mut (), _: Body<'_>| {}
    });
    let long = post("/", &"x".repeat(100_000));
    let chunked = format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n");
    for server in [Server::new(lengths), streaming] {
        let mut bench = Bench::new(server);
        let asked =
            [(get("/"), "Some(0)"), (long.clone(), "Some(100000)"), (chunked.clone(), "None")];
        for (request, length) in asked {
            assert_eq!(body(&bench.ask(&request)), length);
        }
    }
}

#[test]
fn continue_is_said_when_the_body_is_wanted_and_not_before() {
    // Collected: at once.
    let mut bench = Bench::<()>::handler(|reactor, _, request, reply| {
        reply.send(reactor, request.body().to_vec());
    });
    let client = bench.connect();
    bench.send(&client, EXPECTS);
    assert_eq!(client.take(), CONTINUE);
    bench.send(&client, "hello");
    assert_eq!(body(&client.take()), "hello");
    // A client that does not wait needs none.
    bench.send(&client, format!("{EXPECTS}hello"));
    assert_eq!(statuses(&client.take()), [200]);
    // Too large: never.
    let limits = Limits { body_bytes_max: 4, ..Limits::default() };
    let mut bench = Bench::new(bench.server.clone()).limits(limits);
    let response = bench.ask(EXPECTS);
    assert_eq!(statuses(&response), [413]);
    // Streamed: when it is not paused.
    let mut bench = Bench::new(Server::streaming(|reactor, upload: &mut Upload, _, reply| {
        reply.pause_body(reactor);
        upload.reply = Some(reply);
        |_, upload: &mut Upload, _| upload.pieces += 1
    }));
    let client = bench.connect();
    bench.send(&client, EXPECTS);
    assert_eq!(client.take(), "");
    let reply = bench.state.reply.take().unwrap();
    reply.resume_body(&mut bench.reactor);
    bench.settle();
    assert_eq!(client.take(), CONTINUE);
    bench.send(&client, "hello");
    assert_eq!(bench.state.pieces, 2);
    reply.send(&mut bench.reactor, "ok");
    bench.settle();
    assert_eq!(statuses(&client.take()), [200]);
}

#[test]
fn no_continue_follows_a_final_response() {
    let mut bench = Bench::<()>::new(Server::streaming(|reactor, _, _, reply| {
        reply.send(reactor, StatusCode::FORBIDDEN);
        |_, _, _| panic!("nobody wants this body")
    }));
    let client = bench.connect();
    bench.send(&client, EXPECTS);
    let response = client.take();
    assert!(statuses(&response) == [403] && response.contains("Connection: close"), "{response}");
    assert!(client.has_ended(), "nobody knows whether the body will come");
}

#[test]
fn unwanted_body_is_dropped_up_to_a_limit() {
    let forbid = || {
        Bench::<()>::new(Server::streaming(|reactor, _, _, reply| {
            reply.send(reactor, StatusCode::FORBIDDEN);
            |_, _, _| panic!("nobody wants this body")
        }))
    };
    let limits = Limits { discard_bytes_max: 1000, ..Limits::default() };
    for (bytes, kept) in [(999, true), (1000, true), (1001, false)] {
        // Announced, with nothing of it sent.
        let mut bench = forbid().limits(limits.clone());
        let client = bench.connect();
        let request = post("/", &"x".repeat(bytes));
        let (head, upload) = request.split_at(request.len() - bytes);
        bench.send(&client, head);
        let response = client.take();
        assert_eq!(response.contains("Connection: close"), !kept, "{bytes}");
        bench.send(&client, format!("{upload}{}", get("/")));
        assert_eq!(statuses(&client.take()).len(), usize::from(kept));
    }
    // Of unknown length: found out on the way.
    for (bytes, kept) in [(900, true), (1100, false)] {
        let mut bench = forbid().limits(limits.clone());
        let client = bench.connect();
        bench.send(&client, CHUNKED);
        assert_eq!(statuses(&client.take()), [403]);
        let upload = format!("{bytes:x}\r\n{}\r\n0\r\n\r\n{}", "x".repeat(bytes), get("/"));
        bench.send(&client, upload);
        assert_eq!(statuses(&client.take()).len(), usize::from(kept), "{bytes}");
    }
}

/// Streams with one sender in the state.
fn streaming() -> Bench<Option<Sender>> {
    Bench::handler(|reactor, kept: &mut Option<Sender>, _, reply| {
        *kept = Some(reply.stream(reactor, Response::text("")));
    })
}

#[test]
fn streamed_response_is_chunked_and_ends() {
    let mut bench = streaming();
    let client = bench.connect();
    bench.send(&client, get("/").repeat(2));
    let head = client.take();
    assert!(head.contains("Transfer-Encoding: chunked\r\n") && !head.contains("Length"));
    for round in 0..2 {
        let sender = bench.state.take().unwrap();
        assert_eq!(sender.write(&mut bench.reactor, b"hello"), Pressure::Below);
        assert_eq!(sender.write(&mut bench.reactor, b""), Pressure::Below, "no end");
        bench.settle();
        assert!(client.take().ends_with("5\r\nhello\r\n"));
        let large = vec![b'x'; 40_000];
        let _ = sender.write(&mut bench.reactor, &large);
        bench.settle();
        let piece = client.take();
        assert!(piece.starts_with("9c40\r\nxxx") && piece.ends_with("xxx\r\n"));
        assert!(sender.end(&mut bench.reactor));
        bench.settle();
        assert!(client.take().starts_with("0\r\n\r\n"), "round {round}");
    }
}

#[test]
fn old_client_hears_a_stream_until_the_connection_closes() {
    let mut bench = streaming();
    let client = bench.connect();
    bench.send(&client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let sender = bench.state.take().unwrap();
    let _ = sender.write(&mut bench.reactor, b"all of it");
    sender.end(&mut bench.reactor);
    bench.settle();
    let response = client.take();
    assert!(response.ends_with("\r\n\r\nall of it") && response.contains("Connection: close\r\n"));
    assert!(client.has_ended());
}

#[test]
fn head_of_a_stream_has_no_body() {
    let mut bench = streaming();
    let client = bench.connect();
    bench.send(&client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    let sender = bench.state.take().unwrap();
    assert_eq!(sender.write(&mut bench.reactor, b"hello"), Pressure::Closed);
    let response = client.take();
    assert!(
        response.contains("chunked")
            && response.ends_with("\r\n\r\n")
            && body(&response).is_empty()
    );
    bench.send(&client, get("/"));
    assert_eq!(statuses(&client.take()), [200]);
}

#[test]
fn sender_that_is_dropped_resets_the_connection() {
    let mut bench = streaming();
    let client = bench.connect();
    bench.send(&client, get("/"));
    let _ = bench.state.as_ref().unwrap().write(&mut bench.reactor, b"half of");
    bench.settle();
    bench.state = None;
    bench.settle();
    assert!(matches!(client.closed(), Some(Reason::Reset)), "not an end");
    assert!(!bench.is_served(&client));
}

#[test]
fn slow_reader_slows_the_sender_down_and_is_told_of() {
    let _ceiling = ceiling(LIMIT);
    const BYTES: usize = 5_000_000;
    let most = Rc::new(RefCell::new(0));
    fn pump(
        reactor: &mut waterwheel::Context<()>,
        sender: Sender,
        mut sent: usize,
        most: Rc<RefCell<usize>>,
    ) {
        let piece = [b'x'; 50_000];
        while sent < BYTES {
            let pressure = sender.write(reactor, &piece);
            assert!(pressure.is_taken());
            sent += piece.len();
            let unsent = sender.unsent(reactor);
            most.replace_with(|most| unsent.max(*most));
            if pressure == Pressure::AboveHigh {
                return sender.when_drained(reactor, move |reactor, _, sender| {
                    pump(reactor, sender, sent, most);
                });
            }
        }
        sender.end(reactor);
    }
    let seen = most.clone();
    let mut bench = Bench::<()>::handler(move |reactor, _, _, reply| {
        let sender = reply.stream(reactor, Response::bytes(""));
        pump(reactor, sender, 0, seen.clone());
    });
    let client = bench.connect_with(8192);
    bench.reactor[client.id].pause();
    bench.send(&client, get("/"));
    assert!(*most.borrow() < 400_000, "{} bytes wait", most.borrow());
    bench.reactor[client.id].resume();
    bench.settle();
    let response = client.take();
    assert!(response.ends_with("\r\n0\r\n\r\n"));
    assert_eq!(response.matches('x').count(), BYTES);
    assert!(*most.borrow() < 400_000, "{} bytes wait", most.borrow());
}

#[test]
fn body_beyond_the_outbox_is_sent_whole_to_a_slow_reader() {
    let _ceiling = ceiling(LIMIT);
    for bytes in [16 * 1024, 16 * 1024 + 1, 300_000, 9_000_001] {
        let payload: Rc<[u8]> = (0..bytes).map(|at| b"abcdefg"[at % 7]).collect();
        let sent = payload.clone();
        let mut bench = Bench::<()>::handler(move |reactor, _, _, reply| {
            assert!(reply.send(reactor, Response::bytes(sent.clone())));
        });
        let client = bench.connect_with(10_000);
        bench.reactor[client.id].pause();
        bench.send(&client, [get("/"), get("/")].concat());
        if let Some(served) = bench.reactor.get(client.served) {
            assert!(served.unsent() < 300_000, "{} bytes copied", served.unsent());
        }
        bench.reactor[client.id].resume();
        bench.settle();
        let responses = client.heard.bytes.take();
        let heads = responses.len() - 2 * bytes;
        assert_eq!(heads % 2, 0);
        assert!(responses[..heads / 2].starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(responses[heads / 2..][..bytes] == *payload, "{bytes}");
        assert!(responses.ends_with(&payload), "{bytes}");
    }
}

#[test]
fn large_body_goes_through_a_small_outbox() {
    for bytes_max in [1000, 64 * 1024, 100_000] {
        let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
            assert!(reply.send(reactor, "x".repeat(300_000)));
        });
        let client = bench.connect_with(10_000);
        let served = &mut bench.reactor[client.served];
        let limits = served.limits().clone();
        served.set_limits(ConnLimits { outbox_bytes_max: bytes_max, ..limits });
        bench.reactor[client.id].pause();
        bench.send(&client, get("/")); // And that comes to rest.
        bench.reactor[client.id].resume();
        bench.settle();
        assert_eq!(body(&client.take()).len(), 300_000, "{:?}", client.closed());
    }
}

#[test]
fn large_last_response_reaches_a_slow_reader_before_the_close() {
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        let response = Response::bytes(vec![b'x'; 1_000_000]).header("Connection", "close");
        reply.send(reactor, response);
    });
    let client = bench.connect_with(10_000);
    bench.reactor[client.id].pause();
    bench.send(&client, get("/"));
    bench.wait(Duration::from_secs(20)); // More than the grace of a close.
    bench.reactor[client.id].resume();
    bench.settle();
    assert_eq!(body(&client.take()).len(), 1_000_000);
    assert!(client.has_ended());
}

#[test]
fn client_that_pipelines_and_does_not_read_is_not_served_on() {
    let mut bench = Bench::<usize>::handler(|reactor, served, _, reply| {
        *served += 1;
        reply.send(reactor, vec![b'x'; 10_000]);
    });
    let client = bench.connect_with(10_000);
    bench.reactor[client.id].pause();
    bench.send(&client, get("/").repeat(1000));
    assert!(bench.state < 40, "{} responses wait for somebody who does not read", bench.state);
    bench.reactor[client.id].resume();
    bench.settle();
    assert_eq!(statuses(&client.take()).len(), 1000);
}

#[test]
fn events_go_to_all_who_listen_and_to_nobody_who_has_gone() {
    let router = Router::<Vec<Sender>>::new().get("/events", |reactor, all, _, reply| {
        let sender = reply.events(reactor);
        let _ = sender.event(reactor, &SseEvent::data("hello"));
        all.push(sender);
    });
    let router = router.post("/say", |reactor, all, request, reply| {
        let mut event = Vec::new();
        SseEvent::data(&String::from_utf8_lossy(request.body())).write(&mut event);
        all.retain(|sender| sender.is_open(reactor));
        for sender in all.iter() {
            assert_eq!(sender.write(reactor, &event), Pressure::Below);
        }
        reply.send(reactor, all.len().to_string());
    });
    let mut bench = Bench::new(Server::routes(router));
    let (one, other, speaker) = (bench.connect(), bench.connect(), bench.connect());
    bench.send(&one, get("/events"));
    bench.send(&other, get("/events"));
    let response = one.take();
    assert!(response.contains("Content-Type: text/event-stream\r\n"), "{response}");
    assert!(response.ends_with("d\r\ndata: hello\n\n\r\n"), "{response:?}");
    other.take();
    bench.send(&speaker, post("/say", "news\nand more"));
    assert!(speaker.take().ends_with('2'));
    assert!(one.take().contains("data: news\ndata: and more\n\n"));
    assert!(other.take().contains("data: news\ndata: and more\n\n"));
    bench.reactor[one.id].abort();
    bench.settle();
    bench.send(&speaker, post("/say", "again"));
    assert!(speaker.take().ends_with('1') && other.take().contains("data: again"));
}

#[test]
fn stream_is_told_when_its_client_has_gone() {
    #[derive(Default)]
    struct Seen(Option<Sender>, usize);
    let mut bench = Bench::<Seen>::handler(|reactor, seen, _, reply| {
        let sender = reply.events(reactor);
        sender.on_gone(reactor, |_, seen: &mut Seen| seen.1 += 1);
        seen.0 = Some(sender);
    });
    let client = bench.connect();
    bench.send(&client, get("/"));
    bench.reactor[client.id].abort();
    bench.settle();
    assert_eq!(bench.state.1, 1);
    let sender = bench.state.0.take().unwrap();
    assert_eq!(sender.write(&mut bench.reactor, b"x"), Pressure::Closed);
    assert!(!sender.end(&mut bench.reactor));
}

#[test]
fn body_and_response_can_stream_at_once() {
    let echo = Router::<()>::new().stream(Method::POST, "/{rest...}", |reactor, _, _, reply| {
        let mut sender = Some(reply.stream(reactor, Response::bytes("")));
        move |reactor, _, body| match body {
            Body::Data(bytes) => {
                sender.as_ref().map(|sender| sender.write(reactor, bytes));
            }
            Body::End => drop(sender.take().map(|sender| sender.end(reactor))),
            Body::Failed(_) => sender = None,
        }
    });
    let mut bench = Bench::new(Server::routes(echo));
    let client = bench.connect();
    bench.send(&client, format!("{CHUNKED}3\r\nabc\r\n"));
    assert!(client.take().ends_with("3\r\nabc\r\n"));
    bench.send(&client, format!("2\r\nde\r\n0\r\n\r\n{}", post("/x", "again")));
    let responses = client.take();
    assert!(responses.starts_with("2\r\nde\r\n0\r\n\r\nHTTP/1.1 200"), "{responses}");
    assert!(responses.ends_with("5\r\nagain\r\n0\r\n\r\n"));
}
