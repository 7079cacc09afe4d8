//! In the steady state nothing is allocated: not for a message, a timeout, or a turn.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use allocation_counter::measure;
use waterwheel::net::{Conn, Event, Framed, Limits, Lines, Pressure, framed, tcp::Listen};
use waterwheel::{Reactor, SourceId};

/// A server whose connections answer what they are sent, and a client of it.
fn served(limits: Limits, lines: bool) -> (Reactor<()>, TcpStream) {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listen::new().limits(limits).open(&mut reactor, "127.0.0.1:0", {
        move |reactor, _, incoming| {
            if lines {
                let answer = framed(Lines::new(100), |reactor, _, conn, event| {
                    if let Framed::Frame(line) = event {
                        let conn = reactor.get_mut(conn).expect("an open connection");
                        assert_eq!(conn.write(line), Pressure::Below);
                        assert_eq!(conn.write(b"\n"), Pressure::Below);
                    }
                });
                incoming.open(reactor, answer);
            } else {
                incoming.open(reactor, |reactor, _, conn, event| {
                    if let Event::Data(bytes) = event {
                        assert_eq!(reactor[conn].write(bytes), Pressure::Below);
                    }
                });
            }
        }
    });
    let addr = reactor[listener.unwrap()].local_addr();
    let client = TcpStream::connect(addr).unwrap();
    client.set_nonblocking(true).unwrap();
    client.set_nodelay(true).unwrap();
    (reactor, client)
}

/// Sends the message so many times and each time awaits its echo.
fn converse(reactor: &mut Reactor<()>, client: &mut TcpStream, message: &[u8], count: usize) {
    let mut echo = [0; 64 * 1024];
    for _ in 0..count {
        client.write_all(message).unwrap();
        let mut received = 0;
        while received < message.len() {
            reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
            received += client.read(&mut echo[received..]).unwrap_or(0);
        }
        assert_eq!(&echo[..received], message);
    }
}

/// Allocations of a thousand messages, after a hundred to get warm.
fn allocations(limits: Limits, lines: bool, message: &[u8]) -> u64 {
    let _ceiling = support::ceiling(Duration::from_secs(60));
    let (mut reactor, mut client) = served(limits, lines);
    converse(&mut reactor, &mut client, message, 100);
    measure(|| converse(&mut reactor, &mut client, message, 1000)).count_total
}

fn timed() -> Limits {
    let seconds = |count| Some(Duration::from_secs(count));
    Limits {
        idle_timeout: seconds(60),
        read_timeout: seconds(30),
        write_timeout: seconds(10),
        ..Limits::default()
    }
}

#[test]
fn echoed_message_allocates_nothing() {
    for size in [1, 100, 4096, 50_000] {
        assert_eq!(allocations(Limits::default(), false, &vec![7; size]), 0, "{size} bytes");
    }
}

#[test]
fn echoed_message_of_a_connection_with_timeouts_allocates_nothing() {
    for size in [1, 100, 4096, 50_000] {
        assert_eq!(allocations(timed(), false, &vec![7; size]), 0, "{size} bytes");
    }
}

#[test]
fn answered_line_allocates_nothing() {
    assert_eq!(allocations(Limits::default(), true, b"a line\n"), 0);
    assert_eq!(allocations(timed(), true, b"one line\nand one more\n"), 0);
}

#[test]
fn idle_turn_allocates_nothing() {
    let (mut reactor, mut client) = served(timed(), false);
    converse(&mut reactor, &mut client, b"x", 100);
    let idle = measure(|| {
        for _ in 0..1000 {
            reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
        }
    });
    assert_eq!(idle.count_total, 0);
}

/// A room in which each hears what anybody says, and so many peers in it.
struct Room {
    reactor: Reactor<Vec<SourceId<Conn>>>,
    conns: Vec<SourceId<Conn>>,
    peers: Vec<TcpStream>,
}

