//! The server: the queue on the loop, and its journal.
//!
//! Without a journal a command is answered as soon as it is done. With one, what has to be stored
//! is done in two steps, and the answer goes out with the second:
//!
//! ```text
//!   put      ─▶ make the job, append it      ┄┄ stored ┄┄▶ insert it,    INSERTED
//!   delete   ─▶ remove the job, append that  ┄┄ stored ┄┄▶ forget it,    DELETED
//!   release… ─▶ move the job, append that    ┄┄ stored ┄┄▶               RELEASED
//! ```
//!
//! So no client sees a job that a crash could take back. If the disk refuses, the job is forgotten,
//! or inserted again, and the answer is OUT_OF_MEMORY. Answers of a client stay in order: behind one
//! that is held back all are.
//!
//! # Limits
//! Per client: an unfinished command (66 KB), answers (256 KiB, and one more), and as many that are
//! held back; all clients together have the buffer budget. Jobs count in their tube, and their records
//! wait for the disk only as long as there are few. Clients that wait are no more than connections.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

use waterwheel::net::{Conn, Event, Limits, Pressure, Stream};
use waterwheel::timers::TimerId;
use waterwheel::{Context, SourceId};

use super::commands::{Effect, OUT_OF_MEMORY};
use super::journal::{Journal, Snapshot, Stores};
use super::protocol::{Parser, Request};
use super::queue::{ClientId, Job, Queue, Woken};
use super::store;

/// Bytes of answers that are held back, and of records that wait for the disk: with more of either,
/// no more is read until the disk has caught up.
pub const HELD_BYTES_MAX: usize = 256 * 1024;
pub const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that a client may send while it waits for a job; then its input is paused.
pub const AHEAD_BYTES_MAX: usize = 128 * 1024;

/// Commands that need not wait until the jobs that the client has put before are stored: they do
/// not look at jobs.
const GO_ON: [&str; 5] = ["put", "use", "watch", "ignore", "quit"];

pub struct Server {
    pub queue: Queue,
    pub journal: Option<Journal>,
    /// Prints a line.
    say: fn(&str),
    members: BTreeMap<ClientId, Member>,
    /// Answers that wait for the disk, in the order of the records that they wait for.
    held: VecDeque<Held>,
    origin: u64,
    /// The loop's timer for the queue's, and when it fires.
    timer: Option<(TimerId, u64)>,
    out: Vec<u8>,
    is_failing: bool,
}

struct Member {
    conn: SourceId<Conn>,
    parser: Parser,
    /// Its answers that are held back, and their bytes.
    held: usize,
    held_bytes: usize,
    /// Jobs of it that are not stored yet.
    puts: usize,
    /// Its next command waits, until there is room for answers or its jobs are stored.
    is_stopped: bool,
    /// What it has sent behind that is not done.
    has_quit: bool,
    /// True if a drain waits for it.
    is_busy: bool,
}

struct Held {
    client: ClientId,
    /// It goes out when this record is stored.
    after: u64,
    answer: Vec<u8>,
    effect: Effect,
    /// True if its own change is to be stored, not one before it.
    is_change: bool,
}

/// The limits of a connection: who has finished sending still gets all answers.
pub fn limits(limits: Limits) -> Limits {
    Limits { half_open: true, ..limits }
}

/// Serves a client.
pub fn serve(reactor: &mut Context<Server>, server: &mut Server, stream: Stream) {
    let client = server.queue.join();
    let conn = stream.open(reactor, move |reactor, server: &mut Server, conn, event| match event {
        Event::Data(bytes) => server.receive(reactor, client, bytes),
        Event::Drained => server.go_on(reactor, client),
        Event::Eof => server.finish(reactor, client, conn),
        Event::Closed(_) => server.leave(reactor, client),
    });
    let (parser, held, held_bytes, puts) = (Parser::default(), 0, 0, 0);
    let (is_stopped, has_quit, is_busy) = (false, false, false);
    let member = Member { conn, parser, held, held_bytes, puts, is_stopped, has_quit, is_busy };
    server.members.insert(client, member);
}

