//! Hooks: callbacks at fixed points of every turn.

use super::trace::{Kind, Subject};
use super::{Context, Place};

/// The points of a turn that have hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    BeforePoll,
    AfterPoll,
    Idle,
}

/// Names a hook, to remove it. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookId(Phase, u64);

struct Hook<S> {
    number: u64,
    /// `None` while it runs.
    callback: Option<Box<dyn FnMut(&mut Context<S>, &mut S)>>,
    place: Place,
}

/// The hooks of each phase, in the order in which they were added.
pub(super) struct Hooks<S> {
    of: [Vec<Hook<S>>; 3],
    added: u64,
}

impl<S> Hooks<S> {
    pub(super) fn new() -> Hooks<S> {
        Hooks { of: Default::default(), added: 0 }
    }
}

impl<S: 'static> Context<S> {
    /// Calls `callback` at the beginning of every turn, before what was written is flushed and the
    /// loop waits. A hook does not hold the loop.
    #[track_caller]
    pub fn before_poll<F>(&mut self, callback: F) -> HookId
    where
        F: FnMut(&mut Context<S>, &mut S) + 'static,
    {
        self.add_hook(Phase::BeforePoll, callback, Place::caller())
    }

    /// Calls `callback` in every turn after the wait, before its events are collected.
    #[track_caller]
    pub fn after_poll<F>(&mut self, callback: F) -> HookId
    where
        F: FnMut(&mut Context<S>, &mut S) + 'static,
    {
        self.add_hook(Phase::AfterPoll, callback, Place::caller())
    }

    /// Calls `callback` at the end of every turn in which nothing ran.
    #[track_caller]
    pub fn on_idle<F>(&mut self, callback: F) -> HookId
    where
        F: FnMut(&mut Context<S>, &mut S) + 'static,
    {
        self.add_hook(Phase::Idle, callback, Place::caller())
    }

    fn add_hook<F>(&mut self, phase: Phase, callback: F, place: Place) -> HookId
    where
        F: FnMut(&mut Context<S>, &mut S) + 'static,
    {
        self.hooks.added += 1;
        let number = self.hooks.added;
        let callback: Option<Box<dyn FnMut(&mut Context<S>, &mut S)>> = Some(Box::new(callback));
        self.hooks.of[phase as usize].push(Hook { number, callback, place });
        HookId(phase, number)
    }

    /// Removes a hook, at once. False if it was removed before.
    pub fn remove_hook(&mut self, HookId(phase, number): HookId) -> bool {
        let hooks = &mut self.hooks.of[phase as usize];
        let at = hooks.iter().position(|hook| hook.number == number);
        at.map(|at| hooks.remove(at)).is_some()
    }

    /// Runs a phase's hooks; those added meanwhile begin with the next turn.
    #[inline]
    pub(super) fn run_hooks(&mut self, phase: Phase, state: &mut S) {
        if !self.hooks.of[phase as usize].is_empty() {
            self.run_hooks_up_to(phase, self.hooks.added, state);
        }
    }

    #[cold]
    fn run_hooks_up_to(&mut self, phase: Phase, last: u64, state: &mut S) {
        let mut done = 0;
        // Hooks are numbered upwards and may remove each other, so the next is looked up by number.
        while let Some(hook) = self.hooks.of[phase as usize]
            .iter_mut()
            .find(|hook| hook.number > done && hook.number <= last)
        {
            done = hook.number;
            let (callback, place) = (hook.callback.take(), hook.place);
            let mut lent = LentHook { context: self, id: HookId(phase, done), callback };
            lent.context.begin_callback(Kind::RunHook, Subject::None, place, (0, 0));
            if let LentHook { context, callback: Some(callback), .. } = &mut lent {
                callback(context, state);
            }
            drop(lent);
            self.end_callback(Kind::Returned);
            self.run_deferred(state);
        }
    }
}

/// A hook while it runs: put back when it ends, also by a panic, unless it was removed.
struct LentHook<'a, S> {
    context: &'a mut Context<S>,
    id: HookId,
    callback: Option<Box<dyn FnMut(&mut Context<S>, &mut S)>>,
}

impl<S> Drop for LentHook<'_, S> {
    fn drop(&mut self) {
        let HookId(phase, number) = self.id;
        let hooks = &mut self.context.hooks.of[phase as usize];
        if let Some(hook) = hooks.iter_mut().find(|hook| hook.number == number) {
            hook.callback = self.callback.take();
        }
    }
}
