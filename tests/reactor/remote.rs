//! The loop among others: posts and stops from other threads, and a host with a loop of its own.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{MS, ceiling, kinds};
use waterwheel::mio::net::UnixStream;
use waterwheel::reactor::{
    Alive, Context, Interest, Kind, LoopEvent, Missed, PostError, Reactor, Readiness, Recorder,
    Remote, SourceId, Subject,
};
use waterwheel::timers::ManualClock;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn posts_of_four_threads_arrive_once_each_and_in_order() {
    const POSTS: u32 = 25_000;
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    for thread in 0..4 {
        let remote = reactor.remote();
        thread::spawn(move || {
            for number in 0..POSTS {
                let post = move |_: &mut _, next: &mut [u32; 4]| {
                    assert_eq!(next[thread], number, "of thread {thread}");
                    next[thread] += 1;
                };
                remote.post(post).unwrap();
            }
        });
    }
    let mut next = [0; 4];
    reactor.run(&mut next).unwrap(); // until the last remote is dropped
    assert_eq!(next, [POSTS; 4]);
    assert!(!reactor.is_alive());
    eprintln!("{} turns", reactor.statistics().turns);
    assert!(reactor.statistics().turns < 4 * u64::from(POSTS) / 2);
}

#[test]
fn a_hundred_thousand_posts_during_one_callback_are_a_hundred_turns() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    reactor.defer(move |_, _| {
        let threads = [(); 4].map(|()| {
            let remote = remote.clone();
            let post = move || remote.post(|_, count: &mut u32| *count += 1).unwrap();
            thread::spawn(move || (0..25_000).for_each(|_| post()))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let mut count = 0;
    reactor.run(&mut count).unwrap();
    assert_eq!(count, 100_000);
    let turns = reactor.statistics().turns;
    assert!(turns <= 2 + 100_000u64.div_ceil(1000), "{turns} turns");
}

#[test]
fn a_post_during_the_drain_waits_for_the_next_turn() {
    let recorder = Recorder::new();
    let mut reactor = Reactor::builder().observer(recorder.observer()).build().unwrap();
    let remote = reactor.remote();
    let again = remote.clone();
    remote.post(move |_, ()| again.post(|_, ()| {}).unwrap()).unwrap();
    remote.post(|_, ()| {}).unwrap();
    drop(remote);
    reactor.run(&mut ()).unwrap();
    use Kind::{Collected, RunPosted, Turn};
    let expected = [Turn, Collected, Collected, RunPosted, RunPosted, Turn, Collected, RunPosted];
    assert_eq!(kinds(&recorder), expected);
}

#[test]
fn a_post_to_a_loop_that_has_gone_is_an_error_and_hands_the_closure_back() {
    let reactor_and_remote = || {
        let mut reactor = Reactor::<()>::new().unwrap();
        let remote = reactor.remote();
        (reactor, remote)
    };
    let (reactor, remote) = reactor_and_remote();
    drop(reactor);
    let capture = Arc::new(());
    let captured = capture.clone();
    let error = remote.post(move |_, ()| drop(captured)).unwrap_err();
    assert!(matches!(error, PostError::Closed(_)));
    assert_eq!(Arc::strong_count(&capture), 2, "handed back");
    drop(error);
    assert_eq!(Arc::strong_count(&capture), 1, "and freed");
    assert_eq!(remote.stop(), Err(PostError::Closed(())));
}

#[test]
fn a_full_mailbox_says_so_at_once_and_loses_nothing() {
    let mut reactor = Reactor::builder().mailbox_posts_max(3).build().unwrap();
    let remote = reactor.remote();
    let posts = (0..5).map(|n| remote.post(move |_, got: &mut Vec<u32>| got.push(n)));
    let refused: Vec<bool> = posts.map(|post| matches!(post, Err(PostError::Full(_)))).collect();
    assert_eq!(refused, [false, false, false, true, true]);
    let mut got = Vec::new();
    reactor.turn(&mut got, None).unwrap();
    assert_eq!(got, [0, 1, 2]);
    assert!(remote.post(|_, _| {}).is_ok(), "there is room again");
}

/// A post and, right after it, the end of the only remote: `run` may return only when both are in.
#[test]
fn the_last_post_of_the_last_remote_is_not_lost() {
    let _ceiling = ceiling(LIMIT);
    let (give, take) = std::sync::mpsc::channel::<Remote<u32>>();
    let poster = thread::spawn(move || {
        take.iter().for_each(|remote| remote.post(|_, count| *count += 1).unwrap());
    });
    let mut reactor = Reactor::new().unwrap();
    let mut count = 0;
    for round in 1..=10_000 {
        give.send(reactor.remote()).unwrap();
        reactor.run(&mut count).unwrap();
        assert_eq!(count, round);
    }
    drop(give);
    poster.join().unwrap();
}

/// The observer posts at the worst moment: the loop has looked, found nothing, and not yet slept.
#[test]
fn a_post_between_the_look_and_the_sleep_is_not_slept_over() {
    let _ceiling = ceiling(LIMIT);
    let remote: Rc<RefCell<Option<Remote<()>>>> = Rc::default();
    let poster = remote.clone();
    let observer = move |event: &LoopEvent| {
        if event.kind == Kind::Wait && event.argument > 1000 {
            let posted = poster.take().map(|remote| remote.post(|reactor, ()| reactor.stop()));
            assert!(posted.is_none_or(|posted| posted.is_ok()));
        }
    };
    let mut reactor = Reactor::builder().observer(observer).build().unwrap();
    *remote.borrow_mut() = Some(reactor.remote());
    reactor.after(MS, |_, ()| {}); // one sleep before, so that the loop counts as awake
    reactor.after(Duration::from_secs(5), |_, ()| panic!("slept over the post"));
    reactor.run(&mut ()).unwrap();
}

#[test]
fn the_last_remote_to_go_ends_a_loop_that_slept_for_it_and_does_not_spin() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let line = line!() - 1;
    assert!(matches!(reactor.why_alive()[..], [Alive::Remote(place)] if place.line() == line));
    let barrier = Arc::new(Barrier::new(2));
    let at_barrier = barrier.clone();
    let thread = thread::spawn(move || {
        at_barrier.wait();
        drop(remote);
    });
    reactor.defer(move |_, ()| {
        barrier.wait();
    });
    reactor.run(&mut ()).unwrap();
    thread.join().unwrap();
    assert!(reactor.statistics().turns <= 3, "{:?}", reactor.statistics());
    let quiet = Instant::now();
    reactor.turn(&mut (), Some(20 * MS)).unwrap();
    reactor.turn(&mut (), Some(20 * MS)).unwrap();
    assert!(quiet.elapsed() >= 20 * MS, "at most one of them was still woken");
}

#[test]
fn stop_ends_the_turn_it_is_called_in_wherever_it_is_called_from() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    reactor.every(MS, Missed::Skip, |_, ticks: &mut u32, _| *ticks += 1);
    let remote = reactor.remote();
    let mut ticks = 0;
    let mut run = |reactor: &mut Reactor<u32>| {
        let (before, turns) = (ticks, reactor.statistics().turns);
        reactor.run(&mut ticks).unwrap();
        (ticks - before, reactor.statistics().turns - turns)
    };
    reactor.stop(); // before `run`, and twice
    reactor.stop();
    assert_eq!(run(&mut reactor), (0, 0));
    reactor.enqueue(Default::default(), |reactor, _| reactor.stop());
    reactor.enqueue(Default::default(), |_, ticks| *ticks += 100); // the turn is completed
    assert_eq!(run(&mut reactor).0 / 100, 1);
    remote.stop().unwrap(); // from the same thread, and with the other kind
    reactor.stop();
    assert_eq!(run(&mut reactor), (0, 0));
    let stopper = remote.clone();
    let thread = thread::spawn(move || {
        stopper.post(|_, ticks| *ticks += 100).unwrap();
        stopper.stop().unwrap();
        stopper.post(|_, ticks| *ticks += 1000).unwrap();
    });
    let (first, _) = run(&mut reactor);
    thread.join().unwrap();
    reactor.defer(|reactor, _| reactor.stop());
    let (second, _) = run(&mut reactor);
    assert_eq!((first + second) / 100, 11, "nothing that was queued is lost");
}

/// Waits as a host's loop does: for our descriptor, and for as long as the reactor allows.
fn host_waits<S>(reactor: &Reactor<S>) -> bool {
    let wait = reactor.next_wait().unwrap_or(LIMIT);
    // The host's clock may be as coarse as milliseconds; it must not wake too early then.
    let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    let mut fds = [PollFd::new(reactor, PollFlags::IN)];
    poll(&mut fds, Some(&wait)).unwrap() > 0
}

#[test]
fn a_host_that_watches_the_reactors_descriptor_misses_nothing() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<u32>::new().unwrap();
    let mut count = 0;
    let mut host = |reactor: &mut Reactor<u32>| {
        let woken = host_waits(reactor);
        reactor.turn(&mut count, Some(Duration::ZERO)).unwrap();
        (woken, std::mem::take(&mut count))
    };
    reactor.enqueue(Default::default(), |_, count| *count += 1);
    assert_eq!(reactor.next_wait(), Some(Duration::ZERO));
    assert_eq!(host(&mut reactor).1, 1);
    // A source that is registered between turns, and ready at once.
    let (mut peer, near) = UnixStream::pair().unwrap();
    peer.write_all(b"!").unwrap();
    let read = |reactor: &mut Context<u32>, count: &mut u32, id, _: Readiness| {
        let id: SourceId<UnixStream> = id;
        *count += reactor[id].read(&mut [0; 8]).unwrap() as u32;
    };
    reactor.register(near, Interest::READABLE, read).unwrap();
    assert_eq!(host(&mut reactor), (true, 1));
    // Posts of another thread: each wakes the host, though it was in no turn of ours.
    let remote = reactor.remote();
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        asked.iter().for_each(|()| remote.post(|_, count| *count += 1).unwrap());
    });
    for _ in 0..1000 {
        ask.send(()).unwrap();
        while host(&mut reactor).1 == 0 {}
    }
    drop(ask);
    thread.join().unwrap();
    // And a timer, for which the descriptor stays silent.
    let armed = Instant::now();
    reactor.after(5 * MS, |_, count| *count += 1);
    while host(&mut reactor).1 == 0 {}
    assert!(armed.elapsed() >= 5 * MS);
}

