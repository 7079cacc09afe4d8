//! A program of the course that is built and run: a check, a prediction, a client's server, an attack.
//!
//! Knows children, their pipes and what they may use; tells the [`Desk`] what they print. One at a
//! time: the next one ends it.
//!
//! A student's file may loop without end, start itself, fill the memory or the disk. So its check is
//! a child in a group of its own, with a ceiling for each; when one is passed the whole group is
//! killed, and when it ends what is left of the group is.
//!
//! # Read next
//! `desk.rs`: who hears of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use waterwheel::net::{Conn, Lines};
use waterwheel::net::{Framed, framed};
use waterwheel::process::{Child, Exit, Signal, Spawn};
use waterwheel::reactor::Missed;
use waterwheel::timers::TimerId;
use waterwheel::{Context, SourceId};

use crate::book::{self, Chapter};
use crate::desk::{Desk, Told};
use crate::report::{self, Built, Verdict};

/// How long a check, or a prediction, may take.
pub const CEILING: Duration = Duration::from_secs(60);
/// How long an attack may take.
pub const BREAK_CEILING: Duration = Duration::from_secs(300);
/// How long a compiler may take: the first time it compiles the library.
pub const BUILD_CEILING: Duration = Duration::from_secs(600);
/// The most bytes that a program may print.
pub const PRINTED_MAX: usize = 1024 * 1024;
/// The most processes of a check.
pub const PROCESSES_MAX: usize = 64;
/// The most processes and threads that there may be of this user meanwhile, above those that there
/// are. A program that starts itself is faster than whoever counts its processes; the system itself
/// refuses them then, unless the user is root.
const TASKS_MAX: usize = 2000;
/// By how much a check is nicer than this program, which has to be in time to end it.
const NICER: u32 = 5;
/// The most memory of a check, in KiB: 2 GiB of addresses, of which a thread's stack takes 2 MiB.
const MEMORY_KIB_MAX: u64 = 2 * 1024 * 1024;
/// The most bytes of a file that a check writes, in blocks of 512: 16 MiB.
const FILE_BLOCKS_MAX: u64 = 32 * 1024;
/// The most bytes of all that a check writes into its folder.
pub const WRITTEN_MAX: u64 = 64 * 1024 * 1024;
/// How often these are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// The most bytes of a line; a longer one comes in pieces.
const LINE_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Check,
    /// A check whose verdict is for a teacher.
    Certify,
    Predict,
    Run,
    Break,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Check | Kind::Certify => "check",
            Kind::Predict => "predict",
            Kind::Run => "run",
            Kind::Break => "break",
        }
    }

    /// What Cargo calls the program, and how it is asked for.
    fn target(self, chapter: &Chapter) -> (&'static [&'static str], String) {
        if let Some((quiz, _)) = chapter.quiz {
            return (&["build", "--example"], format!("quiz{quiz}"));
        }
        match self {
            Kind::Check | Kind::Certify => (&["test", "--no-run", "--test"], chapter.check()),
            _ => (&["build", "--example"], format!("{}{:02}", self.word(), chapter.number)),
        }
    }

    /// Returns true if it runs the tests of a student's file.
    pub fn is_check(self) -> bool {
        matches!(self, Kind::Check | Kind::Certify)
    }

    /// `LEARN_CEILING` is another one, in seconds.
    fn ceiling(self) -> Option<Duration> {
        let other = std::env::var("LEARN_CEILING").ok().and_then(|seconds| seconds.parse().ok());
        match self {
            _ if other.is_some() => other.map(Duration::from_secs),
            Kind::Check | Kind::Certify | Kind::Predict => Some(CEILING),
            Kind::Break => Some(BREAK_CEILING),
            Kind::Run => None,
        }
    }
}

/// The job that runs.
#[derive(Debug)]
pub struct Job {
    pub kind: Kind,
    pub chapter: Chapter,
    /// What it is; its number tells it from the one before.
    pub number: u64,
    child: Option<SourceId<Child>>,
    pipes: Vec<SourceId<Conn>>,
    built: Built,
    is_built: bool,
    printed: usize,
    said: String,
    /// Why it was killed.
    why: Option<String>,
    timers: Vec<TimerId>,
    /// The folder in which a check runs.
    scratch: Option<PathBuf>,
}

