//! The queue: jobs in tubes, and the clients that wait for them. Plain data; the time is passed in.
//!
//! ```text
//!   make ─▶ insert ─▶ ready ─────▶ reserved ─────▶ remove
//!                 │     ▲ kick         │ release, bury; its time is up, its client has left
//!                 ▼     │ time         ▼
//!              delayed, buried ◀───────┘
//! ```
//!
//! Each job is in one set, which its state names: of its tube, or of the client that reserved it. A
//! job that is delayed or reserved has a timer in the wheel, and so may a client that waits.
//!
//! # Cost
//! O(log n) for each change of a job; a reserve O(tubes that the client watches).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use waterwheel::timers::{TimerId, Wheel};

use super::protocol::COMMANDS;

/// Tubes. The list of 10,000 is 2 MB.
pub const TUBES_MAX: usize = 10_000;
/// Tubes that one client watches: a reserve looks at each.
pub const WATCHED_MAX: usize = 1_000;
/// Jobs that one client has reserved: all of them move when it leaves.
pub const RESERVED_MAX: usize = 10_000;
/// Bytes that a job counts for beside its body: its entries take some 270.
pub const JOB_BYTES: u64 = 300;
/// Jobs with a lower priority than this are urgent.
const URGENT: u64 = 1024;

/// A name that jobs and clients share.
pub type Name = Arc<str>;
/// The number of a client.
pub type ClientId = u64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Ready,
    Delayed,
    Buried,
    Reserved,
}

/// Times are in ms since 1970, and delays in seconds.
#[derive(Clone, Debug, Default)]
pub struct Job {
    pub id: u64,
    pub tube: Name,
    pub pri: u64,
    pub delay: u64,
    pub ttr: u64,
    pub created: u64,
    /// With the CR LF behind it.
    pub body: Arc<[u8]>,
    pub state: State,
    /// Its place in its set: the priority; when it moves; or a number that grows with each burial.
    pub key: u64,
    pub reserver: ClientId,
    pub timer: Option<TimerId>,
    pub counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub reserves: u64,
    pub timeouts: u64,
    pub releases: u64,
    pub buries: u64,
    pub kicks: u64,
    /// Releases, timeouts and lost clients since the last kick.
    pub failures: u64,
}

#[derive(Default)]
pub struct Tube {
    /// The jobs that are ready, delayed and buried: key and id.
    pub sets: [BTreeSet<(u64, u64)>; 3],
    /// The clients that wait, by order of arrival.
    pub waiting: BTreeSet<(u64, ClientId)>,
    pub bytes: u64,
    pub using: usize,
    pub watching: usize,
    pub urgent: u64,
    pub reserved: u64,
    pub total: u64,
    pub deleted: u64,
    /// Jobs that were buried because they have failed too often.
    pub dead: u64,
    pub pauses: u64,
    pub pause: u64,
    pub paused_until: u64,
    pub unpause: Option<TimerId>,
}

#[derive(Default)]
pub struct Client {
    pub uses: Name,
    pub watches: Vec<Name>,
    pub reserved: BTreeSet<(u64, u64)>,
    /// While it waits: the number of its arrival, and the timer that ends the wait.
    pub waits: Option<(u64, Option<TimerId>)>,
    pub has_put: bool,
    pub has_asked: bool,
    /// It sends no more, so it waits for nothing.
    pub has_ended: bool,
}

/// Why a client no longer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// This job is reserved for it.
    Reserved(u64),
    DeadlineSoon,
    TimedOut,
}

/// What a timer is for.
#[derive(Clone)]
pub enum Due {
    Job(u64),
    Client(ClientId),
    Tube(Name),
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub tube_bytes: u64,
    /// Of all tubes.
    pub bytes: u64,
    /// A job that has failed so often is buried.
    pub bury_after: u64,
}

