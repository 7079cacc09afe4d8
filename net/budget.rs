//! A budget of buffered bytes, which many connections share.
//!
//! Knows connections and their buffers; never mentions a protocol.
//!
//! Each connection has limits of its own. A thousand of them whose peers never read use a thousand
//! times those limits. So all of them together have a budget, and it is used up in three steps:
//!
//! ```text
//!   0 ─────────── half ──────── 3/4: tight ─────── 7/8: full ──────── bytes_max
//!                   │              │                  │                 │
//!        reading goes on    writes return      the largest are    writes are refused
//!        again              AboveHigh; peers   closed, down to
//!                           that do not read   3/4
//!                           are not read
//! ```
//!
//! A peer that reads leaves nothing unsent when a callback ends, so this does not affect it: a
//! write of 16 KiB to a connection with nothing unsent is always taken; the next flush sends it.
//!
//! The memory of the buffers counts, not only the bytes in them: the outbox and the backlog of each
//! connection, the buffers of its TLS, a body that HTTP collects, a message that a WebSocket puts
//! together.
//!
//! # Memory after a crowd has gone
//! Every buffer goes back to the allocator. The allocator decides if the system gets the memory
//! back: glibc gives it back from the top of its heap only, and after large blocks were freed it
//! keeps blocks of that size there (mallopt(3), `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD`). So up
//! to about the budget may stay resident, and is used again: `echo`, whose budget is 16 MiB, has
//! 2 MB resident at first, 18 MB with 1,000 clients that read nothing, 14 to 18 MB when they have
//! gone, and 18 MB with the next 1,000. A smaller budget keeps this small.
//!
//! # Left out
//! Bytes that the program itself holds for a connection, in its state or in a closure. Bytes that
//! the kernel holds: see `Listen::send_buffer_bytes` and `receive_buffer_bytes`.
//!
//! # Read next
//! `deadline.rs`: the limits on a connection's time.

use std::cell::Cell;
use std::rc::Rc;

use super::conn::{Conn, mark};
use super::drive::LOOK_AND_READ;
use super::event::Reason;
use crate::reactor::{Charge, Context, SourceId, Total};

/// Bytes that the connections of a listener may buffer together if its limits name no budget.
/// 256 MiB: 64 connections that each have a full outbox of 4 MiB.
pub(super) const LISTENER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Turns until a connection that was closed from outside its callback has got `Closed`, and its
/// handler is dropped with everything in it.
const TURNS_TO_GO: u64 = 3;
/// Unused capacity of an outbox that is not worth giving back.
const SLACK_BYTES: usize = 16 * 1024;

/// The reaction when the budget is nearly used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Closes those that buffer most, each with a reset and [`Reason::Buffers`], until a quarter of
    /// the budget is free.
    #[default]
    CloseLargest,
    /// Closes no connection. Writes are refused until other peers have read; set
    /// [`Limits::write_timeout`](super::Limits::write_timeout), since they may never do so.
    Refuse,
}

/// A limit on the bytes that connections buffer together. Clones share it: in the
/// [`Limits`](super::Limits) of a listener it is that of all its connections.
///
/// ```
/// use waterwheel::Reactor;
/// use waterwheel::net::{BufferBudget, Limits, tcp};
///
/// let mut reactor = Reactor::<()>::new()?;
/// let budget = BufferBudget::new(16 * 1024 * 1024);
/// let limits = Limits { buffers: Some(budget.clone()), ..Limits::default() };
/// tcp::Listen::new().limits(limits).open(&mut reactor, "127.0.0.1:0", |_, _, incoming| {
///     drop(incoming);
/// })?;
/// assert_eq!((budget.bytes(), budget.bytes_max()), (0, 16 * 1024 * 1024));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BufferBudget(Rc<Account>);

#[derive(Debug)]
struct Account {
    bytes_max: usize,
    when_full: Cell<WhenFull>,
    total: Total,
    closed: Cell<u64>,
    /// The turn from which the search for the largest is allowed again: by then the protocols have
    /// freed the bytes that they hold for the connections closed last.
    look_at: Cell<u64>,
}

/// The same budget, not an equal one.
impl PartialEq for BufferBudget {
    fn eq(&self, other: &BufferBudget) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for BufferBudget {}

impl BufferBudget {
    /// So many bytes for all that share it. `usize::MAX` is no limit.
    pub fn new(bytes_max: usize) -> BufferBudget {
        BufferBudget(Rc::new(Account {
            bytes_max,
            when_full: Cell::default(),
            total: Total::new(bytes_max / 2),
            closed: Cell::new(0),
            look_at: Cell::new(0),
        }))
    }

    /// Sets the reaction when it is nearly used up, for all that share it. Default: `CloseLargest`.
    pub fn when_full(self, what: WhenFull) -> BufferBudget {
        self.0.when_full.set(what);
        self
    }