/// Ends the job that runs, if one does, without a word about it.
pub fn stop(reactor: &mut Context<Desk>, desk: &mut Desk) {
    let Some(mut job) = desk.job.take() else { return };
    if let Some(child) = job.child.take() {
        let _ = child.kill(reactor, Signal::KILL); // Else it has ended.
    }
    job.clear(reactor);
}

/// Runs a check that is built, of a chapter of which nothing else is touched; the verdict is in
/// `desk.certified`.
pub fn certify(reactor: &mut Context<Desk>, desk: &mut Desk, chapter: &Chapter, program: &Path) {
    begin(desk, Kind::Certify, chapter);
    desk.job.iter_mut().for_each(|job| job.is_built = true);
    run(reactor, desk, &program.display().to_string());
}

fn begin(desk: &mut Desk, kind: Kind, chapter: &Chapter) {
    desk.jobs += 1;
    desk.job = Some(Job {
        kind,
        chapter: chapter.clone(),
        number: desk.jobs,
        child: None,
        pipes: Vec::new(),
        built: Built::default(),
        is_built: false,
        printed: 0,
        said: String::new(),
        why: None,
        timers: Vec::new(),
        scratch: None,
    });
}

/// Builds a program of the chapter, and runs it.
pub fn start(reactor: &mut Context<Desk>, desk: &mut Desk, kind: Kind, chapter: &Chapter) {
    stop(reactor, desk);
    begin(desk, kind, chapter);
    desk.tell(reactor, Told::Begins(kind, chapter));
    match chapter.mend() {
        Ok(said) => said.iter().for_each(|line| desk.tell(reactor, Told::Line(line))),
        Err(error) => {
            return end(reactor, desk, Verdict::of(format!("{}: {error}", chapter.name)));
        }
    }
    let (how, target) = kind.target(chapter);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(&how[..how.len() - 1]).args(["--package", "course", "--message-format=json"]);
    command.arg(how[how.len() - 1]).arg(&target).current_dir(book::top());
    command.env("CARGO_TERM_COLOR", "never").stdin(Stdio::null());
    spawn(reactor, desk, command, Some(BUILD_CEILING), move |job, line, is_out| {
        if is_out {
            job.built.line(line, &target);
        }
        // What the compiler says is shown from its errors; of the rest, what it is about.
        let shown = line.trim_start();
        (!is_out && ["Compiling", "Blocking", "error"].iter().any(|word| shown.starts_with(word)))
            .then(|| shown.to_owned())
    });
}

