//! The HTTP server on simulated networks that delay, cut and reset: answers are those of the
//! requests, in order, and whoever waits for one that cannot come is told.

use std::net::SocketAddr;
use std::time::Duration;

use support::Rng;
use support::http;
use support::sim::{OnPurpose, Sim, explore};
use support::tcp::watched;
use waterwheel::net::{Conn, Event, Limits as ConnLimits, Reason, Stream};
use waterwheel::protocols::http::{
    Body, Limits, Method, Reply, Request, Response, Router, Sender, Server,
};
use waterwheel::{Context, SourceId};

/// A server and a client that pipelines, in the same loop.
#[derive(Default)]
struct World {
    /// What the client has to ask, one after another.
    requests: Vec<u8>,
    sent: usize,
    heard: Vec<u8>,
    closed: Option<Reason>,
    connected: bool,
    /// Requests that a handler was given, and what became of their replies.
    asked: usize,
    panics: usize,
    kept: Vec<Reply>,
}

fn addr() -> SocketAddr {
    "10.0.0.1:80".parse().expect("an address")
}

/// The response to request number `n`, of any length.
fn page(n: usize) -> Vec<u8> {
    let length = [0, 10, 700, 20_000, 3000][n % 5];
    (0..length).map(|at| b'a' + ((n + at) % 26) as u8).collect()
}

fn number(request: &Request<'_>) -> usize {
    request.param("n").and_then(|n| n.parse().ok()).expect("a number")
}

/// Answers at once, later, in pieces, or when the body has come, as the path says.
fn server() -> Server<World> {
    let router = Router::<World>::new()
        .get("/now/{n}", |reactor, world, request, reply| {
            world.asked += 1;
            reply.send(reactor, page(number(request)));
        })
        .get("/later/{n}", |reactor, world, request, reply| {
            world.asked += 1;
            let n = number(request);
            let delay = Duration::from_millis((n % 7) as u64 * 3);
            reactor.after(delay, move |reactor, _| {
                reply.send(reactor, page(n));
            });
        })
        .get("/pieces/{n}", |reactor, world, request, reply| {
            world.asked += 1;
            let page = page(number(request));
            let sender = reply.stream(reactor, Response::bytes(""));
            pieces(reactor, sender, page, 0);
        })
        .get("/panic/{n}", |_, world, _, _| {
            world.panics += 1;
            std::panic::resume_unwind(Box::new(OnPurpose));
        })
        .get("/keep/{n}", |_, world, _, reply| world.kept.push(reply))
        .post("/whole/{n}", |reactor, world, request, reply| {
            world.asked += 1;
            assert_eq!(request.body(), page(number(request)));
            reply.send(reactor, request.body().to_vec());
        })
        .stream(Method::PUT, "/flow/{n}", |_, world, request, reply| {
            world.asked += 1;
            let (page, mut got, mut reply) = (page(number(request)), Vec::new(), Some(reply));
            move |reactor, _, body| match body {
                Body::Data(bytes) => {
                    got.extend_from_slice(bytes);
                    assert!(page.starts_with(&got));
                }
                Body::End => {
                    assert_eq!(got, page);
                    reply.take().map(|reply| reply.send(reactor, got.clone()));
                }
                Body::Failed(_) => reply = None,
            }
        });
    let limits = Limits { close_grace: Duration::from_secs(3600), ..Limits::default() };
    Server::routes(router).limits(limits)
}

fn pieces(reactor: &mut Context<World>, sender: Sender, page: Vec<u8>, at: usize) {
    let piece = &page[at..(at + 3000).min(page.len())];
    if piece.is_empty() {
        sender.end(reactor);
        return;
    }
    let _ = sender.write(reactor, piece);
    let at = at + piece.len();
    sender.when_drained(reactor, move |reactor, _, sender| pieces(reactor, sender, page, at));
}

const KINDS: [&str; 5] = ["now", "later", "pieces", "whole", "flow"];

/// Requests of all kinds, by the seed.
fn requests(rng: &mut Rng, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for n in 0..count {
        let kind = KINDS[rng.below(KINDS.len() as u64) as usize];
        let page = page(n);
        let head = match kind {
            "whole" | "flow" => {
                let method = if kind == "whole" { "POST" } else { "PUT" };
                if rng.below(2) == 0 {
                    let mut chunks = Vec::new();
                    for chunk in page.chunks(1 + rng.below(5000) as usize) {
                        chunks.extend(format!("{:x}\r\n", chunk.len()).bytes());
                        chunks.extend(chunk);
                        chunks.extend(b"\r\n");
                    }
                    chunks.extend(b"0\r\n\r\n");
                    let coding = "Transfer-Encoding: chunked";
                    all.extend(
                        format!("{method} /{kind}/{n} HTTP/1.1\r\nHost: h\r\n{coding}\r\n\r\n")
                            .bytes(),
                    );
                    all.extend(chunks);
                    continue;
                }
                let length = page.len();
                let head = format!(
                    "{method} /{kind}/{n} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"
                );
                all.extend(head.bytes());
                all.extend(page);
                continue;
            }
            kind => format!("GET /{kind}/{n} HTTP/1.1\r\nHost: h\r\n\r\n"),
        };
        all.extend(head.bytes());
    }
    all
}

