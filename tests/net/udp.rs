//! Datagrams: whole or not at all, by UDP and by Unix sockets.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use support::ceiling;
use support::clients::{NC, skip_without};
use support::process::{Process, example, output};
use support::tcp::{turn_until, turns};
use waterwheel::net::{Pressure, udp};
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor, SourceId};

const MINUTE: Duration = Duration::from_secs(60);
/// The most that IPv4 takes: 65,535 less its header and UDP's.
const BYTES_MAX: usize = 65_507;

/// What a socket was told: the state of these tests.
#[derive(Debug, Default, PartialEq)]
struct Told {
    received: Vec<(SocketAddr, Vec<u8>, bool)>,
    writable: usize,
    errors: Vec<ErrorKind>,
}

impl Told {
    fn bytes(&self) -> Vec<&[u8]> {
        self.received.iter().map(|(_, bytes, _)| &**bytes).collect()
    }
}

/// A handler that only notes.
fn note(_: &mut Context<Told>, told: &mut Told, _: SourceId<udp::Socket>, event: udp::Event<'_>) {
    match event {
        udp::Event::Received { from, bytes, truncated } => {
            told.received.push((from, bytes.to_vec(), truncated));
        }
        udp::Event::Writable => told.writable += 1,
        udp::Event::Error(error) => told.errors.push(error.kind()),
    }
}

fn bound(bind: udp::Bind) -> (Reactor<Told>, SourceId<udp::Socket>, SocketAddr) {
    let mut reactor = Reactor::new().unwrap();
    let socket = bind.open(&mut reactor, "127.0.0.1:0", note).unwrap();
    let addr = reactor[socket].local_addr();
    (reactor, socket, addr)
}

/// A socket of std's, with an end to its patience.
fn peer() -> UdpSocket {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(MINUTE)).unwrap();
    peer
}

#[test]
fn nc_is_answered() {
    skip_without!(NC);
    let mut reactor = Reactor::new().unwrap();
    let socket = udp::bind(&mut reactor, "127.0.0.1:0", |reactor, heard, socket, event| {
        let udp::Event::Received { from, bytes, truncated: false } = event else { panic!() };
        assert_eq!(reactor[socket].send_to(bytes, &from).unwrap(), Pressure::Below);
        *heard += 1;
    });
    let addr = reactor[socket.unwrap()].local_addr();
    let mut nc = nc(addr);
    nc.type_in("hello\n");
    let mut heard = 0;
    turn_until(&mut reactor, &mut heard, |_, heard| *heard == 1);
    assert_eq!(nc.line(), "hello");
}

/// A client of lines.
fn nc(addr: SocketAddr) -> Process {
    Process::start(NC.command().args(["-u", "127.0.0.1", &addr.port().to_string()]))
}

#[test]
fn udp_chat_passes_lines_on_and_says_who_joins_and_leaves() {
    skip_without!(NC);
    let (_server, addr) = Process::serve("udp_chat");
    let [mut one, mut two, mut third] = [(); 3].map(|()| nc(addr));
    one.type_in("/who\n");
    assert!(one.line().starts_with("* 1 are here, you are 127.0.0.1:"));
    two.type_in("hello \x1b[2J\n");
    let joined = one.line();
    let name = joined.strip_prefix("* ").and_then(|rest| rest.strip_suffix(" joined"));
    let name = name.expect("somebody joined");
    assert_eq!(one.line(), format!("{name}: hello [2J"), "without control characters");
    third.type_in("/quit\n"); // It never was there: nobody is told.
    one.type_in("x".repeat(2000) + "\n");
    assert!(two.line().ends_with(&format!(": {}", "x".repeat(512))), "cut off");
    two.type_in("/quit\n");
    assert_eq!(one.line(), format!("* {name} left"));
    two.type_in("again\n");
    assert_eq!(one.line(), format!("* {name} joined"));
    assert_eq!(one.line(), format!("{name}: again"));
}

#[test]
fn udp_chat_takes_the_silent_for_gone() {
    skip_without!(NC);
    let (_server, addr) =
        Process::listening(example("udp_chat").args(["--timeout", "1", "127.0.0.1:0"]));
    let [mut silent, mut other] = [nc(addr), nc(addr)];
    silent.type_in("/who\n");
    assert!(silent.line().starts_with("* 1 are here"));
    // Who asks is not silent. On a busy machine the second comes too late to see the first at all.
    let (mut seen, mut left) = (false, false);
    loop {
        other.type_in("/who\n");
        let mut line = other.line();
        while line.ends_with(" left") {
            left = true;
            line = other.line();
        }
        match &line[..7] {
            "* 2 are" => seen = true,
            "* 1 are" => break,
            _ => panic!("{line}"),
        }
    }
    assert_eq!(seen, left);
}

