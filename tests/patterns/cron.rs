//! Tasks by cron lines, on a wall clock that is set by hand. Wants the feature `cron`.

use std::time::Duration;

use support::process::output;
use waterwheel::patterns::tasks::{
    Outcome, Overrun, Record, Run, Schedule, Task, TaskError, TaskQueue,
};
use waterwheel::reactor::Context;
use waterwheel::timers::{ManualClock, WallTime};
use waterwheel::{Reactor, SourceId};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// For when each run was due.
type Dues = Vec<String>;
type Queue = SourceId<TaskQueue<Dues>>;

/// A moment as `2026-03-29 01:30:00` in UTC.
fn at(text: &str) -> WallTime {
    let civil: jiff::civil::DateTime = text.parse().unwrap();
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    WallTime::from_unix_ms(zoned.timestamp().as_millisecond())
}

fn text(wall: WallTime) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(wall.unix_ms()).unwrap();
    timestamp.to_zoned(jiff::tz::TimeZone::UTC).strftime("%m-%d %H:%M:%S").to_string()
}

fn note(reactor: &mut Context<Dues>, dues: &mut Dues, run: Run) {
    let Some(late) = reactor.tick().count().checked_sub(run.due().tick.count()) else {
        panic!("early")
    };
    assert!(reactor.wall() >= run.due().wall, "early by the wall clock");
    let late = if late == 0 { String::new() } else { format!(" +{} s", late.div_ceil(1000)) };
    dues.push(text(run.due().wall) + &late);
    run.ok();
}

/// A loop whose wall clock shows `start`, with one task of that schedule.
fn with(start: &str, schedule: Schedule) -> (ManualClock, Reactor<Dues>, Queue) {
    let clock = ManualClock::new();
    clock.set_wall(at(start));
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let queue = TaskQueue::new().open(&mut reactor).unwrap();
    queue.add(&mut reactor, Task::new("line", schedule), note).unwrap();
    (clock, reactor, queue)
}

fn run_for(reactor: &mut Reactor<Dues>, dues: &mut Dues, time: Duration) {
    let stopper = reactor.after(time, |reactor, _| {
        reactor.enqueue(Default::default(), |reactor, _| {
            reactor.enqueue(Default::default(), |reactor, _| reactor.stop());
        });
    });
    reactor.unref(stopper);
    reactor.run(dues).unwrap();
}

/// For when a line is due from `start` on, for so long.
fn dues(start: &str, line: &str, zone: &str, time: Duration) -> Dues {
    let (_, mut reactor, _) = with(start, Schedule::cron_in(line, zone).unwrap());
    let mut dues = Dues::new();
    run_for(&mut reactor, &mut dues, time);
    dues
}

#[test]
fn lines_are_due_when_they_say_and_not_a_moment_early_or_late() {
    let day = |line| dues("2026-01-30 12:00:00", line, "UTC", DAY * 3);
    assert_eq!(day("30 3 * * *"), ["01-31 03:30:00", "02-01 03:30:00", "02-02 03:30:00"]);
    assert_eq!(day("0 0 L * *"), ["01-31 00:00:00"]);
    assert_eq!(day("0 12 * * SUN"), ["02-01 12:00:00"]);
    assert_eq!(day("@monthly"), ["02-01 00:00:00"]);
    assert_eq!(day("15 0 0 1 2 * 2026"), ["02-01 00:00:15"]);
    assert_eq!(day("0 0 0 1 1 * 2025"), [""; 0], "a year that has passed");
    let minute = dues("2026-01-30 12:00:00.250", "*/20 * * * * *", "UTC", MINUTE);
    assert_eq!(minute, ["01-30 12:00:20", "01-30 12:00:40", "01-30 12:01:00"]);
}

#[test]
fn a_line_goes_by_the_zone_it_was_given() {
    let winter = |zone| dues("2026-01-30 00:00:00", "30 3 * * *", zone, DAY);
    assert_eq!(winter("Europe/Vienna"), ["01-30 02:30:00"]);
    assert_eq!(winter("America/New_York"), ["01-30 08:30:00"]);
    assert_eq!(winter("Asia/Kolkata"), ["01-30 22:00:00"]);
    // The zone of the system, whichever it is, has a minute zero in each hour or two.
    let (_, mut reactor, _) = with("2026-01-30 00:00:01", Schedule::cron("0 * * * *").unwrap());
    let mut dues = Dues::new();
    run_for(&mut reactor, &mut dues, HOUR * 2);
    assert_eq!(dues.len(), 2);
}

