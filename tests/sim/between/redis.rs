//! The example `redis`: clients that count together by WATCH, and others that hand elements on by
//! BLPOP.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use support::sim::{Sim, explore_program};
use waterwheel::net::{Conn, Framed, Lines, Stream, framed};
use waterwheel::{Context, SourceId};

#[allow(dead_code, unused_imports)] // Its other part is the program's.
#[path = "../../../examples/redis"]
pub(super) mod example {
    pub mod channels;
    pub mod collections;
    pub mod commands;
    pub mod db;
    #[path = "../resp/mod.rs"]
    pub mod resp;
    pub mod server;
    pub mod session;
    pub mod snapshot;
    pub mod sorted;
    pub mod waiting;
}

use example::server::Server;

const PATIENCE: Duration = Duration::from_secs(60);

fn addr() -> SocketAddr {
    "10.0.0.1:6379".parse().expect("an address")
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    /// Transactions that were sent, and those whose reply has come.
    sent: i64,
    counted: i64,
    /// Elements whose push was acknowledged, and those that a pop has brought.
    pushed: Vec<String>,
    popped: Vec<String>,
    closed: usize,
}

type Shared = Rc<RefCell<Seen>>;

/// A client: gets each line of the replies, and sends what it returns.
fn client(
    sim: &mut Sim<Server>,
    at: Duration,
    first: String,
    mut on_line: impl FnMut(&str) -> Option<String> + 'static,
    closed: impl Fn() + Clone + 'static,
) {
    let network = sim.network.clone();
    sim.reactor.after(at, move |reactor, _| {
        let failed = closed.clone();
        let open = move |reactor: &mut Context<Server>, stream: std::io::Result<Stream>| {
            let Ok(stream) = stream else { return failed() };
            let handler = move |reactor: &mut Context<Server>,
                                _: &mut Server,
                                conn: SourceId<Conn>,
                                event: Framed<'_>| match event {
                Framed::Frame(line) => {
                    let line = std::str::from_utf8(line).expect("text");
                    if let Some(next) = on_line(line) {
                        if next.is_empty() {
                            conn.close(reactor);
                        }
                        let _ = conn.write(reactor, next.as_bytes());
                    }
                }
                Framed::Closed(_) => closed(),
                _ => {}
            };
            let conn = stream.open(reactor, framed(Lines::new(1000), handler));
            let _ = conn.write(reactor, first.as_bytes());
        };
        let connected = move |reactor: &mut Context<Server>, _: &mut Server, stream| {
            open(reactor, stream);
        };
        network.connect(reactor, addr(), PATIENCE, connected).expect("an address");
    });
}

/// Counts to some number by optimistic locking: reads, and adds one if nobody else has meanwhile.
fn counter(sim: &mut Sim<Server>, seen: &Shared, times: u64) {
    let (mut left, mut state) = (times, 0);
    let at = Duration::from_millis(sim.rng.below(50));
    let (lines, over) = (seen.clone(), seen.clone());
    let first = "WATCH n\r\nGET n\r\n".to_owned();
    let on_line = move |line: &str| {
        let mut seen = lines.borrow_mut();
        match (state, line) {
            (0, "+OK") => state = 1,
            (1, "$-1") | (2, _) => {
                let value = if state == 1 { 0 } else { line.parse::<i64>().expect("the counter") };
                state = 3;
                seen.sent += 1;
                return Some(format!("MULTI\r\nSET n {}\r\nEXEC\r\n", value + 1));
            }
            (1, _) => state = 2, // The length of the number.
            (3, "+OK" | "+QUEUED") => {}
            (3, "*1") => state = 4,
            (3, "*-1") | (4, "+OK") => {
                if state == 4 {
                    seen.counted += 1;
                    left -= 1;
                }
                state = 0;
                return Some(if left > 0 { "WATCH n\r\nGET n\r\n".into() } else { String::new() });
            }
            other => panic!("{other:?}"),
        }
        None
    };
    client(sim, at, first, on_line, move || over.borrow_mut().closed += 1);
}

