//! The decoder: from bytes to messages, wherever they are cut.
//!
//! Knows frames and limits; never mentions a connection (it is *sans-I/O*).
//!
//! ```text
//!   a message that is whole in the input   unmasked into a buffer that all connections share, or
//!                                          where there is no mask not copied at all
//!   one that is not, or in fragments       grows in a buffer of its own as it arrives, unmasked
//!                                          and checked at once; each byte is looked at once
//!   a head, or a control frame, in part    stays in the input until more comes: 139 bytes at most
//! ```
//!
//! So a connection between messages owns nothing, and a declared length allocates nothing.
//!
//! # Read next
//! `socket.rs`: how messages are sent.

use std::cell::Cell;
use std::str;

use super::close;
use super::frame::{self, CONTROL_BYTES_MAX, Head, Kind, Role};
use super::mask::{self, Mask};
use super::socket_limits::Limits;
use super::utf8::Utf8;
use super::violation::Violation;
use crate::timers::Stamp;

#[cfg(test)]
mod tests;

/// A message or a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Close(u16, &'a str),
}

/// The result of one call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step<'a> {
    /// Bytes of the input that are used up.
    pub(super) consumed: usize,
    /// `None`: more input is needed.
    pub(super) incoming: Option<Incoming<'a>>,
}

/// The position in the peer's stream: within a frame, within a message, or between messages.
#[derive(Debug)]
pub(super) struct Decoder {
    role: Role,
    /// The data frame that has begun and not ended.
    frame: Option<Frame>,
    /// The message that has begun and not ended.
    message: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Frame {
    left: u64,
    mask: Option<Mask>,
    /// True if it ends its message.
    fin: bool,
}

#[derive(Debug, Default)]
struct Partial {
    is_text: bool,
    /// True once its last frame has ended.
    is_whole: bool,
    bytes: Vec<u8>,
    utf8: Utf8,
    fragments: u32,
    /// When it began, if that was noted.
    since: Option<Stamp>,
}

impl Decoder {
    /// A decoder of the bytes that are sent to `role`.
    pub(super) fn new(role: Role) -> Decoder {
        Decoder { role, frame: None, message: None }
    }

