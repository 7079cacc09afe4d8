//! The page's own loop: it serves the page, streams records to it, and takes its commands.
//!
//! Knows HTTP and server-sent events; reaches the watched loop only through its [`Session`]. A page
//! is a place in the ring and not a queue: one that reads slowly costs no memory. It is told how many
//! records it has missed, and begins again with a keyframe.
//!
//! # Read next
//! `page.html`: what the browser makes of it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control::{Command, Key, Mode, Session, Standing};
use super::doctor::Doctor;
use super::wire::{self, UNIT};
use super::{Answer, Published, Shared, chrome};
use crate::protocols::http::{
    Limits, Method, Reply, Request, Response, Sender, Server, SseEvent, StatusCode,
};
use crate::reactor::{Kind, Missed, Remote};
use crate::timers::TimerId;
use crate::{Context, Reactor};

/// Pages at a time; one more gets 503.
pub const PAGES_MAX: usize = 8;
/// How often a page gets what is new: 30 times a second.
pub const TICK: Duration = Duration::from_millis(33);
/// Records that a page gets in one tick: 60,000 a second.
pub const RECORDS_PER_TICK: u64 = 2000;
/// Records that may wait for a page; with more it gets none of them, and a keyframe.
const BACKLOG_MAX: u64 = 8 * RECORDS_PER_TICK;
/// A running loop is asked for a keyframe so often, against which each page checks its picture.
const TICKS_PER_KEY: u64 = 300;
/// A page gets something so often, also from a loop that stands still: that a browser has gone shows
/// when it does not take it.
const TICKS_PER_BEAT: u64 = 15;
/// Ticks without a page after which a stopped loop is let go: 3 s.
const TICKS_ALONE_MAX: u32 = 90;
/// Bytes of a command.
const COMMAND_BYTES_MAX: usize = 16 * 1024;

const PAGE: &str = include_str!("page.html");
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'";

/// The state of the page's loop.
pub struct Desk {
    shared: Arc<Shared>,
    token: String,
    /// The values of `Host` under which it is reached; none for any.
    hosts: Vec<String>,
    pages: BTreeMap<u64, Page>,
    /// Pages so far.
    count: u64,
    /// The loop that is shown; its number is 0 before the first.
    session: Option<Arc<Session>>,
    /// Records are wanted of it.
    observing: bool,
    key: Option<Key>,
    tail: Tail,
    doctor: Doctor,
    /// The latest findings, and how often they have changed.
    findings: (u64, String),
    ticks: u64,
    ticks_alone: u32,
    timer: Option<TimerId>,
}

/// One open page.
struct Page {
    to: Sender,
    /// The number of the session whose records it has.
    session: u64,
    /// The last record that was sent to it, and its time.
    place: u64,
    units: u64,
    /// It can use no records before it gets a keyframe.
    wants_key: bool,
    /// The record of the last keyframe that it has.
    key: Option<u64>,
    places: usize,
    names: usize,
    version: u64,
    state: String,
    findings: u64,
    ended: bool,
}

/// What a tick has found of the loop that is shown.
struct News<'a> {
    session: &'a Session,
    /// The last record.
    head: u64,
    key: Option<&'a Key>,
    tail: &'a Tail,
    findings: &'a (u64, String),
}

/// What runs at the end of the records that have come.
#[derive(Default)]
struct Tail {
    read: u64,
    /// The places of the callbacks on the stack, and when each was seen first.
    running: Vec<(u16, Option<Instant>)>,
}

