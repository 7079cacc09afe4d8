//! Promises, rule by rule. The numbers are those of the header of `patterns/promise.rs`.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use support::process::example;
use support::promises::{Log, Said, Sayer, lab, pending, run, tell, turn};
use support::{MS, ceiling};
use waterwheel::net::tcp;
use waterwheel::patterns::{Backoff, Broken, Promise};
use waterwheel::reactor::{
    Alive, Context, DEFERRED_PER_TURN, Interest, Kind, PanicPolicy, Reactor, Recorder,
    VirtualSource,
};

const LIMIT: Duration = Duration::from_secs(60);
const LONG: usize = 100_000;

/// What chains own, to see that it goes.
#[derive(Clone, Default)]
struct Owned(Rc<()>);

impl Owned {
    fn others(&self) -> usize {
        Rc::strong_count(&self.0) - 1
    }
}

/// A chain of so many links on this promise; its callbacks own `owned` and add one.
fn lengthen(
    reactor: &mut Context<Log>,
    mut promise: Said<usize>,
    links: usize,
    owned: &Owned,
) -> Said<usize> {
    for _ in 0..links {
        let owned = owned.clone();
        promise = promise.then(reactor, move |_, _, count| {
            let _ = &owned;
            Ok(count + 1)
        });
    }
    promise
}

// What is logged on this thread at level Error.
thread_local!(static ERRORS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) });

struct Errors;

impl log::Log for Errors {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        ERRORS.with_borrow_mut(|errors| errors.push(record.args().to_string()));
    }
    fn flush(&self) {}
}

fn watch_errors() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        log::set_logger(&Errors).unwrap();
        log::set_max_level(log::LevelFilter::Error);
    });
    ERRORS.take();
}

#[test]
fn p2_nothing_runs_inside_resolve_reject_or_then() {
    let mut reactor = lab();
    let (first, resolve) = pending(&mut reactor);
    let (second, reject) = pending(&mut reactor);
    tell(&mut reactor, first);
    tell(&mut reactor, second);
    reactor.defer(move |reactor, log| {
        resolve.resolve(reactor, 1);
        reject.reject(reactor, "2".into());
        let settled = Promise::resolved(reactor, 3);
        tell(reactor, settled);
        log.push("all settled".into());
    });
    assert_eq!(run(&mut reactor), ["all settled", "1", "3", "error: 2"]);
}

#[test]
fn p2_continuations_run_in_the_order_of_settling_among_what_is_deferred() {
    let mut reactor = lab();
    let (first, resolve_first) = pending(&mut reactor);
    let (second, resolve_second) = pending(&mut reactor);
    first.then(&mut reactor, |_, log, _| log.push("first".into()));
    second.then(&mut reactor, |_, log, _| log.push("second".into()));
    reactor.defer(|reactor, _| {
        reactor.defer(|_, log| log.push("before".into()));
        resolve_second.resolve(reactor, 0);
        reactor.defer(|_, log| log.push("between".into()));
        resolve_first.resolve(reactor, 0);
        reactor.defer(|_, log| log.push("after".into()));
    });
    assert_eq!(run(&mut reactor), ["before", "second", "between", "first", "after"]);
}

#[test]
fn p2_a_chain_settles_within_the_turn_up_to_the_budget_and_goes_on_in_the_next() {
    let (mut reactor, mut log) = (lab(), Log::new());
    let (promise, resolver) = reactor.promise();
    let links = 2 * DEFERRED_PER_TURN + 10;
    let end = lengthen(&mut reactor, promise, links, &Owned::default());
    tell(&mut reactor, end);
    resolver.resolve(&mut reactor, 0);
    // The links, and the two of `tell`, of which the first speaks.
    assert_eq!(turn(&mut reactor, &mut log), DEFERRED_PER_TURN);
    assert_eq!(turn(&mut reactor, &mut log), DEFERRED_PER_TURN);
    assert!(log.is_empty());
    assert_eq!(turn(&mut reactor, &mut log), 12);
    assert_eq!(log, [links.to_string()]);
}

