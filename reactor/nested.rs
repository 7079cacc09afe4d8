//! A callback that another one calls: a part of it, in the trace and when it panics.
//!
//! Knows what the loop notes of the callback that runs; never mentions the two callbacks' purpose.

use std::any::Any;

use super::dispatch::panic_message;
use super::trace::{Kind, Subject};
use super::{Context, PanicPolicy, Place};

/// The outer callback is put back when the inner one has ended, also by a panic.
struct Nested<'a, S: 'static> {
    context: &'a mut Context<S>,
    /// The outer callback: its record, when it began, and where it was handed in.
    running: u64,
    began: u64,
    place: Place,
    /// The inner one has not panicked.
    returned: bool,
}

impl<S: 'static> Drop for Nested<'_, S> {
    #[inline]
    fn drop(&mut self) {
        let context = &mut *self.context;
        if context.trace.is_on() {
            if self.returned {
                context.end_callback(Kind::Returned);
            }
            (context.trace.running, context.trace.began) = (self.running, self.began);
        }
        context.running_place = self.place;
    }
}

impl<S: 'static> Context<S> {
    /// For authors of patterns: calls `run`, which calls a callback that was handed in at `place`, as
    /// a part of the callback that runs now (R1). The trace shows it inside of that.
    #[inline]
    pub fn call_nested<R>(&mut self, place: Place, run: impl FnOnce(&mut Context<S>) -> R) -> R {
        let (running, began) = (self.trace.running, self.trace.began);
        let outer = std::mem::replace(&mut self.running_place, place);
        if self.trace.is_on() {
            self.note(Kind::RunNested, Subject::None, place, 0);
            self.trace.running = self.trace.sequence;
            self.trace.began = self.time.this_moment().nanos();
        }
        let mut nested = Nested { context: self, running, began, place: outer, returned: false };
        let result = run(nested.context);
        nested.returned = true;
        result
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