/// Serves until it is stopped. Answers the address, or why there is none.
pub fn run(
    shared: Arc<Shared>,
    token: &str,
    address: SocketAddr,
    opened: &SyncSender<io::Result<(SocketAddr, Remote<Desk>)>>,
) {
    let served = serve(shared, token, address);
    let (mut reactor, mut desk) = match served {
        Ok((reactor, desk, address, remote)) => {
            let _ = opened.send(Ok((address, remote)));
            (reactor, desk)
        }
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    if let Err(error) = reactor.run(&mut desk) {
        log::error!("the page's loop has ended: {error}");
    }
    // Nobody could let it go any more.
    if let Some(session) = &desk.session {
        session.release();
    }
}

type Served = (Reactor<Desk>, Desk, SocketAddr, Remote<Desk>);

fn serve(shared: Arc<Shared>, token: &str, address: SocketAddr) -> io::Result<Served> {
    let mut reactor = Reactor::new()?;
    let limits =
        Limits { body_bytes_max: COMMAND_BYTES_MAX, connections_max: 64, ..Limits::default() };
    let server = Server::new(answer).limits(limits);
    let listener = server.listen(&mut reactor, address.to_string())?;
    let address = reactor[listener].local_addr();
    let mut hosts = vec![address.to_string(), format!("localhost:{}", address.port())];
    if address.ip().is_unspecified() {
        hosts.clear();
    }
    let remote = reactor.remote();
    let desk = Desk {
        shared,
        token: token.to_owned(),
        hosts,
        pages: BTreeMap::new(),
        count: 0,
        session: None,
        observing: false,
        key: None,
        tail: Tail::default(),
        doctor: Doctor::default(),
        findings: (0, String::new()),
        ticks: 0,
        ticks_alone: 0,
        timer: None,
    };
    Ok((reactor, desk, address, remote))
}

/// Answers one request. Who does not know the token learns nothing.
fn answer(reactor: &mut Context<Desk>, desk: &mut Desk, request: &Request<'_>, reply: Reply) {
    let Some(path) = desk.path_of(request) else {
        reply.send(reactor, Response::new(StatusCode::NOT_FOUND));
        return;
    };
    if !desk.is_ours(request) {
        reply.send(reactor, Response::new(StatusCode::FORBIDDEN));
        return;
    }
    let post = request.method() == Method::POST;
    match path {
        "ctl" if post => control(reactor, desk, request, reply),
        "" if !post => {
            reply.send(reactor, private(Response::html(PAGE)));
        }
        "events" if !post => events(reactor, desk, request, reply),
        "trace.json" if !post => {
            let session = desk.session.clone();
            let trace = session.map_or_else(String::new, |session| {
                chrome::trace(&session.ring, &desk.shared.tables.lock())
            });
            let response = Response::json(trace)
                .header("Content-Disposition", "attachment; filename=\"waterwheel-trace.json\"");
            reply.send(reactor, private(response));
        }
        "" | "ctl" | "events" | "trace.json" => {
            reply.send(reactor, Response::new(StatusCode::METHOD_NOT_ALLOWED));
        }
        _ => {
            reply.send(reactor, Response::new(StatusCode::NOT_FOUND));
        }
    }
}

fn private(response: Response) -> Response {
    response
        .header("Cache-Control", "no-store")
        .header("Content-Security-Policy", POLICY)
        .header("X-Content-Type-Options", "nosniff")
        .header("Referrer-Policy", "no-referrer")
}

impl Desk {
    /// The rest of a request's path, if it begins with the token.
    fn path_of<'a>(&self, request: &Request<'a>) -> Option<&'a str> {
        let (token, path) = request.path().strip_prefix('/')?.split_once('/')?;
        // All bytes are compared, wherever the first one differs.
        let differ = token.bytes().zip(self.token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        (token.len() == self.token.len() && differ == 0).then_some(path)
    }

    /// Returns true if the request is for this page, and from it or from no page. A name that
    /// somebody has pointed at this machine is refused by its `Host`, a foreign page by its
    /// `Origin`.
    fn is_ours(&self, request: &Request<'_>) -> bool {
        let host = request.authority().unwrap_or_default();
        let known = self.hosts.is_empty() || self.hosts.iter().any(|known| known == host);
        let origin = request.header("Origin");
        known && origin.is_none_or(|origin| origin.strip_prefix("http://") == Some(host))
    }

    /// Does what a tick does: takes in the state of the loop that is shown, and sends each page what
    /// is new.
    pub fn tick(&mut self, reactor: &mut Context<Desk>) {
        self.ticks += 1;
        self.follow();
        let Some(session) = self.session.clone() else { return };
        self.let_go(&session);
        if self.ticks.is_multiple_of(TICKS_PER_KEY) && !self.pages.is_empty() {
            session.command(Command::Key);
        }
        // The head is read first: a keyframe that comes after it belongs to a later record.
        let head = session.ring.head();
        if let Some(key) = session.take_key() {
            self.key = Some(key);
        }
        self.tail.follow(&session, &mut self.doctor);
        if let Some((place, ms)) = self.tail.now() {
            self.doctor.see_stuck(place, Duration::from_millis(ms));
        }
        if let Some(news) = self.doctor.news(&self.shared.tables.lock()) {
            self.findings = (self.findings.0 + 1, news.to_string());
        }
        if self.ticks.is_multiple_of(TICKS_PER_BEAT) {
            let beat = SseEvent::comment("still here");
            for page in self.pages.values() {
                let _ = page.to.event(reactor, &beat);
            }
        }
        let (key, tail, findings) = (self.key.as_ref(), &self.tail, &self.findings);
        let news = News { session: &session, head, key, tail, findings };
        for page in self.pages.values_mut() {
            page.catch_up(reactor, &self.shared, &news);
        }
    }

    /// Turns to the latest loop, and has it write records while there is a page.
    fn follow(&mut self) {
        let latest = self.shared.now().session.clone();
        let number = |session: &Option<Arc<Session>>| session.as_ref().map_or(0, |s| s.number);
        if number(&latest) != number(&self.session) {
            self.session = latest;
            (self.observing, self.key, self.tail) = (false, None, Tail::default());
            (self.doctor, self.findings.1) = (Doctor::default(), "{\"findings\":[]}".to_owned());
            self.findings.0 += 1;
        }
        let wanted = !self.pages.is_empty();
        if let Some(session) = self.session.as_ref().filter(|_| wanted != self.observing) {
            session.command(Command::Observe(wanted));
            self.observing = wanted;
        }
    }

    /// A stopped loop whose last page has gone runs on.
    fn let_go(&mut self, session: &Session) {
        self.ticks_alone = if self.pages.is_empty() { self.ticks_alone + 1 } else { 0 };
        if self.ticks_alone == TICKS_ALONE_MAX {
            session.release();
            session.set_pace(crate::timers::PacedClock::REAL);
        }
    }

    /// The timer of the ticks goes while there is a page, and for as long as a loop may have to be
    /// let go.
    fn keep_ticking(&mut self, reactor: &mut Context<Desk>) {
        if self.timer.is_none() {
            self.ticks_alone = 0;
            self.timer =
                Some(reactor.every(TICK, Missed::Skip, |reactor, desk: &mut Desk, run| {
                    desk.tick(reactor);
                    if desk.ticks_alone > TICKS_ALONE_MAX {
                        reactor.cancel(run.timer);
                        desk.timer = None;
                    }
                }));
        }
    }
}

