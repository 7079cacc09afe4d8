//! The response to a call: collected, or in parts as they come.
//!
//! # Read next
//! `call.rs`: the methods of a call under way.

use std::mem;
use std::str;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use super::call::Call;
use super::deliver::OnEvent;
use super::error::Error;
use crate::protocols::http::Headers;
use crate::reactor::Context;

/// A whole response, as the client receives it.
#[derive(Clone, Debug, Default)]
pub struct ClientResponse {
    /// The status.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// The body; empty for HEAD and where the status has none.
    pub body: Vec<u8>,
}

impl ClientResponse {
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

    fn begin(head: &ClientResponseHead<'_>) -> ClientResponse {
        let pair = |(name, value): (&str, &[u8])| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(value).ok()?))
        };
        let mut headers = HeaderMap::with_capacity(head.headers.len());
        for (name, value) in head.headers.iter().filter_map(pair) {
            headers.append(name, value);
        }
        ClientResponse { status: head.status, version: head.version, headers, body: Vec::new() }
    }
}

/// The head of a response, in the loop's own buffer.
#[derive(Clone, Copy, Debug)]
pub struct ClientResponseHead<'a> {
    /// The status.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields.
    pub headers: Headers<'a>,
    /// The length of the body, if that is known: 0 if there is none, as in a response to HEAD. (The
    /// `Content-Length` of that one is the length that a GET would get.)
    pub body_bytes: Option<u64>,
}

/// An event of a call: `Head` once, `Data` for each piece of the body, at last `End` or `Failed`.
#[derive(Debug)]
pub enum CallEvent<'a> {
    /// The head of the final response. Interim ones (1xx) are not delivered.
    Head(&'a ClientResponseHead<'a>),
    /// Bytes of the body, decoded. The slice is the loop's own buffer.
    Data(&'a [u8]),
    /// There is room again, after a write of the request's body returned `AboveHigh` or `Refused`.
    Drained,
    /// The response is whole. The last event; the id is stale.
    End,
    /// There will be no whole response. The last event; the id is stale.
    Failed(Error),
}

/// Bytes that are reserved for a body by its announced length alone, at most. 256 KiB.
const BODY_BYTES_TRUSTED: u64 = 256 * 1024;

/// Collects a response.
pub(super) fn collect<S: 'static, F>(bytes_max: u64, done: F) -> OnEvent<S>
where
    F: FnOnce(&mut Context<S>, &mut S, Result<ClientResponse, Error>) + 'static,
{
    let (mut response, mut done) = (ClientResponse::default(), Some(done));
    Box::new(move |reactor, state, call, event| {
        let result = match event {
            CallEvent::Head(head) if head.body_bytes.is_none_or(|bytes| bytes <= bytes_max) => {
                response = ClientResponse::begin(head);
                let bytes = head.body_bytes.unwrap_or(0).min(BODY_BYTES_TRUSTED);
                return response.body.reserve(bytes as usize);
            }
            CallEvent::Data(bytes) if (response.body.len() + bytes.len()) as u64 <= bytes_max => {
                return response.body.extend_from_slice(bytes);
            }
            CallEvent::Drained => return,
            CallEvent::End => Ok(mem::take(&mut response)),
            CallEvent::Failed(error) => Err(error),
            CallEvent::Head(_) | CallEvent::Data(_) => {
                let url = reactor.get(call).map(Call::url).unwrap_or_default().into();
                call.cancel(reactor);
                Err(Error::TooLong { url, bytes_max })
            }
        };
        if let Some(done) = done.take() {
            done(reactor, state, result);
        }
    })
}
