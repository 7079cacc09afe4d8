//! A scheduler and a Redis server on simulated networks that delay, cut and reset: whatever becomes of
//! the connections and of another worker, each minute is planned, no attempt is begun twice, and the
//! stream is empty in the end.
//!
//! The server is as much of Redis as the scheduler asks for, in a hundred lines.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use support::Rng;
use support::sim::{Sim, explore_program};
use support::tcp::watched;
use waterwheel::net::{Conn, Event as Net, Stream};
use waterwheel::{Context, SourceId};

#[allow(dead_code)] // The program uses the rest.
#[path = "../../../examples/scheduler"]
mod program {
    pub use super::super::mq::program::journal;
    pub use super::super::redis::example::resp;
    pub mod crontab;
    pub mod job;
    pub mod ledger;
    pub mod page;
    pub mod redis;
    #[path = "../resp/reply.rs"]
    pub mod reply;
    pub mod server;
}

use crate::{PATIENCE, addr, patient};
use program::crontab::Entry;
use program::ledger::{End, Event, Id, Ledger, id, parts};
use program::resp::{Parser, Replies};
use program::server::{Scheduler, Setup, Store};
use program::{crontab, redis};

const CRONTAB: &str = "CRON_TZ=UTC\n\
    #: name=again idempotent overlap=queue retries=2\n* * * * * x\n\
    #: name=once overlap=queue\n*/2 * * * * y\n";
const MINUTE_MS: i64 = 60_000;
const MINUTES: i64 = 8;
const LEASE: Duration = Duration::from_secs(30);
/// Less than after so long others take a run over.
const RUN_MS_MAX: u64 = 8_000;

/// The server, another worker of it, and what the commands do.
#[derive(Default)]
struct World {
    rng: Option<Rng>,
    due: BTreeMap<String, String>,
    known: BTreeMap<String, String>,
    /// The stream of runs; how far it was given out; who has which entry, and since when.
    runs: BTreeMap<u64, Id>,
    delivered: u64,
    pending: BTreeMap<u64, (String, i64)>,
    log: Vec<Vec<u8>>,
    entries: u64,
    waiting: Vec<(SourceId<Conn>, Vec<Vec<u8>>, u64)>,
    waits: u64,
    conns: Vec<SourceId<Conn>>,
    listener: Option<SourceId<waterwheel::net::sim::Listener>>,
    /// Attempts that were begun here or by the other worker.
    began: BTreeMap<(Id, u32), u32>,
    first: Option<i64>,
    is_down: bool,
    is_over: bool,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

impl World {
    fn below(&mut self, most: u64) -> u64 {
        self.rng.as_mut().expect("it has dice").below(most)
    }

    fn plan(&mut self, run: &str) {
        if self.due.contains_key(run) {
            return;
        }
        self.due.insert(run.to_owned(), "0".to_owned());
        self.entries += 1;
        self.runs.insert(self.entries, run.to_owned());
        let (name, ms) = parts(run).unwrap();
        self.known.insert(name.to_owned(), ms.to_string());
        self.log.push(Event::Due { id: run.to_owned() }.encode());
    }

    fn end(&mut self, record: &[u8], entry: u64) {
        self.log.push(record.to_vec());
        self.pending.remove(&entry);
        self.runs.remove(&entry);
    }

    /// Entries of the stream, as Redis answers them.
    fn entries(&self, ids: &[u64], replies: &mut Replies) {
        replies.array(ids.len());
        for entry in ids {
            replies.array(2);
            replies.string(format!("{entry}-0").as_bytes());
            replies.array(2);
            replies.string(b"id");
            replies.string(self.runs[entry].as_bytes());
        }
    }

