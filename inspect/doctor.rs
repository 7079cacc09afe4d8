//! The doctor: what a loop suffers from, found in its records, each with its cause and advice.
//!
//! Knows packed records; runs on the page's thread, so it also sees a callback that does not end. Its
//! own state is bounded: it forgets the oldest.
//!
//! | it finds | in the records |
//! |---|---|
//! | a slow callback | a `Returned` of [`SLOW`] and more; and what waited in the queue meanwhile |
//! | an event that waited long | [`WAITED`] and more from its `Ready` or `Expired` to its callback |
//! | a callback that does not end | one that has begun [`STUCK`] ago |
//! | a defer storm | as many `RunDeferred` in a turn as a turn runs at most |
//! | timers that pile up | [`TIMERS_ALIKE_MAX`] repeating timers of one place |
//! | a source that calls itself | [`RESUMED_TURNS_MAX`] turns, each with a `Resumed` of it |
//! | a listener that cannot accept | a `Failed` |
//! | a peer that does not read | bytes written and not sent, above the mark for [`ABOVE_MARK`] |
//! | a source that is not drained | none: the kernel shows it, and on Linux alone (`unread.rs`) |

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Value, json};

use super::ring::{Packed, begins};
use super::tables::Tables;
use super::unread::Undrained;
use crate::net::Limits;
use crate::reactor::{DEFERRED_PER_TURN, Kind};

/// A callback that takes so long delays everybody noticeably.
pub const SLOW: Duration = Duration::from_millis(50);
/// An event that has waited in the queue for so long was starved.
pub const WAITED: Duration = Duration::from_millis(100);
/// A callback that has not returned after so long is named while it runs.
pub const STUCK: Duration = Duration::from_secs(1);
/// Repeating timers of one place, of which more look like a leak.
pub const TIMERS_ALIKE_MAX: usize = 10;
/// Turns in a row in which a source asks to be called again.
pub const RESUMED_TURNS_MAX: u32 = 1000;
/// How long a peer may leave more unread than the high-water mark.
pub const ABOVE_MARK: Duration = Duration::from_secs(1);
/// Findings that are kept.
const FINDINGS_MAX: usize = 20;
/// Sources and timers whose history is kept.
const KNOWN_MAX: usize = 16_384;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    what: String,
    cause: String,
    advice: &'static str,
    place: u16,
    /// How often.
    times: u64,
}

type Id = (u32, u32);

#[derive(Default)]
pub struct Doctor {
    findings: Vec<Finding>,
    changed: bool,
    /// The places of the callbacks on the stack.
    running: Vec<u16>,
    deferred_in_turn: usize,
    queued: i64,
    /// The place of each repeating timer, and how many there are at each place.
    repeating: BTreeMap<Id, u16>,
    alike: HashMap<u16, usize>,
    /// How many turns in a row each source has been resumed, and the last of them.
    resumed: HashMap<Id, (u64, u32)>,
    /// When each source or timer in the queue came into it, in nanoseconds.
    waiting: HashMap<(u8, Id), u64>,
    /// The longest callback since the queue was empty last, in microseconds, and its place.
    longest: (u32, u16),
    /// What is written and not sent, and since when it is above the mark, in nanoseconds.
    unsent: HashMap<Id, (i64, Option<u64>)>,
    turn: u64,
}

impl Doctor {
    pub fn see(&mut self, record: &Packed) {
        let Some(kind) = Kind::ALL.get(usize::from(record.kind)) else { return };
        let id = (record.index, record.generation);
        match kind {
            Kind::Turn => {
                self.running.clear();
                self.deferred_in_turn = 0;
                self.turn += 1;
            }
            Kind::Ready | Kind::Expired => {
                self.queued += 1;
                self.see_waiting(id, record);
            }
            Kind::Collected | Kind::Enqueued => self.queued += 1,
            Kind::Polled => self.longest = (0, 0),
            Kind::Failed => self.see_failed(record),
            Kind::Resumed => self.see_resumed(id, record),
            Kind::Stale => self.queued -= i64::from(record.argument),
            Kind::Returned => self.see_end(record),
            Kind::Rearmed if record.subject == 2 && self.running.is_empty() => {
                self.see_repeating(id, record);
            }
            Kind::Cancelled if record.subject == 2 => {
                let place = self.repeating.remove(&id);
                self.forget_repeating(place);
            }
            Kind::Deregistered => {
                self.resumed.remove(&id);
                self.unsent.remove(&id);
            }
            Kind::Written => self.see_bytes(id, record, i64::from(record.argument)),
            Kind::Sent => self.see_bytes(id, record, -i64::from(record.argument)),
            kind if begins(*kind) => self.see_begin(*kind, record),
            _ => {}
        }
    }

    fn see_begin(&mut self, kind: Kind, record: &Packed) {
        self.running.push(record.place);
        match kind {
            Kind::RunDeferred => {
                self.deferred_in_turn += 1;
                if self.deferred_in_turn == DEFERRED_PER_TURN {
                    self.find(
                        "A defer storm",
                        format!("{DEFERRED_PER_TURN} deferred callbacks ran in one turn."),
                        "Use enqueue for work that goes on and on: it waits for the next turn (R2).",
                        record.place,
                    );
                }
            }
            Kind::RunHook | Kind::RunNested | Kind::Flushed => {}
            _ => {
                self.queued -= 1;
                self.see_served(record);
            }
        }
    }

    fn see_waiting(&mut self, id: Id, record: &Packed) {
        if self.waiting.len() > KNOWN_MAX {
            self.waiting.clear();
        }
        // The deadline of a source waits apart from its readiness, but runs as the source.
        let kind = if record.subject == 3 { 1 } else { record.subject };
        self.waiting.entry((kind, id)).or_insert(record.nanos);
    }

