//! WebSocket on the loop (RFC 6455). Feature `ws`.
//!
//! Knows connections, the heads of HTTP and tungstenite's frame header; never mentions threads.
//!
//! A WebSocket is a connection that began as an HTTP request and then carries messages, in
//! both directions: [`accept`] makes one of a request to an HTTP server, [`connect`] of a URL. What
//! there is to it beyond bytes and their lengths are rules: which frames may follow which, which
//! end masks, what a text may hold, how both ends close it.
//!
//! ```text
//!   Conn ──bytes──▶ decoder ──messages──▶ your handler
//!                      │ ping, Close          │ socket.text(…), for many: peer.send(&message)
//!                      ▼                      ▼
//!   Conn ◀──bytes─── send ◀───────────────────┘
//! ```
//!
//! A message that comes whole allocates nothing, and an idle WebSocket owns no buffer. The
//! handler sees texts and binaries; pings are answered, silent peers are found out, and the end is
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

mod accept;
mod attempt;
mod close;
mod connect;
mod decoder;
mod drive;
mod event;
mod fault;
mod frame;
mod handshake;
mod limits;
mod mask;
mod message;
mod origin;
mod send;
mod socket;
mod url;
mod utf8;
mod watch;

pub use accept::{Accept, accept};
pub use close::{REASON_BYTES_MAX, code};
pub use connect::{Connect, connect};
pub use drive::open;
pub use event::{Event, Reason};
pub use fault::Fault;
pub use frame::Role;
pub use limits::Limits;
pub use message::Message;
pub use socket::Socket;
