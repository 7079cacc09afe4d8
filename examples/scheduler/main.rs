//! Scheduler: a cron that several processes may share. Decisions are data: plan, store, replay.
//!
//! Run:  printf '* * * * * date\n' > tab; cargo run --release --features cron,http,process --example scheduler -- tab --store runs.log
//! Then: curl -i -X POST 127.0.0.1:8090/tasks/date/run      and GET the Location that it answers
//!       with --redis 127.0.0.1:6379 instead of --store, two of them: --name a, --name b --http 8091
//! See:  http://127.0.0.1:8090/: what is due next, what ran, its exit code and output. After `kill -9`
//!       nothing that was planned is lost; a run without an end is begun again if it is `idempotent`.
//! Look: `Scheduler::happen`: nothing is done until the decision for it is stored, so that a crash at
//!       any place leaves a decision to act on, and never an act that nobody knows of.
//! Next: overlap across workers (a lock in Redis, with the lease); MAILTO; a task that waits for others.
//!
//! A client costs 16 KiB of a head, and a page of 50 tasks and 50 runs, or one output. All
//! may have 16 MiB buffered for them, then the slowest is closed. A run costs its output.
//!
//! Where a zone skips an hour, a fixed time in it (one minute, one hour) comes right after it, and the
//! others not; where an hour comes twice, a fixed time comes in the first, the others in both.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use waterwheel::net::HostPort;
use waterwheel::process::Signal;
use waterwheel::protocols::http;
use waterwheel::{Context, Reactor};

#[path = "../cli/mod.rs"]
mod cli;
mod crontab;
mod job;
#[allow(dead_code)] // A server that reads less while the disk is slow uses the rest.
#[path = "../journal/mod.rs"]
mod journal;
mod ledger;
mod page;
mod redis;
#[path = "../resp/reply.rs"]
mod reply;
#[allow(dead_code)] // Its other half is a server's.
#[path = "../resp/mod.rs"]
mod resp;
mod server;
#[cfg(test)]
mod tests;

use ledger::{Event, Ledger};
use server::{Scheduler, Setup, Store};

const USAGE: &str = "\
Usage: scheduler [OPTIONS] CRONTAB

Runs the lines of a crontab, each by sh -c. A comment before a line that begins with
'#:' is ours: name=NAME overlap=skip|queue|allow catch-up=N retries=N timeout=SECONDS
idempotent. CRON_TZ=ZONE is for the lines below it. SIGHUP reads the file again. A
bad line is refused with its number. 100,000 lines at most; the last 1,000 runs are
kept, and 16 MiB of their output. A command knows its $RUN and $ATTEMPT. With --redis,
overlap counts on each worker, and @reboot is the start of each.

Options:
  --check            only read the crontab: exit code 0, or 2
  --system           each line has a user, as in /etc/crontab; it is ignored
  --store FILE       keep what is planned and run in a file
  --redis ADDR       share the work with others by a Redis server
  --name WORKER      this one's name there; no two have the same [its process id]
  --lease SECONDS    a silent worker's runs go to others after so long [30]
  --http ADDR        pages [127.0.0.1:8090]; a bare port means 127.0.0.1
  --runs N           so many at once [16]
  --output-bytes N   of each, the first and the last part [65536]; 1 MiB at most
  --grace SECONDS    at the end, what runs may take [5]
  -h, --help         show this";

const OPTIONS: [&str; 8] =
    ["--store", "--redis", "--name", "--lease", "--http", "--runs", "--output-bytes", "--grace"];
