//! How TLS fails: in plain words for us, by an alert for the peer, and never by half.

use std::io::ErrorKind;
use std::time::Duration;

use rcgen::{BasicConstraints, DnType, IsCa};
use support::MS;
use support::tcp;
use support::tcp::{Told, note, turn_until, turns, unclosed, watched};
use support::tls as with;
use support::tls::{
    AUTHORITY_NAME, Authority, Identity, authority, client, localhost, self_signed,
    self_signed_with, server, shake, valid,
};
use support::tls_peer::TlsPeer;
use waterwheel::Reactor;
use waterwheel::net::{Event, Limits, Reason, Stream, memory, tcp as net_tcp};
use waterwheel::protocols::tls;
use waterwheel::timers::ManualClock;

/// What a client says of a server that shows this, and what the server is told.
fn distrusted(identity: &Identity) -> (String, String) {
    let mut reactor = Reactor::new().unwrap();
    let shaken = shake(&mut reactor, &mut (), &with::server_of(identity), &client());
    let said = shaken.client.unwrap().unwrap_err();
    assert_eq!(said.kind(), ErrorKind::InvalidData);
    let failure = said.get_ref().unwrap().downcast_ref::<tls::Failure>().unwrap();
    assert!(std::error::Error::source(failure).unwrap().is::<rustls::Error>());
    let told = shaken.server.unwrap().unwrap_err().to_string();
    reactor.run(&mut ()).unwrap();
    assert_eq!(reactor.sources(), 0);
    (said.to_string(), told)
}

#[test]
fn certificates_are_refused_in_plain_words_on_both_sides() {
    let expired = authority().issue_with(&["localhost"], |params| valid(params, 20, 10));
    assert_eq!(
        distrusted(&expired),
        (
            "the peer's certificate has expired".into(),
            "the peer gave up: our certificate has expired".into()
        )
    );
    let not_yet = authority().issue_with(&["localhost"], |params| {
        valid(params, 0, 0);
        params.not_before += Duration::from_secs(86_400);
        params.not_after += Duration::from_secs(10 * 86_400);
    });
    assert_eq!(distrusted(&not_yet).0, "the peer's certificate is not valid yet");
    let other_name = authority().issue(&["a.example", "b.example"]);
    assert_eq!(
        distrusted(&other_name),
        (
            "the peer's certificate is not for localhost, but for a.example, b.example".into(),
            "the peer gave up: it does not accept our certificate".into()
        )
    );
    let of_authority = authority().issue_with(&["localhost"], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let said = distrusted(&of_authority).0;
    assert!(said.starts_with("the peer's certificate is an authority's"), "{said}");
    assert!(said.ends_with("CA:FALSE openssl makes one of those"), "{said}");
    let stranger = Authority::new("somebody else").issue(&["localhost"]);
    let (said, told) = distrusted(&stranger);
    let words = "the peer's certificate was not issued by anybody who is trusted here: \
                 the authority is unknown";
    assert_eq!(said, words);
    assert_eq!(told, "the peer gave up: it does not know who issued our certificate");
    let impostor = Authority::new(AUTHORITY_NAME).issue(&["localhost"]);
    let said = distrusted(&impostor).0;
    assert_eq!(said, "the peer's certificate was not signed by the authority that it names");
    let (said, told) = distrusted(&self_signed(&["localhost"]));
    let words = "the peer's certificate is self-signed, and not among those that are trusted here";
    assert_eq!(said, words);
    assert_eq!(told, "the peer gave up: it does not know who issued our certificate");
    // Such as one that was made anew, where the old one still is trusted.
    let with_its_name = self_signed_with(&["localhost"], |params| {
        params.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
    });
    assert_eq!(distrusted(&with_its_name).0, words);
}

#[test]
fn pem_that_is_none_is_refused_with_what_is_wrong() {
    let Identity { chain, key } = localhost();
    let other = authority().issue(&["localhost"]);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n\
                 AAAA\n-----END RSA PRIVATE KEY-----\n";
    for (chain, key, because) in [
        ("", key.as_str(), "no certificate is in the PEM"),
        ("nothing", key, "no certificate is in the PEM"),
        ("\x30\x01", key, "no certificate is in the PEM: it is DER; openssl"),
        (key, key, "no certificate is in the PEM, only something else: is it the wrong file?"),
        (&encrypted, key, "no certificate is in the PEM, only something else"),
        (broken, key, "no certificate can be read from the PEM: it ends in the middle"),
        (chain, "", "no private key is in the PEM"),
        (chain, chain, "no private key is in the PEM, only something else"),
        (chain, &encrypted, "no private key can be read from the PEM: it is encrypted; `openssl"),
        (chain, older, "no private key can be read from the PEM: it is encrypted; `openssl"),
        (chain, &other.key, "the private key is not that of the certificate"),
    ] {
        let error = tls::Server::new(chain, key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(because), "{error}, not {because}");
    }
    assert!(server().host("x", "", key).is_err());
    assert!(server().require_clients("").is_err());
    assert!(tls::Client::with_roots("").is_err());
    assert!(client().certificate(chain, &other.key).is_err());
}

/// What an acceptor makes of bytes that are followed by silence or by FIN; and what comes back.
fn accept_raw(bytes: &[u8], then_ends: bool) -> (String, Vec<u8>) {
    let mut reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = memory::pair(&mut reactor);
    let _ = theirs.write(bytes);
    let mut told = (None, Told::default());
    type Both = (Option<String>, Told);
    server().accept(&mut reactor, ours, |_, told: &mut Both, result| {
        told.0 = Some(result.unwrap_err().to_string());
    });
    let theirs = theirs.open(&mut reactor, |_, told: &mut Both, _, event| match event {
        Event::Data(bytes) => told.1.bytes.extend(bytes),
        Event::Closed(why) => told.1.closed = Some(why),
        _ => {}
    });
    if then_ends {
        reactor[theirs].shutdown();
    }
    turn_until(&mut reactor, &mut told, |_, told| told.0.is_some() && told.1.closed.is_some());
    assert!(matches!(told.1.closed, Some(Reason::Finished)), "{:?}", told.1.closed);
    (told.0.unwrap(), told.1.bytes)
}

#[test]
fn what_is_not_tls_is_told_so_and_answered_by_an_alert() {
    let mut rng = support::Rng::new();
    let noise: Vec<u8> = (0..100_000).map(|_| rng.next() as u8 | 128).collect();
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"SSH-2.0-x\r\n", &noise] {
        let (said, answer) = accept_raw(bytes, false);
        assert_eq!(said, "the peer does not speak TLS");
        assert_eq!((answer.len(), answer[0]), (7, 21), "an alert: {answer:x?}");
    }
    // A record of the handshake with nonsense in it.
    let (said, answer) = accept_raw(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 7], false);
    assert!(said.starts_with("TLS has failed: "), "{said}");
    assert_eq!(answer[0], 21);
}

