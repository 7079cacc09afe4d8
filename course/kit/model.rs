//! Tries every order in which the steps of a few threads can happen.
//!
//! A step is what one thread can see of another: taking a lock, a look at a flag, sleeping, waking.
//! The threads are real ones, and only one of them runs at a time: before each step the scheduler
//! chooses who is next. A choice that was made in one run is made differently in a later one, until
//! all have been made. If no thread can go on, and one is not done, that order is a failure.
//!
//! # Left out
//! * More than [`PREEMPTIONS_MAX`] changes away from a thread that could go on. Two of them show
//!   nearly all mistakes (Musuvathi and Qadeer 2007), and the number of orders stays small.
//! * Processors on which two threads see two writes in different orders. Here all see one order, as
//!   `SeqCst` promises. loom (the crate) tries the others, too.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, Location, catch_unwind};
use std::sync::{self, Arc, Condvar, PoisonError};
use std::thread;

mod shared;

pub use shared::{AtomicBool, Mutex, MutexGuard, Sleeper, Wake};

/// Changes from one thread to another where the first could go on, in one order.
pub const PREEMPTIONS_MAX: usize = 3;
/// The most orders that are tried. 200,000: under a minute.
const ORDERS_MAX: usize = 200_000;
/// The most steps of one order: a thread that needs more waits in a circle.
const STEPS_MAX: usize = 2000;

/// A thread of a model.
pub struct Thread {
    name: &'static str,
    run: Box<dyn FnOnce() + Send>,
}

/// A thread with a name for the trace.
pub fn thread(name: &'static str, run: impl FnOnce() + Send + 'static) -> Thread {
    Thread { name, run: Box::new(run) }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Thread").field(&self.name).finish()
    }
}

/// An order in which something goes wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What goes wrong.
    pub sentence: String,
    /// The steps, a line for each.
    pub steps: Vec<String>,
    /// Which order it was.
    pub orders: usize,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sentence)?;
        self.steps.iter().try_for_each(|step| write!(f, "\n  {step}"))
    }
}

/// Tries every order of the threads that `make` makes, each time anew. Gives how many there were.
///
/// # Errors
/// The first order in which a thread panics, or none can go on before all are done.
pub fn orders(make: impl Fn() -> Vec<Thread>) -> Result<usize, Failure> {
    let mut path = Vec::new();
    for count in 1..=ORDERS_MAX {
        let (failure, steps, taken) = run(make(), path);
        if let Some(sentence) = failure {
            return Err(Failure { sentence, steps, orders: count });
        }
        path = taken;
        while path.last().is_some_and(|choice| choice.taken + 1 == choice.of) {
            path.pop();
        }
        match path.last_mut() {
            Some(choice) => choice.taken += 1,
            None => return Ok(count),
        }
    }
    let sentence = format!("There are more than {ORDERS_MAX} orders: too many steps.");
    Err(Failure { sentence, steps: Vec::new(), orders: ORDERS_MAX })
}

/// Ends the thread, and with it this order, which has failed.
pub fn wrong(sentence: &str) -> ! {
    panic::resume_unwind(Box::new(sentence.to_owned()))
}

