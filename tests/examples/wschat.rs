//! The example `wschat`, with Python's `websockets` and in a browser.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use support::browser::Browser;
use support::ceiling;
use support::clients::skip_without;
use support::process::{Client, Process, example, output};
use support::ws::{masked, python};

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
    skip_without!(WEBSOCKETS);
    let _ceiling = ceiling(LIMIT);
    let (_server, addr) = Process::serve("wschat");
    let script = format!(
        r#"
import asyncio, json
from websockets import connect
from websockets.exceptions import ConnectionClosed
url = "ws://{addr}/chat"
async def hear(socket, **expected):
    heard = json.loads(await asyncio.wait_for(socket.recv(), 30))
    assert heard == expected, (heard, expected)
async def talk():
    async with connect(url) as one:
        await hear(one, you="guest1", here=["guest1"])
        async with connect(url) as two:
            await hear(two, you="guest2", here=["guest1", "guest2"])
            await hear(one, came="guest2")
            await one.send('{{"name": " Ada "}}')
            await hear(one, you="Ada")
            for socket in one, two:
                await hear(socket, was="guest1", **{{"is": "Ada"}})
            await two.send('{{"name": "Ada"}}')
            await hear(two, error="that name will not do, or is taken")
            await two.send('{{"text": " grüße <b> "}}')
            for socket in one, two:
                await hear(socket, **{{"from": "guest2"}}, text="grüße <b>")
        await hear(one, left="guest2")
        for bad, code in ["no JSON", 1007], [b"bytes", 1003], ["x" * 5000, 1009]:
            async with connect(url) as three:
                await three.recv(), await one.recv()
                await three.send(bad)
                try:
                    await three.recv()
                except ConnectionClosed as closed:
                    assert closed.rcvd.code == code, closed
            await one.recv()
    print("fine", flush=True)
asyncio.run(talk())
"#
    );
    assert_eq!(Process::start(&mut python(&script)).line(), "fine");
}

/// One who is in the chat, and counts what that costs.
struct Member {
    client: Client,
    bytes: usize,
    messages: usize,
}

