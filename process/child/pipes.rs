//! The pipes of a child: their number, and the time for which they may hold the loop.
//!
//! Knows the owners of a pipe and the source to wake. `mod.rs` decides when `Exit` is delivered.
//!
//! A pipe is open as long as any process has its other end, also after the child: the programs that
//! it has started have inherited stdin, stdout and stderr. So a pipe may outlive its child for
//! hours, and the loop should not wait for that. It holds the loop for
//! [`Spawn::linger`](super::Spawn::linger) more. After that it stays open, and its bytes are still
//! delivered, but the loop ends when nothing else holds it. A pipe that its handler has paused goes
//! on holding the loop: it may still contain output of the child itself.
//!
//! # Read next
//! `spawn.rs`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::net::Conn;
use crate::net::descriptor::Companion;
use crate::reactor::{Context, RawId, Readiness, Resumer, SourceId};

/// The shortest time until a paused pipe is looked at again.
const PAUSED_AGAIN: Duration = Duration::from_secs(1);

/// The pipes of one child.
#[derive(Debug)]
pub(super) struct Pipes {
    /// Output pipes that are open, opened as streams or not.
    outputs: Cell<usize>,
    /// All that are open, stdin too.
    open: Cell<usize>,
    /// The connections that have one now.
    conns: RefCell<Vec<SourceId<Conn>>>,
    child: Cell<Option<RawId>>,
    resumer: Resumer,
}

impl Pipes {
    pub(super) fn new(resumer: Resumer) -> Pipes {
        Pipes {
            outputs: Cell::new(0),
            open: Cell::new(0),
            conns: RefCell::default(),
            child: Cell::new(None),
            resumer,
        }
    }

    /// Sets the child of these pipes, which is woken when the last output pipe is closed.
    pub(super) fn belong_to(&self, child: RawId) {
        self.child.set(Some(child));
    }

    /// Returns true if all of the output was delivered.
    pub(super) fn are_drained(&self) -> bool {
        self.outputs.get() == 0
    }

    /// After `linger`, lets the loop end although some are still open.
    pub(super) fn let_go_after<S: 'static>(
        self: Rc<Self>,
        reactor: &mut Context<S>,
        linger: Duration,
    ) {
        if self.open.get() == 0 {
            return;
        }
        let timer = reactor.after(linger, move |reactor, _| {
            if self.let_go(reactor) {
                self.let_go_after(reactor, linger.max(PAUSED_AGAIN));
            }
        });
        reactor.unref(timer);
    }

    /// Stops the pipes from holding the loop. Returns true if some are paused and left as they are.
    fn let_go<S: 'static>(&self, reactor: &mut Context<S>) -> bool {
        let mut paused = false;
        for id in self.conns.borrow().iter() {
            if reactor.get(*id).is_some_and(Conn::is_paused) {
                paused = true;
            } else {
                reactor.unref(*id);
            }
        }
        paused
    }
}

/// Held by each stream over a pipe; the last output to go wakes the child.
#[derive(Debug)]
pub(super) struct Held {
    pipes: Rc<Pipes>,
    is_output: bool,
    conn: Option<SourceId<Conn>>,
}

impl Held {
    pub(super) fn new(pipes: &Rc<Pipes>, is_output: bool) -> Held {
        pipes.open.update(|open| open + 1);
        pipes.outputs.update(|outputs| outputs + usize::from(is_output));
        Held { pipes: pipes.clone(), is_output, conn: None }
    }

    fn forget(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.pipes.conns.borrow_mut().retain(|id| *id != conn);
        }
    }
}

impl Companion for Held {
    fn registered(&mut self, conn: SourceId<Conn>) {
        self.forget();
        self.pipes.conns.borrow_mut().push(conn);
        self.conn = Some(conn);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.forget();
        self.pipes.open.update(|open| open - 1);
        if !self.is_output {
            return;
        }
        self.pipes.outputs.update(|outputs| outputs - 1);
        if self.pipes.are_drained()
            && let Some(child) = self.pipes.child.get()
        {
            self.pipes.resumer.resume(child, Readiness::READABLE);
        }
    }
}
