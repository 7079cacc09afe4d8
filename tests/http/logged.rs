//! What the HTTP server logs: each refusal once, with the peer, and nothing of who is served.

use std::cell::RefCell;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use support::ceiling;
use support::http::{get, post, statuses};
use support::siege::{Siege, text};
use waterwheel::Context;
use waterwheel::protocols::http::{Body, Limits, Method, Reply, Response, Router, Sender, Server};

thread_local! {
    /// What the loop on this thread said, if a test here wants to know.
    static LINES: RefCell<Option<Vec<(Level, String)>>> = const { RefCell::new(None) };
}

/// Keeps what is said at `info` and above. The logger is that of the whole program, whose other tests
/// run on threads of their own.
struct Lines;

impl Lines {
    fn take() -> Vec<(Level, String)> {
        LINES.replace(Some(Vec::new())).expect("this thread keeps them")
    }
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("waterwheel")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.with_borrow_mut(|lines| {
                if let Some(lines) = lines {
                    lines.push((record.level(), record.args().to_string()));
                }
            });
        }
    }

    fn flush(&self) {}
}

#[derive(Default)]
struct Kept {
    reply: Option<Reply>,
    sender: Option<Sender>,
}

fn server() -> Server<Kept> {
    let router = Router::new()
        .get("/", |reactor, _, _, reply| {
            reply.send(reactor, "x");
        })
        .get("/drop", |_, _, _, _| {})
        .get("/field", |reactor, _, _, reply| {
            reply.send(reactor, Response::text("x").header("A", "b\r\nC: d"));
        })
        .get("/keep", |_, kept: &mut Kept, _, reply| kept.reply = Some(reply))
        .post("/", |reactor, _, _, reply| {
            reply.send(reactor, "x");
        })
        .stream(Method::POST, "/both", |reactor, kept: &mut Kept, _, reply| {
            kept.sender = Some(reply.stream(reactor, "some"));
            |_: &mut Context<Kept>, _: &mut Kept, _: Body<'_>| {}
        });
    Server::routes(router)
}

const CHUNKED: &str = "HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn each_refusal_is_one_line_with_the_peer() {
    let _ceiling = ceiling(Duration::from_secs(60));
    LINES.set(Some(Vec::new()));
    log::set_logger(&Lines).expect("the only logger");
    log::set_max_level(LevelFilter::Info);
    let limits = Limits {
        connections_max: 1,
        body_bytes_max: 10,
        reply_timeout: Some(Duration::from_secs(30)),
        ..Limits::default()
    };
    for (sent, status, level, why) in [
        (get("/"), 200, None, ""),
        (get("/nowhere"), 404, None, ""),
        ("NONSENSE\r\n\r\n".into(), 400, Some(Level::Info), "not an HTTP message"),
        ("GET / HTTP/1.1\r\n".into(), 408, Some(Level::Info), "the head took too long"),
        (post("/", "eleven byte"), 413, Some(Level::Info), "the body is too large"),
        (post("/", "five").replace("five", "fi"), 408, Some(Level::Info), "came too slowly"),
        (format!("POST / {CHUNKED}x"), 400, Some(Level::Info), "a bad chunk size"),
        (get("/keep"), 503, Some(Level::Info), "no response was ready in time"),
        (get("/drop"), 500, Some(Level::Error), "the reply was dropped"),
        (get("/field"), 500, Some(Level::Error), "\"A\" cannot be sent"),
        (format!("POST /both {CHUNKED}x"), 0, Some(Level::Info), "a bad chunk size"),
    ] {
        let mut siege = Siege::of(server(), limits.clone());
        let mut peer = siege.peer();
        peer.send(sent.as_bytes());
        siege.settle();
        siege.wait(Duration::from_secs(40));
        siege.until(|_| peer.read_all().is_some() || peer.got.len() > 10);
        if status != 0 {
            assert_eq!(statuses(&text(&peer)), [status], "{sent}");
        }
        let lines = Lines::take();
        assert_eq!(lines.len(), usize::from(level.is_some()), "{sent}: {lines:?}");
        let address = peer.socket.local_addr().unwrap().to_string();
        for (own, line) in lines {
            assert_eq!(Some(own), level, "{line}");
            assert!(line.contains(&address) && line.contains(why), "{line}");
            assert_eq!(line.contains("cut off"), status == 0, "{line}");
            assert!(status == 0 || line.contains(&status.to_string()), "{line}");
        }
    }
    // One connection too many.
    let mut siege = Siege::of(server(), limits);
    let _served = siege.peer();
    let mut peer = siege.peer();
    peer.send(get("/").as_bytes());
    siege.hear_out(&mut peer);
    let address = peer.socket.local_addr().unwrap();
    let line = format!("{address}: answered with 503: the limit on connections is reached");
    assert_eq!(Lines::take(), [(Level::Info, line)]);
}