#[test]
fn a_peer_that_goes_in_the_middle_of_the_handshake_is_told_of() {
    for bytes in [&b""[..], &[22, 3, 1], &[22, 3, 1, 1, 0, 1, 0, 0, 252]] {
        let (said, answer) = accept_raw(bytes, true);
        assert_eq!(said, "the peer closed the connection in the middle of the TLS handshake");
        assert!(answer.is_empty());
    }
}

#[test]
fn a_handshake_that_takes_too_long_is_given_up() {
    for drip in [false, true] {
        let clock = ManualClock::new();
        let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
        let (ours, theirs) = memory::pair(&mut reactor);
        let tls = server().handshake_timeout(Duration::from_millis(500));
        let mut told: Option<std::io::Error> = None;
        tls.accept(&mut reactor, ours, |_, told: &mut Option<_>, result| {
            *told = Some(result.unwrap_err());
        });
        let theirs = theirs.open(&mut reactor, |_, _, _, _| {});
        for ms in 0..500 {
            assert!(told.is_none(), "given up after {ms} ms");
            if drip {
                // The beginning of a record that is never complete.
                let next = [22, 3, 1, 64, 0].get(ms).copied().unwrap_or(1);
                let _ = reactor[theirs].write(&[next]);
            }
            clock.advance(MS);
            turns(&mut reactor, &mut told, 3);
        }
        clock.advance(MS);
        turns(&mut reactor, &mut told, 3);
        let error = told.unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "no TLS handshake within 500ms");
    }
}

