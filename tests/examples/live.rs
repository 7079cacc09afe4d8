//! The example `live`, with `curl -N` and a browser.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::Output;

use history::{History, KEPT_MAX};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use support::browser::{Browser, Page};
use support::clients::skip_without;
use support::curl::{ask, curl};
use support::process::{Client, Process, example, output};

#[path = "../../examples/more/live/history.rs"]
mod history;

/// A server that ticks so often, in milliseconds.
fn live(tick: u32) -> (Process, SocketAddr) {
    Process::listening(example("live").args(["--tick", &tick.to_string(), "127.0.0.1:0"]))
}

/// Nothing ticks within a test.
const NEVER: u32 = u32::MAX;

fn say(addr: SocketAddr, text: &str) {
    assert_eq!(ask(addr, "/say", &["--data-binary", text]).status, 204);
}

/// An event stream, past its head, with more header fields if there are any.
fn events(addr: SocketAddr, path: &str, fields: &[&str]) -> Process {
    let mut curl = curl(addr, path, &["--no-buffer", "--include"]);
    for field in fields {
        curl.args(["--header", field]);
    }
    let mut events = Process::start(&mut curl);
    assert!(events.line().contains(" 200 "));
    while !events.line().trim().is_empty() {}
    events
}

/// The next event: its kind, id and data.
fn next(events: &mut Process) -> (String, String, String) {
    let mut found = <(String, String, String)>::default();
    loop {
        let line = events.line();
        match line.split_once(": ") {
            Some(("event", kind)) => found.0 = kind.to_owned(),
            Some(("id", id)) => found.1 = id.to_owned(),
            Some(("data", data)) => found.2 = data.to_owned(),
            _ if line.is_empty() && !found.2.is_empty() => return found,
            _ => {}
        }
    }
}

/// The next event, which is news: its id and its text.
fn heard(events: &mut Process) -> (u64, String) {
    let (_, id, data) = next(events);
    let data: Value = serde_json::from_str(&data).expect("JSON");
    assert_eq!(data["id"].to_string(), id);
    (data["id"].as_u64().unwrap(), data["text"].as_str().unwrap().to_owned())
}

fn poll(addr: SocketAddr, query: &str) -> Value {
    let answer = ask(addr, &format!("/poll{query}"), &[]);
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    serde_json::from_str(&answer.body).expect("JSON")
}

