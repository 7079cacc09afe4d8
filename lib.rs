//! A single-threaded event loop: callbacks, timers and sockets, small enough to read.
//!
//! From the bottom, each floor knowing only those below it:
//!
//! * [`timers`]: the hierarchical wheel, and the clock.
//! * [`reactor`]: the loop: turns, sources, timers, the event queue, posts from other threads, jobs. Its
//!   head is the contract, rule by rule.
//! * [`patterns`]: ways to arrange callbacks: promises, an event bus, scheduled tasks.
//! * [`net`]: sockets: buffered connections, listeners, codecs, datagrams, links, limits, and a
//!   simulated network to test them in.
//! * [`protocols`]: TLS, HTTP and WebSocket; `process`: children and signals. Each is a feature.
//!
//! The README has the first program, the examples and the order in which to read the sources. The
//! [`glossary`] explains the words.
//!
//! # Components
//! A part of a program that is to work in a `Reactor<S>` of any `S`, such as a cache, a statistics
//! line or a client of a protocol, is a function with a `&mut Context<S>`. It cannot name the
//! program's state, so it has to reach its own in one of three ways:
//!
//! | | a lens | `AsMut` | a source |
//! |---|---|---|---|
//! | it asks for | `fn(&mut S) -> &mut Part` | `S: AsMut<Part>` | nothing |
//! | its state is in | the program's state | the program's state | the loop |
//! | the program sees it | as a field | as a field | by its id |
//! | the same part twice | a lens for each | not possible | an id for each |
//! | it is dropped | with the program's state | with the program's state | when it is removed |
//! | a use costs | nothing | nothing | a look-up by index |
//!
//! A lens suits a part whose numbers the program reads and writes. A source suits one that keeps
//! its state to itself, or is made and removed while the loop runs. `AsMut` saves the parameter
//! where there is one such part. `examples/components.rs` has two of them in one loop.
//!
//! **A lens.** The program says where:
//!
//! ```
//! use std::time::Duration;
//! use waterwheel::{Context, Reactor};
//!
//! #[derive(Default)]
//! struct Uptime { seconds: u64 }
//!
//! fn count<S: 'static>(reactor: &mut Context<S>, of: fn(&mut S) -> &mut Uptime) {
//!     reactor.after(Duration::from_millis(1), move |_, state| of(state).seconds += 1);
//! }
//!
//! #[derive(Default)]
//! struct Program { uptime: Uptime }
//!
//! let mut reactor = Reactor::new()?;
//! count(&mut reactor, |program: &mut Program| &mut program.uptime);
//! let mut program = Program::default();
//! reactor.run(&mut program)?;
//! assert_eq!(program.uptime.seconds, 1);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **`AsMut`.** The program says where once, for its type:
//!
//! ```
//! # use std::time::Duration;
//! # use waterwheel::{Context, Reactor};
//! # #[derive(Default)]
//! # struct Uptime { seconds: u64 }
//! # #[derive(Default)]
//! # struct Program { uptime: Uptime }
//! fn count<S: AsMut<Uptime> + 'static>(reactor: &mut Context<S>) {
//!     reactor.after(Duration::from_millis(1), |_, state| state.as_mut().seconds += 1);
//! }
//!
//! impl AsMut<Uptime> for Program {
//!     fn as_mut(&mut self) -> &mut Uptime {
//!         &mut self.uptime
//!     }
//! }
//!
//! let mut reactor = Reactor::<Program>::new()?;
//! count(&mut reactor);
//! # let mut program = Program::default();
//! # reactor.run(&mut program)?;
//! # assert_eq!(program.uptime.seconds, 1);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **A source.** The loop [owns](Context::own) it, and it has a deadline of its own:
//!
//! ```
//! # use std::time::Duration;
//! # use waterwheel::{Context, Reactor, SourceId};
//! struct Uptime { seconds: u64 }
//!
//! fn count<S: 'static>(reactor: &mut Context<S>) -> SourceId<Uptime> {
//!     let id = reactor.own(Uptime { seconds: 0 }, |reactor, _, id, _| {
//!         reactor[id].seconds += 1;
//!         reactor.unref(id); // It no longer holds the loop.
//!     });
//!     let deadline = reactor.tick_after(Duration::from_millis(1));
//!     reactor.set_deadline(id, Some(deadline));
//!     id
//! }
//!
//! let mut reactor = Reactor::<()>::new()?;
//! let uptime = count(&mut reactor);
//! reactor.run(&mut ())?;
//! assert_eq!(reactor[uptime].seconds, 1);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Errors in a callback
//! A callback returns nothing, so `?` does not compile in one. It would hand the error to the loop,
//! which cannot know the reaction: close this connection, log a line, end the program? Write the
//! work as a function that returns a `Result`, use `?` there, and decide in the callback, in one
//! place. To end the program, keep the error in the state and [`stop`](Context::stop):
//!
//! ```
//! use std::{fs, io, time::Duration};
//! use waterwheel::{Context, Reactor};
//!
//! #[derive(Default)]
//! struct Program { settings: String, failed: Option<io::Error> }
//!
//! fn reload(_: &mut Context<Program>, program: &mut Program) -> io::Result<()> {
//!     program.settings = fs::read_to_string("no/such/file")?;
//!     Ok(())
//! }
//!
//! let mut reactor = Reactor::new()?;
//! reactor.after(Duration::from_millis(1), |reactor, program: &mut Program| {
//!     if let Err(error) = reload(reactor, program) {
//!         program.failed = Some(error);
//!         reactor.stop();
//!     }
//! });
//! let mut program = Program::default();
//! reactor.run(&mut program)?;
//! let result = program.failed.map_or(Ok(()), Err);
//! assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
//! # Ok::<(), io::Error>(())
//! ```
//!
//! With [promises](patterns::Promise) `?` does work: the callback of `then` may return a `Result`,
//! and an error is passed to the next `catch`.

#[doc = include_str!("glossary.md")]
pub mod glossary {}
#[cfg(feature = "inspect")]
pub mod inspect;
pub mod net;
pub mod patterns;
#[cfg(all(unix, feature = "process"))]
pub mod process;
pub mod protocols;
pub mod reactor;
/// The ring of the live page, which the model checker compiles without the rest of it.
#[cfg(all(test, loom, not(feature = "inspect")))]
#[allow(dead_code)]
#[path = "inspect/ring.rs"]
mod ring;
pub mod timers;

/// The version of mio whose sources [`Context::register`] takes.
pub use mio;
pub use reactor::{Context, Reactor, SourceId};

/// The README's programs, compiled by `cargo test --all-features`.
#[cfg(all(doctest, feature = "inspect"))]
#[doc = include_str!("README.md")]
struct Readme;
