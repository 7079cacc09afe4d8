//! Where a student sits: the chapters, how far they are, the job that runs, and who is told of it.
//!
//! Knows jobs, progress and pages; nothing of HTTP.
//!
//! # Read next
//! `serve.rs`: the page. `terminal.rs`: the same without one.

use std::fs;
use std::time::SystemTime;

use serde_json::{Value, json};
use waterwheel::Context;
use waterwheel::protocols::http::{Sender, SseEvent};

use crate::book::{self, Chapter};
use crate::job::{self, Job, Kind};
use crate::progress::{self, Mark, Progress};
use crate::quiz::{self, Quiz};
use crate::report::Verdict;
use crate::terminal;
use crate::tour::Tour;

/// The most lines of a job that a page gets that comes later.
const LINES_KEPT: usize = 2000;

/// What a job has to say.
pub enum Told<'a> {
    Begins(Kind, &'a Chapter),
    Line(&'a str),
}

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A terminal, for one job.
    Terminal,
    /// Pages; the terminal gets a line for each job.
    Pages,
}

pub struct Desk {
    pub chapters: Vec<Chapter>,
    pub quizzes: Vec<Quiz>,
    pub progress: Progress,
    pub audience: Audience,
    pub job: Option<Job>,
    /// Jobs so far.
    pub jobs: u64,
    /// The exit code, once it is known.
    pub code: i32,
    pub pages: Vec<Sender>,
    /// The chapter that is open.
    pub at: u32,
    /// The latest verdict of each chapter's check.
    verdicts: Vec<(u32, Verdict)>,
    /// The last job's lines.
    lines: Vec<String>,
    /// When the file of the open chapter was written last.
    written: Option<(u32, SystemTime)>,
    pub tour: Tour,
    /// The verdict of a check for a teacher.
    pub certified: Option<Verdict>,
}

impl Desk {
    /// `said` is what was wrong with the progress, if anything was.
    pub fn new(audience: Audience) -> (Desk, Option<String>) {
        let (progress, said) = Progress::read(book::course().join(".progress"));
        let chapters = book::chapters();
        let desk = Desk {
            at: 1,
            chapters,
            quizzes: quiz::quizzes(),
            progress,
            audience,
            job: None,
            jobs: 0,
            code: 0,
            pages: Vec::new(),
            verdicts: Vec::new(),
            lines: Vec::new(),
            written: None,
            tour: Tour::default(),
            certified: None,
        };
        (desk, said)
    }

    /// The chapter of that number, or the question of a quiz.
    pub fn chapter(&self, number: u32) -> Option<Chapter> {
        let questions = self.quizzes.iter().flat_map(|quiz| &quiz.questions);
        self.chapters.iter().chain(questions).find(|chapter| chapter.number == number).cloned()
    }

    pub fn quiz(&self, number: u32) -> Option<&Quiz> {
        self.quizzes.iter().find(|quiz| quiz.number == number)
    }

    pub fn tell(&mut self, reactor: &mut Context<Desk>, told: Told<'_>) {
        match told {
            Told::Begins(kind, chapter) => {
                self.lines.clear();
                if self.audience == Audience::Pages {
                    self.show(
                        reactor,
                        "begins",
                        &json!({ "kind": kind.word(), "chapter": chapter.number }),
                    );
                }
            }
            Told::Line(line) => {
                if self.audience == Audience::Terminal {
                    terminal::line(line, self.job.as_ref());
                } else {
                    self.show(reactor, "line", &json!(line));
                }
                if self.lines.len() < LINES_KEPT {
                    self.lines.push(line.to_owned());
                }
            }
        }
    }

    /// Sends each page an event. One that does not read is let go; it asks again when it comes back.
    pub fn show(&mut self, reactor: &mut Context<Desk>, name: &str, value: &Value) {
        let text = value.to_string();
        let event = SseEvent::data(&text).event(name);
        self.pages.retain(|page| page.is_open(reactor) && page.event(reactor, &event).is_taken());
    }

    /// Changes what is known of a chapter; that it cannot be written is said, and no more.
    pub fn mark(
        &mut self,
        reactor: &mut Context<Desk>,
        chapter: u32,
        change: impl FnOnce(&mut Mark),
    ) {
        if let Err(error) = self.progress.change(chapter, change) {
            self.tell(reactor, Told::Line(&format!("your progress is not kept: {error}")));
        }
    }

