//! An alarm clock: `cargo run -p course --example run08`, then `nc 127.0.0.1 7108`, and `5 tea`.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kit::mio::net::{TcpListener, TcpStream};
use kit::{Interest, Kernel, Mio};

#[path = "heap.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod heap;
#[cfg_attr(kept = "06", path = "../06-ids/registry.rs")]
#[cfg_attr(not(kept = "06"), path = "../06-ids/solution.rs")]
#[allow(clippy::all, dead_code)]
mod registry;

use heap::Timers;
use registry::{Id, Registry};

const LISTENER: usize = usize::MAX;
const READABLE: Interest = Interest { readable: true, writable: false };
/// The longest wait: the kernel counts milliseconds in 32 bits, and a longer one would wrap round.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A client, and the alarms that it has asked for.
struct Client {
    stream: TcpStream,
    alarms: Vec<heap::Id>,
}

fn token(id: Id) -> usize {
    (id.generation as usize) << 32 | id.index as usize
}

fn id(token: usize) -> Id {
    Id { index: token as u32, generation: (token >> 32) as u32 }
}

fn main() -> io::Result<()> {
    let (mut kernel, start) = (Mio::new()?, Instant::now());
    let address: SocketAddr = "127.0.0.1:7108".parse().expect("an address");
    let mut listener = TcpListener::bind(address)?;
    kernel.register(&mut listener, LISTENER, READABLE)?;
    println!("listening on {address}; Ctrl-C ends it");
    let (mut clients, mut timers) = (Registry::<Client>::new(), Timers::<(Id, String)>::new());
    loop {
        let now = start.elapsed();
        let timeout = timers
            .next_deadline()
            .map(|at| Duration::from_millis(at).saturating_sub(now).min(WAIT_MAX));
        match timeout {
            Some(timeout) => println!("sleeps {timeout:?} at most"),
            None => println!("sleeps until a client comes"),
        }
        let mut ready = Vec::new();
        kernel.poll(timeout, &mut ready)?;
        let now = start.elapsed();
        for heard in ready {
            if heard.token != LISTENER {
                read(&mut clients, &mut timers, id(heard.token), now);
                continue;
            }
            while let Ok((stream, _)) = listener.accept() {
                let id = clients.insert(Client { stream, alarms: Vec::new() });
                let client = clients.get(id).expect("it was inserted just now");
                kernel.register(&mut client.stream, token(id), READABLE)?;
            }
        }
        for (id, what) in timers.expire(heap::tick(now)) {
            if let Some(client) = clients.get(id) {
                let _ = client.stream.write(format!("{what}\n").as_bytes());
            }
        }
    }
}

/// `5 tea` asks for an alarm in five seconds; `stop` cancels all alarms of this client.
fn read(
    clients: &mut Registry<Client>,
    timers: &mut Timers<(Id, String)>,
    from: Id,
    now: Duration,
) {
    let Some(client) = clients.get(from) else { return };
    let (mut text, mut bytes, mut gone) = (Vec::new(), [0; 1024], false);
    loop {
        match client.stream.read(&mut bytes) {
            Ok(count @ 1..) => text.extend_from_slice(&bytes[..count]),
            Ok(_) => gone = true,
            Err(error) => gone = error.kind() != io::ErrorKind::WouldBlock,
        }
        if !matches!(client.stream.peek(&mut [0]), Ok(1..)) {
            break;
        }
    }
    for line in String::from_utf8_lossy(&text).lines() {
        let asked =
            line.split_once(' ').and_then(|(number, what)| Some((number.parse().ok()?, what)));
        match asked {
            Some((seconds, what)) => {
                let at = heap::deadline(now, Duration::from_secs(seconds));
                client.alarms.push(timers.arm(at, (from, what.to_owned())));
            }
            None if line == "stop" => {
                let count =
                    client.alarms.drain(..).filter_map(|alarm| timers.cancel(alarm)).count();
                let _ = client.stream.write(format!("cancelled: {count}\n").as_bytes());
            }
            None => drop(client.stream.write(b"type `5 tea`, or `stop`\n")),
        }
    }
    if gone {
        client.alarms.drain(..).for_each(|alarm| drop(timers.cancel(alarm)));
        clients.remove(from);
    }
}