/// Starts a child of the job: `line` is called for each that it prints, and gives what is shown.
fn spawn(
    reactor: &mut Context<Desk>,
    desk: &mut Desk,
    command: Command,
    ceiling: Option<Duration>,
    line: impl Fn(&mut Job, &str, bool) -> Option<String> + Clone + 'static,
) {
    let Some(number) = desk.job.as_ref().map(|job| job.number) else { return };
    let spawn = Spawn::new(command).stdout().stderr().group_ends_with_it().kill_on_drop();
    let spawned = spawn.open(reactor, move |reactor, desk: &mut Desk, _, exit| {
        if desk.job.as_ref().is_some_and(|job| job.number == number) {
            ended(reactor, desk, &exit);
        }
    });
    let spawned = match spawned {
        Ok(spawned) => spawned,
        Err(error) => return end(reactor, desk, Verdict::of(error.to_string())),
    };
    let mut pipes = Vec::new();
    for (pipe, is_out) in [(spawned.stdout, true), (spawned.stderr, false)] {
        let line = line.clone();
        let lines = framed(Lines::new(LINE_BYTES_MAX), {
            move |reactor: &mut Context<Desk>, desk: &mut Desk, id: SourceId<Conn>, frame| {
                let text = match frame {
                    Framed::Frame(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    Framed::Error(_) => {
                        id.close(reactor);
                        return kill(reactor, desk, number, "It has printed a line without end.");
                    }
                    _ => return,
                };
                printed(reactor, desk, number, |job| line(job, &text, is_out), text.len() + 1);
            }
        });
        pipes.extend(pipe.map(|pipe| pipe.open(reactor, lines)));
    }
    let limit = ceiling.map(|ceiling| {
        reactor.after(ceiling, move |reactor, desk: &mut Desk| {
            let why = format!("It still ran after {} s: a loop does not end.", ceiling.as_secs());
            kill(reactor, desk, number, &why);
        })
    });
    if let Some(job) = &mut desk.job {
        job.child = Some(spawned.id);
        job.pipes = pipes;
        job.timers.extend(limit);
    }
}

/// A line has come from the job of that number.
fn printed(
    reactor: &mut Context<Desk>,
    desk: &mut Desk,
    number: u64,
    show: impl FnOnce(&mut Job) -> Option<String>,
    bytes: usize,
) {
    let Some(job) = desk.job.as_mut().filter(|job| job.number == number) else { return };
    if job.is_built {
        job.printed += bytes;
        if job.printed > PRINTED_MAX {
            let why = format!("It has printed more than {PRINTED_MAX} bytes.");
            return kill(reactor, desk, number, &why);
        }
    }
    if let Some(text) = show(job) {
        desk.tell(reactor, Told::Line(&text));
    }
}

/// Kills the job of that number and all that it has started, and keeps why.
fn kill(reactor: &mut Context<Desk>, desk: &mut Desk, number: u64, why: &str) {
    let Some(job) = desk.job.as_mut().filter(|job| job.number == number) else { return };
    job.why.get_or_insert_with(|| why.to_owned());
    if let Some(child) = job.child
        && let Err(error) = child.kill(reactor, Signal::KILL)
    {
        desk.tell(reactor, Told::Line(&format!("It cannot be killed: {error}.")));
    }
}

/// A child of the job has ended.
fn ended(reactor: &mut Context<Desk>, desk: &mut Desk, exit: &Exit) {
    let Some(job) = &mut desk.job else { return };
    job.child = None;
    for timer in job.timers.drain(..) {
        reactor.cancel(timer);
    }
    let why = job.why.take();
    if !job.is_built {
        job.is_built = true;
        return match (why, job.built.program.take()) {
            (Some(why), _) => end(reactor, desk, Verdict::of(why)),
            (None, Some(program)) if exit.is_success() => run(reactor, desk, &program),
            (None, _) => {
                let verdict = job.built.verdict(&job.chapter.shown());
                end(reactor, desk, verdict);
            }
        };
    }
    let how = (!exit.is_success() && exit.code() != 101).then(|| ending(exit)).flatten();
    let why = why.or(how);
    let verdict = if job.kind.is_check() {
        report::verdict(job.chapter.given("check.rs"), &job.said, why.as_deref())
    } else {
        Verdict {
            passed: exit.is_success(),
            sentence: why.unwrap_or_default(),
            ..Verdict::default()
        }
    };
    end(reactor, desk, verdict);
}

/// What a signal that has ended it means.
fn ending(exit: &Exit) -> Option<String> {
    const TOO_LONG: i32 = 128 + 25;
    (exit.code() == TOO_LONG)
        .then(|| format!("It has written more than {} MiB to one file.", FILE_BLOCKS_MAX / 2048))
}

/// Runs what was built.
fn run(reactor: &mut Context<Desk>, desk: &mut Desk, program: &str) {
    let Some(job) = &mut desk.job else { return };
    let (kind, number) = (job.kind, job.number);
    let mut command;
    if kind.is_check() {
        let scratch = match scratch(job.number) {
            Ok(scratch) => scratch,
            Err(error) => {
                return end(reactor, desk, Verdict::of(format!("no folder for it: {error}")));
            }
        };
        // The limits are the shell's, which becomes the program. Where a system has no such limit
        // the rest still holds; that of tasks has one name in Bash, and another one in Dash.
        let tasks = tasks() + TASKS_MAX;
        let limits = format!(
            "ulimit -c 0; ulimit -f {FILE_BLOCKS_MAX}; ulimit -v {MEMORY_KIB_MAX} 2>/dev/null; \
             ulimit -u {tasks} 2>/dev/null || ulimit -p {tasks} 2>/dev/null; exec nice -n {NICER} \"$0\""
        );
        command = Command::new("sh");
        command.arg("-c").arg(limits).arg(program).current_dir(&scratch);
        job.scratch = Some(scratch);
    } else {
        command = Command::new(program);
        command.args(job.chapter.quiz.map(|(_, question)| question.to_string()));
        command.current_dir(book::top());
    }
    command.env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    spawn(reactor, desk, command, kind.ceiling(), move |job, line, _| {
        job.said.push_str(line);
        job.said.push('\n');
        Some(line.to_owned())
    });
    if kind.is_check() && desk.job.is_some() {
        let look = reactor.every(LOOK, Missed::Skip, move |reactor, desk: &mut Desk, _| {
            look(reactor, desk, number);
        });
        desk.job.iter_mut().for_each(|job| job.timers.push(look));
    }
}

/// What the check uses now.
fn look(reactor: &mut Context<Desk>, desk: &mut Desk, number: u64) {
    let Some(job) = desk.job.as_ref().filter(|job| job.number == number) else { return };
    let group = job.child.and_then(|child| child.pid(reactor));
    if group.is_some_and(|group| members(group) > PROCESSES_MAX) {
        let why = format!("It has started more than {PROCESSES_MAX} processes.");
        return kill(reactor, desk, number, &why);
    }
    if job.scratch.as_deref().is_some_and(|folder| size(folder) > WRITTEN_MAX) {
        let why = format!("It has written more than {} MiB.", WRITTEN_MAX >> 20);
        kill(reactor, desk, number, &why);
    }
}

/// The folders of /proc that are processes; none where there is no /proc.
fn processes() -> impl Iterator<Item = fs::DirEntry> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries.filter(move |entry| entry.file_name().to_str().is_some_and(is_number))
}

