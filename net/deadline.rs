//! The limits on a connection's time, all on the one deadline of its source.
//!
//! # Read next
//! `limits.rs`: all limits, and their defaults.

use super::conn::Conn;
use super::event::Reason;
use super::states::{Receiving, fact};
use super::throttle::LOOK_AGAIN;
use crate::reactor::{Context, SourceId};
use crate::timers::Tick;

/// Returns true if a limit may be up before the armed deadline. Traffic only makes limits later,
/// but a write timeout begins when bytes begin to wait. `sent` is true if all is sent.
#[inline]
pub(super) fn needs_arming(conn: &Conn, sent: bool) -> bool {
    !conn.has(fact::ARMED) || !sent && conn.group.write_timeout.is_some()
}

/// Arms the source's deadline for the first limit that can be up. Traffic makes limits later, but
/// does not arm the deadline again. So the deadline may come too early. The limits are checked
/// then, and the deadline is armed for the rest of the time.
pub(super) fn arm<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    let now = reactor.stamp();
    let Some(conn) = reactor.get_mut(id) else { return };
    if conn.last_traffic.is_none() && conn.group.notes_traffic() {
        conn.last_traffic = Some(now); // No limit needed it before.
        conn.progress = Some(now);
    }
    let armed = conn.has(fact::ARMED);
    conn.facts |= fact::ARMED;
    if let Some(up) = Limit::ALL.iter().filter_map(|limit| limit.up(conn)).min() {
        let (reads_at, writes_at) = conn.throttled_until();
        let up = if reads_at.or(writes_at).is_some() { up.min(now.after(LOOK_AGAIN)) } else { up };
        if armed && up <= now.tick() {
            return; // It is due in this turn. Armed again, it would come in the next (R3).
        }
        reactor.set_deadline(id, Some(up));
    }
}

/// The limits on time.
#[derive(Clone, Copy)]
enum Limit {
    Grace,
    Idle,
    Read,
    Write,
    /// Not limits on time, but on the bytes that may pass until then.
    ReadRate,
    WriteRate,
}

impl Limit {
    const ALL: [Limit; 6] =
        [Limit::Grace, Limit::Idle, Limit::Read, Limit::Write, Limit::ReadRate, Limit::WriteRate];

    /// The tick at which it is up, if it applies now.
    fn up(self, conn: &Conn) -> Option<Tick> {
        let limits = &*conn.group;
        let (closed, sending) = (conn.was_closed(), !conn.is_sent());
        let (reads_at, writes_at) = conn.throttled_until();
        match self {
            Limit::Grace => Some(conn.lingers_since()?.after(conn.close_grace())),
            Limit::Idle if !closed && reads_at.or(writes_at).is_none() => {
                Some(conn.last_traffic?.after(limits.idle_timeout?))
            }
            Limit::Read if !closed && conn.receiving == Receiving::Open => {
                Some(conn.progress?.after(limits.read_timeout?))
            }
            Limit::Write if sending && writes_at.is_none() => {
                Some(conn.outbox.as_ref()?.since?.after(limits.write_timeout?))
            }
            Limit::ReadRate if conn.receiving == Receiving::Throttled => reads_at,
            Limit::WriteRate if sending => writes_at,
            _ => None,
        }
    }
}

/// Ends the connection if one of its limits is up.
pub(super) fn check_deadlines<S: 'static>(reactor: &mut Context<S>, id: SourceId<Conn>) {
    let tick = reactor.tick();
    let Some(conn) = reactor.get_mut(id) else { return };
    conn.facts &= !fact::ARMED;
    let up = Limit::ALL.into_iter().find(|limit| limit.up(conn).is_some_and(|up| up <= tick));
    match up {
        Some(Limit::Grace) => end_grace(conn),
        Some(Limit::Idle) => time_out(conn, Reason::IdleTimeout),
        Some(Limit::Read) => time_out(conn, Reason::ReadTimeout),
        Some(Limit::Write) => time_out(conn, Reason::WriteTimeout),
        // `receive` has asked the read rate already; `settle` asks the write rate.
        Some(Limit::ReadRate | Limit::WriteRate) | None => {}
    }
}

/// The grace of a close is over.
fn end_grace(conn: &mut Conn) {
    if !conn.is_sent() {
        conn.io.transport().reset_on_drop();
        conn.end_with(Reason::Grace);
    }
    conn.fail(Reason::Finished); // Unless a reason was noted before.
}

/// Ends the connection by a reset. A FIN would make an incomplete answer look complete.
fn time_out(conn: &mut Conn, reason: Reason) {
    conn.io.transport().reset_on_drop();
    conn.fail(reason);
}
