//! The collector on the loop: senders, files, the disk, and the next collector.
//!
//! ```text
//!   TCP, TLS ─┐        ┌─ batch ─▶ a worker: write, fsync ─┐
//!   UDP ──────┼─ take ─┤                                   ├─▶ release: ack, read on
//!   files ────┘        └─ journal ▷ stored ▷ next collector ┘
//! ```
//!
//! What is taken has a number, `last`; when it is safe, `release` has come to that number, and all
//! that was *held* for it is done: acknowledgements go out, a connection may end, a position in a file
//! is noted. Safe is the disk; for a spool without a file, the next collector's word.
//!
//! # Limits
//! While too much waits (`is_full`) senders are paused, files are not read, datagrams are dropped and
//! counted. A client costs 72 KiB beside what its kernel keeps; all together have the buffer budget.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::net::{Conn, Event, Limits, Pressure, Stream};
use waterwheel::{Context, SourceId};

use super::follow::{Follow, Position};
use super::journal::Journal;
use super::keep::position;
use super::next::pauses;
use super::protocol::{self, FRAME_BYTES_MAX, Framing, Head, MESSAGE_BYTES_MAX};
use super::spool::{Seen, Spool, hash, record};

/// Bytes that wait for the disk. 4 MiB.
pub const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a message that says its length and has an id: with another id in it, it can be passed on.
pub const PASSED_BYTES_MAX: usize = FRAME_BYTES_MAX - 128;
/// What is held, of a few dozen bytes each.
const HELD_MAX: usize = 100_000;
/// How often a file is looked at, and a failed disk tried again.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
pub const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Brings a batch of lines, up to this number, to the disk, and calls [`Server::written`] then.
pub type Disk = Rc<dyn Fn(&mut Context<Server>, Vec<u8>, u64)>;
/// Connects to the next collector, and calls [`Server::linked`] then.
pub type Dial = Rc<dyn Fn(&mut Context<Server>)>;

pub enum To {
    Disk(Disk),
    Next(Dial),
}

/// What has happened to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub taken: u64,
    pub no_priority: u64,
    pub not_utf8: u64,
    pub cut: u64,
    pub again: u64,
    pub dropped: u64,
    pub alarms: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { taken, no_priority, not_utf8, cut, again, dropped, alarms } = self;
        write!(f, "messages: {taken} ({no_priority} without priority, {not_utf8} no UTF-8, ")?;
        write!(
            f,
            "{cut} cut); had already: {again}; datagrams dropped: {dropped}; alarms: {alarms}"
        )
    }
}

pub enum Held {
    Ack(SourceId<Conn>, Vec<u8>),
    /// A drain waits for it no longer.
    Sender(SourceId<Conn>),
    Close(SourceId<Conn>),
    /// The spool's messages before this one are stored; its acknowledgements are.
    Stored(u64),
    Settled(u64),
    /// A file is read on: at once, or later.
    Tail(usize, bool),
}

pub struct Server {
    pub counts: Counts,
    /// Texts that raise an alarm.
    pub matches: Vec<String>,
    pub spool: Spool,
    pub seen: Seen,
    pub spool_bytes: usize,
    pub say: fn(&str),
    pub to: To,
    pub journal: Option<Journal>,
    pub batch: Vec<u8>,
    pub is_writing: bool,
    pub last: u64,
    pub done: u64,
    /// The last record that the journal has got, and that it has stored.
    pub journaled: (u64, u64),
    /// After the disk has refused records: the number of the last that was appended again.
    pub retry: Option<u64>,
    pub held: VecDeque<(u64, Held)>,
    /// The number that a sender waits for.
    pub latest: HashMap<SourceId<Conn>, u64>,
    pub paused: Vec<SourceId<Conn>>,
    pub link: Option<SourceId<Conn>>,
    pub is_dialing: bool,
    pub pauses: Box<dyn Iterator<Item = Duration>>,
    pub tails: Vec<Option<Follow>>,
    pub positions: Vec<(String, Position)>,
    pub is_ending: bool,
    pub alarmed: Option<std::time::Instant>,
}

/// The limits of a connection: who has finished sending still gets acknowledgements.
pub fn limits(limits: Limits) -> Limits {
    Limits { half_open: true, ..limits }
}

