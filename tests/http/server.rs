//! The HTTP server: requests, replies, and what may come between.

use std::rc::Rc;
use std::time::Duration;

use support::ceiling;
use support::http::{Bench, body, describe, get, post, statuses};
use waterwheel::Context;
use waterwheel::protocols::http::{
    Limits, Method, Reply, Request, Response, Router, Server, StatusCode,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Answers at once what was asked.
fn echo() -> Bench<()> {
    Bench::handler(|reactor, _, request, reply| {
        reply.send(reactor, describe(request));
    })
}

/// Keeps every reply.
fn keeping() -> Bench<Vec<Reply>> {
    Bench::handler(|_, kept: &mut Vec<Reply>, _, reply| kept.push(reply))
}

#[test]
fn response_has_head_length_and_date() {
    let mut bench = echo();
    let response = bench.ask(get("/a?b"));
    assert_eq!(
        response,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n\
         Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\nGET /a?b "
    );
}

#[test]
fn date_goes_on_by_the_second() {
    let mut bench = echo();
    bench.wait(Duration::from_millis(999));
    assert!(bench.ask(get("/")).contains("00:00:00 GMT"));
    bench.wait(Duration::from_millis(1));
    assert!(bench.ask(get("/")).contains("00:00:01 GMT"));
    bench.clock.set_wall(waterwheel::timers::WallTime::from_unix_ms(1_767_225_600_000 - 1));
    bench.wait(Duration::from_secs(1));
    assert!(bench.ask(get("/")).contains("Thu, 01 Jan 2026 00:00:00 GMT"), "set back");
}

#[test]
fn date_is_that_of_the_loop_that_answers() {
    let date = |response: String| response.split_once("Date: ").unwrap().1[..29].to_owned();
    let mut late = Bench::<()>::handler(|reactor, _, request, reply| {
        reply.send(reactor, describe(request));
    });
    let mut early = Bench::<()>::new(late.server.clone());
    late.wait(Duration::from_secs(3600));
    assert_eq!(date(late.ask(get("/"))), "Thu, 01 Jan 2026 01:00:00 GMT");
    early.wait(Duration::from_secs(60));
    assert_eq!(date(early.ask(get("/"))), "Thu, 01 Jan 2026 00:01:00 GMT");
    assert_eq!(date(late.ask(get("/"))), "Thu, 01 Jan 2026 01:00:00 GMT");
}

#[test]
fn connection_is_kept_for_the_next_request() {
    let mut bench = echo();
    let client = bench.connect();
    for round in 0..3 {
        bench.send(&client, post("/", &format!("round {round}")));
        assert!(client.take().ends_with(&format!("POST / round {round}")));
    }
    assert!(!client.has_ended());
}

#[test]
fn pipelined_requests_are_answered_in_order_though_the_first_takes_its_time() {
    let mut bench = keeping();
    let client = bench.connect();
    let all: String = (0..5).map(|n| post("/", &n.to_string())).collect();
    bench.send(&client, &all);
    for n in 0..5 {
        assert_eq!(bench.state.len(), 1, "one at a time");
        assert_eq!(client.take(), "");
        let reply = bench.state.remove(0);
        assert!(reply.send(&mut bench.reactor, format!("answer {n}")));
        bench.settle();
        assert!(client.take().ends_with(&format!("answer {n}")));
    }
}

#[test]
fn requests_cut_at_every_offset_get_the_same_responses() {
    let _ceiling = ceiling(LIMIT);
    let chunked = "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nTrailer: t\r\n\r\n";
    let options = "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n";
    let all = [&get("/a"), &post("/b", "body"), chunked, options, &get("/d"), "NONSENSE\r\n\r\n"];
    let all = all.concat();
    let whole = echo().ask(&all);
    assert_eq!(statuses(&whole), [200, 200, 200, 204, 200, 400]);
    assert!(whole.contains("POST /c abc0123456789abcdef"));
    for cut in 1..all.len() {
        let mut bench = echo();
        let client = bench.connect();
        bench.send(&client, &all[..cut]);
        bench.send(&client, &all[cut..]);
        assert_eq!(client.take(), whole, "cut at {cut}");
        assert!(client.has_ended());
    }
    let mut bench = echo();
    let client = bench.connect();
    all.bytes().for_each(|byte| bench.send(&client, [byte]));
    assert_eq!(client.take(), whole, "byte by byte");
}

#[test]
fn head_is_answered_without_the_body() {
    let mut bench = echo();
    let client = bench.connect();
    bench.send(&client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = client.take();
    assert!(
        response.contains("Content-Length: 7\r\n") && response.ends_with("\r\n\r\n"),
        "{response}"
    );
    bench.send(&client, get("/"));
    assert!(client.take().ends_with("GET / "), "the connection goes on");
}

#[test]
fn statuses_without_a_body_say_nothing_of_one() {
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        reply.send(reactor, Response::text("not this").status(StatusCode::NO_CONTENT));
    });
    let response = bench.ask(get("/").repeat(2));
    assert_eq!(statuses(&response), [204, 204]);
    assert!(!response.contains("Length") && !response.contains("this"), "{response}");
}

