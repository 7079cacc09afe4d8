//! Bodies that take their time, answers that do not wait for them, and replies that come too late.

use std::time::Duration;

use support::MS;
use support::http::{Bench, body, get, post, statuses};
use waterwheel::Context;
use waterwheel::net::{self, Event, Pressure, drain};
use waterwheel::protocols::http::{Body, Limits, Reply, Response, Sender, Server, StatusCode};

const SECOND: Duration = Duration::from_secs(1);
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The head of an upload of so many bytes.
fn head(bytes: usize, fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n{fields}\r\n")
}

/// Answers at the end of a streamed body with its length.
fn counting() -> Bench<()> {
    Bench::new(Server::streaming(|_, _: &mut (), _, reply| {
        let (mut reply, mut bytes) = (Some(reply), 0);
        move |reactor, _, event| match event {
            Body::Data(data) => bytes += data.len(),
            Body::End => drop(reply.take().map(|reply| reply.send(reactor, bytes.to_string()))),
            Body::Failed(_) => {}
        }
    }))
}

fn collecting() -> Bench<()> {
    Bench::handler(|reactor, _, request, reply| {
        reply.send(reactor, request.body().len().to_string());
    })
}

/// Answers at once, whatever comes, and counts what it is told of the body.
fn early(response_bytes: usize) -> Bench<usize> {
    Bench::new(Server::streaming(move |reactor, _: &mut usize, _, reply| {
        reply.send(reactor, vec![b'x'; response_bytes]);
        |_: &mut Context<usize>, told: &mut usize, _: Body<'_>| *told += 1
    }))
}

#[test]
fn client_that_waits_is_told_to_go_on_and_no_other() {
    let expects = "Expect: 100-continue\r\n";
    for mut bench in [collecting(), counting()] {
        let client = bench.connect();
        bench.send(&client, head(4, expects));
        assert_eq!(client.take(), "HTTP/1.1 100 Continue\r\n\r\n");
        bench.send(&client, "body");
        let heard = client.take();
        assert!(statuses(&heard) == [200] && !heard.contains("close"), "{heard}");
        // The body has begun.
        bench.send(&client, head(4, expects) + "bo");
        assert_eq!(client.take(), "");
        bench.send(&client, "dy");
        assert_eq!(statuses(&client.take()), [200]);
    }
}

#[test]
fn client_that_waits_hears_no_100_behind_the_response() {
    let mut bench = early(10);
    let client = bench.connect();
    bench.send(&client, head(4, "Expect: 100-continue\r\n"));
    let heard = client.take();
    assert!(statuses(&heard) == [200] && heard.contains("Connection: close\r\n"), "{heard}");
    assert!(client.has_ended());
    // Nor in the middle of one.
    let mut bench =
        Bench::new(Server::streaming(|reactor, kept: &mut Option<Sender>, _, reply| {
            *kept = Some(reply.stream(reactor, "one"));
            |_: &mut Context<_>, _: &mut Option<Sender>, _: Body<'_>| {}
        }));
    let client = bench.connect();
    bench.send(&client, head(4, "Expect: 100-continue\r\n"));
    bench.send(&client, "body");
    assert_eq!(statuses(&client.take()), [200]);
}

#[test]
fn body_may_take_hours_that_keeps_coming() {
    let limits = Limits::default();
    for mut bench in [collecting(), counting()] {
        let client = bench.connect();
        bench.send(&client, head(500_000, ""));
        for _ in 0..250 {
            bench.send(&client, [b'x'; 2000]);
            assert!(!client.has_ended());
            bench.wait(SECOND);
        }
        assert_eq!(body(&client.take()), "500000");
        assert!(limits.idle_timeout < 250 * SECOND && limits.body_grace < 250 * SECOND);
    }
}

#[test]
fn response_behind_which_too_much_would_follow_says_close() {
    let mut bench = Bench::new(Server::streaming(|_, _: &mut (), _, reply| {
        let mut reply = Some(reply);
        move |reactor: &mut Context<()>, _: &mut (), _: Body<'_>| {
            reply.take().map(|reply| reply.send(reactor, "enough"));
        }
    }));
    let most = Limits::default().discard_bytes_max as usize;
    for (left, closes) in [(0, false), (most, false), (most + 1, true)] {
        let client = bench.connect();
        bench.send(&client, head(1 + left, ""));
        bench.send(&client, "x");
        let heard = client.take();
        assert_eq!(heard.contains("Connection: close\r\n"), closes, "{left}: {heard}");
        assert_eq!(client.has_ended(), closes, "{left}");
    }
}

