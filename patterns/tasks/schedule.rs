//! Schedules: the times at which a task is due, and the occurrences that have become due by now.
//!
//! Knows the times that two clocks showed, a [`Moment`]; never reads a clock.
//!
//! An interval follows the monotonic clock and stands on a grid from its first occurrence. A
//! cron line follows the wall clock, which may be set:
//!
//! ```text
//!   the wall clock  (═▶ it is set)      a task with a cron line for 03:00
//!   goes on      ── 02:59 ─▶ 03:00      runs
//!   is set on    ── 01:00 ═▶ 08:00      runs once, late: the other occurrences were missed
//!   is set back  ── 04:00 ═▶ 02:00 ─▶   has run today: it runs at 03:00 tomorrow
//!   was wrong    ── 2036  ═▶ 2026  ─▶   runs at 03:00, even if it ran by the wrong time
//! ```
//!
//! # Read next
//! `plan.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "cron")]
use super::cron::{self, Cron};
use crate::timers::{Now, TICK, Tick, WallTime};

/// The most occurrences that [`Task::catch_up`](super::Task::catch_up) makes up for.
pub const CATCH_UP_MAX: u32 = 100;
/// How often a cron line that waits checks if the wall clock was set.
pub const WALL_LOOK: Duration = Duration::from_secs(60);
/// Tasks that look at the wall clock in the same tick: about 0.1 ms for all of them.
#[cfg(feature = "cron")]
const LOOKS_AT_ONCE: u32 = 64;
/// A wall clock that falls behind the monotonic one by more than this was set back. Less is drift,
/// or a slow correction by NTP, at most half a millisecond a second.
#[cfg(feature = "cron")]
const SET_BACK_MS: i64 = 1000;
/// A wall clock that is set back by more than a day was wrong before: runs by it do not count. A
/// wrong time zone is less, a bad battery or a wrong year is more.
#[cfg(feature = "cron")]
const WAS_WRONG_MS: i64 = 24 * 3600 * 1000;

/// One moment by both clocks. The tick orders and measures, the wall time is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    /// The tick that had begun: milliseconds since the reactor was made.
    pub tick: Tick,
    /// The time that the wall clock shows then, or showed.
    pub wall: WallTime,
}

/// The present: as a record shows it, and exactly, for delays that count from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present {
    pub(super) moment: Moment,
    pub(super) exact: Now,
}

impl Moment {
    /// The moment of a tick, if the wall clock is not set in between.
    fn of_tick(self, tick: Tick) -> Moment {
        let ms = i128::from(tick.count()) - i128::from(self.tick.count());
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        Moment { tick, wall: self.wall.plus_ms(ms) }
    }

    /// The moment at which the wall clock shows `wall`, if it is not set in between.
    pub(super) fn of_wall(self, wall: WallTime) -> Moment {
        let ms = wall.ms_since(self.wall);
        let tick = Tick::new(self.tick.count().saturating_add_signed(ms));
        Moment { tick, wall }
    }
}

/// When a task is due.
///
/// ```
/// # use std::time::Duration;
/// use waterwheel::patterns::tasks::Schedule;
/// let once = Schedule::after(Duration::from_secs(5));
/// let often = Schedule::every(Duration::from_secs(60)).first_after(Duration::ZERO);
/// # #[cfg(feature = "cron")]
/// let nightly = Schedule::cron_in("30 3 * * *", "Europe/Vienna")?;
/// # Ok::<(), waterwheel::patterns::tasks::TaskError>(())
/// ```
#[derive(Clone)]
pub struct Schedule(When);

#[derive(Clone)]
enum When {
    OnDemand,
    Once {
        delay: Duration,
    },
    Every {
        /// In ticks.
        period: u64,
        first: Duration,
    },
    #[cfg(feature = "cron")]
    Cron {
        cron: Box<Cron>,
        /// All occurrences until then have been taken care of; `None`: until it is added.
        since: Option<WallTime>,
    },
}

impl Schedule {
    /// Once, `delay` after the task is added. The task is removed when that run has ended.
    pub fn after(delay: Duration) -> Schedule {
        Schedule(When::Once { delay })
    }

    /// Again and again, first one `period` after the task is added. In whole ticks, one at least.
    pub fn every(period: Duration) -> Schedule {
        let ticks = Tick::count_of(period).max(1);
        Schedule(When::Every { period: ticks, first: period.max(TICK) })
    }

    /// Never by itself: only by [`run_now`](crate::reactor::SourceId::run_now).
    pub fn on_demand() -> Schedule {
        Schedule(When::OnDemand)
    }

