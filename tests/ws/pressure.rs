//! Time and pressure on WebSockets: silent peers, slow ones, and those that mean harm.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use support::ws;
use support::ws::{Raw, Told, close, frame, masked, note, watched};
use support::{MS, ceiling};
use waterwheel::net::{self, Pressure, memory};
use waterwheel::protocols::ws::{
    Event, Limits, Message, Reason, Role, Socket, Violation, code, open,
};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits {
        message_timeout: Some(5 * SECOND),
        ping_interval: Some(10 * SECOND),
        pong_timeout: 3 * SECOND,
        ..Limits::default()
    }
}

#[test]
fn silent_peer_is_pinged_and_then_given_up() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = Raw::new(Role::Server, limits());
    raw.wait(10 * SECOND - MS);
    assert!(raw.sent().is_empty());
    raw.wait(MS);
    assert_eq!(raw.sent(), frame(0x89, b""));
    raw.wait(3 * SECOND - MS);
    assert!(raw.told.closed.is_none());
    raw.wait(MS);
    assert!(matches!(raw.told.closed, Some(Reason::PongTimeout)), "{:?}", raw.told);
    raw.run_out();
}

#[test]
fn anything_a_peer_says_is_an_answer() {
    let _ceiling = ceiling(LIMIT);
    for answer in [masked(0x8A, b""), masked(0x81, b"busy"), masked(0x89, b"")[..1].to_vec()] {
        let mut raw = Raw::new(Role::Server, limits());
        raw.wait(10 * SECOND);
        assert_eq!(raw.sent(), frame(0x89, b""));
        raw.send(&answer);
        raw.wait(3 * SECOND); // Heard since: the next look is an interval later.
        raw.wait(10 * SECOND - MS);
        assert!(raw.told.closed.is_none() && raw.sent().is_empty());
        raw.wait(MS);
        assert_eq!(raw.sent(), frame(0x89, b""));
        raw.wait(3 * SECOND);
        assert!(matches!(raw.told.closed, Some(Reason::PongTimeout)));
        raw.run_out();
    }
}

#[test]
fn slow_reader_of_much_is_not_given_up_before_it_stops_reading() {
    let _ceiling = ceiling(LIMIT);
    for role in [Role::Server, Role::Client] {
        let mut raw = Raw::new(role, limits());
        let slow = net::Limits {
            read_rate: Some(net::Rate::new(20_000, 20_000)),
            ..net::Limits::default()
        };
        raw.reactor[raw.peer].set_limits(slow);
        // The pings are behind it: nothing is said for 25 seconds.
        let _ = raw.socket.binary(&mut raw.reactor, &[0; 1_000_000]);
        while raw.told.peer.len() < 500_000 {
            raw.wait(100 * MS);
            assert!(raw.told.closed.is_none(), "{:?} at {}", raw.told.closed, raw.told.peer.len());
        }
        raw.reactor[raw.peer].pause();
        for _ in 0..3 {
            raw.wait(3 * SECOND); // What was on its way goes first.
        }
        assert!(matches!(raw.told.closed, Some(Reason::PongTimeout)), "{:?}", raw.told.closed);
        raw.reactor[raw.peer].abort();
        raw.run_out();
    }
}

#[test]
fn slow_reader_of_what_was_sent_before_it_was_a_websocket_is_not_given_up() {
    let _ceiling = ceiling(LIMIT);
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let (mut ours, theirs) = memory::pair(&mut reactor);
    let _ = ours.write(&[0; 1_000_000]);
    let socket = open(&mut reactor, ours, Role::Server, limits(), watched(note));
    let peer = ws::open_peer(&mut reactor, theirs);
    let mut raw = Raw { reactor, told: Told::default(), socket, peer, clock };
    let read_rate = Some(net::Rate::new(20_000, 20_000));
    raw.reactor[peer].set_limits(net::Limits { read_rate, ..net::Limits::default() });
    while raw.told.peer.len() < 500_000 {
        raw.wait(100 * MS);
        assert!(raw.told.closed.is_none(), "{:?} at {}", raw.told.closed, raw.told.peer.len());
    }
}

