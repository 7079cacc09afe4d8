//! `cargo learn`: the course, in a browser or in a terminal.
//!
//! A program of this library: a loop that serves a page, watches a file, and runs a check as a child
//! with a ceiling. Chapter 16 reads it.
//!
//! # Read next
//! `book.rs`: what a chapter has. `job.rs`: a check that may do anything and does no harm.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;
use waterwheel::Reactor;
use waterwheel::process::Signal;

mod book;
mod certify;
mod desk;
mod export;
mod job;
mod progress;
mod quiz;
mod render;
mod report;
mod serve;
mod terminal;
mod tour;

use book::Chapter;
use desk::{Audience, Desk};
use job::Kind;
use terminal::print;

const USAGE: &str = "\
Usage: cargo learn [N]                 the course in a browser, chapter N open
       cargo learn N --predict [ANSWER]  the question of chapter N; then what the program does
       cargo learn N --check           is the file right?
       cargo learn N --run             your file as a server, for a real client; Ctrl-C ends it
       cargo learn N --break           the attack of chapter N
       cargo learn N --hint            the next hint
       cargo learn N --read Q LINE     is LINE the answer to question Q?
       cargo learn quiz Q              the questions of quiz Q, one after the other
       cargo learn quiz Q N ANSWER     your answer to question N; then what the program does
       cargo learn list                the chapters, and how far you are
       cargo learn reset N             the file as it was; yours is kept beside it
       cargo learn keep [N...]         later chapters use your files that pass their checks
       cargo learn keep --off          they use ours again
       cargo learn certify [FOLDER]    all checks, in a fresh folder, on the files of the course
                                       in FOLDER (default: this one)
       cargo learn --export FOLDER     the course as a static site

Exit code: 0; 1 if a check fails; 2 if the words are wrong.

Options:
  --port PORT     the page listens on this port (default: one that is free)
  -h, --help      show this";

#[derive(Debug, PartialEq)]
enum Act {
    Serve(Option<u32>, u16),
    Job(Kind, u32),
    Predict(u32, Option<char>),
    Quiz(u32, Option<(u32, char)>),
    Hint(u32),
    Read(u32, usize, usize),
    List,
    Reset(u32),
    Keep(Vec<u32>),
    KeepNone,
    Certify(Option<PathBuf>),
    Export(PathBuf),
    Help,
}

fn main() -> ExitCode {
    let (mut desk, said) = Desk::new(Audience::Terminal);
    let act = match parse(lexopt::Parser::from_env()) {
        Ok(act) => act,
        Err(why) => return wrong(&why),
    };
    if let Some(number) = act.chapter()
        && desk.chapter(number).is_none()
    {
        let numbers: Vec<_> = desk.chapters.iter().map(|c| c.number.to_string()).collect();
        return wrong(&format!("there is no chapter {number}, only {}", numbers.join(", ")));
    }
    if let Some(said) = said {
        eprintln!("{said}");
    }
    match carry_out(&mut desk, act) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wrong(why: &str) -> ExitCode {
    eprintln!("error: {why}; try --help");
    ExitCode::from(2)
}

impl Act {
    fn chapter(&self) -> Option<u32> {
        match self {
            Act::Serve(number, _) => *number,
            Act::Job(_, number)
            | Act::Predict(number, _)
            | Act::Hint(number)
            | Act::Read(number, ..)
            | Act::Reset(number) => Some(*number),
            Act::Keep(numbers) => numbers.first().copied(),
            _ => None,
        }
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Act, String> {
    let text = |error: lexopt::Error| error.to_string();
    let (mut words, mut flag, mut port, mut export) = (Vec::new(), None, None, None);
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Short('h') | Long("help") => return Ok(Act::Help),
            Long("port") => {
                let value = parser.value().map_err(text)?;
                port = Some(value.parse::<u16>().map_err(|error| error.to_string())?);
            }
            Long("export") => export = Some(PathBuf::from(parser.value().map_err(text)?)),
            Long(name @ ("check" | "predict" | "run" | "break" | "hint" | "read" | "off")) => {
                if let Some(before) = flag.replace(name.to_owned()) {
                    return Err(format!("one thing at a time, and not --{before} as well"));
                }
                if let Some(value) = parser.optional_value() {
                    words.push(value.string().map_err(text)?);
                }
            }
            Value(value) => words.push(value.string().map_err(text)?),
            _ => return Err(arg.unexpected().to_string()),
        }
    }
    let flag = flag.as_deref();
    if let Some(folder) = export {
        return if flag.is_none() && words.is_empty() {
            Ok(Act::Export(folder))
        } else {
            Err("--export stands alone".to_owned())
        };
    }
    let act = of_words(&words.iter().map(String::as_str).collect::<Vec<_>>(), flag, port)?;
    if port.is_some() && !matches!(act, Act::Serve(..)) {
        return Err("--port is for the page".to_owned());
    }
    Ok(act)
}

fn parse_number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is no number"))
}

