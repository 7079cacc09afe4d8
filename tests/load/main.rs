//! Much at once, on real sockets: large transfers and many requests. Small, since CI builds it again,
//! with optimisation.

#[cfg(feature = "http")]
mod sockets;
mod streams;
