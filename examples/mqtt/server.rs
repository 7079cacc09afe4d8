//! A client's connection: packets in order, and the broker that does what they ask.

use std::time::Duration;

use waterwheel::net::{Conn, Event, Stream};
use waterwheel::{Context, SourceId};

use super::broker::{Broker, VERSION, WORK_MAX, Who};
use super::protocol::{Connect, Malformed, PINGRESP, Packet, connack, next};

/// How long a client may take to send its CONNECT.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a client, over whatever carries its bytes.
pub fn serve(reactor: &mut Context<Broker>, _: &mut Broker, client: Stream) {
    let mut key = None;
    let client = client.adjust_limits(|limits| limits.read_timeout = Some(CONNECT_TIMEOUT));
    client.open(reactor, move |reactor, broker, conn, event| match event {
        Event::Data(input) => data(reactor, broker, conn, (&mut key, input)),
        Event::Drained => {
            conn.resume(reactor); // It was paused, because its client did not read.
            if let Some(session) = key.and_then(|key| broker.session((key, conn))) {
                session.is_full = false;
                session.pump(reactor);
            }
        }
        Event::Eof => {}
        Event::Closed(why) => {
            if let Some(key) = key {
                log::info!("a client is gone: {why}");
                broker.lost(reactor, (key, conn));
            }
        }
    });
}

/// Does what the packets that are complete ask for, and gives back the rest of the input: for later
/// if the client has to read first. When all of them have done enough in this turn, each has one
/// packet done.
fn data(
    reactor: &mut Context<Broker>,
    broker: &mut Broker,
    conn: SourceId<Conn>,
    (key, input): (&mut Option<usize>, &[u8]),
) {
    let turn = reactor.statistics().turns;
    if std::mem::replace(&mut broker.turn, turn) != turn {
        broker.work = 0;
    }
    let (mut used, mut waits) = (0, false);
    while !waits {
        let done = match (next(&input[used..]), *key) {
            (Ok(None), _) => break,
            (Ok(Some((packet, bytes))), Some(key)) => {
                used += bytes;
                packet_of(reactor, broker, (key, conn), packet)
            }
            (Ok(Some((packet, bytes))), None) => {
                used += bytes;
                first(reactor, broker, conn, packet).map(|new| *key = new)
            }
            (Err(malformed), _) => Err(malformed),
        };
        broker.work += 1;
        if let Err(Malformed(why)) = done {
            log::warn!("a client is closed: {why}");
            end(reactor, broker, conn, *key);
        }
        if conn.is_closing(reactor) {
            return;
        }
        let is_full = key.and_then(|key| broker.session((key, conn))).is_some_and(|s| s.is_full);
        if is_full || broker.work > WORK_MAX {
            conn.pause(reactor);
            waits = true;
            if !is_full {
                conn.resume(reactor); // In the next turn.
            }
        }
    }
    conn.unread(reactor, input.len() - used);
}

/// The first packet has to be a CONNECT. Returns the number of the session that it has begun.
fn first(
    reactor: &mut Context<Broker>,
    broker: &mut Broker,
    conn: SourceId<Conn>,
    packet: Packet<'_>,
) -> Result<Option<usize>, Malformed> {
    let begun = match packet {
        Packet::Connect(connect) => {
            expect_packets(reactor, conn, &connect);
            broker.connect(reactor, conn, &connect)
        }
        Packet::OtherVersion => Err(VERSION),
        _ => return Err(Malformed("the first packet is not CONNECT")),
    };
    if let Err(code) = begun {
        log::warn!("a client is refused: code {code}");
        let _ = conn.write(reactor, &connack(false, code));
        conn.close(reactor);
    }
    Ok(begun.ok())
}

/// A client has promised to send something every so many seconds; after one and a half times as
/// long it is taken for lost. The loop counts that: packets, and not bytes of a part of one.
fn expect_packets(reactor: &mut Context<Broker>, conn: SourceId<Conn>, connect: &Connect<'_>) {
    let Some(limits) = conn.limits(reactor) else { return };
    let mut limits = limits.clone();
    let longest = Duration::from_millis(1500) * connect.keep_alive_s.into();
    limits.read_timeout = Some(longest).filter(|longest| !longest.is_zero());
    conn.set_limits(reactor, limits);
}

fn packet_of(
    reactor: &mut Context<Broker>,
    broker: &mut Broker,
    who: Who,
    packet: Packet<'_>,
) -> Result<(), Malformed> {
    let (key, conn) = who;
    let Some(session) = broker.session(who) else { return Ok(()) };
    match packet {
        Packet::Publish(publish) => {
            if !broker.take(reactor, key, &publish) {
                return Err(Malformed("no memory for the ids of its messages"));
            }
        }
        Packet::Ack(kind, id) => broker.acknowledged(reactor, key, (kind, id)),
        Packet::Subscribe(id, filters) => broker.subscribe(reactor, key, (id, &filters)),
        Packet::Unsubscribe(id, filters) => broker.unsubscribe(reactor, key, (id, &filters)),
        Packet::Ping => session.write(reactor, &PINGRESP),
        Packet::Disconnect => {
            session.will = None;
            end(reactor, broker, conn, Some(key));
        }
        Packet::Connect(_) | Packet::OtherVersion => return Err(Malformed("a second CONNECT")),
    }
    Ok(())
}

fn end(
    reactor: &mut Context<Broker>,
    broker: &mut Broker,
    conn: SourceId<Conn>,
    key: Option<usize>,
) {
    if let Some(key) = key {
        broker.lost(reactor, (key, conn));
    }
    conn.close(reactor);
}
