//! What one request leaves to the next on its connection: nothing; and what the end of a connection
//! leaves undone: nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use support::MS;
use support::http::{Bench, Client, body, echo, get, keeping, post, statuses};
use waterwheel::Context;
use waterwheel::net::{Event, drain};
use waterwheel::protocols::http::{
    Body, Limits, Reply, Request, Response, Sender, Server, StatusCode,
};

const SECOND: Duration = Duration::from_secs(1);

/// Whether a drain takes the connection for idle, and closes it at once.
fn drains_at_once<S: 'static>(bench: &mut Bench<S>, client: &Client) -> bool {
    drain(&mut bench.reactor, 60 * SECOND, |_, _, _| {});
    bench.settle();
    client.has_ended()
}

#[test]
fn drain_finds_a_connection_idle_however_its_last_response_came() {
    for way in ["at once", "with its body in pieces", "later", "dropped"] {
        let mut bench = match way {
            "later" | "dropped" => keeping(Limits::default()),
            _ => Bench::<Vec<Reply>>::handler(|reactor, _, _, reply| {
                reply.send(reactor, "here");
            }),
        };
        let client = bench.connect();
        let whole = post("/", "body");
        let (begin, rest) = whole.split_at(whole.len() - 2);
        match way {
            "with its body in pieces" => [begin, rest].map(|part| bench.send(&client, part)),
            _ => [get("/"), String::new()].map(|part| bench.send(&client, part)),
        };
        match bench.state.pop() {
            Some(reply) if way == "later" => drop(reply.send(&mut bench.reactor, "late")),
            reply => drop(reply),
        }
        bench.settle();
        assert_eq!(statuses(&client.take()).len(), 1, "{way}");
        assert!(drains_at_once(&mut bench, &client), "{way}");
    }
}

