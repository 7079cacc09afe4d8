//! A loop inside a host's own: whatever `run` does, the host sees as soon.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use support::host;
use waterwheel::net::{Conn, Event, drain, memory};
use waterwheel::reactor::{Interest, VirtualSource};
use waterwheel::timers::ManualClock;
use waterwheel::{Reactor, SourceId};

const GRACE: Duration = Duration::from_secs(5);
const BY: [bool; 2] = [false, true];

/// A reactor whose time jumps, and its clock.
fn jumping<S>() -> (Reactor<S>, ManualClock) {
    let clock = ManualClock::new();
    (Reactor::builder().clock(&clock).build().unwrap(), clock)
}

/// When a drain reports that ends a server with one client, which does this at the beginning.
fn reported(by_host: bool, client: fn(&mut Reactor<Option<Duration>>)) -> Duration {
    let (mut reactor, clock) = jumping::<Option<Duration>>();
    let begun = clock.now();
    client(&mut reactor);
    reactor.after(Duration::from_millis(10), move |reactor, _| {
        drain(reactor, GRACE, move |reactor, at, _| *at = Some(reactor.now() - begun));
    });
    let mut at = None;
    match by_host {
        true => host::run_by_host(&mut reactor, &mut at, Some(&clock)).unwrap(),
        false => reactor.run(&mut at).unwrap(),
    }
    at.expect("a report")
}

/// A client that closes its half when the server has, 200 ms later.
fn idle(reactor: &mut Reactor<Option<Duration>>) {
    let (near, far) = memory::pair(reactor);
    near.open(reactor, |reactor, _, conn, event| {
        if let Event::Eof = event {
            reactor.after(Duration::from_millis(200), move |reactor, _| {
                conn.close(reactor);
            });
        }
    });
    far.accepted().open(reactor, |_, _, _, _| {});
}

/// A server that holds its connection for a second, since it will answer later.
fn held(reactor: &mut Reactor<Option<Duration>>) {
    let (near, far) = memory::pair(reactor);
    near.open(reactor, |_, _, _, _| {});
    let conn = far.accepted().open(reactor, |_, _, _, _| {});
    conn.hold(reactor);
    reactor.after(Duration::from_secs(1), move |reactor, _| {
        conn.release(reactor);
    });
}

/// A server that takes its connection out of the loop without a word.
fn removed(reactor: &mut Reactor<Option<Duration>>) {
    let (near, far) = memory::pair(reactor);
    near.open(reactor, |_, _, _, _| {});
    let conn = far.accepted().open(reactor, |_, _, _, _| {});
    conn.hold(reactor);
    reactor.after(Duration::from_secs(2), move |reactor, _| {
        assert!(reactor.deregister::<Conn>(conn).is_some());
    });
}

#[test]
fn drain_reports_as_soon_for_a_host_as_by_run() {
    for client in [idle, held, removed] {
        let [by_run, by_host] = BY.map(|by_host| reported(by_host, client));
        assert_eq!(by_run, by_host);
        assert!(by_host < GRACE, "{by_host:?}");
    }
}

#[test]
fn hook_looks_before_a_host_sleeps_and_the_host_then_sleeps() {
    let (mut reactor, _clock) = jumping::<()>();
    let looks = Rc::new(Cell::new(0));
    let seen = looks.clone();
    reactor.before_poll(move |_, _| seen.set(seen.get() + 1));
    // Neither keeps a host awake by what it is.
    reactor.after_poll(|_, _| {});
    reactor.on_idle(|_, _| {});
    reactor.after(Duration::from_secs(60), |_, _| {});
    reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.next_wait(), Some(Duration::from_secs(60)));

    // Something happens in dispatch, behind the hook.
    reactor.enqueue(Default::default(), |_, _| {});
    reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    let before = looks.get();
    assert_eq!(reactor.next_wait(), Some(Duration::ZERO));
    reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    assert_eq!(looks.get(), before + 1);
    assert_eq!(reactor.next_wait(), Some(Duration::from_secs(60)));
}

#[test]
fn hook_sees_what_the_host_removes_between_turns() {
    let (mut reactor, _clock) = jumping::<()>();
    reactor.before_poll(|_, _| {});
    let id = reactor.register(VirtualSource, Interest::READABLE, |_, _, _, _| {}).unwrap();
    reactor.after(Duration::from_secs(60), |_, _| {});
    reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.next_wait(), Some(Duration::from_secs(60)));
    assert!(reactor.remove(id));
    assert_eq!(reactor.next_wait(), Some(Duration::ZERO));
}

#[test]
fn hook_sees_what_a_callback_did_before_it_panicked() {
    let (mut reactor, _clock) = jumping::<()>();
    reactor.before_poll(|_, _| {});
    reactor.after(Duration::from_secs(60), |_, _| {});
    reactor.enqueue(Default::default(), |_, _| std::panic::resume_unwind(Box::new("on purpose")));
    let turn = AssertUnwindSafe(|| reactor.turn(&mut (), Some(Duration::ZERO)));
    assert!(catch_unwind(turn).is_err());
    assert_eq!(reactor.next_wait(), Some(Duration::ZERO));
}

#[test]
fn host_without_hooks_is_not_kept_awake() {
    let (mut reactor, _clock) = jumping::<()>();
    reactor.after(Duration::from_secs(60), |_, _| {});
    reactor.enqueue(Default::default(), |_, _| {});
    reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.next_wait(), Some(Duration::from_secs(60)));
}

/// Notes when it is dropped.
struct Mortal(ManualClock, Rc<Cell<Option<Instant>>>);

impl Drop for Mortal {
    fn drop(&mut self) {
        self.1.set(Some(self.0.now()));
    }
}

/// When a source is dropped that is removed at once in this way, a minute before the next timer.
fn dropped(by_host: bool, remove: fn(&mut Reactor<()>, SourceId<Mortal>)) -> Duration {
    let (mut reactor, clock) = jumping::<()>();
    let (begun, at) = (clock.now(), Rc::default());
    let id = reactor.own(Mortal(clock.clone(), Rc::clone(&at)), |_, _, _, _| {});
    reactor.after(Duration::from_secs(60), |_, _| {});
    remove(&mut reactor, id);
    let mut run = || match by_host {
        true => host::run_by_host(&mut reactor, &mut (), Some(&clock)),
        false => reactor.run(&mut ()),
    };
    while catch_unwind(AssertUnwindSafe(&mut run)).is_err() {}
    at.get().expect("it is dropped") - begun
}

#[test]
fn nobody_sleeps_on_what_was_removed() {
    type Way = fn(&mut Reactor<()>, SourceId<Mortal>);
    let ways: [Way; 4] = [
        |reactor, id| {
            reactor.remove(id);
        },
        |reactor, id| {
            reactor.before_poll(move |reactor, _| {
                reactor.remove(id);
            });
        },
        |reactor, id| {
            reactor.defer(move |reactor, _| {
                reactor.remove(id);
            });
        },
        |reactor, id| {
            reactor.defer(move |reactor, _| {
                reactor.remove(id);
                panic!("the turn ends here");
            });
        },
    ];
    for way in ways {
        assert_eq!(BY.map(|by_host| dropped(by_host, way)), [Duration::ZERO; 2]);
    }
}
