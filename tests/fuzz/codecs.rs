//! Codecs: whatever the bytes and wherever they are cut, the frames are those of the definition.
//!
//! The first bytes choose codec, limit, cuts and what the handler does; the rest is the stream.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::time::Duration;

use super::cut;
use support::Rng;
use support::decode::{Decoded, decode};
use waterwheel::mio::{Interest, Registry, Token, event::Source};
use waterwheel::net::{
    Codec, Frame, FrameError, Framed, LengthPrefix, Lines, Reason, Stream, Transport, framed,
};
use waterwheel::reactor::Readiness;
use waterwheel::{Context, Reactor};

pub fn codecs(bytes: &[u8]) {
    let (head, stream) = bytes.split_at(bytes.len().min(4));
    let mut rng = Rng::from_bytes(head);
    let prefixed = rng.below(2) == 1;
    let limit = match rng.below(64) {
        63 => usize::MAX,
        62 => 1 << 20,
        limit => limit as usize,
    };
    let pauses = rng.below(4);
    // Of the cuts the seed is enough: the stream is what the fuzzer should spend its bytes on.
    let mut cuts = Rng::from_seed(rng.below(256) + 1);
    let pieces = cut(stream, &mut cuts);
    if prefixed {
        let form = Form::ALL[cuts.below(Form::ALL.len() as u64) as usize];
        let expected = prefixed_frames(stream, limit, form);
        check(|| form.codec(limit), stream, pieces, &expected, pauses);
    } else {
        check(|| Lines::new(limit), stream, pieces, &lines(stream, limit), pauses);
    }
}

/// Lines by their definition, and not as they are found.
fn lines(stream: &[u8], bytes_max: usize) -> Decoded {
    let mut all: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    all.pop_if(|last| last.is_empty());
    let mut frames = Vec::new();
    for line in all {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > bytes_max {
            return (frames, Some(FrameError::TooLong { bytes_max }));
        }
        frames.push(line.to_vec());
    }
    (frames, None)
}

/// How a length is written: in so many bytes, or as a varint of so many at most.
#[derive(Clone, Copy)]
enum Form {
    Big(usize),
    Little(usize),
    Varint(usize),
}

impl Form {
    #[rustfmt::skip]
    const ALL: [Form; 14] = [
        Form::Big(4), Form::Big(4), Form::Big(4), Form::Big(1), Form::Big(2), Form::Big(8), Form::Little(1), Form::Little(2),
        Form::Little(4), Form::Little(8), Form::Varint(1), Form::Varint(4), Form::Varint(5), Form::Varint(10),
    ];

    fn codec(self, bytes_max: usize) -> LengthPrefix {
        let codec = LengthPrefix::new(bytes_max);
        match self {
            Form::Big(4) => codec,
            Form::Big(bytes) => codec.bits(8 * bytes as u32),
            Form::Little(bytes) => codec.bits(8 * bytes as u32).little_endian(),
            Form::Varint(bytes) => codec.varint(bytes),
        }
    }

    /// The bytes of the length at the front of a stream, the highest first, seven or eight bits each.
    fn digits(self, stream: &[u8]) -> Result<Option<(Vec<u8>, u32)>, FrameError> {
        let (bytes, is_little) = match self {
            Form::Big(bytes) => (bytes, false),
            Form::Little(bytes) => (bytes, true),
            Form::Varint(bytes_max) => {
                return match stream.iter().position(|byte| *byte < 0x80) {
                    Some(last) if last < bytes_max => {
                        let digits = stream[..=last].iter().rev().map(|byte| byte % 0x80);
                        Ok(Some((digits.collect(), 7)))
                    }
                    None if stream.len() < bytes_max => Ok(None),
                    _ => Err(FrameError::Malformed("a length that does not end")),
                };
            }
        };
        let Some(digits) = stream.get(..bytes) else { return Ok(None) };
        let mut digits = digits.to_vec();
        if is_little {
            digits.reverse();
        }
        Ok(Some((digits, 8)))
    }
}

