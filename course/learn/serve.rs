//! The page: text on the left, what the programs say on the right.
//!
//! Knows HTTP; does everything by the [`Desk`]. As the library's own page it is for this machine:
//! it listens on a loopback address, its address has a token of 128 random bits, and requests for
//! other hosts and from other sites are refused.
//!
//! # Read next
//! `page.html`: what the browser makes of it.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Component, Path};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use waterwheel::process::Signal;
use waterwheel::protocols::http::{
    Limits, Method, Reply, Request, Response, Server, SseEvent, StatusCode,
};
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor};

use crate::book;
use crate::desk::{Desk, Told};
use crate::job::{self, Kind};
use crate::render;
use crate::terminal::{self, print};
use crate::tour;

/// Pages at a time; one more gets 503.
const PAGES_MAX: usize = 8;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a command.
const COMMAND_BYTES_MAX: usize = 16 * 1024;
/// How often the file is looked at.
const WATCH: Duration = Duration::from_millis(300);
/// How often a page is sent something, so that it shows when it has gone.
const BEAT: Duration = Duration::from_secs(15);

/// What articles get wrong; it belongs to no chapter.
const ARTICLES: &str = "articles/README.md";

const PAGE: &str = include_str!("page.html");
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; frame-src http://127.0.0.1:*; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where the page is.
struct Place {
    token: String,
    /// The values of `Host` under which it is reached.
    hosts: [String; 2],
}

/// Serves until a signal comes.
///
/// # Errors
/// The port is in use; the system has no random numbers.
pub fn run(desk: &mut Desk, port: u16) -> io::Result<()> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| io::Error::other(error.to_string()))?;
    let token: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut reactor = Reactor::new()?;
    let limits = Limits {
        body_bytes_max: COMMAND_BYTES_MAX,
        connections_max: CONNECTIONS_MAX,
        ..Limits::default()
    };
    let place = Rc::new(RefCell::new(Place { token: token.clone(), hosts: Default::default() }));
    let of_page = place.clone();
    let server = Server::new(move |reactor, desk: &mut Desk, request, reply| {
        answer(reactor, desk, &of_page.borrow(), request, reply);
    });
    let listener = server.limits(limits).listen(&mut reactor, format!("127.0.0.1:{port}"))?;
    let address = reactor[listener].local_addr();
    place.borrow_mut().hosts = [address.to_string(), format!("localhost:{}", address.port())];
    for signal in [Signal::INT, Signal::TERM] {
        reactor.on_signal(signal, |reactor, desk: &mut Desk, _| {
            job::stop(reactor, desk);
            tour::stop(reactor, desk);
            reactor.stop();
        })?;
    }
    reactor.every(WATCH, Missed::Skip, |reactor, desk: &mut Desk, _| desk.watch(reactor));
    reactor.every(BEAT, Missed::Skip, |reactor, desk: &mut Desk, _| {
        let beat = SseEvent::comment("still here");
        desk.pages.retain(|page| page.is_open(reactor) && page.event(reactor, &beat).is_taken());
    });
    print(&format!("the course: http://{address}/{token}/"));
    print("Open it in a browser; Ctrl-C ends it.\n");
    print(&terminal::list(&desk.chapters, &desk.quizzes, &desk.progress));
    reactor.run(desk)
}

