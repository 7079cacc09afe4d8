//! Bodies that come and go piece by piece, and the limits on a call's time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use support::MS;
use support::web::{Lab, Told, note, ok};
use waterwheel::net::{Pressure, memory};
use waterwheel::protocols::http::{
    Call, CallEvent, CallStage, Client, ClientLimits, ClientRequest, Error,
};
use waterwheel::{Context, Reactor, SourceId};

const URL: &str = "http://a.test/";
const SECOND: Duration = Duration::from_secs(1);

fn chunked(pieces: &[&str]) -> String {
    let mut text = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in pieces {
        text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    text + "0\r\n\r\n"
}

#[test]
fn a_response_is_told_as_it_comes() {
    let mut lab = Lab::new();
    lab.stream(ClientRequest::get(URL));
    lab.say(0, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n");
    assert!(lab.events().is_empty());
    lab.say(0, "Content-Length: 6\r\n\r\n");
    assert_eq!(lab.events(), ["head 200"]);
    lab.say(0, "abc");
    assert_eq!(lab.events(), ["data abc"]);
    lab.say(0, "def");
    assert_eq!(lab.events(), ["data def", "end"]);
    lab.stream(ClientRequest::get(URL));
    lab.say(0, chunked(&["one", "two", "three"]));
    assert_eq!(lab.events(), ["head 200", "data onetwothree", "end"]);
    assert_eq!(lab.client.idle(), 1);
}

#[test]
fn every_kind_of_response_is_the_same_wherever_it_is_cut() {
    let until_close = "HTTP/1.1 200 OK\r\n\r\nhello";
    for (text, ends) in [
        (ok("hello"), false),
        (chunked(&["he", "llo"]), false),
        (format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok("hello")), false),
        (until_close.to_owned(), true),
    ] {
        for cut in 1..text.len() {
            let mut lab = Lab::new();
            lab.stream(ClientRequest::get(URL));
            lab.say(0, &text[..cut]);
            lab.say(0, &text[cut..]);
            if ends {
                lab.finish(0);
            }
            let events = lab.events().join("|").replace("|data ", "");
            assert_eq!(events, "head 200hello|end", "{text:?} cut at {cut}");
            assert_eq!(lab.client.idle(), usize::from(!ends));
        }
    }
}

#[test]
fn a_response_that_is_cut_off_is_not_taken_for_a_whole_one() {
    for (text, stage) in [
        ("", CallStage::Head),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", CallStage::Head),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12345678", CallStage::Body),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", CallStage::Body),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", CallStage::Body),
    ] {
        let mut lab = Lab::new();
        lab.get(URL);
        lab.say(0, text);
        lab.finish(0);
        let error = lab.response().unwrap_err();
        assert!(matches!(error, Error::Lost { stage: at, .. } if at == stage), "{text:?}: {error}");
    }
    let mut lab = Lab::new();
    lab.get(URL);
    lab.say(0, "HTTP/1.1 200 OK\r\n\r\nall but");
    lab.reset(0);
    assert!(matches!(lab.response().unwrap_err(), Error::Lost { .. }), "a reset is no end");
}

#[test]
fn what_is_no_response_or_a_smuggled_one_is_refused() {
    for text in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let mut lab = Lab::new();
        lab.get(URL);
        lab.say(0, text);
        let error = lab.response().unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{text:?}: {error}");
        assert!(lab.is_left(0), "{text:?}");
    }
    let mut lab = Lab::new();
    lab.get(URL);
    lab.say(0, "HTTP/1.1 102 Processing\r\n\r\n".repeat(40));
    assert!(lab.error().contains("interim"));
}

