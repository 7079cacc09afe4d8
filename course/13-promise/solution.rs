//! What is a promise without `async`? A value that comes later, and the callbacks that wait for it.
//!
//! # Contract
//! * A `Resolver` settles its promise once. If it is dropped instead, the error is `abandoned`.
//! * A callback is due when it is there and its promise is settled. Then it is deferred. So none
//!   runs inside `then`, `settle` or `cancel`, and they run in the order in which they became due.
//! * `then` and `catch` give a promise of their callback's result. An error passes by `then`, and a
//!   value passes by `catch`.
//! * `cancel` goes up the chain: callbacks that have not run are dropped at once, even if they are
//!   due. The hook of `on_cancel` runs if its promise is pending; when it settles, the hook goes.
//! * `all` gives all values in the order of the promises, or the first error; `race` gives whatever
//!   settles first. Then the others are cancelled. To cancel `all` or `race` is to cancel each.
//! * When all is done, nothing is left in memory. However long a chain is, running, dropping and
//!   cancelling it takes no more stack.

use std::cell::RefCell;
use std::mem;
use std::rc::{Rc, Weak};

use kit::Loop;

pub type Outcome<T> = Result<T, String>;

/// What both ends share.
struct Node<T> {
    on: Loop,
    outcome: Option<Outcome<T>>,
    callback: Option<Box<dyn FnOnce(Outcome<T>)>>,
    hook: Option<Hook>,
}

/// A step of a cancel. It gives the next step, and does not take it: a chain may be long.
struct Hook(Box<dyn FnOnce() -> Option<Hook>>);

pub struct Promise<T: 'static>(Rc<RefCell<Node<T>>>);
pub struct Resolver<T: 'static>(Rc<RefCell<Node<T>>>, Outcome<T>);

pub fn promise<T>(on: &Loop) -> (Promise<T>, Resolver<T>) {
    let node = Node { on: on.clone(), outcome: None, callback: None, hook: None };
    let node = Rc::new(RefCell::new(node));
    (Promise(node.clone()), Resolver(node, Err("abandoned".to_owned())))
}

/// Defers the callback if it is due.
fn look<T: 'static>(node: &Rc<RefCell<Node<T>>>) {
    let (inner, due) = (node.borrow(), node.clone());
    if inner.callback.is_some() && inner.outcome.is_some() {
        inner.on.defer(move || {
            let callback = due.borrow_mut().callback.take();
            let outcome = due.borrow_mut().outcome.take();
            let _ = callback.zip(outcome).map(|(callback, outcome)| callback(outcome));
        });
    }
}

impl<T> Resolver<T> {
    pub fn settle(mut self, outcome: Outcome<T>) {
        self.1 = outcome; // It is dropped now.
    }
}

impl<T> Drop for Resolver<T> {
    fn drop(&mut self) {
        let outcome = mem::replace(&mut self.1, Err(String::new()));
        self.0.borrow_mut().outcome = Some(outcome);
        let _hook = self.0.borrow_mut().hook.take();
        look(&self.0);
    }
}

impl<T> Promise<T> {
    pub fn then<U>(self, callback: impl FnOnce(T) -> Outcome<U> + 'static) -> Promise<U> {
        self.link(|outcome| outcome.and_then(callback))
    }

    pub fn catch(self, callback: impl FnOnce(String) -> Outcome<T> + 'static) -> Promise<T> {
        self.link(|outcome| outcome.or_else(callback))
    }

    fn link<U>(self, step: impl FnOnce(Outcome<T>) -> Outcome<U> + 'static) -> Promise<U> {
        let (next, resolver) = promise(&self.0.borrow().on);
        let up = Rc::downgrade(&self.0);
        next.0.borrow_mut().hook = Some(Hook(Box::new(|| cancel_one(up))));
        self.wait(|outcome| resolver.settle(step(outcome)));
        next
    }

    fn wait(self, callback: impl FnOnce(Outcome<T>) + 'static) {
        self.0.borrow_mut().callback = Some(Box::new(callback));
        look(&self.0);
    }

    pub fn on_cancel(self, hook: impl FnOnce() + 'static) -> Promise<T> {
        let up = self.0.borrow_mut().hook.take();
        let both = Box::new(|| (hook(), up).1);
        self.0.borrow_mut().hook = Some(Hook(both));
        self
    }

    pub fn cancel(self) {
        cancel(Rc::downgrade(&self.0));
    }
}

/// Cancels one promise. Gives the hook that goes on.
fn cancel_one<T>(node: Weak<RefCell<Node<T>>>) -> Option<Hook> {
    let node = node.upgrade()?;
    let _callback = node.borrow_mut().callback.take();
    let _outcome = node.borrow_mut().outcome.take();
    node.borrow_mut().hook.take()
}

fn cancel<T>(node: Weak<RefCell<Node<T>>>) {
    let mut next = cancel_one(node);
    while let Some(Hook(hook)) = next {
        next = hook();
    }
}

/// Calls `step` with each outcome and its index, until it says what has come out.
fn gather<T, U>(
    on: &Loop,
    promises: Vec<Promise<T>>,
    step: impl FnMut(usize, Outcome<T>) -> Option<Outcome<U>> + 'static,
) -> Promise<U> {
    let (gathered, resolver) = promise(on);
    let inputs: Rc<[_]> = promises.iter().map(|input| Rc::downgrade(&input.0)).collect();
    let undecided = Rc::new(RefCell::new(Some((resolver, step))));
    for (index, input) in promises.into_iter().enumerate() {
        let (undecided, inputs) = (undecided.clone(), inputs.clone());
        input.wait(move |outcome| {
            let Some((resolver, mut step)) = undecided.take() else { return };
            match step(index, outcome) {
                None => drop(undecided.replace(Some((resolver, step)))),
                Some(outcome) => {
                    resolver.settle(outcome);
                    inputs.iter().cloned().for_each(cancel);
                }
            }
        });
    }
    gathered.on_cancel(move || inputs.iter().cloned().for_each(cancel))
}

pub fn all<T>(on: &Loop, promises: Vec<Promise<T>>) -> Promise<Vec<T>> {
    let mut values: Vec<Option<T>> = promises.iter().map(|_| None).collect();
    let mut missing = values.len();
    gather(on, promises, move |index, outcome| {
        missing -= 1;
        match outcome.map(|value| values[index] = Some(value)) {
            Ok(()) if missing > 0 => None,
            result => Some(result.map(|()| values.drain(..).flatten().collect())),
        }
    })
}

pub fn race<T>(on: &Loop, promises: Vec<Promise<T>>) -> Promise<T> {
    gather(on, promises, |_, outcome| Some(outcome))
}
