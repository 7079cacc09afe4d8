//! WebSockets with others' clients and servers: tungstenite's, and those of Python's `websockets`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use support::ceiling;
use support::clients::skip_without;
use support::process::Process;
use support::tcp::{turn_until, turns};
use support::ws;
use support::ws::{Told, masked, note, python, watched};
use tungstenite::Message as Theirs;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::CloseFrame;
use waterwheel::net;
use waterwheel::protocols::http;
use waterwheel::protocols::ws::{Accept, Connect, Event, Limits, Socket, code};
use waterwheel::{Context, Reactor};

const LIMIT: Duration = Duration::from_secs(60);
/// Enough for several reads, and for the lengths of eight bytes.
const LARGE: usize = 300_000;

/// Notes what it hears and sends messages back.
fn echo(reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>) {
    let _ = match &event {
        Event::Text(text) => socket.text(reactor, text),
        Event::Binary(bytes) => socket.binary(reactor, bytes),
        _ => net::Pressure::Below,
    };
    if !matches!(event, Event::Binary(_)) {
        note(reactor, told, socket, event);
    }
}

fn serve(reactor: &mut Context<Told>, accept: Accept) -> SocketAddr {
    let listener =
        http::listen(reactor, "127.0.0.1:0", move |reactor, told: &mut Told, request, reply| {
            match accept.open(reactor, request, reply, watched(echo)) {
                Ok(socket) => told.heard.push(format!("hello {:?}", socket.protocol())),
                Err(refusal) => told.heard.push(format!("{}", refusal.status())),
            }
        });
    reactor[listener.unwrap()].local_addr()
}

fn until_closed(reactor: &mut Reactor<Told>, told: &mut Told) {
    turn_until(reactor, told, |_, told| told.closed.is_some());
    assert_eq!(ws::unclosed(), 0);
}

fn stream(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

#[test]
fn tungstenites_client_hears_what_it_says() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let addr = serve(&mut reactor, Accept::new());
    let client = thread::spawn(move || {
        let (mut socket, _) = tungstenite::client(format!("ws://{addr}/"), stream(addr)).unwrap();
        for message in [Theirs::text("grüße"), Theirs::binary(vec![7; LARGE]), Theirs::text("")] {
            socket.send(message.clone()).unwrap();
            assert!(socket.read().unwrap() == message);
        }
        socket.send(Theirs::Ping("?".into())).unwrap();
        assert_eq!(socket.read().unwrap(), Theirs::Pong("?".into()));
        let close = CloseFrame { code: 4001.into(), reason: "enough".into() };
        socket.close(Some(close)).unwrap();
        let Theirs::Close(Some(response)) = socket.read().unwrap() else { panic!("no Close") };
        assert_eq!(u16::from(response.code), 4001);
        assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    });
    until_closed(&mut reactor, &mut told);
    client.join().unwrap();
    assert_eq!(told.heard, ["hello None", "grüße", ""]);
    assert_eq!(told.end(), "code 4001 \"enough\"");
}

#[test]
fn tungstenites_server_hears_what_we_say() {
    let _ceiling = ceiling(LIMIT);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        #[allow(clippy::result_large_err)] // Tungstenite's own.
        let choose = |request: &Request, mut response: Response| {
            assert_eq!(request.uri(), "/chat?room=1");
            assert_eq!(request.headers()["origin"], "https://example.org");
            assert_eq!(request.headers()["x-token"], "secret");
            assert_eq!(request.headers()["sec-websocket-protocol"], "v2, v1");
            response.headers_mut().insert("sec-websocket-protocol", "v1".parse().unwrap());
            Ok(response)
        };
        let (stream, _) = listener.accept().unwrap();
        let mut socket = tungstenite::accept_hdr(stream, choose).unwrap();
        for _ in 0..2 {
            let message = socket.read().unwrap();
            socket.send(message).unwrap();
        }
        assert!(matches!(socket.read().unwrap(), Theirs::Close(Some(_))));
        while socket.read().is_ok() {}
    });
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let url = format!("ws://localhost:{}/chat?room=1", addr.port());
    let connect = Connect::new().origin("https://example.org").header("x-token", "secret");
    let talk = |reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>| {
        match &event {
            Event::Open => {
                assert_eq!(socket.protocol().as_deref(), Some("v1"));
                let _ = socket.text(reactor, "grüße");
                let _ = socket.binary(reactor, &[9; LARGE]);
            }
            Event::Binary(bytes) => {
                assert!(*bytes == [9; LARGE]);
                return socket.close(reactor, code::NORMAL, "that was all");
            }
            _ => {}
        }
        note(reactor, told, socket, event);
    };
    connect.protocol("v2").protocol("v1").open(&mut reactor, &url, watched(talk)).unwrap();
    until_closed(&mut reactor, &mut told);
    server.join().unwrap();
    assert_eq!(told.heard, ["open", "grüße"]);
    assert_eq!(told.end(), "code 1000 \"that was all\"");
}

#[test]
fn pythons_client_hears_what_it_says() {
    skip_without!(WEBSOCKETS);
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let addr = serve(&mut reactor, Accept::new().protocol("chat"));
    let script = format!(
        r#"
import asyncio, websockets
async def talk():
    async with websockets.connect("ws://{addr}/", subprotocols=["other", "chat"]) as socket:
        assert socket.subprotocol == "chat"
        for message in ["grüße", bytes(range(256)) * 1000, ""]:
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["in ", "four ", "frag", "ments"])
        assert await socket.recv() == "in four fragments"
        await asyncio.wait_for(await socket.ping(), 30)
        await socket.close(4002, "bye")
        print("fine", socket.close_code, flush=True)
asyncio.run(talk())
"#
    );
    let mut client = Process::start(&mut python(&script));
    until_closed(&mut reactor, &mut told);
    assert_eq!(client.line(), "fine 4002");
    assert_eq!(told.heard, ["hello Some(\"chat\")", "grüße", "", "in four fragments"]);
    assert_eq!(told.end(), "code 4002 \"bye\"");
}

