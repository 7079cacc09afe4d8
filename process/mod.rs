//! Other programs, and signals.
//!
//! Knows net, whose streams are a child's pipes; nothing below knows it.
//!
//! # Read next
//! `child/mod.rs`: a child and its pipes.

mod child;

pub use child::*;
