//! Codecs: from a stream of bytes to frames.
//!
//! Knows byte slices; never mentions a connection (codecs are *sans-I/O*), so a test can cut a stream
//! at every offset and expect the same frames. `framed.rs` puts one between a connection and its
//! handler.
//!
//! TCP keeps the order of bytes and nothing else: two writes may arrive as one read, one write as
//! twenty. The two ends must agree where a message ends, and these are the two usual ways. Each has
//! a maximum, because a peer that never ends its line must not use up our memory.
//!
//! # Read next
//! `framed.rs`: a codec in front of a handler.

use std::fmt;
use std::ops::Range;

/// Where in the input a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The frame, without the bytes that mark its ends.
    pub payload: Range<usize>,
    /// Bytes of the input that are used up.
    pub consumed: usize,
}

/// Why a stream is not a sequence of frames. Decoding cannot go on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is longer than this many bytes.
    TooLong {
        /// The codec's limit.
        bytes_max: usize,
    },
    /// The stream ended in the middle of a frame.
    Truncated,
    /// The codec's own rules are broken.
    Malformed(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { bytes_max } => {
                write!(f, "a frame is longer than {bytes_max} bytes")
            }
            FrameError::Truncated => f.write_str("the stream ended in the middle of a frame"),
            FrameError::Malformed(what) => write!(f, "malformed frame: {what}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Finds frames in bytes, and makes bytes of frames.
///
/// For a protocol of your own: `decode` is called with all bytes that are not consumed yet, again
/// when more have come. It must not depend on where the stream was cut.
pub trait Codec: 'static {
    /// The first frame of `input`, or `None` if it is not complete.
    ///
    /// Called again with the same bytes and more behind them, it should not look at them all
    /// again: work must stay linear in the bytes received.
    ///
    /// # Errors
    /// The input is not, and will not become, a frame.
    fn decode(&mut self, input: &[u8]) -> Result<Option<Frame>, FrameError>;

    /// The frame in the last bytes of a finished stream, which `decode` found incomplete. `rest` is
    /// not empty.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] by default.
    fn finish(&mut self, rest: &[u8]) -> Result<Option<Frame>, FrameError> {
        let _ = rest;
        Err(FrameError::Truncated)
    }

    /// Appends a frame to `out`.
    ///
    /// # Errors
    /// It is too long, or would read as two frames; `out` is as it was.
    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError>;
}

/// Lines, ended by `\n` or `\r\n`; they may contain any other bytes. The last line of a stream may
/// have no end.
#[derive(Clone, Debug)]
pub struct Lines {
    bytes_max: usize,
    /// Bytes known to hold no end of line.
    looked_at: usize,
}

impl Lines {
    /// Lines of at most `bytes_max` bytes, without their end.
    pub fn new(bytes_max: usize) -> Lines {
        Lines { bytes_max, looked_at: 0 }
    }

    fn line(&self, input: &[u8], end: usize, consumed: usize) -> Result<Option<Frame>, FrameError> {
        let end = end - usize::from(input[..end].ends_with(b"\r"));
        if end > self.bytes_max {
            return Err(FrameError::TooLong { bytes_max: self.bytes_max });
        }
        Ok(Some(Frame { payload: 0..end, consumed }))
    }
}

impl Codec for Lines {
    fn decode(&mut self, input: &[u8]) -> Result<Option<Frame>, FrameError> {
        let new = &input[self.looked_at..];
        if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
            let end = self.looked_at + at;
            self.looked_at = 0;
            return self.line(input, end, end + 1);
        }
        self.looked_at = input.len();
        // One more may be a `\r` that belongs to the end.
        if input.len() > self.bytes_max.saturating_add(1) {
            return Err(FrameError::TooLong { bytes_max: self.bytes_max });
        }
        Ok(None)
    }

    fn finish(&mut self, rest: &[u8]) -> Result<Option<Frame>, FrameError> {
        self.line(rest, rest.len(), rest.len())
    }

    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        if payload.len() > self.bytes_max {
            return Err(FrameError::TooLong { bytes_max: self.bytes_max });
        }
        if payload.contains(&b'\n') {
            return Err(FrameError::Malformed("a line with an end of line in it"));
        }
        out.extend_from_slice(payload);
        out.push(b'\n');
        Ok(())
    }
}

/// Frames with their length in front, not counting itself: 32 bits, big-endian, unless one of the
/// methods chooses another form.
///
/// A declared length allocates nothing; memory is used as bytes arrive.
///
/// ```
/// use waterwheel::net::{Codec, LengthPrefix};
///
/// let mut out = Vec::new();
/// LengthPrefix::new(1000).bits(16).encode(b"hi", &mut out)?;
/// LengthPrefix::new(1000).bits(16).little_endian().encode(b"hi", &mut out)?;
/// LengthPrefix::new(1000).varint(4).encode(&[b'x'; 300], &mut out)?;
/// assert_eq!(out[..10], *b"\x00\x02hi\x02\x00hi\xac\x02");
/// # Ok::<(), waterwheel::net::FrameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LengthPrefix {
    bytes_max: usize,
    form: Form,
}