impl Tail {
    /// Reads the records that have come, up to the head.
    fn follow(&mut self, session: &Session, doctor: &mut Doctor) {
        let head = session.ring.head();
        if head - self.read > BACKLOG_MAX {
            self.running.clear();
            self.read = head - BACKLOG_MAX;
        }
        for sequence in self.read + 1..=head {
            let Some(record) = session.ring.read(sequence) else { continue };
            doctor.see(&record);
            match Kind::ALL.get(usize::from(record.kind)) {
                Some(Kind::Turn) => self.running.clear(),
                Some(Kind::Returned | Kind::Panicked) => drop(self.running.pop()),
                Some(kind) if begins(*kind) => self.running.push((record.place, None)),
                _ => {}
            }
        }
        self.read = head;
        for (_, seen) in &mut self.running {
            seen.get_or_insert_with(Instant::now);
        }
    }

    /// The callback that runs now: its place, and for how many milliseconds it has been seen.
    fn now(&self) -> Option<(u16, u64)> {
        let (place, seen) = self.running.last()?;
        Some((*place, seen.map_or(0, |seen| seen.elapsed().as_millis() as u64)))
    }
}

/// Returns true if a record of this kind begins a callback.
pub fn begins(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::RunSource
            | Kind::RunTimer
            | Kind::RunDeferred
            | Kind::RunEnqueued
            | Kind::RunPosted
            | Kind::RunHook
            | Kind::RunNested
            | Kind::Flushed
    )
}

