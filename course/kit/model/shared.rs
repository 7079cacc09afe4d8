//! What the threads of a model share: a flag, a lock, and a kernel that sleeps.
//!
//! Outside of a model they are as those of the standard library.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{self, Arc, PoisonError, TryLockError};
use std::{ops, panic::Location, ptr};

use super::{block, is_modelled, note, step, unblock};

fn address<T>(of: &T) -> usize {
    ptr::from_ref(of).addr()
}

/// As the one in `std`, with `SeqCst` always; each call is a step of the model, if there is one.
#[derive(Debug, Default)]
pub struct AtomicBool(sync::atomic::AtomicBool);

impl AtomicBool {
    pub const fn new(value: bool) -> AtomicBool {
        AtomicBool(sync::atomic::AtomicBool::new(value))
    }

    #[track_caller]
    pub fn load(&self) -> bool {
        step();
        let value = self.0.load(SeqCst);
        note(Location::caller(), format_args!("load: it is {value}"));
        value
    }

    #[track_caller]
    pub fn store(&self, value: bool) {
        step();
        self.0.store(value, SeqCst);
        note(Location::caller(), format_args!("store {value}"));
    }

    /// Sets the value, and gives the one before. No other thread comes between.
    #[track_caller]
    pub fn swap(&self, value: bool) -> bool {
        step();
        let before = self.0.swap(value, SeqCst);
        note(Location::caller(), format_args!("swap {value}: it was {before}"));
        before
    }
}

/// As the one in `std`, without poison; and taking it is a step of the model, if there is one.
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(sync::Mutex::new(value))
    }

    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if !is_modelled() {
            let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            return MutexGuard { guard: Some(guard), address: address(self) };
        }
        step();
        loop {
            let guard = match self.0.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poison)) => poison.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    block(address(self));
                    continue;
                }
            };
            note(Location::caller(), "lock");
            return MutexGuard { guard: Some(guard), address: address(self) };
        }
    }
}

/// The lock is held while this lives.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    guard: Option<sync::MutexGuard<'a, T>>,
    address: usize,
}

impl<T> ops::Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("it is there until the drop")
    }
}

impl<T> ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("it is there until the drop")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.guard.take());
        unblock(self.address);
    }
}

/// Wakes a loop that sleeps.
pub trait Wake {
    fn wake(&self);
}

impl Wake for mio::Waker {
    fn wake(&self) {
        if let Err(error) = mio::Waker::wake(self) {
            eprintln!("cannot wake the loop: {error}");
        }
    }
}

/// A kernel that only sleeps and is woken; clones are the same one. A wake that comes before the
/// sleep is remembered, as in an eventfd. Outside of a model it does not sleep, and counts.
#[derive(Clone, Debug, Default)]
pub struct Sleeper(Arc<sync::Mutex<Sleep>>);

#[derive(Debug, Default)]
struct Sleep {
    woken: bool,
    wakes: usize,
    sleeps: usize,
}

impl Sleeper {
    fn state(&self) -> sync::MutexGuard<'_, Sleep> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until it is woken; or, if it may not sleep, takes only a look.
    #[track_caller]
    pub fn poll(&self, may_sleep: bool) {
        step();
        note(Location::caller(), if may_sleep { "sleeps" } else { "does not sleep" });
        self.state().sleeps += usize::from(may_sleep);
        while may_sleep && !self.state().woken && is_modelled() {
            block(address(&*self.0));
        }
        self.state().woken = false;
    }

    /// How often it was woken.
    pub fn wakes(&self) -> usize {
        self.state().wakes
    }

    /// How often it has slept.
    pub fn sleeps(&self) -> usize {
        self.state().sleeps
    }
}

impl Wake for Sleeper {
    #[track_caller]
    fn wake(&self) {
        step();
        let mut state = self.state();
        (state.woken, state.wakes) = (true, state.wakes + 1);
        drop(state);
        note(Location::caller(), "wakes the loop");
        unblock(address(&*self.0));
    }
}
