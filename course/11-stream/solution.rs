//! Whose memory is a slow reader? A stream with an outbox, and the outbox has a limit.
//!
//! # Contract
//! * `write` takes all of the bytes or none of them, and calls no kernel. It says `Refused` if more
//!   than `max` bytes would be unsent, or after `shutdown`. Otherwise it says `AboveHigh` if more
//!   than `high` are unsent now, and else `Below`.
//! * `drive` first reads, at most `READS_MAX` times, and gives the handler what it has read. Then
//!   it sends unsent bytes: each once, and in order. After `WouldBlock` it does not make the same
//!   call again until the kernel reports the stream.
//! * After `AboveHigh` the handler gets `Drained`, once, when at most `low` bytes are unsent.
//! * While `is_paused` is true, nothing is read.
//! * A hang-up is a reason to read and to send: what has become of the stream is found by that.
//! * The peer's end is one `End`, and sending goes on. After `shutdown` the stream is finished,
//!   once, when the last byte was sent, and receiving goes on.
//! * `close` is `shutdown`; and what the peer still sends is read to its end and thrown away, even
//!   if reading is paused. The handler gets nothing any more.
//! * `drive` says `Over` if both directions have ended, or a call has failed. It says `Again` if
//!   there is something to do that the kernel will not report. Otherwise it says `Wait`.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use kit::{Duplex, Event, Heard, Limits, Next, Pressure, unless_later};

/// Reads in one `drive`, each of 4 KiB at most. 16: then it is another stream's turn.
pub const READS_MAX: usize = 16;

/// A stream, and the bytes that its kernel has not taken yet.
pub struct Stream<S> {
    pub io: S,
    pub outbox: VecDeque<u8>,
    pub is_paused: bool,
    limits: Limits,
    wants_drained: bool,
    has_ended: bool,
    is_shut: bool,
    is_finished: bool,
    is_closed: bool,
    /// True if the kernel has not said `WouldBlock` since it reported the stream.
    may_read: bool,
    may_write: bool,
}

impl<S: Duplex> Stream<S> {
    #[rustfmt::skip]
    pub fn new(io: S, limits: Limits) -> Stream<S> {
        Stream {
            io, outbox: VecDeque::new(), is_paused: false, limits, wants_drained: false,
            has_ended: false, is_shut: false, is_finished: false, is_closed: false,
            may_read: false, may_write: false,
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        let unsent = self.outbox.len() + bytes.len();
        if self.is_shut || unsent > self.limits.max {
            return Pressure::Refused;
        }
        self.outbox.extend(bytes);
        self.wants_drained |= unsent > self.limits.high;
        if unsent > self.limits.high { Pressure::AboveHigh } else { Pressure::Below }
    }

    pub fn shutdown(&mut self) {
        (self.is_shut, self.wants_drained) = (true, false);
    }

    pub fn close(&mut self) {
        self.shutdown();
        self.is_closed = true;
    }

    pub fn drive(&mut self, heard: Heard, handler: impl FnMut(&mut Self, Event<'_>)) -> Next {
        self.may_read |= heard.readable || heard.hung_up;
        self.may_write |= heard.writable || heard.hung_up;
        let result = self.receive_and_send(handler);
        let sends = self.may_write && !self.outbox.is_empty();
        match result {
            Err(_) => Next::Over,
            Ok(()) if self.has_ended && self.is_finished => Next::Over,
            Ok(()) if sends || self.reads() => Next::Again,
            Ok(()) => Next::Wait,
        }
    }

    fn reads(&self) -> bool {
        self.may_read && !self.has_ended && (self.is_closed || !self.is_paused)
    }

    fn receive_and_send(&mut self, mut call: impl FnMut(&mut Self, Event<'_>)) -> io::Result<()> {
        let (mut bytes, mut reads) = ([0; 4096], 0);
        while self.reads() && reads < READS_MAX {
            reads += 1;
            let Some(count) = unless_later(|| self.io.read(&mut bytes))? else {
                self.may_read = false;
                break;
            };
            self.has_ended = count == 0;
            if !self.is_closed {
                call(self, if count > 0 { Event::Data(&bytes[..count]) } else { Event::End });
            }
        }
        while self.may_write && !self.outbox.is_empty() {
            match unless_later(|| self.io.write(self.outbox.as_slices().0))? {
                Some(0) => return Err(ErrorKind::WriteZero.into()),
                Some(count) => drop(self.outbox.drain(..count)),
                None => self.may_write = false,
            }
        }
        if self.wants_drained && self.outbox.len() <= self.limits.low {
            self.wants_drained = false;
            call(self, Event::Drained);
        }
        if self.is_shut && self.outbox.is_empty() && !self.is_finished {
            self.is_finished = true;
            self.io.finish()?;
        }
        Ok(())
    }
}
