//! Scene 4: a write does not wait, and memory has a limit.

use waterwheel::inspect::Record;
use waterwheel::net::Limits;
use waterwheel::reactor::Kind;

use crate::proof::{Id, caused_at, end_of, find, find_back, fold_unsent, lines, runs};
use crate::scene::{Choice, Line, Rule, Scene, Task, What, code_of};

pub const SCENE: Scene = Scene {
    title: "A slow reader",
    minutes: 4,
    intro: "Bob stops reading. Ann pastes 16 MiB, and the server writes each piece of it to Bob and \
            to Cleo. The kernel's buffers for Bob are soon full.",
    watch: "The number of bytes that wait for Bob, and what the server answers to Ann.",
    question: "The kernel takes no more bytes for Bob. Where do they go, and who waits?",
    answers: &[
        Choice {
            text: "Ann's callback waits in `write` until Bob reads. So all wait.",
            wrong: "`write` returns at once. It puts the bytes into Bob's outbox; the loop hands \
                    them to the kernel later, in phase 1 of a turn.",
            // They reach the kernel before the callback that has written them returns.
            proof: |records| {
                let (at, id) = above(records, high())?;
                let (callback, _) = find_back(records, at, runs)?;
                let end = end_of(records, callback)?;
                let sent = |record: &Record| record.kind == Kind::Sent && record.id == Some(id);
                let (sent, record) = find(records, at, sent)?;
                (sent < end).then_some([records[at].sequence, record.sequence])
            },
        },
        Choice {
            text: "They are lost: Bob does not read them.",
            wrong: "A byte that `write` has taken is not lost while the connection lives. Bytes \
                    that it does not take are refused, and the caller learns that at once.",
            // His connection ends with bytes in its outbox.
            proof: |records| {
                let (at, id) = above(records, high())?;
                let gone = |r: &Record| r.kind == Kind::Deregistered && r.id == Some(id);
                let (_, gone) = find(records, at, gone)?;
                Some([records[at].sequence, gone.sequence])
            },
        },
        Choice {
            text: "Into Bob's outbox, without limit. Nobody waits.",
            wrong: "The outbox has a limit, 4 MiB unless the program sets another. A peer that \
                    does not read must not use up the memory of all.",
            proof: |records| {
                let (at, _) = above(records, high())?;
                let (too_much, _) = above(records, Limits::default().outbox_bytes_max)?;
                Some([records[at].sequence, records[too_much].sequence])
            },
        },
        Choice {
            text: "Into Bob's outbox. Above 256 KiB `write` returns `AboveHigh`; over 4 MiB it \
                   refuses. Nobody waits.",
            wrong: "",
            // A later callback writes more to Cleo than to Bob: his outbox has not taken the rest.
            proof: |records| {
                let (at, bob) = above(records, high())?;
                let refused = lines(records, at).find_map(|line| {
                    let ann = records[line].id?;
                    let written = |r: &&Record| r.kind == Kind::Written && r.id != Some(ann);
                    let to = |record: &Record| record.id == Some(bob);
                    let all: Vec<_> = caused_at(records, line).filter(written).collect();
                    let (bobs, cleos): (Vec<_>, Vec<_>) = all.into_iter().partition(|r| to(r));
                    let taken: u32 = bobs.iter().map(|record| record.argument).sum();
                    let mut hers = 0;
                    let more = cleos.iter().find(|record| {
                        hers += record.argument;
                        hers > taken
                    })?;
                    (ann != bob).then_some(more.sequence)
                })?;
                Some([records[at].sequence, refused])
            },
        },
    ],
    rule: Rule {
        name: "3",
        file: "net/conn.rs",
        text: "A refused write takes nothing. The outbox never holds more than its limit.",
    },
    task: Task {
        text: "Let Bob read again, and let the loop go on until his outbox is empty.",
        is_done: |records| {
            above(records, high()).is_some_and(|(above, bob)| {
                let empty = |at, id, left: i64| at > above && id == bob && left == 0;
                let is_empty =
                    fold_unsent(records, |at, id, unsent| empty(at, id, unsent[&id]).then_some(()));
                is_empty.is_some()
            })
        },
    },
    lines: &[
        Line { name: "bob", what: What::Holds, meanwhile: false },
        Line { name: "ann", what: What::Pastes(16 << 20), meanwhile: false },
    ],
    is_timed: false,
    knobs: &[],
    acts: &[],
    code: code_of!(a_slow_reader),
};

/// From so many bytes on, `write` returns `AboveHigh`.
fn high() -> usize {
    Limits::default().outbox_bytes_high
}

/// The first write by which more than so many bytes wait in an outbox, and its connection. The
/// server writes no other lines so large.
fn above(records: &[Record], bytes: usize) -> Option<(usize, Id)> {
    fold_unsent(records, |at, id, unsent| (unsent[&id] > bytes as i64).then_some((at, id)))
}
