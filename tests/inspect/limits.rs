//! The limits of the live page: what happens at each, and beyond it.

use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};
use support::ceiling;
use waterwheel::inspect::{Inspect, LABELS_MAX};
use waterwheel::reactor::Priority;
use waterwheel::{Context, Reactor};

use super::client::{LIMIT, Page, Program};

/// Breakpoints at a time.
const BREAKS_MAX: usize = 64;
/// Commands that wait for the loop.
const COMMANDS_MAX: usize = 256;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// Sources, timers and entries of each lane in a keyframe.
const SHOWN_MAX: usize = 4096;
/// Reasons why the loop is alive in a keyframe.
const REASONS_MAX: usize = 20;

#[test]
fn latest_words_for_sources_are_kept_one_for_each() {
    let _ceiling = ceiling(LIMIT);
    let inspect = Inspect::setup().quiet().open("127.0.0.1:0").unwrap();
    let mut reactor = inspect.watch(Reactor::<u64>::builder()).unwrap();
    let sources: Vec<_> = (0..=LABELS_MAX).map(|_| reactor.own((), |_, _, _, _| {})).collect();
    for (number, source) in sources.iter().enumerate() {
        inspect.label(*source, &number.to_string());
    }
    let words = |page: &mut Page, last: &str| -> Vec<String> {
        let labels = page.until("labels", |labels| labels["labels"][LABELS_MAX - 1][3] == last);
        let labels = labels["labels"].as_array().unwrap().iter();
        labels.map(|label| label[3].as_str().unwrap().to_owned()).collect()
    };
    let looks = Program::at(inspect.url());
    let mut page = looks.page();
    let kept: Vec<_> = (1..=LABELS_MAX).map(|number| number.to_string()).collect();
    assert_eq!(words(&mut page, &LABELS_MAX.to_string()), kept, "the oldest is forgotten");
    inspect.label(sources[5], "again");
    let again: Vec<_> =
        kept.into_iter().filter(|word| word != "5").chain(["again".into()]).collect();
    assert_eq!(words(&mut page, "again"), again, "a new word for it pushes none out");
}

#[test]
fn breakpoint_beyond_the_limit_is_refused_until_one_goes() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::start(Inspect::setup().control());
    let set = |line: usize, on: bool| {
        program.command(json!({ "do": "break", "file": "no/such.rs", "line": line, "on": on }))
    };
    (0..BREAKS_MAX).for_each(|line| assert_eq!(set(line, true).0, 204, "{line}"));
    assert_eq!(set(3, true).0, 204, "it is there already");
    let refused = (409, "There are 64 breakpoints already: remove one.\n".to_owned());
    assert_eq!(set(BREAKS_MAX, true), refused);
    assert_eq!(set(BREAKS_MAX, false).0, 204, "it is not there");
    assert_eq!(set(BREAKS_MAX, true), refused);
    assert_eq!(set(3, false).0, 204);
    assert_eq!(set(BREAKS_MAX, true).0, 204);
    assert!(program.end() > 0);
}

/// Keeps the loop in a callback until it is let go.
fn hold(program: &Program) -> mpsc::Sender<()> {
    let (began, begun) = mpsc::channel();
    let (let_go, go) = mpsc::channel::<()>();
    let held = program.remote.post(move |_, _| {
        began.send(()).unwrap();
        let _ = go.recv();
    });
    held.unwrap();
    begun.recv().unwrap();
    let_go
}

#[test]
fn command_beyond_those_that_wait_is_refused_and_those_that_wait_are_done() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::of(Inspect::setup().control(), |_| {});
    let mut page = program.page();
    page.until("key", |_| true);
    let let_go = hold(&program);
    let timer = || program.command(json!({ "do": "timer", "ms": 3_600_000 }));
    let taken = (0..).take_while(|_| timer().0 == 204).count();
    // A keyframe may be wanted meanwhile.
    assert!((COMMANDS_MAX - 1..=COMMANDS_MAX).contains(&taken), "{taken}");
    let why = "The loop has not come to 256 commands yet: wait.\n";
    assert_eq!(timer(), (409, why.to_owned()));
    let fault = program.command(json!({ "do": "fault", "what": "leak" }));
    assert_eq!(fault, (409, why.to_owned()));
    // What is no command for the loop's own thread is done at once.
    assert_eq!(program.command(json!({ "do": "pace", "per_mille": 500 })).0, 204);
    // The page goes, and with it the wish for records; another one wants them again.
    drop(page);
    let mut page = program.page();
    page.until("state", |state| state["pace"] == 500);
    // It stands before its next callback; at the gate it comes to all of them.
    assert_eq!(program.command(json!({ "do": "stop" })).0, 204);
    let_go.send(()).unwrap();
    page.until("key", |key| key["totals"]["timers"] == taken);
    assert_eq!(timer().0, 204);
    page.until("key", |key| key["totals"]["timers"] == taken + 1);
    assert_eq!(program.command(json!({ "do": "run" })).0, 204);
    page.until("rec", |_| true);
    program.end();
}

