//! A connection: one buffered byte stream and its operations.
//!
//! Knows its transport and its limits; how it sends is in `outbox.rs`, the loop's side of it in
//! `drive.rs`.
//!
//! The two halves end separately, and the connection ends when both have ended (`states.rs`).
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
//! 3. A refused write takes nothing. The outbox never holds more than its limit, except for the few
//!    bytes that end a message ([`write_last`](Conn::write_last)).
//! 4. Methods take effect at once; the events that they cause (`Drained`, `Closed`) come later,
//!    never from inside the call.
//!
//! # Read next
//! `states.rs`: the states, and each step from one to the next.

use std::io;
use std::net::SocketAddr;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::charge::Charge;
use super::cork::Cork;
use super::event::Reason;
use super::group::Group;
use super::limits::Limits;
use super::states::{Closing, Receiving, Sending, fact};
use super::transport::Carrier;
use crate::timers::{Stamp, Tick};

/// Bytes received and not consumed.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) bytes: Vec<u8>,
    /// How many of them, from the front, have been consumed.
    pub(super) consumed: usize,
    /// Its share of the bytes that connections buffer together.
    pub(super) charge: Charge,
}

/// Parts that few connections ever have, apart from the others: so an idle connection is small.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The reason for its end, as soon as it is known.
    pub(super) reason: Option<Reason>,
    /// Bytes that were accepted and will never be sent.
    pub(super) lost: usize,
    /// The tick until which a rate delays reading. The rate has promised it bytes for then.
    pub(super) reads_at: Option<Tick>,
    /// The tick until which a rate delays sending.
    pub(super) writes_at: Option<Tick>,
    /// When the grace of a close began to run.
    pub(super) lingers_since: Option<Stamp>,
}

/// A placeholder for the time at which the handlers of this call return. Handlers may take long, so
/// the clock is read once, behind all of them: `flush` then puts the time in place of this value.
/// `SOON` is later than any real time, but it is not [`Stamp::NEVER`].
pub(super) const SOON: Option<Stamp> = Some(Stamp::new(u64::MAX - 2));

/// One buffered connection. It takes 72 bytes, so 10,000 idle ones take 720 KB.
#[derive(Debug)]
pub struct Conn {
    pub(super) io: Carrier,
    /// The unsent bytes. There are three cases:
    /// * `None`: there are none.
    /// * The loop's buffer, lent during the connection's own callback. It may be empty.
    /// * Its own buffer. If that is empty, the transport's own bytes wait, and it notes since when.
    pub(super) outbox: Option<Box<Cork>>,
    /// Unconsumed bytes; `None` if there are none.
    pub(super) backlog: Option<Box<Backlog>>,
    pub(super) group: Group,
    pub(super) rare: Option<Box<Rare>>,
    /// When the last byte passed, in either direction, or [`SOON`]. If no limit needs it: `None`,
    /// or the time of HTTP's last response, which a drain needs.
    pub(super) last_traffic: Option<Stamp>,
    /// When the handler last consumed input, or [`SOON`].
    pub(super) progress: Option<Stamp>,
    /// How many of the bytes delivered last were given back. Written by `unread`.
    pub(super) kept: u32,
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    pub(super) closing: Closing,
    /// Bits, one for each [`fact`].
    pub(super) facts: u8,
}

