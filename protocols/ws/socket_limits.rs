//! The limits of a WebSocket: names, units, defaults.
//!
//! # Read next
//! `socket_event.rs`: the events that it delivers.

use std::time::Duration;

/// The limits on the messages of a WebSocket's peer, in bytes and in time. Bytes that wait to
/// be sent are bounded by the [`net::Limits`](crate::net::Limits) of the connection under it.
///
/// ```
/// # use waterwheel::protocols::ws::Limits;
/// let limits = Limits { message_bytes_max: 64 * 1024, ..Limits::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message, all its fragments together. More is a Close with 1009. 1 MiB.
    pub message_bytes_max: usize,
    /// Bytes of one frame. More is a Close with 1009. 1 MiB.
    pub frame_bytes_max: usize,
    /// Fragments of a message, empty ones included: they add no bytes, but work. More is a
    /// Close with 1008. 16,384.
    pub fragments_max: u32,
    /// From the first byte of a message to its last, if it does not come whole. Longer is a Close
    /// with 1008. 60 s. The time begins again when we hold up reading ourselves, by a pause or a
    /// rate; so does that of the peer's silence.
    pub message_timeout: Option<Duration>,
    /// How long a peer may be silent before it is sent a ping. 30 s. Checked once in each such
    /// time, so the ping goes after one to two of them.
    pub ping_interval: Option<Duration>,
    /// How long it may be silent after the ping before it is taken for gone. 20 s. The time begins
    /// again, with another ping, as long as it takes some of the bytes ahead of the ping.
    pub pong_timeout: Duration,
    /// From our Close until the connection is gone: for the peer's Close, and for the connection's
    /// own end behind it. 5 s.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes_max: 1024 * 1024,
            frame_bytes_max: 1024 * 1024,
            fragments_max: 16 * 1024,
            message_timeout: Some(Duration::from_secs(60)),
            ping_interval: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
        }
    }
}
