//! A link: two streams joined, so that the bytes from one go to the other.
//!
//! Knows connections and the loop; never mentions the meaning of the bytes.
//!
//! Each side is an ordinary connection with a handler of this library. A proxy has to do the right
//! thing at four events:
//!
//! ```text
//!   event of a   b does
//!   Data ──────▶ write; above its high-water mark: a pauses until Drained of b
//!   Eof ───────▶ FIN behind the last byte; the other direction goes on
//!   (cut) ─────▶ nothing: a FIN would say that the input is complete. b may still answer; after
//!                a `close_grace` of silence both are reset
//!   Closed ────▶ in order: finish, too; for any other reason: reset
//!
//!   both Closed: the link's source is called, and hands over the report
//! ```
//!
//! Bytes go from the loop's read buffer to the other socket without a copy; only bytes that the
//! kernel does not take are kept, `outbox_bytes_high` and one read at most in each direction.
//!
//! # Rules
//! 1. The report comes exactly once, when both ends are gone. A link that was removed, or dropped
//!    with the loop, reports nothing, and its ends are reset.
//! 2. The bytes that arrive are a prefix of those sent; all of them if both sides have finished.
//! 3. A reset does not wait for the unsent bytes, as in TCP (RFC 9293, 3.10.7.4).
//!
//! # Left out
//! splice(2): it needs `unsafe` and a pipe for each direction.
//!
//! # Read next
//! `tap.rs`: the bytes that pass, seen and changed.

use std::cell::Cell;
use std::mem;
use std::time::{Duration, Instant};

use super::conn::Conn;
use super::event::{Event, Pressure, Reason};
use super::handler::LINK_GONE;
use super::limits::Limits;
use super::side::Side;
use super::states::Receiving;
use super::stream::Stream;
use crate::reactor::{Context, Options, Readiness, Resumer, SourceId};

/// Two connections that pass everything that they receive on to each other; made by [`link`].
/// Removing its source resets both peers and reports nothing; [`abort`](Link::abort) reports, too.
#[derive(Debug)]
pub struct Link {
    ends: Ends,
    /// Bytes from each. Behind a `Cell`, so that counting does not ask for a flush.
    bytes: [Cell<u64>; 2],
    /// Why each is gone.
    reasons: [Option<Reason>; 2],
    begun: Instant,
    aborted: bool,
    /// By side: true while its tap waits to be resumed; true once it was.
    waits: [Cell<bool>; 2],
    resumed: [bool; 2],
    /// After an input was cut: the bytes passed on at the last check for silence.
    passed: u64,
}

/// The ends of a link. They are reset when the link leaves the loop.
#[derive(Debug)]
struct Ends {
    /// `None` while they are being opened, and when they have gone.
    ids: Option<[SourceId<Conn>; 2]>,
    resumer: Resumer,
}

impl Drop for Ends {
    fn drop(&mut self) {
        for end in self.ids.iter().flatten() {
            self.resumer.send(*end, LINK_GONE);
        }
    }
}

/// The report of a link that has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct LinkReport {
    /// The side that was given first.
    pub a: LinkEnd,
    /// The other.
    pub b: LinkEnd,
    /// From the link's beginning until both sides were gone.
    pub duration: Duration,
}

/// The end of one side of a link.
#[derive(Debug)]
pub struct LinkEnd {
    /// Bytes that came from this side and were passed on.
    pub bytes: u64,
    /// The reason for its end. [`Reason::Aborted`] if the other side's end or [`Link::abort`] was
    /// the cause.
    pub reason: Reason,
}

impl Link {
    /// The two connections, to look at or to limit. Do not write to them.
    pub fn ends(&self) -> [SourceId<Conn>; 2] {
        self.ends.ids.expect("nobody else has the id before both are open")
    }

    /// Bytes passed on so far: those that came from the first side, and from the second.
    pub fn bytes(&self) -> [u64; 2] {
        [self.bytes[0].get(), self.bytes[1].get()]
    }

    /// Ends it at once: both peers get a reset. The report comes as always.
    pub fn abort(&mut self) {
        self.aborted = true;
    }

    /// In the next turn, shows the bytes again that a tap has put off by
    /// [`Tap::Wait`](super::Tap::Wait). Does nothing if the tap has put off nothing of that side.
    pub fn resume(&mut self, from: Side) {
        self.resumed[from as usize] |= self.waits[from as usize].take();
    }

    /// By side: true while its tap waits to be resumed.
    pub(super) fn waits(&self) -> &[Cell<bool>; 2] {
        &self.waits
    }
}