#[test]
fn udp_chat_refuses_more_members_than_it_may_have() {
    let (_server, addr) = Process::serve("udp_chat");
    let peers: Vec<UdpSocket> = (0..101).map(|_| peer()).collect();
    let said = |peer: &UdpSocket| {
        let mut buffer = [0; 100];
        let count = peer.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    for (number, peer) in peers.iter().enumerate().take(100) {
        peer.send_to(b"/who", addr).unwrap();
        assert!(said(peer).starts_with(&format!("* {} are here", number + 1)));
    }
    peers[100].send_to(b"hello", addr).unwrap();
    assert_eq!(said(&peers[100]), "! there are too many here\n");
}

#[test]
fn udp_chat_refuses_bad_command_lines_in_one_line() {
    let help = output("udp_chat", &["--help"]);
    let usage = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success() && usage.starts_with("Usage: udp_chat [OPTIONS]"), "{usage}");
    let taken = peer().local_addr().unwrap().to_string();
    let holder = UdpSocket::bind(&*taken).unwrap();
    let cases: [(&[&str], &str, i32); 4] = [
        (&["--nonsense"], "'--nonsense'; try --help", 2),
        (&["--timeout", "long"], "--timeout wants a whole number", 2),
        (&["127.0.0.1:65536"], "cannot listen on 127.0.0.1:65536: ", 2),
        (&[&taken], "cannot listen on 127.0.0.1:", 1),
    ];
    for (args, because, code) in cases {
        let refused = output("udp_chat", args);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(code), "{args:?}: {said}");
        assert!(refused.stdout.is_empty() && said.lines().count() == 1, "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{args:?}: {said}");
    }
    drop(holder);
}

#[test]
fn datagrams_arrive_one_by_one_empty_ones_and_the_longest_too() {
    let (mut reactor, _, addr) = bound(udp::Bind::new());
    let (peer, mut told) = (peer(), Told::default());
    let longest = vec![7; BYTES_MAX];
    let sent: [&[u8]; 5] = [b"one", b"", b"two", &longest, b""];
    for bytes in sent {
        peer.send_to(bytes, addr).unwrap();
    }
    turn_until(&mut reactor, &mut told, |_, told| told.received.len() == sent.len());
    assert_eq!(told.bytes(), sent);
    let from = peer.local_addr().unwrap();
    assert!(told.received.iter().all(|(who, _, truncated)| (*who, *truncated) == (from, false)));
    turns(&mut reactor, &mut told, 3);
    assert_eq!((told.received.len(), told.errors.len(), told.writable), (5, 0, 0));
}

#[test]
fn datagram_that_is_too_long_is_refused_and_the_next_one_goes() {
    let (mut reactor, socket, _) = bound(udp::Bind::new());
    let (peer, mut told) = (peer(), Told::default());
    let to = peer.local_addr().unwrap();
    let error = reactor[socket].send_to(&[7; BYTES_MAX + 1], &to).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MSGSIZE.raw_os_error()));
    assert_eq!(reactor[socket].send_to(b"", &to).unwrap(), Pressure::Below);
    assert_eq!(reactor[socket].send_to(&[7; BYTES_MAX], &to).unwrap(), Pressure::Below);
    let mut buffer = [0; BYTES_MAX + 1];
    assert_eq!(peer.recv(&mut buffer).unwrap(), 0);
    assert_eq!(peer.recv(&mut buffer).unwrap(), BYTES_MAX);
    turns(&mut reactor, &mut told, 3);
    assert_eq!(told, Told::default());
}

#[test]
fn what_is_cut_off_is_said_and_the_next_datagram_is_whole() {
    let (mut reactor, _, addr) = bound(udp::Bind::new().datagram_bytes_max(10));
    let (peer, mut told) = (peer(), Told::default());
    for bytes in [&b"0123456789"[..], b"0123456789x", &[b'y'; 3000], b"next"] {
        peer.send_to(bytes, addr).unwrap();
    }
    turn_until(&mut reactor, &mut told, |_, told| told.received.len() == 4);
    let told: Vec<_> =
        told.received.iter().map(|(_, bytes, truncated)| (&**bytes, *truncated)).collect();
    let expected: [(&[u8], bool); 4] =
        [(b"0123456789", false), (b"0123456789", true), (b"yyyyyyyyyy", true), (b"next", false)];
    assert_eq!(told, expected);
}

#[test]
fn peer_that_is_not_there_is_told_and_ends_nothing() {
    let (gone, mut told) = (peer(), Told::default());
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let mut reactor = Reactor::new().unwrap();
    let socket = udp::connect(&mut reactor, addr, note).unwrap();
    assert_eq!(reactor[socket].send(b"nobody hears").unwrap(), Pressure::Below);
    turn_until(&mut reactor, &mut told, |_, told| !told.errors.is_empty());
    assert_eq!(told.errors, [ErrorKind::ConnectionRefused]);
    // The second send meets the news of the first: it is told, and the second is sent.
    assert_eq!(reactor[socket].send(b"nobody").unwrap(), Pressure::Below);
    let here = UdpSocket::bind(addr).unwrap();
    assert_eq!(reactor[socket].send(b"somebody").unwrap(), Pressure::Below);
    turn_until(&mut reactor, &mut told, |_, told| told.errors.len() == 2);
    let mut buffer = [0; 100];
    let count = here.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"somebody");
    here.send_to(b"answer", reactor[socket].local_addr()).unwrap();
    peer().send_to(b"from a stranger", reactor[socket].local_addr()).unwrap();
    turn_until(&mut reactor, &mut told, |_, told| !told.received.is_empty());
    turns(&mut reactor, &mut told, 3);
    assert_eq!((told.bytes(), told.errors.len()), (vec![&b"answer"[..]], 2));
}

