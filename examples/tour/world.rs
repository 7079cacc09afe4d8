//! The people's own world: a loop in which each of them is a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use waterwheel::inspect::{Answer, Inspect};
use waterwheel::net::{Conn, Event, Limits, tcp};
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor, SourceId};

use crate::people::{NAMES, Shared, TEXT_BYTES_MAX, said};
use crate::scene::{self, Line, What};

/// What one of them can do.
pub const ACTS: [&str; 6] = ["open", "send", "hold", "read", "fin", "reset"];

/// The latest bytes that somebody has received and the page shows.
const SHOWN_BYTES_MAX: usize = 1000;
/// How long somebody waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the page gets what has changed.
const TICK: Duration = Duration::from_millis(50);
/// Ticks from one look at the records to the next: they may be many.
const TICKS_PER_LOOK: u32 = 4;
/// How often somebody who plays the scene looks how far the loop is.
const PLAY_TICK: Duration = Duration::from_millis(10);
/// Ticks of a play until all are there and the loop is asleep: 3 s. A busy loop is stopped then.
const SETTLE_TICKS_MAX: u32 = 300;
/// Ticks of a play until the loop stands still: 15 s, in which a callback may compute.
const STOP_TICKS_MAX: u32 = 1500;
/// From the begin of a long callback to what comes while it computes.
const MEANWHILE: Duration = Duration::from_millis(500);

/// The pace of a clock that is not slowed.
const REAL_PACE: u32 = waterwheel::timers::PacedClock::REAL;

pub struct World {
    people: [Person; 3],
    address: Option<SocketAddr>,
    shared: Arc<Shared>,
    /// The number of the scene's run: what is late for one is not taken for another.
    run: u64,
    scene: usize,
    changed: bool,
    ticks: u32,
    /// The latest record that was looked at.
    seen: u64,
    proof_sent: bool,
    task_sent: bool,
    /// Counts the plays: a new one, or a new scene, ends the one before.
    play: u64,
    /// Counts what was shown, so that the same text is seen again.
    notices: u32,
    meanwhile: Vec<&'static Line>,
}

#[derive(Default)]
struct Person {
    conn: Option<SourceId<Conn>>,
    is_connecting: bool,
    /// The latest that it has received.
    got: Vec<u8>,
    sent: usize,
    holds: bool,
}

/// How far a play is.
#[derive(Clone, Copy)]
enum Play {
    /// Those who have gone connect, and the loop runs until it is asleep.
    Settle,
    /// The loop is to stand still, so that all lines arrive before its next turn.
    Stop,
    /// The lines are on their way.
    Sent,
}

impl World {
    pub fn new(shared: Arc<Shared>) -> World {
        World {
            people: Default::default(),
            address: None,
            shared,
            run: 0,
            scene: 0,
            changed: false,
            ticks: 0,
            seen: 0,
            proof_sent: false,
            task_sent: false,
            play: 0,
            notices: 0,
            meanwhile: Vec::new(),
        }
    }

    pub fn begin(&mut self, reactor: &mut Reactor<World>) {
        reactor.every(TICK, Missed::Skip, |_, world: &mut World, _| world.show());
    }

    pub fn begin_scene(
        &mut self,
        reactor: &mut Context<World>,
        (number, run): (usize, u64),
        address: SocketAddr,
    ) {
        for person in &mut self.people {
            if let Some(conn) = person.conn.take() {
                conn.abort(reactor);
            }
            *person = Person::default();
        }
        self.shared.expected().clear();
        (self.scene, self.run, self.address) = (number, run, Some(address));
        self.changed = true;
        (self.proof_sent, self.task_sent, self.seen) = (false, false, 0);
        self.play += 1;
        self.meanwhile.clear();
        self.connect_from(reactor, 0);
    }

    pub fn act(
        &mut self,
        reactor: &mut Context<World>,
        who: usize,
        act: &str,
        text: &str,
    ) -> Answer {
        self.changed = true;
        let name = NAMES[who];
        let person = &mut self.people[who];
        match (act, person.conn) {
            ("open", None) if !person.is_connecting => self.connect(reactor, who, false),
            ("open", _) => return Err(format!("{name:?} is connected already.")),
            (_, None) => return Err(format!("{name:?} is not connected.")),
            ("send", Some(conn)) => {
                let line = format!("{text}\n");
                if !conn.write(reactor, line.as_bytes()).is_taken() {
                    return Err(format!(
                        "{name:?} has not sent the text before that, or has ended."
                    ));
                }
                person.sent += line.len();
            }
            ("hold", Some(conn)) => person.holds = conn.pause(reactor),
            ("read", Some(conn)) => {
                conn.resume(reactor);
                person.holds = false;
            }
            ("fin", Some(conn)) => drop(conn.shutdown(reactor)),
            (_, Some(conn)) => drop(conn.abort(reactor)),
        }
        Ok(())
    }

