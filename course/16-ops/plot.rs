//! Was it worth it? Threads (chapter 2), rill (chapters 3 and 5) and waterwheel serve the same echo, each
//! in a process of its own: `cargo run --release -p course --example plot16`. Linux only.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use kit::{Epoll, Interest, Trigger};
use waterwheel::Reactor;
use waterwheel::net::{Event, tcp};

#[cfg_attr(kept = "03", path = "../03-asking/ask.rs")]
#[cfg_attr(not(kept = "03"), path = "../03-asking/solution.rs")]
#[allow(clippy::all, dead_code)]
mod ask;
#[cfg_attr(kept = "05", path = "../05-edges/edge.rs")]
#[cfg_attr(not(kept = "05"), path = "../05-edges/solution.rs")]
#[allow(clippy::all, dead_code)]
mod edge;
#[cfg_attr(kept = "02", path = "../02-threads/threads.rs")]
#[cfg_attr(not(kept = "02"), path = "../02-threads/solution.rs")]
#[allow(clippy::all, dead_code)]
mod threads;

const SERVERS: [&str; 3] = ["threads", "rill", "waterwheel"];
const CROWDS: [usize; 3] = [10, 100, 1000];
/// How long each is measured.
const TIME: Duration = Duration::from_secs(1);
/// A tick of the kernel's account of processor time is 10 ms: `getconf CLK_TCK` says 100.
const TICK_US: f64 = 10_000.0;
const PATIENCE: Duration = Duration::from_secs(10);
/// Columns of the longest bar.
const BAR: f64 = 40.0;

/// What a server has cost with a crowd.
struct Cost {
    crowd: usize,
    server: &'static str,
    kib_a_client: f64,
    us_an_answer: f64,
    answers_a_second: f64,
}

fn main() -> io::Result<()> {
    kit::open_files(2 * CROWDS[2] as u64);
    if let Some(name) = std::env::args().nth(1) {
        return serve(&name);
    }
    if cfg!(debug_assertions) {
        println!("This is not compiled with --release: the numbers mean little.");
    }
    let mut costs = Vec::new();
    for crowd in CROWDS {
        for server in SERVERS {
            costs.push(measure(server, crowd)?);
        }
    }
    draw("memory for a client, KiB", &costs, |cost| cost.kib_a_client);
    draw("processor time of the server for an answer, µs", &costs, |cost| cost.us_an_answer);
    draw("answers a second, all clients together", &costs, |cost| cost.answers_a_second);
    Ok(())
}

fn draw(title: &str, costs: &[Cost], value: fn(&Cost) -> f64) {
    println!("\n{title}");
    let most = costs.iter().map(value).fold(f64::MIN_POSITIVE, f64::max);
    for cost in costs {
        let bar = "█".repeat((BAR * value(cost).max(0.0) / most).round() as usize);
        println!("  {:>5} {:<10} {:>9.1} {bar}", cost.crowd, cost.server, value(cost));
    }
}

/// A crowd of clients that speak one after the other, and then hear one after the other.
fn measure(server: &'static str, crowd: usize) -> io::Result<Cost> {
    let mut child =
        Command::new(std::env::current_exe()?).arg(server).stdout(Stdio::piped()).spawn()?;
    let measured = measure_child(&mut child, server, crowd);
    child.kill()?;
    child.wait()?;
    measured
}

fn measure_child(child: &mut Child, server: &'static str, crowd: usize) -> io::Result<Cost> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse().map_err(io::Error::other)?;
    let before_kib = memory_kib(child.id())?;
    let mut clients = Vec::new();
    for _ in 0..crowd {
        let client = TcpStream::connect_timeout(&address, PATIENCE)?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.set_nodelay(true)?;
        clients.push(client);
    }
    round(&mut clients)?; // All have been served once.
    let kib = memory_kib(child.id())? - before_kib;
    let (begin, before, mut answers) = (Instant::now(), ticks(child.id())?, 0);
    while begin.elapsed() < TIME {
        round(&mut clients)?;
        answers += crowd;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let used_us = (ticks(child.id())? - before) * TICK_US;
    let (kib_a_client, answers) = (kib / crowd as f64, answers as f64);
    let (us_an_answer, answers_a_second) = (used_us / answers, answers / seconds);
    Ok(Cost { crowd, server, kib_a_client, us_an_answer, answers_a_second })
}

fn round(clients: &mut [TcpStream]) -> io::Result<()> {
    let words = b"a line of some length, as in a chat\n";
    for client in &mut *clients {
        client.write_all(words)?;
    }
    let mut answer = vec![0; words.len()];
    clients.iter_mut().try_for_each(|client| client.read_exact(&mut answer))
}

/// See proc_pid_status(5).
fn memory_kib(process: u32) -> io::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.ok_or_else(|| io::Error::other("no VmRSS"))
}

/// Processor time, of the program and of the kernel for it; see proc_pid_stat(5).
fn ticks(process: u32) -> io::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let numbers = fields.skip(11).take(2).map(|field| field.parse::<f64>());
    numbers.sum::<Result<f64, _>>().map_err(io::Error::other)
}

/// The other process: says where it listens, and serves until it is killed.
fn serve(name: &str) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    match name {
        "threads" => {
            println!("{address}");
            let _server = threads::Server::start(listener, 10_000, |mut client| {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = client.read(&mut bytes) {
                    if client.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
            });
            loop {
                thread::park();
            }
        }
        "rill" => rill(listener),
        _ => waterwheel(),
    }
}

fn rill(listener: TcpListener) -> io::Result<()> {
    let both = Interest { readable: true, writable: true };
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?);
    let mut edges = edge::Edges::new(Epoll::new(Trigger::Edge)?);
    edges.kernel.register(&listener, 0, both)?;
    let (mut clients, mut next, mut came) = (BTreeMap::new(), 1, Vec::new());
    loop {
        let heard = edge::turn(&mut edges, &mut clients, 16, None)?;
        if heard.iter().any(|heard| heard.token == 0) {
            ask::accept(&listener, &mut came)?;
            for client in came.drain(..) {
                edges.kernel.register(&client.stream, next, both)?;
                clients.insert(next, client);
                next += 1;
            }
        }
    }
}

fn waterwheel() -> io::Result<()> {
    let mut reactor = Reactor::<()>::new()?;
    let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let listener = tcp::listen(&mut reactor, address, |reactor, _, stream| {
        stream.open(reactor, |reactor, _, conn, event| {
            if let Event::Data(bytes) = event {
                let _ = conn.write(reactor, bytes);
            }
        });
    })?;
    println!("{}", reactor[listener].local_addr());
    reactor.run(&mut ())
}
