//! The SOCKS5 server, with curl as its client. Needs curl.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::Duration;

#[allow(dead_code)] // The program uses the rest.
#[path = "../../examples/socks/protocol.rs"]
mod protocol;

use protocol::{Code, Refused, greeting, refused, reply, request};
use support::ceiling;
use support::clients::{CURL, skip_without};
use support::process::{Client, Process, example, output};

const GREETING: &[u8] = &[5, 2, 2, 0];

/// A request to connect, to an address of that kind.
fn connect(kind: u8, address: &[u8], port: u16) -> Vec<u8> {
    [&[5, 1, 0, kind], address, &port.to_be_bytes()[..]].concat()
}

fn to(addr: SocketAddr) -> Vec<u8> {
    match addr {
        SocketAddr::V4(v4) => connect(1, &v4.ip().octets(), v4.port()),
        SocketAddr::V6(v6) => connect(4, &v6.ip().octets(), v6.port()),
    }
}

#[test]
fn messages_are_the_same_wherever_the_stream_is_cut() {
    for cut in 0..GREETING.len() {
        assert_eq!(greeting(&GREETING[..cut]), Ok(None), "cut at {cut}");
    }
    let more = [GREETING, &connect(1, &[1, 2, 3, 4], 5)].concat();
    assert_eq!(greeting(&more), Ok(Some(((), GREETING.len()))));
    for (says, means) in [
        (connect(1, &[192, 0, 2, 1], 80), "192.0.2.1:80"),
        (connect(4, &Ipv6Addr::LOCALHOST.octets(), 443), "[::1]:443"),
        (connect(3, b"\x0bexample.org", 65535), "example.org:65535"),
        (connect(3, b"\x03::1", 80), "[::1]:80"),
        (connect(3, b"\x05[::1]", 80), "[::1]:80"),
        (connect(3, b"\x0afe80::1%lo", 80), "[fe80::1%lo]:80"),
        (connect(3, b"\x10::ffff:127.0.0.1", 80), "[::ffff:127.0.0.1]:80"),
        (connect(3, b"\x09127.0.0.1", 80), "127.0.0.1:80"),
        (connect(3, b"\x041.\xc3\xa4", 0), "1.ä:0"),
    ] {
        for cut in 0..says.len() {
            assert_eq!(request(&says[..cut]), Ok(None), "{means} cut at {cut}");
        }
        let expected = Ok(Some((means.to_owned(), says.len())));
        assert_eq!(request(&says), expected);
        assert_eq!(request(&[&says[..], b"more"].concat()), expected);
    }
}

#[test]
fn what_is_no_socks5_or_more_than_we_know_is_refused_with_its_code() {
    let silent = Refused(Vec::new());
    assert_eq!(greeting(b"GET / HTTP/1.1\r\n"), Err(Refused(Vec::new())));
    assert_eq!(greeting(&[4, 1, 0, 80]), Err(Refused(Vec::new())));
    assert_eq!(greeting(&[5, 1, 2]), Err(Refused(vec![5, 0xff])));
    assert_eq!(greeting(&[5, 0]), Err(Refused(vec![5, 0xff])));
    assert_eq!(request(&[6]), Err(silent));
    for command in [0, 2, 3, 255] {
        assert_eq!(request(&[5, command, 0, 1]), Err(refused(Code::CommandUnknown)));
    }
    for kind in [0, 2, 5, 255] {
        assert_eq!(request(&connect(kind, &[], 80)), Err(refused(Code::AddressUnknown)));
    }
    for name in [
        &b"\x00"[..],
        b"\x02\xff\xff",
        b"\x04a:80",
        b"\x02a\x00",
        b"\x08[::1]:80",
        b"\x04[::1",
        b"\x03[a]",
        b"\x01*",
    ] {
        assert_eq!(request(&connect(3, name, 80)), Err(refused(Code::HostUnreachable)));
    }
    assert_eq!(refused(Code::Refused).0, [5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
}

/// Answers every request with its path, on its own thread.
fn web(listener: TcpListener) -> u16 {
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut client = Client::over(stream.unwrap());
            let line = client.line();
            while client.line() != "\r" {}
            let path = line.split(' ').nth(1).unwrap_or_default();
            let (length, close) = (path.len(), "Connection: close");
            client.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{close}\r\n\r\n{path}"
            ));
        }
    });
    port
}

fn curl(how: &str, socks: SocketAddr, url: &str) -> Output {
    let socks = socks.to_string();
    let args = ["-sS", "--max-time", "30", "--noproxy", "", how, &socks, url];
    let output = CURL.command().args(args).output();
    output.expect("curl starts")
}

#[test]
fn curl_gets_its_page_by_name_and_by_address() {
    skip_without!(CURL);
    let (mut socks, addr) = Process::serve("socks");
    let port = web(TcpListener::bind("127.0.0.1:0").unwrap());
    for how in ["--socks5-hostname", "--socks5"] {
        for host in ["localhost", "127.0.0.1"] {
            let path = format!("/{host}/{how}");
            let got = curl(how, addr, &format!("http://{host}:{port}{path}"));
            let errors = String::from_utf8_lossy(&got.stderr);
            assert_eq!(String::from_utf8_lossy(&got.stdout), path, "{errors}");
            let line = socks.line();
            assert!(line.contains(&format!(":{port}: ")) && line.contains(" back, "), "{line}");
        }
    }
}

