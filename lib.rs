//! A single-threaded event loop: callbacks, timers and TCP, small enough to read.
//!
//! * [`reactor`] is the loop: turns, sources, the event queue, posts from other threads. Its head is
//!   the contract, rule by rule.
//! * [`timers`] is the hierarchical wheel under it, and the clock.
//! * [`net`] puts sockets on it: buffered connections, listeners, codecs.
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
