//! Few descriptors left: connections that only wait to be closed make room for new ones.
//!
//! Knows connections whose close lingers; never mentions the code that wants a descriptor.
//!
//! A connection that was closed in order, by [`Conn::close`], keeps its socket until the peer
//! closes, too, for up to [`Limits::close_grace`](super::Limits::close_grace). So a client that is
//! refused and does not close costs as much as one that is served. That does no harm while there
//! are descriptors. When accept(2) or socket(2) meets the limit on them (EMFILE, ENFILE), the older
//! half of the connections that have sent everything and only wait is closed at once:
//!
//! ```text
//!   lingering, the oldest first   [1] [2] [3] [4] [5]       and one that still sends   [6]
//!   EMFILE                         └───┴───┴── closed: their descriptors are free at once
//! ```
//!
//! Half of them, so that an accepted connection also finds a descriptor for its next need (another
//! connection, a lookup), and so that the search pays: it costs O(sources) each time, O(1) for each
//! that is given up as long as all linger. The oldest, because their peers have had the longest
//! time to read.
//!
//! # Read next
//! `accept.rs`, which asks for it.

use std::io::{self, IoSlice};

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::conn::Conn;
use super::event::Reason;
use super::transport::{Carrier, Transport};
use crate::reactor::{Context, Readiness, SourceId};
use crate::timers::Stamp;

/// ENFILE and EMFILE, the same numbers on every Unix; and WSAEMFILE.
const NONE_LEFT: [i32; 2] = if cfg!(windows) { [10_024; 2] } else { [23, 24] };

/// Returns true if the error says that there is no descriptor left.
pub(super) fn is_scarce(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NONE_LEFT.contains(&code))
}

/// Calls `make`, which takes a descriptor; again if none was left and a connection gave one up.
pub(super) fn with_descriptor<S: 'static, T>(
    reactor: &mut Context<S>,
    mut make: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    match make() {
        Err(error) if is_scarce(&error) && give_up(reactor) > 0 => make(),
        made => made,
    }
}

/// Closes the older half of the connections that only wait for their peers to close; returns how
/// many. Their descriptors are free at once; `Closed` is delivered in this turn or the next.
pub(super) fn give_up<S: 'static>(reactor: &mut Context<S>) -> usize {
    let waiting = reactor.ids::<Conn>().into_iter().filter_map(|id| {
        let conn = reactor.get(id)?;
        conn.only_waits().then_some((conn.lingers_since(), id))
    });
    let mut waiting: Vec<(Option<Stamp>, SourceId<Conn>)> = waiting.collect();
    waiting.sort_by_key(|(since, _)| *since);
    waiting.truncate(waiting.len().div_ceil(2));
    for (_, id) in &waiting {
        let conn = &mut reactor[*id];
        conn.io = Carrier::Other(Box::new(Gone));
        conn.fail(Reason::Finished); // Unless a reason was noted before.
        reactor.resume(*id, Readiness::WRITABLE);
    }
    if !waiting.is_empty() {
        log::warn!("out of file descriptors: {} closing connections cut short", waiting.len());
    }
    waiting.len()
}

impl Conn {
    /// Returns true if it was closed and has sent everything, so that it only waits for the peer's
    /// end, and if it holds a descriptor while it waits.
    fn only_waits(&self) -> bool {
        self.is_lingering() && self.is_sent() && !self.is_over() && self.io.holds_descriptor()
    }
}

/// Stands in place of a transport that was given up.
#[derive(Debug)]
struct Gone;

impl Transport for Gone {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn write(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn peer_addr(&self) -> io::Result<std::net::SocketAddr> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

/// The selector forgot the descriptor when it was closed.
impl Source for Gone {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}
