//! The events of a connection, and the results of a write.
//!
//! Knows ids and codec errors; never mentions a socket.
//!
//! # Read next
//! `handler.rs`: the handler that gets them.

use std::fmt;
use std::io;

use super::codec::FrameError;

/// An event that a connection delivers to its handler.
#[derive(Debug)]
pub enum Event<'a> {
    /// Bytes have arrived. The slice is the loop's own buffer: copy the bytes to keep, or give them
    /// back with [`Conn::unread`](super::Conn::unread).
    Data(&'a [u8]),
    /// There is room again, after a write returned `AboveHigh` or `Refused`.
    Drained,
    /// The peer has finished writing. Without [`Limits::half_open`](super::Limits::half_open), the
    /// connection is closed when this event returns and the unsent bytes were sent.
    Eof,
    /// The connection is gone and its id stale. The last event. In it, [`lost`](crate::SourceId::lost)
    /// still returns how many of the accepted bytes were never sent.
    Closed(Reason),
}

/// Why a connection is gone.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// In order: all was sent, and the peer closed or its time to do so was up.
    Finished,
    /// The program called [`Conn::abort`](super::Conn::abort).
    Aborted,
    /// The peer reset it, or was gone when written to.
    Reset,
    /// After [`Limits::idle_timeout`](super::Limits::idle_timeout).
    IdleTimeout,
    /// After [`Limits::read_timeout`](super::Limits::read_timeout).
    ReadTimeout,
    /// After [`Limits::write_timeout`](super::Limits::write_timeout).
    WriteTimeout,
    /// [`Limits::close_grace`](super::Limits::close_grace) was up before all was sent.
    Grace,
    /// More bytes were left unread than
    /// [`Limits::backlog_bytes_max`](super::Limits::backlog_bytes_max).
    Backlog,
    /// Connections that share a [`BufferBudget`](super::BufferBudget) buffered too much together,
    /// and this one was among those that buffered most.
    Buffers,
    /// The codec refused a frame.
    Frame(FrameError),
    /// Any other error of the system.
    Error(io::Error),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Finished => "finished",
            Reason::Aborted => "aborted",
            Reason::Reset => "reset by the peer",
            Reason::IdleTimeout => "idle for too long",
            Reason::ReadTimeout => "the peer sent nothing useful for too long",
            Reason::WriteTimeout => "the peer took nothing for too long",
            Reason::Grace => "the peer did not take all before the close had to end",
            Reason::Backlog => "too many bytes were left unread",
            Reason::Buffers => "too much was buffered, and most of it for this one",
            Reason::Frame(error) => return error.fmt(f),
            Reason::Error(error) => return error.fmt(f),
        })
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Reason {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match error.kind() {
            ConnectionReset | BrokenPipe | ConnectionAborted => Reason::Reset,
            _ => Reason::Error(error),
        }
    }
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a peer that reads slowly is reported here; `let _ =` where that does not matter"]
pub enum Pressure {
    /// Taken.
    Below,
    /// Taken, and more is unsent than the high-water mark: stop until `Drained`.
    AboveHigh,
    /// Nothing was taken: there is no room for all of it. `Drained` follows when there is room. It
    /// does not follow a write that is larger than the limit.
    Refused,
    /// Nothing was taken, and nothing will be: the sending half has ended, or the connection is
    /// gone.
    Closed,
}

impl Pressure {
    /// Returns true if the bytes were taken: `Below` or `AboveHigh`.
    pub fn is_taken(self) -> bool {
        matches!(self, Pressure::Below | Pressure::AboveHigh)
    }
}
