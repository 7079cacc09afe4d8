//! A proxy made of the server and the client: what goes on, what is tried again, what an upgrade becomes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use support::web::{Lab, Told, note, ok};
use waterwheel::Context;
use waterwheel::SourceId;
use waterwheel::net::{Conn, Event, memory};
use waterwheel::protocols::http::{
    CallEvent, Client, ClientLimits, ClientRequest, Error, Forward, ForwardEvent, Server,
};

/// A client of the proxy, and what it has got.
struct Front {
    conn: SourceId<Conn>,
    got: Rc<RefCell<(Vec<u8>, bool)>>,
}

impl Front {
    /// Connects to a proxy that asks the servers `http://0.test`, `http://1.test`, … one after the other.
    fn new(lab: &mut Lab) -> Front {
        let client = lab.client.clone();
        let server = Server::streaming(move |reactor, told: &mut Told, request, reply| {
            let forward = Forward::new(reactor, request, reply, "lab").header("X-Added", "1");
            attempt(reactor, told, &forward, &client, 0);
            forward.body()
        });
        let (end, ours) = memory::pair(&mut lab.reactor);
        server.serve(&mut lab.reactor, ours);
        let got: Rc<RefCell<(Vec<u8>, bool)>> = Rc::default();
        let seen = got.clone();
        let conn = end.open(&mut lab.reactor, move |_, _, _, event| match event {
            Event::Data(bytes) => seen.borrow_mut().0.extend_from_slice(bytes),
            Event::Closed(_) | Event::Eof => seen.borrow_mut().1 = true,
            Event::Drained => {}
        });
        lab.settle();
        Front { conn, got }
    }

    fn send(&self, lab: &mut Lab, bytes: impl AsRef<[u8]>) {
        let _ = self.conn.write(&mut lab.reactor, bytes.as_ref());
        lab.settle();
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.got.borrow_mut().0)).unwrap()
    }
}

fn attempt(
    reactor: &mut Context<Told>,
    told: &mut Told,
    forward: &Forward<Told>,
    client: &Client<Told>,
    at: usize,
) {
    told.events.push(format!("to {at}"));
    let own = client.clone();
    let origin = format!("http://{at}.test");
    forward.send(reactor, client, origin, move |reactor, told: &mut Told, forward, event| {
        match event {
            ForwardEvent::Head(status) => told.events.push(format!("head {}", status.as_u16())),
            ForwardEvent::End => told.events.push("end".into()),
            ForwardEvent::Gone => told.events.push("gone".into()),
            ForwardEvent::Upgraded(streams) => {
                let (client, server) = *streams;
                told.events.push("upgraded".into());
                waterwheel::net::link(reactor, client, server, |_, told: &mut Told, _| {
                    told.events.push("over".into());
                });
            }
            ForwardEvent::Failed(error) => {
                told.events.push(format!("failed {}", error.gateway_status().as_u16()));
                if forward.may_repeat(error) && at < 2 {
                    attempt(reactor, told, forward, &own, at + 1);
                }
            }
        }
    });
}

