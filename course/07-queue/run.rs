//! A server whose clients choose their lane: `cargo run -p course --example run07`, then
//! `printf '?low\nplain\n!high\n' | nc -N 127.0.0.1 7107`.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use kit::mio::net::{TcpListener, TcpStream};
use kit::{Interest, Kernel, Mio};

#[path = "queue.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod queue;
#[cfg_attr(kept = "06", path = "../06-ids/registry.rs")]
#[cfg_attr(not(kept = "06"), path = "../06-ids/solution.rs")]
#[allow(clippy::all, dead_code)]
mod registry;

use queue::{Lane, Queue};
use registry::{Id, Registry};

const LISTENER: usize = usize::MAX;
const READABLE: Interest = Interest { readable: true, writable: false };

/// What waits in the queue.
enum Entry {
    /// The kernel has heard this token.
    Heard(usize),
    /// A line to send back.
    Line(Id, Rc<str>),
    /// A line that puts itself into the queue again, so many times.
    Again(Id, Rc<str>, u32),
}

fn token(id: Id) -> usize {
    (id.generation as usize) << 32 | id.index as usize
}

fn id(token: usize) -> Id {
    Id { index: token as u32, generation: (token >> 32) as u32 }
}

fn main() -> std::io::Result<()> {
    let mut kernel = Mio::new()?;
    let address: SocketAddr = "127.0.0.1:7107".parse().expect("an address");
    let mut listener = TcpListener::bind(address)?;
    kernel.register(&mut listener, LISTENER, READABLE)?;
    println!("listening on {address}; Ctrl-C ends it");
    let (mut people, mut queue, mut turn) = (Registry::<TcpStream>::new(), Queue::new(), 0);
    loop {
        let mut ready = Vec::new();
        let timeout = (!queue.is_empty()).then_some(std::time::Duration::ZERO);
        kernel.poll(timeout, &mut ready)?;
        for heard in ready {
            queue.push(Lane::Normal, Entry::Heard(heard.token));
        }
        turn += 1;
        println!("turn {turn}: {} in the batch", queue.begin_turn());
        while let Some(entry) = queue.pop() {
            match entry {
                Entry::Heard(LISTENER) => {
                    while let Ok((stream, _)) = listener.accept() {
                        let id = people.insert(stream);
                        let stream = people.get(id).expect("it was inserted just now");
                        kernel.register(stream, token(id), READABLE)?;
                    }
                }
                Entry::Heard(token) => read(&mut people, &mut queue, id(token)),
                Entry::Line(id, line) => send(&mut people, id, &line),
                Entry::Again(id, line, times) => {
                    send(&mut people, id, &line);
                    if times > 1 {
                        queue.push(Lane::High, Entry::Again(id, line, times - 1));
                    }
                }
            }
        }
    }
}

fn send(people: &mut Registry<TcpStream>, id: Id, line: &str) {
    println!("  runs: {line}");
    if let Some(stream) = people.get(id) {
        let _ = stream.write(format!("{line}\n").as_bytes()); // A slow reader loses it.
    }
}

/// Puts each line into the lane that its first character names. A client that has sent its last
/// line stays until its lines are answered.
fn read(people: &mut Registry<TcpStream>, queue: &mut Queue<Entry>, from: Id) {
    let (mut text, mut bytes, mut ended) = (Vec::new(), [0; 1024], false);
    loop {
        let Some(stream) = people.get(from) else { return };
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => text.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Ok(_) if !text.is_empty() => {
                ended = true;
                break;
            }
            _ => return drop(people.remove(from)),
        }
    }
    for line in String::from_utf8_lossy(&text).lines() {
        let line: Rc<str> = line.into();
        match line.chars().next() {
            Some('!') => queue.push(Lane::High, Entry::Line(from, line)),
            Some('?') => queue.push(Lane::Low, Entry::Line(from, line)),
            Some('*') => queue.push(Lane::High, Entry::Again(from, line, 3)),
            _ => queue.push(Lane::Normal, Entry::Line(from, line)),
        }
    }
    if ended {
        queue.push(Lane::Low, Entry::Heard(token(from))); // The end once more, behind its lines.
    }
}
