//! The events of a WebSocket, and why it ends.
//!
//! # Read next
//! `shared_message.rs`: one message for many.

use std::fmt;
use std::io;

use super::close::code;
use super::violation::Violation;
use crate::net;

/// An event that a WebSocket delivers to its handler.
#[derive(Debug)]
pub enum Event<'a> {
    /// Of [`connect`](super::connect) only: it is there, and takes messages from now on.
    Open,
    /// A text. The slice is a buffer of the loop: copy the parts that you keep.
    Text(&'a str),
    /// A message that is no text; as for `Text`.
    Binary(&'a [u8]),
    /// The answer to a ping, or a pong without one.
    Pong(&'a [u8]),
    /// There is room again, after a message was `Refused` since there was none, or `AboveHigh`.
    Drained,
    /// It is over. The last event.
    Closed(Reason),
}

/// Why a WebSocket is over.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// In order: both ends have sent a Close. Code and reason are the peer's.
    Closed {
        /// As in [`code`]; 1005 if it had none.
        code: u16,
        /// Why, for people.
        reason: String,
    },
    /// The peer violated the protocol or a limit, and got a Close with the code.
    Violation(Violation),
    /// The peer was silent, and did not answer a ping in
    /// [`Limits::pong_timeout`](super::Limits::pong_timeout).
    PongTimeout,
    /// The peer did not answer our Close in
    /// [`Limits::close_timeout`](super::Limits::close_timeout).
    CloseTimeout,
    /// [`Socket::abort`](super::Socket::abort).
    Aborted,
    /// The handler panicked in the middle of the input, and it is unknown how far it came. The peer
    /// got a Close with 1011.
    Panicked,
    /// The connection under it ended without a Close: a network that failed, a peer that crashed
    /// or did not bother, a limit of the connection's.
    Lost(net::Reason),
    /// Of [`connect`](super::connect) only: the attempt failed.
    Connect(io::Error),
}

impl Reason {
    /// The peer's code; 1006 if the peer sent no Close (RFC 6455, 7.1.5).
    pub fn code(&self) -> u16 {
        match self {
            Reason::Closed { code, .. } => *code,
            _ => code::ABNORMAL,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Closed { code, reason } if reason.is_empty() => write!(f, "code {code}"),
            Reason::Closed { code, reason } => write!(f, "code {code} {reason:?}"),
            Reason::Violation(violation) => write!(f, "the peer sent {violation}"),
            Reason::PongTimeout => f.write_str("the peer did not answer a ping"),
            Reason::CloseTimeout => f.write_str("the peer did not answer a Close in time"),
            Reason::Aborted => f.write_str("aborted"),
            Reason::Panicked => f.write_str("the handler panicked"),
            Reason::Lost(net::Reason::Finished) => f.write_str("lost: it ended without a Close"),
            Reason::Lost(reason) => write!(f, "lost: {reason}"),
            Reason::Connect(error) => write!(f, "no WebSocket: {error}"),
        }
    }
}
