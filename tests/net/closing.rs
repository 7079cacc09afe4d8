//! How connections end: in order, by force, by the peer, too late.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use support::tcp;
use support::tcp::{Flow, Peer, Told, note, pair, turn_until, turns, unclosed, watched};
use waterwheel::net::{Conn, Event, FrameError, Framed, Lines};
use waterwheel::net::{Limits, Pressure, Reason, Stream, framed, memory};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// Limits that let a megabyte and more wait to be sent.
fn roomy() -> Limits {
    Limits { outbox_bytes_max: 64 << 20, ..Limits::default() }
}

/// Writes until the kernel takes no more and a megabyte is left.
fn stuff(reactor: &mut Context<Told>, conn: SourceId<Conn>) -> Flow {
    let mut flow = Flow::default();
    while reactor[conn].unsent() < 1 << 20 {
        let bytes = flow.peek(64 * 1024);
        assert!(reactor[conn].write(bytes).is_taken());
        flow.at += bytes.len();
    }
    flow
}

fn finish(reactor: &mut Reactor<Told>, told: &mut Told) {
    turn_until(reactor, told, |_, told| told.closed.is_some());
    assert_eq!(unclosed(), 0);
}

#[test]
fn reset_during_a_large_write_is_told_once_and_later_writes_are_harmless() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (conn, mut peer) = pair(&mut reactor, &mut told, roomy(), note);
    stuff(&mut reactor, conn);
    turns(&mut reactor, &mut told, 3);
    peer.read(1000);
    peer.reset();
    // The connection may not know yet: both of these must do no harm.
    let _ = reactor[conn].write(b"to nobody");
    turns(&mut reactor, &mut told, 1);
    if let Some(conn) = reactor.get_mut(conn) {
        let _ = conn.write(b"to nobody");
    }
    finish(&mut reactor, &mut told);
    assert!(matches!(told.closed, Some(Reason::Reset)), "{:?}", told.closed);
    assert!(reactor.get_mut(conn).is_none());
    turns(&mut reactor, &mut told, 5);
}

#[test]
fn reset_of_a_paused_connection_is_told_at_once_if_it_is_held_and_else_behind_what_came_before() {
    for held in [true, false] {
        let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
        let (conn, mut peer) = pair(&mut reactor, &mut told, Limits::default(), note);
        reactor[conn].pause();
        if held {
            reactor[conn].hold();
        }
        peer.send(b"before");
        peer.reset();
        if !held {
            turns(&mut reactor, &mut told, 5);
            assert!(told.closed.is_none() && told.bytes.is_empty());
            reactor[conn].resume();
        }
        finish(&mut reactor, &mut told);
        assert!(matches!(told.closed, Some(Reason::Reset)), "{:?}", told.closed);
        assert_eq!(told.bytes, if held { &b""[..] } else { b"before" });
    }
}

#[test]
fn what_the_peer_sent_before_its_reset_is_not_lost_when_a_write_fails_first() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (conn, mut peer) = pair(&mut reactor, &mut told, Limits::default(), note);
    peer.send(b"last words");
    assert!(tcp::await_readiness(&reactor, 1000));
    // Closed with our greeting unread: the kernel answers the next write with RST.
    let _ = reactor[conn].write(b"greeting");
    peer.finish();
    drop(peer);
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!(told.bytes, b"last words");
}

#[test]
fn close_sends_all_then_fin_and_waits_for_the_peers() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (conn, mut peer) = pair(&mut reactor, &mut told, roomy(), note);
    let sent = stuff(&mut reactor, conn);
    reactor[conn].close();
    reactor[conn].close();
    assert_eq!(reactor[conn].write(b"more"), Pressure::Closed);
    let mut received = Flow::default();
    turn_until(&mut reactor, &mut told, |_, _| {
        received.check(peer.read(64 * 1024));
        peer.got.clear();
        peer.end.is_some()
    });
    assert_eq!((received.at, peer.end), (sent.at, Some(Ok(()))));
    turns(&mut reactor, &mut told, 20);
    assert!(told.closed.is_none(), "it did not wait for the peer");
    peer.send(b"this is discarded");
    peer.finish();
    finish(&mut reactor, &mut told);
    assert!(matches!(told.closed, Some(Reason::Finished)));
    assert!(told.bytes.is_empty() && !told.eof);
}

