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
    lines: Vec<Line>,
}

struct Line {
    /// The chance of what each side sends.
    seeds: [Seed; 2],
    /// When the last thing arrives that each side has sent.
    last: [u64; 2],
    is_reset: bool,
}

impl Net {
    pub fn new(seed: u64, faults: Faults) -> Net {
        let (flights, lines) = (BTreeMap::new(), Vec::new());
        Net { seed: Seed::new(seed), faults, now: 0, flights, sent: 0, lines }
    }

    /// A number below that, from the chance of this end.
    fn draw(&mut self, from: End, below: u64) -> u64 {
        self.lines[from.line].seeds[from.side].below(below)
    }

    /// Sends it on its way to the other end.
    fn fly(&mut self, from: End, arrival: Arrival) {
        let mut due = self.now + 1 + self.draw(from, self.faults.delay_max_ms);
        let line = &mut self.lines[from.line];
        if arrival != Arrival::Reset {
            if line.is_reset {
                return;
            }
            due = due.max(line.last[from.side]);
            line.last[from.side] = due;
        }
        self.sent += 1;
        self.flights.insert((due, self.sent), (from.other(), arrival));
    }
}

impl Network for Net {
    fn connect(&mut self) -> usize {
        let seeds = [0; 2].map(|_| Seed::new(self.seed.number()));
        self.lines.push(Line { seeds, last: [0; 2], is_reset: false });
        self.lines.len() - 1
    }

    fn send(&mut self, from: End, bytes: &[u8]) {
        if self.draw(from, 100) < self.faults.resets && !self.lines[from.line].is_reset {
            self.lines[from.line].is_reset = true;
            self.fly(from, Arrival::Reset);
            return self.fly(from.other(), Arrival::Reset);
        }
        let mut first = bytes.len();
        if first > 1 && self.draw(from, 100) < self.faults.cuts {
            first = 1 + self.draw(from, first as u64 - 1) as usize;
        }
        let (first, second) = bytes.split_at(first);
        for piece in [first, second].into_iter().filter(|piece| !piece.is_empty()) {
            self.fly(from, Arrival::Bytes(piece.to_vec()));
        }
    }

    fn close(&mut self, from: End) {
        self.fly(from, Arrival::Finished);
    }

    fn next(&mut self) -> Option<(u64, End, Arrival)> {
        let ((due, _), (to, arrival)) = self.flights.pop_first()?;
        self.now = due;
        if arrival == Arrival::Reset {
            self.flights.retain(|_, (other, _)| *other != to);
        }
        Some((due, to, arrival))
    }
}

/// The acts that are left when no more can go. `fails` says if a run with these acts still fails.
pub fn shrink<T: Clone>(acts: &[T], mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let (mut acts, mut size) = (acts.to_vec(), acts.len() / 2 + 1);
    while size > 0 {
        let (mut from, before) = (0, acts.len());
        while from < acts.len() {
            let end = acts.len().min(from + size);
            let fewer = [&acts[..from], &acts[end..]].concat();
            if fails(&fewer) {
                acts = fewer;
            } else {
                from = end;
            }
        }
        // One act may be needed only as long as another one is there.
        if size > 1 || acts.len() == before {
            size /= 2;
        }
    }
    acts
}
