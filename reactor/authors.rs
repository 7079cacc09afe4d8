//! Methods of the loop for authors of patterns and protocols; a program does not need them.
//!
//! Knows types and the callback that runs; never mentions the purpose of a pattern. All of it is
//! public, so that a pattern of yours can do the same as ours:
//!
//! | keep one value of a type in the loop | [`Context::extension`] |
//! | take a callback out of its slot while it runs | [`Context::lend`] |
//! | call a callback inside another one, as a part of it | [`Context::begin_nested`] |
//! | announce work outside of the loop that will post its result | [`Context::begin_outside`] |
//! | stop something before the parts of the loop are dropped | [`Context::close_first`] |
//! | record bytes and failures of a source | [`Context::note_bytes`], [`Context::note_failed`] |
//! | post on behalf of a source | [`Context::origin`], `remote/mod.rs` |
//! | defer a callback with the place where the program passed it | [`Context::defer_boxed`] |
//! | call a source as only its author can | [`Messages`](super::Messages), `readiness.rs` |
//! | defer a callback without a `Context` | [`Local`](super::Local), `local.rs` |
//!
//! # Read next
//! `local.rs`: handles for code that has no `Context`.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::dispatch::panic_message;
use super::trace::{Kind, Subject};
use super::{Context, PanicPolicy, Place, RawId};

/// Values, one of each type, and functions that are called first when the loop is dropped.
#[derive(Default)]
pub(super) struct Extensions {
    values: HashMap<TypeId, Box<dyn Any>, BuildHasherDefault<TypeHasher>>,
    closers: Vec<Closer>,
}

type Closer = Box<dyn FnOnce() -> Box<dyn Any>>;

impl Extensions {
    #[inline]
    pub(super) fn get<T: Default + 'static>(&mut self) -> &mut T {
        let value = self.values.entry(TypeId::of::<T>());
        let value = value.or_insert_with(|| Box::<T>::default());
        value.downcast_mut().expect("it is kept by its type")
    }

    /// Calls the functions of [`Context::close_first`]. Returns their results, to be dropped later.
    pub(super) fn close(&mut self) -> Vec<Box<dyn Any>> {
        self.closers.drain(..).map(|close| close()).collect()
    }
}

/// A `TypeId` is a hash already: it is used as it is.
#[derive(Default)]
pub(super) struct TypeHasher(u64);

impl Hasher for TypeHasher {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Today a `TypeId` is hashed by the method above. If that changes, this one is good enough.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

impl<S: 'static> Context<S> {
    /// For authors of patterns and protocols: the loop's value of type `T`. The first call makes
    /// it, and it is dropped with the loop. O(1).
    ///
    /// ```
    /// use waterwheel::{Context, Reactor};
    ///
    /// #[derive(Default)]
    /// struct Asked(u32);
    ///
    /// fn ask<S: 'static>(reactor: &mut Context<S>) -> u32 {
    ///     let asked: &mut Asked = reactor.extension();
    ///     asked.0 += 1;
    ///     asked.0
    /// }
    ///
    /// let mut reactor = Reactor::<()>::new()?;
    /// assert_eq!((ask(&mut reactor), ask(&mut reactor)), (1, 2));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn extension<T: Default + 'static>(&mut self) -> &mut T {
        self.extensions.get()
    }

    /// The loop's value of type `T`, if there is one yet.
    #[inline]
    pub fn extension_ref<T: 'static>(&self) -> Option<&T> {
        self.extensions.values.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// Sets the loop's value of type `T`. An earlier value of that type is dropped.
    pub fn set_extension<T: 'static>(&mut self, value: T) {
        self.extensions.values.insert(TypeId::of::<T>(), Box::new(value));
    }

    /// For authors of patterns: calls `close` when the loop is dropped, before any source, callback
    /// or extension is dropped. Its result is dropped later, when the loop takes no more callbacks.
    /// So a pattern's threads stop before a `drop` of the program runs. `close` must not panic.
    pub fn close_first(&mut self, close: impl FnOnce() -> Box<dyn Any> + 'static) {
        self.extensions.closers.push(Box::new(close));
    }

    /// For authors of patterns: work has begun outside of the loop, and its result will be posted.
    /// A manual clock stands still until [`end_outside`](Context::end_outside), so that a test does
    /// not depend on how fast the work is done.
    pub fn begin_outside(&mut self) {
        self.outside += 1;
    }

    /// For authors of patterns: the result of that work has come, or will never come.
    pub fn end_outside(&mut self) {
        debug_assert!(self.outside > 0, "more work has ended than has begun");
        self.outside = self.outside.saturating_sub(1);
    }
}

/// The loop, and a value that was taken out of its slot, while `call` has both.
struct Lent<'a, S: 'static, T, B: FnOnce(&mut Context<S>, T, bool)> {
    context: &'a mut Context<S>,
    lent: Option<(T, B)>,
}

impl<S: 'static, T, B: FnOnce(&mut Context<S>, T, bool)> Lent<'_, S, T, B> {
    #[inline(always)]
    fn end(&mut self, returned: bool) {
        if let Some((lent, put_back)) = self.lent.take() {
            put_back(self.context, lent, returned);
        }
    }
}

