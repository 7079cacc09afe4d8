//! The loop's side of a task queue: it acts on the plan's decisions.
//!
//! Knows the plan, the turn's time and the loop's lanes; decides nothing itself.
//!
//! # Read next
//! `../../tests/patterns/tasks.rs`.

use std::mem;

use super::run::Run;
use super::{Callback, OnEnd, Outcome, RunId, TaskId, TaskQueue};
use crate::reactor::{Context, PanicPolicy, Readiness, SourceId};

/// Occurrences, retries and timeouts that are taken in at a time; the rest is due in the next turn
/// (R6).
const WAKES_PER_TURN: usize = 1024;

/// The callback of the queue: for its deadline, the answer of a run, or records for `on_end`.
pub(super) fn drive<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<TaskQueue<S>>,
    ready: Readiness,
) {
    take_answers(reactor, id);
    let now = reactor.present();
    let Some(queue) = reactor.get_mut(id) else { return };
    if ready.contains(Readiness::DEADLINE) {
        queue.armed = None;
        queue.plan.advance(now, WAKES_PER_TURN);
    }
    let on_end = queue.on_end.take();
    // If the callback panics, `PanicPolicy::Drop` must not drop the queue with it.
    reactor.call_for_others(|reactor| {
        let mut telling = Telling { reactor, id, on_end, returned: false };
        telling.tell(state);
        telling.returned = true;
    });
}

/// Ends the runs that have answered. An answer comes before a timeout of the same turn (R3).
fn take_answers<S: 'static>(reactor: &mut Context<S>, id: SourceId<TaskQueue<S>>) {
    let now = reactor.present();
    let Some(queue) = reactor.get_mut(id) else { return };
    let Some(answers) = &queue.answers else { return };
    answers.is_awaited.set(false);
    let mut answered = answers.waiting.take();
    for (task, run, outcome) in answered.drain(..) {
        if !queue.plan.end(run, outcome, now) {
            queue.plan.late(task);
        }
    }
    let mut waiting = answers.waiting.borrow_mut();
    if waiting.is_empty() {
        *waiting = answered; // For its capacity.
    }
}

/// Queues the runs that may begin, arms the deadline, and updates the hold on the loop.
pub(super) fn pump<S: 'static>(reactor: &mut Context<S>, id: SourceId<TaskQueue<S>>) {
    while let Some(chosen) = reactor.get_mut(id).and_then(|queue| queue.plan.choose()) {
        let begin = move |reactor: &mut Context<S>, state: &mut S| {
            begin(reactor, state, id, chosen.run);
        };
        reactor.enqueue_at(chosen.priority, chosen.place, begin);
    }
    let Some(queue) = reactor.get_mut(id) else { return };
    let wake = queue.plan.next_wake();
    let idle = !queue.plan.holds();
    let news = queue.plan.news.as_ref().is_some_and(|news| !news.is_empty());
    // Re-arming a deadline that has passed moves it to the next turn (R3): with a run to begin in
    // each turn, it would never come.
    if mem::replace(&mut queue.armed, wake) != wake {
        reactor.set_deadline(id, wake);
    }
    reactor.set_idle(id, idle && !news);
    if news {
        reactor.resume(id, Readiness::READABLE);
    }
}

/// A chosen run begins, as a callback of the loop like any other.
fn begin<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<TaskQueue<S>>,
    run: RunId,
) {
    let (now, from) = (reactor.present(), reactor.stamp());
    let Some(queue) = reactor.get_mut(id) else { return };
    let begun = queue.plan.begin(run, now, from);
    if let (Some(begun), Some(answers)) = (begun, queue.answers.clone()) {
        let task = begun.task;
        answers.is_awaited.set(true);
        let callback = queue.plan.take(task);
        let mut lent = Lent { reactor, id, task, run, callback, returned: false };
        if let Lent { reactor, callback: Some(callback), .. } = &mut lent {
            callback(reactor, state, Run::new(answers, run, begun));
        }
        lent.returned = true;
        return; // Dropping `lent` does the rest.
    }
    pump(reactor, id);
}

/// A task's callback while it runs. It is put back and its answer taken in when it ends, also after
/// a panic, which is a failure even if the run has answered before.
struct Lent<'a, S: 'static> {
    reactor: &'a mut Context<S>,
    id: SourceId<TaskQueue<S>>,
    task: TaskId,
    run: RunId,
    callback: Option<Callback<S>>,
    /// True once it has returned. (The thread may unwind for another reason: the loop runs in a
    /// `drop`.)
    returned: bool,
}

impl<S: 'static> Drop for Lent<'_, S> {
    fn drop(&mut self) {
        let now = self.reactor.present();
        let callback = self.callback.take();
        let Some(queue) = self.reactor.get_mut(self.id) else { return };
        if let Some(callback) = callback {
            queue.plan.put(self.task, callback);
        }
        if !self.returned {
            if let Some(answers) = &queue.answers {
                answers.waiting.borrow_mut().retain(|(_, run, _)| *run != self.run);
            }
            queue.plan.end(self.run, Outcome::Panicked, now);
        }
        take_answers(self.reactor, self.id);
        pump(self.reactor, self.id);
    }
}

/// The `on_end` callback while it runs. When it ends, `pump` runs, also after a panic, which drops
/// the callback by [`PanicPolicy::Drop`] (R9).
struct Telling<'a, S: 'static> {
    reactor: &'a mut Context<S>,
    id: SourceId<TaskQueue<S>>,
    on_end: Option<OnEnd<S>>,
    /// True once it has returned without a panic.
    returned: bool,
}

impl<S: 'static> Telling<'_, S> {
    /// Calls `on_end` with each record. Runs that end in these calls follow in the next turn.
    fn tell(&mut self, state: &mut S) {
        let Telling { reactor, id, on_end: Some(on_end), .. } = self else { return };
        let news = |reactor: &mut Context<S>| Some(reactor.get_mut(*id)?.plan.news.as_mut()?.len());
        for _ in 0..news(reactor).unwrap_or(0) {
            let news = reactor.get_mut(*id).and_then(|queue| queue.plan.news.as_mut());
            let Some(record) = news.and_then(|news| news.pop_front()) else { return };
            on_end(reactor, state, &record);
        }
    }
}

impl<S: 'static> Drop for Telling<'_, S> {
    fn drop(&mut self) {
        let is_dropped = !self.returned && self.reactor.panic_policy() == PanicPolicy::Drop;
        if let Some(queue) = self.reactor.get_mut(self.id) {
            let is_over = self.on_end.is_none() || is_dropped;
            match (&mut queue.on_end, self.on_end.take()) {
                (Some(_), _) => {} // It has set another.
                (None, _) if is_over => queue.plan.news = None,
                (none, on_end) => *none = on_end,
            }
        }
        pump(self.reactor, self.id);
    }
}
