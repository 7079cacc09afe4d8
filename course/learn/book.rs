//! The chapters: their texts as they were when this program was built, and what is in them.
//!
//! Knows the folders of the course; nothing of who reads them.
//!
//! # Read next
//! `report.rs`: what a check has said.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What a chapter has. Paths begin at the top of the repository.
#[derive(Clone, Debug)]
pub struct Chapter {
    pub number: u32,
    /// Its folder: `06-ids`.
    pub name: &'static str,
    pub title: String,
    /// Minutes, difficulty and what it needs, as its third line says.
    pub label: String,
    pub minutes: u32,
    /// The file that the student writes: `registry.rs`.
    pub file: String,
    pub options: Vec<(char, String)>,
    pub hints: Vec<&'static str>,
    pub questions: Vec<Question>,
    /// The scene of the tour in which the real loop shows it.
    pub scene: Option<u32>,
    /// If it is a question of a quiz: of which one, and its number there, from 1.
    pub quiz: Option<(u32, u32)>,
}

/// A question about the real file; its answer is the number of a line.
#[derive(Clone, Debug)]
pub struct Question {
    pub path: String,
    /// What is in that one line.
    needle: String,
}

impl Question {
    /// The line, counted from 1; `None` if the file has changed.
    pub fn line(&self) -> Option<usize> {
        let text = fs::read_to_string(top().join(&self.path)).ok()?;
        text.lines().position(|line| line.contains(&self.needle)).map(|line| line + 1)
    }
}

/// The top of the repository.
pub fn top() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The folder of the course, in which the student's files are; `LEARN_COURSE` names another one.
pub fn course() -> PathBuf {
    std::env::var_os("LEARN_COURSE").map_or_else(|| top().join("course"), PathBuf::from)
}

/// A file of the course as it was when this program was built: `06-ids/check.rs`.
pub fn given(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// All files of the course, as they were then.
pub fn files() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().copied()
}

/// The answers that a text offers, each a line: `- a) one`.
pub fn options(text: &str) -> Vec<(char, String)> {
    let option = |line: &str| {
        let (letter, rest) = line.strip_prefix("- ")?.split_once(") ")?;
        Some((letter.parse().ok()?, rest.to_owned()))
    };
    text.lines().filter_map(option).collect()
}

/// All chapters, in order.
pub fn chapters() -> Vec<Chapter> {
    let readme = |(path, text): &(&'static str, &'static str)| {
        Chapter::read(path.strip_suffix("/README.md")?, text)
    };
    FILES.iter().filter_map(readme).collect()
}

/// The part of the text under a heading.
pub fn step<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.split_once(&format!("\n## {heading}\n")).map_or("", |(_, rest)| rest);
    start.split("\n## ").next().unwrap_or_default()
}

