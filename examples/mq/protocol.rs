//! beanstalkd's protocol, as a server reads it: bytes in, requests out, no socket.
//!
//! ```text
//!   put 0 0 60 5⏎hello⏎   ───▶              ⏎ is CR LF; a body may be any bytes
//!                         ◀───  INSERTED 1⏎
//!   reserve⏎              ───▶
//!                         ◀───  RESERVED 1 5⏎hello⏎
//! ```

use std::mem;

/// Bytes of a line, its end included. A longer one is discarded as it comes, and then answered.
pub const LINE_BYTES_MAX: usize = 224;
/// Bytes of the name of a tube.
pub const NAME_BYTES_MAX: usize = 200;
/// Bytes of a body. A longer one is discarded as it comes, and then answered: clients rely on it.
pub const JOB_BYTES_MAX: u64 = 65_535;

pub const BAD_FORMAT: &str = "BAD_FORMAT\r\n";
pub const EXPECTED_CRLF: &str = "EXPECTED_CRLF\r\n";
pub const JOB_TOO_BIG: &str = "JOB_TOO_BIG\r\n";
pub const UNKNOWN_COMMAND: &str = "UNKNOWN_COMMAND\r\n";

/// The commands and their arguments: `i` is a job or a count, `n` a number of 32 bits (a priority,
/// bytes, or seconds), `t` the name of a tube.
#[rustfmt::skip]
pub const COMMANDS: [(&str, &str); 25] = [
    ("put", "nnnn"), ("reserve", ""), ("delete", "i"), ("reserve-with-timeout", "n"),
    ("release", "inn"), ("bury", "in"), ("touch", "i"), ("reserve-job", "i"), ("kick", "i"),
    ("kick-job", "i"), ("use", "t"), ("watch", "t"), ("ignore", "t"), ("pause-tube", "tn"),
    ("peek", "i"), ("peek-ready", ""), ("peek-delayed", ""), ("peek-buried", ""), ("stats", ""),
    ("stats-job", "i"), ("stats-tube", "t"), ("list-tubes", ""), ("list-tube-used", ""),
    ("list-tubes-watched", ""), ("quit", ""),
];

/// A command with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The index in [`COMMANDS`], and the word there.
    pub index: usize,
    pub word: &'static str,
    pub numbers: [u64; 4],
    pub name: &'a str,
    /// Of a put, with the CR LF behind it.
    pub body: &'a [u8],
}

/// A request, or the answer to what is none.
pub type Parsed<'a> = Result<Request<'a>, &'static str>;

/// Reads the requests of one client.
#[derive(Debug, Default)]
pub struct Parser {
    discards: Discards,
}

#[derive(Debug, Default, PartialEq)]
enum Discards {
    #[default]
    Nothing,
    Line,
    /// So many bytes of a body.
    Body(u64),
}

impl Parser {
    /// The request in front of the input, and the bytes that are used up: some are even where there
    /// is no request yet. If there are none, more input has to come.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (Option<Parsed<'a>>, usize) {
        if let Discards::Body(left) = self.discards {
            let used = left.min(input.len() as u64);
            let is_over = used == left;
            self.discards = if is_over { Discards::Nothing } else { Discards::Body(left - used) };
            return (is_over.then_some(Err(JOB_TOO_BIG)), used as usize);
        }
        let is_discarding = self.discards == Discards::Line;
        let most = if is_discarding { input.len() } else { input.len().min(LINE_BYTES_MAX) };
        let Some(end) = input[..most].iter().position(|byte| *byte == b'\n') else {
            if !is_discarding && most < LINE_BYTES_MAX {
                return (None, 0);
            }
            self.discards = Discards::Line;
            return (None, most);
        };
        let used = end + 1;
        if mem::take(&mut self.discards) == Discards::Line {
            return (Some(Err(BAD_FORMAT)), used);
        }
        if end == 0 {
            return (None, used); // The rest of a body that was a byte longer than announced.
        }
        let line = input[..end].strip_suffix(b"\r");
        let put = match line.ok_or(BAD_FORMAT).and_then(request) {
            Ok(put) if put.word == "put" => put,
            parsed => return (Some(parsed), used),
        };
        let bytes = put.numbers[3];
        if bytes > JOB_BYTES_MAX {
            self.discards = Discards::Body(bytes + 2);
            return (None, used);
        }
        let all = used + bytes as usize + 2;
        match input.get(used..all) {
            None => (None, 0),
            Some(body) if body.ends_with(b"\r\n") => (Some(Ok(Request { body, ..put })), all),
            Some(_) => (Some(Err(EXPECTED_CRLF)), all),
        }
    }
}

