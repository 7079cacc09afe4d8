//! Order: a puzzle. What runs first?
//!
//! Run:  cargo run --release --example order | less
//! Then: write down the twelve letters in the order you expect, and read on.
//! See:  the loop's own record of what ran, drawn in lanes, and the rule that decided each time.
//! Look: `puzzle`, which is printed from this very file; the rules are in `reactor/mod.rs`.
//! Next: move `L` to the top, or `K` into `G`: which letters change places? Cancel `E`, if you can.

use std::error::Error;
use std::io::{PipeReader, Write, pipe};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use waterwheel::Reactor;
use waterwheel::net::Fd;
use waterwheel::reactor::{Interest, Kind, LoopEvent, Priority, Recorder};
use waterwheel::timers::ManualClock;

mod cli;

const USAGE: &str = "\
Usage: order [OPTIONS]

Prints a short program, the order in which its callbacks run, and why.

Options:
  -h, --help      show this";

/// Twelve callbacks, each with a letter to add. The pipe has something to read.
#[rustfmt::skip]
fn puzzle(reactor: &mut Reactor<String>, readable: PipeReader) -> Result<(), Box<dyn Error>> {
    let a = reactor.after(Duration::ZERO, |_, seen| seen.push('A'));
    reactor.after(Duration::ZERO, |reactor, seen| {
        seen.push('B');
        reactor.after(Duration::ZERO, |_, seen| seen.push('C'));
    });
    reactor.register(Fd(readable), Interest::READABLE, move |reactor, seen, id, _| {
        seen.push('D');
        reactor.cancel(a);
        reactor.deregister(id);
    })?;
    reactor.remote().post(|_, seen| seen.push('E'))?;
    reactor.enqueue(Priority::Low, |_, seen| seen.push('F'));
    reactor.enqueue(Priority::Normal, |reactor, seen| {
        seen.push('G');
        reactor.enqueue(Priority::High, |_, seen| seen.push('H'));
        reactor.defer(|reactor, seen| {
            seen.push('I');
            reactor.defer(|_, seen| seen.push('J'));
        });
    });
    reactor.enqueue(Priority::High, |_, seen| seen.push('K'));
    reactor.defer(|_, seen| seen.push('L'));
    Ok(())
}

const SOURCE: &str = include_str!("order.rs");
const ROWS: [&str; 4] = ["deferred", "High", "Normal", "Low"];

fn main() {
    cli::parse(USAGE, "", &[]);
    cli::exit_on_error(run().map_err(|error| error.to_string()));
}

fn run() -> Result<(), Box<dyn Error>> {
    let code = SOURCE.lines().skip_while(|line| !line.starts_with("fn puzzle"));
    let code: Vec<&str> = code.skip(1).take_while(|line| !line.contains("Ok(())")).collect();
    cli::print(format_args!("What runs first?\n\n{}\n", code.join("\n")));

    let recorder = Recorder::new();
    // Time stands still, so that a delay of zero is over in the turn that follows.
    let builder = Reactor::builder().clock(&ManualClock::new()).observer(recorder.observer());
    let mut reactor = builder.build()?;
    let (readable, mut writer) = pipe()?;
    fcntl(&readable, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?; // A read of it must not stop the loop.
    writer.write_all(b"!")?;
    puzzle(&mut reactor, readable)?;
    let mut seen = String::new();
    reactor.run(&mut seen)?;
    cli::print(format_args!("{seen}\n\n{}", explain(&recorder.take())));
    Ok(())
}

/// The picture, and under it a line for each callback.
fn explain(events: &[LoopEvent]) -> String {
    let mut rows = ROWS.map(|name| format!("  {name:<10}"));
    let mut head = format!("  {:<10}", "");
    let mut reasons = String::new();
    for event in events {
        if event.kind == Kind::Turn {
            rows.iter_mut().for_each(|row| row.push_str(" |"));
            head += &" ".repeat(rows[0].len() - 1 - head.len());
            head += &format!("| turn {}", event.argument);
        }
        let Some(reason) = reason(event, events) else { continue };
        reasons += &format!("  {}  {reason}\n", letter(event));
        if event.kind == Kind::Cancelled {
            continue; // It has a reason and no place in the picture.
        }
        for (at, row) in rows.iter_mut().enumerate() {
            row.push(' ');
            row.push(if at == row_of(event) { letter(event) } else { '.' });
        }
    }
    format!("{head}\n{}\n\n{reasons}", rows.join("\n")).trim_end().to_owned()
}

/// Why a callback runs just then, with the rule; `None` for records of anything else.
fn reason(event: &LoopEvent, events: &[LoopEvent]) -> Option<String> {
    let by = events.iter().find(|cause| cause.sequence == event.cause).map(letter);
    Some(match (event.kind, by, row_of(event)) {
        (Kind::RunDeferred, None, _) => {
            "deferred before the loop ran: before any event (R2)".into()
        }
        (Kind::RunDeferred, Some(by), _) => {
            format!("deferred by {by}: before the next event (R2)")
        }
        (Kind::RunEnqueued, Some(by), _) => {
            format!("enqueued by {by}: not before the next turn, whatever its lane (R2)")
        }
        (Kind::RunEnqueued, None, 1) => "lane High: first of its turn (R7)".into(),
        (Kind::RunEnqueued, None, 3) => "lane Low: last, and yet of this turn (R7)".into(),
        (Kind::RunEnqueued, None, _) => {
            "lane Normal: queued before the loop looked at its sources".into()
        }
        (Kind::RunSource, ..) => "the pipe is readable: I/O before timers (R3)".into(),
        (Kind::RunTimer, ..) => "a timer that is up: behind the I/O of its turn (R3)".into(),
        (Kind::RunPosted, ..) => "a post: collected last".into(),
        (Kind::Cancelled, Some(by), _) => {
            format!("never runs: was up, but {by} of the same turn cancelled it (R3)")
        }
        _ => return None,
    })
}

/// Sources, timers and posts wait in lane Normal; the others say where, in the line that made them.
fn row_of(event: &LoopEvent) -> usize {
    let line = SOURCE.lines().nth(event.place.line() as usize - 1).unwrap_or_default();
    match event.kind {
        Kind::RunDeferred => 0,
        _ if line.contains("Priority::High") => 1,
        _ if line.contains("Priority::Low") => 3,
        _ => 2,
    }
}

/// The letter that the callback adds: the first one in or after the line that made the callback.
fn letter(event: &LoopEvent) -> char {
    let lines = SOURCE.lines().skip(event.place.line() as usize - 1);
    let mut letters = lines.filter_map(|line| line.split("seen.push('").nth(1)?.chars().next());
    letters.next().unwrap_or('?')
}
