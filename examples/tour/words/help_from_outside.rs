//! Scene 9: a worker computes, and the loop's thread calls back.

use waterwheel::inspect::Record;
use waterwheel::reactor::Kind;

use crate::proof::{begin_or_end, find, find_back, is_one_turn, is_turn, lines, runs};
use crate::scene::{Choice, Knob, Rule, Scene, Task, code_of, says};

pub const SCENE: Scene = Scene {
    title: "Help from outside",
    minutes: 4,
    intro: "Bob's line is hashed by a worker, on another thread. Ann's line is hashed in her own \
            callback, which takes twice as long. Cleo waits behind Ann.",
    watch: "The result of the worker: it waits until Ann's callback has returned, and longer.",
    question: "The worker is done while Ann's callback runs. When does the callback with its result \
               run, and on which thread?",
    answers: &[
        Choice {
            text: "Now, on the loop's thread: it interrupts Ann's callback.",
            wrong: "Nothing interrupts a callback. The result waits in the loop's mailbox.",
            proof: |records| {
                let (at, run) = find(records, 0, runs)?;
                let (_, next) = begin_or_end(records, at)?;
                runs(next).then_some([run.sequence, next.sequence])
            },
        },
        Choice {
            text: "Now, on the worker's thread.",
            wrong: "Callbacks run on the loop's thread only: so they need no locks. Only the work \
                    itself runs on the worker's thread.",
            // The loop has not collected it.
            proof: |records| {
                let (at, done) = find(records, 0, is_done)?;
                let collected = |r: &Record| r.kind == Kind::Collected && r.id == done.id;
                let collected = find_back(records, at, collected);
                collected.is_none().then_some([done.sequence, done.sequence])
            },
        },
        Choice {
            text: "In a later turn, on the loop's thread, behind that turn's I/O and timers.",
            wrong: "",
            proof: |records| {
                let (at, done) = find(records, 0, is_done)?;
                let collected = |r: &Record| r.kind == Kind::Collected && r.id == done.id;
                let (collected, _) = find_back(records, at, collected)?;
                let line = lines(&records[..collected], 0).last()?;
                let later = !is_one_turn(records, line, at);
                let behind = sources_after(records, at) == 0;
                (later && behind).then_some([records[line].sequence, done.sequence])
            },
        },
    ],
    rule: Rule {
        name: "R6",
        file: "reactor/mod.rs",
        text: "Budgets: a turn takes TIMERS_PER_TURN timers and POSTS_PER_TURN posts (results of \
               jobs are posts); the rest waits. Phase 5 collects posts last, so they run behind \
               the ready sources and the timers of their lane.",
    },
    task: Task {
        text: "Set the hash to 2,000 ms. Let Bob type, then Ann, and while her callback runs, Cleo. \
               Whose callback runs first in the next turn: Cleo's, or the one with Bob's result?",
        is_done: |records| {
            let done = (0..records.len()).filter(|at| is_done(&records[*at]));
            let mut behind = done.filter_map(|at| Some((lines(&records[..at], 0).last()?, at)));
            behind.any(|(line, at)| is_one_turn(records, line, at))
        },
    },
    lines: &[says("bob", "a password"), says("ann", "another"), says("cleo", "hello")],
    is_timed: false,
    knobs: &[Knob {
        name: "hash_ms",
        label: "How long a hash takes on the worker, in ms",
        min: 1,
        max: 2000,
        value: 300,
    }],
    acts: &[],
    code: code_of!(help_from_outside),
};

/// Returns true if the callback with the result of a job begins. A post of another kind is on behalf
/// of no source.
fn is_done(record: &Record) -> bool {
    record.kind == Kind::RunPosted && record.id.is_some()
}

/// How many callbacks of sources run behind this place in its turn.
fn sources_after(records: &[Record], at: usize) -> usize {
    let end = find(records, at, is_turn).map_or(records.len(), |(end, _)| end);
    records[at..end].iter().filter(|record| record.kind == Kind::RunSource).count()
}
