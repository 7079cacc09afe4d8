//! The part of the plan that begins and ends runs.
//!
//! # Read next
//! `view.rs`: read access to the plan.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::{Active, Attempt, Begun, Chosen, Plan, Wake};
use crate::patterns::tasks::record::{Outcome, Record};
use crate::patterns::tasks::schedule::{Present, WALL_LOOK};
use crate::patterns::tasks::{RunId, TaskId};
use crate::timers::{Stamp, Tick};

impl<T> Plan<T> {
    /// The run that may begin next; it counts as running from now on.
    pub(in super::super) fn choose(&mut self) -> Option<Chosen> {
        if self.paused || self.runs.len() >= self.limits.runs_max {
            return None;
        }
        let (priority, _, _, index) = *self.ranks.first()?;
        let generation = self.generation();
        let task = self.tasks.get_mut(index as usize)?;
        let attempt = task.waiting.pop_front()?;
        let id = TaskId { index, generation: task.generation };
        let active = Active { task: id, attempt, generation, started: None, timeout: None };
        let run = RunId { index: self.runs.insert(active) as u32, generation };
        task.active.push(run);
        let place = task.settings.place;
        self.settle(id);
        Some(Chosen { run, priority, place })
    }

    /// Begins a chosen run; its timeout counts from `from`. `None` if it must not begin: its task
    /// was removed, or a pause has come, and then it waits again.
    pub(in super::super) fn begin(
        &mut self,
        run: RunId,
        now: Present,
        from: Stamp,
    ) -> Option<Begun> {
        let all_paused = self.paused;
        let active = self.runs.get_mut(run.index as usize);
        let active = active.filter(|active| active.generation == run.generation)?;
        let (id, attempt) = (active.task, active.attempt);
        let task = self.tasks.get_mut(id.index as usize)?;
        if task.paused || all_paused {
            task.active.retain(|other| *other != run);
            task.waiting.push_front(attempt);
            self.runs.remove(run.index as usize);
            self.settle(id);
            return None;
        }
        active.started = Some(now.moment);
        active.timeout = task
            .settings
            .timeout
            .map(|timeout| self.wheel.insert(from.after(timeout).count(), Wake::Timeout(run)));
        let passed = mem::take(&mut task.passed);
        let (name, due) = (task.name.clone(), attempt.due);
        Some(Begun { task: id, name, due, attempt: attempt.number, passed })
    }

    /// Ends a run. Returns false if it had ended before.
    pub(in super::super) fn end(&mut self, run: RunId, outcome: Outcome, now: Present) -> bool {
        let Some(id) = self.finish(run, outcome, now) else { return false };
        let task = &mut self.tasks[id.index as usize];
        task.active.retain(|other| *other != run);
        let is_over = task.timetable.schedule().is_once() && !task.has_future();
        if is_over {
            self.forget(id);
        } else {
            self.settle(id);
        }
        true
    }

    /// Counts an answer that came after the end of its run.
    pub(in super::super) fn late(&mut self, id: TaskId) {
        if let Some(task) = self.task_mut(id) {
            task.counts.late += 1;
        }
    }

    /// Writes a run's record, and plans the next attempt if there is one.
    pub(super) fn finish(&mut self, run: RunId, outcome: Outcome, now: Present) -> Option<TaskId> {
        let active = self.runs.get(run.index as usize);
        active.filter(|active| active.generation == run.generation)?;
        let Active { task: id, attempt, started, timeout, .. } =
            self.runs.remove(run.index as usize);
        timeout.map(|timer| self.wheel.cancel(timer));
        let task = &mut self.tasks[id.index as usize];
        let Some(started) = started else { return Some(id) };
        let failed = outcome.is_failure();
        let retry = task.settings.retry;
        let pause = failed.then(|| retry.pause(attempt.number, &mut self.random)).flatten();
        if let Some(pause) = pause {
            let again = Attempt { number: attempt.number + 1, ..attempt };
            let wake = Wake::Retry(id, again);
            task.retries.push(self.wheel.insert(now.exact.after(pause).count(), wake));
        } else if failed {
            let (name, place) = (&task.name, task.settings.place);
            log::warn!("task {name:?} added at {place}: attempt {}: {outcome}", attempt.number);
        }
        task.counts.runs += 1;
        task.counts.failures += u64::from(failed);
        task.last = Some(outcome.clone());
        let record = Record {
            run,
            task: id,
            name: task.name.clone(),
            due: attempt.due,
            started,
            ended: now.moment,
            attempt: attempt.number,
            outcome,
            again: pause.map(|pause| Duration::from_millis(Tick::count_of(pause))),
        };
        self.keep(record);
        Some(id)
    }

    /// Records and logs that the next occurrence of a task is unknown. The record has no real run.
    pub(super) fn tell_trouble(&mut self, id: TaskId, why: Arc<str>, now: Present) {
        let run = RunId { index: u32::MAX, generation: self.generation() };
        let task = &mut self.tasks[id.index as usize];
        let (name, place) = (task.name.clone(), task.settings.place);
        let outcome = Outcome::Unscheduled(why);
        log::warn!("task {name:?} added at {place}: {outcome}");
        task.last = Some(outcome.clone());
        let again = Some(WALL_LOOK);
        let (due, started, ended) = (now.moment, now.moment, now.moment);
        self.keep(Record { run, task: id, name, due, started, ended, attempt: 1, outcome, again });
    }

    fn keep(&mut self, record: Record) {
        if let Some(news) = &mut self.news {
            news.push_back(record.clone());
        }
        if self.history.len() >= self.limits.history_max {
            self.history.pop_front();
        }
        if self.limits.history_max > 0 {
            self.history.push_back(record);
        }
    }
}