fn answer(
    reactor: &mut Context<Desk>,
    desk: &mut Desk,
    place: &Place,
    request: &Request<'_>,
    reply: Reply,
) {
    let Some(path) = place.path_of(request) else {
        reply.send(reactor, Response::new(StatusCode::NOT_FOUND));
        return;
    };
    if !place.is_ours(request) {
        reply.send(reactor, Response::new(StatusCode::FORBIDDEN));
        return;
    }
    let response = match (path, request.method() == Method::POST) {
        ("do", true) => act(reactor, desk, place, request),
        ("", false) => Response::html(PAGE),
        ("state", false) => Response::json(desk.state().to_string()),
        ("text", false) => text(desk, request),
        ("file", false) => file(request),
        ("events", false) => return events(reactor, desk, reply),
        ("" | "do" | "state" | "text" | "file" | "events", _) => {
            Response::new(StatusCode::METHOD_NOT_ALLOWED)
        }
        _ => Response::new(StatusCode::NOT_FOUND),
    };
    let response = response
        .header("Cache-Control", "no-store")
        .header("Content-Security-Policy", POLICY)
        .header("X-Content-Type-Options", "nosniff")
        .header("Referrer-Policy", "no-referrer");
    reply.send(reactor, response);
}

impl Place {
    /// The rest of a request's path, if it begins with the token.
    fn path_of<'a>(&self, request: &Request<'a>) -> Option<&'a str> {
        let (token, path) = request.path().strip_prefix('/')?.split_once('/')?;
        // All bytes are compared, wherever the first one differs.
        let differ = token.bytes().zip(self.token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        (token.len() == self.token.len() && differ == 0).then_some(path)
    }

    /// Returns true if the request is for this page, and from it or from no page.
    fn is_ours(&self, request: &Request<'_>) -> bool {
        let host = request.authority().unwrap_or_default();
        let origin = request.header("Origin");
        self.hosts.iter().any(|known| known == host)
            && origin.is_none_or(|origin| origin.strip_prefix("http://") == Some(host))
    }
}

fn bad(status: StatusCode, why: &str) -> Response {
    Response::text(format!("{why}\n")).status(status)
}

/// The text of a chapter.
fn text(desk: &Desk, request: &Request<'_>) -> Response {
    let number = |name| request.query_param(name).and_then(|number| number.parse().ok());
    if let Some(quiz) = number("quiz").and_then(|number| desk.quiz(number)) {
        return Response::html(render::html("quizzes", quiz.text));
    }
    if request.query_param("page").as_deref() == Some("articles") {
        return Response::html(render::html("articles", book::given(ARTICLES).unwrap_or_default()));
    }
    match number("chapter").and_then(|number| desk.chapter(number)) {
        Some(chapter) => {
            // As it is on the disk: who writes the course sees it at once.
            let path = chapter.folder().join("README.md");
            let text =
                fs::read_to_string(path).unwrap_or_else(|_| chapter.given("README.md").into());
            Response::html(render::html(chapter.name, &text))
        }
        None => bad(StatusCode::NOT_FOUND, "There is no such chapter."),
    }
}

/// A file of the repository, as text. What is hidden, or is built, is not shown.
fn file(request: &Request<'_>) -> Response {
    let path = request.query_param("path").unwrap_or_default();
    let is_plain = Path::new(&*path).components().all(|part| match part {
        Component::Normal(name) => !name.to_string_lossy().starts_with('.') && name != "target",
        _ => false,
    });
    let kind = Path::new(&*path).extension().and_then(|end| end.to_str()).unwrap_or_default();
    let place = book::top().join(&*path);
    // A link out of the repository is none of its files.
    let inside = place
        .canonicalize()
        .is_ok_and(|real| book::top().canonicalize().is_ok_and(|top| real.starts_with(top)));
    if !is_plain || !inside || !["rs", "md", "toml", "txt"].contains(&kind) {
        return bad(StatusCode::NOT_FOUND, "There is no such file to show.");
    }
    match fs::read_to_string(place) {
        Ok(text) => Response::text(text),
        Err(error) => bad(StatusCode::NOT_FOUND, &format!("{path}: {error}.")),
    }
}

