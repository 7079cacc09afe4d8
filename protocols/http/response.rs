//! A response: made by a handler; and how its head is written.
//!
//! Knows RFC 9112; never mentions a connection. A header field that would change where the response
//! ends, or add a second response behind it, is not accepted.
//!
//! # Read next
//! `server/reply.rs`: how it is sent.

use std::fmt;

use http::{Method, StatusCode};

use super::date;
use super::headers::{is_text, is_token, tokens};
use super::payload::Payload;
use super::range::{Ranges, content_range, ranges};
use super::request::Request;

/// A status, header fields and a body.
///
/// ```
/// use waterwheel::protocols::http::{Response, StatusCode};
///
/// let page = Response::html("<h1>Hello</h1>");
/// let made = Response::json(r#"{"id":7}"#)
///     .status(StatusCode::CREATED)
///     .header("Location", "/users/7");
/// let short: Response = "plain text".into();
/// let nothing: Response = StatusCode::NO_CONTENT.into();
/// ```
#[must_use = "it is to be sent"]
pub struct Response {
    status: StatusCode,
    /// A whole line, or an empty text.
    content_type: &'static str,
    /// The header fields, each with its CRLF.
    fields: Vec<u8>,
    has_date: bool,
    /// `Connection: close` was asked for.
    pub(super) close: bool,
    /// A field that cannot be sent.
    pub(super) bad: Option<Box<str>>,
    pub(super) body: Payload,
}

const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";
const HTML: &str = "Content-Type: text/html; charset=utf-8\r\n";
const JSON: &str = "Content-Type: application/json\r\n";
const BYTES: &str = "Content-Type: application/octet-stream\r\n";

impl Response {
    /// A response without a body.
    pub fn new(status: StatusCode) -> Response {
        Response {
            status,
            content_type: "",
            fields: Vec::new(),
            has_date: false,
            close: false,
            bad: None,
            body: Payload::EMPTY,
        }
    }

    /// 200 with plain text in UTF-8.
    pub fn text(body: impl Into<Payload>) -> Response {
        Response { content_type: TEXT, ..Response::bytes(body) }
    }

    /// 200 with a page in UTF-8.
    pub fn html(body: impl Into<Payload>) -> Response {
        Response { content_type: HTML, ..Response::bytes(body) }
    }

    /// 200 with JSON, which `body` is already.
    pub fn json(body: impl Into<Payload>) -> Response {
        Response { content_type: JSON, ..Response::bytes(body) }
    }

    /// 200 with a body of any type; a `Content-Type` can be added as a header.
    pub fn bytes(body: impl Into<Payload>) -> Response {
        Response { body: body.into(), ..Response::new(StatusCode::OK) }
    }

    /// Sets the status.
    pub fn status(mut self, status: StatusCode) -> Response {
        self.status = status;
        self
    }

