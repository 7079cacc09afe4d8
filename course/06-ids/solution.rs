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

/// A place. The generation counts the values that have left it.
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values, each in a place of its own.
pub struct Registry<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Registry<T> {
    pub fn new() -> Registry<T> {
        Registry { slots: Vec::new(), free: Vec::new() }
    }

    pub fn insert(&mut self, value: T) -> Id {
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        if index as usize == self.slots.len() {
            self.slots.push(Slot { generation: 0, value: None });
        }
        let slot = &mut self.slots[index as usize];
        slot.value = Some(value);
        Id { index, generation: slot.generation }
    }

    fn slot(&mut self, id: Id) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        (slot.generation == id.generation).then_some(slot)
    }

    pub fn get(&mut self, id: Id) -> Option<&mut T> {
        self.slot(id)?.value.as_mut()
    }

    pub fn remove(&mut self, id: Id) -> Option<T> {
        let slot = self.slot(id)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
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
