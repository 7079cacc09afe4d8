//! Lines of a server, and of the log: a reader that does not read them stops nothing.
//!
//! A write to a pipe that is full waits, and with it the loop and all clients; if the pipe is
//! non-blocking, or the disk full, or the reader gone, it fails. None of that is a reason to stop
//! serving. So a line goes if there is room for it, and is dropped and counted if there is none.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Lines that were dropped since the last one that was printed.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Prints a line on stdout, or drops it. The next line that is printed adds the number dropped.
pub fn say(line: impl Display) {
    let lost = LOST.swap(0, Relaxed);
    let before = if lost > 0 { format!("(lines lost: {lost})\n") } else { String::new() };
    if offer(io::stdout(), format!("{before}{line}\n").as_bytes()).is_err() {
        LOST.fetch_add(lost + 1, Relaxed);
    }
}

/// Prints a problem on stderr, if there is room.
pub fn warn(line: impl Display) {
    let _ = offer(io::stderr(), format!("{line}\n").as_bytes());
}

/// The target of log lines: stderr, if there is room.
pub struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = offer(io::stderr(), line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes text if that need not wait. A pipe that has any room has room for PIPE_BUF bytes, which
/// go in one piece (pipe(7)): 4,096 on Linux, and our lines are shorter.
#[cfg(unix)]
fn offer(to: impl std::os::fd::AsFd, text: &[u8]) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut room = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
    while poll(&mut room, PollTimeout::ZERO) == Err(Errno::EINTR) {}
    if !room[0].revents().is_some_and(|found| found.contains(PollFlags::POLLOUT)) {
        return Err(Errno::EAGAIN.into());
    }
    loop {
        match nix::unistd::write(&to, text) {
            Err(Errno::EINTR) => {}
            written => return Ok(written.map(drop)?),
        }
    }
}

/// Writes text.
#[cfg(not(unix))]
fn offer(mut to: impl Write, text: &[u8]) -> io::Result<()> {
    to.write_all(text)
}