#[test]
fn head_that_came_in_pieces_gives_the_next_its_own_time() {
    let limits = Limits::default();
    let mut bench = echo(limits.clone());
    let client = bench.connect();
    bench.send(&client, "GET / HT");
    bench.send(&client, "TP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(statuses(&client.take()), [200]);
    bench.wait(limits.head_timeout + SECOND);
    assert!(!client.has_ended(), "it is idle, and not amid a head");
    bench.send(&client, "GET / HT");
    bench.wait(limits.head_timeout - SECOND);
    bench.send(&client, "TP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(statuses(&client.take()), [200]);
}

#[test]
fn refusal_behind_a_head_request_has_a_body() {
    let mut bench = echo(Limits::default());
    let client = bench.connect();
    bench.send(&client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(body(&client.take()), "");
    bench.send(&client, "no request at all\r\n\r\n");
    let heard = client.take();
    assert!(statuses(&heard) == [400] && !body(&heard).is_empty(), "{heard}");
}

#[test]
fn time_for_a_response_runs_from_its_request() {
    let mut bench = keeping(Limits { reply_timeout: Some(3 * SECOND), ..Limits::default() });
    let client = bench.connect();
    bench.wait(50 * SECOND);
    bench.send(&client, get("/"));
    bench.wait(3 * SECOND - MS);
    assert_eq!(client.take(), "");
    assert!(bench.state.remove(0).send(&mut bench.reactor, "in time"));
}

#[test]
fn client_that_has_finished_gets_all_responses_however_slowly_it_reads() {
    for later in [false, true] {
        let mut bench = Bench::<Vec<Reply>>::handler(move |reactor, kept, _, reply| {
            kept.push(reply);
            if !later {
                kept.remove(0).send(reactor, vec![b'x'; 16_000]);
            }
        });
        let client = bench.connect_with(1000);
        bench.reactor[client.id].pause();
        bench.send(&client, get("/").repeat(40));
        bench.finish(&client);
        for _ in 0..40 {
            if let Some(reply) = bench.state.pop() {
                reply.send(&mut bench.reactor, vec![b'x'; 16_000]);
            }
            bench.settle();
        }
        bench.reactor[client.id].resume();
        for _ in 0..40 {
            bench.settle();
            if let Some(reply) = bench.state.pop() {
                reply.send(&mut bench.reactor, vec![b'x'; 16_000]);
            }
        }
        bench.settle();
        assert_eq!(statuses(&client.take()).len(), 40, "later: {later}");
        assert!(client.has_ended());
    }
}

#[test]
fn request_that_waits_is_answered_though_the_client_finishes_in_that_moment() {
    let mut bench = Bench::<()>::handler(|reactor, _, request, reply| {
        let wait = if request.path() == "/later" { SECOND } else { Duration::ZERO };
        reactor.after(wait, move |reactor, _| {
            reply.send(reactor, "answered");
        });
    });
    // The connection's own timer fires in the turn of the response, and has it read first.
    bench = bench.limits(Limits { idle_timeout: SECOND, ..Limits::default() });
    let client = bench.connect();
    bench.send(&client, get("/later") + &get("/"));
    bench.clock.advance(SECOND);
    bench.finish(&client);
    bench.wait(SECOND);
    assert_eq!(statuses(&client.take()), [200, 200]);
    assert!(!bench.is_served(&client));
}

#[test]
fn reader_that_is_slow_and_steady_is_not_idle() {
    let limits = Limits { idle_timeout: 10 * SECOND, ..Limits::default() };
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        reply.send(reactor, vec![b'x'; 16_000]);
    });
    bench = bench.limits(limits);
    let client = bench.connect_with(5000);
    bench.reactor[client.id].pause();
    bench.send(&client, get("/").repeat(40));
    for _ in 0..20 {
        // The pipe's worth of it.
        bench.reactor[client.id].resume();
        bench.reactor.turn(&mut bench.state, Some(Duration::ZERO)).unwrap();
        bench.reactor[client.id].pause();
        bench.wait(SECOND);
    }
    bench.reactor[client.id].resume();
    bench.settle();
    assert_eq!(statuses(&client.take()).len(), 40);
}

#[test]
fn half_a_request_that_waited_behind_a_slow_reader_is_completed() {
    let limits = Limits { pipelined_bytes_max: 1000, ..Limits::default() };
    for later in [false, true] {
        let mut bench = Bench::<Vec<Reply>>::handler(move |reactor, kept, request, reply| {
            match request.path() {
                "/large" if later => kept.push(reply),
                "/large" => drop(reply.send(reactor, vec![b'x'; 400_000])),
                _ => drop(reply.send(reactor, "small")),
            }
        });
        bench = bench.limits(limits.clone());
        let client = bench.connect_with(10_000);
        bench.reactor[client.id].pause();
        let (half, rest) = (get("/large") + "GET / HTTP/1.1\r\nA: " + &"x".repeat(2000), "\r\n");
        bench.send(&client, half);
        assert!(bench.reactor[client.served].is_paused());
        if let Some(reply) = bench.state.pop() {
            reply.send(&mut bench.reactor, vec![b'x'; 400_000]);
        }
        bench.reactor[client.id].resume();
        bench.settle();
        bench.send(&client, format!("{rest}Host: h\r\n\r\n"));
        assert!(client.take().ends_with("small"), "later: {later}");
    }
}

/// Behind as many requests as are handled in one go, or as many responses as may be unsent.
#[test]
fn half_a_request_behind_many_others_is_completed() {
    let limits = Limits { pipelined_bytes_max: 1000, ..Limits::default() };
    for response_bytes in [10, 16_000] {
        for count in 1..70 {
            let mut bench = Bench::<()>::handler(move |reactor, _, _, reply| {
                reply.send(reactor, vec![b'x'; response_bytes]);
            });
            bench = bench.limits(limits.clone());
            let client = bench.connect_with(16_000);
            bench.reactor[client.id].pause();
            let half = "GET / HTTP/1.1\r\nA: ".to_owned() + &"x".repeat(2000);
            bench.send(&client, get("/").repeat(count) + &half);
            bench.reactor[client.id].resume();
            bench.settle();
            bench.send(&client, "\r\nHost: h\r\n\r\n");
            let responses = statuses(&client.take()).len();
            assert_eq!(responses, count + 1, "of {response_bytes} bytes");
        }
    }
}

#[test]
fn pause_of_one_body_does_not_hold_up_the_next() {
    let server = Server::streaming(|reactor, got: &mut Vec<u8>, request, reply| {
        let mut reply = Some(reply);
        if request.path() == "/paused"
            && let Some(reply) = reply.take()
        {
            reply.pause_body(reactor);
            reply.send(reactor, "enough");
        }
        got.clear();
        move |reactor: &mut Context<Vec<u8>>, got: &mut Vec<u8>, event: Body<'_>| match event {
            Body::Data(bytes) => got.extend(bytes),
            Body::End => drop(reply.take().map(|reply| reply.send(reactor, got.clone()))),
            Body::Failed(_) => {}
        }
    });
    let mut bench = Bench::new(server);
    let client = bench.connect();
    bench.send(&client, post("/paused", "unwanted") + &post("/", "wanted"));
    let heard = client.take();
    assert!(statuses(&heard) == [200, 200] && heard.ends_with("wanted"), "{heard}");
}

