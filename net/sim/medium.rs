//! The medium: all that is under way, and when it arrives.
//!
//! Knows parcels and dice; never mentions streams.
//!
//! A send is noted, and wakes the network's source. When that runs, at the same tick on a manual
//! clock, everything noted gets its time of arrival. The seed makes all its decisions here, except
//! one: the number of bytes that a read or a write moves.
//!
//! # Read next
//! `listen.rs`: where an attempt to connect arrives.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use super::Traffic;
use super::faults::{Dice, Faults};
use crate::net::wire::{Carrier, End, Parcel, Wire};
use crate::reactor::{Context, RawId, Readiness, Resumer, SourceId};
use crate::timers::Tick;

/// The state that the ends of all wires share. They hold it; it holds none of them, so that parcels
/// under way keep nothing alive.
pub(super) struct Medium {
    pub(super) resumer: Resumer,
    pub(super) state: RefCell<State>,
}

pub(super) struct State {
    pub(super) dice: Dice,
    pub(super) faults: Faults,
    /// The network's own source.
    pub(super) source: Option<SourceId<()>>,
    /// Sent since the source ran last.
    pub(super) outgoing: Vec<Flight>,
    /// Under way, by time of arrival, ties in the order of sending. Their number is bounded by the
    /// buffers of connections, and by the program for attempts to connect.
    pub(super) flights: BTreeMap<(Tick, u64), Flight>,
    pub(super) sent: u64,
    pub(super) listeners: BTreeMap<SocketAddr, Weak<RefCell<Queue>>>,
    /// The last port given to a connection that did not ask for one.
    pub(super) port: u16,
    pub(super) traffic: Traffic,
}

/// Something under way.
pub(super) struct Flight {
    pub(super) wire: Weak<Wire>,
    pub(super) to: usize,
    pub(super) cargo: Cargo,
}

#[derive(Clone, Copy)]
pub(super) enum Cargo {
    /// For an end.
    Parcel(Parcel),
    /// An attempt to connect, for the listener there.
    Connect(SocketAddr),
}

impl Carrier for Medium {
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

impl Medium {
    pub(super) fn new(resumer: Resumer, seed: u64, faults: Faults) -> Medium {
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
        Medium { resumer, state: RefCell::new(state) }
    }

    /// Notes a send, and wakes the network.
    pub(super) fn send(&self, flight: Flight) {
        let state = &mut *self.state.borrow_mut();
        if let Some(source) = state.source {
            if state.outgoing.is_empty() {
                self.resumer.resume(source, Readiness::READABLE);
            }
            state.outgoing.push(flight);
        }
    }

    /// The network's turn: new flights set out, flights that are due arrive.
    pub(super) fn turn<S: 'static>(&self, reactor: &mut Context<S>, id: RawId) {
        self.state.borrow_mut().set_out(reactor.stamp().next());
        let now = reactor.tick();
        let mut woken = Vec::new();
        while let Some(flight) = self.next_due(now) {
            let Some(wire) = flight.wire.upgrade() else { continue };
            woken.extend(match flight.cargo {
                Cargo::Parcel(parcel) => wire.arrive(flight.to, parcel),
                Cargo::Connect(addr) => self.connect_arrived(&wire, addr),
            });
        }
        let next = self.state.borrow_mut().line_up(&mut woken);
        for (source, ready) in woken {
            reactor.send(source, ready);
        }
        reactor.set_deadline(id, next);
    }

