//! What a loop keeps for those who build on it: one value of each type.
//!
//! Knows types; never mentions what they are for. So a pattern or a protocol has a place for what
//! belongs to the loop as a whole, and the loop need not know it.

use std::any::{Any, TypeId};

use super::Context;

/// A few values, one of each type. Looked through from the front: there are a handful.
#[derive(Default)]
pub(super) struct Extensions(Vec<(TypeId, Box<dyn Any>)>);

impl Extensions {
    #[inline]
    fn position<T: 'static>(&self) -> Option<usize> {
        self.0.iter().position(|(kind, _)| *kind == TypeId::of::<T>())
    }
}

impl<S: 'static> Context<S> {
    /// For authors of patterns and protocols: the loop's value of type `T`, which is made when it is
    /// first asked for. It goes with the loop. O(types in use), a handful.
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
        let at = match self.extensions.position::<T>() {
            Some(at) => at,
            None => {
                self.extensions.0.push((TypeId::of::<T>(), Box::<T>::default()));
                self.extensions.0.len() - 1
            }
        };
        self.extensions.0[at].1.downcast_mut().expect("it is kept by its type")
    }

    /// The loop's value of type `T`, if there is one yet.
    #[inline]
    pub fn extension_ref<T: 'static>(&self) -> Option<&T> {
        self.extensions.position::<T>().and_then(|at| self.extensions.0[at].1.downcast_ref())
    }
}
