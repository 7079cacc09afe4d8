//! Connections over TLS: they are told what any other is told, over whatever carries them.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use support::tcp::{Flow, Told, note, turn_until, turns, unclosed, watched};
use support::tls as with;
use support::tls_peer::TlsPeer;
use waterwheel::net::{self, Conn, Event, Limits, Pressure, Rate, Reason, Stream, memory};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// What each side was told, and how far it is with what it sends.
#[derive(Default)]
struct Side {
    conn: Option<SourceId<Conn>>,
    sends: Flow,
    gets: Flow,
    /// How much to send.
    total: usize,
    eof: bool,
    closed: Option<Reason>,
}

type Sides = [Side; 2];

/// Writes until told to stop; finishes behind the last byte.
fn fill(reactor: &mut Context<Sides>, side: &mut Side) {
    let Some(conn) = side.conn else { return };
    while side.sends.at < side.total {
        let bytes = side.sends.peek((side.total - side.sends.at).min(40_000));
        match reactor[conn].write(bytes) {
            Pressure::Refused | Pressure::Closed => return,
            pressure => {
                side.sends.at += bytes.len();
                if pressure == Pressure::AboveHigh {
                    return;
                }
            }
        }
    }
    reactor[conn].shutdown();
}

/// Sends all there is to send, and checks what comes.
fn open(reactor: &mut Reactor<Sides>, sides: &mut Sides, own: usize, stream: Stream) {
    let conn = stream.open(
        reactor,
        watched(move |reactor: &mut Context<Sides>, sides: &mut Sides, _, event| {
            let side = &mut sides[own];
            match event {
                Event::Data(bytes) => side.gets.check(bytes),
                Event::Drained => fill(reactor, side),
                Event::Eof => side.eof = true,
                Event::Closed(why) => side.closed = Some(why),
            }
        }),
    );
    sides[own].conn = Some(conn);
    fill(reactor, &mut sides[own]);
}

/// Sends so much each way and expects an orderly end.
fn exchange(reactor: &mut Reactor<Sides>, streams: (Stream, Stream), totals: [usize; 2]) {
    let mut sides = Sides::default();
    for (side, total) in sides.iter_mut().zip(totals) {
        side.total = total;
    }
    open(reactor, &mut sides, 0, streams.0);
    open(reactor, &mut sides, 1, streams.1);
    let _ceiling = support::ceiling(Duration::from_secs(120));
    reactor.run(&mut sides).unwrap();
    for (side, total) in sides.iter().zip([totals[1], totals[0]]) {
        assert!(matches!(side.closed, Some(Reason::Finished)), "{:?}", side.closed);
        assert!(side.eof);
        assert_eq!(side.gets.at, total);
    }
    assert_eq!(unclosed(), 0);
    assert_eq!(reactor.sources(), 0, "{:?}", reactor.why_alive());
}

fn half_open() -> Limits {
    Limits { half_open: true, ..Limits::default() }
}

#[test]
fn megabytes_pass_each_way_at_once_and_end_in_order() {
    let mut reactor = Reactor::new().unwrap();
    for buffer_bytes in [1, 100, 5000, 64 * 1024, 1 << 20] {
        let total = 3_000_000.min(buffer_bytes * 2000);
        let (ours, theirs) = with::pair(&mut reactor, &mut Sides::default(), buffer_bytes);
        let streams = (ours.limits(half_open()), theirs.limits(half_open()));
        exchange(&mut reactor, streams, [total, total + 17]);
    }
}

#[test]
fn sixty_four_mebibytes_pass_each_way_in_bounded_memory() {
    let total = if cfg!(debug_assertions) { 16 << 20 } else { 64 << 20 };
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = with::pair(&mut reactor, &mut Sides::default(), 16 * 1024);
    let limits = Limits {
        outbox_bytes_high: 100_000,
        outbox_bytes_low: 1000,
        outbox_bytes_max: 200_000,
        half_open: true,
        ..Limits::default()
    };
    exchange(&mut reactor, (ours.limits(limits.clone()), theirs.limits(limits)), [total, total]);
}

