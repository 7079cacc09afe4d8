//! The sources as something to read: one path from the README through all of the core, short enough
//! for an afternoon, and no file or function on the way that is too long.

use std::fs;
use std::path::{Component, Path, PathBuf};

use support::home;

/// The loop: how a turn goes, what it owns, what it waits for.
const CORE: [&str; 9] = [
    "reactor/mod.rs",
    "reactor/context.rs",
    "reactor/poll.rs",
    "reactor/dispatch.rs",
    "reactor/id.rs",
    "reactor/source.rs",
    "reactor/queue.rs",
    "reactor/timer.rs",
    "timers/wheel.rs",
];
/// The one buffered stream: what it is, what it does when it is called, what bounds it.
const STREAM: [&str; 13] = [
    "net/conn.rs",
    "net/states.rs",
    "net/event.rs",
    "net/handler.rs",
    "net/stream.rs",
    "net/transport.rs",
    "net/drive.rs",
    "net/receive.rs",
    "net/settle.rs",
    "net/outbox.rs",
    "net/deadline.rs",
    "net/limits.rs",
    "net/handle.rs",
];
/// Before the path, and where it ends.
const EXAMPLES: [&str; 3] = ["examples/tiny.rs", "examples/echo.rs", "examples/order.rs"];
const END: &str = "tests/contract.rs";

/// Lines of the core, and of the stream, at most; the README says these numbers. They may only
/// become less.
const CORE_LINES_MAX: usize = 2600;
const STREAM_LINES_MAX: usize = 2900;

const FLOORS: [&str; 7] =
    ["timers", "reactor", "patterns", "net", "protocols", "process", "inspect"];

const FILE_LINES_MAX: usize = 500;
/// From here on a file needs a reason, below.
const FILE_LINES_WITHOUT_REASON: usize = 400;
const FUNCTION_LINES_MAX: usize = 60;

/// Longer files, and why. No file may join them.
const LONG_FILES: [(&str, &str); 0] = [];
/// Longer functions, and why. No function may join them.
const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

fn text(file: &str) -> String {
    fs::read_to_string(home().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// `file`, as a path from the root, when `by` names it from its own folder.
fn from_root(by: &str, file: &str) -> String {
    let mut path = PathBuf::from(by);
    path.pop();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{by}: {file} is outside"),
            part => path.push(part),
        }
    }
    path.to_str().unwrap().replace('\\', "/")
}

/// The files that the head of `file` names under "Read next", the way on first.
fn read_next(file: &str, text: &str) -> Vec<String> {
    let head = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let section = head.skip_while(|line| *line != "# Read next").skip(1);
    let section: Vec<&str> = section.take_while(|line| !line.starts_with('#')).collect();
    let section = section.join(" ");
    let quoted = section.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.ends_with(".rs")).map(|name| from_root(file, name)).collect()
}

/// The files of the README's table "Reading order".
fn reading_order(readme: &str) -> Vec<String> {
    let section = readme.split("\n## ").find(|part| part.starts_with("Reading order\n"));
    let lines = section.expect("the README has a reading order").lines();
    let rows = lines.filter(|line| line.starts_with("| ["));
    let cells = rows.flat_map(|row| row.split('|').nth(1));
    let links = cells.flat_map(|cell| cell.split("](").skip(1));
    links.map(|link| link.split(')').next().unwrap().to_owned()).collect()
}

/// All Rust files in a folder of the repository, and in those within it.
fn sources(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(home().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false if path.ends_with(".rs") => files.push(path),
                false => {}
            }
        }
    }
    files
}

fn lines(files: &[&str]) -> usize {
    files.iter().map(|file| text(file).lines().count()).sum()
}

/// The path that "Read next" makes from `start` to the first file that names none.
fn path_from(start: &str) -> Vec<String> {
    let mut path = vec![start.to_owned()];
    loop {
        let file = path.last().unwrap();
        let Some(next) = read_next(file, &text(file)).into_iter().next() else { return path };
        assert!(!path.contains(&next), "{file} leads back to {next}");
        path.push(next);
    }
}

#[test]
fn the_path_visits_the_core_and_the_stream_once_in_order() {
    let order = reading_order(&text("README.md"));
    let start = order.iter().find(|file| !file.starts_with("examples/"));
    let path = path_from(start.expect("the README says where to begin"));
    let expected: Vec<&str> = CORE.into_iter().chain(STREAM).chain([END]).collect();
    assert_eq!(path, expected);
    let all: Vec<&str> = EXAMPLES.into_iter().chain(expected).collect();
    assert_eq!(order, all, "the README's table and the path");
}

#[test]
fn what_is_to_be_read_next_exists() {
    for file in FLOORS.into_iter().flat_map(sources) {
        let text = text(&file);
        let next = read_next(&file, &text);
        assert_eq!(next.is_empty(), !text.contains("//! # Read next"), "{file} names no file");
        for next in next {
            assert!(home().join(&next).is_file(), "{file} names {next}");
        }
    }
}

