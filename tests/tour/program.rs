//! The program around the scenes: its commands, its command line, and a scene that is played.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::process::{Process, example, output};
use support::{MS, ceiling};
use waterwheel::Reactor;

use crate::people::{self, NAMES, People};
use crate::room::{Knobs, Room};
use crate::scene::ALL;

/// A command that is refused, and why: one sentence.
fn refused(answer: Result<(), String>, because: &str) {
    let why = answer.expect_err(because);
    assert!(why.contains(because) && why.ends_with('.') && !why.contains('\n'), "{why:?}");
}

#[test]
fn a_command_with_a_wrong_field_gets_one_sentence() {
    let _ceiling = ceiling(Duration::from_secs(60));
    let people = People::start().unwrap();
    let peer = |command: Value| people.peer(&command);
    refused(peer(json!({ "do": "peer" })), "\"name\" is a text");
    refused(peer(json!({ "name": 7, "act": "send" })), "\"name\" is a text");
    refused(peer(json!({ "name": "dora", "act": "send" })), "nobody called \"dora\"");
    refused(peer(json!({ "name": "ann" })), "\"act\" is a text");
    refused(peer(json!({ "name": "ann", "act": "sing" })), "\"sing\" is no act; there are open");
    refused(peer(json!({ "name": "ann", "act": "send" })), "\"text\" is a text");
    let bytes = |bytes| peer(json!({ "name": "ann", "act": "send", "bytes": bytes }));
    refused(bytes(json!("many")), "\"bytes\" is a whole number");
    refused(bytes(json!(-1)), "\"bytes\" is a whole number");
    refused(bytes(json!(16 * 1024 * 1024 + 1)), "more than 16,777,216 bytes");
    let hello = json!({ "name": "ann", "act": "send", "text": "hello" });
    refused(peer(hello.clone()), "\"ann\" is not connected");
    refused(people.play(&json!({})), "There is no page");
    refused(people.knob(&json!({ "name": "times", "value": 1 })), "There is no scene yet");
    refused(people.act(&json!({ "name": "unref" })), "There is no scene yet");
    for n in [json!(0), json!(11), json!(-1), json!("one"), json!(1.5), Value::Null] {
        refused(people::scene_number(&json!({ "n": n })).map(drop), "from 1 to 10");
    }
    assert_eq!(people::scene_number(&json!({ "n": 10 })), Ok(10));

    // With a scene: 7 has a knob, and no act.
    let mut reactor = Reactor::new().unwrap();
    let knobs = Knobs::new(ALL[6].knobs);
    let mut room = Room::new(knobs.clone(), Some(people.clone()));
    let address = (ALL[6].code.build)(&mut reactor, &mut room).unwrap();
    people.begin_scene(7, address, reactor.remote_unheld(), knobs);
    while room.members.len() < NAMES.len() {
        reactor.turn(&mut room, Some(MS)).unwrap();
    }
    let names: Vec<_> = room.members.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, NAMES, "each joins under its name");
    let knob = |command: Value| people.knob(&command);
    refused(knob(json!({ "value": 1 })), "\"name\" is a text");
    refused(knob(json!({ "name": "volume", "value": 1 })), "no knob \"volume\"");
    for value in [json!(0), json!(100_001), json!("5"), json!(2.5), json!(-3), Value::Null] {
        refused(knob(json!({ "name": "times", "value": value })), "from 1 to 100000");
    }
    assert_eq!(room.knob("times"), 5000, "what was refused has changed nothing");
    assert_eq!(knob(json!({ "name": "times", "value": 100_000 })), Ok(()));
    assert_eq!(room.knob("times"), 100_000);
    refused(people.act(&json!({ "name": "unref" })), "no act \"unref\"");
    refused(people.act(&json!({})), "\"name\" is a text");
    refused(peer(json!({ "name": "ann", "act": "open" })), "\"ann\" is connected already");
    assert_eq!(peer(hello), Ok(()));
    drop(reactor);
    // Scene 10 has an act, and this loop has gone.
    let mut reactor = Reactor::new().unwrap();
    let mut room = Room::new(Knobs::new(&[]), Some(people.clone()));
    let address = (ALL[9].code.build)(&mut reactor, &mut room).unwrap();
    people.begin_scene(10, address, reactor.remote_unheld(), Knobs::new(&[]));
    assert_eq!(people.act(&json!({ "name": "unref" })), Ok(()));
    drop(reactor);
    refused(people.act(&json!({ "name": "unref" })), "The loop has ended");
}

