//! Predict: a client says nothing for a second. How often is it asked?

use std::net::TcpListener;
use std::time::{Duration, Instant};
use std::{io, thread};

use kit::{Peer, processor_time};

#[path = "solution.rs"]
#[allow(dead_code)]
#[rustfmt::skip]
mod ask;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let mut ann = Peer::connect("Ann", listener.local_addr()?);
    let ann = thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        ann.send("hello");
        ann.expect("hello");
    });
    let (mut clients, mut rounds) = (Vec::new(), 0);
    let (start, used) = (Instant::now(), processor_time());
    ask::accept(&listener, &mut clients)?;
    while ask::round(&mut clients) == 0 {
        rounds += 1;
    }
    ann.join().expect("Ann has her answer");
    println!("{rounds} times the answer was: nothing yet");
    let (used, took) = (processor_time() - used, start.elapsed());
    println!("{} ms of a processor in {} ms", used.as_millis(), took.as_millis());
    println!("answer: {}", ['a', 'b', 'c'][(rounds > 2) as usize + (rounds > 5000) as usize]);
    Ok(())
}
