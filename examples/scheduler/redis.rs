//! Work that several schedulers share by Redis, over connections of our own.
//!
//! ```text
//!   scheduler:due:NAME@MS    SET NX: who comes first has planned that minute; then its attempt
//!   scheduler:runs           a stream with a group: each run goes to one worker (XREADGROUP), until
//!                            it is done (XACK, XDEL) or its worker is silent (XAUTOCLAIM)
//!   scheduler:log            the last events of all, for every worker's page (XREAD)
//!   scheduler:known          until when the occurrences of each line are taken care of
//! ```
//!
//! Three connections: commands, and two that wait. What was not answered before a connection broke is
//! sent again: each command may be done twice. A worker renews its runs four times in a lease. Others
//! take over what was not renewed for three quarters of it, and look every quarter; after a break they
//! wait as long before, so that all workers can come back first.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::net::{Conn, Event as Net, Limits, Stream, tcp};
use waterwheel::reactor::Missed;
use waterwheel::timers::TimerId;
use waterwheel::{Context, SourceId};

use super::ledger::{Event, Id, State, id, parts};
use super::reply::{Value, parse};
use super::resp::Replies;
use super::server::{Scheduler, Store};

/// For so long a minute that was planned is not planned again: a week.
const DUE_KEPT_S: &str = "604800";
/// Events of the log, about; and those that one reply has.
const LOG_EVENTS: &str = "2000";
const LOG_EVENTS_AT_ONCE: usize = 16;
const BLOCK_MS: &str = "2000";
/// A server that says nothing for so long hangs: the log is asked for again every two seconds.
const SILENT_MOST: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// Unfinished runs of others that a worker knows for its page, about.
const OTHERS_MAX: usize = 10_000;

/// In one step: plans a run, unless somebody has.
const PLAN: &str = "\
    if redis.call('SET', KEYS[1], 0, 'NX', 'EX', ARGV[1]) then \
    redis.call('XADD', KEYS[2], '*', 'id', ARGV[2]) \
    redis.call('HSET', KEYS[3], ARGV[3], ARGV[4]) \
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[5], '*', 'event', 'due ' .. ARGV[2]) end";

/// In one step: stores that a run is over, and takes it from the stream.
const END: &str = "\
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'event', ARGV[2]) \
    redis.call('XACK', KEYS[1], 'workers', ARGV[3]) redis.call('XDEL', KEYS[1], ARGV[3])";

/// What a command was for.
#[derive(Clone)]
enum For {
    Nothing,
    /// It belongs to the connection: the next one has another.
    Renewal,
    Known,
    Stored(Event),
    Claimed,
    Begun(Id),
}

/// Connects to the server, and calls back.
pub type Dial = Rc<dyn Fn(&mut Context<Scheduler>, Dialled) -> io::Result<()>>;
pub type Dialled = Box<dyn FnOnce(&mut Context<Scheduler>, &mut Scheduler, io::Result<Stream>)>;

/// The three connections.
const COMMANDS: usize = 0;
const RUNS: usize = 1;
const LOG: usize = 2;

pub struct Link {
    dial: Dial,
    worker: String,
    lease: Duration,
    conns: [Option<SourceId<Conn>>; 3],
    asked: VecDeque<(Vec<u8>, For)>,
    /// The runs that this worker has, and their entries in the stream.
    entries: BTreeMap<Id, String>,
    log_at: String,
    is_reading: bool,
    reads_own: bool,
    /// Breaks so far, so that nobody acts for an older connection.
    breaks: u64,
    pause: Duration,
    is_gone: bool,
    may_claim: bool,
    /// Called once, when `scheduler:known` has come.
    begin: Option<fn(&mut Context<Scheduler>, &mut Scheduler)>,
    /// Of the renewals; `None` when it is closed.
    timer: Option<TimerId>,
}

/// By TCP, to a host and a port.
pub fn dial(addr: String) -> Dial {
    let connect = tcp::Connect::new().timeout(CONNECT_TIMEOUT).keepalive(Some(CONNECT_TIMEOUT));
    Rc::new(move |reactor, done| connect.clone().open(reactor, &addr, done).map(drop))
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut request = Replies::default(); // A request looks as an array of strings does.
    request.array(words.len());
    words.iter().for_each(|word| request.string(word));
    request.bytes
}

fn words(words: &[&str]) -> Vec<u8> {
    command(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())
}

impl Link {
    pub fn new(
        dial: Dial,
        worker: String,
        lease: Duration,
        begin: fn(&mut Context<Scheduler>, &mut Scheduler),
    ) -> Link {
        Link {
            dial,
            worker,
            lease,
            conns: [None; 3],
            asked: VecDeque::new(),
            entries: BTreeMap::new(),
            log_at: "0".to_owned(),
            is_reading: false,
            reads_own: true,
            breaks: 0,
            pause: PAUSE_FIRST,
            is_gone: false,
            may_claim: false,
            begin: Some(begin),
            timer: None,
        }
    }

