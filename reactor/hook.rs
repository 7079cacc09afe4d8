//! Hooks: callbacks at fixed points of every turn; and the gate, one before each callback.
//!
//! Knows only the names of the phases; `mod.rs` defines the moment of each point.
//!
//! The gate is for a debugger. It is called before each event of the batch and before each deferred
//! callback, when nothing else is on the stack (R1). It may take its time: the loop stands still,
//! exactly there, and nothing is lost or comes in another order. What it cancels or removes does not
//! run any more (R4), the next callback included. Hooks run without it.

use super::trace::{Kind, Subject};
use super::{Context, Place};

/// The points of a turn that have hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum HookPoint {
    BeforePoll,
    AfterPoll,
    Idle,
}

/// Names a hook, to remove it. No two hooks have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookId(HookPoint, u64);

type Callback<S> = Box<dyn FnMut(&mut Context<S>, &mut S)>;

/// The callback of [`Context::set_gate`].
pub(super) type Gate<S> = Box<dyn FnMut(&mut Context<S>, &mut S) -> bool>;

struct Hook<S> {
    number: u64,
    /// `None` while it runs.
    callback: Option<Callback<S>>,
    place: Place,
}

/// The hooks of each point, in the order in which they were added.
pub(super) struct Hooks<S> {
    of: [Vec<Hook<S>>; 3],
    added: u64,
    /// At the current point: the number of the last hook to run, and of the last that has run.
    last: u64,
    done: u64,
    /// The hook that runs now.
    running: Option<HookId>,
    /// True if something has happened since the hooks of `before_poll` ran. Set by dispatch, by a
    /// panic and by the removal of a source; reset by phase 1.
    pub(super) unseen: bool,
}

impl<S> Hooks<S> {
    pub(super) fn new() -> Hooks<S> {
        Hooks { of: Default::default(), added: 0, last: 0, done: 0, running: None, unseen: false }
    }

    /// Begins a point: hooks that are added while it runs wait for the next turn. Returns false if
    /// the point has no hooks.
    #[inline]
    pub(super) fn begin(&mut self, point: HookPoint) -> bool {
        let some = !self.of[point as usize].is_empty();
        if some {
            (self.last, self.done) = (self.added, 0);
        }
        some
    }

    /// Returns true if something has happened since the hooks of `before_poll` ran. They run before
    /// the loop sleeps, so a host must not sleep either.
    pub(super) fn wait_to_look(&self) -> bool {
        self.unseen && !self.of[HookPoint::BeforePoll as usize].is_empty()
    }

    /// The hook that was running when a panic ended it.
    pub(super) fn take_running(&mut self) -> Option<HookId> {
        self.running.take()
    }
}

impl<S: 'static> Context<S> {
    /// Calls `gate` before each event of the batch and before each deferred callback, for as long
    /// as it returns true. Replaces the gate that is there. A gate that panics is removed.
    ///
    /// ```
    /// use std::cell::RefCell;
    /// use std::rc::Rc;
    /// use waterwheel::Reactor;
    ///
    /// let places = Rc::new(RefCell::new(Vec::new()));
    /// let mut reactor = Reactor::<()>::new()?;
    /// let seen = places.clone();
    /// reactor.set_gate(move |reactor, _| {
    ///     seen.borrow_mut().extend(reactor.upcoming().map(|(kind, _, _)| kind));
    ///     true
    /// });
    /// reactor.defer(|_, _| {});
    /// reactor.run(&mut ())?;
    /// assert_eq!(*places.borrow(), [waterwheel::reactor::Kind::RunDeferred]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_gate<F>(&mut self, gate: F)
    where
        F: FnMut(&mut Context<S>, &mut S) -> bool + 'static,
    {
        self.gate = Some(Box::new(gate));
    }

    /// Calls the gate, when something is next.
    #[cold]
    pub(super) fn pass_gate(&mut self, state: &mut S) {
        if self.local.is_waiting() {
            self.take_local();
        }
        self.running_place = Place::caller(); // For the log, if the gate panics.
        if let Some(mut gate) = self.gate.take()
            && gate(self, state)
        {
            self.gate.get_or_insert(gate);
        }
    }
}

impl<S: 'static> Context<S> {
    /// Calls `callback` at the beginning of every turn, before writes are flushed and the loop
    /// waits. So it sees all that has happened before the loop sleeps, also in the loop of a host:
    /// [`next_wait`](super::Reactor::next_wait) is zero until it has run. A hook does not hold the
    /// loop.
    #[track_caller]
    pub fn before_poll<F>(&mut self, callback: F) -> HookId
    where
        F: FnMut(&mut Context<S>, &mut S) + 'static,
    {
        self.add_hook(HookPoint::BeforePoll, callback, Place::caller())
    }

    /// Calls `callback` in every turn after the wait, when the turn's events are collected and not
    /// yet dispatched. A callback that it enqueues waits for the next turn (R2).
    #[track_caller]
    pub fn after_poll<F>(&mut self, callback: F) -> HookId
    where
        F: FnMut(&mut Context<S>, &mut S) + 'static,
    {
        self.add_hook(HookPoint::AfterPoll, callback, Place::caller())
    }

    /// Calls `callback` at the end of every turn in which nothing ran.
    #[track_caller]
    pub fn on_idle<F>(&mut self, callback: F) -> HookId
    where
        F: FnMut(&mut Context<S>, &mut S) + 'static,
    {
        self.add_hook(HookPoint::Idle, callback, Place::caller())
    }

    fn add_hook<F>(&mut self, point: HookPoint, callback: F, place: Place) -> HookId
    where
        F: FnMut(&mut Context<S>, &mut S) + 'static,
    {
        self.hooks.added += 1;
        let number = self.hooks.added;
        let hook = Hook { number, callback: Some(Box::new(callback) as _), place };
        self.hooks.of[point as usize].push(hook);
        HookId(point, number)
    }

    /// Removes a hook, at once. Returns false if it was removed before.
    pub fn remove_hook(&mut self, HookId(point, number): HookId) -> bool {
        let hooks = &mut self.hooks.of[point as usize];
        let at = hooks.iter().position(|hook| hook.number == number);
        at.map(|at| hooks.remove(at)).is_some()
    }

    /// Runs the hooks of a point that have not run yet.
    #[inline]
    pub(super) fn run_hooks(&mut self, point: HookPoint, state: &mut S) {
        // Hooks are numbered upwards and may remove each other, so the next is looked up by number.
        loop {
            let (last, done) = (self.hooks.last, self.hooks.done);
            let mut hooks = self.hooks.of[point as usize].iter_mut();
            let next = hooks.find(|hook| hook.number > done && hook.number <= last);
            let Some(hook) = next else { break };
            let id = HookId(point, hook.number);
            self.hooks.done = hook.number;
            let (callback, place) = (hook.callback.take(), hook.place);
            self.hooks.running = Some(id);
            self.begin_callback(Kind::RunHook, Subject::None, place, (point as u32, 0));
            let put_back = |context: &mut Context<S>, callback, _| {
                let mut hooks = context.hooks.of[point as usize].iter_mut();
                if let Some(hook) = hooks.find(|hook| hook.number == id.1) {
                    hook.callback = callback;
                }
            };
            self.lend(callback, put_back, |context, callback| {
                if let Some(callback) = callback {
                    callback(context, state);
                }
            });
            self.hooks.running = None;
            self.end_callback(Kind::Returned);
            self.run_deferred(state);
        }
    }
}