#[test]
fn so_many_interim_responses_are_heard_and_no_more() {
    for (count, heard) in [(32, true), (33, false)] {
        let mut lab = Lab::new();
        lab.get(URL);
        lab.say(0, "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count) + &ok("at last"));
        match heard {
            true => assert_eq!(lab.body(), "at last"),
            false => assert!(lab.error().contains("too many interim responses")),
        }
    }
}

/// What is wrong is not where the head was looked at, as it came in pieces.
#[test]
fn half_a_head_that_is_none_is_refused_and_not_lost() {
    let mut lab = Lab::new();
    lab.get(URL);
    "HTTP/1.1 2x".bytes().for_each(|byte| lab.say(0, [byte]));
    lab.finish(0);
    let error = lab.error();
    assert!(error.contains("a bad status line"), "{error}");
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let limits = ClientLimits { head_bytes_max: 200, headers_max: 5, ..ClientLimits::default() };
    for flood in [format!("A: {}", "b".repeat(300)), "A: b\r\n".repeat(6)] {
        let mut lab = Lab::limited(limits.clone());
        lab.get(URL);
        lab.say(0, format!("HTTP/1.1 200 OK\r\n{flood}\r\n\r\n"));
        assert!(matches!(lab.response().unwrap_err(), Error::Refused { .. }));
    }
}

#[test]
fn responses_without_a_body_have_none_whatever_they_say() {
    for (request, status) in [
        (ClientRequest::head(URL), "200 OK"),
        (ClientRequest::get(URL), "204 No Content"),
        (ClientRequest::get(URL), "304 Not"),
    ] {
        let mut lab = Lab::new();
        lab.send(request);
        lab.say(0, format!("HTTP/1.1 {status}\r\nContent-Length: 100\r\n\r\n"));
        assert_eq!(lab.body(), "");
        assert_eq!(lab.client.idle(), 1);
    }
}

#[test]
fn what_is_collected_has_a_limit_and_what_is_streamed_none() {
    for text in [ok("123456"), chunked(&["123", "456"]), "HTTP/1.1 200 OK\r\n\r\n123456".to_owned()]
    {
        let mut lab = Lab::limited(ClientLimits { body_bytes_max: 5, ..ClientLimits::default() });
        lab.get(URL);
        lab.say(0, &text);
        assert_eq!(lab.error(), "http://a.test/: the body is longer than 5 bytes");
        assert!(lab.is_left(0) && !lab.reactor.is_alive());
        lab.send(ClientRequest::get(URL).body_bytes_max(6));
        lab.say(1, &text);
        lab.finish(1);
        assert_eq!(lab.body(), "123456");
    }
}

#[test]
fn a_paused_call_is_told_no_data_and_slows_the_server_down() {
    let mut lab = Lab::new();
    let call = lab.stream(ClientRequest::get(URL));
    call.pause(&mut lab.reactor);
    let body = "x".repeat(1_000_000);
    lab.say(0, ok(&body));
    assert!(lab.events().is_empty());
    let conn = lab.seen.borrow()[0].conn.unwrap();
    let unsent = lab.reactor[conn].unsent();
    assert!(unsent > 700_000, "memory holds 64 KiB, and we a read or two: {unsent}");
    lab.advance(1000 * SECOND);
    assert!(lab.events().is_empty(), "nor does time run");
    call.resume(&mut lab.reactor);
    lab.settle();
    let events = lab.events();
    assert_eq!((&events[0][..], events[1].len(), &events[2][..]), ("head 200", 1_000_005, "end"));
}

/// Pauses at each piece, and is resumed by the test.
fn pausing(
    reactor: &mut Context<Told>,
    told: &mut Told,
    call: SourceId<Call>,
    event: CallEvent<'_>,
) {
    if !matches!(event, CallEvent::End) {
        call.pause(reactor);
    }
    note(reactor, told, call, event);
}

#[test]
fn a_call_that_pauses_in_each_callback_loses_nothing() {
    for text in [ok("abc"), chunked(&["a", "b", "c"])] {
        let mut lab = Lab::new();
        let call = lab.client.stream(&mut lab.reactor, ClientRequest::get(URL), pausing);
        lab.settle();
        lab.say(0, text);
        let mut events = lab.events();
        assert_eq!(events, ["head 200"], "nothing more while it is paused");
        for _ in 0..5 {
            call.resume(&mut lab.reactor);
            lab.settle();
            events.extend(lab.events());
        }
        assert_eq!(events.join("|").replace("|data ", ""), "head 200abc|end");
        assert_eq!(lab.client.idle(), 1);
        lab.get(URL);
        lab.say(0, ok("again"));
        assert_eq!(lab.body(), "again", "the connection is not paused");
    }
}

#[test]
fn a_call_may_be_cancelled_in_each_of_its_events() {
    for stop in 0..3 {
        let mut lab = Lab::new();
        let mut events = 0;
        lab.client.stream(
            &mut lab.reactor,
            ClientRequest::get(URL),
            move |reactor, told: &mut Told, call, event| {
                note(reactor, told, call, event);
                if events == stop {
                    assert!(call.cancel(reactor));
                }
                events += 1;
            },
        );
        lab.settle();
        lab.say(0, chunked(&["a", "b", "c", "d"]));
        let expected = ["head 200", "head 200|data a", "head 200|data ab"][stop];
        assert_eq!(lab.events().join("|"), expected);
        assert!(lab.is_left(0) && !lab.reactor.is_alive());
        assert_eq!((lab.client.connections(), lab.reactor.statistics().stale), (0, 0));
    }
}

#[test]
fn a_body_is_sent_piece_by_piece_with_a_length_or_in_chunks() {
    for (length, expected) in [
        (Some(6), "Content-Length: 6\r\n\r\nabcdef"),
        (None, "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"),
    ] {
        for early in 0..3 {
            let mut lab = Lab::new();
            let request = ClientRequest::post(URL).body_stream(length);
            let call = lab.client.stream(&mut lab.reactor, request, note);
            for (at, piece) in [&b"abc"[..], b"def", b""].into_iter().enumerate() {
                if at == early {
                    lab.settle();
                }
                assert_eq!(call.write(&mut lab.reactor, piece), Pressure::Below);
            }
            call.end(&mut lab.reactor);
            lab.settle();
            let refused = call.write(&mut lab.reactor, b"more");
            assert_eq!(refused, Pressure::Closed, "it has ended");
            assert!(lab.got(0).ends_with(expected), "{}", lab.got(0));
            lab.say(0, ok("thanks"));
            assert_eq!(lab.events(), ["head 200", "data thanks", "end"]);
            assert_eq!(lab.client.idle(), 1);
            assert_eq!(call.write(&mut lab.reactor, b"stale"), Pressure::Closed);
        }
    }
}

#[test]
fn a_body_that_is_not_as_long_as_told_fails_the_call() {
    let mut lab = Lab::new();
    let call = lab.stream(ClientRequest::post(URL).body_stream(Some(6)));
    assert_eq!(call.write(&mut lab.reactor, b"1234567"), Pressure::Refused);
    assert_eq!(call.write(&mut lab.reactor, b"12345"), Pressure::Below);
    call.end(&mut lab.reactor);
    lab.settle();
    assert_eq!(
        lab.events(),
        ["failed http://a.test/: the request cannot be sent: its body is shorter than its length"]
    );
    assert!(lab.is_left(0));
}

#[test]
fn an_upload_is_told_of_pressure_and_of_room() {
    let mut lab = Lab::new();
    let call =
        lab.client.stream(&mut lab.reactor, ClientRequest::post(URL).body_stream(None), note);
    let piece = vec![b'x'; 100_000];
    let mut written = 0;
    let mut write_all = |lab: &mut Lab| {
        loop {
            let pressure = call.write(&mut lab.reactor, &piece);
            written += if !pressure.is_taken() { 0 } else { piece.len() };
            if pressure != Pressure::Below {
                return written;
            }
        }
    };
    assert_eq!(write_all(&mut lab), 300_000, "before the connection is there");
    lab.settle();
    assert_eq!(lab.events(), ["drained"]);
    let conn = lab.seen.borrow()[0].conn.unwrap();
    lab.reactor[conn].pause();
    write_all(&mut lab);
    lab.settle();
    assert!(lab.events().is_empty());
    lab.reactor[conn].resume();
    lab.settle();
    assert_eq!(lab.events(), ["drained"]);
    call.end(&mut lab.reactor);
    lab.settle();
    lab.say(0, ok("thanks"));
    assert_eq!(lab.events(), ["head 200", "data thanks", "end"]);
    let got = lab.got(0);
    let written = write_all(&mut lab);
    assert_eq!(got.matches('x').count(), written);
}

#[test]
fn a_large_body_goes_as_the_server_takes_it() {
    let mut lab = Lab::new();
    let body = vec![b'y'; 10_000_000];
    lab.send(ClientRequest::put(URL).body(body));
    assert_eq!(lab.got(0).matches('y').count(), 10_000_000);
    lab.say(0, ok(""));
    assert_eq!(lab.body(), "");
    assert_eq!(lab.client.idle(), 1);
}

#[test]
fn a_response_before_the_upload_has_ended_is_delivered_and_ends_the_call() {
    let mut lab = Lab::new();
    lab.seen.borrow_mut().clear();
    let call = lab.stream(ClientRequest::post(URL).body_stream(Some(1_000_000)));
    assert_eq!(call.write(&mut lab.reactor, b"a first piece"), Pressure::Below);
    lab.settle();
    lab.say(0, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!");
    assert_eq!(lab.events(), ["head 413", "data no!", "end"]);
    assert!(lab.is_left(0), "whatever it would send now is no request");
    assert_eq!((lab.client.idle(), call.write(&mut lab.reactor, b"x")), (0, Pressure::Closed));
}

#[test]
fn a_body_waits_for_100_or_a_second_or_is_never_sent() {
    for (says, at_once, sends) in [
        ("HTTP/1.1 100 Continue\r\n\r\n", true, true),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", false, true),
        ("", false, true),
        ("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n", false, false),
    ] {
        let mut lab = Lab::new();
        lab.send(ClientRequest::post(URL).body("the body").expect_continue());
        assert!(lab.got(0).ends_with("Content-Length: 8\r\nExpect: 100-continue\r\n\r\n"));
        lab.advance(999 * MS);
        assert!(!lab.got(0).contains("the body"));
        lab.say(0, says);
        assert_eq!(lab.got(0).ends_with("\r\n\r\nthe body"), at_once, "after {says:?}");
        lab.advance(2 * MS);
        assert_eq!(lab.got(0).ends_with("\r\n\r\nthe body"), sends, "after {says:?}");
        if sends {
            lab.say(0, ok("thanks"));
            assert_eq!(lab.body(), "thanks");
        } else {
            assert_eq!(lab.response().unwrap().status, 413);
        }
        assert_eq!(lab.client.idle(), usize::from(sends), "a body that was promised is owed");
    }
    let mut lab = Lab::new();
    lab.send(ClientRequest::get(URL).expect_continue());
    assert!(!lab.got(0).contains("Expect"), "without a body there is nothing to hold back");
}

const UNEXPECTED: &str = "HTTP/1.1 417 No\r\nContent-Length: 3\r\n\r\nno!";

/// RFC 9110, 10.1.1.
#[test]
fn a_server_that_knows_no_expectation_is_asked_without() {
    let mut lab = Lab::new();
    lab.send(ClientRequest::post(URL).body("the body").expect_continue());
    lab.say(0, UNEXPECTED);
    assert!(lab.is_left(0), "it may wait for the body that was promised");
    let again = lab.got(1);
    assert!(again.ends_with("\r\nContent-Length: 8\r\n\r\nthe body"), "{again}");
    assert!(!again.contains("Expect"), "{again}");
    // That is asked once. What a server says to a request without the field is a response.
    lab.say(1, UNEXPECTED);
    let response = lab.response().unwrap();
    assert_eq!((response.status.as_u16(), response.text()), (417, Ok("no!")));
    lab.send(ClientRequest::post(URL).body("the body"));
    lab.say(1, UNEXPECTED);
    assert_eq!((lab.response().unwrap().status.as_u16(), lab.connections()), (417, 2));
}

#[test]
fn a_body_that_was_sent_unasked_is_sent_again_behind_a_417_and_one_that_is_gone_is_not() {
    // It said nothing for a second, and then that it had not wanted any of it.
    let mut lab = Lab::new();
    lab.send(ClientRequest::post(URL).body("the body").expect_continue());
    lab.advance(1001 * MS);
    assert!(lab.take_got(0).ends_with("the body"));
    lab.say(0, UNEXPECTED);
    assert!(
        lab.got(0).ends_with("\r\n\r\nthe body"),
        "over the same connection, where all is said"
    );
    lab.say(0, ok("thanks"));
    assert_eq!((lab.body(), lab.connections()), ("thanks".to_owned(), 1));
    // What the caller writes waits for the second request, if nothing of it has gone.
    for written_before in [true, false] {
        for gone in [true, false] {
            let mut lab = Lab::new();
            let call = lab.stream(ClientRequest::post(URL).body_stream(None).expect_continue());
            if written_before {
                let _ = call.write(&mut lab.reactor, b"one");
            }
            if gone {
                lab.advance(1001 * MS);
            }
            lab.say(0, UNEXPECTED);
            if gone {
                assert_eq!(lab.events(), ["head 417", "data no!", "end"]);
                continue;
            }
            if !written_before {
                let _ = call.write(&mut lab.reactor, b"one");
            }
            let _ = call.write(&mut lab.reactor, b"two");
            call.end(&mut lab.reactor);
            lab.settle();
            let expected = "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n";
            assert!(lab.got(1).ends_with(expected), "{}", lab.got(1));
            lab.say(1, ok("thanks"));
            assert_eq!(lab.events(), ["head 200", "data thanks", "end"]);
        }
    }
}

#[test]
fn each_phase_has_its_timeout() {
    let limits = ClientLimits {
        connect_timeout: Some(SECOND),
        head_timeout: Some(2 * SECOND),
        body_timeout: Some(3 * SECOND),
        ..ClientLimits::default()
    };
    let error = |lab: &mut Lab, stage| {
        let error = lab.response().unwrap_err();
        assert!(matches!(error, Error::Timeout { stage: was, .. } if was == stage), "{error}");
        assert!(error.is_timeout() && !lab.reactor.is_alive());
    };
    // Nobody ever answers the dialer.
    let mut lab = Lab::with(|client| {
        client.limits(limits.clone()).dialer(|reactor, _, done| {
            let forever = reactor.register(
                waterwheel::reactor::VirtualSource,
                waterwheel::reactor::Interest::READABLE,
                move |_, _, _, _| {
                    let _kept = &done;
                },
            );
            Ok(Some(forever?.raw()))
        })
    });
    lab.get(URL);
    lab.advance(999 * MS);
    assert!(lab.told.responses.is_empty());
    lab.advance(MS);
    error(&mut lab, CallStage::Connect);

    let mut lab = Lab::limited(limits.clone());
    lab.get(URL);
    lab.advance(1999 * MS);
    lab.say(0, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nA: byte at a");
    assert!(lab.told.responses.is_empty());
    lab.advance(MS);
    error(&mut lab, CallStage::Head);

    let mut lab = Lab::limited(limits.clone());
    lab.get(URL);
    lab.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    for _ in 0..4 {
        lab.advance(2999 * MS);
        lab.say(0, "x");
    }
    lab.advance(3001 * MS);
    error(&mut lab, CallStage::Body);
    assert!(lab.is_left(0));
}

#[test]
fn a_response_that_began_early_waits_for_the_upload() {
    let body_timeout = Some(3 * SECOND);
    let mut lab = Lab::limited(ClientLimits { body_timeout, ..ClientLimits::default() });
    let call = lab.stream(ClientRequest::post(URL).body_stream(None));
    lab.say(0, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        lab.advance(2 * SECOND);
        assert_eq!(call.write(&mut lab.reactor, b"piece"), Pressure::Below);
        lab.settle();
    }
    let conn = lab.seen.borrow()[0].conn.unwrap();
    lab.reactor[conn].pause();
    while call.write(&mut lab.reactor, &[b'x'; 65536]) == Pressure::Below {
        lab.settle();
    }
    lab.advance(4 * SECOND);
    assert_eq!(lab.events(), ["head 200"], "of bytes that wait the write timeout knows");
    lab.reactor[conn].resume();
    lab.settle();
    assert_eq!(lab.events(), ["drained"]);
    lab.advance(7 * SECOND);
    assert_eq!(lab.events(), ["failed http://a.test/: receiving the body took too long"]);
}

#[test]
fn all_of_a_call_has_its_time_whatever_it_is_doing() {
    for request in [ClientRequest::get(URL).timeout(SECOND), ClientRequest::get(URL)] {
        let total_timeout = Some(SECOND);
        let mut lab = Lab::limited(ClientLimits { total_timeout, ..ClientLimits::default() });
        lab.send(request);
        lab.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
        for _ in 0..9 {
            lab.advance(100 * MS);
            lab.say(0, "x");
        }
        assert!(lab.told.responses.is_empty());
        lab.advance(100 * MS);
        assert_eq!(lab.error(), "http://a.test/: the call took too long");
    }
}

#[test]
fn a_server_that_takes_nothing_of_an_upload_is_given_up() {
    let limits = ClientLimits { write_timeout: Some(SECOND), ..ClientLimits::default() };
    let mut lab = Lab::limited(limits);
    let call =
        lab.client.send(&mut lab.reactor, ClientRequest::post(URL).body(vec![0; 1_000_000]), {
            |_, told: &mut Told, result| told.responses.push(result)
        });
    lab.reactor.turn(&mut lab.told, Some(Duration::ZERO)).unwrap();
    let conn = lab.seen.borrow()[0].conn.unwrap();
    lab.reactor[conn].pause();
    lab.settle();
    lab.advance(999 * MS);
    assert!(lab.reactor.contains(call));
    lab.advance(3 * MS);
    let error = lab.response().unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("while sending"), "{error}");
}

#[test]
fn injected_line_ends_and_the_clients_own_fields_are_refused_before_anything_is_sent() {
    for request in [
        ClientRequest::get(URL).header("A", "b\r\nHost: evil"),
        ClientRequest::get(URL).header("A\r\nB", "c"),
        ClientRequest::get(URL).header("A B", "c"),
        ClientRequest::get(URL).header("", "c"),
        ClientRequest::get(URL).header("A", "b\0"),
        ClientRequest::get(URL).header("Content-Length", "5"),
        ClientRequest::get(URL).header("transfer-encoding", "chunked"),
        ClientRequest::get(URL).header("Expect", "100-continue"),
        ClientRequest::get(URL).header("Host", "a").header("host", "b"),
        ClientRequest::get(URL).header("Host", "a/b"),
        ClientRequest::get(URL).header("Authorization", "a").header("authorization", "b"),
        ClientRequest::get(URL)
            .header("Proxy-Authorization", "a")
            .header("Proxy-Authorization", "a"),
        ClientRequest::get("http://a.test/\r\nHost: evil"),
        ClientRequest::get("http://a.test/a b\r\nHost: evil"),
        ClientRequest::get("http://a b.test/"),
        ClientRequest::get("http://b\u{fc}cher.test/"),
        ClientRequest::get("http://a.test\r\n/"),
        ClientRequest::get("/relative"),
        ClientRequest::get("gopher://a.test/"),
        ClientRequest::get(""),
        ClientRequest::new(waterwheel::protocols::http::Method::CONNECT, URL),
    ] {
        let mut lab = Lab::new();
        lab.send(request.clone());
        let error = lab.response().unwrap_err();
        assert!(matches!(error, Error::Request { .. }), "{request:?}: {error}");
        assert_eq!((lab.connections(), lab.reactor.is_alive()), (0, false), "{request:?}");
    }
}

#[test]
fn a_panic_that_leaves_the_loop_takes_its_call_along_too() {
    let mut lab = Lab::new();
    lab.client.stream(&mut lab.reactor, ClientRequest::get(URL), |_, _, _, event| {
        assert!(!matches!(event, CallEvent::Data(_)), "as was meant");
    });
    lab.settle();
    let ran = catch_unwind(AssertUnwindSafe(|| lab.say(0, chunked(&["a", "b"]))));
    assert!(ran.is_err());
    lab.settle();
    assert!(lab.is_left(0) && !lab.reactor.is_alive(), "half of what has come is gone");
    assert_eq!(lab.client.connections(), 0);
}

#[test]
fn a_callback_that_panics_takes_its_call_along_and_nothing_else() {
    for text in [ok("body"), "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_owned()] {
        let builder = Reactor::builder().panic_policy(waterwheel::reactor::PanicPolicy::Drop);
        let mut lab = Lab::over(builder, memory::BUFFER_BYTES, |client: Client<Told>| client);
        lab.client.stream(&mut lab.reactor, ClientRequest::get(URL), |_, _, _, event| {
            assert!(!matches!(event, CallEvent::Data(_)), "as was meant");
        });
        lab.get("http://b.test/");
        lab.say(0, text);
        assert_eq!((lab.reactor.statistics().panicked, lab.client.connections()), (1, 1));
        assert!(lab.is_left(0));
        lab.say(1, ok("alive"));
        assert_eq!(lab.body(), "alive");
        assert!(!lab.reactor.is_alive(), "{:?}", lab.reactor.why_alive());
    }
}
