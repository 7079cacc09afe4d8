//! Redis: a server that Redis's clients take for one. One thread is the lock.
//!
//! Run:  cargo run --release --example redis
//! Then: redis-cli                     SET greeting hello, GET greeting, BLPOP queue 0
//!       redis-cli LPUSH queue one     in another terminal
//!       redis-benchmark -q -n 100000
//! See:  each answer; the BLPOP that waited gets its element when somebody pushes one.
//! Look: `db.rs`: no lock, no atomic, no transaction log. A callback runs to its end before the
//!       next begins, so commands of a thousand clients are done one after the other, each as a
//!       whole. MULTI needs no more than a list of requests, and WATCH no more than a counter.
//! Next: ask for a password (AUTH); keep the keys that were used last when memory is short; append
//!       each change to a file as it happens (`mq` does).

use std::path::PathBuf;

use waterwheel::Reactor;
use waterwheel::net::{Limits, tcp};

mod channels;
#[path = "../cli/mod.rs"]
mod cli;
mod collections;
mod commands;
mod db;
#[path = "../resp/mod.rs"]
mod resp;
mod server;
mod session;
mod snapshot;
mod sorted;
mod waiting;

use server::{Server, UNREAD_BYTES_MAX};

const USAGE: &str = "\
Usage: redis [OPTIONS] [ADDR]

Serves Redis's protocol (RESP2 and RESP3): strings, lists, hashes, sets, sorted
sets, expiry, transactions, channels. ADDR is 127.0.0.1:6379 unless given; a bare
port means 127.0.0.1. No password: listen where only friends can connect.

Values may need 64 MiB; then what would need more is refused, as Redis does. A
string has 8 MiB at most, and so has a reply. A client that does not read its
replies is not read either; a subscriber that leaves 4 MiB unread is closed. Each
may keep 1 MiB in the server: a transaction, watched keys, channels. All clients
together may have 16 MiB buffered; then the slowest reader is closed.

Options:
  --memory MIB     what values may need
  --file FILE      load it at the start; SAVE, and the end of the server, write it
  -h, --help       show this";

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:6379", &["--memory", "--file"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let mut server = Server::default();
    server.file = args.text("--file").map(PathBuf::from);
    if let Some(file) = server.file.clone() {
        snapshot::load(&mut server, &file)?;
        cli::say(format_args!("{} keys from {}", server.db.len(), file.display()));
    }
    if let Some(mib) = args.number("--memory") {
        server.memory_bytes = (mib as usize).saturating_mul(1024 * 1024);
    }
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let limits = Limits {
        outbox_bytes_max: UNREAD_BYTES_MAX,
        backlog_bytes_max: resp::STRING_BYTES_MAX + 64 * 1024,
        ..cli::limits()
    };
    let listener = tcp::Listen::new()
        .limits(limits)
        .keepalive(Some(cli::KEEPALIVE))
        .open(&mut reactor, &args.addr, session::serve)
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut server)?;
    match &server.file {
        Some(file) => snapshot::write(file, &snapshot::of(&server.db))
            .map_err(|error| format!("cannot save {}: {error}", file.display())),
        None => Ok(()),
    }
}