/// Two ends of a kernel's stream.
fn kernel_pair(reactor: &mut Reactor<Sides>, unix: bool) -> (Stream, Stream) {
    let ends: Rc<RefCell<Vec<Stream>>> = Rc::default();
    let (near, far) = (ends.clone(), ends.clone());
    let patience = Duration::from_secs(10);
    let listener = if unix {
        let path = std::env::temp_dir().join(format!("waterwheel-tls-{}", std::process::id()));
        let take = move |_: &mut Context<Sides>, _: &mut Sides, incoming| {
            near.borrow_mut().insert(0, incoming);
        };
        let id = net::unix::listen(reactor, &path, take).unwrap();
        let done = move |_: &mut Context<Sides>, _: &mut Sides, result: io::Result<Stream>| {
            far.borrow_mut().push(result.unwrap());
        };
        net::unix::connect(reactor, &path, patience, done).unwrap();
        id.raw()
    } else {
        let id = net::tcp::listen(reactor, "127.0.0.1:0", move |_, _, incoming| {
            near.borrow_mut().insert(0, incoming);
        });
        let id = id.unwrap();
        let addr = reactor[id].local_addr();
        net::tcp::connect(reactor, addr, patience, move |_, _, result| {
            far.borrow_mut().push(result.unwrap());
        })
        .unwrap();
        id.raw()
    };
    turn_until(reactor, &mut Sides::default(), |_, _| ends.borrow().len() == 2);
    reactor.remove(listener);
    turns(reactor, &mut Sides::default(), 1);
    let far = ends.borrow_mut().pop().unwrap();
    (ends.borrow_mut().pop().unwrap(), far)
}

fn secured(reactor: &mut Reactor<Sides>, pair: (Stream, Stream)) -> (Stream, Stream) {
    let both = (&with::server(), &with::client());
    with::shake_over(reactor, &mut Sides::default(), both, "localhost", pair).both()
}

#[test]
fn megabytes_pass_over_sockets_of_the_kernel() {
    for unix in [false, true] {
        let mut reactor = Reactor::new().unwrap();
        let pair = kernel_pair(&mut reactor, unix);
        let (ours, theirs) = secured(&mut reactor, pair);
        let streams = (ours.limits(half_open()), theirs.limits(half_open()));
        exchange(&mut reactor, streams, [20_000_000, 5_000_000]);
    }
}

#[test]
fn tls_runs_in_tls() {
    let mut reactor = Reactor::new().unwrap();
    let outer = with::pair(&mut reactor, &mut Sides::default(), 3000);
    let (ours, theirs) = secured(&mut reactor, outer);
    let streams = (ours.limits(half_open()), theirs.limits(half_open()));
    exchange(&mut reactor, streams, [500_000, 500_000]);
}

#[test]
fn small_turns_and_rates_lose_nothing() {
    for bytes_per_turn in [1, 100, 20_000] {
        let clock = ManualClock::new();
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        let (ours, theirs) = with::pair(&mut reactor, &mut Sides::default(), 64 * 1024);
        let slow = || Some(Rate::new(1_000_000, 0));
        let limits = |limits: &mut Limits| {
            limits.read_bytes_per_turn = bytes_per_turn;
            limits.half_open = true;
            (limits.read_rate, limits.write_rate) = (slow(), slow());
        };
        let begin = reactor.now();
        let streams = (ours.adjust_limits(limits), theirs.adjust_limits(limits));
        exchange(&mut reactor, streams, [200_000, 200_000]);
        let took = reactor.now() - begin;
        assert!(took > Duration::from_millis(150) && took < Duration::from_millis(400), "{took:?}");
    }
}

/// A connection that notes, and a peer driven by hand.
fn noted(limits: Limits) -> (Reactor<Told>, Told, SourceId<Conn>, TlsPeer) {
    noted_over(64 * 1024, limits, Reactor::new().unwrap())
}

