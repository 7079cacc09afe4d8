//! Break: a counter that threads share without care; clients that are silent, and fill the server;
//! and a thread for each of ten thousand.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kit::{Peer, memory_kib, open_files};
use waterwheel::Reactor;
use waterwheel::net::{Event, tcp};

#[cfg_attr(kept = "01", path = "../01-waiting/echo.rs")]
#[cfg_attr(not(kept = "01"), path = "../01-waiting/solution.rs")]
#[allow(clippy::all, dead_code)]
mod echo;
#[path = "threads.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod threads;

/// The places of your server.
const CLIENTS_MAX: usize = 100;
const MANY: u64 = 10_000;

fn main() -> std::io::Result<()> {
    share();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let yours = listener.local_addr()?;
    let _server = threads::Server::start(listener, CLIENTS_MAX, |mut client| {
        let _ = echo::echo(&mut client);
    });
    let (looped, at_most) = (a_loop()?, (open_files(2 * MANY + 100) - 100) / 2);
    fill("your server, 100 places", yours, CLIENTS_MAX);
    fill("one loop, one thread   ", looped, at_most as usize);
    threads_only(at_most as usize);
    Ok(())
}

/// Four threads add to one number: read it, add one, write it. And then in one step.
fn share() {
    let (careless, careful) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100_000 {
                    let value = careless.load(Ordering::SeqCst);
                    careless.store(value + 1, Ordering::SeqCst);
                    careful.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    println!("4 threads count to 100,000 each. In two steps: {careless:?}; in one: {careful:?}");
}

/// So many silent clients come, and then one who speaks. Each silent one has said a word and has
/// its answer, so it is not in a queue of the kernel any more.
fn fill(name: &str, address: SocketAddr, silent: usize) {
    let before = memory_kib();
    let mut peers = Vec::with_capacity(silent);
    for _ in 0..silent {
        let mut peer = Peer::connect("a silent client", address);
        peer.send("a");
        peer.expect("a");
        peers.push(peer);
    }
    let kib = memory_kib().zip(before).map(|(after, before)| after.saturating_sub(before));
    let mut polite = Peer::connect("the polite client", address);
    let answer = line(polite.stream());
    let answer = answer.unwrap_or_else(|| {
        polite.send("hello");
        polite.expect("hello");
        "hello".to_owned()
    });
    print!("{name}: {silent} silent clients, and one who says hello gets {answer:?}");
    println!("; memory: {} KiB more", kib.unwrap_or(0));
}

/// What the server says before anybody has asked; `None` if it says nothing for 0.2 s.
fn line(stream: &TcpStream) -> Option<String> {
    let mut bytes = [0; 64];
    let patience = stream.read_timeout().ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).ok()?;
    let read = std::io::Read::read(&mut &*stream, &mut bytes);
    stream.set_read_timeout(patience).ok()?;
    Some(String::from_utf8_lossy(&bytes[..read.ok()?]).into_owned())
}

/// What so many threads take that only wait. The system may refuse to give them.
fn threads_only(wanted: usize) {
    let (before, mut threads) = (memory_kib(), Vec::new());
    while threads.len() < wanted {
        let Ok(thread) = thread::Builder::new().spawn(thread::park) else { break };
        threads.push(thread);
    }
    let kib = memory_kib().zip(before).map(|(after, before)| after.saturating_sub(before));
    let got = threads.len();
    println!("{wanted} threads that only wait: got {got}; memory: {} KiB more", kib.unwrap_or(0));
    for thread in threads {
        thread.thread().unpark();
        let _ = thread.join();
    }
}

/// An echo server by waterwheel, on a thread of its own.
fn a_loop() -> std::io::Result<SocketAddr> {
    let (send, receive) = std::sync::mpsc::channel();
    thread::spawn(move || -> std::io::Result<()> {
        let mut reactor = Reactor::<()>::new()?;
        let listener = tcp::listen(&mut reactor, "127.0.0.1:0", |reactor, _, incoming| {
            incoming.open(reactor, |reactor, _, conn, event| {
                if let Event::Data(bytes) = event {
                    let _ = conn.write(reactor, bytes);
                }
            });
        })?;
        let _ = send.send(reactor[listener].local_addr());
        reactor.run(&mut ())
    });
    receive.recv().map_err(std::io::Error::other)
}
