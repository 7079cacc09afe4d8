//! A number of bytes that many buffers make up together.
//!
//! Knows numbers, and sources that wait for one to fall; never mentions the buffered data.
//!
//! Each buffer carries a [`Charge`]: its part of a [`Total`], given back when the buffer is dropped
//! for any reason. So the total cannot drift: a panic, a hand-over or a removed source gives its
//! part back.
//!
//! # Read next
//! `cork.rs`: the buffers of connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use crate::reactor::{RawId, Readiness, Resumer};

/// The sum of all charges made to it. Clones are the same sum.
#[derive(Clone)]
pub(super) struct Total(Rc<Inner>);

struct Inner {
    bytes: Cell<usize>,
    /// At or below this the sources that wait are resumed.
    low: usize,
    /// The sources that wait, by loop: ids are unique within one loop.
    waiting: RefCell<HashMap<(usize, RawId), (Resumer, Readiness)>>,
}

impl Total {
    /// A total of zero bytes. Sources that wait are resumed when it has fallen to `low`.
    pub(super) fn new(low: usize) -> Total {
        Total(Rc::new(Inner { bytes: Cell::new(0), low, waiting: RefCell::default() }))
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.get()
    }

    /// Returns true if both are the same sum.
    pub(super) fn is(&self, other: &Total) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Calls the source with `ready` once, when the sum is low.
    pub(super) fn wait(&self, resumer: &Resumer, id: RawId, ready: Readiness) {
        self.0.waiting.borrow_mut().insert((resumer.loop_key(), id), (resumer.clone(), ready));
    }

    /// Ends the wait of a source. Returns true if it waited.
    pub(super) fn forget(&self, resumer: &Resumer, id: RawId) -> bool {
        self.0.waiting.borrow_mut().remove(&(resumer.loop_key(), id)).is_some()
    }

    /// Returns true if a source waits.
    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        !self.0.waiting.borrow().is_empty()
    }

    fn change(&self, from: usize, to: usize) {
        debug_assert!(self.0.bytes.get() >= from, "more is given back than was charged");
        let bytes = self.0.bytes.get() - from + to;
        self.0.bytes.set(bytes);
        if bytes <= self.0.low && to < from && self.has_waiting() {
            for ((_, id), (resumer, ready)) in self.0.waiting.take() {
                resumer.send(id, ready);
            }
        }
    }
}

impl fmt::Debug for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Total")
            .field("bytes", &self.bytes())
            .field("low", &self.0.low)
            .field("waiting", &self.0.waiting.borrow().len())
            .finish()
    }
}

/// A buffer's part of a total.
#[derive(Debug, Default)]
pub(super) struct Charge {
    /// `None` while the buffer is not charged.
    total: Option<Total>,
    bytes: usize,
}

impl Charge {
    /// From now on the buffer has so many bytes.
    pub(super) fn set(&mut self, total: &Total, bytes: usize) {
        if self.total.as_ref().is_none_or(|own| !own.is(total)) {
            self.release();
            self.total = Some(total.clone());
        }
        if bytes != self.bytes {
            total.change(self.bytes, bytes);
            self.bytes = bytes;
        }
    }

    /// Gives the bytes back: the buffer is gone, or has another owner.
    pub(super) fn release(&mut self) {
        if let Some(total) = self.total.take() {
            total.change(self.bytes, 0);
            self.bytes = 0;
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns true if it is a part of a total.
    #[inline]
    pub(super) fn is_made(&self) -> bool {
        self.total.is_some()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reactor::{Reactor, SourceId};

    #[test]
    fn total_is_the_sum_of_the_charges_there_are() {
        let (total, other) = (Total::new(0), Total::new(0));
        let (mut a, mut b) = (Charge::default(), Charge::default());
        a.set(&total, 10);
        b.set(&total, 5);
        a.set(&total, 3);
        assert_eq!((total.bytes(), a.bytes()), (8, 3));
        b.set(&other, 7);
        assert_eq!((total.bytes(), other.bytes()), (3, 7));
        a.release();
        drop(b);
        assert_eq!((total.bytes(), other.bytes()), (0, 0));
    }

    #[test]
    fn a_source_that_waits_is_resumed_once_when_it_is_low() {
        let mut reactor = Reactor::<Vec<RawId>>::new().unwrap();
        let mut source = || {
            let own = |_: &mut _, log: &mut Vec<RawId>, id: SourceId<()>, _| log.push(id.raw());
            reactor.own((), own).raw()
        };
        let (first, second) = (source(), source());
        let (total, resumer) = (Total::new(4), reactor.resumer());
        let mut charge = Charge::default();
        charge.set(&total, 10);
        total.wait(&resumer, first, Readiness::READABLE);
        total.wait(&resumer, first, Readiness::READABLE);
        total.wait(&resumer, second, Readiness::READABLE);
        assert!(total.forget(&resumer, second) && !total.forget(&resumer, second));
        let mut called = Vec::new();
        for (bytes, calls) in [(5, vec![]), (4, vec![first]), (3, vec![first])] {
            charge.set(&total, bytes);
            reactor.turn(&mut called, Some(Duration::ZERO)).unwrap();
            assert_eq!((&called, total.has_waiting()), (&calls, bytes > 4));
        }
    }
}
