//! The people: Ann, Bob and Cleo, real TCP clients of the scene that runs.
//!
//! They live in a loop of their own, on a thread of their own: while the scene's loop stands still
//! they may go on typing, as people do.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use waterwheel::inspect::{Answer, Inspect};
use waterwheel::net::{Conn, Event, Pressure, tcp};
use waterwheel::reactor::{Builder, Missed, Remote};
use waterwheel::{Context, Reactor, SourceId};

use crate::room::Room;
use crate::scene;

pub const NAMES: [&str; 3] = ["ann", "bob", "cleo"];

/// The latest bytes that somebody has received and the page shows.
const SHOWN_BYTES_MAX: usize = 1000;
/// The longest text that one of them says at a time: a large paste.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long somebody waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the page gets what has changed.
const TICK: Duration = Duration::from_millis(50);

/// A handle to their loop.
#[derive(Clone)]
pub struct People {
    remote: Remote<World>,
    inspect: Arc<OnceLock<Inspect>>,
    /// The loop of the scene that runs.
    scene: Arc<Mutex<Option<Remote<Room>>>>,
}

struct World {
    people: [Person; 3],
    address: Option<SocketAddr>,
    inspect: Arc<OnceLock<Inspect>>,
    scene: usize,
    changed: bool,
    proof_sent: bool,
}

#[derive(Default)]
struct Person {
    conn: Option<SourceId<Conn>>,
    /// The latest that it has received.
    got: Vec<u8>,
    sent: usize,
    holds: bool,
}

