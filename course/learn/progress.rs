//! How far a student is: `.progress` in the folder of the course.
//!
//! Knows a file of JSON. It is written whole beside the old one and then renamed, so that it is
//! never half written; one that cannot be read is put aside and named, not overwritten.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// A pause longer than this is no work. 10 minutes.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// What is known of one chapter. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    /// Seconds of work.
    pub seconds: u64,
    /// The answer before the first run, and when it was given.
    pub predicted: Option<(char, u64)>,
    /// What the program answered.
    pub answer: Option<char>,
    pub hints: usize,
    pub checks: u64,
    /// When the check passed first.
    pub passed: Option<u64>,
    /// Questions that were answered right, from 1.
    pub read: Vec<usize>,
}

#[derive(Debug)]
pub struct Progress {
    path: PathBuf,
    marks: BTreeMap<u32, Mark>,
    /// The chapter that is worked at, and since when it has not been counted.
    at: Option<(u32, u64)>,
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Progress {
    /// Reads the file, and says what is wrong with it.
    pub fn read(path: PathBuf) -> (Progress, Option<String>) {
        let mut progress = Progress { path, marks: BTreeMap::new(), at: None };
        let wrong = match fs::read_to_string(&progress.path) {
            Ok(text) => match serde_json::from_str::<Value>(&text) {
                Ok(Value::Object(chapters)) => {
                    for (number, mark) in &chapters {
                        if let Ok(number) = number.parse() {
                            progress.marks.insert(number, Mark::of(mark));
                        }
                    }
                    return (progress, None);
                }
                Ok(_) => "it is no object of JSON".to_owned(),
                Err(error) => error.to_string(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (progress, None),
            Err(error) => error.to_string(),
        };
        let (path, aside) = (progress.path.display(), progress.path.with_extension("unreadable"));
        let then = match fs::rename(&progress.path, &aside) {
            Ok(()) => format!("It is now {}, and a new one begins.", aside.display()),
            Err(error) => format!("It cannot be put aside either: {error}."),
        };
        let said = format!("{path} cannot be read: {wrong}. {then}");
        (progress, Some(said))
    }

    pub fn mark(&self, chapter: u32) -> Mark {
        self.marks.get(&chapter).cloned().unwrap_or_default()
    }

    /// Changes what is known of a chapter, and writes it.
    ///
    /// # Errors
    /// The file cannot be written; in memory the change is made.
    pub fn change(&mut self, chapter: u32, change: impl FnOnce(&mut Mark)) -> io::Result<()> {
        self.work(chapter, now());
        change(self.marks.entry(chapter).or_default());
        self.write()
    }

    /// Somebody works at a chapter now.
    pub fn work(&mut self, chapter: u32, now: u64) {
        if let Some((before, since)) = self.at.replace((chapter, now)) {
            let seconds = now.saturating_sub(since);
            let mark = self.marks.entry(before).or_default();
            if seconds <= PAUSE_MAX.as_secs() && mark.passed.is_none() {
                mark.seconds += seconds;
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        let marks: serde_json::Map<_, _> =
            self.marks.iter().map(|(number, mark)| (number.to_string(), mark.json())).collect();
        let beside = self.path.with_extension("new");
        fs::write(&beside, format!("{:#}\n", Value::Object(marks)))?;
        fs::rename(&beside, &self.path)
    }
}

impl Mark {
    fn of(value: &Value) -> Mark {
        let letter = |value: &Value| value.as_str().and_then(|text| text.chars().next());
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let read = value["read"].as_array().into_iter().flatten();
        Mark {
            seconds: number(&value["seconds"]),
            predicted: letter(&value["predicted"]).map(|it| (it, number(&value["predicted_at"]))),
            answer: letter(&value["answer"]),
            hints: number(&value["hints"]) as usize,
            checks: number(&value["checks"]),
            passed: value["passed_at"].as_u64(),
            read: read.map(|it| number(it) as usize).collect(),
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "seconds": self.seconds,
            "predicted": self.predicted.map(|(letter, _)| letter.to_string()),
            "predicted_at": self.predicted.map(|(_, at)| at),
            "answer": self.answer.map(|letter| letter.to_string()),
            "hints": self.hints,
            "checks": self.checks,
            "passed_at": self.passed,
            "read": self.read,
        })
    }

    /// Only the first answer counts: the program has not run before it.
    pub fn predicts(&mut self, answer: char) {
        self.predicted.get_or_insert((answer, now()));
    }

    /// A question is answered.
    pub fn has_read(&mut self, question: usize) {
        if !self.read.contains(&question) {
            self.read.push(question);
        }
    }

    /// Minutes of work, rounded.
    pub fn minutes(&self) -> u64 {
        (self.seconds + 30) / 60
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("learn-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    #[test]
    fn what_is_written_is_read_again() {
        let path = path("again");
        let (mut progress, said) = Progress::read(path.clone());
        assert_eq!(said, None);
        let change = |mark: &mut Mark| {
            *mark =
                Mark { predicted: Some(('b', 7)), read: vec![1, 3], hints: 2, ..Mark::default() };
        };
        progress.change(6, change).unwrap();
        let (again, said) = Progress::read(path.clone());
        assert_eq!((again.mark(6), said), (progress.mark(6), None));
        assert_eq!(again.mark(7), Mark::default());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_is_broken_is_put_aside() {
        for text in ["{", "[]", "\"6\""] {
            let path = path("broken");
            fs::write(&path, text).unwrap();
            let (progress, said) = Progress::read(path.clone());
            assert!(said.unwrap().contains("a new one begins"));
            assert_eq!(progress.mark(1), Mark::default());
            let aside = path.with_extension("unreadable");
            assert_eq!(fs::read_to_string(&aside).unwrap(), text);
            fs::remove_file(aside).unwrap();
        }
        // What is in it may be anything.
        let path = path("strange");
        fs::write(&path, r#"{"six": 1, "6": {"predicted": "", "read": ["x"], "seconds": -1}}"#)
            .unwrap();
        let (progress, said) = Progress::read(path.clone());
        assert_eq!((progress.mark(6).predicted, said), (None, None));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_long_pause_is_no_work() {
        let (mut progress, _) = Progress::read(path("pause"));
        progress.work(1, 1000);
        progress.work(1, 1300);
        progress.work(2, 1360); // Until now it was chapter 1.
        progress.work(2, 9000);
        assert_eq!((progress.mark(1).seconds, progress.mark(2).seconds), (360, 0));
        assert_eq!(progress.mark(1).minutes(), 6);
    }
}
