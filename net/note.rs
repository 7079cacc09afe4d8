//! Notes: records of the bytes that a program has written.
//!
//! Knows the outbox; only for a loop with an observer, so that without one a write costs no more.

use super::conn::Conn;
use super::event::Pressure;
use crate::reactor::{Context, Kind, SourceId};

/// Writes, and records what was taken and how much of it left at once.
#[cold]
pub(super) fn write_observed<S: 'static>(
    reactor: &mut Context<S>,
    id: SourceId<Conn>,
    bytes: &[u8],
) -> Pressure {
    let Some(conn) = reactor.get_mut(id) else { return Pressure::Closed };
    let before = conn.unsent();
    let pressure = conn.write(bytes);
    let after = conn.unsent();
    if matches!(pressure, Pressure::Below | Pressure::AboveHigh) {
        reactor.note_bytes(id.raw(), Kind::Written, bytes.len());
        reactor.note_bytes(id.raw(), Kind::Sent, (before + bytes.len()).saturating_sub(after));
    }
    pressure
}
