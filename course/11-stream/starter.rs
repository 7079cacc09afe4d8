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
use std::io;

use kit::{Duplex, Event, Heard, Limits, Next, Pressure, unless_later};

/// Reads in one `drive`, each of 4 KiB at most. 16: then it is another stream's turn.
pub const READS_MAX: usize = 16;

/// A stream, and the bytes that its kernel has not taken yet.
pub struct Stream<S> {
    pub io: S,
    pub outbox: VecDeque<u8>,
    pub is_paused: bool,
    limits: Limits,
    has_ended: bool,
    is_shut: bool,
}

impl<S: Duplex> Stream<S> {
    pub fn new(io: S, limits: Limits) -> Stream<S> {
        let (outbox, is_paused) = (VecDeque::new(), false);
        Stream { io, outbox, is_paused, limits, has_ended: false, is_shut: false }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        // Yours: this outbox has no limit, and nobody is asked to stop.
        self.outbox.extend(bytes);
        Pressure::Below
    }

    pub fn shutdown(&mut self) {
        self.is_shut = true;
    }

    pub fn close(&mut self) {
        self.shutdown();
    }

    pub fn drive(&mut self, heard: Heard, handler: impl FnMut(&mut Self, Event<'_>)) -> Next {
        // Yours: when is there something to do that the kernel will not report?
        match self.receive_and_send(handler) {
            Err(_) => Next::Over,
            Ok(()) if self.has_ended && self.is_shut => Next::Over,
            Ok(()) => Next::Wait,
        }
    }

    fn receive_and_send(&mut self, mut call: impl FnMut(&mut Self, Event<'_>)) -> io::Result<()> {
        let mut bytes = [0; 4096];
        while !self.has_ended {
            let Some(count) = unless_later(|| self.io.read(&mut bytes))? else { break };
            self.has_ended = count == 0;
            call(self, if count > 0 { Event::Data(&bytes[..count]) } else { Event::End });
        }
        // Yours: all of this is sent, as if the kernel would take it.
        while !self.outbox.is_empty() {
            let Some(count) = unless_later(|| self.io.write(self.outbox.as_slices().0))? else {
                break;
            };
            self.outbox.drain(..count);
        }
        if self.is_shut {
            self.io.finish()?;
        }
        Ok(())
    }
}
