//! The operations on a connection by its id, which may be stale.
//!
//! Knows the loop and one connection; those on sockets, listeners and links are in `by_id.rs`.
//!
//! A peer decides when its connection is gone. A timer, a worker's answer or another connection may
//! keep its id for longer. So each of these operations is *total*: if the connection is gone,
//! nothing happens and the return value says so.
//!
//! ```text
//!   write                                  Pressure::Closed
//!   pause, resume, shutdown, close, …      false
//!   limits, tls, ends, …                   None
//!   peer_addr, local_addr                  an error: NotConnected
//! ```
//!
//! `reactor[id]` panics instead. It is for a source of your own inside its own callback, where the
//! id cannot be stale.
//!
//! # Read next
//! `../tests/contract.rs`: the loop's rules, as tests. Beside the path: `link.rs` joins two.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::conn::Conn;
use super::event::Pressure;
use super::limits::Limits;
use super::note::write_observed;
use crate::reactor::{Context, SourceId};

/// Operations on a connection. All are harmless when it is gone.
///
/// ```
/// use std::time::Duration;
/// use waterwheel::net::{Event, Pressure, memory};
/// use waterwheel::Reactor;
///
/// let mut reactor = Reactor::<()>::new()?;
/// let (client, server) = memory::pair(&mut reactor);
/// client.open(&mut reactor, |reactor, _, conn, event| match event {
///     // The client leaves before the answer comes.
///     Event::Data(_) => unreachable!(),
///     _ => { conn.close(reactor); }
/// }).write(&mut reactor, b"question");
/// server.open(&mut reactor, |reactor, _, conn, event| if let Event::Data(_) = event {
///     conn.abort(reactor);
///     reactor.after(Duration::from_millis(300), move |reactor, _| {
///         assert_eq!(conn.write(reactor, b"answer"), Pressure::Closed);
///         assert!(!conn.close(reactor));
///     });
/// });
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
impl SourceId<Conn> {
    /// Sends all of the bytes, or none. The bytes of several writes collect and leave in one system
    /// call: when the connection's own callback returns, otherwise before the loop next waits. Once
    /// 16 KiB are unsent, they are offered to the kernel at once.
    #[inline]
    pub fn write<S: 'static>(self, reactor: &mut Context<S>, bytes: &[u8]) -> Pressure {
        if reactor.is_observed() {
            return write_observed(reactor, self, bytes);
        }
        reactor.get_mut(self).map_or(Pressure::Closed, |conn| conn.write(bytes))
    }

    /// Bytes written and not yet taken by the kernel.
    #[inline]
    pub fn unsent<S: 'static>(self, reactor: &Context<S>) -> Option<usize> {
        reactor.get(self).map(Conn::unsent)
    }

    /// How many bytes were accepted but never sent when the connection ended. Known during `Closed`
    /// and for the rest of that turn; `None` before and after. Zero if it ended in order.
    ///
    /// ```
    /// use waterwheel::Reactor;
    /// use waterwheel::net::{Event, memory};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let (client, _server) = memory::pair(&mut reactor);
    /// let conn = client.open(&mut reactor, |reactor, lost: &mut usize, conn, event| {
    ///     if let Event::Closed(why) = event {
    ///         *lost = conn.lost(reactor).unwrap_or(0);
    ///         println!("{why}: {lost} bytes were not sent");
    ///     }
    /// });
    /// let _ = conn.write(&mut reactor, b"hello");
    /// conn.abort(&mut reactor);
    /// let mut lost = 0;
    /// reactor.run(&mut lost)?;
    /// assert_eq!(lost, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// More may be lost: bytes that the kernel (or TLS) had taken may not have arrived. Only the
    /// peer knows, so a protocol that needs to know makes the peer acknowledge.
    pub fn lost<S: 'static>(self, reactor: &Context<S>) -> Option<usize> {
        let conn = reactor.get_removed(self)?;
        let is_over = conn.is_over();
        is_over.then(|| conn.rare.as_ref().map_or(0, |rare| rare.lost))
    }

    /// Gives back the last `count` bytes of the `Data` being handled; see [`Conn::unread`].
    pub fn unread<S: 'static>(self, reactor: &mut Context<S>, count: usize) -> bool {
        self.with(reactor, |conn| conn.unread(count))
    }

    /// Delivers no more `Data` until [`resume`](SourceId::resume); see [`Conn::pause`].
    pub fn pause<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        self.with(reactor, Conn::pause)
    }

    /// Ends a [`pause`](SourceId::pause); reading goes on in the next turn.
    pub fn resume<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        self.with(reactor, Conn::resume)
    }

    /// Returns true if reading is paused.
    pub fn is_paused<S: 'static>(self, reactor: &Context<S>) -> bool {
        reactor.get(self).is_some_and(Conn::is_paused)
    }

    /// Finishes sending: FIN after the unsent bytes. Receiving goes on.
    pub fn shutdown<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        self.with(reactor, Conn::shutdown)
    }

    /// Closes gracefully: the unsent bytes are sent first; see [`Conn::close`].
    pub fn close<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        self.with(reactor, Conn::close)
    }

    /// Closes at once: unsent bytes are dropped and the peer gets a reset.
    pub fn abort<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        self.with(reactor, Conn::abort)
    }

    /// Says that an answer is still to come, so that a [`drain`](super::drain()) waits for it.
    pub fn hold<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        self.with(reactor, Conn::hold)
    }

    /// Ends a [`hold`](SourceId::hold), however often that was called.
    pub fn release<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        self.with(reactor, Conn::release)
    }

    /// Returns true if no `Data` will come any more: it is closing, or gone.
    pub fn is_closing<S: 'static>(self, reactor: &Context<S>) -> bool {
        reactor.get(self).is_none_or(Conn::is_closing)
    }

    /// Returns true until `Closed` is delivered, or the connection is taken out of the loop.
    pub fn is_open<S: 'static>(self, reactor: &Context<S>) -> bool {
        reactor.contains(self)
    }

    /// The limits in force.
    pub fn limits<S: 'static>(self, reactor: &Context<S>) -> Option<&Limits> {
        reactor.get(self).map(Conn::limits)
    }

    /// Changes this connection's limits; see [`Conn::set_limits`].
    pub fn set_limits<S: 'static>(self, reactor: &mut Context<S>, limits: Limits) -> bool {
        self.with(reactor, |conn| conn.set_limits(limits))
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` once the peer is gone; `Unsupported` where the transport has no addresses.
    pub fn peer_addr<S: 'static>(self, reactor: &Context<S>) -> io::Result<SocketAddr> {
        reactor.get(self).ok_or_else(gone)?.peer_addr()
    }

    /// Process, user and group at the other end of a Unix stream.
    ///
    /// # Errors
    /// `Unsupported` for any other transport; `NotConnected` if it is gone.
    #[cfg(all(unix, feature = "peer-cred"))]
    pub fn peer_cred<S: 'static>(
        self,
        reactor: &Context<S>,
    ) -> io::Result<super::cred::Credentials> {
        reactor.get(self).ok_or_else(gone)?.peer_cred()
    }

    /// Returns true if its input was cut: it has ended, but the peer did not announce that end.
    pub(super) fn is_cut<S: 'static>(self, reactor: &Context<S>) -> bool {
        reactor.get(self).is_some_and(Conn::is_cut)
    }

    #[inline]
    fn with<S: 'static>(self, reactor: &mut Context<S>, act: impl FnOnce(&mut Conn)) -> bool {
        reactor.get_mut(self).map(act).is_some()
    }
}

pub(super) fn gone() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "it is gone: its id is stale")
}
