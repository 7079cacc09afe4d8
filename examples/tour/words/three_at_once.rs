//! Scene 2: many events, one turn, one callback at a time.

use crate::proof::{begin_or_end, crowd, end_of, is_one_turn, runs};
use crate::scene::{Choice, Rule, Scene, Task, code_of, says};

pub const SCENE: Scene = Scene {
    title: "Three at once",
    minutes: 2,
    intro: "All three type while the loop stands still. Then the loop goes on.",
    watch: "The queue: three events in one turn, in the order in which the kernel reports them.",
    question: "Three lines arrive together. How many turns does the loop need, and how many \
               callbacks run at a time?",
    answers: &[
        Choice {
            text: "Three turns, one callback at a time.",
            wrong: "A turn takes everything that is ready: one wait, three events.",
            proof: |records| {
                let ([first, second, third], _) = crowd(records)?;
                let apart = |a, b| !is_one_turn(records, a, b);
                (apart(first, second) && apart(second, third))
                    .then_some([records[first].sequence, records[third].sequence])
            },
        },
        Choice {
            text: "One turn, one callback at a time.",
            wrong: "",
            proof: |records| {
                let ([first, second, third], _) = crowd(records)?;
                let alone = end_of(records, first)? < second && end_of(records, second)? < third;
                (alone && is_one_turn(records, first, third))
                    .then_some([records[first].sequence, records[third].sequence])
            },
        },
        Choice {
            text: "One turn, three callbacks at a time.",
            wrong: "There is one stack. The second callback begins when the first has returned.",
            proof: |records| {
                let ([first, ..], _) = crowd(records)?;
                let (_, next) = begin_or_end(records, first)?;
                runs(next).then_some([records[first].sequence, next.sequence])
            },
        },
    ],
    rule: Rule {
        name: "R1",
        file: "reactor/mod.rs",
        text: "Run to completion: no callback starts while another is on the stack. Phase 5 has \
               collected all three events; phase 6 runs their callbacks one after the other.",
    },
    task: Task {
        text: "Stop the loop and arm a timer: the loop stands before a callback that does that. Let \
               all three type, so that Cleo's event is the first of theirs. Who must type first?",
        // Cleo has connected last, so her index is the highest.
        is_done: |records| crowd(records).is_some_and(|(_, ids)| ids.iter().max() == ids.first()),
    },
    lines: &[says("ann", "one"), says("bob", "two"), says("cleo", "three")],
    is_timed: false,
    knobs: &[],
    acts: &[],
    code: code_of!(one_line),
};
