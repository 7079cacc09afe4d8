//! The example `wschat`, with Python's `websockets` and with a browser that is driven by our own
//! WebSocket client: Chromium listens for one (the DevTools protocol).

#![cfg(feature = "ws")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use waterwheel::net::ws::{self as sockets, Event, Socket};
use waterwheel::{Context, Reactor};

mod support;
#[path = "support/tcp.rs"]
mod tcp;
#[path = "support/ws.rs"]
mod ws;

use support::ceiling;
use support::process::{Process, example, output};
use tcp::turn_until;
use ws::python;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn arguments_are_those_of_its_help() {
    let help = String::from_utf8(output("wschat", &["--help"]).stdout).unwrap();
    assert!(help.starts_with("Usage: wschat [OPTIONS] [ADDR]") && help.contains("127.0.0.1:7001"));
    for args in [&["--nonsense"][..], &["nonsense"], &["7001", "7002"]] {
        let refused = output("wschat", args);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.starts_with("error: "), "{said}");
    }
}

#[test]
fn pythons_members_hear_each_other() {
    let _ceiling = ceiling(LIMIT);
    let (_server, addr) = Process::serve("wschat");
    let script = format!(
        r#"
import json
from websockets.sync.client import connect
from websockets.exceptions import ConnectionClosed
url = "ws://{addr}/chat"
def hear(socket, **expected):
    heard = json.loads(socket.recv(timeout=30))
    assert heard == expected, (heard, expected)
with connect(url) as one:
    hear(one, you="guest1")
    hear(one, came="guest1", here=["guest1"])
    with connect(url) as two:
        hear(two, you="guest2")
        for socket in one, two:
            hear(socket, came="guest2", here=["guest1", "guest2"])
        one.send('{{"name": " Ada "}}')
        hear(one, you="Ada")
        for socket in one, two:
            hear(socket, was="guest1", **{{"is": "Ada"}}, here=["Ada", "guest2"])
        two.send('{{"name": "Ada"}}')
        hear(two, error="that name will not do, or is taken")
        two.send('{{"text": " grüße <b> "}}')
        for socket in one, two:
            hear(socket, **{{"from": "guest2"}}, text="grüße <b>")
    hear(one, left="guest2", here=["Ada"])
    for bad, code in ["no JSON", 1007], [b"bytes", 1003], ["x" * 5000, 1009]:
        with connect(url) as three:
            three.recv(), three.recv(), one.recv()
            three.send(bad)
            try:
                three.recv()
            except ConnectionClosed as closed:
                assert closed.rcvd.code == code, closed
        one.recv()
print("fine", flush=True)
"#
    );
    assert_eq!(Process::start(&mut python(&script)).line(), "fine");
}

#[test]
fn other_paths_and_other_pages_are_refused() {
    let (_server, addr) = Process::serve("wschat");
    for (request, status) in [
        ("GET /else HTTP/1.1\r\nHost: x\r\n", "404"),
        ("GET /chat HTTP/1.1\r\nHost: x\r\n", "426"),
        (
            "GET /chat HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\nUpgrade: websocket\r\n\
             Connection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "403",
        ),
    ] {
        let mut client = TcpStream::connect(addr).unwrap();
        client.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, format!("HTTP/1.1 {status}").as_bytes());
    }
}

/// A browser without a window, and what it has answered.
struct Browser {
    _process: Process,
    profile: PathBuf,
    reactor: Reactor<Answers>,
    answers: Answers,
    socket: Socket,
    session: Option<String>,
    asked: u64,
}

type Answers = HashMap<u64, Value>;

