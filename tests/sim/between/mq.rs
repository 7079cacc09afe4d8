//! The job queue on simulated networks that delay, cut and reset: each job that was acknowledged is
//! in the queue until its deletion was asked for, and nobody keeps one who has gone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use support::Rng;
use support::sim::{Sim, explore_program};
use support::tcp::watched;
use waterwheel::net::{Conn, Event, Pressure, Stream};
use waterwheel::timers::WallTime;
use waterwheel::{Context, SourceId};

#[allow(dead_code)] // The program uses the rest.
#[path = "../../../examples/mq"]
pub(super) mod program {
    pub mod commands;
    #[path = "../journal/mod.rs"]
    pub mod journal;
    pub mod moves;
    pub mod protocol;
    pub mod queue;
    pub mod server;
    pub mod stats;
    pub mod store;
}

use crate::{PATIENCE, addr, patient};
use program::queue::{Limits, Queue, State};
use program::server::{self, Server};

/// Commands of each client.
const COMMANDS: usize = 40;

/// What the clients of this thread's run know. The loop's state is the server's own.
#[derive(Default)]
struct Peers {
    peers: Vec<Peer>,
    /// Jobs that were acknowledged, and their bodies.
    put: BTreeMap<u64, String>,
    /// Jobs whose deletion was asked for, and those that were deleted.
    deleting: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    lossless: bool,
}

thread_local! {
    static PEERS: RefCell<Peers> = RefCell::default();
}

struct Peer {
    rng: Rng,
    number: usize,
    input: Vec<u8>,
    asked: VecDeque<Asked>,
    /// Jobs that it has reserved, as far as it knows.
    has: Vec<u64>,
    left: usize,
    is_closed: bool,
}

#[derive(Clone, Debug)]
enum Asked {
    Put(String),
    Reserve,
    Delete(u64),
    Other(&'static str),
}

impl Peer {
    fn command(&mut self, peers: &mut BTreeSet<u64>) -> (String, Asked) {
        self.left -= 1;
        let job = self.has.last().copied();
        match (self.rng.below(8), job) {
            (0..4, Some(id)) => {
                self.has.pop();
                peers.insert(id);
                (format!("delete {id}\r\n"), Asked::Delete(id))
            }
            (4, Some(id)) => {
                self.has.pop();
                let delay = self.rng.below(3);
                (format!("release {id} 5 {delay}\r\n"), Asked::Other("RELEASED"))
            }
            (5, Some(id)) => {
                self.has.pop();
                (format!("bury {id} 5\r\n"), Asked::Other("BURIED"))
            }
            (0..3, None) => {
                let body = format!(
                    "{}:{} {}",
                    self.number,
                    self.left,
                    "x".repeat(self.rng.below(900) as usize)
                );
                // The longer time is never up: only that its client leaves makes such a job ready.
                let (pri, ttr) = (self.rng.below(3), [1, 2, 10_000][self.rng.below(3) as usize]);
                let put = format!("put {pri} 0 {ttr} {}\r\n{body}\r\n", body.len());
                (put, Asked::Put(body))
            }
            (3, _) => ("kick 3\r\n".to_owned(), Asked::Other("KICKED")),
            _ => {
                let timeout = self.rng.below(4);
                (format!("reserve-with-timeout {timeout}\r\n"), Asked::Reserve)
            }
        }
    }