    /// A job is over.
    pub fn is_over(&mut self, reactor: &mut Context<Desk>, job: &Job, verdict: Verdict) {
        let (number, passed) = (job.chapter.number, verdict.passed);
        match job.kind {
            Kind::Check => self.mark(reactor, number, |mark| {
                mark.checks += 1;
                if passed {
                    mark.passed.get_or_insert_with(progress::now);
                }
            }),
            Kind::Predict => {
                let answer =
                    job.said().lines().last().and_then(|line| line.strip_prefix("answer: "));
                let answer = answer.and_then(|answer| answer.chars().next());
                self.mark(reactor, number, |mark| mark.answer = answer.or(mark.answer));
            }
            Kind::Run | Kind::Break | Kind::Certify => {}
        }
        let mark = self.progress.mark(number);
        terminal::over(self.audience, job, &verdict, &mark);
        if self.audience == Audience::Terminal {
            self.code = i32::from(!verdict.passed);
            reactor.stop();
            return;
        }
        let note = note(&job.chapter, &verdict);
        let event =
            json!({ "kind": job.kind.word(), "chapter": number, "verdict": of(&verdict, &note) });
        if job.kind == Kind::Check {
            self.verdicts.retain(|(of, _)| *of != number);
            self.verdicts.push((number, verdict));
        }
        self.show(reactor, "over", &event);
        let state = self.state();
        self.show(reactor, "state", &state);
    }

    /// All that a page shows beside the text.
    pub fn state(&self) -> Value {
        let kept = book::kept();
        let chapter = |chapter: &Chapter| {
            let mark = self.progress.mark(chapter.number);
            let verdict = self.verdicts.iter().find(|(number, _)| *number == chapter.number);
            json!({
                "number": chapter.number,
                "title": chapter.title,
                "label": chapter.label,
                "minutes": chapter.minutes,
                "spent": mark.minutes(),
                "file": chapter.shown(),
                "line": chapter.first_line(),
                "untouched": chapter.is_untouched(),
                "options": chapter.options.iter().map(|(l, t)| json!([l.to_string(), t])).collect::<Vec<_>>(),
                "hints": chapter.hints.len(),
                "shown": chapter.hints.iter().take(mark.hints).collect::<Vec<_>>(),
                "questions": chapter.questions.iter().map(|q| q.path.as_str()).collect::<Vec<_>>(),
                "scene": chapter.scene,
                "kept": kept.contains(&chapter.number),
                "verdict": verdict.map(|(_, verdict)| of(verdict, &note(chapter, verdict))),
                "mark": mark.json(),
            })
        };
        let question = |one: &Chapter| {
            let letters: Vec<_> =
                one.options.iter().map(|(letter, _)| letter.to_string()).collect();
            let mark = self.progress.mark(one.number);
            let because = one.quiz.and_then(|(quiz, number)| quiz::because(quiz, number));
            json!({
                "number": one.number,
                "options": letters,
                "because": because.filter(|_| mark.answer.is_some()),
                "mark": mark.json(),
            })
        };
        let quiz = |quiz: &Quiz| {
            json!({
                "number": quiz.number,
                "title": quiz.title,
                "label": quiz.label,
                "after": quiz.after,
                "questions": quiz.questions.iter().map(question).collect::<Vec<_>>(),
            })
        };
        json!({
            "quizzes": self.quizzes.iter().map(quiz).collect::<Vec<_>>(),
            "chapters": self.chapters.iter().map(chapter).collect::<Vec<_>>(),
            "at": self.at,
            "tour": self.tour.url,
            "job": self.job.as_ref().map(|job| json!({ "kind": job.kind.word(), "chapter": job.chapter.number })),
            "lines": self.lines,
        })
    }

    /// Looks whether the file of the open chapter was written, and checks it then.
    pub fn watch(&mut self, reactor: &mut Context<Desk>) {
        let Some(chapter) = self.chapter(self.at) else { return };
        let Ok(time) = fs::metadata(chapter.path()).and_then(|about| about.modified()) else {
            return;
        };
        let now = Some((chapter.number, time));
        let before = std::mem::replace(&mut self.written, now);
        let is_new =
            before.is_some_and(|(number, before)| number == chapter.number && before != time);
        // A server that the student runs is not ended by a keystroke.
        let is_busy = self.job.as_ref().is_some_and(|job| job.kind == Kind::Run);
        if is_new && !is_busy {
            job::start(reactor, self, Kind::Check, &chapter);
        }
    }

    /// Opens a chapter.
    pub fn open(&mut self, number: u32) {
        (self.at, self.written) = (number, None);
        self.progress.work(number, progress::now());
    }
}

/// What is said under a verdict.
pub fn note(chapter: &Chapter, verdict: &Verdict) -> String {
    if verdict.passed {
        let next = book::chapters().into_iter().map(|other| other.number);
        let next = next.filter(|number| *number > chapter.number).min();
        let then = "It passes. Then: run it, break it, read the real one";
        return match next {
            Some(next) => format!("{then}; chapter {next} waits."),
            None => format!("{then}. It is the last chapter."),
        };
    }
    if chapter.is_untouched() {
        let (line, file) = (chapter.first_line(), chapter.shown());
        return format!(
            "This is meant to fail: nothing is written yet. Line {line} of {file} is yours."
        );
    }
    String::new()
}

fn of(verdict: &Verdict, note: &str) -> Value {
    json!({
        "passed": verdict.passed,
        "test": verdict.test,
        "sentence": verdict.sentence,
        "more": verdict.more,
        "tests": verdict.tests,
        "note": note,
    })
}
