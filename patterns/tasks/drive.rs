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
        reactor.lend(
            on_end,
            |reactor, on_end, returned| put_back(reactor, id, on_end, returned),
            |reactor, on_end| {
                if let Some(on_end) = on_end {
                    report(reactor, state, id, on_end);
                }
            },
        );
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
    // Only a change is armed: a deadline that has passed and is armed again moves to the next turn
    // (R3). With a run to begin in each turn, it would never come.
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
        reactor.lend(
            callback,
            |reactor, callback, returned| end(reactor, id, (task, run), callback, returned),
            |reactor, callback| {
                if let Some(callback) = callback {
                    callback(reactor, state, Run::new(answers, run, begun));
                }
            },
        );
        return;
    }
    pump(reactor, id);
}

/// The callback of a run has returned or panicked. A panic is a failure even after an answer. (Only
/// `returned` shows it: the thread may unwind for another reason, if the loop runs in a `drop`.)
fn end<S: 'static>(
    reactor: &mut Context<S>,
    id: SourceId<TaskQueue<S>>,
    (task, run): (TaskId, RunId),
    callback: Option<Callback<S>>,
    returned: bool,
) {
    let now = reactor.present();
    let Some(queue) = reactor.get_mut(id) else { return };
    if let Some(callback) = callback {
        queue.plan.put(task, callback);
    }
    if !returned {
        if let Some(answers) = &queue.answers {
            answers.waiting.borrow_mut().retain(|(_, other, _)| *other != run);
        }
        queue.plan.end(run, Outcome::Panicked, now);
    }
    take_answers(reactor, id);
    pump(reactor, id);
}

/// Calls `on_end` with each record. Runs that end in these calls follow in the next turn.
fn report<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    id: SourceId<TaskQueue<S>>,
    on_end: &mut OnEnd<S>,
) {
    let news = |reactor: &mut Context<S>| Some(reactor.get_mut(id)?.plan.news.as_mut()?.len());
    for _ in 0..news(reactor).unwrap_or(0) {
        let news = reactor.get_mut(id).and_then(|queue| queue.plan.news.as_mut());
        let Some(record) = news.and_then(|news| news.pop_front()) else { return };
        on_end(reactor, state, &record);
    }
}

/// Puts `on_end` back, unless it has panicked and [`PanicPolicy::Drop`] drops it (R9).
fn put_back<S: 'static>(
    reactor: &mut Context<S>,
    id: SourceId<TaskQueue<S>>,
    on_end: Option<OnEnd<S>>,
    returned: bool,
) {
    let is_dropped = !returned && reactor.panic_policy() == PanicPolicy::Drop;
    if let Some(queue) = reactor.get_mut(id) {
        let is_over = on_end.is_none() || is_dropped;
        match (&mut queue.on_end, on_end) {
            (Some(_), _) => {} // The callback has set another one.
            (None, _) if is_over => queue.plan.news = None,
            (none, on_end) => *none = on_end,
        }
    }
    pump(reactor, id);
}
