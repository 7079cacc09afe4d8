//! The faults of a simulated network, and the dice that decide when they happen.
//!
//! Knows integers; never mentions wires.
//!
//! # Read next
//! `../../tests/sim/main.rs`: scenarios, each run for thousands of seeds.

use std::time::Duration;

use crate::patterns::Random;

/// The faults of a [`Network`](super::Network). By default it has none, and takes one to five
/// milliseconds; [`Faults::drawn`] mixes them. Each description ends with the default.
///
/// Bytes are delayed, cut into pieces and held back, and a connection may be reset, which loses
/// the bytes under way. Otherwise bytes never get lost, doubled or reordered: TCP prevents that.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::net::sim::Faults;
/// let faults = Faults { latency_max: Duration::from_millis(300), ..Faults::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The shortest time from end to end. 1 ms, the resolution of all of these times.
    pub latency_min: Duration,
    /// The longest. Each parcel has its own, but none overtakes another of its direction. 5 ms.
    pub latency_max: Duration,
    /// Bytes that each direction of a connection carries in a second. No limit.
    pub bytes_per_second: Option<u64>,
    /// Bytes that wait in each direction to be read, those under way included. 64 KiB.
    pub buffer_bytes: usize,
    /// Of a thousand reads and writes, so many move only some of the bytes they could. 0.
    pub cut_per_mille: u16,
    /// Of a thousand parcels, so many are lost at first and come later, by `resend_after`. 0.
    pub resend_per_mille: u16,
    /// The delay of these: TCP waits for an acknowledgement before it sends again. 200 ms.
    pub resend_after: Duration,
    /// The longest additional delay of a FIN. Zero.
    pub fin_delay_max: Duration,
    /// Of a thousand parcels with bytes, so many meet a reset of their connection, which both ends
    /// get. 0.
    pub reset_per_mille: u16,
    /// Of a thousand attempts to connect, so many are refused. 0.
    pub refuse_per_mille: u16,
    /// Of a thousand attempts to connect, so many are never answered. 0.
    pub lose_per_mille: u16,
    /// True if sources that become ready at the same time are woken in an order that the seed
    /// chooses, not in that of arrival. False.
    pub shuffle: bool,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            latency_min: Duration::from_millis(1),
            latency_max: Duration::from_millis(5),
            bytes_per_second: None,
            buffer_bytes: crate::net::memory::BUFFER_BYTES,
            cut_per_mille: 0,
            resend_per_mille: 0,
            resend_after: Duration::from_millis(200),
            fin_delay_max: Duration::ZERO,
            reset_per_mille: 0,
            refuse_per_mille: 0,
            lose_per_mille: 0,
            shuffle: false,
        }
    }
}

impl Faults {
    /// Faults that a seed has drawn: it decides for each if it is present, and how strong.
    ///
    /// Each is absent in half of the networks on purpose: a fault that is always there hides bugs
    /// that show without it. (Groce, Zhang, Eide, Chen, Regehr, *Swarm Testing*, 2012.)
    pub fn drawn(seed: u64) -> Faults {
        let mut dice = Dice::new(seed);
        let mut some = |most: u64| if dice.chance(500) { dice.below(most + 1) } else { 0 };
        let latency_min = some(10);
        Faults {
            latency_min: Duration::from_millis(latency_min),
            latency_max: Duration::from_millis(latency_min + some(40)),
            bytes_per_second: Some(some(1 << 20)).filter(|bytes| *bytes > 0).map(|b| b + 50_000),
            buffer_bytes: match some(4096) {
                0 => Faults::default().buffer_bytes,
                bytes => 255 + bytes as usize,
            },
            cut_per_mille: some(500) as u16,
            resend_per_mille: some(50) as u16,
            resend_after: Duration::from_millis(200),
            fin_delay_max: Duration::from_millis(some(100)),
            reset_per_mille: some(20) as u16,
            refuse_per_mille: some(300) as u16,
            lose_per_mille: some(200) as u16,
            shuffle: some(1) == 1,
        }
    }

    /// These faults without those that end a connection or keep it from being made: everything that
    /// is sent arrives.
    pub fn lossless(self) -> Faults {
        Faults { reset_per_mille: 0, refuse_per_mille: 0, lose_per_mille: 0, ..self }
    }
}

/// The one source of chance.
#[derive(Clone, Debug)]
pub(super) struct Dice(Random);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(Random::from_seed(seed))
    }

    /// A number below `n`; 0 for 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    /// Returns true so many times in a thousand.
    pub(super) fn chance(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// Any order of `items` is as likely as any other (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_and_order_are_fair() {
        let mut dice = Dice::new(1);
        assert_eq!(
            (dice.chance(0), dice.chance(1000), dice.below(0), dice.below(1)),
            (false, true, 0, 0)
        );
        let hits = (0..10_000).filter(|_| dice.chance(300)).count();
        assert!((2800..3200).contains(&hits), "{hits}");
        let mut firsts = [0; 4];
        for _ in 0..4000 {
            let mut order = [0, 1, 2, 3];
            dice.shuffle(&mut order);
            firsts[order[0]] += 1;
        }
        assert!(firsts.iter().all(|count| (850..1150).contains(count)), "{firsts:?}");
    }

    #[test]
    fn each_fault_is_drawn_by_some_seeds_and_not_by_others() {
        let drawn: Vec<Faults> = (0..200).map(Faults::drawn).collect();
        let present: [fn(&Faults) -> bool; 9] = [
            |faults| faults.latency_min > Duration::ZERO,
            |faults| faults.bytes_per_second.is_some(),
            |faults| faults.buffer_bytes < Faults::default().buffer_bytes,
            |faults| faults.cut_per_mille > 0,
            |faults| faults.resend_per_mille > 0,
            |faults| faults.fin_delay_max > Duration::ZERO,
            |faults| faults.reset_per_mille > 0,
            |faults| faults.refuse_per_mille > 0 || faults.lose_per_mille > 0,
            |faults| faults.shuffle,
        ];
        for (number, present) in present.into_iter().enumerate() {
            let count = drawn.iter().filter(|faults| present(faults)).count();
            assert!((30..170).contains(&count), "fault {number}: {count} of 200");
        }
        let faults = drawn[0].clone().lossless();
        assert_eq!(
            (faults.reset_per_mille, faults.refuse_per_mille, faults.lose_per_mille),
            (0, 0, 0)
        );
    }
}