#[test]
fn p2_a_hop_is_traced_as_a_deferred_callback_of_the_line_that_says_then() {
    let recorder = Recorder::new();
    let mut reactor = Reactor::<Log>::builder().observer(recorder.observer()).build().unwrap();
    let (promise, resolver) = pending(&mut reactor);
    promise.then(&mut reactor, |_, _, _| {});
    let line = line!() - 1;
    reactor.defer(|reactor, _| assert!(resolver.resolve(reactor, 1)));
    run(&mut reactor);
    let events = recorder.take();
    let ran = events.iter().filter(|event| event.kind == Kind::RunDeferred);
    let [maker, hop] = ran.copied().collect::<Vec<_>>()[..] else { panic!("two callbacks") };
    assert_eq!((hop.place.file(), hop.place.line()), ("tests/patterns/promises.rs", line));
    assert_eq!(hop.cause, maker.sequence);
}

#[test]
fn then_hands_on_what_the_callback_answers_nothing_a_result_or_a_promise() {
    let mut reactor = lab();
    let start = Promise::resolved(&mut reactor, 1);
    let end = start
        .then(&mut reactor, |_, _, number: i32| Ok(number + 1))
        .then(&mut reactor, |reactor, _, number| {
            let pause: Said<()> = reactor.delay(MS);
            pause.then(reactor, move |_, _, ()| Ok(f64::from(number) * 1.5))
        })
        .then(&mut reactor, |_, log, number| log.push(number.to_string()))
        .then(&mut reactor, |_, _, ()| Err::<(), _>("enough".into()))
        .then(&mut reactor, |_, log, ()| log.push("never".into()))
        .catch(&mut reactor, |_, log, error: String| {
            log.push(error);
            Ok(())
        });
    tell(&mut reactor, end);
    assert_eq!(run(&mut reactor), ["3", "enough", "()"]);
}

#[test]
fn catch_is_passed_by_a_value_and_may_reject_again() {
    let mut reactor = lab();
    let start = Promise::resolved(&mut reactor, 1);
    let end = start
        .catch(&mut reactor, |_, _, _| Ok(0))
        .then(&mut reactor, |_, _, one| Err::<u32, String>(format!("not {one}")))
        .catch(&mut reactor, |_, _, error| Err(error + "!"));
    tell(&mut reactor, end);
    assert_eq!(run(&mut reactor), ["error: not 1!"]);
}

#[test]
fn finally_runs_either_way_and_passes_on_what_came() {
    let mut reactor = lab();
    for result in [Ok(1), Err("no".to_owned())] {
        let (promise, resolver) = pending(&mut reactor);
        let end = promise.finally(&mut reactor, |_, log| log.push("finally".into()));
        tell(&mut reactor, end);
        resolver.settle(&mut reactor, result);
    }
    assert_eq!(run(&mut reactor), ["finally", "finally", "1", "error: no"]);
}

#[test]
fn map_err_joins_makers_with_different_errors() {
    let mut reactor = lab();
    let failed = Promise::rejected(&mut reactor, io::Error::from(io::ErrorKind::NotFound));
    let end: Said<u32> = failed.map_err(&mut reactor, |error| error.to_string());
    tell(&mut reactor, end);
    assert_eq!(run(&mut reactor), ["error: entity not found"]);
}

#[test]
fn p3_a_dropped_resolver_is_told_as_a_rejection_behind_what_was_deferred() {
    let mut reactor = lab();
    let (promise, resolver) = reactor.promise::<u32, String>();
    let line = line!() - 1;
    tell(&mut reactor, promise);
    reactor.defer(move |reactor, log| {
        drop(resolver);
        reactor.defer(|_, log| log.push("deferred".into()));
        log.push("dropped".into());
    });
    let told =
        format!("error: the promise made at tests/patterns/promises.rs:{line} was abandoned");
    assert_eq!(run(&mut reactor), ["dropped", "deferred", &told]);
}