/// Its answer is there: nobody has looked yet.
#[test]
fn peer_is_not_given_up_in_the_moment_of_a_resume() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = Raw::new(Role::Server, limits());
    let resumed = raw.socket.clone();
    raw.reactor.after(13 * SECOND, move |reactor, _| resumed.resume(reactor));
    raw.wait(10 * SECOND);
    assert_eq!(raw.sent(), frame(0x89, b""));
    raw.socket.pause(&mut raw.reactor);
    raw.send(&masked(0x8A, b""));
    raw.wait(3 * SECOND);
    assert!(raw.told.closed.is_none(), "{:?}", raw.told);
}

/// The loop was held up meanwhile, and one poll cannot report the answers of all.
#[test]
fn crowd_that_has_answered_is_not_given_up() {
    let _ceiling = ceiling(LIMIT);
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let mut told = Told::default();
    const CROWD: usize = 1100;
    support::raise_open_files();
    let listener = net::tcp::listen(&mut reactor, "127.0.0.1:0", |reactor, _, stream| {
        open(reactor, stream, Role::Server, limits(), note);
    });
    let listener = listener.unwrap();
    let addr = reactor[listener].local_addr();
    let mut peers: Vec<_> = (0..CROWD).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let mut turns = |reactor: &mut Reactor<Told>, count| {
        for _ in 0..count {
            reactor.turn(&mut told, Some(Duration::ZERO)).unwrap();
        }
    };
    while reactor[listener].connections() < CROWD {
        turns(&mut reactor, 1);
    }
    clock.advance(10 * SECOND);
    turns(&mut reactor, 6);
    let mut ping = [0; 2];
    peers.iter_mut().for_each(|peer| peer.read_exact(&mut ping).unwrap());
    peers.iter_mut().rev().for_each(|peer| peer.write_all(&masked(0x8A, b"")).unwrap());
    clock.advance(3 * SECOND);
    turns(&mut reactor, 6);
    assert_eq!(reactor[listener].connections(), CROWD);
}

#[test]
fn paused_peer_is_not_given_up_and_heard_when_resumed() {
    let _ceiling = ceiling(LIMIT);
    let pauses =
        |reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>| {
            if matches!(event, Event::Text(_)) {
                socket.pause(reactor);
            }
            note(reactor, told, socket, event);
        };
    let mut raw = Raw::with(Role::Server, limits(), Default::default(), pauses);
    let messages = [masked(0x81, b"1"), masked(0x81, b"2"), masked(0x01, b"3")].concat();
    raw.send(&messages);
    raw.wait(100 * SECOND);
    assert_eq!(raw.told.heard, ["1"]);
    assert!(raw.told.closed.is_none());
    raw.socket.resume(&mut raw.reactor);
    raw.turns(4);
    raw.send(&masked(0x80, b"."));
    raw.wait(100 * SECOND);
    assert_eq!(raw.told.heard, ["1", "2"]);
    raw.socket.resume(&mut raw.reactor);
    raw.turns(4);
    assert_eq!(raw.told.heard, ["1", "2", "3."]);
}

#[test]
fn paused_socket_still_hears_the_answer_to_its_own_close() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = Raw::new(Role::Server, limits());
    raw.socket.pause(&mut raw.reactor);
    raw.send(&[masked(0x81, b"x"), masked(0x88, &close(1000, "done"))].concat());
    assert!(raw.told.heard.is_empty() && raw.told.closed.is_none());
    raw.socket.close(&mut raw.reactor, code::NORMAL, "");
    raw.turns(6);
    assert_eq!(raw.told.end(), "code 1000 \"done\"");
    raw.run_out();
}

#[test]
fn message_that_takes_too_long_ends_the_socket() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = Raw::new(Role::Server, limits());
    let message = masked(0x81, b"a byte a second");
    for byte in &message[..10] {
        raw.send(&[*byte]); // Its head is there after the sixth.
        raw.wait(SECOND);
    }
    assert!(
        matches!(raw.told.closed, Some(Reason::Violation(Violation::TooSlow))),
        "{:?}",
        raw.told
    );
    assert_eq!(raw.sent()[2..4], 1008_u16.to_be_bytes());
    raw.run_out();
    // Nor do fragments without end help, or pings between them.
    let mut raw = Raw::new(Role::Server, limits());
    raw.send(&masked(0x01, b""));
    for _ in 0..5 {
        raw.wait(SECOND - MS);
        raw.send(&[masked(0x00, b"x"), masked(0x89, b"")].concat());
    }
    assert!(raw.told.closed.is_none());
    raw.wait(5 * MS);
    assert!(
        matches!(raw.told.closed, Some(Reason::Violation(Violation::TooSlow))),
        "{:?}",
        raw.told
    );
}

