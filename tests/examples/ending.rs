//! How the servers among the examples end, and that nobody need read what they print.
#![cfg(unix)]

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process};
use support::ceiling;
use support::clients::{ENV, skip_without};
use support::process::{Client, Process, example};

const LIMIT: Duration = Duration::from_secs(60);
/// What those that are being served may still take.
const GRACE: Duration = Duration::from_secs(5);

const AGAIN: &str = "; again to end at once";

pub fn signal(server: &Process, signal: Signal) {
    kill_process(Pid::from_raw(server.id() as i32).unwrap(), signal).unwrap();
}

/// Ends it by a signal. It says what it waits for, then what became of it, and ends well.
fn ends(server: &mut Process, by: Signal, waits_for: &str, report: &str) {
    let name = if by == Signal::INT { "SIGINT" } else { "SIGTERM" };
    let begun = Instant::now();
    signal(server, by);
    let waiting = match waits_for {
        "" => String::new(),
        some => format!(", waiting up to 5 s for {some}"),
    };
    assert_eq!(server.line(), format!("{name}: no new clients{waiting}{AGAIN}"));
    let (said, code) = server.rest();
    assert_eq!((String::from_utf8(said).unwrap(), code), (format!("{report}\n"), Some(0)));
    assert!(begun.elapsed() < GRACE, "{:?}", begun.elapsed());
}

fn report(connections: usize, [idle, finished, aborted]: [usize; 3]) -> String {
    format!(
        "listeners closed: 1; connections: {connections} \
         ({idle} idle, {finished} finished, {aborted} aborted)"
    )
}

