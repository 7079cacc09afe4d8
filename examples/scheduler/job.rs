//! A run under way: `sh -c` in a process group of its own, and what it prints.
//!
//! A program that the command has left running in its group goes on when the command ends, as with
//! cron; a timeout ends the whole group. One that leaves the group (setsid(1)) is out of our reach,
//! and so is any child of a scheduler that was killed by SIGKILL.

use std::collections::VecDeque;
use std::process::{Command, Stdio};
use std::time::Duration;

use waterwheel::net::{Event, Stream};
use waterwheel::process::{Child, Spawn};
use waterwheel::timers::TimerId;
use waterwheel::{Context, SourceId};

use super::crontab::Entry;
use super::ledger::{End, Id};
use super::server::Scheduler;

/// From TERM to KILL.
pub const KILL_AFTER: Duration = Duration::from_secs(5);

pub struct Job {
    child: SourceId<Child>,
    output: Output,
    timeout: Option<TimerId>,
    is_late: bool,
}

/// The first and the last part of an output.
pub struct Output {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Output {
    pub fn new(bytes_max: usize) -> Output {
        Output { half: bytes_max / 2, head: Vec::new(), tail: VecDeque::new(), left_out: 0 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..surplus);
        self.left_out += surplus as u64;
    }

    pub fn text(mut self) -> Vec<u8> {
        if self.left_out > 0 {
            self.head.extend(format!("\n[{} bytes left out]\n", self.left_out).into_bytes());
        }
        self.head.extend(self.tail);
        self.head
    }
}

/// Starts the command of a run; `Scheduler::ended` gets its end.
pub fn start(
    reactor: &mut Context<Scheduler>,
    scheduler: &mut Scheduler,
    entry: &Entry,
    id: Id,
    attempt: u32,
) {
    let variables = &entry.variables;
    let mut command = Command::new(variables.get("SHELL").map_or("/bin/sh", String::as_str));
    command.arg("-c").arg(&entry.command).envs(variables.iter()).stdin(Stdio::null());
    command.env("RUN", &id).env("ATTEMPT", attempt.to_string());
    if let Some(home) = variables.get("HOME") {
        command.current_dir(home);
    }
    let mut spawn = Spawn::new(command).stdout().stderr().group().kill_on_drop();
    if entry.stdin.is_some() {
        spawn = spawn.stdin();
    }
    let of = id.clone();
    let spawned = spawn.open(reactor, move |reactor, scheduler: &mut Scheduler, _, exit| {
        let Some(job) = scheduler.jobs.remove(&of) else { return };
        job.timeout.map(|timer| reactor.cancel(timer));
        let late = if job.is_late { "timed out, " } else { "" };
        let code = if job.is_late { exit.code().max(1) } else { exit.code() };
        let how = format!("{late}{exit}");
        let output = job.output.text().into();
        scheduler.ended(reactor, of, End { code: Some(code), again: false, how, output });
    });
    let spawned = match spawned {
        Ok(spawned) => spawned,
        Err(error) => {
            let end = End { code: Some(127), how: error.to_string(), ..End::default() };
            return scheduler.ended(reactor, id, end);
        }
    };
    for pipe in [spawned.stdout, spawned.stderr].into_iter().flatten() {
        read(reactor, pipe, id.clone());
    }
    if let (Some(pipe), Some(text)) = (spawned.stdin, &entry.stdin) {
        let stdin = pipe.open(reactor, |_, _, _, _| {}); // It need not read it.
        let _ = stdin.write(reactor, text.as_bytes());
        stdin.close(reactor);
    }
    let timeout = entry.options.timeout_s.map(|seconds| {
        let (of, child) = (id.clone(), spawned.id);
        reactor.after(Duration::from_secs(seconds), move |reactor, scheduler: &mut Scheduler| {
            if let Some(job) = scheduler.jobs.get_mut(&of) {
                job.is_late = true;
                end(reactor, child);
            }
        })
    });
    let output = Output::new(scheduler.setup.output_bytes);
    let job = Job { child: spawned.id, output, timeout, is_late: false };
    scheduler.jobs.insert(id, job);
}

fn read(reactor: &mut Context<Scheduler>, pipe: Stream, id: Id) {
    pipe.open(reactor, move |_, scheduler: &mut Scheduler, _, event| {
        if let (Event::Data(bytes), Some(job)) = (event, scheduler.jobs.get_mut(&id)) {
            job.output.push(bytes);
        }
    });
}

/// Ends all commands that run.
pub fn end_all(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler) {
    scheduler.jobs.values().for_each(|job| end(reactor, job.child));
}

/// TERM, and then KILL, to its whole group.
fn end(reactor: &mut Context<Scheduler>, child: SourceId<Child>) {
    if let Err(error) = child.terminate(reactor, KILL_AFTER) {
        log::warn!("cannot end a command: {error}");
    }
}
