//! A bare descriptor as a source.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// Anything with a file descriptor, made fit for [`register`](super::Context::register): an
/// eventfd, a timerfd, a pipe, a socket of another library.
///
/// The descriptor should be non-blocking. Regular files are refused by epoll with `EPERM`: the
/// kernel has no readiness for them.
///
/// ```
/// use std::io::{Read, Write};
/// use waterwheel::reactor::{Fd, Interest, Reactor};
///
/// let (reader, mut writer) = std::io::pipe()?;
/// let mut reactor = Reactor::new()?;
/// reactor.register(Fd(reader), Interest::READABLE, |reactor, got: &mut u8, id, _| {
///     let mut byte = [0];
///     reactor[id].0.read_exact(&mut byte).unwrap();
///     *got = byte[0];
///     reactor.remove(id.raw());
/// })?;
/// writer.write_all(&[7])?;
/// let mut got = 0;
/// reactor.run(&mut got)?;
/// assert_eq!(got, 7);
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
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interest)
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
