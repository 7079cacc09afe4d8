//! A wire: two ends in one loop, and the bytes between them.
//!
//! Knows transports and the reactor's [`Resumer`]; never mentions sockets. The [`Carrier`] decides
//! the time from end to end: none in `memory.rs`; a time that depends on a seed in `sim/`.
//!
//! Bytes that an end writes go into its peer's buffer at once, and a *parcel* reports when they
//! have arrived:
//!
//! ```text
//!                ┌──────── buffer_bytes at most ────────┐
//!   read() ◀──── │  arrived  │        under way         │ ◀──── write()
//!                └───────────┴──────────────────────────┘
//!                            ◀── Parcel::Bytes(n) moves this line
//! ```
//!
//! So there is one bound, one copy in and one out, and a reset removes the bytes to the right of
//! the line.
//!
//! # Rules
//! The ends behave as TCP's do, Linux's in particular, so protocols over them see no difference:
//! 1. An edge reports all that holds at that moment, as epoll's do, and registering is an edge. So
//!    an edge that came before the registration is not lost.
//! 2. Bytes that arrived before a reset can be read, then the reset is reported, once, and then the
//!    end. Behind a FIN reads return 0, also when a reset follows it.
//! 3. An end that is dropped sends FIN; with unread input, or after `reset_on_drop`, RST. Bytes
//!    that arrive at a dropped end are answered with RST, so a write to a peer that has gone
//!    succeeds and the next one fails.
//!
//! # Read next
//! `memory.rs`: the carrier without a network.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::transport::Transport;
use crate::reactor::{RawId, Readiness, Resumer};
use crate::timers::Tick;

/// A message that travels to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parcel {
    /// So many bytes have arrived.
    Bytes(usize),
    /// No more will come.
    Fin,
    /// The connection is gone.
    Reset,
    /// The peer has read: there is room again.
    Room,
    /// The peer has taken the connection.
    Opened,
    /// There is no listener.
    Refused,
}

/// Brings parcels from one end of a wire to the other.
pub(super) trait Carrier: fmt::Debug {
    /// Hands a parcel to [`Wire::arrive`], now or later. Parcels for one end arrive in the order in
    /// which they were sent, except a reset, which may overtake others.
    fn carry(&self, wire: &Rc<Wire>, to: usize, parcel: Parcel);

    /// How many of `count` bytes one read or write moves; 1 at least.
    fn cut(&self, count: usize) -> usize {
        count
    }

    /// The resumer that wakes the ends.
    fn resumer(&self) -> &Resumer;
}

/// Both ends: 0, which connects, and 1, which accepts.
pub(super) struct Wire {
    carrier: Rc<dyn Carrier>,
    line: RefCell<Line>,
    addrs: Option<[SocketAddr; 2]>,
}

struct Line {
    ends: [Side; 2],
    /// Bytes under way and unread, in each direction.
    buffer_bytes: usize,
    /// True if the peer has taken the connection, false if not; `None` while end 0 does not know.
    opened: Option<bool>,
    /// When the last parcel for each end arrives. Written by the carrier, if it wants to.
    due: [Tick; 2],
}

/// The state of one end.
#[derive(Default)]
struct Side {
    /// The source that it is, while it is registered.
    id: Option<RawId>,
    /// Bytes for it. Those behind the first `arrived` are under way.
    bytes: VecDeque<u8>,
    arrived: usize,
    /// True once the peer's FIN has arrived.
    ended: bool,
    /// A reset has arrived; `Some(false)` until it is reported.
    reset: Option<bool>,
    /// True once it has sent FIN.
    finished: bool,
    /// True if it has found no room, and waits for some.
    starved: bool,
    resets_on_drop: bool,
    gone: bool,
}

impl Line {
    /// Returns true if an end may write: when half of the buffer is free, not for each byte.
    fn has_room(&self, end: usize) -> bool {
        self.ends[1 - end].bytes.len() <= self.buffer_bytes / 2
    }

    /// Returns true if an end knows that it is connected.
    fn is_open(&self, end: usize) -> bool {
        end == 1 || self.opened == Some(true)
    }

