//! What a client does where two things meet: a response and an upload, a pause and a limit on time, a
//! pool and its bounds.

use std::time::Duration;

use support::MS;
use support::web::{Lab, Told, note, ok};
use waterwheel::net::Pressure;
use waterwheel::protocols::http::{CallEvent, Client, ClientLimits, ClientRequest};

const URL: &str = "http://a.test/";
const SECOND: Duration = Duration::from_secs(1);

/// What may wait for its connection.
const EARLY_BYTES_MAX: usize = 1024 * 1024;

#[test]
fn early_bytes_are_taken_up_to_a_limit_and_those_that_are_refused_count_for_nothing() {
    for (over, taken) in [(0, true), (1, false)] {
        // Nobody ever answers.
        let mut lab = Lab::with(|_| Client::new().dialer(|_, _, _| Ok(None)));
        let length = EARLY_BYTES_MAX as u64 + 1;
        let call = lab.stream(ClientRequest::post(URL).body_stream(Some(length)));
        assert_eq!(call.write(&mut lab.reactor, &[b'x'; 100]), Pressure::Below);
        let rest = vec![b'x'; EARLY_BYTES_MAX - 100 + over];
        let pressure = call.write(&mut lab.reactor, &rest);
        assert_eq!(pressure.is_taken(), taken, "{over} over");
        assert!(lab.events().is_empty());
    }
    // The whole length may still be written behind a refusal.
    let mut lab = Lab::new();
    let most = EARLY_BYTES_MAX + 1000;
    let call = lab.client.stream(
        &mut lab.reactor,
        ClientRequest::post(URL).body_stream(Some(most as u64)),
        note,
    );
    assert_eq!(call.write(&mut lab.reactor, &vec![b'x'; most]), Pressure::Refused);
    for piece in vec![b'x'; most].chunks(100_000) {
        assert!(call.write(&mut lab.reactor, piece).is_taken());
        lab.settle();
    }
    call.end(&mut lab.reactor);
    lab.settle();
    assert_eq!(lab.got(0).matches('x').count(), most);
}

#[test]
fn pause_is_no_silence_of_the_servers() {
    let limits = ClientLimits { body_timeout: Some(5 * SECOND), ..ClientLimits::default() };
    let mut lab = Lab::limited(limits);
    let call = lab.stream(ClientRequest::get(URL));
    lab.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
    call.pause(&mut lab.reactor);
    lab.advance(100 * SECOND);
    call.resume(&mut lab.reactor);
    lab.settle();
    lab.advance(5 * SECOND - MS);
    assert_eq!(lab.events(), ["head 200", "data ab"]);
    lab.advance(2 * MS);
    let events = lab.events();
    assert!(events.len() == 1 && events[0].starts_with("failed"), "{events:?}");
}

#[test]
fn call_that_is_paused_before_it_is_connected_is_told_nothing() {
    let mut lab = Lab::new();
    let call = lab.client.stream(&mut lab.reactor, ClientRequest::get(URL), note);
    call.pause(&mut lab.reactor);
    lab.settle();
    lab.say(0, ok("body"));
    assert!(lab.events().is_empty());
    call.resume(&mut lab.reactor);
    lab.settle();
    assert_eq!(lab.events(), ["head 200", "data body", "end"]);
}

#[test]
fn no_more_connections_idle_for_one_host_than_may() {
    let limits = ClientLimits { idle_per_host_max: 2, ..ClientLimits::default() };
    let mut lab = Lab::limited(limits);
    for _ in 0..4 {
        lab.get(URL);
    }
    for at in 0..4 {
        lab.say(at, ok(""));
    }
    assert_eq!((lab.client.idle(), lab.told.responses.len()), (2, 4));
    assert_eq!((0..4).filter(|at| lab.is_left(*at)).count(), 2);
}

#[test]
fn connections_do_not_idle_for_longer_than_they_may() {
    let limits = ClientLimits { idle_time_max: 10 * SECOND, ..ClientLimits::default() };
    let mut lab = Lab::limited(limits);
    lab.get(URL);
    lab.get("http://b.test/");
    lab.say(0, ok(""));
    lab.advance(4 * SECOND);
    lab.say(1, ok(""));
    for (wait, idle) in [(6 * SECOND - MS, 2), (2 * MS, 1), (4 * SECOND - 2 * MS, 1), (2 * MS, 0)] {
        lab.advance(wait);
        assert_eq!(lab.client.idle(), idle);
    }
    assert!(lab.is_left(0) && lab.is_left(1));
}

