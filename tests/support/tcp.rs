//! Connections under watch, and peers that are driven by hand between turns.
//!
//! Every handler a test opens goes through [`watched`], which checks what all connections promise;
//! [`unclosed`] tells at the end whether each was told `Closed`.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};
use waterwheel::net::{Conn, Event, Limits, Reason, tcp};
use waterwheel::{Context, Reactor, SourceId};

thread_local! {
    static UNCLOSED: Cell<usize> = const { Cell::new(0) };
}

/// Handlers of this thread that wait for their `Closed`.
pub fn unclosed() -> usize {
    UNCLOSED.get()
}

/// Checks the order of events: `Closed` once, last and with a stale id; nothing but it and
/// `Drained` after `Eof`; no `Data` while paused or closing.
pub fn watched<S: 'static, F>(
    mut handler: F,
) -> impl FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + 'static
where
    F: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + 'static,
{
    UNCLOSED.set(UNCLOSED.get() + 1);
    let (mut finished, mut closed) = (false, false);
    move |reactor, state, id, event| {
        assert!(!closed, "{event:?} after Closed");
        let conn = reactor.get(id);
        assert_eq!(conn.is_none(), matches!(event, Event::Closed(_)), "{event:?}");
        match &event {
            Event::Data(bytes) => {
                let conn = conn.expect("an open connection");
                assert!(!finished && !conn.is_paused() && !conn.is_closing() && !bytes.is_empty());
            }
            Event::Eof => assert!(!std::mem::replace(&mut finished, true), "a second Eof"),
            Event::Drained => {}
            Event::Closed(_) => {
                closed = true;
                UNCLOSED.set(UNCLOSED.get() - 1);
            }
        }
        handler(reactor, state, id, event);
    }
}

/// What one connection was told: the state of tests that look at one.
#[derive(Debug, Default)]
pub struct Told {
    pub bytes: Vec<u8>,
    pub drained: usize,
    pub eof: bool,
    pub closed: Option<Reason>,
}

/// A handler that only notes.
pub fn note(_: &mut Context<Told>, told: &mut Told, _: SourceId<Conn>, event: Event<'_>) {
    match event {
        Event::Data(bytes) => told.bytes.extend(bytes),
        Event::Drained => told.drained += 1,
        Event::Eof => told.eof = true,
        Event::Closed(why) => told.closed = Some(why),
    }
}

/// Listens on a free port; each connection gets a clone of `handler`, watched.
pub fn serve<S: 'static, F>(reactor: &mut Context<S>, limits: Limits, handler: F) -> SocketAddr
where
    F: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + Clone + 'static,
{
    serve_with(reactor, tcp::Listen::new().limits(limits), handler)
}

/// [`serve`] with more to set than limits.
pub fn serve_with<S: 'static, F>(
    reactor: &mut Context<S>,
    listen: tcp::Listen,
    handler: F,
) -> SocketAddr
where
    F: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + Clone + 'static,
{
    let on_accept =
        move |reactor: &mut Context<S>, _: &mut S, incoming: waterwheel::net::Stream| {
            incoming.open(reactor, watched(handler.clone()));
        };
    let listener = listen.open(reactor, "127.0.0.1:0", on_accept);
    let listener = listener.expect("a free port");
    reactor[listener].local_addr()
}

/// One accepted connection with a watched handler, and its peer. Nothing listens any more.
pub fn pair<S: 'static, F>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    limits: Limits,
    handler: F,
) -> (SourceId<Conn>, Peer)
where
    F: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + 'static,
{
    let opened = Rc::new(Cell::new(None));
    let (open, mut handler) = (opened.clone(), Some(watched(handler)));
    let listener = tcp::Listen::new().limits(limits).open(reactor, "127.0.0.1:0", {
        move |reactor, _, incoming| {
            open.set(handler.take().map(|handler| incoming.open(reactor, handler)));
        }
    });
    let listener = listener.expect("a free port");
    let peer = Peer::to(reactor[listener].local_addr());
    turn_until(reactor, state, |_, _| opened.get().is_some());
    reactor.remove(listener);
    (opened.get().expect("accepted"), peer)
}

/// Turns until `done`; fails after half a minute. The clock may be held: the wait is not the
/// loop's.
pub fn turn_until<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    mut done: impl FnMut(&mut Reactor<S>, &mut S) -> bool,
) {
    let begin = Instant::now();
    while !done(reactor, state) {
        assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain, at {reactor:?}");
        if reactor.turn(state, Some(Duration::ZERO)).expect("a turn") == 0 {
            await_readiness(reactor, 1);
        }
    }
}

/// Some turns in which nothing is to happen.
pub fn turns<S: 'static>(reactor: &mut Reactor<S>, state: &mut S, count: usize) {
    for _ in 0..count {
        reactor.turn(state, Some(Duration::ZERO)).expect("a turn");
    }
}

