//! Buffers for bytes on their way out, and the spare ones.
//!
//! Knows nothing of the sources that write them.
//!
//! A callback's own writes collect in the loop's one cork, which is empty again when it returns. It
//! belongs to the thread: only one callback runs at a time, whichever loop calls it.
//! Its writes to other connections wait for the next flush, in a buffer for each of them. These
//! buffers are kept for reuse, so that a line for a hundred peers allocates the first time only.
//!
//! # Read next
//! `outbox.rs`: the code that fills them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;

use super::charge::Charge;
use crate::timers::Stamp;

/// Capacity above which a [`Cork`] is not kept for the next callback: one callback usually writes
/// less, and the memory of one large answer should not stay allocated.
const CORK_KEPT_BYTES: usize = 256 * 1024;
/// Spare buffers that a thread keeps. 1,024: a room of that many peers.
const SPARES_MAX: usize = 1024;
/// The capacity of all spare buffers together, which stays after a peak: 256 bytes for each.
const SPARES_BYTES_MAX: usize = 256 * 1024;
/// Capacity above which a buffer is not kept, so that a few cannot take the place of all. 16 KiB.
const SPARE_BYTES_MAX: usize = 16 * 1024;

/// A buffer for bytes on their way out, used again and again: a callback's writes collect in the
/// loop's, and a connection owns one only until the next flush, or while its peer is slow.
#[derive(Debug, Default)]
pub(super) struct Cork {
    /// The bytes, first to go first.
    pub(super) bytes: VecDeque<u8>,
    /// When the bytes began to wait; set only if a limit needs it.
    pub(super) since: Option<Stamp>,
    /// True while it is the loop's buffer, lent for one callback.
    pub(super) lent: bool,
    /// Its part of what connections may buffer together.
    pub(super) charge: Charge,
}

/// Buffers that are free. They belong to the thread, because a connection does not know its loop
/// when it is written to.
#[derive(Default)]
struct Spares {
    #[expect(clippy::vec_box)] // They are reused in their boxes: making a box is half of the cost.
    all: Vec<Box<Cork>>,
    /// The capacity of all.
    bytes: usize,
}

thread_local! {
    /// The loop's cork, while it is not lent. Without a destructor, it costs no more than a field of
    /// the loop; `Spares`, without which none is made, drops it.
    static CORK: ManuallyDrop<Cell<Option<Box<Cork>>>> =
        const { ManuallyDrop::new(Cell::new(None)) };
    static SPARES: RefCell<Spares> = RefCell::default();
}

impl Cork {
    /// Lends the loop's cork for one callback; [`give_back`](Cork::give_back) takes it, empty.
    #[inline]
    pub(super) fn lend() -> Box<Cork> {
        let mut cork = CORK.with(|slot| slot.take()).unwrap_or_else(Cork::spare);
        cork.lent = true;
        cork
    }

    /// Takes back a buffer whose bytes have gone: the loop's, or that of a connection.
    #[inline(always)]
    pub(super) fn give_back(mut cork: Box<Cork>) {
        cork.clear();
        if cork.bytes.capacity() <= CORK_KEPT_BYTES
            && let Some(other) = CORK.with(|slot| slot.replace(Some(cork)))
        {
            Cork::keep(other);
        }
    }

    /// A spare buffer, or a new one if there is none.
    #[cold]
    pub(super) fn spare() -> Box<Cork> {
        let take = |spares: &RefCell<Spares>| spares.borrow_mut().take();
        SPARES.try_with(take).ok().flatten().unwrap_or_default() // Fails if the thread is ending.
    }

    /// Gives one back.
    #[cold]
    pub(super) fn keep(mut cork: Box<Cork>) {
        cork.clear();
        let _ = SPARES.try_with(|spares| spares.borrow_mut().put(cork));
    }

    #[inline]
    fn clear(&mut self) {
        self.bytes.clear();
        self.since = None;
        self.lent = false;
        if self.charge.is_made() {
            self.charge.release();
        }
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        drop(CORK.with(|slot| slot.take()));
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

    #[test]
    fn there_is_one_of_the_loop_unless_two_are_lent_at_once() {
        let (mut first, second) = (Cork::lend(), Cork::lend());
        assert!(first.lent && second.lent);
        first.bytes.extend(b"gone");
        let bytes = first.bytes.as_slices().0.as_ptr();
        Cork::give_back(second);
        Cork::give_back(first);
        let again = Cork::lend();
        assert!(again.lent && again.bytes.is_empty());
        assert_eq!(again.bytes.as_slices().0.as_ptr(), bytes, "the last one that came back");
    }

    #[test]
    fn a_large_one_is_not_kept() {
        let mut cork = Cork::lend();
        cork.bytes.reserve(CORK_KEPT_BYTES + 1);
        Cork::give_back(cork);
        assert!(Cork::lend().bytes.capacity() <= CORK_KEPT_BYTES);
    }
}
