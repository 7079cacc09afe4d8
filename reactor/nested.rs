//! A callback that another one calls: a part of it, in the trace and when it panics.
//!
//! Knows what the loop notes of the callback that runs; never mentions the two callbacks' purpose.

use std::any::Any;

use super::dispatch::panic_message;
use super::trace::{Kind, Subject};
use super::{Context, PanicPolicy, Place};

/// The callback that calls another one, until that ends.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// Its record, when it began, and where it was handed in.
    running: u64,
    began: u64,
    place: Place,
}

impl<S: 'static> Context<S> {
    /// For authors of patterns: the callback that runs now is about to call one that was handed in at
    /// `place`, as a part of it (R1). The trace shows that inside. Whatever happens,
    /// [`end_nested`](Context::end_nested) has to be called with what this returns.
    #[inline]
    pub fn begin_nested(&mut self, place: Place) -> Outer {
        let (running, began) = (self.trace.running, self.trace.began);
        let outer = Outer { running, began, place: self.running_place };
        self.running_place = place;
        if self.trace.is_on() {
            self.note(Kind::RunNested, Subject::None, place, 0);
            self.trace.running = self.trace.sequence;
            self.trace.began = self.time.this_moment().nanos();
        }
        outer
    }

    /// For authors of patterns: the inner callback has returned, or panicked, and the outer one goes on.
    #[inline]
    pub fn end_nested(&mut self, outer: Outer, returned: bool) {
        if self.trace.is_on() {
            if returned {
                self.end_callback(Kind::Returned);
            }
            (self.trace.running, self.trace.began) = (outer.running, outer.began);
        }
        self.running_place = outer.place;
    }

    /// For authors of patterns: calls `run` on behalf of others. If it panics,
    /// [`PanicPolicy::Drop`] does not drop the source whose callback this is.
    pub fn call_for_others<R>(&mut self, run: impl FnOnce(&mut Context<S>) -> R) -> R {
        let running = std::mem::replace(&mut self.running, Subject::None);
        let result = run(self);
        self.running = running;
        result
    }

    /// What is done about a callback that panics.
    pub fn panic_policy(&self) -> PanicPolicy {
        self.panic
    }

    /// Where the callback that runs now was handed to the loop.
    pub fn running_place(&self) -> Place {
        self.running_place
    }

    /// For authors of patterns who catch the panic of a callback that they call: logs and counts it, as
    /// the loop does with its own. `what` is what was handed in at `place`, and is dropped: "listener".
    #[cold]
    pub fn report_panic(&mut self, what: &str, place: Place, panic: &(dyn Any + Send)) {
        let message = panic_message(panic);
        log::error!("the {what} from {place} panicked ({message}) and is dropped");
        self.statistics.panicked += 1;
        self.note(Kind::Panicked, Subject::None, place, 0);
    }
}
