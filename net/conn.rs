//! A connection: one buffered byte stream and what may be done with it.
//!
//! Knows its transport and its limits; the loop's side of it is in `drive.rs`.
//!
//! Two halves end on their own, and the connection when both have:
//!
//! ```text
//!   sending     Open ──shutdown, close, Eof──▶ Finishing ──outbox sent: FIN──▶ Finished
//!   receiving   Open ──FIN read: Eof told─────────────────────────────────────▶ Finished
//!
//!   both Finished ───────────────────────────────▶ Closed(Finished)
//!   close, and the grace runs out ───────────────▶ Closed(Finished), or Grace if bytes are unsent
//!   abort, a timeout, an error, a bad frame ─────▶ Closed(that)
//! ```
//!
//! `Eof` finishes sending unless `Limits::half_open` says otherwise. Where a write fails, what the
//! peer sent before is read first (its *last words*).
//!
//! # Rules
//! 1. `Closed` is told exactly once for each connection, whatever ended it, and is the last event;
//!    its id is stale by then. One that was deregistered, removed, or dropped after a panic or with
//!    the loop is told nothing.
//! 2. `Data` carries each byte once and in order until `close`, `abort` or an error; those given
//!    back with `unread` come again.
//! 3. A refused write takes nothing. The outbox never holds more than its limit.
//! 4. Methods take effect at once; their news (`Drained`, `Closed`) come as events, never from
//!    inside the call.
//!
//! # Read next
//! `drive.rs`.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::codec::FrameError;
use super::event::{Pressure, Reason};
use super::limits::{Limits, Seat};
use super::transport::Io;
use crate::reactor::Cork;

/// Bytes from which a write does not wait for the callback's end: with this much to send, a system
/// call more costs less than copying it.
const WRITE_THROUGH_BYTES: usize = 16 * 1024;

/// How far one half of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Open,
    /// Sending only: to be finished once the outbox is empty.
    Finishing,
    Finished,
}

/// Bits of `Conn::marks`.
pub(super) mod mark {
    /// Reading is paused by the handler.
    pub(in crate::net) const PAUSED: u16 = 1;
    /// Reading was resumed: the backlog is to be delivered again, and the kernel asked.
    pub(in crate::net) const RESUMED: u16 = 2;
    /// The kernel takes no more; it will say when it does.
    pub(in crate::net) const BLOCKED: u16 = 4;
    /// `Drained` is owed.
    pub(in crate::net) const ABOVE: u16 = 8;
    /// `close` was called: input is discarded.
    pub(in crate::net) const CLOSING: u16 = 16;
    /// The grace of a close has begun to run.
    pub(in crate::net) const LINGERING: u16 = 32;
    /// A deadline is armed, not later than any that the limits ask for.
    pub(in crate::net) const ARMED: u16 = 64;
    /// Sending failed; what the peer had sent before is still to be read.
    pub(in crate::net) const LAST_WORDS: u16 = 128;
    /// `Drained` is owed when all is sent: what was refused fits into an empty outbox only.
    pub(in crate::net) const WHOLE: u16 = 256;
    /// The kernel has taken bytes since the last flush.
    pub(in crate::net) const SENT: u16 = 512;
    /// One end of a link: it may be half open, whatever its limits say.
    pub(in crate::net) const LINKED: u16 = 1024;
    /// The rate holds reading up, until the tick in `progress`.
    pub(in crate::net) const SLOWED_IN: u16 = 2048;
    /// The rate holds sending up, until the tick in the outbox's `since`.
    pub(in crate::net) const SLOWED_OUT: u16 = 4096;
    /// Sending failed before the peer's FIN came, so none will: an end of input that is read is
    /// what a reset has left.
    pub(in crate::net) const CUT_OFF: u16 = 8192;
    /// The handler will answer later.
    pub(in crate::net) const HELD: u16 = 16384;
    /// To be closed as soon as it is idle.
    pub(in crate::net) const DRAINING: u16 = 32768;
}