fn letter(answer: &str) -> Result<char, String> {
    let mut letters = answer.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => Ok(letter),
        _ => Err(format!("an answer is one letter, not {answer:?}")),
    }
}

fn of_words(words: &[&str], flag: Option<&str>, port: Option<u16>) -> Result<Act, String> {
    let number = |word: &str| word.parse().map_err(|_| format!("{word:?} is no chapter"));
    Ok(match (words, flag) {
        ([], None) => Act::Serve(None, port.unwrap_or(0)),
        (["list"], None) => Act::List,
        (["reset", chapter], None) => Act::Reset(number(chapter)?),
        (["reset"], _) => return Err("which chapter is to be reset?".to_owned()),
        (["quiz", quiz], None) => Act::Quiz(parse_number(quiz)?, None),
        (["quiz", quiz, question, answer], None) => {
            Act::Quiz(parse_number(quiz)?, Some((parse_number(question)?, letter(answer)?)))
        }
        (["quiz", ..], _) => return Err("which quiz, or which question and answer?".to_owned()),
        (["keep"], Some("off")) => Act::KeepNone,
        (["keep", rest @ ..], None) => {
            Act::Keep(rest.iter().copied().map(number).collect::<Result<_, _>>()?)
        }
        (["certify"], None) => Act::Certify(None),
        (["certify", folder], None) => Act::Certify(Some(PathBuf::from(folder))),
        ([chapter], None) => Act::Serve(Some(number(chapter)?), port.unwrap_or(0)),
        ([chapter], Some("check")) => Act::Job(Kind::Check, number(chapter)?),
        ([chapter], Some("run")) => Act::Job(Kind::Run, number(chapter)?),
        ([chapter], Some("break")) => Act::Job(Kind::Break, number(chapter)?),
        ([chapter], Some("hint")) => Act::Hint(number(chapter)?),
        ([chapter], Some("predict")) => Act::Predict(number(chapter)?, None),
        ([chapter, answer], Some("predict")) => {
            Act::Predict(number(chapter)?, Some(letter(answer)?))
        }
        ([chapter, question, line], Some("read")) => {
            Act::Read(number(chapter)?, parse_number(question)?, parse_number(line)?)
        }
        (_, Some("read")) => return Err("--read wants a question and a line".to_owned()),
        ([], Some(flag)) => return Err(format!("--{flag} of which chapter?")),
        _ => return Err(format!("what is {:?}?", words.join(" "))),
    })
}

fn carry_out(desk: &mut Desk, act: Act) -> io::Result<u8> {
    let chapter = act.chapter().and_then(|number| desk.chapter(number));
    match (act, chapter) {
        (Act::Help, _) => print(USAGE),
        (Act::List, _) => print(&terminal::list(&desk.chapters, &desk.quizzes, &desk.progress)),
        (Act::Serve(_, port), chapter) => {
            desk.audience = Audience::Pages;
            if let Some(chapter) = chapter {
                desk.open(chapter.number);
            }
            return serve::run(desk, port).map(|()| 0);
        }
        (Act::Job(kind, _), Some(chapter)) => return work(desk, kind, &chapter),
        (Act::Predict(_, answer), Some(chapter)) => return predict(desk, &chapter, answer),
        (Act::Quiz(number, answer), _) => return take_quiz(desk, number, answer),
        (Act::Hint(_), Some(chapter)) => hint(desk, &chapter)?,
        (Act::Read(_, question, line), Some(chapter)) => {
            let (is_right, said) = chapter.mark_line(question, line);
            if is_right {
                desk.progress.change(chapter.number, |mark| mark.has_read(question))?;
            }
            print(&said);
            return Ok(u8::from(!is_right));
        }
        (Act::Reset(_), Some(chapter)) => {
            let file = chapter.shown();
            match chapter.reset()? {
                Some(old) => print(&format!("{file} is as it was. Yours is beside it: {old}.")),
                None => print(&format!("{file} is as it was; nothing was written in it.")),
            }
        }
        (Act::Keep(numbers), _) => return keep(desk, &numbers),
        (Act::KeepNone, _) => {
            book::keep(&[])?;
            print("Later chapters use our solutions again.");
        }
        (Act::Certify(folder), _) => return certify::run(&desk.chapters, folder),
        (Act::Export(folder), _) => {
            return export::run(&desk.chapters, &desk.quizzes, &folder).map(|()| 0);
        }
        _ => unreachable!("the chapter was looked up"),
    }
    Ok(0)
}