#[test]
fn pythons_server_hears_what_we_say() {
    skip_without!(WEBSOCKETS);
    let _ceiling = ceiling(LIMIT);
    let script = r#"
import asyncio, websockets
async def echo(socket):
    async for message in socket:
        if message == "close":
            return await socket.close(4003, "as you wish")
        await socket.send([message[:5], message[5:]] if isinstance(message, str) else message)
async def serve():
    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on {host}:{port}", flush=True)
        await asyncio.Future()
asyncio.run(serve())
"#;
    let (_server, addr) = Process::listening(&mut python(script));
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let talk = |reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>| {
        let _ = match &event {
            Event::Open => socket.text(reactor, "in two fragments"),
            Event::Text(_) => socket.binary(reactor, &[1; 3]),
            Event::Binary(_) => socket.text(reactor, "close"),
            _ => net::Pressure::Below,
        };
        note(reactor, told, socket, event);
    };
    Connect::new().open(&mut reactor, &format!("ws://{addr}"), watched(talk)).unwrap();
    until_closed(&mut reactor, &mut told);
    assert_eq!(told.heard, ["open", "in two fragments", "[1, 1, 1]"]);
    assert_eq!(told.end(), "code 4003 \"as you wish\"");
}

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: server.example\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// The head of a response, read to its end.
fn head(from: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(from.read_line(&mut head).unwrap() > 0, "{head}");
    }
    head
}

#[test]
fn what_is_sent_right_behind_the_request_is_heard() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let addr = serve(&mut reactor, Accept::new());
    let mut client = stream(addr);
    let all = [ASK.as_bytes(), &masked(0x81, b"early"), &masked(0x88, b"")].concat();
    client.write_all(&all).unwrap();
    client.shutdown(Shutdown::Write).unwrap(); // Or the server would wait for it to close.
    until_closed(&mut reactor, &mut told);
    let mut client = BufReader::new(client);
    let head = head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"\x81\x05early\x88\x00");
    assert_eq!(told.heard, ["hello None", "early"]);
}

#[test]
fn other_requests_are_told_what_is_wrong_with_them() {
    let _ceiling = ceiling(LIMIT);
    for (from, to, status, field) in [
        ("Upgrade: websocket\r\n", "", "426 Upgrade Required", "Upgrade: websocket"),
        ("Version: 13", "Version: 12", "426 Upgrade Required", "Sec-WebSocket-Version: 13"),
        ("dGhl", "dGh", "400 Bad Request", ""),
        ("Upgrade: w", "Origin: http://evil.example\r\nUpgrade: w", "403 Forbidden", ""),
    ] {
        let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
        let addr = serve(&mut reactor, Accept::new());
        let mut client = stream(addr);
        // The connection goes on: the second request is a good one.
        client.write_all(ASK.replace(from, to).as_bytes()).unwrap();
        client.write_all(ASK.as_bytes()).unwrap();
        turn_until(&mut reactor, &mut told, |_, told| told.heard.len() == 2);
        turns(&mut reactor, &mut told, 2); // What was written leaves.
        let response = head(&mut BufReader::new(&client));
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{response}");
        assert!(response.contains(field), "{response}");
        assert_eq!(told.heard, [&status[..3], "hello None"]);
    }
}

#[test]
fn pages_that_may_connect_do() {
    let _ceiling = ceiling(LIMIT);
    let chosen = || Accept::new().origins(|origin| origin == "https://friend.example");
    for (accept, origin, may) in [
        (Accept::new(), "http://SERVER.example", true),
        (Accept::new().any_origin(), "http://evil.example", true),
        (chosen(), "https://friend.example", true),
        (chosen(), "http://server.example", false),
    ] {
        let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
        let addr = serve(&mut reactor, accept);
        let origin = format!("Origin: {origin}\r\nUpgrade: w");
        stream(addr).write_all(ASK.replace("Upgrade: w", &origin).as_bytes()).unwrap();
        turn_until(&mut reactor, &mut told, |_, told| !told.heard.is_empty());
        assert_eq!(told.heard[0] == "hello None", may, "{origin}");
    }
}

#[test]
fn message_limit_holds_for_real_clients() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let limits = Limits { message_bytes_max: 1000, ..Limits::default() };
    let addr = serve(&mut reactor, Accept::new().limits(limits));
    let client = thread::spawn(move || {
        let (mut socket, _) = tungstenite::client(format!("ws://{addr}/"), stream(addr)).unwrap();
        socket.send(Theirs::binary(vec![7; 1000])).unwrap();
        assert_eq!(socket.read().unwrap().len(), 1000);
        socket.send(Theirs::binary(vec![7; 1001])).unwrap();
        let Theirs::Close(Some(close)) = socket.read().unwrap() else { panic!("no Close") };
        assert_eq!(u16::from(close.code), 1009);
    });
    until_closed(&mut reactor, &mut told);
    client.join().unwrap();
    assert_eq!(told.end(), "the peer sent a message of more than 1000 bytes");
}
