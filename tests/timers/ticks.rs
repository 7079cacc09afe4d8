//! Never early: whatever has a deadline takes its full time, counted from the event and not from
//! the tick in which that happened; and it is late by less than a tick, and by turns.

use std::time::Duration;

use waterwheel::net::{self, Conn, Event, Limits, Rate, Stream, memory, sim};
use waterwheel::patterns::tasks::{Run, Schedule, Task, TaskQueue};
use waterwheel::patterns::{Backoff, Broken, Limiter, Promise};
use waterwheel::reactor::{Missed, Place};
use waterwheel::timers::{ManualClock, TICK, Tick};
use waterwheel::{Context, Reactor, SourceId};

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);
/// Time that passed before.
const UPTIME: Duration = Duration::from_secs(1000);
/// How much of a tick is over when the event happens.
const OFFSETS_US: [u64; 6] = [0, 1, 100, 500, 900, 999];
/// Delays, in microseconds: of whole ticks, and any.
const WHOLE: &[u64] = &[1000, 20_000];
const ANY: &[u64] = &[100, 999, 1000, 1001, 1500, 20_300];

/// What was seen to happen.
#[derive(Default)]
struct World {
    up: u32,
    bytes: usize,
    runs: Vec<Run>,
}

/// A loop on a clock that only the test moves.
struct Lab {
    reactor: Reactor<World>,
    clock: ManualClock,
    world: World,
}

impl Lab {
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 4 {
            let ran = self.reactor.turn(&mut self.world, Some(Duration::ZERO)).unwrap();
            quiet = if ran == 0 { quiet + 1 } else { 0 };
        }
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.settle();
    }

    /// A connection, and its peer, which never finishes by itself.
    fn pair(&mut self, limits: Limits, buffer_bytes: usize) -> [SourceId<Conn>; 2] {
        let (own, peer) = memory::pair_with(&mut self.reactor, buffer_bytes);
        let own =
            own.limits(limits).open(
                &mut self.reactor,
                |_, world: &mut World, _, event| match event {
                    Event::Data(bytes) => world.bytes += bytes.len(),
                    Event::Closed(_) => world.up += 1,
                    _ => {}
                },
            );
        [own, silent(&mut self.reactor, peer)]
    }
}

/// Opens the other end of what is tested. It takes note of bytes in `up`.
fn silent(reactor: &mut Context<World>, stream: Stream) -> SourceId<Conn> {
    let limits = Limits { half_open: true, ..Limits::default() };
    stream.limits(limits).open(reactor, |_, _, _, _| {})
}

fn up(_: &mut Context<World>, world: &mut World) {
    world.up += 1;
}

/// `begin` lets something begin that is up after a delay, which `World::up` counts.
fn takes_its_full_time(
    what: &str,
    delays_us: &[u64],
    begin: impl Fn(&mut Lab, Duration) + 'static,
) {
    for offset in OFFSETS_US.map(Duration::from_micros) {
        for delay in delays_us.iter().copied().map(Duration::from_micros) {
            let clock = ManualClock::held();
            let reactor = Reactor::builder().clock(&clock).build().unwrap();
            let mut lab = Lab { reactor, clock, world: World::default() };
            lab.pass(UPTIME + offset);
            begin(&mut lab, delay);
            lab.settle();
            lab.world.up = 0;
            // In steps, so that whoever looks on the way has every chance to be early.
            let end = offset + delay;
            let mut at = offset;
            for step in [end - US, end - end / 3, end - end / 9, end - 2 * US, end - US] {
                if step > at {
                    lab.pass(step - at);
                    at = step;
                }
            }
            assert_eq!(lab.world.up, 0, "{what}: {delay:?} from {offset:?} is early");
            let tick = TICK * end.as_micros().div_ceil(1000) as u32;
            lab.pass(tick - at);
            assert_eq!(lab.world.up, 1, "{what}: {delay:?} from {offset:?} is late by a tick");
        }
    }
}

