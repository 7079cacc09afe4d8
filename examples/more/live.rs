//! Live: news as it happens, by long poll and by server-sent events, from one bus.
//!
//! Run:  cargo run --release --features http --example live
//! Then: open http://127.0.0.1:8080/ in a browser, or two; or
//!       curl -N 127.0.0.1:8080/events       and, in another terminal,
//!       curl -d 'hello from curl' 127.0.0.1:8080/say
//! See:  all get it at once. Stop the server and start it again: the page finds it. Pause a
//!       column, say something, resume it: the page names the last news it has, and gets the rest.
//! Look: `catch_up` in live/reader.rs. A reader is a place in the history and not a queue, so a
//!       slow one costs no memory. If the history has dropped some news meanwhile, the reader
//!       gets the number of those that it has missed.
//! Next: rooms (`/events/{room}`); names; ids that go on after a restart. A browser opens six
//!       connections to a server, and each page takes two: what does the fourth page do?

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use history::History;
use reader::Reader;
use waterwheel::protocols::http::{Limits, Reply, Request, Response, Router};
use waterwheel::protocols::http::{Sender, Server, SseEvent, StatusCode};
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor};

#[path = "../cli/mod.rs"]
mod cli;
#[path = "live/history.rs"]
mod history;
#[path = "live/reader.rs"]
mod reader;

const USAGE: &str = "\
Usage: live [OPTIONS] [ADDR]

Tells everybody what anybody POSTs to /say, and a tick now and then: at /events as
server-sent events, at /poll?after=ID by long poll, at / as a page with both. ADDR
is 127.0.0.1:8080 unless given; a bare port means 127.0.0.1. All clients together
may have 16 MiB buffered; then the slowest reader is closed.

Options:
  --tick MS       tick so often; no poll waits longer (default: 2000)
  -h, --help      show this";

const PAGE: &str = include_str!("live/index.html");
/// The most bytes of one message. 1,000: a few sentences; with a history of 100, 100 KB.
const TEXT_BYTES_MAX: usize = 1000;
/// How long a browser waits before it comes back.
const COME_BACK: Duration = Duration::from_secs(1);

/// Published when there is news. The news itself is in the history: a reader that comes after this
/// is published and before it is delivered misses nothing, and gets nothing twice.
struct News;

#[derive(Default)]
struct Live {
    history: History,
    /// Requests that wait for news, by the reader's number.
    polls: HashMap<u64, Reader<Reply>>,
    /// Event streams, by the reader's number.
    streams: HashMap<u64, Reader<Sender>>,
    /// Readers so far, and so the number of the latest.
    readers: u64,
}

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:8080", &["--tick"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let tick = Duration::from_millis(args.number("--tick").unwrap_or(2000).max(1));
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let routes = Router::new()
        .get("/", |reactor, _, _, reply| {
            reply.send(reactor, Response::html(PAGE));
        })
        .get("/events", events)
        .get("/poll", poll)
        .post("/say", say);
    let listener = Server::routes(routes)
        .limits(Limits { buffers: Some(cli::buffers()), ..Limits::default() })
        .listen(&mut reactor, &args.addr)
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals_with(&mut reactor, cli::GRACE, |reactor, live| live.end(reactor))?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    reactor.subscribe(|reactor, live: &mut Live, _: &News| {
        let Live { history, polls, streams, .. } = live;
        for (_, poll) in polls.extract_if(|_, poll| poll.place < history.last()) {
            poll.answer(reactor, history);
        }
        for stream in streams.values_mut() {
            stream.catch_up(reactor, history);
        }
    });
    reactor.every(tick, Missed::Skip, |reactor, live: &mut Live, _| {
        let (streams, polls) = (live.streams.len(), live.polls.len());
        live.history.push("tick", &format!("listening: {streams} at /events, {polls} at /poll"));
        reactor.publish(News);
    });
    cli::run(&mut reactor, &mut Live::default())
}

fn say(reactor: &mut Context<Live>, live: &mut Live, request: &Request<'_>, reply: Reply) {
    let status = match str::from_utf8(request.body()).map(str::trim) {
        Ok("") | Err(_) => StatusCode::BAD_REQUEST,
        Ok(text) if text.len() > TEXT_BYTES_MAX => StatusCode::PAYLOAD_TOO_LARGE,
        Ok(text) => {
            live.history.push("said", text);
            reactor.publish(News);
            StatusCode::NO_CONTENT
        }
    };
    reply.send(reactor, status);
}

/// Answers when there is news: now, or with the next.
fn poll(reactor: &mut Context<Live>, live: &mut Live, request: &Request<'_>, reply: Reply) {
    let (number, place) = live.admit(request);
    let reader = Reader { place, to: reply };
    if place < live.history.last() {
        return reader.answer(reactor, &live.history);
    }
    reader.to.on_gone(reactor, move |_, live: &mut Live| drop(live.polls.remove(&number)));
    live.polls.insert(number, reader);
}

/// Answers with a stream that does not end.
fn events(reactor: &mut Context<Live>, live: &mut Live, request: &Request<'_>, reply: Reply) {
    let (number, place) = live.admit(request);
    let sender = reply.events(reactor);
    let _ = sender.event(reactor, &SseEvent::default().retry(COME_BACK)); // There is room.
    sender.on_gone(reactor, move |_, live: &mut Live| drop(live.streams.remove(&number)));
    sender.on_drained(reactor, move |reactor, live: &mut Live| {
        if let Some(stream) = live.streams.get_mut(&number) {
            stream.catch_up(reactor, &live.history);
        }
    });
    let mut reader = Reader { place, to: sender };
    reader.catch_up(reactor, &live.history);
    live.streams.insert(number, reader);
}

impl Live {
    /// Ends all that would not end by itself: streams, and polls that wait for news.
    fn end(&mut self, reactor: &mut Context<Live>) {
        for (_, stream) in self.streams.drain() {
            stream.to.end(reactor);
        }
        for (_, poll) in self.polls.drain() {
            poll.answer(reactor, &self.history);
        }
    }

    /// A new reader's number and place. The reader names the last news it has in the address, or in
    /// a header, as a browser does that has lost its event stream.
    fn admit(&mut self, request: &Request<'_>) -> (u64, u64) {
        self.readers += 1;
        let heard = request.header("Last-Event-ID").map(Cow::from);
        let heard = heard.or_else(|| request.query_param("after"));
        (self.readers, self.history.place(heard.and_then(|id| id.parse().ok())))
    }
}
