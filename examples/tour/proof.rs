//! What the records of a scene show: the vocabulary of the proofs and of the tasks.
//!
//! The page may be opened in the middle of a scene. So a proof uses the records of the experiment
//! alone: who has connected, and which timers the scene began with, may be missing.

use std::collections::{BTreeMap, BTreeSet};

use waterwheel::inspect::Record;
use waterwheel::reactor::Kind;

/// An index and a generation.
pub type Id = (u32, u32);

/// The bit of a readiness by which the kernel reports bytes to read.
const READABLE: u32 = 1;
/// The bit of a readiness by which the loop reports a source's own deadline.
const DEADLINE: u32 = 64;

/// The first record that fits, from a place in the list on, and its place.
pub fn find(
    records: &[Record],
    from: usize,
    fits: impl Fn(&Record) -> bool,
) -> Option<(usize, &Record)> {
    records.iter().enumerate().skip(from).find(|(_, record)| fits(record))
}

/// The last record before a place in the list that fits, and its place.
pub fn find_back(
    records: &[Record],
    before: usize,
    fits: impl Fn(&Record) -> bool,
) -> Option<(usize, &Record)> {
    records[..before].iter().enumerate().rev().find(|(_, record)| fits(record))
}

/// The place of the record with this number.
pub fn place_of(records: &[Record], sequence: u64) -> Option<usize> {
    records.binary_search_by_key(&sequence, |record| record.sequence).ok()
}

/// Returns true if the record begins a callback of the program, hooks and flushes not counted.
pub fn runs(record: &Record) -> bool {
    matches!(
        record.kind,
        Kind::RunSource | Kind::RunTimer | Kind::RunDeferred | Kind::RunEnqueued | Kind::RunPosted
    )
}

/// Returns true if an event of a source was put into the queue.
pub fn is_queued(record: &Record) -> bool {
    matches!(record.kind, Kind::Ready | Kind::Resumed | Kind::Expired)
}

/// Returns true if a turn begins.
pub fn is_turn(record: &Record) -> bool {
    record.kind == Kind::Turn
}

/// Returns true if a callback runs because of its source's own deadline.
pub fn is_deadline(record: &Record) -> bool {
    record.kind == Kind::RunSource && record.argument & DEADLINE != 0
}

/// The place where the callback that begins at this place has returned.
pub fn end_of(records: &[Record], at: usize) -> Option<usize> {
    let run = &records[at];
    let ends = |record: &Record| record.kind == Kind::Returned && record.cause == run.sequence;
    find(records, at + 1, ends).map(|(end, _)| end)
}

/// The records that the callback at this place has caused while it ran.
pub fn caused_at(records: &[Record], at: usize) -> impl Iterator<Item = &Record> {
    let cause = records[at].sequence;
    let end = end_of(records, at).unwrap_or(records.len());
    records[at..end].iter().filter(move |record| record.cause == cause)
}

/// Returns true if the callback at this place has received bytes: somebody has said something.
pub fn is_line(records: &[Record], at: usize) -> bool {
    records[at].kind == Kind::RunSource
        && caused_at(records, at).any(|record| record.kind == Kind::Received)
}

/// The places of the callbacks that have received bytes, from a place in the list on.
pub fn lines(records: &[Record], from: usize) -> impl Iterator<Item = usize> {
    (from..records.len()).filter(|at| is_line(records, *at))
}

/// Returns true if both places are in the same turn.
pub fn is_one_turn(records: &[Record], first: usize, second: usize) -> bool {
    !records[first.min(second)..first.max(second)].iter().any(is_turn)
}

/// The place of the run of this kind, or of the end of another, that comes next.
pub fn begin_or_end(records: &[Record], at: usize) -> Option<(usize, &Record)> {
    find(records, at + 1, |record| runs(record) || record.kind == Kind::Returned)
}

/// Returns true if the kernel reports that bytes have come: a new connection is only writable.
fn is_readable(record: &Record) -> bool {
    record.kind == Kind::Ready && record.argument & READABLE != 0
}

/// Three events or more that were collected together: the places of the three callbacks, and the
/// sources in the order of the queue.
pub fn crowd(records: &[Record]) -> Option<([usize; 3], Vec<Id>)> {
    let batches = records.iter().enumerate().filter(|(_, record)| record.kind == Kind::Dispatch);
    batches.filter(|(_, batch)| batch.argument >= 3).find_map(|(at, _)| {
        let (polled, _) = find_back(records, at, |record| record.kind == Kind::Polled)?;
        let ready = records[polled..at].iter().filter(|record| is_readable(record));
        let ids: Vec<Id> = ready.filter_map(|record| record.id).collect();
        let said =
            lines(records, at).filter(|at| records[*at].id.is_some_and(|id| ids.contains(&id)));
        let mut seen = BTreeSet::new();
        let first: Vec<usize> = said.filter(|at| seen.insert(records[*at].id)).take(3).collect();
        Some((first.try_into().ok()?, ids))
    })
}

/// Calls `each` with every record of bytes, after a fold of them: how many bytes each source has
/// written and not sent. Ends when `each` returns something.
pub fn fold_unsent<T>(
    records: &[Record],
    mut each: impl FnMut(usize, Id, &BTreeMap<Id, i64>) -> Option<T>,
) -> Option<T> {
    let mut unsent = BTreeMap::new();
    records.iter().enumerate().find_map(|(at, record)| {
        let bytes = i64::from(record.argument);
        let change = match record.kind {
            Kind::Written => bytes,
            Kind::Sent => -bytes,
            _ => return None,
        };
        let id = record.id?;
        *unsent.entry(id).or_insert(0) += change;
        each(at, id, &unsent)
    })
}

/// The level of the timer wheel on which a deadline is, as the head of `timers/wheel.rs` says.
pub fn level(hand: u32, deadline: u32) -> u32 {
    let differs = (hand ^ deadline) | 1; // The same tick is on level 0.
    (31 - differs.leading_zeros()) / 6
}

/// The three timers that a callback has armed together, and the hand at that moment.
pub fn three_armed(records: &[Record]) -> impl Iterator<Item = (u32, [&Record; 3])> {
    (0..records.len()).filter(|at| runs(&records[*at])).filter_map(|at| {
        let armed = caused_at(records, at).filter(|record| record.kind == Kind::Armed);
        let armed = armed.collect::<Vec<_>>().try_into().ok()?;
        let (_, stamped) = find_back(records, at, |record| record.kind == Kind::Stamped)?;
        Some((stamped.argument, armed))
    })
}
