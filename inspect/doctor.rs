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
    /// The place of each repeating timer.
    repeating: BTreeMap<Id, u16>,
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
            Kind::Cancelled => drop(self.repeating.remove(&id)),
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
            self.repeating.pop_first();
        }
        let alike = self.repeating.values().filter(|place| **place == record.place).count();
        if alike >= TIMERS_ALIKE_MAX {
            self.find(
                "Timers pile up",
                format!("{alike} repeating timers were armed at this line, and are alive."),
                "Keep the id that `every` returns, and cancel the timer when its time is over.",
                record.place,
            );
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
mod tests {
    use super::super::tables::SharedTables;
    use super::*;

    fn record(kind: Kind, argument: u32) -> Packed {
        let kind = Kind::ALL.iter().position(|known| *known == kind).expect("a kind") as u8;
        Packed { kind, argument, subject: 1, index: 3, ..Packed::default() }
    }

    fn found(records: impl IntoIterator<Item = Packed>) -> Vec<String> {
        let mut doctor = Doctor::default();
        records.into_iter().for_each(|record| doctor.see(&record));
        let news = doctor.news(&SharedTables::new().lock());
        assert_eq!(doctor.news(&SharedTables::new().lock()), None, "it is told once");
        let findings = news.map(|news| news["findings"].as_array().cloned().unwrap_or_default());
        let text = |finding: &Value| format!("{} {}", finding["what"], finding["cause"]);
        findings.unwrap_or_default().iter().map(text).collect()
    }

    fn callback(micros: u32) -> [Packed; 2] {
        [record(Kind::RunSource, 1), record(Kind::Returned, micros)]
    }

    #[test]
    fn slow_callback_is_found_with_what_waited_behind_it() {
        assert!(found(callback(49_999)).is_empty());
        let ready = [1, 2, 3].map(|_| record(Kind::Ready, 1));
        let found = found(ready.into_iter().chain(callback(50_000)).chain(callback(9)));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("It took 50 ms. 2 events waited"), "{found:?}");
    }

    #[test]
    fn event_that_was_starved_is_found_with_what_it_waited_for() {
        let at = |ms: u64, record: Packed| Packed { nanos: ms * 1_000_000, ..record };
        let other = |kind, argument| Packed { index: 9, ..record(kind, argument) };
        let run = |ms| {
            [
                at(0, record(Kind::Polled, 1)),
                at(0, record(Kind::Ready, 1)),
                at(0, other(Kind::RunSource, 1)),
                at(ms, other(Kind::Returned, 40_000)),
                at(ms, record(Kind::RunSource, 1)),
            ]
        };
        assert!(found(run(99)).is_empty());
        let found = found(run(100));
        assert!(found[0].contains("It waited 100 ms") && found[0].contains("40 ms"), "{found:?}");
    }

    #[test]
    fn listener_without_a_descriptor_is_found_with_the_words_of_the_system() {
        const EMFILE: u32 = 24; // the same number on each Unix
        let found = found([record(Kind::Failed, EMFILE)]);
        assert!(found[0].contains("cannot accept") && found[0].contains("open files"), "{found:?}");
    }

    #[test]
    fn storm_of_deferred_calls_is_found_in_one_turn_alone() {
        let deferred = [record(Kind::RunDeferred, 0), record(Kind::Returned, 0)];
        let storm = |count: usize| std::iter::repeat_n(deferred, count).flatten();
        assert!(found(storm(DEFERRED_PER_TURN - 1)).is_empty());
        let turn = [record(Kind::Turn, 2)];
        assert!(found(storm(1000).chain(turn).chain(storm(1000))).is_empty());
        assert!(found(storm(DEFERRED_PER_TURN))[0].contains("A defer storm"));
    }

    #[test]
    fn timers_of_one_line_are_found_when_they_pile_up() {
        let rearmed = |index| Packed { subject: 2, index, ..record(Kind::Rearmed, 0) };
        assert!(found((0..9).map(rearmed)).is_empty());
        assert!(found((0..100).map(|_| rearmed(7))).is_empty(), "one timer");
        let found = found((0..10).map(rearmed));
        assert!(found[0].contains("10 repeating timers"), "{found:?}");
    }

    #[test]
    fn source_that_resumes_itself_in_each_turn_is_found() {
        let turn = |_| [record(Kind::Turn, 0), record(Kind::Resumed, 1), record(Kind::Resumed, 1)];
        assert!(found((0..999).flat_map(turn)).is_empty());
        assert!(found((0..1000).flat_map(turn))[0].contains("calls itself"));
        let pause = [record(Kind::Turn, 0), record(Kind::Turn, 0)];
        let turns = (0..999).flat_map(turn).chain(pause).chain((0..999).flat_map(turn));
        assert!(found(turns).is_empty(), "not in a row");
    }

    #[test]
    fn peer_that_does_not_read_is_found_after_a_second() {
        let at = |ms: u64, kind, bytes| Packed { nanos: ms * 1_000_000, ..record(kind, bytes) };
        let mark = Limits::default().outbox_bytes_high as u32;
        let written = [at(0, Kind::Written, mark), at(1, Kind::Written, 1)];
        let late = |ms| written.into_iter().chain([at(ms, Kind::Written, 1)]);
        assert!(found(late(1000)).is_empty());
        assert!(found(late(1001))[0].contains("does not read"));
        let sent = written.into_iter().chain([at(2, Kind::Sent, 2), at(2000, Kind::Written, 1)]);
        assert!(found(sent).is_empty());
    }

    #[test]
    fn findings_are_bounded_and_the_same_one_is_counted() {
        let mut doctor = Doctor::default();
        for n in 0..1000 {
            doctor.see_stuck(n % 30, STUCK);
        }
        assert_eq!(doctor.findings.len(), FINDINGS_MAX);
        doctor.see_stuck(0, STUCK - Duration::from_millis(1));
        let last = doctor.findings.last().map(|finding| finding.place);
        doctor.see_stuck(last.unwrap_or(0), 2 * STUCK);
        assert_eq!(doctor.findings.last().map(|finding| finding.times), Some(2));
    }
}
