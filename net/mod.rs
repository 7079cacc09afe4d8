//! Sockets on the loop: buffered connections, listeners, connectors, codecs; and datagrams.
//!
//! Knows the reactor, mio's sockets and socket2; the reactor does not know it.
//!
//! [`Conn`] is the one buffered byte stream, whatever carries it. It is registered once for both
//! directions and never again, and in the steady state a request costs one `read` and one `write`:
//!
//! ```text
//!   kernel ──read──▶ loop's 64 KiB buffer ──Data(&[u8])──▶ your handler
//!                                                              │ reactor[conn].write(…)
//!   kernel ◀─write── loop's cork ◀─────────────────────────────┘ as often as it likes
//! ```
//!
//! A connection owns bytes only while a frame is incomplete (its *backlog*) or its peer is slow (its
//! *outbox*); an idle one owns none. [`link`](link()) joins two of them, a [`Rate`] slows them down,
//! and [`drain`](drain()) ends a server's.
//!
//! What carries a connection is TCP, a pair of ends in [`memory`], or a simulated network ([`sim`]) in
//! which everything goes wrong that a seed can think of.
//!
//! # Read next
//! `conn.rs`: the life of a connection.

mod accept;
mod codec;
mod conn;
mod connect;
mod datagram;
mod deadline;
mod drain;
mod drive;
mod event;
mod limits;
mod listen;
pub mod memory;
mod race;
pub mod sim;
mod link;
mod rate;
mod stream;
pub mod tcp;
mod transport;
mod wire;
pub mod udp;
#[cfg(unix)]
pub mod unix;

pub use accept::{Accept, Listener};
pub use codec::{Codec, Frame, FrameError, Framed, LengthPrefix, Lines, framed};
pub use conn::Conn;
pub use connect::Connecting;
pub use datagram::{Bind as BindDatagrams, Event as Datagram, Socket as DatagramSocket};
pub use drain::{Drain, DrainReport, drain};
pub use event::{Event, Handler, Pressure, Reason};
pub use limits::Limits;
pub use listen::Listen;
pub use race::{ADDRESSES_MAX, Race};
pub use link::{Link, LinkEnd, LinkReport, link};
pub use rate::Rate;
pub use stream::Stream;
pub use transport::Transport;
