//! TLS over a stream: the handshake, what it agrees on, and how it is resumed.

use waterwheel::Reactor;

mod support;
#[path = "support/tcp.rs"]
mod tcp;
#[path = "support/tls.rs"]
mod with;

use with::{client, server, shake};

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
    assert_eq!(theirs.tls().unwrap().peer_certificates().count(), 1);
}
