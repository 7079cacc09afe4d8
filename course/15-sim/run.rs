//! Your network finds three bugs in a chat. Then one of them is yours to try:
//! `cargo run -p course --example run15`, then `nc 127.0.0.1 7115`, twice.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use kit::mio::net::{TcpListener, TcpStream};
use kit::{Act, Bug, Chat, Faults, Interest, Kernel, Letters, Mio, Seed, acts, talk};

#[path = "sim.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod sim;

use sim::{Net, shrink};

const FAULTS: Faults = Faults { delay_max_ms: 20, cuts: 30, resets: 2 };
const PEOPLE: usize = 4;
const SEEDS: u64 = 2000;
const LISTENER: usize = usize::MAX;
const READS: Interest = Interest { readable: true, writable: false };

fn main() -> io::Result<()> {
    for bug in [Bug::OneBuffer, Bug::LostLine, Bug::Ghost] {
        find(bug);
    }
    serve()
}

/// What is wrong in the network of that seed.
fn wrong(seed: u64, bug: Bug, acts: &[Act]) -> Option<String> {
    talk(&mut Net::new(seed, FAULTS), Some(bug), PEOPLE, acts).wrong
}

fn find(bug: Bug) {
    for seed in 1..=SEEDS {
        let acts = acts(&mut Seed::new(seed), PEOPLE, 30);
        if wrong(seed, bug, &acts).is_none() {
            continue;
        }
        let mut runs = 0;
        let shrunk = shrink(&acts, |acts| {
            runs += 1;
            wrong(seed, bug, acts).is_some()
        });
        let why = wrong(seed, bug, &shrunk).unwrap_or_default();
        println!("{bug:?}: seed {seed} fails; {} of {} acts are left:", shrunk.len(), acts.len());
        println!("  {shrunk:?}, after {runs} runs\n  {why}");
        return;
    }
    println!("{bug:?}: not found in {SEEDS} networks");
}

/// The chat on real sockets, with its first mistake.
fn serve() -> io::Result<()> {
    let mut kernel = Mio::new()?;
    let address: SocketAddr = "127.0.0.1:7115".parse().expect("an address");
    let mut listener = TcpListener::bind(address)?;
    kernel.register(&mut listener, LISTENER, READS)?;
    println!("the chat with OneBuffer listens on {address}; Ctrl-C ends it");
    let (mut chat, mut people) = (Chat::new(Some(Bug::OneBuffer)), Vec::new());
    loop {
        let mut ready = Vec::new();
        kernel.poll(None, &mut ready)?;
        for heard in ready {
            if heard.token == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    kernel.register(&mut stream, people.len(), READS)?;
                    chat.come(people.len());
                    people.push(Some(stream)); // A token is used once: a demonstration may.
                }
                continue;
            }
            while let Some(letters) = read(&mut chat, &mut people, heard.token) {
                for (to, text) in letters {
                    if let Some(stream) = &mut people[to] {
                        let _ = stream.write(text.as_bytes()); // A slow reader loses it.
                    }
                }
            }
        }
    }
}

/// Reads once, and gives what the chat sends then. `None`: there is nothing to read.
fn read(chat: &mut Chat, people: &mut [Option<TcpStream>], who: usize) -> Option<Letters> {
    let mut bytes = [0; 1024];
    match people[who].as_mut()?.read(&mut bytes) {
        Ok(count @ 1..) => Some(chat.hear(who, &bytes[..count])),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Ok(_) => {
            people[who] = None;
            Some(chat.leave(who, false))
        }
        Err(_) => {
            people[who] = None;
            Some(chat.leave(who, true))
        }
    }
}
