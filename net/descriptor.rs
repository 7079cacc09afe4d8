//! Any descriptor as a stream: pipes, terminals, devices, regular files.
//!
//! Knows the descriptors that epoll(7) takes and refuses; the connection above does not.
//!
//! A connection needs three things that a descriptor does not always have. This file replaces
//! those that are missing:
//!
//! ```text
//!   wanted                        pipe       terminal           regular file, /dev/null, /dev/zero
//!   edges from the selector       yes        yes                refused (EPERM): always ready,
//!                                                               so it resumes itself
//!   a short read means drained    yes        no, one line each  no, once more for the end
//!                                            ────── resumes itself after a short read ──────
//!   does not block                made so, and restored if others see it     not possible
//! ```
//!
//! A descriptor that is always ready is read, like all others, in pieces of a turn's budget, so
//! other sources are called between. But a read blocks, and the loop with it, while a disk or a
//! network file system is slow: leave a file that is large, or far away, to a worker
//! ([`Context::offload`]).
//!
//! The two directions are two descriptors under one token. `finish` closes the writing one, which
//! for a pipe takes the place of a FIN. A write to a pipe whose reader has gone fails with `EPIPE`,
//! reported as [`Reason::Reset`](super::Reason::Reset); std has the signal `SIGPIPE` ignored. Such
//! a stream belongs to the loop that it was made for, since it resumes itself there.
//!
//! # Left out
//! Datagram sockets and pipes in packet mode (`O_DIRECT`, pipe(2)), which are no streams. Raw mode:
//! the terminal does the line editing.
//!
//! # Read next
//! `stdio.rs`: descriptors that others have, too.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::conn::Conn;
use super::stream::Stream;
use super::transport::Transport;
use crate::reactor::{Context, RawId, Readiness, Resumer, SourceId};

/// EIO: the error of a terminal whose other side has hung up. The same number on every Unix.
const EIO: i32 = 5;

/// A stream that reads from a descriptor. It refuses writes and is closed after `Eof`.
///
/// ```
/// use std::fs::File;
/// use waterwheel::{Reactor, net::{Event, descriptor}};
///
/// let mut reactor = Reactor::new()?;
/// let file = descriptor::reader(&mut reactor, File::open("Cargo.toml")?)?;
/// file.open(&mut reactor, |_, bytes: &mut usize, _, event| match event {
///     Event::Data(data) => *bytes += data.len(),
///     Event::Closed(why) => println!("{why}"),
///     _ => {}
/// });
/// let mut bytes = 0;
/// reactor.run(&mut bytes)?;
/// assert!(bytes > 100);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// fstat(2) failed.
pub fn reader<S: 'static>(reactor: &mut Context<S>, fd: impl Into<OwnedFd>) -> io::Result<Stream> {
    let reader = Side::new(fd.into(), false)?;
    Ok(Stream::one_way(Descriptor::new(reactor, Some(reader), None), true))
}

/// A stream that writes to a descriptor. It gets neither `Data` nor `Eof`; `Closed` reports at once
/// that the reader of a pipe has gone.
///
/// # Errors
/// As [`reader`].
pub fn writer<S: 'static>(reactor: &mut Context<S>, fd: impl Into<OwnedFd>) -> io::Result<Stream> {
    let writer = Side::new(fd.into(), false)?;
    Ok(Stream::one_way(Descriptor::new(reactor, None, Some(writer)), false))
}

/// A value that belongs to a descriptor: it is dropped when that is closed, for any reason.
pub trait Companion: fmt::Debug {
    /// The descriptor belongs to this connection from now on.
    fn registered(&mut self, conn: SourceId<Conn>);
}

/// [`reader`] for a descriptor that no other code has, with a companion.
///
/// # Errors
/// As [`reader`].
pub fn reader_with<S: 'static>(
    reactor: &mut Context<S>,
    fd: impl Into<OwnedFd>,
    companion: impl Companion + 'static,
) -> io::Result<Stream> {
    let mut reader = Descriptor::new(reactor, Some(Side::new(fd.into(), true)?), None);
    reader.companion = Some(Box::new(companion));
    Ok(Stream::one_way(reader, true))
}

/// [`writer`] for a descriptor that no other code has, with a companion.
///
/// # Errors
/// As [`reader`].
pub fn writer_with<S: 'static>(
    reactor: &mut Context<S>,
    fd: impl Into<OwnedFd>,
    companion: impl Companion + 'static,
) -> io::Result<Stream> {
    let mut writer = Descriptor::new(reactor, None, Some(Side::new(fd.into(), true)?));
    writer.companion = Some(Box::new(companion));
    Ok(Stream::one_way(writer, false))
}

/// A stream that reads from one descriptor and writes to another: two pipes, or stdin and stdout.
///
/// # Errors
/// As [`reader`].
pub fn pair<S: 'static>(
    reactor: &mut Context<S>,
    reader: impl Into<OwnedFd>,
    writer: impl Into<OwnedFd>,
) -> io::Result<Stream> {
    let (reader, writer) = (Side::new(reader.into(), false)?, Side::new(writer.into(), false)?);
    Ok(Stream::over(Descriptor::new(reactor, Some(reader), Some(writer))))
}

/// A stream that reads from and writes to the same descriptor: a terminal, a serial line, a socket
/// that another library has made.
///
/// # Errors
/// As [`reader`], and where there is no descriptor left for a second one.
pub fn both<S: 'static>(reactor: &mut Context<S>, fd: impl Into<OwnedFd>) -> io::Result<Stream> {
    let fd = fd.into();
    pair(reactor, fd.try_clone()?, fd)
}

