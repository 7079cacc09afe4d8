//! What the doctor says of sources that leave input unread. It asks the kernel, so this is Linux alone.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use serde_json::{Value, json};
use support::ceiling;
use waterwheel::inspect::Inspect;
use waterwheel::mio::{self, event::Source};
use waterwheel::net::{Fd, Stream};
use waterwheel::reactor::{Interest, Place};
use waterwheel::{Context, SourceId};

use super::client::{LIMIT, Page, Program};

/// How much a source reads.
#[derive(Clone, Copy, PartialEq)]
enum Reads {
    /// Once, in its first callback.
    Once,
    /// On and on, until `WouldBlock`.
    On,
}

/// Registers a source of the program's own, which reads by `read`; returns the line of the caller.
#[track_caller]
fn register<T: Source + std::fmt::Debug + 'static>(
    reactor: &mut Context<u64>,
    source: T,
    reads: Reads,
    mut read: impl FnMut(&mut T) -> std::io::Result<usize> + 'static,
) -> u32 {
    let mut has_read = false;
    let callback = move |reactor: &mut Context<u64>, count: &mut u64, id: SourceId<T>, _| {
        while reads == Reads::On || !has_read {
            match read(&mut reactor[id]) {
                Ok(_) => (*count, has_read) = (*count + 1, true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    };
    reactor.register(source, Interest::READABLE, callback).unwrap();
    Place::caller().line()
}

/// A connection: the program's end, and the peer's.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (own, _) = listener.accept().unwrap();
    own.set_nonblocking(true).unwrap();
    (own, peer)
}

/// A socket for datagrams and its peer.
fn datagrams(address: &str) -> (mio::net::UdpSocket, UdpSocket) {
    let own = UdpSocket::bind(address).unwrap();
    let peer = UdpSocket::bind(address).unwrap();
    peer.connect(own.local_addr().unwrap()).unwrap();
    own.set_nonblocking(true).unwrap();
    (mio::net::UdpSocket::from_std(own), peer)
}

/// Lines of the sources that must be found, each with what is said to wait; and of those that must not.
#[derive(Debug, Default)]
struct Lines {
    found: Vec<(u32, &'static str)>,
    left_alone: Vec<u32>,
    streams: Vec<TcpStream>,
    listeners: Vec<SocketAddr>,
    clients: Vec<TcpStream>,
    sockets: Vec<UdpSocket>,
}

fn build(reactor: &mut Context<u64>) -> Lines {
    let mut lines = Lines::default();
    let one = |stream: &mut mio::net::TcpStream| stream.read(&mut [0; 1]);
    let one_of = |fd: &mut Fd<TcpStream>| fd.0.read(&mut [0; 1]);
    let datagram = |socket: &mut mio::net::UdpSocket| socket.recv(&mut [0; 9]);
    let accept = |listener: &mut mio::net::TcpListener| listener.accept().map(|_| 1);

    let (streams, peers): (Vec<_>, Vec<_>) = (0..6).map(|_| connection()).unzip();
    lines.streams = peers;
    let mut streams = streams.into_iter();
    let mut next = || streams.next().unwrap();
    let stream = mio::net::TcpStream::from_std;
    let bytes = "9 bytes wait unread";
    lines.found.push((register(reactor, stream(next()), Reads::Once, one), bytes));
    lines.left_alone.push(register(reactor, stream(next()), Reads::On, one));
    // It is called for room to write alone.
    reactor.register(stream(next()), Interest::WRITABLE, |_, _, _, _| {}).unwrap();
    lines.left_alone.push(Place::caller().line() - 1);
    // A connection of the library's, which is paused on purpose.
    let paused = Stream::over(stream(next())).open(reactor, |_, _, _, _| {});
    lines.left_alone.push(Place::caller().line() - 1);
    assert!(paused.pause(reactor));
    lines.found.push((register(reactor, Fd(next()), Reads::Once, one_of), bytes));
    lines.left_alone.push(register(reactor, Fd(next()), Reads::On, one_of));

    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (own, peer) = datagrams(address);
        lines.sockets.push(peer);
        let said = "datagrams wait unread, ";
        lines.found.push((register(reactor, own, Reads::Once, datagram), said));
        let (own, peer) = datagrams(address);
        lines.sockets.push(peer);
        lines.left_alone.push(register(reactor, own, Reads::On, datagram));
    }
    for reads in [Reads::Once, Reads::On] {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        lines.listeners.push(listener.local_addr().unwrap());
        let listener = mio::net::TcpListener::from_std(listener);
        if reads == Reads::Once {
            let said = "1 connection waits to be accepted";
            lines.found.push((register(reactor, listener, reads, accept), said));
        } else {
            lines.left_alone.push(register(reactor, listener, reads, accept));
        }
    }
    lines
}

impl Lines {
    /// Ten bytes for each stream, three datagrams for each socket, two clients for each listener.
    fn send(&mut self) {
        self.streams.iter_mut().for_each(|peer| peer.write_all(b"ten bytes.").unwrap());
        for peer in &self.sockets {
            (0..3).for_each(|_| assert_eq!(peer.send(b"abc").unwrap(), 3));
        }
        for address in &self.listeners {
            self.clients.extend([0, 1].map(|_| TcpStream::connect(address).unwrap()));
        }
    }

    /// Waits until each that must be found was found so often, with these words; no other is.
    fn assert_found(&self, page: &mut Page, times: u64, ran: &str) {
        let at = |line: u32| format!("{}:{line}", file!());
        let of = |findings: &Value, line: u32| -> Option<Value> {
            let findings = findings["findings"].as_array().unwrap().iter();
            findings.into_iter().find(|finding| finding["at"] == at(line)).cloned()
        };
        let often =
            |finding: Option<Value>| finding.is_some_and(|f| f["times"].as_u64() >= Some(times));
        let findings = page.until("doctor", |findings| {
            self.found.iter().all(|(line, _)| often(of(findings, *line)))
        });
        for (line, said) in &self.found {
            let finding = of(&findings, *line).unwrap();
            assert_eq!(finding["what"], "A source is not drained");
            let cause = finding["cause"].as_str().unwrap();
            assert!(cause.contains(said) && cause.contains(ran), "{cause}");
        }
        for line in &self.left_alone {
            assert_eq!(of(&findings, *line), None);
        }
        let lines: BTreeSet<_> = self.found.iter().map(|(line, _)| line).collect();
        assert_eq!(findings["findings"].as_array().unwrap().len(), lines.len(), "{findings}");
    }
}

fn program() -> (Program, Receiver<Lines>) {
    let (built, lines) = mpsc::channel();
    let program = Program::of(Inspect::setup().control(), move |reactor| {
        built.send(build(reactor)).unwrap();
    });
    (program, lines)
}

#[test]
fn source_that_is_not_drained_is_found_and_one_that_is_or_is_paused_is_not() {
    let _ceiling = ceiling(LIMIT);
    let (program, lines) = program();
    let mut lines = lines.recv().unwrap();
    let mut page = program.page();
    page.until("state", |state| state["asleep"] == true);
    lines.send();
    lines.assert_found(&mut page, 2, "Its callback ran last ");
    program.end();
}

/// Somebody who wonders why nothing comes any more opens the page when it is too late.
#[test]
fn source_that_was_not_drained_before_a_page_came_is_found_too() {
    let _ceiling = ceiling(LIMIT);
    let (program, lines) = program();
    let mut lines = lines.recv().unwrap();
    lines.send();
    // Each was called: the program counts what it has read.
    let (answer, answered) = mpsc::channel();
    let enough = 2 * (1 + 10) + 2 * (1 + 3) + 1 + 2;
    loop {
        let answer = answer.clone();
        program.remote.post(move |_, count| answer.send(*count).unwrap()).unwrap();
        if answered.recv().unwrap() == enough {
            break;
        }
    }
    lines.assert_found(&mut program.page(), 2, "has not run since a page looks");
    program.end();
}

/// Time in which the loop cannot call anybody is not the source's.
#[test]
fn stopped_loop_has_no_source_that_is_not_drained() {
    let _ceiling = ceiling(LIMIT);
    let (program, lines) = program();
    let mut lines = lines.recv().unwrap();
    let mut page = program.page();
    page.until("state", |state| state["asleep"] == true);
    assert_eq!(program.command(json!({ "do": "stop" })).0, 204);
    lines.send();
    page.until_standing();
    // In so much time they are found while the loop runs.
    page.beats(5, "doctor");
    let go = Instant::now();
    assert_eq!(program.command(json!({ "do": "run" })).0, 204);
    let found = page.until("doctor", |_| true);
    let cause = found["findings"][0]["cause"].as_str().unwrap();
    let seconds = cause.strip_prefix("For ").and_then(|cause| cause.split(' ').next()).unwrap();
    assert!(seconds.parse::<u64>().unwrap() <= go.elapsed().as_secs(), "{cause}");
    lines.assert_found(&mut page, 1, "Its callback ran last ");
    program.end();
}
