//! Children: other programs, their pipes as streams, and their end.
//!
//! Knows SIGCHLD, pipes and the loop. Not part of the reactor, which knows no streams.
//!
//! The end of a child and the end of its output are two events that come in any order. Here `Exit`
//! is delivered last, and once:
//!
//! ```text
//!   spawn ──▶ runs ──exits──▶ a zombie: its pid is still ours ──▶ reaped, Exit, id stale    
//!               ▲                │                                 ▲
//!    kill, terminate             └── stdout and stderr are closed ─┤
//!                                    drain_grace is up ────────────┘
//! ```
//!
//! A pipe ends when the last process that has it open is gone, and that may be a grandchild that
//! never ends. So the wait for pipes has a bound ([`Spawn::drain_grace`], a second); later output
//! is delivered after the [`Exit`], which then has `drained: false`. Pipes also hold the loop only
//! for a second more ([`Spawn::linger`]); then it ends when nothing else holds it.
//!
//! # Rules
//! 1. `Exit` is delivered exactly once for each child that was started, and never for one that
//!    could not be started.
//! 2. Only our own children are waited for, each by its pid, never "any": a library or another loop
//!    may have some.
//! 3. A child is reaped when its `Exit` is delivered. Until then its pid is not used again, so a
//!    signal cannot hit another process.
//! 4. A child inherits stdin, stdout and stderr, and no other descriptor of this library or of std:
//!    they all close on exec (open(2), `O_CLOEXEC`).
//! 5. Dropping the loop, or removing the source, leaves a child running, as std does, and reaps it
//!    only if it has ended; [`Spawn::kill_on_drop`] kills it instead and waits for that.
//! 6. Its end is noticed even if the parent of this process has blocked SIGCHLD, or ignored it: the
//!    kernel would then reap children by itself, and their status would be lost.
//! 7. As in std, a child inherits the signals that are blocked in the thread that starts it and
//!    those ignored in this process, because nohup(1) and similar programs rely on that. The loop
//!    neither blocks nor ignores the signals it handles ([`Context::on_signal`]), so a child begins
//!    with their default. To clear the rest, the loop would have to unblock them itself during the
//!    start, and a signal that waits, blocked, would then take effect.
//!
//! On Linux each child has a descriptor that becomes readable when it ends, pidfd_open(2). Where
//! there is none, SIGCHLD only means that some child has ended, so each SIGCHLD costs a waitid(2)
//! for every child of the loop.
//!
//! # Read next
//! `spawn.rs`: how one is started.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::Signal;
use crate::reactor::{Context, RawId, Readiness, SourceId};

mod pipes;
mod spawn;
#[cfg(test)]
mod tests;

use pipes::Pipes;
pub use spawn::{Spawn, Spawned, spawn};

/// A running program that this one started.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    pid: Pid,
    /// Readable when it has ended; `None` where SIGCHLD has to report that.
    pidfd: Option<OwnedFd>,
    name: String,
    /// True if it leads a process group of its own.
    is_group: bool,
    kills_on_drop: bool,
    drain_grace: Duration,
    linger: Duration,
    pipes: Rc<Pipes>,
    /// True if it has ended and is not reaped.
    has_exited: bool,
    /// The grace that `terminate` asked for and that has not begun to run.
    asked: Option<Duration>,
    due: Due,
    /// True if the rest of its group is killed when it ends.
    takes_group: bool,
}

/// The purpose of its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Kill,
    Exit,
}

/// The end of a child.
#[derive(Debug)]
pub struct Exit {
    /// Its exit code, or the signal that killed it. An error if other code has waited for it, so
    /// that the status is unknown.
    pub status: io::Result<ExitStatus>,
    /// True if all of its output was delivered before. False if a pipe was still open when
    /// [`Spawn::drain_grace`] was up.
    pub drained: bool,
}

impl Exit {
    /// Returns true if it ended with code 0.
    pub fn is_success(&self) -> bool {
        self.status.as_ref().is_ok_and(ExitStatus::success)
    }

    /// A code as shells give it: the child's own, 128 and the signal's number, or 127 for unknown.
    pub fn code(&self) -> i32 {
        let code = |status: &ExitStatus| {
            status.code().or_else(|| status.signal().map(|signal| 128 + signal))
        };
        self.status.as_ref().ok().and_then(code).unwrap_or(127)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            Ok(status) => status.fmt(f),
            Err(error) => write!(f, "unknown exit status: {error}"),
        }
    }
}

