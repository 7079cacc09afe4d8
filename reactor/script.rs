//! A scripted poller: a test writes what the kernel is to report, turn by turn.
//!
//! Spurious, merged, stale or reordered readiness is hard to get out of a real kernel and easy to
//! write down. A reactor built with a [`Script`] takes its events from it until it is used up, and
//! then from the kernel again. An [`Unplugged`] source replaces a socket: it can be registered and
//! is ready only when the script says so.
//!
//! # Read next
//! `../tests/contract.rs`, which is written with it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use mio::{Interest, Registry, Token};

use super::{RawId, Readiness};

type Report = Vec<(RawId, Readiness)>;

/// The reports of the poller. Clones share them, so a test may go on writing while the loop reads.
///
/// ```
/// use waterwheel::reactor::{Reactor, Readiness, Script, Unplugged};
/// let script = Script::new();
/// let mut reactor = Reactor::builder().script(&script).build().unwrap();
/// let source = reactor
///     .register(Unplugged, mio::Interest::READABLE, |_, calls: &mut u32, _, _| *calls += 1)
///     .unwrap();
/// script.report([(source.raw(), Readiness::READABLE)]);
/// let mut calls = 0;
/// reactor.turn(&mut calls, None).unwrap();
/// assert_eq!(calls, 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script {
    turns: Rc<RefCell<VecDeque<Report>>>,
}

impl Script {
    /// An empty script.
    pub fn new() -> Script {
        Script::default()
    }

    /// Adds a turn in which the poller reports `events`, in this order. Bits that no kernel can
    /// report, [`DEADLINE`](Readiness::DEADLINE) and [`FLUSH`](Readiness::FLUSH), are left out.
    pub fn report<E: IntoIterator<Item = (RawId, Readiness)>>(&self, events: E) {
        let events = events.into_iter().map(|(id, ready)| (id, ready.said()));
        self.turns.borrow_mut().push_back(events.collect());
    }

    pub(super) fn next(&self) -> Option<Report> {
        self.turns.borrow_mut().pop_front()
    }
}

/// A source without a descriptor, for scripts. For a value of your own, use
/// [`own`](super::Context::own).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unplugged;

impl mio::event::Source for Unplugged {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}