/// Pushes elements, each when the one before was acknowledged.
fn producer(sim: &mut Sim<Server>, seen: &Shared, name: usize, count: u64) {
    let at = Duration::from_millis(sim.rng.below(50));
    let (lines, over) = (seen.clone(), seen.clone());
    let mut sent = 0;
    let on_line = move |line: &str| {
        assert!(line.starts_with(':'), "{line}");
        lines.borrow_mut().pushed.push(format!("{name}.{sent}"));
        sent += 1;
        Some(if sent < count { format!("RPUSH q {name}.{sent}\r\n") } else { String::new() })
    };
    let first = format!("RPUSH q {name}.0\r\n");
    client(sim, at, first, on_line, move || over.borrow_mut().closed += 1);
}

/// Pops elements until none has come for ten seconds.
fn consumer(sim: &mut Sim<Server>, seen: &Shared) {
    let at = Duration::from_millis(sim.rng.below(50));
    let (lines, over) = (seen.clone(), seen.clone());
    let on_line = move |line: &str| match line {
        "*-1" => Some(String::new()),
        line if line.contains('.') => {
            lines.borrow_mut().popped.push(line.to_owned());
            Some("BLPOP other q 10\r\n".into())
        }
        _ => None, // The lengths, and the name of the list.
    };
    client(sim, at, "BLPOP other q 10\r\n".into(), on_line, move || over.borrow_mut().closed += 1);
}

#[test]
fn counters_and_queues_are_right_whatever_the_network_does() {
    thread_local!(static SEEN: RefCell<(Shared, usize)> = RefCell::default());
    let set_up = |sim: &mut Sim<Server>| {
        let seen = Shared::default();
        let listener =
            sim.network.listen(&mut sim.reactor, addr(), example::session::serve).unwrap();
        sim.reactor.unref(listener);
        sim.reactor.after(4 * PATIENCE, move |reactor, _| {
            reactor.remove(listener);
        });
        let counters = 1 + sim.rng.below(2);
        (0..counters).for_each(|_| {
            let times = 1 + sim.rng.below(3);
            counter(sim, &seen, times);
        });
        let (producers, consumers) = (1 + sim.rng.below(2), 1 + sim.rng.below(2));
        (0..producers).for_each(|name| {
            let count = 1 + sim.rng.below(4);
            producer(sim, &seen, name as usize, count);
        });
        (0..consumers).for_each(|_| consumer(sim, &seen));
        let clients = (counters + producers + consumers) as usize;
        SEEN.set((seen, clients));
        Server::default()
    };
    let check = |sim: &Sim<Server>, server: &Server| {
        SEEN.with_borrow(|(seen, clients)| {
            let seen = seen.borrow();
            assert_eq!((seen.closed, server.clients), (*clients, 0));
            assert!(
                server.blocked.is_empty() && server.waiting.is_empty(),
                "who has gone waits for nothing"
            );
            let values = server.db.iter().map(|(key, value, _)| (key.to_vec(), value));
            let (mut counter, mut left) = (0, Vec::new());
            for (key, value) in values {
                match value {
                    example::db::Value::String(text) => {
                        counter = example::resp::integer(text).expect("a number");
                    }
                    example::db::Value::List(list) if key == b"q" => {
                        left.extend(
                            list.iter().map(|item| String::from_utf8_lossy(item).into_owned()),
                        );
                    }
                    _ => panic!("nobody has made {key:?}"),
                }
            }
            // No count that was acknowledged is lost, and none is counted twice.
            assert!((seen.counted..=seen.sent).contains(&counter), "{counter}");
            // No element comes twice, and one that was acknowledged is somewhere.
            let mut all: Vec<&String> = seen.popped.iter().chain(&left).collect();
            all.sort();
            let elements = all.len();
            all.dedup();
            assert_eq!(all.len(), elements, "an element came twice");
            let traffic = sim.network.traffic();
            if (traffic.resets, traffic.refused, traffic.lost) == (0, 0, 0) {
                assert_eq!(counter, seen.counted);
                assert!(seen.pushed.iter().all(|element| all.contains(&element)), "one is lost");
            }
        });
    };
    explore_program("counters_and_queues_are_right_whatever_the_network_does", set_up, check);
}