/// A page opens its stream, or comes back and names the last record it has.
fn events(reactor: &mut Context<Desk>, desk: &mut Desk, request: &Request<'_>, reply: Reply) {
    if desk.pages.len() >= PAGES_MAX {
        let text = format!("There are {PAGES_MAX} pages already; close one.\n");
        reply.send(reactor, Response::text(text).status(StatusCode::SERVICE_UNAVAILABLE));
        return;
    }
    desk.count += 1;
    let number = desk.count;
    let to = reply.events(reactor);
    to.on_gone(reactor, move |_, desk: &mut Desk| drop(desk.pages.remove(&number)));
    let hello = SseEvent::default().retry(Duration::from_secs(1));
    let _ = to.event(reactor, &hello); // There is room.
    send(reactor, &to, "hello", &desk.hello());
    let mut page = Page {
        to,
        session: 0,
        place: 0,
        units: 0,
        wants_key: true,
        key: None,
        places: 0,
        names: 0,
        version: 0,
        state: String::new(),
        findings: 0,
        ended: false,
    };
    // `session.record`: the records that have come since are sent, if they are still there.
    let last = request.header("Last-Event-ID").and_then(|id| id.split_once('.'));
    if let Some((session, place)) = last
        && let (Ok(session), Ok(place)) = (session.parse(), place.parse::<u64>())
        && let Some(now) = &desk.session
        && session == now.number
        && desk.observing
        && place >= now.ring.oldest()
        && let Some(record) = now.ring.read(place)
    {
        page.session = session;
        (page.place, page.units, page.wants_key) = (place, record.nanos / UNIT, false);
    }
    desk.pages.insert(number, page);
    desk.keep_ticking(reactor);
    desk.tick(reactor);
}

/// Sends one event; what a page that is gone does not take is of no use to anybody.
fn send(reactor: &mut Context<Desk>, to: &Sender, event: &str, value: &Value) {
    send_text(reactor, to, event, &value.to_string());
}

fn send_text(reactor: &mut Context<Desk>, to: &Sender, event: &str, text: &str) {
    let _ = to.event(reactor, &SseEvent::data(text).event(event));
}

impl Desk {
    fn hello(&self) -> Value {
        let setup = &self.shared.setup;
        let kinds: Vec<String> = Kind::ALL.iter().map(|kind| format!("{kind:?}")).collect();
        let files: serde_json::Map<String, Value> =
            setup.files.iter().map(|(path, text)| (path.clone(), json!(text))).collect();
        let mut hello = json!({
            "version": 1,
            "program": setup.program,
            "control": setup.control,
            "kinds": kinds,
            "files": files,
            "scenes": [],
            "world": false,
            "pages": self.pages.len() + 1,
        });
        for (name, value) in &setup.hello {
            hello[name] = value.clone();
        }
        hello
    }
}

impl Page {
    fn catch_up(&mut self, reactor: &mut Context<Desk>, shared: &Shared, news: &News<'_>) {
        if self.to.is_above_high(reactor) {
            return; // The next tick looks again.
        }
        if self.session != news.session.number {
            self.session = news.session.number;
            (self.place, self.units, self.wants_key, self.key) = (0, 0, true, None);
            self.ended = false;
        }
        self.send_tables(reactor, shared);
        self.send_published(reactor, shared);
        let current = self.send_records(reactor, news);
        self.send_state(reactor, news, current);
        if self.findings != news.findings.0 {
            self.findings = news.findings.0;
            send_text(reactor, &self.to, "doctor", &news.findings.1);
        }
    }

