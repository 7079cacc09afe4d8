//! The page's own loop: it serves the page, streams records to it, and takes its commands.
//!
//! Knows HTTP; reaches the watched loop only through its [`Session`].
//!
//! # Read next
//! `pages.rs`: what each page is sent. `page.html`: what the browser makes of it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use serde_json::{Value, json};

use super::commands::Command;
use super::control::{Key, Mode, Session, Standing};
use super::doctor::Doctor;
use super::pages::{News, Page, Tail, send};
use super::unread::{TICKS_PER_LOOK, Unread};
use super::{Shared, chrome, ctl};
use crate::protocols::http::{
    Limits, Method, Reply, Request, Response, Server, SseEvent, StatusCode,
};
use crate::reactor::{Kind, Missed, Remote};
use crate::timers::{Clock, TimerId};
use crate::{Context, Reactor};

/// Pages at a time; one more gets 503.
pub const PAGES_MAX: usize = 8;
/// How often a page gets what is new: 30 times a second.
pub const TICK: Duration = Duration::from_millis(33);
/// A running loop is asked for a keyframe so often, against which each page checks its picture.
const TICKS_PER_KEY: u64 = 300;
/// Records after a keyframe that asking for it has made itself. A loop that has made no others since
/// is left asleep.
const OWN_RECORDS_MAX: u64 = 16;
/// A page gets something so often, also from a loop that stands still: that a browser has gone shows
/// when it does not take it.
const TICKS_PER_BEAT: u64 = 15;
/// Ticks without a page after which a stopped loop is let go: 3 s.
const TICKS_ALONE_MAX: u32 = 90;
/// Connections at a time, those of the pages among them: the rest are for commands.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a command.
const COMMAND_BYTES_MAX: usize = 16 * 1024;

const PAGE: &str = include_str!("page.html");
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors ";

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
    unread: Unread,
    /// The latest findings, and how often they have changed.
    findings: (u64, String),
    ticks: u64,
    ticks_alone: u32,
    timer: Option<TimerId>,
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
    let limits = Limits {
        body_bytes_max: COMMAND_BYTES_MAX,
        connections_max: CONNECTIONS_MAX,
        ..Limits::default()
    };
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
        unread: Unread::default(),
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
        "" if !post => drop(reply.send(reactor, desk.private(Response::html(PAGE)))),
        "events" if !post => events(reactor, desk, request, reply),
        "trace.json" if !post => {
            let session = desk.session.clone();
            let trace = session.map_or_else(String::new, |session| {
                // A copy: the loop's thread must not wait for the tables meanwhile.
                let places = desk.shared.tables.lock().places.clone();
                chrome::trace(&session.ring, &places)
            });
            let response = Response::json(trace)
                .header("Content-Disposition", "attachment; filename=\"waterwheel-trace.json\"");
            reply.send(reactor, desk.private(response));
        }
        "" | "ctl" | "events" | "trace.json" => {
            reply.send(reactor, Response::new(StatusCode::METHOD_NOT_ALLOWED));
        }
        _ => {
            reply.send(reactor, Response::new(StatusCode::NOT_FOUND));
        }
    }
}

impl Desk {
    fn private(&self, response: Response) -> Response {
        let by = self.shared.setup.framed_by.as_deref().unwrap_or("'none'");
        response
            .header("Cache-Control", "no-store")
            .header("Content-Security-Policy", format!("{POLICY}{by}"))
            .header("X-Content-Type-Options", "nosniff")
            .header("Referrer-Policy", "no-referrer")
    }

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
        // The head is read first: a keyframe that comes after it belongs to a later record.
        let head = session.ring.head();
        let since = head.saturating_sub(self.key.as_ref().map_or(0, |key| key.sequence));
        let is_time = self.ticks.is_multiple_of(TICKS_PER_KEY) && !self.pages.is_empty();
        let is_stopped = session.standing().mode == Mode::Stopped;
        if is_time && since > OWN_RECORDS_MAX && !is_stopped {
            session.want_key();
        }
        session.post_again();
        if let Some(key) = session.take_key() {
            self.unread.see_key(&key.sources);
            self.key = Some(key);
        }
        self.tail.follow(&session, &mut self.doctor, &mut self.unread);
        self.look(&session);
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
            self.unread = Unread::default();
            self.findings.0 += 1;
        }
        let wanted = !self.pages.is_empty();
        if let Some(session) = self.session.as_ref().filter(|_| wanted != self.observing) {
            if session.command(Command::Observe(wanted)).is_err() {
                return; // The next tick asks again.
            }
            self.observing = wanted;
            self.unread = Unread::default(); // It learns the sources from the keyframe.
        }
    }

    /// Looks for sources that are not drained, while the loop runs and a page looks.
    fn look(&mut self, session: &Session) {
        let Standing { mode, ended, .. } = session.standing();
        if mode != Mode::Running || ended.is_some() {
            self.unread.begin_again();
        } else if self.observing && self.ticks.is_multiple_of(TICKS_PER_LOOK) {
            let (now, tables) = (Clock::Monotonic.now(), &self.shared.tables);
            for source in self.unread.look(now, tables, &session.selector) {
                self.doctor.see_undrained(&source);
            }
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
    let mut page = Page::new(to);
    if let Some(session) = desk.session.as_ref().filter(|_| desk.observing) {
        page.go_on(session, request.header("Last-Event-ID").unwrap_or_default());
    }
    desk.pages.insert(number, page);
    desk.keep_ticking(reactor);
    desk.tick(reactor);
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

/// Carries out a command: 204, or 409 and why not, in one sentence.
fn control(reactor: &mut Context<Desk>, desk: &mut Desk, request: &Request<'_>, reply: Reply) {
    // A form of another site can send other types, but not this one.
    let kind = request.header("Content-Type").unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        reply.send(reactor, Response::new(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        return;
    }
    let done = match serde_json::from_slice(request.body()) {
        Ok(command) => ctl::carry_out(&desk.shared, desk.session.as_deref(), &command),
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

#[cfg(test)]
mod tests {
    use super::super::control::Side;
    use super::super::tables::SharedTables;
    use super::*;
    use crate::reactor::Recorder;

    /// Else a loop that sleeps would be woken for a keyframe, again and again.
    #[test]
    fn keyframe_of_a_loop_that_sleeps_makes_few_records() {
        let recorder = Recorder::new();
        let mut reactor = Reactor::<()>::builder().observer(recorder.observer()).build().unwrap();
        let session = Arc::new(Session::new(1));
        let _side = Side::new(session.clone(), SharedTables::new(), reactor.remote_unheld());
        session.want_key();
        session.want_key();
        // One that runs it, and one that sleeps again.
        for _ in 0..2 {
            reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
        }
        assert!(session.take_key().is_some() && session.next_command().is_none());
        let records = recorder.take().len() as u64;
        assert!((1..=OWN_RECORDS_MAX).contains(&records), "{records}");
    }
}
