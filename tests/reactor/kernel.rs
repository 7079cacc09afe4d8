//! The loop and a real kernel: real descriptors, thousands of them, some of them broken.

use std::cell::Cell;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
#[cfg(all(target_os = "linux", debug_assertions))]
use std::{
    fs::OpenOptions,
    panic::{AssertUnwindSafe, catch_unwind},
};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
#[cfg(all(target_os = "linux", debug_assertions))]
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use support::{MS, ceiling, raise_open_files};
use waterwheel::mio::net::UnixStream;
use waterwheel::net::Fd;
use waterwheel::reactor::{Context, Interest, Missed, Options, RawId, Reactor, Rejected, SourceId};

const LIMIT: Duration = Duration::from_secs(60);

/// An eventfd: ready to be read if its count is not zero.
fn event(count: u32) -> Fd<OwnedFd> {
    Fd(eventfd(count, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap())
}

fn turn<S>(reactor: &mut Reactor<S>, state: &mut S) -> usize {
    reactor.turn(state, Some(Duration::ZERO)).unwrap()
}

#[test]
fn a_registration_that_fails_hands_the_object_back() {
    fn refused<T>(reactor: &mut Reactor<()>, source: Fd<T>) -> (Option<Errno>, T)
    where
        Fd<T>: waterwheel::mio::event::Source + 'static,
    {
        let (before, why) = (reactor.sources(), reactor.why_alive());
        let rejected = reactor.register(source, Interest::READABLE, |_, _, _, _| {});
        let Rejected { error, source } = rejected.unwrap_err();
        assert_eq!((reactor.sources(), reactor.why_alive()), (before, why));
        (Errno::from_io_error(&error), source.0)
    }
    let mut reactor = Reactor::new().unwrap();
    let event = event(0);
    let twice = Fd(event.0.as_raw_fd());
    let first = reactor.register(event, Interest::READABLE, |_, _, _, _| {}).unwrap();
    assert_eq!(refused(&mut reactor, twice), (Some(Errno::EXIST), twice.0));
    assert_eq!(refused(&mut reactor, Fd(1 << 30)).0, Some(Errno::BADF));
    let file = std::fs::File::open(env!("CARGO_MANIFEST_PATH")).unwrap();
    let (error, mut file) = refused(&mut reactor, Fd(file));
    assert_eq!(error, Some(Errno::PERM));
    assert!(file.read(&mut [0]).is_ok(), "the file is open and ours");
    let next = reactor.register(self::event(0), Interest::READABLE, |_, _, _, _| {}).unwrap();
    assert_eq!((first.raw().parts(), next.raw().parts()), ((0, 0), (1, 1)), "no slot was used up");
}

/// What registering it panics with, if it does.
#[cfg(all(target_os = "linux", debug_assertions))]
fn refusal<T: AsRawFd + 'static>(fd: T) -> Option<String> {
    let mut reactor = Reactor::<()>::new().unwrap();
    let interest = Interest::READABLE | Interest::WRITABLE;
    let register = || assert!(reactor.register(Fd(fd), interest, |_, _, _, _| {}).is_ok());
    let panic = catch_unwind(AssertUnwindSafe(register)).err()?;
    assert_eq!(reactor.sources(), 0, "it is not in the loop");
    Some(panic.downcast_ref::<String>().unwrap().clone())
}

#[test]
#[cfg(all(target_os = "linux", debug_assertions))]
fn blocking_descriptor_is_refused_by_debug_builds_in_plain_words() {
    let terminal = || OpenOptions::new().read(true).write(true).open("/dev/ptmx").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
    let blocking: [OwnedFd; 6] = [
        reader.into(),
        writer.into(),
        left.into(),
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
        terminal().into(),
    ];
    for fd in blocking {
        let number = fd.as_raw_fd();
        let words =
            format!("descriptor {number} is blocking: set O_NONBLOCK before it is registered");
        let refusal = refusal(fd).unwrap_or_default();
        assert!(refusal.starts_with(&words), "{number}: {refusal}");
    }
    right.set_nonblocking(true).unwrap();
    let terminal = terminal();
    rustix::io::ioctl_fionbio(&terminal, true).unwrap();
    // Of the last two nothing is ever read.
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    for fine in [right.into(), terminal.into(), event(0).0, pidfd] {
        assert_eq!(refusal(fine), None);
    }
    assert_eq!(refusal(Reactor::<()>::new().unwrap()), None);
}

