//! Starting a child.
//!
//! Knows std's `Command`; `mod.rs` has the life of the child.
//!
//! # Read next
//! `../../net/wire.rs`: connections that need no kernel.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Pid;

use super::super::Signal;
use super::pipes::Held;
use super::{Child, Due, Exit, Pipes, drive};
use crate::net::Stream;
use crate::net::descriptor::{reader_with, writer_with};
use crate::reactor::{Context, Interest, Options, SourceId};

/// Starts a program with the stdin, stdout and stderr that `command` sets, our own by default, and
/// calls `on_exit` once, when it has ended. [`Spawn`] makes pipes of them.
///
/// # Errors
/// As [`Spawn::open`].
#[track_caller]
pub fn spawn<S, F>(
    reactor: &mut Context<S>,
    command: Command,
    on_exit: F,
) -> io::Result<SourceId<Child>>
where
    S: 'static,
    F: FnOnce(&mut Context<S>, &mut S, SourceId<Child>, Exit) + 'static,
{
    Spawn::new(command).open(reactor, on_exit).map(|spawned| spawned.id)
}

/// A program to be started, with its pipes and options.
///
/// ```
/// use std::process::Command;
/// use waterwheel::{Reactor, net::Event, process::{Spawn}};
///
/// let mut command = Command::new("echo");
/// command.arg("hello");
/// let mut reactor = Reactor::new()?;
/// let child = Spawn::new(command).stdout().open(&mut reactor, |_, output: &mut Vec<u8>, _, exit| {
///     println!("{exit}, after {} bytes", output.len()); // exit status: 0, after 6 bytes
/// })?;
/// child.stdout.unwrap().open(&mut reactor, |_, output: &mut Vec<u8>, _, event| {
///     if let Event::Data(bytes) = event {
///         output.extend(bytes);
///     }
/// });
/// let mut output = Vec::new();
/// reactor.run(&mut output)?;
/// assert_eq!(output, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Spawn {
    command: Command,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    group: bool,
    kill_rest: bool,
    kill_on_drop: bool,
    drain_grace: Duration,
    linger: Duration,
}

/// A child that was started, and the pipes that were asked for. Each is opened like any stream;
/// dropping it closes it.
#[derive(Debug)]
pub struct Spawned {
    /// Names the child.
    pub id: SourceId<Child>,
    /// Writes to its stdin; closing it is the end of its input.
    pub stdin: Option<Stream>,
    /// Reads its stdout.
    pub stdout: Option<Stream>,
    /// Reads its stderr.
    pub stderr: Option<Stream>,
}

impl Spawn {
    /// Runs `command` with the stdin, stdout and stderr that it sets; pipes that it asks for are
    /// handed out, too.
    pub fn new(command: Command) -> Spawn {
        Spawn {
            command,
            stdin: false,
            stdout: false,
            stderr: false,
            group: false,
            kill_rest: false,
            kill_on_drop: false,
            drain_grace: Duration::from_secs(1),
            linger: Duration::from_secs(1),
        }
    }

    /// Makes its stdin a pipe.
    pub fn stdin(mut self) -> Spawn {
        self.stdin = true;
        self
    }

    /// Makes its stdout a pipe.
    pub fn stdout(mut self) -> Spawn {
        self.stdout = true;
        self
    }

    /// Makes its stderr a pipe.
    pub fn stderr(mut self) -> Spawn {
        self.stderr = true;
        self
    }

    /// Lets it lead a process group of its own, to which all that it starts belongs as well:
    /// signals go to them all, except those of our terminal (Ctrl-C). They may not read from the
    /// terminal then.
    pub fn group(mut self) -> Spawn {
        self.group = true;
        self
    }

    /// As [`group`](Spawn::group); and when [`Exit`](super::Exit) is delivered, what is left of the group
    /// is killed. Off: it goes on.
    pub fn group_ends_with_it(mut self) -> Spawn {
        self.kill_rest = true;
        self.group()
    }

    /// Kills it, with its group if it has one, when its source is dropped, and waits until it is
    /// gone, which takes as long as the kernel needs for a killed process. Off: it is left running.
    pub fn kill_on_drop(mut self) -> Spawn {
        self.kill_on_drop = true;
        self
    }