#[test]
fn socket_without_a_peer_cannot_send_to_it() {
    let (mut reactor, socket, _) = bound(udp::Bind::new());
    let error = reactor[socket].send(b"to whom?").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::DESTADDRREQ.raw_os_error()));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 7001));
    assert!(reactor[socket].send_to(b"another family", &v6).is_err());
    turns(&mut reactor, &mut Told::default(), 2);
}

#[test]
fn closed_inside_its_callback_it_is_told_nothing_of_what_is_queued() {
    let mut reactor = Reactor::new().unwrap();
    let socket = udp::bind(&mut reactor, "127.0.0.1:0", |reactor, told: &mut u32, socket, _| {
        *told += 1;
        assert!(*told < 3 || reactor.remove(socket));
    });
    let socket = socket.unwrap();
    let (addr, peer) = (reactor[socket].local_addr(), peer());
    for _ in 0..10 {
        peer.send_to(b"more", addr).unwrap();
    }
    let mut told = 0;
    reactor.run(&mut told).unwrap(); // Returns: nothing is left.
    assert_eq!((told, reactor.sources(), reactor.timers()), (3, 0, 0));
    assert!(reactor.get_mut(socket).is_none());
    assert!(UdpSocket::bind(addr).is_ok(), "the port is free again");
}

#[test]
fn turn_takes_so_many_datagrams_and_bytes_and_does_not_sleep_over_the_rest() {
    let _ceiling = ceiling(MINUTE);
    let (mut reactor, _, addr) = bound(udp::Bind::new().datagrams_per_turn(10));
    let (peer, mut told) = (peer(), Told::default());
    for number in 0..45u8 {
        peer.send_to(&[number], addr).unwrap();
    }
    for turn in 1..=5 {
        reactor.turn(&mut told, None).unwrap();
        assert_eq!(told.received.len(), 45.min(10 * turn));
        let rest = (turn < 5).then_some(Duration::ZERO);
        assert_eq!(reactor.next_wait(), rest);
    }
    assert!(told.bytes().into_iter().eq((0..45).map(|number| [number])), "in order");
    let (mut reactor, _, addr) = bound(udp::Bind::new().read_bytes_per_turn(2500));
    told = Told::default();
    for _ in 0..7 {
        peer.send_to(&[0; 1000], addr).unwrap();
    }
    for turn in 1..=3 {
        reactor.turn(&mut told, None).unwrap();
        assert_eq!(told.received.len(), 7.min(3 * turn), "the last one is taken whole");
    }
}

/// An interval under a flood. Whether it is on time is counted in datagrams, not in time: the turn
/// in which the deadline passes has read the clock before, and the turn that fires takes its budget
/// first (R3). So a machine that is busy with something else does not count.
#[test]
fn interval_fires_on_time_while_a_peer_floods() {
    const PERIOD: Duration = Duration::from_millis(20);
    const BUDGET: usize = 64;
    #[derive(Default)]
    struct Seen {
        flooded: usize,
        /// When the interval is to fire next, and the datagrams told since then.
        next: Option<Instant>,
        overdue: usize,
        fired: usize,
        on_time: usize,
    }
    let (mut reactor, mut seen) = (Reactor::new().unwrap(), Seen::default());
    let socket = udp::bind(&mut reactor, "127.0.0.1:0", |_, seen: &mut Seen, _, _| {
        seen.flooded += 1;
        seen.overdue += usize::from(seen.next.is_some_and(|next| next < Instant::now()));
    });
    let addr = reactor[socket.unwrap()].local_addr();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let peer = peer();
            while !stop.load(Relaxed) {
                let _ = peer.send_to(&[7; 64], addr); // What does not fit is lost.
            }
        });
        turn_until(&mut reactor, &mut seen, |_, seen| seen.flooded > 0);
        reactor.every(PERIOD, Missed::Skip, |reactor, seen: &mut Seen, occurrence| {
            seen.fired += 1;
            seen.on_time += usize::from(seen.overdue <= 2 * BUDGET);
            seen.overdue = 0;
            seen.next = Some(occurrence.deadline + PERIOD);
            if seen.fired == 50 {
                reactor.stop();
            }
        });
        reactor.run(&mut seen).unwrap();
        stop.store(true, Relaxed);
    });
    assert!(seen.on_time >= 48, "{} of 50 on time, with {} datagrams", seen.on_time, seen.flooded);
    assert!(seen.flooded > 2_000, "that was no flood: {} datagrams", seen.flooded);
}

#[test]
fn handler_that_panics_leaves_the_rest_to_be_received() {
    let mut reactor = Reactor::new().unwrap();
    let socket = udp::bind(&mut reactor, "127.0.0.1:0", |_, told: &mut u32, _, _| {
        *told += 1;
        assert!(*told != 2, "the handler's own fault");
    });
    let addr = reactor[socket.unwrap()].local_addr();
    let peer = peer();
    for _ in 0..5 {
        peer.send_to(b"x", addr).unwrap();
    }
    let mut told = 0;
    assert!(catch_unwind(AssertUnwindSafe(|| reactor.turn(&mut told, None))).is_err());
    turn_until(&mut reactor, &mut told, |_, told| *told == 5);
}

