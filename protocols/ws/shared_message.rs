//! Messages that are made once and sent to many.
//!
//! # Read next
//! `socket.rs`: how they are sent.

use std::fmt;
use std::rc::Rc;

use super::frame::{Kind, head};

/// A message in the form in which it is sent: clones share it, and all peers of a server get the
/// same bytes. A client masks them, each time with a new mask.
///
/// ```no_run
/// # use waterwheel::{Context, protocols::ws};
/// # fn send_to_all(reactor: &mut Context<()>, peers: &[ws::Socket]) {
/// let message = ws::Message::text("the same for all");
/// for peer in peers {
///     let _ = peer.send(reactor, &message);
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Message {
    frame: Rc<[u8]>,
    /// Where the payload begins.
    payload: u8,
    kind: Kind,
}

impl Message {
    /// A text.
    pub fn text(text: &str) -> Message {
        Message::new(Kind::Text, text.as_bytes())
    }

    /// Bytes.
    pub fn binary(bytes: &[u8]) -> Message {
        Message::new(Kind::Binary, bytes)
    }

    fn new(kind: Kind, payload: &[u8]) -> Message {
        let head = head(kind, payload.len(), None);
        let frame = [head.bytes(), payload].concat().into();
        Message { frame, payload: head.bytes().len() as u8, kind }
    }

    /// The whole frame, for an end that does not mask.
    pub(super) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Its payload.
    pub fn payload(&self) -> &[u8] {
        &self.frame[usize::from(self.payload)..]
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({:?}, {} bytes)", self.kind, self.payload().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_the_same_bytes() {
        let message = Message::text("hello");
        assert_eq!(message.frame(), b"\x81\x05hello");
        assert_eq!(message.payload(), b"hello");
        assert!(Rc::ptr_eq(&message.frame, &message.clone().frame));
        let large = Message::binary(&[7; 70_000]);
        assert_eq!(large.frame()[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
        assert_eq!(large.payload(), [7; 70_000]);
    }
}