#[test]
fn an_hour_that_is_skipped_moves_fixed_times_behind_it_and_one_that_repeats_runs_them_once() {
    // Vienna: on 29 March 2026 01:00 UTC it is 3 o'clock instead of 2, on 25 October 01:00 UTC 2
    // instead of 3.
    let spring = |line| dues("2026-03-29 00:10:00", line, "Europe/Vienna", HOUR * 2);
    assert_eq!(spring("30 2 * * *"), ["03-29 01:00:00"]);
    assert_eq!(
        spring("*/30 * * * *"),
        ["03-29 00:30:00", "03-29 01:00:00", "03-29 01:30:00", "03-29 02:00:00"]
    );
    let autumn = |line| dues("2026-10-24 23:50:00", line, "Europe/Vienna", HOUR * 3);
    assert_eq!(autumn("30 2 * * *"), ["10-25 00:30:00"]);
    assert_eq!(autumn("0 */2 * * *"), ["10-25 00:00:00", "10-25 01:00:00"]);
}

#[test]
fn a_clock_set_back_never_makes_a_line_due_twice_for_the_same_time() {
    let (clock, mut reactor, _) =
        with("2026-01-30 02:00:00", Schedule::cron_in("0 3 * * *", "UTC").unwrap());
    let mut dues = Dues::new();
    run_for(&mut reactor, &mut dues, HOUR * 2);
    assert_eq!(dues, ["01-30 03:00:00"]);
    clock.set_wall(at("2026-01-30 01:30:00"));
    run_for(&mut reactor, &mut dues, HOUR * 3);
    assert_eq!(dues.len(), 1, "it has been three o'clock before");
    run_for(&mut reactor, &mut dues, HOUR * 23);
    assert_eq!(dues[1..], ["01-31 03:00:00"]);
}

#[test]
fn a_clock_set_back_makes_a_line_due_for_what_it_did_not_run_before() {
    let (clock, mut reactor, queue) =
        with("2026-01-30 04:00:00", Schedule::cron_in("0 3 * * *", "UTC").unwrap());
    let mut dues = Dues::new();
    run_for(&mut reactor, &mut dues, HOUR);
    clock.set_wall(at("2026-01-30 02:30:00"));
    run_for(&mut reactor, &mut dues, MINUTE * 2);
    let next = reactor[queue].tasks().next().unwrap().next.unwrap();
    assert_eq!(next.wall, at("2026-01-30 03:00:00"), "it is noticed within a minute");
    run_for(&mut reactor, &mut dues, HOUR);
    assert_eq!(dues, ["01-30 03:00:00"]);
}

#[test]
fn a_clock_that_was_wrong_by_years_does_not_silence_a_line_when_it_is_set_right() {
    let (clock, mut reactor, _) =
        with("2026-01-30 02:00:00", Schedule::cron_in("0 3 * * *", "UTC").unwrap());
    let mut dues = Dues::new();
    clock.set_wall(at("2036-01-30 02:58:00"));
    run_for(&mut reactor, &mut dues, MINUTE * 3);
    assert_eq!(dues, ["01-29 03:00:00 +60 s", "01-30 03:00:00"], "of 2036");
    clock.set_wall(at("2026-01-30 02:10:00"));
    run_for(&mut reactor, &mut dues, HOUR * 24);
    assert_eq!(dues[2..], ["01-30 03:00:00"], "of 2026");
}