/// One decision of the scheduler: which of so many threads is next.
struct Choice {
    taken: usize,
    of: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Status {
    Ready,
    /// Until the thing at this address changes.
    Blocked(usize),
    Done,
}

struct State {
    names: Vec<&'static str>,
    threads: Vec<Status>,
    /// The thread that may run.
    turn: usize,
    /// The choices: those at the front are given, the others are made on the way.
    path: Vec<Choice>,
    made: usize,
    preemptions: usize,
    steps: Vec<String>,
    failure: Option<String>,
}

struct Scheduler {
    state: sync::Mutex<State>,
    changed: Condvar,
}

/// The end of a thread whose order has failed already.
struct Abandoned;

thread_local! {
    /// The scheduler of this thread, and its number.
    static CURRENT: RefCell<Option<(Arc<Scheduler>, usize)>> = const { RefCell::new(None) };
}

fn run(threads: Vec<Thread>, path: Vec<Choice>) -> (Option<String>, Vec<String>, Vec<Choice>) {
    let state = State {
        names: threads.iter().map(|thread| thread.name).collect(),
        threads: vec![Status::Ready; threads.len()],
        turn: 0,
        path,
        made: 0,
        preemptions: 0,
        steps: Vec::new(),
        failure: None,
    };
    let scheduler = Arc::new(Scheduler { state: sync::Mutex::new(state), changed: Condvar::new() });
    scheduler.lock().choose(None);
    thread::scope(|scope| {
        for (number, Thread { run, .. }) in threads.into_iter().enumerate() {
            let scheduler = scheduler.clone();
            scope.spawn(move || {
                CURRENT.set(Some((scheduler.clone(), number)));
                let result = catch_unwind(AssertUnwindSafe(|| {
                    scheduler.wait_for_turn(number);
                    run();
                }));
                scheduler.done(number, result.err());
            });
        }
    });
    let mut state = scheduler.lock();
    (state.failure.take(), std::mem::take(&mut state.steps), std::mem::take(&mut state.path))
}

impl State {
    /// Decides who is next; `current` is the thread that runs, if it can go on.
    fn choose(&mut self, current: Option<usize>) {
        let ready = |number: &usize| self.threads[*number] == Status::Ready;
        let others = (0..self.threads.len()).filter(|n| Some(*n) != current).filter(ready);
        let mut options: Vec<usize> = current.into_iter().collect();
        if current.is_none() || self.preemptions < PREEMPTIONS_MAX {
            options.extend(others);
        }
        if options.is_empty() {
            if self.threads.iter().any(|thread| *thread != Status::Done) {
                self.fail("No thread can go on, and one of them is not done.".into());
            }
            return;
        }
        if self.made == self.path.len() {
            self.path.push(Choice { taken: 0, of: options.len() });
        }
        self.turn = options[self.path[self.made].taken];
        self.made += 1;
        self.preemptions += usize::from(current.is_some_and(|current| current != self.turn));
    }

    fn fail(&mut self, sentence: String) {
        self.failure.get_or_insert(sentence);
    }
}

impl Scheduler {
    fn lock(&self) -> sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_turn(&self, number: usize) {
        let mut state = self.lock();
        while state.turn != number && state.failure.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let failed = state.failure.is_some();
        drop(state);
        if failed && !thread::panicking() {
            panic::resume_unwind(Box::new(Abandoned));
        }
    }

    /// The thread has the turn, and gives it to the next one; `status` says if it can go on.
    fn pass(&self, number: usize, status: Status) {
        let mut state = self.lock();
        state.threads[number] = status;
        if state.failure.is_none() {
            state.choose((status == Status::Ready).then_some(number));
        }
        if state.made > STEPS_MAX {
            state.fail(format!("After {STEPS_MAX} steps it is not done: it waits in a circle."));
        }
        let goes_on = state.turn == number && state.failure.is_none();
        drop(state);
        if !goes_on {
            self.changed.notify_all();
        }
    }

    fn done(&self, number: usize, panic: Option<Box<dyn Any + Send>>) {
        if let Some(panic) = panic.filter(|panic| !panic.is::<Abandoned>()) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            self.lock().fail(text.unwrap_or_else(|| "A thread has panicked.".into()));
        }
        self.pass(number, Status::Done);
    }
}

/// Runs `act` with the scheduler of this thread. Does nothing outside of a model.
fn scheduled(act: impl FnOnce(&Scheduler, usize)) {
    let current = CURRENT.with_borrow(Clone::clone);
    if let Some((scheduler, number)) = current
        && !thread::panicking()
    {
        act(&scheduler, number);
    }
}

/// Returns true if this thread belongs to a model.
fn is_modelled() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// Another thread may run here.
fn step() {
    scheduled(|scheduler, number| {
        scheduler.pass(number, Status::Ready);
        scheduler.wait_for_turn(number);
    });
}

/// This thread cannot go on until the thing at that address changes. Returns at once outside of a
/// model.
fn block(address: usize) {
    scheduled(|scheduler, number| {
        scheduler.pass(number, Status::Blocked(address));
        scheduler.wait_for_turn(number);
    });
}

