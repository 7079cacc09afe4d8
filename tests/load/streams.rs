//! What a connection carries: every byte once, in order, at the speed of the slower end.

use support::Rng;
use support::tcp::{Flow, Peer, Told, note, pair, turn_until, turns, unclosed, watched};
use waterwheel::net::{Conn, Event, Framed, Limits, Lines, Pressure, Reason, Stream, framed};
use waterwheel::{Context, Reactor, SourceId};

/// Bytes of a large transfer.
const MUCH: usize = if cfg!(debug_assertions) { 16 << 20 } else { 64 << 20 };

/// Small marks, so that they are met often.
fn tight() -> Limits {
    Limits {
        outbox_bytes_high: 64 * 1024,
        outbox_bytes_low: 16 * 1024,
        outbox_bytes_max: 128 * 1024,
        ..Limits::default()
    }
}

/// One end of a large transfer.
#[derive(Default)]
struct Transfer {
    sent: Flow,
    received: Flow,
    refused: usize,
    closed: Option<Reason>,
}

impl Transfer {
    /// Writes until it is refused; a refused write takes nothing.
    fn fill(&mut self, reactor: &mut Context<Transfer>, conn: SourceId<Conn>) {
        while self.sent.at < MUCH {
            let bytes = self.sent.peek((MUCH - self.sent.at).min(48 * 1024));
            let before = reactor[conn].unsent();
            if !reactor[conn].write(bytes).is_taken() {
                assert_eq!(reactor[conn].unsent(), before);
                self.refused += 1;
                return;
            }
            self.sent.at += bytes.len();
        }
        reactor[conn].shutdown();
    }

    fn handle(
        reactor: &mut Context<Transfer>,
        transfer: &mut Transfer,
        conn: SourceId<Conn>,
        event: Event<'_>,
    ) {
        match event {
            Event::Data(bytes) => transfer.received.check(bytes),
            Event::Drained => transfer.fill(reactor, conn),
            Event::Eof => {}
            Event::Closed(why) => transfer.closed = Some(why),
        }
    }
}

#[test]
fn large_transfers_both_ways_at_once_lose_nothing_and_stay_below_the_cap() {
    let mut reactor = Reactor::new().unwrap();
    let mut transfer = Transfer::default();
    let limits = Limits { half_open: true, ..tight() };
    let (conn, mut peer) = pair(&mut reactor, &mut transfer, limits, Transfer::handle);
    let (mut rng, mut sent, mut received) = (Rng::new(), Flow::default(), Flow::default());
    socket2::SockRef::from(&peer.socket).set_recv_buffer_size(64 * 1024).unwrap();
    transfer.fill(&mut reactor, conn);
    turn_until(&mut reactor, &mut transfer, |reactor, transfer| {
        assert!(reactor.get(conn).is_none_or(|conn| conn.unsent() <= 128 * 1024));
        received.check(peer.read(rng.below(128 * 1024) as usize + 1));
        peer.got.clear();
        if sent.at < MUCH {
            let bytes = sent.peek((MUCH - sent.at).min(rng.below(128 * 1024) as usize + 1));
            sent.at += peer.write(bytes);
            if sent.at == MUCH {
                peer.finish();
            }
        }
        transfer.closed.is_some() && peer.end.is_some()
    });
    assert!(matches!(transfer.closed, Some(Reason::Finished)), "{:?}", transfer.closed);
    assert_eq!((transfer.received.at, received.at), (MUCH, MUCH));
    assert!(transfer.refused > 2, "the peer was not slow: refused {} times", transfer.refused);
    assert_eq!(unclosed(), 0);
}