/// One job in the terminal, and its exit code.
fn work(desk: &mut Desk, kind: Kind, chapter: &Chapter) -> io::Result<u8> {
    let mut reactor = Reactor::new()?;
    for signal in [Signal::INT, Signal::TERM] {
        reactor.on_signal(signal, move |reactor, desk: &mut Desk, _| {
            job::stop(reactor, desk);
            desk.code = 128 + signal.as_raw();
            reactor.stop();
        })?;
    }
    let number = chapter.number;
    desk.open(number);
    let chapter = chapter.clone();
    reactor.defer(move |reactor, desk: &mut Desk| job::start(reactor, desk, kind, &chapter));
    reactor.run(desk)?;
    Ok(u8::try_from(desk.code).unwrap_or(1))
}

fn predict(desk: &mut Desk, chapter: &Chapter, answer: Option<char>) -> io::Result<u8> {
    let answer = match answer {
        Some(answer) => answer,
        None => {
            print(&terminal::question(chapter));
            if !io::stdin().is_terminal() {
                return Ok(0);
            }
            print!("Your answer now: ");
            io::stdout().flush()?;
            let mut line = String::new();
            io::stdin().read_line(&mut line)?;
            let Some(answer) = line.trim().chars().next() else { return Ok(0) };
            answer
        }
    };
    if !chapter.options.iter().any(|(letter, _)| *letter == answer) {
        let letters: Vec<_> = chapter.options.iter().map(|(l, _)| l.to_string()).collect();
        eprintln!("error: there is no answer {answer:?}, only {}", letters.join(", "));
        return Ok(2);
    }
    desk.progress.change(chapter.number, |mark| mark.predicts(answer))?;
    work(desk, Kind::Predict, chapter)
}

/// One answer, or all questions in a row.
fn take_quiz(desk: &mut Desk, number: u32, answer: Option<(u32, char)>) -> io::Result<u8> {
    let Some(quiz) = desk.quiz(number).cloned() else {
        let numbers: Vec<_> = desk.quizzes.iter().map(|quiz| quiz.number.to_string()).collect();
        eprintln!("error: there is no quiz {number}, only {}", numbers.join(", "));
        return Ok(2);
    };
    let all = quiz.questions.len();
    if let Some((question, letter)) = answer {
        let at = usize::try_from(question).ok().and_then(|question| question.checked_sub(1));
        let Some(chapter) = at.and_then(|at| quiz.questions.get(at)) else {
            eprintln!("error: there is no question {question}, only 1 to {all}");
            return Ok(2);
        };
        return predict(desk, chapter, Some(letter));
    }
    print(&format!("{}\n", quiz.title));
    for chapter in &quiz.questions {
        let code = predict(desk, chapter, None)?;
        if code != 0 {
            return Ok(code);
        }
        print("");
    }
    let (answered, right) = quiz.score(&desk.progress);
    print(&format!("{answered} of {all} answered, {right} of them right."));
    Ok(0)
}

