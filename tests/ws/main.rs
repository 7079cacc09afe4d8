//! WebSockets, on both sides.

mod connect;
mod memory;
mod others;
mod pressure;
mod rules;
#[cfg(feature = "tls")]
mod wss;
