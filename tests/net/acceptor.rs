//! Listeners under attack: storms, no descriptors, clients that are gone before they are met.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::tcp;
use support::tcp::{Peer, Told, alone, note, serve, turn_until, turns, unclosed, watched};
use waterwheel::net::tcp::{Accept, Listen, Listener};
use waterwheel::net::{self, Conn, Event, Limits, Reason, Stream};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

/// Listens with an echo on each connection.
fn echo(reactor: &mut Context<()>, listen: Listen) -> (SourceId<Listener>, SocketAddr) {
    let listener = listen.open(reactor, "127.0.0.1:0", |reactor, _, incoming| {
        incoming.open(
            reactor,
            watched(|reactor: &mut Context<()>, _, conn, event| {
                if let Event::Data(bytes) = event {
                    let _ = reactor[conn].write(bytes);
                }
            }),
        );
    });
    let listener = listener.unwrap();
    (listener, reactor[listener].local_addr())
}

/// Counts the log's lines about refused connections.
struct Lines;
static LINES: AtomicUsize = AtomicUsize::new(0);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }
    fn log(&self, record: &log::Record) {
        if record.args().to_string().starts_with("refusing connections") {
            LINES.fetch_add(1, Relaxed);
        }
    }
    fn flush(&self) {}
}

#[test]
fn storm_past_the_limit_is_refused_counted_and_logged_once_a_second_while_others_are_served() {
    const TEST: &str =
        "storm_past_the_limit_is_refused_counted_and_logged_once_a_second_while_others_are_served";
    if !alone(TEST) {
        return;
    }
    log::set_logger(&Lines).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let clock = ManualClock::held();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let listen = Listen::new().connections_max(100).accepts_per_turn(16);
    let (listener, addr) = echo(&mut reactor, listen);
    let mut guest = Peer::to(addr);
    turn_until(&mut reactor, &mut (), |reactor, _| reactor[listener].connections() == 1);
    let mut inside = Vec::new();
    for wave in 1..=10 {
        let mut peers: Vec<Peer> = (0..500).map(|_| Peer::to(addr)).collect();
        guest.send(b"x");
        // 500 wait to be accepted, 32 turns of the budget; the guest is answered at once.
        turns(&mut reactor, &mut (), 3);
        guest.read_all();
        assert_eq!(guest.got.len(), wave, "not served during the storm");
        turn_until(&mut reactor, &mut (), |reactor, _| {
            reactor[listener].refused() == 500 * wave as u64 - 99
        });
        if wave == 1 {
            inside = peers.drain(..99).collect();
        }
        turn_until(&mut reactor, &mut (), |_, _| peers.iter_mut().all(|p| p.read_all().is_some()));
        assert_eq!(reactor[listener].connections(), 100);
    }
    assert_eq!(LINES.load(Relaxed), 1);
    clock.advance(Duration::from_secs(1));
    let _ = Peer::to(addr);
    turn_until(&mut reactor, &mut (), |reactor, _| reactor[listener].refused() == 4902);
    assert_eq!(LINES.load(Relaxed), 2);
    // There is room again when one has gone.
    drop(inside.pop());
    turn_until(&mut reactor, &mut (), |reactor, _| reactor[listener].connections() == 99);
    let mut late = Peer::to(addr);
    late.send(b"late");
    turn_until(&mut reactor, &mut (), |_, _| late.read_all().is_none() && late.got == b"late");
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

#[test]
fn out_of_descriptors_the_listener_neither_spins_nor_dies_and_recovers() {
    if !alone("out_of_descriptors_the_listener_neither_spins_nor_dies_and_recovers") {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let told = Rc::new(Cell::new(0));
    let tells = told.clone();
    let on_accept = move |reactor: &mut Context<Told>, _: &mut Told, accept: Accept| match accept {
        Accept::Stream(stream) => drop(stream.open(reactor, watched(note))),
        Accept::Exhausted(error) => {
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
            tells.set(tells.get() + 1);
        }
    };
    let listener = Listen::new().open_with(&mut reactor, "127.0.0.1:0", on_accept).unwrap();
    let addr = reactor[listener].local_addr();
    let state = &mut Told::default();
    for spell in 1..=2 {
        let mut peers: Vec<Peer> = (0..20).map(|_| Peer::to(addr)).collect();
        let usual = getrlimit(Resource::Nofile);
        let few = Rlimit { current: Some(descriptors() as u64 + 8), maximum: usual.maximum };
        setrlimit(Resource::Nofile, few).unwrap();
        let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        let (begin, before) = (Instant::now(), reactor.statistics().turns);
        while begin.elapsed() < Duration::from_millis(400) {
            reactor.turn(state, Some(Duration::from_millis(400))).unwrap();
        }
        let turns_taken = reactor.statistics().turns - before;
        assert!(turns_taken < 60, "{turns_taken} turns in less than half a second");
        assert_eq!(told.get(), spell, "told once in each spell");
        // The spare descriptor let them be told that they are not served.
        assert!(peers.iter_mut().all(|peer| peer.read_all().is_some()));
        assert_eq!(reactor[listener].refused(), 20 * spell);
        drop((hoard, peers));
        setrlimit(Resource::Nofile, usual).unwrap();
        let mut peer = Peer::to(addr);
        peer.send(b"served again");
        turn_until(&mut reactor, state, |_, told| told.bytes == b"served again");
        drop(peer);
        turn_until(&mut reactor, state, |_, told| told.closed.is_some());
        *state = Told::default();
    }
}

/// No descriptor is left, until this is dropped.
struct Drought {
    usual: Rlimit,
    hoard: Vec<File>,
}

impl Drought {
    fn begin() -> Drought {
        let usual = getrlimit(Resource::Nofile);
        let few = Rlimit { current: Some(descriptors() as u64 + 8), maximum: usual.maximum };
        setrlimit(Resource::Nofile, few).unwrap();
        let mut drought = Drought { usual, hoard: Vec::new() };
        drought.go_on();
        drought
    }

    /// Takes what has become free.
    fn go_on(&mut self) {
        self.hoard.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
    }
}

impl Drop for Drought {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.usual).unwrap();
    }
}