#[test]
fn a_clock_set_on_over_many_occurrences_makes_up_for_one_and_counts_the_rest() {
    let (clock, mut reactor, queue) =
        with("2026-01-30 02:00:30", Schedule::cron_in("* * * * *", "UTC").unwrap());
    let mut dues = Dues::new();
    run_for(&mut reactor, &mut dues, MINUTE);
    clock.set_wall(at("2026-01-30 12:00:30"));
    run_for(&mut reactor, &mut dues, MINUTE * 2);
    // It had looked at 02:01 and does again a minute later.
    let expected = ["01-30 02:01:00", "01-30 12:01:00", "01-30 12:02:00"];
    assert_eq!(dues, expected);
    let counts = reactor[queue].tasks().next().unwrap().counts;
    assert_eq!((counts.runs, counts.missed), (3, 599));
}

#[test]
fn a_machine_that_slept_over_a_line_runs_it_once_within_a_minute_of_waking() {
    let nightly = Schedule::cron_in("0 3 * * *", "UTC").unwrap();
    let (clock, mut reactor, _) = with("2026-01-30 01:00:00", nightly);
    let mut dues = Dues::new();
    run_for(&mut reactor, &mut dues, MINUTE / 2);
    // The monotonic clock of Linux stands still meanwhile.
    clock.set_wall(at("2026-01-30 08:00:00"));
    run_for(&mut reactor, &mut dues, MINUTE);
    // The look of 01:01 finds it. Five hours late, but in ticks no more than the loop is old.
    assert_eq!(dues, ["01-30 03:00:00 +60 s"]);
    run_for(&mut reactor, &mut dues, HOUR * 18);
    assert_eq!(dues.len(), 1);
    run_for(&mut reactor, &mut dues, HOUR * 2);
    assert_eq!(dues[1..], ["01-31 03:00:00"]);
}

#[test]
fn a_year_is_passed_over_in_a_moment_with_the_latest_made_up_for() {
    let (clock, mut reactor, queue) = with("2026-01-30 02:00:00", Schedule::on_demand());
    clock.advance(Duration::from_secs(10));
    let many = Schedule::cron_in("* * * * * *", "UTC").unwrap();
    let many = Task::new("many", many).catch_up(3).overrun(Overrun::Queue(5));
    queue.add(&mut reactor, many, note).unwrap();
    clock.set_wall(at("2027-01-30 02:00:00"));
    let mut dues = Dues::new();
    run_for(&mut reactor, &mut dues, Duration::from_millis(1500));
    let expected = ["01-30 01:59:59 +2 s", "01-30 02:00:00 +1 s", "01-30 02:00:01"];
    assert_eq!(dues, expected);
    let many = reactor[queue].find("many").unwrap();
    assert_eq!(reactor[queue].task(many).unwrap().counts.missed, 1000 - 3, "and more");
}

#[test]
fn a_clock_that_is_set_to_and_fro_at_random_repeats_no_occurrence() {
    let mut rng = support::Rng::new();
    let (clock, mut reactor, _) =
        with("2026-01-30 02:00:00", Schedule::cron_in("*/7 * * * *", "UTC").unwrap());
    let mut dues = Dues::new();
    for _ in 0..300 {
        let by = rng.below(4 * 3_600_000) as i64 - 2 * 3_600_000;
        clock.set_wall(reactor.wall().plus_ms(by));
        run_for(&mut reactor, &mut dues, Duration::from_millis(rng.below(1_800_000)));
    }
    let runs = dues.len();
    dues.iter_mut().for_each(|due| due.truncate("01-30 02:00:00".len()));
    dues.dedup();
    assert!(runs > 50, "{runs}");
    assert!(dues.is_sorted() && dues.len() == runs, "{dues:?}");
}

