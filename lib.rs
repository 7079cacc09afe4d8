#![doc = include_str!("README.md")]

pub mod net;
pub mod reactor;
pub mod timers;

pub use reactor::{Context, Reactor, SourceId};
