//! TCP: listening and connecting.
//!
//! Knows mio's and socket2's sockets; every accepted or connected stream becomes a
//! [`Conn`](super::Conn).
//!
//! # Read next
//! `../accept.rs`: how a listener accepts, also when descriptors run out.

mod connect;
mod listen;
mod name;

pub use super::accept::Accept;
pub use connect::{Connecting, connect};
pub use listen::{Listen, Listener, Options, listen};
pub use name::{Connect, Race, connect_name};
