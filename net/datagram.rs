//! Datagrams: messages that arrive whole, or not at all.
//!
//! Knows the loop and its budgets; what carries them is a [`Carrier`]: UDP, Unix sockets.
//!
//! ```text
//!   kernel ──recvfrom──▶ loop's 64 KiB buffer ──Received──▶ handler, once for each datagram
//!   kernel ◀───sendto────────────────────────── send, send_to: at once, or not at all
//! ```
//!
//! There is no queue but the kernel's two buffers ([`Bind::receive_buffer_bytes`],
//! [`Bind::send_buffer_bytes`]). One of the loop's own would deliver late what the sender has
//! reckoned to lose; so a datagram for which there is no room is refused, and the caller, who knows
//! what it is worth, drops it or waits for `Writable`.
//!
//! # Rules
//! 1. Each datagram is told once and whole, empty ones too; of one that is longer than
//!    [`Bind::datagram_bytes_max`] the beginning is told, and that it is `truncated`.
//! 2. A send takes the datagram, or says that there is no room (`Writable` is told when there is,
//!    once), or fails. It never takes a part.
//! 3. An error of the network, which ICMP brings in, is told and ends nothing. Met while sending it
//!    is about an earlier datagram: it is told as an event, and this one is sent all the same.
//! 4. Nobody but its owner ends a socket, so there is no last event: remove or deregister its
//!    source. After that nothing more is told, however much is queued.
//!
//! # Read next
//! `udp.rs`.

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::event::Source;
use socket2::SockRef;

use super::drive::Lent;
use super::event::Pressure;
use super::transport::registers_by;
use crate::reactor::{Context, Interest, Options, Readiness, SCRATCH_BYTES, SourceId};

/// How long to wait for room where the kernel does not say when there is.
const ROOM_AFTER: Duration = Duration::from_millis(10);
/// Bytes of the longest datagram that is told whole: one less than the loop's buffer, so that one
/// that does not fit shows.
pub(super) const DATAGRAM_BYTES_MAX: usize = SCRATCH_BYTES - 1;

/// What a datagram socket tells; `A` is an address.
#[derive(Debug)]
pub enum Event<'a, A> {
    /// A datagram has arrived.
    Received {
        /// Who sent it.
        from: A,
        /// What it says; maybe nothing. The slice is the loop's own: copy what is to be kept.
        bytes: &'a [u8],
        /// It was longer than [`Bind::datagram_bytes_max`]; the rest is lost.
        truncated: bool,
    },
    /// After a send answered `Refused`: there is room again.
    Writable,
    /// The network has trouble with something that was sent: a connected socket's peer is not there
    /// (`ConnectionRefused`), or not to be reached. The socket goes on.
    Error(io::Error),
}

/// Carries datagrams: a non-blocking socket that reports readiness by edges.
pub trait Carrier: Source + fmt::Debug + 'static {
    /// What its addresses are.
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

    /// Sends to anybody.
    ///
    /// # Errors
    /// As sendto(2): `WouldBlock` when there is no room.
    fn send_to(&self, bytes: &[u8], to: &Self::Address) -> io::Result<usize>;

    /// Whether the kernel says when there is room again.
    fn tells_room(&self) -> bool {
        true
    }
}

/// Who will say that there is room to send.
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
    /// What a send has met and nobody has been told.
    trouble: Option<io::Error>,
    /// A send was refused, and `Writable` not told since.
    blocked: bool,
    watch: Watch,
}

/// What it may take, and how much of it in one turn.
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
    /// Nothing was sent: it is too long (EMSGSIZE), the socket is not connected, there is no route,
    /// nobody is there (Unix). Errors of earlier datagrams come as [`Event::Error`] instead.
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
                // The kernel hands over what it has noted, once; a second is about this datagram.
                Err((kind, error)) if earlier.is_none() && is_of_the_network(kind) => {
                    earlier = Some(error);
                }
                Err((_, error)) => return Err(error),
            }
        };
        self.trouble = self.trouble.take().or(earlier);
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