#[test]
fn old_client_is_closed_unless_it_asks() {
    let mut bench = echo();
    let client = bench.connect();
    bench.send(&client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(client.take().contains("Connection: keep-alive\r\n") && !client.has_ended());
    bench.send(&client, "GET / HTTP/1.0\r\n\r\n");
    assert!(client.take().contains("Connection: close\r\n") && client.has_ended());
}

#[test]
fn close_is_said_and_done_when_either_side_wants_it() {
    let mut bench = echo();
    let client = bench.connect();
    let wish = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    bench.send(&client, format!("{wish}{}", get("/ignored")));
    let response = client.take();
    assert_eq!(statuses(&response), [200]);
    assert!(response.contains("Connection: close\r\n") && client.has_ended());
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        reply.send(reactor, Response::text("x").header("Connection", "close"));
    });
    let client = bench.connect();
    bench.send(&client, get("/"));
    assert_eq!(client.take().matches("Connection: close").count(), 1);
    assert!(client.has_ended());
}

#[test]
fn connection_has_so_many_requests() {
    for (requests, expected) in [(1, 1), (2, 2), (3, 2)] {
        let limits = Limits { requests_max: 2, ..Limits::default() };
        let mut bench = echo().limits(limits);
        let response = bench.ask(get("/").repeat(requests));
        assert_eq!(statuses(&response).len(), expected);
        assert_eq!(response.contains("Connection: close"), requests > 1);
    }
}

#[test]
fn dropped_reply_is_a_500_and_the_connection_goes_on() {
    let mut bench = Bench::<()>::handler(|reactor, _, request, reply| {
        if request.path() == "/answered" {
            reply.send(reactor, "yes");
        }
    });
    let response = bench.ask([get("/dropped"), get("/answered")].concat());
    assert_eq!(statuses(&response), [500, 200]);
}

#[test]
fn reply_that_is_dropped_in_another_callback_is_a_500() {
    let mut bench = keeping();
    let client = bench.connect();
    bench.send(&client, get("/").repeat(2));
    bench.reactor.after(Duration::from_secs(1), |_, kept| kept.clear());
    bench.wait(Duration::from_secs(1));
    assert_eq!(statuses(&client.take()), [500]);
    assert_eq!(bench.state.len(), 1, "the next is asked");
}

#[test]
fn late_replies_find_a_connection_that_is_gone() {
    let mut bench = keeping();
    let client = bench.connect();
    bench.send(&client, get("/"));
    bench.reactor[client.id].abort();
    bench.settle();
    assert!(!bench.is_served(&client));
    let reply = bench.state.remove(0);
    assert!(!reply.is_open(&bench.reactor));
    assert!(!reply.send(&mut bench.reactor, "too late"));
    bench.settle();
}

#[test]
fn client_that_goes_is_told_once() {
    #[derive(Default)]
    struct Seen(Vec<Reply>, usize);
    for abort in [false, true] {
        let mut bench = Bench::<Seen>::handler(|reactor, seen, _, reply| {
            reply.on_gone(reactor, |_, seen: &mut Seen| seen.1 += 1);
            seen.0.push(reply);
        });
        let client = bench.connect();
        bench.send(&client, get("/"));
        assert_eq!(bench.state.1, 0);
        match abort {
            true => bench.reactor[client.id].abort(),
            false => bench.reactor[client.id].shutdown(),
        }
        bench.settle();
        assert_eq!(bench.state.1, 1);
        let sent = bench.state.0.remove(0).send(&mut bench.reactor, "still there?");
        bench.settle();
        assert_eq!(sent, !abort, "one that has only finished sending hears the response");
        assert_eq!(client.take().ends_with("still there?"), !abort);
        assert_eq!((bench.state.1, bench.is_served(&client)), (1, false));
    }
}

