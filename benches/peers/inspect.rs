//! What the live page costs: the processor time of an echoed message without it, with it and nobody
//! looking, and with a page that is open. In turn, so that a busy machine is the same for all three.
//!
//! Run:  cargo run --profile measure --features inspect -p waterwheel-peers --example bench-inspect -- ROUNDS
//! See:  nanoseconds of the loop's thread a message, the best round of each, and the ratios.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use waterwheel::inspect::Inspect;
use waterwheel::net::{Event, tcp};
use waterwheel::reactor::Remote;
use waterwheel::{Context, Reactor};

const CONNECTIONS: usize = 16;
const MESSAGES: usize = 20_000;
const MESSAGE: [u8; 64] = [b'x'; 64];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Without,
    Alone,
    Looked,
}

const MODES: [Mode; 3] = [Mode::Without, Mode::Alone, Mode::Looked];

fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let mut best = [f64::MAX; 3];
    // One of them alone, to count its instructions.
    let only = std::env::args().nth(2);
    let wanted = |mode: &Mode| only.as_ref().is_none_or(|only| *only == format!("{mode:?}"));
    for _ in 0..rounds {
        for (mode, best) in MODES.into_iter().zip(&mut best).filter(|(mode, _)| wanted(mode)) {
            *best = best.min(round(mode));
        }
    }
    for (mode, best_of) in MODES.into_iter().zip(best).filter(|(mode, _)| wanted(mode)) {
        println!("{mode:?}: {best_of:.0} ns a message, {:.3} of that without", best_of / best[0]);
    }
}

/// The time of the loop's thread for each message.
fn round(mode: Mode) -> f64 {
    let (started, answer) = mpsc::channel();
    let server = thread::spawn(move || {
        let inspect = (mode != Mode::Without)
            .then(|| Inspect::setup().quiet().open("127.0.0.1:0").expect("a page"));
        let builder = Reactor::<()>::builder();
        let reactor = match &inspect {
            Some(inspect) => inspect.watch(builder),
            None => builder.build(),
        };
        let mut reactor = reactor.expect("a loop");
        let address = echo(&mut reactor);
        let url = inspect.as_ref().map(Inspect::url);
        started.send((address, url, reactor.remote())).expect("it is awaited");
        // Until the clients and the page are there.
        while reactor.sources() <= CONNECTIONS {
            reactor.turn(&mut (), Some(Duration::from_millis(10))).expect("a poll");
        }
        let before = cpu();
        reactor.run(&mut ()).expect("a poll");
        (cpu() - before).as_nanos() as f64 / MESSAGES as f64
    });
    let (address, url, remote) = answer.recv().expect("the server has started");
    let page = url.filter(|_| mode == Mode::Looked).map(|url| look(&url));
    talk(address, &remote);
    let nanos = server.join().expect("the server");
    page.map(|page| page.join());
    nanos
}

fn echo(reactor: &mut Context<()>) -> SocketAddr {
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, (), stream| {
        stream.open(reactor, |reactor, (), conn, event| {
            if let Event::Data(bytes) = event {
                let _ = conn.write(reactor, bytes);
            }
        });
    });
    listener.and_then(|listener| listener.local_addr(reactor)).expect("a port")
}

fn talk(address: SocketAddr, remote: &Remote<()>) {
    let connect = |_| TcpStream::connect(address).expect("it listens");
    let mut clients: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
    for message in 0..MESSAGES {
        let client = &mut clients[message % CONNECTIONS];
        client.write_all(&MESSAGE).expect("it is open");
        client.read_exact(&mut MESSAGE.clone()).expect("an echo");
    }
    remote.stop().expect("it runs");
}

/// A page that reads all it is sent.
fn look(url: &str) -> thread::JoinHandle<u64> {
    let mut parts = url.split('/').skip(2);
    let (host, token) = (parts.next().expect("a host"), parts.next().expect("a token"));
    let mut page = TcpStream::connect(host).expect("it listens");
    write!(page, "GET /{token}/events HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("it is open");
    let mut some = [0; 64 * 1024];
    page.read_exact(&mut some[..200]).expect("the begin of a stream");
    thread::spawn(move || {
        let mut bytes = 0;
        while let Ok(count @ 1..) = page.read(&mut some) {
            bytes += count as u64;
        }
        bytes
    })
}

/// The processor time of this thread so far; Linux keeps it in a file (proc_pid_schedstat(5)).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds"))
}
