//! The limits of the HTTP server, each at its edge, and what it may take in time.

use std::cell::RefCell;
use std::time::Duration;

use support::MS;
use support::http::{Bench, Client, body, echo, get, keeping, post, statuses};
use waterwheel::Reactor;
use waterwheel::net::{Pressure, Reason, drain};
use waterwheel::protocols::http::{self as web, ClientLimits, ClientRequest};
use waterwheel::protocols::http::{Body, Limits, Reply, Response, Server, StatusCode};
use waterwheel::timers::ManualClock;

const SECOND: Duration = Duration::from_secs(1);

/// The status for a request, whole and byte by byte.
fn status(limits: &Limits, request: &str) -> u16 {
    let whole = statuses(&echo(limits.clone()).ask(request));
    let mut bench = echo(limits.clone());
    let client = bench.connect();
    request.bytes().for_each(|byte| bench.send(&client, [byte]));
    assert_eq!(statuses(&client.take()), whole, "{request:.50}");
    whole[0]
}

#[test]
fn sizes_are_kept_to_the_byte() {
    const AROUND: usize = "GET / HTTP/1.1\r\nHost: h\r\nA: \r\n\r\n".len();
    let limits = Limits {
        head_bytes_max: 300,
        headers_max: 5,
        target_bytes_max: 50,
        body_bytes_max: 20,
        ..Limits::default()
    };
    for (over, is_over) in [(-1, false), (0, false), (1, true)] {
        let at = |limit: usize| limit.checked_add_signed(over).unwrap();
        let expect = |status| if is_over { status } else { 200 };
        let value = "x".repeat(at(300) - AROUND);
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {value}\r\n\r\n");
        assert_eq!(status(&limits, &head), expect(431), "head {over}");
        let target = format!("/{}", "x".repeat(at(50) - 1));
        assert_eq!(status(&limits, &get(&target)), expect(414), "target {over}");
        let fields = "A: b\r\n".repeat(at(5) - 1);
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        assert_eq!(status(&limits, &head), expect(431), "fields {over}");
        let upload = "x".repeat(at(20));
        assert_eq!(status(&limits, &post("/", &upload)), expect(413), "body {over}");
        let (half, rest) = upload.split_at(10);
        let chunks = format!("a\r\n{half}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len());
        let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(status(&limits, &format!("{chunked}{chunks}")), expect(413), "chunks {over}");
    }
}

#[test]
fn pipelined_requests_wait_up_to_a_limit_and_then_outside() {
    let limits = Limits { pipelined_bytes_max: 1000, ..Limits::default() };
    for (over, held_up) in [(-1, false), (0, false), (1, true)] {
        let mut bench = keeping(limits.clone());
        let client = bench.connect();
        bench.send(&client, get("/"));
        let waiting = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(500));
        let rest = 1000usize.checked_add_signed(over).unwrap() - waiting.len();
        bench.send(&client, &waiting);
        let more = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(rest - 27));
        bench.send(&client, more);
        assert_eq!(bench.reactor[client.served].is_paused(), held_up, "{over}");
        for _ in 0..3 {
            bench.state.remove(0).send(&mut bench.reactor, "");
            bench.settle();
        }
        assert_eq!(statuses(&client.take()).len(), 3);
    }
}

/// Lets all but a millisecond of a limit pass, and then that: what the client hears.
fn at_last<S: 'static>(bench: &mut Bench<S>, client: &Client, limit: Duration) -> String {
    bench.wait(limit - MS);
    assert!(client.heard.bytes.borrow().is_empty() && !client.has_ended(), "too early");
    bench.wait(2 * MS); // Never early, and late by a tick at most.
    client.take()
}

