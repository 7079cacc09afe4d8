//! The loop and its remotes under a model checker, which tries the orders in which threads may run.
//!
//! Knows loom. The mailbox, the remotes and the loop are the real ones; only the kernel is a model:
//! [`Waker`] below is its waker, and a wait without limit returns when it is woken, or never. So a
//! lost wake-up is a deadlock, which loom reports with the order that led to it.

use std::io;
use std::time::Duration;

use loom::sync::Notify;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::{PostError, Remote};
use crate::reactor::{self, Reactor};

/// How long one model is checked.
const SECONDS: Duration = Duration::from_secs(15);

/// Acts as mio's waker and the kernel behind it: a wake is remembered until a poll takes it.
pub(in crate::reactor) struct Waker {
    /// Swapped, because the kernel orders wakes and polls; and relaxed, so that a poll which does
    /// not sleep synchronises nothing else.
    woken: AtomicBool,
    wakes: Notify,
}

impl Waker {
    pub(in crate::reactor) fn new(_: &mio::Registry, _: mio::Token) -> io::Result<Waker> {
        Ok(Waker { woken: AtomicBool::new(false), wakes: Notify::new() })
    }

    pub(in crate::reactor) fn wake(&self) -> io::Result<()> {
        self.woken.swap(true, Ordering::Relaxed);
        self.wakes.notify();
        Ok(())
    }

    fn wait(&self, wait: Option<Duration>) {
        if wait == Some(Duration::ZERO) {
            self.woken.swap(false, Ordering::Relaxed);
            return;
        }
        assert_eq!(wait, None, "there are no timers in the model");
        while !self.woken.swap(false, Ordering::Relaxed) {
            self.wakes.wait();
        }
    }
}

impl<S: 'static> Reactor<S> {
    /// Phase 3 without a kernel.
    pub(in crate::reactor) fn poll_kernel(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.context.mailbox.waker().wait(wait);
        Ok(())
    }
}

type Log = Vec<u32>;

/// Tries the orders with at most two preemptions, which show nearly all defects, for as long as
/// `LOOM_MAX_DURATION` says, or [`SECONDS`]: all of them take minutes.
fn check(builder: fn() -> reactor::Builder<Log>, model: fn(Reactor<Log>, Log)) {
    let mut orders = loom::model::Builder::new();
    orders.preemption_bound = Some(2);
    orders.max_duration.get_or_insert(SECONDS);
    orders.check(move || model(builder().build().unwrap(), Log::new()));
}

fn post(remote: &Remote<Log>, number: u32) -> bool {
    match remote.post(move |_, log: &mut Log| log.push(number)) {
        Ok(()) => true,
        Err(PostError::Full(_)) => false,
        Err(PostError::Closed(_)) => panic!("the loop is there"),
    }
}

/// A remote holds the loop throughout, so that only a post can wake it.
#[test]
fn posts_are_run_once_and_in_the_order_of_their_thread() {
    check(Reactor::builder, |mut reactor, mut log| {
        let holds = reactor.remote();
        for numbers in [[1, 2].as_slice(), &[10]] {
            let remote = holds.unref();
            thread::spawn(move || {
                for number in numbers {
                    post(&remote, *number);
                }
            });
        }
        while log.len() < 3 {
            reactor.turn(&mut log, None).unwrap();
        }
        log.retain(|number| *number != 10);
        assert_eq!(log, [1, 2]);
    });
}

#[test]
fn the_last_remote_to_go_lets_the_loop_go() {
    check(Reactor::builder, |mut reactor, mut log| {
        let (last, other) = (reactor.remote(), reactor.remote().unref());
        thread::spawn(move || drop(last));
        let poster = thread::spawn(move || post(&other, 1));
        reactor.run(&mut log).unwrap();
        poster.join().unwrap();
    });
}

#[test]
fn a_stop_ends_the_run_whatever_else_comes() {
    check(Reactor::builder, |mut reactor, mut log| {
        let holds = reactor.remote();
        let (stops, posts) = (holds.clone(), holds.clone());
        let stopper = thread::spawn(move || stops.stop().unwrap());
        let poster = thread::spawn(move || post(&posts, 1));
        reactor.run(&mut log).unwrap();
        stopper.join().unwrap();
        poster.join().unwrap();
        // A post behind the stop is kept for the next run.
        drop(holds);
        reactor.run(&mut log).unwrap();
        assert_eq!(log, [1]);
    });
}

#[test]
fn a_closed_loop_refuses_and_drops_what_it_had() {
    check(Reactor::builder, |mut reactor, _| {
        let (remote, token) = (reactor.remote(), std::sync::Arc::new(()));
        let held = token.clone();
        let poster = thread::spawn(move || {
            let posts =
                [held.clone(), held].map(|held| remote.post(move |_, _| drop(held)).is_ok());
            assert!(posts[0] || !posts[1], "closed is closed");
            let stopped = remote.stop().is_ok();
            assert!(posts[1] || !stopped);
        });
        drop(reactor);
        poster.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&token), 1);
    });
}

#[test]
fn a_full_mailbox_loses_nothing_that_it_took() {
    check(
        || Reactor::builder().mailbox_posts_max(1),
        |mut reactor, mut log| {
            let threads = [1, 2].map(|number| {
                let remote = reactor.remote();
                thread::spawn(move || post(&remote, number))
            });
            reactor.run(&mut log).unwrap();
            let taken = threads.map(|thread| thread.join().unwrap());
            assert_eq!([1, 2].map(|number| log.contains(&number)), taken);
            assert_eq!(log.len(), taken.iter().filter(|taken| **taken).count());
        },
    );
}

/// A host that sleeps on the reactor's descriptor, as long as `next_wait` says.
#[test]
fn a_host_that_sleeps_for_the_loop_misses_no_post() {
    check(Reactor::builder, |mut reactor, mut log| {
        let holds = reactor.remote();
        for number in [1, 2] {
            let remote = holds.unref();
            thread::spawn(move || post(&remote, number));
        }
        while log.len() < 2 {
            let wait = reactor.next_wait();
            reactor.context.mailbox.waker().wait(wait);
            reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        }
    });
}