    /// Adds a header field; a `Content-Type` or a `Date` takes the place of the usual one. Of a
    /// field that can be there only once, such as these, `Server`, `ETag` or `Location`, the last
    /// counts.
    ///
    /// `Connection: close` closes the connection after the response, and `upgrade` is sent. Other
    /// options of `Connection` are not.
    ///
    /// `Content-Length` and `Transfer-Encoding` are the server's to set. Either of them, a name
    /// that is no token, or a control character in the value (a CRLF would add another field)
    /// makes the response a 500, and a line in the log.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Response {
        let mut value = value.as_ref().trim_ascii();
        let is = |other| name.eq_ignore_ascii_case(other);
        let is_field =
            !name.is_empty() && name.bytes().all(is_token) && value.iter().copied().all(is_text);
        if !is_field || is("content-length") || is("transfer-encoding") {
            self.bad = Some(name.into());
            return self;
        }
        if is("connection") {
            let find = |word: &[u8]| tokens(value).find(|token| token.eq_ignore_ascii_case(word));
            self.close |= find(b"close").is_some();
            match find(b"upgrade") {
                Some(upgrade) => value = upgrade,
                None => return self,
            }
        }
        if is("content-type") {
            self.content_type = "";
        }
        self.has_date |= is("date");
        if !self.fields.is_empty() && is_single(name) {
            self.remove(name);
        }
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.fields.extend_from_slice(part);
        }
        self
    }

    /// Answers a GET for one part of the body (`Range`) with that part: 206, or 416 if it lies
    /// behind the end. A request for several parts, or for a part of another version (`If-Range`),
    /// gets the whole. The version is the response's `ETag` or `Last-Modified`: set them before.
    ///
    /// ```
    /// use waterwheel::protocols::http::{Response, Server};
    ///
    /// let server = Server::<()>::new(|reactor, _, request, reply| {
    ///     let all = Response::bytes(b"0123456789").header("ETag", "\"v1\"");
    ///     reply.send(reactor, all.ranged(request));
    /// });
    /// ```
    pub fn ranged(self, request: &Request<'_>) -> Response {
        if self.status != StatusCode::OK {
            return self;
        }
        let length = self.body.len() as u64;
        let (etag, modified) = (self.field("etag"), self.field("last-modified"));
        let requested = match *request.method() {
            Method::GET => ranges(request.headers(), length, etag, modified),
            _ => Ranges::Whole,
        };
        match requested {
            Ranges::Parts(parts) if parts.len() == 1 => {
                let bytes = parts[0].start as usize..parts[0].end as usize;
                let part = Response { body: self.body.part(bytes), ..self };
                part.status(StatusCode::PARTIAL_CONTENT)
                    .header("Content-Range", content_range(Some(&parts[0]), length))
            }
            Ranges::Unsatisfiable => Response::from(StatusCode::RANGE_NOT_SATISFIABLE)
                .header("Content-Range", content_range(None, length)),
            _ => self.header("Accept-Ranges", "bytes"),
        }
    }

    /// The value of the first field of this name that was added.
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = str::from_utf8(&self.fields).ok()?.lines();
        lines.find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Takes out the fields of this name that were added.
    fn remove(&mut self, name: &str) {
        let is_other = |line: &&[u8]| {
            let own = line.split(|byte| *byte == b':').next().unwrap_or(line);
            !own.eq_ignore_ascii_case(name.as_bytes())
        };
        let lines = self.fields.split_inclusive(|byte| *byte == b'\n');
        self.fields = lines.filter(is_other).flatten().copied().collect();
    }

    pub(super) fn code(&self) -> StatusCode {
        self.status
    }

    /// Returns true if it is valid and final: it can be sent.
    pub(super) fn is_final(&self) -> bool {
        self.bad.is_none() && !self.status.is_informational()
    }

    /// If there can be no body, how the head says so (RFC 9110, 6.4.1): of a 205 the client still
    /// looks for the end (15.3.6).
    pub(super) fn bodiless(&self) -> Option<Coding> {
        match self.status {
            StatusCode::RESET_CONTENT => Some(Coding::Length(0)),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Some(Coding::None),
            status => status.is_informational().then_some(Coding::None),
        }
    }

    /// Appends the head, blank line included, to `out`.
    #[inline]
    pub(super) fn write_head(
        &self,
        out: &mut Vec<u8>,
        coding: Coding,
        connection: Connection,
        date: &date::DateLine,
    ) {
        match self.status {
            StatusCode::OK => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
            status => write_status(out, status),
        }
        out.extend_from_slice(self.content_type.as_bytes());
        match coding {
            Coding::Length(length) => {
                out.extend_from_slice(b"Content-Length: ");
                put_number(out, length, 10);
                out.extend_from_slice(b"\r\n");
            }
            Coding::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Coding::UntilClose | Coding::None => {}
        }
        match connection {
            Connection::Usual => {}
            Connection::Close => out.extend_from_slice(b"Connection: close\r\n"),
            Connection::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        }
        if !self.has_date {
            out.extend_from_slice(date);
        }
        out.extend_from_slice(&self.fields);
        out.extend_from_slice(b"\r\n");
    }
}

/// Returns true if a response has at most one field of that name (RFC 9110, 5.3). `Connection` is
/// among them because only `upgrade` is kept of it.
fn is_single(name: &str) -> bool {
    const SINGLE: [&str; 14] = [
        "age",
        "connection",
        "content-disposition",
        "content-location",
        "content-range",
        "content-type",
        "date",
        "etag",
        "expires",
        "last-modified",
        "location",
        "retry-after",
        "server",
        "strict-transport-security",
    ];
    SINGLE.iter().any(|single| single.eq_ignore_ascii_case(name))
}

#[cold]
fn write_status(out: &mut Vec<u8>, status: StatusCode) {
    let reason = status.canonical_reason().unwrap_or("");
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// How the client finds the end of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Length(u64),
    Chunked,
    /// To a client of HTTP/1.0.
    UntilClose,
    /// There is no body, and nothing is said of it: 204, 304, an upgrade.
    None,
}

/// The value of the field `Connection` in the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// Nothing: it stays open, as HTTP/1.1 has it.
    Usual,
    Close,
    /// To a client of HTTP/1.0.
    KeepAlive,
}

/// Writes a number in digits, 16 of them at most in base 16 and 20 in base 10.
pub(in crate::protocols::http) fn put_number(out: &mut Vec<u8>, mut number: u64, base: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(number % base) as usize];
        number /= base;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

impl From<&'static str> for Response {
    fn from(text: &'static str) -> Response {
        Response::text(text)
    }
}

impl From<String> for Response {
    fn from(text: String) -> Response {
        Response::text(text)
    }
}

/// Bytes of no known type: `application/octet-stream`.
impl From<Vec<u8>> for Response {
    fn from(bytes: Vec<u8>) -> Response {
        Response { content_type: BYTES, ..Response::bytes(bytes) }
    }
}

/// The status alone; an error says itself in words, too.
impl From<StatusCode> for Response {
    fn from(status: StatusCode) -> Response {
        let is_error = status.is_client_error() || status.is_server_error();
        match status.canonical_reason() {
            Some(reason) if is_error => Response::text(reason).status(status),
            _ => Response::new(status),
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
