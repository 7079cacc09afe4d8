//! Peers that vanish without a word, their cable cut: every example server that would wait for ever
//! has TCP ask them, on each of its sockets.
#![cfg(target_os = "linux")]

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;
use support::ceiling;
use support::process::{Client, Process, example};
use waterwheel::Reactor;
use waterwheel::net::Stream;
use waterwheel::net::tcp::{Connect, Listen};

const LIMIT: Duration = Duration::from_secs(120);
/// What the examples say in their help.
const EVERY: Duration = Duration::from_secs(15);
/// In which proc_net_tcp(5) counts.
const TICKS_PER_SECOND: u64 = 100;

/// How long until the kernel asks the peer of the socket that has these addresses, if it will and
/// waits for nothing else.
fn until_asked(own: SocketAddr, peer: SocketAddr) -> Option<Duration> {
    let hex = |addr: SocketAddr| {
        let SocketAddr::V4(v4) = addr else { panic!("{addr} is not of IPv4") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port())
    };
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let (own, peer) = (hex(own), hex(peer));
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1] == own && row[2] == peer)?;
    let (timer, left) = row[5].split_once(':')?;
    let ticks = u64::from_str_radix(left, 16).unwrap();
    let keepalive = "02"; // The others are that of what is unacknowledged, and of a window of zero.
    (timer == keepalive).then(|| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// [`until_asked`], as soon as it will.
fn await_question(own: SocketAddr, peer: SocketAddr) -> Duration {
    loop {
        if let Some(left) = until_asked(own, peer) {
            return left;
        }
        std::thread::yield_now(); // Nothing tells that the server has accepted.
    }
}

fn is_asked(name: &str, own: SocketAddr, peer: SocketAddr) {
    let left = await_question(own, peer);
    assert!(left <= EVERY, "{name}: {left:?}");
}

#[test]
fn servers_ask_whether_their_silent_clients_are_there() {
    let _ceiling = ceiling(LIMIT);
    let mut servers = vec!["chat", "echo", "embed", "mq", "mqtt", "multicore", "redis", "socks"];
    servers.extend(["logs", "tls_echo", "vault"].iter().filter(|_| cfg!(feature = "tls")));
    for name in servers {
        let (_server, addr) = Process::serve(name);
        let client = TcpStream::connect(addr).unwrap();
        is_asked(name, addr, client.local_addr().unwrap());
    }
    let (_workers, addr) =
        Process::listening(example("workers").args(["127.0.0.1:0", "--hashes", "1000000"]));
    let client = TcpStream::connect(addr).unwrap();
    is_asked("workers", addr, client.local_addr().unwrap());
}

#[test]
fn proxies_ask_on_both_sides() {
    let _ceiling = ceiling(LIMIT);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = server.local_addr().unwrap();
    let (_proxy, proxy) =
        Process::listening(example("proxy").args(["127.0.0.1:0", &upstream.to_string()]));
    let (_socks, socks) = Process::serve("socks");
    let SocketAddr::V4(v4) = upstream else { panic!("it is of IPv4") };
    let (ip, port) = (v4.ip().octets(), v4.port().to_be_bytes());
    let request = [&[5, 1, 0, 5, 1, 0, 1][..], &ip, &port].concat();
    for (name, addr, says) in [("proxy", proxy, &b"hello"[..]), ("socks", socks, &request)] {
        let mut client = Client::connect(addr);
        client.send(says);
        let (_there, peer) = server.accept().unwrap();
        is_asked(name, addr, client.0.get_ref().local_addr().unwrap());
        is_asked(name, peer, upstream);
    }
}

#[test]
fn connections_are_made_with_keep_alive_if_that_is_asked_for() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    for every in [None, Some(Duration::from_millis(6001)), Some(Duration::from_secs(7))] {
        let mut reactor = Reactor::new().unwrap();
        let name = server.local_addr().unwrap().to_string();
        let connect = Connect::new().keepalive(every);
        let done = |_: &mut _, made: &mut Option<Stream>, result: io::Result<Stream>| {
            *made = result.ok();
        };
        connect.open(&mut reactor, &name, done).unwrap();
        let mut made = None;
        reactor.run(&mut made).unwrap();
        assert!(made.is_some());
        let (there, peer) = server.accept().unwrap();
        assert!(!SockRef::from(&there).keepalive().unwrap());
        let left = until_asked(peer, server.local_addr().unwrap());
        assert_eq!(left.is_some(), every.is_some());
        assert!(left.is_none_or(|left| left <= Duration::from_secs(7)), "{left:?}");
    }
}

/// What is too short or too long for the kernel is the nearest that it takes.
#[test]
fn listeners_accept_with_keep_alive_however_often_it_is_to_ask() {
    let _ceiling = ceiling(LIMIT);
    for (every, most) in [
        (Duration::ZERO, Duration::from_secs(1)),
        (Duration::from_millis(1001), Duration::from_secs(2)),
        (Duration::MAX, Duration::from_secs(32_767)),
    ] {
        let mut reactor = Reactor::new().unwrap();
        let listen = Listen::new().keepalive(Some(every));
        let accepted = |_: &mut _, accepted: &mut Option<Stream>, stream| *accepted = Some(stream);
        let listener = listen.open(&mut reactor, "127.0.0.1:0", accepted).unwrap();
        let own = reactor[listener].local_addr();
        let peer = TcpStream::connect(own).unwrap();
        let mut accepted = None;
        while accepted.is_none() {
            reactor.turn(&mut accepted, None).unwrap();
        }
        let socket = SockRef::from(&peer);
        assert!(!socket.keepalive().unwrap(), "the peer's own affair");
        let left = await_question(own, peer.local_addr().unwrap());
        assert!(left <= most && left + LIMIT >= most, "{left:?}");
    }
}
