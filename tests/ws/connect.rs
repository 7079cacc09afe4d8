//! Connecting: whatever becomes of it, the handler is told once, and nothing is left behind.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use support::tcp;
use support::tcp::{full, nobody, turn_until};
use support::ws;
use support::ws::{Told, frame, note, watched};
use support::{MS, ceiling};
use waterwheel::net::{self, Conn, Limits, Pressure, memory};
use waterwheel::protocols::ws::{Connect, Event, Reason, Socket, connect};
use waterwheel::reactor::Alive;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// A client on its way, and the server's end of its stream as it is.
struct Asking {
    reactor: Reactor<Told>,
    told: Told,
    socket: Socket,
    server: SourceId<Conn>,
    clock: ManualClock,
}

impl Asking {
    fn new(connect: Connect) -> Asking {
        Asking::with(connect, note)
    }

    fn with<F>(connect: Connect, handler: F) -> Asking
    where
        F: FnMut(&mut Context<Told>, &mut Told, &Socket, Event<'_>) + 'static,
    {
        let clock = ManualClock::held();
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        let (ours, theirs) = memory::pair(&mut reactor);
        let half_open = Limits { half_open: true, ..Limits::default() };
        let note_raw =
            |_: &mut Context<Told>, told: &mut Told, _, event: net::Event<'_>| match event {
                net::Event::Data(bytes) => told.peer.extend(bytes),
                net::Event::Closed(why) => told.peer_closed = Some(why),
                net::Event::Drained | net::Event::Eof => {}
            };
        let server = theirs.limits(half_open).open(&mut reactor, note_raw);
        let url = "ws://server.example:8080/a?b";
        let socket = connect.over(&mut reactor, ours, url, watched(handler)).unwrap();
        let mut asking = Asking { reactor, told: Told::default(), socket, server, clock };
        asking.turns(3);
        asking
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.reactor.turn(&mut self.told, Some(Duration::ZERO)).unwrap();
        }
    }

    /// The response that the request deserves.
    fn response(&self) -> String {
        let request = std::str::from_utf8(&self.told.peer).unwrap();
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = tungstenite::handshake::derive_accept_key(key.unwrap().as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.reactor[self.server].write(bytes.as_ref());
        self.turns(4);
    }

    /// The error that was told, and no other; the connection is gone.
    fn error(&mut self) -> io::Error {
        self.turns(4);
        assert!(self.told.heard.is_empty() && ws::unclosed() == 0, "{:?}", self.told);
        let Some(Reason::Connect(error)) = self.told.closed.take() else {
            panic!("{:?}", self.told)
        };
        if let Some(server) = self.reactor.get_mut(self.server) {
            server.close();
        }
        self.turns(4);
        assert_eq!(self.reactor.why_alive(), []);
        assert!(!self.socket.is_open() && self.socket.conn().is_none());
        error
    }
}

