//! A connection: one buffered byte stream and its operations.
//!
//! Knows its transport and its limits; how it sends is in `outbox.rs`, the loop's side of it in
//! `drive.rs`.
//!
//! The two halves end separately. The connection ends when both have ended. Each step from one state
//! to the next, and the function that takes it:
//!
//! ```text
//!   sending    Open ─────────▶ Finishing   shutdown; close; settle::close_if_due, after Eof
//!              Finishing ────▶ Finished    settle::finish: the outbox is empty, FIN
//!              any ──────────▶ Finished    outbox::fail_sending: the input that is left comes first
//!
//!   receiving  Open ─────────▶ Finished    receive::end_of_input: FIN read, Eof delivered
//!              Open ─────────▶ Cut         receive::input_is_cut: an end that anybody could cause
//!              Open ─────────▶ Finished    settle::listens_first, receive: the last words are read
//!
//!   both       any ──────────▶ Finished    fail: abort, a timeout, an error, no grace left
//!
//!   both Finished, or Cut and all is sent: settle::end delivers Closed, with the first reason noted
//! ```
//!
//! `Eof` finishes sending unless `Limits::half_open` says otherwise. If a write fails, the bytes
//! that the peer sent before are read first (its *last words*). If the input is cut, only that half
//! has failed: the bytes before the cut are genuine and are answered. No `Eof` is delivered then,
//! so a half-open connection stays open only while an answer is to come: its handler has called
//! [`hold`](Conn::hold), or waits for `Drained`.
//!
//! # Rules
//! 1. `Closed` is delivered exactly once for each connection, whatever ended it, and is the last
//!    event; its id is stale by then. A connection that was deregistered, removed, or dropped after
//!    a panic or with the loop gets no event.
//! 2. `Data` carries each byte once and in order until `close`, `abort` or an error; bytes given
//!    back with `unread` come again.
//! 3. A refused write takes nothing. The outbox never holds more than its limit.
//! 4. Methods take effect at once; the events that they cause (`Drained`, `Closed`) come later,
//!    never from inside the call.
//!
//! # Read next
//! `event.rs`: the events that its handler gets.

use std::io;
use std::net::SocketAddr;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::charge::Charge;
use super::codec::FrameError;
use super::cork::Cork;
use super::event::{Pressure, Reason};
use super::limits::Limits;
use super::outbox;
use super::seat::Seat;
use super::transport::Carrier;
use crate::timers::Stamp;

/// How far one half of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Open,
    /// Sending only: to be finished once the outbox is empty.
    Finishing,
    /// Receiving only: it has ended, but anybody on the way may have caused that end. The reason is
    /// in `end`; the other half goes on.
    Cut,
    Finished,
}

/// Bits of `Conn::marks`.
pub(super) mod mark {
    /// Reading is paused by the handler.
    pub(in crate::net) const PAUSED: u16 = 1;
    /// Reading was resumed: deliver the backlog again, and read from the kernel.
    pub(in crate::net) const RESUMED: u16 = 2;
    /// The kernel's send buffer is full; an event will report when it has room.
    pub(in crate::net) const BLOCKED: u16 = 4;
    /// `Drained` is owed.
    pub(in crate::net) const ABOVE: u16 = 8;
    /// `close` was called: input is discarded.
    pub(in crate::net) const CLOSING: u16 = 16;
    /// The grace of a close has begun to run.
    pub(in crate::net) const LINGERING: u16 = 32;
    /// The same bit before a close: a drain has found it idle, and no byte has passed since.
    pub(in crate::net) const QUIET: u16 = LINGERING;
    /// A deadline is armed, at or before the first one that the limits ask for.
    pub(in crate::net) const ARMED: u16 = 64;
    /// Sending failed; the bytes that the peer sent before are still to be read.
    pub(in crate::net) const LAST_WORDS: u16 = 128;
    /// `Drained` is owed only when all is sent: the refused bytes need an empty outbox.
    pub(in crate::net) const WHOLE: u16 = 256;
    /// The same bit while closing, when no `Drained` is owed any more: its peer gets only a moment
    /// to close first.
    pub(in crate::net) const HASTY: u16 = WHOLE;
    /// The kernel has taken bytes since the last flush.
    pub(in crate::net) const SENT: u16 = 512;
    /// One end of a link: it may be half open, whatever its limits say.
    pub(in crate::net) const LINKED: u16 = 1024;
    /// The rate limit delays reading until the tick in `progress`.
    pub(in crate::net) const SLOWED_IN: u16 = 2048;
    /// The rate limit delays sending until the tick in the outbox's `since`.
    pub(in crate::net) const SLOWED_OUT: u16 = 4096;
    /// Sending failed before the peer's FIN came, so none will come: an end of input read after
    /// this is the effect of a reset.
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
    /// Its share of the bytes that connections buffer together.
    pub(super) charge: Charge,
}

