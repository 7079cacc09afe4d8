//! Ciphertext on its way out, and the buffer that goes round.
//!
//! A thread has one spare buffer, as a loop has one scratch: ciphertext is read into it and sealed
//! in it. A connection owns a buffer only while a record is incomplete or its peer is slow.
//!
//! # Read next
//! `failure.rs`: the text of the errors.

use std::cell::Cell;
use std::io::{self, IoSlice};

use super::session::RECORD_WIRE_BYTES;
use crate::net::authors::Carrier;

/// Bytes of a spare buffer: for the plaintext of one read or batch, the records around it, and an
/// incomplete one in front.
const SPARE_BYTES: usize = 64 * 1024 + 2 * RECORD_WIRE_BYTES;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Takes the thread's spare buffer, of `SPARE_BYTES` at least. One that carries TLS in TLS takes
/// two.
pub(super) fn take_spare() -> Vec<u8> {
    let mut spare = SPARE.try_with(Cell::take).unwrap_or_default();
    if spare.len() < SPARE_BYTES {
        spare.resize(SPARE_BYTES, 0);
    }
    spare
}

/// Gives it back, unless it has grown.
pub(super) fn put_spare(spare: Vec<u8>) {
    if spare.len() == SPARE_BYTES {
        let _ = SPARE.try_with(|kept| kept.set(spare)); // Not when the thread is ending.
    }
}

/// Bytes to be sent, in a buffer that was initialised once.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Sealed {
    /// An empty one in this buffer.
    pub(super) fn within(bytes: Vec<u8>) -> Sealed {
        Sealed { bytes, from: 0, to: 0 }
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes of memory that it takes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Room for `count` bytes more, behind those that are pending.
    pub(super) fn room(&mut self, count: usize) -> &mut [u8] {
        if self.bytes.len() < self.to + count {
            self.bytes.resize(self.to + count, 0);
        }
        &mut self.bytes[self.to..]
    }

    /// Counts the bytes that were put there.
    pub(super) fn put(&mut self, count: usize) {
        self.to += count;
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.put(bytes.len());
    }

    /// The first `count` have gone.
    pub(super) fn consume(&mut self, count: usize) {
        self.from += count;
        debug_assert!(self.from <= self.to);
        if self.is_empty() {
            *self = Sealed::default(); // It belongs to a connection that may be idle from now on.
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Sealed::default();
    }
}

/// Writes until the carrier takes no more. Returns how many bytes it took.
pub(super) fn offer(carrier: &mut Carrier, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match carrier.write(&[IoSlice::new(&bytes[sent..])]) {
            Ok(0) => break,
            Ok(count) => {
                sent += count;
                if sent < bytes.len() && cfg!(unix) {
                    break; // Less than was offered: it is full, and will say when it is not.
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