    fn send_tables(&mut self, reactor: &mut Context<Desk>, shared: &Shared) {
        let tables = shared.tables.lock();
        let places = (self.places < tables.places.len())
            .then(|| json!({ "from": self.places, "places": tables.places[self.places..] }));
        let names = (self.names < tables.names.len())
            .then(|| json!({ "from": self.names, "names": tables.names[self.names..] }));
        (self.places, self.names) = (tables.places.len(), tables.names.len());
        drop(tables);
        places.iter().for_each(|places| send(reactor, &self.to, "places", places));
        names.iter().for_each(|names| send(reactor, &self.to, "names", names));
    }

    /// What the program itself says, and has changed since.
    fn send_published(&mut self, reactor: &mut Context<Desk>, shared: &Shared) {
        let now = shared.now();
        if self.version == now.version {
            return;
        }
        let since = std::mem::replace(&mut self.version, now.version);
        let labels = now.labels.iter();
        let labels =
            labels.map(|(tag, (index, generation), word)| json!([tag, index, generation, word]));
        let labels =
            (now.labelled > since).then(|| json!({ "labels": labels.collect::<Vec<_>>() }));
        let published: Vec<Published> =
            now.published.iter().filter(|event| event.version > since).cloned().collect();
        drop(now);
        for Published { name, text, .. } in &published {
            send_text(reactor, &self.to, name, text);
        }
        labels.iter().for_each(|labels| send(reactor, &self.to, "labels", labels));
    }

    /// Sends what is new, and the keyframe where its record is. Returns true if the page has all
    /// that there is.
    fn send_records(&mut self, reactor: &mut Context<Desk>, news: &News<'_>) -> bool {
        let News { session, head, key, .. } = *news;
        if !self.wants_key && head - self.place > BACKLOG_MAX {
            let dropped = json!({ "count": head - self.place, "next": head + 1 });
            send(reactor, &self.to, "dropped", &dropped);
            session.command(Command::Key);
            self.wants_key = true;
            self.place = head;
        }
        if self.wants_key {
            let Some(key) = key.filter(|key| key.sequence >= self.place) else { return false };
            self.send_key(reactor, key);
            (self.place, self.wants_key) = (key.sequence, false);
            self.units = session.ring.read(key.sequence).map_or(0, |record| record.nanos / UNIT);
        }
        let last = head.min(self.place + RECORDS_PER_TICK);
        let new_key =
            key.filter(|key| self.key != Some(key.sequence) && key.sequence >= self.place);
        match new_key.filter(|key| key.sequence <= last) {
            Some(key) => {
                self.send_batch(reactor, session, key.sequence);
                self.send_key(reactor, key);
                self.send_batch(reactor, session, last);
            }
            None => self.send_batch(reactor, session, last),
        }
        self.place == head
    }

    fn send_key(&mut self, reactor: &mut Context<Desk>, key: &Key) {
        self.key = Some(key.sequence);
        send_text(reactor, &self.to, "key", &key.json);
    }

    fn send_batch(&mut self, reactor: &mut Context<Desk>, session: &Session, last: u64) {
        let (first, begin) = (self.place + 1, self.units);
        let mut bytes = Vec::new();
        while self.place < last {
            // One that was overwritten meanwhile is found by the next tick: too many wait.
            let Some(record) = session.ring.read(self.place + 1) else { break };
            wire::put(&mut bytes, &mut self.units, &record);
            self.place += 1;
        }
        let count = self.place + 1 - first;
        if count == 0 {
            return;
        }
        let text = json!({
            "first": first,
            "units": begin,
            "count": count,
            "b": wire::base64(&bytes),
        });
        let id = format!("{}.{}", self.session, self.place);
        let _ = self.to.event(reactor, &SseEvent::data(&text.to_string()).event("rec").id(&id));
    }