#[test]
fn a_line_that_is_wrong_is_refused_with_the_field_that_is() {
    let refused = |line| Schedule::cron_in(line, "UTC").unwrap_err().to_string();
    for (line, why) in [
        ("61 * * * *", "minute \"61\": number out of bounds"),
        ("0 0 25 * * *", "hour \"25\": number out of bounds"),
        ("* * 1-32 * *", "day of the month \"1-32\": range out of bounds"),
        ("0 0 * 13 *", "month \"13\": number out of bounds"),
        ("0 0 * * FUN", "day of the week \"FUN\": a character that has no place there"),
        ("*/0 * * * *", "minute \"*/0\": step cannot be zero"),
        ("x * * * * * *", "second \"x\": a character that has no place there"),
        ("0 0 30 2 *", "no day is like that"),
        ("@often", NAMES),
        ("@every 5m", NAMES),
        ("@ midnight", NAMES),
    ] {
        assert_eq!(refused(line), format!("cron line {line:?}: {why}"));
    }
    for line in ["", "* * *", "* * * * * * * *"] {
        let fields = line.split(' ').filter(|field| !field.is_empty()).count();
        let begin = format!("cron line {line:?}: it has {fields} fields and wants 5: minute, hour");
        assert!(refused(line).starts_with(&begin), "{}", refused(line));
    }
    let error = Schedule::cron_in("* * * * *", "Europe/Atlantis").unwrap_err();
    assert!(matches!(&error, TaskError::Schedule(why) if why.contains("Europe/Atlantis")));
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
}

const NAMES: &str =
    "it knows @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly and @reboot";

#[test]
fn the_names_of_cron_stand_for_their_lines_in_any_case() {
    let year = |line| dues("2025-12-28 12:00:00", line, "UTC", DAY * 7);
    for name in ["@yearly", "@annually", "@Annually", "@monthly"] {
        assert_eq!(year(name), ["01-01 00:00:00"], "{name}");
    }
    assert_eq!(year("@weekly"), ["01-04 00:00:00"], "a Sunday");
    let days = |line| dues("2026-01-30 12:00:00", line, "UTC", DAY * 2);
    for name in ["@daily", "@midnight", "@MidNight", " @midnight "] {
        assert_eq!(days(name), ["01-31 00:00:00", "02-01 00:00:00"], "{name}");
    }
    let hours = dues("2026-01-30 12:30:00", "@hourly", "UTC", HOUR * 2);
    assert_eq!(hours, ["01-30 13:00:00", "01-30 14:00:00"]);
}

#[test]
fn a_line_for_the_reboot_is_due_once_when_it_is_added() {
    for line in ["@reboot", "@REBOOT"] {
        let (_, mut reactor, queue) = with("2026-01-30 12:00:00", Schedule::cron(line).unwrap());
        let mut dues = Dues::new();
        reactor.run(&mut dues).unwrap();
        assert_eq!(dues, ["01-30 12:00:00"]);
        assert!(reactor[queue].is_empty(), "it has had its run");
    }
    assert!(Schedule::cron_in("@reboot", "Europe/Atlantis").is_err());
}

#[test]
fn a_day_that_a_zone_left_out_has_no_run_and_ends_no_line() {
    // In Samoa it was 31 December 2011 after the 29th: at 10:00 UTC on the 30th, UTC-10 became
    // UTC+14.
    let samoa = |line| dues("2011-12-29 12:00:00", line, "Pacific/Apia", DAY * 3);
    assert_eq!(samoa("0 12 * * *"), ["12-29 22:00:00", "12-30 22:00:00", "12-31 22:00:00"]);
    // An hour before the end of the gap, and at it.
    assert_eq!(samoa("0 23 * * *"), ["12-30 09:00:00", "12-31 09:00:00", "01-01 09:00:00"]);
    assert_eq!(samoa("@midnight"), ["12-30 10:00:00", "12-31 10:00:00", "01-01 10:00:00"]);
    assert_eq!(samoa("0 */8 * * *")[..3], ["12-29 18:00:00", "12-30 02:00:00", "12-30 10:00:00"]);
    // By the day of the month, and of the week: it would have been a Friday.
    assert_eq!(samoa("0 12 30 * *"), [""; 0]);
    let weeks = dues("2011-12-29 12:00:00", "0 12 * * FRI", "Pacific/Apia", DAY * 9);
    assert_eq!(weeks, ["01-05 22:00:00"]);
    // The Line Islands had no 31 December 1994, Kwajalein no 21 August 1993 (nor 22 hours of it).
    let noons = |start, zone| dues(start, "0 12 * * *", zone, DAY * 2);
    let line = noons("1994-12-30 12:00:00", "Pacific/Kiritimati");
    assert_eq!(line, ["12-30 22:00:00", "12-31 22:00:00"]);
    let kwajalein = noons("1993-08-20 12:00:00", "Pacific/Kwajalein");
    assert_eq!(kwajalein, ["08-21 00:00:00", "08-22 00:00:00"]);
}