    /// Stores an event: a due one as a run, the others in the log. A run that is over has gone from the
    /// stream as soon as the log says so, and not before: nobody can begin it again.
    pub fn store(&mut self, reactor: &mut Context<Scheduler>, event: Event) {
        let key = |id: &str| format!("scheduler:due:{id}");
        match &event {
            Event::Due { id } => {
                let (name, ms) = parts(id).expect("an id of ours");
                #[rustfmt::skip]
                let plan = ["EVAL", PLAN, "4", &key(id), "scheduler:runs", "scheduler:known", "scheduler:log",
                    DUE_KEPT_S, id, name, &ms.to_string(), LOG_EVENTS];
                return self.ask(reactor, words(&plan), For::Stored(event));
            }
            Event::Known { name, ms } => {
                let known = words(&["HSETNX", "scheduler:known", name, &ms.to_string()]);
                return self.ask(reactor, known, For::Stored(event));
            }
            Event::Gone { .. } => return, // Others may have another crontab.
            Event::Begin { id, attempt, .. } => {
                let set = ["SET", &key(id), &attempt.to_string(), "XX", "KEEPTTL"];
                self.ask(reactor, words(&set), For::Nothing);
            }
            Event::End { id, end, .. } => {
                if let Some(entry) = self.entries.get(id).filter(|_| !end.again) {
                    let over = ["EVAL", END, "2", "scheduler:runs", "scheduler:log", LOG_EVENTS];
                    let over = over.iter().map(|word| word.as_bytes());
                    let record = event.encode();
                    let over: Vec<_> = over.chain([&record[..], entry.as_bytes()]).collect();
                    return self.ask(reactor, command(&over), For::Stored(event));
                }
            }
        }
        #[rustfmt::skip]
        let log = command(&[b"XADD", b"scheduler:log", b"MAXLEN", b"~", LOG_EVENTS.as_bytes(), b"*", b"event",
            &event.encode()]);
        self.ask(reactor, log, For::Stored(event));
    }

    /// A run has gone from the stream: there is room for another one.
    pub fn done(&mut self, reactor: &mut Context<Scheduler>, id: &Id) {
        self.entries.remove(id);
        reactor.defer(|reactor, scheduler: &mut Scheduler| read_runs(reactor, scheduler));
    }

    /// Returns true if this worker has the run, as long as nobody thinks that it is dead.
    pub fn has(&self, id: &str) -> bool {
        self.entries.contains_key(id)
    }

    /// Commands without an answer.
    pub fn waiting(&self) -> usize {
        self.asked.len()
    }

    pub fn is_stored(&self) -> bool {
        self.asked.is_empty() || self.is_gone
    }

    fn ask(&mut self, reactor: &mut Context<Scheduler>, request: Vec<u8>, what: For) {
        if let Some(conn) = self.conns[COMMANDS] {
            let _ = conn.write(reactor, &request); // If it breaks, it is sent again.
        }
        self.asked.push_back((request, what));
    }

    /// Keeps what this worker has from being taken over.
    fn renew(&mut self, reactor: &mut Context<Scheduler>) {
        if !self.entries.is_empty() {
            let claim = ["XCLAIM", "scheduler:runs", "workers", &self.worker, "0"];
            let entries = self.entries.values().map(String::as_str);
            let claim: Vec<&str> = claim.into_iter().chain(entries).chain(["JUSTID"]).collect();
            self.ask(reactor, words(&claim), For::Renewal);
        }
    }
}

fn link(scheduler: &mut Scheduler) -> &mut Link {
    match &mut scheduler.store {
        Store::Redis(link) => link,
        _ => unreachable!("only a link calls this"),
    }
}

/// Ends all of it.
pub fn close(reactor: &mut Context<Scheduler>, link: &mut Link) {
    link.timer.take().map(|timer| reactor.cancel(timer));
    hang_up(reactor, link);
}

fn hang_up(reactor: &mut Context<Scheduler>, link: &mut Link) {
    link.breaks += 1; // What is under way on these connections is of no interest.
    for conn in mem::take(&mut link.conns).into_iter().flatten() {
        conn.abort(reactor);
    }
}

/// Connects, and from then on renews and takes over.
pub fn open(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler) {
    let lease = link(scheduler).lease;
    let timer = reactor.every(lease / 4, Missed::Skip, move |reactor, scheduler, _| {
        let link = self::link(scheduler);
        if link.conns[COMMANDS].is_none() {
            return;
        }
        link.renew(reactor);
        if link.may_claim {
            let idle = (lease * 3 / 4).as_millis().to_string();
            let claim = ["XAUTOCLAIM", "scheduler:runs", "workers", &link.worker, &idle, "0"];
            link.ask(reactor, words(&claim), For::Claimed);
        }
    });
    link(scheduler).timer = Some(timer);
    (0..3).for_each(|which| connect(reactor, scheduler, which));
}

