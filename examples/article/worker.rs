//! Worker: takes jobs from a queue, and deletes one only when its result is safe. At least once.
//!
//! Run:  cargo run --release --example mq -- --log jobs.log &
//!       cargo run --release --example logs -- --output orders.log &
//!       cargo run --release --example worker
//! Then: printf 'put 0 0 60 8\r\ntwo teas\r\n' | nc -N 127.0.0.1 11300; cat orders.log
//! See:  the job in the collector's file. `kill -9` the worker in the middle: the queue sees that its
//!       connection has ended, and gives its jobs to the next one. Stop the collector: the jobs wait.
//! Look: `on_logs`. The job is deleted when `ack` comes, and not when the line was written: what
//!       the kernel has taken may still be lost.
//! Next: a job that always fails (`bury`); a job that takes longer than its time (`touch`).
//!
//! ```text
//!   mq ──RESERVED──▶ works, a few ms ──line──▶ logs
//!    ▲                                          │ fsync(2)
//!    └──────────────── delete ◀───── ack ───────┘
//! ```
//!
//! A worker that ends anywhere on this way leaves the job in the queue, so a job may be worked
//! twice, and its line be there twice. A job costs 1 KiB here, since only the start of it is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use waterwheel::net::{Conn, Lines};
use waterwheel::timers::TimerId;
use waterwheel::{Context, Reactor, SourceId};

#[path = "../cli/mod.rs"]
mod cli;
mod keep;
#[allow(dead_code)] // The other program uses the rest.
mod queue;

use keep::News;
use queue::Answer;

const USAGE: &str = "\
Usage: worker [OPTIONS]

Takes jobs from a queue, mq or beanstalkd, works on each for some milliseconds, sends
a line about it to a collector, and deletes it when the collector has acknowledged the
line. The collector is one that does that (`logs`): syslog over TCP has no answers.

Options:
  --queue ADDR  [127.0.0.1:11300]
  --logs ADDR   [127.0.0.1:5514]
  --jobs N      how many at a time, 1 to 1000 [16]
  --work MS     how long each takes, 10000 at most [5]
  -h, --help    show this";

const JOBS_MAX: u64 = 1000;
/// Less than the time that the queue gives for a job.
const WORK_MS_MAX: u64 = 10_000;
/// Bytes of the text of a job that its line has.
const TEXT_BYTES_MAX: usize = 200;
/// Bytes of what a collector answers: `ack` and a number.
const ACK_BYTES_MAX: usize = 64;

struct Worker {
    queue: Option<SourceId<Conn>>,
    logs: Option<SourceId<Conn>>,
    /// By the number of its line. All of them are reserved on the connection that is there.
    jobs: BTreeMap<u64, Job>,
    jobs_max: usize,
    work: Duration,
    /// Of the next line.
    next: u64,
    /// Whose line it is: of this run, so that a collector that drops what it has takes no line for one
    /// of another worker.
    from: String,
    /// True while the queue has a `reserve` to answer.
    is_asking: bool,
    is_ending: bool,
}

struct Job {
    id: u64,
    text: String,
    /// While it is worked on. Then its line waits for its `ack`.
    timer: Option<TimerId>,
}

fn main() {
    cli::exit_on_error(run(&cli::parse(USAGE, "", &["--queue", "--logs", "--jobs", "--work"])));
}

fn run(args: &cli::Args) -> Result<(), String> {
    let jobs_max = args.number("--jobs").unwrap_or(16);
    if !(1..=JOBS_MAX).contains(&jobs_max) {
        cli::bad_usage(format_args!("--jobs wants 1 to {JOBS_MAX}"));
    }
    let work_ms = args.number("--work").unwrap_or(5);
    if work_ms > WORK_MS_MAX {
        cli::bad_usage(format_args!("--work wants {WORK_MS_MAX} at most"));
    }
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let mut worker = Worker {
        queue: None,
        logs: None,
        jobs: BTreeMap::new(),
        jobs_max: jobs_max as usize,
        work: Duration::from_millis(work_ms),
        next: 1,
        from: format!("{}-{}", std::process::id(), reactor.wall().unix_ms()),
        is_asking: false,
        is_ending: false,
    };
    let queue = args.text("--queue").unwrap_or("127.0.0.1:11300");
    let logs = args.text("--logs").unwrap_or("127.0.0.1:5514");
    let cannot = || cli::cannot("connect to");
    keep::keep(&mut reactor, queue, queue::Answers, on_queue).map_err(cannot())?;
    keep::keep(&mut reactor, logs, Lines::new(ACK_BYTES_MAX), on_logs).map_err(cannot())?;
    cli::on_signals(&mut reactor, end)?;
    cli::say(format_args!("working: jobs from {queue}, lines to {logs}"));
    cli::run(&mut reactor, &mut worker)
}