impl Conn {
    pub(super) fn new(io: Carrier, group: Group) -> Conn {
        Conn {
            io,
            outbox: None,
            backlog: None,
            group,
            rare: None,
            last_traffic: None,
            progress: None,
            kept: 0,
            sending: Sending::Open,
            receiving: Receiving::Open,
            closing: Closing::No,
            facts: 0,
        }
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
    /// kernel's buffer is full. Only a write, a timeout or `resume` notices that the peer has gone.
    /// While the connection is also [held](Conn::hold), a reset closes it at once, and the bytes
    /// that the peer sent before are lost: the peer would not receive the answer.
    pub fn pause(&mut self) {
        if !self.receiving.is_over() && !self.was_closed() {
            self.receiving = Receiving::Paused;
        }
    }

    /// Ends a [`pause`](Conn::pause); reading goes on in the next turn.
    pub fn resume(&mut self) {
        if self.is_paused() {
            self.receiving = Receiving::Resuming;
        }
    }

    /// Reads and delivers the backlog at the next call, unless reading is paused.
    pub(super) fn read_again(&mut self) {
        let reads = matches!(self.receiving, Receiving::Open | Receiving::Throttled);
        if reads && !self.was_closed() {
            self.receiving = Receiving::Resuming;
        }
    }

    /// Returns true if reading is paused.
    pub fn is_paused(&self) -> bool {
        self.receiving == Receiving::Paused
    }

    /// Finishes sending: FIN after the unsent bytes. Receiving goes on.
    pub fn shutdown(&mut self) {
        if self.sending.is_open() {
            self.sending = Sending::Finishing;
        }
    }

    /// Closes gracefully: delivers no more `Data`, sends the unsent bytes and then FIN, and waits
    /// for the peer's FIN. [`Limits::close_grace`] limits the time for all of this. The wait ends
    /// earlier if there are no descriptors left.
    ///
    /// Until then, input from the peer is read and discarded. Closing a socket with unread input
    /// would send a reset, and that may destroy the end of our answer at the peer (RFC 1122,
    /// 4.2.2.13). A pipe or a terminal is closed as soon as all is sent.
    pub fn close(&mut self) {
        self.forget_quiet();
        self.begin_close();
    }

    /// As [`close`](Conn::close), but a drained connection stays [`QUIET`](fact::QUIET).
    pub(super) fn begin_close(&mut self) {
        self.shutdown();
        if let Some(rare) = &mut self.rare {
            rare.reads_at = None; // No rate delays input that is discarded.
        }
        if self.closing == Closing::No {
            self.closing = Closing::Asked;
        }
        if !self.receiving.is_over() {
            // Of two descriptors, the input may be for another reader.
            let other = !self.io.has_one_peer();
            self.receiving = if other { Receiving::Finished } else { Receiving::Open };
        }
    }

    /// Closes at once: unsent bytes are dropped and the peer gets a reset.
    pub fn abort(&mut self) {
        if !self.is_over() {
            self.io.transport().reset_on_drop();
            self.fail(Reason::Aborted);
        }
    }

    /// Returns true if no more `Data` will come: it is closed, closing or aborted.
    pub fn is_closing(&self) -> bool {
        self.was_closed() || self.has_failed() && !self.sending.has_failed()
    }

    /// Returns true if it was closed, by the handler or by a drain. It stays until its unsent bytes
    /// have gone and the peer has closed, too.
    pub fn was_closed(&self) -> bool {
        self.closing != Closing::No
    }

    /// Returns true if the input has ended and all of it was delivered.
    pub fn is_read_out(&self) -> bool {
        self.receiving.is_over()
    }

    /// Returns true if the input was cut: it has ended, but the peer did not announce that end.
    pub fn is_cut(&self) -> bool {
        self.receiving == Receiving::Cut
    }

    /// Returns true if the reason for its end is noted, so that `Closed` comes soon. Returns false
    /// for a cut input: the reason is noted, but the connection may still send.
    pub fn has_failed(&self) -> bool {
        self.reason().is_some() && !self.is_cut()
    }

    /// Returns true if it stays open for writing when the peer has finished.
    pub(super) fn may_be_half_open(&self) -> bool {
        self.group.half_open || self.has(fact::LINKED) || self.io.is_one_way()
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.group
    }

    /// Changes this connection's limits. Its own copy of them costs some 130 bytes, so give the
    /// limits that are the same for all connections to the listener.
    pub fn set_limits(&mut self, limits: Limits) {
        if !self.group.notes_traffic() {
            self.last_traffic = None; // The traffic was not noted until now.
        }
        self.group.set_limits(limits);
        self.facts &= !fact::ARMED;
        self.forget_rates();
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` once the peer is gone; `Unsupported` where the transport has no addresses.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }

    /// The process, user and group at the other end. The kernel knows them of a Unix stream.
    ///
    /// # Errors
    /// `Unsupported` for any other transport.
    #[cfg(all(unix, feature = "peer-cred"))]
    pub fn peer_cred(&self) -> io::Result<super::cred::Credentials> {
        self.io.peer_cred()
    }

    /// Returns true if all is sent: outbox and transport have no unsent bytes.
    #[inline]
    pub(super) fn is_sent(&self) -> bool {
        self.unsent() == 0 && !self.io.has_own_unsent()
    }

    /// Returns true if both halves have ended and, unless it has failed, the transport has sent its
    /// last record, too.
    pub(super) fn is_over(&self) -> bool {
        self.sending.is_over()
            && self.is_read_out()
            && (self.has_failed() || !self.io.has_own_unsent())
    }

    #[inline]
    pub(super) fn has(&self, fact: u8) -> bool {
        self.facts & fact != 0
    }

    /// The reason for its end, if that is known.
    pub(super) fn reason(&self) -> Option<&Reason> {
        self.rare.as_ref()?.reason.as_ref()
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Notes why the connection ends, unless a reason was noted before.
    pub(super) fn end_with(&mut self, reason: Reason) {
        self.rare().reason.get_or_insert(reason);
    }

    /// Drops and counts the unsent bytes, and `more` that were accepted but are not in the outbox.
    pub(super) fn lose(&mut self, more: usize) {
        let lost = self.unsent() + more;
        self.outbox = None;
        if let Some(rare) = &mut self.rare {
            rare.lost += lost;
        }
    }

    /// Ends both halves at once.
    pub(super) fn fail(&mut self, reason: Reason) {
        self.end_with(reason);
        self.lose(0);
        self.sending = Sending::Finished;
        self.receiving = Receiving::Finished;
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
