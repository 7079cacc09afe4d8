//! A bound for all that is kept: what takes some of it holds a weight, and gives it back by its end.

use std::cell::Cell;
use std::rc::Rc;

/// For sessions with their wills; for subscriptions; for what topics retain; for messages that wait
/// for a client: each as much, of all clients together. 32 MiB.
pub const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// So many bytes, and how many of them are taken.
#[derive(Debug)]
pub struct Memory {
    taken: Rc<Cell<usize>>,
    bytes_max: usize,
}

/// Some bytes of a [`Memory`]. They are free again when this is dropped.
#[derive(Debug)]
pub struct Weight {
    taken: Rc<Cell<usize>>,
    bytes: usize,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new(KEPT_BYTES_MAX)
    }
}

impl Memory {
    pub fn new(bytes_max: usize) -> Memory {
        Memory { taken: Rc::default(), bytes_max }
    }

    /// Takes some bytes, if so many are free.
    pub fn take(&self, bytes: usize) -> Option<Weight> {
        let taken = self.taken.get() + bytes;
        (taken <= self.bytes_max).then(|| {
            self.taken.set(taken);
            Weight { taken: self.taken.clone(), bytes }
        })
    }

    pub fn free(&self) -> usize {
        self.bytes_max - self.taken.get()
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.taken.set(self.taken.get() - self.bytes);
    }
}
