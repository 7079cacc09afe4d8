//! Cron lines: croner finds the occurrences, jiff knows the zones.
//!
//! Knows both crates and shows neither: their versions are no promise of ours. Never reads a clock.
//!
//! # Read next
//! `schedule.rs`, which asks.

use std::fmt;

use croner::Direction;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::TaskError;
use crate::timers::WallTime;

/// The fields of a line in their order, with what stands for "any" in each.
const FIELDS: [&str; 7] =
    ["second", "minute", "hour", "day of the month", "month", "day of the week", "year"];
/// Occurrences that are counted when they were missed; more are taken for this many. A line of
/// every second and a clock set on by a year would be counted for a minute.
const COUNTED_MAX: u64 = 1000;
/// Where the search begins that tells whether a line ever comes: 1970, before any clock's time.
const FIRST: WallTime = WallTime::from_unix_ms(0);

/// A cron line and its zone.
#[derive(Clone)]
pub(super) struct Cron {
    cron: croner::Cron,
    zone: TimeZone,
    line: String,
}

impl Cron {
    pub(super) fn parse(line: &str, zone: Option<&str>) -> Result<Cron, TaskError> {
        let wrong = |why: String| TaskError::Schedule(format!("cron line {line:?}: {why}"));
        let zone = match zone {
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name)
                .map_err(|error| TaskError::Schedule(format!("time zone {name:?}: {error}")))?,
        };
        let cron: croner::Cron = line.parse().map_err(|error| wrong(explain(line, &error)))?;
        let cron = Cron { cron, zone, line: line.to_owned() };
        match cron.next(FIRST) {
            Some(_) => Ok(cron),
            None => Err(wrong("no day is like that".to_owned())),
        }
    }

    /// The first occurrence after `after`; `None` if there is none before the year 5000.
    pub(super) fn next(&self, after: WallTime) -> Option<WallTime> {
        let next = self.cron.find_next_occurrence(&self.zoned(after)?, false).ok()?;
        Some(WallTime::from_unix_ms(next.timestamp().as_millisecond()))
    }

    /// How many occurrences there are from `first`, which is one, to `last`, counted to
    /// [`COUNTED_MAX`]; and the latest of them, `most` at most, oldest first.
    pub(super) fn between(
        &self,
        first: WallTime,
        last: WallTime,
        most: usize,
    ) -> (u64, Vec<WallTime>) {
        let mut count = 1;
        let mut at = first;
        while let Some(next) = self.next(at)
            && next <= last
            && count < COUNTED_MAX
        {
            count += 1;
            at = next;
        }
        let from = self.zoned(last);
        let back = from.map(|from| self.cron.iter_from(from, Direction::Backward));
        let walls = back.into_iter().flatten().map(|zoned| zoned.timestamp().as_millisecond());
        let walls = walls.map(WallTime::from_unix_ms);
        // From before the epoch of the search on, or across a change of zones, forward and backward
        // may differ: what is known to be due is due.
        let mut latest: Vec<_> = walls.take_while(|wall| *wall >= first).take(most).collect();
        latest.reverse();
        if latest.is_empty() {
            latest.push(first);
        }
        (count.max(latest.len() as u64), latest)
    }

    /// `None` outside of the years jiff knows, which are -9999 to 9999.
    fn zoned(&self, wall: WallTime) -> Option<Zoned> {
        Some(Timestamp::from_millisecond(wall.unix_ms()).ok()?.to_zoned(self.zone.clone()))
    }
}

/// Names the field that is wrong: each is tried alone, with `*` in place of the others.
fn explain(line: &str, error: &croner::errors::CronError) -> String {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if line.contains('@') {
        return "it knows @yearly, @annually, @monthly, @weekly, @daily and @hourly".to_owned();
    }
    if !(5..=7).contains(&fields.len()) {
        return format!(
            "it has {} fields and wants 5: {}; a 6th before them is the {}, a 7th behind them the {}",
            fields.len(),
            FIELDS[1..6].join(", "),
            FIELDS[0],
            FIELDS[6],
        );
    }
    let names = if fields.len() == 5 { &FIELDS[1..] } else { &FIELDS };
    for (number, (field, name)) in fields.iter().zip(names).enumerate() {
        let mut alone = vec!["*"; fields.len()];
        alone[number] = field;
        if let Err(error) = alone.join(" ").parse::<croner::Cron>() {
            return format!("{name} {field:?}: {}", reason(&error));
        }
    }
    reason(error)
}

/// What croner says, without its headings.
fn reason(error: &croner::errors::CronError) -> String {
    use croner::errors::CronError;
    match error {
        CronError::ComponentError(why) => {
            let mut why = why.trim_end_matches('.').to_owned();
            if let Some(first) = why.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            why
        }
        CronError::IllegalCharacters(_) => "a character that has no place there".to_owned(),
        other => other.to_string(),
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone.iana_name().unwrap_or("the zone of the system");
        write!(f, "cron {:?} in {zone}", self.line)
    }
}
