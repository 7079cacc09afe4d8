//! The example `mqtt`: clients that come again whenever they are cut off, and what QoS 1 and 2 promise
//! them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use support::sim::{Sim, Turned, explore_program};
use support::tcp::watched;
use waterwheel::net::sim::Network;
use waterwheel::net::{Conn, Event, Limits, Stream};
use waterwheel::reactor::Missed;
use waterwheel::{Context, SourceId};

#[allow(dead_code, unused_imports)] // Its other part is the program's.
#[path = "../../../examples/mqtt"]
mod example {
    pub mod broker;
    pub mod memory;
    pub mod protocol;
    pub mod server;
    pub mod session;
    pub mod topics;
}

use example::broker::Broker;
use example::memory::KEPT_BYTES_MAX;
use example::protocol::{Packet, Publish, next, push_publish};

const PATIENCE: Duration = Duration::from_secs(3);
/// How often a client says that it is there. It promises every five seconds.
const PING: Duration = Duration::from_secs(2);
/// How long a client that has heard all waits for what it may hear twice.
const LINGER: Duration = Duration::from_secs(30);

fn addr() -> SocketAddr {
    "10.0.0.1:1883".parse().expect("an address")
}

/// A client: it keeps its session, and connects again until it has finished.
struct Party {
    network: Network,
    name: &'static str,
    qos: u8,
    /// Messages that there are in all.
    count: usize,
    listens: bool,
    conn: Option<SourceId<Conn>>,
    attempts: usize,
    /// The broker has said that it knows it.
    is_known: bool,
    finished: bool,
    /// Of a listener: what it has heard, and ids of QoS 2 that have come and are not released.
    heard: Vec<usize>,
    ids: BTreeSet<u16>,
    is_subscribed: bool,
    /// Of a speaker: messages that it has begun to send, those not acknowledged by their ids (true if
    /// only their release is not), and how many of them it may have.
    begun: usize,
    unknown: BTreeMap<usize, (u16, bool)>,
    window: usize,
    /// Listeners that have not subscribed yet.
    awaited: Rc<Cell<usize>>,
}

type Shared = Rc<RefCell<Party>>;

/// How long until the next try; each a little longer.
fn come_again(reactor: &mut Context<Broker>, party: &Shared) {
    let wait = {
        let mut party = party.borrow_mut();
        party.conn = None;
        party.attempts += 1;
        assert!(party.attempts < 2000, "no luck, or no end: {}", party.name);
        if party.finished {
            return;
        }
        Duration::from_millis(50 + 37 * (party.attempts as u64 % 20))
    };
    let party = party.clone();
    reactor.after(wait, move |reactor, _| come(reactor, &party));
}

fn come(reactor: &mut Context<Broker>, party: &Shared) {
    let network = party.borrow().network.clone();
    let party = party.clone();
    let connected = move |reactor: &mut Context<Broker>, _: &mut Broker, stream| match stream {
        Ok(stream) if !party.borrow().finished => open(reactor, &party, stream),
        _ => come_again(reactor, &party),
    };
    network.connect(reactor, addr(), PATIENCE, connected).expect("an address");
}

fn open(reactor: &mut Context<Broker>, party: &Shared, stream: Stream) {
    let own = party.clone();
    let handler =
        move |reactor: &mut Context<Broker>, _: &mut Broker, conn, event: Event<'_>| match event {
            Event::Data(input) => {
                let used = own.borrow_mut().data(reactor, conn, input);
                if own.borrow().is_over() {
                    linger(reactor, &own);
                }
                let conn: SourceId<Conn> = conn;
                conn.unread(reactor, input.len() - used);
            }
            Event::Closed(_) => come_again(reactor, &own),
            Event::Eof | Event::Drained => {}
        };
    let limits = Limits { read_timeout: Some(3 * PING), ..Limits::default() };
    let conn = stream.limits(limits).open(reactor, watched(handler));
    party.borrow_mut().conn = Some(conn);
    let name = party.borrow().name.as_bytes();
    let hello = [&b"\x10\x0d\0\x04MQTT\x04\0\0\x05\0\x01"[..], name].concat();
    let _ = conn.write(reactor, &hello);
    ping(reactor, conn, party.clone());
}

/// Says that it is there, and asks whether it may begin.
fn ping(reactor: &mut Context<Broker>, conn: SourceId<Conn>, party: Shared) {
    reactor.after(PING, move |reactor, _| {
        if conn.is_open(reactor) && !conn.is_closing(reactor) {
            let _ = conn.write(reactor, &[0xc0, 0]);
            if party.borrow().is_known {
                party.borrow_mut().speak(reactor, conn);
            }
            ping(reactor, conn, party);
        }
    });
}

/// A client that has heard all, or was acknowledged all: leaves, in a while and in order.
fn linger(reactor: &mut Context<Broker>, party: &Shared) {
    let party = party.clone();
    reactor.after(LINGER, move |reactor, _| {
        let mut party = party.borrow_mut();
        if !std::mem::replace(&mut party.finished, true)
            && let Some(conn) = party.conn
        {
            let _ = conn.write(reactor, &[0xe0, 0]);
            conn.close(reactor);
        }
    });
}

