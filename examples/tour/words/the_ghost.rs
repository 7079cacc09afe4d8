//! Scene 8: an id is a slot and a generation, so an old event reaches nobody.

use waterwheel::inspect::Record;
use waterwheel::reactor::Kind;

use crate::proof::{find, find_back, is_queued};
use crate::scene::{Choice, Rule, Scene, Task, code_of, says};

pub const SCENE: Scene = Scene {
    title: "The ghost",
    minutes: 4,
    intro: "Bob's event waits in the queue. Before it, Ann's callback removes Bob, and registers \
            Cleo's connection again. Cleo gets the slot that Bob had.",
    watch: "The table of the sources: the same slot, another generation.",
    question: "Bob's event is still in the queue. Who gets it?",
    answers: &[
        Choice {
            text: "Cleo: she is in Bob's slot.",
            wrong: "The event names a slot and a generation. Cleo has the slot, and a generation \
                    of her own, so the event is not hers.",
            // The new source runs, although nothing was queued for it.
            proof: |records| {
                let (_, taken, _) = reused(records)?;
                let runs = |r: &Record| r.kind == Kind::RunSource && r.id == records[taken].id;
                let (at, run) = find(records, taken, runs)?;
                let queued = |r: &Record| is_queued(r) && r.id == run.id;
                let own = find(&records[..at], taken, queued);
                own.is_none().then_some([records[taken].sequence, run.sequence])
            },
        },
        Choice {
            text: "Bob: it came before he was removed.",
            wrong: "Effects are immediate: a source that is removed gets no event, also none that \
                    is in the queue already.",
            proof: |records| {
                let (event, taken, _) = reused(records)?;
                let runs = |r: &Record| r.kind == Kind::RunSource && r.id == records[event].id;
                let (_, run) = find(records, taken, runs)?;
                Some([records[event].sequence, run.sequence])
            },
        },
        Choice {
            text: "Nobody: the generation differs. The event is dropped, and counted as stale.",
            wrong: "",
            proof: |records| {
                let (event, _, stale) = reused(records)?;
                let stale = stale.filter(|stale| records[*stale].argument == 1)?;
                Some([records[event].sequence, records[stale].sequence])
            },
        },
    ],
    rule: Rule {
        name: "R4",
        file: "reactor/mod.rs",
        text: "Effects are immediate. An event is dropped and counted if its source or timer has \
               gone, even if a new one is in its slot by then.",
    },
    task: Task {
        text: "Let Bob connect again if he is not there. Stop the loop, let Bob type: the loop \
               stands before his callback. Then let Ann and Cleo type, and go on. Cleo's event is \
               stale, since she has a new id. Is her line lost?",
        is_done: |records| {
            // She had one slot, and an event there; she receives in another.
            let stale = |record: &&Record| record.kind == Kind::Stale && record.argument == 1;
            records.iter().filter(stale).any(|stale| {
                let gone = |r: &Record| r.kind == Kind::Deregistered && r.id == stale.id;
                let Some((at, gone)) = find(records, 0, gone) else { return false };
                let new = |r: &Record| r.kind == Kind::Registered && r.cause == gone.cause;
                let Some((at, new)) = find(records, at, new) else { return false };
                let in_slot = new.id.map(|id| id.0) == stale.id.map(|id| id.0);
                let receives = |r: &Record| r.kind == Kind::Received && r.id == new.id;
                !in_slot && find(records, at, receives).is_some()
            })
        },
    },
    lines: &[says("ann", "change places"), says("bob", "hello")],
    is_timed: false,
    knobs: &[],
    acts: &[],
    code: code_of!(the_ghost),
};

/// A source goes while its event waits, and another takes its slot in the same callback: the places
/// of the event, of the new source, and of the stale event, if the loop finds one.
fn reused(records: &[Record]) -> Option<(usize, usize, Option<usize>)> {
    let removed = |at: &usize| records[*at].kind == Kind::Deregistered && records[*at].cause > 0;
    (0..records.len()).filter(removed).find_map(|at| {
        let (gone, cause) = (records[at].id?, records[at].cause);
        let event = |r: &Record| is_queued(r) && r.id == Some(gone);
        let (event, _) = find_back(records, at, event)?;
        // It has not run since.
        let runs = |r: &Record| r.kind == Kind::RunSource && r.id == Some(gone);
        if find(&records[..at], event, runs).is_some() {
            return None;
        }
        let takes = |r: &Record| {
            let same = r.id.is_some_and(|id| id.0 == gone.0 && id.1 != gone.1);
            r.kind == Kind::Registered && r.cause == cause && same
        };
        let (taken, _) = find(records, at, takes)?;
        let stale = |r: &Record| r.kind == Kind::Stale && r.id == Some(gone);
        Some((event, taken, find(records, at, stale).map(|(stale, _)| stale)))
    })
}