#[test]
fn timers_take_their_full_time() {
    takes_its_full_time("after", ANY, |lab, delay| {
        lab.reactor.after(delay, up);
    });
    takes_its_full_time("at", ANY, |lab, delay| {
        let deadline = lab.reactor.now() + delay;
        lab.reactor.at(deadline, up);
    });
    takes_its_full_time("rearm", ANY, |lab, delay| {
        let id = lab.reactor.after(delay + 5 * MS, up);
        assert!(lab.reactor.rearm(id, delay));
    });
    takes_its_full_time("a period", WHOLE, |lab, period| {
        lab.reactor.every(period, Missed::Skip, |reactor, world, occurrence| {
            reactor.cancel(occurrence.timer);
            up(reactor, world);
        });
    });
    takes_its_full_time("a fixed delay", WHOLE, |lab, period| {
        lab.reactor.every_now(period, Missed::Delay, |reactor, world, _| up(reactor, world));
    });
    takes_its_full_time("a source's deadline", ANY, |lab, delay| {
        let id = lab.reactor.own((), |reactor, world, _, _| up(reactor, world));
        let tick = lab.reactor.tick_after(delay);
        lab.reactor.set_deadline(id, Some(tick));
    });
}

#[test]
fn a_fixed_delay_counts_from_a_run_that_was_late() {
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    reactor.every(5 * MS, Missed::Delay, |_, runs: &mut u32, _| *runs += 1);
    let mut runs = 0;
    for (passes, count) in [(5900, 1), (4999, 1), (101, 2), (4900, 2), (100, 3)] {
        clock.advance(passes * US);
        reactor.turn(&mut runs, Some(Duration::ZERO)).unwrap();
        assert_eq!(runs, count, "at {:?}", reactor.tick());
    }
}

#[test]
fn promises_take_their_full_time() {
    type Result<T> = Promise<World, T, Broken>;
    takes_its_full_time("a promise's timeout", ANY, |lab, delay| {
        let (promise, resolver) = lab.reactor.promise::<(), Broken>();
        let promise: Result<()> = promise.timeout(&mut lab.reactor, delay);
        promise.catch(&mut lab.reactor, move |_, world, why| {
            let _ = &resolver; // Kept, and silent.
            world.up += 1;
            Err(why)
        });
    });
    takes_its_full_time("a retry", ANY, |lab, delay| {
        let backoff = Backoff::new(2).first(delay).jitter_percent(0);
        let tried: Result<()> = Promise::retry(&mut lab.reactor, backoff, |_, world, attempt| {
            world.up += 1;
            if attempt == 1 { Err(Broken::TimedOut(Place::caller())) } else { Ok(()) }
        });
        drop(tried);
    });
}

#[test]
fn tasks_take_their_full_time() {
    fn add(lab: &mut Lab, task: Task) -> SourceId<TaskQueue<World>> {
        let queue = TaskQueue::new().open(&mut lab.reactor).unwrap();
        queue
            .add(&mut lab.reactor, task, |_, world: &mut World, run| {
                world.up += 1;
                if run.attempt() == 1 { run.fail("on purpose") } else { run.ok() }
            })
            .unwrap();
        queue
    }
    takes_its_full_time("a task", ANY, |lab, delay| {
        add(lab, Task::new("once", Schedule::after(delay)));
    });
    takes_its_full_time("a task's interval", WHOLE, |lab, period| {
        add(lab, Task::new("often", Schedule::every(period)));
    });
    takes_its_full_time("a task's first time", ANY, |lab, delay| {
        let schedule = Schedule::every(1000 * MS).first_after(delay);
        let queue = add(lab, Task::new("often", Schedule::on_demand()));
        let task = lab.reactor[queue].tasks().next().unwrap().id;
        assert!(queue.set_schedule(&mut lab.reactor, task, schedule));
    });
    takes_its_full_time("a task's retry", ANY, |lab, pause| {
        let retry = Backoff::new(2).first(pause).jitter_percent(0);
        add(lab, Task::new("again", Schedule::after(Duration::ZERO)).retry(retry));
    });
    takes_its_full_time("a task's timeout", ANY, |lab, timeout| {
        let queue = TaskQueue::new().open(&mut lab.reactor).unwrap();
        queue.on_end(&mut lab.reactor, |_, world, _| world.up += 1);
        let task = Task::new("hangs", Schedule::after(Duration::ZERO)).timeout(timeout);
        queue
            .add(&mut lab.reactor, task, |_, world: &mut World, run| world.runs.push(run))
            .unwrap();
    });
}

