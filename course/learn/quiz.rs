//! The quizzes: eight questions after a part of the course, each with the program that answers it.
//!
//! A question is a [`Chapter`] with a prediction and nothing else, so a job runs it as any other.
//!
//! # Read next
//! `book.rs`: the texts. `../kit/quiz.rs`: the programs.

use crate::book::{self, Chapter};
use crate::progress::{Mark, Progress};

/// The first question of quiz 2 is number 201: no chapter has such a number.
const NUMBERS: u32 = 100;

#[derive(Clone, Debug)]
pub struct Quiz {
    pub number: u32,
    pub title: String,
    /// How many questions, after which chapter, and minutes.
    pub label: String,
    /// The chapter before it.
    pub after: u32,
    pub text: &'static str,
    pub questions: Vec<Chapter>,
}

/// All of them, in order.
pub fn quizzes() -> Vec<Quiz> {
    let mut quizzes: Vec<Quiz> =
        book::files().filter_map(|(path, text)| read(path, text)).collect();
    quizzes.sort_by_key(|quiz| quiz.number);
    quizzes
}

fn read(path: &str, text: &'static str) -> Option<Quiz> {
    let number = path.strip_prefix("quizzes/")?.strip_suffix(".md")?.parse().ok()?;
    let title = text.lines().next()?.strip_prefix("# ")?.to_owned();
    let label = text.lines().nth(2)?.trim_matches('*').to_owned();
    let after = label.split("after chapter ").nth(1)?.split(' ').next()?.parse().ok()?;
    let asked = text.split("\n## Question ").skip(1);
    let questions = (1..).zip(asked).map(|(question, text)| Chapter {
        number: number * NUMBERS + question,
        name: "quizzes",
        title: format!("Quiz {number}, question {question}"),
        label: String::new(),
        minutes: 0,
        file: String::new(),
        options: book::options(text),
        hints: Vec::new(),
        questions: Vec::new(),
        scene: None,
        quiz: Some((number, question)),
    });
    Some(Quiz { number, title, label, after, text, questions: questions.collect() })
}

/// What is asked in one question of the quiz, from 1.
pub fn asked(quiz: u32, number: u32) -> Option<&'static str> {
    question(quiz, number)?.split("<!--").next().map(str::trim)
}

fn question(quiz: u32, question: u32) -> Option<&'static str> {
    let text = book::given(&format!("quizzes/{quiz}.md"))?;
    let text = text.split("\n## Question ").nth(question as usize)?;
    Some(text.split_once('\n')?.1.trim())
}

/// The rule that decides the question; for those who have answered it.
pub fn because(quiz: u32, number: u32) -> Option<&'static str> {
    let text = question(quiz, number)?.split("<!-- because: ").nth(1)?;
    Some(text.split(" -->").next()?.trim())
}

impl Quiz {
    /// How many are answered, and how many of those are right.
    pub fn score(&self, progress: &Progress) -> (usize, usize) {
        let marks = || self.questions.iter().map(|question| progress.mark(question.number));
        (marks().filter(is_answered).count(), marks().filter(is_right).count())
    }

    /// One line for the list of chapters.
    pub fn line(&self, progress: &Progress) -> String {
        let (answered, right) = self.score(progress);
        let all = self.questions.len();
        let mark = if answered == all {
            "✓"
        } else if answered > 0 {
            "…"
        } else {
            " "
        };
        let how =
            if answered > 0 { format!(", {right} of {answered} right") } else { String::new() };
        format!("{mark} {:<56} {all} questions{how}", self.title)
    }
}

fn is_answered(mark: &Mark) -> bool {
    mark.predicted.is_some() && mark.answer.is_some()
}

fn is_right(mark: &Mark) -> bool {
    is_answered(mark) && mark.predicted.map(|(letter, _)| letter) == mark.answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quiz_is_read_whole() {
        let quizzes = quizzes();
        assert!(!quizzes.is_empty());
        let chapters = book::chapters();
        for (at, quiz) in quizzes.iter().enumerate() {
            assert_eq!(quiz.number as usize, at + 1);
            assert!(chapters.iter().any(|chapter| chapter.number == quiz.after), "{}", quiz.after);
            assert_eq!(quiz.questions.len(), 8, "{}", quiz.title);
            for one in &quiz.questions {
                assert!(one.options.len() >= 3 && one.options[0].0 == 'a', "{}", one.title);
                assert!(one.number > 100 && chapters.iter().all(|c| c.number != one.number));
                let (quiz, number) = one.quiz.unwrap();
                assert!(asked(quiz, number).unwrap().contains("\n- a) "), "{}", one.title);
                assert!(because(quiz, number).unwrap().contains(" Chapter"), "{}", one.title);
            }
        }
    }
}
