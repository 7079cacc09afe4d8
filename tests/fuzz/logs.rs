//! The messages of syslog: whatever the bytes and wherever they are cut, they are those of the
//! definition, none of them is lost, and what is passed on is found again with its id.
//!
//! The first byte chooses the cuts; the rest is the stream, or one half of them is put together from
//! parts of messages.

use super::cut;
use support::Rng;

#[allow(dead_code)] // The program uses the rest.
#[path = "../../examples/logs/protocol.rs"]
mod protocol;

use protocol::{FRAME_BYTES_MAX, Framing, Head, MESSAGE_BYTES_MAX, write_frame, write_line};

pub fn logs(bytes: &[u8]) {
    let Some((seed, rest)) = bytes.split_first() else { return };
    let mut rng = Rng::from_seed(u64::from(*seed) + 1);
    let stream = if seed % 2 == 0 { rest.to_vec() } else { composed(rest) };
    let expected = defined(&stream);
    assert_eq!(found(&[&stream]), expected, "whole");
    assert_eq!(found(&cut(&stream, &mut rng)), expected, "in pieces");
    expected.iter().for_each(|message| passes_on(message));
}

/// Each byte is a part of a stream.
fn composed(bytes: &[u8]) -> Vec<u8> {
    const PARTS: [&str; 16] = [
        "\n",
        " ",
        "<13>",
        "<13>1 - host app 7 - ",
        "[ww@32473 id=\"7\"]",
        "[ww@32473 id=\"8\" from=\"x\"]",
        "[a@1 b=\"c\\\"]\"]",
        "-",
        "5 <",
        "30 <13>",
        "65536 <",
        "65537 <",
        "12",
        "\\",
        "\"",
        "]",
    ];
    let parts = bytes.iter().map(|byte| match *byte as usize {
        at @ 0..16 => PARTS[at].to_owned(),
        at @ 64..72 => "x".repeat(1 << (at - 60)),
        at @ 72..76 => "y".repeat(MESSAGE_BYTES_MAX - 2) + &"z".repeat(at - 72),
        at => char::from(at as u8).to_string(),
    });
    let mut stream = String::new();
    parts.take(200).for_each(|part| stream += if stream.len() < 40_000 { &part } else { "" });
    stream.into_bytes()
}

fn found(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut framing, mut input, mut all) = (Framing::default(), Vec::new(), Vec::new());
    let last = pieces.len().saturating_sub(1);
    for (number, piece) in pieces.iter().enumerate() {
        input.extend_from_slice(piece);
        let mut at = 0;
        loop {
            let mut next = None;
            let memory = allocation_counter::measure(|| {
                next = framing.next(&input[at..], number == last);
            });
            assert_eq!(memory.count_total, 0, "it allocates");
            let Some((message, used)) = next else { break };
            assert!(used > 0 && used >= message.len());
            all.push(message.to_vec());
            at += used;
        }
        input.drain(..at);
        assert!(input.len() <= FRAME_BYTES_MAX + 6, "what waits is one message");
    }
    assert!(pieces.is_empty() || input.is_empty(), "the end leaves nothing");
    all
}

/// The messages by their definition, all of the stream being there.
fn defined(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut rest, mut goes_on) = (Vec::new(), stream, false);
    while !rest.is_empty() {
        let text: String = rest.iter().take(8).map(|byte| char::from(*byte)).collect();
        let length = text.split_once(" <").map(|(length, _)| length);
        let is_number = |length: &&str| {
            !length.starts_with('0') && length.bytes().all(|byte| byte.is_ascii_digit())
        };
        let counted = length.filter(|_| !goes_on).filter(is_number);
        let number = counted.and_then(|length| length.parse::<usize>().ok());
        goes_on = false;
        if let Some(number) = number.filter(|number| *number <= FRAME_BYTES_MAX) {
            rest = &rest[counted.unwrap().len() + 1..];
            let (message, behind) = rest.split_at(number.min(rest.len()));
            all.push(message.to_vec());
            rest = behind;
            continue;
        }
        let line = rest.split(|byte| *byte == b'\n').next().unwrap();
        if line.len() > MESSAGE_BYTES_MAX {
            goes_on = true;
            all.push(rest[..MESSAGE_BYTES_MAX].to_vec());
            rest = &rest[MESSAGE_BYTES_MAX..];
        } else {
            all.push(line.to_vec());
            rest = &rest[(line.len() + 1).min(rest.len())..];
        }
    }
    all
}

/// A line of the output is one, and says the same id; and so does what is passed on.
fn passes_on(message: &[u8]) {
    let head = Head::of(message);
    let mut line = Vec::new();
    write_line(message, &head, &mut line);
    assert_eq!(line.iter().filter(|byte| byte.is_ascii_control() && **byte != b'\t').count(), 1);
    assert!(line.len() <= 4 * message.len() + 5);
    if head.id.is_some() {
        assert_eq!(Head::of(&line[..line.len() - 1]).id, head.id, "after a restart");
    }
    let mut frame = Vec::new();
    write_frame(message, 1, 2, &mut frame);
    assert!(frame.len() <= message.len() + 90);
    let mut framing = Framing::default();
    let Some((passed, used)) = framing.next(&frame, false) else {
        assert!(message.len() + 90 > FRAME_BYTES_MAX);
        return;
    };
    assert_eq!(used, frame.len(), "one frame");
    assert_eq!(Head::of(passed).id, Some((&b"0000000000000001"[..], &b"2"[..])));
}
