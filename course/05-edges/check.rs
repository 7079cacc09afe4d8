//! Eight sentences about `edge.rs`. The kernel is a script, or one that reports changes of scripted
//! streams; time passes in it only while nothing is ready.

use std::collections::BTreeMap;
use std::time::Duration;

use kit::{Heard, Kernel, Says, Script, Seed, Waiting, Wire, Wires, expect, refuse, same, seeds};

#[cfg_attr(kept = "03", path = "../03-asking/ask.rs")]
#[cfg_attr(not(kept = "03"), path = "../03-asking/solution.rs")]
#[allow(clippy::all, dead_code)]
mod ask;
#[path = "edge.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod edge;

use ask::Client;
use edge::Edges;

type Clients = BTreeMap<usize, Client<Wire>>;

fn clients(wires: &[Wire]) -> Clients {
    wires.iter().cloned().map(Client::new).enumerate().collect()
}

fn readable(token: usize) -> Heard {
    Heard { token, readable: true, ..Heard::default() }
}

/// Says at once that these are ready.
fn at_once(heard: &[Heard]) -> Waiting {
    Waiting::Ready(Duration::ZERO, heard.to_vec())
}

/// One turn without a timeout, whose kernel gives no error.
fn turn(edges: &mut Edges<Script>, clients: &mut Clients, budget: usize) -> Vec<Heard> {
    match edge::turn(edges, clients, budget, None) {
        Ok(heard) => heard,
        Err(error) => refuse(&format!("A turn sleeps though bytes are left, and {error}.")),
    }
}

/// Turns until all have ended.
fn serve(wires: &[Wire], sent: &[Vec<u8>], budget: usize) -> Wires {
    let (mut edges, mut clients) = (Edges::new(Wires::edge(wires)), clients(wires));
    while !clients.is_empty() {
        wires.iter().for_each(Wire::new_round);
        if edge::turn(&mut edges, &mut clients, budget, None).is_err() {
            let missing: usize = sent.iter().map(Vec::len).sum::<usize>()
                - wires.iter().map(|wire| wire.written().len()).sum::<usize>();
            let count = clients.len();
            refuse(&format!(
                "Clients that hang for ever: {count}. Bytes that have not come back: {missing}. No \
                 change will be reported any more."
            ));
        }
        if edges.kernel.polls > 100_000 {
            refuse("After 100,000 polls there are still clients.");
        }
    }
    for (wire, sent) in wires.iter().zip(sent) {
        expect(wire.written() == *sent, "Every byte comes back, in order.");
    }
    edges.kernel
}

/// A client that sends when it likes, and takes what comes back when it likes.
fn scripted(seed: &mut Seed) -> (Wire, Vec<u8>) {
    let (wire, mut sent) = (Wire::new(), Vec::new());
    for _ in 0..seed.below(15) {
        let count = 1 + seed.below(9000) as usize;
        let bytes = seed.bytes(count);
        sent.extend_from_slice(&bytes);
        if seed.once_in(3) {
            wire.to_read([Says::Later]);
        }
        wire.to_read([Says::Bytes(bytes)]);
        wire.to_write((0..seed.below(4)).map(|_| match seed.once_in(2) {
            true => Says::Later,
            false => Says::Takes(1 + seed.below(5000) as usize),
        }));
    }
    if seed.once_in(2) {
        wire.to_read([Says::Later]);
    }
    wire.to_read([Says::End]);
    (wire, sent)
}

#[test]
fn one_edge_is_enough_for_ten_pieces() {
    let wire = Wire::new();
    wire.to_read((0..10).map(|number| Says::Bytes(vec![number; 100])));
    let mut edges = Edges::new(Script::new([at_once(&[readable(0)])]));
    turn(&mut edges, &mut clients(&[wire.clone()]), 100);
    let sent: Vec<u8> = (0..10).flat_map(|number| vec![number; 100]).collect();
    same(wire.written().len(), sent.len(), "All ten pieces come back, and there was one report.");
    expect(wire.written() == sent, "The bytes come back in order.");
}

#[test]
fn every_byte_comes_back_however_the_edges_fall() {
    seeds(200, |seed| {
        let scripts: Vec<_> = (0..1 + seed.below(4)).map(|_| scripted(seed)).collect();
        let (wires, sent): (Vec<_>, Vec<_>) = scripts.into_iter().unzip();
        serve(&wires, &sent, 1 + seed.below(4) as usize);
    });
}