/// What has happened in a drought.
#[derive(Default)]
struct Seen {
    /// The ports of peers whose connections were closed in order, and of the others.
    finished: Vec<u16>,
    failed: Vec<u16>,
    exhausted: usize,
    connected: Vec<Stream>,
}

/// An echo that closes whoever says "bye", and answers "much" with much, and then closes.
fn farewells(reactor: &mut Context<Seen>) -> (SourceId<Listener>, SocketAddr) {
    let listen = Listen::new().send_buffer_bytes(8192);
    let on_accept = |reactor: &mut Context<Seen>, seen: &mut Seen, accept| match accept {
        Accept::Stream(stream) => {
            let port = stream.peer().unwrap().port();
            let told = move |reactor: &mut Context<_>, seen: &mut Seen, conn, event: Event<'_>| {
                let conn: SourceId<Conn> = conn;
                match event {
                    Event::Data(bytes) => {
                        let much = if bytes == b"much" { 4_000_000 } else { 0 };
                        let _ = conn.write(reactor, &[bytes, &vec![b'.'; much]].concat());
                        if bytes == b"bye" || bytes == b"much" {
                            conn.close(reactor);
                        }
                    }
                    Event::Closed(Reason::Finished) => seen.finished.push(port),
                    Event::Closed(_) => seen.failed.push(port),
                    _ => {}
                }
            };
            stream.open(reactor, watched(told));
        }
        Accept::Exhausted(_) => seen.exhausted += 1,
    };
    let listener = listen.open_with(reactor, "127.0.0.1:0", on_accept).unwrap();
    (listener, reactor[listener].local_addr())
}

/// Peers that were sent a FIN one after the other, a millisecond apart, and do not answer it.
fn linger(
    (reactor, seen, clock): (&mut Reactor<Seen>, &mut Seen, &ManualClock),
    addr: SocketAddr,
    count: usize,
) -> Vec<Peer> {
    let peers = (0..count).map(|_| {
        let mut peer = Peer::to(addr);
        peer.send(b"bye");
        turn_until(reactor, seen, |_, _| peer.read_all().is_some());
        assert_eq!(peer.got, b"bye");
        clock.advance(Duration::from_millis(1));
        peer
    });
    peers.collect()
}

fn ports(peers: &[Peer]) -> Vec<u16> {
    peers.iter().map(|peer| peer.socket.local_addr().unwrap().port()).collect()
}

