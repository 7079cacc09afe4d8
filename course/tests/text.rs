//! The text: no line of code in it that is not compiled or compared, no word before its chapter, and
//! the same order of steps in each chapter.
//!
//! A block of code says where it is from: `rust of=PATH fn=NAME` is that function, whole;
//! `signature=NAME` its first line; `item=NAME` a type, a constant or a trait; and `of=PATH` alone a
//! whole file. Paths begin at the top of the repository. `text` is a picture, and `console` has
//! commands, with what they print if `run` stands behind it. `UPDATE=1` writes the blocks anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::chapters::{self, Text};

/// The steps of a chapter.
const STEPS: [&str; 8] = ["Predict", "Build", "Check", "Run", "Watch", "Break", "Read", "Extra"];
/// The most lines of a chapter's text.
const LINES_MAX: usize = 300;
/// The most lines of a solution, its contract included. Chapter 13 has the longest.
const SOLUTION_LINES_MAX: usize = 160;
/// Hints of a chapter; each says more.
const HINTS: usize = 3;

fn top() -> &'static Path {
    chapters::course().parent().unwrap()
}

fn source(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines of a block, and its first line's words.
struct Fence {
    line: usize,
    info: String,
    text: String,
}

fn fences(text: &str) -> Vec<Fence> {
    let (mut fences, mut open): (Vec<Fence>, Option<Fence>) = (Vec::new(), None);
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => fences.extend(open.take()),
            (None, Some(info)) => {
                open = Some(Fence { line: number + 1, info: info.to_owned(), text: String::new() });
            }
            (Some(fence), None) => fence.text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block does not end");
    fences
}

/// The item of that name, from its first line to the line that closes it, without its indentation.
fn item(path: &str, text: &str, what: &str, name: &str) -> String {
    let begins = |line: &str| {
        let line = line.trim_start();
        let kinds: &[&str] = if what == "item" {
            &["struct ", "enum ", "trait ", "const ", "static ", "type ", "impl ", "mod "]
        } else {
            &["fn "]
        };
        let rest = line.split_once("pub ").filter(|(before, _)| before.is_empty());
        let line = rest.map_or(line, |(_, rest)| rest);
        let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind));
        rest.and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let lines: Vec<&str> = text.lines().collect();
    let found: Vec<usize> = (0..lines.len()).filter(|line| begins(lines[*line])).collect();
    assert_eq!(found.len(), 1, "{path}: {what} {name} is there {} times", found.len());
    let indent = lines[found[0]].len() - lines[found[0]].trim_start().len();
    let (mut taken, mut depth, mut opened) = (String::new(), 0i32, false);
    for line in &lines[found[0]..] {
        let plain = line.get(indent.min(line.len())..).unwrap_or_default();
        if what == "signature" {
            taken.push_str(plain.trim_end_matches('{').trim_end());
            taken.push('\n');
            if line.ends_with('{') {
                break;
            }
            continue;
        }
        taken.push_str(&format!("{plain}\n"));
        for byte in line.bytes() {
            depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        }
        opened |= line.contains('{');
        if depth == 0 && (opened || line.ends_with(';')) {
            break;
        }
    }
    taken
}

/// What a block must be; `None` if nothing says.
fn wanted(chapter: &Text, fence: &Fence) -> Option<String> {
    let mut words = fence.info.split(' ');
    let language = words.next().unwrap();
    let keys: BTreeMap<_, _> = words.filter_map(|word| word.split_once('=')).collect();
    match language {
        "text" => None,
        "rust" => {
            let of = keys
                .get("of")
                .unwrap_or_else(|| panic!("{}: whose code? {}", chapter.name(), fence.info));
            let text = source(of);
            let part = ["fn", "signature", "item"]
                .into_iter()
                .find_map(|what| Some((what, *keys.get(what)?)));
            Some(part.map_or(text.clone(), |(what, name)| item(of, &text, what, name)))
        }
        "console" if fence.info == "console run" => {
            let command = fence.text.lines().next().and_then(|line| line.strip_prefix("$ "));
            let command = command.unwrap_or_else(|| panic!("{}: no command", chapter.name()));
            let ran =
                Command::new("sh").arg("-c").arg(command).current_dir(top()).output().unwrap();
            Some(format!("$ {command}\n{}", String::from_utf8_lossy(&ran.stdout)))
        }
        "console" => {
            for line in fence.text.lines().filter_map(|line| line.strip_prefix("$ ")) {
                known(chapter, line);
            }
            None
        }
        _ => panic!("{}: line {}: a block of {:?}", chapter.name(), fence.line, fence.info),
    }
}

