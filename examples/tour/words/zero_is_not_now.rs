//! Scene 3: three ways to say "soon", and their order.

use waterwheel::inspect::Record;
use waterwheel::reactor::Kind;

use crate::proof::{find, is_one_turn, lines, place_of, runs};
use crate::scene::{Choice, Knob, Rule, Scene, Task, code_of, says};

pub const SCENE: Scene = Scene {
    title: "Zero is not now",
    minutes: 4,
    intro: "When Ann types, her callback asks for three things at once: a timer of 0 ms, a \
            callback enqueued in lane High, and a deferred callback. Bob has typed, too.",
    watch: "Where each of the three goes, and the dashed line: left of it is this turn.",
    question: "Ann's callback returns. What runs next?",
    answers: &[
        Choice {
            text: "The timer: its delay is 0 ms.",
            wrong: "A timer of 0 ms is due in the next turn: this turn has collected its timers \
                    already.",
            proof: |records| after_ann(records, Kind::RunTimer),
        },
        Choice {
            text: "The enqueued callback: it is in lane High.",
            wrong: "A callback that is enqueued in a callback waits for the next turn. Lanes order \
                    the events of one turn.",
            proof: |records| after_ann(records, Kind::RunEnqueued),
        },
        Choice {
            text: "The deferred callback.",
            wrong: "",
            proof: |records| after_ann(records, Kind::RunDeferred),
        },
        Choice {
            text: "Bob's callback: he has waited longest.",
            wrong: "Bob is next in the queue, but a deferred callback is not in the queue: it runs \
                    before the next event.",
            proof: |records| after_ann(records, Kind::RunSource),
        },
    ],
    rule: Rule {
        name: "R2",
        file: "reactor/mod.rs",
        text: "A callback enqueued in phase 6 waits for the next turn. A deferred callback runs \
               right after the one that defers it, before the next event.",
    },
    task: Task {
        text: "Stop the loop, and let Cleo type: the loop stands before her callback. Now let Bob \
               type, then Ann. In the next turn, does Bob wait for the deferred callback?",
        is_done: |records| {
            let ann = asks(records);
            let others = lines(records, 0).filter(|at| Some(*at) != ann);
            let mut before = others.filter(|at| ann.is_some_and(|ann| *at < ann));
            before.any(|at| ann.is_some_and(|ann| is_one_turn(records, at, ann)))
        },
    },
    lines: &[says("ann", "soon"), says("bob", "hello")],
    is_timed: false,
    knobs: &[Knob {
        name: "lane",
        label: "Lane of the enqueued callback: 0 High, 1 Normal, 2 Low",
        min: 0,
        max: 2,
        value: 0,
    }],
    acts: &[],
    code: code_of!(zero_is_not_now),
};

/// The place of the latest callback that has deferred one: Ann's.
fn asks(records: &[Record]) -> Option<usize> {
    let deferred = records.iter().rev().find(|record| record.kind == Kind::Deferred)?;
    place_of(records, deferred.cause)
}

/// Ann's callback and the one after it, if that is of this kind.
fn after_ann(records: &[Record], kind: Kind) -> Option<[u64; 2]> {
    let at = asks(records)?;
    let (_, next) = find(records, at + 1, runs)?;
    (next.kind == kind).then_some([records[at].sequence, next.sequence])
}