#[test]
fn half_closed_client_hears_all_its_responses() {
    let mut bench = keeping();
    let client = bench.connect();
    bench.send(&client, [get("/1"), get("/2"), get("/3")].concat());
    bench.finish(&client);
    for n in 1..=3 {
        let reply = bench.state.remove(0);
        assert!(reply.send(&mut bench.reactor, format!("answer {n}")));
        bench.settle();
        assert!(client.take().ends_with(&format!("answer {n}")));
    }
    assert!(client.has_ended() && !bench.is_served(&client));
    // At once, and with half a request behind.
    let mut bench = echo();
    let client = bench.connect();
    let _ =
        bench.reactor[client.id].write([get("/1"), get("/2"), "GET /3".into()].concat().as_bytes());
    bench.finish(&client);
    assert_eq!(statuses(&client.take()), [200, 200]);
    assert!(!bench.is_served(&client));
}

#[test]
fn bad_field_is_a_500_and_splits_nothing() {
    for (name, value) in [
        ("X-Name", "a\r\nSet-Cookie: evil"),
        ("X Name", "a"),
        ("", "a"),
        ("X-Name:", "a"),
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("X-Name", "nul\0"),
    ] {
        let mut bench = Bench::<()>::handler(move |reactor, _, _, reply| {
            reply.send(reactor, Response::text("fine").header(name, value));
        });
        let response = bench.ask(get("/"));
        assert_eq!(statuses(&response), [500], "{name:?}: {value:?}");
        assert!(!response.contains("evil") && !response.contains("fine"));
    }
}

#[test]
fn router_finds_the_handler_or_says_what_there_is() {
    let router = || {
        Router::<()>::new()
            .get("/", |reactor, _, _, reply| {
                reply.send(reactor, "root");
            })
            .get("/users/{id}/posts/{post}", |reactor, _, request, reply| {
                let of = |name| request.param(name).unwrap_or_else(|| "-".into());
                reply.send(reactor, format!("{}.{}.{}", of("id"), of("post"), of("none")));
            })
            .post("/users/{id}", |reactor, _, request, reply| {
                reply.send(reactor, describe(request));
            })
    };
    let ask = |request: &str| Bench::new(Server::routes(router())).ask(request);
    assert_eq!(body(&ask(&get("/"))), "root");
    assert_eq!(body(&ask(&get("/?query"))), "root");
    assert_eq!(body(&ask(&get("/users/7/posts/x%2Fy"))), "7.x/y.-");
    assert_eq!(statuses(&ask(&get("/users//posts/1"))), [400]);
    assert_eq!(statuses(&ask(&get("/users/../posts"))), [400]);
    assert_eq!(statuses(&ask(&get("/users/7/posts/1/"))), [404]);
    let refused = ask(&get("/users/7"));
    assert_eq!(statuses(&refused), [405]);
    assert!(refused.contains("Allow: OPTIONS, POST\r\n"), "{refused}");
    assert!(ask("OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n").contains("Allow: GET, HEAD, OPTIONS\r\n"));
    let head = ask("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(statuses(&head) == [200] && head.contains("Length: 4") && body(&head).is_empty());
    // Not collected first, if there is no one to want it.
    let upload = ask("POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999\r\n\r\n");
    assert!(statuses(&upload) == [404] && upload.contains("Connection: close"));
}

#[test]
fn upgraded_connection_begins_with_what_was_sent_behind_the_request() {
    for later in [false, true] {
        let mut bench = Bench::<Vec<Reply>>::handler(move |reactor, kept, _, reply| {
            if later { kept.push(reply) } else { upgrade(reactor, reply) }
        });
        let client = bench.connect();
        let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: loud\r\n\r\n";
        bench.send(&client, format!("{request}first "));
        if later {
            assert_eq!(client.take(), "");
            upgrade(&mut bench.reactor, bench.state.remove(0));
        }
        bench.send(&client, "second");
        let response = client.take();
        let head = "HTTP/1.1 101 Switching Protocols\r\n";
        assert!(
            response.starts_with(head) && response.contains("Connection: Upgrade\r\n"),
            "{response}"
        );
        assert!(!response.contains("Length") && body(&response) == "FIRST SECOND", "{response}");
    }
}

fn upgrade(reactor: &mut Context<Vec<Reply>>, reply: Reply) {
    let response = Response::new(StatusCode::SWITCHING_PROTOCOLS)
        .header("Connection", "Upgrade")
        .header("Upgrade", "loud");
    let stream = reply.upgrade(reactor, response).expect("the client is there");
    stream.open(reactor, |reactor, _, conn, event| {
        if let waterwheel::net::Event::Data(bytes) = event {
            let _ = reactor[conn].write(&bytes.to_ascii_uppercase());
        }
    });
}

#[test]
fn each_refusal_has_its_status() {
    let long = "x".repeat(9000);
    let many = "A: b\r\n".repeat(101);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4294967296\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: h\r\nExpect: 200-maybe\r\n\r\n", 417),
        (&format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), 414),
        (&format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n"), 431),
        (&format!("GET / HTTP/1.1\r\nHost: h\r\nA: {long}{long}\r\n\r\n"), 431),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x03\x03", 400),
    ] {
        let mut bench = echo();
        let client = bench.connect();
        bench.send(&client, request);
        if status == 400 && request.ends_with("fffffffff") {
            bench.send(&client, "ffffffff\r\n");
        }
        let response = client.take();
        assert_eq!(statuses(&response), [status], "{request:.60}");
        assert!(response.contains("Connection: close\r\n") && !body(&response).is_empty());
        assert!(client.has_ended());
    }
}

