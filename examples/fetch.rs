//! Fetch: a small curl. Several URLs side by side, and a progress bar.
//!
//! Run:  cargo run --release --features http,tls --example fetch -- https://example.org/
//! Then: python3 -m http.server 8000 & fetch=target/release/examples/fetch
//!       $fetch -o /tmp/a -o /tmp/b http://localhost:8000/Cargo.lock http://localhost:8000/lib.rs
//!       $fetch http://localhost:8000/$fetch | (sleep 5; wc -c)
//! See:  the bar on stderr, where that is a terminal. While the reader sleeps, memory stays small:
//!       the reader slows the server down, through everything between the two.
//! Look: `write`. Too much unsent pauses the call, and `drained` resumes it. A call whose turn on
//!       stdout has not come is paused, too.
//! Next: -C, to go on with a half-fetched file (`Range`); two calls to a host at most
//!       (`connections_per_host_max`); the time that each stage took.

use std::process::exit;
use std::time::Duration;

use job::{Job, has_turn};
use progress::Progress;
use waterwheel::net::{Conn, Pressure};
use waterwheel::protocols::http::CallEvent;
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor, SourceId};

mod cli;
#[path = "fetch/job.rs"]
mod job;
#[path = "fetch/options.rs"]
mod options;
#[path = "fetch/output.rs"]
mod output;
#[path = "fetch/progress.rs"]
mod progress;

/// How often the bar is drawn: as fast as one can read it.
const BAR_PERIOD: Duration = Duration::from_millis(100);

struct Fetch {
    jobs: Vec<Job>,
    shows_head: bool,
    fails_by_status: bool,
    progress: Progress,
    failed: bool,
}

fn main() {
    cli::exit_on_error(run(&options::parse()));
}

fn run(args: &cli::Args) -> Result<(), String> {
    if args.values.is_empty() {
        cli::bad_usage("wants a URL; try --help");
    }
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let client = options::client(args).unwrap_or_else(|error| cli::bad_usage(error));
    let mut fetch = Fetch {
        jobs: Vec::new(),
        shows_head: args.has("-i") || args.has("-I"),
        fails_by_status: args.has("-f"),
        progress: Progress::new(args.has("--progress"), args.has("-s")),
        failed: false,
    };
    let outputs = output::open_all(&mut reactor, args)?;
    for (at, (url, out)) in args.values.iter().zip(outputs).enumerate() {
        let request = options::request(args, url).unwrap_or_else(|error| cli::bad_usage(error));
        let call = client.stream(&mut reactor, request, move |reactor, fetch, _, event| {
            take(reactor, fetch, at, event);
        });
        fetch.jobs.push(Job::new(url, call, out));
        if !has_turn(&fetch.jobs, at) {
            call.pause(&mut reactor);
        }
    }
    let bar = reactor.every(BAR_PERIOD, Missed::Skip, |_, fetch: &mut Fetch, _| fetch.show());
    reactor.unref(bar);
    cli::run(&mut reactor, &mut fetch)?;
    fetch.show();
    fetch.progress.finish();
    if fetch.failed { exit(1) } else { Ok(()) }
}

/// An event of the call at this place.
fn take(reactor: &mut Context<Fetch>, fetch: &mut Fetch, at: usize, event: CallEvent<'_>) {
    let job = &mut fetch.jobs[at];
    let is_failure = fetch.fails_by_status && job.status >= 400;
    match event {
        CallEvent::Head(head) => {
            (job.status, job.total_bytes) = (head.status.as_u16(), head.body_bytes);
            if fetch.shows_head {
                write(reactor, job, output::head_text(head).as_bytes());
            }
        }
        CallEvent::Data(bytes) => {
            job.got_bytes += bytes.len() as u64;
            if !is_failure {
                write(reactor, job, bytes);
            }
        }
        CallEvent::Drained => {} // It is for bodies that are sent in pieces.
        CallEvent::End => {
            let Job { url, status, got_bytes, .. } = job;
            match is_failure {
                true => fetch.progress.error(&format!("{url}: status {status}")),
                false => fetch.progress.note(&format!("{url}: {status}, {got_bytes} bytes")),
            }
            end(reactor, fetch, at, is_failure);
        }
        CallEvent::Failed(error) => {
            fetch.progress.error(&error.to_string());
            end(reactor, fetch, at, true);
        }
    }
}

/// Writes. If the reader is too slow for that, the server has to wait.
fn write(reactor: &mut Context<Fetch>, job: &Job, bytes: &[u8]) {
    if job.out.write(reactor, bytes) == Pressure::AboveHigh {
        job.call.pause(reactor);
    }
}

/// There is room in this output: the job whose turn it is goes on.
fn drained(reactor: &mut Context<Fetch>, fetch: &Fetch, out: SourceId<Conn>) {
    for (at, job) in fetch.jobs.iter().enumerate() {
        if job.out == out && has_turn(&fetch.jobs, at) {
            job.call.resume(reactor);
        }
    }
}

/// The call at this place has ended: the next one may write, or the output is closed.
fn end(reactor: &mut Context<Fetch>, fetch: &mut Fetch, at: usize, failed: bool) {
    fetch.failed |= failed;
    fetch.jobs[at].ended = true;
    let out = fetch.jobs[at].out;
    if fetch.jobs.iter().any(|job| job.out == out && !job.ended) {
        drained(reactor, fetch, out);
    } else {
        out.close(reactor);
    }
}

impl Fetch {
    fn show(&mut self) {
        let (got, total) = job::bytes(&self.jobs);
        let ended = self.jobs.iter().filter(|job| job.ended).count();
        self.progress.show(got, total, (ended, self.jobs.len()));
    }
}
