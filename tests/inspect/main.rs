//! The live page from outside: who may see it, what it is sent, what it can do to the loop.

mod again;
mod browser;
mod client;
mod limits;
mod looks;
mod own;
mod past;
#[cfg(target_os = "linux")]
mod unread;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use client::{LIMIT, Program};
use serde_json::{Value, json};
use support::ceiling;
use waterwheel::inspect::{Inspect, PAGES_MAX, Setup};
use waterwheel::reactor::Kind;

fn controlled() -> Program {
    Program::start(Inspect::setup().control())
}

#[test]
fn who_does_not_know_the_token_learns_nothing() {
    let _ceiling = ceiling(LIMIT);
    let program = controlled();
    let right = program.path("");
    let wrong_digit = right.replace(&right[1..2], if &right[1..2] == "0" { "1" } else { "0" });
    let shorter = format!("{}/", &right[..right.len() - 2]);
    for path in ["/", "/events", "//", "/0/", "/favicon.ico", &wrong_digit, &shorter, &right[..33]]
    {
        for method in ["GET", "POST", "DELETE"] {
            let answer = program.ask(method, path, "", "");
            assert_eq!(answer, (404, String::new()), "{method} {path}");
        }
    }
    assert_eq!(program.get("").0, 200);
    assert_eq!(program.get("no/such/thing"), (404, String::new()));
}

#[test]
fn another_host_or_origin_is_refused_also_with_the_token() {
    let _ceiling = ceiling(LIMIT);
    let program = controlled();
    let (path, address) = (program.path(""), program.address());
    for host in ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "localhost:1"] {
        let answer = program.ask("GET", &path, &format!("Host: {host}\r\n"), "");
        assert_eq!(answer, (403, String::new()), "{host}");
    }
    for origin in ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"] {
        let headers = format!("Origin: {origin}\r\nContent-Type: application/json\r\n");
        let answer = program.ask("POST", &program.path("ctl"), &headers, "{\"do\":\"stop\"}");
        assert_eq!(answer.0, 403, "{origin}");
    }
    let local = format!("Host: localhost:{}\r\n", address.port());
    assert_eq!(program.ask("GET", &path, &local, "").0, 200);
    let own = format!("Origin: http://{address}\r\nContent-Type: application/json\r\n");
    assert_eq!(program.ask("POST", &program.path("ctl"), &own, "{\"do\":\"run\"}").0, 204);
}

/// Another site may send a form, and a link may send a GET, with nobody asking the user.
#[test]
fn page_stands_in_no_frame_but_that_of_the_page_that_is_named() {
    let _ceiling = ceiling(LIMIT);
    let policy = |setup: Setup| {
        let inspect = setup.quiet().open("127.0.0.1:0").unwrap();
        let url = inspect.url();
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut page = TcpStream::connect(host).unwrap();
        write!(page, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        page.read_to_string(&mut answer).unwrap();
        let policy = answer.lines().find_map(|line| line.split_once("frame-ancestors "));
        policy.unwrap_or_else(|| panic!("{answer}")).1.to_owned()
    };
    assert_eq!(policy(Inspect::setup()), "'none'");
    let origin = "http://127.0.0.1:7100";
    assert_eq!(policy(Inspect::setup().framed_by(origin)), origin);
    for bad in ["*; script-src *", "http://a b", "a\r\nSet-Cookie: b"] {
        let error = Inspect::setup().framed_by(bad).open("127.0.0.1:0").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{bad}");
    }
}

#[test]
fn form_is_no_command_and_a_link_is_none() {
    let _ceiling = ceiling(LIMIT);
    let program = controlled();
    let path = program.path("ctl");
    let kinds =
        ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"];
    for kind in kinds {
        assert_eq!(program.ask("POST", &path, kind, "{\"do\":\"stop\"}").0, 415, "{kind}");
    }
    assert_eq!(program.get("ctl").0, 405);
    assert_eq!(program.ask("POST", &program.path(""), "", "").0, 405);
    assert_eq!(program.ask("POST", &program.path("events"), "", "").0, 405);
    let mut page = program.page();
    assert_eq!(page.until("state", |_| true)["mode"], "running");
}

#[test]
fn page_may_only_look_unless_control_is_allowed() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::start(Inspect::setup());
    let mut page = program.page();
    assert_eq!(page.until("hello", |_| true)["control"], false);
    for command in [json!({"do": "stop"}), json!({"do": "pace", "per_mille": 0}), json!({})] {
        let (status, why) = program.command(command);
        assert_eq!(status, 409);
        assert!(why.contains("may only look") && why.lines().count() == 1, "{why}");
    }
    page.until("rec", |_| true);
    assert!(program.end() > 0);
}