    /// The next message at the front of `input`. If it has to be copied, it lies in `shared`, in
    /// place of the old content.
    ///
    /// # Errors
    /// The peer's violation of the protocol. The decoder must not be used after it.
    pub(super) fn decode<'a>(
        &mut self,
        limits: &Limits,
        input: &'a [u8],
        shared: &'a mut Vec<u8>,
    ) -> Result<Step<'a>, Violation> {
        let mut at = 0;
        loop {
            if self.frame.is_some() {
                at += self.receive(&input[at..])?;
                if self.frame.is_some() {
                    return Ok(Step { consumed: at, incoming: None });
                }
                if let Some(whole) = self.message.take_if(|message| message.is_whole) {
                    let incoming = Some(finish(*whole, shared)?);
                    return Ok(Step { consumed: at, incoming });
                }
            }
            let rest = &input[at..];
            let Some(head) = frame::parse(rest, self.role)? else {
                return Ok(Step { consumed: at, incoming: None });
            };
            let payload = &rest[head.bytes..];
            if head.kind.is_control() {
                let Some(payload) = payload.get(..head.length as usize) else {
                    return Ok(Step { consumed: at, incoming: None });
                };
                at += head.bytes + payload.len();
                let incoming = Some(control(head, unmasked(payload, head.mask, shared))?);
                return Ok(Step { consumed: at, incoming });
            }
            self.check(&head, limits)?;
            let whole = usize::try_from(head.length).ok().and_then(|length| payload.get(..length));
            if let (None, true, Some(payload)) = (&self.message, head.fin, whole) {
                at += head.bytes + payload.len();
                let bytes = unmasked(payload, head.mask, shared);
                let incoming = Some(message(head.kind == Kind::Text, bytes)?);
                return Ok(Step { consumed: at, incoming });
            }
            at += head.bytes;
            self.begin(&head);
        }
    }

    /// Checks that a data frame may begin here, with this length.
    fn check(&self, head: &Head, limits: &Limits) -> Result<(), Violation> {
        let (bytes, fragments) = match (&self.message, head.kind) {
            (Some(message), Kind::Continuation) => (message.bytes.len(), message.fragments),
            (None, Kind::Continuation) => {
                return Err(Violation::Protocol("a continuation of no message"));
            }
            (Some(_), _) => return Err(Violation::Protocol("a message in the middle of another")),
            (None, _) => (0, 0),
        };
        if head.length > limits.frame_bytes_max as u64 {
            return Err(Violation::FrameTooBig { bytes_max: limits.frame_bytes_max });
        }
        if bytes as u64 + head.length > limits.message_bytes_max as u64 {
            return Err(Violation::MessageTooBig { bytes_max: limits.message_bytes_max });
        }
        if fragments >= limits.fragments_max {
            return Err(Violation::TooManyFragments { fragments_max: limits.fragments_max });
        }
        Ok(())
    }

    fn begin(&mut self, head: &Head) {
        let message = self.message.get_or_insert_with(|| {
            let is_text = head.kind == Kind::Text;
            Box::new(Partial { is_text, ..Partial::default() })
        });
        message.fragments += 1;
        self.frame = Some(Frame { left: head.length, mask: head.mask, fin: head.fin });
    }

    /// Takes as much of the frame that has begun as there is, and ends it if that is all; returns
    /// how many bytes.
    fn receive(&mut self, input: &[u8]) -> Result<usize, Violation> {
        let (Some(frame), Some(message)) = (&mut self.frame, &mut self.message) else {
            return Ok(0);
        };
        let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let count = input.len().min(left);
        let from = message.bytes.len();
        message.bytes.extend_from_slice(&input[..count]);
        let new = &mut message.bytes[from..];
        if let Some(mask) = &mut frame.mask {
            *mask = mask::apply(new, *mask);
        }
        if message.is_text && !message.utf8.push(new) {
            return Err(Violation::Utf8);
        }
        frame.left -= count as u64;
        if frame.left == 0 {
            message.is_whole = frame.fin;
            self.frame = None;
        }
        Ok(count)
    }

    /// Bytes of memory that the message takes which has begun and not ended.
    #[inline]
    pub(super) fn held_bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.bytes.capacity())
    }

    /// When the message began that has begun and not ended: it is `now` for one that this is the
    /// first call for.
    #[inline]
    pub(super) fn begun(&mut self, now: impl FnOnce() -> Stamp) -> Option<Stamp> {
        Some(*self.message.as_mut()?.since.get_or_insert_with(now))
    }
}

/// A payload without its mask: where it is, or in `shared`.
#[inline]
fn unmasked<'a>(payload: &'a [u8], mask: Option<Mask>, shared: &'a mut Vec<u8>) -> &'a [u8] {
    let Some(mask) = mask else { return payload };
    shared.clear();
    shared.extend_from_slice(payload);
    mask::apply(shared, mask);
    shared
}

#[inline]
fn message(is_text: bool, bytes: &[u8]) -> Result<Incoming<'_>, Violation> {
    Ok(match is_text {
        true => Incoming::Text(str::from_utf8(bytes).map_err(|_| Violation::Utf8)?),
        false => Incoming::Binary(bytes),
    })
}

/// A message that came in pieces. Its buffer becomes the shared one. A text was checked as it came,
/// except that it may end in the middle of a character. Without `unsafe` all of it has to be
/// checked again to become a `str`.
fn finish(whole: Partial, shared: &mut Vec<u8>) -> Result<Incoming<'_>, Violation> {
    *shared = whole.bytes;
    message(whole.is_text, shared)
}

fn control(head: Head, payload: &[u8]) -> Result<Incoming<'_>, Violation> {
    debug_assert!(payload.len() <= CONTROL_BYTES_MAX);
    Ok(match head.kind {
        Kind::Ping => Incoming::Ping(payload),
        Kind::Pong => Incoming::Pong(payload),
        _ => {
            let (code, reason) = close::parse(payload)?;
            Incoming::Close(code, reason)
        }
    })
}

thread_local! {
    static SHARED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Capacity above which the shared buffer is not kept: a large message should not cost its size
/// forever. One read has 64 KiB at most.
const SHARED_KEPT_BYTES: usize = 256 * 1024;

/// Takes the buffer that the connections of a thread share, since one callback runs at a time;
/// another one if it is taken, as when a handler turns a loop of its own.
#[inline]
pub(super) fn take_shared() -> Vec<u8> {
    SHARED.take()
}

#[inline]
pub(super) fn put_shared(shared: Vec<u8>) {
    if shared.capacity() <= SHARED_KEPT_BYTES {
        SHARED.set(shared);
    }
}
