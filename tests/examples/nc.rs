//! The example `nc`, with the real nc and socat at the other end, in both roles.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::clients::{NC, Need, SOCAT, skip_without};
use support::hosts;
use support::process::{example, output};
use support::{Rng, ceiling};

const LIMIT: Duration = Duration::from_secs(100);
const MUCH: usize = 10_000_000;

/// A netcat of any make, which does not outlive its test.
struct Cat {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    /// What it says on stderr.
    said: BufReader<std::process::ChildStderr>,
}

impl Cat {
    fn start(mut command: Command) -> Cat {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let said = BufReader::new(child.stderr.take().unwrap());
        Cat { child, stdin, stdout, said }
    }

    fn ours(args: &[&str]) -> Cat {
        let mut command = example("nc");
        command.args(args);
        Cat::start(command)
    }

    fn other(client: &'static Need, args: &[&str]) -> Cat {
        let mut command = client.command();
        command.args(args);
        Cat::start(command)
    }

    /// Waits until it listens, and answers on which port, if it has one.
    fn port(&mut self) -> String {
        let mut line = String::new();
        while !line.to_lowercase().contains("listening on") {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "it ended: {}", self.errors());
        }
        line.trim().rsplit([' ', ':']).next().unwrap().to_owned()
    }

    fn errors(&mut self) -> String {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        rest
    }

    fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Reads from its stdout exactly what is expected.
    fn expect(&mut self, text: &str) {
        let mut got = vec![0; text.len()];
        self.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), text);
    }

    /// The rest of its stdout, and its exit code; stdin stays as it is.
    fn end(&mut self) -> (Vec<u8>, i32) {
        let mut rest = Vec::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_end(&mut rest).unwrap();
        }
        (rest, self.child.wait().unwrap().code().expect("it was not killed"))
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended.
        let _ = self.child.wait();
    }
}

/// A path for a socket; it is removed first.
fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("waterwheel-nc-{}-{name}", std::process::id()));
    let _ = fs::remove_file(&path); // As a rule there is none.
    path
}

fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut rng = Rng::from_seed(seed);
    let mut bytes: Vec<u8> =
        (0..count.div_ceil(8)).flat_map(|_| rng.next().to_ne_bytes()).collect();
    bytes.truncate(count);
    bytes
}

/// Sends `MUCH` both ways at the same time, and checks every bit of it.
fn exchange(mut a: Cat, mut b: Cat, between: &str) {
    let (from_a, from_b) = (bytes(1, MUCH), bytes(2, MUCH));
    let (mut a_in, mut b_in) = (a.stdin.take().unwrap(), b.stdin.take().unwrap());
    thread::scope(|scope| {
        let (sent_a, sent_b) = (&from_a, &from_b);
        scope.spawn(move || a_in.write_all(sent_a).unwrap());
        scope.spawn(move || b_in.write_all(sent_b).unwrap());
        let (got_a, got_b) = (scope.spawn(|| a.end()), scope.spawn(|| b.end()));
        let ((got_a, code_a), (got_b, code_b)) = (got_a.join().unwrap(), got_b.join().unwrap());
        assert_eq!((got_a.len(), got_b.len()), (MUCH, MUCH), "{between}");
        assert!(got_a == from_b && got_b == from_a, "{between}");
        assert_eq!((code_a, code_b), (0, 0), "{between}");
    });
}

// A listening nc ends when its peer has finished, so in these the listener finishes first (-N), and
// the other when both have.

#[test]
fn ten_megabytes_go_both_ways_to_a_listening_nc() {
    skip_without!(NC);
    let _ceiling = ceiling(LIMIT);
    let mut listener = Cat::other(&NC, &["-v", "-N", "-l", "127.0.0.1", "0"]);
    let port = listener.port();
    exchange(Cat::ours(&["127.0.0.1", &port]), listener, "ours, nc -l");
}

