//! Heads: from bytes to a request or status line, fields, and the framing that these announce.
//!
//! Knows httparse and RFC 9112; never mentions a connection.
//!
//! A head is parsed once when it comes whole, as nearly always. One that comes in pieces is parsed
//! at the first of them, whenever it has doubled since, and when its blank line is there
//! ([`Scan`]). So input that is no HTTP is found out soon, and the work is linear in the bytes,
//! however they are cut.
//!
//! A head that is not well formed is refused here: a line that does not end in CRLF, a target with
//! a fragment, more than one `Host`. Spaces before a colon are refused by httparse.
//!
//! Three things httparse does not read: a minor version above 1, which is read as 1.1 (RFC 9110,
//! 2.5); in a response a folded line, which is joined (RFC 9112, 5.2; in a request it is refused),
//! and more than [`HEADERS_ROOM`] fields. They are rare. Such a head is copied, put right and
//! parsed again.
//!
//! # Read next
//! `request_target.rs`: the target of a request. `framing.rs`: where it ends.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version};

use super::framing::{Framing, MessageFields};
use super::headers::Headers;
use super::refusal::Refusal;
use super::request_target::RequestTarget;

/// Fields that lie on the stack. A request can have no more, also with larger limits; if a
/// response has more, its fields are put on the heap.
pub const HEADERS_ROOM: usize = 128;
/// Longer methods are not looked at: each would be copied to the heap.
const METHOD_BYTES_MAX: usize = 32;

type Field<'a> = MaybeUninit<httparse::Header<'a>>;

/// Where the fields of one head are put.
#[derive(Debug)]
pub struct Room<'a> {
    fields: [Field<'a>; HEADERS_ROOM],
    /// Those of a head that was parsed again.
    more: Vec<Field<'a>>,
    /// That head, put right.
    text: Vec<u8>,
}

/// An empty one, which costs nothing.
pub const fn room<'a>() -> Room<'a> {
    let fields = [const { MaybeUninit::uninit() }; HEADERS_ROOM];
    Room { fields, more: Vec::new(), text: Vec::new() }
}

/// Why a head was not read.
enum Failed<T> {
    Refused(Refusal),
    /// It may be one that httparse does not read, but we do.
    Again(T),
}

impl<T> From<Refusal> for Failed<T> {
    fn from(refusal: Refusal) -> Failed<T> {
        Failed::Refused(refusal)
    }
}

/// The limits of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// From its first byte to the blank line, which is included.
    pub head_bytes_max: usize,
    /// Of a request not more than [`HEADERS_ROOM`].
    pub headers_max: usize,
    /// The target alone.
    pub target_bytes_max: usize,
}

/// A request's head.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: Method,
    /// As it was sent.
    pub target: &'a str,
    authority: Option<&'a [u8]>,
    /// Of the target: not decoded, and empty for CONNECT only.
    pub path: &'a str,
    /// Of the target: the text behind the first `?`.
    pub query: Option<&'a str>,
    /// 1.0, or 1.1 for that and all that come behind it.
    pub version: Version,
    /// All of its fields.
    pub headers: Headers<'a>,
    /// How its body ends.
    pub body: Framing,
    /// Another request may follow.
    pub keep_alive: bool,
    /// The client waits for 100 before it sends the body.
    pub expects_continue: bool,
    /// It asks for another protocol (`Upgrade`, or the method CONNECT).
    pub upgrades: bool,
    /// Its length, the blank line included.
    pub bytes: usize,
}

impl<'a> RequestHead<'a> {
    /// The host it is for: as the target says, which has precedence (RFC 9112, 3.2.2), or `Host`.
    pub fn authority(&self) -> Option<&'a str> {
        str::from_utf8(self.authority?).ok()
    }
}

/// A response's head.
#[derive(Debug)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: StatusCode,
    /// 1.0 or 1.1.
    pub version: Version,
    /// All of its fields.
    pub headers: Headers<'a>,
    /// How its body ends.
    pub body: Framing,
    /// The connection can be used again.
    pub keep_alive: bool,
    /// Its length, the blank line included.
    pub bytes: usize,
}

/// Parses the head at the front of `bytes`; `None` if it is not whole.
pub fn parse_request<'a>(
    bytes: &'a [u8],
    limits: HeadLimits,
    room: &'a mut Room<'a>,
) -> Result<Option<RequestHead<'a>>, Refusal> {
    let bytes = &bytes[..bytes.len().min(limits.head_bytes_max)];
    let headers_max = limits.headers_max.min(HEADERS_ROOM);
    match request_head(bytes, limits, &mut room.fields[..headers_max]) {
        Ok(head) => Ok(head),
        Err(Failed::Refused(refusal)) => Err(refusal),
        Err(Failed::Again(minor)) => {
            room.text.extend_from_slice(bytes);
            room.text[minor] = b'1';
            room.more.resize_with(headers_max, MaybeUninit::uninit);
            match request_head(&room.text, limits, &mut room.more) {
                Ok(head) => Ok(head),
                Err(Failed::Refused(refusal)) => Err(refusal),
                Err(Failed::Again(_)) => Err(refuse(httparse::Error::Version)),
            }
        }
    }
}