/// How many processes and threads there are, of whatever user.
fn tasks() -> usize {
    let threads = |entry: fs::DirEntry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"))?;
        threads.trim().parse::<usize>().ok()
    };
    processes().filter_map(threads).sum()
}

/// How many processes are in a group: the fifth field of /proc/PID/stat, proc(5).
fn members(group: u32) -> usize {
    let is_in = |entry: &fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        after.split(' ').nth(2).and_then(|field| field.parse().ok()) == Some(group)
    };
    processes().filter(is_in).count()
}

/// The bytes of all files in a folder; folders in it count, too.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => size(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

fn scratch(number: u64) -> io::Result<PathBuf> {
    let folder = book::top().join(format!("target/learn/{}-{number}", std::process::id()));
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The job is over.
fn end(reactor: &mut Context<Desk>, desk: &mut Desk, verdict: Verdict) {
    let Some(mut job) = desk.job.take() else { return };
    job.clear(reactor);
    if job.kind == Kind::Certify {
        desk.certified = Some(verdict);
        return reactor.stop();
    }
    if let Ok(said) = job.chapter.mend() {
        let missing = said.iter().filter(|line| line.ends_with("put back."));
        missing.for_each(|line| desk.tell(reactor, Told::Line(line)));
    }
    desk.is_over(reactor, &job, verdict);
}

impl Job {
    /// Returns true if it is compiled and runs.
    pub fn is_built(&self) -> bool {
        self.is_built
    }

    /// What it has printed.
    pub fn said(&self) -> &str {
        &self.said
    }

    fn clear(&mut self, reactor: &mut Context<Desk>) {
        for timer in self.timers.drain(..) {
            reactor.cancel(timer);
        }
        for pipe in self.pipes.drain(..) {
            pipe.close(reactor);
        }
        if let Some(scratch) = self.scratch.take() {
            let _ = fs::remove_dir_all(scratch); // Else it is left in `target`.
        }
    }
}
