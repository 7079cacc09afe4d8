//! Ten sentences about `wake.rs`. Where two threads meet, every order of their steps is tried.

use std::panic;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use kit::model::{Sleeper, Thread, orders, thread as thread_of, wrong};
use kit::{expect, refuse, same, seeds, within};

#[path = "wake.rs"]
#[allow(clippy::all, dead_code, unused)]
#[rustfmt::skip]
mod wake;

use wake::{Call, Mailbox, Workers};

type Numbers = Mailbox<u32, Sleeper>;

fn mailbox() -> (Sleeper, Numbers) {
    let sleeper = Sleeper::default();
    (sleeper.clone(), Mailbox::new(sleeper))
}

/// One turn of the loop: it sleeps if it may, and takes what was posted.
fn turn(sleeper: &Sleeper, mailbox: &Numbers) -> Vec<u32> {
    sleeper.poll(mailbox.fall_asleep());
    mailbox.be_awake();
    mailbox.take()
}

/// A loop that turns until it has all numbers, and threads of which each posts some of them. Their
/// steps are tried in every order.
fn in_every_order(posts: &'static [&'static [u32]]) {
    let tried = orders(|| {
        let (sleeper, mailbox) = mailbox();
        let (mailbox, turns) = (Arc::new(mailbox), Arc::new(Mutex::new(0)));
        let few = {
            let (sleeper, turns) = (sleeper.clone(), turns.clone());
            move || {
                let (wakes, turns) = (sleeper.wakes(), *turns.lock().unwrap());
                if wakes > turns && posts.len() > 1 {
                    wrong("The loop was woken more often than it has announced that it sleeps.");
                }
            }
        };
        let (looped, is_few) = (mailbox.clone(), few.clone());
        let mut threads: Vec<Thread> = vec![thread_of("loop", move || {
            let mut got = Vec::new();
            while got.len() < posts.concat().len() {
                *turns.lock().unwrap() += 1;
                got.extend(turn(&sleeper, &looped));
            }
            let mine = |post: &&[u32]| got.iter().filter(|n| post.contains(n)).copied().collect();
            let ordered: Vec<Vec<u32>> = posts.iter().map(mine).collect();
            if ordered != posts {
                wrong("The posts of a thread come once, and in its order.");
            }
            is_few();
        })];
        threads.extend(posts.iter().map(|numbers| {
            let (mailbox, is_few) = (mailbox.clone(), few.clone());
            thread_of(["poster A", "poster B"][usize::from(numbers[0] > 9)], move || {
                numbers.iter().for_each(|number| mailbox.post(*number));
                is_few();
            })
        }));
        threads
    });
    match tried {
        Ok(_) => {}
        Err(failure) if failure.sentence.starts_with("No thread") => refuse(&format!(
            "The loop sleeps for ever, and a post waits. It happens in this order:\n  {}",
            failure.steps.join("\n  ")
        )),
        Err(failure) => refuse(&failure.to_string()),
    }
}

#[test]
fn no_order_loses_a_post() {
    in_every_order(&[&[1, 2]]);
}

#[test]
fn two_threads_wake_it_once() {
    in_every_order(&[&[1], &[10]]);
}

#[test]
fn posts_are_taken_once_and_in_order() {
    seeds(200, |seed| {
        let ((_, mailbox), mut model) = (mailbox(), Vec::new());
        for act in 0..100 {
            match seed.below(4) {
                0 => same(mailbox.take(), std::mem::take(&mut model), "take gives what waits."),
                1 => {
                    let what = "It may sleep if nothing waits.";
                    same(mailbox.fall_asleep(), model.is_empty(), what);
                    mailbox.be_awake();
                }
                _ => {
                    mailbox.post(act);
                    model.push(act);
                }
            }
        }
    });
}

#[test]
fn a_thousand_posts_wake_a_sleeping_loop_once() {
    let (sleeper, mailbox) = mailbox();
    for turn in 1..=3 {
        expect(mailbox.fall_asleep(), "Nothing waits, so the loop may sleep.");
        (0..1000).for_each(|number| mailbox.post(number));
        same(sleeper.wakes(), turn, "A thousand posts came while it slept; it is woken once.");
        mailbox.be_awake();
        same(mailbox.take().len(), 1000, "All of them are taken.");
    }
}

#[test]
fn a_loop_that_is_awake_is_not_woken() {
    let (sleeper, mailbox) = mailbox();
    for _ in 0..3 {
        (0..1000).for_each(|number| mailbox.post(number));
        same(sleeper.wakes(), 0, "It was awake all the time.");
        expect(!mailbox.fall_asleep(), "Posts wait, so the loop must not sleep.");
        mailbox.be_awake();
    }
}

