//! Break: a client that says nothing. Everybody behind it waits, for your server and for
//! `examples/echo.rs` with one loop; who gets an answer?

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use kit::Peer;
use waterwheel::Reactor;
use waterwheel::net::{Event, tcp};

#[path = "echo.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod echo;

/// How long the polite client waits. 2 s: long for an answer, short for you.
const WAITS: Duration = Duration::from_secs(2);

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let yours = listener.local_addr()?;
    thread::spawn(move || echo::serve(&listener, None));
    attack("your server", yours);
    attack("one loop   ", a_loop()?);
    Ok(())
}

/// One client is silent, and another one is polite.
fn attack(name: &str, address: SocketAddr) {
    let _silent = Peer::connect("the silent client", address);
    let mut polite = Peer::connect("the polite client", address);
    polite.send("hello");
    let start = Instant::now();
    while polite.has_nothing() && start.elapsed() < WAITS {
        thread::sleep(Duration::from_millis(1));
    }
    match polite.has_nothing() {
        true => println!("{name}: no answer in {} s", WAITS.as_secs()),
        false => println!("{name}: an answer after {} ms", start.elapsed().as_millis()),
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