fn hint(desk: &mut Desk, chapter: &Chapter) -> io::Result<()> {
    let all = chapter.hints.len();
    let seen = desk.progress.mark(chapter.number).hints.min(all);
    let now = (seen + 1).min(all);
    for (number, hint) in chapter.hints.iter().enumerate().take(now).skip(now.saturating_sub(1)) {
        print(&format!("Hint {} of {all}: {hint}", number + 1));
    }
    if seen == all {
        print("That was the last one. What would help now is to read the check, or the solution.");
    }
    desk.progress.change(chapter.number, |mark| mark.hints = now)
}

/// Keeps those that pass; all that are written if none is named.
fn keep(desk: &mut Desk, numbers: &[u32]) -> io::Result<u8> {
    if let Some(unknown) = numbers.iter().find(|number| desk.chapter(**number).is_none()) {
        eprintln!("error: there is no chapter {unknown}");
        return Ok(2);
    }
    let mut wanted: Vec<Chapter> = desk.chapters.clone();
    wanted.retain(|chapter| {
        if numbers.is_empty() { !chapter.is_untouched() } else { numbers.contains(&chapter.number) }
    });
    if wanted.is_empty() {
        print("You have written no file yet.");
        return Ok(1);
    }
    let before = book::kept();
    let (mut kept, mut code) = (before.clone(), 0);
    // Each is checked by itself, with our solutions below it.
    book::keep(&[])?;
    for chapter in wanted {
        kept.retain(|number| *number != chapter.number);
        match work(desk, Kind::Check, &chapter) {
            Ok(0) => kept.push(chapter.number),
            Ok(1) => code = 1,
            Ok(other) => {
                book::keep(&before)?;
                return Ok(other);
            }
            Err(error) => {
                book::keep(&before)?;
                return Err(error);
            }
        }
    }
    kept.sort_unstable();
    book::keep(&kept)?;
    let kept: Vec<_> = kept.iter().map(u32::to_string).collect();
    print(&match kept.as_slice() {
        [] => "None of your files is kept.".to_owned(),
        kept => format!("Later chapters use your file of chapter {}.", kept.join(", ")),
    });
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(words: &str) -> Result<Act, String> {
        parse(lexopt::Parser::from_args(words.split_whitespace()))
    }

    #[test]
    fn what_people_type_is_understood() {
        assert_eq!(act(""), Ok(Act::Serve(None, 0)));
        assert_eq!(act("6 --port 7100"), Ok(Act::Serve(Some(6), 7100)));
        assert_eq!(act("06"), Ok(Act::Serve(Some(6), 0)));
        for words in ["6 --check", "--check 6"] {
            assert_eq!(act(words), Ok(Act::Job(Kind::Check, 6)));
        }
        assert_eq!(act("6 --predict"), Ok(Act::Predict(6, None)));
        for words in ["6 --predict b", "6 --predict=b"] {
            assert_eq!(act(words), Ok(Act::Predict(6, Some('b'))));
        }
        assert_eq!(act("6 --read 1 42"), Ok(Act::Read(6, 1, 42)));
        assert_eq!(act("quiz 1"), Ok(Act::Quiz(1, None)));
        assert_eq!(act("quiz 1 3 b"), Ok(Act::Quiz(1, Some((3, 'b')))));
        assert_eq!(act("keep"), Ok(Act::Keep(vec![])));
        assert_eq!(act("keep 1 2"), Ok(Act::Keep(vec![1, 2])));
        assert_eq!(act("keep --off"), Ok(Act::KeepNone));
        assert_eq!(act("certify x"), Ok(Act::Certify(Some("x".into()))));
        assert_eq!(act("--export x"), Ok(Act::Export("x".into())));
        assert_eq!(act("6 --help"), Ok(Act::Help));
    }

    #[test]
    fn what_nobody_understands_is_refused_in_one_sentence() {
        for words in [
            "--check",
            "six",
            "6 7",
            "6 --check --run",
            "6 --predict ab",
            "6 --read 1",
            "6 --read x y",
            "quiz",
            "quiz x",
            "quiz 1 2",
            "quiz 1 2 bc",
            "quiz 1 --check",
            "reset",
            "--port",
            "--port x",
            "--port 70000",
            "6 --check --port 1",
            "--export x 6",
            "--nothing",
            "-1",
        ] {
            let why = act(words).expect_err(words);
            assert!(!why.contains('\n') && !why.is_empty(), "{words}: {why}");
        }
    }
}
