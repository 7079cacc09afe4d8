//! Eleven sentences about `promise.rs`. The loop is the kit's: its clock stands still while there
//! is something to do, and it counts what is left.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use kit::{Loop, Seed, expect, refuse, same, seeds};

#[path = "promise.rs"]
#[allow(clippy::all, dead_code, unused)]
#[rustfmt::skip]
mod promise;

use promise::{Outcome, Promise, Resolver, all, promise, race};

/// What has happened, in order. Clones are the same list.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<u64>>>);

impl Log {
    fn push(&self, number: u64) {
        self.0.borrow_mut().push(number);
    }

    fn all(&self) -> Vec<u64> {
        self.0.borrow().clone()
    }
}

fn error<T>(number: u64) -> Outcome<T> {
    Err(number.to_string())
}

/// A promise that a timer settles. A cancel takes the timer back.
fn delay(on: &Loop, delay_ms: u64, outcome: Outcome<u64>) -> Promise<u64> {
    let (promise, resolver) = promise(on);
    let timer = on.after(delay_ms, move || resolver.settle(outcome));
    let on = on.clone();
    promise.on_cancel(move || {
        on.cancel(timer);
    })
}

/// Adds both kinds of callback, so that `log` gets the value, or 1,000 more than the error.
fn listen(promise: Promise<u64>, log: &Log) {
    let (values, errors) = (log.clone(), log.clone());
    let promise = promise.then(move |value| {
        values.push(value);
        Ok(value)
    });
    promise.catch(move |error| {
        errors.push(1000 + error.parse::<u64>().unwrap_or(999));
        Ok(0)
    });
}

#[test]
fn nothing_runs_inside_then_or_settle() {
    let (on, log) = (Loop::new(), Log::default());
    let (first, resolver) = promise(&on);
    resolver.settle(Ok(1));
    listen(first, &log);
    same(log.all(), [], "It is settled; `then` was called; and nothing has run in it.");
    let (second, resolver) = promise(&on);
    listen(second, &log);
    resolver.settle(error(2));
    same(log.all(), [], "`settle` was called, and nothing has run in it.");
    on.run();
    same(log.all(), [1, 1002], "The loop runs the callbacks.");
}

#[test]
fn an_error_passes_by_then_and_a_value_by_catch() {
    seeds(200, |seed| {
        let (on, log) = (Loop::new(), Log::default());
        let (mut tail, resolver) = promise(&on);
        let outcome: Outcome<u64> = if seed.once_in(2) { Ok(0) } else { error(0) };
        let (mut now, mut expected) = (outcome.is_ok(), Vec::new());
        for number in 1..=seed.below(10) {
            let (log, gives) = (log.clone(), seed.once_in(2));
            let takes = seed.once_in(2);
            let result = move || {
                log.push(number);
                if gives { Ok(number) } else { error(number) }
            };
            tail = if takes { tail.then(move |_| result()) } else { tail.catch(move |_| result()) };
            if takes == now {
                expected.push(number);
                now = gives;
            }
        }
        resolver.settle(outcome);
        on.run();
        same(log.all(), expected, "A then gets the values, and a catch gets the errors.");
    });
}

/// A chain, as the model has it: the numbers of its callbacks, and the one that runs next.
struct Chain {
    callbacks: Vec<u64>,
    next: usize,
    is_settled: bool,
}

/// The ends of a chain that are not used up.
type Ends = (Option<Promise<u64>>, Option<Resolver<u64>>);

#[test]
fn callbacks_run_in_the_order_in_which_they_became_due() {
    seeds(200, |seed| {
        let (on, log) = (Loop::new(), Log::default());
        let mut chains: Vec<(Chain, Ends)> = Vec::new();
        let (mut due, mut expected) = (VecDeque::new(), Vec::new());
        for act in 0..60 {
            let at = seed.below(1 + chains.len() as u64) as usize;
            match (seed.below(3), chains.get_mut(at)) {
                (_, None) => {
                    let (promise, resolver) = promise(&on);
                    let chain = Chain { callbacks: Vec::new(), next: 0, is_settled: false };
                    chains.push((chain, (Some(promise), Some(resolver))));
                }
                (0, Some((chain, (tail, _)))) => {
                    let log = log.clone();
                    let add = move |value| {
                        log.push(act);
                        Ok(value)
                    };
                    *tail = tail.take().map(|tail| tail.then(add));
                    chain.callbacks.push(act);
                    let is_next = chain.next + 1 == chain.callbacks.len();
                    due.extend((chain.is_settled && is_next).then_some(at));
                }
                (1, Some((chain, (_, resolver)))) if !chain.is_settled => {
                    let _ = resolver.take().map(|resolver| resolver.settle(Ok(0)));
                    chain.is_settled = true;
                    due.extend((!chain.callbacks.is_empty()).then_some(at));
                }
                _ => {
                    on.step();
                    if let Some(at) = due.pop_front() {
                        let chain = &mut chains[at].0;
                        expected.push(chain.callbacks[chain.next]);
                        chain.next += 1;
                        due.extend((chain.next < chain.callbacks.len()).then_some(at));
                    }
                }
            }
            let what = format!("Act {act}: these callbacks have run, each deferred once.");
            same(log.all(), &expected[..], &what);
        }
    });
}

