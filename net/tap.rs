//! A tap: it sees the bytes that a link passes on, and may change them.
//!
//! Knows the two ends of a link; never mentions the meaning of the bytes.
//!
//! ```text
//!   a ──Data──▶ tap ─ Pass ──────▶ b     the same bytes
//!                   ─ Replace(x) ▶ b     others; those that b has no room for wait here, a as well
//!                   ─ Drop               nothing; a goes on
//!                   ─ Wait               the same bytes come again after `resume`
//!                   ─ Cut                both get a reset
//!   a ──Eof───▶ tap ─ Replace(x) ▶ b     last bytes, then FIN; any other but Cut: only FIN
//! ```
//!
//! # Rules
//! 1. The tap sees each byte of a side once and in order, in pieces of any size; again only after
//!    it has returned `Wait`. It does not see a reset: the report has that. It does not see the end
//!    of a cut input either, such as TLS without close_notify: that is not passed on as an end.
//! 2. Bytes that it passes or replaces go out in that order. A side is read from only while the
//!    other has room, as without a tap: beside `outbox_bytes_high` and one read, only the rest of
//!    one replacement waits.
//! 3. `Eof` comes behind the last byte, and the FIN goes behind the last byte of the tap.
//!
//! # Left out
//! Bytes at any other time: a tap is called only when something passes. It does not know the ends
//! of messages; a program that needs frames opens the two streams with a codec, and writes to each
//! the frames of the other. `Wait` stops a whole direction, so it delays one piece at a time, and
//! later bytes arrive in one piece with it.
//!
//! # Read next
//! `rate.rs`: how fast a connection may be.

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;

use super::conn::Conn;
use super::event::{Event, Pressure, Reason};
use super::link::{self, Link, LinkReport};
use super::side::Side;
use super::stream::Stream;
use crate::reactor::{Context, SourceId};

/// Bytes, or an end, on their way through a link.
#[derive(Clone, Copy, Debug)]
pub enum Passing<'a> {
    /// Bytes that came from that side.
    Data(Side, &'a [u8]),
    /// That side has finished writing.
    Eof(Side),
}

/// The decision of a tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tap {
    /// It goes on as it is.
    Pass,
    /// These bytes, of any number, go in its place. If it is an end, they go before it.
    Replace(Vec<u8>),
    /// Nothing goes. An end cannot be dropped: it passes.
    Drop,
    /// No decision yet: the same bytes come again after [`resume`](Link::resume), and until then
    /// nothing is read from that side. An end passes.
    ///
    /// Until then nobody notices if the peer goes, so the program must resume in any case.
    Wait,
    /// Both peers get a reset at once, as by [`Link::abort`].
    Cut,
}