    /// Moves the first occurrence of an interval, and its grid with it. No effect on others.
    pub fn first_after(mut self, delay: Duration) -> Schedule {
        if let When::Every { first, .. } = &mut self.0 {
            *first = delay;
        }
        self
    }

    /// Counts the occurrences of a cron line from then on, and not from when the task is added: for
    /// a program that has stored how far it had come. The missed ones are made up for at once, as
    /// [`Task::catch_up`](super::Task::catch_up) says. A time in the future means that the wall
    /// clock was set back: nothing is due before it, unless it is more than a day away and so was
    /// wrong. No effect on others.
    #[cfg_attr(not(feature = "cron"), allow(unused_mut, unused_variables))]
    pub fn since(mut self, wall: WallTime) -> Schedule {
        #[cfg(feature = "cron")]
        if let When::Cron { since, .. } = &mut self.0 {
            *since = Some(wall);
        }
        self
    }

    /// By a cron line, in the time zone of the system; UTC if that is unknown.
    ///
    /// Five fields: minute, hour, day of the month, month, day of the week; a sixth before them is
    /// the second, a seventh behind them the year. `*`, lists, ranges, steps, names of months and
    /// days, `L`, `W`, `#`. If a day of the month and a day of the week are given, either is
    /// enough; a `+` before the day of the week demands both. Or a name: `@yearly`, `@annually`,
    /// `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`; and `@reboot`, which is
    /// [`Schedule::after`] zero: once, when it is added.
    ///
    /// If summer time skips an hour, a line with a fixed time in it is due at the first moment
    /// after the gap, and one with a `*`, list or step skips the missing times. If an hour comes
    /// twice, a fixed time is due in the first and the others in both. (croner decides this.) A
    /// whole day that a zone left out, as Samoa did with 30 December 2011, has no run.
    ///
    /// # Errors
    /// Names the field that is wrong. A line for 30 February, which never comes, is wrong, too.
    #[cfg(feature = "cron")]
    pub fn cron(line: &str) -> Result<Schedule, super::TaskError> {
        Schedule::of_line(line, None)
    }

    /// [`cron`](Schedule::cron) in the time zone of that IANA name, as `"Europe/Vienna"` or
    /// `"UTC"`.
    ///
    /// # Errors
    /// As [`cron`](Schedule::cron), or there is no such zone.
    #[cfg(feature = "cron")]
    pub fn cron_in(line: &str, zone: &str) -> Result<Schedule, super::TaskError> {
        Schedule::of_line(line, Some(zone))
    }

    #[cfg(feature = "cron")]
    fn of_line(line: &str, zone: Option<&str>) -> Result<Schedule, super::TaskError> {
        let zone = cron::zone(zone)?;
        if line.trim().eq_ignore_ascii_case("@reboot") {
            return Ok(Schedule::after(Duration::ZERO));
        }
        let cron = Box::new(Cron::parse(line, zone)?);
        Ok(Schedule(When::Cron { cron, since: None }))
    }

    /// Returns true if there is only one occurrence.
    pub(super) fn is_once(&self) -> bool {
        matches!(self.0, When::Once { .. })
    }
}

/// A schedule under way, with its next occurrence.
#[derive(Debug)]
pub(super) struct Timetable {
    schedule: Schedule,
    /// The next occurrence; `None` if there is none. All earlier ones have been fired.
    pub(super) next: Option<Moment>,
    /// When `next` was last compared with the clocks.
    #[cfg(feature = "cron")]
    looked: Moment,
    /// The wall clock's time when a cron line was last due: no occurrence before that is due
    /// again.
    #[cfg(feature = "cron")]
    ran: Option<WallTime>,
    /// The reason why the next occurrence is unknown; each look searches for it again.
    trouble: Option<Arc<str>>,
    /// True if `trouble` was reported.
    told: bool,
}

impl Timetable {
    pub(super) fn new(schedule: Schedule, present: Present) -> Timetable {
        let now = present.moment;
        let next = match &schedule.0 {
            When::OnDemand => None,
            When::Once { delay: first } | When::Every { first, .. } => {
                Some(now.of_tick(present.exact.after(*first)))
            }
            #[cfg(feature = "cron")]
            When::Cron { .. } => None,
        };
        #[cfg(feature = "cron")]
        let since = match schedule.0 {
            When::Cron { since, .. } => {
                since.filter(|since| since.ms_since(now.wall) <= WAS_WRONG_MS)
            }
            _ => None,
        };
        #[cfg_attr(not(feature = "cron"), allow(unused_mut))]
        let mut timetable = Timetable {
            schedule,
            next,
            #[cfg(feature = "cron")]
            looked: now,
            #[cfg(feature = "cron")]
            ran: since,
            trouble: None,
            told: false,
        };
        #[cfg(feature = "cron")]
        timetable.seek(since.unwrap_or(now.wall), now);
        timetable
    }

