//! TLS over a stream: the handshake, what it agrees on, how it is resumed, and how it begins in the
//! middle of a connection.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;

use rustls::version::TLS12;
use support::tcp::{turn_until, turns};
use support::tls as with;
use support::tls::{
    Authority, Identity, authority, client, localhost, server, server_of, shake, shake_over,
};
use waterwheel::net::{Conn, Event, Framed, Lines, Stream, framed, memory};
use waterwheel::protocols::tls;
use waterwheel::reactor::Alive;
use waterwheel::{Context, Reactor};

type Log = Vec<String>;

/// A client that knows no later version.
fn client_of_1_2() -> tls::Client {
    with::client_config_of(&[&TLS12]).into()
}

#[test]
fn both_sides_agree_on_what_they_speak() {
    let mut reactor = Reactor::new().unwrap();
    let server = server().alpn(["h2", "http/1.1"]);
    let client = client().alpn(["http/1.1"]);
    let (ours, theirs) = shake(&mut reactor, &mut (), &server, &client).both();
    for stream in [&ours, &theirs] {
        let info = stream.tls().unwrap();
        assert_eq!(info.alpn(), Some(&b"http/1.1"[..]));
        assert_eq!(info.server_name(), Some("localhost"));
        assert_eq!(info.version(), "TLSv1.3");
        assert!(info.cipher_suite().starts_with("TLS13_"), "{}", info.cipher_suite());
        assert!(!info.is_resumed());
    }
    assert_eq!(ours.tls().unwrap().peer_certificates().count(), 0);
    let shown: Vec<&[u8]> = theirs.tls().unwrap().peer_certificates().collect();
    assert_eq!(shown, [&*with::der(&localhost().chain)]);
    let conn = theirs.open(&mut reactor, |_, _, _, _| {});
    assert_eq!(reactor[conn].tls().unwrap().alpn(), Some(&b"http/1.1"[..]));
    let (clear, _other) = memory::pair(&mut reactor);
    assert!(clear.tls().is_none());
    // Asking for certificates changes nothing of it.
    let server = server.ask_clients(&authority().pem).unwrap();
    let (ours, _theirs) = shake(&mut reactor, &mut (), &server, &client).both();
    assert_eq!(ours.tls().unwrap().alpn(), Some(&b"http/1.1"[..]));
}

#[test]
fn older_clients_get_tls_1_2() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = shake(&mut reactor, &mut (), &server(), &client_of_1_2()).both();
    for stream in [&ours, &theirs] {
        let info = stream.tls().unwrap();
        assert_eq!((info.version(), info.alpn()), ("TLSv1.2", None));
        assert!(info.cipher_suite().starts_with("TLS_ECDHE_"), "{}", info.cipher_suite());
    }
}

#[test]
fn protocols_without_one_in_common_end_the_handshake_on_both_sides() {
    let mut reactor = Reactor::new().unwrap();
    let shaken = shake(&mut reactor, &mut (), &server().alpn(["h2"]), &client().alpn(["echo"]));
    let error = shaken.server.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the peer offers no protocol (ALPN) that is spoken here");
    let error = shaken.client.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the peer gave up: it speaks none of our protocols (ALPN)");
}

#[test]
fn each_host_shows_its_own_certificate() {
    let mut reactor = Reactor::new().unwrap();
    let (one, many) = (authority().issue(&["a.example"]), authority().issue(&["*.b.example"]));
    let server = server()
        .host("A.example", &one.chain, &one.key)
        .and_then(|server| server.host("*.b.example", &many.chain, &many.key))
        .unwrap();
    let hosts = [("a.example", &one), ("www.b.example", &many), ("localhost", localhost())];
    for (name, identity) in hosts {
        let pair = memory::pair(&mut reactor);
        let shaken = shake_over(&mut reactor, &mut (), (&server, &client()), name, pair);
        let (ours, theirs) = shaken.both();
        let shown: Vec<&[u8]> = theirs.tls().unwrap().peer_certificates().collect();
        assert_eq!(shown, [&*with::der(&identity.chain)], "{name}");
        assert_eq!(ours.tls().unwrap().server_name(), Some(name));
    }
    let pair = memory::pair(&mut reactor);
    let shaken = shake_over(&mut reactor, &mut (), (&server, &client()), "b.example", pair);
    let error = shaken.client.unwrap().unwrap_err().to_string();
    assert!(error.contains("is not for b.example, but for localhost"), "{error}");
}