#[test]
fn request_and_answer_allocate_nothing_and_sending_wakes_nobody() {
    let mut reactor = Reactor::new().unwrap();
    let socket = udp::bind(&mut reactor, "127.0.0.1:0", |reactor, _, socket, event| {
        if let udp::Event::Received { from, bytes, .. } = event {
            assert_eq!(reactor[socket].send_to(bytes, &from).unwrap(), Pressure::Below);
        }
    });
    let (socket, peer) = (socket.unwrap(), peer());
    peer.connect(reactor[socket].local_addr()).unwrap();
    let mut round = || {
        peer.send(b"request").unwrap();
        assert_eq!(reactor.turn(&mut (), None).unwrap(), 1);
        assert_eq!(peer.recv(&mut [0; 100]).unwrap(), 7);
        assert_eq!(reactor.turn(&mut (), Some(Duration::ZERO)).unwrap(), 0);
    };
    round();
    let used = measure(|| (0..100).for_each(|_| round()));
    assert_eq!(used.count_total, 0);
}

#[test]
fn group_is_heard_once_joined_and_no_more_once_left() {
    let bind = udp::Bind::new().multicast_interface_v4(Ipv4Addr::LOCALHOST).multicast_loop(true);
    let mut reactor = Reactor::new().unwrap();
    let socket = bind.multicast_ttl(0).open(&mut reactor, "0.0.0.0:0", note).unwrap();
    let (group, interface) = (Ipv4Addr::new(239, 255, 77, 1), Ipv4Addr::LOCALHOST);
    let to = (group, reactor[socket].local_addr().port()).into();
    let here = SocketAddr::from((interface, reactor[socket].local_addr().port()));
    let mut told = Told::default();
    reactor[socket].join_v4(&group, &interface).unwrap();
    assert!(reactor[socket].join_v4(&group, &interface).is_err(), "joined already");
    assert!(reactor[socket].join_v4(&interface, &interface).is_err(), "it is no group");
    assert_eq!(reactor[socket].send_to(b"all", &to).unwrap(), Pressure::Below);
    turn_until(&mut reactor, &mut told, |_, told| told.received.len() == 1);
    reactor[socket].leave_v4(&group, &interface).unwrap();
    assert!(reactor[socket].leave_v4(&group, &interface).is_err());
    let _ = reactor[socket].send_to(b"nobody", &to);
    assert_eq!(reactor[socket].send_to(b"one", &here).unwrap(), Pressure::Below);
    turn_until(&mut reactor, &mut told, |_, told| told.received.len() == 2);
    assert_eq!(told.bytes(), [&b"all"[..], b"one"]);
}

/// Two sockets on one port, of which one has joined.
#[cfg(target_os = "linux")]
#[test]
fn socket_hears_groups_that_others_have_joined_unless_it_says_no() {
    for all in [true, false] {
        let bind = || udp::Bind::new().reuse_address(true).multicast_all(all);
        let mut reactor = Reactor::new().unwrap();
        let one = bind().open(&mut reactor, "0.0.0.0:0", note).unwrap();
        let port = reactor[one].local_addr().port();
        bind().open(&mut reactor, ("0.0.0.0", port), note).unwrap();
        let (group, interface) = (Ipv4Addr::new(239, 255, 77, 2), Ipv4Addr::LOCALHOST);
        reactor[one].join_v4(&group, &interface).unwrap();
        let sender = udp::Bind::new().multicast_interface_v4(interface).multicast_ttl(0);
        let sender = sender.open(&mut reactor, "127.0.0.1:0", note).unwrap();
        let sent = reactor[sender].send_to(b"all", &(group, port).into());
        assert_eq!(sent.unwrap(), Pressure::Below);
        let (mut told, expected) = (Told::default(), if all { 2 } else { 1 });
        turn_until(&mut reactor, &mut told, |_, told| told.received.len() >= expected);
        turns(&mut reactor, &mut told, 3);
        assert_eq!(told.received.len(), expected);
    }
}

#[test]
fn what_the_kernel_drops_is_counted_where_it_says() {
    let (mut reactor, socket, addr) = bound(udp::Bind::new().receive_buffer_bytes(4096));
    let (peer, mut told) = (peer(), Told::default());
    let known = cfg!(target_os = "linux");
    assert_eq!(reactor[socket].dropped(), known.then_some(0));
    for _ in 0..100 {
        peer.send_to(&[7; 500], addr).unwrap();
    }
    turns(&mut reactor, &mut told, 100);
    let received = told.received.len() as u64;
    assert!(received > 0 && (received < 100 || !known), "{received}");
    assert_eq!(reactor[socket].dropped(), known.then_some(100 - received));
    if let Ok(six) = udp::Bind::new().receive_buffer_bytes(4096).open(&mut reactor, "[::1]:0", note)
    {
        let (to, from) = (reactor[six].local_addr(), UdpSocket::bind("[::1]:0").unwrap());
        (0..50).for_each(|_| assert_eq!(from.send_to(&[7; 500], to).unwrap(), 500));
        assert_eq!(reactor[six].dropped().is_some_and(|dropped| dropped > 0), known);
        assert_eq!(reactor[socket].dropped(), known.then_some(100 - received), "each its own");
    }
}