#[test]
fn each_shortcut_of_tiny_names_the_file_that_does_without_it() {
    let tiny = text("examples/tiny.rs");
    let words: Vec<&str> = tiny.split_whitespace().filter(|word| !word.starts_with("//")).collect();
    let named = words.iter().zip(words.iter().skip(1)).filter(|(arrow, _)| arrow.ends_with("->"));
    let files = named.map(|(_, word)| word.trim_end_matches([')', ',', '.']));
    let files: Vec<&str> = files.filter(|word| word.ends_with(".rs")).collect();
    assert!(files.len() >= tiny.matches("Shortcut:").count(), "{files:?}");
    for file in files {
        assert!(home().join(file).is_file(), "tiny.rs names {file}");
    }
}

#[test]
fn the_core_is_read_in_an_afternoon() {
    let [core, stream] = [lines(&CORE), lines(&STREAM)];
    println!("on the path: {core} lines of the core, {stream} of the stream");
    let advice = "on the path; what need not be read first goes into a file beside it";
    assert!(core <= CORE_LINES_MAX, "{core} lines of the core {advice}");
    assert!(stream <= STREAM_LINES_MAX, "{stream} lines of the stream {advice}");
    let readme = text("README.md");
    for max in [CORE_LINES_MAX, STREAM_LINES_MAX] {
        let number = format!("{},{:03} lines", max / 1000, max % 1000);
        assert!(readme.contains(&number), "the README says nothing of {number}");
    }
}

/// Each function of a file that rustfmt has laid out, and its lines. The attributes and the comment
/// above it do not count.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let is_item = before.split_whitespace().all(|word| {
            ["pub", "pub(crate)", "pub(super)", "const", "unsafe"].contains(&word)
                || word.starts_with("pub(in")
        });
        let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
        if !is_item || name.is_empty() {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let ends = |line: &str| {
            let at_indent = line.strip_prefix(indent);
            at_indent.is_some_and(|code| {
                code.starts_with('}') || (code.starts_with(')') && code.ends_with(';'))
            })
        };
        let is_one_line = code.ends_with('}') || code.ends_with(';');
        let rest = lines[first + 1..].iter().position(|line| ends(line));
        let rest = rest.map_or(lines.len() - first - 1, |last| last + 1);
        functions.push((name, if is_one_line { 1 } else { rest + 1 }));
    }
    functions
}

#[test]
fn files_and_functions_stay_short() {
    let mut long_files = Vec::new();
    let mut long_functions = Vec::new();
    for file in FLOORS.into_iter().flat_map(sources) {
        let text = text(&file);
        let count = text.lines().count();
        assert!(count <= FILE_LINES_MAX, "{file} has {count} lines");
        if count > FILE_LINES_WITHOUT_REASON {
            long_files.push(file.clone());
        }
        for (name, count) in functions(&text) {
            if count > FUNCTION_LINES_MAX {
                long_functions.push((file.clone(), name.to_owned()));
            }
        }
    }
    let mut allowed = LONG_FILES.map(|(file, _)| file.to_owned());
    allowed.sort();
    long_files.sort();
    assert_eq!(long_files, allowed, "longer than {FILE_LINES_WITHOUT_REASON} lines, and allowed");
    let mut allowed = LONG_FUNCTIONS.map(|(file, name, _)| (file.to_owned(), name.to_owned()));
    allowed.sort();
    long_functions.sort();
    assert_eq!(long_functions, allowed, "longer than {FUNCTION_LINES_MAX} lines, and allowed");
}

#[test]
fn the_checks_catch_what_they_look_for() {
    let head = "//! A.\n//!\n//! # Read next\n//! `fn` below, then `../b/c.rs`; also\n//! `d.rs`.\n\
        //! # Else\n//! `e.rs`\n\nuse x;\n//! `f.rs`\n";
    assert_eq!(read_next("a/mod.rs", head), ["b/c.rs", "a/d.rs"]);
    assert!(read_next("a/mod.rs", "//! A.\n\n//! # Read next\n//! `b.rs`\n").is_empty());
    let readme = "# A\n\n## Reading order\n\n| file | x |\n|---|---|\n| [`a`](a.rs), [`b`](b.rs) | \
        not [`c`](c.rs) |\n\nnor [`d`](d.rs)\n\n## B\n\n| [`e`](e.rs) | x |\n";
    assert_eq!(reading_order(readme), ["a.rs", "b.rs"]);
    let code = "impl A {\n    /// fn no() {\n    pub fn a(\n        self,\n    ) -> B {\n        x\n    }\n\
        \n    fn b(self);\n    pub(super) const fn c() {}\n}\n\nfn d()\nwhere\n    A: B,\n{\n}\n\
        trait T {\n    fn e(\n        x: A,\n    ) -> B;\n}\ntype F = fn (A);\n";
    assert_eq!(functions(code), [("a", 5), ("b", 1), ("c", 1), ("d", 5), ("e", 3)]);
}
