//! The ledger: what was planned, begun and ended, as events, and what follows from them.
//!
//! Knows no loop and no clock. An event is decided, stored as a line of text, and only then applied,
//! by the same function as when it is read again after a crash, or comes from another worker:
//!
//! ```text
//!   known backup 1793300000000            its occurrences until then are taken care of
//!   due backup@1793300400000              planned. This is the id of the run: one for a minute
//!   begin backup@1793300400000 1 AT BY    its first attempt begins
//!   end backup@1793300400000 1 AT CODE AGAIN exit status: 0⏎output
//!   gone backup                           it is in the crontab no more
//! ```
//!
//! To apply one twice does no harm.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Runs that are over and kept, and the bytes of their output: 16 MiB.
pub const RUNS_MAX: usize = 1000;
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A run: its task's name, and the time for which it was due, in milliseconds since 1970.
pub type Id = String;

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Known { name: String, ms: i64 },
    Gone { name: String },
    Due { id: Id },
    Begin { id: Id, attempt: u32, at: i64, by: String },
    End { id: Id, attempt: u32, at: i64, end: End },
}

/// How an attempt ended. Without a code nothing has run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    pub code: Option<i32>,
    pub again: bool,
    pub how: String,
    pub output: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Waits,
    Runs,
    Over,
}

/// A run, as its last event has left it.
#[derive(Clone, Debug)]
pub struct Run {
    pub state: State,
    /// The attempt that runs, is to come, or was the last.
    pub attempt: u32,
    pub began: Option<i64>,
    pub ended: Option<i64>,
    pub by: String,
    pub end: Option<End>,
}

#[derive(Default)]
pub struct Ledger {
    pub runs: BTreeMap<Id, Run>,
    pub known: BTreeMap<String, i64>,
    /// Those that are over, in the order of their ends.
    pub over: VecDeque<Id>,
    output_bytes: usize,
}

pub fn id(name: &str, due_ms: i64) -> Id {
    format!("{name}@{due_ms}")
}

/// The name and the due time of an id.
pub fn parts(id: &str) -> Option<(&str, i64)> {
    let (name, ms) = id.split_once('@')?;
    Some((name, ms.parse().ok()?))
}

impl Event {
    pub fn encode(&self) -> Vec<u8> {
        let line = match self {
            Event::Known { name, ms } => format!("known {name} {ms}"),
            Event::Gone { name } => format!("gone {name}"),
            Event::Due { id } => format!("due {id}"),
            Event::Begin { id, attempt, at, by } => format!("begin {id} {attempt} {at} {by}"),
            Event::End { id, attempt, at, end } => {
                let code = end.code.map_or("-".to_owned(), |code| code.to_string());
                let (again, how) = (u8::from(end.again), end.how.replace('\n', " "));
                let line = format!("end {id} {attempt} {at} {code} {again} {how}\n");
                return [line.as_bytes(), &end.output].concat();
            }
        };
        line.into()
    }

    pub fn decode(record: &[u8]) -> Option<Event> {
        let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
        let (line, output) = record.split_at(end);
        let mut words = str::from_utf8(line).ok()?.splitn(7, ' ');
        let mut next = || words.next();
        let (word, name) = (next()?, next()?.to_owned());
        let id = || parts(&name).map(|_| name.clone());
        Some(match word {
            "known" => Event::Known { ms: next()?.parse().ok()?, name },
            "gone" => Event::Gone { name },
            "due" => Event::Due { id: id()? },
            "begin" => {
                let (attempt, at) = (next()?.parse().ok()?, next()?.parse().ok()?);
                Event::Begin { id: id()?, attempt, at, by: next()?.to_owned() }
            }
            "end" => {
                let (attempt, at) = (next()?.parse().ok()?, next()?.parse().ok()?);
                let (code, again) = (next()?.parse().ok(), next()? == "1");
                let (how, output) =
                    (next()?.to_owned(), output.get(1..).unwrap_or_default().into());
                Event::End { id: id()?, attempt, at, end: End { code, again, how, output } }
            }
            _ => return None,
        })
    }
}

