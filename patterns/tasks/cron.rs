//! Cron lines: croner finds the occurrences, jiff knows the zones.
//!
//! Knows both crates and hides them, so their versions may change. Never reads a clock.
//!
//! A zone may leave out more than an hour. Samoa had no 30 December 2011, and there croner gives
//! up, although later occurrences exist. Then this file searches on a calendar without a zone, and
//! skips the gap in which the occurrence lies. The line `0 12 * * *` (daily at 12:00) in Samoa:
//!
//! ```text
//!   29th 12:00   ·   29th 24:00 is 31st 00:00   ·   31st 12:00
//!   due              a gap: no 30th 12:00           due
//! ```
//!
//! A day that is left out as a whole has no run. A day that is left out in part keeps its run, at
//! the first moment after the gap, as at the beginning of summer time.
//!
//! # Read next
//! `schedule.rs`, which calls this.

use std::collections::VecDeque;
use std::fmt;

use croner::errors::CronError;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use super::TaskError;
use crate::timers::WallTime;

/// The names of the fields of a line, in their order.
const FIELDS: [&str; 7] =
    ["second", "minute", "hour", "day of the month", "month", "day of the week", "year"];
/// The names that cron knows for some lines, in any case. `@reboot` is no line: see `schedule.rs`.
const NAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * SUN"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// The most missed occurrences that are counted; more count as this many. For a line of every
/// second and a clock that was set on by a year, the full count would take a minute.
const COUNTED_MAX: u64 = 1000;
/// The start of the search that shows if a line ever comes: 1970, before any clock's time.
const FIRST: WallTime = WallTime::from_unix_ms(0);
/// Years in which croner looks.
const YEARS: std::ops::Range<i16> = 1..croner::YEAR_UPPER_LIMIT as i16;
/// The most gaps with a day of the line that one search skips; more are an error. No zone has had
/// two.
const GAPS_MAX: u32 = 16;

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A cron line and its zone.
#[derive(Clone)]
pub(super) struct Cron {
    cron: croner::Cron,
    zone: TimeZone,
    line: String,
}

/// The zone of that name; without one, the system's.
pub(super) fn zone(name: Option<&str>) -> Result<TimeZone, TaskError> {
    let Some(name) = name else { return Ok(TimeZone::system()) };
    let unknown = |error| TaskError::Schedule(format!("time zone {name:?}: {error}"));
    TimeZone::get(name).map_err(unknown)
}

impl Cron {
    pub(super) fn parse(line: &str, zone: TimeZone) -> Result<Cron, TaskError> {
        let wrong = |why: String| TaskError::Schedule(format!("cron line {line:?}: {why}"));
        let named = NAMES.iter().find(|(name, _)| line.trim().eq_ignore_ascii_case(name));
        let meant = named.map_or(line, |(_, meant)| meant);
        let cron: croner::Cron = meant.parse().map_err(|error| wrong(explain(line, &error)))?;
        let cron = Cron { cron, zone, line: line.to_owned() };
        match cron.next(FIRST).map_err(wrong)? {
            Some(_) => Ok(cron),
            None => Err(wrong("no day is like that".to_owned())),
        }
    }

    /// The first occurrence after `after`; `None` if there is none before the year 5000.
    ///
    /// # Errors
    /// The next occurrence is unknown. After the wall clock is set there may be one.
    pub(super) fn next(&self, after: WallTime) -> Result<Option<WallTime>, String> {
        let mut from = self.zoned(after)?;
        let mut inclusive = false;
        for _ in 0..GAPS_MAX {
            let Some(found) = self.find(&from, inclusive)? else { return Ok(None) };
            if !self.is_of_no_day(&from, inclusive, &found)? {
                return Ok(Some(WallTime::from_unix_ms(found.timestamp().as_millisecond())));
            }
            (from, inclusive) = (found, true);
        }
        Err("the zone leaves out too many days".to_owned())
    }

