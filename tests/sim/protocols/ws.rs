//! WebSockets from the HTTP server in simulated networks, bare and over TLS: every message that is
//! told is whole and the next one, and both ends are told one end.

use std::net::SocketAddr;
use std::time::Duration;

use support::Rng;
use support::sim::{Sim, explore};
use support::tcp::Flow;
#[cfg(feature = "tls")]
use support::tls as with;
use support::ws::{unclosed, watched};
use waterwheel::net::{Limits, Pressure, Stream};
use waterwheel::protocols::http::{Limits as HttpLimits, Server};
#[cfg(feature = "tls")]
use waterwheel::protocols::tls;
use waterwheel::protocols::ws::{self, Connect, Event, Reason, Socket};
use waterwheel::{Context, SourceId};

const PATIENCE: Duration = Duration::from_secs(3600);
/// Handshakes of TLS take their time: one network in so many has them.
#[cfg(feature = "tls")]
const TLS_EVERY: u64 = 25;

fn addr() -> SocketAddr {
    "10.0.0.1:80".parse().expect("an address")
}

/// Clients that talk, and a server that says everything back.
#[derive(Default)]
struct World {
    talks: Vec<Talk>,
    /// Ends of the server's sockets, and how many it has accepted.
    accepted: usize,
    closed: Vec<Reason>,
    asked: usize,
}

/// What one client has to say.
#[derive(Debug, Default)]
struct Talk {
    /// The lengths of its messages; every second one is a text.
    messages: Vec<usize>,
    sent: usize,
    heard: usize,
    pauses: Vec<Duration>,
    /// It goes with a reset, and not with a Close, when it has heard so many.
    aborts_at: Option<usize>,
    opened: bool,
    closed: Option<Reason>,
    failed: bool,
}

/// The bytes of one message, known to whom is to hear it.
fn message(talk: usize, number: usize, length: usize) -> Vec<u8> {
    let mut bytes = Flow { at: 31 * talk + 7 * number }.peek(length).to_vec();
    if number.is_multiple_of(2) {
        bytes.iter_mut().for_each(|byte| *byte = b'a' + *byte % 26);
    }
    bytes
}

fn speak(reactor: &mut Context<World>, world: &mut World, index: usize, socket: &Socket) {
    let talk = &mut world.talks[index];
    while let Some(length) = talk.messages.get(talk.sent) {
        let bytes = message(index, talk.sent, *length);
        let pressure = match talk.sent % 2 {
            0 => socket.text(reactor, std::str::from_utf8(&bytes).expect("letters")),
            _ => socket.binary(reactor, &bytes),
        };
        if !pressure.is_taken() {
            return;
        }
        talk.sent += 1;
        if pressure == Pressure::AboveHigh {
            return;
        }
    }
    if talk.messages.is_empty() {
        socket.close(reactor, ws::code::NORMAL, "nothing to say");
    }
}

fn hear(
    reactor: &mut Context<World>,
    world: &mut World,
    index: usize,
    socket: &Socket,
    bytes: &[u8],
) {
    let talk = &mut world.talks[index];
    let expected = message(index, talk.heard, talk.messages[talk.heard]);
    assert!(bytes == expected, "message {} of {talk:?}", talk.heard);
    talk.heard += 1;
    if talk.aborts_at == Some(talk.heard) {
        return socket.abort(reactor);
    }
    if talk.heard == talk.messages.len() {
        return socket.close(reactor, ws::code::NORMAL, "that was all");
    }
    if let Some(pause) = talk.pauses.pop() {
        socket.pause(reactor);
        let socket = socket.clone();
        reactor.after(pause, move |reactor, _| socket.resume(reactor));
    }
}

fn client_event(
    reactor: &mut Context<World>,
    world: &mut World,
    index: usize,
    socket: &Socket,
    event: Event<'_>,
) {
    match event {
        Event::Open => {
            world.talks[index].opened = true;
            speak(reactor, world, index, socket);
        }
        Event::Drained => speak(reactor, world, index, socket),
        Event::Text(text) => {
            assert!(world.talks[index].heard.is_multiple_of(2));
            hear(reactor, world, index, socket, text.as_bytes());
        }
        Event::Binary(bytes) => {
            assert!(world.talks[index].heard % 2 == 1);
            hear(reactor, world, index, socket, bytes);
        }
        Event::Pong(_) => {}
        Event::Closed(reason) => world.talks[index].closed = Some(reason),
    }
}

/// Says everything back, and hears no more while its client does not listen.
fn echo(reactor: &mut Context<World>, world: &mut World, socket: &Socket, event: Event<'_>) {
    let pressure = match event {
        Event::Text(text) => socket.text(reactor, text),
        Event::Binary(bytes) => socket.binary(reactor, bytes),
        Event::Drained => return socket.resume(reactor),
        Event::Closed(reason) => return world.closed.push(reason),
        Event::Open | Event::Pong(_) => return,
    };
    // Refused means that sending has failed, and these are the last words of its client.
    if pressure == Pressure::AboveHigh {
        socket.pause(reactor);
    }
}

fn server(rng: &mut Rng) -> Server<World> {
    let stream = Limits {
        outbox_bytes_high: 1 + rng.below(4000) as usize,
        outbox_bytes_low: rng.below(1000) as usize,
        read_bytes_per_turn: 1 + rng.below(5000) as usize,
        close_grace: PATIENCE,
        ..Limits::default()
    };
    let accept = ws::Accept::new().limits(limits()).stream_limits(stream);
    let limits =
        HttpLimits { idle_timeout: PATIENCE, head_timeout: PATIENCE, ..HttpLimits::default() };
    Server::new(move |reactor, world: &mut World, request, reply| {
        world.asked += 1;
        let accepted = accept.open(reactor, request, reply, watched(echo));
        world.accepted += usize::from(accepted.is_ok());
    })
    .limits(HttpLimits { close_grace: PATIENCE, ..limits })
}

