//! What a handler may do: end its own connection, write to others, give bytes back, panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use support::tcp;
use support::tcp::{Peer, Told, note, pair, serve, turn_until, turns, unclosed, watched};
use waterwheel::net::{
    Conn, Event, Framed, Handler, Limits, Lines, Reason, Stream, framed, tcp::listen,
};
use waterwheel::reactor::PanicPolicy;
use waterwheel::{Context, Reactor, SourceId};

/// Limits that let a megabyte and more wait to be sent.
fn roomy() -> Limits {
    Limits { outbox_bytes_max: 64 << 20, ..Limits::default() }
}

/// Writes until the kernel takes no more and a megabyte is left.
fn stuff(reactor: &mut Context<Told>, conn: SourceId<Conn>) {
    while reactor[conn].unsent() < 1 << 20 {
        assert!(reactor[conn].write(&[7; 64 * 1024]).is_taken());
    }
}

fn finish(reactor: &mut Reactor<Told>, told: &mut Told) {
    turn_until(reactor, told, |_, told| told.closed.is_some());
    assert_eq!(unclosed(), 0);
}

/// What a handler may do to its own connection, and what the peer then sees.
type Deed = (&'static str, fn(&mut Context<Told>, SourceId<Conn>), Option<&'static str>);

const DEEDS: [Deed; 7] = [
    ("deregister", |reactor, conn| drop(reactor.deregister(conn)), None),
    ("remove", |reactor, conn| assert!(reactor.remove(conn)), None),
    ("abort", |reactor, conn| reactor[conn].abort(), Some("Aborted")),
    (
        "abort and close",
        |reactor, conn| (reactor[conn].abort(), reactor[conn].close()).0,
        Some("Aborted"),
    ),
    ("close", |reactor, conn| reactor[conn].close(), Some("Finished")),
    (
        "close twice",
        |reactor, conn| (reactor[conn].close(), reactor[conn].close()).0,
        Some("Finished"),
    ),
    (
        "close and abort",
        |reactor, conn| (reactor[conn].close(), reactor[conn].abort()).0,
        Some("Aborted"),
    ),
];

#[test]
fn handler_may_end_its_own_connection_while_its_data_is_alive() {
    for (name, deed, expected) in DEEDS {
        let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
        let (conn, mut peer) =
            pair(&mut reactor, &mut told, Limits::default(), move |r, told, id, event| {
                if let Event::Data(_) = event {
                    let _ = r[id].write(b"so long");
                    deed(r, id);
                }
                note(r, told, id, event); // Reads the slice after the deed.
            });
        peer.send(b"hello");
        turn_until(&mut reactor, &mut told, |_, told| !told.bytes.is_empty());
        turn_until(&mut reactor, &mut told, |_, _| peer.read_all().is_some());
        assert_eq!(told.bytes, b"hello");
        if peer.end == Some(Ok(())) && expected.is_some() {
            assert_eq!(peer.got, b"so long", "{name}");
            peer.finish();
        }
        turn_until(&mut reactor, &mut told, |reactor, _| reactor.get(conn).is_none());
        turns(&mut reactor, &mut told, 5);
        assert_eq!(told.closed.map(|why| format!("{why:?}")).as_deref(), expected, "{name}");
        assert_eq!((reactor.sources(), reactor.timers()), (0, 0), "{name}");
    }
}

#[test]
fn handler_may_end_its_own_connection_inside_eof_and_drained() {
    for (name, deed, expected) in DEEDS {
        for in_eof in [true, false] {
            let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
            let limits = Limits { half_open: true, ..roomy() };
            let (conn, mut peer) =
                pair(&mut reactor, &mut told, limits, move |r, told, id, event| match event {
                    Event::Eof if in_eof => deed(r, id),
                    Event::Drained if !in_eof => deed(r, id),
                    _ => note(r, told, id, event),
                });
            if in_eof {
                peer.finish();
            } else {
                stuff(&mut reactor, conn);
            }
            turn_until(&mut reactor, &mut told, |reactor, _| {
                let _ = (peer.read_all(), peer.got.clear());
                if peer.end == Some(Ok(())) {
                    let _ = peer.socket.shutdown(std::net::Shutdown::Write);
                }
                reactor.get(conn).is_none()
            });
            turns(&mut reactor, &mut told, 2);
            let why = told.closed.map(|why| format!("{why:?}"));
            assert_eq!(why.as_deref(), expected, "{name}, in Eof: {in_eof}");
        }
    }
}

/// Peers by their connections, and how each was closed.
#[derive(Default)]
struct Room {
    members: Vec<SourceId<Conn>>,
    closed: Vec<String>,
}

/// Joins with its first byte; sends all data to all members, the sender included.
fn broadcast(reactor: &mut Context<Room>, room: &mut Room, conn: SourceId<Conn>, event: Event<'_>) {
    match event {
        Event::Data(b"+") => room.members.push(conn),
        Event::Data(bytes) => {
            for member in &room.members {
                let _ = reactor[*member].write(bytes);
            }
        }
        Event::Closed(why) => {
            room.members.retain(|member| *member != conn);
            room.closed.push(format!("{why:?}"));
        }
        _ => {}
    }
}

