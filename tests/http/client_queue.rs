//! The client's queue: who gets a connection, and when, if there are fewer than calls.

use std::time::Duration;

use support::web;
use support::web::{Lab, Told, ok};
use waterwheel::protocols::http::{Client, ClientLimits, ClientRequest};
use waterwheel::{Context, SourceId};

const URL: &str = "http://a.test/";

fn narrow() -> ClientLimits {
    ClientLimits { connections_per_host_max: 1, ..ClientLimits::default() }
}

#[test]
fn calls_beyond_the_limit_wait_for_a_connection_in_order() {
    let mut lab = Lab::limited(ClientLimits { waiting_max: 2, ..narrow() });
    let calls: Vec<SourceId<_>> = (0..3).map(|n| lab.get(&format!("http://a.test/{n}"))).collect();
    lab.get("http://a.test/too-many");
    assert!(lab.error().contains("too many calls wait"));
    assert_eq!(lab.connections(), 1);
    lab.get("http://b.test/");
    assert_eq!(lab.connections(), 2, "another host is another queue");
    assert!(calls[1].cancel(&mut lab.reactor));
    lab.take_got(0);
    lab.say(0, ok("0"));
    assert_eq!(lab.body(), "0");
    assert!(lab.take_got(0).starts_with("GET /2 "), "the one behind it was cancelled");
    lab.get("http://a.test/3");
    lab.reset(0);
    assert!(lab.take_got(2).starts_with("GET /3 "), "over a new one");
    lab.say(2, ok("3"));
    assert_eq!(lab.body(), "3");
    assert!(lab.got(3).starts_with("GET /2 "), "again, and over one that nobody had before");
    assert!(lab.is_left(2));
    lab.say(3, ok("2"));
    assert_eq!(lab.body(), "2");
    assert_eq!((lab.client.idle(), lab.client.connections()), (1, 2));
}

#[test]
fn a_place_in_the_queue_is_not_lost_with_a_call_that_gives_it_up() {
    let mut lab = Lab::limited(narrow());
    lab.get("http://a.test/0");
    let upload =
        lab.client.stream(&mut lab.reactor, ClientRequest::post(URL).body_stream(None), web::note);
    let last = lab.get("http://a.test/2");
    upload.end(&mut lab.reactor); // It still waits, and must not wait twice.
    lab.settle();
    let cancelled = lab.get("http://a.test/3");
    lab.get("http://a.test/4");
    lab.take_got(0);
    lab.say(0, ok("0"));
    assert!(lab.take_got(0).starts_with("POST / "));
    lab.say(0, ok(""));
    assert!(lab.take_got(0).starts_with("GET /2 "), "in order");
    let conn = lab.seen.borrow()[0].conn.unwrap();
    let _ = lab.reactor[conn].write(ok("2").as_bytes());
    while lab.reactor.contains(last) {
        lab.reactor.turn(&mut lab.told, Some(Duration::ZERO)).unwrap();
    }
    assert!(cancelled.cancel(&mut lab.reactor), "promised the connection, and not there yet");
    lab.settle();
    let got = lab.take_got(0);
    assert!(got.contains("GET /4 "), "{got}");
}

/// Asks, and from the response's callback again.
fn chain(reactor: &mut Context<Told>, client: Client<Told>, left: u32) {
    let again = client.clone();
    client.get(reactor, format!("http://a.test/chain/{left}"), move |reactor, told, result| {
        told.responses.push(result);
        if left > 0 {
            chain(reactor, again, left - 1);
        }
    });
}

#[test]
fn who_asks_again_at_once_does_not_get_before_those_who_wait() {
    let mut lab = Lab::limited(narrow());
    let client = lab.client.clone();
    chain(&mut lab.reactor, client, 2);
    lab.get("http://a.test/waits");
    let cancelled = lab.get("http://a.test/gives-up");
    lab.get("http://a.test/waits-too");
    cancelled.cancel(&mut lab.reactor);
    for path in ["chain/2", "waits ", "waits-too", "chain/1", "chain/0"] {
        let got = lab.take_got(0);
        assert!(got.starts_with(&format!("GET /{path}")), "{path}: {got}");
        lab.say(0, ok(path));
    }
    assert_eq!((lab.told.responses.len(), lab.connections(), lab.client.idle()), (5, 1, 1));
}