#[test]
fn closures_of_every_kind_make_a_response() {
    let shared: Rc<[u8]> = Rc::from(*b"shared");
    let mut bench = Bench::<()>::handler(move |reactor, _, request, reply| {
        let response: Response = match request.path() {
            "/static" => "static".into(),
            "/string" => "string".to_owned().into(),
            "/bytes" => vec![1, 2, 3].into(),
            "/status" => StatusCode::IM_A_TEAPOT.into(),
            "/html" => Response::html("<p>"),
            "/json" => Response::json("{}").header("content-type", "application/hal+json"),
            _ => Response::bytes(shared.clone()),
        };
        reply.send(reactor, response);
    });
    assert!(bench.ask(get("/static")).contains("text/plain"));
    assert!(bench.ask(get("/string")).ends_with("string"));
    assert!(bench.ask(get("/bytes")).contains("octet-stream"));
    assert_eq!(statuses(&bench.ask(get("/status"))), [418]);
    assert!(bench.ask(get("/html")).contains("text/html"));
    let json = bench.ask(get("/json"));
    assert!(json.contains("hal+json") && !json.contains("/json"), "{json}");
    assert!(bench.ask(get("/shared")).ends_with("shared"));
}

#[test]
fn panicking_handler_costs_its_connection_only() {
    let mut bench =
        Bench::<Vec<Reply>>::handler(|reactor, kept, request, reply| match request.path() {
            "/panic" => std::panic::resume_unwind(Box::new("on purpose")),
            "/panic-later" => {
                kept.push(reply);
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            _ => drop(reply.send(reactor, "fine")),
        });
    for path in ["/panic", "/panic-later"] {
        let (client, other) = (bench.connect(), bench.connect());
        let _ = bench.reactor[client.id].write([get(path), get("/")].concat().as_bytes());
        let turn = std::panic::AssertUnwindSafe(|| bench.settle());
        assert!(std::panic::catch_unwind(turn).is_err());
        bench.settle();
        for reply in std::mem::take(&mut bench.state) {
            assert!(reply.send(&mut bench.reactor, Response::from(StatusCode::GONE)));
        }
        bench.settle();
        let response = client.take();
        assert_eq!(statuses(&response), [if path == "/panic" { 500 } else { 410 }]);
        assert!(response.contains("Connection: close") && client.has_ended());
        bench.send(&other, get("/"));
        assert!(other.take().ends_with("fine"));
    }
}

#[test]
fn method_and_target_are_as_they_were_sent() {
    let mut bench = Bench::<()>::handler(|reactor, _, request: &Request<'_>, reply| {
        let (path, query) = (request.path(), request.query().unwrap_or("-"));
        let post = *request.method() == Method::POST;
        let host = request.header("HOST").unwrap_or("-");
        reply.send(reactor, format!("{path} {query} {post} {host} {:?}", request.peer()));
    });
    assert!(bench.ask(get("/a%20b?c?d")).ends_with("/a%20b c?d false here None"));
    assert!(bench.ask(get("http://there/a?b")).ends_with("/a b false here None"));
    assert!(bench.ask(post("/", "x")).ends_with("/ - true here None"));
}

