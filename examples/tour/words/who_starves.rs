//! Scene 7: even a chain that never ends leaves room for the others.

use waterwheel::inspect::Record;
use waterwheel::reactor::{DEFERRED_PER_TURN, Kind};

use crate::proof::{find, find_back, is_one_turn, is_turn, lines, place_of, runs};
use crate::scene::{Choice, Knob, Rule, Scene, Task, code_of, says};

pub const SCENE: Scene = Scene {
    title: "Who starves?",
    minutes: 4,
    intro: "Bob's callback defers a callback. That one defers itself again, 5,000 times in all. \
            Ann's event waits in the queue, behind Bob's.",
    watch: "How many deferred callbacks run before Ann's. Step by turn: 1,024 steps are many.",
    question: "A deferred callback runs before the next event. When does Ann's callback run?",
    answers: &[
        Choice {
            text: "After all 5,000: each deferred callback comes before the next event.",
            wrong: "A turn runs at most 1,024 deferred callbacks; the rest waits for the next turn. \
                    So such a chain delays the events, and does not stop them.",
            proof: |records| {
                let chain = |from| in_a_row(records, from);
                let starts = (0..records.len()).filter(|at| begins_a_row(records, *at));
                let long = starts.map(chain).find(|row| row.len() > DEFERRED_PER_TURN)?;
                let last = long[DEFERRED_PER_TURN];
                Some([records[long[0]].sequence, records[last].sequence])
            },
        },
        Choice {
            text: "In this turn, after 1,024 of them.",
            wrong: "",
            proof: |records| {
                let line = lines(records, 0).find_map(|line| {
                    let (last, _) = find_back(records, line, runs)?;
                    let (turn, _) = find_back(records, line, is_turn)?;
                    let deferred = |r: &&Record| r.kind == Kind::RunDeferred;
                    let count = records[turn..line].iter().filter(deferred).count();
                    let goes_on = find(records, line, |r| r.kind == Kind::RunDeferred).is_some();
                    (count == DEFERRED_PER_TURN && goes_on).then_some([last, line])
                });
                line.map(|places| places.map(|at| records[at].sequence))
            },
        },
        Choice {
            text: "At once: her event has waited longer than the deferred callbacks.",
            wrong: "A deferred callback is not in the queue. It runs right after the callback that \
                    defers it, before the next event.",
            proof: |records| {
                let (_, deferred) = find(records, 0, |record| record.kind == Kind::Deferred)?;
                let bob = place_of(records, deferred.cause)?;
                let (_, next) = find(records, bob + 1, runs)?;
                let is_event = next.kind == Kind::RunSource;
                is_event.then_some([records[bob].sequence, next.sequence])
            },
        },
    ],
    rule: Rule {
        name: "R2",
        file: "reactor/mod.rs",
        text: "A deferred callback runs right after the one that defers it, before the next event, \
               until none is left or DEFERRED_PER_TURN have run in this turn; the rest waits for \
               the next.",
    },
    task: Task {
        text: "Stop the loop, let Bob type `enqueue`, and step a few turns. Then let Ann type, and \
               go on. How many of Bob's callbacks run in the turn of Ann's?",
        // One of a chain: the callback that has asked for it was enqueued, too.
        is_done: |records| {
            let in_chain = |record: &Record| {
                let cause = place_of(records, record.cause);
                record.kind == Kind::RunEnqueued
                    && cause.is_some_and(|at| records[at].kind == Kind::RunEnqueued)
            };
            lines(records, 0).any(|line| {
                find_back(records, line, in_chain)
                    .is_some_and(|(link, _)| is_one_turn(records, link, line))
            })
        },
    },
    lines: &[says("bob", "defer"), says("ann", "hello")],
    is_timed: false,
    knobs: &[Knob {
        name: "times",
        label: "How often the callback runs",
        min: 1,
        max: 100_000,
        value: 5000,
    }],
    acts: &[],
    code: code_of!(who_starves),
};

/// Returns true if a deferred callback runs here, and none right before it.
fn begins_a_row(records: &[Record], at: usize) -> bool {
    let before = find_back(records, at, |record| runs(record) || is_turn(record));
    records[at].kind == Kind::RunDeferred
        && before.is_none_or(|(_, record)| record.kind != Kind::RunDeferred)
}

/// The deferred callbacks from here on, up to the next callback of another kind or the next turn.
fn in_a_row(records: &[Record], from: usize) -> Vec<usize> {
    let other = |at: &usize| {
        let record = &records[*at];
        is_turn(record) || (runs(record) && record.kind != Kind::RunDeferred)
    };
    let row = (from..records.len()).take_while(|at| !other(at));
    row.filter(|at| records[*at].kind == Kind::RunDeferred).collect()
}
