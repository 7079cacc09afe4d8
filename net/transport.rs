//! What carries a connection's bytes.
//!
//! Knows non-blocking streams; never mentions buffers or handlers.
//!
//! # Read next
//! `drive.rs`: what happens when it is ready. Beside the path: `tcp/mod.rs`, which makes them.

use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// A non-blocking byte stream: TCP, or whatever a [`Conn`](super::Conn) is to run over.
///
/// It reports readiness by edges, through the selector it registers with or by
/// [`resume`](crate::reactor::Context::resume). Of a hang-up or an error that is told by the latter
/// a read or a write has to say more: only the kernel's own word is taken for the end. A read that fills less than the buffer means that
/// all there was has been read; a write that takes less than was offered means that it is full.
pub trait Transport: Source + fmt::Debug + Any {
    /// Reads; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing now; `UnexpectedEof` when the input has ended and not by
    /// the peer's word, so that what came before can still be answered; any other ends the
    /// connection.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes from several pieces, in order, as much as goes.
    ///
    /// # Errors
    /// `WouldBlock` when nothing goes now; any other ends the connection.
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Tells the peer that nothing more will be written.
    ///
    /// # Errors
    /// The peer is gone.
    fn finish(&mut self) -> io::Result<()>;

    /// Whether it has bytes of its own to send, which nobody wrote: the records of a protocol that
    /// it speaks, or the end that [`finish`](Transport::finish) could not send yet.
    fn owes(&self) -> bool {
        false
    }

    /// Sends what it owes, as much as goes. When that is all it owes nothing any more.
    ///
    /// # Errors
    /// `WouldBlock` when something is left; any other ends the connection.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether the next read is worth a try although the last one filled less than the buffer, or
    /// found nothing: it takes in what it is sent in pieces of its own.
    fn has_more(&self) -> bool {
        false
    }

    /// Bytes of memory that its own buffers take, beside what is the same for an idle one.
    fn buffered_bytes(&self) -> usize {
        0
    }

    /// Whether it was sent a part of what it can deliver only when the rest is there.
    fn is_amid(&self) -> bool {
        false
    }

    /// Whether bytes have come since this was asked last, be it that none can be delivered yet.
    fn has_heard(&mut self) -> bool {
        false
    }

    /// Whether nothing has come that nobody has read yet, the end included; found out by asking,
    /// without taking anything away. True where that cannot be asked.
    fn is_silent(&mut self) -> bool {
        true
    }

    /// Whether it holds a descriptor that is free as soon as it is dropped. Where there are none left,
    /// a connection that only waits for its peer to close is given up if it does.
    fn holds_descriptor(&self) -> bool {
        false
    }

    /// Makes dropping it a reset, where there is such a thing.
    fn reset_on_drop(&mut self) {}

    /// The peer's address, where it has one.
    ///
    /// # Errors
    /// `NotConnected` once the peer is gone.
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Who is at the other end, where the kernel knows.
    ///
    /// # Errors
    /// `Unsupported` where it does not.
    #[cfg(all(unix, feature = "peer-cred"))]
    fn peer_cred(&self) -> io::Result<super::unix::Credentials> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether both directions lead to one peer, as a socket's do, and nobody else has this end.
    ///
    /// Not so for a pair of pipes or a terminal. There, closing does not wait for the other side to
    /// close, a failed write says nothing of what is to be read, a hang-up is one direction's, and
    /// dropping may leave the descriptor registered, since another one may keep its file open.
    fn is_one_peer(&self) -> bool {
        true
    }

    /// Whether it has one direction only: the other does not end, since it never was.
    fn is_one_way(&self) -> bool {
        false
    }

    /// Returns true if the peer wants to hear of the end even where this end is dropped, and nobody
    /// waits for an answer: TLS sends a close_notify (RFC 8446, 6.1).
    fn says_goodbye(&self) -> bool {
        false
    }
}

impl Transport for TcpStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    #[inline]
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [piece] => Write::write(self, piece),
            pieces => self.write_vectored(pieces),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn is_silent(&mut self) -> bool {
        self.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn holds_descriptor(&self) -> bool {
        true
    }

    fn reset_on_drop(&mut self) {
        // close(2) of a socket with a linger time of zero sends RST; see socket(7).
        if let Err(error) = socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO)) {
            log::debug!("cannot set SO_LINGER: {error}");
        }
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::peer_addr(self)
    }
}