fn room(peers: usize) -> Room {
    let mut reactor = Reactor::new().unwrap();
    let listener =
        Listen::new().open(&mut reactor, "127.0.0.1:0", |reactor, room: &mut Vec<_>, incoming| {
            room.push(incoming.open(reactor, |reactor, room: &mut Vec<_>, _, event| {
                let Event::Data(bytes) = event else { return };
                for conn in room.iter() {
                    let conn: SourceId<Conn> = *conn;
                    assert_eq!(reactor[conn].write(bytes), Pressure::Below);
                }
            }));
        });
    let addr = reactor[listener.unwrap()].local_addr();
    let mut conns = Vec::new();
    let connect = |_| {
        let peer = TcpStream::connect(addr).unwrap();
        peer.set_nonblocking(true).unwrap();
        peer.set_nodelay(true).unwrap();
        peer
    };
    let peers: Vec<_> = (0..peers).map(connect).collect();
    while conns.len() < peers.len() {
        reactor.turn(&mut conns, Some(Duration::ZERO)).unwrap();
    }
    Room { reactor, conns, peers }
}

impl Room {
    /// One after another says this so many times, and each hears it.
    fn talk(&mut self, message: &[u8], count: usize) {
        let mut heard = [0; 4096];
        for number in 0..count {
            let speaker = number % self.peers.len();
            self.peers[speaker].write_all(message).unwrap();
            for peer in &mut self.peers {
                let mut received = 0;
                while received < message.len() {
                    self.reactor.turn(&mut self.conns, Some(Duration::ZERO)).unwrap();
                    received += peer.read(&mut heard[received..]).unwrap_or(0);
                }
                assert_eq!(&heard[..received], message);
            }
        }
    }
}

#[test]
fn what_is_written_to_others_allocates_nothing() {
    let _ceiling = support::ceiling(Duration::from_secs(60));
    for (peers, bytes) in [(2, 1), (2, 4000), (50, 200), (50, 4000)] {
        let mut room = room(peers);
        let message = vec![7; bytes];
        room.talk(&message, 100);
        let steady = measure(|| room.talk(&message, 200)).count_total;
        assert_eq!(steady, 0, "{peers} peers, {bytes} bytes");
    }
}

/// A client and the server that it asks, in one loop, with a connection that stays.
#[cfg(feature = "http")]
mod asked {
    use std::time::Duration;

    use allocation_counter::{AllocationInfo, measure};
    use waterwheel::Reactor;
    use waterwheel::net::{Event, Pressure, memory};
    use waterwheel::protocols::http::{Client, ClientRequest};
    use waterwheel::timers::ManualClock;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nhello";

    fn client() -> Client<usize> {
        Client::new().dialer(|reactor, _, done| {
            let (ours, theirs) = memory::pair(reactor);
            let served = theirs.open(reactor, |reactor, _, conn, event| {
                if let Event::Data(_) = event {
                    assert_eq!(reactor[conn].write(ANSWER), Pressure::Below);
                }
            });
            reactor.unref(served);
            reactor.defer(move |reactor, state| done(reactor, state, Ok(ours)));
            Ok(None)
        })
    }

    /// What so many calls allocate, one behind the other.
    fn calls(count: usize, request: impl Fn() -> ClientRequest) -> AllocationInfo {
        let reactor = Reactor::builder().clock(&ManualClock::held()).build();
        let (mut reactor, client, mut responses) = (reactor.unwrap(), client(), 0);
        let mut call = |responses: &mut usize, count: usize| {
            for _ in 0..count {
                let before = *responses;
                client.send(&mut reactor, request(), |_, responses: &mut usize, result| {
                    assert_eq!(result.unwrap().body, b"hello");
                    *responses += 1;
                });
                while *responses == before {
                    reactor.turn(responses, Some(Duration::ZERO)).unwrap();
                }
            }
        };
        call(&mut responses, 100);
        let memory = measure(|| call(&mut responses, count));
        assert_eq!((responses, client.connections(), client.idle()), (100 + count, 1, 1));
        memory
    }

    /// Of a call, its URL, its source and its response: each field's value, the body. Nothing for the
    /// place in the pool, the head that is sent, or the connection.
    #[test]
    fn call_over_a_connection_that_idled_allocates_for_itself_alone() {
        let grown = 10; // A queue or a table that grows in the midst of it.
        let get = calls(1000, || ClientRequest::get("http://a.example:8080/path?query"));
        assert!(get.count_total <= 18 * 1000 + grown, "{get:?}");
        let put =
            calls(1000, || ClientRequest::put("http://a.example/").header("A", "b").body("body"));
        assert!(put.count_total <= 23 * 1000 + grown, "{put:?}");
    }
}