fn prefixed_frames(mut stream: &[u8], bytes_max: usize, form: Form) -> Decoded {
    let mut frames = Vec::new();
    loop {
        let (digits, bits) = match form.digits(stream) {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(error) => return (frames, Some(error)),
        };
        let length =
            digits.iter().fold(0_u128, |length, digit| length << bits | u128::from(*digit));
        if length > u128::from(u64::MAX) {
            return (frames, Some(FrameError::Malformed("a length of more than 64 bits")));
        }
        if length > bytes_max as u128 {
            return (frames, Some(FrameError::TooLong { bytes_max }));
        }
        let rest = &stream[digits.len()..];
        let Some(frame) = rest.get(..length as usize) else { break };
        frames.push(frame.to_vec());
        stream = &rest[length as usize..];
    }
    (frames, (!stream.is_empty()).then_some(FrameError::Truncated))
}

fn check<C: Codec>(
    codec: impl Fn() -> C,
    stream: &[u8],
    pieces: Vec<&[u8]>,
    expected: &Decoded,
    pauses: u64,
) {
    assert_eq!(&decode(&mut Frugal(codec()), [stream]), expected, "whole");
    assert_eq!(&decode(&mut Frugal(codec()), pieces.iter().copied()), expected, "in pieces");
    assert_eq!(&through_a_connection(Frugal(codec()), pieces, pauses), expected, "connected");
    for frame in &expected.0 {
        let mut out = vec![1, 2, 3];
        // A line that ends with `\r` comes back without it.
        if codec().encode(frame, &mut out).is_ok() && !frame.ends_with(b"\r") {
            let again = (vec![frame.clone()], None);
            assert_eq!(decode(&mut codec(), [&out[3..]]), again, "encoded and decoded");
        }
    }
}

/// A codec that must find frames without asking for memory.
struct Frugal<C>(C);

impl<C: Codec> Codec for Frugal<C> {
    fn decode(&mut self, input: &[u8]) -> Result<Option<Frame>, FrameError> {
        let mut decoded = Ok(None);
        let memory = allocation_counter::measure(|| decoded = self.0.decode(input));
        assert_eq!(memory.count_total, 0, "a decoder allocates");
        decoded
    }
    fn finish(&mut self, rest: &[u8]) -> Result<Option<Frame>, FrameError> {
        self.0.finish(rest)
    }
    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.0.encode(payload, out)
    }
}

/// What `framed` tells of a stream that arrives piece by piece. After every so many frames the
/// handler pauses, and is resumed in the next turn.
fn through_a_connection(codec: impl Codec, pieces: Vec<&[u8]>, pauses: u64) -> Decoded {
    let (mut reactor, mut told) = (Reactor::new().expect("a selector"), Told::default());
    let arriving = Arriving(pieces.iter().map(|piece| piece.to_vec()).collect());
    let conn = Stream::over(arriving).open(
        &mut reactor,
        framed(codec, move |reactor: &mut Context<Told>, told: &mut Told, conn, event| {
            assert!(told.closed.is_none(), "{event:?} after Closed");
            match event {
                Framed::Frame(frame) => {
                    assert!(!reactor[conn].is_paused() && told.decoded.1.is_none() && !told.eof);
                    told.decoded.0.push(frame.to_vec());
                    if pauses > 0 && (told.decoded.0.len() as u64).is_multiple_of(pauses) {
                        reactor[conn].pause();
                    }
                }
                Framed::Error(error) => told.decoded.1 = Some(error),
                Framed::Eof => told.eof = true,
                Framed::Drained => panic!("nothing was written"),
                Framed::Closed(why) => told.closed = Some(why),
            }
        }),
    );
    // Each turn takes a piece or a frame; then come the end and the news of it.
    let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    for _ in 0..2 * bytes + pieces.len() + 8 {
        if let Some(conn) = reactor.get_mut(conn) {
            conn.resume();
        }
        reactor.resume(conn, Readiness::READABLE);
        reactor.turn(&mut told, Some(Duration::ZERO)).expect("a turn");
    }
    let reason = told.closed.expect("closed");
    match told.decoded.1 {
        None => assert!(matches!(reason, Reason::Finished), "{reason:?}"),
        Some(error) => assert!(matches!(reason, Reason::Frame(why) if why == error), "{reason:?}"),
    }
    told.decoded
}

#[derive(Default)]
struct Told {
    decoded: Decoded,
    eof: bool,
    closed: Option<Reason>,
}

/// What arrives: a piece for each read, a pause behind each, and FIN at last.
#[derive(Debug)]
struct Arriving(VecDeque<Vec<u8>>);

impl Transport for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.0.pop_front() else { return Ok(0) };
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
    fn write(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Arriving {
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
