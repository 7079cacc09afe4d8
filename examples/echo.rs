//! Echo: a client gets back everything that it sends.
//!
//! Run:  cargo run --release --example echo
//! Then: nc 127.0.0.1 7001        and type; or, for a megabyte:
//!       head -c 1000000 /dev/urandom > sent; nc -N 127.0.0.1 7001 < sent | cmp - sent
//! See:  each line come back. Any number of clients at once, on one thread.
//! Look: the `match` in `run`. There is no loop here: the reactor has it.
//! Next: count the bytes in the state, and print them now and then (`every`); greet each client;
//!       send whole lines back, each in reverse (`framed`, `Lines`).

use std::time::Duration;

use waterwheel::net::{Conn, Event, Limits, Pressure, tcp};
use waterwheel::{Context, Reactor, SourceId};

mod cli;

const USAGE: &str = "\
Usage: echo [OPTIONS] [ADDR]

Sends back whatever a client sends. ADDR is 127.0.0.1:7001 unless given; a bare
port means 127.0.0.1. All clients together may have 16 MiB buffered; then who
reads least is closed.

Options:
  --idle SECONDS   close clients that are silent for so long (default: never, as long
                   as they answer TCP's keep-alive, every 15 s)
  --spin MICROS    look for events this long before sleeping (default: 0)
  -h, --help       show this";

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:7001", &["--idle", "--spin"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let spin = Duration::from_micros(args.number("--spin").unwrap_or(0));
    let mut reactor = Reactor::builder().spin(spin).build().map_err(|error| error.to_string())?;
    let idle_timeout = args.number("--idle").map(Duration::from_secs);
    let limits = Limits { idle_timeout, ..cli::limits() };
    let listen = tcp::Listen::new().limits(limits).keepalive(Some(cli::KEEPALIVE));
    let listener = listen
        .open(&mut reactor, &args.addr, |reactor, _, incoming| {
            incoming.open(reactor, |reactor: &mut Context<()>, _, conn, event| match event {
                Event::Data(bytes) => echo(reactor, conn, bytes),
                Event::Drained => {
                    conn.resume(reactor);
                }
                Event::Eof => {}
                Event::Closed(why) => log::debug!("{conn:?}: {why}"),
            });
        })
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    let addr = reactor[listener].local_addr();
    cli::say(format_args!("listening on {addr}"));
    cli::run(&mut reactor, &mut ())
}

/// Sends bytes back. While a client does not read its echo, nothing is read from it.
fn echo(reactor: &mut Context<()>, conn: SourceId<Conn>, bytes: &[u8]) {
    match conn.write(reactor, bytes) {
        Pressure::Below => {}
        Pressure::AboveHigh => {
            conn.pause(reactor);
        }
        // The outbox takes 4 MiB and we stop at 256 KiB, so only a closed connection refuses.
        Pressure::Refused | Pressure::Closed => {}
    }
}
