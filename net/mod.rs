//! Sockets on the loop: buffered connections, listeners, connectors, codecs; and datagrams.
//!
//! Knows the reactor, mio's sockets and socket2; the reactor does not know it.
//!
//! [`Conn`] is the one buffered byte stream, over any transport. It is registered once for both
//! directions and never again, and in the steady state a request costs one `read` and one `write`:
//!
//! ```text
//!   kernel ──read──▶ loop's 64 KiB buffer ──Data(&[u8])──▶ your handler
//!                                                              │ conn.write(reactor, …)
//!   kernel ◀─write── loop's cork ◀─────────────────────────────┘ as often as it likes
//! ```
//!
//! A connection owns bytes only while a frame is incomplete (its *backlog*) or its peer is slow
//! (its *outbox*); an idle one owns none. [`link`](link()) joins two of them, a [`Rate`] slows them
//! down, and [`drain`](drain()) ends those of a server.
//!
//! A connection is carried by TCP, a [`unix`] socket, any [`descriptor`] (a terminal, a pipe to a
//! child), a pair of ends in [`memory`], or a simulated network ([`sim`]) with faults that a seed
//! chooses; or by TLS over any of these (feature `tls`). Datagrams are in [`udp`] and
//! [`unix::datagram`].
//!
//! The protocols over it, each behind the feature of its name: `http`, server and client, and `ws`,
//! WebSocket.
//!
//! # Read next
//! `conn.rs`: the life of a connection.

mod accept;
mod address;
pub mod authors;
mod budget;
mod by_id;
mod charge;
mod codec;
mod conn;
mod connect;
mod cork;
#[cfg(all(unix, feature = "peer-cred"))]
mod cred;
mod datagram;
mod deadline;
#[cfg(unix)]
pub mod descriptor;
mod drain;
mod drive;
mod event;
#[cfg(unix)]
mod fd;
mod framed;
mod group;
mod handle;
mod handler;
mod invariants;
mod limits;
mod link;
mod listen;
pub mod memory;
mod note;
mod outbox;
mod race;
mod rate;
mod receive;
mod relief;
mod scarce;
mod settle;
mod side;
pub mod sim;
mod states;
#[cfg(unix)]
mod stdio;
mod stream;
mod tap;
pub mod tcp;
mod throttle;
mod transport;
pub mod udp;
#[cfg(unix)]
pub mod unix;
mod wire;

pub use accept::{Accept, Listener};
pub use address::{HostPort, ToAddresses};
pub use budget::{BufferBudget, WhenFull};
pub use codec::{Codec, Frame, FrameError, LengthPrefix, Lines};
pub use conn::Conn;
pub use connect::Connecting;
pub use datagram::{Bind as BindDatagrams, Event as Datagram, Socket as DatagramSocket};
pub use drain::{Drain, DrainReport, drain};
pub use event::{Event, Pressure, Reason};
#[cfg(unix)]
pub use fd::Fd;
pub use framed::{Framed, framed};
pub use handler::Handler;
pub use limits::{Limits, READ_BYTES_PER_TURN_TOTAL};
pub use link::{Link, LinkEnd, LinkReport, link};
pub use listen::Listen;
pub use race::{ADDRESSES_MAX, Race};
pub use rate::Rate;
pub use side::Side;
#[cfg(unix)]
pub use stdio::{stderr, stdin, stdio, stdout};
pub use stream::Stream;
pub use tap::{Passing, Tap, link_with};
pub use transport::Transport;