/// The response is there before all of the body has left: what follows on the connection would be
/// taken for the body's rest, or the body for a request.
#[test]
fn connection_that_owes_a_body_is_not_used_again() {
    let mut lab = Lab::over(waterwheel::Reactor::builder(), 1000, |client| client);
    let request = ClientRequest::post(URL).body(vec![b'x'; 5_000_000]);
    lab.client.send(&mut lab.reactor, request, |_, told: &mut Told, result| {
        told.responses.push(result);
    });
    let server = lab.seen.borrow()[0].conn.unwrap();
    lab.reactor[server].pause();
    lab.settle();
    lab.say(0, ok("enough"));
    assert_eq!(lab.body(), "enough");
    assert_eq!(lab.client.idle(), 0);
    // It was written, and waits for the server's 100.
    let mut lab = Lab::new();
    let request = ClientRequest::post(URL).body_stream(Some(4)).expect_continue();
    let call = lab.client.stream(&mut lab.reactor, request, |_, told: &mut Told, _, event| {
        if let CallEvent::End = event {
            told.events.push("end".into());
        }
    });
    lab.settle();
    let _ = call.write(&mut lab.reactor, b"body");
    call.end(&mut lab.reactor);
    lab.say(0, ok(""));
    assert_eq!((lab.events(), lab.client.idle()), (vec!["end".to_owned()], 0));
}

/// A response with so many fields besides its length.
fn with_fields(count: usize) -> String {
    let fields: String = (0..count).map(|at| format!("X-{at}: {at}\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 5\r\n\r\nhello")
}

#[test]
fn headers_max_alone_decides_how_many_fields_a_response_has() {
    for (most, fields, fits) in [
        (256, 127, true),
        (256, 128, true),
        (256, 255, true),
        (256, 256, false),
        (10, 9, true),
        (10, 10, false),
        (1000, 999, true),
        (1000, 1000, false),
        (usize::MAX, 4095, true),
        (usize::MAX, 4096, false),
    ] {
        let limits = ClientLimits { headers_max: most, ..ClientLimits::default() };
        let is_default = limits == ClientLimits::default();
        assert_eq!(is_default, most == 256);
        // Whole, and in two pieces.
        for cut in [0, 1000] {
            let mut lab = Lab::limited(limits.clone());
            lab.get(URL);
            let response = with_fields(fields);
            let cut = cut.min(response.len());
            lab.say(0, &response[..cut]);
            lab.say(0, &response[cut..]);
            let response = lab.response();
            if !fits {
                let error = response.unwrap_err().to_string();
                assert!(error.contains("too many header fields"), "{most}, {fields}: {error}");
                continue;
            }
            let response = response.unwrap();
            let last = format!("x-{}", fields - 1);
            assert_eq!((response.headers.len(), response.text()), (fields + 1, Ok("hello")));
            assert_eq!(response.header(&last), Some(&last[2..]), "{most}, {fields}");
            assert_eq!(lab.client.idle(), 1);
        }
    }
}

#[test]
fn folded_lines_of_a_response_are_told_as_one() {
    let mut lab = Lab::new();
    lab.get(URL);
    let trailer = "5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n";
    let fields = "Server: one\r\n\ttwo\r\nTransfer-Encoding:\r\n chunked\r\n";
    lab.say(0, format!("HTTP/1.1 200 OK\r\n{fields}\r\n{trailer}"));
    let response = lab.response().unwrap();
    assert_eq!((response.header("server"), response.text()), (Some("one   two"), Ok("hello")));
    assert_eq!(lab.client.idle(), 1, "the connection goes on");
}

#[test]
fn a_request_in_the_log_shows_no_secret() {
    let request = ClientRequest::post("http://ann:secret@example.org/orders")
        .header("Authorization", "secret");
    let shown = format!("{:?}", request.body("secret"));
    assert!(shown.contains("POST") && shown.contains("example.org/orders"), "{shown}");
    assert!(shown.contains("[\"Authorization\"]") && shown.contains("6 bytes"), "{shown}");
    assert!(!shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
    let bad = format!("{:?}", ClientRequest::get("http://ann:secret@a b/"));
    assert!(bad.contains("a b") && !bad.contains("secret"), "{bad}");
}
