//! What the three programs share: arguments, a pinned thread, one line a metric.
#![allow(dead_code)] // Each program uses its own part of it.

use std::fmt::Display;

use quanta::Instant;

/// Prints one line, `NAME<TAB>METRIC<TAB>VALUE`.
pub fn report(name: &str, metric: &str, value: impl Display) {
    println!("{name}\t{metric}\t{value:.1}");
}

/// Nanoseconds since `start` for each of `count`.
pub fn nanos_each(start: Instant, count: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / count as f64
}

/// The `part` quantile, 0.5 for the median.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() as f64 * part) as usize).min(values.len() - 1)]
}

/// Keeps this thread on one core, where that core may be had.
pub fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        eprintln!("cannot stay on core {core}: {error}");
    }
}

/// The program's arguments without options; `--help` prints `help` and ends the program.
pub fn arguments(help: &str) -> Result<Vec<String>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut values = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => {
                print!("{help}");
                std::process::exit(0);
            }
            Value(value) => values.push(value.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(values)
}

/// xorshift64*: Vigna, *An experimental exploration of Marsaglia's xorshift generators*, 2014.
/// Every program of the comparison draws the same numbers from it.
pub struct Rng(u64);

impl Rng {
    pub fn new() -> Rng {
        Rng(0x9E37_79B9_7F4A_7C15)
    }

    /// A number below `n`, which is below 2³².
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) * n) >> 32
    }
}
