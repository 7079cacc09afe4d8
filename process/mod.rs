//! Other programs, and signals.
//!
//! Knows net: the pipes of a child are streams. No floor below knows it.
//!
//! # Read next
//! `child/mod.rs`: a child and its pipes.

mod child;
mod signal;

pub use child::{Child, Exit, Spawn, Spawned, spawn};
pub use signal::{OnSignal, Signal, SignalId};
