//! A network as a program sees it: connections with two ends, and what arrives at them.

use std::fmt;

/// An end of a connection: side 0 has connected, side 1 has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    pub line: usize,
    pub side: usize,
}

impl End {
    /// The end at the other side.
    pub fn other(self) -> End {
        End { line: self.line, side: 1 - self.side }
    }
}

/// What arrives at an end.
#[derive(Clone, PartialEq, Eq)]
pub enum Arrival {
    Bytes(Vec<u8>),
    /// The other side sends nothing more.
    Finished,
    /// The connection is gone.
    Reset,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arrival::Bytes(bytes) => write!(f, "Bytes({:?})", String::from_utf8_lossy(bytes)),
            Arrival::Finished => f.write_str("Finished"),
            Arrival::Reset => f.write_str("Reset"),
        }
    }
}

/// What may happen on the way, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The longest time that anything takes, in ms. The shortest is 1.
    pub delay_max_ms: u64,
    /// Of a hundred sends of two bytes or more, so many arrive in two pieces.
    pub cuts: u64,
    /// Of a hundred sends, so many meet a reset of their connection.
    pub resets: u64,
}

/// A network with a time of its own.
pub trait Network {
    /// Opens a connection. They are numbered from 0 on.
    fn connect(&mut self) -> usize;

    /// Sends bytes to the other end.
    fn send(&mut self, from: End, bytes: &[u8]);

    /// Sends nothing more. It is called once for an end, and `send` is not called any more.
    fn close(&mut self, from: End);

    /// What arrives next: when, in ms since the beginning, where, and what. `None`: nothing is under
    /// way.
    fn next(&mut self) -> Option<(u64, End, Arrival)>;
}
