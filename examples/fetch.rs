//! Fetch: a small curl. Several URLs side by side, and a progress bar.
//!
//! Run:  cargo run --release --features http,tls --example fetch -- https://example.org/
//! Then: python3 -m http.server 8000 &       and, against it, from target/release/examples:
//!       fetch -o a -o b http://localhost:8000/LARGE http://localhost:8000/OTHER
//!       fetch http://localhost:8000/LARGE | (sleep 5; wc -c)
//! See:  the bar on stderr, where that is a terminal; the memory, small while the reader
//!       sleeps: it slows the server down, through all that lies between.
//! Look: `take`. What cannot be written for now pauses the call, and `drained` resumes it; a call
//!       whose turn on stdout has not come is paused, too.
//! Next: -C, to go on with a half-fetched file (`Range`); two calls to a host at most
//!       (`connections_per_host_max`); the time that each phase took.

use std::fs::File;
use std::process::exit;
use std::time::{Duration, Instant};

use waterwheel::net::http::{Call, CallEvent, Error};
use waterwheel::net::{self, Conn, Event, Limits, Pressure, Reason, Stream, descriptor};
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor, SourceId};

mod cli;
#[path = "fetch/options.rs"]
mod options;
#[path = "fetch/progress.rs"]
mod progress;

use progress::Progress;

const USAGE: &str = "\
Usage: fetch [OPTIONS] URL...

Fetches the URLs side by side and prints what is there, in their order. The exit code is 1
if one of them failed.

Options:
  -o FILE            write to FILE; given again, the next URL's
  -i                 print the head, too
  -I                 print the head only (HEAD)
  -X METHOD          ask by this method
  -d TEXT            send this (POST); @FILE: what is in there
  -H 'NAME: VALUE'   add a header field; as often as wanted
  -L                 follow redirects, 10 at most
  -f                 a status of 400 or more is a failure, and its page not printed
  --max-time SECONDS
                     give up a URL after so long
  --proxy URL        ask this proxy
  --cacert FILE      trust these certificates (PEM), and no others
  --progress         show the bar although stderr is no terminal
  -s                 say nothing on stderr but errors
  -h, --help         show this";

const OPTIONS: [&str; 7] = ["-o", "-X", "-d", "-H", "--max-time", "--proxy", "--cacert"];
const SWITCHES: [&str; 6] = ["-i", "-I", "-L", "-f", "-s", "--progress"];

/// One URL.
struct Job {
    url: String,
    call: SourceId<Call>,
    /// Where it is written to; several write to stdout, one after the other.
    out: SourceId<Conn>,
    to_file: bool,
    begun: Instant,
    status: u16,
    got: u64,
    total: Option<u64>,
    ended: bool,
}

struct Fetch {
    jobs: Vec<Job>,
    shows_head: bool,
    fails_by_status: bool,
    progress: Progress,
    failed: bool,
}

fn main() {
    let args = cli::parse_values(USAGE, &OPTIONS, &SWITCHES);
    let mut failed = false;
    cli::exit_on_error(run(&args).map(|any| failed = any));
    if failed {
        exit(1);
    }
}

/// What is wrong with the command line is an `Err`; whether anything failed then is its answer.
fn run(args: &cli::Args) -> Result<bool, String> {
    if args.values.is_empty() {
        return Err("wants a URL; try --help".to_owned());
    }
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let client = options::client(args)?;
    let mut fetch = Fetch {
        jobs: Vec::new(),
        shows_head: args.has("-i") || args.has("-I"),
        fails_by_status: args.has("-f"),
        progress: Progress::new(args.has("--progress"), args.has("-s")),
        failed: false,
    };
    let mut files = args.all("-o");
    let mut stdout = None;
    for (at, url) in args.values.iter().enumerate() {
        let file = files.next();
        let out = match (file, stdout) {
            (Some(file), _) => {
                let stream = to_file(&mut reactor, file)?;
                open(&mut reactor, stream)
            }
            (None, Some(out)) => out,
            (None, None) => {
                let stream = net::stdout(&mut reactor).map_err(|error| format!("stdout: {error}"));
                *stdout.insert(open(&mut reactor, stream?))
            }
        };
        let tell = move |reactor: &mut _, fetch: &mut _, _, event: CallEvent<'_>| {
            take(reactor, fetch, at, event);
        };
        let call = client.stream(&mut reactor, options::ask(args, url)?, tell);
        fetch.jobs.push(Job {
            url: url.clone(),
            call,
            out,
            to_file: file.is_some(),
            begun: reactor.now(),
            status: 0,
            got: 0,
            total: None,
            ended: false,
        });
        if !fetch.has_turn(at) {
            call.pause(&mut reactor);
        }
    }
    let bar = reactor.every(Duration::from_millis(100), Missed::Skip, |_, fetch: &mut Fetch, _| {
        fetch.show();
    });
    reactor.unref(bar);
    reactor.run(&mut fetch).map_err(|error| error.to_string())?;
    fetch.show();
    fetch.progress.finish();
    Ok(fetch.failed)
}