#[test]
fn bad_command_gets_one_sentence_and_changes_nothing() {
    let _ceiling = ceiling(LIMIT);
    let program = controlled();
    let bad = [
        json!({}),
        json!([]),
        json!(null),
        json!({"do": 7}),
        json!({"do": "fly"}),
        json!({"do": "step"}),
        json!({"do": "step", "what": "backwards"}),
        json!({"do": "pace"}),
        json!({"do": "pace", "per_mille": -1}),
        json!({"do": "pace", "per_mille": 1001}),
        json!({"do": "pace", "per_mille": 1.5}),
        json!({"do": "timer", "ms": "soon"}),
        json!({"do": "timer", "ms": u64::MAX}),
        json!({"do": "break", "file": "x.rs"}),
        json!({"do": "break", "line": 3}),
        json!({"do": "fault", "what": "fire"}),
        json!({"do": "fault", "what": "block", "ms": 10_001}),
    ];
    for command in bad {
        let (status, why) = program.command(command.clone());
        assert_eq!(status, 409, "{command}");
        assert!(why.lines().count() == 1 && why.ends_with(".\n"), "{command}: {why}");
    }
    let kind = "Content-Type: application/json; charset=utf-8\r\n";
    for text in ["", "{", "stop", "{\"do\":\"stop\"} {}", &"[".repeat(10_000)] {
        let (status, why) = program.ask("POST", &program.path("ctl"), kind, text);
        assert_eq!((status, why.lines().count()), (409, 1), "{why}");
    }
    let large = program.ask("POST", &program.path("ctl"), kind, &" ".repeat(16 * 1024 + 1));
    assert_eq!(large.0, 413);
    let mut page = program.page();
    let state = page.until("state", |_| true);
    assert_eq!((&state["mode"], &state["pace"]), (&json!("running"), &json!(1000)));
}

#[test]
fn ninth_page_is_refused_until_one_goes() {
    let _ceiling = ceiling(LIMIT);
    let program = controlled();
    let mut pages: Vec<_> = (0..PAGES_MAX).map(|_| program.page()).collect();
    for page in &mut pages {
        page.until("hello", |_| true);
    }
    let (status, why) = program.get("events");
    assert_eq!(status, 503);
    assert!(why.contains("8 pages"), "{why}");
    drop(pages.pop());
    let mut late = loop {
        // The server learns of the end a moment later.
        match program.page_since(None) {
            Ok(page) => break page,
            Err(status) => assert_eq!(status, 503),
        }
    };
    late.until("rec", |_| true);
}

#[test]
fn address_that_others_reach_is_refused_unless_it_is_asked_for() {
    let error = Inspect::setup().quiet().open("0.0.0.0:0").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no loopback address"), "{error}");
    assert!(Inspect::setup().quiet().open("127.0.0.1:no").is_err());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Inspect::setup().quiet().open(&taken.local_addr().unwrap().to_string());
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert!(Inspect::setup().quiet().anywhere().open("0.0.0.0:0").is_ok());
    assert!(
        Inspect::setup().quiet().open("[::1]:0").is_ok_and(|page| page.url().contains("[::1]"))
    );
}

/// It costs no memory: it has a place in the ring, and no queue. When it reads again it is told how
/// much it has missed, and begins again.
#[test]
fn page_that_does_not_read_is_dropped_from_and_told_so() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::of(Inspect::setup().control(), |reactor| {
        fn again(reactor: &mut waterwheel::Context<u64>, count: &mut u64) {
            *count += 1;
            reactor.enqueue(Default::default(), again);
        }
        reactor.enqueue(Default::default(), again);
    });
    let mut stream = TcpStream::connect(program.address()).unwrap();
    write!(
        stream,
        "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
        program.path("events"),
        program.address()
    )
    .unwrap();
    let mut reads = program.page();
    reads.until("rec", |_| true);
    // A second page reads a million records' worth of time; the loop makes far more than it may get.
    // If the page's thread had to wait, the ring has none of them any more.
    let dropped = reads.until("dropped", |dropped| dropped["turns"].is_array());
    let count = dropped["count"].as_u64().unwrap();
    assert!(count > 10_000, "{dropped}");
    // By kinds, whose sum is the count; and it says which turns were missed.
    let kinds = dropped["kinds"].as_object().unwrap();
    assert_eq!(kinds.values().map(|kind| kind.as_u64().unwrap()).sum::<u64>(), count, "{dropped}");
    let turns = [0, 1].map(|of| dropped["turns"][of].as_u64().unwrap());
    assert!(turns[1] - turns[0] + 1 >= kinds["Turn"].as_u64().unwrap(), "{dropped}");
    // After a keyframe the page may be too late once more.
    let mut key = None;
    let next = loop {
        match reads.next() {
            (name, data) if name == "key" => key = data["sequence"].as_u64(),
            (name, data) if name == "rec" => break data["first"].as_u64(),
            _ => {}
        }
    };
    assert_eq!(next, key.map(|key| key + 1));
    stream.set_nonblocking(true).unwrap();
    let mut unread = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        unread += count;
    }
    assert!(unread < 16 << 20, "{unread} bytes were on the way to a page that does not read");
    program.end();
}