#[test]
fn close_gives_up_when_its_grace_is_over() {
    for (reads, expected) in [(false, "the peer did not take all"), (true, "finished")] {
        let clock = ManualClock::held();
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        let mut told = Told::default();
        let (conn, mut peer) = pair(&mut reactor, &mut told, roomy(), note);
        stuff(&mut reactor, conn);
        reactor[conn].close();
        turns(&mut reactor, &mut told, 5);
        if reads {
            turn_until(&mut reactor, &mut told, |_, _| peer.read_all().is_some());
        }
        clock.advance(Duration::from_millis(4999));
        turns(&mut reactor, &mut told, 5);
        assert!(told.closed.is_none());
        clock.advance(Duration::from_millis(1));
        finish(&mut reactor, &mut told);
        let why = told.closed.unwrap().to_string();
        assert!(why.starts_with(expected), "{why}");
        turn_until(&mut reactor, &mut Told::default(), |_, _| peer.read_all().is_some());
        assert_eq!(peer.end, Some(if reads { Ok(()) } else { Err(ErrorKind::ConnectionReset) }));
    }
}

#[test]
fn abort_drops_what_is_unsent_and_sends_a_reset() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (conn, mut peer) = pair(&mut reactor, &mut told, roomy(), note);
    stuff(&mut reactor, conn);
    reactor[conn].abort();
    reactor[conn].abort();
    reactor[conn].close();
    assert_eq!((reactor[conn].unsent(), reactor[conn].write(b"x")), (0, Pressure::Closed));
    finish(&mut reactor, &mut told);
    assert!(matches!(told.closed, Some(Reason::Aborted)));
    turn_until(&mut reactor, &mut told, |_, _| peer.read_all().is_some());
    assert_eq!(peer.end, Some(Err(ErrorKind::ConnectionReset)));
}

#[test]
fn abort_ends_a_close_that_waits_for_its_peer() {
    let closes: [fn(&mut Conn); 2] = [Conn::close, Conn::shutdown];
    for close in closes {
        let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
        let (conn, _peer) = pair(&mut reactor, &mut told, roomy(), note);
        close(&mut reactor[conn]);
        turns(&mut reactor, &mut told, 5);
        assert!(told.closed.is_none());
        reactor[conn].abort();
        finish(&mut reactor, &mut told);
        assert!(matches!(told.closed, Some(Reason::Aborted)));
    }
}

#[test]
fn abort_ends_a_close_for_a_bad_frame() {
    let (mut reactor, mut closed) = (Reactor::new().unwrap(), None);
    let handler = framed(Lines::new(4), |_, closed: &mut Option<Reason>, _, event| {
        if let Framed::Closed(why) = event {
            *closed = Some(why);
        }
    });
    let (conn, mut peer) = pair(&mut reactor, &mut closed, Limits::default(), handler);
    peer.send(b"too long\n");
    turn_until(&mut reactor, &mut closed, |reactor, _| reactor[conn].is_closing());
    turns(&mut reactor, &mut closed, 5);
    reactor[conn].abort();
    turns(&mut reactor, &mut closed, 5);
    assert!(matches!(closed, Some(Reason::Frame(FrameError::TooLong { bytes_max: 4 }))));
}

#[test]
fn early_answer_to_an_upload_that_nobody_reads_arrives_whole() {
    let answer = Flow::default().peek(100_000);
    for round in 0..100 {
        let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
        let (_, mut peer) =
            pair(&mut reactor, &mut told, Limits::default(), move |r, told, id, event| {
                if let Event::Data(_) = event {
                    assert!(r[id].write(answer).is_taken());
                    r[id].close();
                }
                note(r, told, id, event);
            });
        // The client sends all before it reads: the upload is still on its way when we close.
        let mut sent = 0;
        turn_until(&mut reactor, &mut told, |_, _| {
            sent += peer.write(Flow::default().peek((2 << 20) - sent));
            sent == 2 << 20
        });
        turns(&mut reactor, &mut told, round % 3);
        turn_until(&mut reactor, &mut told, |_, _| peer.read_all().is_some());
        assert_eq!((peer.end, peer.got == answer), (Some(Ok(())), true), "round {round}");
        assert!(told.bytes.len() <= 64 * 1024, "the upload was read after close");
        drop(peer);
        finish(&mut reactor, &mut told);
    }
}

