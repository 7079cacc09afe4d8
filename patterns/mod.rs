//! Patterns: ways to arrange callbacks.
//!
//! Knows the loop, by what it offers to all; the loop does not know it. Nothing here is needed for a
//! program of sockets and timers.
//!
//! | one value that comes later | [`Promise`] |
//! | what happened, for all who subscribe | the bus: [`Context::subscribe`](crate::Context::subscribe) |
//! | work for another thread | jobs: [`Context::offload`](crate::Context::offload) |
//! | named work with a schedule | [`tasks`] |
//! | trying again, with pauses | [`Backoff`] |
//! | how often at most | [`Limiter`] |
//!
//! # Read next
//! `promise.rs`: a value that comes later.

mod backoff;
mod bus;
mod jobs;
mod limiter;
mod promise;
mod random;
pub mod tasks;

pub use backoff::Backoff;
pub use bus::{LISTENERS_NESTED, ListenerId};
pub use jobs::{JOBS_MAX, JobError, JobId, JobStatistics, WORKERS};
pub use limiter::Limiter;
pub use promise::{Answer, Broken, Promise, Rejection, Resolver};
pub(crate) use random::Random;