    /// The reply to a command; `None` if it has to wait for something.
    fn answer(&mut self, words: &[&str], bytes: &[Vec<u8>], now: i64) -> Option<Vec<u8>> {
        let mut replies = Replies::default();
        let entry = |word: &str| word.split('-').next().unwrap().parse::<u64>().unwrap();
        let key = |word: &str| word.strip_prefix("scheduler:due:").unwrap().to_owned();
        match words {
            ["XGROUP", ..] => replies.error("BUSYGROUP Consumer Group name already exists"),
            ["HGETALL", ..] => {
                replies.array(2 * self.known.len());
                for (name, ms) in &self.known {
                    replies.string(name.as_bytes());
                    replies.string(ms.as_bytes());
                }
            }
            ["HSETNX", _, name, ms] => {
                self.known.entry((*name).to_owned()).or_insert_with(|| (*ms).to_owned());
                replies.integer(1);
            }
            ["GET", due] => replies.optional(self.due.get(&key(due)).map(String::as_bytes)),
            ["SET", due, attempt, "XX", "KEEPTTL"] => {
                *self.due.get_mut(&key(due)).expect("it was planned") = (*attempt).to_owned();
                replies.simple("OK");
            }
            ["XADD", "scheduler:log", ..] => {
                self.log.push(bytes[words.len() - 1].clone());
                replies.string(b"1-0");
            }
            ["EVAL", _, "4", _, _, _, _, _, run, ..] => {
                self.plan(run);
                replies.null();
            }
            ["EVAL", _, "2", _, _, _, _, at] => {
                self.end(&bytes[6], entry(at));
                replies.null();
            }
            ["XCLAIM", _, _, me, "0", ids @ .., "JUSTID"] => {
                for at in ids {
                    let owner = self.pending.get_mut(&entry(at));
                    owner.into_iter().for_each(|owner| *owner = ((*me).to_owned(), now));
                }
                replies.array(0);
            }
            ["XAUTOCLAIM", _, _, me, idle, "0"] => {
                let idle = idle.parse::<i64>().unwrap();
                let silent = self.pending.iter_mut().filter(|(_, (_, at))| now - *at >= idle);
                let silent: Vec<u64> = silent
                    .map(|(entry, owner)| {
                        *owner = ((*me).to_owned(), now);
                        *entry
                    })
                    .collect();
                replies.array(3);
                replies.string(b"0-0");
                self.entries(&silent, &mut replies);
                replies.array(0);
            }
            ["XREADGROUP", _, _, me, _, count, _, _, _, stream, from] => {
                let own =
                    |(entry, (owner, _)): (&u64, &(String, i64))| (owner == me).then_some(*entry);
                let ids: Vec<u64> = match *from {
                    "0" => self.pending.iter().filter_map(own).collect(),
                    _ => self.take(me, count.parse().unwrap(), now),
                };
                if ids.is_empty() && *from != "0" {
                    return None;
                }
                replies.array(1);
                replies.array(2);
                replies.string(stream.as_bytes());
                self.entries(&ids, &mut replies);
            }
            ["XREAD", _, count, _, _, _, stream, from] => {
                let from = entry(from) as usize;
                let new = &self.log[from.min(self.log.len())..];
                if new.is_empty() {
                    return None;
                }
                let new = &new[..new.len().min(count.parse().unwrap())];
                replies.array(1);
                replies.array(2);
                replies.string(stream.as_bytes());
                replies.array(new.len());
                for (at, record) in (from + 1..).zip(new) {
                    replies.array(2);
                    replies.string(format!("{at}-0").as_bytes());
                    replies.array(2);
                    replies.string(b"event");
                    replies.string(record);
                }
            }
            other => panic!("it asks for {other:?}"),
        }
        Some(replies.bytes)
    }

