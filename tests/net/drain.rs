//! Ending a server: nobody is cut off who can be helped, and the deadline is kept.

use std::cell::Cell;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use support::MS;
use support::tcp as tcp_support;
use support::tcp::{Flow, Peer, turn_until, turns, unclosed, watched};
use waterwheel::net::{self, Conn, DrainReport, Event, Framed, Limits, Lines, Pressure, Reason};
use waterwheel::net::{Stream, framed, tcp};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// What the program knows of its connections.
#[derive(Default)]
struct Server {
    conns: Vec<SourceId<Conn>>,
    reports: Vec<DrainReport>,
    closed: Vec<Reason>,
    lines: usize,
}

const SECOND: Duration = Duration::from_secs(1);

fn reactor() -> (Reactor<Server>, Server, ManualClock) {
    let clock = ManualClock::held();
    (Reactor::builder().clock(&clock).build().unwrap(), Server::default(), clock)
}

/// Answers each line with one; `later` in a second, `never` not at all, `big` at length; `wait`
/// pauses the connection.
fn serve(reactor: &mut Reactor<Server>) -> SocketAddr {
    let limits = Limits { outbox_bytes_max: 64 << 20, ..Limits::default() };
    let listener = tcp::Listen::new().limits(limits).open(
        reactor,
        "127.0.0.1:0",
        |reactor, server, stream| {
            let conn = stream.open(reactor, watched(framed(Lines::new(100), answer)));
            server.conns.push(conn);
        },
    );
    let listener = listener.expect("a free port");
    reactor[listener].local_addr()
}

fn answer(
    reactor: &mut Context<Server>,
    server: &mut Server,
    id: SourceId<Conn>,
    event: Framed<'_>,
) {
    let line = match event {
        Framed::Frame(line) => line,
        Framed::Closed(why) => return server.closed.push(why),
        _ => return,
    };
    server.lines += 1;
    let conn = &mut reactor[id];
    match line {
        b"later" => {
            conn.hold();
            reactor.after(SECOND, move |reactor, _| {
                let _ = reactor[id].write(b"at last\n");
                reactor[id].release();
            });
        }
        b"never" => conn.hold(),
        b"wait" => conn.pause(),
        b"big" => stuff(conn),
        b"drain" => {
            net::drain(reactor, SECOND, note);
            let _ = reactor[id].write(b"good-bye\n");
        }
        _ => drop(conn.write(b"done\n")),
    }
}

/// More than the kernel takes at once.
fn stuff(conn: &mut Conn) {
    let mut flow = Flow::default();
    while flow.at < 20_000_000 {
        let bytes = flow.peek(1 << 20);
        assert!(conn.write(bytes).is_taken());
        flow.at += bytes.len();
    }
}

fn note(_: &mut Context<Server>, server: &mut Server, report: DrainReport) {
    server.reports.push(report);
}

/// Connects and sends; the connection has been served as far as it can when this returns.
fn client(
    reactor: &mut Reactor<Server>,
    server: &mut Server,
    addr: SocketAddr,
    says: &[u8],
) -> Peer {
    let (conns, lines) = (server.conns.len(), server.lines);
    let mut peer = Peer::to(addr);
    peer.send(says);
    let ends = says.iter().filter(|byte| **byte == b'\n').count();
    turn_until(reactor, server, |_, server| {
        server.conns.len() > conns && server.lines == lines + ends
    });
    if ends == 0 && !says.is_empty() {
        let conn = *server.conns.last().unwrap();
        turn_until(reactor, server, |reactor, _| reactor[conn].backlog() == says);
    }
    turns(reactor, server, 3);
    peer
}

/// Turns until the report is there, and a little longer.
fn report(reactor: &mut Reactor<Server>, server: &mut Server) -> [usize; 5] {
    turn_until(reactor, server, |_, server| !server.reports.is_empty());
    turns(reactor, server, 5);
    assert_eq!(server.reports.len(), 1);
    let report = server.reports[0];
    let DrainReport { listeners, connections, idle, finished, aborted, .. } = report;
    assert_eq!(connections, idle + finished + aborted, "{report}");
    [listeners, connections, idle, finished, aborted]
}

