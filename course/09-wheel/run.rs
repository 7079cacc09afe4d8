//! An alarm clock on your wheel: `cargo run -p course --example run09`, then `nc 127.0.0.1 7109`.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kit::mio::net::{TcpListener, TcpStream};
use kit::{Interest, Kernel, Mio};

#[cfg_attr(kept = "08", path = "../08-heap/heap.rs")]
#[cfg_attr(not(kept = "08"), path = "../08-heap/solution.rs")]
#[allow(clippy::all, dead_code)]
mod heap;
#[cfg_attr(kept = "06", path = "../06-ids/registry.rs")]
#[cfg_attr(not(kept = "06"), path = "../06-ids/solution.rs")]
#[allow(clippy::all, dead_code)]
mod registry;
#[path = "wheel.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod wheel;

use registry::{Id, Registry};
use wheel::Wheel;

const LISTENER: usize = usize::MAX;
const READABLE: Interest = Interest { readable: true, writable: false };
/// The longest wait: the kernel counts milliseconds in 32 bits, and a longer one would wrap round.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

fn token(id: Id) -> usize {
    (id.generation as usize) << 32 | id.index as usize
}

fn id(token: usize) -> Id {
    Id { index: token as u32, generation: (token >> 32) as u32 }
}

fn main() -> io::Result<()> {
    let (mut kernel, start) = (Mio::new()?, Instant::now());
    let address: SocketAddr = "127.0.0.1:7109".parse().expect("an address");
    let mut listener = TcpListener::bind(address)?;
    kernel.register(&mut listener, LISTENER, READABLE)?;
    println!("listening on {address}; Ctrl-C ends it");
    let (mut clients, mut wheel) = (Registry::<TcpStream>::new(), Wheel::<(Id, String)>::new());
    loop {
        let timeout = wheel.next_wake().map(|tick| {
            println!("the next wake is at {tick}");
            Duration::from_millis(tick).saturating_sub(start.elapsed()).min(WAIT_MAX)
        });
        let mut ready = Vec::new();
        kernel.poll(timeout, &mut ready)?;
        let now = start.elapsed();
        let (hand, expired) = (heap::tick(now), wheel.expire(heap::tick(now)));
        println!("hand {hand}: {} expired; timers on {}", expired.len(), levels(&wheel));
        for (id, what) in expired {
            if let Some(client) = clients.get(id) {
                let _ = client.write(format!("{what}\n").as_bytes());
            }
        }
        for heard in ready {
            if heard.token != LISTENER {
                read(&mut clients, &mut wheel, id(heard.token), now);
                continue;
            }
            while let Ok((stream, _)) = listener.accept() {
                let id = clients.insert(stream);
                let stream = clients.get(id).expect("it was inserted just now");
                kernel.register(stream, token(id), READABLE)?;
            }
        }
    }
}

/// The levels that have timers.
fn levels(wheel: &Wheel<(Id, String)>) -> String {
    let levels = (0..wheel.occupied.len()).filter(|level| wheel.occupied[*level] != 0);
    let names: Vec<String> = levels.map(|level| format!("level {level}")).collect();
    if names.is_empty() { "no level".to_owned() } else { names.join(", ") }
}

/// `5 tea` asks for an alarm in five seconds.
fn read(
    clients: &mut Registry<TcpStream>,
    wheel: &mut Wheel<(Id, String)>,
    from: Id,
    now: Duration,
) {
    let Some(client) = clients.get(from) else { return };
    let (mut text, mut bytes) = (Vec::new(), [0; 1024]);
    let gone = loop {
        match client.read(&mut bytes) {
            Ok(count @ 1..) => text.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
            _ => break true,
        }
    };
    for line in String::from_utf8_lossy(&text).lines() {
        let asked = line.split_once(' ');
        let asked = asked.and_then(|(seconds, what)| Some((seconds.parse::<u64>().ok()?, what)));
        let answer = match asked {
            Some((seconds, what)) => {
                let hand = heap::tick(now);
                let tick = heap::deadline(now, Duration::from_secs(seconds));
                let (level, slot) = wheel::place(hand, tick);
                wheel.arm(tick, (from, what.to_owned()));
                format!("hand {hand}, deadline {tick}: level {level}, slot {slot}\n")
            }
            None => "type `5 tea`\n".to_owned(),
        };
        let _ = client.write(answer.as_bytes());
    }
    if gone {
        clients.remove(from); // Its alarms find nobody.
    }
}
