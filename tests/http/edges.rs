//! What the HTTP server does where two things meet: a response and the end of its request's body, a
//! drain and an upgrade, a handler and its own connection.

use std::time::Duration;

use support::ceiling;
use support::http::{Bench, body, describe, get, statuses};
use waterwheel::net::drain;
use waterwheel::net::{Conn, Pressure};
use waterwheel::protocols::http::{
    Body, Limits, Reply, Request, Response, Sender, Server, StatusCode,
};
use waterwheel::{Context, SourceId};

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
const HUNDRED: &str = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: loud\r\n";
const CONNECT: &str = "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n";

/// Answers with 418 when the body fails.
fn answers_failures() -> Server<()> {
    Server::streaming(|_, _: &mut (), _, reply| {
        let mut reply = Some(reply);
        move |reactor, _, body| {
            if let (Body::Failed(_), Some(reply)) = (body, reply.take()) {
                reply.send(reactor, StatusCode::IM_A_TEAPOT);
            }
        }
    })
}

#[test]
fn handler_that_answers_for_a_broken_body_is_the_only_one_who_does() {
    for way in ["badly coded", "too slow", "cut off"] {
        let mut bench = Bench::new(answers_failures());
        let client = bench.connect();
        bench.send(&client, CHUNKED);
        match way {
            "badly coded" => bench.send(&client, "zz\r\n"),
            "too slow" => bench.wait(Limits::default().body_grace * 2),
            _ => bench.finish(&client),
        }
        let heard = client.take();
        assert_eq!(statuses(&heard), [418], "{way}: {heard}");
        assert!(heard.contains("Connection: close\r\n"), "{way}: {heard}");
        assert!(client.has_ended() && !heard.contains("400"), "{way}");
        bench.wait(Limits::default().close_grace * 2);
        assert!(!bench.is_served(&client), "{way}");
    }
}

#[test]
fn handler_may_take_its_connection_away_when_its_body_fails() {
    type Seen = Option<SourceId<Conn>>;
    let server = Server::streaming(|_, _: &mut Seen, _, reply| {
        let mut reply = Some(reply);
        move |reactor: &mut Context<Seen>, own: &mut Seen, body: Body<'_>| {
            if let Body::Failed(_) = body {
                drop((reactor.deregister(own.unwrap()), reply.take()));
            }
        }
    });
    let mut bench = Bench::new(server);
    let client = bench.connect();
    bench.state = Some(client.served);
    bench.send(&client, HUNDRED);
    bench.wait(Limits::default().body_grace * 2);
    assert!(client.has_ended() && client.take().is_empty());
}

/// Large, and answered at once, whatever comes of the request's body.
fn early() -> Bench<()> {
    Bench::new(Server::streaming(|reactor, _: &mut (), _, reply| {
        reply.send(reactor, vec![b'x'; 2_000_000]);
        |_: &mut Context<()>, _: &mut (), _: Body<'_>| {}
    }))
}

#[test]
fn large_early_response_outlives_the_body_that_it_did_not_wait_for() {
    let _ceiling = ceiling(Duration::from_secs(60));
    for way in ["finished", "too slow", "badly coded"] {
        let mut bench = early();
        let client = bench.connect_with(10_000);
        bench.reactor[client.id].pause();
        bench.send(&client, if way == "badly coded" { CHUNKED } else { HUNDRED });
        match way {
            "finished" => bench.finish(&client),
            "badly coded" => bench.send(&client, "zz\r\n"),
            _ => bench.wait(Limits::default().body_grace * 2),
        }
        bench.reactor[client.id].resume();
        bench.settle();
        assert_eq!(body(&client.take()).len(), 2_000_000, "{way}");
        assert!(client.has_ended(), "{way}");
    }
}

#[test]
fn stream_goes_on_though_the_client_finishes_in_the_middle_of_its_body() {
    let server = Server::streaming(|reactor, kept: &mut Option<Sender>, _, reply| {
        *kept = Some(reply.stream(reactor, "one "));
        |_: &mut Context<Option<Sender>>, _: &mut Option<Sender>, _: Body<'_>| {}
    });
    let mut bench = Bench::new(server);
    let client = bench.connect();
    bench.send(&client, HUNDRED);
    bench.finish(&client);
    let sender = bench.state.take().unwrap();
    assert_eq!(sender.write(&mut bench.reactor, b"two"), Pressure::Below);
    assert!(sender.end(&mut bench.reactor));
    bench.settle();
    assert!(client.take().ends_with("4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"));
    assert!(client.has_ended() && !bench.is_served(&client));
}

