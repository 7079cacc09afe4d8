//! Predict: whose letter is it? The numbers are the kernel's.

use std::collections::{HashMap, VecDeque};
use std::net::TcpListener;
use std::os::fd::AsRawFd;

fn open() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a socket")
}

fn main() {
    let (ann, bob) = (open(), open());
    let mut names = HashMap::from([(ann.as_raw_fd(), "Ann"), (bob.as_raw_fd(), "Bob")]);
    // Two events are in the queue: first one for Ann, then one for Bob.
    let mut queue = VecDeque::from([ann.as_raw_fd(), bob.as_raw_fd()]);
    let mut bob = Some(bob);
    while let Some(number) = queue.pop_front() {
        let name = names.get(&number).copied().unwrap_or("nobody");
        println!("the event for number {number} goes to {name}");
        if let Some(bob) = bob.take() {
            // Ann's callback closes Bob's socket. Then Cleo connects.
            names.remove(&bob.as_raw_fd());
            drop(bob);
            let cleo = Box::leak(Box::new(open()));
            names.insert(cleo.as_raw_fd(), "Cleo");
        } else {
            println!(
                "answer: {}",
                if name == "Bob" {
                    'a'
                } else if name == "nobody" {
                    'b'
                } else {
                    'c'
                }
            );
        }
    }
}
