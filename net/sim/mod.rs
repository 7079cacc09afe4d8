//! A simulated network: the program under test, a clock that jumps, and a seed that decides
//! everything else.
//!
//! Knows wires and the reactor; never mentions a socket.
//!
//! One message seldom breaks a server. An order of events breaks it: a reset between two writes, a
//! FIN that comes with the last byte, a reader that stops when the last byte of the buffer is used.
//! A real network shows each of these sometimes, and cannot repeat it. So the network is replaced
//! by one in memory, the clock by one that jumps to the next event, and every choice (how long, how
//! many bytes, which end first, which is cut off) is drawn from a generator with a known seed. A
//! thousand networks a second are tried, and one that fails is tried again, step by step, as often
//! as needed: a run depends only on the seed.
//!
//! FoundationDB is tested like this, a whole cluster in one thread
//! (<https://apple.github.io/foundationdb/testing.html>), and so is every release of TigerBeetle
//! (<https://docs.tigerbeetle.com/about/production-ready/>). The hard part is to find everything
//! that a program gets from the system. A loop has it in one place (sources, timers and clock), so
//! this is enough:
//!
//! ```text
//!   Conn  ── write ──▶ outgoing ─┐                            ┌─▶ arrived ── wake ──▶ Conn
//!                                │  the network's own source  │   (in an order that the
//!   Conn  ── close ──▶ outgoing ─┤                            ├─▶  seed chooses)
//!                                ▼                            │
//!              due = now + a time from the dice   due ≤ now?  │
//!                                └──▶ flights, by time ───────┘
//!                                     first of them = the source's deadline
//! ```
//!
//! The network is one source among the others, without a descriptor. Every send wakes it; it gives
//! each parcel a time of arrival, hands over those whose time has come, and sets its deadline for
//! the next. With nothing else left to do, a manual clock jumps there.
//!
//! A seed that fails is a test: run it again with a [`Recorder`](crate::reactor::Recorder), print
//! the events that the handlers get, and read backwards from the first one that is wrong.
//!
//! # Rules
//! 1. The same seed, faults and program: the same run, record for record. The order of a hash map,
//!    addresses in memory and real time decide nothing.
//! 2. The bytes that arrive are a prefix of those sent; without a reset all of them arrive.
//! 3. The network does not hold the loop (R8): if no source waits for parcels under way, they are
//!    lost.
//!
//! # Left out
//! Datagrams, hosts that crash, disks: this crate's connections do not need them.
//!
//! # Read next
//! `medium.rs`: all that is under way, and when it arrives.

use std::fmt;
use std::rc::Rc;

use crate::reactor::{Context, Options, Priority};

mod connect;
mod faults;
mod listen;
mod medium;

pub use connect::Connecting;
pub use faults::Faults;
pub use listen::{Listen, Listener};

use medium::Medium;

/// A network in memory. Clones are the same network.
///
/// A server, and a client that gets its answer through all that the seed has drawn:
///
/// ```
/// use std::time::Duration;
/// use waterwheel::net::sim::{Faults, Network};
/// use waterwheel::net::{Event, Stream};
/// use waterwheel::timers::ManualClock;
/// use waterwheel::{Context, Reactor};
///
/// // The code under test takes streams, and does not know their origin.
/// fn serve(reactor: &mut Context<Vec<u8>>, _: &mut Vec<u8>, incoming: Stream) {
///     incoming.open(reactor, |reactor, _, conn, event| {
///         if let Event::Data(bytes) = event {
///             let _ = conn.write(reactor, &bytes.to_ascii_uppercase());
///         }
///     });
/// }
///
/// for seed in 0..50 {
///     let mut reactor = Reactor::builder().clock(&ManualClock::new()).build()?;
///     let faults = Faults { cut_per_mille: 500, ..Faults::drawn(seed).lossless() };
///     let network = Network::new(&mut reactor, seed, faults);
///     let addr = "10.0.0.1:80".parse().unwrap();
///     let listener = network.listen(&mut reactor, addr, serve)?;
///     reactor.unref(listener);
///     network.connect(&mut reactor, addr, Duration::from_secs(3), |reactor, _, stream| {
///         let conn = stream.unwrap().open(reactor, |_, received: &mut Vec<u8>, _, event| {
///             if let Event::Data(bytes) = event {
///                 received.extend(bytes);
///             }
///         });
///         let _ = conn.write(reactor, b"is anybody there?");
///         conn.shutdown(reactor);
///     })?;
///     let mut received = Vec::new();
///     reactor.run(&mut received)?;
///     assert_eq!(received, b"IS ANYBODY THERE?", "seed {seed}");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Network(Rc<Medium>);

/// The counts of a network so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Parcels that have arrived: bytes, FINs, resets and news of room.
    pub parcels: u64,
    /// Bytes that have arrived, also at an end that was gone.
    pub bytes: u64,
    /// Connections that the network has reset.
    pub resets: u64,
    /// Attempts to connect that were refused.
    pub refused: u64,
    /// Attempts to connect that were not answered.
    pub lost: u64,
}

impl Network {
    /// Puts a network into the loop; all its choices come from `seed`. On a manual clock its time
    /// passes as fast as the loop turns; on any other a delay takes its real time.
    ///
    /// # Panics
    /// With more sources than a token can number.
    #[track_caller]
    pub fn new<S: 'static>(reactor: &mut Context<S>, seed: u64, faults: Faults) -> Network {
        let medium = Rc::new(Medium::new(reactor.resumer(), seed, faults));
        // High: bytes that arrive at the tick of a timeout come before it (R3).
        let options = Options { priority: Priority::High, ..Options::default() };
        let own = medium.clone();
        let source = reactor.own_with((), options, move |reactor, _, id, _| {
            own.turn(reactor, id.raw());
        });
        reactor.unref(source);
        medium.state.borrow_mut().source = Some(source);
        Network(medium)
    }

    /// Takes the network out of the loop. Parcels under way are lost, and nothing arrives any more.
    pub fn unplug<S: 'static>(&self, reactor: &mut Context<S>) {
        let source = self.0.state.borrow_mut().source.take();
        source.map(|source| reactor.remove(source));
    }

    /// Changes the faults from now on. Buffers stay as they were when their wire was made.
    pub fn set_faults(&self, faults: Faults) {
        self.0.state.borrow_mut().faults = faults;
    }

    /// Its counts so far.
    pub fn traffic(&self) -> Traffic {
        self.0.state.borrow().traffic
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