/// Each shape loses its resolver in another way; none hangs, and `run` does not return before.
#[test]
fn p3_a_resolver_is_lost_with_whatever_owned_it_and_the_loop_neither_hangs_nor_ends_too_early() {
    let _ceiling = ceiling(LIMIT);
    type Shape = fn(&mut Reactor<Log>, Sayer<u32>);
    let shapes: [Shape; 4] = [
        |_, resolver| drop(resolver), // Between turns.
        |reactor, resolver| {
            let timer = reactor.after(MS, |reactor, _| assert!(resolver.resolve(reactor, 1)));
            reactor.defer(move |reactor, _| assert!(reactor.cancel(timer)));
        },
        |reactor, resolver| {
            reactor.after(MS, move |_, _| drop(resolver));
        },
        |reactor, resolver| {
            // Dropped at the end of the turn, in phase 7.
            let id = reactor.register(VirtualSource, Interest::READABLE, move |_, _, _, _| {
                let _ = &resolver;
            });
            let id = id.unwrap().raw();
            reactor.enqueue(Default::default(), move |reactor, _| assert!(reactor.remove(id)));
        },
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        let mut reactor = lab();
        let (promise, resolver) = pending(&mut reactor);
        tell(&mut reactor, promise);
        shape(&mut reactor, resolver);
        assert!(reactor.is_alive());
        assert!(number > 0 || reactor.next_wait() == Some(Duration::ZERO), "a host turns at once");
        let log = run(&mut reactor);
        assert!(log.len() == 1 && log[0].ends_with("was abandoned"), "{number}: {log:?}");
    }
}

#[test]
fn p3_a_callback_that_panics_abandons_what_follows_under_both_policies() {
    for policy in [PanicPolicy::Propagate, PanicPolicy::Drop] {
        let mut reactor = Reactor::builder().panic_policy(policy).build().unwrap();
        let (promise, resolver) = pending(&mut reactor);
        let end =
            promise.then(
                &mut reactor,
                |_, _, number| {
                    if number == 1 { panic!("on purpose") } else { Ok(()) }
                },
            );
        tell(&mut reactor, end);
        resolver.resolve(&mut reactor, 1);
        let mut log = Log::new();
        let ended = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut log).unwrap()));
        assert_eq!(ended.is_err(), policy == PanicPolicy::Propagate);
        reactor.run(&mut log).unwrap();
        assert!(log[0].ends_with("was abandoned") && log.len() == 1, "{log:?}");
    }
}

#[test]
fn p4_a_dropped_promise_cancels_nothing() {
    let mut reactor = lab();
    let pause: Said<()> = reactor.delay(MS);
    drop(pause.then(&mut reactor, |_, log, ()| log.push("done".into())));
    assert_eq!(run(&mut reactor), ["done"]);
}

#[test]
fn p4_an_unhandled_rejection_is_logged_once_with_the_place_of_the_last_link_and_counted() {
    watch_errors();
    let mut reactor = lab();
    let (promise, resolver) = pending(&mut reactor);
    promise.then(&mut reactor, |_, _, _| {}).finally(&mut reactor, |_, _| {});
    let line = line!() - 1;
    resolver.reject(&mut reactor, "boom".into());
    run(&mut reactor);
    let told = format!("made at tests/patterns/promises.rs:{line}: \"boom\"");
    let errors = ERRORS.take();
    assert!(errors.len() == 1 && errors[0].ends_with(&told), "{errors:?}");
    assert_eq!(reactor.statistics().unhandled, 1);
    // Settled first, dropped later.
    drop(Said::<u32>::rejected(&mut reactor, "later".into()));
    assert_eq!((ERRORS.take().len(), reactor.statistics().unhandled), (1, 2));
}

#[test]
fn p4_what_is_caught_cancelled_or_a_value_is_not_told() {
    watch_errors();
    let mut reactor = lab();
    let caught = Said::<()>::rejected(&mut reactor, "caught".into());
    caught.catch(&mut reactor, |_, _, _| {});
    drop(Said::resolved(&mut reactor, 1));
    Said::<()>::rejected(&mut reactor, "cancelled".into()).cancel(&mut reactor);
    let (promise, resolver) = pending(&mut reactor);
    promise.cancel(&mut reactor);
    assert!(!resolver.is_wanted());
    assert!(!resolver.reject(&mut reactor, "nobody wants it".into()));
    let (promise, resolver) = pending(&mut reactor);
    promise.cancel(&mut reactor);
    drop(resolver);
    run(&mut reactor);
    assert_eq!((ERRORS.take().len(), reactor.statistics().unhandled), (0, 0));
}

