//! The proxy, between real clients and real servers. Needs nc (OpenBSD's) and socat.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::clients::{NC, SOCAT, skip_without};
use support::hosts;
use support::process::{Client, Process, example, output};
use support::tcp;
use support::tcp::Flow;
use support::{Rng, ceiling};

fn proxy(upstream: SocketAddr, options: &[&str]) -> (Process, SocketAddr) {
    Process::listening(example("proxy").args(options).args(["0", &upstream.to_string()]))
}

/// What the proxy says of a connection that has ended, without who and how long.
fn said(proxy: &mut Process) -> String {
    let line = proxy.line();
    let (_peer, report) = line.split_once(": ").expect("who, and what became of it");
    let (bytes, ends) = report.split_once(" ms; ").unwrap_or((report, ""));
    let (bytes, _ms) = bytes.rsplit_once(", ").unwrap_or((bytes, ""));
    format!("{bytes}; {ends}")
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    // A name that nobody has today may be there tomorrow: a broken run, not bad usage.
    let unknown = ["0", "name.invalid:7001"];
    for (args, because) in [
        (&["0", "nonsense"][..], "cannot look up nonsense: "),
        (&unknown, "cannot look up name.invalid:7001: "),
        (&["0", "::1"], "cannot look up ::1: not a host and a port"),
        (&["nonsense", "7001"], "cannot listen on nonsense: "),
        (&["*:0", "7001"], "cannot listen on *:0: not a host and a port"),
        (&["1", "2", "3"], "\"3\"; try --help"),
    ] {
        let out = output("proxy", args);
        let said = String::from_utf8(out.stderr).unwrap();
        let code = if args == unknown { 1 } else { 2 };
        assert_eq!((out.status.code(), said.lines().count()), (Some(code), 1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{said}");
    }
    let help = output("proxy", &["--help"]).stdout;
    assert!(help.starts_with(b"Usage: proxy [OPTIONS] [LISTEN [UPSTREAM]]"));
}

/// Of a name with two addresses, at one of which nobody listens, and the other way round.
#[cfg(target_os = "linux")]
#[test]
fn upstream_is_any_of_its_names_addresses() {
    skip_without!(UNSHARE, IPV6);
    for listens in ["127.0.0.1:0", "[::1]:0"] {
        let hosts = hosts::Hosts::new("::1 both.test\n127.0.0.1 both.test\n");
        let server = TcpListener::bind(listens).expect("this machine has an IPv6 loopback");
        let upstream = format!("both.test:{}", server.local_addr().unwrap().port());
        let mut proxy = hosts.run(&example("proxy"), &["0", &upstream]);
        let (_proxy, addr) = Process::listening(&mut proxy);
        for _ in 0..2 {
            let mut client = Client::connect(addr);
            client.send("hello\n");
            let mut served = Client::over(server.accept().unwrap().0);
            assert_eq!(served.line(), "hello");
            served.send("bye\n");
            assert_eq!(client.line(), "bye");
        }
    }
}

#[test]
fn upstream_that_is_an_address_of_ipv6_is_reached_with_its_zone_too() {
    let server = TcpListener::bind("[::1]:0").expect("this machine has an IPv6 loopback");
    let port = server.local_addr().unwrap().port();
    for host in ["[::1]", "[::1%lo]", "[::1%1]"] {
        if host.contains("lo") && !cfg!(target_os = "linux") {
            continue;
        }
        let (_proxy, addr) =
            Process::listening(example("proxy").args(["0", &format!("{host}:{port}")]));
        let mut client = Client::connect(addr);
        let mut served = Client::over(server.accept().unwrap().0);
        served.send("bye\n");
        assert_eq!(client.line(), "bye");
    }
}

#[test]
fn nc_and_socat_get_everything_back_through_it() {
    skip_without!(NC, SOCAT);
    let (_echo, echo) = Process::serve("echo");
    let (mut proxy, addr) = proxy(echo, &[]);
    let mut rng = Rng::new();
    let sent: Vec<u8> = (0..1_000_000).map(|_| rng.next() as u8).collect();
    let [host, port] = [addr.ip().to_string(), addr.port().to_string()];
    let socat = format!("TCP:{addr}");
    for (client, args) in [(&NC, &["-N", &host, &port][..]), (&SOCAT, &["-t60", "-", &socat])] {
        let got = Process::start(client.command().args(args)).pass(&sent);
        assert!(got == sent, "{}: {} bytes came back of {}", client.name, got.len(), sent.len());
        assert_eq!(
            said(&mut proxy),
            "1000000 bytes there, 1000000 back; client finished, upstream finished"
        );
    }
}

/// The sink reads nothing until the source is stuck, and what lies between them is full.
#[test]
fn a_gibibyte_passes_in_bounded_memory() {
    const SENT: usize = 1 << 30;
    let _ceiling = ceiling(Duration::from_secs(120));
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut proxy, addr) = proxy(server.local_addr().unwrap(), &[]);
    let client = TcpStream::connect(addr).unwrap();
    let (mut sink, _) = server.accept().unwrap();
    let (stuck, is_stuck) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut sent = Flow::default();
            client.set_nonblocking(true).unwrap();
            while sent.at < SENT {
                match (&client).write(sent.peek((SENT - sent.at).min(256 * 1024))) {
                    Ok(count) => sent.at += count,
                    Err(_) => {
                        let wait = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
                        let ready = poll(&mut [PollFd::new(&client, PollFlags::OUT)], Some(&wait));
                        let _ = ready.unwrap() > 0 || stuck.send(()).is_ok();
                    }
                }
            }
            client.shutdown(Shutdown::Write).unwrap();
            client.set_nonblocking(false).unwrap();
            assert_eq!((&client).read(&mut [0]).unwrap(), 0);
        });
        is_stuck.recv().expect("less than a gibibyte fits in between");
        let (mut received, mut buffer) = (Flow::default(), vec![0; 256 * 1024]);
        loop {
            match sink.read(&mut buffer).unwrap() {
                0 => break,
                count => received.check(&buffer[..count]),
            }
        }
        assert_eq!(received.at, SENT);
        drop(sink);
    });
    let resident = proxy.resident_kib_max();
    println!("resident at most: {resident} KiB");
    assert!(resident < 16 * 1024, "{resident} KiB");
    assert_eq!(
        said(&mut proxy),
        format!("{SENT} bytes there, 0 back; client finished, upstream finished")
    );
}