    /// How long the child's [`Exit`](super::Exit) waits for its output pipes to close. A grandchild
    /// may keep them open, or a handler that has paused may not read them. 1 s.
    pub fn drain_grace(mut self, grace: Duration) -> Spawn {
        self.drain_grace = grace;
        self
    }

    /// How long its pipes may hold the loop after its [`Exit`](super::Exit): a grandchild has their
    /// other ends. After that they stay open and their bytes are delivered, but the loop no longer
    /// waits for them. It does wait for a pipe that its handler has paused. 1 s; `Duration::MAX` is
    /// without end.
    pub fn linger(mut self, linger: Duration) -> Spawn {
        self.linger = linger;
        self
    }

    /// Starts the program, and calls `on_exit` once, when it has ended and its output was
    /// delivered. Its id is stale by then. It holds the loop, and on Linux costs a descriptor.
    /// Blocks until the program is loaded.
    ///
    /// # Errors
    /// Nothing was started, and `on_exit` will not be called: no such program (the error names it),
    /// no right to run it, out of processes or descriptors.
    #[track_caller]
    pub fn open<S, F>(self, reactor: &mut Context<S>, on_exit: F) -> io::Result<Spawned>
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S, SourceId<Child>, Exit) + 'static,
    {
        self.open_by(reactor, pidfd, on_exit)
    }

    /// [`open`](Spawn::open) with the function that gives a descriptor for the child's end.
    #[track_caller]
    pub(super) fn open_by<S, F>(
        mut self,
        reactor: &mut Context<S>,
        pidfd: fn(Pid) -> io::Result<OwnedFd>,
        on_exit: F,
    ) -> io::Result<Spawned>
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S, SourceId<Child>, Exit) + 'static,
    {
        reactor.catch_signal(Signal::CHLD)?; // Before it can end; SIGCHLD must not be ignored.
        let mut child = self.start(Rc::new(Pipes::new(reactor.resumer())))?;
        child.pidfd = pidfd(child.pid).ok(); // An old kernel, out of descriptors: there is SIGCHLD.
        let process = &mut child.process;
        let (stdin, stdout, stderr) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let held = |is_output| Held::new(&child.pipes, is_output);
        let stdin = stdin.map(|pipe| writer_with(reactor, pipe, held(false))).transpose()?;
        let stdout = stdout.map(|pipe| reader_with(reactor, pipe, held(true))).transpose()?;
        let stderr = stderr.map(|pipe| reader_with(reactor, pipe, held(true))).transpose()?;
        let mut on_exit = Some(on_exit);
        let options = Options { flush: true, ..Options::default() };
        let drive = move |reactor: &mut _, state: &mut _, id, ready| {
            drive(reactor, state, id, ready, &mut on_exit);
        };
        let id = reactor.register_with(child, Interest::READABLE, options, drive)?;
        if reactor[id].pidfd.is_none() {
            reactor.resume_on_signal(Signal::CHLD, id.raw())?;
        }
        reactor[id].kills_on_drop = self.kill_on_drop;
        Ok(Spawned { id, stdin, stdout, stderr })
    }

    /// Starts it. Until it belongs to the loop, any error kills it.
    fn start(&mut self, pipes: Rc<Pipes>) -> io::Result<Child> {
        if self.stdin {
            self.command.stdin(Stdio::piped());
        }
        if self.stdout {
            self.command.stdout(Stdio::piped());
        }
        if self.stderr {
            self.command.stderr(Stdio::piped());
        }
        if self.group {
            self.command.process_group(0);
        }
        let name = self.command.get_program().to_string_lossy().into_owned();
        let process = self.command.spawn().map_err(|error| {
            let folder = self.command.get_current_dir();
            let folder = folder.map_or(String::new(), |folder| format!(" in {}", folder.display()));
            io::Error::new(error.kind(), format!("cannot start {name}{folder}: {error}"))
        })?;
        Ok(Child {
            pid: Pid::from_child(&process),
            pidfd: None,
            process,
            name,
            is_group: self.group,
            kills_on_drop: true,
            drain_grace: self.drain_grace,
            linger: self.linger,
            pipes,
            has_exited: false,
            asked: None,
            due: Due::Nothing,
            takes_group: self.kill_rest,
        })
    }
}

#[cfg(target_os = "linux")]
fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

#[cfg(not(target_os = "linux"))]
fn pidfd(_: Pid) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}