#[test]
fn an_address_is_no_host_and_may_stand_in_brackets() {
    let mut reactor = Reactor::new().unwrap();
    let identity = authority().issue(&["127.0.0.1", "::1"]);
    for name in ["127.0.0.1", "::1", "[::1]"] {
        let pair = memory::pair(&mut reactor);
        let both = (&server_of(&identity), &client());
        let (ours, _theirs) = shake_over(&mut reactor, &mut (), both, name, pair).both();
        assert_eq!(ours.tls().unwrap().server_name(), None);
    }
}

#[test]
fn clients_show_the_certificate_that_is_asked_for() {
    let mut reactor = Reactor::new().unwrap();
    let clients = Authority::new("an authority for clients");
    let ann = clients.issue(&["ann"]);
    let required = server().require_clients(&clients.pem).unwrap();
    let asked = server().ask_clients(&clients.pem).unwrap();
    let known = client().certificate(&ann.chain, &ann.key).unwrap();
    for server in [&required, &asked] {
        let (ours, _theirs) = shake(&mut reactor, &mut (), server, &known).both();
        let shown: Vec<&[u8]> = ours.tls().unwrap().peer_certificates().collect();
        assert_eq!(shown, [&*with::der(&ann.chain)]);
    }
    let (ours, _theirs) = shake(&mut reactor, &mut (), &asked, &client()).both();
    assert_eq!(ours.tls().unwrap().peer_certificates().count(), 0);
}

/// Whom the platform trusts is a matter of the environment, so this asks a process of its own.
#[test]
fn whom_the_platform_trusts_is_trusted() {
    let var = |name| std::env::var(name).ok();
    if let Some((chain, key)) = var("WATERWHEEL_CHAIN").zip(var("WATERWHEEL_KEY")) {
        let outcome = tls::Client::new().and_then(|client| {
            let server = server_of(&Identity { chain, key });
            shake(&mut Reactor::new().unwrap(), &mut (), &server, &client).client.unwrap()
        });
        return match outcome {
            Ok(_) => println!("TRUSTED"),
            Err(error) => println!("{error}"),
        };
    }
    let (_, name) = support::named("whom_the_platform_trusts_is_trusted");
    let stranger = Authority::new("somebody else").issue(&["localhost"]);
    for (roots, identity, said) in [
        (&*authority().pem, localhost(), "TRUSTED"),
        (&authority().pem, &stranger, "the peer's certificate was not issued by anybody"),
        ("", localhost(), "no roots to trust on this platform"),
    ] {
        let roots = with::Scratch::new("roots.pem", roots);
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env_remove("SSL_CERT_DIR")
            .env("SSL_CERT_FILE", &roots.0)
            .envs([("WATERWHEEL_CHAIN", &identity.chain), ("WATERWHEEL_KEY", &identity.key)])
            .output()
            .unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        assert!(output.contains(said), "{output}");
    }
}

/// What the server says of a client, and what the client is told at its end.
fn refused(server: &tls::Server, client: &tls::Client) -> (String, String) {
    let mut reactor = Reactor::new().unwrap();
    let mut closed = None;
    let shaken = shake(&mut reactor, &mut closed, server, client);
    let told = match shaken.client.unwrap() {
        Err(error) => error.to_string(),
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        Ok(stream) => {
            stream.open(&mut reactor, |_, closed: &mut Option<String>, _, event| {
                if let Event::Closed(why) = event {
                    *closed = Some(why.to_string());
                }
            });
            turn_until(&mut reactor, &mut closed, |_, closed| closed.is_some());
            closed.unwrap()
        }
    };
    (shaken.server.unwrap().unwrap_err().to_string(), told)
}