/// How a length is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// In so many bytes, the highest first.
    Big(usize),
    /// In so many bytes, the lowest first.
    Little(usize),
    /// Seven bits a byte, the lowest first, in so many bytes at most. The eighth bit of a byte
    /// is set if another one follows.
    Varint(usize),
}

impl LengthPrefix {
    /// Frames of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> LengthPrefix {
        LengthPrefix { bytes_max, form: Form::Big(4) }
    }

    /// Lengths of 8, 16, 32 or 64 bits, big-endian.
    ///
    /// # Panics
    /// With any other number.
    pub fn bits(mut self, bits: u32) -> LengthPrefix {
        assert!(matches!(bits, 8 | 16 | 32 | 64), "a length has 8, 16, 32 or 64 bits");
        self.form = Form::Big(bits as usize / 8);
        self
    }

    /// The lowest byte of a length first. Call it after [`bits`](LengthPrefix::bits).
    pub fn little_endian(mut self) -> LengthPrefix {
        if let Form::Big(bytes) = self.form {
            self.form = Form::Little(bytes);
        }
        self
    }

    /// Lengths of one byte for each seven bits, `length_bytes_max` at most: 10 are the 64 bits of
    /// LEB128 as Protocol Buffers have it, 4 the integers of MQTT. One with zeros in front is taken;
    /// none is sent.
    ///
    /// # Panics
    /// With 0 bytes, or more than 10.
    pub fn varint(mut self, length_bytes_max: usize) -> LengthPrefix {
        assert!((1..=10).contains(&length_bytes_max), "a length has 1 to 10 bytes");
        self.form = Form::Varint(length_bytes_max);
        self
    }

    fn check(&self, length: u64) -> Result<usize, FrameError> {
        let too_long = FrameError::TooLong { bytes_max: self.bytes_max };
        usize::try_from(length).ok().filter(|length| *length <= self.bytes_max).ok_or(too_long)
    }
}

impl Form {
    /// The length at the front of the input, and its own bytes; `None` if it is not complete.
    #[inline]
    fn read(self, input: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
        let bytes = match self {
            Form::Varint(bytes_max) => return read_varint(input, bytes_max),
            Form::Big(bytes) | Form::Little(bytes) => bytes,
        };
        let Some(length) = input.get(..bytes) else { return Ok(None) };
        let add = |length: u64, byte: &u8| length << 8 | u64::from(*byte);
        let length = match self {
            Form::Little(_) => length.iter().rev().fold(0, add),
            _ => length.iter().fold(0, add),
        };
        Ok(Some((length, bytes)))
    }

    /// The longest length that can be written.
    fn most(self) -> u64 {
        let bits = match self {
            Form::Big(bytes) | Form::Little(bytes) => 8 * bytes,
            Form::Varint(bytes) => 7 * bytes,
        };
        u64::MAX >> 64_usize.saturating_sub(bits)
    }

    fn write(self, mut length: u64, out: &mut Vec<u8>) {
        match self {
            Form::Big(bytes) => out.extend_from_slice(&length.to_be_bytes()[8 - bytes..]),
            Form::Little(bytes) => out.extend_from_slice(&length.to_le_bytes()[..bytes]),
            Form::Varint(_) => {
                while length >= 0x80 {
                    out.push(length as u8 | 0x80);
                    length >>= 7;
                }
                out.push(length as u8);
            }
        }
    }
}

fn read_varint(input: &[u8], bytes_max: usize) -> Result<Option<(u64, usize)>, FrameError> {
    let mut length = 0;
    for (at, byte) in input.iter().take(bytes_max).enumerate() {
        let part = u64::from(byte & 0x7F);
        if at == 9 && (2..0x80).contains(byte) {
            return Err(FrameError::Malformed("a length of more than 64 bits"));
        }
        length |= part << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((length, at + 1)));
        }
    }
    match input.len() < bytes_max {
        true => Ok(None),
        false => Err(FrameError::Malformed("a length that does not end")),
    }
}

impl Codec for LengthPrefix {
    fn decode(&mut self, input: &[u8]) -> Result<Option<Frame>, FrameError> {
        let Some((length, prefix)) = self.form.read(input)? else { return Ok(None) };
        let length = self.check(length)?;
        if input.len() - prefix < length {
            return Ok(None);
        }
        let end = prefix + length;
        Ok(Some(Frame { payload: prefix..end, consumed: end }))
    }

    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let length = payload.len() as u64;
        self.check(length)?;
        if length > self.form.most() {
            let bytes_max = usize::try_from(self.form.most()).unwrap_or(usize::MAX);
            return Err(FrameError::TooLong { bytes_max });
        }
        self.form.write(length, out);
        out.extend_from_slice(payload);
        Ok(())
    }
}