#[test]
fn a_client_gives_up_a_server_that_is_silent() {
    let second = Duration::from_secs(1);
    for (tls, timeout) in
        [(client(), tls::HANDSHAKE_TIMEOUT), (client().handshake_timeout(second), second)]
    {
        let mut reactor = Reactor::builder().clock(&ManualClock::new()).build().unwrap();
        let (ours, theirs) = memory::pair(&mut reactor);
        tls.connect(&mut reactor, ours, "localhost", |_, told: &mut Option<_>, result| {
            *told = Some(result.unwrap_err().kind());
        });
        let mut told = None;
        let begin = reactor.now();
        reactor.run(&mut told).unwrap(); // The clock jumps to the deadline.
        assert_eq!(told, Some(ErrorKind::TimedOut));
        assert_eq!(reactor.now() - begin, timeout);
        drop(theirs);
    }
}

/// A server's connection with a peer that is driven by hand.
fn served(reactor: &mut Reactor<Told>, told: &mut Told, limits: Limits) -> TlsPeer {
    let (ours, theirs) = memory::pair(reactor);
    server().accept(reactor, ours, move |reactor, _, result| {
        result.unwrap().limits(limits).open(reactor, watched(note));
    });
    let mut peer = TlsPeer::client(reactor, theirs, with::client_config());
    peer.shake(reactor, told);
    peer
}

#[test]
fn an_end_without_goodbye_is_an_error_and_no_eof() {
    for bytes in [&b""[..], b"hello"] {
        let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
        let mut peer = served(&mut reactor, &mut told, Limits::default());
        peer.say(bytes);
        peer.flush(&mut reactor);
        reactor[peer.conn].shutdown(); // FIN alone.
        turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
        assert_eq!((&told.bytes[..], told.eof), (bytes, false));
        let Some(Reason::Error(error)) = told.closed else { panic!("{:?}", told.closed) };
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("close_notify"), "{error}");
        assert_eq!(unclosed(), 0);
    }
}

#[test]
fn an_end_in_the_middle_of_a_record_is_no_eof_either() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let mut peer = served(&mut reactor, &mut told, Limits::default());
    peer.say(b"hello");
    let record = peer.sealed();
    let _ = reactor[peer.conn].write(&record[..record.len() - 1]);
    reactor[peer.conn].shutdown();
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert!(told.bytes.is_empty() && !told.eof);
    let Some(Reason::Error(error)) = told.closed else { panic!("{:?}", told.closed) };
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_byte_that_was_changed_ends_the_connection_behind_what_was_right() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let mut peer = served(&mut reactor, &mut told, Limits::default());
    peer.say(b"right");
    let mut records = peer.sealed();
    peer.say(b"wrong");
    let mut wrong = peer.sealed();
    *wrong.last_mut().unwrap() ^= 1;
    records.extend(wrong);
    let _ = reactor[peer.conn].write(&records);
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!(told.bytes, b"right");
    let why = told.closed.unwrap().to_string();
    assert_eq!(why, "a record was changed on its way, or made with another key");
    turns(&mut reactor, &mut Told::default(), 3);
    let error = peer.read(&mut reactor).unwrap_err();
    assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error:?}");
}

#[test]
fn records_behind_the_goodbye_are_ignored() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let mut peer = served(&mut reactor, &mut told, Limits::default());
    peer.say(b"hello");
    peer.tls.send_close_notify();
    let mut records = peer.sealed();
    records.extend([23, 3, 3, 0, 1, 0, 99, 99, 99]);
    let _ = reactor[peer.conn].write(&records);
    turn_until(&mut reactor, &mut told, |_, told| told.closed.is_some());
    assert_eq!((&told.bytes[..], told.eof), (&b"hello"[..], true));
    assert!(matches!(told.closed, Some(Reason::Finished)), "{:?}", told.closed);
}

#[test]
fn records_without_data_neither_end_nor_hold_up_the_loop() {
    let (mut reactor, mut told) = (Reactor::new().unwrap(), Told::default());
    let mut peer = served(&mut reactor, &mut told, Limits::default());
    // Each change of keys is a record that carries nothing; rustls has patience with some.
    for _ in 0..30 {
        peer.tls.refresh_traffic_keys().unwrap();
        peer.flush(&mut reactor);
        turns(&mut reactor, &mut told, 2);
        assert!(told.closed.is_none());
    }
    peer.say(b"at last");
    peer.flush(&mut reactor);
    turn_until(&mut reactor, &mut told, |_, told| told.bytes == b"at last");
    for _ in 0..100 {
        peer.tls.refresh_traffic_keys().unwrap();
        peer.flush(&mut reactor);
        turns(&mut reactor, &mut told, 2);
    }
    assert!(matches!(told.closed, Some(Reason::Error(_))), "a flood of them: {:?}", told.closed);
}