fn get(fields: &str) -> String {
    format!("GET /a?b HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn put(body: &str) -> String {
    format!("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_request_goes_on_and_the_response_comes_back() {
    let mut lab = Lab::new();
    let front = Front::new(&mut lab);
    front.send(&mut lab, get("X-A: 1\r\nConnection: x-b\r\nX-B: 2\r\n"));
    let expected = "GET /a?b HTTP/1.1\r\nX-A: 1\r\nHost: h\r\nX-Forwarded-Host: h\r\nVia: 1.1 lab\r\n\
                    X-Added: 1\r\n\r\n";
    assert_eq!(lab.take_got(0), expected);
    lab.say(
        0,
        "HTTP/1.1 200 OK\r\nConnection: x-c\r\nX-C: 1\r\nX-D: 2\r\nContent-Length: 4\r\n\r\nba",
    );
    lab.say(0, "ck");
    let got = front.take();
    assert!(got.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nDate: "), "{got}");
    assert!(
        got.ends_with("\r\nX-D: 2\r\nVia: 1.1 lab\r\n\r\nback") && !got.contains("X-C"),
        "{got}"
    );
    // Of an unknown length, and without a body though it has a length.
    front.send(&mut lab, get(""));
    lab.say(0, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    let got = front.take();
    assert!(got.contains("\r\nTransfer-Encoding: chunked\r\n"), "{got}");
    assert!(got.ends_with("\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), "{got}");
    front.send(&mut lab, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    lab.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    let got = front.take();
    assert!(got.contains("\r\nContent-Length: 1000\r\n") && got.ends_with("\r\n\r\n"), "{got}");
    front.send(&mut lab, get(""));
    lab.say(0, "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n");
    assert!(!front.take().contains("Content-Length"));
    assert_eq!(lab.connections(), 1);
}

#[test]
fn what_broke_off_goes_to_another_server_with_its_body() {
    let mut lab = Lab::new();
    let front = Front::new(&mut lab);
    front.send(&mut lab, &put("0123456789")[..52]);
    lab.reset(0);
    assert_eq!(lab.seen.borrow()[1].to, "1.test:80");
    front.send(&mut lab, &put("0123456789")[52..]);
    let sent = lab.take_got(1);
    assert!(sent.ends_with("\r\n\r\n0123456789"), "{sent}");
    lab.say(1, ok("thanks"));
    assert!(front.take().ends_with("thanks"));
    assert_eq!(lab.events(), ["to 0", "failed 502", "to 1", "head 200", "end"]);
    // A POST may have been done.
    front.send(&mut lab, put("x").replace("PUT", "POST"));
    lab.reset(2);
    assert!(front.take().starts_with("HTTP/1.1 502 "));
    assert_eq!(lab.events(), ["to 0", "failed 502"]);
    // One that is too long to be kept.
    front.send(&mut lab, put(&"x".repeat(Forward::<Told>::KEPT_BYTES_MAX)));
    lab.reset(3);
    lab.reset(1); // It had idled.
    lab.reset(4);
    assert!(front.take().starts_with("HTTP/1.1 502 "));
    assert_eq!(lab.events(), ["to 0", "failed 502", "to 1", "failed 502", "to 2", "failed 502"]);
    front.send(&mut lab, put(&"x".repeat(Forward::<Told>::KEPT_BYTES_MAX + 1)));
    lab.reset(5);
    assert!(front.take().starts_with("HTTP/1.1 502 "));
    assert_eq!(lab.events(), ["to 0", "failed 502"]);
}

#[test]
fn a_response_that_breaks_off_looks_like_that() {
    let mut lab = Lab::new();
    let front = Front::new(&mut lab);
    front.send(&mut lab, get(""));
    lab.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    assert!(front.take().ends_with("half"));
    lab.reset(0);
    assert_eq!((front.take(), front.got.borrow().1), (String::new(), true));
    assert_eq!(lab.events(), ["to 0", "head 200", "failed 502"]);
    assert_eq!(lab.connections(), 1, "not tried again");
}

#[test]
fn a_client_that_goes_takes_its_call_along() {
    let mut lab = Lab::new();
    for half in [get(""), put("0123456789")[..52].to_owned()] {
        let at = lab.connections();
        let front = Front::new(&mut lab);
        front.send(&mut lab, half);
        assert_eq!(lab.connections(), at + 1);
        front.conn.abort(&mut lab.reactor);
        lab.settle();
        assert!(lab.is_left(at));
        assert_eq!(lab.events(), ["to 0", "gone"]);
    }
    // One that has only finished sending gets its response.
    let (front, at) = (Front::new(&mut lab), lab.connections());
    front.send(&mut lab, get(""));
    front.conn.shutdown(&mut lab.reactor);
    lab.settle();
    lab.say(at, ok("still"));
    assert!(front.take().ends_with("still"));
}

#[test]
fn time_that_is_up_is_504_and_nonsense_502() {
    let limits =
        ClientLimits { head_timeout: Some(Duration::from_secs(1)), ..ClientLimits::default() };
    let mut lab = Lab::limited(limits);
    let front = Front::new(&mut lab);
    front.send(&mut lab, get(""));
    lab.advance(Duration::from_secs(2));
    assert!(front.take().starts_with("HTTP/1.1 504 Gateway Timeout\r\n"));
    front.send(&mut lab, get(""));
    lab.say(1, "nonsense\r\n\r\n");
    assert!(front.take().starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
    front.send(&mut lab, "GET / HTTP/1.1\r\nHost: h\r\nX: \x01\r\n\r\n");
    assert!(front.take().starts_with("HTTP/1.1 400 "));
    assert_eq!(lab.events(), ["to 0", "failed 504", "to 0", "failed 502"]);
}

#[test]
fn a_changed_protocol_is_a_link_of_both_sides() {
    let mut lab = Lab::new();
    let front = Front::new(&mut lab);
    front.send(&mut lab, get("Connection: upgrade\r\nUpgrade: websocket\r\nX: y\r\n") + "early");
    let sent = lab.take_got(0);
    assert!(sent.contains("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"), "{sent}");
    lab.say(
        0,
        "HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX: z\r\n\r\nfirst",
    );
    let got = front.take();
    assert!(got.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{got}");
    assert!(got.ends_with("\r\n\r\nfirst") && got.contains("\r\nX: z\r\n"), "{got}");
    assert_eq!(lab.take_got(0), "early");
    front.send(&mut lab, "there");
    lab.say(0, "back");
    assert_eq!((lab.take_got(0), front.take()), ("there".into(), "back".into()));
    front.conn.close(&mut lab.reactor);
    lab.settle();
    lab.finish(0);
    assert_eq!(lab.events(), ["to 0", "upgraded", "over"]);
    // Other protocols are not asked for.
    let front = Front::new(&mut lab);
    front.send(&mut lab, get("Connection: upgrade\r\nUpgrade: h2c\r\n"));
    assert!(!lab.take_got(1).to_lowercase().contains("upgrade"));
}

#[test]
fn a_call_hands_over_its_connection_when_the_server_agrees() {
    let mut lab = Lab::new();
    let request = ClientRequest::get("http://a.test/").upgrade("echo/1, other");
    lab.client.stream(
        &mut lab.reactor,
        request.clone(),
        |reactor, told: &mut Told, call, event| {
            if let CallEvent::Head(head) = &event {
                assert_eq!(head.status.as_u16(), 101);
                let stream = call.take_stream(reactor).expect("now");
                assert!(call.take_stream(reactor).is_none(), "once");
                let conn = stream.open(reactor, |_, told: &mut Told, _, event| {
                    if let Event::Data(bytes) = event {
                        told.events.push(String::from_utf8_lossy(bytes).into_owned());
                    }
                });
                let _ = conn.write(reactor, b"hello");
                return;
            }
            note(reactor, told, call, event);
        },
    );
    lab.settle();
    assert!(lab.take_got(0).contains("\r\nConnection: Upgrade\r\nUpgrade: echo/1, other\r\n"));
    for cut in ["HTTP/1.1 101 Yes\r\nUpgrade: echo/1\r\nConnection: upgr", "ade\r\n\r\nbehind"] {
        lab.say(0, cut);
    }
    lab.say(0, "more");
    assert_eq!(lab.take_got(0), "hello");
    assert_eq!(lab.events().concat(), "behindmore");
    assert_eq!(lab.client.connections(), 0, "it is none of the client's any more");
    // Nobody takes it.
    let call = lab.send(request.clone());
    lab.say(1, "HTTP/1.1 101 Yes\r\n\r\n");
    assert_eq!(lab.error(), "http://a.test/: a bad response: its connection was not taken over");
    assert!(call.take_stream(&mut lab.reactor).is_none() && lab.is_left(1));
    // The server does not agree: a response like any other.
    lab.send(request.clone());
    lab.say(2, ok("no"));
    assert_eq!(lab.body(), "no");
    // What is not valid.
    for bad in [
        request.clone().body("x"),
        request.clone().header("Connection", "close"),
        ClientRequest::get("http://a.test/").upgrade(" "),
        ClientRequest::get("http://a.test/").upgrade("a\r\nX: y"),
    ] {
        lab.send(bad);
        assert!(matches!(lab.response(), Err(Error::Request { .. })));
    }
    // The same request to another server, with the same path.
    lab.send(ClientRequest::get("http://a.test/p?q").to_origin("http://b.test:81"));
    assert_eq!(lab.seen.borrow()[3].to, "b.test:81");
    assert!(lab.take_got(3).starts_with("GET /p?q HTTP/1.1\r\nHost: b.test:81\r\n"));
}
