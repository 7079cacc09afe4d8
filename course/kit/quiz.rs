//! The questions of a quiz, as programs.

use std::io;

/// A question: it does what its text shows, says what it sees, and gives the letter of the answer that it saw.
pub type Question = fn() -> io::Result<char>;

/// Runs the question whose number is the program's argument; all of them if there is none.
///
/// # Errors
/// The question's own.
pub fn quiz(questions: &[Question]) -> io::Result<()> {
    let Some(number) = std::env::args().nth(1) else {
        for (at, question) in questions.iter().enumerate() {
            println!("{}. answer: {}", at + 1, question()?);
        }
        return Ok(());
    };
    let question =
        number.parse().ok().and_then(|number: usize| questions.get(number.checked_sub(1)?));
    let Some(question) = question else {
        eprintln!("error: there is no question {number}, only 1 to {}", questions.len());
        std::process::exit(2);
    };
    println!("answer: {}", question()?);
    Ok(())
}
