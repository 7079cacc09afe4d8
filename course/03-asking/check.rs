//! Eight sentences about `ask.rs`: seven with scripted streams that count the calls, and one with
//! real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kit::{Listener, Peer, Says, Seed, Wire, expect, refuse, same, seeds};

#[path = "ask.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod ask;

use ask::{Client, State};

/// More rounds than any script here has lines.
const ROUNDS_MAX: usize = 10_000;

/// A stream whose reads and writes are cut anywhere, and put off. Gives what it sends, too.
fn scripted(seed: &mut Seed) -> (Wire, Vec<u8>) {
    let (wire, mut sent) = (Wire::new(), Vec::new());
    for _ in 0..seed.below(20) {
        match seed.below(4) {
            0 => wire.to_read([Says::Later]),
            1 => wire.to_read([Says::Interrupted]),
            _ => {
                let count = 1 + seed.below(9000) as usize;
                let bytes = seed.bytes(count);
                sent.extend_from_slice(&bytes);
                wire.to_read([Says::Bytes(bytes)]);
            }
        }
        wire.to_write((0..seed.below(5)).map(|_| match seed.below(4) {
            0 => Says::Later,
            1 => Says::Interrupted,
            _ => Says::Takes(1 + seed.below(3000) as usize),
        }));
    }
    wire.to_read([Says::End]);
    (wire, sent)
}

/// Rounds until all have ended. Gives their number.
fn to_the_end(wires: &[Wire], clients: &mut Vec<Client<Wire>>) -> usize {
    for rounds in 0..ROUNDS_MAX {
        if clients.is_empty() {
            return rounds;
        }
        wires.iter().for_each(Wire::new_round);
        ask::round(clients);
    }
    refuse(&format!("A client has sent its end; after {ROUNDS_MAX} rounds it is still asked."));
}

#[test]
fn every_byte_comes_back_however_reads_and_writes_are_cut() {
    seeds(200, |seed| {
        let scripts: Vec<_> = (0..1 + seed.below(4)).map(|_| scripted(seed)).collect();
        let wires: Vec<_> = scripts.iter().map(|(wire, _)| wire.clone()).collect();
        let mut clients = wires.iter().cloned().map(Client::new).collect();
        to_the_end(&wires, &mut clients);
        for (number, (wire, sent)) in scripts.iter().enumerate() {
            let back = wire.written();
            let what = format!("Client {number} gets back as many bytes as it has sent.");
            same(back.len(), sent.len(), &what);
            expect(back == *sent, "The bytes come back in order, and none is changed.");
        }
    });
}

#[test]
fn a_call_that_said_later_is_not_made_again_in_the_same_round() {
    seeds(200, |seed| {
        let (wire, _) = scripted(seed);
        to_the_end(&[wire.clone()], &mut vec![Client::new(wire.clone())]);
        let calls = wire.calls();
        same(calls.reads_after_later, 0, "No read follows WouldBlock in the same round.");
        same(calls.writes_after_later, 0, "No write follows WouldBlock in the same round.");
    });
}

#[test]
fn a_client_that_takes_nothing_is_not_read() {
    let wire = Wire::new();
    wire.to_read((0..10).map(|_| Says::Bytes(vec![7; 4096])));
    wire.to_write([Says::Takes(1)]);
    wire.to_write((0..9).map(|_| Says::Later));
    let mut clients = vec![Client::new(wire.clone())];
    for _ in 0..9 {
        wire.new_round();
        ask::round(&mut clients);
    }
    same(wire.calls().reads, 1, "While a client is owed bytes, it is not read.");
    same(wire.written().len(), 1, "It has taken one byte in nine rounds.");
}

#[test]
fn a_client_that_has_sent_its_end_gets_its_bytes_first() {
    let wire = Wire::new();
    wire.to_read([Says::Bytes(b"bye".into()), Says::End]);
    wire.to_write([Says::Takes(1), Says::Later, Says::Later, Says::Takes(9)]);
    to_the_end(&[wire.clone()], &mut vec![Client::new(wire.clone())]);
    same(String::from_utf8_lossy(&wire.written()), "bye", "All that is owed is written first.");
}

#[test]
fn a_call_that_fails_ends_its_own_client_and_no_other() {
    let (to_read, to_write, other) = (Wire::new(), Wire::new(), Wire::new());
    to_read.to_read([Says::Reset]);
    to_write.to_read([Says::Bytes(b"hello".into())]);
    to_write.to_write([Says::Reset]);
    other.to_read([Says::Bytes(b"hello".into())]);
    let mut clients: Vec<_> = [to_read, to_write, other.clone()].map(Client::new).into();
    same(ask::round(&mut clients), 1, "round gives how many were busy: the third.");
    same(clients.len(), 1, "Two have failed, and are forgotten.");
    same(String::from_utf8_lossy(&other.written()), "hello", "The third has its answer.");
}

#[test]
fn a_client_with_nothing_to_say_costs_one_call_in_a_round() {
    let wires: Vec<_> = (0..100).map(|_| Wire::new()).collect();
    let mut clients: Vec<_> = wires.iter().cloned().map(Client::new).collect();
    for round in 1..=10 {
        wires.iter().for_each(Wire::new_round);
        same(ask::round(&mut clients), 0, "Nobody is busy.");
        let calls: usize = wires.iter().map(|wire| wire.calls().reads + wire.calls().writes).sum();
        same(calls, round * 100, "Each silent client is read once in a round, and not written to.");
    }
    same(clients[0].ask(), State::Idle, "A client with nothing to say is idle.");
}

#[test]
fn a_client_that_says_much_does_not_keep_the_others_waiting() {
    let (much, little) = (Wire::new(), Wire::new());
    much.to_read((0..1000).map(|_| Says::Bytes(vec![7; 4096])));
    little.to_read([Says::Bytes(b"hello".into())]);
    let mut clients: Vec<_> = [much.clone(), little.clone()].map(Client::new).into();
    same(ask::round(&mut clients), 2, "Both are busy.");
    same(String::from_utf8_lossy(&little.written()), "hello", "The second has its answer.");
    same(much.calls().reads, 1, "The client that says much is read once before that.");
}

#[test]
fn real_clients_do_not_wait_for_one_that_is_silent() {
    let Listener { listener, address } = Listener::new();
    listener.set_nonblocking(true).expect("a mode");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let server = thread::spawn(move || {
        let mut clients = Vec::new();
        while !stopped.load(Ordering::SeqCst) {
            ask::accept(&listener, &mut clients).expect("accept gives no error");
            ask::round(&mut clients);
            thread::yield_now();
        }
        clients.len()
    });
    let _ann = Peer::connect("Ann, who is silent,", address);
    let mut bob = Peer::connect("Bob", address);
    let mut cleo = Peer::connect("Cleo", address);
    for turn in 0..20 {
        let text = vec![b'a' + turn; 30_000];
        cleo.send(&text);
        bob.send("hello");
        bob.expect("hello");
        cleo.expect(&text);
    }
    bob.finish();
    bob.expect_end();
    stop.store(true, Ordering::SeqCst);
    same(server.join().ok(), Some(2), "Ann and Cleo are still there, and Bob is forgotten.");
}