fn connect(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler, which: usize) {
    let link = link(scheduler);
    if link.timer.is_none() {
        return;
    }
    let (dial, breaks) = (link.dial.clone(), link.breaks);
    let done: Dialled = Box::new(move |reactor, scheduler, result| match result {
        _ if self::link(scheduler).breaks != breaks => {}
        Ok(stream) => opened(reactor, scheduler, which, stream),
        Err(error) => broke(reactor, scheduler, breaks, &error.to_string()),
    });
    if let Err(error) = dial(reactor, done) {
        broke(reactor, scheduler, breaks, &error.to_string());
    }
}

fn opened(
    reactor: &mut Context<Scheduler>,
    scheduler: &mut Scheduler,
    which: usize,
    stream: Stream,
) {
    let backlog_bytes_max =
        LOG_EVENTS_AT_ONCE * (scheduler.setup.output_bytes + 4096) + 1024 * 1024;
    let outbox_bytes_max = usize::MAX; // `asked` has the same bytes, and is bounded.
    let read_timeout = (which == LOG).then_some(SILENT_MOST);
    let limits = Limits { outbox_bytes_max, backlog_bytes_max, read_timeout, ..Limits::default() };
    let breaks = link(scheduler).breaks;
    let conn = stream.limits(limits).open(reactor, move |reactor, scheduler, conn, event| {
        let result = match event {
            Net::Data(bytes) => heard(reactor, scheduler, which, breaks, bytes).map(|unread| {
                conn.unread(reactor, unread);
            }),
            Net::Closed(why) => Err(why.to_string()),
            _ => Ok(()),
        };
        if let Err(why) = result {
            broke(reactor, scheduler, breaks, &why);
        }
    });
    let link = link(scheduler);
    link.conns[which] = Some(conn);
    match which {
        COMMANDS => begin(reactor, scheduler),
        RUNS => read_runs(reactor, scheduler),
        _ => read_log(reactor, scheduler),
    }
}

/// Acts on each whole reply, and returns how many bytes are behind them.
fn heard(
    reactor: &mut Context<Scheduler>,
    scheduler: &mut Scheduler,
    which: usize,
    breaks: u64,
    mut bytes: &[u8],
) -> Result<usize, String> {
    while let Some((value, rest)) = parse(bytes)? {
        bytes = rest;
        answered(reactor, scheduler, which, value);
        if link(scheduler).breaks != breaks {
            return Ok(0); // What came behind an error is of no use.
        }
    }
    Ok(bytes.len())
}

/// Sends what the connection for commands begins with, and what has no answer yet.
fn begin(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler) {
    let link = link(scheduler);
    let mut unanswered = mem::take(&mut link.asked);
    unanswered.retain(|(_, what)| !matches!(what, For::Renewal | For::Known | For::Claimed));
    let group = ["XGROUP", "CREATE", "scheduler:runs", "workers", "0", "MKSTREAM"];
    link.ask(reactor, words(&group), For::Renewal);
    link.renew(reactor);
    if link.begin.is_some() {
        link.ask(reactor, words(&["HGETALL", "scheduler:known"]), For::Known);
    }
    for (request, what) in unanswered {
        link.ask(reactor, request, what);
    }
    let (breaks, wait) = (link.breaks, link.lease * 3 / 4);
    if mem::take(&mut link.is_gone) {
        (scheduler.setup.say)("Redis is back".to_owned());
    }
    reactor.after(wait, move |_, scheduler: &mut Scheduler| {
        let link = self::link(scheduler);
        link.may_claim |= link.breaks == breaks;
        link.pause = PAUSE_FIRST;
    });
}

/// A connection broke: all three are made again.
fn broke(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler, breaks: u64, why: &str) {
    let link = link(scheduler);
    if link.breaks != breaks {
        return;
    }
    (link.may_claim, link.is_reading, link.reads_own) = (false, false, true);
    let longer = (link.pause * 2).min(PAUSE_MOST);
    let pause = mem::replace(&mut link.pause, longer);
    hang_up(reactor, link);
    if !mem::replace(&mut link.is_gone, true) {
        (scheduler.setup.say)(format!("Redis is gone: {why}"));
    }
    reactor.after(pause, |reactor, scheduler: &mut Scheduler| {
        (0..3).for_each(|which| connect(reactor, scheduler, which));
    });
}

