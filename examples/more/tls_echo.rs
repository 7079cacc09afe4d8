//! TLS echo: the same as `echo`, over TLS.
//!
//! Run:  cargo run --release --features tls --example tls_echo -- --save localhost.pem
//! Then: openssl s_client -connect localhost:7443 -CAfile localhost.pem -quiet
//!       and type; or, to see the protocol that was agreed on, and the server's name:
//!       openssl s_client -connect localhost:7443 -CAfile localhost.pem -brief -alpn echo
//! See:  each line come back; and here, a line for each client: version, cipher, and if it resumes
//!       an earlier session; or why there was no handshake (`nc localhost 7443`, and type).
//! Look: `serve`: a handshake takes a stream and gives back another one. The rest is exactly as
//!       in `echo`.
//! Next: ask clients for a certificate (`tls::Server::require_clients`); show another one for
//!       another name (`host`); begin without TLS and let a line `STARTTLS` begin it
//!       (`vault` does).

use waterwheel::net::{Conn, Event, Limits, Pressure, Stream, tcp};
use waterwheel::protocols::tls;
use waterwheel::{Context, Reactor, SourceId};

mod certificate;
#[path = "../cli/mod.rs"]
mod cli;

const USAGE: &str = "\
Usage: tls_echo [OPTIONS] [ADDR]

Sends back over TLS whatever a client sends. ADDR is 127.0.0.1:7443 unless given;
a bare port means 127.0.0.1. Without a certificate it makes one for localhost that
is good until it ends. A client that has vanished is closed: TCP's keep-alive asks
every 15 s. All clients together may have 16 MiB buffered; then the slowest reader is
closed.

Options:
  --cert FILE      the certificate and those that certify it, as PEM
  --key FILE       its private key, as PEM
  --save FILE      write the certificate that was made, for clients to trust
  -h, --help       show this";

/// Bytes of one client that are decrypted, and encrypted again, before the next one has its turn.
/// 2 KiB: encryption costs more than a copy, and the usual 256 KiB are right for copies.
const READ_BYTES_PER_TURN: usize = 2 * 1024;

/// Clients that are accepted in one turn: each costs a handshake. 8.
const ACCEPTS_PER_TURN: usize = 8;

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:7443", &certificate::OPTIONS);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let server = certificate::server(args)?.alpn(["echo"]);
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let listener = tcp::Listen::new()
        .limits(Limits { read_bytes_per_turn: READ_BYTES_PER_TURN, ..cli::limits() })
        .keepalive(Some(cli::KEEPALIVE))
        .accepts_per_turn(ACCEPTS_PER_TURN)
        .open(&mut reactor, args.addr.as_str(), move |reactor, _, incoming| {
            serve(reactor, &server, incoming);
        })
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut ())
}

/// Does the handshake, then echoes.
fn serve(reactor: &mut Context<()>, server: &tls::Server, incoming: Stream) {
    let peer = incoming.peer().map_or("?".into(), |peer| peer.to_string());
    server.accept(reactor, incoming, move |reactor, _, result| match result {
        Ok(stream) => {
            cli::say(format_args!("{peer}: {}", agreed(&stream)));
            stream.open(reactor, |reactor, _, conn, event| match event {
                Event::Data(bytes) => echo(reactor, conn, bytes),
                Event::Drained => {
                    conn.resume(reactor);
                }
                Event::Eof => {}
                Event::Closed(why) => log::debug!("{conn:?}: {why}"),
            });
        }
        Err(error) => cli::say(format_args!("{peer}: no handshake: {error}")),
    });
}

/// Sends bytes back. While a client does not read its echo, nothing is read from it.
fn echo(reactor: &mut Context<()>, conn: SourceId<Conn>, bytes: &[u8]) {
    if conn.write(reactor, bytes) == Pressure::AboveHigh {
        conn.pause(reactor);
    }
}

fn agreed(stream: &Stream) -> String {
    let Some(tls) = stream.tls() else { return "in the clear".into() };
    let resumed = if tls.is_resumed() { ", resumed" } else { "" };
    format!("{} {}{resumed}", tls.version(), tls.cipher_suite())
}
