//! A line of statsd, with what DogStatsD has added: bytes in, a sample out.
//!
//! ```text
//!   api.latency:320:290|ms|@0.1|#host:a,zone:b
//!   ── name ──  values kind rate ──── tags ───
//! ```

/// What a sample is of: `c`, `g`, `ms`, `h` or `d`, `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Time,
    Histogram,
    Set,
}

impl Kind {
    pub fn is_histogram(self) -> bool {
        matches!(self, Kind::Time | Kind::Histogram)
    }
}

/// A line, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    /// One or more, with `:` between; of a set one, which is any text.
    pub values: &'a str,
    pub kind: Kind,
    /// The part of all events that was sent, in 1e-9..=1.
    pub rate: f64,
    /// `name:value`, with `,` between.
    pub tags: &'a str,
}

/// The lines of a datagram. Empty ones are none.
pub fn lines(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = datagram.split(|byte| *byte == b'\n');
    lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty())
}

/// Takes a line apart; `None` if it is not one. A value that is no number makes a line bad.
pub fn parse(line: &[u8]) -> Option<Sample<'_>> {
    let mut parts = std::str::from_utf8(line).ok()?.split('|');
    let (name, values) = parts.next()?.split_once(':')?;
    let kind = match parts.next()? {
        "c" => Kind::Counter,
        "g" => Kind::Gauge,
        "ms" => Kind::Time,
        "h" | "d" => Kind::Histogram,
        "s" => Kind::Set,
        _ => return None,
    };
    let mut sample = Sample { name, values, kind, rate: 1.0, tags: "" };
    for part in parts {
        match part.split_at_checked(1)? {
            ("@", rate) => sample.rate = number(rate).filter(|rate| (1e-9..=1.0).contains(rate))?,
            ("#", tags) => sample.tags = tags,
            ("c", container) if container.starts_with(':') => {} // Which one has sent it.
            _ => return None,
        }
    }
    let is_good = kind == Kind::Set || values.split(':').all(|value| number(value).is_some());
    (is_good && !name.is_empty() && !values.is_empty()).then_some(sample)
}

/// A number that one can add: not NaN, not infinite.
pub fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(line: &str) -> Option<(&str, &str, Kind, f64, &str)> {
        let Sample { name, values, kind, rate, tags } = parse(line.as_bytes())?;
        Some((name, values, kind, rate, tags))
    }

    #[test]
    fn line_has_its_parts_in_any_order_behind_the_kind() {
        use Kind::*;
        assert_eq!(sample("hits:1|c"), Some(("hits", "1", Counter, 1.0, "")));
        assert_eq!(sample("hits:2|c|@0.1"), Some(("hits", "2", Counter, 0.1, "")));
        assert_eq!(sample("a.b:-3|g|#x:1,y"), Some(("a.b", "-3", Gauge, 1.0, "x:1,y")));
        assert_eq!(sample("t:320:290|ms|#x:1|@0.5"), Some(("t", "320:290", Time, 0.5, "x:1")));
        assert_eq!(sample("n:1e3|d|c:a1b2"), Some(("n", "1e3", Histogram, 1.0, "")));
        assert_eq!(sample("n:.5|h"), Some(("n", ".5", Histogram, 1.0, "")));
        assert_eq!(sample("users:a:b 7|s"), Some(("users", "a:b 7", Set, 1.0, "")));
    }

    #[test]
    fn line_that_is_none_is_refused() {
        #[rustfmt::skip]
        let none = [
            "", ":", "|", ":|c", "a", "a:", "a:1", "a:|c", ":1|c", "a:1|", "a:1|x", "a:x|c", "a:1:|c", "a:1::2|ms",
            "a:NaN|g", "a:inf|g", "a:-infinity|g", "a:1e400|c", "a:1|c|", "a:1|c|@", "a:1|c|@0", "a:1|c|@-0.5",
            "a:1|c|@1.1", "a:1|c|@NaN", "a:1|c|@1e-300", "a:1|c|0.1", "a:1|c|cat", "a:1|C", "a:0x10|c", "a: 1|c",
            "_e{5,4}:title|text", "_sc|name|0", "a:1|c|é",
        ];
        for line in none {
            assert_eq!(sample(line), None, "{line}");
        }
        assert_eq!(parse(b"a\xff:1|c"), None);
    }

    #[test]
    fn datagram_is_lines_with_either_end_or_none() {
        let all: Vec<_> = lines(b"a:1|c\nb:2|g\r\n\n\r\nc").collect();
        assert_eq!(all, [&b"a:1|c"[..], b"b:2|g", b"c"]);
        assert_eq!(lines(b"").count() + lines(b"\n\n").count(), 0);
    }
}