/// Everything that can happen to a request, one path for each.
fn all_states(alive: &Rc<()>) -> Server<Vec<Box<dyn std::any::Any>>> {
    type Kept = Vec<Box<dyn std::any::Any>>;
    let (one, other) = (alive.clone(), alive.clone());
    let router = Router::<Kept>::new()
        .get("/pending", move |reactor, kept, _, reply| {
            let held = one.clone();
            reply.on_gone(reactor, move |_, kept: &mut Kept| kept.push(Box::new(held)));
            kept.push(Box::new(reply));
        })
        .get("/own", |reactor, _, _, reply| {
            // The callback owns the reply, and the reply the callback.
            let cell = Rc::new(std::cell::RefCell::new(None));
            let own = cell.clone();
            reply.on_gone(reactor, move |_, _: &mut Kept| drop(own.take()));
            *cell.borrow_mut() = Some(reply);
        })
        .get("/large", |reactor, _, _, reply| {
            reply.send(reactor, vec![0; 5_000_000]);
        })
        .get("/close", |reactor, _, _, reply| {
            let large = Response::bytes(vec![0; 100_000]).header("Connection", "close");
            reply.send(reactor, large);
        })
        .get("/stream", |reactor, kept, _, reply| kept.push(Box::new(reply.events(reactor))))
        .get("/pump", move |reactor, _, _, reply| {
            let held = other.clone();
            let sender = reply.events(reactor);
            while sender.write(reactor, &[0; 50_000]) == waterwheel::net::Pressure::Below {}
            sender.when_drained(reactor, move |_, _, _| panic!("nobody reads, of {held:?}"));
        })
        .post("/whole", |_, _, _, _| panic!("it never is"))
        .stream(Method::PUT, "/flow", |_, kept, _, reply| {
            kept.push(Box::new(reply));
            |_, _, _| {}
        })
        .stream(Method::PUT, "/discard", |reactor, _, _, reply| {
            reply.send(reactor, "no");
            |_, _, _| {}
        });
    Server::routes(router)
}

const STATES: [&str; 14] = [
    "",
    "GET / HT",
    "GET /pending HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /pending HTTP/1.1\r\nHost: h\r\n\r\nGET /pending HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /own HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /large HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /close HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /pump HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /whole HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
    "POST /whole HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
    "PUT /flow HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
    "PUT /discard HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
    "NONSENSE\r\n\r\n",
];

#[test]
fn reset_and_removal_in_every_state_leave_nothing() {
    for state in STATES {
        for how in ["reset", "removed", "closed by the server"] {
            let mut bench = Bench::new(all_states(&Rc::default()));
            let client = bench.connect_with(10_000);
            bench.reactor[client.id].pause();
            bench.send(&client, state);
            match how {
                "reset" => bench.reactor[client.id].abort(),
                "removed" => drop(bench.reactor.remove(client.served)),
                _ => drop(bench.reactor.get_mut(client.served).map(|conn| conn.abort())),
            }
            bench.settle();
            bench.state.clear();
            if let Some(conn) = bench.reactor.get_mut(client.id) {
                conn.abort();
            }
            bench.wait(Duration::from_secs(80));
            let left = (bench.reactor.sources(), bench.reactor.timers());
            assert_eq!(left, (0, 0), "{how}: {state}");
        }
    }
}

#[test]
fn dropping_the_reactor_in_every_state_drops_each_handler_once() {
    for state in STATES {
        let alive = Rc::new(());
        let mut bench = Bench::new(all_states(&alive));
        let client = bench.connect_with(10_000);
        bench.reactor[client.id].pause();
        bench.send(&client, state);
        assert!(Rc::strong_count(&alive) > 1);
        let Bench { reactor, server, state: kept, .. } = bench;
        drop((reactor, server)); // The loop goes first, and replies are dropped behind it.
        drop(kept);
        assert_eq!(Rc::strong_count(&alive), 1, "{state}");
    }
}

#[test]
fn handler_may_take_its_own_connection_away() {
    for keeps in [false, true] {
        let mut bench = Bench::<Vec<Reply>>::handler(move |reactor, kept, _, reply| {
            for conn in reactor.ids::<waterwheel::net::Conn>() {
                reactor.remove(conn);
            }
            if keeps { kept.push(reply) } else { drop(reply) }
        });
        let client = bench.connect();
        bench.send(&client, get("/").repeat(3));
        for reply in std::mem::take(&mut bench.state) {
            assert!(!reply.send(&mut bench.reactor, "too late"));
        }
        bench.wait(Duration::from_secs(80));
        assert_eq!((bench.reactor.sources(), bench.reactor.timers()), (0, 0));
    }
}
