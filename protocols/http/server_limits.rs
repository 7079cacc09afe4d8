//! The limits of a server's connections and requests: names, units, defaults, statuses.
//!
//! # Read next
//! `server/mod.rs`: the server, which keeps them.

use std::time::Duration;

use super::head::HeadLimits;
use crate::net;
use crate::net::BufferBudget;
use crate::reactor::SCRATCH_BYTES;

/// The limits on a client's requests, in bytes and in time.
///
/// A request that exceeds one is answered with the status that is named, logged once with the
/// peer, and its connection closed.
///
/// ```
/// use waterwheel::protocols::http::Limits;
/// let limits = Limits { body_bytes_max: 64 * 1024, ..Limits::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, from the request line to the blank line. 16 KiB; 431.
    pub head_bytes_max: usize,
    /// Header fields of a request; more than 128 count as 128. 100; 431.
    pub headers_max: usize,
    /// Bytes of a request target. 8 KiB; 414.
    pub target_bytes_max: usize,
    /// Bytes of a body that is collected; a handler that streams its body counts for itself.
    /// 1 MiB; 413, before the body if its length was announced.
    pub body_bytes_max: usize,
    /// Bytes of further requests that may wait for their turn while one is answered. From there on
    /// the connection is not read, so the client waits. 64 KiB, and one read more.
    pub pipelined_bytes_max: usize,
    /// Bytes of a body that are read and dropped after the response, so that the connection can be
    /// used again. With more to come it is closed after the response. 256 KiB.
    pub discard_bytes_max: u64,
    /// Requests on one connection; it is closed after the last response. No limit.
    pub requests_max: usize,
    /// Connections of a listener at a time. 16,384; one more gets 503 when it has sent
    /// its request. 64 of those are served at a time. Further ones are closed as they come, counted
    /// ([`Listener::refused`](crate::net::tcp::Listener::refused)), and logged once a second.
    pub connections_max: usize,
    /// How long a head may take from its first byte to its last. 10 s; 408.
    pub head_timeout: Duration,
    /// How long a body may stall. Each byte that arrives earns the time it takes at
    /// [`body_bytes_per_second`](Limits::body_bytes_per_second), and no more than this is saved up.
    /// 10 s; 408.
    pub body_grace: Duration,
    /// Bytes of a body that must arrive per second in the long run, 1 at least. 240; 408.
    pub body_bytes_per_second: u64,
    /// How long a connection may be without a request. 75 s; closed without a response, which the
    /// client could take for the one to a request on its way.
    pub idle_timeout: Duration,
    /// How long bytes of a response may wait without the client taking any. 30 s; reset.
    pub write_timeout: Option<Duration>,
    /// How long a handler may take until it begins its response. None; 503.
    pub reply_timeout: Option<Duration>,
    /// How long the end of a connection may take: for a client to take the last response and
    /// to close, while its further input is read and dropped. 5 s.
    pub close_grace: Duration,
    /// Bytes that all connections may buffer together: unsent responses, bodies that are collected,
    /// requests that wait. `None`: a listener's own budget of 256 MiB. A body for which nothing is
    /// left: 503.
    pub buffers: Option<BufferBudget>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes_max: 16 * 1024,
            headers_max: 100,
            target_bytes_max: 8 * 1024,
            body_bytes_max: 1024 * 1024,
            pipelined_bytes_max: 64 * 1024,
            discard_bytes_max: 256 * 1024,
            requests_max: usize::MAX,
            connections_max: 16_384,
            head_timeout: Duration::from_secs(10),
            body_grace: Duration::from_secs(10),
            body_bytes_per_second: 240,
            idle_timeout: Duration::from_secs(75),
            write_timeout: Some(Duration::from_secs(30)),
            reply_timeout: None,
            close_grace: Duration::from_secs(5),
            buffers: None,
        }
    }
}

impl Limits {
    pub(super) fn head(&self) -> HeadLimits {
        HeadLimits {
            head_bytes_max: self.head_bytes_max,
            headers_max: self.headers_max,
            target_bytes_max: self.target_bytes_max,
        }
    }

    /// The limits of the connections themselves.
    pub(super) fn connection(&self) -> net::Limits {
        net::Limits {
            // An unfinished head, or pipelined requests until reading pauses.
            backlog_bytes_max: self
                .head_bytes_max
                .saturating_add(self.pipelined_bytes_max)
                .saturating_add(SCRATCH_BYTES),
            write_timeout: self.write_timeout,
            close_grace: self.close_grace,
            // A client that has finished sending waits for its response.
            half_open: true,
            buffers: self.buffers.clone(),
            ..net::Limits::default()
        }
    }
}
