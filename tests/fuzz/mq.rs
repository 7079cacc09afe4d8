//! The requests of the job queue's clients: whatever the bytes and wherever they are cut, they are
//! those of the definition, and the parser asks for no memory.
//!
//! The first byte chooses the cuts; the rest is the stream. Of a random one few bytes are a command,
//! so one half of the streams is put together from commands and their parts.

use super::cut;
use support::Rng;

#[allow(dead_code)] // The program uses the rest.
#[path = "../../examples/mq/protocol.rs"]
mod protocol;

use protocol::{COMMANDS, JOB_BYTES_MAX, LINE_BYTES_MAX, NAME_BYTES_MAX, Parser, Request};

pub fn mq(bytes: &[u8]) {
    let Some((seed, rest)) = bytes.split_first() else { return };
    let mut rng = Rng::from_seed(u64::from(*seed) + 1);
    let stream = if seed % 2 == 0 { rest.to_vec() } else { composed(rest) };
    let expected = defined(&stream);
    assert_eq!(found(&[&stream]), expected, "whole");
    assert_eq!(found(&cut(&stream, &mut rng)), expected, "in pieces");
}

/// Each byte is a part of a stream of commands.
fn composed(bytes: &[u8]) -> Vec<u8> {
    const PARTS: [&str; 16] = [
        " ",
        "\r\n",
        "0",
        "1",
        "3",
        "65535",
        "65536",
        "4294967296",
        "a",
        "default",
        "\n",
        "\r",
        "put 0 0 1 1\r\nx\r\n",
        "put 0 0 1 ",
        "put 0 0 1 70000\r\n",
        "-",
    ];
    let parts = bytes.iter().map(|byte| match *byte as usize {
        at @ 0..16 => PARTS[at].to_owned(),
        at if at < 16 + COMMANDS.len() => COMMANDS[at - 16].0.to_owned() + " ",
        at @ 64..72 => "x".repeat(1 << (at - 60)),
        at @ 72..74 => "y".repeat(60_000) + &"z".repeat(at),
        at => char::from(at as u8).to_string(),
    });
    let mut stream = String::new();
    parts.take(200).for_each(|part| stream += if stream.len() < 70_000 { &part } else { "" });
    stream.into_bytes()
}

fn found(pieces: &[&[u8]]) -> Vec<String> {
    let (mut parser, mut input, mut at, mut all) = (Parser::default(), Vec::new(), 0, Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let mut next = (None, 0);
            let memory = allocation_counter::measure(|| next = parser.next(&input[at..]));
            assert_eq!(memory.count_total, 0, "the parser allocates");
            assert!(next.1 <= input.len() - at);
            match next {
                (Some(Ok(Request { word, numbers, name, body, .. })), _) => {
                    all.push(format!("{word} {numbers:?} {name} {body:?}"));
                }
                (Some(Err(answer)), _) => all.push(answer.to_owned()),
                (None, 0) => break,
                (None, _) => {}
            }
            at += next.1;
        }
        // What waits for more is a command, never more than that.
        assert!(input.len() - at <= LINE_BYTES_MAX + JOB_BYTES_MAX as usize + 2);
    }
    all
}

/// The requests of a stream by their definition, and not as they are found.
fn defined(stream: &[u8]) -> Vec<String> {
    let (mut all, mut rest) = (Vec::new(), stream);
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, behind) = rest.split_at(end + 1);
        rest = behind;
        if line == b"\n" {
            continue;
        }
        // A byte is a character here, and none but those of ASCII is in a command.
        let text: String = line.iter().map(|byte| char::from(*byte)).collect();
        if line.len() > LINE_BYTES_MAX || !text.ends_with("\r\n") {
            all.push("BAD_FORMAT\r\n".to_owned());
            continue;
        }
        let words: Vec<&str> = text[..text.len() - 2].split(' ').collect();
        let Some((word, kinds)) = COMMANDS.iter().find(|(word, _)| *word == words[0]) else {
            all.push("UNKNOWN_COMMAND\r\n".to_owned());
            continue;
        };
        let mut numbers = [0u64; 4];
        let mut name = "";
        let mut is_good = words.len() == kinds.len() + 1;
        for (at, (kind, word)) in kinds.chars().zip(words.iter().skip(1)).enumerate() {
            let digits = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit());
            let number = word.trim_start_matches('0').parse::<u128>();
            let number = if digits {
                number.unwrap_or(if word.len() > 30 { u128::MAX } else { 0 })
            } else {
                0
            };
            match kind {
                't' => {
                    let all_may_be =
                        word.chars().all(|c| c.is_ascii_alphanumeric() || "-+/;.$_()".contains(c));
                    is_good &= all_may_be
                        && !word.is_empty()
                        && word.len() <= NAME_BYTES_MAX
                        && !word.starts_with('-');
                    name = word;
                }
                'n' => is_good &= digits && number < 1 << 32,
                _ => is_good &= digits && number < 1 << 64,
            }
            if kind != 't' {
                numbers[at] = number as u64;
            }
        }
        if !is_good {
            all.push("BAD_FORMAT\r\n".to_owned());
            continue;
        }
        let mut body: &[u8] = &[];
        if *word == "put" {
            let all_bytes = numbers[3] as usize + 2;
            if rest.len() < all_bytes {
                break;
            }
            (body, rest) = rest.split_at(all_bytes);
            let refusal = match body {
                _ if numbers[3] > JOB_BYTES_MAX => Some("JOB_TOO_BIG\r\n"),
                body if !body.ends_with(b"\r\n") => Some("EXPECTED_CRLF\r\n"),
                _ => None,
            };
            if let Some(refusal) = refusal {
                all.push(refusal.to_owned());
                continue;
            }
        }
        all.push(format!("{word} {numbers:?} {name} {body:?}"));
    }
    all
}
