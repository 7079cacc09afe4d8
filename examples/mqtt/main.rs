//! MQTT: a broker. Clients publish messages to topics, and others get those that they asked for.
//!
//! Run:  cargo run --release --example mqtt
//! Then: mosquitto_sub -v -t 'house/#'                          in another terminal
//!       mosquitto_pub -t house/kitchen/light -m on -r -q 1
//!       curl -d off mqtt://127.0.0.1/house/kitchen/light
//!       mosquitto_sub -t nothing --will-topic house/alarm --will-payload gone     and kill -9 it
//! See:  each message, where it was asked for; who subscribes later gets the light at once, as it was
//!       retained (`-r`); of the client that was killed, its will.
//! Look: `topics.rs`: who gets a message is a walk down a tree, three ways at most from each node.
//!       And `session.rs`: what a client that does not listen costs.
//! Next: passwords, and who may publish where; `$SYS/…` topics that count; sessions that a restart
//!       keeps (`mq` has a log).

use waterwheel::Reactor;
use waterwheel::net::{Limits, tcp};

mod broker;
#[path = "../cli/mod.rs"]
mod cli;
mod memory;
mod protocol;
mod server;
mod session;
mod topics;

use broker::Broker;
use session::WhenFull;

const USAGE: &str = "\
Usage: mqtt [OPTIONS] [ADDR]

Serves MQTT 3.1.1: QoS 0, 1 and 2, retained messages, wills, sessions, in memory.
ADDR is 127.0.0.1:1883 unless given; a bare port means 127.0.0.1. No password:
listen where only friends can connect.

A packet has 1 MiB at most, a topic 64 levels, a client 1,000 filters. For a client
that is gone, does not read or does not acknowledge, 2 MiB of messages wait, and
100 of them, or 256 KiB, are sent and not acknowledged. There are 10,000 clients
and sessions at most; they, their filters, what is retained, and what waits have
32 MiB each. All clients together may have 16 MiB buffered; then the slowest reader
is closed.

Options:
  --when-full WHAT   when a client's 2 MiB are used up: drop-oldest, the message
                     that waits longest (unless given), or disconnect the client
  -h, --help         show this";

/// Unsent bytes of a client above which its messages wait in the queue instead. 64 KiB.
const UNSENT_BYTES_HIGH: usize = 64 * 1024;

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:1883", &["--when-full"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let mut broker = Broker::default();
    broker.room.when_full = match args.text("--when-full") {
        None | Some("drop-oldest") => WhenFull::DropOldest,
        Some("disconnect") => WhenFull::Disconnect,
        Some(other) => cli::bad_usage(format_args!(
            "--when-full wants drop-oldest or disconnect, not {other:?}"
        )),
    };
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let limits = Limits {
        outbox_bytes_high: UNSENT_BYTES_HIGH,
        outbox_bytes_low: UNSENT_BYTES_HIGH / 4,
        backlog_bytes_max: protocol::PACKET_BYTES_MAX + 64 * 1024,
        ..cli::limits()
    };
    let listener = tcp::Listen::new()
        .limits(limits)
        .keepalive(Some(cli::KEEPALIVE))
        .open(&mut reactor, &args.addr, server::serve)
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut broker)
}
