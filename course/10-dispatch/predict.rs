//! Predict: the callbacks are in a list, and the first one removes itself from it while it runs.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

type Callback = Box<dyn Fn(&Loop)>;

#[derive(Default)]
struct Loop {
    callbacks: RefCell<Vec<Callback>>,
    count: Cell<usize>,
}

fn main() {
    set_hook(Box::new(|panic| println!("{panic}")));
    let rill = Loop::default();
    rill.callbacks.borrow_mut().push(Box::new(|rill| {
        println!("Ann's callback removes itself");
        drop(rill.callbacks.borrow_mut().remove(0));
        rill.count.set(rill.count.get() + 1);
    }));
    rill.callbacks.borrow_mut().push(Box::new(|rill| rill.count.set(rill.count.get() + 1)));
    let turn = || rill.callbacks.borrow().iter().for_each(|callback| callback(&rill));
    let letter = match catch_unwind(AssertUnwindSafe(turn)) {
        Err(_) => 'd',
        Ok(()) if rill.count.get() == 2 => 'b',
        Ok(()) => 'c',
    };
    println!("answer: {letter}");
}