impl Ledger {
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Known { name, ms } => self.know(name, *ms),
            Event::Gone { name } => drop(self.known.remove(name)),
            Event::Due { id } => {
                let (name, ms) = parts(id).expect("an event has a good id");
                self.know(name, ms);
                self.run(id);
            }
            Event::Begin { id, attempt, at, by } => {
                let run = self.run(id);
                if run.state == State::Over || *attempt < run.attempt {
                    return;
                }
                (run.state, run.attempt, run.began) = (State::Runs, *attempt, Some(*at));
                run.by.clone_from(by);
            }
            Event::End { id, attempt, at, end } => {
                let run = self.run(id);
                if run.state == State::Over || *attempt < run.attempt {
                    return;
                }
                run.attempt = attempt + u32::from(end.again);
                run.state = if end.again { State::Waits } else { State::Over };
                run.ended = Some(*at);
                let before = run.end.replace(end.clone());
                self.output_bytes += end.output.len();
                self.output_bytes -= before.map_or(0, |before| before.output.len());
                if !end.again {
                    self.over.push_back(id.clone());
                    self.forget_old();
                }
            }
        }
    }

    fn know(&mut self, name: &str, ms: i64) {
        let known = self.known.entry(name.to_owned()).or_insert(ms);
        *known = ms.max(*known);
    }

    fn run(&mut self, id: &str) -> &mut Run {
        let (state, by) = (State::Waits, String::new());
        let new = || Run { state, attempt: 1, began: None, ended: None, by, end: None };
        self.runs.entry(id.to_owned()).or_insert_with(new)
    }

    fn forget_old(&mut self) {
        while self.over.len() > RUNS_MAX || self.output_bytes > OUTPUT_BYTES_MAX {
            let Some(run) = self.over.pop_front().and_then(|id| self.runs.remove(&id)) else {
                return;
            };
            self.output_bytes -= run.end.map_or(0, |end| end.output.len());
        }
    }

    /// The last attempt of a run that has begun; 0 if none has, or nobody knows the run.
    pub fn begun(&self, id: &str) -> u32 {
        let run = self.runs.get(id);
        run.map_or(0, |run| run.attempt - u32::from(run.state == State::Waits))
    }

    /// Forgets the unfinished runs of others, if there are more than that: O(1) amortised.
    pub fn forget_others(&mut self, most: usize, is_ours: impl Fn(&str) -> bool) {
        if self.runs.len() > RUNS_MAX + most {
            self.runs.retain(|id, run| run.state == State::Over || is_ours(id));
        }
    }

    /// The runs of a task, the latest first.
    pub fn of(&self, name: &str) -> impl Iterator<Item = (&Id, &Run)> {
        // '@' and 'A' are neighbours.
        self.runs.range(format!("{name}@")..format!("{name}A")).rev()
    }

    pub fn unfinished(&self) -> Vec<Id> {
        let runs = self.runs.iter().filter(|(_, run)| run.state != State::Over);
        runs.map(|(id, _)| id.clone()).collect()
    }

    /// The events that make a ledger what this one is.
    pub fn events(&self) -> impl Iterator<Item = Event> + use<> {
        // A due run makes its task known, also if that has gone since.
        let names: BTreeSet<&str> = self.runs.keys().filter_map(|id| Some(parts(id)?.0)).collect();
        let gone: Vec<_> =
            names.iter().map(|name| Event::Gone { name: name.to_string() }).collect();
        let known = self.known.clone().into_iter().map(|(name, ms)| Event::Known { name, ms });
        let over = self.over.iter().filter_map(|id| Some((id, self.runs.get(id)?)));
        let not_over = self.runs.iter().filter(|(_, run)| run.state != State::Over);
        let runs = over.chain(not_over).map(|(id, run)| (id.clone(), run.clone()));
        let runs: Vec<_> = runs.collect();
        let runs = runs.into_iter().flat_map(|(id, run)| {
            let Run { state, attempt, began, ended, by, end } = run;
            let begin =
                |(attempt, at)| Event::Begin { id: id.clone(), attempt, at, by: by.clone() };
            let last = attempt - u32::from(state == State::Waits && end.is_some());
            let last = last - u32::from(state == State::Runs && end.is_some());
            let ended = ended.zip(end).map(|(at, end)| {
                let again = state != State::Over;
                Event::End { id: id.clone(), attempt: last, at, end: End { again, ..end } }
            });
            let running = (state == State::Runs).then_some(attempt);
            let begun = began.filter(|_| state != State::Runs).map(|at| begin((last, at)));
            let begins = running.zip(began).map(begin);
            let due = Event::Due { id: id.clone() };
            [Some(due), begun, ended, begins].into_iter().flatten().collect::<Vec<_>>()
        });
        runs.chain(gone).chain(known)
    }
}