/// Reads to the end and closes, as a client does that sees the server go.
fn leave(reactor: &mut Reactor<Server>, server: &mut Server, peer: &mut Peer) {
    turn_until(reactor, server, |_, _| peer.read_all().is_some());
    if peer.end == Some(Ok(())) {
        peer.finish();
    }
}

#[test]
fn accepting_stops_first_and_idle_connections_close_in_order() {
    let (mut reactor, mut server, _clock) = reactor();
    let addrs = [serve(&mut reactor), serve(&mut reactor)];
    let mut fresh = client(&mut reactor, &mut server, addrs[0], b"");
    let mut served = client(&mut reactor, &mut server, addrs[1], b"hello\n");
    net::drain(&mut reactor, 10 * SECOND, note);
    assert!(server.reports.is_empty(), "told from inside the call");
    for addr in addrs {
        assert!(TcpStream::connect(addr).is_err(), "{addr} still listens");
    }
    leave(&mut reactor, &mut server, &mut fresh);
    leave(&mut reactor, &mut server, &mut served);
    assert_eq!((fresh.end, served.end, &*served.got), (Some(Ok(())), Some(Ok(())), &b"done\n"[..]));
    assert_eq!(report(&mut reactor, &mut server), [2, 2, 2, 0, 0]);
    assert_eq!(format!("{:?}", server.closed), "[Finished, Finished]");
    assert_eq!((reactor.sources(), reactor.timers(), unclosed()), (0, 0, 0));
}

#[test]
fn answers_that_wait_for_a_slow_client_are_sent_to_the_end() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peer = client(&mut reactor, &mut server, addr, b"big\n");
    net::drain(&mut reactor, 60 * SECOND, note);
    // Longer than a close would have waited.
    clock.advance(30 * SECOND);
    turns(&mut reactor, &mut server, 5);
    let mut received = Flow::default();
    turn_until(&mut reactor, &mut server, |_, _| {
        received.check(peer.read(1 << 20));
        peer.got.clear();
        peer.end.is_some()
    });
    assert!(received.at >= 20_000_000);
    peer.finish();
    assert_eq!(report(&mut reactor, &mut server), [1, 1, 0, 1, 0]);
}

#[test]
fn unfinished_frame_is_awaited_and_answered() {
    let (mut reactor, mut server, _clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peer = client(&mut reactor, &mut server, addr, b"hel");
    net::drain(&mut reactor, 10 * SECOND, note);
    turns(&mut reactor, &mut server, 10);
    assert_eq!(peer.read_all(), None);
    peer.send(b"lo\n");
    leave(&mut reactor, &mut server, &mut peer);
    assert_eq!(peer.got, b"done\n");
    assert_eq!(report(&mut reactor, &mut server), [1, 1, 0, 1, 0]);
}

#[test]
fn held_connection_is_closed_when_its_late_answer_is_sent() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peer = client(&mut reactor, &mut server, addr, b"later\n");
    net::drain(&mut reactor, 10 * SECOND, note);
    turns(&mut reactor, &mut server, 10);
    assert_eq!(peer.read_all(), None);
    clock.advance(SECOND);
    leave(&mut reactor, &mut server, &mut peer);
    assert_eq!(peer.got, b"at last\n");
    assert_eq!(report(&mut reactor, &mut server), [1, 1, 0, 1, 0]);
}

