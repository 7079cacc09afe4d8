//! The way in: ciphertext from the carrier, plaintext to the reader.
//!
//! Knows the transport's buffers; called by `tls_transport.rs`.
//!
//! A read goes into the thread's spare buffer, behind the beginning of a record that was left the
//! last time, and is decrypted in place. The end of a read may cut a record, and its plaintext may
//! not fit the caller's buffer. So two things may be left, and both are small.
//!
//! # Read next
//! `session.rs`: how the bytes are decrypted.

use std::io;

use super::failure::{cut_off, failure};
use super::sealed::{put_spare, take_spare};
use super::session::RECORD_WIRE_BYTES;
use super::tls_transport::Tls;

/// Bytes of an incomplete record or message. A record has 18 KiB at most, a handshake message
/// 64 KiB (rustls's limit); more than this is a message in very small records.
const PARTIAL_BYTES_MAX: usize = 256 * 1024;

/// The fewest bytes that a read takes from the carrier, also if many are kept: a handshake message
/// may be larger than a record, and each read of it copies the kept bytes.
const PULL_BYTES_MIN: usize = 4 * 1024;

impl Tls {
    /// Reads from the carrier once and decrypts complete records; returns how much of `buffer` is
    /// filled. `None` if the carrier has nothing now; an edge comes when it has.
    pub(super) fn pull(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let kept = self.partial.len();
        // No more than there is room for, but a record in any case.
        let room = buffer.len().max(RECORD_WIRE_BYTES).saturating_sub(kept);
        let most = room.max(PULL_BYTES_MIN);
        let mut spare = take_spare();
        if spare.len() < kept + most {
            spare.resize(kept + most, 0);
        }
        let mut filled = Some(0);
        match self.carrier.read(&mut spare[kept..kept + most]) {
            Ok(0) => self.fail(cut_off(self.session.is_handshaking())),
            Ok(count) => {
                self.received = true;
                self.more = count == most || cfg!(windows) || self.carrier.has_more();
                self.session.look_for_name(&spare[kept..kept + count]);
                spare[..kept].copy_from_slice(&self.partial);
                filled = Some(self.decrypt(&mut spare[..kept + count], buffer));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.more = self.carrier.has_more();
                filled = if self.more { Some(0) } else { None };
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.more = true,
            Err(error) => self.fail(error),
        }
        put_spare(spare);
        filled
    }

    /// Decrypts the complete records in `spare` and keeps the rest; returns how much of `buffer` is
    /// filled.
    pub(super) fn decrypt(&mut self, spare: &mut [u8], buffer: &mut [u8]) -> usize {
        let (mut filled, surplus) = (0, &mut self.surplus);
        let mut plain = |bytes: &[u8]| {
            let fits = bytes.len().min(buffer.len() - filled);
            buffer[filled..filled + fits].copy_from_slice(&bytes[..fits]);
            filled += fits;
            surplus.extend_from_slice(&bytes[fits..]);
        };
        let taken = self.session.take_in(spare, &mut self.outgoing, &mut plain);
        let rest = match taken {
            // Bytes behind close_notify are to be ignored (RFC 8446, 6.1).
            Ok(_) if self.session.is_closed() => &[],
            Ok(taken) if spare.len() - taken <= PARTIAL_BYTES_MAX => &spare[taken..],
            Ok(_) => {
                self.fail(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a message of the handshake without end",
                ));
                &[]
            }
            Err(error) => {
                let _ = self.send(); // The alert. Why it is sent is the error that counts.
                self.fail(failure(error));
                &[]
            }
        };
        if rest.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(rest);
        }
        filled
    }

    fn fail(&mut self, error: io::Error) {
        self.failed.get_or_insert(error);
    }

    /// Delivers plaintext that had no room before.
    pub(super) fn give_surplus(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.surplus.len().min(buffer.len());
        if count > 0 {
            buffer[..count].copy_from_slice(&self.surplus[..count]);
            self.surplus.drain(..count);
            if self.surplus.is_empty() {
                self.surplus = Vec::new();
            }
        }
        count
    }
}