#[test]
fn out_of_descriptors_who_only_waits_to_be_closed_makes_room_the_oldest_first() {
    if !alone("out_of_descriptors_who_only_waits_to_be_closed_makes_room_the_oldest_first") {
        return;
    }
    let (clock, mut seen) = (ManualClock::held(), Seen::default());
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let (listener, addr) = farewells(&mut reactor);
    let (mut talks, mut unread) = (Peer::to(addr), Peer::to(addr));
    unread.send(b"much");
    talks.send(b"hello");
    turn_until(&mut reactor, &mut seen, |_, _| talks.read_all().is_none() && talks.got == b"hello");
    let waiting = linger((&mut reactor, &mut seen, &clock), addr, 5);
    let mut late: Vec<Peer> = (0..6).map(|_| Peer::to(addr)).collect();
    let drought = Drought::begin();
    for peer in &mut late {
        peer.send(b"late");
    }
    // Room for three, for one, and for one: each time half of those that are left.
    turn_until(&mut reactor, &mut seen, |reactor, _| reactor[listener].refused() == 1);
    turn_until(&mut reactor, &mut seen, |_, _| {
        late[..5].iter_mut().all(|peer| peer.read_all().is_none() && peer.got == b"late")
    });
    assert_eq!(seen.finished, ports(&waiting));
    assert_eq!((seen.exhausted, reactor[listener].refused()), (1, 1), "the sixth was too many");
    // Neither one that is open nor one that still sends is given up.
    assert_eq!((reactor[listener].connections(), &seen.failed[..]), (7, &[][..]));
    talks.send(b", still");
    turn_until(&mut reactor, &mut seen, |_, _| {
        talks.read_all().is_none() && talks.got == b"hello, still"
    });
    drop(drought);
    turn_until(&mut reactor, &mut seen, |_, _| unread.read_all().is_some());
    assert_eq!(unread.got.len(), 4_000_004, "all of it came, and a FIN");
    drop((talks, unread, waiting, late));
    turn_until(&mut reactor, &mut seen, |reactor, _| reactor[listener].connections() == 0);
    assert_eq!(unclosed(), 0);
}

#[test]
fn out_of_descriptors_a_connection_is_made_with_that_of_one_who_only_waited() {
    if !alone("out_of_descriptors_a_connection_is_made_with_that_of_one_who_only_waited") {
        return;
    }
    let (clock, mut seen) = (ManualClock::held(), Seen::default());
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    let (_, addr) = farewells(&mut reactor);
    let path = format!("{}/scarce-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let _unix = UnixListener::bind(&path).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _server = TcpListener::bind(server).unwrap();
    let waiting = linger((&mut reactor, &mut seen, &clock), addr, 5);
    let timeout = Duration::from_secs(30);
    let made = |_: &mut Context<Seen>, seen: &mut Seen, result: io::Result<Stream>| {
        seen.connected.push(result.unwrap());
    };
    let mut drought = Drought::begin();
    let mut connect = |reactor: &mut Reactor<Seen>, seen: &mut Seen, way| {
        let begun = match way {
            0 => net::tcp::connect(reactor, server, timeout, made).map(drop),
            1 => net::tcp::connect_name(reactor, &server.to_string(), timeout, made).map(drop),
            _ => net::unix::connect(reactor, &path, timeout, made).map(drop),
        };
        begun?;
        let count = seen.connected.len();
        turn_until(reactor, seen, |_, seen| seen.connected.len() > count);
        drought.go_on();
        io::Result::Ok(())
    };
    for (way, gone) in [(0, 3), (1, 4), (2, 5)] {
        connect(&mut reactor, &mut seen, way).unwrap();
        assert_eq!(seen.finished, ports(&waiting)[..gone], "by way {way}");
    }
    for way in [0, 2] {
        let error = connect(&mut reactor, &mut seen, way).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
    }
    drop(drought);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn peers_that_are_gone_before_they_are_met_are_told_as_any_other() {
    let (mut reactor, mut closed) = (Reactor::new().unwrap(), Vec::new());
    let addr = serve(&mut reactor, Limits::default(), |_, closed: &mut Vec<Reason>, _, event| {
        if let Event::Closed(why) = event {
            closed.push(why);
        }
    });
    for gone in 0..30 {
        let mut peer = Peer::to(addr);
        if gone % 2 == 0 {
            peer.send(b"hello, and good-bye");
        }
        match gone % 3 {
            0 => peer.reset(),
            1 => peer.finish(),
            _ => drop(peer),
        }
    }
    turn_until(&mut reactor, &mut closed, |_, closed| closed.len() == 30);
    assert_eq!(closed.iter().filter(|why| matches!(why, Reason::Reset)).count(), 10);
    assert_eq!(closed.iter().filter(|why| matches!(why, Reason::Finished)).count(), 20);
    assert_eq!((reactor.sources(), unclosed()), (1, 0));
}

#[test]
fn listener_removed_with_accepts_pending_accepts_no_more_and_they_are_reset() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Rc::new(Cell::new(None));
    let removes = listener.clone();
    let opened = Listen::new().open(&mut reactor, "127.0.0.1:0", {
        move |reactor: &mut Context<u32>, accepted: &mut u32, incoming| {
            *accepted += 1;
            drop(incoming);
            let listener: SourceId<Listener> = removes.get().unwrap();
            assert!(*accepted < 3 || reactor.remove(listener));
        }
    });
    listener.set(opened.ok());
    let addr = reactor[listener.get().unwrap()].local_addr();
    let mut peers: Vec<Peer> = (0..10).map(|_| Peer::to(addr)).collect();
    let mut accepted = 0;
    reactor.run(&mut accepted).unwrap(); // Returns: nothing is left to do.
    assert_eq!((accepted, reactor.sources()), (3, 0));
    turn_until(&mut reactor, &mut accepted, |_, _| {
        peers.iter_mut().all(|peer| peer.read_all().is_some())
    });
    let reset = peers.iter().filter(|peer| peer.end == Some(Err(ErrorKind::ConnectionReset)));
    assert_eq!(reset.count(), 7);
}

#[test]
fn callback_that_panics_leaves_the_others_to_be_accepted() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listen::new().open(&mut reactor, "127.0.0.1:0", |_, met: &mut u32, _| {
        *met += 1;
        assert!(*met != 2, "the callback's own fault");
    });
    let addr = reactor[listener.unwrap()].local_addr();
    let _peers: Vec<Peer> = (0..5).map(|_| Peer::to(addr)).collect();
    let met = RefCell::new(0);
    let turn = std::panic::AssertUnwindSafe(|| reactor.turn(&mut met.borrow_mut(), None));
    assert!(std::panic::catch_unwind(turn).is_err());
    turn_until(&mut reactor, &mut met.borrow_mut(), |_, met| *met == 5);
}