fn noted_over(
    buffer_bytes: usize,
    limits: Limits,
    mut reactor: Reactor<Told>,
) -> (Reactor<Told>, Told, SourceId<Conn>, TlsPeer) {
    let mut told = Told::default();
    let (ours, theirs) = memory::pair_with(&mut reactor, buffer_bytes);
    let opened = Rc::new(Cell::new(None));
    let open = opened.clone();
    with::server().accept(&mut reactor, ours, move |reactor, _, result| {
        open.set(Some(result.unwrap().limits(limits).open(reactor, watched(note))));
    });
    let mut peer = TlsPeer::client(&mut reactor, theirs, with::client_config());
    peer.shake(&mut reactor, &mut told);
    turn_until(&mut reactor, &mut told, |_, _| opened.get().is_some());
    (reactor, told, opened.get().unwrap(), peer)
}

#[test]
fn a_goodbye_is_answered_by_one() {
    let (mut reactor, mut told, _, mut peer) = noted(Limits::default());
    peer.say(b"hello");
    peer.tls.send_close_notify();
    peer.flush(&mut reactor);
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!((&told.bytes[..], told.eof), (&b"hello"[..], true));
    assert!(matches!(told.closed, Some(Reason::Finished)));
    turns(&mut reactor, &mut told, 3);
    peer.read(&mut reactor).unwrap();
    assert!(peer.was_told_goodbye() && peer.has_ended());
}

#[test]
fn closing_says_goodbye_behind_the_last_byte_and_waits_for_the_peer() {
    let (mut reactor, mut told, conn, mut peer) = noted(Limits::default());
    let _ = reactor[conn].write(b"last words");
    reactor[conn].close();
    turns(&mut reactor, &mut told, 4);
    peer.read(&mut reactor).unwrap();
    assert_eq!(peer.heard, b"last words");
    assert!(peer.was_told_goodbye() && peer.has_ended());
    assert!(told.closed.is_none(), "the peer has not finished");
    // What it sends is discarded, and that it does not say goodbye does not matter now.
    peer.say(&[7; 50_000]);
    peer.flush(&mut reactor);
    turns(&mut reactor, &mut told, 4);
    reactor[peer.conn].shutdown();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
    assert!(told.bytes.is_empty() && !told.eof);
}

#[test]
fn each_half_ends_by_itself() {
    let (mut reactor, mut told, conn, mut peer) = noted(half_open());
    reactor[conn].shutdown();
    turns(&mut reactor, &mut told, 4);
    peer.read(&mut reactor).unwrap();
    assert!(peer.was_told_goodbye());
    peer.say(b"still here");
    peer.flush(&mut reactor);
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"still here");
    peer.tls.send_close_notify();
    peer.flush(&mut reactor);
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert!(told.eof && matches!(told.closed, Some(Reason::Finished)));

    let (mut reactor, mut told, conn, mut peer) = noted(half_open());
    peer.tls.send_close_notify();
    peer.flush(&mut reactor);
    turn_until(&mut reactor, &mut told, |_, told| told.eof);
    let _ = reactor[conn].write(b"an answer");
    turns(&mut reactor, &mut told, 4);
    peer.read(&mut reactor).unwrap();
    assert_eq!((&peer.heard[..], told.closed.is_none()), (&b"an answer"[..], true));
    reactor[conn].shutdown();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert!(matches!(told.closed, Some(Reason::Finished)));
}

/// Stops the peer from reading and writes until much is unsent.
fn stuffed(limits: Limits, clock: &ManualClock) -> (Reactor<Told>, Told, SourceId<Conn>, TlsPeer) {
    let reactor = Reactor::builder().clock(clock).build().unwrap();
    let (mut reactor, mut told, conn, peer) = noted_over(10_000, limits, reactor);
    reactor[peer.conn].pause();
    let _ = reactor[conn].write(&[7; 300_000]);
    turns(&mut reactor, &mut told, 10);
    assert!(reactor[conn].unsent() > 200_000, "{}", reactor[conn].unsent());
    (reactor, told, conn, peer)
}

