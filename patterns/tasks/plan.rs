//! The plan: the decisions of a task queue as plain data, from the due times to the records.
//!
//! Knows schedules, names and a wheel; never reads a clock or calls a task. Its caller passes the
//! time. For each task it keeps a value of type `T`, here a callback, and never uses it. So a queue
//! that outlives its process can be built on it.
//!
//! ```text
//!             advance                choose              begin           end
//!   schedule ─────────▶ waiting ───────────────▶ chosen ───────▶ running ────▶ Record
//!                 │        ▲   ▲ in the order of    │               │ failed, attempts left
//!       no room:  ▼        │   │ priority and due   │ paused        ▼
//!            skipped       │   └────────────────────┘           retrying
//!                          └────────────────────────────────────────┘ advance
//! ```
//!
//! The [`Overrun`](super::Overrun) of a task bounds its runs that are waiting, chosen, running or
//! retrying. The limit of the queue bounds all runs that are chosen or running.
//!
//! # Rules
//! 1. Each run that began ends once, with one record. An answer after that is counted as late.
//! 2. An occurrence is run, skipped or missed, and counted as one of them.
//! 3. A task or run that has gone leaves nothing on the wheel.
//!
//! # Read next
//! `plan/runs.rs`: its other half. Then `drive.rs`: how the loop acts on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;

use slab::Slab;

use super::record::{Counts, Outcome, Record};
use super::schedule::{Present, Timetable};
use super::task::{RunId, Settings, Task, TaskError, TaskId};
use super::{Limits, Moment, Schedule};
use crate::patterns::Random;
use crate::reactor::{Place, Priority};
use crate::timers::{Tick, TimerId, Wheel};

mod runs;
mod view;

/// The reason why the wheel wakes the plan.
enum Wake {
    /// To look at a task's timetable.
    Look(TaskId),
    Retry(TaskId, Attempt),
    Timeout(RunId),
}

/// One attempt at one occurrence.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    due: Moment,
    number: u32,
}

/// A task's place among those that may start: priority, due time, order of asking; and its index.
type Rank = (Priority, Tick, u64, u32);

struct Planned<T> {
    /// `None` while it is lent out.
    value: Option<T>,
    name: Arc<str>,
    generation: u32,
    settings: Settings,
    timetable: Timetable,
    /// The timer of the next look at the timetable, if there is one.
    look: Option<TimerId>,
    waiting: VecDeque<Attempt>,
    /// Its runs that are chosen or running: at most as many as `Overrun` allows at once.
    active: Vec<RunId>,
    retries: Vec<TimerId>,
    paused: bool,
    /// Its entry in `Plan::ranks`.
    rank: Option<Rank>,
    /// True if it is counted in `Plan::holding`.
    holds: bool,
    /// Occurrences skipped or missed since the last run began.
    passed: u64,
    last: Option<Outcome>,
    counts: Counts,
}

impl<T> Planned<T> {
    fn under_way(&self) -> usize {
        self.waiting.len() + self.active.len() + self.retries.len()
    }

    fn has_future(&self) -> bool {
        self.look.is_some() || self.under_way() > 0
    }
}

/// A run that was chosen. It has its slot until it ends.
struct Active {
    task: TaskId,
    attempt: Attempt,
    generation: u32,
    /// When it began; `None` while it is chosen.
    started: Option<Moment>,
    timeout: Option<TimerId>,
}

/// A run that is to begin.
pub(super) struct Chosen {
    pub(super) run: RunId,
    pub(super) priority: Priority,
    pub(super) place: Place,
}

/// A run that begins.
pub(super) struct Begun {
    pub(super) task: TaskId,
    pub(super) name: Arc<str>,
    pub(super) due: Moment,
    pub(super) attempt: u32,
    pub(super) passed: u64,
}

pub(super) struct Plan<T> {
    limits: Limits,
    tasks: Slab<Planned<T>>,
    names: BTreeMap<Arc<str>, TaskId>,
    wheel: Wheel<Wake>,
    /// The tasks with a waiting run that may start; one entry for each.
    ranks: BTreeSet<Rank>,
    runs: Slab<Active>,
    history: VecDeque<Record>,
    /// Records to be passed to `on_end`; kept only if there is such a callback.
    pub(super) news: Option<VecDeque<Record>>,
    /// Tasks that hold the loop.
    holding: usize,
    paused: bool,
    random: Random,
    /// Numbers ranks.
    asked: u64,
    /// The generation of the task or run that was made last.
    generation: u32,
    /// A buffer for occurrences that become due, kept for its memory.
    due: Vec<Moment>,
}