#[test]
fn records_have_no_gap_also_for_a_page_that_comes_back() {
    let _ceiling = ceiling(LIMIT);
    let program = controlled();
    let mut other = program.page(); // While one page is open the records go on.
    other.until("rec", |_| true);
    let mut page = program.page();
    let mut next = page.until("key", |_| true)["sequence"].as_u64().unwrap() + 1;
    let mut whole = |page: &mut client::Page, records: u64| {
        let mut seen = 0;
        while seen < records {
            let rec = page.until("rec", |_| true);
            assert_eq!(rec["first"], next);
            let count = rec["count"].as_u64().unwrap();
            (next, seen) = (next + count, seen + count);
        }
    };
    whole(&mut page, 200);
    let id = page.id.clone();
    drop(page);
    let mut page = program.page_since(Some(&id)).unwrap();
    assert_eq!(page.next().0, "hello");
    whole(&mut page, 200);
    // A place of another loop, and one that never was: it begins anew.
    for id in ["7.1", "1.99999999", "1.", "x", ""] {
        let mut page = program.page_since(Some(id)).unwrap();
        page.until("key", |_| true);
    }
}

#[test]
fn stopped_loop_stands_and_its_time_with_it_until_it_is_told_to_go_on() {
    let _ceiling = ceiling(LIMIT);
    let program = controlled();
    let mut page = program.page();
    page.until("rec", |_| true);
    assert_eq!(program.command(json!({"do": "step", "what": "turn"})).0, 204);
    page.until_standing();
    let key = |page: &mut client::Page| page.until("key", |key| key["batch"] != json!([0, 0, 0]));
    let (step, timer) = (json!({"do": "step", "what": "event"}), json!({"do": "timer", "ms": 150}));
    assert_eq!(program.command(timer).0, 204);
    // At the gate a command is carried out at once: the keyframe after it has the timer.
    let with_timer = page.until("key", |key| key["totals"]["timers"] == 2);
    assert_eq!(program.command(step.clone()).0, 204);
    let next = key(&mut page);
    let at = |key: &Value, what: &str| key[what].as_u64().unwrap();
    assert!(at(&next, "sequence") > at(&with_timer, "sequence"));
    // A step is one callback: it begins and ends between the two.
    assert!(at(&next, "turn") > at(&with_timer, "turn"));
    assert_eq!(program.command(json!({"do": "run"})).0, 204);
    page.until("state", |state| state["mode"] == "running");
    page.until("rec", |_| true);
    assert!(program.end() > 0);
}

#[test]
fn loop_that_is_asleep_when_it_is_stopped_stands_at_the_next_callback() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::of(Inspect::setup().control(), |_| {});
    let mut page = program.page();
    page.until("state", |state| state["asleep"] == true);
    program.command(json!({"do": "stop"}));
    let state = page.until("state", |state| state["mode"] == "stopped" && state["asleep"] == true);
    assert_eq!(state["standing"], false);
    program.remote.post(|_, count| *count += 100).unwrap();
    let key = page.until("key", |key| key["batch"] == json!([0, 1, 0]));
    assert_eq!(key["lanes"][1][0][0], "p", "{key}");
    page.until_standing();
    assert_eq!(program.end(), 100);
}

#[test]
fn breakpoint_stops_at_its_line_alone() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::of(Inspect::setup().control(), |reactor| {
        let often = Duration::from_millis(1);
        reactor
            .every(often, waterwheel::reactor::Missed::Skip, |_, count: &mut u64, _| *count += 1);
        reactor.after(Duration::from_millis(50), |_, count| *count += 1_000_000);
    });
    // The line of `after` above.
    let line = line!() - 3;
    let mut page = program.page();
    program.command(json!({"do": "break", "file": "inspect/main.rs", "line": line}));
    page.until_standing();
    assert_eq!(
        program
            .command(json!({"do": "break", "file": "inspect/main.rs", "line": line, "on": false}))
            .0,
        204
    );
    program.command(json!({"do": "run"}));
    page.until("state", |state| state["mode"] == "running");
    assert!(program.end() >= 1_000_000);
}

