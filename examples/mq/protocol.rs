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
        let line = input[..end].strip_suffix(b"\r").and_then(|line| str::from_utf8(line).ok());
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
fn request(line: &str) -> Parsed<'_> {
    let mut words = line.split(' ');
    let first = words.next().unwrap_or_default();
    let index = COMMANDS.iter().position(|(word, _)| *word == first).ok_or(UNKNOWN_COMMAND)?;
    let (word, arguments) = COMMANDS[index];
    let mut request = Request { index, word, numbers: [0; 4], name: "", body: &[] };
    for (at, kind) in arguments.bytes().enumerate() {
        let text = words.next().ok_or(BAD_FORMAT)?;
        match kind {
            b't' if is_name(text) => request.name = text,
            b't' => return Err(BAD_FORMAT),
            _ => request.numbers[at] = number(text, if kind == b'n' { 32 } else { 64 })?,
        }
    }
    if words.next().is_none() { Ok(request) } else { Err(BAD_FORMAT) }
}

/// A number of so many bits, in digits only.
fn number(text: &str, bits: u32) -> Result<u64, &'static str> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok()).ok_or(BAD_FORMAT)?;
    if number <= u64::MAX >> (64 - bits) { Ok(number) } else { Err(BAD_FORMAT) }
}

fn is_name(text: &str) -> bool {
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"-+/;.$_()".contains(&byte);
    let has_room = (1..=NAME_BYTES_MAX).contains(&text.len());
    has_room && !text.starts_with('-') && text.bytes().all(may_be)
}
