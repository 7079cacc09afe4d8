//! Servers and clients in simulated networks: whatever the seed draws, the same promises hold.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::net::sim::Network;
use waterwheel::net::{Conn, Event, Framed, Limits, Lines, Pressure, Reason, Stream, framed};
use waterwheel::{Context, SourceId};

mod between;
mod flows;
mod protocols;
#[cfg(feature = "ws")]
mod sockets;
mod storm;

use support::Rng;
use support::sim::{Sim, Turned, assert_same, command, explore, trace, try_explore};
use support::tcp::{Flow, watched};

/// For connecting, unless it is what a scenario is about.
const PATIENCE: Duration = Duration::from_secs(60);

fn addr() -> SocketAddr {
    "10.0.0.1:7001".parse().expect("an address")
}

/// Limits under which nothing is given up because it takes long.
fn patient(rng: &mut Rng) -> Limits {
    Limits {
        outbox_bytes_high: 1 + rng.below(4000) as usize,
        outbox_bytes_low: rng.below(1000) as usize,
        read_bytes_per_turn: 1 + rng.below(5000) as usize,
        close_grace: Duration::from_secs(24 * 3600),
        ..Limits::default()
    }
}

/// One direction of a connection: what was to be sent, was sent, and came.
#[derive(Debug, Default)]
struct Lane {
    bytes: usize,
    sent: Flow,
    got: Flow,
}

impl Lane {
    fn of(bytes: u64) -> Lane {
        Lane { bytes: bytes as usize, ..Lane::default() }
    }

    /// Writes until that is enough for now; true when all is written.
    fn feed(&mut self, conn: &mut Conn) -> bool {
        while self.sent.at < self.bytes {
            let bytes = self.sent.peek((self.bytes - self.sent.at).min(700));
            match conn.write(bytes) {
                Pressure::Refused | Pressure::Closed => return false,
                pressure => {
                    self.sent.at += bytes.len();
                    if pressure == Pressure::AboveHigh {
                        return self.sent.at == self.bytes;
                    }
                }
            }
        }
        true
    }
}

fn finished(closed: &Option<Reason>) -> bool {
    matches!(closed, Some(Reason::Finished))
}

/// Several clients whose bytes a server sends back.
#[derive(Debug, Default)]
struct Echo {
    limits: Limits,
    clients: Vec<Client>,
}

#[derive(Debug, Default)]
struct Client {
    lane: Lane,
    /// The peer's FIN has come.
    ended: bool,
    failed: Option<io::Error>,
    closed: Option<Reason>,
}

/// The server under test: on TCP it is the same.
fn serve_echo(reactor: &mut Context<Echo>, echo: &mut Echo, incoming: Stream) {
    incoming.limits(echo.limits.clone()).open(reactor, watched(echo_back));
}

fn echo_back(reactor: &mut Context<Echo>, _: &mut Echo, conn: SourceId<Conn>, event: Event<'_>) {
    match event {
        Event::Data(bytes) => match reactor[conn].write(bytes) {
            Pressure::AboveHigh => reactor[conn].pause(),
            // The outbox takes 4 MiB, so only a connection that is gone refuses.
            Pressure::Below | Pressure::Refused | Pressure::Closed => {}
        },
        Event::Drained => reactor[conn].resume(),
        Event::Eof | Event::Closed(_) => {}
    }
}

/// What a client does with its stream, which is the same on TCP, too.
fn echo_client(
    index: usize,
) -> impl FnOnce(&mut Context<Echo>, &mut Echo, io::Result<Stream>) + 'static {
    move |reactor, echo, stream| {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => return echo.clients[index].failed = Some(error),
        };
        let handler = watched(move |reactor: &mut Context<Echo>, echo: &mut Echo, conn, event| {
            client_event(reactor, &mut echo.clients[index], conn, event);
        });
        let conn = stream.limits(echo.limits.clone()).open(reactor, handler);
        feed(&mut reactor[conn], &mut echo.clients[index]);
    }
}

fn client_event<S: 'static>(
    reactor: &mut Context<S>,
    client: &mut Client,
    conn: SourceId<Conn>,
    event: Event<'_>,
) {
    match event {
        Event::Data(bytes) => client.lane.got.check(bytes),
        Event::Drained => feed(&mut reactor[conn], client),
        Event::Eof => client.ended = true,
        Event::Closed(why) => client.closed = Some(why),
    }
}

fn feed(conn: &mut Conn, client: &mut Client) {
    if client.lane.feed(conn) {
        conn.shutdown();
    }
}

