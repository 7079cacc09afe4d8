//! Can bad luck be repeated? A network in memory, in which a seed decides all that happens.
//!
//! # Contract
//! * What arrives at an end is the beginning of what was sent to it, in order. Without a reset all of
//!   it arrives; then, if the other side has closed, `Finished`, once.
//! * Anything takes 1 to `delay_max_ms` from when it is sent, and longer only to stay behind what
//!   was sent to the same end before. Things to different ends overtake each other. What arrives at
//!   the same time arrives in the order in which it was sent. `next` moves the time on.
//! * `cuts` of a hundred sends of two bytes or more are cut in two, at any place; no piece is empty.
//! * `resets` of a hundred sends meet a reset: these bytes are lost, both ends get `Reset`, each
//!   after a time of its own, which may overtake what is under way. Nothing arrives at an end behind
//!   its `Reset`; and what is sent to either end after that send is lost.
//! * All chance comes from the seed. The same seed and the same calls: the same arrivals. Each end has
//!   its own chance: what happens to its sends does not change if another end sends more or less.
//! * `shrink` leaves out acts as long as the rest still fails. Of what it gives, none can be left out.
//!   It tries large pieces first: two of 1,000 acts are found in 200 runs.

use std::collections::BTreeMap;

use kit::{Arrival, End, Faults, Network, Seed};

pub struct Net {
    seed: Seed,
    faults: Faults,
    now: u64,
    /// Under way, by the time of arrival; ties in the order of sending.
    flights: BTreeMap<(u64, u64), (End, Arrival)>,
    sent: u64,
    lines: usize,
}

impl Net {
    pub fn new(seed: u64, faults: Faults) -> Net {
        let flights = BTreeMap::new();
        Net { seed: Seed::new(seed), faults, now: 0, flights, sent: 0, lines: 0 }
    }

    /// Sends it on its way to the other end.
    fn fly(&mut self, from: End, arrival: Arrival) {
        // Yours: when does it arrive? Then: pieces, and resets.
        let due = self.now + 1;
        self.sent += 1;
        self.flights.insert((due, self.sent), (from.other(), arrival));
    }
}

impl Network for Net {
    fn connect(&mut self) -> usize {
        self.lines += 1;
        self.lines - 1
    }

    fn send(&mut self, from: End, bytes: &[u8]) {
        self.fly(from, Arrival::Bytes(bytes.to_vec()));
    }

    fn close(&mut self, from: End) {
        self.fly(from, Arrival::Finished);
    }

    fn next(&mut self) -> Option<(u64, End, Arrival)> {
        let ((due, _), (to, arrival)) = self.flights.pop_first()?;
        self.now = due;
        Some((due, to, arrival))
    }
}

/// The acts that are left when no more can go. `fails` says if a run with these acts still fails.
pub fn shrink<T: Clone>(acts: &[T], mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let _ = fails(acts);
    acts.to_vec()
}