#[test]
fn a_gap_of_hours_moves_a_fixed_time_behind_it_however_long_it_is() {
    // Casey, Antarctica, 18 October 2009: 2 o'clock was 5 o'clock, at 18:00 UTC the day before.
    let casey = |line| dues("2009-10-17 00:00:00", line, "Antarctica/Casey", DAY);
    assert_eq!(casey("30 2 * * *"), ["10-17 18:00:00"]);
    assert_eq!(casey("59 4 * * *"), ["10-17 18:00:00"]);
    assert_eq!(casey("30 5 * * *"), ["10-17 18:30:00"]);
}

#[test]
fn occurrences_missed_around_a_day_that_was_left_out_are_counted_and_made_up_for() {
    let noon = Schedule::cron_in("0 12 * * *", "Pacific/Apia").unwrap();
    let (clock, mut reactor, queue) = with("2011-12-27 12:00:00", Schedule::on_demand());
    clock.advance(DAY);
    let noon = Task::new("noon", noon).catch_up(3).overrun(Overrun::Queue(5));
    queue.add(&mut reactor, noon, note).unwrap();
    clock.set_wall(at("2012-01-01 12:00:00"));
    let mut dues = Dues::new();
    run_for(&mut reactor, &mut dues, MINUTE * 2);
    dues.iter_mut().for_each(|due| due.truncate("01-30 02:00:00".len()));
    assert_eq!(dues, ["12-29 22:00:00", "12-30 22:00:00", "12-31 22:00:00"]);
    let noon = reactor[queue].find("noon").unwrap();
    assert_eq!(reactor[queue].task(noon).unwrap().counts.missed, 1, "that of the 28th");
}

#[test]
fn a_clock_outside_of_the_years_that_are_known_is_told_and_ends_no_line() {
    const MS_OF_YEAR: i64 = 31_556_952_000;
    // The year 5000 is croner's end, 9999 jiff's, and the last that of the clock itself.
    for wrong in [4000 * MS_OF_YEAR, 9000 * MS_OF_YEAR, -3000 * MS_OF_YEAR, i64::MAX / 2] {
        let (clock, mut reactor, queue) =
            with("2026-01-30 02:00:00", Schedule::cron_in("0 3 * * *", "UTC").unwrap());
        clock.set_wall(WallTime::from_unix_ms(wrong));
        let noon = Task::new("noon", Schedule::cron_in("@daily", "UTC").unwrap());
        queue.add(&mut reactor, noon, note).unwrap();
        let mut dues = Dues::new();
        run_for(&mut reactor, &mut dues, MINUTE * 10);
        dues.clear(); // One was due in between, by that clock.
        let told = |record: &Record| matches!(record.outcome, Outcome::Unscheduled(_));
        let records: Vec<_> = reactor[queue].history().filter(|record| told(record)).collect();
        let noons: Vec<_> = records.iter().filter(|record| &*record.name == "noon").collect();
        assert_eq!(noons.len(), 1, "once, though it is looked at again");
        let why = "cannot tell when it is due next: \
            the wall clock is outside of the years 1 to 4999";
        assert_eq!(noons[0].outcome.to_string(), why);
        let status = reactor[queue].task(noons[0].task).unwrap();
        assert_eq!((status.last, status.next), (Some(&noons[0].outcome), None));
        clock.set_wall(at("2026-01-30 02:30:00"));
        run_for(&mut reactor, &mut dues, DAY);
        assert_eq!(dues, ["01-30 03:00:00", "01-31 00:00:00"], "{wrong}");
    }
}

