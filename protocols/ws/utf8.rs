//! UTF-8 that comes in pieces: found to be wrong at its first wrong byte.
//!
//! Knows bytes only; std decides which bytes are a character.
//!
//! A message is checked when a piece of it is there, not when all of it is: a peer that sends
//! gigabytes of something else is stopped at once. A piece may end in the middle of a character,
//! whose bytes so far, three at most, are kept and tried again with those that follow.
//!
//! # Read next
//! `close.rs`: the codes a connection ends with.

use std::str;

/// How far a text has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Utf8 {
    /// The beginning of a character.
    begun: [u8; 4],
    count: u8,
}

impl Utf8 {
    /// Takes the next piece; false if there is a byte in it that no text has there.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> bool {
        while self.count > 0 {
            let Some((byte, rest)) = bytes.split_first() else { return true };
            self.begun[usize::from(self.count)] = *byte;
            self.count += 1;
            bytes = rest;
            match str::from_utf8(&self.begun[..usize::from(self.count)]) {
                Ok(_) => self.count = 0,
                // No length means that it only is too short: std looks at each byte for itself.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return false,
            }
        }
        match str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_none() => {
                let begun = &bytes[error.valid_up_to()..];
                self.begun[..begun.len()].copy_from_slice(begun);
                self.count = begun.len() as u8;
                true
            }
            Err(_) => false,
        }
    }

    /// Returns true if a text may end here.
    #[cfg(test)]
    pub(super) fn is_whole(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of the longest beginning that some text has, found one byte at a time by trying
    /// each byte that could follow.
    fn good_bytes(bytes: &[u8]) -> usize {
        let is_beginning = |bytes: &[u8]| {
            str::from_utf8(bytes).is_ok()
                || (0x80..=0xBF_u8).any(|a| {
                    let with = |more: &[u8]| str::from_utf8(&[bytes, more].concat()).is_ok();
                    with(&[a]) || with(&[a, 0x80]) || with(&[a, 0xBF]) || with(&[a, 0x80, 0x80])
                })
        };
        (0..=bytes.len()).rev().find(|count| is_beginning(&bytes[..*count])).unwrap()
    }

    const TEXTS: [&[u8]; 12] = [
        "κόσμε, 𐍈 and ascii".as_bytes(),
        b"",
        b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited", // A surrogate.
        b"\xF4\x90\x80\x80",                                               // Past U+10FFFF.
        b"\xF4\x8F\xBF\xBF",
        b"\xC0\xAF", // Longer than it need be, as are the next two.
        b"\xE0\x80\xAF",
        b"\xF0\x80\x80\xAF",
        b"\x80",
        b"a\xE2\x82",
        b"a\xE2\x82a",
        b"\xFE\xFF",
    ];

    #[test]
    fn wrong_byte_is_found_where_it_is_however_the_text_is_cut() {
        for text in TEXTS {
            let good = good_bytes(text);
            for cut in 0..=text.len() {
                let mut utf8 = Utf8::default();
                let first = utf8.push(&text[..cut]);
                assert_eq!(first, cut <= good, "{text:x?} cut at {cut}");
                if first {
                    assert_eq!(utf8.push(&text[cut..]), good == text.len(), "{text:x?} at {cut}");
                }
            }
        }
    }

    #[test]
    fn text_is_whole_where_a_character_ends() {
        let text = "aß€𐍈";
        let mut utf8 = Utf8::default();
        for (at, byte) in text.bytes().enumerate() {
            assert!(utf8.push(&[byte]));
            assert_eq!(utf8.is_whole(), text.is_char_boundary(at + 1), "{at}");
        }
    }
}