/// Registers a struct with the selector by one of its fields.
macro_rules! registers_by {
    ($type:ident $(<$of:ident>)?, $field:ident) => {
        impl $(<$of: mio::event::Source>)? mio::event::Source for $type $(<$of>)? {
            fn register(
                &mut self,
                registry: &mio::Registry,
                token: mio::Token,
                interest: mio::Interest,
            ) -> io::Result<()> {
                mio::event::Source::register(&mut self.$field, registry, token, interest)
            }

            fn reregister(
                &mut self,
                registry: &mio::Registry,
                token: mio::Token,
                interest: mio::Interest,
            ) -> io::Result<()> {
                mio::event::Source::reregister(&mut self.$field, registry, token, interest)
            }

            fn deregister(&mut self, registry: &mio::Registry) -> io::Result<()> {
                mio::event::Source::deregister(&mut self.$field, registry)
            }
        }
    };
}
pub(crate) use registers_by;

/// What carries a stream: TCP without an indirection, anything else behind one. Its methods are those
/// of [`Transport`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Carrier {
    /// A socket of TCP.
    Tcp(TcpStream),
    /// Anything else.
    Other(Box<dyn Transport>),
}

impl Carrier {
    /// What carries a stream over that transport.
    pub fn of(transport: impl Transport) -> Carrier {
        Carrier::Other(Box::new(transport))
    }

    /// Whether it is a socket of TCP, and nothing between.
    pub(super) fn is_tcp(&self) -> bool {
        matches!(self, Carrier::Tcp(_))
    }

    /// What it is, as a trait object.
    #[inline]
    pub fn transport(&mut self) -> &mut dyn Transport {
        match self {
            Carrier::Tcp(stream) => stream,
            Carrier::Other(other) => &mut **other,
        }
    }

    /// See [`Transport::read`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Carrier::Tcp(stream) => Transport::read(stream, buffer),
            Carrier::Other(other) => other.read(buffer),
        }
    }

    /// See [`Transport::write`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Carrier::Tcp(stream) => Transport::write(stream, pieces),
            Carrier::Other(other) => other.write(pieces),
        }
    }

    /// See [`Transport::owes`].
    #[inline]
    pub fn owes(&self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.owes(),
        }
    }

    /// See [`Transport::buffered_bytes`].
    #[inline]
    pub fn buffered_bytes(&self) -> usize {
        match self {
            Carrier::Tcp(_) => 0,
            Carrier::Other(other) => other.buffered_bytes(),
        }
    }

    /// See [`Transport::has_more`].
    #[inline]
    pub fn has_more(&self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.has_more(),
        }
    }

    /// See [`Transport::has_heard`].
    pub(super) fn has_heard(&mut self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.has_heard(),
        }
    }

    /// See [`Transport::is_amid`].
    pub fn is_amid(&self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.is_amid(),
        }
    }

    /// See [`Transport::holds_descriptor`].
    pub fn holds_descriptor(&self) -> bool {
        match self {
            Carrier::Tcp(_) => true,
            Carrier::Other(other) => other.holds_descriptor(),
        }
    }

    /// See [`Transport::says_goodbye`].
    pub(super) fn says_goodbye(&self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.says_goodbye(),
        }
    }

    /// See [`Transport::is_one_way`].
    pub(super) fn is_one_way(&self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.is_one_way(),
        }
    }

    /// See [`Transport::is_one_peer`].
    #[inline]
    pub fn is_one_peer(&self) -> bool {
        match self {
            Carrier::Tcp(_) => true,
            Carrier::Other(other) => other.is_one_peer(),
        }
    }

    /// See [`Transport::peer_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Carrier::Tcp(stream) => Transport::peer_addr(stream),
            Carrier::Other(other) => other.peer_addr(),
        }
    }

    /// See [`Transport::peer_cred`].
    ///
    /// # Errors
    /// As there.
    #[cfg(all(unix, feature = "peer-cred"))]
    pub fn peer_cred(&self) -> io::Result<super::unix::Credentials> {
        match self {
            Carrier::Tcp(stream) => Transport::peer_cred(stream),
            Carrier::Other(other) => other.peer_cred(),
        }
    }
}

impl Source for Carrier {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.transport().register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.transport().reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.transport().deregister(registry)
    }
}
