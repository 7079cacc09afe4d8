//! Datagrams: messages that arrive whole, or not at all.
//!
//! Knows the loop and its budgets; a [`Carrier`] carries the datagrams: UDP, Unix sockets.
//!
//! ```text
//!   kernel ──recvfrom──▶ loop's 64 KiB buffer ──Received──▶ handler, once for each datagram
//!   kernel ◀───sendto────────────────────────── send, send_to: at once, or not at all
//! ```
//!
//! The only queues are the kernel's two buffers ([`Bind::receive_buffer_bytes`],
//! [`Bind::send_buffer_bytes`]). A sender expects that a datagram may get lost, not that a queue in
//! the loop sends it late. So a datagram for which there is no room is refused, and the caller,
//! which knows its value, drops it or waits for `Writable`.
//!
//! # Rules
//! 1. Each datagram is delivered once and whole, empty ones too; one that is longer than
//!    [`Bind::datagram_bytes_max`] is delivered without its end, marked as `truncated`.
//! 2. A send takes the datagram, or returns that there is no room (`Writable` is delivered when
//!    there is, once), or fails. It never takes a part.
//! 3. An error of the network, which ICMP brings in, is reported and ends nothing. If a send gets
//!    it, it is about an earlier datagram: an event reports it, and this datagram is still sent.
//! 4. Only its owner ends a socket, so there is no last event: remove or deregister its source.
//!    After that nothing more is delivered, however much is queued.
//!
//! # Read next
//! `udp.rs`.

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::event::Source;
use socket2::SockRef;

use super::event::Pressure;
use super::handler::guarded;
use super::transport::registers_by;
use crate::reactor::{Context, Interest, Kind, Options, Readiness, SCRATCH_BYTES, SourceId};

/// How long to wait for room where the kernel does not report it.
const ROOM_AFTER: Duration = Duration::from_millis(10);
/// Bytes of the longest datagram that is delivered whole: one less than the loop's buffer, so that
/// a longer one is noticed.
pub(super) const DATAGRAM_BYTES_MAX: usize = SCRATCH_BYTES - 1;

/// An event of a datagram socket; `A` is an address.
#[derive(Debug)]
pub enum Event<'a, A> {
    /// A datagram has arrived.
    Received {
        /// The address of its sender.
        from: A,
        /// Its bytes; maybe none. The slice is the loop's own: copy the bytes to keep.
        bytes: &'a [u8],
        /// True if it was longer than [`Bind::datagram_bytes_max`]; the rest is lost.
        truncated: bool,
    },
    /// There is room again, after a send returned `Refused`.
    Writable,
    /// The network could not deliver an earlier datagram: a connected socket's peer is not there
    /// (`ConnectionRefused`), or cannot be reached. The socket goes on.
    Error(io::Error),
}

/// Carries datagrams: a non-blocking socket that reports readiness by edges.
pub trait Carrier: Source + fmt::Debug + 'static {
    /// The type of its addresses.
    type Address;

    /// Receives a datagram; as many bytes as the buffer has, if it is longer.
    ///
    /// # Errors
    /// As recvfrom(2): `WouldBlock` when there is none.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Self::Address)>;

    /// Sends to the peer it is connected to.
    ///
    /// # Errors
    /// As send(2): `WouldBlock` when there is no room.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Sends to any address.
    ///
    /// # Errors
    /// As sendto(2): `WouldBlock` when there is no room.
    fn send_to(&self, bytes: &[u8], to: &Self::Address) -> io::Result<usize>;

    /// Returns true if the kernel reports when there is room again.
    fn reports_room(&self) -> bool {
        true
    }
}

/// The way by which the loop learns that there is room to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Nobody,
    /// The socket is watched for writing.
    Kernel,
    /// Its deadline is armed.
    Clock,
}

/// A datagram socket. Remove or deregister its source to close it.
#[derive(Debug)]
pub struct Socket<C> {
    pub(super) carrier: C,
    budget: Budget,
    /// An error that a send has met and no event has reported yet.
    pending_error: Option<io::Error>,
    /// True if a send was refused, and `Writable` was not delivered since.
    blocked: bool,
    watch: Watch,
}

/// The longest datagram it takes, and how many of them and of their bytes in one turn.
#[derive(Clone, Copy, Debug)]
struct Budget {
    datagram_bytes: usize,
    datagrams: usize,
    bytes: usize,
}

impl<C: Carrier> Socket<C> {
    /// Sends one datagram to the peer that the socket is connected to.
    ///
    /// # Errors
    /// Nothing was sent: it is too long (EMSGSIZE), the socket is not connected, there is no route
    /// or no receiver (Unix). Errors of earlier datagrams come as [`Event::Error`] instead.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<Pressure> {
        self.offer(|carrier| carrier.send(bytes))
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// As [`send`](Socket::send).
    pub fn send_to(&mut self, bytes: &[u8], to: &C::Address) -> io::Result<Pressure> {
        self.offer(|carrier| carrier.send_to(bytes, to))
    }