/// How a connection has ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) reason: Reason,
    /// Bytes that were accepted and will never be sent.
    pub(super) lost: usize,
}

/// Stands for a time in this callback that is not known yet: `flush`, which runs when the handlers
/// have returned, replaces it by the time. Handlers may take long, and the clock is read once for
/// all of them. It is later than any real time, but not [`Stamp::NEVER`].
pub(super) const SOON: Option<Stamp> = Some(Stamp::new(u64::MAX - 2));

/// One buffered connection. 72 bytes: ten thousand idle ones are this times ten thousand.
#[derive(Debug)]
pub struct Conn {
    pub(super) io: Carrier,
    /// Unsent bytes. Without any it is `None`; or the loop's own buffer during its own callback; or it
    /// notes since when the transport has waited to send what it owes.
    pub(super) outbox: Option<Box<Cork>>,
    /// Unconsumed bytes; `None` if there are none.
    pub(super) backlog: Option<Box<Backlog>>,
    pub(super) seat: Seat,
    /// The reason for its end, as soon as it is known; and how many bytes were lost.
    pub(super) end: Option<Box<End>>,
    /// When the last byte passed, in either direction, or [`SOON`]. If no limit needs it: `None`,
    /// or the time of HTTP's last answer, which a drain needs.
    pub(super) heard: Option<Stamp>,
    /// When the handler last consumed input, or [`SOON`]; while lingering, when the grace began;
    /// while slowed, the tick at which the rate lets reading go on.
    pub(super) progress: Option<Stamp>,
    /// How many of the bytes delivered last were given back. Written by `unread`.
    pub(super) kept: u32,
    pub(super) sending: Half,
    pub(super) receiving: Half,
    pub(super) marks: u16,
}

impl Conn {
    pub(super) fn new(io: Carrier, seat: Seat) -> Conn {
        Conn {
            io,
            outbox: None,
            backlog: None,
            seat,
            end: None,
            heard: None,
            progress: None,
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
        self.put(bytes, outbox::WRITE_THROUGH_BYTES)
    }

    /// Bytes written and not yet taken by the kernel.
    #[inline]
    pub fn unsent(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes.len())
    }

    /// Gives back the last `count` bytes of the `Data` being handled: they come again, in front of
    /// the next input. For incomplete frames; nothing is copied when it happens again and again.
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
    /// kernel's buffer is full. If the peer goes, only a write, a timeout or resuming notices it.
    /// While the connection is also [held](Conn::hold), a reset closes it at once, and the bytes
    /// that the peer sent before are lost: the peer would not receive the answer.
    pub fn pause(&mut self) {
        self.marks |= mark::PAUSED;
        self.marks &= !mark::RESUMED;
    }

    /// Ends a [`pause`](Conn::pause); reading goes on in the next turn.
    pub fn resume(&mut self) {
        if self.has(mark::PAUSED) {
            self.marks &= !mark::PAUSED;
            self.marks |= mark::RESUMED;
        }
    }

    /// Returns true if reading is paused.
    pub fn is_paused(&self) -> bool {
        self.has(mark::PAUSED)
    }

    /// Finishes sending: FIN after the unsent bytes. Receiving goes on.
    pub fn shutdown(&mut self) {
        if self.sending == Half::Open {
            self.sending = Half::Finishing;
        }
    }

