//! The people: Ann, Bob and Cleo, real TCP clients of the scene that runs.
//!
//! They live in a loop of their own, on a thread of their own (`world.rs`): while the scene's loop
//! stands still they may go on typing, as people do. Here is the handle to them, for the thread of
//! the scenes and for the page's.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};
use waterwheel::inspect::{Answer, Inspect};
use waterwheel::net::Conn;
use waterwheel::reactor::{Builder, Remote};
use waterwheel::{Context, Reactor, SourceId};

use crate::room::{Knobs, Room};
use crate::scene::{self, What};
use crate::world::{ACTS, World};

pub const NAMES: [&str; 3] = ["ann", "bob", "cleo"];

/// The longest text that one of them says at a time: a large paste.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What is shown of a scene, and is out of date when another one begins.
const OF_A_SCENE: [&str; 4] = ["proof", "task", "played", "notice"];
/// How long the page waits for an answer of the people's loop, which never stands still.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A handle to their loop.
#[derive(Clone)]
pub struct People {
    remote: Remote<World>,
    shared: Arc<Shared>,
}

/// What the threads share.
#[derive(Default)]
pub struct Shared {
    pub inspect: OnceLock<Inspect>,
    stage: Mutex<Option<Stage>>,
    /// Those who have begun to connect, and have not joined yet.
    expected: Mutex<VecDeque<&'static str>>,
}

/// The scene that runs.
#[derive(Clone)]
pub struct Stage {
    pub number: usize,
    /// Counts the scenes that have run.
    pub run: u64,
    pub loop_of_it: Remote<Room>,
    knobs: Knobs,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn stage(&self) -> Option<Stage> {
        lock(&self.stage).clone()
    }

    pub fn expected(&self) -> MutexGuard<'_, VecDeque<&'static str>> {
        lock(&self.expected)
    }

    pub fn publish(&self, event: &str, value: &Value) {
        if let Some(inspect) = self.inspect.get() {
            inspect.publish(event, value);
        }
    }
}

