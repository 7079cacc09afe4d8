//! The limits of a client: names, units, defaults.
//!
//! # Read next
//! `call.rs`: how the limits on time are kept.

use std::time::Duration;

use crate::protocols::http::head::HeadLimits;

/// Header fields of a response, also with a larger limit: a `HeaderMap` has room for some 24,000.
const HEADERS_MAX: usize = 4096;

/// The limits of a client's calls. `None` is no limit.
///
/// ```
/// # use std::time::Duration;
/// # use waterwheel::protocols::http::ClientLimits;
/// let limits =
///     ClientLimits { total_timeout: Some(Duration::from_secs(5)), ..ClientLimits::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Waiting for a connection if all connections to the host are in use. None.
    pub queue_timeout: Option<Duration>,
    /// From the lookup to the stream: TCP, the proxy's response and the TLS handshake. 10 s.
    pub connect_timeout: Option<Duration>,
    /// From the last byte of the request to the head of the response. 60 s.
    pub head_timeout: Option<Duration>,
    /// Between two pieces of the body. It does not run while the call is paused, or while bytes of
    /// the request are still being sent. 30 s.
    pub body_timeout: Option<Duration>,
    /// How long bytes of the request may wait without the server taking any. 30 s.
    pub write_timeout: Option<Duration>,
    /// The whole call, redirects included. None.
    pub total_timeout: Option<Duration>,
    /// How long to wait for 100 before the body is sent without it. 1 s.
    pub continue_timeout: Duration,
    /// Bytes of the head of a response. 64 KiB; never more than 512 KiB.
    pub head_bytes_max: usize,
    /// Header fields of a response. 256: some servers send over 100; never more than 4,096.
    pub headers_max: usize,
    /// Bytes of a response's body that is collected; a streamed one may have any length. 16 MiB.
    pub body_bytes_max: u64,
    /// Connections to one scheme, host and port at a time; more calls wait for one. 64.
    pub connections_per_host_max: usize,
    /// Calls that wait for a connection; one more fails at once. 10,000.
    pub waiting_max: usize,
    /// Connections that wait for a request, to one scheme, host and port. 8.
    pub idle_per_host_max: usize,
    /// Connections that wait for a request, to all hosts together. 64.
    pub idle_max: usize,
    /// How long each of them waits before it is closed. 30 s: many servers wait for a minute.
    pub idle_time_max: Duration,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            queue_timeout: None,
            connect_timeout: Some(Duration::from_secs(10)),
            head_timeout: Some(Duration::from_secs(60)),
            body_timeout: Some(Duration::from_secs(30)),
            write_timeout: Some(Duration::from_secs(30)),
            total_timeout: None,
            continue_timeout: Duration::from_secs(1),
            head_bytes_max: 64 * 1024,
            headers_max: 256,
            body_bytes_max: 16 * 1024 * 1024,
            connections_per_host_max: 64,
            waiting_max: 10_000,
            idle_per_host_max: 8,
            idle_max: 64,
            idle_time_max: Duration::from_secs(30),
        }
    }
}

impl ClientLimits {
    pub(super) fn heads(&self) -> HeadLimits {
        HeadLimits {
            // The connection keeps an incomplete head, 1 MiB at most.
            head_bytes_max: self.head_bytes_max.min(512 * 1024),
            headers_max: self.headers_max.min(HEADERS_MAX),
            target_bytes_max: usize::MAX,
        }
    }
}