#[test]
fn callbacks_go_with_the_response_they_belong_to() {
    let told = Rc::new(Cell::new(0));
    let count = told.clone();
    let mut bench = Bench::<Vec<Sender>>::handler(move |reactor, kept, request, reply| {
        let (gone, drained) = (count.clone(), count.clone());
        reply.on_gone(reactor, move |_, _| gone.set(gone.get() + 1));
        if request.path() == "/stream" {
            let sender = reply.stream(reactor, "");
            sender.on_drained(reactor, move |_, _| drained.set(drained.get() + 1));
            kept.push(sender);
        } else {
            reply.send(reactor, "");
        }
    });
    let client = bench.connect();
    bench.send(&client, get("/"));
    assert_eq!(Rc::strong_count(&told), 2, "dropped with the response");
    bench.send(&client, get("/stream"));
    assert_eq!(Rc::strong_count(&told), 4);
    assert!(bench.state.remove(0).end(&mut bench.reactor));
    bench.settle();
    assert_eq!(Rc::strong_count(&told), 2, "dropped with the end");
    bench.reactor[client.id].abort();
    bench.settle();
    assert_eq!(told.get(), 0);
}

#[test]
fn callback_that_ends_its_stream_is_dropped_with_it() {
    let token = Rc::new(());
    let mut bench = Bench::<Option<Sender>>::handler(move |reactor, kept, _, reply| {
        *kept = Some(reply.stream(reactor, ""));
    });
    let client = bench.connect_with(1000);
    bench.reactor[client.id].pause();
    bench.send(&client, get("/"));
    let sender = bench.state.as_ref().unwrap();
    let held = token.clone();
    sender.on_drained(&mut bench.reactor, move |reactor, kept: &mut Option<Sender>| {
        let _ = &held;
        kept.take().map(|sender| sender.end(reactor));
    });
    let _ = sender.write(&mut bench.reactor, &[b'x'; 300_000]);
    bench.reactor[client.id].resume();
    bench.settle();
    assert!(bench.state.is_none() && client.take().ends_with("0\r\n\r\n"));
    assert_eq!(Rc::strong_count(&token), 1);
}

#[test]
fn drained_is_told_each_time() {
    let mut bench = Bench::<(Option<Sender>, usize)>::handler(|reactor, (kept, _), _, reply| {
        let sender = reply.stream(reactor, "");
        sender.on_drained(reactor, |_, (_, times): &mut (Option<Sender>, usize)| *times += 1);
        *kept = Some(sender);
    });
    let client = bench.connect_with(1000);
    bench.send(&client, get("/"));
    for times in 1..=3 {
        let sender = bench.state.0.as_ref().unwrap();
        let _ = sender.write(&mut bench.reactor, &[b'x'; 300_000]);
        bench.settle();
        assert_eq!(bench.state.1, times);
    }
}

