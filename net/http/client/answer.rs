//! What comes back: an answer whole, or its parts as they come.
//!
//! # Read next
//! `call.rs`: what may be done meanwhile.

use std::mem;
use std::str;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use super::error::Error;
use crate::net::http::Headers;

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// The body; empty for HEAD and where the status has none.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the first field of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn text(&self) -> Result<&str, str::Utf8Error> {
        str::from_utf8(&self.body)
    }

    pub(super) fn begin(head: &AnswerHead<'_>) -> Answer {
        let pair = |(name, value): (&str, &[u8])| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(value).ok()?))
        };
        let mut headers = HeaderMap::with_capacity(head.headers.len());
        for (name, value) in head.headers.iter().filter_map(pair) {
            headers.append(name, value);
        }
        Answer { status: head.status, version: head.version, headers, body: Vec::new() }
    }

    /// Takes what was collected so far.
    pub(super) fn take(&mut self) -> Answer {
        mem::take(self)
    }
}

/// The head of an answer, in the loop's own buffer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHead<'a> {
    /// The status.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields.
    pub headers: Headers<'a>,
    /// How long the body will be, if that is known.
    pub body_bytes: Option<u64>,
}

/// What a call tells: `Head` once, `Data` as often as there is some, and at last `End` or `Failed`.
#[derive(Debug)]
pub enum CallEvent<'a> {
    /// The final answer's head. Interim ones (1xx) are not told.
    Head(&'a AnswerHead<'a>),
    /// Bytes of the body, decoded. The slice is the loop's own buffer.
    Data(&'a [u8]),
    /// After a piece of the request's body was answered with pressure: there is room again.
    Drained,
    /// The answer is whole. The last event; the id is stale.
    End,
    /// It will not be. The last event; the id is stale.
    Failed(Error),
}
