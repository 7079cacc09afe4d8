//! The example `metrics` without its socket: a line is taken if another definition has it, and the page
//! is one that Prometheus reads, whatever the names and tags are.

#[allow(dead_code)] // Its other part is the program's.
#[path = "../../examples/metrics"]
mod example {
    pub mod protocol;
    pub mod store;
}

use std::collections::HashSet;
use std::time::Duration;

use example::protocol::{self, Kind};
use example::store::{NAME_BYTES_MAX, Store, TAGS_BYTES_MAX};

/// So few that there is no room before long.
const NAMES_MAX: usize = 50;

/// What a byte stands for if the first is a 1: chance makes few lines of single bytes.
#[rustfmt::skip]
const WORDS: [&str; 40] = [
    "\n", "\0", "a", "b", "_", ".", "é", "_total", "_sum", "_count", "_bucket", "_seconds", "_value", "waterwheel_",
    ":1", ":-1", ":+2.5", ":0", ":1e308", ":-1e308", ":x", "NaN", "|c", "|c\n", "|g", "|g\n", "|ms\n", "|h\n", "|d", "|s\n",
    "|@0.5", "|@0", "|@1e-9", "|c:", "|#", "le", "quantile", ",", ":", "\\\"",
];

pub fn metrics(bytes: &[u8]) {
    let words = bytes.strip_prefix(&[1]).map(|bytes| {
        let words = bytes.iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]);
        words.collect::<String>().into_bytes()
    });
    let bytes = words.as_deref().unwrap_or(bytes);
    let mut store = Store::new(NAMES_MAX);
    let mut lines = 0;
    // A zero byte ends a datagram; every third one a window.
    for (at, datagram) in bytes.split(|byte| *byte == 0).enumerate() {
        for line in protocol::lines(datagram) {
            let taken = protocol::parse(line);
            assert_eq!(taken.is_some(), is_line(line), "{:?}", String::from_utf8_lossy(line));
            lines += 1;
        }
        store.heard(datagram);
        if at % 3 == 2 {
            store.roll(Duration::from_secs(1));
        }
        assert_eq!(store.good + store.bad + store.no_room, lines);
        assert!(store.len() <= NAMES_MAX);
    }
    store.set("waterwheel_turns_total", "", Kind::Counter, "Turns.", 1.0);
    check(&store.page());
    assert!(store.levels("a").chain(store.levels("waterwheel_turns")).all(f64::is_finite));
}

/// The definition, from the end of the line to its begin.
fn is_line(line: &[u8]) -> bool {
    let Ok(mut rest) = std::str::from_utf8(line) else { return false };
    let is_number =
        |text: &str| text.parse::<f64>().is_ok_and(|number| number.abs() < f64::INFINITY);
    loop {
        let Some((front, part)) = rest.rsplit_once('|') else { return false };
        let is_rate = |rate: &str| rate.parse().is_ok_and(|rate: f64| (1e-9..=1.0).contains(&rate));
        let front_has_kind = front.contains('|');
        match part.chars().next() {
            _ if !front_has_kind => {
                let Some((name, values)) = front.split_once(':') else { return false };
                let is_good = match part {
                    "s" => !values.is_empty(),
                    "c" | "g" | "ms" | "h" | "d" => values.split(':').all(is_number),
                    _ => false,
                };
                return is_good && !name.is_empty();
            }
            Some('@') if is_rate(&part[1..]) => {}
            Some('#') => {}
            Some('c') if part[1..].starts_with(':') => {}
            _ => return false,
        }
        rest = front;
    }
}

/// Prometheus's format: a family is in one piece, with its type; no line is there twice.
fn check(page: &str) {
    let (mut families, mut lines) = (HashSet::new(), HashSet::new());
    let (mut family, mut kind) = ("", "");
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && (1..=NAME_BYTES_MAX + 7).contains(&name.len())
    };
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().expect("a name");
            assert!(is_name(family) && families.insert(family), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.strip_prefix(family).expect("the same name").trim_start();
            assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            assert!(lines.insert(name), "twice: {name}");
            let (name, tags) = name.split_once('{').unwrap_or((name, "}"));
            let end = name.strip_prefix(family).expect("the family's");
            let ends: &[&str] =
                if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(ends.contains(&end), "{line}");
            check_tags(tags.strip_suffix('}').expect("the end of the tags"));
        }
    }
}

fn check_tags(mut tags: &str) {
    assert!(tags.len() <= TAGS_BYTES_MAX + 20, "{tags}");
    let mut names = HashSet::new();
    while !tags.is_empty() {
        let (name, rest) = tags.split_once("=\"").expect("a name and a value");
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name:?}");
        let mut escaped = false;
        let end = rest.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let rest = &rest[end.expect("the end of the value") + 1..];
        assert!(rest.is_empty() || rest.starts_with(','), "{rest}");
        tags = rest.strip_prefix(',').unwrap_or(rest);
    }
}
