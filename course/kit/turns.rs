//! A loop without a kernel: deferred callbacks, and timers by a clock that somebody sets.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;

type Callback = Box<dyn FnOnce()>;

/// A timer that was armed: its deadline and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer(u64, u64);

#[derive(Default)]
struct Inner {
    deferred: VecDeque<Callback>,
    timers: BTreeMap<Timer, Callback>,
    now_ms: u64,
    armed: u64,
}

/// A loop. Clones are the same loop.
#[derive(Clone, Default)]
pub struct Loop(Rc<RefCell<Inner>>);

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (deferred, timers) = (self.deferred(), self.timers());
        f.debug_struct("Loop").field("deferred", &deferred).field("timers", &timers).finish()
    }
}

impl Loop {
    pub fn new() -> Loop {
        Loop::default()
    }

    /// Runs the callback soon, behind those that were deferred before, and never inside this call.
    pub fn defer(&self, callback: impl FnOnce() + 'static) {
        self.0.borrow_mut().deferred.push_back(Box::new(callback));
    }

    /// Runs the callback so many milliseconds from now.
    pub fn after(&self, delay_ms: u64, callback: impl FnOnce() + 'static) -> Timer {
        let mut inner = self.0.borrow_mut();
        inner.armed += 1;
        let timer = Timer(inner.now_ms.saturating_add(delay_ms), inner.armed);
        inner.timers.insert(timer, Box::new(callback));
        timer
    }

    /// Returns true if the timer was armed.
    pub fn cancel(&self, timer: Timer) -> bool {
        let callback = self.0.borrow_mut().timers.remove(&timer);
        callback.is_some() // It is dropped here, when nothing is borrowed.
    }

    /// Runs one deferred callback. Returns false if there was none.
    pub fn step(&self) -> bool {
        let callback = self.0.borrow_mut().deferred.pop_front();
        callback.map(|callback| callback()).is_some()
    }

    /// Runs all that is deferred, and the timers up to `now_ms`, each with what it defers.
    pub fn run_to(&self, now_ms: u64) {
        while self.step() {}
        while self.next_deadline().is_some_and(|deadline| deadline <= now_ms) {
            let first = self.0.borrow_mut().timers.pop_first();
            if let Some((Timer(deadline, _), callback)) = first {
                self.0.borrow_mut().now_ms = deadline;
                callback();
            }
            while self.step() {}
        }
        let mut inner = self.0.borrow_mut();
        inner.now_ms = inner.now_ms.max(now_ms);
    }

    /// Runs until nothing is left to do. The clock stands at the last timer then.
    pub fn run(&self) {
        while self.step() {}
        while let Some(deadline) = self.next_deadline() {
            self.run_to(deadline);
        }
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.0.borrow().timers.first_key_value().map(|(Timer(deadline, _), _)| *deadline)
    }

    pub fn now_ms(&self) -> u64 {
        self.0.borrow().now_ms
    }

    /// How many timers are armed.
    pub fn timers(&self) -> usize {
        self.0.borrow().timers.len()
    }

    /// How many callbacks are deferred.
    pub fn deferred(&self) -> usize {
        self.0.borrow().deferred.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deferred_callbacks_come_before_the_next_timer() {
        let (on, seen) = (Loop::new(), Rc::new(RefCell::new(String::new())));
        let push = |letter: char| {
            let seen = seen.clone();
            move || seen.borrow_mut().push(letter)
        };
        let (again, b, d) = (on.clone(), push('b'), push('d'));
        on.after(5, push('c'));
        on.after(1, move || {
            b();
            again.defer(d);
        });
        on.defer(push('a'));
        let never = on.after(3, push('x'));
        assert!(on.cancel(never) && !on.cancel(never));
        on.run();
        assert_eq!((seen.borrow().as_str(), on.now_ms(), on.timers()), ("abdc", 5, 0));
        on.run_to(9);
        assert_eq!(on.now_ms(), 9);
    }
}