/// Serves a sender.
pub fn serve(reactor: &mut Context<Server>, _: &mut Server, stream: Stream) {
    let mut framing = Framing::default();
    stream.open(reactor, move |reactor, server: &mut Server, conn, event| match event {
        Event::Data(bytes) => {
            let used = server.receive(reactor, conn, &mut framing, bytes, false);
            conn.unread(reactor, bytes.len() - used);
        }
        Event::Drained => {
            conn.resume(reactor);
        }
        Event::Eof => {
            let rest = reactor[conn].backlog().to_vec();
            server.receive(reactor, conn, &mut framing, &rest, true);
            server.wait(reactor, Held::Close(conn));
        }
        Event::Closed(_) => {
            server.latest.remove(&conn);
            server.paused.retain(|paused| *paused != conn);
        }
    });
}

impl Server {
    pub fn new(to: To, spool: Spool, journal: Option<Journal>, say: fn(&str)) -> Server {
        let (first, next) = (spool.first, spool.next());
        let spool = Spool { stored: next, sent: first, settled: first, ..spool };
        let (last, done) = if journal.is_some() { (0, 0) } else { (next, first) };
        Server {
            counts: Counts::default(),
            matches: Vec::new(),
            pauses: pauses(spool.name),
            spool,
            seen: Seen::default(),
            spool_bytes: usize::MAX,
            say,
            to,
            journal,
            batch: Vec::new(),
            is_writing: false,
            last,
            done,
            journaled: (0, 0),
            retry: None,
            held: VecDeque::new(),
            latest: HashMap::new(),
            paused: Vec::new(),
            link: None,
            is_dialing: false,
            tails: Vec::new(),
            positions: Vec::new(),
            is_ending: false,
            alarmed: None,
        }
    }

    /// Notes its name in the spool, sends what is left there, and follows files.
    pub fn start(&mut self, reactor: &mut Context<Server>, tails: Vec<Follow>) {
        let first = self.spool.first;
        self.log(reactor, &record(b'N', &[self.spool.name, first], b""));
        let position = |tail: &Follow| (tail.path.to_string_lossy().into_owned(), tail.position);
        self.positions = tails.iter().map(position).collect();
        self.tails = tails.into_iter().map(Some).collect();
        (0..self.tails.len()).for_each(|index| self.follow(reactor, index));
        self.pump(reactor);
    }

    /// Takes messages, as long as there is room; answers the bytes that they had.
    fn receive(
        &mut self,
        reactor: &mut Context<Server>,
        conn: SourceId<Conn>,
        framing: &mut Framing,
        input: &[u8],
        is_end: bool,
    ) -> usize {
        let mut at = 0;
        while (is_end || !self.is_full())
            && let Some((message, used)) = framing.next(&input[at..], is_end)
        {
            self.take(reactor, message, Some(conn));
            at += used;
        }
        if self.is_full() && !is_end {
            conn.pause(reactor); // A drain waits for it anyway.
            conn.release(reactor);
            self.paused.push(conn);
        } else if at > 0 {
            self.hold(reactor, conn);
        }
        at
    }

    /// A datagram is one message.
    pub fn datagram(&mut self, reactor: &mut Context<Server>, message: &[u8]) {
        match self.is_full() {
            true => self.counts.dropped += 1,
            false => self.take(reactor, message, None),
        }
    }

    pub fn take(
        &mut self,
        reactor: &mut Context<Server>,
        message: &[u8],
        conn: Option<SourceId<Conn>>,
    ) {
        let message = message.strip_suffix(b"\n").unwrap_or(message);
        if message.is_empty() {
            return;
        }
        let head = Head::of(message);
        let is_new = head.id.is_none_or(|(from, id)| self.seen.is_new(hash(from), hash(id)));
        if is_new {
            let most = if head.id.is_some() { PASSED_BYTES_MAX } else { MESSAGE_BYTES_MAX };
            self.counts.cut += u64::from(message.len() >= most);
            let mut pieces = message.chunks(most);
            self.put(reactor, pieces.next().unwrap_or_default(), &head);
            pieces.for_each(|piece| self.put(reactor, piece, &Head::default()));
        } else {
            self.counts.again += 1;
        }
        if let (Some((_, id)), Some(conn)) = (head.id, conn) {
            self.wait(reactor, Held::Ack(conn, id.to_vec()));
        }
    }

