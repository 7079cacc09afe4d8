//! Readiness: the reasons for which a source is called.
//!
//! Knows bits; never mentions how a callback is called.
//!
//! ```text
//!   bit  0 ─ 5    reported by the kernel, or by a call of `resume` in its place
//!        6, 7     DEADLINE and FLUSH: reported by the loop
//!        8 ─ 10   WRITABLE, WRITE_CLOSED, ERROR again: set only if the kernel itself reports them
//!       11 ─ 15   messages: each type of source defines its own
//! ```
//!
//! # Rules
//! 1. `resume` can set bits 0 to 5 only. So it cannot pretend that a deadline has passed, that the
//!    kernel has reported a hang-up, or that the author of a source has sent a message.
//! 2. A callback of `register` or `own` does not see bits 8 to 15. The calls for authors of
//!    sources, `register_sure` and `try_own`, show them.
//! 3. A message has a type of its own ([`Messages`]), so only code that can make a value of that
//!    type can send one. The author of the source defines its meaning.
//!
//! # Read next
//! `dispatch.rs`: how callbacks are called.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};

use super::{Context, Resumer, SourceId};

/// The reasons for which a source is called: a set, merged while it waits.
///
/// Those from the kernel are hints, as always with epoll: a *spurious* (false) readiness is
/// possible, so a read may still return `WouldBlock`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness(u16);

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
    /// that others borrowed mutably since its last flush. Only this reason comes outside of phase
    /// 6: the callback writes out its data and calls no other callback.
    pub const FLUSH: Readiness = Readiness(128);

    /// The bits that the kernel can report, and a public call may set.
    const REPORTS: Readiness = Readiness(0x003f);
    /// The bits that callbacks of the program see.
    const PUBLIC: Readiness = Readiness(0x00ff);
    /// The kernel itself has reported that there may be room to write.
    pub(crate) const HAS_ROOM: Readiness = Readiness(0x0100);
    /// The kernel itself has reported that writing has become impossible.
    pub(crate) const HUNG_UP: Readiness = Readiness(0x0200);
    /// The kernel itself has reported that an error is pending.
    pub(crate) const FAILED: Readiness = Readiness(0x0400);
    /// All three of them.
    const SAID: Readiness = Readiness(0x0700);
    /// Messages within a kind of source, which defines their meanings.
    pub(crate) const MESSAGES: [Readiness; 5] = [
        Readiness(0x0800),
        Readiness(0x1000),
        Readiness(0x2000),
        Readiness(0x4000),
        Readiness(0x8000),
    ];

    /// The bits of this set that a public call may set.
    #[inline]
    pub(super) fn asked(self) -> Readiness {
        self & Readiness::REPORTS
    }

    /// The bits of this set that a callback of the program sees.
    #[inline]
    pub(super) fn shown(self) -> Readiness {
        self & Readiness::PUBLIC
    }

    /// The same set, as the kernel reports it, or a script or a pair in memory in its place.
    #[inline]
    pub(crate) fn said(self) -> Readiness {
        let room = (self.0 & Readiness::WRITABLE.0) << 7;
        let ends = (self.0 & (Readiness::WRITE_CLOSED.0 | Readiness::ERROR.0)) << 6;
        Readiness(self.asked().0 | room | ends)
    }

    /// The union of both sets.
    pub(crate) const fn with(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    /// Returns true if all of `other` is in this set.
    #[inline]
    pub fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns true if any of `other` is in this set.
    #[inline]
    pub fn intersects(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns true if the set is empty.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Returns true if reading is worth a try: there may be data, or its end or an error.
    #[inline]
    pub fn is_readable(self) -> bool {
        self.intersects(Readiness(1 | 4 | 16))
    }

    /// Returns true if writing is worth a try: there may be room, or an error to find.
    #[inline]
    pub fn is_writable(self) -> bool {
        self.intersects(Readiness(2 | 8 | 16))
    }

    /// The bits for records, without the marks of the kernel's own reports.
    pub(super) fn bits(self) -> u32 {
        u32::from(self.0 & !Readiness::SAID.0)
    }

    pub(super) fn from_bits(bits: u32) -> Readiness {
        Readiness(bits as u16)
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
        .said()
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
        const NAMES: [&str; 9] = [
            "readable",
            "writable",
            "read-closed",
            "write-closed",
            "error",
            "priority",
            "deadline",
            "flush",
            "message",
        ];
        let messages = u16::from(self.0 > (Readiness::PUBLIC | Readiness::SAID).0);
        let named = self.shown().0 | messages << 8;
        let set = NAMES.iter().enumerate().filter(|(bit, _)| named & 1 << bit != 0);
        let names: Vec<&str> = set.map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join("+"))
    }
}