#[test]
fn a_message_of_the_handshake_without_end_is_refused_in_bounded_memory() {
    // A ClientHello of 16 MB, announced in the first record, in records of one byte and of many.
    for piece in [1, 1000, 16_000] {
        let mut bytes = vec![22, 3, 1, 0, 4, 1, 255, 255, 255];
        for _ in 0..400_000 / (piece + 5) {
            bytes.extend([22, 3, 1, (piece >> 8) as u8, piece as u8]);
            bytes.resize(bytes.len() + piece, 7);
        }
        let (said, _) = accept_raw(&bytes, false);
        assert!(said.starts_with("TLS has failed: ") || said.contains("without end"), "{said}");
    }
}

#[test]
fn a_large_message_of_the_handshake_is_not_read_byte_by_byte() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = memory::pair_with(&mut reactor, 1 << 17);
    // A ClientHello as large as any may be, and of nonsense.
    let mut hello = vec![1, 0, 250, 0];
    hello.resize(4 + 64_000, 7);
    for piece in hello.chunks(16_000) {
        let head = [22, 3, 1, (piece.len() >> 8) as u8, piece.len() as u8];
        let _ = theirs.write(&[&head, piece].concat());
    }
    server().accept(&mut reactor, ours, |_, told: &mut Option<_>, result| {
        *told = Some(result.unwrap_err().to_string());
    });
    theirs.open(&mut reactor, |_, _, _, _| {});
    let mut told = None;
    turn_until(&mut reactor, &mut told, |_, told| told.is_some());
    assert!(told.unwrap().starts_with("TLS has failed: "));
    let callbacks = reactor.statistics().callbacks;
    assert!(callbacks < 30, "{callbacks} calls for 64 KB");
}

#[test]
fn an_alert_goes_out_whatever_the_limit_on_what_is_unsent() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = memory::pair_with(&mut reactor, 100);
    let limits = Limits { outbox_bytes_max: 5, ..Limits::default() };
    let mut told = Told::default();
    server().accept(&mut reactor, ours.limits(limits), |_, told: &mut Told, result| {
        assert_eq!(result.unwrap_err().to_string(), "the peer does not speak TLS");
        told.eof = true;
    });
    let theirs = theirs.open(&mut reactor, |_, told: &mut Told, _, event| {
        if let Event::Data(bytes) = event {
            told.bytes.extend(bytes);
        }
    });
    reactor[theirs].pause();
    let name = "localhost".try_into().unwrap();
    let mut peer = rustls::ClientConnection::new(with::client_config(), name).unwrap();
    let mut hello = Vec::new();
    peer.write_tls(&mut hello).unwrap();
    hello.extend(b"GET / HTTP/1.1\r\n\r\n");
    let _ = reactor[theirs].write(&hello);
    turn_until(&mut reactor, &mut told, |_, told| told.eof);
    assert!(told.bytes.is_empty(), "what the server says has no room yet");
    reactor[theirs].resume();
    turn_until(&mut reactor, &mut told, |reactor, _| !reactor.contains(theirs));
    let mut answer = &told.bytes[..];
    while peer.read_tls(&mut answer).unwrap() > 0 {}
    let error = peer.process_new_packets().unwrap_err();
    assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error:?}");
}

#[test]
fn an_alert_reaches_a_client_that_is_still_sending() {
    let _ceiling = support::ceiling(Duration::from_secs(60));
    let mut reactor = Reactor::new().unwrap();
    let listener = net_tcp::listen(&mut reactor, "127.0.0.1:0", |reactor, _, incoming: Stream| {
        server().accept(reactor, incoming, |_, told: &mut Option<_>, result| {
            *told = Some(result.unwrap_err().to_string());
        });
    });
    let addr = reactor[listener.unwrap()].local_addr();
    for _ in 0..20 {
        let mut peer = tcp::Peer::to(addr);
        let mut told = None;
        let sent = peer.write(&[b'x'; 1 << 20]);
        turn_until(&mut reactor, &mut told, |_, told| told.is_some());
        if sent < 1 << 20 {
            let _ = peer.write(&[b'x'; 1 << 16]);
        }
        peer.finish();
        turn_until(&mut reactor, &mut told, |_, _| peer.read_all().is_some());
        assert_eq!((peer.got.first(), peer.end), (Some(&21), Some(Ok(()))), "no alert came");
    }
}