#[test]
fn p5_cancel_goes_up_to_the_maker_and_drops_every_callback_at_once() {
    let (mut reactor, owned) = (lab(), Owned::default());
    let pause: Said<()> = reactor.delay(MS);
    let counted = pause.then(&mut reactor, |_, _, ()| Ok(0));
    let end = lengthen(&mut reactor, counted, 10, &owned);
    assert_eq!((reactor.timers(), owned.others()), (1, 10));
    end.cancel(&mut reactor);
    assert_eq!((reactor.timers(), owned.others()), (0, 0));
    assert!(run(&mut reactor).is_empty());
}

#[test]
fn p5_a_callback_that_was_due_in_this_turn_is_not_called_after_a_cancel() {
    let mut reactor = lab();
    let (promise, resolver) = pending(&mut reactor);
    let end = promise.then(&mut reactor, |_, log, _| log.push("never".into()));
    reactor.defer(|reactor, log| {
        resolver.resolve(reactor, 1);
        end.cancel(reactor);
        log.push("cancelled".into());
    });
    assert_eq!(run(&mut reactor), ["cancelled"]);
}

#[test]
fn p5_a_callback_may_cancel_its_own_chain_and_the_promise_it_answers_with_goes_too() {
    let mut reactor = lab();
    let end = Rc::new(Cell::new(None));
    let (own, start) = (end.clone(), Promise::resolved(&mut reactor, 1));
    let promise: Said<()> = start.then(&mut reactor, move |reactor, log: &mut Log, _: u32| {
        let Some(end) = own.take() else { return reactor.delay(MS) };
        Said::<()>::cancel(end, reactor);
        log.push("cancelled myself".into());
        reactor.delay(MS)
    });
    end.set(Some(promise.then(&mut reactor, |_, log, ()| log.push("never".into()))));
    assert_eq!(run(&mut reactor), ["cancelled myself"]);
    assert_eq!(reactor.timers(), 0);
}

#[test]
fn p5_cancel_reaches_through_a_promise_that_a_callback_answered_with() {
    let mut reactor = lab();
    let start = Promise::resolved(&mut reactor, 1);
    let end: Said<()> = start.then(&mut reactor, |reactor, _, _: u32| {
        let inner: Said<()> = reactor.delay(MS);
        inner.then(reactor, |_, log: &mut Log, ()| log.push("never".into()))
    });
    let mut log = Log::new();
    turn(&mut reactor, &mut log);
    assert_eq!(reactor.timers(), 1);
    end.cancel(&mut reactor);
    assert_eq!(reactor.timers(), 0);
    assert!(run(&mut reactor).is_empty());
}

#[test]
fn p5_hooks_run_in_the_order_of_adding_once_and_only_while_pending() {
    let mut reactor = lab();
    let said = Rc::new(RefCell::new(Vec::new()));
    let hooked = |promise: Said<u32>| {
        let (one, two) = (said.clone(), said.clone());
        let promise = promise.on_cancel(move |_| one.borrow_mut().push("one"));
        promise.on_cancel(move |_| two.borrow_mut().push("two"))
    };
    let (promise, _resolver) = pending(&mut reactor);
    hooked(promise).cancel(&mut reactor);
    assert_eq!(said.take(), ["one", "two"]);
    let (promise, resolver) = pending(&mut reactor);
    let promise = hooked(promise);
    resolver.resolve(&mut reactor, 1);
    assert_eq!(Rc::strong_count(&said), 1, "hooks go when it is settled");
    hooked(promise).cancel(&mut reactor);
    assert!(said.take().is_empty());
}

#[test]
fn p6_a_pending_promise_does_not_hold_the_loop_and_what_settles_it_does() {
    let mut reactor = lab();
    let (promise, resolver) = pending(&mut reactor);
    tell(&mut reactor, promise);
    assert!(run(&mut reactor).is_empty());
    let _pause: Said<()> = reactor.delay(MS);
    let line = line!() - 1;
    let [Alive::Timer(_, place)] = reactor.why_alive()[..] else { panic!("the timer holds it") };
    assert_eq!((place.file(), place.line()), ("tests/patterns/promises.rs", line));
    resolver.resolve(&mut reactor, 1);
    assert_eq!(run(&mut reactor), ["1"]);
}

