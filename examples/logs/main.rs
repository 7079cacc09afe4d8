//! Logs: collects the messages of syslog, and loses none that it has acknowledged.
//!
//! Run:  cargo run --release --features tls --example logs -- --output all.log --match panic
//! Then: logger -n 127.0.0.1 -P 5514 --tcp hello          and --udp, --octet-count, --rfc3164
//!       and a second one that passes a file on, whatever happens to either:
//!       cargo run --release --features tls --example logs -- --forward 127.0.0.1:5514 \
//!         --spool spool --tail /var/log/dpkg.log 5515
//! See:  all.log. Kill either by `kill -9` while lines flow, and start it again: each is there, once.
//! Look: `Server::release`. A slow disk fills a batch, a full batch pauses the senders, and when the
//!       batch is safe they go on: no queue without a bound, from the disk back to the program that logs.
//! Next: TLS to the next collector; a file a day (`reactor.wall`); a page with the counts (`metrics`).

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waterwheel::net::{drain, tcp, udp};
use waterwheel::protocols::tls;
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor, SourceId};

#[path = "../cli/mod.rs"]
mod cli;
#[path = "../journal/follow.rs"]
mod follow;
#[path = "../journal/mod.rs"]
mod journal;
mod keep;
#[path = "../journal/lines.rs"]
mod lines;
mod next;
mod protocol;
mod server;
mod spool;

use follow::Follow;
use journal::Journal;
use lines::Lines;
use server::{Server, To};
use spool::{Seen, Spool};

const USAGE: &str = "\
Usage: logs [OPTIONS] [ADDR]

Collects messages of syslog (RFC 3164, RFC 5424, any lines) over TCP and UDP; ADDR is
127.0.0.1:5514 unless given, a bare port means 127.0.0.1. A message has 8 KiB; what
is longer is cut into several. One with an id ([ww@32473 id=\"…\"]) is answered by a line
'ack ID' when it is on the disk, and is taken once, if it is among the last 1,024 of
its sender. Without --spool, what waits for --forward is in memory, and positions in
files are not kept. All clients together may have 16 MiB buffered; then the slowest
reader is closed. One that vanished leaves: TCP's keep-alive asks every 15 s.

Options:
  --output FILE     append the messages there (default: stdout)
  --forward ADDR    send them to another logs instead, until it has acknowledged them
  --spool FILE      keep there what is not acknowledged, and positions in files
  --spool-bytes N   pause senders, and drop datagrams, above it (default: 67108864)
  --tail FILE       follow a file, through its rotation; again for more files
  --match TEXT      say a line on stderr when a message has it; again for more texts
  --tls CERT KEY    speak TLS over TCP, by these files in PEM
  -h, --help        show this";

/// 64 MiB.
const SPOOL_BYTES: u64 = 64 * 1024 * 1024;
/// How long the next collector may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often something is said of what was odd, at most.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Ports that are tried until one is free for both, if the system chooses.
const PORTS_TRIED: usize = 20;

const OPTIONS: [&str; 7] =
    ["--output", "--forward", "--spool", "--spool-bytes", "--tail", "--match", "--tls CERT KEY"];

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:5514", &OPTIONS);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    if args.text("--forward").is_some() && args.text("--output").is_some() {
        cli::bad_usage("--output and --forward exclude each other");
    }
    if args.all("--match").any(str::is_empty) {
        cli::bad_usage("--match wants a text");
    }
    let tls = match *args.all("--tls").map(read).collect::<Vec<_>>() {
        [ref cert, ref key, ..] => {
            Some(tls::Server::new(cert, key).unwrap_or_else(|error| cli::bad_usage(error)))
        }
        _ => None,
    };
    cli::raise_open_files();
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let (mut seen, mut positions) = (Seen::default(), HashMap::new());
    let mut spool = Spool { name: RandomState::new().hash_one(0), ..Spool::default() };
    let journal = match args.text("--spool") {
        None => None,
        Some(path) => {
            let replay =
                |record: &[u8]| keep::replay((&mut spool, &mut seen, &mut positions), record);
            let opened = Journal::open(Path::new(path), Duration::ZERO, replay);
            let (journal, note) = opened.map_err(|error| format!("cannot open {path}: {error}"))?;
            note.iter().for_each(|note| cli::warn(format_args!("{path}: {note}")));
            Some(journal)
        }
    };
    let to = match args.text("--forward") {
        Some(addr) => To::Next(next_at(addr.to_owned())),
        None => To::Disk(disk(args.text("--output"), &mut seen)?),
    };
    let mut server = Server::new(to, spool, journal, |line| cli::warn(line));
    server.seen = seen;
    server.spool_bytes = args.number("--spool-bytes").unwrap_or(SPOOL_BYTES) as usize;
    server.matches = args.all("--match").map(str::to_owned).collect();
    let tails = args
        .all("--tail")
        .map(|path| Follow::new(path.into(), positions.get(path).copied().unwrap_or_default()));
    server.start(&mut reactor, tails.collect());
    let (addr, socket) = listen(&mut reactor, &args.addr, tls)?;
    tell(&mut reactor, socket);
    cli::on_signals(&mut reactor, |reactor, _, signal| {
        cli::warn(format_args!("{signal}: no new clients; again to end at once"));
        drain(reactor, cli::GRACE, |reactor, server: &mut Server, report| {
            cli::warn(report);
            server.end(reactor);
        });
        reactor.after(2 * cli::GRACE, |reactor, _| reactor.stop());
    })?;
    cli::say(format_args!("listening on {addr}"));
    cli::run(&mut reactor, &mut server)?;
    cli::warn(server.counts);
    match server.unsafe_messages() {
        0 => Ok(()),
        count => Err(format!("{count} messages were neither stored nor acknowledged")),
    }
}