/// Asks for as many runs as there is room for: first those that are ours already.
fn read_runs(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler) {
    let (room, is_ending) = (scheduler.setup.runs_max, scheduler.is_ending);
    let link = link(scheduler);
    let room = room.saturating_sub(link.entries.len());
    let Some(conn) = link.conns[RUNS].filter(|_| link.begin.is_none() && !is_ending) else {
        return;
    };
    if link.is_reading || room == 0 && !link.reads_own {
        return;
    }
    link.is_reading = true;
    let (from, count) =
        if link.reads_own { ("0", "10000".to_owned()) } else { (">", room.to_string()) };
    #[rustfmt::skip]
    let read = ["XREADGROUP", "GROUP", "workers", &link.worker, "COUNT", &count, "BLOCK", BLOCK_MS,
        "STREAMS", "scheduler:runs", from];
    let _ = conn.write(reactor, &words(&read));
}

fn read_log(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler) {
    let link = link(scheduler);
    let Some(conn) = link.conns[LOG] else { return };
    let count = LOG_EVENTS_AT_ONCE.to_string();
    #[rustfmt::skip]
    let read = ["XREAD", "COUNT", &count, "BLOCK", BLOCK_MS, "STREAMS", "scheduler:log", &link.log_at];
    let _ = conn.write(reactor, &words(&read));
}

fn answered(
    reactor: &mut Context<Scheduler>,
    scheduler: &mut Scheduler,
    which: usize,
    value: Value,
) {
    if let Value::Error(error) = &value
        && !error.starts_with("BUSYGROUP")
    {
        let breaks = link(scheduler).breaks;
        return broke(reactor, scheduler, breaks, error);
    }
    // [[stream, [[entry, [field, value]], …]]]
    let stream = value.array().first().map_or(&[][..], Value::array);
    let entries = stream.get(1).map_or(&[][..], Value::array);
    match which {
        COMMANDS => done(reactor, scheduler, &value),
        RUNS => {
            let link = link(scheduler);
            let is_old = mem::take(&mut link.reads_own);
            link.is_reading = false;
            entries.iter().for_each(|entry| got(reactor, scheduler, entry, is_old));
            read_runs(reactor, scheduler);
        }
        _ => {
            for entry in entries {
                let [at, fields] = entry.array() else { continue };
                link(scheduler).log_at = at.text().to_owned();
                let Some(Value::Text(record)) = fields.array().get(1) else { continue };
                Event::decode(record).iter().for_each(|event| scheduler.ledger.apply(event));
            }
            let Scheduler { ledger, store: Store::Redis(link), .. } = scheduler else { return };
            ledger.forget_others(OTHERS_MAX, |id| link.has(id));
            read_log(reactor, scheduler);
        }
    }
}

/// The answer to the first command that has none.
fn done(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler, value: &Value) {
    let Some((_, what)) = link(scheduler).asked.pop_front() else { return };
    match what {
        For::Nothing | For::Renewal => {}
        For::Known => {
            for pair in value.array().chunks_exact(2) {
                let ms = pair[1].text().parse().unwrap_or(0);
                scheduler.ledger.apply(&Event::Known { name: pair[0].text().to_owned(), ms });
            }
            if let Some(begin) = link(scheduler).begin.take() {
                begin(reactor, scheduler);
                read_runs(reactor, scheduler);
            }
        }
        For::Stored(event) => scheduler.happen(reactor, event),
        For::Claimed => {
            let entries = value.array().get(1).map_or(&[][..], Value::array);
            entries.iter().for_each(|entry| got(reactor, scheduler, entry, true));
        }
        For::Begun(id) => {
            let attempt = value.text().parse().unwrap_or(0);
            if attempt > scheduler.ledger.begun(&id) {
                let (at, by) = (reactor.wall().unix_ms(), "?".to_owned()); // The log has lost it.
                scheduler.ledger.apply(&Event::Begin { id: id.clone(), attempt, at, by });
            }
            scheduler.take_up(reactor, &id);
        }
    }
    if scheduler.is_ending {
        scheduler.stop_if_over(reactor);
    }
}

/// A run of the stream is ours; an old one may have begun elsewhere.
fn got(reactor: &mut Context<Scheduler>, scheduler: &mut Scheduler, entry: &Value, is_old: bool) {
    let [entry, fields] = entry.array() else { return };
    let run = fields.array().get(1).map_or("", Value::text);
    let Some((name, ms)) = parts(run) else { return };
    let run = id(name, ms);
    if link(scheduler).entries.insert(run.clone(), entry.text().to_owned()).is_some() {
        return; // Said twice.
    }
    scheduler.ledger.apply(&Event::Due { id: run.clone() });
    let is_over = scheduler.ledger.runs[&run].state == State::Over;
    let link = link(scheduler);
    if is_over {
        link.done(reactor, &run); // The answer has passed the one that says so.
    } else if is_old {
        let get = words(&["GET", &format!("scheduler:due:{run}")]);
        link.ask(reactor, get, For::Begun(run));
    } else {
        scheduler.submit(reactor, &run, true);
    }
}
