//! The scenes: what each shows, what it asks, and how its records prove the answer.
//!
//! Each has two files: `scenes/` has its code, and `words/` its words.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};
use waterwheel::Context;
use waterwheel::inspect::Record;

use crate::room::Room;

/// The code of the scenes, each as the page shows it.
#[path = "scenes"]
pub mod code {
    pub mod a_slow_reader;
    pub mod help_from_outside;
    pub mod one_line;
    pub mod the_blocker;
    pub mod the_ghost;
    pub mod the_wheel;
    pub mod who_starves;
    pub mod why_wont_it_end;
    pub mod zero_is_not_now;
}

/// Their words.
#[path = "words"]
mod words {
    pub mod a_slow_reader;
    pub mod help_from_outside;
    pub mod one_line;
    pub mod the_blocker;
    pub mod the_ghost;
    pub mod the_wheel;
    pub mod three_at_once;
    pub mod who_starves;
    pub mod why_wont_it_end;
    pub mod zero_is_not_now;
}

/// In their order.
pub const ALL: &[Scene] = &[
    words::one_line::SCENE,
    words::three_at_once::SCENE,
    words::zero_is_not_now::SCENE,
    words::a_slow_reader::SCENE,
    words::the_wheel::SCENE,
    words::the_blocker::SCENE,
    words::who_starves::SCENE,
    words::the_ghost::SCENE,
    words::help_from_outside::SCENE,
    words::why_wont_it_end::SCENE,
];

/// One scene.
pub struct Scene {
    pub title: &'static str,
    pub minutes: u32,
    /// What happens, in a few sentences.
    pub intro: &'static str,
    /// What to watch.
    pub watch: &'static str,
    pub question: &'static str,
    pub answers: &'static [Choice],
    pub rule: Rule,
    pub task: Task,
    /// What the people do when the scene is played, in this order.
    pub lines: &'static [Line],
    /// True if the scene is about seconds: it is played at the real pace.
    pub is_timed: bool,
    pub knobs: &'static [Knob],
    pub acts: &'static [Act],
    pub code: Code,
}

/// An answer to choose.
pub struct Choice {
    pub text: &'static str,
    /// Why it is wrong; nothing for the right one.
    pub wrong: &'static str,
    /// Finds the two records that show it, by their numbers. Only the right one has any.
    pub proof: fn(&[Record]) -> Option<[u64; 2]>,
}

/// The rule that decides, as the head of a source file has it.
pub struct Rule {
    pub name: &'static str,
    pub file: &'static str,
    pub text: &'static str,
}

/// Something to do.
pub struct Task {
    pub text: &'static str,
    /// Returns true if the records show that it was done.
    pub is_done: fn(&[Record]) -> bool,
}

/// What somebody does.
pub struct Line {
    pub name: &'static str,
    pub what: What,
    /// True if it comes half a second after a callback has begun to compute.
    pub meanwhile: bool,
}

/// See [`Line`].
pub enum What {
    Says(&'static str),
    /// So many bytes.
    Pastes(usize),
    /// Stops reading.
    Holds,
}

/// A number that the page can change while the scene runs.
pub struct Knob {
    pub name: &'static str,
    pub label: &'static str,
    pub min: u64,
    pub max: u64,
    pub value: u64,
}

/// A button on the page.
pub struct Act {
    pub name: &'static str,
    pub label: &'static str,
    pub run: fn(&mut Context<Room>, &mut Room),
}

/// The file of the scene.
pub struct Code {
    pub file: &'static str,
    pub text: &'static str,
    /// Sets the loop up, and returns the address for the people.
    pub build: fn(&mut Context<Room>, &mut Room) -> io::Result<SocketAddr>,
}

/// The code of a scene, by the name of its module.
macro_rules! code_of {
    ($name:ident) => {
        crate::scene::Code {
            file: concat!("examples/tour/scenes/", stringify!($name), ".rs"),
            text: include_str!(concat!("../scenes/", stringify!($name), ".rs")),
            build: crate::scene::code::$name::build,
        }
    };
}
use code_of;

/// Says this, with the others.
const fn says(name: &'static str, text: &'static str) -> Line {
    Line { name, what: What::Says(text), meanwhile: false }
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

impl Line {
    /// As the page shows it.
    fn as_json(&self) -> Value {
        match self.what {
            What::Says(text) => json!([self.name, text]),
            What::Pastes(bytes) => json!([self.name, format!("{} MiB", bytes >> 20), "pastes"]),
            What::Holds => json!([self.name, "", "stops reading"]),
        }
    }
}

/// The scenes as the page gets them.
pub fn all_as_json() -> Value {
    // The page shows words, and no marks of code.
    let plain = |text: &str| text.replace('`', "");
    let scenes = ALL.iter().enumerate().map(|(at, scene)| {
        let knobs = scene.knobs.iter().map(|Knob { name, label, min, max, value }| {
            json!({ "name": name, "label": label, "min": min, "max": max, "value": value })
        });
        let acts = scene.acts.iter().map(|act| json!({ "name": act.name, "label": act.label }));
        json!({
            "n": at + 1,
            "title": scene.title,
            "minutes": scene.minutes,
            "intro": plain(scene.intro),
            "watch": plain(scene.watch),
            "question": plain(scene.question),
            "answers": scene.answers.iter().map(|answer| plain(answer.text)).collect::<Vec<_>>(),
            "wrong": scene.answers.iter().map(|answer| plain(answer.wrong)).collect::<Vec<_>>(),
            "right": scene.right(),
            "rule": scene.rule.name,
            "rule_file": scene.rule.file,
            "rule_text": plain(scene.rule.text),
            "task": plain(scene.task.text),
            "lines": scene.lines.iter().map(Line::as_json).collect::<Vec<_>>(),
            "real_pace": scene.is_timed,
            "knobs": knobs.collect::<Vec<_>>(),
            "acts": acts.collect::<Vec<_>>(),
            "file": scene.code.file,
        })
    });
    scenes.collect()
}
