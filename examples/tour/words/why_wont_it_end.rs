//! Scene 10: what holds the loop.

use waterwheel::inspect::Record;
use waterwheel::reactor::Kind;

use crate::proof::{Id, caused_at, find, lines};
use crate::scene::{Act, Choice, Rule, Scene, Task, code_of, says};

pub const SCENE: Scene = Scene {
    title: "Why won't it end?",
    minutes: 3,
    intro: "When Ann types, the server closes its listener and all connections. A timer that \
            repeats every 200 ms is left.",
    watch: "The list of what holds the loop. It names the line of the program that has armed the \
            timer.",
    question: "The listener and all connections are closed. Does `run` return?",
    answers: &[
        Choice {
            text: "Yes, at once: there is nobody to serve.",
            wrong: "The timer holds the loop: `run` returns when nothing holds it any more.",
            proof: |records| {
                let gone = all_gone(records)?;
                let timer = find(records, gone, |record| record.kind == Kind::RunTimer);
                timer.is_none().then_some([records[gone].sequence, records.last()?.sequence])
            },
        },
        Choice {
            text: "Yes, as soon as the timer has run once.",
            wrong: "The timer repeats: after each run it is armed again, and it holds the loop \
                    until it is cancelled or `unref` is called.",
            proof: |records| {
                let gone = all_gone(records)?;
                let (at, once) = find(records, gone, |record| record.kind == Kind::RunTimer)?;
                let again = find(records, at + 1, |record| record.kind == Kind::RunTimer);
                again.is_none().then_some([records[gone].sequence, once.sequence])
            },
        },
        Choice {
            text: "No: the timer holds the loop. `run` returns after `unref`, although the timer is \
                   still armed.",
            wrong: "",
            proof: |records| {
                let gone = all_gone(records)?;
                let (at, _) = find(records, gone, |record| record.kind == Kind::RunTimer)?;
                let (_, again) = find(records, at + 1, |record| record.kind == Kind::RunTimer)?;
                Some([records[gone].sequence, again.sequence])
            },
        },
    ],
    rule: Rule {
        name: "R8",
        file: "reactor/mod.rs",
        text: "Keep-alive: run returns when nothing holds the loop, or on stop. Sources (jobs are \
               sources), timers and remotes hold it, unless unref was called; so do queued \
               callbacks.",
    },
    task: Task {
        text: "Call `unref` when all are gone. Does `run` return now?",
        is_done: |records| {
            let timer = |id| find(records, 0, |r| r.kind == Kind::RunTimer && r.id == id).is_some();
            let unref = |r: &&Record| r.kind == Kind::Held && r.argument == 0 && timer(r.id);
            all_gone(records).is_some() && records.iter().any(|r| unref(&r))
        },
    },
    lines: &[says("ann", "close")],
    is_timed: false,
    knobs: &[],
    acts: &[Act {
        name: "unref",
        label: "unref the timer",
        run: crate::scene::code::why_wont_it_end::unref,
    }],
    code: code_of!(why_wont_it_end),
};

/// The place from which on all are gone: the callback of a line has removed the listener, and each
/// connection to which it has written has ended.
fn all_gone(records: &[Record]) -> Option<usize> {
    let gone = |record: &Record| record.kind == Kind::Deregistered;
    let at = lines(records, 0).find(|at| caused_at(records, *at).any(gone))?;
    let written = caused_at(records, at).filter(|record| record.kind == Kind::Written);
    let members: Vec<Id> = written.filter_map(|record| record.id).collect();
    let ends = members.iter().map(|id| {
        let ends = |record: &Record| gone(record) && record.id == Some(*id);
        find(records, at, ends).map(|(end, _)| end)
    });
    ends.collect::<Option<Vec<_>>>()?.into_iter().max()
}
