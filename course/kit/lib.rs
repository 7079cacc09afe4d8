//! Kit: what the checks of the course share.
//!
//! A check gives a chapter's file its input, and compares what comes out with a model. The kit has
//! the input: numbers from a seed, a stream that takes three bytes at a time, a kernel that says
//! what a script tells it to say, a client with a ceiling. It knows no chapter.
//!
//! # Rules
//! 1. Nothing is random: whatever is drawn comes from a seed, and a failure prints it.
//! 2. Nothing sleeps, and nothing is measured by the clock on the wall. A ceiling ends a check that
//!    would never end; no check passes because something was fast.
//! 3. A failure is one sentence, with what was expected and what came.

mod check;
mod epoll;
mod kernel;
mod peer;
mod poll;
mod process;
mod seed;
mod slots;
mod wire;
mod wires;

pub use check::{expect, refuse, same, within};
pub use epoll::{Epoll, Trigger};
pub use kernel::{Heard, Interest, Kernel, Mio, Script, Waiting};
pub use peer::{Listener, Peer};
pub use poll::{Entry, Poll, PollScript, Polled, Said, Socket, SystemPoll};
pub use process::{memory_kib, open_files, processor_time, status, switches};
pub use seed::{Seed, seeds};
pub use slots::Slots;
pub use wire::{Calls, Says, Wire};
pub use wires::Wires;

/// The crates that a chapter may need.
pub use {mio, rustix, socket2};