fn set_up_echo(sim: &mut Sim<Echo>) -> Echo {
    let clients = (0..1 + sim.rng.below(3))
        .map(|_| Client { lane: Lane::of(sim.rng.below(8000)), ..Client::default() })
        .collect::<Vec<_>>();
    let listener = sim.network.listen(&mut sim.reactor, addr(), serve_echo).unwrap();
    sim.reactor.unref(listener);
    for index in 0..clients.len() {
        let at = Duration::from_millis(sim.rng.below(30));
        let network = sim.network.clone();
        sim.reactor.after(at, move |reactor, _| {
            network.connect(reactor, addr(), PATIENCE, echo_client(index)).unwrap();
        });
    }
    // It would be left over: who waits for no more clients than these stops listening.
    sim.reactor.after(2 * PATIENCE, move |reactor, _| {
        reactor.remove(listener);
    });
    Echo { limits: patient(&mut sim.rng), clients }
}

fn check_echo(sim: &Sim<Echo>, echo: &Echo) {
    let traffic = sim.network.traffic();
    for client in &echo.clients {
        assert!(client.lane.got.at <= client.lane.sent.at);
        assert!(client.failed.is_some() != client.closed.is_some(), "{client:?}");
        if traffic.resets == 0 && client.failed.is_none() {
            assert!(finished(&client.closed), "{client:?}");
            assert_eq!(client.lane.got.at, client.lane.bytes, "{client:?}");
        }
    }
    if (traffic.refused, traffic.lost) == (0, 0) && sim.faults.reset_per_mille == 0 {
        assert!(echo.clients.iter().all(|client| client.failed.is_none()));
    }
}

#[test]
fn echo() {
    explore("echo", set_up_echo, check_echo);
}

/// Half-close: each side sends all it has and finishes, whichever is first.
#[derive(Debug, Default)]
struct Halves {
    limits: Limits,
    /// The server answers only when the client has finished.
    waits: bool,
    client: Client,
    server: Client,
}

fn half_closed(sim: &mut Sim<Halves>) -> Halves {
    let (client, server) = (Lane::of(sim.rng.below(9000)), Lane::of(sim.rng.below(9000)));
    let on_accept = |reactor: &mut Context<Halves>, halves: &mut Halves, incoming: Stream| {
        let on_event =
            |reactor: &mut Context<Halves>, halves: &mut Halves, conn, event: Event<'_>| {
                let goes = halves.waits && matches!(event, Event::Eof);
                client_event(reactor, &mut halves.server, conn, event);
                if goes {
                    feed(&mut reactor[conn], &mut halves.server);
                }
            };
        let conn = incoming.limits(halves.limits.clone()).open(reactor, watched(on_event));
        if !halves.waits {
            feed(&mut reactor[conn], &mut halves.server);
        }
    };
    let listener = sim.network.listen(&mut sim.reactor, addr(), on_accept).unwrap();
    let done = |reactor: &mut Context<Halves>, halves: &mut Halves, stream: io::Result<Stream>| {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => return halves.client.failed = Some(error),
        };
        let handler = watched(|reactor: &mut Context<Halves>, halves: &mut Halves, conn, event| {
            client_event(reactor, &mut halves.client, conn, event);
        });
        let conn = stream.limits(halves.limits.clone()).open(reactor, handler);
        feed(&mut reactor[conn], &mut halves.client);
    };
    sim.network.connect(&mut sim.reactor, addr(), PATIENCE, done).unwrap();
    sim.reactor.after(PATIENCE, move |reactor, _| {
        reactor.remove(listener);
    });
    Halves {
        limits: Limits { half_open: true, ..patient(&mut sim.rng) },
        waits: sim.rng.below(2) == 0,
        client: Client { lane: client, ..Client::default() },
        server: Client { lane: server, ..Client::default() },
    }
}

#[test]
fn half_close() {
    explore("half_close", half_closed, |sim, halves| {
        for (one, other) in [(&halves.client, &halves.server), (&halves.server, &halves.client)] {
            assert!(one.lane.got.at <= other.lane.sent.at);
            let all = one.lane.got.at == other.lane.bytes;
            assert!(all || !one.ended, "FIN came behind lost bytes: {halves:?}");
            if sim.network.traffic().resets == 0 && halves.client.failed.is_none() {
                assert!(finished(&one.closed), "{halves:?}");
                assert_eq!(one.lane.got.at, other.lane.bytes, "{halves:?}");
            }
        }
    });
}

/// A room in which every line goes to every member.
#[derive(Debug, Default)]
struct Chat {
    limits: Limits,
    rng: Option<Rng>,
    members: Vec<SourceId<Conn>>,
    guests: Vec<Guest>,
}

#[derive(Debug, Default)]
struct Guest {
    lines: u64,
    slow: bool,
    /// Of each guest, the number of the line that was heard last.
    heard: Vec<Option<u64>>,
    closed: Option<Reason>,
}

