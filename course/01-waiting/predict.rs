//! Predict: two clients and one server that serves one after the other.

use std::net::TcpListener;
use std::thread;

use kit::Peer;

#[path = "solution.rs"]
#[allow(dead_code)]
#[rustfmt::skip]
mod echo;

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || echo::serve(&listener, None));

    let mut ann = Peer::connect("Ann", address);
    let mut bob = Peer::connect("Bob", address);
    bob.send("hello from Bob");
    ann.send("hello from Ann");
    ann.expect("hello from Ann");
    println!("Ann has her answer; Bob has {}", if bob.has_nothing() { "none" } else { "his" });
    let at_once = !bob.has_nothing();
    ann.finish(); // Ann leaves.
    bob.expect("hello from Bob");
    println!("Ann has left, and Bob has his answer");
    bob.finish();
    bob.expect_end(); // The server has printed its line by now.
    println!("answer: {}", if at_once { 'a' } else { 'c' });
    Ok(())
}