#[test]
fn a_reactor_that_was_run_may_be_watched_by_a_host() {
    let _ceiling = ceiling(Duration::from_secs(5));
    let mut reactor = Reactor::<u32>::new().unwrap();
    let remote = reactor.remote();
    reactor.after(MS, |reactor, _| reactor.stop());
    reactor.run(&mut 0).unwrap(); // it has slept, and was last awake
    assert_eq!(reactor.next_wait(), None);
    thread::spawn(move || remote.post(|_, _| {}).unwrap()).join().unwrap();
    let mut fds = [PollFd::from_borrowed_fd(reactor.as_fd(), PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap(), 1);
}

#[test]
fn an_idle_loop_wakes_zero_times_in_a_second() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let _remote = reactor.remote().unref();
    let (_peer, near) = UnixStream::pair().unwrap();
    let source = reactor.register(near, Interest::READABLE, |_, _, _, _| {}).unwrap();
    reactor.unref(source);
    reactor.after(Duration::from_secs(1), |_, fired: &mut bool| *fired = true);
    let mut fired = false;
    reactor.turn(&mut fired, Some(Duration::ZERO)).unwrap(); // takes in that a remote has gone
    reactor.run(&mut fired).unwrap();
    assert!(fired);
    assert_eq!(reactor.statistics().turns, 2, "it woke once, when the second was over");
}