#[test]
fn stopped_loop_whose_page_has_gone_runs_on() {
    let _ceiling = ceiling(LIMIT);
    let program = controlled();
    let mut page = program.page();
    page.until("rec", |_| true);
    program.command(json!({"do": "pace", "per_mille": 10}));
    program.command(json!({"do": "step", "what": "event"}));
    page.until_standing();
    drop(page);
    // It does not answer while it stands.
    let (answer, answered) = std::sync::mpsc::channel();
    program.remote.post(move |_, _| answer.send(()).unwrap()).unwrap();
    answered.recv_timeout(LIMIT).expect("the loop runs on");
    let mut page = program.page();
    let state = page.until("state", |_| true);
    assert_eq!((&state["mode"], &state["pace"]), (&json!("running"), &json!(1000)));
}

#[test]
fn end_of_the_loop_and_the_next_loop_are_announced() {
    let _ceiling = ceiling(LIMIT);
    let inspect = Inspect::setup().quiet().open("127.0.0.1:0").unwrap();
    let program = |url: String| Program::at(url);
    let looks = program(inspect.url());
    let mut page = looks.page();
    assert_eq!(page.until("hello", |_| true)["version"], 1);
    for number in 1..=2 {
        let mut reactor = inspect.watch(waterwheel::Reactor::<u64>::builder()).unwrap();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let remote = reactor.remote();
        std::thread::spawn(move || {
            let _ = gone.recv();
            drop(remote);
        });
        let running = std::thread::scope(|scope| {
            let page = &mut page;
            let look = scope.spawn(move || {
                let key = page.until("key", |_| true);
                go.send(()).unwrap();
                key["session"].as_u64().unwrap()
            });
            reactor.run(&mut 0).unwrap();
            drop(reactor);
            look.join().unwrap()
        });
        assert_eq!(running, number);
        page.until("end", |end| end["why"].as_str().unwrap().contains("run has returned"));
    }
}

/// A page comes and goes; the observer of the program misses no record and gets none twice.
#[test]
fn observer_of_the_program_receives_all_records_also_while_a_page_looks() {
    let _ceiling = ceiling(LIMIT);
    let recorder = waterwheel::reactor::Recorder::new();
    let inspect = Inspect::setup().quiet().open("127.0.0.1:0").unwrap();
    let builder = waterwheel::Reactor::<u64>::builder().observer(recorder.observer());
    let mut reactor = inspect.watch(builder).unwrap();
    let often = Duration::from_millis(1);
    reactor.every(often, waterwheel::reactor::Missed::Skip, |_, count: &mut u64, _| *count += 1);
    let (remote, url) = (reactor.remote(), inspect.url());
    let looking = std::thread::spawn(move || {
        let program = Program::at(url);
        for _ in 0..3 {
            let (mut page, mut seen) = (program.page(), 0);
            while seen <= 100 {
                seen += page.until("rec", |_| true)["count"].as_u64().unwrap();
            }
        }
        // On a busy machine few records have been made by now.
        program.page().until("rec", |rec| rec["first"].as_u64() > Some(100));
        remote.stop().unwrap();
    });
    reactor.run(&mut 0).unwrap();
    looking.join().unwrap();
    let events = recorder.take();
    assert!(events.len() > 100);
    assert!(events.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
    let ends = |kind| events.iter().filter(|event| event.kind == kind).count();
    let begun = ends(Kind::RunTimer) + ends(Kind::RunPosted);
    assert_eq!(ends(Kind::Returned), begun, "each callback has its end");
}

/// While no page looks, the program's observer goes on counting: the ring has a gap, and says so.
#[test]
fn records_of_a_page_that_comes_again_are_those_of_the_programs_observer() {
    let _ceiling = ceiling(LIMIT);
    let recorder = waterwheel::reactor::Recorder::new();
    let inspect = Inspect::setup().quiet().open("127.0.0.1:0").unwrap();
    let builder = waterwheel::Reactor::<u64>::builder().observer(recorder.observer());
    let mut reactor = inspect.watch(builder).unwrap();
    let often = Duration::from_millis(1);
    reactor.every(often, waterwheel::reactor::Missed::Skip, |_, count: &mut u64, _| *count += 1);
    let (remote, program) = (reactor.remote(), Program::at(inspect.url()));
    let wait = |turns: u64| {
        let (answer, answered) = std::sync::mpsc::channel();
        for _ in 0..turns {
            let answer = answer.clone();
            remote.post(move |_, _| answer.send(()).unwrap()).unwrap();
            answered.recv().unwrap();
        }
    };
    let records = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            wait(3);
            for _ in 0..2 {
                let mut page = program.page();
                let mut key = None;
                let next = loop {
                    match page.next() {
                        (name, data) if name == "key" => key = data["sequence"].as_u64(),
                        (name, data) if name == "rec" => break data["first"].as_u64(),
                        (name, data) => assert_ne!(name, "dropped", "{data}"),
                    }
                };
                assert_eq!(next, key.map(|key| key + 1));
                drop(page);
                // Until nothing is recorded any more; then some turns that no page sees.
                let mut latest = 0;
                while std::mem::replace(&mut latest, inspect.latest()) != inspect.latest() {
                    wait(1);
                }
                wait(20);
            }
            let records = inspect.records();
            remote.stop().unwrap();
            records
        });
        reactor.run(&mut 0).unwrap();
        looking.join().unwrap()
    });
    let events = recorder.take();
    assert!(records.len() > 20 && records[0].sequence > 60, "{} records", records.len());
    for record in records {
        let event = &events[(record.sequence - events[0].sequence) as usize];
        assert_eq!(record, waterwheel::inspect::Record::from(event));
    }
}