#[test]
fn each_direction_ends_on_its_own() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut proxy, addr) = proxy(server.local_addr().unwrap(), &[]);
    let mut client = Client::connect(addr);
    let mut upstream = Client::over(server.accept().unwrap().0);
    client.send("all of the question");
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(upstream.rest(), "all of the question");
    upstream.send("answer\n");
    assert_eq!(client.line(), "answer");
    upstream.send("more of it\n");
    drop(upstream);
    assert_eq!(client.rest(), "more of it\n");
    assert_eq!(said(&mut proxy), "19 bytes there, 18 back; client finished, upstream finished");
}

#[test]
fn reset_of_the_upstream_resets_the_client() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut proxy, addr) = proxy(server.local_addr().unwrap(), &[]);
    let mut client = Client::connect(addr);
    let mut upstream = server.accept().unwrap().0;
    client.send("hello");
    upstream.read_exact(&mut [0; 5]).unwrap();
    tcp::reset_on_drop(&upstream).unwrap();
    drop(upstream);
    let error = client.0.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(said(&mut proxy).ends_with("client aborted, upstream reset by the peer"));
}

#[test]
fn upstream_that_refuses_or_cannot_be_reached_ends_the_client_and_not_the_proxy() {
    // A port that was free a moment ago; and broadcast, to which connecting cannot even begin, as
    // when no local port is left.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (upstream, because) in [(free, "refused"), ("255.255.255.255:1".parse().unwrap(), "error")]
    {
        let (mut proxy, addr) = proxy(upstream, &[]);
        for _ in 0..3 {
            let mut client = Client::connect(addr);
            let ended = client.0.read_to_end(&mut Vec::new());
            assert!(ended.is_err() || ended.unwrap() == 0);
            let line = proxy.line();
            assert!(line.contains(because), "{line}");
        }
        let mut client = Client::connect(addr);
        client.0.get_mut().write_all(b"anybody there?").unwrap();
        let _ = client.0.read_to_end(&mut Vec::new());
        proxy.line();
    }
}

#[test]
fn delay_is_kept_both_ways_and_loses_nothing() {
    let (_echo, echo) = Process::serve("echo");
    let (mut proxy, addr) = proxy(echo, &["--delay", "50"]);
    let mut client = Client::connect(addr);
    for _ in 0..3 {
        let begun = Instant::now();
        client.send("there and back\n");
        assert_eq!(client.line(), "there and back");
        assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
    }
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), "");
    assert_eq!(said(&mut proxy), "45 bytes there, 45 back; client finished, upstream finished");
}

#[test]
fn rate_is_kept() {
    let (_echo, echo) = Process::serve("echo");
    let (_proxy, addr) = proxy(echo, &["--rate", "1000000"]);
    let client = Client::connect(addr).0.into_inner();
    let begun = Instant::now();
    let mut got = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&[7; 500_000]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        (&client).read_to_end(&mut got).unwrap();
    });
    assert_eq!(got.len(), 500_000);
    // All but the burst, a tenth of a second's worth, took its time; a machine may be slow.
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
}
