//! WebSockets in simulated networks, from the request on.

use std::time::Duration;

use crate::{addr, patient};
use support::Rng;
use support::sim::{Sim, explore};
use support::ws::{unclosed, watched};
use waterwheel::Context;
use waterwheel::net::{Pressure, Stream};
use waterwheel::protocols::http;
use waterwheel::protocols::ws::{Accept, Connect, Event, Limits, Reason, Socket, code};

const PATIENCE: Duration = Duration::from_secs(60);
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Clients that say so much each, and a server that says it all again.
#[derive(Debug, Default)]
struct Sockets {
    limits: Limits,
    stream: waterwheel::net::Limits,
    clients: Vec<Client>,
    /// Of the server's sides.
    closed: Vec<Reason>,
}

#[derive(Debug, Default)]
struct Client {
    messages: usize,
    sent: usize,
    heard: usize,
    /// It pauses after so many.
    pauses: usize,
    failed: bool,
    closed: Option<Reason>,
}

/// A message of known contents: texts with characters of several bytes, and binaries.
fn message(number: usize) -> String {
    "ü€𐍈 ".repeat(number * 37 % 230) + &number.to_string()
}

fn say(reactor: &mut Context<Sockets>, client: &mut Client, socket: &Socket) {
    while client.sent < client.messages {
        let message = message(client.sent);
        let pressure = match client.sent % 2 {
            0 => socket.text(reactor, &message),
            _ => socket.binary(reactor, message.as_bytes()),
        };
        match pressure {
            Pressure::Refused | Pressure::Closed => return,
            _ => client.sent += 1,
        }
        if pressure == Pressure::AboveHigh {
            return;
        }
    }
}

fn client_hears(
    reactor: &mut Context<Sockets>,
    client: &mut Client,
    socket: &Socket,
    event: Event<'_>,
) {
    let heard = match event {
        Event::Open | Event::Drained => return say(reactor, client, socket),
        Event::Closed(Reason::Connect(_)) => return client.failed = true,
        Event::Closed(reason) => return client.closed = Some(reason),
        Event::Text(text) => text.as_bytes(),
        Event::Binary(bytes) => bytes,
        Event::Pong(_) => return,
    };
    assert_eq!(heard, message(client.heard).as_bytes());
    client.heard += 1;
    if client.pauses > 0 && client.heard.is_multiple_of(client.pauses) {
        socket.pause(reactor);
        let socket = socket.clone();
        reactor.after(Duration::from_millis(20), move |reactor, _| socket.resume(reactor));
    }
    if client.heard == client.messages {
        socket.close(reactor, code::NORMAL, "heard it all");
    }
}

fn server_hears(
    reactor: &mut Context<Sockets>,
    sockets: &mut Sockets,
    socket: &Socket,
    event: Event<'_>,
) {
    let pressure = match event {
        Event::Text(text) => socket.text(reactor, text),
        Event::Binary(bytes) => socket.binary(reactor, bytes),
        Event::Drained => return socket.resume(reactor),
        Event::Closed(reason) => return sockets.closed.push(reason),
        Event::Open | Event::Pong(_) => return,
    };
    // 4 MiB are enough: only a connection that is gone refuses.
    if pressure == Pressure::AboveHigh {
        socket.pause(reactor);
        let _ = socket.ping(reactor, b"are you slow?");
    }
}

fn set_up(sim: &mut Sim<Sockets>) -> Sockets {
    let limits = Limits {
        message_timeout: None,
        ping_interval: (sim.rng.below(2) == 0).then_some(Duration::from_millis(300)),
        pong_timeout: A_DAY,
        close_timeout: A_DAY,
        ..Limits::default()
    };
    let stream = patient(&mut sim.rng);
    let accept = Accept::new().limits(limits.clone()).stream_limits(stream.clone());
    let server = http::Server::new(move |reactor, _: &mut Sockets, request, reply| {
        let _ = accept.open(reactor, request, reply, watched(server_hears));
    });
    let serve = move |reactor: &mut Context<Sockets>, _: &mut Sockets, stream: Stream| {
        server.serve(reactor, stream);
    };
    let listener = sim.network.listen(&mut sim.reactor, addr(), serve).unwrap();
    sim.reactor.unref(listener);
    let clients: Vec<Client> = (0..1 + sim.rng.below(3)).map(|_| client(&mut sim.rng)).collect();
    for index in 0..clients.len() {
        let network = sim.network.clone();
        let at = Duration::from_millis(sim.rng.below(30));
        sim.reactor.after(at, move |reactor, _| {
            network.connect(reactor, addr(), PATIENCE, ask(index)).unwrap();
        });
    }
    sim.reactor.after(2 * PATIENCE, move |reactor, _| {
        reactor.remove(listener);
    });
    Sockets { limits, stream, clients, closed: Vec::new() }
}

fn client(rng: &mut Rng) -> Client {
    let (messages, pauses) = (1 + rng.below(30) as usize, rng.below(6) as usize);
    Client { messages, pauses, ..Client::default() }
}

/// What a client does with its stream.
fn ask(
    index: usize,
) -> impl FnOnce(&mut Context<Sockets>, &mut Sockets, std::io::Result<Stream>) + 'static {
    move |reactor, sockets, stream| {
        let Ok(stream) = stream else { return sockets.clients[index].failed = true };
        let connect = Connect::new().limits(sockets.limits.clone()).timeout(A_DAY);
        let connect = connect.stream_limits(sockets.stream.clone());
        let hear = move |reactor: &mut Context<Sockets>,
                         sockets: &mut Sockets,
                         socket: &Socket,
                         event: Event<'_>| {
            client_hears(reactor, &mut sockets.clients[index], socket, event);
        };
        connect.over(reactor, stream, "ws://server.example/", watched(hear)).unwrap();
    }
}

fn check(sim: &Sim<Sockets>, sockets: &Sockets) {
    assert_eq!(unclosed(), 0, "a handler waits for its Closed");
    let traffic = sim.network.traffic();
    for client in &sockets.clients {
        assert!(client.failed != client.closed.is_some(), "{client:?}");
        assert!(client.heard <= client.sent, "{client:?}");
        if traffic.resets == 0 && !client.failed {
            assert_eq!(client.heard, client.messages, "{client:?}");
            let closed = &client.closed;
            assert!(matches!(closed, Some(Reason::Closed { code: 1000, .. })), "{client:?}");
        }
    }
    if traffic.resets == 0 {
        for reason in &sockets.closed {
            assert_eq!(reason.to_string(), "code 1000 \"heard it all\"");
        }
    }
}

#[test]
fn web_sockets() {
    explore("web_sockets", set_up, check);
}