impl People {
    /// Starts their thread.
    pub fn start() -> io::Result<People> {
        let inspect: Arc<OnceLock<Inspect>> = Arc::default();
        let of_world = inspect.clone();
        let (started, answer) = mpsc::sync_channel(1);
        thread::Builder::new().name("people".to_owned()).spawn(move || {
            let mut world = World {
                people: Default::default(),
                address: None,
                inspect: of_world,
                scene: 0,
                changed: false,
                proof_sent: false,
            };
            match Reactor::new() {
                Ok(mut reactor) => {
                    reactor.every(TICK, Missed::Skip, |_, world: &mut World, _| world.show());
                    let _ = started.send(Ok(reactor.remote()));
                    if let Err(error) = reactor.run(&mut world) {
                        eprintln!("tour: the people's loop has ended: {error}");
                    }
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        let remote = answer.recv().map_err(io::Error::other)??;
        Ok(People { remote, inspect, scene: Arc::default() })
    }

    /// From now on there is a page.
    pub fn show_on(&self, inspect: Inspect) {
        let _ = self.inspect.set(inspect);
    }

    pub fn watch(&self, builder: Builder<Room>) -> io::Result<Reactor<Room>> {
        match self.inspect.get() {
            Some(inspect) => inspect.watch(builder),
            None => builder.build(),
        }
    }

    pub fn label(&self, conn: SourceId<Conn>, name: &str) {
        if let Some(inspect) = self.inspect.get() {
            inspect.label(conn, name);
        }
    }

    /// The page shows another scene from now on.
    pub fn announce(&self, number: usize) {
        if let Some(inspect) = self.inspect.get() {
            inspect.publish("scene", &json!({ "n": number }));
        }
    }

    /// A scene has begun: all connect to it, one after the other.
    pub fn begin_scene(&self, number: usize, address: SocketAddr, remote: Remote<Room>) {
        *self.scene.lock().unwrap_or_else(|lock| lock.into_inner()) = Some(remote);
        let _ = self.remote.post(move |reactor, world| {
            world.leave(reactor);
            (world.address, world.scene, world.proof_sent) = (Some(address), number, false);
            world.open(reactor, 0);
        });
    }

    /// Ends the scene that runs, also if its loop stands still.
    pub fn end_scene(&self) {
        let scene = self.scene.lock().unwrap_or_else(|lock| lock.into_inner());
        if let Some(remote) = &*scene {
            let _ = remote.stop();
        }
        if let Some(inspect) = self.inspect.get() {
            inspect.release();
        }
    }

    /// `{"do":"peer","name":"ann","act":"send","text":"hello"}`.
    pub fn command(&self, command: &Value) -> Answer {
        let name = command["name"].as_str().unwrap_or_default();
        let who = NAMES.iter().position(|known| *known == name);
        let who = who.ok_or(format!("There is nobody called {name:?}."))?;
        let act = command["act"].as_str().unwrap_or_default().to_owned();
        if !ACTS.contains(&&*act) {
            return Err(format!("{act:?} is no act; there are {}.", ACTS.join(", ")));
        }
        let text = command["text"].as_str().unwrap_or_default().to_owned();
        let size = command["bytes"].as_u64().unwrap_or(0) as usize;
        if text.len() > TEXT_BYTES_MAX || size > TEXT_BYTES_MAX {
            return Err(format!("Nobody says more than {TEXT_BYTES_MAX} bytes at a time."));
        }
        let text = if size > 0 { "x".repeat(size) } else { text };
        let posted = self.remote.post(move |reactor, world| world.act(reactor, who, &act, &text));
        posted.map_err(|_| "The people have gone.".to_owned())
    }
}

const ACTS: [&str; 6] = ["open", "send", "hold", "read", "fin", "reset"];

impl World {
    fn act(&mut self, reactor: &mut Context<World>, who: usize, act: &str, text: &str) {
        self.changed = true;
        let Some(conn) = self.people[who].conn else {
            if act == "open" {
                self.connect(reactor, who, false);
            }
            return;
        };
        match act {
            "send" => {
                let line = format!("{text}\n");
                if matches!(
                    conn.write(reactor, line.as_bytes()),
                    Pressure::Below | Pressure::AboveHigh
                ) {
                    self.people[who].sent += line.len();
                }
            }
            "hold" => {
                self.people[who].holds = conn.pause(reactor);
            }
            "read" => {
                conn.resume(reactor);
                self.people[who].holds = false;
            }
            "fin" => drop(conn.shutdown(reactor)),
            "reset" => drop(conn.abort(reactor)),
            _ => {}
        }
    }

    /// Somebody connects; then the next does, so that each gets its name.
    fn open(&mut self, reactor: &mut Context<World>, who: usize) {
        if who < NAMES.len() {
            self.connect(reactor, who, true);
        }
    }

    fn connect(&mut self, reactor: &mut Context<World>, who: usize, and_the_next: bool) {
        let Some(address) = self.address else { return };
        let scene = self.scene;
        let connecting = tcp::connect(reactor, address, PATIENCE, move |reactor, world, stream| {
            if world.scene != scene {
                return;
            }
            if let Ok(stream) = stream {
                let conn = stream.open(reactor, move |_, world: &mut World, conn, event| {
                    world.hear(who, conn, event);
                });
                world.people[who] = Person { conn: Some(conn), ..Person::default() };
                world.changed = true;
            }
            if and_the_next {
                world.open(reactor, who + 1);
            }
        });
        if let Err(error) = connecting {
            eprintln!("tour: {} cannot connect: {error}", NAMES[who]);
        }
    }

    fn hear(&mut self, who: usize, conn: SourceId<Conn>, event: Event<'_>) {
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

    fn leave(&mut self, reactor: &mut Context<World>) {
        for person in &mut self.people {
            if let Some(conn) = person.conn.take() {
                conn.abort(reactor);
            }
            *person = Person::default();
        }
        self.changed = true;
    }

    fn show(&mut self) {
        let Some(inspect) = self.inspect.get() else { return };
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
            inspect.publish("peers", &json!({ "peers": people.collect::<Vec<_>>() }));
        }
        if !self.proof_sent
            && self.scene > 0
            && let Some(records) = scene::ALL[self.scene - 1].proof(&inspect.records())
        {
            inspect.publish("proof", &json!({ "scene": self.scene, "records": records }));
            self.proof_sent = true;
        }
    }
}
