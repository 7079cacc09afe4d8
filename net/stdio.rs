//! Stdin, stdout and stderr as streams.
//!
//! Knows how to get a descriptor of our own to a file that other programs have open, too;
//! `descriptor.rs` uses it.
//!
//! A loop needs descriptors that do not block, and that is a property of the *open file
//! description* (open(2)), which our stdin shares with the shell that started us and with all other
//! programs it started. If a shell's terminal is made non-blocking, other programs see it as ended
//! or broken. So pipes and terminals are opened again through `/proc/self/fd`, for a description of
//! our own:
//!
//! ```text
//!   shell ── fd 0 ──┐
//!   us ───── fd 0 ──┴── description, blocks ──────┐
//!   loop ── fd 7 ────── description, does not ────┴── /dev/pts/3
//! ```
//!
//! Where that does not work (not Linux, no `/proc`, another user's terminal after su(1), a socket)
//! the shared one is changed, and restored when the stream is dropped; a process that is killed
//! restores nothing. Regular files are never opened again: the position belongs to the description.
//!
//! # Read next
//! `../process/child/mod.rs`: other programs, by their stdin and stdout.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use super::descriptor::{Descriptor, Side};
use super::limits::Limits;
use super::stream::Stream;
use crate::reactor::Context;

/// O_NONBLOCK and O_NOCTTY, by the numbers of most Linux machines: opening a FIFO must not wait for
/// its other end.
const OPEN_FLAGS: i32 = 0o4000 | 0o400;
/// True if these are the numbers here, and the link leads to the file and not to the description.
const REOPENS: bool = cfg!(all(
    target_os = "linux",
    not(any(
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "mips32r6",
        target_arch = "mips64r6",
        target_arch = "sparc",
        target_arch = "sparc64"
    ))
));
/// The device number of /dev/ptmx, which makes a new terminal each time it is opened.
const PTMX: u64 = 5 << 8 | 2;

/// Stdin and stdout as one stream: typed bytes arrive as `Data`, written bytes are printed.
///
/// It begins with [`Limits::half_open`]: after the end of stdin (Ctrl-D) it may be written to until
/// it is closed. Closing it ends the stream and not the process's stdin and stdout: a reader of our
/// stdout sees the end when the process ends. (If stdout is a socket, that is shut down at once.)
///
/// Bytes that `std::io::stdin` has buffered are not seen here, and the other way round.
///
/// ```no_run
/// use waterwheel::{Reactor, net::{self, Event}};
///
/// let mut reactor = Reactor::<()>::new()?;
/// let terminal = net::stdio(&mut reactor)?;
/// terminal.open(&mut reactor, |reactor, _, terminal, event| match event {
///     Event::Data(line) => {
///         let _ = terminal.write(reactor, &line.to_ascii_uppercase());
///     }
///     Event::Eof => { terminal.close(reactor); }
///     _ => {}
/// });
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Stdin or stdout is closed, or there is no descriptor left.
pub fn stdio<S: 'static>(reactor: &mut Context<S>) -> io::Result<Stream> {
    let reader = inherited(io::stdin().as_fd(), false)?;
    let writer = inherited(io::stdout().as_fd(), true)?;
    let stream = Stream::over(Descriptor::new(reactor, Some(reader), Some(writer)));
    Ok(stream.limits(Limits { half_open: true, ..Limits::default() }))
}

/// Stdin as a stream that is only read; see [`descriptor::reader`](super::descriptor::reader).
///
/// # Errors
/// As [`stdio`].
pub fn stdin<S: 'static>(reactor: &mut Context<S>) -> io::Result<Stream> {
    let reader = inherited(io::stdin().as_fd(), false)?;
    Ok(Stream::one_way(Descriptor::new(reactor, Some(reader), None), true))
}

/// Stdout as a stream that is only written to; see
/// [`descriptor::writer`](super::descriptor::writer).
///
/// # Errors
/// As [`stdio`].
pub fn stdout<S: 'static>(reactor: &mut Context<S>) -> io::Result<Stream> {
    let writer = inherited(io::stdout().as_fd(), true)?;
    Ok(Stream::one_way(Descriptor::new(reactor, None, Some(writer)), false))
}

/// Stderr as a stream that is only written to.
///
/// # Errors
/// As [`stdio`].
pub fn stderr<S: 'static>(reactor: &mut Context<S>) -> io::Result<Stream> {
    let writer = inherited(io::stderr().as_fd(), true)?;
    Ok(Stream::one_way(Descriptor::new(reactor, None, Some(writer)), false))
}

/// A descriptor of our own for one that is shared.
fn inherited(fd: BorrowedFd<'_>, write: bool) -> io::Result<Side> {
    let shared = File::from(fd.try_clone_to_owned()?);
    match reopened(&shared, write) {
        Some(own) => Side::new(own.into(), true),
        None => Side::new(shared.into(), false),
    }
}

/// The same file, opened again, if that has no other effect on such a file.
fn reopened(shared: &File, write: bool) -> Option<File> {
    let kind = shared.metadata().ok()?;
    let is_terminal = || shared.is_terminal() && kind.rdev() != PTMX;
    if !REOPENS || !(kind.file_type().is_fifo() || is_terminal()) {
        return None;
    }
    let mut options = OpenOptions::new();
    options.read(!write).write(write).custom_flags(OPEN_FLAGS);
    options.open(format!("/proc/self/fd/{}", shared.as_raw_fd())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_open_flags_are_this_systems() {
        let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY;
        assert!(!REOPENS || flags.bits() == OPEN_FLAGS);
    }
}