impl<S: 'static, T, B: FnOnce(&mut Context<S>, T, bool)> Drop for Lent<'_, S, T, B> {
    #[cold]
    fn drop(&mut self) {
        self.end(false);
    }
}

impl<S: 'static> Context<S> {
    /// For authors of patterns and protocols: calls `call` with the loop and a value that was taken
    /// out of its slot, usually a callback. Then `put_back` gets the value, also if `call` panics;
    /// its bool is true if `call` has returned. So nothing on the stack borrows the slot while a
    /// callback runs, and the callback survives a panic.
    ///
    /// ```
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    /// use waterwheel::Reactor;
    ///
    /// let mut reactor = Reactor::<()>::new()?;
    /// let mut slot = Some("callback");
    /// let lent = slot.take().unwrap();
    /// let panicked = catch_unwind(AssertUnwindSafe(|| {
    ///     let put_back = |_: &mut waterwheel::Context<()>, callback, returned: bool| {
    ///         assert!(!returned);
    ///         slot = Some(callback);
    ///     };
    ///     reactor.lend(lent, put_back, |_, _| panic!("in the callback"));
    /// }));
    /// assert!(panicked.is_err() && slot == Some("callback"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline(always)]
    pub fn lend<T, B, C>(&mut self, lent: T, put_back: B, call: C)
    where
        B: FnOnce(&mut Context<S>, T, bool),
        C: FnOnce(&mut Context<S>, &mut T),
    {
        let mut lent = Lent { context: self, lent: Some((lent, put_back)) };
        if let Lent { context, lent: Some((lent, _)) } = &mut lent {
            call(context, lent);
        }
        // Called here, so that only a panic goes through `drop`, which is not inlined.
        lent.end(true);
        std::mem::forget(lent);
    }
}

/// The outer callback, while the nested one runs.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// Its record in the trace, the time when it began, and its place.
    running: u64,
    began: u64,
    place: Place,
}

impl<S: 'static> Context<S> {
    /// For authors of patterns: announces that the callback which runs now calls another one as a
    /// part of it (R1); `place` is the place of that one. The trace shows it inside the first. Pass
    /// the result to [`end_nested`](Context::end_nested), also after a panic.
    #[inline]
    pub fn begin_nested(&mut self, place: Place) -> Outer {
        let (running, began) = (self.trace.running, self.trace.began);
        let outer = Outer { running, began, place: self.running_place };
        self.running_place = place;
        if self.trace.is_on() {
            self.note(Kind::RunNested, Subject::None, place, 0);
            self.trace.running = self.trace.sequence;
            self.trace.at = self.time.this_moment().nanos();
            self.trace.began = self.trace.at;
        }
        outer
    }

    /// For authors of patterns: the nested callback has returned, or panicked.
    #[inline]
    pub fn end_nested(&mut self, outer: Outer, returned: bool) {
        if self.trace.is_on() {
            if returned {
                self.end_callback(Kind::Returned);
            }
            (self.trace.running, self.trace.began) = (outer.running, outer.began);
        }
        self.running_place = outer.place;
    }

    /// For authors of patterns: calls `run`, which calls callbacks of other parts. If it panics,
    /// [`PanicPolicy::Drop`] does not drop the source whose callback runs now.
    pub fn call_for_others<R>(&mut self, run: impl FnOnce(&mut Context<S>) -> R) -> R {
        let running = std::mem::replace(&mut self.running, Subject::None);
        let result = run(self);
        self.running = running;
        result
    }

    /// The policy for a callback that panics.
    pub fn panic_policy(&self) -> PanicPolicy {
        self.panic
    }

    /// The place where the program handed the callback that runs now to the loop.
    pub fn running_place(&self) -> Place {
        self.running_place
    }

    /// For authors of patterns who catch the panic of a callback: logs and counts it, as the loop
    /// does for its own. `what` is a word for the callback, such as "listener".
    #[cold]
    pub fn report_panic(&mut self, what: &str, place: Place, panic: &(dyn Any + Send)) {
        let message = panic_message(panic);
        log::error!("the {what} from {place} panicked ({message}) and is dropped");
        self.statistics.panicked += 1;
        self.note(Kind::Panicked, Subject::None, place, 0);
    }
}

/// What an author's source adds to the trace.
impl<S: 'static> Context<S> {
    /// Returns true if there is an observer.
    #[inline]
    pub fn is_observed(&self) -> bool {
        self.trace.is_on()
    }

    /// For authors of sources: records that the system has refused the source something it needs.
    #[cold]
    pub fn note_failed(&mut self, id: RawId, error: &std::io::Error) {
        let number = error.raw_os_error().unwrap_or(0);
        self.note(Kind::Failed, id.into(), self.place_of(id.into()), number.unsigned_abs());
    }

    /// For authors of sources: records that a source has received or sent bytes.
    #[inline]
    pub fn note_bytes(&mut self, id: RawId, kind: Kind, bytes: usize) {
        if self.trace.is_on() && bytes > 0 {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.note(kind, id.into(), self.place_of(id.into()), bytes);
        }
    }
}
