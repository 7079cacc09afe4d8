//! The peer's FIN without its goodbye (close_notify): what arrived whole is answered, and then the
//! end is told as the error that it is.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use support::tcp;
use support::tcp::{Told, turn_until, turns, unclosed, watched};
use support::tls as with;
use support::tls_peer::TlsPeer;
use waterwheel::net::{
    Conn, Event, Framed, Limits, Lines, Link, LinkReport, Passing, Pressure, Reason, Side, Stream,
    Tap, framed, link, link_with, memory, tcp as net_tcp,
};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

type Version = &'static rustls::SupportedProtocolVersion;

/// Sends back what it hears, and notes it.
fn echo(reactor: &mut Context<Told>, told: &mut Told, conn: SourceId<Conn>, event: Event<'_>) {
    if let Event::Data(bytes) = event {
        let _ = reactor[conn].write(bytes);
    }
    tcp::note(reactor, told, conn, event);
}

/// A server's connection over so small a line, and its peer, which has shaken hands.
fn served<F>(
    reactor: &mut Reactor<Told>,
    told: &mut Told,
    (version, room): (Version, usize),
    limits: Limits,
    handler: F,
) -> TlsPeer
where
    F: FnMut(&mut Context<Told>, &mut Told, SourceId<Conn>, Event<'_>) + 'static,
{
    let (ours, theirs) = memory::pair_with(reactor, room);
    with::server().accept(reactor, ours, move |reactor, _, result| {
        result.unwrap().limits(limits).open(reactor, watched(handler));
    });
    let mut peer = TlsPeer::client(reactor, theirs, with::client_config_of(&[version]));
    peer.shake(reactor, told);
    turns(reactor, told, 5); // For its tickets.
    peer
}

/// The peer says this and ends without a goodbye; both arrive in one turn.
fn say_and_cut<S: 'static>(reactor: &mut Reactor<S>, peer: &mut TlsPeer, bytes: &[u8]) {
    peer.say(bytes);
    peer.flush(reactor);
    reactor[peer.conn].shutdown();
}

/// Turns until all is over; what the peer has heard, and whether that was all of it.
fn hear_out(reactor: &mut Reactor<Told>, told: &mut Told, peer: &mut TlsPeer) -> (Vec<u8>, bool) {
    turn_until(reactor, told, |reactor, told| {
        peer.read(reactor).unwrap();
        told.closed.is_some() && peer.has_ended()
    });
    peer.read(reactor).unwrap();
    assert_eq!(unclosed(), 0);
    (std::mem::take(&mut peer.heard), peer.was_told_goodbye())
}

#[track_caller]
fn assert_cut(told: &Told) {
    assert!(!told.eof, "nobody has said that this is all");
    let Some(Reason::Error(error)) = &told.closed else { panic!("{:?}", told.closed) };
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("close_notify"), "{error}");
}

#[test]
fn what_came_before_a_cut_is_answered_and_then_the_cut_is_told() {
    for version in [&TLS13, &TLS12] {
        // Through a line that takes all of it, and through one that takes it bit by bit.
        for (room, bytes) in [(1 << 16, 1), (1 << 16, 4000), (3000, 2000), (3000, 40_000)] {
            let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
            let said = vec![b'x'; bytes];
            let way = (version, room);
            let mut peer = served(&mut reactor, &mut told, way, Limits::default(), echo);
            say_and_cut(&mut reactor, &mut peer, &said);
            let (heard, whole) = hear_out(&mut reactor, &mut told, &mut peer);
            assert!(heard == said && whole, "{} of {bytes} bytes came back", heard.len());
            assert_cut(&told);
        }
    }
}

#[test]
fn over_a_socket_ten_of_ten_are_answered() {
    let _ceiling = support::ceiling(Duration::from_secs(60));
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let listener = net_tcp::listen(&mut reactor, "127.0.0.1:0", |reactor, _, incoming| {
        with::server().accept(reactor, incoming, |reactor, _, result| {
            result.unwrap().open(reactor, watched(echo));
        });
    });
    let addr = reactor[listener.unwrap()].local_addr();
    for version in [&TLS13, &TLS12] {
        for _ in 0..10 {
            let config = with::client_config_of(&[version]);
            let name = "localhost".try_into().unwrap();
            let mut peer = tcp::Peer::to(addr);
            let mut tls = rustls::ClientConnection::new(config, name).unwrap();
            turn_until(&mut reactor, &mut told, |_, _| {
                let _ = tls.complete_io(&mut peer.socket);
                !tls.is_handshaking() && !tls.wants_write()
            });
            turns(&mut reactor, &mut told, 5);
            // The loop does not run meanwhile, as that of a process which was stopped.
            tls.writer().write_all(b"a whole request").unwrap();
            tls.write_tls(&mut peer.socket).unwrap();
            peer.finish();
            turn_until(&mut reactor, &mut told, |_, told| {
                let over = peer.read_all().is_some();
                over && told.closed.is_some()
            });
            let mut input = &peer.got[..];
            while tls.read_tls(&mut input).unwrap() > 0 {
                tls.process_new_packets().unwrap();
            }
            let mut heard = Vec::new();
            tls.reader().read_to_end(&mut heard).expect("a goodbye");
            assert_eq!(heard, b"a whole request");
            assert_cut(&std::mem::take(&mut told));
        }
    }
}

