//! The course in a terminal alone.
//!
//! Knows what a verdict looks like as text.

use std::io::{self, IsTerminal, Write};

use crate::book::{self, Chapter, step};
use crate::desk::{Audience, note};
use crate::job::{Job, Kind};
use crate::progress::{Mark, Progress};
use crate::quiz::{self, Quiz};
use crate::report::Verdict;

/// Prints; that nobody reads any more is no error of ours.
pub fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A line of a job. What is not the program's own goes to stderr, and the lines of a check are in its
/// verdict.
pub fn line(text: &str, job: Option<&Job>) {
    if !job.is_some_and(Job::is_built) {
        let _ = writeln!(io::stderr(), "  {text}"); // As in `print`.
    } else if !job.is_some_and(|job| job.kind.is_check()) {
        print(text);
    }
}

fn sentence(name: &str) -> String {
    name.replace('_', " ")
}

/// What is to be read when a job is over.
pub fn over(audience: Audience, job: &Job, verdict: &Verdict, mark: &Mark) {
    if audience == Audience::Pages {
        let how = if verdict.passed { "✓" } else { "✗" };
        let test =
            if verdict.passed { String::new() } else { format!(" {}", sentence(&verdict.test)) };
        let first = verdict.sentence.lines().next().unwrap_or_default();
        let first = if first.is_empty() { String::new() } else { format!(": {first}") };
        return print(&format!("{} {} {how}{test}{first}", job.kind.word(), job.chapter.number));
    }
    match job.kind {
        Kind::Check | Kind::Certify => print(&check(&job.chapter, verdict)),
        Kind::Predict => {
            print(&prediction(mark));
            let because = job.chapter.quiz.and_then(|(quiz, number)| quiz::because(quiz, number));
            because.into_iter().for_each(print);
        }
        Kind::Run | Kind::Break if !verdict.sentence.is_empty() => print(&verdict.sentence),
        Kind::Run | Kind::Break => {}
    }
}

fn paint(text: &str, colour: u8) -> String {
    if io::stdout().is_terminal() {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

fn check(chapter: &Chapter, verdict: &Verdict) -> String {
    let mut text = format!("{}\n\n", chapter.title);
    for (name, passed) in &verdict.tests {
        let (mark, colour) = match passed {
            Some(true) => ("✓", 32),
            Some(false) => ("✗", 31),
            None => ("·", 90),
        };
        text += &format!("  {} {}\n", paint(mark, colour), sentence(name));
    }
    if !verdict.tests.is_empty() {
        text.push('\n');
    }
    if !verdict.sentence.is_empty() {
        if !verdict.test.is_empty() {
            text += &format!("{}:\n", paint(&sentence(&verdict.test), 31));
        }
        text += &format!("{}\n", verdict.sentence);
        if verdict.more > 0 {
            text += &format!("and {} more.\n", verdict.more);
        }
        text.push('\n');
    }
    let note = note(chapter, verdict);
    if note.is_empty() {
        return format!("{text}A hint: cargo learn {} --hint", chapter.number);
    }
    text + &note
}

fn prediction(mark: &Mark) -> String {
    match (mark.predicted, mark.answer) {
        (Some((yours, _)), Some(answer)) if yours == answer => {
            format!("You said {yours}, and so it is.")
        }
        (Some((yours, _)), Some(answer)) => format!("You said {yours}; it is {answer}. Why?"),
        _ => "The program gave no answer.".to_owned(),
    }
}

/// The question of a chapter, and its options.
pub fn question(chapter: &Chapter) -> String {
    let (text, how) = match chapter.quiz {
        Some((of, number)) => {
            (quiz::asked(of, number).unwrap_or_default(), format!("quiz {of} {number} a"))
        }
        None => (
            step(chapter.given("README.md"), "Predict").trim(),
            format!("{} --predict a", chapter.number),
        ),
    };
    format!(
        "{}\n\n{text}\n\nYour answer, before it runs; if it is a: cargo learn {how}",
        chapter.title
    )
}

/// The chapters, and how far one is.
pub fn list(chapters: &[Chapter], quizzes: &[Quiz], progress: &Progress) -> String {
    let kept = book::kept();
    let mut text = String::new();
    for chapter in chapters {
        let mark = progress.mark(chapter.number);
        let how = if mark.passed.is_some() {
            "✓"
        } else if chapter.is_untouched() {
            " "
        } else {
            "…"
        };
        let spent = match mark.minutes() {
            0 => String::new(),
            minutes => format!(", {minutes} spent"),
        };
        let kept = if kept.contains(&chapter.number) { ", your file is kept" } else { "" };
        text += &format!("{how} {:<56} {} minutes{spent}{kept}\n", chapter.title, chapter.minutes);
        for quiz in quizzes.iter().filter(|quiz| quiz.after == chapter.number) {
            text += &format!("{}\n", quiz.line(progress));
        }
    }
    text.trim_end().to_owned()
}
