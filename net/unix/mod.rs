//! Unix sockets: streams and datagrams between processes of one machine.
//!
//! Knows socket files and abstract names; what is accepted or connected becomes a
//! [`Conn`](super::Conn) like any other.
//!
//! The address is a file, and that is where the trouble comes from: it stays when its owner dies,
//! anybody may remove it, and its permissions say who may connect.
//!
//! # Left out
//! Resets: Unix sockets have none to send, so after an `abort` or a timeout the peer sees an end of
//! input like any other, unless it had sent what was not read. Descriptors in messages: no safe
//! interface for them in the crates that stand below. Sequenced packets.
//!
//! # Read next
//! `file.rs`: what becomes of a file that is there already.

mod address;
mod connect;
#[cfg(feature = "peer-cred")]
mod cred;
pub mod datagram;
mod file;
mod listen;
mod stream;

pub use super::accept::Accept;
pub use address::{Address, ToAddress};
pub use connect::{Connecting, connect};
#[cfg(feature = "peer-cred")]
pub use cred::Credentials;
pub use listen::{Listen, Listener, Options, listen};
