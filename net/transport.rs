//! The transport that carries a connection's bytes.
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

/// A non-blocking byte stream that a [`Conn`](super::Conn) runs over: TCP, or any other.
///
/// It reports readiness by edges, through the selector it registers with or by
/// [`resume`](crate::reactor::Context::resume). If `resume` reports a hang-up or an error, a read
/// or a write must confirm it: only the kernel's own report counts as the end. A short read
/// means that nothing more is there to read; a short write means that the transport is full.
pub trait Transport: Source + fmt::Debug + Any {
    /// Reads; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing now; `UnexpectedEof` when the input has ended without an
    /// announcement by the peer: the bytes before it can still be answered. Any other error ends
    /// the connection.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes from several pieces, in order, as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room now; any other error ends the connection.
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Announces to the peer that nothing more will be written.
    ///
    /// # Errors
    /// The peer is gone.
    fn finish(&mut self) -> io::Result<()>;

    /// Returns true if it has bytes of its own to send, beside those written: the records of a
    /// protocol that it speaks, or the end that [`finish`](Transport::finish) could not send yet.
    fn has_own_unsent(&self) -> bool {
        false
    }

    /// Sends as many of these bytes as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when something is left; any other error ends the connection.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Returns true if another read may deliver bytes even after a short read or `WouldBlock`: the
    /// transport takes in its input in pieces of its own.
    fn has_more(&self) -> bool {
        false
    }

    /// Bytes of memory that its own buffers take, beyond those of an idle one.
    fn buffered_bytes(&self) -> usize {
        0
    }

    /// Returns true if it has received a part of something that it can deliver only as a whole.
    fn is_mid_message(&self) -> bool {
        false
    }

    /// Returns true if bytes have come since the last call, even if none can be delivered yet.
    fn has_received(&mut self) -> bool {
        false
    }

    /// Returns true if there is no unread input and no pending end of stream. Peeks; consumes
    /// nothing. True also where it cannot peek.
    fn is_silent(&mut self) -> bool {
        true
    }

    /// Returns true if dropping it frees a descriptor at once. If so, a connection that only waits
    /// for its peer to close is given up when there are no descriptors left.
    fn holds_descriptor(&self) -> bool {
        false
    }

    /// Makes dropping it a reset, if the transport has resets.
    fn reset_on_drop(&mut self) {}

    /// The peer's address, where it has one.
    ///
    /// # Errors
    /// `NotConnected` once the peer is gone.
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Process, user and group of the peer, where the kernel knows them.
    ///
    /// # Errors
    /// `Unsupported` where it does not.
    #[cfg(all(unix, feature = "peer-cred"))]
    fn peer_cred(&self) -> io::Result<super::cred::Credentials> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns true if both directions lead to one peer and this end is not shared: for a socket.
    ///
    /// False for a pair of pipes or a terminal. There, closing does not wait for the other side; a
    /// failed write says nothing about the input; a hang-up ends one direction only; and a dropped
    /// descriptor may stay registered, since another one may keep its file open.
    fn has_one_peer(&self) -> bool {
        true
    }

    /// Returns true if it has one direction only. The other one never existed, so it does not end.
    fn is_one_way(&self) -> bool {
        false
    }

    /// Returns true if the end must be announced to the peer even if this end is dropped and waits
    /// for no answer: TLS sends a close_notify (RFC 8446, 6.1).
    fn must_announce_end(&self) -> bool {
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
pub(super) use registers_by;

/// The transport of a stream: TCP itself, or any other in a box. Its methods are those of
/// [`Transport`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Carrier {
    /// A socket of TCP.
    Tcp(TcpStream),
    /// Anything else.
    Other(Box<dyn Transport>),
}

impl Carrier {
    /// The carrier for that transport.
    pub fn of(transport: impl Transport) -> Carrier {
        Carrier::Other(Box::new(transport))
    }

    /// Returns true if it is a TCP socket itself, with nothing between.
    pub(super) fn is_tcp(&self) -> bool {
        matches!(self, Carrier::Tcp(_))
    }

    /// The transport in it, as a trait object.
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

    /// See [`Transport::has_own_unsent`].
    #[inline]
    pub fn has_own_unsent(&self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.has_own_unsent(),
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

    /// See [`Transport::has_received`].
    pub(super) fn has_received(&mut self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.has_received(),
        }
    }

    /// See [`Transport::is_mid_message`].
    pub fn is_mid_message(&self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.is_mid_message(),
        }
    }

    /// See [`Transport::holds_descriptor`].
    pub fn holds_descriptor(&self) -> bool {
        match self {
            Carrier::Tcp(_) => true,
            Carrier::Other(other) => other.holds_descriptor(),
        }
    }

    /// See [`Transport::must_announce_end`].
    pub(super) fn must_announce_end(&self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.must_announce_end(),
        }
    }

    /// See [`Transport::is_one_way`].
    pub(super) fn is_one_way(&self) -> bool {
        match self {
            Carrier::Tcp(_) => false,
            Carrier::Other(other) => other.is_one_way(),
        }
    }

    /// See [`Transport::has_one_peer`].
    #[inline]
    pub fn has_one_peer(&self) -> bool {
        match self {
            Carrier::Tcp(_) => true,
            Carrier::Other(other) => other.has_one_peer(),
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
    pub fn peer_cred(&self) -> io::Result<super::cred::Credentials> {
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
