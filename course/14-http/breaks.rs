//! Break: two readers who read one stream differently, with yours between them. Then a client that
//! sends a byte a second, for your reader and for waterwheel, in simulated time.

use std::io;
use std::time::Duration;

use kit::Input;
use waterwheel::net::sim::{Faults, Network};
use waterwheel::net::{Conn, Event};
use waterwheel::protocols::http::Server;
use waterwheel::reactor::Missed;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

#[path = "http.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod http;

/// A length and a coding. By the length, the body is all that follows. By the chunks, it is empty, and
/// another request follows.
const SMUGGLED: &str = "POST /search HTTP/1.1\r\nHost: shop\r\nContent-Length: 51\r\n\
    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin/delete-all HTTP/1.1\r\nHost: shop\r\n\r\n";
/// What the slow client sends: a head that does not end within an hour.
const SLOW: &str = "GET / HTTP/1.1\r\nHost: shop\r\nX: ";
const HOUR: u64 = 3600;

fn main() -> io::Result<()> {
    let (head, rest) = SMUGGLED.split_once("\r\n\r\n").expect("a head");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
    let (_, by_chunks) = rest.split_once("0\r\n\r\n").expect("the last chunk");
    show("a reader that goes by the length", head, &rest[length..]);
    show("a reader that goes by the chunks", head, by_chunks);
    yours("both lengths", SMUGGLED);
    yours("the length +5", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello");
    slow_yours();
    slow_waterwheel()
}

/// Prints the requests of a reader: the first, and the one behind it.
fn show(name: &str, first: &str, second: &str) {
    let lines = [first, second].map(|text| text.lines().next().unwrap_or("nothing"));
    println!("{name}: {}; then {}", lines[0], lines[1]);
}

fn yours(name: &str, text: &str) {
    let (mut reader, mut input) = (http::Reader::default(), Input::new());
    input.push(text.as_bytes());
    let mut said = Vec::new();
    for _ in 0..10 {
        match reader.next(&mut input) {
            Ok(request) => said.push(format!("{} {}", request.method, request.target)),
            Err(None) => said.push("it waits for more".into()),
            Err(Some(status)) => said.push(format!("refused with {status}")),
        }
        if said.last().is_some_and(|said| said.starts_with(['i', 'r'])) {
            break;
        }
    }
    println!("your reader, {name}: {}", said.join("; "));
}

/// The byte that comes after so many seconds.
fn byte(second: u64) -> u8 {
    SLOW.as_bytes().get(second as usize).copied().unwrap_or(b'x')
}

fn slow_yours() {
    let (mut reader, mut input) = (http::Reader::default(), Input::new());
    for second in 0..HOUR {
        input.push(&[byte(second)]);
        if let Err(Some(status)) = reader.next(&mut input) {
            return println!("a byte a second, your reader: {status} after {second} s");
        }
    }
    println!(
        "a byte a second, your reader: after an hour it waits, and keeps {} bytes",
        input.len()
    );
}

/// What has become of the slow client.
#[derive(Default)]
struct Slow {
    sent: u64,
    answer: Vec<u8>,
    is_gone: bool,
}

fn slow_waterwheel() -> io::Result<()> {
    let mut reactor = Reactor::builder().clock(&ManualClock::new()).build()?;
    let network = Network::new(&mut reactor, 1, Faults::default());
    let address = "10.0.0.1:80".parse().expect("an address");
    let server = Server::<Slow>::new(|reactor, _, _, reply| {
        reply.send(reactor, "hello\n");
    });
    let listener = network.listen(&mut reactor, address, move |reactor, _, stream| {
        server.serve(reactor, stream);
    })?;
    reactor.unref(listener);
    network.connect(&mut reactor, address, Duration::from_secs(3), |reactor, _, stream| {
        let stream = stream.expect("the server listens");
        let conn = stream.open(reactor, |reactor, slow: &mut Slow, conn, event| match event {
            Event::Data(bytes) => slow.answer.extend_from_slice(bytes),
            Event::Eof => drop(conn.close(reactor)),
            Event::Closed(_) => slow.is_gone = true,
            Event::Drained => {}
        });
        reactor.every(
            Duration::from_secs(1),
            Missed::Skip,
            move |reactor, slow: &mut Slow, now| {
                if slow.is_gone || slow.sent == HOUR {
                    reactor.cancel(now.timer);
                } else {
                    send(reactor, slow, conn);
                }
            },
        );
    })?;
    let mut slow = Slow::default();
    reactor.run(&mut slow)?;
    let answer = String::from_utf8_lossy(&slow.answer);
    let status = answer.lines().next().unwrap_or("no answer");
    println!("a byte a second, waterwheel: {status}, after {} bytes", slow.sent);
    Ok(())
}

/// Sends the next byte.
fn send(reactor: &mut Context<Slow>, slow: &mut Slow, conn: SourceId<Conn>) {
    let _ = conn.write(reactor, &[byte(slow.sent)]); // The server may have ended it.
    slow.sent += 1;
}
