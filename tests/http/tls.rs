//! The HTTP server over TLS, with curl, and with clients that go without a goodbye.

use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use support::ceiling;
use support::clients::{CURL, skip_without};
use support::tcp::turns;
use support::tls as with;
use support::tls_peer::TlsPeer;
use waterwheel::net::memory;
use waterwheel::protocols::http::{Body, Limits, Server};
use waterwheel::protocols::tls;
use waterwheel::timers::ManualClock;
use waterwheel::{Context, Reactor};

const CONNECTIONS_MAX: usize = 8;

#[test]
fn curl_is_served_over_tls() {
    skip_without!(CURL);
    let _ceiling = ceiling(Duration::from_secs(60));
    let authority = with::Authority::new("a test's own");
    let identity = authority.issue(&["localhost"]);
    let roots = std::env::temp_dir().join(format!("waterwheel-roots-{}", std::process::id()));
    std::fs::write(&roots, &authority.pem).unwrap();
    let (tell, told) = channel();
    let server = thread::spawn(move || {
        let mut reactor = Reactor::<()>::new().unwrap();
        let tls = tls::Server::new(identity.chain, identity.key).unwrap();
        let server = Server::new(|reactor, _, request, reply| {
            reply.send(reactor, request.body().to_vec());
        });
        let limits = Limits { connections_max: CONNECTIONS_MAX, ..Limits::default() };
        let listener = server.limits(limits).tls(tls).listen(&mut reactor, "127.0.0.1:0").unwrap();
        tell.send((reactor[listener].local_addr().port(), reactor.remote())).unwrap();
        reactor.run(&mut ()).unwrap();
    });
    let (port, remote) = told.recv().unwrap();
    let url = format!("https://localhost:{port}/");
    let curl = |args: &[&str]| {
        let resolve = format!("localhost:{port}:127.0.0.1");
        let usual = ["-sS", "--max-time", "30", "--resolve", &resolve];
        CURL.command().args(usual).args(args).arg(&url).output().expect("curl starts")
    };
    let roots_name = roots.to_str().unwrap();
    let upload = "x".repeat(500_000);
    let file = roots.with_extension("upload");
    std::fs::write(&file, &upload).unwrap();
    let body = format!("@{}", file.display());
    let heard = curl(&["--cacert", roots_name, "--data-binary", &body]);
    assert!(heard.status.success(), "{}", String::from_utf8_lossy(&heard.stderr));
    assert!(heard.stdout == upload.as_bytes());
    // One that does not trust it is told nothing, and the server goes on.
    assert!(!curl(&[]).status.success());
    let heard = curl(&["--cacert", roots_name, "-d", "again", "-0"]);
    assert_eq!(heard.stdout, b"again");
    // The connections so far have gone: one that is still closing counts.
    let sources = || {
        let (tell, told) = channel();
        remote.post(move |reactor, ()| tell.send(reactor.sources()).unwrap()).unwrap();
        told.recv().unwrap()
    };
    while sources() > 1 {
        thread::yield_now();
    }
    // In a crowd whose handshakes do not even begin.
    let crowd: Vec<_> =
        (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let heard = curl(&["--cacert", roots_name, "-i"]);
    assert!(heard.stdout.starts_with(b"HTTP/1.1 503 "), "{heard:?}");
    drop(crowd);
    remote.stop().unwrap();
    server.join().unwrap();
    std::fs::remove_file(&roots).unwrap();
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn handler_sees_who_the_client_is() {
    skip_without!(CURL);
    let _ceiling = ceiling(Duration::from_secs(60));
    let authority = with::Authority::new("a test's own");
    let (server, client) = (authority.issue(&["localhost"]), authority.issue(&["ann"]));
    let known = with::der(&client.chain);
    let file = |name: &str, pem: &[u8]| {
        let name = format!("waterwheel-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let files = [
        file("ca", authority.pem.as_ref()),
        file("cert", client.chain.as_ref()),
        file("key", client.key.as_ref()),
    ];
    let mut reactor = Reactor::<()>::new().unwrap();
    let tls = tls::Server::new(server.chain, server.key).unwrap();
    let tls = tls.require_clients(authority.pem.as_bytes()).unwrap();
    let http = Server::new(|reactor, _, _, reply| {
        let conn = reply.conn().unwrap();
        let tls = reactor[conn].tls().unwrap();
        let certificate = tls.peer_certificates().next().unwrap().to_vec();
        reply.send(reactor, certificate);
    });
    let listener = http.tls(tls).listen(&mut reactor, "127.0.0.1:0").unwrap();
    let port = reactor[listener].local_addr().port();
    let remote = reactor.remote();
    let mut curl = CURL.command();
    let curl = thread::spawn(move || {
        let resolve = format!("localhost:{port}:127.0.0.1");
        curl.args(["-sS", "--max-time", "30", "--resolve", &resolve]);
        for (option, file) in ["--cacert", "--cert", "--key"].iter().zip(&files) {
            curl.arg(option).arg(file);
        }
        let heard = curl.arg(format!("https://localhost:{port}/")).output().unwrap();
        remote.stop().unwrap();
        files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
        heard
    });
    reactor.run(&mut ()).unwrap();
    let heard = curl.join().unwrap();
    assert_eq!(heard.stdout, known.as_ref(), "{}", String::from_utf8_lossy(&heard.stderr));
}

/// A server that answers with the target and the body, `/late` a second later, and notes what it was
/// asked. What it answers a client that says this and cuts its input off, and whether with a goodbye.
fn cut_behind(said: &str) -> (String, bool, Vec<String>) {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Vec<String>>::builder().clock(&clock).build().unwrap();
    let server = Server::new(|reactor, asked: &mut Vec<String>, request, reply| {
        let body = String::from_utf8_lossy(request.body()).into_owned();
        let response = format!("<{} {body}>", request.path());
        asked.push(response.clone());
        if request.path() != "/late" {
            reply.send(reactor, response);
            return;
        }
        reply.on_gone(reactor, |_, asked: &mut Vec<String>| asked.push("gone".into()));
        reactor.after(Duration::from_secs(1), |reactor, _| _ = reply.send(reactor, response));
    });
    let (ours, theirs) = memory::pair(&mut reactor);
    with::server().accept(&mut reactor, ours, move |reactor, _, result| {
        server.serve(reactor, result.unwrap());
    });
    let mut asked = Vec::new();
    let mut peer = TlsPeer::client(&mut reactor, theirs, with::client_config());
    peer.shake(&mut reactor, &mut asked);
    turns(&mut reactor, &mut asked, 5);
    peer.say(said.as_bytes());
    peer.flush(&mut reactor);
    reactor[peer.conn].shutdown();
    for _ in 0..5 {
        turns(&mut reactor, &mut asked, 20);
        peer.read(&mut reactor).unwrap();
        clock.advance(Duration::from_secs(1));
    }
    assert!(peer.has_ended(), "still open");
    let goodbye = peer.was_told_goodbye();
    let heard = String::from_utf8(peer.heard).unwrap();
    let responses = heard.split('<').skip(1).map(|rest| rest.split('>').next().unwrap());
    (responses.collect::<Vec<_>>().join(", "), goodbye, asked)
}

#[test]
fn requests_that_came_whole_before_a_cut_are_answered() {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    let post = "POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody";
    let chunked = "POST /d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4\r\nbody\r\n0\r\n\r\n";
    let half = |text: &str| text[..text.len() - 2].to_owned();
    for (said, responses) in [
        (get("/a"), "/a "),
        (get("/late"), "/late "),
        (get("/a") + post + chunked, "/a , /c body, /d body"),
        // One that is answered late, and those behind it.
        (get("/late") + &get("/a") + post, "/late , /a , /c body"),
        (get("/a") + &get("/late") + &get("/late"), "/a , /late , /late "),
        // And behind them half of one: of a head, or of a body whose length is known, or is not.
        (get("/a") + &half(&get("/b")), "/a "),
        (get("/a") + &half(post), "/a "),
        (get("/late") + &half(post), "/late "),
        (get("/a") + &half(chunked), "/a "),
        (half(chunked), ""),
        (half(&get("/a")), ""),
    ] {
        let (heard, goodbye, asked) = cut_behind(&said);
        assert_eq!((&*heard, goodbye), (responses, true), "to {said:?}");
        let asked = asked.iter().filter(|asked| *asked != "gone").count();
        assert_eq!(asked, responses.split(", ").filter(|response| !response.is_empty()).count());
    }
    assert!(cut_behind(&get("/late")).2.contains(&"gone".into()), "as with any client that ends");
}

#[test]
fn more_requests_than_one_turn_takes_are_answered_behind_a_cut() {
    let said = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n".repeat(300);
    let (heard, goodbye, _) = cut_behind(&said);
    assert_eq!((heard.split(", ").count(), goodbye), (300, true));
}

#[test]
fn a_streamed_body_that_is_cut_has_failed() {
    type Told = Vec<String>;
    let mut reactor = Reactor::<Told>::new().unwrap();
    let server = Server::streaming(|_, _: &mut Told, _, reply| {
        let mut reply = Some(reply);
        move |reactor: &mut Context<Told>, told: &mut Told, body: Body<'_>| {
            told.push(format!("{body:?}"));
            if body == Body::End {
                reply.take().unwrap().send(reactor, "all");
            }
        }
    });
    let (ours, theirs) = memory::pair(&mut reactor);
    with::server().accept(&mut reactor, ours, move |reactor, _, result| {
        server.serve(reactor, result.unwrap());
    });
    let mut told = Vec::new();
    let mut peer = TlsPeer::client(&mut reactor, theirs, with::client_config());
    peer.shake(&mut reactor, &mut told);
    peer.say(b"POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbod");
    peer.flush(&mut reactor);
    reactor[peer.conn].shutdown();
    turns(&mut reactor, &mut told, 20);
    peer.read(&mut reactor).unwrap();
    assert!(peer.heard.is_empty() && peer.has_ended());
    assert!(told[0].starts_with("Data(") && told[1].starts_with("Failed("), "{told:?}");
}
