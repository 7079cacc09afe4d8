//! Frames: the head in front of a payload (RFC 6455, 5.2).
//!
//! Knows tungstenite's frame header, and which frames each end may send.
//!
//! ```text
//!   byte 0    FIN · three reserved bits · opcode
//!   byte 1    MASK · length, or 126 or 127: it is in the 2 or 8 bytes that follow
//!   then      the mask, four bytes, if there is one
//! ```
//!
//! # Read next
//! `decoder.rs`: from frames to messages.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::mask::Mask;
use super::violation::Violation;

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It has accepted the connection: its peer masks the payloads.
    Server,
    /// It has made the connection: it masks the payloads.
    Client,
}

/// Bytes of a control frame's payload at most.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// A frame's head, checked as far as the head itself allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fin: bool,
    pub(super) kind: Kind,
    pub(super) mask: Option<Mask>,
    pub(super) length: u64,
    /// Its own length.
    pub(super) bytes: usize,
}

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    fn of(opcode: OpCode) -> Option<Kind> {
        Some(match opcode {
            OpCode::Data(Data::Continue) => Kind::Continuation,
            OpCode::Data(Data::Text) => Kind::Text,
            OpCode::Data(Data::Binary) => Kind::Binary,
            OpCode::Control(Control::Close) => Kind::Close,
            OpCode::Control(Control::Ping) => Kind::Ping,
            OpCode::Control(Control::Pong) => Kind::Pong,
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => return None,
        })
    }

    fn opcode(self) -> OpCode {
        match self {
            Kind::Continuation => OpCode::Data(Data::Continue),
            Kind::Text => OpCode::Data(Data::Text),
            Kind::Binary => OpCode::Data(Data::Binary),
            Kind::Close => OpCode::Control(Control::Close),
            Kind::Ping => OpCode::Control(Control::Ping),
            Kind::Pong => OpCode::Control(Control::Pong),
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Kind::Close | Kind::Ping | Kind::Pong)
    }
}

/// The head at the front of the input that a peer has sent to `role`; `None` if it is not whole.
pub(super) fn parse(input: &[u8], role: Role) -> Result<Option<Head>, Violation> {
    let mut cursor = Cursor::new(input);
    let parsed = FrameHeader::parse(&mut cursor);
    let Some((header, length)) = parsed.map_err(|_| Violation::Protocol("a reserved opcode"))?
    else {
        return Ok(None);
    };
    let bytes = cursor.position() as usize;
    let Some(kind) = Kind::of(header.opcode) else {
        return Err(Violation::Protocol("a reserved opcode"));
    };
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(Violation::Protocol("a reserved bit, although no extension was agreed on"));
    }
    match (role, header.mask) {
        (Role::Server, None) => return Err(Violation::Protocol("a client's frame without a mask")),
        (Role::Client, Some(_)) => return Err(Violation::Protocol("a server's frame with a mask")),
        _ => {}
    }
    if length > i64::MAX as u64 {
        return Err(Violation::Protocol("a length of 2^63 bytes or more"));
    }
    if bytes != header.len(length) {
        return Err(Violation::Protocol("a length in more bytes than it needs"));
    }
    if kind.is_control() && !header.is_final {
        return Err(Violation::Protocol("a control frame in fragments"));
    }
    if kind.is_control() && length > CONTROL_BYTES_MAX as u64 {
        return Err(Violation::Protocol("a control frame of more than 125 bytes"));
    }
    Ok(Some(Head { fin: header.is_final, kind, mask: header.mask, length, bytes }))
}

/// A head as it is sent: 14 bytes at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadBytes {
    bytes: [u8; 14],
    count: u8,
}

impl HeadBytes {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.count)]
    }
}

/// The head of a whole message or a control frame.
#[inline]
pub(super) fn head(kind: Kind, length: usize, mask: Option<Mask>) -> HeadBytes {
    let length = length as u64;
    let [rsv1, rsv2, rsv3] = [false; 3];
    let header = FrameHeader { is_final: true, rsv1, rsv2, rsv3, opcode: kind.opcode(), mask };
    let mut head = HeadBytes { bytes: [0; 14], count: header.len(length) as u8 };
    // It fits: nothing can refuse it.
    let _ = header.format(length, &mut &mut head.bytes[..]);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: Mask = [1, 2, 3, 4];

    #[test]
    fn heads_are_read_as_they_were_written_and_at_every_cut_not_before() {
        for kind in [Kind::Text, Kind::Binary, Kind::Close, Kind::Ping, Kind::Pong] {
            for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40, i64::MAX as usize] {
                for (mask, role) in [(None, Role::Client), (Some(MASK), Role::Server)] {
                    if kind.is_control() && length > CONTROL_BYTES_MAX {
                        continue;
                    }
                    let written = head(kind, length, mask);
                    let bytes = written.bytes();
                    let length = length as u64;
                    let whole = Head { fin: true, kind, mask, length, bytes: bytes.len() };
                    assert_eq!(parse(bytes, role), Ok(Some(whole)));
                    for cut in 0..bytes.len() {
                        assert_eq!(parse(&bytes[..cut], role), Ok(None), "{bytes:x?} at {cut}");
                    }
                }
            }
        }
    }

    #[test]
    fn heads_against_the_rules_are_refused() {
        let from_server: [(&[u8], &str); 10] = [
            (&[0xC1, 0], "a reserved bit, although no extension was agreed on"),
            (&[0xA1, 0], "a reserved bit, although no extension was agreed on"),
            (&[0x91, 0], "a reserved bit, although no extension was agreed on"),
            (&[0x83, 0], "a reserved opcode"),
            (&[0x8F, 0], "a reserved opcode"),
            (&[0x81, 0x80, 1, 2, 3, 4], "a server's frame with a mask"),
            (&[0x09, 0], "a control frame in fragments"),
            (&[0x89, 126, 0, 126], "a control frame of more than 125 bytes"),
            (&[0x81, 126, 0, 125], "a length in more bytes than it needs"),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255], "a length in more bytes than it needs"),
        ];
        for (bytes, why) in from_server {
            assert_eq!(parse(bytes, Role::Client), Err(Violation::Protocol(why)), "{bytes:x?}");
        }
        let bytes = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
        let why = Violation::Protocol("a length of 2^63 bytes or more");
        assert_eq!(parse(&bytes, Role::Client), Err(why));
        let why = Violation::Protocol("a client's frame without a mask");
        assert_eq!(parse(&[0x81, 0], Role::Server), Err(why));
    }
}