/// Takes all that it reads in its own hands.
fn upgrade(reactor: &mut Context<Option<Reply>>, reply: Reply) -> bool {
    let response = Response::new(StatusCode::SWITCHING_PROTOCOLS).header("Connection", "upgrade");
    let Some(stream) = reply.upgrade(reactor, response) else { return false };
    stream.open(reactor, |reactor, _, conn, event| {
        if let waterwheel::net::Event::Data(bytes) = event {
            let _ = reactor[conn].write(bytes);
        }
    });
    true
}

#[test]
fn upgrade_comes_behind_the_whole_request() {
    let request = format!("{UPGRADE}Content-Length: 4\r\n\r\nbodyHELLO");
    for cut in 0..=request.len() {
        let mut bench = Bench::<Option<Reply>>::handler(|reactor, _, request, reply| {
            assert_eq!(request.body(), b"body");
            assert!(upgrade(reactor, reply));
        });
        let client = bench.connect();
        bench.send(&client, &request[..cut]);
        bench.send(&client, &request[cut..]);
        let heard = client.take();
        assert_eq!((statuses(&heard), body(&heard)), (vec![101], "HELLO"), "cut at {cut}");
    }
}

#[test]
fn nobody_is_upgraded_who_has_not_asked_or_sends_a_body_that_is_streamed() {
    let mut bench = Bench::<Option<Reply>>::handler(|reactor, _, _, reply| {
        assert!(!upgrade(reactor, reply));
    });
    assert_eq!(statuses(&bench.ask(get("/") + &get("/"))), [500, 500]);
    let server = Server::streaming(|reactor, _: &mut Option<Reply>, _, reply| {
        assert!(!upgrade(reactor, reply));
        |_: &mut Context<_>, _: &mut Option<Reply>, _: Body<'_>| {}
    });
    let request = format!("{UPGRADE}Content-Length: 4\r\n\r\nbody");
    assert_eq!(statuses(&Bench::new(server).ask(request + &get("/"))), [500, 500]);
}

#[test]
fn upgrade_in_a_drain_does_not_say_close() {
    let mut bench = Bench::<Option<Reply>>::handler(|_, kept, _, reply| *kept = Some(reply));
    let client = bench.connect();
    bench.send(&client, format!("{UPGRADE}\r\n"));
    drain(&mut bench.reactor, Duration::from_secs(5), |_, _, _| {});
    bench.settle();
    let reply = bench.state.take().unwrap();
    assert!(upgrade(&mut bench.reactor, reply));
    bench.settle();
    let heard = client.take();
    assert!(heard.starts_with("HTTP/1.1 101") && !heard.contains("close"), "{heard}");
}

#[test]
fn tunnel_that_is_refused_is_closed_and_its_bytes_are_no_requests() {
    for status in [StatusCode::FORBIDDEN, StatusCode::OK] {
        let mut bench = Bench::<()>::handler(move |reactor, _, request, reply| {
            reply.send(reactor, describe(request).status(status));
        });
        let client = bench.connect();
        bench.send(&client, CONNECT.to_owned() + &get("/smuggled"));
        let heard = client.take();
        assert_eq!(statuses(&heard), [status.as_u16()], "{heard}");
        assert!(client.has_ended() && !heard.contains("smuggled"));
        // A success has no body: the client takes all that comes for the tunnel's.
        let tunnel = status == StatusCode::OK;
        assert_eq!(!heard.contains("Content-Length") && body(&heard).is_empty(), tunnel, "{heard}");
    }
}

#[test]
fn timeout_between_requests_forgets_that_the_last_one_was_a_head() {
    let mut bench = Bench::<()>::handler(|reactor, _, request, reply| {
        reply.send(reactor, describe(request));
    });
    let client = bench.connect();
    bench.send(&client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(body(&client.take()), "");
    bench.send(&client, "GET / HT");
    bench.wait(Limits::default().head_timeout * 2);
    let heard = client.take();
    assert_eq!((statuses(&heard), body(&heard)), (vec![408], "the head took too long"));
}

#[test]
fn connection_field_says_close_or_upgrade_in_any_company() {
    for (value, closes, upgrades) in [
        ("close", true, false),
        ("Close, x", true, false),
        ("x, close", true, false),
        ("Upgrade, close", true, true),
        ("x, upgrade", false, true),
        ("keep-alive", false, false),
        ("closed", false, false),
    ] {
        let mut bench = Bench::<()>::handler(move |reactor, _, _, reply| {
            reply.send(reactor, Response::text("").header("Connection", value));
        });
        let client = bench.connect();
        bench.send(&client, get("/"));
        let heard = client.take().to_ascii_lowercase();
        assert_eq!(client.has_ended(), closes, "{value}");
        assert_eq!(heard.contains("connection: close\r\n"), closes, "{value}");
        assert_eq!(heard.contains("connection: upgrade\r\n"), upgrades, "{value}");
        assert!(!heard.contains("connection: x") && !heard.contains(", x"), "{value}");
    }
}

#[test]
fn options_of_the_server_are_asked_for_in_two_ways() {
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        reply.send(reactor, "never");
    });
    for target in ["*", "http://h"] {
        let heard = bench.ask(format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(statuses(&heard), [204], "{target}");
    }
}