/// `count` peers that have joined, in order.
fn join(reactor: &mut Reactor<Room>, room: &mut Room, count: usize) -> Vec<Peer> {
    let addr = serve(reactor, Limits::default(), broadcast);
    let peers = (1..=count).map(|number| {
        let mut peer = Peer::to(addr);
        peer.send(b"+");
        turn_until(reactor, room, |_, room| room.members.len() == number);
        peer
    });
    peers.collect()
}

#[test]
fn broadcast_includes_the_sender() {
    let (mut reactor, mut room) = (Reactor::new().unwrap(), Room::default());
    let mut peers = join(&mut reactor, &mut room, 5);
    peers[2].send(b"hello, all");
    turn_until(&mut reactor, &mut room, |_, _| {
        peers.iter_mut().all(|peer| peer.read_all().is_none() && peer.got == b"hello, all")
    });
    drop(peers);
    turn_until(&mut reactor, &mut room, |_, room| room.closed.len() == 5);
}

#[test]
fn write_to_a_connection_that_died_in_the_same_turn_is_harmless() {
    let (mut reactor, mut room) = (Reactor::new().unwrap(), Room::default());
    let mut peers = join(&mut reactor, &mut room, 6);
    // In one turn: three are reset and two speak, before and after them in the order of arrival.
    peers[0].send(b"a");
    for _ in 0..3 {
        peers.remove(1).reset();
    }
    peers[2].send(b"z");
    turn_until(&mut reactor, &mut room, |_, room| room.closed.len() == 3);
    turn_until(&mut reactor, &mut room, |_, _| {
        peers.iter_mut().all(|peer| peer.read_all().is_none() && peer.got.len() == 2)
    });
    assert_eq!(room.closed, ["Reset"; 3]);
    drop(peers);
    turn_until(&mut reactor, &mut room, |_, _| unclosed() == 0);
}

#[test]
fn last_line_whose_handler_drops_the_connection_is_not_followed_by_eof() {
    let (mut reactor, mut events) = (Reactor::new().unwrap(), Vec::new());
    let handler = framed(Lines::new(100), |r, events: &mut Vec<String>, conn, event| {
        events.push(format!("{event:?}"));
        if let Framed::Frame(_) = event {
            r.remove(SourceId::raw(conn));
        }
    });
    let (conn, mut peer) = pair(&mut reactor, &mut events, Limits::default(), handler);
    peer.send(b"bye");
    peer.finish();
    turn_until(&mut reactor, &mut events, |reactor, _| reactor.get(conn).is_none());
    assert_eq!(events, ["Frame([98, 121, 101])"]);
}

/// Panics over `!`, and notes all else.
fn fragile(reactor: &mut Context<Told>, told: &mut Told, conn: SourceId<Conn>, event: Event<'_>) {
    if let Event::Data(bytes) = event {
        let _ = reactor[conn].write(b"half an ans");
        assert!(!bytes.starts_with(b"!"), "the handler's own fault");
    }
    note(reactor, told, conn, event);
}

#[test]
fn handler_that_panics_loses_its_connection_by_policy_and_others_go_on() {
    let mut reactor = Reactor::builder().panic_policy(PanicPolicy::Drop).build().unwrap();
    let mut told = Told::default();
    let addr = serve(&mut reactor, Limits::default(), fragile);
    let (mut good, mut bad) = (Peer::to(addr), Peer::to(addr));
    turn_until(&mut reactor, &mut told, |reactor, _| reactor.sources() == 3);
    bad.send(&[b'!'; 200_000]);
    good.send(b"fine");
    turn_until(&mut reactor, &mut told, |_, _| bad.read_all().is_some());
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"fine");
    assert_eq!((reactor.statistics().panicked, reactor.sources()), (1, 2));
    good.send(b" again");
    good.finish();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!((told.bytes, good.read_all()), (b"fine again".to_vec(), Some(Ok(()))));
}

#[test]
fn panic_that_leaves_run_leaves_the_connection_usable() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (conn, mut peer) = pair(&mut reactor, &mut told, Limits::default(), fragile);
    peer.send(b"!");
    tcp::await_readiness(&reactor, 1000);
    let turn = catch_unwind(AssertUnwindSafe(|| reactor.turn(&mut told, None)));
    assert!(turn.is_err());
    // Written between turns, behind what the handler had written before it panicked.
    let _ = reactor[conn].write(b"wer");
    turn_until(&mut reactor, &mut told, |_, _| {
        peer.read_all();
        peer.got == b"half an answer"
    });
    peer.send(b"next");
    peer.finish();
    finish(&mut reactor, &mut told);
    assert_eq!(told.bytes, b"next");
}