#[test]
fn a_request_that_comes_with_the_end_of_the_handshake_and_a_cut_is_answered() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (ours, theirs) = memory::pair(&mut reactor);
    with::server().accept(&mut reactor, ours, |reactor, _, result| {
        result.unwrap().open(reactor, watched(echo));
    });
    let mut peer = TlsPeer::client(&mut reactor, theirs, with::client_config_of(&[&TLS13]));
    peer.flush(&mut reactor);
    turns(&mut reactor, &mut told, 5);
    peer.read(&mut reactor).unwrap();
    say_and_cut(&mut reactor, &mut peer, b"all at once");
    assert_eq!(hear_out(&mut reactor, &mut told, &mut peer), (b"all at once".to_vec(), true));
    assert_cut(&told);
}

#[test]
fn a_connection_that_is_handed_over_behind_a_cut_still_sends() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    // It takes the connection out of the loop in answer to its first bytes, and opens it again.
    let hands_over =
        |reactor: &mut Context<Told>, _: &mut Told, conn: SourceId<Conn>, event: Event<'_>| {
            if let Event::Data(bytes) = event {
                let bytes = bytes.to_vec();
                reactor[conn].hold();
                reactor.after(Duration::ZERO, move |reactor, _| {
                    reactor[conn].release();
                    let mut stream = Stream::from(reactor.deregister(conn).unwrap());
                    let _ = stream.write(&bytes);
                    stream.open(reactor, watched(tcp::note));
                });
            }
        };
    let (ours, theirs) = memory::pair(&mut reactor);
    with::server().accept(&mut reactor, ours, move |reactor, _, result| {
        let limits = Limits { half_open: true, ..Limits::default() };
        result.unwrap().limits(limits).open(reactor, hands_over);
    });
    let mut peer = TlsPeer::client(&mut reactor, theirs, with::client_config());
    peer.shake(&mut reactor, &mut told);
    say_and_cut(&mut reactor, &mut peer, b"handed over");
    assert_eq!(hear_out(&mut reactor, &mut told, &mut peer), (b"handed over".to_vec(), true));
    assert_cut(&told);
}

#[test]
fn a_cut_in_the_middle_of_a_record_takes_no_more_than_that_record() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let way = (&TLS13, 1 << 16);
    let mut peer = served(&mut reactor, &mut told, way, Limits::default(), echo);
    peer.say(b"whole");
    let mut records = peer.sealed();
    peer.say(b"half");
    let half = peer.sealed();
    records.extend(&half[..half.len() - 1]);
    let _ = reactor[peer.conn].write(&records);
    reactor[peer.conn].shutdown();
    assert_eq!(hear_out(&mut reactor, &mut told, &mut peer), (b"whole".to_vec(), true));
    assert_cut(&told);
}

#[test]
fn a_cut_ends_no_frame_and_the_whole_ones_before_it_are_answered() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let lines =
        framed(Lines::new(100), |reactor: &mut Context<Told>, told: &mut Told, conn, event| {
            match event {
                Framed::Frame(line) => _ = reactor[conn].write(&[line, b"!"].concat()),
                Framed::Closed(why) => told.closed = Some(why),
                other => panic!("{other:?}"),
            }
        });
    let way = (&TLS13, 1 << 16);
    let mut peer = served(&mut reactor, &mut told, way, Limits::default(), lines);
    say_and_cut(&mut reactor, &mut peer, b"one\ntwo\nhal");
    assert_eq!(hear_out(&mut reactor, &mut told, &mut peer), (b"one!two!".to_vec(), true));
    assert_cut(&told);
}

