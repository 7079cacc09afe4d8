//! The decoder: independent of the cuts, exact at its limits, and in agreement with tungstenite.

use std::io::{self, Read, Write};

use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig, WebSocketContext};

use super::*;
use crate::patterns::Random;

/// A message that owns its content.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

impl From<Incoming<'_>> for Received {
    fn from(incoming: Incoming<'_>) -> Received {
        match incoming {
            Incoming::Text(text) => Received::Text(text.to_owned()),
            Incoming::Binary(bytes) => Received::Binary(bytes.to_vec()),
            Incoming::Ping(payload) => Received::Ping(payload.to_vec()),
            Incoming::Pong(payload) => Received::Pong(payload.to_vec()),
            Incoming::Close(code, reason) => Received::Close(code, reason.to_owned()),
        }
    }
}

type Outcome = (Vec<Received>, Option<Violation>);

/// The messages of a stream that arrives in these pieces, until a Close or a violation.
fn decode<'a>(role: Role, limits: &Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut decoder, mut shared) = (Decoder::new(role), Vec::new());
    let (mut received, mut rest) = (Vec::new(), Vec::new());
    for piece in pieces {
        rest.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match decoder.decode(limits, &rest[at..], &mut shared) {
                Ok(Step { consumed, incoming }) => {
                    at += consumed;
                    let Some(incoming) = incoming else { break };
                    received.push(incoming.into());
                    if matches!(incoming, Incoming::Close(..)) {
                        return (received, None);
                    }
                }
                Err(violation) => return (received, Some(violation)),
            }
        }
        rest.drain(..at);
        assert!(rest.len() < 140, "{} bytes are left for later", rest.len());
    }
    (received, None)
}

fn whole(role: Role, limits: &Limits, stream: &[u8]) -> Outcome {
    decode(role, limits, [stream])
}

/// A frame with that first byte, masked if it is a client's.
fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = (role == Role::Server).then_some([0x11, 0x83, 0xF0, 0x5A]);
    let mut frame = frame::head(Kind::Binary, payload.len(), mask).bytes().to_vec();
    frame[0] = first;
    let mut payload = payload.to_vec();
    mask::apply(&mut payload, mask.unwrap_or_default());
    frame.extend(payload);
    frame
}

/// Frames that a peer might send, and some that it may not.
fn streams(role: Role) -> Vec<Vec<u8>> {
    let frame = |first, payload: &[u8]| frame(role, first, payload);
    let all = |frames: &[Vec<u8>]| frames.concat();
    let (long, longer) = ([7; 126], [9; 300]);
    vec![
        all(&[frame(0x81, b"hello"), frame(0x82, &long), frame(0x81, b"")]),
        all(&[frame(0x01, "κό".as_bytes()), frame(0x89, b"?"), frame(0x80, "σμε".as_bytes())]),
        all(&[frame(0x01, b"\xE2"), frame(0x00, b"\x82"), frame(0x8A, b""), frame(0x80, b"\xAC")]),
        all(&[frame(0x02, b""), frame(0x00, b""), frame(0x80, b""), frame(0x88, b"")]),
        all(&[frame(0x82, &longer), frame(0x88, b"\x03\xE8bye"), frame(0x81, b"never read")]),
        all(&[frame(0x81, b"fine"), frame(0x81, b"good \xED\xA0\x80 bad and more of it")]),
        all(&[frame(0x01, b"cut \xE2\x82"), frame(0x80, b"a")]),
        all(&[frame(0x81, b"ends too soon \xE2\x82")]),
        all(&[frame(0x80, b"of nothing")]),
        all(&[frame(0x01, b"one"), frame(0x81, b"another")]),
        all(&[frame(0x81, b"x"), frame(0x09, b"in fragments")]),
        all(&[frame(0x81, b"x"), frame(0x88, b"\x03")]),
        all(&[frame(0x88, b"\x03\xE8\xFF")]),
        all(&[frame(0xC1, b"compressed")]),
    ]
}

