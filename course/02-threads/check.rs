//! Six sentences about `threads.rs`, with real sockets. The model is a list of who is served.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::panic;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use kit::{Listener, Peer, expect, refuse, same, seeds, within};

#[cfg_attr(kept = "01", path = "../01-waiting/echo.rs")]
#[cfg_attr(not(kept = "01"), path = "../01-waiting/solution.rs")]
#[allow(clippy::all, dead_code)]
mod echo;
#[path = "threads.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod threads;

use threads::Server;

fn start(clients_max: usize) -> (Server, SocketAddr) {
    let Listener { listener, address } = Listener::new();
    (Server::start(listener, clients_max, serve), address)
}

/// Sends back what comes.
fn serve(client: &TcpStream) {
    let mut stream = client;
    let _ = echo::echo(&mut stream);
}

/// Panics when the client has said something. Nothing is printed.
fn fail(client: &TcpStream) {
    let mut stream = client;
    if stream.read(&mut [0; 1]).is_ok_and(|count| count > 0) {
        panic::resume_unwind(Box::new("this check wants it"));
    }
}

/// A client that has an answer, so it is being served.
fn served(name: &str, address: SocketAddr) -> Peer {
    let mut peer = Peer::connect(name, address);
    peer.send(name);
    peer.expect(name);
    peer
}

fn refused(name: &str, address: SocketAddr) {
    let mut peer = Peer::connect(name, address);
    peer.expect("busy\n");
    peer.expect_end();
}

#[test]
fn nobody_waits_for_another_client() {
    let (_server, address) = start(3);
    let mut ann = Peer::connect("Ann", address);
    let mut bob = Peer::connect("Bob", address);
    let mut cleo = Peer::connect("Cleo", address);
    for _ in 0..2 {
        for peer in [&mut cleo, &mut bob, &mut ann] {
            peer.send("hello");
            peer.expect("hello");
        }
    }
}

#[test]
fn one_client_too_many_reads_busy_and_the_end() {
    let (_server, address) = start(2);
    let mut ann = served("Ann", address);
    let _bob = served("Bob", address);
    for name in ["Cleo", "Dan", "Eve"] {
        refused(name, address);
    }
    ann.send("still here");
    ann.expect("still here");
}

#[test]
fn the_limit_holds_while_clients_come_and_go() {
    seeds(200, |seed| {
        let clients_max = 1 + seed.below(4) as usize;
        let (server, address) = start(clients_max);
        let (mut inside, mut total): (Vec<Peer>, usize) = (Vec::new(), 0);
        for act in 0..15 {
            if seed.once_in(2) && !inside.is_empty() {
                let mut peer = inside.swap_remove(seed.below(inside.len() as u64) as usize);
                peer.finish();
                peer.expect_end();
                continue;
            }
            // Several come at once: the first of them have room.
            let names = (0..1 + seed.below(5)).map(|one| format!("client {one} of act {act}"));
            let came: Vec<_> = names.map(|name| (Peer::connect(&name, address), name)).collect();
            for (mut peer, name) in came {
                if inside.len() < clients_max {
                    peer.send(&name);
                    peer.expect(&name);
                    inside.push(peer);
                    total += 1;
                } else {
                    peer.expect("busy\n");
                    peer.expect_end();
                }
            }
        }
        drop(inside);
        let sentence = "stop gives how many clients were served";
        let count = within(10, sentence, move || server.stop());
        same(count, total, "stop gives how many clients were served.");
    });
}

#[test]
fn a_serve_that_panics_frees_its_place() {
    let Listener { listener, address } = Listener::new();
    let server = Server::start(listener, 1, fail);
    for _ in 0..3 {
        let mut peer = Peer::connect("the client whose serve panics", address);
        peer.send("!");
        peer.expect_end();
    }
    let count = within(10, "stop waits for nobody here", move || server.stop());
    same(count, 3, "Three clients were served, though each serve has panicked.");
}

#[test]
fn the_place_is_free_before_the_connection_is_closed() {
    let (_server, address) = start(1);
    for turn in 0..500 {
        let mut peer = served(&format!("client {turn}"), address);
        peer.finish();
        peer.expect_end(); // From here on there is room.
    }
}

/// The clients whose `serve` has returned.
static LEFT: Mutex<usize> = Mutex::new(0);

fn serve_and_count(client: &TcpStream) {
    serve(client);
    *LEFT.lock().unwrap() += 1;
}

#[test]
fn stop_lets_nobody_in_and_waits_for_those_inside() {
    let Listener { listener, address } = Listener::new();
    let server = Server::start(listener, 3, serve_and_count);
    let mut peers = ["Ann", "Bob", "Cleo"].map(|name| served(name, address));
    let (send, stopped): (Sender<_>, Receiver<_>) = channel();
    thread::spawn(move || {
        let count = server.stop();
        let _ = send.send((count, *LEFT.lock().unwrap()));
    });
    within(10, "stop closes the listener while clients are served", move || {
        while TcpStream::connect(address).is_ok() {
            thread::yield_now();
        }
    });
    for _ in 0..20 {
        for peer in &mut peers {
            peer.send("I am still served");
            peer.expect("I am still served");
        }
    }
    expect(stopped.try_recv().is_err(), "stop waits while clients are served.");
    peers.iter().for_each(Peer::finish);
    let waited = within(10, "stop returns when all clients have gone", move || stopped.recv());
    match waited {
        Ok(counts) => same(counts, (3, 3), "Three were served, and each to its end."),
        Err(_) => refuse("stop returns, and does not panic."),
    }
}