/// Joins two streams until both have ended, then calls `done` with the report.
///
/// Each is a [`Stream`] that was accepted or connected, or a [`Conn`] that was deregistered: its
/// unread and unsent bytes go first. The limits of each stay in force; both may be half open. Give
/// them a `write_timeout`: otherwise a peer that neither reads nor leaves keeps the link without
/// end. A stream that only reads cannot take the other's bytes, so these end the link. To see the
/// bytes that pass, or to change them, use [`link_with`](super::link_with).
///
/// ```no_run
/// use std::time::Duration;
/// use waterwheel::{Reactor, net::{self, tcp}};
///
/// let upstream = "127.0.0.1:7001".parse().unwrap();
/// let mut reactor = Reactor::<()>::new()?;
/// tcp::listen(&mut reactor, "127.0.0.1:7002", move |reactor, _, client| {
///     let patience = Duration::from_secs(3);
///     let connecting = tcp::connect(reactor, upstream, patience, |reactor, _, server| {
///         match server {
///             Ok(server) => {
///                 net::link(reactor, client, server, |_, _, report| println!("{report:?}"));
///             }
///             Err(error) => eprintln!("cannot connect: {error}"),
///         }
///     });
///     connecting.inspect_err(|error| eprintln!("cannot connect: {error}")).ok();
/// })?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// As [`Stream::open`], with more sources than a token can number.
#[track_caller]
pub fn link<S, F>(
    reactor: &mut Context<S>,
    a: impl Into<Stream>,
    b: impl Into<Stream>,
    done: F,
) -> SourceId<Link>
where
    S: 'static,
    F: FnOnce(&mut Context<S>, &mut S, LinkReport) + 'static,
{
    join(reactor, a.into(), b.into(), done, passing)
}

/// Registers a link and opens its ends with the handlers that `passing` makes for each side.
#[track_caller]
pub(super) fn join<S, F, P, H>(
    reactor: &mut Context<S>,
    a: Stream,
    b: Stream,
    done: F,
    passing: P,
) -> SourceId<Link>
where
    S: 'static,
    F: FnOnce(&mut Context<S>, &mut S, LinkReport) + 'static,
    P: Fn(SourceId<Link>, usize) -> H,
    H: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + 'static,
{
    let link = Link {
        ends: Ends { ids: None, resumer: reactor.resumer() },
        bytes: Default::default(),
        reasons: [None, None],
        begun: reactor.now(),
        aborted: false,
        waits: Default::default(),
        resumed: [false; 2],
        passed: 0,
    };
    let options = Options { flush: true, ..Options::default() };
    let mut done = Some(done);
    let call = move |reactor: &mut Context<S>, state: &mut S, id, ready: Readiness| {
        if ready.contains(Readiness::FLUSH) {
            return flush(reactor, id);
        }
        if ready.contains(Readiness::DEADLINE) {
            end_silent(reactor, id);
        }
        if let Some(report) = report(reactor, id)
            && let Some(done) = done.take()
        {
            done(reactor, state, report);
        }
    };
    let id = reactor.own_with(link, options, call); // Its ends call it.
    let [a, b] = share_budget([a, b]);
    let a = a.linked().open_with_eof_at_cut(reactor, passing(id, 0));
    let b = b.linked().open_with_eof_at_cut(reactor, passing(id, 1));
    reactor[id].ends.ids = Some([a, b]);
    id
}

/// An end without a budget gets the budget of the other end: the bytes that a client sends wait at
/// the server's end.
fn share_budget(mut ends: [Stream; 2]) -> [Stream; 2] {
    let budgets = ends.each_ref().map(|end| end.conn.limits().buffers.clone());
    for (end, [own, other]) in ends.iter_mut().zip([[0, 1], [1, 0]]) {
        if budgets[own].is_none() && budgets[other].is_some() {
            let limits = end.conn.limits().clone();
            end.conn.set_limits(Limits { buffers: budgets[other].clone(), ..limits });
        }
    }
    ends
}

/// The handler of one side.
fn passing<S: 'static>(
    link: SourceId<Link>,
    side: usize,
) -> impl FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + 'static {
    move |reactor, _, own, event| {
        let Some(other) = reactor.get(link).map(|link| link.ends()[1 - side]) else {
            return abort(reactor, own);
        };
        match event {
            Event::Data(bytes) => {
                let taken = pass(reactor, own, other, bytes);
                count(reactor, (link, side), taken);
            }
            Event::Drained => {
                reactor.get_mut(other).map(Conn::resume);
            }
            Event::Eof if own.is_cut(reactor) => await_answer(reactor, link),
            Event::Eof => {
                reactor.get_mut(other).map(Conn::shutdown);
            }
            Event::Closed(reason) => closed(reactor, (link, side), other, reason),
        }
    }
}

/// Counts the bytes of a side that were passed on.
#[inline]
pub(super) fn count<S: 'static>(
    reactor: &Context<S>,
    (link, side): (SourceId<Link>, usize),
    taken: usize,
) {
    if let Some(link) = reactor.get(link) {
        let count = &link.bytes[side];
        count.set(count.get() + taken as u64);
    }
}

