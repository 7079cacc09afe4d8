//! Request bodies: collected, streamed, or dropped.
//!
//! Knows the two framings; who reads and when is in `conn.rs`.
//!
//! # Read next
//! `time.rs`: how long each part may take.

use super::BodyHandler;
use crate::net::http::chunked::{Chunked, Piece};
use crate::net::http::head::Framing;
use crate::net::http::refusal::Refusal;

/// Finds the end of a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decoder {
    /// What is left.
    Length(u64),
    Chunked(Chunked),
}

impl Decoder {
    pub(super) fn of(framing: Framing) -> Decoder {
        match framing {
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::Chunked(Chunked::default()),
            Framing::UntilClose => Decoder::Length(u64::MAX), // Not in requests.
        }
    }

    /// Takes one step: how many bytes of `input` it has used, and what they were.
    pub(super) fn step<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Piece<'a>), Refusal> {
        let left = match self {
            Decoder::Chunked(chunked) => return chunked.step(input),
            Decoder::Length(0) => return Ok((0, Piece::End)),
            Decoder::Length(left) => left,
        };
        let count = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
        *left -= count as u64;
        Ok(match count {
            0 => (0, Piece::More),
            count => (count, Piece::Data(&input[..count])),
        })
    }

    /// Bytes to come; of an unknown number 1.
    pub(super) fn left(&self) -> u64 {
        match self {
            Decoder::Length(left) => *left,
            Decoder::Chunked(_) => 1,
        }
    }
}

/// A body that is collected, with the head it belongs to.
#[derive(Debug)]
pub(super) struct Collect {
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) decoder: Decoder,
}

impl Collect {
    /// Takes bytes in: how many, and whether the body is whole.
    pub(super) fn take(&mut self, input: &[u8], max: usize) -> Result<(usize, bool), Refusal> {
        let mut used = 0;
        loop {
            let (count, piece) = self.decoder.step(&input[used..])?;
            used += count;
            match piece {
                Piece::Data(bytes) if bytes.len() > max - self.body.len() => {
                    return Err(TOO_LARGE);
                }
                Piece::Data(bytes) => self.body.extend_from_slice(bytes),
                Piece::More => return Ok((used, false)),
                Piece::End => return Ok((used, true)),
            }
        }
    }
}

pub(super) const TOO_LARGE: Refusal = Refusal::new(413, "the body is too large");

/// A body that is streamed.
pub(super) struct Flow<S> {
    pub(super) decoder: Decoder,
    pub(super) handler: BodyHandler<S>,
    /// The client waits for 100.
    pub(super) continues: bool,
}

/// A body that nobody wants.
#[derive(Debug)]
pub(super) struct Discard {
    pub(super) decoder: Decoder,
    /// What may still be dropped.
    pub(super) budget: u64,
}