#[test]
fn more_unread_than_the_backlog_holds_closes_with_that_reason() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let limits = Limits { backlog_bytes_max: 1000, ..Limits::default() };
    let (_, mut peer) = pair(&mut reactor, &mut told, limits, |r, told, id, event| {
        if let Event::Data(bytes) = event {
            r[id].unread(bytes.len());
        }
        note(r, told, id, event);
    });
    peer.send(&[1; 1000]);
    turn_until(&mut reactor, &mut told, |_, told| told.bytes.len() == 1000);
    turns(&mut reactor, &mut told, 5);
    assert!(told.closed.is_none());
    peer.send(&[1]);
    finish(&mut reactor, &mut told);
    assert!(matches!(told.closed, Some(Reason::Backlog)));
    assert_eq!(peer.read_all(), Some(Err(ErrorKind::ConnectionReset)));
}

#[test]
fn socket_shut_down_behind_the_loops_back_is_told_and_one_with_a_double_does_not_spin() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for shut_down in [true, false] {
        let mut peer = Peer::to(listener.local_addr().unwrap());
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let double = socket.try_clone().unwrap();
        let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
        let stream = Stream::over(waterwheel::mio::net::TcpStream::from_std(socket));
        let conn = stream.open(&mut reactor, watched(note));
        turns(&mut reactor, &mut told, 3);
        if shut_down {
            double.shutdown(std::net::Shutdown::Both).unwrap();
            finish(&mut reactor, &mut told);
            assert!(told.eof);
        } else {
            // The double keeps the kernel's watch on what the loop has dropped (epoll(7), question
            // 6).
            reactor[conn].abort();
            finish(&mut reactor, &mut told);
            peer.send(b"who is there?");
            peer.finish();
            assert!(tcp::await_readiness(&reactor, 1000));
        }
        turns(&mut reactor, &mut told, 10);
        let stale = reactor.statistics().stale;
        turns(&mut reactor, &mut told, 100);
        // The peer's FIN may come a moment after its bytes.
        assert!(reactor.statistics().stale <= stale + 1, "the same event again and again");
        assert!(!tcp::await_readiness(&reactor, 0), "it would not sleep");
    }
}

#[test]
fn refused_write_that_waits_for_drained_does_not_spin() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let limits = Limits { outbox_bytes_max: 1 << 20, ..Limits::default() };
    let (conn, mut peer) = pair(&mut reactor, &mut told, limits, |r, told, id, event| {
        if let Event::Drained = event {
            // Only an outbox that is nearly empty has room for this.
            let _ = r[id].write(&[2; (1 << 20) - 100]);
        }
        note(r, told, id, event);
    });
    // Until the kernel is full and a little is left: less than the low-water mark.
    while reactor[conn].unsent() == 0 {
        let _ = reactor[conn].write(&[1; 16 * 1024]);
    }
    assert!(reactor[conn].unsent() <= 16 * 1024);
    assert_eq!(reactor[conn].write(&[2; (1 << 20) - 100]), Pressure::Refused);
    turns(&mut reactor, &mut told, 10);
    let callbacks = reactor.statistics().callbacks;
    turns(&mut reactor, &mut told, 100);
    assert_eq!(reactor.statistics().callbacks, callbacks, "it is called for ever");
    turn_until(&mut reactor, &mut told, |_, _| {
        peer.read_all();
        peer.got.ends_with(&[2; 1000])
    });
    assert!(told.drained > 0);
}

/// What `Closed` told, and what the id told of it meanwhile.
type Ends = Vec<(String, Option<usize>)>;

