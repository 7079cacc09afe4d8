//! Break: three programs in your network. Each takes something from outside of the seed.

use std::collections::{BTreeSet, HashSet};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use kit::{End, Faults, Network};

#[path = "sim.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod sim;

use sim::Net;

const FAULTS: Faults = Faults { delay_max_ms: 20, cuts: 30, resets: 0 };
const PEOPLE: usize = 8;
const RUNS: usize = 50;

fn main() {
    say("a program that goes through a BTreeSet", || {
        (0..PEOPLE).collect::<BTreeSet<_>>().into_iter().collect()
    });
    say("a program that goes through a HashSet", || {
        (0..PEOPLE).collect::<HashSet<_>>().into_iter().collect()
    });
    say("a program that looks at the clock", || {
        let begin = Instant::now();
        let nanos = |_| begin.elapsed().as_nanos() as usize;
        (0..PEOPLE).map(nanos).map(|nanos| nanos % PEOPLE).collect()
    });
    say("a program with a thread for each letter", || {
        let (send, receive) = channel();
        let threads: Vec<_> = (0..PEOPLE)
            .map(|who| {
                let send = send.clone();
                thread::spawn(move || send.send(who))
            })
            .collect();
        drop(send);
        let order = receive.iter().collect();
        threads.into_iter().for_each(|thread| drop(thread.join()));
        order
    });
}

/// Runs it again and again with seed 7, and counts the different runs.
fn say(name: &str, order: impl Fn() -> Vec<usize>) {
    let mut traces = HashSet::new();
    for _ in 0..RUNS {
        let mut net = Net::new(7, FAULTS);
        (0..PEOPLE).for_each(|_| {
            net.connect();
        });
        // It writes a letter to each, in the order in which it comes to them, and numbers the letters.
        for (number, line) in order().into_iter().enumerate() {
            net.send(End { line, side: 1 }, format!("letter {number}").as_bytes());
        }
        let trace: Vec<_> = (0..1000).map_while(|_| net.next()).collect();
        traces.insert(format!("{trace:?}"));
    }
    println!("{name}: {RUNS} runs with seed 7; different ones: {}", traces.len());
}