/// The request in a line, without a body.
fn request(line: &[u8]) -> Parsed<'_> {
    let mut words = line.split(|byte| *byte == b' ');
    let first = words.next().unwrap_or_default();
    let index = COMMANDS.iter().position(|(word, _)| word.as_bytes() == first);
    let index = index.ok_or(UNKNOWN_COMMAND)?;
    let (word, arguments) = COMMANDS[index];
    let mut request = Request { index, word, numbers: [0; 4], name: "", body: &[] };
    for (at, kind) in arguments.bytes().enumerate() {
        let text = words.next().ok_or(BAD_FORMAT)?;
        match kind {
            b't' => request.name = name(text).ok_or(BAD_FORMAT)?,
            b'n' => request.numbers[at] = number(text, u32::MAX.into()).ok_or(BAD_FORMAT)?,
            _ => request.numbers[at] = number(text, u64::MAX).ok_or(BAD_FORMAT)?,
        }
    }
    if words.next().is_none() { Ok(request) } else { Err(BAD_FORMAT) }
}

/// A number in digits only.
fn number(text: &[u8], most: u64) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(*byte - b'0'));
    let add = |number: u64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    let number = text.iter().try_fold(0, add);
    number.filter(|number| !text.is_empty() && *number <= most)
}

fn name(text: &[u8]) -> Option<&str> {
    let may_be = |byte: &u8| byte.is_ascii_alphanumeric() || b"-+/;.$_()".contains(byte);
    let has_room = (1..=NAME_BYTES_MAX).contains(&text.len());
    let is_name = has_room && !text.starts_with(b"-") && text.iter().all(may_be);
    str::from_utf8(text).ok().filter(|_| is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a parser finds in a stream that comes in these pieces.
    fn found(pieces: &[&[u8]]) -> Vec<String> {
        let (mut parser, mut input, mut all) = (Parser::default(), Vec::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                let (parsed, used) = parser.next(&input);
                match parsed {
                    Some(Ok(Request { word, numbers, name, body, .. })) => {
                        all.push(format!(
                            "{word} {numbers:?} {name:?} {:?}",
                            body.escape_ascii().to_string()
                        ));
                    }
                    Some(Err(answer)) => all.push(answer.trim_end().to_owned()),
                    None if used == 0 => break,
                    None => {}
                }
                input.drain(..used);
            }
        }
        all
    }

    /// The only thing that a stream says.
    fn one(stream: &str) -> String {
        let mut all = found(&[stream.as_bytes(), b"quit\r\n"]);
        assert_eq!(all.pop().as_deref(), Some("quit [0, 0, 0, 0] \"\" \"\""), "{stream:?}");
        assert_eq!(all.len(), 1, "{stream:?}: {all:?}");
        all.remove(0)
    }

    #[test]
    fn requests_are_the_same_wherever_the_stream_is_cut() {
        let long = format!("use {}\r\n", "x".repeat(1000));
        let big = format!("put 0 0 1 65536\r\n{}\r\n", "\r\n".repeat(32_768));
        for (stream, expected) in [
            (
                "put 1 2 3 4\r\n\r\n\0\n\r\n",
                "put [1, 2, 3, 4] \"\" \"\\\\r\\\\n\\\\x00\\\\n\\\\r\\\\n\"",
            ),
            ("put 0 0 0 0\r\n\r\n", "put [0, 0, 0, 0] \"\" \"\\\\r\\\\n\""),
            (
                "release 18446744073709551615 4294967295 7\r\n",
                "release [18446744073709551615, 4294967295, 7, 0] \"\" \"\"",
            ),
            ("pause-tube a-+/;.$_() 60\r\n", "pause-tube [0, 60, 0, 0] \"a-+/;.$_()\" \"\""),
            ("reserve\r\n", "reserve [0, 0, 0, 0] \"\" \"\""),
            (long.as_str(), "BAD_FORMAT"),
            (big.as_str(), "JOB_TOO_BIG"),
            ("put 0 0 1 3\r\n1234\r\nquit now\r\n", "EXPECTED_CRLF"),
        ] {
            let all = found(&[stream.as_bytes()]);
            assert_eq!(all[0], expected);
            // A large one at some places only: each cut copies all of it.
            for cut in (0..=stream.len()).step_by(1 + stream.len() / 500) {
                let (front, back) = stream.as_bytes().split_at(cut);
                assert_eq!(found(&[front, back]), all, "cut at {cut}");
            }
        }
    }

    #[test]
    fn whatever_is_no_command_is_refused_by_the_word_for_it() {
        let name = |bytes: usize| format!("watch {}\r\n", "n".repeat(bytes));
        assert!(one(&name(NAME_BYTES_MAX)).starts_with("watch "));
        assert_eq!(one(&name(NAME_BYTES_MAX + 1)), "BAD_FORMAT");
        for line in [
            "put",
            "put 1 2 3",
            "put 1 2 3 4 5",
            "put -1 0 0 0",
            "put +1 0 0 0",
            "put 4294967296 0 0 0",
            "put 0 0 0 4294967296",
            "put 0 0 0 99999999999999999999999",
            "put 1  2 3 4",
            "put 1 2 3 4 ",
            "put a b c d",
            "delete",
            "delete x",
            "delete 18446744073709551616",
            "reserve 1",
            "use",
            "use a b",
            "use ä",
            "use -a",
            "use a\u{0}b",
            "kick",
            "pause-tube a",
            "pause-tube 60 a",
            "stats x",
            "list-tubes 1",
            "quit 1",
            "release 1 2",
            "bury 1",
            "reserve-with-timeout -1",
        ] {
            assert_eq!(one(&format!("{line}\r\n")), "BAD_FORMAT", "{line}");
        }
        for line in ["", " ", "PUT 0 0 0 0", "peek-", "reserved", "x", "\r", "delete1"] {
            assert_eq!(one(&format!("{line}\r\n")), "UNKNOWN_COMMAND", "{line:?}");
        }
        assert_eq!(one("reserve\n"), "BAD_FORMAT", "it ends with LF alone");
        assert_eq!(one("put 0 0 1 4\r\nfive5\r\n"), "EXPECTED_CRLF", "and no answer too many");
        assert_eq!(found(&[b"stats\xff\r\n"]), ["UNKNOWN_COMMAND"], "it is no UTF-8");
    }

    #[test]
    fn too_large_a_body_is_discarded_and_needs_no_memory() {
        let mut parser = Parser::default();
        let line = b"put 0 0 1 4294967295\r\n";
        assert_eq!(parser.next(line), (None, line.len()));
        let (piece, mut left) = (vec![b'x'; 1 << 20], (1u64 << 32) + 1);
        while left > piece.len() as u64 {
            assert_eq!(parser.next(&piece), (None, piece.len()));
            left -= piece.len() as u64;
        }
        let end = left as usize;
        assert_eq!(parser.next(&piece[..end]), (Some(Err(JOB_TOO_BIG)), end));
        assert_eq!(parser.next(b"x\r\n"), (Some(Err(UNKNOWN_COMMAND)), 3));
    }
}