#[test]
fn a_close_with_ciphertext_unsent_ends_with_its_grace() {
    let clock = ManualClock::new();
    let (mut reactor, mut told, conn, peer) = stuffed(Limits::default(), &clock);
    reactor[conn].close();
    turns(&mut reactor, &mut told, 3);
    clock.advance(Duration::from_millis(4999));
    turns(&mut reactor, &mut told, 3);
    assert!(told.closed.is_none());
    clock.advance(Duration::from_millis(2));
    turns(&mut reactor, &mut told, 3);
    assert!(matches!(told.closed, Some(Reason::Grace)), "{:?}", told.closed);
    assert!(reactor.contains(peer.conn));
}

#[test]
fn a_close_with_ciphertext_unsent_sends_all_of_it_to_a_peer_that_reads() {
    let (mut reactor, mut told, conn, mut peer) = stuffed(Limits::default(), &ManualClock::new());
    reactor[conn].close();
    turns(&mut reactor, &mut told, 3);
    reactor[peer.conn].resume();
    turn_until(&mut reactor, &mut told, |reactor, _| {
        peer.read(reactor).unwrap();
        peer.has_ended()
    });
    peer.read(&mut reactor).unwrap();
    assert_eq!(peer.heard.len(), 300_000);
    assert!(peer.was_told_goodbye());
}

/// What a record of TLS 1.3 has beside its data: head, type and tag.
const RECORD_BYTES: usize = 5 + 1 + 16;

/// Both halves have ended, but the goodbye does not fit: the peer's buffer is full to the last byte.
fn unable_to_say_goodbye(
    limits: Limits,
    clock: &ManualClock,
) -> (Reactor<Told>, Told, SourceId<Conn>, TlsPeer) {
    let reactor = Reactor::builder().clock(clock).build().unwrap();
    let (mut reactor, mut told, conn, mut peer) = noted_over(10_000, limits, reactor);
    clock.advance(Duration::from_secs(5)); // A wait that began at zero would be over.
    reactor[peer.conn].pause();
    turns(&mut reactor, &mut told, 3);
    for size in [1000; 9].into_iter().chain([10_000 - 9 * (1000 + RECORD_BYTES) - RECORD_BYTES]) {
        assert_eq!(reactor[conn].write(&vec![7; size]), Pressure::Below);
        turns(&mut reactor, &mut told, 1);
    }
    assert_eq!(reactor[conn].unsent(), 0);
    peer.tls.send_close_notify();
    peer.flush(&mut reactor);
    turn_until(&mut reactor, &mut told, |_, told| told.eof);
    reactor[conn].shutdown();
    (reactor, told, conn, peer)
}

#[test]
fn a_goodbye_that_does_not_fit_waits_and_is_timed() {
    let timeout = Duration::from_millis(700);
    let limits = Limits { write_timeout: Some(timeout), half_open: true, ..Limits::default() };
    for is_read in [true, false] {
        let clock = ManualClock::new();
        let (mut reactor, mut told, _, mut peer) = unable_to_say_goodbye(limits.clone(), &clock);
        clock.advance(timeout / 2);
        turns(&mut reactor, &mut told, 3);
        assert!(told.closed.is_none(), "{:?}", told.closed);
        if is_read {
            reactor[peer.conn].resume();
            turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
            assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
            turns(&mut reactor, &mut told, 3);
            peer.read(&mut reactor).unwrap();
            assert!(peer.was_told_goodbye());
        } else {
            clock.advance(timeout);
            turns(&mut reactor, &mut told, 3);
            assert!(matches!(told.closed, Some(Reason::WriteTimeout)), "{:?}", told.closed);
        }
    }
}

#[test]
fn an_abort_does_not_wait_for_a_goodbye_that_does_not_fit() {
    let (mut reactor, mut told, conn, peer) =
        unable_to_say_goodbye(half_open(), &ManualClock::new());
    turns(&mut reactor, &mut told, 3);
    reactor[conn].abort();
    turns(&mut reactor, &mut told, 3);
    assert!(matches!(told.closed, Some(Reason::Aborted)), "{:?}", told.closed);
    assert!(!reactor.contains(conn) && reactor.contains(peer.conn));
}

