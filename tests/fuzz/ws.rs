//! WebSocket: whatever the bytes and wherever they are cut, the messages are those that tungstenite
//! finds, pings are answered in order, and what it refuses is refused.
//!
//! The first bytes choose the end, the limits, the cuts, and whether the rest is the stream itself
//! or choices of frames to build one from.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use super::cut;
use support::Rng;
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};
use waterwheel::mio::{Interest, Registry, Token, event::Source};
use waterwheel::net::{Stream, Transport};
use waterwheel::protocols::ws::{self, Event, Limits, Reason, Role, Socket, Violation};
use waterwheel::reactor::Readiness;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor};

const MASK: [u8; 4] = [0x11, 0x83, 0xF0, 0x5A];

pub fn ws(bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(4));
    let mut rng = Rng::from_bytes(head);
    let role = [Role::Server, Role::Client][rng.below(2) as usize];
    let built = rng.below(4) > 0;
    let limits = Limits {
        message_bytes_max: [20, 200, 1000][rng.below(3) as usize],
        // Theirs holds for control frames, too.
        frame_bytes_max: [125, 200, 1000][rng.below(3) as usize],
        fragments_max: u32::MAX,
        ..Limits::default()
    };
    let stream = if built { build(role, rest) } else { rest.to_vec() };
    let mut cuts = Rng::from_seed(rng.below(256) + 1);
    let whole = ours(role, &limits, vec![&stream]);
    let pieces = cut(&stream, &mut cuts);
    assert_eq!(ours(role, &limits, pieces), whole, "in pieces: {stream:x?}");
    assert_eq!(ours(role, &limits, stream.chunks(1).collect()), whole, "{stream:x?} byte by byte");
    compare(role, &limits, &stream, &whole);
}

/// What one end heard, and how it ended: with a Close, because of a violation, or not at all.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    messages: Vec<Message>,
    pings: Vec<Vec<u8>>,
    close: Option<(u16, String)>,
    violation: Option<Violation>,
}

fn compare(role: Role, limits: &Limits, stream: &[u8], ours: &Heard) {
    let lengths = ["a length in more bytes than it needs", "a length of 2^63 bytes or more"];
    let only_ours =
        matches!(ours.violation, Some(Violation::Protocol(why)) if lengths.contains(&why));
    let is_gateway = matches!(ours.close, Some((1014, _)));
    if only_ours || is_gateway {
        return; // It takes the lengths, and does not know that code.
    }
    let (mut theirs, mut refused) = theirs(role, limits, stream);
    if ours.violation.is_some() && !refused {
        // We say so before the frame is there; they have to see it first.
        let filled = [stream, &[0; 1100]].concat();
        (theirs, refused) = self::theirs(role, limits, &filled);
    }
    assert_eq!(ours.messages, theirs.messages, "{stream:x?}");
    assert_eq!(ours.pings, theirs.pings, "{stream:x?}");
    assert_eq!(ours.close, theirs.close, "{stream:x?}");
    assert_eq!(ours.violation.is_some(), refused, "{:?}: {stream:x?}", ours.violation);
}

/// Frames from bytes: a first byte, how long, and the payload; now and then the bytes as they are.
fn build(role: Role, mut choices: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let [first, length, rest @ ..] = choices {
        let (payload, left) = rest.split_at(rest.len().min(usize::from(*length % 160)));
        choices = left;
        // Few bits are reserved, and few opcodes unknown, in what is to be taken for a frame.
        let first = if length % 8 == 7 { *first } else { first & 0x8F };
        if *length >= 240 {
            stream.extend(payload);
            continue;
        }
        stream.push(first);
        let masked = if role == Role::Server { 0x80 } else { 0 };
        match payload.len() as u8 {
            count @ 0..126 => stream.push(masked | count),
            count => stream.extend([masked | 126, 0, count]),
        }
        if role == Role::Server {
            stream.extend(MASK);
            stream.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            stream.extend(payload);
        }
    }
    stream
}