    fn next_due(&self, now: Tick) -> Option<Flight> {
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
    /// Puts the sources to wake into the order in which they are woken; returns when the next
    /// parcel is due.
    fn line_up(&mut self, woken: &mut [(RawId, Readiness)]) -> Option<Tick> {
        if self.faults.shuffle {
            self.dice.shuffle(woken);
        }
        self.flights.keys().next().map(|(due, _)| *due)
    }

    /// Draws the time of arrival of everything that was sent.
    fn set_out(&mut self, now: Tick) {
        for flight in std::mem::take(&mut self.outgoing) {
            let Some(wire) = flight.wire.upgrade() else { continue };
            let Flight { to, mut cargo, .. } = flight;
            let mut due = now.plus(self.latency());
            match cargo {
                Cargo::Parcel(Parcel::Bytes(count)) => {
                    if self.dice.chance(self.faults.reset_per_mille) {
                        self.traffic.resets += 1;
                        self.fly(due, &wire, 1 - to, Cargo::Parcel(Parcel::Reset));
                        cargo = Cargo::Parcel(Parcel::Reset);
                    } else if let Some(rate) = self.faults.bytes_per_second {
                        // A busy line begins with this parcel when it is done with the last one.
                        let ms = (count as u64).saturating_mul(1000).div_ceil(rate.max(1));
                        due = wire.in_order(to, due).plus(ms);
                    }
                }
                Cargo::Parcel(Parcel::Fin) => {
                    let most = Tick::count_of(self.faults.fin_delay_max);
                    due = due.plus(self.dice.below(most + 1));
                }
                Cargo::Connect(_) if self.dice.chance(self.faults.lose_per_mille) => {
                    self.traffic.lost += 1;
                    continue;
                }
                Cargo::Connect(_) if self.dice.chance(self.faults.refuse_per_mille) => {
                    self.traffic.refused += 1;
                    due = due.plus(self.latency()); // There and back.
                    self.fly(due, &wire, 0, Cargo::Parcel(Parcel::Refused));
                    continue;
                }
                _ => {}
            }
            // A reset may overtake, but nothing overtakes it: a FIN behind lost bytes would be
            // wrong.
            let in_order = wire.in_order(to, due);
            if !matches!(cargo, Cargo::Parcel(Parcel::Reset)) {
                due = in_order;
            }
            self.fly(due, &wire, to, cargo);
        }
    }

    fn latency(&mut self) -> u64 {
        let Faults { latency_min, latency_max, resend_per_mille, resend_after, .. } = self.faults;
        let (min, max) = (Tick::count_of(latency_min), Tick::count_of(latency_max));
        let again = self.dice.chance(resend_per_mille);
        let more = self.dice.below(max.saturating_sub(min) + 1);
        let resent = if again { Tick::count_of(resend_after) } else { 0 };
        min.saturating_add(more).saturating_add(resent)
    }

    fn fly(&mut self, due: Tick, wire: &Rc<Wire>, to: usize, cargo: Cargo) {
        self.sent += 1;
        let flight = Flight { wire: Rc::downgrade(wire), to, cargo };
        self.flights.insert((due, self.sent), flight);
    }
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(state) = self.state.try_borrow() else { return f.write_str("Network") };
        f.debug_struct("Network")
            .field("under_way", &(state.outgoing.len() + state.flights.len()))
            .field("traffic", &state.traffic)
            .finish_non_exhaustive()
    }
}

/// The connections that wait to be accepted, and the source to wake for them.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) id: Option<RawId>,
    pub(super) ends: VecDeque<End>,
    pub(super) backlog: usize,
}

impl Medium {
    /// An attempt to connect has arrived.
    fn connect_arrived(&self, wire: &Rc<Wire>, addr: SocketAddr) -> Option<(RawId, Readiness)> {
        let queue = self.state.borrow().listeners.get(&addr).and_then(|queue| queue.upgrade());
        let Some(queue) = queue else {
            self.state.borrow_mut().traffic.refused += 1;
            self.carry(wire, 0, Parcel::Refused);
            return None;
        };
        let queue = &mut *queue.borrow_mut();
        if queue.ends.len() >= queue.backlog {
            self.state.borrow_mut().traffic.lost += 1;
            return None;
        }
        queue.ends.push_back(wire.end(1));
        self.carry(wire, 0, Parcel::Opened);
        queue.id.map(|id| (id, Readiness::READABLE))
    }

    pub(super) fn resume(&self, id: RawId) {
        self.resumer().resume(id, Readiness::READABLE);
    }
}
