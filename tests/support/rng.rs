//! Chance: numbers from a seed that can be printed, or from bytes that a fuzzer has chosen.

use std::collections::VecDeque;

/// Where the numbers come from.
#[derive(Debug)]
pub enum Rng {
    /// xorshift64*: Vigna, *An experimental exploration of Marsaglia's xorshift generators*, 2014.
    Seed(u64),
    /// Each number takes the bytes it needs, so that a fuzzer that changes one byte changes one
    /// choice. Zero when they are used up.
    Bytes(VecDeque<u8>),
}

impl Rng {
    /// Seeded from `WATERWHEEL_SEED` or with a fixed seed, which it prints: a failing test shows
    /// it.
    pub fn new() -> Rng {
        let given = std::env::var("WATERWHEEL_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(0x9E37_79B9_7F4A_7C15);
        println!("replay with WATERWHEEL_SEED={seed}");
        Rng::from_seed(seed)
    }

    pub fn from_seed(seed: u64) -> Rng {
        Rng::Seed(seed.max(1))
    }

    pub fn from_bytes(bytes: &[u8]) -> Rng {
        Rng::Bytes(bytes.iter().copied().collect())
    }

    /// Whether the bytes are used up; a seed never is.
    pub fn is_spent(&self) -> bool {
        matches!(self, Rng::Bytes(bytes) if bytes.is_empty())
    }

    pub fn next(&mut self) -> u64 {
        match self {
            Rng::Seed(seed) => {
                *seed ^= *seed >> 12;
                *seed ^= *seed << 25;
                *seed ^= *seed >> 27;
                seed.wrapping_mul(0x2545_F491_4F6C_DD1D)
            }
            Rng::Bytes(_) => self.take(8),
        }
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        match self {
            Rng::Seed(_) => ((u128::from(self.next()) * u128::from(n)) >> 64) as u64,
            Rng::Bytes(_) => {
                let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
                self.take(bits.div_ceil(8)) % n.max(1)
            }
        }
    }

    fn take(&mut self, count: u32) -> u64 {
        let Rng::Bytes(bytes) = self else { return 0 };
        (0..count).fold(0, |number, _| number << 8 | u64::from(bytes.pop_front().unwrap_or(0)))
    }
}
