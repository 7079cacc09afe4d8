//! The simulated network itself: who is connected, refused, kept waiting, and when things arrive.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use support::tcp;
use support::tcp::{turns, watched};
use support::{MS, ceiling};
use waterwheel::net::sim::{Faults, Listen, Network};
use waterwheel::net::{Conn, Event, Limits, Reason, Stream, tcp as real};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const LIMIT: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(3);

fn addr() -> SocketAddr {
    "10.0.0.1:80".parse().expect("an address")
}

/// What happened, and at which millisecond.
type Told = Vec<(u128, String)>;

/// A loop that begins at 0 ms, and a clock that jumps.
struct World {
    reactor: Reactor<Told>,
    network: Network,
    clock: ManualClock,
    told: Told,
}

impl World {
    fn new(faults: Faults) -> World {
        let clock = ManualClock::new();
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        let network = Network::new(&mut reactor, 1, faults);
        World { reactor, network, clock, told: Told::new() }
    }

    fn listen(&mut self) {
        let tell = self.teller("server");
        let on_accept = move |reactor: &mut Context<Told>, _: &mut Told, incoming: Stream| {
            incoming.open(reactor, watched(tell.clone()));
        };
        let listener = self.network.listen(&mut self.reactor, addr(), on_accept).unwrap();
        self.reactor.unref(listener);
    }

    /// Connects and then says `first`; what becomes of it is told.
    fn connect(&mut self, first: &'static [u8]) {
        let (tell, clock, begin) = (self.teller("client"), self.clock.clone(), self.clock.now());
        let done =
            move |reactor: &mut Context<Told>, told: &mut Told, stream: io::Result<Stream>| {
                let at = (clock.now() - begin).as_millis();
                match stream {
                    Ok(stream) => {
                        told.push((at, format!("client connected to {:?}", stream.peer())));
                        let conn = stream.open(reactor, watched(tell));
                        let _ = reactor[conn].write(first);
                        reactor[conn].shutdown();
                    }
                    Err(error) => told.push((at, format!("client {:?}", error.kind()))),
                }
            };
        self.network.connect(&mut self.reactor, addr(), PATIENCE, done).unwrap();
    }

