//! Messages: reasons for a call that only the author of a source can give.
//!
//! Knows a source's type; what a message means is for that type to say. [`Context::resume`] may be
//! called by anybody, so a source cannot trust what it is resumed with. A message has a type of its
//! own, and code that cannot make a value of that type cannot send one.

use super::{Context, Readiness, Resumer, SourceId};

/// How many messages a type of source may have.
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
    /// A message. Its number is below [`MESSAGES_MAX`]. Messages of one number merge while they wait.
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
    /// Calls the source in the next turn with a message. False if the id is stale.
    ///
    /// # Panics
    /// The message's number is not below [`MESSAGES_MAX`].
    #[inline]
    pub fn send_message<T: Messages>(&mut self, id: SourceId<T>, message: T::Message) -> bool {
        self.send(id, bit::<T>(message))
    }
}

impl Resumer {
    /// [`Context::send_message`] from where no `Context` is at hand.
    ///
    /// # Panics
    /// As there.
    pub fn send_message<T: Messages>(&self, id: SourceId<T>, message: T::Message) {
        self.send(id, bit::<T>(message));
    }
}
