//! What a compiler and a check have said, as the one sentence that a student needs first.
//!
//! Knows texts only. Cargo's messages are JSON, a line each; a check is a test program of Rust.
//!
//! # Read next
//! `job.rs`: who asks them.

use serde_json::Value;

/// How a check ended, for a student.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    pub passed: bool,
    /// The first test that fails, in the order of the check; empty if it is none.
    pub test: String,
    /// One sentence, with what was expected and what came under it.
    pub sentence: String,
    /// How many more fail.
    pub more: usize,
    /// Each test of the check, and whether it has passed; `None` if it has not ended.
    pub tests: Vec<(String, Option<bool>)>,
}

impl Verdict {
    /// A check that has not come to its end.
    pub fn of(sentence: impl Into<String>) -> Verdict {
        Verdict { sentence: sentence.into(), ..Verdict::default() }
    }
}

/// What Cargo's lines give.
#[derive(Debug, Default)]
pub struct Built {
    /// The program of that name.
    pub program: Option<String>,
    /// Errors of the compiler, as it shows them.
    pub errors: Vec<String>,
}

impl Built {
    /// Takes in one line of `--message-format=json`; others are left out.
    pub fn line(&mut self, line: &str, target: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else { return };
        match message["reason"].as_str() {
            Some("compiler-message") if message["message"]["level"] == "error" => {
                let text = message["message"]["rendered"].as_str().unwrap_or_default();
                // The last one only counts those before it.
                if !message["message"]["spans"].as_array().is_none_or(Vec::is_empty) {
                    self.errors.push(text.trim_end().to_owned());
                }
            }
            Some("compiler-artifact") if message["target"]["name"] == target => {
                self.program = message["executable"].as_str().map(str::to_owned);
            }
            _ => {}
        }
    }

    /// The verdict on a file that does not compile.
    pub fn verdict(&self, file: &str) -> Verdict {
        let Some(first) = self.errors.first() else {
            return Verdict::of("Cargo has built nothing; what it said is above.");
        };
        let sentence = format!("{file} does not compile:\n{first}");
        Verdict { sentence, more: self.errors.len() - 1, ..Verdict::default() }
    }
}

/// The names of a check's tests, in its order.
pub fn names(check: &str) -> Vec<&str> {
    let tests = check.split("#[test]").skip(1);
    tests.filter_map(|test| test.split_once("fn ")?.1.split('(').next()).collect()
}

/// The verdict of a check, from what it has printed and how it ended: `None` for how if it ended by
/// itself.
pub fn verdict(check: &str, said: &str, ended: Option<&str>) -> Verdict {
    let result = |name: &str| {
        let is = |how: &str| said.lines().any(|line| line == format!("test {name} ... {how}"));
        if is("FAILED") { Some(false) } else { is("ok").then_some(true) }
    };
    let tests = names(check).into_iter().map(|name| (name.to_owned(), result(name)));
    let tests: Vec<_> = tests.collect();
    let all = |wanted| {
        let tests = tests.iter().filter(move |(_, result)| *result == wanted);
        tests.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
    };
    let (failed, open) = (all(Some(false)), all(None));
    let mut verdict = Verdict::default();
    if let Some(why) = ended.or_else(|| broken_off(said)) {
        verdict.sentence = why.to_owned();
        if !open.is_empty() {
            verdict.sentence += &format!("\n  had not ended: {}", open.join(", "));
        }
    } else if let Some(first) = failed.first() {
        verdict.test = (*first).to_owned();
        verdict.sentence = sentence(said, first);
        verdict.more = failed.len() - 1;
    } else if open.is_empty() {
        verdict.passed = true;
    } else {
        verdict.sentence = format!("The check has lost a test: {}.", open.join(", "));
    }
    verdict.tests = tests;
    verdict
}

/// Why a program ended without a word about its tests.
fn broken_off(said: &str) -> Option<&'static str> {
    if said.lines().any(|line| line.starts_with("test result: ")) {
        return None;
    }
    Some(if said.contains("has overflowed its stack") {
        "A function calls itself without end: the stack is used up."
    } else if said.contains("memory allocation of ") {
        "The program wanted more memory than it may have."
    } else {
        "The program ended before the check was over: does your file end it (exit, abort)?"
    })
}