/// The transport: a descriptor for each direction it has.
#[derive(Debug)]
pub(super) struct Descriptor {
    reader: Option<Side>,
    writer: Option<Side>,
    resumer: Resumer,
    /// True if it never had one of the two.
    one_way: bool,
    /// Known from the registration on.
    id: Option<RawId>,
    /// Dropped behind the descriptors.
    companion: Option<Box<dyn Companion>>,
}

impl Descriptor {
    pub(super) fn new<S: 'static>(
        reactor: &mut Context<S>,
        reader: Option<Side>,
        writer: Option<Side>,
    ) -> Descriptor {
        Descriptor {
            one_way: reader.is_some() != writer.is_some(),
            reader,
            writer,
            resumer: reactor.resumer(),
            id: None,
            companion: None,
        }
    }

    fn resume(&self, ready: Readiness) {
        if let Some(id) = self.id {
            self.resumer.resume(id, ready);
        }
    }

    fn sides(&mut self) -> [(Option<&mut Side>, Interest); 2] {
        [(self.reader.as_mut(), Interest::READABLE), (self.writer.as_mut(), Interest::WRITABLE)]
    }
}

impl Transport for Descriptor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.reader else { return Err(io::ErrorKind::WouldBlock.into()) };
        let count = match reader.file.read(buffer) {
            Err(error) if error.raw_os_error() == Some(EIO) && reader.file.is_terminal() => 0,
            result => result?,
        };
        if count > 0 && count < buffer.len() && reader.is_to_be_asked_again {
            self.resume(Readiness::READABLE);
        }
        Ok(count)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(writer) = &mut self.writer else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let count = writer.file.write_vectored(pieces)?;
        // A file takes less when the disk is full; the next write gets the error.
        if writer.is_always_ready && count < pieces.iter().map(|piece| piece.len()).sum() {
            self.resume(Readiness::WRITABLE);
        }
        Ok(count)
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        if writer.is_socket {
            return SockRef::from(&writer.file).shutdown(Shutdown::Write);
        }
        if self.reader.is_some() {
            self.writer = None; // Else it is closed with the stream.
        }
        Ok(())
    }

    fn has_one_peer(&self) -> bool {
        false
    }

    fn is_one_way(&self) -> bool {
        self.one_way
    }
}

impl Source for Descriptor {
    fn register(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        self.id = Some(RawId::from_token(token));
        if let Some(companion) = &mut self.companion {
            companion.registered(SourceId::new(RawId::from_token(token)));
        }
        if let Some(reader) = &mut self.reader {
            reader.watch(registry, token, Interest::READABLE)?;
        }
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.watch(registry, token, Interest::WRITABLE)
        {
            self.deregister(registry)?;
            return Err(error);
        }
        // The first read waits for no edge: none comes for a file that is always ready, nor for a
        // FIFO that was opened when its writers had gone. It reads to the end.
        if self.reader.is_some() {
            self.resume(Readiness::READ_CLOSED);
        }
        Ok(())
    }

    /// Each side has the one interest it can have.
    fn reregister(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        for (side, interest) in self.sides() {
            if let Some(fd) = side.and_then(|side| side.watched()) {
                SourceFd(&fd).reregister(registry, token, interest)?;
            }
        }
        Ok(())
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        for (side, _) in self.sides() {
            let Some(side) = side else { continue };
            if let Some(fd) = side.watched() {
                side.is_watched = false;
                SourceFd(&fd).deregister(registry)?;
            }
        }
        Ok(())
    }
}

/// A descriptor for one direction.
#[derive(Debug)]
pub(super) struct Side {
    file: File,
    is_socket: bool,
    /// True if there may be more after a short read.
    is_to_be_asked_again: bool,
    /// True if the selector refuses it. Written by `watch`.
    is_always_ready: bool,
    /// True while the selector has it.
    is_watched: bool,
    /// True if no other program uses the same open file description.
    is_alone: bool,
    /// True if it was blocking when it came.
    blocked: bool,
}

impl Side {
    /// If `is_alone`, blocking need not be restored.
    pub(super) fn new(fd: OwnedFd, is_alone: bool) -> io::Result<Side> {
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        Ok(Side {
            is_socket: kind.is_socket(),
            is_to_be_asked_again: !kind.is_socket() && !kind.is_fifo(),
            is_always_ready: false,
            is_watched: false,
            is_alone,
            blocked: false,
            file,
        })
    }

    fn watched(&self) -> Option<i32> {
        self.is_watched.then(|| self.file.as_raw_fd())
    }

    /// Registers it and makes it non-blocking, or notes that it is always ready.
    fn watch(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match SourceFd(&self.file.as_raw_fd()).register(registry, token, interest) {
            // epoll_ctl(2): "The target file fd does not support epoll."
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.is_always_ready = true;
                return Ok(());
            }
            result => result?,
        }
        self.is_watched = true;
        // By fcntl(2), which takes any descriptor.
        let flags = SockRef::from(&self.file);
        if !flags.nonblocking()? {
            flags.set_nonblocking(true)?;
            self.blocked = true;
        }
        Ok(())
    }
}

/// Non-blocking is a property of the open file description, which an inherited descriptor shares
/// with its origin: a shell that finds its terminal non-blocking takes that for the end of input.
impl Drop for Side {
    fn drop(&mut self) {
        if self.blocked
            && !self.is_alone
            && let Err(error) = SockRef::from(&self.file).set_nonblocking(false)
        {
            log::debug!("cannot make a descriptor blocking again: {error}");
        }
    }
}