    /// Gives new entries to a worker.
    fn take(&mut self, worker: &str, count: usize, now: i64) -> Vec<u64> {
        let new = self.runs.range(self.delivered + 1..).take(count).map(|(entry, _)| *entry);
        let new: Vec<u64> = new.collect();
        for entry in &new {
            self.delivered = *entry;
            self.pending.insert(*entry, (worker.to_owned(), now));
        }
        new
    }
}

fn world<T>(use_it: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(use_it)
}

/// Answers what it can, also of what had to wait.
fn asked(reactor: &mut Context<Scheduler>, conn: SourceId<Conn>, request: Vec<Vec<u8>>) {
    let number = world(|world| {
        world.waits += 1;
        world.waiting.push((conn, request, world.waits));
        world.waits
    });
    answer_all(reactor);
    if world(|world| world.waiting.iter().any(|(_, _, waits)| *waits == number)) {
        reactor.after(Duration::from_secs(2), move |reactor, _| {
            let waits = world(|world| {
                let at = world.waiting.iter().position(|(_, _, waits)| *waits == number);
                at.map(|at| world.waiting.remove(at))
            });
            if waits.is_some() {
                let _ = conn.write(reactor, b"*-1\r\n");
            }
        });
    }
}

fn answer_all(reactor: &mut Context<Scheduler>) {
    let now = reactor.wall().unix_ms();
    for (conn, request, number) in world(|world| mem::take(&mut world.waiting)) {
        let words: Vec<&str> =
            request.iter().map(|word| std::str::from_utf8(word).unwrap_or("")).collect();
        if reactor.get(conn).is_none() {
            continue;
        }
        match world(|world| world.answer(&words, &request, now)) {
            Some(reply) => drop(conn.write(reactor, &reply)),
            None => world(|world| world.waiting.push((conn, request, number))),
        }
    }
}

fn serve(reactor: &mut Context<Scheduler>, stream: Stream) {
    let mut parser = Parser::default();
    let on_event = move |reactor: &mut Context<Scheduler>,
                         _: &mut Scheduler,
                         conn: SourceId<Conn>,
                         event: Net<'_>| {
        let Net::Data(mut bytes) = event else { return };
        while let Some(used) = parser.next(bytes).expect("a request") {
            let request = parser.with_strings(bytes, |strings| {
                strings.iter().map(|string| string.to_vec()).collect::<Vec<_>>()
            });
            bytes = &bytes[used..];
            asked(reactor, conn, request);
        }
        conn.unread(reactor, bytes.len());
    };
    let conn = stream.open(reactor, watched(on_event));
    if world(|world| world.is_down) {
        conn.abort(reactor);
    }
    world(|world| world.conns.push(conn));
}

/// A command: it takes its time, and may fail.
fn start(reactor: &mut Context<Scheduler>, _: &mut Scheduler, _: &Entry, id: Id, attempt: u32) {
    let (ms, fails) = world(|world| {
        *world.began.entry((id.clone(), attempt)).or_default() += 1;
        (world.below(RUN_MS_MAX), world.below(8) == 0)
    });
    reactor.after(Duration::from_millis(ms), move |reactor, scheduler: &mut Scheduler| {
        let code = Some(i32::from(fails));
        scheduler.ended(reactor, id, End { code, how: "it ran".to_owned(), ..End::default() });
    });
}

/// The other worker plans minutes, takes runs, and ends them; or dies with them.
fn other(reactor: &mut Context<Scheduler>) {
    let now = reactor.wall().unix_ms();
    let (wait_ms, ended) = world(|world| {
        if world.below(3) == 0 {
            let minute = now - now.rem_euclid(MINUTE_MS);
            world.first.into_iter().filter(|first| minute > *first).for_each(|_| {
                world.plan(&id("again", minute));
            });
        }
        let count = world.below(3) as usize;
        let mut ended = Vec::new();
        for entry in world.take("other", count, now) {
            let run = world.runs[&entry].clone();
            if world.below(3) == 0 {
                continue; // It was not begun.
            }
            *world.began.entry((run.clone(), 1)).or_default() += 1;
            world.due.insert(run.clone(), "1".to_owned());
            let begin =
                Event::Begin { id: run.clone(), attempt: 1, at: now, by: "other".to_owned() };
            world.log.push(begin.encode());
            if world.below(2) == 0 {
                ended.push((entry, run, world.below(RUN_MS_MAX)));
            }
        }
        (world.below(40_000), ended)
    });
    answer_all(reactor);
    for (entry, run, ms) in ended {
        reactor.after(Duration::from_millis(ms), move |reactor, _| {
            let end = End { code: Some(0), ..End::default() };
            let at = reactor.wall().unix_ms();
            world(|world| {
                world.end(&Event::End { id: run, attempt: 1, at, end }.encode(), entry);
            });
            answer_all(reactor);
        });
    }
    reactor.after(Duration::from_millis(wait_ms), |reactor, _| {
        let is_late = |world: &World, now| world.first.is_some_and(|first| now > end_ms(first));
        let now = reactor.wall().unix_ms();
        if !world(|world| world.is_over || is_late(world, now)) {
            other(reactor);
        }
    });
}

fn end_ms(first: i64) -> i64 {
    first + MINUTES * MINUTE_MS
}

/// Asks for the end when all minutes have come and nothing is left to do.
fn end_when_done(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler) {
    let now = reactor.wall().unix_ms();
    let is_done = world(|world| {
        world.first.is_some_and(|first| now > end_ms(first) + MINUTE_MS / 4)
            && world.runs.is_empty()
            && last_minutes(world.first.unwrap()).all(|run| world.due.contains_key(&run))
    });
    if is_done {
        return scheduler.drain(reactor, Duration::ZERO);
    }
    reactor.after(Duration::from_millis(500), end_when_done);
}

