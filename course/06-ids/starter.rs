//! Who is number 5? A table whose places are used again, and ids that notice.
//!
//! # Contract
//! * `insert` puts a value into a free place, if there is one, and names it by an id.
//! * `get` and `remove` find the value of exactly that insertion, or `None`. O(1).
//! * The id of a value that was removed never names another value.
//! * `places` never grows while a place is free.

/// A place, and which use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    pub index: u32,
    pub generation: u32,
}

/// Values, each in a place of its own.
pub struct Registry<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Registry<T> {
    pub fn new() -> Registry<T> {
        Registry { slots: Vec::new(), free: Vec::new() }
    }

    pub fn insert(&mut self, value: T) -> Id {
        // Yours: use a free place again. Then: how does an old id notice?
        self.slots.push(Some(value));
        Id { index: self.slots.len() as u32 - 1, generation: 0 }
    }

    pub fn get(&mut self, id: Id) -> Option<&mut T> {
        self.slots.get_mut(id.index as usize)?.as_mut()
    }

    pub fn remove(&mut self, id: Id) -> Option<T> {
        let value = self.slots.get_mut(id.index as usize)?.take()?;
        self.free.push(id.index);
        Some(value)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many places there are, used or free.
    pub fn places(&self) -> usize {
        self.slots.len()
    }
}