#[test]
fn panic_that_leaves_run_leaves_unread_input_to_be_read() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (_, mut peer) = pair(&mut reactor, &mut told, Limits::default(), fragile);
    peer.send(&[b'!'; 64 * 1024]);
    peer.send(b"and more");
    tcp::await_readiness(&reactor, 1000);
    assert!(catch_unwind(AssertUnwindSafe(|| reactor.turn(&mut told, None))).is_err());
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"and more");
}

#[test]
fn unread_bytes_come_again_in_front_of_what_arrives_next() {
    let mut reactor = Reactor::new().unwrap();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let (_, mut peer) =
        pair(&mut reactor, &mut seen, Limits::default(), |reactor, seen, id, event| {
            if let Event::Data(bytes) = event {
                seen.push(bytes.to_vec());
                reactor[id].unread(if bytes.len() < 6 { bytes.len() } else { 2 });
            }
        });
    for (sent, delivered) in [("abc", "abc"), ("de", "abcde"), ("fg", "abcdefg"), ("hij", "fghij")]
    {
        peer.send(sent.as_bytes());
        turn_until(&mut reactor, &mut seen, |_, seen| {
            seen.last().is_some_and(|last| last == delivered.as_bytes())
        });
    }
    assert_eq!(seen.len(), 4);
}

/// A handler with a memory of its own, which it leaves in the state when it ends.
#[derive(Default)]
struct Tally {
    bytes: usize,
    finished: bool,
}

impl Handler<Vec<(usize, bool)>> for Tally {
    fn data(
        &mut self,
        _: &mut Context<Vec<(usize, bool)>>,
        _: &mut Vec<(usize, bool)>,
        _: SourceId<Conn>,
        bytes: &[u8],
    ) {
        self.bytes += bytes.len();
    }

    fn eof(
        &mut self,
        _: &mut Context<Vec<(usize, bool)>>,
        _: &mut Vec<(usize, bool)>,
        _: SourceId<Conn>,
    ) {
        self.finished = true;
    }

    fn closed(
        &mut self,
        _: &mut Context<Vec<(usize, bool)>>,
        tallies: &mut Vec<(usize, bool)>,
        _: SourceId<Conn>,
        _: Reason,
    ) {
        tallies.push((self.bytes, self.finished));
    }
}

#[test]
fn handler_may_be_a_struct_with_a_state_for_each_connection() {
    let mut reactor = Reactor::new().unwrap();
    let listener = listen(&mut reactor, "127.0.0.1:0", |reactor, _, incoming| {
        incoming.open_with(reactor, Tally::default());
    });
    let addr = reactor[listener.unwrap()].local_addr();
    let mut tallies = Vec::new();
    for size in [10, 20] {
        let mut peer = Peer::to(addr);
        peer.send(&[7; 100][..size]);
        peer.finish();
        turn_until(&mut reactor, &mut tallies, |_, tallies| tallies.len() == size / 10);
    }
    assert_eq!(tallies, [(10, true), (20, true)]);
}

#[test]
fn deregistered_connection_is_opened_again_with_its_unsent_and_unread_bytes() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (conn, mut peer) = pair(&mut reactor, &mut told, roomy(), |reactor, told, conn, event| {
        if let Event::Data(bytes) = event {
            reactor[conn].unread(bytes.len() - 3);
            reactor[conn].pause();
        }
        note(reactor, told, conn, event);
    });
    stuff(&mut reactor, conn);
    let _ = reactor[conn].write(b"the end");
    peer.send(b"oldnew");
    turn_until(&mut reactor, &mut told, |_, told| !told.bytes.is_empty());
    turns(&mut reactor, &mut told, 3);
    told.bytes.clear();
    let stream = Stream::from(reactor.deregister(conn).unwrap());
    assert_eq!(reactor.sources(), 0);
    let conn = stream.open(&mut reactor, watched(note));
    assert!(reactor[conn].is_paused());
    reactor[conn].resume();
    peer.send(b"er");
    turn_until(&mut reactor, &mut told, |_, told| {
        let _ = (peer.read_all(), told.bytes.len());
        told.bytes == b"newer" && peer.got.ends_with(b"the end")
    });
    peer.finish();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!(unclosed(), 1, "the first handler was told that its connection is closed");
}

#[test]
fn protocol_changes_in_the_middle_of_what_was_read() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (_, mut peer) = pair(&mut reactor, &mut told, roomy(), |reactor, _, conn, event| {
        if let Event::Data(bytes) = event {
            let (line, rest) = bytes.split_at(bytes.iter().position(|b| *b == b'\n').unwrap() + 1);
            assert_eq!(line, b"UPGRADE\n");
            let _ = reactor[conn].write(b"OK\n");
            let stream = Stream::from(reactor.deregister(conn).unwrap()).unread(rest);
            stream.open(reactor, watched(note));
        }
    });
    peer.send(b"UPGRADE\nfirst words");
    turn_until(&mut reactor, &mut told, |_, told| {
        let _ = peer.read_all();
        told.bytes == b"first words" && peer.got == b"OK\n"
    });
    peer.send(b", and more");
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"first words, and more");
}
