//! The body of a request on its way out.
//!
//! Knows the chunked coding and how many bytes are still to come; of the connection only that bytes
//! can be written to it.
//!
//! *Early* bytes wait here, bounded as in an outbox: those that are written before the connection
//! is there, or before the server has sent 100.
//!
//! # Read next
//! `transfer.rs`: when sending begins.

use std::fmt::Write;

use super::client_request::RequestBody;
use crate::net::{Conn, Pressure};

/// Bytes that may be written before the connection takes any. 1 MiB: above that a write is refused.
const EARLY_BYTES_MAX: usize = 1024 * 1024;
/// Above this they are too many, as an outbox's high-water mark. 256 KiB.
const EARLY_BYTES_HIGH: usize = 256 * 1024;

/// The body of one request.
#[derive(Debug)]
pub(super) struct Upload {
    /// How the caller's bytes are framed, and how many are still to come.
    left: Left,
    /// True once bytes may go to the connection.
    pub(super) open: bool,
    /// Framed already.
    early: Vec<u8>,
    /// True if a write returned `AboveHigh` or `Refused`: `Drained` follows when there is room.
    pub(super) drained_due: bool,
    /// True if `end` came before the announced length was written.
    pub(super) is_short: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Length(u64),
    Chunked,
    /// All was written, or nothing is to be.
    Nothing,
}

impl Upload {
    pub(super) fn new(body: &RequestBody) -> Upload {
        let left = match body {
            RequestBody::Stream(Some(length)) => Left::Length(*length),
            RequestBody::Stream(None) => Left::Chunked,
            RequestBody::None | RequestBody::Bytes(_) => Left::Nothing,
        };
        Upload { left, open: false, early: Vec::new(), drained_due: false, is_short: false }
    }

    /// Returns true if all was handed to the connection.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.left, Left::Nothing | Left::Length(0))
            && self.early.is_empty()
            && !self.is_short
    }

    /// Takes all of the bytes, or none.
    pub(super) fn write(&mut self, conn: Option<&mut Conn>, bytes: &[u8]) -> Pressure {
        let count = bytes.len() as u64;
        let fits = match self.left {
            Left::Length(left) => count <= left,
            Left::Chunked => true,
            Left::Nothing => false,
        };
        if !fits {
            let ended = self.left == Left::Nothing;
            return if ended { Pressure::Closed } else { Pressure::Refused };
        }
        if bytes.is_empty() {
            return Pressure::Below; // As a chunk it would be the last.
        }
        let mut line = String::new();
        let chunked = self.left == Left::Chunked;
        if chunked {
            let _ = write!(line, "{count:x}\r\n"); // A string takes all.
        }
        let tail: &[u8] = if chunked { b"\r\n" } else { b"" };
        let pieces = [line.as_bytes(), bytes, tail];
        let pressure = match conn {
            Some(conn) if self.open => conn.write_all(&pieces),
            _ => self.keep(&pieces),
        };
        self.drained_due |= pressure != Pressure::Below;
        if let Left::Length(left) = &mut self.left
            && pressure.is_taken()
        {
            *left -= count;
        }
        pressure
    }

    fn keep(&mut self, pieces: &[&[u8]]) -> Pressure {
        let count: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.early.len() + count > EARLY_BYTES_MAX {
            return Pressure::Refused;
        }
        pieces.iter().for_each(|piece| self.early.extend_from_slice(piece));
        if self.early.len() > EARLY_BYTES_HIGH { Pressure::AboveHigh } else { Pressure::Below }
    }

    /// The caller has written all.
    pub(super) fn end(&mut self, conn: Option<&mut Conn>) {
        match self.left {
            Left::Chunked => {
                const LAST: &[u8] = b"0\r\n\r\n";
                match conn {
                    // Beyond the outbox's limit if need be: five bytes, once.
                    Some(conn) if self.open => conn.write_last(LAST),
                    _ => self.early.extend_from_slice(LAST),
                }
            }
            Left::Length(left) => self.is_short |= left > 0,
            Left::Nothing => {}
        }
        self.left = Left::Nothing;
    }

    /// The connection takes bytes from now on.
    pub(super) fn open(&mut self, conn: &mut Conn) {
        self.open = true;
        let early = std::mem::take(&mut self.early);
        let pressure = conn.write(&early);
        // The outbox has more room than early bytes may take, and so far it has had a head only.
        debug_assert!(pressure.is_taken());
    }
}
