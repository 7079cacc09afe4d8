//! A tap: what a link passes on, seen on its way, and changed.
//!
//! Knows the two ends of a link; never mentions what the bytes mean.
//!
//! ```text
//!   a ──Data──▶ tap ─ Pass ──────▶ b     the same bytes
//!                   ─ Replace(x) ▶ b     others; what b has no room for waits here, and a with it
//!                   ─ Drop               nothing; a goes on
//!                   ─ Wait               the same bytes come again after `resume`
//!                   ─ Cut                both get a reset
//!   a ──Eof───▶ tap ─ Replace(x) ▶ b     last words, then FIN; but for Cut, any other is only FIN
//! ```
//!
//! # Rules
//! 1. The tap sees each byte of a side once and in order, cut into pieces anyhow; again only after
//!    it has said `Wait`. A reset it does not see: the report tells of that. Nor does it see the end
//!    of an input that was cut, such as TLS without close_notify: that is not passed on as an end.
//! 2. What it passes or puts in its place goes out in that order. A side is read from only while
//!    the other has room, as without a tap: beside `outbox_bytes_high` and one read, what waits is
//!    what is left of one replacement.
//! 3. `Eof` comes behind the last byte, and the FIN goes behind what the tap has made of it.
//!
//! # Left out
//! Bytes out of turn: a tap answers what passes, and has no say while nothing does. It does not see
//! where a message ends; whoever needs frames opens the two streams with a codec, and writes to each
//! what came from the other. `Wait` holds up a whole direction, so a delay by it is one of a piece
//! at a time, and what comes behind arrives in one piece with it.
//!
//! # Read next
//! `rate.rs`: how fast a connection may be.

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;

use super::conn::Conn;
use super::event::{Event, Pressure, Reason};
use super::link::{self, Link, LinkReport};
use super::stream::Stream;
use crate::reactor::{Context, SourceId};

/// One side of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that was given first.
    A,
    /// The other.
    B,
}

impl Side {
    /// The side opposite.
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    fn of(index: usize) -> Side {
        if index == 0 { Side::A } else { Side::B }
    }
}

/// What is to pass a link.
#[derive(Clone, Copy, Debug)]
pub enum Passing<'a> {
    /// Bytes that came from that side.
    Data(Side, &'a [u8]),
    /// That side has finished writing.
    Eof(Side),
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tap {
    /// It goes on as it is.
    Pass,
    /// These bytes go in its place, however many. In place of an end, they go before it.
    Replace(Vec<u8>),
    /// Nothing goes. An end cannot be dropped: it passes.
    Drop,
    /// It is not looked at yet: the same bytes come again after [`resume`](Link::resume), and until
    /// then nothing is read from that side. An end passes.
    ///
    /// A peer that goes meanwhile is not noticed before that, so the program resumes in any case.
    Wait,
    /// Both peers get a reset at once, as by [`Link::abort`].
    Cut,
}

/// [`link`](super::link()) with a tap, which is asked about all that passes, in both directions.
/// [`LinkEnd::bytes`](super::LinkEnd::bytes) counts what was passed on, so what is put in the place
/// of something else, and not what is dropped.
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
/// net::link_with(&mut reactor, a, b, tap, |_, heard, report| {
///     heard.push_str(&format!(", {} there and {} back", report.a.bytes, report.b.bytes));
/// });
/// let client = client.open(&mut reactor, |reactor, heard: &mut String, client, event| {
///     if let Event::Data(bytes) = event {
///         heard.push_str(&String::from_utf8_lossy(bytes));
///         client.close(reactor);
///     }
/// });
/// server.open(&mut reactor, |reactor, _, server, event| {
///     if let Event::Data(_) = event {
///         let _ = server.write(reactor, b"hello");
///     }
/// });
/// let _ = client.write(&mut reactor, b"hi");
/// let mut heard = String::new();
/// reactor.run(&mut heard)?;
/// assert_eq!(heard, "HELLO, 2 there and 5 back");
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
    /// [`Link::resume`], wherever one is: from a timer, say. False if the link has gone.
    pub fn resume<S: 'static>(self, reactor: &mut Context<S>, from: Side) -> bool {
        reactor.get_mut(self).map(|link| link.resume(from)).is_some()
    }
}

/// What both sides' handlers share.
struct Tapped<T> {
    tap: RefCell<T>,
    /// By the side they come from.
    lanes: [Lane; 2],
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// What was to go on and found no room. Nothing is read from the side until it has gone.
    rest: RefCell<Vec<u8>>,
    /// What is to happen to the sink when that has gone.
    then: Cell<Then>,
}

/// How a direction goes on behind its rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Then {
    #[default]
    Read,
    /// The end was told.
    Finish,
    /// The side has gone, in order; what its peer says is nobody's.
    Close,
}

/// Whether a sink takes more, less its own limits; `None` if it takes nothing any more.
type Taken = Option<Pressure>;

impl Lane {
    /// Gives bytes to the sink, and keeps what it has no room for.
    fn give(&self, sink: &mut Conn, bytes: &[u8]) -> Taken {
        if self.is_held_up() {
            // Somebody else has resumed the side: behind what waits.
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

    /// Ends the sink, behind what there is to send.
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

/// Gives bytes to the other side; the one they come from waits if that has no more room.
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
            None => source.abort(), // As without a tap: somebody has shut the other side down.
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
            Some(_) => return, // Until it is told again.
            None => return link::abort(reactor, source),
        }
    }
    let waits = reactor.get(link).is_some_and(|link| link.waits()[from].get());
    if let Some(source) = reactor.get_mut(source).filter(|_| !waits) {
        source.resume();
    }
}
