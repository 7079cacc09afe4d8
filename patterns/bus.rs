//! The bus: events of the program itself, and the listeners that subscribe to them.
//!
//! Knows types and callbacks; never mentions sources or timers.
//!
//! Parts of a program that should not know each other share an event, a value of any type. A
//! listener subscribes to the type. There are two ways to send an event:
//!
//! ```text
//!   publish(event)       into a lane of the event queue, delivered in the next turn (R2, R7)
//!   emit(state, &event)  delivered now, inside this call
//!
//!   topics, by type            listeners, by priority, then in the order of subscribing
//!   ┌─────────┐
//!   │ Placed  │──▶ High stock · Normal mail · Normal once … · Low statistics
//!   │ Paid    │──▶ Normal ledger
//!   └─────────┘
//! ```
//!
//! # Rules
//! Each is cited by a test in `tests/patterns/bus.rs`.
//!
//! * **B1** Listeners are called by priority; those of one priority in the order of subscribing.
//! * **B2** The listeners that were subscribed when an event was sent get it. A listener that is
//!   unsubscribed before its turn comes, also by another listener of the event, is not called. One
//!   that subscribes after the event was sent gets the next event.
//! * **B3** `emit` calls the listeners before it returns: they are parts of the callback that
//!   emits. A published event is one callback of the loop, with its listeners as parts. Callbacks
//!   that listeners defer run after that callback (R1, R2).
//! * **B4** A listener may emit, also the same event, which is then delivered before the outer emit
//!   goes on. While a listener runs, it is out of its slot and is not called again: it does not
//!   get events that are emitted in this time. At most [`LISTENERS_NESTED`] are nested.
//! * **B5** By [`PanicPolicy::Drop`], a listener that panics is dropped, all others are called and
//!   `emit` returns. Otherwise the panic leaves `emit`, as it leaves any function, and the other
//!   listeners are not called. If the event was published, the panic leaves `run`, and the
//!   listeners behind the one that panicked are called when the loop is run again (R9).
//! * **B6** An event without listeners is counted in [`Context::unheard`]. It costs no allocation
//!   and no place in the queue.
//! * **B7** Listeners do not hold the loop (R8).
//!
//! # Left out
//! Topics named by strings, wildcards: types are checked by the compiler. Vetoes: if a listener
//! decides for the others, call it as a function. A bound on listeners: only the program subscribes
//! them, no peer can.
//!
//! # Read next
//! `promise.rs`: one value, for one listener.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::reactor::{Context, PanicPolicy, Place, Priority};
use topic::{AnyTopic, Callback, Delivery, Key, Listener, Shared, Topic};

mod topic;

/// Listeners that may be nested on the stack, each emitting an event that the next one gets (B4).
/// Far below the limit of a thread's stack (2 MiB at least), far above any intended use.
pub const LISTENERS_NESTED: usize = 64;

/// Names a listener, to unsubscribe it. `Copy`, never used twice, and harmless when stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId {
    event: TypeId,
    key: Key,
}

/// The bus of a loop; an extension of it. Each topic is one, too: so an event finds it at once.
#[derive(Default)]
struct Bus {
    /// By the type of event.
    topics: HashMap<TypeId, Rc<dyn AnyTopic>>,
    shared: Rc<Shared>,
}