/// The most messages that a type of source may have.
pub const MESSAGES_MAX: usize = Readiness::MESSAGES.len();

/// For authors of sources: the messages that sources of this type receive.
///
/// ```
/// use waterwheel::Reactor;
/// use waterwheel::reactor::{Messages, Options};
///
/// pub struct Lamp;
/// /// Its field is private, so only this module can make one.
/// #[derive(Clone, Copy)]
/// pub struct Switch(u8);
/// impl From<Switch> for u8 {
///     fn from(switch: Switch) -> u8 {
///         switch.0
///     }
/// }
/// impl Messages for Lamp {
///     type Message = Switch;
/// }
/// const ON: Switch = Switch(0);
///
/// let mut reactor = Reactor::new()?;
/// let lamp = reactor.try_own(Lamp, Options::default(), |reactor, lit: &mut bool, lamp, ready| {
///     *lit |= ready.has_message::<Lamp>(ON);
///     reactor.remove(lamp);
/// })?;
/// reactor.send_message(lamp, ON);
/// let mut lit = false;
/// reactor.run(&mut lit)?;
/// assert!(lit);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Messages: 'static {
    /// A message. Its number is below [`MESSAGES_MAX`]. Equal messages merge while they wait.
    type Message: Copy + Into<u8>;
}

fn bit<T: Messages>(message: T::Message) -> Readiness {
    Readiness::MESSAGES[usize::from(message.into())]
}

impl Readiness {
    /// Returns true if this message was sent since the source was called last.
    #[inline]
    pub fn has_message<T: Messages>(self, message: T::Message) -> bool {
        self.contains(bit::<T>(message))
    }
}

impl<S: 'static> Context<S> {
    /// Calls the source in the next turn with a message. Returns false if the id is stale.
    ///
    /// # Panics
    /// The message's number is not below [`MESSAGES_MAX`].
    #[inline]
    pub fn send_message<T: Messages>(&mut self, id: SourceId<T>, message: T::Message) -> bool {
        self.send(id, bit::<T>(message))
    }
}

impl Resumer {
    /// [`Context::send_message`] for code that has no `Context`.
    ///
    /// # Panics
    /// As [`Context::send_message`].
    pub fn send_message<T: Messages>(&self, id: SourceId<T>, message: T::Message) {
        self.send(id, bit::<T>(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_public_call_asks_for_is_no_message_and_no_word_of_the_kernel() {
        let all = Readiness(u16::MAX);
        assert_eq!(all.asked(), Readiness(0x3f));
        assert_eq!(all.shown(), Readiness(0xff));
        assert_eq!(all.asked().said().0, 0x073f);
        assert_eq!(Readiness::WRITABLE.said(), Readiness::WRITABLE | Readiness::HAS_ROOM);
        assert_eq!(Readiness::WRITE_CLOSED.said(), Readiness::WRITE_CLOSED | Readiness::HUNG_UP);
        assert_eq!(Readiness::ERROR.said(), Readiness::ERROR | Readiness::FAILED);
        for ready in [Readiness::READABLE, Readiness::READ_CLOSED, Readiness::PRIORITY] {
            assert_eq!(ready.said(), ready);
        }
        for message in Readiness::MESSAGES {
            assert_eq!((message.asked(), message.shown()), (Readiness::NONE, Readiness::NONE));
            assert!(!message.intersects(Readiness::SAID));
        }
    }

    #[test]
    fn records_tell_messages_and_not_who_has_said_it() {
        let ready = Readiness::WRITABLE.said() | Readiness::MESSAGES[4];
        assert_eq!(format!("{:?}", Readiness::from_bits(ready.bits())), "writable+message");
        assert_eq!(format!("{:?}", Readiness::ERROR.said()), "error");
    }
}