    /// The occurrence that croner finds, or the end of the gap in which it gave up.
    fn find(&self, from: &Zoned, inclusive: bool) -> Result<Option<Zoned>, String> {
        let error = match self.cron.find_next_occurrence(from, inclusive) {
            Ok(found) => return Ok(Some(found)),
            Err(error) => error,
        };
        let Ok(meant) = self.cron.find_next_occurrence(&from.datetime(), inclusive) else {
            // There is none on a calendar without gaps, either.
            let is_none = matches!(error, CronError::TimeSearchLimitExceeded);
            return if is_none { Ok(None) } else { Err(reason(&error)) };
        };
        let meant = self.zone.to_ambiguous_zoned(meant);
        if !matches!(meant.offset(), AmbiguousOffset::Gap { .. }) {
            return Err(reason(&error));
        }
        // Read by the offset before the gap, the time lies behind the end of the gap.
        let behind = meant.later().and_then(|later| later.checked_add(SECOND));
        let behind = behind.map_err(|error| error.to_string())?;
        let end = self.zone.preceding(behind.timestamp()).next();
        let end = end.ok_or_else(|| reason(&error))?.timestamp();
        Ok(Some(end.to_zoned(self.zone.clone())))
    }

    /// Returns true if `found` replaces an occurrence on a day that the zone left out as a whole.
    fn is_of_no_day(&self, from: &Zoned, inclusive: bool, found: &Zoned) -> Result<bool, String> {
        let say = |error: CronError| reason(&error);
        if self.cron.is_time_matching(found).map_err(say)? {
            return Ok(false); // It is at a time of the line, and was not moved.
        }
        let meant = self.cron.find_next_occurrence(&from.datetime(), inclusive).map_err(say)?;
        let before = found.checked_sub(SECOND).map_err(|error| error.to_string())?;
        Ok(before.date() < meant.date() && meant.date() < found.date())
    }

    /// How many occurrences there are from `first`, which is one, to `last`, counted to
    /// [`COUNTED_MAX`]; and the latest of them, `most` at most, oldest first.
    pub(super) fn between(
        &self,
        first: WallTime,
        last: WallTime,
        most: usize,
    ) -> (u64, Vec<WallTime>) {
        if self.zoned(last).is_err() {
            return (1, vec![first]); // At least this one is known to be due.
        }
        let mut count = 1;
        let mut at = first;
        while count < COUNTED_MAX
            && let Some(next) = self.due(at, last)
        {
            count += 1;
            at = next;
        }
        let latest = self.latest(first, last, most);
        (count.max(latest.len() as u64), latest)
    }

    /// The latest occurrences from `first`, which is one, to `last`. The search starts shortly
    /// before `last`, and then twice as far back each time, so that it passes over
    /// only few that are not wanted.
    fn latest(&self, first: WallTime, last: WallTime, most: usize) -> Vec<WallTime> {
        let mut span_ms = 1000 * most as i64; // A second is the shortest period.
        loop {
            let from = last.plus_ms(-span_ms).max(first);
            let mut latest: VecDeque<_> = (from == first).then_some(first).into_iter().collect();
            let mut at = from;
            while let Some(next) = self.due(at, last) {
                if latest.len() == most {
                    latest.pop_front();
                }
                latest.push_back(next);
                at = next;
            }
            if from == first || latest.len() == most {
                return latest.into();
            }
            span_ms = span_ms.saturating_mul(2);
        }
    }

    /// The first occurrence after `after`, if it is due at `last`. The search for the next
    /// occurrence reports errors.
    fn due(&self, after: WallTime, last: WallTime) -> Option<WallTime> {
        self.next(after).ok().flatten().filter(|next| *next <= last)
    }

    fn zoned(&self, wall: WallTime) -> Result<Zoned, String> {
        let timestamp = Timestamp::from_millisecond(wall.unix_ms());
        let zoned = timestamp.map(|timestamp| timestamp.to_zoned(self.zone.clone()));
        let known = zoned.ok().filter(|zoned| YEARS.contains(&zoned.year()));
        known.ok_or_else(|| {
            format!("the wall clock is outside of the years {} to {}", YEARS.start, YEARS.end - 1)
        })
    }
}

/// Names the field that is wrong: each is tried alone, with `*` in place of the others.
fn explain(line: &str, error: &CronError) -> String {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if line.contains('@') {
        let names = NAMES.map(|(name, _)| name).join(", ");
        return format!("it knows {names} and @reboot");
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

/// The message of croner, without its headings.
fn reason(error: &CronError) -> String {
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