impl Browser {
    fn at(url: &str) -> Browser {
        let profile = std::env::temp_dir().join(format!("wschat-{}", std::process::id()));
        let data = format!("--user-data-dir={}", profile.display());
        let mut process = Process::start(
            Command::new("sh")
                .args(["-c", "exec chromium \"$@\" 2>&1", "sh", "--headless", "--no-sandbox"])
                .args(["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
                .args(["--disable-background-networking", "--disable-component-update"])
                .args(["--remote-debugging-port=0", "--window-size=1280,800", &data, url]),
        );
        let devtools = loop {
            let line = process.try_line().expect("chromium is installed");
            if let Some(url) = line.strip_prefix("DevTools listening on ") {
                break url.to_owned();
            }
        };
        let mut reactor = Reactor::new().unwrap();
        let hear =
            |_: &mut Context<_>, answers: &mut Answers, _: &Socket, event: Event<'_>| match event {
                Event::Open => _ = answers.insert(0, Value::Null),
                Event::Text(text) => {
                    let mut answer: Value = serde_json::from_str(text).unwrap();
                    if let Some(id) = answer["id"].as_u64() {
                        answers.insert(id, answer["result"].take());
                    }
                }
                Event::Closed(reason) => panic!("the browser: {reason}"),
                _ => {}
            };
        let limits = sockets::Limits { message_bytes_max: 16 << 20, ..Default::default() };
        let connect = sockets::Connect::new().limits(limits);
        let socket = connect.open(&mut reactor, &devtools, hear).unwrap();
        let answers = Answers::new();
        let mut browser = Browser {
            _process: process,
            profile,
            reactor,
            answers,
            socket,
            session: None,
            asked: 0,
        };
        browser.answer(0);
        browser.attach();
        browser
    }

    /// Finds the page, which may take a moment, and attaches to it.
    fn attach(&mut self) {
        let target = loop {
            let targets = self.ask("Target.getTargets", json!({}));
            let all = targets["targetInfos"].as_array().unwrap();
            if let Some(page) = all.iter().find(|target| target["type"] == "page") {
                break page["targetId"].clone();
            }
        };
        let how = json!({ "targetId": target, "flatten": true });
        let session = self.ask("Target.attachToTarget", how);
        self.session = session["sessionId"].as_str().map(str::to_owned);
    }

    fn answer(&mut self, id: u64) -> Value {
        turn_until(&mut self.reactor, &mut self.answers, |_, answers| answers.contains_key(&id));
        self.answers.remove(&id).unwrap()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut command = json!({ "id": self.asked, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let _ = self.socket.text(&mut self.reactor, &command.to_string());
        self.answer(self.asked)
    }

    /// What an expression is in the page, as soon as it is neither false nor null there.
    fn see(&mut self, expression: &str) -> Value {
        let wait = format!(
            "new Promise(done => {{ const look = () => {{ let seen = null; \
             try {{ seen = {expression}; }} catch {{}} \
             if (seen) done(seen); else setTimeout(look, 10); }}; look(); }})"
        );
        let how = json!({ "expression": wait, "awaitPromise": true, "returnByValue": true });
        self.ask("Runtime.evaluate", how)["result"]["value"].take()
    }

    fn resize(&mut self, width: u32, height: u32) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600
        });
        self.ask("Emulation.setDeviceMetricsOverride", size);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.profile); // It may still write there.
    }
}

fn serve_at(addr: SocketAddr) -> Process {
    Process::listening(example("wschat").arg(addr.to_string())).0
}

#[test]
fn page_shows_who_is_there_and_what_is_said_and_comes_back_after_an_outage() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("wschat");
    let mut browser = Browser::at(&format!("http://{addr}/"));
    browser.see("document.getElementById('state').className === 'on'");
    let here = "[...document.querySelectorAll('#here li')].map(li => li.textContent).join()";
    assert_eq!(browser.see(here), "guest1");

    browser
        .see("(name.value = 'Ada', name.onchange(), true)".replace("name", "$('name')").as_str());
    assert_eq!(browser.see(&format!("{here} === 'Ada' && {here}")), "Ada");
    browser.see("($('text').value = 'a <b> of \\u20ac', $('form').requestSubmit(), true)");
    let last = "$('log').lastChild";
    let said = browser.see(&format!("{last}.querySelector('b') && {last}.textContent"));
    assert_eq!(said, "Ada a <b> of €");
    assert_eq!(browser.see("$('text').value === '' && 'empty'"), "empty");

    for (width, height) in [(1280, 800), (390, 844), (320, 568)] {
        browser.resize(width, height);
        let fits = "document.documentElement.scrollWidth <= innerWidth && \
                    document.documentElement.scrollHeight <= innerHeight && \
                    $('log').clientHeight > innerHeight / 3 && innerWidth";
        assert_eq!(browser.see(fits), width);
    }

    drop(server);
    browser.see("$('state').className === '' && $('send').disabled");
    let _server = serve_at(addr);
    browser.see("$('state').className === 'on'");
    assert_eq!(browser.see(&format!("{here} === 'Ada' && {here}")), "Ada");
}