#[test]
fn nothing_is_to_be_dropped_of_a_body_that_has_ended() {
    let mut bench = counting().limits(Limits { discard_bytes_max: 0, ..Limits::default() });
    let client = bench.connect();
    bench.send(&client, format!("{CHUNKED}1\r\na\r\n0\r\n\r\n"));
    bench.send(&client, post("/", "body"));
    let heard = client.take();
    assert!(statuses(&heard) == [200, 200] && !heard.contains("close"), "{heard}");
}

#[test]
fn rest_of_a_body_that_was_answered_has_its_limits() {
    // It is read to its end, and the connection goes on.
    let mut bench = early(10);
    for (behind, responses) in [(post("/", ""), 2), (String::new(), 1)] {
        let client = bench.connect();
        bench.send(&client, head(5000, "") + &"x".repeat(3000));
        bench.wait(5 * SECOND);
        bench.send(&client, "x".repeat(2000) + &behind);
        assert_eq!(statuses(&client.take()).len(), responses);
        if behind.is_empty() {
            drain(&mut bench.reactor, 60 * SECOND, |_, _, _| {});
            bench.settle();
            assert!(client.has_ended(), "idle");
        }
    }
    assert_eq!(bench.state, 0, "nobody is told of it");
    // It stops coming.
    let mut bench = early(10);
    let client = bench.connect();
    bench.send(&client, head(5000, ""));
    bench.wait(Limits::default().body_grace * 2);
    assert_eq!(statuses(&client.take()), [200], "that was the response");
    assert!(client.has_ended());
    // It has no end.
    for piece in [1000, 100_000] {
        let mut bench = early(10);
        let client = bench.connect();
        bench.send(&client, CHUNKED);
        let chunk = format!("{piece:x}\r\n{}\r\n", "x".repeat(piece));
        for _ in 0..2 + Limits::default().discard_bytes_max as usize / piece {
            bench.send(&client, &chunk);
        }
        assert_eq!(statuses(&client.take()), [200]);
        assert!(client.has_ended());
    }
}

#[test]
fn rest_of_a_body_may_come_slowly_and_steadily() {
    let mut bench = early(10);
    let client = bench.connect();
    bench.send(&client, head(60_000, ""));
    for _ in 0..60 {
        assert!(!client.has_ended());
        bench.send(&client, [b'x'; 1000]);
        bench.wait(SECOND);
    }
    bench.send(&client, head(0, ""));
    assert_eq!(statuses(&client.take()), [200, 200]);
}

#[test]
fn uploads_that_nobody_wants_are_dropped_while_the_response_is_on_its_way() {
    for broken in [false, true] {
        let mut bench = early(2_000_000);
        let client = bench.connect_with(10_000);
        bench.reactor[client.id].pause();
        bench.send(&client, if broken { CHUNKED.into() } else { head(100_000_000, "") });
        bench.send(&client, if broken { "zz\r\n" } else { "" });
        for _ in 0..60 {
            bench.send(&client, [b'x'; 50_000]);
        }
        assert_eq!(bench.reactor[client.id].unsent(), 0, "all of it was taken");
        bench.reactor[client.id].resume();
        bench.settle();
        assert_eq!(body(&client.take()).len(), 2_000_000);
        assert!(client.has_ended() && (broken || bench.state > 0));
    }
}

#[test]
fn bytes_behind_the_last_request_are_dropped_while_its_response_is_on_its_way() {
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        let response = Response::from(vec![b'x'; 120_000]).header("Connection", "close");
        reply.send(reactor, response);
    });
    let client = bench.connect_with(10_000);
    bench.reactor[client.id].pause();
    bench.send(&client, get("/"));
    for _ in 0..60 {
        bench.send(&client, [b'x'; 50_000]);
    }
    assert_eq!(bench.reactor[client.id].unsent(), 0, "all of it was taken");
    bench.reactor[client.id].resume();
    bench.settle();
    assert_eq!(body(&client.take()).len(), 120_000);
    assert!(client.has_ended());
}

#[test]
fn handler_that_has_answered_is_not_told_that_the_body_failed() {
    let mut bench = early(2_000_000);
    let client = bench.connect_with(10_000);
    bench.reactor[client.id].pause();
    bench.send(&client, CHUNKED);
    bench.send(&client, "zz\r\n");
    assert_eq!(bench.state, 0);
}

