//! Scene 5: a level of the timer wheel is a digit, and not a distance.

use waterwheel::inspect::Record;
use waterwheel::reactor::Kind;

use crate::proof::{find, find_back, is_turn, level, place_of, three_armed};
use crate::scene::{Choice, Knob, Rule, Scene, Task, code_of, says};

pub const SCENE: Scene = Scene {
    title: "The wheel",
    minutes: 5,
    intro: "We count ticks from a round one. When the hand stands at 70, a callback arms three \
            timers: one for 127, one for 130, and one for 190. A slot of level 0 is 1 ms long, and \
            the level has 64 slots.",
    watch: "The timer of 190: it comes down to level 0 when the timer of 130 expires. Does the \
            timer of 130 come down before it expires?",
    question: "127 is 57 ms ahead of the hand, and 130 is 60 ms ahead. Are both on level 0?",
    answers: &[
        Choice {
            text: "Yes: both are less than 64 ms ahead.",
            wrong: "A level is not a distance. In base 64 the hand is 1·64 + 6. 127 is 1·64 + 63: \
                    it differs in the last digit, level 0. 130 is 2·64 + 2: it differs in the \
                    digit before, level 1.",
            proof: |records| pair(records, |near, far| near == 0 && far == 0),
        },
        Choice {
            text: "No: 130 is on level 1. At 128 the loop wakes, and moves it to level 0.",
            wrong: "The loop does not wake for that. It sleeps until the nearest deadline: the \
                    timer of 130 expires from level 1.",
            // It wakes in the slot of 130 before 130, and nothing has happened.
            proof: |records| {
                let [_, armed] = pair(records, |near, far| near == 0 && far == 1)?;
                let from = place_of(records, armed)?;
                let tick = records[from].argument;
                let in_slot = |r: &Record| {
                    r.kind == Kind::Stamped && (tick & !63..tick).contains(&r.argument)
                };
                let (at, stamped) = find(records, from, in_slot)?;
                let (_, wait) = find_back(records, at, |r| r.kind == Kind::Wait)?;
                let is_idle = records.get(at + 1).is_none_or(is_turn);
                (is_idle && wait.argument > 0).then_some([armed, stamped.sequence])
            },
        },
        Choice {
            text: "No: 127 is on level 0. 130 is on level 1, and expires from there.",
            wrong: "",
            proof: |records| pair(records, |near, far| near == 0 && far == 1),
        },
    ],
    rule: Rule {
        name: "the hand",
        file: "timers/wheel.rs",
        text: "The hand is the tick that the wheel has reached. Compare a deadline with it, both \
               in base 64: the place of the highest digit that differs is the level, its value the \
               slot.",
    },
    task: Task {
        text: "Choose a delay for the third timer so that it is on level 2, and let Ann type again.",
        is_done: |records| {
            three_armed(records).any(|(hand, timers)| level(hand, timers[2].argument) == 2)
        },
    },
    lines: &[says("ann", "arm them")],
    is_timed: false,
    knobs: &[Knob {
        name: "delay_ms",
        label: "Delay of the third timer, in ms",
        min: 1,
        max: 10_000,
        value: 120,
    }],
    acts: &[],
    code: code_of!(the_wheel),
};

/// The first two of three timers that one callback has armed, both less than 64 ticks ahead of the
/// hand, if their levels fit.
fn pair(records: &[Record], fits: impl Fn(u32, u32) -> bool) -> Option<[u64; 2]> {
    three_armed(records).find_map(|(hand, [near, far, _])| {
        let is_near = |timer: &Record| timer.argument.wrapping_sub(hand) < 64;
        let levels = (level(hand, near.argument), level(hand, far.argument));
        (is_near(near) && is_near(far) && fits(levels.0, levels.1))
            .then_some([near.sequence, far.sequence])
    })
}