#[test]
fn curl_gets_its_page_over_ipv6() {
    skip_without!(CURL, IPV6);
    let (_socks, addr) = Process::serve("socks");
    let port = web(TcpListener::bind("[::1]:0").unwrap());
    let got = curl("--socks5", addr, &format!("http://[::1]:{port}/six"));
    assert_eq!(String::from_utf8_lossy(&got.stdout), "/six");
}

/// An address where a name may be: as `--socks5-hostname` sends it, or did.
#[test]
fn name_that_is_an_address_of_ipv6_is_connected_to() {
    skip_without!(CURL, IPV6);
    let (_socks, addr) = Process::serve("socks");
    let port = web(TcpListener::bind("[::1]:0").expect("this machine has an IPv6 loopback"));
    let got = curl("--socks5-hostname", addr, &format!("http://[::1]:{port}/six"));
    assert_eq!(String::from_utf8_lossy(&got.stdout), "/six");
    for name in [&b"\x03::1"[..], b"\x05[::1]"] {
        let says = [GREETING, &connect(3, name, port), b"GET /as-text HTTP/1.0\r\n\r\n"].concat();
        let got = String::from_utf8(exchange(addr, &says)).unwrap();
        assert!(got.ends_with("\r\n\r\n/as-text"), "{got}");
    }
}

#[test]
fn curl_is_told_that_nobody_listens_there_and_that_a_name_is_none() {
    skip_without!(CURL);
    let (mut socks, addr) = Process::serve("socks");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // RFC 6761, 6.4: no name ends like that.
    for (host, code) in [(free.to_string(), "(5)"), ("nobody.invalid:80".to_owned(), "(")] {
        let got = curl("--socks5-hostname", addr, &format!("http://{host}/"));
        let said = String::from_utf8_lossy(&got.stderr).into_owned();
        assert!(got.status.code() == Some(97) && said.contains(code), "{said}");
        assert!(socks.line().starts_with(&format!("{host}: cannot ")));
    }
}

fn exchange(addr: SocketAddr, says: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(says).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    got
}

#[test]
fn refusals_reach_the_client_before_the_end() {
    let (_socks, addr) = Process::serve("socks");
    assert_eq!(exchange(addr, b"GET / HTTP/1.1\r\n\r\n"), b"");
    assert_eq!(exchange(addr, &[5, 1, 2]), [5, 0xff]);
    let bind = [GREETING, &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(exchange(addr, &bind), [&[5, 0][..], &reply(Code::CommandUnknown)].concat());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    #[cfg(target_os = "linux")]
    for name in [&b"\x0efe80::1%nosuch"[..], b"\x0a::1%nosuch"] {
        let says = [GREETING, &connect(3, name, 80)].concat();
        assert_eq!(exchange(addr, &says), [&[5, 0][..], &reply(Code::HostUnreachable)].concat());
    }
    let nobody = [GREETING, &to(free)].concat();
    assert_eq!(exchange(addr, &nobody), [&[5, 0][..], &reply(Code::Refused)].concat());
}

/// All at once, and byte by byte; both end with FIN right behind the request.
#[test]
fn what_follows_the_request_at_once_is_passed_on() {
    let (_socks, addr) = Process::serve("socks");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let says = [GREETING, &to(server.local_addr().unwrap()), b"hello upstream"].concat();
    for piece in [says.len(), 1] {
        let mut client = TcpStream::connect(addr).unwrap();
        client.set_nodelay(true).unwrap();
        for piece in says.chunks(piece) {
            client.write_all(piece).unwrap();
        }
        client.shutdown(Shutdown::Write).unwrap();
        let mut upstream = Client::over(server.accept().unwrap().0);
        assert_eq!(upstream.rest(), "hello upstream");
        upstream.send("hello client");
        drop(upstream);
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, [&[5, 0][..], &reply(Code::Succeeded), b"hello client"].concat());
    }
}

/// Each of those that are refused stays, and holds a descriptor of the server's until that gives it
/// up; it has 64, some of them for itself.
#[test]
#[cfg(unix)]
fn who_is_refused_and_stays_keeps_nobody_out_who_is_to_be_served() {
    let _ceiling = ceiling(Duration::from_secs(120));
    let script = "ulimit -n 64 && exec \"$0\" 127.0.0.1:0";
    let socks = example("socks");
    let mut limited = Command::new("sh");
    let (_socks, addr) = Process::listening(limited.args(["-c", script]).arg(socks.get_program()));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let says = [GREETING, &to(server.local_addr().unwrap())].concat();
    let nobody = [GREETING, &to(free)].concat();
    let mut held = Vec::new();
    for number in 0..150 {
        let refused = [&b"GET / HTTP/1.1\r\n\r\n"[..], &[5, 1, 2], &nobody][number % 3];
        let mut stays = Client::connect(addr);
        stays.send(refused);
        assert!(stays.0.read_to_end(&mut Vec::new()).is_ok(), "refusal {number}");
        held.push(stays);
        let mut client = Client::connect(addr);
        client.send(&says);
        let mut upstream = Client::over(server.accept().unwrap().0);
        client.0.read_exact(&mut [0; 12]).unwrap();
        upstream.send("served\n");
        assert_eq!(client.line(), "served", "after {number} who were refused");
    }
}

#[test]
fn help_and_bad_arguments() {
    let help = output("socks", &["--help"]).stdout;
    assert!(help.starts_with(b"Usage: socks [OPTIONS] [ADDR]"));
    let refused = output("socks", &["nonsense"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.starts_with(b"error: cannot listen on nonsense: "));
}
