//! The limits on time of a connection, by a clock that stands still until it is moved.

use std::cell::OnceCell;
use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::time::Duration;

use support::MS;
use support::tcp::{Peer, Told, await_readiness, note, pair, turn_until, turns, unclosed};
use waterwheel::net::{Conn, Event, Framed, Limits, Lines, Pressure, Rate, Reason, framed};
use waterwheel::reactor::Priority;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const SECOND: Duration = Duration::from_secs(1);
const TEN: Option<Duration> = Some(Duration::from_secs(10));

/// A connection, its peer, and the time of both.
struct Bench {
    reactor: Reactor<Told>,
    clock: ManualClock,
    told: Told,
    conn: SourceId<Conn>,
    peer: Peer,
}

impl Bench {
    fn new(limits: Limits) -> Bench {
        Bench::with(limits, note)
    }

    fn with<F>(limits: Limits, handler: F) -> Bench
    where
        F: FnMut(&mut Context<Told>, &mut Told, SourceId<Conn>, Event<'_>) + 'static,
    {
        let (clock, mut told) = (ManualClock::held(), Told::default());
        // So that a tick counted from zero is not the same as one that was never set.
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        clock.advance(1000 * SECOND);
        let (conn, peer) = pair(&mut reactor, &mut told, limits, handler);
        Bench { reactor, clock, told, conn, peer }
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        turns(&mut self.reactor, &mut self.told, 5);
    }

    /// The peer sends, and it has arrived.
    fn hear(&mut self, bytes: &[u8]) {
        let before = self.told.bytes.len();
        self.peer.send(bytes);
        turn_until(&mut self.reactor, &mut self.told, |_, told| told.bytes.len() > before);
    }

    /// The peer sends, and in the turn in which that is read another callback takes so long first.
    fn hear_late(&mut self, bytes: &[u8], late: Duration) {
        self.peer.send(bytes);
        assert!(await_readiness(&self.reactor, 1000));
        let clock = self.clock.clone();
        self.reactor.enqueue(Priority::High, move |reactor, _| {
            reactor.now(); // The turn's, from now on.
            clock.advance(late);
        });
        turns(&mut self.reactor, &mut self.told, 1);
        assert!(!self.told.bytes.is_empty());
    }

    /// Writes until the kernel takes no more and so much is left.
    fn block(&mut self, unsent: usize) {
        while self.reactor[self.conn].unsent() < unsent {
            assert!(self.reactor[self.conn].write(&[7; 64 * 1024]).is_taken());
        }
        turns(&mut self.reactor, &mut self.told, 5);
        assert!(self.reactor[self.conn].unsent() > 0);
    }

    fn is_open(&self) -> bool {
        self.told.closed.is_none()
    }

    /// Open now, and `left` later closed for this reason and no sooner. The peer sees a reset.
    fn is_closed_in(&mut self, left: Duration, why: &str) {
        self.pass(left - MS);
        assert!(self.is_open(), "too early");
        self.pass(MS);
        assert_eq!(self.told.closed.as_ref().map(|why| format!("{why:?}")).as_deref(), Some(why));
        assert_eq!((self.reactor.timers(), self.reactor.sources(), unclosed()), (0, 0, 0));
        turn_until(&mut self.reactor, &mut self.told, |_, _| self.peer.read_all().is_some());
        assert_eq!(self.peer.end, Some(Err(ErrorKind::ConnectionReset)));
    }
}

#[test]
fn idle_connection_is_closed_that_long_after_its_last_byte() {
    let mut bench = Bench::new(Limits { idle_timeout: TEN, ..Limits::default() });
    bench.pass(9 * SECOND);
    bench.hear(b"x");
    bench.pass(9 * SECOND);
    let _ = bench.reactor[bench.conn].write(b"y");
    bench.pass(Duration::ZERO);
    bench.is_closed_in(10 * SECOND, "IdleTimeout");
}

#[test]
fn large_writes_that_leave_at_once_are_traffic_too() {
    let mut bench = Bench::new(Limits { idle_timeout: TEN, ..Limits::default() });
    for _ in 0..5 {
        bench.pass(9 * SECOND);
        assert!(bench.is_open(), "closed while it was sending");
        let _ = bench.reactor[bench.conn].write(&[7; 32 * 1024]);
        bench.pass(Duration::ZERO);
        bench.peer.read_all();
    }
    bench.is_closed_in(10 * SECOND, "IdleTimeout");
}

#[test]
fn data_that_arrives_in_the_turn_of_its_timeout_wins() {
    let limits = Limits { idle_timeout: TEN, read_timeout: TEN, ..Limits::default() };
    let mut bench = Bench::new(limits);
    bench.peer.send(b"just in time");
    assert!(await_readiness(&bench.reactor, 1000));
    bench.clock.advance(10 * SECOND);
    turns(&mut bench.reactor, &mut bench.told, 1);
    assert_eq!(bench.told.bytes, b"just in time");
    bench.is_closed_in(10 * SECOND, "IdleTimeout");
}

#[test]
fn answer_to_data_that_arrives_in_the_turn_of_its_timeout_is_sent() {
    let limits = Limits { idle_timeout: TEN, write_timeout: TEN, ..Limits::default() };
    let mut bench = Bench::with(limits, |reactor, told, id, event| {
        if let Event::Data(bytes) = &event {
            assert_eq!(reactor[id].write(bytes), Pressure::Below);
        }
        note(reactor, told, id, event);
    });
    // Sent when the turn has asked already what there is to read: only the deadline reads it.
    let mut socket = bench.peer.socket.try_clone().unwrap();
    let sends = move |_: &mut Context<Told>, _: &mut Told| socket.write_all(b"now").unwrap();
    bench.reactor.after(10 * SECOND - MS, sends);
    bench.pass(10 * SECOND);
    let peer = &mut bench.peer;
    turn_until(&mut bench.reactor, &mut bench.told, |_, _| {
        peer.read_all().is_some() || peer.got == b"now"
    });
    assert_eq!(peer.got, b"now");
    assert!(bench.is_open(), "{:?}", bench.told.closed);
}

/// A handler of lines that notes them, each with a `;`.
fn lines() -> impl FnMut(&mut Context<Told>, &mut Told, SourceId<Conn>, Event<'_>) {
    framed(Lines::new(1000), |_, told: &mut Told, _, event| match event {
        Framed::Frame(line) => told.bytes.extend([line, b";"].concat()),
        Framed::Closed(why) => told.closed = Some(why),
        _ => {}
    })
}

#[test]
fn byte_a_second_does_not_put_the_read_timeout_of_a_whole_frame_off() {
    let limits = Limits { read_timeout: TEN, idle_timeout: TEN, ..Limits::default() };
    let mut bench = Bench::with(limits, lines());
    for _ in 0..3 {
        bench.pass(5 * SECOND);
        bench.hear(b"whole\n");
    }
    for _ in 0..9 {
        bench.pass(SECOND);
        bench.peer.send(b"a");
        turns(&mut bench.reactor, &mut bench.told, 5);
    }
    bench.is_closed_in(SECOND, "ReadTimeout");
    assert_eq!(bench.told.bytes, b"whole;whole;whole;");
}

#[test]
fn read_timeout_stands_still_while_paused_and_holds_again_after_it() {
    for idle_timeout in [None, Some(100 * SECOND)] {
        let limits = Limits { read_timeout: TEN, idle_timeout, ..Limits::default() };
        let mut bench = Bench::new(limits);
        bench.pass(5 * SECOND);
        bench.reactor[bench.conn].pause();
        bench.pass(60 * SECOND);
        assert!(bench.is_open(), "timed out while paused");
        bench.reactor[bench.conn].resume();
        bench.pass(Duration::ZERO);
        assert!(bench.is_open(), "the pause was counted");
        bench.is_closed_in(10 * SECOND, "ReadTimeout");
    }
}

#[test]
fn write_timeout_counts_from_the_last_byte_the_peer_took() {
    let limits = Limits { write_timeout: TEN, ..Limits::default() };
    let mut bench = Bench::new(limits);
    bench.pass(1000 * SECOND);
    assert!(bench.is_open(), "nothing waits to be sent");
    bench.block(100_000);
    for _ in 0..3 {
        bench.pass(9 * SECOND);
        assert!(bench.is_open());
        // Writing more is not progress; the peer's reading is.
        let _ = bench.reactor[bench.conn].write(b"more");
        let unsent = bench.reactor[bench.conn].unsent();
        turn_until(&mut bench.reactor, &mut bench.told, |reactor, _| {
            bench.peer.read(64 * 1024);
            reactor[bench.conn].unsent() < unsent
        });
        bench.block(100_000);
    }
    bench.pass(9 * SECOND);
    assert!(bench.is_open());
    bench.pass(SECOND);
    assert!(matches!(bench.told.closed, Some(Reason::WriteTimeout)));
}

#[test]
fn write_timeout_is_put_off_by_what_a_handlers_own_writes_push_out() {
    let limits = Limits { write_timeout: TEN, outbox_bytes_max: 64 << 20, ..Limits::default() };
    let mut bench = Bench::with(limits, |reactor, told, conn, event| {
        if let Event::Data(_) = event {
            let _ = reactor[conn].write(&[7; 32 * 1024]);
        }
        note(reactor, told, conn, event);
    });
    bench.block(32 << 20);
    bench.pass(9 * SECOND);
    // Both in one turn: room in the kernel, and data whose handler's write uses it.
    while !await_readiness(&bench.reactor, 1) {
        bench.peer.read_all();
    }
    bench.hear(b"x");
    bench.pass(9 * SECOND);
    assert!(bench.is_open(), "bytes were taken nine seconds ago");
    bench.pass(SECOND);
    assert!(matches!(bench.told.closed, Some(Reason::WriteTimeout)));
}

#[test]
fn limits_set_later_count_from_then() {
    let mut bench = Bench::new(Limits::default());
    bench.hear(b"x");
    bench.pass(500 * SECOND);
    let limits = Limits { idle_timeout: TEN, read_timeout: TEN, ..Limits::default() };
    bench.reactor[bench.conn].set_limits(limits);
    bench.pass(Duration::ZERO);
    assert!(bench.is_open(), "the time before was counted");
    bench.is_closed_in(10 * SECOND, "IdleTimeout");
}

#[test]
fn limits_taken_off_hold_no_more_and_put_on_again_count_anew() {
    let limits = Limits { idle_timeout: TEN, ..Limits::default() };
    let mut bench = Bench::new(limits.clone());
    bench.pass(5 * SECOND);
    bench.reactor[bench.conn].set_limits(Limits::default());
    bench.pass(500 * SECOND);
    assert!(bench.is_open());
    bench.reactor[bench.conn].set_limits(limits);
    bench.pass(Duration::ZERO);
    assert!(bench.is_open(), "the time without a limit was counted");
    bench.is_closed_in(10 * SECOND, "IdleTimeout");
}

#[test]
fn traffic_does_not_move_the_deadline_on_the_wheel() {
    let mut bench = Bench::new(Limits { idle_timeout: TEN, ..Limits::default() });
    for _ in 0..100 {
        bench.pass(SECOND);
        bench.hear(b"x");
    }
    let callbacks = bench.reactor.statistics().callbacks;
    // 100 for the data, one a turn for the first readiness, and a look each ten seconds.
    assert!(callbacks < 100 + 20, "{callbacks} callbacks");
    bench.is_closed_in(10 * SECOND, "IdleTimeout");
}

/// No limit is up early: each counts from the moment, and not from the `now` of a turn in which
/// callbacks took longer than the limit is.
#[test]
fn limits_count_from_the_moment_however_long_the_callbacks_before_it_took() {
    let one = Some(SECOND);
    for late in [MS, SECOND, 2 * SECOND, 100 * SECOND] {
        let mut bench = Bench::new(Limits { idle_timeout: one, ..Limits::default() });
        bench.hear_late(b"x", late);
        bench.is_closed_in(SECOND, "IdleTimeout");
        let mut bench = Bench::new(Limits { read_timeout: one, ..Limits::default() });
        bench.hear_late(b"x", late);
        bench.is_closed_in(SECOND, "ReadTimeout");
        let mut bench = Bench::with(
            Limits { idle_timeout: one, ..Limits::default() },
            |reactor, told, id, event| {
                if let Event::Data(bytes) = event {
                    let _ = reactor[id].write(bytes);
                }
                note(reactor, told, id, event);
            },
        );
        bench.hear_late(b"x", late);
        bench.is_closed_in(SECOND, "IdleTimeout");
    }
}

/// As above, where it is the connection's own handler that takes long, and then acts.
#[test]
fn limits_count_from_the_moment_however_long_the_handler_itself_took() {
    type Act = fn(&mut Conn);
    let writes: Act = |conn| {
        let _ = conn.write(&[7; 32 << 20]);
    };
    let sends: Act = |conn| {
        let _ = conn.write(b"y");
    };
    let most = Limits { outbox_bytes_max: 64 << 20, ..Limits::default() };
    let one = Some(SECOND);
    let cases = [
        (Limits { write_timeout: one, ..most.clone() }, writes, "WriteTimeout"),
        (Limits { write_timeout: one, idle_timeout: TEN, ..most.clone() }, writes, "WriteTimeout"),
        (Limits { idle_timeout: one, ..most.clone() }, sends, "IdleTimeout"),
        (Limits { close_grace: SECOND, ..most }, Conn::close, "Finished"),
    ];
    for (limits, act, why) in cases {
        let clock = Rc::new(OnceCell::<ManualClock>::new());
        let own = clock.clone();
        let mut bench = Bench::with(limits, move |reactor, told, id, event| {
            if matches!(event, Event::Data(_)) {
                own.get().unwrap().advance(5 * SECOND);
                act(&mut reactor[id]);
            }
            note(reactor, told, id, event);
        });
        clock.set(bench.clock.clone()).unwrap();
        bench.hear(b"x");
        turns(&mut bench.reactor, &mut bench.told, 5);
        bench.pass(SECOND - MS);
        assert!(bench.is_open(), "too early: {:?}", bench.told.closed);
        bench.pass(MS);
        let closed = bench.told.closed.as_ref().map(|closed| format!("{closed:?}"));
        assert_eq!(closed.as_deref(), Some(why));
    }
}

#[test]
fn limit_of_a_millisecond_is_no_shorter_when_a_tick_is_nearly_over() {
    let limits = Limits { idle_timeout: Some(MS), ..Limits::default() };
    for after_tick in [1, 100, 900, 999].map(Duration::from_micros) {
        let mut bench = Bench::new(Limits { idle_timeout: TEN, ..Limits::default() });
        bench.clock.advance(after_tick);
        bench.reactor[bench.conn].set_limits(limits.clone());
        bench.hear(b"x");
        bench.pass(MS - Duration::from_micros(1));
        assert!(bench.is_open(), "{after_tick:?} after the tick: early");
        bench.pass(MS);
        assert!(matches!(bench.told.closed, Some(Reason::IdleTimeout)), "late by a tick at most");
    }
}

/// The time that a callback takes earns nothing twice.
#[test]
fn burst_after_a_long_callback_is_one_burst() {
    let rate = Rate::new(1000, 1000);
    let mut bench = Bench::new(Limits { read_rate: Some(rate), ..Limits::default() });
    bench.hear_late(&[7; 3000], 2 * SECOND);
    assert_eq!(bench.told.bytes.len(), 1000);
    turns(&mut bench.reactor, &mut bench.told, 5);
    assert_eq!(bench.told.bytes.len(), 1000);
}
