//! Two streams joined: what comes from one goes to the other, their ends included.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::rc::Rc;
use std::time::Duration;

use support::MS;
use support::tcp::{Flow, Peer, turn_until, turns};
use waterwheel::mio::{Interest, Registry, Token, event::Source};
use waterwheel::net::{
    self, Conn, Event, Limits, Link, LinkReport, Reason, Stream, Transport, tcp,
};
use waterwheel::reactor::Readiness;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// Streams that were accepted and not yet joined, and reports.
#[derive(Default)]
struct Hub {
    streams: Vec<Stream>,
    reports: Vec<LinkReport>,
}

fn report(_: &mut Context<Hub>, hub: &mut Hub, report: LinkReport) {
    hub.reports.push(report);
}

/// A stream that was accepted, and its peer.
fn accepted(reactor: &mut Reactor<Hub>, hub: &mut Hub, limits: Limits) -> (Stream, Peer) {
    let listener = tcp::Listen::new().limits(limits);
    let listener = listener.open(reactor, "127.0.0.1:0", |_, hub, stream| hub.streams.push(stream));
    let listener = listener.expect("a free port");
    let peer = Peer::to(reactor[listener].local_addr());
    turn_until(reactor, hub, |_, hub| !hub.streams.is_empty());
    reactor.remove(listener);
    (hub.streams.remove(0), peer)
}

/// Two peers that are joined.
fn joined(
    reactor: &mut Reactor<Hub>,
    hub: &mut Hub,
    limits: Limits,
) -> (SourceId<Link>, [Peer; 2]) {
    let (a, left) = accepted(reactor, hub, limits.clone());
    let (b, right) = accepted(reactor, hub, limits);
    (net::link(reactor, a, b, report), [left, right])
}

/// Turns until the link has ended; its report, which is the only one.
fn ended(reactor: &mut Reactor<Hub>, hub: &mut Hub) -> LinkReport {
    turn_until(reactor, hub, |_, hub| !hub.reports.is_empty());
    turns(reactor, hub, 5);
    assert_eq!((hub.reports.len(), reactor.sources(), reactor.timers()), (1, 0, 0));
    hub.reports.remove(0)
}

fn bytes(report: &LinkReport) -> [u64; 2] {
    [report.a.bytes, report.b.bytes]
}

fn reasons(report: &LinkReport) -> [String; 2] {
    [&report.a, &report.b].map(|end| format!("{:?}", end.reason))
}

#[test]
fn what_comes_from_each_side_goes_to_the_other() {
    const SENT: usize = 3_000_001;
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (link, mut peers) = joined(&mut reactor, &mut hub, Limits::default());
    let mut sent = [Flow::default(), Flow { at: 77 }];
    let mut received = [sent[1].clone(), sent[0].clone()];
    turn_until(&mut reactor, &mut hub, |_, _| {
        for side in 0..2 {
            let rest = SENT - (sent[side].at - 77 * side);
            let bytes = sent[side].peek(rest.min(100_000));
            sent[side].at += peers[side].write(bytes);
            received[side].check(peers[side].read(100_000));
            peers[side].got.clear();
        }
        received.iter().map(|flow| flow.at).sum::<usize>() == 2 * SENT + 77
    });
    assert_eq!(reactor[link].bytes(), [SENT as u64; 2]);
    peers.iter_mut().for_each(Peer::finish);
    let report = ended(&mut reactor, &mut hub);
    assert_eq!((bytes(&report), reasons(&report)), ([SENT as u64; 2], finished()));
    assert_eq!(peers.each_mut().map(|peer| peer.read_all()), [Some(Ok(())); 2]);
}

fn finished() -> [String; 2] {
    ["Finished", "Finished"].map(str::to_owned)
}

#[test]
fn slow_sink_pauses_its_source_and_costs_no_more_than_the_high_water_mark() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (link, [mut left, mut right]) = joined(&mut reactor, &mut hub, Limits::default());
    let [a, b] = reactor[link].ends();
    let mut sent = Flow::default();
    let mut in_vain = 0;
    while in_vain < 20 {
        let count = left.write(sent.peek(64 * 1024));
        sent.at += count;
        in_vain = if count == 0 { in_vain + 1 } else { 0 };
        turns(&mut reactor, &mut hub, 3);
        assert!(reactor[b].unsent() <= 256 * 1024 + 64 * 1024, "{}", reactor[b].unsent());
    }
    assert!(reactor[a].is_paused() && !reactor[b].is_paused() && reactor[b].unsent() > 256 * 1024);
    left.finish();
    let mut received = Flow::default();
    turn_until(&mut reactor, &mut hub, |_, _| {
        received.check(right.read(64 * 1024));
        right.got.clear();
        right.end.is_some()
    });
    assert_eq!((received.at, right.end), (sent.at, Some(Ok(()))));
    right.finish();
    let report = ended(&mut reactor, &mut hub);
    assert_eq!((bytes(&report), reasons(&report)), ([sent.at as u64, 0], finished()));
}

