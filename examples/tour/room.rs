//! The state of each scene: who is there, and what the scene counts.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use waterwheel::net::Conn;
use waterwheel::reactor::RawId;
use waterwheel::timers::TimerId;
use waterwheel::{Context, SourceId};

use crate::people::{NAMES, People};
use crate::scene::Knob;

/// Computes for so long.
pub type Computing = Box<dyn FnMut(&Context<Room>, Duration)>;

/// The chat's members, by name, and what a scene keeps.
pub struct Room {
    pub members: Vec<(&'static str, SourceId<Conn>)>,
    pub count: u64,
    pub timer: Option<TimerId>,
    pub listener: Option<RawId>,
    knobs: Knobs,
    /// A test moves its clock instead.
    pub computing: Computing,
    /// They write the names on the page; a test has none.
    people: Option<People>,
}

impl Room {
    pub fn new(knobs: Knobs, people: Option<People>) -> Room {
        Room {
            members: Vec::new(),
            count: 0,
            timer: None,
            listener: None,
            knobs,
            computing: Box::new(compute),
            people,
        }
    }

    /// They connect one after the other, so it is known which one joins. Without that, a new member
    /// gets the first name that is free.
    pub fn join(&mut self, conn: SourceId<Conn>) {
        let is_free = |name: &&&str| self.members.iter().all(|(taken, _)| taken != *name);
        let free = NAMES.iter().find(is_free).copied();
        let expected = self.people.as_ref().and_then(People::who_connects);
        let name = expected.or(free).unwrap_or("guest");
        self.members.push((name, conn));
        self.label(conn, name);
    }

    pub fn leave(&mut self, conn: SourceId<Conn>) {
        self.members.retain(|(_, member)| *member != conn);
    }

    /// A member has another id from now on.
    pub fn replace(&mut self, old: SourceId<Conn>, new: SourceId<Conn>) {
        if let Some(member) = self.members.iter_mut().find(|(_, member)| *member == old) {
            member.1 = new;
            let name = member.0;
            self.label(new, name);
        }
    }

    fn label(&self, conn: SourceId<Conn>, name: &str) {
        if let Some(people) = &self.people {
            people.label(conn, name);
        }
    }

    pub fn find(&self, name: &str) -> Option<SourceId<Conn>> {
        self.members.iter().find(|(known, _)| *known == name).map(|(_, conn)| *conn)
    }

    /// Sends a line to all members.
    pub fn say(&mut self, reactor: &mut Context<Room>, text: &str) {
        for (_, conn) in &self.members {
            let _ = conn.write(reactor, format!("{text}\n").as_bytes());
        }
    }

    /// The members but one, as a list of its own: a callback may change the room.
    pub fn others(&self, but: SourceId<Conn>) -> Vec<SourceId<Conn>> {
        self.members.iter().map(|(_, conn)| *conn).filter(|conn| *conn != but).collect()
    }

    /// The value of a knob on the page.
    pub fn knob(&self, name: &str) -> u64 {
        self.knobs.value(name)
    }

    /// Counts one more. Returns true until there are as many as the knob says; the next count then
    /// begins at 0.
    pub fn count_to(&mut self, knob: &str) -> bool {
        self.count += 1;
        let goes_on = self.count < self.knob(knob);
        if !goes_on {
            self.count = 0;
        }
        goes_on
    }

    /// Computes for so long, and lets nothing else run meanwhile.
    pub fn compute(&mut self, reactor: &Context<Room>, long: Duration) {
        if let Some(people) = &self.people {
            people.go_on_meanwhile();
        }
        (self.computing)(reactor, long);
    }
}

/// The longest that a callback computes if the page has slowed the loop's clock.
const COMPUTING_MAX: Duration = Duration::from_secs(5);

/// Computes until so much time has passed on the loop's own clock.
fn compute(reactor: &Context<Room>, long: Duration) {
    let (began, real) = (reactor.stamp().nanos(), Instant::now());
    while u128::from(reactor.stamp().nanos().saturating_sub(began)) < long.as_nanos()
        && real.elapsed() < COMPUTING_MAX
    {
        std::hint::spin_loop();
    }
}

/// A slow hash, as one of a password is: it hashes its own result again, for so long.
pub fn hash(text: &[u8], long: Duration) -> u64 {
    let (began, mut hash) = (Instant::now(), 0_u64);
    loop {
        let mut hasher = DefaultHasher::new();
        (hash, text).hash(&mut hasher);
        hash = hasher.finish();
        if began.elapsed() >= long {
            return hash;
        }
    }
}

/// The values of a scene's knobs. The page's thread sets them, and the loop reads them.
#[derive(Clone)]
pub struct Knobs(Arc<[(&'static Knob, AtomicU64)]>);

impl Knobs {
    /// Each with the value with which the scene begins.
    pub fn new(knobs: &'static [Knob]) -> Knobs {
        Knobs(knobs.iter().map(|knob| (knob, AtomicU64::new(knob.value))).collect())
    }

    /// # Panics
    /// If the scene has no knob of this name: its own code asks for it.
    pub fn value(&self, name: &str) -> u64 {
        let knob = self.0.iter().find(|(knob, _)| knob.name == name);
        knob.unwrap_or_else(|| panic!("no knob {name:?}")).1.load(Ordering::Relaxed)
    }

    /// Sets one, or returns why not, in one sentence.
    pub fn set(&self, name: &str, value: Option<u64>) -> Result<(), String> {
        let found = self.0.iter().find(|(knob, _)| knob.name == name);
        let Some((knob, stored)) = found else {
            return Err(format!("This scene has no knob {name:?}."));
        };
        let (min, max) = (knob.min, knob.max);
        let value = value.filter(|value| (min..=max).contains(value));
        let value = value.ok_or(format!("\"value\" is a whole number from {min} to {max}."))?;
        stored.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// All names and values.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(knob, value)| (knob.name, value.load(Ordering::Relaxed)))
    }
}
