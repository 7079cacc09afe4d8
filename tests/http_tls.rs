//! The HTTP server over TLS, with curl.

use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use waterwheel::Reactor;
use waterwheel::net::http::Server;
use waterwheel::net::tls;

mod support;
#[path = "support/tcp.rs"]
mod tcp;
#[path = "support/tls.rs"]
mod with;

use support::ceiling;

#[test]
fn curl_is_served_over_tls() {
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
        let listener = server.tls(tls).listen(&mut reactor, "127.0.0.1:0").unwrap();
        tell.send((reactor[listener].local_addr().port(), reactor.remote())).unwrap();
        reactor.run(&mut ()).unwrap();
    });
    let (port, remote) = told.recv().unwrap();
    let url = format!("https://localhost:{port}/");
    let curl = |args: &[&str]| {
        let resolve = format!("localhost:{port}:127.0.0.1");
        let usual = ["-sS", "--max-time", "30", "--resolve", &resolve];
        Command::new("curl").args(usual).args(args).arg(&url).output().expect("curl is installed")
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
    remote.stop().unwrap();
    server.join().unwrap();
    std::fs::remove_file(&roots).unwrap();
    std::fs::remove_file(&file).unwrap();
}
