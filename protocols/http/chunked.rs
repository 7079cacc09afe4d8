//! The chunked coding: bodies whose length is not known beforehand (RFC 9112, 7.1).
//!
//! Knows bytes; never mentions a connection.
//!
//! ```text
//!   Size ──digits──▶ Size ──;──▶ Extension ──CRLF──▶ Data(n) ──▶ CRLF ──▶ Size
//!                      └──────────CRLF─────────────▶   │ n = 0: Trailer ──blank line──▶ Done
//!
//!   Extension:  ; Name            spaces and tabs may stand on either side of `;` and `=`,
//!               ; Name = Value    but not at the end of the line
//!               ; Name = "Value"
//! ```
//!
//! Nothing is lenient: a line ends in CRLF, a size is hexadecimal digits, an extension is one by
//! the grammar and a trailer line is a field, since a proxy that reads them otherwise would see
//! another message. Extensions and trailer fields are dropped, and bounded. In a response a trailer
//! line may be folded, as any field there (RFC 9112, 5.2).
//!
//! # Read next
//! `server/mod.rs`: the server, which reads them.

use super::headers::{is_text, is_token};
use super::refusal::Refusal;

/// Bytes that the extensions of a body's chunks may have, all together. 16 KiB.
pub const EXTENSION_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of the fields behind the last chunk. 8 KiB.
pub const TRAILER_BYTES_MAX: u32 = 8 * 1024;

/// A decoder. The coded body may come in pieces of any size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunked {
    at: At,
    /// The digits read so far, as a number; then the bytes of the chunk that are left.
    size: u64,
    /// Digits of the size, leading zeros included.
    digits: u8,
    extension_bytes: u32,
    trailer_bytes: u32,
    /// It is the body of a response.
    folds: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    SizeFirst,
    Size,
    /// Behind `;`.
    Extension,
    ExtensionName,
    /// Behind `=`.
    ExtensionEqual,
    ExtensionValue,
    ExtensionQuoted,
    /// Behind a backslash within quotes.
    ExtensionEscape,
    ExtensionQuoteEnd,
    /// Space behind a size or a value: only `;` may follow.
    ExtensionSpace,
    /// Space behind a name: `=` may follow, too.
    ExtensionNameSpace,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a trailer line.
    Trailer,
    /// At the beginning of a further one.
    TrailerNext,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the body.
    Data(&'a [u8]),
    /// All of the input is used up.
    More,
    /// The body is whole; the rest of the input belongs to the next message.
    End,
}

impl Chunked {
    /// A decoder of a response's body.
    pub fn of_response() -> Chunked {
        Chunked { folds: true, ..Chunked::default() }
    }

