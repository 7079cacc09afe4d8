//! WebSockets under watch, and frames that are made by hand.

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clients::WEBSOCKETS;
use waterwheel::net::{self, Conn, Limits, Stream, memory};
use waterwheel::protocols::ws::{self, Event, Role, Socket};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

thread_local! {
    static UNCLOSED: Cell<usize> = const { Cell::new(0) };
}

/// Handlers of this thread that wait for their `Closed`.
pub fn unclosed() -> usize {
    UNCLOSED.get()
}

/// Checks the order of events: `Closed` once and last, `Open` first if at all, no message while the
/// socket is paused or somebody has said Close.
pub fn watched<S: 'static, F>(
    mut handler: F,
) -> impl FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static
where
    F: FnMut(&mut Context<S>, &mut S, &Socket, Event<'_>) + 'static,
{
    UNCLOSED.set(UNCLOSED.get() + 1);
    let (mut told, mut closed) = (false, false);
    move |reactor, state, socket, event| {
        assert!(!closed, "{event:?} after Closed");
        match &event {
            Event::Open => assert!(!told && socket.is_open()),
            Event::Text(_) | Event::Binary(_) | Event::Pong(_) => {
                let conn = socket.conn().expect("a connection");
                assert!(!reactor[conn].is_paused() && socket.is_open(), "{event:?}");
            }
            Event::Drained => assert!(socket.is_open()),
            Event::Closed(_) => {
                closed = true;
                UNCLOSED.set(UNCLOSED.get() - 1);
                assert!(!socket.is_open());
            }
        }
        told = true;
        handler(reactor, state, socket, event);
    }
}

/// What one socket was told, and what its peer, a bare connection, was sent.
#[derive(Debug, Default)]
pub struct Told {
    pub heard: Vec<String>,
    pub drained: usize,
    pub closed: Option<ws::Reason>,
    pub peer: Vec<u8>,
    pub peer_closed: Option<net::Reason>,
}

impl Told {
    /// Why it ended, in words; empty while it has not.
    pub fn end(&self) -> String {
        self.closed.as_ref().map_or_else(String::new, ToString::to_string)
    }
}

/// A handler that only notes.
pub fn note(_: &mut Context<Told>, told: &mut Told, _: &Socket, event: Event<'_>) {
    match event {
        Event::Open => told.heard.push("open".to_owned()),
        Event::Text(text) => told.heard.push(text.to_owned()),
        Event::Binary(bytes) => told.heard.push(format!("{bytes:?}")),
        Event::Pong(payload) => told.heard.push(format!("pong {payload:?}")),
        Event::Drained => told.drained += 1,
        Event::Closed(reason) => told.closed = Some(reason),
    }
}

/// A loop on a clock that jumps, a WebSocket in it, and the other end of its stream as it is.
pub struct Raw {
    pub reactor: Reactor<Told>,
    pub told: Told,
    pub socket: Socket,
    pub peer: SourceId<Conn>,
    pub clock: ManualClock,
}

impl Raw {
    pub fn new(role: Role, limits: ws::Limits) -> Raw {
        Raw::with(role, limits, Limits::default(), note)
    }

    pub fn with<F>(role: Role, limits: ws::Limits, stream: Limits, handler: F) -> Raw
    where
        F: FnMut(&mut Context<Told>, &mut Told, &Socket, Event<'_>) + 'static,
    {
        let clock = ManualClock::held();
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        let (ours, theirs) = memory::pair(&mut reactor);
        let ours = ours.limits(stream);
        let socket = ws::open(&mut reactor, ours, role, limits, watched(handler));
        let peer = open_peer(&mut reactor, theirs);
        Raw { reactor, told: Told::default(), socket, peer, clock }
    }

    /// What the peer sends; some turns go by.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.reactor[self.peer].write(bytes);
        self.turns(4);
    }

    pub fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.reactor.turn(&mut self.told, Some(Duration::ZERO)).unwrap();
        }
    }

    /// Time goes by.
    pub fn wait(&mut self, time: Duration) {
        self.clock.advance(time);
        self.turns(6);
    }

    /// What the peer was sent since this was asked last.
    pub fn sent(&mut self) -> Vec<u8> {
        self.turns(4);
        std::mem::take(&mut self.told.peer)
    }

    /// Runs until nothing is left.
    pub fn run_out(&mut self) {
        self.turns(10);
        assert_eq!(self.reactor.why_alive(), []);
        assert_eq!((self.reactor.timers(), unclosed()), (0, 0));
    }
}

pub fn open_peer(reactor: &mut Context<Told>, stream: Stream) -> SourceId<Conn> {
    let generous = Limits { outbox_bytes_max: usize::MAX, ..Limits::default() };
    stream.limits(generous).open(reactor, |_, told: &mut Told, _, event| match event {
        net::Event::Data(bytes) => told.peer.extend(bytes),
        net::Event::Closed(why) => told.peer_closed = Some(why),
        net::Event::Drained | net::Event::Eof => {}
    })
}

/// A frame with that first byte, as a server sends it.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..0x1_0000 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// A frame with that first byte, as a client sends it.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0xA1, 0x02, 0x73, 0x5F];
    let mut masked = frame(first, payload);
    masked[1] |= 0x80;
    let head = masked.len() - payload.len();
    for (byte, key) in masked[head..].iter_mut().zip(MASK.iter().cycle()) {
        *byte ^= key;
    }
    masked.splice(head..head, MASK);
    masked
}

/// The payload of a Close.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// A script for Python with the package `websockets`.
pub fn python(script: &str) -> Command {
    let mut command = WEBSOCKETS.command();
    command.args(["-c", script]).stderr(Stdio::inherit());
    command
}
