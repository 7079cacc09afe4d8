//! Bytes on their way out, and the buffers for them that are spare.
//!
//! Knows nothing of what they are written to.
//!
//! A callback's own writes collect in the loop's one cork, which is empty again when it returns.
//! What it writes to others waits for the next flush, in a buffer for each of them. Those come from
//! a few that are kept, so that a line for a hundred peers allocates nothing but the first time.
//!
//! # Read next
//! `../net/outbox.rs`: what fills them.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::Charge;
use crate::timers::Stamp;

/// Capacity above which a [`Cork`] is not kept for the next callback: what one callback usually
/// writes is less, and one large answer should not cost its size for ever.
pub(super) const CORK_KEPT_BYTES: usize = 256 * 1024;
/// Spare buffers that a thread keeps. 1,024: a room of that many peers.
const SPARES_MAX: usize = 1024;
/// And what they may hold together: what stays of a peak. 256 KiB, 256 bytes for each of so many.
const SPARES_BYTES_MAX: usize = 256 * 1024;
/// Capacity above which one is no spare, lest a few take the place of all. 16 KiB.
const SPARE_BYTES_MAX: usize = 16 * 1024;

/// Bytes on their way out, in a buffer that goes round: a callback's writes collect in the loop's,
/// and a connection owns one only until the next flush, or while its peer is slow.
#[derive(Debug, Default)]
pub struct Cork {
    /// The bytes, first to go first.
    pub bytes: VecDeque<u8>,
    /// When they began to wait, if they do and a limit asks.
    pub since: Option<Stamp>,
    /// It is the loop's, for the time of one callback.
    pub(crate) lent: bool,
    /// Its part of what connections may buffer together.
    pub(crate) charge: Charge,
}

/// Buffers that nobody uses. They belong to the thread: a connection that is written to does not
/// know its loop.
#[derive(Default)]
struct Spares {
    #[expect(clippy::vec_box)] // They go round in their boxes: making those is half of the cost.
    all: Vec<Box<Cork>>,
    /// The capacity of all.
    bytes: usize,
}

thread_local! {
    static SPARES: RefCell<Spares> = RefCell::default();
}

impl Cork {
    /// An empty one, made only if none is spare.
    #[cold]
    pub(crate) fn spare() -> Box<Cork> {
        let take = |spares: &RefCell<Spares>| spares.borrow_mut().take();
        SPARES.try_with(take).ok().flatten().unwrap_or_default() // Not when the thread is ending.
    }

    /// Gives one back.
    #[cold]
    pub(crate) fn keep(mut cork: Box<Cork>) {
        cork.clear();
        let _ = SPARES.try_with(|spares| spares.borrow_mut().put(cork));
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.since = None;
        self.lent = false;
        if self.charge.is_made() {
            self.charge.release();
        }
    }
}

impl Spares {
    fn take(&mut self) -> Option<Box<Cork>> {
        let cork = self.all.pop()?;
        self.bytes -= cork.bytes.capacity();
        Some(cork)
    }

    fn put(&mut self, cork: Box<Cork>) {
        let bytes = cork.bytes.capacity();
        let fits = bytes <= SPARE_BYTES_MAX && self.bytes + bytes <= SPARES_BYTES_MAX;
        if fits && self.all.len() < SPARES_MAX {
            self.bytes += bytes;
            self.all.push(cork);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: usize) -> Box<Cork> {
        Box::new(Cork {
            bytes: VecDeque::with_capacity(bytes),
            since: Some(Stamp::START),
            ..Cork::default()
        })
    }

    #[test]
    fn no_more_are_kept_than_the_limits_say() {
        let mut spares = Spares::default();
        (0..2 * SPARES_MAX).for_each(|_| spares.put(of(16)));
        assert_eq!((spares.all.len(), spares.bytes), (SPARES_MAX, 16 * SPARES_MAX));
        let mut spares = Spares::default();
        (0..100).for_each(|_| spares.put(of(SPARE_BYTES_MAX)));
        assert_eq!((spares.all.len(), spares.bytes), (16, SPARES_BYTES_MAX));
        while spares.take().is_some() {}
        spares.put(of(SPARE_BYTES_MAX + 1));
        assert_eq!((spares.all.len(), spares.bytes), (0, 0));
    }

    #[test]
    fn one_that_is_kept_comes_back_empty() {
        let mut cork = of(100);
        cork.bytes.extend(b"left behind");
        Cork::keep(cork);
        let cork = Cork::spare();
        assert!(cork.bytes.is_empty() && cork.bytes.capacity() >= 100 && cork.since.is_none());
    }
}