fn join_chat(reactor: &mut Context<Chat>, chat: &mut Chat, incoming: Stream) {
    let line = |reactor: &mut Context<Chat>, chat: &mut Chat, conn, frame: Framed<'_>| match frame {
        Framed::Frame(line) => {
            let line = [line, b"\n"].concat();
            for member in chat.members.clone() {
                if !reactor[member].write(&line).is_taken() {
                    // A member that does not keep up is lost, and the others are not held up.
                    reactor[member].abort();
                    chat.members.retain(|other| *other != member);
                }
            }
        }
        Framed::Closed(_) => chat.members.retain(|other| *other != conn),
        _ => {}
    };
    let conn =
        incoming.limits(chat.limits.clone()).open(reactor, watched(framed(Lines::new(100), line)));
    chat.members.push(conn);
}

fn be_guest(index: usize) -> impl FnOnce(&mut Context<Chat>, &mut Chat, io::Result<Stream>) {
    move |reactor, chat, stream| {
        let Ok(stream) = stream else { return };
        let frame = move |reactor: &mut Context<Chat>, chat: &mut Chat, conn, frame: Framed<'_>| {
            match frame {
                Framed::Frame(line) => hear(reactor, chat, index, conn, line),
                Framed::Closed(why) => chat.guests[index].closed = Some(why),
                _ => {}
            }
        };
        let conn = stream.open(reactor, watched(framed(Lines::new(100), frame)));
        talk(reactor, chat, index, conn, 0);
    }
}

/// Lines of each guest come in order and none is left out.
fn hear(
    reactor: &mut Context<Chat>,
    chat: &mut Chat,
    index: usize,
    conn: SourceId<Conn>,
    line: &[u8],
) {
    let line = std::str::from_utf8(line).expect("a whole line");
    let (from, number) = line.split_once(' ').expect("a whole line");
    let (from, number): (usize, u64) = (from.parse().unwrap(), number.parse().unwrap());
    let last = chat.guests[index].heard[from].replace(number);
    assert!(last.is_none_or(|last| last + 1 == number), "{from} {number} after {last:?}");
    let rng = chat.rng.as_mut().expect("dice");
    if chat.guests[index].slow && rng.below(10) == 0 {
        reactor[conn].pause();
        reactor.after(Duration::from_millis(rng.below(500)), move |reactor, _| {
            if let Some(conn) = reactor.get_mut(conn) {
                conn.resume();
            }
        });
    }
}

/// Says the next line now and then, and leaves after the last.
fn talk(
    reactor: &mut Context<Chat>,
    chat: &mut Chat,
    index: usize,
    conn: SourceId<Conn>,
    next: u64,
) {
    let Some(own) = reactor.get_mut(conn) else { return };
    if next == chat.guests[index].lines {
        reactor.after(Duration::from_secs(3), move |reactor, _| {
            if let Some(conn) = reactor.get_mut(conn) {
                conn.close();
            }
        });
        return;
    }
    let _ = own.write(format!("{index} {next}\n").as_bytes());
    let pause = chat.rng.as_mut().expect("dice").below(40);
    reactor.after(Duration::from_millis(pause), move |reactor, chat| {
        talk(reactor, chat, index, conn, next + 1);
    });
}

fn set_up_chat(sim: &mut Sim<Chat>) -> Chat {
    let count = 2 + sim.rng.below(3) as usize;
    let listener = sim.network.listen(&mut sim.reactor, addr(), join_chat).unwrap();
    for index in 0..count {
        sim.network.connect(&mut sim.reactor, addr(), PATIENCE, be_guest(index)).unwrap();
    }
    sim.reactor.after(2 * PATIENCE, move |reactor, _| {
        reactor.remove(listener);
    });
    let guest = |rng: &mut Rng| Guest {
        lines: rng.below(20),
        slow: rng.below(3) == 0,
        heard: vec![None; count],
        closed: None,
    };
    let outbox_bytes_max = if sim.rng.below(2) == 0 { 60 } else { 1 << 20 };
    Chat {
        limits: Limits { outbox_bytes_max, ..Limits::default() },
        guests: (0..count).map(|_| guest(&mut sim.rng)).collect(),
        rng: Some(Rng::from_seed(1 + sim.rng.next() / 2)),
        members: Vec::new(),
    }
}

#[test]
fn chat() {
    explore("chat", set_up_chat, |_, chat| assert!(chat.members.is_empty(), "{chat:?}"));
}

/// A client that tries again, more and more slowly, until it has its answer.
#[derive(Default)]
struct Retry {
    network: Option<Network>,
    begun: u32,
    ended: u32,
    answers: u32,
}