#[test]
fn sender_without_a_body_to_send_keeps_no_callback() {
    let token = Rc::new(());
    let held = token.clone();
    let mut bench = Bench::<Vec<Sender>>::handler(move |reactor, kept, _, reply| {
        let (sender, held) = (reply.stream(reactor, ""), held.clone());
        sender.on_drained(reactor, move |_, _| drop(held.clone()));
        kept.push(sender);
    });
    let client = bench.connect();
    bench.send(&client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((bench.state.len(), Rc::strong_count(&token)), (1, 2));
}

#[test]
fn reply_of_a_client_that_has_gone_has_no_connection() {
    let seen = Rc::new(Cell::new(None));
    let see = seen.clone();
    let mut bench = Bench::<Vec<Reply>>::handler(move |reactor, kept, _, reply| {
        assert!(reply.conn().is_some());
        let see = see.clone();
        reply.on_gone(reactor, move |_, kept: &mut Vec<Reply>| {
            see.set(Some(kept.remove(0).conn().is_some()));
        });
        kept.push(reply);
    });
    let client = bench.connect();
    bench.send(&client, get("/"));
    bench.reactor[client.id].abort();
    bench.settle();
    assert_eq!(seen.get(), Some(false));
}

#[test]
fn reply_that_is_dropped_is_a_500_whatever_it_was_told_to_watch() {
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        reply.on_gone(reactor, |_, _| {});
    });
    assert_eq!(statuses(&bench.ask(get("/"))), [500]);
}

#[test]
fn upgrade_an_hour_later_has_each_byte_once() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: loud\r\n";
    for request in [format!("{head}\r\nHELLO"), format!("{head}Content-Length: 2\r\n\r\nhiHELLO")] {
        for cut in [10, request.len() - 6, request.len()] {
            let mut bench = keeping(Limits::default());
            let client = bench.connect();
            bench.send(&client, &request[..cut]);
            bench.send(&client, &request[cut..]);
            let response = Response::new(StatusCode::SWITCHING_PROTOCOLS);
            let stream = bench.state.remove(0).upgrade(&mut bench.reactor, response).unwrap();
            stream.open(&mut bench.reactor, |reactor, _, conn, event| {
                if let Event::Data(bytes) = event {
                    let _ = reactor[conn].write(bytes);
                }
            });
            bench.settle();
            assert_eq!(body(&client.take()), "HELLO", "cut at {cut}");
        }
    }
}

#[test]
fn close_with_little_unsent_ends_with_its_grace() {
    let limits = Limits { close_grace: 2 * SECOND, ..Limits::default() };
    let mut bench = Bench::<()>::handler(|reactor, _, _: &Request<'_>, reply| {
        let response = Response::from(vec![b'x'; 10_000]).header("Connection", "close");
        reply.send(reactor, response);
    });
    bench = bench.limits(limits);
    let client = bench.connect_with(1000);
    bench.reactor[client.id].pause();
    bench.send(&client, get("/"));
    bench.wait(2 * SECOND - MS);
    assert!(bench.is_served(&client));
    bench.wait(2 * MS);
    assert!(!bench.is_served(&client));
}

#[test]
fn head_may_be_as_long_as_its_limit_says() {
    let limits = Limits { head_bytes_max: 3 << 20, ..Limits::default() };
    let mut bench = echo(limits);
    let client = bench.connect();
    bench.send(&client, "GET / HTTP/1.1\r\nHost: h\r\nA: ");
    for _ in 0..40 {
        bench.send(&client, [b'x'; 50_000]);
    }
    bench.send(&client, "\r\n\r\n");
    assert_eq!(statuses(&client.take()), [200]);
}

#[test]
fn limits_of_nothing_are_no_panic() {
    let mut bench = echo(Limits { body_bytes_per_second: 0, ..Limits::default() });
    let client = bench.connect();
    post("/", "body").bytes().for_each(|byte| bench.send(&client, [byte]));
    assert_eq!(statuses(&client.take()), [200]);
    let mut bench = echo(Limits { idle_timeout: Duration::ZERO, ..Limits::default() });
    let client = bench.connect();
    bench.wait(2 * MS);
    assert!(client.has_ended());
}
