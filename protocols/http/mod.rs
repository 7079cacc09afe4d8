//! HTTP/1.1 on the loop: a server and a client. Feature `http`.
//!
//! Knows connections, httparse for heads and the `http` crate for methods and statuses.
//!
//! A server is a handler:
//!
//! ```
//! use waterwheel::{Reactor, protocols::http};
//!
//! let mut reactor = Reactor::<()>::new()?;
//! http::listen(&mut reactor, "127.0.0.1:0", |reactor, _, _, reply| {
//!     reply.send(reactor, "Hello, world!");
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A [`Reply`] is a value: it may be sent now, or kept. A long poll keeps them all until there is
//! news:
//!
//! ```
//! use waterwheel::{Reactor, protocols::http::{self, Method, Reply}};
//!
//! let mut reactor = Reactor::new()?;
//! http::listen(&mut reactor, "127.0.0.1:0", |reactor, waiting: &mut Vec<Reply>, request, reply| {
//!     waiting.push(reply);
//!     if request.method() == Method::POST {
//!         let news = String::from_utf8_lossy(request.body()).into_owned();
//!         for reply in waiting.drain(..) {
//!             reply.send(reactor, news.clone());
//!         }
//!     }
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! | to | begin at |
//! |---|---|
//! | serve | [`listen`]; [`Server`] for limits, TLS and other streams, [`Router`] for paths |
//! | respond now, later, or without end | [`Reply`]; [`Response`], [`Sender`], [`SseEvent`] |
//! | receive a body larger than memory | [`Router::stream`], [`Server::streaming`] |
//! | pass requests on | [`Forward`]; in parts: [`ClientRequest::forward`], [`Reply::forward`], [`Sender::pass_on`] |
//! | send requests | [`Client`]; [`ClientRequest`] for more than a GET, [`CallEvent`] for a response as it comes |
//!
//! No peer can make either side keep more, or wait longer, than [`Limits`] and [`ClientLimits`]
//! allow.
//!
//! # Read next
//! `head.rs`, `framing.rs`, `chunked.rs`: bytes to messages; then `server/mod.rs`, `client/mod.rs`.

mod chunked;
mod client;
mod date;
mod forward;
mod forwarding;
mod framing;
mod head;
mod head_scan;
mod headers;
mod join;
mod payload;
mod percent;
mod range;
mod refusal;
mod request;
mod request_target;
mod response;
mod route_matcher;
mod server;
mod server_limits;
mod sse;
mod zone;

pub use client::{
    Call, CallEvent, CallStage, Client, ClientLimits, ClientRequest, ClientResponse,
    ClientResponseHead, Dialed, Error,
};
pub use forwarding::{Forward, ForwardEvent};
pub use headers::Headers;
pub use payload::Payload;
pub use range::{RANGES_MAX, Ranges, content_range, part_head, parts_end, ranges};
pub use refusal::Refusal;
pub use request::Request;
pub use response::Response;
pub use server::{Body, BodyHandler, Reply, Router, Sender, Server, Watch, listen};
pub use server_limits::Limits;
pub use sse::SseEvent;

/// No part of the API: the state machines that server and client are made of, for the tests, the
/// benchmarks and the fuzz targets. Without a connection these check a hundred times more bytes.
#[doc(hidden)]
pub mod parts {
    pub use super::chunked::{Chunked, EXTENSION_BYTES_MAX, Piece, TRAILER_BYTES_MAX};
    pub use super::client::reader::{INTERIM_MAX, Reader, Step};
    pub use super::framing::Framing;
    pub use super::head::{
        HEADERS_ROOM, HeadLimits, RequestHead, ResponseHead, Room, parse_request, parse_response,
        room,
    };
    pub use super::head_scan::Scan;
    pub use super::percent::typed;
    pub use super::route_matcher::{Found, Matcher, Params};
    pub use super::zone::take_zone;
}

/// Of the `http` crate.
pub use http::{HeaderMap, Method, StatusCode, Uri, Version};
