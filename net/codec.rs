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

/// Frames with their length in front: 32 bits, big-endian, not counting themselves.
///
/// A declared length allocates nothing; memory is used as bytes arrive.
#[derive(Clone, Debug)]
pub struct LengthPrefix {
    bytes_max: usize,
}

impl LengthPrefix {
    /// Bytes of the length.
    const PREFIX: usize = 4;

    /// Frames of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> LengthPrefix {
        LengthPrefix { bytes_max }
    }

    fn check(&self, length: u64) -> Result<usize, FrameError> {
        let too_long = FrameError::TooLong { bytes_max: self.bytes_max };
        usize::try_from(length).ok().filter(|length| *length <= self.bytes_max).ok_or(too_long)
    }
}

impl Codec for LengthPrefix {
    fn decode(&mut self, input: &[u8]) -> Result<Option<Frame>, FrameError> {
        let Some(prefix) = input.first_chunk::<{ LengthPrefix::PREFIX }>() else { return Ok(None) };
        let length = self.check(u64::from(u32::from_be_bytes(*prefix)))?;
        if input.len() - LengthPrefix::PREFIX < length {
            return Ok(None);
        }
        let end = LengthPrefix::PREFIX + length;
        Ok(Some(Frame { payload: LengthPrefix::PREFIX..end, consumed: end }))
    }

    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.check(payload.len() as u64)?;
        let too_long = FrameError::TooLong { bytes_max: u32::MAX as usize };
        let length = u32::try_from(payload.len()).map_err(|_| too_long)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(payload);
        Ok(())
    }
}
