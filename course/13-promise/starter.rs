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

/// It is called when there is an outcome or a callback more.
fn look<T: 'static>(node: &Rc<RefCell<Node<T>>>) {
    // Yours: this calls the callback at once.
    let callback = node.borrow_mut().callback.take();
    match callback {
        Some(callback) if node.borrow().outcome.is_some() => {
            let outcome = node.borrow_mut().outcome.take();
            let _ = outcome.map(callback);
        }
        callback => node.borrow_mut().callback = callback,
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
        // Yours: a cancel of `next` has to go on with this promise.
        let (next, resolver) = promise(&self.0.borrow().on);
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
    // Yours: what may not run any more?
    None
}

fn cancel<T>(node: Weak<RefCell<Node<T>>>) {
    let mut next = cancel_one(node);
    while let Some(Hook(hook)) = next {
        next = hook();
    }
}

pub fn all<T>(on: &Loop, promises: Vec<Promise<T>>) -> Promise<Vec<T>> {
    // Yours: this promise is abandoned.
    promise(on).0
}

pub fn race<T>(on: &Loop, promises: Vec<Promise<T>>) -> Promise<T> {
    // Yours: and this one, too.
    promise(on).0
}