/// That a command names something that is there.
fn known(chapter: &Text, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let manifest = fs::read_to_string(chapters::course().join("Cargo.toml")).unwrap();
    match &words[..] {
        ["cargo", "learn", number, ..] => {
            assert_eq!(*number, chapter.number.to_string(), "{}: {command}", chapter.name());
        }
        ["cargo", "run", "-p", "course", "--example", name] => {
            assert!(
                manifest.contains(&format!("name = \"{name}\"")),
                "{}: {command}",
                chapter.name()
            );
            assert!(
                name.ends_with(&format!("{:02}", chapter.number)),
                "{}: {command}",
                chapter.name()
            );
        }
        _ => {} // A client: the reader has it, or the text says how to get it.
    }
}

#[test]
fn each_block_of_code_is_what_its_source_says() {
    for chapter in chapters::texts() {
        let mut text = chapter.text.clone();
        for fence in fences(&chapter.text) {
            let Some(wanted) = wanted(&chapter, &fence) else { continue };
            if fence.text == wanted {
                continue;
            }
            let place = format!("{}:{}", chapter.name(), fence.line);
            if std::env::var_os("UPDATE").is_none() {
                panic!("{place} differs from its source (UPDATE=1 writes it anew):\n{wanted}");
            }
            let block = |text: &str| format!("```{}\n{text}```", fence.info);
            text = text.replace(&block(&fence.text), &block(&wanted));
        }
        if text != chapter.text {
            // A reader sees the old text or the new one.
            let new = chapter.path.with_extension("md.new");
            fs::write(&new, text).unwrap();
            fs::rename(new, &chapter.path).unwrap();
        }
    }
}

#[test]
fn each_chapter_has_its_steps_in_order_and_its_files() {
    for chapter in chapters::all() {
        let name = &chapter.name;
        let steps: Vec<&str> =
            chapter.readme.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(steps, STEPS, "{name}");
        let lines = chapter.readme.lines().count();
        assert!(lines <= LINES_MAX, "{name}: {lines} lines of text; {LINES_MAX} are allowed");
        let solution = chapter.text("solution.rs").lines().count();
        assert!(solution <= SOLUTION_LINES_MAX, "{name}: the solution has {solution} lines");
        let hints = chapter.text("hints.md").split("\n---\n").count();
        assert_eq!(hints, HINTS, "{name}: hints");
        let title = chapter.readme.lines().next().unwrap();
        assert!(title.starts_with(&format!("# {}. ", chapter.number)), "{name}: {title}");
        let label = chapter.readme.lines().nth(2).unwrap();
        assert!(label.contains(" minutes · difficulty "), "{name}: {label}");
        for program in ["predict", "run", "break"] {
            let manifest = fs::read_to_string(chapters::course().join("Cargo.toml")).unwrap();
            let program = format!("name = \"{program}{:02}\"", chapter.number);
            assert!(manifest.contains(&program), "{name}: no example {program}");
        }
        // What the student is given is the solution's contract.
        let head = |text: String| {
            text.lines()
                .take_while(|l| l.starts_with("//!"))
                .map(|l| format!("{l}\n"))
                .collect::<String>()
        };
        assert_eq!(head(chapter.text("starter.rs")), head(chapter.text("solution.rs")), "{name}");
        let ignored = source(".gitignore");
        let line = format!("/course/{name}/{}\n", chapter.file);
        assert!(ignored.contains(&line), "{name}: .gitignore wants the line {line}");
    }
}

