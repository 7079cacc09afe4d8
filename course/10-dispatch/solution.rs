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
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::queue::{Lane, Queue};
use super::registry::{Id, Registry};

/// Deferred calls that run in one turn.
pub const DEFERRED_MAX: usize = 1000;

type Callback<S> = Box<dyn FnMut(&mut Loop<S>, &mut S, Id)>;
type Call<S> = Box<dyn FnOnce(&mut Loop<S>, &mut S)>;

/// Callbacks, and what waits for them.
pub struct Loop<S> {
    /// `None` while it runs.
    callbacks: Registry<Option<Callback<S>>>,
    queue: Queue<Id>,
    deferred: VecDeque<Call<S>>,
    /// How many deferred calls may still run in this turn.
    deferred_left: usize,
    is_running: bool,
    pub panics: usize,
}

impl<S> Loop<S> {
    pub fn new() -> Loop<S> {
        Loop {
            callbacks: Registry::new(),
            queue: Queue::new(),
            deferred: VecDeque::new(),
            deferred_left: 0,
            is_running: false,
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
        let Some(mut callback) = self.callbacks.get(id).and_then(Option::take) else { return };
        let ran = catch_unwind(AssertUnwindSafe(|| callback(self, state, id)));
        if ran.is_err() {
            self.panics += 1;
            self.callbacks.remove(id);
        } else if let Some(place) = self.callbacks.get(id) {
            *place = Some(callback);
        }
    }

    pub fn turn(&mut self, state: &mut S) -> bool {
        if self.is_running {
            return false;
        }
        self.is_running = true;
        self.queue.begin_turn();
        self.deferred_left = DEFERRED_MAX;
        self.run_deferred(state);
        while let Some(id) = self.queue.pop() {
            self.run(id, state);
            self.run_deferred(state);
        }
        self.is_running = false;
        true
    }

    fn run_deferred(&mut self, state: &mut S) {
        while self.deferred_left > 0
            && let Some(call) = self.deferred.pop_front()
        {
            self.deferred_left -= 1;
            let ran = catch_unwind(AssertUnwindSafe(|| call(self, state)));
            self.panics += usize::from(ran.is_err());
        }
    }

    /// Returns true if nothing waits: the loop may sleep.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.deferred.is_empty()
    }
}
