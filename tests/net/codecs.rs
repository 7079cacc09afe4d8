//! Codecs: the same frames wherever the stream is cut, limits to the byte, work linear in bytes.

use support::decode::{Decoded, decode};
use support::tcp::{Peer, pair, turn_until, turns, unclosed};
use waterwheel::net::{
    Codec, Conn, Event, FrameError, Framed, LengthPrefix, Limits, Lines, Reason, framed, memory,
};
use waterwheel::{Context, Reactor, SourceId};

/// Decodes whole, cut once at every offset, cut twice, and byte by byte: always the same.
fn decode_cut<C: Codec + Clone>(codec: &C, stream: &[u8]) -> Decoded {
    let whole = decode(&mut codec.clone(), [stream]);
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
            assert_eq!(decode(&mut codec.clone(), pieces), whole, "cut at {first} and {second}");
        }
    }
    assert_eq!(decode(&mut codec.clone(), stream.chunks(1)), whole, "byte by byte");
    whole
}

fn frames(expected: &[&[u8]]) -> Vec<Vec<u8>> {
    expected.iter().map(|frame| frame.to_vec()).collect()
}

#[test]
fn lines_are_the_same_wherever_the_stream_is_cut() {
    let stream = b"one\ntwo\r\n\n\r\nfour\rfive\nlast";
    let expected = frames(&[b"one", b"two", b"", b"", b"four\rfive", b"last"]);
    let too_long = (expected[..4].to_vec(), Some(FrameError::TooLong { bytes_max: 8 }));
    assert_eq!(decode_cut(&Lines::new(9), stream), (expected, None));
    assert_eq!(decode_cut(&Lines::new(8), stream), too_long);
}

#[test]
fn invalid_utf8_and_nul_pass_through_lines() {
    let stream = b"\xff\xfe\n\xc3\x28\r\n\0\0\n";
    let expected = frames(&[b"\xff\xfe", b"\xc3\x28", b"\0\0"]);
    assert_eq!(decode_cut(&Lines::new(100), stream), (expected, None));
}

#[test]
fn line_limit_is_exact_with_either_end_and_without_one() {
    let too_long = Some(FrameError::TooLong { bytes_max: 5 });
    for end in ["\n", "\r\n", "", "\r"] {
        for (line, fits) in [("1234", true), ("12345", true), ("123456", false)] {
            let (got, error) = decode_cut(&Lines::new(5), format!("{line}{end}").as_bytes());
            assert_eq!(error, if fits { None } else { too_long }, "{line:?} with {end:?}");
            assert_eq!(got, if fits { frames(&[line.as_bytes()]) } else { vec![] });
        }
    }
    assert_eq!(decode_cut(&Lines::new(0), b"\n\r\n"), (frames(&[b"", b""]), None));
    assert_eq!(decode_cut(&Lines::new(usize::MAX), b"x\n"), (frames(&[b"x"]), None));
}

/// A length and what follows it.
fn prefixed(length: u32, payload: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes(), payload].concat()
}

#[test]
fn length_prefixed_frames_are_the_same_wherever_the_stream_is_cut() {
    let parts = [prefixed(3, b"one"), prefixed(0, b""), prefixed(1, b"\n"), prefixed(0, b"")];
    let expected = frames(&[b"one", b"", b"\n", b""]);
    assert_eq!(decode_cut(&LengthPrefix::new(10), &parts.concat()), (expected.clone(), None));
    for missing in 1..4 {
        let stream = [parts.concat(), prefixed(3, b"cut")[..7 - missing].to_vec()].concat();
        let truncated = (expected.clone(), Some(FrameError::Truncated));
        assert_eq!(decode_cut(&LengthPrefix::new(10), &stream), truncated);
    }
}

#[test]
fn length_limit_is_exact_and_tells_before_the_payload_comes() {
    let codec = LengthPrefix::new(5);
    for (length, fits) in
        [(4, true), (5, true), (6, false), (u32::MAX - 1, false), (u32::MAX, false)]
    {
        let mut codec = codec.clone();
        let decoded = codec.decode(&length.to_be_bytes());
        let expected = if fits { Ok(None) } else { Err(FrameError::TooLong { bytes_max: 5 }) };
        assert_eq!(decoded, expected, "length {length}");
    }
}