#[test]
fn clients_without_the_right_certificate_are_refused_and_told() {
    let clients = Authority::new("an authority for clients");
    let server = server().require_clients(&clients.pem).unwrap();
    let (said, told) = refused(&server, &client());
    assert_eq!(said, "the peer showed no certificate");
    assert_eq!(told, "the peer gave up: it wants a certificate from us");

    let eve = authority().issue(&["eve"]);
    let (said, told) = refused(&server, &client().certificate(&eve.chain, &eve.key).unwrap());
    assert!(said.starts_with("the peer's certificate was not issued by anybody"), "{said}");
    assert_eq!(told, "the peer gave up: it does not know who issued our certificate");
}

/// Has both sides speak, so that tickets arrive.
fn converse(reactor: &mut Reactor<usize>, (ours, theirs): (Stream, Stream)) {
    let mut heard = 0;
    ours.open(reactor, |reactor, _, conn, event| {
        if let Event::Data(bytes) = event {
            let _ = reactor[conn].write(bytes);
        }
    });
    let theirs = theirs.open(reactor, |reactor, heard: &mut usize, conn, event| {
        if let Event::Data(bytes) = event {
            *heard += bytes.len();
            reactor[conn].close();
        }
    });
    let _ = reactor[theirs].write(b"hello");
    reactor.run(&mut heard).unwrap();
    assert_eq!(heard, 5);
}

#[test]
fn the_second_session_goes_on_from_the_first() {
    for (client, version) in [(client(), "TLSv1.3"), (client_of_1_2(), "TLSv1.2")] {
        let mut reactor = Reactor::new().unwrap();
        let server = server();
        for round in 0..3 {
            let both = shake(&mut reactor, &mut 0, &server.clone(), &client.clone()).both();
            for stream in [&both.0, &both.1] {
                let info = stream.tls().unwrap();
                assert_eq!((info.version(), info.is_resumed()), (version, round > 0));
                assert_eq!(info.server_name(), Some("localhost"), "{version}, {round}");
            }
            converse(&mut reactor, both);
        }
        // Another server cannot read the ticket, and shakes hands in full.
        let both = shake(&mut reactor, &mut 0, &with::server(), &client).both();
        assert!(!both.0.tls().unwrap().is_resumed());
    }
}

#[test]
fn a_ticket_from_before_certificates_were_asked_for_is_worth_nothing() {
    let clients = Authority::new("an authority for clients");
    for client in [client(), client_of_1_2()] {
        let mut reactor = Reactor::new().unwrap();
        let open = server();
        let strict = open.clone().require_clients(&clients.pem).unwrap();
        let both = shake(&mut reactor, &mut 0, &open, &client).both();
        converse(&mut reactor, both);
        let both = shake(&mut reactor, &mut 0, &open, &client).both();
        assert!(both.0.tls().unwrap().is_resumed(), "there is a ticket");
        converse(&mut reactor, both);
        let (said, _) = refused(&strict, &client);
        assert_eq!(said, "the peer showed no certificate");
    }
}

#[test]
fn names_that_are_none_fail_by_callback() {
    for name in ["", "no name", "a..b", "\0"] {
        let mut reactor = Reactor::new().unwrap();
        let (ours, theirs) = memory::pair(&mut reactor);
        let told: Rc<RefCell<Vec<_>>> = Rc::default();
        let tell = told.clone();
        client().connect(&mut reactor, ours, name, move |_, _, result| {
            tell.borrow_mut().push(result.unwrap_err());
        });
        assert!(told.borrow().is_empty(), "called back from inside of the call");
        reactor.run(&mut ()).unwrap();
        assert_eq!(told.take().pop().unwrap().kind(), ErrorKind::InvalidInput);
        drop(theirs);
    }
}

#[test]
fn a_removed_handshake_says_nothing_and_closes() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = memory::pair(&mut reactor);
    let id = server().accept(&mut reactor, ours, |_, _: &mut bool, _| panic!("cancelled"));
    let alive = reactor.why_alive();
    let [Alive::Source(_, place)] = &alive[..] else { panic!("{alive:?}") };
    assert!(place.to_string().contains("tests/tls/handshake.rs"), "{place}");
    turns(&mut reactor, &mut false, 3);
    assert!(reactor.remove(id));
    theirs.open(&mut reactor, |_, gone: &mut bool, _, event| *gone |= matches!(event, Event::Eof));
    let mut gone = false;
    reactor.run(&mut gone).unwrap();
    assert!(gone);
}

