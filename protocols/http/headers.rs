//! Header fields as they stand in the buffer.
//!
//! # Read next
//! `head.rs`: how they are parsed.

use std::fmt;
use std::str;

/// The header fields of a message, borrowed from the buffer it was read into.
#[derive(Clone, Copy)]
pub struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    pub(super) fn new(fields: &'a [httparse::Header<'a>]) -> Headers<'a> {
        Headers(fields)
    }

    /// The value of the first field of that name, in upper or lower case; `None` also if it is not
    /// UTF-8: for such values there is [`get_bytes`](Headers::get_bytes).
    pub fn get(self, name: &str) -> Option<&'a str> {
        str::from_utf8(self.get_bytes(name)?).ok()
    }

    /// As [`get`](Headers::get), also for values that are not UTF-8.
    pub fn get_bytes(self, name: &str) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// The values of all fields of that name, in order.
    pub fn get_all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let of_name = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        of_name.map(|field| field.value)
    }

    /// Returns true if a field of that name, a comma-separated list, has the token, in upper or
    /// lower case: as in `Connection: keep-alive, Upgrade`.
    pub fn has_token(self, name: &str, token: &str) -> bool {
        self.get_all(name)
            .any(|value| tokens(value).any(|found| found.eq_ignore_ascii_case(token.as_bytes())))
    }

    /// Names and values, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> {
        self.0.iter().map(|field| (field.name, field.value))
    }

    /// How many fields.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Returns true if there are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)));
        f.debug_map().entries(fields).finish()
    }
}

/// The members of a comma-separated list (RFC 9110, 5.6.1); empty ones do not count.
pub(super) fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let members = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    members.filter(|member| !member.is_empty())
}

/// Returns true if a field name may contain this byte (RFC 9110, 5.6.2).
#[inline]
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns true if a field value may contain this byte: of the control characters only the tab
/// (RFC 9110, 5.5).
#[inline]
pub(super) fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}