#[test]
fn ten_megabytes_go_both_ways_to_a_listening_socat() {
    skip_without!(SOCAT);
    let _ceiling = ceiling(LIMIT);
    let args = ["-d", "-d", "-t", "60", "-", "TCP-LISTEN:0,bind=127.0.0.1"];
    let mut listener = Cat::other(&SOCAT, &args);
    let port = listener.port();
    exchange(Cat::ours(&["localhost", &port]), listener, "ours, socat");
}

#[test]
fn ten_megabytes_go_both_ways_from_nc_when_we_listen() {
    skip_without!(NC);
    let _ceiling = ceiling(LIMIT);
    let mut listener = Cat::ours(&["-N", "-l", "127.0.0.1", "0"]);
    let port = listener.port();
    exchange(listener, Cat::other(&NC, &["127.0.0.1", &port]), "ours -l, nc");
}

#[test]
fn ten_megabytes_go_both_ways_from_ours_when_we_listen() {
    let _ceiling = ceiling(LIMIT);
    let mut listener = Cat::ours(&["-Nl", "0"]);
    let port = listener.port();
    exchange(listener, Cat::ours(&["localhost", &port]), "ours -l, ours");
}

#[test]
fn ten_megabytes_go_both_ways_over_a_unix_socket() {
    skip_without!(NC, SOCAT);
    let _ceiling = ceiling(LIMIT);
    let name = path("listening");
    let name = name.to_str().unwrap();
    let mut listener = Cat::other(&NC, &["-v", "-N", "-l", "-U", name]);
    listener.port();
    exchange(Cat::ours(&["-U", name]), listener, "ours -U, nc -lU");
    fs::remove_file(name).unwrap();
    let mut listener = Cat::ours(&["-NlU", name]);
    listener.port();
    exchange(listener, Cat::other(&NC, &["-U", name]), "ours -lU, nc -U");
    assert!(!fs::exists(name).unwrap(), "the socket's file is left behind");
    let args = ["-d", "-d", "-t", "60", "-", &format!("UNIX-LISTEN:{name}")];
    let mut listener = Cat::other(&SOCAT, &args);
    listener.port();
    exchange(Cat::ours(&["-U", name]), listener, "ours -U, socat");
}

#[test]
fn peer_hears_of_the_end_of_stdin_with_capital_n_only() {
    let _ceiling = ceiling(LIMIT);
    for (half_closes, flags) in [(true, &["-N"][..]), (false, &[])] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let mut cat = Cat::ours(&[flags, &["127.0.0.1", &port]].concat());
        let mut peer = server.accept().unwrap().0;
        cat.write("question");
        cat.stdin = None;
        let mut got = [0; 8];
        peer.read_exact(&mut got).unwrap();
        peer.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let end = peer.read(&mut got);
        assert_eq!(end.is_ok_and(|count| count == 0), half_closes, "{flags:?}");
        peer.write_all(b"answer").unwrap(); // After the end of our input: still printed.
        cat.expect("answer");
        drop(peer);
        assert_eq!(cat.end(), (Vec::new(), 0));
    }
}

#[test]
fn client_goes_on_sending_when_the_server_has_finished() {
    let _ceiling = ceiling(LIMIT);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let mut cat = Cat::ours(&["127.0.0.1", &port]);
    let mut peer = server.accept().unwrap().0;
    peer.write_all(b"that is all").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    cat.expect("that is all");
    cat.write("not yet");
    let mut got = [0; 7];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"not yet");
    cat.stdin = None;
    assert_eq!(cat.end(), (Vec::new(), 0));
    assert_eq!(peer.read(&mut got).unwrap(), 0);
}

#[test]
fn listener_ends_with_its_peer_though_stdin_is_open() {
    let _ceiling = ceiling(LIMIT);
    let mut cat = Cat::ours(&["-l", "0"]);
    let addr = format!("127.0.0.1:{}", cat.port());
    let mut peer = TcpStream::connect(&addr).unwrap();
    peer.write_all(b"x").unwrap();
    cat.expect("x");
    assert!(TcpStream::connect(&addr).is_err(), "one connection is what it was for");
    drop(peer);
    assert_eq!(cat.end(), (Vec::new(), 0));
}

