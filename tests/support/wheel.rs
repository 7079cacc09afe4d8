//! The wheel's model, a sorted map, and a wheel beside it that is to behave the same.

use std::collections::{BTreeMap, HashMap};

use crate::Rng;
use waterwheel::timers::{TimerId, Wheel};

pub const DAY: u64 = 24 * 3600 * 1000;
pub const YEAR: u64 = 365 * DAY;

/// A timer as the model knows it.
pub struct Held {
    deadline: u64,
    /// Counts armings: the order among equal deadlines.
    armed: u64,
    /// The level the first deadline belonged to; 6 is the slot beyond.
    level: usize,
    expired: bool,
}

/// A wheel and, beside it, what it should hold.
#[derive(Default)]
pub struct Pair {
    pub wheel: Wheel<u64>,
    held: HashMap<TimerId, Held>,
    /// Armed timers in the order in which they are to expire.
    pub order: BTreeMap<(u64, u64), TimerId>,
    /// Ids handed out at some time: live, expired or stale.
    ids: Vec<TimerId>,
    pub hand: u64,
    armed: u64,
    /// An expiry was left before it was through: what is armed for the past now comes late.
    amid: bool,
    /// Only expired timers are cancelled or re-armed, so that `next_deadline` must be exact.
    pub quiet: bool,
    pub tally: Tally,
}

/// What the run has been through.
#[derive(Debug, Default)]
pub struct Tally {
    pub operations: u64,
    pub inserted: [u64; 7],
    /// By the level they came down from.
    pub expired: [u64; 7],
    pub past: u64,
    pub endless: u64,
    pub ties: u64,
    pub earlier: u64,
    pub later: u64,
    pub stale: u64,
    pub cut_short: u64,
    pub disturbed: u64,
    pub woken: u64,
    pub woken_for_nothing: u64,
    pub held_max: usize,
}

fn level(hand: u64, deadline: u64) -> usize {
    (0..6).find(|level| (deadline ^ hand) >> (6 * (level + 1)) == 0).unwrap_or(6)
}

impl Pair {
    /// Deadlines of every distance, with many on the edges of slots and many ties.
    fn some_deadline(&mut self, rng: &mut Rng) -> u64 {
        let deadline = match rng.below(16) {
            0..6 => self.hand.saturating_add(rng.next() >> (19 + rng.below(45))),
            6..10 => self.hand.saturating_add(10 * rng.below(20)),
            10..12 => {
                let span = 1 << (6 * (1 + rng.below(6)));
                (self.hand / span + 1 + rng.below(3)).saturating_mul(span).saturating_add(1)
                    - rng.below(3)
            }
            12..14 => self.hand.saturating_sub(rng.below(1000)),
            14 => u64::MAX - rng.below(2),
            _ => self.pick(rng).and_then(|id| self.held.get(&id)).map_or(self.hand, |h| h.deadline),
        };
        if self.amid { deadline.max(self.hand) } else { deadline }
    }

    fn pick(&self, rng: &mut Rng) -> Option<TimerId> {
        let at = rng.below(self.ids.len() as u64) as usize;
        self.ids.get(at).copied()
    }

    pub fn insert(&mut self, deadline: u64, rng: &mut Rng) {
        self.armed += 1;
        self.tally.past += u64::from(deadline < self.hand);
        self.tally.endless += u64::from(deadline == u64::MAX);
        let level = level(self.hand, deadline.max(self.hand));
        self.tally.inserted[level] += 1;
        let id = self.wheel.insert(deadline, self.armed);
        let held = Held { deadline, armed: self.armed, level, expired: false };
        assert!(self.held.insert(id, held).is_none(), "{id:?} is in use");
        self.order.insert((deadline, self.armed), id);
        self.tally.held_max = self.tally.held_max.max(self.held.len());
        if self.ids.len() < 5000 {
            self.ids.push(id);
        } else {
            let at = rng.below(5000) as usize;
            self.ids[at] = id;
        }
    }

    pub fn cancel(&mut self, id: TimerId) {
        let held = self.held.remove(&id);
        assert_eq!(self.wheel.cancel(id).is_some(), held.is_some(), "{id:?}");
        self.tally.stale += u64::from(held.is_none());
        if let Some(Held { deadline, armed, expired: false, .. }) = held {
            self.tally.disturbed += 1;
            self.order.remove(&(deadline, armed));
        }
    }

    pub fn rearm(&mut self, id: TimerId, deadline: u64) {
        assert_eq!(self.wheel.rearm(id, deadline), self.held.contains_key(&id), "{id:?}");
        let Some(held) = self.held.get_mut(&id) else { return self.tally.stale += 1 };
        if !held.expired {
            self.tally.disturbed += 1;
            self.tally.earlier += u64::from(deadline < held.deadline);
            self.tally.later += u64::from(deadline > held.deadline);
            self.order.remove(&(held.deadline, held.armed));
        }
        self.armed += 1;
        (held.deadline, held.armed, held.expired) = (deadline, self.armed, false);
        self.order.insert((deadline, self.armed), id);
    }

