//! What has come so far, by name and tags; and all of it as a page for Prometheus.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::protocol::{self, Kind, Sample, number};

/// Names with their tags that are kept unless `--names` says otherwise; one of times counts as
/// [`HISTOGRAM_LINES`], as it is so many lines on the page.
pub const NAMES_MAX: usize = 10_000;
/// Bytes of a name; and of tags, as they are on the page. So that is 8 MB long at most.
pub const NAME_BYTES_MAX: usize = 128;
pub const TAGS_BYTES_MAX: usize = 256;
/// Different members of all sets together in a window, of which 8 bytes each are kept.
pub const MEMBERS_MAX: usize = 100_000;
const HISTOGRAM_LINES: usize = BUCKETS + 3;
const BUCKETS: usize = 11;
/// The upper ends of the buckets: of times, in seconds, and of anything else.
const TIMES: [f64; BUCKETS] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const SIZES: [f64; BUCKETS] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

/// What is known of a name with certain tags.
struct Series {
    kind: Kind,
    help: &'static str,
    /// Of a counter its total, of a gauge its value, of a histogram its sum.
    sum: f64,
    /// The total when the window began.
    before: f64,
    /// Of a histogram: how many were in each bucket, the last without an end; and the greatest.
    counts: Option<Box<[u64; BUCKETS + 1]>>,
    greatest: Option<f64>,
    members: HashSet<u64>,
    /// What rules look at: of a counter its rate a second, of a histogram the greatest, of a set its
    /// size, all in the window that has ended; of a gauge its value.
    level: Option<f64>,
}

pub struct Store {
    /// By `name{tags`. A brace is behind all characters of a name, so those of one name are together.
    series: BTreeMap<String, Series>,
    names_max: usize,
    names: usize,
    members: usize,
    hasher: RandomState,
    /// Lines that were taken, that were none, and for which there was no room.
    pub good: u64,
    pub bad: u64,
    pub no_room: u64,
}

impl Store {
    pub fn new(names_max: usize) -> Store {
        let (series, hasher) = (BTreeMap::new(), RandomState::new());
        let (names, members, good, bad, no_room) = (0, 0, 0, 0, 0);
        Store { series, names_max, names, members, hasher, good, bad, no_room }
    }

    pub fn heard(&mut self, datagram: &[u8]) {
        for line in protocol::lines(datagram) {
            let taken = protocol::parse(line).and_then(|sample| self.add(&sample));
            *match taken {
                Some(true) => &mut self.good,
                Some(false) => &mut self.no_room,
                None => &mut self.bad,
            } += 1;
        }
    }

    /// Adds a sample. `None` if it is bad, false if there is no room.
    fn add(&mut self, sample: &Sample<'_>) -> Option<bool> {
        let (kind, key) = (sample.kind, key(sample)?);
        let falls = |value| number(value) < Some(0.0);
        if kind == Kind::Counter && sample.values.split(':').any(falls) {
            return None;
        }
        if !self.series.contains_key(&key) {
            let name = key.split('{').next().unwrap_or_default();
            if self.of(name).next().is_some_and(|(_, other)| other.kind != kind) {
                return None;
            }
            let lines = if kind.is_histogram() { HISTOGRAM_LINES } else { 1 };
            if self.names + lines > self.names_max {
                return Some(false);
            }
            self.names += lines;
        }
        let series = self.series.entry(key).or_insert_with(|| Series::new(kind, help(kind)));
        if series.kind != kind {
            return None;
        }
        if kind != Kind::Set {
            sample.values.split(':').for_each(|value| series.add(value, sample.rate));
            return Some(true);
        }
        let member = self.hasher.hash_one(sample.values);
        if self.members == MEMBERS_MAX {
            return Some(series.members.contains(&member));
        }
        self.members += usize::from(series.members.insert(member));
        Some(true)
    }

    /// Says something of the server itself.
    pub fn set(&mut self, name: &str, tags: &str, kind: Kind, help: &'static str, value: f64) {
        let new = || Series::new(kind, help);
        self.series.entry(format!("{name}{{{tags}")).or_insert_with(new).sum = value;
    }

    /// All that have this name on the page.
    fn of(&self, name: &str) -> impl Iterator<Item = (&String, &Series)> + use<'_> {
        self.series.range(format!("{name}{{")..format!("{name}|"))
    }

    /// Ends a window: what is counted in each begins again.
    pub fn roll(&mut self, window: Duration) {
        self.members = 0;
        for series in self.series.values_mut() {
            series.level = match series.kind {
                Kind::Counter => Some((series.sum - series.before) / window.as_secs_f64()),
                Kind::Gauge => Some(series.sum),
                Kind::Time | Kind::Histogram => series.greatest.take(),
                Kind::Set => Some(std::mem::take(&mut series.members).len() as f64),
            };
            series.before = series.sum;
        }
    }

    /// What a rule sees of a name, which may be that of the page, or the one that was sent.
    pub fn levels(&self, name: &str) -> impl Iterator<Item = f64> + use<'_> {
        let name = name.replace(is_strange, "_");
        let names = ["", "_total", "_seconds", "_value"].map(|end| format!("{name}{end}"));
        names.into_iter().flat_map(|name| self.of(&name)).filter_map(|(_, series)| series.level)
    }

    pub fn len(&self) -> usize {
        self.names
    }

    /// All of it, in Prometheus's text format 0.0.4.
    pub fn page(&self) -> String {
        let (mut page, mut last) = (String::new(), "");
        for (key, series) in &self.series {
            let (name, tags) = key.split_once('{').unwrap_or((key, ""));
            if std::mem::replace(&mut last, name) != name {
                let kind = match series.kind {
                    Kind::Counter => "counter",
                    Kind::Gauge | Kind::Set => "gauge",
                    Kind::Time | Kind::Histogram => "histogram",
                };
                let _ = write!(page, "# HELP {name} {}\n# TYPE {name} {kind}\n", series.help);
            }
            series.write(&mut page, name, tags);
        }
        page
    }
}

