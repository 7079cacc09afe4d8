//! Readiness: why a source is called.
//!
//! # Read next
//! `dispatch.rs`: who is called for it.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};

/// What a source is called for: a set of reasons, merged while they wait.
///
/// From the kernel they are hints, as always with epoll: a *spurious* readiness is possible, so a
/// read may still answer `WouldBlock`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// Nothing.
    pub const NONE: Readiness = Readiness(0);
    /// There may be something to read, or to accept.
    pub const READABLE: Readiness = Readiness(1);
    /// There may be room to write.
    pub const WRITABLE: Readiness = Readiness(2);
    /// The peer has finished writing, or is gone. Read on until 0 or an error.
    pub const READ_CLOSED: Readiness = Readiness(4);
    /// Writing has become impossible.
    pub const WRITE_CLOSED: Readiness = Readiness(8);
    /// The descriptor has an error pending.
    pub const ERROR: Readiness = Readiness(16);
    /// Priority (out-of-band) data.
    pub const PRIORITY: Readiness = Readiness(32);
    /// The source's own deadline has passed; see
    /// [`Context::set_deadline`](super::Context::set_deadline).
    pub const DEADLINE: Readiness = Readiness(64);
    /// Phase 1 of the turn, for a source registered with [`Options::flush`](super::Options::flush)
    /// that was borrowed mutably since it last ran. The one reason that comes outside of dispatch:
    /// a callback that answers it writes out what it holds and calls nobody.
    pub const FLUSH: Readiness = Readiness(128);

    /// Whether all of `other` is in this set.
    #[inline]
    pub fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in this set.
    #[inline]
    pub fn intersects(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set is empty.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether reading is worth a try: data, or the news that no more will come.
    #[inline]
    pub fn is_readable(self) -> bool {
        self.intersects(Readiness(1 | 4 | 16))
    }

    /// Whether writing is worth a try: room, or the news that there will be none.
    #[inline]
    pub fn is_writable(self) -> bool {
        self.intersects(Readiness(2 | 8 | 16))
    }

    pub(super) fn bits(self) -> u32 {
        u32::from(self.0)
    }

    pub(super) fn from_bits(bits: u32) -> Readiness {
        Readiness(bits as u8)
    }

    #[inline]
    pub(super) fn of(event: &mio::event::Event) -> Readiness {
        let bit = |set: bool, bit: Readiness| if set { bit.0 } else { 0 };
        Readiness(
            bit(event.is_readable(), Readiness::READABLE)
                | bit(event.is_writable(), Readiness::WRITABLE)
                | bit(event.is_read_closed(), Readiness::READ_CLOSED)
                | bit(event.is_write_closed(), Readiness::WRITE_CLOSED)
                | bit(event.is_error(), Readiness::ERROR)
                | bit(event.is_priority(), Readiness::PRIORITY),
        )
    }
}

impl BitOr for Readiness {
    type Output = Readiness;
    fn bitor(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }
}

impl BitAnd for Readiness {
    type Output = Readiness;
    fn bitand(self, other: Readiness) -> Readiness {
        Readiness(self.0 & other.0)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Readiness) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = [
            "readable",
            "writable",
            "read-closed",
            "write-closed",
            "error",
            "priority",
            "deadline",
            "flush",
        ];
        let set = NAMES.iter().enumerate().filter(|(bit, _)| self.0 & 1 << bit != 0);
        let names: Vec<&str> = set.map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join("+"))
    }
}