#[test]
fn large_response_to_a_broken_body_is_the_only_one() {
    let mut bench = Bench::new(Server::streaming(|_, _: &mut (), _, reply| {
        let mut reply = Some(reply);
        move |reactor: &mut Context<()>, _: &mut (), _: Body<'_>| {
            reply.take().map(|reply| reply.send(reactor, vec![b'x'; 120_000]));
        }
    }));
    let client = bench.connect_with(10_000);
    bench.reactor[client.id].pause();
    bench.send(&client, CHUNKED);
    bench.send(&client, "zz\r\n");
    bench.reactor[client.id].resume();
    bench.settle();
    let heard = client.take();
    assert_eq!((statuses(&heard), body(&heard).len()), (vec![200], 120_000));
    assert!(client.has_ended());
}

#[test]
fn handler_that_tears_its_response_hears_no_more_of_the_body() {
    let mut bench = Bench::new(Server::streaming(|reactor, _: &mut usize, _, reply| {
        let mut sender = Some(reply.stream(reactor, "begun"));
        move |_: &mut Context<usize>, told: &mut usize, _: Body<'_>| {
            *told += 1;
            sender.take();
        }
    }));
    let client = bench.connect();
    bench.send(&client, format!("{CHUNKED}1\r\na\r\n1\r\nb\r\n0\r\n\r\n"));
    assert_eq!(bench.state, 1);
    assert!(!bench.is_served(&client));
}

#[test]
fn stream_is_told_that_its_client_has_finished_in_the_middle_of_a_body() {
    type Kept = (Option<Sender>, bool);
    let mut bench = Bench::new(Server::streaming(|reactor, kept: &mut Kept, _, reply| {
        let sender = reply.stream(reactor, "begun");
        sender.on_gone(reactor, |_, (_, gone): &mut Kept| *gone = true);
        kept.0 = Some(sender);
        |_: &mut Context<Kept>, _: &mut Kept, _: Body<'_>| {}
    }));
    let client = bench.connect();
    bench.send(&client, head(100, "") + "some");
    bench.finish(&client);
    assert!(bench.state.1 && bench.is_served(&client));
}

#[test]
fn sender_pauses_the_body_and_lets_it_go_on() {
    type Kept = (Option<Sender>, usize);
    let mut bench = Bench::new(Server::streaming(|reactor, kept: &mut Kept, _, reply| {
        kept.0 = Some(reply.stream(reactor, ""));
        |_: &mut Context<Kept>, kept: &mut Kept, event: Body<'_>| {
            if let Body::Data(bytes) = event {
                kept.1 += bytes.len();
            }
        }
    }));
    let client = bench.connect();
    bench.send(&client, head(20, ""));
    bench.state.0.as_ref().unwrap().pause_body(&mut bench.reactor);
    bench.send(&client, "0123456789");
    assert_eq!(bench.state.1, 0);
    bench.state.0.as_ref().unwrap().resume_body(&mut bench.reactor);
    bench.settle();
    assert_eq!(bench.state.1, 10);
}

/// Behind a response that is on its way, so that the connection does not close at once.
#[test]
fn reply_that_comes_behind_its_timeout_says_nothing() {
    let limits = Limits { reply_timeout: Some(SECOND), ..Limits::default() };
    for way in 0..3 {
        let mut bench =
            Bench::<Vec<Reply>>::handler(|reactor, kept, request, reply| match request.path() {
                "/large" => drop(reply.send(reactor, vec![b'x'; 100_000])),
                _ => kept.push(reply),
            });
        bench = bench.limits(limits.clone());
        let client = bench.connect_with(1000);
        bench.reactor[client.id].pause();
        let upgrade = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        bench.send(&client, get("/large") + upgrade);
        bench.wait(SECOND + 2 * MS);
        let late = bench.state.remove(0);
        assert!(!late.is_open(&bench.reactor));
        match way {
            0 => assert!(!late.send(&mut bench.reactor, "late")),
            1 => {
                let sender = late.stream(&mut bench.reactor, "late");
                assert_eq!(sender.write(&mut bench.reactor, b"late"), Pressure::Closed);
                assert!(!sender.is_open(&bench.reactor) && !sender.end(&mut bench.reactor));
            }
            _ => {
                let response = Response::new(StatusCode::SWITCHING_PROTOCOLS);
                assert!(late.upgrade(&mut bench.reactor, response).is_none());
            }
        }
        bench.reactor[client.id].resume();
        bench.settle();
        let heard = client.take();
        assert_eq!(statuses(&heard), [200, 503], "{way}");
        assert!(!heard.contains("late") && client.has_ended());
    }
}