/// The recording in the repository is a page that was saved: it has the code of this one.
#[test]
fn recording_of_scene_three_was_saved_by_this_page() {
    let text = |name: &str| {
        let text = std::fs::read_to_string(support::home().join("inspect").join(name)).unwrap();
        text.replace("\r\n", "\n")
    };
    let code = |text: &str| {
        let (_, code) = text.split_once("<script id=\"main\">").expect("the page's code");
        code.split("</script>").next().unwrap().to_owned()
    };
    let same = code(&text("page.html")) == code(&text("scene-3.html"));
    assert!(same, "the page has changed: play scene 3 of the tour, and save it as scene-3.html");
}

/// A page that people read: with its wheel, its instruments and the comments, but no more.
const PAGE_BYTES_MAX: usize = 80_000;

#[test]
fn page_is_whole_in_one_file_and_small() {
    let _ceiling = ceiling(LIMIT);
    let (status, page) = controlled().get("");
    assert_eq!(status, 200);
    assert!(page.len() <= PAGE_BYTES_MAX, "{} bytes", page.len());
    for foreign in ["http://", "https://", "src=", "@import", "innerHTML"] {
        let lines: Vec<_> = page.lines().filter(|line| line.contains(foreign)).collect();
        assert!(lines.is_empty(), "{foreign}: {lines:?}");
    }
}

/// <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>: `B` and `E`
/// nest, `s` comes before its `f`, times do not go back.
#[test]
fn chrome_trace_nests_and_its_arrows_lead_from_cause_to_effect() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::of(Inspect::setup().control(), |reactor| {
        let often = Duration::from_millis(1);
        reactor.every(often, waterwheel::reactor::Missed::Skip, |reactor, _, _| {
            reactor.defer(|reactor, _| reactor.enqueue(Default::default(), |_, count| *count += 1));
        });
    });
    let mut page = program.page();
    (0..10).for_each(|_| drop(page.until("rec", |_| true)));
    let (status, trace) = program.get("trace.json");
    assert_eq!(status, 200);
    let trace: Value = serde_json::from_str(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let (mut open, mut last, mut arrows) = ([0i32; 3], 0.0, Vec::new());
    let mut counts = [0; 3];
    for event in events {
        let at = event["ts"].as_f64().unwrap();
        let thread = event["tid"].as_u64().unwrap_or(0) as usize;
        match event["ph"].as_str().unwrap() {
            "B" => {
                assert!(at >= last, "{event}");
                open[thread] += 1;
                counts[0] += 1;
            }
            "E" => {
                assert!(at >= last && open[thread] > 0, "{event}");
                open[thread] -= 1;
            }
            "s" => arrows.push(event["id"].clone()),
            "f" => {
                assert!(arrows.contains(&event["id"]), "{event}");
                counts[1] += 1;
                continue;
            }
            "C" => counts[2] += 1,
            other => panic!("{other}"),
        }
        if event["ph"] != "s" {
            last = at;
        }
    }
    assert!(open[1] <= 1 && open[2] <= 1, "{open:?}");
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}
