//! Percent-encoding (RFC 3986, 2.1), and the pairs of a query.
//!
//! Knows text. A path is decoded strictly, since it chooses the handler. A query is decoded as
//! browsers do it, which refuses nothing. A URL that a person has typed is encoded where that is
//! necessary.
//!
//! # Read next
//! `framing.rs`: where a message ends.

use std::borrow::Cow;
use std::str;

/// An error of a URL's host.
pub const NOT_ASCII: &str = "its host has letters beyond ASCII, which are written as xn--…";

/// The bytes that a text stands for, each decoded once. An escape that is none stands for itself.
#[derive(Clone, Debug)]
pub struct Decoded<'a>(&'a [u8]);

/// Decodes a text that may have escapes, byte by byte.
pub fn decoded(text: &str) -> Decoded<'_> {
    Decoded(text.as_bytes())
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = match self.0 {
            [] => return None,
            [b'%', high, low, rest @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, rest),
                _ => (b'%', &self.0[1..]),
            },
            [byte, rest @ ..] => (*byte, rest),
        };
        self.0 = rest;
        Some(byte)
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// A part of a path as text; `None` for a bad escape, and for text that is not UTF-8.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let escapes = || text.bytes().enumerate().filter(|(_, byte)| *byte == b'%');
    let is_escape = |at: usize| match text.as_bytes()[at + 1..] {
        [high, low, ..] => hex(high).and(hex(low)).is_some(),
        _ => false,
    };
    if !escapes().all(|(at, _)| is_escape(at)) {
        return None;
    }
    String::from_utf8(decoded(text).collect()).ok().map(Cow::Owned)
}

/// A URL, or a part of one, as it may be sent: bytes beyond ASCII, spaces and the four marks that
/// no URL has are percent-encoded. Escapes stay, and so do control characters, so that they are
/// refused.
pub fn encoded(text: &[u8]) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii() && !matches!(byte, b' ' | b'"' | b'<' | b'>' | b'`');
    if let Ok(text) = str::from_utf8(text)
        && text.bytes().all(is_plain)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text {
        if is_plain(*byte) {
            out.push(char::from(*byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    Cow::Owned(out)
}

/// A URL as a person typed it, with percent-encoding for the characters that no URL may have. The
/// host is not encoded: a space in it is a mistake, and letters beyond ASCII have a code of their
/// own there, which is not known here.
pub fn typed(url: &str) -> Result<Cow<'_, str>, &'static str> {
    let all = encoded(url.as_bytes());
    if matches!(all, Cow::Borrowed(_)) {
        return Ok(all);
    }
    let from = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(from);
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, host) = authority.split_at(authority.rfind('@').unwrap_or(0));
    if !host.is_ascii() {
        return Err(NOT_ASCII);
    }
    let (user, rest) = (encoded(user.as_bytes()), encoded(rest.as_bytes()));
    Ok(Cow::Owned([scheme, &*user, host, &*rest].concat()))
}

/// The pairs of a query or of a form (`application/x-www-form-urlencoded`; WHATWG URL, 5.1), in
/// order: a plus is a space, a pair without `=` has an empty value, and bytes that are not
/// UTF-8 are replaced.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_form(name), decode_form(value))
    })
}

fn decode_form(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    let bytes: Vec<u8> = decoded(&spaced).collect();
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_decoded_once_and_strictly() {
        for (text, expected) in [
            ("", Some("")),
            ("a+b", Some("a+b")),
            ("a%20b", Some("a b")),
            ("%c3%BC%00", Some("\u{fc}\0")),
            ("%252e", Some("%2e")),
            ("%", None),
            ("%2", None),
            ("a%2", None),
            ("%zz", None),
            ("%+1", None),
            ("%%20", None),
            ("%c3", None),
            ("%ed%a0%80", None),
            ("%c0%af", None),
        ] {
            assert_eq!(decode(text).as_deref(), expected, "{text}");
        }
        assert!(matches!(decode("plain"), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn what_no_url_has_is_encoded_and_the_rest_stays() {
        for (text, expected) in [
            (&b"/a%20b?c=d&e[]={f}|^\\#g"[..], "/a%20b?c=d&e[]={f}|^\\#g"),
            (b"a b", "a%20b"),
            ("\u{fc}/\u{20ac}".as_bytes(), "%C3%BC/%E2%82%AC"),
            (b"\xfc\x80\xff", "%FC%80%FF"),
            (b"\"<>`", "%22%3C%3E%60"),
            (b"a\r\nb\t\x7f\0", "a\r\nb\t\x7f\0"),
            (b"", ""),
        ] {
            assert_eq!(encoded(text), expected);
        }
        assert!(matches!(encoded(b"http://plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn query_is_whatever_a_browser_reads() {
        let all = |query| pairs(query).map(|(a, b)| format!("{a}|{b}")).collect::<Vec<_>>();
        assert_eq!(all(""), [""; 0]);
        assert_eq!(all("a=1&b=2&&a=3&"), ["a|1", "b|2", "a|3"]);
        assert_eq!(all("a&=b&=&c=d=e"), ["a|", "|b", "|", "c|d=e"]);
        assert_eq!(all("a+b=%2B+%26%3d"), ["a b|+ &="]);
        assert_eq!(
            all("a=%&b=%4&c=%zz&d=%c3&e=%2541"),
            ["a|%", "b|%4", "c|%zz", "d|\u{fffd}", "e|%41"]
        );
        assert_eq!(all("%C3%BC=\u{fc}"), ["\u{fc}|\u{fc}"]);
    }
}
