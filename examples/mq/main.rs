//! Mq: a queue of jobs for many workers. It speaks beanstalkd's protocol, so beanstalkd's clients
//! work with it.
//!
//! Run:  cargo run --release --example mq -- --log jobs.log
//! Then: printf 'put 0 0 60 5\r\nhello\r\nreserve\r\nstats-job 1\r\n' | nc -N 127.0.0.1 11300
//!       and with any client, for instance greenstalk (pip install greenstalk):
//!       python3 -c "import greenstalk as g; print(g.Client(('127.0.0.1', 11300)).reserve().body)"
//! See:  the job, and that it is there again after `kill -9`: `INSERTED` was sent when it was on the
//!       disk. A job that a worker has not deleted in its time, or whose worker has gone, goes to
//!       another one; with `--bury-after 3` not without end.
//! Look: `Server::stored`. A turn is a batch: all that came in it shares one fsync(2), and what
//!       comes while the disk works shares the next. A hundred producers cost hardly more than one.
//! Next: a tube whose jobs expire; the client's side, over `tcp::Connect`; a page with the statistics.

use std::path::Path;
use std::time::Duration;

use waterwheel::Reactor;
use waterwheel::net::tcp;

#[path = "../cli/mod.rs"]
mod cli;
mod commands;
#[path = "../journal/mod.rs"]
mod journal;
mod moves;
mod protocol;
mod queue;
mod server;
mod stats;
mod store;

use journal::Journal;
use queue::{Limits, Queue};
use server::Server;

const USAGE: &str = "\
Usage: mq [OPTIONS] [ADDR]

Serves a queue of jobs, by beanstalkd's protocol. ADDR is 127.0.0.1:11300 unless
given; a bare port means 127.0.0.1. A client that vanished leaves: TCP's keep-alive
asks every 15 s. All clients together may have 16 MiB buffered; then the slowest
reader is closed. A job has 65,535 bytes at most, and counts 300 more. There are
10,000 tubes at most; a client watches 1,000, and has 10,000 jobs reserved.

Options:
  --log FILE        keep the jobs in a file, too: they survive a crash
  --fsync-ms N      let writes wait for others so long (default: 0)
  --bury-after N    bury a job that has failed so often (default: never)
  --tube-bytes N    refuse jobs above it in one tube (default: 67108864)
  --bytes N         refuse jobs above it in all tubes (default: 268435456)
  -h, --help        show this";

/// 64 MiB.
const TUBE_BYTES: u64 = 64 * 1024 * 1024;
/// 256 MiB.
const BYTES: u64 = 256 * 1024 * 1024;
/// The longest that a write waits for others: a minute.
const FSYNC_MS_MAX: u64 = 60_000;

fn main() {
    let options = ["--log", "--fsync-ms", "--bury-after", "--tube-bytes", "--bytes"];
    let args = cli::parse(USAGE, "127.0.0.1:11300", &options);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    let number = |option, default| args.number(option).unwrap_or(default);
    let limits = Limits {
        tube_bytes: number("--tube-bytes", TUBE_BYTES),
        bytes: number("--bytes", BYTES),
        bury_after: number("--bury-after", u64::MAX).max(1),
    };
    let wait_ms = number("--fsync-ms", 0);
    if wait_ms > FSYNC_MS_MAX {
        cli::bad_usage(format_args!("--fsync-ms wants {FSYNC_MS_MAX} at most"));
    }
    cli::raise_open_files();
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let origin = server::origin(&reactor);
    let mut queue = Queue::new(limits, origin);
    let journal = match args.text("--log") {
        Some(path) => Some(open(path, Duration::from_millis(wait_ms), &mut queue)?),
        None => None,
    };
    let mut server = Server::new(queue, journal, origin, |line| cli::say(line));
    server.arm(&mut reactor);
    let listener = tcp::Listen::new()
        .limits(server::limits(cli::limits()))
        .keepalive(Some(cli::KEEPALIVE))
        .open(&mut reactor, &args.addr, server::serve)
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals_with(&mut reactor, cli::GRACE, |reactor, server: &mut Server| {
        server.drain(reactor);
    })?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut server)
}

fn open(path: &str, wait: Duration, queue: &mut Queue) -> Result<Journal, String> {
    let replay = |record: &[u8]| store::replay(queue, record);
    let (journal, note) = Journal::open(Path::new(path), wait, replay)
        .map_err(|error| format!("cannot open {path}: {error}"))?;
    if let Some(note) = note {
        cli::warn(format_args!("{path}: {note}"));
    }
    Ok(journal)
}