#[test]
fn the_program_explains_itself_and_refuses_what_it_does_not_know() {
    let help = output("tour", &["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success() && text.starts_with("Usage: tour [OPTIONS] [SCENE]"), "{text}");
    assert_eq!(text.as_bytes(), output("tour", &["-h"]).stdout);
    let refused = |args: &[&str], because: &str| {
        let Output { status, stdout, stderr } = output("tour", args);
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stdout.len()), (Some(2), 0), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{said}");
    };
    for scene in ["0", "11", "-1", "one", "1.5", ""] {
        refused(&[scene], "there is no scene");
    }
    for port in ["65536", "-1", "http", ""] {
        refused(&["--port", port], "is no port");
    }
    refused(&["--port"], "--port needs a number");
    refused(&["--nonsense"], "--nonsense");
    refused(&["1", "2"], "one scene");
    refused(&["1", "11"], "one scene");
}

/// A page without a browser: its stream of events, and its commands.
struct Page {
    address: String,
    token: String,
    events: BufReader<TcpStream>,
}

impl Page {
    fn open(url: &str) -> Page {
        let rest = url.strip_prefix("http://").unwrap();
        let (address, token) = rest.trim_end_matches('/').split_once('/').unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /{token}/events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        Page { address: address.into(), token: token.into(), events: BufReader::new(stream) }
    }

    /// The next event of this name that fits.
    fn event(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let (mut current, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            assert!(self.events.read_line(&mut line).unwrap() > 0, "the page has ended");
            if let Some(event) = line.trim_end().strip_prefix("event: ") {
                current = event.to_owned();
            } else if let Some(text) = line.strip_prefix("data: ")
                && current == name
                && let Ok(value) = serde_json::from_str(text)
                && fits(&value)
            {
                return value;
            }
        }
    }

    /// The names of the events up to the next of this name.
    fn names_until(&mut self, last: &str) -> Vec<String> {
        let mut names = Vec::new();
        while names.last().is_none_or(|name| name != last) {
            let mut line = String::new();
            assert!(self.events.read_line(&mut line).unwrap() > 0, "the page has ended");
            names.extend(line.trim_end().strip_prefix("event: ").map(str::to_owned));
        }
        names
    }

    /// The status of the answer, and its text.
    fn command(&self, command: &Value) -> String {
        let (address, token, body) = (&self.address, &self.token, command.to_string());
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "POST /{token}/ctl HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.strip_prefix("HTTP/1.1 ").unwrap().to_owned()
    }

    fn has_done(&self, command: &Value) {
        let answer = self.command(command);
        assert!(answer.starts_with("204"), "{command}: {answer}");
    }
}

#[test]
fn a_scene_is_played_on_a_page_and_another_one_ends() {
    let _ceiling = ceiling(Duration::from_secs(120));
    let mut program = Process::start(example("tour").arg("3").stdout(Stdio::piped()));
    let line = program.line();
    let mut page = Page::open(line.split_whitespace().last().unwrap());
    let hello = page.event("hello", |_| true);
    assert_eq!(hello["scenes"].as_array().unwrap().len(), 10);
    for scene in hello["scenes"].as_array().unwrap() {
        let file = scene["file"].as_str().unwrap();
        assert!(hello["files"][file].as_str().unwrap().contains("pub fn build"), "{file}");
    }
    let all_there = |value: &Value| {
        value["peers"].as_array().unwrap().iter().all(|person| person["open"] == true)
    };
    page.event("peers", all_there);
    page.has_done(&json!({ "do": "play" }));
    page.event("played", |played| played["scene"] == 3);
    // Ann's event and Bob's are in one batch, and nothing has run.
    page.event("key", |key| key["batch"] == json!([0, 2, 0]));
    page.has_done(&json!({ "do": "run" }));
    let proof = page.event("proof", |proof| proof["scene"] == 3);
    assert_eq!(proof["records"].as_array().unwrap().len(), 2);

    page.has_done(&json!({ "do": "scene", "n": 10 }));
    page.event("scene", |scene| scene["n"] == 10);
    page.event("peers", all_there);
    page.has_done(&json!({ "do": "play" }));
    page.event("played", |played| played["scene"] == 10);
    page.has_done(&json!({ "do": "run" }));
    page.event("proof", |proof| proof["scene"] == 10);
    page.has_done(&json!({ "do": "act", "name": "unref" }));
    page.event("end", |_| true);
    page.event("task", |task| task["scene"] == 10 && task["done"] == true);
    assert!(page.command(&json!({ "do": "act", "name": "unref" })).starts_with("409"));

    // The same scene begins again: what was proved does not count for it.
    page.has_done(&json!({ "do": "scene", "n": 10 }));
    let again = page.event("scene", |scene| scene["run"] == 3);
    assert_eq!(again["n"], 10);
    let mut late = Page::open(line.split_whitespace().last().unwrap());
    assert_eq!(late.names_until("state").iter().filter(|name| *name == "proof").count(), 0);

    page.has_done(&json!({ "do": "scene", "n": 7 }));
    page.event("knobs", |knobs| knobs["scene"] == 7 && knobs["values"]["times"] == 5000);
    page.has_done(&json!({ "do": "knob", "name": "times", "value": 9 }));
    page.event("knobs", |knobs| knobs["scene"] == 7 && knobs["values"]["times"] == 9);
}
