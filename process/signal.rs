//! Signals of the process, as events in the queue.
//!
//! Knows signal-hook, which does the part that needs care; never mentions the use of a signal.
//!
//! A real signal handler may run between any two instructions, and so is allowed to do very little
//! (signal-safety(7)). The one of signal-hook notes the number and writes a byte to a socket of the
//! loop; the rest is ordinary sources:
//!
//! ```text
//!   SIGINT ─▶ signal-hook: noted, one byte ─▶ hub, a source ─resume─▶ handler, handler, …
//!             in any thread, at any time      one turn                the next, in order
//! ```
//!
//! # Rules
//! 1. Signals merge, as in the kernel: a signal that comes twice before its handlers run is one.
//! 2. Handlers of a signal run in the order in which they were added, each as a callback of its
//!    own.
//! 3. Every loop of the process that handles a signal gets it.
//! 4. A handler holds the loop only after [`reref`](Context::reref): a program that waits for
//!    Ctrl-C usually waits for something else as well.
//! 5. A signal that was handled once has no default action any more: after its last handler has
//!    gone it does nothing. [`Signal::default_action`] does the default action.
//! 6. A handled signal arrives, even if the parent of this process has ignored or blocked it. A
//!    program inherits from its parent the ignored signals (nohup(1)) and the blocked ones
//!    (execve(2)). A handled signal is not ignored any more, and the loop's thread unblocks it. All
//!    other signals stay as they are.
//!
//! A blocked signal is unblocked in one thread, the loop's, and that is enough: the kernel gives a
//! signal of the process to any thread that does not block it. Threads that this one starts later,
//! workers too, inherit its mask; existing threads keep theirs, and the children that they start
//! inherit it.
//!
//! # Read next
//! `child/mod.rs`: a use of SIGCHLD.

use std::fmt;
use std::io;
use std::mem;

use mio::{Interest, Registry, Token};
use nix::sys::signal::{SigSet, Signal as Named};
use signal_hook::consts::{FORBIDDEN, signal};
use signal_hook::low_level;
use signal_hook_mio::v1_0::Signals;

use crate::reactor::{Context, Messages, Options, RawId, Readiness, SourceId};

/// The highest signal number of any system; the kernel refuses numbers that it does not have.
const SIGNAL_MAX: i32 = 127;

/// A signal, see signal(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// The terminal has hung up; for a daemon, by custom: read the configuration again.
    pub const HUP: Signal = Signal(signal::SIGHUP);
    /// Ctrl-C.
    pub const INT: Signal = Signal(signal::SIGINT);
    /// Ctrl-\.
    pub const QUIT: Signal = Signal(signal::SIGQUIT);
    /// Asks the process to end.
    pub const TERM: Signal = Signal(signal::SIGTERM);
    /// Ends the process. Can be sent, not handled.
    pub const KILL: Signal = Signal(signal::SIGKILL);
    /// For the program's own use.
    pub const USR1: Signal = Signal(signal::SIGUSR1);
    /// For the program's own use.
    pub const USR2: Signal = Signal(signal::SIGUSR2);
    /// A child has ended, or was stopped or continued.
    pub const CHLD: Signal = Signal(signal::SIGCHLD);
    /// Goes on after a stop.
    pub const CONT: Signal = Signal(signal::SIGCONT);
    /// Ctrl-Z.
    pub const TSTP: Signal = Signal(signal::SIGTSTP);
    /// Stops the process. Can be sent, not handled.
    pub const STOP: Signal = Signal(signal::SIGSTOP);
    /// The terminal has another size.
    pub const WINCH: Signal = Signal(signal::SIGWINCH);

    /// The signal of that number, which need not exist.
    pub fn from_raw(number: i32) -> Signal {
        Signal(number)
    }

    /// Its number.
    pub fn as_raw(self) -> i32 {
        self.0
    }

    /// Carries out the default action of this signal: most signals end the process, and its parent
    /// learns by which one. For instance at a second Ctrl-C.
    ///
    /// # Errors
    /// There is no such signal.
    pub fn default_action(self) -> io::Result<()> {
        low_level::emulate_default_handler(self.0)
    }

    /// Unblocks the signal in the calling thread. Signals without a name, the real-time ones, are
    /// unblocked all together: there is no safe call for a single one.
    fn unblock(self) -> io::Result<()> {
        let set = match Named::try_from(self.0) {
            Ok(named) => SigSet::from(named),
            Err(_) => {
                let mut set = SigSet::all();
                Named::iterator().for_each(|named| set.remove(named));
                set
            }
        };
        Ok(set.thread_unblock()?)
    }

    fn refuse(self, why: impl fmt::Display) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, format!("cannot handle {self}: {why}"))
    }

    /// Fails if the signal cannot be handled: signal-hook would panic then.
    fn check(self) -> io::Result<()> {
        match self.0 {
            signal::SIGKILL | signal::SIGSTOP => Err(self.refuse("no process can")),
            _ if FORBIDDEN.contains(&self.0) => {
                Err(self.refuse("it reports a fault in the program that is running"))
            }
            1..=SIGNAL_MAX => Ok(()),
            _ => Err(self.refuse("there is no such signal")),
        }
    }
}

/// `SIGINT`, or `signal 34` where there is no name.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match low_level::signal_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// A signal's handler, as a source of the loop. Remove it to end the handling.
#[derive(Debug)]
pub struct OnSignal(Signal);

impl OnSignal {
    /// Which signal.
    pub fn signal(&self) -> Signal {
        self.0
    }
}

/// Names a handler of a signal.
pub type SignalId = SourceId<OnSignal>;

