//! TLS as a transport: a session, and the carrier of its ciphertext.
//!
//! Knows the session and any carrier; the connection decides when to read and write.
//!
//! ```text
//!   read   carrier ──▶ spare ──decrypted in place──▶ the caller's buffer
//!             incomplete record: `partial` ┘              └ without room there: `surplus`
//!   write  the caller's pieces ──sealed, a batch at a time──▶ spare ──▶ carrier
//!                                    bytes that the carrier does not take: `outgoing` ┘
//! ```
//!
//! A write that was sealed and did not go in full is not yet reported as written: the connection
//! keeps those bytes and offers them again. It learns that they went when their ciphertext has.
//! So the size of its outbox is always right, and no byte is sealed twice:
//!
//! ```text
//!   outbox of the connection   [ credit | unreported |  not sealed yet … ]
//!                                 sent    sealed: in `outgoing`
//! ```
//!
//! # Read next
//! `incoming.rs`: the way in; then `session.rs`: how the bytes are encrypted.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::net::SocketAddr;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::failure::failure;
use super::info::Info;
use super::sealed::{Sealed, offer, put_spare, take_spare};
use super::session::{RECORD_BYTES, Session};
use crate::net::Transport;
use crate::net::authors::Carrier;

/// Plaintext that is sealed before the carrier is offered it: four records for a system call.
const BATCH_BYTES: usize = 4 * RECORD_BYTES;
/// How often one read reads from the carrier, so that many records without data cannot hold up the
/// loop.
const PULLS_PER_READ: usize = 4;

/// A session and its carrier.
pub(super) struct Tls {
    pub(super) carrier: Carrier,
    pub(super) session: Session,
    /// Ciphertext that the carrier has not taken.
    pub(super) outgoing: Sealed,
    /// Bytes offered to `write` that are in `outgoing`.
    unreported: usize,
    /// Bytes whose ciphertext has gone since, which the next `write` will report.
    credit: usize,
    /// The beginning of a record.
    pub(super) partial: Vec<u8>,
    /// Plaintext for which the caller's buffer had no room: at most one record, and the
    /// records that came in one read with its end.
    pub(super) surplus: Vec<u8>,
    /// Why nothing more will be read, until that is reported.
    pub(super) failed: Option<io::Error>,
    /// True if the carrier may have more, even after a short read or `WouldBlock`.
    pub(super) more: bool,
    /// True if bytes came since the last call of `has_received`, and none could be delivered.
    pub(super) received: bool,
    /// True once the peer's close_notify has been reported.
    eof_reported: bool,
    /// True while close_notify is in `outgoing`; the carrier's own end follows.
    ends: bool,
}

impl Tls {
    /// A session about to begin. `clear` goes out before it, as it is; `early` is input that has
    /// come.
    pub(super) fn new(carrier: Carrier, session: Session, clear: &[u8], early: &[u8]) -> Tls {
        let mut tls = Tls {
            carrier,
            session,
            outgoing: Sealed::default(),
            unreported: 0,
            credit: 0,
            partial: Vec::new(),
            surplus: Vec::new(),
            failed: None,
            more: true,
            received: false,
            eof_reported: false,
            ends: false,
        };
        tls.outgoing.extend(clear);
        tls.session.look_for_name(early);
        tls.decrypt(&mut early.to_vec(), &mut []); // A client says hello even if nothing has come.
        tls
    }

    /// Goes on with the handshake, as far as the carrier allows. Returns true if it is over.
    ///
    /// # Errors
    /// It has failed. The alert for the peer is in [`unsent`](Tls::unsent).
    pub(super) fn advance_handshake(&mut self) -> io::Result<bool> {
        let (mut pulls, mut dry) = (0, false);
        loop {
            let sent = self.send();
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let sent = sent?;
            if !self.session.is_handshaking() {
                return Ok(sent || !self.session.is_awaited());
            }
            if dry || pulls == PULLS_PER_READ {
                self.more |= !dry;
                return Ok(false);
            }
            dry = self.pull(&mut []).is_none();
            pulls += 1;
        }
    }

    /// Returns true if the handshake has stopped to let others run: no edge will come for the rest.
    pub(super) fn stopped_early(&self) -> bool {
        self.session.is_handshaking() && self.has_more()
    }

    /// Ciphertext that the carrier has not taken.
    pub(super) fn unsent(&self) -> &[u8] {
        self.outgoing.pending()
    }