    /// An answer that is whole; its first line, and the bytes that it takes.
    fn answer(&self) -> Option<(String, String, usize)> {
        let end = self.input.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8(self.input[..end].to_vec()).expect("text");
        let Some(rest) = line.strip_prefix("RESERVED ") else {
            return Some((line, String::new(), end + 2));
        };
        let length: usize = rest.split(' ').nth(1).expect("a length").parse().expect("a number");
        let all = end + 2 + length + 2;
        let body = self.input.get(end + 2..all)?;
        assert!(body.ends_with(b"\r\n"));
        let body = String::from_utf8(body[..length].to_vec()).expect("text");
        Some((line, body, all))
    }
}

/// Asks some more, in one piece; or ends.
fn go_on(peers: &mut Peers, index: usize, conn: &mut Conn) {
    let Peers { peers, deleting, .. } = peers;
    let peer = &mut peers[index];
    if !peer.asked.is_empty() {
        return;
    }
    let (mut text, count) = (String::new(), 1 + peer.rng.below(3) as usize);
    for _ in 0..count.min(peer.left) {
        let (command, asked) = peer.command(deleting);
        text += &command;
        peer.asked.push_back(asked);
    }
    match text.is_empty() {
        true => conn.shutdown(),
        false => assert_ne!(conn.write(text.as_bytes()), Pressure::Refused),
    }
}

fn receive(peers: &mut Peers, index: usize, bytes: &[u8]) {
    peers.peers[index].input.extend_from_slice(bytes);
    while let Some((line, body, used)) = peers.peers[index].answer() {
        let peer = &mut peers.peers[index];
        peer.input.drain(..used);
        let asked = peer.asked.pop_front().expect("an answer to a command");
        let mut words = line.split(' ');
        let (word, id) = (words.next().unwrap(), words.next().map_or(0, |id| id.parse().unwrap()));
        match (asked, word) {
            (Asked::Put(body), "INSERTED") => {
                assert_eq!(peers.put.insert(id, body), None, "{id} twice");
            }
            (Asked::Reserve, "RESERVED") => {
                // The answer to who has put it may have been lost.
                assert!(peers.put.get(&id).is_none_or(|known| *known == body), "{id} is another");
                assert!(!peers.deleted.contains(&id), "{id} was deleted");
                peer.has.push(id);
            }
            (Asked::Reserve, "TIMED_OUT" | "DEADLINE_SOON") => {}
            (Asked::Delete(id), "DELETED") => assert!(peers.deleted.insert(id)),
            // Its time was up.
            (Asked::Delete(_) | Asked::Other("RELEASED" | "BURIED"), "NOT_FOUND") => {}
            (Asked::Other("RELEASED"), "BURIED") => {}
            (Asked::Other(expected), word) => assert_eq!(word, expected),
            (asked, _) => panic!("{line} to {asked:?}"),
        }
    }
}

fn client(index: usize) -> impl FnOnce(&mut Context<Server>, &mut Server, std::io::Result<Stream>) {
    move |reactor, _, stream| {
        let Ok(stream) = stream else { return };
        let on_event = move |reactor: &mut Context<Server>,
                             _: &mut Server,
                             conn: SourceId<Conn>,
                             event: Event<'_>| {
            PEERS.with_borrow_mut(|peers| match event {
                Event::Data(bytes) => {
                    receive(peers, index, bytes);
                    go_on(peers, index, &mut reactor[conn]);
                }
                Event::Drained | Event::Eof => {}
                Event::Closed(_) => peers.peers[index].is_closed = true,
            });
        };
        let limits = server::limits(waterwheel::net::Limits::default());
        let conn = stream.limits(limits).open(reactor, watched(on_event));
        PEERS.with_borrow_mut(|peers| go_on(peers, index, &mut reactor[conn]));
    }
}

fn set_up(sim: &mut Sim<Server>, lossless: bool) -> Server {
    if lossless {
        sim.lossless();
    }
    let count = 1 + sim.rng.below(5) as usize;
    let peers = (0..count).map(|number| Peer {
        rng: Rng::from_seed(sim.rng.next()),
        number,
        input: Vec::new(),
        asked: VecDeque::new(),
        has: Vec::new(),
        left: COMMANDS,
        is_closed: false,
    });
    let peers = Peers { peers: peers.collect(), lossless, ..Peers::default() };
    PEERS.set(peers);
    let limits = patient(&mut sim.rng);
    let listener = sim.network.listen(&mut sim.reactor, addr(), move |reactor, server, stream| {
        server::serve(reactor, server, stream.limits(server::limits(limits.clone())));
    });
    let listener = listener.unwrap();
    for index in 0..count {
        let at = Duration::from_millis(sim.rng.below(300));
        let network = sim.network.clone();
        sim.reactor.after(at, move |reactor, _| {
            network.connect(reactor, addr(), PATIENCE, client(index)).unwrap();
        });
    }
    sim.reactor.after(2 * PATIENCE, move |reactor, _| {
        reactor.remove(listener);
    });
    let origin = server::origin(&sim.reactor);
    assert!(origin >= WallTime::MANUAL.unix_ms() as u64);
    let bury_after = 2 + sim.rng.below(4);
    let queue = Queue::new(Limits { tube_bytes: 1 << 20, bytes: 1 << 20, bury_after }, origin);
    Server::new(queue, None, origin, |_| {})
}

fn check(server: &Server) {
    let queue = &server.queue;
    assert!(queue.clients.is_empty() && queue.tubes.len() == 1);
    assert!(queue.jobs.values().all(|job| job.state != State::Reserved));
    PEERS.with_borrow(|peers| {
        for (id, body) in &peers.put {
            let found = queue.jobs.get(id).map(|job| &job.body[..job.body.len() - 2]);
            match found {
                Some(found) => assert_eq!(found, body.as_bytes()),
                None => assert!(peers.deleting.contains(id), "{id} is lost"),
            }
        }
        assert!(peers.deleted.iter().all(|id| !queue.jobs.contains_key(id)));
        for peer in peers.peers.iter().filter(|_| peers.lossless) {
            assert!(peer.is_closed && peer.left == 0 && peer.asked.is_empty(), "no answer");
        }
    });
}

#[test]
fn every_command_is_answered_where_nothing_is_lost() {
    explore_program(
        "every_command_is_answered_where_nothing_is_lost",
        |sim| set_up(sim, true),
        |_, server| check(server),
    );
}

#[test]
fn no_job_is_lost_or_kept_whatever_becomes_of_the_clients() {
    explore_program(
        "no_job_is_lost_or_kept_whatever_becomes_of_the_clients",
        |sim| set_up(sim, false),
        |_, server| check(server),
    );
}
