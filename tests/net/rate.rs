//! Rate limits, to the byte and the millisecond, on a clock that the loop moves.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::{Duration, Instant};

use support::tcp::{Flow, pair, turns};
use support::{MS, ceiling};
use waterwheel::mio::{Interest, Registry, Token, event::Source};
use waterwheel::net::{Conn, Event, Limits, Pressure, Rate, Reason, Stream, Transport};
use waterwheel::patterns::Limiter;
use waterwheel::reactor::{Missed, Readiness};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// A peer that has `sends` bytes ready, then FIN if `finished`, and takes all it is given.
#[derive(Debug, Default)]
struct Line {
    sends: Cell<u64>,
    finished: Cell<bool>,
    read: Cell<u64>,
    written: Cell<u64>,
    calls: Cell<u64>,
    /// Bytes written when our FIN came.
    fins: RefCell<Vec<u64>>,
}

#[derive(Debug)]
struct Tap(Rc<Line>);

impl Transport for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = &*self.0;
        line.calls.set(line.calls.get() + 1);
        let count = (line.sends.get() - line.read.get()).min(buffer.len() as u64);
        line.read.set(line.read.get() + count);
        match count {
            0 if !line.finished.get() => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count as usize),
        }
    }
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let line = &*self.0;
        line.calls.set(line.calls.get() + 1);
        let count: usize = pieces.iter().map(|piece| piece.len()).sum();
        line.written.set(line.written.get() + count as u64);
        Ok(count)
    }
    fn finish(&mut self) -> io::Result<()> {
        self.0.fins.borrow_mut().push(self.0.written.get());
        Ok(())
    }
}

impl Source for Tap {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

/// A loop on the manual clock, and how the connections of a test have ended.
struct World {
    reactor: Reactor<Told>,
    told: Told,
    clock: ManualClock,
    begun: Instant,
}

#[derive(Default)]
struct Told {
    eof: usize,
    closed: Vec<Reason>,
}

impl World {
    fn new() -> World {
        let clock = ManualClock::new();
        let reactor = Reactor::builder().clock(&clock).build().unwrap();
        let begun = clock.now();
        World { reactor, told: Told::default(), clock, begun }
    }

    /// Opens a connection whose peer sends without end.
    fn open(&mut self, limits: Limits) -> (SourceId<Conn>, Rc<Line>) {
        self.open_with(limits, u64::MAX)
    }

    fn open_with(&mut self, limits: Limits, sends: u64) -> (SourceId<Conn>, Rc<Line>) {
        let line = Rc::new(Line { sends: Cell::new(sends), ..Line::default() });
        let stream = Stream::over(Tap(line.clone())).limits(limits);
        let conn = stream.open(&mut self.reactor, |_, told: &mut Told, _, event| match event {
            Event::Eof => told.eof += 1,
            Event::Closed(why) => told.closed.push(why),
            _ => {}
        });
        self.reactor.resume(conn, Readiness::READABLE);
        (conn, line)
    }

    fn ms(&self) -> u64 {
        self.clock.now().duration_since(self.begun).as_millis() as u64
    }