impl<T> Plan<T> {
    pub(super) fn new(limits: Limits, random: Random) -> Plan<T> {
        Plan {
            limits,
            tasks: Slab::new(),
            names: BTreeMap::new(),
            wheel: Wheel::new(),
            ranks: BTreeSet::new(),
            runs: Slab::new(),
            history: VecDeque::new(),
            news: None,
            holding: 0,
            paused: false,
            random,
            asked: 0,
            generation: 0,
            due: Vec::new(),
        }
    }

    pub(super) fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    pub(super) fn set_random(&mut self, random: Random) {
        self.random = random;
    }

    /// Adds a task; it is due by its schedule from now on.
    pub(super) fn add(&mut self, task: Task, value: T, now: Present) -> Result<TaskId, TaskError> {
        if self.names.contains_key(&task.name) {
            return Err(TaskError::Duplicate(task.name));
        }
        if self.tasks.len() >= self.limits.tasks_max {
            return Err(TaskError::Full(self.limits.tasks_max));
        }
        let generation = self.generation();
        let vacant = self.tasks.vacant_entry();
        let id = TaskId { index: vacant.key() as u32, generation };
        vacant.insert(Planned {
            value: Some(value),
            name: task.name.clone(),
            generation,
            settings: task.settings,
            timetable: Timetable::new(task.schedule, now),
            look: None,
            waiting: VecDeque::new(),
            active: Vec::new(),
            retries: Vec::new(),
            paused: false,
            rank: None,
            holds: false,
            passed: 0,
            last: None,
            counts: Counts::default(),
        });
        self.names.insert(task.name, id);
        self.arm_look(id, now);
        self.settle(id);
        Ok(id)
    }

    /// Removes a task and its runs under way; false if the id is stale.
    pub(super) fn remove(&mut self, id: TaskId, now: Present) -> bool {
        let Some(task) = self.task_mut(id) else { return false };
        let active = mem::take(&mut task.active);
        for run in active {
            self.finish(run, Outcome::Removed, now);
        }
        self.forget(id);
        true
    }

    fn forget(&mut self, id: TaskId) {
        let task = self.tasks.remove(id.index as usize);
        self.names.remove(&task.name);
        for timer in task.look.into_iter().chain(task.retries) {
            self.wheel.cancel(timer);
        }
        if let Some(rank) = task.rank {
            self.ranks.remove(&rank);
        }
        self.holding -= usize::from(task.holds);
    }

    /// Gives a task another schedule, from now on; runs under way go on. Returns false if stale.
    pub(super) fn set_schedule(&mut self, id: TaskId, schedule: Schedule, now: Present) -> bool {
        let Some(task) = self.task_mut(id) else { return false };
        task.timetable = Timetable::new(schedule, now);
        self.arm_look(id, now);
        self.settle(id);
        true
    }

    /// Makes a task due now, too, for a moment and as an attempt of that number. Returns false if it
    /// is stale or has no room for another run.
    pub(super) fn run_as(&mut self, id: TaskId, due: Moment, number: u32) -> bool {
        let accepted = self.submit(id, Attempt { due, number: number.max(1) });
        self.settle(id);
        accepted
    }

    /// Pauses or resumes a task. Returns false if the id is stale.
    pub(super) fn set_paused(&mut self, id: TaskId, paused: bool) -> bool {
        let Some(task) = self.task_mut(id) else { return false };
        task.paused = paused;
        self.settle(id);
        true
    }

    /// Pauses or resumes the whole queue.
    pub(super) fn set_all_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Sets if a task holds the loop while it has runs to come. Returns false if the id is stale.
    pub(super) fn set_referenced(&mut self, id: TaskId, referenced: bool) -> bool {
        let Some(task) = self.task_mut(id) else { return false };
        task.settings.referenced = referenced;
        self.settle(id);
        true
    }