    /// Takes one step. Returns how many bytes of `input` it has used, and its result.
    pub fn step<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Piece<'a>), Refusal> {
        let mut used = 0;
        while self.at != At::Done {
            if self.at == At::Data {
                return Ok(self.data(input, used));
            }
            let Some(byte) = input.get(used) else { return Ok((used, Piece::More)) };
            self.at = self.framing_byte(*byte)?;
            used += 1;
        }
        Ok((used, Piece::End))
    }

    fn data<'a>(&mut self, input: &'a [u8], from: usize) -> (usize, Piece<'a>) {
        let rest = &input[from..];
        let count = usize::try_from(self.size).map_or(rest.len(), |size| size.min(rest.len()));
        if count == 0 {
            return (from, Piece::More);
        }
        self.size -= count as u64;
        if self.size == 0 {
            self.at = At::DataCr;
        }
        (from + count, Piece::Data(&rest[..count]))
    }

    fn framing_byte(&mut self, byte: u8) -> Result<At, Refusal> {
        const LINE: Refusal = Refusal::bad("a line of a chunked body does not end in CRLF");
        Ok(match (self.at, byte) {
            (At::SizeFirst | At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.digit(byte)?;
                At::Size
            }
            (At::Size, b';') => At::Extension,
            (At::Size | At::ExtensionName | At::ExtensionValue | At::ExtensionQuoteEnd, b'\r') => {
                At::SizeLf
            }
            (At::SizeFirst | At::Size, b'\n') => return Err(LINE),
            (At::Size, b' ' | b'\t') => self.extension(byte)?,
            (At::SizeFirst | At::Size, _) => return Err(Refusal::bad("a bad chunk size")),
            (At::SizeLf, b'\n') if self.size == 0 => At::Trailer,
            (At::SizeLf, b'\n') => At::Data,
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => {
                self.digits = 0;
                At::SizeFirst
            }
            (At::DataCr | At::DataLf, _) => {
                return Err(Refusal::bad("a chunk is longer than its size"));
            }
            (At::Trailer | At::TrailerNext, b'\r') => At::EndLf,
            (At::EndLf, b'\n') => At::Done,
            (At::TrailerValue, b'\r') => At::TrailerLf,
            (At::TrailerLf, b'\n') => At::TrailerNext,
            (At::Trailer | At::TrailerNext | At::TrailerName | At::TrailerValue, byte) => {
                self.trailer(byte)?
            }
            (At::SizeLf | At::TrailerLf | At::EndLf, _) => return Err(LINE),
            _ => self.extension(byte)?,
        })
    }

    /// A byte of an extension, or of the space ahead of the first (RFC 9112, 7.1.1).
    fn extension(&mut self, byte: u8) -> Result<At, Refusal> {
        let next = match (self.at, byte) {
            (At::ExtensionQuoted, b'"') => At::ExtensionQuoteEnd,
            (At::ExtensionQuoted, b'\\') => At::ExtensionEscape,
            (At::ExtensionQuoted | At::ExtensionEscape, byte) if is_text(byte) => {
                At::ExtensionQuoted
            }
            (At::Extension | At::ExtensionEqual, b' ' | b'\t') => self.at,
            (At::ExtensionName | At::ExtensionNameSpace, b' ' | b'\t') => At::ExtensionNameSpace,
            (At::ExtensionName | At::ExtensionNameSpace, b'=') => At::ExtensionEqual,
            (At::ExtensionEqual, b'"') => At::ExtensionQuoted,
            (At::Extension | At::ExtensionName, byte) if is_token(byte) => At::ExtensionName,
            (At::ExtensionEqual | At::ExtensionValue, byte) if is_token(byte) => At::ExtensionValue,
            (
                At::Size | At::ExtensionSpace | At::ExtensionValue | At::ExtensionQuoteEnd,
                b' ' | b'\t',
            ) => At::ExtensionSpace,
            (
                At::ExtensionName
                | At::ExtensionNameSpace
                | At::ExtensionSpace
                | At::ExtensionValue
                | At::ExtensionQuoteEnd,
                b';',
            ) => At::Extension,
            _ => return Err(Refusal::bad("a bad chunk extension")),
        };
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(Refusal::bad("the chunk extensions are too long"));
        }
        Ok(next)
    }

    fn trailer(&mut self, byte: u8) -> Result<At, Refusal> {
        let next = match (self.at, byte) {
            (At::Trailer | At::TrailerNext | At::TrailerName, byte) if is_token(byte) => {
                At::TrailerName
            }
            (At::TrailerNext, b' ' | b'\t') if self.folds => At::TrailerValue,
            (At::TrailerName, b':') => At::TrailerValue,
            (At::TrailerValue, byte) if is_text(byte) => At::TrailerValue,
            _ => return Err(Refusal::bad("a bad trailer field")),
        };
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Refusal::new(431, "the trailer is too long"));
        }
        Ok(next)
    }

    fn digit(&mut self, digit: u8) -> Result<(), Refusal> {
        let value = char::from(digit).to_digit(16).unwrap_or(0);
        if self.digits == 16 {
            return Err(Refusal::bad("a chunk size beyond 64 bits"));
        }
        self.digits += 1;
        self.size = self.size << 4 | u64::from(value);
        Ok(())
    }
}
