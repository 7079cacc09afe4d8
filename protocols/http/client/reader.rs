//! The response's side of the protocol: bytes in, steps out.
//!
//! Knows heads and codings; never mentions a connection, so the same bytes make the same steps
//! however they are cut.
//!
//! ```text
//!   Head ──1xx──▶ Head        ──head──▶ Length(n) | Chunked | UntilClose ──▶ Done
//!                                         n = 0: Done at once
//!   Head ──101, if it was asked for──▶ Done: what follows is another protocol
//! ```
//!
//! # Read next
//! `transfer.rs`: the code that feeds it.

use http::{Method, StatusCode};

use crate::protocols::http::chunked::{Chunked, Piece};
use crate::protocols::http::framing::Framing;
use crate::protocols::http::head::{HeadLimits, ResponseHead, Room, parse_response, room};
use crate::protocols::http::head_scan::Scan;
use crate::protocols::http::refusal::Refusal;

/// Interim responses (1xx) before the final one: more would only keep us waiting. 32.
pub const INTERIM_MAX: u32 = 32;

/// Reads one response.
#[derive(Debug)]
pub struct Reader {
    method: Method,
    limits: HeadLimits,
    at: At,
    scan: Scan,
    interim: u32,
    keep_alive: bool,
    /// The request asks for another protocol.
    upgrades: bool,
}

#[derive(Debug)]
enum At {
    Head,
    /// So many bytes are left, more than none.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
}

/// The result of a step.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing: the rest of the input has to come again, with more behind it.
    More,
    /// An interim response.
    Interim(StatusCode),
    /// The head of the final one.
    Head(ResponseHead<'a>),
    /// Bytes of the body, never none.
    Data(&'a [u8]),
    /// The response is whole. The rest of the input is not part of it.
    End,
}

impl Reader {
    /// A reader for the response to a request of that method.
    pub fn new(method: Method, limits: HeadLimits) -> Reader {
        Reader {
            method,
            limits,
            at: At::Head,
            scan: Scan::default(),
            interim: 0,
            keep_alive: false,
            upgrades: false,
        }
    }

    /// A response of 101 is a final one, because the request asks for another protocol.
    pub fn upgrading(self, upgrades: bool) -> Reader {
        Reader { upgrades, ..self }
    }

    /// Takes one step. Returns how many bytes of `input` it has used, and its result.
    pub fn step<'a>(
        &mut self,
        input: &'a [u8],
        room: &'a mut Room<'a>,
    ) -> Result<(usize, Step<'a>), Refusal> {
        match &mut self.at {
            At::Head => self.head(input, room),
            At::Done => Ok((0, Step::End)),
            _ if input.is_empty() => Ok((0, Step::More)),
            At::UntilClose => Ok((input.len(), Step::Data(input))),
            At::Length(left) => {
                let count =
                    usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= count as u64;
                if *left == 0 {
                    self.at = At::Done;
                }
                Ok((count, Step::Data(&input[..count])))
            }
            At::Chunked(chunked) => {
                let (used, piece) = chunked.step(input)?;
                let step = match piece {
                    Piece::Data(bytes) => Step::Data(bytes),
                    Piece::More => Step::More,
                    Piece::End => {
                        self.at = At::Done;
                        Step::End
                    }
                };
                Ok((used, step))
            }
        }
    }

    fn head<'a>(
        &mut self,
        input: &'a [u8],
        room: &'a mut Room<'a>,
    ) -> Result<(usize, Step<'a>), Refusal> {
        if input.is_empty() || !self.scan.is_due(input, self.limits) {
            return Ok((0, Step::More));
        }
        let Some(head) = parse_response(input, self.limits, &self.method, room)? else {
            return Ok((0, Step::More));
        };
        self.scan = Scan::default();
        let (used, status) = (head.bytes, head.status);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            if self.upgrades {
                self.at = At::Done;
                return Ok((used, Step::Head(head)));
            }
            return Err(Refusal::bad("it switches to a protocol that was not requested"));
        }
        if status.is_informational() {
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err(Refusal::bad("too many interim responses"));
            }
            return Ok((used, Step::Interim(status)));
        }
        self.keep_alive = head.keep_alive;
        self.at = match head.body {
            Framing::Length(0) => At::Done,
            Framing::Length(length) => At::Length(length),
            Framing::Chunked => At::Chunked(Chunked::of_response()),
            Framing::UntilClose => At::UntilClose,
        };
        Ok((used, Step::Head(head)))
    }

    /// The connection has ended in order, and `rest` was left of the input. Returns true if that
    /// completes the response. A part of a head is refused if it could not become a good head.
    pub fn finish(&mut self, rest: &[u8]) -> Result<bool, Refusal> {
        match self.at {
            At::UntilClose => self.at = At::Done,
            At::Head if !rest.is_empty() => {
                parse_response(rest, self.limits, &self.method, &mut room())?;
            }
            _ => {}
        }
        Ok(self.is_done())
    }

    /// Returns true if the response is whole.
    pub fn is_done(&self) -> bool {
        matches!(self.at, At::Done)
    }

    /// Returns true if the connection can carry another request.
    pub fn keeps_alive(&self) -> bool {
        self.keep_alive
    }
}
