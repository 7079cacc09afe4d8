//! The handler of a connection, and the reasons to call it.
//!
//! Knows a connection and its events; `drive.rs` decides when it is called.
//!
//! # Read next
//! `stream.rs`: how a connection comes into the loop.

use super::conn::Conn;
use super::cork::Cork;
use super::event::{Event, Reason};
use crate::reactor::{Context, RawId, Readiness, SourceId};

/// The readiness with which a connection resumes itself to reach `settle`.
pub(super) const LOOK: Readiness = Readiness::WRITABLE;
/// A message: read first, until the kernel has no more, since an edge may have been missed. It goes
/// on after a short read, as when the peer has closed.
pub(super) const LOOK_AND_READ: Readiness = Readiness::MESSAGES[0];
/// A message: the handler has more to do with input that it left. It gets `Data` with the backlog,
/// even if that is empty.
pub(super) const NUDGE: Readiness = Readiness::MESSAGES[1];
/// A message to an end of a link: the link has gone.
pub(super) const LINK_GONE: Readiness = Readiness::MESSAGES[2];

/// A connection's handler as a struct; a closure over [`Event`] does the same.
///
/// ```no_run
/// use waterwheel::{Context, Reactor, SourceId, net::{Conn, Handler, tcp}};
///
/// struct Counter { bytes: usize }
///
/// impl Handler<()> for Counter {
///     fn data(&mut self, _: &mut Context<()>, _: &mut (), _: SourceId<Conn>, bytes: &[u8]) {
///         self.bytes += bytes.len();
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// tcp::listen(&mut reactor, "127.0.0.1:0", |reactor, _, incoming| {
///     incoming.open_with(reactor, Counter { bytes: 0 });
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[allow(unused_variables)] // The defaults ignore their arguments.
pub trait Handler<S>: 'static {
    /// [`Event::Data`].
    fn data(&mut self, reactor: &mut Context<S>, state: &mut S, conn: SourceId<Conn>, bytes: &[u8]);

    /// [`Event::Drained`].
    fn drained(&mut self, reactor: &mut Context<S>, state: &mut S, conn: SourceId<Conn>) {}

    /// [`Event::Eof`].
    fn eof(&mut self, reactor: &mut Context<S>, state: &mut S, conn: SourceId<Conn>) {}

    /// [`Event::Closed`].
    fn closed(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        conn: SourceId<Conn>,
        why: Reason,
    ) {
    }
}

/// A handler, as `drive` calls it.
pub(super) trait HandlerFn<S> {
    /// True if it gets `Eof` also for an input that was cut; [`Conn::is_cut`] says which it was.
    const EOF_AT_CUT: bool = false;

    /// Calls the handler. It may do anything, also remove its own connection.
    fn call(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        event: Event<'_>,
    );
}

impl<S, F: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>)> HandlerFn<S> for F {
    #[inline]
    fn call(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        event: Event<'_>,
    ) {
        self(reactor, state, id, event);
    }
}

/// A handler of this library: it asks [`Conn::is_cut`] how the input has ended.
pub(super) struct EofAtCut<F>(pub(super) F);

impl<S, F: HandlerFn<S>> HandlerFn<S> for EofAtCut<F> {
    const EOF_AT_CUT: bool = true;

    #[inline]
    fn call(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        id: SourceId<Conn>,
        event: Event<'_>,
    ) {
        self.0.call(reactor, state, id, event);
    }
}

/// Calls the handler with the loop's cork in place of an empty outbox.
#[inline]
pub(super) fn call<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<Conn>,
    event: Event<'_>,
    handler: &mut impl HandlerFn<S>,
) {
    let cork = Cork::lend();
    let conn = &mut reactor[id];
    if conn.outbox.is_none() {
        conn.outbox = Some(cork);
    } else {
        Cork::give_back(cork);
    }
    guarded(reactor, id, |reactor| handler.call(reactor, state, id, event));
}

/// Calls `call`, which calls a handler. If that panics, the source is called again, since no edge
/// will come for the work that was left.
#[inline(always)]
pub(super) fn guarded<S: 'static>(
    reactor: &mut Context<S>,
    id: impl Into<RawId>,
    call: impl FnOnce(&mut Context<S>),
) {
    let id = id.into();
    let call_again = |reactor: &mut Context<S>, (), returned: bool| {
        if !returned {
            reactor.send(id, Readiness::READABLE | LOOK_AND_READ);
        }
    };
    reactor.lend((), call_again, |reactor, ()| call(reactor));
}