#[test]
fn a_descriptor_closed_behind_the_loops_back_is_silent_and_removable() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let event = event(1);
    let behind = Fd(event.0.as_raw_fd());
    let source =
        reactor.register(behind, Interest::READABLE, |_, calls, _, _| *calls += 1).unwrap();
    drop(event);
    let mut calls = 0;
    let ran: usize = (0..10).map(|_| turn(&mut reactor, &mut calls)).sum();
    assert_eq!((ran, calls), (0, 0));
    assert!(reactor.set_interest(source, Interest::WRITABLE).is_err());
    assert!(reactor.remove(source));
    assert_eq!(reactor.sources(), 0);
}

/// The kernel's registration lives as long as the last duplicate of the descriptor.
#[test]
fn a_duplicate_that_outlives_its_source_does_not_make_the_loop_spin() {
    let _ceiling = ceiling(LIMIT);
    for closes in [false, true] {
        let mut reactor = Reactor::new().unwrap();
        let event = event(1);
        let duplicate = event.0.try_clone().unwrap();
        let options = Options { closes, ..Options::default() };
        let source = reactor.register_with(event, Interest::READABLE, options, |_, (), _, _| {});
        assert!(reactor.remove(source.unwrap()));
        let ran: usize = (0..10).map(|_| turn(&mut reactor, &mut ())).sum();
        assert_eq!(ran, 0);
        assert!(reactor.statistics().stale <= 1, "one edge at most, and it reaches nobody");
        let started = Instant::now();
        reactor.turn(&mut (), Some(20 * MS)).unwrap();
        assert!(started.elapsed() >= 20 * MS, "the loop sleeps");
        drop(duplicate);
    }
}

