//! Forwarding: a request becomes one of a client, and its response one of the server (RFC 9110, 7.6).
//!
//! Knows heads of both sides; never mentions a connection, or which server is asked. Bodies are in
//! `join.rs`.
//!
//! Nothing of the framing of one connection gets to the other: each side has lengths and codings of its own.
//! So a message that two servers would read differently stops here.
//!
//! # Read next
//! `join.rs`: the bodies.

use http::{StatusCode, Version};

use super::client::{Call, ClientRequest, ClientResponseHead};
use super::headers::Headers;
use super::request::Request;
use super::response::Response;
use super::server::{Reply, Sender};
use crate::net::Stream;
use crate::reactor::{Context, SourceId};

/// Fields that do not go on: those for one connection (RFC 9110, 7.6.1) or for one proxy (11.7), and
/// those that the proxy writes itself.
const NOT_FORWARDED: [&str; 16] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
    "host",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

impl ClientRequest {
    /// The request that a proxy sends to the server at `origin` (`http://127.0.0.1:8001`) in place of
    /// the client of `request`. `name` is the proxy's, for `Via`.
    ///
    /// Fields for one connection, and all that `Connection` names, are left out. The client's address
    /// is added to `X-Forwarded-For`, behind what the client itself may have claimed, and its `Host` is
    /// sent as it was and as `X-Forwarded-Host`. `X-Forwarded-Proto` is the caller's to add. A body is
    /// to be written piece by piece, as by [`pass_on`](SourceId::pass_on). A request to change to
    /// WebSocket goes on; other protocols do not: by `h2c` a client could send requests that the proxy
    /// does not see.
    ///
    /// A `CONNECT`, or an `OPTIONS *`, is not valid when it is sent.
    pub fn forward(request: &Request<'_>, origin: impl AsRef<str>, name: &str) -> ClientRequest {
        let (origin, path, fields) = (origin.as_ref(), request.path(), request.headers());
        let url = match request.query() {
            Some(query) => [origin, path, "?", query].concat(),
            None => [origin, path].concat(),
        };
        let mut to = ClientRequest::new(request.method().clone(), url);
        for (name, value) in forwarded(fields) {
            to = to.header(name, value);
        }
        if let Some(host) = request.authority() {
            to = to.header("Host", host).header("X-Forwarded-Host", host);
        }
        if let Some(peer) = request.peer() {
            let ip = peer.ip().to_canonical().to_string();
            to = to.header("X-Forwarded-For", longer(fields, "x-forwarded-for", &ip));
        }
        to = to.header("Via", via(fields, request.version(), name));
        let length = request.body_bytes();
        if length != Some(0) {
            to.body_stream(length)
        } else if fields.has_token("upgrade", "websocket")
            && fields.has_token("connection", "upgrade")
            && request.version() == Version::HTTP_11
        {
            to.upgrade("websocket")
        } else {
            to
        }
    }
}

impl Response {
    /// The response that a proxy sends in place of the server whose head this is, without the body.
    /// `name` is the proxy's, for `Via`.
    pub fn forward(head: &ClientResponseHead<'_>, name: &str) -> Response {
        let mut response = Response::new(head.status);
        for (name, value) in forwarded(head.headers) {
            response = response.header(name, value);
        }
        response.header("Via", via(head.headers, head.version, name))
    }
}

impl Reply {
    /// Begins the response with the head that another server has sent; see [`Response::forward`]. The
    /// body is to follow: with the same length, or chunked if the length is unknown.
    pub fn forward<S: 'static>(
        self,
        reactor: &mut Context<S>,
        head: &ClientResponseHead<'_>,
        name: &str,
    ) -> Sender {
        let response = Response::forward(head, name);
        // The field and not the length of the body: a response to HEAD has the one of a GET.
        let length = head.headers.get("content-length").and_then(|length| length.parse().ok());
        match length {
            Some(length) => self.stream_sized(reactor, response, length),
            None => self.stream(reactor, response),
        }
    }

    /// Changes the protocol on both sides, when the head of `call` has the status 101: in the callback
    /// for that head. Returns the client's stream and the server's, to be [linked](crate::net::link()).
    /// `None` if the client has gone.
    pub fn forward_upgrade<S: 'static>(
        self,
        reactor: &mut Context<S>,
        call: SourceId<Call>,
        head: &ClientResponseHead<'_>,
        name: &str,
    ) -> Option<(Stream, Stream)> {
        debug_assert_eq!(head.status, StatusCode::SWITCHING_PROTOCOLS);
        let protocol = head.headers.get("upgrade").unwrap_or("websocket");
        let response = Response::forward(head, name).header("Connection", "upgrade");
        let server = call.take_stream(reactor)?;
        let client = self.upgrade(reactor, response.header("Upgrade", protocol))?;
        Some((client, server))
    }
}

/// The fields that go on. O(fields × members of `Connection`), both bounded by the bytes of a head.
fn forwarded<'a>(fields: Headers<'a>) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let names_some = fields.get_bytes("connection").is_some();
    fields.iter().filter(move |(name, _)| {
        let stays = NOT_FORWARDED.iter().any(|other| name.eq_ignore_ascii_case(other));
        !stays && (!names_some || !fields.has_token("connection", name))
    })
}

/// The members of a list that is there, and one more.
fn longer(fields: Headers<'_>, name: &str, last: &str) -> Vec<u8> {
    let mut list = Vec::new();
    for value in fields.get_all(name).filter(|value| !value.is_empty()) {
        list.extend_from_slice(value);
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(last.as_bytes());
    list
}

fn via(fields: Headers<'_>, version: Version, name: &str) -> Vec<u8> {
    let version = if version == Version::HTTP_10 { "1.0 " } else { "1.1 " };
    longer(fields, "via", &[version, name].concat())
}
