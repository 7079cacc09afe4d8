//! Tasks: named work on a schedule that may be slow, may fail and must not pile up.
//!
//! Run:  cargo run --release --features cron --example tasks -- --fast      an hour in a moment
//! Then: cargo run --release --features cron --example tasks                the hour itself
//! See:  each tenth `poll` takes four minutes and is due again after three: one is skipped. The second
//!       `upload` fails twice and is tried again after 10 and after 20 seconds. At 00:45 three are due
//!       and two may run at once, so `report`, by the clock on the wall, has to wait.
//! Look: `run.ok()` in `take`, long after the callback of the task has returned.
//! Next: let `poll` overrun with `Overrun::Queue(1)`; give it a timeout; pause the queue for a while.

use std::time::Duration;

use waterwheel::patterns::Backoff;
use waterwheel::patterns::tasks::{Record, Run, Schedule, Task, TaskQueue};
use waterwheel::reactor::Priority;
use waterwheel::timers::{ManualClock, Tick};
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: tasks [OPTIONS]

Runs four tasks for an hour and tells of each run.

Options:
  --fast          let time jump from one deadline to the next
  -h, --help      show this";

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The state that the tasks share: the number of polls and uploads.
#[derive(Default)]
struct Counts {
    polls: u32,
    uploads: u32,
}

type Queue = SourceId<TaskQueue<Counts>>;

fn main() {
    let args = cli::parse_all(USAGE, "", &[], &["--fast"]);
    cli::exit_on_error(run(args.has("--fast")).map_err(|error| error.to_string()));
}

fn run(fast: bool) -> std::io::Result<()> {
    let builder = Reactor::builder();
    let builder = if fast { builder.clock(&ManualClock::new()) } else { builder };
    let mut reactor = builder.build()?;
    cli::print("four tasks for an hour, two at once");
    let queue = TaskQueue::new().runs_max(2).open(&mut reactor)?;
    queue.on_end(&mut reactor, |reactor, _, record| tell(reactor, record));

    let every = |minutes| Schedule::every(minutes * MINUTE);
    let poll = Task::new("poll", every(3)).priority(Priority::High);
    queue.add(&mut reactor, poll, |reactor, counts: &mut Counts, run| {
        counts.polls += 1;
        if run.passed() > 0 {
            cli::print(format_args!("{}  poll   skipped {}", clock(reactor.tick()), run.passed()));
        }
        take(reactor, run, if counts.polls.is_multiple_of(10) { 4 * MINUTE } else { 2 * SECOND });
    })?;

    let retry = Backoff::new(3).first(10 * SECOND).jitter_percent(0);
    let upload = Task::new("upload", every(15)).retry(retry);
    queue.add(&mut reactor, upload, |reactor, counts, run| {
        counts.uploads += 1;
        match counts.uploads {
            2 | 3 => run.fail("the server is busy"),
            _ => take(reactor, run, 5 * SECOND),
        }
    })?;

    let sweep = Task::new("sweep", every(10)).priority(Priority::Low);
    queue.add(&mut reactor, sweep, |reactor, _, run| take(reactor, run, SECOND))?;

    // In UTC, so that --fast always prints the same; `Schedule::cron` goes by the system's zone.
    let report = Task::new("report", Schedule::cron_in("45 * * * *", "UTC")?);
    queue.add(&mut reactor, report, |_, _, run| run.ok())?;

    reactor.after(HOUR, move |reactor, _| summary(reactor, queue));
    reactor.run(&mut Counts::default())
}

/// Ends the run after some time: stands for a job or a request.
fn take(reactor: &mut Context<Counts>, run: Run, time: Duration) {
    reactor.after(time, move |_, _| run.ok());
}

/// A line for each run that ended.
fn tell(reactor: &Context<Counts>, record: &Record) {
    let Record { name, due, started, ended, attempt, outcome, again, .. } = record;
    let took = Duration::from_millis(ended.tick.since(started.tick));
    let mut line = format!("{}  {name:<6} {outcome}", clock(reactor.tick()));
    if !took.is_zero() {
        line += &format!(" in {took:?}");
    }
    if *attempt == 1 && started.tick > due.tick {
        line += &format!(", began {:?} late", Duration::from_millis(started.tick.since(due.tick)));
    }
    if *attempt > 1 {
        line += &format!(", attempt {attempt}");
    }
    if let Some(again) = again {
        line += &format!(", again in {again:?}");
    }
    cli::print(line);
}

/// Prints a summary of the tasks, and ends the program: a task that repeats does not end by itself.
fn summary(reactor: &mut Context<Counts>, queue: Queue) {
    cli::print("\n        runs  failed  skipped  next");
    for task in reactor[queue].tasks() {
        let next = task.next.map_or("never".to_owned(), |next| clock(next.tick));
        let counts = task.counts;
        cli::print(format_args!(
            "{:<6} {:>5} {:>7} {:>8}  {next}",
            task.name, counts.runs, counts.failures, counts.skipped
        ));
    }
    reactor.stop();
}

/// The loop's time as hours, minutes and seconds.
fn clock(tick: Tick) -> String {
    let seconds = tick.count() / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
