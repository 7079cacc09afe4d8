//! A bare descriptor as a source.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// Anything with a file descriptor, as a source for [`register`](crate::Context::register): an
/// eventfd, a timerfd, a pipe, a socket of another library.
///
/// The descriptor must be non-blocking. Readiness is a hint, and a read past the last byte of a
/// blocking descriptor stops the whole loop until more comes. On Linux, debug builds check this and
/// panic. epoll refuses regular files with `EPERM`: the kernel has no readiness for them.
///
/// ```
/// use std::io::{ErrorKind, Read, Write};
/// use std::os::unix::net::UnixStream;
/// use waterwheel::net::Fd;
/// use waterwheel::reactor::{Interest, Reactor};
///
/// let (mut ours, theirs) = UnixStream::pair()?;
/// theirs.set_nonblocking(true)?;
/// let mut reactor = Reactor::new()?;
/// reactor.register(Fd(theirs), Interest::READABLE, |reactor, got: &mut Vec<u8>, id, _| {
///     let mut buffer = [0; 4];
///     loop { // Until there is no more: the next edge comes with new bytes only.
///         match reactor[id].0.read(&mut buffer) {
///             Ok(0) => return drop(reactor.remove(id)),
///             Ok(count) => got.extend(&buffer[..count]),
///             Err(error) if error.kind() == ErrorKind::WouldBlock => return,
///             Err(error) => panic!("{error}"),
///         }
///     }
/// })?;
/// ours.write_all(b"seven bytes, and then some")?;
/// drop(ours);
/// let mut got = Vec::new();
/// reactor.run(&mut got)?;
/// assert_eq!(got, b"seven bytes, and then some");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd<T>(pub T);

impl<T: AsRawFd> mio::event::Source for Fd<T> {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        SourceFd(&fd).register(registry, token, interest)?;
        debug_assert!(
            !blocks(fd),
            "descriptor {fd} is blocking: set O_NONBLOCK before it is registered, or a read that \
             finds nothing stops the whole loop"
        );
        Ok(())
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}

/// O_NONBLOCK, as open(2) has it on this processor.
const O_NONBLOCK: u32 = match () {
    () if cfg!(any(target_arch = "mips", target_arch = "mips64")) => 0o200,
    () if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) => 0x4000,
    () => 0o4000,
};

/// Kinds of descriptor that are only waited for and never read.
const NEVER_READ: [&str; 3] = ["eventpoll", "pidfd", "io_uring"];

/// Returns true if a read may block; false if that cannot be found out: only Linux has these files,
/// which need no right to a descriptor that is known by its number only (proc_pid_fdinfo(5)).
fn blocks(fd: RawFd) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let Some(Ok(flags)) = flags.map(|flags| u32::from_str_radix(flags.trim(), 8)) else {
        return false;
    };
    let what = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let is_read = !NEVER_READ.iter().any(|never| what.to_string_lossy().contains(never));
    is_read && flags & O_NONBLOCK == 0
}
