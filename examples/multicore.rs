//! Multicore: a reactor for each core, on one port, and lines that reach everybody.
//!
//! Run:  cargo run --release --example multicore
//! Then: nc 127.0.0.1 7001        in several terminals, and type; Ctrl-D at the server ends it
//! See:  which core serves which client: the kernel decides, by a hash of addresses and ports. What
//!       one client types reaches those of every core. The kernel shares the port with a second
//!       server of yours, too: it starts, without an error, and takes its share of the clients.
//! Look: `hear`. No core touches the state of another: it posts a callback to it.
//! Next: a `/who` that asks every core and waits for all the answers; pin each thread to its core
//!       (sched_setaffinity(2)) and count lines per second; measure `SO_INCOMING_CPU`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use waterwheel::net::{self, BufferBudget, Conn, Framed, Limits, Lines, framed, tcp};
use waterwheel::reactor::Remote;
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: multicore [OPTIONS] [ADDR]

A chat on all cores. ADDR is 127.0.0.1:7001 unless given; a bare port means
127.0.0.1. Ends when its input does. A client that has vanished is closed: TCP's
keep-alive asks every 15 s. All clients together may have 16 MiB buffered; then
the slowest reader is closed.

Options:
  --cores N          threads, each with a reactor (default: as many as cores)
  --connections N    end when so many connections have come and gone
  -h, --help         show this";

/// Lines that may wait for a core, a kilobyte each at most. A core with so many misses lines.
const POSTS_MAX: usize = 8192;
/// Each is a thread, and says its lines to every other.
const CORES_MAX: u64 = 1024;

/// The state of each core's reactor; nobody else sees it.
struct Core {
    number: usize,
    conns: Vec<SourceId<Conn>>,
    /// All cores, by number.
    all: Vec<Remote<Core>>,
    console: Remote<Console>,
}

/// The state of the main thread's: it knows the cores, and prints what they report.
#[derive(Default)]
struct Console {
    cores: Vec<Remote<Core>>,
    /// Connections to come and go before the end.
    left: Option<u64>,
}

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:7001", &["--cores", "--connections"]);
    cli::exit_on_error(run(args));
}

fn run(args: cli::Args) -> Result<(), String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cores = match args.number("--cores") {
        Some(given) if given > CORES_MAX => {
            cli::bad_usage(format_args!("--cores wants {CORES_MAX} at most"))
        }
        given => given.map_or(cores, |given| given.max(1) as usize),
    };
    let mut console = Console { left: args.number("--connections"), ..Console::default() };
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let (mut addr, mut threads) = (args.addr, Vec::new());
    for number in 0..cores {
        let (ready, started) = channel();
        let (wanted, remote) = (addr.clone(), reactor.remote());
        // A budget belongs to one loop: each loop has its share of the program's.
        let bytes_max = cli::BUFFERED_BYTES_MAX / cores;
        threads.push(thread::spawn(move || serve(number, &wanted, bytes_max, remote, &ready)));
        let Ok((bound, core)) = started.recv() else { break }; // its thread knows the reason
        addr = bound.to_string(); // for port 0, the first core knows the port that was chosen
        console.cores.push(core);
    }
    if console.cores.len() < cores {
        return threads.pop().map_or(Ok(()), join);
    }
    console.introduce();
    cli::on_signals(&mut reactor, |_, console, signal| console.drain(signal))?;
    cli::say(format_args!("listening on {addr}"));
    let remote = reactor.remote().unref();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink()); // An error is an end, too.
        let _ = remote.post(|_, console| console.end());
    });
    cli::run(&mut reactor, &mut console)?; // until the last core has gone
    threads.into_iter().try_for_each(join)
}

fn join(core: JoinHandle<Result<(), String>>) -> Result<(), String> {
    core.join().map_err(|_| "a core panicked")?
}