/// Milliseconds since 1970 at the loop's first tick. From then on its clock counts, which nobody sets.
pub fn origin<S: 'static>(reactor: &Context<S>) -> u64 {
    let wall = u64::try_from(reactor.wall().unix_ms()).unwrap_or(0);
    wall.saturating_sub(reactor.tick().count())
}

impl Server {
    pub fn new(queue: Queue, journal: Option<Journal>, origin: u64, say: fn(&str)) -> Server {
        Server {
            queue,
            journal,
            say,
            members: BTreeMap::new(),
            held: VecDeque::new(),
            origin,
            timer: None,
            out: Vec::new(),
            is_failing: false,
        }
    }

    /// Does what a client has sent, as far as it is complete and there is room for answers.
    fn receive(&mut self, reactor: &mut Context<Server>, client: ClientId, input: &[u8]) {
        self.queue.now = self.now(reactor);
        let (mut at, mut waits) = (0, self.queue.client(client).waits.is_some());
        while !waits
            && let Some(member) = self.members.get_mut(&client)
            && !member.is_stopped
            && !member.has_quit
        {
            let (parsed, used) = member.parser.next(&input[at..]);
            match parsed {
                Some(Ok(request)) if member.puts > 0 && !GO_ON.contains(&request.word) => {
                    self.stop(reactor, client);
                    break;
                }
                Some(Ok(request)) => waits = self.run(reactor, client, &request),
                Some(Err(word)) => self.answer(reactor, client, word.as_bytes(), Effect::Send),
                None if used == 0 => break,
                None => {}
            }
            at += used;
        }
        let (conn, left) = (self.members[&client].conn, input.len() - at);
        conn.unread(reactor, left);
        if waits && left > AHEAD_BYTES_MAX {
            conn.pause(reactor);
        }
        self.settle(reactor, client);
        self.arm(reactor);
    }

    /// Returns true if the client waits for a job now.
    fn run(&mut self, reactor: &mut Context<Server>, id: ClientId, request: &Request<'_>) -> bool {
        let mut out = mem::take(&mut self.out);
        out.clear();
        let effect = self.queue.run(id, request, &mut out);
        let waits = matches!(effect, Effect::Wait);
        match effect {
            Effect::Wait => {}
            Effect::Quit => drop(self.members.get_mut(&id).map(|it| it.has_quit = true)),
            effect => self.answer(reactor, id, &out, effect),
        }
        self.out = out;
        self.wake(reactor);
        waits
    }

    /// Sends an answer, or holds it back.
    fn answer(
        &mut self,
        reactor: &mut Context<Server>,
        client: ClientId,
        answer: &[u8],
        effect: Effect,
    ) {
        let change = self.append(reactor, &effect);
        let Some(member) = self.members.get_mut(&client) else { return };
        if change.is_none() && member.held == 0 {
            self.apply(effect, false);
            self.write(reactor, client, answer);
            return;
        }
        member.held += 1;
        member.held_bytes += answer.len();
        member.puts += usize::from(matches!(effect, Effect::Insert(_)));
        let waiting = self.journal.as_ref().map_or(0, Journal::waiting_bytes);
        let is_full = member.held_bytes > HELD_BYTES_MAX || waiting > WAITING_BYTES_MAX;
        member.conn.charge(reactor, member.held_bytes);
        let before = self.held.back().map_or(0, |held| held.after);
        let (after, is_change) = (change.unwrap_or(before), change.is_some());
        self.held.push_back(Held { client, after, answer: answer.to_vec(), effect, is_change });
        if is_full {
            self.stop(reactor, client);
        }
    }