/// The hub of a loop; `None` until a signal is asked for.
#[derive(Default)]
struct OfLoop(Option<SourceId<Hub>>);

/// A receiver of a signal.
#[derive(Clone, Copy)]
enum Waiter {
    Handler(SourceId<OnSignal>),
    Source(RawId),
}

impl Waiter {
    fn id(self) -> RawId {
        match self {
            Waiter::Handler(id) => id.raw(),
            Waiter::Source(id) => id,
        }
    }

    /// Returns true if it is still there, and will be called.
    fn wake<S: 'static>(self, reactor: &mut Context<S>) -> bool {
        match self {
            Waiter::Handler(id) => reactor.send_message(id, CAME),
            Waiter::Source(id) => reactor.resume(id, Readiness::READABLE),
        }
    }
}

/// The message of the hub to a handler: its signal has come. Nobody else can send it.
#[derive(Clone, Copy, Debug)]
pub struct Came(());

const CAME: Came = Came(());

impl From<Came> for u8 {
    fn from(_: Came) -> u8 {
        0
    }
}

impl Messages for OnSignal {
    type Message = Came;
}

/// The source at which a loop's signals arrive.
struct Hub {
    signals: Signals,
    /// The sources to resume, in order. Stale ids stay until the next use of the list.
    waiters: Vec<(Signal, Waiter)>,
}

impl mio::event::Source for Hub {
    fn register(&mut self, registry: &Registry, token: Token, to: Interest) -> io::Result<()> {
        self.signals.register(registry, token, to)
    }
    fn reregister(&mut self, registry: &Registry, token: Token, to: Interest) -> io::Result<()> {
        self.signals.reregister(registry, token, to)
    }
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.signals.deregister(registry)
    }
}

impl<S: 'static> Context<S> {
    /// Calls `callback` whenever the process gets `signal`. It does not hold the loop. The rules
    /// are in the head of `process/signal.rs`.
    ///
    /// ```
    /// use waterwheel::{Reactor, process::Signal};
    ///
    /// let mut reactor = Reactor::<()>::new()?;
    /// for signal in [Signal::INT, Signal::TERM] {
    ///     reactor.on_signal(signal, |reactor, _, signal| {
    ///         println!("{signal}: good bye");
    ///         reactor.stop();
    ///     })?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// The signal cannot be handled or does not exist; out of descriptors.
    #[track_caller]
    pub fn on_signal<F>(&mut self, signal: Signal, mut callback: F) -> io::Result<SignalId>
    where
        F: FnMut(&mut Context<S>, &mut S, Signal) + 'static,
    {
        self.signal_hub(signal)?;
        let handler = OnSignal(signal);
        let call = move |reactor: &mut Context<S>, state: &mut S, _, ready: Readiness| {
            if ready.has_message::<OnSignal>(CAME) {
                callback(reactor, state, signal);
            }
        };
        let options = Options::default();
        let id = self.try_own(handler, options, call)?;
        self.unref(id);
        self.wake_on_signal(signal, Waiter::Handler(id))?;
        Ok(id)
    }

    /// For authors of sources: resumes a source with [`Readiness::READABLE`] whenever the process
    /// gets `signal`, until the source has gone. O(sources that wait for a signal).
    ///
    /// # Errors
    /// As [`on_signal`](Context::on_signal).
    #[track_caller]
    pub fn resume_on_signal(&mut self, signal: Signal, id: impl Into<RawId>) -> io::Result<()> {
        self.wake_on_signal(signal, Waiter::Source(id.into()))
    }

    #[track_caller]
    fn wake_on_signal(&mut self, signal: Signal, waiter: Waiter) -> io::Result<()> {
        let hub = self.signal_hub(signal)?;
        let mut waiters = mem::take(&mut self[hub].waiters);
        waiters.retain(|(_, waiter)| self.contains(waiter.id()));
        waiters.push((signal, waiter));
        self[hub].waiters = waiters;
        Ok(())
    }

    /// Lets the process survive `signal` from now on, also without a handler.
    #[track_caller]
    pub fn catch_signal(&mut self, signal: Signal) -> io::Result<()> {
        self.signal_hub(signal).map(drop)
    }

    /// The hub, listening for `signal`. It is made when it is first needed.
    #[track_caller]
    fn signal_hub(&mut self, signal: Signal) -> io::Result<SourceId<Hub>> {
        signal.check()?;
        let hub = match self.extension::<OfLoop>().0.filter(|hub| self.contains(*hub)) {
            Some(hub) => hub,
            None => {
                let hub = Hub { signals: Signals::new([0; 0])?, waiters: Vec::new() };
                let hub = self.register(hub, Interest::READABLE, |reactor, _, hub, _| {
                    take_signals(reactor, hub);
                })?;
                self.unref(hub);
                *self.extension::<OfLoop>().0.insert(hub)
            }
        };
        // A second call does nothing. A blocked signal that waits comes when the handler is there.
        match self[hub].signals.add_signal(signal.0).and_then(|()| signal.unblock()) {
            Ok(()) => Ok(hub),
            Err(error) => Err(signal.refuse(error)),
        }
    }
}

/// Resumes the sources that wait for the signals that have come.
fn take_signals<S: 'static>(reactor: &mut Context<S>, id: SourceId<Hub>) {
    let hub = &mut reactor[id];
    let came: Vec<i32> = hub.signals.pending().collect();
    let mut waiters = mem::take(&mut hub.waiters);
    waiters.retain(|(signal, waiter)| match came.contains(&signal.0) {
        true => waiter.wake(reactor),
        false => reactor.contains(waiter.id()),
    });
    reactor[id].waiters = waiters;
}
