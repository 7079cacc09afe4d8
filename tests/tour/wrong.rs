//! The wrong answers, in loops that do not exist: each is proved by the records of a scene, changed
//! so that it would be right. A proof that finds nothing anywhere would show nothing.

use waterwheel::inspect::Record;
use waterwheel::reactor::Kind;

use crate::proof::{find, lines, runs};
use crate::scene::ALL;
use crate::stage::{Stage, set_small};

/// The records of a scene that was played, with its proof.
fn played(number: usize) -> (Vec<Record>, [usize; 2]) {
    for _ in 0..10 {
        let mut stage = Stage::begin(number);
        set_small(&stage);
        stage.play();
        if let Some(proof) = stage.scene.proof(&stage.records) {
            let place = |sequence| crate::proof::place_of(&stage.records, sequence).unwrap();
            let places = proof.map(place);
            return (stage.records, places);
        }
    }
    panic!("nothing proves the right answer of scene {number}");
}

/// Changes the records, and looks for the proof of this answer.
fn would_prove(number: usize, answer: usize, change: impl FnOnce(&mut Vec<Record>, [usize; 2])) {
    let (mut records, proof) = played(number);
    let scene = &ALL[number - 1];
    assert_ne!(answer, scene.right());
    let proves = scene.answers[answer].proof;
    assert_eq!(proves(&records), None);
    change(&mut records, proof);
    assert!(proves(&records).is_some(), "{}: {}", scene.title, scene.answers[answer].text);
}

fn without(records: &mut Vec<Record>, kind: Kind) {
    records.retain(|record| record.kind != kind);
}

#[test]
fn a_callback_inside_another_would_be_found() {
    would_prove(1, 0, |records, _| without(records, Kind::Returned));
    would_prove(2, 2, |records, _| without(records, Kind::Returned));
    would_prove(9, 0, |records, _| without(records, Kind::Returned));
    would_prove(6, 0, |records, [end, timer]| {
        let timer = records.remove(timer);
        records.insert(end, timer);
    });
}

#[test]
fn a_callback_that_was_not_in_the_queue_would_be_found() {
    would_prove(1, 2, |records, _| without(records, Kind::Ready));
    would_prove(9, 1, |records, _| without(records, Kind::Collected));
}

#[test]
fn a_turn_for_each_event_would_be_found() {
    would_prove(2, 0, |records, [first, last]| {
        let (_, turn) = find(records, 0, |record| record.kind == Kind::Turn).unwrap();
        let turn = turn.clone();
        for at in
            lines(records, first).take_while(|at| *at <= last).collect::<Vec<_>>().iter().rev()
        {
            records.insert(*at, turn.clone());
        }
    });
}

#[test]
fn another_order_would_be_found() {
    for (answer, kind) in [(0, Kind::RunTimer), (1, Kind::RunEnqueued), (3, Kind::RunSource)] {
        would_prove(3, answer, |records, [_, next]| records[next].kind = kind);
    }
    would_prove(6, 1, |records, [end, timer]| {
        let timer = records.remove(timer);
        records.insert(end + 1, timer);
    });
    would_prove(7, 0, |records, [last, _]| {
        let kept = |record: &Record| !matches!(record.kind, Kind::Turn | Kind::RunSource);
        let rest: Vec<Record> = records.drain(last..).filter(kept).collect();
        records.extend(rest);
    });
    would_prove(7, 2, |records, _| without(records, Kind::RunDeferred));
}

#[test]
fn a_write_that_waits_loses_or_takes_everything_would_be_found() {
    would_prove(4, 0, |records, [above, _]| {
        let sent = Record { kind: Kind::Sent, ..records[above].clone() };
        records.insert(above + 1, sent);
    });
    would_prove(4, 1, |records, [above, _]| {
        let gone = Record { kind: Kind::Deregistered, ..records[above].clone() };
        records.push(gone);
    });
    would_prove(4, 2, |records, [above, _]| records[above].argument = 5 << 20);
}

#[test]
fn another_wheel_would_be_found() {
    would_prove(5, 0, |records, [near, far]| records[far].argument = records[near].argument);
    // It wakes a tick before the timer, and finds nothing to do.
    would_prove(5, 1, |records, [_, far]| {
        let record = |kind, argument| Record { kind, argument, ..records[far + 1].clone() };
        let wait = record(Kind::Wait, 2);
        let stamped = record(Kind::Stamped, records[far].argument - 1);
        let turn = record(Kind::Turn, 9);
        records.splice(far + 1..far + 1, [wait, stamped, turn]);
    });
}

#[test]
fn an_event_that_reaches_a_stranger_would_be_found() {
    would_prove(8, 0, |records, [event, stale]| {
        let gone = records[event].id.unwrap();
        let takes =
            |r: &Record| r.kind == Kind::Registered && r.id.is_some_and(|id| id.0 == gone.0);
        let (taken, new) = find(&records[..stale], event, takes).unwrap();
        let run = Record { kind: Kind::RunSource, ..new.clone() };
        records.insert(taken + 1, run);
    });
    would_prove(8, 1, |records, [_, stale]| records[stale].kind = Kind::RunSource);
}

#[test]
fn a_run_that_returns_would_be_found() {
    let first_run = |records: &[Record], gone: usize| find(records, gone, runs).unwrap().0;
    would_prove(10, 0, |records, [gone, _]| records.truncate(first_run(records, gone)));
    would_prove(10, 1, |records, [_, second]| records.truncate(second));
}

#[test]
fn each_wrong_answer_is_here() {
    let text = include_str!("wrong.rs");
    for (number, scene) in (1..).zip(ALL) {
        let wrong = (0..scene.answers.len()).filter(|answer| *answer != scene.right());
        for answer in wrong.filter(|_| number != 3) {
            let call = format!("would_prove({number}, {answer}, ");
            assert!(text.contains(&call), "{}: {}", scene.title, scene.answers[answer].text);
        }
    }
}