    /// Acts on the expired timers: occurrences, attempts to repeat, timeouts; `budget` at most. The
    /// rest stays due.
    pub(super) fn advance(&mut self, now: Present, budget: usize) {
        for _ in 0..budget {
            let Some(timer) = self.wheel.expire(now.moment.tick.count()) else { return };
            match self.wheel.get(timer) {
                Some(&Wake::Look(id)) => self.look(id, now),
                Some(&Wake::Retry(id, attempt)) => {
                    self.wheel.cancel(timer);
                    if let Some(task) = self.task_mut(id) {
                        task.retries.retain(|retry| *retry != timer);
                        task.waiting.push_front(attempt);
                    }
                    self.settle(id);
                }
                Some(&Wake::Timeout(run)) => {
                    self.end(run, Outcome::TimedOut, now);
                }
                None => {}
            }
        }
    }

    /// The tick at which to advance again; `None` if nothing is to come.
    pub(super) fn next_wake(&self) -> Option<Tick> {
        self.wheel.next_deadline().map(Tick::new)
    }

    fn look(&mut self, id: TaskId, now: Present) {
        let mut due = mem::take(&mut self.due);
        if let Some(task) = self.task_mut(id) {
            let missed = task.timetable.fire(now.moment, task.settings.catch_up, &mut due);
            task.counts.missed += missed;
            task.passed += missed;
        }
        for due in due.drain(..) {
            self.submit(id, Attempt { due, number: 1 });
        }
        self.due = due;
        self.arm_look(id, now);
        self.settle(id);
    }

    fn submit(&mut self, id: TaskId, attempt: Attempt) -> bool {
        let Some(task) = self.task_mut(id) else { return false };
        let room = task.under_way() < task.settings.overrun.most();
        if room {
            task.waiting.push_back(attempt);
        } else {
            task.counts.skipped += 1;
            task.passed += 1;
        }
        room
    }

    /// Arms the wheel for the next look at a timetable, and reports the error if the next
    /// occurrence is unknown.
    fn arm_look(&mut self, id: TaskId, now: Present) {
        let Some(task) = self.tasks.get_mut(id.index as usize) else { return };
        if let Some(why) = task.timetable.take_trouble() {
            self.tell_trouble(id, why, now);
        }
        let Some(task) = self.tasks.get_mut(id.index as usize) else { return };
        match (task.timetable.look_at(id.index), task.look) {
            (Some(tick), Some(timer)) => {
                self.wheel.rearm(timer, tick.count());
            }
            (Some(tick), None) => task.look = Some(self.wheel.insert(tick.count(), Wake::Look(id))),
            (None, Some(timer)) => {
                self.wheel.cancel(timer);
                task.look = None;
            }
            (None, None) => {}
        }
    }

    /// Updates the values that follow from a task's state: its rank, and its hold on the loop.
    /// O(log tasks).
    fn settle(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id.index as usize) else { return };
        let Settings { priority, overrun, referenced, .. } = task.settings;
        let may_start = !task.paused && task.active.len() + task.retries.len() < overrun.at_once();
        let first = task.waiting.front().filter(|_| may_start);
        let is = first.map(|first| (priority, first.due.tick));
        if is != task.rank.map(|(priority, due, ..)| (priority, due)) {
            if let Some(rank) = task.rank.take() {
                self.ranks.remove(&rank);
            }
            if let Some((priority, due)) = is {
                self.asked += 1;
                let rank = (priority, due, self.asked, id.index);
                self.ranks.insert(rank);
                task.rank = Some(rank);
            }
        }
        let holds = referenced && task.has_future();
        self.holding = self.holding + usize::from(holds) - usize::from(task.holds);
        task.holds = holds;
    }

    fn task_mut(&mut self, id: TaskId) -> Option<&mut Planned<T>> {
        self.tasks.get_mut(id.index as usize).filter(|task| task.generation == id.generation)
    }

    fn generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// Lends a task's value out; `None` if the id is stale or it is lent already.
    pub(super) fn take(&mut self, id: TaskId) -> Option<T> {
        self.task_mut(id)?.value.take()
    }

    /// Puts a value back, if its task is still there.
    pub(super) fn put(&mut self, id: TaskId, value: T) {
        if let Some(task) = self.task_mut(id) {
            task.value = Some(value);
        }
    }
}