/// Waits until the kernel has something for the loop, some milliseconds at most.
pub fn await_readiness<S: 'static>(reactor: &Reactor<S>, wait_ms: i64) -> bool {
    let wait = Timespec { tv_sec: wait_ms / 1000, tv_nsec: wait_ms % 1000 * 1_000_000 };
    poll(&mut [PollFd::new(reactor, PollFlags::IN)], Some(&wait)).is_ok_and(|ready| ready > 0)
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A listener that has no room for one more: who connects now is not answered.
pub fn full() -> (Socket, Vec<Socket>, SocketAddr) {
    full_at("127.0.0.1:0")
}

/// [`full`], at this address.
pub fn full_at(addr: &str) -> (Socket, Vec<Socket>, SocketAddr) {
    let addr: SocketAddr = addr.parse().unwrap();
    let socket = || Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&addr.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    let waiting = (0..4).map(|_| {
        let socket = socket();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&addr); // EINPROGRESS.
        socket
    });
    let waiting = waiting.collect();
    (listener, waiting, addr.as_socket().unwrap())
}

/// The other end: a socket of std's that never blocks.
#[derive(Debug)]
pub struct Peer {
    pub socket: TcpStream,
    /// All that it has read.
    pub got: Vec<u8>,
    /// How its input ended: with FIN or with an error.
    pub end: Option<Result<(), ErrorKind>>,
}

impl Peer {
    pub fn to(addr: SocketAddr) -> Peer {
        let socket = TcpStream::connect(addr).expect("somebody who listens");
        socket.set_nonblocking(true).expect("a socket");
        socket.set_nodelay(true).expect("a socket");
        Peer { socket, got: Vec::new(), end: None }
    }

    /// Sends as much as goes.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        match self.socket.write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("cannot send: {error}"),
        }
    }

    /// Sends a few bytes, for which there is always room.
    pub fn send(&mut self, bytes: &[u8]) {
        assert_eq!(self.write(bytes), bytes.len());
    }

    /// Reads once, `at_most` bytes.
    pub fn read(&mut self, at_most: usize) -> &[u8] {
        let old = self.got.len();
        self.got.resize(old + at_most, 0);
        let count = match self.socket.read(&mut self.got[old..]) {
            Ok(0) => self.end_with(Ok(())),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => self.end_with(Err(error.kind())),
        };
        self.got.truncate(old + count);
        &self.got[old..]
    }

    fn end_with(&mut self, end: Result<(), ErrorKind>) -> usize {
        self.end.get_or_insert(end);
        0
    }

    /// Reads what there is; how its input has ended, if it has.
    pub fn read_all(&mut self) -> Option<Result<(), ErrorKind>> {
        while self.end.is_none() && !self.read(64 * 1024).is_empty() {}
        self.end
    }

    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).expect("a connection");
    }

    /// Ends with RST.
    pub fn reset(self) {
        reset_on_drop(&self.socket).expect("a socket");
    }
}

pub fn reset_on_drop(socket: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// An endless stream of known bytes: what is lost, doubled or moved does not match.
#[derive(Debug, Default, Clone)]
pub struct Flow {
    pub at: usize,
}

impl Flow {
    /// A prime, so that no power of two moves it onto itself.
    const PERIOD: usize = 1_048_573;

    fn bytes() -> &'static [u8] {
        static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
        BYTES.get_or_init(|| {
            let mut rng = crate::Rng::from_seed(7);
            (0..Flow::PERIOD).map(|_| rng.next() as u8).collect()
        })
    }

    /// The next bytes, `at_most` so many, without going on to them.
    pub fn peek(&self, at_most: usize) -> &'static [u8] {
        let rest = &Flow::bytes()[self.at % Flow::PERIOD..];
        &rest[..at_most.min(rest.len())]
    }

    /// Goes on by what was received, which must be what was to come.
    pub fn check(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let expected = self.peek(bytes.len());
            assert!(bytes.starts_with(expected), "wrong bytes at {} or after", self.at);
            bytes = &bytes[expected.len()..];
            self.at += expected.len();
        }
    }
}

/// Runs the calling test alone in a process of its own: true in that one, false in the parent when
/// the child has succeeded.
#[track_caller]
pub fn alone(test: &str) -> bool {
    alone_by(&[], test)
}

/// [`alone`], started by a program such as env(1) that sets the scene.
#[track_caller]
pub fn alone_by(launcher: &[&str], test: &str) -> bool {
    if std::env::var_os(crate::ALONE).is_some() {
        return true;
    }
    let (_, test) = crate::named(test);
    let binary = std::env::current_exe().expect("a test binary");
    let binary = binary.to_str().expect("a path in UTF-8");
    let line = [launcher, &[binary, &test, "--exact", "--nocapture"]].concat();
    let child =
        Command::new(line[0]).args(&line[1..]).env(crate::ALONE, "1").output().expect("a child");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
    assert!(said.contains("1 passed"), "no test is called {test}: {said}");
    false
}
