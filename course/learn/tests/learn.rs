//! `cargo learn` as people use it, and misuse it. The student's files are in a folder of the test.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(20);

/// A folder of this test, with `registry.rs` of chapter 6 in it, if there is a text for it.
struct Course(PathBuf);

impl Course {
    fn new(name: &str, registry: Option<&str>) -> Course {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("06-ids")).unwrap();
        if let Some(text) = registry {
            fs::write(folder.join("06-ids/registry.rs"), text).unwrap();
        }
        Course(folder)
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_learn"));
        command.args(words.split_whitespace()).env("LEARN_COURSE", &self.0).stdin(Stdio::null());
        command
    }

    fn learn(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// What is said of chapter 6, and how many of the check's processes are left.
    fn certify(&self) -> (String, usize) {
        let mut command = self.command("certify");
        command.arg(&self.0).env("LEARN_CEILING", "10").stdout(Stdio::piped());
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let folders = ["certify-", ""].map(|name| format!("learn/{name}{}", child.id()));
        let said = text(&child.wait_with_output().unwrap());
        let line = said.lines().find(|line| line.starts_with("06-ids ")).unwrap_or(&said);
        // What was killed needs a moment to be gone.
        let until = Instant::now() + GONE;
        while left(&folders) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        (line["06-ids".len()..].trim().to_owned(), left(&folders))
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The solution of chapter 6, whose `insert` begins with something else.
fn hostile(first: &str) -> String {
    let head = "pub fn insert(&mut self, value: T) -> Id {";
    let solution = source("06-ids/solution.rs");
    assert_eq!(solution.matches(head).count(), 1);
    solution.replace(head, &format!("{head}\n{first}\n"))
}

#[test]
fn mistakes_in_the_words_are_named_and_nothing_is_done() {
    let course = Course::new("words", None);
    for (words, why) in [
        ("17 --check", "there is no chapter 17"),
        ("6 --chekc", "--chekc"),
        ("6 --predict z", "there is no answer 'z', only a, b, c"),
        ("--export", "missing argument"),
    ] {
        let out = course.learn(words);
        assert_eq!(out.status.code(), Some(2), "{words}: {}", text(&out));
        let said = text(&out);
        assert!(said.contains(why) && said.lines().count() == 1, "{words}: {said}");
    }
    assert!(!course.0.join(".progress").exists());
    assert!(text(&course.learn("--help")).starts_with("Usage: cargo learn"));
}

#[test]
fn hints_come_one_by_one_and_lines_are_marked() {
    let course = Course::new("hints", None);
    for wanted in ["Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3", "That was the last one"] {
        assert!(text(&course.learn("6 --hint")).contains(wanted), "{wanted}");
    }
    let id = fs::read_to_string("../../reactor/id.rs").unwrap();
    let line = id.lines().position(|line| line.contains("<< INDEX_BITS |")).unwrap() + 1;
    let right = course.learn(&format!("6 --read 2 {line}"));
    assert!(right.status.success() && text(&right).starts_with("Right: "), "{}", text(&right));
    for (words, why) in [
        (format!("6 --read 2 {}", line - 1), "Not line "),
        ("6 --read 2 99999".to_owned(), "has no line 99999"),
        ("6 --read 4 1".to_owned(), "no question 4, only 1 to 3"),
    ] {
        let out = course.learn(&words);
        assert!(out.status.code() == Some(1) && text(&out).contains(why), "{}", text(&out));
    }
    let progress = fs::read_to_string(course.0.join(".progress")).unwrap();
    assert!(progress.contains("\"hints\": 3"), "{progress}");
}

#[test]
fn a_question_of_a_quiz_is_answered_by_its_program_and_then_explained() {
    let course = Course::new("quiz", None);
    let asked = text(&course.learn("quiz 1"));
    assert!(asked.contains("Quiz 1, question 8") && !asked.contains("Chapter 3"), "{asked}");
    let out = course.learn("quiz 1 4 b");
    let said = text(&out);
    assert!(out.status.success() && said.contains("read gave Ok(0)"), "{said}");
    assert!(said.contains("You said b; it is a. Why?\nZero bytes is the end"), "{said}");
    assert!(text(&course.learn("list")).contains("8 questions, 0 of 1 right"));
    for (words, why) in [
        ("quiz 9", "there is no quiz 9, only 1"),
        ("quiz 1 9 a", "there is no question 9, only 1 to 8"),
        ("quiz 1 0 a", "there is no question 0, only 1 to 8"),
        ("quiz 1 1 z", "there is no answer 'z', only a, b, c"),
        ("quiz", "which quiz"),
    ] {
        let out = course.learn(words);
        assert_eq!(out.status.code(), Some(2), "{words}");
        assert!(text(&out).contains(why), "{words}: {}", text(&out));
    }
    let page = Page::serve(&course);
    let (_, state) = page.ask("GET TOKEN/state HTTP/1.1", "");
    assert!(state.contains("Zero bytes is") && !state.contains("A handle is not"), "{state}");
    let (status, text) = page.ask("GET TOKEN/text?quiz=1 HTTP/1.1", "");
    assert!(status == 200 && !text.contains("Zero bytes is"), "{text}");
    let (status, why) = page.ask(JSON, "{\"do\":\"check\",\"chapter\":104}");
    assert!(status == 409 && why.contains("can only be answered"), "{why}");
}

#[test]
fn reset_keeps_what_was_written() {
    let course = Course::new("reset", Some("mine"));
    assert!(text(&course.learn("reset 6")).contains("registry.rs.old1"));
    let read = |name: &str| fs::read_to_string(course.0.join("06-ids").join(name)).unwrap();
    assert_eq!(
        (read("registry.rs.old1"), read("registry.rs")),
        ("mine".to_owned(), source("06-ids/starter.rs"))
    );
    assert!(text(&course.learn("reset 6")).contains("nothing was written"));
    fs::write(course.0.join("06-ids/registry.rs"), "again").unwrap();
    assert!(text(&course.learn("reset 6")).contains("registry.rs.old2"));
}

#[test]
fn progress_that_cannot_be_read_is_put_aside_and_nothing_stops() {
    let course = Course::new("progress", None);
    fs::write(course.0.join(".progress"), "{\"6\": ").unwrap();
    let out = course.learn("list");
    assert!(out.status.success() && text(&out).contains("6. Who is number 5?"), "{}", text(&out));
    assert!(text(&out).contains("cannot be read"), "{}", text(&out));
    assert_eq!(fs::read_to_string(course.0.join(".progress.unreadable")).unwrap(), "{\"6\": ");
}

/// Copies of all solutions pass all checks: what certify says is what is so.
#[test]
fn certify_passes_the_solutions_and_names_what_fails() {
    let course = Course::new("certify", None);
    let mut chapters = 0;
    for entry in fs::read_dir("..").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Ok(readme) = fs::read_to_string(entry.path().join("README.md")) else { continue };
        let Some(file) = readme.split("*You write `").nth(1) else { continue };
        let file = file.split('`').next().unwrap();
        fs::create_dir_all(course.0.join(&name)).unwrap();
        fs::copy(entry.path().join("solution.rs"), course.0.join(&name).join(file)).unwrap();
        chapters += 1;
    }
    let out = course.command("certify").arg(&course.0).output().unwrap();
    let all = format!("{chapters} of {chapters} chapters pass.");
    assert!(out.status.success() && text(&out).contains(&all), "{}", text(&out));
    let course = Course::new("certify", Some(&source("06-ids/starter.rs")));
    fs::create_dir_all(course.0.join("01-waiting")).unwrap();
    fs::write(course.0.join("01-waiting/echo.rs"), "fn").unwrap();
    let out = course.command("certify").arg(&course.0).output().unwrap();
    let said = text(&out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("not begun") && said.contains("it does not compile: error"), "{said}");
    assert!(said.contains("02-threads   not there") && said.contains("\n0 of "), "{said}");
    let nowhere = course.learn("certify /nowhere");
    assert!(text(&nowhere).contains("no chapter of the course"), "{}", text(&nowhere));
}

#[test]
fn a_file_that_does_not_end_or_ends_the_check_gets_one_sentence() {
    for (name, first, why) in [
        (
            "endless",
            "loop { std::hint::spin_loop() }",
            "It still ran after 10 s: a loop does not end.",
        ),
        ("exit", "std::process::exit(0);", "The program ended before the check was over"),
        ("abort", "std::process::abort();", "The program ended before the check was over"),
        (
            "stack",
            "#[allow(unconditional_recursion)] fn f(n: u64) -> u64 { 1 + f(n + 1) } f(0);",
            "A function calls itself without end",
        ),
    ] {
        let (said, _) = Course::new(name, Some(&hostile(first))).certify();
        assert!(said.starts_with(&format!("fails: {why}")), "{name}: {said}");
    }
}

#[test]
fn a_file_that_fills_the_machine_is_stopped_and_harms_nobody() {
    let out = |what: &str| format!("use std::io::Write; {what}");
    for (name, first, why) in [
        ("memory", "let mut all = Vec::new(); loop { all.push(vec![0u8; 1 << 24]); }".to_owned(), "The program wanted more memory"),
        ("file", out("let mut f = std::fs::File::create(\"f\").unwrap(); loop { let _ = f.write(&[1; 1 << 16]); }"), "It has written more than 16 MiB to one file"),
        ("files", out("for n in 0.. { std::fs::write(format!(\"f{n}\"), vec![1; 1 << 22]).unwrap(); }"), "It has written more than 64 MiB"),
        ("prints", out("loop { let _ = writeln!(std::io::stderr(), \"again and again\"); }"), "It has printed more than 1048576 bytes"),
        ("line", out("loop { let _ = std::io::stderr().write(&[b'a'; 4096]); }"), "It has printed a line without end"),
        ("others", "std::fs::copy(\"/bin/sleep\", \"s\").unwrap(); loop { let _ = std::process::Command::new(\"./s\").arg(\"100\").spawn(); std::thread::sleep(std::time::Duration::from_millis(1)); }".to_owned(), "It has started more than 64 processes"),
    ] {
        let (said, left) = Course::new(name, Some(&hostile(&first))).certify();
        assert!(said.starts_with(&format!("fails: {why}")), "{name}: {said}");
        assert_eq!(left, 0, "{name}: processes are left");
    }
}

/// Programs in these folders that run.
fn left(folders: &[String]) -> usize {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_one = |entry: &fs::DirEntry| {
        let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        let program = program.to_string_lossy();
        folders.iter().any(|folder| program.contains(folder)) && !is_zombie(&entry.path())
    };
    processes.filter(is_one).count()
}

fn is_zombie(process: &Path) -> bool {
    fs::read_to_string(process.join("stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// The page's server, until it is dropped.
struct Page {
    child: Child,
    address: String,
    path: String,
}

impl Page {
    fn serve(course: &Course) -> Page {
        let mut child = course.command("6").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url =
            line.trim().strip_prefix("the course: http://").unwrap_or_else(|| panic!("{line}"));
        let (address, path) = url.split_once('/').unwrap();
        Page { child, address: address.to_owned(), path: format!("/{path}") }
    }

    /// Asks, and gives the status and the whole answer.
    fn ask(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (address, length) = (&self.address, body.len());
        let head = head.replace("TOKEN/", &self.path).replace("HOST", address);
        let host =
            if head.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
        write!(
            stream,
            "{head}\r\n{host}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const JSON: &str = "POST TOKEN/do HTTP/1.1\r\nContent-Type: application/json";

#[test]
fn the_page_is_for_this_machine_and_for_who_knows_its_token() {
    let course = Course::new("rules", None);
    let page = Page::serve(&course);
    for (head, body, status) in [
        ("GET TOKEN/ HTTP/1.1", "", 200),
        ("GET / HTTP/1.1", "", 404),
        ("GET /00000000000000000000000000000000/ HTTP/1.1", "", 404),
        ("GET TOKEN/ HTTP/1.1\r\nHost: evil.example", "", 403),
        ("GET TOKEN/state HTTP/1.1\r\nOrigin: http://evil.example", "", 403),
        ("GET TOKEN/state HTTP/1.1\r\nOrigin: http://HOST", "", 200),
        ("GET TOKEN/do HTTP/1.1", "", 405),
        ("POST TOKEN/state HTTP/1.1", "", 405),
        ("POST TOKEN/do HTTP/1.1\r\nContent-Type: text/plain", "{}", 415),
        (JSON, "{", 409),
        (JSON, "{}", 409),
        (JSON, "{\"do\":\"check\",\"chapter\":99}", 409),
        (JSON, "{\"do\":\"fly\",\"chapter\":6}", 409),
        (JSON, "{\"do\":\"predict\",\"chapter\":6,\"answer\":\"z\"}", 409),
        (JSON, "{\"do\":\"hint\",\"chapter\":6}", 200),
        ("GET TOKEN/text?chapter=6 HTTP/1.1", "", 200),
        ("GET TOKEN/text?chapter=99 HTTP/1.1", "", 404),
        ("GET TOKEN/file?path=reactor/id.rs HTTP/1.1", "", 200),
        ("GET TOKEN/file?path=../../etc/hosts.txt HTTP/1.1", "", 404),
        ("GET TOKEN/file?path=/etc/passwd HTTP/1.1", "", 404),
        ("GET TOKEN/file?path=.git/config HTTP/1.1", "", 404),
        ("GET TOKEN/file?path=reactor HTTP/1.1", "", 404),
        ("GET TOKEN/file?path=target/x.rs HTTP/1.1", "", 404),
    ] {
        let (got, answer) = page.ask(head, body);
        assert_eq!(got, status, "{head} {body}: {answer}");
    }
    let (_, answer) = page.ask("GET TOKEN/ HTTP/1.1", "");
    assert!(answer.contains("frame-ancestors 'none'"), "{answer}");
    let (_, state) = page.ask("GET TOKEN/state HTTP/1.1", "");
    let state: serde_json::Value =
        serde_json::from_str(state.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let chapter = state["chapters"].as_array().unwrap().iter().find(|c| c["number"] == 6).unwrap();
    assert_eq!(chapter["shown"].as_array().unwrap().len(), 1);
    // The answers to the questions stay where they are.
    assert!(!state.to_string().contains("INDEX_BITS"));
}

#[test]
fn a_prediction_is_kept_before_it_runs_and_the_page_is_told_line_by_line() {
    let course = Course::new("prediction", None);
    let page = Page::serve(&course);
    let mut events = TcpStream::connect(&page.address).unwrap();
    write!(events, "GET {}events HTTP/1.1\r\nHost: {}\r\n\r\n", page.path, page.address).unwrap();
    let mut events = BufReader::new(events).lines().map_while(Result::ok);
    let (status, answer) = page.ask(JSON, "{\"do\":\"predict\",\"chapter\":6,\"answer\":\"b\"}");
    assert_eq!(status, 200, "{answer}");
    let progress = fs::read_to_string(course.0.join(".progress")).unwrap();
    assert!(
        progress.contains("\"predicted\": \"b\"") && progress.contains("\"answer\": null"),
        "{progress}"
    );
    let data = events.find(|line| line == "data: \"answer: c\"");
    assert!(data.is_some(), "the program's lines have not come");
    assert!(events.any(|line| line == "event: over"));
    let (_, state) = page.ask("GET TOKEN/state HTTP/1.1", "");
    assert!(state.contains("\"answer\":\"c\"") && state.contains("\"predicted\":\"b\""), "{state}");
    // The first answer counts.
    page.ask(JSON, "{\"do\":\"predict\",\"chapter\":6,\"answer\":\"c\"}");
    let progress = fs::read_to_string(course.0.join(".progress")).unwrap();
    assert!(progress.contains("\"predicted\": \"b\""), "{progress}");
}

#[test]
fn what_a_program_has_deleted_is_put_back_and_what_it_has_changed_is_named() {
    let course = Course::new("deleted", Some("mine"));
    fs::write(course.0.join("06-ids/hints.md"), "none").unwrap();
    let out = course.learn("6 --check");
    let said = text(&out);
    assert!(said.contains("course/06-ids/check.rs was missing; it has been put back."), "{said}");
    assert!(said.contains("course/06-ids/hints.md is not as it was"), "{said}");
    let read = |name: &str| fs::read_to_string(course.0.join("06-ids").join(name)).unwrap();
    assert_eq!(read("check.rs"), source("06-ids/check.rs"));
    assert_eq!((read("registry.rs"), read("hints.md")), ("mine".to_owned(), "none".to_owned()));
}

/// A student with a browser: a prediction, a hint, a question about the real file, a quiz.
#[test]
#[ignore = "wants chromium: cargo test -p learn -- --ignored page"]
fn the_page_in_a_browser() {
    let course = Course::new("browser", None);
    let server = Page::serve(&course);
    let browser = support::browser::Browser::start();
    let page = browser.open(&format!("http://{}{}", server.address, server.path));
    page.wait_for("document.title === '6. Who is number 5?'");
    page.wait_for("document.querySelectorAll('.act').length === 6");
    let said = |step: &str| format!("document.querySelector('#act-{step} .said').textContent");
    page.evaluate("document.querySelectorAll('#act-Predict button')[1].click()");
    page.wait_for(&format!("{} === 'You said b; it is c. Why?'", said("Predict")));
    page.wait_for("document.querySelector('#output').textContent.includes('answer: c')");
    page.evaluate("document.querySelectorAll('#act-Check button')[1].click()");
    page.wait_for("document.querySelector('.hints').textContent.includes('Hint 1 of 3: ')");
    // A line of the file that is clicked is the answer that is tried.
    page.evaluate("document.querySelector('[data-question=\"1\"] button').click()");
    page.wait_for("document.querySelectorAll('#file div').length > 20");
    page.evaluate("document.querySelectorAll('#file div')[0].click()");
    page.evaluate("document.querySelectorAll('[data-question=\"1\"] button')[1].click()");
    let answer = "document.querySelector('[data-question=\"1\"] .said').textContent";
    page.wait_for(&format!("{answer}.startsWith(' Not line 1: //!')"));
    page.evaluate("location.hash = 'quiz1'");
    page.wait_for("document.title === 'Quiz 1. What the kernel offers'");
    page.evaluate("document.querySelectorAll('.act')[3].querySelectorAll('button')[1].click()");
    page.wait_for("document.querySelector('#said-104').textContent.includes('You said b; it is a. Why?Zero bytes is')");
    assert!(!page.text().contains("A handle is not the thread"), "it is not asked yet");
    page.evaluate("location.hash = 'articles'");
    page.wait_for("document.title === 'What the articles get wrong'");
    // A page that comes back is where it was.
    page.evaluate("location.reload()");
    page.wait_for("document.title === 'What the articles get wrong'");
    assert!(page.overflow() <= 0, "the page is wider than its window");
    let home = format!("http://{}/", server.address);
    for address in page.requests() {
        assert!(address.starts_with(&home) || address == "about:blank", "{address}");
    }
    assert_eq!(page.problems(), Vec::<String>::new());
}