#[test]
fn a_resolver_that_is_dropped_is_an_error() {
    let (on, seen) = (Loop::new(), Rc::new(RefCell::new(String::new())));
    let (lost, resolver) = promise::<u64>(&on);
    let says = seen.clone();
    lost.catch(move |error| {
        *says.borrow_mut() = error;
        Ok(0)
    });
    drop(resolver);
    on.run();
    same(seen.borrow().as_str(), "abandoned", "Nobody can settle it any more.");
}

#[test]
fn cancel_drops_what_has_not_run_even_if_it_is_due() {
    for is_due in [false, true] {
        let (on, log, held) = (Loop::new(), Log::default(), Rc::new(()));
        let (mut tail, resolver) = promise(&on);
        for number in 0..5 {
            let (log, held) = (log.clone(), held.clone());
            tail = tail.then(move |value: u64| {
                log.push(number);
                drop(held);
                Ok(value)
            });
        }
        let mut resolver = Some(resolver);
        if is_due {
            let _ = resolver.take().map(|resolver| resolver.settle(Ok(7)));
            on.step();
            on.step();
        }
        tail.cancel();
        let what = "The cancel drops at once what has not run.";
        same(Rc::strong_count(&held), 1, what);
        let _ = resolver.take().map(|resolver| resolver.settle(Ok(7)));
        on.run();
        let expected: &[u64] = if is_due { &[0, 1] } else { &[] };
        same(log.all(), expected, "After the cancel no callback runs.");
    }
}

#[test]
fn a_hook_runs_once_and_only_while_its_promise_is_pending() {
    let (on, log, held) = (Loop::new(), Log::default(), Rc::new(()));
    let hooked = |number: u64| {
        let (promise, resolver) = promise::<u64>(&on);
        let (log, held) = (log.clone(), held.clone());
        let hook = move || {
            log.push(number);
            drop(held);
        };
        (promise.on_cancel(hook), resolver)
    };
    let (head, resolver) = hooked(1);
    head.then(Ok).then(Ok).cancel();
    same(log.all(), [1], "The cancel goes up to the maker, and its hook runs.");
    drop(resolver);
    let (head, resolver) = hooked(2);
    let tail = head.then(Ok).then(Ok);
    resolver.settle(Ok(7));
    same(Rc::strong_count(&held), 1, "The promise is settled, so its hook is dropped.");
    tail.cancel();
    on.run();
    same(log.all(), [1], "The second promise was settled, so its hook does not run.");
}

/// Promises with random delays: for each the delay and the outcome.
fn drawn(seed: &mut Seed) -> Vec<(u64, Outcome<u64>)> {
    let count = 1 + seed.below(8);
    let draw = |number| {
        let fails = seed.once_in(6);
        (seed.below(50), if fails { error(number) } else { Ok(number) })
    };
    (0..count).map(draw).collect()
}

fn delays(on: &Loop, drawn: &[(u64, Outcome<u64>)]) -> Vec<Promise<u64>> {
    drawn.iter().map(|(ms, outcome)| delay(on, *ms, outcome.clone())).collect()
}

/// Runs the loop, and gives when and how the promise has settled, and how many timers there were.
fn settled<T: 'static>(on: &Loop, promise: Promise<T>) -> Option<(u64, usize, Outcome<T>)> {
    let seen = Rc::new(RefCell::new(None));
    let (value, error) = (seen.clone(), seen.clone());
    let (at, also_at) = (on.clone(), on.clone());
    let promise = promise.then(move |got| {
        *value.borrow_mut() = Some((at.now_ms(), at.timers(), Ok(got)));
        Ok(())
    });
    promise.catch(move |got| {
        *error.borrow_mut() = Some((also_at.now_ms(), also_at.timers(), Err(got)));
        Ok(())
    });
    on.run();
    seen.take()
}

#[test]
fn all_gives_every_value_or_the_first_error() {
    seeds(200, |seed| {
        let (on, drawn) = (Loop::new(), drawn(seed));
        let promises = delays(&on, &drawn);
        let failed = drawn.iter().enumerate().filter(|(_, (_, outcome))| outcome.is_err());
        let first = failed.min_by_key(|(index, (ms, _))| (*ms, *index));
        let (ms, expected) = match first {
            Some((_, (ms, outcome))) => (*ms, outcome.clone().map(|_| Vec::new())),
            None => {
                let last = drawn.iter().map(|(ms, _)| *ms).max().unwrap_or(0);
                (last, Ok((0..drawn.len() as u64).collect()))
            }
        };
        let what = "In the order of the promises; the first error ends it, and cancels the others.";
        same(settled(&on, all(&on, promises)), Some((ms, 0, expected)), what);
    });
}