#[test]
fn each_direction_ends_on_its_own() {
    for (one, other) in [(0, 1), (1, 0)] {
        let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
        let (_, mut peers) = joined(&mut reactor, &mut hub, Limits::default());
        peers[one].send(b"question");
        peers[one].finish();
        turn_until(&mut reactor, &mut hub, |_, _| peers[other].read_all().is_some());
        assert_eq!((&*peers[other].got, peers[other].end), (&b"question"[..], Some(Ok(()))));
        turns(&mut reactor, &mut hub, 5);
        peers[other].send(b"a long answer");
        turn_until(&mut reactor, &mut hub, |_, _| {
            peers[one].read(100);
            peers[one].got == b"a long answer"
        });
        assert!(peers[one].end.is_none() && hub.reports.is_empty());
        peers[other].finish();
        let report = ended(&mut reactor, &mut hub);
        assert_eq!(peers[one].read_all(), Some(Ok(())));
        assert_eq!(reasons(&report), finished());
        let mut counts = [8, 13];
        counts.rotate_left(one);
        assert_eq!(bytes(&report), counts);
    }
}

#[test]
fn reset_of_one_side_is_a_reset_of_the_other() {
    for (one, other) in [(0, 1), (1, 0)] {
        let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
        let (_, peers) = joined(&mut reactor, &mut hub, Limits::default());
        let mut peers = peers.map(Some);
        let (mut going, mut left) = (peers[one].take().unwrap(), peers[other].take().unwrap());
        going.send(b"last words");
        turn_until(&mut reactor, &mut hub, |_, _| left.read(100) == b"last words");
        going.reset();
        let report = ended(&mut reactor, &mut hub);
        let mut expected = ["Reset", "Aborted"];
        expected.rotate_left(one);
        assert_eq!(reasons(&report), expected);
        assert_eq!(left.read_all(), Some(Err(ErrorKind::ConnectionReset)));
    }
}

#[test]
fn reset_behind_a_half_close_is_passed_on_though_no_read_tells_of_it() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (_, [mut left, mut right]) = joined(&mut reactor, &mut hub, Limits::default());
    left.finish();
    turn_until(&mut reactor, &mut hub, |_, _| right.read_all().is_some());
    left.reset();
    let report = ended(&mut reactor, &mut hub);
    assert_eq!(reasons(&report), ["Reset", "Aborted"]);
    // Behind a mere FIN the first write would go.
    assert!(right.socket.write(b"to nobody").is_err());
}

#[test]
fn sink_that_dies_while_its_source_is_paused_ends_both() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (link, [mut left, right]) = joined(&mut reactor, &mut hub, Limits::default());
    let [a, _] = reactor[link].ends();
    let mut sent = Flow::default();
    while !reactor[a].is_paused() {
        sent.at += left.write(sent.peek(64 * 1024));
        turns(&mut reactor, &mut hub, 3);
    }
    right.reset();
    let report = ended(&mut reactor, &mut hub);
    assert_eq!(reasons(&report), ["Aborted", "Reset"]);
    turn_until(&mut reactor, &mut hub, |_, _| left.read_all().is_some());
    assert_eq!(left.end, Some(Err(ErrorKind::ConnectionReset)));
}

#[test]
fn sink_that_takes_nothing_for_too_long_ends_both() {
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let mut hub = Hub::default();
    let limits = Limits { write_timeout: Some(Duration::from_secs(10)), ..Limits::default() };
    let (link, [mut left, right]) = joined(&mut reactor, &mut hub, limits);
    let [a, _] = reactor[link].ends();
    let mut sent = Flow::default();
    while !reactor[a].is_paused() {
        sent.at += left.write(sent.peek(64 * 1024));
        turns(&mut reactor, &mut hub, 3);
    }
    clock.advance(9999 * MS);
    turns(&mut reactor, &mut hub, 5);
    assert!(hub.reports.is_empty());
    clock.advance(MS);
    let report = ended(&mut reactor, &mut hub);
    assert_eq!(reasons(&report), ["Aborted", "WriteTimeout"]);
    assert_eq!(report.duration, Duration::from_secs(10));
    drop(right);
}

