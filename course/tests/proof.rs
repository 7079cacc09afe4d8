//! The checks are checked: each fails the starter, passes the solution, and catches each mutant, by
//! the test that the mutant names.
//!
//! A mutant is a solution with one mistake in it, that people make. `mutants.txt` has them: a
//! sentence, the test that has to fail, and lines to take out (`-`) and to put in (`+`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::chapters::{self, Chapter};

/// How long a check of a mutant may take: a mistake may loop without end. 60 s: as `cargo learn`.
const CEILING: Duration = Duration::from_secs(60);
/// Mutants of a check, at least.
const MUTANTS_MIN: usize = 3;

/// Questions of a quiz.
const QUIZ_QUESTIONS: usize = 8;

struct Mutant {
    sentence: String,
    fails: String,
    text: String,
}

fn mutants(chapter: &Chapter) -> Vec<Mutant> {
    let solution = chapter.text("solution.rs");
    let listed = chapter.text("mutants.txt");
    let listed = listed.split("\n\n").filter(|entry| !entry.trim().is_empty());
    listed.map(|entry| mutant(chapter, &solution, entry)).collect()
}

/// Lines with `-` stand for a piece of the solution, which those with `+` behind them replace.
fn mutant(chapter: &Chapter, solution: &str, entry: &str) -> Mutant {
    let (mut sentence, mut fails, mut edits) = (String::new(), String::new(), Vec::new());
    for line in entry.lines() {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match mark {
            "#" => sentence.push_str(rest),
            "fails" => rest.clone_into(&mut fails),
            "-" => match edits.last_mut() {
                Some((old, None)) => *old = format!("{old}\n{rest}"),
                _ => edits.push((rest.to_owned(), None)),
            },
            "+" => {
                let (_, new): &mut (String, Option<String>) = edits.last_mut().expect("`-` first");
                *new = Some(new.take().map_or(rest.to_owned(), |new| format!("{new}\n{rest}")));
            }
            _ => panic!("{}: mutants.txt: {line:?}", chapter.name),
        }
    }
    let mut text = solution.to_owned();
    for (old, new) in edits {
        let count = text.matches(&old).count();
        assert_eq!(
            count, 1,
            "{}: {sentence} {old:?} is {count} times in the solution",
            chapter.name
        );
        text = text.replace(&old, &new.expect("`+` behind `-`"));
    }
    assert!(!fails.is_empty() && !sentence.is_empty(), "{}: {entry:?}", chapter.name);
    Mutant { sentence, fails, text }
}

/// The library that the checks share, as Cargo has built it, and where the crates behind it are.
fn kit() -> &'static (PathBuf, PathBuf) {
    static KIT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    KIT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "course", "--lib", "--message-format=json"]);
        let built = cargo.current_dir(chapters::course()).output().expect("Cargo runs");
        let said = String::from_utf8(built.stdout).unwrap();
        let kit = said.lines().filter_map(|line| line.split('"').find(|w| is_kit(w))).next_back();
        let kit = PathBuf::from(kit.unwrap_or_else(|| panic!("no kit in {said}")));
        // Cargo names the copy without a hash, or that with one; the crates are in `deps`.
        let folder = kit.parent().unwrap();
        let deps = if folder.ends_with("deps") { folder.to_owned() } else { folder.join("deps") };
        (kit, deps)
    })
}

fn is_kit(word: &str) -> bool {
    word.contains("libkit") && word.ends_with(".rlib")
}

/// Compiles the check of the chapter with this text as its file, beside the solutions of the
/// others, and gives the tests that fail, and what the first of them says.
fn failures(
    chapter: &Chapter,
    label: &str,
    text: &str,
) -> Result<(BTreeSet<String>, String), String> {
    let tree = tree();
    let folder = tree.join(&chapter.name);
    // One at a time: the file has one name, whatever is in it.
    let place = folder.join(label);
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join(&chapter.file), text).unwrap();
    // A check names earlier chapters by `../06-ids/`: one folder more is between.
    let check = chapter.text("check.rs").replace("path = \"../", "path = \"../../");
    fs::write(place.join("check.rs"), check).unwrap();
    let (kit, deps) = kit();
    let program = place.join("check");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--test", "-A", "warnings", "-C", "debuginfo=0", "-o"]);
    rustc.arg(&program).arg("--extern").arg(format!("kit={}", kit.display()));
    rustc.arg("-L").arg(format!("dependency={}", deps.display())).arg(place.join("check.rs"));
    let compiled = rustc.output().expect("rustc runs");
    if !compiled.status.success() {
        return Err(format!("does not compile:\n{}", String::from_utf8_lossy(&compiled.stderr)));
    }
    let said = run(&program, &place)?;
    let failed =
        said.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let failed: BTreeSet<String> = failed.map(str::to_owned).collect();
    fs::remove_dir_all(&place).unwrap();
    Ok((failed, said))
}

/// What the program prints on either stream; an error if it does not end.
fn run(program: &Path, place: &Path) -> Result<String, String> {
    let out = fs::File::create(place.join("out")).unwrap();
    let mut child = Command::new(program)
        .env("RUST_BACKTRACE", "0")
        .env_remove("SEED")
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .expect("a check runs");
    let start = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return Ok(String::from_utf8_lossy(&fs::read(place.join("out")).unwrap()).into_owned());
        }
        if start.elapsed() > CEILING {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("still ran after {} s", CEILING.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5)); // It is the only thing that is awaited.
    }
}

