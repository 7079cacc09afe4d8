//! The two sides of a link.
//!
//! Knows nothing else.
//!
//! # Read next
//! `link.rs`: the link.

/// One side of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The side that was given first.
    A,
    /// The other.
    B,
}

impl Side {
    /// The side opposite.
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    pub(super) fn of(index: usize) -> Side {
        if index == 0 { Side::A } else { Side::B }
    }
}
