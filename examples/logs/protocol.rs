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
    /// Bytes known to hold no end of a line.
    looked_at: usize,
}

impl Framing {
    /// The first message of the input, and the bytes that it takes; `None` if more are to come. It
    /// may be empty. Nothing comes behind the input if `is_end`. O(bytes), however it is cut: called
    /// again, it looks at what is new.
    pub fn next<'a>(&mut self, input: &'a [u8], is_end: bool) -> Option<(&'a [u8], usize)> {
        if let Some(Range { start, end }) = counted(input).filter(|_| !self.in_line) {
            return match input.get(start..end) {
                Some(message) => Some((message, end)),
                None if !is_end => None,
                None if input.get(start) == Some(&b'<') => Some((&input[start..], input.len())),
                None => line(input, 0, is_end).map(|(message, used, _)| (message, used)),
            };
        }
        let Some((message, used, goes_on)) = line(input, self.looked_at, is_end) else {
            self.looked_at = input.len();
            return None;
        };
        (self.in_line, self.looked_at) = (goes_on, 0);
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

/// The line in front, or as much of it as is a message; the bytes that it takes; if it goes on. It ends
/// at or behind `from`.
pub fn line(input: &[u8], from: usize, is_end: bool) -> Option<(&[u8], usize, bool)> {
    let seen = &input[..input.len().min(MESSAGE_BYTES_MAX + 1)];
    match seen[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at) {
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
        let plain = Head { priority: priority(message).unwrap_or(0), ..Head::default() };
        let Some(fields) = message[plain.priority..].strip_prefix(b"1 ") else { return plain };
        if plain.priority == 0 {
            return plain;
        }
        // Time, host, application, process, kind of message.
        let mut at = message.len() - fields.len();
        let mut host = &message[..0];
        for field in 0..5 {
            let length = message[at..].iter().position(|byte| *byte == b' ').unwrap_or(0);
            if length == 0 {
                return plain;
            }
            host = if field == 1 { &message[at..at + length] } else { host };
            at += length + 1;
        }
        let (start, mut head) = (at, Head { priority: plain.priority, ..Head::default() });
        while message.get(at) == Some(&b'[') {
            let Some(length) = element(&message[at..]) else { return plain };
            let inside = &message[at + 1..at + length - 1];
            // The first of them: what is passed on has ours in front.
            let own =
                inside.strip_prefix(OWN).filter(|it| it.starts_with(b" ") && head.id.is_none());
            if let Some(id) = own.and_then(|params| param(params, b" id=\"")) {
                head.own = at..at + length;
                head.id = Some((param(inside, b" from=\"").unwrap_or(host), id));
            }
            at += length;
        }
        at += usize::from(at == start && message.get(at) == Some(&b'-'));
        head.elements = Some(start..at).filter(|_| matches!(message.get(at), None | Some(b' ')));
        if head.elements.as_ref().is_none_or(Range::is_empty) {
            return plain;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(pieces: &[&[u8]]) -> Vec<String> {
        let (mut framing, mut input, mut all) = (Framing::default(), Vec::new(), Vec::new());
        for (at, piece) in pieces.iter().enumerate() {
            input.extend_from_slice(piece);
            while let Some((message, used)) = framing.next(&input, at + 1 == pieces.len()) {
                all.push(String::from_utf8_lossy(message).into_owned());
                input.drain(..used);
            }
        }
        assert!(input.is_empty(), "an end leaves nothing");
        all
    }

    #[test]
    fn framing_is_found_for_each_message_wherever_the_stream_is_cut() {
        let stream = b"<1>a\n7 <1>two\nb\n12 monkeys\n5 <2>\n\n99999 <x\n9 <3>short";
        let expected = ["<1>a", "<1>two\n", "b", "12 monkeys", "<2>\n\n", "99999 <x", "<3>short"];
        for cut in 0..=stream.len() {
            let (one, other) = stream.split_at(cut);
            assert_eq!(messages(&[one, other]), expected, "{cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(messages(&bytes), expected);
    }

    #[test]
    fn length_that_cannot_be_is_text() {
        for text in
            ["", "1", "12", "12 ", "0 <13>", "01 <1>", "65537 <1>x", "123456 <1>", "1  <", "1x"]
        {
            let expected: &[&str] = if text.is_empty() { &[] } else { &[text] };
            assert_eq!(messages(&[text.as_bytes()]), expected);
        }
        assert_eq!(messages(&[b"65536 <1>x"]), ["<1>x"]);
    }

    #[test]
    fn longer_line_goes_on_in_the_next_message_and_is_no_length() {
        let line = [&[b'x'; MESSAGE_BYTES_MAX][..], b"5 <1>rest\nnext\n"].concat();
        let all = messages(&[&line, b""]);
        assert_eq!(
            (all[0].len(), &all[1..]),
            (MESSAGE_BYTES_MAX, &["5 <1>rest".into(), "next".into()][..])
        );
        let exact = [&[b'x'; MESSAGE_BYTES_MAX][..], b"\n"].concat();
        assert_eq!(messages(&[&exact, b""]).len(), 1);
    }

    #[test]
    fn priority_is_0_to_191() {
        for good in ["<0>", "<13>", "<191>", "<00>"] {
            assert_eq!(priority(good.as_bytes()), Some(good.len()), "{good}");
        }
        for bad in ["", "<", "<>", "<192>", "<256>", "<1", "<-1>", "<+1>", "<1a>", "13>", "<0013>"]
        {
            assert_eq!(priority(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn id_is_that_of_our_element_in_a_message_of_rfc_5424() {
        let id = |text: &str| {
            let id = Head::of(text.as_bytes()).id.map(|(from, id)| [from, id].map(<[u8]>::to_vec));
            id.map(|both| both.map(|part| String::from_utf8(part).unwrap()).join("/"))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(id("<1>1 - h - - - [ww@32473 id=\"7\"] x"), some("h/7"));
        assert_eq!(id("<1>1 - h - - - [ww@32473 id=\"7\"]"), some("h/7"));
        assert_eq!(
            id("<1>1 - h a p m [a@1 x=\"\\\"]\"][ww@32473 id=\"7\" from=\"f\"] x"),
            some("f/7")
        );
        for none in [
            "<1>1 - h - - - - [ww@32473 id=\"7\"] x", // Text.
            "1 - h - - - [ww@32473 id=\"7\"] x",
            "<1>2 - h - - - [ww@32473 id=\"7\"] x",
            "<1>1 - h - - [ww@32473 id=\"7\"] x",
            "<1>1 -  - - - [ww@32473 id=\"7\"] x",
            "<1>1 - h - - - [ww@324730 id=\"7\"] x",
            "<1>1 - h - - - [ww@32473 id=\"\"] x",
            "<1>1 - h - - - [ww@32473 id=\"a b\"] x",
            "<1>1 - h - - - [ww@32473 id=\"7\" x",
            "<1>1 - h - - - [ww@32473 id=\"7\"]x",
            "<1>1 - h - - - [ww@32473 id=\"7\"][broken x",
        ] {
            assert_eq!(id(none), None, "{none}");
        }
    }

    #[test]
    fn message_is_passed_on_with_one_id_and_all_else_as_it_was() {
        let passed = |text: &str| {
            let mut out = Vec::new();
            write_frame(text.as_bytes(), 10, 7, &mut out);
            String::from_utf8(out).unwrap()
        };
        let own = "[ww@32473 id=\"7\" from=\"000000000000000a\"]";
        let framed = |text: &str| format!("{} {text}", text.len());
        for (text, expected) in [
            ("hello", format!("<13>1 - - - - - {own} hello")),
            (
                "<4>Oct 11 22:14:15 host su: hi",
                format!("<4>1 - - - - - {own} Oct 11 22:14:15 host su: hi"),
            ),
            ("<4>1 t h a p m - text", format!("<4>1 t h a p m {own} text")),
            ("<4>1 t h a p m -", format!("<4>1 t h a p m {own}")),
            (
                "<4>1 t h a p m [a@1 x=\"]\\\"\"] é\n",
                format!("<4>1 t h a p m {own}[a@1 x=\"]\\\"\"] é\n"),
            ),
            ("<4>1 t h a p m [ww@32473 id=\"1\"] x", format!("<4>1 t h a p m {own} x")),
            (
                "<4>1 t h a p m [a@1][ww@32473 id=\"1\"][b@1] x",
                format!("<4>1 t h a p m {own}[a@1][b@1] x"),
            ),
            (
                "<4>1 t h a p m [ww@32473 id=\"1\"][ww@32473 id=\"2\"] x",
                format!("<4>1 t h a p m {own}[ww@32473 id=\"2\"] x"),
            ),
            ("<4>1 t h a p m [broken x", format!("<4>1 - - - - - {own} 1 t h a p m [broken x")),
        ] {
            assert_eq!(passed(text), framed(&expected));
            // The receiver finds the id, and a second hop changes nothing but it.
            let again = passed(&expected);
            assert_eq!(again, framed(&expected));
        }
    }

    #[test]
    fn control_characters_are_three_octal_digits_in_the_output() {
        let mut out = Vec::new();
        let text = b"<1>a\0b\nc\x1b\td\x7f\xff\xc3\xa4";
        write_line(text, &Head::of(text), &mut out);
        assert_eq!(out, b"<1>a#000b#012c#033\td#177\xff\xc3\xa4\n");
    }
}
