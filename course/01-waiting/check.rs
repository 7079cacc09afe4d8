//! Seven sentences about `echo.rs`: three with a scripted stream, four with real sockets.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use kit::{Listener, Peer, Says, Wire, expect, same, seeds, within};

#[path = "echo.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod echo;

/// Starts the server; it ends with the check's process.
fn start(patience: Option<Duration>) -> std::net::SocketAddr {
    let Listener { listener, address } = Listener::new();
    thread::spawn(move || echo::serve(&listener, patience));
    address
}

#[test]
fn every_byte_comes_back_however_the_bytes_are_cut() {
    seeds(200, |seed| {
        let (wire, mut sent) = (Wire::new(), Vec::new());
        for _ in 0..seed.below(20) {
            let count = 1 + seed.below(9000) as usize;
            let bytes = seed.bytes(count);
            sent.extend_from_slice(&bytes);
            wire.to_read([Says::Bytes(bytes)]);
            wire.to_write((0..3).map(|_| Says::Takes(1 + seed.below(5000) as usize)));
        }
        wire.to_read([Says::End]);
        let count = echo::echo(&mut wire.clone());
        let back = wire.written();
        same(
            back.len(),
            sent.len(),
            "As many bytes come back as were sent, though write takes few.",
        );
        expect(back == sent, "The bytes come back in order, and none is changed.");
        same(count.ok(), Some(sent.len() as u64), "echo gives the number of bytes.");
    });
}

#[test]
fn a_signal_is_not_the_end() {
    let wire = Wire::new();
    wire.to_read([Says::Interrupted, Says::Bytes(b"one".into()), Says::Interrupted]);
    wire.to_read([Says::Bytes(b"two".into()), Says::End]);
    wire.to_write([Says::Interrupted]);
    let count = echo::echo(&mut wire.clone()).ok();
    same(
        String::from_utf8(wire.written()).unwrap(),
        "onetwo",
        "An interrupted call is made again.",
    );
    same(count, Some(6), "echo gives the number of bytes.");
}

#[test]
fn nothing_is_asked_after_the_end() {
    let wire = Wire::new();
    wire.to_read([Says::Bytes(b"bye".into()), Says::End]);
    let count = echo::echo(&mut wire.clone()).ok();
    same(count, Some(3), "echo gives the number of bytes.");
    same(wire.calls().reads, 2, "Two reads: one gives the bytes, and one the end.");
}

#[test]
fn the_second_client_waits_until_the_first_leaves() {
    let address = start(None);
    let mut ann = Peer::connect("Ann", address);
    let mut bob = Peer::connect("Bob", address);
    bob.send("bob");
    ann.send("one");
    ann.expect("one");
    ann.send("two");
    ann.expect("two");
    expect(bob.has_nothing(), "Bob gets nothing while Ann, who came first, is connected.");
    ann.finish();
    ann.expect_end();
    bob.expect("bob");
}

#[test]
fn a_client_that_fails_ends_only_its_own_turn() {
    let address = start(None);
    for turn in 0..3 {
        let mut rude = Peer::connect("the rude client", address);
        rude.send(format!("{turn}"));
        rude.expect(format!("{turn}"));
        rude.reset();
    }
    let mut bob = Peer::connect("Bob", address);
    bob.send("still there?");
    bob.expect("still there?");
}

#[test]
fn with_patience_a_silent_client_has_had_its_turn() {
    let address = start(Some(Duration::from_millis(200)));
    let mut ann = Peer::connect("Ann", address);
    let mut bob = Peer::connect("Bob", address);
    bob.send("bob");
    bob.expect("bob"); // Ann is still connected, and has said nothing.
    ann.expect_end();
}

#[test]
fn serve_ends_when_the_listener_fails() {
    let Listener { listener, .. } = Listener::new();
    listener.set_nonblocking(true).expect("a mode"); // Then `accept` fails: nobody is there.
    let sentence = "serve returns the error of accept";
    let ended = within(10, sentence, move || echo::serve(&listener as &TcpListener, None));
    expect(ended.is_err(), "serve returns the error of accept.");
}