impl Party {
    fn is_over(&self) -> bool {
        let all: BTreeSet<usize> = self.heard.iter().copied().collect();
        if self.listens {
            all.len() == self.count && self.ids.is_empty()
        } else {
            self.begun == self.count && self.unknown.is_empty()
        }
    }

    /// Reads packets that are complete. Returns how many bytes they are.
    fn data(&mut self, reactor: &mut Context<Broker>, conn: SourceId<Conn>, input: &[u8]) -> usize {
        let mut used = 0;
        while let [first, length, rest @ ..] = &input[used..]
            && rest.len() >= usize::from(*length)
        {
            assert!(*length < 128, "a short packet");
            let packet = &input[used..used + 2 + usize::from(*length)];
            used += packet.len();
            match (first, &packet[2..]) {
                (0x20, &[present, code]) => {
                    assert_eq!(code, 0);
                    assert!(present == 1 || !self.is_known, "the session is kept");
                    self.is_known = true;
                    self.greeted(reactor, conn);
                }
                (0x90, &[0, 1, code]) => {
                    assert_eq!(code, self.qos);
                    if !std::mem::replace(&mut self.is_subscribed, true) {
                        self.awaited.set(self.awaited.get() - 1);
                    }
                }
                (0xd0, []) => {}
                _ => match next(packet) {
                    Ok(Some((Packet::Publish(publish), _))) => self.hear(reactor, conn, &publish),
                    Ok(Some((Packet::Ack(kind, id), _))) => self.ack(reactor, conn, (kind, id)),
                    other => panic!("{other:?}"),
                },
            }
        }
        used
    }

    /// The connection stands: says again what was not acknowledged.
    fn greeted(&mut self, reactor: &mut Context<Broker>, conn: SourceId<Conn>) {
        if self.listens && !self.is_subscribed {
            let _ = conn.write(reactor, &[0x82, 6, 0, 1, 0, 1, b'#', self.qos]);
        }
        for (number, (id, is_released)) in self.unknown.clone() {
            if is_released {
                let _ = conn.write(reactor, &[0x62, 2, 0, id as u8]);
            } else {
                self.send(reactor, conn, (number, id, true));
            }
        }
        self.speak(reactor, conn);
    }

    fn send(
        &self,
        reactor: &mut Context<Broker>,
        conn: SourceId<Conn>,
        (number, id, dup): (usize, u16, bool),
    ) {
        let (mut bytes, payload) = (Vec::new(), [number as u8]);
        let message =
            Publish { topic: "t", payload: &payload, qos: self.qos, retain: false, dup, id };
        push_publish(&mut bytes, &message);
        let _ = conn.write(reactor, &bytes);
    }

    /// Sends the next messages, as far as its window goes; ids are used again and again.
    fn speak(&mut self, reactor: &mut Context<Broker>, conn: SourceId<Conn>) {
        let may = |party: &Party| {
            let room = party.unknown.len() < party.window && party.begun < party.count;
            !party.listens && party.awaited.get() == 0 && room
        };
        while may(self) {
            let is_free = |id: &u16| self.unknown.values().all(|(other, _)| other != id);
            let id = (1..10).find(is_free).expect("an id is free");
            self.unknown.insert(self.begun, (id, false));
            self.send(reactor, conn, (self.begun, id, false));
            self.begun += 1;
        }
    }

    fn ack(&mut self, reactor: &mut Context<Broker>, conn: SourceId<Conn>, (kind, id): (u8, u16)) {
        if kind == 0x62 {
            self.ids.remove(&id);
            let _ = conn.write(reactor, &[0x70, 2, (id >> 8) as u8, id as u8]);
            return;
        }
        let found = self.unknown.iter_mut().find(|(_, (own, _))| *own == id);
        let Some((&number, (_, is_released))) = found else { return };
        if kind == 0x50 {
            *is_released = true;
            let _ = conn.write(reactor, &[0x62, 2, 0, id as u8]);
        } else {
            assert!(kind == 0x40 || *is_released, "PUBCOMP before PUBREC");
            self.unknown.remove(&number);
            self.speak(reactor, conn);
        }
    }

    fn hear(&mut self, reactor: &mut Context<Broker>, conn: SourceId<Conn>, message: &Publish<'_>) {
        assert_eq!((message.qos, message.topic), (self.qos, "t"));
        if self.qos == 1 || self.ids.insert(message.id) {
            self.heard.push(message.payload[0].into());
        }
        let kind = if self.qos == 1 { 0x40 } else { 0x50 };
        let _ = conn.write(reactor, &[kind, 2, (message.id >> 8) as u8, message.id as u8]);
    }
}