#[test]
fn a_handler_that_paused_is_told_all_of_it_before_the_cut() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let paused =
        |reactor: &mut Context<Told>, told: &mut Told, conn: SourceId<Conn>, event: Event<'_>| {
            if let Event::Data(_) = event {
                reactor[conn].pause();
                reactor.defer(move |reactor, _| _ = reactor.get_mut(conn).map(Conn::resume));
            }
            echo(reactor, told, conn, event);
        };
    let limits = Limits { read_bytes_per_turn: 1000, ..Limits::default() };
    let mut peer = served(&mut reactor, &mut told, (&TLS13, 1 << 16), limits, paused);
    say_and_cut(&mut reactor, &mut peer, &[b'x'; 30_000]);
    let (heard, whole) = hear_out(&mut reactor, &mut told, &mut peer);
    assert_eq!((heard.len(), whole), (30_000, true));
    assert_cut(&told);
}

/// Answers a second later.
fn late(reactor: &mut Context<Told>, told: &mut Told, conn: SourceId<Conn>, event: Event<'_>) {
    if let Event::Data(bytes) = event {
        let answer = bytes.to_ascii_uppercase();
        reactor[conn].hold();
        reactor.after(Duration::from_secs(1), move |reactor, _| {
            let Some(conn) = reactor.get_mut(conn) else { return };
            let _ = conn.write(&answer);
            conn.release();
        });
    }
    tcp::note(reactor, told, conn, event);
}

#[test]
fn a_half_open_connection_that_is_held_waits_for_its_answer() {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let mut told = Told::default();
    let limits = Limits { half_open: true, ..Limits::default() };
    let mut peer = served(&mut reactor, &mut told, (&TLS13, 1 << 16), limits, late);
    say_and_cut(&mut reactor, &mut peer, b"later");
    turns(&mut reactor, &mut told, 10);
    assert!(told.closed.is_none() && !peer.has_ended());
    clock.advance(Duration::from_secs(1));
    assert_eq!(hear_out(&mut reactor, &mut told, &mut peer), (b"LATER".to_vec(), true));
    assert_cut(&told);
}

#[test]
fn a_half_open_connection_that_owes_nothing_ends_at_once() {
    let mut reactor = Reactor::builder().clock(&ManualClock::new()).build().unwrap();
    let mut told = Told::default();
    let limits = Limits { half_open: true, ..Limits::default() };
    let mut peer = served(&mut reactor, &mut told, (&TLS13, 1 << 16), limits, echo);
    let begin = reactor.now();
    say_and_cut(&mut reactor, &mut peer, b"now");
    assert_eq!(hear_out(&mut reactor, &mut told, &mut peer), (b"now".to_vec(), true));
    assert_cut(&told);
    assert_eq!(reactor.now(), begin);
}

#[test]
fn a_half_open_connection_sends_an_answer_that_waits_for_room() {
    const PIECES: usize = 100;
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let mut left = PIECES;
    let in_pieces = move |reactor: &mut Context<Told>, told: &mut Told, conn, event: Event<'_>| {
        let conn: SourceId<Conn> = conn;
        if matches!(event, Event::Data(_) | Event::Drained) {
            while left > 0 {
                left -= 1;
                if reactor[conn].write(&[b'x'; 3000]) == Pressure::AboveHigh {
                    break;
                }
            }
        }
        tcp::note(reactor, told, conn, event);
    };
    let limits = Limits {
        half_open: true,
        outbox_bytes_high: 8000,
        outbox_bytes_low: 2000,
        ..Limits::default()
    };
    let mut peer = served(&mut reactor, &mut told, (&TLS13, 4000), limits, in_pieces);
    say_and_cut(&mut reactor, &mut peer, b"give me all");
    let (heard, whole) = hear_out(&mut reactor, &mut told, &mut peer);
    assert_eq!((heard.len(), whole), (PIECES * 3000, true));
    assert_cut(&told);
}

#[test]
fn a_peer_that_does_not_take_the_answer_is_given_the_grace_of_a_close() {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let mut told = Told::default();
    let mut peer = served(&mut reactor, &mut told, (&TLS13, 3000), Limits::default(), echo);
    peer.say(&[b'x'; 2000]);
    peer.flush(&mut reactor);
    turns(&mut reactor, &mut told, 5);
    reactor[peer.conn].pause();
    for _ in 0..10 {
        peer.say(&[b'x'; 2000]);
        peer.flush(&mut reactor);
        turns(&mut reactor, &mut told, 5);
    }
    reactor[peer.conn].shutdown();
    turns(&mut reactor, &mut told, 10);
    assert!(told.closed.is_none());
    clock.advance(Limits::default().close_grace);
    turns(&mut reactor, &mut told, 10);
    assert_cut(&told);
    assert_eq!(unclosed(), 0);
}