#[test]
fn p7_p8_a_chain_of_a_hundred_thousand_links_settles_rejects_is_abandoned_and_is_cancelled() {
    let _ceiling = ceiling(LIMIT);
    type End = fn(&mut Reactor<Log>, Sayer<usize>, Said<usize>);
    let ends: [End; 5] = [
        |reactor, resolver, end| {
            tell(reactor, end);
            resolver.resolve(reactor, 0);
        },
        |reactor, resolver, end| {
            tell(reactor, end);
            resolver.reject(reactor, "no".into());
        },
        |reactor, resolver, end| {
            tell(reactor, end);
            drop(resolver);
        },
        |reactor, resolver, end| {
            end.cancel(reactor);
            drop(resolver);
        },
        |_, resolver, end| {
            drop(end);
            drop(resolver);
        },
    ];
    for (number, finish) in ends.into_iter().enumerate() {
        let (mut reactor, owned) = (lab(), Owned::default());
        let (promise, resolver) = reactor.promise();
        let end = lengthen(&mut reactor, promise, LONG, &owned);
        assert_eq!(owned.others(), LONG);
        finish(&mut reactor, resolver, end);
        let log = run(&mut reactor);
        assert_eq!(owned.others(), 0);
        match number {
            0 => assert_eq!(log, [LONG.to_string()]),
            1 => assert_eq!(log, ["error: no"]),
            2 => assert!(log[0].ends_with("was abandoned")),
            _ => assert!(log.is_empty()),
        }
    }
}

#[test]
fn p7_p8_a_long_chain_is_dropped_with_the_loop_in_whatever_state() {
    let _ceiling = ceiling(LIMIT);
    for part in 0..4 {
        let (mut reactor, owned) = (lab(), Owned::default());
        let (promise, resolver) = reactor.promise();
        let end = lengthen(&mut reactor, promise, LONG, &owned);
        match part {
            0 => {
                drop(reactor); // The resolver outlives the loop,
                assert_eq!(owned.others(), LONG);
                drop(resolver);
            }
            1 => {
                // goes with a timer of it,
                reactor.after(MS, |reactor, _| assert!(resolver.resolve(reactor, 0)));
                drop(reactor);
            }
            2 => {
                // was dropped before it,
                drop(resolver);
                drop(reactor);
            }
            _ => {
                // or the chain is half way.
                resolver.resolve(&mut reactor, 0);
                turn(&mut reactor, &mut Log::new());
                assert_eq!(owned.others(), LONG - DEFERRED_PER_TURN);
                drop(reactor);
            }
        }
        assert_eq!(owned.others(), 0, "{part}");
        drop(end);
    }
}

#[test]
fn p7_promises_that_stand_for_promises_to_any_depth_settle_and_cancel_without_recursion() {
    fn nested(reactor: &mut Context<Log>, depth: usize, owned: Owned) -> Said<usize> {
        let start = Promise::resolved(reactor, depth);
        start.then(reactor, move |reactor, _, depth| match depth {
            0 => {
                let pause: Said<()> = reactor.delay(MS);
                pause.then(reactor, move |_, _, ()| {
                    let _ = owned;
                    Ok(7)
                })
            }
            _ => nested(reactor, depth - 1, owned),
        })
    }
    let _ceiling = ceiling(LIMIT);
    for ending in 0..3 {
        let (mut reactor, owned, mut log) = (lab(), Owned::default(), Log::new());
        let end = nested(&mut reactor, LONG, owned.clone());
        while reactor.timers() == 0 {
            turn(&mut reactor, &mut log);
        }
        match ending {
            0 => {
                tell(&mut reactor, end);
                reactor.run(&mut log).unwrap();
                assert_eq!(log, ["7"]);
            }
            1 => end.cancel(&mut reactor),
            _ => drop((reactor, end)),
        }
        assert_eq!(owned.others(), 0, "{ending}");
    }
}