/// A limit on time that counts from a byte which comes in the middle of a tick.
#[test]
fn connections_have_their_full_time() {
    takes_its_full_time("an idle connection", ANY, |lab, delay| {
        let [own, peer] = lab.pair(Limits::default(), 1000);
        let limits = Limits { idle_timeout: Some(delay), ..Limits::default() };
        lab.reactor[own].set_limits(limits);
        let _ = lab.reactor[peer].write(b"x");
    });
    takes_its_full_time("a connection that was written to", ANY, |lab, delay| {
        let limits = Limits { idle_timeout: Some(delay), ..Limits::default() };
        let [own, _] = lab.pair(limits, 1000);
        let _ = lab.reactor[own].write(b"x");
    });
    takes_its_full_time("a slow reader of a handler", ANY, |lab, delay| {
        let limits = Limits { read_timeout: Some(delay), ..Limits::default() };
        let [_, peer] = lab.pair(limits, 1000);
        let _ = lab.reactor[peer].write(b"x");
    });
    takes_its_full_time("a peer that takes nothing", ANY, |lab, delay| {
        let limits = Limits { write_timeout: Some(delay), ..Limits::default() };
        let [own, peer] = lab.pair(limits, 10);
        lab.reactor[peer].pause();
        lab.settle();
        let _ = lab.reactor[own].write(&[0; 100]);
    });
    takes_its_full_time("the grace of a close", ANY, |lab, delay| {
        let limits = Limits { close_grace: delay, ..Limits::default() };
        let [own, _] = lab.pair(limits, 1000);
        lab.settle();
        lab.reactor[own].close();
    });
    takes_its_full_time("a drain", ANY, |lab, delay| {
        let network = sim::Network::new(&mut lab.reactor, 1, sim::Faults::default());
        let addr = "10.0.0.1:80".parse().unwrap();
        let listen = network.listen(&mut lab.reactor, addr, |reactor, _, stream| {
            let conn = stream.open(reactor, |_, _, _, _| {});
            conn.hold(reactor);
        });
        listen.unwrap();
        network
            .connect(&mut lab.reactor, addr, UPTIME, |reactor, _, stream| {
                silent(reactor, stream.unwrap());
            })
            .unwrap();
        (0..20).for_each(|_| lab.pass(MS));
        net::drain(&mut lab.reactor, delay, |_, world, report| world.up += report.aborted as u32);
    });
    takes_its_full_time("connecting", ANY, |lab, delay| {
        let latency = UPTIME;
        let far = sim::Faults { latency_min: latency, latency_max: latency, ..Default::default() };
        let network = sim::Network::new(&mut lab.reactor, 1, far);
        let addr = "10.0.0.1:80".parse().unwrap();
        network
            .connect(&mut lab.reactor, addr, delay, |_, world, result| {
                world.up += u32::from(result.is_err());
            })
            .unwrap();
    });
}

/// The first read of a new connection tells of bytes that its handler leaves there, all of them:
/// the time for it to take some began with the connection, not with the clock.
#[test]
fn a_new_connection_has_its_time_though_nothing_was_taken_yet() {
    takes_its_full_time("bytes that are left", ANY, |lab, delay| {
        let (own, peer) = memory::pair(&mut lab.reactor);
        let peer = silent(&mut lab.reactor, peer);
        let _ = lab.reactor[peer].write(b"half a frame");
        lab.settle();
        let limits = Limits { read_timeout: Some(delay), ..Limits::default() };
        own.limits(limits).open(&mut lab.reactor, |reactor, world: &mut World, conn, event| {
            match event {
                Event::Data(bytes) => reactor[conn].unread(bytes.len()),
                Event::Closed(_) => world.up += 1,
                _ => {}
            }
        });
    });
}