/// [`parse_request`], if it is of a version that httparse knows; otherwise the position of the
/// minor version that is to be read as 1.
#[inline]
fn request_head<'a>(
    bytes: &'a [u8],
    limits: HeadLimits,
    room: &'a mut [Field<'a>],
) -> Result<Option<RequestHead<'a>>, Failed<usize>> {
    let blank = blank_line(bytes)?;
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(&bytes[blank..], room);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => blank + length,
        Ok(httparse::Status::Partial) => return Ok(unfinished(&request, bytes.len(), limits)?),
        Err(error) => return refuse_request(error, &request, bytes, blank, limits),
    };
    let (Some(name), Some(target)) = (request.method, request.path) else {
        return Err(Refusal::bad("a request without a method or a target").into());
    };
    check_sizes(name.len(), target.len(), limits)?;
    check_lines(&bytes[..length], request.headers)?;
    let Ok(method) = Method::from_bytes(name.as_bytes()) else {
        return Err(Refusal::bad("the method is not a token").into());
    };
    let RequestTarget { authority, path, query } = RequestTarget::of(&method, target)?;
    let version = version(request.version);
    let headers = Headers::new(request.headers);
    let fields = MessageFields::of(headers, version, true)?;
    if version == Version::HTTP_11 && fields.hosts != 1 || fields.hosts > 1 {
        return Err(Refusal::bad("not exactly one Host field").into());
    }
    let body = fields.framing()?.unwrap_or(Framing::NONE);
    if method == Method::CONNECT && body != Framing::NONE {
        // Some readers take the bytes that follow for the tunnel, others for the body (RFC 9110,
        // 9.3.6).
        return Err(Refusal::bad("a CONNECT with a body").into());
    }
    Ok(Some(RequestHead {
        body,
        keep_alive: fields.keep_alive(version),
        expects_continue: fields.expects_continue && version == Version::HTTP_11,
        upgrades: fields.upgrade && version == Version::HTTP_11 || method == Method::CONNECT,
        method,
        target,
        authority: authority.map(str::as_bytes).or(fields.host),
        path,
        query,
        version,
        headers,
        bytes: length,
    }))
}

/// Parses the head at the front of `bytes`, the response to a request of that method; `None` if it
/// is not whole.
pub fn parse_response<'a>(
    bytes: &'a [u8],
    limits: HeadLimits,
    method: &Method,
    room: &'a mut Room<'a>,
) -> Result<Option<ResponseHead<'a>>, Refusal> {
    let bytes = &bytes[..bytes.len().min(limits.head_bytes_max)];
    let on_stack = limits.headers_max.min(HEADERS_ROOM);
    match response_head(bytes, limits, method, &mut room.fields[..on_stack]) {
        Ok(head) => Ok(head),
        Err(Failed::Refused(refusal)) => Err(refusal),
        Err(Failed::Again(_)) => {
            room.text.extend_from_slice(bytes);
            put_right(&mut room.text);
            // A field has a line of its own. So the memory is bounded by the bytes that have come.
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            room.more.resize_with(lines.min(limits.headers_max), MaybeUninit::uninit);
            match response_head(&room.text, limits, method, &mut room.more) {
                Ok(head) => Ok(head),
                Err(Failed::Refused(refusal)) => Err(refusal),
                Err(Failed::Again(error)) => Err(refuse(error)),
            }
        }
    }
}

/// Makes a copy of a response's head one that httparse reads, without moving a byte.
fn put_right(head: &mut [u8]) {
    if let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'2'..=b'9', ..] = head {
        *minor = b'1';
    }
    // A line that is folded to the status line belongs to no field (RFC 9112, 2.2).
    let lines = head.windows(2).position(|pair| pair == b"\r\n");
    let mut at = lines.map_or(head.len(), |end| end + 2);
    while let Some(three) = head.get_mut(at..at + 3) {
        match three {
            [b'\r', b'\n', b' ' | b'\t'] => three.fill(b' '),
            [b'\r', b'\n', b'\r'] => break,
            _ => {}
        }
        at += 1;
    }
}

