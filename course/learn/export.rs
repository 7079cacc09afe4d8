//! The course as a static site: what the programs print is recorded, and stands in the pages.
//!
//! Knows folders and HTML. The loop's page is there as a recording, too.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::book::{self, Chapter};
use crate::quiz::{self, Quiz};
use crate::render::{escape, html, sentence};
use crate::terminal::print;

const STYLE: &str = include_str!("site.css");
/// A recording that the loop's page shows without a loop.
const RECORDING: &str = include_str!("../../inspect/scene-3.html");

/// Writes a page for each chapter into the folder, which must be new or empty.
///
/// # Errors
/// The folder has something in it, or cannot be written; a program of the course does not run.
pub fn run(chapters: &[Chapter], quizzes: &[Quiz], folder: &Path) -> io::Result<()> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        let why = format!("{} is not empty; name a new folder", folder.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    fs::create_dir_all(folder)?;
    let mut list = String::new();
    for chapter in chapters {
        print(&format!("{} …", chapter.name));
        let said = recorded(&format!("predict{:02}", chapter.number), None)?;
        fs::write(folder.join(format!("{}.html", chapter.name)), page(chapters, chapter, &said))?;
        let (name, title) = (chapter.name, escape(&chapter.title));
        list += &format!(
            "<li><a href=\"{name}.html\">{title}</a> <small>{} minutes</small></li>\n",
            chapter.minutes
        );
        for quiz in quizzes.iter().filter(|quiz| quiz.after == chapter.number) {
            let name = format!("quiz-{}", quiz.number);
            fs::write(folder.join(format!("{name}.html")), quiz_page(quiz)?)?;
            list += &format!(
                "<li><a href=\"{name}.html\">{}</a> <small>{} questions</small></li>\n",
                escape(&quiz.title),
                quiz.questions.len()
            );
        }
    }
    let articles = book::given("articles/README.md").unwrap_or_default();
    let title = articles.lines().next().unwrap_or_default().trim_start_matches("# ");
    let body = format!(
        "<main><nav><a href=\"index.html\">all chapters</a></nav>\n{}</main>",
        html("articles", articles)
    );
    fs::write(folder.join("articles.html"), whole(title, &body))?;
    list += &format!("<li><a href=\"articles.html\">{}</a></li>\n", escape(title));
    let body = format!(
        "<main><h1>The course</h1>\n<p>Build a loop, break it, read the real one. To do it, clone the \
         repository and type <code>cargo learn</code>; this is its text.</p>\n<ul class=\"list\">\n{list}</ul>\n\
         <p><a href=\"recording.html\">A recording of the loop</a>, turn by turn.</p></main>"
    );
    fs::write(folder.join("index.html"), whole("The course", &body))?;
    fs::write(folder.join("recording.html"), RECORDING)?;
    print(&format!("Open {} in a browser.", folder.join("index.html").display()));
    Ok(())
}

fn whole(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n\
         <style>\n{STYLE}</style>\n{body}\n</html>\n",
        escape(title)
    )
}

/// What a program of the course prints.
fn recorded(program: &str, argument: Option<u32>) -> io::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "course", "--example", program]);
    command.args(argument.map(|argument| argument.to_string())).current_dir(book::top());
    let out = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !out.status.success() {
        return Err(io::Error::other(format!("{program} fails: {}", out.status)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The questions, each with what its program printed and the rule behind it.
fn quiz_page(quiz: &Quiz) -> io::Result<String> {
    let text = html("quizzes", quiz.text);
    let mut parts = text.split("</section>");
    let mut body = parts.next().unwrap_or_default().to_owned();
    // The first part has no question: it is what stands before the title.
    body += &format!("</section>{}", parts.next().unwrap_or_default());
    for (question, part) in quiz.questions.iter().zip(parts) {
        let Some((of, number)) = question.quiz else { continue };
        let said = escape(&recorded(&format!("quiz{of}"), Some(number))?);
        let because = sentence(quiz::because(of, number).unwrap_or_default());
        body += &format!(
            "</section>{part}<details><summary>You have an answer? This is what the program printed.\
             </summary><pre>{said}</pre><p>{because}</p></details>"
        );
    }
    let nav = "<nav><a href=\"index.html\">all chapters</a></nav>";
    Ok(whole(&quiz.title, &format!("<main>{nav}\n{body}</section></main>")))
}

fn page(chapters: &[Chapter], chapter: &Chapter, said: &str) -> String {
    let mut text = html(chapter.name, chapter.given("README.md"));
    // Links of the page that `cargo learn` serves lead to other pages, or nowhere, here.
    for other in chapters {
        let (from, to) =
            (format!("href=\"#{}\"", other.number), format!("href=\"{}.html\"", other.name));
        text = text.replace(&from, &to);
    }
    let after = |heading: &str, extra: &str, text: &str| {
        let start = text.find(&format!("<h2>{heading}</h2>")).unwrap_or(text.len());
        let end = text[start..].find("</section>").map_or(text.len(), |end| start + end);
        format!("{}{extra}{}", &text[..end], &text[end..])
    };
    let shown = format!(
        "<details><summary>You have an answer? This is what the program printed.</summary><pre>{}</pre></details>",
        escape(said)
    );
    text = after("Predict", &shown, &text);
    let hints: String = (1..).zip(&chapter.hints).fold(String::new(), |all, (number, hint)| {
        format!("{all}<details><summary>Hint {number}</summary><p>{}</p></details>", sentence(hint))
    });
    text = after("Check", &hints, &text);
    text = after("Watch", "<p><a href=\"recording.html\">A recording of the loop</a></p>", &text);
    let answers: String = (1..).zip(&chapter.questions).fold(String::new(), |all, (number, question)| {
        let line = question.line().map_or("?".to_owned(), |line| line.to_string());
        let path = escape(&question.path);
        format!("{all}<details><summary>Answer {number}</summary><p>{path}, line {line}</p></details>")
    });
    text = after("Read", &answers, &text);
    let next = chapters.iter().find(|other| other.number > chapter.number);
    let next = next.map_or(String::new(), |next| {
        format!(" · <a href=\"{}.html\">next: {}</a>", next.name, escape(&next.title))
    });
    whole(
        &chapter.title,
        &format!("<main><nav><a href=\"index.html\">all chapters</a>{next}</nav>\n{text}</main>"),
    )
}
