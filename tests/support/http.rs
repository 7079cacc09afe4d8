//! Clients of an HTTP server under test: raw bytes over a pair in memory, driven by hand between
//! turns, on a clock that only the test moves.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::net::{Conn, Event, Limits as ConnLimits, Reason, memory};
use waterwheel::protocols::http::{Limits, Reply, Request, Response, Server};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// A loop with a server in it, on a held clock.
pub struct Bench<S: 'static> {
    pub clock: ManualClock,
    pub reactor: Reactor<S>,
    pub server: Server<S>,
    pub state: S,
}

impl<S: Default + 'static> Bench<S> {
    pub fn new(server: Server<S>) -> Bench<S> {
        Bench::with_state(server, S::default())
    }

    /// A server of whole requests.
    pub fn handler<F>(handler: F) -> Bench<S>
    where
        F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) + 'static,
    {
        Bench::new(Server::new(handler))
    }
}

impl<S: 'static> Bench<S> {
    pub fn with_state(server: Server<S>, state: S) -> Bench<S> {
        let clock = ManualClock::held();
        let reactor = Reactor::builder().clock(&clock).build().unwrap();
        Bench { clock, reactor, server, state }
    }

    pub fn limits(mut self, limits: Limits) -> Bench<S> {
        self.server = self.server.limits(limits);
        self
    }

    /// A client with an open connection.
    pub fn connect(&mut self) -> Client {
        self.connect_with(64 * 1024)
    }

    /// [`connect`](Bench::connect) with room for so many bytes on the way.
    pub fn connect_with(&mut self, buffer_bytes: usize) -> Client {
        let (own, other) = memory::pair_with(&mut self.reactor, buffer_bytes);
        let served = self.server.serve(&mut self.reactor, other);
        let heard = Rc::new(Heard::default());
        let told = heard.clone();
        let limits =
            ConnLimits { half_open: true, outbox_bytes_max: usize::MAX, ..ConnLimits::default() };
        let id = own.limits(limits).open(&mut self.reactor, move |_, _, _, event| match event {
            Event::Data(bytes) => told.bytes.borrow_mut().extend_from_slice(bytes),
            Event::Eof => told.eof.set(true),
            Event::Closed(why) => told.closed.set(Some(why)),
            Event::Drained => {}
        });
        Client { id, served, heard }
    }

    /// Turns until nothing happens any more.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..100_000 {
            let ran = self.reactor.turn(&mut self.state, Some(Duration::ZERO)).expect("a turn");
            quiet = if ran == 0 { quiet + 1 } else { 0 };
            if quiet == 3 {
                return;
            }
        }
        panic!("it does not settle: {:?}", self.reactor);
    }

    /// Sends, and lets all of it have its effects.
    pub fn send(&mut self, client: &Client, bytes: impl AsRef<[u8]>) {
        let _ = self.reactor[client.id].write(bytes.as_ref());
        self.settle();
    }

    /// Ends the client's sending.
    pub fn finish(&mut self, client: &Client) {
        self.reactor[client.id].shutdown();
        self.settle();
    }

    /// Lets time pass, at most a second at a time.
    pub fn wait(&mut self, time: Duration) {
        let mut left = time;
        while left > Duration::ZERO {
            let step = left.min(Duration::from_millis(250));
            self.clock.advance(step);
            left -= step;
            self.settle();
        }
    }

    /// What one client hears that sends this and nothing else.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let client = self.connect();
        self.send(&client, bytes);
        client.take()
    }

    /// Whether the server has let go of the connection.
    pub fn is_served(&self, client: &Client) -> bool {
        self.reactor.contains(client.served)
    }
}

/// What a client was told.
#[derive(Default)]
pub struct Heard {
    pub bytes: RefCell<Vec<u8>>,
    pub eof: Cell<bool>,
    pub closed: Cell<Option<Reason>>,
}

pub struct Client {
    /// The client's end.
    pub id: SourceId<Conn>,
    /// The server's.
    pub served: SourceId<Conn>,
    pub heard: Rc<Heard>,
}

impl Client {
    /// What it has heard since the last time.
    pub fn take(&self) -> String {
        String::from_utf8_lossy(&self.heard.bytes.take()).into_owned()
    }

    /// Whether the server has finished.
    pub fn has_ended(&self) -> bool {
        let why = self.heard.closed.take();
        let closed = why.is_some();
        self.heard.closed.set(why);
        self.heard.eof.get() || closed
    }

    /// Why its connection has closed.
    pub fn closed(&self) -> Option<Reason> {
        self.heard.closed.take()
    }
}

/// The statuses of the responses in this text, in order.
pub fn statuses(text: &str) -> Vec<u16> {
    let heads = text.match_indices("HTTP/1.1 ");
    heads.map(|(at, mark)| text[at + mark.len()..][..3].parse().expect("a status")).collect()
}

/// The body behind the first head.
pub fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// A request without a body.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: here\r\n\r\n")
}

/// A request with a body and its length.
pub fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Answers with what was asked, in one line.
pub fn describe(request: &Request<'_>) -> Response {
    let (method, target) = (request.method(), request.target());
    format!("{method} {target} {}", String::from_utf8_lossy(request.body())).into()
}

/// Answers at once what was asked.
pub fn echo(limits: Limits) -> Bench<()> {
    let bench = Bench::handler(|reactor, _, request, reply| {
        reply.send(reactor, describe(request));
    });
    bench.limits(limits)
}

/// Keeps every reply.
pub fn keeping(limits: Limits) -> Bench<Vec<Reply>> {
    Bench::handler(|_, kept: &mut Vec<Reply>, _, reply| kept.push(reply)).limits(limits)
}
