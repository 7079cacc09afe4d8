//! TLS over any stream: server and client. Feature `tls`.
//!
//! Knows streams, their transports and rustls; never mentions TCP.
//!
//! TLS is one more transport of a connection. A handshake takes a [`Stream`] over any transport and
//! returns one that is opened, limited, linked and drained like any other.
//! Begin at [`Server::accept`] and [`Client::connect`]; HTTP and WebSocket take a [`Server`] or a
//! [`Client`] and do the rest.
//!
//! ```text
//!   Stream ──accept, connect──▶ Handshake ──done──▶ Stream ──open──▶ Conn
//!                                                                     │ read, write: plaintext
//!   Conn { transport: Tls { carrier: TCP, Unix, memory, … } }         ▼
//!                              └──────── ciphertext ────────── one buffer for each thread
//! ```
//!
//! So there is one connection with one id, one outbox, one set of limits, and no second layer of
//! callbacks. An idle one keeps its keys and no buffer.
//!
//! # Rules
//! 1. `done` is called exactly once for each handshake, unless its source was removed: with the
//!    stream, or with an error in plain words. The peer gets the reason as an alert.
//! 2. However the ciphertext is cut on its way, the connection reads the same.
//! 3. `Eof` means that the peer has announced the end (close_notify). An end without it may be an
//!    attack from the network: no `Eof` comes, but `Closed` with
//!    [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof). Input before it is genuine, so it is
//!    delivered, and bytes that the handler then writes are sent before `Closed` comes (RFC 9112,
//!    9.8). If we are closing already it is no error, because no more input is expected.
//! 4. Bytes that were written stay in the outbox until their ciphertext has gone, so limits on it,
//!    `Drained`, timeouts and grace have their usual meaning.
//!
//! # Left out
//! Early data, which can be replayed, and renegotiation: rustls refuses it. Revocation lists: make
//! a `rustls::ClientConfig` that has them.
//!
//! # Read next
//! `server.rs`, `client.rs`: the settings; then `handshake.rs`: from a stream to one over
//! TLS.

mod client;
mod der;
mod failure;
mod handshake;
mod hosts;
mod incoming;
mod info;
mod pem;
mod sealed;
mod server;
mod session;
mod tls_transport;
mod trust;

pub use client::Client;
pub use failure::Failure;
pub use handshake::{HANDSHAKE_TIMEOUT, Handshake};
pub use info::Info;
pub use server::Server;

#[cfg(doc)]
use crate::net::Stream;