#[test]
fn what_rates_hold_up_takes_its_full_time() {
    takes_its_full_time("an operation", WHOLE, |lab, period| {
        let limiter = Limiter::new(1, period, 1);
        while !limiter.take(&lab.reactor, 1) {
            lab.pass(period);
        }
        assert!(!limiter.take(&lab.reactor, 1));
        let wait = limiter.wait(&lab.reactor, 1);
        lab.reactor.after(wait, move |reactor, world| {
            world.up += u32::from(limiter.take(reactor, 1));
        });
    });
    takes_its_full_time("an operation that is asked for again and again", WHOLE, |lab, period| {
        let limiter = Limiter::new(1, period, 1);
        assert!(limiter.take(&lab.reactor, 1));
        lab.reactor.before_poll(move |reactor, world| {
            world.up += u32::from(limiter.take(reactor, 1));
        });
    });
    // A portion of ten bytes, half a burst: 10 ms' worth.
    takes_its_full_time("a portion", &[10_000], |lab, _| {
        let rate = Rate::new(1000, 20);
        let limits = Limits { read_rate: Some(rate), ..Limits::default() };
        let (own, peer) = memory::pair(&mut lab.reactor);
        own.limits(limits).open(&mut lab.reactor, |_, world: &mut World, _, event| {
            if let Event::Data(bytes) = event {
                world.bytes += bytes.len();
                world.up += u32::from(world.bytes > 20);
            }
        });
        let peer = silent(&mut lab.reactor, peer);
        let _ = lab.reactor[peer].write(&[0; 30]);
    });
}

#[cfg(feature = "http")]
mod http {
    use waterwheel::protocols::http::{Client, ClientLimits, ClientRequest, Limits, Reply, Server};

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    /// A server with these limits, and a client of raw bytes, which counts that it is closed or
    /// answered.
    fn serve(lab: &mut Lab, limits: Limits, answers: bool) -> SourceId<Conn> {
        let kept = std::cell::RefCell::new(Vec::<Reply>::new());
        let server = Server::new(move |reactor, _: &mut World, _, reply| {
            if answers {
                reply.send(reactor, "");
            } else {
                kept.borrow_mut().push(reply);
            }
        });
        let (own, other) = memory::pair(&mut lab.reactor);
        server.limits(limits).serve(&mut lab.reactor, other);
        own.open(&mut lab.reactor, |_, world: &mut World, _, event| {
            if let Event::Eof | Event::Closed(_) = event {
                world.up = 1;
            }
        })
    }

    #[test]
    fn requests_have_their_full_time() {
        takes_its_full_time("a connection without a request", WHOLE, |lab, delay| {
            serve(lab, Limits { idle_timeout: delay, ..Limits::default() }, true);
        });
        takes_its_full_time("a connection after an answer", ANY, |lab, delay| {
            let conn = serve(lab, Limits { idle_timeout: delay, ..Limits::default() }, true);
            let _ = lab.reactor[conn].write(GET);
        });
        takes_its_full_time("a head", ANY, |lab, delay| {
            let conn = serve(lab, Limits { head_timeout: delay, ..Limits::default() }, true);
            let _ = lab.reactor[conn].write(&GET[..9]);
        });
        takes_its_full_time("a body", ANY, |lab, delay| {
            let limits = Limits { body_grace: delay, ..Limits::default() };
            let conn = serve(lab, limits, true);
            let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n";
            let _ = lab.reactor[conn].write(head);
        });
        takes_its_full_time("an answer", ANY, |lab, delay| {
            let limits = Limits { reply_timeout: Some(delay), ..Limits::default() };
            let conn = serve(lab, limits, false);
            let _ = lab.reactor[conn].write(GET);
        });
    }

    /// Each byte earns half a millisecond, and comes alone.
    #[test]
    fn bytes_of_a_body_earn_their_parts_of_a_tick() {
        let clock = ManualClock::held();
        let reactor = Reactor::builder().clock(&clock).build().unwrap();
        let mut lab = Lab { reactor, clock, world: World::default() };
        lab.pass(UPTIME + 900 * US);
        let grace = 10 * MS;
        let limits = Limits { body_grace: grace, body_bytes_per_second: 2000, ..Limits::default() };
        let conn = serve(&mut lab, limits, true);
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n";
        let _ = lab.reactor[conn].write(head);
        lab.settle();
        for byte in 0..200 {
            let _ = lab.reactor[conn].write(b"x");
            lab.pass(500 * US);
            assert_eq!(lab.world.up, 0, "after {byte} bytes that came in time");
        }
        lab.pass(grace - US);
        assert_eq!(lab.world.up, 0);
        lab.pass(MS);
        assert_eq!(lab.world.up, 1);
    }