/// The lines, each with the handler's bytes behind it, of a protocol that begins in the clear.
fn upgrade(server: tls::Server, client: tls::Client, coalesced: bool) -> Vec<String> {
    let mut reactor = Reactor::<Log>::new().unwrap();
    let (ours, theirs) = memory::pair(&mut reactor);
    ours.open(&mut reactor, move |reactor: &mut Context<Log>, log: &mut Log, conn, event| {
        let Event::Data(bytes) = event else { return };
        let line = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        log.push(format!("server: {}", String::from_utf8_lossy(&bytes[..line]).trim()));
        let _ = reactor[conn].write(b"220 go ahead\n");
        let stream = Stream::from(reactor.deregister(conn).unwrap()).unread(&bytes[line..]);
        server.accept(reactor, stream, |reactor, log, result| {
            let stream = result.unwrap();
            let tls = stream.tls().unwrap();
            log.push(format!("server: {} for {:?}", tls.version(), tls.server_name()));
            stream.open(reactor, |reactor, log, conn, event| {
                if let Event::Data(bytes) = event {
                    log.push(format!("server: {}", String::from_utf8_lossy(bytes)));
                    let _ = reactor[conn].write(b"secret too");
                    reactor[conn].close();
                }
            });
        });
    });
    let secure = move |reactor: &mut Context<Log>, stream: Stream| {
        client.connect(reactor, stream, "localhost", |reactor, log: &mut Log, result| {
            log.push("client: connected".into());
            let conn = result.unwrap().open(reactor, |_, log: &mut Log, _, event| match event {
                Event::Data(bytes) => {
                    log.push(format!("client: {}", String::from_utf8_lossy(bytes)));
                }
                Event::Closed(why) => log.push(format!("client: {why}")),
                _ => {}
            });
            let _ = reactor[conn].write(b"secret");
        });
    };
    if coalesced {
        // The hello leaves right behind the line; its answer is not awaited.
        let mut stream = theirs;
        let _ = stream.write(b"STARTTLS\n");
        let (mut log, mut answered) = (Log::new(), false);
        // What the server answers in the clear would disturb the handshake, so it is taken out of
        // the way below: by a filter in front of the client.
        let (near, far) = memory::pair(&mut reactor);
        secure(&mut reactor, near);
        bridge(&mut reactor, far, stream, move |bytes| {
            let skip = if answered { 0 } else { b"220 go ahead\n".len() };
            answered = true;
            bytes[skip..].to_vec()
        });
        reactor.run(&mut log).unwrap();
        return log;
    }
    let conn = theirs.open(&mut reactor, move |reactor, log: &mut Log, conn, event| {
        let Event::Data(bytes) = event else { return };
        log.push(format!("client: {}", String::from_utf8_lossy(bytes).trim()));
        let conn = reactor.deregister(conn).unwrap();
        secure(reactor, conn.into());
    });
    let _ = reactor[conn].write(b"STARTTLS\n");
    let mut log = Log::new();
    reactor.run(&mut log).unwrap();
    log
}

/// Passes bytes on, those that go to `near` changed.
fn bridge<S: 'static>(
    reactor: &mut Reactor<S>,
    near: Stream,
    far: Stream,
    mut change: impl FnMut(&[u8]) -> Vec<u8> + 'static,
) {
    let ids: Rc<RefCell<Vec<_>>> = Rc::default();
    let (to_far, to_near) = (ids.clone(), ids.clone());
    let near = near.open(reactor, move |reactor, _, _, event| {
        let far: Option<&mut Conn> = reactor.get_mut(to_far.borrow()[1]);
        match (event, far) {
            (Event::Data(bytes), Some(far)) => drop(far.write(bytes)),
            (Event::Eof, Some(far)) => far.close(),
            _ => {}
        }
    });
    let far = far.open(reactor, move |reactor, _, _, event| {
        let near: Option<&mut Conn> = reactor.get_mut(to_near.borrow()[0]);
        match (event, near) {
            (Event::Data(bytes), Some(near)) => drop(near.write(&change(bytes))),
            (Event::Eof, Some(near)) => near.close(),
            _ => {}
        }
    });
    *ids.borrow_mut() = vec![near, far];
}

