//! A single-threaded event loop: callbacks, timers and sockets, small enough to read.
//!
//! * [`reactor`] is the loop: turns, sources, the event queue, posts from other threads. Its head
//!   is the contract, rule by rule. On it: promises, an event bus, worker threads, scheduled tasks.
//! * [`timers`] is the hierarchical wheel under it, and the clock.
//! * [`net`] puts sockets on it: buffered connections, listeners, codecs, datagrams, links, limits,
//!   and a simulated network to test them in; with features, TLS, HTTP and WebSocket.
//!
//! The README has the first program, the examples and the order in which to read the sources.

pub mod net;
pub mod reactor;
pub mod timers;

/// The version of mio whose sources [`Context::register`] takes.
pub use mio;
pub use reactor::{Context, Reactor, SourceId};

/// The README's program, compiled by `cargo test`.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
struct Readme;