#[test]
fn a_pause_holds_back_what_has_been_decrypted_too() {
    let (mut reactor, mut told, conn, mut peer) = noted(Limits::default());
    reactor[conn].pause();
    peer.say(b"held back");
    peer.flush(&mut reactor);
    turns(&mut reactor, &mut told, 5);
    assert!(told.bytes.is_empty());
    reactor[conn].resume();
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"held back");
}

#[test]
fn an_abort_is_a_reset_without_goodbye() {
    let (mut reactor, mut told, conn, mut peer) = noted(Limits::default());
    let _ = reactor[conn].write(&[7; 100]);
    reactor[conn].abort();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert!(matches!(told.closed, Some(Reason::Aborted)));
    turns(&mut reactor, &mut told, 3);
    peer.read(&mut reactor).unwrap();
    assert!(!peer.was_told_goodbye() && !reactor.contains(peer.conn));
}

#[test]
fn a_panic_in_the_handler_loses_nothing_but_itself() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = with::pair(&mut reactor, &mut Vec::new(), 64 * 1024);
    let mut panics = 3;
    ours.open(&mut reactor, move |_, heard: &mut Vec<u8>, _, event| {
        if let Event::Data(bytes) = event {
            heard.extend(bytes);
            if panics > 0 {
                panics -= 1;
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        }
    });
    let theirs = theirs.open(&mut reactor, |_, _, _, _| {});
    let _ = reactor[theirs].write(&[7; 200_000]);
    reactor[theirs].close();
    let mut heard = Vec::new();
    let mut caught = 0;
    let run = |reactor: &mut Reactor<_>, heard: &mut _| {
        std::panic::catch_unwind(AssertUnwindSafe(|| reactor.run(heard).unwrap()))
    };
    while run(&mut reactor, &mut heard).is_err() {
        caught += 1;
    }
    assert_eq!((caught, heard.len()), (3, 200_000));
}

#[test]
fn a_drain_counts_connections_over_tls_and_closes_them_with_a_goodbye() {
    let mut reactor = Reactor::<Told>::new().unwrap();
    let listener = net::tcp::listen(&mut reactor, "127.0.0.1:0", |reactor, _, incoming| {
        with::server().accept(reactor, incoming, |reactor, _, result| {
            result.unwrap().open(reactor, watched(note));
        });
    });
    let listener = listener.unwrap();
    let addr = reactor[listener].local_addr();
    let mut told = Told::default();
    let peer: Rc<RefCell<Option<TlsPeer>>> = Rc::default();
    let into = peer.clone();
    net::tcp::connect(&mut reactor, addr, Duration::from_secs(10), move |reactor, _, result| {
        let config = with::client_config();
        *into.borrow_mut() = Some(TlsPeer::client(reactor, result.unwrap(), config));
    })
    .unwrap();
    turn_until(&mut reactor, &mut told, |_, _| peer.borrow().is_some());
    let mut peer = peer.borrow_mut().take().unwrap();
    turn_until(&mut reactor, &mut told, |reactor, _| {
        peer.flush(reactor);
        peer.read(reactor).unwrap();
        reactor.ids::<Conn>().len() == 2
    });
    assert_eq!(reactor[listener].connections(), 1, "the handshake hands its seat on");
    turns(&mut reactor, &mut told, 3);
    let report = Rc::new(Cell::new(None));
    let tell = report.clone();
    net::drain(&mut reactor, Duration::from_secs(20), move |_, _, report| tell.set(Some(report)));
    turn_until(&mut reactor, &mut told, |reactor, _| {
        peer.read(reactor).unwrap();
        peer.has_ended()
    });
    assert!(peer.was_told_goodbye());
    reactor[peer.conn].shutdown();
    turn_until(&mut reactor, &mut told, |_, _| report.get().is_some());
    let report = report.get().unwrap();
    assert_eq!((report.connections, report.idle, report.aborted), (1, 1, 0));
    assert!(matches!(told.closed, Some(Reason::Finished)));
}

