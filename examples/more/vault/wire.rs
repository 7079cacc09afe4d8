//! The vault's protocol as both sides read and write it: frames, and how a value is sent.
//!
//! ```text
//!   client                        server
//!   "TLS\n"                  ───▶            not encrypted
//!                            ◀───  "go ahead\n"
//!   the handshake of TLS     ◀──▶            from here on over TLS
//!
//!   Put name, Piece…, End    ───▶
//!                            ◀───  Done, with the digest of the value
//!   Get name                 ───▶
//!                            ◀───  Piece…, End; or Missing
//!   Raw                      ───▶
//!                            ◀───  Done; from here on all bytes are sent back
//!   anything else            ───▶
//!                            ◀───  Error why, and the end
//!                            ◀───  Bye, and the end: the server is drained
//! ```
//!
//! A frame is its length in 32 bits, big-endian, then its kind, one byte, then its body. The answers
//! have the order of the requests.

use waterwheel::net::{Codec, Conn, FrameError, LengthPrefix, Pressure};

/// The line that a client begins with, and the answer.
pub const UPGRADE: &[u8] = b"TLS";
pub const GO_AHEAD: &[u8] = b"go ahead";
pub const LINE_BYTES_MAX: usize = 80;

/// The most that a frame has behind its kind. 16 KiB: about as much as a record of TLS.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// 8 MiB.
pub const VALUE_BYTES_MAX: usize = 8 * 1024 * 1024;
pub const NAME_BYTES_MAX: usize = 255;
/// Room for any answer that is one frame.
pub const ANSWER_BYTES_MAX: usize = 128;
/// Bytes of a value that are sent before others have their turn: encryption takes time. 64 KiB.
const SEND_BYTES_PER_CALL: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    Piece,
    End,
    Get,
    Raw,
    Done,
    Missing,
    Error,
    Bye,
}

/// Each at the place of its number.
const KINDS: [Kind; 9] = {
    use Kind::*;
    [Put, Piece, End, Get, Raw, Done, Missing, Error, Bye]
};

/// A frame: its kind, its body, and the number of bytes that it takes.
pub type Frame<'a> = (Kind, &'a [u8], usize);

/// The frame in front of the input, or `None` if more of it is to come.
pub fn frame(input: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let found = LengthPrefix::new(1 + BODY_BYTES_MAX).decode(input)?;
    let Some(found) = found else { return Ok(None) };
    let Some((kind, body)) = input[found.payload].split_first() else {
        return Err(FrameError::Malformed("it has no kind"));
    };
    let kind =
        KINDS.get(usize::from(*kind)).ok_or(FrameError::Malformed("there is no such kind"))?;
    Ok(Some((*kind, body, found.consumed)))
}

/// The bytes before a body.
pub fn head(kind: Kind, body: &[u8]) -> [u8; 5] {
    let [a, b, c, d] = (1 + body.len() as u32).to_be_bytes();
    [a, b, c, d, kind as u8]
}

/// Sends a frame, all of it or nothing.
pub fn put(conn: &mut Conn, kind: Kind, body: &[u8]) -> Pressure {
    conn.write_all(&[&head(kind, body), body])
}

/// Sends a value from this offset on, as far as there is room, and End behind it. Returns true when
/// all is sent. Otherwise `Drained` follows, and then it is to be called again.
pub fn send(conn: &mut Conn, value: &[u8], at: &mut usize) -> bool {
    let until = *at + SEND_BYTES_PER_CALL;
    while *at < value.len() {
        if *at >= until {
            conn.ask_for_drained(); // Nothing was refused, so it would not come by itself.
            return false;
        }
        let piece = &value[*at..value.len().min(*at + BODY_BYTES_MAX)];
        let pressure = put(conn, Kind::Piece, piece);
        if pressure.is_taken() {
            *at += piece.len();
        }
        if pressure != Pressure::Below {
            return false;
        }
    }
    put(conn, Kind::End, b"").is_taken()
}

/// The name in the body of Put and Get.
pub fn name(body: &[u8]) -> Result<String, String> {
    let name = std::str::from_utf8(body).ok();
    let name = name.filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len()));
    name.map(str::to_owned).ok_or_else(|| format!("a name is 1 to {NAME_BYTES_MAX} bytes of UTF-8"))
}

/// FNV-1a: it finds accidental damage, not a change by an attacker.
pub fn digest(value: &[u8]) -> u64 {
    let with = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    value.iter().fold(0xcbf2_9ce4_8422_2325, with)
}