/// The thing at that address has changed.
fn unblock(address: usize) {
    scheduled(|scheduler, _| {
        for thread in &mut scheduler.lock().threads {
            if *thread == Status::Blocked(address) {
                *thread = Status::Ready;
            }
        }
    });
}

fn note(at: &Location<'_>, what: impl fmt::Display) {
    scheduled(|scheduler, number| {
        let mut state = scheduler.lock();
        let file = at.file().rsplit('/').next().unwrap_or_default();
        let place = format!("{file}:{}", at.line());
        let line = format!("{:<8} {place:<14} {what}", state.names[number]);
        state.steps.push(line);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_of_two_steps_have_six_orders() {
        let seen = Arc::new(sync::Mutex::new(Vec::new()));
        let count = orders(|| {
            let log = Arc::new(sync::Mutex::new(String::new()));
            let (a, b) = (Arc::new(AtomicBool::default()), log.clone());
            let write = move |name: char| {
                a.swap(true);
                b.lock().unwrap().push(name);
                a.swap(true);
                b.lock().unwrap().push(name);
            };
            let (first, seen) = (write.clone(), seen.clone());
            vec![
                thread("a", move || {
                    first('a');
                    seen.lock().unwrap().push(log);
                }),
                thread("b", move || write('b')),
            ]
        });
        let seen = seen.lock().unwrap();
        let texts: std::collections::BTreeSet<_> =
            seen.iter().map(|log| log.lock().unwrap().clone()).collect();
        let all = ["aabb", "abab", "abba", "baab", "baba", "bbaa"];
        assert_eq!(texts.iter().map(String::as_str).collect::<Vec<_>>(), all);
        assert!(count.unwrap() >= 6);
    }

    #[test]
    fn a_lock_is_held_by_one_at_a_time() {
        orders(|| {
            let numbers = Arc::new(Mutex::new(Vec::new()));
            let flag = Arc::new(AtomicBool::default());
            let both = [1, 2].map(|number| (number, numbers.clone(), flag.clone()));
            both.map(|(number, numbers, flag)| {
                thread("adds", move || {
                    let mut numbers = numbers.lock();
                    numbers.push(number);
                    flag.swap(true); // Another one may run here, and must wait.
                    numbers.push(number);
                    assert_eq!(numbers[numbers.len() - 2..], [number; 2]);
                })
            })
            .into()
        })
        .unwrap();
    }

    #[test]
    fn a_flag_that_two_threads_look_at_and_then_set_is_found() {
        let failure = orders(|| {
            let taken = Arc::new(AtomicBool::default());
            let count = Arc::new(sync::Mutex::new(0));
            let both = [taken.clone(), taken].map(|taken| {
                let count = count.clone();
                thread("takes", move || {
                    if !taken.load() {
                        taken.store(true);
                        *count.lock().unwrap() += 1;
                        if *count.lock().unwrap() > 1 {
                            wrong("Two have it.");
                        }
                    }
                })
            });
            both.into()
        });
        let failure = failure.unwrap_err();
        assert_eq!(failure.sentence, "Two have it.");
        assert_eq!(failure.steps.len(), 4, "{failure}");
    }

    #[test]
    fn a_thread_that_waits_in_a_circle_is_found() {
        let failure = orders(|| {
            let flag = AtomicBool::default();
            vec![thread("waits", move || while !flag.load() {})]
        });
        assert!(failure.unwrap_err().sentence.contains("in a circle"));
    }

    #[test]
    fn a_sleep_that_nobody_ends_is_found() {
        let failure = orders(|| {
            let sleeps = Sleeper::default();
            let wakes = sleeps.clone();
            vec![
                thread("loop", move || (0..2).for_each(|_| sleeps.poll(true))),
                thread("poster", move || (0..2).for_each(|_| wakes.wake())),
            ]
        });
        let failure = failure.unwrap_err(); // Two wakes before one sleep are one.
        assert_eq!(failure.sentence, "No thread can go on, and one of them is not done.");
        assert!(failure.steps.last().unwrap().contains("sleeps"), "{failure}");
    }
}