/// Nothing is given up because it takes long.
fn limits() -> ws::Limits {
    ws::Limits {
        message_timeout: None,
        ping_interval: Some(Duration::from_secs(20)),
        pong_timeout: PATIENCE,
        close_timeout: PATIENCE,
        ..ws::Limits::default()
    }
}

/// Both sides of TLS, made once; what makes one run unlike another of its seed is turned off.
#[cfg(feature = "tls")]
fn tls() -> (tls::Server, tls::Client) {
    use std::cell::OnceCell;
    thread_local! {
        static BOTH: OnceCell<(tls::Server, tls::Client)> = const { OnceCell::new() };
    }
    let make = || {
        let server = with::server_of(with::of_one_size()).handshake_timeout(PATIENCE);
        (server, with::forgetful_config().into())
    };
    BOTH.with(|both| both.get_or_init(make).clone())
}

fn serve(sim: &mut Sim<World>, secure: bool) {
    let server = server(&mut sim.rng);
    let on_accept = move |reactor: &mut Context<World>, _: &mut World, stream: Stream| {
        #[cfg(feature = "tls")]
        if secure {
            let server = server.clone();
            tls().0.accept(reactor, stream, move |reactor, _, result| {
                result.map(|stream| server.serve(reactor, stream)).ok();
            });
            return;
        }
        assert!(!secure);
        server.serve(reactor, stream);
    };
    let listener = sim.network.listen(&mut sim.reactor, addr(), on_accept).unwrap();
    sim.reactor.unref(listener);
    sim.reactor.after(50 * PATIENCE, move |reactor, _| {
        reactor.remove(listener);
    });
}

fn connect(secure: bool) -> (Connect, &'static str) {
    let connect = Connect::new().timeout(PATIENCE).limits(limits());
    #[cfg(feature = "tls")]
    if secure {
        return (connect.tls(tls().1), "wss://localhost/echo");
    }
    assert!(!secure);
    (connect, "ws://localhost/echo")
}

fn talk(rng: &mut Rng) -> Talk {
    let length = |rng: &mut Rng| match rng.below(3) {
        0 => rng.below(130),
        1 => rng.below(3000),
        _ => rng.below(12_000),
    } as usize;
    let messages: Vec<_> = (0..rng.below(9)).map(|_| length(rng)).collect();
    let aborts_at = (rng.below(5) == 0).then(|| rng.below(9) as usize);
    let pauses = (0..rng.below(4)).map(|_| Duration::from_millis(rng.below(900))).collect();
    Talk { messages, aborts_at, pauses, ..Talk::default() }
}

fn set_up(sim: &mut Sim<World>, lossless: bool) -> World {
    if lossless {
        sim.lossless();
    }
    #[cfg(feature = "tls")]
    let secure = sim.seed.is_multiple_of(TLS_EVERY);
    #[cfg(not(feature = "tls"))]
    let secure = false;
    serve(sim, secure);
    let mut world = World::default();
    let (set, url) = connect(secure);
    for index in 0..1 + sim.rng.below(2) as usize {
        world.talks.push(talk(&mut sim.rng));
        if lossless {
            world.talks[index].aborts_at = None;
        }
        let set = set.clone();
        let done = move |reactor: &mut Context<World>,
                         world: &mut World,
                         stream: std::io::Result<Stream>| {
            let Ok(stream) = stream else { return world.talks[index].failed = true };
            let handler =
                watched(move |reactor: &mut Context<World>, world: &mut World, socket, event| {
                    client_event(reactor, world, index, socket, event);
                });
            set.over(reactor, stream, url, handler).expect("a good URL");
        };
        let _: SourceId<_> = sim.network.connect(&mut sim.reactor, addr(), PATIENCE, done).unwrap();
    }
    world
}

/// What must hold whatever the network does.
fn check(world: &World) {
    assert_eq!(unclosed(), 0, "a handler waits for its Closed");
    assert!(world.closed.len() == world.accepted && world.accepted <= world.asked);
    for talk in &world.talks {
        assert!(talk.failed != talk.closed.is_some(), "{talk:?}");
        assert!(talk.heard <= talk.sent && talk.sent <= talk.messages.len());
    }
}

#[test]
fn everything_is_said_back_where_nothing_is_lost() {
    explore(
        "everything_is_said_back_where_nothing_is_lost",
        |sim| set_up(sim, true),
        |_, world| {
            check(world);
            assert_eq!(world.accepted, world.talks.len());
            for talk in &world.talks {
                assert_eq!(talk.heard, talk.messages.len(), "{talk:?}");
                let normal = |reason: &Reason| matches!(reason, Reason::Closed { code: 1000, .. });
                assert!(talk.closed.as_ref().is_some_and(normal), "{talk:?}");
                assert!(world.closed.iter().all(normal), "{:?}", world.closed);
            }
        },
    );
}

#[test]
fn both_ends_are_told_one_end_whatever_is_lost() {
    explore(
        "both_ends_are_told_one_end_whatever_is_lost",
        |sim| set_up(sim, false),
        |_, world| {
            check(world);
            for talk in world.talks.iter().filter(|talk| talk.heard < talk.messages.len()) {
                let done = matches!(talk.closed, Some(Reason::Closed { .. }));
                assert!(!done, "closed in order, and not all was heard: {talk:?}");
            }
        },
    );
}