/// The echo of `examples/echo.rs`.
fn echo<S>(reactor: &mut Context<S>, _: &mut S, conn: SourceId<Conn>, event: Event<'_>)
where
    S: 'static,
{
    match event {
        Event::Data(bytes) => {
            if reactor[conn].write(bytes) == Pressure::AboveHigh {
                reactor[conn].pause();
            }
        }
        Event::Drained => reactor[conn].resume(),
        Event::Eof | Event::Closed(_) => {}
    }
}

#[test]
fn an_echo_that_pauses_until_drained_echoes_all_to_a_peer_that_sends_first_and_reads_later() {
    let mut reactor = Reactor::new().unwrap();
    let (_, mut peer) = pair(&mut reactor, &mut (), tight(), echo);
    let (mut sent, mut received, mut reading) = (Flow::default(), Flow::default(), false);
    turn_until(&mut reactor, &mut (), |_, _| {
        let bytes = sent.peek((MUCH - sent.at).min(256 * 1024));
        let taken = peer.write(bytes);
        sent.at += taken;
        // Everything between the two ends is full, or all was sent: now it reads.
        reading |= taken < bytes.len() || sent.at == MUCH;
        if reading {
            received.check(peer.read(64 * 1024));
            peer.got.clear();
        }
        received.at == MUCH
    });
    peer.finish();
    turn_until(&mut reactor, &mut (), |_, _| unclosed() == 0);
}

#[test]
fn large_transfer_through_a_4_kib_send_buffer_in_pieces_of_1_byte_to_64_kib_is_bit_for_bit() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = Peer::to(listener.local_addr().unwrap());
    let (socket, _) = listener.accept().unwrap();
    socket2::SockRef::from(&socket).set_send_buffer_size(4 * 1024).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let mut transfer = Transfer::default();
    let stream = Stream::over(waterwheel::mio::net::TcpStream::from_std(socket)).limits(tight());
    let conn = stream.open(&mut reactor, watched(Transfer::handle));
    let (mut rng, mut received) = (Rng::new(), Flow::default());
    transfer.fill(&mut reactor, conn);
    turn_until(&mut reactor, &mut transfer, |_, _| {
        // As many small pieces as large ones, until there is no more. With so little on its way, a
        // delayed acknowledgement would be waited for each time.
        loop {
            #[cfg(target_os = "linux")]
            socket2::SockRef::from(&peer.socket).set_tcp_quickack(true).unwrap();
            let at_most = 1 << rng.below(17);
            let piece = peer.read(rng.below(at_most) as usize + 1);
            received.check(piece);
            if piece.is_empty() {
                break;
            }
            peer.got.clear();
        }
        peer.end.is_some()
    });
    assert_eq!((received.at, peer.end), (MUCH, Some(Ok(()))));
    assert!(transfer.refused > 10);
    drop(peer);
    turn_until(&mut reactor, &mut transfer, |_, transfer| transfer.closed.is_some());
}

#[test]
fn hundred_thousand_small_writes_keep_their_order() {
    let mut reactor = Reactor::new().unwrap();
    let (conn, mut peer) = pair(&mut reactor, &mut Told::default(), Limits::default(), note);
    let (mut next, mut expected) = (0u32, 0u32);
    turn_until(&mut reactor, &mut Told::default(), |reactor, _| {
        // Sometimes written from outside and sometimes from a callback, many in a turn.
        for _ in 0..500 {
            if next < 100_000 && reactor[conn].write(&next.to_be_bytes()).is_taken() {
                next += 1;
            }
        }
        peer.read_all();
        let whole = peer.got.len() / 4 * 4;
        for number in peer.got.drain(..whole).collect::<Vec<u8>>().chunks(4) {
            assert_eq!(number, expected.to_be_bytes());
            expected += 1;
        }
        expected == 100_000
    });
}

#[test]
fn half_closed_by_the_peer_a_connection_still_writes_everything() {
    let mut reactor = Reactor::new().unwrap();
    let mut transfer = Transfer::default();
    let limits = Limits { half_open: true, ..tight() };
    let (conn, mut peer) =
        pair(&mut reactor, &mut transfer, limits, |reactor, state, id, event| match event {
            Event::Eof => state.fill(reactor, id),
            event => Transfer::handle(reactor, state, id, event),
        });
    peer.finish();
    let mut received = Flow::default();
    turn_until(&mut reactor, &mut transfer, |_, _| {
        received.check(peer.read(64 * 1024));
        peer.got.clear();
        peer.end.is_some()
    });
    assert_eq!((received.at, peer.end), (MUCH, Some(Ok(()))));
    turn_until(&mut reactor, &mut transfer, |_, transfer| transfer.closed.is_some());
    assert!(matches!(transfer.closed, Some(Reason::Finished)));
    assert!(reactor.get(conn).is_none());
}

#[test]
fn after_shutdown_the_peer_sees_fin_behind_the_last_byte_and_is_still_read() {
    let mut reactor = Reactor::new().unwrap();
    let mut told = Told::default();
    let (conn, mut peer) = pair(&mut reactor, &mut told, Limits::default(), note);
    let _ = reactor[conn].write(b"last words");
    reactor[conn].shutdown();
    assert_eq!(reactor[conn].write(b"more"), Pressure::Closed);
    turn_until(&mut reactor, &mut told, |_, _| peer.read_all().is_some());
    assert_eq!((&peer.got[..], peer.end), (&b"last words"[..], Some(Ok(()))));
    peer.send(b"an answer");
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"an answer");
    assert!(!told.eof && told.closed.is_none());
    peer.finish();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert!(told.eof && matches!(told.closed, Some(Reason::Finished)));
}

#[test]
fn half_open_connection_lives_until_it_is_closed() {
    let mut reactor = Reactor::new().unwrap();
    let mut told = Told::default();
    let limits = Limits { half_open: true, ..Limits::default() };
    let (conn, mut peer) = pair(&mut reactor, &mut told, limits, note);
    peer.finish();
    turn_until(&mut reactor, &mut told, |_, told| told.eof);
    turns(&mut reactor, &mut told, 20);
    assert_eq!(reactor[conn].write(b"late"), Pressure::Below);
    reactor[conn].close();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!(peer.read_all(), Some(Ok(())));
    assert_eq!(peer.got, b"late");
}

