//! Types that threads share: the standard library's, or a model checker's that tries every order.
//!
//! Threads share only the mailbox.
//! `model.rs` runs the mailbox, and the loop around it, under loom:
//! `RUSTFLAGS="--cfg loom" cargo test --lib model`.

#[cfg(not(all(test, loom)))]
mod real {
    pub(in crate::reactor) use mio::Waker;
    pub(in crate::reactor) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*, fence};
    pub(in crate::reactor) use std::sync::{Arc, Mutex, MutexGuard};
}

#[cfg(all(test, loom))]
mod real {
    pub(in crate::reactor) use super::super::model::Waker;
    pub(in crate::reactor) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*, fence};
    pub(in crate::reactor) use loom::sync::{Arc, Mutex, MutexGuard};
}

pub(in crate::reactor) use real::*;