/// Begins a drain with an hour's grace and turns until it reports, or for a while: how many were
/// idle, finished, aborted.
fn drained(
    reactor: &mut Reactor<Told>,
    told: &mut Told,
    mut meanwhile: impl FnMut(&mut Reactor<Told>),
) -> Option<[usize; 3]> {
    let report = Rc::new(Cell::new(None));
    let tell = report.clone();
    net::drain(reactor, Duration::from_secs(3600), move |_, _, report| tell.set(Some(report)));
    for _ in 0..20 {
        turns(reactor, told, 2);
        meanwhile(reactor);
    }
    report.get().map(|report| [report.idle, report.finished, report.aborted])
}

/// As `noted`, but one that a server has accepted.
fn accepted(limits: Limits) -> (Reactor<Told>, Told, TlsPeer) {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (ours, theirs) = memory::pair(&mut reactor);
    with::server().accept(&mut reactor, ours.accepted(), move |reactor, _, result| {
        result.unwrap().limits(limits).open(reactor, watched(note));
    });
    let mut peer = TlsPeer::client(&mut reactor, theirs, with::client_config());
    peer.shake(&mut reactor, &mut told);
    turns(&mut reactor, &mut told, 5);
    peer.read(&mut reactor).unwrap();
    (reactor, told, peer)
}

#[test]
fn a_peer_is_not_idle_whose_record_takes_its_time() {
    let second = Duration::from_secs(1);
    let limits = Limits { idle_timeout: Some(second), ..Limits::default() };
    for last in [100, usize::MAX] {
        let clock = ManualClock::new();
        let reactor = Reactor::builder().clock(&clock).build().unwrap();
        let noted = noted_over(64 * 1024, limits.clone(), reactor);
        let (mut reactor, mut told, _, mut peer) = noted;
        peer.say(&[7; 1000]);
        for piece in peer.sealed().chunks(100) {
            let _ = reactor[peer.conn].write(piece);
            turns(&mut reactor, &mut told, 3);
            clock.advance(second * 2 / 3);
            turns(&mut reactor, &mut told, 3);
            assert!(told.closed.is_none(), "{:?}", told.closed);
        }
        assert_eq!(told.bytes.len(), 1000);
        // Then all of a record or a part of one, and silence.
        peer.say(&[7; 1000]);
        let record = peer.sealed();
        let _ = reactor[peer.conn].write(&record[..last.min(record.len())]);
        turns(&mut reactor, &mut told, 3);
        clock.advance(second + support::MS);
        turns(&mut reactor, &mut told, 3);
        assert!(matches!(told.closed, Some(Reason::IdleTimeout)), "{:?}", told.closed);
    }
}

/// A record of 40 bytes is delivered in turns of 26. While the rest waits decrypted another record
/// arrives, and its edge comes together with the turn that delivers the rest.
#[test]
fn a_record_that_comes_while_another_is_being_delivered_is_not_forgotten() {
    let limits = Limits { read_bytes_per_turn: 26, ..Limits::default() };
    let (mut reactor, mut told, _, mut peer) = noted(limits);
    for round in 1..=3 {
        let begin = told.bytes.len();
        peer.say(&[7; 40]);
        peer.flush(&mut reactor);
        turn_until(&mut reactor, &mut told, |_, told| told.bytes.len() > begin);
        assert_eq!(told.bytes.len() - begin, 26);
        peer.say(&[8; 10]);
        peer.flush(&mut reactor);
        turns(&mut reactor, &mut told, 10);
        assert_eq!(told.bytes.len(), round * 50);
    }
}

#[test]
fn a_drain_closes_a_connection_whose_peer_has_finished() {
    let (mut reactor, mut told, mut peer) = accepted(half_open());
    peer.tls.send_close_notify();
    peer.flush(&mut reactor);
    turn_until(&mut reactor, &mut told, |_, told| told.eof);
    let report = drained(&mut reactor, &mut told, |_| {});
    assert_eq!(report, Some([1, 0, 0]));
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
}