/// [`link`](super::link()) with a tap, which decides on everything that passes, in both directions.
/// [`LinkEnd::bytes`](super::LinkEnd::bytes) counts the bytes that were passed on: it includes
/// replacements, and not the bytes dropped.
///
/// ```
/// use waterwheel::{Reactor, net::{self, Event, Passing, Side, Tap, memory}};
///
/// let mut reactor = Reactor::new()?;
/// let (client, a) = memory::pair(&mut reactor);
/// let (b, server) = memory::pair(&mut reactor);
/// let mut to_server = 0;
/// let tap = move |_: &mut _, _: &mut String, _, passing: Passing<'_>| match passing {
///     Passing::Data(Side::A, bytes) => {
///         to_server += bytes.len();
///         if to_server > 1_000_000 { Tap::Cut } else { Tap::Pass }
///     }
///     Passing::Data(Side::B, bytes) => Tap::Replace(bytes.to_ascii_uppercase()),
///     Passing::Eof(_) => Tap::Pass,
/// };
/// net::link_with(&mut reactor, a, b, tap, |_, received, report| {
///     received.push_str(&format!(", {} there and {} back", report.a.bytes, report.b.bytes));
/// });
/// let client = client.open(&mut reactor, |reactor, received: &mut String, client, event| {
///     if let Event::Data(bytes) = event {
///         received.push_str(&String::from_utf8_lossy(bytes));
///         client.close(reactor);
///     }
/// });
/// server.open(&mut reactor, |reactor, _, server, event| {
///     if let Event::Data(_) = event {
///         let _ = server.write(reactor, b"hello");
///     }
/// });
/// let _ = client.write(&mut reactor, b"hi");
/// let mut received = String::new();
/// reactor.run(&mut received)?;
/// assert_eq!(received, "HELLO, 2 there and 5 back");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// As [`link`](super::link()).
#[track_caller]
pub fn link_with<S, T, F>(
    reactor: &mut Context<S>,
    a: impl Into<Stream>,
    b: impl Into<Stream>,
    tap: T,
    done: F,
) -> SourceId<Link>
where
    S: 'static,
    T: FnMut(&mut Context<S>, &mut S, SourceId<Link>, Passing<'_>) -> Tap + 'static,
    F: FnOnce(&mut Context<S>, &mut S, LinkReport) + 'static,
{
    let tapped = Rc::new(Tapped { tap: RefCell::new(tap), lanes: Default::default() });
    link::join(reactor, a.into(), b.into(), done, |link, side| passing(link, side, tapped.clone()))
}

impl SourceId<Link> {
    /// [`Link::resume`] from any callback, such as a timer. Returns false if the link has gone.
    pub fn resume<S: 'static>(self, reactor: &mut Context<S>, from: Side) -> bool {
        reactor.get_mut(self).map(|link| link.resume(from)).is_some()
    }
}

/// The state that both sides' handlers share.
struct Tapped<T> {
    tap: RefCell<T>,
    /// A lane for each side: the bytes that come from there.
    lanes: [Lane; 2],
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// Bytes that found no room. Nothing is read from the side until they have gone.
    rest: RefCell<Vec<u8>>,
    /// The next step for the sink when they have gone.
    then: Cell<Then>,
}

/// The next step of a direction, when its rest has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Then {
    #[default]
    Read,
    /// The tap has got the end.
    Finish,
    /// The side has gone, in order; input from the other side has no receiver.
    Close,
}

/// The pressure of a sink, by its own limits; `None` if it takes nothing any more.
type Taken = Option<Pressure>;

impl Lane {
    /// Gives bytes to the sink, and keeps those that it has no room for.
    fn give(&self, sink: &mut Conn, bytes: &[u8]) -> Taken {
        if self.is_held_up() {
            // Other code has resumed the side: these go behind the bytes that wait.
            self.rest.borrow_mut().extend_from_slice(bytes);
            return Some(Pressure::AboveHigh);
        }
        match sink.pass(bytes) {
            Pressure::Refused | Pressure::Closed => {
                let taken = sink.pass_some(bytes)?;
                self.rest.borrow_mut().extend_from_slice(&bytes[taken..]);
                Some(Pressure::AboveHigh)
            }
            pressure => Some(pressure),
        }
    }

    /// Gives the sink more of the rest.
    fn go_on(&self, sink: &mut Conn) -> Taken {
        let rest = mem::take(&mut *self.rest.borrow_mut());
        self.give(sink, &rest)
    }

    fn is_held_up(&self) -> bool {
        !self.rest.borrow().is_empty()
    }

    /// Ends the sink, behind the bytes that are to be sent.
    fn end(&self, sink: &mut Conn) {
        match self.then.get() {
            _ if self.is_held_up() => {} // `Drained` comes.
            Then::Read => {}
            Then::Finish => sink.shutdown(),
            Then::Close => sink.close(),
        }
    }
}

