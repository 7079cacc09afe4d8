//! The doctor's findings, from records that are made up.

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
    let cancelled = |index| Packed { subject: 2, index, ..record(Kind::Cancelled, 0) };
    let come_and_go = (0..100).flat_map(|index| [rearmed(index), cancelled(index)]);
    assert!(found(come_and_go).is_empty(), "never two");
    let deadline = |index| Packed { subject: 3, ..cancelled(index) };
    let others = (0..10).flat_map(|index| [rearmed(index), deadline(index)]);
    assert_eq!(found(others).len(), 1, "the deadlines of sources have ids of their own");
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

#[test]
fn history_of_sources_and_timers_is_bounded() {
    let mut doctor = Doctor::default();
    let many = 3 * KNOWN_MAX as u32;
    for index in 0..many {
        let of = |kind| Packed { index, ..record(kind, 1) };
        let all = [Kind::Ready, Kind::Resumed, Kind::Written].map(of);
        let timer = Packed { subject: 2, place: index as u16, ..of(Kind::Rearmed) };
        all.into_iter().chain([timer]).for_each(|record| doctor.see(&record));
    }
    let Doctor { waiting, resumed, unsent, repeating, .. } = &doctor;
    let lens = [waiting.len(), resumed.len(), unsent.len(), repeating.len()];
    assert!(lens.iter().all(|len| (1..=KNOWN_MAX + 1).contains(len)), "{lens:?}");
}

#[test]
fn source_that_is_not_drained_is_found_with_what_waits() {
    let mut doctor = Doctor::default();
    let second = Duration::from_secs(1);
    let input = super::super::kernel::Input::Bytes(600);
    let undrained = Undrained { place: 0, input, waits: 2 * second, ran: Some(3 * second) };
    doctor.see_undrained(&undrained);
    let finding = &doctor.findings[0];
    assert_eq!((&*finding.what, finding.times), ("A source is not drained", 1));
    assert_eq!(finding.cause, "For 2 s 600 bytes wait unread. Its callback ran last 3 s ago.");
    assert!(finding.advice.contains("until WouldBlock"));
}
