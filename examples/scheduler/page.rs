//! Pages: `/` for people, `/runs/ID` for programs, and a POST that starts a task.
//!
//! A page of another site cannot start anything: a request's host has to be an address or
//! `localhost`, not a name that somebody points at us, and a POST comes from our own page or from
//! none.

use std::fmt::Write as _;
use std::ops::Bound;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use waterwheel::Context;
use waterwheel::protocols::http::{Reply, Request, Response, Router, StatusCode};

use super::ledger::{Id, Run, State, parts};
use super::server::{Scheduler, Task};

/// Rows of a table at most: tasks, and last runs. `/?after=NAME` has the tasks behind that one.
const ROWS_MAX: usize = 50;
/// Bytes of an output that a row shows, from its end; all of it is a click away.
const SHOWN_BYTES: usize = 500;
/// Clients at most that wait until their run is stored.
const REPLIES_MAX: usize = 1000;
const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'";

type Refusal = (StatusCode, &'static str);

pub fn routes() -> Router<Scheduler> {
    Router::new()
        .get("/", |reactor, scheduler: &mut Scheduler, request, reply| {
            let after = request.query_param("after").unwrap_or_default();
            let page = || Response::html(page(reactor, scheduler, &after));
            let page = from_here(request).map(|()| page());
            answer(reactor, reply, page);
        })
        .get("/runs/{id}", |reactor, scheduler, request, reply| {
            let id = request.param("id").unwrap_or_default();
            let run = scheduler.ledger.runs.get(&*id);
            let run = from_here(request).and_then(|()| run.ok_or((NOT_FOUND, "no such run")));
            answer(reactor, reply, run.map(|run| Response::json(json(&id, run))));
        })
        .post("/tasks/{name}/run", |reactor, scheduler, request, reply| {
            let name = request.param("name").unwrap_or_default();
            match from_here(request).and_then(|()| may_start(scheduler, &name)) {
                Ok(()) => scheduler.post(reactor, &name, reply),
                Err(refusal) => answer(reactor, reply, Err(refusal)),
            }
        })
}

fn may_start(scheduler: &Scheduler, name: &str) -> Result<(), Refusal> {
    let is_full = scheduler.replies.len() >= REPLIES_MAX;
    match scheduler.tasks.contains_key(name) {
        _ if !scheduler.is_begun || scheduler.is_ending || is_full => Err((UNAVAILABLE, "not now")),
        true => Ok(()),
        false => Err((NOT_FOUND, "no such task")),
    }
}

/// The run is stored.
pub fn accepted(reactor: &mut Context<Scheduler>, id: &Id, reply: Reply) {
    let page = Response::html(format!("accepted: <a href=\"/runs/{id}\">{id}</a>\n"));
    let page = page.status(StatusCode::ACCEPTED).header("Location", format!("/runs/{id}"));
    answer(reactor, reply, Ok(page));
}

fn answer(reactor: &mut Context<Scheduler>, reply: Reply, result: Result<Response, Refusal>) {
    let error = |(status, why)| Response::text(format!("{why}\n")).status(status);
    let response = result.unwrap_or_else(error);
    let safe =
        response.header("Content-Security-Policy", POLICY).header("Cache-Control", "no-store");
    reply.send(reactor, safe.header("X-Content-Type-Options", "nosniff"));
}

fn from_here(request: &Request<'_>) -> Result<(), Refusal> {
    let host = request.authority().unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let is_here = name == "localhost" || bare.parse::<std::net::IpAddr>().is_ok();
    let origin = request.header("Origin");
    let is_ours = origin.is_none_or(|origin| origin.strip_prefix("http://") == Some(host));
    if is_here && is_ours { Ok(()) } else { Err((StatusCode::FORBIDDEN, "not from there")) }
}

/// A time in a zone, for people.
fn time(ms: i64, zone: Option<&str>) -> String {
    let zone = zone.and_then(|zone| TimeZone::get(zone).ok()).unwrap_or_else(TimeZone::system);
    let time = Timestamp::from_millisecond(ms).map(|at| at.to_zoned(zone));
    time.map_or("?".to_owned(), |time| time.strftime("%F %T %Z").to_string())
}

fn next(reactor: &Context<Scheduler>, scheduler: &Scheduler, task: &Task) -> Option<String> {
    let next = reactor[scheduler.clock].task(task.clock?)?.next?;
    Some(time(next.wall.unix_ms(), task.entry.zone()))
}

fn word(run: &Run) -> &str {
    match (run.state, &run.end) {
        (State::Runs, _) => "running",
        (State::Waits, _) => "waiting",
        (State::Over, Some(end)) => &end.how,
        (State::Over, None) => "over",
    }
}

fn page(reactor: &Context<Scheduler>, scheduler: &Scheduler, after: &str) -> String {
    let mut page = String::from(
        "<!DOCTYPE html><meta charset=utf-8><meta http-equiv=refresh content=5><title>scheduler</title>\
         <style>td,th{padding:.1em .7em;text-align:left}pre{margin:0;max-height:9em;overflow:auto}</style>\
         <h1>Tasks</h1><table id=tasks><tr><th>name<th>when<th>next<th>last<th>command<th>",
    );
    let mut last_name = "";
    let behind = (Bound::Excluded(after), Bound::Unbounded);
    for task in scheduler.tasks.range::<str, _>(behind).map(|(_, task)| task).take(ROWS_MAX) {
        let entry = &task.entry;
        let next = next(reactor, scheduler, task).unwrap_or("-".to_owned());
        let last = scheduler.ledger.of(&entry.name).next().map_or("-", |(_, run)| word(run));
        let [typed, command, last] = [&entry.typed, &entry.command, last].map(escape);
        let name = &entry.name;
        last_name = name;
        let _ = write!(
            page,
            "<tr><td>{name}<td>{typed}<td>{next}<td>{last}<td>{command}<td>\
             <form method=post action=\"/tasks/{name}/run\"><button>run</button></form>"
        );
    }
    let behind = (Bound::Excluded(last_name), Bound::Unbounded);
    let next = match scheduler.tasks.range::<str, _>(behind).next() {
        Some(_) => format!("; <a href=\"/?after={last_name}\">the next {ROWS_MAX}</a>"),
        None => String::new(),
    };
    let _ = write!(
        page,
        "</table><p>tasks: {}{next}\
         <h1>Runs</h1><table id=runs>\
         <tr><th>run<th>due<th>attempt<th>how<th>code<th>by<th>output",
        scheduler.tasks.len()
    );
    let ledger = &scheduler.ledger;
    let under_way = ledger.unfinished();
    for id in under_way.iter().chain(ledger.over.iter().rev()).take(ROWS_MAX) {
        let (Some(run), Some((name, due))) = (ledger.runs.get(id), parts(id)) else { continue };
        let zone = scheduler.tasks.get(name).and_then(|task| task.entry.zone());
        let code =
            run.end.as_ref().and_then(|end| end.code).map_or("-".into(), |code| code.to_string());
        let output = run.end.as_ref().map_or(&[][..], |end| &end.output);
        let output = String::from_utf8_lossy(&output[output.len().saturating_sub(SHOWN_BYTES)..]);
        let [how, by, output] = [word(run), &run.by, &output].map(escape);
        let (due, attempt) = (time(due, zone), run.attempt);
        let _ = write!(
            page,
            "<tr><td><a href=\"/runs/{id}\">{id}</a><td>{due}<td>{attempt}<td>{how}<td>{code}<td>{by}\
             <td><pre>{output}</pre>"
        );
    }
    page + "</table>"
}

fn escape(text: &(impl AsRef<str> + ?Sized)) -> String {
    text.as_ref().replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

fn json(id: &str, run: &Run) -> String {
    let end = run.end.as_ref();
    let state = format!("{:?}", run.state).to_lowercase();
    let number =
        |number: Option<i64>| number.map_or("null".to_owned(), |number| number.to_string());
    let code = number(end.and_then(|end| end.code).map(i64::from));
    let how = end.map_or("null".to_owned(), |end| string(&end.how));
    let output = end.map_or("null".to_owned(), |end| string(&String::from_utf8_lossy(&end.output)));
    let (id, by, attempt) = (string(id), string(&run.by), run.attempt);
    let (began, ended) = (number(run.began), number(run.ended));
    format!(
        "{{\"id\":{id},\"state\":\"{state}\",\"attempt\":{attempt},\"began_ms\":{began},\"ended_ms\":{ended},\
         \"code\":{code},\"how\":{how},\"by\":{by},\"output\":{output}}}\n"
    )
}

/// A string of JSON.
fn string(text: &str) -> String {
    let mut json = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => json.extend(['\\', char]),
            '\n' => json.push_str("\\n"),
            char if u32::from(char) < 0x20 => drop(write!(json, "\\u{:04x}", u32::from(char))),
            char => json.push(char),
        }
    }
    json + "\""
}
