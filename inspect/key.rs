//! Keyframes: a snapshot of the loop as JSON, with places and names as numbers.
//!
//! Knows snapshots; never touches the loop. A page begins with one, and folds records over it.

use serde_json::{Value, json};

use super::tables::Numbers;
use super::wire::UNIT;
use crate::Context;
use crate::reactor::{Snapshot, Waiting};

/// Sources and timers that a keyframe has; of the others it has the number. 4,096 of each are some
/// 300 KB.
pub const SHOWN_MAX: usize = 4096;
/// Entries of each lane, and deferred callbacks, that a keyframe has; and the number of all of them.
pub const QUEUED_MAX: usize = 4096;
/// Reasons why the loop is alive that a keyframe has.
const REASONS_MAX: usize = 20;

/// The state of a loop at this moment.
pub fn frame<S: 'static>(session: u64, context: &Context<S>, numbers: &mut Numbers) -> Value {
    let snapshot = context.snapshot();
    let Snapshot { sequence, sources, timers, lanes, batch, deferred } = &snapshot;
    let shown = sources.iter().take(SHOWN_MAX).map(|source| {
        let (index, generation) = source.id.parts();
        let (name, place) = (numbers.of_name(source.what), numbers.of_place(source.place));
        let lane = source.lane as u8;
        json!([index, generation, name, place, lane, source.pending, source.deadline, source.holds])
    });
    let sources_shown: Vec<Value> = shown.collect();
    let shown = timers.iter().take(SHOWN_MAX).map(|timer| {
        let (index, generation) = timer.id.parts();
        let place = numbers.of_place(timer.place);
        json!([index, generation, timer.deadline, place, timer.holds, timer.expired])
    });
    let timers_shown: Vec<Value> = shown.collect();
    let totals = json!({
        "sources": sources.len(),
        "timers": timers.len(),
        "lanes": lanes.each_ref().map(Vec::len),
        "deferred": deferred.len(),
    });
    let lanes = lanes.each_ref().map(|lane| {
        lane.iter().take(QUEUED_MAX).map(|entry| chip(entry, numbers)).collect::<Vec<_>>()
    });
    let deferred: Vec<u16> =
        deferred.iter().take(QUEUED_MAX).map(|place| numbers.of_place(*place)).collect();
    let why = context.why_alive().into_iter().take(REASONS_MAX);
    let now = context.stamp();
    json!({
        "session": session,
        "sequence": sequence,
        "units": now.nanos() / UNIT,
        "turn": context.statistics().turns,
        "tick": context.tick().count(),
        "hand": context.hand(),
        "sources": sources_shown,
        "timers": timers_shown,
        "lanes": lanes,
        "batch": batch,
        "deferred": deferred,
        "why": why.map(|reason| reason.to_string()).collect::<Vec<_>>(),
        "totals": totals,
    })
}

fn chip(entry: &Waiting, numbers: &mut Numbers) -> Value {
    let id = |tag: &str, (index, generation): (u32, u32)| json!([tag, index, generation]);
    match entry {
        Waiting::Source(of) => id("s", of.parts()),
        Waiting::Timer(of) => id("t", of.parts()),
        Waiting::Deadline(of) => id("d", of.parts()),
        Waiting::Enqueued(place) => json!(["e", numbers.of_place(*place)]),
        Waiting::Posted(place) => json!(["p", numbers.of_place(*place)]),
    }
}
