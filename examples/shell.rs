//! Shell: a small supervisor. Runs commands side by side, and again if they fail.
//!
//! Run:  cargo run --release --features process --example shell -- \
//!           'ping -c 3 localhost' 'sleep 1; echo hi' 'sleep 2; exit 3'
//! Then: Ctrl-C, which is passed on; a second one kills
//! See:  their lines as they come, with a number in front. The third fails and is started again
//!       after 0.1 s, 0.2 s, 0.4 s, and then given up; its exit code becomes ours.
//! Look: `ended`. The end of a child is delivered once, after the last of its output, so one
//!       function handles it.
//! Next: pass Ctrl-Z on; restart on SIGHUP. With `--list examples/article/list` it starts eight servers.

use std::fs;
use std::io;
use std::process::{Command, Stdio, exit};
use std::time::Duration;

use waterwheel::net::{self, Conn, Event, Framed, Lines, Pressure, framed};
use waterwheel::process::Signal;
use waterwheel::process::{Child, Spawn};
use waterwheel::timers::TimerId;
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: shell [OPTIONS] COMMAND...
       shell [OPTIONS] --list FILE

Runs each COMMAND with sh, all at the same time, and prints what they print with the
command's number in front. One that fails is started again. SIGINT and SIGTERM are
passed on, and nothing is started after that; the second one kills. That nobody reads
stdout any more counts as a SIGTERM.

FILE has a command in each line; empty lines and those that begin with # do not count.
A line may begin with 'NAME: ', which is printed instead of the number. Each command
is started when the one before it has printed a line on stdout, or is over.

The exit code is 0 if all ended with success, else that of the first that was given up,
or 128 and the signal's number.

Options:
  --list FILE      the commands, one after the other
  --restarts N     start a command again at most so often (default: 3)
  --backoff MS     wait so long before the first time, then twice as long each
                   time, 10 s at most (default: 100)
  -h, --help       show this";

/// The most bytes of a line. A command that prints a longer one is not read any further.
const LINE_BYTES_MAX: usize = 64 * 1024;
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long pipes that outlive all commands are read, once nobody pauses them any more.
const LAST_WORDS: Duration = Duration::from_millis(100);

struct Shell {
    jobs: Vec<Job>,
    out: SourceId<Conn>,
    restarts: u64,
    backoff: Duration,
    /// The signal that asked us to end.
    ending: Option<Signal>,
    /// Closes what is left, once all jobs are over.
    finish: Option<TimerId>,
    code: i32,
}

impl Shell {
    fn is_over(&self) -> bool {
        self.jobs.iter().all(|job| job.stage == Stage::Over)
    }
}

struct Job {
    /// Printed in front of its lines.
    name: String,
    command: String,
    stage: Stage,
    failures: u64,
    /// Its stdout and stderr, which are paused while nobody reads ours.
    pipes: Vec<SourceId<Conn>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// For the one before it in the list.
    Listed,
    Runs(SourceId<Child>),
    Waits(TimerId),
    Over,
}

fn main() {
    let args = cli::parse_values(USAGE, &["--list", "--restarts", "--backoff"], &[]);
    let mut code = 0;
    cli::exit_on_error(run(&args).map(|of_jobs| code = of_jobs));
    exit(code);
}

fn run(args: &cli::Args) -> Result<i32, String> {
    let text = |error: io::Error| error.to_string();
    let mut jobs = jobs(args);
    let restarts = args.number("--restarts").unwrap_or(3);
    let backoff = Duration::from_millis(args.number("--backoff").unwrap_or(100));
    let mut reactor = Reactor::new().map_err(text)?;
    for signal in [Signal::INT, Signal::TERM] {
        reactor.on_signal(signal, pass_on).map_err(text)?;
    }
    let stdout = net::stdout(&mut reactor).map_err(text)?;
    let out = stdout.open(&mut reactor, |reactor, shell: &mut Shell, _, event| match event {
        Event::Drained => {
            each_pipe(reactor, shell, |reactor, pipe| pipe.resume(reactor));
            finish_soon(reactor, shell);
        }
        Event::Closed(_) if shell.is_over() => finish(reactor, shell),
        // Nobody reads us any more (`shell … | head -3`).
        Event::Closed(_) => pass_on(reactor, shell, Signal::TERM),
        Event::Data(_) | Event::Eof => {}
    });
    let first = if args.text("--list").is_some() { 1 } else { jobs.len() };
    for (number, job) in jobs.iter_mut().enumerate().take(first) {
        job.stage = start_after(&mut reactor, number, Duration::ZERO);
    }
    let mut shell = Shell { jobs, out, restarts, backoff, ending: None, finish: None, code: 0 };
    cli::run(&mut reactor, &mut shell)?;
    Ok(shell.ending.map_or(shell.code, |signal| 128 + signal.as_raw()))
}

