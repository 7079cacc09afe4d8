//! The client over TLS: whom it trusts, proxies, ends that are none. Needs openssl.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};
use support::ceiling;
use support::clients::{OPENSSL, skip_without};
use support::process::Process;
use support::tcp::turn_until;
use support::tls as certs;
use support::tls::{Scratch, authority, self_signed, server, server_of};
use waterwheel::net::{self, Conn, Event, Stream, link};
use waterwheel::protocols::http::{CallStage, Client, ClientRequest, ClientResponse, Error};
use waterwheel::protocols::tls;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor, SourceId};

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Told {
    responses: Vec<Result<ClientResponse, Error>>,
    accepted: usize,
}

fn push(_: &mut Context<Told>, told: &mut Told, result: Result<ClientResponse, Error>) {
    told.responses.push(result);
}

/// How a server answers each request.
type Answering = fn(&mut Context<Told>, SourceId<Conn>);

fn ok(reactor: &mut Context<Told>, conn: SourceId<Conn>) {
    let _ = reactor[conn].write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsealed");
}

/// A server over TLS in the same loop; its port.
fn serve(reactor: &mut Reactor<Told>, tls: tls::Server, response: Answering) -> u16 {
    let listener =
        net::tcp::listen(reactor, "127.0.0.1:0", move |reactor, told: &mut Told, incoming| {
            told.accepted += 1;
            tls.accept(reactor, incoming, move |reactor, _, result| {
                let Ok(stream) = result else { return }; // The client says why.
                stream.open(reactor, move |reactor, _, conn, event| {
                    if let Event::Data(bytes) = event {
                        assert!(bytes.ends_with(b"\r\n\r\n"), "a request in one piece");
                        response(reactor, conn);
                    }
                });
            });
        });
    let listener = listener.unwrap();
    reactor.unref(listener);
    reactor[listener].local_addr().port()
}

fn client() -> Client<Told> {
    Client::new().tls(certs::client())
}

/// What becomes of a GET.
fn get(
    reactor: &mut Reactor<Told>,
    told: &mut Told,
    client: &Client<Told>,
    url: &str,
) -> Result<ClientResponse, Error> {
    client.get(reactor, url, push);
    turn_until(reactor, told, |_, told| !told.responses.is_empty());
    told.responses.remove(0)
}

#[test]
fn a_response_comes_over_tls_and_its_connection_is_used_again() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told, client) = (Reactor::new().unwrap(), Told::default(), client());
    let port = serve(&mut reactor, server().alpn(["http/1.1"]), ok);
    for host in ["localhost", "localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{port}/");
        let response = get(&mut reactor, &mut told, &client, &url).unwrap();
        assert_eq!(response.text(), Ok("sealed"));
    }
    assert_eq!((told.accepted, client.idle()), (2, 2), "one for each origin");
}

#[test]
fn who_is_not_trusted_is_told_in_plain_words_and_sent_nothing() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told, client) = (Reactor::new().unwrap(), Told::default(), client());
    let stranger = self_signed(&["localhost"]);
    let elsewhere = authority().issue(&["elsewhere.test"]);
    let never: Answering = |_, _| panic!("a request was sent");
    for (identity, says) in [(stranger, "no TLS with localhost"), (elsewhere, "elsewhere.test")] {
        let port = serve(&mut reactor, server_of(&identity), never);
        let url = format!("https://localhost:{port}/");
        let error = get(&mut reactor, &mut told, &client, &url).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(client.connections(), 0);
    }
}

#[test]
fn an_end_that_anybody_could_have_made_is_not_the_end_of_a_body() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told, client) = (Reactor::new().unwrap(), Told::default(), client());
    fn say(reactor: &mut Context<Told>, conn: SourceId<Conn>) {
        let _ = reactor[conn].write(b"HTTP/1.1 200 OK\r\n\r\nall of it, says who?");
    }
    let closes: Answering = |reactor, conn| {
        say(reactor, conn);
        reactor[conn].close(); // With close_notify.
    };
    let cuts: Answering = |reactor, conn| {
        say(reactor, conn);
        reactor.defer(move |reactor, _| {
            reactor.enqueue(waterwheel::reactor::Priority::Low, move |reactor, _| {
                reactor.remove(conn);
            });
        });
    };
    let port = serve(&mut reactor, server(), closes);
    let url = format!("https://localhost:{port}/");
    let whole = get(&mut reactor, &mut told, &client, &url).unwrap();
    assert_eq!(whole.text(), Ok("all of it, says who?"));
    let port = serve(&mut reactor, server(), cuts);
    let url = format!("https://localhost:{port}/");
    let error = get(&mut reactor, &mut told, &client, &url).unwrap_err();
    assert!(matches!(error, Error::Lost { stage: CallStage::Body, .. }), "{error}");
}