/// What our end hears of a stream that arrives piece by piece.
fn ours(role: Role, limits: &Limits, pieces: Vec<&[u8]>) -> Heard {
    let mut reactor = Reactor::builder().clock(&ManualClock::held()).build().expect("a selector");
    let sent = Rc::new(RefCell::new(Vec::new()));
    let arriving = pieces.iter().map(|piece| piece.to_vec()).collect();
    let stream = Stream::over(Piecemeal { arriving, sent: sent.clone() });
    let hear = |_: &mut Context<Heard>, heard: &mut Heard, _: &Socket, event: Event<'_>| match event
    {
        Event::Text(text) => heard.messages.push(Message::text(text)),
        Event::Binary(bytes) => heard.messages.push(Message::binary(bytes.to_vec())),
        Event::Pong(payload) => heard.messages.push(Message::Pong(payload.to_vec().into())),
        Event::Closed(Reason::Closed { code, reason }) => heard.close = Some((code, reason)),
        Event::Closed(Reason::Violation(violation)) => heard.violation = Some(violation),
        Event::Closed(Reason::Lost(_)) => {}
        event => panic!("{event:?}"),
    };
    let socket = ws::open(&mut reactor, stream, role, limits.clone(), hear);
    let conn = socket.conn().expect("open");
    let mut heard = Heard::default();
    for _ in 0..pieces.len() + 6 {
        reactor.resume(conn, Readiness::READABLE);
        reactor.turn(&mut heard, Some(Duration::ZERO)).expect("a turn");
    }
    assert_eq!(reactor.sources(), 0, "it has ended");
    heard.pings = pongs(role, &sent.borrow(), &heard);
    heard
}

/// The payloads of the pongs that were sent; nothing but a Close may be behind them.
fn pongs(role: Role, mut sent: &[u8], heard: &Heard) -> Vec<Vec<u8>> {
    let mut pongs = Vec::new();
    while let [first, length, rest @ ..] = sent {
        let masked = role == Role::Client;
        assert_eq!(length & 0x80 != 0, masked);
        let (mask, rest) = rest.split_at(if masked { 4 } else { 0 });
        let (payload, rest) = rest.split_at(usize::from(length & 0x7F));
        sent = rest;
        let key = |at: usize| if masked { mask[at % 4] } else { 0 };
        let payload: Vec<u8> =
            payload.iter().enumerate().map(|(at, byte)| byte ^ key(at)).collect();
        if *first == 0x88 {
            assert!(rest.is_empty() && (heard.close.is_some() || heard.violation.is_some()));
            break;
        }
        assert_eq!(*first, 0x8A);
        pongs.push(payload);
    }
    pongs
}

/// What tungstenite's end hears, and whether it refuses the rest.
fn theirs(role: Role, limits: &Limits, stream: &[u8]) -> (Heard, bool) {
    let role = if role == Role::Server { TheirRole::Server } else { TheirRole::Client };
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message_bytes_max))
        .max_frame_size(Some(limits.frame_bytes_max));
    let mut context = WebSocketContext::new(role, Some(config));
    let (mut heard, mut pipe) = (Heard::default(), Pipe(stream));
    loop {
        match context.read(&mut pipe) {
            Ok(Message::Ping(payload)) => heard.pings.push(payload.to_vec()),
            Ok(Message::Close(close)) => {
                let close = close.map(|close| (close.code.into(), close.reason.to_string()));
                let (code, reason) = close.unwrap_or((1005, String::new()));
                // What it makes of a code that no frame may carry.
                if (code, &*reason) == (1002, "Protocol violation") {
                    return (heard, true);
                }
                heard.close = Some((code, reason));
                return (heard, false);
            }
            Ok(message) => heard.messages.push(message),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                return (heard, false);
            }
            Err(_) => return (heard, true),
        }
    }
}

/// Bytes to read, and a bin to write into.
struct Pipe<'a>(&'a [u8]);

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What arrives: a piece for each read, and FIN at last; and what was sent.
#[derive(Debug)]
struct Piecemeal {
    arriving: VecDeque<Vec<u8>>,
    sent: Rc<RefCell<Vec<u8>>>,
}

impl Transport for Piecemeal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.arriving.pop_front() else { return Ok(0) };
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sent.borrow_mut().write_vectored(pieces)
    }
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Piecemeal {
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
