//! Log collectors on simulated networks that delay, cut and reset: no message is lost that was
//! acknowledged or passed on, and none is in the output twice.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use support::sim::{Sim, explore_program};
use support::tcp::watched;
use waterwheel::net::{Conn, Event, Stream, sim::Network};
use waterwheel::reactor::Missed;
use waterwheel::{Context, SourceId};

#[allow(dead_code)] // The program uses the rest.
#[path = "../../../examples/logs"]
mod program {
    #[path = "../journal/follow.rs"]
    pub mod follow;
    pub use super::super::mq::program::journal;
    pub mod keep;
    pub mod next;
    pub mod protocol;
    pub mod server;
    pub mod spool;
}

use crate::{PATIENCE, addr, patient};
use program::protocol::{Framing, Head};
use program::server::{self, Server, To};
use program::spool::Spool;

/// Messages of each sender.
const MESSAGES: usize = 60;

type SimListener = SourceId<waterwheel::net::sim::Listener>;

#[derive(Default)]
struct Peers {
    /// Messages that each sender has an acknowledgement of, from the first on.
    acknowledged: Vec<usize>,
    output: Vec<u8>,
    /// What the next collector has got, by the ids.
    passed: BTreeMap<u64, String>,
    lossless: bool,
    next: Vec<SourceId<Conn>>,
}

thread_local! {
    static PEERS: RefCell<Peers> = RefCell::default();
}

/// Sends what is not acknowledged, again and again over new connections.
fn send_with_ids(reactor: &mut Context<Server>, network: Network, index: usize) {
    let again = network.clone();
    let connected = move |reactor: &mut Context<Server>, _: &mut Server, stream| {
        let Ok(stream): std::io::Result<Stream> = stream else {
            return send_with_ids(reactor, again, index);
        };
        let mut input = Vec::new();
        let on_event = move |reactor: &mut Context<Server>,
                             _: &mut Server,
                             conn: SourceId<Conn>,
                             event: Event<'_>| match event {
            Event::Data(bytes) => {
                input.extend_from_slice(bytes);
                while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = input.drain(..=end).collect();
                    PEERS.with_borrow_mut(|peers| {
                        let count = &mut peers.acknowledged[index];
                        assert_eq!(line, format!("ack {count}\n").as_bytes());
                        *count += 1;
                        if *count == MESSAGES {
                            conn.close(reactor);
                        }
                    });
                }
            }
            Event::Drained | Event::Eof => {}
            Event::Closed(_) => {
                if PEERS.with_borrow(|peers| peers.acknowledged[index]) < MESSAGES {
                    let network = again.clone();
                    reactor.after(Duration::from_millis(50), move |reactor, _| {
                        send_with_ids(reactor, network, index);
                    });
                }
            }
        };
        let limits = server::limits(waterwheel::net::Limits::default());
        let conn = stream.limits(limits).open(reactor, watched(on_event));
        let first = PEERS.with_borrow(|peers| peers.acknowledged[index]);
        for id in first..MESSAGES {
            let text = format!("<13>1 - h{index} - - - [ww@32473 id=\"{id}\"] {index} {id}");
            let framed = match id % 2 {
                0 => format!("{} {text}", text.len()),
                _ => text + "\n",
            };
            let _ = conn.write(reactor, framed.as_bytes());
        }
    };
    network.connect(reactor, addr(), PATIENCE, connected).unwrap();
}

fn listen(sim: &mut Sim<Server>) -> SimListener {
    let limits = patient(&mut sim.rng);
    let listener = sim.network.listen(&mut sim.reactor, addr(), move |reactor, server, stream| {
        server::serve(reactor, server, stream.limits(server::limits(limits.clone())));
    });
    listener.unwrap()
}

fn set_up_collector(sim: &mut Sim<Server>) -> Server {
    let count = 1 + sim.rng.below(4) as usize;
    PEERS.set(Peers { acknowledged: vec![0; count], ..Peers::default() });
    let listener = listen(sim);
    for index in 0..count {
        let network = sim.network.clone();
        let at = Duration::from_millis(sim.rng.below(300));
        sim.reactor.after(at, move |reactor, _| send_with_ids(reactor, network, index));
    }
    sim.reactor.every(Duration::from_secs(1), Missed::Skip, move |reactor, _, occurrence| {
        if PEERS.with_borrow(|peers| peers.acknowledged.iter().all(|count| *count == MESSAGES)) {
            reactor.remove(listener);
            reactor.cancel(occurrence.timer);
        }
    });
    // A disk that takes its time, and may be full.
    let rng = RefCell::new(support::Rng::from_seed(sim.rng.next()));
    let disk = move |reactor: &mut Context<Server>, batch: Vec<u8>, up_to| {
        let [ms, dice] = [20, 10].map(|most| rng.borrow_mut().below(most));
        let fails = dice == 0;
        reactor.after(Duration::from_millis(ms), move |reactor, server: &mut Server| {
            let result = if fails {
                Err((batch, "it is full".to_owned()))
            } else {
                PEERS.with_borrow_mut(|peers| peers.output.extend_from_slice(&batch));
                Ok(())
            };
            server.written(reactor, up_to, result);
        });
    };
    Server::new(To::Disk(Rc::new(disk)), Spool::default(), None, |_| {})
}