fn feed(world: &mut World, conn: &mut Conn) {
    while world.sent < world.requests.len() {
        let end = world.requests.len().min(world.sent + 900);
        match conn.write(&world.requests[world.sent..end]) {
            waterwheel::net::Pressure::Below => world.sent = end,
            waterwheel::net::Pressure::AboveHigh => return world.sent = end,
            waterwheel::net::Pressure::Refused | waterwheel::net::Pressure::Closed => return,
        }
    }
    conn.shutdown();
}

fn client(reactor: &mut Context<World>, world: &mut World, stream: Stream) {
    let on_event =
        |reactor: &mut Context<World>, world: &mut World, conn, event: Event<'_>| match event {
            Event::Data(bytes) => world.heard.extend_from_slice(bytes),
            Event::Drained => feed(world, &mut reactor[conn]),
            Event::Eof => {}
            Event::Closed(why) => world.closed = Some(why),
        };
    world.connected = true;
    let limits = ConnLimits { half_open: true, ..ConnLimits::default() };
    let conn: SourceId<Conn> = stream.limits(limits).open(reactor, watched(on_event));
    feed(world, &mut reactor[conn]);
}

/// A server, and a client that asks so many things.
fn set_up(sim: &mut Sim<World>, count: usize) -> World {
    let server = server();
    let network = sim.network.clone();
    let listener = network.listen(&mut sim.reactor, addr(), move |reactor, _, stream| {
        server.serve(reactor, stream);
    });
    let listener = listener.expect("nobody listens there");
    let patience = Duration::from_secs(60);
    let connecting = network.connect(
        &mut sim.reactor,
        addr(),
        patience,
        |reactor, world: &mut World, result| {
            if let Ok(stream) = result {
                client(reactor, world, stream);
            }
        },
    );
    connecting.expect("ports are left");
    sim.reactor.after(Duration::from_secs(7200), move |reactor, world: &mut World| {
        world.kept.clear();
        reactor.remove(listener);
    });
    World { requests: requests(&mut sim.rng, count), ..World::default() }
}

/// The bodies of the responses that are whole; how each is coded is in its head.
fn bodies(mut heard: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = std::str::from_utf8(&heard[..end]).expect("a head");
        let status = head[9..12].parse().expect("a status");
        let rest = &heard[end + 4..];
        let (body, used) = if head.contains("chunked") {
            let Some(chunks) = unchunk(rest) else { break };
            chunks
        } else {
            let length = head.split("Content-Length: ").nth(1).expect("a length");
            let length: usize = length.split("\r\n").next().unwrap().parse().expect("a number");
            let Some(body) = rest.get(..length) else { break };
            (body.to_vec(), length)
        };
        all.push((status, body));
        heard = &rest[used..];
    }
    all
}

fn unchunk(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = input.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&input[at..at + line]).expect("digits");
        let size = usize::from_str_radix(size, 16).expect("a size");
        at += line + 2;
        body.extend_from_slice(input.get(at..at + size)?);
        at += size + 2;
        if size == 0 {
            return (at <= input.len()).then_some((body, at));
        }
    }
}

const REQUESTS: usize = 7;

#[test]
fn responses_are_whole_and_in_order_where_nothing_is_lost() {
    explore(
        "responses_are_whole_and_in_order_where_nothing_is_lost",
        |sim| {
            sim.lossless();
            set_up(sim, REQUESTS)
        },
        |_, world| {
            assert!(world.connected && matches!(world.closed, Some(Reason::Finished)));
            let expected: Vec<_> = (0..REQUESTS).map(|n| (200, page(n))).collect();
            assert!(bodies(&world.heard) == expected, "{} bytes", world.heard.len());
            assert_eq!(world.asked, REQUESTS);
        },
    );
}

#[test]
fn responses_are_a_beginning_of_the_right_ones_whatever_is_lost() {
    explore(
        "responses_are_a_beginning_of_the_right_ones_whatever_is_lost",
        |sim| {
            let mut world = set_up(sim, REQUESTS);
            let mut trouble = requests(&mut sim.rng, sim.seed as usize % 4);
            match sim.rng.below(3) {
                0 => trouble.extend(http::get("/panic/1").bytes()),
                1 => trouble.extend(http::get("/keep/1").bytes()),
                _ => trouble.extend(b"NONSENSE\r\n\r\n"),
            }
            if sim.rng.below(2) == 0 {
                world.requests.extend(trouble);
            }
            world
        },
        |_, world| {
            let bodies = bodies(&world.heard);
            for (n, (status, body)) in bodies.iter().enumerate().take(REQUESTS) {
                assert!(*status == 200 && *body == page(n), "answer {n}");
            }
            assert!(bodies.len() <= world.asked + 1);
            assert!(world.kept.is_empty());
        },
    );
}
