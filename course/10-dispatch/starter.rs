//! May a callback do anything? A loop whose callbacks leave their places while they run.
//!
//! # Contract
//! * `turn` runs the events that were in the queue when it began. For each it calls the callback of
//!   that id, with the loop itself, the state, and the id. An event for an id that is gone does
//!   nothing.
//! * A callback may insert, remove, wake and defer, itself and others, and the effect is immediate:
//!   what was removed is not called any more, and its callback is dropped. One that removes itself
//!   runs to its end, and is dropped then.
//! * One callback at a time: a `turn` inside a callback does nothing, and gives false.
//! * `defer`: the call runs right after the callback that runs now, before the next event, and in
//!   the order of deferring. A turn runs at most `DEFERRED_MAX` of them. The others wait for the
//!   next turn, and run before its first event; this turn's events do not wait for them.
//! * A callback that panics is removed, and counted in `panics`. A deferred call that panics is
//!   counted. All the rest goes on as if it had returned.

use std::collections::VecDeque;

use super::queue::{Lane, Queue};
use super::registry::{Id, Registry};

/// Deferred calls that run in one turn.
pub const DEFERRED_MAX: usize = 1000;

type Callback<S> = Box<dyn FnMut(&mut Loop<S>, &mut S, Id)>;
type Call<S> = Box<dyn FnOnce(&mut Loop<S>, &mut S)>;

/// Callbacks, and what waits for them.
pub struct Loop<S> {
    callbacks: Registry<Option<Callback<S>>>,
    queue: Queue<Id>,
    deferred: VecDeque<Call<S>>,
    pub panics: usize,
}

impl<S> Loop<S> {
    pub fn new() -> Loop<S> {
        Loop {
            callbacks: Registry::new(),
            queue: Queue::new(),
            deferred: VecDeque::new(),
            panics: 0,
        }
    }

    pub fn insert(&mut self, callback: impl FnMut(&mut Loop<S>, &mut S, Id) + 'static) -> Id {
        self.callbacks.insert(Some(Box::new(callback)))
    }

    /// Returns false if it is gone already.
    pub fn remove(&mut self, id: Id) -> bool {
        self.callbacks.remove(id).is_some()
    }

    /// Puts an event into the queue.
    pub fn wake(&mut self, lane: Lane, id: Id) {
        self.queue.push(lane, id);
    }

    pub fn defer(&mut self, call: impl FnOnce(&mut Loop<S>, &mut S) + 'static) {
        self.deferred.push_back(Box::new(call));
    }

    fn run(&mut self, id: Id, state: &mut S) {
        // Yours: it is called once and then never again. Is its place still its own afterwards?
        let Some(mut callback) = self.callbacks.get(id).and_then(Option::take) else { return };
        callback(self, state, id);
    }

    pub fn turn(&mut self, state: &mut S) -> bool {
        self.queue.begin_turn();
        while let Some(id) = self.queue.pop() {
            self.run(id, state);
        }
        // Yours: is this the right moment? And what if a call defers itself?
        while let Some(call) = self.deferred.pop_front() {
            call(self, state);
        }
        true
    }

    /// Returns true if nothing waits: the loop may sleep.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.deferred.is_empty()
    }
}