    fn put(&mut self, reactor: &mut Context<Server>, message: &[u8], head: &Head<'_>) {
        self.counts.taken += 1;
        self.counts.no_priority += u64::from(head.priority == 0);
        self.counts.not_utf8 += u64::from(std::str::from_utf8(message).is_err());
        if !self.matches.is_empty() {
            self.alarm(reactor, message);
        }
        if let To::Disk(_) = self.to {
            self.last += u64::from(self.batch.is_empty());
            protocol::write_line(message, head, &mut self.batch);
            self.write(reactor);
            return;
        }
        let id = self.spool.next();
        self.spool.push(id, message);
        if self.journal.is_some() {
            self.log(reactor, &record(b'M', &[id], message));
            self.wait(reactor, Held::Stored(id + 1));
        } else {
            (self.last, self.spool.stored) = (id + 1, id + 1);
            self.pump(reactor);
        }
    }

    /// Says a line that has one of the texts, once a second at most. O(length).
    fn alarm(&mut self, reactor: &Context<Server>, message: &[u8]) {
        let has = |text: &&String| message.windows(text.len()).any(|part| part == text.as_bytes());
        let Some(text) = self.matches.iter().find(has) else { return };
        self.counts.alarms += 1;
        let now = reactor.now();
        if self.alarmed.is_none_or(|at| now - at >= RETRY_EVERY) {
            self.alarmed = Some(now);
            let mut line = Vec::new();
            protocol::write_line(&message[..message.len().min(500)], &Head::default(), &mut line);
            let line = String::from_utf8_lossy(&line[4..]);
            (self.say)(&format!("ALARM {}, {text:?}: {}", self.counts.alarms, line.trim_end()));
        }
    }

    pub fn is_full(&self) -> bool {
        let journaled = self.journal.as_ref().map_or(0, Journal::waiting_bytes);
        self.batch.len().max(journaled) > WAITING_BYTES_MAX
            || self.spool.bytes >= self.spool_bytes
            || self.held.len() > HELD_MAX
            || self.retry.is_some()
    }

    /// Does it when all that was taken is safe.
    pub fn wait(&mut self, reactor: &mut Context<Server>, held: Held) {
        match self.last <= self.done && self.held.is_empty() {
            true => self.apply(reactor, held),
            false => self.held.push_back((self.last, held)),
        }
    }

    pub fn hold(&mut self, reactor: &mut Context<Server>, conn: SourceId<Conn>) {
        if conn.hold(reactor) {
            self.latest.insert(conn, self.last);
            self.wait(reactor, Held::Sender(conn));
        }
    }

    /// All up to this number is safe.
    pub fn release(&mut self, reactor: &mut Context<Server>, done: u64) {
        self.done = self.done.max(done);
        while self.held.front().is_some_and(|(after, _)| *after <= self.done)
            && let Some((_, held)) = self.held.pop_front()
        {
            self.apply(reactor, held);
        }
        if !self.is_full() {
            for conn in mem::take(&mut self.paused) {
                self.hold(reactor, conn);
                conn.resume(reactor);
            }
        }
        self.pump(reactor);
        self.end_if_safe(reactor);
    }

    fn apply(&mut self, reactor: &mut Context<Server>, held: Held) {
        match held {
            Held::Ack(conn, id) => match conn.write(reactor, &[b"ack ", &id[..], b"\n"].concat()) {
                Pressure::AboveHigh => {
                    conn.pause(reactor);
                }
                Pressure::Refused => {
                    conn.abort(reactor);
                }
                Pressure::Below | Pressure::Closed => {}
            },
            Held::Sender(conn) => {
                if self.latest.get(&conn).is_some_and(|latest| *latest <= self.done) {
                    self.latest.remove(&conn);
                    conn.release(reactor);
                }
            }
            Held::Close(conn) => {
                conn.close(reactor);
            }
            Held::Stored(next) => self.spool.stored = next,
            Held::Settled(first) => self.spool.settled = first,
            Held::Tail(index, more) => {
                if let To::Disk(_) = self.to {
                    self.log(reactor, &position(&self.positions[index]));
                }
                let pause = if more { Duration::ZERO } else { LOOK_EVERY };
                reactor.after(pause, move |reactor, server: &mut Server| {
                    server.follow(reactor, index)
                });
            }
        }
    }
}