    /// Bytes that are buffered now.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.0.total.bytes()
    }

    /// The most bytes that may be buffered.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// Connections that were closed because it was full.
    pub fn closed(&self) -> u64 {
        self.0.closed.get()
    }

    /// Returns true if `count` more bytes fit.
    #[inline]
    pub(super) fn has_room(&self, count: usize) -> bool {
        self.bytes().saturating_add(count) <= self.0.bytes_max
    }

    /// Returns true if less than a quarter is left.
    #[inline]
    pub(super) fn is_tight(&self) -> bool {
        self.bytes() >= self.tight_bytes()
    }

    fn tight_bytes(&self) -> usize {
        self.0.bytes_max - self.0.bytes_max / 4
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.bytes() > self.0.bytes_max - self.0.bytes_max / 8
    }

    /// The total that charges are added to.
    pub(super) fn total(&self) -> &Total {
        &self.0.total
    }
}

/// A connection's side of it.
impl Conn {
    /// Counts the outbox and the backlog at their present size.
    #[inline]
    pub(super) fn account(&mut self) {
        if self.seat.buffers.is_some() {
            self.account_for();
        }
    }

    #[cold]
    fn account_for(&mut self) {
        let Some(budget) = &self.seat.buffers else { return };
        let inner = self.io.buffered_bytes();
        if let Some(outbox) = &mut self.outbox
            && !outbox.lent
        {
            outbox.charge.set(budget.total(), outbox.bytes.capacity());
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.charge.set(budget.total(), backlog.bytes.capacity());
        }
        self.seat.charge_transport(inner);
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
        self.seat.charge_protocol(bytes);
    }

    /// Bytes that are counted for it.
    fn charged(&self) -> usize {
        let outbox = self.outbox.as_ref().map_or(0, |outbox| outbox.charge.bytes());
        let backlog = self.backlog.as_ref().map_or(0, |backlog| backlog.charge.bytes());
        outbox + backlog + self.seat.charged()
    }

    /// Returns true if it is not to be read now: the budget is tight, and its own peer has not
    /// taken all the bytes for it.
    #[inline]
    pub(super) fn waits_for_budget(&self) -> bool {
        self.unsent() > 0
            && self.seat.buffers.as_ref().is_some_and(BufferBudget::is_tight)
            && !self.has(mark::CLOSING | mark::LAST_WORDS)
    }
}

/// Calls the connection again, to be read, when the budget has room again.
#[cold]
pub(super) fn await_budget<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    let resumer = reactor.resumer();
    if let Some(budget) = reactor.get(id).and_then(|conn| conn.seat.buffers.as_ref()) {
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
    let budget = reactor.get(id).and_then(|conn| conn.seat.buffers.as_ref());
    let Some(budget) = budget.filter(|budget| budget.total().has_waiting()).cloned() else {
        return false;
    };
    let resumer = reactor.resumer();
    budget.total().forget(&resumer, id.raw())
}

/// Closes the largest if the budget of this connection is full. Called where one has grown.
#[inline]
pub(super) fn relieve<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    let budget = reactor.get(id).and_then(|conn| conn.seat.buffers.as_ref());
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
    let full = conn.seat.buffers.as_ref().filter(|budget| budget.is_full()).cloned();
    full.is_none_or(|budget| {
        let has_room = budget.has_room(0);
        reactor.defer(move |reactor, _| close_largest(reactor, &budget));
        has_room
    })
}

/// O(sources), and O(n log n) in those that share the budget, once in a few turns; each time frees
/// an eighth of it, if there is so much to free.
#[cold]
fn close_largest<S: 'static>(reactor: &mut Context<S>, budget: &BufferBudget) {
    let account = &*budget.0;
    let turn = reactor.statistics().turns;
    if account.when_full.get() == WhenFull::Refuse || turn < account.look_at.get() {
        return;
    }
    let shares = |conn: &Conn| conn.seat.buffers.as_ref() == Some(budget) && !conn.has_failed();
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
    account.look_at.set(if goes_later > 0 { turn + TURNS_TO_GO } else { 0 });
    account.closed.set(account.closed.get() + closed);
    log::info!(
        "{} of {} buffered bytes: closed the {closed} that had most",
        budget.bytes(),
        account.bytes_max
    );
}

/// The bytes that a seat's owner holds beside outbox and backlog.
#[derive(Debug, Default)]
pub(super) struct Beside {
    charge: Charge,
    transport: usize,
    protocol: usize,
}

impl Beside {
    pub(super) fn set(&mut self, budget: &BufferBudget, transport: usize, protocol: usize) {
        (self.transport, self.protocol) = (transport, protocol);
        self.charge.set(budget.total(), transport + protocol);
    }

    pub(super) fn parts(&self) -> (usize, usize) {
        (self.transport, self.protocol)
    }

    pub(super) fn bytes(&self) -> usize {
        self.charge.bytes()
    }
}