    /// Sends the sealed bytes. Returns true if all of them went.
    pub(super) fn send(&mut self) -> io::Result<bool> {
        while !self.outgoing.is_empty() {
            let pending = self.outgoing.pending();
            let (offered, result) = (pending.len(), offer(&mut self.carrier, pending));
            let sent = result.inspect_err(|_| self.forget())?;
            self.outgoing.consume(sent);
            self.note_sent(sent);
            if sent < offered {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `sent` bytes of ciphertext have gone. Until all have, they count as at most as many bytes of
    /// plaintext, and never as its last byte.
    fn note_sent(&mut self, sent: usize) {
        let all = self.outgoing.is_empty();
        let gone = if all { self.unreported } else { sent.min(self.unreported.saturating_sub(1)) };
        self.unreported -= gone;
        self.credit += gone;
    }

    /// Nothing more will be sent.
    fn forget(&mut self) {
        self.outgoing.clear();
        self.ends = false;
    }

    /// Seals a batch of `pieces`, behind the part that is sealed, and sends it. True if all went.
    fn send_batch(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<bool> {
        let mut batch = Sealed::within(take_spare());
        let (skip, partial) = (self.credit, &mut self.partial);
        let sealed = self.session.seal(pieces, skip, BATCH_BYTES, partial, &mut batch);
        let sealed = sealed.map_err(failure).inspect_err(|_| self.forget())?;
        self.unreported = sealed;
        let sent = offer(&mut self.carrier, batch.pending()).inspect_err(|_| self.forget())?;
        self.outgoing.extend(&batch.pending()[sent..]);
        self.note_sent(sent);
        put_spare(batch.into_buffer());
        Ok(self.outgoing.is_empty())
    }
}

impl Transport for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = self.give_surplus(buffer);
        self.more |= filled > 0; // The carrier may not be read now, and no edge will come again.
        for _ in 0..PULLS_PER_READ {
            let over = self.failed.is_some() || self.session.is_closed();
            let room = buffer.len() - filled;
            if over || room == 0 || filled > 0 && room < RECORD_BYTES {
                break;
            }
            let Some(count) = self.pull(&mut buffer[filled..]) else { break };
            filled += count;
            if filled > 0 && !self.more {
                break; // A short read of ours stands for one of the carrier's.
            }
            // If nothing was decrypted in the end, only the carrier may say `WouldBlock`.
            self.more = true;
        }
        if filled > 0 || buffer.is_empty() {
            self.received = false; // The bytes are delivered.
            return Ok(filled);
        }
        if let Some(error) = self.failed.take() {
            self.more = false;
            // An end without close_notify is no error of the session: it can still send.
            if error.kind() != io::ErrorKind::UnexpectedEof {
                self.forget();
            }
            return Err(error);
        }
        if self.session.is_closed() {
            self.eof_reported = true;
            return Ok(0);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        // The sealed bytes are the first of those that are offered, as they were the last time.
        let mut goes = self.send()?;
        while goes && self.credit < offered {
            goes = self.send_batch(pieces)?;
        }
        let gone = self.credit.min(offered);
        self.credit -= gone;
        if gone == 0 && offered > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(gone) }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.ends = true;
        // A session that has failed cannot send any more.
        let _ = self.session.finish(&mut self.partial, &mut self.outgoing);
        match self.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    fn has_own_unsent(&self) -> bool {
        !self.outgoing.is_empty() || self.ends || self.carrier.has_own_unsent()
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.send()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if mem::take(&mut self.ends) {
            self.carrier.transport().finish()?;
        }
        self.carrier.transport().flush()
    }

    fn buffered_bytes(&self) -> usize {
        let own = [self.outgoing.capacity(), self.partial.capacity(), self.surplus.capacity()];
        own.iter().sum::<usize>() + self.carrier.buffered_bytes()
    }

    fn has_more(&self) -> bool {
        if self.session.is_closed() {
            return !self.eof_reported; // Bytes behind close_notify do not count.
        }
        self.failed.is_some() || self.more || !self.surplus.is_empty()
    }

    fn has_received(&mut self) -> bool {
        mem::take(&mut self.received)
    }

    fn is_mid_message(&self) -> bool {
        !self.partial.is_empty() || self.carrier.is_mid_message()
    }

    /// Takes in records that have come, since tickets and new keys are not input of the program.
    fn is_silent(&mut self) -> bool {
        let is_dry = (0..PULLS_PER_READ).any(|_| self.pull(&mut []).is_none());
        let has_left = !self.surplus.is_empty() || self.is_mid_message();
        is_dry && !has_left && self.failed.is_none() && !self.session.is_closed()
    }

    fn reset_on_drop(&mut self) {
        self.carrier.transport().reset_on_drop();
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.carrier.peer_addr()
    }

    #[cfg(all(unix, feature = "peer-cred"))]
    fn peer_cred(&self) -> io::Result<crate::net::unix::Credentials> {
        self.carrier.peer_cred()
    }

    fn holds_descriptor(&self) -> bool {
        self.carrier.holds_descriptor()
    }

    fn has_one_peer(&self) -> bool {
        self.carrier.has_one_peer()
    }

    fn must_announce_end(&self) -> bool {
        true
    }
}

impl Source for Tls {
    fn register(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.carrier.register(to, token, interest)
    }

    fn reregister(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.carrier.reregister(to, token, interest)
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        self.carrier.deregister(from)
    }
}

impl Tls {
    pub(super) fn info(&self) -> Info<'_> {
        Info(&self.session)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("carrier", &self.carrier)
            .field("session", &Info(&self.session))
            .field("outgoing", &self.outgoing.pending().len())
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}
