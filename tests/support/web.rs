//! A client and the servers it meets, in one loop whose time stands still: what a server says is
//! said by the test, between turns.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::net::{Conn, Event, Limits, Reason, memory};
pub use waterwheel::protocols::http::ClientResponse;
use waterwheel::protocols::http::{Call, CallEvent, Client, ClientLimits, ClientRequest, Error};
use waterwheel::reactor::Builder;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// What a server's end of one connection has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Whom the client wanted.
    pub to: String,
    pub conn: Option<SourceId<Conn>>,
    pub got: Vec<u8>,
    pub eof: bool,
    pub closed: Option<Reason>,
}

/// What was told, of all calls.
#[derive(Debug, Default)]
pub struct Told {
    pub responses: Vec<Result<ClientResponse, Error>>,
    /// Of streamed calls.
    pub events: Vec<String>,
}

pub type Seens = Rc<RefCell<Vec<Seen>>>;

pub struct Lab {
    pub reactor: Reactor<Told>,
    pub clock: ManualClock,
    pub client: Client<Told>,
    pub told: Told,
    pub seen: Seens,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(|client| client)
    }

    pub fn limited(limits: ClientLimits) -> Lab {
        Lab::with(|client| client.limits(limits))
    }

    pub fn with(set_up: impl FnOnce(Client<Told>) -> Client<Told>) -> Lab {
        Lab::over(Reactor::builder(), memory::BUFFER_BYTES, set_up)
    }

    pub fn over(
        builder: Builder<Told>,
        buffer_bytes: usize,
        set_up: impl FnOnce(Client<Told>) -> Client<Told>,
    ) -> Lab {
        let clock = ManualClock::held();
        let reactor = builder.clock(&clock).build().unwrap();
        let seen = Seens::default();
        let seens = seen.clone();
        let client = set_up(Client::new().dialer(move |reactor, to, done| {
            let (ours, theirs) = memory::pair_with(reactor, buffer_bytes);
            let at = seens.borrow().len();
            seens.borrow_mut().push(Seen { to: to.to_owned(), ..Seen::default() });
            let noted = seens.clone();
            let theirs = theirs.limits(Limits { half_open: true, ..Limits::default() });
            let conn = theirs.open(reactor, move |_, _, _, event| {
                let seen = &mut noted.borrow_mut()[at];
                match event {
                    Event::Data(bytes) => seen.got.extend(bytes),
                    Event::Drained => {}
                    Event::Eof => seen.eof = true,
                    Event::Closed(why) => seen.closed = Some(why),
                }
            });
            reactor.unref(conn);
            seens.borrow_mut()[at].conn = Some(conn);
            reactor.defer(move |reactor, state| done(reactor, state, Ok(ours)));
            Ok(None)
        }));
        Lab { reactor, clock, client, told: Told::default(), seen }
    }

    /// Turns until nothing more happens by itself.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..100_000 {
            let ran = self.reactor.turn(&mut self.told, Some(Duration::ZERO)).unwrap();
            quiet = if ran == 0 { quiet + 1 } else { 0 };
            if quiet > 3 {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.reactor);
    }

    pub fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        self.settle();
    }

    pub fn get(&mut self, url: &str) -> SourceId<Call> {
        self.send(ClientRequest::get(url))
    }

    pub fn send(&mut self, request: ClientRequest) -> SourceId<Call> {
        let call = self.client.send(&mut self.reactor, request, |_, told: &mut Told, result| {
            told.responses.push(result);
        });
        self.settle();
        call
    }

    /// Sends a request and notes what is told of it as a word and what there is of text.
    pub fn stream(&mut self, request: ClientRequest) -> SourceId<Call> {
        let call = self.client.stream(&mut self.reactor, request, note);
        self.settle();
        call
    }

    /// What the server's end of a connection has got so far.
    pub fn got(&self, at: usize) -> String {
        String::from_utf8_lossy(&self.seen.borrow()[at].got).into_owned()
    }

    /// What it has got since this was asked last.
    pub fn take_got(&self, at: usize) -> String {
        let got = std::mem::take(&mut self.seen.borrow_mut()[at].got);
        String::from_utf8_lossy(&got).into_owned()
    }

    pub fn connections(&self) -> usize {
        self.seen.borrow().len()
    }

    fn conn(&self, at: usize) -> SourceId<Conn> {
        self.seen.borrow()[at].conn.expect("it was opened")
    }

    /// Lets the server say something.
    pub fn say(&mut self, at: usize, bytes: impl AsRef<[u8]>) {
        let conn = self.conn(at);
        let _ = self.reactor[conn].write(bytes.as_ref());
        self.settle();
    }

    /// Lets the server end its half.
    pub fn finish(&mut self, at: usize) {
        let conn = self.conn(at);
        self.reactor[conn].shutdown();
        self.settle();
    }

    pub fn reset(&mut self, at: usize) {
        let conn = self.conn(at);
        self.reactor[conn].abort();
        self.settle();
    }

    /// Whether the client has left a connection.
    pub fn is_left(&self, at: usize) -> bool {
        let seen = &self.seen.borrow()[at];
        seen.eof || seen.closed.is_some()
    }

    /// The only response there is, and out.
    pub fn response(&mut self) -> Result<ClientResponse, Error> {
        assert_eq!(self.told.responses.len(), 1, "{:?}", self.told.responses);
        self.told.responses.remove(0)
    }

    pub fn body(&mut self) -> String {
        let response = self.response().expect("a response");
        String::from_utf8(response.body).expect("text")
    }

    /// What went wrong, in words.
    pub fn error(&mut self) -> String {
        self.response().expect_err("no response").to_string()
    }

    pub fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told.events)
    }
}

pub fn note(_: &mut Context<Told>, told: &mut Told, _: SourceId<Call>, event: CallEvent<'_>) {
    let events = &mut told.events;
    match event {
        CallEvent::Head(head) => events.push(format!("head {}", head.status.as_u16())),
        CallEvent::Data(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            match events.last_mut().filter(|last| last.starts_with("data ")) {
                Some(last) => last.push_str(&text),
                None => events.push(format!("data {text}")),
            }
        }
        CallEvent::Drained => events.push("drained".to_owned()),
        CallEvent::End => events.push("end".to_owned()),
        CallEvent::Failed(error) => events.push(format!("failed {error}")),
    }
}

/// A whole response with a length.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
