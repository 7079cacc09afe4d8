//! Syslog: bytes in, messages out, and a message as it is passed on. No socket, no file.
//!
//! ```text
//!   <13>Oct 11 22:14:15 host su: hello\n                          a line (RFC 3164, or any text)
//!   61 <13>1 2026-10-11T22:14:15Z host app 7 - [a@1 x="1"] hello  so many bytes (RFC 6587, RFC 5424)
//!      priority, version    ── fields ──       elements    text
//! ```
//!
//! As rsyslog does: both kinds of framing may alternate on a connection; a longer line goes on in
//! the next message; a length that cannot be is text; a message without a priority gets `<13>`; in
//! the output control characters are `#` and three octal digits; bytes that are no UTF-8 stay. Other
//! than there, a length counts only with a `<` behind it, so `12 monkeys` is a line; and what an
//! ended stream leaves unfinished is a message.

use std::ops::Range;

/// Bytes of a message; what is longer is cut into several. 8 KiB, as for rsyslog.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a message that says its length: room for one of 8 KiB that other collectors pass on.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// The element with the id of a message.
const OWN: &[u8] = b"ww@32473";
const NO_PRIORITY: &[u8] = b"<13>";

/// Finds messages in a stream, wherever it is cut.
#[derive(Default)]
pub struct Framing {
    /// True if a line was too long and goes on.
    in_line: bool,
}

impl Framing {
    /// The first message of the input, and the bytes that it takes; `None` if more are to come. It
    /// may be empty. Nothing comes behind the input if `is_end`. O(8 KiB) for an unfinished one.
    pub fn next<'a>(&mut self, input: &'a [u8], is_end: bool) -> Option<(&'a [u8], usize)> {
        if let Some(Range { start, end }) = counted(input).filter(|_| !self.in_line) {
            return match input.get(start..end) {
                Some(message) => Some((message, end)),
                None if !is_end => None,
                None if input.get(start) == Some(&b'<') => Some((&input[start..], input.len())),
                None => line(input, is_end).map(|(message, used, _)| (message, used)),
            };
        }
        let (message, used, goes_on) = line(input, is_end)?;
        self.in_line = goes_on;
        Some((message, used))
    }
}

/// Where the message is that begins with its length; beyond the input, if it may be one.
fn counted(input: &[u8]) -> Option<Range<usize>> {
    let digits = input.iter().take_while(|byte| byte.is_ascii_digit()).take(6).count();
    let behind = &input[digits..];
    if !(1..6).contains(&digits)
        || input[0] == b'0'
        || !b" <".starts_with(&behind[..behind.len().min(2)])
    {
        return None;
    }
    let length = input[..digits].iter().fold(0, |sum, digit| 10 * sum + usize::from(digit - b'0'));
    (length <= FRAME_BYTES_MAX).then_some(digits + 1..digits + 1 + length)
}

/// The line in front, or as much of it as is a message; the bytes that it takes; if it goes on.
pub fn line(input: &[u8], is_end: bool) -> Option<(&[u8], usize, bool)> {
    let seen = &input[..input.len().min(MESSAGE_BYTES_MAX + 1)];
    match seen.iter().position(|byte| *byte == b'\n') {
        Some(end) => Some((&input[..end], end + 1, false)),
        None if seen.len() > MESSAGE_BYTES_MAX => {
            Some((&input[..MESSAGE_BYTES_MAX], MESSAGE_BYTES_MAX, true))
        }
        None => (is_end && !input.is_empty()).then_some((input, input.len(), false)),
    }
}

/// The parts of a message that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// Bytes of the priority, with its brackets; 0 without one.
    pub priority: usize,
    /// The elements of RFC 5424, or its `-`, if all of the head is as it says.
    elements: Option<Range<usize>>,
    /// Our element among them.
    own: Range<usize>,
    /// The id that it has, and its sender: `from`, or else the field with the host.
    pub id: Option<(&'a [u8], &'a [u8])>,
}