    /// All that holds for an end now.
    fn level(&self, end: usize) -> Readiness {
        let side = &self.ends[end];
        let when = |holds, ready| if holds { ready } else { Readiness::NONE };
        let over = side.reset.is_some() || end == 0 && self.opened == Some(false);
        let ended = side.ended || over;
        when(side.arrived > 0 || ended, Readiness::READABLE)
            | when(ended, Readiness::READ_CLOSED)
            | when(over || self.is_open(end) && self.has_room(end), Readiness::WRITABLE)
            | when(over || side.ended && side.finished, Readiness::WRITE_CLOSED)
            | when(over && side.reset != Some(true), Readiness::ERROR)
    }

    /// The same, as if the kernel reported it.
    fn edge(&self, end: usize) -> Readiness {
        self.level(end).said()
    }

    /// The reset that was not reported yet, as connect(2), read(2) and write(2) name it.
    fn take_reset(&mut self, end: usize) -> Option<io::Error> {
        let side = &mut self.ends[end];
        if side.reset != Some(false) {
            return None;
        }
        side.reset = Some(true);
        let kind = if side.ended { ErrorKind::BrokenPipe } else { ErrorKind::ConnectionReset };
        Some(kind.into())
    }
}

impl Wire {
    /// A wire with `buffer_bytes` for each direction, 1 at least. End 0 is not connected before
    /// `Opened` arrives there, unless `opened`.
    pub(super) fn new(
        carrier: Rc<dyn Carrier>,
        buffer_bytes: usize,
        addrs: Option<[SocketAddr; 2]>,
        opened: bool,
    ) -> Rc<Wire> {
        let line = Line {
            ends: Default::default(),
            buffer_bytes: buffer_bytes.max(1),
            opened: opened.then_some(true),
            due: [Tick::START; 2],
        };
        Rc::new(Wire { carrier, line: RefCell::new(line), addrs })
    }

    /// An end of it. Each is made once: dropping it ends the connection.
    pub(super) fn end(self: &Rc<Wire>, end: usize) -> End {
        End { wire: self.clone(), end }
    }

    /// Arrival times in one direction never go back: the later of `due` and the last one.
    pub(super) fn in_order(&self, to: usize, due: Tick) -> Tick {
        let last = &mut self.line.borrow_mut().due[to];
        *last = due.max(*last);
        *last
    }

    /// A parcel has arrived. Returns the source to wake, and the readiness for it.
    pub(super) fn arrive(self: &Rc<Wire>, to: usize, parcel: Parcel) -> Option<(RawId, Readiness)> {
        let mut line = self.line.borrow_mut();
        let side = &mut line.ends[to];
        if side.gone {
            drop(line);
            if matches!(parcel, Parcel::Bytes(_) | Parcel::Opened) {
                self.carrier.carry(self, 1 - to, Parcel::Reset);
            }
            return None;
        }
        if side.reset.is_some() {
            return None;
        }
        match parcel {
            Parcel::Bytes(count) => side.arrived = side.bytes.len().min(side.arrived + count),
            Parcel::Fin => side.ended = true,
            Parcel::Reset => side.reset = Some(false), // From now on nothing arrives.
            Parcel::Room => {}
            Parcel::Opened => line.opened = Some(true),
            Parcel::Refused => line.opened = Some(false),
        }
        Some((line.ends[to].id?, line.edge(to)))
    }
}

/// One end of a wire, which carries a connection.
pub struct End {
    wire: Rc<Wire>,
    end: usize,
}

impl End {
    fn send(&self, parcel: Parcel) {
        self.wire.carrier.carry(&self.wire, 1 - self.end, parcel);
    }

    /// Reports all that holds as an edge.
    fn wake(&self) {
        let line = self.wire.line.borrow();
        let level = line.edge(self.end);
        if let Some(id) = line.ends[self.end].id
            && !level.is_none()
        {
            self.wire.carrier.resumer().send(id, level);
        }
    }

    /// The result of connecting, if there is one.
    pub(super) fn outcome(&self) -> Option<io::Result<()>> {
        let mut line = self.wire.line.borrow_mut();
        if let Some(error) = line.take_reset(self.end) {
            return Some(Err(error));
        }
        let refused = || Err(ErrorKind::ConnectionRefused.into());
        line.opened.map(|opened| if opened { Ok(()) } else { refused() })
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.wire.line.borrow();
        let Side { arrived, ended, reset, finished, .. } = line.ends[self.end];
        f.debug_struct("End")
            .field("arrived", &arrived)
            .field("ended", &ended)
            .field("reset", &reset)
            .field("finished", &finished)
            .finish_non_exhaustive()
    }
}

