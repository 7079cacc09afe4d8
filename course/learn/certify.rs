//! All checks as they were given, on somebody's files, in a fresh folder: for teachers.
//!
//! Nothing of the student's folder is used but the sixteen files: a check that was changed there, or
//! a test that was deleted, changes nothing here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use waterwheel::Reactor;

use crate::book::{self, Chapter};
use crate::desk::{Audience, Desk};
use crate::job;
use crate::terminal::print;

/// Checks the files of the course in `folder`, prints a line for each, and gives the exit code.
///
/// # Errors
/// The folder is none of a course; a fresh one cannot be made; the checks' library does not build.
pub fn run(chapters: &[Chapter], folder: Option<PathBuf>) -> io::Result<u8> {
    let folder = folder.unwrap_or_else(book::course);
    // The course, or the repository in which it is.
    let inner = folder.join("course");
    let of = if inner.is_dir() { inner } else { folder };
    if !chapters.iter().any(|chapter| of.join(chapter.name).is_dir()) {
        let why = format!("{} has no chapter of the course", of.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    let fresh = book::top().join(format!("target/learn/certify-{}", std::process::id()));
    let _ = fs::remove_dir_all(&fresh); // There may be none.
    for chapter in chapters {
        let place = fresh.join(chapter.name);
        fs::create_dir_all(&place)?;
        fs::write(place.join("check.rs"), chapter.given("check.rs"))?;
        fs::write(place.join("solution.rs"), chapter.given("solution.rs"))?;
    }
    print(&format!("The checks of this program, on the files in {}:\n", of.display()));
    let kit = Kit::build()?;
    let mut passed = 0;
    for chapter in chapters {
        let source = of.join(chapter.name).join(&chapter.file);
        let how = match fs::read_to_string(&source) {
            Err(_) => "not there".to_owned(),
            Ok(text) if text == chapter.given("starter.rs") => "not begun".to_owned(),
            Ok(text) => {
                fs::write(fresh.join(chapter.name).join(&chapter.file), text)?;
                match check(&kit, chapter, &fresh.join(chapter.name))? {
                    Ok(tests) => {
                        passed += 1;
                        format!("passes, {tests} tests")
                    }
                    Err(why) => format!("fails: {why}"),
                }
            }
        };
        print(&format!("{:<12} {how}", chapter.name));
    }
    fs::remove_dir_all(&fresh)?;
    print(&format!("\n{passed} of {} chapters pass.", chapters.len()));
    Ok(u8::from(passed < chapters.len()))
}

/// The library of the checks, and where its crates are.
struct Kit {
    library: PathBuf,
    crates: PathBuf,
}

impl Kit {
    fn build() -> io::Result<Kit> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--package", "course", "--lib", "--message-format=json"]);
        let out = command.current_dir(book::top()).stderr(Stdio::inherit()).output()?;
        let mut library = None;
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            let message: Value = serde_json::from_str(line).unwrap_or_default();
            if message["target"]["name"] == "kit" {
                let files = message["filenames"].as_array().into_iter().flatten();
                let mut files = files.filter_map(Value::as_str);
                library = files.find(|file| file.ends_with(".rlib")).map(PathBuf::from).or(library);
            }
        }
        let library =
            library.ok_or_else(|| io::Error::other("the checks' library does not build"))?;
        let folder = library.parent().unwrap_or(Path::new(""));
        // Cargo names the copy without a hash, or that with one; the crates are in `deps`.
        let crates = if folder.ends_with("deps") { folder.to_owned() } else { folder.join("deps") };
        Ok(Kit { library, crates })
    }
}

/// How many tests pass, or why not all do.
fn check(kit: &Kit, chapter: &Chapter, place: &Path) -> io::Result<Result<usize, String>> {
    let program = place.join("check");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--test", "-A", "warnings", "-C", "debuginfo=0", "-o"]);
    rustc.arg(&program).arg("--extern").arg(format!("kit={}", kit.library.display()));
    rustc.arg("-L").arg(format!("dependency={}", kit.crates.display())).arg(place.join("check.rs"));
    let compiled = rustc.stdin(Stdio::null()).output()?;
    if !compiled.status.success() {
        let said = String::from_utf8_lossy(&compiled.stderr);
        let first = said.lines().find(|line| line.starts_with("error")).unwrap_or("error");
        return Ok(Err(format!("it does not compile: {first}")));
    }
    // The same limits as ever: it is a stranger's program.
    let (mut desk, _) = Desk::new(Audience::Pages);
    let mut reactor = Reactor::new()?;
    job::certify(&mut reactor, &mut desk, chapter, &program);
    reactor.run(&mut desk)?;
    Ok(match desk.certified.take() {
        Some(verdict) if verdict.passed => Ok(verdict.tests.len()),
        Some(verdict) => Err(verdict.sentence.lines().next().unwrap_or_default().to_owned()),
        None => Err("it was not run".to_owned()),
    })
}