    /// Those who are not there connect, one after the other, so that each gets its name.
    fn connect_from(&mut self, reactor: &mut Context<World>, first: usize) {
        let is_away = |who: &usize| {
            let person = &self.people[*who];
            person.conn.is_none() && !person.is_connecting
        };
        if let Some(who) = (first..NAMES.len()).find(is_away) {
            self.connect(reactor, who, true);
        }
    }

    fn connect(&mut self, reactor: &mut Context<World>, who: usize, and_the_next: bool) {
        let Some(address) = self.address else { return };
        let run = self.run;
        self.people[who].is_connecting = true;
        self.shared.expected().push_back(NAMES[who]);
        let connecting = tcp::connect(reactor, address, PATIENCE, move |reactor, world, stream| {
            if world.run != run {
                return;
            }
            world.people[who] = Person::default();
            world.changed = true;
            match stream {
                Ok(stream) => {
                    // Room for the largest text while another is on its way.
                    let outbox_bytes_max = 2 * TEXT_BYTES_MAX + 2;
                    let limits = Limits { outbox_bytes_max, ..Limits::default() };
                    let conn = stream.limits(limits).open(reactor, move |_, world, conn, event| {
                        World::receive(world, who, conn, event);
                    });
                    world.people[who].conn = Some(conn);
                }
                // Nobody listens any more.
                Err(_) => world.shared.expected().retain(|name| *name != NAMES[who]),
            }
            if and_the_next {
                world.connect_from(reactor, who + 1);
            }
        });
        if let Err(error) = connecting {
            self.people[who].is_connecting = false;
            eprintln!("tour: {} cannot connect: {error}", NAMES[who]);
        }
    }

    fn receive(&mut self, who: usize, conn: SourceId<Conn>, event: Event<'_>) {
        let person = &mut self.people[who];
        if person.conn != Some(conn) {
            return; // It belongs to the scene before.
        }
        match event {
            Event::Data(bytes) => {
                let bytes = &bytes[bytes.len().saturating_sub(SHOWN_BYTES_MAX)..];
                person.got.extend_from_slice(bytes);
                let surplus = person.got.len().saturating_sub(SHOWN_BYTES_MAX);
                person.got.drain(..surplus);
            }
            Event::Closed(_) => person.conn = None,
            _ => {}
        }
        self.changed = true;
    }

    // ---- Playing a scene. ----

    /// Begins to play the scene. What it does is seen on the page.
    pub fn play(reactor: &mut Context<World>, world: &mut World) -> Answer {
        if world.shared.inspect.get().is_none() {
            return Err("There is no page.".to_owned());
        }
        let stage = world.shared.stage().ok_or("There is no scene yet.")?;
        let ended = stage.loop_of_it.post(|_, _| {}).is_err();
        if ended || stage.run != world.run {
            return Err("The loop has ended; begin the scene again.".to_owned());
        }
        world.play += 1;
        world.meanwhile.clear();
        for (who, name) in NAMES.iter().enumerate() {
            if world.people[who].holds {
                let _ = world.act(reactor, who, "read", name);
            }
        }
        world.connect_from(reactor, 0);
        if let Some(inspect) = world.shared.inspect.get() {
            if scene::ALL[world.scene - 1].is_timed {
                inspect.set_pace(REAL_PACE);
            }
            inspect.run();
        }
        world.go_on_in(reactor, Play::Settle, 0);
        Ok(())
    }

    fn go_on_in(&mut self, reactor: &mut Context<World>, play: Play, ticks: u32) {
        let number = self.play;
        reactor.after(PLAY_TICK, move |reactor, world: &mut World| {
            if world.play == number {
                world.go_on(reactor, play, ticks + 1);
            }
        });
    }

