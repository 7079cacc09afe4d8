//! Rules: `queue > 5 for 10s`. Knows numbers and moments; the loop says when to look.
//!
//! ```text
//!          it holds            for 10 s
//!   quiet ─────────▶ pending ──────────▶ firing
//!     ▲                 │ it does not      │ it does not
//!     └─────────────────┘                  ▼
//!                       ◀─── it holds ─ resolved
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use super::protocol::number;

pub struct Rule {
    text: String,
    /// The name that it is about.
    pub name: String,
    compare: fn(&f64, &f64) -> bool,
    bound: f64,
    length: Duration,
    /// Since when it holds, and the value with which it did last.
    holds: Option<(Instant, f64)>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Quiet,
    Pending,
    Firing,
    Resolved,
}

impl Rule {
    /// Reads `NAME > NUMBER` or `NAME > NUMBER for TIME`.
    pub fn parse(text: &str) -> Result<Rule, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (name, compare, bound, length) = match words[..] {
            [name, compare, bound] => (name, compare, bound, Some(Duration::ZERO)),
            [name, compare, bound, "for", length] => (name, compare, bound, time(length)),
            _ => return Err(format!("a rule is 'NAME > NUMBER for 10s', not {text:?}")),
        };
        let compare = match compare {
            ">" => f64::gt,
            ">=" => f64::ge,
            "<" => f64::lt,
            "<=" => f64::le,
            _ => return Err(format!("{text:?}: one compares by > >= < <=, not by {compare:?}")),
        };
        let bound = number(bound).ok_or_else(|| format!("{text:?}: {bound:?} is no number"))?;
        let length =
            length.ok_or_else(|| format!("{text:?}: a time is like 10s, 500ms, 2m, 1h"))?;
        let (text, name) = (words.join(" "), name.to_owned());
        Ok(Rule { text, name, compare, bound, length, holds: None, state: State::Quiet })
    }

    /// Looks at the values of its name. Returns true if it has begun to fire, or ended.
    pub fn look(&mut self, now: Instant, mut levels: impl Iterator<Item = f64>) -> bool {
        let found = levels.find(|level| (self.compare)(level, &self.bound));
        let since = self.holds.map_or(now, |(since, _)| since);
        self.holds = found.map(|level| (since, level));
        let before = self.state;
        self.state = match (found, before) {
            (Some(_), _) if now - since >= self.length => State::Firing,
            (Some(_), _) => State::Pending,
            (None, State::Firing | State::Resolved) => State::Resolved,
            (None, State::Pending | State::Quiet) => State::Quiet,
        };
        (before == State::Firing) != (self.state == State::Firing)
    }
}

/// As it is printed: `FIRING queue > 5 for 10s (7)`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", format!("{:?}", self.state).to_uppercase(), self.text)?;
        self.holds.map_or(Ok(()), |(_, level)| write!(f, " ({level})"))
    }
}

fn time(text: &str) -> Option<Duration> {
    let at = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(ms)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_fires_once_it_has_held_long_enough_and_ends_when_it_does_not() {
        let begin = Instant::now();
        let mut rule = Rule::parse("queue  > 5 for 10s").unwrap();
        let mut look = |second, levels: &[f64]| {
            let changed = rule.look(begin + Duration::from_secs(second), levels.iter().copied());
            (changed, rule.to_string())
        };
        assert_eq!(look(0, &[5.0]), (false, "QUIET queue > 5 for 10s".into()));
        assert_eq!(look(1, &[6.0]), (false, "PENDING queue > 5 for 10s (6)".into()));
        assert!(!look(10, &[6.0]).0);
        assert_eq!(look(11, &[3.0, 7.5]), (true, "FIRING queue > 5 for 10s (7.5)".into()));
        assert!(!look(12, &[6.0]).0);
        assert_eq!(look(13, &[]), (true, "RESOLVED queue > 5 for 10s".into()));
        // It begins again with each gap.
        assert!(!look(14, &[6.0]).0 && !look(20, &[1.0]).0 && !look(21, &[6.0]).0);
        assert!(!look(30, &[6.0]).0 && look(31, &[6.0]).0);
    }

    #[test]
    fn rule_is_read_in_all_its_forms_and_refused_in_others() {
        for (text, level, holds) in [
            ("a > 1", 1.0, false),
            ("a >= 1", 1.0, true),
            ("a < -1.5 for 0ms", -2.0, true),
            ("a.b <= 1e3 for 0h", 1000.5, false),
        ] {
            let changed = Rule::parse(text).unwrap().look(Instant::now(), [level].into_iter());
            assert_eq!(changed, holds, "{text}");
        }
        #[rustfmt::skip]
        let wrong = [
            "", "a", "a >", "a > x", "a > NaN", "a > 1e400", "a == 1", "a>1", "a > 1 for", "a > 1 for 10", "a > 1 for s",
            "a > 1 for 1d", "a > 1 for -1s", "a > 1 for 99999999999999999999s", "a > 1 for 1s more", "a > 1 in 1s",
        ];
        for text in wrong {
            let error = Rule::parse(text).err().expect(text);
            assert!(error.lines().count() == 1 && error.contains(&format!("{text:?}")), "{error}");
        }
        assert_eq!(time("18446744073709551615h"), None);
    }
}
