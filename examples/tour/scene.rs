//! The scenes: what each shows, what it asks, and how its records prove the answer.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};
use waterwheel::Context;
use waterwheel::inspect::Record;
use waterwheel::reactor::Kind;

use crate::room::Room;

/// The code of the scenes, each as the page shows it.
#[path = "scenes"]
pub mod code {
    pub mod one_line;
    pub mod zero_is_not_now;
}

/// One scene.
pub struct Scene {
    pub title: &'static str,
    pub minutes: u32,
    /// What happens, in one or two sentences.
    pub intro: &'static str,
    /// What to watch.
    pub watch: &'static str,
    pub question: &'static str,
    pub answers: &'static [Choice],
    /// The rule that decides, by its name in `reactor/mod.rs`, and in words.
    pub rule: &'static str,
    pub rule_text: &'static str,
    /// Something to do.
    pub task: &'static str,
    pub file: &'static str,
    pub text: &'static str,
    /// Sets the loop up, and answers where people connect.
    pub build: fn(&mut Context<Room>, &mut Room) -> io::Result<SocketAddr>,
}

/// An answer to choose.
pub struct Choice {
    pub text: &'static str,
    /// Why it is wrong; nothing for the right one.
    pub wrong: &'static str,
    /// Finds the two records that show it, by their numbers. Only the right one has any.
    pub proof: fn(&[Record]) -> Option<[u64; 2]>,
}

pub const ALL: &[Scene] = &[ONE_LINE, THREE_AT_ONCE, ZERO_IS_NOT_NOW];

/// The path and the text of a scene's file.
macro_rules! file {
    ($name:literal) => {
        (concat!("examples/tour/scenes/", $name), include_str!(concat!("scenes/", $name)))
    };
}

const ONE_LINE: Scene = Scene {
    title: "One line",
    minutes: 2,
    intro: "The loop sleeps. Ann types a line, and the kernel wakes the loop.",
    watch: "The event, on its way from Ann to the queue.",
    question: "The kernel says that Ann's line is there. What does the loop do now?",
    answers: &[
        Choice {
            text: "It interrupts what runs, and calls Ann's callback.",
            wrong: "Nothing interrupts a callback: no callback starts while another is on the stack.",
            proof: |records| {
                let (at, run) = find(records, 0, runs)?;
                let nested = |record: &Record| runs(record) || record.kind == Kind::Returned;
                let (_, next) = find(records, at + 1, nested)?;
                runs(next).then_some([run.sequence, next.sequence])
            },
        },
        Choice {
            text: "It puts an event into the queue, and calls nobody yet.",
            wrong: "",
            proof: |records| {
                let (at, ready) = find(records, 0, is_data)?;
                let (_, run) = find(records, at + 1, runs)?;
                Some([ready.sequence, run.sequence])
            },
        },
        Choice {
            text: "It starts a thread for Ann.",
            wrong: "There is one thread. Every callback runs on it, one after the other.",
            // A thread's callback would begin without having been in the queue.
            proof: |records| {
                let (at, run) = find(records, 0, |record| record.kind == Kind::RunSource)?;
                let queued = |record: &Record| {
                    matches!(record.kind, Kind::Ready | Kind::Resumed | Kind::Expired)
                        && record.id == run.id
                };
                let before = find(&records[..at], 0, queued);
                before.is_none().then_some([run.sequence, run.sequence])
            },
        },
    ],
    rule: "R1",
    rule_text: "Run to completion: no callback starts while another is on the stack. In phase 5 \
                events are only collected into the queue; in phase 6 they are dispatched.",
    task: "Send a line from Bob while the loop is stopped, and find his event.",
    file: file!("one_line.rs").0,
    text: file!("one_line.rs").1,
    build: code::one_line::build,
};

const THREE_AT_ONCE: Scene = Scene {
    title: "Three at once",
    minutes: 2,
    intro: "Stop the loop, and let all three type. Then let it go on.",
    watch: "The queue: three events in one turn.",
    question: "Three lines arrive together. How many turns does the loop need, and how many \
               callbacks run at a time?",
    answers: &[
        Choice {
            text: "Three turns, one callback at a time.",
            wrong: "A turn takes all that is ready: one wait, three events.",
            proof: |records| {
                let (at, _) = crowd(records)?;
                let (at, first) = find(records, at, runs)?;
                let (turn, _) = find(records, at, |record| record.kind == Kind::Turn)?;
                let (_, second) = find(records, turn, runs)?;
                let alone = records[at + 1..turn].iter().all(|record| !runs(record));
                alone.then_some([first.sequence, second.sequence])
            },
        },
        Choice {
            text: "One turn, one callback at a time.",
            wrong: "",
            proof: |records| {
                let (at, _) = crowd(records)?;
                let (at, first) = find(records, at, runs)?;
                let (between, _) = find(records, at + 1, |record| record.kind == Kind::Returned)?;
                let (_, second) = find(records, between, runs)?;
                let turn = find(records, at, |record| record.kind == Kind::Turn);
                turn.is_none_or(|(_, turn)| turn.sequence > second.sequence)
                    .then_some([first.sequence, second.sequence])
            },
        },
        Choice {
            text: "One turn, three callbacks at a time.",
            wrong: "There is one stack. The second callback begins when the first has returned.",
            proof: |records| {
                let (at, _) = crowd(records)?;
                let (at, first) = find(records, at, runs)?;
                let next = |record: &Record| runs(record) || record.kind == Kind::Returned;
                let (_, next) = find(records, at + 1, next)?;
                runs(next).then_some([first.sequence, next.sequence])
            },
        },
    ],
    rule: "R1",
    rule_text: "Phase 5 takes everything that is ready. Phase 6 runs it, one callback after the \
                other, each to its end.",
    task: "Let Cleo's event be the first in the queue: who must type first?",
    file: file!("one_line.rs").0,
    text: file!("one_line.rs").1,
    build: code::one_line::build,
};

