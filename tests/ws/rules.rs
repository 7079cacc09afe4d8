//! What a WebSocket promises, whoever its peer is: order, the two ends of a closing, and time.

use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use support::ws::{Raw, Told, close, frame, masked, note};
use support::{MS, ceiling};
use waterwheel::Context;
use waterwheel::net::{Conn, Pressure};
use waterwheel::protocols::ws::{Event, Limits, Message, Reason, Role, Socket, Violation, code};
use waterwheel::timers::ManualClock;

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn server() -> Raw {
    Raw::new(Role::Server, Limits::default())
}

fn client() -> Raw {
    Raw::new(Role::Client, Limits::default())
}

#[test]
fn messages_are_told_whole_once_and_in_order_however_they_come() {
    let _ceiling = ceiling(LIMIT);
    let stream = [
        masked(0x81, b"one"),
        masked(0x01, b"t"),
        masked(0x89, b"?"),
        masked(0x00, b"w"),
        masked(0x80, b"o"),
        masked(0x82, &[3; 3]),
        masked(0x8A, b"!"),
    ]
    .concat();
    for size in [1, 2, 5, stream.len()] {
        let mut raw = server();
        for piece in stream.chunks(size) {
            raw.send(piece);
        }
        assert_eq!(raw.told.heard, ["one", "two", "[3, 3, 3]", "pong [33]"]);
        assert_eq!(raw.sent(), frame(0x8A, b"?"));
    }
}

#[test]
fn what_is_sent_arrives_as_frames_and_a_clients_masked() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = server();
    let long = vec![7; 70_000];
    let message = Message::text("to all");
    assert_eq!(raw.socket.text(&mut raw.reactor, "text"), Pressure::Below);
    assert_eq!(raw.socket.binary(&mut raw.reactor, &long), Pressure::Below);
    assert_eq!(raw.socket.send(&mut raw.reactor, &message), Pressure::Below);
    assert_eq!(raw.socket.ping(&mut raw.reactor, &[1; 125]), Pressure::Below);
    assert_eq!(raw.socket.ping(&mut raw.reactor, &[1; 126]), Pressure::Refused);
    let expected =
        [frame(0x81, b"text"), frame(0x82, &long), frame(0x81, b"to all"), frame(0x89, &[1; 125])];
    raw.turns(20);
    assert!(raw.sent() == expected.concat());

    let mut raw = client();
    let mut heard = server();
    let _ = raw.socket.text(&mut raw.reactor, "text");
    let _ = raw.socket.send(&mut raw.reactor, &message);
    let _ = raw.socket.binary(&mut raw.reactor, &long);
    raw.turns(20);
    heard.send(&raw.sent());
    assert_eq!(heard.told.heard[..2], ["text", "to all"]);
    assert!(heard.told.heard[2] == format!("{long:?}"));
}

#[test]
fn peers_close_is_answered_with_its_code_and_ends_the_connection() {
    let _ceiling = ceiling(LIMIT);
    for (payload, answer, end) in [
        (close(1000, "bye"), close(1000, ""), "code 1000 \"bye\""),
        (close(4321, ""), close(4321, ""), "code 4321"),
        (vec![], vec![], "code 1005"),
    ] {
        let mut raw = server();
        raw.send(&[masked(0x88, &payload), masked(0x81, b"too late")].concat());
        assert_eq!(raw.sent(), frame(0x88, &answer));
        assert_eq!(raw.told.end(), end);
        raw.run_out();
        assert!(raw.told.heard.is_empty());
    }
}

#[test]
fn client_lets_the_server_end_the_connection_but_not_for_ever() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = client();
    raw.send(&frame(0x88, &close(1001, "going down")));
    assert_eq!(raw.sent().len(), 2 + 4 + 2);
    assert_eq!(raw.told.end(), "");
    raw.wait(Limits::default().close_timeout);
    assert_eq!(raw.told.end(), "code 1001 \"going down\"");
    raw.run_out();
}

#[test]
fn our_close_waits_for_the_peers_and_discards_what_comes_before_it() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = server();
    let _ = raw.socket.text(&mut raw.reactor, "last");
    raw.socket.close(&mut raw.reactor, code::AWAY, "going down");
    assert_eq!(raw.socket.text(&mut raw.reactor, "never"), Pressure::Closed);
    raw.socket.close(&mut raw.reactor, code::NORMAL, "again");
    let expected = [frame(0x81, b"last"), frame(0x88, &close(1001, "going down"))].concat();
    assert_eq!(raw.sent(), expected);
    raw.send(&[masked(0x81, b"late"), masked(0x89, b"?")].concat());
    assert!(raw.told.closed.is_none() && raw.sent().is_empty());
    raw.send(&masked(0x88, &close(1001, "")));
    assert_eq!(raw.told.end(), "code 1001");
    raw.run_out();
    assert!(raw.told.heard.is_empty());
}