pub struct Queue {
    pub limits: Limits,
    /// Set before each call.
    pub now: u64,
    pub began: u64,
    /// The tube of who has named none; it is always there.
    pub default: Name,
    pub jobs: HashMap<u64, Box<Job>, BuildHasherDefault<IdHasher>>,
    pub tubes: BTreeMap<Name, Tube>,
    pub clients: BTreeMap<ClientId, Client>,
    pub timers: Wheel<Due>,
    /// The clients to answer now.
    pub woken: VecDeque<(ClientId, Woken)>,
    /// The jobs whose stored fields have changed.
    pub changed: Vec<u64>,
    pub is_draining: bool,
    pub next_job: u64,
    /// The number given last: of a client, an arrival, a burial.
    pub last_number: u64,
    pub bytes: u64,
    pub timeouts: u64,
    pub total: u64,
    pub connections: u64,
    pub counts: [u64; COMMANDS.len()],
}

impl Queue {
    pub fn new(limits: Limits, now: u64) -> Queue {
        let mut timers = Wheel::new();
        timers.expire(now);
        let default: Name = "default".into();
        Queue {
            limits,
            now,
            began: now,
            jobs: HashMap::default(),
            tubes: BTreeMap::from([(default.clone(), Tube::default())]),
            default,
            clients: BTreeMap::new(),
            timers,
            woken: VecDeque::new(),
            changed: Vec::new(),
            is_draining: false,
            next_job: 1,
            last_number: 0,
            bytes: 0,
            timeouts: 0,
            total: 0,
            connections: 0,
            counts: [0; COMMANDS.len()],
        }
    }

    pub fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub fn join(&mut self) -> ClientId {
        let (id, name) = (self.number(), self.default.clone());
        self.of(&name).using += 1;
        self.of(&name).watching += 1;
        let client = Client { uses: name.clone(), watches: vec![name], ..Client::default() };
        self.clients.insert(id, client);
        self.connections += 1;
        id
    }

    /// Its jobs are ready for others.
    pub fn leave(&mut self, id: ClientId) {
        self.stop_waiting(id);
        for (_, job) in self.client(id).reserved.clone() {
            self.put_back(job, 0);
        }
        let Some(client) = self.clients.remove(&id) else { return };
        self.of(&client.uses).using -= 1;
        self.forget(&client.uses);
        for name in client.watches {
            self.of(&name).watching -= 1;
            self.forget(&name);
        }
    }

    /// # Panics
    /// If it has left.
    pub fn client(&mut self, id: ClientId) -> &mut Client {
        self.clients.get_mut(&id).expect("a client that is here")
    }

    /// The tube of that name, which may be new; `None` if there are too many.
    pub fn tube(&mut self, name: &str) -> Option<Name> {
        if let Some((name, _)) = self.tubes.get_key_value(name) {
            return Some(name.clone());
        }
        let name: Name = (self.tubes.len() < TUBES_MAX).then(|| name.into())?;
        self.tubes.insert(name.clone(), Tube::default());
        Some(name)
    }

    /// The tube of a job or a client.
    ///
    /// # Panics
    /// If it was forgotten, which no tube is that has either.
    pub fn of(&mut self, tube: &Name) -> &mut Tube {
        self.tubes.get_mut(tube).expect("a tube that is used")
    }

    /// Drops a tube that has no job and no client.
    pub fn forget(&mut self, name: &Name) {
        let is_unused = |tube: &Tube| (tube.bytes, tube.using, tube.watching) == (0, 0, 0);
        if self.tubes.get(name).is_some_and(is_unused) && *name != self.default {
            let tube = self.tubes.remove(name);
            tube.and_then(|tube| tube.unpause).map(|timer| self.timers.cancel(timer));
        }
    }

    /// Takes the room of a job.
    pub fn charge(&mut self, job: &Job) {
        let cost = JOB_BYTES + job.body.len() as u64;
        self.of(&job.tube).bytes += cost;
        self.bytes += cost;
    }

    /// Gives back the room of a job that is in no set.
    pub fn discharge(&mut self, job: &Job) {
        let cost = JOB_BYTES + job.body.len() as u64;
        self.of(&job.tube).bytes -= cost;
        self.bytes -= cost;
        self.forget(&job.tube);
    }

