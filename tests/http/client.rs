//! The client: what it sends, what it makes of responses, and which connections it uses again.

use std::time::Duration;

use support::clients::skip_without;
use support::web::{Lab, Told, ok};
use support::{MS, ceiling};
use waterwheel::Reactor;
use waterwheel::patterns::Broken;
use waterwheel::protocols::http::{Client, ClientLimits, ClientRequest, Error, Method, StatusCode};

const URL: &str = "http://a.test/";
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_get_is_sent_and_its_response_collected() {
    let mut lab = Lab::new();
    lab.send(
        ClientRequest::get("http://a.test:8080/path?query#fragment").header("Accept", "text/plain"),
    );
    assert_eq!(
        lab.got(0),
        "GET /path?query HTTP/1.1\r\nHost: a.test:8080\r\nAccept: text/plain\r\n\r\n"
    );
    assert_eq!(lab.seen.borrow()[0].to, "a.test:8080");
    lab.say(0, "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nX-a: b\r\nx-A: c\r\n\r\nsorry");
    let response = lab.response().unwrap();
    assert_eq!((response.status, response.text()), (StatusCode::NOT_FOUND, Ok("sorry")));
    assert_eq!(response.header("X-A"), Some("b"));
    assert_eq!(response.headers.get_all("x-a").iter().count(), 2);
    assert!(!lab.reactor.is_alive(), "an idle connection holds nothing");
}

#[test]
fn a_post_sends_its_body_behind_its_length() {
    let mut lab = Lab::new();
    lab.send(ClientRequest::post(URL).header("Content-Type", "text/plain").body("hello"));
    assert_eq!(
        lab.got(0),
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n\
         hello"
    );
    lab.say(0, ok("thanks"));
    assert_eq!(lab.body(), "thanks");
    lab.send(ClientRequest::post(URL));
    assert!(lab.got(0).ends_with("Content-Length: 0\r\n\r\n"), "an empty one says so");
}

#[test]
fn credentials_in_a_url_become_a_field_and_are_in_no_error() {
    let mut lab = Lab::new();
    lab.get("http://user:secret@a.test/");
    assert!(lab.got(0).contains("\r\nAuthorization: Basic dXNlcjpzZWNyZXQ=\r\n"), "{}", lab.got(0));
    assert!(!lab.got(0).contains('@'));
    lab.reset(0);
    let error = lab.error();
    assert!(error.contains("http://a.test/") && !error.contains("secret"), "{error}");
    for url in ["ftp://user:secret@a/", "http://user:secret@a:port/", "user:secret@a b"] {
        lab.get(url);
        let error = lab.error();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_connection_is_used_again_by_its_origin_only() {
    let mut lab = Lab::new();
    for _ in 0..3 {
        lab.get(URL);
        lab.say(0, ok("x"));
        assert_eq!(lab.body(), "x");
        assert_eq!((lab.connections(), lab.client.idle()), (1, 1));
    }
    lab.get("http://a.test:81/");
    lab.get("http://b.test/");
    assert_eq!((lab.connections(), lab.client.idle(), lab.client.connections()), (3, 1, 3));
}

#[test]
fn calls_side_by_side_have_a_connection_each() {
    let mut lab = Lab::new();
    lab.get(URL);
    lab.get(URL);
    assert_eq!(lab.connections(), 2);
    lab.say(1, ok("second"));
    assert_eq!(lab.body(), "second");
    lab.say(0, ok("first"));
    assert_eq!(lab.body(), "first");
    assert_eq!(lab.client.idle(), 2);
}

#[test]
fn a_connection_that_the_server_closes_is_not_used_again() {
    let mut lab = Lab::new();
    for (at, response) in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore than was promised",
    ]
    .into_iter()
    .enumerate()
    {
        lab.get(URL);
        lab.say(at, response);
        assert_eq!(lab.response().unwrap().status, 200);
        assert_eq!((lab.connections(), lab.client.idle()), (at + 1, 0));
        assert!(lab.is_left(at));
    }
    lab.get(URL);
    lab.say(3, ok(""));
    lab.response().unwrap();
    lab.finish(3);
    assert_eq!((lab.client.idle(), lab.client.connections()), (0, 0));
    lab.send(ClientRequest::get(URL).header("Connection", "close"));
    lab.say(4, ok(""));
    assert_eq!(lab.response().unwrap().status, 200);
    assert_eq!(lab.client.idle(), 0, "we have asked for that ourselves");
}

#[test]
fn what_comes_while_a_connection_idles_closes_it() {
    let mut lab = Lab::new();
    lab.get(URL);
    lab.say(0, ok(""));
    lab.response().unwrap();
    lab.say(0, ok("a response to a question that nobody has asked"));
    assert_eq!(lab.client.connections(), 0);
    assert!(lab.is_left(0));
    lab.get(URL);
    lab.say(1, ok("right"));
    assert_eq!(lab.body(), "right");
}

#[test]
fn a_call_that_meets_a_closed_connection_is_made_again_once_if_it_may() {
    let mut lab = Lab::new();
    let mut at = 0;
    for (request, again) in [
        (ClientRequest::get(URL), true),
        (ClientRequest::put(URL).body("same"), true),
        (ClientRequest::delete(URL), true),
        (ClientRequest::post(URL).body("once"), false),
        (ClientRequest::new(Method::PATCH, URL), false),
    ] {
        lab.get(URL);
        lab.say(at, ok(""));
        lab.response().unwrap();
        lab.send(request.clone());
        lab.finish(at);
        assert_eq!(lab.told.responses.is_empty(), again, "{request:?}");
        if again {
            at += 1;
            assert!(lab.got(at).starts_with(request_method(&request)), "{}", lab.got(at));
            lab.finish(at);
        }
        let error = lab.response().unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "once, and not twice: {error}");
        at += 1;
    }
}