/// All the forms that a length can have.
fn forms(bytes_max: usize) -> Vec<LengthPrefix> {
    let new = || LengthPrefix::new(bytes_max);
    let mut forms: Vec<_> = [8, 16, 32, 64].map(|bits| new().bits(bits)).into();
    forms.extend([8, 16, 32, 64].map(|bits| new().bits(bits).little_endian()));
    forms.extend([1, 2, 4, 5, 9, 10].map(|bytes| new().varint(bytes)));
    forms
}

#[test]
fn length_of_any_form_is_the_same_wherever_the_stream_is_cut() {
    let expected = (frames(&[b"one", b"", b"\x80"]), None);
    for codec in forms(100) {
        let mut stream = Vec::new();
        for frame in &expected.0 {
            codec.encode(frame, &mut stream).unwrap();
        }
        assert_eq!(decode_cut(&codec, &stream), expected, "{codec:?}");
        assert_eq!(decode_cut(&codec, &stream[..stream.len() - 1]).1, Some(FrameError::Truncated));
    }
}

#[test]
fn each_form_of_a_length_is_written_as_its_protocol_has_it() {
    let written = |codec: LengthPrefix, length: usize| {
        let mut out = Vec::new();
        codec.encode(&vec![0; length], &mut out).map(|()| out[..out.len() - length].to_vec())
    };
    let new = || LengthPrefix::new(usize::MAX);
    assert_eq!(written(new(), 258).unwrap(), [0, 0, 1, 2]);
    assert_eq!(written(new().bits(8), 255).unwrap(), [255]);
    assert_eq!(written(new().bits(16), 258).unwrap(), [1, 2]);
    assert_eq!(written(new().bits(16).little_endian(), 258).unwrap(), [2, 1]);
    assert_eq!(written(new().bits(64), 258).unwrap(), [0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(written(new().bits(64).little_endian(), 258).unwrap(), [2, 1, 0, 0, 0, 0, 0, 0]);
    // The limits of one, two and three bytes in MQTT 3.1.1, table 2.4.
    for (length, bytes) in [
        (0, &[0][..]),
        (127, &[0x7F]),
        (128, &[0x80, 1]),
        (16_383, &[0xFF, 0x7F]),
        (16_384, &[0x80, 0x80, 1]),
        (2_097_151, &[0xFF, 0xFF, 0x7F]),
    ] {
        assert_eq!(written(new().varint(4), length).unwrap(), bytes, "{length}");
        assert_eq!(written(new().varint(10), length).unwrap(), bytes, "{length}");
    }
    for (codec, bytes_max) in [
        (new().bits(8), 255),
        (new().bits(16), 65_535),
        (new().varint(1), 127),
        (new().varint(2), 16_383),
    ] {
        assert_eq!(written(codec.clone(), bytes_max + 1), Err(FrameError::TooLong { bytes_max }));
        assert!(written(codec, bytes_max).is_ok());
    }
}

#[test]
fn length_that_is_too_long_or_does_not_end_is_refused_in_any_form() {
    for (mut codec, longer) in forms(5).into_iter().zip(forms(6)) {
        let mut bytes = Vec::new();
        longer.encode(b"123456", &mut bytes).unwrap();
        let too_long = Err(FrameError::TooLong { bytes_max: 5 });
        assert_eq!(codec.decode(&bytes[..bytes.len() - 6]), too_long, "{codec:?}");
    }
    let varint = |bytes, input: &[u8]| LengthPrefix::new(usize::MAX).varint(bytes).decode(input);
    assert!(matches!(varint(4, &[0x80; 4]), Err(FrameError::Malformed(_))));
    assert_eq!(varint(4, &[0x80; 3]), Ok(None));
    assert_eq!(varint(4, &[0x81, 0x80, 0x80, 0]), Ok(None)); // A 1, with zeros in front.
    let most = [&[0xFF; 9][..], &[1]].concat();
    assert_eq!(varint(10, &most), Ok(None));
    for more in [2, 0x7F, 0x80, 0x82] {
        let more = [&[0xFF; 9][..], &[more]].concat();
        assert!(matches!(varint(10, &more), Err(FrameError::Malformed(_))), "{more:?}");
    }
    let mut codec = LengthPrefix::new(usize::MAX).bits(64);
    assert_eq!(codec.decode(&[255; 9]), Ok(None));
}

#[test]
#[should_panic(expected = "8, 16, 32 or 64 bits")]
fn length_of_other_bits_is_a_mistake() {
    let _ = LengthPrefix::new(1).bits(24);
}

#[test]
#[should_panic(expected = "1 to 10 bytes")]
fn length_of_no_bytes_is_a_mistake() {
    let _ = LengthPrefix::new(1).varint(0);
}

#[test]
fn declared_length_allocates_nothing() {
    let mut codec = LengthPrefix::new(usize::MAX);
    let measured = allocation_counter::measure(|| {
        assert_eq!(codec.decode(&[255, 255, 255, 255, 1, 2, 3, 4]), Ok(None));
    });
    assert_eq!(measured.count_total, 0);
}

#[test]
fn what_is_encoded_is_decoded_again_and_what_cannot_be_is_refused() {
    let payloads = [&b""[..], b"x", b"12345"];
    let codecs: [Box<dyn Codec>; 2] = [Box::new(Lines::new(5)), Box::new(LengthPrefix::new(5))];
    for mut codec in codecs {
        let mut stream = Vec::new();
        for payload in payloads {
            codec.encode(payload, &mut stream).unwrap();
        }
        let before = stream.clone();
        assert_eq!(codec.encode(b"123456", &mut stream), Err(FrameError::TooLong { bytes_max: 5 }));
        assert_eq!(stream, before, "a refused frame left something");
        assert_eq!(decode(&mut *codec, [&stream[..]]), (frames(&payloads), None));
    }
    let mut out = Vec::new();
    assert!(matches!(Lines::new(5).encode(b"a\nb", &mut out), Err(FrameError::Malformed(_))));
    assert!(out.is_empty());
}

/// Frames as `framed` tells them, and how the connection ended.
#[derive(Default)]
struct Heard {
    frames: Vec<Vec<u8>>,
    errors: usize,
    eof: bool,
    closed: Option<Reason>,
}

fn hear(_: &mut Context<Heard>, heard: &mut Heard, _: SourceId<Conn>, event: Framed<'_>) {
    match event {
        Framed::Frame(frame) => heard.frames.push(frame.to_vec()),
        Framed::Error(_) => heard.errors += 1,
        Framed::Drained => {}
        Framed::Eof => heard.eof = true,
        Framed::Closed(why) => heard.closed = Some(why),
    }
}

fn connection(codec: impl Codec, limits: Limits) -> (Reactor<Heard>, Heard, Peer) {
    let (mut reactor, mut heard) = (Reactor::new().unwrap(), Heard::default());
    let (_, peer) = pair(&mut reactor, &mut heard, limits, framed(codec, hear));
    (reactor, heard, peer)
}

#[test]
fn connection_cut_at_every_offset_tells_the_same_frames() {
    let stream = b"one\ntwo\r\n\n\r\nlast";
    for cut in 0..=stream.len() {
        let (mut reactor, mut heard, mut peer) = connection(Lines::new(4), Limits::default());
        peer.send(&stream[..cut]);
        turns(&mut reactor, &mut heard, 3);
        peer.send(&stream[cut..]);
        peer.finish();
        turn_until(&mut reactor, &mut heard, |_, heard| heard.closed.is_some());
        assert_eq!(heard.frames, frames(&[b"one", b"two", b"", b"", b"last"]), "cut at {cut}");
        assert!(heard.eof && matches!(heard.closed, Some(Reason::Finished)));
    }
}

#[test]
fn bad_frame_is_told_once_and_closes_the_connection_with_what_was_answered() {
    let stream = [prefixed(2, b"ok"), prefixed(u32::MAX, b"x"), prefixed(2, b"no")].concat();
    for cut in [1, 6, 9, 10, 11, stream.len()] {
        let (mut reactor, mut heard, mut peer) =
            connection(LengthPrefix::new(100), Limits::default());
        peer.send(&stream[..cut]);
        turns(&mut reactor, &mut heard, 3);
        peer.send(&stream[cut..]);
        turn_until(&mut reactor, &mut heard, |_, _| peer.read_all() == Some(Ok(())));
        drop(peer);
        turn_until(&mut reactor, &mut heard, |_, heard| heard.closed.is_some());
        assert_eq!((heard.frames, heard.errors), (frames(&[b"ok"]), 1), "cut at {cut}");
        assert!(matches!(
            heard.closed,
            Some(Reason::Frame(FrameError::TooLong { bytes_max: 100 }))
        ));
        assert_eq!((heard.eof, unclosed()), (false, 0));
    }
}

#[test]
fn bad_frame_behind_a_long_answer_does_not_cost_the_answer() {
    const ANSWER: usize = 300_000;
    let mut reactor = Reactor::new().unwrap();
    let (client, server) = memory::pair(&mut reactor);
    let serve = |reactor: &mut Context<Heard>,
                 heard: &mut Heard,
                 conn: SourceId<Conn>,
                 event: Framed<'_>| {
        if let Framed::Frame(_) = event {
            assert!(conn.write(reactor, &[7; ANSWER]).is_taken());
        }
        hear(reactor, heard, conn, event);
    };
    server.open(&mut reactor, framed(LengthPrefix::new(100), serve));
    let client = client.open(&mut reactor, |_, heard: &mut Heard, _, event| {
        if let Event::Data(bytes) = event {
            heard.frames.push(bytes.to_vec());
        }
    });
    let asks = [prefixed(2, b"ok"), prefixed(u32::MAX, b"x")].concat();
    assert!(client.write(&mut reactor, &asks).is_taken());
    let mut heard = Heard::default();
    turn_until(&mut reactor, &mut heard, |_, heard| heard.closed.is_some());
    let answered: usize = heard.frames[1..].iter().map(Vec::len).sum();
    assert_eq!((heard.errors, answered), (1, ANSWER));
    assert!(matches!(heard.closed, Some(Reason::Frame(FrameError::TooLong { bytes_max: 100 }))));
}

#[test]
fn frame_that_the_stream_ends_in_is_an_error() {
    let (mut reactor, mut heard, mut peer) = connection(LengthPrefix::new(100), Limits::default());
    peer.send(&prefixed(4, b"cut"));
    peer.finish();
    turn_until(&mut reactor, &mut heard, |_, heard| heard.closed.is_some());
    assert_eq!((heard.errors, heard.eof), (1, false));
    assert!(matches!(heard.closed, Some(Reason::Frame(FrameError::Truncated))));
}

#[test]
fn line_without_an_end_is_refused_as_soon_as_it_is_too_long() {
    let mut codec = Lines::new(1 << 20);
    let (mut input, piece) = (Vec::new(), [b'a'; 4096]);
    let refused = (1..=5000).find(|_| {
        input.extend_from_slice(&piece);
        codec.decode(&input).is_err()
    });
    assert_eq!(refused, Some(257), "256 pieces are the limit");
}

#[test]
fn twenty_megabytes_in_small_pieces_are_decoded_in_linear_work() {
    const SIZE: usize = 20_000_000;
    let _ceiling = support::ceiling(std::time::Duration::from_secs(20));
    let mut line = vec![b'a'; SIZE];
    line.push(b'\n');
    // Looked at from its beginning for each piece, this would be 48 billion bytes to look at.
    let mut codec = Lines::new(SIZE);
    let mut pieces = (1..line.len()).step_by(4096);
    assert!(pieces.all(|end| codec.decode(&line[..end]) == Ok(None)));
    let frame = codec.decode(&line).unwrap().unwrap();
    assert_eq!((frame.payload, frame.consumed), (0..SIZE, SIZE + 1));
    // And through a connection, which must not move what it keeps again and again.
    let limits = Limits { backlog_bytes_max: SIZE + 1, ..Limits::default() };
    let (mut reactor, mut heard, mut peer) = connection(Lines::new(SIZE), limits);
    let mut sent = 0;
    turn_until(&mut reactor, &mut heard, |_, heard| {
        sent += peer.write(&line[sent..line.len().min(sent + 4096)]);
        !heard.frames.is_empty()
    });
    assert_eq!(heard.frames[0].len(), SIZE);
}