impl Series {
    fn new(kind: Kind, help: &'static str) -> Series {
        let counts = kind.is_histogram().then(Box::default);
        let (members, greatest, level) = (HashSet::new(), None, None);
        Series { kind, help, sum: 0.0, before: 0.0, counts, greatest, members, level }
    }

    fn add(&mut self, text: &str, rate: f64) {
        let Some(value) = number(text) else { return };
        let weight = (1.0 / rate).round();
        let add = match self.kind {
            Kind::Gauge if !text.starts_with(['+', '-']) => value - self.sum,
            Kind::Counter => value / rate,
            Kind::Gauge | Kind::Set => value,
            Kind::Time | Kind::Histogram => {
                let (ends, value) = buckets(self.kind, value);
                let bucket = ends.partition_point(|end| *end < value);
                let counts = self.counts.get_or_insert_default();
                counts[bucket] = counts[bucket].saturating_add(weight as u64);
                self.greatest = self.greatest.map(|greatest| greatest.max(value)).or(Some(value));
                value * weight
            }
        };
        // What is too much for a number stays the greatest one: no infinity, and no NaN of two.
        self.sum = (self.sum + add).clamp(f64::MIN, f64::MAX);
    }

    fn write(&self, page: &mut String, name: &str, tags: &str) {
        let Some(counts) = &self.counts else {
            let value = if self.kind == Kind::Set { self.level.unwrap_or(0.0) } else { self.sum };
            return write_line(page, name, tags, value);
        };
        let (mut sum, comma) = (0, if tags.is_empty() { "" } else { "," });
        let ends = buckets(self.kind, 0.0).0.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (count, end) in counts.iter().zip(ends) {
            sum += count;
            let tags = format!("{tags}{comma}le=\"{end}\"");
            write_line(page, &format!("{name}_bucket"), &tags, sum as f64);
        }
        write_line(page, &format!("{name}_sum"), tags, self.sum);
        write_line(page, &format!("{name}_count"), tags, sum as f64);
    }
}

/// The buckets of a kind, and a value in their unit.
fn buckets(kind: Kind, value: f64) -> (&'static [f64; BUCKETS], f64) {
    if kind == Kind::Time { (&TIMES, value / 1000.0) } else { (&SIZES, value) }
}

fn write_line(page: &mut String, name: &str, tags: &str, value: f64) {
    let value = format!("{value:?}");
    let value = value.strip_suffix(".0").unwrap_or(&value);
    let _ = match tags {
        "" => writeln!(page, "{name} {value}"),
        tags => writeln!(page, "{name}{{{tags}}} {value}"),
    };
}

fn help(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "Events, as statsd clients count them.",
        Kind::Gauge => "A value, as statsd clients have set it last.",
        Kind::Time => "Times that statsd clients have sent in ms.",
        Kind::Histogram => "Values that statsd clients have sent.",
        Kind::Set => "Different members in the last window.",
    }
}

fn is_strange(char: char) -> bool {
    !char.is_ascii_alphanumeric() && char != '_'
}

/// What a sample is kept under.
fn key(sample: &Sample<'_>) -> Option<String> {
    let mut key = page_name(sample)?;
    key.push('{');
    (sample.tags.is_empty() || add_tags(&mut key, sample.tags)).then_some(key)
}

/// A name as the page has it, with the ending that its kind has there. No two kinds have the same
/// one, so the lines of a histogram cannot be taken for another's.
fn page_name(sample: &Sample<'_>) -> Option<String> {
    let mut name = sample.name.replace(is_strange, "_");
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    match sample.kind {
        Kind::Counter if name.ends_with("_total") => {}
        Kind::Counter => name.push_str("_total"),
        Kind::Time if name.ends_with("_seconds") => {}
        Kind::Time => name.push_str("_seconds"),
        _ if ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end)) => {
            name.push_str("_value");
        }
        _ => {}
    }
    (name.len() <= NAME_BYTES_MAX && !name.starts_with("waterwheel_")).then_some(name)
}

/// Tags as the page has them, in one order; the first of two of the same name. False if they are too
/// long.
fn add_tags(key: &mut String, tags: &str) -> bool {
    let mut all: Vec<(String, &str)> = Vec::new();
    for tag in tags.split(',').filter(|tag| !tag.is_empty()) {
        let (name, value) = tag.split_once(':').unwrap_or((tag, "true"));
        let mut name = name.replace(is_strange, "_");
        // Those are the buckets', and what begins so is Prometheus's own, or no name.
        let is_taken = |first: char| first == '_' || first.is_ascii_digit();
        if ["", "le", "quantile"].contains(&&*name) || name.starts_with(is_taken) {
            name.insert_str(0, "tag_");
        }
        // To Prometheus an empty value is no tag.
        all.extend((!value.is_empty()).then_some((name, value)));
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all.dedup_by(|one, other| one.0 == other.0);
    let begin = key.len();
    for (name, value) in all {
        let comma = if key.len() > begin { "," } else { "" };
        let value = value.replace('\\', r"\\").replace('"', "\\\"");
        let _ = write!(key, "{comma}{name}=\"{value}\"");
    }
    key.len() - begin <= TAGS_BYTES_MAX
}