#[test]
fn request_is_what_the_rfc_asks_for() {
    let _ceiling = ceiling(LIMIT);
    let set = Connect::new().origin("https://page.example").protocol("v2").protocol("v1");
    let asking = Asking::new(set.header("Cookie", "a=b"));
    let request = std::str::from_utf8(&asking.told.peer).unwrap();
    let (line, fields) = request.split_once("\r\n").unwrap();
    assert_eq!(line, "GET /a?b HTTP/1.1");
    let mut fields: Vec<&str> = fields.split("\r\n").collect();
    fields.retain(|field| !field.starts_with("Sec-WebSocket-Key: "));
    let expected = [
        "Host: server.example:8080",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "sec-websocket-protocol: v2, v1",
        "origin: https://page.example",
        "Cookie: a=b",
        "",
        "",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn response_may_come_byte_by_byte_and_with_messages_behind_it() {
    let _ceiling = ceiling(LIMIT);
    for size in [1, 10, 1000] {
        let mut asking = Asking::new(Connect::new());
        assert_eq!(asking.socket.text(&mut asking.reactor, "too early"), Pressure::Refused);
        let early = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
        let response = asking.response();
        let response = [early, response.as_bytes(), &frame(0x81, b"hello"), b"\x81\x01"].concat();
        asking.told.peer.clear();
        for piece in response.chunks(size) {
            asking.send(piece);
        }
        assert_eq!(asking.told.heard, ["open", "hello"]);
        asking.send(b"!");
        assert_eq!(asking.told.heard, ["open", "hello", "!"]);
        assert_eq!(asking.socket.text(&mut asking.reactor, "now"), Pressure::Below);
        asking.turns(2);
        assert_eq!(asking.told.peer.len(), 2 + 4 + 3);
        asking.reactor[asking.server].abort();
        asking.turns(4);
        assert!(matches!(asking.told.closed, Some(Reason::Lost(_))));
    }
}

#[test]
fn server_that_never_comes_to_its_response_is_told_as_such() {
    let _ceiling = ceiling(LIMIT);
    let mut asking = Asking::new(Connect::new());
    for _ in 0..32 {
        asking.send("HTTP/1.1 102 Processing\r\n\r\n");
        assert!(asking.told.closed.is_none());
    }
    asking.send("HTTP/1.1 102 Processing\r\n\r\n");
    assert_eq!(asking.error().to_string(), "the server responded with 102 Processing");
}

#[test]
fn open_is_told_without_a_byte_from_the_server() {
    let _ceiling = ceiling(LIMIT);
    let mut asking = Asking::new(Connect::new());
    asking.send(asking.response());
    assert_eq!(asking.told.heard, ["open"]);
}

#[test]
fn drained_is_told_when_what_was_sent_at_open_has_gone_and_not_before() {
    let _ceiling = ceiling(LIMIT);
    let speaks =
        |reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>| {
            if matches!(event, Event::Open) {
                assert_eq!(socket.binary(reactor, &[0; 500_000]), Pressure::AboveHigh);
            }
            if matches!(event, Event::Drained) {
                let conn = socket.conn().unwrap();
                assert!(reactor[conn].unsent() <= reactor[conn].limits().outbox_bytes_low);
            }
            note(reactor, told, socket, event);
        };
    let mut asking = Asking::with(Connect::new(), speaks);
    asking.send(asking.response());
    asking.turns(20);
    assert_eq!(asking.told.drained, 1);
}

#[test]
fn bad_responses_say_what_is_wrong_with_them() {
    let _ceiling = ceiling(LIMIT);
    type Spoil = fn(String) -> String;
    let responses: [(Spoil, &str); 7] = [
        (|_| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(), "404 Not Found"),
        (|_| "SSH-2.0-OpenSSH_9.6\r\n".into(), "no HTTP"),
        (|_| format!("HTTP/1.1 101 S\r\nX: {}\r\n\r\n", "x".repeat(20_000)), "no HTTP"),
        (|good| good.replace("Accept: ", "Accept: x"), "wrong Sec-WebSocket-Accept"),
        (|good| good.replace("Upgrade: websocket", "Upgrade: h2c"), "something else"),
        (|good| good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n"), "extension"),
        (|good| good.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: x\r\n\r\n"), "subprotocol"),
    ];
    for (spoil, why) in responses {
        let mut asking = Asking::new(Connect::new());
        asking.send(spoil(asking.response()));
        let error = asking.error();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn server_that_goes_or_is_silent_is_told_apart() {
    let _ceiling = ceiling(LIMIT);
    let mut asking = Asking::new(Connect::new());
    let half = asking.response()[..50].to_owned();
    asking.send(half);
    asking.reactor[asking.server].close();
    assert_eq!(asking.error().kind(), ErrorKind::UnexpectedEof);

    let mut asking = Asking::new(Connect::new());
    asking.reactor[asking.server].abort();
    asking.turns(4);
    let Some(Reason::Connect(error)) = &asking.told.closed else { panic!("{:?}", asking.told) };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let mut asking = Asking::new(Connect::new().timeout(3 * SECOND));
    asking.clock.advance(3 * SECOND - MS);
    asking.send(b"HTTP/1.1 ");
    assert!(asking.told.closed.is_none());
    asking.clock.advance(MS);
    assert_eq!(asking.error().kind(), ErrorKind::TimedOut);
}

#[test]
fn nobody_who_listens_is_an_error_that_names_the_address() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let addr = nobody();
    connect(&mut reactor, &format!("ws://{addr}"), watched(note)).unwrap();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert!(told.end().contains(&addr.to_string()), "{told:?}");
    assert_eq!(reactor.why_alive(), []);
}

#[test]
fn attempt_can_be_given_up_at_any_stage() {
    let _ceiling = ceiling(LIMIT);
    // While TCP connects,
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let (_listener, _waiting, addr) = full();
    let socket = connect(&mut reactor, &format!("ws://{addr}"), watched(note)).unwrap();
    tcp::turns(&mut reactor, &mut told, 3);
    socket.close(&mut reactor, 1000, "");
    socket.abort(&mut reactor); // Which changes nothing.
    tcp::turns(&mut reactor, &mut told, 3);
    assert!(matches!(told.closed, Some(Reason::Aborted)), "{told:?}");
    assert_eq!((reactor.why_alive(), reactor.sources()), (vec![], 0));
    // while the response is awaited, and when it is there.
    for answered in [false, true] {
        let mut asking = Asking::new(Connect::new());
        if answered {
            asking.send(asking.response());
        }
        asking.socket.abort(&mut asking.reactor);
        asking.turns(4);
        assert!(matches!(asking.told.closed, Some(Reason::Aborted)), "{:?}", asking.told);
        assert_eq!(ws::unclosed(), 0);
    }
}

#[test]
fn reactor_dropped_with_an_attempt_under_way_drops_the_handler() {
    let _ceiling = ceiling(LIMIT);
    let held = Rc::new(());
    let mut reactor = Reactor::<()>::new().unwrap();
    for url in ["ws://127.0.0.1:1/", "ws://no-such-name.invalid/"] {
        let kept = held.clone();
        let socket = connect(&mut reactor, url, move |_, _, _, _| _ = &kept).unwrap();
        assert!(!socket.is_open());
    }
    let (ours, _theirs) = memory::pair(&mut reactor);
    let kept = held.clone();
    let socket = Connect::new().over(&mut reactor, ours, "ws://x/", move |_, _, _, _| _ = &kept);
    drop(reactor);
    assert_eq!(Rc::strong_count(&held), 1);
    drop(socket);
}

#[test]
fn what_cannot_be_asked_for_is_refused_at_once() {
    let mut reactor = Reactor::<Told>::new().unwrap();
    let mut refused = |connect: Connect, url: &str| {
        let result = connect.open(&mut reactor, url, |_, _, _, _| panic!("nothing was begun"));
        result.map(|_| ()).unwrap_err().kind()
    };
    assert_eq!(refused(Connect::new(), "http://host/"), ErrorKind::InvalidInput);
    assert_eq!(refused(Connect::new().header("a\r\nb", "c"), "ws://h/"), ErrorKind::InvalidInput);
    assert_eq!(
        refused(Connect::new().header("a", "b\r\nc: d"), "ws://h/"),
        ErrorKind::InvalidInput
    );
    assert_eq!(refused(Connect::new().protocol("a, b"), "ws://h/"), ErrorKind::InvalidInput);
    #[cfg(not(feature = "tls"))]
    assert_eq!(refused(Connect::new(), "wss://h/"), ErrorKind::Unsupported);
    assert_eq!((reactor.sources(), reactor.timers()), (0, 0));
}

#[test]
fn handler_that_panics_at_open_ends_its_socket_before_bytes_are_taken_for_others() {
    let _ceiling = ceiling(LIMIT);
    let panics =
        |reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>| {
            if matches!(event, Event::Open) {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            note(reactor, told, socket, event);
        };
    let mut asking = Asking::with(Connect::new(), panics);
    let response = [asking.response().as_bytes(), b"\x81\x0Ahalf a"].concat();
    let panicked = catch_unwind(AssertUnwindSafe(|| asking.send(&response)));
    assert!(panicked.is_err());
    asking.send(b"\x81\x01");
    asking.reactor[asking.server].shutdown();
    asking.turns(4);
    assert!(asking.told.heard.is_empty(), "{:?}", asking.told);
    assert!(matches!(asking.told.closed, Some(Reason::Panicked)), "{:?}", asking.told);
}

#[test]
fn all_stages_stand_where_the_program_asked_for_the_socket() {
    let _ceiling = ceiling(LIMIT);
    let mut asking = Asking::new(Connect::new());
    for open in [false, true] {
        if open {
            asking.send(asking.response());
        }
        assert_eq!(asking.socket.is_open(), open);
        let why = asking.reactor.why_alive();
        assert_eq!(why.len(), 2, "the server's end, too: {why:?}");
        for held in why {
            let Alive::Source(_, place) = held else { panic!("{held}") };
            assert_eq!(place.file(), file!());
        }
    }
}