#[test]
fn peer_is_not_blamed_for_a_rate_of_ours() {
    let _ceiling = ceiling(LIMIT);
    let rate = Some(net::Rate::new(10, 0));
    let stream = net::Limits { read_rate: rate, ..net::Limits::default() };
    let mut raw = Raw::with(Role::Server, limits(), stream, note);
    raw.send(&masked(0x81, &[b'x'; 300]));
    for _ in 0..350 {
        raw.wait(100 * MS);
        assert!(raw.told.closed.is_none(), "{:?}", raw.told);
    }
    assert_eq!(raw.told.heard, ["x".repeat(300)]);
}

#[test]
fn message_that_begins_in_the_tick_of_another_has_its_time_too() {
    let mut raw = Raw::new(Role::Server, limits());
    let whole = masked(0x81, b"whole");
    raw.send(&whole[..8]);
    raw.send(&whole[8..]);
    raw.send(&whole[..8]);
    assert_eq!(raw.told.heard, ["whole"]);
    raw.wait(5 * SECOND - MS);
    assert!(raw.told.closed.is_none());
    raw.wait(MS);
    assert!(
        matches!(raw.told.closed, Some(Reason::Violation(Violation::TooSlow))),
        "{:?}",
        raw.told
    );
}

#[test]
fn message_that_was_held_up_by_a_pause_has_its_time_behind_it() {
    let mut raw = Raw::new(Role::Server, limits());
    raw.send(&masked(0x81, b"whole")[..8]);
    raw.socket.pause(&mut raw.reactor);
    for _ in 0..22 {
        raw.wait(SECOND);
    }
    raw.socket.resume(&mut raw.reactor);
    raw.wait(5 * SECOND - MS);
    assert!(raw.told.closed.is_none(), "{:?}", raw.told);
    raw.wait(MS);
    assert!(
        matches!(raw.told.closed, Some(Reason::Violation(Violation::TooSlow))),
        "{:?}",
        raw.told
    );
}

#[test]
fn pause_between_messages_sets_no_limit_to_the_next() {
    let mut raw = Raw::new(Role::Server, limits());
    raw.socket.pause(&mut raw.reactor);
    raw.turns(2);
    raw.socket.resume(&mut raw.reactor);
    raw.wait(10 * SECOND);
    assert_eq!((raw.told.end(), raw.sent()), (String::new(), frame(0x89, b"")));
}

#[test]
fn look_at_a_message_is_none_at_the_peer() {
    let mut raw = Raw::new(Role::Server, limits());
    let whole = masked(0x81, b"whole");
    raw.send(&whole[..8]);
    raw.wait(SECOND);
    raw.send(&whole[8..]);
    for at in 2..20 {
        raw.wait(SECOND);
        assert!(raw.sent().is_empty(), "at {at} s");
    }
    raw.wait(SECOND);
    assert_eq!(raw.sent(), frame(0x89, b""));
}

#[test]
fn half_a_message_has_no_limit_but_that_of_the_close_behind_which_it_is() {
    let limits = Limits { close_timeout: 8 * SECOND, ..limits() };
    let mut raw = Raw::new(Role::Server, limits);
    raw.send(&masked(0x81, b"whole")[..8]);
    raw.socket.close(&mut raw.reactor, code::NORMAL, "");
    raw.wait(8 * SECOND - MS);
    assert!(raw.told.closed.is_none(), "{:?}", raw.told);
    raw.wait(MS);
    assert!(matches!(raw.told.closed, Some(Reason::CloseTimeout)), "{:?}", raw.told);
}

