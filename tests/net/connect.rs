//! Connecting: one answer, whatever happens first.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use support::tcp;
use support::tcp::{Flow, await_readiness, full, nobody, turn_until, turns, unclosed, watched};
use waterwheel::net::tcp::{Connecting, connect};
use waterwheel::net::{Event, Limits, Pressure, Stream};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const TIMEOUT: Duration = Duration::from_secs(3);

/// What the callback was told, each time it was.
type Answers = Vec<Result<Stream, io::Error>>;

fn keep(_: &mut Context<Answers>, answers: &mut Answers, answer: io::Result<Stream>) {
    answers.push(answer);
}

fn held() -> (Reactor<Answers>, ManualClock) {
    let clock = ManualClock::held();
    (Reactor::builder().clock(&clock).build().unwrap(), clock)
}

/// The only answer, once the loop has nothing left to do.
fn answer(reactor: &mut Reactor<Answers>) -> io::Result<Stream> {
    let mut answers = Answers::new();
    turn_until(reactor, &mut answers, |_, answers| !answers.is_empty());
    turns(reactor, &mut answers, 10);
    assert_eq!((answers.len(), reactor.sources(), reactor.timers()), (1, 0, 0));
    answers.remove(0)
}

#[test]
fn refused_connect_keeps_the_systems_error() {
    let (mut reactor, _clock) = held();
    connect(&mut reactor, nobody(), TIMEOUT, keep).unwrap();
    let error = answer(&mut reactor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::CONNREFUSED.raw_os_error()));
}