impl People {
    /// Starts their thread.
    pub fn start() -> io::Result<People> {
        let shared: Arc<Shared> = Arc::default();
        let of_world = shared.clone();
        let (started, answer) = mpsc::sync_channel(1);
        thread::Builder::new().name("people".to_owned()).spawn(move || {
            let mut world = World::new(of_world);
            match Reactor::new() {
                Ok(mut reactor) => {
                    world.begin(&mut reactor);
                    let _ = started.send(Ok(reactor.remote()));
                    if let Err(error) = reactor.run(&mut world) {
                        eprintln!("tour: the people's loop has ended: {error}");
                    }
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        let remote = answer.recv().map_err(io::Error::other)??;
        Ok(People { remote, shared })
    }

    /// From now on there is a page.
    pub fn show_on(&self, inspect: Inspect) {
        let _ = self.shared.inspect.set(inspect);
    }

    pub fn watch(&self, builder: Builder<Room>) -> io::Result<Reactor<Room>> {
        match self.shared.inspect.get() {
            Some(inspect) => inspect.watch(builder),
            None => builder.build(),
        }
    }

    pub fn label(&self, conn: SourceId<Conn>, name: &str) {
        if let Some(inspect) = self.shared.inspect.get() {
            inspect.label(conn, name);
        }
    }

    /// The page shows another scene from now on.
    pub fn announce(&self, number: usize) {
        self.shared.publish("scene", &json!({ "n": number }));
    }

    /// The one who connects now.
    pub fn who_connects(&self) -> Option<&'static str> {
        self.shared.expected().pop_front()
    }

    /// A callback has begun to compute: the lines for the time meanwhile come soon.
    pub fn go_on_meanwhile(&self) {
        let _ = self.remote.post(|reactor, world| world.go_on_meanwhile(reactor));
    }

    /// A scene has begun: all connect to it, one after the other.
    pub fn begin_scene(
        &self,
        number: usize,
        address: SocketAddr,
        loop_of_it: Remote<Room>,
        knobs: Knobs,
    ) {
        let run = self.shared.stage().map_or(1, |before| before.run + 1);
        *lock(&self.shared.stage) = Some(Stage { number, run, loop_of_it, knobs });
        if let Some(inspect) = self.shared.inspect.get() {
            OF_A_SCENE.iter().for_each(|event| inspect.retract(event));
        }
        self.shared.publish("scene", &json!({ "n": number, "run": run }));
        self.publish_knobs();
        let _ = self.remote.post(move |reactor, world| {
            world.begin_scene(reactor, (number, run), address);
        });
    }

    fn publish_knobs(&self) {
        if let Some(stage) = self.shared.stage() {
            let values: Map<String, Value> =
                stage.knobs.all().map(|(name, value)| (name.to_owned(), json!(value))).collect();
            self.shared.publish(
                "knobs",
                &json!({ "scene": stage.number, "run": stage.run, "values": values }),
            );
        }
    }

    /// Ends the scene that runs, also if its loop stands still.
    pub fn end_scene(&self) {
        if let Some(stage) = self.shared.stage() {
            let _ = stage.loop_of_it.stop();
        }
        if let Some(inspect) = self.shared.inspect.get() {
            inspect.release();
        }
    }

    /// Has the people's loop do something, and returns its answer.
    fn have<F>(&self, what: F) -> Answer
    where
        F: FnOnce(&mut Context<World>, &mut World) -> Answer + Send + 'static,
    {
        let (answer, answered) = mpsc::sync_channel(1);
        let posted = self.remote.post(move |reactor, world| {
            let _ = answer.send(what(reactor, world)); // Nobody has waited so long.
        });
        posted.map_err(|_| "The people have gone.".to_owned())?;
        let answer = answered.recv_timeout(ANSWER_WITHIN);
        answer.unwrap_or_else(|_| Err("The people do not answer.".to_owned()))
    }

    /// `{"do":"peer","name":"ann","act":"send","text":"hello"}`; with `bytes`, so many of them.
    pub fn peer(&self, command: &Value) -> Answer {
        let name = text(command, "name")?;
        let who = NAMES.iter().position(|known| *known == name);
        let who = who.ok_or(format!("There is nobody called {name:?}."))?;
        let act = text(command, "act")?.to_owned();
        if !ACTS.contains(&&*act) {
            return Err(format!("{act:?} is no act; there are {}.", ACTS.join(", ")));
        }
        let size = match &command["bytes"] {
            Value::Null => None,
            bytes => Some(bytes.as_u64().ok_or("\"bytes\" is a whole number.")? as usize),
        };
        let said = match (&*act, size) {
            ("send", None) => text(command, "text")?.to_owned(),
            ("send", Some(size)) if size <= TEXT_BYTES_MAX => "x".repeat(size),
            ("send", Some(_)) => return Err(TOO_MUCH.to_owned()),
            _ => String::new(),
        };
        if said.len() > TEXT_BYTES_MAX {
            return Err(TOO_MUCH.to_owned());
        }
        self.have(move |reactor, world| world.act(reactor, who, &act, &said))
    }

    /// `{"do":"play"}`: stops the loop, has the people do what the scene is about, and leaves the
    /// loop before the first callback that this causes.
    pub fn play(&self, _: &Value) -> Answer {
        self.have(World::play)
    }

    /// `{"do":"knob","name":"times","value":100}`.
    pub fn knob(&self, command: &Value) -> Answer {
        let stage = self.shared.stage().ok_or("There is no scene yet.")?;
        stage.knobs.set(text(command, "name")?, command["value"].as_u64())?;
        self.publish_knobs();
        Ok(())
    }

    /// `{"do":"act","name":"unref"}`.
    pub fn act(&self, command: &Value) -> Answer {
        let stage = self.shared.stage().ok_or("There is no scene yet.")?;
        let name = text(command, "name")?;
        let act = scene::ALL[stage.number - 1].acts.iter().find(|act| act.name == name);
        let act = act.ok_or(format!("This scene has no act {name:?}."))?;
        let posted = stage.loop_of_it.post(move |reactor, room| (act.run)(reactor, room));
        posted.map_err(|_| "The loop has ended; begin the scene again.".to_owned())
    }
}

const TOO_MUCH: &str = "Nobody says more than 16,777,216 bytes at a time.";

/// A text in a command.
fn text<'a>(command: &'a Value, name: &str) -> Result<&'a str, String> {
    command[name].as_str().ok_or_else(|| format!("\"{name}\" is a text."))
}

/// The number of a scene in `{"do":"scene","n":3}`.
pub fn scene_number(command: &Value) -> Result<usize, String> {
    let last = scene::ALL.len();
    let number = command["n"].as_u64().filter(|number| (1..=last as u64).contains(number));
    number.map(|number| number as usize).ok_or(format!("\"n\" is a scene, from 1 to {last}."))
}

/// What somebody says in a line of the scene.
pub fn said(what: &What) -> String {
    match what {
        What::Says(text) => (*text).to_owned(),
        What::Pastes(bytes) => "x".repeat(*bytes - 1), // And the end of the line.
        What::Holds => String::new(),
    }
}
