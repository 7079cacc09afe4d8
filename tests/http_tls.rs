//! The HTTP server over TLS, with curl.

use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use waterwheel::Reactor;
use waterwheel::net::http::{Limits, Server};
use waterwheel::net::tls;

mod support;
#[path = "support/tcp.rs"]
mod tcp;
#[path = "support/tls.rs"]
mod with;

use support::ceiling;
use support::clients::{CURL, skip_without};

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