    pub(super) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The tick at which to check if the next occurrence has come; `None` if there is none. Where there
    /// are many, those with another `number` look at the wall clock in another turn, a little earlier.
    #[cfg_attr(not(feature = "cron"), allow(unused_variables))]
    pub(super) fn look_at(&self, number: u32) -> Option<Tick> {
        let next = self.next.map(|next| next.tick);
        match &self.schedule.0 {
            #[cfg(feature = "cron")]
            When::Cron { .. } if next.is_some() || self.trouble.is_some() => {
                let early = u64::from(number / LOOKS_AT_ONCE).min(Tick::count_of(WALL_LOOK) / 2);
                let look = self.looked.tick.plus(Tick::count_of(WALL_LOOK) - early);
                Some(next.map_or(look, |next| next.min(look)))
            }
            _ => next,
        }
    }

    /// The reason why the next occurrence is unknown; each reason is returned once.
    pub(super) fn take_trouble(&mut self) -> Option<Arc<str>> {
        if std::mem::replace(&mut self.told, true) { None } else { self.trouble.clone() }
    }

    /// Collects the occurrences that have become due and moves on: pushes the latest, `most` at
    /// most, to `due`, oldest first, and returns how many were passed over.
    pub(super) fn fire(&mut self, now: Moment, most: u32, due: &mut Vec<Moment>) -> u64 {
        #[cfg(feature = "cron")]
        if let When::Cron { .. } = self.schedule.0 {
            return self.fire_cron(now, most as usize, due);
        }
        let Some(next) = self.next else { return 0 };
        if next.tick > now.tick {
            return 0;
        }
        let When::Every { period, .. } = self.schedule.0 else {
            due.push(next);
            self.next = None;
            return 0;
        };
        let behind = now.tick.since(next.tick) / period;
        let missed = behind.saturating_sub(u64::from(most) - 1);
        let at = |number: u64| now.of_tick(next.tick.plus(number.saturating_mul(period)));
        due.extend((missed..=behind).map(at));
        self.next = Some(at(behind + 1));
        missed
    }

    /// `fire` for a cron line: follows the wall clock and ignores the ticks.
    #[cfg(feature = "cron")]
    fn fire_cron(&mut self, now: Moment, most: usize, due: &mut Vec<Moment>) -> u64 {
        let When::Cron { cron, .. } = &self.schedule.0 else { return 0 };
        let back_ms = self.looked.of_tick(now.tick).wall.ms_since(now.wall);
        self.looked = now;
        if let Some(next) = self.next
            && next.wall <= now.wall
        {
            let (count, latest) = cron.between(next.wall, now.wall, most);
            self.ran = Some(now.wall);
            due.extend(latest.iter().map(|wall| now.of_wall(*wall)));
            self.seek(now.wall, now);
            return count - latest.len() as u64;
        }
        let is_back = back_ms > SET_BACK_MS;
        if is_back {
            self.ran = self.ran.filter(|_| back_ms <= WAS_WRONG_MS);
        }
        if is_back || self.trouble.is_some() {
            // Past times are in the future again; those up to `ran` are not due twice.
            self.seek(self.ran.map_or(now.wall, |ran| ran.max(now.wall)), now);
        } else {
            self.next = self.next.map(|next| now.of_wall(next.wall));
        }
        0
    }

    /// Looks for the next occurrence of a cron line.
    #[cfg(feature = "cron")]
    fn seek(&mut self, after: WallTime, now: Moment) {
        let When::Cron { cron, .. } = &self.schedule.0 else { return };
        let (next, trouble) = match cron.next(after) {
            Ok(next) => (next, None),
            Err(why) => (None, Some(Arc::from(why))),
        };
        self.next = next.map(|wall| now.of_wall(wall));
        self.told &= trouble == self.trouble;
        self.trouble = trouble;
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            When::OnDemand => f.write_str("on demand"),
            When::Once { delay } => write!(f, "once after {delay:?}"),
            When::Every { period, .. } => write!(f, "every {:?}", Duration::from_millis(*period)),
            #[cfg(feature = "cron")]
            When::Cron { cron, .. } => write!(f, "{cron:?}"),
        }
    }
}
