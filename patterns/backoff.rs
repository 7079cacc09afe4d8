//! Trying again, for promises and tasks: how often, and after which pauses.
//!
//! If a server fails, all its clients notice that at the same moment. After equal pauses they would
//! all come back together and overload it again, so a pause is drawn at random (Brooker,
//! *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015).

use std::time::Duration;

use super::random::Random;

/// How often something is tried, and after which pauses: each twice as long as the one before it,
/// and then cut short at random.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::patterns::Backoff;
/// let ms = Duration::from_millis;
/// let backoff = Backoff::new(5).first(ms(100)).most(ms(500)).seed(7);
/// let pauses: Vec<_> = backoff.pauses().collect();
/// assert_eq!(pauses.len(), 4); // between five attempts
/// assert!(pauses[0] >= ms(50) && pauses[0] <= ms(100));
/// assert!(pauses[3] >= ms(250) && pauses[3] <= ms(500));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    attempts: u32,
    first: Duration,
    most: Duration,
    jitter_percent: u32,
    seed: Option<u64>,
}

impl Backoff {
    /// At most `attempts` attempts, including the first; at least one.
    pub fn new(attempts: u32) -> Backoff {
        Backoff {
            attempts: attempts.max(1),
            first: Duration::from_millis(100),
            most: Duration::from_secs(30),
            jitter_percent: 50,
            seed: None,
        }
    }

    /// The pause after the first attempt. Default: 100 ms.
    pub fn first(self, pause: Duration) -> Backoff {
        Backoff { first: pause, ..self }
    }

    /// The longest pause. Default: 30 s.
    pub fn most(self, pause: Duration) -> Backoff {
        Backoff { most: pause, ..self }
    }

    /// The most by which a pause is cut short at random, in percent: 0 for a single client, 100 for
    /// any pause from zero to the whole. Default: 50.
    pub fn jitter_percent(self, percent: u32) -> Backoff {
        Backoff { jitter_percent: percent.min(100), ..self }
    }

    /// Draws the jitter from this seed, so that a test has the same pauses each time. The default
    /// differs in each process; a task queue has a seed of its own for all of its tasks.
    pub fn seed(self, seed: u64) -> Backoff {
        Backoff { seed: Some(seed), ..self }
    }

    /// The pauses between the attempts.
    pub fn pauses(self) -> impl Iterator<Item = Duration> {
        let mut random = self.random();
        (1..=u32::MAX).map_while(move |attempt| self.pause(attempt, &mut random))
    }

    /// The pause after attempt number `attempt`; `None` if it was the last.
    pub(super) fn pause(&self, attempt: u32, random: &mut Random) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let factor = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(factor).min(self.most);
        let cut = whole.as_nanos() / 100 * u128::from(self.jitter_percent);
        let cut = random.up_to(u64::try_from(cut).unwrap_or(u64::MAX));
        Some(whole - Duration::from_nanos(cut))
    }

    pub(super) fn random(&self) -> Random {
        self.seed.map_or_else(Random::new, Random::from_seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_the_attempts() {
        let backoff = Backoff::new(6).first(S).most(5 * S).jitter_percent(0);
        assert_eq!(backoff.pauses().collect::<Vec<_>>(), [S, 2 * S, 4 * S, 5 * S, 5 * S]);
        assert_eq!(Backoff::new(1).pauses().next(), None);
        assert_eq!(Backoff::new(0).pauses().next(), None);
        assert_eq!(Backoff::new(9).first(Duration::ZERO).pauses().last(), Some(Duration::ZERO));
    }

    #[test]
    fn no_pause_is_too_long_to_be_asked_for() {
        let endless = Backoff::new(u32::MAX).first(Duration::MAX).most(Duration::MAX);
        let mut random = endless.random();
        assert!(endless.pause(u32::MAX - 1, &mut random).is_some_and(|pause| pause > S));
        let exact = endless.jitter_percent(0);
        assert_eq!(exact.pause(1, &mut random), Some(Duration::MAX));
        assert_eq!(exact.most(9 * S).pause(40, &mut random), Some(9 * S));
    }

    #[test]
    fn jitter_only_shortens_uses_its_whole_range_and_repeats_with_its_seed() {
        let backoff = Backoff::new(1001).first(S).most(S).jitter_percent(30).seed(7);
        let pauses: Vec<_> = backoff.pauses().collect();
        let ms = |pause: Option<&Duration>| pause.map(Duration::as_millis);
        let (least, most) = (ms(pauses.iter().min()), ms(pauses.iter().max()));
        assert!(least < Some(720) && least >= Some(700), "{least:?}");
        assert!(most > Some(980) && most <= Some(1000), "{most:?}");
        assert!(backoff.pauses().eq(pauses));
    }
}
