//! RESP, the protocol of Redis: bytes in, requests out; values in, bytes out. No socket, no loop.
//!
//! ```text
//!   request   *2\r\n$3\r\nGET\r\n$4\r\nname\r\n     an array of strings, each with its length
//!             GET name\r\n                          or a line, as people type it with nc
//!   reply     $5\r\nhello\r\n   :17\r\n   +OK\r\n   -ERR unknown command …\r\n   *2\r\n…
//! ```
//! RESP3 (after `HELLO 3`) has more kinds of reply: maps, sets, doubles, and pushes, which are no
//! answer to a request. The specification:
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::ops::Range;

/// The longest string in a request. Redis takes 512 MiB.
pub const STRING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most strings in a request.
pub const STRINGS_MAX: usize = 1024 * 1024;
/// The longest request that is typed as a line.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// The longest reply, so that nobody can ask for one value a million times in one request.
pub const REPLY_BYTES_MAX: usize = STRING_BYTES_MAX + 64 * 1024;
/// So many strings need no memory of their own.
const FEW_STRINGS: usize = 8;
/// The longest line with a count or a length: a sign and 19 digits, and some room.
const NUMBER_BYTES_MAX: usize = 32;

/// Why the input is no RESP, in the words of Redis. Nothing after it can be understood.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    Count,
    Length,
    NotAString(u8),
    LineTooLong,
    NumberTooLong,
    Quotes,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR Protocol error: ")?;
        match self {
            Malformed::Count => f.write_str("invalid multibulk length"),
            Malformed::Length => f.write_str("invalid bulk length"),
            Malformed::NotAString(byte) => {
                let byte = if byte.is_ascii_graphic() { *byte as char } else { '?' };
                write!(f, "expected '$', got '{byte}'")
            }
            Malformed::LineTooLong => f.write_str("too big inline request"),
            Malformed::NumberTooLong => f.write_str("too big count string"),
            Malformed::Quotes => f.write_str("unbalanced quotes in request"),
        }
    }
}

/// Finds requests in the input. It remembers how far it has come in a request that is not complete,
/// so a request that comes byte by byte costs no more than one that comes at once.
#[derive(Debug, Default)]
pub struct Parser {
    /// Where the strings of the request are in the input, or in `line`.
    strings: Vec<Range<usize>>,
    /// The strings of a line, without their quotes.
    line: Vec<u8>,
    is_line: bool,
    /// Strings that are still to come.
    missing: usize,
    /// Bytes of the input that are understood.
    at: usize,
    /// Bytes that are known to have no end of line in them.
    looked_at: usize,
}

impl Parser {
    /// Looks for the request in front of the input, and returns how many bytes it takes; `None` if
    /// it is not complete. The next call must begin with the same bytes, and more behind them.
    pub fn next(&mut self, input: &[u8]) -> Result<Option<usize>, Malformed> {
        if self.missing == 0 {
            self.strings.clear();
            self.is_line = !matches!(input.first(), None | Some(b'*'));
            if self.is_line {
                return self.typed(input);
            }
            let Some(count) = self.number(input, Malformed::Count)? else { return Ok(None) };
            match usize::try_from(count).unwrap_or(0) {
                0 => return Ok(Some(self.done())),
                count if count > STRINGS_MAX => return Err(Malformed::Count),
                count => self.missing = count,
            }
        }
        while self.missing > 0 {
            let begin = self.at;
            match input.get(begin) {
                None => return Ok(None),
                Some(b'$') => {}
                Some(other) => return Err(Malformed::NotAString(*other)),
            }
            let Some(length) = self.number(input, Malformed::Length)? else { return Ok(None) };
            let length = usize::try_from(length).ok().filter(|length| *length <= STRING_BYTES_MAX);
            let end = self.at + length.ok_or(Malformed::Length)?;
            if input.len() < end + 2 {
                self.at = begin; // The length is read again: it is short.
                return Ok(None);
            }
            self.strings.push(self.at..end);
            self.at = end + 2;
            self.missing -= 1;
        }
        Ok(Some(self.done()))
    }

    /// Calls `then` with the strings of the request that was found in this input.
    pub fn with_strings<T>(&self, input: &[u8], then: impl FnOnce(&[&[u8]]) -> T) -> T {
        let from = if self.is_line { &self.line } else { input };
        let strings = self.strings.iter().map(|range| &from[range.clone()]);
        let mut few = [&[][..]; FEW_STRINGS];
        if strings.len() > FEW_STRINGS {
            return then(&strings.collect::<Vec<_>>());
        }
        few.iter_mut().zip(strings).for_each(|(to, text)| *to = text);
        then(&few[..self.strings.len()])
    }

    fn done(&mut self) -> usize {
        self.looked_at = 0;
        std::mem::take(&mut self.at)
    }

    /// Reads the number behind the byte that says what it counts; `None` if its line has not ended.
    fn number(&mut self, input: &[u8], wrong: Malformed) -> Result<Option<i64>, Malformed> {
        let Some(line) = input.get(self.at + 1..) else { return Ok(None) };
        let line = &line[..line.len().min(NUMBER_BYTES_MAX)];
        let Some(end) = line.windows(2).position(|end| end == b"\r\n") else {
            let too_long = line.len() == NUMBER_BYTES_MAX;
            return if too_long { Err(Malformed::NumberTooLong) } else { Ok(None) };
        };
        self.at += 1 + end + 2;
        integer(&line[..end]).map(Some).ok_or(wrong)
    }