#[test]
fn half_open_connection_that_may_no_longer_be_is_closed() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let limits = Limits { half_open: true, ..Limits::default() };
    let (conn, mut peer) = pair(&mut reactor, &mut told, limits, note);
    peer.finish();
    turn_until(&mut reactor, &mut told, |_, told| told.eof);
    reactor[conn].set_limits(Limits::default());
    turns(&mut reactor, &mut told, 2);
    assert!(matches!(told.closed, Some(Reason::Finished)), "{told:?}");
}

#[test]
fn data_followed_at_once_by_fin_is_told_before_eof() {
    for size in [1, 1000, 64 * 1024, 64 * 1024 + 1, 200_000] {
        let mut reactor = Reactor::new().unwrap();
        let mut told = Told::default();
        let (_, mut peer) =
            pair(&mut reactor, &mut told, Limits::default(), |r, told, id, event| {
                assert!(!matches!(event, Event::Eof) || !told.bytes.is_empty());
                note(r, told, id, event);
            });
        peer.send(Flow::default().peek(size));
        peer.finish();
        turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
        assert!(told.eof && told.bytes == Flow::default().peek(size));
        assert!(matches!(told.closed, Some(Reason::Finished)));
    }
}

#[test]
fn paused_inside_data_nothing_more_is_delivered_until_resumed_and_then_without_a_new_edge() {
    let mut reactor = Reactor::new().unwrap();
    let mut told = Told::default();
    let (conn, mut peer) =
        pair(&mut reactor, &mut told, Limits::default(), |r, told, id, event| {
            if let Event::Data(_) = event {
                r[id].pause();
            }
            note(r, told, id, event);
        });
    peer.send(Flow::default().peek(200_000));
    peer.finish();
    let mut resumed = 0;
    while told.closed.is_none() {
        let before = told.bytes.len();
        turn_until(&mut reactor, &mut told, |_, told| {
            told.bytes.len() > before || told.closed.is_some()
        });
        let after = told.bytes.len();
        turns(&mut reactor, &mut told, 20);
        assert_eq!(told.bytes.len(), after, "delivered while paused");
        if let Some(conn) = reactor.get_mut(conn) {
            conn.resume();
            resumed += 1;
        }
    }
    assert_eq!(told.bytes, Flow::default().peek(200_000));
    assert!(told.eof && resumed >= 4, "resumed {resumed} times");
}

#[test]
fn paused_inside_a_frame_not_even_frames_already_read_are_delivered() {
    let mut reactor = Reactor::new().unwrap();
    let mut lines = Vec::new();
    let handler = |reactor: &mut Context<Vec<String>>,
                   lines: &mut Vec<String>,
                   conn: SourceId<Conn>,
                   event: Framed| {
        match event {
            Framed::Frame(line) => {
                lines.push(String::from_utf8_lossy(line).into_owned());
                reactor[conn].pause();
            }
            Framed::Eof => lines.push("eof".into()),
            _ => {}
        }
    };
    let handler = framed(Lines::new(100), handler);
    let (conn, mut peer) = pair(&mut reactor, &mut lines, Limits::default(), handler);
    peer.send(b"one\n\nthree\nfour\nfive");
    peer.finish();
    let expected = ["one", "", "three", "four", "five", "eof"];
    for count in 1..=4 {
        turn_until(&mut reactor, &mut lines, |_, lines| lines.len() == count);
        turns(&mut reactor, &mut lines, 20);
        assert_eq!(lines, expected[..count]);
        reactor[conn].resume();
    }
    // The last line is complete only by the end of the stream.
    turn_until(&mut reactor, &mut lines, |_, _| unclosed() == 0);
    assert_eq!(lines, expected);
}

#[test]
fn pause_and_resume_in_one_callback_leave_nothing_behind() {
    let mut reactor = Reactor::new().unwrap();
    let mut told = Told::default();
    let (_, mut peer) = pair(&mut reactor, &mut told, Limits::default(), |r, told, id, event| {
        if let Event::Data(_) = event {
            r[id].pause();
            r[id].resume();
        }
        note(r, told, id, event);
    });
    peer.send(Flow::default().peek(200_000));
    turn_until(&mut reactor, &mut told, |_, told| told.bytes.len() == 200_000);
    turns(&mut reactor, &mut told, 3);
    let callbacks = reactor.statistics().callbacks;
    turns(&mut reactor, &mut told, 20);
    assert_eq!(reactor.statistics().callbacks, callbacks, "it is called for ever");
}