fn to_file(reactor: &mut Context<Fetch>, path: &str) -> Result<Stream, String> {
    let file = File::create(path).and_then(|file| descriptor::writer(reactor, file));
    file.map_err(|error| format!("{path}: {error}"))
}

/// What is left to write is written, however slowly it is taken.
fn open(reactor: &mut Context<Fetch>, stream: Stream) -> SourceId<Conn> {
    let limits = Limits { close_grace: Duration::MAX, ..Limits::default() };
    stream.limits(limits).open(reactor, |reactor, fetch: &mut Fetch, out, event| match event {
        Event::Drained => drained(reactor, fetch, out),
        Event::Closed(Reason::Finished) => {}
        Event::Closed(why) => give_up(reactor, fetch, out, why),
        Event::Data(_) | Event::Eof => {}
    })
}

/// What is written there cannot be: a disk is full, or nobody reads our stdout any more. What goes
/// elsewhere goes on.
fn give_up(reactor: &mut Context<Fetch>, fetch: &mut Fetch, out: SourceId<Conn>, why: Reason) {
    match why {
        Reason::Reset => fetch.fail("nobody reads what is written"),
        why => fetch.fail(&format!("cannot write: {why}")),
    }
    for job in fetch.jobs.iter_mut().filter(|job| job.out == out && !job.ended) {
        job.call.cancel(reactor);
        job.ended = true;
    }
}

/// Something has come of the call at this place.
fn take(reactor: &mut Context<Fetch>, fetch: &mut Fetch, at: usize, event: CallEvent<'_>) {
    let job = &mut fetch.jobs[at];
    match event {
        CallEvent::Head(head) => {
            (job.status, job.total) = (head.status.as_u16(), head.body_bytes);
            if fetch.shows_head {
                let mut text = format!("{:?} {}\r\n", head.version, head.status);
                for (name, value) in head.headers.iter() {
                    text.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value)));
                }
                write(reactor, job, (text + "\r\n").as_bytes());
            }
        }
        CallEvent::Data(bytes) => {
            job.got += bytes.len() as u64;
            if !(fetch.fails_by_status && job.status >= 400) {
                write(reactor, job, bytes);
            }
        }
        CallEvent::Drained => {} // Bodies are given whole.
        CallEvent::End => end(reactor, fetch, at, None),
        CallEvent::Failed(error) => end(reactor, fetch, at, Some(error)),
    }
}

/// Writes, and lets the server wait if that is too much for whoever reads.
fn write(reactor: &mut Context<Fetch>, job: &Job, bytes: &[u8]) {
    if let Some(out) = reactor.get_mut(job.out)
        && out.write(bytes) == Pressure::AboveHigh
    {
        job.call.pause(reactor);
    }
}

fn drained(reactor: &mut Context<Fetch>, fetch: &Fetch, out: SourceId<Conn>) {
    for (at, job) in fetch.jobs.iter().enumerate() {
        if job.out == out && fetch.has_turn(at) {
            job.call.resume(reactor);
        }
    }
}

/// The call at this place has ended: the next one may write, or the output is closed.
fn end(reactor: &mut Context<Fetch>, fetch: &mut Fetch, at: usize, error: Option<Error>) {
    let job = &mut fetch.jobs[at];
    job.ended = true;
    let (out, ms) = (job.out, (reactor.now() - job.begun).as_millis());
    match error {
        Some(error) => fetch.fail(&error.to_string()),
        None if fetch.fails_by_status && job.status >= 400 => {
            let said = format!("{}: status {}", job.url, job.status);
            fetch.fail(&said);
        }
        None => {
            let said = format!("{}: {}, {} bytes in {ms} ms", job.url, job.status, job.got);
            fetch.progress.note(&said);
        }
    }
    let is_used = fetch.jobs.iter().any(|job| job.out == out && !job.ended);
    if is_used {
        drained(reactor, fetch, out);
    } else if let Some(out) = reactor.get_mut(out) {
        out.close();
    }
}

impl Fetch {
    /// Whether nobody before this one still writes to the same place.
    fn has_turn(&self, at: usize) -> bool {
        let job = &self.jobs[at];
        job.to_file || self.jobs[..at].iter().all(|before| before.ended || before.to_file)
    }

    fn fail(&mut self, error: &str) {
        self.failed = true;
        self.progress.error(error);
    }

    fn show(&mut self) {
        let got = self.jobs.iter().map(|job| job.got).sum();
        let totals = self.jobs.iter().map(|job| if job.ended { Some(job.got) } else { job.total });
        let ended = self.jobs.iter().filter(|job| job.ended).count();
        self.progress.show(got, totals.sum(), (ended, self.jobs.len()));
    }
}