impl Chapter {
    /// `None` for a folder that is no chapter.
    fn read(name: &'static str, text: &'static str) -> Option<Chapter> {
        let number = name.split_once('-')?.0.parse().ok()?;
        let title = text.lines().next()?.strip_prefix("# ")?.to_owned();
        let label = text.lines().nth(2)?.trim_matches('*').to_owned();
        let file = label.split('`').nth(1)?.to_owned();
        let minutes = label.split(" · ").find_map(|part| part.strip_suffix(" minutes"));
        let minutes = minutes?.parse().ok()?;
        let hints = given(&format!("{name}/hints.md")).unwrap_or_default();
        let hints = hints.split("\n---\n").map(str::trim).filter(|hint| !hint.is_empty()).collect();
        let options = options(step(text, "Predict"));
        let question = |line: &str| {
            let (path, needle) =
                line.split_once("<!-- ")?.1.split_once(" -->")?.0.split_once(": ")?;
            Some(Question { path: path.to_owned(), needle: needle.to_owned() })
        };
        let questions = step(text, "Read").lines().filter_map(question).collect();
        let scene = step(text, "Watch").split("tour ").skip(1).find_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()
        });
        Some(Chapter {
            number,
            name,
            title,
            label,
            minutes,
            file,
            options,
            hints,
            questions,
            scene,
            quiz: None,
        })
    }

    /// A file of it as it was when this program was built.
    pub fn given(&self, file: &str) -> &'static str {
        given(&format!("{}/{file}", self.name)).unwrap_or_default()
    }

    pub fn folder(&self) -> PathBuf {
        course().join(self.name)
    }

    /// Where the student's file is.
    pub fn path(&self) -> PathBuf {
        self.folder().join(&self.file)
    }

    /// The path that is shown.
    pub fn shown(&self) -> String {
        format!("course/{}/{}", self.name, self.file)
    }

    /// The test program of its check: `c06`.
    pub fn check(&self) -> String {
        format!("c{:02}", self.number)
    }

    /// Returns true if nothing has been written in the file yet.
    pub fn is_untouched(&self) -> bool {
        fs::read_to_string(self.path()).map_or(true, |text| text == self.given("starter.rs"))
    }

    /// The first line that is the student's.
    pub fn first_line(&self) -> usize {
        let lines = self.given("starter.rs").lines().position(|line| line.contains("Yours:"));
        lines.map_or(1, |line| line + 1)
    }

    /// Whether that line is the answer to the question (both from 1), and what is said then.
    pub fn mark_line(&self, question: usize, line: usize) -> (bool, String) {
        let Some(of) = question.checked_sub(1).and_then(|at| self.questions.get(at)) else {
            let count = self.questions.len();
            return (false, format!("There is no question {question}, only 1 to {count}."));
        };
        let text = fs::read_to_string(top().join(&of.path)).unwrap_or_default();
        let shown = line.checked_sub(1).and_then(|at| text.lines().nth(at)).map(str::trim);
        let path = &of.path;
        match (of.line(), shown) {
            (None, _) => (false, format!("{path} has changed; the answer is not in it any more.")),
            (_, None) => (false, format!("{path} has no line {line}.")),
            (Some(right), Some(text)) if right == line => (true, format!("Right: {text}")),
            (_, Some("")) => (false, format!("Not line {line}: it is empty.")),
            (_, Some(text)) => (false, format!("Not line {line}: {text}")),
        }
    }

    /// Puts back what is missing in the folder, and names what is not as it was given.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn mend(&self) -> io::Result<Vec<String>> {
        let mut said = Vec::new();
        for (path, text) in FILES.iter().filter(|(path, _)| path.starts_with(self.name)) {
            let place = course().join(path);
            match fs::read(&place) {
                Ok(now) if now == text.as_bytes() => {}
                Ok(_) => said
                    .push(format!("course/{path} is not as it was when `cargo learn` was built.")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(self.folder())?;
                    fs::write(&place, text)?;
                    said.push(format!("course/{path} was missing; it has been put back."));
                }
                Err(error) => return Err(error),
            }
        }
        if self.quiz.is_none() && !self.path().exists() {
            fs::write(self.path(), self.given("starter.rs"))?;
        }
        Ok(said)
    }

    /// Makes the student's file the starter again, and gives the name under which the old one is
    /// kept; `None` if there was nothing to keep.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn reset(&self) -> io::Result<Option<String>> {
        if self.is_untouched() {
            fs::write(self.path(), self.given("starter.rs"))?;
            return Ok(None);
        }
        let old = |number: usize| format!("{}.old{number}", self.file);
        let free = (1..).map(old).find(|name| !self.folder().join(name).exists());
        let free = free.unwrap_or_else(|| old(0));
        fs::rename(self.path(), self.folder().join(&free))?;
        fs::write(self.path(), self.given("starter.rs"))?;
        Ok(Some(free))
    }
}

/// The numbers of the chapters whose own file later ones use.
pub fn kept() -> Vec<u32> {
    let text = fs::read_to_string(course().join(".kept")).unwrap_or_default();
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Sets them.
///
/// # Errors
/// The file cannot be written.
pub fn keep(numbers: &[u32]) -> io::Result<()> {
    let text: String = numbers.iter().map(|number| format!("{number:02}\n")).collect();
    fs::write(course().join(".kept"), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chapter_is_read_whole() {
        let chapters = chapters();
        assert!(chapters.len() >= 6);
        for (at, chapter) in chapters.iter().enumerate() {
            let name = chapter.name;
            assert!(at == 0 || chapters[at - 1].number < chapter.number, "{name}");
            assert!((15..=200).contains(&chapter.minutes), "{name}: {}", chapter.minutes);
            assert!(chapter.options.len() >= 3 && chapter.options[0].0 == 'a', "{name}");
            assert_eq!((chapter.hints.len(), chapter.questions.len()), (3, 3), "{name}");
            assert!(chapter.questions.iter().all(|question| question.line().is_some()), "{name}");
            assert!(chapter.first_line() > 1 && chapter.file.ends_with(".rs"), "{name}");
        }
    }
}
