//! A simulated network: the program under test, a clock that jumps, and a seed for all that may
//! happen.
//!
//! Knows wires and the reactor; never mentions a socket.
//!
//! What breaks a server is seldom one message, it is an order of events: a reset between two writes,
//! a FIN that comes with the last byte, a reader that stops when the buffer is full to the byte. A
//! real network shows each of them once in a while and never twice. So the network is replaced by one
//! in memory, the clock by one that jumps to the next event, and every choice (how long, how many
//! bytes, who first, who is cut off) is drawn from a generator with a known seed. A thousand networks
//! a second are tried, and one that fails is tried again, step by step, as often as it takes:
//! nothing in a run depends on anything but the seed.
//!
//! FoundationDB was built this way before it had a disk or a network
//! (<https://apple.github.io/foundationdb/testing.html>), and TigerBeetle has its simulator run day
//! and night (<https://docs.tigerbeetle.com/concepts/safety/>). What they need to mock takes a
//! framework; a loop whose sources, timers and clock all stand in one place needs only this:
//!
//! ```text
//!   Conn  ── write ──▶ outgoing ─┐                            ┌─▶ arrived ── wake ──▶ Conn
//!                                │  the network's own source  │   (in an order that the
//!   Conn  ── close ──▶ outgoing ─┤                            ├─▶  seed chooses)
//!                                ▼                            │
//!              due = now + what the dice say      due ≤ now?  │
//!                                └──▶ flights, by time ───────┘
//!                                     first of them = the source's deadline
//! ```
//!
//! The network is one source among the others, without a descriptor. Whoever sends wakes it; it
//! gives each parcel a time of arrival, hands over those whose time has come, and sets its deadline
//! for the next. With nothing else left to do, a manual clock jumps there.
//!
//! # Rules
//! 1. The same seed, faults and program: the same run, record for record. No order of a hash map, no
//!    address in memory and no real time decides anything.
//! 2. Whatever arrives is a prefix of what was sent; only a reset makes it a shorter one.
//! 3. The network does not hold the loop (R8): where nobody waits for what is under way, it is lost.
//!
//! # Left out
//! Datagrams, hosts that crash, disks: what is here is what this crate's connections need.
//!
//! # Read next
//! `../wire.rs`: what the ends of a connection know.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use super::limits::ticks;
use super::wire::{Carrier, Parcel, Wire};
use crate::reactor::{
    Context, Interest, Options, Priority, RawId, Readiness, Resumer, SourceId, Unplugged,
};

mod connect;
mod faults;
mod listen;

pub use connect::Connecting;
pub use faults::Faults;
pub use listen::{ACCEPTS_PER_TURN, BACKLOG_MAX, Listener};

use faults::Dice;
use listen::Queue;

/// A network in memory. Clones are the same network.
///
/// A server, and a client that gets its answer through whatever the seed has drawn:
///
/// ```
/// use std::time::Duration;
/// use waterwheel::net::sim::{Faults, Network};
/// use waterwheel::net::{Event, Stream};
/// use waterwheel::timers::ManualClock;
/// use waterwheel::{Context, Reactor};
///
/// // The code under test takes streams, and does not know where they come from.
/// fn serve(reactor: &mut Context<Vec<u8>>, _: &mut Vec<u8>, incoming: Stream) {
///     incoming.open(reactor, |reactor, _, conn, event| {
///         if let Event::Data(bytes) = event {
///             let _ = reactor[conn].write(&bytes.to_ascii_uppercase());
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
///         let conn = stream.unwrap().open(reactor, |_, heard: &mut Vec<u8>, _, event| {
///             if let Event::Data(bytes) = event {
///                 heard.extend(bytes);
///             }
///         });
///         let _ = reactor[conn].write(b"is anybody there?");
///         reactor[conn].shutdown();
///     })?;
///     let mut heard = Vec::new();
///     reactor.run(&mut heard)?;
///     assert_eq!(heard, b"IS ANYBODY THERE?", "seed {seed}");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Network(Rc<Ether>);

/// What a network has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Parcels that have arrived: bytes, FINs, resets and news of room.
    pub parcels: u64,
    /// Bytes that have arrived, be it where nobody was any more.
    pub bytes: u64,
    /// Connections that the network has reset.
    pub resets: u64,
    /// Attempts to connect that were refused.
    pub refused: u64,
    /// Attempts to connect that were not answered.
    pub lost: u64,
}