#[test]
fn abort_ends_both_and_reports_once() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (link, mut peers) = joined(&mut reactor, &mut hub, Limits::default());
    reactor[link].abort();
    reactor[link].abort();
    let report = ended(&mut reactor, &mut hub);
    assert_eq!(reasons(&report), ["Aborted", "Aborted"]);
    assert!(reactor.get_mut(link).is_none());
    for peer in &mut peers {
        turn_until(&mut reactor, &mut hub, |_, _| peer.read_all().is_some());
        assert_eq!(peer.end, Some(Err(ErrorKind::ConnectionReset)));
    }
}

#[test]
fn closing_one_end_closes_the_other_in_order() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (link, mut peers) = joined(&mut reactor, &mut hub, Limits::default());
    let [a, _] = reactor[link].ends();
    reactor[a].close();
    turn_until(&mut reactor, &mut hub, |_, _| peers[0].read_all().is_some());
    peers[0].finish();
    turn_until(&mut reactor, &mut hub, |_, _| peers[1].read_all().is_some());
    peers[1].finish();
    assert_eq!(reasons(&ended(&mut reactor, &mut hub)), finished());
}

#[test]
fn bytes_for_an_end_that_somebody_shut_down_end_both() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (link, [mut left, _right]) = joined(&mut reactor, &mut hub, Limits::default());
    let [_, b] = reactor[link].ends();
    reactor[b].shutdown();
    turns(&mut reactor, &mut hub, 3);
    left.send(b"where to?");
    assert_eq!(reasons(&ended(&mut reactor, &mut hub)), ["Aborted", "Aborted"]);
}

#[test]
fn removed_end_takes_the_other_along_when_that_has_something_to_tell() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (link, [mut left, _right]) = joined(&mut reactor, &mut hub, Limits::default());
    let [_, b] = reactor[link].ends();
    reactor.remove(b);
    left.send(b"where to?");
    assert_eq!(reasons(&ended(&mut reactor, &mut hub)), ["Aborted", "Aborted"]);
}

#[test]
fn removed_link_reports_nothing_and_resets_its_ends() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    for deregisters in [false, true] {
        let (link, peers) = joined(&mut reactor, &mut hub, Limits::default());
        match deregisters {
            true => drop(reactor.deregister(link)),
            false => assert!(reactor.remove(link)),
        }
        reactor.run(&mut hub).unwrap();
        for mut peer in peers {
            turn_until(&mut reactor, &mut hub, |_, _| peer.read_all().is_some());
            assert_eq!(peer.end, Some(Err(ErrorKind::ConnectionReset)));
        }
    }
    assert!(hub.reports.is_empty() && reactor.sources() == 0);
    assert_eq!(reactor.statistics().stale, 0);
}

#[test]
fn limits_below_one_read_pass_everything_in_pieces() {
    const SENT: usize = 300_000;
    for outbox_bytes_max in [1, 700, 40_000] {
        let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
        // The default low-water mark is above it: no excuse for telling `Drained` again and again.
        let limits = Limits { outbox_bytes_max, ..Limits::default() };
        let (link, [mut left, mut right]) = joined(&mut reactor, &mut hub, limits);
        let [_, b] = reactor[link].ends();
        let count = SENT.min(outbox_bytes_max * 3000);
        let (mut sent, mut received) = (Flow::default(), Flow::default());
        turn_until(&mut reactor, &mut hub, |reactor, _| {
            sent.at += left.write(sent.peek((count - sent.at).min(100_000)));
            received.check(right.read(100_000));
            assert!(reactor[b].unsent() <= outbox_bytes_max);
            received.at == count
        });
        left.finish();
        right.finish();
        assert_eq!(bytes(&ended(&mut reactor, &mut hub)), [count as u64, 0]);
    }
}

#[test]
fn sink_that_may_hold_nothing_ends_both() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let limits = Limits { outbox_bytes_max: 0, ..Limits::default() };
    let (_, [mut left, _right]) = joined(&mut reactor, &mut hub, limits);
    left.send(b"x");
    assert_eq!(reasons(&ended(&mut reactor, &mut hub)), ["Aborted", "Aborted"]);
}