#[test]
fn a_response_that_is_whole_before_a_cut_is_a_response() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told, client) = (Reactor::new().unwrap(), Told::default(), client());
    fn cut(reactor: &mut Context<Told>, conn: SourceId<Conn>, response: &str) {
        let _ = reactor[conn].write(response.as_bytes());
        reactor.defer(move |reactor, _| {
            reactor.enqueue(waterwheel::reactor::Priority::Low, move |reactor, _| {
                reactor.remove(conn);
            });
        });
    }
    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";
    const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                          5\r\nwhole\r\n0\r\n\r\n";
    let cases: [(Answering, bool); 4] = [
        (|reactor, conn| cut(reactor, conn, LENGTH), true),
        (|reactor, conn| cut(reactor, conn, CHUNKS), true),
        (|reactor, conn| cut(reactor, conn, &LENGTH[..LENGTH.len() - 1]), false),
        (|reactor, conn| cut(reactor, conn, &CHUNKS[..CHUNKS.len() - 2]), false),
    ];
    for (answering, whole) in cases {
        let port = serve(&mut reactor, server(), answering);
        let url = format!("https://localhost:{port}/");
        match get(&mut reactor, &mut told, &client, &url) {
            Ok(response) => assert!(whole && response.text() == Ok("whole"), "{response:?}"),
            Err(error) => {
                let lost = matches!(error, Error::Lost { stage: CallStage::Body, .. });
                assert!(!whole && lost, "{error}");
            }
        }
        turn_until(&mut reactor, &mut told, |_, _| client.connections() == 0);
    }
}

/// What a server does behind its first response, at once.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    SaysGoodbye,
    CutsOff,
    ChangesItsKey,
}

#[test]
fn a_post_is_sent_over_a_connection_that_has_not_ended_and_over_no_other() {
    let _ceiling = ceiling(LIMIT);
    for (then, connections) in
        [(Then::SaysGoodbye, 2), (Then::CutsOff, 2), (Then::ChangesItsKey, 1)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let (done, hears) = mpsc::channel();
        let server = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for at in 0..connections {
                let tls = ServerConnection::new(certs::server_config()).unwrap();
                let mut peer = StreamOwned::new(tls, listener.accept().unwrap().0);
                let mut some = [0; 1000];
                while let Ok(count @ 1..) = peer.read(&mut some) {
                    requests.push(String::from_utf8_lossy(&some[..count]).into_owned());
                    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsealed").unwrap();
                    match then {
                        _ if requests.len() > 1 => {}
                        Then::SaysGoodbye => peer.conn.send_close_notify(),
                        Then::ChangesItsKey => peer.conn.refresh_traffic_keys().unwrap(),
                        Then::CutsOff => {}
                    }
                    peer.flush().unwrap();
                    if at == 0 && then != Then::ChangesItsKey {
                        break;
                    }
                    let _ = done.send(()); // The second is not asked for.
                }
                drop(peer);
                let _ = done.send(());
            }
            requests.join("")
        });
        let (mut reactor, mut told, client) = (Reactor::new().unwrap(), Told::default(), client());
        let own = client.clone();
        client.get(&mut reactor, url.clone(), move |reactor, told, first| {
            push(reactor, told, first);
            hears.recv().unwrap(); // The loop has had no chance to hear of it.
            own.send(reactor, ClientRequest::post(url).body("once"), push);
        });
        reactor.run(&mut told).unwrap();
        assert!(told.responses.iter().all(Result::is_ok), "{:?}", told.responses);
        assert_eq!(told.responses.len(), 2);
        drop(reactor);
        assert!(server.join().unwrap().ends_with("\r\n\r\nonce"));
    }
}

#[test]
fn a_connection_that_is_not_wanted_any_more_ends_with_a_goodbye() {
    let _ceiling = ceiling(LIMIT);
    type End = fn(&mut Reactor<Told>, &mut Told, Client<Told>, &ManualClock);
    let idles: End = |reactor, told, client, clock| {
        clock.advance(Duration::from_secs(31));
        turn_until(reactor, told, |_, _| client.idle() == 0);
    };
    let drops: End = |reactor, told, client, _| {
        drop(client);
        reactor.turn(told, Some(Duration::ZERO)).unwrap();
    };
    let is_closed: End = |_, _, client, _| assert_eq!(client.connections(), 0);
    for (end, field) in [(idles, "X: y"), (drops, "X: y"), (is_closed, "Connection: close")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let server = std::thread::spawn(move || {
            let tls = ServerConnection::new(certs::server_config()).unwrap();
            let mut peer = StreamOwned::new(tls, listener.accept().unwrap().0);
            assert!(peer.read(&mut [0; 1000]).unwrap() > 0);
            let response = format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 6\r\n\r\nsealed");
            peer.write_all(response.as_bytes()).unwrap();
            peer.read(&mut [0; 1000]).map_err(|error| error.kind())
        });
        let clock = ManualClock::held();
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        let (mut told, client) = (Told::default(), client());
        get(&mut reactor, &mut told, &client, &url).unwrap();
        end(&mut reactor, &mut told, client, &clock);
        assert_eq!(server.join().unwrap(), Ok(0), "{field}");
    }
}

