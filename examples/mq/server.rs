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
//! held back. Jobs count in their tube, clients that wait among the connections.

use std::collections::{HashMap, VecDeque};
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

pub struct Server {
    pub queue: Queue,
    pub journal: Option<Journal>,
    /// Prints a line for whoever runs the server.
    say: fn(&str),
    members: HashMap<ClientId, Member>,
    /// Answers that wait for the disk, in the order of the records that they wait for.
    held: VecDeque<Held>,
    /// Milliseconds since 1970 at the first tick of the loop.
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
    has_quit: bool,
    /// True if a drain waits for it.
    is_busy: bool,
}

struct Held {
    client: ClientId,
    /// The record before which it must not go out.
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
    let parser = Parser::default();
    let member = Member { conn, parser, held: 0, held_bytes: 0, has_quit: false, is_busy: false };
    server.members.insert(client, member);
}

/// The milliseconds since 1970 at the first tick of the loop. From then on the loop's clock counts,
/// which nobody can set.
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
            members: HashMap::new(),
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
        let mut at = 0;
        let mut goes_on = self.queue.client(client).waits.is_none();
        while goes_on {
            let Some(member) = self.members.get_mut(&client) else { return };
            let (parsed, used) = member.parser.next(&input[at..]);
            at += used;
            goes_on = match parsed {
                Some(Ok(request)) => self.run(reactor, client, &request),
                Some(Err(word)) => self.answer(reactor, client, word.as_bytes(), Effect::Send),
                None => used > 0,
            };
        }
        let (conn, left) = (self.members[&client].conn, input.len() - at);
        conn.unread(reactor, left);
        if left > AHEAD_BYTES_MAX && self.queue.client(client).waits.is_some() {
            conn.pause(reactor);
        }
        self.settle(reactor, client);
        self.arm(reactor);
    }

    /// Returns false if the client's next command has to wait.
    fn run(&mut self, reactor: &mut Context<Server>, id: ClientId, request: &Request<'_>) -> bool {
        let mut out = mem::take(&mut self.out);
        out.clear();
        let goes_on = match self.queue.run(id, request, &mut out) {
            Effect::Wait => false,
            Effect::Quit => self.quit(reactor, id),
            effect => self.answer(reactor, id, &out, effect),
        };
        self.out = out;
        self.wake(reactor);
        goes_on
    }

    /// Sends an answer, or holds it back. Returns false if no more answers should be made now.
    fn answer(
        &mut self,
        reactor: &mut Context<Server>,
        client: ClientId,
        answer: &[u8],
        effect: Effect,
    ) -> bool {
        let change = self.append(reactor, &effect);
        let Some(member) = self.members.get_mut(&client) else { return false };
        let conn = member.conn;
        let (None, 0) = (change, member.held) else {
            member.held += 1;
            member.held_bytes += answer.len();
            let waiting = self.journal.as_ref().map_or(0, Journal::waiting_bytes);
            let is_full = member.held_bytes > HELD_BYTES_MAX || waiting > WAITING_BYTES_MAX;
            let before = self.held.back().map_or(0, |held| held.after);
            let (after, is_change) = (change.unwrap_or(before), change.is_some());
            let answer = answer.to_vec();
            self.held.push_back(Held { client, after, answer, effect, is_change });
            return !(is_full && conn.pause(reactor));
        };
        self.apply(effect);
        write(reactor, conn, answer)
    }

    /// Appends the changes of a command to the journal. Returns the number of the last, if there
    /// are any.
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

    /// The second step of a command.
    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Insert(job) => self.queue.insert(job),
            Effect::Remove(job) => self.queue.discharge(&job),
            Effect::Send | Effect::Wait | Effect::Quit => {}
        }
    }

    /// The disk has refused it.
    fn undo(&mut self, effect: Effect) {
        match effect {
            Effect::Insert(job) => self.queue.discharge(&job),
            Effect::Remove(job) => self.queue.insert(job),
            Effect::Send | Effect::Wait | Effect::Quit => {}
        }
    }

    /// Answers the clients that need not wait any more; they go on with what they have sent since.
    fn wake(&mut self, reactor: &mut Context<Server>) {
        while let Some((client, woken)) = self.queue.woken.pop_front() {
            let mut out = Vec::new();
            self.queue.answer_woken(woken, &mut out);
            let goes_on = self.answer(reactor, client, &out, Effect::Send);
            let Some(member) = self.members.get(&client) else { continue };
            if goes_on && reactor.get(member.conn).is_some_and(|conn| !conn.backlog().is_empty()) {
                member.conn.pause(reactor); // Then it is delivered once more.
                member.conn.resume(reactor);
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

    /// There is room for its answers again.
    fn go_on(&mut self, reactor: &mut Context<Server>, client: ClientId) {
        if let Some(member) = self.members.get(&client).filter(|member| member.held == 0) {
            member.conn.resume(reactor);
        }
    }

    /// It sends no more. What it has sent is done, but it waits for nothing.
    fn finish(&mut self, reactor: &mut Context<Server>, client: ClientId, conn: SourceId<Conn>) {
        self.queue.client(client).has_ended = true;
        if self.queue.stop_waiting(client) {
            self.queue.woken.push_back((client, Woken::TimedOut));
            self.wake(reactor);
        }
        let rest = reactor.get(conn).map_or(Vec::new(), |conn| conn.backlog().to_vec());
        self.receive(reactor, client, &rest);
    }

    /// It sends no more, and what it has sent behind this is not done. Returns false.
    fn quit(&mut self, reactor: &mut Context<Server>, client: ClientId) -> bool {
        self.queue.client(client).has_ended = true;
        if let Some(member) = self.members.get_mut(&client) {
            member.has_quit = true;
            member.conn.pause(reactor);
        }
        false
    }

    /// Closes a client that has all its answers, if it sends no more. A drain waits for one that has
    /// jobs, or answers to come.
    fn settle(&mut self, reactor: &mut Context<Server>, client: ClientId) {
        let Some(member) = self.members.get_mut(&client) else { return };
        let (conn, queued) = (member.conn, self.queue.client(client));
        let is_busy = member.held > 0 || !queued.reserved.is_empty();
        let is_read = member.has_quit || !conn.is_paused(reactor);
        if queued.has_ended && member.held == 0 && queued.waits.is_none() && is_read {
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
    }

    /// Takes no new jobs. A client that has jobs waits for no others, so that it can finish them.
    pub fn drain(&mut self, reactor: &mut Context<Server>) {
        self.queue.is_draining = true;
        let mut busy: Vec<ClientId> = self.queue.clients.keys().copied().collect();
        busy.retain(|id| !self.queue.client(*id).reserved.is_empty());
        for client in busy {
            if self.queue.stop_waiting(client) {
                self.queue.woken.push_back((client, Woken::DeadlineSoon));
            }
        }
        self.wake(reactor);
    }
}

/// Returns false if the client takes no more answers for now.
fn write(reactor: &mut Context<Server>, conn: SourceId<Conn>, answer: &[u8]) -> bool {
    match conn.write(reactor, answer) {
        Pressure::Below => true,
        Pressure::AboveHigh => !conn.pause(reactor),
        Pressure::Closed => false,
        Pressure::Refused => !conn.abort(reactor), // More than the limits have room for.
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
            if is_refused {
                self.undo(held.effect)
            } else {
                self.apply(held.effect)
            }
            if let Some(member) = self.members.get_mut(&held.client) {
                let conn = member.conn;
                member.held -= 1;
                member.held_bytes -= held.answer.len();
                let is_last = member.held == 0 && !member.has_quit;
                let answer = if is_refused { OUT_OF_MEMORY.as_bytes() } else { &held.answer };
                if write(reactor, conn, answer) && is_last {
                    conn.resume(reactor);
                }
                self.settle(reactor, held.client);
            }
            self.wake(reactor);
        }
        self.arm(reactor);
    }

    fn snapshot(&mut self) -> Snapshot {
        let removed = self.held.iter().filter_map(|held| match &held.effect {
            Effect::Remove(job) => Some(job),
            _ => None,
        });
        let jobs: Vec<Job> = self.queue.jobs.values().chain(removed).cloned().collect();
        let next = self.queue.next_job;
        Box::new(move |write| {
            write(&store::next(next));
            jobs.iter().for_each(|job| write(&store::job(job)));
        })
    }
}
