//! WebSockets over TLS: ours with ours, and Python's with ours.

use std::net::SocketAddr;
use std::time::Duration;

use support::ceiling;
use support::clients::skip_without;
use support::process::Process;
use support::tcp;
use support::tcp::{turn_until, turns};
use support::tls as with;
use support::tls_peer::TlsPeer;
use support::ws;
use support::ws::{Told, note, python, watched};
use waterwheel::net::{Reason as NetReason, memory, tcp as sys};
use waterwheel::protocols::http;
use waterwheel::protocols::ws::{self as sockets, Connect, Event, Reason, Socket};
use waterwheel::{Context, Reactor};

const LIMIT: Duration = Duration::from_secs(60);

/// Sends texts back, over TLS.
fn serve(reactor: &mut Context<Told>) -> SocketAddr {
    let echo = |reactor: &mut Context<Told>, _: &mut Told, socket: &Socket, event: Event<'_>| {
        if let Event::Text(text) = event {
            let _ = socket.text(reactor, text);
        }
    };
    let server = http::Server::new(move |reactor, _, request, reply| {
        let _ = sockets::accept(reactor, request, reply, watched(echo));
    });
    let tls = with::server();
    let listener = sys::listen(reactor, "127.0.0.1:0", move |reactor, _, stream| {
        let server = server.clone();
        tls.accept(reactor, stream, move |reactor, _, result| {
            if let Ok(stream) = result {
                server.serve(reactor, stream);
            }
        });
    });
    reactor[listener.unwrap()].local_addr()
}

#[test]
fn our_client_hears_what_it_says() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let url = format!("wss://localhost:{}/", serve(&mut reactor).port());
    let talk = |reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>| {
        let large = "x".repeat(200_000);
        match &event {
            Event::Open => _ = socket.text(reactor, &large),
            Event::Text(text) => {
                assert!(*text == large);
                return socket.close(reactor, 1000, "");
            }
            _ => {}
        }
        note(reactor, told, socket, event);
    };
    let connect = Connect::new().tls(with::client());
    connect.open(&mut reactor, &url, watched(talk)).unwrap();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some() && ws::unclosed() == 0);
    assert_eq!((&*told.heard, &*told.end()), (&["open".to_owned()][..], "code 1000"));
}

#[test]
fn server_that_is_not_trusted_is_told_as_such() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let port = serve(&mut reactor).port();
    let elsewhere = Connect::new().tls(with::client());
    elsewhere.open(&mut reactor, &format!("wss://127.0.0.2:{port}/"), watched(note)).unwrap();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    let Some(Reason::Connect(error)) = told.closed.take() else { panic!("{told:?}") };
    assert!(!error.to_string().is_empty() && told.heard.is_empty(), "{error}");
}

#[test]
fn attempt_can_be_given_up_while_hands_are_shaken() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    let connect = Connect::new().tls(with::client());
    let socket = connect.open(&mut reactor, &url, watched(note)).unwrap();
    tcp::turns(&mut reactor, &mut told, 3);
    let _silent = listener.accept().unwrap();
    tcp::turns(&mut reactor, &mut told, 3);
    socket.abort(&mut reactor);
    tcp::turns(&mut reactor, &mut told, 3);
    assert!(matches!(told.closed, Some(Reason::Aborted)), "{told:?}");
    assert_eq!((reactor.why_alive(), reactor.sources()), (vec![], 0));
}

#[test]
fn pythons_client_hears_what_it_says() {
    skip_without!(WEBSOCKETS);
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let addr = serve(&mut reactor);
    let roots = with::Scratch::new("wss-roots.pem", &with::authority().pem);
    let script = format!(
        r#"
import asyncio, ssl, websockets
async def talk():
    roots = ssl.create_default_context(cafile={:?})
    async with websockets.connect("wss://localhost:{}/", ssl=roots) as socket:
        await socket.send("x" * 100_000)
        assert await socket.recv() == "x" * 100_000
    print("fine", flush=True)
asyncio.run(talk())
"#,
        roots.0,
        addr.port()
    );
    let mut client = Process::start(&mut python(&script));
    let line = std::thread::spawn(move || client.line());
    turn_until(&mut reactor, &mut told, |_, _| line.is_finished());
    assert_eq!(line.join().unwrap(), "fine");
    turn_until(&mut reactor, &mut told, |_, _| ws::unclosed() == 0);
}

#[test]
fn messages_that_came_whole_before_a_cut_are_answered() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let talk = |reactor: &mut Context<Told>, told: &mut Told, socket: &Socket, event: Event<'_>| {
        if let Event::Text(text) = &event {
            let _ = socket.text(reactor, text);
        }
        note(reactor, told, socket, event);
    };
    let server = http::Server::new(move |reactor, _, request, reply| {
        let _ = sockets::accept(reactor, request, reply, watched(talk));
    });
    let (ours, theirs) = memory::pair(&mut reactor);
    with::server().accept(&mut reactor, ours, move |reactor, _, result| {
        server.serve(reactor, result.unwrap());
    });
    let mut peer = TlsPeer::client(&mut reactor, theirs, with::client_config());
    peer.shake(&mut reactor, &mut told);
    peer.say(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    peer.flush(&mut reactor);
    turns(&mut reactor, &mut told, 10);
    peer.read(&mut reactor).unwrap();
    assert!(peer.heard.starts_with(b"HTTP/1.1 101 "));
    peer.heard.clear();
    // Two messages under a mask of zeros, and the beginning of a third.
    peer.say(b"\x81\x83\0\0\0\0one\x81\x83\0\0\0\0two\x81\x85\0\0\0\0thr");
    peer.flush(&mut reactor);
    reactor[peer.conn].shutdown();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    turns(&mut reactor, &mut told, 5);
    peer.read(&mut reactor).unwrap();
    assert_eq!(peer.heard, b"\x81\x03one\x81\x03two");
    assert!(peer.was_told_goodbye());
    let Some(Reason::Lost(NetReason::Error(error))) = told.closed else { panic!("{told:?}") };
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}