const ZERO_IS_NOT_NOW: Scene = Scene {
    title: "Zero is not now",
    minutes: 4,
    intro: "When Ann types, her callback asks for three things at once: a timer of 0 ms, a call \
            enqueued in lane High, and a deferred call. Bob has typed, too.",
    watch: "Where each of the three goes, and the dashed line: left of it is this turn.",
    question: "Ann's callback returns. What runs next?",
    answers: &[
        Choice {
            text: "The timer: its time is 0 ms.",
            wrong: "A timer of 0 ms is due in the next turn: this turn has collected its timers \
                    already.",
            proof: |records| after_ann(records, Kind::RunTimer),
        },
        Choice {
            text: "The enqueued call: it is in lane High.",
            wrong: "What is enqueued in a callback waits for the next turn. Lanes order the events \
                    of one turn.",
            proof: |records| after_ann(records, Kind::RunEnqueued),
        },
        Choice {
            text: "The deferred call.",
            wrong: "",
            proof: |records| after_ann(records, Kind::RunDeferred),
        },
        Choice {
            text: "Bob's callback: he has waited longest.",
            wrong: "Bob is next in the queue, but deferred calls do not queue: they run before the \
                    next event.",
            proof: |records| after_ann(records, Kind::RunSource),
        },
    ],
    rule: "R2",
    rule_text: "A callback enqueued in phase 6 waits for the next turn. A deferred callback runs \
                right after the one that defers it, before the next event.",
    task: "Make Bob hear `deferred` before he hears his own line.",
    file: file!("zero_is_not_now.rs").0,
    text: file!("zero_is_not_now.rs").1,
    build: code::zero_is_not_now::build,
};

/// Bytes have come for a member: not a new connection, of which somebody only hears.
fn is_data(record: &Record) -> bool {
    record.kind == Kind::Ready && record.argument & 1 == 1
}

/// The begin of a batch of three or more.
fn crowd(records: &[Record]) -> Option<(usize, &Record)> {
    find(records, 0, |record| record.kind == Kind::Dispatch && record.argument >= 3)
}

/// The callback that asked for a deferred one, and the one after it, if that is of this kind.
fn after_ann(records: &[Record], kind: Kind) -> Option<[u64; 2]> {
    let (_, deferred) = find(records, 0, |record| record.kind == Kind::Deferred)?;
    let (at, ann) = find(records, 0, |record| record.sequence == deferred.cause)?;
    let (_, next) = find(records, at + 1, runs)?;
    (next.kind == kind).then_some([ann.sequence, next.sequence])
}

impl Scene {
    pub fn right(&self) -> usize {
        self.answers.iter().position(|answer| answer.wrong.is_empty()).unwrap_or(0)
    }

    /// The two records that decide the question, once they are there.
    pub fn proof(&self, records: &[Record]) -> Option<[u64; 2]> {
        (self.answers[self.right()].proof)(records)
    }
}

/// The scenes as the page gets them.
pub fn all_as_json() -> Value {
    let scenes = ALL.iter().enumerate().map(|(at, scene)| {
        json!({
            "n": at + 1,
            "title": scene.title,
            "minutes": scene.minutes,
            "intro": scene.intro,
            "watch": scene.watch,
            "question": scene.question,
            "answers": scene.answers.iter().map(|answer| answer.text).collect::<Vec<_>>(),
            "wrong": scene.answers.iter().map(|answer| answer.wrong).collect::<Vec<_>>(),
            "right": scene.right(),
            "rule": scene.rule,
            "rule_text": scene.rule_text,
            "file": scene.file,
            "task": scene.task,
        })
    });
    scenes.collect()
}

/// The first record that fits, from a place in the list on, and its place.
pub fn find(
    records: &[Record],
    from: usize,
    fits: impl Fn(&Record) -> bool,
) -> Option<(usize, &Record)> {
    records.iter().enumerate().skip(from).find(|(_, record)| fits(record))
}

/// Returns true if the record begins a callback of the program, hooks and flushes not counted.
pub fn runs(record: &Record) -> bool {
    matches!(
        record.kind,
        Kind::RunSource | Kind::RunTimer | Kind::RunDeferred | Kind::RunEnqueued | Kind::RunPosted
    )
}