    /// Returns true if there is room for more.
    fn write(&mut self, reactor: &mut Context<Server>, client: ClientId, answer: &[u8]) -> bool {
        let Some(member) = self.members.get(&client) else { return false };
        let pressure = member.conn.write(reactor, answer);
        match pressure {
            Pressure::Below | Pressure::Closed => {}
            Pressure::AboveHigh => self.stop(reactor, client),
            Pressure::Refused => drop(member.conn.abort(reactor)), // No limit has room for it.
        }
        pressure == Pressure::Below
    }

    fn stop(&mut self, reactor: &mut Context<Server>, client: ClientId) {
        if let Some(member) = self.members.get_mut(&client) {
            member.is_stopped = true;
            member.conn.pause(reactor);
        }
    }

    /// The client goes on with what it has sent: there is room, its jobs are stored, it has a job.
    fn go_on(&mut self, reactor: &mut Context<Server>, client: ClientId) {
        let Some(member) = self.members.get_mut(&client).filter(|it| it.held == 0) else { return };
        member.is_stopped = false;
        member.conn.resume(reactor);
        member.conn.nudge(reactor);
    }

    /// Appends the changes of a command to the journal. Returns the number of the last, if any.
    fn append(&mut self, reactor: &mut Context<Server>, effect: &Effect) -> Option<u64> {
        let Queue { changed, jobs, .. } = &mut self.queue;
        let Some(journal) = &mut self.journal else {
            changed.clear();
            return None;
        };
        let changed = changed.drain(..).filter_map(|id| jobs.get(&id));
        let last = changed.map(|job| journal.append(reactor, &store::set(job))).last();
        match effect {
            Effect::Insert(job) => Some(journal.append(reactor, &store::job(job))),
            Effect::Remove(job) => Some(journal.append(reactor, &store::gone(job))),
            _ => last,
        }
    }

    /// The second step of a command; or, if the disk has refused the first, its undoing.
    fn apply(&mut self, effect: Effect, is_refused: bool) {
        match (effect, is_refused) {
            (Effect::Insert(job), false) | (Effect::Remove(job), true) => self.queue.insert(job),
            (Effect::Insert(job), true) | (Effect::Remove(job), false) => {
                self.queue.discharge(&job)
            }
            (Effect::Send | Effect::Wait | Effect::Quit, _) => {}
        }
    }

    /// Answers the clients that need not wait any more; they go on with what they have sent since.
    fn wake(&mut self, reactor: &mut Context<Server>) {
        while let Some((client, woken)) = self.queue.woken.pop_front() {
            let mut out = Vec::new();
            self.queue.answer_woken(woken, &mut out);
            self.answer(reactor, client, &out, Effect::Send);
            let Some(member) = self.members.get(&client) else { continue };
            let has_more = reactor.get(member.conn).is_some_and(|conn| !conn.backlog().is_empty());
            if has_more && !member.is_stopped {
                self.go_on(reactor, client);
            }
            self.settle(reactor, client);
        }
    }

    /// Arms the loop's timer for the first of the queue's.
    pub fn arm(&mut self, reactor: &mut Context<Server>) {
        let Some(due) = self.queue.timers.next_deadline() else { return };
        if self.timer.is_some_and(|(_, at)| at <= due) {
            return; // At worst it fires, finds nothing and is armed again.
        }
        if let Some((timer, _)) = self.timer.take() {
            reactor.cancel(timer);
        }
        let wait = Duration::from_millis(due.saturating_sub(self.now(reactor)));
        let timer = reactor.after(wait, |reactor, server: &mut Server| {
            server.timer = None;
            server.queue.now = server.now(reactor);
            server.queue.expire();
            server.append(reactor, &Effect::Send);
            server.wake(reactor);
            server.arm(reactor);
        });
        reactor.unref(timer);
        self.timer = Some((timer, due));
    }

    fn now(&self, reactor: &Context<Server>) -> u64 {
        self.origin + reactor.tick().count()
    }