#[test]
fn stream_that_cannot_begin_is_a_whole_500() {
    let mut bench = Bench::<Option<Sender>>::handler(|reactor, kept, _, reply| {
        let sender = reply.stream(reactor, Response::text("").header("bad name", ""));
        assert_eq!(sender.write(reactor, b"data"), Pressure::Closed);
        *kept = Some(sender);
    });
    let client = bench.connect();
    bench.send(&client, get("/"));
    let heard = client.take();
    assert_eq!((statuses(&heard), body(&heard)), (vec![500], "Internal Server Error"));
    // And meets no other request.
    let sender = bench.state.take().unwrap();
    bench.send(&client, get("/"));
    assert_eq!(sender.write(&mut bench.reactor, b"data"), Pressure::Closed);
    assert!(!sender.end(&mut bench.reactor));
    bench.settle();
    assert_eq!(statuses(&client.take()), [500]);
}

#[test]
fn stream_without_a_body_holds_up_no_other_request() {
    type Seen = (Vec<Sender>, usize);
    let mut bench = Bench::<Seen>::handler(|reactor, seen, _, reply| {
        let sender = reply.events(reactor);
        sender.on_gone(reactor, |_, seen: &mut Seen| seen.1 += 1);
        seen.0.push(sender);
    });
    let client = bench.connect();
    bench.send(&client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned() + &get("/"));
    let heard = client.take();
    assert_eq!(statuses(&heard), [200, 200]);
    assert!(heard.matches("text/event-stream").count() == 2 && !heard.contains("close"));
    assert_eq!(bench.state.1, 1, "nobody listens to the first");
    let [first, second] = [bench.state.0.remove(0), bench.state.0.remove(0)];
    assert_eq!(first.write(&mut bench.reactor, b"data"), Pressure::Closed);
    drop(first);
    assert!(second.end(&mut bench.reactor));
    bench.settle();
    assert_eq!(client.take(), "0\r\n\r\n");
}

#[test]
fn connection_that_its_handler_closes_is_told_no_more_requests() {
    type Seen = (Option<SourceId<Conn>>, usize);
    let mut bench = Bench::<Seen>::handler(|reactor, seen, request, reply| {
        seen.1 += 1;
        reply.send(reactor, describe(request));
        reactor[seen.0.unwrap()].close();
    });
    let client = bench.connect();
    bench.state.0 = Some(client.served);
    bench.send(&client, get("/1") + &get("/2"));
    assert_eq!((statuses(&client.take()), bench.state.1), (vec![200], 1));
}

#[test]
fn client_that_has_finished_may_read_its_response_slowly() {
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        reply.send(reactor, vec![b'x'; 120_000]);
    });
    let client = bench.connect_with(10_000);
    bench.reactor[client.id].pause();
    bench.send(&client, get("/"));
    bench.finish(&client);
    bench.wait(Limits::default().close_grace * 2);
    bench.reactor[client.id].resume();
    bench.settle();
    assert_eq!(body(&client.take()).len(), 120_000);
    assert!(client.has_ended() && !bench.is_served(&client));
}

#[test]
fn request_behind_which_the_client_has_finished_is_answered_though_its_reply_is_dropped() {
    fn first_only(
        _: &mut Context<Option<Reply>>,
        kept: &mut Option<Reply>,
        request: &Request<'_>,
        reply: Reply,
    ) {
        if request.path() == "/1" {
            *kept = Some(reply);
        }
    }
    let mut bench = Bench::<Option<Reply>>::handler(first_only);
    let client = bench.connect();
    bench.send(&client, get("/1") + &get("/2"));
    bench.finish(&client);
    let first = bench.state.take().unwrap();
    assert!(first.send(&mut bench.reactor, "one"));
    bench.settle();
    assert_eq!(statuses(&client.take()), [200, 500]);
}
