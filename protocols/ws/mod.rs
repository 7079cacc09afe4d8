//! WebSocket on the loop (RFC 6455). Feature `ws`.
//!
//! Knows connections, the heads of HTTP and tungstenite's frame header; never mentions threads.
//!
//! A WebSocket is a connection that began as an HTTP request and then carries messages, in
//! both directions: [`accept`] makes one of a request to an HTTP server, [`connect`] of a URL. Its
//! protocol consists of few bytes and many rules: which frames may follow which, which end masks,
//! which bytes a text may have, how both ends close it.
//!
//! ```text
//!   Conn ──bytes──▶ decoder ──messages──▶ your handler
//!                      │ ping, Close          │ socket.text(…), for many: peer.send(&message)
//!                      ▼                      ▼
//!   Conn ◀──bytes─── send ◀───────────────────┘
//! ```
//!
//! A message that comes whole allocates nothing, and an idle WebSocket owns no buffer. The
//! handler sees texts and binaries; pings are answered, silent peers are detected, and the end is
//! delivered once, with its reason.
//!
//! # Left out
//! Extensions: none is offered, and no offer is taken up. The one in use, compression of each
//! message (RFC 7692), costs each connection some 300 KiB for its windows. Without windows between
//! messages it gains little, and either way a peer can turn kilobytes into gigabytes. WebSocket
//! over HTTP/2 (RFC 8441), as there is no HTTP/2 here.
//!
//! # Read next
//! `mask.rs`, `utf8.rs`, `frame.rs`, `decoder.rs`: bytes to messages; then `socket.rs`.

mod attempt;
mod close;
mod decoder;
mod frame;
mod mask;
mod opening_handshake;
mod origin;
mod outgoing;
mod shared_message;
mod socket;
mod socket_driver;
mod socket_event;
mod socket_limits;
mod timeouts;
mod url;
mod utf8;
mod violation;
mod ws_accept;
mod ws_connect;

pub use close::{REASON_BYTES_MAX, code};
pub use frame::Role;
pub use shared_message::Message;
pub use socket::Socket;
pub use socket_driver::open;
pub use socket_event::{Event, Reason};
pub use socket_limits::Limits;
pub use violation::Violation;
pub use ws_accept::{Accept, accept};
pub use ws_connect::{Connect, connect};