fn request_method(request: &ClientRequest) -> &'static str {
    let text = format!("{request:?}");
    ["GET", "PUT", "DELETE"].into_iter().find(|method| text.contains(method)).unwrap()
}

#[test]
fn a_call_is_not_made_again_when_a_byte_of_the_response_has_come() {
    let mut lab = Lab::new();
    lab.get(URL);
    lab.say(0, ok(""));
    lab.response().unwrap();
    lab.get(URL);
    lab.say(0, "H");
    lab.finish(0);
    assert_eq!(
        lab.error(),
        "http://a.test/: the server closed the connection while waiting for the response"
    );
    assert_eq!(lab.connections(), 1);
}

#[test]
fn idle_connections_are_bounded_and_wait_for_so_long_only() {
    let limits = ClientLimits {
        idle_per_host_max: 2,
        idle_max: 3,
        idle_time_max: 100 * MS,
        ..ClientLimits::default()
    };
    let mut lab = Lab::limited(limits);
    let hosts = ["a", "a", "a", "b", "b"];
    for host in hosts {
        lab.get(&format!("http://{host}.test/"));
    }
    for at in 0..hosts.len() {
        lab.say(at, ok(""));
    }
    assert_eq!((lab.client.idle(), lab.client.connections()), (3, 3));
    assert_eq!((0..5).filter(|at| lab.is_left(*at)).count(), 2);
    lab.advance(99 * MS);
    assert_eq!(lab.client.idle(), 3);
    lab.advance(2 * MS);
    assert_eq!((lab.client.idle(), lab.client.connections()), (0, 0));
    assert!((0..5).all(|at| lab.is_left(at)));
}

#[test]
fn a_client_that_is_dropped_closes_its_connections_and_leaves_nothing() {
    let mut lab = Lab::new();
    for _ in 0..2 {
        lab.get(URL);
    }
    lab.say(0, ok(""));
    let clone = lab.client.clone();
    lab.client = Client::new();
    lab.settle();
    assert!(!lab.is_left(0), "a clone may want it");
    drop(clone);
    lab.settle();
    assert!(!lab.is_left(1), "a call goes on without its client");
    lab.say(1, ok("last"));
    assert_eq!(lab.told.responses.pop().unwrap().unwrap().text(), Ok("last"));
    lab.settle();
    assert!(lab.is_left(0) && lab.is_left(1));
    lab.finish(0);
    lab.finish(1);
    assert_eq!((lab.reactor.sources(), lab.reactor.statistics().stale), (0, 0));
}

