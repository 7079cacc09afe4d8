//! The example `load`, against servers that answer, stop, lie, close and are not there.
#![cfg(unix)]

use std::io::{BufRead, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::Rng;
use support::process::{Client, Process, example, output};

#[path = "../../examples/load"]
mod program {
    pub mod times;
}
use program::times::Times;

/// A server that calls `answer` with the number of each request, from 1, and sends what that returns;
/// nothing closes the connection.
fn server(answer: impl FnMut(u64) -> &'static str + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let state = Arc::new(Mutex::new((0, answer)));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut client, state) = (Client::over(stream.unwrap()), state.clone());
            thread::spawn(move || {
                let mut line = String::new();
                while matches!(client.0.read_line(&mut line), Ok(1..)) {
                    if line.trim_end().is_empty() {
                        let mut state = state.lock().unwrap();
                        state.0 += 1;
                        let number = state.0;
                        let text = (state.1)(number);
                        if text.is_empty() || client.0.get_mut().write_all(text.as_bytes()).is_err()
                        {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
    addr
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// The lines of a run that ends with this code.
fn load(addr: SocketAddr, args: &[&str], code: i32) -> Vec<String> {
    let url = format!("http://{addr}/");
    let done = output("load", &[args, &[&url]].concat());
    assert_eq!(done.status.code(), Some(code), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The milliseconds in the line of a percentile.
fn ms(lines: &[String], name: &str) -> f64 {
    let line = lines.iter().find_map(|line| line.trim_start().strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {lines:#?}"));
    line.trim().trim_end_matches(" ms").parse().unwrap()
}

/// How many a run says of this.
fn count(lines: &[String], what: &str) -> u64 {
    let line = lines.iter().find(|line| line.contains(what));
    let line = line.unwrap_or_else(|| panic!("no {what} in {lines:#?}"));
    line.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_server_that_stops_for_one_second_of_five_shows_in_the_percentiles() {
    let (_sender, never) = channel::<()>();
    let addr = server(move |number| {
        if number == 400 {
            let _ = never.recv_timeout(Duration::from_secs(1)); // All others wait for it.
        }
        OK
    });
    let lines = load(addr, &["--rate", "200", "-d", "5", "-c", "8"], 0);
    assert_eq!(count(&lines, " answered in "), 1000);
    // A fifth of them were due in that second, and waited half of it on average.
    assert!((700.0..2000.0).contains(&ms(&lines, "99 %")), "{lines:#?}");
    assert!(ms(&lines, "90 %") > 200.0, "{lines:#?}");
    assert!(ms(&lines, "50 %") < 200.0, "{lines:#?}");
}

#[test]
fn requests_end_with_their_number_or_their_time() {
    let addr = server(|_| OK);
    let lines = load(addr, &["-n", "100", "-c", "7"], 0);
    assert_eq!(count(&lines, " answered in "), 100);
    assert!(!lines.iter().any(|line| line.contains("failed")), "{lines:#?}");
    let bars = lines.iter().filter(|line| line.starts_with("below"));
    let sum: u64 = bars.map(|bar| bar.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(sum, 100, "{lines:#?}");
    // Each of them is due, also in the last millisecond.
    assert_eq!(count(&load(addr, &["--rate", "300", "-d", "1"], 0), " answered in "), 300);
    let few = load(addr, &["--rate", "1000", "-d", "1000", "-n", "20"], 0);
    assert_eq!(count(&few, " answered in "), 20);
}

#[test]
fn errors_are_counted_by_their_kind() {
    let addr = server(|number| match number % 4 {
        0 => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        1 => "", // It closes.
        2 => "nonsense\r\n\r\n",
        _ => OK,
    });
    let lines = load(addr, &["-n", "40", "-c", "1", "--method", "POST", "--body", "x\r\n"], 0);
    assert_eq!(count(&lines, " answered in "), 10);
    assert_eq!(count(&lines, "failed: status 500"), 10);
    assert_eq!(count(&lines, "failed: the server closed the connection"), 10);
    assert_eq!(count(&lines, "failed: a bad response"), 10);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lines = load(nobody, &["-n", "20"], 1);
    assert_eq!(count(&lines, "Connection refused"), 20);
}

#[test]
fn a_server_that_never_answers_ends_it_and_what_was_due_is_counted() {
    let (sender, never) = channel::<()>();
    let addr = server(move |_| {
        let _ = never.recv();
        ""
    });
    let lines = load(addr, &["--rate", "100", "-d", "1", "-c", "10", "--timeout", "1"], 1);
    let failed = lines.iter().filter(|line| line.contains("failed: "));
    let all: u64 = failed.map(|line| line.split(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(all, 100, "{lines:#?}");
    assert!(count(&lines, "no connection was free") >= 70, "{lines:#?}");
    assert!(count(&lines, "the call took too long") >= 10, "{lines:#?}");
    drop(sender);
}

#[test]
fn a_signal_ends_it_and_it_prints_what_it_has() {
    let (sender, seen) = channel();
    let addr = server(move |number| {
        let _ = sender.send(number);
        OK
    });
    let url = format!("http://{addr}/");
    let mut load = Process::start(example("load").args(["-d", "1000", "--rate", "1000", &url]));
    assert_eq!(load.line(), format!("16 at a time to {url}"));
    while seen.recv().unwrap() < 50 {}
    kill_process(Pid::from_raw(load.id() as i32).unwrap(), Signal::INT).unwrap();
    let (rest, code) = load.finish();
    let rest = String::from_utf8(rest).unwrap();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains(" answered in ") && rest.contains(" 50 % "), "{rest}");
}

#[test]
fn bad_arguments_are_refused_in_one_line() {
    for (args, because) in [
        (&[][..], "wants a URL"),
        (&["http://a/", "http://b/"], "wants a URL"),
        (&["-c", "0", "http://a/"], "-c wants 1 to 10000"),
        (&["-c", "10001", "http://a/"], "-c wants 1 to 10000"),
        (&["--rate", "1000001", "http://a/"], "--rate wants 1 to 1000000"),
        (&["-d", "0", "http://a/"], "-d wants 1 to"),
        (&["-n", "x", "http://a/"], "-n wants a whole number"),
        (&["--method", "G T", "http://a/"], "no method: \"G T\""),
        (&["-H", "nonsense", "http://a/"], "no header field: \"nonsense\""),
        (&["ftp://a/"], "the scheme is \"ftp\", not http or https"),
        (&["http://"], "http://"),
        (&["-H", "a b: c", "http://a/"], "a b"),
        (&["--nonsense"], "try --help"),
    ] {
        let out = output("load", args);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{args:?}: {said}");
    }
    assert!(output("load", &["--help"]).stdout.starts_with(b"Usage: load [OPTIONS] URL"));
}

#[test]
fn percentiles_are_those_of_the_sorted_times() {
    let mut rng = Rng::new();
    for _ in 0..20 {
        let mut times = Times::default();
        let mut sorted: Vec<u64> =
            (0..=rng.below(2000)).map(|_| rng.next() >> (30 + rng.below(34))).collect();
        sorted.iter().for_each(|us| times.add(Duration::from_micros(*us)));
        sorted.sort();
        for permille in [1, 500, 900, 990, 999, 1000] {
            let at = (sorted.len() as u64 * permille).div_ceil(1000) as usize - 1;
            let (exact, found) = (sorted[at], times.permille(permille).as_micros() as u64);
            assert!((exact..=exact + exact / 64).contains(&found), "{exact} and {found}");
        }
    }
    // The longest is exact, also beyond all ranges.
    let mut times = Times::default();
    times.add(Duration::MAX);
    assert_eq!(times.permille(500), Duration::from_micros((1 << 35) - 1));
    assert_eq!(Times::default().lines().count(), 0);
}