#[test]
fn every_message_with_an_id_is_acknowledged_and_in_the_output_once() {
    explore_program(
        "every_message_with_an_id_is_acknowledged_and_in_the_output_once",
        set_up_collector,
        |_, _| {
            PEERS.with_borrow(|peers| {
                let text = String::from_utf8(peers.output.clone()).unwrap();
                for index in 0..peers.acknowledged.len() {
                    let own = format!("] {index} ");
                    let ids: Vec<usize> = text
                        .lines()
                        .filter_map(|line| line.split_once(&own)?.1.parse().ok())
                        .collect();
                    assert_eq!(ids, (0..MESSAGES).collect::<Vec<_>>());
                }
                assert_eq!(text.lines().count(), MESSAGES * peers.acknowledged.len());
            });
        },
    );
}

fn next_addr() -> SocketAddr {
    "10.0.0.2:7001".parse().expect("an address")
}

/// The next collector: it keeps what it gets, by the id, and acknowledges it.
fn collect(reactor: &mut Context<Server>, _: &mut Server, stream: Stream) {
    let mut framing = Framing::default();
    let on_event = move |reactor: &mut Context<Server>,
                         _: &mut Server,
                         conn: SourceId<Conn>,
                         event: Event<'_>| {
        let Event::Data(bytes) = event else { return };
        let mut at = 0;
        while let Some((message, used)) = framing.next(&bytes[at..], false) {
            let (from, id) = Head::of(message).id.expect("each has an id");
            assert_eq!(from, b"0000000000000007");
            let id: u64 = std::str::from_utf8(id).unwrap().parse().unwrap();
            let text = String::from_utf8(message.to_vec()).unwrap();
            let text = text.split_once("] ").unwrap().1.to_owned();
            PEERS.with_borrow_mut(|peers| {
                let known = peers.passed.insert(id, text.clone());
                assert!(known.is_none_or(|known| known == text), "another message with id {id}");
            });
            let _ = conn.write(reactor, format!("ack {id}\n").as_bytes());
            at += used;
        }
        conn.unread(reactor, bytes.len() - at);
    };
    let conn = stream.open(reactor, watched(on_event));
    PEERS.with_borrow_mut(|peers| peers.next.push(conn));
}

fn set_up_forwarder(sim: &mut Sim<Server>, lossless: bool) -> Server {
    if lossless {
        sim.lossless();
    }
    let count = 1 + sim.rng.below(4) as usize;
    PEERS.set(Peers { acknowledged: vec![0; count], lossless, ..Peers::default() });
    let listener = listen(sim);
    let next = sim.network.listen(&mut sim.reactor, next_addr(), collect).unwrap();
    for index in 0..count {
        let network = sim.network.clone();
        let at = Duration::from_millis(sim.rng.below(300));
        sim.reactor.after(at, move |reactor, _| {
            let connected = move |reactor: &mut Context<Server>, _: &mut Server, stream| {
                let Ok(stream): std::io::Result<Stream> = stream else { return };
                let conn = stream.open(reactor, watched(|_, _, _, _| {}));
                for id in 0..MESSAGES {
                    let _ = conn.write(reactor, format!("<13>{index} {id}.\n").as_bytes());
                }
                conn.close(reactor);
            };
            network.connect(reactor, addr(), PATIENCE, connected).unwrap();
        });
    }
    sim.reactor.every(
        2 * PATIENCE,
        Missed::Skip,
        move |reactor, server: &mut Server, occurrence| {
            if server.spool.next() == server.spool.first {
                reactor.remove(listener);
                reactor.remove(next);
                reactor.cancel(occurrence.timer);
                let conns = PEERS.with_borrow_mut(|peers| std::mem::take(&mut peers.next));
                conns.into_iter().for_each(|conn| {
                    conn.close(reactor);
                });
            }
        },
    );
    let network = sim.network.clone();
    let dial = move |reactor: &mut Context<Server>| {
        let done = |reactor: &mut Context<Server>, server: &mut Server, stream| {
            server.linked(reactor, stream);
        };
        network.connect(reactor, next_addr(), PATIENCE, done).unwrap();
    };
    let spool = Spool { name: 7, ..Spool::default() };
    let mut server = Server::new(To::Next(Rc::new(dial)), spool, None, |_| {});
    server.spool_bytes = 500 + sim.rng.below(5000) as usize;
    server
}

fn all_were_passed_on(server: &Server) {
    PEERS.with_borrow(|peers| {
        assert_eq!(peers.passed.len() as u64, server.counts.taken, "taken, and passed on");
        for index in 0..peers.acknowledged.len() {
            let own = format!("{index} ");
            let texts = peers.passed.values().filter_map(|text| text.strip_prefix(&own));
            let ids: Vec<usize> =
                texts.filter_map(|text| text.strip_suffix('.')?.parse().ok()).collect();
            // What the network has lost was at the end.
            assert_eq!(ids, (0..ids.len()).collect::<Vec<_>>());
            assert!(!peers.lossless || ids.len() == MESSAGES);
        }
    });
}

#[test]
fn every_message_is_passed_on_once_where_nothing_is_lost() {
    explore_program(
        "every_message_is_passed_on_once_where_nothing_is_lost",
        |sim| set_up_forwarder(sim, true),
        |_, server| all_were_passed_on(server),
    );
}

#[test]
fn every_message_that_was_taken_is_passed_on_whatever_becomes_of_the_links() {
    explore_program(
        "every_message_that_was_taken_is_passed_on_whatever_becomes_of_the_links",
        |sim| set_up_forwarder(sim, false),
        |_, server| all_were_passed_on(server),
    );
}
