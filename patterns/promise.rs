//! Promises: a value that comes later, and the callbacks that wait for it, one after the other.
//!
//! Knows deferred callbacks and timers; never mentions a kernel or a socket.
//!
//! A promise has two ends. The maker of the value holds the [`Resolver`] and settles it, once. The
//! user of the value holds the [`Promise`] and adds callbacks: `then` takes the promise and returns
//! a promise of its callback's result, so callbacks stand in a line and do not nest. The resolver
//! owns the chain that waits for it, link by link (`─▶` means: owns):
//!
//! ```text
//!   resolver ─▶ node ─▶ callback of `then` ─▶ node ─▶ callback of `catch` ─▶ node ◀─ promise
//!    (maker)                                                                          (user)
//! ```
//!
//! The states of a node (`State` in `promise/node.rs`), and the functions that change them:
//!
//! ```text
//!               ┌─────────── settle ──────────┐
//!               │                             ▼
//!   promise() ─▶ Open ── wait ─▶ Waiting ─ settle ─▶ Settled ── take, detach ─▶ Done
//!                ├────── adopt ─▶ Adopted ─ settle: settles the callback's promise, too ─▶ Done
//!                └───── detach ─▶ Detached ─ settle: a rejection is logged ─▶ Done
//!
//!   any of them ── cancel ─▶ Done
//! ```
//!
//! # Rules
//! Each is cited by a test in `tests/patterns/promises.rs`; P1 by a program in the documentation of
//! [`Resolver::resolve`] that does not compile.
//!
//! * **P1** A promise settles once: settling takes the resolver.
//! * **P2** Inside `resolve`, `reject`, `then` and `cancel` only the hooks of
//!   [`on_cancel`](Promise::on_cancel) run. A continuation (a callback of `then`, `catch`, …) is a
//!   deferred callback, in the order of settling. So the whole chain settles in the turn that
//!   settles its head, within the turn's budget of deferred callbacks (R2).
//! * **P3** A resolver that is dropped rejects its promise, with [`Broken::Abandoned`]: a lost
//!   callback is an error, and its chain does not wait without end. The continuation runs behind
//!   the callbacks deferred by the one that dropped the resolver. If a callback of a chain panics,
//!   the rest of the chain is abandoned in the same way.
//! * **P4** Dropping a `Promise` cancels nothing: the work goes on, and its result is dropped.
//!   A rejection without a handler is logged with the place of the chain's last link, and counted
//!   in [`Statistics::unhandled`](crate::reactor::Statistics::unhandled).
//! * **P5** [`cancel`](Promise::cancel) goes up the chain to its makers: all its callbacks are
//!   dropped at once, and the makers' hooks take back the work that would settle it. `race`, `all`
//!   and `any` cancel the promises that no longer count, such as the losers of a race.
//! * **P6** A pending promise does not hold the loop (R8). The work that will settle it does.
//! * **P7** Settling, cancelling and dropping never recurse: chains may be of any length.
//! * **P8** A settled, abandoned or cancelled promise frees its callbacks and value at once; a
//!   pending one frees them with its resolver or with the loop. (A promise whose callback owns its
//!   resolver is an `Rc` cycle: it waits for itself and is never settled.)
//!
//! # Left out
//! `async` and `await`. The compiler would turn a function that awaits into a *state machine*, an
//! enum with a variant for each `await` that holds the locals alive there, and `poll` would run it
//! from one to the next. The last step of a pending `poll` is to leave a *waker* with the object it
//! waits for; when that object calls the waker, an executor polls the machine again, from its
//! outermost future inwards. So a link needs no allocation, and loops and `?` work as usual. The
//! price: two kinds of functions, pinning, a waker that must be `Send`, and no `&mut S`, because a
//! future cannot borrow a state that others use across an `await`. Here a link costs two
//! allocations and a callback receives the state each time. A chain is the same machine, written by
//! hand, with its variants in boxes.
//!
//! Several listeners of one promise, which would need `T: Clone`. The bus (`bus.rs`) allows many.
//!
//! # Read next
//! `promise/node.rs`: how two ends settle one value.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::JobError;
use crate::reactor::{Context, Place};
use node::{Node, Up, cancel_up};

mod combine;
mod node;
mod retry;
mod settle;

pub use settle::{Answer, Broken, Rejection, Resolver};

