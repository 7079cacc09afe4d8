//! The `Date` field, written once a second.
//!
//! # Read next
//! `response.rs`: the head that has it.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

use crate::reactor::Context;
use crate::timers::Tick;

/// A whole line, such as `Date: Sun, 06 Nov 1994 08:49:37 GMT` and CRLF: all are 37 bytes long.
pub(super) type DateLine = [u8; 37];

const EPOCH: &DateLine = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

/// The line, and the time until which it is right.
#[derive(Debug)]
pub(super) struct Dates {
    line: Cell<DateLine>,
    /// The first tick of the next second.
    until: Cell<Tick>,
}

impl Default for Dates {
    fn default() -> Dates {
        Dates { line: Cell::new(*EPOCH), until: Cell::new(Tick::START) }
    }
}

impl Dates {
    /// The line for this turn. Several loops may share a server, and their ticks are not related:
    /// if `until` is far away, another loop has set it.
    #[inline]
    pub(super) fn get<S: 'static>(&self, reactor: &Context<S>) -> DateLine {
        let tick = reactor.tick();
        let is_right = tick < self.until.get() && self.until.get().since(tick) <= 1000;
        if !is_right {
            self.renew(reactor);
        }
        self.line.get()
    }

    #[cold]
    fn renew<S: 'static>(&self, reactor: &Context<S>) {
        let ms = u64::try_from(reactor.wall().unix_ms()).unwrap_or(0);
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(ms / 1000));
        let mut line = *EPOCH;
        // Into a buffer of its length: nothing is allocated, and nothing can fail.
        if write!(&mut line[6..35], "{date}").is_ok() {
            self.line.set(line);
        }
        self.until.set(reactor.tick().plus(1000 - ms % 1000));
    }
}