/// In a turn its descriptor stays open while events are queued; between turns nothing is.
#[test]
fn a_removed_source_is_closed_at_the_end_of_the_turn_or_at_once() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<UnixStream>::new().unwrap();
    let (mut peer, near) = UnixStream::pair().unwrap();
    let remove = |reactor: &mut Context<_>, peer: &mut UnixStream, id: SourceId<_>, _| {
        assert!(reactor.remove(id));
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    };
    reactor.register(near, Interest::WRITABLE, remove).unwrap();
    assert_eq!(turn(&mut reactor, &mut peer), 1);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);

    let (mut peer, near) = UnixStream::pair().unwrap();
    let source = reactor.register(near, Interest::READABLE, |_, _, _, _| {}).unwrap();
    assert!(reactor.remove(source));
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn dropping_the_reactor_closes_and_drops_everything_and_calls_nobody() {
    raise_open_files();
    /// Counts its drops.
    struct Capture(Rc<Cell<usize>>);
    impl Drop for Capture {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let drops = Rc::new(Cell::new(0));
    let posts = std::sync::Arc::new(());
    let mut reactor = Reactor::<()>::new().unwrap();
    let (remote, mut peers) = (reactor.remote(), Vec::new());
    for delay in 0..1000 {
        let (peer, near) = UnixStream::pair().unwrap();
        peers.push(peer);
        let capture = || Capture(drops.clone());
        let [of_source, of_timer, of_call, of_deferred] =
            [capture(), capture(), capture(), capture()];
        reactor
            .register(near, Interest::READABLE | Interest::WRITABLE, move |_, _, _, _| {
                panic!("called {}", of_source.0.get());
            })
            .unwrap();
        reactor.after(delay * MS, move |_, _| panic!("called {}", of_timer.0.get()));
        reactor.enqueue(Default::default(), move |_, _| panic!("called {}", of_call.0.get()));
        reactor.defer(move |_, _| panic!("called {}", of_deferred.0.get()));
        // A post that holds the loop's own mailbox must not keep it alive in a circle.
        let (again, post) = (remote.clone(), posts.clone());
        remote.post(move |_, _| panic!("called {again:?} {post:?}")).unwrap();
    }
    drop(reactor);
    assert_eq!(drops.get(), 4000);
    assert_eq!(std::sync::Arc::strong_count(&posts), 1);
    assert!(peers.iter_mut().all(|peer| matches!(peer.read(&mut [0]), Ok(0))), "closed");
}

#[test]
fn more_ready_sources_than_one_poll_reports_are_each_served_once() {
    raise_open_files();
    const SOURCES: usize = 2000; // the kernel reports 1,024 at a time
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    for at in 0..SOURCES {
        let serve = move |_: &mut _, calls: &mut Vec<u32>, _, _| calls[at] += 1;
        reactor.register(event(1), Interest::READABLE, serve).unwrap();
    }
    let mut calls = vec![0; SOURCES];
    let ran = [(); 3].map(|()| turn(&mut reactor, &mut calls));
    assert!(ran[0] < SOURCES, "{ran:?}");
    assert_eq!(calls, vec![1; SOURCES]);
}

/// Each callback closes another source, whose event is in the batch or in the next, and puts a new
/// one into its slot.
#[test]
fn sources_that_close_each_other_in_one_batch_never_call_one_that_has_gone() {
    raise_open_files();
    const SOURCES: usize = 2500;
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::<Vec<RawId>>::new().unwrap();
    let mut alive = Vec::new();
    for _ in 0..SOURCES {
        let close_another = |reactor: &mut Context<Vec<RawId>>, alive: &mut Vec<RawId>, id, _| {
            let id: SourceId<Fd<OwnedFd>> = id;
            let at = alive.iter().position(|alive| *alive == id.raw()).expect("has gone");
            alive.swap_remove(at); // it stays registered; each is called once
            if let Some(victim) = alive.pop() {
                assert!(reactor.remove(victim));
                reactor
                    .register(event(0), Interest::READABLE, |_, _, _, _| panic!("silent"))
                    .unwrap();
            }
        };
        alive.push(reactor.register(event(1), Interest::READABLE, close_another).unwrap().raw());
    }
    let ran: usize = (0..4).map(|_| turn(&mut reactor, &mut alive)).sum();
    assert_eq!((ran, alive.len()), (SOURCES / 2, 0));
    assert!(reactor.statistics().stale > 0, "events of the batch were dropped");
    assert_eq!(reactor.sources(), SOURCES);
}

/// epoll_wait(2) fails with EINTR when its process is stopped and continued, handlers or not
/// (signal(7)). A wait that began anew each time would not end while that goes on, however fast or slow
/// the machine is.
#[test]
#[expect(clippy::zombie_processes, reason = "waitpid(2) takes its end")]
fn an_interrupted_wait_neither_ends_run_nor_moves_the_deadline() {
    let _ceiling = ceiling(LIMIT);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &support::named("child_waits_for_400_ms").1, "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(output.any(|line| line.ends_with("waiting")));
    let mut reactor = Reactor::new().unwrap();
    reactor.every(5 * MS, Missed::Skip, move |reactor, (interrupted, exit), _| {
        kill_process(pid, Signal::STOP).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        if !status.stopped() {
            *exit = status.exit_status();
            return reactor.stop();
        }
        kill_process(pid, Signal::CONT).unwrap();
        *interrupted += 1;
        assert!(*interrupted < 4000, "still waiting after 20 s");
    });
    let mut state = (0, None);
    reactor.run(&mut state).unwrap();
    let (interrupted, exit) = state;
    assert!(interrupted >= 5, "{interrupted}");
    assert_eq!(exit, Some(0), "by now it has ended, and well");
    let took = output.find_map(|line| line.strip_prefix("waited ").map(str::to_owned)).unwrap();
    let [turns, ms] = took.split(' ').map(|n| n.parse().unwrap()).collect::<Vec<u64>>()[..] else {
        panic!("{took}");
    };
    assert_eq!(turns, 1, "the interrupted wait is one wait");
    assert!(ms >= 400, "waited {ms} ms for 400");
}

#[test]
#[ignore = "the child process of the test above"]
fn child_waits_for_400_ms() {
    let _ceiling = ceiling(LIMIT);
    let mut reactor = Reactor::new().unwrap();
    let started = Instant::now(); // before the timer is armed: the process may lose its core here
    reactor.after(400 * MS, |_, _| {});
    println!("\nwaiting");
    reactor.run(&mut ()).unwrap();
    println!("\nwaited {} {}", reactor.statistics().turns, started.elapsed().as_millis());
}