#[test]
fn pong_that_was_put_off_is_not_sent_behind_a_close() {
    let mut raw = Raw::new(Role::Server, limits());
    raw.reactor[raw.peer].pause();
    while raw.socket.binary(&mut raw.reactor, &[1; 10_000]) == Pressure::Below {}
    raw.send(&masked(0x89, b"late"));
    raw.socket.close(&mut raw.reactor, code::NORMAL, "");
    raw.reactor[raw.peer].resume();
    raw.turns(50);
    let sent = raw.sent();
    assert!(sent.len() > 10_000 && sent.ends_with(&frame(0x88, &close(code::NORMAL, ""))));
}

#[test]
fn each_message_has_its_own_time() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = Raw::new(Role::Server, limits());
    for _ in 0..10 {
        raw.send(&masked(0x01, b"x"));
        raw.wait(5 * SECOND - MS);
        // The next one begins in the same read as this one ends.
        raw.send(&[masked(0x80, b"y"), masked(0x01, b"z")].concat());
        raw.wait(5 * SECOND - MS);
        raw.send(&masked(0x80, b""));
    }
    assert_eq!((raw.told.heard.len(), raw.told.end()), (20, String::new()));
}

#[test]
fn frame_is_taken_whole_or_not_at_all() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = Raw::with(
        Role::Client,
        limits(),
        net::Limits { outbox_bytes_max: 9000, ..Default::default() },
        note,
    );
    assert_eq!(raw.socket.binary(&mut raw.reactor, &[1; 10_000]), Pressure::Refused);
    assert!(raw.sent().is_empty(), "not the first pieces of it either");
    for (bytes, taken) in [(97, true), (98, true), (99, false)] {
        let stream = net::Limits { outbox_bytes_max: 100, ..Default::default() };
        let mut raw = Raw::with(Role::Server, limits(), stream, note);
        let pressure = raw.socket.binary(&mut raw.reactor, &vec![1; bytes]);
        assert_eq!(pressure.is_taken(), taken, "{bytes}");
        assert_eq!(raw.sent(), if taken { frame(0x82, &vec![1; bytes]) } else { vec![] });
    }
}

#[test]
fn slow_reader_is_told_drained_when_there_is_room_again() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = Raw::new(Role::Server, limits());
    raw.reactor[raw.peer].pause();
    let message = vec![9; 60_000];
    let mut sent = 0;
    while raw.socket.binary(&mut raw.reactor, &message).is_taken() {
        sent += 1;
        raw.turns(1);
    }
    assert_eq!(sent, ((4 << 20) + memory::BUFFER_BYTES) / 60_004);
    assert_eq!(raw.told.drained, 0);
    raw.reactor[raw.peer].resume();
    raw.turns(300);
    assert_eq!((raw.told.drained, raw.sent().len()), (1, sent * 60_004));
}

#[test]
fn flood_of_pings_makes_no_more_pongs_than_there_is_room_for_and_the_last_is_answered() {
    let _ceiling = ceiling(LIMIT);
    let stream =
        net::Limits { outbox_bytes_high: 10_000, outbox_bytes_low: 0, ..Default::default() };
    let mut raw = Raw::with(Role::Server, limits(), stream, note);
    raw.reactor[raw.peer].pause();
    for count in 0_u32..20_000 {
        let _ = raw.reactor[raw.peer]
            .write(&masked(0x89, &[&count.to_be_bytes()[..], &[0; 60]].concat()));
        if count % 100 == 0 {
            raw.turns(4);
        }
        let conn = raw.socket.conn().unwrap();
        assert!(raw.reactor[conn].unsent() <= 10_000 + 66);
    }
    raw.turns(100);
    raw.reactor[raw.peer].resume();
    raw.turns(100);
    let pongs = raw.sent();
    assert!(pongs.len() < memory::BUFFER_BYTES + 20_000, "{}", pongs.len());
    assert_eq!(pongs[pongs.len() - 66..][2..6], 19_999_u32.to_be_bytes());
    assert_eq!(raw.told.drained, 0); // The handler was not refused anything.
}

