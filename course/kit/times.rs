//! How long callbacks took: a number for each range of times, and the slowest with its place. As text
//! for Prometheus.

use std::fmt::Write;
use std::panic::Location;
use std::time::Duration;

/// Ranges: up to 1, 2, 4 … 512 ms, and one for all that is longer.
const RANGES: usize = 11;

/// The times of a program's callbacks.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// None counts twice here.
    counts: [u64; RANGES],
    sum: Duration,
    slowest: Option<(Duration, &'static Location<'static>)>,
}

impl Times {
    pub fn new() -> Times {
        Times::default()
    }

    /// A callback has run so long. Its place is that of this call.
    #[track_caller]
    pub fn ran(&mut self, took: Duration) {
        let range = (0..RANGES - 1).find(|power| took <= Duration::from_millis(1 << power));
        self.counts[range.unwrap_or(RANGES - 1)] += 1;
        self.sum += took;
        if self.slowest.is_none_or(|slowest| slowest.0 < took) {
            self.slowest = Some((took, Location::caller()));
        }
    }

    /// Prometheus counts a time in each range that it fits into: so each number has those before it.
    pub fn text(&self) -> String {
        let (name, mut count, mut text) = ("rill_callback_seconds", 0, String::new());
        // Writing into a string cannot fail.
        let _ = writeln!(text, "# HELP {name} How long callbacks took.\n# TYPE {name} histogram");
        for (range, times) in self.counts.iter().enumerate() {
            count += times;
            let most = match range {
                range if range == RANGES - 1 => "+Inf".to_owned(),
                range => format!("{}", f64::from(1 << range) / 1000.0),
            };
            let _ = writeln!(text, "{name}_bucket{{le=\"{most}\"}} {count}");
        }
        let _ = writeln!(text, "{name}_sum {}\n{name}_count {count}", self.sum.as_secs_f64());
        if let Some((took, place)) = self.slowest {
            let name = "rill_slowest_seconds";
            let _ =
                writeln!(text, "# HELP {name} The slowest one, and its line.\n# TYPE {name} gauge");
            let _ = writeln!(text, "{name}{{at=\"{place}\"}} {}", took.as_secs_f64());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_each_range_that_it_fits_into_and_the_slowest_is_named() {
        let mut times = Times::new();
        times.ran(Duration::from_micros(1));
        times.ran(Duration::from_secs(9));
        let line = line!() - 1;
        times.ran(Duration::from_millis(3));
        let text = times.text();
        for wanted in ["le=\"0.002\"} 1", "le=\"0.004\"} 2", "le=\"0.512\"} 2", "le=\"+Inf\"} 3"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert!(text.contains(&format!("times.rs:{line}:15\"}} 9\n")), "{text}");
    }
}