fn read(path: &str) -> Vec<u8> {
    let refuse = |error| cli::bad_usage(format_args!("cannot read {path}: {error}"));
    fs::read(path).unwrap_or_else(refuse)
}

/// Listens for connections and datagrams, on one port.
fn listen(
    reactor: &mut Reactor<Server>,
    addr: &str,
    tls: Option<tls::Server>,
) -> Result<(std::net::SocketAddr, SourceId<udp::Socket>), String> {
    let mut tried = 0;
    loop {
        tried += 1;
        let tls = tls.clone();
        let listener = tcp::Listen::new()
            .limits(server::limits(cli::limits()))
            .keepalive(Some(cli::KEEPALIVE))
            .open(reactor, addr, move |reactor, server: &mut Server, stream| match &tls {
                None => server::serve(reactor, server, stream),
                Some(tls) => {
                    tls.accept(reactor, stream, |reactor, server, result| match result {
                        Ok(stream) => server::serve(reactor, server, stream),
                        Err(error) => cli::warn(format_args!("no handshake: {error}")),
                    });
                }
            })
            .map_err(cli::cannot("listen on"))?;
        let bound = reactor[listener].local_addr();
        let socket = udp::bind(reactor, bound, |reactor, server: &mut Server, _, event| {
            if let udp::Event::Received { bytes, .. } = event {
                server.datagram(reactor, bytes);
            }
        });
        match socket {
            Ok(socket) => return Ok((bound, socket)),
            Err(_) if addr.ends_with(":0") && tried < PORTS_TRIED => reactor.remove(listener),
            Err(error) => return Err(cli::cannot("listen on")(error)),
        };
    }
}

/// The file; its ids were seen.
fn disk(output: Option<&str>, seen: &mut Seen) -> Result<server::Disk, String> {
    let lines = match output {
        None => Lines::of(stdout().map_err(|error| error.to_string())?),
        Some(path) => {
            let (lines, torn) = Lines::open(Path::new(path), |line| keep::see(seen, line))
                .map_err(|error| format!("cannot open {path}: {error}"))?;
            if torn > 0 {
                cli::warn(format_args!("{path}: {torn} bytes of an unfinished write are cut off"));
            }
            lines
        }
    };
    let lines = Arc::new(Mutex::new(lines));
    Ok(Rc::new(move |reactor, batch, up_to| {
        // The batch stays here until a worker has taken it: there may be none.
        let (lines, batch) = (lines.clone(), Arc::new(Mutex::new(batch)));
        let given = batch.clone();
        let work = move || lock(&lines).append(mem::take(&mut *lock(&given)));
        reactor.offload(work, move |reactor, server: &mut Server, done| {
            let result = match done {
                Ok(result) => result.map_err(|(lines, error)| (lines, error.to_string())),
                Err(error) => Err((mem::take(&mut *lock(&batch)), error.to_string())),
            };
            server.written(reactor, up_to, result);
        });
    }))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn stdout() -> std::io::Result<fs::File> {
    use std::os::fd::AsFd;
    Ok(std::io::stdout().as_fd().try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn stdout() -> std::io::Result<fs::File> {
    use std::os::windows::io::AsHandle;
    Ok(std::io::stdout().as_handle().try_clone_to_owned()?.into())
}

fn next_at(addr: String) -> server::Dial {
    Rc::new(move |reactor| {
        let connect = tcp::Connect::new().timeout(CONNECT_TIMEOUT).keepalive(Some(cli::KEEPALIVE));
        let begun = connect.open(reactor, &addr, |reactor, server: &mut Server, result| {
            server.linked(reactor, result);
        });
        if let Err(error) = begun {
            reactor.defer(|reactor, server: &mut Server| server.linked(reactor, Err(error)));
        }
    })
}

/// Says what was odd, when there is something new; and what the kernel has dropped is counted.
fn tell(reactor: &mut Context<Server>, socket: SourceId<udp::Socket>) {
    let (mut kernel, mut told) = (0, server::Counts::default());
    reactor.every(TELL_EVERY, Missed::Skip, move |reactor, server: &mut Server, _| {
        let dropped = reactor[socket].dropped().unwrap_or(kernel);
        server.counts.dropped += dropped - kernel;
        kernel = dropped;
        let odd = server::Counts { taken: 0, ..server.counts };
        if odd != told {
            told = odd;
            cli::warn(server.counts);
        }
    });
}