/// Where the system does not say at which address a datagram arrived.
#[test]
fn nothing_is_known_of_an_arrival_unless_it_was_asked_for() {
    let (mut reactor, socket, addr) = bound(udp::Bind::new());
    let (peer, mut told) = (peer(), Told::default());
    peer.send_to(b"hello", addr).unwrap();
    turn_until(&mut reactor, &mut told, |_, told| told.received.len() == 1);
    assert_eq!(reactor[socket].arrival(), None);
    let to = peer.local_addr().unwrap();
    for ours in [None, Some(addr.ip())] {
        assert_eq!(reactor[socket].send_from(b"bye", &to, ours).unwrap(), Pressure::Below);
        assert_eq!(peer.recv_from(&mut [0; 10]).unwrap(), (3, addr));
    }
    let elsewhere = Some(Ipv4Addr::new(192, 0, 2, 77).into());
    assert!(reactor[socket].send_from(b"a lie", &to, elsewhere).is_err());
}

#[cfg(all(feature = "packet-info", target_os = "linux"))]
mod packet_info {
    use std::net::IpAddr;

    use waterwheel::net::udp::Arrival;

    use super::*;

    /// Notes each arrival, and answers from there.
    fn answering(
        reactor: &mut Context<Vec<Arrival>>,
        arrivals: &mut Vec<Arrival>,
        socket: SourceId<udp::Socket>,
        event: udp::Event<'_>,
    ) {
        let udp::Event::Received { from, bytes, .. } = event else { panic!("{event:?}") };
        let arrival = reactor[socket].arrival().unwrap();
        let sent = reactor[socket].send_from(bytes, &from, arrival.own);
        assert_eq!(sent.unwrap(), Pressure::Below);
        arrivals.push(arrival);
    }

    /// Clients whose sockets are connected hear only whom they asked.
    #[test]
    fn answer_comes_from_the_address_that_was_asked() {
        for (on, asked) in [
            ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.1.2.3"][..]),
            ("127.0.0.2:0", &["127.0.0.2"]),
            ("[::]:0", &["::1", "127.0.0.2", "127.0.0.1"]),
        ] {
            let (mut reactor, mut arrivals) = (Reactor::new().unwrap(), Vec::new());
            let bind = udp::Bind::new().packet_info(true).only_v6(false);
            let bind = if on.starts_with('[') { bind } else { udp::Bind::new().packet_info(true) };
            let socket = bind.open(&mut reactor, on, answering).unwrap();
            let port = reactor[socket].local_addr().port();
            for asked in asked {
                let asked: IpAddr = asked.parse().unwrap();
                let client =
                    UdpSocket::bind(if asked.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" });
                let client = client.unwrap();
                client.set_read_timeout(Some(MINUTE)).unwrap();
                client.connect((asked, port)).unwrap();
                client.send(b"hello").unwrap();
                turn_until(&mut reactor, &mut arrivals, |_, arrivals| !arrivals.is_empty());
                assert_eq!(client.recv(&mut [0; 10]).unwrap(), 5, "{asked} on {on}");
                let expected = Arrival { to: asked, own: Some(asked), interface: 1 };
                assert_eq!(arrivals.pop(), Some(expected));
            }
        }
    }

    #[test]
    fn what_was_sent_to_many_is_answered_from_an_address_of_this_host() {
        let (mut reactor, mut arrivals) = (Reactor::new().unwrap(), Vec::new());
        let bind = udp::Bind::new().packet_info(true);
        let socket = bind.open(&mut reactor, "0.0.0.0:0", answering).unwrap();
        let port = reactor[socket].local_addr().port();
        let (group, interface) = (Ipv4Addr::new(239, 255, 77, 3), Ipv4Addr::LOCALHOST);
        reactor[socket].join_v4(&group, &interface).unwrap();
        let client = peer();
        let options = socket2::SockRef::from(&client);
        options.set_broadcast(true).unwrap();
        options.set_multicast_if_v4(&interface).unwrap();
        for to in [group, Ipv4Addr::new(127, 255, 255, 255)] {
            client.send_to(b"who is there?", (to, port)).unwrap();
            turn_until(&mut reactor, &mut arrivals, |_, arrivals| !arrivals.is_empty());
            let own = Some(interface.into());
            assert_eq!(arrivals.pop(), Some(Arrival { to: to.into(), own, interface: 1 }));
            let answered = client.recv_from(&mut [0; 100]).unwrap();
            assert_eq!(answered, (13, (interface, port).into()));
        }
    }

    #[test]
    fn datagrams_are_told_as_without_it() {
        let (mut reactor, socket, addr) =
            bound(udp::Bind::new().packet_info(true).datagram_bytes_max(10));
        let (peer, mut told) = (peer(), Told::default());
        for bytes in [&b"0123456789"[..], b"", b"0123456789x"] {
            peer.send_to(bytes, addr).unwrap();
        }
        turn_until(&mut reactor, &mut told, |_, told| told.received.len() == 3);
        let from = peer.local_addr().unwrap();
        let expected = [(&b"0123456789"[..], false), (b"", false), (b"0123456789", true)];
        for ((who, got, cut), (bytes, truncated)) in told.received.iter().zip(expected) {
            assert_eq!((*who, &**got, *cut), (from, bytes, truncated));
        }
        let long = [7; BYTES_MAX + 1];
        let error =
            reactor[socket].send_from(&long, &from, Some(Ipv4Addr::new(127, 0, 0, 2).into()));
        let too_long = rustix::io::Errno::MSGSIZE.raw_os_error();
        assert_eq!(error.unwrap_err().raw_os_error(), Some(too_long));
        let six = Some(Ipv6Addr::LOCALHOST.into());
        let error = reactor[socket].send_from(b"another family", &from, six).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn receiving_allocates_nothing() {
        let (mut reactor, mut told) = (Reactor::new().unwrap(), 0);
        let bind = udp::Bind::new().packet_info(true);
        let socket = bind.open(&mut reactor, "127.0.0.1:0", |reactor, told, socket, event| {
            let udp::Event::Received { from, bytes, .. } = event else { panic!() };
            let own = reactor[socket].arrival().unwrap().own;
            assert_eq!(reactor[socket].send_from(bytes, &from, own).unwrap(), Pressure::Below);
            *told += 1;
        });
        let (peer, addr) = (peer(), reactor[socket.unwrap()].local_addr());
        let mut round = || {
            peer.send_to(b"request", addr).unwrap();
            assert_eq!(reactor.turn(&mut told, None).unwrap(), 1);
            assert_eq!(peer.recv(&mut [0; 100]).unwrap(), 7);
        };
        round();
        assert_eq!(measure(|| (0..100).for_each(|_| round())).count_total, 0);
    }

    #[test]
    fn member_of_udp_chat_is_spoken_to_from_the_address_it_speaks_to() {
        let (_server, addr) = Process::listening(example("udp_chat").arg("0.0.0.0:0"));
        let connected = |to: &str| {
            let peer = peer();
            peer.connect((to, addr.port())).unwrap();
            peer
        };
        let said = |peer: &UdpSocket| {
            let mut buffer = [0; 100];
            let count = peer.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..count].to_vec()).unwrap()
        };
        let (one, two) = (connected("127.0.0.1"), connected("127.0.0.2"));
        for (count, peer) in [&one, &two].into_iter().enumerate() {
            peer.send(b"/who").unwrap();
            assert!(said(peer).starts_with(&format!("* {} are here", count + 1)));
        }
        assert!(said(&one).ends_with(" joined\n"));
        one.send(b"hello").unwrap();
        assert!(said(&two).ends_with(": hello\n"));
        two.send(b"hello yourself").unwrap();
        assert!(said(&one).ends_with(": hello yourself\n"));
    }
}