#[test]
fn client_that_had_finished_before_is_told_of_at_once_and_may_be_given_up() {
    type Kept = (Vec<Reply>, usize);
    let mut bench = Bench::<Kept>::handler(|_, kept, _, reply| kept.0.push(reply));
    let client = bench.connect();
    bench.send(&client, get("/"));
    bench.finish(&client);
    let reply = bench.state.0.remove(0);
    reply.on_gone(&mut bench.reactor, |_, kept: &mut Kept| kept.1 += 1);
    bench.settle();
    assert_eq!(bench.state.1, 1);
    drop(reply);
    bench.settle();
    assert_eq!(client.take(), "");
    assert!(client.has_ended());
}

#[test]
fn connection_that_is_handed_over_is_free_of_the_server() {
    let mut bench = Bench::<Vec<Reply>>::handler(|_, kept, _, reply| kept.push(reply));
    bench = bench.limits(Limits { pipelined_bytes_max: 100, ..Limits::default() });
    let timers = bench.reactor.timers();
    let client = bench.connect();
    let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    bench.send(&client, head.to_owned() + &"x".repeat(5000));
    assert!(bench.reactor[client.served].is_paused());
    let response = Response::new(StatusCode::SWITCHING_PROTOCOLS);
    let stream = bench.state.remove(0).upgrade(&mut bench.reactor, response).unwrap();
    assert_eq!(bench.reactor.timers(), timers);
    stream.open(&mut bench.reactor, |reactor, _, conn, event| {
        if let Event::Data(bytes) = event {
            let _ = reactor[conn].write(bytes);
        }
    });
    bench.settle();
    assert_eq!(body(&client.take()).len(), 5000);
    drain(&mut bench.reactor, 60 * SECOND, |_, _, _| {});
    bench.settle();
    assert!(client.has_ended(), "idle");
}

#[test]
fn responses_without_a_body_have_none_however_large_it_would_be() {
    let mut bench = Bench::<()>::handler(|reactor, _, request, reply| match request.path() {
        "/stream" => {
            let response = Response::new(StatusCode::NO_CONTENT);
            let sender = reply.stream(reactor, response);
            assert!(!sender.is_open(reactor));
        }
        _ => drop(reply.send(reactor, vec![b'x'; 100_000])),
    });
    let heard = bench.ask("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned() + &get("/stream"));
    assert_eq!(statuses(&heard), [200, 204]);
    assert!(heard.contains("Content-Length: 100000\r\n") && !heard.contains('x'));
    assert!(!heard.to_lowercase().contains("chunked"), "{heard}");
}

#[test]
fn head_beyond_all_measure_is_a_reset() {
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        let response = Response::text("").header("A", "x".repeat(5 << 20));
        assert!(!reply.send(reactor, response));
    });
    let client = bench.connect();
    bench.send(&client, get("/"));
    assert!(client.take().is_empty() && !bench.is_served(&client));
}

#[test]
fn piece_that_was_refused_counts_for_nothing() {
    let most = net::Limits::default().outbox_bytes_max;
    for sized in [true, false] {
        let mut bench = Bench::<Option<Sender>>::handler(move |reactor, kept, _, reply| {
            *kept = Some(match sized {
                true => reply.stream_sized(reactor, "", most as u64 + 1000),
                false => reply.stream(reactor, ""),
            });
        });
        let client = bench.connect();
        bench.send(&client, get("/"));
        let sender = bench.state.take().unwrap();
        // The sizes of chunks count, too.
        assert_eq!(sender.write(&mut bench.reactor, &vec![b'x'; most + 1]), Pressure::Refused);
        bench.reactor[client.id].pause();
        let _ = sender.write(&mut bench.reactor, &vec![b'x'; most - 20_000]);
        assert_eq!(sender.write(&mut bench.reactor, &[b'x'; 200_000]), Pressure::Refused);
        bench.reactor[client.id].resume();
        bench.settle();
        assert!(sender.write(&mut bench.reactor, &[b'x'; 21_000]).is_taken());
        assert!(sender.end(&mut bench.reactor));
        bench.settle();
        let heard = client.take();
        assert_eq!(body(&heard).matches('x').count(), most + 1000, "sized: {sized}");
    }
}