/// Bytes received and not consumed.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) bytes: Vec<u8>,
    /// How many of them, from the front, have been consumed.
    pub(super) consumed: usize,
}

/// One buffered connection. 72 bytes: ten thousand idle ones are this times ten thousand.
#[derive(Debug)]
pub struct Conn {
    pub(super) io: Io,
    /// Unsent bytes; `None` if there are none, or the loop's own buffer during its own callback.
    pub(super) outbox: Option<Box<Cork>>,
    /// Unconsumed bytes; `None` if there are none.
    pub(super) backlog: Option<Box<Backlog>>,
    pub(super) seat: Seat,
    /// Why it is over, from the moment that is known until it is told.
    pub(super) end: Option<Box<Reason>>,
    /// The tick of the last byte in either direction; 0 while no limit asks.
    pub(super) heard: u64,
    /// The tick at which the handler last consumed input, or at which the grace began; or at which
    /// the rate lets reading go on.
    pub(super) progress: u64,
    /// How many of the bytes delivered last were given back. Written by `unread`.
    pub(super) kept: u32,
    pub(super) sending: Half,
    pub(super) receiving: Half,
    pub(super) marks: u16,
}

impl Conn {
    pub(super) fn new(io: Io, seat: Seat) -> Conn {
        Conn {
            io,
            outbox: None,
            backlog: None,
            seat,
            end: None,
            heard: 0,
            progress: 0,
            kept: 0,
            sending: Half::Open,
            receiving: Half::Open,
            marks: 0,
        }
    }