/// A copy of the solutions, for the checks of later chapters.
fn tree() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("course");
        let _ = fs::remove_dir_all(&tree);
        for chapter in chapters::all() {
            let folder = tree.join(&chapter.name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("solution.rs"), chapter.text("solution.rs")).unwrap();
        }
        tree
    })
}

/// What is not as it should be.
fn prove(chapter: &Chapter) -> Vec<String> {
    let mut wrong = Vec::new();
    let starter = chapter.text("starter.rs");
    match failures(chapter, "starter", &starter) {
        Ok((failed, _)) if failed.is_empty() => wrong.push("the starter passes".to_owned()),
        Ok((_, said)) if !is_plain(&said) => {
            wrong.push(format!("the starter fails without a sentence:\n{said}"));
        }
        Ok(_) => {}
        Err(error) => wrong.push(format!("the starter {error}")),
    }
    if !starter.contains("Yours:") {
        wrong.push("the starter does not say which line is the student's".to_owned());
    }
    match failures(chapter, "solution", &chapter.text("solution.rs")) {
        Ok((failed, _)) if failed.is_empty() => {}
        Ok((_, said)) => wrong.push(format!("the solution fails:\n{said}")),
        Err(error) => wrong.push(format!("the solution {error}")),
    }
    let mutants = mutants(chapter);
    if mutants.len() < MUTANTS_MIN {
        wrong.push(format!("{} mutants; {MUTANTS_MIN} are wanted", mutants.len()));
    }
    for (number, mutant) in mutants.iter().enumerate() {
        match failures(chapter, &format!("mutant{number}"), &mutant.text) {
            Ok((failed, _)) if failed.contains(&mutant.fails) => {}
            Ok((failed, _)) => wrong.push(format!(
                "mutant {}: {}: {} passes; these fail: {failed:?}",
                number + 1,
                mutant.sentence,
                mutant.fails
            )),
            Err(error) => wrong.push(format!("mutant {}: {} {error}", number + 1, mutant.sentence)),
        }
    }
    wrong
}

/// Returns true if the first failure is a sentence: it ends with a full stop, or says what was
/// expected.
fn is_plain(said: &str) -> bool {
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at"));
    lines.next();
    let sentence = lines.next().unwrap_or_default();
    sentence.ends_with('.') || sentence.ends_with("s)")
}

fn prove_all(chapters: &[Chapter]) {
    let wrong = Mutex::new(Vec::new());
    let next = Mutex::new(chapters.iter());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(chapter) = next.lock().unwrap().next() else { break };
                    let found = prove(chapter);
                    let found = found.iter().map(|line| format!("{}: {line}", chapter.name));
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_check_of_chapter_6_fails_the_starter_passes_the_solution_and_catches_each_mutant() {
    let chapters = chapters::all();
    let chapters: Vec<_> = chapters.into_iter().filter(|chapter| chapter.number == 6).collect();
    prove_all(&chapters);
}

#[test]
#[ignore = "compiles and runs some hundred programs, for minutes; .ci/run does it"]
fn each_check_fails_the_starter_passes_the_solution_and_catches_each_mutant() {
    let only = std::env::var("CHAPTER").ok().and_then(|number| number.parse().ok());
    let chapters = chapters::all().into_iter();
    let chapters = chapters.filter(|chapter| only.is_none_or(|only| chapter.number == only));
    prove_all(&chapters.collect::<Vec<_>>());
}

#[test]
fn each_prediction_is_marked_by_the_program() {
    for chapter in chapters::all() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["run", "--quiet", "--package", "course", "--example"]);
        cargo.arg(format!("predict{:02}", chapter.number)).current_dir(chapters::course());
        let ran = cargo.output().expect("Cargo runs");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let answer = said.lines().last().and_then(|line| line.strip_prefix("answer: "));
        let (answer, name) = (answer.unwrap_or_default().to_owned(), &chapter.name);
        assert!(ran.status.success() && answer.len() == 1, "{name}: {said}{:?}", ran.stderr);
        let options = chapter.readme.split("\n## Predict\n").nth(1).expect("a prediction");
        let options = options.split("\n## ").next().unwrap();
        assert!(options.contains(&format!("\n- {answer}) ")), "{name}: no option {answer})");
        assert!(options.matches("\n- ").count() >= 3, "{name}: fewer than three options");
    }
}

/// Each question of a quiz is answered by its program, with one of the options.
#[test]
fn each_question_of_a_quiz_is_answered_by_its_program() {
    for quiz in chapters::quizzes() {
        let name = quiz.name();
        let program = format!("quiz{}", quiz.path.file_stem().unwrap().to_str().unwrap());
        let questions: Vec<&str> = quiz.text.split("\n## Question ").skip(1).collect();
        assert_eq!(questions.len(), QUIZ_QUESTIONS, "{name}");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["run", "--quiet", "--package", "course", "--example", &program]);
        let ran = cargo.current_dir(chapters::course()).output().expect("Cargo runs");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let answers: Vec<_> =
            said.lines().filter_map(|line| line.split_once(". answer: ")).collect();
        assert!(ran.status.success() && answers.len() == questions.len(), "{name}: {said}");
        for (question, (number, answer)) in questions.iter().zip(answers) {
            assert!(question.starts_with(&format!("{number}\n")), "{name}: {number}");
            assert!(question.contains(&format!("\n- {answer}) ")), "{name}: {number}: {answer})");
            assert!(question.matches("\n- ").count() >= 3, "{name}: {number}: too few options");
            let shown = format!("fn=question_{number}\n");
            assert!(question.contains(&shown), "{name}: {number}: whose program?");
        }
    }
}