#[test]
fn everybody_hears_what_is_said() {
    skip_without!(CURL);
    let (_server, addr) = live(NEVER);
    let mut streams = [(); 3].map(|()| events(addr, "/events", &[]));
    let mut polls = [(); 3].map(|()| Client::connect(addr));
    for poll in &mut polls {
        poll.send("GET /poll HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    }
    say(addr, "hello from curl");
    for stream in &mut streams {
        assert_eq!(heard(stream), (1, "hello from curl".to_owned()));
    }
    for poll in &mut polls {
        let answer = poll.rest();
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let news = json!([{ "id": 1, "kind": "said", "text": "hello from curl" }]);
        assert_eq!(body, json!({ "missed": 0, "news": news }));
    }
    say(addr, "\"quoted\",\r\nid: 7\n\ndata: <b>é</b>");
    for stream in &mut streams {
        assert_eq!(heard(stream), (2, "\"quoted\",\r\nid: 7\n\ndata: <b>é</b>".to_owned()));
    }
}

#[test]
fn event_stream_is_what_a_browser_wants() {
    skip_without!(CURL);
    let (_server, addr) = live(NEVER);
    let mut curl = Process::start(&mut curl(addr, "/events", &["--no-buffer", "--include"]));
    let mut head = String::new();
    while !head.ends_with("\n\r\n") {
        head += &curl.line();
        head.push('\n');
    }
    let head = head.to_lowercase();
    assert!(head.contains("\r\ncontent-type: text/event-stream"), "{head}");
    assert!(head.contains("\r\ncache-control: no-"), "{head}");
    assert_eq!(curl.line(), "retry: 1000");
}

#[test]
fn poll_waits_for_news() {
    skip_without!(CURL);
    let (_server, addr) = live(NEVER);
    say(addr, "one");
    assert_eq!(poll(addr, "")["news"][0]["text"], "one");
    assert_eq!(poll(addr, "?after=0")["news"][0]["text"], "one");
    let mut waiting = Client::connect(addr);
    waiting.send("GET /poll?after=1 HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(ask(addr, "/", &[]).status, 200); // By now the poll has been read.
    let stream: &mut TcpStream = waiting.0.get_mut();
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    say(addr, "two");
    while !waiting.line().trim().is_empty() {}
    let news: Value = serde_json::from_str(&waiting.line()).unwrap();
    assert_eq!(news["news"], json!([{ "id": 2, "kind": "said", "text": "two" }]));
}

#[test]
fn who_comes_back_is_told_what_followed() {
    skip_without!(CURL);
    let (_server, addr) = live(NEVER);
    for text in ["one", "two", "three"] {
        say(addr, text);
    }
    let mut resumed = events(addr, "/events", &["Last-Event-ID: 1"]);
    assert_eq!(heard(&mut resumed), (2, "two".to_owned()));
    assert_eq!(heard(&mut resumed), (3, "three".to_owned()));
    // The header is the newer one: a browser's address stays what it was.
    let mut resumed = events(addr, "/events?after=1", &["Last-Event-ID: 2"]);
    assert_eq!(heard(&mut resumed), (3, "three".to_owned()));
    assert_eq!(heard(&mut events(addr, "/events?after=2", &[])).0, 3);
    // Of another life of the server, or nonsense: from the beginning.
    for id in ["4", "99999999999999999999999", "-1", "x"] {
        let field = format!("Last-Event-ID: {id}");
        assert_eq!(heard(&mut events(addr, "/events", &[&field])).0, 1, "{id}");
    }
    assert_eq!(poll(addr, "?after=2")["news"].as_array().unwrap().len(), 1);
    assert_eq!(poll(addr, "?after=4")["news"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_forgotten_is_counted() {
    skip_without!(CURL);
    let (_server, addr) = live(NEVER);
    let mut client = Client::connect(addr);
    let said = "POST /say HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\nx";
    client.send(said.repeat(KEPT_MAX + 50));
    for _ in 0..KEPT_MAX + 50 {
        assert!(client.line().starts_with("HTTP/1.1 204 "));
        while !client.line().trim().is_empty() {}
    }
    let mut resumed = events(addr, "/events", &["Last-Event-ID: 10"]);
    assert_eq!(next(&mut resumed), ("missed".into(), "".into(), "40".into()));
    assert_eq!(heard(&mut resumed).0, 51);
    let page = poll(addr, "?after=10");
    assert_eq!((&page["missed"], &page["news"][0]["id"]), (&json!(40), &json!(51)));
    // Who is new has missed nothing.
    assert_eq!(heard(&mut events(addr, "/events", &[])).0, 51);
    assert_eq!(poll(addr, "")["missed"], 0);
}

#[test]
fn who_has_gone_is_removed() {
    skip_without!(CURL);
    let (_server, addr) = live(20);
    let mut watcher = events(addr, "/events", &[]);
    let mut wait_for = |text: &str| while heard(&mut watcher).1 != text {};
    wait_for("listening: 1 at /events, 0 at /poll");
    let others = [(); 3].map(|()| events(addr, "/events", &[]));
    wait_for("listening: 4 at /events, 0 at /poll");
    drop(others);
    wait_for("listening: 1 at /events, 0 at /poll");
}

/// A tick says how many polls it is about to answer.
#[test]
fn poll_that_has_gone_is_removed() {
    skip_without!(CURL);
    let (_server, addr) = live(1000);
    let mut watcher = events(addr, "/events", &[]);
    let wait = |place: u64| {
        [(); 3].map(|()| {
            let mut poll = Client::connect(addr);
            poll.send(format!("GET /poll?after={place} HTTP/1.1\r\nHost: here\r\n\r\n"));
            poll
        })
    };
    let place = heard(&mut watcher).0;
    let polls = wait(place);
    let (place, text) = heard(&mut watcher);
    assert_eq!(text, "listening: 1 at /events, 3 at /poll");
    for mut poll in polls {
        assert!(poll.line().starts_with("HTTP/1.1 200 "));
    }
    let polls = wait(place);
    assert_eq!(ask(addr, "/", &[]).status, 200); // By now the polls have been read.
    drop(polls);
    assert_eq!(heard(&mut watcher).1, "listening: 1 at /events, 0 at /poll");
}

#[test]
fn what_nobody_can_say_is_refused() {
    skip_without!(CURL);
    let (_server, addr) = live(NEVER);
    for (text, status) in [("", 400), (" \t\n", 400), (&"x".repeat(1001)[..], 413)] {
        assert_eq!(ask(addr, "/say", &["--data-binary", text]).status, status);
    }
    let mut client = Client::connect(addr);
    client.send(b"POST /say HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\n\xff");
    assert!(client.line().starts_with("HTTP/1.1 400 "));
    assert_eq!(ask(addr, "/say", &[]).status, 405);
    say(addr, &"x".repeat(1000));
    assert_eq!(poll(addr, "")["news"][0]["id"], 1);
}

/// Far more is said than lies between two sockets, and one does not listen. It costs the server a
/// bounded amount, the others nothing, and it is told what it has missed.
#[test]
fn slow_reader_costs_no_memory_and_is_told_what_it_missed() {
    skip_without!(CURL);
    const ROUNDS: usize = 400;
    const SAID: usize = 50;
    let (server, addr) = live(NEVER);
    let slow = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    slow.set_recv_buffer_size(4096).unwrap();
    slow.connect(&addr.into()).unwrap();
    let mut slow = Client::over(TcpStream::from(slow));
    slow.send("GET /events HTTP/1.1\r\nHost: here\r\n\r\n");
    let mut reader = events(addr, "/events", &[]);
    let mut client = Client::connect(addr);
    let text = "x".repeat(1000);
    let said = format!("POST /say HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n{text}");
    for round in 0..ROUNDS {
        client.send(said.repeat(SAID));
        for number in 1..=SAID {
            assert!(client.line().starts_with("HTTP/1.1 204 "));
            while !client.line().trim().is_empty() {}
            assert_eq!(heard(&mut reader).0, (round * SAID + number) as u64);
        }
    }
    let resident = server.resident_kib_max();
    assert!(resident < 16 * 1024, "{resident} KiB");
    // Now it listens. What it did not miss it hears once, and in order.
    let (mut place, mut missed, mut kind) = (0, 0, String::new());
    while place < (ROUNDS * SAID) as u64 {
        let line = slow.line();
        match line.trim().split_once(": ") {
            Some(("event", of)) => kind = of.to_owned(),
            Some(("data", count)) if kind == "missed" => {
                let count: u64 = count.parse().unwrap();
                (place, missed) = (place + count, missed + count);
                kind.clear();
            }
            Some(("id", id)) => {
                place += 1;
                assert_eq!(id, place.to_string());
            }
            _ => {}
        }
    }
    assert!(missed > 0);
}

/// What a column of the page is like: its state, and how often it has heard something.
fn is(page: &Page, column: &str, state: &str) {
    page.wait_for(&format!("document.querySelector('#{column} .state[data-is={state}]')"));
}

fn heard_times(page: &Page, column: &str, text: &str) -> u64 {
    let times = format!(
        "[...document.querySelectorAll('#{column} li.said > :nth-child(2)')]
            .filter((cell) => cell.textContent === {}).length",
        json!(text)
    );
    page.wait_for(&times).as_u64().expect("a number")
}

const COLUMNS: [&str; 2] = ["events", "poll"];

#[test]
#[ignore = "wants chromium: cargo test --all-features --test examples -- --ignored"]
fn page_hears_everything_in_both_columns_and_finds_the_server_again() {
    skip_without!(CURL);
    let (server, addr) = live(200);
    let browser = Browser::start();
    let page = browser.open(&format!("http://{addr}/"));
    for column in COLUMNS {
        is(&page, column, "open");
    }
    page.type_into("#text", "typed <b>here</b> & sent");
    page.press_enter();
    say(addr, "from curl");
    for column in COLUMNS {
        assert_eq!(heard_times(&page, column, "typed <b>here</b> & sent"), 1);
        assert_eq!(heard_times(&page, column, "from curl"), 1);
    }
    assert_eq!(page.evaluate("document.querySelector('#text').value"), "");
    // One is paused, and catches up.
    for (paused, other) in [("events", "poll"), ("poll", "events")] {
        let button = format!("document.querySelector('#{paused} button').click()");
        page.evaluate(&button);
        is(&page, paused, "held");
        let text = format!("while {paused} is paused");
        say(addr, &text);
        assert_eq!(heard_times(&page, other, &text), 1);
        let seen = format!("document.querySelector('#{paused} ol').innerText.includes('{text}')");
        assert_eq!(page.evaluate(&seen), false);
        page.evaluate(&button);
        assert_eq!(heard_times(&page, paused, &text), 1);
        is(&page, paused, "open");
    }
    for (width, is_dark) in [(1280, true), (400, false)] {
        page.view(width, is_dark);
        assert!(page.overflow() <= 0, "at {width} pixels");
    }
    // Who wants less motion has none.
    say(addr, "in peace");
    assert_eq!(heard_times(&page, "events", "in peace"), 1);
    assert_eq!(page.evaluate("document.getAnimations().length"), 0);
    assert_eq!(page.problems(), Vec::<String>::new());
    drop(server);
    for column in COLUMNS {
        is(&page, column, "lost");
    }
    let mut again = example("live");
    let (_server, _) = Process::listening(again.args(["--tick", "200", &addr.to_string()]));
    for column in COLUMNS {
        is(&page, column, "open");
    }
    say(addr, "back again");
    for column in COLUMNS {
        assert_eq!(heard_times(&page, column, "back again"), 1);
    }
}

#[test]
fn arguments_are_told_and_mistakes_are_refused() {
    let help = String::from_utf8(output("live", &["--help"]).stdout).unwrap();
    assert!(help.starts_with("Usage: live [OPTIONS] [ADDR]") && help.contains("--tick MS"));
    let (_server, addr) = live(NEVER);
    for (args, why, code) in [
        (&["--nonsense"][..], "'--nonsense'; try --help", 2),
        (&["--tick", "often"], "--tick wants a whole number, not \"often\"", 2),
        (&[&addr.port().to_string()], &format!("cannot listen on {addr}: "), 1),
    ] {
        let Output { status, stdout, stderr } = output("live", args);
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stdout.len()), (Some(code), 0), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("error: ") && said.contains(why), "{said}");
    }
}

/// Against the plainest of models: everything is kept, and what the real one has forgotten counts
/// as missed.
#[test]
fn history_is_the_end_of_all_that_was_said() {
    let mut history = History::default();
    for last in 0..(KEPT_MAX as u64 * 2 + 5) {
        assert_eq!(history.last(), last);
        let oldest = last.saturating_sub(KEPT_MAX as u64);
        assert_eq!(history.place(None), oldest);
        assert_eq!(history.place(Some(last + 1)), oldest);
        for place in 0..=last {
            assert_eq!(history.place(Some(place)), place);
            let (missed, news) = history.since(place);
            assert_eq!(missed, oldest.saturating_sub(place));
            let news: Vec<(u64, &str)> = news.collect();
            let ids: Vec<u64> = news.iter().map(|(id, _)| *id).collect();
            assert_eq!(ids, (place.max(oldest) + 1..=last).collect::<Vec<_>>());
            let (same, events) = history.events(place);
            let events: Vec<&[u8]> = events.collect();
            let written = news.iter().map(|(id, json)| format!("id: {id}\ndata: {json}\n\n"));
            assert!(
                same == missed && written.eq(events.iter().map(|it| str::from_utf8(it).unwrap()))
            );
        }
        history.push("said", &format!("{}", last + 1));
    }
    let page: Value = serde_json::from_str(&history.json(5)).unwrap();
    let (first, text) = (&page["news"][0]["id"], &page["news"][0]["text"]);
    assert_eq!((&page["missed"], first, text), (&json!(100), &json!(106), &json!("106")));
}
