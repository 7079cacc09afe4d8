//! A stream of bytes in both directions, each of which ends by itself; and the words that a stream
//! and its handler have for each other.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

/// A stream whose one direction may end before the other.
pub trait Duplex: Read + Write {
    /// Nothing more will be written. TCP sends FIN, behind all that was written before.
    ///
    /// # Errors
    /// If the connection has gone.
    fn finish(&mut self) -> io::Result<()>;
}

impl Duplex for mio::net::TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Duplex for mio::net::UnixStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Makes the call, again if a signal came first (`Interrupted`). `None`: the kernel has said
/// `WouldBlock`.
///
/// # Errors
/// Any other one that the call gives.
pub fn unless_later<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match call() {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Numbers of unsent bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At or below this mark there is room again.
    pub low: usize,
    /// Above this mark the writer should stop.
    pub high: usize,
    /// There are never more.
    pub max: usize,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// The bytes were taken.
    Below,
    /// They were taken, and more than `high` are unsent.
    AboveHigh,
    /// None of them were taken.
    Refused,
}

/// What a stream's handler gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Data(&'a [u8]),
    /// There is room again, after `AboveHigh`.
    Drained,
    /// The peer sends nothing more.
    End,
}

/// When a stream is to be driven next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    /// When the kernel reports it.
    #[default]
    Wait,
    /// In the next turn, whatever the kernel says.
    Again,
    /// Never: it is over.
    Over,
}
