//! Embed: our loop inside another program's loop.
//!
//! Run:  cargo run --release --example embed
//! Then: nc 127.0.0.1 7001        type there: it echoes; and type in the server's own terminal
//! See:  what you type at the server arrives at every client; `remind 3000` prints a line three
//!       seconds later; `quit` or Ctrl-D ends it. On one thread, and neither loop blocks the other.
//! Look: `host`. The loop there belongs to poll(2); ours is one descriptor and one deadline in it.
//! Next: the same under a GUI's or a game's loop; a third descriptor that only the host knows.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use waterwheel::net::{Conn, Event, Pressure, tcp};
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: embed [OPTIONS] [ADDR]

Sends back whatever a client sends, from inside a loop of poll(2) that reads
stdin. ADDR is 127.0.0.1:7001 unless given; a bare port means 127.0.0.1. A client
that has vanished is closed: TCP's keep-alive asks every 15 s. All clients
together may have 16 MiB buffered; then the slowest reader is closed.

On stdin:
  remind MS       print a line MS milliseconds later
  quit            end, as the end of stdin does
  anything else   is sent to all clients

Options:
  -h, --help      show this";

type Clients = Vec<SourceId<Conn>>;

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:7001", &[]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let listener = tcp::Listen::new()
        .limits(cli::limits())
        .keepalive(Some(cli::KEEPALIVE))
        .open(&mut reactor, &args.addr, |reactor, clients: &mut Clients, incoming| {
            clients.push(incoming.open(reactor, serve));
        })
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    let addr = reactor[listener].local_addr();
    cli::say(format_args!("listening on {addr}"));
    host(&mut reactor).map_err(|error| error.to_string())
}

/// The host's loop: it waits for stdin and for the reactor, and no longer than the reactor allows.
fn host(reactor: &mut Reactor<Clients>) -> io::Result<()> {
    let mut clients = Clients::new();
    let stdin = io::stdin();
    let mut typed = Vec::new();
    loop {
        let wait = reactor.next_wait().map_or(PollTimeout::NONE, cli::whole_ms);
        let mut watched =
            [stdin.as_fd(), reactor.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut watched, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_typing = watched[0].any() != Some(false);
        reactor.turn(&mut clients, Some(Duration::ZERO))?;
        if reactor.take_stop() {
            return Ok(()); // By a signal, and all clients have gone.
        }
        if is_typing && !read_lines(reactor, &clients, &mut typed)? {
            reactor.turn(&mut clients, Some(Duration::ZERO))?; // Hands what is unsent to the kernel.
            return Ok(());
        }
    }
}

/// Reads the typed bytes, once, so that it does not wait for more; false at the end. Not with
/// `BufRead`: it might keep a second line in its buffer, and poll(2) would never report that.
fn read_lines(
    reactor: &mut Reactor<Clients>,
    clients: &Clients,
    typed: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let count = match nix::unistd::read(io::stdin(), &mut buffer) {
        Ok(0) => return Ok(false),
        Ok(count) => count,
        Err(Errno::EINTR | Errno::EAGAIN) => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    typed.extend_from_slice(&buffer[..count]);
    while let Some(end) = typed.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = typed.drain(..=end).collect();
        if !obey(reactor, clients, &String::from_utf8_lossy(&line)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Carries out a line; false to end. The host may use the reactor as a callback does.
fn obey(reactor: &mut Reactor<Clients>, clients: &Clients, line: &str) -> bool {
    match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "")) {
        ("quit", "") => return false,
        ("remind", ms) => match ms.parse() {
            Ok(ms) => {
                reactor.after(Duration::from_millis(ms), move |_, _| {
                    cli::say(format_args!("{ms} ms are over"));
                });
            }
            Err(_) => cli::say("remind wants a whole number of milliseconds"),
        },
        _ => {
            for client in clients {
                let _ = client.write(reactor, line.as_bytes()); // A slow client may miss it.
            }
        }
    }
    true
}

/// Every client's handler: an echo, as in `echo.rs`.
fn serve(
    reactor: &mut Context<Clients>,
    clients: &mut Clients,
    conn: SourceId<Conn>,
    event: Event<'_>,
) {
    match event {
        Event::Data(bytes) => {
            if conn.write(reactor, bytes) == Pressure::AboveHigh {
                conn.pause(reactor);
            }
        }
        Event::Drained => {
            conn.resume(reactor);
        }
        Event::Eof => {}
        Event::Closed(_) => clients.retain(|client| *client != conn),
    }
}
