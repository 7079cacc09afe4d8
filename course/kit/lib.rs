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

mod chat;
mod check;
mod door;
mod doors;
mod duplex;
mod epoll;
mod input;
mod kernel;
pub mod model;
mod network;
mod peer;
mod poll;
mod process;
mod quiz;
mod request;
mod seed;
mod slots;
mod times;
mod turns;
mod wire;
mod wires;

pub use chat::{Act, Bug, Chat, Letters, Talk, acts, talk};
pub use check::{expect, refuse, same, within};
pub use door::{Door, Report};
pub use doors::{Descriptor, DoorScript};
pub use duplex::{Duplex, Event, Limits, Next, Pressure, unless_later};
pub use epoll::{Epoll, Trigger};
pub use input::Input;
pub use kernel::{Heard, Interest, Kernel, Mio, Script, Waiting};
pub use network::{Arrival, End, Faults, Network};
pub use peer::{Listener, Peer};
pub use poll::{Entry, Poll, PollScript, Polled, Said, Socket, SystemPoll};
pub use process::{memory_kib, open_files, processor_time, status, switches, told_to_end};
pub use quiz::{Question, quiz};
pub use request::Request;
pub use seed::{Seed, seeds};
pub use slots::Slots;
pub use times::Times;
pub use turns::{Loop, Timer};
pub use wire::{Calls, Says, Wire};
pub use wires::Wires;

/// The crates that a chapter may need.
pub use {mio, rustix, socket2};