#[test]
fn calls_that_were_cancelled_take_no_room_in_the_queue() {
    let mut lab = Lab::limited(ClientLimits { waiting_max: 2, ..narrow() });
    lab.get(URL);
    let first = lab.get("http://a.test/first");
    for _ in 0..5 {
        assert!(lab.get(URL).cancel(&mut lab.reactor));
    }
    lab.get("http://a.test/second");
    assert!(lab.told.responses.is_empty(), "{:?}", lab.told.responses);
    lab.get(URL);
    assert!(lab.error().contains("too many calls wait"), "they do count that still wait");
    assert!(first.cancel(&mut lab.reactor));
    lab.take_got(0);
    lab.say(0, ok("0"));
    assert!(lab.take_got(0).starts_with("GET /second "));
}

#[test]
fn a_call_waits_for_a_connection_as_long_as_it_may() {
    let queue_timeout = Some(Duration::from_secs(2));
    let mut lab = Lab::limited(ClientLimits { queue_timeout, ..narrow() });
    lab.get(URL);
    lab.say(0, "HTTP/1.1 200 OK\r\n\r\nends with the connection");
    lab.advance(Duration::from_secs(1));
    let call = lab.get(URL);
    call.pause(&mut lab.reactor);
    lab.advance(Duration::from_millis(1999));
    call.resume(&mut lab.reactor); // That begins nothing anew.
    assert!(lab.told.responses.is_empty());
    lab.advance(Duration::from_millis(1));
    assert_eq!(lab.error(), "http://a.test/: waiting for a connection took too long");
    let call = lab.get(URL);
    lab.finish(0);
    assert_eq!(lab.body(), "ends with the connection");
    lab.advance(Duration::from_secs(2));
    assert!(lab.reactor.contains(call), "its time in the queue is over");
}

#[test]
fn a_call_that_finds_its_connection_closed_keeps_its_place() {
    let mut lab = Lab::limited(ClientLimits { waiting_max: 1, ..narrow() });
    let client = lab.client.clone();
    lab.client.get(&mut lab.reactor, URL, move |reactor, told: &mut Told, result| {
        told.responses.push(result);
        client.get(reactor, "http://a.test/late", |_, told, result| told.responses.push(result));
    });
    lab.send(ClientRequest::post("http://a.test/waits")); // It looks whether the server has closed.
    let conn = lab.seen.borrow()[0].conn.unwrap();
    let _ = lab.reactor[conn].write(ok("0").as_bytes());
    lab.finish(0);
    assert_eq!(lab.body(), "0");
    assert!(lab.take_got(1).starts_with("POST /waits "));
    lab.say(1, ok("1"));
    assert_eq!(lab.body(), "1");
    assert!(lab.take_got(1).starts_with("GET /late "));
}

#[test]
fn a_call_that_goes_on_over_another_connection_is_not_one_too_many() {
    let mut lab = Lab::limited(ClientLimits { waiting_max: 0, ..narrow() });
    lab.send(ClientRequest::get(URL).redirects(1));
    lab.say(0, "HTTP/1.1 302 \r\nLocation: /b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert!(lab.told.responses.is_empty(), "{:?}", lab.told.responses);
    lab.say(1, ok("b"));
    assert_eq!(lab.body(), "b");
    lab.get("http://a.test/again");
    lab.reset(1);
    assert!(lab.told.responses.is_empty(), "{:?}", lab.told.responses);
    assert!(lab.take_got(2).starts_with("GET /again "));
}

#[test]
fn a_call_that_may_have_a_new_connection_is_not_overtaken() {
    for turns in 0..10 {
        let mut lab = Lab::limited(narrow());
        lab.get(URL);
        lab.get("http://a.test/waits");
        let conn = lab.seen.borrow()[0].conn.unwrap();
        let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let _ = lab.reactor[conn].write(last.as_bytes());
        for _ in 0..turns {
            lab.reactor.turn(&mut lab.told, Some(Duration::ZERO)).unwrap();
        }
        lab.get("http://a.test/late");
        assert!(lab.take_got(1).starts_with("GET /waits "), "after {turns} turns");
    }
}