/// The jobs that the command line asks for. None of them is started.
fn jobs(args: &cli::Args) -> Vec<Job> {
    let path = args.text("--list");
    let cannot = |error| cli::bad_usage(format_args!("cannot read the list: {error}"));
    let list = path.map(|path| fs::read_to_string(path).unwrap_or_else(cannot));
    match (&list, args.values.is_empty()) {
        (None, true) => cli::bad_usage("no command to run; try --help"),
        (Some(_), false) => cli::bad_usage("wants commands, or a list of them; try --help"),
        _ => {}
    }
    let lines = list.iter().flat_map(|list| list.lines()).map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let commands = args.values.iter().map(String::as_str).chain(lines);
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let jobs = commands.enumerate().map(|(number, line)| {
        let named = line.split_once(": ").filter(|(name, _)| path.is_some() && is_name(name));
        let (name, command) = named
            .map_or(((number + 1).to_string(), line), |(name, command)| (name.to_owned(), command));
        let command = command.to_owned();
        Job { name, command, stage: Stage::Listed, failures: 0, pipes: Vec::new() }
    });
    let jobs: Vec<Job> = jobs.collect();
    if jobs.is_empty() {
        cli::bad_usage("no command in the list");
    }
    jobs
}

fn start_after(reactor: &mut Context<Shell>, number: usize, wait: Duration) -> Stage {
    Stage::Waits(reactor.after(wait, move |reactor, shell| start(reactor, shell, number)))
}

/// Starts a job, in a group of its own, so that a signal reaches all that it starts itself.
fn start(reactor: &mut Context<Shell>, shell: &mut Shell, number: usize) {
    let mut command = Command::new("sh");
    command.arg("-c").arg(&shell.jobs[number].command).stdin(Stdio::null());
    let spawn = Spawn::new(command).stdout().stderr().group().kill_on_drop();
    let spawned = spawn.open(reactor, move |reactor, shell: &mut Shell, _, exit| {
        ended(reactor, shell, number, &exit.to_string(), exit.code());
    });
    match spawned {
        Ok(spawned) => {
            let pipes = [(spawned.stdout, true), (spawned.stderr, false)].map(|(pipe, is_out)| {
                let lines = framed(Lines::new(LINE_BYTES_MAX), {
                    move |reactor, shell, _, frame| match frame {
                        Framed::Frame(line) => {
                            print(reactor, shell, number, "| ", line);
                            if is_out {
                                start_next(reactor, shell, number);
                            }
                        }
                        Framed::Error(error) => note(reactor, shell, number, &error.to_string()),
                        _ => {}
                    }
                });
                pipe.map(|pipe| pipe.open(reactor, lines))
            });
            let pipes = pipes.into_iter().flatten();
            let job = &mut shell.jobs[number];
            // A process that its last run has left behind may still have the old ones.
            job.pipes.retain(|pipe| reactor.contains(*pipe));
            job.pipes.extend(pipes);
            job.stage = Stage::Runs(spawned.id);
        }
        Err(error) => ended(reactor, shell, number, &error.to_string(), 127),
    }
}

/// The next one in the list may start, if it has not.
fn start_next(reactor: &mut Context<Shell>, shell: &mut Shell, number: usize) {
    let is_listed = |job: &&mut Job| job.stage == Stage::Listed;
    if let Some(job) = shell.jobs.get_mut(number + 1).filter(is_listed) {
        job.stage = start_after(reactor, number + 1, Duration::ZERO);
    }
}

