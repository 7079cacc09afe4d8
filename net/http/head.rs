//! Heads: from bytes to a request or status line and fields, and what these say of the message.
//!
//! Knows httparse and RFC 9112; never mentions a connection.
//!
//! A head is parsed once when it comes whole, as nearly always. One that comes in pieces is parsed
//! at the first of them, so that what is no HTTP is found out at once, and then not until its blank
//! line is there ([`Scan`]): the work is linear in the bytes, however they are cut.
//!
//! What two readers might read differently is refused, because between a proxy and a server that
//! disagree on where a message ends a second one can be smuggled (RFC 9112, 11.2): both lengths,
//! two lengths, a length that is not all digits, codings we do not know, a line that does not end in
//! CRLF. Folded lines and spaces before a colon are refused by httparse.
//!
//! # Read next
//! `chunked.rs`: bodies without a length.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version};

use super::headers::{Headers, tokens};
use super::refusal::Refusal;

/// Fields that a head can have at most, whatever its limits say: they lie on the stack.
pub(super) const HEADERS_ROOM: usize = 128;

/// Where the fields of one head are put.
pub(super) type Room<'a> = [MaybeUninit<httparse::Header<'a>>; HEADERS_ROOM];

/// An empty one, which costs nothing.
pub(super) const fn room<'a>() -> Room<'a> {
    [const { MaybeUninit::uninit() }; HEADERS_ROOM]
}

/// What a head may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    /// From its first byte to the blank line, which is included.
    pub(super) head_bytes_max: usize,
    /// Not more than [`HEADERS_ROOM`].
    pub(super) headers_max: usize,
    pub(super) target_bytes_max: usize,
}

/// How the end of a body is found (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// It ends with the connection: responses only.
    UntilClose,
}

impl Framing {
    pub(super) const NONE: Framing = Framing::Length(0);
}

/// A request's head.
#[derive(Debug)]
pub(super) struct RequestHead<'a> {
    pub(super) method: Method,
    pub(super) target: &'a str,
    pub(super) version: Version,
    pub(super) headers: Headers<'a>,
    pub(super) body: Framing,
    /// Another request may follow.
    pub(super) keep_alive: bool,
    /// The client waits for 100 before it sends the body.
    pub(super) expects_continue: bool,
    /// It asks for another protocol (`Upgrade`, or the method CONNECT).
    pub(super) upgrades: bool,
    /// Its length, the blank line included.
    pub(super) bytes: usize,
}

/// A response's head.
#[derive(Debug)]
pub(super) struct ResponseHead<'a> {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: Headers<'a>,
    pub(super) body: Framing,
    /// The connection can be used again.
    pub(super) keep_alive: bool,
    /// Its length, the blank line included.
    pub(super) bytes: usize,
}

/// Parses the head at the front of `bytes`; `None` if it is not whole.
pub(super) fn parse_request<'a>(
    bytes: &'a [u8],
    limits: HeadLimits,
    room: &'a mut Room<'a>,
) -> Result<Option<RequestHead<'a>>, Refusal> {
    let mut request = httparse::Request::new(&mut []);
    let room = &mut room[..limits.headers_max.min(HEADERS_ROOM)];
    let parsed = request.parse_with_uninit_headers(bytes, room);
    if request.path.is_some_and(|target| target.len() > limits.target_bytes_max) {
        return Err(Refusal::new(414, "the request target is too long"));
    }
    let Some(length) = whole(parsed, bytes, limits)? else { return Ok(None) };
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(Refusal::bad("a request without a method or a target"));
    };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else {
        return Err(Refusal::bad("the method is not a token"));
    };
    check_target(&method, target)?;
    let version = version(request.version);
    let headers = Headers::new(request.headers);
    let facts = Facts::of(headers, version)?;
    if version == Version::HTTP_11 && facts.hosts != 1 || facts.hosts > 1 {
        return Err(Refusal::bad("not exactly one Host field"));
    }
    Ok(Some(RequestHead {
        body: facts.framing()?.unwrap_or(Framing::NONE),
        keep_alive: facts.keep_alive(version),
        expects_continue: facts.expects_continue && version == Version::HTTP_11,
        upgrades: facts.upgrade || method == Method::CONNECT,
        method,
        target,
        version,
        headers,
        bytes: length,
    }))
}

/// Parses the head at the front of `bytes`, the answer to a request of that method; `None` if it is
/// not whole.
pub(super) fn parse_response<'a>(
    bytes: &'a [u8],
    limits: HeadLimits,
    method: &Method,
    room: &'a mut Room<'a>,
) -> Result<Option<ResponseHead<'a>>, Refusal> {
    let mut response = httparse::Response::new(&mut []);
    let room = &mut room[..limits.headers_max.min(HEADERS_ROOM)];
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, room);
    let Some(length) = whole(parsed, bytes, limits)? else { return Ok(None) };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let Some(status) = status else { return Err(Refusal::bad("the status is no number")) };
    let version = version(response.version);
    let headers = Headers::new(response.headers);
    let facts = Facts::of(headers, version)?;
    let bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || method == Method::HEAD
        || method == Method::CONNECT && status.is_success();
    let body = match facts.framing()? {
        _ if bodiless => Framing::NONE,
        Some(body) => body,
        None => Framing::UntilClose,
    };
    let keep_alive = facts.keep_alive(version) && body != Framing::UntilClose;
    Ok(Some(ResponseHead { status, version, headers, body, keep_alive, bytes: length }))
}