/// Takes a first line for itself and joins the rest, with the end of input if that has come.
#[test]
fn connection_that_is_handed_over_brings_its_unread_and_unsent_bytes_and_its_end() {
    for event_in_which in ["Data", "Eof"] {
        let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
        let (stream, mut left) = accepted(&mut reactor, &mut hub, Limits::default());
        let (other, mut right) = accepted(&mut reactor, &mut hub, Limits::default());
        let mut other = Some(other);
        stream.open(&mut reactor, move |reactor: &mut Context<Hub>, _, conn, event| {
            let rest: &[u8] = match event {
                Event::Data(bytes) if event_in_which == "Eof" => {
                    return reactor[conn].unread(bytes.len() - 6);
                }
                Event::Data(bytes) => &bytes[6..],
                Event::Eof => &[],
                _ => unreachable!(),
            };
            let _ = reactor[conn].write(b"welcome ");
            let conn = reactor.deregister(conn).unwrap();
            let stream = Stream::from(conn).unread(rest);
            net::link(reactor, stream, other.take().unwrap(), report);
        });
        left.send(b"HELLO\nthe rest");
        left.finish();
        turn_until(&mut reactor, &mut hub, |_, _| right.read_all().is_some());
        assert_eq!((&*right.got, right.end), (&b"the rest"[..], Some(Ok(()))), "{event_in_which}");
        right.send(b"back");
        right.finish();
        let report = ended(&mut reactor, &mut hub);
        assert_eq!((bytes(&report), reasons(&report)), ([8, 4], finished()));
        left.read_all();
        assert_eq!((&*left.got, left.end), (&b"welcome back"[..], Some(Ok(()))));
    }
}

#[test]
fn a_panic_in_the_report_loses_nothing_but_itself() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (a, _) = accepted(&mut reactor, &mut hub, Limits::default());
    let (b, _) = accepted(&mut reactor, &mut hub, Limits::default());
    net::link(&mut reactor, a, b, |_, _, _| panic!("on purpose"));
    let run = std::panic::AssertUnwindSafe(|| reactor.run(&mut hub));
    assert!(std::panic::catch_unwind(run).is_err());
    assert_eq!(reactor.sources(), 0);
    reactor.run(&mut hub).unwrap();
}

#[test]
fn loop_that_is_dropped_closes_both_and_reports_nothing() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (_, mut peers) = joined(&mut reactor, &mut hub, Limits::default());
    peers[0].send(b"never read");
    drop(reactor);
    assert!(hub.reports.is_empty());
    for peer in &mut peers {
        while peer.read_all().is_none() {}
    }
}

#[test]
fn a_link_holds_the_loop_and_says_where_it_was_made() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let (link, peers) = joined(&mut reactor, &mut hub, Limits::default());
    let why = reactor.why_alive();
    assert_eq!(why.len(), 3);
    assert!(why.iter().all(|why| why.to_string().contains("tests/net/link.rs")), "{why:?}");
    assert!(reactor.contains(link));
    drop(peers);
    reactor.run(&mut hub).unwrap();
    assert_eq!(hub.reports.len(), 1);
}

/// Counts system calls, as they would be: endless input of 64 KiB pieces, endless room.
#[derive(Debug, Default)]
struct Counted {
    reads: Cell<usize>,
    writes: Cell<usize>,
    piece: Cell<usize>,
}

#[derive(Debug)]
struct Counting(Rc<Counted>);

impl Transport for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.reads.set(self.0.reads.get() + 1);
        let count = self.0.piece.take().min(buffer.len());
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.writes.set(self.0.writes.get() + 1);
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Counting {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_piece_costs_one_read_and_one_write() {
    let (mut reactor, mut hub) = (Reactor::new().unwrap(), Hub::default());
    let counted = [Rc::<Counted>::default(), Rc::default()];
    let [a, b] = counted.clone().map(|counted| Stream::over(Counting(counted)));
    let link = net::link(&mut reactor, a, b, report);
    let [a, b] = reactor[link].ends();
    turns(&mut reactor, &mut hub, 3);
    for size in [1, 100, 16_000, 65_535] {
        for one in &counted {
            one.reads.set(0);
            one.writes.set(0);
        }
        for _ in 0..10 {
            counted[0].piece.set(size);
            reactor.resume(a, Readiness::READABLE);
            turns(&mut reactor, &mut hub, 1);
            assert_eq!(reactor[b].unsent(), 0);
        }
        let calls = counted.each_ref().map(|one| (one.reads.get(), one.writes.get()));
        assert_eq!(calls, [(10, 0), (0, 10)], "pieces of {size} bytes");
    }
}

#[test]
fn the_ends_are_ordinary_connections_with_limits_of_their_own() {
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let mut hub = Hub::default();
    let (link, _peers) = joined(&mut reactor, &mut hub, Limits::default());
    let [_, b]: [SourceId<Conn>; 2] = reactor[link].ends();
    reactor[b].set_limits(Limits { idle_timeout: Some(MS), ..Limits::default() });
    turns(&mut reactor, &mut hub, 1);
    clock.advance(2 * MS);
    let report = ended(&mut reactor, &mut hub);
    assert!(matches!(report.b.reason, Reason::IdleTimeout), "{report:?}");
    assert!(matches!(report.a.reason, Reason::Aborted), "{report:?}");
}