    fn send_state(&mut self, reactor: &mut Context<Desk>, news: &News<'_>, current: bool) {
        let News { session, tail, .. } = news;
        let Standing { mode, standing, pace, ended } = session.standing();
        let stopped = mode == Mode::Stopped;
        let state = json!({
            "mode": if stopped { "stopped" } else { "running" },
            "standing": standing && current,
            "asleep": session.is_asleep(),
            "pace": pace,
            "now": tail.now(),
            "posts": 0,
        });
        let state = state.to_string();
        if self.state != state {
            send_text(reactor, &self.to, "state", &state);
            self.state = state;
        }
        if let Some(why) = ended.filter(|_| current && !self.ended) {
            send(reactor, &self.to, "end", &json!({ "why": why }));
            self.ended = true;
        }
    }
}

/// Carries out a command: 204, or 409 and why not, in one sentence.
fn control(reactor: &mut Context<Desk>, desk: &mut Desk, request: &Request<'_>, reply: Reply) {
    // A form of another site can send other types, but not this one.
    let kind = request.header("Content-Type").unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        reply.send(reactor, Response::new(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        return;
    }
    let done = match serde_json::from_slice(request.body()) {
        Ok(command) => desk.carry_out(&command),
        Err(error) => Err(format!("This is no JSON: {error}.")),
    };
    match done {
        Ok(()) => {
            reply.send(reactor, StatusCode::NO_CONTENT);
            desk.tick(reactor);
        }
        Err(why) => {
            let response = Response::text(format!("{why}\n")).status(StatusCode::CONFLICT);
            reply.send(reactor, response);
        }
    }
}

impl Desk {
    fn carry_out(&mut self, command: &Value) -> Answer {
        if !self.shared.setup.control {
            return Err("This page may only look: the program has not allowed control.".to_owned());
        }
        let name = command["do"].as_str().ok_or("A command has a name, in \"do\".")?;
        let customs = &self.shared.setup.commands;
        let mut customs = customs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, custom)) = customs.iter_mut().find(|(known, _)| known == name) {
            return custom(command);
        }
        let session = self.session.as_ref().ok_or("There is no loop yet.")?;
        if session.standing().ended.is_some() {
            return Err("The loop has ended.".to_owned());
        }
        let number = |name: &str, most: u64| {
            let number = command[name].as_u64().filter(|number| *number <= most);
            number.ok_or_else(|| format!("\"{name}\" is a whole number, at most {most}."))
        };
        match name {
            "run" => session.set_mode(Mode::Running),
            "stop" => session.set_mode(Mode::Stopped),
            "step" => match command["what"].as_str() {
                Some("event") => session.set_mode(Mode::StepEvent),
                Some("turn") => session.set_mode(Mode::StepTurn(0)),
                _ => return Err("\"what\" is \"event\" or \"turn\".".to_owned()),
            },
            "pace" => session.set_pace(number("per_mille", 1000)? as u32),
            "timer" => {
                let delay = Duration::from_millis(number("ms", DELAY_MS_MAX)?);
                session.command(Command::Timer(delay));
            }
            "break" => {
                let file = command["file"].as_str().ok_or("\"file\" is the name of a file.")?;
                let line = number("line", u32::MAX.into())? as u32;
                session.set_break(file, line, command["on"].as_bool().unwrap_or(true));
            }
            "fault" => session.command(fault(command, number)?),
            _ => return Err(format!("There is no command {name:?}.")),
        }
        Ok(())
    }
}

/// The longest delay of a timer, and the longest callback, that a page can ask for, in ms.
const DELAY_MS_MAX: u64 = 3_600_000;
const BLOCK_MS_MAX: u64 = 10_000;
/// How often the callback of a defer storm defers itself: three turns' worth.
const STORM: u32 = 3 * crate::reactor::DEFERRED_PER_TURN as u32;

fn fault(
    command: &Value,
    number: impl Fn(&str, u64) -> Result<u64, String>,
) -> Result<Command, String> {
    match command["what"].as_str() {
        Some("block") => Ok(Command::Block(Duration::from_millis(number("ms", BLOCK_MS_MAX)?))),
        Some("defer") => Ok(Command::Defer(STORM)),
        Some("leak") => Ok(Command::Leak),
        _ => Err("\"what\" is \"block\", \"defer\" or \"leak\".".to_owned()),
    }
}
