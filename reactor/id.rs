//! Ids: how a source is named, by the program and by the kernel.
//!
//! Knows mio's `Token`; never touches the slab.
//!
//! Registering moves an object into the slab and returns a [`SourceId`]: an index and a generation.
//! The index finds the slot in O(1). The generation counts registrations and shows if the slot
//! still holds the same source. The kernel reports the pair (mio's `Token`) with each event. So the
//! loop recognises an event that was on its way when its source was removed: it drops and counts
//! the event.
//!
//! ```text
//!   slot    0        1        2        3          an event for slot 1, generation 2, arrives:
//!         ┌────────┬────────┬────────┬────────┐   slot 1 holds generation 5 now,
//!         │ gen 1  │ gen 5  │  free  │ gen 4  │   5 ≠ 2, no callback is called
//!         └────────┴────────┴────────┴────────┘
//! ```
//!
//! A file descriptor number cannot do this: the kernel reuses the lowest free one at once.
//!
//! # Read next
//! `source.rs`: the sources that the ids name.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use mio::Token;

/// Bits of a token that hold the index; the rest holds the generation. 32 and 32, or on 32-bit
/// targets 20 and 12: half a million sources, and a stale id is recognised for 4,095 registrations
/// only.
pub(super) const INDEX_BITS: u32 = if usize::BITS >= 64 { 32 } else { 20 };
/// The largest generation that a token can hold. No id has it, so no id becomes the waker's
/// token.
pub(super) const GENERATION_MAX: u32 = (usize::MAX >> INDEX_BITS) as u32;

/// The untyped form of a [`SourceId`]: an index into the slab and a generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl RawId {
    /// Index and generation, for traces and displays.
    pub fn parts(self) -> (u32, u32) {
        (self.index, self.generation)
    }

    /// The token under which the selector knows the source.
    pub fn token(self) -> Token {
        Token((self.generation as usize) << INDEX_BITS | self.index as usize)
    }

    /// The id in a token, for a source that needs its own id: a
    /// [`Source`](mio::event::Source) receives its token when it is registered.
    pub fn from_token(Token(token): Token) -> RawId {
        RawId {
            index: (token & ((1 << INDEX_BITS) - 1)) as u32,
            generation: (token >> INDEX_BITS) as u32,
        }
    }

    /// The id in a token's number, as the kernel lists it: for an observer of its lists.
    pub fn from_number(token: usize) -> RawId {
        RawId::from_token(Token(token))
    }
}

impl fmt::Debug for RawId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source#{}.{}", self.index, self.generation)
    }
}

/// Names a source that the loop owns, and remembers its type. `Copy`, and harmless when stale.
///
/// The kinds of source in [`net`](crate::net) have their operations on the id, such as
/// `conn.write(reactor, bytes)`: if the source has gone, they only return that it has.
///
/// `reactor[id]` is the object itself and panics if the id is stale, as indexing does. Use it for a
/// source of your own, only inside the id's own callback (or right after you have registered it).
/// Anywhere else the source may have ended already, for instance because of a peer:
/// [`get`](super::Context::get) and [`get_mut`](super::Context::get_mut) return `None` then.
pub struct SourceId<T> {
    raw: RawId,
    /// `T` is only a function's return type: so the id is `Send` and `Copy` for any `T`.
    of: PhantomData<fn() -> T>,
}

impl<T> SourceId<T> {
    /// The same id without its type.
    pub fn raw(self) -> RawId {
        self.raw
    }

    pub(crate) fn new(raw: RawId) -> SourceId<T> {
        SourceId { raw, of: PhantomData }
    }
}

impl<T> From<SourceId<T>> for RawId {
    #[inline]
    fn from(id: SourceId<T>) -> RawId {
        id.raw
    }
}

// Written by hand: derives would demand `T: Copy` and so on.
impl<T> Clone for SourceId<T> {
    fn clone(&self) -> SourceId<T> {
        *self
    }
}
impl<T> Copy for SourceId<T> {}
impl<T> PartialEq for SourceId<T> {
    fn eq(&self, other: &SourceId<T>) -> bool {
        self.raw == other.raw
    }
}
impl<T> Eq for SourceId<T> {}
impl<T> Hash for SourceId<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}
impl<T> fmt::Debug for SourceId<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_the_token() {
        for (index, generation) in
            [(0, 0), (1, 7), ((1 << (INDEX_BITS - 1)) - 1, GENERATION_MAX - 1)]
        {
            let id = RawId { index, generation };
            assert_eq!(RawId::from_token(id.token()), id);
            assert_ne!(id.token(), super::super::WAKE);
        }
    }
}