#[test]
fn a_cut_of_the_outer_tls_lets_the_inner_one_answer() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (ours, theirs) = memory::pair(&mut reactor);
    with::server().accept(&mut reactor, ours, |reactor, _, outer| {
        with::server().accept(reactor, outer.unwrap(), |reactor, _, inner| {
            inner.unwrap().open(reactor, watched(echo));
        });
    });
    let mut outer = TlsPeer::client(&mut reactor, theirs, with::client_config());
    outer.shake(&mut reactor, &mut told);
    let name = "localhost".try_into().unwrap();
    let mut inner = rustls::ClientConnection::new(with::client_config(), name).unwrap();
    let mut cut = false;
    turn_until(&mut reactor, &mut told, |reactor, told| {
        if !inner.is_handshaking() && !cut {
            inner.writer().write_all(b"from within").unwrap();
        }
        let mut sealed = Vec::new();
        while inner.wants_write() {
            inner.write_tls(&mut sealed).unwrap();
        }
        outer.say(&sealed);
        outer.flush(reactor);
        if !inner.is_handshaking() && !std::mem::replace(&mut cut, true) {
            reactor[outer.conn].shutdown();
        }
        outer.read(reactor).unwrap();
        let heard = std::mem::take(&mut outer.heard);
        let mut heard = &heard[..];
        while inner.read_tls(&mut heard).is_ok_and(|count| count > 0) {
            inner.process_new_packets().unwrap();
        }
        told.closed.is_some() && outer.has_ended()
    });
    let mut heard = Vec::new();
    inner.reader().read_to_end(&mut heard).expect("a goodbye");
    assert_eq!(heard, b"from within");
    assert!(outer.was_told_goodbye());
    assert_cut(&told);
}

/// A link from a peer over TLS to a server in the clear, which is driven by `handler`.
struct Between {
    reactor: Reactor<Passed>,
    state: Passed,
    peer: TlsPeer,
}

#[derive(Default)]
struct Passed {
    report: Option<LinkReport>,
    server: Told,
}

fn between<F>(clock: &ManualClock, half_open: bool, handler: F) -> Between
where
    F: FnMut(&mut Context<Passed>, SourceId<Conn>, &[u8]) + 'static,
{
    joined(clock, half_open, handler, |reactor, client, upstream| {
        link(reactor, client, upstream, report);
    })
}

fn report(_: &mut Context<Passed>, state: &mut Passed, report: LinkReport) {
    state.report = Some(report);
}

/// [`between`] with what makes the link.
fn joined<F, L>(clock: &ManualClock, half_open: bool, mut handler: F, join: L) -> Between
where
    F: FnMut(&mut Context<Passed>, SourceId<Conn>, &[u8]) + 'static,
    L: FnOnce(&mut Context<Passed>, Stream, Stream) + 'static,
{
    let mut reactor = Reactor::builder().clock(clock).build().unwrap();
    let mut state = Passed::default();
    let (ours, theirs) = memory::pair(&mut reactor);
    let (upstream, server) = memory::pair(&mut reactor);
    let serve = move |reactor: &mut Context<Passed>, state: &mut Passed, conn, event: Event<'_>| {
        match event {
            Event::Data(bytes) => {
                handler(reactor, conn, bytes);
                state.server.bytes.extend(bytes);
            }
            Event::Drained => {}
            Event::Eof => state.server.eof = true,
            Event::Closed(why) => state.server.closed = Some(why),
        }
    };
    let limits = Limits { half_open, ..Limits::default() };
    server.limits(limits).open(&mut reactor, watched(serve));
    with::server().accept(&mut reactor, ours, move |reactor, _, result| {
        join(reactor, result.unwrap(), upstream);
    });
    let mut peer = TlsPeer::client(&mut reactor, theirs, with::client_config());
    peer.shake(&mut reactor, &mut state);
    turns(&mut reactor, &mut state, 5);
    Between { reactor, state, peer }
}

#[track_caller]
fn assert_cut_at_a(state: &Passed) {
    let Some(LinkReport { a, b, .. }) = &state.report else { panic!("no report") };
    let Reason::Error(error) = &a.reason else { panic!("{a:?}") };
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(matches!(b.reason, Reason::Aborted), "{b:?}");
    // Nobody has told the server that this was all.
    assert!(!state.server.eof);
    assert!(matches!(state.server.closed, Some(Reason::Reset)), "{:?}", state.server.closed);
}

