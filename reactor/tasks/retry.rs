//! Retries: how often a run that failed is tried again, and how long to wait before.
//!
//! # Read next
//! `../backoff.rs`: why the waits are cut short at random.

use std::time::Duration;

use super::schedule::ticks;
use crate::reactor::backoff::{Random, doubled};

/// What becomes of a run that failed. By default nothing: it is not tried again.
///
/// ```
/// # use std::time::Duration;
/// use waterwheel::reactor::tasks::Retry;
/// // Again after 1 s, 2 s, 4 s and so on to a minute, each up to a fifth shorter; six in all.
/// let retry = Retry::new(6, Duration::from_secs(1)).cap(Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
    first: Duration,
    cap: Duration,
    jitter_percent: u32,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry::new(1, Duration::ZERO)
    }
}

impl Retry {
    /// So many attempts in all, the second one `first` after the first failed, and then after twice
    /// as long each time.
    pub fn new(attempts: u32, first: Duration) -> Retry {
        let (cap, jitter_percent) = (Duration::from_secs(3600), 20);
        Retry { attempts: attempts.max(1), first, cap, jitter_percent }
    }

    /// The longest wait. An hour.
    pub fn cap(mut self, cap: Duration) -> Retry {
        self.cap = cap;
        self
    }

    /// By how many percent a wait may be cut short, at random: 0 for none, 100 for anything from
    /// nothing to the whole. 20.
    pub fn jitter_percent(mut self, percent: u32) -> Retry {
        self.jitter_percent = percent.min(100);
        self
    }

    /// How many ticks to wait when attempt number `attempt` has failed; `None` if it was the last.
    pub(super) fn wait(&self, attempt: u32, random: &mut Random) -> Option<u64> {
        if attempt >= self.attempts {
            return None;
        }
        let whole = ticks(doubled(self.first, attempt, self.cap));
        let cut = u128::from(whole) * u128::from(self.jitter_percent) / 100;
        let cut = u64::try_from(cut).unwrap_or(u64::MAX);
        Some(whole - random.up_to(cut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_cap_and_end_with_the_attempts() {
        let retry = Retry::new(6, S).cap(5 * S).jitter_percent(0);
        let mut random = Random::from_seed(1);
        let waits: Vec<_> = (1..=7).map(|attempt| retry.wait(attempt, &mut random)).collect();
        let expected = [1000, 2000, 4000, 5000, 5000].map(Some);
        assert_eq!(waits[..5], expected);
        assert_eq!(waits[5..], [None, None]);
        assert_eq!(Retry::default().wait(1, &mut random), None);
        let endless = Retry::new(u32::MAX, Duration::MAX).cap(Duration::MAX).jitter_percent(0);
        assert_eq!(endless.wait(u32::MAX - 1, &mut random), Some(u64::MAX));
    }

    #[test]
    fn jitter_only_shortens_uses_its_whole_range_and_repeats_with_its_seed() {
        let retry = Retry::new(2, S).jitter_percent(30);
        let mut random = Random::from_seed(7);
        let waits: Vec<_> = (0..1000).filter_map(|_| retry.wait(1, &mut random)).collect();
        let (least, most) = (waits.iter().min(), waits.iter().max());
        assert!(least < Some(&720) && least >= Some(&700), "{least:?}");
        assert!(most > Some(&980) && most <= Some(&1000), "{most:?}");
        let mut again = Random::from_seed(7);
        assert!(waits.iter().all(|wait| retry.wait(1, &mut again) == Some(*wait)));
    }
}
