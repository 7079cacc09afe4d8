//! A connection's part of the shared budget: its bytes are counted, it waits, it is closed.
//!
//! Knows connections and their buffers; never mentions a protocol.
//!
//! # Read next
//! `deadline.rs`: the limits on a connection's time.

use super::budget::BufferBudget;
use super::conn::Conn;
use super::event::Reason;
use super::handler::LOOK_AND_READ;
use crate::reactor::{Context, SourceId};

/// Turns until a connection that was closed from outside its callback has got `Closed`, and its
/// handler is dropped with everything in it.
const TURNS_TO_GO: u64 = 3;
/// An outbox keeps so much unused capacity: less is not worth giving back.
const SLACK_BYTES: usize = 16 * 1024;

impl Conn {
    /// Counts the outbox and the backlog at their present size.
    #[inline]
    pub(super) fn account(&mut self) {
        if self.group.buffers.is_some() {
            self.account_for();
        }
    }

    #[cold]
    fn account_for(&mut self) {
        let Some(budget) = &self.group.buffers else { return };
        let inner = self.io.buffered_bytes();
        if let Some(outbox) = &mut self.outbox
            && !outbox.lent
        {
            outbox.charge.set(budget.total(), outbox.bytes.capacity());
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.charge.set(budget.total(), backlog.bytes.capacity());
        }
        self.group.charge_transport(inner);
    }

    /// The outbox, lent by the loop for one callback, stays with the connection: it is shrunk to
    /// the memory that it needs, and counted.
    #[cold]
    pub(super) fn keep_outbox(&mut self) {
        if let Some(outbox) = &mut self.outbox {
            outbox.lent = false;
            if outbox.bytes.capacity() > 2 * outbox.bytes.len() + SLACK_BYTES {
                outbox.bytes.shrink_to_fit();
            }
        }
        self.account();
    }

    /// Counts the bytes that a protocol holds for this connection, in place of the number before.
    pub fn charge(&mut self, bytes: usize) {
        self.group.charge_protocol(bytes);
    }

    /// Bytes that are counted for it.
    fn charged(&self) -> usize {
        let outbox = self.outbox.as_ref().map_or(0, |outbox| outbox.charge.bytes());
        let backlog = self.backlog.as_ref().map_or(0, |backlog| backlog.charge.bytes());
        outbox + backlog + self.group.charged()
    }

    /// Returns true if it is not to be read now: the budget is tight, and its own peer has not
    /// taken all the bytes for it.
    #[inline]
    pub(super) fn waits_for_budget(&self) -> bool {
        self.unsent() > 0
            && self.group.buffers.as_ref().is_some_and(BufferBudget::is_tight)
            && !self.was_closed()
            && !self.sending.has_failed()
    }
}

/// Calls the connection again, to be read, when the budget has room again.
#[cold]
pub(super) fn await_budget<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    let resumer = reactor.resumer();
    if let Some(budget) = reactor.get(id).and_then(|conn| conn.group.buffers.as_ref()) {
        budget.total().wait(&resumer, id.raw(), LOOK_AND_READ);
    }
}

/// The connection has sent all: if it waited for budget, reading goes on.
#[inline]
pub(super) fn go_on<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    if forget_budget(reactor, id) {
        reactor.send(id, LOOK_AND_READ);
    }
}

/// Ends the connection's wait for budget. Returns true if it waited. A connection that ends must
/// leave the list of those that wait, or the list would grow as long as the budget is tight.
#[inline]
pub(super) fn forget_budget<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) -> bool {
    let budget = reactor.get(id).and_then(|conn| conn.group.buffers.as_ref());
    let Some(budget) = budget.filter(|budget| budget.total().has_waiting()).cloned() else {
        return false;
    };
    let resumer = reactor.resumer();
    budget.total().forget(&resumer, id.raw())
}

/// Closes the largest if the budget of this connection is full. Called where one has grown.
#[inline]
pub(super) fn relieve<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    let budget = reactor.get(id).and_then(|conn| conn.group.buffers.as_ref());
    if budget.is_some_and(BufferBudget::is_full)
        && let Some(budget) = budget.cloned()
    {
        close_largest(reactor, &budget);
    }
}

/// Counts the bytes that a protocol holds for a connection, in place of the number before, and
/// closes the largest right after this callback if the budget is full. Returns false if there is no
/// room for more.
#[track_caller]
pub(super) fn charge<S: 'static>(
    reactor: &mut Context<S>,
    id: SourceId<Conn>,
    bytes: usize,
) -> bool {
    let Some(conn) = reactor.get_mut(id) else { return true };
    conn.charge(bytes);
    let full = conn.group.buffers.as_ref().filter(|budget| budget.is_full()).cloned();
    full.is_none_or(|budget| {
        let has_room = budget.has_room(0);
        reactor.defer(move |reactor, _| close_largest(reactor, &budget));
        has_room
    })
}

/// Closes the largest connections that share the budget, once in a few turns. Each time it frees an
/// eighth of the budget, if it can. O(sources), and O(n log n) in those that share the budget.
#[cold]
fn close_largest<S: 'static>(reactor: &mut Context<S>, budget: &BufferBudget) {
    let turn = reactor.statistics().turns;
    if !budget.may_close(turn) {
        return;
    }
    let shares = |conn: &Conn| conn.group.buffers.as_ref() == Some(budget) && !conn.has_failed();
    let mut all: Vec<(usize, SourceId<Conn>)> = (reactor.ids::<Conn>().into_iter())
        .filter_map(|id| Some((reactor.get(id).filter(|conn| shares(conn))?.charged(), id)))
        .filter(|(charged, _)| *charged > 0)
        .collect();
    all.sort_unstable_by_key(|(charged, _)| std::cmp::Reverse(*charged));
    let target = budget.tight_bytes();
    let (mut left, mut closed, mut goes_later) = (budget.bytes(), 0, 0);
    for (charged, id) in all {
        if left <= target {
            break;
        }
        if let Some(conn) = reactor.get_mut(id) {
            conn.io.transport().reset_on_drop();
            conn.fail(Reason::Buffers);
            conn.backlog = None;
            left = left.saturating_sub(charged);
            goes_later += conn.charged(); // A protocol frees its bytes at `Closed`.
            closed += 1;
        }
    }
    budget.note_closed(closed, if goes_later > 0 { turn + TURNS_TO_GO } else { 0 });
    log::info!(
        "{} of {} buffered bytes: closed the {closed} that had most",
        budget.bytes(),
        budget.bytes_max()
    );
}