    /// Sends all of the bytes, or none. They collect, and leave in one system call: when this
    /// connection's own callback returns, else before the loop next waits. From 16 KiB unsent on
    /// they are offered to the kernel at once.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        self.put(bytes, WRITE_THROUGH_BYTES)
    }

    /// Takes all of the bytes or none; from `through` unsent on they are offered to the kernel.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8], through: usize) -> Pressure {
        let unsent = self.unsent();
        if self.sending != Half::Open {
            return Pressure::Refused;
        }
        let max = self.seat.outbox_bytes_max;
        if unsent + bytes.len() > max {
            self.marks |= match bytes.len() {
                // `Drained` would be a lie where it could never fit, and at the low-water mark
                // where it does not fit yet.
                count if count > max => 0,
                count if count > max.saturating_sub(self.seat.outbox_bytes_low) => {
                    mark::ABOVE | mark::WHOLE
                }
                _ => mark::ABOVE,
            };
            return Pressure::Refused;
        }
        // The rate is asked in `flush`, which knows the time.
        let later = self.has(mark::BLOCKED) || self.seat.write_rate.is_some();
        let taken =
            if unsent + bytes.len() < through || later { 0 } else { self.write_through(bytes) };
        if taken < bytes.len() {
            self.outbox.get_or_insert_default().bytes.extend(&bytes[taken..]);
        }
        if self.unsent() > self.seat.outbox_bytes_high {
            self.marks |= mark::ABOVE;
            return Pressure::AboveHigh;
        }
        Pressure::Below
    }

    /// Bytes written and not yet taken by the kernel.
    #[inline]
    pub fn unsent(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes.len())
    }

    /// Gives back the last `count` bytes of the `Data` being handled: they come again, in front of
    /// what arrives next. For incomplete frames; nothing is copied when it happens again and again.
    /// A handler that deregisters the connection hands the rest on by [`Stream::unread`] instead.
    ///
    /// [`Stream::unread`]: super::Stream::unread
    pub fn unread(&mut self, count: usize) {
        self.kept = u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// Bytes that were given back, to be looked at when the peer finishes in the middle of a frame.
    pub fn backlog(&self) -> &[u8] {
        self.backlog.as_ref().map_or(&[], |backlog| &backlog.bytes[backlog.consumed..])
    }

    /// Delivers no more `Data` until [`resume`](Conn::resume). The peer is slowed down when the
    /// kernel's buffer is full; that it has gone is noticed by a write, a timeout, or on resuming.
    pub fn pause(&mut self) {
        self.marks |= mark::PAUSED;
        self.marks &= !mark::RESUMED;
    }

    /// Takes a [`pause`](Conn::pause) back, in the next turn.
    pub fn resume(&mut self) {
        if self.has(mark::PAUSED) {
            self.marks &= !mark::PAUSED;
            self.marks |= mark::RESUMED;
        }
    }

    /// Whether reading is paused.
    pub fn is_paused(&self) -> bool {
        self.has(mark::PAUSED)
    }

    /// Finishes sending: FIN after what is unsent. Receiving goes on.
    pub fn shutdown(&mut self) {
        if self.sending == Half::Open {
            self.sending = Half::Finishing;
        }
    }

    /// Closes gracefully: no more `Data`; what is unsent is sent, then FIN, and then the peer's FIN
    /// is awaited. All within [`Limits::close_grace`].
    ///
    /// What the peer still sends is read and discarded meanwhile: closing a socket with unread
    /// input would be a reset, and that may destroy the end of our answer at the peer (RFC 1122,
    /// 4.2.2.13). A pipe or a terminal is closed as soon as all is sent.
    pub fn close(&mut self) {
        self.shutdown();
        self.marks |= mark::CLOSING;
        if !self.io.is_one_peer() {
            self.receiving = Half::Finished; // Input is not ours to discard, and harms nobody.
        }
    }

    /// Closes at once: unsent bytes are dropped and the peer gets a reset.
    pub fn abort(&mut self) {
        if self.sending != Half::Finished || self.receiving != Half::Finished {
            self.io.transport().reset_on_drop();
            self.fail(Reason::Aborted);
        }
    }

    /// Closes because of a bad frame; what is unsent is still sent.
    pub(super) fn close_for(&mut self, error: FrameError) {
        self.close();
        self.end_with(Reason::Frame(error));
    }

    /// Whether no more `Data` will come: it is closed, closing or aborted.
    pub fn is_closing(&self) -> bool {
        self.has(mark::CLOSING) || self.end.is_some() && !self.has(mark::LAST_WORDS)
    }

    /// Whether the peer has finished, and all that it sent was delivered.
    pub(super) fn is_read_out(&self) -> bool {
        self.receiving == Half::Finished
    }

    /// Whether it is known why this is over; it is told soon.
    pub(super) fn has_failed(&self) -> bool {
        self.end.is_some()
    }

    /// Whether it stays open for writing when the peer has finished.
    pub(super) fn may_be_half_open(&self) -> bool {
        self.seat.half_open || self.has(mark::LINKED) || self.io.is_one_way()
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.seat
    }

    /// Changes this connection's limits. Its own copy of them costs some 130 bytes, so limits that
    /// are the same for all belong to the listener.
    pub fn set_limits(&mut self, limits: Limits) {
        if !self.seat.is_timed() {
            self.heard = 0; // Nobody has noted the traffic until now.
        }
        self.seat.set_limits(limits);
        self.marks &= !mark::ARMED;
        self.forget_rates();
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` once the peer is gone; `Unsupported` where the transport has no addresses.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }

    /// Who is at the other end, by process, user and group: of a Unix stream the kernel knows.
    ///
    /// # Errors
    /// `Unsupported` for any other transport.
    #[cfg(all(unix, feature = "peer-cred"))]
    pub fn peer_cred(&self) -> io::Result<super::unix::Credentials> {
        self.io.peer_cred()
    }

    #[inline]
    pub(super) fn has(&self, mark: u16) -> bool {
        self.marks & mark != 0
    }

    /// Notes why the connection is over, unless something did before.
    pub(super) fn end_with(&mut self, reason: Reason) {
        self.end.get_or_insert_with(|| Box::new(reason));
    }

    /// Ends both halves at once.
    pub(super) fn fail(&mut self, reason: Reason) {
        self.end_with(reason);
        self.outbox = None;
        self.sending = Half::Finished;
        self.receiving = Half::Finished;
        self.marks &= !mark::LAST_WORDS;
    }

    /// Ends sending because a write failed. The peer may have sent something before it went.
    fn fail_sending(&mut self, error: io::Error) {
        if !self.io.is_one_peer() {
            return self.fail(error.into());
        }
        // A reset is told once. Told to a write it is ECONNRESET, or EPIPE where FIN had come first
        // (tcp_reset in Linux); reads then answer 0 either way.
        if error.kind() != io::ErrorKind::BrokenPipe {
            self.marks |= mark::CUT_OFF;
        }
        self.end_with(error.into());
        self.outbox = None;
        self.sending = Half::Finished;
        self.marks |= mark::LAST_WORDS;
    }

    /// Writes the outbox and `bytes` behind it; answers how many of `bytes` the kernel took.
    fn write_through(&mut self, bytes: &[u8]) -> usize {
        let unsent = self.unsent();
        match self.write_once(bytes, usize::MAX) {
            Some(sent) => {
                let own = sent.min(unsent);
                if let Some(outbox) = &mut self.outbox {
                    outbox.bytes.drain(..own);
                }
                sent - own
            }
            // Failed: told by `Closed`. The bytes go the way of those in the outbox.
            None => bytes.len(),
        }
    }

    /// Sends what is unsent, as much as goes. `tick` is now, for the write timeout.
    #[inline]
    pub(super) fn flush(&mut self, tick: u64) {
        if let Some(outbox) = &mut self.outbox
            && outbox.since == 0
        {
            outbox.since = tick;
        }
        while self.unsent() > 0 && !self.has(mark::BLOCKED) {
            let Some(most) = self.may_send(tick) else { break };
            let Some(sent) = self.write_once(&[], most) else { return };
            if let Some(outbox) = &mut self.outbox {
                outbox.bytes.drain(..sent);
            }
            if let Some(rate) = &self.seat.write_rate {
                rate.spend(sent);
            }
        }
        if self.has(mark::SENT) {
            self.marks &= !mark::SENT;
            self.heard = tick;
            if !self.has(mark::SLOWED_OUT)
                && let Some(outbox) = &mut self.outbox
            {
                outbox.since = tick;
            }
        }
    }

    /// One write of outbox and `more`, of `most` bytes together: how much went, or `None` if
    /// sending has failed.
    #[inline]
    fn write_once(&mut self, more: &[u8], most: usize) -> Option<usize> {
        let (front, back) =
            self.outbox.as_ref().map_or((&[][..], &[][..]), |o| o.bytes.as_slices());
        let mut offered = 0;
        let mut pieces = [IoSlice::new(&[]); 3];
        let mut count = 0;
        for piece in [front, back, more] {
            let piece = &piece[..piece.len().min(most - offered)];
            if !piece.is_empty() {
                pieces[count] = IoSlice::new(piece);
                count += 1;
                offered += piece.len();
            }
        }
        loop {
            match self.io.write(&pieces[..count]) {
                Ok(sent) => {
                    // Less than was offered means that the kernel is full and will say when it no
                    // longer is (epoll(7), question 9). Not so on Windows.
                    if sent < offered && cfg!(unix) {
                        self.marks |= mark::BLOCKED;
                    }
                    self.marks |= if sent > 0 { mark::SENT } else { 0 };
                    return Some(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.marks |= mark::BLOCKED;
                    return Some(0);
                }
                Err(error) => {
                    self.fail_sending(error);
                    return None;
                }
            }
        }
    }
}

/// A connection that cannot be watched is over, and says so like any other: by `Closed`.
impl Source for Conn {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        if let Err(error) = self.io.register(registry, token, interest) {
            self.fail(Reason::Error(error));
        }
        Ok(())
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.io.reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.io.deregister(registry)
    }
}