/// What the ends of all wires share. They hold it; it holds none of them, so that nothing is kept
/// alive by what is under way.
struct Ether {
    resumer: Resumer,
    state: RefCell<State>,
}

struct State {
    dice: Dice,
    faults: Faults,
    /// The network's own source.
    source: Option<SourceId<Unplugged>>,
    /// Sent since the source ran last.
    outgoing: Vec<Flight>,
    /// Under way, by time of arrival, ties in the order of sending. What connections have under
    /// way is bounded by their buffers, and attempts to connect by their makers.
    flights: BTreeMap<(u64, u64), Flight>,
    sent: u64,
    listeners: BTreeMap<SocketAddr, Weak<RefCell<Queue>>>,
    /// The last port given to who did not ask for one.
    port: u16,
    traffic: Traffic,
}

/// Something under way.
struct Flight {
    wire: Weak<Wire>,
    to: usize,
    cargo: Cargo,
}

#[derive(Clone, Copy)]
enum Cargo {
    /// For an end.
    Parcel(Parcel),
    /// An attempt to connect, for whoever listens there.
    Knock(SocketAddr),
}

impl Network {
    /// Puts a network into the loop; its every choice comes from `seed`. On a manual clock its time
    /// passes as fast as the loop turns; on any other it takes the time it says.
    ///
    /// # Panics
    /// With more sources than a token can number.
    #[track_caller]
    pub fn new<S: 'static>(reactor: &mut Context<S>, seed: u64, faults: Faults) -> Network {
        let state = State {
            dice: Dice::new(seed),
            faults,
            source: None,
            outgoing: Vec::new(),
            flights: BTreeMap::new(),
            sent: 0,
            listeners: BTreeMap::new(),
            port: 0,
            traffic: Traffic::default(),
        };
        let ether = Rc::new(Ether { resumer: reactor.resumer(), state: RefCell::new(state) });
        // High: what has arrived at the tick of a timeout beats it (R3).
        let options = Options { priority: Priority::High, ..Options::default() };
        let own = ether.clone();
        let source = reactor.register_with(
            Unplugged,
            Interest::READABLE,
            options,
            move |reactor, _, id, _| {
                own.turn(reactor, id.raw());
            },
        );
        let Ok(source) = source else { panic!("more sources than a token can number") };
        reactor.unref(source);
        ether.state.borrow_mut().source = Some(source);
        Network(ether)
    }

    /// Takes the network out of the loop. What is under way is lost, and nothing arrives any more.
    pub fn unplug<S: 'static>(&self, reactor: &mut Context<S>) {
        let source = self.0.state.borrow_mut().source.take();
        source.map(|source| reactor.remove(source.raw()));
    }

    /// Changes what goes wrong from now on. Buffers stay as they were when their wire was made.
    pub fn set_faults(&self, faults: Faults) {
        self.0.state.borrow_mut().faults = faults;
    }

    /// What it has done so far.
    pub fn traffic(&self) -> Traffic {
        self.0.state.borrow().traffic
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Ether {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(state) = self.state.try_borrow() else { return f.write_str("Network") };
        f.debug_struct("Network")
            .field("under_way", &(state.outgoing.len() + state.flights.len()))
            .field("traffic", &state.traffic)
            .finish_non_exhaustive()
    }
}

impl Carrier for Ether {
    fn carry(&self, wire: &Rc<Wire>, to: usize, parcel: Parcel) {
        self.send(Flight { wire: Rc::downgrade(wire), to, cargo: Cargo::Parcel(parcel) });
    }

    fn cut(&self, count: usize) -> usize {
        let State { dice, faults, .. } = &mut *self.state.borrow_mut();
        let cuts = dice.chance(faults.cut_per_mille);
        if cuts { 1 + dice.below(count as u64) as usize } else { count }
    }

    fn resumer(&self) -> &Resumer {
        &self.resumer
    }
}

impl Ether {
    /// Notes what is sent, and wakes the network.
    fn send(&self, flight: Flight) {
        let state = &mut *self.state.borrow_mut();
        if let Some(source) = state.source {
            if state.outgoing.is_empty() {
                self.resumer.resume(source.raw(), Readiness::READABLE);
            }
            state.outgoing.push(flight);
        }
    }

