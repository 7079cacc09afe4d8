//! A budget of buffered bytes, which many connections share.
//!
//! Knows numbers; a connection's part of it is in `relief.rs`.
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
//! `relief.rs`: which connections are closed when it is full.

use std::cell::Cell;
use std::rc::Rc;

use super::charge::{Charge, Total};

/// Bytes that the connections of a listener may buffer together if its limits name no budget.
/// 256 MiB: 64 connections that each have a full outbox of 4 MiB.
pub(super) const LISTENER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The reaction when the budget is nearly used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Closes those that buffer most, each with a reset and
    /// [`Reason::Buffers`](super::Reason::Buffers), until a quarter of the budget is free.
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

    pub(super) fn tight_bytes(&self) -> usize {
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

    /// Returns true if connections may be closed in this turn.
    pub(super) fn may_close(&self, turn: u64) -> bool {
        self.0.when_full.get() == WhenFull::CloseLargest && turn >= self.0.look_at.get()
    }

    /// Counts connections that were closed. The next search is at `look_at`.
    pub(super) fn note_closed(&self, count: u64, look_at: u64) {
        self.0.look_at.set(look_at);
        self.0.closed.set(self.0.closed.get() + count);
    }
}

/// The bytes that one connection holds beside outbox and backlog.
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