/// The page's own wishes have a place among the program's posts, and may have to wait for it.
#[test]
fn page_of_a_program_with_a_full_mailbox_waits_for_room() {
    let _ceiling = ceiling(LIMIT);
    let (started, answer) = mpsc::channel();
    let running = thread::spawn(move || {
        let inspect = Inspect::setup().quiet().open("127.0.0.1:0").unwrap();
        let mut reactor = inspect.watch(Reactor::<u64>::builder().mailbox_posts_max(1)).unwrap();
        started.send((inspect.url(), reactor.remote())).unwrap();
        reactor.run(&mut 0).unwrap();
    });
    let (url, remote) = answer.recv().unwrap();
    let mut program = Program::at(url);
    program.remote = remote;
    let let_go = hold(&program);
    program.remote.post(|_, _| {}).unwrap();
    assert!(program.remote.post(|_, _| {}).is_err(), "it is full");
    let mut page = program.page();
    page.beats(1, "key");
    let_go.send(()).unwrap();
    page.until("key", |_| true);
    program.remote.stop().unwrap();
    running.join().unwrap();
}

#[test]
fn keyframe_has_so_many_of_each_and_the_number_of_all() {
    const MANY: usize = 5000;
    let _ceiling = ceiling(LIMIT);
    fn crowd(reactor: &mut Context<u64>, _: &mut u64) {
        for _ in 0..MANY {
            reactor.own((), |_, _, _, _| {});
            reactor.after(LIMIT, |_, _| {});
            reactor.defer(|_, _| {});
            for lane in [Priority::High, Priority::Normal, Priority::Low] {
                reactor.enqueue(lane, |_, _| {});
            }
        }
    }
    let program = Program::of(Inspect::setup().control(), |_| {});
    let mut page = program.page();
    page.until("state", |state| state["asleep"] == true);
    program.command(json!({ "do": "stop" }));
    program.remote.post(crowd).unwrap();
    page.until_standing();
    program.command(json!({ "do": "step", "what": "event" }));
    let key = page.until("key", |key| key["totals"]["timers"] != 0);
    let lists = ["/sources", "/timers", "/deferred", "/lanes/0", "/lanes/1", "/lanes/2"];
    let len = |list: &str| key.pointer(list).and_then(Value::as_array).map(Vec::len);
    assert_eq!(lists.map(len), [Some(SHOWN_MAX); 6]);
    let all =
        json!({ "sources": MANY, "timers": MANY, "deferred": MANY, "lanes": [MANY, MANY, MANY] });
    assert_eq!(key["totals"], all);
    assert_eq!(key["why"].as_array().unwrap().len(), REASONS_MAX);
    program.end();
}

#[test]
fn connection_beyond_the_limit_is_refused_and_a_page_goes_on() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::start(Inspect::setup().control());
    let mut page = program.page();
    page.until("rec", |_| true);
    let idle: Vec<_> =
        (1..CONNECTIONS_MAX).map(|_| TcpStream::connect(program.address()).unwrap()).collect();
    let refused = loop {
        // The server takes them one after the other.
        match program.get("") {
            (200, _) => {}
            other => break other,
        }
    };
    assert_eq!(refused.0, 503);
    page.until("rec", |_| true);
    drop(idle);
    while program.get("").0 != 200 {}
    program.end();
}

#[test]
fn longest_delay_is_taken_and_a_longer_one_is_not() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::start(Inspect::setup().control());
    let timer = |ms: u64| program.command(json!({ "do": "timer", "ms": ms }));
    assert_eq!(timer(3_600_000).0, 204);
    let why = "\"ms\" is a whole number, at most 3600000.\n".to_owned();
    assert_eq!(timer(3_600_001), (409, why));
    program.end();
}