/// What a program prints that ends by itself, with this code.
fn printed(args: &[&str], code: i32) -> (String, String) {
    let output = output("tasks", args);
    assert_eq!(output.status.code(), Some(code), "{args:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn the_example_always_tells_the_same_hour() {
    assert_eq!(printed(&["--fast"], 0), (HOUR_OF_TASKS.to_owned(), String::new()));
}

#[test]
fn the_example_helps_and_refuses_in_one_line() {
    let (help, _) = printed(&["--help"], 0);
    assert!(help.starts_with("Usage: tasks [OPTIONS]") && help.contains("-h, --help"), "{help}");
    assert!(help.contains("--fast"));
    for (arg, said) in
        [("--nonsense", "'--nonsense'"), ("7001", "\"7001\""), ("--fast=1", "--fast")]
    {
        let (out, error) = printed(&[arg], 2);
        assert!(out.is_empty() && error.lines().count() == 1, "{out}{error}");
        assert!(error.starts_with("error: ") && error.contains(said), "{error}");
    }
}

const HOUR_OF_TASKS: &str = "\
four tasks for an hour, two at once
00:03:02  poll   done in 2s
00:06:02  poll   done in 2s
00:09:02  poll   done in 2s
00:10:01  sweep  done in 1s
00:12:02  poll   done in 2s
00:15:02  poll   done in 2s
00:15:05  upload done in 5s
00:18:02  poll   done in 2s
00:20:01  sweep  done in 1s
00:21:02  poll   done in 2s
00:24:02  poll   done in 2s
00:27:02  poll   done in 2s
00:30:00  upload failed: the server is busy, again in 10s
00:30:01  sweep  done in 1s
00:30:10  upload failed: the server is busy, attempt 2, again in 20s
00:30:35  upload done in 5s, attempt 3
00:34:00  poll   done in 240s
00:36:00  poll   skipped 1
00:36:02  poll   done in 2s
00:39:02  poll   done in 2s
00:40:01  sweep  done in 1s
00:42:02  poll   done in 2s
00:45:02  poll   done in 2s
00:45:02  report done, began 2s late
00:45:05  upload done in 5s
00:48:02  poll   done in 2s
00:50:01  sweep  done in 1s
00:51:02  poll   done in 2s
00:54:02  poll   done in 2s
00:57:02  poll   done in 2s

        runs  failed  skipped  next
poll      18       0        1  01:00:00
report     1       0        0  01:45:00
sweep      5       0        0  01:00:00
upload     5       2        0  01:00:00
";

/// For when a line is due that was last taken care of at `since`, with the clock at `start`.
fn dues_since(since: &str, start: &str, line: &str, runs: u32) -> Dues {
    let clock = ManualClock::new();
    clock.set_wall(at(start));
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let queue = TaskQueue::new().open(&mut reactor).unwrap();
    let schedule = Schedule::cron_in(line, "UTC").unwrap().since(at(since));
    let task = Task::new("line", schedule).catch_up(runs).overrun(Overrun::Queue(9));
    queue.add(&mut reactor, task, note).unwrap();
    let mut dues = Dues::new();
    run_for(&mut reactor, &mut dues, HOUR);
    dues.into_iter().map(|due| due.split(" +").next().unwrap().to_owned()).collect()
}

#[test]
fn occurrences_since_an_earlier_process_are_caught_up_when_the_task_is_added() {
    let (noon, line) = ("2026-05-04 12:10:00", "*/30 * * * *");
    let next = "05-04 12:30:00";
    assert_eq!(dues_since("2026-05-04 12:05:00", noon, line, 2), [next, "05-04 13:00:00"]);
    for (runs, caught) in [
        (1, &["05-04 12:00:00"][..]),
        (2, &["05-04 11:30:00", "05-04 12:00:00"]),
        (9, &["05-04 11:00:00", "05-04 11:30:00", "05-04 12:00:00"]),
    ] {
        let all = [caught, &[next, "05-04 13:00:00"]].concat();
        assert_eq!(dues_since("2026-05-04 10:30:00", noon, line, runs), all, "{runs}");
    }
}

#[test]
fn what_an_earlier_process_ran_is_not_due_again_after_the_clock_was_set_back() {
    let (back, line) = ("2026-05-04 12:10:00", "*/30 * * * *");
    assert_eq!(dues_since("2026-05-04 12:30:00", back, line, 3), ["05-04 13:00:00"]);
    // It was wrong, and by more than a day.
    let all = ["05-04 12:30:00", "05-04 13:00:00"];
    assert_eq!(dues_since("2036-05-04 12:30:00", back, line, 3), all);
}