    /// The network's turn: what was sent sets out, what is due arrives.
    fn turn<S: 'static>(&self, reactor: &mut Context<S>, id: RawId) {
        let now = reactor.tick();
        self.state.borrow_mut().set_out(now);
        let mut woken = Vec::new();
        while let Some(flight) = self.next_due(now) {
            let Some(wire) = flight.wire.upgrade() else { continue };
            woken.extend(match flight.cargo {
                Cargo::Parcel(parcel) => wire.arrive(flight.to, parcel),
                Cargo::Knock(addr) => self.knock(&wire, addr),
            });
        }
        let next = self.state.borrow_mut().line_up(&mut woken);
        for (source, ready) in woken {
            reactor.resume(source, ready);
        }
        reactor.set_deadline(id, next);
    }

    fn next_due(&self, now: u64) -> Option<Flight> {
        let state = &mut *self.state.borrow_mut();
        let first = state.flights.first_entry().filter(|first| first.key().0 <= now)?;
        let flight = first.remove();
        state.traffic.parcels += 1;
        if let Cargo::Parcel(Parcel::Bytes(count)) = flight.cargo {
            state.traffic.bytes += count as u64;
        }
        Some(flight)
    }
}

impl State {
    /// Puts those to be woken into the order in which they are; answers when the next parcel is due.
    fn line_up(&mut self, woken: &mut [(RawId, Readiness)]) -> Option<u64> {
        if self.faults.shuffle {
            self.dice.shuffle(woken);
        }
        self.flights.keys().next().map(|(due, _)| *due)
    }

    /// Draws the time of arrival of everything that was sent.
    fn set_out(&mut self, now: u64) {
        for flight in std::mem::take(&mut self.outgoing) {
            let Some(wire) = flight.wire.upgrade() else { continue };
            let Flight { to, mut cargo, .. } = flight;
            let mut due = now.saturating_add(self.latency());
            match cargo {
                Cargo::Parcel(Parcel::Bytes(count)) => {
                    if self.dice.chance(self.faults.reset_per_mille) {
                        self.traffic.resets += 1;
                        self.fly(due, &wire, 1 - to, Cargo::Parcel(Parcel::Reset));
                        cargo = Cargo::Parcel(Parcel::Reset);
                    } else if let Some(rate) = self.faults.bytes_per_second {
                        // A line that is busy begins with this when it is done with the last.
                        let ms = (count as u64).saturating_mul(1000).div_ceil(rate.max(1));
                        due = wire.in_order(to, due).saturating_add(ms);
                    }
                }
                Cargo::Parcel(Parcel::Fin) => {
                    due += self.dice.below(ticks(self.faults.fin_delay_max) + 1);
                }
                Cargo::Knock(_) if self.dice.chance(self.faults.lose_per_mille) => {
                    self.traffic.lost += 1;
                    continue;
                }
                Cargo::Knock(_) if self.dice.chance(self.faults.refuse_per_mille) => {
                    self.traffic.refused += 1;
                    due = due.saturating_add(self.latency()); // There and back.
                    self.fly(due, &wire, 0, Cargo::Parcel(Parcel::Refused));
                    continue;
                }
                _ => {}
            }
            // A reset may overtake, and nothing overtakes it: a FIN behind lost bytes would be a lie.
            let in_order = wire.in_order(to, due);
            if !matches!(cargo, Cargo::Parcel(Parcel::Reset)) {
                due = in_order;
            }
            self.fly(due, &wire, to, cargo);
        }
    }

    fn latency(&mut self) -> u64 {
        let Faults { latency_min, latency_max, resend_per_mille, resend_after, .. } = self.faults;
        let (min, max) = (ticks(latency_min), ticks(latency_max));
        let again = self.dice.chance(resend_per_mille);
        let more = self.dice.below(max.saturating_sub(min) + 1);
        min.saturating_add(more).saturating_add(if again { ticks(resend_after) } else { 0 })
    }

    fn fly(&mut self, due: u64, wire: &Rc<Wire>, to: usize, cargo: Cargo) {
        self.sent += 1;
        let flight = Flight { wire: Rc::downgrade(wire), to, cargo };
        self.flights.insert((due, self.sent), flight);
    }
}