/// A page wants to be told.
fn events(reactor: &mut Context<Desk>, desk: &mut Desk, reply: Reply) {
    desk.pages.retain(|page| page.is_open(reactor));
    if desk.pages.len() >= PAGES_MAX {
        let why = format!("There are {PAGES_MAX} pages already; close one.");
        reply.send(reactor, bad(StatusCode::SERVICE_UNAVAILABLE, &why));
        return;
    }
    let page = reply.events(reactor);
    let _ = page.event(reactor, &SseEvent::default().retry(Duration::from_secs(1))); // There is room.
    let state = desk.state().to_string();
    let _ = page.event(reactor, &SseEvent::data(&state).event("state")); // As above.
    desk.pages.push(page);
}

/// Does what a button asks for: 200 and what there is to say, or 409 and why not.
fn act(
    reactor: &mut Context<Desk>,
    desk: &mut Desk,
    place: &Place,
    request: &Request<'_>,
) -> Response {
    // A form of another site can send other types, but not this one.
    let kind = request.header("Content-Type").unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Response::new(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let done = match serde_json::from_slice::<Value>(request.body()) {
        Ok(wanted) => carry_out(reactor, desk, place, &wanted),
        Err(error) => Err(format!("This is no JSON: {error}.")),
    };
    let state = desk.state();
    desk.show(reactor, "state", &state);
    match done {
        Ok(said) => Response::json(json!({ "said": said }).to_string()),
        Err(why) => bad(StatusCode::CONFLICT, &why),
    }
}

fn carry_out(
    reactor: &mut Context<Desk>,
    desk: &mut Desk,
    place: &Place,
    wanted: &Value,
) -> Result<String, String> {
    let number = wanted["chapter"].as_u64().and_then(|number| u32::try_from(number).ok());
    let Some(chapter) = number.and_then(|number| desk.chapter(number)) else {
        return Err("There is no such chapter.".to_owned());
    };
    let number = chapter.number;
    let said = String::new();
    let what = wanted["do"].as_str().unwrap_or_default();
    if chapter.quiz.is_some() && !["predict", "stop"].contains(&what) {
        return Err("A question of a quiz can only be answered.".to_owned());
    }
    match what {
        "open" => desk.open(number),
        "check" => job::start(reactor, desk, Kind::Check, &chapter),
        "run" => job::start(reactor, desk, Kind::Run, &chapter),
        "break" => job::start(reactor, desk, Kind::Break, &chapter),
        "predict" => {
            let answer = wanted["answer"].as_str().and_then(|answer| answer.chars().next());
            let known = answer.filter(|a| chapter.options.iter().any(|(letter, _)| letter == a));
            let answer = known.ok_or("It is none of the answers.")?;
            desk.mark(reactor, number, |mark| mark.predicts(answer));
            job::start(reactor, desk, Kind::Predict, &chapter);
        }
        "stop" => {
            if desk.job.is_none() {
                return Err("Nothing runs.".to_owned());
            }
            job::stop(reactor, desk);
            desk.tell(reactor, Told::Line("stopped"));
        }
        "hint" => {
            let all = chapter.hints.len();
            desk.mark(reactor, number, |mark| mark.hints = (mark.hints + 1).min(all));
        }
        "read" => {
            let index = |name: &str| wanted[name].as_u64().and_then(|it| usize::try_from(it).ok());
            let (question, line) = (index("question"), index("line"));
            let (question, line) = question.zip(line).ok_or("A question and a line are wanted.")?;
            let (is_right, said) = chapter.mark_line(question, line);
            if is_right {
                desk.mark(reactor, number, |mark| mark.has_read(question));
            }
            return Ok(said);
        }
        "reset" => {
            let old = chapter.reset().map_err(|error| error.to_string())?;
            let beside = |old| format!("It is as it was. Yours is beside it: {old}.");
            return Ok(old.map_or("Nothing was written in it.".to_owned(), beside));
        }
        "tour" => {
            let scene = chapter.scene.ok_or("This chapter has no scene in the tour.")?;
            tour::start(reactor, desk, scene, &format!("http://{}", place.hosts[0]));
        }
        other => return Err(format!("Nothing is called {other:?}.")),
    }
    Ok(said)
}