#[test]
fn held_connection_is_still_held_when_it_is_handed_over() {
    let (mut reactor, mut server, _clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peer = client(&mut reactor, &mut server, addr, b"never\n");
    let conn = reactor.deregister(server.conns[0]).expect("it is open");
    let conn = Stream::from(conn).open(&mut reactor, |_, _, _, _| {});
    net::drain(&mut reactor, 10 * SECOND, note);
    turns(&mut reactor, &mut server, 10);
    assert_eq!(peer.read_all(), None);
    reactor[conn].release();
    turn_until(&mut reactor, &mut server, |_, _| peer.read_all().is_some());
}

#[test]
fn released_without_an_answer_it_is_closed_all_the_same() {
    let (mut reactor, mut server, _clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peer = client(&mut reactor, &mut server, addr, b"never\n");
    let conn = server.conns[0];
    net::drain(&mut reactor, 10 * SECOND, note);
    turns(&mut reactor, &mut server, 10);
    reactor[conn].release();
    leave(&mut reactor, &mut server, &mut peer);
    assert_eq!(report(&mut reactor, &mut server), [1, 1, 0, 1, 0]);
}

#[test]
fn paused_connection_is_in_flight_until_it_is_resumed() {
    let (mut reactor, mut server, _clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peer = client(&mut reactor, &mut server, addr, b"wait\n");
    peer.send(b"and then\n");
    net::drain(&mut reactor, 10 * SECOND, note);
    turns(&mut reactor, &mut server, 10);
    assert_eq!(peer.read_all(), None);
    let conn = server.conns[0];
    reactor[conn].resume();
    leave(&mut reactor, &mut server, &mut peer);
    assert_eq!(peer.got, b"done\n");
    assert_eq!(report(&mut reactor, &mut server), [1, 1, 0, 1, 0]);
}

#[test]
fn request_that_arrived_before_the_drain_is_answered() {
    let (mut reactor, mut server, _clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peer = client(&mut reactor, &mut server, addr, b"");
    peer.send(b"just in time\n");
    assert!(tcp_support::await_readiness(&reactor, 1000));
    net::drain(&mut reactor, 10 * SECOND, note);
    leave(&mut reactor, &mut server, &mut peer);
    assert_eq!(peer.got, b"done\n");
    assert_eq!(report(&mut reactor, &mut server), [1, 1, 1, 0, 0]);
}

#[test]
fn input_that_takes_several_turns_to_read_is_answered_to_its_last_line() {
    let (mut reactor, mut server, _clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peer = client(&mut reactor, &mut server, addr, b"");
    let conn = server.conns[0];
    reactor[conn].set_limits(Limits { read_bytes_per_turn: 10, ..Limits::default() });
    turns(&mut reactor, &mut server, 3);
    peer.send(&b"a request\n".repeat(50));
    assert!(tcp_support::await_readiness(&reactor, 1000));
    net::drain(&mut reactor, 10 * SECOND, note);
    leave(&mut reactor, &mut server, &mut peer);
    assert_eq!(peer.got, b"done\n".repeat(50));
    report(&mut reactor, &mut server);
}

#[test]
fn whoever_is_left_at_the_deadline_is_aborted_and_not_before() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peers = [&b"never\n"[..], b"big\n", b"half a l", b"wait\n", b"quick\n"].map(|says| {
        let peer = client(&mut reactor, &mut server, addr, says);
        (says, peer)
    });
    let drain = net::drain(&mut reactor, 10 * SECOND, note);
    leave(&mut reactor, &mut server, &mut peers[4].1);
    clock.advance(10 * SECOND - MS);
    turns(&mut reactor, &mut server, 10);
    assert!(server.reports.is_empty() && reactor.contains(drain));
    assert_eq!(server.closed.len(), 1);
    clock.advance(MS);
    assert_eq!(report(&mut reactor, &mut server), [1, 5, 1, 0, 4]);
    assert_eq!(
        format!("{:?}", server.closed),
        "[Finished, Aborted, Aborted, Aborted, Aborted]",
        "the report came before the news of the last connection"
    );
    for (says, peer) in &mut peers[..4] {
        turn_until(&mut reactor, &mut server, |_, _| peer.read_all().is_some());
        assert_eq!(peer.end, Some(Err(ErrorKind::ConnectionReset)), "{says:?}");
    }
    assert_eq!((reactor.sources(), unclosed()), (0, 0));
    assert_eq!(
        server.reports[0].to_string(),
        "listeners closed: 1; connections: 5 (1 idle, 0 finished, 4 aborted)"
    );
}

/// What an idle client has to close first.
const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn idle_client_that_does_not_close_costs_a_moment() {
    for says in [&b""[..], b"hello\n", b"one\ntwo\n"] {
        let (mut reactor, mut server, clock) = reactor();
        let addr = serve(&mut reactor);
        let mut peer = client(&mut reactor, &mut server, addr, says);
        let drain = net::drain(&mut reactor, 60 * SECOND, note);
        assert_eq!(reactor[drain].report().connections, 1);
        turns(&mut reactor, &mut server, 5);
        turn_until(&mut reactor, &mut server, |_, _| peer.read_all().is_some());
        clock.advance(MOMENT - MS);
        turns(&mut reactor, &mut server, 5);
        assert!(server.reports.is_empty(), "its next request may be on its way");
        clock.advance(MS);
        assert_eq!(report(&mut reactor, &mut server), [1, 1, 1, 0, 0]);
        assert_eq!((reactor.sources(), unclosed()), (0, 0));
        assert_eq!(format!("{:?}", server.closed), "[Finished]");
        turn_until(&mut reactor, &mut server, |_, _| peer.read_all().is_some());
        assert_eq!(peer.end, Some(Ok(())), "a FIN and no reset");
        assert_eq!(peer.got.len(), 5 * server.lines);
    }
}

#[cfg(unix)]
#[test]
fn idle_client_of_a_unix_socket_and_of_one_half_costs_no_more() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let _peer = client(&mut reactor, &mut server, addr, b"hello\n");
    reactor[server.conns[0]].shutdown();
    turns(&mut reactor, &mut server, 5);
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let stream = Stream::over(waterwheel::mio::net::UnixStream::from_std(theirs));
    stream.accepted().open(&mut reactor, |_, _, _, _| {});
    net::drain(&mut reactor, 60 * SECOND, note);
    turns(&mut reactor, &mut server, 5);
    clock.advance(MOMENT);
    assert_eq!(report(&mut reactor, &mut server), [1, 2, 2, 0, 0]);
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
}

/// What was sent a moment ago may be on its way still, and a reset would overtake it.
#[test]
fn client_that_was_just_answered_may_close_first() {
    for (says, unsays) in [(&b"hello\n"[..], false), (b"never\n", true)] {
        let (mut reactor, mut server, clock) = reactor();
        let addr = serve(&mut reactor);
        let mut peer = client(&mut reactor, &mut server, addr, if unsays { says } else { b"" });
        peer.send(if unsays { b"" } else { says });
        assert!(unsays || tcp_support::await_readiness(&reactor, 1000));
        net::drain(&mut reactor, 60 * SECOND, note);
        if unsays {
            turns(&mut reactor, &mut server, 5);
            let conn = server.conns[0];
            let _ = reactor[conn].write(b"at last\n");
            reactor[conn].release();
        }
        turn_until(&mut reactor, &mut server, |_, _| peer.read_all().is_some());
        for _ in 0..20 {
            peer.send(b"I am still talking\n");
            turns(&mut reactor, &mut server, 2);
        }
        assert!(server.reports.is_empty(), "its answer was in danger");
        assert_eq!(peer.end, Some(Ok(())));
        clock.advance(SECOND - MS);
        turns(&mut reactor, &mut server, 3);
        assert!(server.reports.is_empty());
        clock.advance(MS);
        report(&mut reactor, &mut server);
    }
}

#[test]
fn good_bye_that_is_said_in_a_drain_is_not_in_danger() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peer = client(&mut reactor, &mut server, addr, b"hello\n");
    net::drain(&mut reactor, 60 * SECOND, note);
    let _ = reactor[server.conns[0]].write(b"going down\n");
    turn_until(&mut reactor, &mut server, |_, _| peer.read_all().is_some());
    assert_eq!(peer.got, b"done\ngoing down\n");
    peer.send(b"why?");
    turns(&mut reactor, &mut server, 5);
    assert!(server.reports.is_empty());
    clock.advance(SECOND);
    assert_eq!(report(&mut reactor, &mut server), [1, 1, 1, 0, 0]);
}

/// A host sleeps outside of the loop, where nothing looks for connections that have gone.
#[test]
fn host_does_not_sleep_over_the_report() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let _peer = client(&mut reactor, &mut server, addr, b"hello\n");
    net::drain(&mut reactor, 60 * SECOND, note);
    while server.reports.is_empty() {
        let wait = reactor.next_wait().expect("the peer has no news for us");
        assert!(wait <= MOMENT, "{wait:?}");
        clock.advance(wait);
        reactor.turn(&mut server, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(report(&mut reactor, &mut server), [1, 1, 1, 0, 0]);
    assert_eq!(reactor.next_wait(), None);
}

#[test]
fn connection_that_has_shut_down_costs_no_more_than_the_grace_of_a_close() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let _peer = client(&mut reactor, &mut server, addr, b"hello\n");
    reactor[server.conns[0]].shutdown();
    turns(&mut reactor, &mut server, 5);
    net::drain(&mut reactor, 60 * SECOND, note);
    turns(&mut reactor, &mut server, 5);
    clock.advance(5 * SECOND);
    assert_eq!(report(&mut reactor, &mut server), [1, 1, 1, 0, 0]);
}

#[test]
fn nothing_to_drain_is_reported_in_the_next_turn() {
    let (mut reactor, mut server, _clock) = reactor();
    net::drain(&mut reactor, Duration::MAX, note);
    assert!(server.reports.is_empty());
    reactor.run(&mut server).unwrap();
    assert_eq!(report(&mut reactor, &mut server), [0; 5]);
}

#[test]
fn no_grace_is_a_clean_sweep() {
    let (mut reactor, mut server, _clock) = reactor();
    let addr = serve(&mut reactor);
    let _peers = [(); 3].map(|()| client(&mut reactor, &mut server, addr, b"never\n"));
    net::drain(&mut reactor, Duration::ZERO, note);
    assert_eq!(report(&mut reactor, &mut server), [1, 3, 0, 0, 3]);
}

#[test]
fn second_drain_hurries_the_first_and_each_reports_once() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let _peer = client(&mut reactor, &mut server, addr, b"never\n");
    net::drain(&mut reactor, 60 * SECOND, note);
    turns(&mut reactor, &mut server, 5);
    net::drain(&mut reactor, SECOND, note);
    clock.advance(SECOND);
    turn_until(&mut reactor, &mut server, |_, server| server.reports.len() == 2);
    clock.advance(60 * SECOND);
    turns(&mut reactor, &mut server, 5);
    let mut reports: Vec<_> = server.reports.iter().map(ToString::to_string).collect();
    reports.sort();
    assert_eq!(
        reports,
        [
            "listeners closed: 0; connections: 1 (0 idle, 0 finished, 1 aborted)",
            "listeners closed: 1; connections: 1 (0 idle, 1 finished, 0 aborted)",
        ]
    );
    assert_eq!(reactor.sources(), 0);
}

#[test]
fn drain_that_is_removed_reports_nothing_and_aborts_nobody() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let _peer = client(&mut reactor, &mut server, addr, b"never\n");
    let drain = net::drain(&mut reactor, SECOND, note);
    turns(&mut reactor, &mut server, 3);
    assert!(reactor.remove(drain) && !reactor.remove(drain));
    clock.advance(10 * SECOND);
    turns(&mut reactor, &mut server, 5);
    assert!(server.reports.is_empty() && server.closed.is_empty());
    assert_eq!(reactor.sources(), 1);
}

