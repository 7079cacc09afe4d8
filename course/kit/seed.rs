//! Numbers from a seed: the same ones each time.

use std::panic::{self, AssertUnwindSafe};

/// Numbers that look random and are not: SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    pub fn new(seed: u64) -> Seed {
        Seed(seed)
    }

    /// A number of 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number from 0 to `end - 1`.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// Returns true once in `times`, on average.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of them.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.number() as u8).collect()
    }
}

/// Runs `check` for each seed from 1 to `last`. If it panics, the seed is printed, with how to run
/// that one alone: `SEED=17 cargo test …`.
pub fn seeds(last: u64, check: impl Fn(&mut Seed)) {
    let only = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(1..=last, |seed| seed..=seed) {
        let run = AssertUnwindSafe(|| check(&mut Seed::new(seed)));
        if let Err(panic) = panic::catch_unwind(run) {
            eprintln!("  seed:     {seed} (SEED={seed} runs it alone)");
            panic::resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_each_time() {
        let draw = |seed| (0..9).map(|_| Seed::new(seed).number()).collect::<Vec<_>>();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        // The first number of SplitMix64 from 0, as its authors give it.
        assert_eq!(Seed::new(0).number(), 0xe220_a839_7b1d_cdaf);
    }
}