#[test]
fn a_link_passes_the_answer_back_and_does_not_pass_a_cut_on_as_an_end() {
    let clock = ManualClock::new();
    let Between { mut reactor, mut state, mut peer } =
        between(&clock, false, |reactor, conn, said| {
            let answer = said.to_ascii_uppercase();
            reactor.after(Duration::from_secs(4), move |reactor, _| {
                let _ = reactor[conn].write(&answer);
            });
        });
    say_and_cut(&mut reactor, &mut peer, b"whole");
    turns(&mut reactor, &mut state, 10);
    // It answers after four seconds, and for five seconds behind that it may go on.
    for _ in 0..8 {
        clock.advance(Duration::from_secs(1));
        turns(&mut reactor, &mut state, 10);
        assert!(state.report.is_none());
    }
    peer.read(&mut reactor).unwrap();
    assert_eq!((&state.server.bytes[..], &peer.heard[..]), (&b"whole"[..], &b"WHOLE"[..]));
    clock.advance(Duration::from_secs(2));
    turns(&mut reactor, &mut state, 10);
    assert_cut_at_a(&state);
    assert!(!peer.was_told_goodbye(), "nor has the server said that it was");
    assert_eq!(unclosed(), 0);
}

#[test]
fn a_link_ends_behind_a_cut_when_the_server_has_ended() {
    let Between { mut reactor, mut state, mut peer } =
        between(&ManualClock::new(), true, |reactor, conn, said| {
            let _ = reactor[conn].write(&said.to_ascii_uppercase());
            reactor[conn].shutdown();
        });
    let begin = reactor.now();
    say_and_cut(&mut reactor, &mut peer, b"whole");
    turn_until(&mut reactor, &mut state, |_, state| state.report.is_some());
    turns(&mut reactor, &mut state, 5);
    peer.read(&mut reactor).unwrap();
    assert_eq!(peer.heard, b"WHOLE");
    assert!(peer.was_told_goodbye(), "the server's answer was all of it");
    assert_cut_at_a(&state);
    assert_eq!(reactor.now(), begin);
}

#[test]
fn a_cut_where_both_ends_of_a_link_are_silent_ends_it_after_the_grace() {
    let clock = ManualClock::new();
    let Between { mut reactor, mut state, mut peer } = between(&clock, false, |_, _, _| {});
    say_and_cut(&mut reactor, &mut peer, b"");
    turns(&mut reactor, &mut state, 10);
    let grace = Limits::default().close_grace;
    clock.advance(grace - Duration::from_millis(2));
    turns(&mut reactor, &mut state, 10);
    assert!(state.report.is_none());
    clock.advance(Duration::from_millis(3));
    turns(&mut reactor, &mut state, 10);
    assert_cut_at_a(&state);
    reactor.run(&mut state).unwrap();
}

#[test]
fn a_cut_waits_for_a_tap_that_puts_the_answer_off() {
    let (clock, late) = (ManualClock::new(), Duration::from_secs(30));
    let answers = |reactor: &mut Context<Passed>, conn: SourceId<Conn>, said: &[u8]| {
        let _ = conn.write(reactor, &said.to_ascii_uppercase());
    };
    let Between { mut reactor, mut state, mut peer } =
        joined(&clock, false, answers, move |reactor, client, upstream| {
            let mut waits = false;
            let tap = move |reactor: &mut Context<Passed>,
                            _: &mut _,
                            link: SourceId<Link>,
                            passing: Passing<'_>| {
                let Passing::Data(Side::B, _) = passing else { return Tap::Pass };
                waits = !waits;
                if !waits {
                    return Tap::Pass;
                }
                reactor.after(late, move |reactor, _| {
                    link.resume(reactor, Side::B);
                });
                Tap::Wait
            };
            link_with(reactor, client, upstream, tap, report);
        });
    say_and_cut(&mut reactor, &mut peer, b"whole");
    turns(&mut reactor, &mut state, 10);
    for _ in 0..30 {
        assert!(state.report.is_none(), "a grace of 5 s is for those who are silent");
        clock.advance(Duration::from_secs(1));
        turns(&mut reactor, &mut state, 10);
    }
    peer.read(&mut reactor).unwrap();
    assert_eq!(peer.heard, b"WHOLE");
    reactor.run(&mut state).unwrap();
    assert_cut_at_a(&state);
    assert_eq!(unclosed(), 0);
}