impl Console {
    /// Gives all handles to each core. These handles hold no loop: the listeners and clients do.
    fn introduce(&self) {
        for core in &self.cores {
            let all = self.cores.iter().map(Remote::unref).collect();
            let _ = core.post(move |_, core| core.all = all);
        }
    }

    fn closed(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
        if self.left == Some(0) {
            self.end();
        }
    }

    /// Lets each core end in order and say so. The loops end when nothing is left in them.
    fn drain(&mut self, signal: &str) {
        let seconds = cli::GRACE.as_secs();
        cli::say(format_args!(
            "{signal}: no new clients, waiting up to {seconds} s; again to end at once"
        ));
        for core in self.cores.drain(..) {
            let _ = core.post(|reactor, _| {
                net::drain(reactor, cli::GRACE, |_, core: &mut Core, report| {
                    cli::say(format_args!("core {}: {report}", core.number));
                });
            });
        }
    }

    fn end(&mut self) {
        for core in self.cores.drain(..) {
            let close = |reactor: &mut Context<Core>, core: &mut Core| {
                for listener in reactor.ids::<tcp::Listener>() {
                    reactor.remove(listener);
                }
                for conn in &core.conns {
                    conn.close(reactor);
                }
            };
            if core.post(close).is_err() {
                let _ = core.stop(); // Its mailbox is full, or it has gone already.
            }
        }
    }
}

/// A core's thread, from its beginning to its end.
fn serve(
    number: usize,
    addr: &str,
    bytes_max: usize,
    console: Remote<Console>,
    ready: &Sender<(SocketAddr, Remote<Core>)>,
) -> Result<(), String> {
    let builder = Reactor::builder().mailbox_posts_max(POSTS_MAX);
    let mut reactor =
        builder.build().map_err(|error| format!("cannot make reactor {number}: {error}"))?;
    let write_timeout = Some(Duration::from_secs(10)); // for clients that do not read
    let buffers = Some(BufferBudget::new(bytes_max));
    let limits = Limits { write_timeout, buffers, ..cli::limits() };
    let listener = tcp::Listen::new()
        .reuse_port(true)
        .keepalive(Some(cli::KEEPALIVE))
        .limits(limits)
        .open(&mut reactor, addr, |reactor, core: &mut Core, incoming| {
            let (number, peer) = (core.number, incoming.peer());
            core.conns.push(incoming.open(reactor, framed(Lines::new(1024), hear)));
            let peer = peer.map_or("?".into(), |peer| peer.to_string());
            let served = format!("core {number} serves {peer}");
            let _ = core.console.post(move |_, _| cli::say(served));
        })
        .map_err(cli::cannot("listen on"))?;
    let _ = ready.send((reactor[listener].local_addr(), reactor.remote()));
    let mut core = Core { number, conns: Vec::new(), all: Vec::new(), console };
    cli::run(&mut reactor, &mut core)
}

/// Every client's handler: a line goes to this core's other clients, and by post to those of the
/// other cores.
fn hear(reactor: &mut Context<Core>, core: &mut Core, conn: SourceId<Conn>, event: Framed<'_>) {
    match event {
        Framed::Frame(line) => {
            let line = format!("core {}: {}\n", core.number, String::from_utf8_lossy(line));
            let line: Arc<str> = line.into();
            core.tell(reactor, Some(conn), &line);
            for other in core.all.iter().enumerate().filter(|(at, _)| *at != core.number) {
                let line = line.clone();
                let _ = other.1.post(move |reactor, core| core.tell(reactor, None, &line));
            }
        }
        Framed::Closed(_) => {
            core.conns.retain(|open| *open != conn);
            let _ = core.console.post(|_, console| console.closed());
        }
        _ => {}
    }
}

impl Core {
    /// A client whose outbox is full misses the line.
    fn tell(&self, reactor: &mut Context<Core>, but: Option<SourceId<Conn>>, line: &str) {
        for conn in self.conns.iter().filter(|conn| but != Some(**conn)) {
            let _ = conn.write(reactor, line.as_bytes());
        }
    }
}
