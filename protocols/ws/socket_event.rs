//! The events of a WebSocket, and why it ends.
//!
//! # Read next
//! `message.rs`: one message for many.

use std::fmt;
use std::io;

use super::close::code;
use super::fault::Fault;
use crate::net;

/// An event that a WebSocket delivers to its handler.
#[derive(Debug)]
pub enum Event<'a> {
    /// Of [`connect`](super::connect) only: it is there, and what is sent from now on is taken.
    Open,
    /// A text. The slice is a buffer of the loop: copy what is to be kept.
    Text(&'a str),
    /// A message that is no text; as for `Text`.
    Binary(&'a [u8]),
    /// An answer to a ping, or one that nobody asked for.
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
    /// In order: both ends have sent a Close. These are the peer's.
    Closed {
        /// As in [`code`]; 1005 if it had none.
        code: u16,
        /// Why, for people.
        reason: String,
    },
    /// The peer sent what it may not, and got a Close with the code.
    Fault(Fault),
    /// The peer was silent, and did not answer a ping in
    /// [`Limits::pong_timeout`](super::Limits::pong_timeout).
    PongTimeout,
    /// The peer did not answer our Close in
    /// [`Limits::close_timeout`](super::Limits::close_timeout).
    CloseTimeout,
    /// [`Socket::abort`](super::Socket::abort).
    Aborted,
    /// The handler panicked in the middle of what had arrived, and nobody knows how far it came.
    /// The peer got a Close with 1011.
    Panicked,
    /// The connection under it ended without a Close: a network that failed, a peer that crashed
    /// or did not bother, a limit of the connection's.
    Lost(net::Reason),
    /// Of [`connect`](super::connect) only: it never came to be.
    Connect(io::Error),
}

impl Reason {
    /// The peer's code, or what stands for it (RFC 6455, 7.1.5): 1006 where the peer sent no Close.
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
            Reason::Fault(fault) => write!(f, "the peer sent {fault}"),
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