/// Ends a connection in memory whose peer reads nothing: what is told.
fn ended(limits: Limits, end: impl FnOnce(&mut Reactor<Ends>, [SourceId<Conn>; 2])) -> Ends {
    let mut reactor = Reactor::<Ends>::builder().clock(&ManualClock::new()).build().unwrap();
    let (own, peer) = memory::pair(&mut reactor);
    let own = own.limits(limits).open(&mut reactor, |reactor, ends: &mut Ends, conn, event| {
        if let Event::Closed(why) = event {
            assert!(!conn.is_open(reactor) && conn.unsent(reactor).is_none());
            ends.push((why.to_string(), conn.lost(reactor)));
            // The same for whoever else asks in this turn, and forgotten with it.
            reactor.defer(move |reactor, ends| ends.push(("deferred".into(), conn.lost(reactor))));
            reactor.after(Duration::ZERO, move |reactor, _| assert_eq!(conn.lost(reactor), None));
        }
    });
    let peer = peer.open(&mut reactor, |_, _, _, _| {});
    peer.pause(&mut reactor);
    reactor.unref(peer);
    let mut ends = Ends::new();
    reactor.turn(&mut ends, Some(Duration::ZERO)).unwrap();
    assert_eq!(own.lost(&reactor), None, "it is open");
    end(&mut reactor, [own, peer]);
    reactor.run(&mut ends).unwrap();
    ends
}

/// Writes a thousand bytes more than the buffer between the two takes.
fn fill(reactor: &mut Reactor<Ends>, own: SourceId<Conn>) {
    assert!(own.write(reactor, &[0; memory::BUFFER_BYTES]).is_taken());
    assert!(own.write(reactor, &[0; 1000]).is_taken());
    assert_eq!(own.unsent(reactor), Some(1000));
}

#[test]
fn what_was_accepted_and_never_left_is_told_with_the_end_whatever_that_was() {
    let told =
        |why: &str, lost| [(why.to_owned(), Some(lost)), ("deferred".to_owned(), Some(lost))];
    let limits = Limits::default;
    let aborted = ended(limits(), |reactor, [own, _]| {
        fill(reactor, own);
        own.abort(reactor);
        assert_eq!(own.lost(reactor), None, "not before it is told");
    });
    assert_eq!(aborted, told("aborted", 1000));
    let reset = ended(limits(), |reactor, [own, peer]| {
        fill(reactor, own);
        peer.abort(reactor);
    });
    assert_eq!(reset, told("reset by the peer", 1000));
    let write_timeout = Some(Duration::from_secs(5));
    let late = ended(Limits { write_timeout, ..limits() }, |reactor, [own, _]| fill(reactor, own));
    assert_eq!(late, told("the peer took nothing for too long", 1000));
    let grace = ended(limits(), |reactor, [own, _]| {
        fill(reactor, own);
        own.close(reactor);
    });
    assert_eq!(grace, told("the peer did not take all before the close had to end", 1000));
}

#[test]
fn a_write_that_meets_a_reset_is_lost_as_a_whole() {
    // The larger go through to the kernel at once, the others when the loop flushes.
    for bytes in [1, 16 * 1024 - 1, 16 * 1024, 256 * 1024] {
        let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
        let lost = Rc::new(Cell::new(None));
        let seen = lost.clone();
        let handler =
            move |reactor: &mut Context<Told>, told: &mut Told, conn, event: Event<'_>| {
                if let Event::Closed(_) = event {
                    seen.set(SourceId::<Conn>::lost(conn, reactor));
                }
                note(reactor, told, conn, event);
            };
        let (conn, peer) = pair(&mut reactor, &mut told, roomy(), handler);
        peer.reset();
        assert!(conn.write(&mut reactor, &vec![0; bytes]).is_taken(), "it does not know yet");
        finish(&mut reactor, &mut told);
        assert!(matches!(told.closed, Some(Reason::Reset)), "{:?}", told.closed);
        assert_eq!(lost.get(), Some(bytes));
    }
}

#[test]
fn an_end_in_order_has_lost_nothing() {
    let ends = ended(Limits::default(), |reactor, [own, peer]| {
        fill(reactor, own);
        peer.resume(reactor);
        own.close(reactor);
    });
    assert_eq!(ends[0], ("finished".to_owned(), Some(0)));
}