/// In a fresh clone the student's file is not there yet, and rustfmt would look for it.
#[test]
fn rustfmt_leaves_out_the_file_that_a_student_writes() {
    for chapter in chapters::all() {
        let module = format!("mod {};", chapter.file.trim_end_matches(".rs"));
        for entry in fs::read_dir(&chapter.folder).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let mut before = "";
            for line in text.lines() {
                let skips = line != module || before == "#[rustfmt::skip]";
                assert!(skips, "{}: {module} without #[rustfmt::skip]", path.display());
                before = line;
            }
        }
    }
}

#[test]
fn the_answer_to_each_question_is_one_line_of_its_file() {
    for chapter in chapters::all() {
        let questions = chapter.readme.split("\n## Read\n").nth(1).expect("questions");
        let questions = questions.split("\n## ").next().unwrap();
        let mut count = 0;
        for line in questions.lines().filter(|line| line.contains("<!-- ")) {
            let answer = line.split("<!-- ").nth(1).unwrap().split(" -->").next().unwrap();
            let (path, needle) = answer.split_once(": ").expect("a path and a line");
            let text = source(path);
            let found = text.lines().filter(|line| line.contains(needle)).count();
            assert_eq!(found, 1, "{}: {needle:?} is in {path} {found} times", chapter.name);
            let shown = path.rsplit('/').next().unwrap();
            assert!(questions.contains(shown), "{}: {path} is not named", chapter.name);
            count += 1;
        }
        assert_eq!(count, 3, "{}: questions", chapter.name);
    }
}

/// From this chapter on the check has a half-way.
const HALF_WAY_FROM: usize = 9;

#[test]
fn each_sentence_that_the_text_names_is_one_of_the_check() {
    for chapter in chapters::all() {
        let check = chapter.text("check.rs");
        let names = chapter.readme.split('`').filter(|word| {
            let is_name =
                word.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b));
            is_name && word.matches('_').count() >= 4
        });
        let mut count = 0;
        for name in names {
            assert!(check.contains(&format!("fn {name}()")), "{}: no check {name}", chapter.name);
            count += 1;
        }
        let has_half_way = chapter.readme.to_lowercase().contains("half-way") && count >= 2;
        assert!(chapter.number < HALF_WAY_FROM || has_half_way, "{}: no half-way", chapter.name);
    }
}

#[test]
fn no_word_is_used_before_the_chapter_that_explains_it() {
    let words = fs::read_to_string(chapters::course().join("words.txt")).unwrap();
    let chapters = chapters::texts();
    let quizzes = chapters::quizzes();
    let is_quiz = |text: &Text| quizzes.iter().any(|quiz| quiz.path == text.path);
    for line in words.lines().filter(|line| !line.starts_with('#')) {
        let (number, word) = line.split_once(' ').expect("a number and a word");
        let number: usize = number.parse().expect("a number");
        for chapter in &chapters {
            let text = prose(&chapter.text).to_lowercase();
            if chapter.number < number {
                let used = text.match_indices(word).any(|(at, _)| {
                    let before = text[..at].chars().next_back();
                    let after = text[at + word.len()..].chars().next();
                    !before.is_some_and(char::is_alphanumeric)
                        && !after.is_some_and(char::is_alphanumeric)
                });
                assert!(!used, "{} uses {word:?}, which chapter {number} explains", chapter.name());
            } else if chapter.number == number && !is_quiz(chapter) {
                let bold = text.contains(&format!("**{word}"));
                assert!(bold, "{}: {word:?} is to be explained here, in bold", chapter.name());
            }
        }
    }
}

/// The text without its blocks, its code and its comments.
fn prose(text: &str) -> String {
    let (mut plain, mut inside) = (String::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            let line = line.split("<!--").next().unwrap();
            plain.extend(line.split('`').step_by(2));
            plain.push('\n');
        }
    }
    plain
}