#[test]
fn a_delivery_passes_a_full_mailbox_in_order_and_names_its_source() {
    let _ceiling = ceiling(LIMIT);
    let recorder = Recorder::new();
    let builder = Reactor::builder().mailbox_posts_max(1).observer(recorder.observer());
    let mut reactor = builder.build().unwrap();
    let line = line!() + 1;
    let source = reactor.own((), |_, _, _, _| {});
    let (origin, remote) = (reactor.origin(source), reactor.remote_unheld());
    for number in [1, 2] {
        let deliver = move |_: &mut Context<Vec<u32>>, list: &mut Vec<u32>| list.push(number);
        remote.deliver(origin, deliver).unwrap();
    }
    assert!(matches!(remote.post(|_, _| {}), Err(PostError::Full(_))), "deliveries count");
    assert_eq!(reactor.why_alive().len(), 2, "the source, and what is posted");
    reactor.remove(source);
    let mut list = Vec::new();
    reactor.turn(&mut list, Some(Duration::ZERO)).unwrap();
    remote.post(|_, list| list.push(3)).unwrap();
    // Also if the source has gone: the callback may have more to do than to call it.
    remote.deliver(origin, |_, list| list.push(4)).unwrap();
    reactor.run(&mut list).unwrap();
    assert_eq!(list, [1, 2, 3, 4]);
    let events = recorder.take();
    for kind in [Kind::Collected, Kind::RunPosted] {
        let events = events.iter().filter(|event| event.kind == kind);
        let of_source = events.map(|event| event.subject == Subject::Source(source.raw()));
        assert_eq!(of_source.collect::<Vec<_>>(), [true, true, false, true]);
    }
    let run = events.iter().find(|event| event.kind == Kind::RunPosted).unwrap();
    assert_eq!((run.place.line(), run.cause), (line, 0));
}

