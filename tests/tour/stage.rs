//! A scene on its stage: the loop, its records, and real clients that are driven between its turns.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::Reactor;
use waterwheel::inspect::Record;
use waterwheel::reactor::{Kind, Recorder};
use waterwheel::timers::ManualClock;

use crate::people::{self, NAMES};
use crate::proof;
use crate::room::{Knobs, Room};
use crate::scene::{self, ALL, Scene};

/// Turns after which an experiment ends if all is sent, and turns in a row in which nothing runs.
pub const TURNS_MAX: usize = 3000;
pub const IDLE_TURNS_MAX: usize = 200;
/// How long the kernel may keep bytes; those for a connection that is gone never arrive.
const PATIENCE: Duration = Duration::from_millis(300);

/// One of the people.
pub struct Client {
    pub stream: Option<TcpStream>,
    pub to_send: VecDeque<u8>,
    pub got: Vec<u8>,
    pub holds: bool,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        Client { stream: Some(stream), to_send: VecDeque::new(), got: Vec::new(), holds: false }
    }

    /// Sends and receives what is possible now. Returns true if nothing is left to send.
    pub fn go_on(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        // Not more in a turn than a reader takes in it: only one who holds is slow.
        let some = self.to_send.len().min(65_536);
        match stream.write(&self.to_send.make_contiguous()[..some]) {
            Ok(count) => drop(self.to_send.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.to_send.clear(), // The server has closed it.
        }
        let mut bytes = [0; 65_536];
        while !self.holds {
            match self.stream.as_mut().map(|stream| stream.read(&mut bytes)) {
                Some(Ok(count)) if count > 0 => self.got.extend_from_slice(&bytes[..count]),
                Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => break,
                Some(_) => self.stream = None,
                None => break,
            }
        }
        self.to_send.is_empty() || self.stream.is_none()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.got).into_owned()
    }
}

/// What comes while a callback computes.
pub type Meanwhile = Rc<RefCell<Vec<(TcpStream, String)>>>;

/// A scene that runs.
pub struct Stage {
    pub scene: &'static Scene,
    pub reactor: Reactor<Room>,
    pub room: Room,
    pub knobs: Knobs,
    recorder: Recorder,
    pub address: SocketAddr,
    pub people: Vec<Client>,
    pub records: Vec<Record>,
    meanwhile: Meanwhile,
    said_bytes: u64,
    received_bytes: u64,
}

impl Stage {
    /// Scene `number`, with all three connected, one after the other.
    pub fn begin(number: usize) -> Stage {
        let mut stage = Stage::set_up(number);
        for _ in NAMES {
            stage.people.push(Client::connect(stage.address));
            stage.until(|stage| stage.room.members.len() == stage.people.len());
        }
        stage.until(|stage| stage.reactor.statistics().turns > 50);
        stage
    }

    /// Scene `number`, with nobody.
    pub fn set_up(number: usize) -> Stage {
        let scene = &ALL[number - 1];
        let (clock, recorder) = (ManualClock::new(), Recorder::new());
        let builder = Reactor::builder().clock(&clock).observer(recorder.observer());
        let mut reactor = builder.build().unwrap();
        let knobs = Knobs::new(scene.knobs);
        let mut room = Room::new(knobs.clone(), None);
        let meanwhile = Meanwhile::default();
        let come = meanwhile.clone();
        room.computing = Box::new(move |_, long| {
            clock.advance(long / 4);
            for (mut stream, text) in come.take() {
                stream.write_all(text.as_bytes()).unwrap();
            }
            clock.advance(long - long / 4);
        });
        let address = (scene.code.build)(&mut reactor, &mut room).unwrap();
        Stage {
            scene,
            reactor,
            room,
            knobs,
            recorder,
            address,
            people: Vec::new(),
            records: Vec::new(),
            meanwhile,
            said_bytes: 0,
            received_bytes: 0,
        }
    }

    pub fn person(&mut self, name: &str) -> &mut Client {
        let who = NAMES.iter().position(|known| *known == name).unwrap();
        &mut self.people[who]
    }

    /// What somebody says reaches the loop's socket before its next turn.
    pub fn say(&mut self, name: &str, text: &str) {
        self.said_bytes += text.len() as u64 + 1;
        let person = self.person(name);
        person.to_send.extend(text.as_bytes());
        person.to_send.push_back(b'\n');
        person.go_on();
    }

    /// One turn. Returns true if nothing ran, and nobody has something to send.
    pub fn turn(&mut self) -> bool {
        let busy = self.people.iter_mut().map(Client::go_on).filter(|sent| !sent).count();
        let ran = self.reactor.turn(&mut self.room, Some(Duration::from_secs(1))).unwrap();
        let records = self.recorder.take();
        let received = records.iter().filter(|record| record.kind == Kind::Received);
        self.received_bytes += received.map(|record| u64::from(record.argument)).sum::<u64>();
        self.records.extend(records.iter().map(Record::from));
        ran == 0 && busy == 0
    }

    pub fn until(&mut self, done: impl Fn(&Stage) -> bool) {
        for _ in 0..1_000_000 {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("it does not come to that");
    }

    /// Until somebody's callback has run: the turn after that is the next.
    pub fn until_received(&mut self) {
        let before = proof::lines(&self.records, 0).count();
        self.until(|stage| proof::lines(&stage.records, 0).count() > before);
    }

    /// Until nothing happens any more; a timer that repeats may go on.
    pub fn go_on(&mut self) {
        let (mut idle, mut turns, mut last) = (0, 0, Instant::now());
        while (idle < IDLE_TURNS_MAX && turns < TURNS_MAX)
            || (self.received_bytes < self.said_bytes && last.elapsed() < PATIENCE)
        {
            let received = self.received_bytes;
            (idle, turns) = if self.turn() { (idle + 1, turns + 1) } else { (0, turns + 1) };
            if self.received_bytes > received {
                (idle, turns, last) = (0, 0, Instant::now());
            }
        }
    }

    /// What the people do in the scene.
    pub fn play(&mut self) {
        for line in self.scene.lines {
            let said = people::said(&line.what);
            match line.what {
                scene::What::Holds => self.person(line.name).holds = true,
                _ if line.meanwhile => {
                    let stream = self.person(line.name).stream.as_ref().unwrap();
                    let later = (stream.try_clone().unwrap(), said + "\n");
                    self.meanwhile.borrow_mut().push(later);
                }
                _ => self.say(line.name, &said),
            }
        }
        self.go_on();
    }

    pub fn is_task_done(&self) -> bool {
        (self.scene.task.is_done)(&self.records)
    }
}

/// What takes long on the page takes no time here.
pub fn set_small(stage: &Stage) {
    if stage.scene.knobs.iter().any(|knob| knob.name == "hash_ms") {
        stage.knobs.set("hash_ms", Some(1)).unwrap();
    }
}