/// A proxy that leads wherever CONNECT says, on this machine.
fn serve_connect(reactor: &mut Reactor<Told>) -> u16 {
    let listener = net::tcp::listen(reactor, "127.0.0.1:0", |reactor, _: &mut Told, incoming| {
        incoming.open(reactor, |reactor, _, conn, event| {
            let Event::Data(bytes) = event else { return };
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                return reactor[conn].unread(bytes.len());
            };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            assert!(head.contains("\r\nProxy-Authorization: Basic "), "{head}");
            let to = head.split(' ').nth(1).unwrap_or("");
            let to = to.replace("service.test", "127.0.0.1");
            let mut client =
                Stream::from(reactor.deregister(conn).unwrap()).unread(&bytes[end + 4..]);
            let connected =
                move |reactor: &mut Context<Told>, _: &mut Told, server: std::io::Result<_>| {
                    let _ = client.write(b"HTTP/1.1 200 Connected\r\n\r\n");
                    link(reactor, client, server.unwrap(), |_, _, _| {});
                };
            net::tcp::connect_name(reactor, &to, LIMIT, connected).unwrap();
        });
    });
    let listener = listener.unwrap();
    reactor.unref(listener);
    reactor[listener].local_addr().port()
}

#[test]
fn a_proxy_leads_through_and_sees_nothing() {
    let _ceiling = ceiling(LIMIT);
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let identity = authority().issue(&["service.test"]);
    let port = serve(&mut reactor, server_of(&identity), ok);
    let proxy = serve_connect(&mut reactor);
    let client = client().proxy(&format!("http://me:pass@127.0.0.1:{proxy}"));
    let url = format!("https://service.test:{port}/");
    for _ in 0..2 {
        let response = get(&mut reactor, &mut told, &client, &url).unwrap();
        assert_eq!(response.text(), Ok("sealed"));
    }
    assert_eq!((told.accepted, client.idle()), (1, 1));
}

#[test]
fn a_handshake_that_nobody_answers_is_cancelled_with_its_call() {
    let _ceiling = ceiling(LIMIT);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let (mut reactor, mut told, client) = (Reactor::new().unwrap(), Told::default(), client());
    let call = client.get(&mut reactor, url, push);
    turn_until(&mut reactor, &mut told, |reactor, _| !reactor.ids::<tls::Handshake>().is_empty());
    assert!(call.cancel(&mut reactor));
    reactor.run(&mut told).unwrap();
    assert_eq!((client.connections(), reactor.ids::<tls::Handshake>().len()), (0, 0));
    assert!(told.responses.is_empty());
}

#[test]
fn a_page_of_openssls_is_read_to_its_end() {
    skip_without!(OPENSSL);
    let _ceiling = ceiling(LIMIT);
    // Ed25519 keys as the other tests have them are in a form that openssl does not read.
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = Scratch::new("https-chain.pem", &own.cert.pem());
    let key = Scratch::new("https-key.pem", &own.signing_key.serialize_pem());
    let mut openssl = OPENSSL.command();
    openssl.args(["s_server", "-WWW", "-accept", "127.0.0.1:0", "-cert"]).arg(&chain.0);
    openssl.arg("-key").arg(&key.0).stderr(Stdio::null()).current_dir(support::home());
    let mut process = Process::start(&mut openssl);
    let line = std::iter::from_fn(|| process.try_line()).find(|line| line.starts_with("ACCEPT "));
    let line = line.expect("openssl says where it listens");
    let port = line.rsplit(':').next().unwrap_or("");
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let client = Client::new().tls(tls::Client::with_roots(own.cert.pem()).unwrap());
    let url = format!("https://localhost:{port}/Cargo.toml");
    let response = get(&mut reactor, &mut told, &client, &url).unwrap();
    assert_eq!(response.body, std::fs::read(support::home().join("Cargo.toml")).unwrap());
    let request = ClientRequest::get(format!("https://localhost:{port}/none"));
    client.send(&mut reactor, request, push);
    turn_until(&mut reactor, &mut told, |_, told| !told.responses.is_empty());
    assert!(told.responses.remove(0).unwrap().text().unwrap().contains("Error"));
}