impl Child {
    /// Its process id. The system may use it again after [`Exit`] is delivered.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// The program, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends it a signal; with [`Spawn::group`], to its whole group. If it has ended already, this
    /// has no effect and is no error.
    ///
    /// # Errors
    /// The signal does not exist, or it runs as another user (a set-user-id program).
    pub fn kill(&mut self, signal: Signal) -> io::Result<()> {
        let Some(raw) = rustix::process::Signal::from_named_raw(signal.as_raw()) else {
            let error = format!("cannot send {signal}: there is no such signal");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        };
        let sent = if self.is_group {
            rustix::process::kill_process_group(self.pid, raw)
        } else {
            rustix::process::kill_process(self.pid, raw)
        };
        match sent {
            // It has ended, and other code has waited for it.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks it to end (SIGTERM), and kills it (SIGKILL) if it still runs after `grace`. With
    /// [`Spawn::group`] it does so to the whole group, and when [`Exit`] is delivered it kills the
    /// rest of the group. A stopped child is continued, so that it can handle the signal.
    ///
    /// # Errors
    /// As [`kill`](Child::kill). It will still be killed.
    pub fn terminate(&mut self, grace: Duration) -> io::Result<()> {
        self.asked = Some(grace);
        self.takes_group = self.is_group;
        self.kill(Signal::TERM)?;
        self.kill(Signal::CONT)
    }

    /// Returns true if it has ended. Does not reap it.
    fn look(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            match rustix::process::waitid(WaitId::Pid(self.pid), options) {
                Ok(status) => return status.is_some(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return true, // Not our child any more: `reap` gives the error.
            }
        }
    }

    /// Returns true if a later kill may reach a process: the child, or the rest of its group.
    fn can_be_killed(&self) -> bool {
        self.is_group || !self.has_exited
    }

    /// Its status, which makes its pid free to be used again.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        if self.takes_group
            && let Err(error) = self.kill(Signal::KILL)
        {
            log::warn!("cannot kill what is left of {:?}: {error}", self.name);
        }
        self.kills_on_drop = false;
        self.process.try_wait()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let done = if self.kills_on_drop {
            self.kill(Signal::KILL).and_then(|()| self.process.wait().map(Some))
        } else {
            self.process.try_wait()
        };
        if let Err(error) = done {
            log::debug!("{:?} with pid {}: {error}", self.name, self.pid());
        }
    }
}

/// The selector reports its end, or SIGCHLD resumes it; the pipes report their own end.
impl mio::event::Source for Child {
    fn register(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.pipes.belong_to(RawId::from_token(token));
        if let Some(pidfd) = &self.pidfd
            && let Err(error) = SourceFd(&pidfd.as_raw_fd()).register(r, token, interest)
        {
            log::debug!("{:?} with pid {}: no event for its end: {error}", self.name, self.pid());
            self.pidfd = None; // There is SIGCHLD.
        }
        Ok(())
    }

    fn reregister(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        let Some(pidfd) = &self.pidfd else { return Ok(()) };
        SourceFd(&pidfd.as_raw_fd()).reregister(r, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let Some(pidfd) = self.pidfd.take() else { return Ok(()) };
        SourceFd(&pidfd.as_raw_fd()).deregister(registry)
    }
}

/// A child's source is called: it has ended, or some child has, its pipes have, its time is up, or
/// the program asked for its end.
fn drive<S: 'static, F>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Child>,
    ready: Readiness,
    on_exit: &mut Option<F>,
) where
    F: FnOnce(&mut Context<S>, &mut S, SourceId<Child>, Exit),
{
    let child = &mut reactor[id];
    if let Some(grace) = child.asked.take()
        && child.can_be_killed()
    {
        arm(reactor, id, Due::Kill, grace);
    }
    if ready.contains(Readiness::FLUSH) {
        return;
    }
    let child = &mut reactor[id];
    let up = if ready.contains(Readiness::DEADLINE) { child.due } else { Due::Nothing };
    let had_exited = child.has_exited;
    child.has_exited = had_exited || child.look();
    if up == Due::Kill {
        child.due = Due::Nothing;
        if let Err(error) = child.kill(Signal::KILL) {
            log::error!("cannot kill {:?} with pid {}: {error}", child.name, child.pid());
        }
    }
    if !child.has_exited {
        return;
    }
    let drained = child.pipes.are_drained();
    if !drained && up != Due::Exit {
        if child.due == Due::Nothing || child.due == Due::Kill && !child.can_be_killed() {
            let grace = child.drain_grace;
            arm(reactor, id, Due::Exit, grace);
        }
        return;
    }
    let Some(mut child) = reactor.deregister(id) else { return };
    let exit = Exit { status: child.reap(), drained };
    child.pipes.clone().let_go_after(reactor, child.linger);
    drop(child);
    if let Some(on_exit) = on_exit.take() {
        on_exit(reactor, state, id, exit);
    }
}

fn arm<S: 'static>(reactor: &mut Context<S>, id: SourceId<Child>, due: Due, after: Duration) {
    reactor[id].due = due;
    let tick = reactor.tick_after(after);
    reactor.set_deadline(id, Some(tick));
}

/// Operations on a child. One that has ended is gone when its end has been delivered.
impl SourceId<Child> {
    /// Its process id.
    pub fn pid<S: 'static>(self, reactor: &Context<S>) -> Option<u32> {
        reactor.get(self).map(Child::pid)
    }

    /// Sends it a signal; see [`Child::kill`](Child::kill). False if it is gone.
    ///
    /// # Errors
    /// The signal does not exist, or the child runs as another user.
    pub fn kill<S: 'static>(self, reactor: &mut Context<S>, signal: Signal) -> io::Result<bool> {
        reactor.get_mut(self).map_or(Ok(false), |child| child.kill(signal).map(|()| true))
    }

    /// Asks it to end, and kills it if it has not after `grace`; see
    /// [`Child::terminate`](Child::terminate). False if it is gone.
    ///
    /// # Errors
    /// As [`kill`](SourceId::kill). It will still be killed.
    pub fn terminate<S: 'static>(
        self,
        reactor: &mut Context<S>,
        grace: Duration,
    ) -> io::Result<bool> {
        reactor.get_mut(self).map_or(Ok(false), |child| child.terminate(grace).map(|()| true))
    }
}
