//! Inspect: a page that shows a loop as it turns. Feature `inspect`.
//!
//! Knows the loop's public side and the HTTP server; the loop that is watched knows nothing of this.
//!
//! ```no_run
//! use waterwheel::{Reactor, inspect::Inspect};
//!
//! let inspect = Inspect::open("127.0.0.1:0")?; // prints the address of the page
//! let mut reactor = inspect.watch(Reactor::<()>::builder())?;
//! # reactor.run(&mut ())?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The page is not served by the loop that it shows: that one may stand still, or be in a callback
//! that does not end. It is served by its twin, another waterwheel on a thread of its own.
//!
//! ```text
//!   the loop's thread                                      the page's thread
//!   observer ── each record ──▸ ring ──▸ 30 times a second ──▸ server-sent events ──▸ page
//!   gate ◂── stop, step, run, a timer ── lock ◂── commands ◂── POST ◂───────────────── page
//! ```
//!
//! Without a page nothing is recorded: the gate is one load before each callback.
//!
//! # Who may see it
//! A page shows what a program does, and may stop it. So it listens on a loopback address unless
//! [`Setup::anywhere`] is called; the address has a token of 128 random bits; requests for other
//! hosts, and from other sites, are refused; and a page may only look unless [`Setup::control`] is
//! called.
//!
//! # Read next
//! `ring.rs`, `wire.rs`: a record's way to the page; `control.rs`: the gate; `serve.rs`: the page.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use crate::reactor::{Builder, Reactor, Remote, SourceId};
use crate::timers::TimerId;
use control::{Session, Side};
use serve::Desk;
use tables::SharedTables;

mod chrome;
mod commands;
mod control;
mod ctl;
mod doctor;
mod kernel;
mod key;
mod pages;
mod record;
mod ring;
mod serve;
mod steer;
mod tables;
mod unread;
mod wire;

pub use pages::RECORDS_PER_TICK;
pub use record::Record;
pub use serve::{PAGES_MAX, TICK};

/// What a command of the program's own answers: done, or why not, in one sentence.
pub type Answer = Result<(), String>;

/// A command of the program's own.
type Custom = Box<dyn FnMut(&Value) -> Answer + Send>;

/// A page that is served. Dropping it ends the page; the loops that were watched go on.
#[derive(Debug)]
pub struct Inspect {
    shared: Arc<Shared>,
    address: SocketAddr,
    token: String,
    remote: Remote<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// What the program's threads and the page's share.
struct Shared {
    setup: Setup,
    tables: SharedTables,
    now: Mutex<Now>,
}

/// What changes.
#[derive(Default)]
struct Now {
    session: Option<Arc<Session>>,
    sessions: u64,
    /// Words for sources and timers: a tag, index and generation.
    labels: Vec<(&'static str, (u32, u32), String)>,
    /// The version at which they have changed last.
    labelled: u64,
    /// The latest of each kind of event that the program publishes.
    published: Vec<Published>,
    /// Counts the changes of labels and events.
    version: u64,
}

/// An event of the program's own.
#[derive(Clone)]
struct Published {
    name: String,
    text: String,
    version: u64,
}

impl Shared {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("sessions", &self.now().sessions).finish_non_exhaustive()
    }
}

/// How a page is set up; see [`Inspect::setup`].
pub struct Setup {
    program: String,
    control: bool,
    anywhere: bool,
    framed_by: Option<String>,
    quiet: bool,
    files: Vec<(String, String)>,
    hello: Vec<(String, Value)>,
    commands: Mutex<Vec<(String, Custom)>>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("program", &self.program)
            .field("control", &self.control)
            .field("anywhere", &self.anywhere)
            .finish_non_exhaustive()
    }
}

impl Setup {
    /// Lets a page stop the loop, step it, slow its time and arm timers. Default: it may only look.
    pub fn control(mut self) -> Setup {
        self.control = true;
        self
    }

    /// Lets it listen on an address that other machines reach. The token is then all that keeps
    /// them out, and it is not encrypted. Default: only loopback addresses.
    pub fn anywhere(mut self) -> Setup {
        self.anywhere = true;
        self
    }

    /// Lets a page of another origin (`http://127.0.0.1:7100`) show this one in a frame. Default:
    /// none may.
    pub fn framed_by(mut self, origin: &str) -> Setup {
        self.framed_by = Some(origin.to_owned());
        self
    }

    /// Prints nothing; [`Inspect::url`] has the address.
    pub fn quiet(mut self) -> Setup {
        self.quiet = true;
        self
    }

    /// Gives the page the text of a source file, under the path that the compiler received:
    /// `.file(file!(), include_str!("main.rs"))`. A page can show no other files.
    pub fn file(mut self, path: &str, text: &str) -> Setup {
        self.files.push((path.replace('\\', "/"), text.to_owned()));
        self
    }

    /// Adds a value to the event `hello`, with which each page begins.
    pub fn hello(mut self, name: &str, value: Value) -> Setup {
        self.hello.push((name.to_owned(), value));
        self
    }

    /// Calls `handler` for commands that a page sends with `"do": name`. It runs on the page's
    /// thread. Only with [`control`](Setup::control).
    pub fn command<F>(self, name: &str, handler: F) -> Setup
    where
        F: FnMut(&Value) -> Answer + Send + 'static,
    {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.push((name.to_owned(), Box::new(handler)));
        drop(commands);
        self
    }