#[test]
fn the_same_as_promises() {
    let _ceiling = ceiling(LIMIT);
    let mut lab = Lab::new();
    let client = lab.client.clone();
    let first = client.send_promise(&mut lab.reactor, ClientRequest::get(URL));
    first
        .then(&mut lab.reactor, move |reactor, _, response| {
            client.send_promise(reactor, ClientRequest::post(response.text().unwrap()))
        })
        .then(&mut lab.reactor, |_, told: &mut Told, response| told.responses.push(Ok(response)))
        .catch(&mut lab.reactor, |_, told, error| told.responses.push(Err(error)));
    lab.settle();
    lab.say(0, ok("http://b.test/next"));
    assert!(lab.got(1).starts_with("POST /next "));
    lab.say(1, ok("done"));
    assert_eq!(lab.body(), "done");
    let slow = lab.client.send_promise(&mut lab.reactor, ClientRequest::get("http://c.test/"));
    let slow = slow.timeout(&mut lab.reactor, 100 * MS);
    slow.catch(&mut lab.reactor, |_, told: &mut Told, error| {
        told.responses.push(Err(error));
        Err(Error::from(Broken::Abandoned(waterwheel::reactor::Place::caller())))
    });
    lab.settle();
    assert!(!lab.is_left(2));
    lab.advance(101 * MS);
    assert!(lab.response().unwrap_err().is_timeout());
    assert!(lab.is_left(2), "a promise that is cancelled cancels the call");
}

#[test]
fn a_cancelled_call_is_told_nothing_and_leaves_its_connection_at_once() {
    for said in
        ["", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]
    {
        let mut lab = Lab::new();
        let call = lab.get(URL);
        lab.say(0, said);
        assert!(call.cancel(&mut lab.reactor));
        assert!(!call.cancel(&mut lab.reactor));
        lab.settle();
        assert!(lab.is_left(0), "after {said:?}");
        assert!(lab.told.responses.is_empty() && !lab.reactor.is_alive());
        assert_eq!(lab.reactor.statistics().stale, 0);
    }
}

#[test]
fn all_in_flight_goes_with_the_loop() {
    let mut lab = Lab::new();
    lab.get(URL);
    lab.say(0, ok(""));
    lab.get(URL);
    lab.get("http://b.test/");
    let kept = lab.client.clone();
    let Lab { reactor, .. } = lab;
    drop(reactor);
    drop(kept);
}

#[test]
fn a_server_of_pythons_is_asked_for_a_file() {
    skip_without!(PYTHON);
    let _ceiling = ceiling(LIMIT);
    let (_server, addr) = support::process::python_server();
    let mut reactor = Reactor::new().unwrap();
    let client = Client::new();
    let url = format!("http://localhost:{}/Cargo.toml", addr.port());
    let done = |_: &mut _, told: &mut Told, result| told.responses.push(result);
    client.get(&mut reactor, &url, done);
    client.get(&mut reactor, format!("{url}.not"), done);
    let mut told = Told::default();
    reactor.run(&mut told).unwrap();
    let mut responses: Vec<_> = told.responses.drain(..).map(Result::unwrap).collect();
    responses.sort_by_key(|response| response.status);
    let [file, none] = &responses[..] else { panic!("{responses:?}") };
    assert_eq!((file.status.as_u16(), none.status.as_u16()), (200, 404));
    assert_eq!(file.body, std::fs::read(support::home().join("Cargo.toml")).unwrap());
    // The file's connection is kept by both; the other was closed by the server, as it said.
    assert_eq!(client.idle(), 1);
    told.responses = Vec::new();
    client.get(&mut reactor, &url, done);
    reactor.run(&mut told).unwrap();
    assert_eq!(told.responses.remove(0).unwrap().body, file.body);
    assert_eq!((client.idle(), client.connections()), (1, 1));
}
