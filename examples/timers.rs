//! Timers: once, again and again, cancelled, re-armed; and the effect of a slow callback.
//!
//! Run:  cargo run --release --example timers
//! Then: cargo run --release --example timers -- --fast        the same on a clock that jumps
//! See:  four repeating timers of 100 ms. The third run of `work` takes 250 ms, and nothing else
//!       runs meanwhile: there is one thread. Each policy makes up for the rest in its own way.
//! Look: the three `Missed` in `arm`; and `take_time`: `--fast` changes only that and the clock.
//! Next: let `work` take 1,200 ms and count; a watchdog that `idle` re-arms when something happens.

use std::time::{Duration, Instant};

use waterwheel::reactor::{Missed, Occurrence};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor};

mod cli;

const USAGE: &str = "\
Usage: timers [OPTIONS]

Shows on a timeline when timers run, for somewhat less than a second.

Options:
  --fast          let time jump from one deadline to the next
  -h, --help      show this";

const PERIOD: Duration = ms(100);
/// The time of the third run of `work`.
const WORK: Duration = ms(250);
const END: Duration = ms(875);
/// From this on a run counts as late; on a busy machine it may be 1 or 2 ms late.
const LATE: Duration = ms(10);
/// A column of the picture.
const COLUMN_MS: u128 = 25;
const ROWS: [&str; 7] = ["once", "never", "idle", "skip", "burst", "delay", "work"];

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn main() {
    let args = cli::parse_all(USAGE, "", &[], &["--fast"]);
    cli::exit_on_error(run(args.has("--fast")));
}

fn run(fast: bool) -> Result<(), String> {
    let clock = ManualClock::new();
    let builder = if fast { Reactor::builder().clock(&clock) } else { Reactor::builder() };
    let mut reactor = builder.build().map_err(|error| error.to_string())?;
    let mut timeline = Timeline { start: reactor.now(), marks: Vec::new() };
    arm(&mut reactor, move |time| match fast {
        true => clock.advance(time),
        false => std::thread::sleep(time), // Never do this in a callback; you are about to see why.
    });
    reactor.run(&mut timeline).map_err(|error| error.to_string())?;
    cli::print(timeline.picture());
    Ok(())
}

/// Arms everything; `run` returns when none of it is left.
fn arm(reactor: &mut Reactor<Timeline>, take_time: impl Fn(Duration) + 'static) {
    let never = reactor.after(ms(150), |reactor, timeline| {
        timeline.note(reactor, "never", 'o', "ran, though it was cancelled");
    });
    let idle = reactor.after(ms(150), |reactor, timeline| {
        timeline.note(reactor, "idle", 'o', "ran");
    });
    reactor.after(ms(50), move |reactor, timeline| {
        timeline.note(reactor, "once", 'o', "ran");
        if reactor.cancel(never) {
            timeline.note(reactor, "never", 'x', "cancelled, it was due at 150");
        }
        if reactor.rearm(idle, ms(200)) {
            timeline.note(reactor, "idle", '>', "put off from 150 to 250");
        }
    });
    let policies = [("skip", Missed::Skip), ("burst", Missed::Burst), ("delay", Missed::Delay)];
    let mut repeating = Vec::from(policies.map(|(row, missed)| {
        reactor.every(PERIOD, missed, move |reactor, timeline, occurrence| {
            timeline.ran(reactor, row, occurrence);
        })
    }));
    let mut runs = 0;
    repeating.push(reactor.every(PERIOD, Missed::Skip, move |reactor, timeline, occurrence| {
        timeline.ran(reactor, "work", occurrence);
        runs += 1;
        if runs == 3 {
            timeline.note(reactor, "work", '#', "takes 250 ms, and the loop with it");
            take_time(WORK);
        }
    }));
    reactor.after(END, move |reactor, _| {
        for timer in repeating {
            reactor.cancel(timer);
        }
    });
}

/// The runs so far, for the picture.
struct Timeline {
    start: Instant,
    /// Milliseconds from the start, the row, and the sign to draw there.
    marks: Vec<(u128, &'static str, char)>,
}

impl Timeline {
    fn note(&mut self, reactor: &Context<Timeline>, row: &'static str, sign: char, what: &str) {
        let at = (reactor.now() - self.start).as_millis();
        cli::print(format_args!("{at:>4} ms  {row:<6} {what}"));
        self.marks.push((at, row, sign));
    }

    fn ran(&mut self, reactor: &Context<Timeline>, row: &'static str, occurrence: Occurrence) {
        let due = (occurrence.deadline - self.start).as_millis();
        let late = reactor.now() - occurrence.deadline;
        if late < LATE {
            return self.note(reactor, row, 'o', "on time");
        }
        let (late, missed) = (late.as_millis(), occurrence.missed);
        let what = format!("due at {due}, {late} ms late, {missed} missed");
        self.note(reactor, row, 'L', &what);
    }

    /// A row for each timer; a column that holds several runs shows their number.
    fn picture(&self) -> String {
        let columns = END.as_millis() / COLUMN_MS;
        let hundreds: String = (0..=8).map(|hundred| format!("{:<4}", hundred * 100)).collect();
        let mut picture = format!("\n  ms    {}\n", hundreds.trim_end());
        for row in ROWS {
            let signs: String = (0..columns).map(|column| self.sign(row, column)).collect();
            picture += &format!("  {row:<5} {signs}\n");
        }
        picture + "\n  o on time  L late  2 two at once  # busy  x cancelled  > put off"
    }

    fn sign(&self, row: &str, column: u128) -> char {
        let own = || self.marks.iter().filter(|(_, of, _)| *of == row);
        let signs: Vec<char> = own()
            .filter(|(at, _, sign)| at / COLUMN_MS == column && *sign != '#')
            .map(|(_, _, sign)| *sign)
            .collect();
        let busy = |at: u128| (at..at + WORK.as_millis()).contains(&(column * COLUMN_MS));
        match signs[..] {
            [] if own().any(|(at, _, sign)| *sign == '#' && busy(*at)) => '#',
            [] => '.',
            [sign] => sign,
            _ => char::from_digit(signs.len() as u32, 36).unwrap_or('+'),
        }
    }
}
