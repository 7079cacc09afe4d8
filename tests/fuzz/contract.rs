//! The contract as a model: which callback has to run next.
//!
//! Knows what was asked of the loop and nothing of how the loop does it. A turn goes through the
//! phases of `reactor/mod.rs`; whoever enters a callback asks [`Model::next`] whether it is the
//! one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Included};

use waterwheel::reactor::{
    BURST_MAX, DEFERRED_PER_TURN, Missed, POSTS_PER_TURN, RawId, Readiness, TIMERS_PER_TURN,
};

/// A callback, by what called for it; calls by their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Run {
    Hook(u64),
    Deferred(u64),
    Call(u64),
    Source(RawId, Readiness),
    Once(u64),
    /// When it was due, and how many runs were missed.
    Every(u64, u64, u64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Phase {
    #[default]
    Between,
    BeforePoll,
    Flush,
    Collect,
    AfterPoll,
    Dispatch,
    Idle,
}

#[derive(Clone, Copy, Debug)]
pub enum Item {
    Source(RawId),
    Timer(u64),
    /// The deadline of a source.
    Deadline(RawId),
    Call(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Repeat {
    Once,
    Every(u64, Missed),
    /// The deadline of a source.
    Source(RawId),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stand {
    Armed,
    /// Collected, and waits to run.
    Expired,
}

pub struct Timer {
    pub deadline: u64,
    pub armed: u64,
    pub repeat: Repeat,
    pub stand: Stand,
    pub referenced: bool,
}

pub struct Source {
    pub pending: Readiness,
    pub lane: usize,
    pub referenced: bool,
    pub flush: bool,
    pub touched: bool,
    pub deadline: Option<u64>,
}

/// What the mailbox holds.
#[derive(Default)]
pub struct Posts {
    pub waiting: Vec<u64>,
    pub inbox: VecDeque<u64>,
    /// Those of the inbox that count against the bound.
    pub taken: usize,
    /// Someone has knocked.
    pub knocked: bool,
    pub stop: bool,
    pub remotes: usize,
}

#[derive(Default)]
pub struct Model {
    pub phase: Phase,
    pub sources: HashMap<RawId, Source>,
    pub timers: HashMap<u64, Timer>,
    order: BTreeMap<(u64, u64), u64>,
    pub lanes: [VecDeque<Item>; 3],
    batch: [usize; 3],
    pub deferred: VecDeque<u64>,
    deferred_left: usize,
    /// Deferred callbacks come before whatever comes next.
    settling: bool,
    /// By number; the point they stand at.
    pub hooks: BTreeMap<u64, usize>,
    hooks_last: u64,
    hooks_done: u64,
    pub posts: Posts,
    pub touched: VecDeque<RawId>,
    pub resumed: Vec<(RawId, Readiness)>,
    pub script: VecDeque<Vec<(RawId, Readiness)>>,
    pub stopping: bool,
    /// The last tick that the turn's poll may have slept until.
    pub sleeps_until: u64,
    pub running: Option<Run>,
    numbers: u64,
    pub callbacks: u64,
    pub stale: u64,
    pub panicked: u64,
    ran_before: u64,
    /// Callbacks of the last turn, from its collection on.
    pub ran: u64,
}

impl Model {
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Whether the turn has not collected yet.
    pub fn is_before_collect(&self) -> bool {
        matches!(self.phase, Phase::BeforePoll | Phase::Flush | Phase::Collect)
    }

    pub fn begin_turn(&mut self) {
        self.deferred_left = DEFERRED_PER_TURN;
        self.begin_hooks(Phase::BeforePoll);
    }

    fn begin_hooks(&mut self, phase: Phase) {
        (self.phase, self.settling, self.hooks_done) = (phase, false, 0);
        self.hooks_last = self.hooks.keys().next_back().copied().unwrap_or(0);
    }

    /// The callback that has to run now; `None` at the end of the turn. `tick` is the turn's, `next`
    /// the first that does not begin before the turn's now.
    pub fn next(&mut self, tick: u64, next: u64) -> Option<Run> {
        let run = loop {
            if self.settling
                && self.deferred_left > 0
                && let Some(number) = self.deferred.pop_front()
            {
                self.deferred_left -= 1;
                break Some(Run::Deferred(number));
            }
            self.settling = false;
            match self.phase {
                Phase::Between => break None,
                Phase::BeforePoll | Phase::AfterPoll | Phase::Idle => {
                    let point = [Phase::BeforePoll, Phase::AfterPoll, Phase::Idle];
                    let point = point.iter().position(|phase| *phase == self.phase);
                    let left = (Excluded(self.hooks_done), Included(self.hooks_last));
                    let mut left = self.hooks.range(left).filter(|hook| Some(*hook.1) == point);
                    if let Some((&number, _)) = left.next() {
                        (self.hooks_done, self.settling) = (number, true);
                        break Some(Run::Hook(number));
                    }
                    self.after_hooks();
                }
                Phase::Flush => match self.touched.pop_front() {
                    Some(id) => {
                        if let Some(source) = self.sources.get_mut(&id) {
                            source.touched = false;
                            break Some(Run::Source(id, Readiness::FLUSH));
                        }
                    }
                    None => self.phase = Phase::Collect,
                },
                Phase::Collect => {
                    self.collect(tick);
                    self.ran_before = self.callbacks;
                    self.batch = [0, 1, 2].map(|lane| self.lanes[lane].len());
                    self.begin_hooks(Phase::AfterPoll);
                }
                Phase::Dispatch => match self.batch.iter().position(|left| *left > 0) {
                    Some(lane) => {
                        self.batch[lane] -= 1;
                        self.settling = true;
                        let item = self.lanes[lane].pop_front().expect("the batch is there");
                        match self.take(item, tick, next) {
                            Some(run) => break Some(run),
                            None => self.stale += 1,
                        }
                    }
                    None => {
                        self.ran = self.callbacks - self.ran_before;
                        let phase = if self.ran == 0 { Phase::Idle } else { Phase::Between };
                        self.begin_hooks(phase);
                    }
                },
            }
        };
        self.callbacks += match run {
            None | Some(Run::Hook(_) | Run::Source(_, Readiness::FLUSH)) => 0,
            Some(_) => 1,
        };
        self.running = run;
        run
    }

    fn after_hooks(&mut self) {
        self.phase = match self.phase {
            Phase::BeforePoll => Phase::Flush,
            Phase::AfterPoll => Phase::Dispatch,
            _ => Phase::Between,
        };
        self.settling = self.phase == Phase::Dispatch;
    }

    /// What was popped becomes a callback, unless its subject has gone or was put off.
    fn take(&mut self, item: Item, tick: u64, next: u64) -> Option<Run> {
        let key = match item {
            Item::Call(number) => return Some(Run::Call(number)),
            Item::Source(id) => {
                let source = self.sources.get_mut(&id)?;
                return Some(Run::Source(id, std::mem::take(&mut source.pending)));
            }
            Item::Timer(key) => key,
            // A source has one deadline: armed again, it is the same, as a timer that is re-armed.
            Item::Deadline(id) => self.sources.get(&id)?.deadline?,
        };
        let timer = self.timers.get_mut(&key).filter(|timer| timer.stand == Stand::Expired)?;
        let due = timer.deadline;
        match timer.repeat {
            Repeat::Once => {
                self.timers.remove(&key);
                Some(Run::Once(key))
            }
            Repeat::Source(id) => {
                self.set_deadline(id, None);
                Some(Run::Source(id, Readiness::DEADLINE))
            }
            Repeat::Every(period, missed) => {
                let behind = (tick - due) / period;
                let missed_runs = match missed {
                    Missed::Skip => behind,
                    Missed::Burst => (behind + 1).saturating_sub(BURST_MAX),
                    Missed::Delay => 0,
                };
                let due = due + missed_runs * period;
                let from = if missed == Missed::Delay { next } else { due };
                self.rearm(key, from.saturating_add(period));
                Some(Run::Every(key, due, missed_runs))
            }
        }
    }

    fn collect(&mut self, tick: u64) {
        let awake = self.is_busy() || self.stopping || !self.script.is_empty();
        self.sleeps_until = if awake { 0 } else { self.earliest().unwrap_or(u64::MAX) };
        for (id, ready) in self.script.pop_front().unwrap_or_default() {
            self.resume_or_count(id, ready);
        }
        for (id, ready) in std::mem::take(&mut self.resumed) {
            self.resume_or_count(id, ready);
        }
        for _ in 0..TIMERS_PER_TURN {
            let Some(due) = self.order.first_entry().filter(|due| due.key().0 <= tick) else {
                break;
            };
            let key = due.remove();
            let timer = self.timers.get_mut(&key).expect("armed");
            timer.stand = Stand::Expired;
            match timer.repeat {
                Repeat::Source(id) => {
                    self.lanes[self.sources[&id].lane].push_back(Item::Deadline(id));
                }
                _ => self.lanes[1].push_back(Item::Timer(key)),
            }
        }
        if self.posts.inbox.is_empty() && self.posts.knocked {
            self.posts.knocked = false;
            self.posts.inbox = std::mem::take(&mut self.posts.waiting).into();
        }
        for _ in 0..POSTS_PER_TURN {
            let Some(number) = self.posts.inbox.pop_front() else { break };
            self.lanes[1].push_back(Item::Call(number));
        }
        self.posts.taken = self.posts.inbox.len();
    }

    fn resume_or_count(&mut self, id: RawId, ready: Readiness) {
        self.stale += u64::from(!self.resume(id, ready));
    }

    pub fn resume(&mut self, id: RawId, ready: Readiness) -> bool {
        let Some(source) = self.sources.get_mut(&id) else { return false };
        if source.pending.is_none() && !ready.is_none() {
            self.lanes[source.lane].push_back(Item::Source(id));
        }
        source.pending |= ready;
        true
    }

    pub fn remove(&mut self, id: RawId) -> bool {
        let Some(source) = self.sources.remove(&id) else { return false };
        source.deadline.map(|key| self.forget(key));
        true
    }

    pub fn arm(&mut self, deadline: u64, repeat: Repeat) -> u64 {
        let (key, armed) = (self.number(), self.number());
        let referenced = !matches!(repeat, Repeat::Source(_));
        let timer = Timer { deadline, armed, repeat, stand: Stand::Armed, referenced };
        self.timers.insert(key, timer);
        self.order.insert((deadline, armed), key);
        key
    }

    pub fn rearm(&mut self, key: u64, deadline: u64) -> bool {
        let armed = self.number();
        let Some(timer) = self.timers.get_mut(&key) else { return false };
        self.order.remove(&(timer.deadline, timer.armed));
        (timer.deadline, timer.armed, timer.stand) = (deadline, armed, Stand::Armed);
        self.order.insert((deadline, armed), key);
        true
    }

    pub fn forget(&mut self, key: u64) -> bool {
        let Some(timer) = self.timers.remove(&key) else { return false };
        self.order.remove(&(timer.deadline, timer.armed));
        true
    }

    pub fn set_deadline(&mut self, id: RawId, tick: Option<u64>) -> bool {
        let Some(source) = self.sources.get(&id) else { return false };
        let deadline = match (source.deadline, tick) {
            (Some(key), Some(tick)) => {
                self.rearm(key, tick);
                Some(key)
            }
            (Some(key), None) => {
                self.forget(key);
                None
            }
            (None, tick) => tick.map(|tick| self.arm(tick, Repeat::Source(id))),
        };
        self.sources.get_mut(&id).expect("it is there").deadline = deadline;
        true
    }

    pub fn set_lane(&mut self, id: RawId, lane: usize) {
        self.sources.get_mut(&id).into_iter().for_each(|source| source.lane = lane);
    }

    pub fn set_source_referenced(&mut self, id: RawId, to: bool) {
        self.sources.get_mut(&id).into_iter().for_each(|source| source.referenced = to);
    }

    pub fn set_timer_referenced(&mut self, key: u64, to: bool) {
        self.timers.get_mut(&key).into_iter().for_each(|timer| timer.referenced = to);
    }

    /// Borrowed mutably: a source that is to be flushed will be, unless it is the one that runs.
    pub fn touch(&mut self, id: RawId) -> bool {
        let runs = matches!(self.running, Some(Run::Source(running, _)) if running == id);
        let Some(source) = self.sources.get_mut(&id) else { return false };
        if source.flush && !source.touched && !runs {
            source.touched = true;
            self.touched.push_back(id);
        }
        true
    }

    pub fn earliest(&self) -> Option<u64> {
        self.order.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Whether the loop has something to do and must not sleep.
    pub fn is_busy(&self) -> bool {
        let queued = self.lanes.iter().any(|lane| !lane.is_empty()) || !self.deferred.is_empty();
        let posted = self.posts.knocked || !self.posts.inbox.is_empty();
        queued || posted || !self.resumed.is_empty() || !self.touched.is_empty()
    }

    /// Whether `run` has a reason not to return (R8).
    pub fn is_alive(&self) -> bool {
        let is_call = |item: &Item| matches!(item, Item::Call(_));
        self.sources.values().any(|source| source.referenced)
            || self.timers.values().any(|timer| timer.referenced)
            || self.lanes.iter().flatten().any(is_call)
            || !self.deferred.is_empty()
            || !self.posts.inbox.is_empty()
            || !self.posts.waiting.is_empty()
            || self.posts.remotes > 0
    }

    pub fn take_stop(&mut self) -> bool {
        if self.posts.stop && self.posts.waiting.is_empty() {
            self.posts.knocked = false;
        }
        std::mem::take(&mut self.stopping) | std::mem::take(&mut self.posts.stop)
    }

    /// What runs has panicked. By policy it is dropped, or it ends the turn (R9).
    pub fn panic(&mut self, dropped: bool) {
        let running = self.running.take();
        if !dropped {
            self.phase = Phase::Between;
            self.settling = false;
            return;
        }
        self.panicked += 1;
        self.settling = self.phase == Phase::Dispatch;
        match running {
            Some(Run::Source(id, _)) => drop(self.remove(id)),
            Some(Run::Every(key, ..)) => drop(self.forget(key)),
            Some(Run::Hook(number)) => drop(self.hooks.remove(&number)),
            _ => {}
        }
    }
}
