//! Break: a client that takes nothing, and a thousand that say nothing. What does your server do
//! meanwhile, and what does an event loop do?

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kit::socket2::SockRef;
use kit::{Peer, processor_time};
use waterwheel::Reactor;
use waterwheel::net::{Event, Pressure, tcp};

#[path = "ask.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod ask;

/// What all clients of your server are owed.
static OWED: AtomicUsize = AtomicUsize::new(0);
static ROUNDS: AtomicUsize = AtomicUsize::new(0);

fn main() -> io::Result<()> {
    kit::open_files(2200);
    attack("one loop   ", a_loop()?)?;
    let yours = your_server()?;
    attack("your server", yours)?;
    let owed = OWED.load(Ordering::SeqCst);
    println!("your server owes {owed} bytes, after {} rounds", ROUNDS.load(Ordering::SeqCst));
    Ok(())
}

fn attack(name: &str, address: SocketAddr) -> io::Result<()> {
    // One sends 8 MiB, as much as is taken of them, and reads nothing. Its own buffers are small.
    let full = Peer::connect("the one who does not read", address);
    full.stream().set_nonblocking(true)?;
    SockRef::from(full.stream()).set_send_buffer_size(65_536)?;
    SockRef::from(full.stream()).set_recv_buffer_size(65_536)?;
    let (mut sent, mut start, piece) = (0, Instant::now(), [7; 65_536]);
    while sent < 8 << 20 && start.elapsed() < Duration::from_millis(300) {
        match full.stream().write(&piece) {
            Ok(count) => (sent, start) = (sent + count, Instant::now()),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    println!("{name}: with the kernel, took {sent} bytes of 8 MiB from who does not read");
    // A thousand say nothing.
    let silent: Vec<_> = (0..1000).map(|_| Peer::connect("a silent client", address)).collect();
    let mut polite = Peer::connect("the polite client", address);
    let start = Instant::now();
    for _ in 0..100 {
        polite.send("hello");
        polite.expect("hello");
    }
    let each = start.elapsed().as_micros() / 100;
    println!("{name}: {each} µs for an answer beside {} who are silent", silent.len());
    let used = processor_time();
    thread::sleep(Duration::from_secs(1));
    let ms = (processor_time() - used).as_millis();
    println!("{name}: {ms} ms of a processor in a second in which nothing happens");
    Ok(())
}

fn your_server() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    thread::spawn(move || -> io::Result<()> {
        let mut clients = Vec::new();
        loop {
            ask::accept(&listener, &mut clients)?;
            ask::round(&mut clients);
            ROUNDS.fetch_add(1, Ordering::SeqCst);
            OWED.store(clients.iter().map(|client| client.owed.len()).sum(), Ordering::SeqCst);
        }
    });
    Ok(address)
}

/// An echo server by waterwheel, on a thread of its own.
fn a_loop() -> io::Result<SocketAddr> {
    let (send, receive) = std::sync::mpsc::channel();
    thread::spawn(move || -> io::Result<()> {
        let mut reactor = Reactor::<()>::new()?;
        let listener = tcp::listen(&mut reactor, "127.0.0.1:0", |reactor, _, incoming| {
            incoming.open(reactor, |reactor, _, conn, event| match event {
                Event::Data(bytes) => {
                    let full = conn.write(reactor, bytes) == Pressure::AboveHigh;
                    let _ = full && conn.pause(reactor);
                }
                Event::Drained => {
                    conn.resume(reactor);
                }
                _ => {}
            });
        })?;
        let _ = send.send(reactor[listener].local_addr());
        reactor.run(&mut ())
    });
    receive.recv().map_err(io::Error::other)
}
