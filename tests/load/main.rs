//! Much at once: timers by the million, large transfers, many requests, crowds; and what it costs: in the
//! steady state no allocation, for a crowd no more memory than its limits say. CI builds it again, with
//! optimisation.

mod allocations;
#[cfg(feature = "http")]
mod crowd;
#[cfg(feature = "http")]
mod slowhttptest;
#[cfg(feature = "http")]
mod sockets;
mod streams;
mod timers;
#[cfg(all(feature = "tls", feature = "ws"))]
mod under_limits;
