//! Violations of the protocol or of a limit.
//!
//! # Read next
//! `decoder.rs`: where violations are found.

use std::fmt;

use super::close::code;

/// Input from a peer that breaks the protocol or exceeds a limit. The peer gets a Close with the
/// code, and the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Against RFC 6455, in so many words. Code 1002.
    Protocol(&'static str),
    /// A text or a reason that is not UTF-8. Code 1007.
    Utf8,
    /// More than [`Limits::message_bytes_max`](super::Limits::message_bytes_max). Code 1009.
    MessageTooBig {
        /// The limit.
        bytes_max: usize,
    },
    /// More than [`Limits::frame_bytes_max`](super::Limits::frame_bytes_max). Code 1009.
    FrameTooBig {
        /// The limit.
        bytes_max: usize,
    },
    /// More than [`Limits::fragments_max`](super::Limits::fragments_max). Code 1008.
    TooManyFragments {
        /// The limit.
        fragments_max: u32,
    },
    /// A message that took longer than
    /// [`Limits::message_timeout`](super::Limits::message_timeout). Code 1008.
    TooSlow,
}

impl Violation {
    /// The code in the Close that the peer gets.
    pub fn code(self) -> u16 {
        match self {
            Violation::Protocol(_) => code::PROTOCOL,
            Violation::Utf8 => code::INVALID,
            Violation::MessageTooBig { .. } | Violation::FrameTooBig { .. } => code::TOO_BIG,
            Violation::TooManyFragments { .. } | Violation::TooSlow => code::POLICY,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Protocol(text) => f.write_str(text),
            Violation::Utf8 => f.write_str("a text that is not UTF-8"),
            Violation::MessageTooBig { bytes_max } => {
                write!(f, "a message of more than {bytes_max} bytes")
            }
            Violation::FrameTooBig { bytes_max } => {
                write!(f, "a frame of more than {bytes_max} bytes")
            }
            Violation::TooManyFragments { fragments_max } => {
                write!(f, "a message of more than {fragments_max} fragments")
            }
            Violation::TooSlow => f.write_str("a message that took too long"),
        }
    }
}

impl std::error::Error for Violation {}
