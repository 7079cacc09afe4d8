//! TLS over any stream, on both sides.

mod carrier;
mod clients;
mod cut;
mod errors;
mod handshake;
mod memory;
mod streams;
mod words;
