//! Protocols over streams.
//!
//! Knows net, whose streams carry it; nothing below knows it.
//!
//! * `tls` (feature `tls`): encryption, over any stream; the result is a stream again.
//! * `http` (feature `http`): HTTP/1.1, server and client.
//! * `ws` (feature `ws`): WebSocket, which begins as an HTTP request.
//!
//! # Read next
//! `http/mod.rs`: from bytes to requests.

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "ws")]
pub mod ws;