#[test]
fn stream_says_the_same_wherever_it_is_cut() {
    let limits = Limits::default();
    for role in [Role::Server, Role::Client] {
        for stream in streams(role) {
            let expected = whole(role, &limits, &stream);
            for at in 0..=stream.len() {
                let (front, back) = stream.split_at(at);
                assert_eq!(decode(role, &limits, [front, back]), expected, "{stream:x?} at {at}");
            }
            let bytes = stream.chunks(1);
            assert_eq!(decode(role, &limits, bytes), expected, "{stream:x?} byte by byte");
            for size in [2, 3, 7, 64] {
                assert_eq!(decode(role, &limits, stream.chunks(size)), expected, "by {size}");
            }
        }
    }
}

#[test]
fn wrong_byte_of_a_text_is_found_before_its_frame_ends() {
    let stream = frame(Role::Server, 0x81, b"good\xFFand a thousand more");
    let head = stream.len() - 24;
    for at in 0..stream.len() {
        let (_, violation) = whole(Role::Server, &Limits::default(), &stream[..at]);
        assert_eq!(violation.is_some(), at > head + 4, "{at}");
    }
}

#[test]
fn limits_are_exact() {
    let limits =
        Limits { message_bytes_max: 10, frame_bytes_max: 6, fragments_max: 3, ..Limits::default() };
    let violation = |frames: &[(u8, usize)]| {
        let bytes = |(first, count): &(u8, usize)| frame(Role::Client, *first, &vec![b'x'; *count]);
        whole(Role::Client, &limits, &frames.iter().flat_map(bytes).collect::<Vec<_>>()).1
    };
    assert_eq!(violation(&[(0x81, 5), (0x81, 6)]), None);
    assert_eq!(violation(&[(0x81, 7)]), Some(Violation::FrameTooBig { bytes_max: 6 }));
    for (last, expected) in
        [(3, None), (4, None), (5, Some(Violation::MessageTooBig { bytes_max: 10 }))]
    {
        assert_eq!(violation(&[(0x01, 6), (0x80, last)]), expected, "{last}");
    }
    let fragments = |count| {
        let mut frames = vec![(0x00, 0); count];
        (frames[0].0, frames[count - 1].0) = (0x02, 0x80);
        violation(&frames)
    };
    assert_eq!((fragments(2), fragments(3)), (None, None));
    assert_eq!(fragments(4), Some(Violation::TooManyFragments { fragments_max: 3 }));
}

#[test]
fn limits_count_each_message_for_itself_and_no_control_frames() {
    let limits = Limits { message_bytes_max: 4, fragments_max: 2, ..Limits::default() };
    let mut stream = Vec::new();
    for _ in 0..5 {
        stream.extend(frame(Role::Client, 0x02, b"1234"));
        stream.extend(frame(Role::Client, 0x89, b"longer than any message"));
        stream.extend(frame(Role::Client, 0x80, b""));
    }
    let (received, violation) = whole(Role::Client, &limits, &stream);
    assert_eq!((received.len(), violation), (10, None));
}

#[test]
fn declared_length_allocates_nothing() {
    let limits =
        Limits { message_bytes_max: usize::MAX, frame_bytes_max: usize::MAX, ..Limits::default() };
    let mut decoder = Decoder::new(Role::Client);
    let head = [0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3];
    let mut shared = Vec::new();
    let step = decoder.decode(&limits, &head, &mut shared);
    assert_eq!(step, Ok(Step { consumed: head.len(), incoming: None }));
    let message = decoder.message.unwrap();
    assert!(message.bytes == [1, 2, 3] && message.bytes.capacity() < 100);
    // A client of 32 bits counts further than it can address.
    let mut decoder = Decoder::new(Role::Client);
    let limits = Limits { frame_bytes_max: 1 << 30, ..limits };
    let violation = decoder.decode(&limits, &head, &mut shared).unwrap_err();
    assert_eq!(violation, Violation::FrameTooBig { bytes_max: 1 << 30 });
}

#[test]
fn message_in_one_piece_is_not_copied_where_it_has_no_mask() {
    let stream = frame(Role::Client, 0x82, b"here");
    let mut shared = Vec::new();
    let mut decoder = Decoder::new(Role::Client);
    let step = decoder.decode(&Limits::default(), &stream, &mut shared).unwrap();
    let Some(Incoming::Binary(bytes)) = step.incoming else { panic!("{step:?}") };
    assert_eq!(bytes.as_ptr(), stream[2..].as_ptr());
    assert_eq!(shared.capacity(), 0);
}

