//! The `Date` field, written once a second.
//!
//! # Read next
//! `response.rs`: where it goes.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use crate::reactor::Context;

/// As in `Sun, 06 Nov 1994 08:49:37 GMT`: all of them have this length.
pub(super) const DATE_BYTES: usize = 29;

/// The date as text, and when it ends to be right.
#[derive(Debug, Default)]
pub(super) struct Dates {
    text: Cell<[u8; DATE_BYTES]>,
    /// The first tick of the next second.
    until: Cell<u64>,
}

impl Dates {
    /// The date of this turn.
    #[inline]
    pub(super) fn get<S: 'static>(&self, reactor: &Context<S>) -> [u8; DATE_BYTES] {
        if reactor.tick() >= self.until.get() {
            self.renew(reactor);
        }
        self.text.get()
    }

    #[cold]
    fn renew<S: 'static>(&self, reactor: &Context<S>) {
        let ms = u64::try_from(reactor.wall().unix_ms()).unwrap_or(0);
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(ms / 1000));
        if let Ok(text) = date.as_bytes().try_into() {
            self.text.set(text);
        }
        self.until.set(reactor.tick() + 1000 - ms % 1000);
    }
}
