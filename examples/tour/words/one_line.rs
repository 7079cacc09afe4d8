//! Scene 1: an event is not a call.

use waterwheel::reactor::Kind;

use crate::proof::{begin_or_end, find, find_back, is_one_turn, is_queued, lines, runs};
use crate::scene::{Choice, Rule, Scene, Task, code_of, says};

pub const SCENE: Scene = Scene {
    title: "One line",
    minutes: 2,
    intro: "The loop sleeps. Ann types a line, and the kernel wakes the loop.",
    watch: "The event, on its way from Ann to the queue.",
    question: "The kernel reports that Ann's line is there. What does the loop do now?",
    answers: &[
        Choice {
            text: "It calls Ann's callback at once, also if another callback runs.",
            wrong: "Nothing interrupts a callback: no callback starts while another is on the \
                    stack.",
            proof: |records| {
                let (at, run) = find(records, 0, runs)?;
                let (_, next) = begin_or_end(records, at)?;
                runs(next).then_some([run.sequence, next.sequence])
            },
        },
        Choice {
            text: "It puts an event into the queue, and calls nobody yet.",
            wrong: "",
            proof: |records| {
                let at = lines(records, 0).next()?;
                let id = records[at].id;
                let queued = |record: &_| is_queued(record) && record.id == id;
                let (queued, event) = find_back(records, at, queued)?;
                // Between the two the loop begins to dispatch.
                let (dispatch, _) = find(records, queued, |next| next.kind == Kind::Dispatch)?;
                (dispatch < at).then_some([event.sequence, records[at].sequence])
            },
        },
        Choice {
            text: "It starts a thread for Ann.",
            wrong: "There is one thread. Every callback runs on it, one after the other.",
            // A thread would not wait for its turn in the queue.
            proof: |records| {
                let at = lines(records, 0).next()?;
                let run = &records[at];
                let queued = find_back(records, at, |r| is_queued(r) && r.id == run.id);
                queued.is_none().then_some([run.sequence, run.sequence])
            },
        },
    ],
    rule: Rule {
        name: "R1",
        file: "reactor/mod.rs",
        text: "Run to completion: no callback starts while another is on the stack. So phase 5 \
               only collects events, and phase 6 runs the callbacks.",
    },
    task: Task {
        text: "Stop the loop, and let Ann type: the loop stands before her callback. Now let Bob \
               and Cleo type, and then let the loop go on. In which turn do their callbacks run?",
        is_done: |records| {
            let said: Vec<usize> = lines(records, 0).collect();
            said.windows(3).any(|three| {
                let [first, second, third] = [three[0], three[1], three[2]];
                let turns = records[first..second].iter().filter(|r| r.kind == Kind::Turn);
                turns.count() == 1 && is_one_turn(records, second, third)
            })
        },
    },
    lines: &[says("ann", "hello")],
    is_timed: false,
    knobs: &[],
    acts: &[],
    code: code_of!(one_line),
};