#[test]
fn a_drain_waits_for_the_rest_of_a_record() {
    let (mut reactor, mut told, mut peer) = accepted(Limits::default());
    peer.say(b"hello");
    let record = peer.sealed();
    let (begin, rest) = record.split_at(10);
    let _ = reactor[peer.conn].write(begin);
    turns(&mut reactor, &mut told, 5);
    assert_eq!(drained(&mut reactor, &mut told, |_| {}), None);
    let _ = reactor[peer.conn].write(rest);
    let conn = peer.conn;
    turns(&mut reactor, &mut told, 5);
    reactor[conn].shutdown();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!(told.bytes, b"hello");
}

#[test]
fn a_drain_closes_what_a_handshake_opens_that_was_under_way() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (ours, theirs) = memory::pair(&mut reactor);
    with::server().accept(&mut reactor, ours.accepted(), |reactor, _, result| {
        result.unwrap().open(reactor, watched(note));
    });
    let mut peer = TlsPeer::client(&mut reactor, theirs, with::client_config());
    turns(&mut reactor, &mut told, 5);
    assert_eq!(drained(&mut reactor, &mut told, |_| {}), Some([0, 0, 0]));
    // The request comes with the last message of the handshake, and is heard.
    peer.say(b"hello");
    peer.shake(&mut reactor, &mut told);
    turns(&mut reactor, &mut told, 5);
    peer.read(&mut reactor).unwrap();
    assert!(peer.was_told_goodbye() && peer.has_ended());
    reactor[peer.conn].shutdown();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!(told.bytes, b"hello");
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
}

#[test]
fn a_link_passes_on_from_tls_into_the_clear() {
    let mut reactor = Reactor::<Sides>::new().unwrap();
    let mut sides = Sides::default();
    let (ours, theirs) = with::pair(&mut reactor, &mut sides, 10_000);
    let (clear, far) = memory::pair(&mut reactor);
    net::link(&mut reactor, ours, clear, |_, _, report| {
        assert!(matches!((report.a.reason, report.b.reason), (Reason::Finished, Reason::Finished)));
        assert_eq!((report.a.bytes, report.b.bytes), (1_000_000, 600_000));
    });
    let streams = (theirs.limits(half_open()), far.limits(half_open()));
    exchange(&mut reactor, streams, [1_000_000, 600_000]);
}

#[test]
fn a_loop_that_is_dropped_drops_its_handshakes_and_connections() {
    let held = Rc::new(());
    for turns_before in [0, 1, 2, 3, 4, 8] {
        let mut reactor = Reactor::<()>::new().unwrap();
        let (ours, theirs) = memory::pair(&mut reactor);
        let (server, client) = (held.clone(), held.clone());
        with::server().accept(&mut reactor, ours, move |reactor, _, result| {
            result.unwrap().open(reactor, move |_, _, _, _| assert!(Rc::strong_count(&server) > 0));
        });
        with::client().connect(&mut reactor, theirs, "localhost", move |reactor, _, result| {
            result.unwrap().open(reactor, move |_, _, _, _| assert!(Rc::strong_count(&client) > 0));
        });
        turns(&mut reactor, &mut (), turns_before);
        drop(reactor);
        assert_eq!(Rc::strong_count(&held), 1);
    }
}

#[test]
fn data_that_comes_with_the_last_message_of_the_handshake_is_delivered() {
    // A client that does not wait: its first request is in one piece with its Finished.
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (ours, theirs) = memory::pair(&mut reactor);
    with::server().accept(&mut reactor, ours, |reactor, _, result| {
        result.unwrap().open(reactor, watched(note));
    });
    let mut peer = TlsPeer::client(&mut reactor, theirs, with::client_config());
    peer.say(&[7; 40_000]); // rustls holds it until it may be sent.
    peer.shake(&mut reactor, &mut told);
    turn_until(&mut reactor, &mut told, |_, told| told.bytes.len() == 40_000);
}