impl Head<'_> {
    pub fn of(message: &[u8]) -> Head<'_> {
        let mut head = Head { priority: priority(message).unwrap_or(0), ..Head::default() };
        let Some(fields) = message[head.priority..].strip_prefix(b"1 ") else { return head };
        if head.priority == 0 {
            return head;
        }
        // Time, host, application, process, kind of message.
        let mut at = message.len() - fields.len();
        let mut host = &message[..0];
        for field in 0..5 {
            let length = message[at..].iter().position(|byte| *byte == b' ').unwrap_or(0);
            if length == 0 {
                return head;
            }
            host = if field == 1 { &message[at..at + length] } else { host };
            at += length + 1;
        }
        let start = at;
        while message.get(at) == Some(&b'[') {
            let Some(length) = element(&message[at..]) else { return head };
            let inside = &message[at + 1..at + length - 1];
            let own = inside.strip_prefix(OWN).filter(|rest| rest.starts_with(b" "));
            if let Some(id) = own.and_then(|params| param(params, b" id=\"")) {
                head.own = at..at + length;
                head.id = Some((param(inside, b" from=\"").unwrap_or(host), id));
            }
            at += length;
        }
        at += usize::from(at == start && message.get(at) == Some(&b'-'));
        head.elements = Some(start..at).filter(|_| matches!(message.get(at), None | Some(b' ')));
        head.own = head.own.start..head.own.end;
        if head.elements.as_ref().is_none_or(Range::is_empty) {
            return Head { priority: head.priority, ..Head::default() };
        }
        head
    }
}

/// The bytes of `<N>`, N of 0 to 191.
fn priority(message: &[u8]) -> Option<usize> {
    let digits = message.strip_prefix(b"<")?;
    let end = digits.iter().take(4).position(|byte| *byte == b'>')?;
    let number: u8 = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    (number < 192 && digits[0] != b'+').then_some(end + 2)
}

/// The bytes of the element in front: `[name key="value" …]`, with `\"`, `\\` and `\]` in a value.
fn element(input: &[u8]) -> Option<usize> {
    let (mut is_quoted, mut at) = (false, 1);
    loop {
        match *input.get(at)? {
            b'\\' if is_quoted => at += 1,
            b'"' => is_quoted = !is_quoted,
            b']' if !is_quoted => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
}

/// The value behind ` key="`, if it has no escapes and no control characters: ours has none.
fn param<'a>(params: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = params.windows(key.len()).position(|window| window == key)? + key.len();
    let end = params[at..].iter().position(|byte| *byte == b'"')?;
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'\\';
    Some(&params[at..at + end]).filter(|value| !value.is_empty() && value.iter().all(is_plain))
}

/// The message as a line of the output.
pub fn write_line(message: &[u8], head: &Head<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(if head.priority == 0 { NO_PRIORITY } else { b"" });
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    let mut rest = message;
    while let Some(at) = rest.iter().position(is_control) {
        out.extend_from_slice(&rest[..at]);
        let byte = rest[at];
        out.extend([b'#', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\n');
}

/// The message as it is passed on: with its length in front, of RFC 5424, and with an id of ours.
/// If it is not of RFC 5424, all behind the priority is the text of one whose fields are empty.
pub fn write_frame(message: &[u8], from: u64, id: u64, out: &mut Vec<u8>) {
    let Head { priority, elements, own, .. } = Head::of(message);
    let given = if priority == 0 { NO_PRIORITY } else { &message[..priority] };
    let element = format!("[ww@32473 id=\"{id}\" from=\"{from:016x}\"]");
    let parts = match elements {
        Some(Range { start, end }) => {
            let own = if own.is_empty() { start..start } else { own };
            let others = [&message[start..own.start], &message[own.end..end]];
            let [before, behind] = if message[start] == b'-' { [&b""[..]; 2] } else { others };
            [&message[..start], b"", element.as_bytes(), before, behind, &message[end..]]
        }
        None => [given, b"1 - - - - - ", element.as_bytes(), b" ", &message[priority..], b""],
    };
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
