//! Topics: the listeners of one type of event, and an event on its way along them.
//!
//! Knows lists of callbacks; never calls one.
//!
//! A listener may change its own list while it is called, so the list is not borrowed during the
//! call, and its position is checked again afterwards: it is found by key if it has moved.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::reactor::{Context, Place, Priority};

/// The order of listeners: priority in the upper bits, then the number of the subscription, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(u64);

impl Key {
    const NUMBER_BITS: u32 = 62;
    /// Before every listener.
    pub(super) const FIRST: Key = Key(0);

    pub(super) fn new(priority: Priority, number: u64) -> Key {
        Key((priority as u64) << Key::NUMBER_BITS | number)
    }

    pub(super) fn number(self) -> u64 {
        self.0 & ((1 << Key::NUMBER_BITS) - 1)
    }
}

pub(super) type Callback<S, E> = Box<dyn FnMut(&mut Context<S>, &mut S, &E)>;

pub(super) struct Listener<S: 'static, E> {
    pub(super) key: Key,
    /// `None` while it runs.
    pub(super) callback: Option<Callback<S, E>>,
    pub(super) once: bool,
    pub(super) place: Place,
}

/// The listeners of one type of event, in the order of their keys. Shared with the events on their
/// way: they find it once and not for each listener.
pub(super) struct Topic<S: 'static, E> {
    pub(super) listeners: RefCell<Vec<Listener<S, E>>>,
    pub(super) shared: Rc<Shared>,
}

/// Numbers that the topics of a loop share.
#[derive(Default)]
pub(super) struct Shared {
    /// Subscriptions so far.
    pub(super) numbered: Cell<u64>,
    /// Listeners on the stack.
    pub(super) nested: Cell<usize>,
    /// Events without a listener.
    pub(super) unheard: Cell<u64>,
}

impl<S: 'static, E> Topic<S, E> {
    pub(super) fn new(shared: Rc<Shared>) -> Topic<S, E> {
        Topic { listeners: RefCell::default(), shared }
    }
}

/// A topic of any type.
pub(super) trait AnyTopic {
    fn remove(&self, key: Key) -> bool;
}

impl<S: 'static, E: 'static> AnyTopic for Topic<S, E> {
    fn remove(&self, key: Key) -> bool {
        let mut listeners = self.listeners.borrow_mut();
        let at = listeners.binary_search_by_key(&key, |listener| listener.key);
        at.map(|at| listeners.remove(at)).is_ok()
    }
}

/// An event on its way from one listener to the next.
pub(super) struct Delivery<S: 'static, E> {
    pub(super) topic: Rc<Topic<S, E>>,
    /// The last subscription when the event was sent (B2).
    pub(super) last: u64,
    /// The listener that was called last; its index in the list then, and its place.
    pub(super) at: Key,
    pub(super) index: usize,
    pub(super) place: Place,
}

impl<S: 'static, E> Delivery<S, E> {
    /// Takes out the callback of the next listener. A listener for `once` is removed with it.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Callback<S, E>> {
        let mut listeners = self.topic.listeners.borrow_mut();
        // Where it was, unless a listener has changed the list.
        let mut index = match listeners.get(self.index) {
            Some(listener) if listener.key == self.at => self.index + 1,
            _ => listeners.partition_point(|listener| listener.key <= self.at),
        };
        loop {
            let listener = listeners.get_mut(index)?;
            if listener.key.number() <= self.last
                && let Some(callback) = listener.callback.take()
            {
                (self.at, self.index, self.place) = (listener.key, index, listener.place);
                if listener.once {
                    listeners.remove(index);
                }
                return Some(callback);
            }
            index += 1;
        }
    }

    /// Puts the callback back, unless it was unsubscribed, or listens once.
    #[inline]
    pub(super) fn put_back(&self, callback: Option<Callback<S, E>>) {
        let mut listeners = self.topic.listeners.borrow_mut();
        let index = match listeners.get(self.index) {
            Some(listener) if listener.key == self.at => Ok(self.index),
            _ => listeners.binary_search_by_key(&self.at, |listener| listener.key),
        };
        if let Ok(index) = index {
            listeners[index].callback = callback;
        }
    }
}