#[test]
fn group_of_v6_is_heard_where_there_is_v6() {
    skip_without!(IPV6);
    let mut reactor = Reactor::new().unwrap();
    let bind = udp::Bind::new().multicast_loop(true).multicast_ttl(1).ttl(3).only_v6(true);
    let socket = bind.open(&mut reactor, "[::1]:0", note).unwrap();
    let socket2 = socket2::SockRef::from(&reactor[socket]);
    assert_eq!(socket2.multicast_hops_v6().unwrap(), 1);
    assert_eq!(socket2.unicast_hops_v6().unwrap(), 3);
    assert!(socket2.only_v6().unwrap() && socket2.multicast_loop_v6().unwrap());
    let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 0x77);
    reactor[socket].join_v6(&group, 1).unwrap();
    assert!(reactor[socket].join_v6(&group, 1).is_err(), "joined already");
    reactor[socket].leave_v6(&group, 1).unwrap();
    assert!(reactor[socket].leave_v6(&group, 1).is_err());
    let mut told = Told::default();
    let here = reactor[socket].local_addr();
    assert_eq!(reactor[socket].send_to(b"self", &here).unwrap(), Pressure::Below);
    turn_until(&mut reactor, &mut told, |_, told| told.bytes() == [b"self"]);
}

#[test]
fn options_are_those_that_were_asked_for() {
    let all = SocketAddr::from((Ipv4Addr::new(127, 255, 255, 255), 9));
    let bind = udp::Bind::new().send_buffer_bytes(8192).receive_buffer_bytes(8192).ttl(5);
    let (mut reactor, socket, addr) = bound(bind.reuse_address(true).reuse_port(true));
    let options = socket2::SockRef::from(&reactor[socket]);
    // The kernel doubles what it is asked for, for its own bookkeeping; see socket(7).
    assert_eq!(options.send_buffer_size().unwrap(), 2 * 8192);
    assert_eq!(options.recv_buffer_size().unwrap(), 2 * 8192);
    assert_eq!(options.ttl_v4().unwrap(), 5);
    let error = reactor[socket].send_to(b"broadcast", &all).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let shares = udp::Bind::new().reuse_address(true).reuse_port(true).broadcast(true);
    let shares = shares.open(&mut reactor, addr, note).unwrap();
    assert_eq!(reactor[shares].send_to(b"broadcast", &all).unwrap(), Pressure::Below);
    let taken = udp::bind(&mut reactor, addr, note).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
}

