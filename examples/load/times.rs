//! How long requests took: a count for each range of times, the ranges growing with the times.
//!
//! A range is at most 1/64 of its times wide, so a percentile is at most 1.6 % too large, and an hour
//! takes no more room than a millisecond.

use std::iter;
use std::time::Duration;

/// Ranges for each doubling.
const PARTS: u64 = 64;
/// Up to 2³⁵ µs, more than nine hours: whatever takes longer counts as that.
const RANGES: usize = 64 * 30;
/// Columns of the longest bar.
const BAR: u64 = 40;

pub struct Times {
    counts: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times { counts: vec![0; RANGES], count: 0, max: Duration::ZERO }
    }
}

/// The range of a time in microseconds.
fn range(us: u64) -> usize {
    let doublings = (us / PARTS).checked_ilog2().map_or(0, u64::from);
    ((doublings * PARTS + (us >> doublings)) as usize).min(RANGES - 1)
}

/// The longest time in a range, in microseconds.
fn longest(range: usize) -> u64 {
    let range = range as u64;
    let doublings = (range / PARTS).saturating_sub(1);
    ((range - doublings * PARTS + 1) << doublings) - 1
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.counts[range(us)] += 1;
        self.count += 1;
        self.max = self.max.max(time);
    }

    /// The time that so many of a thousand did not exceed.
    pub fn permille(&self, permille: u64) -> Duration {
        let wanted = (self.count * permille).div_ceil(1000);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        Duration::from_micros(longest(found.unwrap_or(RANGES - 1))).min(self.max)
    }

    /// Percentiles, and a bar for each doubling of the time.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let percentiles = [500, 900, 990, 999].map(|permille| {
            format!("{:>5} % {}", permille as f64 / 10.0, ms(self.permille(permille)))
        });
        let most = iter::once(format!("  most  {}", ms(self.max)));
        let bars = self.counts.chunks(PARTS as usize).map(|counts| counts.iter().sum::<u64>());
        let bars: Vec<u64> = bars.collect();
        let first = bars.iter().position(|count| *count > 0).unwrap_or(0);
        let last = bars.iter().rposition(|count| *count > 0).map_or(0, |at| at + 1);
        let largest = bars.iter().copied().max().unwrap_or(0).max(1);
        let bars = (first..last).map(move |at| {
            let upto = Duration::from_micros(longest((at + 1) * PARTS as usize - 1) + 1);
            let bar = "#".repeat((bars[at] * BAR).div_ceil(largest) as usize);
            format!("below   {} {bar} {}", ms(upto), bars[at])
        });
        let all = percentiles.into_iter().chain(most).chain(bars);
        all.take(if self.count == 0 { 0 } else { usize::MAX })
    }
}

fn ms(time: Duration) -> String {
    format!("{:>9.3} ms", time.as_secs_f64() * 1000.0)
}
