//! Scene 6: nothing runs while a callback runs, and what comes after it has an order.

use waterwheel::inspect::Record;
use waterwheel::reactor::Kind;

use crate::proof::{caused_at, end_of, find, is_deadline, is_line, is_turn, lines, runs};
use crate::scene::{Choice, Knob, Line, Rule, Scene, Task, What, code_of, says};

pub const SCENE: Scene = Scene {
    title: "The blocker",
    minutes: 5,
    intro: "Ann's callback arms a timer of 0.1 s, and then it computes for 2 s. Cleo has typed, \
            too. Bob must say something within 1 s, or he is closed; he types after 0.5 s, while \
            the callback computes.",
    watch: "Bob: his limit passes before the loop has read his line. Is he closed?",
    question: "When does the timer of 0.1 s run?",
    answers: &[
        Choice {
            text: "After 0.1 s: it interrupts Ann's callback.",
            wrong: "Nothing interrupts a callback, a timer neither: a deadline says when the timer \
                    may run at the earliest.",
            proof: |records| {
                let (at, end, timer) = long(records)?;
                (timer < end).then_some([records[at].sequence, records[timer].sequence])
            },
        },
        Choice {
            text: "Right after Ann's callback: it is late already.",
            wrong: "The loop collects timers once a turn, in phase 5. This turn has collected them \
                    before Ann's callback began, and its queue comes first.",
            proof: |records| {
                let (_, end, timer) = long(records)?;
                let (next, _) = find(records, end, |record| runs(record) || is_turn(record))?;
                (next == timer).then_some([records[end].sequence, records[timer].sequence])
            },
        },
        Choice {
            text: "In the next turn, behind the lines that have arrived.",
            wrong: "",
            proof: |records| {
                let (_, end, timer) = long(records)?;
                let turns = (end..timer).filter(|at| is_turn(&records[*at])).collect::<Vec<_>>();
                let said = lines(&records[..timer], *turns.first()?).next();
                let later = turns.len() == 1 && said.is_some() && lines_after(records, timer) == 0;
                later.then_some([records[end].sequence, records[timer].sequence])
            },
        },
    ],
    rule: Rule {
        name: "R3",
        file: "reactor/mod.rs",
        text: "I/O before timers: in each lane, ready sources run before the timers that expire in \
               the same turn. Bob's limit is a deadline, too: his line is read before it.",
    },
    task: Task {
        text: "Let only Ann type, and wait. Bob is closed: which callback does that, and in which \
               turn?",
        is_done: |records| {
            let long = long(records).map_or(records.len(), |(_, end, _)| end);
            let mut deadlines = (long..records.len()).filter(|at| is_deadline(&records[*at]));
            deadlines.any(|at| {
                let gone = |r: &Record| r.kind == Kind::Deregistered && r.id == records[at].id;
                caused_at(records, at).any(gone)
            })
        },
    },
    lines: &[
        says("ann", "compute"),
        says("cleo", "hello"),
        Line { name: "bob", what: What::Says("in time"), meanwhile: true },
    ],
    is_timed: true,
    knobs: &[Knob {
        name: "compute_ms",
        label: "Ann's callback computes for so many ms",
        min: 0,
        max: 5000,
        value: 2000,
    }],
    acts: &[],
    code: code_of!(the_blocker),
};

/// A callback that armed a timer and returned after the timer's deadline: where it begins, where it
/// ends, and where the timer runs.
fn long(records: &[Record]) -> Option<(usize, usize, usize)> {
    lines(records, 0).find_map(|at| {
        let armed = caused_at(records, at).find(|record| record.kind == Kind::Armed)?;
        let end = end_of(records, at)?;
        let is_it = |r: &Record| r.kind == Kind::RunTimer && r.id == armed.id;
        let (timer, _) = find(records, at, is_it)?;
        (records[end].argument >= TIMER_MICROS).then_some((at, end, timer))
    })
}

/// The delay of the timer.
const TIMER_MICROS: u32 = 100_000;

/// How many lines run behind the timer in its turn.
fn lines_after(records: &[Record], timer: usize) -> usize {
    let end = find(records, timer, is_turn).map_or(records.len(), |(end, _)| end);
    (timer..end).filter(|at| is_line(records, *at)).count()
}