/// A value of type `T` that comes later, or an error of type `E` instead of it.
///
/// Dropping it lets the work go on; [`cancel`](Promise::cancel) ends it. See the rules in the head
/// of `patterns/promise.rs`.
///
/// ```
/// use std::{io, time::Duration};
/// use waterwheel::patterns::Promise;
/// use waterwheel::reactor::{Context, Reactor};
///
/// fn answer(reactor: &mut Context<String>) -> Promise<String, u32, io::Error> {
///     let thinking = reactor.delay(Duration::from_millis(5));
///     thinking.then(reactor, |_, _, ()| Ok(42))
/// }
///
/// let mut reactor = Reactor::new()?;
/// answer(&mut reactor)
///     .timeout(&mut reactor, Duration::from_secs(1))
///     .then(&mut reactor, |_, log: &mut String, number| log.push_str(&number.to_string()))
///     .catch(&mut reactor, |_, log, error| log.push_str(&error.to_string()));
/// let mut log = String::new();
/// reactor.run(&mut log)?;
/// assert_eq!(log, "42");
/// # Ok::<(), io::Error>(())
/// ```
pub struct Promise<S: 'static, T: 'static, E: Rejection> {
    /// `None` once the node has another owner.
    node: Option<Rc<Node<S, T, E>>>,
}

impl<S: 'static> Context<S> {
    /// A promise, and the right to settle it. To turn a function with a callback into one with a
    /// promise, pass [`Resolver::done`] as the callback.
    ///
    /// ```
    /// # use std::{io, time::Duration};
    /// use waterwheel::{Context, net::{Stream, tcp}, patterns::Promise};
    ///
    /// fn connect<S: 'static>(
    ///     reactor: &mut Context<S>,
    ///     addr: std::net::SocketAddr,
    /// ) -> io::Result<Promise<S, Stream, io::Error>> {
    ///     let (promise, resolver) = reactor.promise();
    ///     let id = tcp::connect(reactor, addr, Duration::from_secs(3), resolver.done())?;
    ///     Ok(promise.on_cancel(move |reactor| {
    ///         reactor.remove(id);
    ///     }))
    /// }
    /// ```
    #[track_caller]
    pub fn promise<T, E: Rejection>(&mut self) -> (Promise<S, T, E>, Resolver<S, T, E>) {
        self.promise_at(Place::caller(), None)
    }

    fn promise_at<T, E: Rejection>(
        &mut self,
        place: Place,
        up: Option<Up<S>>,
    ) -> (Promise<S, T, E>, Resolver<S, T, E>) {
        let node = Rc::new(Node::new(self.local(), place, up));
        (Promise { node: Some(node.clone()) }, Resolver::new(node))
    }

    /// A promise that is resolved after `delay`, as by [`after`](Context::after). Cancelling it
    /// cancels its timer.
    #[track_caller]
    pub fn delay<E: Rejection>(&mut self, delay: Duration) -> Promise<S, (), E> {
        let (promise, resolver) = self.promise();
        let timer = self.after(delay, |reactor, _| {
            resolver.resolve(reactor, ());
        });
        promise.on_cancel(move |reactor| {
            reactor.cancel(timer);
        })
    }
}

impl<S: 'static> Context<S> {
    /// [`offload`](Context::offload) as a promise of the result of `work`. Cancelling it takes back
    /// work that has not begun.
    ///
    /// ```
    /// use std::{fs, io};
    /// use waterwheel::{Reactor, patterns::Promise};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let text: Promise<_, String, io::Error> =
    ///     reactor.offload_promise(|| fs::read_to_string("Cargo.toml"));
    /// text.then(&mut reactor, |_, lines: &mut usize, text| *lines = text.lines().count())
    ///     .catch(&mut reactor, |_, _, error| println!("{error}"));
    /// let mut lines = 0;
    /// reactor.run(&mut lines)?;
    /// assert!(lines > 10);
    /// # Ok::<(), io::Error>(())
    /// ```
    #[track_caller]
    pub fn offload_promise<T, E, W>(&mut self, work: W) -> Promise<S, T, E>
    where
        T: Send + 'static,
        E: Rejection + From<JobError> + Send,
        W: FnOnce() -> Result<T, E> + Send + 'static,
    {
        let (promise, resolver) = self.promise();
        let job = self.offload(work, |reactor, _, result| {
            resolver.settle(reactor, result.unwrap_or_else(|error| Err(error.into())));
        });
        promise.on_cancel(move |reactor| {
            reactor.cancel_job(job);
        })
    }
}

impl<S: 'static, T: 'static, E: Rejection> Promise<S, T, E> {
    /// A promise that is resolved already: for a function that has the value in its cache.
    #[track_caller]
    pub fn resolved(reactor: &mut Context<S>, value: T) -> Promise<S, T, E> {
        let (promise, resolver) = reactor.promise();
        resolver.resolve(reactor, value);
        promise
    }

    /// A promise that is rejected already.
    #[track_caller]
    pub fn rejected(reactor: &mut Context<S>, error: E) -> Promise<S, T, E> {
        let (promise, resolver) = reactor.promise();
        resolver.reject(reactor, error);
        promise
    }