    /// A request as a line: words, of which some may stand in quotes.
    fn typed(&mut self, input: &[u8]) -> Result<Option<usize>, Malformed> {
        let new = &input[self.looked_at..];
        let end = new.iter().position(|byte| *byte == b'\n').map(|at| self.looked_at + at);
        if end.unwrap_or(input.len()) > LINE_BYTES_MAX {
            return Err(Malformed::LineTooLong);
        }
        self.looked_at = input.len();
        let Some(end) = end else { return Ok(None) };
        self.line.clear();
        let mut rest = input[..end].trim_ascii();
        while !rest.is_empty() {
            let begin = self.line.len();
            rest = word(rest, &mut self.line).ok_or(Malformed::Quotes)?.trim_ascii_start();
            self.strings.push(begin..self.line.len());
        }
        self.at = end + 1;
        Ok(Some(self.done()))
    }
}

/// Appends the first word of a line, without its quotes, and returns the rest of the line; `None`
/// if a quote has no end, or its end is not the end of the word.
fn word<'a>(line: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let quote = line[0];
    if quote != b'"' && quote != b'\'' {
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        out.extend_from_slice(&line[..end]);
        return Some(&line[end..]);
    }
    let mut rest = &line[1..];
    loop {
        rest = match rest {
            [b'\\', b'x', high, low, more @ ..] if quote == b'"' && hex(*high, *low).is_some() => {
                out.extend(hex(*high, *low));
                more
            }
            [b'\\', byte, more @ ..] if quote == b'"' || *byte == b'\'' => {
                let escapes = [(b'n', b'\n'), (b'r', b'\r'), (b't', b'\t')];
                let known = escapes.iter().find(|(name, _)| quote == b'"' && name == byte);
                out.push(known.map_or(*byte, |(_, byte)| *byte));
                more
            }
            [byte, more @ ..] if *byte == quote => {
                let ends = more.first().is_none_or(u8::is_ascii_whitespace);
                return ends.then_some(more);
            }
            [byte, more @ ..] => {
                out.push(*byte);
                more
            }
            [] => return None,
        };
    }
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

/// A number as Redis reads it: no plus, no leading zero, no space.
pub fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = digits.first().is_some_and(|first| matches!(first, b'1'..=b'9')) || text == b"0";
    if plain { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// Replies, one behind the other, as they are sent.
#[derive(Debug, Default)]
pub struct Replies {
    pub bytes: Vec<u8>,
    /// True for a client that has asked for RESP3.
    pub resp3: bool,
    /// True if there was more than [`REPLY_BYTES_MAX`], which was left out.
    pub is_too_long: bool,
}

impl Replies {
    /// Returns true if there is room for so many bytes more.
    fn fits(&mut self, bytes: usize) -> bool {
        self.is_too_long |= self.bytes.len() + bytes > REPLY_BYTES_MAX;
        !self.is_too_long
    }

    fn line(&mut self, kind: char, text: impl fmt::Display) {
        let _ = write!(self.bytes, "{kind}{text}\r\n"); // A vector takes everything.
    }

    /// A word: `OK`, `PONG`.
    pub fn simple(&mut self, word: &str) {
        self.line('+', word);
    }

    /// An error: its kind in capitals, and a sentence.
    pub fn error(&mut self, error: impl fmt::Display) {
        let mut text = String::new();
        let _ = write!(text, "{error}");
        self.line('-', text.replace(['\r', '\n'], " ")); // A line must stay one.
    }

    pub fn integer(&mut self, value: i64) {
        self.line(':', value);
    }

    pub fn string(&mut self, value: &[u8]) {
        if self.fits(value.len() + 64) {
            self.line('$', value.len());
            self.bytes.extend_from_slice(value);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// The string, or that there is none.
    pub fn optional(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.string(value),
            None => self.null(),
        }
    }

    pub fn null(&mut self) {
        if !self.fits(64) {
            return;
        }
        self.bytes.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// There is no array: a wait is over, or a transaction did not happen.
    pub fn null_array(&mut self) {
        self.bytes.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// So many replies follow, which belong together.
    pub fn array(&mut self, count: usize) {
        self.line('*', count);
    }

    /// So many pairs of replies follow.
    pub fn map(&mut self, pairs: usize) {
        if self.resp3 { self.line('%', pairs) } else { self.array(2 * pairs) }
    }

    pub fn set(&mut self, count: usize) {
        self.line(if self.resp3 { '~' } else { '*' }, count);
    }

    /// Something that is no answer: a message of a channel.
    pub fn push(&mut self, count: usize) {
        self.line(if self.resp3 { '>' } else { '*' }, count);
    }

    pub fn double(&mut self, value: f64) {
        if self.resp3 {
            self.line(',', Double(value))
        } else {
            self.string(double(value).as_bytes())
        }
    }
}

struct Double(f64);

impl fmt::Display for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_infinite() => f.write_str(if value > 0.0 { "inf" } else { "-inf" }),
            // Nobody wants to read 300 zeros.
            value if value != 0.0 && !(1e-5..1e17).contains(&value.abs()) => write!(f, "{value:e}"),
            value => value.fmt(f),
        }
    }
}

/// A double as text: the shortest that reads as the same number.
pub fn double(value: f64) -> String {
    Double(value).to_string()
}
