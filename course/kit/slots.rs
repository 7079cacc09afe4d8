//! A row of lists that counts how often one of them is looked at.

use std::cell::Cell;
use std::ops::{Index, IndexMut};

/// Lists side by side, each used as a `Vec`: `slots[3].push(7)`. Each `slots[…]` is a look.
#[derive(Clone, Debug)]
pub struct Slots<T> {
    lists: Vec<Vec<T>>,
    looks: Cell<u64>,
    allowed: Cell<u64>,
}

impl<T> Slots<T> {
    /// So many lists, all of them empty.
    pub fn new(count: usize) -> Slots<T> {
        let lists = (0..count).map(|_| Vec::new()).collect();
        Slots { lists, looks: Cell::new(0), allowed: Cell::new(u64::MAX) }
    }

    /// How often a list has been looked at.
    pub fn looks(&self) -> u64 {
        self.looks.get()
    }

    /// Allows so many looks from now on. One more fails the check: a walk over millions of lists
    /// ends at once.
    pub fn allow(&self, looks: u64) {
        self.allowed.set(self.looks.get().saturating_add(looks));
    }

    fn look(&self) {
        self.looks.set(self.looks.get() + 1);
        if self.looks.get() > self.allowed.get() {
            self.allowed.set(u64::MAX);
            panic!("A slot too many is looked at: an empty slot needs no look.");
        }
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = Vec<T>;

    #[track_caller]
    fn index(&self, list: usize) -> &Vec<T> {
        self.look();
        &self.lists[list]
    }
}

impl<T> IndexMut<usize> for Slots<T> {
    #[track_caller]
    fn index_mut(&mut self, list: usize) -> &mut Vec<T> {
        self.look();
        &mut self.lists[list]
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn each_look_is_counted_and_one_too_many_fails() {
        let mut slots = Slots::new(2);
        slots[1].push('a');
        assert_eq!((slots[0].len(), slots[1].len(), slots.looks()), (0, 1, 3));
        slots.allow(1);
        let walk = |slots: &Slots<char>| (0..2).map(|list| slots[list].len()).sum::<usize>();
        assert!(catch_unwind(AssertUnwindSafe(|| walk(&slots))).is_err());
        assert_eq!(walk(&slots), 1, "it has failed once");
    }
}