#[test]
fn idle_connection_is_closed_without_a_word() {
    let limits = Limits::default();
    let mut bench = echo(limits.clone());
    let client = bench.connect();
    assert_eq!(at_last(&mut bench, &client, limits.idle_timeout), "");
    assert!(client.has_ended());
    // Counted from the last response.
    let client = bench.connect();
    bench.wait(50 * SECOND);
    bench.send(&client, get("/"));
    client.take();
    assert_eq!(at_last(&mut bench, &client, limits.idle_timeout), "");
    assert!(client.has_ended() && bench.is_served(&client));
    bench.wait(limits.close_grace + MS);
    assert!(!bench.is_served(&client), "also if the client does not close");
}

#[test]
fn head_has_its_time_from_the_first_byte_however_it_drips() {
    let limits = Limits::default();
    let mut bench = echo(limits.clone());
    let client = bench.connect();
    bench.wait(70 * SECOND);
    bench.send(&client, "GET / HT");
    let response = at_last(&mut bench, &client, limits.head_timeout);
    assert_eq!(statuses(&response), [408]);
    assert!(response.contains("Connection: close") && client.has_ended());
    let client = bench.connect();
    for byte in get("/").bytes().cycle().take(9) {
        bench.send(&client, [byte]);
        bench.wait(SECOND);
    }
    assert!(!client.has_ended());
    bench.send(&client, "X");
    bench.wait(SECOND);
    assert_eq!(statuses(&client.take()), [408], "each byte alone was in time");
    // In time.
    let client = bench.connect();
    bench.send(&client, "GET / HTTP/1.1\r\nHost: h");
    bench.wait(limits.head_timeout - MS);
    bench.send(&client, "\r\n\r\n");
    assert_eq!(statuses(&client.take()), [200]);
}

#[test]
fn body_must_keep_coming() {
    let limits = Limits { body_bytes_per_second: 100, ..Limits::default() };
    let begin = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n";
    // Not a byte.
    let mut bench = echo(limits.clone());
    let client = bench.connect();
    bench.send(&client, begin);
    assert_eq!(statuses(&at_last(&mut bench, &client, limits.body_grace)), [408]);
    // At just the rate for its length, and then with less.
    let client = bench.connect();
    bench.send(&client, begin);
    for _ in 0..40 {
        bench.wait(SECOND);
        bench.send(&client, [b'x'; 100]);
    }
    assert!(!client.has_ended());
    let mut seconds = 0;
    while !client.has_ended() {
        seconds += 1;
        bench.send(&client, [b'x'; 50]);
        bench.wait(SECOND);
    }
    assert_eq!(statuses(&client.take()), [408]);
    assert!((18..=21).contains(&seconds), "ten of grace last 20 at half the rate: {seconds}");
    // A burst saves up no more than the grace.
    let client = bench.connect();
    bench.send(&client, begin);
    bench.send(&client, [b'x'; 4000]);
    assert_eq!(statuses(&at_last(&mut bench, &client, limits.body_grace)), [408]);
}

#[test]
fn what_has_come_when_a_limit_is_up_is_read_first() {
    let limits = Limits { head_bytes_max: 200_000, ..Limits::default() };
    let (ask, tell) = (get("/"), post("/", "told"));
    let in_two_reads = ask.replace("\r\n\r\n", &format!("\r\nA: {}\r\n\r\n", "a".repeat(100_000)));
    for (all, at, limit) in [
        (&ask, 0, limits.idle_timeout),
        (&ask, 20, limits.head_timeout),
        (&in_two_reads, 20, limits.head_timeout),
        (&tell, tell.len() - 2, limits.body_grace),
    ] {
        let mut bench = echo(limits.clone());
        let client = bench.connect_with(200_000);
        bench.send(&client, &all[..at]);
        // Sent when the turn has asked already what there is to read.
        let (id, rest) = (client.id, all.as_bytes()[at..].to_vec());
        bench.reactor.after(limit, move |reactor, _| {
            assert_eq!(reactor[id].write(&rest), Pressure::Below);
        });
        bench.clock.advance(limit);
        bench.settle();
        assert_eq!(statuses(&client.take()), [200], "at {at} of {all:.50}");
        bench.wait(limits.idle_timeout - MS);
        assert!(!client.has_ended(), "it counts from the response");
        bench.wait(2 * MS);
        assert!(client.has_ended());
    }
}