/// What a test said when it failed.
fn sentence(said: &str, test: &str) -> String {
    let part = said.split(&format!("---- {test} stdout ----\n")).nth(1).unwrap_or_default();
    let part = part.split("\n---- ").next().unwrap_or_default().split("\nfailures:\n").next();
    let lines = part.unwrap_or_default().lines().skip_while(|line| !line.contains("panicked at"));
    let lines =
        lines.skip(1).take_while(|line| !line.is_empty() && !line.starts_with("note: run with"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let seed = part.unwrap_or_default().lines().find(|line| line.contains("(SEED="));
    match seed {
        Some(seed) if !text.contains(seed) => format!("{text}\n{seed}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: &str = "#[test]\nfn b() {}\n#[test]\nfn a() {}\n#[test]\nfn c() {}\n";

    #[test]
    fn the_first_failure_in_the_order_of_the_check_is_the_headline() {
        let said = "running 3 tests\ntest a ... FAILED\ntest b ... FAILED\ntest c ... ok\n\nfailures:\n\n\
            ---- a stdout ----\n\nthread 'a' (7) panicked at check.rs:2:1:\nA.\n\n\n---- b stdout ----\n  \
            seed:     3 (SEED=3 runs it alone)\n\nthread 'b' (8) panicked at check.rs:1:1:\nOne place.\n  expected: 1\n  \
            got:      2\nnote: run with `RUST_BACKTRACE=1`\n\n\nfailures:\n    a\n    b\n\ntest result: FAILED. 1 passed\n";
        let verdict = verdict(CHECK, said, None);
        assert_eq!((verdict.passed, &*verdict.test, verdict.more), (false, "b", 1));
        let results = verdict.tests.iter().map(|(name, result)| (&**name, *result));
        let expected = [("b", Some(false)), ("a", Some(false)), ("c", Some(true))];
        assert_eq!(results.collect::<Vec<_>>(), expected);
        let seed = "  seed:     3 (SEED=3 runs it alone)";
        assert_eq!(verdict.sentence, format!("One place.\n  expected: 1\n  got:      2\n{seed}"));
    }

    #[test]
    fn all_must_have_passed() {
        let said = "test a ... ok\ntest b ... ok\ntest c ... ok\n\ntest result: ok. 3 passed\n";
        assert!(verdict(CHECK, said, None).passed);
        let less = "test a ... ok\n\ntest result: ok. 1 passed\n";
        assert_eq!(verdict(CHECK, less, None).sentence, "The check has lost a test: b, c.");
    }

    #[test]
    fn a_program_that_ends_early_has_not_passed() {
        let said = "running 3 tests\ntest a ... ok\n";
        let ended = verdict(CHECK, said, None);
        assert!(!ended.passed && ended.sentence.contains("(exit, abort)"), "{ended:?}");
        assert!(ended.sentence.ends_with("had not ended: b, c"));
        let stack = verdict(CHECK, "thread 'b' has overflowed its stack\n", None);
        assert!(stack.sentence.starts_with("A function calls itself"));
        let late = verdict(CHECK, said, Some("It still ran after 60 s."));
        assert!(late.sentence.starts_with("It still ran after 60 s.\n  had not ended: b, c"));
        // The words of a student's file do not count as the program's own.
        assert!(!verdict(CHECK, "test result: ok. 3 passed\n", None).passed);
    }

    #[test]
    fn errors_of_the_compiler_come_with_their_place() {
        let mut built = Built::default();
        built.line(r#"{"reason":"compiler-message","message":{"level":"error","spans":[{}],"rendered":"error[E0308]: x\n"}}"#, "c06");
        built.line(r#"{"reason":"compiler-message","message":{"level":"error","spans":[],"rendered":"error: aborting"}}"#, "c06");
        built.line("not JSON", "c06");
        built.line(
            r#"{"reason":"compiler-artifact","target":{"name":"c06"},"executable":"/x/c06"}"#,
            "c06",
        );
        assert_eq!(built.program.as_deref(), Some("/x/c06"));
        let verdict = built.verdict("course/06-ids/registry.rs");
        assert_eq!(
            verdict.sentence,
            "course/06-ids/registry.rs does not compile:\nerror[E0308]: x"
        );
    }
}