#[test]
fn a_connection_may_ask_for_it_and_still_be_answered() {
    let (mut reactor, mut server, _clock) = reactor();
    let addr = serve(&mut reactor);
    let mut peer = client(&mut reactor, &mut server, addr, b"drain\n");
    leave(&mut reactor, &mut server, &mut peer);
    assert_eq!(peer.got, b"good-bye\n");
    let report = report(&mut reactor, &mut server);
    assert_eq!((report[0], report[1], report[4]), (1, 1, 0));
}

#[test]
fn linked_connections_are_in_flight_until_they_end_by_themselves() {
    let (mut reactor, mut server, _clock) = reactor();
    let streams = Rc::new(Cell::new(Vec::new()));
    let accepted = streams.clone();
    let listener = tcp::listen(&mut reactor, "127.0.0.1:0", move |_, _, stream: Stream| {
        let mut streams = accepted.take();
        streams.push(stream);
        accepted.set(streams);
    });
    let addr = reactor[listener.unwrap()].local_addr();
    let [mut left, mut right] = [Peer::to(addr), Peer::to(addr)];
    let mut both = Vec::new();
    turn_until(&mut reactor, &mut server, |_, _| {
        both.append(&mut streams.take());
        both.len() == 2
    });
    let (b, a) = (both.pop().unwrap(), both.pop().unwrap());
    net::link(&mut reactor, a, b, |_, _, _| {});
    net::drain(&mut reactor, 10 * SECOND, note);
    turns(&mut reactor, &mut server, 10);
    left.send(b"still here");
    turn_until(&mut reactor, &mut server, |_, _| right.read(100) == b"still here");
    left.finish();
    right.finish();
    assert_eq!(report(&mut reactor, &mut server), [1, 2, 0, 2, 0]);
    assert_eq!(left.read_all(), Some(Ok(())));
}