    fn teller(
        &self,
        who: &'static str,
    ) -> impl FnMut(&mut Context<Told>, &mut Told, SourceId<Conn>, Event<'_>) + Clone + 'static
    {
        let (clock, begin) = (self.clock.clone(), self.clock.now());
        move |_, told, _, event| {
            let what = match event {
                Event::Data(bytes) => format!("{who} Data {}", bytes.len()),
                event => format!("{who} {event:?}"),
            };
            told.push(((clock.now() - begin).as_millis(), what));
        }
    }

    fn run(&mut self) -> Vec<(u128, &str)> {
        self.reactor.run(&mut self.told).unwrap();
        assert_eq!(tcp::unclosed(), 0);
        self.told.iter().map(|(at, what)| (*at, &**what)).collect()
    }
}

/// Each way takes exactly so long.
fn ms(latency: u64) -> Faults {
    let latency = Duration::from_millis(latency);
    Faults { latency_min: latency, latency_max: latency, ..Faults::default() }
}

#[test]
fn each_way_takes_its_time() {
    let mut world = World::new(ms(10));
    world.listen();
    world.connect(b"hello");
    let told = [
        (20, "client connected to Some(10.0.0.1:80)"),
        (30, "server Data 5"),
        (30, "server Eof"),
        (40, "client Eof"),
        (40, "client Closed(Finished)"),
    ];
    let server_closed = (30, "server Closed(Finished)");
    let mut all = world.run();
    let at = all.iter().position(|told| *told == server_closed).expect("the server was told");
    all.remove(at);
    assert_eq!(all, told);
}

#[test]
fn busy_line_takes_as_long_as_its_bytes() {
    let mut world = World::new(Faults { bytes_per_second: Some(10_000), ..ms(10) });
    world.listen();
    world.connect(&[7; 5000]);
    let told = world.run();
    let all = told.iter().find(|(_, what)| *what == "server Data 5000").expect("all at once");
    assert_eq!(all.0, 20 + 10 + 500);
}

#[test]
fn without_latency_nothing_waits_for_the_clock() {
    let mut world = World::new(ms(0));
    world.listen();
    world.connect(b"hello");
    assert!(world.run().iter().all(|(at, _)| *at == 0));
}

#[test]
fn nobody_who_listens_is_a_refusal_after_a_round_trip() {
    let mut world = World::new(ms(10));
    world.connect(b"");
    assert_eq!(world.run(), [(20, "client ConnectionRefused")]);
    assert_eq!(world.network.traffic().refused, 1);
}

#[test]
fn refusals_and_losses_come_as_drawn() {
    let mut world = World::new(Faults { refuse_per_mille: 1000, ..ms(10) });
    world.listen();
    world.connect(b"");
    assert_eq!(world.run(), [(20, "client ConnectionRefused")]);
    let mut world = World::new(Faults { lose_per_mille: 1000, ..ms(10) });
    world.listen();
    world.connect(b"");
    assert_eq!(world.run(), [(PATIENCE.as_millis(), "client TimedOut")]);
}

#[test]
fn reset_reaches_both_ends() {
    let mut world = World::new(Faults { reset_per_mille: 1000, ..ms(10) });
    world.listen();
    world.connect(b"x");
    let told = world.run();
    assert!(told.contains(&(30, "server Closed(Reset)")), "{told:?}");
    assert!(told.contains(&(30, "client Closed(Reset)")), "{told:?}");
    assert_eq!(world.network.traffic().resets, 1);
}

#[test]
fn fin_may_be_late() {
    let late = Duration::from_millis(500);
    let mut delays = Vec::new();
    for seed in 0..20 {
        let mut world = World::new(Faults { fin_delay_max: late, ..ms(10) });
        world.network =
            Network::new(&mut world.reactor, seed, Faults { fin_delay_max: late, ..ms(10) });
        world.listen();
        world.connect(b"x");
        let told = world.run();
        delays.push(told.iter().find(|(_, what)| *what == "server Eof").unwrap().0 - 30);
    }
    assert!(delays.iter().all(|delay| *delay <= late.as_millis()), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay > 300) && delays.iter().any(|delay| *delay < 200));
}

#[test]
fn what_arrives_at_the_tick_of_a_timeout_beats_it() {
    for late in [0, 1] {
        let mut world = World::new(ms(10));
        let tell = world.teller("server");
        let limits = Limits { idle_timeout: Some(50 * MS), ..Limits::default() };
        let on_accept = move |reactor: &mut Context<Told>, _: &mut Told, incoming: Stream| {
            incoming.limits(limits.clone()).open(reactor, watched(tell.clone()));
        };
        let World { reactor, network, .. } = &mut world;
        let listener = network.listen(reactor, addr(), on_accept).unwrap();
        reactor.unref(listener);
        // The server's connection is there at 10 ms and silent until 60.
        let done = move |reactor: &mut Context<Told>, _: &mut Told, stream: io::Result<Stream>| {
            let conn = stream.unwrap().open(reactor, |_, _, _, _| {});
            reactor.after(Duration::from_millis(30 + late), move |reactor, _| {
                let _ = reactor[conn].write(b"x");
            });
        };
        network.connect(reactor, addr(), PATIENCE, done).unwrap();
        let heard = world.run().contains(&(60, "server Data 1"));
        let silent = world.run().contains(&(60, "server Closed(IdleTimeout)"));
        assert_eq!((heard, silent), (late == 0, late == 1), "{:?}", world.told);
    }
}