/// Bytes to read, and a bin to write into.
struct Pipe<'a>(&'a [u8]);

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
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

/// The messages that tungstenite finds, and its error, if it then refuses the rest.
fn theirs(role: Role, limits: &Limits, stream: &[u8]) -> (Vec<Received>, Option<Error>) {
    let role = if role == Role::Server { TheirRole::Server } else { TheirRole::Client };
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message_bytes_max))
        .max_frame_size(Some(limits.frame_bytes_max));
    let mut context = WebSocketContext::new(role, Some(config));
    let (mut received, mut pipe) = (Vec::new(), Pipe(stream));
    loop {
        received.push(match context.read(&mut pipe) {
            Ok(Message::Text(text)) => Received::Text(text.to_string()),
            Ok(Message::Binary(bytes)) => Received::Binary(bytes.to_vec()),
            Ok(Message::Ping(payload)) => Received::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Received::Pong(payload.to_vec()),
            Ok(Message::Close(close)) => {
                let close = close.map(|close| (close.code.into(), close.reason.to_string()));
                let (code, reason) = close.unwrap_or((1005, String::new()));
                // Its result for a code that no frame may carry.
                if (code, &*reason) == (1002, "Protocol violation") {
                    return (received, Some(Error::ConnectionClosed));
                }
                received.push(Received::Close(code, reason));
                return (received, None);
            }
            Ok(Message::Frame(frame)) => panic!("{frame:?}"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (received, None);
            }
            Err(error) => return (received, Some(error)),
        });
    }
}

/// Some frame, good more often than not.
fn some_frame(random: &mut Random, role: Role) -> Vec<u8> {
    let texts: [&[u8]; 6] =
        ["κόσμε".as_bytes(), b"\xE2\x82", b"\xAC", b"plain", b"\xED\xA0\x80", b"\xF0\x9F\x98"];
    let mut payload = match random.below(4) {
        0 => Vec::new(),
        1 => texts[random.below(6) as usize].to_vec(),
        2 => b"\x03\xE8why".to_vec(),
        _ => vec![b'a' + random.below(26) as u8; random.below(140) as usize],
    };
    let fin = if random.below(3) == 0 { 0 } else { 0x80 };
    let opcode = [0, 0, 1, 1, 2, 8, 9, 10][random.below(8) as usize];
    let mut first = fin | opcode;
    match random.below(60) {
        0 => first ^= 1 << random.below(8),
        1 => payload = vec![0; random.below(400) as usize],
        2 => payload = random.below(0x1_0000).to_be_bytes()[6..].to_vec(),
        _ => {}
    }
    let mut frame = frame(role, first, &payload);
    if random.below(100) == 0 {
        frame[1] ^= 0x80;
    }
    frame
}

#[test]
fn messages_are_those_that_tungstenite_finds() {
    let limits = Limits { message_bytes_max: 300, frame_bytes_max: 200, ..Limits::default() };
    let (mut random, mut violations) = (Random::from_seed(11), 0);
    for round in 0..20_000 {
        let role = [Role::Server, Role::Client][round % 2];
        let mut stream = Vec::new();
        for _ in 0..random.below(12) {
            stream.extend(some_frame(&mut random, role));
        }
        stream.truncate(stream.len() - random.below(stream.len() as u64 + 1) as usize / 8);
        let (received, violation) = whole(role, &limits, &stream);
        if received.iter().any(|received| matches!(received, Received::Close(1014, _))) {
            continue; // IANA's list has it, theirs has not.
        }
        let (mut expected, mut refused) = theirs(role, &limits, &stream);
        if violation.is_some() && refused.is_none() {
            // We say so before the frame is there; they have to see it first.
            let filled = [&stream[..], &[0; 500]].concat();
            (expected, refused) = theirs(role, &limits, &filled);
        }
        assert_eq!(received, expected, "round {round}: {stream:x?}");
        assert_eq!(
            violation.is_some(),
            refused.is_some(),
            "{round}: {violation:?} {refused:?} {stream:x?}"
        );
        violations += u32::from(violation.is_some());
    }
    assert!(violations > 5_000, "{violations} of 20,000 streams were bad");
}