#[test]
fn close_after_a_long_callback_has_all_of_its_time() {
    let _ceiling = ceiling(LIMIT);
    let clock = Rc::new(OnceCell::<ManualClock>::new());
    let own = clock.clone();
    let limits = Limits { close_timeout: SECOND, ..Limits::default() };
    let stream = waterwheel::net::Limits::default();
    let handler =
        move |reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>| {
            if matches!(event, Event::Text(_)) {
                own.get().unwrap().advance(3 * SECOND);
                socket.close(reactor, code::NORMAL, "");
            }
            note(reactor, told, socket, event);
        };
    let mut raw = Raw::with(Role::Server, limits, stream, handler);
    clock.set(raw.clock.clone()).unwrap();
    raw.send(&masked(0x81, b"close"));
    raw.wait(SECOND - MS);
    assert!(raw.told.closed.is_none(), "{:?}", raw.told);
    raw.wait(MS);
    assert!(matches!(raw.told.closed, Some(Reason::CloseTimeout)), "{:?}", raw.told);
    raw.run_out();
}

#[test]
fn close_that_nobody_answers_times_out() {
    let _ceiling = ceiling(LIMIT);
    for role in [Role::Server, Role::Client] {
        let limits = Limits { close_timeout: SECOND, ..Limits::default() };
        let mut raw = Raw::new(role, limits);
        raw.socket.close(&mut raw.reactor, code::NORMAL, "");
        raw.wait(SECOND - MS);
        assert!(raw.told.closed.is_none());
        raw.wait(MS);
        assert!(matches!(raw.told.closed, Some(Reason::CloseTimeout)), "{:?}", raw.told);
        raw.run_out();
    }
}

#[test]
fn both_ends_may_say_close_at_the_same_time() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = server();
    let _ = raw.reactor[raw.peer].write(&masked(0x88, &close(1001, "mine")));
    raw.socket.close(&mut raw.reactor, code::NORMAL, "ours");
    raw.turns(5);
    assert_eq!(raw.sent(), frame(0x88, &close(1000, "ours")));
    assert_eq!(raw.told.end(), "code 1001 \"mine\"");
    raw.run_out();
}

#[test]
fn fault_is_told_to_the_peer_and_nothing_behind_it_is_read() {
    let _ceiling = ceiling(LIMIT);
    for (bytes, code, why) in [
        (frame(0x81, b"no mask"), 1002, "a client's frame without a mask"),
        (masked(0x83, b""), 1002, "a reserved opcode"),
        (masked(0x09, b""), 1002, "a control frame in fragments"),
        (masked(0x80, b""), 1002, "a continuation of no message"),
        (masked(0x81, b"\xFF"), 1007, "a text that is not UTF-8"),
        (vec![0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1009, "a frame of more than"),
        (vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1002, "a length of 2^63"),
    ] {
        let mut raw = server();
        raw.send(&[masked(0x81, b"fine"), bytes, masked(0x81, b"never read")].concat());
        let sent = raw.sent();
        assert_eq!(sent[..1], [0x88]);
        assert_eq!(sent[2..4], u16::to_be_bytes(code), "{why}");
        assert!(std::str::from_utf8(&sent[4..]).unwrap().starts_with(why));
        assert!(raw.told.end().contains(why), "{:?}", raw.told);
        assert_eq!(raw.told.closed.as_ref().unwrap().code(), code::ABNORMAL);
        assert_eq!(raw.told.heard, ["fine"]);
        raw.run_out();
    }
}

#[test]
fn fault_behind_our_close_ends_it_without_another() {
    let mut raw = server();
    raw.socket.close(&mut raw.reactor, code::NORMAL, "");
    assert_eq!(raw.sent(), frame(0x88, &close(code::NORMAL, "")));
    raw.send(&masked(0x83, b"no such kind"));
    assert!(raw.sent().is_empty());
    assert!(matches!(raw.told.closed, Some(Reason::Violation(_))), "{:?}", raw.told);
}

#[test]
fn connection_that_ends_without_a_close_is_lost() {
    let _ceiling = ceiling(LIMIT);
    let half_open = waterwheel::net::Limits { half_open: true, ..Default::default() };
    type End = fn(&mut Conn);
    let ends: [(End, &str); 2] =
        [(Conn::close, "lost: it ended without a Close"), (Conn::abort, "lost: reset by the peer")];
    for (end, told) in ends {
        for begun in [&b""[..], b"\x81", &masked(0x01, b"x"), &masked(0x81, b"xy")[..7]] {
            let mut raw = Raw::with(Role::Server, Limits::default(), half_open.clone(), note);
            raw.send(begun);
            end(&mut raw.reactor[raw.peer]);
            raw.turns(6);
            assert_eq!(raw.told.end(), told);
            raw.run_out();
        }
    }
}

#[test]
fn peer_that_resets_instead_of_answering_a_close_is_lost() {
    let _ceiling = ceiling(LIMIT);
    for role in [Role::Server, Role::Client] {
        let mut raw = Raw::new(role, Limits::default());
        raw.socket.close(&mut raw.reactor, code::NORMAL, "");
        raw.turns(4);
        raw.reactor[raw.peer].abort();
        raw.turns(4);
        assert_eq!(raw.told.end(), "lost: reset by the peer");
        raw.run_out();
        // Behind its own Close it makes no difference any more.
        let mut raw = Raw::new(role, Limits::default());
        let payload = close(1000, "bye");
        let close =
            if role == Role::Server { masked(0x88, &payload) } else { frame(0x88, &payload) };
        let _ = raw.reactor[raw.peer].write(&close);
        raw.turns(2);
        if let Some(peer) = raw.reactor.get_mut(raw.peer) {
            peer.abort();
        }
        raw.turns(4);
        assert_eq!(raw.told.end(), "code 1000 \"bye\"");
        raw.run_out();
    }
}

#[test]
fn abort_is_told_and_resets() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = server();
    raw.socket.abort(&mut raw.reactor);
    assert_eq!(raw.socket.text(&mut raw.reactor, "x"), Pressure::Closed);
    raw.turns(4);
    assert!(matches!(raw.told.closed, Some(Reason::Aborted)));
    assert!(matches!(raw.told.peer_closed, Some(waterwheel::net::Reason::Reset)));
    raw.socket.abort(&mut raw.reactor); // Harmless when it is over, as is all else.
    raw.socket.close(&mut raw.reactor, 1000, "");
    raw.socket.pause(&mut raw.reactor);
    raw.run_out();
}