impl Transport for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut line = self.wire.line.borrow_mut();
        let side = &mut line.ends[self.end];
        let most = side.arrived.min(buffer.len());
        if most == 0 {
            return match (side.ended, side.reset) {
                (true, _) | (_, Some(true)) => Ok(0),
                (false, None) => Err(ErrorKind::WouldBlock.into()),
                (false, Some(false)) => line.take_reset(self.end).map_or(Ok(0), Err),
            };
        }
        let count = self.wire.carrier.cut(most);
        let (front, back) = side.bytes.as_slices();
        let first = front.len().min(count);
        buffer[..first].copy_from_slice(&front[..first]);
        buffer[first..count].copy_from_slice(&back[..count - first]);
        side.bytes.drain(..count);
        side.arrived -= count;
        let peer = 1 - self.end;
        let feeds = line.ends[peer].starved && line.has_room(peer);
        line.ends[peer].starved &= !feeds;
        drop(line);
        if feeds {
            self.send(Parcel::Room);
        }
        if count < most {
            self.wake(); // A short read would mean that there is no more.
        }
        Ok(count)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut line = self.wire.line.borrow_mut();
        if let Some(error) = line.take_reset(self.end) {
            return Err(error);
        }
        if line.ends[self.end].finished || line.ends[self.end].reset.is_some() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        let room = line.buffer_bytes - line.ends[1 - self.end].bytes.len();
        let count = match offered.min(room) {
            0 => 0,
            most => self.wire.carrier.cut(most),
        };
        let mut left = count;
        for piece in pieces {
            let piece = &piece[..left.min(piece.len())];
            line.ends[1 - self.end].bytes.extend(piece);
            left -= piece.len();
        }
        let has_room = line.has_room(self.end);
        line.ends[self.end].starved |= count < offered && !has_room;
        drop(line);
        if count > 0 {
            self.send(Parcel::Bytes(count));
        }
        if count < offered && has_room {
            self.wake(); // A short write would mean that there is no room.
        }
        if count == 0 && offered > 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn finish(&mut self) -> io::Result<()> {
        let mut line = self.wire.line.borrow_mut();
        let side = &mut line.ends[self.end];
        if side.reset.is_some() {
            return Err(ErrorKind::NotConnected.into());
        }
        if !std::mem::replace(&mut side.finished, true) {
            drop(line);
            self.send(Parcel::Fin);
        }
        Ok(())
    }

    fn is_silent(&mut self) -> bool {
        let side = &self.wire.line.borrow().ends[self.end];
        side.arrived == 0 && !side.ended && side.reset.is_none()
    }

    fn reset_on_drop(&mut self) {
        self.wire.line.borrow_mut().ends[self.end].resets_on_drop = true;
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        let addrs = self.wire.addrs.ok_or(ErrorKind::Unsupported)?;
        let reset = self.wire.line.borrow().ends[self.end].reset.is_some();
        if reset { Err(ErrorKind::NotConnected.into()) } else { Ok(addrs[1 - self.end]) }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut line = self.wire.line.borrow_mut();
        let is_open = line.is_open(self.end);
        let side = &mut line.ends[self.end];
        side.gone = true;
        side.id = None;
        let unread = side.arrived > 0 || side.resets_on_drop || !is_open;
        let last = match side {
            Side { reset: Some(_), .. } => None,
            _ if unread => Some(Parcel::Reset),
            Side { finished: true, .. } => None,
            _ => Some(Parcel::Fin),
        };
        // Bytes under way stay until their parcels arrive, although nobody will read them.
        drop(line);
        if let Some(last) = last {
            self.send(last);
        }
    }
}

impl Source for End {
    fn register(&mut self, _: &Registry, token: Token, _: Interest) -> io::Result<()> {
        self.wire.line.borrow_mut().ends[self.end].id = Some(RawId::from_token(token));
        self.wake();
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        self.register(registry, token, what)
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        self.wire.line.borrow_mut().ends[self.end].id = None;
        Ok(())
    }
}
