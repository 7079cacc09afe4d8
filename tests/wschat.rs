//! The example `wschat`, with Python's `websockets` and in a browser.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

mod support;
#[path = "support/ws.rs"]
mod ws;

use support::browser::Browser;
use support::ceiling;
use support::clients::skip_without;
use support::process::{Process, example, output};
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
        await hear(one, you="guest1")
        await hear(one, came="guest1", here=["guest1"])
        async with connect(url) as two:
            await hear(two, you="guest2")
            for socket in one, two:
                await hear(socket, came="guest2", here=["guest1", "guest2"])
            await one.send('{{"name": " Ada "}}')
            await hear(one, you="Ada")
            for socket in one, two:
                await hear(socket, was="guest1", **{{"is": "Ada"}}, here=["Ada", "guest2"])
            await two.send('{{"name": "Ada"}}')
            await hear(two, error="that name will not do, or is taken")
            await two.send('{{"text": " grüße <b> "}}')
            for socket in one, two:
                await hear(socket, **{{"from": "guest2"}}, text="grüße <b>")
        await hear(one, left="guest2", here=["Ada"])
        for bad, code in ["no JSON", 1007], [b"bytes", 1003], ["x" * 5000, 1009]:
            async with connect(url) as three:
                await three.recv(), await three.recv(), await one.recv()
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
#[ignore = "wants chromium: cargo test --all-features --test wschat -- --ignored"]
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
