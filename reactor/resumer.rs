//! Resumer: how a source becomes ready without the kernel and without a `Context`.
//!
//! Two sources in the same loop can be the ends of a pair: bytes written into one end of an
//! in-memory pair make the other readable. The writer has no [`Context`] at hand, so it notes the
//! readiness here and the next turn collects it, behind the readiness from the kernel.
//!
//! # Read next
//! `trace.rs`: the records of what happens in the loop.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::{Context, RawId, Readiness};

/// Resumes sources of the loop it belongs to, from this thread. Clones share the list; it may
/// outlive the loop and then has no effect.
///
/// A source learns its own id by [`RawId::from_token`] when it is registered.
///
/// ```
/// use waterwheel::reactor::{Interest, Readiness, Reactor, Unplugged};
/// let mut reactor = Reactor::new().unwrap();
/// let resumer = reactor.resumer();
/// let source = reactor
///     .register(Unplugged, Interest::READABLE, |reactor, called: &mut bool, id, _| {
///         *called = true;
///         reactor.remove(id);
///     })
///     .unwrap();
/// resumer.resume(source, Readiness::READABLE);
/// let mut called = false;
/// reactor.run(&mut called).unwrap();
/// assert!(called);
/// ```
#[derive(Clone, Default)]
pub struct Resumer(Rc<RefCell<Vec<(RawId, Readiness)>>>);

impl Resumer {
    /// Calls the source's callback in the next turn, as [`Context::resume`] does; until then the
    /// loop does not sleep. A stale id is dropped and counted when it is collected. O(1).
    pub fn resume(&self, id: impl Into<RawId>, ready: Readiness) {
        self.send(id, ready.asked());
    }

    /// [`resume`](Resumer::resume) with any bits, as [`Context::send`].
    pub(crate) fn send(&self, id: impl Into<RawId>, ready: Readiness) {
        self.0.borrow_mut().push((id.into(), ready));
    }

    /// A number that names its loop.
    pub(crate) fn loop_key(&self) -> usize {
        Rc::as_ptr(&self.0).addr()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.0.borrow().is_empty()
    }
}

impl fmt::Debug for Resumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resumer").field(&self.0.borrow().len()).finish()
    }
}

impl<S: 'static> Context<S> {
    /// A handle by which sources of this thread resume each other; see [`Resumer`].
    pub fn resumer(&mut self) -> Resumer {
        self.resumer.get_or_insert_default().clone()
    }

    /// The part of phase 5 that takes in the resumed sources.
    #[inline]
    pub(super) fn collect_resumed(&mut self) {
        let Some(resumer) = &self.resumer else { return };
        if !resumer.is_waiting() {
            return;
        }
        let mut waiting = resumer.0.take();
        for (id, ready) in waiting.drain(..) {
            if !self.send(id, ready) {
                self.drop_stale(id.into());
            }
        }
        // The list is put back for its capacity, unless an observer has resumed a source since.
        if let Some(resumer) = &self.resumer
            && !resumer.is_waiting()
        {
            *resumer.0.borrow_mut() = waiting;
        }
    }
}