    /// A job of a client. It has its room, and is not in the queue yet. `None` if there is no room.
    pub fn make(&mut self, id: ClientId, numbers: [u64; 4], body: &[u8]) -> Option<Box<Job>> {
        let (cost, [pri, delay, ttr, _]) = (JOB_BYTES + body.len() as u64, numbers);
        let client = self.clients.get_mut(&id)?;
        let tube = self.tubes.get_mut(&client.uses)?;
        let Limits { tube_bytes, bytes, .. } = self.limits;
        if tube.bytes + cost > tube_bytes || self.bytes + cost > bytes {
            return None;
        }
        (tube.bytes, self.bytes) = (tube.bytes + cost, self.bytes + cost);
        (tube.total, self.total) = (tube.total + 1, self.total + 1);
        client.has_put = true;
        let (state, key) = match delay {
            0 => (State::Ready, pri),
            _ => (State::Delayed, after(self.now, delay)),
        };
        let id = self.next_job;
        self.next_job += 1;
        Some(Box::new(Job {
            id,
            tube: client.uses.clone(),
            pri,
            delay,
            ttr: ttr.max(1),
            created: self.now,
            body: body.into(),
            state,
            key,
            ..Job::default()
        }))
    }

    /// Puts a job into the queue that has its room: a new one, or one that was removed.
    pub fn insert(&mut self, job: Box<Job>) {
        let (id, state, key) = (job.id, job.state, job.key);
        if state == State::Buried {
            self.last_number = self.last_number.max(key); // Found in a journal.
        }
        self.jobs.insert(id, job);
        match state {
            State::Reserved => self.place(id, State::Ready),
            state => self.place_at(id, state, key),
        }
    }

    /// Takes a job out of the queue. It keeps its room until [`discharge`](Queue::discharge).
    pub fn remove(&mut self, id: u64) -> Option<Box<Job>> {
        self.lift(id);
        self.jobs.remove(&id)
    }

    /// Puts a job that is in no set into that of its new state, as of now.
    pub fn place(&mut self, id: u64, state: State) {
        let Some(job) = self.jobs.get(&id) else { return };
        let key = match state {
            State::Ready => job.pri,
            State::Delayed => after(self.now, job.delay),
            State::Reserved => after(self.now, job.ttr),
            State::Buried => self.number(),
        };
        self.place_at(id, state, key);
    }

    fn place_at(&mut self, id: u64, state: State, key: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(tube) = self.tubes.get_mut(&job.tube) else { return };
        (job.state, job.key) = (state, key);
        if state == State::Reserved {
            tube.reserved += 1;
            let client = self.clients.get_mut(&job.reserver);
            client.map(|client| client.reserved.insert((key, id)));
        } else {
            tube.sets[state as usize].insert((key, id));
        }
        match state {
            State::Reserved | State::Delayed => {
                job.timer = Some(self.timers.insert(key, Due::Job(id)));
            }
            State::Ready => {
                tube.urgent += u64::from(key < URGENT);
                let name = job.tube.clone();
                self.serve(&name);
            }
            State::Buried => {}
        }
    }

    /// Takes a job out of its set.
    pub fn lift(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(tube) = self.tubes.get_mut(&job.tube) else { return };
        if job.state == State::Reserved {
            tube.reserved -= 1;
            let client = self.clients.get_mut(&job.reserver);
            client.map(|client| client.reserved.remove(&(job.key, id)));
        } else {
            tube.sets[job.state as usize].remove(&(job.key, id));
        }
        tube.urgent -= u64::from(job.state == State::Ready && job.key < URGENT);
        job.timer.take().map(|timer| self.timers.cancel(timer));
    }
}

/// Hashes the numbers of jobs. The queue gives them, so no client can choose those that collide.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15); // 2^64 / the golden ratio
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// So many seconds after now, and not earlier: now was rounded down.
pub fn after(now: u64, seconds: u64) -> u64 {
    now + seconds * 1000 + 1
}