fn on_queue(reactor: &mut Context<Worker>, worker: &mut Worker, news: News<'_>) {
    match news {
        News::Up(conn) => worker.queue = Some(conn),
        News::Frame(frame) => match queue::answer(frame) {
            Answer::Reserved(id, body) => {
                worker.is_asking = false;
                if !worker.is_ending {
                    worker.begin(reactor, id, body);
                }
            }
            // It asks again when a job is done; if the last one was done meanwhile, now.
            Answer::NoJob => {
                worker.is_asking = false;
                if !worker.jobs.is_empty() {
                    return;
                }
            }
            Answer::Deleted | Answer::NotFound | Answer::Inserted(_) => return,
            answer => return log::warn!("the queue says: {answer:?}"),
        },
        News::Down => {
            // They are back in the queue, and other workers have them by now.
            (worker.queue, worker.is_asking) = (None, false);
            for timer in std::mem::take(&mut worker.jobs).into_values().filter_map(|job| job.timer)
            {
                reactor.cancel(timer);
            }
        }
    }
    worker.go_on(reactor);
}

fn on_logs(reactor: &mut Context<Worker>, worker: &mut Worker, news: News<'_>) {
    match news {
        News::Up(conn) => {
            worker.logs = Some(conn);
            let done = worker.jobs.iter().filter(|(_, job)| job.timer.is_none());
            done.for_each(|(number, job)| worker.send(reactor, *number, job));
        }
        News::Frame(line) => {
            let number = str::from_utf8(line).ok().and_then(|line| line.strip_prefix("ack "));
            let number = number.and_then(|number| number.parse().ok()).unwrap_or(0);
            let job = worker.jobs.get(&number).filter(|job| job.timer.is_none());
            if let (Some(job), Some(queue)) = (job, worker.queue) {
                let _ = queue.write(reactor, &queue::delete(job.id)); // Or it is worked again.
                worker.jobs.remove(&number);
                worker.go_on(reactor);
            }
        }
        News::Down => worker.logs = None,
    }
}

fn end(reactor: &mut Context<Worker>, worker: &mut Worker, signal: &str) {
    cli::say(format_args!("{signal}: no new jobs, {} to finish", worker.jobs.len()));
    worker.is_ending = true;
    reactor.after(cli::GRACE, |reactor, _| reactor.stop());
    worker.go_on(reactor);
}

impl Worker {
    /// Asks for a job, if there is room for one; or ends.
    fn go_on(&mut self, reactor: &mut Context<Worker>) {
        match self.queue {
            None if self.is_ending => reactor.stop(),
            Some(queue) if self.is_ending && self.jobs.is_empty() => drop(queue.close(reactor)),
            Some(queue)
                if !self.is_ending && !self.is_asking && self.jobs.len() < self.jobs_max =>
            {
                // A `reserve` that waits would hold up the deletes behind it.
                let reserve =
                    if self.jobs.is_empty() { queue::RESERVE } else { queue::RESERVE_NOW };
                self.is_asking = queue.write(reactor, reserve).is_taken();
            }
            _ => {}
        }
    }

    fn begin(&mut self, reactor: &mut Context<Worker>, id: u64, body: &[u8]) {
        let number = self.next;
        self.next += 1;
        let text = body[..body.len().min(TEXT_BYTES_MAX)].escape_ascii().to_string();
        let timer = reactor.after(self.work, move |reactor, worker: &mut Worker| {
            if let Some(job) = worker.jobs.get_mut(&number) {
                job.timer = None;
                worker.send(reactor, number, &worker.jobs[&number]);
            }
        });
        self.jobs.insert(number, Job { id, text, timer: Some(timer) });
    }

    /// Sends the line about a job: RFC 5424, behind its length (RFC 6587). If there is no collector
    /// now, it is sent when there is one.
    fn send(&self, reactor: &mut Context<Worker>, number: u64, job: &Job) {
        let Some(logs) = self.logs else { return };
        let (pid, from, Job { id, text, .. }) = (std::process::id(), &self.from, job);
        let element = format!("[ww@32473 id=\"{number}\" from=\"{from}\"]");
        let line = format!("<134>1 - - worker {pid} - {element} order {id} worked: {text}");
        if !logs.write(reactor, format!("{} {line}", line.len()).as_bytes()).is_taken() {
            logs.abort(reactor); // It reads nothing. The next connection gets all lines.
        }
    }
}