impl Member {
    /// Joins, and hears its name and who is there.
    fn join(addr: SocketAddr) -> (Member, Value) {
        let mut client = Client::connect(addr);
        client.send(
            "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        while client.line() != "\r" {}
        let mut member = Member { client, bytes: 0, messages: 0 };
        let welcome = member.hear();
        (member, welcome)
    }

    fn say(&mut self, what: &Value) {
        self.client.send(masked(0x81, what.to_string().as_bytes()));
    }

    fn hear(&mut self) -> Value {
        let mut head = [0; 2];
        self.client.0.read_exact(&mut head).unwrap();
        assert_eq!(head[0], 0x81, "a text, whole");
        let mut long = [0; 8];
        let longer = &mut long[8 - [0, 2, 8][usize::from(head[1].saturating_sub(125))]..];
        self.client.0.read_exact(longer).unwrap();
        let extra = longer.len();
        let count = if extra == 0 { head[1].into() } else { u64::from_be_bytes(long) as usize };
        let mut text = vec![0; count];
        self.client.0.read_exact(&mut text).unwrap();
        self.bytes += 2 + extra + count;
        self.messages += 1;
        serde_json::from_slice(&text).unwrap()
    }

    /// Hears what all are told, as far as this; the bytes and messages of it.
    fn hear_up_to(&mut self, last: &Value) -> (usize, usize) {
        let before = (self.bytes, self.messages);
        while self.hear() != *last {}
        (self.bytes - before.0, self.messages - before.1)
    }
}

/// What each of `members` is told up to the last one's word, summed up.
fn cost(members: &mut [Member], name: &str) -> (usize, usize) {
    members.last_mut().unwrap().say(&json!({ "text": "enough" }));
    let last = json!({ "from": name, "text": "enough" });
    let costs = members.iter_mut().map(|member| member.hear_up_to(&last));
    costs.fold((0, 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1))
}

#[test]
fn who_comes_is_told_the_list_once_and_all_the_others_what_has_changed() {
    const COUNT: usize = 200;
    let _ceiling = ceiling(LIMIT);
    let (_server, addr) = Process::serve("wschat");
    let mut names = Vec::new();
    let mut members = Vec::new();
    let mut welcomes = 0;
    for number in 1..=COUNT {
        let (member, welcome) = Member::join(addr);
        names.push(format!("guest{number}"));
        assert_eq!(welcome, json!({ "you": names.last(), "here": names }));
        welcomes += member.bytes;
        members.push(member);
    }
    let pairs = COUNT * (COUNT - 1) / 2;
    let (bytes, messages) = cost(&mut members, "guest200");
    assert_eq!(messages, pairs + COUNT, "a name for each who was there, and the last word");
    // A pair of them costs one name in a list and one message with a name in it.
    let bytes = bytes + welcomes;
    assert!(bytes < pairs * 40, "{bytes} bytes for {COUNT} who join");

    for (number, member) in members.iter_mut().enumerate() {
        member.say(&json!({ "name": format!("{number:020}") }));
    }
    // No order holds between what several say, so each waits until all have their names.
    let (mut bytes, mut known) = (0, vec![0; COUNT]);
    for (member, known) in members.iter_mut().zip(&mut known) {
        let before = member.bytes;
        while *known < COUNT {
            let news = member.hear();
            assert!(news["here"].is_null(), "{news}");
            *known += usize::from(news["was"].is_string());
        }
        bytes += member.bytes - before;
    }
    assert!(bytes < COUNT * COUNT * 60, "{bytes} bytes for {COUNT} new names");

    let mut stays = members.swap_remove(0);
    drop(members);
    let before = stays.bytes;
    let mut left: Vec<String> =
        (1..COUNT).map(|_| stays.hear()["left"].as_str().unwrap().to_owned()).collect();
    left.sort_unstable();
    assert_eq!(left, (1..COUNT).map(|number| format!("{number:020}")).collect::<Vec<_>>());
    let bytes = stays.bytes - before;
    assert!(bytes < COUNT * 40, "{bytes} bytes for {COUNT} who leave");
}

#[test]
fn a_guest_is_never_given_a_name_that_somebody_has_taken() {
    let (_server, addr) = Process::serve("wschat");
    let (mut one, _) = Member::join(addr);
    one.say(&json!({ "name": "guest2" }));
    assert_eq!(one.hear(), json!({ "you": "guest2" }));
    let (_two, welcome) = Member::join(addr);
    assert_eq!(welcome, json!({ "you": "guest3", "here": ["guest2", "guest3"] }));
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

fn serve_at(addr: SocketAddr) -> Process {
    Process::listening(example("wschat").arg(addr.to_string())).0
}

const HERE: &str = "[...document.querySelectorAll('#here li')].map(li => li.textContent).join()";

#[test]
#[ignore = "wants chromium: cargo test --all-features --test examples -- --ignored"]
fn page_shows_who_is_there_and_what_is_said_and_comes_back_after_an_outage() {
    let _ceiling = ceiling(LIMIT);
    let (server, addr) = Process::serve("wschat");
    let page = Browser::start().open(&format!("http://{addr}/"));
    assert_eq!(page.wait_for(HERE), "guest1");
    page.evaluate("document.querySelector('#name').value = ''");
    page.type_into("#name", "Ada");
    page.type_into("#text", "a <b> of €"); // Which leaves the name, and so takes it.
    page.wait_for(&format!("{HERE} === 'Ada'"));
    page.press_enter();
    let last = "document.querySelector('#log').lastChild";
    page.wait_for(&format!("{last}.querySelector('b') !== null"));
    assert_eq!(page.evaluate(&format!("{last}.textContent")), "Ada a <b> of €");
    assert_eq!(page.evaluate("document.querySelector('#text').value"), "");

    let is_here = |names: &str| page.wait_for(&format!("{HERE} === '{names}'"));
    let (mut other, welcome) = Member::join(addr);
    assert_eq!(welcome["here"], json!(["Ada", "guest2"]));
    is_here("Ada,guest2");
    other.say(&json!({ "name": "Bob" }));
    is_here("Ada,Bob");
    assert_eq!(page.evaluate("document.querySelector('#here .you').textContent"), "Ada");
    let third = Member::join(addr);
    is_here("Ada,Bob,guest3");
    drop(other);
    is_here("Ada,guest3");
    drop(third);
    is_here("Ada");

    for (width, is_dark) in [(1280, false), (390, true), (320, false)] {
        page.view(width, is_dark);
        let log = page.evaluate("document.querySelector('#log').clientHeight / innerHeight");
        assert!(page.overflow() <= 0 && log.as_f64() > Some(0.3), "{width}: {log}");
    }

    assert_eq!(page.problems(), [""; 0]); // Later on it may complain of the outage.
    drop(server);
    page.wait_for("document.querySelector('#send').disabled");
    assert_eq!(page.evaluate("document.querySelector('#state').textContent"), "connecting again");
    let _server = serve_at(addr);
    page.wait_for("document.querySelector('#state').className === 'on'");
    page.wait_for(&format!("{HERE} === 'Ada'"));
}
