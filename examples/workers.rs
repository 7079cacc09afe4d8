//! Workers: a slow hash beside a live echo, in the loop's thread and out of it.
//!
//! Run:  cargo run --release --example workers -- --hashes 50
//! Then: nc 127.0.0.1 7001        and type, first while it hashes inline, then while it does not
//! See:  how long a line takes to come back, the median and the worst. A client in a thread of its
//!       own measures it, a line every 5 ms.
//! Look: `log_in`: the same work, once in the callback and once in a job.
//! Next: `--rounds 50000000`; ten logins at a time, and 1, 2 and 4 workers; let a client that goes
//!       away take its job along (`cancel_job`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::net::{Event, tcp};
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor};

mod cli;

const USAGE: &str = "\
Usage: workers [OPTIONS] [ADDR]

Echoes lines, and hashes passwords at the same time: at first in the loop's own
thread, then on a worker. ADDR is 127.0.0.1:7001 unless given; a bare port means
127.0.0.1. A client that has vanished is closed: TCP's keep-alive asks every 15 s.
All clients together may have 16 MiB buffered; then the slowest reader is closed.

Options:
  --hashes N    hash so many passwords each way (default: 20)
  --rounds N    make each so slow (default: 5000000)
  -h, --help    show this";

/// The time from one login to the next. A hash of the default takes about half of it.
const LOGIN_EVERY: Duration = Duration::from_millis(150);
const LINE_EVERY: Duration = Duration::from_millis(5);

/// The most hashes: they take almost two days, each way.
const HASHES_MAX: u64 = 1_000_000;

struct Server {
    inline: bool,
    rounds: u64,
    /// Hashes to begin.
    to_begin: u64,
    /// Hashes to end, and the client that measures.
    to_end: u64,
    error: Option<String>,
}

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:7001", &["--hashes", "--rounds"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    let hashes = args.number("--hashes").unwrap_or(20).max(1);
    if hashes > HASHES_MAX {
        cli::bad_usage(format_args!("--hashes wants {HASHES_MAX} at most"));
    }
    let rounds = args.number("--rounds").unwrap_or(5_000_000);
    let text = |error: std::io::Error| error.to_string();
    let mut reactor = Reactor::builder().workers(1).build().map_err(text)?;
    let listener = tcp::Listen::new()
        .limits(cli::limits())
        .keepalive(Some(cli::KEEPALIVE))
        .open(&mut reactor, &args.addr, |reactor, _, incoming| {
            incoming.open(reactor, |reactor: &mut Context<Server>, _, conn, event| {
                if let Event::Data(bytes) = event {
                    let _ = conn.write(reactor, bytes); // full only if a client leaves 4 MiB unread
                }
            });
        })
        .map_err(cli::cannot("listen on"))?;
    let ending = cli::end_on_signals(&mut reactor, cli::GRACE)?;
    let addr = reactor[listener].local_addr();
    cli::print(format_args!("listening on {addr}"));
    for inline in [true, false] {
        let mut server =
            Server { inline, rounds, to_begin: hashes, to_end: hashes + 1, error: None };
        let logins = reactor.every(LOGIN_EVERY, Missed::Skip, |reactor, server: &mut Server, _| {
            if server.to_begin > 0 {
                server.to_begin -= 1;
                log_in(reactor, server);
            }
        });
        let stream = TcpStream::connect(addr).map_err(text)?;
        let lines = hashes as u32 * (LOGIN_EVERY.as_millis() / LINE_EVERY.as_millis()) as u32;
        let remote = reactor.remote();
        let client = thread::spawn(move || {
            let took = latencies(stream, lines);
            let _ = remote.post(one_less);
            took
        });
        cli::run(&mut reactor, &mut server)?; // until the last hash and the client have ended
        reactor.cancel(logins);
        server.error.map_or(Ok(()), Err)?;
        if ending.has_begun() {
            break;
        }
        report(inline, client.join().map_err(|_| "the client panicked")?);
    }
    Ok(())
}

/// A password is hashed. Inline, all clients wait for it; as a job, only the one who logs in.
fn log_in(reactor: &mut Context<Server>, server: &mut Server) {
    let rounds = server.rounds;
    if server.inline {
        let _key = slow_hash("secret", rounds);
        one_less(reactor, server);
    } else {
        reactor.offload(
            move || slow_hash("secret", rounds),
            |reactor, server, key| match key {
                Ok(_key) => one_less(reactor, server),
                Err(error) => {
                    server.error = Some(error.to_string());
                    reactor.stop();
                }
            },
        );
    }
}

fn one_less(reactor: &mut Context<Server>, server: &mut Server) {
    server.to_end -= 1;
    if server.to_end == 0 {
        reactor.stop();
    }
}

/// Slow on purpose, as a password's hash must be. (A real one is argon2 or scrypt.)
fn slow_hash(password: &str, rounds: u64) -> u64 {
    (0..rounds).fold(0, |key, _| {
        let mut hasher = DefaultHasher::new();
        (key, password).hash(&mut hasher);
        hasher.finish()
    })
}

/// How long each line took to come back, counted from when it was due and not from when it was
/// sent: a line that waits behind another one waits, too.
fn latencies(mut stream: TcpStream, lines: u32) -> Vec<Duration> {
    let (begin, mut took) = (Instant::now(), Vec::new());
    for due in (0..lines).map(|line| begin + line * LINE_EVERY) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut line = *b"line\n";
        if stream.write_all(&line).and_then(|()| stream.read_exact(&mut line)).is_err() {
            break;
        }
        took.push(due.elapsed());
    }
    took
}

fn report(inline: bool, mut took: Vec<Duration>) {
    took.sort();
    let ms = |at: usize| took.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0);
    let (median, worst) = (ms(took.len() / 2), ms(took.len().saturating_sub(1)));
    let how = if inline { "inline:   " } else { "offloaded:" };
    cli::print(format_args!("{how} median {median:7.2} ms, worst {worst:7.2} ms"));
}