#[test]
fn opening_and_closing_again_and_again_leaves_nothing_behind() {
    if !alone("opening_and_closing_again_and_again_leaves_nothing_behind") {
        return;
    }
    const COUNT: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
    let (mut reactor, mut closed) = (Reactor::new().unwrap(), 0);
    let limits = Limits { idle_timeout: Some(Duration::from_secs(60)), ..Limits::default() };
    let addr =
        serve(
            &mut reactor,
            limits,
            |reactor: &mut Context<usize>, closed, conn, event| match event {
                Event::Data(b"a") => reactor[conn].abort(),
                Event::Data(b"c") => reactor[conn].close(),
                Event::Closed(_) => *closed += 1,
                _ => {}
            },
        );
    let before = (descriptors(), reactor.sources(), reactor.timers(), unclosed());
    for number in 0..COUNT {
        let mut peer = Peer::to(addr);
        // Resets mostly: each orderly close keeps a port busy for a minute.
        match number % 16 {
            0 => peer.send(b"c"),
            1..8 => peer.send(b"a"),
            _ => tcp::reset_on_drop(&peer.socket).unwrap(),
        }
        if number % 16 < 8 {
            turn_until(&mut reactor, &mut closed, |_, _| peer.read_all().is_some());
        }
        drop(peer);
        turn_until(&mut reactor, &mut closed, |_, closed| *closed == number + 1);
    }
    assert_eq!((descriptors(), reactor.sources(), reactor.timers(), unclosed()), before);
}

#[test]
fn options_of_a_listener_are_those_of_its_connections() {
    let mut reactor = Reactor::new().unwrap();
    let listen = Listen::new().send_buffer_bytes(8192).receive_buffer_bytes(8192).backlog(7);
    let listen = listen.keepalive(Some(Duration::from_secs(60))).reuse_port(true);
    let second = listen.clone();
    let (listener, addr) = echo(&mut reactor, listen);
    let (_, same) = {
        let id = second.open(&mut reactor, addr, |_, _, _| {}).unwrap();
        (id, reactor[id].local_addr())
    };
    assert_eq!(same, addr, "SO_REUSEPORT lets a second listener have the port");
    // The kernel doubles what it is asked for, for its own bookkeeping; see socket(7).
    let socket = socket2::SockRef::from(&reactor[listener]);
    assert_eq!(socket.send_buffer_size().unwrap(), 2 * 8192);
    assert_eq!(socket.recv_buffer_size().unwrap(), 2 * 8192);
}

#[test]
fn limits_adjusted_for_one_connection_leave_the_others_and_the_seats_as_they_were() {
    let mut reactor = Reactor::new().unwrap();
    let limits = Limits { outbox_bytes_high: 77, ..Limits::default() };
    let listener = Listen::new().limits(limits).open(
        &mut reactor,
        "127.0.0.1:0",
        |reactor, seen: &mut Vec<(usize, bool)>, incoming| {
            let first = seen.is_empty();
            let incoming = incoming.adjust_limits(|limits| limits.half_open = first);
            let conn = incoming.open(reactor, |_, _, _, _| {});
            let limits = reactor[conn].limits();
            seen.push((limits.outbox_bytes_high, limits.half_open));
        },
    );
    let listener = listener.unwrap();
    let (addr, mut seen) = (reactor[listener].local_addr(), Vec::new());
    let _peers = [Peer::to(addr), Peer::to(addr)];
    turn_until(&mut reactor, &mut seen, |_, seen| seen.len() == 2);
    assert_eq!(seen, [(77, true), (77, false)]);
    assert_eq!(reactor[listener].connections(), 2);
}
