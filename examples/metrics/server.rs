//! What is counted, and the loop: a socket, one timer, and pages.

use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use waterwheel::net::{ToAddresses, udp};
use waterwheel::protocols::http::{Response, Router};
use waterwheel::reactor::Missed;
use waterwheel::{Context, SourceId};

use super::alert::Rule;
use super::protocol::Kind;
use super::store::Store;

/// Datagrams that are taken in one turn; then others are called.
const DATAGRAMS_PER_TURN: usize = 256;
/// Pages of `/metrics` that are kept for clients that read slowly.
const PAGES_MAX: usize = 2;

pub struct Server {
    pub store: Store,
    pub rules: Vec<Rule>,
    pub datagrams: u64,
    /// Datagrams that the kernel had to throw away, as it said last.
    pub dropped: u64,
    /// Those that somebody still reads.
    pages: Vec<Weak<[u8]>>,
}

impl Server {
    pub fn new(names_max: usize, rules: Vec<Rule>) -> Server {
        Server { store: Store::new(names_max), rules, datagrams: 0, dropped: 0, pages: Vec::new() }
    }
}

/// Listens for datagrams, and ends a window again and again. Lines for people go to `say`.
pub fn open(
    reactor: &mut Context<Server>,
    addr: impl ToAddresses,
    (buffer_bytes, window): (usize, Duration),
    mut say: impl FnMut(String) + 'static,
) -> io::Result<SourceId<udp::Socket>> {
    let bind =
        udp::Bind::new().datagrams_per_turn(DATAGRAMS_PER_TURN).receive_buffer_bytes(buffer_bytes);
    let socket = bind.open(reactor, addr, |_, server: &mut Server, _, event| match event {
        udp::Event::Received { bytes, .. } => {
            server.datagrams += 1;
            server.store.heard(bytes);
        }
        udp::Event::Error(error) => log::warn!("the network says: {error}"),
        udp::Event::Writable => {}
    })?;
    reactor.every(window, Missed::Skip, move |reactor, server, occurrence| {
        // It may be late by more than a window, when this process was not let run.
        let windows = 1 + u32::try_from(occurrence.missed).unwrap_or(u32::MAX - 1);
        server.end_window(reactor, socket, window.saturating_mul(windows), &mut say);
    });
    Ok(socket)
}

impl Server {
    fn end_window(
        &mut self,
        reactor: &Context<Server>,
        socket: SourceId<udp::Socket>,
        window: Duration,
        say: &mut impl FnMut(String),
    ) {
        let dropped = reactor[socket].dropped().unwrap_or(0);
        if dropped > self.dropped {
            let now = dropped - self.dropped;
            say(format!("the kernel has dropped {now} datagrams: a greater --buffer takes more"));
        }
        self.dropped = dropped;
        self.pages.retain(|page| page.strong_count() > 0);
        self.count_itself(reactor);
        self.store.roll(window);
        for rule in &mut self.rules {
            if rule.look(reactor.now(), self.store.levels(&rule.name)) {
                say(rule.to_string());
            }
        }
    }

    /// Puts what is known of the server itself among the rest, so that rules may look at it.
    fn count_itself(&mut self, reactor: &Context<Server>) {
        let (store, loops) = (&mut self.store, reactor.statistics());
        let help = "Lines of datagrams: taken, malformed, or with one name too many.";
        for (result, lines) in
            [("good", store.good), ("bad", store.bad), ("no_room", store.no_room)]
        {
            let tags = format!("result=\"{result}\"");
            store.set("waterwheel_lines_total", &tags, Kind::Counter, help, lines as f64);
        }
        let counters: [(_, _, u64); 7] = [
            ("waterwheel_datagrams_total", "Datagrams received.", self.datagrams),
            ("waterwheel_dropped_total", "Datagrams dropped by the kernel.", self.dropped),
            ("waterwheel_turns_total", "Turns of the loop.", loops.turns),
            ("waterwheel_callbacks_total", "Callbacks that it has run.", loops.callbacks),
            ("waterwheel_stale_total", "Events that came for what had gone.", loops.stale),
            ("waterwheel_panicked_total", "Callbacks that panicked.", loops.panicked),
            ("waterwheel_unhandled_total", "Failures without a handler.", loops.unhandled),
        ];
        for (name, help, count) in counters {
            store.set(name, "", Kind::Counter, help, count as f64);
        }
        let names = store.len() as f64;
        store.set("waterwheel_names", "", Kind::Gauge, "Names that are kept.", names);
    }

    /// The page for Prometheus. While as many as may be are still being read, it is the last of them
    /// once more: a thousand clients that do not read theirs cost no more than two.
    fn page(&mut self, reactor: &Context<Server>) -> Rc<[u8]> {
        self.pages.retain(|page| page.strong_count() > 0);
        let last = self.pages.last().filter(|_| self.pages.len() == PAGES_MAX);
        if let Some(page) = last.and_then(Weak::upgrade) {
            return page;
        }
        self.count_itself(reactor);
        let page: Rc<[u8]> = self.store.page().into_bytes().into();
        self.pages.push(Rc::downgrade(&page));
        page
    }

    fn alerts(&self) -> String {
        self.rules.iter().map(|rule| format!("{rule}\n")).collect()
    }
}

/// `/metrics` for Prometheus, `/alerts` and `/` for people.
pub fn pages() -> Router<Server> {
    Router::new()
        .get("/metrics", |reactor, server: &mut Server, _, reply| {
            let page = Response::text(server.page(reactor));
            reply.send(reactor, page.header("Content-Type", "text/plain; version=0.0.4"));
        })
        .get("/alerts", |reactor, server, _, reply| {
            reply.send(reactor, server.alerts());
        })
        .get("/", |reactor, server, _, reply| {
            let alerts = server.alerts().replace('&', "&amp;").replace('<', "&lt;");
            let Store { good, bad, no_room, .. } = server.store;
            let (datagrams, dropped) = (server.datagrams, server.dropped);
            let page = format!(
                "<!DOCTYPE html><meta charset=utf-8><meta http-equiv=refresh content=2>\
                 <title>metrics</title><h1>Alerts</h1><pre>{alerts}</pre><h1>Datagrams</h1><pre>\
                 {datagrams} received, {dropped} dropped by the kernel\nlines: {good} good, {bad} bad, \
                 {no_room} without room</pre><a href=/metrics>metrics</a>"
            );
            reply.send(reactor, Response::html(page));
        })
}