/// The most of `--output-bytes`: 1 MiB.
const OUTPUT_BYTES_MAX: u64 = 1024 * 1024;
/// The longest crontab: 64 MiB.
const CRONTAB_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn main() {
    let args = cli::parse_values(USAGE, &OPTIONS, &["--check", "--system"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    let [path] = &args.values[..] else { cli::bad_usage("one CRONTAB is wanted; try --help") };
    let is_system = args.has("--system");
    let entries = read(path, is_system).unwrap_or_else(|error| cli::bad_usage(error));
    if args.has("--check") {
        cli::print(format_args!("{path}: {} entries", entries.len()));
        server::check(&entries).unwrap_or_else(|error| cli::bad_usage(format!("{path}:{error}")));
        return Ok(());
    }
    let number = |name: &str, usual, most| match args.number(name).unwrap_or(usual) {
        number if (1..=most).contains(&number) => number,
        _ => cli::bad_usage(format_args!("{name} wants 1 to {most}")),
    };
    let worker = args.text("--name").map_or(std::process::id().to_string(), str::to_owned);
    if worker.is_empty() || worker.contains(char::is_whitespace) {
        cli::bad_usage("--name wants a word");
    }
    let output_bytes = number("--output-bytes", 64 * 1024, OUTPUT_BYTES_MAX) as usize;
    let runs_max = number("--runs", 16, 1000) as usize;
    let setup = Setup {
        output_bytes,
        runs_max,
        worker: worker.clone(),
        path: path.clone(),
        is_system,
        seed: None,
        say: |line| cli::say(line),
        start: job::start,
        over: |reactor| reactor.stop(),
    };
    let lease = Duration::from_secs(number("--lease", 30, 86_400));
    let grace = Duration::from_secs(number("--grace", cli::GRACE.as_secs(), 86_400));
    cli::raise_open_files();
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let mut ledger = Ledger::default();
    let store = match (args.text("--store"), args.text("--redis")) {
        (Some(_), Some(_)) => cli::bad_usage("--store or --redis, not both"),
        (Some(file), None) => Store::File(open(file, &mut ledger)?),
        (None, Some(addr)) => {
            let addr = cli::with_host(addr);
            let named = addr.parse::<HostPort>().map_err(cli::cannot("connect to"))?;
            let dial = redis::dial(named.to_string());
            Store::Redis(Box::new(redis::Link::new(dial, worker, lease, load)))
        }
        (None, None) => Store::Nothing,
    };
    let mut scheduler = Scheduler::open(&mut reactor, setup, ledger, store)?;
    server::check(&entries).unwrap_or_else(|error| cli::bad_usage(format!("{path}:{error}")));
    let addr = cli::with_host(args.text("--http").unwrap_or("8090"));
    let limits = http::Limits { buffers: Some(cli::buffers()), ..http::Limits::default() };
    let pages = http::Server::routes(page::routes()).limits(limits);
    let listener = pages.listen(&mut reactor, &addr).map_err(cli::cannot("listen on"))?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    if matches!(scheduler.store, Store::Redis(_)) {
        redis::open(&mut reactor, &mut scheduler);
    } else {
        scheduler.load(&mut reactor, entries)?;
    }
    reactor
        .on_signal(Signal::HUP, |reactor, scheduler, _| load(reactor, scheduler))
        .map_err(|error| error.to_string())?;
    cli::on_signals(&mut reactor, move |reactor, scheduler: &mut Scheduler, signal| {
        cli::say(format_args!("{signal}: nothing new begins; again to end at once"));
        scheduler.drain(reactor, grace);
    })?;
    cli::run(&mut reactor, &mut scheduler)
}

/// Reads the crontab. Its errors begin with the file and the line.
fn read(path: &str, is_system: bool) -> Result<Vec<crontab::Entry>, String> {
    let mut text = Vec::new();
    let file = File::open(path).map(|file| file.take(CRONTAB_BYTES_MAX + 1));
    let length = file.and_then(|mut file| file.read_to_end(&mut text));
    if length.map_err(|error| format!("{path}: {error}"))? as u64 > CRONTAB_BYTES_MAX {
        return Err(format!("{path}: more than 64 MiB"));
    }
    let at = |line: &String| format!("{path}:{line}");
    let (entries, notes) = crontab::parse(&text, is_system)
        .map_err(|errors| errors.iter().map(at).collect::<Vec<_>>().join("\n"))?;
    notes.iter().for_each(|note| cli::warn(at(note)));
    Ok(entries)
}

/// Reads the crontab again. A bad one changes nothing.
fn load(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler) {
    let path = scheduler.setup.path.clone();
    let loaded = read(&path, scheduler.setup.is_system).and_then(|entries| {
        scheduler.load(reactor, entries).map_err(|error| format!("{path}:{error}"))
    });
    match loaded {
        Ok(()) => cli::say(format_args!("{path}: {} tasks", scheduler.tasks.len())),
        Err(error) => cli::warn(format_args!("{error}\nthe last good crontab stays")),
    }
}

fn open(path: &str, ledger: &mut Ledger) -> Result<journal::Journal, String> {
    let replay = |record: &[u8]| {
        let event =
            Event::decode(record).ok_or("it has a record that this program does not know")?;
        ledger.apply(&event);
        Ok(())
    };
    let (journal, note) = journal::Journal::open(Path::new(path), Duration::ZERO, replay)
        .map_err(|error| format!("cannot open {path}: {error}"))?;
    note.iter().for_each(|note| cli::warn(format_args!("{path}: {note}")));
    Ok(journal)
}