    /// Turns, and lets time pass, until that many milliseconds from the beginning. Calls `each`
    /// whenever nothing is left to do. Answers how many turns it took.
    fn run_to(&mut self, ms: u64, mut each: impl FnMut(&mut Context<Told>, u64)) -> u64 {
        let begun = self.reactor.statistics().turns;
        let mut in_place = 0;
        loop {
            self.reactor.turn(&mut self.told, Some(Duration::ZERO)).unwrap();
            let (now, turns) = (self.ms(), self.reactor.statistics().turns - begun);
            let left = Duration::from_millis(ms - now);
            let wait = self.reactor.next_wait().unwrap_or(left).min(left);
            in_place = if wait.is_zero() { in_place + 1 } else { 0 };
            assert!(in_place < 1000, "the loop spins at {now} ms");
            if !self.reactor.next_wait().is_some_and(|wait| wait.is_zero()) {
                each(&mut self.reactor, now);
                if left.is_zero() {
                    return turns;
                }
                self.clock.advance(wait);
            }
        }
    }
}

fn read_rate(rate: &Rate) -> Limits {
    Limits { read_rate: Some(rate.clone()), ..Limits::default() }
}

fn write_rate(rate: &Rate) -> Limits {
    let outbox_bytes_max = 64 << 20;
    Limits { write_rate: Some(rate.clone()), outbox_bytes_max, ..Limits::default() }
}

/// Keeps a connection's outbox from running empty.
fn fill(reactor: &mut Context<Told>, conn: SourceId<Conn>) {
    if let Some(conn) = reactor.get_mut(conn)
        && conn.unsent() < 100_000
    {
        assert!(conn.write(&[0; 100_000]).is_taken());
    }
}

#[test]
fn ten_thousand_seconds_of_reading_and_writing_are_exact_to_one_burst() {
    // It takes a quarter of a minute of a processor, and a busy machine gives it a part of one.
    let _ceiling = ceiling(Duration::from_secs(600));
    for (rate, burst, seconds) in [
        (1237, 2000, 10_000),
        (7, 64_000, 1000),
        (1_000_003, 70_000, 100),
        (1237, 100, 1000),
        (999, 1, 200),
    ] {
        let mut world = World::new();
        let (_, reading) = world.open(read_rate(&Rate::new(rate, burst)));
        let (writer, writing) = world.open_with(write_rate(&Rate::new(rate, burst)), 0);
        let most = Rate::new(rate, burst).burst_bytes();
        assert_eq!(most, burst.max(rate.div_ceil(50)).max(2));
        let turns = world.run_to(seconds * 1000, |reactor, ms| {
            fill(reactor, writer);
            for passed in [reading.read.get(), writing.written.get()] {
                let income = rate * ms / 1000;
                assert!(passed <= most + income, "{passed} in {ms} ms at {rate}, {burst}");
                assert!(passed + most >= income, "{passed} in {ms} ms at {rate}, {burst}");
            }
        });
        // Two connections, each 20 times a second, or as often as half a burst has come.
        let often = 20.max(2 * rate / most) + 5;
        assert!(turns < seconds * 2 * often, "{turns} turns at {rate}, {burst}");
    }
}

#[test]
fn the_first_burst_comes_at_once_and_after_an_hour_no_more_than_that() {
    let mut world = World::new();
    let (conn, line) = world.open_with(read_rate(&Rate::new(1000, 5000)), 20_000);
    world.run_to(0, |_, _| {});
    assert_eq!(line.read.get(), 5000);
    world.run_to(100_000, |_, _| {});
    assert_eq!(line.read.get(), 20_000);
    line.sends.set(u64::MAX);
    world.reactor.resume(conn, Readiness::READABLE);
    world.run_to(100_000, |_, _| {});
    assert_eq!(line.read.get(), 25_000);
    world.run_to(100_001, |_, _| {});
    assert_eq!(line.read.get(), 25_000, "in portions, not in single bytes");
    world.run_to(101_000, |_, _| {});
    assert_eq!(line.read.get(), 26_000);
}

#[test]
fn those_who_share_a_rate_get_their_shares_and_all_of_them_no_more_than_it() {
    for (rate, burst, count) in
        [(100_000, 10_000, 5), (1_000_000, 64_000, 100), (3000, 1, 40), (900_000_000, 9_000_000, 7)]
    {
        let (mut world, rate) = (World::new(), Rate::new(rate, burst));
        let lines: Vec<_> = (0..count).map(|_| world.open(read_rate(&rate)).1).collect();
        let seconds = if rate.bytes_per_second() > 1 << 24 { 2 } else { 100 };
        let sum = || lines.iter().map(|line| line.read.get()).sum::<u64>();
        let turns = world.run_to(seconds * 1000, |_, ms| {
            let income = rate.bytes_per_second() * ms / 1000;
            assert!(sum() <= rate.burst_bytes() + income && sum() + rate.burst_bytes() >= income);
        });
        let share = rate.bytes_per_second() * seconds / count;
        for line in &lines {
            let got = line.read.get();
            let off = got.abs_diff(share) * 100 / share;
            assert!(off <= 10 || got.abs_diff(share) <= burst, "{got} of {share}: {rate:?}");
        }
        println!("{count} at {}: {} turns/s", rate.bytes_per_second(), turns / seconds);
        assert!(turns < seconds * 15_000, "{turns}");
    }
}

#[test]
fn many_who_write_little_and_often_get_no_more_than_the_rate_either() {
    for (rate, burst, count, bytes) in [(10_000, 200, 50, 1), (5000, 1, 40, 3), (1000, 50, 7, 100)]
    {
        let (mut world, rate) = (World::new(), Rate::new(rate, burst));
        let limits = write_rate(&rate);
        let (conns, lines): (Vec<_>, Vec<_>) =
            (0..count).map(|_| world.open_with(limits.clone(), 0)).unzip();
        let more = move |reactor: &mut Context<Told>, _: &mut Told, _| {
            for conn in &conns {
                if reactor[*conn].unsent() < 10 * bytes {
                    let _ = reactor[*conn].write(&vec![0; bytes]);
                }
            }
        };
        world.reactor.every(MS, Missed::Skip, more);
        let sum = || lines.iter().map(|line| line.written.get()).sum::<u64>();
        world.run_to(10_000, |_, ms| {
            let income = rate.bytes_per_second() * ms / 1000;
            assert!(sum() <= rate.burst_bytes() + income, "{} of {income}", sum());
        });
        let share = rate.bytes_per_second() * 10 / count;
        for line in &lines {
            let sent = line.written.get();
            assert!(sent.abs_diff(share) <= share / 4, "{sent} of {share}: {rate:?}");
        }
    }
}

#[test]
fn one_that_comes_later_gets_its_share_and_one_that_goes_leaves_its_own() {
    let (mut world, rate) = (World::new(), Rate::new(100_000, 10_000));
    let (first, one) = world.open(read_rate(&rate));
    world.run_to(10_000, |_, _| {});
    let (_, two) = world.open(read_rate(&rate));
    world.run_to(20_000, |_, _| {});
    assert!(two.read.get().abs_diff(500_000) < 50_000, "{}", two.read.get());
    assert!((one.read.get() + two.read.get()).abs_diff(2_000_000) <= 10_000);
    world.reactor.remove(first);
    let before = two.read.get();
    world.run_to(30_000, |_, _| {});
    assert!((two.read.get() - before).abs_diff(1_000_000) <= 20_000);
}

#[test]
fn promises_to_the_dead_do_not_starve_the_living() {
    let (mut world, rate) = (World::new(), Rate::new(100_000, 10_000));
    let (_, line) = world.open(read_rate(&rate));
    let (mut last, mut dead) = (None, Vec::new());
    world.run_to(20_000, |reactor, _| {
        // Somebody comes each time, is told to wait, and goes.
        if let Some(conn) = last.take() {
            reactor.remove(SourceId::<Conn>::raw(conn));
        }
        let tap = Rc::new(Line { sends: Cell::new(u64::MAX), ..Line::default() });
        dead.push(tap.clone());
        let conn = Stream::over(Tap(tap)).limits(read_rate(&rate)).open(reactor, |_, _, _, _| {});
        reactor.resume(conn, Readiness::READABLE);
        last = Some(conn);
    });
    let wasted = dead.iter().map(|line| line.read.get()).sum::<u64>();
    assert!(line.read.get() > 500_000, "{} and {wasted}", line.read.get());
    assert!(line.read.get() + wasted > 1_900_000, "{} and {wasted}", line.read.get());
}

#[test]
fn changed_rate_is_felt_within_a_second_by_those_who_wait() {
    for old in [0, 1, 1000] {
        let (mut world, rate) = (World::new(), Rate::new(old, 10));
        let lines = [(); 20].map(|()| world.open(read_rate(&rate)).1);
        world.run_to(10_000, |_, _| {});
        let sum = || lines.iter().map(|line| line.read.get()).sum::<u64>();
        let before = sum();
        assert!(before <= old * 10 + rate.burst_bytes());
        rate.set(&world.reactor, 1_000_000, 100_000);
        world.run_to(12_000, |_, _| {});
        assert!(sum() - before >= 1_000_000, "{old}: {}", sum() - before);
        assert!(sum() - before <= 2_000_000 + 100_000, "{old}: {}", sum() - before);
        rate.set(&world.reactor, 100, 1);
        let before = sum();
        world.run_to(20_000, |_, _| {});
        assert!(sum() - before <= 800 + 2, "{old}: {}", sum() - before);
        assert!(lines.iter().all(|line| line.read.get() > 0));
    }
}

#[test]
fn rate_of_nothing_lets_the_burst_pass_and_looks_once_a_second() {
    let mut world = World::new();
    let (_, line) = world.open(read_rate(&Rate::new(0, 500)));
    let turns = world.run_to(100_000, |_, _| {});
    assert_eq!(line.read.get(), 500);
    assert!(turns < 2 * 100 + 10, "{turns}");
}

#[test]
fn limits_that_are_taken_away_let_go_at_once() {
    let mut world = World::new();
    let (reader, reading) = world.open_with(read_rate(&Rate::new(1, 10)), 100_000);
    let (writer, writing) = world.open_with(write_rate(&Rate::new(1, 10)), 0);
    fill(&mut world.reactor, writer);
    world.run_to(1000, |_, _| {});
    assert!(reading.read.get() < 20 && writing.written.get() < 20);
    for conn in [reader, writer] {
        world.reactor[conn].set_limits(Limits::default());
    }
    world.run_to(1000, |_, _| {});
    assert_eq!((reading.read.get(), writing.written.get()), (100_000, 100_000));
}

#[test]
fn paused_reader_waits_without_turning_and_gains_nothing_by_it() {
    let mut world = World::new();
    let (conn, line) = world.open(read_rate(&Rate::new(1000, 100)));
    world.run_to(1010, |_, _| {});
    let before = line.read.get();
    world.reactor[conn].pause();
    let turns = world.run_to(11_000, |_, _| {});
    assert!(turns < 10, "{turns}");
    assert_eq!(line.read.get(), before);
    world.reactor[conn].resume();
    world.run_to(12_000, |_, _| {});
    assert!((line.read.get() - before).abs_diff(1000) <= 100, "{}", line.read.get() - before);
    // Again and again, it is still not more than the rate.
    let before = line.read.get();
    world.run_to(22_000, |reactor, _| {
        reactor[conn].pause();
        reactor[conn].resume();
    });
    assert!((line.read.get() - before).abs_diff(10_000) <= 100, "{}", line.read.get() - before);
}

#[test]
fn end_of_input_comes_behind_the_last_byte() {
    let mut world = World::new();
    let (_, line) = world.open_with(read_rate(&Rate::new(100, 10)), 1000);
    line.finished.set(true);
    let turns = world.run_to(9_000, |_, _| {});
    assert_eq!((world.told.eof, world.told.closed.len()), (0, 0));
    assert!(turns < 9 * 60, "{turns}");
    world.run_to(11_000, |_, _| {});
    assert_eq!((line.read.get(), world.told.eof), (1000, 1));
    assert!(matches!(world.told.closed[..], [Reason::Finished]));
}

#[test]
fn fin_goes_behind_the_last_byte_and_close_keeps_its_grace() {
    for (bytes, fins, why) in [(3000, vec![3000], "Finished"), (50_000, vec![], "Grace")] {
        let mut world = World::new();
        let (conn, line) = world.open_with(write_rate(&Rate::new(1000, 100)), 0);
        let _ = world.reactor[conn].write(&vec![0; bytes]);
        world.reactor[conn].close();
        let turns = world.run_to(4_999, |_, _| {});
        assert!(world.told.closed.is_empty() && turns < 5 * 60, "{turns}");
        assert_eq!(*line.fins.borrow(), fins);
        world.run_to(5_001, |_, _| {});
        assert_eq!(format!("{:?}", world.told.closed), format!("[{why}]"));
        assert!(line.written.get() <= 5101);
    }
}

#[test]
fn half_closed_connection_goes_on_at_its_rate() {
    let mut world = World::new();
    let rate = Rate::new(1000, 100);
    let limits =
        Limits { half_open: true, read_rate: Some(Rate::new(1000, 100)), ..write_rate(&rate) };
    let (conn, line) = world.open_with(limits, 500);
    line.finished.set(true);
    let _ = world.reactor[conn].write(&[0; 5000]);
    world.run_to(2000, |_, _| {});
    assert_eq!((world.told.eof, line.read.get(), line.fins.borrow().len()), (1, 500, 0));
    world.reactor[conn].shutdown();
    world.run_to(6000, |_, _| {});
    assert_eq!((line.written.get(), world.told.closed.len()), (5000, 1));
}

#[test]
fn closing_reads_its_way_to_the_peers_end_however_slow_the_rate() {
    let mut world = World::new();
    let (conn, line) = world.open_with(read_rate(&Rate::new(1, 2)), 1_000_000);
    world.run_to(100, |_, _| {});
    line.finished.set(true);
    world.reactor[conn].close();
    world.run_to(101, |_, _| {});
    assert!(matches!(world.told.closed[..], [Reason::Finished]), "{:?}", world.told.closed);
    assert_eq!(line.read.get(), 1_000_000);
}

#[test]
fn timeouts_do_not_run_while_the_rate_holds_a_connection_up() {
    let mut world = World::new();
    let timeout = Some(300 * MS);
    let timed = |limits| Limits { idle_timeout: timeout, read_timeout: timeout, ..limits };
    world.open(timed(read_rate(&Rate::new(1, 2))));
    let limits = Limits { write_timeout: timeout, ..write_rate(&Rate::new(1, 2)) };
    let (writer, writing) = world.open_with(limits, 0);
    world.run_to(20_000, |reactor, _| fill(reactor, writer));
    assert_eq!(format!("{:?}", world.told.closed), "[]");
    assert!((20..=23).contains(&writing.written.get()), "{}", writing.written.get());
}

#[test]
fn waiting_for_the_rate_costs_no_system_calls_in_between() {
    let mut world = World::new();
    let (conn, line) = world.open(read_rate(&Rate::new(1000, 100)));
    world.run_to(0, |_, _| {});
    let before = line.calls.get();
    for _ in 0..10 {
        world.reactor.resume(conn, Readiness::READABLE);
        world.run_to(0, |_, _| {});
    }
    assert_eq!(line.calls.get(), before);
    world.run_to(1000, |_, _| {});
    assert!(line.calls.get() - before <= 21, "{}", line.calls.get() - before);
}

#[test]
fn echo_over_a_socket_loses_no_byte_at_a_rate_in_both_directions() {
    const SENT: usize = 3_000_000;
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let begun = clock.now();
    let limits = Limits {
        read_rate: Some(Rate::new(2_000_000, 50_000)),
        write_rate: Some(Rate::new(1_000_000, 50_000)),
        ..Limits::default()
    };
    let (conn, mut peer) =
        pair(&mut reactor, &mut (), limits, |reactor, (), conn, event| match event {
            Event::Data(bytes) => match reactor[conn].write(bytes) {
                Pressure::Below => {}
                Pressure::AboveHigh => reactor[conn].pause(),
                Pressure::Refused | Pressure::Closed => panic!("refused"),
            },
            Event::Drained => reactor[conn].resume(),
            _ => {}
        });
    let (mut sent, mut received) = (Flow::default(), Flow::default());
    let mut finished = false;
    while peer.end.is_none() {
        if sent.at < SENT {
            sent.at += peer.write(sent.peek((SENT - sent.at).min(100_000)));
        } else if !std::mem::replace(&mut finished, true) {
            peer.finish();
        }
        turns(&mut reactor, &mut (), 3);
        received.check(peer.read(100_000));
        peer.got.clear();
        assert!(reactor.get(conn).is_none_or(|conn| conn.unsent() <= 256 * 1024 + 64 * 1024));
        clock.advance(MS);
    }
    assert_eq!((received.at, peer.end), (SENT, Some(Ok(()))));
    let took = clock.now() - begun;
    assert!(took >= 2950 * MS && took < 3300 * MS, "{took:?}");
}

#[test]
#[cfg(target_pointer_width = "64")]
fn connection_without_a_rate_has_no_room_for_one() {
    // In a debug build mio notes the selector of each socket.
    let noted = if cfg!(debug_assertions) { 8 } else { 0 };
    assert_eq!(size_of::<Conn>(), 72 + noted);
}

#[test]
fn what_a_close_discards_is_not_at_the_expense_of_others() {
    let (mut world, rate) = (World::new(), Rate::new(1000, 1000));
    let (closing, _) = world.open(read_rate(&rate));
    let (_, line) = world.open(read_rate(&rate));
    world.run_to(1000, |_, _| {});
    let before = line.read.get();
    world.reactor[closing].close();
    for ms in 1001..1500 {
        world.reactor.resume(closing, Readiness::READABLE);
        world.clock.advance(MS);
        for _ in 0..3 {
            world.reactor.turn(&mut world.told, Some(Duration::ZERO)).unwrap();
        }
        assert!(world.reactor.contains(closing), "at {ms}");
    }
    assert!(line.read.get() - before >= 400, "{}", line.read.get() - before);
}

const SECOND: Duration = Duration::from_secs(1);

/// A loop whose time is moved by hand.
fn limited() -> (ManualClock, Reactor<Vec<u64>>) {
    let clock = ManualClock::held();
    let reactor = Reactor::builder().clock(&clock).build().unwrap();
    (clock, reactor)
}

#[test]
fn operations_are_limited_to_the_millisecond_and_never_drift() {
    let (clock, reactor) = limited();
    for (operations, period, burst) in
        [(3, SECOND, 3), (7, SECOND, 1), (5, 60 * SECOND, 2), (7500, SECOND, 8)]
    {
        let limiter = Limiter::new(operations, period, burst);
        let begun = reactor.tick().count();
        let mut taken = 0;
        for _ in 0..20_000 {
            while limiter.take(&reactor, 1) {
                taken += 1;
            }
            let passed = u128::from(reactor.tick().count() - begun) * u128::from(operations);
            assert_eq!(taken, u128::from(burst) + passed / period.as_millis());
            clock.advance(MS);
        }
    }
}

#[test]
fn a_pause_saves_a_burst_and_no_more() {
    let (clock, reactor) = limited();
    let limiter = Limiter::new(10, SECOND, 4);
    let burst = || (0..100).filter(|_| limiter.take(&reactor, 1)).count();
    assert_eq!((burst(), burst()), (4, 0));
    clock.advance(250 * MS);
    assert_eq!((limiter.available(&reactor), burst()), (2, 2));
    clock.advance(10_000 * SECOND);
    assert_eq!((limiter.available(&reactor), burst()), (4, 4));
    clock.advance(99 * MS);
    assert_eq!(burst(), 0, "nothing was kept above the burst");
    clock.advance(MS);
    assert_eq!(burst(), 1);
}

#[test]
fn who_may_not_now_learns_when_and_then_may() {
    let (clock, mut reactor) = limited();
    let limiter = Limiter::new(3, SECOND, 3);
    assert_eq!(limiter.wait(&reactor, 3), Duration::ZERO);
    assert!(limiter.take(&reactor, 3));
    assert_eq!(limiter.wait(&reactor, 1), 334 * MS);
    assert_eq!(limiter.wait(&reactor, 3), SECOND);
    clock.advance(MS / 4);
    let wait = limiter.wait(&reactor, 1);
    assert_eq!(wait, 334 * MS - MS / 4, "to the beginning of the tick");
    let own = limiter.clone();
    reactor.after(wait, move |reactor, log: &mut Vec<u64>| {
        assert!(own.take(reactor, 1), "as it was said");
        log.push(reactor.tick().count());
    });
    clock.advance(wait);
    let mut log = Vec::new();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, [334]);
}

