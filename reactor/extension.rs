//! What a loop keeps for those who build on it: one value of each type.
//!
//! Knows types; never mentions what they are for. So a pattern or a protocol has a place for what
//! belongs to the loop as a whole, and the loop need not know it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::Context;

/// Values, one of each type, and what is to be done first when the loop goes.
#[derive(Default)]
pub(super) struct Extensions {
    values: HashMap<TypeId, Box<dyn Any>, BuildHasherDefault<TypeHasher>>,
    closers: Vec<Closer>,
}

type Closer = Box<dyn FnOnce() -> Box<dyn Any>>;

impl Extensions {
    #[inline]
    pub(super) fn get<T: Default + 'static>(&mut self) -> &mut T {
        let value = self.values.entry(TypeId::of::<T>());
        let value = value.or_insert_with(|| Box::<T>::default());
        value.downcast_mut().expect("it is kept by its type")
    }

    /// Closes what is to be closed first. Returns what is to be dropped then.
    pub(super) fn close(&mut self) -> Vec<Box<dyn Any>> {
        self.closers.drain(..).map(|close| close()).collect()
    }
}

/// A `TypeId` is a hash already: it is used as it is.
#[derive(Default)]
pub(super) struct TypeHasher(u64);

impl Hasher for TypeHasher {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// A `TypeId` is hashed by the method above today. If that changes, this one is good enough.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

impl<S: 'static> Context<S> {
    /// For authors of patterns and protocols: the loop's value of type `T`, which is made when it is
    /// first asked for. It goes with the loop. O(1).
    ///
    /// ```
    /// use waterwheel::{Context, Reactor};
    ///
    /// #[derive(Default)]
    /// struct Asked(u32);
    ///
    /// fn ask<S: 'static>(reactor: &mut Context<S>) -> u32 {
    ///     let asked: &mut Asked = reactor.extension();
    ///     asked.0 += 1;
    ///     asked.0
    /// }
    ///
    /// let mut reactor = Reactor::<()>::new()?;
    /// assert_eq!((ask(&mut reactor), ask(&mut reactor)), (1, 2));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn extension<T: Default + 'static>(&mut self) -> &mut T {
        self.extensions.get()
    }

    /// The loop's value of type `T`, if there is one yet.
    #[inline]
    pub fn extension_ref<T: 'static>(&self) -> Option<&T> {
        self.extensions.values.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// Makes this the loop's value of type `T`, in place of another.
    pub fn set_extension<T: 'static>(&mut self, value: T) {
        self.extensions.values.insert(TypeId::of::<T>(), Box::new(value));
    }

    /// For authors of patterns: calls `close` when the loop is dropped, before any source, callback
    /// or extension is. What it returns is dropped when the loop is closed for all. So a pattern's
    /// threads stop before the code of the program runs in a `drop`. `close` must not panic.
    pub fn close_first(&mut self, close: impl FnOnce() -> Box<dyn Any> + 'static) {
        self.extensions.closers.push(Box::new(close));
    }
}