    pub fn look(&mut self, id: TimerId) {
        let held = self.held.get(&id);
        assert_eq!(self.wheel.deadline(id), held.map(|held| held.deadline), "{id:?}");
        assert_eq!(self.wheel.get(id).is_some(), held.is_some());
        assert_eq!(self.wheel.get_mut(id).is_some(), held.is_some());
        assert_eq!(self.wheel.is_expired(id), held.is_some_and(|held| held.expired));
        assert_eq!(self.wheel.len(), self.held.len());
        assert_eq!(self.wheel.is_empty(), self.held.is_empty());
    }

    /// Expires up to `to`, or `limit` timers, while others come and go. Answers how many.
    pub fn expire(&mut self, to: u64, limit: u64, rng: &mut Rng) -> u64 {
        (self.amid, self.hand) = (true, to);
        let mut last = None;
        for count in 0..limit {
            let due = self.order.first_entry().filter(|entry| entry.key().0 <= to);
            let due = due.map(|entry| entry.remove_entry());
            assert_eq!(self.wheel.expire(to), due.map(|(_, id)| id), "hand {}", self.hand);
            let Some(((deadline, armed), id)) = due else {
                self.amid = false;
                return count;
            };
            self.tally.ties += u64::from(last == Some(deadline));
            last = Some(deadline);
            let held = self.held.get_mut(&id).unwrap();
            held.expired = true;
            self.tally.expired[held.level] += 1;
            assert!(self.wheel.get(id).is_some_and(|value| *value <= armed));
            match rng.below(16) {
                0..10 => self.cancel(id),
                10..13 => {
                    let deadline = self.some_deadline(rng);
                    self.rearm(id, deadline);
                }
                13 => self.meddle(rng),
                14 if !self.quiet => {
                    let next = rng.below(4) as usize;
                    let next = self.order.values().nth(next).copied();
                    let deadline = self.some_deadline(rng);
                    match next {
                        Some(next) if rng.below(2) == 0 => self.cancel(next),
                        Some(next) => self.rearm(next, deadline),
                        None => {}
                    }
                }
                _ => self.look(id),
            }
        }
        self.tally.cut_short += 1;
        limit
    }

    /// Does one thing to one timer.
    pub fn meddle(&mut self, rng: &mut Rng) {
        self.tally.operations += 1;
        let what = rng.below(16);
        let deadline = self.some_deadline(rng);
        match self.pick(rng) {
            Some(id) if what >= 14 => self.look(id),
            Some(id) if what >= 8 => {
                if self.quiet && self.held.get(&id).is_some_and(|held| !held.expired) {
                    self.look(id);
                } else if what >= 11 {
                    self.cancel(id);
                } else if what == 10 {
                    let from = self.held.get(&id).map_or(0, |held| held.deadline);
                    self.rearm(id, deadline.max(from.saturating_add(rng.below(200))));
                } else {
                    self.rearm(id, deadline);
                }
            }
            _ => self.insert(deadline, rng),
        }
    }

    /// Moves the hand: a step, to where the wheel says, or a leap of days or years.
    pub fn turn(&mut self, rng: &mut Rng) {
        self.tally.operations += 1;
        let next =
            self.wheel.next_deadline().filter(|next| *next < self.hand.saturating_add(100 * YEAR));
        match (rng.below(5000), next) {
            (0..4400, _) => {
                let limit = if rng.below(4) == 0 { rng.below(10) } else { u64::MAX };
                self.expire(self.hand.saturating_add(rng.below(100)), limit, rng);
            }
            (4400..4996, Some(next)) if next >= self.hand => {
                self.tally.woken += 1;
                let count = self.expire(next, u64::MAX, rng);
                self.tally.woken_for_nothing += u64::from(count == 0);
            }
            (4999, _) if rng.below(2) == 0 => {
                self.leap(rng.below(20 * YEAR), rng);
            }
            _ => {
                self.leap(rng.below(50 * DAY), rng);
            }
        }
    }

    /// Moves the hand on by so many ticks, or to the end of time, and expires all on the way.
    pub fn leap(&mut self, by: u64, rng: &mut Rng) {
        self.expire(self.hand.saturating_add(by), u64::MAX, rng);
    }

    pub fn check_next_deadline(&self) {
        let next = self.wheel.next_deadline();
        let Some(((deadline, _), _)) = self.order.first_key_value() else {
            return assert!(next.is_none() || (self.amid && !self.quiet));
        };
        let earliest = self.hand.max(*deadline);
        if *deadline <= self.hand && self.amid {
            assert!(next.is_some_and(|next| next <= self.hand), "what is due wants no wait");
        } else if self.quiet {
            assert_eq!(next, Some(earliest));
        } else {
            // Amid an expiry the wheel's hand is still on its way to ours.
            let from = if self.amid { 0 } else { self.hand };
            assert!(next.is_some_and(|next| from <= next && next <= earliest), "{next:?}");
        }
    }

    pub fn cancel_all(&mut self) {
        let ids: Vec<TimerId> = self.held.keys().copied().collect();
        ids.into_iter().for_each(|id| self.cancel(id));
        self.wheel.expire(self.hand);
        self.amid = false;
        assert_eq!((self.wheel.len(), self.wheel.next_deadline()), (0, None));
    }
}