/// Whether the trouble is the network's or the peer's: the next datagram may fare better.
fn is_of_the_network(kind: ErrorKind) -> bool {
    use ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
    };
    matches!(
        kind,
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkDown | NetworkUnreachable
    )
}

/// Sets up a datagram socket: [`udp::Bind`](super::udp::Bind) has an example. What can be chosen
/// for one kind only is in the methods of that kind.
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
    /// Bytes of the longest datagram that is told whole. 65,535, which is also the most: no UDP
    /// datagram is longer.
    pub fn datagram_bytes_max(mut self, bytes: usize) -> Bind<K> {
        self.budget.datagram_bytes = bytes.min(DATAGRAM_BYTES_MAX);
        self
    }

    /// Datagrams told in one turn; more wait for the next, so that others get theirs. 64.
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
    /// it drops what comes. The kernel's own choice, some 200 KiB as a rule.
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
            trouble: None,
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
        return settle(reactor, id); // Somebody else's callback has sent.
    }
    let socket = &mut reactor[id];
    if ready.contains(Readiness::DEADLINE) {
        socket.watch = Watch::Nobody;
    }
    let has_room = ready.intersects(Readiness::HAS_ROOM | Readiness::DEADLINE) && socket.blocked;
    socket.blocked &= !has_room;
    if has_room {
        handler(Lent(reactor, id.raw()).0, state, id, Event::Writable);
    }
    // Second: should a handler panic, this is still there, and room would not be told again.
    if let Some(error) = reactor.get_mut(id).and_then(|socket| socket.trouble.take()) {
        handler(Lent(reactor, id.raw()).0, state, id, Event::Error(error));
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
        if !reactor.contains(id.raw()) {
            return;
        }
        let mut scratch = reactor.take_scratch();
        let received = reactor[id].carrier.receive(&mut scratch[..=datagram_bytes]);
        let drained = match received {
            Ok((count, from)) => {
                bytes = bytes.saturating_sub(count);
                let truncated = count > datagram_bytes;
                let told = &scratch[..count.min(datagram_bytes)];
                let event = Event::Received { from, bytes: told, truncated };
                handler(Lent(reactor, id.raw()).0, state, id, event);
                false
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => {
                // Another kind of error may come for ever; the next edge will show.
                let passes = is_of_the_network(error.kind());
                handler(Lent(reactor, id.raw()).0, state, id, Event::Error(error));
                !passes
            }
        };
        reactor.put_scratch(scratch);
        if drained {
            return;
        }
    }
    reactor.resume(id.raw(), Readiness::READABLE);
}

/// What follows from sends: their trouble is told in the next turn, and while one is refused
/// somebody watches for room. An idle socket is watched for reading only: to every datagram that
/// leaves, the kernel says that there is room now.
fn settle<S: 'static, C: Carrier>(reactor: &mut Context<S>, id: SourceId<Socket<C>>) {
    let Some(socket) = reactor.get(id) else { return };
    let (blocked, watch) = (socket.blocked, socket.watch);
    if socket.trouble.is_some() {
        reactor.resume(id.raw(), Readiness::READABLE);
    }
    let tells_room = reactor[id].carrier.tells_room();
    let watched = match (blocked, watch) {
        (true, Watch::Nobody) if tells_room => {
            reactor.set_interest(id.raw(), Interest::READABLE | Interest::WRITABLE)
        }
        (false, Watch::Kernel) => reactor.set_interest(id.raw(), Interest::READABLE),
        (true, Watch::Nobody) => Ok(false),
        _ => return,
    };
    reactor[id].watch = match watched {
        Ok(true) if blocked => Watch::Kernel,
        Ok(_) | Err(_) if blocked => ask_the_clock(reactor, id),
        Ok(_) => Watch::Nobody,
        Err(_) => Watch::Kernel, // It says more than is needed.
    };
}

fn ask_the_clock<S: 'static, C: Carrier>(
    reactor: &mut Context<S>,
    id: SourceId<Socket<C>>,
) -> Watch {
    let tick = reactor.tick_after(ROOM_AFTER);
    reactor.set_deadline(id.raw(), Some(tick));
    Watch::Clock
}