fn set_up(sim: &mut Sim<Broker>, parties: &RefCell<Vec<Shared>>) -> Broker {
    let (high, low) = (1 + sim.rng.below(300) as usize, sim.rng.below(100) as usize);
    let serve = move |reactor: &mut Context<Broker>, broker: &mut Broker, client: Stream| {
        let client = client.adjust_limits(|limits| {
            (limits.outbox_bytes_high, limits.outbox_bytes_low) = (high, low.min(high));
        });
        example::server::serve(reactor, broker, client);
    };
    let listener = sim.network.listen(&mut sim.reactor, addr(), serve).unwrap();
    let (qos, count) = (1 + sim.rng.below(2) as u8, 1 + sim.rng.below(12) as usize);
    let listeners = 1 + sim.rng.below(2) as usize;
    let awaited = Rc::new(Cell::new(listeners));
    let names = ["s", "a", "b"].into_iter().take(1 + listeners);
    let all: Vec<Shared> = names
        .map(|name| {
            Rc::new(RefCell::new(Party {
                network: sim.network.clone(),
                name,
                qos,
                count,
                listens: name != "s",
                conn: None,
                attempts: 0,
                is_known: false,
                finished: false,
                heard: Vec::new(),
                ids: BTreeSet::new(),
                is_subscribed: false,
                begun: 0,
                unknown: BTreeMap::new(),
                window: 1 + sim.rng.below(5) as usize,
                awaited: awaited.clone(),
            }))
        })
        .collect();
    for party in &all {
        let party = party.clone();
        let at = Duration::from_millis(sim.rng.below(50));
        sim.reactor.after(at, move |reactor, _| come(reactor, &party));
    }
    let finished = all.clone();
    sim.reactor.every(Duration::from_secs(10), Missed::Skip, move |reactor, _, tick| {
        if finished.iter().all(|party| party.borrow().finished) {
            reactor.remove(listener);
            reactor.cancel(tick.timer);
        }
    });
    *parties.borrow_mut() = all;
    Broker::default()
}

/// What a client sends, each at a time in milliseconds, and when it is closed.
type Silence = (Vec<(u64, &'static [u8])>, u64);

#[test]
fn client_is_closed_when_it_is_late_by_half_of_what_it_has_promised() {
    const HELLO: &[u8] = b"\x10\x0d\0\x04MQTT\x04\0\0\x05\0\x01x";
    let cases: [Silence; 6] = [
        (vec![], 10_000),
        (vec![(0, &HELLO[..3]), (6000, &HELLO[3..5])], 10_000),
        (vec![(8000, HELLO)], 15_500),
        (vec![(0, HELLO), (7000, b"\xc0\0"), (14_000, b"\xc0\0")], 21_500),
        (vec![(0, HELLO), (7000, b"\xc0")], 7500),
        (vec![(0, b"\x10\x0d\0\x04MQTT\x04\0\x01\0\0\x01x")], 384_000),
    ];
    for (sent, closed_ms) in cases {
        let mut sim = Sim::<Broker>::new(1, None, Turned::ByRun);
        sim.lossless();
        let listener =
            sim.network.listen(&mut sim.reactor, addr(), example::server::serve).unwrap();
        let closed = Rc::new(Cell::new(None));
        let (seen, to_send) = (closed.clone(), sent.clone());
        let connected = move |reactor: &mut Context<Broker>, _: &mut Broker, stream| {
            let (began, stream): (_, std::io::Result<Stream>) = (reactor.now(), stream);
            let conn = stream.expect("it listens").open(reactor, move |reactor, _, _, event| {
                if let Event::Closed(_) = event {
                    seen.set(Some(reactor.now() - began));
                    reactor.remove(listener);
                }
            });
            for (at_ms, bytes) in to_send {
                reactor.after(Duration::from_millis(at_ms), move |reactor, _| {
                    let _ = conn.write(reactor, bytes);
                });
            }
        };
        sim.network.connect(&mut sim.reactor, addr(), PATIENCE, connected).expect("an address");
        sim.run_out(&mut Broker::default());
        let late = closed.get().expect("it is closed").as_millis() as i64 - closed_ms as i64;
        assert!((-500..1000).contains(&late), "{sent:?}: {late}");
    }
}

#[test]
fn qos_1_arrives_at_least_once_and_qos_2_exactly_once_whatever_the_network_does() {
    thread_local!(static PARTIES: RefCell<Vec<Shared>> = RefCell::default());
    let check = |sim: &Sim<Broker>, broker: &Broker| {
        PARTIES.with_borrow(|parties| {
            for party in parties {
                let party = party.borrow();
                let mut first = Vec::new();
                for number in &party.heard {
                    if !first.contains(number) {
                        first.push(*number);
                    }
                }
                let all: Vec<usize> =
                    if party.listens { (0..party.count).collect() } else { vec![] };
                assert_eq!(first, all, "{}: in their order", party.name);
                let may_double = party.qos == 1 && sim.network.traffic().resets > 0;
                assert!(may_double || party.heard.len() == all.len(), "{:?}", party.heard);
            }
            // The sessions are there, nobody has them, and nothing waits.
            assert_eq!(broker.sessions.len(), parties.len());
            assert!(broker.sessions.iter().all(|(_, session)| session.conn.is_none()));
            assert!(broker.room.memory.take(KEPT_BYTES_MAX).is_some());
        });
    };
    let name = "qos_1_arrives_at_least_once_and_qos_2_exactly_once_whatever_the_network_does";
    explore_program(name, |sim| PARTIES.with(|parties| set_up(sim, parties)), check);
}