#[test]
fn a_flood_does_not_keep_the_others_waiting() {
    let (flood, little) = (Wire::new(), Wire::new());
    flood.to_read((0..1000).map(|_| Says::Bytes(vec![7; 4096])));
    little.to_read([Says::Bytes(b"hello".into())]);
    let wires = [flood.clone(), little.clone()];
    let mut edges = Edges::new(Script::new([at_once(&[readable(0), readable(1)])]));
    let mut clients = clients(&wires);
    turn(&mut edges, &mut clients, 5);
    same(String::from_utf8_lossy(&little.written()), "hello", "The second has its answer.");
    same(flood.calls().reads, 5, "The first was asked five times before: that is its budget.");
    turn(&mut edges, &mut clients, 5);
    same(flood.calls().reads, 10, "In the next turn it goes on, and the kernel says nothing new.");
}

#[test]
fn the_loop_does_not_sleep_while_a_client_is_resumed() {
    let wire = Wire::new();
    wire.to_read((0..5).map(|_| Says::Bytes(vec![7; 100])));
    let later = Waiting::Ready(Duration::from_secs(9), vec![readable(1)]);
    let mut edges = Edges::new(Script::new([at_once(&[readable(0)]), later]));
    let mut clients = clients(&[wire.clone()]);
    for _ in 0..4 {
        turn(&mut edges, &mut clients, 2);
    }
    same(wire.written().len(), 500, "All bytes come back.");
    let now = Some(Duration::ZERO);
    let what = "It sleeps (None) in the first turn, not in the next two, and again in the fourth.";
    same(&edges.kernel.asked[..], [None, now, now, None], what);
}

#[test]
fn a_resumed_token_is_heard_once_with_all_reasons() {
    seeds(200, |seed| {
        let mut edges = Edges::new(Script::default());
        for act in 0..50 {
            let mut model: BTreeMap<usize, Heard> = BTreeMap::new();
            for _ in 0..seed.below(4) {
                let token = seed.below(9) as usize;
                let (writable, hung_up) = (seed.once_in(2), seed.once_in(2));
                let readable = seed.once_in(2);
                model.insert(token, Heard { token, readable, writable, hung_up });
            }
            let said: Vec<Heard> = model.values().copied().collect();
            for _ in 0..seed.below(4) {
                let token = seed.below(9) as usize;
                edges.resume(token);
                model.entry(token).or_insert(readable(token)).readable = true;
            }
            edges.kernel = Script::new([at_once(&said)]);
            let mut heard = Vec::new();
            let polled = edges.poll(Some(Duration::from_secs(1)), &mut heard);
            expect(polled.is_ok(), "The kernel gave no error.");
            same(edges.kernel.polls(), 1, "The kernel is asked once.");
            heard.sort_by_key(|heard| heard.token);
            let what = format!("Act {act}: each token is heard once, with all reasons.");
            same(heard, model.into_values().collect::<Vec<_>>(), &what);
        }
    });
}

#[test]
fn a_signal_loses_nothing_that_was_resumed() {
    let signal = Waiting::Interrupted(Duration::ZERO);
    let mut edges = Edges::new(Script::new([signal, at_once(&[])]));
    edges.resume(5);
    let mut heard = Vec::new();
    let _ = edges.poll(None, &mut heard); // It may say Interrupted.
    if heard.is_empty() {
        let _ = edges.poll(None, &mut heard);
    }
    same(heard, [readable(5)], "After the signal, what was resumed is still to be heard.");
}

#[test]
fn the_last_bytes_come_before_the_end() {
    let wire = Wire::new();
    wire.to_read([Says::Bytes(b"good".into()), Says::Bytes(b"bye".into()), Says::End]);
    let all = Heard { token: 0, readable: true, writable: true, hung_up: true };
    let mut edges = Edges::new(Script::new([at_once(&[all])]));
    let mut clients = clients(&[wire.clone()]);
    turn(&mut edges, &mut clients, 100);
    same(String::from_utf8_lossy(&wire.written()), "goodbye", "What came before the end is read.");
    same(clients.len(), 0, "Then the client has ended, and is forgotten.");
}

#[test]
fn a_report_with_nothing_behind_it_does_no_harm() {
    let wires = [Wire::new(), Wire::new()];
    let heard = [readable(0), readable(7), Heard { token: 1, writable: true, ..readable(1) }];
    let mut edges = Edges::new(Script::new([at_once(&heard), at_once(&[readable(0)])]));
    let mut clients = clients(&wires);
    turn(&mut edges, &mut clients, 3);
    same(clients.len(), 2, "Both clients are still there.");
    let reads: usize = wires.iter().map(|wire| wire.calls().reads).sum();
    same(reads, 2, "Each was asked once: after WouldBlock there is nothing to ask.");
    turn(&mut edges, &mut clients, 3);
    same(edges.kernel.asked.last().copied(), Some(None), "Then it sleeps: nobody is resumed.");
}
