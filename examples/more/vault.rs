//! Vault: keeps values by name, over a protocol of its own that the library knows nothing of.
//!
//! Run:  cargo run --release --features tls --example vault -- --save localhost.pem
//! Then: the same program as a client, with a value on its stdin:
//!       cargo run … --example vault -- --ca localhost.pem --put greeting localhost:7448 < README.md
//!       and `--get greeting`, which prints it
//! See:  the digest of the value, then the value; Ctrl-C at the server while a client reads slowly
//!       (`--get greeting | less`, with a large one): it waits up to 5 s until all is sent.
//! Look: `Session`: an answer that has to wait, for a worker or for the peer to read; until then
//!       the next request stays unread. `upgrade`, `hand_over`: the connection gets another handler
//!       in the middle of its input, and no byte is lost.
//! Next: a request that lists the names; one that deletes; let Put begin with the length of the
//!       value, and refuse it before it is sent.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::net::{Codec, Conn, Event, Limits, Lines, Stream, tcp};
use waterwheel::protocols::tls;
use waterwheel::{Context, Reactor, SourceId};

mod certificate;
#[path = "../cli/mod.rs"]
mod cli;
#[path = "vault/client.rs"]
mod client;
#[path = "vault/session.rs"]
mod session;
#[path = "vault/wire.rs"]
mod wire;

const USAGE: &str = "\
Usage: vault [OPTIONS] [ADDR]

Keeps values by name, up to 8 MiB each and 64 MiB together, until it ends; clients
speak frames over TLS. With --get or --put it is a client. ADDR is 127.0.0.1:7448
unless given; a bare port means 127.0.0.1. Without a certificate the server makes
one for localhost that is good until it ends. A client that reads nothing for 60 s,
though there is something for it, is closed; so is one that has vanished: TCP's
keep-alive asks every 15 s. All clients together may have 16 MiB buffered; then who
has most is closed.

Options:
  --get NAME       print a value
  --put NAME       keep what is on stdin, and print its digest
  --ca FILE        the certificate to trust, of a client, as PEM
  --cert FILE      the certificate and those that certify it, as PEM
  --key FILE       its private key, as PEM
  --save FILE      write the certificate that was made, for clients to trust
  -h, --help       show this";

/// The most bytes that all values take together, with the map's own for each. 64 MiB.
const BYTES_MAX: usize = 64 * 1024 * 1024;
const ENTRY_BYTES: usize = 128;
/// How long a client may read nothing while there is something for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of one client that are decrypted before the next one has its turn. 16 KiB.
const READ_BYTES_PER_TURN: usize = 16 * 1024;
/// Clients that are accepted in one turn: each costs a handshake. 8.
const ACCEPTS_PER_TURN: usize = 8;

fn main() {
    let options = [&["--get", "--put", "--ca"], &certificate::OPTIONS[..]].concat();
    let args = cli::parse(USAGE, "127.0.0.1:7448", &options);
    let is_client = args.text("--get").or(args.text("--put")).is_some();
    cli::exit_on_error(if is_client { client::run(&args) } else { run(&args) });
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let server = certificate::server(args)?.alpn(["vault"]);
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let limits = Limits {
        outbox_bytes_high: 64 * 1024,
        outbox_bytes_low: 16 * 1024,
        outbox_bytes_max: 256 * 1024,
        read_bytes_per_turn: READ_BYTES_PER_TURN,
        write_timeout: Some(WRITE_TIMEOUT),
        ..cli::limits()
    };
    let listener = tcp::Listen::new()
        .limits(limits)
        .keepalive(Some(cli::KEEPALIVE))
        .accepts_per_turn(ACCEPTS_PER_TURN)
        .open(&mut reactor, args.addr.as_str(), move |reactor, _, incoming| {
            let (server, mut lines) = (server.clone(), Lines::new(wire::LINE_BYTES_MAX));
            incoming.open(reactor, move |reactor, _, conn, event| {
                if let Event::Data(input) = event {
                    upgrade(reactor, conn, &server, &mut lines, input);
                }
            });
        })
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut Vault::default())
}

/// Without TLS the client may send one line. The bytes behind it are the client's half of the
/// handshake, and nothing else: bytes that an attacker has put there do not become a request.
fn upgrade(
    reactor: &mut Context<Vault>,
    id: SourceId<Conn>,
    server: &tls::Server,
    lines: &mut Lines,
    input: &[u8],
) {
    let behind = match lines.decode(input) {
        Ok(Some(line)) if &input[line.payload.clone()] == wire::UPGRADE => &input[line.consumed..],
        Ok(None) => {
            id.unread(reactor, input.len());
            return;
        }
        Ok(Some(_)) | Err(_) => {
            let _ = id.write(reactor, b"error: the first line is TLS\n");
            id.close(reactor);
            return;
        }
    };
    let _ = id.write(reactor, &[wire::GO_AHEAD, b"\n"].concat());
    let Some(conn) = reactor.deregister(id) else { return };
    let stream = Stream::from(conn).unread(behind);
    server.accept(reactor, stream, |reactor, _, result| match result {
        Ok(stream) => session::open(reactor, stream),
        Err(error) => cli::say(format_args!("no handshake: {error}")),
    });
}

#[derive(Default)]
struct Vault {
    values: HashMap<String, Rc<Vec<u8>>>,
    /// The bytes that they take, together with those that a worker has.
    bytes: usize,
}

impl Vault {
    /// Takes room for a value, in addition to an older one of that name until that is replaced.
    fn reserve(&mut self, name: &str, value: &[u8]) -> Result<(), String> {
        let bytes = cost(name, value);
        if self.bytes + bytes > BYTES_MAX {
            return Err("the vault is full".into());
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives that room back.
    fn release(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// Keeps a value for which room was taken.
    fn keep(&mut self, name: String, value: Vec<u8>) {
        if let Some(old) = self.values.get(&name) {
            self.bytes -= cost(&name, old);
        }
        self.values.insert(name, Rc::new(value));
    }
}

fn cost(name: &str, value: &[u8]) -> usize {
    ENTRY_BYTES + name.len() + value.len()
}