#[test]
fn handler_that_closes_or_aborts_hears_nothing_more() {
    let _ceiling = ceiling(LIMIT);
    let closing =
        |reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>| {
            match event {
                Event::Text("close") => socket.close(reactor, code::POLICY, "as you wish"),
                Event::Text("abort") => socket.abort(reactor),
                event => note(reactor, told, socket, event),
            }
        };
    for how in ["close", "abort"] {
        let mut raw = Raw::with(Role::Server, Limits::default(), Default::default(), closing);
        let messages = [how.as_bytes(), b"more"].map(|text| masked(0x81, text));
        raw.send(&[messages.concat(), masked(0x88, b"")].concat());
        assert!(raw.told.heard.is_empty(), "{:?}", raw.told);
        raw.run_out();
    }
}

#[test]
fn handler_that_panics_in_the_middle_of_input_ends_its_socket() {
    let _ceiling = ceiling(LIMIT);
    let panics =
        |reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>| {
            if matches!(event, Event::Text("panic")) {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            note(reactor, told, socket, event);
        };
    let mut raw = Raw::with(Role::Server, Limits::default(), Default::default(), panics);
    let _ = raw.reactor[raw.peer].write(&[masked(0x81, b"panic"), masked(0x81, b"x")].concat());
    let panicked = catch_unwind(AssertUnwindSafe(|| raw.turns(5)));
    assert!(panicked.is_err());
    // Though no more comes: the peer may wait for an answer to what was lost.
    assert_eq!(raw.sent(), frame(0x88, &close(1011, "")));
    assert!(matches!(raw.told.closed, Some(Reason::Panicked)), "{:?}", raw.told);
    raw.run_out();
}

#[test]
fn reactor_may_be_dropped_with_everything_in_flight() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = server();
    raw.send(&masked(0x01, b"begun"));
    let _ = raw.socket.text(&mut raw.reactor, "unsent");
    raw.socket.close(&mut raw.reactor, 1000, "");
    let Raw { socket, reactor, .. } = raw;
    drop(reactor);
    assert!(!socket.is_open());
    assert!(format!("{socket:?}").starts_with("Socket(Server"));
}

#[test]
fn faults_say_what_they_are() {
    let violation = Violation::TooManyFragments { fragments_max: 3 };
    assert_eq!(violation.to_string(), "a message of more than 3 fragments");
    assert_eq!((violation.code(), Violation::TooSlow.code()), (1008, 1008));
}