#[test]
fn what_is_reserved_is_done_in_order_and_nobody_is_overtaken() {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let limiter = Limiter::new(10, SECOND, 2);
    for _ in 0..5 {
        let wait = limiter.reserve(&reactor, 1);
        reactor.after(wait, |reactor, log: &mut Vec<u64>| log.push(reactor.tick().count()));
    }
    assert!(!limiter.take(&reactor, 1), "not before those who wait");
    assert_eq!(limiter.wait(&reactor, 1), 400 * MS);
    // More than the burst, which `take` never gives.
    assert_eq!(limiter.reserve(&reactor, 7), SECOND);
    let mut log = Vec::new();
    reactor.run(&mut log).unwrap();
    assert_eq!(log, [0, 0, 100, 200, 300]);
}

#[test]
fn what_never_may_be_says_so_and_takes_nothing() {
    let (clock, reactor) = limited();
    let limiter = Limiter::new(10, SECOND, 4);
    assert!(!limiter.take(&reactor, 5) && limiter.take(&reactor, 0));
    assert_eq!(limiter.wait(&reactor, 5), Duration::MAX);
    assert_eq!(limiter.available(&reactor), 4);
    let fast = Limiter::new(10_000, SECOND, 1);
    assert_eq!(fast.available(&reactor), 10, "a burst is a millisecond's worth at least");
    let nothing = Limiter::new(0, SECOND, 0);
    assert!(nothing.take(&reactor, 1), "and one");
    clock.advance(1_000_000 * SECOND);
    assert!(!nothing.take(&reactor, 1));
    assert_eq!(
        (nothing.wait(&reactor, 1), nothing.reserve(&reactor, 1)),
        (Duration::MAX, Duration::MAX)
    );
}