#[test]
fn silence_ends_it_after_w_seconds_and_traffic_puts_that_off() {
    let _ceiling = ceiling(LIMIT);
    let mut cat = Cat::ours(&["-w", "1", "-l", "0"]);
    let mut peer = TcpStream::connect(format!("127.0.0.1:{}", cat.port())).unwrap();
    let begin = Instant::now();
    let mut last = begin;
    while begin.elapsed() < Duration::from_millis(1500) {
        last = Instant::now();
        peer.write_all(b"x").unwrap();
        cat.expect("x");
    }
    assert!(cat.is_running());
    assert_eq!(cat.end(), (Vec::new(), 0));
    assert!(last.elapsed() >= Duration::from_secs(1), "{:?}", last.elapsed());
}

#[test]
fn reset_is_an_error() {
    let _ceiling = ceiling(LIMIT);
    let mut cat = Cat::ours(&["-l", "0"]);
    let mut peer = TcpStream::connect(format!("127.0.0.1:{}", cat.port())).unwrap();
    peer.write_all(b"half of").unwrap();
    cat.expect("half of");
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(cat.end(), (Vec::new(), 1));
    assert_eq!(cat.errors(), "error: the connection broke: reset by the peer\n");
}

#[test]
fn it_ends_when_nobody_reads_its_stdout() {
    let _ceiling = ceiling(LIMIT);
    let mut cat = Cat::ours(&["-l", "0"]);
    let mut peer = TcpStream::connect(format!("127.0.0.1:{}", cat.port())).unwrap();
    peer.write_all(b"x").unwrap();
    cat.expect("x");
    cat.stdout = None;
    while peer.write_all(b"more").is_ok() {}
    assert_eq!(cat.end().1, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn full_disk_is_an_error() {
    let _ceiling = ceiling(LIMIT);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = example("nc");
    command.args(["127.0.0.1", &port]).stdin(Stdio::null()).stdout(full).stderr(Stdio::piped());
    let ours = command.spawn().unwrap();
    server.accept().unwrap().0.write_all(b"hello").unwrap();
    let ended = ours.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && said.contains("No space left"), "{said}");
}

#[test]
fn slow_reader_of_stdout_holds_the_sender_up_and_loses_nothing() {
    let _ceiling = ceiling(LIMIT);
    let mut cat = Cat::ours(&["-l", "0"]);
    let mut peer = TcpStream::connect(format!("127.0.0.1:{}", cat.port())).unwrap();
    peer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let all = bytes(3, 3 * MUCH);
    let mut left = &all[..];
    // Nobody reads yet, so it is not long until there is no room anywhere.
    while let Ok(sent) = peer.write(left) {
        left = &left[sent..];
        assert!(!left.is_empty(), "{} bytes fit into no buffer of ours", all.len());
    }
    let status = fs::read_to_string(format!("/proc/{}/status", cat.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 20_000, "{peak} KiB");
    thread::scope(|scope| {
        let reading = scope.spawn(|| cat.end());
        peer.set_write_timeout(Some(LIMIT)).unwrap();
        peer.write_all(left).unwrap();
        drop(peer);
        let (got, code) = reading.join().unwrap();
        assert!(got == all && code == 0);
    });
}

/// Lines to and fro, one at a time: datagrams that nobody waits for may get lost.
fn talk(a: &mut Cat, b: &mut Cat) {
    for round in 0..50 {
        let line = format!("round {round}\n");
        a.write(&line);
        b.expect(&line);
        b.write(&line);
        a.expect(&line);
    }
}

#[test]
fn datagrams_go_both_ways_to_and_from_the_real_ones() {
    skip_without!(NC, SOCAT);
    let _ceiling = ceiling(LIMIT);
    let mut listener = Cat::other(&NC, &["-v", "-u", "-l", "127.0.0.1", "0"]);
    let mut line = String::new();
    listener.said.read_line(&mut line).unwrap(); // Bound on localhost 40123
    let port = line.trim().rsplit(' ').next().unwrap().to_owned();
    talk(&mut Cat::ours(&["-u", "127.0.0.1", &port]), &mut listener);
    let mut listener = Cat::ours(&["-u", "-l", "0"]);
    let port = listener.port();
    talk(&mut Cat::other(&NC, &["-u", "127.0.0.1", &port]), &mut listener);
    let mut listener = Cat::ours(&["-u", "-l", "0"]);
    let port = listener.port();
    talk(&mut Cat::other(&SOCAT, &["-", &format!("UDP:127.0.0.1:{port}")]), &mut listener);
}

#[test]
fn datagrams_end_by_patience_only_and_stdin_is_cut_into_pieces() {
    let _ceiling = ceiling(LIMIT);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    let port = peer.local_addr().unwrap().port().to_string();
    let mut cat = Cat::ours(&["-w", "1", "-u", "127.0.0.1", &port]);
    let sent = bytes(4, 40_000);
    cat.stdin.take().unwrap().write_all(&sent).unwrap();
    let mut got: Vec<u8> = Vec::new();
    let mut datagram = [0; 65_536];
    let mut from = None;
    while got.len() < sent.len() {
        let (count, sender) = peer.recv_from(&mut datagram).unwrap();
        assert!(count <= 16 * 1024, "{count}");
        got.extend(&datagram[..count]);
        from = Some(sender);
    }
    assert!(got == sent);
    peer.send_to(b"thanks", from.unwrap()).unwrap();
    cat.expect("thanks"); // The end of stdin is not the end.
    assert_eq!(cat.end(), (Vec::new(), 0));
}

#[test]
fn listener_hears_the_first_sender_only() {
    let _ceiling = ceiling(LIMIT);
    let mut cat = Cat::ours(&["-ul", "0"]);
    let addr = format!("127.0.0.1:{}", cat.port());
    let [first, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    first.send_to(b"one ", &addr).unwrap();
    cat.expect("one ");
    other.send_to(b"not me ", &addr).unwrap();
    first.send_to(b"two", &addr).unwrap();
    cat.expect("two");
    cat.write("answer");
    first.set_read_timeout(Some(LIMIT)).unwrap();
    let mut got = [0; 100];
    assert_eq!(first.recv(&mut got).unwrap(), 6);
    assert_eq!(&got[..6], b"answer");
}

/// A client whose socket is connected hears nobody else.
#[cfg(all(feature = "packet-info", target_os = "linux"))]
#[test]
fn listener_on_all_addresses_answers_from_the_one_that_was_asked() {
    skip_without!(NC);
    let _ceiling = ceiling(LIMIT);
    let mut cat = Cat::ours(&["-ul", "0.0.0.0", "0"]);
    let port = cat.port();
    let mut client = Cat::other(&NC, &["-u", "127.0.0.2", &port]);
    talk(&mut client, &mut cat);
}

#[test]
fn datagrams_to_nobody_are_an_error() {
    let _ceiling = ceiling(LIMIT);
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut cat = Cat::ours(&["-u", "127.0.0.1", &nobody]);
    cat.write("anybody?");
    assert_eq!(cat.end(), (Vec::new(), 1));
    assert!(cat.errors().starts_with("error: the connection broke: Connection refused"));
}

/// The first address has nobody; only what is sent finds that out.
#[cfg(target_os = "linux")]
#[test]
fn datagrams_go_to_the_address_of_a_name_that_has_somebody() {
    skip_without!(UNSHARE, IPV6);
    let _ceiling = ceiling(LIMIT);
    for listens in ["127.0.0.1:0", "[::1]:0"] {
        let lines = "::1 two.test\n127.0.0.2 two.test\n127.0.0.1 two.test\n";
        let hosts = hosts::Hosts::new(lines);
        let peer = UdpSocket::bind(listens).expect("this machine has an IPv6 loopback");
        peer.set_read_timeout(Some(LIMIT)).unwrap();
        let port = peer.local_addr().unwrap().port().to_string();
        let mut cat = Cat::start(hosts.run(&example("nc"), &["-u", "two.test", &port]));
        cat.write("first ");
        let mut got = [0; 100];
        let (count, from) = peer.recv_from(&mut got).unwrap();
        assert_eq!(&got[..count], b"first ");
        peer.send_to(b"answer", from).unwrap();
        cat.expect("answer");
        cat.write("second");
        assert_eq!(peer.recv_from(&mut got).unwrap(), (6, from), "and stays there");
    }
    // Nowhere is anybody.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let hosts = hosts::Hosts::new("::1 two.test\n127.0.0.1 two.test\n");
    let mut cat = Cat::start(hosts.run(&example("nc"), &["-u", "two.test", &nobody]));
    cat.write("anybody?");
    assert_eq!(cat.end(), (Vec::new(), 1));
    assert!(cat.errors().starts_with("error: the connection broke: Connection refused"));
}

#[test]
fn address_of_ipv6_may_have_brackets_and_a_zone() {
    let _ceiling = ceiling(LIMIT);
    let hosts = ["::1", "[::1]", "::1%1", "::1%lo", "[::1%lo]"];
    for (host, udp) in hosts.iter().flat_map(|host| [(*host, "-l"), (*host, "-ul")]) {
        if host.contains("lo") && !cfg!(target_os = "linux") {
            continue;
        }
        let mut listener = Cat::ours(&[udp, host, "0"]);
        let port = listener.port();
        let mut cat = match udp {
            "-ul" => Cat::ours(&["-u", host, &port]),
            _ => Cat::ours(&[host, &port]),
        };
        cat.write("hello");
        listener.expect("hello");
        listener.write("bye");
        cat.expect("bye");
    }
}

#[test]
fn connections_that_cannot_be_made_are_told_in_one_line() {
    let refused = |args: &[&str], code: i32, because: &str| {
        let output = output("nc", args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(code), 1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{said}");
    };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    refused(&["127.0.0.1", &nobody], 1, "Connection refused");
    refused(&["name.invalid", "7001"], 1, "error: cannot connect to name.invalid:7001: ");
    refused(
        &["-U", "/no/such/socket"],
        1,
        "error: cannot connect to /no/such/socket: No such file",
    );
    refused(&["127.0.0.1", "70000"], 2, "not a host and a port, such as localhost:80");
    refused(&["-ul", "192.0.2.1", "7001"], 1, "error: cannot listen on 192.0.2.1:7001: ");
    refused(&["fe80::1%nosuch", "7001"], 1, "this host has no interface \"nosuch\"");
    refused(&["-l", "fe80::1%nosuch", "7001"], 1, "this host has no interface \"nosuch\"");
    refused(&["-u", "fe80::1%nosuch", "7001"], 1, "this host has no interface \"nosuch\"");
    refused(&["*", "7001"], 2, "not a host and a port, such as localhost:80");
    refused(&["", "7001"], 2, "it has no host");
    refused(&["-l", "[127.0.0.1]", "7001"], 2, "brackets are for addresses of IPv6");
    refused(&["-l", "192.0.2.1", "7001"], 1, "error: cannot listen on 192.0.2.1:7001: ");
    refused(&[], 2, "wants HOST PORT, or -U PATH; try --help");
    refused(&["7001"], 2, "wants HOST PORT");
    refused(&["-u", "-U", "/tmp/socket"], 2, "wants HOST PORT");
    refused(&["-u", "name.invalid", "7001"], 1, "error: cannot connect to name.invalid:7001: ");
    refused(&["-w", "soon", "-l", "7001"], 2, "-w wants a whole number");
    refused(&["-x"], 2, "'-x'; try --help");
}