#[test]
fn pong_that_was_put_off_is_not_sent_behind_that_to_a_later_ping() {
    let _ceiling = ceiling(LIMIT);
    let stream =
        net::Limits { outbox_bytes_high: 10_000, outbox_bytes_low: 0, ..Default::default() };
    let mut raw = Raw::with(Role::Server, limits(), stream, note);
    raw.reactor[raw.peer].pause();
    raw.turns(2);
    let _ = raw.socket.binary(&mut raw.reactor, &[7; 200_000]);
    raw.send(&masked(0x89, b"one"));
    let conn = raw.socket.conn().unwrap();
    while raw.reactor[conn].unsent() > 10_000 {
        raw.reactor[raw.peer].resume();
        raw.turns(1);
        raw.reactor[raw.peer].pause();
    }
    assert!(raw.reactor[conn].unsent() > 0, "the first pong is put off until all has gone");
    raw.send(&masked(0x89, b"two"));
    raw.reactor[raw.peer].resume();
    raw.turns(20);
    let sent = raw.sent();
    assert_eq!(sent[10 + 200_000..], frame(0x8A, b"two"));
}

#[test]
fn close_goes_out_when_a_full_outbox_has_drained() {
    let _ceiling = ceiling(LIMIT);
    for by_us in [true, false] {
        let stream = net::Limits {
            outbox_bytes_max: 1000,
            outbox_bytes_high: 1000,
            outbox_bytes_low: 100,
            ..Default::default()
        };
        let mut raw = Raw::with(Role::Server, limits(), stream, note);
        raw.reactor[raw.peer].pause();
        raw.turns(1);
        for _ in 0..200 {
            let _ = raw.socket.binary(&mut raw.reactor, &[0; 996 - 2]);
            raw.turns(1);
        }
        while raw.socket.binary(&mut raw.reactor, b"1").is_taken() {}
        assert!(raw.reactor[raw.socket.conn().unwrap()].unsent() > 990);
        if by_us {
            raw.socket.close(&mut raw.reactor, code::AWAY, "");
        } else {
            raw.send(&masked(0x88, &close(1001, "")));
        }
        raw.turns(5);
        assert!(raw.told.closed.is_none());
        raw.reactor[raw.peer].resume();
        raw.turns(20);
        assert!(raw.sent().ends_with(&frame(0x88, &close(1001, ""))), "{by_us}");
        if by_us {
            raw.send(&masked(0x88, &close(1001, "")));
        }
        assert_eq!(raw.told.end(), "code 1001");
        raw.run_out();
    }
}

