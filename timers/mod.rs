//! Time for an event loop: a [`Wheel`] that orders deadlines and a [`Clock`] that reads the time.
//!
//! Knows integers and `std::time`; never mentions sockets, pollers or callbacks.
//!
//! The two are kept apart on purpose. The wheel counts *ticks* of one millisecond and its caller
//! passes the current tick, so a test can use any times, also a jump of forty days. The clock
//! is the only file that asks the operating system for the time, and it has a manual form that a
//! program or a test moves by hand.
//!
//! ```text
//!              deadlines round up                 now rounds down
//!   Instant ─────────────────────▶ Tick ◀──────────────────────── Instant
//! ```
//!
//! Both roundings go the same way: a timer may run up to one tick late and never early.
//!
//! # Read next
//! `tick.rs`: where time is rounded.

mod clock;
mod tick;
mod wheel;

pub use clock::{Clock, ManualClock, PacedClock, TICK, Timeline, WallTime};
pub use tick::{Now, Stamp, Tick};
pub use wheel::{TimerId, Wheel};
