//! The search for the end of a head that comes in pieces.
//!
//! Knows bytes; never parses them.
//!
//! # Read next
//! `head.rs`: the parser.

use super::head::HeadLimits;

/// Looks for the end of a head that comes in pieces, each byte once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Bytes of the head that were looked at.
    seen: usize,
    /// Parsed again at this length, finished or not.
    again: usize,
}

impl Scan {
    /// Returns true if it is worth parsing: at the first call, when the head has doubled since,
    /// when it is as long as it may be, and when there is a new blank line. `bytes` begins where it
    /// did in the call before.
    pub fn is_due(&mut self, bytes: &[u8], limits: HeadLimits) -> bool {
        let from = self.seen.saturating_sub(2);
        self.seen = bytes.len();
        let due = bytes.len() >= self.again || bytes.len() >= limits.head_bytes_max;
        if due {
            self.again = 2 * bytes.len();
        }
        due || has_blank_line(&bytes[from..])
    }
}

/// Returns true if there is a blank line, in any place: the parser checks if the rest is right.
fn has_blank_line(bytes: &[u8]) -> bool {
    let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    ends.any(|(at, _)| matches!(bytes[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}
