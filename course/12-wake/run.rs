//! A server that computes: `cargo run -p course --example run12`, then `nc 127.0.0.1 7112`, twice.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use kit::mio::Waker;
use kit::mio::net::{TcpListener, TcpStream};
use kit::{Interest, Kernel, Mio};

#[cfg_attr(kept = "06", path = "../06-ids/registry.rs")]
#[cfg_attr(not(kept = "06"), path = "../06-ids/solution.rs")]
#[allow(clippy::all, dead_code)]
mod registry;
#[path = "wake.rs"]
#[allow(clippy::all, dead_code, unused)]
#[rustfmt::skip]
mod wake;

use registry::{Id, Registry};
use wake::{Call, Mailbox, Workers};

const LISTENER: usize = usize::MAX;
const WAKER: usize = usize::MAX - 1;
const READABLE: Interest = Interest { readable: true, writable: false };

fn token(id: Id) -> usize {
    (id.generation as usize) << 32 | id.index as usize
}

fn id(token: usize) -> Id {
    Id { index: token as u32, generation: (token >> 32) as u32 }
}

/// How many primes there are below `end`. It divides by all numbers, so it takes long.
fn primes(end: u64) -> usize {
    (2..end).filter(|number| (2..*number).all(|by| number % by != 0)).count()
}

fn main() -> io::Result<()> {
    let mut kernel = Mio::new()?;
    let address: SocketAddr = "127.0.0.1:7112".parse().expect("an address");
    let mut listener = TcpListener::bind(address)?;
    kernel.register(&mut listener, LISTENER, READABLE)?;
    println!("listening on {address}; Ctrl-C ends it");
    let mailbox: Arc<Mailbox<Call, Waker>> = Arc::new(Mailbox::new(kernel.waker(WAKER)?));
    let workers = Workers::new(2, &mailbox);
    let mut people = Registry::<TcpStream>::new();
    let (send, answers) = channel::<(Id, String)>();
    loop {
        let mut ready = Vec::new();
        let timeout = (!mailbox.fall_asleep()).then_some(std::time::Duration::ZERO);
        kernel.poll(timeout, &mut ready)?;
        mailbox.be_awake();
        for heard in ready {
            match heard.token {
                WAKER => println!("a worker has woken the loop"),
                LISTENER => {
                    while let Ok((stream, _)) = listener.accept() {
                        let id = people.insert(stream);
                        let stream = people.get(id).expect("it was inserted just now");
                        kernel.register(stream, token(id), READABLE)?;
                    }
                }
                token => read(&mut people, id(token), &workers, &send),
            }
        }
        mailbox.take().into_iter().for_each(|call| call());
        for (id, answer) in answers.try_iter() {
            if let Some(stream) = people.get(id) {
                let _ = stream.write(answer.as_bytes()); // A short line: there is room for it.
            }
        }
    }
}

/// `30000` is computed by a worker, `!30000` by the loop itself, and any other line comes back.
fn read(
    people: &mut Registry<TcpStream>,
    from: Id,
    workers: &Workers,
    send: &Sender<(Id, String)>,
) {
    let (mut text, mut bytes) = (Vec::new(), [0; 1024]);
    let gone = loop {
        let Some(stream) = people.get(from) else { return };
        match stream.read(&mut bytes) {
            Ok(0) => break true,
            Ok(count) => text.extend_from_slice(&bytes[..count]),
            Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
        }
    };
    for line in String::from_utf8_lossy(&text).lines() {
        let say = send.clone();
        let number = |text: &str| text.parse::<u64>().ok().filter(|end| *end <= 200_000);
        if let Some(end) = number(line) {
            let done = move |count: thread::Result<usize>| {
                let count = count.map_or("unknown".to_owned(), |count| count.to_string());
                let _ = say.send((from, format!("{count} primes below {end}, by a worker\n")));
            };
            workers.offload(move || primes(end), done);
        } else if let Some(end) = line.strip_prefix('!').and_then(number) {
            let count = primes(end);
            let _ = say.send((from, format!("{count} primes below {end}, by the loop\n")));
        } else {
            let _ = say.send((from, format!("{line}\n")));
        }
    }
    if gone {
        people.remove(from);
    }
}