/// Gives bytes to the other side; returns how many it took. The rest waits on our side, paused.
fn pass<S: 'static>(
    reactor: &mut Context<S>,
    own: SourceId<Conn>,
    other: SourceId<Conn>,
    bytes: &[u8],
) -> usize {
    let taken = match reactor.get_mut(other).map(|sink| (sink.pass(bytes), sink)) {
        Some((Pressure::Below, _)) => return bytes.len(),
        Some((Pressure::AboveHigh, _)) => Some(bytes.len()),
        // Its limits are less than a read, or it is closing.
        Some((Pressure::Refused | Pressure::Closed, sink)) => sink.pass_some(bytes),
        None => None,
    };
    let source = &mut reactor[own];
    match taken {
        Some(taken) => {
            source.unread(bytes.len() - taken);
            source.pause();
        }
        None => source.abort(), // Other code has shut the other side down, or removed it.
    }
    taken.unwrap_or(0)
}

/// An input was cut. The link goes on while anything is under way, and is then reset: the rest of
/// that input will not come, and the other peer must not take the part for the whole.
pub(super) fn await_answer<S: 'static>(reactor: &mut Context<S>, id: SourceId<Link>) {
    let Some(ends) = reactor.get(id).map(Link::ends) else { return };
    let graces = ends.iter().filter_map(|end| Some(reactor.get(*end)?.limits().close_grace));
    let until = reactor.tick_after(graces.min().unwrap_or_default());
    reactor[id].passed = reactor[id].bytes().iter().sum();
    reactor.set_deadline(id, Some(until));
}

/// The `close_grace` has passed since then. Ends both, unless something is still under way.
fn end_silent<S: 'static>(reactor: &mut Context<S>, id: SourceId<Link>) {
    let Some(link) = reactor.get(id) else { return };
    let ends = link.ends();
    let has_passed = link.bytes().iter().sum::<u64>() > link.passed;
    // A tap waits because the program wants it to, and the bytes put off are not passed at once.
    let waits = link.waits.iter().any(Cell::get) || link.resumed.contains(&true);
    let is_busy = |end: &Conn| !end.is_sent() || end.receiving == Receiving::Resuming;
    if has_passed || waits || ends.iter().any(|end| reactor.get(*end).is_some_and(is_busy)) {
        return await_answer(reactor, id);
    }
    for end in ends {
        abort(reactor, end);
    }
}

/// One side is gone.
pub(super) fn closed<S: 'static>(
    reactor: &mut Context<S>,
    (link, side): (SourceId<Link>, usize),
    other: SourceId<Conn>,
    reason: Reason,
) {
    let in_order = matches!(reason, Reason::Finished);
    note_reason(reactor, (link, side), reason);
    match reactor.get_mut(other) {
        // It may still have much to send, and takes the time that its own limits give it.
        Some(other) if in_order && other.is_read_out() => other.shutdown(),
        Some(other) if in_order => other.close(),
        Some(other) => other.abort(),
        None => {
            reactor.resume(link, Readiness::WRITABLE);
        }
    }
}

/// Notes for the report why a side is gone.
pub(super) fn note_reason<S: 'static>(
    reactor: &mut Context<S>,
    (link, side): (SourceId<Link>, usize),
    reason: Reason,
) {
    reactor[link].reasons[side] = Some(reason);
}

pub(super) fn abort<S: 'static>(reactor: &mut Context<S>, conn: SourceId<Conn>) {
    reactor.get_mut(conn).map(Conn::abort);
}

/// Phase 1: the link was borrowed mutably, perhaps to abort or to resume it.
fn flush<S: 'static>(reactor: &mut Context<S>, id: SourceId<Link>) {
    let Some(link) = reactor.get_mut(id) else { return };
    let (ends, aborted) = (link.ends(), link.aborted);
    for (end, resumed) in ends.into_iter().zip(mem::take(&mut link.resumed)) {
        if aborted {
            abort(reactor, end);
        } else if resumed {
            reactor.get_mut(end).map(Conn::resume);
        }
    }
}

/// Takes the link out of the loop, if it has ended.
fn report<S: 'static>(reactor: &mut Context<S>, id: SourceId<Link>) -> Option<LinkReport> {
    if reactor.get(id)?.ends().iter().any(|end| reactor.contains(*end)) {
        return None;
    }
    let now = reactor.now();
    let Link { bytes: [from_a, from_b], reasons: [a, b], begun, mut ends, .. } =
        reactor.deregister(id)?;
    ends.ids = None;
    // An end that was removed has noted no reason.
    let end = |bytes: Cell<u64>, reason: Option<Reason>| LinkEnd {
        bytes: bytes.get(),
        reason: reason.unwrap_or(Reason::Aborted),
    };
    Some(LinkReport { a: end(from_a, a), b: end(from_b, b), duration: now.duration_since(begun) })
}