/// Looks for the end of a head that comes in pieces, each byte once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Bytes of the head that were looked at.
    seen: usize,
}

impl Scan {
    /// Whether it is worth parsing: at the first call, and when there is a blank line that was not
    /// there before. `bytes` begins where it did in the call before.
    pub(super) fn is_due(&mut self, bytes: &[u8]) -> bool {
        let from = self.seen.saturating_sub(3);
        let first = self.seen == 0;
        self.seen = bytes.len();
        // Any blank line will do: whether it is well formed is for the parser to say.
        first
            || bytes[from..].windows(2).zip(from..).any(|(pair, at)| {
                pair == b"\n\n" || pair == b"\n\r" && bytes.get(at + 2) == Some(&b'\n')
            })
    }
}

/// The length of a head, if it is whole and its lines end as they should.
fn whole(
    parsed: httparse::Result<usize>,
    bytes: &[u8],
    limits: HeadLimits,
) -> Result<Option<usize>, Refusal> {
    const TOO_LONG: Refusal = Refusal::new(431, "the head is too long");
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= limits.head_bytes_max => {
            return Err(TOO_LONG);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(refuse(error)),
    };
    if length > limits.head_bytes_max {
        return Err(TOO_LONG);
    }
    let head = &bytes[..length];
    let bare = head.iter().zip(&head[1..]).filter(|(a, b)| **b == b'\n' && **a != b'\r').count();
    if bare > 0 || head[0] == b'\n' {
        return Err(Refusal::bad("a line does not end in CRLF"));
    }
    Ok(Some(length))
}

fn refuse(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::new(431, "too many header fields"),
        httparse::Error::Version => Refusal::new(505, "not HTTP/1.0 or HTTP/1.1"),
        httparse::Error::HeaderName => Refusal::bad("a bad field name, or a folded line"),
        httparse::Error::HeaderValue => Refusal::bad("a bad field value"),
        httparse::Error::NewLine => Refusal::bad("a line does not end in CRLF"),
        httparse::Error::Status => Refusal::bad("a bad status line"),
        httparse::Error::Token => Refusal::bad("not an HTTP message"),
    }
}

/// httparse knows these two only.
fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// The forms of a request target (RFC 9112, 3.2).
fn check_target(method: &Method, target: &str) -> Result<(), Refusal> {
    let is_absolute = || {
        let (scheme, rest) = target.split_once("://").unwrap_or(("", ""));
        let known = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        known && !rest.is_empty() && !rest.starts_with('/')
    };
    let fits = match *method {
        Method::CONNECT => target.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
        }),
        Method::OPTIONS if target == "*" => true,
        _ => target.starts_with('/') || is_absolute(),
    };
    if fits { Ok(()) } else { Err(Refusal::bad("a bad request target")) }
}

/// What the fields say of the message itself, gathered in one pass.
#[derive(Default)]
struct Facts {
    length: Option<u64>,
    /// The coding is `chunked` and nothing else.
    chunked: bool,
    hosts: u32,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    wants_upgrade: bool,
    expects_continue: bool,
}

impl Facts {
    fn of(headers: Headers<'_>, version: Version) -> Result<Facts, Refusal> {
        let mut facts = Facts::default();
        for (name, value) in headers.iter() {
            // By length first: most names are told apart by it.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => facts.host(value)?,
                6 if name.eq_ignore_ascii_case("expect") => facts.expect(value)?,
                7 if name.eq_ignore_ascii_case("upgrade") => facts.wants_upgrade = true,
                10 if name.eq_ignore_ascii_case("connection") => facts.connection(value),
                14 if name.eq_ignore_ascii_case("content-length") => facts.length(value)?,
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    facts.coding(value, version)?;
                }
                _ => {}
            }
        }
        facts.upgrade &= facts.wants_upgrade;
        Ok(facts)
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.hosts += 1;
        if value.iter().any(|byte| b" \t,/?#@\\".contains(byte)) {
            return Err(Refusal::bad("a bad Host field"));
        }
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
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
        if self.chunked || value.is_empty() {
            return Err(Refusal::bad("a bad Transfer-Encoding"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::new(501, "a transfer coding other than chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    fn framing(&self) -> Result<Option<Framing>, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::bad("both Content-Length and Transfer-Encoding")),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, length) => Ok(length.map(Framing::Length)),
        }
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }
}
