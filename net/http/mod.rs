//! HTTP/1.1 on the loop: a server and a client.
//!
//! Knows connections, httparse for heads and the `http` crate for methods and statuses.

mod chunked;
mod head;
mod headers;
mod refusal;

pub use headers::Headers;
pub use refusal::Refusal;

/// Of the `http` crate.
pub use http::{Method, StatusCode, Uri, Version};