#[test]
fn address_is_taken_once_and_free_again_when_the_listener_has_gone() {
    let mut world = World::new(ms(1));
    let World { reactor, network, told, .. } = &mut world;
    let none = SocketAddr::from(([10, 0, 0, 1], 0));
    let first = network.listen(reactor, none, |_, _, _| {}).unwrap();
    let second = network.listen(reactor, none, |_, _, _| {}).unwrap();
    let (one, other) = (reactor[first].local_addr(), reactor[second].local_addr());
    assert!(one.port() != 0 && other.port() != 0 && one != other);
    let taken = network.listen(reactor, one, |_, _, _| {}).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    reactor.remove(first);
    turns(reactor, told, 1);
    assert!(network.listen(reactor, one, |_, _, _| {}).is_ok());
}

#[test]
fn network_without_a_free_port_says_so() {
    let mut world = World::new(ms(1));
    let World { reactor, network, .. } = &mut world;
    let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
    // More than a process may have descriptors, as a rule: a simulation needs none.
    for port in 49152..=u16::MAX {
        network.listen(reactor, at(port), |_, _, _| {}).unwrap();
    }
    let none = network.listen(reactor, at(0), |_, _, _| {}).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::AddrNotAvailable);
    let none = network.connect(reactor, at(50_000), PATIENCE, |_, _, _| {}).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn crowd_is_accepted_in_budgets_and_past_the_backlog_not_answered() {
    let mut world = World::new(ms(10));
    let accepted = Rc::new(RefCell::new(Vec::new()));
    let turn = accepted.clone();
    let on_accept = move |reactor: &mut Context<Told>, _: &mut Told, incoming: Stream| {
        turn.borrow_mut().push(reactor.statistics().turns);
        drop(incoming);
    };
    let World { reactor, network, .. } = &mut world;
    let listen = Listen::new().backlog(128).accepts_per_turn(64);
    let listener = listen.open(network, reactor, addr(), on_accept).unwrap();
    reactor.unref(listener);
    (0..138).for_each(|_| world.connect(b""));
    let late = world.run().iter().filter(|(_, what)| *what == "client TimedOut").count();
    assert_eq!((accepted.borrow().len(), late), (128, 10));
    assert_eq!(world.network.traffic().lost, 10);
    let turns = accepted.borrow();
    let first = turns.iter().filter(|turn| **turn == turns[0]).count();
    assert_eq!(first, 64);
}

#[test]
fn limits_of_a_listener_hold_as_they_do_on_tcp() {
    let mut world = World::new(ms(10));
    let tell = world.teller("server");
    let World { reactor, network, .. } = &mut world;
    let limits = Limits { half_open: true, idle_timeout: Some(50 * MS), ..Limits::default() };
    let listen = Listen::new().connections_max(2).limits(limits);
    let serve = move |reactor: &mut Context<Told>, _: &mut Told, incoming: Stream| {
        incoming.open(reactor, watched(tell.clone()));
    };
    let listener = listen.open(network, reactor, addr(), serve).unwrap();
    reactor.unref(listener);
    (0..3).for_each(|_| world.connect(b"x"));
    let told = world.run();
    let count = |what: &str| told.iter().filter(|(_, told)| *told == what).count();
    assert_eq!(count("server Closed(IdleTimeout)"), 2, "{told:?}");
    assert_eq!(world.reactor[listener].refused(), 1);
    assert_eq!(world.reactor[listener].connections(), 0);
}

#[test]
fn cancelled_connecting_is_told_nothing_and_the_server_a_reset() {
    let mut world = World::new(ms(10));
    world.listen();
    let done = |_: &mut Context<Told>, _: &mut Told, _: io::Result<Stream>| panic!("cancelled");
    let World { reactor, network, .. } = &mut world;
    let connecting = network.connect(reactor, addr(), PATIENCE, done).unwrap();
    assert_eq!(reactor[connecting].peer(), addr());
    reactor.after(15 * MS, move |reactor, _| assert!(reactor.remove(connecting)));
    let told = world.run();
    assert_eq!(told, [(25, "server Closed(Reset)")]);
}