/// The handler of one side.
fn passing<S, T>(
    link: SourceId<Link>,
    side: usize,
    tapped: Rc<Tapped<T>>,
) -> impl FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + 'static
where
    S: 'static,
    T: FnMut(&mut Context<S>, &mut S, SourceId<Link>, Passing<'_>) -> Tap + 'static,
{
    move |reactor, state, own, event| {
        let Some(other) = reactor.get(link).map(|link| link.ends()[1 - side]) else {
            return link::abort(reactor, own);
        };
        let [lane, back] = [side, 1 - side].map(|side| &tapped.lanes[side]);
        match event {
            Event::Data(_) | Event::Eof if back.then.get() == Then::Close => {}
            Event::Data(bytes) => {
                let what = Passing::Data(Side::of(side), bytes);
                let verdict = (tapped.tap.borrow_mut())(reactor, state, link, what);
                match verdict {
                    Tap::Pass => give(reactor, (link, side), [own, other], lane, bytes),
                    Tap::Replace(new) => give(reactor, (link, side), [own, other], lane, &new),
                    Tap::Drop => {}
                    Tap::Wait => wait(reactor, (link, side), own, bytes),
                    Tap::Cut => [own, other].iter().for_each(|end| link::abort(reactor, *end)),
                }
            }
            Event::Eof if own.is_cut(reactor) => link::await_answer(reactor, link),
            Event::Eof => {
                let what = Passing::Eof(Side::of(side));
                let verdict = (tapped.tap.borrow_mut())(reactor, state, link, what);
                match verdict {
                    Tap::Replace(new) => give(reactor, (link, side), [own, other], lane, &new),
                    Tap::Cut => [own, other].iter().for_each(|end| link::abort(reactor, *end)),
                    Tap::Pass | Tap::Drop | Tap::Wait => {}
                }
                lane.then.set(Then::Finish);
                if let Some(sink) = reactor.get_mut(other) {
                    lane.end(sink);
                }
            }
            Event::Drained => drained(reactor, (link, 1 - side), [other, own], back),
            Event::Closed(reason) => {
                let last = lane.is_held_up() && matches!(reason, Reason::Finished);
                let Some(sink) = reactor.get_mut(other).filter(|_| last) else {
                    return link::closed(reactor, (link, side), other, reason);
                };
                if sink.is_read_out() {
                    lane.then.set(Then::Finish);
                } else {
                    lane.then.set(Then::Close);
                    sink.resume();
                }
                link::note_reason(reactor, (link, side), reason);
            }
        }
    }
}

/// Gives bytes to the other side. The side that they come from waits if there is no more room.
fn give<S: 'static>(
    reactor: &mut Context<S>,
    from: (SourceId<Link>, usize),
    [own, other]: [SourceId<Conn>; 2],
    lane: &Lane,
    bytes: &[u8],
) {
    let taken = reactor.get_mut(other).and_then(|sink| lane.give(sink, bytes));
    if taken.is_some() {
        link::count(reactor, from, bytes.len());
    }
    if let Some(source) = reactor.get_mut(own) {
        match taken {
            Some(Pressure::Below) => {}
            Some(_) => source.pause(),
            None if bytes.is_empty() => {}
            None => source.abort(), // As without a tap: other code has shut the sink down.
        }
    }
}

/// The tap wants the same bytes again.
fn wait<S: 'static>(
    reactor: &mut Context<S>,
    (link, side): (SourceId<Link>, usize),
    own: SourceId<Conn>,
    bytes: &[u8],
) {
    let Some(link) = reactor.get(link) else { return link::abort(reactor, own) };
    link.waits()[side].set(true);
    if let Some(source) = reactor.get_mut(own) {
        source.unread(bytes.len());
        source.pause();
    }
}

/// The sink has room again.
fn drained<S: 'static>(
    reactor: &mut Context<S>,
    (link, from): (SourceId<Link>, usize),
    [source, sink]: [SourceId<Conn>; 2],
    lane: &Lane,
) {
    let Some(conn) = reactor.get_mut(sink) else { return };
    if lane.is_held_up() {
        let taken = lane.go_on(conn);
        lane.end(conn);
        match taken {
            Some(Pressure::Below) if !lane.is_held_up() => {}
            Some(_) => return, // Until the next `Drained`.
            None => return link::abort(reactor, source),
        }
    }
    let waits = reactor.get(link).is_some_and(|link| link.waits()[from].get());
    if let Some(source) = reactor.get_mut(source).filter(|_| !waits) {
        source.resume();
    }
}