impl<S: 'static> Context<S> {
    /// Calls `callback` with every event of type `E`, until it is unsubscribed.
    ///
    /// ```
    /// use waterwheel::Reactor;
    ///
    /// struct Placed { order: u32 }
    ///
    /// let mut reactor = Reactor::new().unwrap();
    /// reactor.subscribe(|_, mailed: &mut Vec<u32>, placed: &Placed| mailed.push(placed.order));
    /// let mut mailed = Vec::new();
    /// reactor.publish(Placed { order: 1 });
    /// reactor.emit(&mut mailed, &Placed { order: 2 });
    /// reactor.run(&mut mailed).unwrap();
    /// assert_eq!(mailed, [2, 1]);
    /// ```
    #[track_caller]
    pub fn subscribe<E: 'static>(
        &mut self,
        callback: impl FnMut(&mut Context<S>, &mut S, &E) + 'static,
    ) -> ListenerId {
        self.subscribe_with(Priority::Normal, callback)
    }

    /// [`subscribe`](Context::subscribe) with a priority among the listeners of the event.
    /// O(listeners of `E`).
    #[track_caller]
    pub fn subscribe_with<E: 'static>(
        &mut self,
        priority: Priority,
        callback: impl FnMut(&mut Context<S>, &mut S, &E) + 'static,
    ) -> ListenerId {
        self.listen(priority, false, Box::new(callback), Place::caller())
    }

    /// Calls `callback` with the next event of type `E`, and is unsubscribed before it does.
    #[track_caller]
    pub fn once<E: 'static>(
        &mut self,
        callback: impl FnOnce(&mut Context<S>, &mut S, &E) + 'static,
    ) -> ListenerId {
        let mut callback = Some(callback);
        let call = move |reactor: &mut Context<S>, state: &mut S, event: &E| {
            if let Some(callback) = callback.take() {
                callback(reactor, state, event);
            }
        };
        self.listen(Priority::Normal, true, Box::new(call), Place::caller())
    }

    fn listen<E: 'static>(
        &mut self,
        priority: Priority,
        once: bool,
        callback: Callback<S, E>,
        place: Place,
    ) -> ListenerId {
        let bus: &mut Bus = self.extension();
        let shared = bus.shared.clone();
        shared.numbered.update(|numbered| numbered + 1);
        let key = Key::new(priority, shared.numbered.get());
        let event = TypeId::of::<E>();
        let topic = match self.topic::<E>() {
            Some(topic) => topic.clone(),
            None => {
                let topic = Rc::new(Topic::<S, E>::new(shared));
                self.extension::<Bus>().topics.insert(event, topic.clone());
                self.set_extension(topic.clone());
                topic
            }
        };
        let mut listeners = topic.listeners.borrow_mut();
        let at = listeners.partition_point(|listener| listener.key < key);
        listeners.insert(at, Listener { key, callback: Some(callback), once, place });
        ListenerId { event, key }
    }

    /// Ends a subscription at once, even if the listener still waits for the current event, or runs
    /// now. Returns false if the id is stale. O(listeners of the type).
    pub fn unsubscribe(&mut self, id: ListenerId) -> bool {
        let topic = self.extension_ref::<Bus>().and_then(|bus| bus.topics.get(&id.event));
        topic.is_some_and(|topic| topic.remove(id.key))
    }

    /// How many listeners events of type `E` have.
    pub fn listeners<E: 'static>(&self) -> usize {
        self.topic::<E>().map_or(0, |topic| topic.listeners.borrow().len())
    }

    #[inline]
    fn topic<E: 'static>(&self) -> Option<&Rc<Topic<S, E>>> {
        self.extension_ref()
    }

    /// Begins to deliver an event. If it has no listener, counts it and returns `None`.
    #[inline]
    fn delivery<E: 'static>(&mut self) -> Option<Delivery<S, E>> {
        let topic = self.topic::<E>().filter(|topic| !topic.listeners.borrow().is_empty());
        let Some(topic) = topic.cloned() else {
            self.count_unheard();
            return None;
        };
        let (last, place) = (topic.shared.numbered.get(), Place::caller());
        Some(Delivery { topic, last, at: Key::FIRST, index: 0, place })
    }

    #[cold]
    fn count_unheard(&mut self) {
        self.extension::<Bus>().shared.unheard.update(|unheard| unheard + 1);
    }

    /// Events that had no listener, since the reactor was made.
    pub fn unheard(&self) -> u64 {
        self.extension_ref::<Bus>().map_or(0, |bus| bus.shared.unheard.get())
    }

    /// Sends an event in the next turn, in lane Normal, as [`enqueue`](Context::enqueue) does for a
    /// callback. O(1), one allocation; none if the event has no listener.
    #[track_caller]
    pub fn publish<E: 'static>(&mut self, event: E) {
        self.publish_at(Priority::Normal, event);
    }

    /// [`publish`](Context::publish) in another lane of the event queue.
    #[track_caller]
    pub fn publish_at<E: 'static>(&mut self, lane: Priority, event: E) {
        if let Some(delivery) = self.delivery::<E>() {
            self.enqueue(lane, move |reactor, state| {
                reactor.deliver_published(state, event, delivery);
            });
        }
    }

    /// Sends an event now: calls its listeners inside this call, and returns how many it called.
    ///
    /// # Panics
    /// If a listener panics, unless the [`PanicPolicy`] says otherwise; and if more than
    /// [`LISTENERS_NESTED`] listeners are nested, which is an endless recursion.
    pub fn emit<E: 'static>(&mut self, state: &mut S, event: &E) -> usize {
        let delivery = self.delivery::<E>();
        delivery.map_or(0, |mut delivery| self.deliver(state, event, &mut delivery))
    }

    /// The callback of a published event.
    fn deliver_published<E>(&mut self, state: &mut S, event: E, mut delivery: Delivery<S, E>)
    where
        E: 'static,
    {
        let place = self.running_place();
        let deliver = || self.deliver(state, &event, &mut delivery);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(deliver)) {
            let rest = move |reactor: &mut Context<S>, state: &mut S| {
                reactor.deliver_published(state, event, delivery);
            };
            self.defer_first(Box::new(rest), place);
            resume_unwind(panic);
        }
    }

    /// Calls the listeners that are left; returns their number. If all listeners that the event had
    /// when it was sent have gone, it counts as unheard.
    #[inline]
    fn deliver<E>(&mut self, state: &mut S, event: &E, delivery: &mut Delivery<S, E>) -> usize
    where
        E: 'static,
    {
        // A panic with a message: a stack overflow would end the process.
        assert!(
            delivery.topic.shared.nested.get() < LISTENERS_NESTED,
            "{LISTENERS_NESTED} listeners emit to each other, the last a {}",
            type_name::<E>()
        );
        let mut heard = 0;
        match self.panic_policy() {
            PanicPolicy::Propagate => self.call_listeners(state, event, delivery, &mut heard),
            PanicPolicy::Drop => {
                while let Err(panic) = catch_unwind(AssertUnwindSafe(|| {
                    self.call_listeners(state, event, delivery, &mut heard);
                })) {
                    self.drop_listener::<E>(delivery.at, delivery.place, &*panic);
                }
            }
        }
        if delivery.at == Key::FIRST {
            self.count_unheard();
        }
        heard
    }

    #[inline]
    fn call_listeners<E>(
        &mut self,
        state: &mut S,
        event: &E,
        delivery: &mut Delivery<S, E>,
        heard: &mut usize,
    ) where
        E: 'static,
    {
        while let Some(callback) = delivery.next() {
            *heard += 1;
            let (nested, here) = (&delivery.topic.shared.nested, &*delivery);
            nested.update(|nested| nested + 1);
            let outer = self.begin_nested(here.place);
            let put_back = |context: &mut Context<S>, callback, returned| {
                nested.update(|nested| nested - 1);
                context.end_nested(outer, returned);
                here.put_back(Some(callback));
            };
            self.lend(callback, put_back, |context, callback| callback(context, state, event));
        }
    }

    /// Drops and logs the listener that has panicked, by [`PanicPolicy::Drop`].
    #[cold]
    fn drop_listener<E: 'static>(&mut self, key: Key, place: Place, panic: &(dyn Any + Send)) {
        self.report_panic("listener", place, panic);
        self.unsubscribe(ListenerId { event: TypeId::of::<E>(), key });
    }
}