#[test]
fn unreachable_address_is_an_error_at_once_or_in_the_callback() {
    let (mut reactor, _clock) = held();
    // Broadcast addresses cannot be connected to.
    let begun = connect(&mut reactor, "127.255.255.255:9".parse().unwrap(), TIMEOUT, keep);
    let error = match begun {
        Ok(_) => answer(&mut reactor).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    assert_eq!((reactor.sources(), reactor.timers()), (0, 0));
}

#[test]
fn unanswered_connect_times_out_at_its_deadline_and_not_before() {
    let ((mut reactor, clock), (_listener, _waiting, addr)) = (held(), full());
    connect(&mut reactor, addr, TIMEOUT, keep).unwrap();
    let mut answers = Answers::new();
    turns(&mut reactor, &mut answers, 10);
    clock.advance(TIMEOUT - support::MS);
    turns(&mut reactor, &mut answers, 10);
    assert!(answers.is_empty());
    clock.advance(support::MS);
    assert_eq!(answer(&mut reactor).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn cancelled_connect_is_not_called_back() {
    let ((mut reactor, clock), (_listener, _waiting, unanswering)) = (held(), full());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for addr in [unanswering, nobody(), listener.local_addr().unwrap()] {
        // Cancelled at once, or with its readiness already waiting.
        for waits in [false, true] {
            let connecting = connect(&mut reactor, addr, TIMEOUT, |_, _: &mut Answers, _| {
                panic!("it was cancelled")
            });
            if waits && addr != unanswering {
                assert!(await_readiness(&reactor, 1000));
            }
            assert!(reactor.remove(connecting.unwrap()));
            clock.advance(TIMEOUT);
            turns(&mut reactor, &mut Answers::new(), 10);
            assert_eq!((reactor.sources(), reactor.timers()), (0, 0));
        }
    }
}

#[test]
fn connect_that_succeeds_in_the_turn_of_its_timeout_succeeds() {
    let (mut reactor, clock) = held();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    connect(&mut reactor, listener.local_addr().unwrap(), TIMEOUT, keep).unwrap();
    assert!(await_readiness(&reactor, 1000));
    clock.advance(TIMEOUT);
    drop(answer(&mut reactor).unwrap());
}

#[test]
fn connect_that_fails_in_the_turn_of_its_timeout_tells_the_real_error() {
    let (mut reactor, clock) = held();
    connect(&mut reactor, nobody(), TIMEOUT, keep).unwrap();
    assert!(await_readiness(&reactor, 1000));
    clock.advance(TIMEOUT);
    assert_eq!(answer(&mut reactor).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn endless_timeout_is_one() {
    let ((mut reactor, clock), (listener, waiting, addr)) = (held(), full());
    connect(&mut reactor, addr, Duration::MAX, keep).unwrap();
    clock.advance(Duration::from_secs(1 << 40));
    turns(&mut reactor, &mut Answers::new(), 10);
    drop((listener, waiting));
    assert_eq!(reactor.sources(), 1);
}

/// What a server has read, and whether the connection is closed.
#[derive(Default)]
struct Server {
    received: Vec<u8>,
    closed: bool,
}

fn serve(reactor: &mut Reactor<Server>) -> SocketAddr {
    tcp::serve(reactor, Limits::default(), |_, server: &mut Server, _, event| match event {
        Event::Data(bytes) => server.received.extend(bytes),
        Event::Closed(_) => server.closed = true,
        _ => {}
    })
}

/// Writes `before` while connecting and `after` when connected, then closes.
fn write_around(reactor: &mut Reactor<Server>, before: &[&'static [u8]], after: &'static [u8]) {
    let addr = serve(reactor);
    let connecting: SourceId<Connecting> = connect(reactor, addr, TIMEOUT, |reactor, _, stream| {
        let limits = Limits { outbox_bytes_max: 1 << 20, ..Limits::default() };
        let conn = stream.unwrap().limits(limits).open(reactor, watched(|_, _, _, _| {}));
        let _ = reactor[conn].write(after);
        reactor[conn].close();
    })
    .unwrap();
    assert_eq!(reactor[connecting].peer(), addr);
    for bytes in before {
        let _ = reactor[connecting].write(bytes);
    }
}

#[test]
fn writes_before_connect_completes_keep_their_order() {
    let (mut reactor, mut server) = (Reactor::new().unwrap(), Server::default());
    write_around(&mut reactor, &[b"one ", b"two ", b"three "], b"four");
    turn_until(&mut reactor, &mut server, |_, server| server.closed && unclosed() == 0);
    assert_eq!(server.received, b"one two three four");
}

#[test]
fn failed_connect_with_bytes_written_tells_once() {
    let (mut reactor, _clock) = held();
    let connecting = connect(&mut reactor, nobody(), TIMEOUT, keep).unwrap();
    let _ = reactor[connecting].write(b"to nobody");
    assert_eq!(answer(&mut reactor).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn more_than_the_outbox_holds_is_refused_before_connect_completes_and_the_rest_arrives_whole() {
    let (mut reactor, mut server) = (Reactor::new().unwrap(), Server::default());
    let addr = serve(&mut reactor);
    let connecting = connect(&mut reactor, addr, TIMEOUT, |reactor, _, stream| {
        let conn = stream.unwrap().open(reactor, watched(|_, _, _, _| {}));
        reactor[conn].close();
    });
    let (connecting, max) = (&mut reactor[connecting.unwrap()], Limits::default().outbox_bytes_max);
    let mut written = Flow::default();
    while written.at < max {
        let bytes = written.peek(max - written.at);
        assert_eq!(connecting.write(bytes), Pressure::Below);
        written.at += bytes.len();
    }
    assert_eq!(connecting.write(b"!"), Pressure::Refused);
    turn_until(&mut reactor, &mut server, |_, server| server.closed && unclosed() == 0);
    assert_eq!(server.received.len(), max);
    Flow::default().check(&server.received);
}

#[test]
#[cfg(target_os = "linux")]
fn retries_to_a_dead_port_never_reach_themselves() {
    let _ceiling = support::ceiling(Duration::from_secs(60));
    // connect(2) tries the even ports first, one after the other: sooner or later it is this one.
    let dead = || {
        let port = nobody().port() & !1;
        Some(TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().unwrap())
    };
    let dead = std::iter::repeat_with(dead).take(100).find_map(|dead| dead).unwrap();
    let (mut reactor, mut answers) = (Reactor::new().unwrap(), Answers::new());
    for _ in 0..40_000 {
        connect(&mut reactor, dead, TIMEOUT, keep).unwrap();
        reactor.run(&mut answers).unwrap();
        let error = answers.pop().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        if error.to_string().contains("connected to itself") {
            break; // A round is over, and this was the attempt that matters.
        }
    }
}
