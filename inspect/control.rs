//! Control: the gate at which the loop stands, and the commands that reach it there.
//!
//! Knows the gate, the clock and the ring; never touches a socket. Two threads meet here, and a lock
//! is between them: the loop's, which passes the gate, and the page's, which gives commands. The
//! loop takes the lock only if it is to stop, or has something to look for; else the gate is one
//! load.
//!
//! ```text
//!  running ── stop ──▸ stopped ── step ──▸ one more callback, or the rest of the turn ──▸ stopped
//!     ▴                   │
//!     └────── run ────────┘          while the loop stands at the gate its clock stands, too
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::Answer;
use super::commands::{Command, carry_out};
use super::kernel::Selector;
use super::key;
use super::ring::{RECORDS_MAX, Ring};
use super::tables::{Numbers, SharedTables};
use crate::Context;
use crate::reactor::{PostError, Remote};
use crate::timers::PacedClock;

/// What the loop does when it comes to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Running,
    Stopped,
    /// One callback, then stopped.
    StepEvent,
    /// The rest of this turn, then stopped.
    StepTurn(u64),
}

/// A keyframe, and the session and the record that it belongs to.
#[derive(Debug)]
pub struct Key {
    pub sequence: u64,
    pub json: String,
    /// The sources in it.
    pub sources: Value,
}

/// What the two threads share of one loop.
#[derive(Debug)]
pub struct Session {
    /// Counted from 1: a program may show one loop after the other.
    pub number: u64,
    pub ring: Ring,
    pub clock: PacedClock,
    pub selector: Selector,
    state: Mutex<State>,
    /// The loop stands at the gate, and a command has come.
    changed: Condvar,
    /// True if the gate has to look at the state.
    look: AtomicBool,
    /// The turn, for a step to its end.
    turn: AtomicU64,
    /// The loop has begun to wait, and has not ended it.
    asleep: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// The loop stands at the gate now.
    standing: bool,
    /// The pace while it does not stand.
    pace: u32,
    commands: VecDeque<Command>,
    /// The post for the latest of them has found the program's mailbox full.
    is_unposted: bool,
    key: Option<Key>,
    breaks: Vec<(String, u32)>,
    /// Why there is no loop any more.
    ended: Option<&'static str>,
}

/// What a page is shown of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub mode: Mode,
    pub standing: bool,
    pub pace: u32,
    pub ended: Option<&'static str>,
}

/// Reaches a loop from another thread.
struct Waker {
    wake: Box<dyn Fn() + Send>,
    /// Posts: commands are carried out in a callback. Returns false if there is no room for posts.
    post: Box<dyn Fn() -> bool + Send>,
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

impl Session {
    pub fn new(number: u64) -> Session {
        let state = State {
            mode: Mode::Running,
            standing: false,
            pace: PacedClock::REAL,
            commands: VecDeque::new(),
            is_unposted: false,
            key: None,
            breaks: Vec::new(),
            ended: None,
        };
        Session {
            number,
            ring: Ring::new(RECORDS_MAX),
            clock: PacedClock::new(),
            selector: Selector::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            look: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- The page's thread. ----

    pub fn standing(&self) -> Standing {
        let State { mode, standing, pace, ended, .. } = *self.lock();
        Standing { mode, standing, pace, ended }
    }

    pub fn set_mode(&self, mode: Mode) {
        let mut state = self.lock();
        state.mode = match mode {
            // The turn in which the loop came to the gate last; one that sleeps is past it.
            Mode::StepTurn(_) => Mode::StepTurn(self.turn.load(Ordering::Relaxed)),
            mode => mode,
        };
        self.changed(state);
    }

    pub fn set_pace(&self, per_mille: u32) {
        let mut state = self.lock();
        state.pace = per_mille.min(PacedClock::REAL);
        self.changed(state);
    }

    /// Sets or removes a breakpoint at a place. A file is named by the end of its path.
    pub fn set_break(&self, file: &str, line: u32, on: bool) -> Answer {
        let mut state = self.lock();
        state.breaks.retain(|known| *known != (file.to_owned(), line));
        let is_full = on && state.breaks.len() == BREAKS_MAX;
        if is_full {
            return Err(format!("There are {BREAKS_MAX} breakpoints already: remove one."));
        }
        if on {
            state.breaks.push((file.to_owned(), line));
        }
        self.changed(state);
        Ok(())
    }

    /// The loop has to notice a change of mode, pace or breakpoints.
    fn changed(&self, state: MutexGuard<'_, State>) {
        let look = state.mode != Mode::Running || !state.breaks.is_empty();
        self.look.store(look, Ordering::Relaxed);
        // While it stands its clock stands; also while it sleeps and nobody has asked for a step. A
        // callback that runs is not stopped, so its time is not either.
        let asleep = self.asleep.load(Ordering::Relaxed);
        let stands = state.mode == Mode::Stopped && (state.standing || asleep);
        self.clock.set_pace(if stands { 0 } else { state.pace });
        self.changed.notify_all();
        drop(state);
        if let Some(waker) = &*self.waker() {
            (waker.wake)();
        }
    }

    /// Has a command carried out: at the gate, if the loop stands there, else by a post. One for a loop
    /// that has ended is of no use to anybody.
    pub fn command(&self, command: Command) -> Answer {
        let mut state = self.lock();
        if state.commands.len() >= COMMANDS_MAX {
            return Err(format!("The loop has not come to {COMMANDS_MAX} commands yet: wait."));
        }
        if state.ended.is_none() {
            state.commands.push_back(command);
            self.post(state);
        }
        Ok(())
    }

    /// Has the loop store a keyframe. Those that ask before it does so share one: it is not counted
    /// among the commands, and does not fail.
    pub fn want_key(&self) {
        let mut state = self.lock();
        if state.ended.is_none() && !state.commands.contains(&Command::Key) {
            state.commands.push_back(Command::Key);
            self.post(state);
        }
    }

    /// The loop learns that there are commands.
    fn post(&self, state: MutexGuard<'_, State>) {
        let standing = state.standing;
        self.changed.notify_all();
        drop(state);
        if !standing && let Some(waker) = &*self.waker() {
            let posted = (waker.post)();
            self.lock().is_unposted = !posted;
        }
    }

    /// Commands whose post has found no room in the program's mailbox are posted again.
    pub fn post_again(&self) {
        let state = self.lock();
        if state.is_unposted && !state.commands.is_empty() {
            self.post(state);
        }
    }

    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Notes if the loop sleeps, as its records say.
    pub fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::Relaxed);
    }