#[test]
fn p7_combinators_inside_of_combinators_settle_cancel_and_go_without_recursion() {
    let _ceiling = ceiling(LIMIT);
    for ending in 0..3 {
        let (mut reactor, owned) = (lab(), Owned::default());
        let (start, resolver) = reactor.promise();
        let mut end = lengthen(&mut reactor, start, 1, &owned);
        for number in 0..LONG / 4 {
            end = match number % 2 {
                0 => Promise::race(&mut reactor, [end]),
                _ => end.timeout(&mut reactor, MS),
            };
        }
        match ending {
            0 => {
                tell(&mut reactor, end);
                resolver.resolve(&mut reactor, 0);
                let mut log = Log::new();
                while log.is_empty() {
                    turn(&mut reactor, &mut log);
                }
                assert_eq!((log, reactor.timers()), (vec!["1".to_owned()], 0));
            }
            1 => {
                end.cancel(&mut reactor);
                assert!(!resolver.is_wanted());
                assert_eq!(reactor.timers(), 0);
            }
            _ => drop((reactor, resolver)),
        }
        assert_eq!(owned.others(), 0, "{ending}");
    }
}

/// Whatever shape the promises have, nothing is left of them: neither when they are settled, nor
/// when they are cancelled, nor when the loop goes with all of them pending.
#[test]
fn p8_what_is_settled_cancelled_or_dropped_with_the_loop_is_freed_in_every_shape() {
    fn work(reactor: &mut Context<Log>, owned: &Owned, ms: u32) -> Said<u32> {
        let (captured, hooked) = (owned.clone(), owned.clone());
        let pause: Said<()> = reactor.delay(ms * MS);
        let work = pause.then(reactor, move |_, _, ()| {
            let _ = &captured;
            if ms == 3 { Err("three".into()) } else { Ok(ms) }
        });
        work.on_cancel(move |_| drop(hooked))
    }
    fn several(reactor: &mut Context<Log>, owned: &Owned) -> [Said<u32>; 3] {
        [5, 3, 4].map(|ms| work(reactor, owned, ms))
    }
    type Shape = fn(&mut Context<Log>, &Owned) -> Said<()>;
    fn end<T>(reactor: &mut Context<Log>, promise: Promise<Log, T, String>) -> Said<()> {
        promise.then(reactor, |_, _, _| {})
    }
    let shapes: [Shape; 9] = [
        |reactor, owned| {
            let all = several(reactor, owned);
            let all = Promise::all(reactor, all);
            end(reactor, all)
        },
        |reactor, owned| {
            let all = several(reactor, owned);
            let all = Promise::all_settled(reactor, all);
            end(reactor, all)
        },
        |reactor, owned| {
            let race = several(reactor, owned);
            let race = Promise::race(reactor, race);
            end(reactor, race)
        },
        |reactor, owned| {
            let any = several(reactor, owned);
            let any = Promise::any(reactor, any).map_err(reactor, |errors| errors.concat());
            end(reactor, any)
        },
        |reactor, owned| {
            let late = work(reactor, owned, 9).timeout(reactor, MS);
            end(reactor, late)
        },
        |reactor, owned| {
            let early = work(reactor, owned, 1).timeout(reactor, 9 * MS);
            end(reactor, early)
        },
        |reactor, owned| {
            let owned = owned.clone();
            let attempt =
                move |reactor: &mut Context<Log>, _: &mut Log, _| work(reactor, &owned, 3);
            let tried = Promise::retry(reactor, Backoff::new(4), attempt);
            end(reactor, tried)
        },
        |reactor, owned| {
            // Its own end is in a place that one of its callbacks owns.
            let slot = Rc::new(Cell::new(None));
            let (inside, owned) = (slot.clone(), work(reactor, owned, 2));
            let chain = owned.then(reactor, move |_, _, _| drop(inside.take()));
            slot.set(Some(chain));
            reactor.promise().0
        },
        |reactor, owned| {
            // The hook of one owns the end of another, which owns the first's resolver.
            let (first, resolver) = reactor.promise::<u32, String>();
            let other = work(reactor, owned, 2).then(reactor, move |reactor, _, ms| {
                resolver.resolve(reactor, ms);
            });
            let first = first.on_cancel(|reactor| other.cancel(reactor));
            end(reactor, first)
        },
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        for ending in ["settled", "cancelled", "cancelled later", "with the loop", "loop later"] {
            let (mut reactor, owned, mut log) = (lab(), Owned::default(), Log::new());
            let end = shape(&mut reactor, &owned);
            assert!(number == 6 || owned.others() > 0);
            if ending.ends_with("later") {
                turn(&mut reactor, &mut log);
            }
            match ending {
                "settled" => reactor.run(&mut log).unwrap(),
                "with the loop" | "loop later" => drop(reactor),
                _ => {
                    end.cancel(&mut reactor);
                    // The one whose end is elsewhere goes on.
                    assert_eq!(reactor.timers(), usize::from(number == 7), "{number} {ending}");
                    reactor.run(&mut log).unwrap();
                }
            }
            assert_eq!(owned.others(), 0, "shape {number}, {ending}");
        }
    }
}