const FIRST_WAIT: Duration = Duration::from_millis(20);
const WAIT_MAX: Duration = Duration::from_secs(2);

fn attempt(reactor: &mut Context<Retry>, retry: &mut Retry, wait: Duration) {
    retry.begun += 1;
    assert!(retry.begun < 1000, "no luck, or no end");
    let network = retry.network.clone().expect("a network");
    let done =
        move |reactor: &mut Context<Retry>, retry: &mut Retry, stream: io::Result<Stream>| {
            retry.ended += 1;
            match stream {
                Ok(stream) => ask(reactor, stream, wait),
                Err(error) => {
                    use ErrorKind::{ConnectionRefused, ConnectionReset, TimedOut};
                    assert!([ConnectionRefused, ConnectionReset, TimedOut].contains(&error.kind()));
                    attempt_later(reactor, wait);
                }
            }
        };
    network.connect(reactor, addr(), Duration::from_millis(700), done).unwrap();
}

fn attempt_later(reactor: &mut Context<Retry>, wait: Duration) {
    let next = (2 * wait).min(WAIT_MAX);
    reactor.after(wait, move |reactor, retry| attempt(reactor, retry, next));
}

fn ask(reactor: &mut Context<Retry>, stream: Stream, wait: Duration) {
    let mut heard = Vec::<u8>::new();
    let limits = Limits { read_timeout: Some(Duration::from_secs(2)), ..Limits::default() };
    let handler = move |reactor: &mut Context<Retry>, retry: &mut Retry, conn, event: Event<'_>| {
        match event {
            Event::Data(bytes) => {
                heard.extend(bytes);
                if heard == b"PING" {
                    retry.answers += 1;
                    let conn: SourceId<Conn> = conn;
                    reactor[conn].close();
                }
            }
            Event::Closed(_) if heard != b"PING" => attempt_later(reactor, wait),
            _ => {}
        }
    };
    let conn = stream.limits(limits).open(reactor, watched(handler));
    let _ = reactor[conn].write(b"ping");
}

fn answer(reactor: &mut Context<Retry>, _: &mut Retry, incoming: Stream) {
    let upper =
        |reactor: &mut Context<Retry>, _: &mut Retry, conn: SourceId<Conn>, event: Event<'_>| {
            if let Event::Data(bytes) = event {
                let _ = reactor[conn].write(&bytes.to_ascii_uppercase());
            }
        };
    incoming.open(reactor, watched(upper));
}

fn set_up_retry(sim: &mut Sim<Retry>) -> Retry {
    let network = sim.network.clone();
    let opens = Duration::from_millis(sim.rng.below(2) * sim.rng.below(4000));
    sim.reactor.after(opens, move |reactor, _| {
        let listener = network.listen(reactor, addr(), answer).unwrap();
        reactor.unref(listener);
        reactor.every(Duration::from_secs(10), waterwheel::reactor::Missed::Skip, {
            move |reactor, retry: &mut Retry, tick| {
                if retry.answers > 0 {
                    reactor.remove(listener);
                    reactor.cancel(tick.timer);
                }
            }
        });
    });
    let mut retry = Retry { network: Some(sim.network.clone()), ..Retry::default() };
    attempt(&mut sim.reactor, &mut retry, FIRST_WAIT);
    retry
}

#[test]
fn retry() {
    explore("retry", set_up_retry, |_, retry| {
        assert_eq!((retry.begun, retry.answers), (retry.ended, 1));
    });
}

#[test]
fn same_seed_is_the_same_run_and_another_is_another() {
    let of = |seed| trace(seed, Turned::ByRun, &set_up_echo, &check_echo);
    assert_same(&of(7), &of(7));
    let differs = std::panic::catch_unwind(|| assert_same(&of(7), &of(8)));
    assert!(differs.is_err(), "the seed decides nothing");
}

#[test]
fn failing_seed_is_named_with_the_command_that_repeats_it() {
    let planted = |sim: &Sim<Echo>, _: &Echo| assert_ne!(sim.seed, 17, "planted");
    let (seed, panic) = try_explore(0..30, &set_up_echo, &planted).unwrap_err();
    assert_eq!(seed, 17);
    assert!(panic.downcast_ref::<String>().unwrap().contains("planted"));
    let again = "WATERWHEEL_SEED=17 cargo test --all-features --test sim -- --exact echo";
    assert_eq!(command("echo", seed, Turned::ByRun), again);
    let by_host = format!("WATERWHEEL_HOST=1 {again}");
    assert_eq!(command("echo", seed, Turned::ByHost), by_host);
    assert!(try_explore(17..18, &set_up_echo, &planted).is_err());
}