#[test]
fn a_connection_is_upgraded_in_the_middle_on_both_sides() {
    let log = upgrade(server(), client(), false);
    let server: Vec<_> = log.iter().filter(|line| line.starts_with("server")).collect();
    assert_eq!(server[..2], ["server: STARTTLS", "server: TLSv1.3 for Some(\"localhost\")"]);
    assert_eq!(server[2..], ["server: secret"]);
    let client: Vec<_> = log.iter().filter(|line| line.starts_with("client")).collect();
    let answers = ["client: secret too", "client: finished"];
    assert_eq!(client[..2], ["client: 220 go ahead", "client: connected"]);
    assert_eq!(client[2..], answers);
}

#[test]
fn a_hello_behind_the_line_in_one_read_is_not_lost() {
    let log = upgrade(server(), client(), true);
    let server: Vec<_> = log.iter().filter(|line| line.starts_with("server")).collect();
    assert_eq!(server[..2], ["server: STARTTLS", "server: TLSv1.3 for Some(\"localhost\")"]);
    assert_eq!(server[2..], ["server: secret"]);
}

/// What a server of lines hears that turns to TLS in mid-stream, when `clear` is sent up to `cut`
/// and then the rest of it, and "secret" over TLS.
fn heard_with(clear: &[u8], cut: usize) -> Log {
    fn serve(reactor: &mut Context<Log>, stream: Stream) {
        stream.open(
            reactor,
            framed(Lines::new(100), |reactor, log: &mut Log, conn, event| {
                let Framed::Frame(line) = event else { return };
                log.push(String::from_utf8_lossy(line).into_owned());
                if line == b"STARTTLS" {
                    let clear = reactor.deregister(conn).unwrap();
                    server().accept(
                        reactor,
                        clear,
                        |reactor, log: &mut Log, result| match result {
                            Ok(stream) => serve(reactor, stream),
                            Err(error) => log.push(error.to_string()),
                        },
                    );
                }
            }),
        );
    }
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = memory::pair(&mut reactor);
    serve(&mut reactor, ours);
    let conn = theirs.open(&mut reactor, |_, _: &mut Log, _, _| {});
    let mut log = Log::new();
    for part in [&clear[..cut], &clear[cut..]] {
        let _ = reactor[conn].write(part);
        turns(&mut reactor, &mut log, 4);
    }
    if let Some(theirs) = reactor.deregister(conn) {
        client().connect(&mut reactor, theirs, "localhost", |reactor, _, result| {
            let Ok(stream) = result else { return };
            let conn = stream.open(reactor, |_, _: &mut Log, _, _| {});
            let _ = reactor[conn].write(b"secret\n");
            reactor[conn].close();
        });
    }
    reactor.run(&mut log).unwrap();
    log
}

#[test]
fn what_stands_in_the_clear_behind_a_starttls_line_is_never_heard_as_if_it_were_secret() {
    let (line, injected) = (&b"EHLO me\r\nSTARTTLS\r\n"[..], &b"MAIL evil\r\n"[..]);
    let clear = [line, injected].concat();
    for cut in 0..=clear.len() {
        let log = heard_with(&clear, cut);
        assert_eq!(log[..2], ["EHLO me", "STARTTLS"]);
        match cut {
            // Read together with the line: gone.
            _ if cut < line.len() || cut == clear.len() => assert_eq!(log[2..], ["secret"]),
            // Read after it: no hello.
            _ => assert_eq!(log[2..], ["the peer does not speak TLS"], "cut at {cut}"),
        }
    }
}

#[test]
fn a_server_made_with_rustls_takes_no_early_data() {
    let mut reactor = Reactor::new().unwrap();
    let config = with::server_config();
    let mut config = Arc::unwrap_or_clone(config);
    config.max_early_data_size = 1000;
    let server = tls::Server::from(Arc::new(config));
    let both = shake(&mut reactor, &mut 0, &server, &client()).both();
    converse(&mut reactor, both);
}