#[test]
fn listener_that_goes_resets_those_who_wait() {
    let mut world = World::new(ms(10));
    let World { reactor, network, .. } = &mut world;
    let listener = network.listen(reactor, addr(), |_, _, _| panic!("it has gone")).unwrap();
    // Before its own callback runs, at the very millisecond at which they arrive.
    reactor.after(10 * MS, move |reactor, _| {
        reactor.enqueue(waterwheel::reactor::Priority::High, move |reactor, _| {
            reactor.remove(listener);
        });
    });
    world.connect(b"");
    assert_eq!(world.run(), [(20, "client ConnectionReset")]);
}

#[test]
fn network_holds_nothing_and_leaves_nothing() {
    let mut world = World::new(ms(10));
    world.reactor.run(&mut world.told).unwrap(); // Returns, although the network is there.
    world.listen();
    world.connect(b"hello");
    world.run();
    world.network.unplug(&mut world.reactor);
    world.network.unplug(&mut world.reactor); // Nothing more.
    let World { reactor, network, .. } = &mut world;
    assert_eq!((reactor.ids::<Conn>().len(), reactor.timers()), (0, 0));
    let done = |_: &mut Context<Told>, told: &mut Told, result: io::Result<Stream>| {
        told.push((0, format!("{:?}", result.unwrap_err().kind())));
    };
    network.connect(reactor, addr(), PATIENCE, done).unwrap();
    world.run();
    assert_eq!(world.told.last().unwrap().1, "TimedOut");
}

#[test]
fn dropping_the_reactor_with_everything_under_way_is_no_trouble() {
    let mut world = World::new(ms(10));
    world.listen();
    world.connect(&[7; 60_000]);
    world.connect(b"x");
    for _ in 0..12 {
        world.reactor.turn(&mut world.told, None).unwrap();
    }
    assert!(!world.reactor.ids::<Conn>().is_empty());
    drop(world.reactor);
    assert!(world.network.traffic().parcels > 0);
}

/// Server and client know streams; this is all that they see of what is below.
fn shout(reactor: &mut Context<Told>, _: &mut Told, incoming: Stream) {
    incoming.open(reactor, |reactor, _, conn, event| {
        if let Event::Data(bytes) = event {
            let _ = reactor[conn].write(&bytes.to_ascii_uppercase());
        }
    });
}

fn ask(reactor: &mut Context<Told>, _: &mut Told, stream: io::Result<Stream>) {
    let mut heard = Vec::new();
    let conn =
        stream.unwrap().open(reactor, move |reactor, told: &mut Told, _, event| match event {
            Event::Data(bytes) => heard.extend_from_slice(bytes),
            Event::Closed(why) => {
                assert!(matches!(why, Reason::Finished));
                told.push((0, String::from_utf8(heard.clone()).unwrap()));
                reactor.stop();
            }
            _ => {}
        });
    let _ = reactor[conn].write(b"anybody?");
    reactor[conn].shutdown();
}

#[test]
fn same_server_and_client_run_on_tcp_and_in_the_simulation() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let listener = real::listen(&mut reactor, "127.0.0.1:0", shout).unwrap();
    let local = reactor[listener].local_addr();
    real::connect(&mut reactor, local, PATIENCE, ask).unwrap();
    reactor.run(&mut told).unwrap();

    let mut world = World::new(Faults::drawn(3).lossless());
    world.network.listen(&mut world.reactor, addr(), shout).unwrap();
    world.network.connect(&mut world.reactor, addr(), PATIENCE, ask).unwrap();
    world.reactor.run(&mut world.told).unwrap();
    assert_eq!(told, world.told);
    assert_eq!(told[0].1, "ANYBODY?");
}

#[test]
fn simulation_on_the_systems_clock_takes_the_time_it_says() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::new());
    let network = Network::new(&mut reactor, 1, ms(3));
    network.listen(&mut reactor, addr(), shout).unwrap();
    let begin = reactor.now();
    network.connect(&mut reactor, addr(), PATIENCE, ask).unwrap();
    reactor.run(&mut told).unwrap();
    assert_eq!(told[0].1, "ANYBODY?");
    assert!(reactor.now() - begin >= 4 * 3 * MS); // Two round trips.
}
