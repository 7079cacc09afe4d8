//! Read access to the plan.

use super::Plan;
use crate::patterns::tasks::{Record, RunId, Status, TaskId};
use crate::reactor::Place;

impl<T> Plan<T> {
    pub(in super::super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(in super::super) fn is_running(&self, run: RunId) -> bool {
        let active = self.runs.get(run.index as usize);
        active.is_some_and(|active| active.generation == run.generation && active.started.is_some())
    }

    pub(in super::super) fn find(&self, name: &str) -> Option<TaskId> {
        self.names.get(name).copied()
    }

    /// Returns true if a task holds the loop.
    pub(in super::super) fn holds(&self) -> bool {
        self.holding > 0
    }

    /// Names and places of the tasks that hold the loop.
    pub(in super::super) fn holders(&self) -> impl Iterator<Item = (&str, Place)> {
        let holders = self.tasks.iter().filter(|(_, task)| task.holds);
        holders.map(|(_, task)| (&*task.name, task.settings.place))
    }

    /// How many timers the wheel holds.
    pub(in super::super) fn timers(&self) -> usize {
        self.wheel.len()
    }

    pub(in super::super) fn running(&self) -> usize {
        self.runs.len()
    }

    pub(in super::super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(in super::super) fn history(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.history.iter()
    }

    pub(in super::super) fn statuses(&self) -> impl Iterator<Item = Status<'_>> {
        self.names.values().filter_map(|id| self.status(*id))
    }

    pub(in super::super) fn status(&self, id: TaskId) -> Option<Status<'_>> {
        let task = self.tasks.get(id.index as usize);
        let task = task.filter(|task| task.generation == id.generation)?;
        Some(Status {
            id,
            name: &task.name,
            place: task.settings.place,
            next: task.timetable.next,
            waiting: task.waiting.len(),
            running: task.active.len(),
            retrying: task.retries.len(),
            paused: task.paused,
            last: task.last.as_ref(),
            counts: task.counts,
        })
    }
}
