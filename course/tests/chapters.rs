//! The chapters as they lie on the disk.

use std::fs;
use std::path::{Path, PathBuf};

/// A chapter, and what its folder has.
#[derive(Debug)]
pub struct Chapter {
    pub number: usize,
    pub folder: PathBuf,
    pub name: String,
    /// The file that the student writes.
    pub file: String,
    pub readme: String,
}

impl Chapter {
    /// The text of a file of the folder.
    pub fn text(&self, file: &str) -> String {
        let path = self.folder.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

pub fn course() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A text of the course, and the chapter whose words it may use.
#[derive(Debug)]
pub struct Text {
    pub number: usize,
    pub path: PathBuf,
    pub text: String,
}

impl Text {
    /// The path that is shown.
    pub fn name(&self) -> String {
        self.path.strip_prefix(course()).unwrap().display().to_string()
    }
}

/// The texts of the chapters and of the quizzes, and the one on articles.
pub fn texts() -> Vec<Text> {
    let of = |chapter: Chapter| Text {
        number: chapter.number,
        path: chapter.folder.join("README.md"),
        text: chapter.readme,
    };
    let path = course().join("articles/README.md");
    // It comes after all chapters.
    let articles = Text { number: usize::MAX, text: fs::read_to_string(&path).unwrap(), path };
    all().into_iter().map(of).chain(quizzes()).chain([articles]).collect()
}

/// The texts of the quizzes.
pub fn quizzes() -> Vec<Text> {
    let mut quizzes = Vec::new();
    for entry in fs::read_dir(course().join("quizzes")).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).unwrap();
            let number = text.split(" · after chapter ").nth(1);
            let number = number.and_then(|rest| rest.split(' ').next()?.parse().ok());
            let number = number.unwrap_or_else(|| panic!("{}: after which?", path.display()));
            quizzes.push(Text { number, path, text });
        }
    }
    quizzes.sort_by_key(|quiz| quiz.number);
    quizzes
}

/// All of them, in order.
pub fn all() -> Vec<Chapter> {
    let mut chapters = Vec::new();
    for entry in fs::read_dir(course()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Some(number) = name.split_once('-').and_then(|(number, _)| number.parse().ok()) else {
            continue;
        };
        let readme = fs::read_to_string(entry.path().join("README.md")).unwrap();
        let file = readme.split("*You write `").nth(1).and_then(|rest| rest.split('`').next());
        let file = file.unwrap_or_else(|| panic!("{name}: no \"You write\"")).to_owned();
        chapters.push(Chapter { number, folder: entry.path(), name, file, readme });
    }
    chapters.sort_by_key(|chapter| chapter.number);
    chapters
}
