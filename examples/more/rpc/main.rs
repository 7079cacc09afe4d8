//! RPC: calls of JSON-RPC 2.0, answered in any order, since each has an id; and both ends may call.
//!
//! Run:  cargo run --release --features http --example rpc
//! Then: nc 127.0.0.1 4040       and type, each on a line:
//!       {"jsonrpc":"2.0","id":1,"method":"sleep","params":[5000]}
//!       {"jsonrpc":"2.0","id":2,"method":"add","params":[1,2]}
//!       {"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}
//!       {"jsonrpc":"2.0","id":3,"method":"ask","params":["Go on?"]}
//!       {"jsonrpc":"2.0","id":4,"result":true}     with the id of the `confirm` that you got
//!       curl 127.0.0.1:4040 -d '[{"jsonrpc":"2.0","id":1,"method":"hash","params":["a",9]}]'
//! See:  the answer to 2 before that to 1; an editor's client (vscode-jsonrpc) at the same port, with
//!       `Content-Length` in front of each message.
//! Look: `Session::end`. A call that waits is an entry in a map, by its number, and a result comes
//!       with that number: from a timer, a worker, the client. If the entry has gone, nobody waits.
//! Next: `$/progress` while a hash is made; calls of one client in the order in which they came;
//!       WebSocket (`wschat` has the handshake), each message a frame.

use std::time::Duration;

use waterwheel::net::{Conn, Event, Limits, Lines, Stream, tcp};
use waterwheel::protocols::http::{self, Method, StatusCode};
use waterwheel::{Context, Reactor, SourceId};

#[path = "../../cli/mod.rs"]
mod cli;
mod methods;
mod protocol;
mod session;

use protocol::{Framing, Headers, MESSAGE_BYTES_MAX};
use session::Server;

const USAGE: &str = "\
Usage: rpc [OPTIONS] [ADDR]

Answers calls of JSON-RPC 2.0: echo; add [A, B]; sleep [MS]; hash [TEXT, ROUNDS], on
a worker; ask [QUESTION], which calls `confirm` of the client. $/cancelRequest ends
one. ADDR is 127.0.0.1:4040 unless given; a bare port means 127.0.0.1. The first
bytes of a connection show its framing: lines, headers (Content-Length), or http.

A message has 64 KiB at most, a batch 100 calls, and a client 100 that are still to be
answered. Who sends 100 messages in a row that are no JSON is closed. Who does not
read its answers is not read; all clients together may have 16 MiB buffered, then
the slowest reader is closed.

Options:
  --framing NAME     lines, headers or http, and no other
  --timeout SECONDS  how long a call may take [30]
  -h, --help         show this";

/// Bytes of a client that are read in one turn, and of answers that it may leave unread and still be
/// read. An answer costs microseconds, and may be forty times as long as its question: a thousand
/// clients that send nonsense as fast as they can must not make a turn of many seconds.
const READ_BYTES_PER_TURN: usize = 16 * 1024;
const ANSWERS_BYTES: usize = 4 * 1024;
/// How long a client may take nothing of its answers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

fn main() {
    let args = cli::parse(USAGE, "127.0.0.1:4040", &["--framing", "--timeout"]);
    cli::exit_on_error(run(&args));
}

fn run(args: &cli::Args) -> Result<(), String> {
    cli::raise_open_files();
    let framing = args.text("--framing").map(|name| match name {
        "lines" => Framing::Lines,
        "headers" => Framing::Headers,
        "http" => Framing::Http,
        _ => cli::bad_usage(format_args!("--framing wants lines, headers or http, not {name:?}")),
    });
    let timeout = Duration::from_secs(args.number("--timeout").unwrap_or(30));
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let limits = Limits {
        outbox_bytes_high: ANSWERS_BYTES,
        outbox_bytes_low: ANSWERS_BYTES / 4,
        read_bytes_per_turn: READ_BYTES_PER_TURN,
        write_timeout: Some(WRITE_TIMEOUT),
        ..cli::limits()
    };
    let posts = posts();
    let listener = tcp::Listen::new()
        .limits(limits)
        .keepalive(Some(cli::KEEPALIVE))
        .open(&mut reactor, &args.addr, move |reactor, _, stream| {
            accept(reactor, stream, framing, &posts);
        })
        .map_err(cli::cannot("listen on"))?;
    cli::end_on_signals(&mut reactor, cli::GRACE)?;
    cli::say(format_args!("listening on {}", reactor[listener].local_addr()));
    cli::run(&mut reactor, &mut Server { timeout })
}

/// HTTP: a POST to any path.
fn posts() -> http::Server<Server> {
    let limits = http::Limits { body_bytes_max: MESSAGE_BYTES_MAX, ..http::Limits::default() };
    let server = http::Server::new(|reactor, server, request, reply| match *request.method() {
        Method::POST => session::post(reactor, server, request.body(), reply),
        _ => drop(reply.send(reactor, StatusCode::METHOD_NOT_ALLOWED)),
    });
    server.limits(limits)
}

/// Waits for the first bytes, unless the framing is known.
fn accept(
    reactor: &mut Context<Server>,
    stream: Stream,
    framing: Option<Framing>,
    posts: &http::Server<Server>,
) {
    if let Some(framing) = framing {
        return serve(reactor, stream, framing, posts);
    }
    let posts = posts.clone();
    stream.open(reactor, move |reactor, _, conn: SourceId<Conn>, event| {
        let Event::Data(input) = event else { return };
        match protocol::detect(input) {
            None => drop(conn.unread(reactor, input.len())),
            Some(framing) => {
                let Some(conn) = reactor.deregister(conn) else { return };
                serve(reactor, Stream::from(conn).unread(input), framing, &posts);
            }
        }
    });
}

fn serve(
    reactor: &mut Context<Server>,
    stream: Stream,
    framing: Framing,
    posts: &http::Server<Server>,
) {
    match framing {
        Framing::Lines => {
            let [lines, answers] = [MESSAGE_BYTES_MAX, usize::MAX].map(Lines::new);
            session::serve(reactor, stream, lines, answers);
        }
        Framing::Headers => {
            session::serve(reactor, stream, Headers::default(), Headers::default());
        }
        Framing::Http => drop(posts.serve(reactor, stream)),
    }
}