    /// Calls `callback` with the value when it is there. The callback's result settles the promise
    /// that `then` returns: nothing, a `Result`, or another promise, which is waited for. An error
    /// goes on to the next link. O(1), two allocations.
    #[track_caller]
    pub fn then<A, F>(self, reactor: &mut Context<S>, callback: F) -> Promise<S, A::Value, E>
    where
        F: FnOnce(&mut Context<S>, &mut S, T) -> A + 'static,
        A: Answer<S, E>,
    {
        self.link(reactor, Place::caller(), |reactor, state, result, resolver| match result {
            Ok(value) => callback(reactor, state, value).settle(reactor, resolver),
            Err(error) => {
                resolver.reject(reactor, error);
            }
        })
    }

    /// Calls `callback` with the error if there is one; its result takes the value's place. A value
    /// goes on to the next link.
    #[track_caller]
    pub fn catch<A, F>(self, reactor: &mut Context<S>, callback: F) -> Promise<S, T, E>
    where
        F: FnOnce(&mut Context<S>, &mut S, E) -> A + 'static,
        A: Answer<S, E, Value = T>,
    {
        self.link(reactor, Place::caller(), |reactor, state, result, resolver| match result {
            Ok(value) => {
                resolver.resolve(reactor, value);
            }
            Err(error) => callback(reactor, state, error).settle(reactor, resolver),
        })
    }

    /// Calls `callback` in both cases, and passes the value or error on. It is not called if the
    /// chain is cancelled: a cleanup that is needed even then belongs in a captured value's `Drop`.
    #[track_caller]
    pub fn finally<F>(self, reactor: &mut Context<S>, callback: F) -> Promise<S, T, E>
    where
        F: FnOnce(&mut Context<S>, &mut S) + 'static,
    {
        self.link(reactor, Place::caller(), |reactor, state, result, resolver| {
            callback(reactor, state);
            resolver.settle(reactor, result);
        })
    }

    /// Converts the error, so that promises with different errors can stand in one chain.
    #[track_caller]
    pub fn map_err<E2, F>(self, reactor: &mut Context<S>, convert: F) -> Promise<S, T, E2>
    where
        E2: Rejection,
        F: FnOnce(E) -> E2 + 'static,
    {
        self.link(reactor, Place::caller(), |reactor, _, result, resolver| {
            resolver.settle(reactor, result.map_err(convert));
        })
    }

    /// Adds a hook that runs when the promise is cancelled while it is pending, to take back the
    /// work that would settle it. For makers of promises. It runs inside `cancel`, and is dropped
    /// when the promise settles.
    #[must_use = "dropping a promise detaches it"]
    pub fn on_cancel<F>(self, hook: F) -> Promise<S, T, E>
    where
        F: FnOnce(&mut Context<S>) + 'static,
    {
        if let Some(node) = &self.node {
            node.add_hook(Box::new(hook));
        }
        self
    }

    /// Ends the chain, as far up as it is pending: its callbacks are dropped and never called, even
    /// if one was due in this turn, and its maker's hook is called. O(links).
    pub fn cancel(mut self, reactor: &mut Context<S>) {
        if let Some(node) = self.node.take() {
            cancel_up(reactor, &*node);
        }
    }

    /// One link of a chain: a continuation for this promise, and the promise that it settles.
    fn link<U, E2, F>(
        mut self,
        reactor: &mut Context<S>,
        place: Place,
        callback: F,
    ) -> Promise<S, U, E2>
    where
        U: 'static,
        E2: Rejection,
        F: FnOnce(&mut Context<S>, &mut S, Result<T, E>, Resolver<S, U, E2>) + 'static,
    {
        let up = self.up();
        let (promise, resolver) = reactor.promise_at(place, up);
        self.wait(reactor, place, |reactor, state, result| {
            callback(reactor, state, result, resolver);
        });
        promise
    }

    /// Runs `next` as a deferred callback when the promise is settled.
    #[inline]
    fn wait<F>(&mut self, reactor: &mut Context<S>, place: Place, next: F)
    where
        F: FnOnce(&mut Context<S>, &mut S, Result<T, E>) + 'static,
    {
        let Some(node) = self.node.take() else { return };
        // The node owns the callback, and the callback owns the node, which holds the value until
        // the callback takes it. The cycle ends with the resolver, and there is always one.
        let settled = node.clone();
        let run = Box::new(move |reactor: &mut Context<S>, state: &mut S| {
            let result = settled.take();
            drop(settled);
            if let Some(result) = result {
                next(reactor, state, result);
            }
        });
        node.wait(reactor, run, place);
    }

    /// The link that a cancel follows up the chain.
    #[inline]
    fn up(&self) -> Option<Up<S>> {
        self.node.as_ref().map(|node| Rc::downgrade(node) as Up<S>)
    }
}

/// P4.
impl<S: 'static, T: 'static, E: Rejection> Drop for Promise<S, T, E> {
    #[inline]
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            node.detach();
        }
    }
}

impl<S: 'static, T: 'static, E: Rejection> fmt::Debug for Promise<S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(node) = &self.node else { return f.write_str("Promise") };
        f.debug_struct("Promise")
            .field("made", &node.place)
            .field("settled", &node.is_settled())
            .finish()
    }
}