#[test]
fn what_the_program_began_itself_goes_on() {
    let (mut reactor, mut server, clock) = reactor();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = upstream.local_addr().unwrap();
    let connected =
        tcp::connect(&mut reactor, addr, SECOND, |reactor, server: &mut Server, stream| {
            let conn = stream.unwrap().open(reactor, |_, _, _, event| {
                assert!(matches!(event, Event::Closed(Reason::Aborted)));
            });
            server.conns.push(conn);
        });
    connected.unwrap();
    reactor.after(SECOND, |_, server| server.lines += 1);
    net::drain(&mut reactor, Duration::ZERO, note);
    assert_eq!(report(&mut reactor, &mut server), [0; 5]);
    turn_until(&mut reactor, &mut server, |_, server| server.conns.len() == 1);
    clock.advance(SECOND);
    turns(&mut reactor, &mut server, 5);
    net::drain(&mut reactor, Duration::ZERO, |_, _, report| assert_eq!(report.connections, 0));
    turns(&mut reactor, &mut server, 5);
    assert_eq!((server.lines, reactor.sources()), (1, 1));
    let conn = server.conns[0];
    reactor[conn].abort();
    reactor.run(&mut server).unwrap();
}

#[test]
fn a_crowd_adds_up() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let says = [&b""[..], b"hello\n", b"never\n", b"later\n", b"half"];
    let mut peers: Vec<Peer> =
        (0..200).map(|n| client(&mut reactor, &mut server, addr, says[n % 5])).collect();
    net::drain(&mut reactor, 10 * SECOND, note);
    for second in 0..10 {
        for (n, peer) in peers.iter_mut().enumerate() {
            if peer.end.is_none() && peer.read_all() == Some(Ok(())) {
                peer.finish();
            } else if second == 3 && n % 10 == 4 {
                peer.send(b" a line\n");
            }
        }
        turns(&mut reactor, &mut server, 3);
        clock.advance(SECOND);
    }
    assert_eq!(report(&mut reactor, &mut server), [1, 200, 80, 60, 60]);
    assert_eq!((server.closed.len(), reactor.sources(), unclosed()), (200, 0, 0));
}