#[test]
fn slow_reader_of_a_broadcast_holds_up_nobody_and_is_closed() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Told>::new().unwrap();
    let limits = Rc::new(Limits::default());
    let (mut peers, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (ours, theirs) = memory::pair(&mut reactor);
        peers.push(open(&mut reactor, ours, Role::Server, limits.clone(), ws::watched(note)));
        readers.push(open(&mut reactor, theirs, Role::Client, limits.clone(), {
            |_: &mut Context<Told>, told: &mut Told, _: &Socket, event: Event<'_>| {
                if let Event::Binary(bytes) = event {
                    told.peer.push(bytes[0]);
                }
            }
        }));
    }
    readers[0].pause(&mut reactor);
    let mut told = Told::default();
    let mut late: Option<usize> = None;
    for round in 0..100 {
        let message = Message::binary(&vec![round as u8; 100_000]);
        for peer in &peers {
            if !peer.send(&mut reactor, &message).is_taken() && late.is_none() {
                assert!(*peer == peers[0]);
                late = Some(round);
                peer.abort(&mut reactor); // What this server does with those who are behind.
            }
        }
        for _ in 0..8 {
            reactor.turn(&mut told, Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(told.peer, [round as u8; 2], "{:?}", told.closed);
        told.peer.clear();
    }
    assert_eq!(late, Some(((4 << 20) + 65_536) / 100_010));
    assert!(matches!(told.closed, Some(Reason::Aborted)));
}

/// A drain that has begun; `Closed` of the socket is all that its peer waits for.
fn draining(
    handler: impl FnMut(&mut Context<Told>, &mut Told, &Socket, Event<'_>) + 'static,
) -> Raw {
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let (ours, theirs) = memory::pair(&mut reactor);
    let ours = ours.accepted();
    let socket = open(&mut reactor, ours, Role::Server, limits(), watched(handler));
    let peer = ws::open_peer(&mut reactor, theirs);
    let mut raw = Raw { reactor, told: Told::default(), socket, peer, clock };
    raw.send(&masked(0x81, b"hello"));
    raw
}

fn drain(raw: &mut Raw) {
    let done = |_: &mut Context<Told>, told: &mut Told, report: net::DrainReport| {
        assert_eq!((report.connections, report.aborted), (1, 0), "{report}");
        told.heard.push("drained".to_owned());
    };
    net::drain(&mut raw.reactor, 3600 * SECOND, done);
    raw.turns(10);
}

#[test]
fn drain_says_that_the_server_goes_and_waits_for_the_answer() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = draining(note);
    drain(&mut raw);
    assert_eq!(raw.sent(), frame(0x88, &close(1001, "")));
    assert_eq!(raw.told.heard, ["hello"]);
    raw.send(&masked(0x88, &close(1001, "")));
    raw.turns(5);
    assert_eq!((raw.told.end(), raw.told.heard.len()), ("code 1001".to_owned(), 2));
    raw.run_out();
}

#[test]
fn drain_waits_for_the_rest_of_a_message_and_for_what_a_handler_holds_back() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = draining(|reactor, told, socket, event| {
        if matches!(event, Event::Text("pause")) {
            socket.pause(reactor);
        }
        note(reactor, told, socket, event);
    });
    raw.send(&masked(0x01, b"pa")); // A fragment, and the first byte of the next one's head.
    raw.send(&masked(0x80, b"use")[..1]);
    drain(&mut raw);
    let before = raw.reactor.statistics().callbacks;
    raw.turns(50);
    assert!(raw.sent().is_empty(), "{:?}", raw.told);
    assert_eq!(raw.reactor.statistics().callbacks, before, "it waits, and does not ask again");
    raw.send(&masked(0x80, b"use")[1..]);
    raw.turns(50);
    assert_eq!((raw.sent().len(), raw.told.heard.last().unwrap().as_str()), (0, "pause"));
    raw.socket.resume(&mut raw.reactor);
    raw.turns(10);
    assert_eq!(raw.sent(), frame(0x88, &close(1001, "")));
    raw.send(&masked(0x88, &close(1001, "")));
    raw.turns(5);
    assert_eq!(raw.told.heard.last().unwrap(), "drained");
    raw.run_out();
}

#[test]
fn drain_gives_up_who_does_not_answer() {
    let _ceiling = ceiling(LIMIT);
    let mut raw = draining(note);
    let conn = raw.socket.conn().unwrap();
    raw.reactor[conn].hold();
    drain(&mut raw);
    assert!(raw.sent().is_empty());
    raw.reactor[conn].release();
    raw.turns(10);
    assert_eq!(raw.sent(), frame(0x88, &close(1001, "")));
    raw.clock.advance(limits().close_timeout);
    raw.turns(10);
    assert!(matches!(raw.told.closed, Some(Reason::CloseTimeout)), "{:?}", raw.told);
    assert_eq!(raw.told.heard.last().unwrap(), "drained");
}

#[test]
fn drain_waits_for_the_answer_to_a_close() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Told>::new().unwrap();
    let (ours, theirs) = memory::pair(&mut reactor);
    let limits = || Rc::new(Limits::default());
    let server = open(&mut reactor, ours.accepted(), Role::Server, limits(), ws::watched(note));
    open(&mut reactor, theirs, Role::Client, limits(), |_, told: &mut Told, _, event| {
        told.heard.push(format!("{event:?}"));
    });
    server.close(&mut reactor, code::AWAY, "going down");
    let done = |_: &mut Context<Told>, told: &mut Told, report: net::DrainReport| {
        told.heard.push(format!("{} of {}", report.finished, report.connections));
    };
    net::drain(&mut reactor, 10 * SECOND, done);
    let mut told = Told::default();
    reactor.run(&mut told).unwrap();
    assert_eq!(told.end(), "code 1001");
    told.heard.sort();
    let expected = "Closed(Closed { code: 1001, reason: \"going down\" })";
    assert_eq!(told.heard, ["1 of 1", expected]);
}
