//! The minutes at which lines of a crontab are due, beside those of cron: for a year, in zones with
//! summer time. Cron itself is written down here once more: it looks at each minute of the year.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use support::ceiling;
use waterwheel::Reactor;
use waterwheel::patterns::tasks::{Schedule, Task, TaskQueue};
use waterwheel::timers::{ManualClock, WallTime};

use super::scheduler::program::crontab::{When, parse};

const MINUTE_MS: i64 = 60_000;

fn at(time: &str, zone: &TimeZone) -> i64 {
    time.parse::<DateTime>().unwrap().to_zoned(zone.clone()).unwrap().timestamp().as_millisecond()
}

/// When the scheduler has the line due, from one moment to another.
fn ours(line: &str, zone: &str, from: i64, to: i64) -> Vec<i64> {
    let (entries, _) = parse(format!("{line} true").as_bytes(), false).unwrap();
    let When::Line(line) = &entries[0].when else { return Vec::new() };
    let clock = ManualClock::new();
    clock.set_wall(WallTime::from_unix_ms(from - 1));
    let mut reactor = Reactor::<Vec<i64>>::builder().clock(&clock).build().unwrap();
    let queue = TaskQueue::new().open(&mut reactor).unwrap();
    let schedule = Schedule::cron_in(line, zone).unwrap();
    let task = Task::new("line", schedule);
    let task = queue
        .add(&mut reactor, task, |_, dues: &mut Vec<i64>, run| {
            dues.push(run.due().wall.unix_ms());
            run.ok();
        })
        .unwrap();
    let mut dues = Vec::new();
    loop {
        let next = reactor[queue].task(task).unwrap().next.unwrap().wall;
        if next.unix_ms() >= to {
            return dues;
        }
        // The machine sleeps until shortly before: a wait would look at the clock each minute.
        clock.set_wall(next.plus_ms(-1).max(reactor.wall()));
        let count = dues.len();
        while dues.len() == count {
            reactor.turn(&mut dues, Some(Duration::from_secs(60))).unwrap();
        }
    }
}

/// A minute by a local clock: minute, hour, day, month, day of the week; as bits.
type Local = [u64; 5];

fn bits(local: DateTime) -> Local {
    let weekday = local.weekday().to_sunday_zero_offset();
    [local.minute(), local.hour(), local.day(), local.month(), weekday].map(|number| 1 << number)
}

/// A minute of the time that goes on, and what a local clock shows.
struct Minute {
    ms: i64,
    local: Local,
    /// True if it has shown that before.
    is_again: bool,
    /// What it has left out just before.
    skipped: Vec<Local>,
}

fn minutes(zone: &TimeZone, from: i64, to: i64) -> Vec<Minute> {
    let local = |ms: i64| zone.to_datetime(Timestamp::from_millisecond(ms).unwrap());
    let mut latest = local(from - MINUTE_MS);
    let minutes = (from..to).step_by(MINUTE_MS as usize).map(|ms| {
        let now = local(ms);
        let is_again = now <= latest;
        let mut skipped = Vec::new();
        while latest < now {
            latest = latest.checked_add(SignedDuration::from_mins(1)).unwrap();
            skipped.extend((latest < now).then(|| bits(latest)));
        }
        Minute { ms, local: bits(now), is_again, skipped }
    });
    minutes.collect()
}

/// The fields of a line as cron reads them.
struct Cron {
    sets: Local,
    any_day: bool,
    /// Neither the minute nor the hour begins with `*`: a fixed time.
    is_fixed: bool,
}

impl Cron {
    fn new(line: &str) -> Cron {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ranges = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
        let names = "janfebmaraprmayjunjulaugsepoctnovdec sunmontuewedthufrisat";
        let number = |text: &str| {
            let named = names.find(&text.to_lowercase()).filter(|_| text.len() == 3);
            let of = |at: usize| if at < 36 { at / 3 + 1 } else { (at - 37) / 3 };
            named.map_or_else(|| text.parse().unwrap(), |at| of(at) as u32)
        };
        let mut sets = [0; 5];
        for ((set, field), (first, last)) in sets.iter_mut().zip(&fields).zip(ranges) {
            for part in field.split(',') {
                let (range, step) = part.split_once('/').unwrap_or((part, "1"));
                let (low, high) = range.split_once('-').unwrap_or((range, range));
                let range = if range == "*" { first..=last } else { number(low)..=number(high) };
                range.step_by(step.parse().unwrap()).for_each(|number| *set |= 1 << number);
            }
        }
        sets[4] |= sets[4] >> 7; // Both are Sunday.
        let stars: Vec<bool> = fields.iter().map(|field| field.starts_with('*')).collect();
        Cron { sets, any_day: stars[2] || stars[4], is_fixed: !stars[0] && !stars[1] }
    }