    pub(super) fn offer(&mut self, send: impl Fn(&C) -> io::Result<usize>) -> io::Result<Pressure> {
        let mut earlier = None;
        let answer = loop {
            match send(&self.carrier).map_err(|error| (error.kind(), error)) {
                Ok(_) => break Pressure::Below,
                Err((ErrorKind::Interrupted, _)) => {}
                Err((ErrorKind::WouldBlock, _)) => {
                    self.blocked = true;
                    break Pressure::Refused;
                }
                // The kernel reports a noted error once; a second one is about this datagram.
                Err((kind, error)) if earlier.is_none() && is_of_the_network(kind) => {
                    earlier = Some(error);
                }
                Err((_, error)) => return Err(error),
            }
        };
        self.pending_error = self.pending_error.take().or(earlier);
        Ok(answer)
    }
}

registers_by!(Socket<C>, carrier);

/// For options that are not here; see `socket2::SockRef`.
#[cfg(unix)]
impl<C: std::os::fd::AsFd> std::os::fd::AsFd for Socket<C> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.carrier.as_fd()
    }
}

/// Returns true if the error is the network's or the peer's: the next datagram may arrive.
fn is_of_the_network(kind: ErrorKind) -> bool {
    use ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
    };
    matches!(
        kind,
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkDown | NetworkUnreachable
    )
}

/// Sets up a datagram socket: [`udp::Bind`](super::udp::Bind) has an example. An option's
/// description ends with its default. The options of one kind only are methods of that kind.
#[derive(Clone, Debug)]
pub struct Bind<K> {
    budget: Budget,
    send_buffer_bytes: Option<usize>,
    receive_buffer_bytes: Option<usize>,
    pub(super) kind: K,
}

impl<K: Default> Default for Bind<K> {
    fn default() -> Bind<K> {
        let budget =
            Budget { datagram_bytes: DATAGRAM_BYTES_MAX, datagrams: 64, bytes: 256 * 1024 };
        Bind { budget, send_buffer_bytes: None, receive_buffer_bytes: None, kind: K::default() }
    }
}

impl<K: Default> Bind<K> {
    /// The defaults.
    pub fn new() -> Bind<K> {
        Bind::default()
    }
}

impl<K> Bind<K> {
    /// Bytes of the longest datagram that is delivered whole. 65,535, which is also the most: no
    /// UDP datagram is longer.
    pub fn datagram_bytes_max(mut self, bytes: usize) -> Bind<K> {
        self.budget.datagram_bytes = bytes.min(DATAGRAM_BYTES_MAX);
        self
    }

    /// Datagrams delivered in one turn; more wait for the next, so that others are called. 64.
    pub fn datagrams_per_turn(mut self, datagrams: usize) -> Bind<K> {
        self.budget.datagrams = datagrams.max(1);
        self
    }

    /// Bytes received in one turn, the last datagram whole. 256 KiB.
    pub fn read_bytes_per_turn(mut self, bytes: usize) -> Bind<K> {
        self.budget.bytes = bytes.max(1);
        self
    }

    /// The kernel's buffer for datagrams on their way out (`SO_SNDBUF`): when it is full, a send is
    /// refused. The kernel's own choice, some 200 KiB as a rule.
    pub fn send_buffer_bytes(mut self, bytes: usize) -> Bind<K> {
        self.send_buffer_bytes = Some(bytes);
        self
    }

    /// The kernel's buffer for datagrams that wait to be received (`SO_RCVBUF`): when it is full,
    /// it drops new ones. The kernel's own choice, some 200 KiB as a rule.
    pub fn receive_buffer_bytes(mut self, bytes: usize) -> Bind<K> {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    pub(super) fn set_buffers(&self, socket: &SockRef<'_>) -> io::Result<()> {
        self.send_buffer_bytes.map_or(Ok(()), |bytes| socket.set_send_buffer_size(bytes))?;
        self.receive_buffer_bytes.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(bytes))
    }

