//! Timers as promises: `cargo run -p course --example run13`, then `nc 127.0.0.1 7113`.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kit::mio::net::{TcpListener, TcpStream};
use kit::{Interest, Kernel, Loop, Mio};

#[path = "promise.rs"]
#[allow(clippy::all, dead_code, unused)]
#[rustfmt::skip]
mod promise;
#[cfg_attr(kept = "06", path = "../06-ids/registry.rs")]
#[cfg_attr(not(kept = "06"), path = "../06-ids/solution.rs")]
#[allow(clippy::all, dead_code)]
mod registry;

use promise::{Promise, promise};
use registry::{Id, Registry};

const LISTENER: usize = usize::MAX;
const READABLE: Interest = Interest { readable: true, writable: false };
const USAGE: &str = "type `all 500 2000`, `race 500 2000` (milliseconds), or `stop`\n";

/// What is to be said to whom.
type Answers = Rc<RefCell<Vec<(Id, String)>>>;

/// A client, and the promises that it waits for.
struct Client {
    stream: TcpStream,
    waits: Vec<Promise<()>>,
}

fn token(id: Id) -> usize {
    (id.generation as usize) << 32 | id.index as usize
}

fn id(token: usize) -> Id {
    Id { index: token as u32, generation: (token >> 32) as u32 }
}

fn main() -> io::Result<()> {
    let (mut kernel, start, on) = (Mio::new()?, Instant::now(), Loop::new());
    let address: SocketAddr = "127.0.0.1:7113".parse().expect("an address");
    let mut listener = TcpListener::bind(address)?;
    kernel.register(&mut listener, LISTENER, READABLE)?;
    println!("listening on {address}; Ctrl-C ends it");
    let (mut clients, answers) = (Registry::<Client>::new(), Answers::default());
    loop {
        let now = start.elapsed();
        let left = |at| Duration::from_millis(at).saturating_sub(now);
        let mut ready = Vec::new();
        kernel.poll(on.next_deadline().map(left), &mut ready)?;
        on.run_to(start.elapsed().as_millis() as u64);
        for heard in ready {
            if heard.token != LISTENER {
                read(&mut clients, id(heard.token), &on, &answers);
                continue;
            }
            while let Ok((stream, _)) = listener.accept() {
                let id = clients.insert(Client { stream, waits: Vec::new() });
                let client = clients.get(id).expect("it was inserted just now");
                kernel.register(&mut client.stream, token(id), READABLE)?;
                answers.borrow_mut().push((id, USAGE.to_owned()));
            }
        }
        while on.step() {}
        for (id, answer) in answers.take() {
            if let Some(client) = clients.get(id) {
                let _ = client.stream.write(answer.as_bytes()); // A short line: there is room.
            }
        }
        println!("timers: {}", on.timers());
    }
}

/// A promise of its own delay. A cancel takes its timer back.
fn delay(on: &Loop, delay_ms: u64) -> Promise<u64> {
    let (promise, resolver) = promise(on);
    let timer = on.after(delay_ms, move || resolver.settle(Ok(delay_ms)));
    let on = on.clone();
    promise.on_cancel(move || {
        on.cancel(timer);
    })
}

fn read(clients: &mut Registry<Client>, from: Id, on: &Loop, answers: &Answers) {
    let Some(client) = clients.get(from) else { return };
    let (mut text, mut bytes) = (Vec::new(), [0; 1024]);
    let gone = loop {
        match client.stream.read(&mut bytes) {
            Ok(0) => break true,
            Ok(count) => text.extend_from_slice(&bytes[..count]),
            Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
        }
    };
    for line in String::from_utf8_lossy(&text).lines() {
        let answers = answers.clone();
        let say = move |text: String| answers.borrow_mut().push((from, text));
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let delays = rest.split_whitespace().filter_map(|word| word.parse().ok());
        let delays: Vec<_> = delays.map(|delay_ms| delay(on, delay_ms)).collect();
        match what {
            "all" => client.waits.push(promise::all(on, delays).then(move |all| {
                say(format!("all of them: {all:?}\n"));
                Ok(())
            })),
            "race" => client.waits.push(promise::race(on, delays).then(move |first| {
                say(format!("the first one: {first}\n"));
                Ok(())
            })),
            "stop" => client.waits.drain(..).for_each(Promise::cancel),
            _ => say(USAGE.to_owned()),
        }
    }
    if gone {
        client.waits.drain(..).for_each(Promise::cancel);
        clients.remove(from);
    }
}