/// [`parse_response`], if it is one that httparse reads.
#[inline]
fn response_head<'a>(
    bytes: &'a [u8],
    limits: HeadLimits,
    method: &Method,
    room: &'a mut [Field<'a>],
) -> Result<Option<ResponseHead<'a>>, Failed<httparse::Error>> {
    use httparse::Error::{HeaderName, TooManyHeaders, Version as OtherVersion};
    if matches!(bytes, [b'\r' | b'\n', ..]) {
        return Err(Refusal::bad("a blank line ahead of a response").into());
    }
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, bytes, room) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= limits.head_bytes_max => {
            return Err(TOO_LONG.into());
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error @ (HeaderName | TooManyHeaders | OtherVersion)) => {
            return Err(Failed::Again(error));
        }
        Err(error) => return Err(refuse(error).into()),
    };
    check_lines(&bytes[..length], response.headers)?;
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let Some(status) = status else { return Err(Refusal::bad("the status is no number").into()) };
    let version = version(response.version);
    let headers = Headers::new(response.headers);
    let fields = MessageFields::of(headers, version, false)?;
    let bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || method == Method::HEAD;
    // A tunnel has no message to end, whatever the fields say (RFC 9110, 9.3.6).
    let is_tunnel = method == Method::CONNECT && status.is_success();
    let framing = if is_tunnel { Some(Framing::NONE) } else { fields.framing()? };
    let body = match framing {
        _ if bodiless => Framing::NONE,
        Some(body) => body,
        None => Framing::UntilClose,
    };
    let keep_alive = fields.keep_alive(version) && body != Framing::UntilClose;
    Ok(Some(ResponseHead { status, version, headers, body, keep_alive, bytes: length }))
}

/// The length of the blank line ahead of a request: one is skipped, since some clients send one
/// behind a body (RFC 9112, 2.2); more would be parsed again and again.
fn blank_line(bytes: &[u8]) -> Result<usize, Refusal> {
    match bytes {
        [b'\r', b'\n', b'\r' | b'\n', ..] | [b'\n', ..] => {
            Err(Refusal::bad("blank lines ahead of a request"))
        }
        [b'\r', b'\n', ..] => Ok(2),
        _ => Ok(0),
    }
}

const TOO_LONG: Refusal = Refusal::new(431, "the head is too long");

/// For a head that is not whole: `None` if it can still become one that is accepted.
fn unfinished<'a>(
    request: &httparse::Request<'_, '_>,
    length: usize,
    limits: HeadLimits,
) -> Result<Option<RequestHead<'a>>, Refusal> {
    // httparse gives a target when it has its end. Until then the rest after the method counts as
    // one.
    let method = request.method.map_or(length, str::len);
    let target = request.path.map_or(length.saturating_sub(method + 3), str::len);
    check_sizes(method.saturating_sub(2), target, limits)?;
    if length >= limits.head_bytes_max { Err(TOO_LONG) } else { Ok(None) }
}

fn check_sizes(method: usize, target: usize, limits: HeadLimits) -> Result<(), Refusal> {
    if method > METHOD_BYTES_MAX {
        return Err(Refusal::new(501, "an unknown method"));
    }
    if target > limits.target_bytes_max {
        return Err(Refusal::new(414, "the request target is too long"));
    }
    Ok(())
}

/// Checks for lines that end in LF alone, which httparse accepts. LF can only be at the end of a
/// line, and every line but the first and the blank one begins with a field's name. So it is enough
/// to look in front of each name: a fifth of the work of a look at every byte.
fn check_lines(head: &[u8], fields: &[httparse::Header<'_>]) -> Result<(), Refusal> {
    let ends_in_crlf = |name: &str| {
        let at = name.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        head.get(at.wrapping_sub(2)) == Some(&b'\r')
    };
    if fields.iter().all(|field| ends_in_crlf(field.name)) && head.ends_with(b"\r\n\r\n") {
        return Ok(());
    }
    Err(Refusal::bad("a line does not end in CRLF"))
}

/// Why a request is not read. At a version, where that is if it is to be read as 1.1; `Ok` if more
/// of it must come first.
#[cold]
fn refuse_request<'a>(
    error: httparse::Error,
    request: &httparse::Request<'_, '_>,
    bytes: &[u8],
    blank: usize,
    limits: HeadLimits,
) -> Result<Option<RequestHead<'a>>, Failed<usize>> {
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    check_sizes(method.len(), target.len(), limits)?;
    if error != httparse::Error::Version {
        return Err(refuse(error).into());
    }
    let at = blank + method.len() + target.len() + 2;
    let version = bytes.get(at..).and_then(|version| version.strip_prefix(b"HTTP/"));
    // Two digits with a dot between (RFC 9112, 2.3), but HTTP/2 and HTTP/3 are called so.
    match version.unwrap_or(b" ") {
        [b'1', b'.', b'2'..=b'9', ..] => Err(Failed::Again(at + 7)),
        [b'0'..=b'9'] | [b'0'..=b'9', b'.'] | [b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Ok(unfinished(request, bytes.len(), limits)?)
        }
        [b'0' | b'2'..=b'9', b'\r' | b'\n', ..]
        | [b'0' | b'2'..=b'9', b'.', b'0'..=b'9', b'\r' | b'\n', ..] => Err(refuse(error).into()),
        // Or the text behind a target with a space in it.
        _ => Err(Refusal::bad("a bad request line").into()),
    }
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

/// httparse knows these two only; see the head of this file.
fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}
