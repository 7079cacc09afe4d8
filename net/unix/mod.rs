//! Unix sockets: streams and datagrams between processes of one machine.
//!
//! Knows socket files and abstract names; an accepted or connected stream becomes a
//! [`Conn`](super::Conn) like any other.
//!
//! The address is a file, and this causes problems: it stays when its owner dies, other programs may
//! remove it, and its permissions decide which programs may connect.
//!
//! # Left out
//! Resets: Unix sockets cannot send them, so after an `abort` or a timeout the peer sees an end of
//! input like any other, unless it had sent bytes that were not read. Descriptors in messages: the
//! crates below have no safe interface for them. Sequenced packets.
//!
//! # Read next
//! `file.rs`: how a file that exists already is treated.

mod address;
mod connect;
pub mod datagram;
mod file;
mod listen;
mod stream;

pub use super::accept::Accept;
#[cfg(feature = "peer-cred")]
pub use super::cred::Credentials;
pub use address::{Address, ToAddress};
pub use connect::{Connecting, connect};
pub use listen::{Listen, Listener, Options, listen};
