//! Socks: a SOCKS5 server (RFC 1928): it connects clients to the addresses that they name.
//!
//! Run:  cargo run --release --example socks
//! Then: curl --socks5-hostname 127.0.0.1:1080 http://example.com/
//!       (`--socks5` looks the name up itself and sends an address)
//! See:  the page; and here, a line for each connection that has ended.
//! Look: `serve`: a connection whose protocol changes. It leaves the loop as a `Conn`, waits as a
//!       `Stream` until the other side is there, and goes on as one end of a link.
//! Next: ask clients for a password (RFC 1929); refuse addresses of your own network; limit each
//!       client's rate (`Limits::read_rate`).

use std::io::{self, ErrorKind};
use std::time::Duration;

use waterwheel::net::{self, Conn, Event, Limits, LinkReport, Stream, tcp};
use waterwheel::{Context, Reactor, SourceId};

mod cli;
#[path = "socks/protocol.rs"]
mod protocol;

use protocol::{Code, Refused, greeting, refused, reply, request};

const USAGE: &str = "\
Usage: socks [OPTIONS] [ADDR]

Serves SOCKS5, without authentication: listen where only friends can connect. ADDR
is 127.0.0.1:1080 unless given; a bare port means 127.0.0.1. If either side has
vanished both are closed: TCP's keep-alive asks every 15 s. All clients together
may have 16 MiB buffered; then the slowest reader is closed.

Options:
  -h, --help       show this";

/// How long a client may take to name an address.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long looking up and connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long either side may read nothing while there is something for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:1080", &[]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let limits = Limits { read_timeout: Some(HANDSHAKE_TIMEOUT), ..cli::limits() };
    let listener = tcp::Listen::new()
        .limits(limits)
        .keepalive(Some(cli::KEEPALIVE))
        .open(&mut reactor, &args.addr, |reactor, _, client| {
            let mut greeted = false;
            client.open(reactor, move |reactor, _, conn, event| {
                if let Event::Data(bytes) = event
                    && let Err(refused) = serve(reactor, conn, &mut greeted, bytes)
                {
                    refuse(reactor, conn, refused);
                }
            });
        })
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut ())
}

/// Handles the bytes of a client so far; gives back those of an incomplete message.
fn serve(
    reactor: &mut Context<()>,
    id: SourceId<Conn>,
    greeted: &mut bool,
    mut input: &[u8],
) -> Result<(), Refused> {
    if !*greeted && let Some(((), used)) = greeting(input)? {
        *greeted = true;
        input = &input[used..];
        let _ = id.write(reactor, &protocol::WELCOME);
    }
    match if *greeted { request(input)? } else { None } {
        None => {
            id.unread(reactor, input.len());
        }
        Some((name, used)) => {
            if let Some(conn) = reactor.deregister(id) {
                connect(reactor, Stream::from(conn).unread(&input[used..]), name);
            }
        }
    }
    Ok(())
}

/// Connects to the address that the client names; the client waits outside of the loop meanwhile.
fn connect(reactor: &mut Context<()>, client: Stream, name: String) {
    let limits = Limits { write_timeout: Some(WRITE_TIMEOUT), ..Limits::default() };
    let mut client = client.limits(limits.clone());
    let to = name.clone();
    let connect = tcp::Connect::new().timeout(CONNECT_TIMEOUT).keepalive(Some(cli::KEEPALIVE));
    let begun = connect.open(reactor, &to, move |reactor, _, server| match server {
        Ok(server) => {
            let _ = client.write(&reply(Code::Succeeded));
            let done = move |_: &mut _, _: &mut _, report| tell(&name, &report);
            net::link(reactor, client, server.limits(limits), done);
        }
        Err(error) => {
            cli::say(format_args!("{name}: {error}"));
            let conn = client.open(reactor, |_, _, _, _| {});
            refuse(reactor, conn, refused(code(&error)));
        }
    });
    if let Err(error) = begun {
        cli::say(format_args!("{to}: {error}")); // The client is dropped, which closes it.
    }
}

fn code(error: &io::Error) -> Code {
    match error.kind() {
        ErrorKind::ConnectionRefused => Code::Refused,
        ErrorKind::NetworkUnreachable => Code::NetworkUnreachable,
        // The lookup found nothing, or nobody has answered in time.
        ErrorKind::HostUnreachable | ErrorKind::NotFound | ErrorKind::TimedOut => {
            Code::HostUnreachable
        }
        _ => Code::Failed,
    }
}

fn refuse(reactor: &mut Context<()>, conn: SourceId<Conn>, Refused(answer): Refused) {
    let _ = conn.write(reactor, &answer);
    conn.close(reactor);
}

fn tell(name: &str, LinkReport { a: client, b: server, duration, .. }: &LinkReport) {
    let ms = duration.as_millis();
    let (sent, got) = (client.bytes, server.bytes);
    cli::say(format_args!("{name}: {sent} bytes there, {got} back, {ms} ms"));
}
