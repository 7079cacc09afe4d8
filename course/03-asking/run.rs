//! Your server: `cargo run -p course --example run03`, then `nc 127.0.0.1 7103`, twice, and `top`.

use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use kit::processor_time;

#[path = "ask.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod ask;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:7103")?;
    listener.set_nonblocking(true)?;
    println!("listening on {}; Ctrl-C ends it", listener.local_addr()?);
    let (mut clients, mut rounds, mut busy) = (Vec::new(), 0, 0);
    let (mut second, mut used) = (Instant::now(), processor_time());
    loop {
        ask::accept(&listener, &mut clients)?;
        busy += usize::from(ask::round(&mut clients) > 0);
        rounds += 1;
        if second.elapsed() >= Duration::from_secs(1) {
            let ms = (processor_time() - used).as_millis();
            let people = clients.len();
            println!("clients: {people}; rounds: {rounds}, useful: {busy}; processor: {ms} ms");
            (second, used, rounds, busy) = (Instant::now(), processor_time(), 0, 0);
        }
    }
}
