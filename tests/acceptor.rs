//! Listeners under attack: storms, no descriptors, clients that are gone before they are met.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use waterwheel::net::tcp::{Accept, Listen, Listener};
use waterwheel::net::{Event, Limits, Reason};
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

mod support;
#[path = "support/tcp.rs"]
mod tcp;

use tcp::{Peer, Told, alone, note, serve, turn_until, turns, unclosed, watched};

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
            assert!(*accepted < 3 || reactor.remove(listener.raw()));
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