/// A job has ended, or could not be started: it is restarted or reported. The last one ends us.
fn ended(reactor: &mut Context<Shell>, shell: &mut Shell, number: usize, how: &str, code: i32) {
    let job = &mut shell.jobs[number];
    if code != 0 && shell.ending.is_none() && job.failures < shell.restarts {
        let wait = shell.backoff.saturating_mul(1 << job.failures.min(20)).min(BACKOFF_MAX);
        job.failures += 1;
        job.stage = start_after(reactor, number, wait);
        return note(reactor, shell, number, &format!("{how}; again in {wait:?}"));
    }
    job.stage = Stage::Over;
    if shell.code == 0 {
        shell.code = code;
    }
    note(reactor, shell, number, how);
    start_next(reactor, shell, number);
    let mut pipes = shell.jobs.iter().flat_map(|job| &job.pipes);
    if pipes.any(|pipe| pipe.is_open(reactor)) {
        finish_soon(reactor, shell); // `sleep 15 & echo hi`: the sleep has them.
    } else if shell.is_over() {
        finish(reactor, shell);
    }
}

/// Ends us a little later, when all jobs are over: the wait begins again each time pipes are read
/// again, so that nothing a command has said is lost.
fn finish_soon(reactor: &mut Context<Shell>, shell: &mut Shell) {
    if !shell.is_over() {
        return;
    }
    if let Some(timer) = shell.finish.take() {
        reactor.cancel(timer);
    }
    shell.finish = Some(reactor.after(LAST_WORDS, |reactor, shell| {
        let is_paused = |pipe: &SourceId<Conn>| pipe.is_paused(reactor);
        if !shell.jobs.iter().flat_map(|job| &job.pipes).any(is_paused) {
            finish(reactor, shell);
        }
    }));
}

/// Closes all that still holds the loop: our stdout, and pipes that only other processes have.
fn finish(reactor: &mut Context<Shell>, shell: &Shell) {
    each_pipe(reactor, shell, |reactor, pipe| pipe.close(reactor));
    shell.out.close(reactor);
}

/// The first signal goes on to all jobs that run; the second kills them. A signal that comes when
/// none runs ends us, even if our lines are not all read yet.
fn pass_on(reactor: &mut Context<Shell>, shell: &mut Shell, signal: Signal) {
    let signal = if shell.ending.is_none() { signal } else { Signal::KILL };
    shell.ending.get_or_insert(signal);
    if shell.is_over() {
        return reactor.stop();
    }
    // From the last: none may start the next one.
    for number in (0..shell.jobs.len()).rev() {
        match shell.jobs[number].stage {
            Stage::Runs(child) => match child.kill(reactor, signal) {
                Ok(_) => note(reactor, shell, number, &format!("{signal} sent")),
                Err(error) => note(reactor, shell, number, &format!("{signal} not sent: {error}")),
            },
            Stage::Waits(timer) => {
                reactor.cancel(timer);
                ended(reactor, shell, number, "not started again", 0);
            }
            Stage::Listed => shell.jobs[number].stage = Stage::Over,
            Stage::Over => {}
        }
    }
}

fn note(reactor: &mut Context<Shell>, shell: &Shell, number: usize, what: &str) {
    print(reactor, shell, number, ": ", what.as_bytes());
}

/// Prints a line. If our stdout is not read, the jobs wait; if it has gone, its id is stale.
fn print(reactor: &mut Context<Shell>, shell: &Shell, number: usize, mark: &str, line: &[u8]) {
    let head = format!("{}{mark}", shell.jobs[number].name);
    if shell.out.write(reactor, &[head.as_bytes(), line, b"\n"].concat()) == Pressure::AboveHigh {
        each_pipe(reactor, shell, |reactor, pipe| pipe.pause(reactor));
    }
}

fn each_pipe(
    reactor: &mut Context<Shell>,
    shell: &Shell,
    act: fn(&mut Context<Shell>, SourceId<Conn>) -> bool,
) {
    for pipe in shell.jobs.iter().flat_map(|job| &job.pipes) {
        act(reactor, *pipe);
    }
}