    /// Closes gracefully: no more `Data`; the unsent bytes are sent, then FIN, and then the peer's
    /// FIN is awaited. All within [`Limits::close_grace`]; that wait is cut short when there are no
    /// descriptors left.
    ///
    /// Until then, input from the peer is read and discarded: closing a socket with unread
    /// input would be a reset, and that may destroy the end of our answer at the peer (RFC 1122,
    /// 4.2.2.13). A pipe or a terminal is closed as soon as all is sent.
    pub fn close(&mut self) {
        self.shutdown();
        self.forget_quiet();
        self.marks |= mark::CLOSING;
        if !self.io.is_one_peer() && !self.is_cut() {
            self.receiving = Half::Finished; // The input may be for another reader.
        }
    }

    /// Closes at once: unsent bytes are dropped and the peer gets a reset.
    pub fn abort(&mut self) {
        if !self.is_over() {
            self.io.transport().reset_on_drop();
            self.fail(Reason::Aborted);
        }
    }

    /// Closes because of a bad frame; the unsent bytes are still sent.
    pub(super) fn close_for(&mut self, error: FrameError) {
        self.close();
        self.end_with(Reason::Frame(error));
    }

    /// Returns true if no more `Data` will come: it is closed, closing or aborted.
    pub fn is_closing(&self) -> bool {
        self.has(mark::CLOSING) || self.has_failed() && !self.has(mark::LAST_WORDS)
    }

    /// Returns true if the input has ended and all of it was delivered.
    pub fn is_read_out(&self) -> bool {
        matches!(self.receiving, Half::Finished | Half::Cut)
    }

    /// Returns true if the input was cut: it has ended, but the peer did not announce that end.
    pub fn is_cut(&self) -> bool {
        self.receiving == Half::Cut
    }

    /// Returns true if nothing is under way in either direction, so that it can carry another
    /// exchange. With `probe` the transport is asked, too: this finds bytes and a FIN that the peer
    /// has sent since the last read.
    pub fn is_quiet(&mut self, probe: bool) -> bool {
        let open = (self.sending, self.receiving) == (Half::Open, Half::Open) && self.end.is_none();
        let still = self.unsent() == 0 && self.backlog().is_empty();
        open && still && (!probe || self.io.transport().is_silent())
    }

    /// Announces the end, where dropping does not, as far as that is possible without waiting: TLS
    /// wants a close_notify even if nobody waits for an answer to it (RFC 8446, 6.1).
    pub fn say_goodbye(&mut self) {
        if self.io.says_goodbye() {
            let _ = self.io.transport().finish(); // A peer that has gone needs none.
        }
    }

    /// Returns true if the reason for its end is noted, so that `Closed` comes soon. Returns false
    /// for a cut input: the reason is noted, but the connection may still send.
    pub fn has_failed(&self) -> bool {
        self.end.is_some() && self.receiving != Half::Cut
    }

    /// Returns true if it stays open for writing when the peer has finished.
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
        if !self.seat.hears() {
            self.heard = None; // The traffic was not noted until now.
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

    /// Returns true if all is sent: the outbox is empty, and the transport owes nothing.
    #[inline]
    pub(super) fn is_sent(&self) -> bool {
        self.unsent() == 0 && !self.io.owes()
    }

    /// Returns true if both halves have ended and, unless it has failed, the transport has sent its
    /// last record, too.
    pub(super) fn is_over(&self) -> bool {
        (self.sending, self.is_read_out()) == (Half::Finished, true)
            && (self.has_failed() || !self.io.owes())
    }

    #[inline]
    pub(super) fn has(&self, mark: u16) -> bool {
        self.marks & mark != 0
    }

    /// Notes why the connection ends, unless a reason was noted before.
    pub(super) fn end_with(&mut self, reason: Reason) {
        self.end.get_or_insert_with(|| Box::new(End { reason, lost: 0 }));
    }

    /// Drops and counts the unsent bytes, and `more` that were accepted but are not in the outbox.
    pub(super) fn lose(&mut self, more: usize) {
        let lost = self.unsent() + more;
        self.outbox = None;
        if let Some(end) = &mut self.end {
            end.lost += lost;
        }
    }

    /// Ends both halves at once.
    pub(super) fn fail(&mut self, reason: Reason) {
        self.end_with(reason);
        self.lose(0);
        self.sending = Half::Finished;
        self.receiving = Half::Finished;
        self.marks &= !mark::LAST_WORDS;
    }
}

/// A connection that the selector refuses is over; `Closed` reports that, as always.
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
