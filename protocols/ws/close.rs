//! Close: the codes and reasons with which an end closes (RFC 6455, 5.5.1 and 7.4).
//!
//! Knows the codes and the payload of a Close frame.
//!
//! # Read next
//! `frame.rs`: the form of a frame.

use std::str;

use tungstenite::protocol::frame::coding::CloseCode;

use super::violation::Violation;

/// The codes of RFC 6455, 7.4.1, and of IANA's list. A program's own are 4000 to 4999.
pub mod code {
    /// The normal end.
    pub const NORMAL: u16 = 1000;
    /// A server goes down, a page is left.
    pub const AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// A kind of message that this end does not take, such as binary ones.
    pub const UNSUPPORTED: u16 = 1003;
    /// Not in a frame: the peer's Close had no code.
    pub const NONE: u16 = 1005;
    /// Not in a frame: the connection went without a Close.
    pub const ABNORMAL: u16 = 1006;
    /// A text that is not UTF-8, or contents that do not fit their kind.
    pub const INVALID: u16 = 1007;
    /// Against the rules of this end; for every case without a code of its own.
    pub const POLICY: u16 = 1008;
    /// A message that is too big.
    pub const TOO_BIG: u16 = 1009;
    /// A client that wants an extension which the server did not offer.
    pub const EXTENSION: u16 = 1010;
    /// Something went wrong here.
    pub const INTERNAL: u16 = 1011;
    /// A server starts again: come back.
    pub const RESTART: u16 = 1012;
    /// A server has too much to do: come back later.
    pub const AGAIN: u16 = 1013;
}

/// Bytes of a reason at most: a control frame has 125, and the code takes two.
pub const REASON_BYTES_MAX: usize = 123;

/// 1014, a bad gateway, is on IANA's list and not among those tungstenite knows.
const GATEWAY: u16 = 1014;

/// Returns true if a frame may carry this code.
fn may_be_sent(code: u16) -> bool {
    CloseCode::from(code).is_allowed() || code == GATEWAY
}

/// Code and reason of a peer's Close.
pub(super) fn parse(payload: &[u8]) -> Result<(u16, &str), Violation> {
    match payload {
        [] => Ok((code::NONE, "")),
        [_] => Err(Violation::Protocol("half a code in a Close")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(Violation::Protocol("a Close with a code that no frame may carry"));
            }
            let reason = str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
            Ok((code, reason))
        }
    }
}

/// A Close frame's payload: at most 125 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClosePayload {
    bytes: [u8; 2 + REASON_BYTES_MAX],
    count: u8,
}

impl ClosePayload {
    /// A code that no frame may carry becomes none, so that the code which an end has got may be
    /// passed on to another; a reason that is too long ends where its last whole character does.
    pub(super) fn new(code: u16, reason: &str) -> ClosePayload {
        let mut payload = ClosePayload { bytes: [0; 2 + REASON_BYTES_MAX], count: 0 };
        if may_be_sent(code) {
            let whole = |end: &usize| reason.is_char_boundary(*end);
            let end = (0..=reason.len().min(REASON_BYTES_MAX)).rev().find(whole).unwrap_or(0);
            let reason = &reason.as_bytes()[..end];
            payload.bytes[..2].copy_from_slice(&code.to_be_bytes());
            payload.bytes[2..][..reason.len()].copy_from_slice(reason);
            payload.count = 2 + reason.len() as u8;
        }
        payload
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.count)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_a_frame_may_carry_are_those_of_the_lists() {
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|code| may_be_sent(*code)).collect();
        let lists = (1000..=1003).chain(1007..=1014).chain(3000..=4999);
        assert_eq!(allowed, lists.collect::<Vec<_>>());
    }

    #[test]
    fn payload_is_read_as_it_was_written() {
        for (code, reason) in [(1000, ""), (1001, "bye"), (4999, "grüße"), (code::NONE, "")] {
            let payload = ClosePayload::new(code, reason);
            assert_eq!(parse(payload.bytes()), Ok((code, reason)));
        }
        assert_eq!(ClosePayload::new(code::ABNORMAL, "lost").bytes(), b"");
    }

    #[test]
    fn long_reason_ends_with_a_whole_character() {
        for (reason, bytes) in [("x".repeat(123), 123), ("x".repeat(124), 123)] {
            assert_eq!(ClosePayload::new(1000, &reason).bytes().len(), 2 + bytes);
        }
        let reason = "x".repeat(121) + "€";
        let payload = ClosePayload::new(1000, &reason);
        assert_eq!(parse(payload.bytes()), Ok((1000, &reason[..121])));
    }

    #[test]
    fn bad_payloads_are_told_apart() {
        assert!(matches!(parse(b"\x03"), Err(Violation::Protocol(_))));
        assert!(matches!(parse(b"\x03\xEDlost"), Err(Violation::Protocol(_)))); // 1005
        assert_eq!(parse(b"\x03\xE8\xFF"), Err(Violation::Utf8));
    }
}