    /// It sends no more. What it has sent is done, but it waits for nothing.
    fn finish(&mut self, reactor: &mut Context<Server>, client: ClientId, conn: SourceId<Conn>) {
        self.queue.client(client).has_ended = true;
        if self.queue.stop_waiting(client) {
            self.answer(reactor, client, b"TIMED_OUT\r\n", Effect::Send);
        }
        let rest = reactor.get(conn).map_or(Vec::new(), |conn| conn.backlog().to_vec());
        self.receive(reactor, client, &rest);
    }

    /// Closes a client that has all its answers, if it sends no more. A drain waits for one that has
    /// jobs, or answers to come.
    fn settle(&mut self, reactor: &mut Context<Server>, client: ClientId) {
        let Some(member) = self.members.get_mut(&client) else { return };
        let (conn, queued) = (member.conn, self.queue.client(client));
        let is_busy = member.held > 0 || !queued.reserved.is_empty();
        let is_done = queued.has_ended && queued.waits.is_none() && !member.is_stopped;
        if (is_done || member.has_quit) && member.held == 0 {
            conn.close(reactor);
        } else if mem::replace(&mut member.is_busy, is_busy) != is_busy {
            let _ = if is_busy { conn.hold(reactor) } else { conn.release(reactor) };
        }
    }

    fn leave(&mut self, reactor: &mut Context<Server>, client: ClientId) {
        self.queue.now = self.now(reactor);
        self.members.remove(&client);
        self.queue.leave(client);
        self.append(reactor, &Effect::Send);
        self.wake(reactor);
        if let Some((timer, _)) = self.timer.take() {
            reactor.cancel(timer); // It may have been for a job of this client, and far off.
        }
        self.arm(reactor);
    }

    /// Takes no new jobs. A client that has jobs waits for no others, so that it can finish them.
    pub fn drain(&mut self, reactor: &mut Context<Server>) {
        self.queue.is_draining = true;
        let clients: Vec<ClientId> = self.queue.clients.keys().copied().collect();
        for client in clients {
            if !self.queue.client(client).reserved.is_empty() && self.queue.stop_waiting(client) {
                self.queue.woken.push_back((client, Woken::DeadlineSoon));
            }
        }
        self.wake(reactor);
    }
}

impl Stores for Server {
    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().expect("only a journal asks for it")
    }

    fn stored(&mut self, reactor: &mut Context<Server>, up_to: u64, result: Result<(), String>) {
        self.queue.now = self.now(reactor);
        if mem::replace(&mut self.is_failing, result.is_err()) != result.is_err() {
            (self.say)(&match &result {
                Ok(()) => "the disk stores again".to_owned(),
                Err(error) => format!("cannot store, so no change is taken: {error}"),
            });
        }
        while let Some(held) = self.held.pop_front() {
            if held.after > up_to {
                self.held.push_front(held);
                break;
            }
            let is_refused = held.is_change && result.is_err();
            let is_put = matches!(held.effect, Effect::Insert(_));
            self.apply(held.effect, is_refused);
            if let Some(member) = self.members.get_mut(&held.client) {
                member.held -= 1;
                member.held_bytes -= held.answer.len();
                member.puts -= usize::from(is_put);
                member.conn.charge(reactor, member.held_bytes);
                let is_stopped = member.is_stopped;
                let answer = if is_refused { OUT_OF_MEMORY.as_bytes() } else { &held.answer };
                if self.write(reactor, held.client, answer) && is_stopped {
                    self.go_on(reactor, held.client);
                }
                self.settle(reactor, held.client);
            }
            self.wake(reactor);
        }
        self.arm(reactor);
    }

    /// Copies no bodies: 170,000 jobs stopped the loop for some 50 ms.
    fn snapshot(&mut self) -> Snapshot {
        let removed = self.held.iter().filter_map(|held| match &held.effect {
            Effect::Remove(job) => Some(job),
            _ => None,
        });
        let jobs: Vec<Job> =
            self.queue.jobs.values().chain(removed).map(|job| Job::clone(job)).collect();
        let next = self.queue.next_job;
        Box::new(move |write| {
            write(&store::next(next));
            jobs.iter().for_each(|job| write(&store::job(job)));
        })
    }
}