#[test]
fn loop_that_is_dropped_in_the_middle_reports_nothing() {
    let (mut reactor, mut server, _clock) = reactor();
    let addr = serve(&mut reactor);
    let _peer = client(&mut reactor, &mut server, addr, b"never\n");
    net::drain(&mut reactor, SECOND, note);
    turns(&mut reactor, &mut server, 3);
    drop(reactor);
    assert!(server.reports.is_empty());
}

#[test]
fn stream_over_something_else_is_drained_if_it_was_called_accepted() {
    let (mut reactor, mut server, _clock) = reactor();
    let (one, other) = net::memory::pair(&mut reactor);
    let closed = |_: &mut _, server: &mut Server, _, event: Event<'_>| {
        if let Event::Closed(why) = event {
            server.closed.push(why);
        }
    };
    one.accepted().open(&mut reactor, closed);
    other.open(&mut reactor, closed);
    net::drain(&mut reactor, SECOND, note);
    assert_eq!(report(&mut reactor, &mut server), [0, 1, 1, 0, 0]);
    // The other heard the end, and ended.
    assert_eq!(format!("{:?}", server.closed), "[Finished, Finished]");
}

/// What each `Drained` calls for goes at once, so nothing is unsent between.
#[test]
fn connection_that_waits_to_be_told_drained_is_in_flight() {
    let (mut reactor, mut server, _clock) = reactor();
    let (one, other) = net::memory::pair(&mut reactor);
    let limits = Limits { outbox_bytes_high: 99, outbox_bytes_low: 0, ..Limits::default() };
    let mut left = 20;
    let answers = move |reactor: &mut Context<Server>,
                        _: &mut Server,
                        id: SourceId<Conn>,
                        event: Event<'_>| {
        if matches!(event, Event::Data(_) | Event::Drained) && left > 0 {
            left -= 1;
            assert_eq!(reactor[id].write(&[b'x'; 100]), Pressure::AboveHigh);
        }
    };
    one.accepted().limits(limits).open(&mut reactor, watched(answers));
    let heard = |_: &mut Context<Server>, server: &mut Server, _, event: Event<'_>| {
        if let Event::Data(bytes) = event {
            server.lines += bytes.len();
        }
    };
    let other = other.open(&mut reactor, watched(heard));
    let _ = reactor[other].write(b"go on");
    turns(&mut reactor, &mut server, 4);
    net::drain(&mut reactor, SECOND, note);
    assert_eq!(report(&mut reactor, &mut server), [0, 1, 0, 1, 0]);
    assert_eq!(server.lines, 20 * 100);
}