#[test]
fn a_race_cancels_those_who_have_lost() {
    seeds(200, |seed| {
        let (on, drawn) = (Loop::new(), drawn(seed));
        let promises = delays(&on, &drawn);
        let first = drawn.iter().min_by_key(|(ms, _)| *ms).expect("there is one").clone();
        let what = "The first one wins, at its time; and no timer of the others is left.";
        same(settled(&on, race(&on, promises)), Some((first.0, 0, first.1)), what);
        same(on.now_ms(), first.0, "The loop has nothing to wait for after that.");
    });
}

#[test]
fn to_cancel_a_race_is_to_cancel_each() {
    seeds(50, |seed| {
        let (on, log, drawn) = (Loop::new(), Log::default(), drawn(seed));
        let (one, other) = (race(&on, delays(&on, &drawn)), all(&on, delays(&on, &drawn)));
        let (first, second) = (log.clone(), log.clone());
        let one = one.then(move |_| {
            first.push(1);
            Ok(())
        });
        let other = other.then(move |_| {
            second.push(2);
            Ok(())
        });
        one.cancel();
        same(on.timers(), drawn.len(), "The race is cancelled, and with it its timers.");
        other.cancel();
        same(on.timers(), 0, "So is the other one.");
        on.run();
        same((log.all(), on.now_ms()), (vec![], 0), "Nothing runs after that.");
    });
}

/// A random promise, made of others. Each of its callbacks holds `held`.
fn grown(on: &Loop, seed: &mut Seed, held: &Rc<()>, depth: u64) -> Promise<u64> {
    let children = |seed: &mut Seed| -> Vec<Promise<u64>> {
        (0..seed.below(4)).map(|_| grown(on, seed, held, depth - 1)).collect()
    };
    let (holds, fails) = (held.clone(), seed.once_in(4));
    let work = move |value: u64| {
        let _holds = &holds;
        if fails { error(value) } else { Ok(value) }
    };
    match seed.below(if depth == 0 { 2 } else { 6 }) {
        0 => {
            let ms = seed.below(100);
            delay(on, ms, work(ms))
        }
        1 => promise(on).0, // Its resolver is dropped at once.
        2 => grown(on, seed, held, depth - 1).then(work),
        3 => grown(on, seed, held, depth - 1).catch(move |_| work(1)),
        4 => race(on, children(seed)),
        _ => all(on, children(seed)).then(move |values| work(values.len() as u64)),
    }
}

#[test]
fn nothing_is_left_when_all_is_done() {
    seeds(300, |seed| {
        let (on, held) = (Loop::new(), Rc::new(()));
        let mut promises: VecDeque<_> = (0..5).map(|_| grown(&on, seed, &held, 4)).collect();
        for _ in 0..5 {
            on.run_to(on.now_ms() + seed.below(30));
            match promises.pop_front() {
                Some(promise) if seed.once_in(2) => promise.cancel(),
                promise => drop(promise), // The work goes on.
            }
        }
        on.run();
        same((on.timers(), on.deferred()), (0, 0), "No timer and no callback is left.");
        same(Rc::strong_count(&held) - 1, 0, "The callbacks that are still in memory.");
    });
}

/// Sees how deep the stack is: when it is called, and when it is dropped.
struct Probe(Rc<Cell<(usize, usize)>>);

impl Probe {
    fn look(&self) {
        let here = std::ptr::from_ref(&self).addr();
        let (low, high) = self.0.get();
        self.0.set((low.min(here), high.max(here)));
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.look();
    }
}

/// The bytes of stack between the first and the last callback of a chain.
fn stack(links: usize, end: fn(Promise<u64>, Resolver<u64>)) -> usize {
    let (on, deep) = (Loop::new(), Rc::new(Cell::new((usize::MAX, 0))));
    let (mut tail, resolver) = promise(&on);
    for _ in 0..links {
        let probe = Probe(deep.clone());
        tail = tail.then(move |value| {
            probe.look();
            Ok(value)
        });
    }
    end(tail, resolver);
    on.run();
    let (low, high) = deep.get();
    high.checked_sub(low).unwrap_or_else(|| refuse("No callback has run, and none was dropped."))
}

#[test]
fn a_long_chain_takes_no_more_stack() {
    type End = fn(Promise<u64>, Resolver<u64>);
    let ends: [(&str, End); 3] = [
        ("run", |_tail, resolver| resolver.settle(Ok(7))),
        ("dropped", |_tail, resolver| drop(resolver)),
        ("cancelled", |tail, _resolver| tail.cancel()),
    ];
    for (what, end) in ends {
        let (short, long) = (stack(10, end), stack(200, end));
        let needs = format!("it needs {short} bytes of stack if it has 10 links, {long} if 200");
        expect(long < short + 4096, &format!("When a chain is {what}, {needs}."));
    }
}