/// 127.255.255.255 is the broadcast address of the loopback's network; whoever shares the port with
/// `SO_REUSEADDR` gets a copy, see socket(7).
#[test]
fn a_broadcast_reaches_everybody_who_listens_on_the_port() {
    let everybody = || udp::Bind::new().reuse_address(true).broadcast(true);
    let mut reactor = Reactor::new().unwrap();
    let one = everybody().open(&mut reactor, "0.0.0.0:0", note).unwrap();
    let port = reactor[one].local_addr().port();
    everybody().open(&mut reactor, ("0.0.0.0", port), note).unwrap();
    let all = SocketAddr::from((Ipv4Addr::new(127, 255, 255, 255), port));
    assert_eq!(reactor[one].send_to(b"hello, all", &all).unwrap(), Pressure::Below);
    let mut told = Told::default();
    turn_until(&mut reactor, &mut told, |_, told| told.bytes().len() == 2);
    assert_eq!(told.bytes(), [b"hello, all", b"hello, all"]);
}

#[test]
fn sockets_out_of_the_loop_and_the_loop_with_sockets_go_quietly() {
    let (mut reactor, socket, addr) = bound(udp::Bind::new());
    let peer = peer();
    peer.send_to(b"queued", addr).unwrap();
    let dropped = Rc::new(Cell::new(0));
    struct Count(Rc<Cell<u32>>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let counts = Count(dropped.clone());
    udp::bind(&mut reactor, "127.0.0.1:0", move |_, _, _, _| panic!("{}", counts.0.get())).unwrap();
    assert!(reactor.why_alive().iter().all(|why| why.to_string().contains("tests/net/udp.rs")));
    assert!(reactor.deregister(socket).is_some());
    let mut told = Told::default();
    turns(&mut reactor, &mut told, 2);
    assert_eq!(told, Told::default());
    drop(reactor);
    assert_eq!(dropped.get(), 1);
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixDatagram;
    use std::path::PathBuf;

    use waterwheel::net::unix::{Address, datagram};
    use waterwheel::timers::ManualClock;

    use super::*;

    #[derive(Debug, Default)]
    struct Told {
        received: Vec<(Address, Vec<u8>, bool)>,
        writable: usize,
        errors: Vec<ErrorKind>,
    }

    fn note(
        _: &mut Context<Told>,
        told: &mut Told,
        _: SourceId<datagram::Socket>,
        event: datagram::Event<'_>,
    ) {
        match event {
            datagram::Event::Received { from, bytes, truncated } => {
                told.received.push((from, bytes.to_vec(), truncated));
            }
            datagram::Event::Writable => told.writable += 1,
            datagram::Event::Error(error) => told.errors.push(error.kind()),
        }
    }

    /// A path of the test's own, removed when it ends.
    struct Temp(PathBuf);

    impl Temp {
        fn new(name: &str) -> Temp {
            let name = format!("ww-{name}-{}", std::process::id());
            Temp(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn nc_is_answered_through_a_socket_file() {
        skip_without!(NC);
        let (temp, mut reactor) = (Temp::new("dgram-nc"), Reactor::new().unwrap());
        datagram::bind(&mut reactor, &temp.0, |reactor, heard, socket, event| {
            let datagram::Event::Received { from, bytes, .. } = event else { panic!() };
            assert_eq!(reactor[socket].send_to(bytes, &from).unwrap(), Pressure::Below);
            *heard += 1;
        })
        .unwrap();
        let mut nc = Process::start(NC.command().arg("-uU").arg(&temp.0));
        nc.type_in("hello\n");
        let mut heard = 0;
        turn_until(&mut reactor, &mut heard, |_, heard| *heard == 1);
        assert_eq!(nc.line(), "hello");
    }

    #[test]
    fn file_is_made_with_its_mode_replaced_when_stale_and_goes_with_the_socket() {
        let (temp, mut reactor) = (Temp::new("dgram-file"), Reactor::new().unwrap());
        drop(UnixDatagram::bind(&temp.0).unwrap());
        let socket = datagram::Bind::new().mode(0o600).open(&mut reactor, &temp.0, note).unwrap();
        assert_eq!(fs::metadata(&temp.0).unwrap().permissions().mode() & 0o777, 0o600);
        let error = datagram::bind(&mut reactor, &temp.0, note).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("{}: somebody is there already", temp.0.display()));
        let mut told = Told::default();
        UnixDatagram::unbound().unwrap().send_to(b"hello", &temp.0).unwrap();
        turn_until(&mut reactor, &mut told, |_, told| told.received.len() == 1);
        assert!(told.received[0].0.is_unnamed() && told.received[0].1 == b"hello");
        assert!(reactor[socket].is_reachable());
        reactor.remove(socket);
        assert!(!temp.0.exists());
        let error = datagram::connect(&mut reactor, &temp.0, note).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().starts_with(&*temp.0.to_string_lossy()));
    }

    #[test]
    fn longer_datagrams_than_the_loops_buffer_are_cut_off_and_said_to_be() {
        let (temp, mut reactor) = (Temp::new("dgram-long"), Reactor::new().unwrap());
        datagram::bind(&mut reactor, &temp.0, note).unwrap();
        let (peer, mut told) = (UnixDatagram::unbound().unwrap(), Told::default());
        for (number, count) in [65_535, 65_536, 100_000, 0].into_iter().enumerate() {
            peer.send_to(&vec![7; count], &temp.0).unwrap();
            turn_until(&mut reactor, &mut told, |_, told| told.received.len() == number + 1);
        }
        let told = told.received.iter().map(|(_, bytes, truncated)| (bytes.len(), *truncated));
        assert!(told.eq([(65_535, false), (65_535, true), (65_535, true), (0, false)]));
    }

    /// Sends until it is refused, counts what was taken.
    fn fill(mut send: impl FnMut() -> Pressure) -> usize {
        (0..100_000).find(|_| send() == Pressure::Refused).expect("a limit")
    }

    #[test]
    fn connected_to_a_full_receiver_a_send_is_refused_and_room_is_told_once() {
        let (temp, mut reactor) = (Temp::new("dgram-full"), Reactor::new().unwrap());
        let receiver = UnixDatagram::bind(&temp.0).unwrap();
        let socket = datagram::connect(&mut reactor, &temp.0, note).unwrap();
        let mut told = Told::default();
        let taken = fill(|| reactor[socket].send(b"x").unwrap());
        assert!(taken > 0);
        turns(&mut reactor, &mut told, 3);
        assert_eq!((told.writable, reactor.timers()), (0, 0), "the kernel is to say");
        for _ in 0..taken {
            assert_eq!(receiver.recv(&mut [0; 10]).unwrap(), 1);
        }
        turn_until(&mut reactor, &mut told, |_, told| told.writable > 0);
        assert_eq!(reactor[socket].send(b"y").unwrap(), Pressure::Below);
        turns(&mut reactor, &mut told, 3);
        assert_eq!(told.writable, 1);
        // And again: it is watched anew.
        fill(|| reactor[socket].send(b"x").unwrap());
        turns(&mut reactor, &mut told, 2);
        receiver.set_nonblocking(true).unwrap();
        while receiver.recv(&mut [0; 10]).is_ok() {}
        turn_until(&mut reactor, &mut told, |_, told| told.writable == 2);
        assert_eq!(told.errors, []);
    }

    #[test]
    fn handler_that_panics_at_the_news_of_room_hears_of_the_next_room() {
        let (temp, mut reactor) = (Temp::new("dgram-panic"), Reactor::new().unwrap());
        let receiver = UnixDatagram::bind(&temp.0).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let socket = datagram::connect(&mut reactor, &temp.0, |reactor, told, socket, _| {
            *told += 1;
            fill(|| reactor[socket].send(b"more").unwrap());
            assert!(*told != 1, "the handler's own fault");
        });
        let (socket, mut told) = (socket.unwrap(), 0);
        fill(|| reactor[socket].send(b"x").unwrap());
        turns(&mut reactor, &mut told, 2);
        while receiver.recv(&mut [0; 10]).is_ok() {}
        let turn = AssertUnwindSafe(|| reactor.turn(&mut told, Some(MINUTE)));
        assert!(catch_unwind(turn).is_err());
        turns(&mut reactor, &mut told, 3);
        assert_eq!(told, 1, "there is no room");
        while receiver.recv(&mut [0; 10]).is_ok() {}
        turn_until(&mut reactor, &mut told, |_, told| *told == 2);
    }

    #[test]
    fn without_a_connection_room_is_asked_for_by_the_clock() {
        let (temp, clock) = (Temp::new("dgram-clock"), ManualClock::new());
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        let receiver = UnixDatagram::bind(&temp.0).unwrap();
        let own = Temp::new("dgram-own");
        let socket = datagram::bind(&mut reactor, &own.0, note).unwrap();
        let (to, mut told) = (Address::path(&temp.0).unwrap(), Told::default());
        fill(|| reactor[socket].send_to(b"x", &to).unwrap());
        let begin = reactor.now();
        // Whatever else happens does not put it off.
        for _ in 0..9 {
            clock.advance(Duration::from_millis(1));
            assert_eq!(reactor[socket].send_to(b"x", &to).unwrap(), Pressure::Refused);
            turns(&mut reactor, &mut told, 1);
            assert_eq!(told.writable, 0);
        }
        turn_until(&mut reactor, &mut told, |reactor, told| {
            reactor.turn(told, None).unwrap();
            told.writable == 1
        });
        assert!(reactor.now() - begin <= Duration::from_millis(20));
        assert_eq!(receiver.recv(&mut [0; 10]).unwrap(), 1);
        assert_eq!(reactor[socket].send_to(b"y", &to).unwrap(), Pressure::Below);
        drop(receiver);
        let error = reactor[socket].send_to(b"gone", &to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with(&*temp.0.to_string_lossy()));
        turns(&mut reactor, &mut told, 2);
        assert_eq!((told.writable, told.errors.len()), (1, 0), "told by the answer, not again");
    }
}