#[test]
fn streamed_body_that_is_too_slow_is_told_and_answered() {
    let server = Server::streaming(|_, seen: &mut (Option<Reply>, Vec<u16>), _, reply| {
        seen.0 = Some(reply);
        |_, seen: &mut (Option<Reply>, Vec<u16>), body| {
            if let Body::Failed(why) = body {
                seen.1.push(why.status());
            }
        }
    });
    let mut bench = Bench::new(server);
    let client = bench.connect();
    bench.send(&client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe");
    bench.wait(20 * SECOND);
    assert_eq!(statuses(&client.take()), [408]);
    assert_eq!(bench.state.1, [408]);
    assert!(!bench.state.0.take().unwrap().send(&mut bench.reactor, "late"));
    assert!(client.has_ended());
}

#[test]
fn handler_that_takes_too_long_is_answered_for() {
    let limits = Limits { reply_timeout: Some(3 * SECOND), ..Limits::default() };
    let mut bench = keeping(limits);
    let client = bench.connect();
    bench.send(&client, get("/").repeat(2));
    assert_eq!(statuses(&at_last(&mut bench, &client, 3 * SECOND)), [503]);
    assert!(client.has_ended());
    let late = bench.state.remove(0);
    assert!(!late.send(&mut bench.reactor, "late") && bench.state.is_empty());
    // Without a limit, an hour is fine.
    let mut bench = keeping(Limits::default());
    let client = bench.connect();
    bench.send(&client, get("/"));
    bench.wait(Duration::from_secs(3600));
    assert!(bench.state.remove(0).send(&mut bench.reactor, "at last"));
    bench.settle();
    assert!(client.take().ends_with("at last"));
}

#[test]
fn reader_that_takes_nothing_is_reset() {
    let mut bench = Bench::<()>::handler(|reactor, _, _, reply| {
        reply.send(reactor, vec![b'x'; 100_000]);
    });
    let client = bench.connect_with(1000);
    bench.reactor[client.id].pause();
    bench.send(&client, get("/"));
    bench.wait(30 * SECOND - MS);
    assert!(bench.is_served(&client));
    bench.wait(2 * MS);
    assert!(!bench.is_served(&client));
    bench.reactor[client.id].resume();
    bench.settle();
    assert!(matches!(client.closed(), Some(Reason::Reset)));
}

#[test]
fn drain_lets_pending_responses_finish_and_says_close() {
    let mut bench = keeping(Limits::default());
    let (busy, idle, half) = (bench.connect(), bench.connect(), bench.connect());
    bench.send(&busy, get("/1"));
    bench.send(&half, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nha");
    drain(&mut bench.reactor, 60 * SECOND, |reactor, kept: &mut Vec<Reply>, report| {
        assert_eq!((report.idle, report.finished, report.aborted), (1, 2, 0));
        assert!(kept.is_empty());
        reactor.stop();
    });
    bench.settle();
    assert!(idle.has_ended() && !busy.has_ended() && !half.has_ended());
    bench.send(&half, "lf");
    assert_eq!(bench.state.len(), 2);
    for reply in std::mem::take(&mut bench.state) {
        assert!(reply.send(&mut bench.reactor, Response::from(StatusCode::OK)));
    }
    bench.settle();
    for client in [&busy, &half] {
        assert!(client.take().contains("Connection: close\r\n") && client.has_ended());
    }
    for client in [&busy, &half, &idle] {
        bench.reactor[client.id].close();
    }
    bench.settle();
    assert!(bench.reactor.take_stop(), "the report came");
}

#[test]
fn drain_ends_a_connection_behind_the_request_it_has_sent() {
    let mut bench = echo(Limits::default());
    let client = bench.connect();
    let _ = bench.reactor[client.id].write(get("/").as_bytes());
    drain(&mut bench.reactor, SECOND, |_, _, _| {});
    bench.settle();
    let response = client.take();
    assert!(body(&response).starts_with("GET /") && response.contains("Connection: close"));
    assert!(client.has_ended());
}

#[test]
fn nothing_is_left_of_a_connection_but_for_its_limits() {
    let mut bench = echo(Limits::default());
    let before = (bench.reactor.sources(), bench.reactor.timers());
    for end in 0..3 {
        let client = bench.connect();
        bench.send(&client, get("/"));
        match end {
            0 => bench.reactor[client.id].close(),
            1 => bench.reactor[client.id].abort(),
            _ => drop(bench.reactor.remove(client.served)),
        }
        bench.settle();
        if bench.reactor.contains(client.id) {
            bench.reactor[client.id].close();
        }
        bench.wait(Duration::from_secs(100));
        assert_eq!((bench.reactor.sources(), bench.reactor.timers()), before, "{end}");
    }
}

/// A handler that takes two seconds by this clock, and answers or does not.
fn slow_handler(limits: Limits, answers: bool) -> Bench<Option<ManualClock>> {
    let mut kept = Vec::new();
    let server = Server::new(move |reactor, clock: &mut Option<ManualClock>, _, reply: Reply| {
        clock.iter().for_each(|clock| clock.advance(2 * SECOND));
        if answers {
            reply.send(reactor, "");
        } else {
            kept.push(reply);
        }
    });
    let mut bench = Bench::new(server.limits(limits));
    bench.state = Some(bench.clock.clone());
    bench
}

/// What begins after a long callback, in the same turn, has all of its time.
#[test]
fn limits_count_from_the_moment_however_long_a_handler_took() {
    let limits = Limits { idle_timeout: SECOND, ..Limits::default() };
    let mut bench = slow_handler(limits, true);
    let client = bench.connect();
    bench.send(&client, get("/"));
    assert_eq!(statuses(&client.take()), [200]);
    assert_eq!(at_last(&mut bench, &client, SECOND), "");
    assert!(client.has_ended());
    let limits = Limits { reply_timeout: Some(SECOND), ..Limits::default() };
    let mut bench = slow_handler(limits, false);
    let client = bench.connect();
    bench.send(&client, get("/"));
    assert_eq!(statuses(&at_last(&mut bench, &client, SECOND)), [503]);
}

/// Calls that a callback begins when it has taken long: the whole call, and the wait for the
/// connection, which nobody gives it.
#[test]
fn limits_of_a_call_count_from_when_it_was_begun() {
    for total in [true, false] {
        let connect_timeout = (!total).then_some(SECOND);
        let limits = ClientLimits { connect_timeout, ..ClientLimits::default() };
        let dialled = RefCell::new(Vec::new());
        let client = web::Client::new().limits(limits).dialer(move |_, _, done| {
            dialled.borrow_mut().push(done);
            Ok(None)
        });
        let clock = ManualClock::held();
        let mut reactor = Reactor::<bool>::builder().clock(&clock).build().unwrap();
        let (by, mut ended) = (clock.clone(), false);
        reactor.after(Duration::ZERO, move |reactor, _| {
            by.advance(2 * SECOND);
            let mut request = ClientRequest::get("http://h/");
            if total {
                request = request.timeout(SECOND);
            }
            client.send(reactor, request, |_, ended, result| *ended = result.is_err());
        });
        let mut pass = |time| {
            clock.advance(time);
            for _ in 0..5 {
                reactor.turn(&mut ended, Some(Duration::ZERO)).unwrap();
            }
            ended
        };
        assert!(!pass(Duration::ZERO) && !pass(SECOND - MS), "too early, total: {total}");
        assert!(pass(MS), "total: {total}");
    }
}