/// The loop that the workers work for.
struct Loop {
    mailbox: Arc<Mailbox<Call, Sleeper>>,
}

impl Loop {
    fn new() -> Loop {
        Loop { mailbox: Arc::new(Mailbox::new(Sleeper::default())) }
    }

    fn run(&self) {
        self.mailbox.take().into_iter().for_each(|call| call());
    }
}

/// Waits until the workers have ended. 8 s: five checks may wait for them, of 60 s in all.
fn end(workers: Workers) {
    within(8, "The workers are dropped, and still wait for work.", move || drop(workers));
}

#[test]
fn each_result_comes_once_and_on_the_thread_of_the_loop() {
    seeds(100, |seed| {
        let (ours, seen) = (Loop::new(), Arc::new(Mutex::new(Vec::new())));
        let workers = Workers::new(1 + seed.below(4) as usize, &ours.mailbox);
        let count = seed.below(30);
        for number in 0..count {
            let seen = seen.clone();
            let done = move |result: thread::Result<(u64, thread::ThreadId)>| {
                let (square, worker) = result.unwrap_or_else(|_| refuse("No work has panicked."));
                seen.lock().unwrap().push((square, worker, thread::current().id()));
            };
            workers.offload(move || (number * number, thread::current().id()), done);
            if seed.once_in(4) {
                ours.run();
            }
        }
        end(workers);
        ours.run();
        let (mut squares, us) = (Vec::new(), thread::current().id());
        for (square, worker, done) in seen.lock().unwrap().iter() {
            expect(*done == us, "done was called on another thread than the loop's.");
            expect(*worker != us, "The work was done on the loop's thread.");
            squares.push(*square);
        }
        squares.sort_unstable();
        let expected: Vec<u64> = (0..count).map(|number| number * number).collect();
        same(squares, expected, "Each result comes once. To drop the workers waits for them.");
    });
}

#[test]
fn the_loop_does_not_wait_for_the_work() {
    let got = within(20, "offload waits until the work is done.", || {
        let (ours, (send, receive)) = (Loop::new(), channel::<u32>());
        let (give, given) = channel();
        let workers = Workers::new(1, &ours.mailbox);
        workers.offload(move || receive.recv(), move |result| drop(give.send(result)));
        ours.run();
        expect(given.try_recv().is_err(), "The work is not done, and done was called.");
        let _ = send.send(7); // Only now can the work go on.
        end(workers);
        ours.run();
        given.recv().ok().and_then(|result| result.ok()?.ok())
    });
    same(got, Some(7), "Then the result comes.");
}

#[test]
fn all_workers_work_at_the_same_time() {
    within(20, "Three workers have three pieces of work, and one waits for another.", || {
        let (ours, all) = (Loop::new(), Arc::new(Barrier::new(3)));
        let workers = Workers::new(3, &ours.mailbox);
        for _ in 0..3 {
            let all = all.clone();
            workers.offload(move || all.wait().is_leader(), |_| {});
        }
        end(workers);
    });
}

#[test]
fn work_that_panics_is_an_error_and_its_worker_goes_on() {
    let results = within(20, "After a panic the worker does nothing any more.", || {
        let (ours, seen) = (Loop::new(), Arc::new(Mutex::new(Vec::new())));
        let workers = Workers::new(1, &ours.mailbox);
        for number in 0..5 {
            let seen = seen.clone();
            let work = move || match number % 2 {
                1 => panic::resume_unwind(Box::new("odd")), // As a panic, without the message.
                _ => number,
            };
            let done = move |result: thread::Result<u32>| seen.lock().unwrap().push(result.ok());
            workers.offload(work, done);
        }
        end(workers);
        ours.run();
        seen.lock().unwrap().clone()
    });
    let expected = [Some(0), None, Some(2), None, Some(4)];
    same(results, expected, "One worker does the work in order, and a panic is an Err.");
}

#[test]
fn a_result_wakes_the_loop() {
    let sleeper = Sleeper::default();
    let ours = Loop { mailbox: Arc::new(Mailbox::new(sleeper.clone())) };
    let workers = Workers::new(2, &ours.mailbox);
    expect(ours.mailbox.fall_asleep(), "Nothing waits, so the loop may sleep.");
    (0..10).for_each(|number| workers.offload(move || number, |_| {}));
    end(workers);
    same(sleeper.wakes(), 1, "Ten results came while it slept; it is woken once.");
}