    fn go_on(&mut self, reactor: &mut Context<World>, play: Play, ticks: u32) {
        let shared = self.shared.clone();
        let Some(inspect) = shared.inspect.get() else { return };
        match play {
            Play::Settle => {
                let are_there = self.people.iter().all(Person::is_there);
                if !(inspect.is_asleep() && are_there) && ticks < SETTLE_TICKS_MAX {
                    return self.go_on_in(reactor, play, ticks);
                }
                if !are_there {
                    return self.give_up("Not all can connect; begin the scene again.");
                }
                if !self.stop_loop(inspect) {
                    return self.give_up("The loop has ended; begin the scene again.");
                }
                self.go_on_in(reactor, Play::Stop, 0);
            }
            Play::Stop if !inspect.is_standing() => match ticks < STOP_TICKS_MAX {
                true => self.go_on_in(reactor, play, ticks),
                false => self.give_up("A callback does not return."),
            },
            Play::Stop => {
                let lines = scene::ALL[self.scene - 1].lines;
                self.meanwhile = lines.iter().filter(|line| line.meanwhile).collect();
                for line in lines.iter().filter(|line| !line.meanwhile) {
                    self.perform(reactor, line);
                }
                self.go_on_in(reactor, Play::Sent, 0);
            }
            Play::Sent => {
                inspect.step_turn();
                self.publish("played", json!({ "number": self.play }));
            }
        }
    }

    /// A loop that sleeps has no callback before which it could stand, so it gets one. Returns false
    /// if there is no loop any more.
    fn stop_loop(&self, inspect: &Inspect) -> bool {
        inspect.stop();
        self.shared.stage().is_some_and(|stage| stage.loop_of_it.post(|_, _| {}).is_ok())
    }

    /// The play ends here, and the page shows why.
    fn give_up(&mut self, why: &str) {
        self.notices += 1;
        self.publish("notice", json!({ "number": self.notices, "text": why }));
    }

    fn perform(&mut self, reactor: &mut Context<World>, line: &Line) {
        let Some(who) = NAMES.iter().position(|name| *name == line.name) else { return };
        let act = if matches!(line.what, What::Holds) { "hold" } else { "send" };
        let _ = self.act(reactor, who, act, &said(&line.what)); // Shown as not open.
    }

    /// A callback computes: what is to come in the middle of it comes soon.
    pub fn go_on_meanwhile(&mut self, reactor: &mut Context<World>) {
        let (run, lines) = (self.run, std::mem::take(&mut self.meanwhile));
        if lines.is_empty() {
            return;
        }
        reactor.after(MEANWHILE, move |reactor, world: &mut World| {
            if world.run == run {
                lines.into_iter().for_each(|line| world.perform(reactor, line));
            }
        });
    }

    // ---- What the page gets. ----

    /// Publishes something of this scene, and of this run of it.
    fn publish(&self, event: &str, mut value: Value) {
        (value["scene"], value["run"]) = (json!(self.scene), json!(self.run));
        self.shared.publish(event, &value);
    }

    fn show(&mut self) {
        if std::mem::take(&mut self.changed) {
            let people = NAMES.iter().zip(&self.people).map(|(name, person)| {
                json!({
                    "name": name,
                    "open": person.conn.is_some(),
                    "reading": !person.holds,
                    "got": String::from_utf8_lossy(&person.got),
                    "sent": person.sent,
                })
            });
            let people: Vec<_> = people.collect();
            self.shared.publish("peers", &json!({ "peers": people }));
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_LOOK) {
            self.look();
        }
    }

    /// Looks for the proof and for the task in the records of the scene.
    fn look(&mut self) {
        let Some(inspect) = self.shared.inspect.get() else { return };
        let latest = inspect.latest();
        if self.scene == 0 || (self.proof_sent && self.task_sent) || latest == self.seen {
            return;
        }
        // Another scene may have begun on the loop's side.
        if self.shared.stage().is_none_or(|stage| stage.run != self.run) {
            return;
        }
        self.seen = latest;
        let scene = &scene::ALL[self.scene - 1];
        let records = inspect.records();
        if !self.proof_sent
            && let Some(records) = scene.proof(&records)
        {
            self.publish("proof", json!({ "records": records }));
            self.proof_sent = true;
        }
        if !self.task_sent && (scene.task.is_done)(&records) {
            self.publish("task", json!({ "done": true }));
            self.task_sent = true;
        }
    }
}

impl Person {
    fn is_there(&self) -> bool {
        self.conn.is_some()
    }
}