/// The runs that are due until the end.
fn last_minutes(first: i64) -> impl Iterator<Item = Id> {
    let minutes = (first / MINUTE_MS + 1..=end_ms(first) / MINUTE_MS).map(|at| at * MINUTE_MS);
    minutes.flat_map(|ms| {
        let once = (ms % (2 * MINUTE_MS) == 0).then(|| id("once", ms));
        [Some(id("again", ms)), once].into_iter().flatten()
    })
}

fn load(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler) {
    let (entries, _) = crontab::parse(CRONTAB.as_bytes(), false).unwrap();
    scheduler.load(reactor, entries).unwrap();
    world(|world| world.first = Some(reactor.wall().unix_ms()));
}

fn over(reactor: &mut Context<Scheduler>) {
    let (listener, conns) = world(|world| {
        world.is_over = true;
        (world.listener.take(), mem::take(&mut world.conns))
    });
    listener.map(|listener| reactor.remove(listener));
    conns.into_iter().for_each(|conn| {
        conn.abort(reactor);
    });
}

fn set_up(sim: &mut Sim<Scheduler>) -> Scheduler {
    let limits = patient(&mut sim.rng);
    let listener = sim.network.listen(&mut sim.reactor, addr(), move |reactor, _, stream| {
        serve(reactor, stream.limits(limits.clone()));
    });
    let rng = Rng::from_seed(sim.rng.next());
    WORLD.set(World { rng: Some(rng), listener: Some(listener.unwrap()), ..World::default() });
    let setup = Setup {
        output_bytes: 1000,
        runs_max: 1 + sim.rng.below(4) as usize,
        worker: "me".to_owned(),
        path: String::new(),
        is_system: false,
        seed: Some(sim.seed),
        say: |_| {},
        start,
        over,
    };
    let network = sim.network.clone();
    let dial: redis::Dial =
        Rc::new(move |reactor, done| network.connect(reactor, addr(), PATIENCE, done).map(drop));
    let link = redis::Link::new(dial, "me".to_owned(), LEASE, load);
    let store = Store::Redis(Box::new(link));
    let reactor = &mut sim.reactor;
    let mut scheduler = Scheduler::open(reactor, setup, Ledger::default(), store).unwrap();
    redis::open(reactor, &mut scheduler);
    reactor.after(Duration::from_secs(1), |reactor, _| other(reactor));
    reactor.after(Duration::from_secs(1), end_when_done);
    // Gone for up to two minutes, with all that it has stored.
    let down = Duration::from_millis(sim.rng.below(400_000));
    let up = down + Duration::from_millis(sim.rng.below(120_000));
    reactor.after(down, |reactor, _| {
        let conns = world(|world| {
            world.is_down = true;
            mem::take(&mut world.conns)
        });
        conns.into_iter().for_each(|conn| {
            conn.abort(reactor);
        });
    });
    reactor.after(up, |_, _| world(|world| world.is_down = false));
    scheduler
}

#[test]
fn each_minute_is_planned_and_each_attempt_begun_once_whatever_becomes_of_the_links() {
    explore_program(
        "each_minute_is_planned_and_each_attempt_begun_once_whatever_becomes_of_the_links",
        set_up,
        |_, scheduler| {
            world(|world| {
                assert!(world.runs.is_empty() && world.pending.is_empty());
                let mut events = Ledger::default();
                let log = world.log.iter().map(|record| Event::decode(record).unwrap());
                log.for_each(|event| events.apply(&event));
                assert_eq!(events.unfinished(), Vec::<Id>::new());
                for (run, begun) in &world.began {
                    assert_eq!(*begun, 1, "{run:?}");
                }
                for run in last_minutes(world.first.unwrap()) {
                    let attempts = world.began.keys().filter(|(id, _)| *id == run).count();
                    let end = events.runs[&run].end.as_ref().unwrap();
                    let is_lost = end.how.starts_with("lost");
                    match run.starts_with("once") {
                        true => {
                            assert!(attempts == 1 || is_lost && attempts == 0, "{run}: {end:?}")
                        }
                        false => assert!(attempts >= 1 && !is_lost, "{run}: {end:?}"),
                    }
                }
                assert!(!scheduler.ledger.over.is_empty());
            });
        },
    );
}
