//! Phases 5 and 6 from the inside: events enter the queue, and callbacks are called.
//!
//! A callback is taken out of its slot in the slab while it runs. When it ends it is put back, if
//! its source is still there. So it may do anything to any source, its own included: nothing on
//! the stack borrows the slab while it runs.
//!
//! # Read next
//! `id.rs`: how an event finds its source, and never the wrong one.

use std::any::Any;
use std::mem;

use super::queue::{Call, Item};
use super::source::Callback;
use super::timer::Timer;
use super::trace::{Kind, Subject, lane_bits};
use super::{Context, Place, Priority, RawId, Readiness, TIMERS_PER_TURN};

impl<S: 'static> Context<S> {
    /// Puts a source that the kernel reported into the queue.
    #[inline]
    pub(super) fn collect_ready(&mut self, id: RawId, ready: Readiness) {
        let queued = self.push_ready(id, ready);
        if !queued || self.trace.is_on() {
            self.note_ready(id, ready, queued);
        }
    }

    #[cold]
    fn note_ready(&mut self, id: RawId, ready: Readiness, queued: bool) {
        match queued {
            true => {
                let argument = ready.bits() | self.lane_bits(id);
                self.note(Kind::Ready, id.into(), self.place_of(id.into()), argument);
            }
            false => self.drop_stale(id.into(), false),
        }
    }

    /// Puts the expired timers into the queue, in the order of their deadlines. The deadline of a
    /// source goes into the source's lane, behind its readiness (R3).
    #[inline]
    pub(super) fn collect_timers(&mut self) {
        if self.wheel.is_empty() {
            return;
        }
        let now = self.tick().count();
        for _ in 0..TIMERS_PER_TURN {
            let Some(id) = self.wheel.expire(now) else { break };
            let subject = match self.wheel.get(id) {
                Some(&Timer::Source(source)) => {
                    let lane = self.sources.get(source).map(|source| source.priority);
                    self.queue.push_deadline(lane.unwrap_or_default(), source);
                    Subject::Deadline(source)
                }
                _ => {
                    self.queue.push_timer(Priority::Normal, id);
                    Subject::Timer(id)
                }
            };
            if self.trace.is_on() {
                let lane = match subject {
                    Subject::Deadline(source) => self.lane_bits(source),
                    _ => lane_bits(Priority::Normal),
                };
                self.note(Kind::Expired, subject, self.place_of(subject), lane);
            }
        }
    }

    /// Runs the batch: an event, the callbacks that it deferred, the next event.
    #[inline]
    pub(super) fn run_batch(&mut self, state: &mut S) {
        self.run_deferred(state);
        while let Some(lane) = self.batch.next_lane() {
            if self.gate.is_some() {
                self.pass_gate(state);
            }
            let Some(item) = self.queue.pop(&mut self.batch, lane) else { break };
            match item {
                Item::Source(id) => self.run_source(id, state),
                Item::Timer(id) => self.run_timer(id, state),
                Item::Deadline(source) => self.run_deadline(source, state),
                Item::Enqueued => {
                    self.run_queued(Kind::RunEnqueued, Subject::None, lane, state);
                }
                Item::Posted => self.run_queued(Kind::RunPosted, Subject::None, lane, state),
                Item::PostedFor(id) => self.run_queued(Kind::RunPosted, id.into(), lane, state),
            }
            self.run_deferred(state);
        }
    }

    /// Runs deferred callbacks until none is left, or the turn's budget of them is spent.
    #[inline]
    pub(super) fn run_deferred(&mut self, state: &mut S) {
        while self.deferred_left > 0 && (!self.deferred.is_empty() || self.local.is_waiting()) {
            if self.gate.is_some() {
                self.pass_gate(state);
            }
            let Some(call) = self.next_deferred() else { break };
            self.deferred_left -= 1;
            self.run_call((Kind::RunDeferred, Subject::None), call, 0, state);
        }
    }

    #[inline]
    fn run_queued(&mut self, kind: Kind, of: Subject, lane: usize, state: &mut S) {
        if let Some(call) = self.queue.pop_call(lane) {
            self.run_call((kind, of), call, lane as u32, state);
        }
    }

    #[inline]
    fn run_call(
        &mut self,
        (kind, of): (Kind, Subject),
        call: Call<S>,
        argument: u32,
        state: &mut S,
    ) {
        self.begin_callback(kind, of, call.place, (argument, call.cause));
        (call.run)(self, state);
        self.end_callback(Kind::Returned);
    }

    #[inline]
    fn run_source(&mut self, id: RawId, state: &mut S) {
        match self.take_ready(id) {
            Some((ready, callback, place)) => {
                self.begin_callback(Kind::RunSource, id.into(), place, (ready.bits(), 0));
                self.call_source(id, callback, ready, state);
                self.end_callback(Kind::Returned);
            }
            None => self.drop_stale(id.into(), true),
        }
    }

    /// Runs a source whose deadline was collected in this turn, unless it was moved or disarmed since.
    fn run_deadline(&mut self, id: RawId, state: &mut S) {
        let deadline = self.sources.get(id).and_then(|entry| entry.deadline);
        if !deadline.is_some_and(|deadline| self.wheel.is_expired(deadline)) {
            return self.drop_stale(Subject::Deadline(id), true);
        }
        let Some((callback, place)) = self.take_deadline(id) else { return };
        let ready = Readiness::DEADLINE;
        self.begin_callback(Kind::RunSource, id.into(), place, (ready.bits(), 0));
        self.call_source(id, callback, ready, state);
        self.end_callback(Kind::Returned);
    }

    /// Takes a source's pending readiness and its callback; `None` if the id is stale.
    #[inline]
    pub(super) fn take_ready(&mut self, id: RawId) -> Option<(Readiness, Callback<S>, Place)> {
        let entry = self.sources.get_mut(id)?;
        let ready = mem::take(&mut entry.pending);
        Some((ready, entry.callback.take()?, entry.place))
    }

    /// Takes a source's callback and clears its deadline, so that each deadline is reported once.
    pub(super) fn take_deadline(&mut self, id: RawId) -> Option<(Callback<S>, Place)> {
        let entry = self.sources.get_mut(id)?;
        if let Some(timer) = entry.deadline.take() {
            self.wheel.cancel(timer);
        }
        Some((entry.callback.take()?, entry.place))
    }

    /// Calls a source's callback, which was taken out of its slot.
    #[inline(always)]
    pub(super) fn call_source(
        &mut self,
        id: RawId,
        callback: Callback<S>,
        ready: Readiness,
        state: &mut S,
    ) {
        self.running = id.into();
        let put_back = |context: &mut Context<S>, callback, _| {
            if let Some(entry) = context.sources.get_mut(id) {
                entry.callback = Some(callback);
            }
        };
        self.lend(callback, put_back, |context, callback| callback(context, state, id, ready));
        self.running = Subject::None;
    }

    /// Drops and logs the callback that panicked, by [`PanicPolicy::Drop`](super::PanicPolicy).
    #[cold]
    pub(super) fn drop_panicked(&mut self, panic: Box<dyn Any + Send>) {
        let message = panic_message(&*panic);
        let subject = mem::replace(&mut self.running, Subject::None);
        let hook = self.hooks.take_running();
        let place = self.running_place;
        log::error!("the callback from {place} panicked ({message}) and is dropped: {subject:?}");
        self.statistics.panicked += 1;
        self.end_callback(Kind::Panicked);
        match subject {
            Subject::Source(id) => drop(self.remove(id)),
            Subject::Timer(id) => drop(self.cancel(id)),
            Subject::Deadline(_) | Subject::None => {}
        }
        hook.map(|hook| self.remove_hook(hook));
    }

    /// Calls every source that was borrowed mutably since its last flush, to write out its data.
    pub(super) fn flush_touched(&mut self, state: &mut S) {
        while let Some(id) = self.touched.pop_front() {
            if let Some((callback, place)) = self.take_touched(id) {
                self.begin_callback(Kind::Flushed, id.into(), place, (0, 0));
                self.call_source(id, callback, Readiness::FLUSH, state);
                self.end_callback(Kind::Returned);
            }
        }
    }

    /// Calls a source's callback in the next turn with `ready`, as if the kernel had reported it;
    /// or in this one, if it is queued already.
    ///
    /// It is for a source that stops early to let others run: an edge-triggered kernel does not
    /// report it again. While a source waits to be resumed, the loop does not sleep. Returns false
    /// if the id is stale.
    ///
    /// Only the loop reports [`DEADLINE`](Readiness::DEADLINE) and [`FLUSH`](Readiness::FLUSH):
    /// they are removed from `ready`. If no other bit is left, the source is not called.
    #[inline]
    pub fn resume(&mut self, id: impl Into<RawId>, ready: Readiness) -> bool {
        let id = id.into();
        self.send(id, ready.asked())
    }

    /// [`resume`](Context::resume) with any bits: messages to a source of the library, or readiness
    /// reported in place of the kernel.
    #[inline]
    pub(crate) fn send(&mut self, id: impl Into<RawId>, ready: Readiness) -> bool {
        let id = id.into();
        let queued = self.push_ready(id, ready);
        if queued && self.trace.is_on() {
            let argument = ready.bits() | self.lane_bits(id);
            self.note(Kind::Resumed, id.into(), self.place_of(id.into()), argument);
        }
        queued
    }

    /// Queues readiness for a source, or merges it into its queued one. Returns false if stale.
    #[inline]
    pub(super) fn push_ready(&mut self, id: RawId, ready: Readiness) -> bool {
        let Some(entry) = self.sources.get_mut(id) else { return false };
        if entry.pending.is_none() && !ready.is_none() {
            self.queue.push_source(entry.priority, id);
        }
        entry.pending |= ready;
        true
    }
}

/// The message of a panic, if it is text; else "?".
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?")
}