    fn is_due(&self, local: &Local) -> bool {
        if self.sets[0] & local[0] == 0 || self.sets[1] & local[1] == 0 {
            return false;
        }
        let is_in = |at: usize| self.sets[at] & local[at] != 0;
        is_in(3) && if self.any_day { is_in(2) && is_in(4) } else { is_in(2) || is_in(4) }
    }

    /// When cron runs it. A minute of the local time that is skipped makes a fixed time due right
    /// after the gap; one that comes a second time does not.
    fn dues(&self, minutes: &[Minute]) -> Vec<i64> {
        let is_due = |minute: &&Minute| {
            let comes = self.is_due(&minute.local) && !(self.is_fixed && minute.is_again);
            comes || self.is_fixed && minute.skipped.iter().any(|local| self.is_due(local))
        };
        minutes.iter().filter(is_due).map(|minute| minute.ms).collect()
    }
}

/// Vienna and New York change by an hour, Lord Howe by half of one, Kolkata never.
const ZONES: [&str; 4] =
    ["Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"];

#[test]
fn minutes_of_a_year_are_those_of_cron_in_zones_with_summer_time() {
    let _ceiling = ceiling(Duration::from_secs(120));
    let lines = [
        "30 2 * * *",
        "15 1 * * *",
        "59 2 * * sun",
        "0 */2 * * *",
        "30 2 */2 * *",
        "0 0 13 * 5",
        "0 0 */10 * 5",
        "15 3 1-7 * mon",
        "5 4 8-14 mar,oct */7",
        "0 12 29 2 *",
        "59 23 31 * *",
        "0 0 * * 7",
        "10-50/20 6-18/6 1,15 jan-jun *",
        "* 3 30 mar,sep,oct *",
        "*/59 */23 1 * *",
        "0 9-17 * * mon-fri",
    ];
    for zone in ZONES {
        let tz = TimeZone::get(zone).unwrap();
        let (from, to) = (at("2026-01-01 00:00", &tz), at("2027-01-01 00:00", &tz));
        let year = minutes(&tz, from, to);
        for line in lines {
            let ours = ours(line, zone, from, to);
            assert_eq!(ours, Cron::new(line).dues(&year), "{line:?} in {zone}");
        }
    }
}

/// By the minute, in the days around the changes: both have all of them.
#[test]
fn frequent_lines_follow_the_clock_through_both_changes() {
    let _ceiling = ceiling(Duration::from_secs(120));
    for zone in ZONES {
        let tz = TimeZone::get(zone).unwrap();
        let days = ["2026-03-07 12:00", "2026-03-28 12:00", "2026-04-04 12:00", "2026-10-03 12:00"];
        for day in days.into_iter().chain(["2026-10-24 12:00", "2026-10-31 12:00"]) {
            let from = at(day, &tz);
            let to = from + 24 * 60 * MINUTE_MS;
            let day = minutes(&tz, from, to);
            for line in ["*/5 * * * *", "*/20 1-3 * * *", "7 * * * *", "0-59/30 */1 * * *"] {
                let ours = ours(line, zone, from, to);
                assert_eq!(ours, Cron::new(line).dues(&day), "{line:?} in {zone}");
            }
        }
    }
}

/// Where it differs from cron, as its header says: only one minute of one hour is a fixed time. What
/// lists several follows the clock, so in a night it comes not at all, or twice.
#[test]
fn list_of_times_is_no_fixed_time() {
    let zone = "Europe/Vienna";
    let tz = TimeZone::get(zone).unwrap();
    let night = |day: &str, line: &str| {
        let from = at(&format!("{day} 00:30"), &tz);
        let to = from + 240 * MINUTE_MS;
        let crons = Cron::new(line).dues(&minutes(&tz, from, to));
        (ours(line, zone, from, to).len(), crons.len())
    };
    assert_eq!(night("2026-03-29", "30 2 * * *"), (1, 1));
    assert_eq!(night("2026-10-25", "30 2 * * *"), (1, 1));
    assert_eq!(night("2026-03-29", "10,30 2 * * *"), (0, 1), "cron runs both at once");
    assert_eq!(night("2026-10-25", "10,30 2 * * *"), (4, 2));
}
