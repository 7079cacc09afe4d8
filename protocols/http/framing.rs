//! The fields of a head that concern the message: where it ends, and what may follow it.
//!
//! Knows RFC 9112, 6 and 9; never mentions how a head is parsed.
//!
//! A message that two readers might read differently is refused: with a length and a coding, two
//! lengths, a length that is not all digits, or an unknown coding. If a proxy and a server
//! disagreed on where a message ends, a second one could be smuggled between them (RFC 9112, 11.2).
//!
//! # Read next
//! `chunked.rs`: bodies without a length.

use http::Version;

use super::headers::{Headers, tokens};
use super::refusal::Refusal;
use super::request_target::is_authority;

/// How the end of a body is found (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes; none at all if neither length nor coding is given.
    Length(u64),
    /// The body itself marks its end, chunk by chunk.
    Chunked,
    /// It ends with the connection: responses only.
    UntilClose,
}

impl Framing {
    /// No body.
    pub const NONE: Framing = Framing::Length(0);
}

/// The fields that concern the message itself, gathered in one pass.
#[derive(Default)]
pub(super) struct MessageFields<'a> {
    length: Option<u64>,
    /// The coding is `chunked` and nothing else.
    chunked: bool,
    pub(super) hosts: u32,
    pub(super) host: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    /// Another protocol is named, and the connection is meant to change to it.
    pub(super) upgrade: bool,
    wants_upgrade: bool,
    pub(super) expects_continue: bool,
}

impl<'a> MessageFields<'a> {
    pub(super) fn of(
        headers: Headers<'a>,
        version: Version,
        request: bool,
    ) -> Result<MessageFields<'a>, Refusal> {
        let mut fields = MessageFields::default();
        for (name, value) in headers.iter() {
            // By length first: most names differ in it.
            match name.len() {
                4 if request && name.eq_ignore_ascii_case("host") => fields.host(value)?,
                6 if request && name.eq_ignore_ascii_case("expect") => fields.expect(value)?,
                7 if name.eq_ignore_ascii_case("upgrade") => {
                    fields.wants_upgrade |= !is_empty(value)
                }
                10 if name.eq_ignore_ascii_case("connection") => fields.connection(value),
                14 if name.eq_ignore_ascii_case("content-length") => fields.length(value)?,
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    fields.coding(value, version)?;
                }
                _ => {}
            }
        }
        fields.upgrade &= fields.wants_upgrade;
        Ok(fields)
    }

    /// It may be empty, where the target has no authority.
    fn host(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        self.hosts += 1;
        if value.is_empty() {
            return Ok(());
        }
        if !is_authority(value) {
            return Err(Refusal::bad("a bad Host field"));
        }
        self.host = Some(value);
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if !is_alone(b"100-continue", value) {
            return Err(Refusal::new(417, "an expectation that is not 100-continue"));
        }
        self.expects_continue = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for token in tokens(value) {
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits);
        let Some(length) = number.and_then(|number| number.parse().ok()) else {
            return Err(Refusal::bad("a bad Content-Length"));
        };
        if self.length.replace(length).is_some() {
            return Err(Refusal::bad("more than one Content-Length"));
        }
        Ok(())
    }

    fn coding(&mut self, value: &[u8], version: Version) -> Result<(), Refusal> {
        if version == Version::HTTP_10 {
            return Err(Refusal::bad("a Transfer-Encoding in HTTP/1.0"));
        }
        if self.chunked || is_empty(value) {
            return Err(Refusal::bad("a bad Transfer-Encoding"));
        }
        if !is_alone(b"chunked", value) {
            let is_chunked = |member: &&[u8]| member.eq_ignore_ascii_case(b"chunked");
            let once = tokens(value).filter(is_chunked).count() == 1;
            if !once || !tokens(value).last().is_some_and(|last| is_chunked(&last)) {
                return Err(Refusal::bad("a Transfer-Encoding that does not end in chunked"));
            }
            return Err(Refusal::new(501, "a transfer coding other than chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    pub(super) fn framing(&self) -> Result<Option<Framing>, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::bad("both Content-Length and Transfer-Encoding")),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, length) => Ok(length.map(Framing::Length)),
        }
    }

    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }
}

/// Returns true if a list has no member: empty ones do not count (RFC 9110, 5.6.1.2).
fn is_empty(list: &[u8]) -> bool {
    tokens(list).next().is_none()
}

/// Returns true if a list has this member and no other. Nearly always it is all that is there.
fn is_alone(member: &[u8], list: &[u8]) -> bool {
    let mut members = tokens(list);
    list.eq_ignore_ascii_case(member)
        || members.next().is_some_and(|first| first.eq_ignore_ascii_case(member))
            && members.next().is_none()
}