#[cfg(unix)]
#[test]
fn listeners_on_unix_sockets_are_drained_too() {
    let (mut reactor, mut server, _clock) = reactor();
    let path = std::env::temp_dir().join(format!("waterwheel-drain-{}", std::process::id()));
    net::unix::listen(&mut reactor, &*path, |reactor, server: &mut Server, stream| {
        server.conns.push(stream.open(reactor, |_, _, _, _| {}));
    })
    .unwrap();
    let mut peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
    turn_until(&mut reactor, &mut server, |_, server| !server.conns.is_empty());
    net::drain(&mut reactor, SECOND, note);
    turns(&mut reactor, &mut server, 3);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    drop(peer);
    assert_eq!(report(&mut reactor, &mut server), [1, 1, 1, 0, 0]);
    assert!(!path.exists() && !reactor.is_alive());
}

#[test]
fn connection_that_is_held_in_the_turn_of_the_drain_keeps_the_whole_of_its_limits() {
    let (mut reactor, mut server, clock) = reactor();
    let addr = serve(&mut reactor);
    let _peer = client(&mut reactor, &mut server, addr, b"");
    let conn = server.conns[0];
    let limits = Limits { read_timeout: Some(5 * SECOND), ..Limits::default() };
    clock.advance(10 * SECOND);
    net::drain(&mut reactor, 60 * SECOND, note);
    // It was idle, and now has an answer to find, a limit, and is paused for a while.
    reactor[conn].hold();
    reactor[conn].set_limits(limits);
    turns(&mut reactor, &mut server, 5);
    assert!(server.closed.is_empty(), "{:?}", server.closed);
    reactor[conn].pause();
    turns(&mut reactor, &mut server, 5);
    clock.advance(10 * SECOND);
    turns(&mut reactor, &mut server, 5);
    reactor[conn].resume();
    for _ in 0..4 {
        turns(&mut reactor, &mut server, 5);
        assert!(server.closed.is_empty(), "{:?}", server.closed);
        clock.advance(SECOND);
    }
    clock.advance(2 * SECOND);
    turns(&mut reactor, &mut server, 5);
    assert!(matches!(&server.closed[..], [Reason::ReadTimeout]), "{:?}", server.closed);
}