    fn see_served(&mut self, record: &Packed) {
        let key = (record.subject, (record.index, record.generation));
        let Some(since) = self.waiting.remove(&key) else { return };
        let waited = Duration::from_nanos(record.nanos.saturating_sub(since));
        if waited >= WAITED && self.longest.0 > 0 {
            let took = Duration::from_micros(self.longest.0.into()).as_millis();
            let cause = format!(
                "It waited {} ms in the queue; the longest callback before it took {took} ms.",
                waited.as_millis()
            );
            let advice = "It is not this callback that is slow, but those before it.";
            self.find("An event has waited long", cause, advice, record.place);
        }
    }

    fn see_failed(&mut self, record: &Packed) {
        let error = std::io::Error::from_raw_os_error(record.argument.cast_signed());
        let cause = format!("The system says: {error}.");
        let advice = "Raise the limit on open files (ulimit -n), or close what is idle.";
        self.find("A listener cannot accept", cause, advice, record.place);
    }

    fn see_end(&mut self, record: &Packed) {
        let Some(place) = self.running.pop() else { return };
        self.longest = self.longest.max((record.argument, place));
        let took = Duration::from_micros(record.argument.into());
        if took >= SLOW {
            let waited = match self.queued.max(0) {
                0 => "Nothing waited behind it.".to_owned(),
                1 => "One event waited behind it.".to_owned(),
                many => format!("{many} events waited behind it."),
            };
            let cause = format!("It took {} ms. {waited}", took.as_millis());
            let advice = "Do the work in pieces, each enqueued, or offload it to a worker.";
            self.find("A slow callback", cause, advice, place);
        }
    }

    fn see_repeating(&mut self, id: Id, record: &Packed) {
        if self.repeating.insert(id, record.place).is_some() {
            return;
        }
        if self.repeating.len() > KNOWN_MAX {
            let place = self.repeating.pop_first().map(|(_, place)| place);
            self.forget_repeating(place);
        }
        let alike = self.alike.entry(record.place).or_default();
        *alike += 1;
        if *alike >= TIMERS_ALIKE_MAX {
            let alike = *alike;
            self.find(
                "Timers pile up",
                format!("{alike} repeating timers were armed at this line, and are alive."),
                "Keep the id that `every` returns, and cancel the timer when its time is over.",
                record.place,
            );
        }
    }

    fn forget_repeating(&mut self, place: Option<u16>) {
        if let Some(alike) = place.and_then(|place| self.alike.get_mut(&place)) {
            *alike = alike.saturating_sub(1);
        }
    }

    fn see_resumed(&mut self, id: Id, record: &Packed) {
        self.queued += 1;
        if self.resumed.len() > KNOWN_MAX {
            self.resumed.clear();
        }
        let (last, turns) = self.resumed.entry(id).or_default();
        *turns = if self.turn <= *last + 1 { *turns + u32::from(self.turn > *last) } else { 1 };
        *last = self.turn;
        if *turns == RESUMED_TURNS_MAX {
            self.find(
                "A source calls itself",
                format!("It asked to be called again in {RESUMED_TURNS_MAX} turns in a row."),
                "The loop does not sleep meanwhile. Resume only while there is work left.",
                record.place,
            );
        }
    }

    fn see_bytes(&mut self, id: Id, record: &Packed, change: i64) {
        if self.unsent.len() > KNOWN_MAX {
            self.unsent.clear();
        }
        let (unsent, since) = self.unsent.entry(id).or_default();
        *unsent = (*unsent + change).max(0);
        if *unsent <= Limits::default().outbox_bytes_high as i64 {
            *since = None;
            return;
        }
        let long = record.nanos.saturating_sub(*since.get_or_insert(record.nanos));
        if Duration::from_nanos(long) >= ABOVE_MARK {
            *since = Some(record.nanos);
            let cause = format!("{} KiB wait for it, and more are written.", *unsent / 1024);
            let advice = "Stop writing when a write returns AboveHigh, and go on at Drained.";
            self.find("A peer does not read", cause, advice, record.place);
        }
    }

    /// A callback has been running for so long.
    pub fn see_stuck(&mut self, place: u16, long: Duration) {
        if long >= STUCK {
            let cause = format!("It has been running for {} s.", long.as_secs());
            let advice =
                "Nothing else runs until it returns. Do the work in pieces, or offload it.";
            self.find("A callback does not end", cause, advice, place);
        }
    }

    /// A source has left input unread.
    pub fn see_undrained(&mut self, source: &Undrained) {
        self.find("A source is not drained", source.cause(), Undrained::ADVICE, source.place);
    }

    fn find(&mut self, what: &str, cause: String, advice: &'static str, place: u16) {
        self.changed = true;
        let same = |known: &&mut Finding| known.what == what && known.place == place;
        if let Some(known) = self.findings.iter_mut().find(same) {
            (known.cause, known.times) = (cause, known.times + 1);
            return;
        }
        if self.findings.len() == FINDINGS_MAX {
            self.findings.remove(0);
        }
        let what = what.to_owned();
        self.findings.push(Finding { what, cause, advice, place, times: 1 });
    }

    /// The findings as the page gets them, if there is something new.
    pub fn news(&mut self, tables: &Tables) -> Option<Value> {
        std::mem::take(&mut self.changed).then(|| {
            let findings = self.findings.iter().map(|finding| {
                let (file, line) = tables.places[usize::from(finding.place)];
                json!({
                    "what": finding.what,
                    "cause": finding.cause,
                    "advice": finding.advice,
                    "place": finding.place,
                    "at": format!("{file}:{line}"),
                    "times": finding.times,
                })
            });
            json!({ "findings": findings.collect::<Vec<_>>() })
        })
    }
}

#[cfg(test)]
mod tests;