    /// Hands a socket to the loop.
    #[track_caller]
    pub(super) fn serve<S, C, F>(
        &self,
        reactor: &mut Context<S>,
        carrier: C,
        mut handler: F,
    ) -> io::Result<SourceId<Socket<C>>>
    where
        S: 'static,
        C: Carrier,
        F: FnMut(&mut Context<S>, &mut S, SourceId<Socket<C>>, Event<'_, C::Address>) + 'static,
    {
        let socket = Socket {
            carrier,
            budget: self.budget,
            pending_error: None,
            blocked: false,
            watch: Watch::Nobody,
        };
        let options = Options { flush: true, closes: true, ..Options::default() };
        let drive = move |reactor: &mut _, state: &mut _, id, ready| {
            drive(reactor, state, id, ready, &mut handler);
        };
        Ok(reactor.register_unmasked(socket, Interest::READABLE, options, drive)?)
    }
}

/// A socket's source is called.
fn drive<S: 'static, C: Carrier>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Socket<C>>,
    ready: Readiness,
    handler: &mut impl FnMut(&mut Context<S>, &mut S, SourceId<Socket<C>>, Event<'_, C::Address>),
) {
    if ready.contains(Readiness::FLUSH) {
        return settle(reactor, id); // Another callback has sent.
    }
    let socket = &mut reactor[id];
    if ready.contains(Readiness::DEADLINE) {
        socket.watch = Watch::Nobody;
    }
    let has_room = ready.intersects(Readiness::HAS_ROOM | Readiness::DEADLINE) && socket.blocked;
    socket.blocked &= !has_room;
    if has_room {
        guarded(reactor, id, |reactor| handler(reactor, state, id, Event::Writable));
    }
    // Second: if a handler panics, this error is still there, but room is not reported again.
    if let Some(error) = reactor.get_mut(id).and_then(|socket| socket.pending_error.take()) {
        guarded(reactor, id, |reactor| handler(reactor, state, id, Event::Error(error)));
    }
    if ready.is_readable() {
        receive(reactor, state, id, handler);
    }
    settle(reactor, id);
}

/// Receives until there is no more, or the turn's budget is spent.
fn receive<S: 'static, C: Carrier>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Socket<C>>,
    handler: &mut impl FnMut(&mut Context<S>, &mut S, SourceId<Socket<C>>, Event<'_, C::Address>),
) {
    let Some(socket) = reactor.get(id) else { return };
    let Budget { datagram_bytes, datagrams, mut bytes } = socket.budget;
    for _ in 0..datagrams {
        if bytes == 0 {
            break;
        }
        // The handler may have closed it.
        if !reactor.contains(id) {
            return;
        }
        let mut scratch = reactor.take_scratch();
        let received = reactor[id].carrier.receive(&mut scratch[..=datagram_bytes]);
        let drained = match received {
            Ok((count, from)) => {
                bytes = bytes.saturating_sub(count);
                reactor.note_bytes(id.raw(), Kind::Received, count);
                let truncated = count > datagram_bytes;
                let datagram = &scratch[..count.min(datagram_bytes)];
                let event = Event::Received { from, bytes: datagram, truncated };
                guarded(reactor, id, |reactor| handler(reactor, state, id, event));
                false
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => {
                // Another kind of error may come again without end; wait for the next edge.
                let passes = is_of_the_network(error.kind());
                guarded(reactor, id, |reactor| handler(reactor, state, id, Event::Error(error)));
                !passes
            }
        };
        reactor.put_scratch(scratch);
        if drained {
            return;
        }
    }
    reactor.resume(id, Readiness::READABLE);
}

/// The steps after a send: the next turn reports its error; after a refused send the socket or the
/// clock is watched for room. An idle socket is watched for reading only, since the kernel reports
/// room for every datagram that leaves.
fn settle<S: 'static, C: Carrier>(reactor: &mut Context<S>, id: SourceId<Socket<C>>) {
    let Some(socket) = reactor.get(id) else { return };
    let (blocked, watch) = (socket.blocked, socket.watch);
    if socket.pending_error.is_some() {
        reactor.resume(id, Readiness::READABLE);
    }
    let reports_room = reactor[id].carrier.reports_room();
    let watched = match (blocked, watch) {
        (true, Watch::Nobody) if reports_room => {
            reactor.set_interest(id, Interest::READABLE | Interest::WRITABLE)
        }
        (false, Watch::Kernel) => reactor.set_interest(id, Interest::READABLE),
        (true, Watch::Nobody) => Ok(false),
        _ => return,
    };
    reactor[id].watch = match watched {
        Ok(true) if blocked => Watch::Kernel,
        Ok(_) | Err(_) if blocked => ask_the_clock(reactor, id),
        Ok(_) => Watch::Nobody,
        Err(_) => Watch::Kernel, // It reports more than is needed.
    };
}

fn ask_the_clock<S: 'static, C: Carrier>(
    reactor: &mut Context<S>,
    id: SourceId<Socket<C>>,
) -> Watch {
    let tick = reactor.tick_after(ROOM_AFTER);
    reactor.set_deadline(id, Some(tick));
    Watch::Clock
}