/// Connects one client that says nothing, and then one that gets an answer: both are accepted.
fn idle(name: &str, addr: SocketAddr) -> [Client; 2] {
    let silent = Client::connect(addr);
    let mut served = Client::connect(addr);
    match name {
        "chat" => drop(served.line()),
        "echo" | "embed" | "workers" => {
            served.send("hello\n");
            assert_eq!(served.line(), "hello");
        }
        "mq" => {
            served.send("reserve-with-timeout 0\r\n");
            assert_eq!(served.line(), "TIMED_OUT\r");
        }
        "redis" => {
            served.send("PING\r\n");
            assert_eq!(served.line(), "+PONG\r");
        }
        "socks" => {
            served.send([5, 1, 0]);
            served.0.read_exact(&mut [0; 2]).unwrap();
        }
        "mqtt" => {
            served.send(b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0");
            served.0.read_exact(&mut [0; 4]).unwrap();
        }
        _ => {
            served.send("GET /none HTTP/1.1\r\nHost: here\r\n\r\n");
            assert!(served.line().starts_with("HTTP/1.1 404"));
        }
    }
    [silent, served]
}

#[test]
fn idle_clients_that_do_not_close_hold_up_no_server() {
    let _ceiling = ceiling(LIMIT);
    let mut servers = vec!["echo", "chat", "embed", "mq", "mqtt", "redis", "socks"];
    servers.extend(cfg!(feature = "http").then_some("live"));
    servers.extend(cfg!(feature = "ws").then_some("wschat"));
    for name in servers {
        println!("{name}");
        for by in [Signal::INT, Signal::TERM] {
            let (mut server, addr) = Process::serve(name);
            let mut clients = idle(name, addr);
            ends(&mut server, by, "2 connections", &report(2, [2, 0, 0]));
            for client in &mut clients {
                client.rest(); // A FIN, not a reset.
            }
            assert!(TcpStream::connect(addr).is_err());
        }
    }
}

#[test]
fn server_without_clients_ends_at_once() {
    let _ceiling = ceiling(LIMIT);
    let (mut server, _) = Process::serve("echo");
    ends(&mut server, Signal::INT, "", &report(0, [0; 3]));
    let (mut server, _) = Process::serve("udp_chat");
    let nothing = report(0, [0; 3]).replace("closed: 1", "closed: 0");
    ends(&mut server, Signal::TERM, "", &nothing);
}

/// A handshake that has not been shaken is not a connection yet.
#[cfg(feature = "tls")]
#[test]
fn silent_clients_of_tls_hold_up_nobody_either() {
    let _ceiling = ceiling(LIMIT);
    let (mut server, addr) = Process::serve("tls_echo");
    let _silent = Client::connect(addr);
    ends(&mut server, Signal::INT, "", &report(0, [0; 3]));
}

#[test]
fn cores_and_workers_end_with_their_server() {
    let _ceiling = ceiling(LIMIT);
    let (mut server, addr) = Process::listening(example("multicore").args(["--cores", "2", "0"]));
    let clients = [(); 6].map(|()| Client::connect(addr));
    for _ in &clients {
        assert!(server.line().contains(" serves "));
    }
    signal(&server, Signal::INT);
    assert_eq!(server.line(), format!("SIGINT: no new clients, waiting up to 5 s{AGAIN}"));
    let (said, code) = server.rest();
    let mut said: Vec<String> = String::from_utf8(said).unwrap().lines().map(Into::into).collect();
    said.sort();
    let gone = |line: &String| {
        let count = line.split_once("connections: ").unwrap().1;
        count.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    assert!(said.len() == 2 && said[0].starts_with("core 0: listeners closed: 1"), "{said:?}");
    assert_eq!((said.iter().map(gone).sum::<usize>(), code), (6, Some(0)));

    let mut workers = example("workers");
    let (mut server, addr) = Process::listening(workers.args(["--rounds", "1000", "0"]));
    let _clients = idle("workers", addr);
    signal(&server, Signal::TERM);
    let line = server.line();
    assert!(line.starts_with("SIGTERM: no new clients, waiting up to 5 s for 3 conn"), "{line}");
    let (said, code) = server.rest();
    assert!(String::from_utf8(said).unwrap().ends_with(" 0 aborted)\n"));
    assert_eq!(code, Some(0));
}

#[test]
fn those_that_are_being_served_have_their_time_and_a_second_signal_cuts_them_off() {
    let _ceiling = ceiling(LIMIT);
    for then in [None, Some(Signal::INT), Some(Signal::TERM)] {
        let (_echo, echo) = Process::serve("echo");
        let (mut proxy, addr) = Process::listening(example("proxy").args(["0", &echo.to_string()]));
        let mut client = Client::connect(addr);
        client.send("hello\n");
        assert_eq!(client.line(), "hello");
        signal(&proxy, Signal::TERM);
        let waits = "SIGTERM: no new clients, waiting up to 5 s for 1 connection";
        assert_eq!(proxy.line(), format!("{waits}{AGAIN}"));
        client.send("still here\n");
        assert_eq!(client.line(), "still here");
        match then {
            Some(second) => {
                signal(&proxy, second);
                // Ended by the signal, as by the first if nobody handled it.
                assert_eq!(proxy.rest(), (Vec::new(), None));
            }
            None => {
                drop(client);
                assert!(proxy.line().contains(": 17 bytes there, 17 back, "));
                let (said, code) = proxy.rest();
                assert_eq!(String::from_utf8(said).unwrap(), report(1, [0, 1, 0]) + "\n");
                assert_eq!(code, Some(0));
            }
        }
    }
}

#[cfg(feature = "http")]
#[test]
fn readers_of_news_are_sent_away_in_order() {
    let _ceiling = ceiling(LIMIT);
    let (mut server, addr) = Process::listening(example("live").args(["--tick", "60000", "0"]));
    let mut readers = ["/events", "/poll?after=0"].map(|path| {
        let mut reader = Client::connect(addr);
        reader.send(format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n"));
        reader
    });
    assert!(readers[0].line().starts_with("HTTP/1.1 200"));
    let mut last = Client::connect(addr);
    last.send("GET /none HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(last.line().starts_with("HTTP/1.1 404"));
    signal(&server, Signal::INT);
    assert!(readers[0].rest().ends_with("\r\n0\r\n\r\n"), "the end of a chunked body");
    assert!(readers[1].rest().starts_with("HTTP/1.1 200"));
    drop(readers);
    assert!(server.line().contains("waiting up to 5 s for 3 connections"));
    let (said, code) = server.rest();
    assert!(String::from_utf8(said).unwrap().ends_with(" 0 aborted)\n"));
    assert_eq!(code, Some(0));
}

/// env(1) of coreutils can block signals for what it runs, as some supervisors do.
#[cfg(target_os = "linux")]
#[test]
fn signals_that_the_parent_had_blocked_are_heard() {
    skip_without!(ENV);
    let _ceiling = ceiling(LIMIT);
    let echo = example("echo").get_program().to_owned();
    let mut blocked = ENV.command();
    blocked.arg("--block-signal=INT,TERM").arg(echo).arg("0");
    let (mut server, _) = Process::listening(&mut blocked);
    ends(&mut server, Signal::TERM, "", &report(0, [0; 3]));
}

/// A server whose stdout, or stderr, is somewhere else. It does not outlive its test.
struct Server(Child);

impl Server {
    fn start(command: &mut Command) -> Server {
        Server(command.stdin(Stdio::null()).spawn().expect("it can be started"))
    }

    /// Ends it, and answers whether it did so well.
    fn end(mut self) -> bool {
        assert_eq!(self.0.try_wait().unwrap(), None, "it has ended before");
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill(); // It may have ended.
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Connects as soon as somebody listens.
fn connect(addr: SocketAddr) -> Client {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(addr) {
            // Where nobody listens, the port may become the connection's own.
            Ok(stream) if stream.local_addr().unwrap() != addr => return Client::over(stream),
            _ => assert!(begun.elapsed() < LIMIT, "nobody listens"),
        }
        thread::yield_now();
    }
}

fn is_served(addr: SocketAddr) {
    let mut client = connect(addr);
    client.send("hello\n");
    assert_eq!(client.line(), "hello");
}

/// A pipe of four pages; poll(2) finds room in it as long as one is not in use.
fn small_pipe() -> (PipeReader, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    fcntl_setpipe_size(&writer, 4 * 4096).unwrap();
    (reader, writer.into())
}

/// Eighty characters for each connection, and 300 of them: more than a small pipe holds.
#[cfg(target_os = "linux")]
#[test]
fn full_pipe_on_stdout_stops_no_server_and_the_lines_that_are_lost_are_counted() {
    let _ceiling = ceiling(LIMIT);
    let (_echo, echo) = Process::serve("echo");
    for nonblocking in [true, false] {
        let (reader, writer) = small_pipe();
        if nonblocking {
            fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
        }
        let mut proxy = example("proxy");
        let server = Server::start(proxy.args(["0", &echo.to_string()]).stdout(writer));
        drop(proxy); // And with it, our end for writing.
        let mut lines = BufReader::new(reader);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let addr = line.trim_end().strip_prefix("listening on ").unwrap().parse().unwrap();
        for _ in 0..300 {
            is_served(addr);
        }
        let (mut told, mut lost) = (0, 0);
        // Somebody reads again, so there is room, and the next line goes.
        let mut lines = lines.lines().map(Result::unwrap);
        let first: Vec<_> = lines.by_ref().take(100).collect();
        is_served(addr);
        let reading = thread::spawn(move || lines.collect::<Vec<_>>());
        assert!(server.end());
        for line in first.into_iter().chain(reading.join().unwrap()) {
            if let Some(count) = line.strip_prefix("(lines lost: ") {
                lost += count.strip_suffix(')').unwrap().parse::<usize>().unwrap();
            } else if line.contains(" bytes there, ") {
                assert!(line.ends_with("; client finished, upstream finished"), "{line}");
                told += 1;
            }
        }
        assert!(told > 20 && lost > 20, "{told} told, {lost} lost");
        assert_eq!(told + lost, 301);
    }
}

#[test]
fn stdout_and_stderr_that_take_nothing_stop_no_server() {
    let _ceiling = ceiling(LIMIT);
    type Sink = fn() -> Stdio;
    let closed = || {
        let (_, writer) = pipe().unwrap();
        Stdio::from(writer)
    };
    let mut sinks: Vec<Sink> = vec![closed];
    if cfg!(target_os = "linux") {
        sinks.push(|| Stdio::from(File::options().write(true).open("/dev/full").unwrap()));
    }
    for sink in sinks {
        let (_echo, echo) = Process::serve("echo");
        for name in ["echo", "proxy"] {
            let addr = free();
            let mut command = example(name);
            command.arg(addr.to_string()).env("RUST_LOG", "trace").stdout(sink()).stderr(sink());
            if name == "proxy" {
                command.arg(echo.to_string());
            }
            let server = Server::start(&mut command);
            for _ in 0..5 {
                is_served(addr);
            }
            assert!(server.end(), "{name}");
        }
    }
}

/// Not even open.
#[test]
fn closed_stdout_and_stderr_stop_no_server() {
    let _ceiling = ceiling(LIMIT);
    let addr = free();
    let echo = example("echo").get_program().to_owned();
    let mut closed = Command::new("sh");
    closed.args(["-c", "exec \"$0\" \"$1\" >&- 2>&-"]).arg(echo).arg(addr.to_string());
    let server = Server::start(closed.env("RUST_LOG", "trace"));
    is_served(addr);
    assert!(server.end());
}

/// The log of all that happens is more than a small pipe holds, and nobody reads it.
#[cfg(target_os = "linux")]
#[test]
fn full_pipe_on_stderr_stops_no_server() {
    let _ceiling = ceiling(LIMIT);
    let (_reader, writer) = small_pipe();
    let addr = free();
    let mut echo = example("echo");
    echo.arg(addr.to_string()).env("RUST_LOG", "trace").stdout(Stdio::null()).stderr(writer);
    let server = Server::start(&mut echo);
    for _ in 0..100 {
        is_served(addr);
    }
    assert!(server.end());
}

/// It says what is wrong, and if nobody can hear that it ends all the same as it should.
#[cfg(target_os = "linux")]
#[test]
fn error_that_cannot_be_told_is_an_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status = example("echo").arg("--nonsense").stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
