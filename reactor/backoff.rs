//! What trying again needs, whatever is tried: ever longer pauses, and some chance in them.
//!
//! Many clients that lost the same server at the same moment would all come back at the same
//! moments, and lose it again, so a pause is drawn at random (Brooker, *Exponential Backoff And
//! Jitter*, AWS Architecture Blog, 2015).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The pause after so many attempts: `first · 2^(attempts − 1)`, at most `most`.
pub(super) fn doubled(first: Duration, attempts: u32, most: Duration) -> Duration {
    let factor = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(most)
}

/// SplitMix64: Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, 2014. It takes
/// any seed, also 0.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Another sequence in each process: std seeds its hash maps for us.
    pub(super) fn new() -> Random {
        Random(RandomState::new().build_hasher().finish())
    }

    pub(super) fn from_seed(seed: u64) -> Random {
        Random(seed)
    }

    /// A number up to `most`, and that included.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let random = z ^ (z >> 31);
        ((u128::from(random) * (u128::from(most) + 1)) >> 64) as u64
    }
}