    /// Asks a server that says `answer` and no more, and counts what is told.
    fn request(lab: &mut Lab, limits: ClientLimits, answer: &'static [u8]) {
        let client = Client::new().limits(limits).dialer(move |reactor, _, done| {
            let (ours, theirs) = memory::pair(reactor);
            let limits = net::Limits { half_open: true, ..net::Limits::default() };
            let conn = theirs.limits(limits).open(reactor, |_, world: &mut World, _, event| {
                world.up += u32::from(matches!(event, Event::Eof | Event::Closed(_)));
            });
            let _ = reactor[conn].write(answer);
            reactor.defer(move |reactor, state| done(reactor, state, Ok(ours)));
            Ok(None)
        });
        client.send(&mut lab.reactor, ClientRequest::get("http://a.test/"), |_, world, answer| {
            world.up += u32::from(answer.is_err());
        });
        lab.settle();
        Box::leak(Box::new(client)); // Its idle connections would go with it.
    }

    fn counts_once(what: &str, limits: fn(Duration) -> ClientLimits, answer: &'static [u8]) {
        takes_its_full_time(what, ANY, move |lab, delay| {
            request(lab, limits(delay), answer);
            // Both the error and the connection's end are seen: one is enough.
            lab.reactor.before_poll(|_, world| world.up = world.up.min(1));
        });
    }

    #[test]
    fn calls_have_their_full_time() {
        counts_once(
            "the head of an answer",
            |delay| ClientLimits { head_timeout: Some(delay), ..ClientLimits::default() },
            b"",
        );
        counts_once(
            "the body of an answer",
            |delay| ClientLimits { body_timeout: Some(delay), ..ClientLimits::default() },
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        );
        counts_once(
            "a call",
            |delay| ClientLimits { total_timeout: Some(delay), ..ClientLimits::default() },
            b"",
        );
        counts_once(
            "a connection that idles",
            |delay| ClientLimits { idle_time_max: delay, ..ClientLimits::default() },
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        );
    }
}

#[cfg(feature = "ws")]
mod ws {
    use waterwheel::protocols::ws::{self, Limits, Role};

    use super::*;

    fn open(lab: &mut Lab, limits: Limits) -> (ws::Socket, SourceId<Conn>) {
        let (own, peer) = memory::pair(&mut lab.reactor);
        let socket = ws::open(
            &mut lab.reactor,
            own,
            Role::Server,
            limits,
            |_, world: &mut World, _, event| {
                if let ws::Event::Closed(_) = event {
                    world.up = 1;
                }
            },
        );
        let limits = net::Limits { half_open: true, ..net::Limits::default() };
        let peer = peer.limits(limits).open(&mut lab.reactor, |_, world: &mut World, _, event| {
            if let Event::Data(_) = event {
                world.up = 1; // It is told why, and may answer.
            }
        });
        (socket, peer)
    }

    #[test]
    fn websockets_have_their_full_time() {
        takes_its_full_time("a close", ANY, |lab, delay| {
            let (socket, _) = open(lab, Limits { close_timeout: delay, ..Limits::default() });
            lab.settle();
            socket.close(&mut lab.reactor, 1000, "");
        });
        takes_its_full_time("a message", ANY, |lab, delay| {
            let limits = Limits { message_timeout: Some(delay), ..Limits::default() };
            let (_, peer) = open(lab, limits);
            let _ = lab.reactor[peer].write(&[0x01, 0x81, 0, 0, 0, 0, b'x']); // To be continued.
        });
    }
}

#[test]
fn a_tick_says_what_it_is() {
    assert_eq!(format!("{:?} {:?}", Tick::new(7), Tick::NEVER), "tick 7 never");
}