#[test]
fn a_delivery_to_a_loop_that_has_gone_is_handed_back() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let source = reactor.own((), |_, _, _, _| {});
    let (origin, remote) = (reactor.origin(source), reactor.remote_unheld());
    drop(reactor);
    let token = Arc::new(());
    let kept = token.clone();
    let refused = remote.deliver(origin, move |_, ()| drop(kept));
    assert!(matches!(refused, Err(PostError::Closed(_))) && Arc::strong_count(&token) == 2);
}

#[test]
fn a_manual_clock_stands_still_while_work_is_under_way_outside() {
    let _ceiling = ceiling(LIMIT);
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let source = reactor.own((), |_, _, _, _| {});
    let (origin, remote) = (reactor.origin(source), reactor.remote_unheld());
    reactor.after(Duration::from_secs(3600), |_, list: &mut Vec<&str>| list.push("timer"));
    for _ in 0..2 {
        reactor.begin_outside();
    }
    let (mut list, before) = (Vec::new(), clock.now());
    reactor.end_outside(); // One of the two will have no result.
    reactor.turn(&mut list, Some(MS)).unwrap();
    assert_eq!((list.len(), clock.now()), (0, before));
    let work = thread::spawn(move || {
        let deliver = move |reactor: &mut Context<Vec<&'static str>>,
                            list: &mut Vec<&'static str>| {
            reactor.end_outside();
            reactor.remove(source);
            list.push("result");
        };
        remote.deliver(origin, deliver).unwrap();
    });
    reactor.run(&mut list).unwrap();
    work.join().unwrap();
    assert_eq!(list, ["result", "timer"]);
}

/// The kernel counts a wait in 32 bits of milliseconds, 24.8 days.
#[test]
fn a_wait_longer_than_the_kernel_can_count_is_still_a_wait() {
    let _ceiling = ceiling(LIMIT);
    for days in [24, 25, 50, 365, 365 * 600, u64::MAX / 86_400] {
        let mut reactor = Reactor::new().unwrap();
        let far = Duration::from_secs(days * 86_400);
        reactor.after(far, |_, ended: &mut bool| *ended = true);
        let remote = reactor.remote();
        let started = Instant::now();
        let waker = thread::spawn(move || {
            let mut none: [PollFd; 0] = [];
            poll(&mut none, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 })).unwrap();
            remote.stop().unwrap();
        });
        let mut ended = false;
        reactor.run(&mut ended).unwrap();
        waker.join().unwrap();
        assert!(!ended && started.elapsed() >= 20 * MS);
        assert_eq!(reactor.statistics().turns, 1, "one wait for {days} days");
    }
}
