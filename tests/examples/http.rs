//! The example `http`, with curl and a browser.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::browser::Browser;
use support::clients::skip_without;
use support::curl::{ask, ask_with, curl};
use support::process::{Client, Process, example, output};

const SOURCE: &str = include_str!("../../examples/more/http.rs");

#[test]
fn hello_is_a_line_of_fourteen_bytes() {
    skip_without!(CURL);
    let (_server, addr) = Process::serve("http");
    let hello = ask(addr, "/", &[]);
    assert_eq!((hello.status, &hello.body[..]), (200, "Hello, world!\n"));
    assert_eq!(hello.header("Content-Length"), Some("14"));
    let head = ask(addr, "/", &["--head"]);
    assert_eq!((head.status, &head.body[..]), (200, ""));
    assert_eq!(head.header("Content-Length"), Some("14"));
}

#[test]
fn name_of_the_path_is_greeted() {
    skip_without!(CURL);
    let (_server, addr) = Process::serve("http");
    assert_eq!(ask(addr, "/hello/Ann", &[]).body, "Hello, Ann!\n");
    assert_eq!(ask(addr, "/hello/Ann%20%26%20Zo%C3%AB", &[]).body, "Hello, Ann & Zoë!\n");
    assert_eq!(ask(addr, "/hello/", &[]).status, 404);
    assert_eq!(ask(addr, "/hello/Ann/Bob", &[]).status, 404);
    let wrong = ask(addr, "/hello/Ann", &["--data", "x"]);
    assert_eq!((wrong.status, wrong.header("Allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn json_comes_back_and_what_is_none_is_told_why() {
    skip_without!(CURL);
    let (_server, addr) = Process::serve("http");
    let json = ask(addr, "/echo", &["--data", " {\"a\" : [1,\"\\u00e9\", null]}"]);
    assert_eq!((json.status, &json.body[..]), (200, "{\"a\":[1,\"é\",null]}\n"));
    assert_eq!(json.header("Content-Type"), Some("application/json"));
    for (body, why) in [
        ("{\"a\": }", "not JSON: expected value at line 1 column 7\n"),
        ("[1] 2", "not JSON: trailing characters at line 1 column 5\n"),
        ("", "not JSON: EOF while parsing a value at line 1 column 0\n"),
        (&"[".repeat(1000), "not JSON: recursion limit exceeded at line 1 column 128\n"),
    ] {
        let response = ask(addr, "/echo", &["--data", body]);
        assert_eq!((response.status, &response.body[..]), (400, why), "{body}");
    }
}

/// Each of those that are refused stays, and holds a descriptor of the server's until that gives it
/// up; it has 64, some of them for itself.
#[test]
#[cfg(unix)]
fn who_is_refused_and_stays_keeps_nobody_out_who_is_to_be_served() {
    let script = "ulimit -n 64 && exec \"$0\" 127.0.0.1:0";
    let http = example("http");
    let mut limited = Command::new("sh");
    let (_server, addr) = Process::listening(limited.args(["-c", script]).arg(http.get_program()));
    let mut held = Vec::new();
    for number in 0..150 {
        let mut stays = Client::connect(addr);
        stays.send("nonsense\r\n\r\n");
        assert!(stays.rest().starts_with("HTTP/1.1 400 "), "refusal {number}");
        held.push(stays);
        let mut client = Client::connect(addr);
        client.send("GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        assert!(client.rest().ends_with("Hello, world!\n"), "after {number} who were refused");
    }
}

#[test]
fn json_past_64_kib_is_refused_and_an_upload_that_is_only_counted_is_not() {
    let (_server, addr) = Process::serve("http");
    let limit = 64 * 1024;
    for (bytes, status) in [(limit, "200"), (limit + 1, "413"), (1_000_000, "413")] {
        let json = format!("\"{}\"", "x".repeat(bytes - 2));
        let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{json}\r\n0\r\n\r\n");
        let known = format!("Content-Length: {bytes}\r\n\r\n{json}");
        for rest in [known, chunked] {
            let mut client = Client::connect(addr);
            let head = "POST /echo HTTP/1.1\r\nHost: here\r\nConnection: close\r\n";
            // It may be refused before all of it is sent.
            let _ = client.0.get_mut().write_all(format!("{head}{rest}").as_bytes());
            assert!(client.line().starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}");
        }
    }
    let mut client = Client::connect(addr);
    let head = "PUT /count HTTP/1.1\r\nHost: here\r\nConnection: close\r\n";
    client.send(format!("{head}Content-Length: 1000000\r\n\r\n{}", "x".repeat(1_000_000)));
    assert!(client.rest().ends_with("0 lines, 1000000 bytes\n"));
}

/// Were it one after another, the fast ones would wait for half a minute, and then the slow response
/// would be there before them.
#[test]
fn slow_page_holds_up_nobody() {
    skip_without!(CURL);
    let (_server, addr) = Process::serve("http");
    let mut slow = Client::connect(addr);
    slow.send("GET /slow?ms=30000 HTTP/1.1\r\nHost: here\r\n\r\n");
    for _ in 0..20 {
        assert_eq!(ask(addr, "/", &[]).body, "Hello, world!\n");
    }
    let mut stream = slow.0.into_inner();
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn slow_page_comes_when_it_said_and_not_earlier() {
    skip_without!(CURL);
    let (_server, addr) = Process::serve("http");
    let begun = Instant::now();
    assert_eq!(ask(addr, "/slow?ms=300", &[]).body, "Here I am, 300 ms later.\n");
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[test]
fn upload_is_counted_in_little_memory() {
    skip_without!(CURL);
    const LINES: usize = 4_000_000;
    let (server, addr) = Process::serve("http");
    let sent = "0123456\n".repeat(LINES);
    let counted = format!("{LINES} lines, {} bytes\n", sent.len());
    let got = ask_with(addr, "/count", &["--upload-file", "-"], sent.as_bytes());
    assert_eq!((got.status, got.body), (200, counted.clone()), "chunked");
    // With a length and `Expect: 100-continue`.
    let args = ["--request", "PUT", "--data-binary", "@-"];
    assert_eq!(ask_with(addr, "/count", &args, sent.as_bytes()).body, counted);
    let resident = server.resident_kib_max();
    assert!(resident < 16 * 1024, "{resident} KiB");
    let empty = ask_with(addr, "/count", &["--upload-file", "-"], b"");
    assert_eq!(empty.body, "0 lines, 0 bytes\n");
}

#[test]
fn parts_of_the_source_can_be_had() {
    skip_without!(CURL);
    let (_server, addr) = Process::serve("http");
    let whole = ask(addr, "/source", &[]);
    assert_eq!((whole.status, &whole.body[..]), (200, SOURCE));
    let length = SOURCE.len();
    for (range, part) in
        [("0-9", 0..10), ("-10", length - 10..length), ("100-", 100..length), ("5-5", 5..6)]
    {
        let response = ask(addr, "/source", &["--range", range]);
        assert_eq!((response.status, &response.body[..]), (206, &SOURCE[part.clone()]), "{range}");
        let says = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        assert_eq!(response.header("Content-Range"), Some(&says[..]));
    }
    let behind = ask(addr, "/source", &["--range", "999999-"]);
    assert_eq!(behind.status, 416);
    assert_eq!(behind.header("Content-Range"), Some(&format!("bytes */{length}")[..]));
}

#[test]
fn download_that_was_cut_is_resumed() {
    skip_without!(CURL);
    let (_server, addr) = Process::serve("http");
    let file = std::env::temp_dir().join(format!("waterwheel-http-{}", std::process::id()));
    std::fs::write(&file, &SOURCE[..1000]).unwrap();
    let path = file.to_str().expect("text");
    let resume = ["--continue-at", "-", "--output", path, "--dump-header", "-"];
    let head = Process::start(&mut curl(addr, "/source", &resume)).pass(b"");
    assert!(head.starts_with(b"HTTP/1.1 206 "), "{}", String::from_utf8_lossy(&head));
    assert!(std::fs::read_to_string(&file).unwrap() == SOURCE, "see {path}");
    std::fs::remove_file(file).unwrap();
}

#[cfg(unix)]
#[test]
fn who_waits_when_it_is_to_end_still_gets_a_response() {
    skip_without!(CURL);
    use rustix::process::{Pid, Signal, kill_process};
    let (mut server, addr) = Process::serve("http");
    let mut idle = Client::connect(addr);
    idle.send("GET / HTTP/1.1\r\nHost: here\r\n\r\n");
    idle.0.read_exact(&mut [0; 1]).unwrap();
    let mut slow = Client::connect(addr);
    slow.send("GET /slow?ms=1000 HTTP/1.1\r\nHost: here\r\n\r\n");
    // Once this is answered, the slow request has been read.
    assert_eq!(ask(addr, "/", &[]).status, 200);
    kill_process(Pid::from_raw(server.id() as i32).unwrap(), Signal::TERM).unwrap();
    let line = server.line();
    let begins = "SIGTERM: no new clients, waiting up to 30 s for ";
    assert!(line.starts_with(begins) && line.ends_with("; again to end at once"), "{line}");
    // It says so in its last turn of listening.
    while TcpStream::connect(addr).is_ok() {}
    assert!(slow.rest().ends_with("\r\n\r\nHere I am, 1000 ms later.\n"));
    idle.rest();
    let (report, code) = server.rest();
    let report = String::from_utf8(report).unwrap();
    assert!(report.contains(" 1 finished, 0 aborted"), "{report}");
    assert_eq!(code, Some(0));
}

#[test]
fn arguments_are_told_and_mistakes_are_refused() {
    let help = String::from_utf8(output("http", &["--help"]).stdout).unwrap();
    assert!(help.starts_with("Usage: http [OPTIONS] [ADDR]") && help.contains("127.0.0.1:8080"));
    let (_server, addr) = Process::serve("http");
    for (arg, why, code) in [
        ("--nonsense".to_owned(), "'--nonsense'; try --help".to_owned(), 2),
        ("nonsense".to_owned(), "cannot listen on nonsense: ".to_owned(), 2),
        (addr.port().to_string(), format!("cannot listen on {addr}: "), 1),
    ] {
        let Output { status, stdout, stderr } = output("http", &[&arg]);
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stdout.len()), (Some(code), 0), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("error: ") && said.contains(&why), "{said}");
    }
}

/// What is not HTTP gets a response, and the server goes on.
#[test]
fn nonsense_is_answered_with_400() {
    skip_without!(CURL);
    let (_server, addr) = Process::serve("http");
    let mut client = Client::connect(addr);
    client.send("hello there\r\n\r\n");
    assert!(client.line().starts_with("HTTP/1.1 400 "));
    let stream: &mut TcpStream = client.0.get_mut();
    let _ = stream.write_all(b"and more of it"); // It may have been closed by now.
    assert_eq!(ask(addr, "/", &[]).status, 200);
}

/// Fills in a form of the index page as it is, and answers what it then shows.
fn submitted(page: &support::browser::Page, form: &str) -> String {
    page.evaluate(&format!("document.querySelector('#{form} button').click()"));
    let shown = page.wait_for(&format!(
        "!document.querySelector('#{form} button').disabled
         && document.querySelector('#{form} output').textContent"
    ));
    shown.as_str().expect("text").to_owned()
}

#[test]
#[ignore = "wants chromium: cargo test --all-features --test examples -- --ignored"]
fn page_tries_all_routes_in_a_browser() {
    let (_server, addr): (_, SocketAddr) = Process::serve("http");
    let page = Browser::start().open(&format!("http://{addr}/index"));
    assert_eq!(submitted(&page, "hello"), "200 OK\nHello, Ann!\n");
    assert_eq!(submitted(&page, "echo"), "200 OK\n{\"answer\":[42]}\n");
    assert_eq!(submitted(&page, "count"), "200 OK\n2 lines, 23 bytes\n");
    let part = submitted(&page, "source");
    let says = format!("bytes 0-85/{}\n206 Partial Content\n{}", SOURCE.len(), &SOURCE[..86]);
    assert_eq!(part, says);
    let refused = submitted(&page, "method");
    assert_eq!(refused, "Allow: OPTIONS, POST\n405 Method Not Allowed\nMethod Not Allowed");
    page.evaluate("document.querySelector('#slow input').value = 2000");
    let slow = submitted(&page, "slow");
    assert!(slow.starts_with("200 OK\nHere I am, 2000 ms later.\nafter "), "{slow}");
    let others = slow.split("meanwhile ").nth(1).and_then(|rest| rest.split(' ').next());
    assert!(others.and_then(|others| others.parse::<u32>().ok()) > Some(10), "{slow}");
    // The console counts the 405 as an error; there is no other.
    let problems = page.problems();
    assert!(problems.len() == 1 && problems[0].contains("status of 405"), "{problems:?}");
    page.evaluate("document.querySelector('#echo input').value = '{'");
    assert!(submitted(&page, "echo").starts_with("400 Bad Request\nnot JSON: "));
    for (width, is_dark) in [(1280, false), (400, true)] {
        page.view(width, is_dark);
        assert!(page.overflow() <= 0, "at {width} pixels");
    }
}
