//! Patterns: ways to arrange callbacks.
//!
//! Knows the public methods of the loop; the loop does not know the patterns. A program that has
//! only sockets and timers needs none of them.
//!
//! | one value that comes later | [`Promise`] |
//! | an event, for all its subscribers | the bus: [`Context::subscribe`](crate::Context::subscribe) |
//! | work for another thread | jobs: [`Context::offload`](crate::Context::offload) |
//! | named work with a schedule | [`tasks`] |
//! | trying again, with pauses | [`Backoff`] |
//! | a limit on how often something is done | [`Limiter`] |
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