#[test]
fn the_largest_limits_and_the_longest_times_do_not_overflow() {
    let (clock, reactor) = limited();
    for period in [Duration::ZERO, MS / 2, SECOND, Duration::MAX] {
        let limiter = Limiter::new(u32::MAX, period, u32::MAX);
        assert!(limiter.take(&reactor, u32::MAX));
        for _ in 0..1000 {
            limiter.reserve(&reactor, u32::MAX);
        }
        clock.advance(1_000_000_000 * SECOND);
        assert_eq!(limiter.take(&reactor, 1), period < Duration::MAX);
        limiter.set(&reactor, u32::MAX, Duration::MAX, u32::MAX);
        limiter.set(&reactor, 1, MS, 1);
        limiter.take(&reactor, 1);
    }
}

#[test]
fn a_limit_that_is_changed_keeps_what_was_there() {
    let (clock, reactor) = limited();
    let limiter = Limiter::new(10, SECOND, 10);
    assert!(limiter.take(&reactor, 4));
    limiter.set(&reactor, 1, 10 * SECOND, 20);
    assert_eq!(limiter.available(&reactor), 6);
    limiter.set(&reactor, 1, SECOND, 3);
    assert_eq!(limiter.available(&reactor), 3, "as far as the new burst goes");
    assert!(limiter.take(&reactor, 3));
    clock.advance(500 * MS); // Half an operation, whatever its price.
    limiter.set(&reactor, 1, 10 * SECOND, 3);
    assert_eq!(limiter.wait(&reactor, 1), 5 * SECOND);
    limiter.reserve(&reactor, 1);
    limiter.set(&reactor, 1, SECOND, 3);
    assert_eq!(limiter.wait(&reactor, 1), 1500 * MS, "and what was promised");
}