    /// Starts the thread that serves the page, and prints its address.
    ///
    /// # Errors
    /// The address is not a loopback address ([`anywhere`](Setup::anywhere) allows it), is in use
    /// or cannot be resolved; no thread or descriptor is left; the system has no random numbers.
    pub fn open(self, address: &str) -> io::Result<Inspect> {
        let mut addresses = address.to_socket_addrs()?;
        let address = addresses.next().ok_or_else(|| io::Error::other("no address"))?;
        if !self.anywhere && !address.ip().is_loopback() {
            let why = format!("{address} is no loopback address; `anywhere` allows others");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-.:/[]".contains(c);
        if let Some(origin) = self.framed_by.as_ref().filter(|origin| !origin.chars().all(is_plain))
        {
            let why = format!("{origin:?} is no origin, as http://127.0.0.1:7100 is");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let (token, quiet) = (new_token()?, self.quiet);
        let shared =
            Arc::new(Shared { setup: self, tables: SharedTables::new(), now: Mutex::default() });
        let (opened, answer) = mpsc::sync_channel(1);
        let (for_page, of_page) = (shared.clone(), token.clone());
        let thread = thread::Builder::new().name("inspect".to_owned()).spawn(move || {
            serve::run(for_page, &of_page, address, &opened);
        })?;
        let (address, remote) = answer
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the page's thread has ended")))?;
        let inspect = Inspect { shared, address, token, remote, thread: Some(thread) };
        if !quiet {
            println!("see the loop turn: {}", inspect.url());
        }
        Ok(inspect)
    }
}

/// 128 random bits, in hexadecimal digits.
fn new_token() -> io::Result<String> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Inspect {
    /// A page with the defaults: a loopback address, and only to look at. See [`Setup::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(address: &str) -> io::Result<Inspect> {
        Inspect::setup().open(address)
    }

    /// Sets up a page that differs from the default.
    pub fn setup() -> Setup {
        let program = std::env::args_os().next().unwrap_or_default();
        let program = std::path::Path::new(&program).file_stem().unwrap_or_default();
        Setup {
            program: program.to_string_lossy().into_owned(),
            control: false,
            anywhere: false,
            framed_by: None,
            quiet: false,
            files: Vec::new(),
            hello: Vec::new(),
            commands: Mutex::default(),
        }
    }

    /// The address of the page, with its token.
    pub fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }

    /// Makes a reactor that the page shows, in place of the one that it has shown so far.
    ///
    /// It has a [`PacedClock`](crate::timers::PacedClock) in place of the builder's clock, and a
    /// [gate](crate::Context::set_gate). The builder's observer still receives every record.
    ///
    /// Its time can be slowed, so `run` it, or `turn` it from a loop that may stand still: at the
    /// gate a stopped loop keeps its thread.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn watch<S: 'static>(&self, builder: Builder<S>) -> io::Result<Reactor<S>> {
        let mut now = self.shared.now();
        now.sessions += 1;
        let session = Arc::new(Session::new(now.sessions));
        let mut reactor = builder.paced(&session.clock).build()?;
        session.selector.open(&reactor);
        let remote = reactor.remote_unheld();
        let tables = self.shared.tables.clone();
        let mut side = Side::new(session.clone(), tables, remote);
        reactor.set_gate(move |context, _| {
            side.pass(context);
            true
        });
        if let Some(before) = now.session.replace(session) {
            before.release();
        }
        now.labels.clear();
        now.version += 1;
        now.labelled = now.version;
        drop(now);
        // The page's thread asks the new loop for records, if there is a page.
        let _ = self.remote.post(|reactor, desk| desk.tick(reactor));
        Ok(reactor)
    }

    /// Gives a source a word on the page, in place of its number.
    pub fn label<T>(&self, id: SourceId<T>, word: &str) {
        self.add_label("s", id.raw().parts(), word);
    }

    /// Gives a timer a word on the page.
    pub fn label_timer(&self, id: TimerId, word: &str) {
        self.add_label("t", id.parts(), word);
    }

    fn add_label(&self, tag: &'static str, id: (u32, u32), word: &str) {
        let mut now = self.shared.now();
        now.labels.retain(|(of, known, _)| (*of, *known) != (tag, id));
        if now.labels.len() == LABELS_MAX {
            now.labels.remove(0);
        }
        now.labels.push((tag, id, word.to_owned()));
        now.version += 1;
        now.labelled = now.version;
    }

    /// Sends an event of the program's own to every page, and the latest of each name to pages that
    /// come later.
    pub fn publish(&self, event: &str, value: &Value) {
        let mut now = self.shared.now();
        now.version += 1;
        let (name, text, version) = (event.to_owned(), value.to_string(), now.version);
        now.published.retain(|known| known.name != name);
        now.published.push(Published { name, text, version });
    }

    /// Pages that come later do not get the latest event of this name: it is out of date.
    pub fn retract(&self, event: &str) {
        self.shared.now().published.retain(|known| known.name != event);
    }

    /// Lets a loop that stands at the gate go on, and removes the breakpoints.
    pub fn release(&self) {
        if let Some(session) = &self.shared.now().session {
            session.release();
        }
    }
}

/// Words for sources and timers that are kept; the oldest are forgotten.
pub const LABELS_MAX: usize = 1000;

impl Drop for Inspect {
    fn drop(&mut self) {
        self.release();
        let _ = self.remote.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // It has said its panic itself.
        }
    }
}
