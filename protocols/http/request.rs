//! A request as its handler sees it: borrowed from the buffer it was read into.
//!
//! # Read next
//! `response.rs`: the response to it.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use http::{Method, Version};

use super::framing::Framing;
use super::head::RequestHead;
use super::headers::Headers;
use super::percent::pairs;
use super::route_matcher::Params;

/// A request with its head and, unless the body is streamed, its body. It lives as long as the call
/// of the handler: copy the parts that you keep.
pub struct Request<'a> {
    pub(super) head: &'a RequestHead<'a>,
    pub(super) body: &'a [u8],
    pub(super) peer: Option<SocketAddr>,
    pub(super) params: Params<'a>,
}

impl<'a> Request<'a> {
    /// The method, such as GET.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The target as it was sent, query included: `/path?query`; for a proxy a whole URI, for
    /// CONNECT a host and a port, and `*` for OPTIONS of the server itself.
    pub fn target(&self) -> &'a str {
        self.head.target
    }

    /// The path of the target, as it was sent: nothing is decoded.
    pub fn path(&self) -> &'a str {
        self.head.path
    }

    /// The query, behind the path's question mark; not decoded.
    pub fn query(&self) -> Option<&'a str> {
        self.head.query
    }

    /// The pairs of the query, decoded as forms are.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        pairs(self.head.query.unwrap_or_default())
    }

    /// The value of the first pair of the query that has this name, decoded.
    pub fn query_param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The host, and the port if one was named, that the client wants to talk to.
    pub fn authority(&self) -> Option<&'a str> {
        self.head.authority()
    }

    /// HTTP/1.1, or HTTP/1.0.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The value of the first header field of that name, in upper or lower case; see
    /// [`Headers::get`].
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.head.headers.get(name)
    }

    /// All header fields.
    pub fn headers(&self) -> Headers<'a> {
        self.head.headers
    }

    /// The text in the path for a parameter of the route, as in `/users/{id}`; decoded. `None` if
    /// the route has no such parameter.
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.params.get(name)
    }

    /// How many bytes the body has, streamed or not: 0 if there is none, `None` if that shows only
    /// at its end (chunked).
    pub fn body_bytes(&self) -> Option<u64> {
        match self.head.body {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    /// The body; empty if there is none, or if it is streamed.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The client's address, where it has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", self.method())
            .field("target", &self.target())
            .field("version", &self.version())
            .field("headers", &self.headers())
            .field("body_bytes", &self.body_bytes())
            .field("peer", &self.peer)
            .finish()
    }
}