#[test]
fn a_done_callback_becomes_a_promise() {
    let _ceiling = ceiling(LIMIT);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut reactor = Reactor::<Log>::new().unwrap();
    for addr in [open, closed] {
        let (promise, resolver) = reactor.promise::<_, io::Error>();
        tcp::connect(&mut reactor, addr, LIMIT, resolver.done()).unwrap();
        promise
            .then(&mut reactor, |_, log, stream| log.push(format!("{:?}", stream.peer())))
            .catch(&mut reactor, |_, log, error| log.push(format!("{:?}", error.kind())));
    }
    let mut log = run(&mut reactor);
    log.sort();
    assert_eq!(log, ["ConnectionRefused".to_owned(), format!("{:?}", Some(open))]);
}

#[test]
fn broken_promises_are_told_in_the_callers_own_type_of_error() {
    let mut reactor = lab();
    let (promise, _) = reactor.promise::<(), io::Error>();
    promise.timeout(&mut reactor, MS).catch(&mut reactor, |_, log, error| {
        let broken = error.get_ref().and_then(|inner| inner.downcast_ref::<Broken>());
        log.push(format!("{:?} {}", error.kind(), matches!(broken, Some(Broken::Abandoned(_)))));
    });
    let (promise, _resolver) = reactor.promise::<(), Box<dyn std::error::Error>>();
    promise.timeout(&mut reactor, MS).catch(&mut reactor, |_, log, error| {
        log.push(format!("{}", error.is::<Broken>()));
    });
    assert_eq!(run(&mut reactor), ["Other true", "true"]);
}

#[test]
fn a_hop_allocates_twice() {
    let (mut reactor, mut log) = (lab(), Log::new());
    let mut chain = || {
        let (promise, resolver) = reactor.promise();
        lengthen(&mut reactor, promise, 100, &Owned::default());
        resolver.resolve(&mut reactor, 0);
        assert_eq!(turn(&mut reactor, &mut log), 100);
    };
    chain(); // The queue grows.
    let counted = allocation_counter::measure(chain);
    // And the head of the chain, and what `Owned` is.
    assert_eq!((counted.count_total, counted.count_current), (202, 0));
}

#[test]
fn the_example_prints_each_line_when_its_reason_has_come() {
    let _ceiling = ceiling(LIMIT);
    let output = example("promises").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let (addr, story) = printed.split_once('\n').unwrap();
    assert!(addr.starts_with("listening on 127.0.0.1:"), "{addr}");
    let expected = "\
salad after 20 ms, as all are cooked side by side
cake after 40 ms, as all are cooked side by side
soup after 60 ms, as all are cooked side by side
all: soup after 60 ms, salad after 20 ms, cake after 40 ms, in the order of asking
bread, attempt 1: the oven is cold, again in 10 ms
bread, attempt 2: the oven is cold, again in 20, twice as long
bread, attempt 3: the oven is warm
race: snack after 10 ms, so nobody waits for the other
kitchen: nobody wants the stew any more, so that is all
";
    assert_eq!(story, expected);
}