    /// The command that waits longest.
    pub fn next_command(&self) -> Option<Command> {
        self.lock().commands.pop_front()
    }

    pub fn take_key(&self) -> Option<Key> {
        self.lock().key.take()
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the loop go: it runs at its pace, and nothing stops it.
    pub fn release(&self) {
        let mut state = self.lock();
        state.mode = Mode::Running;
        state.breaks.clear();
        self.changed(state);
    }
}

/// Breakpoints at a time; one more is refused.
pub const BREAKS_MAX: usize = 64;
/// Commands that wait for the loop; one more is refused.
const COMMANDS_MAX: usize = 256;

/// The loop's side: it lives in the gate, and ends with the loop.
pub struct Side<S: 'static> {
    session: Arc<Session>,
    tables: SharedTables,
    numbers: Numbers,
    _state: std::marker::PhantomData<fn(&mut S)>,
}

impl<S: 'static> Side<S> {
    pub fn new(session: Arc<Session>, tables: SharedTables, remote: Remote<S>) -> Side<S> {
        let (posting, to) = (session.clone(), tables.clone());
        let waker = Waker {
            wake: Box::new({
                let remote = remote.clone();
                move || remote.wake()
            }),
            post: Box::new(move || {
                let (session, tables) = (posting.clone(), to.clone());
                let posted = remote.post(move |context: &mut Context<S>, _| {
                    let mut numbers = Numbers::new(tables.clone());
                    carry_out(&session, &tables, &mut numbers, context);
                });
                // A loop that is gone needs no commands.
                !matches!(posted, Err(PostError::Full(_)))
            }),
        };
        *session.waker() = Some(waker);
        let numbers = Numbers::new(tables.clone());
        Side { session, tables, numbers, _state: std::marker::PhantomData }
    }

    /// Called before each callback.
    pub fn pass(&mut self, context: &mut Context<S>) {
        if self.session.look.load(Ordering::Relaxed) {
            self.look(context);
        }
    }

    #[cold]
    fn look(&mut self, context: &mut Context<S>) {
        let turn = context.statistics().turns;
        self.session.turn.store(turn, Ordering::Relaxed);
        let mut state = self.session.lock();
        let is_break = context.upcoming().is_some_and(|(_, _, place)| {
            let mut breaks = state.breaks.iter();
            breaks.any(|(file, line)| place.line() == *line && place.file().ends_with(file))
        });
        match state.mode {
            Mode::StepTurn(of) if of == turn => return,
            Mode::StepEvent => {
                state.mode = Mode::Stopped;
                return;
            }
            Mode::Running if !is_break => return,
            Mode::Running | Mode::StepTurn(_) => state.mode = Mode::Stopped,
            Mode::Stopped => {}
        }
        drop(state);
        self.stand(context);
    }

    /// The loop stands here until it may go on.
    fn stand(&mut self, context: &mut Context<S>) {
        let session = self.session.clone();
        session.clock.set_pace(0);
        store_key(&session, &mut self.numbers, context);
        let mut state = session.lock();
        state.standing = true;
        loop {
            if !state.commands.is_empty() {
                drop(state);
                carry_out(&session, &self.tables, &mut self.numbers, context);
                store_key(&session, &mut self.numbers, context);
                state = session.lock();
                continue;
            }
            match state.mode {
                Mode::Stopped => {
                    state = session.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Mode::StepEvent => {
                    state.mode = Mode::Stopped;
                    break;
                }
                Mode::Running | Mode::StepTurn(_) => break,
            }
        }
        state.standing = false;
        // Time passes again until the next callback, also while the loop sleeps before it.
        session.clock.set_pace(state.pace);
    }
}

impl<S: 'static> Drop for Side<S> {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        (state.ended, state.standing) = (Some("run has returned, and the loop is gone"), false);
        drop(state);
        *self.session.waker() = None;
        self.session.selector.close();
    }
}

/// Stores a keyframe of this moment, for the page. Returns the number of its record.
pub fn store_key<S: 'static>(
    session: &Session,
    numbers: &mut Numbers,
    context: &Context<S>,
) -> u64 {
    let mut frame = key::frame(session.number, context, numbers);
    let sequence = frame["sequence"].as_u64().unwrap_or(0);
    let json = frame.to_string();
    session.lock().key = Some(Key { sequence, json, sources: frame["sources"].take() });
    sequence
}
